"""Lambda@Edge: what Lambda takes and CloudFront refuses, or charges for."""

from __future__ import annotations

import re
from collections.abc import Iterator

from infra.aws.rules.stack import CLOUDFRONT, LAMBDA, Found, Stack, number, part, parts, rule, text, texts

_PAGE = CLOUDFRONT + "lambda-at-edge-function-restrictions"
RUNTIMES = re.compile(r"python3\.1[1-9]|nodejs(?:2[02468]|[3-9][0-9])\.x")
MAX_TIMEOUT_S = 30
NEEDED_MEMORY_MB = 128
_NOT_THERE = ("Environment", "VpcConfig", "Layers", "DeadLetterConfig", "KmsKeyArn", "ImageConfig", "FileSystemConfigs")


@rule("EDGE151", "another architecture", fix="use x86_64", source=_PAGE)
def _architecture(stack: Stack) -> Iterator[Found]:
    for logical_id, properties in stack.of_type("Lambda::Function"):
        if properties.get("Architectures", ["x86_64"]) != ["x86_64"]:
            yield Found(logical_id, "Lambda@Edge runs on x86_64 only: refused")


@rule("EDGE152", "what Lambda@Edge does not have", fix="remove it", source=_PAGE)
def _refused(stack: Stack) -> Iterator[Found]:
    for logical_id, properties in stack.of_type("Lambda::Function"):
        for name in _NOT_THERE:
            if properties.get(name):
                yield Found(logical_id, f"{name}: refused")
        if properties.get("PackageType") == "Image":
            yield Found(logical_id, "a container image: refused")


@rule("EDGE153", "a timeout that is too long", fix=f"use {MAX_TIMEOUT_S} s or less", source=_PAGE)
def _timeout(stack: Stack) -> Iterator[Found]:
    for logical_id, properties in stack.of_type("Lambda::Function"):
        timeout = number(properties.get("Timeout"))
        if timeout is not None and timeout > MAX_TIMEOUT_S:
            yield Found(logical_id, f"{timeout:g} s, Lambda@Edge has {MAX_TIMEOUT_S}: refused")


@rule("EDGE154", "X-Ray", fix="remove TracingConfig", source=_PAGE)
def _tracing(stack: Stack) -> Iterator[Found]:
    for logical_id, properties in stack.of_type("Lambda::Function"):
        if part(properties, "TracingConfig").get("Mode") == "Active":
            yield Found(logical_id, "TracingConfig Active: refused")


@rule(
    "EDGE175",
    "a runtime that Lambda@Edge does not take, or that AWS has given up",
    fix="use a supported Python or Node.js, such as python3.13",
    source=LAMBDA + "lambda-runtimes",
)
def _runtime(stack: Stack) -> Iterator[Found]:
    for logical_id, properties in stack.of_type("Lambda::Function"):
        runtime = text(properties.get("Runtime"))
        if runtime and RUNTIMES.fullmatch(runtime) is None:
            yield Found(logical_id, f"{runtime}: refused")


@rule("EDGE176", "more disk than there is", fix="use 512 MB of /tmp or less", source=_PAGE)
def _disk(stack: Stack) -> Iterator[Found]:
    for logical_id, properties in stack.of_type("Lambda::Function"):
        size = number(part(properties, "EphemeralStorage").get("Size"))
        if size is not None and size > 512:
            yield Found(logical_id, f"{size:g} MB of /tmp: refused")


@rule(
    "EDGE177",
    "a role that the edges may not take",
    fix="let the role be assumed by lambda.amazonaws.com and edgelambda.amazonaws.com",
    source=CLOUDFRONT + "lambda-edge-permissions",
)
def _role(stack: Stack) -> Iterator[Found]:
    used = {
        name for _, properties in stack.of_type("Lambda::Function") for name in (_referred(properties.get("Role")),)
    }
    for logical_id, properties in stack.of_type("IAM::Role"):
        trusted = {
            service
            for statement in parts(part(properties, "AssumeRolePolicyDocument").get("Statement"))
            for service in _services(part(statement, "Principal").get("Service"))
        }
        missing = sorted({"lambda.amazonaws.com", "edgelambda.amazonaws.com"} - trusted)
        if logical_id in used and missing:
            yield Found(logical_id, f"not for {', '.join(missing)}: refused")


def _referred(reference: object) -> str:
    target = part({"it": reference}, "it").get("Fn::GetAtt")
    return text(target[0]) if isinstance(target, list) and target else ""


def _services(value: object) -> list[str]:
    return [value] if isinstance(value, str) else texts(value)


@rule(
    "EDGE178",
    "a handler without a number",
    fix="refer to the AWS::Lambda::Version",
    source=CLOUDFRONT + "lambda-edge-how-it-works-tutorial",
)
def _version(stack: Stack) -> Iterator[Found]:
    versions = {logical_id for logical_id, _ in stack.of_type("Lambda::Version")}
    for behaviour in stack.behaviours:
        for item in parts(behaviour.written.get("LambdaFunctionAssociations")):
            arn = item.get("LambdaFunctionARN")
            numbered = part({"it": arn}, "it").get("Ref") in versions or re.search(r":[0-9]+$", text(arn))
            if not numbered:
                yield Found(
                    behaviour.where,
                    "LambdaFunctionARN is no numbered version ($LATEST and aliases are refused)",
                    behaviour.routes,
                )


@rule(
    "EDGE179",
    "a version that the stack cannot delete",
    fix="set DeletionPolicy and UpdateReplacePolicy to Retain",
    source=CLOUDFRONT + "lambda-edge-delete-replicas",
)
def _retained(stack: Stack) -> Iterator[Found]:
    for logical_id, resource in stack.resources.items():
        kept = resource.get("DeletionPolicy") == resource.get("UpdateReplacePolicy") == "Retain"
        if resource.get("Type") == "AWS::Lambda::Version" and not kept:
            yield Found(logical_id, "its replicas live on for hours, and the update fails because of them")


@rule(
    "EDGE180",
    "concurrency that Lambda@Edge does not have",
    fix="remove it",
    source=_PAGE,
)
def _concurrency(stack: Stack) -> Iterator[Found]:
    for kind, name in (
        ("Lambda::Function", "ReservedConcurrentExecutions"),
        ("Lambda::Version", "ProvisionedConcurrencyConfig"),
    ):
        for logical_id, properties in stack.of_type(kind):
            if name in properties:
                yield Found(logical_id, f"{name}: refused, or it starves the edges")


@rule(
    "EDGE181",
    "memory that is paid for in vain",
    fix=f"set MemorySize to {NEEDED_MEMORY_MB}",
    source=CLOUDFRONT + "lambda-at-edge-function-restrictions",
)
def _memory(stack: Stack) -> Iterator[Found]:
    for logical_id, properties in stack.of_type("Lambda::Function"):
        size = number(properties.get("MemorySize"))
        if size is not None and size > NEEDED_MEMORY_MB:
            yield Found(logical_id, f"{size:g} MB: costs {size / NEEDED_MEMORY_MB:.3g} times as much for each request")


@rule(
    "EDGE182",
    "bodies that no handler reads",
    fix="set IncludeBody to false",
    source=CLOUDFRONT + "lambda-include-body-access",
)
def _body(stack: Stack) -> Iterator[Found]:
    for behaviour in stack.behaviours:
        for item in parts(behaviour.written.get("LambdaFunctionAssociations")):
            if item.get("IncludeBody") is True:
                yield Found(
                    behaviour.where,
                    "IncludeBody: bodies of more than 1 MB are cut short, and personal data passes through the handler",
                    behaviour.routes,
                    "residency",
                )
