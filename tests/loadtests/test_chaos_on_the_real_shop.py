"""A short run under faults on the real processes: nothing old after live, and everything soon as before."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtests.chaos import __main__ as command
from loadtests.chaos.report import rendered
from loadtests.chaos.run import Folder, Plan, judged, run
from loadtests.chaos.schedule import KINDS
from loadtests.target import Target, load_target
from tests.support.servers import Stack

SOON_OVER = tuple(
    kind
    for kind in KINDS
    if kind not in {"kill primary", "freeze primary", "kill standby", "fill disk", "delay replay"}
)
"""Kinds that a shop has got over a second or two after they end; the others are for a long run."""


def target_of(stack: Stack) -> Target:
    return load_target(Path(stack.addresses["state"]) / "ready.json")


@pytest.mark.alone
@pytest.mark.timeout(300)
async def test_no_old_price_is_shown_while_everything_breaks(faults: Stack, tmp_path: Path, capsys):
    # How soon everything is repaired is measured on a machine that does nothing else.
    plan = Plan(
        seed=11, faults=10, rate=120.0, connections=4, calm_s=3.0, quiet_s=8.0, kinds=SOON_OVER, repaired_within_s=15.0
    )
    folder = Folder.make(tmp_path / "run", plan)
    said: list[str] = []
    tally = await run(target_of(faults), folder, said.append)
    assert tally.passed, rendered(tally)
    assert tally.faults >= 10
    assert tally.live == tally.confirmed
    assert said
    # Whoever comes later judges the same from the history alone.
    again = judged(folder.history(0))
    assert again.to_json() == tally.to_json()
    assert command.main(["--judge", str(tmp_path / "run")]) == 0
    assert "PASSED" in capsys.readouterr().out
    # The run is over: going on with it makes no further fault.
    assert Folder.resume(tmp_path / "run").tally().faults == tally.faults


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"do": "slow", "edge": "eu", "channel": "fills", "ms": 50}, "eu: fills slowed by 50 ms"),
        ({"do": "truncate", "edge": "eu", "channel": "questions", "seed": 1}, "eu: questions truncated"),
        ({"do": "garble", "edge": "ap", "channel": "fills", "seed": 1}, "ap: fills garbled"),
        ({"do": "cut", "edge": "replication"}, "replication: replication cut"),
        ({"do": "slow", "edge": "replication", "ms": 5}, "replication: replication slowed by 5 ms"),
        ({"do": "step-clock", "name": "eu-1", "s": -3600}, "eu-1's clock is wrong by -3600 s"),
    ],
)
def test_a_fault_is_told_and_healed(faults: Stack, fault, words):
    arguments = {name: value for name, value in fault.items() if name != "do"}
    assert words in faults.ask(fault["do"], **arguments)["faults"]
    faults.ask("heal")
    assert faults.ask("faults")["faults"] == []


def test_valkey_is_wiped(faults: Stack):
    faults.ask("wipe", name="valkey")
    assert faults.ask("faults")["faults"] == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(["--kinds", "flood"], "flood", id="a kind that there is not"),
        pytest.param(["--rate", "0"], "--rate", id="no load"),
        pytest.param(["--resume", "/nowhere/at/all"], "run.json", id="no run"),
        pytest.param(["--judge", "/nowhere/at/all"], "session-0", id="no history"),
    ],
)
def test_what_cannot_be_run_is_refused(arguments, words, capsys):
    assert command.main(arguments) == 2
    assert words in capsys.readouterr().err


def test_the_schedule_is_printed(stack: Stack, capsys):
    ready = str(Path(stack.addresses["state"]) / "ready.json")
    assert command.main(["--schedule", "--faults", "5", "--seed", "7", "--ready", ready]) == 0
    assert "episode 0" in capsys.readouterr().out
