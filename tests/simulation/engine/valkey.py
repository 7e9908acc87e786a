"""A simulated Valkey, and the part of redis-py's client that the tier, the shelf and the wake-up use.

Commands do what the real ones do, scripts what their Lua says. It forgets everything when it dies.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeout

from edge.store import regional
from origin import shelf
from tests.simulation.engine.loop import SimLoop
from tests.simulation.engine.network import Network
from tests.simulation.engine.processes import Process
from tests.simulation.engine.sessions import Session

POSITION_CHARACTERS = 28

Value = bytes | dict[bytes, bytes]


class SimValkey:
    """A server called `name`, started."""

    process: Process

    def __init__(self, loop: SimLoop, network: Network, name: str = "valkey") -> None:
        self.loop = loop
        self.name = name
        self._network = network
        self._values: dict[str, Value] = {}
        self._until: dict[str, float] = {}
        """When what has an end is forgotten, in virtual seconds."""
        self.channels: dict[str, dict[_Backend, None]] = {}
        self.start()

    def start(self) -> None:
        """Start it, at first or after it was killed: empty."""
        self._values, self._until, self.channels = {}, {}, {}
        self.process = self.loop.process(self.name)
        self._network.take_sessions(self.process, self.name, lambda session: _Backend(self, session))

    def wipe(self) -> None:
        """FLUSHALL: it forgets everything; who listens goes on listening."""
        self._values, self._until = {}, {}

    def evict(self, share: float) -> int:
        """Forget about that share of its keys, as one that is full does; how many went."""
        draws = self.loop.draws("valkey evicts")
        gone = [name for name in self._values if draws.random() < share]
        for name in gone:
            self._forget(name)
        return len(gone)

    # -- commands ------------------------------------------------------------------------------------------------------

    def do(self, command: tuple[Any, ...]) -> Any:
        """What one command gives. Raises ResponseError."""
        match [str(command[0]).upper(), *command[1:]]:
            case ["PING"]:
                return b"PONG"
            case ["TIME"]:
                now = self.process.wall()
                return int(now), int(now % 1 * 1e6)
            case ["GET", name]:
                return self._found(name)
            case ["SET", name, value, nx, px]:
                if nx and self._found(name) is not None:
                    return None
                self._put(name, _octets(value), px)
                return True
            case ["DEL" | "UNLINK", *names]:
                return sum([self._forget(name) for name in names])
            case ["PTTL", name]:
                return -2 if self._found(name) is None else self._left_ms(name)
            case ["HVALS", name]:
                return list(self._hash(name).values())
            case ["PUBLISH", channel, message]:
                return self._publish(channel, _octets(message))
            case ["EVAL", script, _, *more]:
                return _SCRIPTS[script](self, *more)
            case _:
                raise ResponseError(f"the simulated Valkey does not know {command[0]}: see valkey.py")

    def _found(self, name: str) -> Any:
        until = self._until.get(name)
        if until is not None and self.loop.now >= until:
            self._forget(name)
        return self._values.get(name)

    def _hash(self, name: str) -> dict[bytes, bytes]:
        found = self._found(name)
        return found if isinstance(found, dict) else {}

    def _left_ms(self, name: str) -> int:
        until = self._until.get(name)
        return -1 if until is None else max(0, round((until - self.loop.now) * 1000))

    def _put(self, name: str, value: Value, px: int | None) -> None:
        self._values[name] = value
        if px is None:
            self._until.pop(name, None)
        else:
            self._until[name] = self.loop.now + px / 1000

    def _forget(self, name: str) -> int:
        self._until.pop(name, None)
        return int(self._values.pop(name, None) is not None)

    def _publish(self, channel: str, message: bytes) -> int:
        heard = self.channels.get(channel, {})
        for backend in heard:
            backend.session.push({"type": "message", "channel": channel.encode(), "data": message})
        return len(heard)

    # -- scripts, as their Lua says ------------------------------------------------------------------------------------

    def keep(self, name: str, variant: bytes, position: str, value: bytes, px: int, most: int) -> int:
        """`edge.store.regional._KEEP`"""
        records = self._hash(name)
        held = records.get(variant)
        if held is not None and held[:POSITION_CHARACTERS] > position.encode():
            return 0
        if held is None and len(records) >= most:
            self._forget(name)
        seconds, microseconds = self.do(("TIME",))
        records = dict(self._hash(name))
        records[variant] = b"%s %010d.%06d %s" % (position.encode(), seconds, microseconds, value)
        left = self._left_ms(name) if self._found(name) is not None else -1
        self._put(name, records, max(left, px))
        return 1

    def release(self, claim: str, landings: str, token: str, name: str) -> int:
        """`edge.store.regional._RELEASE`"""
        if self._found(claim) != token.encode():
            return 0
        self._forget(claim)
        self._publish(landings, name.encode())
        return 1

    def put(self, name: str, value: bytes, px: int) -> int:
        """`origin.shelf._PUT`"""
        held = self._found(name)
        if isinstance(held, bytes) and _is_position(held) and held[:28] > value[:POSITION_CHARACTERS]:
            return 0
        self._put(name, value, px)
        return 1


_SCRIPTS: Mapping[str, Callable[..., int]] = {
    regional._KEEP: SimValkey.keep,
    regional._RELEASE: SimValkey.release,
    shelf._PUT: SimValkey.put,
}
"""By their own text: one that changes is unknown here."""


def _is_position(held: bytes) -> bool:
    epoch, dot, cv = held[:9], held[9:10], held[10:POSITION_CHARACTERS]
    return len(held) >= POSITION_CHARACTERS and dot == b"." and epoch.isdigit() and cv.isdigit()


def _octets(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


class _Backend:
    """What the server keeps for one connection."""

    def __init__(self, server: SimValkey, session: Session) -> None:
        self._server = server
        self.session = session

    def run(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        """What each gives, or the error that it gives."""
        given: list[Any] = []
        for command in commands:
            try:
                given.append(self._server.do(command))
            except ResponseError as exc:
                given.append(exc)
        return given

    def subscribe(self, channel: str) -> None:
        self._server.channels.setdefault(channel, {})[self] = None
        self.session.push({"type": "subscribe", "channel": channel.encode(), "data": 1})

    def ping(self) -> None:
        self.session.push({"type": "pong", "channel": b"", "data": b""})

    def cancel(self) -> None:
        """Nothing takes long here."""

    def hung_up(self) -> None:
        for heard in self._server.channels.values():
            heard.pop(self, None)


class SimRedis:
    """`redis.asyncio.Redis`: one connection for commands, made when it is needed, and one for each pubsub.

    `timeout_s`: of every command, as `socket_timeout`; None: none.
    """

    def __init__(self, network: Network, url: str, timeout_s: float | None = None, connect_s: float = 1.0) -> None:
        self._network = network
        self._address = urlsplit(url).hostname or ""
        self._timeout_s = timeout_s
        self._connect_s = connect_s
        self._session: Session | None = None

    async def get(self, name: str) -> Any:
        return await self.execute_command("GET", name)

    async def delete(self, *names: str) -> Any:
        return await self.execute_command("DEL", *names)

    async def unlink(self, *names: str) -> Any:
        return await self.execute_command("UNLINK", *names)

    async def ping(self) -> Any:
        return await self.execute_command("PING")

    async def publish(self, channel: str, message: str) -> Any:
        return await self.execute_command("PUBLISH", channel, message)

    async def execute_command(self, *command: Any) -> Any:
        """Raises what redis-py raises."""
        [given] = await self.run([command])
        if isinstance(given, ResponseError):
            raise given
        return given

    def pipeline(self, *, transaction: bool = True) -> _Pipeline:
        assert not transaction
        return _Pipeline(self)

    def pubsub(self) -> _PubSub:
        return _PubSub(self)

    async def aclose(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()

    async def run(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        """What commands that are sent together give. Raises redis-py's ConnectionError and TimeoutError."""
        try:
            async with asyncio.timeout(self._timeout_s):
                if self._session is None or self._session.broken:
                    self._session = await self.open()
                session = self._session
                given: list[Any] = await session.call(session.served.run, commands)
        except TimeoutError as exc:
            raise RedisTimeout(f"Timeout reading from {self._address}") from exc
        except OSError as exc:
            raise RedisConnectionError(f"Connection closed by {self._address}: {exc}") from exc
        return given

    async def open(self) -> Session:
        """A connection of its own. Raises OSError."""
        async with asyncio.timeout(self._connect_s):
            return await self._network.open(self._address)


class _Pipeline:
    """Commands that are sent together."""

    def __init__(self, client: SimRedis) -> None:
        self._client = client
        self._commands: list[tuple[Any, ...]] = []

    def execute_command(self, *command: Any) -> None:
        self._commands.append(command)

    def hvals(self, name: str) -> None:
        self._commands.append(("HVALS", name))

    def time(self) -> None:
        self._commands.append(("TIME",))

    def set(self, name: str, value: str, *, nx: bool = False, px: int | None = None) -> None:
        self._commands.append(("SET", name, value, nx, px))

    def pttl(self, name: str) -> None:
        self._commands.append(("PTTL", name))

    async def execute(self, *, raise_on_error: bool = True) -> list[Any]:
        """Raises what redis-py raises."""
        commands, self._commands = self._commands, []
        given = await self._client.run(commands)
        for answer in given:
            if raise_on_error and isinstance(answer, ResponseError):
                raise answer
        return given


class _PubSub:
    """Listens over a connection of its own."""

    def __init__(self, client: SimRedis) -> None:
        self._client = client
        self._session: Session | None = None
        self._inbox: deque[Any] = deque()
        self._waiter: asyncio.Future[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def subscribe(self, channel: str) -> None:
        """Raises redis-py's ConnectionError."""
        try:
            self._session = await self._client.open()
        except OSError as exc:
            raise RedisConnectionError(str(exc) or "Timeout connecting to server") from exc
        self._session.pushed = self._take
        self._session.tell(self._session.served.subscribe, channel)

    async def ping(self) -> None:
        """Raises redis-py's ConnectionError."""
        if self._session is None or self._session.broken:
            raise RedisConnectionError("not connected")
        self._session.tell(self._session.served.ping)

    async def get_message(self, *, timeout: float | None = None) -> Any:
        """The next message; None: there was none in time. Raises redis-py's ConnectionError."""
        try:
            async with asyncio.timeout(timeout):
                while not self._inbox:
                    self._waiter = asyncio.get_running_loop().create_future()
                    await self._waiter
        except TimeoutError:
            return None
        message = self._inbox.popleft()
        if message is None:
            raise RedisConnectionError("Connection closed by server.")
        return message

    async def listen(self) -> AsyncIterator[Any]:
        while True:
            yield await self.get_message()

    async def aclose(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def _take(self, message: Any) -> None:
        self._inbox.append(message)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
