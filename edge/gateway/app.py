"""Where the objects of one edge worker are joined, started and stopped."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, replace
from typing import Any
from urllib.parse import urlsplit

import httpx
import orjson

from cache_policies.feed import FEED_PATH, LEASE_S, LEAVE_PATH, MAX_PURGE_WAIT_S, PURGE_PATH, PurgeWish, Question
from cache_policies.fields import EDGE_KEY_FIELD
from cache_policies.folder import Looks, looks_of
from cache_policies.positions import Position, PurgeKind
from edge import clock as edge_clock
from edge.core.floors import Floors, Lease
from edge.core.http import Request
from edge.core.key import CacheKey
from edge.core.policy import PolicySet
from edge.core.stored import StoredResponse
from edge.gateway.admin import admin_app
from edge.gateway.canary import shared_by_mistake
from edge.gateway.entries import Entries
from edge.gateway.exchange import Exchange
from edge.gateway.explain import decide, told, told_stored
from edge.gateway.fills import Fills
from edge.gateway.flights import Flights
from edge.gateway.hottest import Hottest
from edge.gateway.invalidations import Invalidations, Writes
from edge.gateway.listening import HelperServer, bind
from edge.gateway.origin import Caps, Deadlines, OriginPool, PoolTransport, tls_context
from edge.gateway.origins import OriginPools
from edge.gateway.recent import Recent
from edge.gateway.record import AccessLog, RecordBook
from edge.gateway.regional import Regional
from edge.gateway.reload import PolicyReload
from edge.gateway.server import GatewayServer
from edge.gateway.settings import GatewaySettings, Positions
from edge.gateway.tls import HANDSHAKE_S, TlsFiles
from edge.gateway.visitors import Visitors, countries_of, registered_country
from edge.gateway.worker_admin import WorkerBehind
from edge.policy_files import PACKAGED_POLICIES
from edge.purge.follower import MAX_OPEN_STREAMS, Follower, FollowerLoop, QuestionRefused
from edge.store.memory import MemoryStore
from edge.store.regional import RegionalTier
from edge.store.siblings import Siblings

logger = logging.getLogger("nearshelf.edge")

DRAIN_S = 5.0
"""How long a stopping worker finishes what it is answering."""
LEAVE_S = 1.0
SWEEP_EVERY_S, SWEEP_AGAIN_S = 0.05, 0.005
"""Between two looks at the store for what is dead; the second while they find some: a million purged responses are
gone after some two minutes, and no viewer has waited for that longer than a quarter of a millisecond at a time."""


class Gateway:
    """One edge worker: both listeners, the store, the follower. `stopped` is set when it should end by itself.

    `policies` were read from files that looked like `files_seen`; None: that look as they do now.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        policies: PolicySet,
        *,
        files_seen: Looks | None = None,
        clock: Callable[[], float] = edge_clock.now,
        wall: Callable[[], float] = edge_clock.wall,
    ) -> None:
        self.settings = settings
        self.policies = policies
        folder = settings.policies or PACKAGED_POLICIES
        seen = looks_of(folder) if files_seen is None else files_seen
        self.reload = PolicyReload(folder, policies, seen, self._use, wall)
        self.worker = secrets.token_urlsafe(12)
        self.floors = Floors()
        self.lease = Lease(LEASE_S)
        self.store = MemoryStore(settings.store_bytes, self.floors, clock)
        self.siblings = (
            None
            if settings.siblings is None
            else Siblings(settings.siblings, self.worker, self.version_of, self._take, self._forget, clock)
        )
        space = settings.regional_space or settings.edge
        self.regional = RegionalTier(settings.regional, space, clock, wall) if settings.regional else None
        self.follower = Follower(self.worker, settings.edge, settings.public_url, self.floors, self.lease)
        self.origins = OriginPools(
            settings.origin_urls,
            settings.origins,
            policies.origins,
            clock,
            caps=settings.origin_caps,
            tls=None if settings.origin_ca is None else tls_context(str(settings.origin_ca)),
            health=settings.origin_health,
        )
        self.stopped = asyncio.Event()
        self.lost_history = False
        self.address: tuple[str, int] = ("", 0)
        self.admin_address: tuple[str, int] = ("", 0)
        self._clock = clock
        self._wall = wall
        self._keeps_own = settings.positions is Positions.SITE
        cert, key = settings.tls_cert, settings.tls_key
        self._tls = None if cert is None or key is None else TlsFiles(cert, key)
        self._log = AccessLog(settings.access_log) if settings.access_log else None
        self.book = RecordBook(settings.edge, self._log, clock, wall)
        self._recent = Recent(self.book, self._log)
        country_of = registered_country if settings.mmdb is None else countries_of(settings.mmdb)
        self._visitors = Visitors(settings.trusted_hops, country_of, settings.country_field)
        self._writes = Writes(clock)
        regional = None
        if self.regional is not None:
            applied = self._applied if self._keeps_own else None
            regional = Regional(self.regional, self.floors, self.lease, clock, self._writes.overtook, applied)
        self._fills = Fills(
            self.origins,
            self.store,
            self.floors,
            edge_key=settings.edge_key,
            applied=self._applied,
            on_kept=self._tell_siblings,
            clock=clock,
            wall=wall,
            regional=regional,
            own_positions=self._keeps_own,
            max_growing_bytes=settings.store_bytes // 2,
            counters=self.book.counters,
            scheme=settings.scheme,
        )
        self._flights = Flights(self._fills.fetch, self.floors, clock)
        self.hottest = Hottest(
            self.store,
            self.floors,
            self.lease,
            self._flights,
            policies=lambda: self.policies,
            applied=self._applied,
            clock=clock,
            most=settings.refresh_hottest,
        )
        self._invalidations = Invalidations(
            self.store,
            self._flights,
            self._writes,
            tell=self._tell_dropped,
            scheme=settings.scheme,
            regional=regional,
            purge_tags=self._purge_tags if self._keeps_own else None,
        )
        # Pools of their own for questions: they must get through when fills queue, and fail apart from them.
        self._feed_pool = OriginPool(
            settings.feed_urls,
            clock,
            deadlines=Deadlines(connect_s=LEASE_S, head_s=LEASE_S, idle_s=LEASE_S),
            caps=Caps(connections=MAX_OPEN_STREAMS + 1),
            tls=None if settings.origin_ca is None else tls_context(str(settings.origin_ca)),
            patient=True,
        )
        self._feed = httpx.AsyncClient(
            transport=PoolTransport(self._feed_pool),
            base_url=settings.feed_urls[0],
            headers={EDGE_KEY_FIELD: settings.edge_key},
            timeout=LEASE_S,
            trust_env=False,
        )
        # Questions have a lease to be answered in; a purge may take as long as the slowest worker.
        purge_pool = OriginPool(
            settings.feed_urls,
            clock,
            deadlines=Deadlines(connect_s=LEASE_S, head_s=2 * MAX_PURGE_WAIT_S, idle_s=LEASE_S),
            tls=None if settings.origin_ca is None else tls_context(str(settings.origin_ca)),
        )
        self._keeper = httpx.AsyncClient(
            transport=PoolTransport(purge_pool),
            base_url=settings.feed_urls[0],
            headers={EDGE_KEY_FIELD: settings.edge_key, "content-type": "application/json"},
            timeout=2 * MAX_PURGE_WAIT_S,
            trust_env=False,
        )
        self.follower_loop = FollowerLoop(self.follower, self._ask, clock, self._on_lost_history)
        self.server: GatewayServer | None = None
        self._exchange: Exchange | None = None
        self._admin: HelperServer | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Listen and begin to follow the log. Raises OSError when an address is taken."""
        if self.siblings is not None:
            self.siblings.open()
        if self.regional is not None:
            self.regional.start()
        self._admin_socket = bind(self.settings.admin_listen)
        if not self.settings.admin_listen.is_path:
            self.admin_address = self._admin_socket.getsockname()[:2]
        listen = self.settings.listen
        data_socket = bind(listen, reuse_port=True)
        self.address = data_socket.getsockname()[:2]
        self._exchange = Exchange(
            edge=self.settings.edge,
            worker=self.worker,
            authorities=self.settings.authorities(self.address[1]),
            policies=self.policies,
            applied=self._applied,
            store=self.store,
            floors=self.floors,
            lease=self.lease,
            fills=self._fills,
            flights=self._flights,
            invalidations=self._invalidations,
            book=self.book,
            visitors=self._visitors,
            clock=self._clock,
            wall=self._wall,
            noted=self.settings.access_log_query,
        )
        self.server = GatewayServer(self._exchange, self._clock, self.settings.limits)
        if self._tls is None:
            await self.server.listen(data_socket)
        else:
            await self.server.listen(data_socket, self._tls.context, HANDSHAKE_S)
        entries = Entries(self.store, self.floors, self.lease, self.version_of, self._clock, self._wall)
        self._admin = HelperServer(
            admin_app(self.settings.admin_token, WorkerBehind(self, entries, self._recent, self._keeper), self._clock),
            self._admin_socket,
        )
        self._admin.start()
        loop = asyncio.get_running_loop()
        self._follower_task = loop.create_task(self.follower_loop.run())
        self._tasks = [
            loop.create_task(self._sweep_store()),
            loop.create_task(self.reload.run()),
            loop.create_task(self.origins.watch()),
        ]
        if self.settings.refresh_hottest:
            self._tasks.append(loop.create_task(self.hottest.run()))
        if self._tls is not None:
            self._tasks.append(loop.create_task(self._tls.run()))

    async def stop(self) -> None:
        """Serve nothing more from the store, leave, finish what was begun, close everything (rule 6)."""
        self._recent.close()
        # The follower first: an answer of its could give the lease back.
        self._follower_task.cancel()
        await asyncio.gather(self._follower_task, return_exceptions=True)
        if self.siblings is not None:
            # Nothing is told or heard once the lease is given up.
            self.siblings.close()
        self.lease.give_up()
        await self._leave()
        if self.server is not None:
            await self.server.drain(DRAIN_S)
        await self._flights.stop()
        if self.regional is not None:
            await self.regional.close()
        await self._feed.aclose()
        await self._keeper.aclose()
        self.origins.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._admin is not None:
            await self._admin.stop()
        if self._log is not None:
            self._log.close()

    def now(self) -> float:
        """Seconds of the edge's clock."""
        return self._clock()

    @property
    def flights(self) -> int:
        """Requests to origins under way that others may share."""
        return len(self._flights)

    @property
    def log_lines_lost(self) -> int:
        return 0 if self._log is None else self._log.lost_lines

    @property
    def holds_lease(self) -> bool:
        return self.lease.held(self._clock())

    def status(self) -> dict[str, Any]:
        """What `/status` shows."""
        now = self._clock()
        follower = self.follower
        return {
            "edge": self.settings.edge,
            "worker": self.worker,
            "applied": None if follower.applied is None else str(follower.applied),
            "contact": follower.contact,
            "flushes": follower.flushes,
            "rewinds": follower.rewinds,
            "caught_up": follower.caught_up,
            "lease_held": self.lease.held(now),
            "floors": len(self.floors),
            "policies": self.reload.status(),
            "store": asdict(self.store.stats()),
            "cache": self.book.by_cache_status(),
            "bytes_sent": self.book.bytes_sent,
            "flights": self.flights,
            "hot_refreshed": self.hottest.refreshed,
            "viewers": 0 if self.server is None else len(self.server.connections),
            "viewers_accepted": 0 if self.server is None else self.server.accepted,
            "origins": self.origins.status(),
            "reads_failed_over": self.origins.failed_over,
            "siblings": None
            if self.siblings is None
            else {"told": self.siblings.told, "heard": self.siblings.heard, "lost": self.siblings.lost},
            "regional": None if self.regional is None else self.regional.status(),
            "log_lines_lost": self.log_lines_lost,
        }

    def _use(self, policies: PolicySet) -> tuple[str, ...]:
        """Decide by `policies` from the next request on; or the reasons why this worker cannot, and nothing is changed.

        What is stored stays: what a changed policy stored counts as absent from now on, all else is as good as before.
        """
        faults = self.settings.address_faults(policies.origins)
        if faults:
            return tuple(f"{fault}; addresses are read when a worker starts" for fault in faults)
        mistakes = shared_by_mistake(policies, own_positions=self._keeps_own)
        if mistakes:
            return mistakes
        self.policies = policies
        self.origins.use(policies.origins)
        if self._exchange is not None:
            self._exchange.use(policies)
        return ()

    def version_of(self, key: CacheKey) -> str:
        """The version of the policy that `key` falls under now."""
        return self.policies.match(key.path).policy.version

    def explain(self, request: Request, country: str) -> dict[str, Any]:
        """What `/explain` shows: what this worker would do with `request`, and what it holds for it now.

        A request without an authority is taken to be for the edge's public one.
        """
        if not request.authority:
            request = replace(request, authority=urlsplit(self.settings.public_url).netloc.lower())
        now = self._clock()
        decision = decide(request, self.policies, country, own_positions=self._keeps_own)
        held = () if decision.match is None or decision.key is None else self.store.peek(decision.key)
        return {
            "edge": self.settings.edge,
            "worker": self.worker,
            "authority": request.authority,
            "served": request.authority in self.settings.authorities(self.address[1]),
            "applied": None if self.follower.applied is None else str(self.follower.applied),
            "lease_held": self.lease.held(now),
            "decision": told(decision, self.policies),
            "stored": told_stored(decision, held, self.floors, self.lease, now, self._wall()),
        }

    async def _purge_tags(self, tags: tuple[str, ...]) -> None:
        """Purge what an origin's answer names, in the site's log, and wait a moment until every worker has done so.

        What does not get through is said: the site's lifetimes bound it.
        """
        wish = PurgeWish(self.settings.edge, PurgeKind.HARD, tags, "Cache-Group-Invalidation", LEASE_S)
        try:
            answer = await self._keeper.post(PURGE_PATH, content=wish.to_json())
            answer.raise_for_status()
        except httpx.HTTPError as exc:
            logger.error("an origin invalidates %s, and it was not purged: %s", " ".join(tags[:10]), exc)

    def _applied(self) -> Position | None:
        return self.follower.applied

    def _tell_dropped(self, key: CacheKey) -> None:
        if self.siblings is not None:
            self.siblings.tell_dropped(key)

    def _take(self, stored: StoredResponse) -> None:
        """A sibling stored it: perhaps before it heard of a write that went through this worker or a third. Until the
        log is applied nobody here knows what of it was purged, and even stale-marked it would be served (rule 5)."""
        if self.follower.caught_up and not self._writes.overtook(stored):
            self.store.put(stored)

    def _forget(self, key: CacheKey) -> None:
        """A write went through a sibling: what is stored under `key` must not be used any more. Nor what this worker
        was about to write into the tier, which the sibling's own word there may have come before."""
        self._invalidations.forget(key)
        if self.regional is not None:
            self.regional.drop(key)

    def _tell_siblings(self, stored: StoredResponse) -> None:
        if self.siblings is not None:
            self.siblings.tell(stored)

    async def _ask(self, question: Question) -> AsyncIterator[bytes]:
        """The lines of the origin's answer to `question`. Raises ConnectionError when there is none,
        QuestionRefused when the origin does not know this edge's key."""
        try:
            async with self._feed.stream("POST", FEED_PATH, content=question.to_json()) as response:
                if response.status_code in (401, 403):
                    raise QuestionRefused(
                        f"refused with status {response.status_code}: NEARSHELF_EDGE_KEY here is not the origin's"
                    )
                if response.status_code != 200:
                    raise ConnectionError(f"the origin answered a question with status {response.status_code}")
                async for line in response.aiter_lines():
                    if line:
                        yield line.encode()
        except httpx.HTTPError as exc:
            raise ConnectionError(str(exc)) from exc

    async def _leave(self) -> None:
        """End the registration, so that nobody waits for this worker's lease. Not getting through costs one lease."""
        try:
            async with asyncio.timeout(LEAVE_S):
                await self._feed.post(LEAVE_PATH, content=orjson.dumps({"worker": self.worker}))
        except (httpx.HTTPError, TimeoutError) as exc:
            logger.warning("could not tell the origin of leaving: %s", str(exc) or "no answer in time")

    def _on_lost_history(self) -> None:
        if self.siblings is not None:
            # First of all: what a fill under way brings may come from the history that is lost.
            self.siblings.close()
        if self.regional is not None:
            self.regional.leave()
        logger.error(
            "the purge log ends before what this worker has applied (%s): its store cannot be trusted, stopping; "
            "the supervisor starts it again with an empty one",
            self.follower.applied,
        )
        self.lost_history = True
        self.store.clear()
        self.stopped.set()

    async def _sweep_store(self) -> None:
        while True:
            is_more = self.store.sweep()
            await asyncio.sleep(SWEEP_AGAIN_S if is_more else SWEEP_EVERY_S)
