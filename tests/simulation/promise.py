"""What is true, and what must be: the ground truth of one simulated run, and the invariants that are held against it.

The truth is the databases' own history, what the origin said, and what was *reported*: live, or shown, which promises
the same of every edge and says nothing of a promotion. What the code under test thinks of itself is held against it,
and believed only where that makes it break more. Every row that a page shows has a number that no other change of the
run has, so that an answer says which change it is from. Invariants by their names (docs/freshness.md):

* `promise`: nothing older than what was reported when the request was sent is presented as current;
* `floors`: nothing below a hard purge that the worker had applied when the request arrived, however it is marked;
* `soft`: what a soft purge named is shown only as stale;
* `ghosts`: nothing of a lost tail once the worker has applied the record of the epoch that lost it;
* `label`: a stored response is what the database said at its position;
* `window`: what is shown is, octet for octet, what the origin said, and no longer than the origin said;
* `evidence`: at such a report, whoever holds a lease has applied the change;
* `acknowledged`: neither registry nor report ever says more than the worker has applied;
* `monotone`: what a worker has applied, and its floors, never fall but by the record of an epoch;
* `lease`: it never outlasts the sending of a question by more than L;
* `survives`: what was reported live, or committed to survive, is in the history after a promotion;
* `fenced`: one database at the most takes itself to be in charge;
* `answered`: nothing waits for ever, and when all is mended every worker shows every page as it is.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from operator import itemgetter

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
    WINDOW = "window"
    EVIDENCE = "evidence"
    ACKNOWLEDGED = "acknowledged"
    MONOTONE = "monotone"
    LEASE = "lease"
    SURVIVES = "survives"
    FENCED = "fenced"
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


NEVER = 1 << 62
"""More reports than there ever are."""


class Row:
    """Everything that one row has been, in the history that counts now."""

    __slots__ = ("changes", "first_report", "has_lost", "kind", "name", "newest", "positions", "reported", "tops")

    def __init__(self, name: str, kind: PurgeKind) -> None:
        self.name = name
        self.kind = kind
        self.newest = -1
        """The number that it has now."""
        self.positions: list[Position] = []
        self.changes: list[Change] = []
        """Both in the order of positions, without what was lost."""
        self.reported: list[tuple[int, Position]] = []
        """Of each report about this row, which report of the run it was, and of which position."""
        self.tops: list[tuple[int, Position]] = []
        """The same with the highest position that had been reported by then."""
        self.first_report = NEVER
        self.has_lost = False
        """Whether a promotion has ever lost a change of it."""

    def add(self, change: Change) -> None:
        assert change.position is not None
        self.positions.append(change.position)
        self.changes.append(change)
        self.newest = change.number

    def report(self, number: int, position: Position) -> None:
        """The report of that number says that `position` is what everybody shows."""
        self.reported.append((number, position))
        self.tops.append((number, max(position, self.tops[-1][1] if self.tops else ZERO)))
        self.first_report = self.tops[0][0]

    def told_by(self, report: int) -> Position | None:
        """The highest position of this row that was reported by the report of that number, or before it."""
        found = bisect_right(self.tops, report, key=itemgetter(0))
        return self.tops[found - 1][1] if found else None

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
        if lost:
            gone = set(self.positions[kept:])
            del self.changes[kept:], self.positions[kept:]
            self.newest = self.changes[-1].number if self.changes else -1
            # What was shown everywhere, and promised to survive by nobody.
            reported, self.reported, self.tops, self.first_report = self.reported, [], [], NEVER
            for number, position in reported:
                if position not in gone:
                    self.report(number, position)
        return lost


@dataclass(slots=True)
class Asked:
    """One request as its viewer sent it."""

    worker: str
    about: str
    sent_at: float
    reports: int
    """How many reports there had been."""
    applied: Position
    """What the worker had applied when it arrived."""
    newest: bool = False
    """Whether the answer must show everything as it is now: nothing is broken, and nothing changes."""


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
    """Of these, answers about something that had been reported before they were asked for."""


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
        """Reports so far, of live and of shown."""
        self.epoch = 1
        self.forks: list[tuple[int, int]] = []
        """Each epoch that a promotion began, and the `cv` up to which it goes on from the one before."""
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

    def confirmed(self, change: Change) -> None:
        """Whoever made `change` is told that it is committed."""
        self._catch_up()
        change.confirmed = True
        if change.lost_by is not None and change.survives:
            self._has_not_survived(change, "confirmed after that, as one that survives")

    def committed(self, position: Position, writes: Iterable[tuple[str, int]]) -> None:
        """A database has written a commit of `writes` at `position` into its log: from here on a snapshot may show
        them. One that was replaced, and does not know it yet, writes what is lost already."""
        for name, number in writes:
            change = self.changes[number]
            change.position = position
            self.by_position.setdefault(position, []).append(change)
            if position.epoch < self.epoch:
                self._is_lost(change)
            else:
                self.rows[name].add(change)

    def promoted(self, epoch: int, fork_cv: int) -> None:
        """The history of `epoch` begins after `fork_cv`: what those before had committed beyond it is lost."""
        self.epoch = epoch
        self.forks.append((epoch, fork_cv))
        for row in self.rows.values():
            for change in row.forget_after(fork_cv):
                self._is_lost(change)
                if change.live_at is not None:
                    self._has_not_survived(change, "reported live before")
                elif change.survives and change.confirmed:
                    self._has_not_survived(change, "confirmed before, as one that survives")
            kept = [change for change in row.changes if change.live_at is not None or change.survives]
            self.coverage.checked(Invariant.SURVIVES, len(kept))

    def _is_lost(self, change: Change) -> None:
        change.lost_by = self.epoch
        self.rows[change.row].has_lost = True
        self.lost += 1

    def _has_not_survived(self, change: Change, how: str) -> None:
        by = "a crash" if change.lost_by is None else f"the promotion to epoch {change.lost_by}"
        self.violated(
            Invariant.SURVIVES,
            f"{change.row}={change.number} at {change.position} is lost by {by}, and was {how}",
            change.row,
            str(change.position),
        )

    def crashed_before(self, position: Position) -> None:
        """What had been written at `position` and beyond was not on the disk when its server died: those positions are
        given out anew. Nobody may have been told of it."""
        for row in self.rows.values():
            for change in row.forget_after(position.cv - 1):
                if change.confirmed or change.live_at is not None:
                    self._has_not_survived(change, "confirmed before")
                self.by_position.pop(change.position or ZERO, None)
                change.position = None

    def reported(self, position: Position, workers: Sequence[Standing], *, live: bool, floors_of: FloorsOf) -> None:
        """Somebody was told that the change at `position` is live; or, not `live`, that it is shown everywhere."""
        self._catch_up()
        changes = self.by_position.get(position, ())
        if not changes:
            return
        if any(change.lost_by is not None for change in changes):
            # That it was shown when it was looked at is no lie, though it is told too late to be of use.
            for change in changes if live else ():
                self._has_not_survived(change, "reported live after that")
            return
        self.reports += 1
        for worker in workers:
            if not worker.leased:
                continue
            self.coverage.checked(Invariant.EVIDENCE)
            said = f"{position} was reported {'live' if live else 'shown'} while"
            if worker.applied < position:
                self.violated(
                    Invariant.EVIDENCE,
                    f"{said} {worker.name} holds a lease and has applied {worker.applied}",
                    worker.name,
                    str(position),
                )
            elif not floors_of(worker.name, position):
                self.violated(
                    Invariant.EVIDENCE,
                    f"{said} the floors of {worker.name} let older responses pass",
                    worker.name,
                    str(position),
                )
        for change in changes:
            if live and change.live_at is None:
                change.live_at = self._clock()
            self.rows[change.row].report(self.reports, position)

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
        if self.lost and asked.applied.epoch > 1 and any(rows[name].has_lost for name, _ in shown):
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
        told = row.told_by(asked.reports)
        if told is not None:
            invariant = Invariant.PROMISE if hard else Invariant.SOFT
            self.coverage.checked(invariant)
            if position < told and (detail() != MARKED if hard else detail() not in STALE):
                self.violated(
                    invariant,
                    f"{said}, presented as current ({detail() or 'fresh'}), though {told} had been reported",
                    *about,
                    str(told),
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
            if change.lost_by is not None or self._is_ghost(position):
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

    def _is_ghost(self, position: Position) -> bool:
        return any(position.epoch < epoch and position.cv > fork_cv for epoch, fork_cv in self.forks)

    def kept(self, asked: Asked, what: str, age_s: float, longest_s: float) -> None:
        """A viewer was shown from a store, as `what`, something that the origin had said `age_s` seconds before the
        request, and wanted to be kept for `longest_s` of them."""
        self.coverage.checked(Invariant.WINDOW)
        # Clocks run alike within 1 %.
        if age_s > longest_s * 1.01:
            self.violated(
                Invariant.WINDOW,
                f"{asked.worker} answered {asked.about}, asked at {asked.sent_at:.4f}, with what the origin said "
                f"{age_s:.3f} s before and wanted to be kept for {longest_s:g} s at the most ({what})",
                asked.worker,
            )

    def made_up(self, asked: Asked, what: str) -> None:
        """A viewer was shown what no origin has ever said."""
        self.violated(
            Invariant.WINDOW,
            f"{asked.worker} answered {asked.about}, asked at {asked.sent_at:.4f}, with {what}",
            asked.worker,
        )

    def refused(self, asked: Asked, status: bytes) -> None:
        """A viewer was told that there is something wrong with a request that there is nothing wrong with."""
        self.violated(Invariant.ANSWERED, f"{asked.worker} refused {asked.about} with {status.decode()}", asked.worker)

    def shows_all(self, asked: Asked, rows: Sequence[str], status: bytes, shown: Shown, detail: str) -> None:
        """Somebody who asked for a page with `rows` must be shown each as it is now. A page of one product says itself
        by its status whether that is listed: its body is the origin's."""
        truth = tuple((name, self.rows[name].newest) for name in rows)
        if status not in {b"200", b"404"} or shown != truth or detail == MARKED:
            self.violated(
                Invariant.ANSWERED,
                f"all is well, and {asked.worker} answers {asked.about} with {status.decode() or 'nothing'} "
                f"({detail or 'fresh'}) {shown}, where there is {truth}",
                asked.worker,
                *rows,
            )

    # -- what workers do -----------------------------------------------------------------------------------------------

    def acknowledged(self, worker: str, said: Position, applied: Position) -> None:
        """Registry or report hold that `worker` has applied `said`; it has `applied` at the most."""
        self.coverage.checked(Invariant.ACKNOWLEDGED)
        if said > applied:
            self.violated(
                Invariant.ACKNOWLEDGED,
                f"{worker} is said to have applied {said}; it has applied {applied}",
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
