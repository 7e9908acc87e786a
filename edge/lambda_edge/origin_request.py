"""The origin-request handler: what CloudFront sends to the origin on a miss, and on every write.

The same decisions as the gateway's, from the same functions of the core: which route, which key, what may reach the
origin, and from which position on it may answer. The viewer-request Function (infra/aws/functions.py) ran before; what
it refuses is refused here as well, for a distribution that has lost it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, NamedTuple

from cache_policies.market_values import Markets
from cache_policies.positions import Position, WireError
from edge.core.http import Request
from edge.core.key import BadTarget, CacheKey, cache_key, normalise_path, query_text
from edge.core.policy import CachePolicy, Match, PolicySet
from edge.core.request_rules import UNKNOWN_COUNTRY, forward_request, refusal
from edge.lambda_edge.events import (
    READ_ONLY_AT_ORIGIN_REQUEST,
    BadEvent,
    answer,
    cf_request_of,
    replace_headers,
    request_of,
)

GENERATION_FIELD = "nearshelf-generation"
"""Written by the viewer-request Function and part of CloudFront's key: `1.7041`, `head.ID`, `once.ID` or `none`."""
COUNTRY_FIELD = "cloudfront-viewer-country"
"""Written by CloudFront where the origin request policy asks for it: on routes that are never stored."""
_COUNTRY = re.compile(r"[A-Z]{2}")

NOT_OURS_TO_WRITE = frozenset({"via", "x-forwarded-proto"})
"""Fields of the gateway's forwarded request that a handler may not set: CloudFront writes Via, refuses the other."""


class Routed(NamedTuple):
    """The route and key of a request: what must be the same on every edge."""

    match: Match
    key: CacheKey


def handler_for(
    policies: Iterable[CachePolicy], markets: Markets
) -> Callable[[Mapping[str, Any], object], dict[str, Any]]:
    """The function that Lambda calls with each event. It raises BadEvent for what CloudFront would never send."""
    policy_set = PolicySet(policies, markets)

    def handler(event: Mapping[str, Any], context: object) -> dict[str, Any]:
        return prepare(cf_request_of(event), policy_set)

    return handler


def route(request: Request, policies: PolicySet) -> Routed:
    """Raises BadTarget for a target that no edge passes on."""
    match = policies.match(normalise_path(request.path))
    return Routed(match, cache_key(request, match))


def prepare(cf_request: dict[str, Any], policies: PolicySet) -> dict[str, Any]:
    """The request to send to the origin, changed in place, or the response to send instead."""
    request = request_of(cf_request)
    try:
        match, key = route(request, policies)
    except BadTarget as exc:
        return answer(400, {"cache-control": "no-store", "content-type": "text/plain"}, f"Bad Request: {exc.fault}\n")
    refused = refusal(request, match)
    if refused is not None:
        # CloudFront counts the body itself.
        return answer(refused.status, dict(refused.headers.without(("content-length",))), refused.body.decode())
    country = request.headers.get(COUNTRY_FIELD) or ""
    forwarded = forward_request(
        request,
        match,
        key,
        minimum=minimum_of(request.headers.get(GENERATION_FIELD)),
        country=country if _COUNTRY.fullmatch(country) else UNKNOWN_COUNTRY,
        scheme="https",
    )
    cf_request["uri"] = key.path
    cf_request["querystring"] = query_text(key)
    left = READ_ONLY_AT_ORIGIN_REQUEST | NOT_OURS_TO_WRITE
    passed = [(name, value) for name, value in forwarded.headers if name not in left]
    replace_headers(cf_request, list(cf_request["headers"]), [*passed, ("host", origin_name(cf_request))])
    return cf_request


def origin_name(cf_request: Mapping[str, Any]) -> str:
    """The name by which the origin is asked, which its certificate is for; the viewer's is in X-Forwarded-Host."""
    try:
        return str(cf_request["origin"]["custom"]["domainName"])
    except KeyError as exc:
        raise BadEvent(f"not a CloudFront origin-request event of a custom origin: {exc} is missing") from exc


def minimum_of(generation: str | None) -> Position | Literal["head"] | None:
    """What the origin's answer must be at or above, by the generation in the key; None: anything."""
    if generation is None or generation == "none" or generation.startswith("once."):
        return None
    try:
        return Position.parse(generation)
    except WireError:
        # `head.ID`, or nothing that the Function writes: then the origin's newest word is the safe one.
        return "head"
