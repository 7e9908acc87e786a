"""The client's side of the simulated database: what `create_async_engine` gives, as far as the origin uses it."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import AsyncIterator, Generator, Iterator, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self

from sqlalchemy import TextClause
from sqlalchemy.exc import InterfaceError, MultipleResultsFound, NoResultFound, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from tests.simulation.engine.network import Network
from tests.simulation.engine.servers import Refused
from tests.simulation.engine.sessions import Session

_HOSTS = re.compile(r"[a-z+]+://(?:[^@/]*@)?([^/?]+)")


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
    """A pool of sessions to the servers of `url`: the first that lets us in and is what is wanted of it."""

    def __init__(
        self,
        network: Network,
        url: str,
        *,
        pool_size: int = 5,
        pool_timeout: float = 30.0,
        pool_pre_ping: bool = False,
        connect_args: Mapping[str, Any] | None = None,
        isolation_level: str | None = None,
        **_: Any,
    ) -> None:
        hosts = _HOSTS.match(url)
        assert hosts is not None, f"no address of a database: {url}"
        self.url = url
        self.hosts = [host.partition(":")[0] for host in hosts[1].split(",")]
        self.autocommit = isolation_level == "AUTOCOMMIT"
        self.repeatable = isolation_level == "REPEATABLE READ"
        options = dict(connect_args or {})
        self.durability = str(options.get("server_settings", {}).get("synchronous_commit", "on"))
        self.connect_s = float(options.get("timeout", 60.0))
        self._network = network
        self._pre_ping = pool_pre_ping
        self._pool_timeout_s = pool_timeout
        self._places = asyncio.Semaphore(pool_size)
        self._idle: deque[Session] = deque()

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

    async def take(self) -> Session:
        """A session of the pool. Raises the pool's TimeoutError, and OSError when there is no way to a server."""
        try:
            async with asyncio.timeout(self._pool_timeout_s):
                await self._places.acquire()
        except TimeoutError as exc:
            raise PoolTimeout(f"QueuePool limit reached, connection timed out, timeout {self._pool_timeout_s}") from exc
        try:
            while self._idle:
                session = self._idle.pop()
                if not self._pre_ping:
                    return session
                try:
                    await session.call(_nothing)
                except OSError:
                    self.forget_idle()
                else:
                    return session
            return await self._open()
        except BaseException:
            self._places.release()
            raise

    async def _open(self) -> Session:
        refused: OSError | None = None
        for host in self.hosts:
            try:
                async with asyncio.timeout(self.connect_s):
                    session = await self._network.open(host)
                    if len(self.hosts) == 1 or await session.call(session.served.is_primary):
                        return session
                    session.close()
            except OSError as exc:
                refused = exc
        raise refused or ConnectionRefusedError(f"none of {', '.join(self.hosts)} is the primary")

    def give_back(self, session: Session) -> None:
        if not session.broken:
            self._idle.append(session)
        self._places.release()

    def forget_idle(self) -> None:
        """A connection broke, or the pool is closed: none of those that are as old is used again."""
        idle, self._idle = self._idle, deque()
        for session in idle:
            session.close()


class SimConnection:
    """What `AsyncEngine.connect()` gives."""

    def __init__(self, engine: SimEngine) -> None:
        self._engine = engine
        self._session: Session | None = None
        self._in_transaction = False

    async def start(self) -> Self:
        self._session = await self._engine.take()
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
        engine, session, text = self._engine, self._session, statement.text
        assert session is not None
        self._in_transaction = not engine.autocommit
        how = engine.repeatable, engine.durability, engine.autocommit
        return Result(await self._ask(text, session.served.execute, text, parameters or {}, *how))

    async def commit(self) -> None:
        """Raises InterfaceError when the connection is gone: whether it is committed is not known then."""
        if self._in_transaction:
            assert self._session is not None
            self._in_transaction = False
            await self._ask("COMMIT", self._session.served.commit)

    async def rollback(self) -> None:
        if self._in_transaction:
            assert self._session is not None
            self._in_transaction = False
            await self._ask("ROLLBACK", self._session.served.rollback)

    async def close(self) -> None:
        """Give the connection back. What was not committed is rolled back, before anybody else gets it."""
        session, self._session = self._session, None
        if session is None:
            return
        if self._in_transaction:
            self._in_transaction = False
            session.tell(session.served.rollback)
        self._engine.give_back(session)

    async def _ask(self, text: str, function: Any, *args: Any) -> Any:
        assert self._session is not None
        try:
            return await self._session.call(function, *args)
        except OSError as exc:
            self._engine.forget_idle()
            raise InterfaceError(text, None, exc, connection_invalidated=True) from exc
        except Refused as exc:
            raise OperationalError(text, None, exc) from exc


def _nothing() -> None:
    """SELECT 1"""
