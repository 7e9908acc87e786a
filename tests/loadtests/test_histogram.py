"""Durations in buckets: what is put in comes out, within a hundredth."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.recorder.histogram import Histogram, bucket_of, middle_of

DURATIONS = st.lists(st.integers(min_value=0, max_value=200_000_000), min_size=1, max_size=60)


def of(*values_us: float) -> Histogram:
    found = Histogram()
    for value in values_us:
        found.add(value)
    return found


@given(st.integers(min_value=0, max_value=10**12))
def test_a_bucket_is_a_hundredth_wide_at_most(value):
    middle = middle_of(bucket_of(value))
    assert abs(middle - value) <= value / 128
    if value < 256:
        assert middle == value


@given(st.integers(min_value=0, max_value=10**9))
def test_longer_is_never_in_a_lower_bucket(value):
    assert bucket_of(value) <= bucket_of(value + 1) <= bucket_of(value) + 1


@given(DURATIONS, st.floats(min_value=0, max_value=1))
def test_a_percentile_is_the_duration_that_so_many_do_not_exceed(values, share):
    ordered = sorted(values)
    exact = ordered[max(1, math.ceil(share * len(values))) - 1]
    found = of(*values).percentile_us(share)
    assert abs(found - exact) <= exact / 100
    assert ordered[0] <= found <= ordered[-1]


@given(DURATIONS, DURATIONS)
def test_parts_counted_apart_are_the_same_as_counted_together(ones, others):
    apart, together = Histogram.merged([of(*ones), Histogram(), of(*others)]), of(*ones, *others)
    assert apart == together
    assert apart.count == together.count


@given(DURATIONS)
def test_what_was_written_is_read(values):
    found = of(*values)
    again = Histogram.from_json(found.to_json())
    assert again == found
    assert again.count == len(values)


def test_a_hit_of_0_4_ms_is_told_from_one_of_0_41():
    assert of(400, 400, 410).percentile_us(0.5) == pytest.approx(400, abs=2)
    assert of(400, 410, 410).percentile_us(0.5) == pytest.approx(410, abs=2)


def test_the_highest_is_exact_however_rare():
    found = of(*[300] * 99_999, 2_000_123)
    assert found.percentile_us(1) == 2_000_123
    assert found.percentile_us(0.9999) == pytest.approx(300, abs=1)


def test_the_mean_is_of_the_durations_and_not_of_their_buckets():
    rng = random.Random(1)
    values = [rng.randint(0, 5_000_000) for _ in range(1000)]
    assert of(*values).mean_us == pytest.approx(sum(values) / len(values))


def test_a_clock_that_was_read_the_other_way_round_counts_as_nothing():
    assert of(-3.2).percentile_us(0.5) == 0


def test_nothing_counted_has_no_duration():
    assert Histogram().percentile_us(0.99) == 0
    assert Histogram().share_within(1) == 1


def test_the_share_within_a_limit():
    found = of(*range(1, 201))
    assert found.share_within(100) == 0.5
    assert found.share_within(200) == 1
    assert found.share_within(0.5) == 0


@pytest.mark.parametrize("value", [None, {}, {"buckets": 3}, {"buckets": [[1]], "total_us": 1}])
def test_what_is_no_histogram_is_not_read_as_one(value):
    with pytest.raises((KeyError, TypeError, ValueError)):
        Histogram.from_json(value)
