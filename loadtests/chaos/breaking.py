"""Carries out episodes: breaks, mends, waits until the shop is whole, and sees how soon every worker is up to date."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from cache_policies.positions import Position
from loadtests.chaos.history import Broken, Event, Looked, Mended, NotBroken, Repaired
from loadtests.chaos.schedule import Episode, Fault
from loadtests.chaos.shop import Shop, Workers
from loadtests.faults import FaultsUnavailable

LOOK_FOR_REPAIR_S = 20.0
"""How long a worker is watched that does not know everything: far longer than it may take."""
STEADY_WITHIN_S = 10.0
"""After the very end: everything is as before."""


class Breaking:
    """`note` writes events, `head` is the highest position that was confirmed, `began_at` the session's second 0."""

    def __init__(
        self,
        shop: Shop,
        workers: Workers,
        *,
        note: Callable[[Event], None],
        head: Callable[[], Position],
        began_at: float,
    ) -> None:
        self._shop = shop
        self._workers = workers
        self._note = note
        self._head = head
        self._began_at = began_at
        self._numbers = 0
        self.made = 0
        """Faults that were made."""

    async def play(self, episode: Episode) -> None:
        """All of an episode, to the repair after it. Raises FaultsUnavailable where the shop cannot be mended."""
        ends = await asyncio.gather(*(self._one(fault) for fault in episode.faults))
        started_at, wrong = await self._shop.until_whole()
        if wrong:
            await self._shop.insist({"do": "heal"})
            started_at, wrong = await self._shop.until_whole()
        if wrong:
            raise FaultsUnavailable(f"after episode {episode.number} the shop is not whole again: {wrong}")
        made = [end for end in ends if end is not None]
        if not made:
            return
        # A killed process ends its fault by running again.
        ended_at = max((mended_at for _, mended_at in made), default=0.0)
        if any(fault.mends is None for fault in episode.faults):
            ended_at = max(ended_at, started_at)
        for number, _ in made:
            self._note(Mended(ended_at - self._began_at, number))
        await self.repaired(episode.number, ended_at)

    async def repaired(self, episode: int, since: float) -> None:
        """Note how soon after `since` each worker knew everything that had been confirmed until now."""
        times = await self._workers.until_they_know(self._head(), since, LOOK_FOR_REPAIR_S)
        for worker, seconds in times.items():
            self._note(Repaired(self._now(), episode, worker, seconds))

    async def end(self) -> None:
        """Heal everything, and look whether everything is as before."""
        await self._shop.insist({"do": "heal"})
        healed_at = time.monotonic()
        _, wrong = await self._shop.until_whole()
        self._note(Looked(self._now(), "processes, faults and replication", wrong))
        times = await self._workers.until_they_know(self._head(), healed_at, STEADY_WITHIN_S)
        late = [worker for worker, seconds in times.items() if seconds is None]
        self._note(Looked(self._now(), "edge workers", f"{', '.join(late)} did not catch up" if late else ""))

    async def _one(self, fault: Fault) -> tuple[int, float] | None:
        """The fault's number and when it was mended (time.monotonic()); None: it was not made."""
        await asyncio.sleep(fault.begins_s)
        self._numbers += 1
        number = self._numbers
        words = " ".join(str(value) for value in fault.breaks.values())
        # Noted first: what it does may be seen before the shop says that it is done.
        self._note(Broken(self._now(), number, fault.kind, words))
        mends = fault.mends
        try:
            # Who is the primary may be another when it is to be mended.
            breaks, mends = await self._shop.by_name(fault.breaks, fault.mends)
            await self._shop.tell(breaks)
        except FaultsUnavailable as exc:
            self._note(NotBroken(self._now(), number, fault.kind, str(exc)))
            if mends is not None:
                # It may have been made all the same.
                await self._shop.insist(mends)
            self._note(Mended(self._now(), number))
            return None
        self.made += 1
        if mends is not None:
            await asyncio.sleep(fault.lasts_s)
            await self._shop.insist(mends)
        return number, time.monotonic()

    def _now(self) -> float:
        return time.monotonic() - self._began_at
