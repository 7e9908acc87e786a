"""How viewers ask: the other end of the gateway's own `ViewerConnection`, which takes what is written in the very step
in which it is written, and requests of many kinds. Some send one in two pieces, some two in one; and some stop reading
for a while.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Iterable
from enum import StrEnum
from functools import lru_cache
from random import Random
from typing import TYPE_CHECKING

from edge.gateway.server import ViewerConnection
from tests.simulation.promise import Asked
from tests.simulation.shop import HOST, PAGES, Page

if TYPE_CHECKING:
    from tests.simulation.viewers import Viewers

_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: chunked\r\n", re.IGNORECASE)


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


def stops(draws: Random) -> tuple[int, float]:
    """After how many octets a slow viewer stops reading, and for how many seconds."""
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
