"""Where a value stands on an axis, in pixels, and which values are written beside it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol


class Scale(Protocol):
    """An axis."""

    def __call__(self, value: float) -> float:
        """Pixels; values beyond the ends stand at the ends."""
        ...

    def ticks(self, most: int) -> list[float]:
        """Round values, at most about so many."""
        ...


@dataclass(frozen=True, slots=True)
class Linear:
    """Equal steps are equally far apart."""

    low: float
    high: float
    from_px: float
    to_px: float

    def __call__(self, value: float) -> float:
        within = min(max(value, self.low), self.high)
        return self.from_px + (self.to_px - self.from_px) * (within - self.low) / (self.high - self.low)

    def ticks(self, most: int) -> list[float]:
        step = nice_step((self.high - self.low) / max(1, most))
        first = math.ceil(self.low / step - 1e-9)
        return [number * step for number in range(first, math.floor(self.high / step + 1e-9) + 1)]


@dataclass(frozen=True, slots=True)
class Seconds:
    """The time of a run, from 0."""

    length_s: float
    from_px: float
    to_px: float

    def __call__(self, value: float) -> float:
        return self.from_px + (self.to_px - self.from_px) * min(max(value, 0.0), self.length_s) / self.length_s

    def step_s(self, most: int) -> float:
        """Whole parts of a minute, minutes or hours; parts of a second only where the run is that short."""
        rough = self.length_s / most
        steps = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600)
        return next((step for step in steps if step >= rough), nice_step(rough)) if rough > 0.5 else nice_step(rough)

    def ticks(self, most: int) -> list[float]:
        step = self.step_s(most)
        return [number * step for number in range(int(self.length_s / step + 1e-9) + 1)]

    def text(self, at_s: float) -> str:
        """Minutes on a long axis, seconds on any other."""
        return f"{at_s / 60:g} min" if self.length_s > 600 else f"{round(at_s, 6):g} s"


@dataclass(frozen=True, slots=True)
class Log:
    """Equal factors are equally far apart. Both ends above 0."""

    low: float
    high: float
    from_px: float
    to_px: float

    def __call__(self, value: float) -> float:
        within = min(max(value, self.low), self.high)
        return self.from_px + (self.to_px - self.from_px) * math.log(within / self.low) / math.log(self.high / self.low)

    def ticks(self, most: int) -> list[float]:
        found: list[float] = []
        for steps in ((1, 2, 5), (1, 3), (1,)):
            found = [
                step * 10.0**exponent
                for exponent in range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
                for step in steps
                if self.low * 0.999 <= step * 10.0**exponent <= self.high * 1.001
            ]
            if len(found) <= most:
                break
        return found[:: math.ceil(len(found) / most)] if len(found) > most else found


@dataclass(frozen=True, slots=True)
class Tail:
    """Percentiles as HdrHistogram draws them: each nine as wide as the one before. Values are shares, 0 to below 1."""

    nines: float
    """How many nines the axis shows: 4 is up to 99.99 %."""
    from_px: float
    to_px: float

    def __call__(self, value: float) -> float:
        seen = -math.log10(1 - min(value, 1 - 10**-self.nines))
        return self.from_px + (self.to_px - self.from_px) * min(1.0, seen / self.nines)

    def ticks(self, most: int) -> list[float]:
        found = [0.0, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999]
        return [share for share in found if share <= 1 - 10**-self.nines + 1e-9]


def nice_step(rough: float) -> float:
    """The smallest of 1, 2 or 5 times a power of ten that is not below `rough`."""
    power = 10.0 ** math.floor(math.log10(rough)) if rough > 0 else 1.0
    return next(step * power for step in (1, 2, 5, 10) if step * power >= rough * 0.999)


def nice_high(value: float, most: int = 4) -> float:
    """A round end of an axis from 0 that shows `value`; 1 for nothing."""
    if value <= 0:
        return 1.0
    step = nice_step(value / most)
    return step * math.ceil(value / step - 1e-9)


def log_ends(values: Sequence[float], floor: float) -> tuple[float, float]:
    """Ends of a logarithmic axis around values, a little beyond them and at least half a decade apart."""
    usable = [max(value, floor) for value in values]
    low, high = min(usable, default=floor) / 1.25, max(usable, default=floor * 10) * 1.25
    middle = math.sqrt(low * high)
    return min(low, middle / 1.8), max(high, middle * 1.8)


TickText = Callable[[float], str]


def micros_text(us: float) -> str:
    """A tick of a duration: round values need no digits behind the point."""
    for unit, one in (("s", 1e6), ("ms", 1e3)):
        if us >= one * 0.999:
            return f"{us / one:g} {unit}"
    return f"{us:g} us"


def percent_text(share: float) -> str:
    return f"{round(share * 100, 6):g} %"


def plain_text(value: float) -> str:
    return f"{value / 1000:g} k" if value >= 10_000 else f"{round(value, 6):g}"
