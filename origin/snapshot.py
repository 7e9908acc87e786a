"""Reads at or above a position: replica, next replica, primary; with the position they really read (rule 3)."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from cache_policies.positions import Position
from origin.db import PRIMARY_FILL_CONNECTIONS, Database
from origin.errors import Unavailable

T = TypeVar("T")
Minimum = Position | Literal["head"] | None
"""What a reader demands: a position, the head as the primary has it now, or nothing."""

WAIT_FOR_REPLICAS_S = 0.05
"""How long one read waits for replicas to catch up, all of them together."""
POLL_S = 0.002
REPLICA_SAYS_S = 1.0
"""How long a replica that took the read may take to say where it is; longer, and it is taken for one that is gone."""
PRIMARY_QUEUE = 64
"""Reads per worker that may wait for one of the primary's connections for fills; one more is refused."""
PRIMARY_WAIT_S = 1.0
BACK_OFF_S = (0.1, 5.0)
"""A replica that cannot be reached is left alone for so long: at first, and at most."""

_CLOCK = text("SELECT epoch, cv FROM events.clock")
_HEAD = text("SELECT epoch, cv FROM events.clock WHERE (SELECT events.in_charge())")


class TooOld(Unavailable):
    """No database that may be read now has the position that was asked for; ask again after `retry_after_s`."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One REPEATABLE READ, READ ONLY transaction: everything read on `connection` is as of `position`."""

    connection: AsyncConnection
    position: Position
    source: str
    """`replica-0`, `replica-1`, ... or `primary`."""


class Snapshots:
    """Where reads of public pages come from."""

    def __init__(self, database: Database, opened: Callable[[str], None] = lambda source: None) -> None:
        """`opened` hears of each snapshot where it comes from."""
        self._opened = opened
        self._primary = _Primary(database.primary_fills)
        self._head = database.log
        self._replicas = [_Replica(f"replica-{i}", engine) for i, engine in enumerate(database.replicas)]
        self._turn = itertools.count()
        self.served: dict[str, int] = {"primary": 0} | {replica.name: 0 for replica in self._replicas}
        """How many snapshots each database gave, since the start of this worker."""

    @asynccontextmanager
    async def open(self, minimum: Minimum = None) -> AsyncIterator[Snapshot]:
        """A snapshot at or above `minimum`.

        A replica that is behind is waited for, a little; then the next one, then the primary. Raises TooOld when
        not even the primary has the position, or cannot take another read.
        """
        if minimum == "head":
            minimum = await self._read_head()
        async with AsyncExitStack() as stack:
            snapshot = await self._from_replica(minimum, stack)
            if snapshot is None:
                snapshot = await self._primary.open(minimum, stack)
            self.served[snapshot.source] += 1
            self._opened(snapshot.source)
            yield snapshot

    async def _read_head(self) -> Position:
        # Read after the request arrived: no replica's older position can answer for it, nor that of a server which was
        # the primary before another one was promoted.
        try:
            async with self._head.connect() as connection:
                row = (await connection.execute(_HEAD)).one_or_none()
        except (OSError, DBAPIError, PoolTimeout) as exc:
            raise TooOld("the primary database cannot be asked for the head of the purge log") from exc
        if row is None:
            raise TooOld("no database is in charge of the purge log, which may have gone on elsewhere")
        return Position(row.epoch, row.cv)

    async def _from_replica(self, minimum: Position | None, stack: AsyncExitStack) -> Snapshot | None:
        give_up_at = time.monotonic() + WAIT_FOR_REPLICAS_S
        usable = [replica for replica in self._replicas if replica.may_be_tried()]
        first = next(self._turn) % len(usable) if usable else 0
        usable = usable[first:] + usable[:first]
        for number, replica in enumerate(usable, 1):
            # Each gets its share of what is left, so that one that stands still does not use up the time of another.
            left = max(0.0, give_up_at - time.monotonic())
            snapshot = await replica.open(minimum, stack, left / (len(usable) - number + 1))
            if snapshot is not None:
                return snapshot
        return None


class Remembered(Generic[T]):
    """What a read of the catalog gave, for as long as the position stays the same.

    A position names one state of all public tables (rule 11: none changes without taking the next), so what was read
    at it is what would be read at it again. Only the newest is kept.
    """

    def __init__(self, read: Callable[[AsyncConnection], Awaitable[T]]) -> None:
        self._read = read
        self._kept: tuple[Position, T] | None = None

    async def at(self, snapshot: Snapshot) -> T:
        """The value in `snapshot`."""
        kept = self._kept
        if kept is not None and kept[0] == snapshot.position:
            return kept[1]
        value = await self._read(snapshot.connection)
        if self._kept is None or self._kept[0] < snapshot.position:
            self._kept = snapshot.position, value
        return value


class _Replica:
    def __init__(self, name: str, engine: AsyncEngine) -> None:
        self.name = name
        self._engine = engine
        self._down_until = 0.0
        self._back_off_s = BACK_OFF_S[0]
        self._stood_at: Position | None = None
        """Where it was when waiting for it was in vain: as long as it stands there, nobody waits again."""

    def may_be_tried(self) -> bool:
        return time.monotonic() >= self._down_until

    async def open(self, minimum: Position | None, stack: AsyncExitStack, wait_s: float) -> Snapshot | None:
        """The snapshot, entered on `stack`; None when this replica is behind or cannot be reached."""
        async with AsyncExitStack() as attempt:
            try:
                connection = await attempt.enter_async_context(self._engine.connect())
                async with asyncio.timeout(REPLICA_SAYS_S):
                    position = await _position(connection)
                give_up_at = time.monotonic() + wait_s
                while minimum is not None and position < minimum:
                    await connection.rollback()
                    if position == self._stood_at:
                        return None
                    if time.monotonic() >= give_up_at:
                        self._stood_at = position
                        return None
                    await asyncio.sleep(POLL_S)
                    position = await _position(connection)
            except PoolTimeout as exc:
                raise TooOld(f"too many reads are waiting for {self.name}") from exc
            except (OSError, DBAPIError):
                self._down_until = time.monotonic() + self._back_off_s
                self._back_off_s = min(2 * self._back_off_s, BACK_OFF_S[1])
                return None
            self._back_off_s = BACK_OFF_S[0]
            stack.push_async_exit(attempt.pop_all())
            return Snapshot(connection, position, self.name)


class _Primary:
    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._free = asyncio.Semaphore(PRIMARY_FILL_CONNECTIONS)
        self._waiting = 0

    async def open(self, minimum: Position | None, stack: AsyncExitStack) -> Snapshot:
        if self._waiting >= PRIMARY_QUEUE:
            raise TooOld("too many reads are waiting for the primary database")
        self._waiting += 1
        try:
            async with asyncio.timeout(PRIMARY_WAIT_S):
                await self._free.acquire()
        except TimeoutError as exc:
            raise TooOld(f"the primary database took no read for {PRIMARY_WAIT_S:g} s") from exc
        finally:
            self._waiting -= 1
        stack.callback(self._free.release)
        try:
            connection = await stack.enter_async_context(self._engine.connect())
            position = await _position(connection)
        except (OSError, DBAPIError, PoolTimeout) as exc:
            raise TooOld("the primary database cannot be reached") from exc
        if minimum is not None and position < minimum:
            raise TooOld(f"the primary database is at {position}, and {minimum} was asked for")
        return Snapshot(connection, position, "primary")


async def _position(connection: AsyncConnection) -> Position:
    """Where this snapshot is: the first statement of its transaction, so it is what takes the snapshot."""
    row = (await connection.execute(_CLOCK)).one()
    return Position(row.epoch, row.cv)
