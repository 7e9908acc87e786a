"""Who waits for a place at an origin, and whose turn it is: hottest first, and so many at the most for each tag.

After a purge of a hot tag thousands of keys are asked for at once. What is asked for most is fetched first, since most
viewers wait for it; what has something to show meanwhile comes last; and what one tag's purge took away has only part
of the origin, so that it holds up nothing else.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from heapq import heapify, heappop, heappush

from edge.gateway.origin.address import Address

SPARE_GONE = 64
"""How many of those who left may still stand in the line, beyond as many as wait, before it is tidied up."""


@dataclass(frozen=True, slots=True)
class Rank:
    """How urgent a request is."""

    tag: str = ""
    """Whose purge took away what it is to bring; empty: it counts under no tag."""
    heat: int = 0
    """How often what it replaces was asked for."""
    patient: bool = False
    """Nobody waits for it: something is shown meanwhile."""
    spare: bool = False
    """It gives way while an origin that was away is asked at its old pace (`pace.py`)."""


EQUAL = Rank()
"""Of whatever is not a fill after a purge: first come, first served."""


class Waiting:
    """One request in the line. `place` gets the address that has one, or None when it is not to wait on."""

    __slots__ = ("_key", "gone", "place", "rank")

    def __init__(self, rank: Rank, number: int, place: asyncio.Future[Address | None]) -> None:
        self.rank = rank
        self.place = place
        self.gone = False
        self._key = (rank.patient, -rank.heat, number)

    def __lt__(self, other: Waiting) -> bool:
        return self._key < other._key


class Line:
    """The line of one origin. `tag_connections`: under way for one tag, at the most.

    Who may not go for its tag's sake is put aside until one of that tag has ended, so that finding whose turn it is
    costs no more than the logarithm of how many wait.
    """

    def __init__(self, tag_connections: int) -> None:
        self.tag_connections = tag_connections
        self._ready: list[Waiting] = []
        self._aside: dict[str, list[Waiting]] = {}
        self._under_way: Counter[str] = Counter()
        self._count = 0
        self._standing = 0
        """Those in `_ready` and `_aside`, the gone included."""
        self._joined = 0

    def __len__(self) -> int:
        """How many wait."""
        return self._count

    def __bool__(self) -> bool:
        """Never empty: with nobody waiting it is a line all the same."""
        return True

    # -- tags ----------------------------------------------------------------------------------------------------------

    def has_room(self, tag: str) -> bool:
        """Whether one more may go under `tag`."""
        return not tag or self._under_way[tag] < self.tag_connections

    def began(self, tag: str) -> None:
        """One is under way under `tag`, until `ended`."""
        if tag:
            self._under_way[tag] += 1

    def ended(self, tag: str) -> None:
        """One of those has ended."""
        if not tag:
            return
        self._under_way[tag] -= 1
        if not self._under_way[tag]:
            del self._under_way[tag]
        self._back(tag)

    # -- the line ------------------------------------------------------------------------------------------------------

    def join(self, rank: Rank) -> Waiting:
        """Wait for a turn."""
        self._joined += 1
        waiting = Waiting(rank, self._joined, asyncio.get_running_loop().create_future())
        heappush(self._ready, waiting)
        self._count += 1
        self._standing += 1
        return waiting

    def leave(self, waiting: Waiting) -> None:
        """It waits no more; it may have left before."""
        if waiting.gone:
            return
        waiting.gone = True
        self._count -= 1
        if self._standing > 2 * self._count + SPARE_GONE:
            self._tidy()

    def first(self) -> Waiting | None:
        """Whose turn it is; None: nobody waits who may go. It stays in the line until it leaves."""
        ready = self._ready
        while ready:
            waiting = ready[0]
            tag = waiting.rank.tag
            if waiting.gone:
                heappop(ready)
                self._standing -= 1
                # It may have been the one that stood here for all who were put aside.
                self._back(tag)
            elif self.has_room(tag):
                return waiting
            else:
                heappush(self._aside.setdefault(tag, []), heappop(ready))
        return None

    def clear(self) -> list[Waiting]:
        """Everybody who waits, put aside or not; nobody does any more."""
        everybody = [self._ready, *self._aside.values()]
        left = sorted([waiting for some in everybody for waiting in some if not waiting.gone])
        for waiting in left:
            waiting.gone = True
        self._ready = []
        self._aside.clear()
        self._count = self._standing = 0
        return left

    def _back(self, tag: str) -> None:
        """The most urgent of those who were put aside for `tag` stands in line again."""
        aside = self._aside.get(tag)
        if aside is None:
            return
        while aside:
            waiting = heappop(aside)
            if not waiting.gone:
                heappush(self._ready, waiting)
                break
            self._standing -= 1
        if not aside:
            del self._aside[tag]

    def _tidy(self) -> None:
        """Without those who left, and with nobody put aside: whoever may not go is put aside again by `first`."""
        everybody = [self._ready, *self._aside.values()]
        self._ready = [waiting for some in everybody for waiting in some if not waiting.gone]
        heapify(self._ready)
        self._aside.clear()
        self._standing = len(self._ready)
