"""Leaving a failing address alone, and not repeating too much: two small counters, no clock of their own."""

from __future__ import annotations


class Breaker:
    """After `FAILURES` failures in a row an address is left alone; then one request tries it, and the pause doubles."""

    FAILURES = 5
    FIRST_PAUSE_S = 0.5
    LONGEST_PAUSE_S = 4.0

    def __init__(self) -> None:
        self._failures = 0
        self._pause_s = self.FIRST_PAUSE_S
        self.closed_until = 0.0
        """While open nothing goes out before then."""

    def admits(self, now: float) -> bool:
        """Whether a request may go out at `now`, in seconds of the edge's clock."""
        return self._failures < self.FAILURES or now >= self.closed_until

    def began(self, now: float) -> None:
        """A request goes out. While open, it is the trial that nobody joins before the pause is over again."""
        if self._failures >= self.FAILURES:
            self.closed_until = now + self._pause_s

    def called_off(self, until: float) -> None:
        """A request that `began`, which left `closed_until` as `until`, did not go out after all. If it was the trial,
        the next one is."""
        if until == self.closed_until:
            self.closed_until = 0.0

    def succeeded(self) -> None:
        self._failures = 0
        self._pause_s = self.FIRST_PAUSE_S

    def failed(self, now: float) -> None:
        self._failures += 1
        if self._failures == self.FAILURES:
            self.closed_until = now + self._pause_s
        elif self._failures > self.FAILURES:
            self._pause_s = min(self._pause_s * 2, self.LONGEST_PAUSE_S)
            self.closed_until = now + self._pause_s

    @property
    def is_open(self) -> bool:
        return self._failures >= self.FAILURES


class RetryBudget:
    """Requests that may be sent again: one for every ten that were sent, saved up to `MOST`.

    A failing origin then gets a tenth more work, never twice as much. One in `FLOOR_EVERY_S` is always allowed, so that
    an edge with few visitors can repeat something, too.
    """

    SHARE = 0.1
    MOST = 10.0
    FIRST = 3.0
    FLOOR_EVERY_S = 5.0

    def __init__(self) -> None:
        self._saved = self.FIRST
        self._floor_at = float("-inf")
        self.used = 0
        """Requests sent again."""
        self.refused = 0
        """Requests that might have been sent again, and were not for want of budget."""

    def request(self) -> None:
        """A request was sent for the first time."""
        if self._saved < self.MOST:
            self._saved += self.SHARE

    def take(self, now: float) -> bool:
        """Whether one may be sent again at `now`, in seconds of the edge's clock; counts it."""
        if self._saved >= 1.0:
            self._saved -= 1.0
        elif now - self._floor_at >= self.FLOOR_EVERY_S:
            self._floor_at = now
        else:
            self.refused += 1
            return False
        self.used += 1
        return True
