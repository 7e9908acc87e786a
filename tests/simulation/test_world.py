"""Whole worlds: the promise is kept in some, the same seed is the same run, and a mistake is told as a story."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest

from edge.core.floors import Floors, Verdict
from tests.simulation.__main__ import main
from tests.simulation.ending import FAILOVER_S, REPAIRED_S, TRIES
from tests.simulation.faults import STRIKES, due_in
from tests.simulation.origins import OriginWorker
from tests.simulation.plan import plan_of
from tests.simulation.promise import Invariant
from tests.simulation.runs import play
from tests.simulation.story import story_of
from tests.simulation.world import World

ROOT = Path(__file__).parents[2]
ONE_RUN = """
from tests.simulation.world import World
run = World(1000000006).run()
print(run.trace, run.steps, run.served, run.checked, sorted(run.coverage.faults.items()), len(run.violations))
"""


def told_elsewhere(hash_seed: str) -> str:
    """What ONE_RUN prints in a process of its own."""
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    done = subprocess.run(
        [sys.executable, "-c", ONE_RUN], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout


def test_the_same_seed_is_the_same_run_also_under_another_hash_seed():
    first = told_elsewhere("1")
    assert first.strip()
    assert told_elsewhere("2") == first


def test_a_run_does_not_depend_on_what_was_played_before():
    once = World(31, storm_s=2.0).run()
    World(32, storm_s=2.0).run()
    again = World(31, storm_s=2.0, telling=True).run()
    assert (once.trace, once.steps, once.served) == (again.trace, again.steps, again.served)
    assert again.story
    assert not once.story


def test_other_seeds_are_other_worlds():
    plans = {plan_of(Random(seed)) for seed in range(20)}
    assert len(plans) > 15
    assert {plan.supervised for plan in plans} == {True, False}


def test_the_faults_whose_turn_it_is_can_strike():
    due = [due_in(seed) for seed in range(len(STRIKES))]
    assert {name for names in due for name in names} == set(STRIKES)
    assert all(plan_of(Random(seed), ["halves-parted"]).supervised for seed in range(9))


def test_the_promise_is_kept_in_some_worlds():
    totals = play(3, 0, 4)
    assert totals.failures == []
    assert (totals.runs, len(totals.traces)) == (4, 4)
    assert totals.checked > 1_000
    assert all(totals.coverage.invariants[name.value] for name in (Invariant.PROMISE, Invariant.EVIDENCE))


@pytest.mark.alone
@pytest.mark.timeout(600)
def test_a_million_checked_serves(capsys: pytest.CaptureFixture[str]):
    status = main(["--serves", "1000000", "--seed", "6"])
    print(told := capsys.readouterr().out)
    assert status == 0, told


def a_short_world() -> tuple[World, float]:
    """One that is mended after 2 s, and when it must have caught up."""
    world = World(7, storm_s=2.0)
    return world, 2.0 + REPAIRED_S + (FAILOVER_S if world.plan.supervised else 0.0)


def test_a_worker_that_has_just_begun_is_looked_at_later():
    world, caught_up_by = a_short_world()
    name = world.plan.edges[0]

    def begins_anew() -> None:
        world.kill_edge(name)
        world.start_edge(name)

    world.later(caught_up_by - 0.01, begins_anew)
    assert world.run().violations == []
    assert world.workers[name].started_at > caught_up_by - 0.1


@pytest.mark.parametrize("begins_at", [None, 2.9, 12.0])
def test_a_worker_that_has_many_pages_to_read_may_read_them_first(begins_at: float | None):
    world = World(36, storm_s=3.0)
    name = world.plan.edges[0]
    assert world.plan.far == 0.15

    def falls_behind() -> None:
        world.network.cut([name], world.plan.origins)
        for number in range(90):
            world.later(number * 0.02, world.change_locally)

    def begins_anew() -> None:
        world.kill_edge(name)
        world.start_edge(name)

    world.later(1.0, falls_behind)
    if begins_at is not None:
        world.later(begins_at, begins_anew)
    result = world.run()
    assert result.violations == []
    assert world.workers[name].follower.pages > 20


@pytest.mark.parametrize("refused", [TRIES - 1, TRIES])
def test_a_last_change_that_is_not_confirmed_is_tried_again(monkeypatch: pytest.MonkeyPatch, refused: int):
    world, caught_up_by = a_short_world()
    change = OriginWorker.change
    tried: list[str] = []

    async def refuses(self: OriginWorker, *args: Any, **named: Any) -> bool:
        if world.loop.now >= caught_up_by and len(tried) < refused:
            tried.append(self.name)
            return False
        return await change(self, *args, **named)

    monkeypatch.setattr(OriginWorker, "change", refuses)
    texts = [violation.text for violation in world.run().violations]
    assert len(tried) == refused
    assert ["the last change is not live" in text for text in texts] == [True] * (refused == TRIES)


def test_a_mistake_is_found_and_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(Floors, "judge", lambda self, labelled: Verdict.CURRENT)
    failing = next(run for run in (World(seed, telling=True).run() for seed in range(40, 60)) if run.violations)
    lines = story_of(failing)
    assert lines[0].startswith(f"run {failing.seed}: ")
    assert any("kill -9" in line or "committed" in line for line in lines)
    assert main(["--replay", str(failing.seed)]) == 1
    assert failing.violations[0].text in capsys.readouterr().out
