"""HTTP/1.1 read by the letter of RFC 9112, sharing no code with the edge: the origin's and the viewer's own opinion.

Whatever two readers might understand differently is a `Fault`. Slow, short, and only ever fed with whole buffers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

Fields = tuple[tuple[str, str], ...]
"""Lines in their order; names in lower case, values without blanks around them."""

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_REQUEST_LINE = re.compile(rb"(" + _TOKEN + rb") ([!-~]+) HTTP/1\.1")
_STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-5][0-9][0-9])(?: [\t -~\x80-\xff]*)?")
_FIELD_LINE = re.compile(rb"(" + _TOKEN + rb"):([\t -~\x80-\xff]*)")
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})(?:;[\t -~\x80-\xff]*)?")
_LONGEST_HEAD = 131_072


class Fault(Exception):
    """The bytes are not one HTTP/1.1 message that every reader takes for the same."""


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    target: str
    fields: Fields
    body: bytes

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.fields if key == name]

    def get(self, name: str) -> str | None:
        found = self.all(name)
        return found[0] if found else None


@dataclass(frozen=True, slots=True)
class Answer:
    """A response. `closes`: it ended, or was cut, with the connection."""

    status: int
    fields: Fields
    body: bytes
    closes: bool = False

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.fields if key == name]

    def get(self, name: str) -> str | None:
        found = self.all(name)
        return found[0] if found else None

    @property
    def is_hit(self) -> bool:
        return "; hit" in (self.get("cache-status") or "")


def read_request(data: bytes) -> tuple[Request, int] | None:
    """The first request in `data`, and where it ends; None: there is more to come. Raises Fault."""
    head = _head(data)
    if head is None:
        return None
    first, fields, at = head
    line = _REQUEST_LINE.fullmatch(first)
    if line is None:
        raise Fault(f"no request line: {first[:80]!r}")
    hosts = [value for name, value in fields if name == "host"]
    if len(hosts) != 1:
        raise Fault(f"{len(hosts)} Host fields")
    body = _body(data, at, fields, bodiless=False, to_the_end=False)
    if body is None:
        return None
    content, end = body
    return Request(line[1].decode(), line[2].decode(), fields, content), end


def read_answer(data: bytes, method: str, *, ended: bool = False) -> tuple[Answer, int] | None:
    """The first final response in `data` to a request with this method, and where it ends; None: there is more to come.
    `ended`: nothing more will. Raises Fault."""
    at = 0
    while True:
        head = _head(data[at:])
        if head is None:
            return None
        first, fields, length = head
        at += length
        line = _STATUS_LINE.fullmatch(first)
        if line is None:
            raise Fault(f"no status line: {first[:80]!r}")
        status = int(line[1])
        if status >= 200:
            break
        if status == 101:
            raise Fault("it speaks another protocol")
    bodiless = method == "HEAD" or status in {204, 304}
    framed = any(name in {"content-length", "transfer-encoding"} for name, _ in fields)
    if not bodiless and not framed:
        return (Answer(status, fields, data[at:], True), len(data)) if ended else None
    body = _body(data, at, fields, bodiless=bodiless, to_the_end=True)
    if body is None:
        return None
    closes = any(name == "connection" and "close" in value.lower() for name, value in fields)
    return Answer(status, fields, body[0], closes), body[1]


def _head(data: bytes) -> tuple[bytes, Fields, int] | None:
    end = data.find(b"\r\n\r\n")
    seen = data if end < 0 else data[:end]
    if len(seen) > _LONGEST_HEAD:
        raise Fault("a head without end")
    first, *lines = seen.split(b"\r\n")
    for line in (first, *lines):
        # Of an unfinished head the last line may end in the first half of a line break.
        text = line[:-1] if end < 0 and line.endswith(b"\r") else line
        if b"\n" in text or b"\r" in text or b"\0" in text:
            raise Fault(f"a bare line break or NUL: {line[:80]!r}")
    if end < 0:
        return None
    fields = []
    for line in lines:
        found = _FIELD_LINE.fullmatch(line)
        if found is None:
            raise Fault(f"no field line: {line[:80]!r}")
        fields.append((found[1].decode().lower(), found[2].strip(b" \t").decode("latin-1")))
    return first, tuple(fields), end + 4


def _body(data: bytes, at: int, fields: Fields, *, bodiless: bool, to_the_end: bool) -> tuple[bytes, int] | None:
    lengths = [value for name, value in fields if name == "content-length"]
    codings = [value for name, value in fields if name == "transfer-encoding"]
    if lengths and codings:
        raise Fault("a length and a transfer coding")
    if len(lengths) > 1 or len(codings) > 1:
        raise Fault("two of one framing")
    if lengths and re.fullmatch(r"[0-9]{1,15}", lengths[0]) is None:
        raise Fault(f"no length: {lengths[0]!r}")
    if codings and codings[0].lower() != "chunked":
        raise Fault(f"an unknown transfer coding: {codings[0]!r}")
    if bodiless:
        return b"", at
    if codings:
        return _chunks(data, at)
    end = at + (int(lengths[0]) if lengths else 0)
    return (data[at:end], end) if len(data) >= end else None


def _chunks(data: bytes, at: int) -> tuple[bytes, int] | None:
    pieces: list[bytes] = []
    while True:
        end = data.find(b"\r\n", at)
        line = data[at:] if end < 0 else data[at:end]
        text = line[:-1] if end < 0 and line.endswith(b"\r") else line
        if b"\n" in text or b"\r" in text or len(text) > _LONGEST_HEAD:
            raise Fault(f"no chunk size: {line[:40]!r}")
        if end < 0:
            if text and re.fullmatch(rb"[0-9A-Fa-f]{1,16}(;.*)?", text) is None:
                raise Fault(f"no chunk size: {line[:40]!r}")
            return None
        found = _CHUNK_LINE.fullmatch(line)
        if found is None:
            raise Fault(f"no chunk size: {line[:40]!r}")
        size, at = int(found[1], 16), end + 2
        if size == 0:
            return _trailers(data, at, b"".join(pieces))
        after = data[at + size : at + size + 2]
        if not b"\r\n".startswith(after):
            raise Fault(f"a chunk goes on beyond its size: {after!r}")
        if len(after) < 2:
            return None
        pieces.append(data[at : at + size])
        at += size + 2


def _trailers(data: bytes, at: int, content: bytes) -> tuple[bytes, int] | None:
    while True:
        end = data.find(b"\r\n", at)
        line = data[at:] if end < 0 else data[at:end]
        text = line[:-1] if end < 0 and line.endswith(b"\r") else line
        if b"\n" in text or b"\r" in text or b"\0" in text:
            raise Fault(f"no trailer field: {line[:40]!r}")
        if end < 0:
            return None
        at = end + 2
        if not line:
            return content, at
        if _FIELD_LINE.fullmatch(line) is None:
            raise Fault(f"no trailer field: {line[:40]!r}")
