"""The edge stack: one distribution with everything that it refers to. Must be deployed in us-east-1."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cache_policies.fields import EDGE_KEY_FIELD
from cache_policies.origins import Origin, Origins
from edge.core.policy import PolicySet
from edge.lambda_edge.origin_request import ORIGINS_FIELD
from infra.aws.package_lambda import Package
from infra.aws.templates.behaviours import Behaviour, needed_behaviours
from infra.aws.templates.content import (
    CACHING_DISABLED,
    READ_METHODS,
    Content,
    Resource,
    content_of,
    group_id,
)
from infra.aws.templates.web_acl import web_acl

TAG_FIELD = "Cache-Tag"
ERROR_STATUSES = (404, 414, 500, 501, 502, 503, 504)
"""Statuses that CloudFront keeps for 10 s unless told otherwise."""
FAILOVER_STATUSES = (500, 502, 503, 504)
"""What an origin group fails over on, as our gateway does; 503 stands for no connection as well, 504 for no answer."""
RUNTIME = "python3.13"
CONNECT_TIMEOUT_S = (1, 10)
READ_TIMEOUT_S = (1, 120)
"""Least and most that CloudFront takes."""


class Handler(NamedTuple):
    """A Lambda@Edge function of the stack."""

    event: str
    """`origin-request` or `origin-response`."""
    package: Package

    @property
    def name(self) -> str:
        """`OriginRequest`: the beginning of its logical ids."""
        return "".join(part.capitalize() for part in self.event.split("-"))

    @property
    def version_id(self) -> str:
        # Another package is another version: CloudFront takes numbered ones only.
        return f"{self.name}Version{self.package.digest[:16]}"


def edge_template(
    policies: PolicySet, functions: Mapping[str, str], handlers: Sequence[Handler], hosts: Sequence[str] = ()
) -> dict[str, Any]:
    """The whole stack.

    `functions`: source by viewer event. `hosts`: names of the shop beside the distribution's own; they need a
    certificate.
    """
    shared = _Shared()
    contents = {policy.id: content_of(policy, policies) for policy in policies.policies}
    behaviours = [
        _behaviour(item, contents[item.policy.id], shared, functions, handlers)
        for item in needed_behaviours(policies, lambda policy: contents[policy.id])
    ]
    last = policies.policies[-1]
    default = _behaviour(Behaviour(last, "*"), contents[last.id], shared, functions, handlers)
    del default["PathPattern"]
    return {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": f"Edge of a nearshelf shop, compiled from cache policies {policies.digest}",
        "Parameters": _parameters(policies.origins, handlers, with_certificate=bool(hosts)),
        "Rules": {
            "Region": {
                "Assertions": [
                    {
                        "Assert": {"Fn::Equals": [{"Ref": "AWS::Region"}, "us-east-1"]},
                        "AssertDescription": "CloudFront takes Lambda functions and web ACLs from us-east-1 only.",
                    }
                ]
            }
        },
        "Resources": {
            "Distribution": _distribution(policies, default, behaviours, hosts),
            "WebAcl": web_acl(policies),
            "Generations": {
                "Type": "AWS::CloudFront::KeyValueStore",
                "Properties": {
                    "Name": _named("generations"),
                    "Comment": "Bucket -> position: what raises a bucket moves every key under it",
                },
            },
            **{_function_id(event): _function(event, source, policies) for event, source in functions.items()},
            **_lambda_resources(handlers, policies),
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


# --- functions and handlers ------------------------------------------------------------------------------------


def _function_id(event: str) -> str:
    return "".join(part.capitalize() for part in event.split("-"))


def _function(event: str, source: str, policies: PolicySet) -> Resource:
    config: Resource = {"Comment": f"Cache policies {policies.digest}", "Runtime": "cloudfront-js-2.0"}
    if "cf.kvs(" in source:
        config["KeyValueStoreAssociations"] = [{"KeyValueStoreARN": {"Fn::GetAtt": ["Generations", "Arn"]}}]
    return {
        "Type": "AWS::CloudFront::Function",
        "Properties": {"Name": _named(event), "AutoPublish": True, "FunctionCode": source, "FunctionConfig": config},
    }


def _lambda_resources(handlers: Sequence[Handler], policies: PolicySet) -> dict[str, Resource]:
    resources: dict[str, Resource] = {"EdgeRole": _ROLE}
    for handler in handlers:
        resources[handler.name] = {
            "Type": "AWS::Lambda::Function",
            "Properties": {
                "Description": f"{handler.event} handler, cache policies {policies.digest}",
                "Runtime": RUNTIME,
                "Handler": handler.package.handler,
                "Architectures": ["x86_64"],
                "MemorySize": 128,
                "Timeout": 5,
                "Role": {"Fn::GetAtt": ["EdgeRole", "Arn"]},
                "Code": {"S3Bucket": {"Ref": "CodeBucket"}, "S3Key": {"Ref": f"{handler.name}Key"}},
            },
        }
        resources[handler.version_id] = {
            "Type": "AWS::Lambda::Version",
            # Replicas of an old version live on for hours after the distribution has left it.
            "DeletionPolicy": "Retain",
            "UpdateReplacePolicy": "Retain",
            "Properties": {
                "FunctionName": {"Ref": handler.name},
                "CodeSha256": base64.b64encode(bytes.fromhex(handler.package.digest)).decode(),
            },
        }
    return resources


_ROLE: Resource = {
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
}


# --- origins ---------------------------------------------------------------------------------------------------


def domain_parameter(origin: Origin, origins: Origins) -> str:
    """Name of the parameter with an origin's public name."""
    if origin.name == origins.default:
        return "OriginDomainName"
    return f"Origin{''.join(part.capitalize() for part in origin.name.split('-'))}DomainName"


def _origin(origin: Origin, origins: Origins) -> Resource:
    return {
        "Id": origin.name,
        "DomainName": {"Ref": domain_parameter(origin, origins)},
        # With another origin to turn to, the second attempt is better spent there.
        "ConnectionAttempts": 1 if origin.reads_fail_over_to else 3,
        "ConnectionTimeout": whole_seconds(origin.connect_timeout_s, CONNECT_TIMEOUT_S),
        "CustomOriginConfig": {
            "OriginProtocolPolicy": "https-only",
            "OriginSSLProtocols": ["TLSv1.2"],
            "OriginReadTimeout": whole_seconds(origin.response_timeout_s, READ_TIMEOUT_S),
            "OriginKeepaliveTimeout": 60,
        },
        "OriginCustomHeaders": [
            {
                "HeaderName": EDGE_KEY_FIELD,
                "HeaderValue": {"Fn::Sub": "{{resolve:secretsmanager:${EdgeKeySecret}}}"},
            },
            *_names_for_the_handler(origins),
        ],
    }


def _names_for_the_handler(origins: Origins) -> list[Resource]:
    """The origin-request handler, which has no environment, learns from the request which origin has which name."""
    if len(origins.all) == 1:
        return []
    names = "; ".join(f"{origin.name}=${{{domain_parameter(origin, origins)}}}" for origin in origins.all)
    return [{"HeaderName": ORIGINS_FIELD, "HeaderValue": {"Fn::Sub": names}}]


def whole_seconds(seconds: float, bounds: tuple[int, int]) -> int:
    """A timeout as CloudFront takes it: rounded up, and within its bounds."""
    return max(bounds[0], min(bounds[1], math.ceil(seconds)))


def _origin_group(origin: Origin) -> Resource:
    return {
        "Id": group_id(origin),
        "Members": {"Quantity": 2, "Items": [{"OriginId": origin.name}, {"OriginId": origin.reads_fail_over_to}]},
        "FailoverCriteria": {
            "StatusCodes": {"Quantity": len(FAILOVER_STATUSES), "Items": list(FAILOVER_STATUSES)},
        },
    }


def _parameters(origins: Origins, handlers: Sequence[Handler], *, with_certificate: bool) -> dict[str, Any]:
    parameters: dict[str, Any] = {}
    for origin in origins.all:
        parameters[domain_parameter(origin, origins)] = {
            "Type": "String",
            "Description": (
                f"Public name of the origin {origin.name}, closed to all but CloudFront by templates/origin-gate.json."
            ),
        }
    parameters["EdgeKeySecret"] = {
        "Type": "String",
        "Description": "Name or ARN of the secret in Secrets Manager that holds the edge key.",
    }
    parameters["CodeBucket"] = {"Type": "String", "Description": "Bucket in us-east-1 that holds the Lambda packages."}
    for handler in handlers:
        parameters[f"{handler.name}Key"] = {
            "Type": "String",
            "Description": f"Key of lambda/{handler.event}.zip in that bucket.",
        }
    if with_certificate:
        parameters["CertificateArn"] = {
            "Type": "String",
            "Description": "ARN of the certificate (in us-east-1) for the names of the shop.",
        }
    return parameters


# --- the distribution ------------------------------------------------------------------------------------------


def _distribution(policies: PolicySet, default: Resource, behaviours: list[Resource], hosts: Sequence[str]) -> Resource:
    origins = policies.origins
    targets = {behaviour["TargetOriginId"] for behaviour in (default, *behaviours)}
    groups = [_origin_group(origin) for origin in origins.all if group_id(origin) in targets]
    config: Resource = {
        "Enabled": True,
        "Comment": {"Ref": "AWS::StackName"},
        "HttpVersion": "http2and3",
        "IPV6Enabled": True,
        "PriceClass": "PriceClass_All",
        # Every one, also those that only the origin-request handler chooses: who holds which jurisdiction's data.
        "Origins": [_origin(origin, origins) for origin in origins.all],
        "DefaultCacheBehavior": default,
        "CacheBehaviors": behaviours,
        "CacheTagConfig": {"HeaderName": TAG_FIELD},
        # Nothing is kept because it is an error: only because the origin-response handler said for how long.
        "CustomErrorResponses": [{"ErrorCode": status, "ErrorCachingMinTTL": 0} for status in ERROR_STATUSES],
        # CloudFront would answer 403 before the Function runs, whose 451 is by route.
        "Restrictions": {"GeoRestriction": {"RestrictionType": "none"}},
        "WebACLId": {"Fn::GetAtt": ["WebAcl", "Arn"]},
        "ViewerCertificate": {"CloudFrontDefaultCertificate": True},
    }
    if groups:
        config["OriginGroups"] = {"Quantity": len(groups), "Items": groups}
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


def _behaviour(
    behaviour: Behaviour,
    content: Content,
    shared: _Shared,
    functions: Mapping[str, str],
    handlers: Sequence[Handler],
) -> Resource:
    cache: Resource | str = CACHING_DISABLED
    if content.cache is not None:
        cache = shared.policy("CachePolicy", "CachePolicyConfig", content.cache)
    return {
        "PathPattern": behaviour.pattern,
        "TargetOriginId": content.target,
        "ViewerProtocolPolicy": "redirect-to-https",
        "AllowedMethods": list(content.methods),
        "CachedMethods": list(READ_METHODS),
        "Compress": content.compress,
        "CachePolicyId": cache,
        "OriginRequestPolicyId": shared.policy("OriginRequestPolicy", "OriginRequestPolicyConfig", content.request),
        "ResponseHeadersPolicyId": shared.policy(
            "ResponseHeadersPolicy", "ResponseHeadersPolicyConfig", content.response
        ),
        "FunctionAssociations": [
            {"EventType": event, "FunctionARN": {"Fn::GetAtt": [_function_id(event), "FunctionARN"]}}
            for event in functions
        ],
        "LambdaFunctionAssociations": [
            {
                "EventType": handler.event,
                "LambdaFunctionARN": {"Ref": handler.version_id},
                **({"IncludeBody": False} if handler.event == "origin-request" else {}),
            }
            for handler in handlers
        ],
    }
