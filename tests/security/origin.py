"""The origin behind the edges under attack: believes nothing, records everything, and is as careless as may be.

Its answers show all that it was told of a request, and may be kept by anybody. Whatever of an attacker's request
reaches it unkeyed is therefore in the next viewer's answer, and a difference to that of a fresh edge.
"""

from __future__ import annotations

import asyncio
import zlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import formatdate

from cache_policies.feed import FEED_PATH, PURGE_PATH, Answer, Question
from cache_policies.positions import Position, PurgeEntry, PurgeKind
from tests.security.strict import Fault, Request, read_request

START = Position(1, 5)
UNTOLD = frozenset({"traceparent", "tracestate", "nearshelf-edge-key", "min-catalog-version"})
"""What may never choose an answer: trace context, which is for logs alone, and what the edge itself adds."""


@dataclass(frozen=True, slots=True)
class Received:
    """A request as it was parsed. `connection` and `number`: which one, and the how manieth on it."""

    request: Request
    connection: int
    number: int


@dataclass(frozen=True, slots=True)
class Say:
    """Bytes to say to a request. `hold`: wait for it first. `then_close`: hang up after them."""

    data: bytes
    then_close: bool = False
    hold: asyncio.Event | None = None


Script = Callable[[Request], "Say | None"]
"""None: answer as always."""


def answer_bytes(status: int, fields: dict[str, str], body: bytes, method: str = "GET") -> bytes:
    lines = [f"HTTP/1.1 {status} Said", *(f"{name}: {value}" for name, value in fields.items())]
    if status not in {204, 304} and "content-length" not in fields and "transfer-encoding" not in fields:
        lines.append(f"content-length: {len(body)}")
    head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
    return head if method == "HEAD" or status in {204, 304} else head + body


def storable(body: bytes, **others: str) -> dict[str, str]:
    """Fields with which every cache may keep a response, labelled as the shop's origin labels it."""
    fields = {
        "date": formatdate(usegmt=True),
        "content-type": "text/html; charset=utf-8",
        "catalog-version": str(START),
        "cache-tag": "t:all",
        "cdn-cache-control": "max-age=3600",
        "cache-control": "public, max-age=3600",
        "etag": f'"{zlib.crc32(body):08x}"',
    }
    fields.update({name.replace("_", "-"): value for name, value in others.items()})
    return {name: value for name, value in fields.items() if value}


def told(request: Request) -> bytes:
    """All that was said in a request, in one order."""
    lines = sorted(f"{name}: {value}" for name, value in request.fields if name not in UNTOLD)
    head = "\n".join([f"{request.method} {request.target}", *lines]).encode("latin-1")
    return head + (b"\n\n" + request.body if request.body else b"")


def careless(request: Request) -> Say:
    """The answer to anything: 200, a mirror, storable."""
    body = told(request)
    return Say(answer_bytes(200, storable(body), body, request.method))


LOOKED_AT = ("accept", "accept-language", "authorization", "cookie", "user-agent", "x-http-method-override")
"""What `honest` looks at where a request does not say otherwise."""
GROUPS: dict[str, tuple[str, ...]] = {}
"""What else it looks at in requests whose query says `look=GROUP`."""


def honest(request: Request) -> Say:
    """The same of an origin that says in Vary what it looks at, as one must behind an edge that forwards everything."""
    names = GROUPS.get(request.target.rpartition("look=")[2], LOOKED_AT)
    looked_at = tuple(pair for pair in request.fields if pair[0] in names)
    body = told(Request(request.method, request.target, looked_at, request.body))
    return Say(answer_bytes(200, storable(body, vary=", ".join(names)), body, request.method))


@dataclass
class Origin:
    """Use as an async context manager. `script` may answer in place of `usual`."""

    script: Script | None = None
    usual: Callable[[Request], Say] = careless
    keeps: int = 50_000
    received: deque[Received] = field(default_factory=deque)
    faults: list[str] = field(default_factory=list)
    """What came that a strict reader refuses: the edge may never send such a thing."""
    cut: int = 0
    """Connections that ended in the middle of a request."""
    count: int = 0
    connections: int = 0
    bytes_sent: int = 0
    port: int = 0

    async def __aenter__(self) -> Origin:
        self.received = deque(maxlen=self.keeps)
        self._open: set[_Connection] = set()
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), "127.0.0.1", 0, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for connection in list(self._open):
            connection.hang_up()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def about(self, token: str) -> list[Request]:
        """What was received that names `token` in its target, oldest first."""
        return [each.request for each in self.received if token in each.request.target]


class _Connection(asyncio.Protocol):
    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self.number = 0
        self.data = b""
        self.busy: asyncio.Task[None] | None = None
        self.is_broken = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.origin.connections += 1
        self.id = self.origin.connections
        self.origin._open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.origin._open.discard(self)
        if self.data and not self.is_broken:
            self.origin.cut += 1
        if self.busy is not None:
            self.busy.cancel()

    def hang_up(self) -> None:
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        self.data += data
        self._go_on()

    def _go_on(self) -> None:
        while self.data and self.busy is None and not self.is_broken:
            try:
                found = read_request(self.data)
            except Fault as exc:
                self.is_broken = True
                self.origin.faults.append(str(exc))
                self._say(b"HTTP/1.1 400 Fault\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                self.transport.close()
                return
            if found is None:
                return
            request, end = found
            self.data = self.data[end:]
            self.number += 1
            self.origin.count += 1
            self.origin.received.append(Received(request, self.id, self.number))
            say = (self.origin.script(request) if self.origin.script is not None else None) or self.origin.usual(
                request
            )
            if say.hold is not None:
                self.busy = asyncio.get_running_loop().create_task(self._later(say, say.hold))
                return
            self._do(say)

    async def _later(self, say: Say, hold: asyncio.Event) -> None:
        await hold.wait()
        self.busy = None
        self._do(say)
        self._go_on()

    def _do(self, say: Say) -> None:
        self._say(say.data)
        if say.then_close:
            self.is_broken = True
            self.transport.close()

    def _say(self, data: bytes) -> None:
        self.origin.bytes_sent += len(data)
        self.transport.write(data)


class PurgeLog:
    """The purge log that the edges follow, on a listener of its own. Use as an async context manager."""

    def __init__(self) -> None:
        self.entries: list[PurgeEntry] = []
        self.wishes = 0
        """Purges that reached it from an admin listener."""
        self.asked_after: dict[str, Position] = {}

    @property
    def head(self) -> Position:
        return self.entries[-1].position if self.entries else START

    async def __aenter__(self) -> PurgeLog:
        self._origin = Origin(self._answer, keeps=0)
        await self._origin.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._origin.__aexit__()

    @property
    def url(self) -> str:
        return self._origin.url

    def purge(self, *tags: str) -> Position:
        position = Position(1, self.head.cv + 1)
        self.entries.append(PurgeEntry(position, str(position), PurgeKind.HARD, tags))
        return position

    async def until_applied(self, position: Position) -> None:
        """Until every worker that ever asked has said that it has applied `position`."""
        async with asyncio.timeout(10):
            while any(applied < position for applied in self.asked_after.values()):
                await asyncio.sleep(0.01)

    def _answer(self, request: Request) -> Say:
        if request.target == PURGE_PATH:
            self.wishes += 1
            return Say(
                answer_bytes(400, {"content-type": "application/json"}, b'{"detail": "this log takes no orders"}')
            )
        if request.target != FEED_PATH:
            return Say(answer_bytes(204, {}, b""))
        question = Question.from_json(request.body)
        if question.after is None:
            answer = Answer((), self.head, str(self.head), (self.head, str(self.head)))
        else:
            self.asked_after[question.worker] = max(question.after, self.asked_after.get(question.worker, START))
            new = tuple(entry for entry in self.entries if entry.position > question.after)
            answer = Answer(new, self.head, str(self.head))
        return Say(answer_bytes(200, {"content-type": "application/x-ndjson"}, answer.to_json() + b"\n"))
