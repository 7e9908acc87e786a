"""One connection to an origin: one exchange at a time, read strictly, bounded, with one timer for all its deadlines.

A plain response is read by `plain_head.py`. Of all others httptools (llhttp) refuses bare LF, obs-fold, a space before
the colon, controls in names and values, two framings, doubtful lengths and chunk sizes. Here stands what it lets pass
and we do not: other protocols and versions, status codes that are none, transfer codings but chunked, interim responses
without end, chunk extensions without end, and anything after the response.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import cast

import httptools

from edge.core.http import Headers, list_members
from edge.gateway.origin.errors import ErrorKind, OriginError
from edge.gateway.origin.limits import (
    CHUNK_LINE_BYTES,
    MAX_CHUNK_OVERHEAD_BYTES,
    MAX_INTERIM_RESPONSES,
    MAX_RESPONSE_FIELDS,
    MAX_RESPONSE_HEAD_BYTES,
    READ_AHEAD_BYTES,
)
from edge.gateway.origin.plain_head import Line, read_plain_head

OnInterim = Callable[[int, Headers], None]
"""Hears of interim responses that are for the viewer: 103 (RFC 8297)."""

_PREFIX = b"HTTP/1."
_EARLY_HINTS = 103
_BODILESS = frozenset({204, 304})
_VERSIONS = frozenset({"1.1", "1.0"})
_SPECIAL = frozenset({"connection", "content-length", "transfer-encoding"})
_MAX_KNOWN_NAMES = 4_096
_known_names: dict[bytes, str] = {}
"""Field names as spelt -> lower case: most are the same in every response."""


class _Refused(Exception):
    """Stops the parser; why is in the connection's `_refusal`."""


class Connection(asyncio.Protocol):
    """`on_lost` is told once when it is gone."""

    __slots__ = (
        "_buffered",
        "_busy",
        "_chunk_count",
        "_chunks",
        "_complete",
        "_deadline",
        "_error",
        "_fed",
        "_head",
        "_head_bytes",
        "_head_done",
        "_headers",
        "_interims",
        "_is_chunked",
        "_late",
        "_left",
        "_lines",
        "_loop",
        "_method",
        "_more",
        "_on_interim",
        "_on_lost",
        "_pairs",
        "_parser",
        "_paused_reading",
        "_paused_writing",
        "_received",
        "_refusal",
        "_special",
        "_target",
        "_timer",
        "_timer_at",
        "_writable",
        "close_delimited",
        "closed",
        "idle_since",
        "length",
        "may_keep",
        "on_event",
        "placed",
        "status",
        "transport",
    )

    def __init__(self, on_lost: Callable[[Connection], None]) -> None:
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self.transport: asyncio.Transport | None = None
        self.closed = False
        self.placed = False
        """Whether it counts as one of its address's requests under way."""
        self.idle_since = 0.0
        self._parser: httptools.HttpResponseParser | None = None
        self._busy = False
        self._writable: asyncio.Future[None] | None = None
        self._paused_writing = False
        self._paused_reading = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._deadline: float | None = None
        self._late = ErrorKind.HTTP_RESPONSE_TIMEOUT
        self._chunks: deque[bytes] = deque()
        self.on_event: Callable[[], None] | None = None
        """Called when the head is there, for every piece after it, at the end, and when the exchange has failed."""
        self.may_keep = False
        self.length: int | None = None
        self.status = 0
        self._prepare("", "", None)
        self._prepare_parser()

    def _prepare(self, method: str, target: str, on_interim: OnInterim | None) -> None:
        self._method = method
        self._target = target
        self._on_interim = on_interim
        self._head: asyncio.Future[None] | None = None
        self._more: asyncio.Future[None] | None = None
        self._chunks.clear()
        self._buffered = 0
        self._fed = 0
        self._left = 0
        """Bytes that are still to come of a plain response's body."""
        self._is_chunked = False
        self._head_done = False
        self._complete = False
        self._error: ErrorKind | None = None
        self.close_delimited = False
        self._headers: Headers | None = None
        self._lines: list[Line] | None = None

    def _prepare_parser(self) -> None:
        """For a response that is read in full."""
        self._special: list[tuple[str, str]] = []
        self._pairs: list[tuple[str, str]] = []
        self._head_bytes = 0
        self._received = 0
        self._chunk_count = 0
        self._interims = 0
        self._refusal = ErrorKind.HTTP_PROTOCOL_ERROR
        if self._parser is None:
            self._parser = httptools.HttpResponseParser(self)

    # -- asyncio's side ------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not `isinstance`: uvloop's transports only look like asyncio's.
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if not self._busy or self._complete:
            # Bytes that nobody asked for: the next response could not be told from them.
            self.close()
            return
        if self._left:
            self._plain_body(data)
        elif self._fed or not self._read_plain(data):
            self._feed(data)
        if self.on_event is not None and (self._head_done or self._error is not None):
            self.on_event()

    received = data_received
    """As a `wire.Wire` calls it."""

    def eof_received(self) -> bool:
        """An origin that sends no more is not waited for."""
        return False

    def _read_plain(self, data: bytes) -> bool:
        """Whether it was a plain response, or the beginning of one, and has been read."""
        plain = read_plain_head(data) if self._method != "HEAD" else None
        if plain is None or plain.status == 304:
            return False
        self._fed = len(data)
        self.status = plain.status
        self._lines = plain.lines
        self._head_done = True
        self.length = self._left = plain.length
        self.may_keep = True
        _wake(self._head)
        if plain.length:
            if len(data) > plain.end:
                self._plain_body(data[plain.end :])
        else:
            self._end()
            if len(data) > plain.end:
                self.close()
        return True

    def _plain_body(self, data: bytes) -> None:
        """More of a body of a known length. Bytes after it end the connection."""
        left = self._left - len(data)
        if left > 0:
            self._left = left
            self._take_in(data)
            return
        self._take_in(data[:left] if left else data)
        self._left = 0
        self._end()
        if left:
            self.close()

    def _feed(self, data: bytes) -> None:
        """The complete parser reads it."""
        if not self._fed:
            self._prepare_parser()
        parser = self._parser
        assert parser is not None
        if self._fed < len(_PREFIX) and not self._starts_well(data):
            # The parser would also take other protocols, and empty lines before the status line.
            self._fail(ErrorKind.HTTP_PROTOCOL_ERROR)
            return
        self._fed += len(data)
        try:
            parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._fail(ErrorKind.HTTP_PROTOCOL_ERROR)
        except httptools.HttpParserError:
            self._fail(self._refusal)
        else:
            if not self._head_done and self._fed > MAX_RESPONSE_HEAD_BYTES:
                self._fail(ErrorKind.HTTP_RESPONSE_HEADER_SECTION_SIZE)
            elif self._is_chunked and self._overhead() > MAX_CHUNK_OVERHEAD_BYTES:
                self._fail(ErrorKind.HTTP_PROTOCOL_ERROR)

    def _starts_well(self, data: bytes) -> bool:
        rest = _PREFIX[self._fed :]
        return data.startswith(rest) or rest.startswith(data)

    def _overhead(self) -> int:
        """Bytes of a chunked body that are neither its data nor its chunks' ordinary lines."""
        return self._fed - self._head_bytes - self._received - self._chunk_count * CHUNK_LINE_BYTES

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._busy and not self._complete:
            if self.close_delimited and exc is None:
                self._end()
            else:
                self._fail(ErrorKind.HTTP_RESPONSE_INCOMPLETE if self._fed else ErrorKind.CONNECTION_TERMINATED)
            if self.on_event is not None:
                self.on_event()
        self._parser = None
        self.resume_writing()
        self._on_lost(self)

    def pause_writing(self) -> None:
        self._paused_writing = True

    def resume_writing(self) -> None:
        self._paused_writing = False
        _wake(self._writable)

    # -- the parser's side ---------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._complete:
            raise self._refused(ErrorKind.HTTP_PROTOCOL_ERROR)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._head_done:
            return  # a trailer field: nobody reads it, and it must not join the fields
        self._head_bytes += len(name) + len(value) + 4
        if self._head_bytes > MAX_RESPONSE_HEAD_BYTES or len(self._pairs) >= MAX_RESPONSE_FIELDS:
            raise self._refused(ErrorKind.HTTP_RESPONSE_HEADER_SECTION_SIZE)
        pair = (_known_names.get(name) or _know(name), value.decode("latin-1").rstrip(" \t"))
        self._pairs.append(pair)
        if pair[0] in _SPECIAL:
            self._special.append(pair)

    def on_headers_complete(self) -> None:
        parser = self._parser
        assert parser is not None
        status = parser.get_status_code()
        pairs, self._pairs = self._pairs, []
        special, self._special = self._special, []
        headers = Headers(pairs)
        if status < 200:
            self._interim(status, headers)
            return
        version = parser.get_http_version()
        if status > 599 or version not in _VERSIONS:
            raise self._refused(ErrorKind.HTTP_PROTOCOL_ERROR)
        length: str | None = None
        chunked = False
        said: list[str] = []
        for name, value in special:
            if name == "content-length":
                length = value
            elif name == "connection":
                said += [member.lower() for member in list_members(value)]
            elif chunked or version == "1.0" or value.lower() != "chunked":
                raise self._refused(ErrorKind.HTTP_PROTOCOL_ERROR)
            else:
                chunked = True
        has_body = self._method != "HEAD" and status not in _BODILESS
        self.status = status
        self._headers = headers
        self._head_done = True
        self._is_chunked = has_body and chunked
        self.length = int(length) if has_body and length is not None else None
        self.close_delimited = has_body and length is None and not chunked
        self.may_keep = "close" not in said and (version == "1.1" or "keep-alive" in said)
        if status == 204 and (chunked or length not in {None, "0"}):
            # Announces what it must not have (RFC 9110 §8.6, RFC 9112 §6.1): where it ends is anybody's guess.
            self.may_keep = False
        _wake(self._head)
        if self._method == "HEAD":
            # httptools cannot be told that a response to HEAD has no body; it need not see the rest.
            self._parser = None
            self._end()

    def _interim(self, status: int, headers: Headers) -> None:
        """100, 102 and what is unknown are for nobody; 103 is for the viewer. Raises _Refused."""
        self._interims += 1
        if status == 101 or status < 100 or self._interims > MAX_INTERIM_RESPONSES:
            raise self._refused(ErrorKind.HTTP_PROTOCOL_ERROR)
        if status == _EARLY_HINTS and self._on_interim is not None:
            self._on_interim(status, headers)

    def on_chunk_header(self) -> None:
        self._chunk_count += 1

    def on_body(self, data: bytes) -> None:
        if self._complete:
            raise self._refused(ErrorKind.HTTP_PROTOCOL_ERROR)
        self._received += len(data)
        self._take_in(data)

    def on_message_complete(self) -> None:
        if self._head_done and not self._complete:
            self._end()

    def _refused(self, kind: ErrorKind) -> _Refused:
        self._refusal = kind
        return _Refused()

    # -- how an exchange goes on, and ends -----------------------------------------------------------------------------

    @property
    def headers(self) -> Headers:
        """The fields of the response."""
        found = self._headers
        if found is None:
            found = self._headers = Headers([line[:2] for line in self._lines or ()])
        return found

    @property
    def lines(self) -> list[Line]:
        """The same, as they are written."""
        found = self._lines
        if found is None:
            found = self._lines = [(name, value, f"{name}: {value}") for name, value in self.headers.pairs]
        return found

    def _take_in(self, data: bytes) -> None:
        """A piece of the body."""
        self._chunks.append(data)
        self._buffered += len(data)
        if self._buffered > READ_AHEAD_BYTES and not self._paused_reading and self.transport is not None:
            self._paused_reading = True
            self.transport.pause_reading()
        _wake(self._more)

    def _end(self) -> None:
        self._complete = True
        self._deadline = None
        _wake(self._more)

    def _fail(self, kind: ErrorKind) -> None:
        if not self._complete:
            self._error = self._error or kind
            self._deadline = None
            _wake(self._head)
            _wake(self._more)
            _wake(self._writable)
        self.close()

    def close(self) -> None:
        self.closed = True
        if self.transport is not None:
            self.transport.abort()

    def _raise_error(self) -> None:
        """Raises OriginError when the exchange has failed."""
        if self._error is not None:
            raise OriginError(self._error, self._target)

    # -- deadlines -----------------------------------------------------------------------------------------------------

    def _wait_at_most(self, seconds: float, late: ErrorKind) -> None:
        """Fail with `late` unless something happens within `seconds`.

        The timer is left alone when the deadline moves back: it looks for itself, when it is due, whether it still is.
        So a connection in steady use sets a timer every few seconds, and not several for each exchange.
        """
        if seconds == float("inf"):
            self._deadline = None
            return
        self._late = late
        self._deadline = deadline = self._loop.time() + seconds
        if self._timer is None:
            self._set_timer(deadline)
        elif deadline < self._timer_at:
            self._timer.cancel()
            self._set_timer(deadline)

    def _set_timer(self, deadline: float) -> None:
        self._timer_at = deadline
        self._timer = self._loop.call_at(deadline, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if self._deadline is None:
            return
        if self._deadline > self._timer_at:
            self._set_timer(self._deadline)
        else:
            self._fail(self._late)
            if self.on_event is not None:
                self.on_event()

    # -- the pool's side -----------------------------------------------------------------------------------------------

    @property
    def is_usable(self) -> bool:
        return not self.closed and self.transport is not None and not self.transport.is_closing()

    def begin(self, method: str, target: str, data: bytes, on_interim: OnInterim | None = None) -> None:
        """Write a request's head, and its body where that is there already, and get ready for its response."""
        self._prepare(method, target, on_interim)
        self._head = self._loop.create_future()
        self._write_first(data)

    def begin_told(
        self, target: str, data: bytes, head_s: float, on_event: Callable[[], None], on_interim: OnInterim
    ) -> None:
        """The same for a GET that nobody waits for: `on_event` is called, not before this returns."""
        self._prepare("GET", target, on_interim)
        self.on_event = on_event
        self._wait_at_most(head_s, ErrorKind.HTTP_RESPONSE_TIMEOUT)
        self._write_first(data)

    def _write_first(self, data: bytes) -> None:
        assert self.transport is not None
        self._busy = True
        self.transport.write(data)

    def go_on_for(self, idle_s: float) -> None:
        """More of the body has to come within `idle_s`."""
        self._wait_at_most(idle_s, ErrorKind.HTTP_RESPONSE_TIMEOUT)

    @property
    def error(self) -> OriginError | None:
        """Why the exchange has failed."""
        return None if self._error is None else OriginError(self._error, self._target)

    async def write(self, data: bytes, write_s: float) -> None:
        """Write a piece of the request's body and wait until there is room. Raises OriginError."""
        self._raise_error()
        if not self.is_usable or self.transport is None:
            raise OriginError(ErrorKind.CONNECTION_TERMINATED, self._target)
        self.transport.write(data)
        if self._paused_writing:
            self._writable = self._loop.create_future()
            self._wait_at_most(write_s, ErrorKind.CONNECTION_WRITE_TIMEOUT)
            await self._writable
            self._deadline = None
            self._raise_error()

    @property
    def head(self) -> asyncio.Future[None]:
        """Done when the head has arrived, or when it will not."""
        assert self._head is not None
        return self._head

    async def wait_for_head(self, head_s: float) -> None:
        """Raises OriginError."""
        if not self.head.done():
            self._wait_at_most(head_s, ErrorKind.HTTP_RESPONSE_TIMEOUT)
            await self.head
        self._deadline = None
        self._raise_error()

    async def next_chunk(self, idle_s: float) -> bytes:
        """The next piece of the body; empty at its end. Raises OriginError when the body was cut short."""
        while not self._chunks:
            self._raise_error()
            if self._complete:
                return b""
            self._more = self._loop.create_future()
            self._wait_at_most(idle_s, ErrorKind.HTTP_RESPONSE_TIMEOUT)
            await self._more
            self._deadline = None
        data = self._chunks.popleft()
        self._buffered -= len(data)
        if self._paused_reading and self._buffered <= READ_AHEAD_BYTES // 2 and self.is_usable:
            assert self.transport is not None
            self._paused_reading = False
            self.transport.resume_reading()
        return data

    def take(self) -> bytes:
        """All that is here of the body."""
        chunks = self._chunks
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        chunks.clear()
        self._buffered = 0
        return body

    @property
    def has_head(self) -> bool:
        """Whether the final response's head is there."""
        return self._head_done

    @property
    def whole(self) -> bool:
        """Whether everything that is left of the response is here."""
        return self._complete

    def finish(self) -> bool:
        """End the exchange; whether the connection may carry another."""
        self._busy = False
        self._deadline = None
        self._on_interim = None
        self.on_event = None
        reusable = (
            self._complete
            and self.may_keep
            and not self._buffered
            and self.is_usable
            # The answer came before the whole request had gone: the rest of it would be taken for another.
            and self.transport is not None
            and not self.transport.get_write_buffer_size()
        )
        if not reusable:
            self.close()
        return reusable


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)


def _know(name: bytes) -> str:
    lowered = name.decode("ascii").lower()
    if len(_known_names) < _MAX_KNOWN_NAMES:
        _known_names[name] = lowered
    return lowered
