"""The clock that leases are reckoned with, a worker's and a primary's: it counts suspension (docs/freshness.md)."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial

now: Callable[[], float]
if sys.platform == "linux":
    # Asked for every request, and so without a frame of Python around it.
    now = partial(time.clock_gettime, time.CLOCK_BOOTTIME)
    """Seconds since boot, suspension included: never steps, never stands still."""
else:
    now = time.monotonic
    """Seconds of the monotonic clock, which counts suspension on macOS."""
