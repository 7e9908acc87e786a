"""One edge worker, its origins and its viewers in this process, on a virtual clock: the gateway's own code, watched.

Parser, exchange, flights, fills, store, floors, lease, follower and origin client are those of `edge/`; only the
connections are in memory (`virtual_time`), and the origin says what a script says.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import StrEnum

import httptools
import orjson

from cache_policies.feed import LEASE_S, Answer
from cache_policies.fields import TAGS_FIELD, VERSION_FIELD
from cache_policies.positions import Position, PurgeEntry, PurgeKind
from cache_policies.tags import EVERYTHING
from edge.core.floors import Floors, Lease
from edge.core.freshness import http_date
from edge.core.hops import TrustedHops
from edge.core.http import Headers, Request
from edge.core.key import CacheKey
from edge.core.policy import PolicySet
from edge.core.reuse import FwdReason
from edge.core.stored import StoredResponse
from edge.gateway.counters import Counters, Tally
from edge.gateway.exchange import Exchange
from edge.gateway.fills import Fills
from edge.gateway.flights import Fate, Flights
from edge.gateway.invalidations import Invalidations, Writes
from edge.gateway.landings import Errand, Fetched, Kept, NotKept, Overtaken
from edge.gateway.origin import OriginResponse
from edge.gateway.origins import OriginPools
from edge.gateway.record import ExchangeRecord, RecordBook
from edge.gateway.server import GatewayServer, ViewerConnection
from edge.gateway.visitors import Visitors
from edge.gateway.wire import READ_BYTES
from edge.purge.follower import Follower
from edge.store.memory import MemoryStore, Variants
from infra.policy.virtual_time import START_S, MemoryTransport, VirtualLoop

EDGE = "test"
HOST = "shop.example"
LOG_START = Position(1, 1)
"""Where the purge log begins, and where the first answers are read."""
WALL_START_S = 1_767_225_600
"""What the wall shows when a scenario begins: 2026-01-01, 00:00 UTC."""
STORE_BYTES = 256_000_000


class Failure(StrEnum):
    """How an origin does not answer, though somebody listens."""

    RESET = "reset"
    """Hangs up without a word."""
    SILENT = "silent"
    """Says nothing; the edge's own deadline ends it."""
    CUT = "cut"
    """Hangs up in the middle of the body."""


class NoLabel(StrEnum):
    """Positions that are none."""

    HEAD = "head"
    """Where the purge log ends when the request arrives: what an origin that is up to date says."""
    NONE = "none"
    """The answer carries no Catalog-Version."""


@dataclass(frozen=True, slots=True)
class ScriptedAnswer:
    """What an origin says to one request."""

    status: int = 200
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    tags: tuple[str, ...] = ()
    position: Position | NoLabel = NoLabel.HEAD
    etag: str | None = None
    """None: made from the body; empty: none."""
    slow_s: float = 0.0
    failure: Failure | None = None


NOTHING_HERE = ScriptedAnswer(404, b"nothing here", (("cache-control", "no-store"),), position=NoLabel.NONE, etag="")
"""For every address without a script."""


@dataclass(frozen=True, slots=True)
class Fetch:
    """A request as an origin received it."""

    origin: str
    method: str
    target: str
    headers: Headers
    background: bool


@dataclass(slots=True)
class Caused:
    """What the requests of one step made the edge do."""

    fetches: list[Fetch] = field(default_factory=list)
    landed: list[Fetched] = field(default_factory=list)
    """What came of each fill."""


@dataclass(slots=True)
class Viewed:
    """One viewer's request: what it was answered, and what the edge knew about it."""

    country: str
    caused: Caused
    status: int = 0
    headers: Headers = field(default_factory=Headers)
    body: bytes = b""
    complete: bool = False
    """Whether the whole answer came."""
    route: str = ""
    """Empty where the address was refused before a route was looked for."""
    outcome: str = ""
    reason: str = ""
    fwd: FwdReason | None = None
    collapsed: bool = False
    key: CacheKey | None = None
    """None where the edge answered itself."""
    found: Variants = ()
    """What the store held under it when the request came."""


_viewed: ContextVar[Viewed] = ContextVar("_viewed")
"""Whose request is being worked on: tasks inherit it from whoever starts them."""
_in_background: ContextVar[bool] = ContextVar("_in_background", default=False)


class _WatchedStore(MemoryStore):
    def get(self, key: CacheKey) -> Variants:
        found = super().get(key)
        viewed = _viewed.get()
        if viewed.key is None:
            viewed.key, viewed.found = key, found
        return found


class _WatchedFills(Fills):
    async def fetch(self, errand: Errand, fate: Fate) -> Fetched:
        landed = await super().fetch(errand, fate)
        _viewed.get().caused.landed.append(landed)
        return landed

    async def send(self, forward: Request, key: CacheKey, *more: object, **named: object) -> OriginResponse:
        viewed = _viewed.get()
        viewed.key = viewed.key or key
        return await super().send(forward, key, *more, **named)  # type: ignore[arg-type]  # handed on as they came


class _WatchedFlights(Flights):
    def refresh_later(self, errand: Errand) -> None:
        token = _in_background.set(True)
        try:
            super().refresh_later(errand)
        finally:
            _in_background.reset(token)


class _NoLines:
    """In place of an access log: where there is none, a hit is only counted."""

    def write(self, line: bytes) -> None:
        pass


class _WatchedBook(RecordBook):
    def hit(
        self, about: bytes, tally: Tally, received_at: float, status: int, ttl_s: int, age_s: int, size: int
    ) -> None:
        super().hit(about, tally, received_at, status, ttl_s, age_s, size)
        viewed = _viewed.get()
        viewed.route, viewed.outcome = _route(about), "hit"

    def note(self, record: ExchangeRecord) -> None:
        super().note(record)
        viewed = _viewed.get()
        viewed.route, viewed.outcome, viewed.reason = _route(record.about), record.outcome, record.reason
        viewed.fwd, viewed.collapsed = record.fwd, record.collapsed


def _route(about: bytes) -> str:
    """The route in the request's part of a log line (`record.request_part`)."""
    route: str = orjson.loads(b"{" + about.rstrip(b",") + b"}")["route"]
    return "" if route == "-" else route


class VirtualShop:
    """An edge that is up to date, in front of origins that answer by `answers`: address -> what is said to one request
    after another, the last for good. To be made inside a running VirtualLoop, and closed there."""

    def __init__(self, policies: PolicySet, answers: Mapping[str, Sequence[ScriptedAnswer]]) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        self.loop = loop
        self.answers = {address: list(turns) for address, turns in answers.items()}
        self.fetches: list[Fetch] = []
        self.head = LOG_START
        self.floors = Floors()
        self.lease = Lease(LEASE_S)
        self.store = _WatchedStore(STORE_BYTES, self.floors, loop.time)
        self.purges: list[PurgeEntry] = []
        """Applied at this edge."""
        self._unheard: list[PurgeEntry] = []
        self._follower = Follower("policy-test", EDGE, f"http://{HOST}", self.floors, self.lease)
        names = [origin.name for origin in policies.origins.all]
        urls = {name: (f"http://{name}",) for name in names}
        self.origins = {name: VirtualOrigin(name, self) for name in names}
        loop.listeners = {name: origin.connect for name, origin in self.origins.items()}
        self._pools = OriginPools(urls.pop(policies.origins.default), urls, policies.origins, loop.time, wired=False)
        fills = _WatchedFills(
            self._pools,
            self.store,
            self.floors,
            edge_key="the-key-of-this-edge",
            applied=lambda: self._follower.applied,
            on_kept=lambda stored: None,
            max_growing_bytes=STORE_BYTES // 2,
            counters=Counters(),
            clock=loop.time,
            wall=self.wall,
        )
        self._flights = _WatchedFlights(fills.fetch, self.floors, loop.time)
        exchange = Exchange(
            edge=EDGE,
            worker="policy-test",
            authorities=frozenset({HOST}),
            policies=policies,
            applied=lambda: self._follower.applied,
            store=self.store,
            floors=self.floors,
            lease=self.lease,
            fills=fills,
            flights=self._flights,
            invalidations=Invalidations(self.store, self._flights, Writes(loop.time), tell=lambda key: None),
            book=_WatchedBook(EDGE, _NoLines(), loop.time, self.wall),
            visitors=Visitors(TrustedHops(()), lambda address: _viewed.get().country),
            clock=loop.time,
            wall=self.wall,
        )
        self._server = GatewayServer(exchange, loop.time)
        self._hear(start=(self.head, str(self.head)))

    def wall(self) -> float:
        return WALL_START_S + self.loop.time() - START_S

    async def close(self) -> None:
        await self._flights.stop()
        self._pools.close()

    # -- the purge log -------------------------------------------------------------------------------------------------

    def purge(self, tags: tuple[str, ...], kind: PurgeKind) -> None:
        """The next entry of the log; applied at once by an edge that hears of it."""
        self.head = Position(self.head.epoch, self.head.cv + 1)
        self._unheard.append(PurgeEntry(self.head, str(self.head), kind, tags))
        if self.lease.held(self.loop.time()):
            self._hear()

    def lapse(self) -> None:
        """The edge has not heard from the log for the length of a lease, and does not until `renew`."""
        self.lease.give_up()

    def renew(self) -> None:
        """The edge hears from the log again, and of everything that it missed."""
        self._hear()

    def _hear(self, start: tuple[Position, str] | None = None) -> None:
        entries, self._unheard = tuple(self._unheard), []
        answer = Answer(entries, self.head, str(self.head), start)
        # As if asked at the end of time: questions are answered again and again, until `lapse`.
        self._follower.on_answer(self._follower.question(), answer, math.inf)
        self.purges.extend(entries)

    def purged_by(self, stored: StoredResponse) -> list[str]:
        """The tags by which entries of the log that this edge has applied hit `stored`, each once."""
        own = {*stored.tags, EVERYTHING}
        hits = [tag for entry in self.purges if entry.position > stored.position for tag in entry.tags if tag in own]
        return list(dict.fromkeys(hits))

    # -- viewers -------------------------------------------------------------------------------------------------------

    async def view(
        self, method: str, target: str, fields: Sequence[tuple[str, str]], body: bytes, client: str, viewed: Viewed
    ) -> None:
        """One request on a connection of its own, from the address `client`; what becomes of it is in `viewed`."""
        _viewed.set(viewed)
        answered = self.loop.create_future()
        reader = _AnswerReader(method, viewed, answered)
        viewer = ViewerConnection(self._server)
        transport = MemoryTransport(client, reader.feed, reader.hung_up)
        viewer.connection_made(transport)
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields)]
        if not any(name.lower() == "host" for name, _ in fields):
            lines.insert(1, f"host: {HOST}")
        if body:
            lines.append(f"content-length: {len(body)}")
        for piece in _pieces("\r\n".join([*lines, "", ""]).encode("latin-1", "replace") + body):
            self._server.buffer[: len(piece)] = piece
            viewer.buffer_updated(len(piece))
        await answered
        transport.close()
        viewer.connection_lost(None)

    def answer_to(self, target: str) -> ScriptedAnswer:
        """What is said to the next request for `target`: by its whole address, by its path, or by `*`."""
        path = target.partition("?")[0]
        turns = next((self.answers[name] for name in (target, path, "*") if name in self.answers), [NOTHING_HERE])
        return turns.pop(0) if len(turns) > 1 else turns[0]


def _pieces(data: bytes) -> Iterator[bytes]:
    for start in range(0, len(data), READ_BYTES):
        yield data[start : start + READ_BYTES]


class _AnswerReader:
    """A viewer's side of a connection: reads the one answer it waits for."""

    def __init__(self, method: str, viewed: Viewed, answered: asyncio.Future[None]) -> None:
        self._method = method
        self._viewed = viewed
        self._answered = answered
        self._pairs: list[tuple[str, str]] = []
        self._body: list[bytes] = []
        self._parser = httptools.HttpResponseParser(self)

    def feed(self, data: bytes) -> None:
        if not self._answered.done():
            self._parser.feed_data(data)

    def hung_up(self) -> None:
        if not self._answered.done():
            self._viewed.body = b"".join(self._body)
            self._answered.set_result(None)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._pairs.append((name.decode("latin-1").lower(), value.decode("latin-1").strip(" \t")))

    def on_headers_complete(self) -> None:
        self._viewed.status, self._viewed.headers = self._parser.get_status_code(), Headers(self._pairs)
        if self._method == "HEAD":
            # The parser cannot be told that no body follows.
            self.on_message_complete()

    def on_body(self, data: bytes) -> None:
        self._body.append(data)

    def on_message_complete(self) -> None:
        if not self._answered.done():
            self._viewed.complete = True
            self.hung_up()


# -- the origin ----------------------------------------------------------------------------------------------------


class VirtualOrigin:
    """One origin of `shop`, under its name."""

    def __init__(self, name: str, shop: VirtualShop) -> None:
        self.name = name
        self.shop = shop
        self.is_up = True
        self._connections: set[_OriginConnection] = set()

    def go_down(self) -> None:
        """Refuses connections from now on, and hangs up on those there are."""
        self.is_up = False
        for connection in list(self._connections):
            connection.hang_up()

    def come_up(self) -> None:
        self.is_up = True

    async def connect(self, make: Callable[[], asyncio.BaseProtocol]) -> asyncio.Transport:
        if not self.is_up:
            raise ConnectionRefusedError(f"{self.name} is down")
        client = make()
        assert isinstance(client, asyncio.Protocol)
        connection = _OriginConnection(self, client)
        self._connections.add(connection)
        client.connection_made(connection.transport)
        return connection.transport

    def left(self, connection: _OriginConnection) -> None:
        self._connections.discard(connection)


class _OriginConnection:
    """The origin's side of one connection: one request after the other."""

    def __init__(self, origin: VirtualOrigin, client: asyncio.Protocol) -> None:
        self._origin = origin
        self._client = client
        self._open = True
        self._target = b""
        self._pairs: list[tuple[str, str]] = []
        self._parser = httptools.HttpRequestParser(self)
        self.transport = MemoryTransport(origin.name, self._parser.feed_data, self._left)

    def on_message_begin(self) -> None:
        self._target, self._pairs = b"", []

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._pairs.append((name.decode("latin-1").lower(), value.decode("latin-1")))

    def on_message_complete(self) -> None:
        shop, headers = self._origin.shop, Headers(self._pairs)
        method, target = self._parser.get_method().decode("ascii"), self._target.decode("latin-1")
        fetch = Fetch(self._origin.name, method, target, headers, _in_background.get())
        shop.fetches.append(fetch)
        _viewed.get().caused.fetches.append(fetch)
        answer = shop.answer_to(target)
        if answer.failure is Failure.SILENT:
            return
        # Read when the request arrives, said when it is ready: what is purged in between is not in it.
        said = b"" if answer.failure is Failure.RESET else self._rendered(answer, method, headers)
        ends = answer.failure is not None
        shop.loop.call_later(answer.slow_s, self._say, said[: len(said) - 1] if ends else said, ends)

    def _rendered(self, answer: ScriptedAnswer, method: str, asked: Headers) -> bytes:
        shop, status = self._origin.shop, answer.status
        fields = {"date": http_date(shop.wall())}
        if answer.position is not NoLabel.NONE:
            fields[VERSION_FIELD] = str(shop.head if answer.position is NoLabel.HEAD else answer.position)
        if answer.tags:
            fields[TAGS_FIELD] = ", ".join(answer.tags)
        etag = answer.etag
        if etag is None and status == 200:
            etag = f'"{hashlib.sha256(answer.body).hexdigest()[:8]}"'
        if etag:
            fields["etag"] = etag
            if status == 200 and method in {"GET", "HEAD"} and asked.get("if-none-match") == etag:
                status = 304
        fields |= dict(answer.headers)
        bodiless = status in {204, 304}
        if not bodiless:
            fields["content-length"] = str(len(answer.body))
        lines = [f"HTTP/1.1 {status} Scripted", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
        head = "\r\n".join(lines).encode("latin-1", "replace")
        return head if bodiless or method == "HEAD" else head + answer.body

    def _say(self, data: bytes, then_hang_up: bool) -> None:
        if self._open and data:
            self._client.data_received(data)
        if then_hang_up:
            self.hang_up()

    def hang_up(self) -> None:
        self.transport.close()

    def _left(self) -> None:
        """Either side hung up; the other one hears of it."""
        self._open = False
        self._origin.left(self)
        self._origin.shop.loop.call_soon(self._client.connection_lost, None)


def stored_by(caused: Caused) -> bool:
    """Whether anything that a step's requests fetched was taken into the store."""
    return any(isinstance(landed, Kept) and landed.taken for landed in caused.landed)


def why_not_stored(viewed: Viewed) -> str:
    """Why the last thing that a step fetched was not stored; empty where it was, or where nothing was fetched."""
    caused = viewed.caused
    if not caused.landed:
        return viewed.reason if caused.fetches else ""
    landed = caused.landed[-1]
    if isinstance(landed, Kept):
        return "" if landed.taken else "store-holds-newer"
    if isinstance(landed, NotKept):
        return landed.reason
    return "below-floor" if isinstance(landed, Overtaken) else landed.reason
