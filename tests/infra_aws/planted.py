"""Mistakes to plant in a compiled template, by the code of the rule that finds them.

Beside each stands a change that looks like it and is none: what a rule must not take offence at.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

Template = dict[str, Any]
Change = Callable[[Template], object]

PAGE = "/??-???/products/*"
"""Stored, shows a price, throttled, reads fail over."""
GUIDE = "/??-???/guides/*"
"""Stored, shows no price, takes Authorization."""
ACCOUNT = "/??-???/account/*"
"""Never stored, with cookies."""


class Planted(NamedTuple):
    bad: Change
    good: Change


def resources(template: Template, kind: str) -> list[dict[str, Any]]:
    """Properties of all resources of a type."""
    return [item["Properties"] for item in template["Resources"].values() if item["Type"] == f"AWS::{kind}"]


def config(template: Template) -> dict[str, Any]:
    return template["Resources"]["Distribution"]["Properties"]["DistributionConfig"]


def behaviour(template: Template, pattern: str = PAGE) -> dict[str, Any]:
    return next(item for item in config(template)["CacheBehaviors"] if item["PathPattern"] == pattern)


def own(template: Template, reference: str, key: str, pattern: str = PAGE) -> dict[str, Any]:
    """A policy of its own for the behaviour of a pattern, equal to the one that it shared until now."""
    item = behaviour(template, pattern)
    shared = item[reference]["Ref"]
    template["Resources"][f"{shared}Own"] = copy.deepcopy(template["Resources"][shared])
    item[reference] = {"Ref": f"{shared}Own"}
    return template["Resources"][f"{shared}Own"]["Properties"][key]


def cache(template: Template, pattern: str = PAGE) -> dict[str, Any]:
    return own(template, "CachePolicyId", "CachePolicyConfig", pattern)


def key(template: Template, pattern: str = PAGE) -> dict[str, Any]:
    return cache(template, pattern)["ParametersInCacheKeyAndForwardedToOrigin"]


def keyed(template: Template, pattern: str = PAGE) -> list[str]:
    return key(template, pattern)["HeadersConfig"]["Headers"]


def request(template: Template, pattern: str = PAGE) -> dict[str, Any]:
    return own(template, "OriginRequestPolicyId", "OriginRequestPolicyConfig", pattern)


def response(template: Template, pattern: str = PAGE) -> dict[str, Any]:
    return own(template, "ResponseHeadersPolicyId", "ResponseHeadersPolicyConfig", pattern)


def removed(template: Template, pattern: str = PAGE) -> list[dict[str, str]]:
    return response(template, pattern)["RemoveHeadersConfig"]["Items"]


def function(template: Template, event: str = "ViewerRequest") -> dict[str, Any]:
    return template["Resources"][event]["Properties"]


def code(template: Template, more: str) -> None:
    """Append to the Function that answers viewers."""
    function(template, "ViewerResponse")["FunctionCode"] += more


def handler(template: Template) -> dict[str, Any]:
    return template["Resources"]["OriginRequest"]["Properties"]


def version(template: Template) -> dict[str, Any]:
    return next(item for item in template["Resources"].values() if item["Type"] == "AWS::Lambda::Version")


def role(template: Template) -> dict[str, Any]:
    return resources(template, "IAM::Role")[0]["AssumeRolePolicyDocument"]["Statement"][0]["Principal"]


def origin(template: Template, name: str = "shop") -> dict[str, Any]:
    return next(item for item in config(template)["Origins"] if item["Id"] == name)


def group(template: Template) -> dict[str, Any]:
    return config(template)["OriginGroups"]["Items"][0]


def acl(template: Template) -> dict[str, Any]:
    return template["Resources"]["WebAcl"]["Properties"]


def acl_rule(template: Template, name: str = "rate-product-page") -> dict[str, Any]:
    return next(item for item in acl(template)["Rules"] if item["Name"] == name)


def rate(template: Template) -> dict[str, Any]:
    return acl_rule(template)["Statement"]["RateBasedStatement"]


def managed(template: Template, name: str = "AWSManagedRulesCommonRuleSet") -> dict[str, Any]:
    return acl_rule(template, name)["Statement"]["ManagedRuleGroupStatement"]


def ingress(template: Template) -> list[dict[str, Any]]:
    return template["Resources"]["OnlyCloudFront"]["Properties"]["SecurityGroupIngress"]


def copies(template: Template, kind: str, count: int) -> None:
    """As many more of the first resource of a type."""
    name = next(name for name, item in template["Resources"].items() if item["Type"] == f"AWS::{kind}")
    template["Resources"].update({f"More{number}": template["Resources"][name] for number in range(count)})


def more_behaviours(template: Template, count: int) -> None:
    added = [{**behaviour(template), "PathPattern": f"/more/{number}"} for number in range(count)]
    config(template)["CacheBehaviors"].extend(added)


def swapped(template: Template, *, first: str) -> list[dict[str, Any]]:
    """One behaviour before all others."""
    items: list[dict[str, Any]] = config(template)["CacheBehaviors"]
    items.insert(0, items.pop(items.index(behaviour(template, first))))
    return items


def associated(template: Template, kind: str, event: str, pattern: str = PAGE) -> dict[str, Any]:
    return next(item for item in behaviour(template, pattern)[kind] if item["EventType"] == event)


def without(template: Template, kind: str, event: str) -> None:
    behaviour(template)[kind].remove(associated(template, kind, event))


def header(template: Template, name: str, value: object) -> list[dict[str, Any]]:
    headers: list[dict[str, Any]] = origin(template)["OriginCustomHeaders"]
    headers.append({"HeaderName": name, "HeaderValue": value})
    return headers


def without_header(template: Template, name: str) -> list[dict[str, Any]]:
    headers: list[dict[str, Any]] = origin(template)["OriginCustomHeaders"]
    headers[:] = [item for item in headers if item["HeaderName"] != name]
    return headers


def hard_regex(template: Template, expression: str) -> None:
    rate(template)["ScopeDownStatement"]["RegexMatchStatement"]["RegexString"] = expression


PLANTED: dict[str, Planted] = {
    # The distribution.
    "EDGE101": Planted(
        lambda t: copies(t, "CloudFront::CachePolicy", 18), lambda t: copies(t, "CloudFront::CachePolicy", 2)
    ),
    "EDGE102": Planted(lambda t: more_behaviours(t, 75), lambda t: more_behaviours(t, 40)),
    "EDGE103": Planted(
        lambda t: config(t)["CacheTagConfig"].update(HeaderName="Surrogate-Key"),
        lambda t: config(t)["CacheTagConfig"].update(HeaderName="cache-tag"),
    ),
    "EDGE104": Planted(
        lambda t: config(t)["CustomErrorResponses"].pop(),
        lambda t: config(t)["CustomErrorResponses"].append({"ErrorCode": 403, "ErrorCachingMinTTL": 0}),
    ),
    "EDGE105": Planted(
        lambda t: config(t)["CacheBehaviors"].insert(0, {**behaviour(t), "PathPattern": "/??-???/*"}),
        lambda t: config(t)["CacheBehaviors"].insert(0, {**behaviour(t), "PathPattern": "/??-???/other/*"}),
    ),
    "EDGE106": Planted(
        lambda t: without(t, "FunctionAssociations", "viewer-request"),
        lambda t: behaviour(t)["FunctionAssociations"].reverse(),
    ),
    "EDGE107": Planted(
        lambda t: associated(t, "LambdaFunctionAssociations", "origin-request").update(EventType="viewer-request"),
        lambda t: behaviour(t)["LambdaFunctionAssociations"].reverse(),
    ),
    "EDGE116": Planted(
        lambda t: (
            config(t)["CacheBehaviors"].insert(0, config(t)["CacheBehaviors"].pop()),
            behaviour(t, PAGE).update(PathPattern="/??-???/*c*"),
            swapped(t, first="/??-???/*c*"),
        ),
        lambda t: swapped(t, first=GUIDE),
    ),
    "EDGE117": Planted(
        lambda t: behaviour(t).update(PathPattern="/??-???/products/%41*"),
        lambda t: behaviour(t, "/??-???/feeds/*").update(PathPattern="/??-???/feeds/~x'@:+&*"),
    ),
    "EDGE118": Planted(
        lambda t: behaviour(t)["FunctionAssociations"].append(associated(t, "FunctionAssociations", "viewer-response")),
        lambda t: behaviour(t)["FunctionAssociations"].reverse(),
    ),
    "EDGE119": Planted(
        lambda t: config(t).update(ViewerCertificate={"CloudFrontDefaultCertificate": True}),
        lambda t: (
            config(t).pop("Aliases"),
            config(t).update(ViewerCertificate={"CloudFrontDefaultCertificate": True}),
        ),
    ),
    "EDGE120": Planted(
        lambda t: config(t).update(
            Restrictions={"GeoRestriction": {"RestrictionType": "blacklist", "Locations": ["KP"]}}
        ),
        lambda t: config(t).pop("Restrictions"),
    ),
    "EDGE128": Planted(
        lambda t: config(t).update(ContinuousDeploymentPolicyId="policy"),
        lambda t: config(t).update(ContinuousDeploymentPolicyId="policy", HttpVersion="http2"),
    ),
    "EDGE129": Planted(
        lambda t: without(t, "FunctionAssociations", "viewer-response"),
        lambda t: behaviour(t)["FunctionAssociations"].reverse(),
    ),
    "EDGE130": Planted(
        lambda t: without(t, "LambdaFunctionAssociations", "origin-response"),
        lambda t: behaviour(t)["LambdaFunctionAssociations"].reverse(),
    ),
    "EDGE133": Planted(
        lambda t: behaviour(t).update(ViewerProtocolPolicy="allow-all"),
        lambda t: behaviour(t).update(ViewerProtocolPolicy="https-only"),
    ),
    "EDGE134": Planted(
        lambda t: behaviour(t, ACCOUNT).update(AllowedMethods=["GET", "HEAD", "OPTIONS"]),
        lambda t: behaviour(t).update(AllowedMethods=["GET", "HEAD", "OPTIONS"]),
    ),
    "EDGE136": Planted(
        lambda t: config(t).pop("WebACLId"),
        lambda t: config(t).update(WebACLId="arn:aws:wafv2:us-east-1:1:global/webacl/shop/1"),
    ),
    "EDGE241": Planted(
        lambda t: t.update(Description="Edge of a nearshelf shop, compiled from cache policies 0123456789abcdef"),
        lambda t: t.update(Description="the edge of our shop"),
    ),
    "EDGE242": Planted(lambda t: t.pop("Rules"), lambda t: t["Rules"].update(Other={"Assertions": []})),
    # Keys and lifetimes.
    "EDGE108": Planted(
        lambda t: (behaviour(t).pop("CachePolicyId"), behaviour(t).update(ForwardedValues={"QueryString": True})),
        lambda t: behaviour(t).update(SmoothStreaming=False),
    ),
    "EDGE109": Planted(lambda t: keyed(t).remove("nearshelf-generation"), lambda t: keyed(t).append("x-another")),
    "EDGE110": Planted(
        lambda t: key(t).update(CookiesConfig={"CookieBehavior": "all"}),
        lambda t: request(t, ACCOUNT).update(CookiesConfig={"CookieBehavior": "all"}),
    ),
    "EDGE111": Planted(
        lambda t: request(t).update(CookiesConfig={"CookieBehavior": "whitelist", "Cookies": ["session"]}),
        lambda t: request(t, ACCOUNT).update(CookiesConfig={"CookieBehavior": "all"}),
    ),
    "EDGE112": Planted(
        lambda t: request(t).update(HeadersConfig={"HeaderBehavior": "allViewer"}),
        lambda t: request(t, ACCOUNT).update(
            HeadersConfig={
                "HeaderBehavior": "allViewerAndWhitelistCloudFront",
                "Headers": ["cloudfront-viewer-country", "CloudFront-Viewer-City"],
            }
        ),
    ),
    "EDGE113": Planted(lambda t: cache(t).update(MaxTTL=61), lambda t: cache(t, GUIDE).update(MaxTTL=3_600)),
    "EDGE114": Planted(
        lambda t: response(t).pop("CustomHeadersConfig"),
        lambda t: response(t)["CustomHeadersConfig"]["Items"].append(
            {"Header": "X-Frame-Options", "Value": "DENY", "Override": False}
        ),
    ),
    "EDGE115": Planted(
        lambda t: behaviour(t).update(CachePolicyId="658327ea-f89d-4fab-a63d-7e88639e58f6"),
        lambda t: behaviour(t, "/??-???/feeds/*").update(CachePolicyId="4135ea2d-6df8-44a3-9df3-4b5a84be39ad"),
    ),
    "EDGE121": Planted(
        lambda t: keyed(t).extend(f"x-{number}" for number in range(9)),
        lambda t: keyed(t).extend(f"x-{number}" for number in range(8)),
    ),
    "EDGE122": Planted(
        lambda t: request(t)["HeadersConfig"]["Headers"].append("accept-*"),
        lambda t: request(t)["HeadersConfig"]["Headers"].append("accept-language"),
    ),
    "EDGE123": Planted(lambda t: cache(t).update(MinTTL=1, DefaultTTL=1), lambda t: cache(t).update(MaxTTL=1)),
    "EDGE124": Planted(lambda t: cache(t).update(DefaultTTL=30), lambda t: cache(t).update(MaxTTL=30)),
    "EDGE125": Planted(lambda t: cache(t).update(DefaultTTL=30, MaxTTL=20), lambda t: cache(t).update(MaxTTL=0)),
    "EDGE126": Planted(
        lambda t: keyed(t).append("CloudFront-Viewer-Address"),
        lambda t: keyed(t).append("CloudFront-Is-Mobile-Viewer"),
    ),
    "EDGE127": Planted(
        lambda t: keyed(t).append("CloudFront-Viewer-Country"),
        lambda t: keyed(t).append("CloudFront-Forwarded-Proto"),
    ),
    "EDGE131": Planted(
        lambda t: removed(t).append({"Header": "Via"}), lambda t: removed(t).append({"Header": "X-Powered-By"})
    ),
    "EDGE132": Planted(lambda t: removed(t).pop(0), lambda t: removed(t).reverse()),
    "EDGE140": Planted(lambda t: keyed(t).append("Authorization"), lambda t: keyed(t, GUIDE).append("x-another")),
    "EDGE145": Planted(
        lambda t: request(t)["HeadersConfig"]["Headers"].append("Authorization"),
        lambda t: request(t, ACCOUNT).update(
            HeadersConfig={"HeaderBehavior": "allExcept", "Headers": ["Authorization"]}
        ),
    ),
    "EDGE146": Planted(
        lambda t: key(t).update(QueryStringsConfig={"QueryStringBehavior": "none"}),
        lambda t: key(t, GUIDE).update(QueryStringsConfig={"QueryStringBehavior": "none"}),
    ),
    "EDGE147": Planted(
        lambda t: key(t).update(EnableAcceptEncodingBrotli=False),
        lambda t: (
            key(t).update(EnableAcceptEncodingBrotli=False, EnableAcceptEncodingGzip=False),
            behaviour(t).update(Compress=False),
        ),
    ),
    "EDGE148": Planted(lambda t: behaviour(t).update(MinTTL=0), lambda t: behaviour(t).update(SmoothStreaming=False)),
    "EDGE139": Planted(
        lambda t: behaviour(t).update(CachePolicyId="4135ea2d-6df8-44a3-9df3-4b5a84be39ad"),
        lambda t: behaviour(t).update(CachePolicyId=behaviour(t, GUIDE)["CachePolicyId"]),
    ),
    "EDGE149": Planted(lambda t: keyed(t, GUIDE).remove("x-unit-system"), lambda t: keyed(t, GUIDE).reverse()),
    "EDGE150": Planted(
        lambda t: keyed(t, GUIDE).remove("x-unit-system"),
        lambda t: (
            keyed(t, GUIDE).pop(2),
            request(t, GUIDE)["HeadersConfig"]["Headers"].append("X-Unit-System"),
        ),
    ),
    "EDGE156": Planted(
        lambda t: behaviour(t, ACCOUNT).update(CachePolicyId=behaviour(t)["CachePolicyId"]),
        lambda t: behaviour(t, GUIDE).update(CachePolicyId=behaviour(t)["CachePolicyId"]),
    ),
    "EDGE160": Planted(lambda t: behaviour(t).update(Compress=False), lambda t: behaviour(t, GUIDE).pop("Compress")),
    "EDGE155": Planted(
        lambda t: removed(t).extend({"Header": f"x-{number}"} for number in range(5)),
        lambda t: removed(t).extend({"Header": f"x-{number}"} for number in range(4)),
    ),
    "EDGE157": Planted(
        lambda t: response(t).update(
            CorsConfig={"AccessControlAllowOrigins": {"Items": ["*"]}, "AccessControlAllowCredentials": True}
        ),
        lambda t: response(t).update(
            CorsConfig={"AccessControlAllowOrigins": {"Items": ["*"]}, "AccessControlAllowCredentials": False}
        ),
    ),
    "EDGE158": Planted(
        lambda t: removed(t).append({"Header": "Nearshelf-Viewer-Cache-Control"}),
        lambda t: removed(t).append({"Header": "Nearshelf-Refused"}),
    ),
    "EDGE159": Planted(
        lambda t: removed(t, ACCOUNT).append({"Header": "Set-Cookie"}),
        lambda t: removed(t, ACCOUNT).append({"Header": "X-Powered-By"}),
    ),
    # Functions.
    "EDGE141": Planted(
        lambda t: function(t).update(FunctionCode=function(t)["FunctionCode"] + "//" + "x" * 10_240),
        lambda t: function(t, "ViewerResponse").update(
            FunctionCode=function(t, "ViewerResponse")["FunctionCode"] + "//" + "x" * 9_000
        ),
    ),
    "EDGE142": Planted(
        lambda t: function(t)["FunctionConfig"].update(Runtime="cloudfront-js-1.0"),
        lambda t: function(t)["FunctionConfig"].update(Comment="cloudfront-js-1.0"),
    ),
    "EDGE143": Planted(
        lambda t: function(t)["FunctionConfig"].pop("KeyValueStoreAssociations"),
        lambda t: function(t, "ViewerResponse")["FunctionConfig"].update(KeyValueStoreAssociations=[]),
    ),
    "EDGE165": Planted(
        lambda t: code(t, "function copy(a) { return [...a]; }\n"),
        lambda t: code(t, "function all(...rest) { return `${rest}` + 'class A {}'; } // const {a} = b ?? c\n"),
    ),
    "EDGE166": Planted(
        lambda t: code(t, "function ask() { return fetch('https://x.example/'); }\n"),
        lambda t: code(t, "const crypto = require('crypto'); const said = 'setTimeout(eval(1))';\n"),
    ),
    "EDGE169": Planted(
        lambda t: request(t)["HeadersConfig"]["Headers"].remove("cloudfront-viewer-country"),
        lambda t: request(t)["HeadersConfig"]["Headers"].remove("tracestate"),
    ),
    "EDGE170": Planted(
        lambda t: code(t, "function lie(request) { request.headers['cloudfront-viewer-country'] = {value: 'DE'}; }\n"),
        lambda t: code(t, "function ask(request) { return request.headers['host'] === request.headers.via; }\n"),
    ),
    "EDGE171": Planted(
        lambda t: function(t).update(AutoPublish=False),
        lambda t: function(t)["FunctionConfig"].update(Comment="AutoPublish: false"),
    ),
    "EDGE173": Planted(
        lambda t: function(t, "ViewerResponse").update(FunctionCode="function handle(event) { return event; }"),
        lambda t: function(t, "ViewerResponse").update(
            FunctionCode="async function handler(event) { return event.response; }"
        ),
    ),
    "EDGE174": Planted(
        lambda t: code(t, "function away() { return {statusCode: '302'}; }\n"),
        lambda t: code(t, "function away() { return {statusCode: 302, statusDescription: '302'}; }\n"),
    ),
    # Lambda@Edge.
    "EDGE151": Planted(lambda t: handler(t).update(Architectures=["arm64"]), lambda t: handler(t).pop("Architectures")),
    "EDGE152": Planted(
        lambda t: handler(t).update(Environment={"Variables": {"A": "b"}}), lambda t: handler(t).update(Layers=[])
    ),
    "EDGE153": Planted(lambda t: handler(t).update(Timeout=31), lambda t: handler(t).update(Timeout=30)),
    "EDGE154": Planted(
        lambda t: handler(t).update(TracingConfig={"Mode": "Active"}),
        lambda t: handler(t).update(TracingConfig={"Mode": "PassThrough"}),
    ),
    "EDGE175": Planted(
        lambda t: handler(t).update(Runtime="python3.9"), lambda t: handler(t).update(Runtime="python3.14")
    ),
    "EDGE176": Planted(
        lambda t: handler(t).update(EphemeralStorage={"Size": 1_024}),
        lambda t: handler(t).update(EphemeralStorage={"Size": 512}),
    ),
    "EDGE177": Planted(
        lambda t: role(t).update(Service=["lambda.amazonaws.com"]),
        lambda t: role(t)["Service"].append("ec2.amazonaws.com"),
    ),
    "EDGE178": Planted(
        lambda t: associated(t, "LambdaFunctionAssociations", "origin-request").update(
            LambdaFunctionARN={"Fn::GetAtt": ["OriginRequest", "Arn"]}
        ),
        lambda t: associated(t, "LambdaFunctionAssociations", "origin-request").update(
            LambdaFunctionARN="arn:aws:lambda:us-east-1:123456789012:function:shop:7"
        ),
    ),
    "EDGE179": Planted(
        lambda t: version(t).pop("UpdateReplacePolicy"), lambda t: version(t).update(Metadata={"Kept": True})
    ),
    "EDGE180": Planted(
        lambda t: handler(t).update(ReservedConcurrentExecutions=10), lambda t: handler(t).update(Timeout=10)
    ),
    "EDGE181": Planted(lambda t: handler(t).update(MemorySize=1_024), lambda t: handler(t).pop("MemorySize")),
    "EDGE182": Planted(
        lambda t: associated(t, "LambdaFunctionAssociations", "origin-request").update(IncludeBody=True),
        lambda t: associated(t, "LambdaFunctionAssociations", "origin-request").pop("IncludeBody"),
    ),
    # Origins.
    "EDGE161": Planted(
        lambda t: origin(t).update(VpcOriginConfig={"VpcOriginId": "vo_1"}),
        lambda t: config(t)["Origins"].append({"Id": "unused", "VpcOriginConfig": {"VpcOriginId": "vo_1"}}),
    ),
    "EDGE162": Planted(lambda t: without_header(t, "nearshelf-edge-key"), lambda t: header(t, "x-shop", "first")),
    "EDGE163": Planted(
        lambda t: (without_header(t, "nearshelf-edge-key"), header(t, "nearshelf-edge-key", "hunter2")),
        lambda t: (
            without_header(t, "nearshelf-edge-key"),
            header(t, "Nearshelf-Edge-Key", "{{resolve:secretsmanager:another}}"),
        ),
    ),
    "EDGE164": Planted(
        lambda t: origin(t)["CustomOriginConfig"].update(OriginProtocolPolicy="match-viewer"),
        lambda t: origin(t)["CustomOriginConfig"].update(OriginReadTimeout=60),
    ),
    "EDGE185": Planted(
        lambda t: behaviour(t, "/??-???/sign-in").update(TargetOriginId="shop-reads"),
        lambda t: behaviour(t).update(TargetOriginId="shop"),
    ),
    "EDGE186": Planted(
        lambda t: group(t)["Members"]["Items"].__setitem__(1, {"OriginId": "shop"}),
        lambda t: group(t)["Members"]["Items"].__setitem__(1, {"OriginId": "eu-vault"}),
    ),
    "EDGE187": Planted(
        lambda t: group(t)["FailoverCriteria"]["StatusCodes"].update(Items=[500, 502]),
        lambda t: group(t)["FailoverCriteria"]["StatusCodes"].update(Items=[502, 503, 504]),
    ),
    "EDGE188": Planted(
        lambda t: origin(t).update(ConnectionAttempts=3, ConnectionTimeout=10),
        lambda t: origin(t, "eu-vault").update(ConnectionAttempts=2, ConnectionTimeout=10),
    ),
    "EDGE189": Planted(
        lambda t: group(t)["FailoverCriteria"]["StatusCodes"]["Items"].append(404),
        lambda t: group(t)["FailoverCriteria"]["StatusCodes"]["Items"].reverse(),
    ),
    "EDGE190": Planted(lambda t: header(t, "X-Edge-Location", "here"), lambda t: header(t, "X-Location", "here")),
    "EDGE191": Planted(
        lambda t: origin(t).update(OriginShield={"Enabled": True, "OriginShieldRegion": "eu-west-1"}),
        lambda t: origin(t).update(OriginShield={"Enabled": False}),
    ),
    "EDGE192": Planted(
        lambda t: config(t)["Origins"].extend({**origin(t), "Id": f"o{number}"} for number in range(98)),
        lambda t: config(t)["Origins"].extend({**origin(t), "Id": f"o{number}"} for number in range(97)),
    ),
    "EDGE193": Planted(
        lambda t: without_header(t, "nearshelf-origins"),
        lambda t: (
            without_header(t, "nearshelf-origins"),
            header(t, "nearshelf-origins", "eu-vault=e.example; shop-second=t.example; shop=s.example"),
        ),
    ),
    "EDGE195": Planted(
        lambda t: behaviour(t, ACCOUNT).update(TargetOriginId="shop"),
        lambda t: behaviour(t).update(TargetOriginId="shop"),
    ),
    # The web ACL.
    "EDGE201": Planted(lambda t: acl(t).update(Scope="REGIONAL"), lambda t: acl(t).update(Description="REGIONAL once")),
    "EDGE202": Planted(lambda t: rate(t).update(Limit=7_000), lambda t: acl(t)["Rules"].reverse()),
    "EDGE203": Planted(
        lambda t: rate(t).pop("ScopeDownStatement"),
        lambda t: rate(t).update(ScopeDownStatement={"NotStatement": {"Statement": rate(t)["ScopeDownStatement"]}}),
    ),
    "EDGE204": Planted(
        lambda t: rate(t)["ScopeDownStatement"]["RegexMatchStatement"].update(
            TextTransformations=[{"Priority": 0, "Type": "NONE"}]
        ),
        lambda t: rate(t)["ScopeDownStatement"]["RegexMatchStatement"]["TextTransformations"].append(
            {"Priority": 1, "Type": "NONE"}
        ),
    ),
    "EDGE205": Planted(
        lambda t: acl_rule(t).update(Action={"Count": {}}),
        lambda t: acl_rule(t)["Action"]["Block"]["CustomResponse"]["ResponseHeaders"].reverse(),
    ),
    "EDGE206": Planted(
        lambda t: acl(t)["Rules"].extend(
            {**acl_rule(t, "AWSManagedRulesCommonRuleSet"), "Name": f"more-{n}", "Priority": 100 + n} for n in range(6)
        ),
        lambda t: acl(t)["Rules"].append({**acl_rule(t), "Name": "more", "Priority": -1}),
    ),
    "EDGE207": Planted(
        lambda t: acl(t)["Rules"].append(
            {**acl_rule(t, "AWSManagedRulesCommonRuleSet"), "Name": "more", "Priority": -1}
        ),
        lambda t: acl(t)["Rules"].append({**acl_rule(t), "Name": "more", "Priority": -1}),
    ),
    "EDGE208": Planted(
        lambda t: acl_rule(t).update(Priority=acl_rule(t, "rate-price")["Priority"]),
        lambda t: acl_rule(t).update(Priority=-5),
    ),
    "EDGE209": Planted(
        lambda t: acl_rule(t, "AWSManagedRulesSQLiRuleSet").update(Action={"Block": {}}),
        lambda t: acl(t)["Rules"].reverse(),
    ),
    "EDGE210": Planted(
        lambda t: acl_rule(t, "AWSManagedRulesSQLiRuleSet").update(OverrideAction={"Count": {}}),
        lambda t: managed(t, "AWSManagedRulesSQLiRuleSet").update(
            RuleActionOverrides=[{"Name": "SQLi_BODY", "ActionToUse": {"Count": {}}}]
        ),
    ),
    "EDGE211": Planted(
        lambda t: managed(t)["RuleActionOverrides"].append(
            {"Name": "SizeRestrictions_Body", "ActionToUse": {"Count": {}}}
        ),
        lambda t: managed(t)["RuleActionOverrides"].append(
            {"Name": "NoUserAgent_HEADER", "ActionToUse": {"Count": {}}}
        ),
    ),
    "EDGE212": Planted(
        lambda t: acl(t)["Rules"].remove(acl_rule(t, "AWSManagedRulesSQLiRuleSet")),
        lambda t: acl(t)["Rules"].reverse(),
    ),
    "EDGE213": Planted(
        lambda t: managed(t).pop("RuleActionOverrides"), lambda t: managed(t)["RuleActionOverrides"].reverse()
    ),
    "EDGE214": Planted(
        lambda t: acl_rule(t, "AWSManagedRulesBotControlRuleSet").update(Priority=-1),
        lambda t: acl_rule(t, "AWSManagedRulesBotControlRuleSet").update(Priority=1_000),
    ),
    "EDGE215": Planted(
        lambda t: managed(t, "AWSManagedRulesBotControlRuleSet").update(
            ManagedRuleGroupConfigs=[{"AWSManagedRulesBotControlRuleSet": {"InspectionLevel": "TARGETED"}}]
        ),
        lambda t: managed(t, "AWSManagedRulesBotControlRuleSet").pop("ManagedRuleGroupConfigs"),
    ),
    "EDGE216": Planted(lambda t: hard_regex(t, "^/(?!help).*"), lambda t: hard_regex(t, "^/(?:a|b)+?/[^/]*$")),
    "EDGE217": Planted(
        lambda t: rate(t).update(
            AggregateKeyType="FORWARDED_IP",
            ForwardedIPConfig={"HeaderName": "X-Forwarded-For", "FallbackBehavior": "MATCH"},
        ),
        lambda t: rate(t).update(AggregateKeyType="CUSTOM_KEYS", CustomKeys=[{"IP": {}}, {"HTTPMethod": {}}]),
    ),
    "EDGE218": Planted(
        lambda t: acl(t).update(DefaultAction={"Block": {}}),
        lambda t: acl(t).update(DefaultAction={"Allow": {"CustomRequestHandling": {"InsertHeaders": []}}}),
    ),
    "EDGE219": Planted(
        lambda t: acl_rule(t).update(Action={"Block": {}}),
        lambda t: acl_rule(t)["Action"]["Block"]["CustomResponse"]["ResponseHeaders"].append(
            {"Name": "x-why", "Value": "throttle"}
        ),
    ),
    "EDGE220": Planted(
        lambda t: acl_rule(t)["VisibilityConfig"].update(CloudWatchMetricsEnabled=False),
        lambda t: acl_rule(t)["VisibilityConfig"].update(SampledRequestsEnabled=False),
    ),
}
"""In the edge stack."""

GATE_PLANTED: dict[str, Planted] = {
    "EDGE163": Planted(
        lambda t: t["Resources"]["WithTheEdgeKey"]["Properties"]["Conditions"][0]["HttpHeaderConfig"].update(
            Values=["hunter2"]
        ),
        lambda t: t["Resources"]["WithTheEdgeKey"]["Properties"]["Conditions"][0]["HttpHeaderConfig"].update(
            Values=["{{resolve:secretsmanager:a}}", "{{resolve:secretsmanager:b}}"]
        ),
    ),
    "EDGE231": Planted(
        lambda t: ingress(t).append({"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "CidrIp": "0.0.0.0/0"}),
        lambda t: ingress(t)[0].update(Description="0.0.0.0/0 no more"),
    ),
    "EDGE232": Planted(
        lambda t: ingress(t).append({**ingress(t)[0], "SourcePrefixListId": "pl-2"}),
        lambda t: t["Resources"].update(Another=copy.deepcopy(t["Resources"]["OnlyCloudFront"])),
    ),
    "EDGE233": Planted(
        lambda t: t["Resources"]["WithTheEdgeKey"]["Properties"].update(
            Conditions=[{"Field": "path-pattern", "PathPatternConfig": {"Values": ["/api/*"]}}]
        ),
        lambda t: t["Resources"]["WithTheEdgeKey"]["Properties"]["Conditions"].append(
            {"Field": "path-pattern", "PathPatternConfig": {"Values": ["/api/*"]}}
        ),
    ),
    "EDGE234": Planted(
        lambda t: t["Resources"].pop("WithoutTheEdgeKey"),
        lambda t: t["Resources"]["WithoutTheEdgeKey"]["Properties"]["Actions"][0]["FixedResponseConfig"].update(
            StatusCode="404"
        ),
    ),
    "EDGE236": Planted(
        lambda t: ingress(t)[0].update(FromPort=80),
        lambda t: ingress(t)[0].update(Description="port 80 is closed"),
    ),
}
"""In the gate of an origin."""
