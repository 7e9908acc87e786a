"""A viewer that writes bytes and reads responses one by one: for requests that no well-behaved client would send."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass


@dataclass(frozen=True)
class RawResponse:
    """Field names are lower case; of repeated fields the last counts in `headers`, all are in `pairs`."""

    status: int
    headers: dict[str, str]
    body: bytes
    pairs: tuple[tuple[str, str], ...] = ()

    @property
    def cache_status(self) -> str:
        return self.headers.get("cache-status", "")

    @property
    def is_hit(self) -> bool:
        return "; hit" in self.cache_status

    @property
    def detail(self) -> str:
        return next((part[7:] for part in self.cache_status.split("; ") if part.startswith("detail=")), "")


class RawViewer:
    """One connection. `async with await RawViewer.open(address) as viewer`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, address: tuple[str, int]) -> RawViewer:
        return cls(*await asyncio.open_connection(*address))

    async def __aenter__(self) -> RawViewer:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.transport.abort()

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    def get(self, target: str, host: str, *lines: str, method: str = "GET") -> None:
        self.send("\r\n".join((f"{method} {target} HTTP/1.1", f"Host: {host}", *lines, "", "")).encode("latin-1"))

    async def response(self, *, to: str = "GET", within_s: float = 5.0) -> RawResponse:
        """The next response. Raises IncompleteReadError when it is cut short."""
        async with asyncio.timeout(within_s):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            status_line, *lines = head[:-4].split("\r\n")
            status = int(status_line.split(" ")[1])
            if status == 100:
                return RawResponse(100, {}, b"")
            pairs = tuple((line.partition(":")[0].lower(), line.partition(":")[2].strip()) for line in lines)
            headers = dict(pairs)
            body = b""
            if to == "HEAD" or status in (204, 304):
                pass
            elif headers.get("transfer-encoding") == "chunked":
                while size := int((await self.reader.readuntil(b"\r\n")).strip(), 16):
                    body += (await self.reader.readexactly(size + 2))[:-2]
                await self.reader.readuntil(b"\r\n")
            elif "content-length" in headers:
                body = await self.reader.readexactly(int(headers["content-length"]))
            else:
                body = await self.reader.read()
            return RawResponse(status, headers, body, pairs)

    async def is_closed(self, within_s: float = 5.0) -> bool:
        """Whether the other side hangs up, with nothing more to read."""
        async with asyncio.timeout(within_s):
            try:
                return await self.reader.read(1) == b""
            except ConnectionError:
                return True
