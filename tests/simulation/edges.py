"""One edge worker of the simulation: the gateway's own code, joined as `edge/gateway/app.py` joins it.

Parser, exchange, flights, fills, store, floors, lease, follower, siblings, tier and origin client are those of `edge/`.
Watched are what a worker applies and stores, so that the truth can be held against it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Protocol

from cache_policies.feed import LEASE_S, LEAVE_PATH, Answer, Question
from cache_policies.positions import ZERO, Position, PurgeEntry, PurgeKind
from cache_policies.tags import EVERYTHING
from edge.core.floors import Floors, Lease, Verdict
from edge.core.hops import TrustedHops
from edge.core.key import CacheKey
from edge.core.policy import PolicySet
from edge.core.stored import StoredResponse
from edge.gateway.exchange import Exchange
from edge.gateway.fills import Fills
from edge.gateway.flights import Flights
from edge.gateway.hottest import Hottest
from edge.gateway.invalidations import Invalidations, Writes
from edge.gateway.origins import OriginPools
from edge.gateway.record import RecordBook
from edge.gateway.regional import Regional
from edge.gateway.server import GatewayServer
from edge.gateway.visitors import Visitors
from edge.purge.follower import Follower, FollowerLoop, Outcome
from edge.store.memory import MemoryStore
from edge.store.regional import RegionalTier
from edge.store.siblings import Siblings
from tests.simulation.engine.loop import SimLoop
from tests.simulation.engine.network import Network
from tests.simulation.engine.processes import Process
from tests.simulation.promise import Promise, Standing
from tests.simulation.shop import HOST, Lifetimes, shown_in
from tests.simulation.viewers import Said, Viewers
from tests.simulation.waiting import Waiting

FEED = "feed"
LEAVE = LEAVE_PATH
ORIGIN_URL = "http://origin.example:8000"
EDGE_KEY = "the-key-of-every-edge"
GROWING_BYTES = 1_000_000
SWEEP_EVERY_S = 0.5


@dataclass(frozen=True, slots=True)
class EdgeSettings:
    """What edge workers of one run are like."""

    store_bytes: int
    max_floors: int
    regional: bool
    refresh_hottest: int
    """Responses that are refreshed in the background after a purge, at the most; 0: none."""


MEETS = (
    "evicted", "floors-forgotten", "page-of-the-log", "flush", "rewind", "doubt", "lease-lapsed", "stale-marked",
    "stale-if-error", "stale-while-revalidate", "purged-soft", "purged-hard", "overtaken", "regional", "collapsed",
    "conditional 304", "head 200", "part 206", "coded 200", "pieces 200", "slow 200", "pipelined 200",
)  # fmt: skip
"""What nobody does to a worker: it comes by it (`EdgeWorker.met`)."""


class _WatchedFloors(Floors):
    """Counts how often floors were forgotten for want of room."""

    __slots__ = ("forgotten",)

    def __init__(self, *, max_floors: int) -> None:
        super().__init__(max_floors=max_floors)
        self.forgotten = 0

    def _forget(self, kind: PurgeKind) -> None:
        self.forgotten += 1
        super()._forget(kind)


class _WatchedStore(MemoryStore):
    """Holds what is stored against the truth."""

    def __init__(
        self, max_bytes: int, floors: Floors, clock: Callable[[], float], on_put: Callable[[StoredResponse], None]
    ) -> None:
        super().__init__(max_bytes, floors, clock)
        self._on_put = on_put

    def put(self, stored: StoredResponse) -> bool:
        taken = super().put(stored)
        if taken:
            self._on_put(stored)
        return taken


class _WatchedFollower(Follower):
    """Holds each step of a follower against what must never happen."""

    worker_name = ""
    promise: Promise
    highest = ZERO
    """The highest position that it has ever applied."""
    asked_last = float("-inf")
    """When the latest question was sent that was ever answered, on the worker's clock."""
    pages = doubts = 0

    def on_answer(self, question: Question, answer: Answer, asked_at: float) -> Outcome:
        before = self.applied or ZERO
        floors = self.floors
        tags = (EVERYTHING, *(answer.entries[0].tags if answer.entries else ()))
        known = [floors.hard_floor(() if tag == EVERYTHING else (tag,)) for tag in tags]
        self.asked_last = max(self.asked_last, asked_at)
        self.pages += bool(answer.entries) and answer.entries[-1].position < answer.head
        outcome = super().on_answer(question, answer, asked_at)
        self.doubts += outcome is Outcome.DOUBT
        after = self.applied or ZERO
        self.highest = max(self.highest, after)
        forked = after.epoch != before.epoch
        self.promise.moved(self.worker_name, before, after, forked=forked)
        self.promise.leased(self.worker_name, self.lease.until, self.asked_last, LEASE_S)
        if not forked:
            for tag, floor in zip(tags, known, strict=True):
                now = floors.hard_floor(() if tag == EVERYTHING else (tag,))
                if now < floor:
                    self.promise.floor_fell(self.worker_name, tag, floor, now)
        return outcome


class _SimSiblings(Siblings):
    """Datagrams of the simulated machine in place of sockets in a folder."""

    def __init__(
        self,
        worker: Process,
        network: Network,
        others: Callable[[], list[str]],
        version_of: Callable[[CacheKey], str],
        on_stored: Callable[[StoredResponse], object],
        on_dropped: Callable[[CacheKey], object],
    ) -> None:
        super().__init__(Path("/"), worker.name, version_of, on_stored, on_dropped, worker.clock)
        self._process = worker
        self._network = network
        self._addresses = others
        self._is_open = False

    def open(self) -> None:
        self._is_open = True
        self._network.hear(self._process, address_of(self._process.name), self._heard)

    def close(self) -> None:
        self._is_open = False

    def _hears_anybody(self) -> bool:
        return self._is_open and bool(self._addresses())

    def _send(self, message: bytes) -> None:
        for address in self._addresses():
            self._network.tell(address, message)
            self.told += 1

    def _heard(self, message: bytes) -> None:
        if self._is_open:
            self._take(message[:1], message[1:])


def address_of(worker: str) -> str:
    """Where the datagrams of siblings for `worker` go."""
    return f"siblings/{worker}"


class Surroundings(Protocol):
    """What a worker needs of the world."""

    loop: SimLoop
    network: Network
    policies: PolicySet
    promise: Promise
    waiting: Waiting
    said: Said
    telling: bool

    def siblings_of(self, worker: str) -> list[str]:
        """The addresses of the other workers of its edge."""
        ...

    def lost_history(self, worker: EdgeWorker) -> None:
        """It must be started again with an empty store."""
        ...


class EdgeWorker:
    """To be made by a task of its process."""

    def __init__(
        self,
        world: Surroundings,
        process: Process,
        edge: str,
        settings: EdgeSettings,
        lifetimes: Lifetimes,
        draws: Random,
    ) -> None:
        self.process = process
        self.name = process.name
        self.edge = edge
        self.id = f"{process.name.replace('/', '-')}-{process.incarnation:04d}-{draws.getrandbits(32):08x}"
        self.stopping = False
        self._refreshes = settings.refresh_hottest > 0
        self.started_at = world.loop.now
        self._world = world
        clock = process.clock
        policies = world.policies
        self.floors = _WatchedFloors(max_floors=settings.max_floors)
        self.lease = Lease(LEASE_S)
        self.store = _WatchedStore(settings.store_bytes, self.floors, clock, self._stored)
        self.follower = _WatchedFollower(self.id, edge, f"http://{HOST}", self.floors, self.lease)
        self.follower.worker_name, self.follower.promise = self.name, world.promise
        self._writes = Writes(clock)
        self._siblings = _SimSiblings(
            process,
            world.network,
            lambda: world.siblings_of(self.name),
            lambda key: policies.match(key.path).policy.version,
            self._take,
            self._forget,
        )
        self.tier = RegionalTier("redis://valkey", edge, clock, process.wall) if settings.regional else None
        regional = None
        if self.tier is not None:
            regional = Regional(self.tier, self.floors, self.lease, clock, self._writes.overtook)
        self.pools = OriginPools((ORIGIN_URL,), {}, policies.origins, clock, wired=False)
        self.book = RecordBook(edge, None, clock, process.wall)
        fills = Fills(
            self.pools,
            self.store,
            self.floors,
            edge_key=EDGE_KEY,
            applied=self._applied,
            on_kept=self._siblings.tell,
            max_growing_bytes=GROWING_BYTES,
            counters=self.book.counters,
            clock=clock,
            wall=process.wall,
            regional=regional,
        )
        self.flights = Flights(fills.fetch, self.floors, clock)
        self._hottest = Hottest(
            self.store,
            self.floors,
            self.lease,
            self.flights,
            policies=lambda: policies,
            applied=self._applied,
            clock=clock,
            most=settings.refresh_hottest,
        )
        self._invalidations = Invalidations(
            self.store, self.flights, self._writes, tell=self._siblings.tell_dropped, regional=regional
        )
        exchange = Exchange(
            edge=edge,
            worker=self.id,
            authorities=frozenset({HOST}),
            policies=policies,
            applied=self._applied,
            store=self.store,
            floors=self.floors,
            lease=self.lease,
            fills=fills,
            flights=self.flights,
            invalidations=self._invalidations,
            book=self.book,
            visitors=Visitors(TrustedHops(()), lambda address: "DE"),
            clock=clock,
            wall=process.wall,
        )
        self.server = GatewayServer(exchange, clock)
        self.follower_loop = FollowerLoop(self.follower, self._ask, clock, self._on_lost_history)
        self._tasks: list[asyncio.Task[None]] = []
        self.viewers = Viewers(
            self.name,
            self.server,
            self._applied,
            world.promise,
            world.waiting,
            lambda: world.loop.now,
            process.post,
            world.said,
            lifetimes,
            self._tell if world.telling else None,
        )

    async def run(self) -> None:
        """Follow the log, sweep the store and time viewers out, until the process ends or `stop` is called."""
        self._siblings.open()
        if self.tier is not None:
            self.tier.start()
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self.follower_loop.run())]
        if self._refreshes:
            self._tasks.append(loop.create_task(self._hottest.run()))
        while not self.stopping:
            await asyncio.sleep(SWEEP_EVERY_S)
            self.store.sweep()
            self.server.sweep()

    async def stop(self) -> None:
        """As `Gateway.stop`: serve nothing more from the store, leave, finish what was begun."""
        self.stopping = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._siblings.close()
        self.lease.give_up()
        try:
            async with asyncio.timeout(1.0):
                async for _ in self._world.network.ask(LEAVE, self.id.encode()):
                    pass
        except (OSError, TimeoutError):
            self._world.loop.note("could not tell the origin of leaving")
        await self.server.drain(5.0)
        await self.flights.stop()
        if self.tier is not None:
            await self.tier.close()
        self.pools.close()

    @property
    def standing(self) -> Standing:
        """What it is now, for the checks of evidence."""
        alive = self.process.alive
        held = alive and self.lease.held(self.process.offset_s + self._world.loop.now * self.process.rate)
        return Standing(self.name, alive, held, self.follower.highest)

    def refuses(self, entry: PurgeEntry) -> bool:
        """Whether its floors say of what is older than `entry` and carries its tags what the entry says."""
        before = Position(entry.position.epoch, entry.position.cv - 1)
        for tag in entry.tags:
            verdict = self.floors.judge(_Probe(before, (tag,)))
            if verdict is Verdict.CURRENT or (verdict is Verdict.STALE_ONLY and entry.kind is PurgeKind.HARD):
                return False
        return True

    def met(self) -> dict[str, int]:
        """How often it came by each of `MEETS`."""
        reasons: Counter[str] = Counter()
        for label, tally in self.book.counters.exchanges.items():
            reasons[label.reason] += tally.total
            reasons["collapsed"] += tally.coalesced
        counted = {
            "evicted": self.store.stats().evicted,
            "floors-forgotten": self.floors.forgotten,
            "page-of-the-log": self.follower.pages,
            "flush": self.follower.flushes,
            "rewind": self.follower.rewinds,
            "doubt": self.follower.doubts,
            **self.viewers.kinds,
        }
        return {name: counted[name] if name in counted else reasons[name] for name in MEETS}

    # -- small parts ---------------------------------------------------------------------------------------------------

    def _tell(self, text: str) -> None:
        # Not as a note: a run that is told leaves the same trace as one that is not.
        self._world.loop.story.append((self._world.loop.now, self.name, text))

    def _applied(self) -> Position | None:
        return self.follower.applied

    def _ask(self, question: Question) -> AsyncIterator[bytes]:
        return self._world.network.ask(FEED, question.to_json())

    def _on_lost_history(self) -> None:
        self._siblings.close()
        if self.tier is not None:
            self.tier.leave()
        self.store.clear()
        self._world.lost_history(self)

    def _take(self, stored: StoredResponse) -> None:
        if self.follower.caught_up and not self._writes.overtook(stored):
            self.store.put(stored)

    def _forget(self, key: CacheKey) -> None:
        self._invalidations.forget(key)
        if self.tier is not None:
            self.tier.drop(key)

    def _stored(self, stored: StoredResponse) -> None:
        self._world.promise.stored(self.name, shown_in(stored.body), stored.position)


@dataclass(frozen=True, slots=True)
class _Probe:
    position: Position
    tags: tuple[str, ...]
