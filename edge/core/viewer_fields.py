"""What of a response's fields a viewer gets to see (rule 10): the same at the gateway and on CloudFront."""

from __future__ import annotations

from cache_policies.fields import HARD_END_FIELD, TAGS_FIELD, VERSION_FIELD
from edge.core.directives import parse_cache_control
from edge.core.http import Headers, end_to_end
from edge.core.policy import CachePolicy

BETWEEN_EDGE_AND_ORIGIN = frozenset({"cdn-cache-control", VERSION_FIELD, TAGS_FIELD, HARD_END_FIELD})
"""Removed on delivery, as is every other field that starts with `nearshelf-`."""


def viewer_headers(headers: Headers, policy: CachePolicy) -> Headers:
    """End-to-end fields as a viewer gets them, without Age, Cache-Status and Content-Length, which the delivery adds.

    What shows a price leaves as the policy's `viewer_cache_control` (rule 10); a response that may not be kept at all
    stays so. Set-Cookie passes only where the policy says `cookies`.
    """
    kept = [
        (name, value)
        for name, value in end_to_end(headers)
        if name not in BETWEEN_EDGE_AND_ORIGIN
        and not name.startswith("nearshelf-")
        and name not in {"age", "content-length"}
        and (policy.cookies or name != "set-cookie")
    ]
    told = policy.viewer_cache_control
    if told is None:
        return Headers(kept)
    said = parse_cache_control(headers.lines("cache-control"))
    if said.no_store or said.private:
        return Headers(kept)
    return Headers(kept).without(("cache-control", "expires", "pragma")).with_(("cache-control", told))
