"""Cache policies -> everything that CloudFront needs: one template, one Function, one Lambda package, one report.

    DIR/templates/edge.json           CloudFormation, for us-east-1
    DIR/functions/viewer-request.js   the Function, which the template contains
    DIR/lambda/origin-request.zip     the handler's package, which the template expects in a bucket
    DIR/report.txt                    quotas, and rule by rule what CloudFront does otherwise

Pure but for `compile_to`; the same policies give the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge.core.policy import CachePolicy, DataClass, OnLeaseLapse, PolicySet, Redirect
from edge.policy_files import load_policies
from infra.aws.functions import MAX_FUNCTION_BYTES, viewer_request_function
from infra.aws.lint import Finding, lint
from infra.aws.package_lambda import MAX_ZIP_BYTES, origin_request_package
from infra.aws.templates.edge import (
    PRICE_MAX_TTL_S,
    edge_template,
    max_ttl_s,
    ordered_behaviours,
)

TEMPLATE, FUNCTION, PACKAGE, REPORT = (
    "templates/edge.json",
    "functions/viewer-request.js",
    "lambda/origin-request.zip",
    "report.txt",
)


class CompileError(Exception):
    """What was compiled would be refused by AWS, or be wrong there. The text lists every finding, one a line."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        self.findings = tuple(findings)
        super().__init__("\n".join(str(finding) for finding in self.findings))


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that a policy says and CloudFront cannot, and what happens there instead."""

    policy_id: str
    """Empty for what holds for every route."""
    where: str
    field: str
    instead: str


@dataclass(frozen=True, slots=True)
class Quota:
    name: str
    used: int
    limit: int


@dataclass(frozen=True, slots=True)
class Report:
    """What was compiled, how much of AWS's quotas it takes, and where CloudFront does otherwise than the policies."""

    digest: str
    files: tuple[tuple[str, int], ...]
    """Path below the output folder, bytes."""
    quotas: tuple[Quota, ...]
    differences: tuple[Difference, ...]

    def text(self) -> str:
        """For people, the same to the byte for the same policies."""
        lines = [f"cache policies {self.digest}, compiled for CloudFront", "", "files"]
        lines += [f"  {name:<30} {size:>8,} bytes" for name, size in self.files]
        lines += ["", "quotas"]
        lines += [f"  {quota.name:<46} {quota.used:>8,} of {quota.limit:,}" for quota in self.quotas]
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


def compile_to(directory: Path | None, out: Path, hosts: Sequence[str] = ()) -> Report:
    """Compile the policies in `directory` (default: the packaged ones) and write the files below `out`.

    `hosts`: names of the shop beside the distribution's own. Raises PolicyError with every fault of the policies,
    CompileError, FunctionTooLarge, PackageTooLarge; nothing is written then. Raises OSError when `out` cannot be
    written.
    """
    compiled = compile_policies(load_policies(directory), hosts)
    for name, content in compiled.files.items():
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return compiled.report


def compile_policies(policies: PolicySet, hosts: Sequence[str] = ()) -> Compiled:
    """The same without files. Raises CompileError, FunctionTooLarge, PackageTooLarge."""
    hosts = tuple(sorted({host.lower() for host in hosts}))
    source = viewer_request_function(policies, hosts)
    package = origin_request_package(policies.policies, policies.markets)
    template = edge_template(policies, source, package, hosts)
    findings = lint(template, policies)
    if findings:
        raise CompileError(findings)
    files = {
        TEMPLATE: (json.dumps(template, indent=1, sort_keys=True) + "\n").encode(),
        FUNCTION: source.encode(),
        PACKAGE: package.content,
    }
    resources = template["Resources"].values()

    def count(kind: str) -> int:
        return sum(resource["Type"] == f"AWS::CloudFront::{kind}" for resource in resources)

    config = template["Resources"]["Distribution"]["Properties"]["DistributionConfig"]
    report = Report(
        digest=policies.digest,
        files=tuple((name, len(content)) for name, content in files.items()),
        quotas=(
            Quota("behaviours of the distribution", len(config["CacheBehaviors"]) + 1, 75),
            Quota("cache policies of the account", count("CachePolicy"), 20),
            Quota("origin request policies of the account", count("OriginRequestPolicy"), 20),
            Quota("response headers policies of the account", count("ResponseHeadersPolicy"), 20),
            Quota("bytes of the viewer-request Function", len(source.encode()), MAX_FUNCTION_BYTES),
            Quota("bytes of the Lambda package (our own budget)", len(package.content), MAX_ZIP_BYTES),
        ),
        differences=tuple(_differences(policies)),
    )
    files[REPORT] = report.text().encode()
    return Compiled(files, report)


def _differences(policies: PolicySet) -> Iterator[Difference]:
    patterns = {behaviour.policy.id: behaviour.pattern for behaviour in ordered_behaviours(policies)}
    for field, instead in _EVERYWHERE:
        yield Difference("", "", field, instead)
    for policy in policies.policies:
        for field, instead in _of_route(policy, patterns.get(policy.id)):
            yield Difference(policy.id, policy.where, field, instead)


_EVERYWHERE = (
    (
        "lease, floors",
        "CloudFront has neither; the generation in the key stands in, from when a location sees the raised bucket on",
    ),
    ("Catalog-Version, Cache-Tag", "a response without them is stored all the same, if its Cache-Control allows it"),
    ("Nearshelf-Expires-At", "not understood: the origin must not propose an s-maxage that reaches beyond it"),
    ("soft purge", "as hard: a raised bucket moves the key, so nothing is served stale meanwhile"),
    ("live", "means locations that were seen with the new generation: AWS publishes no bound for all of them"),
    ("Vary", "builds no key: only what a route's `vary` lists does"),
    ("X-Forwarded-Proto", "not set, AWS forbids it to functions: the load balancer at the origin says https"),
    ("Cache-Status", "not sent: CloudFront says X-Cache"),
    ("collapse_wait", "CloudFront collapses by itself and waits as long as for the origin (30 s)"),
    ("max_body", "not checked"),
)


def _of_route(policy: CachePolicy, pattern: str | None) -> Iterator[tuple[str, str]]:
    methods = {*policy.methods, *policy.forward_methods}
    if policy.refuse_status:
        yield "refuse", f"answered with {policy.refuse_status} by the Function"
        return
    if policy.redirect is Redirect.MARKET:
        yield "redirect", "answered by the Function, by CloudFront's country of the viewer"
        return
    if pattern is None:
        yield "path", "no behaviour of its own: the default one, or that of the route with the same pattern"
    elif policy.store and "{" in policy.path:
        yield (
            "path",
            f"the behaviour {pattern} takes in more than {policy.path}: there the Function makes a key for once",
        )
    if methods <= {"GET", "HEAD"}:
        yield "forward_methods", "other methods are answered with 403 by CloudFront itself, before the Function's 405"
    elif "OPTIONS" not in methods:
        yield "forward_methods", "CloudFront has all methods or reads only: the Function refuses what is not listed"
    if policy.data_class is DataClass.PERSONAL:
        yield "data_class", "not stored; CloudFront's own logs, if switched on, still see the address"
    if not policy.store:
        return
    if policy.shows_price:
        yield (
            "fresh",
            f"{PRICE_MAX_TTL_S} s at most, stale windows included: it bounds what a raised bucket may miss",
        )
        yield (
            "stale_if_error",
            "0 s, which the origin says too, because CloudFront serves expired copies on errors unless told not to",
        )
    elif max_ttl_s(policy):
        yield (
            "fresh",
            f"the origin's s-maxage, up to {max_ttl_s(policy)} s with the stale windows; no default where it is silent",
        )
    if policy.stale_while_revalidate_s:
        yield "stale_while_revalidate", "only where the origin's Cache-Control says it"
    if policy.keep_s:
        yield "keep", "CloudFront decides for how long it keeps an expired copy to validate"
    for status, fresh_s in policy.negative_s:
        yield f"negative {status}", f"not {fresh_s:g} s but the origin's s-maxage, and not stored without one"
    if policy.on_lease_lapse is OnLeaseLapse.STALE_MARKED:
        yield "on_lease_lapse", "no page is ever marked as unconfirmed"
    else:
        yield "on_lease_lapse", "no 503 while CloudFront is behind: the position seen last counts"
