"""How late a loop comes round: the pulse of whatever measures, so that its own delays are known."""

from __future__ import annotations

from collections.abc import Callable

from loadtests.recorder.histogram import Histogram

PULSE_S = 0.02
"""How often a loop is to come round."""


class Pulses:
    """Every pulse that was due, with how late it was. Times in seconds since the first one.

    A loop that hangs for a second misses fifty pulses, and all of them count, as requests do: a single long lag would
    be lost among thousands of short ones.
    """

    def __init__(self, counts_at: Callable[[float], bool] = lambda at_s: True) -> None:
        """`counts_at`: whether a pulse that was due then is judged."""
        self.lag = Histogram()
        self.worst_ms: dict[int, float] = {}
        """Second -> the most that a pulse due in it was late."""
        self._counts_at = counts_at
        self._over = 0

    @property
    def next_s(self) -> float:
        """When the next is due: to sleep until then, not for PULSE_S."""
        return self._over * PULSE_S

    def come(self, now_s: float) -> None:
        """The loop has come round."""
        while (due_s := self.next_s) <= now_s:
            late_s = now_s - due_s
            if self._counts_at(due_s):
                self.lag.add(late_s * 1e6)
            second = int(due_s)
            self.worst_ms[second] = max(self.worst_ms.get(second, 0.0), late_s * 1000)
            self._over += 1
