"""Floors and Lease: the two values in the core that change (docs/freshness.md)."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple, Protocol

from cache_policies.positions import ZERO, Position, PurgeEntry, PurgeKind
from cache_policies.tags import EVERYTHING

MAX_FLOORS = 200_000
"""Tags with a floor of their own at the most (about 30 MB); beyond it the oldest half is forgotten into `*`."""
MAX_FORKS = 16
"""Ends of histories that are remembered; beyond it the oldest is forgotten into `*`."""


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
    """Below a hard floor, or of a history that no longer exists: never served again."""


class Fork(NamedTuple):
    """Two positions that follow each other in the log though an epoch ended between them."""

    shared: Position
    """The last that the new primary inherited."""
    began: Position
    """The first of its own."""

    def lost(self, position: Position) -> bool:
        """Whether `position` is of a history that this log left: no database has it any more."""
        return self.shared < position < self.began


class Floors:
    """Per tag, the highest position purged: what is older than its floor is not servable.

    `sequence` changes whenever any floor moves, so that one comparison tells that nothing was purged
    since a response was last found current. Raising is O(tags named), whatever the store holds.

    Where the database failed over, what the old primary had beyond the fork is a ghost: purged whatever its tags, and
    for good (rule 8). `forks` are those that are known, in the order of the log.
    """

    __slots__ = (
        "_epoch_began",
        "_everything_hard",
        "_everything_soft",
        "_hard",
        "_soft",
        "forks",
        "max_floors",
        "sequence",
    )

    def __init__(self, *, max_floors: int = MAX_FLOORS) -> None:
        self._hard: dict[str, Position] = {}
        self._soft: dict[str, Position] = {}
        self._everything_hard = ZERO
        self._everything_soft = ZERO
        self._epoch_began = ZERO
        self.forks: tuple[Fork, ...] = ()
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
        """Raise the floors of the entry's tags to its position. Applying twice changes nothing. Not for one that begins
        an epoch: `begin_epoch`."""
        assert entry.kind is not PurgeKind.EPOCH
        self.raise_to(entry.position, entry.tags, entry.kind)

    def begin_epoch(self, began: Position, shared: Position) -> None:
        """An epoch begins at `began`; `shared`, the position before it, is the last of the history that goes on.

        Responses beyond `shared` are ghosts from here on. Floors beyond it are lowered to it: what raised them has not
        happened. O(tags named by what is lost).
        """
        assert began.epoch > shared.epoch
        for floors in (self._hard, self._soft):
            # The newest are last. One that rose out of turn might stay too high, which is safe.
            for tag in reversed(floors):
                if floors[tag] <= shared:
                    break
                floors[tag] = shared
        self._everything_hard = min(self._everything_hard, shared)
        self._everything_soft = min(self._everything_soft, shared)
        self._epoch_began = began
        # Of what was gone back from, a fork may have been a part.
        kept = [fork for fork in self.forks if fork.began <= shared]
        self.forks = (*kept, Fork(shared, began))
        self.sequence += 1
        if len(self.forks) > MAX_FORKS:
            oldest, *rest = self.forks
            self.forks = tuple(rest)
            self.raise_to(oldest.began, (EVERYTHING,))

    def is_ghost(self, position: Position) -> bool:
        """Whether it is of a history that no longer exists."""
        return any(fork.lost(position) for fork in self.forks)

    def has_ended(self, position: Position) -> bool:
        """Whether its epoch is known to be over: no database that may be asked answers with it any more."""
        return position.epoch < max(self._epoch_began.epoch, self._everything_hard.epoch)

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
        """The highest hard floor among `tags` and `*`. Ghosts are below none: ask `judge`."""
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
        """What a fill asks for: hard and soft alike, or a refresh after a soft purge would fetch the old copy; and the
        epoch that is known, so that no server which was left behind can answer."""
        known = tuple(tags)
        return max(self.hard_floor(known), self.soft_floor(known), self._epoch_began)

    def purging_tag(self, labelled: Labelled) -> str:
        """The tag whose purge took `labelled` away; of several the one that was purged last, and of those that were
        purged together the first by name. Empty: none did."""
        floor, found = labelled.position, ""
        for floors in (self._hard, self._soft):
            for tag in labelled.tags:
                raised = floors.get(tag, ZERO)
                if raised > floor or (raised == floor and found and tag < found):
                    floor, found = raised, tag
        return EVERYTHING if max(self._everything_hard, self._everything_soft) > floor else found

    def judge(self, labelled: Labelled) -> Verdict:
        """Whether a response of this position and these tags may still be served (rule 2)."""
        position = labelled.position
        if position < self.hard_floor(labelled.tags) or (position < self._epoch_began and self.is_ghost(position)):
            return Verdict.PURGED
        if position < self.soft_floor(labelled.tags):
            return Verdict.STALE_ONLY
        return Verdict.CURRENT

    def judge_answer(self, labelled: Labelled) -> Verdict:
        """The same for what an origin answers to a fill: of an epoch that has ended nothing is taken (rule 8)."""
        return Verdict.PURGED if self.has_ended(labelled.position) else self.judge(labelled)


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
