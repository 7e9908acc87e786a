"""The database, and the unit of work: rows, clock row and purge-log row commit together or not at all."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from cache_policies.markets import Markets
from cache_policies.positions import Position
from origin.events.messages import Event
from origin.events.purge_map import purge_of

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

_LOG_PURGE = text("SELECT epoch, cv FROM events.log_purge(:kind, CAST(:tags AS text[]), :cause, :actor, :id)")


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
    """The primary and its replicas: engines with a connection pool each. Close it when done."""

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
        # A person's change is not refused because the primary was restarted since the last one: `pre_ping`.
        self.writes = _engine(primary_url, WRITE_CONNECTIONS, statement_timeout_s, pre_ping=True)
        self.log = _engine(
            primary_url, LOG_CONNECTIONS, STATEMENT_TIMEOUT_S, isolation_level="AUTOCOMMIT", synchronous_commit="off"
        )
        self.primary_fills = _snapshot_engine(primary_url, PRIMARY_FILL_CONNECTIONS)
        self.replicas = tuple(_snapshot_engine(url, REPLICA_CONNECTIONS) for url in replica_urls)
        self.on_commit: list[Callable[[Committed], None]] = []
        """Called, in order, right after each commit of this process that took a position. They must not raise."""

    @asynccontextmanager
    async def unit_of_work(self, *, actor: str, cause: str) -> AsyncIterator[UnitOfWork]:
        """One transaction on the primary. An exception in the block rolls everything back.

        The commit is not torn by a cancellation: a caller who is cancelled while it runs waits for its end and is
        cancelled then, so that no position is taken without the hooks of `on_commit` hearing of it.
        """
        async with self.writes.connect() as connection:
            work = UnitOfWork(connection, actor, cause)
            yield work
            await _to_the_end(self._commit(work))

    async def _commit(self, work: UnitOfWork) -> None:
        position = None
        if work.events:
            kind, tags = purge_of(work.events, self.markets)
            row = (
                await work.connection.execute(
                    _LOG_PURGE,
                    {
                        "kind": kind.value,
                        "tags": list(tags),
                        "cause": work.cause,
                        "actor": work.actor,
                        "id": uuid.UUID(work.purge_id),
                    },
                )
            ).one()
            position = Position(row.epoch, row.cv)
        await work.connection.commit()
        work.position = position
        if position is not None:
            committed = Committed(position, work.purge_id, time.monotonic(), tuple(work.events))
            for hook in self.on_commit:
                hook(committed)

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


def _engine(
    url: str,
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
        pool_size=size,
        max_overflow=0,
        pool_timeout=5.0,
        pool_recycle=1800,
        pool_pre_ping=pre_ping,
        connect_args={
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


def _snapshot_engine(url: str, size: int) -> AsyncEngine:
    return _engine(url, size, STATEMENT_TIMEOUT_S, isolation_level="REPEATABLE READ").execution_options(
        postgresql_readonly=True
    )
