"""The database, and the unit of work: rows, clock row and purge-log row commit together or not at all."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any

import asyncpg
from sqlalchemy import event, text
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, PoolProxiedConnection

from cache_policies.markets import Markets
from cache_policies.positions import Position
from origin.errors import Unavailable
from origin.events.messages import Event
from origin.events.purge_map import purge_of
from origin.whereabouts import NoServer, Role, Whereabouts

WRITE_CONNECTIONS = 6
"""Per worker. A write holds one for its transaction."""
LOG_CONNECTIONS = 8
"""Per worker, for contacts, the purge log and the observer: apart, so that no crowd of fills delays a purge."""
PRIMARY_FILL_CONNECTIONS = 4
"""Per worker. Fills on the primary are capped here, so that a lagging replica cannot stampede it."""
REPLICA_CONNECTIONS = 12
"""Per worker and replica."""
STATEMENT_TIMEOUT_S = 15.0
LOCK_TIMEOUT_S = 5.0
COMMIT_TIMEOUT_S = 10.0
"""A commit that waits for a standby is given up after so long, and nobody is told that it succeeded. Below the timeout
of statements, which would end the wait as a success."""
NOT_IN_CHARGE = "NS503"
"""SQLSTATE of `events.log_purge` on a server that its supervisor does not have in charge."""

LOCALLY = text("SET LOCAL synchronous_commit TO local")
"""First in a transaction: its commit does not wait for a standby."""
_IN_CHARGE = text("SELECT events.in_charge()")
_LOG_PURGE = text("SELECT epoch, cv FROM events.log_purge(:kind, CAST(:tags AS text[]), :cause, :actor, :id)")


class Durability(Enum):
    """What a commit that was acknowledged outlives."""

    SURVIVES = "survives"
    """The loss of the primary, as long as a standby may be promoted: it is on that one's disk. What staff do."""
    LOCAL = "local"
    """A crash of the primary: it is on its disk, and may be lost with it. What can be done again: imports."""


class NotInCharge(NoServer):
    """The database that was asked may not answer, as another one may have been promoted. Nothing was changed."""

    def __init__(self) -> None:
        super().__init__(
            "No database is in charge just now: none takes changes, nor says what has changed. "
            "Nothing was changed; please try again in a moment."
        )


class OutcomeUnknown(Unavailable):
    """The database was lost while it kept a change: whether that is kept cannot be told."""

    def __init__(self) -> None:
        super().__init__(
            "The database was lost while this was being kept, and it cannot be told whether it is. "
            "Look first, in a moment, before you try again.",
            retry_after_s=2,
        )


@dataclass(frozen=True, slots=True)
class Committed:
    """A transaction that took a position, as the hooks of `Database.on_commit` get it."""

    position: Position
    id: str
    at: float
    """time.monotonic() when the commit was confirmed."""
    events: tuple[Event, ...] = ()
    """What happened in it."""


class UnitOfWork:
    """One transaction on the primary, and what happened in it.

    Use it through `Database.unit_of_work`. Work on `connection`, `record` what happened; when the block ends
    without an exception, the clock row is incremented and the purge-log row written last, under one short lock,
    and everything commits.
    """

    def __init__(self, connection: AsyncConnection, actor: str, cause: str) -> None:
        self.connection = connection
        self.actor = actor
        """Who: an e-mail address, or the name of a process."""
        self.cause = cause
        """Why, in a few words; kept in the purge log."""
        self.purge_id = str(uuid.uuid4())
        """The id that the purge-log row will have, if there is one."""
        self.position: Position | None = None
        """After the commit: the position taken; None when nothing was recorded."""
        self._events: list[Event] = []

    def record(self, event: Event) -> None:
        """Say that `event` happened in this transaction."""
        self._events.append(event)

    @property
    def events(self) -> Sequence[Event]:
        return tuple(self._events)


class Database:
    """The primary and its replicas: engines with a connection pool each. Close it when done.

    Which server is the primary may change meanwhile, where the URL names several: `keep_watch`, `look_again`.
    """

    def __init__(
        self,
        primary_url: str,
        replica_urls: Sequence[str] = (),
        *,
        markets: Markets,
        statement_timeout_s: float = STATEMENT_TIMEOUT_S,
    ) -> None:
        """`statement_timeout_s`: the server ends a statement after so many seconds; 0: never (imports)."""
        self.markets = markets
        self.primary = Whereabouts(primary_url, Role.PRIMARY)
        self._standbys = [Whereabouts(url) for url in replica_urls]
        # A person's change is not refused because the primary was restarted since the last one: `pre_ping`.
        self.writes = _engine(primary_url, self.primary, WRITE_CONNECTIONS, statement_timeout_s, pre_ping=True)
        self.log = _engine(
            primary_url,
            self.primary,
            LOG_CONNECTIONS,
            STATEMENT_TIMEOUT_S,
            isolation_level="AUTOCOMMIT",
            synchronous_commit="off",
        )
        self.primary_fills = _snapshot_engine(primary_url, self.primary, PRIMARY_FILL_CONNECTIONS)
        self.replicas = tuple(
            _snapshot_engine(url, standby, REPLICA_CONNECTIONS)
            for url, standby in zip(replica_urls, self._standbys, strict=True)
        )
        self.on_commit: list[Callable[[Committed], None]] = []
        """Called, in order, right after each commit of this process that took a position. They must not raise."""

    @asynccontextmanager
    async def unit_of_work(
        self, *, actor: str, cause: str, durability: Durability = Durability.SURVIVES
    ) -> AsyncIterator[UnitOfWork]:
        """One transaction on the primary. An exception in the block rolls everything back.

        The commit is not torn by a cancellation: a caller who is cancelled while it runs waits for its end and is
        cancelled then, so that no position is taken without the hooks of `on_commit` hearing of it, unless nobody knows
        whether it was. Raises NotInCharge when nothing was changed because the database may not take changes, and
        OutcomeUnknown when it was lost during the commit, or may not have been in charge any more.
        """
        async with self.writes.connect() as connection:
            if durability is Durability.LOCAL:
                await connection.execute(LOCALLY)
            work = UnitOfWork(connection, actor, cause)
            yield work
            await _to_the_end(self._commit(work, durability))

    async def _commit(self, work: UnitOfWork, durability: Durability) -> None:
        position = await self._take_position(work) if work.events else None
        survives = durability is Durability.SURVIVES
        try:
            async with asyncio.timeout(COMMIT_TIMEOUT_S if survives else None):
                await work.connection.commit()
        except TimeoutError as exc:
            raise OutcomeUnknown from exc
        except DBAPIError as exc:
            if exc.connection_invalidated:
                raise OutcomeUnknown from exc
            raise
        work.position = position
        if position is not None:
            committed = Committed(position, work.purge_id, time.monotonic(), tuple(work.events))
            for hook in self.on_commit:
                hook(committed)
        # The server may have stood still between the look of `log_purge` and the commit, and another one be promoted.
        if survives and not await self._is_in_charge(work.connection):
            raise OutcomeUnknown

    async def _take_position(self, work: UnitOfWork) -> Position:
        kind, tags = purge_of(work.events, self.markets)
        values = {
            "kind": kind.value,
            "tags": list(tags),
            "cause": work.cause,
            "actor": work.actor,
            "id": uuid.UUID(work.purge_id),
        }
        try:
            row = (await work.connection.execute(_LOG_PURGE, values)).one()
        except DBAPIError as exc:
            if getattr(exc.orig, "sqlstate", None) == NOT_IN_CHARGE:
                raise NotInCharge from exc
            raise
        return Position(row.epoch, row.cv)

    async def _is_in_charge(self, connection: AsyncConnection) -> bool:
        try:
            async with asyncio.timeout(COMMIT_TIMEOUT_S):
                return bool((await connection.execute(_IN_CHARGE)).scalar_one())
        except (DBAPIError, OSError):
            return False

    # --- where the servers are ---

    async def keep_watch(self) -> None:
        """Follow the primary wherever it goes, and have nobody wait for a silent one, until cancelled."""
        await self.primary.watch()

    async def look_again(self) -> None:
        """Find out at once who is the primary and who a standby now."""
        places = [place for place in (self.primary, *self._standbys) if place.can_move]
        await asyncio.gather(*(place.look() for place in places), return_exceptions=True)

    def pools(self) -> dict[str, AsyncEngine]:
        """Every engine, by the name of its pool."""
        replicas = {f"replica-{number}": engine for number, engine in enumerate(self.replicas)}
        return {"writes": self.writes, "log": self.log, "primary-fills": self.primary_fills, **replicas}

    async def close(self) -> None:
        """Close every pool. Connections still in use are closed when they are given back."""
        for engine in self.pools().values():
            await engine.dispose()


async def _to_the_end(work: Any) -> None:
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as exc:
            cancelled = exc
    if cancelled is not None:
        if not task.cancelled():
            task.exception()
        raise cancelled
    task.result()


class _Pool(AsyncAdaptedQueuePool):
    """Hands out no connection that is known to lead nowhere: the server was lost, or is not the one that is meant."""

    place: Whereabouts
    """Of the subclass that an engine gets."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        event.listen(self, "checkout", self._refuse)

    def _refuse(self, connection: Any, record: object, proxy: object) -> None:
        if connection.driver_connection.is_closed() or self.place.has_left(connection.driver_connection):
            raise DisconnectionError("it leads nowhere")

    def connect(self) -> PoolProxiedConnection:
        """Raises OSError, too, when the server is lost while SQLAlchemy makes its own preparations, which leave what
        asyncpg raises as it is."""
        try:
            return super().connect()
        except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as exc:
            raise ConnectionError(f"the database was lost while it was connected to: {exc}") from exc


# SQLAlchemy's pools tell what they do under the name of their class, and only SQLAlchemy's own name is kept quiet.
logging.getLogger(f"{__name__}.{_Pool.__qualname__}").setLevel(logging.WARNING)


def _engine(
    url: str,
    place: Whereabouts,
    size: int,
    statement_timeout_s: float,
    *,
    isolation_level: str | None = None,
    synchronous_commit: str = "on",
    pre_ping: bool = False,
) -> AsyncEngine:
    options: dict[str, Any] = {} if isolation_level is None else {"isolation_level": isolation_level}
    return create_async_engine(
        url,
        poolclass=type(_Pool.__name__, (_Pool,), {"place": place}),
        pool_size=size,
        max_overflow=0,
        pool_timeout=5.0,
        pool_recycle=1800,
        pool_pre_ping=pre_ping,
        connect_args={
            "async_creator_fn": place.connect,
            "timeout": 3.0,
            "server_settings": {
                "application_name": "nearshelf-origin",
                "statement_timeout": f"{round(statement_timeout_s * 1000)}",
                "lock_timeout": f"{round(LOCK_TIMEOUT_S * 1000)}",
                "idle_in_transaction_session_timeout": f"{round(statement_timeout_s * 1000)}",
                "synchronous_commit": synchronous_commit,
                "jit": "off",
            },
        },
        **options,
    )


def _snapshot_engine(url: str, place: Whereabouts, size: int) -> AsyncEngine:
    return _engine(url, place, size, STATEMENT_TIMEOUT_S, isolation_level="REPEATABLE READ").execution_options(
        postgresql_readonly=True
    )
