"""How often something took how long: counts in buckets, cheap to add to and to add up."""

from __future__ import annotations

from bisect import bisect_left

BOUNDS_S = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper ends of the buckets, in seconds: a hit of half a millisecond is not one of five."""
AGE_BOUNDS_S = (1.0, 10.0, 60.0, 300.0, 1_800.0, 7_200.0, 43_200.0, 86_400.0, 604_800.0)
"""The same of ages."""


class Durations:
    """Of one kind of thing. `bounds_s`: upper ends of its buckets, which they include."""

    __slots__ = ("bounds_s", "counts", "seconds")

    def __init__(self, bounds_s: tuple[float, ...] = BOUNDS_S) -> None:
        self.bounds_s = bounds_s
        self.counts = [0] * (len(bounds_s) + 1)
        """One for each bucket, what is longer than all of them last: each duration counts in one."""
        self.seconds = 0.0

    def add(self, took_s: float) -> None:
        self.seconds += took_s
        self.counts[bisect_left(self.bounds_s, took_s)] += 1

    @property
    def total(self) -> int:
        return sum(self.counts)
