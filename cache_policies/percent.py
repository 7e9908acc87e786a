"""Percent-encoding (RFC 3986 §2.1) in the one spelling that keys and tags have.

As `urllib.parse.quote(text, safe="")` and `unquote_to_bytes`; that module costs Lambda@Edge 4 ms of every cold start.
"""

from __future__ import annotations

import re

_UNRESERVED = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
_SPELLED = [chr(code) if code in _UNRESERVED else f"%{code:02X}" for code in range(256)]
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")


def percent_encoded(text: str) -> str:
    """`text` as UTF-8 with everything but unreserved characters encoded, in capitals. Raises UnicodeEncodeError."""
    return "".join([_SPELLED[code] for code in text.encode()])


def percent_decoded(encoded: bytes) -> bytes:
    """Every `%XX` decoded; a `%` without two hexadecimal digits stays."""
    return _ESCAPE.sub(lambda found: bytes((int(found[1], 16),)), encoded)
