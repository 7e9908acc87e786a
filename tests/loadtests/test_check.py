"""The rules by which a run is valid."""

from __future__ import annotations

from dataclasses import replace

import pytest

from loadtests.recorder.check import CpuWindow, Evidence, busiest_window, judged
from loadtests.recorder.histogram import Histogram


def lag(us: float) -> Histogram:
    found = Histogram()
    found.add(us, 1000)
    return found


SOUND = Evidence(
    open_loop=True,
    planned_s=60.0,
    ended_s=60.1,
    cut_short=None,
    intended=1000,
    in_time=1000,
    sent=1000,
    done=1000,
    unaccounted=0,
    unforeseen=0,
    late=0,
    lag=lag(900),
    busiest=CpuWindow(10, 15, 0.5),
    cores=1,
    cpu_share=0.4,
    steal_share=0.0,
)


def test_a_sound_run_is_valid_and_has_nothing_to_remark():
    found = judged(SOUND)
    assert found.valid
    assert found.remarks == []
    assert (found.intended, found.sent, found.done) == (1000, 1000, 1000)
    assert found.lag_p99_ms == pytest.approx(0.9, rel=0.01)


@pytest.mark.parametrize(
    ("different", "word"),
    [
        pytest.param({"in_time": 979}, "97.9% of the requests were sent before the end", id="rate"),
        pytest.param({"late": 11}, "1.1% of the requests were sent more than 10 ms late", id="late"),
        pytest.param({"lag": lag(10_400)}, "its loop came round 10 ms late at p99", id="lag"),
        pytest.param({"lag": Histogram()}, "its loop was never timed", id="no pulse"),
        pytest.param({"busiest": CpuWindow(10, 15, 0.9)}, "it took 0.90 of a core from second 10 to 15", id="cpu"),
        pytest.param({"busiest": None}, "its processor time was not measured", id="no cpu"),
        pytest.param({"sent": 999}, "1 request was never sent", id="never sent"),
        pytest.param({"sent": 999, "unaccounted": 1}, "1 request was meant to be sent, and nobody", id="lost"),
        pytest.param(
            {"sent": 1001, "unforeseen": 1}, "1 request was sent that the plan does not have", id="unforeseen"
        ),
        pytest.param({"cut_short": "interrupted", "ended_s": 31.2}, "it ended after 31.2 of 60.0 s: interr", id="cut"),
        pytest.param({"intended": 0, "in_time": 0, "sent": 0, "done": 0}, "nothing was meant to be sent", id="nothing"),
    ],
)
def test_what_makes_a_run_invalid(different, word):
    (fault,) = judged(replace(SOUND, **different)).faults
    assert word in fault


@pytest.mark.parametrize(
    "different",
    [{"in_time": 980}, {"late": 10}, {"lag": lag(9_900)}, {"busiest": CpuWindow(10, 15, 0.89)}, {"done": 400}],
)
def test_what_a_run_bears(different):
    assert judged(replace(SOUND, **different)).valid


def test_a_closed_loop_is_judged_by_its_processor_and_by_how_long_it_waited_for_one():
    closed = replace(SOUND, open_loop=False, late=900, in_time=0)
    assert judged(closed).valid
    assert judged(replace(closed, done=0)).faults == ["nothing was answered"]
    assert not judged(replace(closed, busiest=CpuWindow(0, 60, 0.95))).valid
    assert not judged(replace(closed, lag=lag(12_000))).valid


def test_threads_may_take_a_core_each():
    two = replace(SOUND, cores=2, busiest=CpuWindow(10, 15, 1.5))
    assert judged(two).valid
    assert "it took 1.85 of 2 cores" in judged(replace(two, busiest=CpuWindow(10, 15, 1.85))).faults[0]


def windows(*shares: float) -> list[CpuWindow]:
    return [CpuWindow(float(at), at + 1.0, share) for at, share in enumerate(shares)]


def test_the_busiest_stretch_is_as_long_as_it_must_be_and_no_longer():
    found = busiest_window(windows(0, 0, 1, 1, 1, 1, 1, 1, 0, 0), 5.0)
    assert found == CpuWindow(2.0, 7.0, 1.0)


def test_a_short_burst_is_spread_over_the_stretch():
    found = busiest_window(windows(0, 1, 0, 0, 0, 0, 0), 5.0)
    assert found is not None
    assert found.share == pytest.approx(0.2)


def test_a_run_shorter_than_a_stretch_is_judged_as_a_whole():
    assert busiest_window(windows(0.5, 1.0), 5.0) == CpuWindow(0.0, 2.0, 0.75)
    assert busiest_window([], 5.0) is None
