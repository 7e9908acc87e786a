"""The purge log: read after a position, its head, its oldest row, its end; and a tail of it that is shared.

Rows are written by `UnitOfWork` through the function `events.log_purge`, in the transaction of the change.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from cache_policies.feed import PAGE_ENTRIES
from cache_policies.positions import ZERO, Position, PurgeEntry, PurgeKind
from cache_policies.tags import EVERYTHING
from origin.db import Committed, Database, NotInCharge
from origin.events.wake import Wake

POLL_S = 0.05
"""How often the head is read while questions are held and no nudges are heard."""
REREAD_S = 0.5
"""How often it is read when nothing seems to have happened, so that a lost nudge is no news for this long at most."""
TAIL_ENTRIES = 2_000
"""Entries kept in memory by each worker."""
KEEP_ENTRIES = 10_000
"""Trimming leaves at least so many, and everything younger than an hour."""
TRIM_EVERY_S = 600.0

_log = logging.getLogger(__name__)

_READ_AFTER = text(
    """
    (SELECT 'head' AS what, epoch, cv, id::text AS id, kind, NULL::text[] AS tags, fork_cv
       FROM events.purge_log WHERE (SELECT events.in_charge()) ORDER BY epoch DESC, cv DESC LIMIT 1)
    UNION ALL
    (SELECT 'oldest', epoch, cv, id::text, kind, NULL, fork_cv FROM events.purge_log ORDER BY epoch, cv LIMIT 1)
    UNION ALL
    (SELECT 'known', epoch, cv, id::text, kind, NULL, fork_cv FROM events.purge_log
      WHERE epoch = :epoch AND cv = :cv AND id::text = :id)
    UNION ALL
    (SELECT 'entry', epoch, cv, id::text, kind, tags, fork_cv FROM events.purge_log
      WHERE (epoch, cv) > (:epoch, :cv) ORDER BY epoch, cv LIMIT :limit)
    """
)
# What the history of a lost position shares with this log ends at the newest row of its epoch or of those before, if
# not earlier: whoever asked can tell by the id of that row.
_SHARED = text(
    """
    SELECT epoch, cv, id FROM (
      SELECT epoch, cv, id::text AS id FROM events.purge_log WHERE epoch <= :epoch ORDER BY epoch DESC, cv DESC LIMIT 1
    ) AS newest WHERE cv < :cv
    """
)
_TRIM = text("SELECT events.trim_purge_log(:keep)")


@dataclass(frozen=True, slots=True)
class LogPage:
    """The purge log after one position, as one statement saw it."""

    known: bool
    """Whether the log holds the position with the id that was named; if not, `entries` is empty."""
    entries: tuple[PurgeEntry, ...]
    head: Position
    head_id: str
    oldest: Position
    oldest_id: str
    rewind: tuple[Position, str] | None = None
    """The position is of a history that ended: this entry of the log, and its id, is the newest that both may share,
    and `entries` are those after it."""

    @property
    def reaches_head(self) -> bool:
        """Whether nothing is missing between the last entry and the head."""
        return self.known and (not self.entries or self.entries[-1].position == self.head)


async def read_after(connection: AsyncConnection, after: Position, after_id: str, limit: int = PAGE_ENTRIES) -> LogPage:
    """The entries after `after`, oldest first, at most `limit`, with head and oldest: one statement, one snapshot.

    Where `after` was lost with an earlier primary: those after the newest entry that its history may share (`rewind`).
    Raises NotInCharge on a server that may not answer questions.
    """
    page = await _read_page(connection, after, after_id, limit)
    if page.known or after.epoch >= page.head.epoch:
        return page
    shared = (await connection.execute(_SHARED, {"epoch": after.epoch, "cv": after.cv})).one_or_none()
    if shared is None:
        return page
    place = Position(shared.epoch, shared.cv), shared.id
    found = await _read_page(connection, *place, limit)
    return replace(found, rewind=place) if found.known else page


async def _read_page(connection: AsyncConnection, after: Position, after_id: str, limit: int) -> LogPage:
    rows = (
        await connection.execute(_READ_AFTER, {"epoch": after.epoch, "cv": after.cv, "id": after_id, "limit": limit})
    ).all()
    marks = {row.what: row for row in rows if row.what != "entry"}
    if "head" not in marks:
        raise NotInCharge
    head, oldest, known = marks["head"], marks["oldest"], "known" in marks
    entries = [
        PurgeEntry(Position(row.epoch, row.cv), row.id, PurgeKind(row.kind), tuple(row.tags), row.fork_cv)
        for row in rows
        if row.what == "entry"
    ]
    return LogPage(
        known,
        tuple(sorted(entries, key=lambda entry: entry.position)) if known else (),
        Position(head.epoch, head.cv),
        head.id,
        Position(oldest.epoch, oldest.cv),
        oldest.id,
    )


async def read_ends(connection: AsyncConnection) -> LogPage:
    """The head and the oldest row, for whoever knows no position yet."""
    return await _read_page(connection, ZERO, "", 1)


async def trim(connection: AsyncConnection, keep: int = KEEP_ENTRIES) -> int:
    """Forget the oldest rows but for `keep` of them and everything younger than an hour; how many were forgotten.

    The last row always stays. Edges whose position is gone are answered with *flush*.
    """
    return int((await connection.execute(_TRIM, {"keep": keep})).scalar_one())


class LogTail:
    """The newest entries of the purge log in this worker's memory: one reader for all held questions.

    It reads when woken, every 50 ms while questions are held and no nudges are heard, and every half second anyhow.
    Every read begins after the wake-up, so an entry that was committed before a nudge is never missed because of one.

    It also tells whether something read at a position still holds: it knows every entry after where it begins, and
    nothing of those before.
    """

    def __init__(self, database: Database, wake: Wake) -> None:
        self._database = database
        self._wake = wake
        self._entries: deque[PurgeEntry] = deque()
        self._base = ZERO
        self._ids: dict[Position, str] = {}
        self._floors: dict[str, Position] = {}
        self.head = ZERO
        self.head_id = ""
        self._committed = ZERO
        self.as_of = -math.inf
        """time.monotonic() when the latest read that reached the head began: nothing committed before is missing."""
        self.held = 0
        """Questions that wait for entries now; kept by the feed."""
        self._grown = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        self._tasks = [
            asyncio.create_task(self._follow(), name="purge log tail"),
            asyncio.create_task(self._trim(), name="purge log trimming"),
        ]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    def note_head(self, head: Position) -> None:
        """Somebody read this head: if it is news here, the log is read now."""
        if head > self.head:
            self._wake.event.set()

    def committed(self, committed: Committed) -> None:
        """A transaction of this worker took a position, which the next read will find; for `Database.on_commit`."""
        self._committed = max(self._committed, committed.position)

    def is_current(self, now: float, within_s: float) -> bool:
        """Whether nothing is missing of what this worker has done itself, nor of what had been committed `within_s`
        seconds before `now`, which is of time.monotonic()."""
        return self.head >= self._committed and now - self.as_of <= within_s

    async def wait_beyond(self, position: Position, timeout_s: float) -> bool:
        """Wait until there is an entry after `position`, at most `timeout_s`. False: none came."""
        try:
            async with asyncio.timeout(timeout_s):
                while self.head <= position:
                    await self._grown.wait()
        except TimeoutError:
            return False
        return True

    def entries_after(self, position: Position) -> tuple[PurgeEntry, ...] | None:
        """The entries after `position`, up to `head`; None when the tail does not hold that: it does not reach back so
        far, or an earlier primary took it along."""
        if position not in self._ids:
            return None
        return tuple(entry for entry in self._entries if entry.position > position)

    def id_at(self, position: Position) -> str | None:
        """The id of the entry at `position`; None when that is not in memory, or in no log that this worker follows."""
        return self._ids.get(position)

    def floor_of(self, tags: Iterable[str]) -> Position:
        """The highest position in memory, hard or soft, that names one of `tags` or everything."""
        floors = self._floors
        return max((floors[tag] for tag in (*tags, EVERYTHING) if tag in floors), default=ZERO)

    async def _follow(self) -> None:
        while True:
            must_poll = self.held > 0 and not self._wake.connected
            try:
                async with asyncio.timeout(POLL_S):
                    await self._wake.event.wait()
            except TimeoutError:
                if not must_poll and time.monotonic() - self.as_of < REREAD_S:
                    continue
            self._wake.event.clear()
            try:
                await self._read()
            except (SQLAlchemyError, OSError) as exc:
                _log.warning("the purge log cannot be read, trying again: %s", exc)
                await asyncio.sleep(POLL_S)
                self._wake.event.set()

    async def _read(self) -> None:
        async with self._database.log.connect() as connection:
            while True:
                began = time.monotonic()
                page = await read_after(connection, self.head, self.head_id)
                if page.head.epoch < self.head.epoch:
                    raise ConnectionError(f"the database asked is at {page.head}, and its epoch has ended: {self.head}")
                if not page.known or (page.rewind is not None and not self._go_back(*page.rewind)):
                    # At the start, or when the log is another one: held questions end and are asked again.
                    self._begin_at(page.head, page.head_id)
                elif page.entries:
                    self._append(page.entries)
                if page.head != self.head:
                    continue
                break
        self.as_of = began
        grown, self._grown = self._grown, asyncio.Event()
        grown.set()

    def _begin_at(self, position: Position, id_: str) -> None:
        self._entries.clear()
        self._floors.clear()
        self._ids = {position: id_}
        self._committed = ZERO
        self._base = self.head = position
        self.head_id = id_

    def _go_back(self, shared: Position, shared_id: str) -> bool:
        """Forget what is beyond `shared`, which another primary did not inherit. False: that is not known here."""
        if self._ids.get(shared) != shared_id:
            return False
        while self.head > shared:
            del self._ids[self.head]
            self._entries.pop()
            self.head = self._entries[-1].position if self._entries else self._base
        self.head_id = shared_id
        self._floors = {tag: entry.position for entry in self._entries for tag in entry.tags}
        return True

    def _append(self, entries: tuple[PurgeEntry, ...]) -> None:
        for entry in entries:
            self._entries.append(entry)
            self._ids[entry.position] = entry.id
            for tag in entry.tags:
                self._floors[tag] = entry.position
            if len(self._entries) > TAIL_ENTRIES:
                self._forget_oldest()
        self.head, self.head_id = entries[-1].position, entries[-1].id

    def _forget_oldest(self) -> None:
        oldest = self._entries.popleft()
        self._ids.pop(self._base, None)
        self._base = oldest.position
        for tag in oldest.tags:
            if self._floors.get(tag) == oldest.position:
                del self._floors[tag]

    async def _trim(self) -> None:
        while True:
            await asyncio.sleep(TRIM_EVERY_S)
            try:
                async with self._database.log.connect() as connection:
                    forgotten = await trim(connection)
            except (SQLAlchemyError, OSError) as exc:
                _log.warning("the purge log was not trimmed: %s", exc)
            else:
                if forgotten:
                    _log.info("the purge log was trimmed: %d entries forgotten", forgotten)
