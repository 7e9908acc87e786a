"""The origin of all cases: answers as each case says, and keeps the record by which caches are judged."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.conformance.script import Answer, At, Field, Framing, Place, text_of

SERIAL_FIELD = "Origin-Answer"
NOBODYS = Answer(fields=(("Cache-Control", "no-store"),))
"""What is answered to a request that the case did not foresee."""


@dataclass(slots=True)
class Asked:
    """A request that reached the origin."""

    method: str
    target: str
    pairs: list[tuple[str, str]]
    body: bytes
    at: float
    serial: int = 0
    """0: answered by 304, or not at all."""
    status: int = 0
    answered_at: float = float("inf")
    """When the head of the answer was sent."""
    done_at: float = float("inf")
    """When everything was, or the connection broken."""

    @property
    def is_conditional(self) -> bool:
        return any(name in {"if-none-match", "if-modified-since"} for name, _ in self.pairs)

    def lines(self, name: str) -> list[str]:
        return [value for key, value in self.pairs if key == name.lower()]


@dataclass(slots=True)
class Scene:
    """One case under way: what is to be answered, and what was asked."""

    name: str
    authority: str = ""
    """The cache's, as viewers name it."""
    began: float = field(default_factory=time.time)
    asked: list[Asked] = field(default_factory=list)
    given: dict[int, tuple[Answer, bytes]] = field(default_factory=dict)
    """By serial number: the answer, and its whole body."""
    scripts: dict[tuple[str, str], deque[Answer]] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def path(self) -> str:
        return f"/{self.name}"

    def play(self, method: str, target: str, answers: tuple[Answer, ...]) -> None:
        """From now on `method` on `target` is answered so."""
        self.scripts[method, target] = deque(answers or (NOBODYS,))

    def answer_to(self, asked: Asked) -> Answer:
        """A cache may turn HEAD into GET, so either stands in for the other."""
        target = asked.target.removeprefix(self.path)
        methods = (asked.method, "GET", "HEAD") if asked.method in {"GET", "HEAD"} else (asked.method,)
        script = next((found for method in methods if (found := self.scripts.get((method, target)))), None)
        if script is None:
            return NOBODYS
        return script.popleft() if len(script) > 1 else script[0]


class Origin:
    """Use as an async context manager; `scene` begins a case."""

    def __init__(self) -> None:
        self._scenes: dict[str, Scene] = {}
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    async def __aenter__(self) -> Origin:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, limit=1 << 20)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Refuses connections and ends those that are open; `open` takes the same port again."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @contextlib.contextmanager
    def scene(self, name: str, authority: str) -> Iterator[Scene]:
        scene = self._scenes[name] = Scene(name, authority)
        try:
            yield scene
        finally:
            del self._scenes[name]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while await self._one(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        request_line, *lines = head[:-4].split("\r\n")
        method, target, version = request_line.split(" ")
        if target.startswith("http://"):
            target = "/" + target.split("/", 3)[3]
        pairs = [(line.partition(":")[0].lower(), line.partition(":")[2].strip(" \t")) for line in lines]
        fields = dict(pairs)
        if "100-continue" in fields.get("expect", ""):
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await _body(reader, fields)
        asked = Asked(method, target, pairs, body, time.monotonic())
        stays = version == "HTTP/1.1" and "close" not in fields.get("connection", "").lower()
        scene = self._scenes.get(target.lstrip("/").partition("/")[0].partition("?")[0])
        if scene is None:
            # A refresh that comes after its case has ended, or the runner's own question whether anybody is there.
            writer.write(b"HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nContent-Length: 0\r\n\r\n")
            return stays
        scene.asked.append(asked)
        scene.changed.set()
        try:
            return await self._answer(writer, scene, asked, scene.answer_to(asked)) and stays
        finally:
            asked.done_at = time.monotonic()
            scene.changed.set()

    async def _answer(self, writer: asyncio.StreamWriter, scene: Scene, asked: Asked, answer: Answer) -> bool:
        if answer.unranged is not None and not asked.lines("range"):
            answer = answer.unranged
        if answer.breaks is not None:
            await asyncio.sleep(answer.delay_s)
            _reset(writer)
            return False
        for status, fields in answer.interim:
            writer.write(_head(status, fields, scene))
        await asyncio.sleep(answer.delay_s)
        if answer.when_conditional is not None and asked.is_conditional:
            asked.status, asked.answered_at = 304, time.monotonic()
            writer.write(_head(304, _dated(answer.when_conditional), scene))
            await writer.drain()
            return True
        serial = asked.serial = len(scene.given) + 1
        bodiless = answer.status in (204, 304)
        body = f"{scene.name} answer {serial}\n".encode() if answer.body is None else answer.body
        if bodiless:
            body = b""
        scene.given[serial] = (answer, body)
        asked.status, asked.answered_at = answer.status, time.monotonic()
        if answer.raw is not None:
            date = _now().encode()
            writer.write(answer.raw.replace(b"{serial}", str(serial).encode()).replace(b"{date}", date))
            await _finished(writer)
            return False
        fields = (*(_dated(answer.fields) if answer.date else answer.fields), (SERIAL_FIELD, str(serial)))
        if answer.framing is Framing.CHUNKED:
            fields = (*fields, ("Transfer-Encoding", "chunked"))
        elif answer.framing is Framing.LENGTH and not bodiless:
            fields = (*fields, ("Content-Length", str(len(body))))
        elif answer.framing is Framing.CLOSE:
            fields = (*fields, ("Connection", "close"))
        writer.write(_head(answer.status, fields, scene))
        if asked.method != "HEAD" and not bodiless:
            await _write_body(writer, answer, body)
        await writer.drain()
        if answer.cut_after is not None and asked.method != "HEAD":
            await _finished(writer)
            return False
        if answer.framing is Framing.CLOSE:
            await _finished(writer)
            return False
        return True


async def _write_body(writer: asyncio.StreamWriter, answer: Answer, body: bytes) -> None:
    sent = body if answer.cut_after is None else body[: answer.cut_after]
    half = len(sent) // 2
    for number, part in enumerate((sent[:half], sent[half:]) if answer.pause_s else (sent,)):
        if number:
            await writer.drain()
            await asyncio.sleep(answer.pause_s)
        if part:
            writer.write(b"%x\r\n%b\r\n" % (len(part), part) if answer.framing is Framing.CHUNKED else part)
    if answer.framing is Framing.CHUNKED and answer.cut_after is None:
        writer.write(b"0\r\n\r\n")


async def _finished(writer: asyncio.StreamWriter) -> None:
    await writer.drain()
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


def _reset(writer: asyncio.StreamWriter) -> None:
    """End the connection with RST, as a process that dies does."""
    raw = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def _now() -> str:
    return time.strftime(At(0).form, time.gmtime())


def _dated(fields: tuple[Field, ...]) -> tuple[Field, ...]:
    if any(name.lower() == "date" for name, _ in fields):
        return fields
    return (("Date", _now()), *fields)


def _head(status: int, fields: tuple[Field, ...], place: Place) -> bytes:
    lines = [f"HTTP/1.1 {status} Scripted"]
    lines += [f"{name}: {text_of(value, place)}" for name, value in fields]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


async def _body(reader: asyncio.StreamReader, fields: dict[str, str]) -> bytes:
    if "chunked" in fields.get("transfer-encoding", "").lower():
        body = b""
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0].strip(), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        while await reader.readuntil(b"\r\n") != b"\r\n":
            pass
        return body
    return await reader.readexactly(int(fields.get("content-length") or 0))
