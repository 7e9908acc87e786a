"""One run from its scenario to its files, without locust, at a scripted shop."""

from __future__ import annotations

import threading

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
