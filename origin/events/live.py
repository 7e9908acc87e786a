"""Is this change live? Registered workers, their applied positions and leases, and what standbys hold (rule 6). Pure.

Only evidence counts: a worker has *acknowledged* when it asked from the change's position or beyond; otherwise its
lease has *run out* when its contact number has stood still for L x 1.01 on this observer's own monotonic clock. After
a promotion nothing is live until the leases that the primary before could still give are certainly over (rule 8).
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Self

from cache_policies.feed import LEASE_S
from cache_policies.positions import Position

RUN_OUT_S = LEASE_S * 1.01
"""A contact number that stood still for so long belongs to a lease that is over, whichever clock runs fast by 1 %."""
SUPERVISOR_LEASE_S = 2.0
"""How long a server stays in charge after its supervisor's last word, at most (`events.renew_supervisor_lease`)."""
QUIET_S = (SUPERVISOR_LEASE_S + LEASE_S) * 1.01
"""Nothing is live before an epoch has been seen for so long: the primary before it may have answered a worker, which is
not registered here, as long as it was in charge."""


class Outcome(StrEnum):
    """What is known of one worker and one change."""

    WAITING = "waiting"
    ACKNOWLEDGED = "acknowledged"
    """It asked from the change's position or beyond."""
    LEASE_RAN_OUT = "lease ran out"
    """It was silent until nothing that it holds can count as fresh."""
    LEFT = "left"
    """It stopped serving and ended its registration."""


class LiveState(StrEnum):
    WAITING = "waiting"
    SHOWN = "shown"
    """Shown everywhere, not yet replicated: every worker is done; losing the primary could undo the change."""
    LIVE = "live"
    """Every worker is done, and every standby that may be promoted has flushed the change."""
    LOST = "lost"
    """The primary was lost before the change had reached the standby that was promoted: nobody has it any more."""


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """One registered worker and one change."""

    edge: str
    worker: str
    outcome: Outcome
    ms: float
    """From the commit to this outcome, in milliseconds; while waiting, until now."""
    public_url: str


@dataclass(frozen=True, slots=True)
class StandbyReport:
    """One standby and one change."""

    name: str
    flushed: bool
    """Whether the change is in its write-ahead log on disk."""


@dataclass(frozen=True, slots=True)
class LiveReport:
    """What is known of one change."""

    position: Position
    state: LiveState
    elapsed_ms: float
    """From the commit to this state."""
    workers: tuple[WorkerReport, ...] = ()
    standbys: tuple[StandbyReport, ...] = ()

    @property
    def done(self) -> int:
        """How many workers need not be waited for."""
        return sum(worker.outcome is not Outcome.WAITING for worker in self.workers)

    def to_json(self) -> str:
        return json.dumps(
            {
                "position": str(self.position),
                "state": self.state.value,
                "elapsed_ms": self.elapsed_ms,
                "workers": [
                    [worker.edge, worker.worker, worker.outcome.value, worker.ms, worker.public_url]
                    for worker in self.workers
                ],
                "standbys": [[standby.name, standby.flushed] for standby in self.standbys],
            }
        )

    @classmethod
    def from_json(cls, text_: str) -> Self:
        value = json.loads(text_)
        return cls(
            Position.parse(value["position"]),
            LiveState(value["state"]),
            value["elapsed_ms"],
            tuple(
                WorkerReport(edge, worker, Outcome(outcome), ms, url)
                for edge, worker, outcome, ms, url in value["workers"]
            ),
            tuple(StandbyReport(name, flushed) for name, flushed in value["standbys"]),
        )


@dataclass(frozen=True, slots=True)
class Contact:
    """A row of the registry."""

    worker: str
    edge: str
    contact: int
    applied: Position
    public_url: str


@dataclass(frozen=True, slots=True)
class Standby:
    """A row of pg_stat_replication. `flushed`: how far its log is on disk, in bytes; None: it has not said."""

    name: str
    flushed: int | None


@dataclass(frozen=True, slots=True)
class View:
    """The registry and the standbys at one moment, as one statement on the primary saw them."""

    instance: str
    """Changes when the server was restarted, promoted or exchanged: what was observed before then counts no more."""
    flushed: int
    """How far the primary's own log is on disk, in bytes: everything committed before the statement is below it."""
    contacts: tuple[Contact, ...]
    standbys: tuple[Standby, ...]
    epoch: int = 1
    settled: bool = True
    """Whether somebody has seen this epoch for as long as nothing may be live in it."""
    lost: frozenset[Position] = frozenset()
    """Of the changes that were asked about: those whose entry the purge log does not have, though it reaches back
    beyond them. Their history ended before they had left it."""


class Epochs:
    """Since when each epoch has been seen, by the clock of whoever calls."""

    def __init__(self) -> None:
        self._since: dict[int, float] = {}

    def is_settled(self, view: View, now: float) -> bool:
        """Whether nothing of the primary before the one of `view`, read at `now`, can be in force any more."""
        since = self._since.setdefault(view.epoch, now)
        return view.settled or now - since >= QUIET_S


class Leases:
    """Since when each worker's contact number stands still, by the clock of whoever calls."""

    def __init__(self) -> None:
        self._instance: str | None = None
        self._since: dict[str, tuple[int, float]] = {}

    def see(self, view: View, now: float) -> bool:
        """Take note of `view`, which had arrived at `now`. False: another server answered, and counting began anew."""
        same = self._instance == view.instance
        if not same:
            self.start_over()
        self._instance = view.instance
        before = self._since
        self._since = {}
        for row in view.contacts:
            known = before.get(row.worker)
            self._since[row.worker] = known if known is not None and known[0] == row.contact else (row.contact, now)
        return same

    def start_over(self) -> None:
        """Nothing observed so far counts: the connection broke, or the primary changed."""
        self._instance = None
        self._since = {}

    def still_for_s(self, row: Contact, now: float) -> float:
        """For how long `row`'s contact number has been seen standing still, in seconds."""
        number, since = self._since[row.worker]
        assert number == row.contact
        return now - since


class Watch:
    """One change, followed until it is live. Feed it every view that was read after the change's commit."""

    def __init__(
        self,
        position: Position,
        entry_id: str,
        committed_at: float,
        standbys: Sequence[str] = (),
        give_up_at: float = math.inf,
    ) -> None:
        """`entry_id`: of its entry in the purge log. `committed_at`, `give_up_at`: as the `now` of `judge` counts.
        `standbys`: those that may be promoted; none: all."""
        self.position = position
        self.entry_id = entry_id
        self.committed_at = committed_at
        self.give_up_at = give_up_at
        self._promotable = tuple(standbys)
        self._workers: dict[str, WorkerReport] | None = None
        self._target = 0
        self.report = LiveReport(position, LiveState.WAITING, 0.0)

    def start_over(self) -> None:
        """Forget what was seen: another server answers from now on."""
        self._workers = None
        self.report = LiveReport(self.position, LiveState.WAITING, self.report.elapsed_ms)

    @property
    def can_come_further(self) -> bool:
        """Whether more waiting may change the state: not when live, nor when there is no standby to wait for."""
        if self.report.state is LiveState.SHOWN:
            return bool(self.report.standbys) and all(name in self._names() for name in self._promotable)
        return self.report.state is LiveState.WAITING

    def _names(self) -> set[str]:
        return {standby.name for standby in self.report.standbys}

    def judge(self, view: View, leases: Leases, now: float, settled: bool = True) -> bool:
        """Take `view`, read after the commit, into account. True when the report says something new.

        `settled`: whether anything may be live in the epoch of `view`.
        """
        ms = round((now - self.committed_at) * 1000, 1)
        if self.position in view.lost:
            self.report = LiveReport(self.position, LiveState.LOST, ms)
            return True
        if self._workers is None:
            # Who is registered now is who counts: a worker that registers later reads this change before it serves.
            self._target = view.flushed
            self._workers = {
                row.worker: WorkerReport(row.edge, row.worker, Outcome.WAITING, ms, row.public_url)
                for row in view.contacts
            }
        rows = {row.worker: row for row in view.contacts}
        for worker, known in self._workers.items():
            outcome = self._outcome(rows.get(worker), known.outcome, leases, now)
            if outcome is not known.outcome or outcome is Outcome.WAITING:
                self._workers[worker] = replace(known, outcome=outcome, ms=ms)
        standbys = tuple(
            StandbyReport(standby.name, standby.flushed is not None and standby.flushed >= self._target)
            for standby in view.standbys
            if not self._promotable or standby.name in self._promotable
        )
        workers = tuple(sorted(self._workers.values(), key=lambda report: (report.edge, report.worker)))
        state = self._state(workers, standbys) if settled else LiveState.WAITING
        before = self.report
        self.report = LiveReport(
            self.position,
            state,
            before.elapsed_ms if state is before.state is not LiveState.WAITING else ms,
            workers,
            standbys,
        )
        return (
            before.state is not state
            or before.standbys != standbys
            or [report.outcome for report in before.workers] != [report.outcome for report in workers]
        )

    def _outcome(self, row: Contact | None, known: Outcome, leases: Leases, now: float) -> Outcome:
        if known is Outcome.ACKNOWLEDGED:
            return known
        if row is None:
            return Outcome.LEFT if known is Outcome.WAITING else known
        if row.applied >= self.position:
            return Outcome.ACKNOWLEDGED
        # A worker that asks again after its lease ran out was answered with this change: it stays done.
        if known is Outcome.WAITING and leases.still_for_s(row, now) >= RUN_OUT_S:
            return Outcome.LEASE_RAN_OUT
        return known

    def _state(self, workers: Sequence[WorkerReport], standbys: Sequence[StandbyReport]) -> LiveState:
        if any(report.outcome is Outcome.WAITING for report in workers):
            return LiveState.WAITING
        names = {standby.name for standby in standbys}
        if not standbys or not all(name in names for name in self._promotable):
            return LiveState.SHOWN
        return LiveState.LIVE if all(standby.flushed for standby in standbys) else LiveState.SHOWN
