"""A Redis that does as it is told: it answers late, or never."""

from __future__ import annotations

import asyncio
import contextlib


class ScriptedRedis:
    """A server that answers GET when it is let: `hold` names whose answers wait."""

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}
        self.hold: set[bytes] = set()
        self.holds_everything = False
        self.released = asyncio.Event()
        self.asked: list[bytes] = []
        self._server: asyncio.Server
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> ScriptedRedis:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.released.set()
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.sleep(0)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                count = int((await reader.readuntil(b"\r\n"))[1:])
                words = []
                for _ in range(count):
                    size = int((await reader.readuntil(b"\r\n"))[1:])
                    words.append((await reader.readexactly(size + 2))[:-2])
                if words[0].upper() != b"GET":
                    writer.write(b"+OK\r\n")
                    continue
                self.asked.append(words[1])
                if self.holds_everything or words[1] in self.hold:
                    await self.released.wait()
                value = self.values.get(words[1])
                writer.write(b"$-1\r\n" if value is None else b"$%d\r\n%b\r\n" % (len(value), value))

    async def stop(self) -> None:
        """Nobody is there any more."""
        self._server.close()
        await self._server.wait_closed()
