"""Cache policies -> everything that CloudFront needs: templates, Functions, Lambda packages, one report.

    DIR/templates/edge.json            CloudFormation, for us-east-1
    DIR/templates/origin-gate.json     CloudFormation, for the region of each origin
    DIR/functions/viewer-request.js    the Functions, which the edge template contains
    DIR/functions/viewer-response.js
    DIR/lambda/origin-request.zip      the handlers' packages, which the edge template expects in a bucket
    DIR/lambda/origin-response.zip
    DIR/report.txt                     quotas, and rule by rule what CloudFront does otherwise

Pure but for `compile_to`; the same policies give the same bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cache_policies.codes import Severity
from cache_policies.reading import Place, PolicyError
from edge.core.policy import PolicySet
from edge.policy_files import read_policies
from infra.aws.differences import Difference, differences
from infra.aws.functions import viewer_request_function, viewer_response_function
from infra.aws.lint import Finding, lint
from infra.aws.package_lambda import origin_request_package, origin_response_package
from infra.aws.quotas import Quota, quotas_of
from infra.aws.templates.edge import Handler, edge_template
from infra.aws.templates.origin_gate import origin_gate_template

TEMPLATE, GATE, REPORT = "templates/edge.json", "templates/origin-gate.json", "report.txt"

Places = Mapping[str, Mapping[str, Place]]
"""Route id -> field -> where it was written."""


class CompileError(Exception):
    """What was compiled would be refused by AWS, or be wrong there. The text lists every finding, one a line."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        self.findings = tuple(findings)
        super().__init__("\n".join(str(finding) for finding in self.findings))


@dataclass(frozen=True, slots=True)
class Report:
    """What was compiled, how much of AWS's quotas it takes, and where CloudFront does otherwise than the policies."""

    digest: str
    files: tuple[tuple[str, int], ...]
    """Path below the output folder, bytes."""
    quotas: tuple[Quota, ...]
    costs: tuple[Finding, ...]
    """What the lint finds that AWS takes for more money."""
    differences: tuple[Difference, ...]

    def text(self) -> str:
        """For people, the same to the byte for the same policies."""
        lines = [f"cache policies {self.digest}, compiled for CloudFront", "", "files"]
        lines += [f"  {name:<32} {size:>9,} bytes" for name, size in self.files]
        lines += ["", "quotas"]
        lines += [f"  {quota.name:<70} {quota.used:>9,} of {quota.limit:,}" for quota in self.quotas]
        if self.costs:
            lines += ["", "what costs extra", *(f"  {finding}" for finding in self.costs)]
        lines += ["", "what CloudFront does otherwise"]
        place = None
        for difference in self.differences:
            heading = f"{difference.policy_id} ({difference.where})" if difference.policy_id else "every route"
            if heading != place:
                lines.append(f"  {heading}")
                place = heading
            lines.append(f"    {difference.field}: {difference.instead}")
        return "\n".join(lines) + "\n"


@dataclass(frozen=True, slots=True)
class Compiled:
    files: dict[str, bytes]
    """Path below the output folder -> content, the report included."""
    report: Report


def is_host_name(text: str) -> bool:
    """Whether the shop can be called so: a full name (RFC 1123), in small or capital letters."""
    label = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
    return len(text) <= 253 and re.fullmatch(rf"(?:{label}\.)+{label}", text, re.ASCII | re.IGNORECASE) is not None


def compile_to(directory: Path | None, out: Path, hosts: Sequence[str] = ()) -> Report:
    """Compile the policies in `directory` (default: the packaged ones) and write the files below `out`.

    `hosts`: names of the shop beside the distribution's own. Raises PolicyError with every fault of the policies,
    CompileError, FunctionTooLarge, PackageTooLarge; nothing is written then. Raises OSError when `out` cannot be
    written.
    """
    found = read_policies(directory)
    if found.policies is None:
        raise PolicyError(fault for fault in found.faults if fault.severity is Severity.ERROR)
    compiled = compile_policies(found.policies, hosts, found.places)
    for name, content in compiled.files.items():
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return compiled.report


def compile_policies(policies: PolicySet, hosts: Sequence[str] = (), places: Places | None = None) -> Compiled:
    """The same without files. `places`: for findings, where the fields of the routes were written.

    Raises CompileError, FunctionTooLarge, PackageTooLarge.
    """
    hosts = tuple(sorted({host.lower() for host in hosts}))
    functions = {
        "viewer-request": viewer_request_function(policies, hosts),
        "viewer-response": viewer_response_function(),
    }
    handlers = [
        Handler("origin-request", origin_request_package(policies.policies, policies.markets, policies.origins)),
        Handler("origin-response", origin_response_package(policies.policies, policies.markets)),
    ]
    template = edge_template(policies, functions, handlers, hosts)
    gate = origin_gate_template()
    findings = [*lint(template, policies, places), *lint(gate, policies, places)]
    costs = tuple(finding for finding in findings if finding.only_costs)
    if len(findings) > len(costs):
        raise CompileError([finding for finding in findings if not finding.only_costs])
    files = {TEMPLATE: _json(template), GATE: _json(gate)}
    files |= {f"functions/{event}.js": source.encode() for event, source in functions.items()}
    files |= {f"lambda/{handler.event}.zip": handler.package.content for handler in handlers}
    sizes = {name: len(content) for name, content in files.items()}
    report = Report(
        digest=policies.digest,
        files=tuple(sizes.items()),
        quotas=quotas_of(
            template,
            {name.partition("/")[2]: size for name, size in sizes.items() if not name.startswith("templates/")},
            policies,
            sizes[TEMPLATE],
        ),
        costs=costs,
        differences=differences(policies),
    )
    files[REPORT] = report.text().encode()
    return Compiled(files, report)


def _json(template: Mapping[str, Any]) -> bytes:
    return (json.dumps(template, indent=1, sort_keys=True) + "\n").encode()
