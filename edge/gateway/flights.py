"""Collapsed forwarding and background refresh: one forward request for many viewers (RFC 9111 §4).

A flight belongs to its key, not to a viewer: it goes on when its leader hangs up. What it brings is held against the
floors when it is stored, and again by every follower when it takes its share (docs/freshness.md, rule 2). While the
lease has run out a viewer takes only a flight that was sent after it arrived (rule 5). An answer that purges keep
overtaking may be handed to those who arrived before them (rule 3), never to anybody else.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from typing import TypeVar

from cache_policies.positions import Position
from edge.core.floors import Floors, Verdict
from edge.core.http import Headers, Request
from edge.core.key import CacheKey
from edge.core.policy import Match
from edge.core.residency import Placed
from edge.core.stored import StoredResponse
from edge.core.storing import Reason
from edge.gateway.origin import OriginError, OriginResponse

logger = logging.getLogger("nearshelf.flights")

HIT_FOR_MISS_S = 10.0
"""How long a key that proved not storable is not queued on."""
MAX_REMEMBERED_KEYS = 10_000
REFRESH_PAUSE_S = 1.0
"""After a failed background refresh of a key; doubles up to the next."""
LONGEST_REFRESH_PAUSE_S = 30.0
MAX_ROUNDS = 4
"""How often a viewer takes part in a flight whose result a purge overtakes before it is told to come back later."""


@dataclass(frozen=True, slots=True)
class Errand:
    """What a flight is sent for."""

    request: Request
    match: Match
    key: CacheKey
    validate: StoredResponse | None
    """Its validator goes along, and a 304 freshens it."""
    known_tags: tuple[str, ...] | None
    """Tags the key's last response carried; None when none is known."""
    demand_head: bool
    country: str
    placed: Placed
    """Who is asked."""
    applied: Position | None = None
    """What this worker had applied when the viewer arrived."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A response that may be shared: storable, and not below the floors when it was put into the store."""

    stored: StoredResponse
    taken: bool
    """Whether the store took it: not when it holds a newer one, or has no room for it."""
    fwd_status: int
    sent_at: float
    origin_s: float
    validated: bool = False


@dataclass(frozen=True, slots=True)
class Overtaken:
    """A whole labelled answer that reached the position it was asked for, and was below the floors when it landed:
    not stored, and only for viewers who arrived before what it lacks was live (`may_take`)."""

    stored: StoredResponse
    fwd_status: int
    sent_at: float
    origin_s: float


@dataclass(slots=True)
class NotKept:
    """A response for one viewer only: not storable, or too large. The first to claim it streams it."""

    response: OriginResponse
    reason: str
    sent_at: float
    origin_s: float
    _claimed: bool = field(default=False)

    def claim(self) -> bool:
        claimed, self._claimed = self._claimed, True
        return not claimed

    def abandon_unclaimed(self) -> None:
        if self.claim():
            self.response.abandon()


@dataclass(frozen=True, slots=True)
class Failed:
    """No usable response: an OriginError, or answers that stayed below the floors of their own tags."""

    error: OriginError | None
    reason: str
    origin_s: float
    fwd_status: int | None = None


Landed = Kept | Overtaken | NotKept | Failed
Fetch = Callable[[Errand], Awaitable[Landed]]


@dataclass(frozen=True, slots=True)
class Taken:
    """One viewer's share of a flight."""

    landed: Landed
    collapsed: bool


T = TypeVar("T")


class _Flight:
    __slots__ = ("followers", "landing", "launched_at", "sent")

    def __init__(self) -> None:
        self.landing: asyncio.Future[Landed] = asyncio.get_running_loop().create_future()
        self.followers = 0
        self.launched_at: float | None = None
        """None while it waits for another flight to land."""
        self.sent = False
        """From here on it is too early for a viewer who needs an answer newer than its own arrival."""


class Flights:
    """`fetch` sends an errand and stores what may be stored. `clock` gives seconds of the edge's clock."""

    def __init__(self, fetch: Fetch, floors: Floors, clock: Callable[[], float]) -> None:
        self._fetch = fetch
        self._floors = floors
        self._clock = clock
        self._under_way: dict[Hashable, _Flight] = {}
        self._next_wave: dict[Hashable, tuple[_Flight, Errand]] = {}
        self._not_shared: dict[Hashable, float] = {}
        self._refresh_pause: dict[Hashable, tuple[float, float]] = {}
        """Key -> (not before, current pause)."""
        self._flying: dict[asyncio.Task[None], _Flight] = {}
        self._stopping = False

    def __len__(self) -> int:
        return len(self._under_way)

    async def forward(self, errand: Errand) -> Taken:
        """What the origin says to `errand`, shared with whoever asks for the same meanwhile.

        Waits at most the policy's `collapse_wait_s` for somebody else's flight, then goes alone. A shared response is
        not below the floors at the moment this returns; its caller must use it without an `await` in between.
        """
        until = self._clock() + errand.match.policy.collapse_wait_s
        variant = _variant(errand)
        overtaken: Overtaken | None = None
        for _ in range(MAX_ROUNDS):
            if self._stopping:
                return Taken(_stopping(), collapsed=False)
            if self._not_shared.get(variant, 0.0) > self._clock():
                return self._alone(errand, await self._fetch(errand))
            flight, leads = self._join(variant, errand)
            landed = await self._result(variant, flight, leads, errand, until)
            if landed is None:
                return self._alone(errand, await self._fetch(errand))
            match landed:
                case NotKept():
                    if landed.claim():
                        return Taken(landed, collapsed=False)
                    if landed.response.status >= 500:
                        # A failing origin is not asked again by everybody who waited.
                        failed = Failed(None, landed.reason, landed.origin_s, landed.response.status)
                        return Taken(failed, collapsed=True)
                    return self._alone(errand, await self._fetch(errand))
                case Failed():
                    return Taken(landed, collapsed=not leads)
                case Overtaken():
                    if self._may_take(errand, landed):
                        return Taken(landed, collapsed=not leads)
                case Kept(stored):
                    if self._floors.judge(stored) is not Verdict.PURGED:
                        return Taken(landed, collapsed=not leads)
                    # A purge was applied between the landing and this turn of the loop: ask again, with the new floor.
                    overtaken = Overtaken(stored, landed.fwd_status, landed.sent_at, landed.origin_s)
        if overtaken is not None and self._may_take(errand, overtaken):
            return Taken(overtaken, collapsed=True)
        return Taken(Failed(None, "purged-hard", 0.0), collapsed=False)

    def _alone(self, errand: Errand, landed: Landed) -> Taken:
        """What a viewer's own request brought, which nobody shares."""
        if isinstance(landed, Overtaken) and not self._may_take(errand, landed):
            landed = Failed(None, Reason.BELOW_FLOOR.value, landed.origin_s)
        return Taken(landed, collapsed=False)

    def _may_take(self, errand: Errand, overtaken: Overtaken) -> bool:
        """Whether an overtaken answer holds every change that was live when this viewer arrived.

        With the lease held, such a change had been applied here by then; with it run out, the flight was sent after the
        viewer arrived and demanded the head (edge/decisions/0005-overtaken-answers.md). An answer of an epoch that has
        ended holds what may no longer exist.
        """
        position = overtaken.stored.position
        if position.epoch < self._floors.everything.epoch:
            return False
        return errand.demand_head or (errand.applied is not None and position >= errand.applied)

    def refresh_later(self, errand: Errand) -> None:
        """Start a background refresh, unless one is under way or the last one failed a moment ago."""
        variant = _variant(errand)
        paused_until, _ = self._refresh_pause.get(variant, (0.0, 0.0))
        if self._stopping or variant in self._under_way or paused_until > self._clock():
            return
        self._start(variant, _Flight(), errand, background=True)

    def _join(self, variant: Hashable, errand: Errand) -> tuple[_Flight, bool]:
        """The flight to wait for, and whether this viewer leads it."""
        flight = self._under_way.get(variant)
        if flight is None:
            flight = _Flight()
            self._start(variant, flight, errand)
            return flight, True
        if not (errand.demand_head and flight.sent):
            flight.followers += 1
            return flight, False
        # Sent before this viewer arrived: it may have read the origin before a change that is live by now. All who
        # arrive until it lands share the one that is sent then.
        waiting = self._next_wave.get(variant)
        if waiting is None:
            waiting = self._next_wave[variant] = (_Flight(), errand)
            return waiting[0], True
        waiting[0].followers += 1
        return waiting[0], False

    async def _result(
        self, variant: Hashable, flight: _Flight, leads: bool, errand: Errand, until: float
    ) -> Landed | None:
        """What `flight` brings; None when a follower has waited long enough.

        A flight that itself waits for another is launched at `until` at the latest, beside it: it is sent after all who
        share it arrived. Its followers wait for it as long again.
        """
        if flight.launched_at is None:
            landed = await self._wait(flight, until)
            if landed is not None:
                return landed
            until = self._launch(variant, flight) + errand.match.policy.collapse_wait_s
        return await self._wait(flight, None if leads else until)

    def _launch(self, variant: Hashable, flight: _Flight) -> float:
        """Send a waiting flight now, if nobody has yet; when it was sent."""
        waiting = self._next_wave.get(variant)
        if waiting is not None and waiting[0] is flight:
            self._launch_wave(variant)
        return self._clock() if flight.launched_at is None else flight.launched_at

    def _launch_wave(self, variant: Hashable) -> None:
        waiting = self._next_wave.pop(variant, None)
        if waiting is not None:
            self._start(variant, *waiting)

    async def _wait(self, flight: _Flight, until: float | None) -> Landed | None:
        """The result; None when somebody else's flight takes too long."""
        if until is None:
            return await asyncio.shield(flight.landing)
        try:
            async with asyncio.timeout(max(0.0, until - self._clock())):
                return await asyncio.shield(flight.landing)
        except TimeoutError:
            return None

    def _start(self, variant: Hashable, flight: _Flight, errand: Errand, *, background: bool = False) -> None:
        self._under_way[variant] = flight
        flight.launched_at = self._clock()
        task = asyncio.get_running_loop().create_task(self._fly(variant, flight, errand, background=background))
        self._flying[task] = flight
        task.add_done_callback(lambda done: self._flying.pop(done, None))

    async def _fly(self, variant: Hashable, flight: _Flight, errand: Errand, *, background: bool) -> None:
        flight.sent = True
        landed: Landed
        try:
            landed = await self._fetch(errand)
        except Exception:
            logger.exception("a flight crashed: a fault of this program")
            landed = Failed(None, "proxy-internal-error", 0.0)
        except asyncio.CancelledError:
            landed = _stopping()
        newest = self._under_way.get(variant) is flight
        if newest:
            del self._under_way[variant]
        if isinstance(landed, NotKept) and landed.response.status < 500:
            self._remember(self._not_shared, variant, self._clock() + HIT_FOR_MISS_S)
        elif isinstance(landed, Kept):
            self._not_shared.pop(variant, None)
        if background:
            self._after_refresh(variant, landed)
        flight.landing.set_result(landed)
        if isinstance(landed, NotKept) and background and not flight.followers:
            landed.abandon_unclaimed()
        if newest and not self._stopping:
            self._launch_wave(variant)

    def _after_refresh(self, variant: Hashable, landed: Landed) -> None:
        if isinstance(landed, Kept):
            self._refresh_pause.pop(variant, None)
            return
        pause = self._refresh_pause.get(variant, (0.0, REFRESH_PAUSE_S / 2))[1] * 2
        pause = min(pause, LONGEST_REFRESH_PAUSE_S)
        self._remember(self._refresh_pause, variant, (self._clock() + pause, pause))

    @staticmethod
    def _remember(memory: dict[Hashable, T], variant: Hashable, value: T) -> None:
        if len(memory) >= MAX_REMEMBERED_KEYS:
            memory.clear()
        memory[variant] = value

    async def stop(self) -> None:
        """Cancel what is under way; whoever waits is told that the edge is stopping."""
        self._stopping = True
        flights = [*self._flying.values(), *(flight for flight, _ in self._next_wave.values())]
        self._next_wave.clear()
        tasks = list(self._flying)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._under_way.clear()
        for flight in flights:
            # Waves, and flights that were cancelled before their first step.
            if not flight.landing.done():
                flight.landing.set_result(_stopping())


def _stopping() -> Failed:
    return Failed(None, "stopping", 0.0)


def _variant(errand: Errand) -> Hashable:
    """Requests that may share a response: same key and policy, and the same in every field a response may vary on."""
    fields: Headers = errand.request.headers
    # A flight that demands the head does not wait behind one that does not: that one may be the reason for it.
    # Nor does a viewer take what was asked for under a policy that is no longer in force.
    policy = errand.match.policy
    return errand.key, policy.version, tuple(fields.joined(name) for name in policy.vary), errand.demand_head
