"""An origin of raw bytes on loopback: every connection is in the test's hands, and nothing is said by itself."""

from __future__ import annotations

import asyncio
import socket
import ssl
from types import TracebackType


class RawConnection:
    """The origin's side of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def request(self) -> bytes:
        """The head of the next request."""
        async with asyncio.timeout(5):
            return await self.reader.readuntil(b"\r\n\r\n")

    async def body(self, length: int) -> bytes:
        async with asyncio.timeout(5):
            return await self.reader.readexactly(length)

    def say(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self, data: bytes) -> bytes:
        """Say `data` to the next request; its head."""
        head = await self.request()
        self.say(data)
        return head

    def hang_up(self) -> None:
        """Close in good order, after what was said."""
        self.writer.close()

    def reset(self) -> None:
        """Close as somebody who crashed."""
        self.writer.transport.abort()

    async def gone(self) -> None:
        """Until the edge hangs up."""
        async with asyncio.timeout(5):
            try:
                while await self.reader.read(65_536):
                    pass
            except ConnectionError:
                pass


class RawOrigin:
    """Use as an async context manager; `accepted()` gives the connections in the order in which they come."""

    def __init__(self, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> None:
        self.connections = 0
        self._host = host
        self._tls = tls
        self._new: asyncio.Queue[RawConnection] = asyncio.Queue()
        self._all: list[RawConnection] = []
        self._server: asyncio.Server | None = None
        self.port = 0

    @property
    def url(self) -> str:
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{'http' if self._tls is None else 'https'}://{host}:{self.port}"

    async def accepted(self) -> RawConnection:
        async with asyncio.timeout(5):
            return await self._new.get()

    async def start(self) -> None:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.connections += 1
            connection = RawConnection(reader, writer)
            self._all.append(connection)
            self._new.put_nowait(connection)

        self._server = await asyncio.start_server(connected, self._host, self.port, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Refuse connections, and hang up on those there are."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for connection in self._all:
            connection.reset()

    async def __aenter__(self) -> RawOrigin:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


def refusing_url() -> str:
    """An address at which nobody listens, and nobody will as long as this process has it."""
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    _kept.append(bound)
    return f"http://127.0.0.1:{bound.getsockname()[1]}"


_kept: list[socket.socket] = []
