"""Who looks at the shop: requests of many kinds to one edge worker, and what their answers show.

A viewer's connection is the gateway's own (`ViewerConnection`); its other end is here, and takes what is written in the
very step in which it is written. Judged is what the viewer has then: of a 304 the copy that it sent the tag of, of a
part what it shows and what its tag says that it is a part of, of a HEAD what its tag says.

Some send a request in two pieces, some two requests in one; and some stop reading for a while.
"""

from __future__ import annotations

import asyncio
import re
import zlib
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from random import Random

import brotli  # type: ignore[import-untyped]
import zstandard

from cache_policies.positions import ZERO, Position
from edge.gateway.server import GatewayServer, ViewerConnection
from tests.simulation.promise import MARKED, Asked, Promise
from tests.simulation.shop import HOST, NOTICE_SLOT, PAGES, Lifetimes, Page, shown_in
from tests.simulation.waiting import Waiting

_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: chunked\r\n", re.IGNORECASE)
_CODING = re.compile(rb"\r\ncontent-encoding: ([a-z]+)\r\n", re.IGNORECASE)
_ETAG = re.compile(rb'\r\netag: (?:W/)?("[^"]+")\r\n', re.IGNORECASE)
_CACHE_STATUS = re.compile(rb"\r\ncache-status: ([^\r]*)\r\n", re.IGNORECASE)
_DETAIL = re.compile(r"; detail=([a-z-]+)")
_NOTICE = re.compile(rb'<div role="status"[^>]*>Prices are being confirmed\..*?</div>')
_OF_THE_TIER = "regional"
"""What an answer says that comes from the tier of its site, as fresh as one of its own."""
_ANYWAY = frozenset({"stale-if-error", "stale-if-unreachable", "stale-marked"})
"""Details of what was shown because the origin failed; any other is why it was asked, unless it is a hit."""
_SHOWS = frozenset({b"200", b"404", b"206", b"304"})
_TOO_SLOWLY = b"408"


class Manner(StrEnum):
    """How a viewer asks."""

    PLAIN = "plain"
    HEAD = "head"
    CONDITIONAL = "conditional"
    PART = "part"
    CODED = "coded"
    PIECES = "pieces"
    """The head in two pieces."""
    SLOW = "slow"
    """Nothing is read for a while after the first octets."""
    PIPELINED = "pipelined"
    """Two requests in one piece; half of those who do that read slowly, too."""


PIECES_S = 4.0
"""Between two pieces of a head, at the most."""
STOPS_S = 8.0
"""For how long a slow viewer does not read, at the most; the gateway waits for longer."""
STOPS_AFTER = 700
"""How many octets such a viewer has read before, at the most: some stop in a head, some in a body."""
PART_FROM = 1
"""Where a part begins: everything that a body shows comes after its first octet."""


@lru_cache
def _request(page: Page, manner: Manner, etag: bytes) -> bytes:
    method = "HEAD" if manner is Manner.HEAD else "GET"
    lines = [f"{method} {page.target} HTTP/1.1", f"host: {HOST}"]
    match manner:
        case Manner.CONDITIONAL:
            lines.append(f"if-none-match: {etag.decode()}")
        case Manner.PART:
            lines.append(f"range: bytes={PART_FROM}-")
        case Manner.CODED:
            lines.append("accept-encoding: br, gzip")
    return "\r\n".join([*lines, "", ""]).encode()


@lru_cache(maxsize=1_024)
def _decoded(body: bytes, coding: bytes) -> bytes:
    match coding:
        case b"br":
            plain: bytes = brotli.decompress(body)
        case b"zstd":
            plain = zstandard.ZstdDecompressor().decompress(body)
        case _:
            plain = zlib.decompress(body, 16 + zlib.MAX_WBITS)
    return plain


def presented(head: bytes, body: bytes) -> str:
    """The same, as somebody sees it who looks at the page: one that is marked without a word about it is not."""
    detail = detail_of(head)
    return "" if detail == MARKED and _NOTICE.search(body) is None else detail


def detail_of(head: bytes) -> str:
    """By which word of Cache-Status an answer says that it is not current; empty: it does not."""
    found = _CACHE_STATUS.search(head)
    if found is None:
        return ""
    told = found[1].decode()
    detail = _DETAIL.search(told)
    if detail is None or ("; hit" not in told and detail[1] not in _ANYWAY):
        return ""
    return detail[1]


@dataclass(slots=True)
class Said:
    """What the origin has said in a run."""

    bodies: dict[bytes, bytes] = field(default_factory=dict)
    """By their ETags."""
    last: dict[str, dict[bytes, float]] = field(default_factory=dict)
    """To each edge, whose workers tell each other: of each body when it was said last, or confirmed, in virtual
    seconds."""

    def to(self, edge: str, etag: bytes, now: float) -> None:
        """An answer with that tag is on its way to `edge`."""
        self.last.setdefault(edge, {})[self.bodies[etag]] = now


class Viewer(asyncio.Transport):
    """A viewer's end of one connection to one worker; asks one thing after the other, or two at once."""

    def __init__(self, viewers: Viewers) -> None:
        super().__init__({"peername": ("192.0.2.7", 40_000)})
        self._viewers = viewers
        self._page = PAGES[0]
        self._manner = Manner.PLAIN
        self._asked: Asked | None = None
        self._etag = b""
        """Of the copy that the viewer has, where it asks whether that is still current."""
        self._behind: deque[tuple[Page, Asked]] = deque()
        """What was asked for behind that."""
        self._turn = 0
        self._data = b""
        self._stops: tuple[int, float] | None = None
        """After how many octets it stops reading, and for how many seconds; None: it reads."""
        self._has_stopped = False
        self._closed = False
        self.connection = ViewerConnection(viewers.server)
        self.connection.connection_made(self)

    def ask(self, page: Page, manner: Manner, asked: Asked) -> None:
        """Send one request; an answer that is ready is here when this returns."""
        self._page, self._manner, self._asked = page, manner, asked
        self._etag = self._viewers.etags.get(page.name, b'"none"') if manner is Manner.CONDITIONAL else b""
        self.connection.received(_request(page, manner, self._etag))
        self._waits()

    def ask_in_pieces(self, page: Page, at: float, pause_s: float) -> None:
        """Send one request, of which the second part, from `at` of it on, comes so much later."""
        octets = _request(page, Manner.PIECES, b"")
        cut = 1 + int(at * (len(octets) - 1))
        self._page, self._manner, self._asked = page, Manner.PIECES, self._viewers.asks_for(page)
        self.connection.received(octets[:cut])
        self._viewers.later(pause_s, self._send_the_rest, octets[cut:])

    def _send_the_rest(self, octets: bytes) -> None:
        if self._asked is not None:
            # Nothing was asked for before it was asked for whole.
            self._asked = self._viewers.asks_for(self._page)
            self.connection.received(octets)
            self._waits()

    def ask_slowly(self, pages: list[Page], manner: Manner, stops: tuple[int, float] | None) -> None:
        """Send a request for each of `pages`, all at once, and stop reading as `stops` says."""
        self._page, self._manner, self._asked = pages[0], manner, self._viewers.asks_for(pages[0])
        self._behind.extend((page, self._viewers.asks_for(page)) for page in pages[1:])
        self._stops = stops
        self.connection.received(b"".join(_request(page, manner, b"") for page in pages))
        self._waits()

    # -- what the gateway calls ----------------------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._closed:
            return
        self._data = self._data + bytes(data) if self._data else bytes(data)
        if self._has_stopped:
            return
        if self._stops is not None and len(self._data) > self._stops[0]:
            self._stop_reading(self._stops[1])
        else:
            self._read()

    def writelines(self, pieces: Iterable[bytes | bytearray | memoryview]) -> None:
        self.write(b"".join(pieces))

    def _stop_reading(self, pause_s: float) -> None:
        """Nobody waits for the gateway now, but the gateway for its viewer."""
        self._has_stopped = True
        self._waits_no_more()
        self._viewers.later(pause_s, self._read_on)
        self.connection.pause_writing()

    def _read_on(self) -> None:
        if self._closed:
            return
        behind = [asked for _, asked in self._behind]
        self._stops, self._has_stopped = None, False
        self._read()
        for asked in behind:
            if not self._data and (asked is self._asked or any(asked is each for _, each in self._behind)):
                # Not begun yet: whether it has been kept for too long is judged when there is room for it.
                asked.sent_at = self._viewers.clock()
        self._waits()
        self.connection.resume_writing()

    def _read(self) -> None:
        while self._data and self._asked is not None and self._read_one(self._data, self._asked):
            pass

    def _read_one(self, data: bytes, asked: Asked) -> bool:
        """Take what is there of an answer; whether there may be more."""
        end = data.find(b"\r\n\r\n")
        if end < 0:
            return False
        if data.startswith(b"HTTP/1.1 1"):
            self._data = data[end + 4 :]
            return True
        head, body, rest = data[: end + 2], data[end + 4 :], b""
        status = data[9:12]
        if self._manner is Manner.HEAD or status in {b"304", b"204"}:
            body, rest = b"", body
        else:
            length = _LENGTH.search(head)
            if length is not None:
                size = int(length[1])
                if len(body) < size:
                    return False
                if len(body) > size:
                    body, rest = body[:size], body[size:]
            elif _CHUNKED.search(head):
                whole = _unchunked(body)
                if whole is None:
                    return False
                body, rest = whole
            else:
                return False
        self._data = rest
        self._waits_no_more()
        page = self._page
        self._asked = None
        if self._behind:
            self._page, self._asked = self._behind.popleft()
            self._waits()
        self._viewers.judge(asked, page, self._manner, self._etag, status, head, body)
        if self._asked is None:
            assert not rest, f"an answer that nobody asked for: {rest[:200]!r}"
            self._stops = None
            if not self._closed:
                self._viewers.free.append(self)
        return True

    def _waits(self) -> None:
        if self._asked is not None and not self._turn and not self._has_stopped:
            self._turn = self._viewers.waits(self._asked)

    def _waits_no_more(self) -> None:
        if self._turn:
            self._viewers.waits_no_more(self._turn)
            self._turn = 0

    def is_closing(self) -> bool:
        return self._closed

    def close(self) -> None:
        """The gateway hangs up: what was asked and not answered whole gets no answer, which is one, too."""
        if self._closed:
            return
        self._closed = True
        self._waits_no_more()
        if self._asked is not None and self._asked.newest:
            self._viewers.shows_all(self._asked, self._page, b"", b"", b"")
        self._asked = None
        if self in self._viewers.free:
            self._viewers.free.remove(self)
        asyncio.get_running_loop().call_soon(self.connection.connection_lost, None)

    def abort(self) -> None:
        self.close()

    def get_write_buffer_size(self) -> int:
        """What is written has arrived, where nobody has stopped reading."""
        return len(self._data) if self._has_stopped else 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Needless where nothing waits."""

    def pause_reading(self) -> None:
        """A viewer here sends nothing more before it is answered."""

    def resume_reading(self) -> None:
        """See `pause_reading`."""


def _unchunked(body: bytes) -> tuple[bytes, bytes] | None:
    """The body of chunks, and what comes after it; None: it is not whole yet."""
    pieces: list[bytes] = []
    while True:
        size, end, body = body.partition(b"\r\n")
        if not end:
            return None
        length = int(size, 16)
        if len(body) < length + 2:
            return None
        if not length:
            return b"".join(pieces), body[2:]
        pieces.append(body[:length])
        body = body[length + 2 :]


class Viewers:
    """Those of one edge worker. `applied`: what it has applied; `clock`: the seconds of the run; `later`: has something
    happen there so many seconds later; `said`: in the whole run, to be kept as `lifetimes` say. `tell` gets what is
    worth telling of answers, if somebody wants to hear it."""

    def __init__(
        self,
        worker: str,
        server: GatewayServer,
        applied: Callable[[], Position | None],
        promise: Promise,
        waiting: Waiting,
        clock: Callable[[], float],
        later: Callable[..., object],
        said: Said,
        lifetimes: Lifetimes,
        tell: Callable[[str], None] | None,
    ) -> None:
        self.server = server
        self.under_way = 0
        """How many wait for an answer."""
        self.free: list[Viewer] = []
        self.etags: dict[str, bytes] = {}
        """Page -> the tag that a viewer here has seen last."""
        self._worker = worker
        self._applied = applied
        self._promise = promise
        self._waiting = waiting
        self.clock = clock
        self.later = later
        self._said = said
        self._said_here = said.last.setdefault(worker.partition("/")[0], {})
        self._lifetimes = lifetimes
        self._tell = tell
        self.kinds: dict[str, int] = {}
        """Manner and status of answers."""

    def ask(self, page: Page, manner: Manner, draws: Random) -> None:
        """Somebody asks this worker for `page`, now; `draws` say how slowly."""
        viewer = self.free.pop() if self.free else Viewer(self)
        match manner:
            case Manner.PIECES:
                viewer.ask_in_pieces(page, draws.random(), PIECES_S * draws.random() ** 2)
            case Manner.SLOW:
                viewer.ask_slowly([page], manner, _stops(draws))
            case Manner.PIPELINED:
                stops = _stops(draws) if draws.random() < 0.5 else None
                viewer.ask_slowly([page, draws.choice(PAGES)], manner, stops)
            case _:
                viewer.ask(page, manner, self.asks_for(page))

    def ask_for(self, page: Page, newest: bool) -> None:
        """The same, plainly. `newest`: what is shown must be what is there now."""
        asked = self.asks_for(page)
        asked.newest = newest
        Viewer(self).ask(page, Manner.PLAIN, asked)

    def asks_for(self, page: Page) -> Asked:
        """What is known when somebody asks for that."""
        promise = self._promise
        return Asked(self._worker, page.name, self.clock(), promise.reports, self._applied() or ZERO)

    def waits(self, asked: Asked) -> int:
        """One of them has to wait; gives a number for the end of it."""
        self.under_way += 1
        return self._waiting.begins(self._worker, asked.about, asked.sent_at)

    def waits_no_more(self, turn: int) -> None:
        self.under_way -= 1
        self._waiting.ends(turn)

    def judge(
        self, asked: Asked, page: Page, manner: Manner, sent: bytes, status: bytes, head: bytes, body: bytes
    ) -> None:
        """An answer is there, whole. `sent`: the tag that was asked about."""
        if self._tell is not None:
            told = _CACHE_STATUS.search(head)
            shows = shown_in(body) if body else ()
            self._tell(
                f"{manner.value} {page.name}: {status.decode()}; "
                f"{told[1].decode() if told else 'no status'} {' '.join(f'{n}={v}' for n, v in shows)}"
            )
        self._promise.answered()
        if asked.newest:
            self.shows_all(asked, page, status, head, body)
        if status not in _SHOWS:
            if status.startswith(b"4") and status != _TOO_SLOWLY:
                self._promise.refused(asked, status)
            return
        has: bytes | None = body
        if manner is not Manner.PLAIN:
            has = self._has(asked, manner, sent, status, head, body)
        elif page.name not in self.etags:
            self._remember(page, head)
        if has is None:
            return
        shown = shown_in(has)
        self._promise.served(asked, shown, lambda: presented(head, has))
        said_at = self._said_here.get(has)
        if said_at is None:
            said_at = self._said_here.get(_NOTICE.sub(NOTICE_SLOT, has))
        if said_at is None:
            self._promise.made_up(asked, f"a body that no origin has given to its edge: {has[:200]!r}")
            return
        if asked.sent_at - said_at > self._lifetimes.fresh_s or status == b"404":
            self._was_kept(asked, page, status, head, asked.sent_at - said_at)

    def shows_all(self, asked: Asked, page: Page, status: bytes, head: bytes, body: bytes) -> None:
        """An answer to somebody who must be shown what is there now; all of it is empty where there is none."""
        self._promise.shows_all(asked, page.rows, status, shown_in(body), detail_of(head))

    def _remember(self, page: Page, head: bytes) -> None:
        etag = _ETAG.search(head)
        if etag is not None:
            self.etags[page.name] = etag[1]

    def _was_kept(self, asked: Asked, page: Page, status: bytes, head: bytes, age_s: float) -> None:
        """What was shown had been said a while ago: it may come from a store, for as long as the origin allowed."""
        found = _CACHE_STATUS.search(head)
        told = "" if found is None else found[1].decode()
        detail = detail_of(head)
        if "; hit" in told or f"; detail={_OF_THE_TIER}" in told or detail:
            longest_s = self._lifetimes.longest_s(page, detail, absent=status == b"404")
            self._promise.kept(asked, detail or "fresh", age_s, longest_s)

    def _has(self, asked: Asked, manner: Manner, sent: bytes, status: bytes, head: bytes, body: bytes) -> bytes | None:
        """The body that the viewer has after an answer that was not asked for plainly; None: it shows nothing."""
        kind = f"{manner.value} {status.decode()}"
        found = _ETAG.search(head)
        tag = None if found is None else found[1]
        bodies = self._said.bodies
        has: bytes | None = body
        match manner, status:
            case Manner.CODED, _:
                coding = _CODING.search(head)
                if coding is not None:
                    has = _decoded(body, coding[1])
                else:
                    kind = f"plain {status.decode()}"
            case Manner.HEAD, _:
                if tag is None and detail_of(head) == MARKED:
                    has = None
                elif tag not in bodies:
                    self._promise.made_up(asked, f"the tag {tag!r}, which no origin has given")
                    has = None
                else:
                    has = bodies[tag]
            case Manner.CONDITIONAL, b"304":
                if sent not in bodies or tag not in {None, sent}:
                    self._promise.made_up(asked, f"a 304 of {tag!r} to a copy of {sent!r}")
                    has = None
                else:
                    has = bodies[sent]
            case Manner.PART, b"206":
                whole = None if tag is None else bodies.get(tag)
                if whole is None or whole[PART_FROM:] != body:
                    self._promise.made_up(asked, f"a part that is none of {tag!r}: {body[:200]!r}")
                has = whole
        self.kinds[kind] = self.kinds.get(kind, 0) + 1
        if manner is Manner.CONDITIONAL and tag is not None:
            # The copy that a viewer has from now on.
            self.etags[asked.about] = tag
        return has


def _stops(draws: Random) -> tuple[int, float]:
    return draws.randrange(STOPS_AFTER), STOPS_S * draws.random() ** 2


MANNERS = (
    Manner.HEAD,
    Manner.CONDITIONAL,
    Manner.CONDITIONAL,
    Manner.PART,
    Manner.CODED,
    Manner.PIECES,
    Manner.SLOW,
    Manner.PIPELINED,
)


def choose(draws: Random) -> tuple[Page, Manner]:
    """What the next viewer wants: most ask plainly, and for few pages more than for others."""
    page = PAGES[int(len(PAGES) * draws.random() ** 1.5)]
    if draws.random() < 0.85:
        return page, Manner.PLAIN
    return page, MANNERS[int(draws.random() * len(MANNERS))]
