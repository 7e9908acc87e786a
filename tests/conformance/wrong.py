"""Caches that are wrong on purpose: a case that none of them fails cannot fail at all.

Both relay what they get, hop-by-hop fields included, and make whole what was cut. One keeps everything for ever and
shows it to everybody; the other keeps nothing.
"""

from __future__ import annotations

import asyncio
import contextlib

WHOLE_FIELDS = (b"content-length", b"transfer-encoding")


class WrongCache:
    """Use as an async context manager. `keeps`: everything, for ever, by the path alone; or nothing."""

    def __init__(self, origin_port: int, *, keeps: bool) -> None:
        self._origin_port = origin_port
        self._keeps = keeps
        self._kept: dict[bytes, bytes] = {}
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.address = ("127.0.0.1", 0)

    async def __aenter__(self) -> WrongCache:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 20)
        self.address = self._server.sockets[0].getsockname()[:2]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            path = head.split(b" ")[1].partition(b"?")[0]
            answer = self._kept.get(path) if self._keeps else None
            if answer is None:
                answer = await self._forward(head, reader)
                if self._keeps:
                    self._kept[path] = answer
            writer.write(answer)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.CancelledError, ValueError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()
            self._tasks.discard(task)

    async def _forward(self, head: bytes, viewer: asyncio.StreamReader) -> bytes:
        """The origin's answer, made whole: what is not there is an empty page."""
        method = head.split(b" ")[0]
        data, writer = b"", None
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", self._origin_port, limit=1 << 20)
            writer.write(head)
            if b"transfer-encoding: chunked" in head.lower():
                writer.write(await viewer.readuntil(b"0\r\n\r\n"))
            elif length := _field(head, b"content-length"):
                writer.write(await viewer.readexactly(int(length)))
            data = await _everything(reader, method)
        if writer is not None:
            writer.transport.abort()
        while data.startswith((b"HTTP/1.1 1", b"HTTP/1.0 1")):
            data = data.partition(b"\r\n\r\n")[2]
        if b"\r\n\r\n" not in data:
            return b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
        answer_head, _, body = data.partition(b"\r\n\r\n")
        if b"transfer-encoding: chunked" in answer_head.lower():
            body = _unchunked(body)
        lines = [line for line in answer_head.split(b"\r\n") if line.partition(b":")[0].lower() not in WHOLE_FIELDS]
        lines += [b"Date: Thu, 01 Jan 1970 00:00:00 GMT", b"Content-Length: %d" % len(body)]
        return b"\r\n".join(lines) + b"\r\n\r\n" + body


async def _everything(reader: asyncio.StreamReader, method: bytes) -> bytes:
    """All that comes until the answer ends as it says it does, or the connection does."""
    data = b""
    while more := await reader.read(65_536):
        data += more
        head, end, body = data.partition(b"\r\n\r\n")
        while end and head.split(b" ")[1].startswith(b"1"):
            head, end, body = body.partition(b"\r\n\r\n")
        if not end:
            continue
        status, length = head.split(b" ")[1], _field(head + b"\r\n\r\n", b"content-length")
        if method == b"HEAD" or status in (b"204", b"304") or (length is not None and len(body) >= int(length)):
            break
        if b"chunked" in head.lower() and body.endswith(b"0\r\n\r\n"):
            break
    return data


def _field(head: bytes, name: bytes) -> bytes | None:
    for line in head.split(b"\r\n")[1:]:
        key, _, value = line.partition(b":")
        if key.lower() == name:
            return value.strip()
    return None


def _unchunked(body: bytes) -> bytes:
    """What is there of a chunked body."""
    whole = b""
    while (line := body.partition(b"\r\n"))[1]:
        size = int(line[0].split(b";")[0] or b"0", 16)
        whole += line[2][:size]
        body = line[2][size + 2 :]
        if not size:
            break
    return whole
