"""Who waits for what in a run, so that nobody is forgotten."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field


@dataclass(slots=True)
class Waiting:
    """Of everybody who asked for something: since when, until there is an answer."""

    since: dict[int, tuple[str, str, float]] = field(default_factory=dict)
    """Who waits there, for what, and since when."""
    _turn: int = 0

    def begins(self, who: str, what: str, now: float) -> int:
        self._turn += 1
        self.since[self._turn] = (who, what, now)
        return self._turn

    def ends(self, turn: int) -> None:
        self.since.pop(turn, None)

    def forget(self, who: str) -> None:
        """`who` is dead, and with it everybody who waited there."""
        self.since = {turn: each for turn, each in self.since.items() if each[0] != who}

    def are_there(self, places: Collection[str]) -> bool:
        """Whether anybody waits at one of `places`."""
        return any(who in places for who, _, _ in self.since.values())
