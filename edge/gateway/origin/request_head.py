"""The bytes of a request's head, always written anew from parsed values, never copied."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

from edge.core.http import Headers

Body = AsyncIterator[bytes] | bytes | None
"""What goes along with a request: whole, in pieces as they come, or nothing."""

_FIELD_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_TARGET = re.compile(r"[\x21-\x7e]+")
_METHOD = _FIELD_NAME
_EXPECTED_BODY = frozenset({"POST", "PUT", "PATCH"})
"""An empty body is said to be empty here (RFC 9110 §8.6): some origins ask for a length otherwise."""
_HARMLESS = bytes((*b"\t\r\n", *range(0x20, 0x7F), *range(0x80, 0x100)))
"""Field values are of these (RFC 9110 §5.5). CR and LF are counted besides."""
_MAX_KNOWN_NAMES = 4_096
_known_names: set[str] = set()
"""Names that were found to be tokens: most are the same in every request."""


def render_request_head(method: str, target: str, headers: Headers, body: Body) -> bytes:
    """Request line and fields, with the framing of `body`: its length where that is known, else chunked.

    Raises ValueError for a name, value or target that could break out of its line: nothing of the kind passes the
    server's parser, so it would be a fault of ours.
    """
    if not (_TARGET.fullmatch(target) and _METHOD.fullmatch(method)):
        raise ValueError(f"not a request target: {method[:20]!r} {target[:80]!r}")
    lines = [f"{method} {target} HTTP/1.1"]
    for name, value in headers.pairs:
        if name not in _known_names:
            _know(name)
        lines.append(f"{name}: {value}")
    if body is None:
        if method in _EXPECTED_BODY:
            lines.append("content-length: 0")
    elif isinstance(body, bytes):
        lines.append(f"content-length: {len(body)}")
    elif "content-length" not in headers:
        lines.append("transfer-encoding: chunked")
    ends = len(lines) + 1
    lines += ("", "")
    try:
        head = "\r\n".join(lines).encode("latin-1")
    except UnicodeEncodeError:
        head = b"\0"
    if head.translate(None, _HARMLESS) or head.count(b"\r") != ends or head.count(b"\n") != ends:
        raise ValueError(f"not a field line among those for {target[:80]!r}")
    return head


def _know(name: str) -> None:
    """Raises ValueError for what is not a token (RFC 9110 §5.6.2)."""
    if not _FIELD_NAME.fullmatch(name):
        raise ValueError(f"not a field line: {name[:40]!r}")
    if len(_known_names) < _MAX_KNOWN_NAMES:
        _known_names.add(name)
