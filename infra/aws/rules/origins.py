"""Origins, their groups, and the gate in front of each of them."""

from __future__ import annotations

from collections.abc import Iterator

from cache_policies.fields import EDGE_KEY_FIELD
from edge.core.policy import DataClass
from edge.lambda_edge.origin_request import ORIGINS_FIELD
from infra.aws.quotas import MAX_ORIGIN_GROUPS, MAX_ORIGINS
from infra.aws.rules.stack import CLOUDFRONT, ELB, VPC, Found, Map, Stack, number, part, parts, rule, text, texts
from infra.aws.templates.content import content_of, origin_of

MAX_CUSTOM_HEADERS = 30
MAX_HEADER_VALUE_CHARACTERS = 1_783
REFUSED_CUSTOM_HEADERS = frozenset(
    {
        "cache-control",
        "connection",
        "content-length",
        "cookie",
        "host",
        "if-match",
        "if-modified-since",
        "if-none-match",
        "if-range",
        "if-unmodified-since",
        "max-forwards",
        "pragma",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "range",
        "request-range",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "via",
        "x-real-ip",
    }
)
PREFIX_LIST_WEIGHT = 55
"""Rules of a security group that CloudFront's managed prefix list counts as."""
MAX_SECURITY_GROUP_RULES = 60


def _origins(stack: Stack) -> Iterator[tuple[str, str, Map]]:
    """Where, the id, the origin."""
    for logical_id, config in stack.distributions:
        for origin in parts(config.get("Origins")):
            yield f"{logical_id} origin {text(origin.get('Id'))}", text(origin.get("Id")), origin


def _groups(stack: Stack) -> Iterator[tuple[str, str, Map]]:
    for logical_id, config in stack.distributions:
        for group in parts(part(config, "OriginGroups").get("Items")):
            yield f"{logical_id} origin group {text(group.get('Id'))}", text(group.get("Id")), group


def _members(group: Map) -> list[str]:
    return [text(item.get("OriginId")) for item in parts(part(group, "Members").get("Items"))]


def _custom_headers(origin: Map) -> dict[str, object]:
    return {
        text(item.get("HeaderName")).lower(): item.get("HeaderValue")
        for item in parts(origin.get("OriginCustomHeaders"))
    }


@rule(
    "EDGE161",
    "handlers on an origin that takes none",
    fix="use a public origin that is closed to all but CloudFront (templates/origin-gate.json)",
    source=CLOUDFRONT + "private-content-vpc-origins",
)
def _private(stack: Stack) -> Iterator[Found]:
    groups = {group_id: _members(group) for _, group_id, group in _groups(stack)}
    with_handlers = {
        member
        for behaviour in stack.behaviours
        if any(event.startswith("origin-") for event in behaviour.events("LambdaFunctionAssociations"))
        for target in (text(behaviour.written.get("TargetOriginId")),)
        for member in groups.get(target, [target])
    }
    for where, origin_id, origin in _origins(stack):
        kind = "VPC origin" if "VpcOriginConfig" in origin else ""
        kind = kind or ("origin with mTLS" if part(origin, "CustomOriginConfig").get("OriginMtlsConfig") else "")
        if kind and origin_id in with_handlers:
            yield Found(where, f"a {kind} takes no origin-request or origin-response Lambda@Edge: refused")


@rule(
    "EDGE162",
    "an origin that does not know its edge",
    fix="send the edge key as a custom header",
    source=CLOUDFRONT + "add-origin-custom-headers",
)
def _edge_key(stack: Stack) -> Iterator[Found]:
    for where, _, origin in _origins(stack):
        if EDGE_KEY_FIELD not in _custom_headers(origin):
            yield Found(
                where, f"no {EDGE_KEY_FIELD}: the origin ignores Min-Catalog-Version, and a lagging replica may answer"
            )


@rule(
    "EDGE163",
    "a secret in the template",
    fix="refer to a secret by {{resolve:secretsmanager:...}}",
    source=CLOUDFRONT + "add-origin-custom-headers",
)
def _secret(stack: Stack) -> Iterator[Found]:
    for where, _, origin in _origins(stack):
        key = _custom_headers(origin).get(EDGE_KEY_FIELD)
        if key is not None and "{{resolve:" not in str(key):
            yield Found(where, "the edge key stands in the template")
    for logical_id, properties in stack.of_type("ElasticLoadBalancingV2::ListenerRule"):
        for values in _header_values(properties):
            if "{{resolve:" not in str(values):
                yield Found(logical_id, "the edge key stands in the template")


def _header_values(listener_rule: Map) -> Iterator[object]:
    for condition in parts(listener_rule.get("Conditions")):
        header = part(condition, "HttpHeaderConfig")
        if text(header.get("HttpHeaderName")).lower() == EDGE_KEY_FIELD:
            yield header.get("Values")


@rule(
    "EDGE164",
    "an origin asked in clear",
    fix="use https-only and TLSv1.2",
    source=CLOUDFRONT + "DownloadDistValuesOrigin",
)
def _clear(stack: Stack) -> Iterator[Found]:
    for where, _, origin in _origins(stack):
        config = part(origin, "CustomOriginConfig")
        protocol = config.get("OriginProtocolPolicy")
        if config and protocol != "https-only":
            yield Found(where, f"{protocol}: the edge key may travel in clear")
        old = sorted({"SSLv3", "TLSv1", "TLSv1.1"} & set(texts(config.get("OriginSSLProtocols"))))
        if old:
            yield Found(where, f"{', '.join(old)}: given up for their weaknesses")


@rule(
    "EDGE185",
    "an origin group where writes are allowed",
    fix="set AllowedMethods to GET, HEAD and at the most OPTIONS, or target the origin itself",
    source=CLOUDFRONT + "RequestAndResponseBehaviorOriginGroups",
)
def _writes(stack: Stack) -> Iterator[Found]:
    groups = {group_id for _, group_id, _ in _groups(stack)}
    for behaviour in stack.behaviours:
        methods = set(texts(behaviour.written.get("AllowedMethods")))
        if behaviour.written.get("TargetOriginId") in groups and methods - {"GET", "HEAD", "OPTIONS"}:
            yield Found(behaviour.where, "AllowedMethods with writes: refused", behaviour.routes, "origin")


@rule(
    "EDGE186",
    "an origin group that is no pair",
    fix="name two different origins of the distribution, the first to be asked first",
    source=CLOUDFRONT + "high_availability_origin_failover",
)
def _pairs(stack: Stack) -> Iterator[Found]:
    declared = {origin_id for _, origin_id, _ in _origins(stack)}
    for where, _, group in _groups(stack):
        members = _members(group)
        unknown = [name for name in members if name not in declared]
        if len(members) != 2 or len(set(members)) != 2:
            yield Found(where, f"members {', '.join(members) or 'none'}: refused")
        elif unknown:
            yield Found(where, f"{', '.join(unknown)} is no origin of the distribution: refused")


def _failures(group: Map) -> list[int]:
    codes = part(group, "FailoverCriteria", "StatusCodes").get("Items")
    return [code for code in codes if isinstance(code, int)] if isinstance(codes, list) else []


@rule(
    "EDGE187",
    "an origin group that misses failures",
    fix="list 500, 502, 503 and 504",
    source=CLOUDFRONT + "high_availability_origin_failover",
)
def _criteria(stack: Stack) -> Iterator[Found]:
    meanings = {502: "a bad gateway", 503: "no connection at all", 504: "no answer in time"}
    for where, _, group in _groups(stack):
        missed = [f"{status} ({what})" for status, what in meanings.items() if status not in _failures(group)]
        if missed:
            yield Found(where, f"does not fail over on {', '.join(missed)}")


@rule(
    "EDGE188",
    "a slow failover",
    fix="set ConnectionAttempts to 1, or ConnectionTimeout to a few seconds",
    source=CLOUDFRONT + "high_availability_origin_failover",
)
def _slow(stack: Stack) -> Iterator[Found]:
    firsts = {members[0] for _, _, group in _groups(stack) if (members := _members(group))}
    for where, origin_id, origin in _origins(stack):
        attempts = number(origin.get("ConnectionAttempts"))
        timeout = number(origin.get("ConnectionTimeout"))
        wait = (3 if attempts is None else attempts) * (10 if timeout is None else timeout)
        if origin_id in firsts and wait > 10:
            yield Found(where, f"every read waits up to {wait:g} s before the second origin is asked")


@rule(
    "EDGE189",
    "a failover on what is no failure",
    fix="list statuses of 500 and above only",
    source=CLOUDFRONT + "high_availability_origin_failover",
)
def _no_failures(stack: Stack) -> Iterator[Found]:
    for where, _, group in _groups(stack):
        codes = part(group, "FailoverCriteria", "StatusCodes").get("Items")
        mistaken = (
            [str(code) for code in codes if isinstance(code, int) and code < 500] if isinstance(codes, list) else []
        )
        if mistaken:
            yield Found(
                where, f"{', '.join(mistaken)}: every such answer costs a second request and a second invocation"
            )


@rule(
    "EDGE190",
    "a custom header that CloudFront refuses",
    fix="send other headers, 30 at the most",
    source=CLOUDFRONT + "add-origin-custom-headers",
)
def _refused_headers(stack: Stack) -> Iterator[Found]:
    for where, _, origin in _origins(stack):
        headers = _custom_headers(origin)
        for name, value in headers.items():
            if name in REFUSED_CUSTOM_HEADERS or name.startswith(("x-amz-", "x-edge-")):
                yield Found(where, f"{name}: refused")
            if len(text(value)) > MAX_HEADER_VALUE_CHARACTERS:
                yield Found(where, f"{name} of {len(text(value))} characters: refused")
        if len(headers) > MAX_CUSTOM_HEADERS:
            yield Found(where, f"{len(headers)} custom headers: refused")


@rule(
    "EDGE191",
    "an Origin Shield in front of personal data",
    fix="switch OriginShield off, or on in a region of the jurisdiction",
    source=CLOUDFRONT + "origin-shield",
)
def _shield(stack: Stack) -> Iterator[Found]:
    personal = tuple(route for route in stack.policies.policies if route.data_class is DataClass.PERSONAL)
    for where, _, origin in _origins(stack):
        shield = part(origin, "OriginShield")
        if shield.get("Enabled") is True and personal:
            yield Found(
                where,
                f"the handlers then run in {shield.get('OriginShieldRegion')}, and personal data passes through there",
                personal,
                "residency",
            )


@rule(
    "EDGE192",
    "more origins than a distribution has",
    fix="declare fewer origins in origins.yaml",
    source=CLOUDFRONT + "cloudfront-limits",
)
def _too_many(stack: Stack) -> Iterator[Found]:
    for logical_id, config in stack.distributions:
        for what, used, limit in (
            ("origins", len(parts(config.get("Origins"))), MAX_ORIGINS),
            ("origin groups", len(parts(part(config, "OriginGroups").get("Items"))), MAX_ORIGIN_GROUPS),
        ):
            if used > limit:
                yield Found(logical_id, f"{used} {what}, a distribution has {limit}: refused")


@rule(
    "EDGE193",
    "an origin that the handler cannot find",
    fix=f"name every origin in the custom header {ORIGINS_FIELD}, as the compiler does",
    source=CLOUDFRONT + "lambda-event-structure",
)
def _names(stack: Stack) -> Iterator[Found]:
    declared = [origin.name for origin in stack.policies.origins.all]
    if len(declared) < 2:
        return
    for where, _, origin in _origins(stack):
        named = str(_custom_headers(origin).get(ORIGINS_FIELD, ""))
        missing = [name for name in declared if f"{name}=" not in named]
        if missing:
            yield Found(where, f"{ORIGINS_FIELD} does not name {', '.join(missing)}: every request ends with 503")


@rule(
    "EDGE195",
    "a route that asks another origin",
    fix="target the origin that the policy names, or its group",
    source=CLOUDFRONT + "DownloadDistValuesCacheBehavior",
)
def _targets(stack: Stack) -> Iterator[Found]:
    origins = stack.policies.origins
    for behaviour in stack.behaviours:
        target = text(behaviour.written.get("TargetOriginId"))
        wrong = tuple(
            route
            for route in behaviour.routes
            if not route.refuse_status
            and route.redirect == "none"
            and target not in {origin_of(route, origins).name, content_of(route, stack.policies).target}
        )
        if wrong:
            yield Found(
                behaviour.where, f"asks {target} instead of {origin_of(wrong[0], origins).name}", wrong, "origin"
            )


# --- the gate --------------------------------------------------------------------------------------------------


@rule(
    "EDGE231",
    "a load balancer that is open to the world",
    fix="admit CloudFront's managed prefix list only",
    source=CLOUDFRONT + "restrict-access-to-load-balancer",
)
def _open(stack: Stack) -> Iterator[Found]:
    for logical_id, properties in stack.of_type("EC2::SecurityGroup"):
        for ingress in parts(properties.get("SecurityGroupIngress")):
            if "SourcePrefixListId" not in ingress:
                source = ingress.get("CidrIp") or ingress.get("CidrIpv6") or "another source"
                yield Found(logical_id, f"admits {source}: who asks there meets no web ACL and no Function")


@rule(
    "EDGE232",
    "more rules than a security group has",
    fix="admit the prefix list once, on one port; or have the quota raised",
    source=VPC + "working-with-aws-managed-prefix-lists",
)
def _weight(stack: Stack) -> Iterator[Found]:
    for logical_id, properties in stack.of_type("EC2::SecurityGroup"):
        ingress = parts(properties.get("SecurityGroupIngress"))
        weight = sum(PREFIX_LIST_WEIGHT if "SourcePrefixListId" in item else 1 for item in ingress)
        if weight > MAX_SECURITY_GROUP_RULES:
            yield Found(logical_id, f"counts as {weight} rules, a group has {MAX_SECURITY_GROUP_RULES}: refused")


@rule(
    "EDGE233",
    "a load balancer that forwards without the edge key",
    fix=f"add a condition on the header {EDGE_KEY_FIELD}",
    source=CLOUDFRONT + "restrict-access-to-load-balancer",
)
def _without_key(stack: Stack) -> Iterator[Found]:
    for logical_id, properties in stack.of_type("ElasticLoadBalancingV2::ListenerRule"):
        forwards = any(action.get("Type") == "forward" for action in parts(properties.get("Actions")))
        if forwards and not any(True for _ in _header_values(properties)):
            yield Found(logical_id, "forwards what any distribution of CloudFront sends, a stranger's too")


@rule(
    "EDGE234",
    "a load balancer that refuses nobody",
    fix="add a rule for every path that answers 403, behind the one that forwards",
    source=ELB + "listener-rules",
)
def _refuses(stack: Stack) -> Iterator[Found]:
    rules = list(stack.of_type("ElasticLoadBalancingV2::ListenerRule"))
    refusing = [
        properties
        for _, properties in rules
        if any(
            text(part(action, "FixedResponseConfig").get("StatusCode")).startswith("4")
            for action in parts(properties.get("Actions"))
        )
    ]
    if rules and not refusing:
        yield Found(rules[0][0], "what has no edge key goes on to the listener's default action")


@rule(
    "EDGE236",
    "a port that is not HTTPS",
    fix="admit port 443 only",
    source=CLOUDFRONT + "restrict-access-to-load-balancer",
)
def _ports(stack: Stack) -> Iterator[Found]:
    for logical_id, properties in stack.of_type("EC2::SecurityGroup"):
        for ingress in parts(properties.get("SecurityGroupIngress")):
            if (ingress.get("FromPort"), ingress.get("ToPort")) != (443, 443):
                yield Found(logical_id, f"admits ports {ingress.get('FromPort')} to {ingress.get('ToPort')}")
