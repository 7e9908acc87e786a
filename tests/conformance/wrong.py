"""Caches that are wrong on purpose: a case that none of them fails cannot fail at all.

`Relay` hands over bytes as they are, hop-by-hop fields included, and makes whole what was cut; it keeps everything for
ever, or nothing. `Mangler` does so a few times, and then spoils what it hands over. `Careless` is a cache that works,
and takes every rule the wrong way round: too lightly, or too seriously.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import unquote

from tests.conformance.viewer import Got, Pairs, exchange

WHOLE_FIELDS = (b"content-length", b"transfer-encoding")
_KNOWN_STATUSES = {200, 201, 204, 206, 301, 302, 303, 304, 307, 400, 403, 404, 409, 410, 412, 416, 500, 502, 503, 504}


class _Server:
    """Takes one request of each connection."""

    def __init__(self, origin_port: int) -> None:
        self.origin = ("127.0.0.1", origin_port)
        self.address = ("127.0.0.1", 0)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
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
            writer.write(await self.answer(head, reader))
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.CancelledError, ValueError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()
            self._tasks.discard(task)

    async def answer(self, head: bytes, viewer: asyncio.StreamReader) -> bytes:
        raise NotImplementedError


class Relay(_Server):
    """`keeps`: everything, for ever, by the path alone; or nothing."""

    def __init__(self, origin_port: int, *, keeps: bool) -> None:
        super().__init__(origin_port)
        self._keeps = keeps
        self._kept: dict[bytes, bytes] = {}

    async def answer(self, head: bytes, viewer: asyncio.StreamReader) -> bytes:
        path = head.split(b" ")[1].partition(b"?")[0]
        answer = self._kept.get(path) if self._keeps else None
        if answer is None:
            answer = await self._forward(head, viewer)
            if self._keeps:
                self._kept[path] = answer
        return answer

    async def _forward(self, head: bytes, viewer: asyncio.StreamReader) -> bytes:
        """The origin's answer, made whole: what is not there is an empty page."""
        method = head.split(b" ")[0]
        data, writer = b"", None
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection(*self.origin, limit=1 << 20)
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


class Mangler(Relay):
    """Keeps everything, and spoils each answer after the first `good` ones: other fields, another body, HEAD with one,
    an interim response taken for the final one."""

    def __init__(self, origin_port: int, *, good: int) -> None:
        super().__init__(origin_port, keeps=good > 0)
        self._good = good
        self._given: Counter[bytes] = Counter()

    async def answer(self, head: bytes, viewer: asyncio.StreamReader) -> bytes:
        path = head.split(b" ")[1].partition(b"?")[0]
        self._given[path] += 1
        whole = await super().answer(head, viewer)
        if self._given[path] <= self._good:
            return whole
        serial, body = _field(whole.partition(b"\r\n\r\n")[0], b"origin-answer"), whole.partition(b"\r\n\r\n")[2]
        lines = [b"HTTP/1.1 200 OK", b"Origin-Answer: " + (serial or b"0"), b"Content-Encoding: gzip"]
        lines += [b"Content-Range: bytes 0-0/1", b"Content-Length: %d" % (len(body) + 1)]
        return b"\r\n".join(lines) + b"\r\n\r\n" + body + b"?"


@dataclass(slots=True)
class _Kept:
    status: int
    fields: Pairs
    body: bytes
    until: float
    varied: dict[str, str] = field(default_factory=dict)


class Careless(_Server):
    """One of two opposites. `strict` takes every field for reason enough to ask, to cut, to refuse and to forget;
    otherwise nothing is reason enough for anything. Both pass on only what they know."""

    def __init__(self, origin_port: int, *, strict: bool) -> None:
        super().__init__(origin_port)
        self._strict = strict
        self._kept: dict[str, list[_Kept]] = {}
        self._under_way: dict[str, asyncio.Task[Got]] = {}

    async def answer(self, head: bytes, viewer: asyncio.StreamReader) -> bytes:
        request_line, *lines = head[:-4].decode("latin-1").split("\r\n")
        method, target, _ = request_line.split(" ")
        fields = {line.partition(":")[0].lower(): line.partition(":")[2].strip() for line in lines}
        key = target if self._strict else unquote(target.partition("?")[0]).lower().rstrip("/")
        if method != "GET" and self._strict:
            self._forget(target)
        kept = self._found(key, fields) if method in {"GET", "HEAD"} else None
        if kept is None and "only-if-cached" in fields.get("cache-control", "") and not self._strict:
            kept = _Kept(504, [], b"", time.monotonic() + 3600)
            self._kept[key] = [kept]
        if kept is not None and any(each.until > time.monotonic() for each in self._kept[key]):
            return self._from_store(kept, method, fields)
        got = await self._ask(method, target, key, kept or next(iter(self._kept.get(key, ())), None))
        if got.status == 304 and kept is not None:
            if self._strict:
                kept.fields = [pair for pair in got.pairs if pair[0] != "date"] + _named(kept.fields, "origin-answer")
            for each in self._kept.get(key, ()):
                each.until = time.monotonic() + 3600
            return self._from_store(kept, method, {})
        if self._strict and {"location", "cache-group-invalidation"} & {name for name, _ in got.pairs}:
            self._forget(target)
        status = got.status if got.status in _KNOWN_STATUSES else 200
        if self._strict and "cookie" in fields:
            status = 400
        lived = re.search(r"max-age=(\d+)", got.one("cache-control") or "")
        if lived is not None and method in {"GET", "HEAD"}:
            varied = {} if not self._strict else {"thing": fields.get("thing", "")} if got.lines("vary") else {}
            found = _Kept(status, got.pairs, got.body, time.monotonic() + int(lived[1]), varied)
            self._kept.setdefault(key, []).append(found)
        return _written(status, _some(got.pairs), got.body)

    def _forget(self, target: str) -> None:
        """Everything of the same case."""
        scene = target.split("/")[1].partition("?")[0]
        for each in [each for each in self._kept if each.startswith(f"/{scene}")]:
            del self._kept[each]

    def _found(self, key: str, fields: dict[str, str]) -> _Kept | None:
        """The oldest that matches."""
        return next(
            (
                kept
                for kept in self._kept.get(key, ())
                if not self._strict or not kept.varied or kept.varied.get("thing") == fields.get("thing")
            ),
            None,
        )

    async def _ask(self, method: str, target: str, key: str, kept: _Kept | None) -> Got:
        """The loose one lets everybody share what anybody is waiting for."""
        lines = [f"{method} {target} HTTP/1.1", "Host: origin", "Connection: close"]
        if kept is not None and (etag := dict(kept.fields).get("etag")):
            lines.append(f"If-None-Match: {etag}")
        elif kept is not None and (changed := dict(kept.fields).get("last-modified")):
            lines.append(f"If-Modified-Since: {changed}")
        request = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
        if self._strict:
            return await exchange(self.origin, request, method)
        if key not in self._under_way:
            self._under_way[key] = asyncio.create_task(exchange(self.origin, request, method))
            self._under_way[key].add_done_callback(lambda _: self._under_way.pop(key))
        return await asyncio.shield(self._under_way[key])

    def _from_store(self, kept: _Kept, method: str, fields: dict[str, str]) -> bytes:
        pairs = kept.fields if self._strict else _some(kept.fields)
        if {"if-none-match", "if-modified-since", "if-match"} & set(fields):
            if self._strict:
                kept.body = b""
            return b"HTTP/1.1 304 Not Modified\r\n\r\n"
        if "range" in fields or "if-range" in fields:
            numbers = re.search(r"(\d+)-(\d+)", fields.get("range", ""))
            first, last = (int(numbers[1]), int(numbers[2])) if numbers else (0, 0)
            body = kept.body[first : last + 1]
            if not body:
                kept.body = b""
            return _written(206, [*_named(pairs, "origin-answer"), ("content-range", "bytes 0-0/1")], body)
        return _written(kept.status, pairs, kept.body)


def _some(pairs: Pairs) -> Pairs:
    """What a careless cache takes along."""
    return _named(pairs, "origin-answer", "cache-control", "etag")


def _named(pairs: Pairs, *names: str) -> Pairs:
    return [pair for pair in pairs if pair[0] in names]


def _written(status: int, pairs: Pairs, body: bytes) -> bytes:
    own = [] if any(name == "content-length" for name, _ in pairs) else [("content-length", str(len(body)))]
    lines = [f"HTTP/1.1 {status} Careless", *(f"{name}: {value}" for name, value in (*pairs, *own))]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body


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
