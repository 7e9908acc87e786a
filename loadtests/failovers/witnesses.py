"""Who is in the shop while its primary is lost: readers of pages, readers of prices, and staff who change prices."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from cache_policies.positions import Position
from loadtests import people
from loadtests.http1 import Answer, Connection, NoAnswer
from loadtests.oracle import PriceKey
from loadtests.staff import StaffApi, StaffError, change_price

RECONNECT_AFTER = 40
"""Requests on one connection; the next connection may land on the edge's other worker."""
AGAIN_S = 0.02
"""Pause after a change that was refused: how exactly is known when changes are taken again."""
NEXT_S = 0.15
"""Pause after one that was taken: a run of an hour is not to end with an hour of looking at every change."""
TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class Write:
    """One change of a price: when it was asked for and answered, by time.monotonic()."""

    key: PriceKey
    amount: int
    """Minor units."""
    text: str
    """The amount as it was sent."""
    begun_at: float
    ended_at: float
    position: str | None
    """Where it was acknowledged; None: it was not."""
    status: int | None
    """What it was answered; None: nothing."""
    given_up: bool = False
    """Made while the shop was told to acknowledge what only its primary has: it may be lost."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer that is not what was asked for."""

    at: float
    edge: str
    target: str
    status: int
    retry_after: bool


def refused_s(refused: Iterable[Refusal]) -> float:
    """From the first refusal to the last, at the edge where that is longest, seconds."""
    times: dict[str, list[float]] = {}
    for each in refused:
        times.setdefault(each.edge, []).append(each.at)
    return max((max(these) - min(these) for these in times.values()), default=0.0)


@dataclass(slots=True)
class Seen:
    """What readers of one kind were answered."""

    answers: int = 0
    by_status: Counter[str] = field(default_factory=Counter)
    refused: list[Refusal] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    """Without any answer."""

    def note(self, edge: str, target: str, answer: Answer) -> None:
        self.answers += 1
        self.by_status[str(answer.status)] += 1
        # Nobody names an ETag: a 304 would be none of what was asked for either.
        if answer.status != 200:
            refusal = Refusal(answer.received_at, edge, target, answer.status, "retry-after" in answer.headers)
            self.refused.append(refusal)


class Shoppers:
    """Look at the same addresses through every edge, without end."""

    def __init__(self, edges: Mapping[str, str], targets: Sequence[str], rate: float, seed: str) -> None:
        """`rate`: requests a second, of all edges together."""
        self.seen = Seen()
        self._edges = edges
        self._targets = targets
        self._pause_s = len(edges) / rate
        self._seed = seed

    async def warm_up(self) -> None:
        """Have each worker of each edge hold all of it: each address asked for on several connections."""
        for url in self._edges.values():
            for _ in range(4):
                async with Connection(url, timeout_s=TIMEOUT_S) as connection:
                    for target in self._targets:
                        await connection.request("GET", target, {"Accept": "*/*"})

    async def run(self) -> None:
        await asyncio.gather(*(self._read(edge, url) for edge, url in self._edges.items()))

    async def _read(self, edge: str, url: str) -> None:
        rng = random.Random(f"{self._seed} {edge}")
        while True:
            async with Connection(url, timeout_s=TIMEOUT_S) as connection:
                for _ in range(RECONNECT_AFTER):
                    target = rng.choice(self._targets)
                    try:
                        answer = await connection.request("GET", target, {"Accept": "*/*"})
                    except NoAnswer as exc:
                        self.seen.failed.append(f"{edge} {target}: {exc}")
                        await asyncio.sleep(0.05)
                        break
                    self.seen.note(edge, target, answer)
                    await asyncio.sleep(rng.uniform(0.5, 1.5) * self._pause_s)


class Merchandisers:
    """Change prices one after the other, each their own, and remember what became of every change."""

    def __init__(self, staff: StaffApi, keys: Sequence[PriceKey], digits: Mapping[str, int], seed: str) -> None:
        """`digits`: after the point, of the currency of each market."""
        self.writes: list[Write] = []
        self.may = asyncio.Event()
        """Cleared while nobody is to change anything."""
        self.may.set()
        self.giving_up = False
        """What is acknowledged now may be lost."""
        self._staff = staff
        self._keys = keys
        self._digits = digits
        self._seed = seed
        self._next = 1_000
        self._under_way = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._news = asyncio.Event()

    async def run(self, count: int) -> None:
        """`count` of them."""
        await asyncio.gather(*(self._work(number, self._keys[number::count]) for number in range(count)))

    async def rest(self) -> None:
        """Begin no change from now on; returns when none is under way."""
        self.may.clear()
        await self._idle.wait()

    async def _work(self, number: int, keys: Sequence[PriceKey]) -> None:
        rng = random.Random(f"{self._seed} {number}")
        while True:
            async with self._staff.session() as session:
                for _ in range(RECONNECT_AFTER):
                    await self.may.wait()
                    key = rng.choice(keys)
                    # Never the same twice: an amount tells which change it is of.
                    self._next += 1
                    amount = self._next
                    text = people.amount_text(amount, self._digits[key.market])
                    self._under_way += 1
                    self._idle.clear()
                    begun_at = time.monotonic()
                    position: str | None = None
                    status: int | None = 200
                    try:
                        answer = await session.ask(change_price(key, text, reason="failover"))
                        position = str(answer["position"])
                    except StaffError as exc:
                        status = exc.status
                    finally:
                        self._under_way -= 1
                        if not self._under_way:
                            self._idle.set()
                    ended_at = time.monotonic()
                    write = Write(key, amount, text, begun_at, ended_at, position, status, self.giving_up)
                    self.writes.append(write)
                    news, self._news = self._news, asyncio.Event()
                    news.set()
                    if position is None:
                        await asyncio.sleep(AGAIN_S)
                        break
                    await asyncio.sleep(NEXT_S)

    def acknowledged(self) -> list[Write]:
        """Those that may not be lost."""
        return [write for write in self.writes if write.position is not None and not write.given_up]

    def doubtful(self) -> set[tuple[PriceKey, int]]:
        """Prices that were never acknowledged, or may be lost again: an edge that shows one shows the truth, or a
        ghost."""
        return {(write.key, write.amount) for write in self.writes if write.position is None or write.given_up}

    def head(self) -> Position | None:
        """The highest position at which a change was acknowledged, lost or not."""
        return max((Position.parse(write.position) for write in self.writes if write.position), default=None)

    async def back_at(self, since: float, epoch: int, within_s: float) -> float | None:
        """When a change that was asked for after `since` was acknowledged first, in a later epoch than `epoch`; None:
        not `within_s` from then.

        A primary whose first process was killed may go on for a moment: what it acknowledges is of its own epoch.
        """
        try:
            async with asyncio.timeout_at(asyncio.get_running_loop().time() + since + within_s - time.monotonic()):
                while True:
                    taken = [
                        write.ended_at
                        for write in self.writes
                        if write.begun_at >= since and write.position and Position.parse(write.position).epoch > epoch
                    ]
                    if taken:
                        return min(taken)
                    await self._news.wait()
        except TimeoutError:
            return None
