"""What a worker has in its store, for an operator who looks: by key, by tag, by age.

There is no index to ask (docs/house.md, "Left out on purpose"), so the whole store is walked, in short runs between
which requests are answered, and for a few seconds at the most.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from cache_policies.tags import EVERYTHING
from edge.core.floors import Floors, Lease, Verdict
from edge.core.freshness import current_age
from edge.core.key import CacheKey, forward_target
from edge.core.reuse import Fresh, MustValidate, Stale, Why, standing
from edge.core.stored import StoredResponse

KEYS_PER_RUN = 100
"""Looked at in one go: some 0.3 ms."""
WALK_S = 3.0
MOST_TOLD = 1_000
STATES = ("fresh", "stale", "kept", "purged")


class Walked(Protocol):
    """The part of a store that is walked."""

    def keys(self) -> Sequence[CacheKey]: ...

    def peek(self, key: CacheKey) -> tuple[StoredResponse, ...]: ...


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which entries an operator wants to see; what is left empty leaves that part open."""

    key: str = ""
    """Part of host, path and query, as they are shown; of any case."""
    tag: str = ""
    """The whole tag."""
    older_s: float = 0.0
    """Aged so many seconds or more."""
    state: str = ""
    limit: int = 100


class Entries:
    """The entries of one worker. `version_of` gives the version of the policy that a key falls under now; `clock` and
    `wall` are edge.clock's two readings."""

    def __init__(
        self,
        store: Walked,
        floors: Floors,
        lease: Lease,
        version_of: Callable[[CacheKey], str],
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self._store = store
        self._floors = floors
        self._lease = lease
        self._version_of = version_of
        self._clock = clock
        self._wall = wall

    async def find(self, wanted: Wanted) -> dict[str, Any]:
        """The entries that `wanted` lets through, at most its `limit`, and how many there are of them in all.

        `complete` is false when the time was over before the whole store had been looked at.
        """
        part, matched, looked_at = wanted.key.lower(), 0, 0
        found: list[dict[str, Any]] = []
        until, keys = time.monotonic() + WALK_S, self._store.keys()
        for number, key in enumerate(keys, 1):
            if number % KEYS_PER_RUN == 0:
                await asyncio.sleep(0)
                if time.monotonic() > until:
                    break
            variants = self._store.peek(key)
            looked_at += 1
            if not variants or (part and part not in f"{key.authority}{forward_target(key)}".lower()):
                continue
            now = self._clock()
            for stored in variants:
                if wanted.tag and wanted.tag not in stored.tags and wanted.tag != EVERYTHING:
                    continue
                if wanted.older_s and current_age(stored, now) < wanted.older_s:
                    continue
                if wanted.state and self._state(stored, now)[0] != wanted.state:
                    continue
                matched += 1
                if len(found) < min(wanted.limit, MOST_TOLD):
                    found.append(self.told(stored, len(variants)))
        return {"entries": found, "matched": matched, "keys": len(keys), "complete": looked_at == len(keys)}

    async def carrying(self, tags: Sequence[str]) -> int | None:
        """How many stored responses a purge of `tags` applies to: they carry one of them, and are not purged already.

        None: the time was over before the whole store had been looked at.
        """
        wanted, everything, count = frozenset(tags), EVERYTHING in tags, 0
        until = time.monotonic() + WALK_S
        for number, key in enumerate(self._store.keys(), 1):
            if number % KEYS_PER_RUN == 0:
                await asyncio.sleep(0)
                if time.monotonic() > until:
                    return None
            for stored in self._store.peek(key):
                carries = everything or not wanted.isdisjoint(stored.tags)
                if carries and self._floors.judge(stored) is not Verdict.PURGED:
                    count += 1
        return count

    def told(self, stored: StoredResponse, variants: int) -> dict[str, Any]:
        """One entry as JSON."""
        now, key = self._clock(), stored.key
        state, why = self._state(stored, now)
        return {
            "authority": key.authority,
            "target": forward_target(key),
            "path": key.path,
            "query": [list(pair) for pair in key.query],
            "market": key.market,
            "vary": [list(pair) for pair in stored.vary],
            "variants": variants,
            "status": stored.status,
            "content_type": stored.headers.get("content-type"),
            "etag": stored.etag,
            "body_bytes": len(stored.body),
            "size_bytes": stored.size,
            "state": state,
            "why": why,
            "age_s": int(current_age(stored, now)),
            "ttl_s": int(stored.fresh_until - now),
            "stored_at": round(self._wall() - (now - stored.stored_at), 3),
            "tags": list(stored.tags),
            "position": str(stored.position),
            "hits": stored.hits,
        }

    def _state(self, stored: StoredResponse, now: float) -> tuple[str, str]:
        """What it is good for, and why it is no better: `kept` is what has to be validated first."""
        if self._floors.judge(stored) is Verdict.PURGED:
            return "purged", Why.PURGED_HARD.value
        if stored.policy_version != self._version_of(stored.key):
            return "purged", "policy-changed"
        match standing(stored, self._floors, self._lease, now):
            case Fresh():
                return "fresh", ""
            case Stale(why=why):
                return "stale", why.value
            case MustValidate(why=why):
                return "kept", why.value
