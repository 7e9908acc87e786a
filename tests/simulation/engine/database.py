"""The client's side of the simulated database: what `create_async_engine` gives, as far as the origin uses it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Generator, Iterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from types import TracebackType
from typing import Any, Self

import asyncpg
from asyncpg.exceptions import TargetServerAttributeNotMatched
from sqlalchemy import TextClause, make_url
from sqlalchemy.dialects.postgresql.asyncpg import dialect
from sqlalchemy.exc import InterfaceError, MultipleResultsFound, NoResultFound, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from tests.simulation.engine.network import Network
from tests.simulation.engine.sessions import Session
from tests.simulation.engine.transactions import Refused


class Result:
    """What one statement gave."""

    def __init__(self, given: Any) -> None:
        self._rows: list[Any] = given if isinstance(given, list) else []
        self.rowcount = given if isinstance(given, int) else len(self._rows)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._rows)

    def all(self) -> list[Any]:
        return self._rows

    def first(self) -> Any:
        return self._rows[0] if self._rows else None

    def one_or_none(self) -> Any:
        if len(self._rows) > 1:
            raise MultipleResultsFound("Multiple rows were found when one or none was required")
        return self.first()

    def one(self) -> Any:
        found = self.one_or_none()
        if found is None:
            raise NoResultFound("No row was found when one was required")
        return found

    def scalar_one(self) -> Any:
        return self.one()[0]


class SimEngine:
    """A pool of connections to the server of `url`, or to whichever the creator in `connect_args` finds."""

    def __init__(
        self,
        network: Network,
        url: str,
        *,
        poolclass: Any = None,
        pool_size: int = 5,
        pool_timeout: float = 30.0,
        pool_pre_ping: bool = False,
        connect_args: Mapping[str, Any] | None = None,
        isolation_level: str | None = None,
        **_: Any,
    ) -> None:
        self.autocommit = isolation_level == "AUTOCOMMIT"
        self.repeatable = isolation_level == "REPEATABLE READ"
        options = dict(connect_args or {})
        self.durability = str(options.get("server_settings", {}).get("synchronous_commit", "on"))
        self._create = options.pop("async_creator_fn", partial(connect, network))
        self._options = dialect().create_connect_args(make_url(url))[1] | options
        self._place = getattr(poolclass, "place", None)
        self._pre_ping = pool_pre_ping
        self._pool_timeout_s = pool_timeout
        self._places = asyncio.Semaphore(pool_size)
        self._idle: deque[RawConnection] = deque()

    def execution_options(self, **_: Any) -> Self:
        return self

    def connect(self) -> SimConnection:
        return SimConnection(self)

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[SimConnection]:
        """One transaction, committed at the end of the block."""
        async with self.connect() as connection:
            yield connection
            await connection.commit()

    async def dispose(self) -> None:
        """Close what is idle; what is in use is closed when it is given back."""
        self.forget_idle()

    # -- the pool ------------------------------------------------------------------------------------------------------

    async def take(self) -> RawConnection:
        """A session of the pool. Raises the pool's TimeoutError, and OSError when there is no way to a server."""
        try:
            async with asyncio.timeout(self._pool_timeout_s):
                await self._places.acquire()
        except TimeoutError as exc:
            raise PoolTimeout(f"QueuePool limit reached, connection timed out, timeout {self._pool_timeout_s}") from exc
        try:
            while self._idle:
                raw = self._idle.pop()
                if raw.is_closed():
                    continue
                if self._place is not None and self._place.has_left(raw):
                    # As `origin.db._Pool` has it.
                    raw.terminate()
                    continue
                if not self._pre_ping:
                    return raw
                try:
                    await raw.session.call(_nothing)
                except OSError:
                    self.forget_idle()
                else:
                    return raw
            made: RawConnection = await self._create(**self._options)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as exc:
            # As `origin.db._Pool` has it.
            self._places.release()
            raise ConnectionError(str(exc)) from exc
        except BaseException:
            self._places.release()
            raise
        return made

    def give_back(self, raw: RawConnection) -> None:
        if not raw.is_closed():
            self._idle.append(raw)
        self._places.release()

    def forget_idle(self) -> None:
        """A connection broke, or the pool is closed: none of those that are as old is used again."""
        idle, self._idle = self._idle, deque()
        for raw in idle:
            raw.terminate()


class RawConnection:
    """What `asyncpg.connect` gives, as far as it is used without SQLAlchemy."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.in_transaction = False

    async def fetchrow(self, text: str) -> Any:
        """The first row of a statement, by its columns. Raises asyncpg's InterfaceError when the connection is gone,
        PostgresError when the server does not do it."""
        try:
            rows = await self.session.call(self.session.served.execute, text, {}, False, "on", True)
        except OSError as exc:
            raise asyncpg.InterfaceError(str(exc)) from exc
        except Refused as exc:
            raise asyncpg.PostgresError(str(exc)) from exc
        return rows[0]._asdict()

    def terminate(self) -> None:
        self.session.close()

    def is_closed(self) -> bool:
        return self.session.broken

    def is_in_transaction(self) -> bool:
        """Raises AttributeError when it is closed, as asyncpg does."""
        if self.is_closed():
            raise AttributeError("'NoneType' object has no attribute 'is_in_transaction'")
        return self.in_transaction


async def connect(
    network: Network, *, host: str, timeout: float = 60.0, target_session_attrs: str = "any", **_: Any
) -> RawConnection:
    """`asyncpg.connect`. Raises OSError, and asyncpg's error for a server that has not the role."""
    async with asyncio.timeout(timeout):
        session = await network.open(host)
        if target_session_attrs != "any":
            primary = await session.call(session.served.is_primary)
            if primary != (target_session_attrs == "primary"):
                session.close()
                raise TargetServerAttributeNotMatched(f"{host} is not what is wanted: {target_session_attrs}")
    return RawConnection(session)


class SimConnection:
    """What `AsyncEngine.connect()` gives."""

    def __init__(self, engine: SimEngine) -> None:
        self._engine = engine
        self._raw: RawConnection | None = None

    async def start(self) -> Self:
        self._raw = await self._engine.take()
        return self

    def __await__(self) -> Generator[Any, None, Self]:
        return self.start().__await__()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def execute(self, statement: TextClause, parameters: Any = None) -> Result:
        """Raises InterfaceError when the connection is gone, OperationalError when the server does not do it."""
        engine, text = self._engine, statement.text
        raw = self._taken()
        raw.in_transaction = not engine.autocommit
        served = raw.session.served
        how = engine.repeatable, engine.durability, engine.autocommit
        return Result(await self._ask(text, served.execute, text, parameters or {}, *how))

    async def commit(self) -> None:
        """Raises InterfaceError when the connection is gone: whether it is committed is not known then."""
        await self._end("COMMIT", self._taken().session.served.commit)

    async def rollback(self) -> None:
        await self._end("ROLLBACK", self._taken().session.served.rollback)

    async def close(self) -> None:
        """Give the connection back. What was not committed is rolled back, before anybody else gets it."""
        raw, self._raw = self._raw, None
        if raw is None:
            return
        if raw.in_transaction:
            raw.in_transaction = False
            raw.session.tell(raw.session.served.rollback)
        self._engine.give_back(raw)

    def _taken(self) -> RawConnection:
        assert self._raw is not None
        return self._raw

    async def _end(self, text: str, function: Any) -> None:
        raw = self._taken()
        if raw.in_transaction:
            try:
                await self._ask(text, function)
            finally:
                raw.in_transaction = False

    async def _ask(self, text: str, function: Any, *args: Any) -> Any:
        try:
            return await self._taken().session.call(function, *args)
        except OSError as exc:
            self._engine.forget_idle()
            raise InterfaceError(text, None, exc, connection_invalidated=True) from exc
        except Refused as exc:
            raise OperationalError(text, None, exc) from exc


def _nothing() -> None:
    """SELECT 1"""
