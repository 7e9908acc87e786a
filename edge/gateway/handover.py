"""Journey 1, step 8: handing an answer to its viewer, whole or as it comes, and noting what became of it.

What may be shown is decided before (`exchange.py`), in the same step of the loop in which the head is written here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from email.utils import formatdate

from edge.core.compression import chosen_by_coding, coding_for, may_be_coded
from edge.core.delivery import deliver, deliver_forwarded, deliver_marked, form_head, response_head
from edge.core.directives import response_directives
from edge.core.floors import Floors, Lease
from edge.core.freshness import current_age
from edge.core.http import Headers, Request, Response
from edge.core.key import CacheKey
from edge.core.policy import CachePolicy, Match, PolicySet
from edge.core.preconditions import precondition_status
from edge.core.residency import Placed
from edge.core.reuse import FwdReason, Why, on_error
from edge.core.status import CacheStatus
from edge.core.stored import StoredResponse
from edge.core.viewer_fields import viewer_headers
from edge.gateway.answers import unavailable
from edge.gateway.coder import Coder
from edge.gateway.growing import PIECE_BYTES, WHOLE_BYTES, CutShort, Growing, Reader
from edge.gateway.origin import READ_AHEAD_BYTES, EdgeKeyRefused, ErrorKind, OnInterim, OriginError, OriginResponse
from edge.gateway.record import ExchangeRecord, RecordBook
from edge.gateway.server import Parsed, RequestBody, ViewerConnection, ViewerGone
from edge.store.base import Store

AT_ONCE_BYTES = 262_144
"""A longer body goes to its viewer piece by piece, as it is taken: one viewer never has more than this waiting."""

_TOO_SLOW = {ErrorKind.HTTP_RESPONSE_TIMEOUT, ErrorKind.CONNECTION_TIMEOUT, ErrorKind.CONNECTION_WRITE_TIMEOUT}
_UNUSABLE = {
    ErrorKind.HTTP_RESPONSE_INCOMPLETE,
    ErrorKind.HTTP_RESPONSE_HEADER_SECTION_SIZE,
    ErrorKind.HTTP_PROTOCOL_ERROR,
}


@dataclass(frozen=True, slots=True)
class Visit:
    """One viewer's request that goes the long way."""

    parsed: Parsed
    request: Request
    match: Match
    key: CacheKey
    placed: Placed
    record: ExchangeRecord
    policies: PolicySet
    """Those that were in force when it arrived."""

    @property
    def policy(self) -> CachePolicy:
        return self.match.policy


class Handover:
    """One worker's. `clock` gives seconds of the edge's clock, `wall` seconds since the epoch."""

    def __init__(
        self,
        *,
        edge: str,
        store: Store,
        floors: Floors,
        lease: Lease,
        book: RecordBook,
        coder: Coder,
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self._cache = f"nearshelf-{edge}"
        self._store = store
        self._floors = floors
        self._lease = lease
        self._book = book
        self._coder = coder
        self._clock = clock
        self._wall = wall

    # -- at once -------------------------------------------------------------------------------------------------------

    def own_answer(self, response: Response, parsed: Parsed | None, record: ExchangeRecord, reason: str) -> bytes:
        """An answer that the edge makes itself."""
        record.outcome, record.reason = "edge", reason
        response = self._with_status(response, record)
        head = self._head(parsed, response, record)
        record.bytes_sent += len(response.body)
        self._book.note(record)
        return head + response.body

    def from_store(
        self, visit: Visit, stored: StoredResponse, now: float, why: Why | None
    ) -> bytes | Callable[[], Awaitable[None]]:
        """A stored response, fresh (`why` is None) or stale while it is refreshed in the background. What is too long
        to be written at once is written by what this returns, which is to be awaited in the same step."""
        record = visit.record
        record.outcome = "hit" if why is None else "stale"
        record.reason = "" if why is None else why.value
        record.ttl_s = int(stored.fresh_until - now)
        record.age_s = int(current_age(stored, now))
        stored.hits += 1
        plainly = self._plainly(visit, stored, now, hit=True)
        if plainly is not None:
            return plainly
        self._coder.prepare(visit.request, stored, visit.policy)
        response = deliver(visit.request, stored, visit.policy, now, self._status(record, hit=True))
        if len(response.body) > AT_ONCE_BYTES:

            async def write() -> None:
                await self.write(visit, response)

            return write
        head = self._head(visit.parsed, response, record)
        record.bytes_sent += len(response.body)
        self._book.note(record)
        return head + response.body

    def hints_for(self, visit: Visit) -> OnInterim:
        """Takes the interim responses that come before the answer (RFC 8297), for this viewer alone; never raises."""

        def hint(status: int, headers: Headers) -> None:
            self.hint(visit.parsed.viewer, visit.policy, status, headers)

        return hint

    @staticmethod
    def hint(viewer: ViewerConnection, policy: CachePolicy, status: int, headers: Headers) -> None:
        """Hand an interim response to a viewer who is still there."""
        if not viewer.gone:
            said = viewer_headers(headers, policy).without(("cache-control", "set-cookie"))
            viewer.write(response_head(Response(status, said)))

    # -- awaited -------------------------------------------------------------------------------------------------------

    async def write(self, visit: Visit, response: Response) -> None:
        """A whole answer: in one piece, or piece by piece as the viewer takes them. The first is written at once."""
        viewer, record, body = visit.parsed.viewer, visit.record, response.body
        head = self._head(visit.parsed, response, record)
        if len(body) <= AT_ONCE_BYTES:
            record.bytes_sent += len(body)
            self._book.note(record)
            viewer.write(head + body)
            return
        view = memoryview(body)
        try:
            viewer.write(head)
            for start in range(0, len(body), PIECE_BYTES):
                piece = view[start : start + PIECE_BYTES]
                viewer.write(piece)
                record.bytes_sent += len(piece)
                await viewer.drain()
        except ViewerGone:
            self._book.note(ended(record, "gone", record.reason))
            raise
        self._book.note(record)

    async def kept(self, visit: Visit, stored: StoredResponse, now: float) -> None:
        """A whole response that was just fetched; `visit.record` says how."""
        plainly = self._plainly(visit, stored, now, hit=False)
        if plainly is not None:
            visit.parsed.viewer.write(plainly)
            return
        self._coder.prepare(visit.request, stored, visit.policy)
        status = self._status(visit.record, hit=False)
        await self.write(visit, deliver(visit.request, stored, visit.policy, now, status))

    async def growing(self, visit: Visit, growing: Growing, reader: Reader, now: float) -> None:
        """A response whose body is still on its way: its head at once, its body as it comes. Raises ViewerGone."""
        if growing.is_whole():
            # All of it came before the turn of this viewer, and there may be coded copies, which no reader reads.
            reader.leave()
            await self.kept(visit, growing.stored, now)
            return
        try:
            response = self._growing_head(visit, growing, now)
            if visit.request.method == "HEAD" or response.status != growing.stored.status:
                await self.write(visit, replace(response, body=b""))
                return
            await self._streamed(visit, response, growing.length, _pieces(reader))
        finally:
            reader.leave()
        if growing.is_whole():
            # It has come to its end: whoever asks next finds its coded copy.
            self._coder.prepare(visit.request, growing.stored, visit.policy)

    async def instead(self, visit: Visit, now: float, *, unreachable: bool) -> bool:
        """Serve what may stand in for a failed origin, if there is anything (RFC 5861 §4, rule 5). `unreachable`: it
        did not even answer (RFC 9111 §4.2.4)."""
        request, policy, record = visit.request, visit.policy, visit.record
        found = on_error(
            self._store.get(visit.key), request, policy, self._floors, self._lease, now, unreachable=unreachable
        )
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
        await self.write(visit, response)
        return True

    async def error(
        self,
        visit: Visit,
        error: OriginError | None,
        reason: str,
        now: float,
        *,
        leased: bool,
        bound: bool = False,
    ) -> None:
        """No usable response, and nothing to show instead. `leased`: with the lease held there might have been;
        `bound`: there is a stored one that forbids it (RFC 9111 §5.2.2.2)."""
        record = visit.record
        record.reason = reason
        if isinstance(error, EdgeKeyRefused):
            # The questions are refused, too: a lease that has run out would hide why.
            status, why = 503, "The shop cannot be reached at the moment. Please try again shortly."
            record.reason = error.reason
        elif leased and not self._lease.held(now):
            status, why = 503, "This cannot be confirmed at the moment. Please try again shortly."
            record.reason = Why.LEASE_LAPSED.value
        elif error is not None and error.kind is ErrorKind.CONNECTION_LIMIT_REACHED:
            # Nobody was asked: that is this edge's own word, whatever the origin wants said when it cannot be reached.
            status, why = 503, "Too many are asking for this shop at the moment. Please try again shortly."
        elif error is not None and (bound or error.kind in _TOO_SLOW):
            status, why = 504, "The shop takes too long to answer. Please try again shortly."
        elif error is not None and error.kind in _UNUSABLE:
            status, why = 502, "The shop's answer was not usable. Please try again shortly."
        else:
            status, why = 503, "The shop cannot be reached at the moment. Please try again shortly."
        response = unavailable(status, why, visit.request)
        if error is not None:
            said = ("proxy-status", f"{self._cache}; error={error.kind.value}")
            response = Response(status, response.headers.with_(said), response.body)
        record.outcome = "error"
        await self.write(visit, self._with_status(response, record))

    async def forwarded(self, visit: Visit, response: OriginResponse) -> None:
        """A response for this viewer alone: in one piece when it is short, else streamed. Raises ViewerGone."""
        request, policy, record = visit.request, visit.policy, visit.record
        status = self._status(record, hit=False)
        conditional = policy.store and precondition_status(request, response.status, response.headers) is not None
        short = response.length is not None and response.length <= READ_AHEAD_BYTES
        if conditional or short or request.method == "HEAD" or response.status in (204, 304):
            try:
                body = await response.read(READ_AHEAD_BYTES)
            except OriginError as exc:
                await self.error(visit, exc, exc.reason, self._clock(), leased=False)
                return
            if body is None:
                response.abandon()
            whole = Response(response.status, response.headers, body or b"")
            await self.write(visit, deliver_forwarded(request, whole, policy, status))
            return
        pairs = [*viewer_headers(response.headers, policy), ("cache-status", status.text())]
        aged = response.headers.get("age")
        if aged is not None:
            pairs.append(("age", aged))
        try:
            await self._streamed(visit, Response(response.status, Headers(pairs)), response.length, response.chunks())
        except ViewerGone:
            response.abandon()
            raise

    async def _streamed(
        self, visit: Visit, response: Response, length: int | None, body: AsyncIterator[bytes | memoryview]
    ) -> None:
        """Head and body as they come; the body waits while the viewer does. Raises ViewerGone."""
        viewer, record = visit.parsed.viewer, visit.record
        chunked = length is None
        framing = ("transfer-encoding", "chunked") if chunked else ("content-length", str(length))
        headers = Headers((*response.headers.without(("content-length",)), framing))
        try:
            viewer.write(self._head(visit.parsed, Response(response.status, headers), record))
            async for data in body:
                viewer.write(b"".join((b"%x\r\n" % len(data), data, b"\r\n")) if chunked else data)
                record.bytes_sent += len(data)
                await viewer.drain()
            if chunked:
                viewer.write(b"0\r\n\r\n")
        except ViewerGone:
            self._book.note(ended(record, "gone", record.reason))
            raise
        except (CutShort, OriginError) as exc:
            # The head is out: hanging up is the only way left to say that the rest is missing.
            viewer.cut_short()
            self._book.note(ended(record, "error", exc.reason if isinstance(exc, OriginError) else str(exc)))
            return
        self._book.note(record)

    # -- small parts ---------------------------------------------------------------------------------------------------

    def _growing_head(self, visit: Visit, growing: Growing, now: float) -> Response:
        """What `deliver` says of a stored response whose body is not there yet, its preconditions evaluated."""
        stored, policy = growing.stored, visit.policy
        response = deliver(visit.request, stored, policy, now, self._status(visit.record, hit=False), whole=True)
        if response.status != stored.status:
            return response
        headers = response.headers.without(("content-length",))
        if may_be_coded(policy, stored.status, stored.headers, growing.length or WHOLE_BYTES):
            headers = chosen_by_coding(headers)
        if growing.length is not None:
            headers = headers.with_(("content-length", str(growing.length)))
        return Response(response.status, headers)

    def _plainly(self, visit: Visit, stored: StoredResponse, now: float, *, hit: bool) -> bytes | None:
        """What `deliver` says to a request of whose fields only the coding matters, with a head rendered once for all:
        a crowd that waited is answered in a fraction of the time. None for others, and for a body of many pieces."""
        parsed, record = visit.parsed, visit.record
        if not parsed.plain or parsed.method != b"GET" or len(stored.body) > AT_ONCE_BYTES:
            return None
        coding = coding_for(visit.request.headers.joined("accept-encoding")) if visit.policy.compress else ""
        form = self._coder.form_of(stored, visit.policy, coding)
        if not form.start:
            start, own = form_head(stored, visit.policy, form.coding, len(form.body))
            form.tell(start, own, b"", float("-inf"))
        age = int(current_age(stored, now))
        said = self._status(record, hit=hit).text().encode("latin-1", "replace")
        last = b"" if _stays_open(parsed) else b"connection: close\r\n"
        own = form.told[: form.kept]
        head = b"%b%bage: %d\r\ncache-status: %b\r\n%b\r\n" % (form.start, own, age, said, last)
        record.status, record.bytes_sent = stored.status, len(head) + len(form.body)
        self._book.note(record)
        return head + form.body

    def _head(self, parsed: Parsed | None, response: Response, record: ExchangeRecord) -> bytes:
        """The head as it is written, with a Date, as a recipient with a clock adds it (RFC 9110 §6.6.1)."""
        pairs = list(response.headers)
        if parsed is None or not _stays_open(parsed):
            pairs.append(("connection", "close"))
        if "date" not in response.headers:
            pairs.append(("date", formatdate(self._wall(), usegmt=True)))
        head = response_head(Response(response.status, Headers(pairs)))
        record.status, record.bytes_sent = response.status, len(head)
        return head

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


async def _pieces(reader: Reader) -> AsyncIterator[bytes | memoryview]:
    while data := await reader.next():
        yield data


def must_be_asked(stored: StoredResponse) -> bool:
    """Whether the origin wants its failure to be told rather than hidden: 504, when it cannot be reached."""
    directives = response_directives(stored.headers)
    return directives.must_revalidate or directives.proxy_revalidate


def _stays_open(parsed: Parsed) -> bool:
    """Whether another request can follow: not after a body that was not read to its end."""
    body: RequestBody | None = parsed.body
    return parsed.keep_alive and (body is None or (body.complete and not body.buffered))


def ended(record: ExchangeRecord, outcome: str, reason: str) -> ExchangeRecord:
    record.outcome, record.reason = outcome, reason
    return record
