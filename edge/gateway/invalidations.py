"""What a write through this worker makes unusable, here and at the workers of its site (RFC 9111 §4.4, RFC 9875).

By key, apart from the purge log and its floors: stored responses go, and nobody joins a flight for the same key that
was sent before. What it finds is `edge/core/invalidation.py`'s business.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from edge.core.http import Headers, Request
from edge.core.invalidation import invalidated_keys, invalidated_tags
from edge.core.key import CacheKey
from edge.core.policy import PolicySet
from edge.core.stored import StoredResponse
from edge.gateway.flights import Flights
from edge.gateway.regional import Regional
from edge.store.base import Store

MAX_WRITES = 10_000
"""Keys remembered with their last write; beyond it the oldest are forgotten."""

PurgeTags = Callable[[tuple[str, ...]], Awaitable[None]]
"""Enters a purge into the site's own log, and waits a moment until its workers have applied it. Never raises."""


class Writes:
    """When writes made keys unusable: what is older than the write that this worker knows of is of no use, whoever
    brings it, and however late. `clock` gives seconds of the edge's clock."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._last: dict[CacheKey, float] = {}

    def note(self, key: CacheKey) -> None:
        self._last.pop(key, None)
        self._last[key] = self._clock()
        if len(self._last) > MAX_WRITES:
            del self._last[next(iter(self._last))]

    def overtook(self, stored: StoredResponse) -> bool:
        """Whether `stored`, which another worker asked for, may be from before the last write under its key: its age
        is counted from when it was asked for, at the latest (RFC 9111 §4.2.3)."""
        written_at = self._last.get(stored.key)
        return written_at is not None and stored.stored_at - stored.initial_age_s <= written_at


class Invalidations:
    """One worker's. `writes` hears of each; `tell` says to the other workers on this machine that a key is to be
    forgotten; it never waits.

    `scheme`: by which viewers speak to this edge. `purge_tags` None: the purge log is the origin's, which purges for
    itself.
    """

    def __init__(
        self,
        store: Store,
        flights: Flights,
        writes: Writes,
        *,
        tell: Callable[[CacheKey], None],
        scheme: str = "http",
        regional: Regional | None = None,
        purge_tags: PurgeTags | None = None,
    ) -> None:
        self._store = store
        self._flights = flights
        self._writes = writes
        self._tell = tell
        self._regional = regional
        self._purge_tags = purge_tags
        self._scheme = scheme

    async def after(self, request: Request, status: int, headers: Headers, policies: PolicySet) -> None:
        """Forget what the origin's answer to `request` makes unusable; to be awaited before the answer goes out."""
        for key in invalidated_keys(request, status, headers, policies, self._scheme):
            self.forget(key)
            self._tell(key)
            if self._regional is not None:
                self._regional.drop(key)
        if self._purge_tags is not None:
            tags = invalidated_tags(request, status, headers)
            if tags:
                await self._purge_tags(tags)

    def forget(self, key: CacheKey) -> None:
        """Forget `key` in this process: also what a sibling asks for."""
        self._writes.note(key)
        self._store.drop(key)
        self._flights.invalidate(key)
