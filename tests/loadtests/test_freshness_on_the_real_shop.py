"""The promise on the real processes: no old price after live, with and without a fault."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from loadtests.freshness import Plan, observe, render
from loadtests.target import Target, load_target
from tests.support.servers import Stack

PLAN = Plan(changes=25, prices=12, rate=150.0, connections=4)


def target_of(stack: Stack) -> Target:
    return load_target(Path(stack.addresses["state"]) / "ready.json")


async def test_no_old_price_is_shown_after_live(stack: Stack):
    report = await observe(target_of(stack), PLAN)
    assert report.passed, render(report)
    assert report.changes == 25
    assert set(report.by_edge) == {"us", "eu", "ap"}


@pytest.mark.timeout(240)
async def test_nor_with_an_edge_cut_off_from_its_questions_whose_lease_is_waited_out(faults: Stack):
    report = await observe(target_of(faults), replace(PLAN, cut="eu", seed=2))
    assert report.passed, render(report)
    # Workers that another test killed may still be on the list, for a minute.
    assert "eu" in {worker.partition("/")[0] for worker in report.waited_out}


async def test_nor_while_the_standby_shows_nothing_new(faults: Stack):
    report = await observe(target_of(faults), replace(PLAN, pause_replay=True, seed=3))
    assert report.passed, render(report)
