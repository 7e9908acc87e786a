"""The viewers' side: HTTP/1.1 on httptools, strict, bounded, in order; one write for what is answered at once.

A plain request for something fresh is answered without that parser (`plain.py`, `hits.py`), by an expression that takes
nothing which the parser would refuse. For everything else httptools (llhttp) refuses bare LF, obs-fold, a space before
the colon, controls in targets and values, two framings, doubtful lengths and chunk sizes. Here stands what it lets pass
and we do not, every limit and every timeout. A request is parsed once into a `Parsed`; what it means is `exchange.py`'s
business.
"""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import ssl
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, Protocol, cast

import httptools

from edge.gateway import wire
from edge.gateway.plain import PLAIN_FIELDS
from edge.gateway.visitors import Visitor
from edge.gateway.wire import READ_BYTES, Listener

logger = logging.getLogger("nearshelf.server")

_REQUEST_LINE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,40} [!-~]+ HTTP/1\.1\r\n").match
"""What begins like a request, whatever its method (RFC 9110 §9.1)."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one viewer may ask of this worker. Bytes and seconds."""

    head_bytes: int = 16_384
    """Request line and fields; beyond it 431. Below the origin's own limit, so that it never meets a longer one."""
    target_bytes: int = 8_192
    """Beyond it 414."""
    body_bytes: int = 10_000_000
    """A forwarded request's body; beyond it 413."""
    head_s: float = 10.0
    """From a head's first byte to its last; then 408."""
    body_idle_s: float = 15.0
    """Between two pieces of a request's body; then the connection is closed."""
    idle_s: float = 75.0
    """Between two requests; then the connection is closed."""
    stalled_write_s: float = 20.0
    """A viewer that takes less than `stalled_write_bytes` in this time, although more is waiting, is hung up on."""
    stalled_write_bytes: int = 4_096
    write_buffer_bytes: int = 262_144
    """Bytes waiting for one viewer before nothing more is answered or fetched for it."""
    pipelined: int = 32
    """Requests waiting behind an unanswered one before nothing more is read."""
    body_buffer_bytes: int = 131_072
    """Bytes of a request's body waiting for the origin before nothing more is read."""
    connections: int = 8_192
    """Per worker; one more is answered 503 and closed."""


class Refusal(StrEnum):
    """Why a request was refused by the edge itself: `detail` in Cache-Status, `reason` in the access log."""

    MALFORMED = "malformed"
    HEAD_TOO_LARGE = "head-too-large"
    TARGET_TOO_LONG = "target-too-long"
    BODY_TOO_LARGE = "body-too-large"
    BODY_NOT_ALLOWED = "body-not-allowed"
    TRANSFER_CODING = "transfer-coding"
    VERSION = "version"
    HOST_MISSING = "host-missing"
    HOST_UNKNOWN = "host-unknown"
    METHOD = "method"
    METHOD_UNKNOWN = "method-unknown"
    EXPECTATION = "expectation"
    TIMEOUT = "timeout"
    OVERLOADED = "overloaded"
    COUNTRY_BLOCKED = "country-blocked"
    THROTTLED = "throttled"


REFUSALS: dict[Refusal, tuple[int, str, str]] = {
    Refusal.MALFORMED: (400, "Bad Request", "The request does not follow HTTP/1.1 (RFC 9112)."),
    Refusal.HEAD_TOO_LARGE: (431, "Request Header Fields Too Large", "The request's head is too long."),
    Refusal.TARGET_TOO_LONG: (414, "URI Too Long", "The address is too long."),
    Refusal.BODY_TOO_LARGE: (413, "Content Too Large", "The request's body is too long."),
    Refusal.BODY_NOT_ALLOWED: (400, "Bad Request", "GET and HEAD have no body here."),
    Refusal.TRANSFER_CODING: (501, "Not Implemented", "The only transfer coding understood is chunked."),
    Refusal.VERSION: (505, "HTTP Version Not Supported", "Only HTTP/1.1 is spoken here."),
    Refusal.HOST_MISSING: (400, "Bad Request", "The request must name its host, once."),
    Refusal.HOST_UNKNOWN: (421, "Misdirected Request", "This edge does not serve that host."),
    Refusal.METHOD: (405, "Method Not Allowed", "That method is not for this address."),
    Refusal.METHOD_UNKNOWN: (501, "Not Implemented", "That method is not known here."),
    Refusal.EXPECTATION: (417, "Expectation Failed", "The only expectation met is 100-continue."),
    Refusal.TIMEOUT: (408, "Request Timeout", "The request took too long to arrive."),
    Refusal.OVERLOADED: (503, "Service Unavailable", "Too many connections; come back in a moment."),
    Refusal.COUNTRY_BLOCKED: (451, "Unavailable For Legal Reasons", "This is not available in your country."),
    Refusal.THROTTLED: (429, "Too Many Requests", "Too many requests; come back in a moment."),
}


AT_HAND_BYTES = 65_536
"""Of a request's body, before the origin is asked; below `body_buffer_bytes`, at which reading pauses."""


class BodyRefused(Exception):
    """The request's body passed its limit, or proved malformed, while it was streamed."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.value)
        self.refusal = refusal


class ViewerGone(Exception):
    """The viewer hung up; there is nobody to answer."""


class Parsed:
    """One request as it came off the wire: still bytes, framing and syntax already checked."""

    __slots__ = ("body", "fields", "host", "keep_alive", "method", "plain", "received_at", "target", "viewer")

    def __init__(
        self,
        method: bytes,
        target: bytes,
        host: bytes,
        fields: list[tuple[bytes, bytes]],
        plain: bool,
        keep_alive: bool,
        body: RequestBody | None,
        received_at: float,
        viewer: ViewerConnection,
    ) -> None:
        self.method = method
        self.target = target
        self.host = host
        self.fields = fields
        self.plain = plain
        """Whether only fields of PLAIN_FIELDS came with it."""
        self.keep_alive = keep_alive
        self.body = body
        self.received_at = received_at
        self.viewer = viewer


class RequestBody:
    """The body of a request, in pieces as they arrive; reading is paused while nobody takes them."""

    def __init__(self, viewer: ViewerConnection, length: int | None, limit: int, *, expects_continue: bool) -> None:
        self.length = length
        """Content-Length; None when chunked."""
        self.complete = False
        self.progressed_at = 0.0
        self._viewer = viewer
        self._limit = limit
        self._received = 0
        self._pieces: deque[bytes] = deque()
        self.buffered = 0
        self._more: asyncio.Future[None] | None = None
        self._expects_continue = expects_continue
        self._gone = False
        self._refusal: Refusal | None = None

    def feed(self, data: bytes) -> None:
        self._received += len(data)
        self._pieces.append(data)
        self.buffered += len(data)
        self._wake()

    def end(self) -> None:
        self.complete = True
        self._wake()

    def cut(self, refusal: Refusal | None = None) -> None:
        """The rest will not come: the viewer hung up in the middle, or what it sends cannot be read."""
        self._gone = True
        self._refusal = refusal
        self._wake()

    def _wake(self) -> None:
        if self._more is not None and not self._more.done():
            self._more.set_result(None)

    async def begun(self) -> None:
        """Wait until the whole is here, or AT_HAND_BYTES of it: whoever is slow with a short body shall not keep others
        from the origin meanwhile. Raises as `pieces`."""
        self._go_ahead()
        while not self.complete and self.buffered < AT_HAND_BYTES and self._received <= self._limit:
            await self._wait()

    async def pieces(self) -> AsyncIterator[bytes]:
        """Raises BodyRefused past the limit or where the body is malformed, ViewerGone when the viewer hung up."""
        self._go_ahead()
        while True:
            while not self._pieces:
                if self.complete:
                    return
                await self._wait()
            if self._received > self._limit:
                raise BodyRefused(Refusal.BODY_TOO_LARGE)
            data = self._pieces.popleft()
            self.buffered -= len(data)
            self._viewer.body_taken()
            yield data

    def _go_ahead(self) -> None:
        """Tell a viewer that waits for it to send the body, once."""
        if self._expects_continue and not self._received and not self.complete:
            self._viewer.send_continue()
        self._expects_continue = False

    async def _wait(self) -> None:
        if self._refusal is not None:
            raise BodyRefused(self._refusal)
        if self._gone:
            raise ViewerGone
        self._more = asyncio.get_running_loop().create_future()
        await self._more


Quick = Literal[True] | asyncio.Future[None] | None


class Application(Protocol):
    """What answers requests."""

    def quick(self, data: bytes, now: float, viewer: ViewerConnection) -> Quick:
        """Answer bytes that are one plain request (`plain.py`), for something fresh at once: True; or later: what is
        done then. None: parse them. `now`: a moment of the edge's clock after they were read."""

    def at_once(self, parsed: Parsed, now: float) -> bytes | Callable[[], Awaitable[None]] | asyncio.Future[None]:
        """The whole answer; or what to await until it has been written to `parsed.viewer`; or what is done when
        `parsed.viewer` has been told the answer (`answered`), or how to go on (`go_on`)."""

    def refuse(self, refusal: Refusal, parsed: Parsed | None, now: float) -> bytes:
        """The answer to a request that is not served; the connection is closed after it."""


class _Refused(Exception):
    """Stops the parser; why is in the connection's `_refusal`."""


class ViewerConnection(asyncio.BufferedProtocol):
    """One viewer. Requests are answered in order; at most one is being worked on.

    Bytes come from a `wire.Wire`, or, over TLS, from the loop's transport: all of those read into the server's one
    buffer, because both loops call `buffer_updated` in the step in which they filled it.
    """

    __slots__ = (
        "_at_end",
        "_bodiless",
        "_body",
        "_busy",
        "_fields",
        "_head_started",
        "_last_write_size",
        "_now",
        "_out",
        "_out_size",
        "_parser",
        "_queue",
        "_quiet",
        "_reading_paused",
        "_refusal",
        "_server",
        "_target",
        "_unread_head",
        "_writable",
        "_write_paused",
        "_write_progress_at",
        "active_at",
        "gone",
        "peer",
        "transport",
        "visitor",
    )

    def __init__(self, server: GatewayServer) -> None:
        self._server = server
        self.transport: asyncio.Transport | None = None
        self.peer = ""
        self.visitor: Visitor | None = None
        """As `visitors.py` found it from `peer`; None while nobody asked, and where `peer` is a trusted hop."""
        self.gone = False
        self.active_at = 0.0
        self._parser = httptools.HttpRequestParser(self)
        self._target = b""
        self._fields: list[tuple[bytes, bytes]] = []
        self._body: RequestBody | None = None
        self._now = 0.0
        self._out: list[bytes] = []
        self._out_size = 0
        self._queue: deque[Parsed | Refusal] = deque()
        self._quiet = True
        """Nothing is under way: what comes next begins a request, and its answer may go out at once."""
        self._busy: asyncio.Future[None] | None = None
        """What the request being worked on waits for."""
        self._at_end = False
        """No further request is read: the last response is under way."""
        self._unread_head = 0
        """Bytes of an unfinished head received so far."""
        self._head_started: float | None = None
        self._reading_paused = False
        self._refusal = Refusal.MALFORMED
        self._bodiless = False
        """Whether the request being read is a HEAD, whose refusal has no body either."""
        self._write_paused = False
        self._writable: asyncio.Future[None] | None = None
        self._last_write_size = 0
        self._write_progress_at = 0.0

    # -- asyncio's side --------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not `isinstance`: uvloop's transports only look like asyncio's.
        self.transport = cast(asyncio.Transport, transport)
        peername = self.transport.get_extra_info("peername")
        self.peer = peername[0] if peername else ""
        self.active_at = self._now = self._server.clock()
        self.transport.set_write_buffer_limits(high=self._server.limits.write_buffer_bytes)
        self._server.joined(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone = True
        self._quiet = False
        self._at_end = True
        self._queue.clear()
        if self._body is not None:
            self._body.cut()
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._server.left(self)

    def eof_received(self) -> bool:
        """A viewer that has sent its last request may still be waiting for answers."""
        if self._body is not None and not self._body.complete:
            self._body.cut(Refusal.MALFORMED)
        self._at_end = True
        self._quiet = False
        # TLS has no half of a connection to wait on: it is closed from both sides.
        return not self._server.over_tls and (self._busy is not None or bool(self._queue))

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._server.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.received(bytes(self._server.buffer[:nbytes]))

    def received(self, data: bytes) -> None:
        """What the viewer has sent, READ_BYTES at the most."""
        server = self._server
        # Read after the bytes were: whatever is answered now was asked before `now`, however long this process slept.
        self._now = self.active_at = now = server.clock()
        if self._quiet and len(data) <= server.quick_bytes:
            answer = server.quick(data, now, self)
            if answer is True:
                return
            if answer is not None:
                self._busy = answer
                self._quiet = False
                return
        self._quiet = False
        if not self._reads:
            return
        self._feed(data)
        if self._queue and self._busy is None:
            self._advance()
        else:
            self._flush()
            self._settle()

    def _settle(self) -> None:
        self._quiet = (
            self._busy is None
            and not self._queue
            and self._head_started is None
            and self._body is None
            and not self._at_end
            and not self._write_paused
            and not self._reading_paused
            and not self.gone
        )

    @property
    def _reads(self) -> bool:
        """Whether anything more is read: also the rest of the last request's body."""
        return not self._at_end or self._body is not None

    def _feed(self, data: bytes) -> None:
        self._unread_head += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # CONNECT, or an offer to speak another protocol, which is not taken up: answered in HTTP/1.1, then closed.
            self._at_end = True
        except httptools.HttpParserError as exc:
            if self._reads:
                unknown = isinstance(exc, httptools.HttpParserInvalidMethodError) and _REQUEST_LINE(data)
                self._stop_with(Refusal.METHOD_UNKNOWN if unknown else self._refusal)
            return
        if self._head_started is None and self._body is None:
            self._unread_head = 0
        elif self._unread_head > self._server.limits.head_bytes:
            # A head; or chunk extensions or trailer fields without end.
            self._stop_with(Refusal.HEAD_TOO_LARGE)
            return
        if self._is_full():
            self._hold_reading()

    def pause_writing(self) -> None:
        self._write_paused = True
        self._quiet = False
        self._hold_reading()

    def resume_writing(self) -> None:
        self._write_paused = False
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        # However long the viewer took: what waits is answered as of now.
        self._now = self._server.clock()
        self._advance()

    # -- the parser's side -----------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._at_end:
            raise self._refused(Refusal.MALFORMED)
        self._target = b""
        self._fields = []
        self._bodiless = False
        self._head_started = self._now

    def on_url(self, url: bytes) -> None:
        self._target += url
        if len(self._target) > self._server.limits.target_bytes:
            raise self._refused(Refusal.TARGET_TOO_LONG)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields.append((name, value))

    def on_headers_complete(self) -> None:
        parser = self._parser
        self._head_started = None
        self._bodiless = parser.get_method() == b"HEAD"
        fields = self._fields
        host = None
        plain = True
        framed = False
        for name, value in fields:
            if name not in PLAIN_FIELDS:
                lowered = name.lower()
                if lowered == b"host":
                    if host is not None:
                        raise self._refused(Refusal.HOST_MISSING)
                    host = value
                elif lowered not in PLAIN_FIELDS:
                    plain = False
                    if lowered in {b"content-length", b"transfer-encoding", b"expect", b"upgrade"}:
                        framed = True
        keep_alive = parser.should_keep_alive()
        # HTTP/1.0 keeps alive only by a Connection field, which is not a plain one.
        if not (keep_alive and plain) and parser.get_http_version() != "1.1":
            raise self._refused(Refusal.VERSION)
        if host is None:
            raise self._refused(Refusal.HOST_MISSING)
        if self._unread_head > self._server.limits.head_bytes:
            size = len(self._target) + sum(len(name) + len(value) + 4 for name, value in fields)
            if size > self._server.limits.head_bytes:
                raise self._refused(Refusal.HEAD_TOO_LARGE)
        method = parser.get_method()
        body = self._framing(method, fields) if framed else None
        parsed = Parsed(
            method,
            self._target,
            host,
            fields,
            plain,
            keep_alive and not self._server.draining and (plain or not parser.should_upgrade()),
            body,
            self._now,
            self,
        )
        if not parsed.keep_alive:
            self._at_end = True
        self._body = body
        # What the parser still reports are trailer fields, which nobody reads: they must not join the request's fields.
        self._fields = []
        if self._busy is None and not self._queue and self._has_room():
            self._start(parsed)
        else:
            self._queue.append(parsed)

    def _framing(self, method: bytes, fields: list[tuple[bytes, bytes]]) -> RequestBody | None:
        """The body that the head announces. Raises _Refused."""
        length: int | None = None
        chunked = False
        expects_continue = False
        upgrade = False
        for name, value in fields:
            match name.lower():
                case b"content-length":
                    if length is not None or not value.strip(b" \t").isdigit():
                        raise self._refused(Refusal.MALFORMED)
                    length = int(value)
                case b"transfer-encoding":
                    if chunked or value.strip(b" \t").lower() != b"chunked":
                        raise self._refused(Refusal.TRANSFER_CODING)
                    chunked = True
                case b"expect":
                    if value.strip(b" \t").lower() != b"100-continue":
                        raise self._refused(Refusal.EXPECTATION)
                    expects_continue = True
                case b"upgrade":
                    upgrade = True
        if chunked and length is not None:
            raise self._refused(Refusal.MALFORMED)
        if not chunked and not length:
            return None
        if method in {b"GET", b"HEAD"}:
            raise self._refused(Refusal.BODY_NOT_ALLOWED)
        if upgrade and self._parser.should_upgrade():
            # The parser leaves HTTP after such a head, so that its body could not be told from a next request.
            raise self._refused(Refusal.MALFORMED)
        limit = self._server.limits.body_bytes
        if length is not None and length > limit:
            raise self._refused(Refusal.BODY_TOO_LARGE)
        body = RequestBody(self, length, limit, expects_continue=expects_continue)
        body.progressed_at = self._now
        return body

    def on_body(self, data: bytes) -> None:
        body = self._body
        if body is None:
            raise self._refused(Refusal.MALFORMED)
        body.progressed_at = self._now
        self._unread_head = 0
        body.feed(data)
        if body.buffered > self._server.limits.body_buffer_bytes:
            self._hold_reading()

    def on_message_complete(self) -> None:
        if self._body is not None:
            self._body.end()
            self._body = None
        self._unread_head = 0

    def _refused(self, refusal: Refusal) -> _Refused:
        self._refusal = refusal
        return _Refused()

    # -- answering in order ----------------------------------------------------------------------------------------

    def _start(self, parsed: Parsed) -> None:
        answer = self._server.application.at_once(parsed, self._now)
        if isinstance(answer, bytes):
            self._out.append(answer)
            self._out_size += len(answer)
            self._finished(parsed)
        elif isinstance(answer, asyncio.Future):
            self._busy = answer
        else:
            self._busy = asyncio.get_running_loop().create_task(self._work(parsed, answer))

    async def _work(self, parsed: Parsed, answer: Callable[[], Awaitable[None]]) -> None:
        try:
            await answer()
        except ViewerGone:
            self._at_end = True
        except Exception:
            logger.exception("an exchange failed: a fault of this program")
            self._abort()
        self._busy = None
        self._finished(parsed)
        self._now = self._server.clock()
        self._advance()

    def answered(self, parsed: Parsed, data: bytes, now: float) -> None:
        """The whole answer to the request being worked on, from somebody who was called back for it at `now`."""
        if not self.gone and self.transport is not None:
            self.transport.write(data)
        self._busy = None
        self._now = now
        self._settle()
        if not self._quiet or not parsed.keep_alive:
            self._finished(parsed)
            self._advance()

    def go_on(self, parsed: Parsed, answer: Callable[[], Awaitable[None]]) -> None:
        """There is something to await after all for the request being worked on."""
        self._busy = asyncio.get_running_loop().create_task(self._work(parsed, answer))

    def _finished(self, parsed: Parsed) -> None:
        """After the response to `parsed` was written whole."""
        body = parsed.body
        if body is not None and not (body.complete and not body.buffered):
            # The rest of a body that nobody wanted: there is no telling where the next request begins.
            self._at_end = True
            self._body = None
            self._queue.clear()
        elif not parsed.keep_alive:
            self._at_end = True

    def _advance(self) -> None:
        """Answer what waits, as far as possible without waiting; then read on, or close."""
        while True:
            if self._out_size >= self._server.limits.write_buffer_bytes:
                self._flush()
            if not self._queue or self._busy is not None or not self._has_room():
                break
            waiting = self._queue.popleft()
            if isinstance(waiting, Refusal):
                self._out.append(self._said_to(waiting))
                self._queue.clear()
                self._at_end = True
            else:
                self._start(waiting)
        self._flush()
        if self._reading_paused and not self._is_full() and self.transport is not None:
            self._reading_paused = False
            if not self.gone and not self.transport.is_closing():
                self.transport.resume_reading()
        self._settle()

    def _flush(self) -> None:
        """One write for everything that was answered since the last."""
        out = self._out
        transport = self.transport
        assert transport is not None
        if out:
            transport.write(out[0] if len(out) == 1 else b"".join(out))
            self._out = []
            self._out_size = 0
        if self._at_end and self._busy is None and not self._queue and not transport.is_closing():
            transport.close()

    def _stop_with(self, refusal: Refusal) -> None:
        """Nothing more is read; the refusal goes out after the answers to what came before it."""
        self._quiet = False
        self._head_started = None
        if self._body is not None:
            # The broken part is the body of a request that is being answered, or waits to be.
            self._body.cut(refusal)
            self._body = None
            self._at_end = True
        elif self._busy is None and not self._queue:
            self._out.append(self._said_to(refusal))
            self._at_end = True
        else:
            self._queue.append(refusal)
        self._hold_reading()
        self._flush()

    def _said_to(self, refusal: Refusal) -> bytes:
        """The answer to the request that reading stopped at (RFC 9110 §9.3.2)."""
        answer = self._server.application.refuse(refusal, None, self._now)
        head, end, _ = answer.partition(b"\r\n\r\n")
        return head + end if self._bodiless else answer

    # -- for the exchange being worked on ----------------------------------------------------------------------------

    def write(self, data: bytes | memoryview) -> None:
        """A piece of the response being worked on. Raises ViewerGone."""
        if self.gone or self.transport is None:
            raise ViewerGone
        self.transport.write(data)

    async def drain(self) -> None:
        """Wait until the viewer has taken enough. Raises ViewerGone."""
        if self.gone:
            raise ViewerGone
        if self._write_paused:
            self._writable = asyncio.get_running_loop().create_future()
            await self._writable
            if self.gone:
                raise ViewerGone

    def close_after(self) -> None:
        """The response being written is the last one on this connection."""
        self._at_end = True
        self._quiet = False
        self._queue.clear()

    def cut_short(self) -> None:
        """The response cannot be completed: hang up, so that nobody takes a part for the whole."""
        self._abort()

    def send_continue(self) -> None:
        if not self.gone and self.transport is not None:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def body_taken(self) -> None:
        if self._reading_paused:
            self._advance()

    # -- limits ----------------------------------------------------------------------------------------------------

    def _has_room(self) -> bool:
        """Whether another answer may be made: what is ready and what the viewer has not taken yet is bounded."""
        return not self._write_paused and self._out_size < self._server.limits.write_buffer_bytes

    def _is_full(self) -> bool:
        return (
            self._write_paused
            or len(self._queue) >= self._server.limits.pipelined
            or (self._body is not None and self._body.buffered > self._server.limits.body_buffer_bytes)
        )

    def _hold_reading(self) -> None:
        if not self._reading_paused and self.transport is not None and not self.transport.is_closing():
            self._reading_paused = True
            self.transport.pause_reading()

    def _abort(self) -> None:
        self._at_end = True
        self._quiet = False
        self._queue.clear()
        if self.transport is not None:
            self.transport.abort()

    def sweep(self, now: float) -> None:
        """Apply the timeouts; called about once a second."""
        transport, limits = self.transport, self._server.limits
        if transport is None or self.gone:
            return
        size = transport.get_write_buffer_size()
        if size == 0 or self._last_write_size - size >= limits.stalled_write_bytes or size > self._last_write_size:
            self._last_write_size = size
            self._write_progress_at = now
        elif now - self._write_progress_at > limits.stalled_write_s:
            self._abort()
            return
        if self._head_started is not None:
            if now - self._head_started > limits.head_s and not self._reading_paused:
                self._now = now
                self._stop_with(Refusal.TIMEOUT)
        elif self._body is not None:
            if now - self._body.progressed_at > limits.body_idle_s and not self._reading_paused:
                self._abort()
        elif self._busy is None and not self._queue and (size == 0 and now - self.active_at > limits.idle_s):
            transport.close()

    @property
    def is_idle(self) -> bool:
        """Nothing asked, nothing being answered: may be closed at any moment."""
        return self._busy is None and not self._queue and self._head_started is None and self._body is None

    async def finish(self) -> None:
        """Wait for the exchange being worked on."""
        while self._busy is not None:
            await asyncio.wait([self._busy])

    def stop(self) -> None:
        """Draining: the response under way is the last."""
        self._queue.clear()
        self._at_end = True
        self._quiet = False
        if self.is_idle and self.transport is not None:
            self.transport.close()


class GatewayServer:
    """Accepts viewers on one listener, applies timeouts, drains on demand. `clock`: seconds of the edge's clock."""

    SWEEP_EVERY_S = 1.0

    def __init__(self, application: Application, clock: Callable[[], float], limits: Limits | None = None) -> None:
        self.application = application
        self.clock = clock
        self.limits = limits or Limits()
        self.quick = application.quick
        self.quick_bytes = self.limits.head_bytes
        self.draining = False
        self.buffer = memoryview(bytearray(READ_BYTES))
        self.connections: dict[ViewerConnection, None] = {}
        """In the order in which they came."""
        self.accepted = 0
        self.over_tls = False
        self._listener: asyncio.Server | None = None
        self._wires: Listener | None = None
        self._sweeper: asyncio.Task[None] | None = None
        self._empty: asyncio.Future[None] | None = None
        """Resolved when the last viewer has left; only waited for while draining."""

    async def listen(self, bound: socket.socket, tls: ssl.SSLContext | None = None, handshake_s: float = 10.0) -> None:
        """Start accepting on a socket that is bound already; over TLS, where there is a context for it."""
        loop = asyncio.get_running_loop()
        self.over_tls = tls is not None
        if tls is None and wire.AVAILABLE:
            self._wires = Listener(bound, lambda: ViewerConnection(self))
        else:
            self._listener = await loop.create_server(
                lambda: ViewerConnection(self),
                sock=bound,
                backlog=1024,
                ssl=tls,
                ssl_handshake_timeout=None if tls is None else handshake_s,
                ssl_shutdown_timeout=None if tls is None else handshake_s,
            )
        self._sweeper = loop.create_task(self._sweep())

    def joined(self, viewer: ViewerConnection) -> None:
        self.accepted += 1
        self.connections[viewer] = None
        if len(self.connections) > self.limits.connections:
            assert viewer.transport is not None
            viewer.transport.write(self.application.refuse(Refusal.OVERLOADED, None, self.clock()))
            viewer.close_after()
            viewer.transport.close()

    def left(self, viewer: ViewerConnection) -> None:
        self.connections.pop(viewer, None)
        if not self.connections and self._empty is not None and not self._empty.done():
            self._empty.set_result(None)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(self.SWEEP_EVERY_S)
            self.sweep()

    def sweep(self) -> None:
        now = self.clock()
        for viewer in list(self.connections):
            viewer.sweep(now)

    async def drain(self, grace_s: float) -> None:
        """Accept nothing more, answer what is being answered for at most `grace_s` seconds, then hang up."""
        self.draining = True
        if self._listener is not None:
            self._listener.close()
        if self._wires is not None:
            self._wires.stop_accepting()
        for viewer in list(self.connections):
            viewer.stop()
        try:
            async with asyncio.timeout(grace_s):
                for viewer in list(self.connections):
                    await viewer.finish()
                if self.connections:
                    self._empty = asyncio.get_running_loop().create_future()
                    await self._empty
        except TimeoutError:
            pass
        for viewer in list(self.connections):
            if viewer.transport is not None:
                viewer.transport.abort()
        if self._wires is not None:
            self._wires.close()
        if self._sweeper is not None:
            self._sweeper.cancel()
