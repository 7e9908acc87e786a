"""One small run on the real processes: all that a run reads of a shop is there, and the shop keeps its promise."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from loadtests import scraped
from loadtests.recorder.run import HIT_STATUSES, MISS_STATUSES, read_run
from tests.support.servers import Stack

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("locust") is None, reason="locust is not installed: the group `load` of pyproject.toml"
)

ROOT = Path(__file__).parents[2]
EVERYTHING = """
description: A bit of everything that can be done to a shop.
duration: 10s
warmup: 2s
rate: 25
phases:
  - {name: rest, from: 0s}
  - {name: sale, from: 5s, crowd: 2}
deeds:
  - {do: flush, phase: warm-up}
  - {do: prices, phase: rest, per_minute: 60, prices: 4}
  - {do: purges, phase: rest, per_minute: 60, tags_per_order: 5}
  - {do: fault, phase: sale, command: cut, edge: ap, channel: questions}
thresholds:
  - old_prices == 0
  - origin_fetches{edge=us} == 1
  - origin_fetches{edge=eu} == 1
"""
JUDGED_BY_A_QUIET_MACHINE = {0, 3}
"""Exit statuses: met, and met as far as a busy machine can be believed."""


@pytest.mark.timeout(240)
def test_a_run_reads_everything_that_a_shop_says_and_sees_no_old_price(faults: Stack, tmp_path):
    (tmp_path / "mine.yaml").write_text(EVERYTHING)
    state = faults.addresses["state"]
    command = [sys.executable, "-m", "infra.cli", "load", "run", str(tmp_path / "mine.yaml"), "--state", str(state)]
    found = subprocess.run(
        [*command, "--out", str(tmp_path / "run")], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert found.returncode in JUDGED_BY_A_QUIET_MACHINE, found.stdout + found.stderr
    run = read_run(tmp_path / "run")
    assert [verdict.met for verdict in run.thresholds] == [True, True, True], found.stdout
    assert run.prices.answers_telling > 0
    assert run.changes
    for change in run.changes:
        assert change.live_ms is not None
        assert set(change.fresh_ms) == {"us", "eu", "ap"}
    assert run.figures["purges"] > 1
    assert run.figures["deeds_failed"] == 0
    assert {cell.label.status for cell in run.cells} >= {*HIT_STATUSES, *MISS_STATUSES} - {"stale", "revalidated"}
    assert set(run.policy_digests) == {"us", "eu", "ap"}
    assert scraped.increase(run, scraped.FETCHES, [(0.0, 12.0)])
    assert faults.ask("faults")["faults"] == []
