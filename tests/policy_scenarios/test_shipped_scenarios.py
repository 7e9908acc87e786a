"""The scenarios that come with the project pass, exercise every route, and wait for nothing."""

import asyncio
import selectors
import socket
import time

import pytest

from cache_policies.folder import profiles
from cache_policies.reading import PACKAGED_POLICIES, PROFILES
from edge.policy_files import load_policies, read_policies
from infra.policy.scenario_files import read_scenarios
from infra.policy.scenarios import Run, play, run_scenarios

PERSONAL = "data_class: personal\n    query: all\n    cookies: true"
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


@pytest.mark.parametrize(
    ("file", "written", "instead"),
    [
        ("catalog.yaml", "fresh: 300s", "fresh: 301s"),
        ("catalog.yaml", "stale_while_revalidate: 600s", "stale_while_revalidate: 601s"),
        ("catalog.yaml", "stale_if_error: 1d", "stale_if_error: 2d"),
        ("catalog.yaml", "keep: 1d", "keep: 2d"),
        ("catalog.yaml", "{404: 10s}", "{404: 11s}"),
        ("catalog.yaml", "[sort, page]", "[page, sort]"),
        ("catalog.yaml", "[sort, page]", "[sort, page, utm_source]"),
        ("catalog.yaml", "on_lease_lapse: stale-marked", "on_lease_lapse: fail\n  stale_if_error: 0s"),
        ("catalog.yaml", "compress: true", "compress: false"),
        ("catalog.yaml", "forward_methods: [GET, HEAD]", "forward_methods: [GET, HEAD, POST]"),
        ("prices.yaml", "fresh: 300s", "fresh: 299s"),
        ("prices.yaml", "keep: 1h", "keep: 2h"),
        ("prices.yaml", "query: [page]", "query: [pages]"),
        ("prices.yaml", "stock/{sku}", "stocks/{sku}"),
        ("assets.yaml", "stale_if_error: 365d", "stale_if_error: 364d"),
        ("private.yaml", f"cart\n    {PERSONAL}", "cart\n    fresh: 60s"),
        ("private.yaml", "refuse: 404  # between", "#"),
        ("private.yaml", "path: /api/staff/{rest...}", "path: /api/staffs/{rest...}"),
        ("default.yaml", "redirect: market", "#"),
        ("default.yaml", "query: all", "query: [x]"),
    ],
)
def test_another_policy_is_noticed(tmp_path, file, written, instead):
    for path in PACKAGED_POLICIES.glob("*.yaml"):
        text = path.read_text()
        if path.name == file:
            assert written in text
            text = text.replace("  stale_if_error: 1d\n", "", 1) if "stale_if_error: 0s" in instead else text
            text = text.replace(written, instead, 1)
        (tmp_path / path.name).write_text(text)
    tested = run_scenarios([SCENARIOS], tmp_path)
    assert tested.is_readable
    assert [played.scenario.id for played in tested.played if not played.passed]


@pytest.mark.parametrize("name", profiles())
def test_those_of_a_profile_are_as_expected_and_exercise_every_route(name):
    tested = run_scenarios([], PROFILES / name)
    assert [f"{played.scenario.id}: {failure}" for played in tested.played for failure in played.failures] == []
    assert tested.played
    assert tested.exit_status(100.0) == 0


@pytest.mark.parametrize(
    ("written", "instead"),
    [
        ("forward_methods: all", "forward_methods: [GET, HEAD, POST]"),
        ("max_fresh: 2147483648s", "max_fresh: 30s"),
        ("max_stale_while_revalidate: 2147483648s", ""),
        ("max_stale_if_error: 2147483648s", ""),
        ("stale_if_unreachable: 30d", ""),
        ("keep: 30d", "stale_if_error: 1s"),
        ("statuses: any", ""),
        ("query: all", "query: [a, b]"),
        ("request_fields: all", "request_fields: [x-colour]\n    vary: [x-colour]"),
        ("request_directives: honour", ""),
    ],
)
def test_another_profile_is_noticed(tmp_path, written, instead):
    text = (PROFILES / "rfc9111" / "default.yaml").read_text()
    assert written in text
    text = text.replace(written, instead, 1)
    (tmp_path / "default.yaml").write_text(text.replace("    vary: any\n", "") if "vary" in instead else text)
    tested = run_scenarios([PROFILES / "rfc9111" / "scenarios"], tmp_path)
    assert tested.is_readable
    assert [played.scenario.id for played in tested.played if not played.passed]


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
