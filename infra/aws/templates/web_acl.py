"""The web ACL in front of the distribution: a rate rule for each throttled route, then AWS's managed rule groups.

The order is by cost: our own rules are cheap and come first, so that a flood never reaches the groups; bot control,
which is charged by the request, comes last. Nothing here decides what is served: what no rule blocks passes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from edge.core.policy import CachePolicy, PatternPart, PolicySet, Throttle, parse_pattern

Resource = dict[str, Any]

WINDOWS_S = (60, 120, 300, 600)
"""How far back a rate rule may count."""
MIN_LIMIT = 10
"""Least requests in a window that a rate rule takes."""
MAX_REGEX_CHARACTERS = 512
FREE_CAPACITY = 1_500
"""Capacity units of a web ACL that cost nothing extra; it may have up to 5,000."""
MAX_CAPACITY = 5_000
_MARKET_REGEX = "[a-z]{2}-[a-z]{3}"


class ManagedGroup(NamedTuple):
    """One of AWS's managed rule groups."""

    name: str
    capacity: int
    counted: tuple[str, ...]
    """Rules that only count, because they would turn away what belongs in a shop."""
    rules: frozenset[str]
    """Every rule of the group, as the guide lists them: AWS ignores an override of another name in silence."""


def _names(*words: str) -> frozenset[str]:
    return frozenset(name for word in words for name in word.split())


MANAGED_GROUPS = (
    # SizeRestrictions_BODY stops at 8 KB what staff and imports send; the origin has its own limit.
    # SizeRestrictions_QUERYSTRING and GenericRFI_QUERYARGUMENTS meet the long links of mail and advertisements, with
    # addresses in their parameters: the Function drops every parameter that a route does not list.
    ManagedGroup(
        "AWSManagedRulesCommonRuleSet",
        700,
        ("GenericRFI_QUERYARGUMENTS", "SizeRestrictions_BODY", "SizeRestrictions_QUERYSTRING"),
        _names(
            "NoUserAgent_HEADER UserAgent_BadBots_HEADER SizeRestrictions_QUERYSTRING SizeRestrictions_Cookie_HEADER",
            "SizeRestrictions_BODY SizeRestrictions_URIPATH EC2MetaDataSSRF_BODY EC2MetaDataSSRF_COOKIE",
            "EC2MetaDataSSRF_URIPATH EC2MetaDataSSRF_QUERYARGUMENTS GenericLFI_QUERYARGUMENTS GenericLFI_URIPATH",
            "GenericLFI_BODY RestrictedExtensions_URIPATH RestrictedExtensions_QUERYARGUMENTS",
            "GenericRFI_QUERYARGUMENTS GenericRFI_BODY GenericRFI_URIPATH CrossSiteScripting_COOKIE",
            "CrossSiteScripting_QUERYARGUMENTS CrossSiteScripting_BODY CrossSiteScripting_URIPATH",
        ),
    ),
    ManagedGroup(
        "AWSManagedRulesKnownBadInputsRuleSet",
        200,
        (),
        _names(
            "JavaDeserializationRCE_HEADER JavaDeserializationRCE_BODY JavaDeserializationRCE_URIPATH",
            "JavaDeserializationRCE_QUERYSTRING Host_localhost_HEADER PROPFIND_METHOD ExploitablePaths_URIPATH",
            "Log4JRCE_HEADER Log4JRCE_QUERYSTRING Log4JRCE_URIPATH Log4JRCE_BODY",
        ),
    ),
    ManagedGroup(
        "AWSManagedRulesSQLiRuleSet",
        200,
        (),
        _names(
            "SQLi_QUERYARGUMENTS SQLiExtendedPatterns_QUERYARGUMENTS SQLi_BODY SQLiExtendedPatterns_BODY SQLi_COOKIE",
            "SQLi_URIPATH",
        ),
    ),
    # Partners, our own observer and the command line use HTTP libraries: counted, and held to the rate rules.
    ManagedGroup(
        "AWSManagedRulesBotControlRuleSet",
        50,
        ("CategoryHttpLibrary", "CategoryMonitoring", "SignalNonBrowserUserAgent"),
        _names(
            "CategoryAdvertising CategoryArchiver CategoryContentFetcher CategoryEmailClient CategoryHttpLibrary",
            "CategoryLinkChecker CategoryMiscellaneous CategoryMonitoring CategoryPagePreview",
            "CategoryScrapingFramework CategorySearchEngine CategorySecurity CategorySeo CategorySocialMedia",
            "CategoryWebhooks CategoryAI SignalAutomatedBrowser SignalKnownBotDataCenter SignalNonBrowserUserAgent",
        ),
    ),
)
BOT_CONTROL = "AWSManagedRulesBotControlRuleSet"


class Rate(NamedTuple):
    """A throttle as a rate rule has it."""

    window_s: int
    limit: int
    """Requests in the window, after which one client is turned away."""


def rate_of(throttle: Throttle) -> Rate:
    """The shortest window in which the throttle lets at least MIN_LIMIT requests through, and how many it does.

    A token bucket lets through its burst and, in a window, the window's worth of its rate: the limit is their sum,
    rounded up. A throttle that lets fewer than MIN_LIMIT through in ten minutes becomes MIN_LIMIT in ten minutes.
    """
    limit = MIN_LIMIT
    for window_s in WINDOWS_S:
        # Rounded to the microrequest first, or 0.1/s x 60 s would come out a hair above 6.
        limit = math.ceil(round(throttle.burst + throttle.rate_per_s * window_s, 6))
        if limit >= MIN_LIMIT:
            return Rate(window_s, limit)
    return Rate(WINDOWS_S[-1], MIN_LIMIT)


def web_acl(policies: PolicySet) -> Resource:
    """The resource; must be in us-east-1, as everything of CloudFront."""
    rules = [*_rate_rules(policies), *_managed_rules(policies)]
    return {
        "Type": "AWS::WAFv2::WebACL",
        "Properties": {
            "Description": f"Cache policies {policies.digest}",
            "Scope": "CLOUDFRONT",
            "DefaultAction": {"Allow": {}},
            "Rules": [{**rule, "Priority": priority} for priority, rule in enumerate(rules)],
            "VisibilityConfig": _visible("web-acl"),
        },
    }


def _rate_rules(policies: PolicySet) -> Iterator[Resource]:
    for policy in policies.policies:
        if policy.throttle is None:
            continue
        rate = rate_of(policy.throttle)
        name = rate_rule_name(policy)
        yield {
            "Name": name,
            "Statement": {
                "RateBasedStatement": {
                    "AggregateKeyType": "IP",
                    "EvaluationWindowSec": rate.window_s,
                    "Limit": rate.limit,
                    "ScopeDownStatement": _falls_under(policy, policies),
                }
            },
            "Action": {
                "Block": {
                    "CustomResponse": {
                        "ResponseCode": 429,
                        "ResponseHeaders": [
                            {"Name": "cache-control", "Value": "no-store"},
                            {"Name": "retry-after", "Value": str(rate.window_s)},
                        ],
                    }
                }
            },
            "VisibilityConfig": _visible(name),
        }


def rate_rule_name(policy: CachePolicy) -> str:
    return f"rate-{policy.id}"


def _managed_rules(policies: PolicySet) -> Iterator[Resource]:
    for group in MANAGED_GROUPS:
        statement: Resource = {"VendorName": "AWS", "Name": group.name}
        if group.counted:
            statement["RuleActionOverrides"] = [
                {"Name": name, "ActionToUse": {"Count": {}}} for name in sorted(group.counted)
            ]
        if group.name == BOT_CONTROL:
            statement["ManagedRuleGroupConfigs"] = [{BOT_CONTROL: {"InspectionLevel": "COMMON"}}]
            files = [_falls_under(policy, policies) for policy in policies.policies if _is_file(policy)]
            if files:
                # Charged by the request, and a file that never changes is nothing that a bot would come for.
                statement["ScopeDownStatement"] = {"NotStatement": {"Statement": _joined("OrStatement", files)}}
        yield {
            "Name": group.name,
            "Statement": {"ManagedRuleGroupStatement": statement},
            "OverrideAction": {"None": {}},
            "VisibilityConfig": _visible(group.name),
        }


def _is_file(policy: CachePolicy) -> bool:
    """Whether a route is for files whose address holds their digest: nothing there ever moves its key."""
    return policy.store and not policy.shows_price and policy.generation == "none" and "{market}" not in policy.path


def _falls_under(policy: CachePolicy, policies: PolicySet) -> Resource:
    """The statement that a request's path falls under this route, and under none that comes before it."""
    statements = [_path_is(policy)]
    for earlier in policies.policies:
        if earlier is policy:
            break
        if _share_paths(parse_pattern(earlier.path), parse_pattern(policy.path), policies):
            statements.append({"NotStatement": {"Statement": _path_is(earlier)}})
    return _joined("AndStatement", statements)


def _joined(kind: str, statements: Sequence[Resource]) -> Resource:
    """`AndStatement` or `OrStatement`, which take two or more."""
    return statements[0] if len(statements) == 1 else {kind: {"Statements": list(statements)}}


def _path_is(policy: CachePolicy) -> Resource:
    return {
        "RegexMatchStatement": {
            "FieldToMatch": {"UriPath": {}},
            "RegexString": path_regex(policy),
            # The web ACL sees the path as the viewer spelled it: /%6Cogin is /login.
            "TextTransformations": [{"Priority": 0, "Type": "URL_DECODE"}],
        }
    }


def path_regex(policy: CachePolicy) -> str:
    """What a web ACL matches decoded paths of this route with. Unknown markets count as well."""
    text = ""
    for part in parse_pattern(policy.path):
        if not part.name:
            text += "/" + re.escape(part.literal)
        elif part.name == "market":
            text += "/" + _MARKET_REGEX
        else:
            text += "/.+" if part.rest else "/[^/]+"
    return f"^{text}$"


def _share_paths(one: Sequence[PatternPart], other: Sequence[PatternPart], policies: PolicySet) -> bool:
    """Whether some path matches both patterns."""
    for number, part in enumerate(one):
        if number == len(other):
            return False
        its = other[number]
        if part.rest or its.rest:
            shorter = other[number:] if part.rest else one[number:]
            return tuple(shorter) != (PatternPart(""),)
        if not (_takes(part, its, policies) or _takes(its, part, policies)):
            return False
    return len(one) == len(other)


def _takes(part: PatternPart, its: PatternPart, policies: PolicySet) -> bool:
    """Whether a segment of `its` may be one of `part`."""
    if not part.name:
        return not its.name and part.literal == its.literal
    if its.name:
        return True
    return policies.markets.by_id(its.literal) is not None if part.name == "market" else bool(its.literal)


def _visible(name: str) -> Resource:
    return {"CloudWatchMetricsEnabled": True, "MetricName": name, "SampledRequestsEnabled": True}


# --- capacity units -----------------------------------------------------------------------------------------------

_STATEMENT_CAPACITY = {
    "RegexMatchStatement": 3,
    "ByteMatchStatement": 10,
    "GeoMatchStatement": 1,
    "IPSetReferenceStatement": 1,
    "LabelMatchStatement": 1,
    "SizeConstraintStatement": 1,
    "SqliMatchStatement": 30,
    "XssMatchStatement": 40,
    "RegexPatternSetReferenceStatement": 25,
}
"""At the most; statements within statements are added."""
_RATE_CAPACITY = 2
_TRANSFORMATION_CAPACITY = 10


def capacity_of(acl: Mapping[str, Any]) -> int:
    """Capacity units of a web ACL's properties, by the published costs; AWS may count a little less.

    A transformation of one component is counted for each statement, though AWS may do it once for all of them.
    """
    return sum(_capacity(rule["Statement"]) for rule in acl.get("Rules", []))


def _capacity(statement: Mapping[str, Any]) -> int:
    total = 0
    for kind, content in statement.items():
        if kind == "ManagedRuleGroupStatement":
            # What bot control is scoped down by costs its own units.
            total += next((group.capacity for group in MANAGED_GROUPS if group.name == content["Name"]), 0)
        elif kind == "RateBasedStatement":
            total += _RATE_CAPACITY
        total += _STATEMENT_CAPACITY.get(kind, 0)
        total += _TRANSFORMATION_CAPACITY * sum(
            each["Type"] != "NONE" for each in content.get("TextTransformations", [])
        )
        nested = [content.get("ScopeDownStatement"), content.get("Statement"), *content.get("Statements", [])]
        total += sum(_capacity(each) for each in nested if each)
    return total


def statements_of(statement: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """A statement and all within it, by kind."""
    for kind, content in statement.items():
        yield kind, content
        for each in [content.get("ScopeDownStatement"), content.get("Statement"), *content.get("Statements", [])]:
            if each:
                yield from statements_of(each)
