"""The distribution and its behaviours: which one is chosen, what runs there, what it lets through."""

from __future__ import annotations

import re
from collections.abc import Iterator

from edge.core.policy import ALL, Auth, CachePolicy
from infra.aws.functions import ALL_METHODS, methods_of
from infra.aws.quotas import MAX_ALIASES, MAX_BEHAVIOURS, MAX_POLICIES_OF_A_KIND
from infra.aws.rules.stack import (
    CLOUDFORMATION,
    CLOUDFRONT,
    WAF,
    Behaviour,
    Found,
    Stack,
    part,
    parts,
    rule,
    text,
    texts,
)
from infra.aws.templates.behaviours import Behaviour as Chosen
from infra.aws.templates.behaviours import misfits, path_pattern, takes_in
from infra.aws.templates.content import content_of
from infra.aws.templates.edge import ERROR_STATUSES, TAG_FIELD

_NOT_IN_A_PATTERN = re.compile(r"[^A-Za-z0-9_.*$/~\"'@:+&?-]")
MAX_PATTERN_CHARACTERS = 255


@rule(
    "EDGE101",
    "too many policies of one kind",
    fix="make routes alike so that they share one",
    source=CLOUDFRONT + "cloudfront-limits",
)
def _policies_of_a_kind(stack: Stack) -> Iterator[Found]:
    for kind in ("CachePolicy", "OriginRequestPolicy", "ResponseHeadersPolicy"):
        used = len(list(stack.of_type(f"CloudFront::{kind}")))
        if used > MAX_POLICIES_OF_A_KIND:
            yield Found(kind, f"{used} policies, an account has {MAX_POLICIES_OF_A_KIND}")


@rule("EDGE102", "too many behaviours", fix="merge routes", source=CLOUDFRONT + "cloudfront-limits")
def _behaviours(stack: Stack) -> Iterator[Found]:
    for logical_id, config in stack.distributions:
        used = len(parts(config.get("CacheBehaviors"))) + 1
        if used > MAX_BEHAVIOURS:
            yield Found(logical_id, f"{used} behaviours, a distribution has {MAX_BEHAVIOURS}")


@rule(
    "EDGE103",
    "invalidations by tag remove nothing",
    fix=f"set CacheTagConfig.HeaderName to {TAG_FIELD}",
    source=CLOUDFRONT + "invalidation-by-tags",
)
def _tags(stack: Stack) -> Iterator[Found]:
    for logical_id, config in stack.distributions:
        named = text(part(config, "CacheTagConfig").get("HeaderName"))
        if named.lower() != TAG_FIELD.lower():
            yield Found(
                logical_id,
                f"CacheTagConfig names {named or 'nothing'}: invalidations by tag are accepted and remove nothing",
                tuple(route for route in stack.policies.policies if route.tags),
                "tags",
            )


@rule(
    "EDGE104",
    "errors that are kept whatever the origin says",
    fix="set ErrorCachingMinTTL of this status to 0",
    source=CLOUDFRONT + "HTTPStatusCodes",
)
def _errors(stack: Stack) -> Iterator[Found]:
    for logical_id, config in stack.distributions:
        kept = {
            item.get("ErrorCode"): item.get("ErrorCachingMinTTL", 10)
            for item in parts(config.get("CustomErrorResponses"))
            if isinstance(item.get("ErrorCode"), int)
        }
        for status in ERROR_STATUSES:
            if kept.get(status, 10) != 0:
                yield Found(
                    logical_id,
                    f"an answer of {status} is kept for {kept.get(status, 10)} s whatever the origin says",
                    tuple(route for route in stack.policies.policies if status in dict(route.negative_s)),
                    "negative",
                )


@rule(
    "EDGE105",
    "a behaviour that is never chosen",
    fix="put the narrower pattern first",
    source=CLOUDFRONT + "DownloadDistValuesCacheBehavior",
)
def _order(stack: Stack) -> Iterator[Found]:
    for logical_id, config in stack.distributions:
        patterns = [text(item.get("PathPattern")) for item in parts(config.get("CacheBehaviors"))]
        for number, pattern in enumerate(patterns):
            earlier = next((wide for wide in patterns[:number] if takes_in(wide, pattern)), None)
            if earlier is not None:
                yield Found(
                    f"{logical_id} behaviour {pattern}",
                    f"never chosen: {earlier} stands before it and takes in every path of it",
                    _with_pattern(stack, pattern),
                    "path",
                )


def _with_pattern(stack: Stack, pattern: str) -> tuple[CachePolicy, ...]:
    return tuple(route for route in stack.policies.policies if path_pattern(route) == pattern)


@rule(
    "EDGE106",
    "no viewer-request Function",
    fix="associate ViewerRequest with viewer-request",
    source=CLOUDFRONT + "edge-functions-choosing",
)
def _viewer_request(stack: Stack) -> Iterator[Found]:
    for behaviour in stack.behaviours:
        if "viewer-request" not in behaviour.events("FunctionAssociations"):
            yield Found(
                behaviour.where,
                "path and query reach the key as the viewer spelled them, and nothing is refused or redirected",
                behaviour.routes,
            )


@rule(
    "EDGE107",
    "a Function and a Lambda function on viewer events",
    fix="keep the Function, move the Lambda function to an origin event",
    source=CLOUDFRONT + "edge-function-restrictions-all",
)
def _both_at_the_viewer(stack: Stack) -> Iterator[Found]:
    for behaviour in stack.behaviours:
        lambdas = [name for name in behaviour.events("LambdaFunctionAssociations") if name.startswith("viewer-")]
        if lambdas and behaviour.events("FunctionAssociations"):
            yield Found(behaviour.where, f"Lambda@Edge on {lambdas[0]} beside a Function: refused", behaviour.routes)


@rule(
    "EDGE116",
    "a route whose paths get a behaviour that cannot serve them",
    fix="give one of the two routes a path that CloudFront's patterns can tell apart, such as another first segment",
    source=CLOUDFRONT + "DownloadDistValuesCacheBehavior",
)
def _misfits(stack: Stack) -> Iterator[Found]:
    """Only for behaviours that a pattern of a route names; what a hand has added has no route to be held against."""
    by_pattern = {behaviour.pattern: behaviour for behaviour in stack.behaviours}
    chosen = [
        Chosen(behaviour.routes[0], behaviour.pattern)
        for behaviour in stack.behaviours
        if behaviour.routes and behaviour.pattern != "*"
    ]
    policies = stack.policies
    contents = {route.id: content_of(route, policies) for route in policies.policies}
    for stray in misfits(policies, chosen, lambda route: contents[route.id]):
        if stray.route is policies.policies[-1]:
            continue
        lost = _lost(stray.route, by_pattern[stray.behaviour.pattern])
        if lost:
            yield Found(
                f"{by_pattern[stray.behaviour.pattern].where}",
                f"takes {stray.path} of {stray.route.id}, which then has {lost}",
                (stray.route,),
                "path",
            )


def _lost(route: CachePolicy, behaviour: Behaviour) -> str:
    """What a route would miss in a behaviour that was made for another."""
    if route.refuse_status or route.redirect != "none":
        return ""
    if (
        route.passes_cookies
        and not route.store
        and part(behaviour.request, "CookiesConfig").get("CookieBehavior") != "all"
    ):
        return "no cookies"
    if (
        not route.store
        and route.auth is not Auth.NONE
        and behaviour.stores
        and ("authorization" not in behaviour.cached_headers)
    ):
        return "no Authorization"
    missing = sorted(set(methods_of(route)) & set(ALL_METHODS) - set(_methods(behaviour)))
    if missing:
        return f"no {', '.join(missing)}"
    unkeyed = sorted(set(route.vary) - {"accept-encoding", *ALL} - set(behaviour.cached_headers))
    if route.store and unkeyed and behaviour.stores:
        return f"no {', '.join(unkeyed)} in its key"
    return ""


def _methods(behaviour: Behaviour) -> list[str]:
    return texts(behaviour.written.get("AllowedMethods")) or ["GET", "HEAD"]


@rule(
    "EDGE117",
    "a path pattern that CloudFront refuses",
    fix="use letters, digits and - _ . $ ~ ' @ : + & in the plain parts of path, 255 characters at the most",
    source=CLOUDFRONT + "DownloadDistValuesCacheBehavior",
)
def _patterns(stack: Stack) -> Iterator[Found]:
    for behaviour in stack.behaviours:
        bad = sorted(set(_NOT_IN_A_PATTERN.findall(behaviour.pattern)))
        if bad:
            yield Found(behaviour.where, f"{' '.join(bad)} cannot stand in a path pattern", behaviour.routes, "path")
        if len(behaviour.pattern) > MAX_PATTERN_CHARACTERS:
            yield Found(behaviour.where, f"{len(behaviour.pattern)} characters", behaviour.routes, "path")


@rule(
    "EDGE118",
    "two functions for one event",
    fix="keep one of them",
    source=CLOUDFRONT + "edge-function-restrictions-all",
)
def _events_twice(stack: Stack) -> Iterator[Found]:
    for behaviour in stack.behaviours:
        for kind in ("FunctionAssociations", "LambdaFunctionAssociations"):
            events = behaviour.events(kind)
            for event in sorted({event for event in events if events.count(event) > 1}):
                yield Found(behaviour.where, f"{events.count(event)} {kind} for {event}: refused", behaviour.routes)


@rule(
    "EDGE119",
    "names of the shop that the distribution has no certificate for",
    fix="set ViewerCertificate.AcmCertificateArn (compile with --host), and 100 names at the most",
    source=CLOUDFRONT + "DownloadDistValuesGeneral",
)
def _names(stack: Stack) -> Iterator[Found]:
    for logical_id, config in stack.distributions:
        aliases = config.get("Aliases")
        count = len(aliases) if isinstance(aliases, list) else 0
        certificate = part(config, "ViewerCertificate")
        if count and not (certificate.get("AcmCertificateArn") or certificate.get("IamCertificateId")):
            names = f"{count} {'name' if count == 1 else 'names'}"
            yield Found(logical_id, f"{names} and CloudFront's own certificate: refused")
        if count > MAX_ALIASES:
            yield Found(logical_id, f"{count} names, a distribution has {MAX_ALIASES}")


@rule(
    "EDGE120",
    "countries refused before the Function",
    fix="set GeoRestriction.RestrictionType to none, and say blocked_countries in the policies",
    source=CLOUDFRONT + "georestrictions",
)
def _geo(stack: Stack) -> Iterator[Found]:
    for logical_id, config in stack.distributions:
        kind = part(config, "Restrictions", "GeoRestriction").get("RestrictionType")
        if kind not in (None, "none"):
            yield Found(
                logical_id,
                f"GeoRestriction {kind}: CloudFront answers 403 on every route, and the Function's 451 never comes",
                tuple(route for route in stack.policies.policies if route.blocked_countries),
                "blocked_countries",
            )


@rule(
    "EDGE128",
    "a staging distribution with HTTP/3",
    fix="set HttpVersion to http2 while a distribution is staged",
    source=CLOUDFRONT + "continuous-deployment-quotas-considerations",
)
def _staging(stack: Stack) -> Iterator[Found]:
    for logical_id, config in stack.distributions:
        staged = config.get("Staging") is True or config.get("ContinuousDeploymentPolicyId")
        if staged and text(config.get("HttpVersion")).endswith("3"):
            yield Found(logical_id, f"continuous deployment with {config['HttpVersion']}: refused")


@rule(
    "EDGE129",
    "no viewer-response Function",
    fix="associate ViewerResponse with viewer-response",
    source=CLOUDFRONT + "edge-functions-choosing",
)
def _viewer_response(stack: Stack) -> Iterator[Found]:
    for behaviour in stack.behaviours:
        if "viewer-response" not in behaviour.events("FunctionAssociations"):
            yield Found(
                behaviour.where,
                "viewers get the Cache-Control that was meant for CloudFront, and the edges' own fields",
                behaviour.routes,
                "shows_price",
            )


@rule(
    "EDGE130",
    "an origin event without its handler",
    fix="associate the numbered versions of both handlers",
    source=CLOUDFRONT + "lambda-cloudfront-trigger-events",
)
def _handlers(stack: Stack) -> Iterator[Found]:
    suffers = {
        "origin-request": "the origin is asked without Min-Catalog-Version: a lagging replica may answer",
        "origin-response": "CloudFront keeps what the policy forbids: Set-Cookie, unlabelled answers, any lifetime",
    }
    for behaviour in stack.behaviours:
        for event, consequence in suffers.items():
            if event not in behaviour.events("LambdaFunctionAssociations"):
                yield Found(behaviour.where, f"no handler on {event}: {consequence}", behaviour.routes)


@rule(
    "EDGE133",
    "plain HTTP is served",
    fix="set ViewerProtocolPolicy to redirect-to-https or https-only",
    source=CLOUDFRONT + "using-https",
)
def _https(stack: Stack) -> Iterator[Found]:
    for behaviour in stack.behaviours:
        if behaviour.written.get("ViewerProtocolPolicy") == "allow-all":
            yield Found(
                behaviour.where,
                "cookies and Authorization travel in clear, and HTTP shares the entries of HTTPS",
                behaviour.routes,
            )


@rule(
    "EDGE134",
    "a method that CloudFront answers with 403",
    fix="set AllowedMethods to all seven: the Function refuses what the route does not list",
    source=CLOUDFRONT + "DownloadDistValuesCacheBehavior",
)
def _allowed(stack: Stack) -> Iterator[Found]:
    for behaviour in stack.behaviours:
        offered = set(_methods(behaviour))
        for route in behaviour.routes:
            missing = sorted(set(methods_of(route)) & set(ALL_METHODS) - offered)
            if missing and not route.refuse_status and route.redirect == "none":
                yield Found(
                    behaviour.where, f"{', '.join(missing)} never reaches the origin", (route,), "forward_methods"
                )


@rule(
    "EDGE136",
    "no web ACL",
    fix="set WebACLId to the web ACL of the template",
    source=WAF + "cloudfront-features",
)
def _protected(stack: Stack) -> Iterator[Found]:
    for logical_id, config in stack.distributions:
        if not config.get("WebACLId"):
            yield Found(
                logical_id,
                "no throttle is held, and nothing looks for attacks",
                tuple(route for route in stack.policies.policies if route.throttle),
                "throttle",
            )


@rule(
    "EDGE241",
    "a template of other policies",
    fix="compile again, or lint with the policies it was made from (--policies)",
    source=CLOUDFORMATION + "template-description-structure",
)
def _digest(stack: Stack) -> Iterator[Found]:
    said = re.search(r"cache policies ([0-9a-f]{16})", text(stack.template.get("Description")))
    if stack.distributions and said and said[1] != stack.policies.digest:
        yield Found("Description", f"compiled from {said[1]}, these policies are {stack.policies.digest}")


@rule(
    "EDGE242",
    "a stack that may be deployed in another region",
    fix="keep the rule Region of the compiled template",
    source=CLOUDFRONT + "lambda-at-edge-function-restrictions",
)
def _region(stack: Stack) -> Iterator[Found]:
    asserted = "us-east-1" in str(part(stack.template, "Rules"))
    if stack.distributions and not asserted:
        yield Found("Rules", "outside us-east-1 handlers and web ACL are refused, after everything else is made")
