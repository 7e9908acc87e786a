"""Every command in the documents runs, links lead somewhere, and every setting that is read is documented."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(
    [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/*.md"),
        *ROOT.glob("*/README.md"),
        *ROOT.glob("tests/*/**/README.md"),
        *ROOT.glob("*/decisions/*.md"),
    ]
)

RUN_ELSEWHERE = {
    "./dev up": "tests/infra/test_up.py",
    "NEARSHELF_POLICIES=build/policies ./dev up": "tests/infra/test_up.py",
    "./dev test": "tests/test_docs.py",
    "./dev lint": ".ci/run",
    "./dev clean": "tests/test_dev.py",
    "./dev lock": "tests/test_dev.py",
    # One after the other, as soon as that may be.
    "./dev failover --to": "tests/infra/test_runbook.py",
    "./dev failover --accept-loss": "tests/infra/test_runbook.py",
    "./dev fault kill primary": "tests/infra/test_runbook.py",
    "./dev load run": "tests/loadtests/test_locust_runs.py",
    "./dev load compare": "tests/infra/test_load_reports.py",
    "python -m loadtests.whatif": "tests/loadtests/test_whatif.py",
    "locust -f loadtests/locustfile.py": "tests/loadtests/test_locust_runs.py",
    "NEARSHELF_POLICIES=build/outage ./dev up": "tests/infra/test_up.py",
    "python -m loadtests.chaos": "tests/loadtests/test_chaos_on_the_real_shop.py",
    "python -m loadtests.chaos.outage": "tests/loadtests/test_chaos_outage.py",
    "python -m loadtests.failovers": "tests/loadtests/test_failovers.py",
    "python -m loadtests.freshness": "tests/loadtests/test_freshness_on_the_real_shop.py",
    "python -m loadtests.interleavings": "tests/loadtests/test_interleavings.py",
    "python -m tests.simulation": "tests/simulation/test_world.py",
    "python -m tests.simulation.bugs": "tests/simulation/bugs/test_bugs.py",
    # Needs a checkout that is a repository, which a copy of the tree is not.
    "./dev policy diff HEAD:cache_policies": "tests/policy_tools/test_diff.py",
    "python -m tests.conformance": "tests/conformance/test_conformance.py",
    "python -m pytest tests/conformance": "tests/conformance/test_conformance.py",
    "python -m tests.security": "tests/security/test_rows.py",
    "python -m pytest tests/security": "tests/security/test_rows.py",
    "python -m loadtests.bench": "tests/gateway/test_bench.py",
}
"""Commands that are too long, or that the run itself is: the file that runs them."""

DOCUMENTED_SKU = "MIL-HAZ-10000"
"""A product of the default catalog that the documents change the price of; the tests' shop is smaller."""

BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)\s#]+)")


def commands() -> list[tuple[str, str]]:
    """(document, command) for each command line of each `sh` block, lines ending in a backslash joined."""
    found = []
    for document in DOCUMENTS:
        for block in BLOCK.findall(document.read_text()):
            for line in block.replace("\\\n", " ").splitlines():
                command = line.split(" #", 1)[0].strip()
                if command and not command.startswith("#"):
                    found.append((str(document.relative_to(ROOT)), command))
    return found


def covered_elsewhere(command: str) -> str | None:
    bare = command.replace(".venv/bin/", "")
    return next(
        (
            file
            for start, file in RUN_ELSEWHERE.items()
            if bare == start or bare.startswith((start + " ", start + "\t"))
        ),
        None,
    )


def test_the_documents_hold_commands():
    assert len(commands()) >= 10


@pytest.mark.parametrize("start", RUN_ELSEWHERE)
def test_the_file_that_runs_a_command_knows_what_it_runs(start):
    text = (ROOT / RUN_ELSEWHERE[start]).read_text()
    module = start.partition("python -m ")[2].partition(" ")[0]
    package, _, name = module.rpartition(".")
    assert module in text or (package and f"from {package} import {name}" in text)


def test_every_command_runs_as_it_is_written():
    """In a checkout of which nothing is known but `./dev`: what it installs is in no PATH."""
    bare = [command for _, command in commands() if command.split()[0] in {"python", "locust", "pytest", "nearshelf"}]
    assert bare == []


def test_no_table_that_a_command_writes_is_empty():
    pairs = re.compile(r"^<!-- ([\w-]+) -->\n(.*?)^<!-- /\1 -->", re.MULTILINE | re.DOTALL)
    found = {
        (document.name, name): text.strip()
        for document in DOCUMENTS
        for name, text in pairs.findall(document.read_text())
    }
    assert len(found) > 10
    assert [where for where, text in found.items() if not text] == []


@pytest.mark.database
def test_every_command_in_the_documents_runs(stack, tmp_path):
    """On the running shop, with the default addresses replaced by this run's."""
    environment = stack.command_environment() | {"NO_COLOR": "1"}
    listed = httpx.get(f"{stack.origin}/api/v1/eu-eur/products").json()
    sku = listed["products"][0]["sku"]
    replaced = {DOCUMENTED_SKU: sku, ".nearshelf/": f"{stack.state}/", "build/": f"{tmp_path}/"}

    def here(command: str) -> str:
        for documented, real in replaced.items():
            command = command.replace(documented, real)
        return stack.with_its_addresses(command)

    failed = []
    for document, command in commands():
        if covered_elsewhere(command):
            continue
        run = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", here(command)],
            cwd=ROOT,
            env=os.environ | environment,
            capture_output=True,
            text=True,
            timeout=90,
            stdin=subprocess.DEVNULL,
        )
        if run.returncode != 0:
            failed.append(
                f"{document}: {command}\n  exit {run.returncode}\n  {run.stdout[-400:]}\n  {run.stderr[-800:]}"
            )
    assert not failed, "\n".join(failed)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document):
    missing = [target for target in LINK.findall(document.read_text()) if not (document.parent / target).exists()]
    assert not missing


def test_every_setting_that_is_read_is_documented():
    settings = (ROOT / "docs/settings.md").read_text()
    read: set[str] = set()
    for package in ("edge", "origin", "infra", "loadtests"):
        for source in (ROOT / package).rglob("*.py"):
            read |= set(
                re.findall(r"""["'](NEARSHELF_[A-Z_]+|[A-Z]+_URLS?|PG_BIN|VALKEY_BIN)["']""", source.read_text())
            )
    assert len(read) > 10
    assert sorted(name for name in read if f"`{name}`" not in settings) == []
