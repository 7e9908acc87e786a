"""The way to the origin: a pooled HTTP/1.1 client on httptools, with one error vocabulary (RFC 9209).

Fills call `OriginPool.send`; whatever else speaks HTTP to the origin (the follower's questions) uses httpx over
`PoolTransport`, on a pool of the same kind. httpx's own pool costs about fifty times as much for a fill.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import cast
from urllib.parse import urlsplit

import httptools
import httpx

from edge.core.http import Headers

MAX_RESPONSE_HEAD_BYTES = 32_768
"""CloudFront refuses an origin response whose head is longer; what we accept here must be accepted there."""
KEEP_IDLE_S = 60.0
"""Shorter than our origin keeps a connection (75 s). Another may hang up earlier: a read is then sent once more."""
UNSAFE_REUSE_S = 1.0
"""An unsafe request takes only a connection used this recently: it could not be repeated if the origin hung up."""
READ_AHEAD_BYTES = 262_144
"""Body bytes held for a slow reader before the origin is asked to wait."""
SERVER_FAULTS = frozenset({500, 502, 503, 504})
"""Answers that are as good as none: stale-if-error covers them (RFC 5861 §4), and a read fails over for them."""
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

_FIELD_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_FIELD_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_TARGET = re.compile(r"[\x21-\x7e]+")


class ErrorKind(StrEnum):
    """Proxy error types of RFC 9209 §2.3: what went wrong between edge and origin."""

    DESTINATION_UNAVAILABLE = "destination_unavailable"
    """The breaker is open: the origin failed several times in a row and is left alone for a moment."""
    CONNECTION_REFUSED = "connection_refused"
    CONNECTION_TIMEOUT = "connection_timeout"
    CONNECTION_TERMINATED = "connection_terminated"
    CONNECTION_LIMIT_REACHED = "connection_limit_reached"
    HTTP_RESPONSE_TIMEOUT = "http_response_timeout"
    HTTP_RESPONSE_INCOMPLETE = "http_response_incomplete"
    HTTP_RESPONSE_HEADER_SECTION_SIZE = "http_response_header_section_size"
    HTTP_PROTOCOL_ERROR = "http_protocol_error"
    PROXY_CONFIGURATION_ERROR = "proxy_configuration_error"


class OriginError(Exception):
    """The origin gave no usable response."""

    def __init__(self, kind: ErrorKind, target: str) -> None:
        super().__init__(f"{kind.value}: {target}")
        self.kind = kind
        self.target = target

    @property
    def reason(self) -> str:
        """The word for Cache-Status and the access log."""
        return self.kind.value


class EdgeKeyRefused(OriginError):
    """The origin does not take this edge for one of its own: nothing that it says is for the viewer."""

    def __init__(self, target: str) -> None:
        super().__init__(ErrorKind.PROXY_CONFIGURATION_ERROR, target)

    @property
    def reason(self) -> str:
        return "edge-key-refused"


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long the origin may take, in seconds."""

    connect_s: float = 2.0
    head_s: float = 5.0
    """From the request's last byte to the end of the response's head; also the wait for a free connection."""
    idle_s: float = 10.0
    """Between two pieces of a body, in either direction."""
    total_s: float = 30.0
    """For a response that is read whole; streams are bounded by `idle_s` alone."""


class _Breaker:
    """After `FAILURES` failures in a row the origin is left alone; then one request tries it, and the pause doubles."""

    FAILURES = 5
    FIRST_PAUSE_S = 0.5
    LONGEST_PAUSE_S = 4.0

    def __init__(self) -> None:
        self._failures = 0
        self._pause_s = self.FIRST_PAUSE_S
        self._closed_until = 0.0

    def admits(self, now: float) -> bool:
        """Whether a request may go out. The one that is let through while open counts as the trial."""
        if self._failures < self.FAILURES:
            return True
        if now < self._closed_until:
            return False
        self._closed_until = now + self._pause_s
        return True

    def succeeded(self) -> None:
        self._failures = 0
        self._pause_s = self.FIRST_PAUSE_S

    def failed(self, now: float) -> None:
        self._failures += 1
        if self._failures == self.FAILURES:
            self._closed_until = now + self._pause_s
        elif self._failures > self.FAILURES:
            self._pause_s = min(self._pause_s * 2, self.LONGEST_PAUSE_S)
            self._closed_until = now + self._pause_s

    @property
    def is_open(self) -> bool:
        return self._failures >= self.FAILURES


class _Connection(asyncio.Protocol):
    """One connection; one exchange at a time. The parser is new for each exchange."""

    def __init__(self, pool: OriginPool) -> None:
        self._pool = pool
        self._loop = asyncio.get_running_loop()
        self.transport: asyncio.Transport | None = None
        self.closed = False
        self.idle_since = 0.0
        self.used = False
        """Whether an earlier exchange went over it: then the origin may have hung up in the meantime."""
        self._parser: httptools.HttpResponseParser | None = None
        self._head: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._paused_writing = False
        self._reset("", "")

    def _reset(self, method: str, target: str) -> None:
        self._method = method
        self._target = target
        self._more: asyncio.Future[None] | None = None
        self._pairs: list[tuple[str, str]] = []
        self._chunks: deque[bytes] = deque()
        self._buffered = 0
        self._paused_reading = False
        self._head_bytes = 0
        self._head_done = False
        self._complete = False
        self._error: OriginError | None = None
        self.may_keep = False
        self.close_delimited = False
        self.length: int | None = None
        self.status = 0
        self.headers = Headers()

    # -- asyncio's side --------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not `isinstance`: uvloop's transports only look like asyncio's.
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._parser is None:
            # Bytes that nobody asked for: the next response could not be told from them.
            self.close()
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._fail(ErrorKind.HTTP_PROTOCOL_ERROR)
        except httptools.HttpParserError as exc:
            too_large = isinstance(exc.__context__, _HeadTooLarge)
            self._fail(ErrorKind.HTTP_RESPONSE_HEADER_SECTION_SIZE if too_large else ErrorKind.HTTP_PROTOCOL_ERROR)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if self._parser is not None:
            if self._head_done and self.close_delimited and exc is None:
                self._end_body()
            else:
                self._fail(ErrorKind.HTTP_RESPONSE_INCOMPLETE if self._head_done else ErrorKind.CONNECTION_TERMINATED)
        self.resume_writing()
        self._pool.forget(self)

    def pause_writing(self) -> None:
        self._paused_writing = True

    def resume_writing(self) -> None:
        self._paused_writing = False
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)

    # -- the parser's side -----------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._complete:
            raise _BytesAfterResponse
        self._pairs = []

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._head_done:
            return  # a trailer field
        self._head_bytes += len(name) + len(value) + 4
        if self._head_bytes > MAX_RESPONSE_HEAD_BYTES:
            raise _HeadTooLarge
        self._pairs.append((name.decode("latin-1").lower(), value.decode("latin-1").strip(" \t")))

    def on_headers_complete(self) -> None:
        assert self._parser is not None
        status = self._parser.get_status_code()
        if status < 200:
            if status == 101:
                raise _BytesAfterResponse
            return
        self.status = status
        self.headers = Headers(self._pairs)
        self._head_done = True
        has_body = not (self._method == "HEAD" or status in (204, 304))
        length = self.headers.get("content-length")
        self.close_delimited = has_body and length is None and "transfer-encoding" not in self.headers
        self.may_keep = self._parser.should_keep_alive() or (
            # The parser waits for a body here that will not come, and would hold its missing length against it.
            not has_body
            and self._parser.get_http_version() == "1.1"
            and "close" not in (self.headers.joined("connection") or "").lower()
        )
        self.length = int(length) if has_body and length is not None and length.isdigit() else None
        if self._head is not None and not self._head.done():
            self._head.set_result(None)
        if self._method == "HEAD":
            # httptools cannot be told that a response to HEAD has no body; it need not see the rest.
            self._complete_message()

    def on_body(self, data: bytes) -> None:
        if self._complete:
            raise _BytesAfterResponse
        self._chunks.append(data)
        self._buffered += len(data)
        if self._buffered > READ_AHEAD_BYTES and not self._paused_reading and self.transport is not None:
            self._paused_reading = True
            self.transport.pause_reading()
        self._wake_reader()

    def on_message_complete(self) -> None:
        if self._head_done and not self._complete:
            self._complete_message()

    def _complete_message(self) -> None:
        self._complete = True
        self._wake_reader()

    def _end_body(self) -> None:
        self.may_keep = False
        self._complete_message()

    def _wake_reader(self) -> None:
        if self._more is not None and not self._more.done():
            self._more.set_result(None)

    def _fail(self, kind: ErrorKind) -> None:
        if self._complete:
            self.close()
            return
        self._error = OriginError(kind, self._target)
        if self._head is not None and not self._head.done():
            self._head.set_exception(self._error)
            self._head.exception()
        self._wake_reader()
        self.close()

    # -- the pool's side -------------------------------------------------------------------------------------------

    def close(self) -> None:
        self.closed = True
        if self.transport is not None:
            self.transport.abort()

    @property
    def is_usable(self) -> bool:
        return not self.closed and self.transport is not None and not self.transport.is_closing()

    def begin(self, method: str, target: str, head: bytes) -> None:
        """Write the request's head and get ready for its response."""
        assert self.transport is not None
        self._reset(method, target)
        self._parser = httptools.HttpResponseParser(self)
        self._head = self._loop.create_future()
        self.transport.write(head)

    async def write(self, data: bytes) -> None:
        """Write a piece of the request's body and wait until there is room. Raises OriginError when cut off."""
        if self._error is not None or not self.is_usable:
            raise self._error or OriginError(ErrorKind.CONNECTION_TERMINATED, self._target)
        assert self.transport is not None
        self.transport.write(data)
        if self._paused_writing:
            self._writable = self._loop.create_future()
            await self._writable

    async def wait_for_head(self) -> None:
        """Raises OriginError. May be waited for more than once."""
        assert self._head is not None
        await asyncio.shield(self._head)

    async def next_chunk(self) -> bytes:
        """The next piece of the body; empty at its end. Raises OriginError when the body was cut short."""
        while not self._chunks:
            if self._error is not None:
                raise self._error
            if self._complete:
                return b""
            self._more = self._loop.create_future()
            await self._more
        data = self._chunks.popleft()
        self._buffered -= len(data)
        if self._paused_reading and self._buffered <= READ_AHEAD_BYTES // 2 and self.is_usable:
            assert self.transport is not None
            self._paused_reading = False
            self.transport.resume_reading()
        return data

    def finish(self) -> bool:
        """End the exchange; whether the connection may carry another."""
        reusable = self._complete and self.may_keep and self.is_usable and not self._buffered
        self._parser = None
        self.used = True
        if not reusable:
            self.close()
        return reusable


class _HeadTooLarge(Exception):
    pass


class _BytesAfterResponse(Exception):
    pass


class OriginResponse:
    """A response whose head has arrived. Read it to the end or `abandon` it: either frees the connection."""

    def __init__(self, pool: OriginPool, connection: _Connection, target: str, sent_at: float, head_at: float) -> None:
        self.status = connection.status
        self.headers = connection.headers
        self.length = connection.length
        """Content-Length of a response that has a body; None when unknown."""
        self.close_delimited = connection.close_delimited
        """The body ends with the connection, so that a cut looks like an end: never to be stored."""
        self.sent_at = sent_at
        """When the request was sent and when the head had arrived: seconds of the edge's clock."""
        self.head_at = head_at
        self.target = target
        self._prefix: list[bytes] = []
        self._pool = pool
        self._connection: _Connection | None = connection

    async def next_chunk(self) -> bytes:
        """The next piece of the body; empty at its end. Raises OriginError."""
        connection = self._connection
        if connection is None:
            return b""
        try:
            async with asyncio.timeout(self._pool.deadlines.idle_s):
                data = await connection.next_chunk()
        except TimeoutError as exc:
            self.abandon()
            raise OriginError(ErrorKind.HTTP_RESPONSE_TIMEOUT, self.target) from exc
        except (OriginError, asyncio.CancelledError):
            self.abandon()
            raise
        if not data:
            self._connection = None
            self._pool.give_back(connection)
        return data

    async def read(self, limit: int) -> bytes | None:
        """The whole body; None when it is longer than `limit` bytes: `chunks` gives it then from its start."""
        if self.length is not None and self.length > limit:
            return None
        pieces: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self._pool.deadlines.total_s):
                while data := await self.next_chunk():
                    pieces.append(data)
                    size += len(data)
                    if size > limit:
                        self._prefix = pieces
                        return None
        except TimeoutError as exc:
            self.abandon()
            raise OriginError(ErrorKind.HTTP_RESPONSE_TIMEOUT, self.target) from exc
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body in pieces, those that a failed `read` took included."""
        prefix, self._prefix = self._prefix, []
        for data in prefix:
            yield data
        while data := await self.next_chunk():
            yield data

    async def discard(self) -> None:
        """Get rid of a body that nobody wants: read a short one, so that the connection can be used again."""
        try:
            if await self.read(READ_AHEAD_BYTES) is None:
                self.abandon()
        except OriginError:
            self.abandon()

    def abandon(self) -> None:
        """Hang up, unless the body was read to its end."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.finish()
            connection.close()
            self._pool.forget(connection)


class OriginPool:
    """Connections to one origin address, kept open between requests.

    `clock` gives seconds of the edge's clock. At most `max_connections` are open; a request beyond that waits
    `Deadlines.head_s` for a free one. A `patient` pool, for
    requests that are always asked again, never leaves a failing origin alone, and takes the connection that has been
    idle longest, also for unsafe methods: so spare ones stay open, and none of its requests has to wait for a
    connection to be made.
    """

    def __init__(
        self,
        url: str,
        clock: Callable[[], float],
        *,
        deadlines: Deadlines | None = None,
        max_connections: int = 64,
        patient: bool = False,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or parts.hostname is None:
            raise ValueError(f"not an http address: {url!r}, expected http://HOST:PORT")
        self.host = parts.hostname
        self.port = parts.port or (443 if parts.scheme == "https" else 80)
        self.authority = parts.netloc
        self.deadlines = deadlines or Deadlines()
        self.max_connections = max_connections
        self.opened = 0
        self.breaker = _Breaker()
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._clock = clock
        self._patient = patient
        self._idle: deque[_Connection] = deque()
        self._open = 0
        self._members: set[_Connection] = set()
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._closing = False

    async def send(
        self,
        method: str,
        target: str,
        headers: Headers,
        body: AsyncIterator[bytes] | bytes | None = None,
        *,
        head_s: float | None = None,
    ) -> OriginResponse:
        """Send one request and wait for the head of its response.

        `headers` hold everything but framing, which is written here: a body of bytes with its length, a streamed one
        chunked unless `headers` carry its `content-length`. A safe request is sent once more when a reused connection
        turned out dead. Raises OriginError.
        """
        if not self._patient and not self.breaker.admits(self._clock()):
            raise OriginError(ErrorKind.DESTINATION_UNAVAILABLE, target)
        head = render_request_head(method, target, headers, body)
        safe = method in SAFE_METHODS and body is None
        try:
            connection = await self._acquire(target, KEEP_IDLE_S if safe or self._patient else UNSAFE_REUSE_S)
            try:
                response = await self._exchange(connection, method, target, head, body, head_s)
            except OriginError as exc:
                if not (safe and connection.used and exc.kind is ErrorKind.CONNECTION_TERMINATED):
                    raise
                connection = await self._acquire(target, max_idle_s=-1.0)
                response = await self._exchange(connection, method, target, head, body, head_s)
        except OriginError as exc:
            if exc.kind is not ErrorKind.CONNECTION_LIMIT_REACHED:
                self.breaker.failed(self._clock())
            raise
        self.breaker.succeeded()
        return response

    async def _exchange(
        self,
        connection: _Connection,
        method: str,
        target: str,
        head: bytes,
        body: AsyncIterator[bytes] | bytes | None,
        head_s: float | None,
    ) -> OriginResponse:
        sent_at = self._clock()
        try:
            connection.begin(method, target, head + body if isinstance(body, bytes) else head)
            if body is not None and not isinstance(body, bytes):
                await self._send_body(connection, body, chunked=b"\r\ntransfer-encoding: chunked\r\n" in head)
            async with asyncio.timeout(head_s or self.deadlines.head_s):
                await connection.wait_for_head()
        except TimeoutError as exc:
            self._drop(connection)
            raise OriginError(ErrorKind.HTTP_RESPONSE_TIMEOUT, target) from exc
        except BaseException:
            self._drop(connection)
            raise
        return OriginResponse(self, connection, target, sent_at, self._clock())

    async def _send_body(self, connection: _Connection, body: AsyncIterator[bytes], *, chunked: bool) -> None:
        """Send the pieces as they come, until the last or until the origin answers before it.

        An early answer is usually a refusal, and the sender may be waiting for it. The connection cannot be used again
        then, because the origin still waits for the rest.
        """
        sending = asyncio.create_task(self._send_pieces(connection, body, chunked=chunked))
        answered = asyncio.ensure_future(connection.wait_for_head())
        try:
            await asyncio.wait((sending, answered), return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
            else:
                answered.result()
                connection.may_keep = False
        finally:
            for task in (sending, answered):
                task.cancel()
            await asyncio.gather(sending, answered, return_exceptions=True)

    async def _send_pieces(self, connection: _Connection, body: AsyncIterator[bytes], *, chunked: bool) -> None:
        async for data in body:
            if data:
                async with asyncio.timeout(self.deadlines.idle_s):
                    await connection.write(b"%x\r\n%b\r\n" % (len(data), data) if chunked else data)
        if chunked:
            await connection.write(b"0\r\n\r\n")

    async def _acquire(self, target: str, max_idle_s: float) -> _Connection:
        """An idle connection used within `max_idle_s`, else a new one. Raises OriginError."""
        deadline = self._clock() + self.deadlines.head_s
        while True:
            now = self._clock()
            fresh: _Connection | None = None
            while self._idle and fresh is None:
                connection = self._idle.popleft() if self._patient else self._idle.pop()
                if connection.is_usable and now - connection.idle_since < max_idle_s:
                    fresh = connection
                else:
                    self._drop(connection)
            if fresh is not None:
                return fresh
            if self._open < self.max_connections:
                return await self._connect(target)
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            try:
                async with asyncio.timeout(max(deadline - now, 0.0)):
                    await waiter
            except BaseException as exc:
                if waiter in self._waiting:
                    self._waiting.remove(waiter)
                elif not waiter.cancelled():
                    # Woken and called off in the same turn of the loop: the free place goes to the next in line.
                    self._wake_one()
                if isinstance(exc, TimeoutError):
                    raise OriginError(ErrorKind.CONNECTION_LIMIT_REACHED, target) from exc
                raise

    async def _connect(self, target: str) -> _Connection:
        self._open += 1
        try:
            async with asyncio.timeout(self.deadlines.connect_s):
                _, connection = await asyncio.get_running_loop().create_connection(
                    lambda: _Connection(self), self.host, self.port, ssl=self._tls
                )
        except BaseException as exc:
            self._open -= 1
            self._wake_one()
            if isinstance(exc, TimeoutError):
                raise OriginError(ErrorKind.CONNECTION_TIMEOUT, target) from exc
            if isinstance(exc, OSError):
                raise OriginError(ErrorKind.CONNECTION_REFUSED, target) from exc
            raise
        self.opened += 1
        self._members.add(connection)
        return connection

    def give_back(self, connection: _Connection) -> None:
        """The exchange is over: keep the connection if it can carry another."""
        if connection.finish() and not self._closing:
            connection.idle_since = self._clock()
            self._idle.append(connection)
            self._wake_one()
        else:
            self.forget(connection)

    def _drop(self, connection: _Connection) -> None:
        connection.close()
        self.forget(connection)

    def forget(self, connection: _Connection) -> None:
        """The connection is gone; told more than once at times."""
        if connection in self._members:
            self._members.discard(connection)
            self._open -= 1
            if connection in self._idle:
                self._idle.remove(connection)
            self._wake_one()

    def _wake_one(self) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def close(self) -> None:
        """Hang up everywhere; exchanges under way end with an error."""
        self._closing = True
        for connection in list(self._members):
            self._drop(connection)


def render_request_head(method: str, target: str, headers: Headers, body: AsyncIterator[bytes] | bytes | None) -> bytes:
    """The bytes of a request's head, always written anew from parsed values, never copied.

    Raises ValueError for a name, value or target that could break out of its line: nothing of the kind passes the
    server's parser, so it would be a fault of ours.
    """
    if not _TARGET.fullmatch(target):
        raise ValueError(f"not a request target: {target[:80]!r}")
    lines = [f"{method} {target} HTTP/1.1"]
    for name, value in headers.pairs:
        if not (_FIELD_NAME.fullmatch(name) and _FIELD_VALUE.fullmatch(value)):
            raise ValueError(f"not a field line: {name[:40]!r}: {value[:40]!r}")
        lines.append(f"{name}: {value}")
    if isinstance(body, bytes):
        lines.append(f"content-length: {len(body)}")
    elif body is not None and "content-length" not in headers:
        lines.append("transfer-encoding: chunked")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


class _PoolStream(httpx.AsyncByteStream):
    def __init__(self, response: OriginResponse) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for data in self._response.chunks():
                yield data
        except OriginError as exc:
            raise httpx.ReadError(str(exc)) from exc

    async def aclose(self) -> None:
        self._response.abandon()


class PoolTransport(httpx.AsyncBaseTransport):
    """httpx over an `OriginPool`: the same connections, deadlines and errors, with httpx's interface."""

    def __init__(self, pool: OriginPool) -> None:
        self._pool = pool

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        assert isinstance(request.stream, httpx.AsyncByteStream)
        framing = ("content-length", "transfer-encoding")
        pairs = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in request.headers.raw]
        body = b"".join([part async for part in request.stream])
        try:
            response = await self._pool.send(
                request.method,
                request.url.raw_path.decode("ascii"),
                Headers(pair for pair in pairs if pair[0] not in framing),
                body or None,
            )
        except OriginError as exc:
            raise httpx.ConnectError(str(exc), request=request) from exc
        return httpx.Response(response.status, headers=list(response.headers), stream=_PoolStream(response))

    async def aclose(self) -> None:
        self._pool.close()
