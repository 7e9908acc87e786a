"""Journey 1: from a parsed request to its answer. A hit is answered without a task, a wait or a second buffer."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from email.utils import formatdate
from functools import partial

from cache_policies.market_values import UNKNOWN_COUNTRY
from cache_policies.positions import Position
from edge.core.delivery import (
    deliver,
    deliver_forwarded,
    deliver_marked,
    not_modified,
    response_head,
)
from edge.core.floors import Floors, Lease
from edge.core.freshness import current_age
from edge.core.http import Headers, Request, Response, end_to_end
from edge.core.key import BadTarget, CacheKey, cache_key, normalise_path
from edge.core.market import choose_market, market_redirect
from edge.core.policy import CachePolicy, DataClass, Match, PolicySet, Redirect, Residency
from edge.core.request_rules import forward_request, passes_store, refusal
from edge.core.residency import UNPLACED_WORDS, Placed, Unplaced, place
from edge.core.reuse import Absent, Fresh, FwdReason, MustValidate, Stale, Why, decide_reuse, on_error
from edge.core.status import CacheStatus
from edge.core.stored import StoredResponse
from edge.core.storing import Reason
from edge.core.throttle import Throttles, retry_after_s
from edge.core.viewer_fields import viewer_headers
from edge.gateway.answers import for_nobody, unavailable
from edge.gateway.coder import Coder
from edge.gateway.fills import Fills
from edge.gateway.flights import Errand, Failed, Flights, Kept, NotKept, Overtaken
from edge.gateway.hits import Hits, Known, Site
from edge.gateway.origin import (
    READ_AHEAD_BYTES,
    SERVER_FAULTS,
    EdgeKeyRefused,
    ErrorKind,
    OriginError,
    OriginResponse,
)
from edge.gateway.record import ExchangeRecord, RecordBook, request_part
from edge.gateway.server import REFUSALS, BodyRefused, Parsed, Refusal, RequestBody, ViewerGone
from edge.gateway.visitors import Visitor, Visitors
from edge.store.base import Store

NEVER_SERVED = frozenset({b"CONNECT", b"TRACE", b"PURGE"})
MARKET_REDIRECT = "market-redirect"
"""The reason of the entry page's answer."""

_ABSOLUTE = re.compile(rb"https?://([^/?#]*)([^#]*)", re.IGNORECASE)


class Exchange:
    """The application behind the viewers' listener (`server.Application`).

    `authorities`: every Host that is served, lower case. `clock`: seconds of the edge's clock. `wall`: seconds since
    the epoch, for the Date of what comes without one. `applied`: the position this worker has applied.
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
        book: RecordBook,
        visitors: Visitors,
        clock: Callable[[], float],
        wall: Callable[[], float],
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
        self._book = book
        self._visitors = visitors
        self._throttles = Throttles()
        self._coder = Coder(store)
        self._clock = clock
        self._wall = wall
        self._cache = f"nearshelf-{edge}"
        self._hits = Hits(
            edge=edge,
            authorities=authorities,
            store=store,
            floors=floors,
            lease=lease,
            book=book,
            coder=self._coder,
            guard=self._guard,
        )

    def use(self, policies: PolicySet) -> None:
        """Decide by `policies` from the next request on; those under way end by what they began with."""
        self._policies = policies
        self._hits.forget_addresses()

    # -- at once -------------------------------------------------------------------------------------------------------

    def at_once(self, parsed: Parsed, now: float) -> bytes | Callable[[], Awaitable[None]]:
        """The whole answer where the store or the edge itself has it, else what to await."""
        site = self._hits.site_of(parsed.host)
        if site is None:
            parsed.keep_alive = False
            return self.refuse(Refusal.HOST_UNKNOWN, parsed, now)
        hit = self._hits.answer(parsed, site, now)
        return self._at_length(parsed, site, now) if hit is None else hit

    def _guard(self, known: Known, parsed: Parsed, now: float) -> bytes | None:
        """The answer to a visitor whom this address does not serve, although it has something fresh."""
        turned_away = self._turned_away(known.request, known.match.policy, parsed, now)
        if turned_away is None:
            return None
        record = ExchangeRecord(parsed.received_at, known.about)
        return self._own_answer(turned_away[0], parsed, record, turned_away[1].value)

    def _at_length(self, parsed: Parsed, site: Site, now: float) -> bytes | Callable[[], Awaitable[None]]:
        """Any other request: conditions, HEAD, writes, misses, first requests for an address."""
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
            return self._own_answer(
                unavailable(400, f"The address is malformed: {exc.fault.value}.", request),
                parsed,
                record,
                exc.fault.value,
            )
        policy = match.policy
        record = self._record(parsed, policy.id, key, personal=policy.data_class is DataClass.PERSONAL)
        guarded = policy.throttle is not None or bool(policy.blocked_countries)
        if guarded:
            turned_away = self._turned_away(request, policy, parsed, now)
            if turned_away is not None:
                return self._own_answer(turned_away[0], parsed, record, turned_away[1].value)
        refused = refusal(request, match)
        if refused is not None:
            return self._own_answer(refused.response, parsed, record, refused.reason.value)
        if policy.redirect is Redirect.MARKET:
            headers = request.headers
            market = choose_market(
                self._policies.markets,
                self._visitor(parsed).country,
                headers.joined("cookie"),
                headers.get("user-agent"),
            )
            return self._own_answer(market_redirect(market), parsed, record, MARKET_REDIRECT)
        policies = self._policies
        by_country = policy.residency is not Residency.NONE and not match.market
        country = self._visitor(parsed).country if by_country else UNKNOWN_COUNTRY
        placed = place(policy, match.market, country, policies.markets, policies.origins)
        if isinstance(placed, Unplaced):
            return self._own_answer(for_nobody(UNPLACED_WORDS, request), parsed, record, placed.why.value)

        if passes_store(request, policy):
            past = Absent(FwdReason.BYPASS, Why.AUTHORIZATION, policy.shows_price and not self._lease.held(now))
            return partial(self._pass, parsed, request, match, key, placed, record, past)
        candidates = self._store.get(key) if policy.store else ()
        if policy.store and not policy.vary and parsed.method == b"GET" and policy.data_class is DataClass.PUBLIC:
            self._hits.remember(site, parsed.target, request, match, key, record.about, guarded)
        match decide_reuse(request, candidates, policy, self._floors, self._lease, now):
            case Fresh(stored):
                return self._from_store(parsed, request, stored, match, record, now, None)
            case Stale(stored, why):
                self._flights.refresh_later(self._errand(parsed, request, match, key, placed, stored, candidates))
                return self._from_store(parsed, request, stored, match, record, now, why)
            case MustValidate() as need if policy.store:
                errand = self._errand(parsed, request, match, key, placed, need.stored, candidates, need.demand_head)
                return partial(self._forward, parsed, errand, record, FwdReason.STALE, need.why)
            case Absent() as need if policy.store and need.fwd is not FwdReason.METHOD:
                errand = self._errand(parsed, request, match, key, placed, None, candidates, need.demand_head)
                return partial(self._forward, parsed, errand, record, need.fwd, need.why)
            case Absent() as need:
                return partial(self._pass, parsed, request, match, key, placed, record, need)
            case MustValidate():
                raise AssertionError("a policy that stores nothing has nothing to validate")

    def refuse(self, reason: Refusal, parsed: Parsed | None, now: float) -> bytes:
        """The answer to a request that is not served; the connection is closed after it."""
        status, _, why = REFUSALS[reason]
        about = request_part(
            self._edge,
            self._worker,
            "-" if parsed is None else parsed.method.decode("ascii"),
            "-",
            None,
            personal=False,
        )
        record = ExchangeRecord(now if parsed is None else parsed.received_at, about)
        response = unavailable(status, why, None)
        if reason is Refusal.METHOD:
            response = Response(405, response.headers.with_(("allow", "GET, HEAD")), response.body)
        if parsed is not None:
            parsed.keep_alive = False
        return self._own_answer(response, parsed, record, reason.value)

    # -- awaited -------------------------------------------------------------------------------------------------------

    async def _forward(self, parsed: Parsed, errand: Errand, record: ExchangeRecord, fwd: FwdReason, why: Why) -> None:
        """Steps 6 to 9 on a route that is stored: share a flight, deliver what it brought."""
        taken = await self._flights.forward(errand)
        # From here to the write there is no await on the way of a shared response: check and use are one step.
        now = self._clock()
        landed = taken.landed
        record.fwd, record.reason, record.collapsed = fwd, why.value, taken.collapsed
        record.origin_s = landed.origin_s
        request, policy = errand.request, errand.match.policy
        match landed:
            case Kept(stored):
                record.fwd_status, record.stored = landed.fwd_status, landed.taken
                record.outcome = "validated" if landed.validated else "miss"
                record.ttl_s = int(stored.fresh_until - now)
                self._coder.prepare(request, stored, policy)
                response = deliver(request, stored, policy, now, self._status(record, hit=False))
                self._write_whole(parsed, response, record)
            case Overtaken(stored):
                # What it lacks was not live when this viewer arrived. Nobody else gets it, and no store.
                record.fwd_status, record.reason = landed.fwd_status, Why.OVERTAKEN.value
                response = deliver(request, stored, policy, now, self._status(record, hit=False))
                self._write_whole(parsed, response, record)
            case NotKept(response=origin_response):
                record.fwd_status, record.outcome = origin_response.status, "miss"
                if origin_response.status in SERVER_FAULTS:
                    try:
                        shown = self._instead(parsed, errand, record, now)
                    except ViewerGone:
                        origin_response.abandon()
                        raise
                    if shown:
                        await origin_response.discard()
                        return
                if why is Why.COLD:
                    record.reason = landed.reason
                await self._hand_over(parsed, request, origin_response, errand.match, record)
            case Failed():
                record.fwd_status = landed.fwd_status
                if not self._instead(parsed, errand, record, now):
                    self._error(parsed, request, landed.error, landed.reason, record, now, leased=True)

    async def _pass(
        self,
        parsed: Parsed,
        request: Request,
        match: Match,
        key: CacheKey,
        placed: Placed,
        record: ExchangeRecord,
        need: Absent,
    ) -> None:
        """A route that is never stored, or a write: through to the origin and back, both bodies streamed."""
        record.fwd, record.reason, record.outcome = need.fwd, need.why.value, "pass"
        reads = request.method in {"GET", "HEAD"}
        visitor = self._visitor(parsed)
        forward = forward_request(
            replace(request, peer=visitor.address),
            match,
            key,
            minimum=self._fills.passing_minimum(demand_head=need.demand_head) if reads else None,
            country=visitor.country,
        )
        body = parsed.body
        try:
            answer = await self._fills.send(
                forward, key, placed, None if body is None else body.pieces(), None if body is None else body.length
            )
        except OriginError as exc:
            leased = reads and need.demand_head
            self._error(parsed, request, exc, exc.reason, record, self._clock(), leased=leased)
            return
        except BodyRefused as exc:
            refused, _, refused_because = REFUSALS[exc.refusal]
            response = unavailable(refused, refused_because, request)
            parsed.viewer.write(self._own_answer(response, parsed, record, exc.refusal.value))
            return
        except ViewerGone:
            self._book.note(_ended(record, "gone", record.reason))
            raise
        record.fwd_status = answer.status
        record.origin_s = answer.head_at - answer.sent_at
        if reads and self._fills.shows_purged(answer, match):
            answer.abandon()
            self._error(parsed, request, None, Reason.BELOW_FLOOR.value, record, self._clock(), leased=False)
            return
        await self._hand_over(parsed, request, answer, match, record)

    # -- delivering ----------------------------------------------------------------------------------------------------

    def _from_store(
        self,
        parsed: Parsed,
        request: Request,
        stored: StoredResponse,
        match: Match,
        record: ExchangeRecord,
        now: float,
        why: Why | None,
    ) -> bytes:
        """A stored response, fresh (`why` is None) or stale while it is refreshed in the background."""
        record.outcome = "hit" if why is None else "stale"
        record.reason = "" if why is None else why.value
        record.ttl_s = int(stored.fresh_until - now)
        record.age_s = int(current_age(stored, now))
        self._coder.prepare(request, stored, match.policy)
        response = deliver(request, stored, match.policy, now, self._status(record, hit=True))
        return self._render(parsed, response, record)

    def _instead(self, parsed: Parsed, errand: Errand, record: ExchangeRecord, now: float) -> bool:
        """Serve what may stand in for a failed origin, if there is anything (RFC 5861 §4, rule 5)."""
        request, policy = errand.request, errand.match.policy
        found = on_error(self._store.get(errand.key), request, policy, self._floors, self._lease, now)
        if found is None:
            return False
        record.outcome, record.reason, record.fwd = "stale", found.why.value, FwdReason.STALE
        record.ttl_s = int(found.stored.fresh_until - now)
        record.age_s = int(current_age(found.stored, now))
        status = self._status(record, hit=False)
        if found.why is Why.STALE_MARKED:
            response = deliver_marked(request, found.stored, policy, now, status)
        else:
            self._coder.prepare(request, found.stored, policy)
            response = deliver(request, found.stored, policy, now, status)
        self._write_whole(parsed, response, record)
        return True

    def _error(
        self,
        parsed: Parsed,
        request: Request,
        error: OriginError | None,
        reason: str,
        record: ExchangeRecord,
        now: float,
        *,
        leased: bool,
    ) -> None:
        """No usable response, and nothing to show instead. `leased`: with the lease held there might have been."""
        if isinstance(error, EdgeKeyRefused):
            # The questions are refused, too: a lease that has run out would hide why.
            status, why = 503, "The shop cannot be reached at the moment. Please try again shortly."
            record.reason = error.reason
        elif leased and not self._lease.held(now):
            status, why = 503, "This cannot be confirmed at the moment. Please try again shortly."
            record.reason = Why.LEASE_LAPSED.value
        elif error is not None and error.kind in {ErrorKind.HTTP_RESPONSE_TIMEOUT, ErrorKind.CONNECTION_TIMEOUT}:
            status, why = 504, "The shop takes too long to answer. Please try again shortly."
            record.reason = reason
        elif error is not None and error.kind in {
            ErrorKind.HTTP_RESPONSE_INCOMPLETE,
            ErrorKind.HTTP_RESPONSE_HEADER_SECTION_SIZE,
            ErrorKind.HTTP_PROTOCOL_ERROR,
        }:
            status, why = 502, "The shop's answer was not usable. Please try again shortly."
            record.reason = reason
        else:
            status, why = 503, "The shop cannot be reached at the moment. Please try again shortly."
            record.reason = reason
        response = unavailable(status, why, request)
        if error is not None:
            said = ("proxy-status", f"{self._cache}; error={error.kind.value}")
            response = Response(status, response.headers.with_(said), response.body)
        record.outcome = "error"
        self._write_whole(parsed, self._with_status(response, record), record)

    async def _hand_over(
        self, parsed: Parsed, request: Request, response: OriginResponse, match: Match, record: ExchangeRecord
    ) -> None:
        """A response for this viewer alone: in one piece when it is short, else streamed."""
        status = self._status(record, hit=False)
        conditional = match.policy.store and not_modified(request.headers, response.status, response.headers)
        short = response.length is not None and response.length <= READ_AHEAD_BYTES
        if conditional or short or request.method == "HEAD" or response.status in (204, 304):
            try:
                body = await response.read(READ_AHEAD_BYTES)
            except OriginError as exc:
                self._error(parsed, request, exc, exc.reason, record, self._clock(), leased=False)
                return
            if body is None:
                response.abandon()
            whole = Response(response.status, response.headers, body or b"")
            self._write_whole(parsed, deliver_forwarded(request, whole, match.policy, status), record)
            return
        try:
            await self._stream(parsed, response, match, record, status)
        except OriginError as exc:
            # The head is out: hanging up is the only way left to say that the rest is missing.
            parsed.viewer.cut_short()
            self._book.note(_ended(record, "error", exc.reason))
        except ViewerGone:
            response.abandon()
            self._book.note(_ended(record, "gone", record.reason))
            raise

    async def _stream(
        self, parsed: Parsed, response: OriginResponse, match: Match, record: ExchangeRecord, status: CacheStatus
    ) -> None:
        """Head and body as they come; the origin waits while the viewer does. Raises OriginError and ViewerGone."""
        viewer = parsed.viewer
        record.status = response.status
        pairs = [*viewer_headers(response.headers, match.policy), ("cache-status", status.text())]
        chunked = response.length is None
        pairs.append(("transfer-encoding", "chunked") if chunked else ("content-length", str(response.length)))
        if not self._stays_open(parsed):
            pairs.append(("connection", "close"))
        head = response_head(Response(response.status, self._dated(Headers(pairs))))
        viewer.write(head)
        record.bytes_sent = len(head)
        async for data in response.chunks():
            viewer.write(b"%x\r\n%b\r\n" % (len(data), data) if chunked else data)
            record.bytes_sent += len(data)
            await viewer.drain()
        if chunked:
            viewer.write(b"0\r\n\r\n")
        self._book.note(record)

    def _own_answer(self, response: Response, parsed: Parsed | None, record: ExchangeRecord, reason: str) -> bytes:
        """An answer that the edge makes itself."""
        record.outcome, record.reason = "edge", reason
        return self._render(parsed, self._with_status(response, record), record)

    def _write_whole(self, parsed: Parsed, response: Response, record: ExchangeRecord) -> None:
        data = self._render(parsed, response, record)
        parsed.viewer.write(data)

    def _render(self, parsed: Parsed | None, response: Response, record: ExchangeRecord) -> bytes:
        """One buffer with head and body; notes the record."""
        if parsed is None or not self._stays_open(parsed):
            response = _closing(response)
        response = Response(response.status, self._dated(response.headers), response.body)
        record.status = response.status
        data = response_head(response) + response.body
        record.bytes_sent = len(data)
        self._book.note(record)
        return data

    def _dated(self, headers: Headers) -> Headers:
        """With a Date, as a recipient with a clock adds it (RFC 9110 §6.6.1)."""
        if "date" in headers:
            return headers
        return Headers((*headers.pairs, ("date", formatdate(self._wall(), usegmt=True))))

    # -- small parts ---------------------------------------------------------------------------------------------------

    @staticmethod
    def _stays_open(parsed: Parsed) -> bool:
        """Whether another request can follow: not after a body that was not read to its end."""
        body: RequestBody | None = parsed.body
        return parsed.keep_alive and (body is None or (body.complete and not body.buffered))

    def _status(self, record: ExchangeRecord, *, hit: bool) -> CacheStatus:
        return CacheStatus(
            self._cache,
            hit=hit,
            fwd=None if hit else record.fwd,
            fwd_status=None if hit else record.fwd_status,
            ttl=record.ttl_s,
            stored=record.stored,
            collapsed=record.collapsed,
            detail=record.reason or None,
        )

    def _with_status(self, response: Response, record: ExchangeRecord) -> Response:
        said = ("cache-status", self._status(record, hit=False).text())
        return Response(response.status, response.headers.with_(said), response.body)

    def _errand(
        self,
        parsed: Parsed,
        request: Request,
        match: Match,
        key: CacheKey,
        placed: Placed,
        validate: StoredResponse | None,
        candidates: tuple[StoredResponse, ...],
        demand_head: bool = False,
    ) -> Errand:
        tags = validate.tags if validate is not None else candidates[0].tags if candidates else None
        country = self._visitor(parsed).country
        return Errand(request, match, key, validate, tags, demand_head, country, placed, self._applied())

    def _record(self, parsed: Parsed, route: str, key: CacheKey | None, *, personal: bool) -> ExchangeRecord:
        about = request_part(self._edge, self._worker, parsed.method.decode("ascii"), route, key, personal=personal)
        return ExchangeRecord(parsed.received_at, about)

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


def _closing(response: Response) -> Response:
    return Response(response.status, response.headers.with_(("connection", "close")), response.body)


def _ended(record: ExchangeRecord, outcome: str, reason: str) -> ExchangeRecord:
    record.outcome, record.reason = outcome, reason
    return record
