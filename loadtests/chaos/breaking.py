"""Carries out episodes: breaks, sees that it bites, mends, and sees how soon every worker is up to date again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection
from typing import NamedTuple

from cache_policies.positions import Position
from loadtests.chaos.evidence import Evidence
from loadtests.chaos.history import Broken, Event, Felt, Looked, Mended, NotBroken, Repaired, Used
from loadtests.chaos.schedule import Episode, Fault, Stage
from loadtests.chaos.shop import Shop
from loadtests.faults import FaultsUnavailable

LOOK_FOR_REPAIR_S = 20.0
"""How long a worker is watched that does not know everything: far longer than it may take."""
STEADY_WITHIN_S = 10.0
"""After the very end: everything is as before."""


class _End(NamedTuple):
    """How a fault ended."""

    number: int
    at: float
    """When it had been mended, or the process had been killed (time.monotonic())."""
    killed: frozenset[str]
    """Processes that do not run before they are started again."""


class Breaking:
    """`note` writes events, `head` is the highest position that was confirmed, `began_at` the session's second 0."""

    def __init__(
        self,
        shop: Shop,
        stage: Stage,
        *,
        note: Callable[[Event], None],
        head: Callable[[], Position],
        began_at: float,
    ) -> None:
        self._shop = shop
        self._stage = stage
        self._evidence = Evidence(shop, stage)
        self._workers = shop.workers()
        self._note = note
        self._head = head
        self._began_at = began_at
        self._numbers = 0
        self.felt = 0
        """Faults that bit."""

    async def play(self, episode: Episode) -> None:
        """All of an episode, to the repair after it. Raises FaultsUnavailable where the shop cannot be mended."""
        ends = [end for end in await asyncio.gather(*(self._one(fault) for fault in episode.faults)) if end is not None]
        if ends:
            await self._repaired(episode.number, ends)
        wrong = await self._shop.until_whole()
        if wrong:
            # Everything was mended, one by one: nothing should be left for this.
            self._note(Looked(self._now(), f"the shop after episode {episode.number}", wrong))
            await self._shop.insist({"do": "heal"})
            wrong = await self._shop.until_whole()
        if wrong:
            raise FaultsUnavailable(f"after episode {episode.number} the shop is not whole again: {wrong}")
        await self.measure()

    async def _repaired(self, episode: int, ends: Collection[_End]) -> None:
        """Note how soon each worker knew everything that had been confirmed until the origin could be asked again.

        A worker that cannot ask cannot know; so what it takes until somebody else is answered who asks the origin on
        the same way, be it that a process starts or that a standby is promoted, is measured apart.
        """
        ended_at = max(end.at for end in ends)
        killed = frozenset[str]().union(*(end.killed for end in ends))
        known = await self._workers.until_they_know(self._head, ended_at, killed, LOOK_FOR_REPAIR_S)
        asked_at = max(each.asked_at for each in known.values())
        for end in ends:
            self._note(Mended((asked_at if end.killed else end.at) - self._began_at, end.number))
        for worker, each in known.items():
            in_all_s = (time.monotonic() if each.at is None else each.at) - ended_at
            self._note(Repaired(self._now(), episode, worker, each.seconds, in_all_s, worker in killed))

    async def measure(self) -> None:
        """Note what the shop's processes take of the machine. Raises FaultsUnavailable."""
        for process, memory_bytes, files in await self._shop.used():
            self._note(Used(self._now(), process, memory_bytes, files))

    async def end(self) -> None:
        """Heal everything, and look whether everything is as before."""
        await self._shop.insist({"do": "heal"})
        healed_at = time.monotonic()
        wrong = await self._shop.until_whole()
        self._note(Looked(self._now(), "processes, faults and replication", wrong))
        known = await self._workers.until_they_know(self._head, healed_at, (), STEADY_WITHIN_S)
        late = [worker for worker, each in known.items() if each.seconds is None]
        self._note(Looked(self._now(), "edge workers", f"{', '.join(late)} did not catch up" if late else ""))
        await self.measure()

    async def _one(self, fault: Fault) -> _End | None:
        """None: it was not made."""
        await asyncio.sleep(fault.begins_s)
        self._numbers += 1
        number = self._numbers
        words = " ".join(str(value) for value in fault.breaks.values())
        # Noted first: what it does may be seen before the shop says that it is done.
        self._note(Broken(self._now(), number, fault.kind, words, self._stage.edge_of(fault.breaks)))
        mends = fault.mends
        try:
            # Who is the primary may be another when it is to be mended.
            breaks, mends = await self._shop.by_name(fault.breaks, fault.mends)
            pids = await self._evidence.pids_before(breaks)
            told = await self._shop.tell(breaks)
        except FaultsUnavailable as exc:
            self._note(NotBroken(self._now(), number, fault.kind, str(exc)))
            if mends is not None:
                # It may have been made all the same.
                await self._shop.insist(mends)
            self._note(Mended(self._now(), number))
            return None
        mend_at = time.monotonic() + fault.lasts_s
        seen = await self._evidence.of(breaks, pids, told, mend_at)
        if mends is not None:
            await asyncio.sleep(mend_at - time.monotonic())
            told = await self._shop.insist(mends)
            seen = seen or self._evidence.at_the_end(breaks, told)
        if seen:
            self.felt += 1
            self._note(Felt(self._now(), number, seen))
        return _End(number, time.monotonic(), frozenset(pids) if breaks["do"] == "kill" else frozenset())

    def _now(self) -> float:
        return time.monotonic() - self._began_at
