"""The observer against a fake shop: silent when it is honest, and finding each planted bug."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from loadtests.freshness import Plan, observe, render
from loadtests.target import load_target
from tests.support.fake_shop import FakeShop

PLAN = Plan(changes=25, prices=6, rate=0.0, connections=2, parallel=2)


def honest(edge, path):
    return False


async def run(folder, bug=honest, plan=PLAN, state="live"):
    shop = FakeShop(folder, bug)
    shop.state = state
    with shop.running():
        return await observe(load_target(shop.ready), plan)


async def test_an_honest_shop_passes_and_something_was_proved(tmp_path):
    report = await run(tmp_path)
    assert report.passed
    assert report.changes == 25
    assert report.answers_telling > 0
    assert report.old_prices_after_live == 0
    assert set(report.by_edge) == {"us", "eu"}
    assert {"200", "304"} <= set(report.by_code)
    assert report.waited_out == {"us/w1": 25}
    assert set(report.live_ms) == {"p50", "p99", "max"}


async def test_shown_everywhere_is_held_to_the_same_promise_as_live(tmp_path):
    assert (await run(tmp_path, state="shown")).passed
    report = await run(tmp_path, lambda edge, path: edge == "eu", state="shown")
    assert not report.passed
    assert report.states == {"shown": 25}


@pytest.mark.parametrize(
    "bug",
    [
        pytest.param(lambda edge, path: edge == "eu", id="one edge never hears of changes"),
        pytest.param(lambda edge, path: "/c/" in path, id="listings are never purged"),
        pytest.param(lambda edge, path: "/products/" in path and "/api/" not in path, id="product pages are not"),
        pytest.param(lambda edge, path: "/prices/" in path, id="prices of the API are not"),
    ],
)
async def test_a_planted_bug_is_found_and_named(tmp_path, bug):
    report = await run(tmp_path, bug)
    assert not report.passed
    assert report.old_prices_after_live > 0
    found = report.violations[0]
    assert found.verdict == "superseded"
    assert bug(found.edge, found.target)
    assert found.shown != found.expected


class Dead(FakeShop):
    """One of its edges answers nothing that anybody can use."""

    def at_edge(self, edge, method, path, body):
        return (503, {}, b"") if edge == "eu" else super().at_edge(edge, method, path, body)


async def test_an_edge_that_fails_throughout_fails_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr("loadtests.freshness.LAST_PAUSE_S", 0.0)
    with Dead(tmp_path).running() as shop:
        report = await observe(load_target(shop.ready), PLAN)
    assert report.is_clean
    assert not report.passed
    assert report.not_there["us"] == 0
    assert f"not there at the end: {report.not_there['eu']} prices at eu\n" in render(report)


async def test_an_edge_that_a_fault_keeps_from_answering_once_is_asked_again(tmp_path, monkeypatch):
    monkeypatch.setattr("loadtests.freshness.LAST_PAUSE_S", 0.0)
    failed: set[str] = set()

    class Once(FakeShop):
        def at_edge(self, edge, method, path, body):
            if edge == "eu" and path not in failed:
                failed.add(path)
                return 503, {}, b""
            return super().at_edge(edge, method, path, body)

    with Once(tmp_path).running() as shop:
        report = await observe(load_target(shop.ready), PLAN)
    assert failed
    assert report.passed
    assert report.not_there == {"us": 0, "eu": 0}


async def test_a_change_that_never_becomes_live_fails_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr("loadtests.freshness.WAIT_LIVE_S", 0.0)
    report = await run(tmp_path, plan=Plan(changes=2, prices=2, rate=0.0), state="waiting")
    assert not report.passed
    assert "still 'waiting'" in report.changes_failed[0]


def command(*arguments):
    root = Path(__file__).parents[2]
    return subprocess.run(
        [sys.executable, "-m", "loadtests.freshness", *arguments],
        capture_output=True,
        text=True,
        cwd=root,
        check=False,
        env={**os.environ, "PYTHONWARNINGS": "error"},
    )


def test_the_command_prints_and_exits_by_what_it_found(tmp_path):
    with FakeShop(tmp_path).running() as shop:
        good = command("--ready", str(shop.ready), "--changes", "5", "--prices", "3")
        told = command("--ready", str(shop.ready), "--changes", "5", "--prices", "3", "--json")
        shop.bug = lambda edge, path: True
        bad = command("--ready", str(shop.ready), "--changes", "5", "--prices", "3")
    assert (good.returncode, good.stderr) == (0, "")
    assert "old prices shown after live    0\n" in good.stdout
    assert good.stdout.endswith("PASSED\n")
    assert json.loads(told.stdout)["passed"] is True
    assert bad.returncode == 1
    assert "SUPERSEDED: " in bad.stdout
    assert bad.stdout.endswith("FAILED\n")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--ready", "nowhere/ready.json"), "not there; start the shop"),
        (("--cut", "mars"), "no such edge, there are us, eu"),
        (("--ready", "elsewhere.json", "--cut", "eu"), "no control socket"),
    ],
)
def test_a_run_that_cannot_start_says_why_and_exits_2(tmp_path, arguments, reason):
    with FakeShop(tmp_path).running() as shop:
        ready = json.loads(shop.ready.read_text())
        del ready["control"]
        (tmp_path / "elsewhere.json").write_text(json.dumps(ready))
        named = [str(tmp_path / each) if each.endswith(".json") else each for each in arguments]
        result = command("--ready", str(shop.ready), *named)
    assert result.returncode == 2
    assert reason in result.stderr
    assert "Traceback" not in result.stderr
