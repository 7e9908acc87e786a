"""The plain response: what nearly every origin says, read line by line from lines that were read before.

A subset of what the complete parser takes (`connection.py`, llhttp), so narrow that there is nothing to be understood
in two ways: HTTP/1.1, a final status, its length in one Content-Length, the connection kept open, all of the head in
the first piece. Whatever is not that goes to the complete parser, which says what it is; tests hold the two against
each other. Most lines are those of the response before: what each says is remembered.
"""

from __future__ import annotations

import re
import sys
from typing import NamedTuple

from edge.gateway.origin.limits import MAX_RESPONSE_FIELDS, MAX_RESPONSE_HEAD_BYTES

MAX_KNOWN_LINES = 4_096
MAX_KNOWN_LINE_BYTES = 256
_OWN = frozenset({"age", "content-length", "etag", "set-cookie"})
"""Fields that differ from one response to the next: not remembered."""

Line = tuple[str, str, str]
"""A field's name, its value, and both as they are written."""

_status_line = re.compile(rb"HTTP/1\.1 ([2-5][0-9][0-9])(?: [\t -~\x80-\xff]*)?").fullmatch
_field_line = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[\t ]*([\t -~\x80-\xff]*)").fullmatch
_length = re.compile(r"[0-9]{1,15}").fullmatch

_known_statuses: dict[bytes, int] = {}
_known_lines: dict[bytes, Line] = {}


class PlainHead(NamedTuple):
    """Status and fields, how long the body is (of a response that may have one), and where it begins."""

    status: int
    lines: list[Line]
    length: int
    end: int


def read_plain_head(data: bytes) -> PlainHead | None:
    """The head at the beginning of `data`; None: read it in full."""
    end = data.find(b"\r\n\r\n")
    if not 0 < end < MAX_RESPONSE_HEAD_BYTES:
        return None
    lines = data[:end].split(b"\r\n")
    status = _known_statuses.get(lines[0])
    if status is None:
        status = _read_status(lines[0])
        if status is None:
            return None
    if len(lines) > MAX_RESPONSE_FIELDS:
        return None
    length = -1
    found: list[Line] = []
    for line in lines[1:]:
        known = _known_lines.get(line)
        if known is None:
            known = _read_line(line)
            if known is None:
                return None
            name, value, _ = known
            if name == "content-length":
                if length >= 0 or _length(value) is None:
                    return None
                length = int(value)
            elif name == "transfer-encoding" or (name == "connection" and value.lower() != "keep-alive"):
                return None
        found.append(known)
    if length < 0 or status == 204:
        return None
    return PlainHead(status, found, length, end + 4)


def _read_status(line: bytes) -> int | None:
    found = _status_line(line)
    if found is None:
        return None
    status = int(found[1])
    if len(_known_statuses) < MAX_KNOWN_LINES and len(line) <= MAX_KNOWN_LINE_BYTES:
        _known_statuses[line] = status
    return status


def _read_line(line: bytes) -> Line | None:
    found = _field_line(line)
    if found is None:
        return None
    # One object for each name, because lines of their own are stored with very many responses.
    name, value = sys.intern(found[1].decode("ascii").lower()), found[2].decode("latin-1").rstrip(" \t")
    read = name, value, f"{name}: {value}"
    plain = name != "transfer-encoding" and (name != "connection" or value.lower() == "keep-alive")
    if plain and name not in _OWN and len(line) <= MAX_KNOWN_LINE_BYTES:
        if len(_known_lines) >= MAX_KNOWN_LINES:
            _known_lines.clear()
        _known_lines[line] = read
    return read
