"""What a policy says and CloudFront cannot, route by route, and what happens there instead.

For the compiler's report, and for `nearshelf policy check --target cloudfront`, which adds code and place.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cache_policies.origins import Origin
from edge.core.policy import ALL, Auth, CachePolicy, DataClass, OnLeaseLapse, PolicySet, Redirect, Residency
from infra.aws.functions import ALL_METHODS, methods_of
from infra.aws.templates.behaviours import Misfit, misfits, needed_behaviours, ordered_behaviours, path_pattern
from infra.aws.templates.content import (
    FORWARDED_OF_OTHERS,
    MAX_TTL_S,
    PRICE_MAX_TTL_S,
    content_of,
    max_ttl_s,
    only_forwarded,
    origin_of,
    reads_fail_over,
)
from infra.aws.templates.edge import CONNECT_TIMEOUT_S, READ_TIMEOUT_S, whole_seconds
from infra.aws.templates.web_acl import MIN_LIMIT, rate_of

KEPT_ERRORS = frozenset({400, 403, 404, 405, 412, 414, 415, 500, 501, 502, 503, 504})
"""Error statuses that CloudFront keeps at all."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that a policy says and CloudFront cannot, and what happens there instead."""

    policy_id: str
    """Empty for what holds for every route."""
    where: str
    field: str
    """Of the route, as policies write it; in what holds for every route, the matter."""
    instead: str


def differences(policies: PolicySet) -> tuple[Difference, ...]:
    """First what holds for every route, then route by route in their order."""
    found = [Difference("", "", field, instead) for field, instead in _everywhere(policies)]
    contents = {policy.id: content_of(policy, policies) for policy in policies.policies}
    needed = needed_behaviours(policies, lambda policy: contents[policy.id])
    strays: dict[str, list[Misfit]] = {}
    for stray in misfits(policies, needed, lambda policy: contents[policy.id]):
        # What falls under the last route is what the patterns take in beyond theirs, which every route says by itself.
        if stray.route is not policies.policies[-1]:
            strays.setdefault(stray.route.id, []).append(stray)
    own = {behaviour.policy.id for behaviour in needed}
    patterns = {behaviour.pattern: behaviour.policy for behaviour in ordered_behaviours(policies)}
    for policy in policies.policies:
        fields = [
            *_path(policy, strays.get(policy.id, []), patterns, shares=policy.id not in own),
            *_of_route(policy, policies),
        ]
        found += [Difference(policy.id, policy.where, field, instead) for field, instead in fields]
    return tuple(found)


def _everywhere(policies: PolicySet) -> Iterator[tuple[str, str]]:
    yield (
        "lease, floors",
        "CloudFront has neither; the generation in the key stands in, from when a location sees the raised bucket on",
    )
    yield "soft purge", "as hard: a raised bucket moves the key, so nothing is served stale meanwhile"
    yield (
        "positions",
        "only the origin's: an answer without Catalog-Version is not kept, and there is no purge log of a site",
    )
    yield (
        "writes",
        "drop nothing: what an answer to a POST, PUT or DELETE names ends with its bucket, its tags or its lifetime",
    )
    yield "live", "means locations that were seen with the new generation: AWS publishes no bound for all of them"
    yield "Vary", "builds no key: only what a route's `vary` lists does; names that it does not forward are taken out"
    yield "methods", "what CloudFront does not know (TRACE, PROPFIND, ...) is its own 403, where our gateway says 405"
    yield "HEAD", "asked for as HEAD when nothing is kept; our gateway asks with GET and keeps the answer"
    yield "Cookie", "passed on by name: those that share a name stand together"
    yield (
        "errors",
        "of 400 and above leave with the origin's Cache-Control or a stricter one: no Function runs for them",
    )
    yield "unknown host", "421 without a text"
    yield (
        "generation",
        (
            "becomes Min-Catalog-Version, where our gateway takes what it has heard last; an address that is not UTF-8 "
            "has no bucket, so that its key is for one request only"
        ),
    )
    yield (
        "fields of the edge",
        (
            "Nearshelf-Generation and CloudFront-Viewer-Country reach the origin, because the handler runs again for "
            "the second one of a group; Via is CloudFront's own"
        ),
    )
    yield "Accept-Encoding", "reaches the origin of a stored route in CloudFront's spelling: br, gzip or identity"
    yield "collapse_wait", "CloudFront collapses by itself and waits as long as for the origin"
    yield "max_body", "held against Content-Length only: a body of unknown length is kept whatever it has"
    yield (
        "Range",
        (
            "answered by CloudFront from what it keeps; what the origin sends in parts is not kept; Accept-Ranges is "
            "the origin's own word"
        ),
    )
    yield "CDN-Cache-Control", "not in a 304 of CloudFront's own, which has the fields that RFC 9110 wants and no other"
    yield "X-Forwarded-Proto", "not set, AWS forbids it to functions: the load balancer at the origin says https"
    yield "Cache-Status", "not sent: CloudFront says X-Cache"
    yield (
        "web ACL",
        (
            "beside the throttles, what AWS's managed rules take for an attack (SQL injection, cross-site scripting, "
            "known bad inputs) or a bot is answered with 403; our gateway has no such rules"
        ),
    )
    yield (
        "geo restriction",
        "none: it would answer 403 for all routes, before the Function, which answers 451 by route"
        if any(policy.blocked_countries for policy in policies.policies)
        else "none: no country is blocked",
    )
    yield (
        "VPC origin",
        (
            "none, because it takes no origin-side Lambda@Edge: origins are public, and closed to all but CloudFront "
            "by a prefix list and the edge key (templates/origin-gate.json)"
        ),
    )
    for origin in policies.origins.all:
        yield from _origin(origin)


def _origin(origin: Origin) -> Iterator[tuple[str, str]]:
    for name, seconds, bounds in (
        ("connect_timeout", origin.connect_timeout_s, CONNECT_TIMEOUT_S),
        ("response_timeout", origin.response_timeout_s, READ_TIMEOUT_S),
    ):
        whole = whole_seconds(seconds, bounds)
        if whole != seconds:
            yield (
                f"origins.{origin.name}.{name}",
                f"{whole} s instead of {seconds:g} s: CloudFront takes whole seconds from {bounds[0]} to {bounds[1]}",
            )


def _path(
    policy: CachePolicy, strays: list[Misfit], patterns: dict[str, CachePolicy], *, shares: bool
) -> Iterator[tuple[str, str]]:
    pattern = path_pattern(policy)
    if policy.refuse_status or policy.redirect is Redirect.MARKET:
        return
    if shares and pattern in patterns:
        yield "path", f"no behaviour of its own for {pattern}: another gives its paths the same"
    for stray in strays:
        yield (
            "path",
            (
                f"{stray.path} gets the behaviour {stray.behaviour.pattern} of {stray.behaviour.policy.id}, because "
                "CloudFront's patterns know no segments: the Function and the handlers treat it as this route, and "
                "methods and fields that the behaviour does not take do not reach the origin"
            ),
        )
    if not shares and policy.store and "{" in policy.path:
        more = "markets that do not exist, too" if "..." in policy.path or "*" not in pattern else "deeper paths, too"
        yield (
            "path",
            (
                f"the behaviour {pattern} takes in {more}: there the Function makes a key for once, and fewer fields "
                "and methods reach the origin than the last route lets through"
            ),
        )


def _of_route(policy: CachePolicy, policies: PolicySet) -> Iterator[tuple[str, str]]:
    if policy.throttle is not None:
        yield "throttle", _throttle(policy)
    if policy.refuse_status:
        yield "refuse", f"answered with {policy.refuse_status} by the Function"
        return
    if policy.redirect is Redirect.MARKET:
        yield "redirect", "answered by the Function, by CloudFront's country of the viewer"
        return
    yield from _methods(policy, policies)
    yield from _placement(policy, policies)
    if policy.blocked_countries:
        yield "blocked_countries", "451 from the Function, by CloudFront's country of the viewer"
    if policy.data_class is DataClass.PERSONAL:
        yield "data_class", "not stored; CloudFront's own logs, if switched on, still see the address"
    if policy.request_fields == ALL and not policy.store:
        yield (
            "request_fields",
            (
                "all but those whose name says country, which the Function deletes, and with those that CloudFront "
                "writes itself"
            ),
        )
    if policy.store:
        yield from _stored(policy)
    elif policy.compress:
        yield "compress", "not compressed by CloudFront, which does it only where it may store: the origin may"


def _throttle(policy: CachePolicy) -> str:
    assert policy.throttle is not None
    rate = rate_of(policy.throttle)
    allowed = policy.throttle.burst + policy.throttle.rate_per_s * rate.window_s
    text = (
        f"a rate rule of the web ACL: {rate.limit} requests in {rate.window_s} s from one address, which is the burst "
        f"of {policy.throttle.burst} and {policy.throttle.rate_per_s:g} a second, rounded up; approximate, and within "
        "half a minute or so"
    )
    if allowed < MIN_LIMIT:
        text += f"; more than the policy's {allowed:g}, because a rate rule starts at {MIN_LIMIT}"
    return text


def _methods(policy: CachePolicy, policies: PolicySet) -> Iterator[tuple[str, str]]:
    if reads_fail_over(policy, policies.origins):
        yield (
            "forward_methods",
            (
                "other methods are answered with 403 by CloudFront itself, before the Function's 405: a behaviour with "
                "an origin group takes reads only"
            ),
        )
    if only_forwarded(policy) and policy.request_fields != ALL:
        yield (
            "forward_methods",
            (
                f"{', '.join(only_forwarded(policy))}: reach the origin with fewer fields than through our gateway, "
                f"beyond what the route lists only {', '.join(sorted(FORWARDED_OF_OTHERS))}"
            ),
        )
    strange = sorted(set(methods_of(policy)) - set(ALL_METHODS))
    if policy.forward_methods == ALL:
        strange.append("others")
    if strange:
        yield "forward_methods", f"{', '.join(strange)}: refused by CloudFront, which knows {', '.join(ALL_METHODS)}"


def _placement(policy: CachePolicy, policies: PolicySet) -> Iterator[tuple[str, str]]:
    origin = origin_of(policy, policies.origins)
    if origin.reads_fail_over_to and not reads_fail_over(policy, policies.origins):
        yield (
            "origin",
            (
                f"reads do not fail over from {origin.name} to {origin.reads_fail_over_to}: a behaviour that takes "
                "writes may have no origin group"
            ),
        )
    elif origin.reads_fail_over_to:
        yield "origin", f"reads fail over to {origin.reads_fail_over_to} by an origin group, the first asked each time"
    if policy.residency is Residency.ROUTE:
        yield (
            "residency",
            (
                "placed by the origin-request handler, which runs and logs in the region nearest to the viewer that "
                "CloudFront chooses: the request passes through there on its way to the jurisdiction's origin; where "
                "that one fails and the other of its group may not be asked, it is asked a second time"
            ),
        )


def _stored(policy: CachePolicy) -> Iterator[tuple[str, str]]:
    if policy.auth in {Auth.OPTIONAL, Auth.SHARED}:
        shared = ", not even where the answer says that it is for everybody" if policy.auth is Auth.SHARED else ""
        yield (
            "auth",
            f"a request with Authorization has a key for once: nobody asks for what may lie there{shared}",
        )
    if policy.shows_price:
        yield "fresh", f"{PRICE_MAX_TTL_S} s at most, stale windows included: it bounds what a raised bucket may miss"
        if policy.stale_while_revalidate_s or policy.max_stale_while_revalidate_s:
            yield "stale_while_revalidate", f"what is left of {PRICE_MAX_TTL_S} s after freshness"
        if policy.stale_if_error_s or policy.max_stale_if_error_s:
            yield (
                "stale_if_error",
                "0 s, said by the handler, because CloudFront serves expired copies on errors unless told not to",
            )
    elif max_ttl_s(policy) == MAX_TTL_S:
        yield "fresh", f"{MAX_TTL_S} s at most, stale windows included"
    if policy.stale_if_unreachable_s:
        yield (
            "stale_if_unreachable",
            (
                "as stale_if_error says, also while no connection can be made: CloudFront does not tell an origin that "
                "is away from one that answers with 500"
            ),
        )
    if policy.keep_s:
        yield "keep", "CloudFront decides for how long it keeps an expired copy to validate"
    for status, fresh_s in policy.negative_s:
        if status not in KEPT_ERRORS:
            yield "negative", f"{status}: asked for again each time, CloudFront keeps no answers of this status"
        elif policy.shows_price and fresh_s > PRICE_MAX_TTL_S:
            yield "negative", f"{status}: {PRICE_MAX_TTL_S} s instead of {fresh_s:g} s"
    if policy.any_status:
        yield (
            "statuses",
            (
                f"of 400 and above CloudFront keeps {', '.join(map(str, sorted(KEPT_ERRORS)))} only, and none of "
                "them stale; others are asked for again each time"
            ),
        )
    if policy.honour_request:
        yield (
            "request_directives",
            "ignored: CloudFront heeds no Cache-Control of a request, so that a reload may be answered from its store",
        )
    if policy.vary != ALL and any(name != "accept-encoding" for name in policy.vary):
        yield "vary", "by the field's whole value, capitals and blanks included: our gateway takes one spelling for all"
    if policy.compress:
        yield (
            "compress",
            (
                "br or gzip, never zstd, from 1,000 to 10,000,000 bytes, of 403 and 404 and of what is not kept as "
                "well: best effort"
            ),
        )
    if policy.tags:
        yield "tags", "remove what is stored already; a fetch in flight may come after, which only a generation stops"
    if policy.on_lease_lapse is OnLeaseLapse.STALE_MARKED:
        yield "on_lease_lapse", "no page is ever marked as unconfirmed"
    else:
        yield "on_lease_lapse", "no 503 while CloudFront is behind: the position seen last counts"
