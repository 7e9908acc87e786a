"""Edges with one weakness each, to show that the harness sees it: what is not found here is not found at all."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from enum import StrEnum

from tests.security.edges import SHOP_EDGE, Kind, Pair, Side
from tests.security.origin import Origin, PurgeLog, careless
from tests.security.strict import Answer, Fault, Request, read_answer, read_request
from tests.security.viewer import request_bytes


class Weakness(StrEnum):
    NONE = "none"
    """Forwards everything and keeps nothing."""
    FORWARDS_UNKEYED = "forwards fields that are in no key"
    KEYS_LESS = "leaves the query out of the key"
    BY_EXTENSION = "keeps whatever ends like a file"
    KEEPS_ERRORS = "keeps the errors that one odd request makes"
    KEEPS_COOKIES = "keeps a response with its Set-Cookie"
    BELIEVES_LENGTH = "reads Content-Length, and forwards bytes as they came"
    READS_ON = "takes what an origin said too much for the next answer"


_OF_ONE_CONNECTION = frozenset(
    {"connection", "keep-alive", "transfer-encoding", "content-length", "te", "upgrade", "expect"}
)


class WeakEdge:
    """A relay with a store. Use as an async context manager."""

    def __init__(self, origin: Origin, weakness: Weakness) -> None:
        self._origin = origin
        self._weakness = weakness
        self._kept: dict[tuple[str, ...], Answer] = {}
        self._turn = asyncio.Lock()
        self._to_origin: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._left = b""
        self._viewers: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def __aenter__(self) -> WeakEdge:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 20)
        self.address: tuple[str, int] = self._server.sockets[0].getsockname()[:2]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        if self._to_origin is not None:
            self._to_origin[1].transport.abort()
        for writer in self._viewers.values():
            writer.transport.abort()
        await asyncio.gather(*self._viewers, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._viewers[task] = writer
        data = b""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, TimeoutError):
            while True:
                found = self._next(data)
                if found is not None:
                    request, raw, data = found
                    writer.write(_in_bytes(await self._answer(request, raw), request.method))
                    continue
                more = await reader.read(65_536)
                if not more:
                    break
                data += more
        writer.close()

    def _next(self, data: bytes) -> tuple[Request, bytes, bytes] | None:
        if self._weakness is not Weakness.BELIEVES_LENGTH:
            try:
                found = read_request(data)
            except Fault:
                raise ConnectionResetError from None
            return None if found is None else (found[0], data[: found[1]], data[found[1] :])
        head, end, rest = data.partition(b"\r\n\r\n")
        if not end:
            return None
        length = re.search(rb"content-length: *([0-9]+)", head, re.IGNORECASE)
        count = int(length[1]) if length else 0
        if len(rest) < count:
            return None
        method, _, more = head.partition(b" ")
        target = more.partition(b" ")[0].decode("latin-1")
        body, after = rest[:count], rest[count:]
        return Request(method.decode("latin-1"), target, (), body), head + end + body, after

    async def _answer(self, request: Request, raw: bytes) -> Answer:
        key = self._key(request)
        if key in self._kept and request.method in {"GET", "HEAD"}:
            return self._kept[key]
        async with self._turn:
            answer = await self._forward(request, raw)
        if request.method == "GET" and self._keeps(request, answer):
            self._kept[key] = answer
        return answer

    def _key(self, request: Request) -> tuple[str, ...]:
        path, _, query = request.target.partition("?")
        host = request.get("host") or ""
        return (host, path) if self._weakness is Weakness.KEYS_LESS else (host, path, query)

    def _keeps(self, request: Request, answer: Answer) -> bool:
        match self._weakness:
            case Weakness.FORWARDS_UNKEYED | Weakness.KEYS_LESS | Weakness.KEEPS_COOKIES:
                return answer.status == 200
            case Weakness.KEEPS_ERRORS:
                return answer.status >= 400
            case Weakness.BY_EXTENSION:
                return re.search(r"\.[a-z0-9]{2,5}$", request.target) is not None
            case _:
                return False

    def _forwarded(self, request: Request) -> bytes:
        """The request made anew; with an allow-list where the weakness is another one."""
        every = self._weakness in {Weakness.FORWARDS_UNKEYED, Weakness.BY_EXTENSION, Weakness.KEEPS_ERRORS}
        lines = [
            (name, value)
            for name, value in request.fields
            if name != "host" and name not in _OF_ONE_CONNECTION and (every or name == "user-agent")
        ]
        if request.body:
            lines.append(("content-length", str(len(request.body))))
        return request_bytes(request.method, request.target, request.get("host") or "", lines, request.body)

    async def _forward(self, request: Request, raw: bytes) -> Answer:
        if self._to_origin is None:
            self._to_origin = await asyncio.open_connection("127.0.0.1", self._origin.port)
            self._left = b""
        reader, writer = self._to_origin
        writer.write(raw if self._weakness is Weakness.BELIEVES_LENGTH else self._forwarded(request))
        data, ended = self._left, False
        try:
            async with asyncio.timeout(3):
                while (found := read_answer(data, request.method, ended=ended)) is None and not ended:
                    more = await reader.read(65_536)
                    data, ended = data + more, not more
        except Fault:
            found = None
        if found is None:
            self._to_origin = None
            writer.transport.abort()
            return Answer(502, (), b"")
        answer, end = found
        self._left = data[end:] if self._weakness in {Weakness.READS_ON, Weakness.BELIEVES_LENGTH} else b""
        if ended or answer.closes or (data[end:] and not self._left):
            self._to_origin = None
            writer.transport.abort()
        return answer


def _in_bytes(answer: Answer, method: str) -> bytes:
    own = {"connection", "transfer-encoding", "content-length"}
    lines = [
        f"HTTP/1.1 {answer.status} Weak",
        *(f"{name}: {value}" for name, value in answer.fields if name not in own),
    ]
    if answer.status not in {204, 304}:
        lines.append(f"content-length: {len(answer.body)}")
    head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
    return head if method == "HEAD" or answer.status in {204, 304} else head + answer.body


@contextlib.asynccontextmanager
async def weak_pair(weakness: Weakness, kind: Kind = SHOP_EDGE) -> AsyncIterator[Pair]:
    """Two edges with that weakness, one to be attacked and one to be left alone."""
    async with (
        Origin(usual=careless) as origin,
        PurgeLog() as log,
        WeakEdge(origin, weakness) as attacked,
        WeakEdge(origin, weakness) as fresh,
    ):
        pair = Pair(kind, origin, log, Side(attacked.address), Side(fresh.address))
        try:
            yield pair
        finally:
            pair.attacked.close()
            pair.fresh.close()
