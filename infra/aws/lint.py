"""The mistakes with CloudFront that would deploy and be wrong, be refused late, or cost: what no schema knows.

Works on the template as a dictionary, so that it finds what a hand has changed as well as what the compiler got wrong.
Every finding has a code that stays, the place in the template and in the policies, the reason with its page in AWS's
guides, and the fix. The rules themselves are in `rules/`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cache_policies.codes import Severity
from cache_policies.reading import Place, PolicyError
from edge.core.policy import PolicySet
from edge.policy_files import read_policies
from infra.aws.rules import caching, distribution, functions, handlers, origins, web_acl
from infra.aws.rules.stack import RULES, Rule, Stack

__all__ = ["RULES", "Finding", "UnreadableTemplate", "lint", "lint_file"]

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

    @property
    def only_costs(self) -> bool:
        return RULES[self.code].only_costs

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


def _in_order(rules: Iterable[Rule]) -> list[Rule]:
    return sorted(rules, key=lambda rule: rule.code)


class UnreadableTemplate(Exception):
    """There is no template there to be linted. Reads: edge.json:12:3: no JSON: Expecting value; ..."""


def lint_file(template: Path, directory: Path | None = None) -> list[Finding]:
    """The findings in a template file, held against the policies in `directory` (default: the packaged ones).

    Raises UnreadableTemplate, and PolicyError with every fault of the policies.
    """
    try:
        read = json.loads(template.read_text(encoding="utf-8"))
    except OSError as exc:
        raise UnreadableTemplate(f"{template} cannot be read: {exc.strerror}; name a template in JSON") from exc
    except UnicodeDecodeError as exc:
        raise UnreadableTemplate(f"{template} is not UTF-8 text; name a template in JSON") from exc
    except json.JSONDecodeError as exc:
        raise UnreadableTemplate(
            f"{template}:{exc.lineno}:{exc.colno}: no JSON: {exc.msg}; name a template as `aws compile` writes it"
        ) from exc
    except RecursionError as exc:
        raise UnreadableTemplate(f"{template} is nested too deep; name a template as `aws compile` writes it") from exc
    if not isinstance(read, dict) or not isinstance(read.get("Resources"), dict):
        raise UnreadableTemplate(f"{template} has no Resources; name a template as `aws compile` writes it")
    found = read_policies(directory)
    if found.policies is None:
        raise PolicyError(fault for fault in found.faults if fault.severity is Severity.ERROR)
    return lint(read, found.policies, found.places)
