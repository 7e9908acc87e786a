"""How often one client may ask: a token bucket in its smallest form, one moment for each client (GCRA, ITU-T I.371).

The moment is when the client will have been quiet long enough for its bucket to be full. Asking moves it on by the time
that one request is worth; it may lie ahead of now by what the burst is worth, and no further.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from math import ceil

from edge.core.policy import Throttle

MAX_CLIENTS = 100_000
"""Clients remembered by a worker, some 250 bytes each; one more, and the one that has not asked for longest goes."""
_TIDIED_PER_REQUEST = 2
"""Full buckets at the old end of the list forgotten with each request: more than can be added."""
_ROUNDING_S = 1e-6
"""Sums of fractions of a second must not refuse who came exactly in time."""


def admit(full_at: float, throttle: Throttle, now: float) -> tuple[float, float]:
    """Whether a client whose bucket will be full at `full_at` may ask at `now`: when it will be full then, and how
    many seconds the client has to wait first. Zero: it may ask; else nothing changed."""
    worth_s = 1.0 / throttle.rate_per_s
    wait_s = max(full_at, now) - now - (throttle.burst - 1) * worth_s
    if wait_s > _ROUNDING_S:
        return full_at, wait_s
    return max(full_at, now) + worth_s, 0.0


def retry_after_s(wait_s: float) -> int:
    """Whole seconds for Retry-After, never so few that asking then is too early."""
    return max(1, ceil(wait_s))


class Throttles:
    """What one worker remembers of its clients, by any hashable name: at most `max_clients`. Changes when asked."""

    __slots__ = ("_full_at", "_max_clients")

    def __init__(self, max_clients: int = MAX_CLIENTS) -> None:
        self._full_at: OrderedDict[Hashable, float] = OrderedDict()
        """In the order of their last request."""
        self._max_clients = max_clients

    def __len__(self) -> int:
        return len(self._full_at)

    def wait_s(self, client: Hashable, throttle: Throttle, now: float) -> float:
        """Seconds that `client` has to wait at `now`; zero: this request may pass, and is counted."""
        known = self._full_at
        full_at, wait_s = admit(known.pop(client, now), throttle, now)
        self._tidy(now)
        known[client] = full_at
        return wait_s

    def _tidy(self, now: float) -> None:
        """Forget full buckets, which say no more than none, and make room for one more."""
        known = self._full_at
        for _ in range(_TIDIED_PER_REQUEST):
            if not known:
                return
            client = next(iter(known))
            if known[client] > now and len(known) < self._max_clients:
                return
            del known[client]
