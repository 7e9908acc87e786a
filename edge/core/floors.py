"""Floors and Lease: the two values in the core that change (docs/freshness.md)."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Protocol

from cache_policies.positions import ZERO, Position, PurgeEntry, PurgeKind
from cache_policies.tags import EVERYTHING

MAX_FLOORS = 200_000
"""Tags with a floor of their own at the most (about 30 MB); beyond it the oldest half is forgotten into `*`."""


class Labelled(Protocol):
    """What can be held against the floors: a stored response, or the answer of a fill."""

    @property
    def position(self) -> Position: ...

    @property
    def tags(self) -> tuple[str, ...]: ...


class Verdict(Enum):
    """How the floors see a labelled response."""

    CURRENT = "current"
    STALE_ONLY = "stale_only"
    """Below a soft floor: servable as stale, never as fresh."""
    PURGED = "purged"
    """Below a hard floor: never served again."""


class Floors:
    """Per tag, the highest position purged: what is older than its floor is not servable.

    `sequence` changes whenever any floor rises, so that one comparison tells that nothing was purged
    since a response was last found current. Raising is O(tags named), whatever the store holds.
    """

    __slots__ = ("_everything_hard", "_everything_soft", "_hard", "_soft", "max_floors", "sequence")

    def __init__(self, *, max_floors: int = MAX_FLOORS) -> None:
        self._hard: dict[str, Position] = {}
        self._soft: dict[str, Position] = {}
        self._everything_hard = ZERO
        self._everything_soft = ZERO
        self.max_floors = max_floors
        self.sequence = 0

    @property
    def everything(self) -> Position:
        """The hard floor of `*`."""
        return self._everything_hard

    def __len__(self) -> int:
        """How many floors tags have of their own, `*` left out."""
        return len(self._hard) + len(self._soft)

    def __bool__(self) -> bool:
        """Never empty: with no tag of its own left, `*` may still be raised."""
        return True

    def apply(self, entry: PurgeEntry) -> None:
        """Raise the floors of the entry's tags to its position. Applying twice changes nothing."""
        self.raise_to(entry.position, entry.tags, entry.kind)

    def raise_to(self, position: Position, tags: Iterable[str], kind: PurgeKind = PurgeKind.HARD) -> None:
        floors = self._hard if kind is PurgeKind.HARD else self._soft
        for tag in tags:
            if tag == EVERYTHING:
                if kind is PurgeKind.HARD:
                    self._everything_hard = max(self._everything_hard, position)
                else:
                    self._everything_soft = max(self._everything_soft, position)
            elif floors.get(tag, ZERO) < position:
                # Re-inserted at the end: the dictionary stays ordered by when a floor last rose.
                floors.pop(tag, None)
                floors[tag] = position
        self.sequence += 1
        if len(floors) > self.max_floors:
            self._forget(kind)

    def _forget(self, kind: PurgeKind) -> None:
        """Forgetting a floor raises `*` to it: purges too much, never too little."""
        floors = self._hard if kind is PurgeKind.HARD else self._soft
        dropped = [(tag, floors.pop(tag)) for tag in list(floors)[: len(floors) // 2]]
        self.raise_to(max(position for _, position in dropped), (EVERYTHING,), kind)

    def hard_floor(self, tags: Iterable[str]) -> Position:
        """The highest hard floor among `tags` and `*`."""
        floor = self._everything_hard
        for tag in tags:
            found = self._hard.get(tag)
            if found is not None and found > floor:
                floor = found
        return floor

    def soft_floor(self, tags: Iterable[str]) -> Position:
        """The highest soft floor among `tags` and `*`."""
        floor = self._everything_soft
        for tag in tags:
            found = self._soft.get(tag)
            if found is not None and found > floor:
                floor = found
        return floor

    def refill_floor(self, tags: Iterable[str]) -> Position:
        """What a fill asks for: hard and soft alike, or a refresh after a soft purge would fetch the old copy."""
        known = tuple(tags)
        return max(self.hard_floor(known), self.soft_floor(known))

    def judge(self, labelled: Labelled) -> Verdict:
        """Whether a response of this position and these tags may still be served (rule 2)."""
        if labelled.position < self.hard_floor(labelled.tags):
            return Verdict.PURGED
        if labelled.position < self.soft_floor(labelled.tags):
            return Verdict.STALE_ONLY
        return Verdict.CURRENT


class Lease:
    """How long this worker may call anything fresh (rule 5). Times are seconds of the edge's clock."""

    __slots__ = ("length_s", "until")

    def __init__(self, length_s: float) -> None:
        self.length_s = length_s
        self.until = float("-inf")
        """Nothing is fresh from this moment on."""

    def renew(self, asked_at: float) -> None:
        """Count from when the question was *sent*: its answer vouches for no later moment."""
        self.until = max(self.until, asked_at + self.length_s)

    def held(self, now: float) -> bool:
        return now < self.until

    def give_up(self) -> None:
        """Nothing is fresh any more: this worker is stopping, or no longer trusts what it applied."""
        self.until = float("-inf")
