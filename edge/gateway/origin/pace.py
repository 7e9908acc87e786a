"""How fast an origin that comes back is asked for what can wait: no faster than before it went away.

While it was away nothing was refreshed, so that when it is back everything is due at once. Whatever somebody waits for
is sent as ever, and counts; what has something to show meanwhile gets only what is left of the pace that the origin had
before, until nobody had to wait for a while.
"""

from __future__ import annotations

from collections import deque

SLOT_S = 5.0
SLOTS = 12
"""The pace is the mean of the last minute in which the origin answered."""
FEWEST_SLOTS = 2
"""With less behind it, nobody knows what the pace was."""
LOWEST_PER_S = 0.2
"""However few were asked for before: a backlog has an end."""
SAVED_S = 1.0
"""So much of the pace may be saved up, and sent at once."""
OWED_S = 5.0
"""So much of it may be spent beforehand by what cannot wait; more is forgiven."""
QUIET_S = 10.0
"""When nobody had to wait for so long, the backlog is gone."""
RAISED_EVERY_S = 60.0
RAISE = 1.1
"""The pace rises by a tenth each minute: where more is asked for than before, nothing is held back for ever."""


class Pace:
    """The pace of one origin, as one worker asks it. `now`: seconds of the edge's clock."""

    def __init__(self) -> None:
        self._slots: deque[int] = deque(maxlen=SLOTS)
        self._slot_from: float | None = None
        self._sent = 0
        self.per_s = 0.0
        """While it is kept; 0: everything may be sent."""
        self._saved = 0.0
        self._counted_at = 0.0
        self._raised_at = 0.0
        self._waited_at = 0.0
        self.held_back = 0
        """Requests that were not sent, to keep the pace."""

    @property
    def is_kept(self) -> bool:
        return self.per_s > 0

    def sent(self, now: float, *, allowed: bool = False) -> None:
        """A request is sent. `allowed`: it could have waited, and was allowed to go."""
        if self.is_kept:
            if not allowed:
                self._count(now)
                self._saved = max(self._saved - 1.0, -OWED_S * self.per_s)
            return
        if self._slot_from is None:
            self._slot_from = now
        elif now - self._slot_from >= SLOT_S:
            passed = int((now - self._slot_from) / SLOT_S)
            self._slots.append(self._sent)
            self._slots.extend([0] * min(passed - 1, SLOTS))
            self._slot_from += passed * SLOT_S
            self._sent = 0
        self._sent += 1

    def went_away(self) -> None:
        """The origin does not answer any more: what is being counted is no part of its pace."""
        self._slot_from, self._sent = None, 0

    def came_back(self, now: float) -> None:
        """It answers again: from now on its pace is kept."""
        if len(self._slots) >= FEWEST_SLOTS:
            self.per_s = max(sum(self._slots) / (len(self._slots) * SLOT_S), LOWEST_PER_S)
            self._saved = 0.0
            self._counted_at = self._raised_at = self._waited_at = now

    def allows(self, now: float) -> bool:
        """Whether one that can wait may be sent now."""
        if not self.is_kept:
            return True
        self._count(now)
        if self._saved >= 1.0:
            self._saved -= 1.0
            if now - self._waited_at >= QUIET_S:
                self.per_s = 0.0
            return True
        self._waited_at = now
        self.held_back += 1
        return False

    def not_sent(self) -> None:
        """One that was allowed to go had no need to, or found no place."""
        if self.is_kept:
            self._saved += 1.0

    def _count(self, now: float) -> None:
        self._saved = min(self._saved + (now - self._counted_at) * self.per_s, max(1.0, SAVED_S * self.per_s))
        self._counted_at = now
        if now - self._raised_at >= RAISED_EVERY_S:
            self._raised_at = now
            self.per_s *= RAISE
