"""A stored response: parsed once when it is stored, so that a lookup is arithmetic on numbers."""

from __future__ import annotations

from dataclasses import dataclass

from cache_policies.positions import Position
from edge.core.http import Headers
from edge.core.key import CacheKey


@dataclass(slots=True)
class StoredResponse:
    """One variant under a key. Times are seconds of the edge's clock, which counts suspension and never steps.

    Not changed after it is stored, but for `judged_at` and what hits keep; freshening by a 304 makes a new one.
    """

    key: CacheKey
    policy_version: str
    """`CachePolicy.version` of the policy it was stored under: under another it counts as absent."""
    status: int
    headers: Headers
    """End-to-end fields as received; what must not reach a viewer is removed on delivery."""
    body: bytes
    vary: tuple[tuple[str, str | None], ...]
    """Field names this response varies on, with the values of the request that fetched it (`variants.vary_values`)."""
    etag: str | None
    """As received, quotes and weakness included."""
    position: Position
    tags: tuple[str, ...]
    stored_at: float
    initial_age_s: float
    """Corrected initial age (RFC 9111 §4.2.3): what it had aged before it was stored."""
    no_cache: bool
    """The origin wants to be asked before every reuse."""
    fresh_until: float
    revalidate_until: float
    """End of stale-while-revalidate; equal to `fresh_until` when there is none."""
    error_until: float
    """End of stale-if-error."""
    keep_until: float
    unreachable_until: float = 0.0
    """End of what `CachePolicy.stale_if_unreachable_s` allows."""
    judged_at: int = -1
    """`Floors.sequence` when it was last found current: nothing to compare while that has not moved."""
    hit_head: bytes | None = None
    """Rendered start of a hit's head (`delivery.hit_head`), kept by the gateway at the first hit."""
    coded: bytes | None = None
    """The body in gzip, made by the gateway when a viewer first asks for it. None: nobody has asked; empty: it is being
    made, or would not be shorter."""
    coded_hit_head: bytes | None = None
    """As `hit_head`, for the coded copy."""

    @property
    def size(self) -> int:
        """Bytes held against the store's budget: the body, its coded copy, and a fair guess at the rest."""
        return (
            len(self.body)
            + len(self.coded or b"")
            + sum(len(name) + len(value) + 120 for name, value in self.headers.pairs)
            + 1_000
        )
