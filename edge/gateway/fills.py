"""Journey 1, steps 7 and 8: ask the origin, and keep what may be kept.

An answer below the floors of its own tags is asked for again with that floor. Judging and storing are one step: no
await lies between them, so that no purge can be applied in between (docs/freshness.md, rules 2 and 3).
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
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
from edge.core.tags import policy_tags
from edge.core.validation import freshen
from edge.gateway.flights import Errand, Failed, Kept, Landed, NotKept, Overtaken
from edge.gateway.origin import SERVER_FAULTS, EdgeKeyRefused, OriginError, OriginResponse
from edge.gateway.origins import OriginPools

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


class Fills:
    """`applied` gives the position this worker has applied; `on_kept` hears of what was stored; `clock` and `wall` are
    edge.clock's two readings."""

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
    ) -> None:
        self._origins = origins
        self._store = store
        self._floors = floors
        self._edge_key = edge_key
        self._applied = applied
        self._on_kept = on_kept
        self._clock = clock
        self._wall = wall
        self._refusal_said_at = float("-inf")

    async def fetch(self, errand: Errand) -> Landed:
        """Forward `errand` and store the answer if it may be stored. Never raises for what the origin does."""
        began_at = self._clock()
        validate, placed = errand.validate, errand.placed
        minimum = self._first_minimum(errand)
        overtaken: Overtaken | None
        cut_short: OriginError | None
        try:
            for ask in range(MAX_ASKS):
                overtaken = cut_short = None
                if ask == MAX_ASKS - 1 and minimum != "head":
                    # So that at least those who have arrived by now can take what comes.
                    minimum = self._applied() or minimum
                forward = forward_request(
                    errand.request,
                    errand.match,
                    errand.key,
                    minimum=minimum,
                    country=errand.country,
                    stored=validate,
                )
                response = await self.send(forward, errand.key, placed)
                if response.status == 304 and validate is not None:
                    await response.discard()
                    decision = freshen(
                        validate,
                        Response(304, response.headers),
                        errand.match,
                        sent_at=response.sent_at,
                        received_at=response.head_at,
                        wall_now=self._wall_at(response.head_at),
                    )
                    if isinstance(decision, DoNotStore):
                        validate = None
                        continue
                    stored = decision.stored
                else:
                    try:
                        found = await self._storable(forward, response, errand.match, errand.key)
                    except OriginError as exc:
                        if placed.fail_over is None:
                            raise
                        cut_short, placed = exc, Placed(placed.fail_over)
                        self._origins.failed_over += 1
                        continue
                    if isinstance(found, Reason):
                        again = self._better_minimum(response, errand.match, minimum)
                        if again is not None:
                            await response.discard()
                            minimum = again
                            continue
                        return NotKept(response, found.value, response.sent_at, self._clock() - began_at)
                    stored = found
                # From here to `put` there is no await.
                if self._floors.judge(stored) is Verdict.CURRENT:
                    taken = self._store.put(stored)
                    if taken:
                        self._on_kept(stored)
                    return Kept(
                        stored,
                        taken,
                        response.status,
                        response.sent_at,
                        self._clock() - began_at,
                        validated=response.status == 304,
                    )
                if minimum == "head" or (minimum is not None and stored.position >= minimum):
                    overtaken = Overtaken(stored, response.status, response.sent_at, self._clock() - began_at)
                if minimum != "head":
                    minimum = self._floors.refill_floor(stored.tags)
            if overtaken is not None:
                return overtaken
            if cut_short is not None:
                raise cut_short
            return Failed(None, Reason.BELOW_FLOOR.value, self._clock() - began_at)
        except OriginError as exc:
            return Failed(exc, exc.reason, self._clock() - began_at)

    async def send(
        self,
        forward: Request,
        key: CacheKey,
        placed: Placed,
        body: AsyncIterator[bytes] | None = None,
        length: int | None = None,
    ) -> OriginResponse:
        """Ask whoever is placed for it. Raises OriginError.

        A read that the first origin gives no usable answer to goes to the second, whose word is the last: each time
        anew, because a first origin that fails for long has its breaker to keep it from being waited for.
        """
        second = placed.fail_over if forward.method in READS and body is None else None
        if second is None:
            return await self._ask(placed.origin, forward, key, body, length)
        try:
            response = await self._ask(placed.origin, forward, key)
        except OriginError:
            pass
        else:
            if response.status not in SERVER_FAULTS:
                return response
            response.abandon()
        self._origins.failed_over += 1
        return await self._ask(second, forward, key)

    async def _ask(
        self,
        origin: Origin,
        forward: Request,
        key: CacheKey,
        body: AsyncIterator[bytes] | None = None,
        length: int | None = None,
    ) -> OriginResponse:
        """One forward request, with the fields that belong to this connection. Raises OriginError."""
        pairs = [("host", key.authority), (EDGE_KEY_FIELD, self._edge_key), *forward.headers.pairs]
        if body is not None and length is not None:
            pairs.append(("content-length", str(length)))
        target = f"{forward.path}?{forward.query}" if forward.query else forward.path
        response = await self._origins.pool(origin).send(forward.method, target, Headers(pairs), body)
        if response.status == 403 and response.headers.get(REFUSED_FIELD) == REFUSED_EDGE_KEY:
            await response.discard()
            self._say_refused()
            raise EdgeKeyRefused(target)
        return response

    def _say_refused(self) -> None:
        now = self._clock()
        if now - self._refusal_said_at >= SAY_REFUSED_EVERY_S:
            self._refusal_said_at = now
            logger.error("the origin refuses fills: NEARSHELF_EDGE_KEY of this edge is not the origin's")

    def passing_minimum(self, *, demand_head: bool) -> Minimum | None:
        """What a read asks for on a route that is never stored: everything this worker has heard of."""
        return "head" if demand_head else self._applied()

    def shows_purged(self, response: OriginResponse, match: Match) -> bool:
        """Whether an answer that is passed on is labelled, and below the floors of its own tags: for nobody's eyes."""
        label = label_of(response.headers, policy_tags(match))
        return isinstance(label, Label) and self._floors.judge(label) is Verdict.PURGED

    def _first_minimum(self, errand: Errand) -> Minimum | None:
        """The highest known floor of the key's last tags, else of `*` (rule 3)."""
        if errand.demand_head:
            return "head"
        floor = self._floors.refill_floor(errand.known_tags or ())
        return None if floor == ZERO else floor

    async def _storable(
        self, forward: Request, response: OriginResponse, match: Match, key: CacheKey
    ) -> StoredResponse | Reason:
        """The response with its whole body, ready to be kept; or why not, with its body still to be read."""
        decision = may_store(
            forward,
            Response(response.status, response.headers),
            match,
            key,
            sent_at=response.sent_at,
            received_at=response.head_at,
            wall_now=self._wall_at(response.head_at),
        )
        if isinstance(decision, DoNotStore):
            return decision.reason
        if response.close_delimited:
            return Reason.LENGTH_UNKNOWN
        body = await response.read(match.policy.max_body_bytes)
        if body is None:
            return Reason.BODY_TOO_LARGE
        decision.stored.body = body
        return decision.stored

    def _better_minimum(self, response: OriginResponse, match: Match, minimum: Minimum | None) -> Minimum | None:
        """What to ask again for, when an answer that is not stored would show what was purged; None: use it."""
        if minimum == "head" or not 200 <= response.status < 300:
            return None
        label = label_of(response.headers, policy_tags(match))
        if isinstance(label, Label):
            return self._floors.refill_floor(label.tags) if self._floors.judge(label) is Verdict.PURGED else None
        applied = self._applied()
        if match.policy.shows_price and applied is not None and (minimum is None or minimum < applied):
            # No label to judge it by: then it has to be as new as everything this worker has heard of.
            return applied
        return None

    def _wall_at(self, moment: float) -> float:
        """The wall clock at a moment of the edge's clock a little while ago."""
        return self._wall() - (self._clock() - moment)
