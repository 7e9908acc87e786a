"""Is this change live? Registered workers, their applied positions and leases, and what standbys hold (rule 6).

Only evidence counts: a worker has *acknowledged* when it asked from the change's position or beyond; otherwise its
lease has *run out* when its contact number has stood still for L x 1.01 on this observer's own monotonic clock. After
a promotion nothing is live until the leases that the primary before could still give are certainly over (rule 8).
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Self
from urllib.parse import quote

import httpx
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from cache_policies.feed import LEASE_S
from cache_policies.positions import Position
from origin.db import Committed, Database, NotInCharge
from origin.events.exposure import Exposure

RUN_OUT_S = LEASE_S * 1.01
"""A contact number that stood still for so long belongs to a lease that is over, whichever clock runs fast by 1 %."""
SUPERVISOR_LEASE_S = 2.0
"""How long a server stays in charge after its supervisor's last word, at most (`events.renew_supervisor_lease`)."""
QUIET_S = (SUPERVISOR_LEASE_S + LEASE_S) * 1.01
"""Nothing is live before an epoch has been seen for so long: the primary before it may have answered a worker, which is
not registered here, as long as it was in charge."""
FORGET_S = 60.0
"""A registration whose contact number stood still for so long is removed: until then reports still name it."""
POLL_S = 0.01
"""Pause between looks at the registry while somebody waits."""
IDLE_S = 0.2
"""The same while nobody does: goes on, so that a dead worker's lease is already over when a change comes."""
WATCH_S = 60.0
"""A change that is not live after so long is no longer watched; asking for its report begins again."""
READ_BACK_TIMEOUT_S = 3.0
KEPT_REPORTS = 256

_log = logging.getLogger(__name__)


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
class ReadBack:
    """The price that one edge shows, asked from outside."""

    edge: str
    url: str
    status: int
    """0: no answer."""
    amount: str | None
    cache_status: str | None
    ms: float
    as_expected: bool
    error: str | None = None


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
    forks: tuple[tuple[int, int], ...] = ()
    """The epochs that the purge log tells of, and the `cv` that each inherited."""

    def has_lost(self, position: Position) -> bool:
        """Whether `position` is of a history that ended before it."""
        return any(position.epoch < epoch and position.cv > fork_cv for epoch, fork_cv in self.forks)


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

    def __init__(self, position: Position, committed_at: float, standbys: Sequence[str] = ()) -> None:
        """`committed_at`: on the clock of the `now` of `judge`. `standbys`: those that may be promoted; none: all."""
        self.position = position
        self.committed_at = committed_at
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
        if view.has_lost(self.position):
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


_FINAL = frozenset({LiveState.LIVE, LiveState.LOST})

_VIEW = text(
    """
    SELECT (SELECT system_identifier FROM pg_control_system())::text
             || '/' || left(pg_walfile_name(pg_current_wal_lsn()), 8)
             || '/' || pg_postmaster_start_time()::text AS instance,
           (pg_current_wal_flush_lsn() - '0/0'::pg_lsn)::bigint AS flushed,
           (SELECT coalesce(json_agg(json_build_array(worker, edge, contact, applied_epoch, applied_cv, public_url)),
                            '[]') FROM events.contact WHERE left_at IS NULL)::text AS contacts,
           (SELECT coalesce(json_agg(json_build_array(name, flushed)), '[]') FROM events.standbys())::text AS standbys,
           (SELECT epoch FROM events.clock) AS epoch,
           EXISTS (SELECT FROM events.settled_epoch JOIN events.clock USING (epoch)) AS settled,
           (SELECT coalesce(json_agg(json_build_array(epoch, fork_cv)), '[]') FROM events.purge_log
             WHERE kind = 'epoch')::text AS forks
     WHERE (SELECT events.in_charge())
    """
)
_SETTLE = text("INSERT INTO events.settled_epoch (epoch) VALUES (:epoch) ON CONFLICT DO NOTHING")
_FORGET = text("DELETE FROM events.contact WHERE worker = :worker AND contact = :contact")
_WRITE_PROGRESS = text(
    """
    INSERT INTO events.progress AS known (epoch, cv, state, report) VALUES (:epoch, :cv, :state, CAST(:report AS jsonb))
    ON CONFLICT (epoch, cv) DO UPDATE SET state = excluded.state, report = excluded.report, written_at = now()
     WHERE known.state <> 'live'
    """
)
_READ_PROGRESS = text(
    """
    SELECT progress.report::text AS report,
           extract(epoch FROM clock_timestamp() - purge_log.at)::float8 AS age_s
      FROM events.purge_log LEFT JOIN events.progress USING (epoch, cv)
     WHERE epoch = :epoch AND cv = :cv
    """
)


async def read_view(connection: AsyncConnection) -> View:
    """The registry and the standbys now: one statement. Raises NotInCharge where nothing may be called live."""
    row = (await connection.execute(_VIEW)).one_or_none()
    if row is None:
        raise NotInCharge
    return View(
        row.instance,
        row.flushed,
        tuple(
            Contact(worker, edge, contact, Position(epoch, cv), url)
            for worker, edge, contact, epoch, cv, url in json.loads(row.contacts)
        ),
        tuple(Standby(name, flushed) for name, flushed in json.loads(row.standbys)),
        row.epoch,
        row.settled,
        tuple((epoch, fork_cv) for epoch, fork_cv in json.loads(row.forks)),
    )


class Observer:
    """One per origin worker: follows every change until it is live, and tells whoever waits.

    All watched changes share one statement per look. What is found is kept in `events.progress`, so that any worker
    can tell it, also later.
    """

    def __init__(
        self,
        database: Database,
        standbys: Sequence[str] = (),
        clock: Callable[[], float] = time.monotonic,
        acknowledged: Callable[[str, float], None] = lambda edge, seconds: None,
    ) -> None:
        """`acknowledged` hears, once for each worker that applied a change which was committed here, of its edge and
        of the seconds since the commit."""
        self._acknowledged = acknowledged
        self._heard: dict[Position, set[str]] = {}
        """Of changes that were committed here: the workers of which it has heard."""
        self._database = database
        self._standbys = tuple(standbys)
        self._clock = clock
        self._leases = Leases()
        self._epochs = Epochs()
        self._exposure = Exposure(standbys)
        self.in_charge = False
        """Whether the primary answered when it was last asked, and is in charge."""
        self._watches: dict[Position, Watch] = {}
        self._reports: OrderedDict[Position, LiveReport] = OrderedDict()
        self._unwritten: dict[Position, LiveReport] = {}
        self._wanted = asyncio.Event()
        self._written = asyncio.Event()
        self._news = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._client: httpx.AsyncClient | None = None

    async def start(self) -> None:
        # Read-backs go to our own edges, whose addresses are in the registry: no proxy from the environment.
        self._client = httpx.AsyncClient(timeout=READ_BACK_TIMEOUT_S, trust_env=False, follow_redirects=False)
        self._tasks = [
            asyncio.create_task(self._look(), name="live"),
            asyncio.create_task(self._write(), name="live progress"),
        ]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    def unsafe_bytes(self) -> float:
        """What the loss of the primary would lose now, in bytes of its log."""
        return self._exposure.unsafe_bytes

    def unsafe_s(self) -> float:
        """How old the oldest of that is, in seconds."""
        return self._exposure.unsafe_s(self._clock())

    def promotable(self) -> float:
        """How many standbys stream that may be promoted."""
        return self._exposure.standbys if self.in_charge else 0

    def watch(self, committed: Committed) -> None:
        """Follow a change that has just been committed here; for `Database.on_commit`."""
        if self._tasks:
            self._heard[committed.position] = set()
            self._follow(committed.position, committed.at)

    async def wait_live(self, position: Position, timeout_s: float = 10.0) -> LiveReport:
        """The report on the change at `position` when it is live, or cannot come further, or `timeout_s` are over.

        `position` is one that has been committed. The state says what has been reached: `waiting` after a time-out.
        """
        report = await self.report(position)
        if report is None:
            report = LiveReport(position, LiveState.WAITING, 0.0)
        give_up_at = self._clock() + timeout_s
        while (watch := self._watches.get(position)) is not None and watch.can_come_further:
            left = give_up_at - self._clock()
            if left <= 0:
                return watch.report
            try:
                async with asyncio.timeout(left):
                    await self._news.wait()
            except TimeoutError:
                return watch.report
        if watch is not None:
            return watch.report
        return self._reports.get(position, report)

    async def report(self, position: Position) -> LiveReport | None:
        """What is known now of the change at `position`; None when the purge log has no such position.

        One that is not live and that nobody here follows is followed from now on. Raises what the database raises.
        """
        if (watch := self._watches.get(position)) is not None:
            return watch.report
        known = self._reports.get(position)
        if known is not None and known.state in _FINAL:
            return known
        async with self._database.log.connect() as connection:
            row = (await connection.execute(_READ_PROGRESS, {"epoch": position.epoch, "cv": position.cv})).one_or_none()
        if row is None:
            return None
        report = None if row.report is None else LiveReport.from_json(row.report)
        if report is not None and report.state is LiveState.LIVE:
            return report
        watch = self._follow(position, self._clock() - row.age_s)
        return report or watch.report

    async def read_back(self, report: LiveReport, market: str, sku: str, amount: str) -> list[ReadBack]:
        """The price of `sku` in `market` as each edge of `report` shows it to the world, all asked at once.

        `amount`: what it should be, as `12.00`. An edge that does not answer within 3 s has status 0 and an error.
        """
        edges = {worker.edge: worker.public_url for worker in report.workers}
        return list(
            await asyncio.gather(
                *(self._read_one(edge, url, market, sku, amount) for edge, url in sorted(edges.items()))
            )
        )

    async def _read_one(self, edge: str, public_url: str, market: str, sku: str, amount: str) -> ReadBack:
        assert self._client is not None
        url = httpx.URL(public_url).join(f"/api/v1/{market}/prices/{quote(sku, safe='')}")
        started = time.monotonic()
        try:
            response = await self._client.get(url)
        except httpx.HTTPError as exc:
            ms = round((time.monotonic() - started) * 1000, 1)
            return ReadBack(edge, str(url), 0, None, None, ms, False, str(exc) or type(exc).__name__)
        ms = round((time.monotonic() - started) * 1000, 1)
        shown: Any = None
        with suppress(ValueError, AttributeError):
            shown = response.json().get("amount")
        return ReadBack(
            edge,
            str(url),
            response.status_code,
            None if shown is None else str(shown),
            response.headers.get("cache-status"),
            ms,
            response.status_code == 200 and shown == amount,
        )

    def _follow(self, position: Position, committed_at: float) -> Watch:
        watch = self._watches.get(position)
        if watch is None:
            watch = self._watches[position] = Watch(position, committed_at, self._standbys)
            self._wanted.set()
        return watch

    async def _look(self) -> None:
        """Look at the registry again and again, over one connection; begin anew whenever it breaks."""
        while True:
            try:
                async with self._database.log.connect() as connection:
                    while True:
                        await self._look_once(connection)
                        await self._pause()
            except (SQLAlchemyError, OSError) as exc:
                _log.warning("the registry of edge workers cannot be read, trying again: %s", exc)
            self.in_charge = False
            self._leases.start_over()
            for watch in self._watches.values():
                watch.start_over()
            await asyncio.sleep(IDLE_S)

    async def _pause(self) -> None:
        if any(watch.report.state is LiveState.WAITING or watch.can_come_further for watch in self._watches.values()):
            await asyncio.sleep(POLL_S)
            return
        self._wanted.clear()
        try:
            async with asyncio.timeout(IDLE_S):
                await self._wanted.wait()
        except TimeoutError:
            pass

    async def _look_once(self, connection: AsyncConnection) -> None:
        # Fixed before the statement is sent: each of these was committed before the registry is read.
        watches = list(self._watches.values())
        view = await read_view(connection)
        now = self._clock()
        self.in_charge = True
        self._exposure.see(view, now)
        if not self._leases.see(view, now):
            for watch in watches:
                watch.start_over()
        settled = self._epochs.is_settled(view, now)
        if settled and not view.settled:
            await connection.execute(_SETTLE, {"epoch": view.epoch})
        news = False
        for watch in watches:
            if watch.judge(view, self._leases, now, settled):
                news = True
                self._keep(watch.report)
                self._tell(watch.report)
            if watch.report.state in _FINAL or now - watch.committed_at > WATCH_S:
                self._watches.pop(watch.position, None)
                self._heard.pop(watch.position, None)
                news = True
        if news:
            self._news.set()
            self._news = asyncio.Event()
        for row in view.contacts:
            if self._leases.still_for_s(row, now) >= FORGET_S:
                # On the number that was seen: a worker that has asked since then stays registered.
                await connection.execute(_FORGET, {"worker": row.worker, "contact": row.contact})

    def _tell(self, report: LiveReport) -> None:
        heard = self._heard.get(report.position)
        if heard is None:
            return
        for worker in report.workers:
            if worker.outcome is Outcome.ACKNOWLEDGED and worker.worker not in heard:
                heard.add(worker.worker)
                self._acknowledged(worker.edge, worker.ms / 1000)

    def _keep(self, report: LiveReport) -> None:
        self._reports[report.position] = report
        self._reports.move_to_end(report.position)
        while len(self._reports) > KEPT_REPORTS:
            self._reports.popitem(last=False)
        if report.state is not LiveState.LOST:
            self._unwritten[report.position] = report
            self._written.set()

    async def _write(self) -> None:
        while True:
            await self._written.wait()
            self._written.clear()
            while self._unwritten:
                position, report = self._unwritten.popitem()
                try:
                    async with self._database.log.connect() as connection:
                        await connection.execute(
                            _WRITE_PROGRESS,
                            {
                                "epoch": position.epoch,
                                "cv": position.cv,
                                "state": report.state.value,
                                "report": report.to_json(),
                            },
                        )
                except (SQLAlchemyError, OSError) as exc:
                    _log.warning("progress of %s was not kept: %s", position, exc)
