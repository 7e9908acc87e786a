"""The origin-response handler: what CloudFront may keep of an origin's response, for how long, and under which tags.

CloudFront reads neither CDN-Cache-Control nor Catalog-Version, and knows nothing of policies: it obeys Cache-Control.
This handler decides as our gateway does, with the same functions of the core, and writes the decision there. What the
viewer shall be told instead travels in TOLD_FIELD, which the viewer-response Function hands out; that Function does not
run for statuses of 400 and above, so what is written for those is fit for viewers, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from time import time
from typing import Any

from cache_policies.fields import REFUSED_EDGE_KEY, REFUSED_FIELD, TAGS_FIELD
from cache_policies.market_values import Markets
from cache_policies.tags import is_path_tag
from edge.core.directives import parse_cache_control
from edge.core.http import HOP_BY_HOP, Headers, Request, Response
from edge.core.key import CacheKey
from edge.core.policy import CachePolicy, Match, PolicySet
from edge.core.stored import StoredResponse
from edge.core.storing import Store, may_store
from edge.core.variants import vary_names
from edge.core.viewer_fields import viewer_headers
from edge.lambda_edge.events import (
    GENERATION_FIELD,
    READ_ONLY_AT_ORIGIN_RESPONSE,
    SILENCE,
    TOLD_FIELD,
    cf_exchange_of,
    explained,
    replace_headers,
    request_of,
    response_of,
)

PRICE_BOUND_S = 60
"""Longest that CloudFront may keep what shows a price, stale windows included: the bound on everything that the
generation in the key may miss."""

_NOT_OURS = READ_ONLY_AT_ORIGIN_RESPONSE | HOP_BY_HOP | {"age", "content-length"}
"""Fields that CloudFront counts or guards itself."""
_UNREACHABLE = "The shop cannot be reached at the moment. Please try again shortly."


def handler_for(
    policies: Iterable[CachePolicy], markets: Markets, wall: Callable[[], float] = time
) -> Callable[[Mapping[str, Any], object], dict[str, Any]]:
    """The function that Lambda calls with each event. It raises BadEvent for what CloudFront would never send.

    `wall`: seconds since the epoch, held against the Date and the hard end of a response.
    """
    policy_set = PolicySet(policies, markets)

    def handler(event: Mapping[str, Any], context: object) -> dict[str, Any]:
        cf_request, cf_response = cf_exchange_of(event)
        return label(cf_request, cf_response, policy_set, wall())

    return handler


def label(
    cf_request: Mapping[str, Any], cf_response: dict[str, Any], policies: PolicySet, wall_now: float
) -> dict[str, Any]:
    """`cf_response`, changed in place, as CloudFront shall keep it and pass it on."""
    request, response = request_of(cf_request), response_of(cf_response)
    if response.headers.get(REFUSED_FIELD) == REFUSED_EDGE_KEY:
        return _refused(request, cf_response)
    # The origin-request handler has written the path in its normal form, or answered itself.
    match = policies.match(request.path)
    stored = what_to_keep(request, response, match, wall_now)
    viewer = viewer_headers(response.headers, match.policy)
    told = viewer.joined("cache-control")
    obeyed = told
    if stored is not None:
        obeyed = cache_control(stored, match.policy)
    elif match.policy.store or _proposes_a_lifetime(viewer):
        said = parse_cache_control(viewer.lines("cache-control"))
        obeyed = told if said.no_store or said.private else "no-store"
    added = [] if obeyed is None else [("cache-control", obeyed)]
    if response.status < 400:
        # Always: a response headers policy has written Cache-Control, maybe that of another route's behaviour.
        added.append((TOLD_FIELD, told or SILENCE))
    if stored is not None:
        added.append((TAGS_FIELD, ", ".join([tag for tag in stored.tags if not is_path_tag(tag)])))
    kept = {name for name, _ in viewer} - {"cache-control"} | _NOT_OURS
    replace_headers(cf_response, [name for name in cf_response["headers"] if name not in kept], added)
    return cf_response


def what_to_keep(request: Request, response: Response, match: Match, wall_now: float) -> StoredResponse | None:
    """What our gateway would store of the response, its body apart; None: it stores nothing, nor may CloudFront.

    `request` is the one that the origin got. A HEAD is judged as a GET, and a 304 as the 200 that it confirms:
    CloudFront moves the answer to both to the response that it keeps.
    """
    if (request.headers.get(GENERATION_FIELD) or "").startswith(("head.", "once.")):
        # Its key was made for this request only.
        return None
    if request.method not in {"GET", "HEAD"} or "authorization" in request.headers:
        return None
    length = response.headers.get("content-length")
    if length is not None and length.isdigit() and int(length) > match.policy.max_body_bytes:
        return None
    if length is None and response.status not in {204, 304} and "transfer-encoding" not in response.headers:
        # Its body ends with the connection: CloudFront would keep it even when it was cut short.
        return None
    headers = response.headers
    if match.policy.compress and (varies_on := vary_names(headers)):
        # Which coding a viewer takes is in CloudFront's key there, and the origin may have seen it.
        left = ("vary", ", ".join(sorted(varies_on - {"accept-encoding"})))
        headers = headers.with_(left)
    decision = may_store(
        Request("GET", request.authority, request.path, request.query, request.headers),
        Response(200 if response.status == 304 else response.status, headers),
        match,
        CacheKey(request.authority, match.path, (), match.market),
        sent_at=0.0,
        received_at=0.0,
        wall_now=wall_now,
    )
    return decision.stored if isinstance(decision, Store) else None


def cache_control(stored: StoredResponse, policy: CachePolicy) -> str:
    """What CloudFront shall do with the response, in its only language.

    The zeros are said, because CloudFront takes silence about errors for leave to serve expired copies. `max-age=0`
    is for viewers of statuses that no Function rewrites.
    """
    fresh_s = max(0.0, stored.fresh_until - stored.stored_at)
    stale_from = max(stored.fresh_until, stored.stored_at)
    revalidate_s = max(0.0, stored.revalidate_until - stale_from)
    error_s = max(0.0, stored.error_until - stale_from)
    if policy.shows_price:
        fresh_s = min(fresh_s, PRICE_BOUND_S)
        revalidate_s = min(revalidate_s, PRICE_BOUND_S - fresh_s)
        error_s = 0.0
    return (
        f"max-age=0, s-maxage={int(fresh_s)}, stale-while-revalidate={int(revalidate_s)}, stale-if-error={int(error_s)}"
    )


def _proposes_a_lifetime(headers: Headers) -> bool:
    """Whether CloudFront would keep it: the default lifetime of every behaviour is zero."""
    said = parse_cache_control(headers.lines("cache-control"))
    return said.max_age_s is not None or said.s_maxage_s is not None or "expires" in headers


def _refused(request: Request, cf_response: dict[str, Any]) -> dict[str, Any]:
    """The origin does not take this distribution for an edge of its own: nothing that it says is for the viewer."""
    instead = explained(request, 503, "Service Unavailable", _UNREACHABLE, ("retry-after", "1"))
    headers = cf_response["headers"]
    instead["headers"].update({name: headers[name] for name in READ_ONLY_AT_ORIGIN_RESPONSE & set(headers)})
    return instead
