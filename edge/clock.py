"""The edge's one clock (decisions/0002-one-clock.md). Not for the core, which is told the time."""

from __future__ import annotations

import sys
import time

if sys.platform == "linux":

    def now() -> float:
        """Seconds since boot, suspension included: never steps, never stands still."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

else:

    def now() -> float:
        """Seconds of the monotonic clock, which counts suspension on macOS."""
        return time.monotonic()


def wall() -> float:
    """Seconds since the epoch: only for Date, apparent age, hard ends and log lines."""
    return time.time()
