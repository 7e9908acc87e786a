"""Percentiles of values that are kept whole; of the many there are histograms (recorder/histogram.py)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence


def exact_percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` of all do not exceed: one of them, never between two. `values`: at least one."""
    ordered = sorted(values)
    return ordered[max(1, math.ceil(share * len(ordered))) - 1]


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """p50, p99 and max, to a tenth; empty for nothing."""
    if not values:
        return {}
    return {
        name: round(exact_percentile(values, share), 1) for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))
    }


def percentile_text(found: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.1f}" for name, value in found.items()) or "-"
