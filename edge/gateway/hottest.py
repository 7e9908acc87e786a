"""After a purge: what is asked for most is fetched anew before anybody has to wait for it.

A purge is O(tags), and nobody knows which responses it took away (docs/freshness.md, rule 9). So the store is looked
through once for all purges of the last moment, in short runs between which requests are answered, and those of the
purged responses that were asked for most are refreshed, hottest first and a few at a time. They wait for their turn at
the origin like any other fill, and a viewer who comes meanwhile joins them.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator, Sequence
from heapq import nlargest
from operator import attrgetter
from typing import Protocol

from cache_policies.market_values import UNKNOWN_COUNTRY
from cache_policies.positions import Position
from edge.core.floors import Floors, Lease, Verdict
from edge.core.http import Headers, Request
from edge.core.key import CacheKey, query_text
from edge.core.policy import Auth, PolicySet, Residency
from edge.core.residency import Unplaced, place
from edge.core.stored import StoredResponse
from edge.gateway.flights import Flights
from edge.gateway.landings import Errand

LOOK_EVERY_S = 0.25
"""How often it is looked whether anything was purged; half as long to half as long again, so that the workers of an
edge do not all ask for the same in the same moment: what one of them has stored the others need not fetch."""
HOT_HITS = 10
"""A response that was asked for less often since it was stored can wait for its next viewer."""
AT_ONCE = 8
"""Refreshed at a time: the origin has others to answer."""
KEYS_PER_RUN = 200
"""Looked at in one go: some 0.05 ms."""
MOST_KEYS = 200_000
"""In a larger store nothing is looked for: a list of its keys alone would keep a viewer waiting."""


class Walked(Protocol):
    """The part of a store that is looked through."""

    def keys(self) -> Sequence[CacheKey]: ...

    def peek(self, key: CacheKey) -> tuple[StoredResponse, ...]: ...

    def __len__(self) -> int: ...


class Hottest:
    """One worker's. `policies` gives those in force, `applied` the position this worker has applied, `clock` seconds of
    the edge's clock; `most`: responses refreshed after one look, at the most."""

    def __init__(
        self,
        store: Walked,
        floors: Floors,
        lease: Lease,
        flights: Flights,
        *,
        policies: Callable[[], PolicySet],
        applied: Callable[[], Position | None],
        clock: Callable[[], float],
        most: int,
    ) -> None:
        self._store = store
        self._floors = floors
        self._lease = lease
        self._flights = flights
        self._policies = policies
        self._applied = applied
        self._clock = clock
        self._most = most
        self._looked_at = floors.sequence
        self.refreshed = 0
        """Responses for which a refresh was sent."""

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S * (0.5 + random.random()))
            if self._looked_at != self._floors.sequence:
                await self.look()

    async def look(self) -> None:
        """Refresh the hottest of what is purged now, and wait until that has landed; or, when something is purged
        meanwhile, what is under way by then: something hotter may have been, and the next look finds the rest too."""
        self._looked_at = self._floors.sequence
        if len(self._store) > MOST_KEYS:
            return
        left = iter(nlargest(self._most, await self._purged(), key=attrgetter("hits")))
        listed_at = self._floors.sequence
        await asyncio.gather(*[self._refresh(left, listed_at) for _ in range(AT_ONCE)])

    async def _purged(self) -> list[StoredResponse]:
        found: list[StoredResponse] = []
        for number, key in enumerate(self._store.keys(), 1):
            if number % KEYS_PER_RUN == 0:
                await asyncio.sleep(0)
            variants = self._store.peek(key)
            found += [stored for stored in variants if stored.hits >= HOT_HITS and self._is_purged(stored)]
        return found

    def _is_purged(self, stored: StoredResponse) -> bool:
        return stored.judged_at != self._floors.sequence and self._floors.judge(stored) is not Verdict.CURRENT

    async def _refresh(self, left: Iterator[StoredResponse], listed_at: int) -> None:
        for stored in left:
            errand = self._errand(stored)
            if errand is not None and await self._flights.refresh(errand):
                self.refreshed += 1
            if self._floors.sequence != listed_at:
                return

    def _errand(self, stored: StoredResponse) -> Errand | None:
        """What would be asked of the origin for a viewer of whom nothing matters; None: somebody was quicker, or what
        the answer is depends on the viewer."""
        key, policies = stored.key, self._policies()
        match = policies.match(key.path)
        policy = match.policy
        if (
            not any(variant is stored for variant in self._store.peek(key))
            or not self._lease.held(self._clock())
            or policy.version != stored.policy_version
            or stored.vary
            or policy.auth is Auth.SHARED
            or "GET" not in policy.methods
            or (policy.residency is not Residency.NONE and not match.market)
        ):
            return None
        placed = place(policy, match.market, UNKNOWN_COUNTRY, policies.markets, policies.origins)
        if isinstance(placed, Unplaced):
            return None
        request = Request("GET", key.authority, key.path, query_text(key), Headers(()))
        return Errand(request, match, key, stored, stored.tags, False, UNKNOWN_COUNTRY, placed, self._applied())
