"""What wrk tells, read back to what it measured."""

from __future__ import annotations

import random
import shutil
from collections import Counter

import pytest

from loadtests import wrk
from loadtests.recorder.histogram import Histogram
from loadtests.recorder.run import Status
from loadtests.volume import Generator, VolumeFailed, steady, volume_run
from tests.loadtests.test_paced import HIT, MISS, ask, edge

pytestmark = pytest.mark.alone

needs_wrk = pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not on this machine")


def with_guesses(measured: dict[int, int], interval_us: int) -> dict[int, int]:
    """As wrk corrects its histogram, upwards through every microsecond; its documented purpose, written anew."""
    found = Counter(measured)
    for value in range(2 * interval_us, max(measured) + 1):
        times = found[value]
        below = value - interval_us
        while times and below > interval_us:
            found[below] += times
            below -= interval_us
    return {value: times for value, times in found.items() if times}


@pytest.mark.parametrize("seed", range(20))
def test_guesses_are_taken_out_again_exactly(seed):
    rng = random.Random(seed)
    interval_us = rng.randint(50, 900)
    measured = Counter(round(rng.lognormvariate(5, 1.2)) + 1 for _ in range(500))
    measured[rng.randint(20_000, 60_000)] += rng.randint(1, 5)
    told = with_guesses(measured, interval_us)
    assert sum(told.values()) > sum(measured.values())
    assert wrk.without_guesses(told, interval_us) == dict(measured)


def test_a_histogram_that_was_corrected_in_another_way_is_refused():
    with pytest.raises(wrk.WrkFailed, match="guesses otherwise"):
        wrk.without_guesses({100: 50, 1000: 3}, 100)


MEASURED = """\
requests 6
duration_us 2000000
connect 0
read 2
write 0
timeout 1
latency 400 3
latency 410 2
answer 5 25 200 eu-1; hit; ttl=0
answer 1 2 404
"""


def test_what_the_script_wrote_is_read():
    found = wrk.read_measured(MEASURED, connections=2, processor_s=0.5, lag=Histogram())
    assert (found.requests, found.duration_s, found.cpu_share) == (6, 2.0, 0.25)
    assert found.latency.percentile_us(0.5) == pytest.approx(400, abs=1)
    assert found.latency.highest_us == 10_000_000  # the one that took longer than wrk can tell
    assert found.failed == {"read": 2}
    assert [(each.code, each.cache_status, each.count, each.body_bytes) for each in found.answers] == [
        (200, "eu-1; hit; ttl=0", 5, 25),
        (404, "", 1, 2),
    ]


def test_figures_that_do_not_agree_are_refused():
    with pytest.raises(wrk.WrkFailed, match="6 requests were answered, and how long 7 took"):
        wrk.read_measured(
            MEASURED.replace("latency 410 2", "latency 410 3"), connections=2, processor_s=0.5, lag=Histogram()
        )


def test_no_answer_is_no_measurement():
    with pytest.raises(wrk.WrkFailed, match="nothing was answered"):
        wrk.read_measured(MEASURED.replace("requests 6", "requests 0"), connections=2, processor_s=0.5, lag=Histogram())


@needs_wrk
def test_a_run_by_wrk_is_a_closed_loop_and_says_so():
    asked = [ask(target=f"/{number}") for number in range(3)]
    with edge(lambda number, head: HIT) as eu:
        schedule = steady({"eu": eu.url}, asked, rate_per_s=50, duration_s=1, warmup_s=0, seed=1)
        run = volume_run(schedule, scenario="volume", seed=1, generator=Generator.WRK, connections=2)
    (cell,) = run.cells
    assert cell.label.status is Status.HIT
    assert cell.requests == cell.uncorrected.count == cell.codes["200"] == run.check.done > 0
    assert cell.corrected.count == 0
    assert cell.body_bytes == 5 * cell.requests
    assert not run.open_loop
    assert run.versions["wrk"]
    assert {head.split()[1] for head in eu.requests} == {b"/0", b"/1", b"/2"}


@needs_wrk
def test_wrk_cannot_tell_hits_from_misses_and_says_so():
    with edge(lambda number, head: MISS if number % 4 == 0 else HIT) as eu:
        schedule = steady({"eu": eu.url}, [ask()], rate_per_s=50, duration_s=1, warmup_s=0, seed=1)
        run = volume_run(schedule, scenario="volume", seed=1, generator=Generator.WRK, connections=2)
    assert {cell.label.status for cell in run.cells} == {Status.HIT, Status.MISS}
    assert any(
        "answers were no hit" in fault and "cannot tell their durations apart" in fault for fault in run.check.faults
    )


@needs_wrk
def test_wrk_against_nobody_is_no_run():
    with edge(lambda number, head: HIT) as eu:
        nobody = eu.url
    schedule = steady({"eu": nobody}, [ask()], rate_per_s=50, duration_s=1, warmup_s=0, seed=1)
    with pytest.raises(VolumeFailed, match=r"nothing was answered|unable to connect"):
        volume_run(schedule, scenario="volume", seed=1, generator=Generator.WRK, connections=2)


def test_wrk_asks_one_edge():
    edges = {"eu": "http://127.0.0.1:1", "us": "http://127.0.0.1:1"}
    schedule = steady(edges, [ask("eu"), ask("us")], rate_per_s=50, duration_s=1, warmup_s=0, seed=1)
    with pytest.raises(VolumeFailed, match="one edge at a time, not eu, us"):
        volume_run(schedule, scenario="volume", seed=1, generator=Generator.WRK)
