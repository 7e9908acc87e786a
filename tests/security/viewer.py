"""Viewers that say exactly what they are told to, from an address of their own, and read strictly."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass

from tests.security.strict import Answer, Fault, read_answer

HERE = "127.0.0.1"
"""Nobody whom the edge trusts: attackers come from here."""
HOP = "127.0.0.2"
"""The trusted hop: what it writes into X-Forwarded-For is believed."""
Lines = Iterable[tuple[str, str]]


def request_bytes(method: str, target: str, host: str, lines: Lines = (), body: bytes = b"") -> bytes:
    """Byte for byte what is given, with Host first."""
    text = "".join(f"{name}: {value}\r\n" for name, value in (("Host", host), *lines))
    return f"{method} {target} HTTP/1.1\r\n{text}\r\n".encode("latin-1") + body


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self.data = b""
        self.ended = False
        self.changed = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.data += data
        self.changed.set()

    def eof_received(self) -> bool:
        self.ended = True
        self.changed.set()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended = True
        self.changed.set()

    @property
    def is_over(self) -> bool:
        """Whether nobody can be asked here any more: it ended, or says what nobody asked for."""
        return self.ended or bool(self.data)

    async def answer(self, method: str) -> Answer | None:
        """The next final response; None: the connection ended without one. Raises Fault for what cannot be read."""
        while True:
            found = read_answer(self.data, method, ended=self.ended)
            if found is not None:
                answer, end = found
                self.data = self.data[end:]
                return answer
            if self.ended:
                if self.data:
                    raise Fault(f"cut short: {self.data[:80]!r}")
                return None
            self.changed.clear()
            await self.changed.wait()


@dataclass(frozen=True, slots=True)
class Talk:
    """What came back on a connection, in its order; whether the edge `closed` it; what of it could not be read."""

    answers: tuple[Answer, ...]
    closed: bool
    fault: str = ""


class Viewers:
    """Connections from one local address to one edge, kept alive and used again."""

    def __init__(self, address: tuple[str, int], local: str = HERE, within_s: float = 20.0) -> None:
        self.address = address
        self.asked = 0
        self._local = local
        self._idle: list[_Connection] = []
        self._within_s = within_s

    async def connect(self) -> _Connection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(_Connection, *self.address, local_addr=(self._local, 0))
        return connection

    def close(self) -> None:
        for connection in self._idle:
            connection.transport.abort()
        self._idle.clear()

    async def ask(self, data: bytes, method: str = "GET") -> Answer:
        """The response to one request on a kept connection; status 0: hung up without a word, status -1: with one that
        cannot be read."""
        self.asked += 1
        while True:
            kept = bool(self._idle)
            connection = self._idle.pop() if kept else await self.connect()
            if connection.is_over:
                connection.transport.abort()
                continue
            connection.transport.write(data)
            try:
                async with asyncio.timeout(self._within_s):
                    answer = await connection.answer(method)
            except Fault as exc:
                connection.transport.abort()
                return Answer(-1, (), str(exc).encode(), True)
            if answer is None:
                if kept:
                    continue  # it was closed while nobody used it
                return Answer(0, (), b"", True)
            if answer.closes or connection.is_over:
                connection.transport.abort()
            else:
                self._idle.append(connection)
            return answer

    async def get(self, target: str, host: str, lines: Lines = (), method: str = "GET") -> Answer:
        return await self.ask(request_bytes(method, target, host, lines), method)

    async def talk(self, data: bytes, methods: Iterable[str] = (), *, half_close: bool, within_s: float = 5.0) -> Talk:
        """Say `data` on a connection of its own and read until the edge hangs up, or nothing more comes for `within_s`
        seconds. `methods`: of the requests in it, GET where there is none. `half_close`: nothing follows it."""
        self.asked += 1
        connection = await self.connect()
        answers: list[Answer] = []
        expected = iter(methods)
        fault = ""
        closed = False
        try:
            connection.transport.write(data)
            if half_close:
                connection.transport.write_eof()
            async with asyncio.timeout(within_s):
                while True:
                    answer = await connection.answer(next(expected, "GET"))
                    if answer is None:
                        closed = True
                        break
                    answers.append(answer)
        except Fault as exc:
            fault = str(exc)
            closed = connection.ended
        except (TimeoutError, OSError):
            closed = connection.ended
        finally:
            connection.transport.abort()
        return Talk(tuple(answers), closed, fault)


@contextlib.asynccontextmanager
async def viewers(address: tuple[str, int], local: str = HERE) -> AsyncIterator[Viewers]:
    made = Viewers(address, local)
    try:
        yield made
    finally:
        made.close()
