"""A template as the rules of the lint look at it, and what a rule is.

A template may have been changed by hand, so nothing in it is taken for granted: what is missing or of another type
reads as empty (cfn-lint says that it is wrong), and a rule speaks only of what it can see.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from cache_policies.reading import Place
from edge.core.policy import CachePolicy, PolicySet
from infra.aws.templates.behaviours import path_pattern, takes_in
from infra.aws.templates.content import CACHING_DISABLED

CLOUDFRONT = "docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/"
WAF = "docs.aws.amazon.com/waf/latest/developerguide/"
LAMBDA = "docs.aws.amazon.com/lambda/latest/dg/"
VPC = "docs.aws.amazon.com/vpc/latest/userguide/"
ELB = "docs.aws.amazon.com/elasticloadbalancing/latest/application/"
CLOUDFORMATION = "docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/"

Map = Mapping[str, Any]


def part(value: object, *keys: str) -> Map:
    """The mapping below `keys`; empty when there is none."""
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def parts(value: object) -> list[Map]:
    """The mappings of a list."""
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def texts(value: object) -> list[str]:
    """The texts of a list."""
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def text(value: object) -> str:
    return value if isinstance(value, str) else ""


def number(value: object) -> float | None:
    """None for what is no number, a reference to a parameter for instance."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


class Found(NamedTuple):
    """One place where a rule is broken."""

    where: str
    """Logical id, and what in it."""
    what: str
    routes: tuple[CachePolicy, ...] = ()
    """The routes that it stems from, or that suffer."""
    field: str = ""
    """Of the routes: where to look."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One kind of mistake. Its code never changes its meaning."""

    code: str
    title: str
    fix: str
    source: str
    """The page that says so."""
    check: Callable[[Stack], Iterator[Found]]
    only_costs: bool = False
    """AWS takes it and serves what it should, for more money: the compiler says so and goes on."""


RULES: dict[str, Rule] = {}


def rule(
    code: str, title: str, *, fix: str, source: str, only_costs: bool = False
) -> Callable[[Callable[[Stack], Iterator[Found]]], Callable[[Stack], Iterator[Found]]]:
    """Makes a rule of a function that yields every place where it is broken."""

    def register(check: Callable[[Stack], Iterator[Found]]) -> Callable[[Stack], Iterator[Found]]:
        assert code not in RULES, f"{code} is taken"
        RULES[code] = Rule(code, title, fix, f"{source}.html", check, only_costs)
        return check

    return register


@dataclass(frozen=True)
class Behaviour:
    """A cache behaviour, with the policies it refers to."""

    where: str
    pattern: str
    written: Map
    cache: Map | None
    """Configuration of its cache policy; None: caching is disabled, or the policy is not in this template."""
    request: Map
    response: Map
    routes: tuple[CachePolicy, ...]
    """For whose paths it is the first."""

    @property
    def stores(self) -> bool:
        return self.written.get("CachePolicyId") != CACHING_DISABLED

    @property
    def cached_headers(self) -> list[str]:
        """Lower case."""
        key = part(self.cache, "ParametersInCacheKeyAndForwardedToOrigin", "HeadersConfig")
        return [name.lower() for name in texts(key.get("Headers"))]

    @property
    def forwarded_headers(self) -> list[str]:
        return [name.lower() for name in texts(part(self.request, "HeadersConfig").get("Headers"))]

    def events(self, association: str) -> list[str]:
        return [text(item.get("EventType")) for item in parts(self.written.get(association))]

    @property
    def says(self) -> dict[str, tuple[str, bool]]:
        """Fields that its response headers policy adds, lower case -> value, whether it overrides the origin's."""
        return {
            text(item.get("Header")).lower(): (text(item.get("Value")), item.get("Override") is True)
            for item in parts(part(self.response, "CustomHeadersConfig").get("Items"))
        }

    @property
    def removes(self) -> set[str]:
        return {
            text(item.get("Header")).lower() for item in parts(part(self.response, "RemoveHeadersConfig").get("Items"))
        }


class Stack:
    """A template beside the policies that it was made from."""

    def __init__(self, template: Map, policies: PolicySet, places: Mapping[str, Mapping[str, Place]]) -> None:
        self.template = template
        self.policies = policies
        self.places = places
        self.resources: dict[str, Map] = {
            logical_id: resource
            for logical_id, resource in part(template, "Resources").items()
            if isinstance(resource, Mapping)
        }

    def of_type(self, kind: str) -> Iterator[tuple[str, Map]]:
        """Logical id and properties of the resources of a type such as `CloudFront::Function`."""
        for logical_id, resource in self.resources.items():
            if resource.get("Type") == f"AWS::{kind}":
                yield logical_id, part(resource, "Properties")

    @cached_property
    def distributions(self) -> list[tuple[str, Map]]:
        """Logical id and configuration."""
        return [
            (logical_id, part(properties, "DistributionConfig"))
            for logical_id, properties in self.of_type("CloudFront::Distribution")
        ]

    @cached_property
    def behaviours(self) -> list[Behaviour]:
        """Of all distributions, each in the order CloudFront tries them, the default one last."""
        found: list[Behaviour] = []
        for logical_id, config in self.distributions:
            written = [*parts(config.get("CacheBehaviors")), part(config, "DefaultCacheBehavior")]
            patterns = [*(text(item.get("PathPattern")) for item in written[:-1]), "*"]
            served: dict[int, list[CachePolicy]] = {}
            for route in self.policies.policies:
                pattern = path_pattern(route)
                first = next((n for n, wide in enumerate(patterns) if takes_in(wide, pattern)), len(patterns) - 1)
                served.setdefault(first, []).append(route)
            for order, (item, pattern) in enumerate(zip(written, patterns, strict=True)):
                found.append(
                    Behaviour(
                        where=f"{logical_id} behaviour {pattern}",
                        pattern=pattern,
                        written=item,
                        cache=self.config_of(item.get("CachePolicyId"), "CachePolicyConfig"),
                        request=self.config_of(item.get("OriginRequestPolicyId"), "OriginRequestPolicyConfig") or {},
                        response=self.config_of(item.get("ResponseHeadersPolicyId"), "ResponseHeadersPolicyConfig")
                        or {},
                        routes=tuple(served.get(order, ())),
                    )
                )
        return found

    def config_of(self, reference: object, key: str) -> Map | None:
        """The configuration of a policy in this template; None for a managed one, or none."""
        name = part({"it": reference}, "it").get("Ref")
        if not isinstance(name, str) or name not in self.resources:
            return None
        return part(self.resources[name], "Properties", key)

    def routes_of(self, logical_id: str) -> tuple[CachePolicy, ...]:
        """The routes of every behaviour that refers to a resource."""
        found: dict[str, CachePolicy] = {}
        for behaviour in self.behaviours:
            if logical_id in references(behaviour.written):
                found |= {route.id: route for route in behaviour.routes}
        return tuple(found.values())

    def place(self, found: Found) -> str:
        """file:line:column of the field, else of the route, and how many more routes it is about; empty: of none."""
        if not found.routes:
            return ""
        first = found.routes[0]
        written = self.places.get(first.id, {}).get(found.field)
        more = f" and {len(found.routes) - 1} more" if len(found.routes) > 1 else ""
        return f"{written or first.where} {first.id}{more}"


def references(value: object) -> set[str]:
    """Logical ids that are referred to anywhere in a part of a template."""
    if isinstance(value, list):
        return {name for item in value for name in references(item)}
    if not isinstance(value, Mapping):
        return set()
    found = {name for item in value.values() for name in references(item)}
    if isinstance(value.get("Ref"), str):
        found.add(value["Ref"])
    target = value.get("Fn::GetAtt")
    if isinstance(target, list) and target and isinstance(target[0], str):
        found.add(target[0])
    elif isinstance(target, str):
        found.add(target.partition(".")[0])
    return found
