"""One run from its scenario to its files, without locust, at a scripted shop."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import pytest

from loadtests.conductor import Conductor, Options, left_out
from loadtests.oracle import PriceKey, Verdict
from loadtests.sightings import Sighting, Sightings
from tests.support.fake_shop import FakeShop
from tests.support.load_runs import Shape, made_run

BREAKS = """
description: Nobody asks for anything; an edge is frozen at once.
duration: 1s
warmup: 0s
rate: 1
deeds:
  - {do: fault, phase: run, command: freeze, name: eu-1}
"""

BREAKS_LATER = """
description: Nobody asks for anything; an edge is frozen a second after the run has begun.
duration: 3s
warmup: 0s
rate: 1
phases:
  - {name: rest, from: 0s}
  - {name: late, from: 1s}
deeds:
  - {do: fault, phase: late, command: freeze, name: eu-1}
"""


@pytest.fixture
def shop(tmp_path):
    with FakeShop(tmp_path).running() as running:
        yield running


def test_a_run_that_is_given_up_before_its_second_0_does_nothing_to_the_shop(shop, tmp_path, monkeypatch):
    monkeypatch.setattr("loadtests.execution.LEAD_S", 3600.0)
    scenario = tmp_path / "mine.yaml"
    scenario.write_text(BREAKS)
    conductor = Conductor.prepare(Options(str(scenario), state=tmp_path, out=tmp_path / "run"), say=lambda _: None)
    before = set(threading.enumerate())
    conductor.begin()
    assert not conductor.is_begun
    conductor.abandon()
    for thread in set(threading.enumerate()) - before:
        thread.join(30)
        assert not thread.is_alive()
    assert {"do": "freeze", "name": "eu-1"} not in shop.told
    assert not (tmp_path / "run").exists()


def test_a_fault_that_is_being_made_when_the_run_ends_is_mended_after_it(shop, tmp_path, monkeypatch):
    scenario = tmp_path / "mine.yaml"
    scenario.write_text(BREAKS_LATER)
    conductor = Conductor.prepare(Options(str(scenario), state=tmp_path, out=tmp_path / "run"), say=lambda _: None)
    freezing, ended, thawed = threading.Event(), threading.Event(), threading.Event()
    obeyed: list[str] = []

    def ask(command: Mapping[str, str]) -> dict[str, Any]:
        if command["do"] == "freeze":
            freezing.set()
            assert ended.wait(30)
            thawed.wait(0.3)  # all the time in the world for whoever does not wait
        else:
            thawed.set()
        obeyed.append(command["do"])
        return {"ok": True}

    monkeypatch.setattr(conductor.breakage, "ask", ask)
    give_up = conductor.execution.give_up

    def giving_up(now: float) -> None:
        give_up(now)
        ended.set()

    monkeypatch.setattr(conductor.execution, "give_up", giving_up)
    conductor.begin()
    assert freezing.wait(30)
    conductor.conclude(cut_short="it was stopped")
    assert obeyed == ["freeze", "thaw"]


def test_what_no_probe_followed_and_what_had_no_room_is_said():
    run, sightings = made_run(Shape(seconds=20, changes=10)), Sightings(most=2)
    assert left_out(run, sightings) == []
    for change in run.changes[:3]:
        change.fresh_ms = {}
    for at in range(5):
        seen = Sighting(float(at), "eu", "probe", "price", PriceKey("eu-eur", "A"), 1, Verdict.OK, None, "hit")
        sightings.add(seen)
    unfollowed, rows = left_out(run, sightings)
    assert unfollowed.startswith("3 of 10 changes of prices had no probe")
    assert rows == "prices.csv has 2 of the prices that were seen; 3 more were judged and had no room in it"
