"""What is broken when: the same for the same seed, everything there is, and nothing that cannot be mended."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections import Counter

import pytest

from loadtests.chaos.schedule import HIGHEST_LAG_MS, KINDS, LATEST_S, Stage, episode, episodes, possible

STAGE = Stage(
    edges=("us", "eu", "ap"),
    edge_workers=("us-1", "us-2", "eu-1", "eu-2", "ap-1", "ap-2"),
    origin_workers=("origin-1", "origin-2", "origin-questions"),
    full_disk=True,
)
MANY = [episode(3, number, STAGE) for number in range(2_000)]
FAULTS = [fault for each in MANY for fault in each.faults]


def test_the_same_seed_draws_the_same_also_in_another_process():
    program = f"from loadtests.chaos.schedule import *\nprint([str(episode(3, n, {STAGE!r})) for n in range(50)])"
    found = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == str([str(each) for each in MANY[:50]])


def test_another_seed_draws_others():
    assert episode(4, 0, STAGE) != episode(3, 0, STAGE)


def test_a_run_can_begin_with_any_episode():
    assert list(itertools.islice(episodes(3, 17, STAGE), 5)) == MANY[17:22]


def test_every_kind_is_drawn():
    assert set(Counter(fault.kind for fault in FAULTS)) == set(KINDS)


def test_only_wanted_kinds_are_drawn():
    assert {fault.kind for n in range(50) for fault in episode(3, n, STAGE, ("cut", "wipe valkey")).faults} == {
        "cut",
        "wipe valkey",
    }


def test_a_disk_that_is_not_ours_is_not_filled():
    plain = Stage(STAGE.edges, STAGE.edge_workers, STAGE.origin_workers, full_disk=False)
    assert all(fault.kind != "fill disk" for n in range(2_000) for fault in episode(3, n, plain).faults)


def test_kinds_that_there_is_nothing_for_are_not_possible():
    plain = Stage(STAGE.edges, STAGE.edge_workers, STAGE.origin_workers, full_disk=False)
    assert possible(STAGE, ("fill disk", "cut")) == ("cut", "fill disk")
    assert possible(plain, ("fill disk", "cut")) == ("cut",)
    assert possible(plain, ("fill disk",)) == ()


@pytest.mark.parametrize(
    ("breaks", "edge"),
    [
        ({"do": "kill", "name": "eu-2"}, "eu"),
        ({"do": "freeze", "name": "ap"}, "ap"),
        ({"do": "step-clock", "name": "us-1", "s": 60}, "us"),
        ({"do": "cut", "edge": "us", "channel": "fills"}, "us"),
        ({"do": "cut", "edge": "all", "channel": "fills"}, None),
        ({"do": "stall", "edge": "replication"}, None),
        ({"do": "kill", "name": "origin-1"}, None),
        ({"do": "stop", "name": "origin"}, None),
        ({"do": "kill", "name": "relay"}, None),
        ({"do": "freeze", "name": "primary"}, None),
        ({"do": "freeze", "name": "supervisor", "s": 1.0}, None),
        ({"do": "wipe", "name": "valkey"}, None),
        ({"do": "pause-replay"}, None),
    ],
)
def test_a_fault_is_about_one_edge_or_about_what_all_share(breaks, edge):
    assert STAGE.edge_of(breaks) == edge


def test_what_does_not_end_by_itself_is_mended():
    for fault in FAULTS:
        ends_by_itself = fault.breaks["do"] in {"kill", "wipe"}
        assert (fault.mends is None) == ends_by_itself
        assert (fault.lasts_s == 0) == ends_by_itself
        assert 0 <= fault.begins_s <= LATEST_S


def test_replicas_lag_by_up_to_ten_seconds_for_as_long_as_that():
    delays = [fault for fault in FAULTS if fault.kind == "delay replay"]
    lags_ms = [fault.breaks["ms"] for fault in delays]
    assert min(lags_ms) < 500
    assert HIGHEST_LAG_MS * 0.95 < max(lags_ms) <= HIGHEST_LAG_MS
    assert max(fault.lasts_s for fault in delays) > 9.0


def test_no_two_faults_of_an_episode_are_about_the_same_thing():
    for each in MANY:
        names = [
            str(fault.breaks["name"]).partition("-")[0]
            for fault in each.faults
            if fault.breaks["do"] in {"kill", "freeze"}
        ]
        assert len(names) == len(set(names)), str(each)
