"""Collapsed forwarding and background refresh: one forward request for many viewers (RFC 9111 §4).

A flight belongs to its key, not to a viewer: it goes on when its leader hangs up. What it brings is held against the
floors when it is stored, and again by every follower when it takes its share (docs/freshness.md, rule 2). While the
lease has run out a viewer takes only a flight that was sent after it arrived (rule 5). An answer that purges keep
overtaking may be handed to those who arrived before them (rule 3), never to anybody else.

A large answer is shared while it grows (`growing.py`). A flight that fails is its leader's failure; those who waited
for it send one more, for all of them together, and the failure of that is theirs: neither does one broken connection
fail a crowd, nor is a failing origin asked by everybody in it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, Protocol, TypeVar

from edge.core.floors import Floors, Verdict
from edge.core.key import CacheKey
from edge.core.policy import ALL
from edge.core.reuse import selected
from edge.core.stored import StoredResponse
from edge.core.storing import Reason
from edge.core.variants import vary_values
from edge.gateway.growing import Growing
from edge.gateway.landings import Apart, Errand, Failed, Fetched, Kept, Landed, NotKept, Overtaken, Taken
from edge.gateway.waits import wait_patiently

logger = logging.getLogger("nearshelf.flights")

HIT_FOR_MISS_S = 10.0
"""How long a key that proved not storable is not queued on."""
MAX_REMEMBERED_KEYS = 10_000
REFRESH_PAUSE_S = 1.0
"""After a failed background refresh of a key; doubles up to the next."""
LONGEST_REFRESH_PAUSE_S = 30.0
MAX_ROUNDS = 4
"""How often a viewer takes part in a flight whose result a purge overtakes before it is told to come back later."""


class Fate(Protocol):
    """One flight, as its fill sees it."""

    @property
    def shared(self) -> bool:
        """Whether others wait for it, or may come to."""
        ...

    @property
    def outdated(self) -> bool:
        """Whether its key was invalidated since it was sent: what it brings is not stored."""
        ...

    @property
    def waiting(self) -> int:
        """How many wait for its answer to begin."""
        ...

    @property
    def wanted(self) -> asyncio.Future[None]:
        """Done from the moment on at which a viewer waits for it: at first nobody does for what was sent behind the
        backs of viewers who had an answer."""
        ...

    def queued(self) -> None:
        """It waits for its turn at the origin, and whoever waits for it waits as well: until `asked`."""

    def asked(self) -> None:
        """Its turn has come, or will not come."""

    def grows(self, growing: Growing) -> None:
        """The answer has begun."""

    def outgrown(self) -> None:
        """What grows is too large to be stored: nobody joins it any more."""


Fetch = Callable[[Errand, Fate], Awaitable[Fetched]]
T = TypeVar("T")


class _Flight:
    def __init__(
        self, flights: Flights, variant: Hashable, errand: Errand, *, shared: bool = True, background: bool = False
    ) -> None:
        loop = asyncio.get_running_loop()
        self.variant = variant
        self.errand = errand
        self.shared = shared
        self.background = background
        self.wanted: asyncio.Future[None] = loop.create_future()
        if not background:
            self.wanted.set_result(None)
        self.landing: asyncio.Future[Landed] = loop.create_future()
        """What came of it; of an answer that grows, as soon as it has begun."""
        self.ended: asyncio.Future[Fetched] = loop.create_future()
        """What came of it in the end, or that it will not be shared as a whole."""
        self.growing: Growing | None = None
        self.waiting = 0
        self.waiting_for_whole = 0
        self.launched_at: float | None = None
        """None while it waits for another flight to land."""
        self.sent = False
        """From here on it is too early for a viewer who needs an answer newer than its own arrival."""
        self.outdated = False
        self.turn: asyncio.Future[float] | None = None
        """While it waits for its turn at the origin; then when that came."""
        self._flights = flights

    def queued(self) -> None:
        self.turn = asyncio.get_running_loop().create_future()

    def asked(self) -> None:
        assert self.turn is not None
        self.turn.set_result(self._flights.now())

    def grows(self, growing: Growing) -> None:
        self.growing = growing
        self._flights.begun(self, growing)
        self.landing.set_result(growing)

    def outgrown(self) -> None:
        assert self.growing is not None
        self._flights.not_to_be_shared(self)
        self.ended.set_result(Failed(None, Reason.BODY_TOO_LARGE.value, self.growing.origin_s, self.growing.fwd_status))

    def land(self, landed: Fetched) -> None:
        for future in (self.landing, self.ended):
            if not future.done():
                future.set_result(landed)
        self.somebody_left()

    def somebody_left(self) -> None:
        """One of those who waited has gone without an answer: what nobody is left to take is let go."""
        if self.growing is not None:
            self.growing.somebody_left()
        if self.landing.done() and not (self.waiting or self.waiting_for_whole):
            landed = self.landing.result()
            if isinstance(landed, NotKept):
                landed.abandon_unclaimed()


class Flights:
    """`fetch` sends an errand and stores what may be stored. `clock` gives seconds of the edge's clock."""

    def __init__(self, fetch: Fetch, floors: Floors, clock: Callable[[], float]) -> None:
        self._fetch = fetch
        self._floors = floors
        self._clock = clock
        self._under_way: dict[Hashable, _Flight] = {}
        self._next_wave: dict[Hashable, _Flight] = {}
        self._not_shared: dict[Hashable, float] = {}
        self._varies_on: dict[Hashable, tuple[str, ...]] = {}
        """Key -> fields that its answers vary on, where the policy takes any."""
        self._refresh_pause: dict[Hashable, tuple[float, float]] = {}
        """Key -> (not before, current pause)."""
        self._flying: dict[asyncio.Task[None], _Flight] = {}
        self._stopping = False

    def __len__(self) -> int:
        return len(self._under_way)

    def now(self) -> float:
        """A moment of the edge's clock."""
        return self._clock()

    # -- viewers -------------------------------------------------------------------------------------------------------

    async def forward(self, errand: Errand) -> Taken:
        """What the origin says to `errand`, shared with whoever asks for the same meanwhile.

        Waits at most the policy's `collapse_wait_s` for somebody else's flight, then goes alone. A shared response is
        not below the floors at the moment this returns; its caller must use it without an `await` in between.
        """
        until = self._clock() + errand.match.policy.collapse_wait_s
        alone = not errand.shared
        tried = mismatched = False
        overtaken: Overtaken | None = None
        rounds = 0
        while rounds < MAX_ROUNDS:
            if self._stopping:
                return Taken(_stopping(), collapsed=False)
            variant = self._variant(errand)
            alone = alone or self._not_shared.get(variant, 0.0) > self._clock()
            if alone and errand.ranged:
                return Taken(Apart(), collapsed=False)
            flight, leads = self._by_itself(variant, errand) if alone else self._join(variant, errand)
            landed = await self._result(flight, leads, errand, until)
            if flight.turn is not None and flight.turn.done():
                until = max(until, flight.turn.result() + errand.match.policy.collapse_wait_s)
            may_try_again = not leads and not tried and self._clock() < until
            match landed:
                case None:
                    alone = True
                    flight.somebody_left()
                case NotKept():
                    # No floor can be held against it. A follower takes it only if nothing was applied since its leader
                    # arrived: it may show what was purged before this viewer asked; and only if their requests were
                    # forwarded alike: it may be for the leader alone.
                    alike = errand.applied == flight.errand.applied and not errand.match.policy.passes_cookies
                    if (leads or alike) and landed.claim():
                        if errand.ranged and landed.reason == Reason.BODY_TOO_LARGE:
                            landed.response.abandon()
                            return Taken(Apart(), collapsed=False)
                        return Taken(landed, collapsed=False)
                    flight.somebody_left()
                    if landed.response.status < 500:
                        alone = True
                    elif may_try_again:
                        tried = True
                    else:
                        failed = Failed(None, landed.reason, landed.origin_s, landed.response.status)
                        return Taken(failed, collapsed=True)
                case Failed():
                    if errand.ranged and landed.reason == Reason.BODY_TOO_LARGE:
                        return Taken(Apart(), collapsed=False)
                    if not (may_try_again and landed.worth_another_try):
                        return Taken(landed, collapsed=not leads)
                    tried = True
                case Overtaken(stored) if not leads and not selected(errand.request, stored, errand.match.policy):
                    alone = True
                case Overtaken(stored):
                    if self._may_take(errand, stored):
                        return Taken(landed, collapsed=not leads)
                    rounds += 1
                case Kept(stored) | Growing(stored=stored):
                    growing = landed if isinstance(landed, Growing) else None
                    if not leads and not selected(errand.request, stored, errand.match.policy):
                        # Nobody knew that answers vary on this field; by now it tells flights apart.
                        alone, mismatched = mismatched, True
                    elif self._floors.judge(stored) is not Verdict.PURGED:
                        return _share(landed, not leads)
                    elif growing is not None and self._may_take(errand, stored):
                        return _share(growing, not leads)
                    else:
                        # A purge was applied between the landing and this turn of the loop: ask again, with the new
                        # floor.
                        rounds += 1
                        if isinstance(landed, Kept) and landed.fwd_status is not None:
                            overtaken = Overtaken(stored, landed.fwd_status, landed.sent_at, landed.origin_s)
                    if growing is not None:
                        growing.somebody_left()
        if overtaken is not None and self._may_take(errand, overtaken.stored):
            return Taken(overtaken, collapsed=True)
        return Taken(Failed(None, "purged-hard", 0.0), collapsed=False)

    def refresh_later(self, errand: Errand) -> None:
        """Start a background refresh, unless one is under way or the last one failed a moment ago."""
        self._refresh(errand)

    async def refresh(self, errand: Errand) -> bool:
        """The same, and wait until it has landed; whether one was started."""
        flight = self._refresh(errand)
        if flight is None:
            return False
        await asyncio.wait([flight.ended])
        return True

    def _refresh(self, errand: Errand) -> _Flight | None:
        variant = self._variant(errand)
        paused_until, _ = self._refresh_pause.get(variant, (0.0, 0.0))
        if self._stopping or self._joined(variant, errand) is not None or paused_until > self._clock():
            return None
        flight = _Flight(self, variant, errand, background=True)
        self._start(flight)
        return flight

    def invalidate(self, key: CacheKey) -> None:
        """What is under way for `key` is outdated (RFC 9111 §4.4): nobody joins it, and it is not stored. Those who
        wait for it get it: they asked before."""
        for flight in list(self._flying.values()):
            if flight.errand.key == key:
                flight.outdated = True
                if flight.growing is not None:
                    flight.growing.joinable = False
                self._leave_behind(flight)

    def _may_take(self, errand: Errand, stored: StoredResponse) -> bool:
        """Whether an overtaken answer holds every change that was live when this viewer arrived.

        With the lease held, such a change had been applied here by then; with it run out, the flight was sent after the
        viewer arrived and demanded the head (edge/decisions/0005-overtaken-answers.md). An answer of an epoch that has
        ended holds what may no longer exist.
        """
        position = stored.position
        if self._floors.has_ended(position):
            return False
        return errand.demand_head or (errand.applied is not None and position >= errand.applied)

    def _join(self, variant: Hashable, errand: Errand) -> tuple[_Flight, bool]:
        """The flight to wait for, and whether this viewer leads it."""
        flight = self._joined(variant, errand)
        if flight is None:
            flight = _Flight(self, variant, errand)
            self._start(flight)
            return flight, True
        if not flight.wanted.done():
            flight.wanted.set_result(None)
        if not (errand.demand_head and flight.sent):
            return flight, False
        # Sent before this viewer arrived: it may have read the origin before a change that is live by now. All who
        # arrive until it lands share the one that is sent then.
        waiting = self._next_wave.get(variant)
        if waiting is None:
            waiting = self._next_wave[variant] = _Flight(self, variant, errand)
            return waiting, True
        return waiting, False

    def _joined(self, variant: Hashable, errand: Errand) -> _Flight | None:
        """The flight under way that `errand` needs no other beside."""
        flight = self._under_way.get(variant)
        if flight is None or (flight.growing is not None and not self._may_join(flight.growing, errand)):
            return None
        return flight

    def _may_join(self, growing: Growing, errand: Errand) -> bool:
        """Whether a viewer who comes later may read what grows: as if it were stored already."""
        stored = growing.stored
        return (
            growing.joinable
            and not errand.demand_head
            and not stored.no_cache
            and self._clock() < stored.fresh_until
            and self._floors.judge_answer(stored) is Verdict.CURRENT
            and selected(errand.request, stored, errand.match.policy)
        )

    def _by_itself(self, variant: Hashable, errand: Errand) -> tuple[_Flight, bool]:
        """A flight that nobody else takes part in."""
        flight = _Flight(self, variant, errand, shared=False)
        self._start(flight)
        return flight, True

    async def _result(self, flight: _Flight, leads: bool, errand: Errand, until: float) -> Landed | None:
        """What `flight` brings; None when a follower has waited long enough.

        A flight that itself waits for another is launched at `until` at the latest, beside it: it is sent after all who
        share it arrived. Its followers wait for it as long again.
        """
        if flight.launched_at is None:
            landed = await self._wait(flight, errand, until)
            if landed is not None:
                return landed
            until = self._launch(flight) + errand.match.policy.collapse_wait_s
        return await self._wait(flight, errand, None if leads else until)

    def _launch(self, flight: _Flight) -> float:
        """Send a waiting flight now, if nobody has yet; when it was sent."""
        if self._next_wave.get(flight.variant) is flight:
            self._launch_wave(flight.variant)
        return self._clock() if flight.launched_at is None else flight.launched_at

    def _launch_wave(self, variant: Hashable) -> None:
        waiting = self._next_wave.pop(variant, None)
        if waiting is not None:
            self._start(waiting)

    async def _wait(self, flight: _Flight, errand: Errand, until: float | None) -> Landed | None:
        """The result, for a part that of the whole; None when somebody else's flight takes too long."""
        if errand.ranged:
            flight.waiting_for_whole += 1
        else:
            flight.waiting += 1
        wanted: asyncio.Future[Any] = flight.ended if errand.ranged else flight.landing
        try:
            if until is None:
                return await asyncio.shield(wanted)
            patience_s = errand.match.policy.collapse_wait_s
            return await wait_patiently(wanted, lambda: flight.turn, until, patience_s, self._clock)
        finally:
            if errand.ranged:
                flight.waiting_for_whole -= 1
            else:
                flight.waiting -= 1

    # -- flights -------------------------------------------------------------------------------------------------------

    def _start(self, flight: _Flight) -> None:
        if flight.shared:
            self._under_way[flight.variant] = flight
        flight.launched_at = self._clock()
        task = asyncio.get_running_loop().create_task(self._fly(flight))
        self._flying[task] = flight
        task.add_done_callback(lambda done: self._flying.pop(done, None))

    async def _fly(self, flight: _Flight) -> None:
        flight.sent = True
        landed: Fetched
        try:
            landed = await self._fetch(flight.errand, flight)
        except Exception:
            logger.exception("a flight crashed: a fault of this program")
            landed = Failed(None, "proxy-internal-error", 0.0)
        except asyncio.CancelledError:
            landed = _stopping()
        variant = flight.variant
        if isinstance(landed, NotKept) and landed.response.status < 500:
            self._remember(self._not_shared, variant, self._clock() + HIT_FOR_MISS_S)
        elif isinstance(landed, Kept):
            self._not_shared.pop(variant, None)
            self._remember_variance(flight.errand, landed.stored)
        if flight.background:
            self._after_refresh(variant, landed)
        flight.land(landed)
        self._leave_behind(flight)

    def begun(self, flight: _Flight, growing: Growing) -> None:
        """The answer of `flight` has begun to grow."""
        self._remember_variance(flight.errand, growing.stored)
        if flight.errand.demand_head:
            # Nobody joins it later, so that nobody is to wait for its end either.
            self._leave_behind(flight)

    def not_to_be_shared(self, flight: _Flight) -> None:
        """What `flight` brings is too large to be stored."""
        self._remember(self._not_shared, flight.variant, self._clock() + HIT_FOR_MISS_S)
        self._leave_behind(flight)

    def _leave_behind(self, flight: _Flight) -> None:
        """Nobody joins `flight` any more; who waited for its turn flies."""
        if self._under_way.get(flight.variant) is flight:
            del self._under_way[flight.variant]
            if not self._stopping:
                self._launch_wave(flight.variant)

    def _after_refresh(self, variant: Hashable, landed: Fetched) -> None:
        if isinstance(landed, Kept):
            self._refresh_pause.pop(variant, None)
            return
        pause = self._refresh_pause.get(variant, (0.0, REFRESH_PAUSE_S / 2))[1] * 2
        pause = min(pause, LONGEST_REFRESH_PAUSE_S)
        if isinstance(landed, Failed) and landed.gave_way:
            pause = REFRESH_PAUSE_S
        self._remember(self._refresh_pause, variant, (self._clock() + pause, pause))

    def _variant(self, errand: Errand) -> Hashable:
        """Requests that may share a response: same key and policy, and the same in every field a response may vary on.

        Where it may vary on any, in those that the key's last response varied on.
        """
        policy = errand.match.policy
        names = policy.vary if policy.vary != ALL else self._varies_on.get((errand.key, policy.version), ())
        # A flight that demands the head does not wait behind one that does not: that one may be the reason for it.
        # Nor does a viewer take what was asked for under a policy that is no longer in force.
        return (
            errand.key,
            policy.version,
            vary_values(errand.request.headers, policy, names) if names else (),
            errand.demand_head,
        )

    def _remember_variance(self, errand: Errand, stored: StoredResponse) -> None:
        policy = errand.match.policy
        if policy.vary != ALL:
            return
        # Most vary on nothing, which is what an unknown key is taken for: they need no place.
        if stored.vary:
            self._remember(self._varies_on, (errand.key, policy.version), tuple([name for name, _ in stored.vary]))
        else:
            self._varies_on.pop((errand.key, policy.version), None)

    @staticmethod
    def _remember(memory: dict[Hashable, T], variant: Hashable, value: T) -> None:
        if len(memory) >= MAX_REMEMBERED_KEYS:
            memory.clear()
        memory[variant] = value

    async def stop(self) -> None:
        """Cancel what is under way; whoever waits is told that the edge is stopping."""
        self._stopping = True
        flights = [*self._flying.values(), *self._next_wave.values()]
        self._next_wave.clear()
        tasks = list(self._flying)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._under_way.clear()
        for flight in flights:
            # Waves, and flights that were cancelled before their first step.
            flight.land(_stopping())


def _share(landed: Kept | Growing, collapsed: bool) -> Taken:
    if isinstance(landed, Kept):
        return Taken(landed, collapsed)
    reader = landed.join()
    landed.somebody_left()
    return Taken(landed, collapsed, reader)


def _stopping() -> Failed:
    return Failed(None, "stopping", 0.0)
