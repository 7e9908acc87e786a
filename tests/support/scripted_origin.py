"""An origin that answers as it is told: a real HTTP/1.1 server on loopback, with barriers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from email.utils import formatdate


@dataclass(frozen=True)
class Seen:
    """A request as the origin received it. Field names are lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    pairs: tuple[tuple[str, str], ...] = ()

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def minimum(self) -> str | None:
        return self.headers.get("min-catalog-version")


class Pace:
    """How far an origin has got with a body: nothing is sent beyond `allowed` bytes until `to` says so."""

    def __init__(self, allowed: int = 0) -> None:
        self.allowed = allowed
        self.is_cut = False
        self._moved = asyncio.Event()

    def to(self, allowed: int) -> None:
        self.allowed = allowed
        self._moved.set()

    def cut(self) -> None:
        """Hang up in the middle."""
        self.is_cut = True
        self._moved.set()

    async def beyond(self, sent: int) -> int:
        """How much may be sent, as soon as that is more than `sent`. Raises ConnectionError when it is cut."""
        while self.allowed <= sent and not self.is_cut:
            self._moved.clear()
            await self._moved.wait()
        if self.allowed <= sent:
            raise ConnectionResetError
        return self.allowed


@dataclass(frozen=True)
class Reply:
    """What to answer. `cut_after` sends so many body bytes of the announced length and hangs up."""

    body: bytes = b"hello"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    chunked: bool = False
    cut_after: int | None = None
    reset: bool = False
    """Hang up without a word."""
    pace: Pace | None = None
    hints: tuple[tuple[str, str], ...] = ()
    """Fields of a 103 that comes first."""
    until_close: bool = False
    """No length at all: the body ends with the connection."""
    extra: tuple[tuple[str, str], ...] = ()
    """More field lines, repeated names included."""


def page(
    body: bytes = b"<p>hello</p>",
    *,
    position: str = "1.5",
    tags: str = "p:eu-eur:sku-1",
    cdn: str = "max-age=60",
    etag: str | None = '"v1"',
    status: int = 200,
    **headers: str,
) -> Reply:
    """A storable answer as the shop's origin labels it. Keyword `cache_control="..."` sets the field cache-control."""
    fields = {
        "content-type": "text/html; charset=utf-8",
        "date": formatdate(usegmt=True),
        "catalog-version": position,
        "cache-tag": tags,
        "cdn-cache-control": cdn,
        "cache-control": "no-cache",
    }
    if etag is not None:
        fields["etag"] = etag
    fields.update({name.replace("_", "-"): value for name, value in headers.items()})
    return Reply(body, status, {name: value for name, value in fields.items() if value})


class Held:
    """Requests of one path stopped at the origin. `arrived()` waits for one; `answer()` lets all of them go on, and
    whatever comes after that is not held."""

    def __init__(self) -> None:
        self._arrived: asyncio.Queue[Seen] = asyncio.Queue()
        self._released = asyncio.Event()
        self.reply: Reply | None = None
        self.seen: list[Seen] = []

    async def arrived(self) -> Seen:
        async with asyncio.timeout(5):
            return await self._arrived.get()

    def answer(self, reply: Reply | None = None) -> None:
        """Go on, with `reply` or with what the origin's script says by now."""
        self.reply = reply
        self._released.set()

    async def _wait(self, seen: Seen) -> Reply | None:
        if self._released.is_set():
            return None
        self.seen.append(seen)
        self._arrived.put_nowait(seen)
        await self._released.wait()
        return self.reply


Script = Reply | Callable[[Seen], Reply]


class ScriptedOrigin:
    """Use as an async context manager. `on(path, reply)` scripts a path; everything received is in `seen`."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.connections = 0
        self.otherwise: Script = Reply(b"nothing here", 404, {"cache-control": "no-store"})
        """For every path without a script."""
        self._scripts: dict[str, Script] = {}
        self._held: dict[str, Held] = {}
        self._server: asyncio.Server | None = None
        self._port = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def on(self, path: str, script: Script) -> None:
        self._scripts[path] = script

    def count(self, path: str) -> int:
        return sum(seen.path == path for seen in self.seen)

    def last(self, path: str) -> Seen:
        return [seen for seen in self.seen if seen.path == path][-1]

    @contextmanager
    def holding(self, path: str) -> Iterator[Held]:
        """While in it, requests of `path` wait at the origin until `answer` is called, at the latest at its end."""
        held = self._held[path] = Held()
        try:
            yield held
        finally:
            del self._held[path]
            if not held._released.is_set():
                held.answer()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    async def __aenter__(self) -> ScriptedOrigin:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Refuses connections from now on; `start` brings it back on the same port."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            while await self._one(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        request_line, *lines = head[:-4].split("\r\n")
        method, target, _ = request_line.split(" ")
        pairs = tuple((line.partition(":")[0].lower(), line.partition(":")[2].strip()) for line in lines)
        headers = dict(pairs)
        body = b""
        if "content-length" in headers:
            body = await reader.readexactly(int(headers["content-length"]))
        elif headers.get("transfer-encoding") == "chunked":
            while size := int((await reader.readuntil(b"\r\n")).strip(), 16):
                body += (await reader.readexactly(size + 2))[:-2]
            await reader.readline()
        seen = Seen(method, target, headers, body, pairs)
        self.seen.append(seen)
        reply: Reply | None = None
        if seen.path in self._held:
            reply = await self._held[seen.path]._wait(seen)
        if reply is None:
            script = self._scripts.get(seen.path, self.otherwise)
            reply = script if isinstance(script, Reply) else script(seen)
        if reply.reset:
            return False
        return await self._write(writer, seen, reply)

    async def _write(self, writer: asyncio.StreamWriter, seen: Seen, reply: Reply) -> bool:
        if reply.hints:
            hints = "".join(f"{name}: {value}\r\n" for name, value in reply.hints)
            writer.write(f"HTTP/1.1 103 Early Hints\r\n{hints}\r\n".encode())
        lines = [f"HTTP/1.1 {reply.status} Scripted"]
        lines += [f"{name}: {value}" for name, value in (*reply.headers.items(), *reply.extra)]
        bodiless = seen.method == "HEAD" or reply.status in (204, 304)
        if reply.chunked:
            lines.append("transfer-encoding: chunked")
        elif not reply.until_close and reply.status not in (204, 304):
            lines.append(f"content-length: {len(reply.body)}")
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
        if not bodiless:
            body = reply.body if reply.cut_after is None else reply.body[: reply.cut_after]
            if reply.pace is not None:
                sent = 0
                while sent < len(body):
                    part = body[sent : await reply.pace.beyond(sent)]
                    writer.write(b"%x\r\n%b\r\n" % (len(part), part) if reply.chunked else part)
                    sent += len(part)
                    await writer.drain()
                if reply.chunked:
                    writer.write(b"0\r\n\r\n")
            elif reply.chunked:
                for start in range(0, len(body), 1000):
                    part = body[start : start + 1000]
                    writer.write(b"%x\r\n%b\r\n" % (len(part), part))
                if reply.cut_after is None:
                    writer.write(b"0\r\n\r\n")
            else:
                writer.write(body)
        await writer.drain()
        if reply.cut_after is not None or reply.until_close:
            writer.close()
            await writer.wait_closed()
            return False
        return True


def changed(reply: Reply, **fields: object) -> Reply:
    """`reply` with other values."""
    return replace(reply, **fields)  # type: ignore[arg-type]  # any of its fields
