"""The runbook fits a screen, and every command in it does what it says (docs/failover.md)."""

from __future__ import annotations

import os
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.servers import ROOT, Stack
from tests.test_docs import BLOCK, RUN_ELSEWHERE, covered_elsewhere

RUNBOOK = (ROOT / "docs/failover.md").read_text()
WITHIN_S = 90.0


def commands() -> list[str]:
    """Those of the runbook, each once, in its order: of its blocks and in its sentences."""
    lines = [line.partition(" #")[0].strip() for block in BLOCK.findall(RUNBOOK) for line in block.splitlines()]
    inline = [text for text in re.findall(r"`([^`\n]+)`", RUNBOOK) if text.startswith(("./dev", "python -m"))]
    return list(dict.fromkeys([*lines, *(text for text in inline if "FENCE" not in text)]))


def test_it_fits_a_screen():
    lines = RUNBOOK.splitlines()
    assert len(lines) <= 60
    assert [line for line in lines if len(line) > 100] == []


def test_whoever_runs_its_long_commands_exists():
    by = RUN_ELSEWHERE["python -m loadtests.failovers"]
    long = [command for command in commands() if covered_elsewhere(command) == by]
    assert long == [".venv/bin/python -m loadtests.failovers --kills 5 --freezes 2"]


def until_whole(shop: Stack) -> dict[str, Any]:
    deadline = time.monotonic() + WITHIN_S
    while not (status := shop.ask("status"))["failover"]["whole"] or not status["failover"]["promotable"]:
        assert time.monotonic() < deadline, status["failover"]
        time.sleep(0.05)
    found: dict[str, Any] = status["failover"]
    return found


def run(shop: Stack, command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=ROOT,
        env=os.environ | shop.command_environment() | {"NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.long
@pytest.mark.timeout(300)
def test_every_command_in_it_runs(faults: Stack):
    """Three failovers of a real shop, and a crash: half a minute."""
    asked = [command for command in commands() if command.startswith("./dev") and not command.startswith("./dev up")]
    assert len(asked) >= 7
    for command in asked:
        before = until_whole(faults)
        if "--to" in command:
            command = command.replace("pg-1", before["standbys"][0])
        done = run(faults, command)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        if command.startswith("./dev failover"):
            assert done.stdout.startswith(f"{before['standbys'][0]} is the primary, {before['primary']} no more")
    assert until_whole(faults)["moves"] >= 3


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--to", "pg-9"), "there is no server 'pg-9'; there are pg-1, pg-2"),
        (("--to", "PRIMARY"), "is the primary already"),
    ],
)
def test_a_failover_that_cannot_be_is_refused_in_one_line(faults: Stack, words, why):
    primary = until_whole(faults)["primary"]
    refused = faults.nearshelf("failover", *(word.replace("PRIMARY", primary) for word in words), check=False)
    assert refused.returncode == 1
    assert refused.stderr.count("\n") == 1
    assert why in refused.stderr


def test_without_a_shop_that_is_said_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    from infra import cli

    assert cli.run(["failover", "--state", str(tmp_path / "none")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("nearshelf: no shop is running")
    assert error.count("\n") == 1
