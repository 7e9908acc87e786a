"""The short way of what is passed through: a GET on a route that is never stored, with nothing unusual about it.

It is sent over a connection that is kept, and answered when the last byte has come, without a task and without a wait.
Whatever is not certainly that goes the long way (`exchange.py`), from the start or from where it turned out to be more:
no connection was free, the answer is long, an error, labelled, cached before. What is forwarded and what is shown are
not decided here: both are read off what the long way does with every field, once for each address and each field.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from email.utils import formatdate
from functools import partial
from http import HTTPStatus
from typing import NamedTuple

from cache_policies.fields import REFUSED_FIELD, VERSION_FIELD
from cache_policies.positions import Position
from edge.core.http import Headers, Request
from edge.core.key import CacheKey
from edge.core.policy import Auth, Match, Residency
from edge.core.reuse import Absent, Why
from edge.core.status import CacheStatus
from edge.core.viewer_fields import viewer_headers
from edge.gateway.fills import Fills
from edge.gateway.handover import Handover, Visit, ended
from edge.gateway.hits import MAX_KNOWN_TARGET_BYTES, MAX_KNOWN_TARGETS
from edge.gateway.origin import READ_AHEAD_BYTES, OriginResponse
from edge.gateway.origin.pool import Begun, OriginPool
from edge.gateway.origin.request_head import render_request_head
from edge.gateway.plain import PLAIN_FIELDS
from edge.gateway.record import ExchangeRecord, RecordBook
from edge.gateway.server import Parsed, ViewerConnection
from edge.gateway.visitors import Visitor, Visitors

MAX_KNOWN_VISITORS = 1_000
MAX_KNOWN_FIELDS = 4_096
MAX_KNOWN_LINES = 1_024
MAX_KNOWN_LINE_BYTES = 256
_OWN = frozenset({b"cookie", b"referer", b"x-forwarded-for"})
"""Fields in which every visitor says something else."""

_NAMES = tuple(sorted({name.decode().lower() for name in PLAIN_FIELDS} - {"via"}))
"""Fields of a viewer's that are known here. Of any other the long way decides; of `via` as well, to which is added."""
_MARK = "nearshelf-mark-{}"
_ADDRESS, _COUNTRY = "nearshelf-mark:address", "nearshelf-mark:country"
_LOOKED_AT = frozenset({"age", "connection", REFUSED_FIELD, VERSION_FIELD})
"""Fields that no viewer sees, and the long way has a look at."""
_PLAIN_CONNECTION = frozenset({"keep-alive", "close"})
_BODILESS = frozenset({204, 304})
_END = ("", "")
NO_FIELDS: list[tuple[bytes, bytes]] = []
"""In place of those of a plain request, while nobody asks for them; never added to."""
_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}" for status in HTTPStatus}


class GoOn(NamedTuple):
    """How the long way goes on where the short one ends."""

    failed: Callable[[Parsed, Absent, Begun], Awaitable[None]]
    """What was begun got no usable answer."""
    answered: Callable[[Parsed, Absent, OriginResponse], Awaitable[None]]
    """The head of its answer is there."""


class _Plan:
    """What the long way makes of a GET for one address: which fields go along, and what stands around them."""

    __slots__ = ("_after", "_visitors", "applied", "before", "begins", "lines")

    def __init__(
        self, before: bytes, begins: dict[bytes, bytes], after: tuple[tuple[str, str], ...], applied: Position | None
    ) -> None:
        self.before = before
        """The request line, and the fields before the viewer's, without the last line's end."""
        self.begins = begins
        """A field's name as spelt -> how its line begins; empty for one that does not go along."""
        self.lines: dict[bytes, bytes] = {}
        """A whole line of a plain request -> what is sent for it; empty where nothing is."""
        self._after = after
        self.applied = applied
        """The position that goes along."""
        self._visitors: dict[Visitor, bytes] = {}

    def sent(self, line: bytes) -> bytes | None:
        """What is sent for a line of a plain request, remembered where others say the same; None: that takes the long
        way to say."""
        name, _, value = line.partition(b": ")
        begin = self.begins.get(name)
        if begin is None and name.lower() != b"connection":
            return None
        sent = begin + value.strip(b" \t") if begin else b""
        if len(line) <= MAX_KNOWN_LINE_BYTES and name.lower() not in _OWN:
            if len(self.lines) >= MAX_KNOWN_LINES:
                self.lines.clear()
            self.lines[line] = sent
        return sent

    def after(self, visitor: Visitor) -> bytes:
        """The end of the last line, the fields after the viewer's, and the empty line."""
        found = self._visitors.get(visitor)
        if found is None:
            if len(self._visitors) >= MAX_KNOWN_VISITORS:
                self._visitors.clear()
            spelt = {_ADDRESS: visitor.address, _COUNTRY: visitor.country}
            pairs = [(name, spelt.get(value, value)) for name, value in self._after]
            found = self._visitors[visitor] = b"\r\n" + _lines([pair for pair in pairs if pair[1]]) + b"\r\n"
        return found


class _Known:
    """One address on a route that is never stored, with what decides about a GET for it."""

    __slots__ = ("about", "need", "plan", "policy", "pool", "reason", "request", "route", "shown", "target")

    def __init__(
        self,
        request: Request,
        route: tuple[Match, CacheKey],
        pool: OriginPool,
        about: bytes,
        need: Absent,
        shown: dict[str, bool],
    ) -> None:
        self.request = request
        self.route = route
        self.policy = route[0].policy
        self.pool = pool
        self.about = about
        self.need = need
        self.reason: str = need.why.value
        self.shown = shown
        """Whether a viewer gets to see a field of a response, by its name."""
        self.target = ""
        self.plan: _Plan | None = None


class Passes:
    """One worker's. `applied`: the position it has applied; `clock` and `wall` as in `Exchange`."""

    def __init__(
        self,
        *,
        edge: str,
        fills: Fills,
        book: RecordBook,
        visitors: Visitors,
        hand: Handover,
        applied: Callable[[], Position | None],
        go_on: GoOn,
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self._cache = f"nearshelf-{edge}"
        self._fills = fills
        self.book = book
        self._visitors = visitors
        self.hand = hand
        self._applied = applied
        self.go_on = go_on
        self.clock = clock
        self._wall = wall
        self.loop = asyncio.get_running_loop()
        self._known: dict[tuple[bytes, bytes], _Known] = {}
        """By Host and target as spelt."""
        self._shown: dict[str, dict[str, bool]] = {}
        """By the version of a policy, and the name of a field."""
        self._told: dict[tuple[int, Why], str] = {}
        self._date = (0, "")

    def forget_addresses(self) -> None:
        """The policies are others: what an address means is worked out anew."""
        self._known.clear()
        self._shown.clear()

    def remember(self, visit: Visit, need: Absent) -> None:
        """What the long way decided about a GET; kept where it says the same of every further one for its address."""
        policy, parsed, placed = visit.policy, visit.parsed, visit.placed
        if (
            policy.store
            or policy.shows_price
            or policy.auth is Auth.REQUIRED
            or policy.honour_request
            or policy.throttle is not None
            or policy.blocked_countries
            or placed.fail_over is not None
            or parsed.method != b"GET"
            or len(parsed.target) > MAX_KNOWN_TARGET_BYTES
            # Else the origin depends on where the visitor is.
            or not (policy.residency is Residency.NONE or visit.match.market)
        ):
            return
        if len(self._known) >= MAX_KNOWN_TARGETS:
            self._known.clear()
        request = visit.request
        bare = Request(request.method, request.authority, request.path, request.query)
        pool = self._fills.pool_of(placed)
        shown = self._shown.setdefault(policy.version, {})
        known = _Known(bare, (visit.match, visit.key), pool, visit.record.about, need, shown)
        self._known[parsed.host, parsed.target] = known

    def quick(
        self, data: bytes, target: bytes, host: bytes, now: float, viewer: ViewerConnection
    ) -> asyncio.Future[None] | None:
        """Send bytes that are one plain request (`plain.py`), for `target` at `host`. Done when the viewer has been
        answered; None: this is for the long way, and nothing was sent. `now`: a moment of the edge's clock after they
        were read."""
        known = self._known.get((host, target))
        plan = None if known is None else self._plan(known)
        if known is None or plan is None:
            return None
        lines, parts = plan.lines, [plan.before]
        for line in data[:-4].split(b"\r\n")[1:]:
            sent = lines.get(line)
            if sent is None:
                sent = plan.sent(line)
                if sent is None:
                    return None
            if sent:
                parts.append(sent)
        parsed = Parsed(b"GET", target, host, NO_FIELDS, True, True, None, now, viewer)
        visitor = viewer.visitor
        if visitor is None:
            parsed.fields = fields_of(data)
            visitor = self._visitors.of(viewer, parsed.fields)
        return self._send(known, _Passing(self, known, parsed, data), b"\r\n".join(parts) + plan.after(visitor), now)

    def begin(self, parsed: Parsed, now: float) -> asyncio.Future[None] | None:
        """The same for a request that was parsed in full."""
        known = self._known.get((parsed.host, parsed.target))
        plan = None if known is None else self._plan(known)
        if known is None or plan is None or parsed.method != b"GET" or parsed.body is not None:
            return None
        parts = [plan.before]
        for name, value in parsed.fields:
            begin = plan.begins.get(name)
            if begin:
                parts.append(begin + value.strip(b" \t"))
            elif begin is None and (name.lower() != b"connection" or value.lower() != b"keep-alive"):
                return None
        visitor = self._visitors.of(parsed.viewer, parsed.fields)
        return self._send(known, _Passing(self, known, parsed, b""), b"\r\n".join(parts) + plan.after(visitor), now)

    @staticmethod
    def _send(known: _Known, passing: _Passing, head: bytes, now: float) -> asyncio.Future[None] | None:
        begun = known.pool.begin_read(known.target, head, now, passing.happened, passing.hint)
        if begun is None:
            return None
        passing.begun = begun
        return passing.done

    def _plan(self, known: _Known) -> _Plan | None:
        """What is made of a request for an address, at the position that this worker has applied."""
        plan = known.plan
        if plan is None or plan.applied is not self._applied():
            plan = known.plan = self._plan_for(known)
        return plan

    def _plan_for(self, known: _Known) -> _Plan | None:
        """Read off what the long way forwards for a request that has every field that is known here, each with a mark
        of its own. None: it does something to them that is not done here."""
        match, key = known.route
        marks = {_MARK.format(name): name for name in _NAMES}
        probe = Request(
            "GET",
            known.request.authority,
            known.request.path,
            known.request.query,
            Headers([(name, mark) for mark, name in marks.items()]),
            _ADDRESS,
        )
        applied = self._applied()
        forward = self._fills.passing(probe, match, key, demand_head=False, country=_COUNTRY)
        target, headers = self._fills.as_sent(forward, key)
        passed = [marks.get(value) for _, value in headers.pairs]
        first = next((at for at, name in enumerate(passed) if name is not None), len(passed))
        names = [name for name in passed if name is not None]
        block = headers.pairs[first : first + len(names)]
        if [pair[0] for pair in block] != names or [marks.get(pair[1]) for pair in block] != names:
            return None
        # Checked as a whole, as the long way does.
        render_request_head("GET", target, headers, None)
        known.target = target
        begins: dict[bytes, bytes] = {b"host": b"", b"Host": b""}
        for name in _NAMES:
            for spelt in (name, name.title(), name.upper()):
                begins[spelt.encode()] = f"{name}: ".encode() if name in names else b""
        before = f"GET {target} HTTP/1.1\r\n".encode() + _lines(headers.pairs[:first])
        return _Plan(before[:-2], begins, headers.pairs[first + len(names) :], applied)

    # -- for what is under way -----------------------------------------------------------------------------------------

    def shows(self, known: _Known, name: str) -> bool:
        """Whether a viewer gets to see this field of a response; remembered for the route."""
        if len(known.shown) >= MAX_KNOWN_FIELDS:
            known.shown.clear()
        found = known.shown[name] = name in viewer_headers(Headers(((name, "x"),)), known.policy)
        return found

    def told(self, status: int, need: Absent) -> str:
        """The line of Cache-Status."""
        found = self._told.get((status, need.why))
        if found is None:
            text = CacheStatus(self._cache, fwd=need.fwd, fwd_status=status, detail=need.why.value).text()
            found = self._told[status, need.why] = f"cache-status: {text}"
        return found

    def date(self) -> str:
        """The line of Date, for what comes without one."""
        now = int(self._wall())
        if now != self._date[0]:
            self._date = (now, f"date: {formatdate(now, usegmt=True)}")
        return self._date[1]


class _Passing:
    """One request under way."""

    __slots__ = ("_data", "_known", "_parsed", "_passes", "begun", "done")

    def __init__(self, passes: Passes, known: _Known, parsed: Parsed, data: bytes) -> None:
        """`data`: the bytes of a plain request, whose fields are not in `parsed` yet."""
        self._passes = passes
        self._known = known
        self._parsed = parsed
        self._data = data
        self.begun: Begun
        self.done: asyncio.Future[None] = asyncio.Future(loop=passes.loop)

    def hint(self, status: int, headers: Headers) -> None:
        """An interim response came first."""
        self._passes.hand.hint(self._parsed.viewer, self._known.policy, status, headers)

    def happened(self) -> None:
        """The head of the answer is there, more of its body, or all of it; or there will be none."""
        begun = self.begun
        connection = begun.connection
        if connection.whole:
            self._answered()
            return
        error = connection.error
        if error is not None and not connection.has_head:
            self._known.pool.end(begun, self._passes.clock())
            failed = begun._replace(error=error)
            self._go_on(partial(self._passes.go_on.failed, self._parsed, self._known.need, failed))
        elif error is not None or connection.length is None or connection.length > READ_AHEAD_BYTES:
            self._pass_on()
        else:
            connection.go_on_for(self._known.pool.deadlines.idle_s)

    def _answered(self) -> None:
        """All of the answer is here: show it, unless there is something about it that the long way has to look at."""
        passes, known, parsed, connection = self._passes, self._known, self._parsed, self.begun.connection
        status, need, shown = connection.status, known.need, known.shown
        bodiless = status in _BODILESS
        if connection.length is None and not bodiless:
            self._pass_on()
            return
        lines = [_STATUS_LINES.get(status) or f"HTTP/1.1 {status} "]
        dated = False
        for name, value, text in connection.lines:
            seen = shown.get(name)
            if seen is None:
                seen = passes.shows(known, name)
            if seen:
                lines.append(text)
                if name == "date":
                    dated = True
            elif name in _LOOKED_AT and not (name == "connection" and value.lower() in _PLAIN_CONNECTION):
                self._pass_on()
                return
        body = connection.take()
        now = passes.clock()
        known.pool.end(self.begun, now)
        if not bodiless:
            lines.append(f"content-length: {len(body)}")
        lines.append(passes.told(status, need))
        if not parsed.keep_alive:
            lines.append("connection: close")
        if not dated:
            lines.append(passes.date())
        lines += _END
        data = "\r\n".join(lines).encode("latin-1") + body
        route = known.policy.id
        record = ExchangeRecord(parsed.received_at, known.about, route, "pass", known.reason, need.fwd, status)
        record.status, record.bytes_sent = status, len(data)
        record.origin_s = now - self.begun.sent_at
        passes.book.counters.answered(route, status, record.origin_s)
        if parsed.viewer.gone:
            ended(record, "gone", record.reason)
        passes.book.note(record)
        parsed.viewer.answered(parsed, data, now)
        self.done.set_result(None)

    def _pass_on(self) -> None:
        """The rest of it the long way."""
        passes, pool = self._passes, self._known.pool
        response = pool.response(self.begun, self._known.target)
        self._go_on(partial(passes.go_on.answered, self._parsed, self._known.need, response))

    def _go_on(self, how: Callable[[], Awaitable[None]]) -> None:
        if self._data:
            self._parsed.fields = fields_of(self._data)
        self._parsed.viewer.go_on(self._parsed, how)
        self.done.set_result(None)


def fields_of(data: bytes) -> list[tuple[bytes, bytes]]:
    """The fields of a plain request, as the complete parser gives them."""
    lines = [line.partition(b": ") for line in data[:-4].split(b"\r\n")[1:]]
    return [(name, value) for name, _, value in lines]


def _lines(pairs: Iterable[tuple[str, str]]) -> bytes:
    return "".join([f"{name}: {value}\r\n" for name, value in pairs]).encode("latin-1")
