"""Which of several database servers is the primary now, or a standby, and connections to it (docs/failover.md).

Roles move: a URL may name several hosts, and `target_session_attrs` says which of them is meant. A server that was
frozen while another one was promoted still believes to be the primary, so that is nobody's own word: a higher epoch
goes before a lower one, which has ended, then the server that is in charge before one that is not; and no epoch that
ended is gone back to.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from weakref import WeakKeyDictionary

import asyncpg
from sqlalchemy.dialects.postgresql.asyncpg import dialect
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from origin.errors import Unavailable

SAY_S = 1.0
"""How long a server may take to say what it is; longer is silence."""
ALONE_S = 3.0
"""The same where it is the only one that could answer: giving it up wins nothing but an end of waiting."""
WATCH_EVERY_S = 0.5
"""Pause between looks at the primary, while somebody keeps watch."""

_SAY = """
    SELECT pg_is_in_recovery() AS is_standby, events.in_charge() AS in_charge, (SELECT epoch FROM events.clock) AS epoch
"""
_TROUBLE = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""What asking a server may raise; a TimeoutError is an OSError."""
_log = logging.getLogger(__name__)


class Role(StrEnum):
    """What is asked of a server (`target_session_attrs`)."""

    ANY = "any"
    PRIMARY = "primary"
    STANDBY = "standby"


class NoServer(Unavailable, ConnectionError):
    """None of the servers has the role that is asked for; ask again, they may be changing places."""


@dataclass(frozen=True, slots=True)
class Server:
    """Where one server listens."""

    name: str
    """HOST:PORT."""
    address: tuple[tuple[str, Any], ...]
    """`host` and `port`, as asyncpg takes them; empty: what the environment of the process says."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """What a server said of itself."""

    is_standby: bool
    in_charge: bool
    epoch: int


def choose(role: Role, seen: Sequence[Sighting | None], epoch: int) -> int | None:
    """Which of the servers has `role`, by its number; None: none of them.

    `seen`: None for a server that did not answer. `epoch`: the highest known, which a primary is not below.
    """
    there = [(number, sighting) for number, sighting in enumerate(seen) if sighting is not None]
    if role is Role.PRIMARY:
        primaries = [
            (number, sighting) for number, sighting in there if not sighting.is_standby and sighting.epoch >= epoch
        ]
        return max(primaries, key=lambda each: (each[1].epoch, each[1].in_charge), default=(None, None))[0]
    return next((number for number, sighting in there if role is Role.ANY or sighting.is_standby), None)


class Whereabouts:
    """Makes connections to whichever server of one URL has the role. With a single host, that is simply where it is."""

    def __init__(self, url: str, role: Role = Role.ANY) -> None:
        """`url`: for SQLAlchemy and asyncpg: `...?host=A:5432&host=B:5432&target_session_attrs=primary`. `role`: which
        of several hosts is meant where it does not say.

        Raises ValueError, which says what of it cannot be used.
        """
        try:
            options = dialect().create_connect_args(make_url(url))[1]  # type: ignore[no-untyped-call]
        except ArgumentError as exc:
            raise ValueError(str(exc)) from exc
        hosts, ports = options.pop("host", None), options.pop("port", None)
        try:
            self.role = Role(options.pop("target_session_attrs", role))
        except ValueError as exc:
            raise ValueError("target_session_attrs must be any, primary or standby") from exc
        if isinstance(hosts, list):
            self.servers = tuple(
                Server(f"{host}:{port}", (("host", host), ("port", port)))
                for host, port in zip(hosts, ports, strict=True)
            )
        else:
            given = tuple((name, value) for name, value in (("host", hosts), ("port", ports)) if value is not None)
            self.servers = (Server(":".join(str(value) for _, value in given), given),)
        for name in ("prepared_statement_cache_size", "prepared_statement_name_func"):
            options.pop(name, None)
        self._options = options | {"server_settings": {"application_name": "nearshelf-origin"}}
        self._at: Server | None = None
        self._before: Server | None = None
        """Who had the role when it was last known who has it."""
        self._epoch = 0
        self._looking: asyncio.Task[Server] | None = None
        self._open: WeakKeyDictionary[asyncpg.Connection[Any], Server] = WeakKeyDictionary()
        self.moves = 0
        """How often the role was found at another server than before."""

    @property
    def can_move(self) -> bool:
        """Whether there is more than one server to look at."""
        return len(self.servers) > 1

    async def connect(self, **options: Any) -> asyncpg.Connection[Any]:
        """A connection to the server that has the role; for `async_creator_fn`. `options`: asyncpg's.

        Raises NoServer when none has it, and what asyncpg raises when it cannot be connected to.
        """
        if not self.can_move:
            connection = await asyncpg.connect(**options)
            self._open[connection] = self.servers[0]
            return connection
        server = self._at or await self.look()
        try:
            return await self._connect(server, options)
        except _TROUBLE as exc:
            _log.info("%s does not take a connection, looking for the %s: %s", server.name, self.role, exc)
        return await self._connect(await self.look(), options)

    def has_left(self, connection: asyncpg.Connection[Any]) -> bool:
        """Whether this connection is to another server than the one that has the role, as far as is known."""
        return self._at is not None and self._open.get(connection, self._at) is not self._at

    async def look(self) -> Server:
        """Ask all servers what they are, and go to the one that has the role. Raises NoServer when none has it.

        Connections to another server are closed when one is found: whoever uses one hears at once. Only a read that a
        former standby is answering just now goes on: what it shows is no less true there (`has_left` afterwards).
        """
        if self._looking is None:
            self._looking = asyncio.create_task(self._look(), name=f"looking for the {self.role}")
            self._looking.add_done_callback(self._looked)
        return await asyncio.shield(self._looking)

    async def watch(self) -> None:
        """Look after the primary until cancelled: when it is silent, or not in charge any more, look at all of them.

        When nobody is the primary and the one there was is silent, connections to it are closed, so that those who wait
        on it are told.
        """
        while True:
            if self.can_move:
                try:
                    await self._attend(self._at or await self.look())
                    await self.look()
                except NoServer:
                    if self._at is None:
                        self._close_all_but(None)
            else:
                await self._attend_alone(self.servers[0])
            await asyncio.sleep(WATCH_EVERY_S)

    async def _attend_alone(self, server: Server) -> None:
        """Returns when the only server has said nothing twice, its connections being closed, or cannot be asked."""
        connection = None
        try:
            connection = await asyncpg.connect(**self._options | dict(server.address), timeout=ALONE_S)
            while True:
                async with asyncio.timeout(ALONE_S):
                    await _said(connection)
                await asyncio.sleep(WATCH_EVERY_S)
        except TimeoutError:
            # Once more, anew: it may have been this process that did not run.
            if isinstance(await self._see(server, ALONE_S), TimeoutError):
                _log.warning("%s does not answer: connections to it are closed", server.name)
                self._close_all_but(None)
        except _TROUBLE:
            pass  # It answers, or whoever uses it hears for himself that it is gone.
        finally:
            if connection is not None:
                connection.terminate()

    async def _attend(self, server: Server) -> None:
        """Returns when `server` may not be the primary any more, or another one is."""
        connection = None
        try:
            async with asyncio.timeout(SAY_S):
                connection = await asyncpg.connect(**self._options | dict(server.address), timeout=SAY_S)
            while self._at is server:
                async with asyncio.timeout(SAY_S):
                    said = await _said(connection)
                if choose(Role.PRIMARY, [said], self._epoch) is None or not said.in_charge:
                    return
                self._epoch = said.epoch
                await asyncio.sleep(WATCH_EVERY_S)
        except _TROUBLE as exc:
            _log.info("%s was the primary and does not answer: %s", server.name, exc or type(exc).__name__)
        finally:
            if connection is not None:
                connection.terminate()

    async def _connect(self, server: Server, options: dict[str, Any]) -> asyncpg.Connection[Any]:
        where = {**dict(server.address), "target_session_attrs": self.role.value}
        connection: asyncpg.Connection[Any] = await asyncpg.connect(**options | where)
        self._open[connection] = server
        if self._at is not None and self._at is not server:
            # It was found elsewhere meanwhile.
            connection.terminate()
            raise NoServer(f"the {self.role} has just moved; ask again")
        return connection

    async def _look(self) -> Server:
        seen = await asyncio.gather(*(self._see(server) for server in self.servers))
        number = choose(self.role, [each if isinstance(each, Sighting) else None for each in seen], self._epoch)
        if number is None:
            self._lost(dict(zip(self.servers, seen, strict=True)))
            raise NoServer(f"No database has the role of {self.role} just now. Please try again in a moment.")
        server, sighting = self.servers[number], seen[number]
        assert isinstance(sighting, Sighting)
        if self.role is Role.PRIMARY:
            self._epoch = sighting.epoch
        before, self._before, self._at = self._before, server, server
        if before is not None and before is not server:
            self.moves += 1
            _log.warning("the %s is at %s now", self.role, server.name)
        answered = {each for each, said in zip(self.servers, seen, strict=True) if isinstance(said, Sighting)}
        self._close_all_but(server, () if self.role is Role.PRIMARY else answered)
        return server

    def _lost(self, seen: Mapping[Server, Sighting | Exception]) -> None:
        if self._at is None or isinstance(seen[self._at], asyncpg.TooManyConnectionsError):
            # One that has no room for another look is there all the same.
            return
        words = (f"{server.name}: {str(each) or type(each).__name__}" for server, each in seen.items())
        _log.warning("no server is the %s now: %s", self.role, "; ".join(words))
        self._at = None

    def _looked(self, task: asyncio.Task[Server]) -> None:
        self._looking = None
        if not task.cancelled():
            task.exception()  # whoever waits is told

    async def _see(self, server: Server, within_s: float | None = None) -> Sighting | Exception:
        """What `server` says of itself, or why it says nothing `within_s` (`SAY_S`)."""
        connection = None
        within_s = SAY_S if within_s is None else within_s
        try:
            async with asyncio.timeout(within_s):
                connection = await asyncpg.connect(**self._options | dict(server.address), timeout=within_s)
                return await _said(connection)
        except _TROUBLE as exc:
            return exc
        finally:
            if connection is not None:
                connection.terminate()

    def _close_all_but(self, server: Server | None, answering: Collection[Server] = ()) -> None:
        for connection, where in list(self._open.items()):
            # asyncpg cannot say of a closed one whether it is in a transaction.
            reads = where in answering and not connection.is_closed() and connection.is_in_transaction()
            if where is not server and not reads:
                connection.terminate()
                self._open.pop(connection, None)


async def _said(connection: asyncpg.Connection[Any]) -> Sighting:
    row = await connection.fetchrow(_SAY)
    assert row is not None
    return Sighting(row["is_standby"], row["in_charge"], row["epoch"])
