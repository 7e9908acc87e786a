"""The mistakes with CloudFront that would deploy and be wrong, or be refused late: what no schema knows.

Works on the template as a dictionary, so that it finds what a hand has changed as well as what the compiler got wrong.
Every finding has a code that stays, the place, the reason with its page in AWS's guide, and the fix.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cache_policies.fields import EDGE_KEY_FIELD, VERSION_FIELD
from edge.core.policy import PolicySet
from edge.lambda_edge.origin_request import GENERATION_FIELD
from infra.aws.functions import AUTHORITY_FIELD, MAX_FUNCTION_BYTES
from infra.aws.templates.edge import (
    CACHING_DISABLED,
    ERROR_STATUSES,
    PRICE_MAX_TTL_S,
    TAG_FIELD,
    path_pattern,
    takes_in,
)

GUIDE = "docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide"

MAX_BEHAVIOURS = 75
MAX_POLICIES_OF_A_KIND = 20
MAX_NAMES = 10
"""Headers, cookies or query strings that one policy may list."""
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
NOT_REMOVABLE = frozenset({"connection", "content-encoding", "content-length", "via", "warning", "x-cache"})


@dataclass(frozen=True, slots=True)
class Finding:
    code: str
    where: str
    """Logical id, and behaviour where there is one."""
    what: str
    fix: str
    source: str
    """Page of AWS's guide."""

    def __str__(self) -> str:
        return f"{self.where}: {self.code} {self.what}; {self.fix} ({GUIDE}/{self.source}.html)"


def lint(template: Mapping[str, Any], policies: PolicySet) -> list[Finding]:
    """Every finding in a compiled edge template."""
    return list(_Lint(template, policies).findings())


class _Lint:
    def __init__(self, template: Mapping[str, Any], policies: PolicySet) -> None:
        self.resources: Mapping[str, Any] = template["Resources"]
        self.policies = policies

    def findings(self) -> Iterator[Finding]:
        for logical_id, resource in self.resources.items():
            kind, properties = resource["Type"], resource.get("Properties", {})
            match kind:
                case "AWS::CloudFront::CachePolicy":
                    yield from _cache_policy(logical_id, properties["CachePolicyConfig"])
                case "AWS::CloudFront::OriginRequestPolicy":
                    yield from _names(logical_id, properties["OriginRequestPolicyConfig"])
                case "AWS::CloudFront::ResponseHeadersPolicy":
                    yield from _response_headers(logical_id, properties["ResponseHeadersPolicyConfig"])
                case "AWS::CloudFront::Function":
                    yield from _function(logical_id, properties)
                case "AWS::Lambda::Function":
                    yield from _lambda(logical_id, properties)
                case "AWS::CloudFront::Distribution":
                    yield from self._distribution(logical_id, properties["DistributionConfig"])
        for kind in ("CachePolicy", "OriginRequestPolicy", "ResponseHeadersPolicy"):
            used = sum(resource["Type"] == f"AWS::CloudFront::{kind}" for resource in self.resources.values())
            if used > MAX_POLICIES_OF_A_KIND:
                yield Finding(
                    "EDGE101",
                    kind,
                    f"{used} policies, an account has {MAX_POLICIES_OF_A_KIND}",
                    "make routes alike so that they share one",
                    "cloudfront-limits",
                )

    def _distribution(self, logical_id: str, config: Mapping[str, Any]) -> Iterator[Finding]:
        behaviours = [*config.get("CacheBehaviors", []), {**config["DefaultCacheBehavior"], "PathPattern": "*"}]
        if len(behaviours) > MAX_BEHAVIOURS:
            yield Finding(
                "EDGE102",
                logical_id,
                f"{len(behaviours)} behaviours, a distribution has {MAX_BEHAVIOURS}",
                "merge routes",
                "cloudfront-limits",
            )
        if config.get("CacheTagConfig", {}).get("HeaderName", "").lower() != TAG_FIELD.lower():
            yield Finding(
                "EDGE103",
                logical_id,
                f"CacheTagConfig does not name {TAG_FIELD}: invalidations by tag are accepted and remove nothing",
                f"set HeaderName to {TAG_FIELD}",
                "invalidation-by-tags",
            )
        kept = {
            item["ErrorCode"]: item.get("ErrorCachingMinTTL", 10) for item in config.get("CustomErrorResponses", [])
        }
        for status in ERROR_STATUSES:
            if kept.get(status, 10) > 0:
                yield Finding(
                    "EDGE104",
                    logical_id,
                    f"an answer of {status} is kept for {kept.get(status, 10)} s whatever the origin says",
                    "set ErrorCachingMinTTL of this status to 0",
                    "HTTPStatusCodes",
                )
        for origin in config["Origins"]:
            yield from _origin(f"{logical_id} origin {origin['Id']}", origin, behaviours)
        for number, behaviour in enumerate(behaviours):
            where = f"{logical_id} behaviour {behaviour['PathPattern']}"
            for earlier in behaviours[:number]:
                if takes_in(earlier["PathPattern"], behaviour["PathPattern"]):
                    yield Finding(
                        "EDGE105",
                        where,
                        f"never chosen: {earlier['PathPattern']} stands before it and takes in every path of it",
                        "put the narrower pattern first",
                        "DownloadDistValuesCacheBehavior",
                    )
                    break
            yield from self._behaviour(where, behaviour)

    def _behaviour(self, where: str, behaviour: Mapping[str, Any]) -> Iterator[Finding]:
        functions = behaviour.get("FunctionAssociations", [])
        lambdas = behaviour.get("LambdaFunctionAssociations", [])
        if not any(item["EventType"] == "viewer-request" for item in functions):
            yield Finding(
                "EDGE106",
                where,
                "no viewer-request Function: path and query reach the key as the viewer spelled them",
                "associate ViewerRequest",
                "edge-functions-choosing",
            )
        if functions and any(item["EventType"].startswith("viewer-") for item in lambdas):
            yield Finding(
                "EDGE107",
                where,
                "a Function and a Lambda function on viewer events are refused together",
                "keep the Function, move the Lambda function to an origin event",
                "edge-function-restrictions-all",
            )
        if behaviour.get("CachePolicyId") == CACHING_DISABLED:
            return
        if "ForwardedValues" in behaviour or "CachePolicyId" not in behaviour:
            yield Finding(
                "EDGE108",
                where,
                "the key is not made by a cache policy",
                "use CachePolicyId",
                "understanding-the-cache-key",
            )
            return
        policy = self._config(behaviour["CachePolicyId"], "CachePolicyConfig")
        if policy is None:
            yield Finding(
                "EDGE115",
                where,
                f"the cache policy {behaviour['CachePolicyId']} is not in this template, so its key is not known",
                "refer to a cache policy of the template",
                "using-managed-cache-policies",
            )
            return
        key = policy["ParametersInCacheKeyAndForwardedToOrigin"]
        headers = {name.lower() for name in key["HeadersConfig"].get("Headers", [])}
        for name, reason in (
            (GENERATION_FIELD, "a raised bucket does not move the key"),
            (AUTHORITY_FIELD, "two names of the shop share an entry"),
        ):
            if name not in headers:
                yield Finding(
                    "EDGE109",
                    where,
                    f"stored without {name} in its key: {reason}",
                    f"add {name} to the cache policy",
                    "understanding-the-cache-key",
                )
        if key["CookiesConfig"]["CookieBehavior"] != "none":
            yield Finding(
                "EDGE110",
                where,
                "stored with cookies in its key: Set-Cookie is stored with it and replayed on every hit",
                "forward no cookies on a stored route",
                "Cookies",
            )
        request_policy = self._config(behaviour.get("OriginRequestPolicyId"), "OriginRequestPolicyConfig")
        if request_policy and request_policy["CookiesConfig"]["CookieBehavior"] != "none":
            yield Finding(
                "EDGE111",
                where,
                "cookies reach the origin on a stored route and are not in its key: one visitor's page serves all",
                "forward no cookies on a stored route",
                "Cookies",
            )
        if request_policy and request_policy["HeadersConfig"]["HeaderBehavior"] not in {"none", "whitelist"}:
            yield Finding(
                "EDGE112",
                where,
                "every header of the viewer reaches the origin on a stored route and is not in its key",
                "list the headers that the origin needs",
                "controlling-origin-requests",
            )
        response_policy = self._config(behaviour.get("ResponseHeadersPolicyId"), "ResponseHeadersPolicyConfig")
        says_no_cache = any(
            item["Header"].lower() == "cache-control" and item["Value"].startswith("no-cache") and item["Override"]
            for item in (response_policy or {}).get("CustomHeadersConfig", {}).get("Items", [])
        )
        if says_no_cache and policy["MaxTTL"] > PRICE_MAX_TTL_S:
            yield Finding(
                "EDGE113",
                where,
                f"what shows a price is kept for up to {policy['MaxTTL']} s",
                f"set MaxTTL to {PRICE_MAX_TTL_S} at most",
                "Expiration",
            )
        if not says_no_cache and any(
            policy.shows_price and path_pattern(policy) == behaviour["PathPattern"] for policy in self.policies.policies
        ):
            yield Finding(
                "EDGE114",
                where,
                "a browser may keep what shows a price: Cache-Control does not leave as no-cache",
                "add Cache-Control: no-cache, with Override, to the response headers policy",
                "understanding-response-headers-policies",
            )

    def _config(self, reference: object, key: str) -> Mapping[str, Any] | None:
        """The configuration of a policy in this template; None for a managed one, or none."""
        if not isinstance(reference, Mapping) or reference.get("Ref") not in self.resources:
            return None
        config: Mapping[str, Any] = self.resources[reference["Ref"]]["Properties"][key]
        return config


def _names(logical_id: str, config: Mapping[str, Any]) -> Iterator[Finding]:
    for part, field in (
        ("HeadersConfig", "Headers"),
        ("CookiesConfig", "Cookies"),
        ("QueryStringsConfig", "QueryStrings"),
    ):
        listed = config.get(part, {}).get(field, [])
        if len(listed) > MAX_NAMES:
            yield Finding(
                "EDGE121",
                logical_id,
                f"{len(listed)} {field}, a policy lists {MAX_NAMES}",
                "list fewer",
                "cloudfront-limits",
            )
        if any("*" in name for name in listed):
            yield Finding(
                "EDGE122",
                logical_id,
                f"* in {field} is an ordinary character, no wildcard",
                "write the names out",
                "understanding-the-cache-key",
            )


def _cache_policy(logical_id: str, config: Mapping[str, Any]) -> Iterator[Finding]:
    lowest, default, highest = config["MinTTL"], config["DefaultTTL"], config["MaxTTL"]
    if lowest > 0:
        yield Finding(
            "EDGE123",
            logical_id,
            f"MinTTL {lowest}: no-store, no-cache and private are kept for so long",
            "set MinTTL to 0",
            "Expiration",
        )
    if default > 0:
        yield Finding(
            "EDGE124",
            logical_id,
            f"DefaultTTL {default}: an answer that does not say how long it lives is stored",
            "set DefaultTTL to 0",
            "Expiration",
        )
    if not lowest <= default <= highest:
        yield Finding(
            "EDGE125",
            logical_id,
            f"MinTTL {lowest}, DefaultTTL {default}, MaxTTL {highest} are not in this order",
            "order them",
            "Expiration",
        )
    key = config["ParametersInCacheKeyAndForwardedToOrigin"]
    for name in key["HeadersConfig"].get("Headers", []):
        if name.lower() in NOT_IN_A_CACHE_KEY:
            yield Finding(
                "EDGE126",
                logical_id,
                f"{name} cannot be in a cache policy",
                "use the compression flags, or an origin request policy",
                "adding-cloudfront-headers",
            )
        if name.lower() in {"cookie", "user-agent", "cloudfront-viewer-country"}:
            yield Finding(
                "EDGE127",
                logical_id,
                f"{name} in the key makes an entry for each of its values",
                "let the Function choose one of a few markets",
                "header-caching",
            )
    yield from _names(logical_id, key)


def _response_headers(logical_id: str, config: Mapping[str, Any]) -> Iterator[Finding]:
    removed = {item["Header"].lower() for item in config.get("RemoveHeadersConfig", {}).get("Items", [])}
    for name in sorted(removed & NOT_REMOVABLE):
        yield Finding(
            "EDGE131",
            logical_id,
            f"{name} cannot be removed",
            "leave it",
            "understanding-response-headers-policies",
        )
    for name in (TAG_FIELD, VERSION_FIELD):
        if name.lower() not in removed:
            yield Finding(
                "EDGE132",
                logical_id,
                f"{name} reaches viewers",
                "remove it",
                "understanding-response-headers-policies",
            )


def _function(logical_id: str, properties: Mapping[str, Any]) -> Iterator[Finding]:
    size = len(properties["FunctionCode"].encode())
    if size > MAX_FUNCTION_BYTES:
        yield Finding(
            "EDGE141",
            logical_id,
            f"{size} bytes, a Function has {MAX_FUNCTION_BYTES}",
            "use fewer routes or markets",
            "cloudfront-function-restrictions",
        )
    if properties["FunctionConfig"]["Runtime"] != "cloudfront-js-2.0":
        yield Finding(
            "EDGE142",
            logical_id,
            "the runtime has no KeyValueStore and no async",
            "use cloudfront-js-2.0",
            "functions-javascript-runtime-20",
        )
    if "cf.kvs(" in properties["FunctionCode"] and not properties["FunctionConfig"].get("KeyValueStoreAssociations"):
        yield Finding(
            "EDGE143",
            logical_id,
            "reads a KeyValueStore and is associated with none: no generation, so nothing is ever reused",
            "associate the store",
            "kvs-with-functions-associate",
        )


def _lambda(logical_id: str, properties: Mapping[str, Any]) -> Iterator[Finding]:
    source = "lambda-at-edge-function-restrictions"
    if properties.get("Architectures", ["x86_64"]) != ["x86_64"]:
        yield Finding("EDGE151", logical_id, "Lambda@Edge runs on x86_64 only", "use x86_64", source)
    for name in ("Environment", "VpcConfig", "Layers", "DeadLetterConfig", "KmsKeyArn", "ImageConfig"):
        if properties.get(name):
            yield Finding("EDGE152", logical_id, f"Lambda@Edge refuses {name}", f"remove {name}", source)
    if properties.get("Timeout", 3) > 30:
        yield Finding("EDGE153", logical_id, f"Timeout {properties['Timeout']} s, at most 30", "use 30 or less", source)
    if properties.get("TracingConfig", {}).get("Mode") == "Active":
        yield Finding("EDGE154", logical_id, "Lambda@Edge refuses X-Ray", "remove TracingConfig", source)


def _origin(where: str, origin: Mapping[str, Any], behaviours: list[dict[str, Any]]) -> Iterator[Finding]:
    uses_lambda = any(
        behaviour["TargetOriginId"] == origin["Id"] and behaviour.get("LambdaFunctionAssociations")
        for behaviour in behaviours
    )
    if "VpcOriginConfig" in origin and uses_lambda:
        yield Finding(
            "EDGE161",
            where,
            "a VPC origin takes no origin-request or origin-response Lambda@Edge",
            "use a public origin that is closed to all but CloudFront",
            "private-content-vpc-origins",
        )
    headers = {header["HeaderName"].lower(): header["HeaderValue"] for header in origin.get("OriginCustomHeaders", [])}
    key = headers.get(EDGE_KEY_FIELD)
    if key is None:
        yield Finding(
            "EDGE162",
            where,
            f"no {EDGE_KEY_FIELD}: the origin ignores Min-Catalog-Version, and a lagging replica may answer",
            "send the edge key as a custom header",
            "add-origin-custom-headers",
        )
    elif "{{resolve:" not in str(key):
        yield Finding(
            "EDGE163",
            where,
            "the edge key stands in the template",
            "refer to a secret by {{resolve:secretsmanager:...}}",
            "add-origin-custom-headers",
        )
    protocol = origin.get("CustomOriginConfig", {}).get("OriginProtocolPolicy")
    if protocol is not None and protocol != "https-only":
        yield Finding(
            "EDGE164",
            where,
            f"{protocol}: the edge key may travel in clear",
            "use https-only",
            "DownloadDistValuesOrigin",
        )
