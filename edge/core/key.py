"""Cache keys: tuples of named parts, never joined text (RFC 9111 §2)."""

from __future__ import annotations

from typing import NamedTuple


class CacheKey(NamedTuple):
    """What tells stored responses apart before Vary. Different requests cannot spell the same key."""

    authority: str
    path: str
    """Normalised: percent-encoding in one spelling, no dot segments."""
    query: tuple[tuple[str, str], ...]
    """Only the parameters the policy lists, in its order, decoded."""
    market: str
