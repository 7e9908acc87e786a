"""How much of AWS's quotas a compiled stack takes.

Sources: docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/cloudfront-limits.html, for the web ACL
docs.aws.amazon.com/waf/latest/developerguide/aws-waf-capacity-units.html, for the template
docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from edge.core.policy import Generation, PolicySet
from infra.aws.functions import MAX_FUNCTION_BYTES
from infra.aws.package_lambda import MAX_ZIP_BYTES
from infra.aws.templates.web_acl import FREE_CAPACITY, capacity_of

MAX_BEHAVIOURS = 75
MAX_ORIGINS = 100
MAX_ORIGIN_GROUPS = 10
MAX_POLICIES_OF_A_KIND = 20
MAX_NAMES = 10
"""Headers, cookies or query strings that one policy may list; headers that one adds to responses, or removes."""
MAX_CHARACTERS_OF_NAMES = 1_024
MAX_ALIASES = 100
MAX_STORE_BYTES = 5_000_000
MAX_TEMPLATE_BYTES = 1_000_000
"""Of a template that comes from a bucket; one in the call itself may have 51,200."""

ESTIMATED_PRODUCTS = 5_000
"""What the estimate of the KeyValueStore assumes: as many as the demo catalog, each changed once in every market."""
_BYTES_OF_NAME = 24
"""A slug or SKU, percent-encoded."""
_BYTES_OF_POSITION = 10


class Quota(NamedTuple):
    name: str
    used: int
    limit: int


def quotas_of(
    template: Mapping[str, Any], sizes: Mapping[str, int], policies: PolicySet, template_bytes: int
) -> tuple[Quota, ...]:
    """Every quota that policies can come near. `sizes`: bytes of the Functions (*.js) and packages (*.zip), by name."""
    return tuple(_quotas(template, sizes, policies, template_bytes))


def _quotas(
    template: Mapping[str, Any], sizes: Mapping[str, int], policies: PolicySet, template_bytes: int
) -> Iterator[Quota]:
    resources = template["Resources"].values()
    config = next(item for item in resources if item["Type"] == "AWS::CloudFront::Distribution")["Properties"][
        "DistributionConfig"
    ]
    yield Quota("behaviours of the distribution", len(config["CacheBehaviors"]) + 1, MAX_BEHAVIOURS)
    yield Quota("origins of the distribution", len(config["Origins"]), MAX_ORIGINS)
    yield Quota(
        "origin groups of the distribution", config.get("OriginGroups", {}).get("Quantity", 0), MAX_ORIGIN_GROUPS
    )
    yield Quota("names of the distribution", len(config.get("Aliases", [])), MAX_ALIASES)
    for kind, name in (
        ("CachePolicy", "cache policies of the account"),
        ("OriginRequestPolicy", "origin request policies of the account"),
        ("ResponseHeadersPolicy", "response headers policies of the account"),
    ):
        made = [item["Properties"][f"{kind}Config"] for item in resources if item["Type"] == f"AWS::CloudFront::{kind}"]
        yield Quota(name, len(made), MAX_POLICIES_OF_A_KIND)
        yield Quota("  headers in one of them, at the most", max(map(_listed, made), default=0), MAX_NAMES)
    for name, size in sizes.items():
        if name.endswith(".js"):
            yield Quota(f"bytes of {name}", size, MAX_FUNCTION_BYTES)
        else:
            yield Quota(f"bytes of {name} (our own budget)", size, MAX_ZIP_BYTES)
    yield Quota(
        f"bytes of the KeyValueStore, {ESTIMATED_PRODUCTS:,} products changed in every market",
        store_bytes(policies, ESTIMATED_PRODUCTS),
        MAX_STORE_BYTES,
    )
    acl = next(item for item in resources if item["Type"] == "AWS::WAFv2::WebACL")["Properties"]
    yield Quota("capacity units of the web ACL (more cost extra)", capacity_of(acl), FREE_CAPACITY)
    yield Quota("bytes of the template (over 51,200: from a bucket)", template_bytes, MAX_TEMPLATE_BYTES)


def _listed(config: Mapping[str, Any]) -> int:
    """Headers that a policy of any kind lists, of the kind of list that has most."""
    key = config.get("ParametersInCacheKeyAndForwardedToOrigin", config)
    return max(
        len(key.get("HeadersConfig", {}).get("Headers", [])),
        len(config.get("CustomHeadersConfig", {}).get("Items", [])),
        len(config.get("RemoveHeadersConfig", {}).get("Items", [])),
    )


def store_bytes(policies: PolicySet, products: int) -> int:
    """What the buckets would take at the most, had every product been changed once in every market."""
    kinds = {policy.generation for policy in policies.policies} - {Generation.NONE}
    names = ["*"]
    for market in policies.markets.all:
        names += [f"m:{market.id}"] if kinds else []
        names += [f"h:{market.id}"] if Generation.MARKET in kinds else []
    # A product has a bucket for its page and one for its price.
    of_product = 2 * (len("s:eu-eur:") + _BYTES_OF_NAME + _BYTES_OF_POSITION) if Generation.PRODUCT in kinds else 0
    fixed = sum(len(name) + _BYTES_OF_POSITION for name in names)
    return fixed + of_product * products * len(policies.markets.all)
