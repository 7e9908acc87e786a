"""Percentiles of what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """p50, p99 and max, to a tenth; empty for nothing."""
    if not values:
        return {}
    ordered = sorted(values)
    last = len(ordered) - 1
    return {
        "p50": round(ordered[round(last * 0.5)], 1),
        "p99": round(ordered[round(last * 0.99)], 1),
        "max": round(ordered[last], 1),
    }


def percentile_text(found: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.1f}" for name, value in found.items()) or "-"
