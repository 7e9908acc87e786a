"""How much load when: stretches of time with a steady factor each, and the arrivals of a Poisson process over them."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

_HOURS = tuple(
    visitors / 125
    for visitors in (30, 20, 15, 12, 12, 15, 25, 40, 55, 65, 72, 78, 85, 80, 75, 74, 78, 85, 95, 110, 125, 120, 85, 50)
)
"""Visitors of a shop by the hour of the day, midnight first, as shares of the busiest: quiet at night, then evening."""
HIGHEST_BUSIEST = 20.0
"""A day's busiest hour has less than 24 times the mean, or the other hours would have nothing."""
RAMP_STEPS = 100


class ShapeKind(StrEnum):
    STEADY = "steady"
    DAY = "day"
    """Twenty-four hours in the length of the run."""
    RAMP = "ramp"
    """From one factor to another, evenly."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What the rate of a run is multiplied by as time goes on; 1 on average for `steady` and `day`."""

    kind: ShapeKind = ShapeKind.STEADY
    busiest: float = 5.4
    """DAY: the busiest hour's requests over those of a mean hour."""
    first: float = 0.0
    """RAMP: the factor at the beginning."""
    last: float = 2.0
    """RAMP: the factor at the end."""


class Stretch(NamedTuple):
    """Part of a run with one factor. Seconds."""

    from_s: float
    to_s: float
    factor: float


def day(busiest: float) -> tuple[float, ...]:
    """A factor for each hour of a day: their mean is 1 and the highest is `busiest`, 1 to HIGHEST_BUSIEST.

    The day's own profile, raised to the power that gives it that peak.
    """
    low, high = 0.0, 200.0
    for _ in range(100):
        power = (low + high) / 2
        if _peak(power) < busiest:
            low = power
        else:
            high = power
    raised = [hour**low for hour in _HOURS]
    mean = sum(raised) / len(raised)
    return tuple(value / mean for value in raised)


def _peak(power: float) -> float:
    """The highest hour over the mean one, each raised to a power."""
    raised = [hour**power for hour in _HOURS]
    return float(max(raised) * len(raised) / sum(raised))


def stretches(shape: Shape, from_s: float, to_s: float) -> list[Stretch]:
    """The shape laid over the time from `from_s` to `to_s`."""
    factors = _factors(shape)
    width = (to_s - from_s) / len(factors)
    return [
        Stretch(from_s + width * number, from_s + width * (number + 1), factor) for number, factor in enumerate(factors)
    ]


def _factors(shape: Shape) -> tuple[float, ...]:
    match shape.kind:
        case ShapeKind.STEADY:
            return (1.0,)
        case ShapeKind.DAY:
            return day(shape.busiest)
        case ShapeKind.RAMP:
            step = (shape.last - shape.first) / RAMP_STEPS
            return tuple(shape.first + step * (number + 0.5) for number in range(RAMP_STEPS))


def within(parts: Iterable[Stretch], from_s: float, to_s: float, factor: float = 1.0) -> list[Stretch]:
    """What of the stretches lies between two moments, times `factor`."""
    return [
        Stretch(max(part.from_s, from_s), min(part.to_s, to_s), part.factor * factor)
        for part in parts
        if part.from_s < to_s and part.to_s > from_s
    ]


def arrivals(parts: Iterable[Stretch], rate: float, rng: random.Random) -> Iterator[float]:
    """Moments of a Poisson process whose rate is `rate` (per second) times the factor of each stretch; ascending.

    Unit gaps of the exponential distribution, used up faster where the rate is higher: exact, however it jumps.
    """
    left = rng.expovariate(1.0)
    for part in parts:
        pace = rate * part.factor
        if pace <= 0:
            continue
        at = part.from_s
        while (next_at := at + left / pace) < part.to_s:
            yield next_at
            at, left = next_at, rng.expovariate(1.0)
        left -= (part.to_s - at) * pace
