"""What a worker counts: exchanges by what became of them, and requests to the origin. Plain numbers, read at a scrape.

Whoever knows an address keeps the tally of its hits (`hits.Known`), so that counting one is a clock, two additions and
one place of a list; what is made of the numbers is `metrics.py`'s business.
"""

from __future__ import annotations

from typing import NamedTuple

from edge.durations import Durations
from edge.gateway.origin.errors import OriginError

MAX_LABELS = 5_000
"""Tallies at the most, some 3 MB. Routes come from policies and all else from enums, so that there are never as many;
beyond it they are counted as `other`."""
OTHER = "other"


class Tally(Durations):
    """Exchanges of one label: how long they took, from when the request was read to when the answer was handed over."""

    __slots__ = ("bytes_sent", "coalesced")

    def __init__(self) -> None:
        super().__init__()
        self.bytes_sent = 0
        self.coalesced = 0
        """Answered by somebody else's request to the origin."""


class ExchangeLabel(NamedTuple):
    """What exchanges are counted by; as in the access log, where `status` is `cache`."""

    route: str
    """`-`: none, refused before a route was looked for."""
    status: str
    reason: str
    code_class: str
    """`2xx`; `-` where no status was sent."""


class FetchLabel(NamedTuple):
    """What requests to the origin are counted by."""

    route: str
    result: str
    """`2xx`, `304` and so on, or why there was no usable answer (RFC 9209)."""


class Counters:
    """One worker's, since it was started."""

    def __init__(self) -> None:
        self.exchanges: dict[ExchangeLabel, Tally] = {}
        self.fetches: dict[FetchLabel, Durations] = {}

    def exchange(self, route: str, status: str, reason: str, code: int) -> Tally:
        """The tally of exchanges that end so; `code` is the status code of the answer."""
        label = ExchangeLabel(route, status, reason, _class_of(code))
        found = self.exchanges.get(label)
        if found is None:
            if len(self.exchanges) >= MAX_LABELS:
                label = ExchangeLabel(OTHER, status, OTHER, label.code_class)
            found = self.exchanges.setdefault(label, Tally())
        return found

    def answered(self, route: str, code: int, took_s: float) -> None:
        """The head of the origin's answer was there `took_s` after it was to be asked."""
        self._fetched(route, "304" if code == 304 else _class_of(code), took_s)

    def failed(self, route: str, error: OriginError, took_s: float) -> None:
        """There was no usable answer of the origin's."""
        self._fetched(route, error.reason, took_s)

    def _fetched(self, route: str, result: str, took_s: float) -> None:
        label = FetchLabel(route, result)
        found = self.fetches.get(label)
        if found is None:
            if len(self.fetches) >= MAX_LABELS:
                label = FetchLabel(OTHER, result)
            found = self.fetches.setdefault(label, Durations())
        found.add(took_s)


_CLASSES = {number: f"{number}xx" for number in range(1, 6)}


def _class_of(code: int) -> str:
    return _CLASSES.get(code // 100, "-")
