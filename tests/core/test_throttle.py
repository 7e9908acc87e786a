"""How often one client may ask."""

from __future__ import annotations

import random

import pytest

from edge.core.policy import Throttle
from edge.core.throttle import Throttles, admit, retry_after_s

TEN = Throttle(10.0, 1)
BURST = Throttle(10.0, 5)


def passed(throttle: Throttle, moments: list[float]) -> list[float]:
    throttles = Throttles()
    return [moment for moment in moments if throttles.wait_s("a", throttle, moment) == 0]


def test_a_burst_and_then_the_rate():
    assert passed(BURST, [100.0] * 8) == [100.0] * 5
    assert passed(BURST, [100.0] * 6 + [100.1, 100.1, 100.35, 100.35]) == [100.0] * 5 + [100.1, 100.35, 100.35]


def test_who_asks_just_as_often_as_allowed_is_never_refused():
    every = [100.0 + number / 3 for number in range(10_000)]
    assert passed(Throttle(3.0, 1), every) == every


def test_who_was_refused_is_told_when_and_nothing_is_added_for_asking():
    throttles = Throttles()
    assert throttles.wait_s("a", TEN, 100.0) == 0
    assert throttles.wait_s("a", TEN, 100.0) == pytest.approx(0.1)
    assert throttles.wait_s("a", TEN, 100.04) == pytest.approx(0.06)
    assert throttles.wait_s("a", TEN, 100.1) == 0


def test_a_long_silence_fills_the_bucket_and_no_more():
    assert len(passed(BURST, [100.0] * 9 + [1e6] * 9)) == 10


def test_clients_are_counted_apart():
    throttles = Throttles()
    assert [throttles.wait_s(client, TEN, 1.0) == 0 for client in "abab"] == [True, True, False, False]


@pytest.mark.parametrize(
    ("throttle", "full_at", "expected"),
    [
        pytest.param(TEN, 0.0, (5.1, 0.0), id="long quiet"),
        pytest.param(TEN, 5.2, (5.2, pytest.approx(0.2)), id="too early: nothing changes"),
        pytest.param(BURST, 5.2, (pytest.approx(5.3), 0.0), id="within the burst"),
        pytest.param(Throttle(0.1, 1), 14.0, (14.0, 9.0), id="six a minute"),
    ],
)
def test_one_decision(throttle, full_at, expected):
    assert admit(full_at, throttle, 5.0) == expected


@pytest.mark.parametrize(("wait", "said"), [(0.000_01, 1), (0.9, 1), (1.0, 1), (1.01, 2), (59.5, 60)])
def test_retry_after_is_in_whole_seconds_and_never_too_early(wait, said):
    assert retry_after_s(wait) == said


def test_asking_again_after_retry_after_is_in_time():
    chosen = random.Random(1)
    for _ in range(500):
        throttle = Throttle(chosen.uniform(0.05, 200), chosen.randrange(1, 50))
        throttles, now = Throttles(), 1_000.0
        while (wait := throttles.wait_s("a", throttle, now)) == 0:
            now += chosen.random() / throttle.rate_per_s
        assert throttles.wait_s("a", throttle, now + retry_after_s(wait)) == 0


def test_no_more_passes_in_any_time_than_burst_and_rate_allow():
    chosen = random.Random(2)
    for _ in range(50):
        throttle = Throttle(chosen.uniform(1, 50), chosen.randrange(1, 10))
        moments = sorted(chosen.uniform(0, 20) for _ in range(1_000))
        let = passed(throttle, moments)
        for first in range(0, len(let), 7):
            for last in range(first, len(let), 11):
                within = let[last] - let[first]
                assert last - first + 1 <= throttle.burst + within * throttle.rate_per_s + 1e-3


def test_memory_is_bounded_and_who_asks_most_is_not_forgotten():
    throttles = Throttles(max_clients=100)
    slow = Throttle(0.001, 1)
    assert throttles.wait_s("busy", slow, 1.0) == 0
    for number in range(10_000):
        throttles.wait_s(number, slow, 1.0)
        assert throttles.wait_s("busy", slow, 1.0) > 0
        assert len(throttles) <= 100


def test_full_buckets_are_forgotten_without_a_sweep():
    throttles = Throttles()
    for number in range(1_000):
        throttles.wait_s(number, TEN, 1.0)
    assert len(throttles) == 1_000
    for number in range(1_001):
        throttles.wait_s(-1, TEN, 10.0 + number)
    assert len(throttles) == 1
