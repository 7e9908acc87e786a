"""The mistakes with CloudFront that would deploy and be wrong, be refused late, or cost: what no schema knows.

Works on the template as a dictionary, so that it finds what a hand has changed as well as what the compiler got wrong.
Every finding has a code that stays, the place in the template and in the policies, the reason with its page in AWS's
guides, and the fix. The rules themselves are in `rules/`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cache_policies.reading import Place
from edge.core.policy import PolicySet
from infra.aws.quotas import MAX_NAMES
from infra.aws.rules import caching, distribution, functions, handlers, origins, web_acl
from infra.aws.rules.caching import NOT_IN_A_CACHE_KEY
from infra.aws.rules.stack import RULES, Stack

__all__ = ["MAX_NAMES", "NOT_IN_A_CACHE_KEY", "RULES", "Finding", "lint"]

ROOMS = (distribution, caching, functions, handlers, origins, web_acl)
"""Importing them registers their rules."""


@dataclass(frozen=True, slots=True)
class Finding:
    code: str
    where: str
    """Logical id, and behaviour, origin or rule where there is one."""
    what: str
    fix: str
    source: str
    """Page of AWS's guides."""
    place: str = ""
    """file:line:column in the policies and the route, where it stems from one."""

    def __str__(self) -> str:
        stems = f" [{self.place}]" if self.place else ""
        return f"{self.where}: {self.code} {self.what}; {self.fix} ({self.source}){stems}"


def lint(
    template: Mapping[str, Any], policies: PolicySet, places: Mapping[str, Mapping[str, Place]] | None = None
) -> list[Finding]:
    """Every finding in a template of ours, in the order of the codes.

    `places`: where the fields of the routes were written, by route and field; else a finding names the route's place.
    """
    stack = Stack(template, policies, places or {})
    return [
        Finding(rule.code, found.where, found.what, rule.fix, rule.source, stack.place(found))
        for rule in _in_order(RULES.values())
        for found in rule.check(stack)
    ]


def _in_order(rules: Iterable[Any]) -> list[Any]:
    return sorted(rules, key=lambda rule: str(rule.code))
