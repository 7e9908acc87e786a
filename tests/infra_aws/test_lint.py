"""Our lint finds each planted mistake, names its place, and finds nothing in what the compiler makes."""

from __future__ import annotations

import copy
import json

import pytest

from edge.policy_files import load_policies
from infra.aws.compile import TEMPLATE, compile_policies
from infra.aws.lint import lint

POLICIES = load_policies()
CLEAN = json.loads(compile_policies(POLICIES).files[TEMPLATE])
PRICE = "/api/v1/??-???/prices/*"


def config(template):
    return template["Resources"]["Distribution"]["Properties"]["DistributionConfig"]


def behaviour(template, pattern=PRICE):
    return next(item for item in config(template)["CacheBehaviors"] if item["PathPattern"] == pattern)


def properties(template, kind):
    return next(item["Properties"] for item in template["Resources"].values() if item["Type"] == f"AWS::{kind}")


def of_behaviour(template, reference, key):
    """The configuration of a policy that the price behaviour refers to."""
    return template["Resources"][behaviour(template)[reference]["Ref"]]["Properties"][key]


def price_cache_policy(template):
    return of_behaviour(template, "CachePolicyId", "CachePolicyConfig")


def price_key(template):
    return price_cache_policy(template)["ParametersInCacheKeyAndForwardedToOrigin"]


def price_request_policy(template):
    return of_behaviour(template, "OriginRequestPolicyId", "OriginRequestPolicyConfig")


def price_response_policy(template):
    return of_behaviour(template, "ResponseHeadersPolicyId", "ResponseHeadersPolicyConfig")


def origin(template):
    return config(template)["Origins"][0]


def many_policies(template):
    one = next(item for item in template["Resources"].values() if item["Type"] == "AWS::CloudFront::CachePolicy")
    template["Resources"].update({f"More{n}": copy.deepcopy(one) for n in range(20)})


PLANTED = {
    "EDGE101": many_policies,
    "EDGE102": lambda t: config(t)["CacheBehaviors"].extend(
        {**behaviour(t), "PathPattern": f"/{n:03}"} for n in range(80)
    ),
    "EDGE103": lambda t: config(t).pop("CacheTagConfig"),
    "EDGE104": lambda t: config(t)["CustomErrorResponses"].pop(),
    "EDGE105": lambda t: config(t)["CacheBehaviors"].insert(0, {**behaviour(t), "PathPattern": "/api/*"}),
    "EDGE106": lambda t: behaviour(t).update(FunctionAssociations=[]),
    "EDGE107": lambda t: behaviour(t)["LambdaFunctionAssociations"][0].update(EventType="viewer-response"),
    "EDGE108": lambda t: behaviour(t).pop("CachePolicyId"),
    "EDGE109": lambda t: price_key(t)["HeadersConfig"]["Headers"].remove("nearshelf-generation"),
    "EDGE110": lambda t: price_key(t).update(CookiesConfig={"CookieBehavior": "all"}),
    "EDGE111": lambda t: price_request_policy(t).update(CookiesConfig={"CookieBehavior": "all"}),
    "EDGE112": lambda t: price_request_policy(t).update(HeadersConfig={"HeaderBehavior": "allViewer"}),
    "EDGE113": lambda t: price_cache_policy(t).update(MaxTTL=3600),
    "EDGE114": lambda t: price_response_policy(t).pop("CustomHeadersConfig"),
    "EDGE115": lambda t: behaviour(t).update(CachePolicyId="658327ea-f89d-4fab-a63d-7e88639e58f6"),
    "EDGE121": lambda t: price_key(t)["HeadersConfig"]["Headers"].extend(f"x-{n}" for n in range(9)),
    "EDGE122": lambda t: price_request_policy(t)["HeadersConfig"]["Headers"].append("accept-*"),
    "EDGE123": lambda t: price_cache_policy(t).update(MinTTL=1, DefaultTTL=1),
    "EDGE124": lambda t: price_cache_policy(t).update(DefaultTTL=30),
    "EDGE125": lambda t: price_cache_policy(t).update(DefaultTTL=30, MaxTTL=20),
    "EDGE126": lambda t: price_key(t)["HeadersConfig"]["Headers"].append("Accept-Encoding"),
    "EDGE127": lambda t: price_key(t)["HeadersConfig"]["Headers"].append("CloudFront-Viewer-Country"),
    "EDGE131": lambda t: price_response_policy(t)["RemoveHeadersConfig"]["Items"].append({"Header": "Via"}),
    "EDGE132": lambda t: price_response_policy(t)["RemoveHeadersConfig"]["Items"].pop(0),
    "EDGE141": lambda t: properties(t, "CloudFront::Function").update(FunctionCode="//" + "x" * 10_240),
    "EDGE142": lambda t: properties(t, "CloudFront::Function")["FunctionConfig"].update(Runtime="cloudfront-js-1.0"),
    "EDGE143": lambda t: properties(t, "CloudFront::Function")["FunctionConfig"].pop("KeyValueStoreAssociations"),
    "EDGE151": lambda t: properties(t, "Lambda::Function").update(Architectures=["arm64"]),
    "EDGE152": lambda t: properties(t, "Lambda::Function").update(Environment={"Variables": {"A": "b"}}),
    "EDGE153": lambda t: properties(t, "Lambda::Function").update(Timeout=60),
    "EDGE154": lambda t: properties(t, "Lambda::Function").update(TracingConfig={"Mode": "Active"}),
    "EDGE161": lambda t: origin(t).update(VpcOriginConfig={"VpcOriginId": "vo_1"}),
    "EDGE162": lambda t: origin(t).pop("OriginCustomHeaders"),
    "EDGE163": lambda t: origin(t)["OriginCustomHeaders"][0].update(HeaderValue="hunter2"),
    "EDGE164": lambda t: origin(t)["CustomOriginConfig"].update(OriginProtocolPolicy="match-viewer"),
}


def test_nothing_in_what_the_compiler_makes():
    assert lint(CLEAN, POLICIES) == []


@pytest.mark.parametrize("code", PLANTED)
def test_a_planted_mistake_is_found(code):
    template = copy.deepcopy(CLEAN)
    PLANTED[code](template)
    found = [finding for finding in lint(template, POLICIES) if finding.code == code]
    assert found
    assert all(finding.where and finding.what and finding.fix and finding.source for finding in found)
    assert code in str(found[0])
    assert "docs.aws.amazon.com" in str(found[0])
