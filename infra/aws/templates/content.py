"""What the cache behaviour of a route consists of, apart from its path pattern."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cache_policies.origins import Origin, Origins
from edge.core.freshness import MAX_HEURISTIC_S
from edge.core.policy import ALL, Auth, CachePolicy, PolicySet, Redirect
from edge.core.request_rules import FORWARDED_ALWAYS
from edge.core.viewer_fields import BETWEEN_EDGE_AND_ORIGIN
from edge.lambda_edge.events import GENERATION_FIELD
from edge.lambda_edge.origin_request import VIEWER_COUNTRY_FIELD
from edge.lambda_edge.origin_response import PRICE_BOUND_S
from infra.aws.functions import ALL_METHODS, AUTHORITY_FIELD, methods_of

Resource = dict[str, Any]

PRICE_MAX_TTL_S = PRICE_BOUND_S
"""Longest that CloudFront keeps what shows a price: what the origin-response handler says, and no more without it."""
MAX_TTL_S = 31_536_000
"""A year; longer is not needed and not documented."""
CACHING_DISABLED = "4135ea2d-6df8-44a3-9df3-4b5a84be39ad"
"""AWS's managed cache policy that stores nothing."""
_STRICTEST = "no-cache, no-store"
READ_METHODS = ("GET", "HEAD")
READ_METHODS_AND_OPTIONS = ("GET", "HEAD", "OPTIONS")
"""CloudFront offers these two sets and all that it knows; anything narrower is the Function's to refuse."""

FORWARDED_OF_OTHERS = frozenset(
    {"accept", "content-type", "idempotency-key", "origin", "x-csrf-token", "x-requested-with"}
)
"""What methods that a stored route only forwards take along: a whitelist may have ten names."""


@dataclass(frozen=True)
class Content:
    """Equal for routes that one behaviour could serve."""

    target: str
    """Id of an origin or an origin group."""
    methods: tuple[str, ...]
    compress: bool
    cache: Resource | None
    """Configuration of its cache policy; None: CACHING_DISABLED."""
    request: Resource
    """Configuration of its origin request policy."""
    response: Resource
    """Configuration of its response headers policy."""


def content_of(policy: CachePolicy, policies: PolicySet) -> Content:
    """What the behaviour of a route says.

    The Function answers by itself on routes that are refused or redirected: any behaviour would do, so they take after
    the default one, which takes every method.
    """
    if policy.refuse_status or policy.redirect is Redirect.MARKET:
        policy = policies.policies[-1]
    methods = offered_methods(policy, policies.origins)
    origin = origin_of(policy, policies.origins)
    reads_country = any(each.blocked_countries for each in policies.policies)
    return Content(
        target=group_id(origin) if reads_fail_over(policy, policies.origins) else origin.name,
        methods=methods,
        compress=policy.store and policy.compress,
        cache=_cache_policy(policy) if policy.store else None,
        request=_origin_request_policy(policy, reads_country=reads_country),
        response=_response_headers_policy(policy),
    )


def origin_of(policy: CachePolicy, origins: Origins) -> Origin:
    """The origin that a route names. Raises ValueError for one that is not declared; the reader refuses it before."""
    found = origins.by_name(policy.origin)
    if found is None:
        raise ValueError(f"{policy.where} {policy.id}: no origin is called {policy.origin!r}")
    return found


def group_id(origin: Origin) -> str:
    """Id of the origin group that asks this origin first."""
    return f"{origin.name}-reads"


def reads_fail_over(policy: CachePolicy, origins: Origins) -> bool:
    """Whether the behaviour of this route has an origin group: CloudFront refuses one where writes are allowed.

    Personal data with a residency rule does not follow CloudFront to the second origin: the origin-request handler
    runs again for it, and sends the request elsewhere unless that origin may have it.
    """
    reads_only = set(methods_of(policy)) <= set(READ_METHODS_AND_OPTIONS)
    return bool(origin_of(policy, origins).reads_fail_over_to) and reads_only


def offered_methods(policy: CachePolicy, origins: Origins) -> tuple[str, ...]:
    """What CloudFront lets through to the Function; the rest it answers with 403 itself.

    All of them where it may, because the Function's 405 says which methods there are, as our gateway does.
    """
    if not reads_fail_over(policy, origins):
        return ALL_METHODS
    return READ_METHODS_AND_OPTIONS if "OPTIONS" in methods_of(policy) else READ_METHODS


def only_forwarded(policy: CachePolicy) -> tuple[str, ...]:
    """Methods of a stored route that are never answered from the store."""
    return tuple(method for method in methods_of(policy) if method not in policy.methods) if policy.store else ()


def max_ttl_s(policy: CachePolicy) -> int:
    """How long CloudFront may keep a response of this route, stale windows included."""
    guessed_s = MAX_HEURISTIC_S if policy.heuristic_percent else 0.0
    fresh_s = max(policy.fresh_s, policy.max_fresh_s, guessed_s)
    longest_s = fresh_s + max(
        policy.stale_while_revalidate_s,
        policy.max_stale_while_revalidate_s,
        policy.stale_if_error_s,
        policy.max_stale_if_error_s,
    )
    longest_s = max([longest_s, *(negative_s for _, negative_s in policy.negative_s)])
    return min(PRICE_MAX_TTL_S if policy.shows_price else MAX_TTL_S, int(longest_s))


def _cache_policy(policy: CachePolicy) -> Resource:
    # Compressed by CloudFront, or by an origin that varies on it: in the key either way, in CloudFront's one spelling.
    by_encoding = policy.compress or "accept-encoding" in policy.vary
    vary = [name for name in policy.vary if name != "accept-encoding" and policy.vary != ALL]
    keyed = [AUTHORITY_FIELD, GENERATION_FIELD, *vary]
    if policy.auth in {Auth.OPTIONAL, Auth.SHARED}:
        # No origin request policy may list it. A request with one has a key for once besides (the Function).
        keyed.append("authorization")
    return {
        # Above zero it would override no-store. Zero also as the default: an answer that does not say how long it
        # lives is not stored, should the origin-response handler be missing.
        "MinTTL": 0,
        "DefaultTTL": 0,
        "MaxTTL": max_ttl_s(policy),
        "ParametersInCacheKeyAndForwardedToOrigin": {
            "EnableAcceptEncodingGzip": by_encoding,
            "EnableAcceptEncodingBrotli": by_encoding,
            "HeadersConfig": {"HeaderBehavior": "whitelist", "Headers": list(dict.fromkeys(keyed))},
            "CookiesConfig": {"CookieBehavior": "none"},
            # All of what the Function has left: an allow-list here would hide the query from the handlers.
            "QueryStringsConfig": {"QueryStringBehavior": "all"},
        },
    }


def _origin_request_policy(policy: CachePolicy, *, reads_country: bool) -> Resource:
    if policy.store and policy.request_fields != ALL:
        names = {*FORWARDED_ALWAYS, *policy.request_fields} - set(policy.vary) - {"authorization"}
        if only_forwarded(policy):
            names |= FORWARDED_OF_OTHERS
        if reads_country:
            # The Function sees the country only where a policy asks CloudFront for it; the handler drops it again.
            names.add(VIEWER_COUNTRY_FIELD)
        headers: Resource = {"HeaderBehavior": "whitelist", "Headers": sorted(names)}
    else:
        # The handler forwards an allow-list of these that is longer than a whitelist may be, or all of them; the lint
        # refuses that where answers are stored.
        headers = {"HeaderBehavior": "allViewerAndWhitelistCloudFront", "Headers": [VIEWER_COUNTRY_FIELD]}
    return {
        "HeadersConfig": headers,
        "CookiesConfig": {"CookieBehavior": "all" if policy.passes_cookies and not policy.store else "none"},
        "QueryStringsConfig": {"QueryStringBehavior": "all"},
    }


def _response_headers_policy(policy: CachePolicy) -> Resource:
    removed = sorted(BETWEEN_EDGE_AND_ORIGIN)
    if policy.shows_price:
        removed.append("cdn-cache-control")
    if not policy.passes_cookies:
        removed.append("set-cookie")
    config: Resource = {"RemoveHeadersConfig": {"Items": [{"Header": name} for name in removed]}}
    if policy.shows_price:
        # The viewer-response Function says it as the gateway does, but does not run for statuses of 400 and above: for
        # those the strictest word, which takes nothing back that the origin said.
        config["CustomHeadersConfig"] = {"Items": [{"Header": "Cache-Control", "Value": _STRICTEST, "Override": True}]}
    return config
