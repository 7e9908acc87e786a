"""The edge's one clock (decisions/0002-one-clock.md). Not for the core, which is told the time."""

from __future__ import annotations

import time

from cache_policies.clock import now

__all__ = ["now", "wall"]


def wall() -> float:
    """Seconds since the epoch: only for Date, apparent age, hard ends and log lines."""
    return time.time()
