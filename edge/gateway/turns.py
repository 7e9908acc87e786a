"""A fill's turn at its origin: how urgent it is, and which origin has a place for it.

What a purge took away is asked for hottest first, and no tag's purge takes the whole origin (`origin/line.py`). A
refresh behind viewers' backs waits behind everything else, until a viewer comes who has nothing without it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from edge.core.floors import Floors, Verdict
from edge.core.residency import Placed
from edge.gateway.counters import Counters
from edge.gateway.flights import Fate
from edge.gateway.landings import Errand
from edge.gateway.origin import OriginError, Rank, Turn
from edge.gateway.origin.pool import OriginPool
from edge.gateway.origins import OriginPools


class Turns:
    """`clock` gives seconds of the edge's clock; who got no place is counted in `counters`."""

    def __init__(self, origins: OriginPools, floors: Floors, counters: Counters, clock: Callable[[], float]) -> None:
        self._origins = origins
        self._floors = floors
        self._counters = counters
        self._clock = clock

    async def turn(self, errand: Errand, fate: Fate) -> tuple[Turn, Errand]:
        """A place at the origin for this fill, and the errand as it is to be done: by the second origin, where there is
        one and the first has no place for it. Raises OriginError."""
        pool, target, began_at = self._origins.pool(errand.placed.origin), errand.request.path, self._clock()
        try:
            turn = pool.turn_at_once(target, self._rank(errand, fate))
            if turn is None:
                fate.queued()
                try:
                    turn = await self._in_line(pool, errand, fate)
                finally:
                    fate.asked()
        except OriginError as exc:
            self._counters.failed(errand.match.policy.id, exc, self._clock() - began_at)
            if errand.placed.fail_over is None:
                raise
            self._origins.failed_over += 1
            return await self.turn(replace(errand, placed=Placed(errand.placed.fail_over)), fate)
        return turn, errand

    async def _in_line(self, pool: OriginPool, errand: Errand, fate: Fate) -> Turn:
        """When it is its turn. Raises OriginError."""
        target, rank = errand.request.path, self._rank(errand, fate)
        if not rank.patient:
            return await pool.turn(target, rank)
        waiting = asyncio.create_task(pool.turn(target, rank))
        either: list[asyncio.Future[Any]] = [waiting, fate.wanted]
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
            await asyncio.wait([waiting])
        if not waiting.cancelled():
            return waiting.result()
        # From here on it stands where it would if that viewer had sent it, and waits as long.
        return await pool.turn(target, self._rank(errand, fate))

    def _rank(self, errand: Errand, fate: Fate) -> Rank:
        """How urgent this fill is: by how often what it is to replace was asked for since that was stored."""
        old = errand.validate
        if old is None:
            return Rank()
        verdict = self._floors.judge(old)
        tag = "" if verdict is Verdict.CURRENT else self._floors.purging_tag(old)
        patient = not fate.wanted.done() and verdict is not Verdict.PURGED
        return Rank(tag, old.hits, patient, spare=patient or errand.stood_in)
