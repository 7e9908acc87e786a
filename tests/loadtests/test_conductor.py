"""One run from its scenario to its files, without locust, at a scripted shop."""

from __future__ import annotations

import threading

import pytest

from loadtests.conductor import Conductor, Options
from tests.support.fake_shop import FakeShop

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
