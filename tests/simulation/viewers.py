"""Who looks at the shop: requests of many kinds to one edge worker, and what their answers show.

A viewer's connection is the gateway's own (`ViewerConnection`); its other end is here, and takes what is written in the
very step in which it is written. A conditional request, a HEAD and a part are judged by the tag of what they confirm.
"""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from random import Random

import brotli  # type: ignore[import-untyped]
import zstandard

from cache_policies.positions import ZERO, Position
from edge.gateway.server import GatewayServer, ViewerConnection
from tests.simulation.promise import Asked, Promise, Shown, Waiting
from tests.simulation.shop import HOST, PAGES, Page, shown_in

_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: chunked\r\n", re.IGNORECASE)
_CODING = re.compile(rb"\r\ncontent-encoding: ([a-z]+)\r\n", re.IGNORECASE)
_ETAG = re.compile(rb'\r\netag: (?:W/)?("[^"]+")\r\n', re.IGNORECASE)
_CACHE_STATUS = re.compile(rb"\r\ncache-status: ([^\r]*)\r\n", re.IGNORECASE)
_DETAIL = re.compile(r"; detail=([a-z-]+)")
_ANYWAY = frozenset({"stale-if-error", "stale-if-unreachable", "stale-marked"})
"""Details of what was shown because the origin failed; any other is why it was asked, unless it is a hit."""
_SHOWS = frozenset({b"200", b"404", b"206", b"304"})


class Manner(StrEnum):
    """How a viewer asks."""

    PLAIN = "plain"
    HEAD = "head"
    CONDITIONAL = "conditional"
    PART = "part"
    CODED = "coded"


@lru_cache
def _request(page: Page, manner: Manner, etag: bytes) -> bytes:
    method = "HEAD" if manner is Manner.HEAD else "GET"
    lines = [f"{method} {page.target} HTTP/1.1", f"host: {HOST}"]
    match manner:
        case Manner.CONDITIONAL:
            lines.append(f"if-none-match: {etag.decode()}")
        case Manner.PART:
            lines.append("range: bytes=1-9")
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
class Tags:
    """Which rows an ETag stands for: what the origin has ever rendered."""

    shown: dict[bytes, Shown]

    def learn(self, etag: bytes, body: bytes) -> None:
        self.shown[etag] = shown_in(body)


class Viewer(asyncio.Transport):
    """A viewer's end of one connection to one worker; asks one thing after the other."""

    def __init__(self, viewers: Viewers) -> None:
        super().__init__({"peername": ("192.0.2.7", 40_000)})
        self._viewers = viewers
        self._page = PAGES[0]
        self._manner = Manner.PLAIN
        self._asked: Asked | None = None
        self._turn = 0
        self._data = b""
        self._closed = False
        self.connection = ViewerConnection(viewers.server)
        self.connection.connection_made(self)

    def ask(self, page: Page, manner: Manner, asked: Asked) -> None:
        """Send one request; an answer that is ready is here when this returns."""
        self._page, self._manner, self._asked = page, manner, asked
        etag = self._viewers.etags.get(page.name, b'"none"') if manner is Manner.CONDITIONAL else b""
        self.connection.received(_request(page, manner, etag))
        if self._asked is not None:
            self._turn = self._viewers.waits(asked)

    # -- what the gateway calls ----------------------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._closed:
            return
        self._data = self._data + bytes(data) if self._data else bytes(data)
        self._read()

    def writelines(self, pieces: Iterable[bytes | bytearray | memoryview]) -> None:
        self.write(b"".join(pieces))

    def _read(self) -> None:
        data = self._data
        end = data.find(b"\r\n\r\n")
        if end < 0:
            return
        if data.startswith(b"HTTP/1.1 1"):
            self._data = data[end + 4 :]
            if self._data:
                self._read()
            return
        head, body = data[: end + 2], data[end + 4 :]
        status = data[9:12]
        if self._manner is not Manner.HEAD and status not in {b"304", b"204"}:
            length = _LENGTH.search(head)
            if length is not None:
                if len(body) < int(length[1]):
                    return
            elif _CHUNKED.search(head):
                if not body.endswith(b"0\r\n\r\n"):
                    return
                body = _unchunked(body)
            else:
                return
        self._data = b""
        asked, self._asked = self._asked, None
        assert asked is not None, f"an answer that nobody asked for: {data[:200]!r}"
        self._waits_no_more()
        self._viewers.judge(asked, self._page, self._manner, status, head, body)
        if not self._closed:
            self._viewers.free.append(self)

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
        self._asked = None
        if self in self._viewers.free:
            self._viewers.free.remove(self)
        asyncio.get_running_loop().call_soon(self.connection.connection_lost, None)

    def abort(self) -> None:
        self.close()

    def get_write_buffer_size(self) -> int:
        """Nothing waits: what is written has arrived."""
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Needless where nothing waits."""

    def pause_reading(self) -> None:
        """A viewer here sends nothing before it is answered."""

    def resume_reading(self) -> None:
        """See `pause_reading`."""


def _unchunked(body: bytes) -> bytes:
    pieces: list[bytes] = []
    while True:
        size, _, body = body.partition(b"\r\n")
        length = int(size, 16)
        if not length:
            return b"".join(pieces)
        pieces.append(body[:length])
        body = body[length + 2 :]


class Viewers:
    """Those of one edge worker. `applied`: what it has applied; `clock`: the seconds of the run; `tags`: of the whole
    run. `tell` gets what is worth telling of answers, if somebody wants to hear it."""

    def __init__(
        self,
        worker: str,
        server: GatewayServer,
        applied: Callable[[], Position | None],
        promise: Promise,
        waiting: Waiting,
        clock: Callable[[], float],
        tags: Tags,
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
        self._clock = clock
        self._tags = tags
        self._tell = tell
        self.kinds: dict[str, int] = {}
        """Manner and status of answers."""

    def ask(self, page: Page, manner: Manner) -> None:
        """Somebody asks this worker for `page`, now."""
        viewer = self.free.pop() if self.free else Viewer(self)
        promise = self._promise
        asked = Asked(self._worker, page.name, self._clock(), promise.reports, self._applied() or ZERO)
        viewer.ask(page, manner, asked)

    def waits(self, asked: Asked) -> int:
        """One of them has to wait; gives a number for the end of it."""
        self.under_way += 1
        return self._waiting.begins(self._worker, asked.about, asked.sent_at)

    def waits_no_more(self, turn: int) -> None:
        self.under_way -= 1
        self._waiting.ends(turn)

    def judge(self, asked: Asked, page: Page, manner: Manner, status: bytes, head: bytes, body: bytes) -> None:
        """An answer is there, whole."""
        if self._tell is not None:
            told = _CACHE_STATUS.search(head)
            said = shown_in(body) if body else ()
            self._tell(
                f"{manner.value} {page.name}: {status.decode()}; "
                f"{told[1].decode() if told else 'no status'} {' '.join(f'{n}={v}' for n, v in said)}"
            )
        if status not in _SHOWS:
            self._promise.answered()
            return
        if manner is Manner.PLAIN:
            shown = shown_in(body)
        else:
            shown = self._shown_by(manner, status, head, body)
            kind = f"{manner.value} {status.decode()}"
            self.kinds[kind] = self.kinds.get(kind, 0) + 1
        if manner is not Manner.PLAIN or page.name not in self.etags:
            etag = _ETAG.search(head)
            if etag is not None:
                self.etags[page.name] = etag[1]
        if shown:
            self._promise.served(asked, shown, lambda: detail_of(head))
        self._promise.answered()

    def _shown_by(self, manner: Manner, status: bytes, head: bytes, body: bytes) -> Shown:
        """What an answer without the plain body stands for."""
        if status in {b"206", b"304"} or manner is Manner.HEAD:
            etag = _ETAG.search(head)
            return () if etag is None else self._tags.shown.get(etag[1], ())
        coding = _CODING.search(head)
        return shown_in(body if coding is None else _decoded(body, coding[1]))


MANNERS = (Manner.HEAD, Manner.CONDITIONAL, Manner.CONDITIONAL, Manner.PART, Manner.CODED)


def choose(draws: Random) -> tuple[Page, Manner]:
    """What the next viewer wants: most ask plainly, and for few pages more than for others."""
    page = PAGES[int(len(PAGES) * draws.random() ** 1.5)]
    if draws.random() < 0.85:
        return page, Manner.PLAIN
    return page, MANNERS[int(draws.random() * len(MANNERS))]
