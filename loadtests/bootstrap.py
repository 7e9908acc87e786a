"""Whether two runs of the same plan differ: what a figure would have been had other parts of the runs come to pass.

The seconds of both runs are drawn again in blocks, the same blocks in both, because a second of one run meant the same
requests as that second of the other (paired), and because neighbouring seconds resemble each other (blocks). The figure
is taken from each draw, and the middle 95 % of its changes is the interval. Blocks are drawn within each phase, so that
a draw has as much of the storm as the run had.

That is the moving block bootstrap of Kuensch (1989), stratified by phase. It tells what varies within the two runs, not
what varies from one run to the next.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_left
from collections.abc import Callable, Sequence
from itertools import accumulate
from operator import itemgetter, mul
from typing import NamedTuple

from loadtests.recorder.histogram import Histogram, middle_of

DRAWS = 1000
BLOCK_S = 5
SURE = 0.95

Weights = list[int]
"""How often each second was drawn, by its place among the seconds that count."""


class Interval(NamedTuple):
    """Where a change lies with 95 % confidence, as far as the runs tell."""

    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0


def draws_of(lengths: Sequence[int], seed: int, *, block: int = BLOCK_S, draws: int = DRAWS) -> list[Weights]:
    """Ways to draw the seconds again. `lengths`: how many seconds each phase has, in their order; it keeps so many."""
    dice = random.Random(seed)
    found = []
    for _ in range(draws):
        weights: Weights = []
        for length in lengths:
            weights += _one_draw(length, min(block, max(1, length // 4)), dice)
        found.append(weights)
    return found


def _one_draw(length: int, block: int, dice: random.Random) -> Weights:
    weights = [0] * length
    left = length
    while left > 0:
        size = min(block, left)
        # Around the end and on at the beginning, so that every second is as likely as any other.
        start = dice.randrange(length)
        for step in range(size):
            weights[(start + step) % length] += 1
        left -= size
    return weights


def interval_of(changes: Sequence[float]) -> Interval | None:
    """The middle 95 % of what the draws gave; None when hardly any draw had a figure at all."""
    usable = sorted(change for change in changes if not math.isnan(change))
    if len(usable) < max(20, len(changes) // 2):
        return None
    beyond = (1 - SURE) / 2
    last = len(usable) - 1
    return Interval(usable[round(last * beyond)], usable[round(last * (1 - beyond))])


# --- figures of drawn seconds ---------------------------------------------------------------------------------------


def ratio(above: Sequence[float], below: Sequence[float]) -> Callable[[Weights], float]:
    """Sum over sum, each second as often as it was drawn; NaN where nothing is below."""

    def take(weights: Weights) -> float:
        total = sum(map(mul, weights, below))
        return sum(map(mul, weights, above)) / total if total else math.nan

    return take


def mean(values: Sequence[float]) -> Callable[[Weights], float]:
    return ratio(values, [1.0] * len(values))


class Tails:
    """Percentiles of drawn seconds' histograms.

    The counts of all seconds lie in one list by their buckets, so that a draw is one multiplication and one running sum
    over it, both in C.
    """

    def __init__(self, histograms: Sequence[Histogram | None]) -> None:
        entries = sorted(
            (bucket, second, times)
            for second, histogram in enumerate(histograms)
            if histogram is not None
            for bucket, times in histogram.buckets.items()
        )
        self._buckets = [bucket for bucket, _, _ in entries]
        self._times = [times for _, _, times in entries]
        # What second each entry belongs to, as one call that looks all of them up.
        self._weights_of = itemgetter(*(second for _, second, _ in entries), 0, 0) if entries else None

    def percentiles_us(self, shares: Sequence[float], weights: Weights) -> list[float]:
        """As Histogram.percentile_us, in the middle of buckets; NaN for nothing drawn."""
        if self._weights_of is None:
            return [math.nan] * len(shares)
        counted = list(accumulate(map(mul, self._times, self._weights_of(weights))))
        total = counted[-1]
        if not total:
            return [math.nan] * len(shares)
        return [middle_of(self._buckets[bisect_left(counted, max(1, math.ceil(share * total)))]) for share in shares]
