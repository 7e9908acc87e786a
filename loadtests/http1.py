"""A small HTTP/1.1 client on asyncio streams: one connection, one request at a time, times taken where they matter.

Cheap, because the observer shares its two cores with the shop it observes. It knows what the judge needs and no
more: the moment just before the first byte of a request left, and the moment its answer was complete.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

MAX_HEAD_BYTES = 65_536
CONNECT_TIMEOUT_S = 5.0


class NoAnswer(Exception):
    """The other side gave no complete answer. Reads: http://127.0.0.1:8082/eu-eur/: connection reset."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete response with the two moments it is judged by (this process's monotonic clock, seconds)."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case; repeated lines joined by a comma."""
    body: bytes
    sent_at: float
    received_at: float


class Connection:
    """A kept-alive connection to one authority; opened when first used, opened again after a failure.

    `authority`: what is asked for there, if it is called otherwise.
    """

    def __init__(self, base_url: str, timeout_s: float = 15.0, *, authority: str | None = None) -> None:
        self._host, self._port, found = parts_of(base_url)
        self._authority = authority or found
        self.base_url = base_url.rstrip("/")
        self.timeout_s = timeout_s
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        writer, self._reader, self._writer = self._writer, None, None
        if writer is not None:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def request(
        self, method: str, target: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Answer:
        """One exchange. Raises NoAnswer; the connection is then closed and the next request opens another.

        A kept-alive connection that the other side had closed meanwhile is opened again, once, and only if no byte of
        an answer had come: the other side may have handled the request, so a write is not repeated.
        """
        lines = [f"{method} {target} HTTP/1.1", f"Host: {self._authority}", "User-Agent: nearshelf-loadtests"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        text = "\r\n".join((*lines, "", "")).encode("ascii") + (body or b"")
        reused = self._writer is not None
        try:
            async with asyncio.timeout(self.timeout_s):
                try:
                    return await self._exchange(method, text)
                except (ConnectionError, asyncio.IncompleteReadError):
                    if not reused or method not in {"GET", "HEAD"}:
                        raise
                    await self.close()
                    return await self._exchange(method, text)
        except TimeoutError as exc:
            await self.close()
            raise NoAnswer(f"{method} {self.base_url}{target}: no answer within {self.timeout_s:g} s") from exc
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError) as exc:
            await self.close()
            raise NoAnswer(f"{method} {self.base_url}{target}: {str(exc) or type(exc).__name__}") from exc
        except asyncio.CancelledError:
            await self.close()
            raise

    async def _exchange(self, method: str, text: bytes) -> Answer:
        if self._reader is None or self._writer is None:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                self._reader, self._writer = await asyncio.open_connection(self._host, self._port, limit=MAX_HEAD_BYTES)
        reader, writer = self._reader, self._writer
        sent_at = time.monotonic()
        writer.write(text)
        await writer.drain()
        status, headers = parse_head(await reader.readuntil(b"\r\n\r\n"))
        while 100 <= status < 200:
            status, headers = parse_head(await reader.readuntil(b"\r\n\r\n"))
        keep = "close" not in headers.get("connection", "").lower()
        body = b""
        if method != "HEAD" and status not in {204, 304}:
            if headers.get("transfer-encoding", "").lower() == "chunked":
                body = await _chunked(reader)
            elif "content-length" in headers:
                body = await reader.readexactly(int(headers["content-length"]))
            else:
                body, keep = await reader.read(-1), False
        received_at = time.monotonic()
        if not keep:
            await self.close()
        return Answer(status, headers, body, sent_at, received_at)


def parts_of(base_url: str) -> tuple[str, int, str]:
    """Host, port and authority of `http://HOST:PORT`. Raises ValueError for anything else."""
    parts = urlsplit(base_url)
    if parts.scheme != "http" or parts.hostname is None:
        raise ValueError(f"{base_url}: expected http://HOST:PORT")
    return parts.hostname, parts.port or 80, parts.netloc


def parse_head(head: bytes) -> tuple[int, dict[str, str]]:
    """Status and header fields of a response head. Raises ValueError when it is not one."""
    first, *lines = head.decode("latin-1").split("\r\n")
    version, _, rest = first.partition(" ")
    if version not in {"HTTP/1.1", "HTTP/1.0"} or not rest[:3].isdigit():
        raise ValueError(f"not a status line: {first[:60]!r}")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            key = name.lower()
            headers[key] = f"{headers[key]}, {value.strip()}" if key in headers else value.strip()
    if version == "HTTP/1.0":
        headers.setdefault("connection", "close")
    return int(rest[:3]), headers


async def _chunked(reader: asyncio.StreamReader) -> bytes:
    parts: list[bytes] = []
    while True:
        size = int((await reader.readuntil(b"\r\n")).split(b";")[0], 16)
        if size == 0:
            while await reader.readuntil(b"\r\n") != b"\r\n":
                pass  # a trailer field
            return b"".join(parts)
        parts.append(await reader.readexactly(size))
        await reader.readexactly(2)
