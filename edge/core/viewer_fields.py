"""What of a response's fields a viewer gets to see (rule 10): the same at the gateway and on CloudFront."""

from __future__ import annotations

from cache_policies.fields import HARD_END_FIELD, TAGS_FIELD, VERSION_FIELD
from edge.core.directives import parse_cache_control
from edge.core.http import Headers, end_to_end
from edge.core.policy import CachePolicy

BETWEEN_EDGE_AND_ORIGIN = frozenset({VERSION_FIELD, TAGS_FIELD, HARD_END_FIELD, "surrogate-key"})
"""Removed on delivery, as is every other field that starts with `nearshelf-`. CDN-Cache-Control goes on to other caches
(RFC 9213 §3.1), but for what shows a price: nobody but us may keep that (rule 10)."""


def viewer_headers(headers: Headers, policy: CachePolicy) -> Headers:
    """End-to-end fields as a viewer gets them, without Age, Cache-Status and Content-Length, which the delivery adds.

    What shows a price leaves as the policy's `viewer_cache_control` (rule 10), which what is private stays beside; a
    response that may not be kept at all stays as it is. Set-Cookie passes only where cookies do: to the one viewer who
    asked, because it is never stored.
    """
    cookies = policy.passes_cookies
    kept = [
        (name, value)
        for name, value in end_to_end(headers)
        if name not in BETWEEN_EDGE_AND_ORIGIN
        and not name.startswith("nearshelf-")
        and name not in {"age", "content-length"}
        and (cookies or name != "set-cookie")
        and not (policy.shows_price and name == "cdn-cache-control")
    ]
    told = policy.viewer_cache_control
    if told is None:
        return Headers(kept)
    said = parse_cache_control(headers.lines("cache-control"))
    if said.no_store:
        return Headers(kept)
    if said.private:
        told = f"private, {told}"
    return Headers(kept).without(("cache-control", "expires", "pragma")).with_(("cache-control", told))
