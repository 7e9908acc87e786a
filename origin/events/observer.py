"""Looks at the registry of edge workers until a change is live, tells whoever waits, and keeps what was found (rule 6).

What makes a change live is judged in `live.py`; here is where the evidence comes from, and where it goes.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from cache_policies.positions import Position
from origin.db import Committed, Database, NotInCharge
from origin.events.exposure import Exposure
from origin.events.live import Contact, Epochs, Leases, LiveReport, LiveState, Outcome, Standby, View, Watch

FORGET_S = 60.0
"""A registration whose contact number stood still for so long is removed: until then reports still name it."""
POLL_S = 0.01
"""Pause between looks at the registry while somebody waits."""
IDLE_S = 0.2
"""The same while nobody does: goes on, so that a dead worker's lease is already over when a change comes."""
WATCH_S = 60.0
"""A change is watched for so long at most; whoever asks for its report after that begins again."""
READ_BACK_TIMEOUT_S = 3.0
KEPT_REPORTS = 256
SAY_EVERY_S = 10.0
"""Of one kind of trouble, so often at most: while no database is in charge, every look meets it."""

_log = logging.getLogger(__name__)


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


_FINAL = frozenset({LiveState.LIVE, LiveState.LOST})
_NO_ENTRY = ""
"""In the place of an id that nobody knows any more."""

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
           (SELECT coalesce(json_agg(json_build_array(watched.epoch, watched.cv)), '[]')
              FROM unnest(CAST(:epochs AS integer[]), CAST(:cvs AS bigint[]), CAST(:ids AS text[]))
                     AS watched (epoch, cv, id)
             WHERE (watched.epoch, watched.cv) >
                     (SELECT epoch, cv FROM events.purge_log ORDER BY epoch, cv LIMIT 1)
               AND NOT EXISTS (SELECT FROM events.purge_log AS entry
                                WHERE entry.epoch = watched.epoch AND entry.cv = watched.cv
                                  AND entry.id::text = watched.id))::text AS lost
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
    SELECT progress.report::text AS report, purge_log.id::text AS id,
           greatest(0, extract(epoch FROM clock_timestamp() - purge_log.at))::float8 AS age_s
      FROM events.purge_log LEFT JOIN events.progress USING (epoch, cv)
     WHERE epoch = :epoch AND cv = :cv
    """
)


async def read_view(connection: AsyncConnection, watches: Iterable[Watch] = ()) -> View:
    """The registry and the standbys now, and which of `watches` are lost: one statement. Raises NotInCharge where
    nothing may be called live."""
    changes = [(*watch.position, watch.entry_id) for watch in watches]
    epochs, cvs, ids = ([change[part] for change in changes] for part in range(3))
    row = (await connection.execute(_VIEW, {"epochs": epochs, "cvs": cvs, "ids": ids})).one_or_none()
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
        frozenset(Position(epoch, cv) for epoch, cv in json.loads(row.lost)),
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
        self._said: dict[tuple[str, type[Exception]], float] = {}
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
            self._follow(committed.position, committed.id, committed.at)

    async def wait_live(self, position: Position, timeout_s: float = 10.0) -> LiveReport:
        """The report on the change at `position` when it is live, or cannot come further, or `timeout_s` are over.

        `position` is one that has been committed. The state says what has been reached: `waiting` after a time-out.
        Raises what `report` raises.
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
        """What is known now of the change at `position`; None when there is none: the log has forgotten it, or it is to
        come.

        One that is not live and that nobody here follows is followed from now on. One that the log lacks, though it
        reaches back beyond it, and whose epoch has ended, is lost: its history is not the one that goes on. (Whether it
        was ever there, only the servers that are gone could tell.) Raises what the database raises, and NotInCharge
        where what the log lacks says nothing.
        """
        if (watch := self._watches.get(position)) is not None:
            return watch.report
        known = self._reports.get(position)
        if known is not None and known.state in _FINAL:
            return known
        async with self._database.log.connect() as connection:
            row = (await connection.execute(_READ_PROGRESS, {"epoch": position.epoch, "cv": position.cv})).one_or_none()
            if row is None:
                view = await read_view(connection, [Watch(position, _NO_ENTRY, self._clock())])
                if position not in view.lost or position.epoch >= view.epoch:
                    return None
                lost = LiveReport(position, LiveState.LOST, 0.0)
                self._keep(lost)
                return lost
        report = None if row.report is None else LiveReport.from_json(row.report)
        if report is not None and report.state is LiveState.LIVE:
            return report
        watch = self._follow(position, row.id, self._clock() - row.age_s)
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

    def _follow(self, position: Position, entry_id: str, committed_at: float) -> Watch:
        watch = self._watches.get(position)
        if watch is None:
            # From now, not from the commit: somebody may ask late, or a server's clock be wrong about when that was.
            give_up_at = self._clock() + WATCH_S
            watch = self._watches[position] = Watch(position, entry_id, committed_at, self._standbys, give_up_at)
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
                self._say("the registry of edge workers cannot be read, trying again", exc)
            self.in_charge = False
            self._leases.start_over()
            for watch in self._watches.values():
                watch.start_over()
            await asyncio.sleep(IDLE_S)

    async def _pause(self) -> None:
        if any(watch.can_come_further for watch in self._watches.values()):
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
        view = await read_view(connection, watches)
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
            if watch.report.state in _FINAL or now > watch.give_up_at:
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
                position = next(iter(self._unwritten))
                report = self._unwritten.pop(position)
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
                except IntegrityError:
                    pass  # The log does not have its entry any more: nobody will ask how it went.
                except (SQLAlchemyError, OSError) as exc:
                    self._say("what was found out about changes cannot be kept, trying again", exc)
                    if position in self._reports:
                        # Unless more is known by now. After the others: it may be this one that cannot be kept.
                        self._unwritten.setdefault(position, report)
                    await asyncio.sleep(IDLE_S)

    def _say(self, what: str, exc: Exception) -> None:
        now, kind = self._clock(), (what, type(exc))
        if now - self._said.get(kind, -math.inf) >= SAY_EVERY_S:
            self._said[kind] = now
            _log.warning("%s: %s", what, exc)
