"""The cache policies, origin request policies and response headers policies: keys, lifetimes, what viewers see."""

from __future__ import annotations

from collections.abc import Iterator

from cache_policies.fields import VERSION_FIELD
from edge.core.policy import ALL, Auth
from edge.lambda_edge.events import GENERATION_FIELD, TOLD_FIELD
from infra.aws.functions import AUTHORITY_FIELD
from infra.aws.quotas import MAX_CHARACTERS_OF_NAMES, MAX_NAMES
from infra.aws.rules.stack import CLOUDFRONT, Found, Map, Stack, number, part, parts, rule, text, texts
from infra.aws.templates.content import PRICE_MAX_TTL_S
from infra.aws.templates.edge import TAG_FIELD

NOT_IN_A_CACHE_KEY = frozenset(
    {
        "accept-encoding",
        "cloudfront-viewer-address",
        "cloudfront-viewer-asn",
        "cloudfront-viewer-ja3-fingerprint",
        "cloudfront-viewer-ja4-fingerprint",
        "cloudfront-viewer-tls",
    }
)
NOT_IN_AN_ORIGIN_REQUEST_POLICY = frozenset({"accept-encoding", "authorization"})
NOT_REMOVABLE = frozenset(
    {
        "connection",
        "content-encoding",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "via",
        "warning",
        "x-cache",
        "x-forwarded-proto",
        "x-real-ip",
    }
)
_WITH_CREDENTIALS = frozenset({Auth.OPTIONAL, Auth.SHARED})
_ONE_FOR_EACH_VISITOR = frozenset({"cookie", "user-agent", "referer", "x-forwarded-for", "cloudfront-viewer-country"})


def _cache_policies(stack: Stack) -> Iterator[tuple[str, Map]]:
    for logical_id, properties in stack.of_type("CloudFront::CachePolicy"):
        yield logical_id, part(properties, "CachePolicyConfig")


def _key(config: Map) -> Map:
    return part(config, "ParametersInCacheKeyAndForwardedToOrigin")


def _ttls(config: Map) -> tuple[float, float, float]:
    """MinTTL, DefaultTTL, MaxTTL; CloudFront's own where they are not there."""
    lowest, default, highest = (number(config.get(name)) for name in ("MinTTL", "DefaultTTL", "MaxTTL"))
    return lowest or 0, 86_400 if default is None else default, 31_536_000 if highest is None else highest


@rule("EDGE108", "a key of the old kind", fix="use CachePolicyId", source=CLOUDFRONT + "understanding-the-cache-key")
def _old_key(stack: Stack) -> Iterator[Found]:
    for behaviour in stack.behaviours:
        if "ForwardedValues" in behaviour.written or "CachePolicyId" not in behaviour.written:
            yield Found(behaviour.where, "the key is not made by a cache policy", behaviour.routes)


@rule(
    "EDGE109",
    "a stored route without its generation or its host in the key",
    fix="add the header to the cache policy",
    source=CLOUDFRONT + "understanding-the-cache-key",
)
def _generation(stack: Stack) -> Iterator[Found]:
    for behaviour in stack.behaviours:
        for name, reason, field in (
            (GENERATION_FIELD, "a raised bucket does not move the key", "generation"),
            (AUTHORITY_FIELD, "two names of the shop share an entry", "path"),
        ):
            if behaviour.cache is not None and name not in behaviour.cached_headers:
                yield Found(behaviour.where, f"stored without {name} in its key: {reason}", behaviour.routes, field)


@rule("EDGE110", "cookies in the key", fix="forward no cookies on a stored route", source=CLOUDFRONT + "Cookies")
def _keyed_cookies(stack: Stack) -> Iterator[Found]:
    for behaviour in stack.behaviours:
        if behaviour.cache is not None and _cookies(_key(behaviour.cache)) != "none":
            yield Found(
                behaviour.where,
                "Set-Cookie is stored with the answer and replayed on every hit",
                behaviour.routes,
                "cookies",
            )


@rule("EDGE111", "cookies at the origin", fix="forward no cookies on a stored route", source=CLOUDFRONT + "Cookies")
def _forwarded_cookies(stack: Stack) -> Iterator[Found]:
    for behaviour in stack.behaviours:
        if behaviour.stores and behaviour.request and _cookies(behaviour.request) != "none":
            yield Found(
                behaviour.where,
                "cookies reach the origin on a stored route and are not in its key: one visitor's page serves all",
                behaviour.routes,
                "cookies",
            )


def _cookies(config: Map) -> str:
    return text(part(config, "CookiesConfig").get("CookieBehavior")) or "none"


@rule(
    "EDGE112",
    "every header of the viewer at the origin of a stored route",
    fix="list the headers that the origin needs",
    source=CLOUDFRONT + "controlling-origin-requests",
)
def _every_header(stack: Stack) -> Iterator[Found]:
    for behaviour in stack.behaviours:
        kind = text(part(behaviour.request, "HeadersConfig").get("HeaderBehavior")) or "none"
        if behaviour.stores and kind not in {"none", "whitelist"}:
            yield Found(
                behaviour.where,
                f"{kind}: every header of the viewer reaches the origin and is not in the key",
                behaviour.routes,
                "request_fields",
            )


@rule(
    "EDGE113",
    "a price that is kept too long",
    fix=f"set MaxTTL to {PRICE_MAX_TTL_S} at the most",
    source=CLOUDFRONT + "Expiration",
)
def _price(stack: Stack) -> Iterator[Found]:
    for behaviour in stack.behaviours:
        priced = tuple(route for route in behaviour.routes if route.shows_price and route.store)
        if behaviour.cache is not None and (priced or _told_no_cache(behaviour.says)):
            longest = _ttls(behaviour.cache)[2]
            if longest > PRICE_MAX_TTL_S:
                yield Found(behaviour.where, f"what shows a price is kept for up to {longest:g} s", priced, "fresh")


def _told_no_cache(says: dict[str, tuple[str, bool]]) -> bool:
    value, override = says.get("cache-control", ("", False))
    return override and value.startswith("no-cache")


@rule(
    "EDGE114",
    "a price that browsers may keep",
    fix="add Cache-Control: no-cache, with Override, to the response headers policy",
    source=CLOUDFRONT + "understanding-response-headers-policies",
)
def _browsers(stack: Stack) -> Iterator[Found]:
    for behaviour in stack.behaviours:
        priced = tuple(route for route in behaviour.routes if route.shows_price and route.store)
        if priced and not _told_no_cache(behaviour.says):
            yield Found(
                behaviour.where,
                "Cache-Control does not leave as no-cache where no Function runs, from status 400 on",
                priced,
                "shows_price",
            )


@rule(
    "EDGE115",
    "a cache policy that is not in the template",
    fix="refer to a cache policy of the template",
    source=CLOUDFRONT + "using-managed-cache-policies",
)
def _unknown(stack: Stack) -> Iterator[Found]:
    for behaviour in stack.behaviours:
        if behaviour.stores and behaviour.cache is None and "CachePolicyId" in behaviour.written:
            yield Found(behaviour.where, "its key is not known, nor how long it stores", behaviour.routes)


@rule(
    "EDGE121",
    "more names than a policy may list",
    fix=f"list {MAX_NAMES} at the most, {MAX_CHARACTERS_OF_NAMES} characters in all",
    source=CLOUDFRONT + "cloudfront-limits",
)
def _too_many(stack: Stack) -> Iterator[Found]:
    for logical_id, field, listed in _listed(stack):
        if len(listed) > MAX_NAMES:
            yield Found(
                logical_id,
                f"{len(listed)} {field}, a policy lists {MAX_NAMES}",
                stack.routes_of(logical_id),
                "request_fields" if logical_id.startswith("OriginRequest") else "vary",
            )
        elif sum(map(len, listed)) > MAX_CHARACTERS_OF_NAMES:
            yield Found(logical_id, f"{field} of {sum(map(len, listed))} characters", stack.routes_of(logical_id))


@rule(
    "EDGE122",
    "a wildcard that is none",
    fix="write the names out",
    source=CLOUDFRONT + "understanding-the-cache-key",
)
def _wildcards(stack: Stack) -> Iterator[Found]:
    for logical_id, field, listed in _listed(stack):
        for name in listed:
            if "*" in name:
                yield Found(logical_id, f"{name} in {field}: * is an ordinary character", stack.routes_of(logical_id))


def _listed(stack: Stack) -> Iterator[tuple[str, str, list[str]]]:
    """Every list of names: logical id of its policy, what is listed, the names."""
    configs = [(logical_id, _key(config)) for logical_id, config in _cache_policies(stack)]
    for logical_id, properties in stack.of_type("CloudFront::OriginRequestPolicy"):
        configs.append((logical_id, part(properties, "OriginRequestPolicyConfig")))
    for logical_id, config in configs:
        for group, field in (
            ("HeadersConfig", "Headers"),
            ("CookiesConfig", "Cookies"),
            ("QueryStringsConfig", "QueryStrings"),
        ):
            yield logical_id, field, texts(part(config, group).get(field))


@rule("EDGE123", "a MinTTL above zero", fix="set MinTTL to 0", source=CLOUDFRONT + "Expiration")
def _lowest(stack: Stack) -> Iterator[Found]:
    for logical_id, config in _cache_policies(stack):
        lowest = _ttls(config)[0]
        if lowest > 0:
            yield Found(
                logical_id,
                f"MinTTL {lowest:g}: no-store, no-cache and private are kept for so long",
                stack.routes_of(logical_id),
                "fresh",
            )


@rule("EDGE124", "a DefaultTTL above zero", fix="set DefaultTTL to 0", source=CLOUDFRONT + "Expiration")
def _default(stack: Stack) -> Iterator[Found]:
    for logical_id, config in _cache_policies(stack):
        default = _ttls(config)[1]
        if default > 0:
            yield Found(
                logical_id,
                f"DefaultTTL {default:g}: an answer that does not say how long it lives is stored",
                stack.routes_of(logical_id),
                "fresh",
            )


@rule("EDGE125", "lifetimes out of order", fix="order them", source=CLOUDFRONT + "Expiration")
def _ordered(stack: Stack) -> Iterator[Found]:
    for logical_id, config in _cache_policies(stack):
        lowest, default, highest = _ttls(config)
        if not lowest <= default <= highest:
            yield Found(
                logical_id,
                f"MinTTL {lowest:.0f}, DefaultTTL {default:.0f}, MaxTTL {highest:.0f} are not in this order",
                stack.routes_of(logical_id),
                "max_fresh",
            )


@rule(
    "EDGE126",
    "a header that no cache policy may list",
    fix="use the compression flags, or an origin request policy",
    source=CLOUDFRONT + "adding-cloudfront-headers",
)
def _forbidden(stack: Stack) -> Iterator[Found]:
    for logical_id, config in _cache_policies(stack):
        for name in texts(part(_key(config), "HeadersConfig").get("Headers")):
            if name.lower() in NOT_IN_A_CACHE_KEY:
                yield Found(logical_id, f"{name} cannot be in a cache policy", stack.routes_of(logical_id), "vary")


@rule(
    "EDGE127",
    "an entry for every visitor",
    fix="let the Function choose one of a few markets",
    source=CLOUDFRONT + "header-caching",
)
def _variants(stack: Stack) -> Iterator[Found]:
    for logical_id, config in _cache_policies(stack):
        for name in texts(part(_key(config), "HeadersConfig").get("Headers")):
            if name.lower() in _ONE_FOR_EACH_VISITOR:
                yield Found(
                    logical_id,
                    f"{name} in the key makes an entry for each of its values",
                    stack.routes_of(logical_id),
                    "vary",
                )


@rule(
    "EDGE140",
    "Authorization in the key of a route that ignores it",
    fix="take it out of the cache policy, or say auth: optional",
    source=CLOUDFRONT + "add-origin-custom-headers",
)
def _authorization(stack: Stack) -> Iterator[Found]:
    for behaviour in stack.behaviours:
        ignoring = tuple(route for route in behaviour.routes if route.store and route.auth not in _WITH_CREDENTIALS)
        if "authorization" in behaviour.cached_headers and ignoring:
            yield Found(behaviour.where, "who signs in is answered from entries of one's own", ignoring, "auth")


@rule(
    "EDGE145",
    "a header that no origin request policy may list",
    fix="list Authorization in the cache policy; Accept-Encoding comes with the compression flags",
    source=CLOUDFRONT + "add-origin-custom-headers",
)
def _not_forwardable(stack: Stack) -> Iterator[Found]:
    for logical_id, properties in stack.of_type("CloudFront::OriginRequestPolicy"):
        config = part(properties, "OriginRequestPolicyConfig", "HeadersConfig")
        for name in texts(config.get("Headers")):
            if name.lower() in NOT_IN_AN_ORIGIN_REQUEST_POLICY and config.get("HeaderBehavior") != "allExcept":
                yield Found(logical_id, f"{name}: refused", stack.routes_of(logical_id), "request_fields")


@rule(
    "EDGE146",
    "a query that the handlers do not see",
    fix="set QueryStringBehavior to all: the Function has left the allow-list only",
    source=CLOUDFRONT + "edge-function-restrictions-all",
)
def _query(stack: Stack) -> Iterator[Found]:
    for behaviour in stack.behaviours:
        asking = tuple(route for route in behaviour.routes if route.query and route.store)
        kind = text(part(_key(behaviour.cache or {}), "QueryStringsConfig").get("QueryStringBehavior"))
        if behaviour.cache is not None and asking and kind != "all":
            yield Found(
                behaviour.where,
                f"QueryStringBehavior {kind or 'none'}: different queries share an entry, or the origin sees none",
                asking,
                "query",
            )


@rule(
    "EDGE147",
    "compression by halves",
    fix="set Compress and both EnableAcceptEncoding flags, or none of them",
    source=CLOUDFRONT + "ServingCompressedFiles",
)
def _compression(stack: Stack) -> Iterator[Found]:
    for behaviour in stack.behaviours:
        if behaviour.cache is None:
            continue
        key = _key(behaviour.cache)
        flags = [key.get(f"EnableAcceptEncoding{name}") is True for name in ("Gzip", "Brotli")]
        if behaviour.written.get("Compress") is True and not all(flags):
            yield Found(
                behaviour.where,
                "Compress without both flags: gzip, br or both never leave",
                behaviour.routes,
                "compress",
            )
        if any(flags) and _ttls(behaviour.cache)[2] == 0:
            yield Found(behaviour.where, "flags with MaxTTL 0: refused", behaviour.routes, "compress")


@rule(
    "EDGE148",
    "lifetimes beside a cache policy",
    fix="take MinTTL, DefaultTTL and MaxTTL out of the behaviour",
    source=CLOUDFRONT + "DownloadDistValuesCacheBehavior",
)
def _two_lifetimes(stack: Stack) -> Iterator[Found]:
    for behaviour in stack.behaviours:
        twice = [name for name in ("MinTTL", "DefaultTTL", "MaxTTL") if name in behaviour.written]
        if twice and "CachePolicyId" in behaviour.written:
            yield Found(behaviour.where, f"{', '.join(twice)} beside CachePolicyId: refused", behaviour.routes, "fresh")


@rule(
    "EDGE139",
    "a stored route that is never stored",
    fix="refer to a cache policy of the template",
    source=CLOUDFRONT + "using-managed-cache-policies",
)
def _disabled(stack: Stack) -> Iterator[Found]:
    for behaviour in stack.behaviours:
        if behaviour.routes and not behaviour.stores and all(route.store for route in behaviour.routes):
            yield Found(behaviour.where, "CachingDisabled: every request goes to the origin", behaviour.routes, "store")


@rule(
    "EDGE149",
    "variants that share an entry",
    fix="list the field in the cache policy (Accept-Encoding: set both flags)",
    source=CLOUDFRONT + "understanding-the-cache-key",
)
def _shared_variants(stack: Stack) -> Iterator[Found]:
    for behaviour in stack.behaviours:
        if behaviour.cache is None:
            continue
        known = {*behaviour.cached_headers}
        if _key(behaviour.cache).get("EnableAcceptEncodingGzip") is True:
            known.add("accept-encoding")
        for route in behaviour.routes:
            missing = sorted(set(route.vary) - {*known, *ALL})
            if route.store and missing:
                yield Found(
                    behaviour.where,
                    f"{', '.join(missing)} not in the key: the first variant serves all",
                    (route,),
                    "vary",
                )


@rule(
    "EDGE150",
    "a request field that never arrives",
    fix="list the field in the origin request policy",
    source=CLOUDFRONT + "controlling-origin-requests",
)
def _not_forwarded(stack: Stack) -> Iterator[Found]:
    for behaviour in stack.behaviours:
        if part(behaviour.request, "HeadersConfig").get("HeaderBehavior") not in {"none", "whitelist", None}:
            continue
        known = {*behaviour.cached_headers, *behaviour.forwarded_headers, "accept-encoding"}
        for route in behaviour.routes:
            missing = sorted(set(route.request_fields) - {*known, *ALL})
            if route.store and missing:
                yield Found(
                    behaviour.where, f"{', '.join(missing)} does not reach the origin", (route,), "request_fields"
                )


@rule(
    "EDGE156",
    "a route that is never stored in a behaviour that stores",
    fix="set CachePolicyId to CachingDisabled (4135ea2d-6df8-44a3-9df3-4b5a84be39ad)",
    source=CLOUDFRONT + "using-managed-cache-policies",
)
def _stored_all_the_same(stack: Stack) -> Iterator[Found]:
    for behaviour in stack.behaviours:
        if behaviour.routes and behaviour.stores and not any(route.store for route in behaviour.routes):
            yield Found(
                behaviour.where,
                "only the handler's no-store keeps personal answers out of the cache",
                behaviour.routes,
                "data_class",
            )


@rule(
    "EDGE160",
    "a route that is not compressed",
    fix="set Compress and both EnableAcceptEncoding flags",
    source=CLOUDFRONT + "ServingCompressedFiles",
)
def _uncompressed(stack: Stack) -> Iterator[Found]:
    for behaviour in stack.behaviours:
        asking = tuple(route for route in behaviour.routes if route.compress and route.store)
        if asking and behaviour.written.get("Compress") is not True:
            yield Found(behaviour.where, "Compress is off: every byte of text is paid for", asking, "compress")


@rule(
    "EDGE131",
    "a header that cannot be removed",
    fix="leave it",
    source=CLOUDFRONT + "understanding-response-headers-policies",
)
def _removable(stack: Stack) -> Iterator[Found]:
    for logical_id, properties in stack.of_type("CloudFront::ResponseHeadersPolicy"):
        config = part(properties, "ResponseHeadersPolicyConfig", "RemoveHeadersConfig")
        for item in parts(config.get("Items")):
            name = text(item.get("Header")).lower()
            if name in NOT_REMOVABLE or name.startswith(("x-edge-", "x-amz-cf-", "x-accel-")):
                yield Found(logical_id, f"{item['Header']} cannot be removed: refused")


@rule(
    "EDGE132",
    "labels that viewers see",
    fix="remove it in the response headers policy, which runs for errors as well",
    source=CLOUDFRONT + "understanding-response-headers-policies",
)
def _labels(stack: Stack) -> Iterator[Found]:
    for behaviour in stack.behaviours:
        for name in (TAG_FIELD.lower(), VERSION_FIELD):
            if name not in behaviour.removes:
                yield Found(behaviour.where, f"{name} reaches viewers", behaviour.routes)


@rule(
    "EDGE155",
    "more headers than a response headers policy has",
    fix=f"add {MAX_NAMES} at the most, and remove {MAX_NAMES} at the most",
    source=CLOUDFRONT + "cloudfront-limits",
)
def _response_headers(stack: Stack) -> Iterator[Found]:
    for logical_id, properties in stack.of_type("CloudFront::ResponseHeadersPolicy"):
        config = part(properties, "ResponseHeadersPolicyConfig")
        for group in ("CustomHeadersConfig", "RemoveHeadersConfig"):
            count = len(parts(part(config, group).get("Items")))
            if count > MAX_NAMES:
                yield Found(logical_id, f"{count} items in {group}: refused", stack.routes_of(logical_id))


@rule(
    "EDGE157",
    "credentials for every origin",
    fix="name the origins that may send credentials, or set AccessControlAllowCredentials to false",
    source=CLOUDFRONT + "understanding-response-headers-policies",
)
def _cors(stack: Stack) -> Iterator[Found]:
    for logical_id, properties in stack.of_type("CloudFront::ResponseHeadersPolicy"):
        cors = part(properties, "ResponseHeadersPolicyConfig", "CorsConfig")
        anyone = "*" in texts(part(cors, "AccessControlAllowOrigins").get("Items"))
        if anyone and cors.get("AccessControlAllowCredentials") is True:
            yield Found(logical_id, "AccessControlAllowCredentials with origin *: browsers refuse the answer")


@rule(
    "EDGE158",
    "what the viewer-response Function has to hand out is removed before it runs",
    fix=f"leave {TOLD_FIELD} to the Function, which runs after the policy",
    source=CLOUDFRONT + "understanding-response-headers-policies",
)
def _told(stack: Stack) -> Iterator[Found]:
    for behaviour in stack.behaviours:
        if TOLD_FIELD in behaviour.removes:
            yield Found(
                behaviour.where,
                f"{TOLD_FIELD} is removed: viewers get the Cache-Control that was meant for CloudFront",
                behaviour.routes,
                "shows_price",
            )


@rule(
    "EDGE159",
    "a session that is lost",
    fix="do not remove Set-Cookie where the route says cookies: true",
    source=CLOUDFRONT + "Cookies",
)
def _sessions(stack: Stack) -> Iterator[Found]:
    for behaviour in stack.behaviours:
        with_cookies = tuple(route for route in behaviour.routes if route.passes_cookies and not route.store)
        forwarded = _cookies(behaviour.request) == "all"
        if with_cookies and ("set-cookie" in behaviour.removes or not forwarded):
            yield Found(behaviour.where, "cookies do not pass", with_cookies, "cookies")
