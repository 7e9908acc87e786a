"""Who looks at the shop: what the answers of one edge worker show, and whether they may.

Judged is what a viewer has then: of a 304 the copy that it sent the tag of, of a part what it shows and what its tag
says that it is a part of, of a HEAD what its tag says.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from random import Random

import brotli  # type: ignore[import-untyped]
import zstandard

from cache_policies.positions import ZERO, Position
from edge.gateway.server import GatewayServer
from tests.simulation.asking import PART_FROM, PIECES_S, Manner, Viewer, stops
from tests.simulation.promise import MARKED, Asked, Promise
from tests.simulation.shop import NOTICE_SLOT, PAGES, Lifetimes, Page, shown_in
from tests.simulation.waiting import Waiting

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
                viewer.ask_slowly([page], manner, stops(draws))
            case Manner.PIPELINED:
                when = stops(draws) if draws.random() < 0.5 else None
                viewer.ask_slowly([page, draws.choice(PAGES)], manner, when)
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
