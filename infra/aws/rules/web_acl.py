"""The web ACL: what it does not stop, what it stops by mistake, what it costs."""

from __future__ import annotations

import re
from collections.abc import Iterator

from edge.core.policy import CachePolicy
from infra.aws.rules.stack import WAF, Found, Map, Stack, number, part, parts, rule, text
from infra.aws.templates.web_acl import (
    BOT_CONTROL,
    FREE_CAPACITY,
    MANAGED_GROUPS,
    MAX_CAPACITY,
    MAX_REGEX_CHARACTERS,
    capacity_of,
    rate_of,
    rate_rule_name,
    statements_of,
)

# WAF:waf-regex-pattern-support: back references, conditions, possessive and atomic groups, and most assertions.
_UNSUPPORTED = re.compile(r"\\[1-9]|\(\?[=!<>(|&]|\(\?P[=<>]|[*+?}]\+|\\[CRK]")


def _acls(stack: Stack) -> Iterator[tuple[str, Map]]:
    yield from stack.of_type("WAFv2::WebACL")


def _rules(stack: Stack) -> Iterator[tuple[str, Map]]:
    """Where, and the rule."""
    for logical_id, properties in _acls(stack):
        for written in parts(properties.get("Rules")):
            yield f"{logical_id} rule {text(written.get('Name'))}", written


def _rate_rules(stack: Stack) -> Iterator[tuple[str, Map, Map, tuple[CachePolicy, ...]]]:
    """Where, the rule, its rate-based statement, the route it is for."""
    for where, written in _rules(stack):
        statement = part(written, "Statement", "RateBasedStatement")
        if statement:
            routes = tuple(
                route for route in stack.policies.policies if rate_rule_name(route) == text(written.get("Name"))
            )
            yield where, written, statement, routes


def _managed(stack: Stack) -> Iterator[tuple[str, Map, Map]]:
    """Where, the rule, its managed rule group statement."""
    for where, written in _rules(stack):
        statement = part(written, "Statement", "ManagedRuleGroupStatement")
        if statement:
            yield where, written, statement


@rule(
    "EDGE201",
    "a web ACL of another scope",
    fix="set Scope to CLOUDFRONT, and deploy in us-east-1",
    source=WAF + "how-aws-waf-works-resources",
)
def _scope(stack: Stack) -> Iterator[Found]:
    for logical_id, properties in _acls(stack):
        if properties.get("Scope") != "CLOUDFRONT":
            yield Found(logical_id, f"Scope {properties.get('Scope')}: CloudFront refuses it")


@rule(
    "EDGE202",
    "a throttle that no rate rule holds",
    fix="compile again: the rule's limit and window come from the policy",
    source=WAF + "waf-rule-statement-type-rate-based",
)
def _throttles(stack: Stack) -> Iterator[Found]:
    acls = list(_acls(stack))
    if not acls:
        return
    rules = {text(written.get("Name")): statement for _, written, statement, _ in _rate_rules(stack)}
    for route in stack.policies.policies:
        if route.throttle is None:
            continue
        rate, written = rate_of(route.throttle), rules.get(rate_rule_name(route))
        if written is None:
            yield Found(acls[0][0], f"no rule {rate_rule_name(route)}", (route,), "throttle")
            continue
        found = (written.get("EvaluationWindowSec", 300), written.get("Limit"))
        if found != (rate.window_s, rate.limit):
            yield Found(
                f"{acls[0][0]} rule {rate_rule_name(route)}",
                f"{found[1]} in {found[0]} s, the policy means {rate.limit} in {rate.window_s} s",
                (route,),
                "throttle",
            )


@rule(
    "EDGE203",
    "a rate rule for the whole shop",
    fix="scope it down to the path of its route",
    source=WAF + "waf-rule-scope-down-statements",
)
def _everywhere(stack: Stack) -> Iterator[Found]:
    for where, _, statement, routes in _rate_rules(stack):
        if not part(statement, "ScopeDownStatement"):
            yield Found(where, "counts every request of a client, pictures too", routes, "throttle")


@rule(
    "EDGE204",
    "a rate rule that an encoded path passes by",
    fix="transform the path by URL_DECODE first",
    source=WAF + "waf-rule-statement-transformation",
)
def _encoded(stack: Stack) -> Iterator[Found]:
    for where, _, statement, routes in _rate_rules(stack):
        for kind, content in statements_of(part(statement, "ScopeDownStatement")):
            looks_at_path = "UriPath" in part(content, "FieldToMatch")
            transformed = {text(item.get("Type")) for item in parts(content.get("TextTransformations"))}
            if looks_at_path and not transformed & {"URL_DECODE", "URL_DECODE_UNI"}:
                yield Found(where, f"{kind} sees the path as it was sent: /%6Cogin is not counted", routes, "throttle")
                break


@rule(
    "EDGE205",
    "a rate rule that turns nobody away",
    fix="set Action to Block",
    source=WAF + "waf-rule-statement-type-rate-based-high-level-settings",
)
def _harmless(stack: Stack) -> Iterator[Found]:
    for where, written, _, routes in _rate_rules(stack):
        if "Block" not in part(written, "Action"):
            yield Found(where, f"its action is {', '.join(part(written, 'Action')) or 'none'}", routes, "throttle")


@rule(
    "EDGE206",
    "a web ACL beyond its capacity",
    fix="throttle fewer routes, or leave a rule group out",
    source=WAF + "aws-waf-capacity-units",
)
def _beyond(stack: Stack) -> Iterator[Found]:
    for logical_id, properties in _acls(stack):
        used = capacity_of(properties)
        if used > MAX_CAPACITY:
            yield Found(logical_id, f"{used} capacity units, a web ACL has {MAX_CAPACITY}: refused")


@rule(
    "EDGE207",
    "a web ACL that costs extra",
    fix=f"stay within {FREE_CAPACITY} capacity units: throttle fewer routes, or leave a rule group out",
    source=WAF + "aws-waf-capacity-units",
    only_costs=True,
)
def _costly(stack: Stack) -> Iterator[Found]:
    for logical_id, properties in _acls(stack):
        used = capacity_of(properties)
        if FREE_CAPACITY < used <= MAX_CAPACITY:
            yield Found(logical_id, f"{used} capacity units: every request costs more from {FREE_CAPACITY} on")


@rule("EDGE208", "two rules of one priority", fix="number them apart", source=WAF + "web-acl-processing-order")
def _priorities(stack: Stack) -> Iterator[Found]:
    for logical_id, properties in _acls(stack):
        numbers = [number(item.get("Priority")) for item in parts(properties.get("Rules"))]
        twice = sorted({each for each in numbers if each is not None and numbers.count(each) > 1})
        if twice:
            yield Found(logical_id, f"priority {', '.join(f'{each:g}' for each in twice)} twice: refused")


@rule(
    "EDGE209",
    "an action on a rule group",
    fix="set OverrideAction to None, and no Action",
    source=WAF + "web-acl-rule-group-override-options",
)
def _actions(stack: Stack) -> Iterator[Found]:
    for where, written, _ in _managed(stack):
        if "Action" in written or not part(written, "OverrideAction"):
            yield Found(where, "a rule group takes an OverrideAction and no Action: refused")


@rule(
    "EDGE210",
    "a rule group that only counts",
    fix="set OverrideAction to None, and override the rules that must only count by name",
    source=WAF + "web-acl-rule-group-override-options",
)
def _counting(stack: Stack) -> Iterator[Found]:
    for where, written, statement in _managed(stack):
        if "Count" in part(written, "OverrideAction"):
            yield Found(where, f"{text(statement.get('Name'))} blocks nothing")


@rule(
    "EDGE211",
    "an override of a rule that does not exist",
    fix="write the rule's name as the guide does, capitals included",
    source=WAF + "aws-managed-rule-groups-list",
)
def _overrides(stack: Stack) -> Iterator[Found]:
    known = {group.name: group.rules for group in MANAGED_GROUPS}
    for where, _, statement in _managed(stack):
        rules = known.get(text(statement.get("Name")))
        for item in parts(statement.get("RuleActionOverrides")):
            name = text(item.get("Name"))
            if rules is not None and name not in rules and not name.startswith("TGT_"):
                yield Found(where, f"{name}: AWS ignores it without a word, and the rule blocks on")


@rule(
    "EDGE212",
    "an attack that nothing looks for",
    fix="keep all four rule groups",
    source=WAF + "aws-managed-rule-groups-list",
)
def _groups(stack: Stack) -> Iterator[Found]:
    present = {text(statement.get("Name")) for _, _, statement in _managed(stack)}
    for logical_id, _ in _acls(stack):
        for group in MANAGED_GROUPS:
            if group.name not in present:
                yield Found(logical_id, f"no {group.name}")


@rule(
    "EDGE213",
    "a rule group that turns shoppers away",
    fix="override the rule with Count",
    source=WAF + "aws-managed-rule-groups-baseline",
)
def _too_strict(stack: Stack) -> Iterator[Found]:
    reasons = {
        "SizeRestrictions_BODY": "what staff send beyond 8 KB is answered with 403",
        "SizeRestrictions_QUERYSTRING": "long links of mail and advertisements are answered with 403",
        "GenericRFI_QUERYARGUMENTS": "links with an address in a parameter are answered with 403",
        "SignalNonBrowserUserAgent": "partners' HTTP libraries and apps are answered with 403",
    }
    counted_in = {group.name: [name for name in group.counted if name in reasons] for group in MANAGED_GROUPS}
    for where, written, statement in _managed(stack):
        harmless = {
            text(item.get("Name"))
            for item in parts(statement.get("RuleActionOverrides"))
            if {"Count", "Allow"} & set(part(item, "ActionToUse"))
        }
        for name in counted_in.get(text(statement.get("Name")), []):
            if name not in harmless and "Count" not in part(written, "OverrideAction"):
                yield Found(where, f"{name} blocks: {reasons[name]}")


@rule(
    "EDGE214",
    "bot control before cheaper rules",
    fix="give it the last priority: it is charged for each request that reaches it",
    source=WAF + "waf-bot-control",
)
def _last(stack: Stack) -> Iterator[Found]:
    for logical_id, properties in _acls(stack):
        numbered = [(number(item.get("Priority")), item) for item in parts(properties.get("Rules"))]
        known = [(priority, item) for priority, item in numbered if priority is not None]
        for priority, item in known:
            group = text(part(item, "Statement", "ManagedRuleGroupStatement").get("Name"))
            if group == BOT_CONTROL and any(other > priority for other, _ in known):
                yield Found(f"{logical_id} rule {text(item.get('Name'))}", "is charged for what later rules would stop")


@rule(
    "EDGE215",
    "targeted bot control",
    fix="set InspectionLevel to COMMON",
    source=WAF + "aws-managed-rule-groups-bot",
)
def _targeted(stack: Stack) -> Iterator[Found]:
    for where, _, statement in _managed(stack):
        for config in parts(statement.get("ManagedRuleGroupConfigs")):
            if part(config, BOT_CONTROL).get("InspectionLevel") == "TARGETED":
                yield Found(
                    where, "TARGETED: charged ten times as much, and what has no JavaScript fails its challenge"
                )


@rule(
    "EDGE216",
    "an expression that the web ACL refuses",
    fix=f"write it without assertions and references, in {MAX_REGEX_CHARACTERS} characters",
    source=WAF + "waf-regex-pattern-support",
)
def _expressions(stack: Stack) -> Iterator[Found]:
    for where, written in _rules(stack):
        routes = tuple(route for route in stack.policies.policies if rate_rule_name(route) == text(written.get("Name")))
        for kind, content in _all_statements(written):
            expression = text(content.get("RegexString"))
            if kind != "RegexMatchStatement":
                continue
            if len(expression) > MAX_REGEX_CHARACTERS:
                yield Found(where, f"{len(expression)} characters: refused", routes, "path")
            elif _UNSUPPORTED.search(expression):
                yield Found(where, f"{expression}: refused", routes, "path")


def _all_statements(written: Map) -> Iterator[tuple[str, Map]]:
    yield from statements_of(part(written, "Statement"))


@rule(
    "EDGE217",
    "a throttle that the client chooses by itself",
    fix="set AggregateKeyType to IP",
    source=WAF + "waf-rule-statement-forwarded-ip-address",
)
def _forged(stack: Stack) -> Iterator[Found]:
    for where, _, statement, routes in _rate_rules(stack):
        if statement.get("AggregateKeyType") == "FORWARDED_IP":
            yield Found(where, "counts by X-Forwarded-For, which the client writes", routes, "throttle")
        if statement.get("AggregateKeyType") == "CONSTANT":
            yield Found(where, "counts all clients as one: a single one can turn away the others", routes, "throttle")


@rule(
    "EDGE218",
    "a web ACL that lets nobody in",
    fix="set DefaultAction to Allow",
    source=WAF + "web-acl-default-action",
)
def _closed(stack: Stack) -> Iterator[Found]:
    for logical_id, properties in _acls(stack):
        if "Allow" not in part(properties, "DefaultAction"):
            yield Found(logical_id, "what no rule names is blocked: the whole shop")


@rule(
    "EDGE219",
    "a throttle that does not say so",
    fix="answer 429 with Retry-After, and Cache-Control: no-store",
    source=WAF + "waf-custom-request-response",
)
def _answers(stack: Stack) -> Iterator[Found]:
    for where, written, _, routes in _rate_rules(stack):
        response = part(written, "Action", "Block", "CustomResponse")
        headers = {text(item.get("Name")).lower() for item in parts(response.get("ResponseHeaders"))}
        blocks = "Block" in part(written, "Action")
        if blocks and (response.get("ResponseCode") != 429 or "retry-after" not in headers):
            yield Found(
                where,
                f"answers {response.get('ResponseCode', 403)}: clients cannot tell that they should come back",
                routes,
                "throttle",
            )


@rule(
    "EDGE220",
    "a web ACL that nothing is seen of",
    fix="set CloudWatchMetricsEnabled to true",
    source=WAF + "web-acl-testing",
)
def _metrics(stack: Stack) -> Iterator[Found]:
    for where, written in _rules(stack):
        if part(written, "VisibilityConfig").get("CloudWatchMetricsEnabled") is False:
            yield Found(where, "counts and blocks, and no metric tells whom")
