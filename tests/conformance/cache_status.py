"""Cache-Status as it is written (RFC 9211 §2), read by a library that our gateway does not use."""

from __future__ import annotations

from typing import Any

import http_sf


def last_member(lines: list[str]) -> dict[str, Any] | None:
    """The parameters of the last member, tokens among them as `http_sf.Token`; None where it is no list, or empty."""
    try:
        members: Any = http_sf.parse(", ".join(lines).encode("latin-1"), tltype="list")
    except (ValueError, http_sf.StructuredFieldError):
        return None
    return dict(members[-1][1]) if members else None
