"""What a request says about the stored responses that it takes (RFC 9111 §5.2.1), where a policy honours it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from edge.core.directives import cache_control_members, delta_seconds
from edge.core.http import Headers, list_members


@dataclass(frozen=True, slots=True)
class RequestDirectives:
    """Of a directive that is there twice the first counts. Seconds; None where the request is silent."""

    no_cache: bool = False
    no_store: bool = False
    only_if_cached: bool = False
    max_age_s: int | None = None
    """0 where it cannot be read: the viewer wanted something new."""
    min_fresh_s: int | None = None
    max_stale_s: float | None = None
    """Infinity for `max-stale` without a number."""


def request_directives(headers: Headers) -> RequestDirectives | None:
    """None: the request says nothing. Pragma counts where there is no Cache-Control (RFC 9111 §5.4)."""
    if "cache-control" in headers:
        return _parsed(tuple(headers.lines("cache-control")))
    if "pragma" in headers and "no-cache" in [each.lower() for each in list_members(headers.joined("pragma"))]:
        return RequestDirectives(no_cache=True)
    return None


@lru_cache(256)
def _parsed(lines: tuple[str, ...]) -> RequestDirectives:
    found: dict[str, str | None] = {}
    for name, argument in cache_control_members(lines):
        found.setdefault(name, argument)
    max_stale: float | None = None
    if "max-stale" in found:
        # One that cannot be read gives no leave.
        max_stale = float("inf") if found["max-stale"] is None else delta_seconds(found["max-stale"])
    return RequestDirectives(
        no_cache="no-cache" in found,
        no_store="no-store" in found,
        only_if_cached="only-if-cached" in found,
        max_age_s=(delta_seconds(found["max-age"]) or 0) if "max-age" in found else None,
        min_fresh_s=delta_seconds(found["min-fresh"]) if "min-fresh" in found else None,
        max_stale_s=max_stale,
    )
