"""Which watched prices an answer shows: read once for each body, then known by its address and ETag."""

from __future__ import annotations

import zlib
from collections import OrderedDict
from typing import NamedTuple, Protocol

from loadtests.client import decoded
from loadtests.http1 import Answer
from loadtests.oracle import PriceKey
from loadtests.people import Visit
from loadtests.reading import Unreadable, is_marked, shown_prices

REMEMBERED_BODIES = 20_000

Shown = list[tuple[PriceKey, int]]
"""Watched prices with the amounts that were shown for them."""


class Watched(Protocol):
    """Knows which prices count."""

    def __contains__(self, key: PriceKey, /) -> bool: ...


class AnotherBody(Unreadable):
    """A body came under the ETag of another: a browser that was shown one is told by 304 that it is the other."""

    def __init__(self, etag: str, shown: Shown) -> None:
        super().__init__(f"another body under the same ETag {etag}")
        self.shown = shown
        """Watched prices that this one shows."""


class _Body(NamedTuple):
    checksums: dict[str, int]
    """Content-coding -> CRC-32 of the bytes that came."""
    shown: Shown


class Bodies:
    """What answers showed. `watched`: the prices that count."""

    def __init__(self, watched: Watched) -> None:
        self._watched = watched
        # What an ETag of an address stands for; the same on every edge, because it is a digest of the body.
        self._bodies: OrderedDict[tuple[str, str], _Body] = OrderedDict()

    def shown(self, method: str, visit: Visit, answer: Answer) -> Shown | None:
        """The watched prices that an answer shows, or that the body which its ETag names shows.

        None for a page that calls none of its prices current. Raises AnotherBody, and ValueError, Unreadable among
        them, for a body that hides what it shows.
        """
        etag = answer.headers.get("etag")
        if answer.status == 200 and method == "GET":
            return self._read(visit, answer, etag)
        if etag is not None and (answer.status == 304 or (answer.status == 200 and method == "HEAD")):
            remembered = self._bodies.get((visit.target, etag))
            return [] if remembered is None else remembered.shown
        return []

    def _read(self, visit: Visit, answer: Answer, etag: str | None) -> Shown | None:
        """A body that was read before is only compared: reading costs far more than the exchange."""
        checksum, coding = zlib.crc32(answer.body), answer.headers.get("content-encoding", "")
        marked = "stale-marked" in answer.headers.get("cache-status", "")
        if etag is not None and not marked:
            remembered = self._bodies.get((visit.target, etag))
            if remembered is not None and remembered.checksums.get(coding) == checksum:
                return remembered.shown
        body = decoded(answer)
        every = shown_prices(visit.market, answer.headers.get("content-type", ""), body)
        if marked and is_marked(answer.headers, body):
            return None
        shown = [(key, amount) for key, amount in every if key in self._watched]
        if etag is not None and not marked:
            remembered = self._bodies.get((visit.target, etag))
            checksums = {} if remembered is None else remembered.checksums
            self._bodies[visit.target, etag] = _Body({**checksums, coding: checksum}, shown)
            self._bodies.move_to_end((visit.target, etag))
            if len(self._bodies) > REMEMBERED_BODIES:
                self._bodies.popitem(last=False)
            if coding in checksums:
                raise AnotherBody(etag, shown)
        return shown
