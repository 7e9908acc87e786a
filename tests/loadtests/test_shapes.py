"""How much load when: factors over time, and arrivals that follow them exactly."""

from __future__ import annotations

import itertools
import random

import pytest

from loadtests.shapes import HIGHEST_BUSIEST, Shape, ShapeKind, Stretch, arrivals, day, stretches, within


@pytest.mark.parametrize("busiest", [1.0, 1.8, 5.4, HIGHEST_BUSIEST])
def test_the_busiest_hour_of_a_day_is_as_busy_as_asked_for(busiest):
    hours = day(busiest)
    assert len(hours) == 24
    assert sum(hours) / 24 == pytest.approx(1)
    assert max(hours) == pytest.approx(busiest, rel=1e-6)
    assert max(hours) == hours[20]


def test_a_day_is_laid_over_the_run():
    hours = stretches(Shape(ShapeKind.DAY, busiest=5.4), 30, 126)
    assert (hours[0].from_s, hours[-1].to_s) == (30, 126)
    assert sum((hour.to_s - hour.from_s) * hour.factor for hour in hours) == pytest.approx(96)


def test_a_ramp_goes_from_one_factor_to_the_other():
    ramp = stretches(Shape(ShapeKind.RAMP, first=1, last=3), 0, 10)
    assert sum((part.to_s - part.from_s) * part.factor for part in ramp) == pytest.approx(20)
    assert ramp[0].factor < 1.02
    assert ramp[-1].factor > 2.98


def test_a_part_of_a_shape_is_cut_out_and_multiplied():
    parts = [Stretch(0, 10, 1.0), Stretch(10, 20, 2.0), Stretch(20, 30, 3.0)]
    assert within(parts, 5, 20, 10) == [Stretch(5, 10, 10.0), Stretch(10, 20, 20.0)]


def test_arrivals_follow_the_rate_across_a_jump():
    parts = [Stretch(0, 100, 1.0), Stretch(100, 200, 20.0), Stretch(200, 300, 0.0), Stretch(300, 400, 1.0)]
    found = list(arrivals(parts, 10, random.Random(1)))
    assert found == sorted(found)
    counts = [sum(part.from_s <= at_s < part.to_s for at_s in found) for part in parts]
    assert counts[0] == pytest.approx(1_000, abs=110)
    assert counts[1] == pytest.approx(20_000, abs=500)
    assert counts[2] == 0
    assert counts[3] == pytest.approx(1_000, abs=110)
    assert found == list(arrivals(parts, 10, random.Random(1)))


def test_gaps_between_arrivals_are_exponential():
    """A Poisson process: the gaps' deviation is their mean, or bursts would be missing."""
    found = list(arrivals([Stretch(0, 1_000, 1.0)], 20, random.Random(3)))
    gaps = [later - earlier for earlier, later in itertools.pairwise(found)]
    mean = sum(gaps) / len(gaps)
    deviation = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert mean == pytest.approx(1 / 20, rel=0.03)
    assert deviation == pytest.approx(mean, rel=0.05)
