"""The origin-request handler: what CloudFront sends to the origin on a miss, and on every write, and to which origin.

The same decisions as the gateway's, from the same functions of the core: which route, which key, what may reach which
origin, and from which position on it may answer. The viewer-request Function (infra/aws/functions.py) ran before; what
it refuses is refused here as well, for a distribution that has lost it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, NamedTuple

from cache_policies.market_values import UNKNOWN_COUNTRY, Markets
from cache_policies.origins import Origins
from cache_policies.positions import Position, WireError
from edge.core.http import Request
from edge.core.key import BadTarget, CacheKey, cache_key, normalise_path, query_text
from edge.core.policy import CachePolicy, Match, PolicySet
from edge.core.request_rules import forward_request, refusal
from edge.core.residency import UNPLACED_WORDS, Placed, Unplaced, place
from edge.lambda_edge.events import (
    GENERATION_FIELD,
    READ_ONLY_AT_ORIGIN_REQUEST,
    BadEvent,
    answer,
    cf_request_of,
    explained,
    replace_headers,
    request_of,
)

VIEWER_COUNTRY_FIELD = "cloudfront-viewer-country"
"""Written by CloudFront where the origin request policy asks for it: on routes that are never stored."""
ORIGINS_FIELD = "nearshelf-origins"
"""Custom header of every origin of the distribution where the policies name more than one: the domain name of each,
`shop=shop.example; eu=eu.example`. Lambda@Edge has no environment, and the package is older than the names; the
template writes them there from its parameters, and this handler takes the field out before the origin sees it."""

_COUNTRY = re.compile(r"[A-Z]{2}")
_READS = frozenset({"GET", "HEAD"})

NOT_OURS_TO_WRITE = frozenset({"via", "x-forwarded-proto"})
"""Fields of the gateway's forwarded request that a handler may not set: CloudFront writes Via, refuses the other."""


class Routed(NamedTuple):
    """The route and key of a request: what must be the same on every edge."""

    match: Match
    key: CacheKey


def handler_for(
    policies: Iterable[CachePolicy], markets: Markets, origins: Origins | None = None
) -> Callable[[Mapping[str, Any], object], dict[str, Any]]:
    """The function that Lambda calls with each event. It raises BadEvent for what CloudFront would never send."""
    policy_set = PolicySet(policies, markets, origins)

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
        return explained(request, 400, "Bad Request", f"The address is malformed: {exc.fault}.")
    refused = refusal(request, match)
    if refused is not None:
        # CloudFront counts the body itself.
        response = refused.response
        return answer(response.status, dict(response.headers.without(("content-length",))), response.body.decode())
    seen = request.headers.get(VIEWER_COUNTRY_FIELD) or ""
    country = seen if _COUNTRY.fullmatch(seen) else UNKNOWN_COUNTRY
    placed = place(match.policy, match.market, country, policies.markets, policies.origins)
    if isinstance(placed, Unplaced):
        return explained(request, 503, "Service Unavailable", UNPLACED_WORDS)
    minimum = minimum_of(request.headers.get(GENERATION_FIELD))
    if minimum is None and match.policy.shows_price and request.method in _READS:
        # No position is in its key: never stored, or with credentials past what is. As at a gateway without a lease,
        # only the origin's newest word is not the old price (docs/freshness.md, rule 5).
        minimum = "head"
    forwarded = forward_request(
        request,
        match,
        key,
        minimum=minimum,
        country=country,
        scheme="https",
    )
    cf_request["uri"] = key.path
    cf_request["querystring"] = query_text(key)
    host = aim(cf_request, placed, policies.origins)
    left = READ_ONLY_AT_ORIGIN_REQUEST | NOT_OURS_TO_WRITE
    passed = [(name, value) for name, value in forwarded.headers if name not in left]
    # For the second origin of a group CloudFront runs this again: it must find what the first run found.
    stays = READ_ONLY_AT_ORIGIN_REQUEST | {GENERATION_FIELD} | (set() if match.policy.store else {VIEWER_COUNTRY_FIELD})
    gone = [name for name in cf_request["headers"] if name not in stays]
    replace_headers(cf_request, gone, [*passed, ("host", host)])
    return cf_request


def aim(cf_request: dict[str, Any], placed: Placed, origins: Origins) -> str:
    """Send the request to the origin it was placed at, and say by which name that one is asked.

    CloudFront chose by the cache behaviour, which may take in more than one route, and for the second try of a read by
    the origin group: what it chose stays where it is one of those that may be asked. The name is the one that the
    certificate is for; the viewer's is in X-Forwarded-Host. Raises BadEvent.
    """
    try:
        origin: dict[str, Any] = cf_request["origin"]["custom"]
        chosen = str(origin["domainName"])
    except KeyError as exc:
        raise BadEvent(f"not a CloudFront origin-request event of a custom origin: {exc} is missing") from exc
    if len(origins.all) == 1:
        return chosen
    names = _origin_names(origin)
    may_be_asked = [placed.origin]
    if placed.fail_over is not None and cf_request["method"] in _READS:
        may_be_asked.append(placed.fail_over)
    missing = [each.name for each in may_be_asked if each.name not in names]
    if missing:
        raise BadEvent(
            f"the custom header {ORIGINS_FIELD} of the origin {chosen} does not name {missing[0]}: "
            "deploy template and functions of the same policies together"
        )
    if chosen not in {names[each.name] for each in may_be_asked}:
        chosen = origin["domainName"] = names[placed.origin.name]
        origin["readTimeout"] = max(1, min(120, round(placed.origin.response_timeout_s)))
    return chosen


def _origin_names(origin: dict[str, Any]) -> dict[str, str]:
    """Domain names by origin; taken out of the custom headers, because they are not for the origin."""
    lines = origin.get("customHeaders", {}).pop(ORIGINS_FIELD, [])
    pairs = [part.partition("=") for line in lines for part in line["value"].split(";")]
    return {name.strip(): domain.strip() for name, _, domain in pairs}


def minimum_of(generation: str | None) -> Position | Literal["head"] | None:
    """What the origin's answer must be at or above, by the generation in the key; None: anything."""
    if generation is None or generation == "none" or generation.startswith("once."):
        return None
    try:
        return Position.parse(generation)
    except WireError:
        # `head.ID`, or nothing that the Function writes: then the origin's newest word is the safe one.
        return "head"
