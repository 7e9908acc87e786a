"""A viewer that writes bytes and takes in everything that comes back, right or wrong."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field

WITHIN_S = 12.0

Pairs = list[tuple[str, str]]


@dataclass(slots=True)
class Got:
    """What came back. `status` 0: no final response."""

    status: int = 0
    pairs: Pairs = field(default_factory=list)
    """Field lines in their order, names in lower case."""
    body: bytes = b""
    complete: bool = False
    """Whether the body ended where its framing said."""
    interim: list[tuple[int, Pairs]] = field(default_factory=list)
    surplus: bytes = b""
    """What followed after the end, although the connection was to be closed."""
    head: bytes = b""
    """The final head as it came."""
    began_at: float = 0.0
    interim_at: float = 0.0
    """When the last interim response came."""
    body_at: float = 0.0
    """When the first byte of the body came."""
    done_at: float = 0.0
    trouble: str = ""

    def lines(self, name: str) -> list[str]:
        return [value for key, value in self.pairs if key == name.lower()]

    def one(self, name: str) -> str | None:
        found = self.lines(name)
        return ", ".join(found) if found else None


async def exchange(
    address: tuple[str, int], request: bytes, method: str, *, hangs_up_after_s: float | None = None
) -> Got:
    """Send `request` on a new connection and read to its end. Never raises: what went wrong is in the result."""
    got = Got(began_at=time.monotonic())
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(WITHIN_S if hangs_up_after_s is None else hangs_up_after_s):
            reader, writer = await asyncio.open_connection(*address, limit=1 << 20)
            writer.write(request)
            await _read(reader, got, method)
    except TimeoutError:
        got.trouble = got.trouble or "no end in time"
    except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError) as exc:
        got.trouble = got.trouble or f"{type(exc).__name__}: {exc}"
    finally:
        got.done_at = got.done_at or time.monotonic()
        if writer is not None:
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
    return got


async def _read(reader: asyncio.StreamReader, got: Got, method: str) -> None:
    while True:
        head = await reader.readuntil(b"\r\n\r\n")
        status, pairs = _parsed(head)
        if status >= 200:
            break
        got.interim.append((status, pairs))
        got.interim_at = time.monotonic()
    got.status, got.pairs, got.head = status, pairs, head
    if method == "HEAD" or status in (204, 304):
        got.complete = True
    elif "chunked" in (got.one("transfer-encoding") or "").lower():
        await _read_chunks(reader, got)
    elif (length := got.one("content-length")) is not None:
        await _read_length(reader, got, int(length))
    else:
        got.body = await _read_some(reader, got)
        got.body += await reader.read()
        got.complete = True
    got.done_at = time.monotonic()
    # The request asked for the end of the connection: whatever comes before that end belongs to nothing.
    with contextlib.suppress(ConnectionError, TimeoutError):
        async with asyncio.timeout(2.0):
            got.surplus = await reader.read()


async def _read_some(reader: asyncio.StreamReader, got: Got) -> bytes:
    data = await reader.read(65_536)
    got.body_at = got.body_at or time.monotonic()
    return data


async def _read_length(reader: asyncio.StreamReader, got: Got, length: int) -> None:
    while len(got.body) < length:
        data = await reader.read(min(65_536, length - len(got.body)))
        got.body_at = got.body_at or time.monotonic()
        if not data:
            got.trouble = f"cut after {len(got.body)} of {length} bytes"
            return
        got.body += data
    got.complete = True


async def _read_chunks(reader: asyncio.StreamReader, got: Got) -> None:
    while True:
        line = await reader.readuntil(b"\r\n")
        size = int(line.split(b";")[0].strip(), 16)
        got.body_at = got.body_at or time.monotonic()
        if size == 0:
            break
        got.body += await reader.readexactly(size)
        if await reader.readexactly(2) != b"\r\n":
            raise ValueError("a chunk that is longer than it says")
    while await reader.readuntil(b"\r\n") != b"\r\n":
        pass
    got.complete = True


def _parsed(head: bytes) -> tuple[int, Pairs]:
    status_line, *lines = head[:-4].decode("latin-1").split("\r\n")
    pairs = [(line.partition(":")[0].lower(), line.partition(":")[2].strip(" \t")) for line in lines]
    return int(status_line.split(" ")[1]), pairs
