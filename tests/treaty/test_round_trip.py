"""What was compiled for CloudFront, read back by code that the compiler knows nothing of, does as the gateway does.

The same generated requests go to a running worker over sockets and to tests/support/cloudfront_reader, which takes the
compiled files. Wherein the two may differ is in announced.py; whatever else is found is a fault of one of them.
"""

from __future__ import annotations

import ast
import random
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.policy_files import load_policies
from infra.aws.differences import differences as announced_by_the_compiler
from tests.treaty.announced import ALLOWED, Keys, rate_faults, unexplained
from tests.treaty.generated_requests import generated_requests
from tests.treaty.two_edges import Both, TwoEdges, compiled, lifetimes_of

ROOT = Path(__file__).parents[2]
FULL = ROOT / "tests/support/policies_full"
REQUESTS = 5_000
"""With each of the two sets of policies."""

# --- ten thousand requests ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Policies with every field, and a market whose customers' data no origin may have."""
    folder = shutil.copytree(FULL, tmp_path_factory.mktemp("full") / "policies")
    origins = folder / "origins.yaml"
    origins.write_text(origins.read_text().replace("jurisdictions: [us, jp]", "jurisdictions: [us]"))
    return Path(folder)


@pytest.fixture(scope="module", params=["shipped", "full"])
def chosen(request: pytest.FixtureRequest, full: Path) -> Path | None:
    return full if request.param == "full" else None


@pytest.fixture(scope="module")
def folder(chosen: Path | None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(chosen, tmp_path_factory.mktemp("compiled"))


def kinds_of(both: Both) -> Iterator[str]:
    ours, theirs = both.ours, both.theirs
    yield f"route {ours.line['route']}"
    yield f"{both.request.method} {ours.line['cache']}"
    yield f"status {ours.response.status} by {theirs.by}"
    yield f"{ours.line['cache']} {ours.line.get('reason', '')}"
    if ours.stored is not None:
        yield "kept" if ours.stored.status < 400 else "kept negative"
    if both.shared_key is None and theirs.key is not None and both.is_for_once:
        yield "a key for once"
    if both.strays:
        yield "in another's behaviour"
    if len(theirs.asked) == 2:
        yield "failed over"
    if theirs.rate_rules:
        yield "counted by a rate rule"
    if "content-encoding" in dict(theirs.headers):
        yield "compressed"


EXPECTED = {
    "status 400 by viewer-request": 50, "status 405 by viewer-request": 50, "status 421 by viewer-request": 50,
    "status 302 by viewer-request": 100, "status 404 by viewer-request": 20, "status 405 by cloudfront": 50,
    "status 200 by origin": 500, "status 301 by origin": 100, "status 500 by origin": 50, "status 304 by origin": 10,
    "kept": 200, "kept negative": 20, "a key for once": 100, "in another's behaviour": 100, "compressed": 10,
    "edge encoded-slash": 5, "edge dot-segment": 5, "edge repeated-parameter": 10, "edge encoded-control": 5,
    "pass policy-never-stores": 500, "miss set-cookie": 3, "miss vary": 5, "miss no-label": 2, "miss no-store": 20,
    "miss private": 20, "POST pass": 20, "HEAD miss": 50,
}  # fmt: skip
"""How many of the requests, at least, came to what with both sets of policies."""
EXPECTED_OF_FULL = {
    "status 451 by viewer-request": 200, "status 401 by viewer-request": 20, "status 503 by origin-request": 50,
    "edge residency": 20, "edge no-vault": 20, "failed over": 50, "counted by a rate rule": 100,
    "pass authorization": 50,
}  # fmt: skip


async def test_generated_requests_are_decided_alike_by_gateway_functions_handlers_and_template(
    chosen: Path | None, folder: Path, tmp_path: Path, announced: Counter[str]
) -> None:
    policies = load_policies(chosen)
    kinds: Counter[str] = Counter()
    keys = Keys()
    wrong: list[str] = []
    async with TwoEdges(policies, folder, tmp_path) as edges:
        for sent in generated_requests(policies, REQUESTS, seed=7):
            both = await edges.ask(sent)
            faults = [*unexplained(both, announced), *keys.faults(both), *rate_faults(both)]
            wrong += [f"{sent}: {found}" for found in faults]
            kinds.update(kinds_of(both))
    shared = sum(times - 1 for times in keys.shared.values())
    sizes = ", ".join(
        f"{path.name} {path.stat().st_size:,}"
        for kind in ("functions", "lambda")
        for path in sorted((folder / kind).iterdir())
    )
    print(f"\n{REQUESTS:,} requests, {len(wrong)} differences, {shared:,} find what another stored; bytes: {sizes}")
    assert "\n".join(wrong[:5]) == ""
    assert {policy.id for policy in policies.policies} <= {kind.removeprefix("route ") for kind in kinds}
    expected = EXPECTED | (EXPECTED_OF_FULL if chosen else {})
    assert {kind: kinds[kind] for kind, least in expected.items() if kinds[kind] < least} == {}
    assert shared >= 100


@pytest.fixture(scope="module")
def announced() -> Counter[str]:
    """How often each of ALLOWED was needed, by both sets of policies."""
    return Counter()


def test_every_difference_that_is_allowed_is_in_the_report_and_was_needed(announced: Counter[str], full: Path) -> None:
    assert [each.why for each in ALLOWED if not announced[each.why]] == []
    said = {difference.field for difference in announced_by_the_compiler(load_policies(full))}
    assert [each.field for each in ALLOWED if each.field not in said] == []


# --- as time goes by ------------------------------------------------------------------------------------------------


YEAR_S = 365 * 86_400


async def test_what_was_kept_is_shown_again_for_as_long_at_both_edges(
    chosen: Path | None, folder: Path, tmp_path: Path
) -> None:
    """The same request again: within each lifetime, around its end, and after it; the origin answers, or fails.

    CloudFront shows a price for 60 s at the most, an error as long as the statuses that it keeps, and nothing for more
    than a year; everything else as long as the gateway, and nothing longer.
    """
    policies = load_policies(chosen)
    rng = random.Random(11)
    outcomes: Counter[str] = Counter()
    wrong: list[str] = []
    async with TwoEdges(policies, folder, tmp_path) as edges:
        for sent in generated_requests(policies, 3_000, seed=12):
            if sent.method != "GET" or not policies.match(sent.target.partition("?")[0]).policy.store:
                continue
            first = await edges.ask(sent)
            if first.policy.honour_request and "cache-control" in first.request.headers:
                # It may ask the gateway for more than CloudFront hears.
                continue
            stored, lived = first.ours.stored, first.theirs.lifetimes
            if stored is None or lived is None or first.is_for_once:
                continue
            fresh_s, revalidate_s, error_s = lifetimes_of(stored)
            ends = [
                fresh_s,
                fresh_s + revalidate_s,
                fresh_s + error_s,
                lived.fresh_s,
                lived.fresh_s + lived.revalidate_s,
            ]
            later_s = max(1.0, rng.choice(ends) + rng.choice([-1.0, 1.0]))
            edges.shop.later(later_s)
            edges.failing = rng.random() < 0.5
            again = await edges.at_gateway(sent)
            theirs = edges.at_cloudfront(sent, edges.distribution)
            shown = (again.line["cache"] in {"hit", "stale"}, theirs.by == "store")
            # No cache has to count further than a year, and CloudFront does not.
            shorter = first.policy.shows_price or stored.status >= 400 or later_s > YEAR_S
            if shown == (False, True) or (shown == (True, False) and not shorter):
                wrong.append(f"{sent} after {later_s} s, origin fails: {edges.failing}: {shown} {again.line} {lived}")
            if shown[1] and first.policy.shows_price and later_s >= 60:
                wrong.append(f"{sent} after {later_s} s: CloudFront shows a price that is too old")
            if shown == (True, True) and again.response.status != theirs.status:
                wrong.append(f"{sent}: {again.response.status} and {theirs.status}")
            outcomes[f"{again.line['cache']}, {theirs.by}, origin {'fails' if edges.failing else 'answers'}"] += 1
            edges.failing = False
    print(f"\n{sum(outcomes.values())} asked again (gateway, CloudFront): {dict(outcomes)}")
    assert "\n".join(wrong[:5]) == ""
    assert outcomes["hit, store, origin answers"] >= 10
    assert outcomes["hit, store, origin fails"] >= 10
    assert sum(times for outcome, times in outcomes.items() if outcome.startswith("stale, store")) >= 5
    assert sum(times for outcome, times in outcomes.items() if ", origin, " in outcome) >= 20


# --- the reader is independent --------------------------------------------------------------------------------------


def test_the_reader_shares_no_code_with_the_compiler() -> None:
    """Neither it nor what it imports of this tree imports anything that compiles or is compiled."""
    waiting, seen = ["tests.support.cloudfront_reader.distribution"], set[str]()
    while waiting:
        module = waiting.pop()
        if module in seen:
            continue
        seen.add(module)
        path = ROOT / f"{module.replace('.', '/')}.py"
        assert path.is_file(), module
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            for name in names:
                root = name.partition(".")[0]
                assert root == "tests" or not (ROOT / root).is_dir(), f"{module} imports {name}"
                waiting += [name] if root == "tests" else []
    assert len(seen) >= 7
