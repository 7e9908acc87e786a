"""The scenarios that come with the project pass, exercise every route, and wait for nothing."""

import asyncio
import selectors
import socket
import time

import pytest

from cache_policies.reading import PACKAGED_POLICIES
from edge.policy_files import load_policies, read_policies
from infra.policy.scenario_files import read_scenarios
from infra.policy.scenarios import Run, play, run_scenarios

SCENARIOS = PACKAGED_POLICIES / "scenarios"


@pytest.fixture(scope="module")
def tested() -> Run:
    return run_scenarios([], None)


def test_each_is_as_expected(tested):
    assert [
        f"{played.scenario.id} {failure.field}: expected {failure.expected}, got {failure.got}"
        for played in tested.played
        for failure in played.failures
    ] == []
    assert len(tested.played) >= 25


def test_every_route_is_exercised(tested):
    assert tested.never_exercised == ()
    assert tested.coverage_percent == 100.0
    assert tested.exit_status(100.0) == 0


def test_they_are_no_policies():
    assert {path.name for path in SCENARIOS.iterdir()} == {
        "assets.yaml",
        "catalog.yaml",
        "default.yaml",
        "prices.yaml",
        "private.yaml",
    }
    assert not any("scenario" in name for name in read_policies().texts)


def test_a_day_passes_without_anybody_waiting(tmp_path, monkeypatch):
    """A request every minute for 24 hours: every fifth is stale, and refreshed behind the viewer."""

    def never(*arguments: object, **more: object) -> None:
        raise AssertionError(f"something waited, or asked the network: {arguments}")

    steps = "".join(f"      - {{at: {minute}m, request: /eu-eur/}}\n" for minute in range(1, 24 * 60))
    path = tmp_path / "day.yaml"
    path.write_text(
        "answers:\n  /eu-eur/: {body: x, tags: ['h:eu-eur'], slow: 200ms}\nscenarios:\n  day:\n    steps:\n"
        f"{steps}      - {{at: 24h, request: /eu-eur/, expect: {{outcome: hit, origin_fetches_so_far: 288}}}}\n"
    )
    policies = load_policies()
    scenario = read_scenarios(path, policies).scenarios[0]
    monkeypatch.setattr(time, "sleep", never)
    monkeypatch.setattr(selectors.DefaultSelector, "select", never)
    monkeypatch.setattr(socket.socket, "connect", never)
    monkeypatch.setattr(socket, "create_connection", never)
    monkeypatch.setattr(asyncio.BaseEventLoop, "create_connection", never)
    played = play(scenario, policies)
    assert played.failures == []
    assert played.virtual_s == 86_400
