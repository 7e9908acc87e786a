"""Percentiles of values that are kept whole."""

from __future__ import annotations

import pytest

from loadtests.statistics import exact_percentile, percentile_text, percentiles


@pytest.mark.parametrize(
    ("values", "share", "found"),
    [
        ([7.0], 0.5, 7.0),
        ([2.0, 1.0], 0.5, 1.0),
        ([3.0, 1.0, 2.0], 0.5, 2.0),
        ([3.0, 1.0, 2.0], 1.0, 3.0),
        ([3.0, 1.0, 2.0], 0.0, 1.0),
        ([float(number) for number in range(1, 101)], 0.99, 99.0),
        ([float(number) for number in range(1, 102)], 0.99, 100.0),
    ],
)
def test_a_percentile_is_the_value_that_so_many_do_not_exceed(values, share, found):
    assert exact_percentile(values, share) == found
    assert sum(value <= found for value in values) >= share * len(values)


def test_those_that_are_told_are_taken_the_same_way():
    values = [float(number) for number in range(1, 5)]
    assert percentiles(values) == {"p50": exact_percentile(values, 0.5), "p99": 4.0, "max": 4.0}
    assert percentile_text(percentiles(values)) == "p50 2.0  p99 4.0  max 4.0"
    assert percentile_text(percentiles([])) == "-"
