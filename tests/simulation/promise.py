"""What is true, and what must be: the ground truth of one simulated run, and the invariants that are held against it.

The truth is the database's own history and what was *reported live*; nothing here asks the code under test what it
thinks. Every row that a page shows has a number that no other change of the run has, so that an answer says which
change it is from. Invariants by their names (docs/freshness.md):

* `promise`: nothing older than what was live when the request was sent is presented as current;
* `floors`: nothing below a hard purge that the worker had applied when the request arrived, however it is marked;
* `soft`: what a soft purge named is shown only as stale;
* `ghosts`: nothing of a lost tail once the worker has applied the record of the epoch that lost it;
* `label`: a stored response is what the database said at its position;
* `evidence`: at a report of live, whoever holds a lease has applied the change, and what the report says of each
  worker is so; `acknowledged`: the registry never says more than the worker has applied;
* `monotone`: what a worker has applied, and its floors, never fall but by the record of an epoch;
* `lease`: it never outlasts the sending of a question by more than L;
* `survives`: what was reported live, or committed to survive, is in the history after a promotion;
* `answered`: nothing waits for ever.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from cache_policies.positions import ZERO, Position, PurgeKind
from tests.simulation.coverage import Coverage

Shown = tuple[tuple[str, int], ...]
"""What an answer shows: rows and their numbers."""


class Invariant(StrEnum):
    PROMISE = "promise"
    FLOORS = "floors"
    SOFT = "soft"
    GHOSTS = "ghosts"
    LABEL = "label"
    EVIDENCE = "evidence"
    ACKNOWLEDGED = "acknowledged"
    MONOTONE = "monotone"
    LEASE = "lease"
    SURVIVES = "survives"
    ANSWERED = "answered"


@dataclass(frozen=True, slots=True)
class Violation:
    """An invariant that did not hold: what was seen, at which second of the run, and about which row or worker."""

    invariant: Invariant
    at: float
    text: str
    about: tuple[str, ...]
    """Names that a reader of the story looks for: a row, a worker, a position."""


@dataclass(slots=True)
class Change:
    """One value of one row."""

    number: int
    row: str
    kind: PurgeKind
    survives: bool = False
    """Whether its transaction was to survive a promotion."""
    confirmed: bool = False
    """Whether whoever made it was told that it is committed."""
    position: Position | None = None
    """Once it is committed."""
    live_at: float | None = None
    lost_by: int | None = None
    """The epoch whose promotion lost it."""


class Row:
    """Everything that one row has been, in the history that counts now."""

    __slots__ = ("changes", "first_report", "kind", "name", "newest", "positions", "reports", "tops")

    def __init__(self, name: str, kind: PurgeKind) -> None:
        self.name = name
        self.kind = kind
        self.newest = -1
        """The number that it has now."""
        self.positions: list[Position] = []
        self.changes: list[Change] = []
        """Both in the order of positions, without what was lost."""
        self.reports: list[int] = []
        """Of each report of live about this row, which report of the run it was."""
        self.tops: list[Position] = []
        """The highest position reported so far, at each of them."""
        self.first_report = 1 << 62

    def add(self, change: Change) -> None:
        assert change.position is not None
        self.positions.append(change.position)
        self.changes.append(change)
        self.newest = change.number

    def live_before(self, report: int) -> Position | None:
        """The highest position of this row that had been reported live before the report of that number."""
        found = bisect_right(self.reports, report - 1)
        return self.tops[found - 1] if found else None

    def at(self, position: Position) -> Change | None:
        """The change that a snapshot at `position` shows."""
        found = bisect_right(self.positions, position)
        return self.changes[found - 1] if found else None

    def forget_after(self, cv: int) -> list[Change]:
        """Take back what is beyond `cv`, which is returned: numbers grow along a history, whatever its epochs."""
        kept = len(self.changes)
        while kept and self.positions[kept - 1].cv > cv:
            kept -= 1
        lost = self.changes[kept:]
        del self.changes[kept:], self.positions[kept:]
        self.newest = self.changes[-1].number if self.changes else -1
        return lost


@dataclass(slots=True)
class Asked:
    """One request as its viewer sent it."""

    worker: str
    about: str
    sent_at: float
    reports: int
    """How many reports of live there had been."""
    applied: Position
    """What the worker had applied when it arrived."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What one edge worker is, for the checks of evidence. `leased`: whether its lease is held at this moment."""

    name: str
    alive: bool
    leased: bool
    applied: Position
    """The highest that it has ever applied, in the order of positions."""


MARKED = "stale-marked"
STALE = frozenset({"purged-soft", "stale-while-revalidate", "stale-if-error", "stale-if-unreachable", MARKED})
"""Details of Cache-Status by which an answer says that it is not current."""


@dataclass(slots=True)
class _Counts:
    served: int = 0
    """Answers that show rows."""
    checked: int = 0
    """Of these, answers about something that had been reported live before they were asked for."""


class Promise:
    """The truth of one run. `clock` gives the seconds of the run; `on_violation` is called at each violation.

    `catch_up` has what the database has written since, and is called before anybody is accused.
    """

    def __init__(
        self,
        coverage: Coverage,
        clock: Callable[[], float],
        on_violation: Callable[[Violation], None],
        catch_up: Callable[[], None] = lambda: None,
    ) -> None:
        self.coverage = coverage
        self._catch_up = catch_up
        self.rows: dict[str, Row] = {}
        self.changes: dict[int, Change] = {}
        self.by_position: dict[Position, list[Change]] = {}
        self.reports = 0
        """Reports of live so far."""
        self.epoch = 1
        self.lost = 0
        """Changes that promotions lost."""
        self.counts = _Counts()
        self.violations: list[Violation] = []
        self._clock = clock
        self._on_violation = on_violation

    def violated(self, invariant: Invariant, text: str, *about: str) -> None:
        found = Violation(invariant, self._clock(), text, about)
        self.violations.append(found)
        self._on_violation(found)

    # -- the truth -----------------------------------------------------------------------------------------------------

    def begins_with(self, row: str, kind: PurgeKind, number: int, position: Position) -> None:
        """A row as the first page may show it."""
        self.rows[row] = Row(row, kind)
        change = Change(number, row, kind, confirmed=True, position=position)
        self.changes[number] = change
        self.rows[row].add(change)

    def wanted(self, row: str, number: int, *, survives: bool) -> Change:
        """Somebody is about to write `number` into `row`."""
        change = self.changes[number] = Change(number, row, self.rows[row].kind, survives)
        return change

    def committed(self, position: Position, writes: Iterable[tuple[str, int]]) -> None:
        """A database has written a commit of `writes` at `position` into its log: from here on a snapshot may show
        them. One that was replaced, and does not know it yet, writes what is lost already."""
        for name, number in writes:
            change = self.changes[number]
            change.position = position
            self.by_position.setdefault(position, []).append(change)
            if position.epoch < self.epoch:
                change.lost_by = self.epoch
                self.lost += 1
            else:
                self.rows[name].add(change)

    def promoted(self, epoch: int, fork_cv: int) -> None:
        """The history of `epoch` begins after `fork_cv`: what those before had committed beyond it is lost."""
        self.epoch = epoch
        for row in self.rows.values():
            for change in row.forget_after(fork_cv):
                change.lost_by = epoch
                self.lost += 1
                for held, how in ((change.live_at is not None, "live"), (change.survives and change.confirmed, "safe")):
                    if held:
                        self.violated(
                            Invariant.SURVIVES,
                            f"{row.name}={change.number} at {change.position} was reported {how}, and epoch {epoch}, "
                            f"which begins after {fork_cv}, has lost it",
                            row.name,
                            str(change.position),
                        )
            kept = [change for change in row.changes if change.live_at is not None or change.survives]
            self.coverage.checked(Invariant.SURVIVES, len(kept))

    def crashed_before(self, position: Position) -> None:
        """What had been written at `position` and beyond was not on the disk when its server died, and nobody has seen
        it: those positions are given out anew."""
        for row in self.rows.values():
            for change in row.forget_after(position.cv - 1):
                self.by_position.pop(change.position or ZERO, None)
                change.position = None

    def reported_live(self, position: Position, workers: Sequence[Standing], *, floors_of: FloorsOf) -> None:
        """Somebody was told that the change at `position` is live."""
        self._catch_up()
        changes = self.by_position.get(position, ())
        if not changes:
            return
        self.reports += 1
        for worker in workers:
            if not worker.leased:
                continue
            self.coverage.checked(Invariant.EVIDENCE)
            if worker.applied < position:
                self.violated(
                    Invariant.EVIDENCE,
                    f"{position} was reported live while {worker.name} holds a lease and has applied {worker.applied}",
                    worker.name,
                    str(position),
                )
            elif not floors_of(worker.name, position):
                self.violated(
                    Invariant.EVIDENCE,
                    f"{position} was reported live while the floors of {worker.name} let older responses pass",
                    worker.name,
                    str(position),
                )
        for change in changes:
            if change.live_at is None:
                change.live_at = self._clock()
            row = self.rows[change.row]
            row.reports.append(self.reports)
            row.tops.append(max(position, row.tops[-1] if row.tops else ZERO))
            row.first_report = min(row.first_report, self.reports)
            if change.lost_by is not None:
                self.violated(
                    Invariant.SURVIVES,
                    f"{change.row}={change.number} at {position} was reported live after the promotion to epoch "
                    f"{change.lost_by} had lost it",
                    change.row,
                    str(position),
                )

    # -- what viewers see ----------------------------------------------------------------------------------------------

    def served(self, asked: Asked, shown: Shown, detail: Callable[[], str]) -> None:
        """A viewer was answered. `detail`: the detail of Cache-Status, empty for what is presented as current."""
        rows = self.rows
        counts = self.counts
        counts.served += 1
        checked = False
        for name, number in shown:
            row = rows[name]
            if row.first_report <= asked.reports:
                checked = True
            if number != row.newest:
                self._older(asked, row, number, detail)
        counts.checked += checked
        if self.lost and asked.applied.epoch > 1:
            self.coverage.checked(Invariant.GHOSTS)

    def _older(self, asked: Asked, row: Row, number: int, detail: Callable[[], str]) -> None:
        """An answer that does not show what the row is now: was it allowed to?"""
        self._catch_up()
        if number == row.newest:
            return
        change = self.changes.get(number)
        said = f"{asked.worker} answered {asked.about}, asked at {asked.sent_at:.4f}, with {row.name}={number}"
        about = (row.name, asked.worker)
        if change is None or change.position is None:
            self.violated(Invariant.PROMISE, f"{said}, which was never committed", *about)
            return
        position, hard = change.position, row.kind is PurgeKind.HARD
        said += f" of {position}"
        if change.lost_by is not None and asked.applied.epoch >= change.lost_by:
            self.violated(
                Invariant.GHOSTS,
                f"{said}, which the promotion to epoch {change.lost_by} lost; it had applied {asked.applied}",
                *about,
            )
        live = row.live_before(asked.reports + 1)
        if live is not None:
            invariant = Invariant.PROMISE if hard else Invariant.SOFT
            self.coverage.checked(invariant)
            if position < live and (detail() != MARKED if hard else detail() not in STALE):
                self.violated(
                    invariant,
                    f"{said}, presented as current ({detail() or 'fresh'}), though {live} had been reported live",
                    *about,
                    str(live),
                )
        known = row.at(asked.applied)
        if known is None or known.position is None:
            return
        invariant = Invariant.FLOORS if hard else Invariant.SOFT
        self.coverage.checked(invariant)
        if position < known.position and (hard or detail() not in STALE):
            self.violated(
                invariant,
                f"{said} ({detail() or 'fresh'}), though it had applied {asked.applied}, and with it {known.position}",
                *about,
                str(known.position),
            )

    def stored(self, worker: str, shown: Shown, position: Position) -> None:
        """A worker has stored an answer with the label `position`."""
        self._catch_up()
        for name, number in shown:
            change = self.changes.get(number)
            if change is None or change.position is None:
                self.violated(Invariant.LABEL, f"{worker} stored {name}={number}, never committed", name, worker)
                continue
            if change.lost_by is not None or position.epoch != self.epoch:
                # Of a history that has ended: what was true at that position is not known any more.
                continue
            self.coverage.checked(Invariant.LABEL)
            true = self.rows[name].at(position)
            if true is None or true.number != number:
                found = "nothing" if true is None else f"{name}={true.number}"
                self.violated(
                    Invariant.LABEL,
                    f"{worker} stored {name}={number} of {change.position} labelled {position}, where the database had "
                    f"{found}",
                    name,
                    worker,
                    str(position),
                )

    # -- what workers do -----------------------------------------------------------------------------------------------

    def acknowledged(self, worker: str, said: Position, applied: Position) -> None:
        """The registry holds that `worker` has applied `said`; it has `applied` at the most."""
        self.coverage.checked(Invariant.ACKNOWLEDGED)
        if said > applied:
            self.violated(
                Invariant.ACKNOWLEDGED,
                f"the registry says that {worker} has applied {said}; it has applied {applied}",
                worker,
                str(said),
            )

    def moved(self, worker: str, before: Position, after: Position, *, forked: bool) -> None:
        """A worker has applied an answer. `forked`: with the record of an epoch, which may take it back to the fork."""
        self.coverage.checked(Invariant.MONOTONE)
        if after < before and not forked:
            self.violated(Invariant.MONOTONE, f"{worker} went back from {before} to {after}", worker)

    def floor_fell(self, worker: str, tag: str, before: Position, after: Position) -> None:
        """A floor fell without the record of an epoch."""
        self.violated(Invariant.MONOTONE, f"{worker} lowered its floor of {tag} from {before} to {after}", worker)

    def leased(self, worker: str, until: float, asked_at: float, length_s: float) -> None:
        """A worker's lease was renewed by the answer to a question sent at `asked_at`, or by an earlier one."""
        self.coverage.checked(Invariant.LEASE)
        if until > asked_at + length_s + 1e-9:
            self.violated(
                Invariant.LEASE,
                f"{worker} holds a lease until {until:.4f}, and asked last at {asked_at:.4f} of its clock",
                worker,
            )

    def answered(self) -> None:
        """Somebody who waited has been answered."""
        self.coverage.checked(Invariant.ANSWERED)

    def waits_for_ever(self, who: str, what: str, since: float) -> None:
        self.violated(Invariant.ANSWERED, f"{who} has waited for {what} since {since:.4f}", who)


FloorsOf = Callable[[str, Position], bool]
"""Whether the floors of a worker refuse what is older than the entry at a position and carries its tags."""


@dataclass(slots=True)
class Waiting:
    """Who waits for what, so that nobody is forgotten."""

    since: dict[int, tuple[str, str, float]] = field(default_factory=dict)
    _turn: int = 0

    def begins(self, who: str, what: str, now: float) -> int:
        self._turn += 1
        self.since[self._turn] = (who, what, now)
        return self._turn

    def ends(self, turn: int) -> None:
        self.since.pop(turn, None)

    def forget(self, who: str) -> None:
        """`who` is dead, and with it everybody who waited there."""
        self.since = {turn: each for turn, each in self.since.items() if each[0] != who}

    def older_than(self, moment: float) -> list[tuple[str, str, float]]:
        return [each for each in self.since.values() if each[2] < moment]
