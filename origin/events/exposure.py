"""What the loss of the primary would lose now: what it has on disk and no standby that may be promoted has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from origin.events.live import View

MOST_SAMPLES = 1_000


class Exposure:
    """Fed with every view of an observer. What it has seen of one primary says nothing about the next."""

    def __init__(self, standbys: Sequence[str] = ()) -> None:
        """`standbys`: names of those that may be promoted; none: all that stream."""
        self._promotable = tuple(standbys)
        self._instance: str | None = None
        self._flushed = 0
        self._safe = 0
        self._samples: list[tuple[int, float]] = []
        """How far the primary was at what time, for what is not safe yet; oldest first."""
        self.standbys = 0
        """How many stream that may be promoted."""

    def see(self, view: View, now: float) -> None:
        """Take note of `view`, read at `now`."""
        standbys = [each for each in view.standbys if not self._promotable or each.name in self._promotable]
        if view.instance != self._instance:
            # Without a standby there is no telling what was safe before: counted from here on.
            self._instance, self._flushed, self._safe = view.instance, view.flushed, view.flushed
            self._samples = []
            if standbys:
                self._safe = 0
                self._samples = [(view.flushed, now)]
        self.standbys = len(standbys)
        self._safe = max([self._safe, *(each.flushed for each in standbys if each.flushed is not None)])
        if view.flushed > self._flushed:
            self._flushed = view.flushed
            self._samples.append((view.flushed, now))
        self._samples = [sample for sample in self._samples if sample[0] > self._safe]
        if len(self._samples) > MOST_SAMPLES:
            pairs = zip(self._samples[::2], self._samples[1::2], strict=False)
            odd = self._samples[-1:] if len(self._samples) % 2 else []
            # The farther of both with the time of the earlier: never less than it was.
            self._samples = [(later[0], earlier[1]) for earlier, later in pairs] + odd

    @property
    def unsafe_bytes(self) -> int:
        """Bytes of the log that no standby which may be promoted has on disk."""
        return max(0, self._flushed - self._safe)

    def unsafe_s(self, now: float) -> float:
        """For how long the oldest of them has been there, in seconds; 0 when there are none."""
        return max(0.0, now - self._samples[0][1]) if self._samples else 0.0
