"""Parts of a whole body, cut from what is stored (RFC 9110 §14)."""

from __future__ import annotations

import re
from itertools import pairwise
from zlib import crc32

from edge.core.http import Headers, list_members

MAX_RANGES = 5
"""More at once, or some that overlap, and the whole is sent: no attack makes an answer longer than what it is of."""
_MAX_CHARACTERS = 200
"""Of the field that are read: five ranges of any body that fits into memory are shorter."""
_SPEC = re.compile(r"([0-9]+)-([0-9]+)?|-([0-9]+)")

Part = tuple[int, int]
"""First octet and the one after the last."""


def wanted_parts(field: str, octets: int) -> tuple[Part, ...] | None:
    """The parts of a body of so many octets that a Range field asks for, in its order (RFC 9110 §14.1.2).

    None: the field does not count, send the whole. No part at all: none of them exists, 416.
    """
    unit, _, specs = field.partition("=")
    members = list_members(specs) if len(field) <= _MAX_CHARACTERS else []
    if unit.strip(" \t").lower() != "bytes" or not 1 <= len(members) <= MAX_RANGES:
        return None
    parts: list[Part] = []
    for member in members:
        spec = _SPEC.fullmatch(member)
        if spec is None:
            return None
        if spec[3] is not None:
            first, end = max(0, octets - int(spec[3])), octets
        else:
            first, end = int(spec[1]), min(octets, int(spec[2]) + 1) if spec[2] else octets
            if spec[2] and int(spec[2]) < first:
                return None
        if first < end:
            parts.append((first, end))
    if any(after[0] < before[1] for before, after in pairwise(sorted(parts))):
        return None
    return tuple(parts)


def partial(headers: Headers, body: bytes, parts: tuple[Part, ...]) -> tuple[Headers, bytes]:
    """Fields and body of a 206 with these parts; `headers` are the 200's, without Content-Length (RFC 9110 §15.3.7).

    What is true of the whole content only goes. Several parts are multipart/byteranges (§14.6), with a boundary that
    is not in the body.
    """
    fields = headers.without(_OF_THE_WHOLE_CONTENT)
    if len(parts) == 1:
        first, end = parts[0]
        return fields.with_(("content-range", f"bytes {first}-{end - 1}/{len(body)}")), body[first:end]
    content_type = headers.get("content-type")
    boundary = _boundary(body)
    pieces: list[bytes] = []
    for first, end in parts:
        head = f"\r\n--{boundary}\r\ncontent-range: bytes {first}-{end - 1}/{len(body)}\r\n"
        if content_type is not None:
            head += f"content-type: {content_type}\r\n"
        pieces += [f"{head}\r\n".encode("latin-1"), body[first:end]]
    pieces.append(f"\r\n--{boundary}--\r\n".encode())
    return fields.with_(("content-type", f"multipart/byteranges; boundary={boundary}")), b"".join(pieces)


_OF_THE_WHOLE_CONTENT = frozenset({"content-digest", "content-md5"})


def _boundary(body: bytes) -> str:
    """The same for the same body, and never part of it."""
    number = crc32(body)
    while (boundary := f"nearshelf-{number:08x}").encode() in body:
        number += 1
    return boundary
