"""A clock that is turned by hand."""

from __future__ import annotations


class ManualClock:
    """Call it for the time in seconds; `advance` moves it. Starts high, so that durations cannot pass for times."""

    def __init__(self, start: float = 10_000.0) -> None:
        self.time = start

    def __call__(self) -> float:
        return self.time

    def advance(self, seconds: float) -> None:
        assert seconds >= 0, "this clock does not step back"
        self.time += seconds
