"""Journey 1, steps 7 and 8: ask the origin, and keep what may be kept.

An answer below the floors of its own tags is asked for again with that floor, one of an epoch that has ended with the
position at which the next began. Judging and storing are one step: no await lies between them, so that no purge can be
applied in between (docs/freshness.md, rules 2, 3 and 8). An answer longer than `WHOLE_BYTES` is judged when it begins,
handed on as it grows, and judged again before it is stored.

Before the origin is asked a fill waits for its turn there (`turns.py`).
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Literal, Protocol

from cache_policies.fields import EDGE_KEY_FIELD, REFUSED_EDGE_KEY, REFUSED_FIELD
from cache_policies.origins import Origin
from cache_policies.positions import ZERO, Position
from edge.core.floors import Floors, Verdict
from edge.core.http import Headers, Request, Response
from edge.core.key import CacheKey
from edge.core.policy import Match
from edge.core.request_rules import forward_request
from edge.core.residency import Placed
from edge.core.stored import StoredResponse
from edge.core.storing import DoNotStore, Label, Reason, label_of, may_store
from edge.core.validation import conditions, freshen
from edge.gateway.counters import Counters
from edge.gateway.flights import Fate
from edge.gateway.growing import WHOLE_BYTES, Growing
from edge.gateway.landings import Errand, Failed, Fetched, Kept, NotKept, Overtaken
from edge.gateway.origin import SERVER_FAULTS, EdgeKeyRefused, OnInterim, OriginError, OriginResponse, Turn
from edge.gateway.origin.pool import Begun, OriginPool
from edge.gateway.origins import OriginPools
from edge.gateway.regional import Found, Regional
from edge.gateway.turns import Turns

logger = logging.getLogger("nearshelf.fills")

MAX_ASKS = 4
"""Once, once more with the floor of its tags, and twice in case purges keep coming in meanwhile."""

READS = frozenset({"GET", "HEAD"})
"""What may fail over to another origin."""

SAY_REFUSED_EVERY_S = 60.0

Minimum = Position | Literal["head"]


class Keeps(Protocol):
    """The part of a store that a fill needs."""

    def put(self, stored: StoredResponse) -> bool: ...

    def drop(self, key: CacheKey) -> int: ...


class Fills:
    """`applied` gives the position this worker has applied; `on_kept` hears of what was stored; `regional` is asked
    before the origin is; `clock` and `wall` are edge.clock's two readings. `max_growing_bytes`: of all bodies that grow
    at a time; beyond it they are passed on and not stored. Requests to origins are counted in `counters`.

    `own_positions`: the purge log is the site's own, of which the origin knows nothing. What it says is as new as what
    this worker had applied when the request was sent, and it is told nothing of positions, countries and keys.
    """

    def __init__(
        self,
        origins: OriginPools,
        store: Keeps,
        floors: Floors,
        *,
        edge_key: str,
        applied: Callable[[], Position | None],
        on_kept: Callable[[StoredResponse], None],
        clock: Callable[[], float],
        wall: Callable[[], float],
        max_growing_bytes: int,
        counters: Counters,
        regional: Regional | None = None,
        own_positions: bool = False,
        scheme: str = "http",
    ) -> None:
        self._origins = origins
        self._store = store
        self._floors = floors
        self._edge_key = edge_key
        self._applied = applied
        self._on_kept = on_kept
        self._clock = clock
        self._wall = wall
        self._regional = regional
        self._own_positions = own_positions
        self._max_growing_bytes = max_growing_bytes
        self._counters = counters
        self._turns = Turns(origins, floors, counters, clock)
        self._growing_bytes = 0
        self._scheme = scheme
        self._refusal_said_at = float("-inf")

    async def fetch(self, errand: Errand, fate: Fate) -> Fetched:
        """Bring what `errand` asks for, and store it if it may be stored. Never raises for what the origin does."""
        began_at = self._clock()
        regional = self._regional
        if regional is None or not fate.shared or not regional.may_answer(errand):
            return await self._in_turn(errand, fate, began_at, None, Found())
        found = await regional.look(errand)
        if found.fresh is not None and not fate.outdated:
            return self._taken(found.fresh, began_at)
        return await self._in_turn(errand, fate, began_at, regional, found)

    async def _in_turn(
        self, errand: Errand, fate: Fate, began_at: float, regional: Regional | None, found: Found
    ) -> Fetched:
        """The same when it is this fill's turn at the origin. `found`: what `regional` had before."""
        turn: Turn | None = None
        try:
            turn, errand = await self._turns.turn(errand, fate)
            if regional is not None:
                found = await regional.claim(errand, found)
                if found.claim is not None and not found.claim.mine:
                    # Another worker flies, and meanwhile this place is somebody else's. Should nothing come of that
                    # flight, this worker asks as well.
                    claim, found = found.claim, found._replace(claim=None)
                    turn.release()
                    turn = None
                    found = await regional.landing(errand, claim)
                if found.fresh is not None and not fate.outdated:
                    return self._taken(found.fresh, began_at)
                if found.validate is not None:
                    errand = replace(errand, validate=found.validate, known_tags=found.validate.tags)
                if turn is None:
                    turn, errand = await self._turns.turn(errand, fate)
            return await self._from_origin(errand, fate, began_at, turn)
        except OriginError as exc:
            return Failed(exc, exc.reason, self._clock() - began_at)
        finally:
            if found.claim is not None:
                found.claim.release()
            if turn is not None:
                turn.release()

    def _taken(self, fresh: StoredResponse, began_at: float) -> Kept:
        """Another worker of the site had it."""
        taken = self._store.put(fresh)
        return Kept(fresh, taken, None, began_at, self._clock() - began_at, regional=True)

    async def _from_origin(self, errand: Errand, fate: Fate, began_at: float, turn: Turn) -> Fetched:
        validate, placed = errand.validate, errand.placed
        minimum = self._first_minimum(errand)
        overtaken: Overtaken | None
        cut_short: OriginError | None
        try:
            for ask in range(MAX_ASKS):
                overtaken = cut_short = None
                if ask == MAX_ASKS - 1 and minimum != "head" and not self._own_positions:
                    # So that at least those who have arrived by now can take what comes.
                    minimum = self._applied() or minimum
                forward = forward_request(
                    errand.request,
                    errand.match,
                    errand.key,
                    minimum=minimum,
                    country=None if self._own_positions else errand.country,
                    conditions=self._conditions(validate),
                    scheme=self._scheme,
                )
                # Read before the request is sent: what is purged from here on may be missing in the answer.
                counter = (self._applied() or ZERO) if self._own_positions else None
                route = errand.match.policy.id
                response = await self.send(forward, errand.key, placed, route, on_interim=errand.hint, turn=turn)
                if response.status == 304 and validate is not None:
                    await response.discard()
                    freshened = self._freshened(validate, response, errand.match, counter)
                    if freshened is None:
                        validate = None
                        continue
                    stored = freshened
                else:
                    found = self._storable(forward, response, errand.match, errand.key, counter)
                    if isinstance(found, StoredResponse):
                        # What is below the floors is asked for again, or read to its end: whoever may have it gets it
                        # whole.
                        current = self._floors.judge_answer(found) is Verdict.CURRENT
                        limit = errand.match.policy.max_body_bytes
                        at_once = min(WHOLE_BYTES, limit) if current else limit
                        try:
                            body = await response.read(at_once)
                        except OriginError as exc:
                            if placed.fail_over is None:
                                raise
                            cut_short, placed = exc, Placed(placed.fail_over)
                            self._origins.failed_over += 1
                            continue
                        if body is not None:
                            found.body = body
                        elif at_once == limit:
                            found = Reason.BODY_TOO_LARGE
                        elif self._floors.judge_answer(found) is Verdict.CURRENT:
                            return await self._grow(found, response, errand, fate, began_at)
                        else:
                            # Purged while it began, which is too soon to say who might have it.
                            response.abandon()
                            minimum = self._higher(minimum, found)
                            continue
                    if isinstance(found, Reason):
                        again = self._better_minimum(response, errand.match, minimum)
                        if again is not None:
                            await response.discard()
                            minimum = again
                            continue
                        if errand.validate is not None and _supersedes(response.status, found):
                            self._forget(errand.key)
                        return NotKept(response, found.value, response.sent_at, self._clock() - began_at)
                    stored = found
                # From here to `put` there is no await.
                outdated = fate.outdated and not self._floors.has_ended(stored.position)
                if outdated or self._floors.judge_answer(stored) is Verdict.CURRENT:
                    return Kept(
                        stored,
                        self._keep(stored, fate),
                        response.status,
                        response.sent_at,
                        self._clock() - began_at,
                        validated=response.status == 304,
                    )
                if counter is not None or minimum == "head" or (minimum is not None and stored.position >= minimum):
                    overtaken = Overtaken(stored, response.status, response.sent_at, self._clock() - began_at)
                minimum = self._higher(minimum, stored)
            if overtaken is not None:
                return overtaken
            if cut_short is not None:
                raise cut_short
            return Failed(None, Reason.BELOW_FLOOR.value, self._clock() - began_at)
        except OriginError as exc:
            return Failed(exc, exc.reason, self._clock() - began_at)

    async def _grow(
        self, stored: StoredResponse, response: OriginResponse, errand: Errand, fate: Fate, began_at: float
    ) -> Fetched:
        """Hand `response` on as it comes, and keep it in the end if it is not too large. Raises OriginError."""
        origin_s = self._clock() - began_at
        growing = Growing(
            stored, response.length, fate, fwd_status=response.status, sent_at=response.sent_at, origin_s=origin_s
        )
        fate.grows(growing)
        limit = errand.match.policy.max_body_bytes
        counted = 0
        outgrown = False
        try:
            async for data in response.chunks():
                growing.feed(data)
                if outgrown:
                    if not await growing.room():
                        response.abandon()
                        break
                    continue
                counted += len(data)
                self._growing_bytes += len(data)
                if counted > limit or self._growing_bytes > self._max_growing_bytes:
                    outgrown = True
                    growing.outgrow()
                    fate.outgrown()
        except BaseException as exc:
            growing.cut(exc.reason if isinstance(exc, OriginError) else "stopping")
            response.abandon()
            raise
        finally:
            self._growing_bytes -= counted
        stored.body = growing.finish()
        if outgrown:
            return Failed(None, Reason.BODY_TOO_LARGE.value, origin_s, response.status)
        return Kept(stored, self._keep(stored, fate), response.status, response.sent_at, origin_s)

    def _keep(self, stored: StoredResponse, fate: Fate) -> bool:
        """Store what is not below the floors now, and was not invalidated meanwhile; whether it was taken."""
        if fate.outdated or self._floors.judge_answer(stored) is not Verdict.CURRENT:
            return False
        taken = self._store.put(stored)
        if taken:
            self._on_kept(stored)
            if self._regional is not None:
                self._regional.keep(stored)
        return taken

    def _forget(self, key: CacheKey) -> None:
        """What is stored under `key` is not what the origin says any more."""
        self._store.drop(key)
        if self._regional is not None:
            self._regional.drop(key)

    async def send(
        self,
        forward: Request,
        key: CacheKey,
        placed: Placed,
        route: str,
        body: AsyncIterator[bytes] | None = None,
        length: int | None = None,
        on_interim: OnInterim | None = None,
        begun: Begun | None = None,
        turn: Turn | None = None,
    ) -> OriginResponse:
        """Ask whoever is placed for it. Raises OriginError. `on_interim` hears of every 103 before this returns;
        `begun`: it was sent before, and failed (`OriginPool.begin_read`); `turn`: its place at the first origin.
        Counted under `route`.

        A read that the first origin gives no usable answer to goes to the second, whose word is the last: each time
        anew, because a first origin that fails for long has its breaker to keep it from being waited for.
        """
        second = placed.fail_over if forward.method in READS and body is None else None
        if second is None:
            return await self._ask(placed.origin, forward, key, route, body, length, on_interim, begun, turn)
        try:
            response = await self._ask(placed.origin, forward, key, route, on_interim=on_interim, turn=turn)
        except OriginError:
            pass
        else:
            if response.status not in SERVER_FAULTS:
                return response
            response.abandon()
        self._origins.failed_over += 1
        return await self._ask(second, forward, key, route, on_interim=on_interim)

    async def _ask(
        self,
        origin: Origin,
        forward: Request,
        key: CacheKey,
        route: str,
        body: AsyncIterator[bytes] | None = None,
        length: int | None = None,
        on_interim: OnInterim | None = None,
        begun: Begun | None = None,
        turn: Turn | None = None,
    ) -> OriginResponse:
        """One forward request, with the fields that belong to this connection. Raises OriginError."""
        target, headers = self.as_sent(forward, key)
        if body is not None and length is not None:
            headers = headers.with_(("content-length", str(length)))
        pool = self._origins.pool(origin)
        began_at = self._clock() if begun is None else begun.sent_at
        try:
            response = await pool.send(
                forward.method, target, headers, body, on_interim=on_interim, begun=begun, turn=turn
            )
            await self.accepted(response)
        except OriginError as exc:
            self._counters.failed(route, exc, self._clock() - began_at)
            raise
        self._counters.answered(route, response.status, response.head_at - began_at)
        return response

    def as_sent(self, forward: Request, key: CacheKey) -> tuple[str, Headers]:
        """Target and fields of a forward request, those among them that belong to this connection."""
        pairs = [("host", key.authority), *forward.headers.pairs]
        if not self._own_positions:
            pairs.insert(1, (EDGE_KEY_FIELD, self._edge_key))
        return f"{forward.path}?{forward.query}" if forward.query else forward.path, Headers(pairs)

    def pool_of(self, placed: Placed) -> OriginPool:
        """Whose connections a forward request takes."""
        return self._origins.pool(placed.origin)

    async def accepted(self, response: OriginResponse) -> OriginResponse:
        """`response`, unless the origin refuses this edge. Raises EdgeKeyRefused."""
        if response.status == 403 and response.headers.get(REFUSED_FIELD) == REFUSED_EDGE_KEY:
            await response.discard()
            self._say_refused()
            raise EdgeKeyRefused(response.target)
        return response

    def _say_refused(self) -> None:
        now = self._clock()
        if now - self._refusal_said_at >= SAY_REFUSED_EVERY_S:
            self._refusal_said_at = now
            logger.error("the origin refuses fills: NEARSHELF_EDGE_KEY of this edge is not the origin's")

    def passing(self, request: Request, match: Match, key: CacheKey, *, demand_head: bool, country: str) -> Request:
        """The forward request for an answer that is this viewer's alone. A read asks for everything that this worker
        has heard of."""
        minimum: Minimum | None = None
        if request.method in READS and not self._own_positions:
            minimum = "head" if demand_head else self._applied()
        told = None if self._own_positions else country
        return forward_request(request, match, key, minimum=minimum, country=told, past_store=True, scheme=self._scheme)

    def shows_purged(self, response: OriginResponse, match: Match) -> bool:
        """Whether an answer that is passed on is labelled, and below the floors of its own tags: for nobody's eyes."""
        if self._own_positions:
            return False
        label = label_of(response.headers, match, None)
        return isinstance(label, Label) and self._floors.judge_answer(label) is Verdict.PURGED

    def _conditions(self, validate: StoredResponse | None) -> tuple[tuple[str, str], ...]:
        if validate is None:
            return ()
        purged = self._floors.judge(validate) is not Verdict.CURRENT
        return conditions(validate, labelled=not self._own_positions, purged=purged)

    def _first_minimum(self, errand: Errand) -> Minimum | None:
        """The highest known floor of the key's last tags, else of `*` (rule 3)."""
        if self._own_positions:
            return None
        if errand.demand_head:
            return "head"
        floor = self._floors.refill_floor(errand.known_tags or ())
        return None if floor == ZERO else floor

    def _freshened(
        self, validate: StoredResponse, response: OriginResponse, match: Match, counter: Position | None
    ) -> StoredResponse | None:
        """What a 304 makes of the response whose validators were sent; None: it is of no use, ask without them."""
        decision = freshen(
            validate,
            Response(304, response.headers),
            match,
            counter=counter,
            sent_at=response.sent_at,
            received_at=response.head_at,
            wall_now=self._wall_at(response.head_at),
        )
        return None if isinstance(decision, DoNotStore) else decision.stored

    def _storable(
        self, forward: Request, response: OriginResponse, match: Match, key: CacheKey, counter: Position | None
    ) -> StoredResponse | Reason:
        """The response as it is to be kept, still without its body; or why not."""
        decision = may_store(
            forward,
            Response(response.status, response.headers),
            match,
            key,
            counter=counter,
            sent_at=response.sent_at,
            received_at=response.head_at,
            wall_now=self._wall_at(response.head_at),
        )
        if isinstance(decision, DoNotStore):
            return decision.reason
        if response.close_delimited:
            return Reason.LENGTH_UNKNOWN
        if response.length is not None and response.length > match.policy.max_body_bytes:
            return Reason.BODY_TOO_LARGE
        return decision.stored

    def _higher(self, minimum: Minimum | None, stored: StoredResponse) -> Minimum | None:
        """What to ask again for, instead of a response that is below the floors."""
        if minimum == "head" or self._own_positions:
            return minimum
        return self._floors.refill_floor(stored.tags)

    def _better_minimum(self, response: OriginResponse, match: Match, minimum: Minimum | None) -> Minimum | None:
        """What to ask again for, when an answer that is not stored would show what was purged; None: use it."""
        if minimum == "head" or self._own_positions or response.status >= 500:
            return None
        label = label_of(response.headers, match, None)
        if isinstance(label, Label):
            purged = self._floors.judge_answer(label) is Verdict.PURGED
            return self._floors.refill_floor(label.tags) if purged else None
        applied = self._applied()
        reads = 200 <= response.status < 300
        if reads and match.policy.shows_price and applied is not None and (minimum is None or minimum < applied):
            # No label to judge it by: then it has to be as new as everything this worker has heard of.
            return applied
        return None

    def _wall_at(self, moment: float) -> float:
        """The wall clock at a moment of the edge's clock a little while ago."""
        return self._wall() - (self._clock() - moment)


def _supersedes(status: int, reason: Reason) -> bool:
    """Whether an answer that is not stored takes the place of the stored one that was asked about (RFC 9111 §4.3.3):
    what is not there any more, or not for everybody any more, must not be shown stale. Not where it is for one viewer
    alone, nor where something failed."""
    return reason not in _FOR_ONE_VIEWER and (200 <= status < 400 or status in _GONE)


_FOR_ONE_VIEWER = frozenset({Reason.SET_COOKIE, Reason.AUTHORIZATION})
_GONE = frozenset({401, 403, 404, 410, 451})
