"""Journey 1: from a parsed request to its answer, or to who brings it (`flights.py`) and hands it over (`handover.py`).

A hit is answered without a task, a wait or a second buffer (`hits.py`).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

from cache_policies.market_values import UNKNOWN_COUNTRY
from cache_policies.positions import Position
from edge.core.floors import Floors, Lease
from edge.core.http import Headers, Request, Response, end_to_end
from edge.core.key import BadTarget, CacheKey, cache_key, normalise_path
from edge.core.market import choose_market, market_redirect
from edge.core.policy import Auth, CachePolicy, DataClass, PolicySet, Redirect, Residency
from edge.core.request_rules import passes_store, refusal
from edge.core.residency import UNPLACED_WORDS, Unplaced, place
from edge.core.reuse import Absent, Fresh, FwdReason, MustValidate, Stale, Unsatisfiable, Why, decide_reuse, on_error
from edge.core.stored import StoredResponse
from edge.core.storing import Reason
from edge.core.throttle import Throttles, retry_after_s
from edge.gateway import retold
from edge.gateway.answers import for_nobody, unavailable
from edge.gateway.coder import Coder
from edge.gateway.fills import Fills
from edge.gateway.flights import Flights
from edge.gateway.growing import Growing
from edge.gateway.handover import Handover, Visit, ended, must_be_asked
from edge.gateway.hits import Hits, Known, Site
from edge.gateway.invalidations import Invalidations
from edge.gateway.landings import REGIONAL, Apart, Errand, Failed, Kept, NotKept, Overtaken
from edge.gateway.origin import SERVER_FAULTS, EdgeKeyRefused, OriginError, OriginResponse
from edge.gateway.origin.pool import Begun
from edge.gateway.passes import GoOn, Passes
from edge.gateway.record import ExchangeRecord, RecordBook, request_part
from edge.gateway.server import REFUSALS, BodyRefused, Parsed, Refusal, ViewerGone
from edge.gateway.visitors import Visitor, Visitors
from edge.store.base import Store

NEVER_SERVED = frozenset({b"CONNECT", b"TRACE", b"PURGE"})
MARKET_REDIRECT = "market-redirect"
"""The reason of the entry page's answer."""

_ASKED_FOR = frozenset({Why.REQUEST_NO_CACHE, Why.REQUEST_MAX_AGE, Why.REQUEST_MIN_FRESH})
"""A stored response would do, but not for this request's own Cache-Control."""
_ABSOLUTE = re.compile(rb"https?://([^/?#]*)([^#]*)", re.IGNORECASE)


class Exchange:
    """The application behind the viewers' listener (`server.Application`).

    `authorities`: every Host that is served, lower case. `clock`: seconds of the edge's clock. `wall`: seconds since
    the epoch, for the Date of what comes without one. `applied`: the position this worker has applied. `noted`:
    parameters that the access log tells although no policy counts them.
    """

    def __init__(
        self,
        *,
        edge: str,
        worker: str,
        authorities: frozenset[str],
        policies: PolicySet,
        applied: Callable[[], Position | None],
        store: Store,
        floors: Floors,
        lease: Lease,
        fills: Fills,
        flights: Flights,
        invalidations: Invalidations,
        book: RecordBook,
        visitors: Visitors,
        clock: Callable[[], float],
        wall: Callable[[], float],
        noted: tuple[str, ...] = (),
    ) -> None:
        self._edge = edge
        self._worker = worker
        self._policies = policies
        self._applied = applied
        self._store = store
        self._floors = floors
        self._lease = lease
        self._fills = fills
        self._flights = flights
        self._invalidations = invalidations
        self._book = book
        self._visitors = visitors
        self._throttles = Throttles()
        self._noted = noted
        self._clock = clock
        coder = Coder(store)
        self._hand = Handover(
            edge=edge, store=store, floors=floors, lease=lease, book=book, coder=coder, clock=clock, wall=wall
        )
        self._passes = Passes(
            edge=edge,
            fills=fills,
            book=book,
            visitors=visitors,
            hand=self._hand,
            applied=applied,
            go_on=GoOn(failed=self._pass_again, answered=self._pass_on),
            clock=clock,
            wall=wall,
        )
        self._hits = Hits(
            edge=edge,
            authorities=authorities,
            noted=noted,
            store=store,
            floors=floors,
            lease=lease,
            book=book,
            coder=coder,
            elsewhere=self._passes.quick,
            clock=clock,
        )
        self.quick = self._hits.quick

    def use(self, policies: PolicySet) -> None:
        """Decide by `policies` from the next request on; those under way end by what they began with."""
        self._policies = policies
        self._hits.forget_addresses()
        self._passes.forget_addresses()

    # -- at once -------------------------------------------------------------------------------------------------------

    def at_once(self, parsed: Parsed, now: float) -> bytes | Callable[[], Awaitable[None]] | asyncio.Future[None]:
        """The whole answer where the store or the edge itself has it; else what to await, or, where nobody has to wait
        for it, what is done when the viewer has been answered."""
        site = self._hits.site_of(parsed.host)
        if site is None:
            parsed.keep_alive = False
            return self.refuse(Refusal.HOST_UNKNOWN, parsed, now)
        hit = self._hits.answer(parsed, site, now)
        if hit is not None:
            return hit
        return self._passes.begin(parsed, now) or self._at_length(parsed, site, now)

    def _at_length(self, parsed: Parsed, site: Site, now: float) -> bytes | Callable[[], Awaitable[None]]:
        """Any other request: conditions, HEAD, writes, misses, first requests for an address."""
        visit = self._arrive(parsed, site, now)
        return visit if isinstance(visit, bytes) else self._decide(visit, now)

    def _arrive(self, parsed: Parsed, site: Site, now: float) -> Visit | bytes:
        """What a request is about, when it is for more than the edge's own answer."""
        own_answer = self._hand.own_answer
        if parsed.method in NEVER_SERVED:
            return self.refuse(Refusal.METHOD, parsed, now)
        target = _path_and_query(parsed.target, site.authority)
        if target is None:
            return self.refuse(Refusal.MALFORMED, parsed, now)
        path, _, query = target.decode("latin-1").partition("?")
        request = Request(parsed.method.decode("ascii"), site.authority, path, query, _headers(parsed.fields))
        try:
            match = self._policies.match(normalise_path(path))
            key = cache_key(request, match)
        except BadTarget as exc:
            record = self._record(parsed, "-", None, personal=False)
            response = unavailable(400, f"The address is malformed: {exc.fault.value}.", request)
            return own_answer(response, parsed, record, exc.fault.value)
        policy = match.policy
        noted = retold.noted_query(query, policy, self._noted) if self._noted else ()
        record = self._record(parsed, policy.id, key, noted, personal=policy.data_class is DataClass.PERSONAL)
        guarded = policy.throttle is not None or bool(policy.blocked_countries)
        if guarded:
            turned_away = self._turned_away(request, policy, parsed, now)
            if turned_away is not None:
                return own_answer(turned_away[0], parsed, record, turned_away[1].value)
        refused = refusal(request, match)
        if refused is not None:
            return own_answer(refused.response, parsed, record, refused.reason.value)
        policies = self._policies
        if policy.redirect is Redirect.MARKET:
            headers = request.headers
            country = self._visitor(parsed).country
            market = choose_market(policies.markets, country, headers.joined("cookie"), headers.get("user-agent"))
            return own_answer(market_redirect(market), parsed, record, MARKET_REDIRECT)
        by_country = policy.residency is not Residency.NONE and not match.market
        country = self._visitor(parsed).country if by_country else UNKNOWN_COUNTRY
        placed = place(policy, match.market, country, policies.markets, policies.origins)
        if isinstance(placed, Unplaced):
            return own_answer(for_nobody(UNPLACED_WORDS, request), parsed, record, placed.why.value)
        if policy.store and not guarded and parsed.method == b"GET" and policy.data_class is DataClass.PUBLIC:
            tally = self._book.counters.exchange(policy.id, "hit", "", 200)
            site.remember(parsed.target, Known(key, policy, record.about, tally))
        return Visit(parsed, request, match, key, placed, record, policies)

    def _decide(self, visit: Visit, now: float, *, in_task: bool = False) -> bytes | Callable[[], Awaitable[None]]:
        """What the store has for a request that this edge serves. `in_task`: what is returned is awaited at once."""
        request, policy = visit.request, visit.policy
        if passes_store(request, policy):
            past = Absent(FwdReason.BYPASS, Why.AUTHORIZATION, policy.shows_price and not self._lease.held(now))
            return partial(self._pass, visit, past)
        candidates = self._store.get(visit.key) if policy.store else ()
        match decide_reuse(request, candidates, policy, self._floors, self._lease, now):
            case Fresh(stored):
                if stored.vary and self._book.log is not None:
                    visit.record.retold = retold.shown(request, stored, policy)
                answer = self._hand.from_store(visit, stored, now, None)
                return answer if in_task or isinstance(answer, bytes) else partial(self._again, visit)
            case Stale(stored, why, refresh):
                if refresh:
                    self._flights.refresh_later(self._errand(visit, stored, candidates))
                    self._hits.refreshing(visit.parsed, now)
                if self._book.log is not None:
                    floor = retold.purged(stored, why, self._floors)
                    visit.record.retold = retold.shown(request, stored, policy) + floor
                answer = self._hand.from_store(visit, stored, now, why)
                return answer if in_task or isinstance(answer, bytes) else partial(self._again, visit)
            case Unsatisfiable(why):
                response = unavailable(504, "This is not in the cache, and only the cache was asked.", request)
                return self._hand.own_answer(response, visit.parsed, visit.record, why.value)
            case MustValidate() as need:
                visit.record.retold = retold.purged(need.stored, need.why, self._floors)
                errand = self._errand(visit, need.stored, candidates, need.demand_head, need.why)
                fwd = FwdReason.REQUEST if need.why in _ASKED_FOR else FwdReason.STALE
                if fwd is FwdReason.STALE and self._fills.pool_of(visit.placed).pace.is_kept:
                    shown = on_error(candidates, request, policy, self._floors, self._lease, now, unreachable=True)
                    errand = replace(errand, stood_in=shown is not None)
                return partial(self._forward, visit, errand, fwd, need.why)
            case Absent() as need if need.past_store:
                return partial(self._pass, visit, need)
            case Absent() as need:
                errand = self._errand(visit, None, candidates, need.demand_head, need.why)
                return partial(self._forward, visit, errand, need.fwd, need.why)

    def refuse(self, reason: Refusal, parsed: Parsed | None, now: float) -> bytes:
        """The answer to a request that is not served; the connection is closed after it."""
        status, _, why = REFUSALS[reason]
        method = "-" if parsed is None else parsed.method.decode("ascii")
        about = request_part(self._edge, self._worker, method, "-", None, personal=False)
        record = ExchangeRecord(now if parsed is None else parsed.received_at, about, "-")
        response = unavailable(status, why, None)
        if reason is Refusal.METHOD:
            response = Response(405, response.headers.with_(("allow", "GET, HEAD")), response.body)
        if parsed is not None:
            parsed.keep_alive = False
        return self._hand.own_answer(response, parsed, record, reason.value)

    # -- awaited -------------------------------------------------------------------------------------------------------

    async def _again(self, visit: Visit) -> None:
        """What was found was too long to be answered at once, and a purge may have been applied since: decide anew, in
        the step in which its head is written."""
        answer = self._decide(visit, self._clock(), in_task=True)
        if isinstance(answer, bytes):
            visit.parsed.viewer.write(answer)
        else:
            await answer()

    async def _forward(self, visit: Visit, errand: Errand, fwd: FwdReason, why: Why) -> None:
        """Steps 6 to 8 on a route that is stored: share a flight, hand over what it brought."""
        taken = await self._flights.forward(errand)
        # From here to the write there is no await on the way of a shared response: check and use are one step.
        now = self._clock()
        landed, record = taken.landed, visit.record
        record.fwd, record.reason, record.collapsed = fwd, why.value, taken.collapsed
        if not isinstance(landed, Apart):
            record.origin_s = landed.origin_s
        if isinstance(landed, Kept | Growing) and self._book.log is not None:
            record.retold += retold.fetched(landed.stored, landed.length if isinstance(landed, Growing) else None)
        match landed:
            case Kept(stored):
                record.fwd_status, record.stored = landed.fwd_status, landed.taken
                record.outcome = "validated" if landed.validated else "miss"
                if landed.regional:
                    record.outcome = record.reason = REGIONAL
                record.ttl_s = int(stored.fresh_until - now)
                await self._hand.kept(visit, stored, now)
            case Growing(stored=stored):
                assert taken.reader is not None
                record.fwd_status, record.ttl_s = landed.fwd_status, int(stored.fresh_until - now)
                await self._hand.growing(visit, landed, taken.reader, now)
            case Overtaken(stored):
                # What it lacks was not live when this viewer arrived. Nobody else gets it, and no store.
                record.fwd_status, record.reason = landed.fwd_status, Why.OVERTAKEN.value
                await self._hand.kept(visit, stored, now)
            case NotKept(response=response):
                record.fwd_status, record.outcome = response.status, "miss"
                if response.status in SERVER_FAULTS:
                    try:
                        shown = await self._hand.instead(visit, now, unreachable=False)
                    except ViewerGone:
                        response.abandon()
                        raise
                    if shown:
                        await response.discard()
                        return
                if why is Why.COLD:
                    record.reason = landed.reason
                await self._hand.forwarded(visit, response)
            case Failed():
                record.fwd_status = landed.fwd_status
                unreachable = landed.error is not None and not isinstance(landed.error, EdgeKeyRefused)
                if not await self._hand.instead(visit, now, unreachable=unreachable):
                    bound = errand.validate is not None and must_be_asked(errand.validate)
                    await self._hand.error(visit, landed.error, landed.reason, now, leased=True, bound=bound)
            case Apart():
                await self._pass(visit, Absent(fwd, why, errand.demand_head))

    async def _pass(self, visit: Visit, need: Absent, begun: Begun | None = None) -> None:
        """A route that is never stored, a write, a part of what is not stored: through to the origin and back, both
        bodies streamed. `begun`: it was sent the short way (`passes.py`), and failed."""
        parsed, request, match, record = visit.parsed, visit.request, visit.match, visit.record
        record.fwd, record.reason, record.outcome = need.fwd, need.why.value, "pass"
        reads = request.method in {"GET", "HEAD"}
        visitor = self._visitor(parsed)
        body = parsed.body
        try:
            if body is not None:
                await body.begun()
            forward = self._fills.passing(
                replace(request, peer=visitor.address),
                match,
                visit.key,
                demand_head=need.demand_head,
                country=visitor.country,
            )
            answer = await self._fills.send(
                forward,
                visit.key,
                visit.placed,
                visit.policy.id,
                None if body is None else body.pieces(),
                None if body is None else body.length,
                self._hand.hints_for(visit),
                begun,
            )
        except OriginError as exc:
            leased = reads and need.demand_head
            await self._hand.error(visit, exc, exc.reason, self._clock(), leased=leased)
            return
        except BodyRefused as exc:
            refused, _, refused_because = REFUSALS[exc.refusal]
            response = unavailable(refused, refused_because, request)
            parsed.viewer.write(self._hand.own_answer(response, parsed, record, exc.refusal.value))
            return
        except ViewerGone:
            self._book.note(ended(record, "gone", record.reason))
            raise
        if visit.policies is self._policies:  # others may have come while it was under way
            self._passes.remember(visit, need)
        await self._passed(visit, answer)

    async def _passed(self, visit: Visit, answer: OriginResponse) -> None:
        """The head of what was passed through is there."""
        request, match, record = visit.request, visit.match, visit.record
        reads = request.method in {"GET", "HEAD"}
        record.fwd_status = answer.status
        record.origin_s = answer.head_at - answer.sent_at
        if reads and self._fills.shows_purged(answer, match):
            answer.abandon()
            await self._hand.error(visit, None, Reason.BELOW_FLOOR.value, self._clock(), leased=False)
            return
        await self._invalidations.after(request, answer.status, answer.headers, self._policies)
        await self._hand.forwarded(visit, answer)

    async def _pass_again(self, parsed: Parsed, need: Absent, begun: Begun) -> None:
        """What was begun the short way has failed."""
        visit = self._revisit(parsed)
        if isinstance(visit, bytes):
            parsed.viewer.write(visit)
        else:
            await self._pass(visit, need, begun)

    async def _pass_on(self, parsed: Parsed, need: Absent, answer: OriginResponse) -> None:
        """What was begun the short way has an answer that is not for it."""
        visit = self._revisit(parsed)
        if isinstance(visit, bytes):
            answer.abandon()
            parsed.viewer.write(visit)
            return
        record = visit.record
        record.fwd, record.reason, record.outcome = need.fwd, need.why.value, "pass"
        try:
            answer = await self._fills.accepted(answer)
        except OriginError as exc:
            self._book.counters.failed(record.route, exc, self._clock() - answer.sent_at)
            await self._hand.error(visit, exc, exc.reason, self._clock(), leased=need.demand_head)
            return
        self._book.counters.answered(record.route, answer.status, answer.head_at - answer.sent_at)
        await self._passed(visit, answer)

    def _revisit(self, parsed: Parsed) -> Visit | bytes:
        """What a request that went the short way is about; an answer, where the policies have changed meanwhile."""
        site = self._hits.site_of(parsed.host)
        now = self._clock()
        return self.refuse(Refusal.HOST_UNKNOWN, parsed, now) if site is None else self._arrive(parsed, site, now)

    # -- small parts ---------------------------------------------------------------------------------------------------

    def _errand(
        self,
        visit: Visit,
        validate: StoredResponse | None,
        candidates: tuple[StoredResponse, ...],
        demand_head: bool = False,
        why: Why | None = None,
    ) -> Errand:
        request = visit.request
        credentials = visit.policy.auth is Auth.SHARED and "authorization" in request.headers
        return Errand(
            request,
            visit.match,
            visit.key,
            validate,
            validate.tags if validate is not None else candidates[0].tags if candidates else None,
            demand_head,
            self._visitor(visit.parsed).country,
            visit.placed,
            self._applied(),
            # Who wants the origin's own word takes nobody else's; an answer to credentials is only shared once stored.
            shared=not credentials and why is not Why.REQUEST_NO_CACHE,
            # Not for a refresh behind the back of a viewer who has an answer.
            hint=None if why is None else self._hand.hints_for(visit),
            ranged=request.method == "GET" and "range" in request.headers,
        )

    def _record(
        self,
        parsed: Parsed,
        route: str,
        key: CacheKey | None,
        noted: tuple[tuple[str, str], ...] = (),
        *,
        personal: bool,
    ) -> ExchangeRecord:
        method = parsed.method.decode("ascii")
        about = request_part(self._edge, self._worker, method, route, key, noted, personal=personal)
        return ExchangeRecord(parsed.received_at, about, route)

    def _visitor(self, parsed: Parsed) -> Visitor:
        return self._visitors.of(parsed.viewer, parsed.fields)

    def _turned_away(
        self, request: Request, policy: CachePolicy, parsed: Parsed, now: float
    ) -> tuple[Response, Refusal] | None:
        """The answer to a visitor whom this route does not serve, or not so often, and why; counts who may pass."""
        visitor = self._visitor(parsed)
        if visitor.country in policy.blocked_countries:
            status, _, why = REFUSALS[Refusal.COUNTRY_BLOCKED]
            return unavailable(status, why, request), Refusal.COUNTRY_BLOCKED
        if policy.throttle is None:
            return None
        wait_s = self._throttles.wait_s((policy.id, policy.throttle, visitor.counted_as), policy.throttle, now)
        if not wait_s:
            return None
        status, _, why = REFUSALS[Refusal.THROTTLED]
        response = unavailable(status, why, request)
        told = ("retry-after", str(retry_after_s(wait_s)))
        return Response(status, response.headers.with_(told), response.body), Refusal.THROTTLED


def _path_and_query(target: bytes, authority: str) -> bytes | None:
    """The target in origin form; None for one that is for another host, or is no address at all (RFC 9112 §3.2)."""
    if target.startswith(b"/"):
        return target
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None or absolute[1].decode("latin-1").lower() != authority:
        return None
    rest = absolute[2]
    return rest if rest.startswith(b"/") else b"/" + rest


def _headers(fields: list[tuple[bytes, bytes]]) -> Headers:
    """The fields that a decision may depend on. Not those that Connection names: the origin never gets to see them, so
    they must choose neither a variant nor a flight that others share."""
    found = Headers([(name.decode("ascii").lower(), value.decode("latin-1").strip(" \t")) for name, value in fields])
    return end_to_end(found) if "connection" in found else found
