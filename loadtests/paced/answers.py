"""One HTTP/1.1 response after the other from the bytes of a connection: its code, its Cache-Status, how long it was.

Bodies are counted and forgotten. Made for tens of thousands a second: a head is searched for four fields, not parsed.
"""

from __future__ import annotations

from typing import NamedTuple

MAX_HEAD_BYTES = 65_536
_NO_BODY = frozenset({204, 304})


class Unreadable(ValueError):
    """What came is not a response to what was asked."""


class Head(NamedTuple):
    code: int
    length: int | None
    """Bytes of the body; None: chunked, or as long as the connection lasts."""
    chunked: bool
    keeps: bool
    """The connection takes another request afterwards."""
    cache_status: bytes
    """The last line of that name; empty: there was none."""


def read_head(head: bytes, *, has_body: bool = True) -> Head:
    """`head`: from the status line to the empty line, both included. `has_body`: it does not answer a HEAD.

    Raises Unreadable.
    """
    if not head.startswith((b"HTTP/1.1 ", b"HTTP/1.0 ")) or not head[9:12].isdigit():
        raise Unreadable(f"no status line: {head[:40]!r}")
    code = int(head[9:12])
    low = head.lower()
    connection = _value(low, b"\r\nconnection:")
    keeps = b"close" not in connection if head[7:8] == b"1" else b"keep-alive" in connection
    status = _value(head, b"\r\ncache-status:", low)
    if not has_body or code in _NO_BODY or 100 <= code < 200:
        return Head(code, 0, False, keeps, status)
    if b"chunked" in _value(low, b"\r\ntransfer-encoding:"):
        return Head(code, None, True, keeps, status)
    length = _value(low, b"\r\ncontent-length:")
    if not length:
        return Head(code, None, False, False, status)
    if not length.isdigit():
        raise Unreadable(f"content-length: {length[:20]!r}")
    return Head(code, int(length), False, keeps, status)


def _value(head: bytes, name: bytes, low: bytes | None = None) -> bytes:
    """What stands after the last `name`, which is searched for in `low` (the head itself), without spaces around."""
    at = (head if low is None else low).rfind(name)
    return b"" if at < 0 else head[at + len(name) : head.index(b"\r\n", at + 2)].strip()


class Answers:
    """The responses of one connection. After each, `code`, `cache_status`, `size` and `keeps` are about it."""

    __slots__ = ("_buffer", "_chunked", "_has_body", "_left", "begun", "cache_status", "code", "keeps", "size")

    def __init__(self) -> None:
        self.expect(has_body=True)

    def expect(self, *, has_body: bool) -> None:
        """A request is sent; the answer to a HEAD has no body, whatever its head says."""
        self._has_body = has_body
        self._buffer = b""
        self._left: int | None = None
        """Bytes of the body, or of the chunk, that are still to come; None: no length is known."""
        self._chunked = False
        self.begun = False
        """A byte of the answer has come."""
        self.code = 0
        """0: no head yet."""
        self.cache_status = b""
        self.size = 0
        """Bytes of the body so far."""
        self.keeps = True

    def feed(self, data: bytes) -> bool:
        """Whether the response is complete. Raises Unreadable, for bytes after its end too."""
        self.begun = True
        if not self.code:
            data = self._buffer + data if self._buffer else data
            while True:
                end = data.find(b"\r\n\r\n")
                if end < 0:
                    if len(data) > MAX_HEAD_BYTES:
                        raise Unreadable("a head without an end")
                    self._buffer = data
                    return False
                head = read_head(data[: end + 4], has_body=self._has_body)
                data = data[end + 4 :]
                if head.code >= 200:
                    break
            self.code, self._left, self._chunked, self.keeps, self.cache_status = head
            self._buffer = b""
        if self._chunked:
            return self._feed_chunks(data)
        self.size += len(data)
        if self._left is None:
            return False
        self._left -= len(data)
        if self._left < 0:
            raise Unreadable("bytes after the end of a body")
        return self._left == 0

    def closed(self) -> bool:
        """The other side sent its last byte: whether the response is complete by that."""
        return self.code != 0 and self._left is None and not self._chunked

    def _feed_chunks(self, data: bytes) -> bool:
        """RFC 9112 section 7.1. `_left`: of the chunk and the line end after it."""
        data = self._buffer + data
        self._buffer = b""
        while True:
            if self._left:
                taken = min(self._left, len(data))
                self._left -= taken
                data = data[taken:]
                if self._left:
                    return False
            end = data.find(b"\r\n")
            if end < 0:
                self._buffer = data
                return False
            try:
                size = int(data[:end].partition(b";")[0], 16)
            except ValueError as exc:
                raise Unreadable(f"no size of a chunk: {data[:20]!r}") from exc
            if size == 0:
                if b"\r\n\r\n" in data[end:]:
                    # After trailer fields, if there are any.
                    return True
                self._buffer = data
                return False
            self.size += size
            self._left = size + 2
            data = data[end + 2 :]
