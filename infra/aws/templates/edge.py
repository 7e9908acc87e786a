"""The edge stack: one distribution with everything that it refers to. Must be deployed in us-east-1."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from cache_policies.fields import EDGE_KEY_FIELD
from edge.core.policy import CachePolicy, PolicySet, parse_pattern
from edge.core.request_rules import FORWARDED_ALWAYS
from edge.lambda_edge.origin_request import COUNTRY_FIELD, GENERATION_FIELD
from infra.aws.functions import AUTHORITY_FIELD
from infra.aws.package_lambda import HANDLER, Package

Resource = dict[str, Any]

PRICE_MAX_TTL_S = 60
"""Longest that CloudFront keeps what shows a price: the bound on everything that the generation in the key may miss."""
MAX_TTL_S = 31_536_000
"""A year; longer is not needed and not documented."""
CACHING_DISABLED = "4135ea2d-6df8-44a3-9df3-4b5a84be39ad"
"""AWS's managed cache policy that stores nothing."""
TAG_FIELD = "Cache-Tag"
BETWEEN_EDGE_AND_ORIGIN = ("Cache-Tag", "Catalog-Version", "CDN-Cache-Control", "Nearshelf-Expires-At")
"""Response fields that no viewer sees."""
ERROR_STATUSES = (404, 414, 500, 501, 502, 503, 504)
"""Statuses that CloudFront keeps for 10 s unless told otherwise."""
READ_METHODS = ["GET", "HEAD"]
ALL_METHODS = ["GET", "HEAD", "OPTIONS", "PUT", "PATCH", "POST", "DELETE"]
"""CloudFront offers these two sets (and one with OPTIONS); anything narrower is the Function's to refuse."""
RUNTIME = "python3.13"


class Behaviour(NamedTuple):
    """A policy's place in the distribution."""

    policy: CachePolicy
    pattern: str
    """CloudFront's path pattern: `*` for any run of characters, `?` for one."""


def path_pattern(policy: CachePolicy) -> str:
    """The narrowest CloudFront pattern that takes in everything that the policy's pattern matches.

    It may take in more, because `*` runs across slashes and `??-???` is any market's shape: the Function and the
    handler match exactly, and what is not stored has a key of its own.
    """
    segments = []
    for part in parse_pattern(policy.path):
        if not part.name:
            segments.append(part.literal)
        else:
            segments.append("??-???" if part.name == "market" else "*")
    return "/" + "/".join(segments)


def ordered_behaviours(policies: PolicySet) -> list[Behaviour]:
    """One behaviour for each policy but the last, which is the default: in policy order, the narrower ones first.

    Two policies whose patterns become the same are one behaviour here, under the first of them.
    """
    ordered: list[Behaviour] = []
    for policy in policies.policies[:-1]:
        new = Behaviour(policy, path_pattern(policy))
        if any(known.pattern == new.pattern for known in ordered):
            continue
        place = next((n for n, known in enumerate(ordered) if takes_in(known.pattern, new.pattern)), len(ordered))
        ordered.insert(place, new)
    return ordered


def takes_in(wide: str, narrow: str) -> bool:
    """Whether every path that pattern `narrow` matches is matched by `wide`."""
    # reached[j]: some path for what was read of `narrow` brings `wide` to position j.
    reached = _with_stars({0}, wide)
    for character in narrow:
        if character == "*":
            # An unknown run must be swallowed by a star that is already reached.
            reached = {j for j in reached if j < len(wide) and wide[j] == "*"}
        else:
            moved = set()
            for j in reached:
                if j == len(wide):
                    continue
                if wide[j] == "*":
                    moved.add(j)
                elif wide[j] == "?" or wide[j] == character:
                    moved.add(j + 1)
            reached = moved
        reached = _with_stars(reached, wide)
    return len(wide) in reached


def _with_stars(positions: set[int], pattern: str) -> set[int]:
    """The positions, and those behind stars that match nothing."""
    found = set(positions)
    for start in positions:
        for j in range(start, len(pattern)):
            if pattern[j] != "*":
                break
            found.add(j + 1)
    return found


def edge_template(
    policies: PolicySet, function_source: str, package: Package, hosts: Sequence[str] = ()
) -> dict[str, Any]:
    """The whole stack. `hosts`: names of the shop beside the distribution's own; they need a certificate."""
    shared = _Shared()
    behaviours = [_behaviour(item, shared) for item in ordered_behaviours(policies)]
    default = _behaviour(Behaviour(policies.policies[-1], "*"), shared)
    del default["PathPattern"]
    version_id = f"OriginRequestVersion{package.digest[:16]}"
    template = {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": f"Edge of a nearshelf shop, compiled from cache policies {policies.digest}",
        "Parameters": _parameters(bool(hosts)),
        "Rules": {
            "Region": {
                "Assertions": [
                    {
                        "Assert": {"Fn::Equals": [{"Ref": "AWS::Region"}, "us-east-1"]},
                        "AssertDescription": "CloudFront takes Lambda functions from us-east-1 only: deploy there.",
                    }
                ]
            }
        },
        "Resources": {
            "Distribution": _distribution(default, behaviours, hosts),
            "Generations": {
                "Type": "AWS::CloudFront::KeyValueStore",
                "Properties": {
                    "Name": _named("generations"),
                    "Comment": "Bucket -> position: what raises a bucket moves every key under it",
                },
            },
            "ViewerRequest": {
                "Type": "AWS::CloudFront::Function",
                "Properties": {
                    "Name": _named("viewer-request"),
                    "AutoPublish": True,
                    "FunctionCode": function_source,
                    "FunctionConfig": {
                        "Comment": f"Cache policies {policies.digest}",
                        "Runtime": "cloudfront-js-2.0",
                        "KeyValueStoreAssociations": [{"KeyValueStoreARN": {"Fn::GetAtt": ["Generations", "Arn"]}}],
                    },
                },
            },
            "OriginRequest": {
                "Type": "AWS::Lambda::Function",
                "Properties": {
                    "Description": f"Origin-request handler, cache policies {policies.digest}",
                    "Runtime": RUNTIME,
                    "Handler": HANDLER,
                    "Architectures": ["x86_64"],
                    "MemorySize": 128,
                    "Timeout": 5,
                    "Role": {"Fn::GetAtt": ["OriginRequestRole", "Arn"]},
                    "Code": {"S3Bucket": {"Ref": "CodeBucket"}, "S3Key": {"Ref": "CodeKey"}},
                },
            },
            version_id: {
                "Type": "AWS::Lambda::Version",
                # Replicas of an old version live on for hours after the distribution has left it.
                "DeletionPolicy": "Retain",
                "UpdateReplacePolicy": "Retain",
                "Properties": {
                    "FunctionName": {"Ref": "OriginRequest"},
                    "CodeSha256": base64.b64encode(bytes.fromhex(package.digest)).decode(),
                },
            },
            "OriginRequestRole": {
                "Type": "AWS::IAM::Role",
                "Properties": {
                    "AssumeRolePolicyDocument": {
                        "Version": "2012-10-17",
                        "Statement": [
                            {
                                "Effect": "Allow",
                                "Action": "sts:AssumeRole",
                                "Principal": {"Service": ["lambda.amazonaws.com", "edgelambda.amazonaws.com"]},
                            }
                        ],
                    },
                    "ManagedPolicyArns": [
                        {"Fn::Sub": "arn:${AWS::Partition}:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"}
                    ],
                },
            },
            **shared.resources,
        },
        "Outputs": {
            "DistributionId": {"Value": {"Ref": "Distribution"}},
            "DomainName": {"Value": {"Fn::GetAtt": ["Distribution", "DomainName"]}},
            "GenerationsArn": {
                "Description": "Write bucket `*` here before the first viewer comes: without it nothing is reused.",
                "Value": {"Fn::GetAtt": ["Generations", "Arn"]},
            },
        },
    }
    lambda_arn = {"Ref": version_id}
    config = template["Resources"]["Distribution"]["Properties"]["DistributionConfig"]  # type: ignore[index]  # JSON of our own making
    for behaviour in (config["DefaultCacheBehavior"], *config["CacheBehaviors"]):
        behaviour["LambdaFunctionAssociations"] = [
            {"EventType": "origin-request", "IncludeBody": False, "LambdaFunctionARN": lambda_arn}
        ]
    return template


def _parameters(with_certificate: bool) -> dict[str, Any]:
    parameters: dict[str, Any] = {
        "OriginDomainName": {
            "Type": "String",
            "Description": "Public name of the origin (not a VPC origin: it takes no origin-side Lambda@Edge).",
        },
        "EdgeKeySecret": {
            "Type": "String",
            "Description": "Name or ARN of the secret in Secrets Manager that holds the edge key.",
        },
        "CodeBucket": {"Type": "String", "Description": "Bucket in us-east-1 that holds the Lambda package."},
        "CodeKey": {"Type": "String", "Description": "Key of lambda/origin-request.zip in that bucket."},
    }
    if with_certificate:
        parameters["CertificateArn"] = {
            "Type": "String",
            "Description": "ARN of the certificate (in us-east-1) for the names of the shop.",
        }
    return parameters


def _distribution(default: Resource, behaviours: list[Resource], hosts: Sequence[str]) -> Resource:
    config: Resource = {
        "Enabled": True,
        "Comment": {"Ref": "AWS::StackName"},
        "HttpVersion": "http2and3",
        "IPV6Enabled": True,
        "PriceClass": "PriceClass_All",
        "Origins": [
            {
                "Id": "origin",
                "DomainName": {"Ref": "OriginDomainName"},
                "CustomOriginConfig": {
                    "OriginProtocolPolicy": "https-only",
                    "OriginSSLProtocols": ["TLSv1.2"],
                    "OriginReadTimeout": 30,
                    "OriginKeepaliveTimeout": 60,
                },
                "OriginCustomHeaders": [
                    {
                        "HeaderName": EDGE_KEY_FIELD,
                        "HeaderValue": {"Fn::Sub": "{{resolve:secretsmanager:${EdgeKeySecret}}}"},
                    }
                ],
            }
        ],
        "DefaultCacheBehavior": default,
        "CacheBehaviors": behaviours,
        "CacheTagConfig": {"HeaderName": TAG_FIELD},
        # Nothing is kept because it is an error: only because the origin said for how long.
        "CustomErrorResponses": [{"ErrorCode": status, "ErrorCachingMinTTL": 0} for status in ERROR_STATUSES],
        "ViewerCertificate": {"CloudFrontDefaultCertificate": True},
    }
    if hosts:
        config["Aliases"] = list(hosts)
        config["ViewerCertificate"] = {
            "AcmCertificateArn": {"Ref": "CertificateArn"},
            "SslSupportMethod": "sni-only",
            "MinimumProtocolVersion": "TLSv1.2_2021",
        }
    return {"Type": "AWS::CloudFront::Distribution", "Properties": {"DistributionConfig": config}}


class _Shared:
    """Policies of CloudFront, each made once for everything that says the same."""

    def __init__(self) -> None:
        self.resources: dict[str, Resource] = {}

    def policy(self, kind: str, config_key: str, config: Resource) -> Resource:
        """A reference to the policy of type `kind` with this content."""
        digest = hashlib.sha256(json.dumps([kind, config], sort_keys=True).encode()).hexdigest()[:8]
        logical_id = f"{kind}{digest}"
        self.resources.setdefault(
            logical_id,
            {
                "Type": f"AWS::CloudFront::{kind}",
                "Properties": {config_key: {"Name": _named(f"{kind.lower()}-{digest}"), **config}},
            },
        )
        return {"Ref": logical_id}


def _named(name: str) -> Resource:
    return {"Fn::Sub": "${AWS::StackName}-" + name}


def _behaviour(behaviour: Behaviour, shared: _Shared) -> Resource:
    policy = behaviour.policy
    methods = {*policy.methods, *policy.forward_methods}
    return {
        "PathPattern": behaviour.pattern,
        "TargetOriginId": "origin",
        "ViewerProtocolPolicy": "redirect-to-https",
        "AllowedMethods": READ_METHODS if methods <= set(READ_METHODS) else ALL_METHODS,
        "CachedMethods": READ_METHODS,
        "Compress": "accept-encoding" in policy.vary,
        "CachePolicyId": _cache_policy(policy, shared),
        "OriginRequestPolicyId": _origin_request_policy(policy, shared),
        "ResponseHeadersPolicyId": _response_headers_policy(policy, shared),
        "FunctionAssociations": [
            {"EventType": "viewer-request", "FunctionARN": {"Fn::GetAtt": ["ViewerRequest", "FunctionARN"]}}
        ],
    }


def max_ttl_s(policy: CachePolicy) -> int:
    """How long CloudFront may keep a response of this route, stale windows included."""
    if policy.shows_price:
        return PRICE_MAX_TTL_S
    fresh_s = max(policy.fresh_s, policy.max_fresh_s)
    return min(MAX_TTL_S, int(fresh_s + max(policy.stale_while_revalidate_s, policy.stale_if_error_s)))


def _cache_policy(policy: CachePolicy, shared: _Shared) -> Resource | str:
    if not policy.store:
        return CACHING_DISABLED
    compressed = "accept-encoding" in policy.vary
    keyed = [AUTHORITY_FIELD, GENERATION_FIELD, *(name for name in policy.vary if name != "accept-encoding")]
    return shared.policy(
        "CachePolicy",
        "CachePolicyConfig",
        {
            # Above zero it would override no-store. Zero also as the default: an answer that does not say how long
            # it lives is not stored.
            "MinTTL": 0,
            "DefaultTTL": 0,
            "MaxTTL": max_ttl_s(policy),
            "ParametersInCacheKeyAndForwardedToOrigin": {
                "EnableAcceptEncodingGzip": compressed,
                "EnableAcceptEncodingBrotli": compressed,
                "HeadersConfig": {"HeaderBehavior": "whitelist", "Headers": keyed},
                "CookiesConfig": {"CookieBehavior": "none"},
                # All of what the Function has left: an allow-list here would hide the query from the handler.
                "QueryStringsConfig": {"QueryStringBehavior": "all" if policy.query else "none"},
            },
        },
    )


def _origin_request_policy(policy: CachePolicy, shared: _Shared) -> Resource:
    if policy.store:
        headers: Resource = {
            "HeaderBehavior": "whitelist",
            "Headers": sorted({*FORWARDED_ALWAYS, *policy.request_fields} - set(policy.vary)),
        }
    else:
        # The handler forwards an allow-list of these that is longer than a whitelist may be.
        headers = {"HeaderBehavior": "allViewerAndWhitelistCloudFront", "Headers": [COUNTRY_FIELD]}
    return shared.policy(
        "OriginRequestPolicy",
        "OriginRequestPolicyConfig",
        {
            "HeadersConfig": headers,
            "CookiesConfig": {"CookieBehavior": "all" if policy.cookies else "none"},
            "QueryStringsConfig": {"QueryStringBehavior": "all" if policy.query else "none"},
        },
    )


def _response_headers_policy(policy: CachePolicy, shared: _Shared) -> Resource:
    config: Resource = {
        "RemoveHeadersConfig": {"Items": [{"Header": name} for name in BETWEEN_EDGE_AND_ORIGIN]},
    }
    told = policy.viewer_cache_control
    if told is not None:
        config["CustomHeadersConfig"] = {"Items": [{"Header": "Cache-Control", "Value": told, "Override": True}]}
    return shared.policy("ResponseHeadersPolicy", "ResponseHeadersPolicyConfig", config)
