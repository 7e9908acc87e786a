"""Durations counted in buckets a hundredth wide: microseconds in, percentiles out, mergeable, small as JSON.

Log-linear, as HdrHistogram: 128 buckets for each doubling, exact below 256 us, so that a value is known to within
0.8 % whatever its size. 0.4 ms is told from 0.41 ms, and two minutes take no more room than a millisecond.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Self

SUB_BITS = 7
_EXACT_BELOW = 2 << SUB_BITS


class Histogram:
    """Counts of durations in microseconds. Negative ones count as 0: clocks are read one after the other."""

    __slots__ = ("buckets", "count", "highest_us", "lowest_us", "total_us")

    def __init__(self) -> None:
        self.buckets: dict[int, int] = {}
        """Bucket number -> count; see `bucket_of`."""
        self.count = 0
        self.total_us = 0
        self.lowest_us = 0
        self.highest_us = 0

    def __eq__(self, other: object) -> bool:
        """Whether both have counted the same, as far as buckets tell."""
        return isinstance(other, Histogram) and self.to_json() == other.to_json()

    __hash__ = None  # type: ignore[assignment]  # it changes

    def add(self, value_us: float, times: int = 1) -> None:
        value = max(0, round(value_us))
        bucket = bucket_of(value)
        self.buckets[bucket] = self.buckets.get(bucket, 0) + times
        self.lowest_us = value if not self.count else min(self.lowest_us, value)
        self.highest_us = max(self.highest_us, value)
        self.count += times
        self.total_us += value * times

    def merge(self, other: Histogram) -> None:
        """Count what `other` counted, too."""
        if not other.count:
            return
        for bucket, times in other.buckets.items():
            self.buckets[bucket] = self.buckets.get(bucket, 0) + times
        self.lowest_us = other.lowest_us if not self.count else min(self.lowest_us, other.lowest_us)
        self.highest_us = max(self.highest_us, other.highest_us)
        self.count += other.count
        self.total_us += other.total_us

    @classmethod
    def merged(cls, parts: Iterable[Histogram]) -> Self:
        found = cls()
        for part in parts:
            found.merge(part)
        return found

    def percentile_us(self, share: float) -> float:
        """The duration that `share` (0 to 1) of all counted ones do not exceed; 0 for nothing counted.

        The middle of its bucket, never outside of what was counted: the lowest and the highest are exact.
        """
        if not self.count:
            return 0.0
        rank = max(1, math.ceil(share * self.count))
        if rank >= self.count:
            return float(self.highest_us)
        seen = 0
        for bucket in sorted(self.buckets):
            seen += self.buckets[bucket]
            if seen >= rank:
                return min(max(middle_of(bucket), self.lowest_us), self.highest_us)
        return float(self.highest_us)

    def share_within(self, limit_us: float) -> float:
        """Which share of the counted durations is at most `limit_us`, as exactly as the buckets allow; 1 for none."""
        if not self.count or limit_us >= self.highest_us:
            return 1.0
        return sum(times for bucket, times in self.buckets.items() if middle_of(bucket) <= limit_us) / self.count

    @property
    def mean_us(self) -> float:
        return self.total_us / self.count if self.count else 0.0

    def to_json(self) -> dict[str, Any]:
        """As `from_json` reads it: bucket numbers and counts, ascending."""
        pairs = [[bucket, self.buckets[bucket]] for bucket in sorted(self.buckets)]
        return {"total_us": self.total_us, "lowest_us": self.lowest_us, "highest_us": self.highest_us, "buckets": pairs}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Raises KeyError, TypeError or ValueError for anything that `to_json` did not write."""
        found = cls()
        found.buckets = {int(bucket): int(times) for bucket, times in value["buckets"]}
        found.count = sum(found.buckets.values())
        found.total_us = int(value["total_us"])
        found.lowest_us, found.highest_us = int(value["lowest_us"]), int(value["highest_us"])
        return found


def bucket_of(value_us: int) -> int:
    """The number of the bucket of a whole number of microseconds, 0 or more."""
    shift = max(0, value_us.bit_length() - SUB_BITS - 1)
    return (shift << SUB_BITS) + (value_us >> shift)


def middle_of(bucket: int) -> float:
    """The middle of a bucket, microseconds."""
    if bucket < _EXACT_BELOW:
        return float(bucket)
    shift = (bucket >> SUB_BITS) - 1
    lowest = (bucket - (shift << SUB_BITS)) << shift
    return lowest + ((1 << shift) - 1) / 2
