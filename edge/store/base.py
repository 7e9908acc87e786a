"""Where stored responses are kept: what the gateway may expect of any store."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from edge.core.key import CacheKey
from edge.core.stored import StoredResponse

MAX_VARIANTS = 8
"""Variants under one key; beyond it the oldest goes. A key with more is a policy whose `vary` is too wide."""


class Evicted(StrEnum):
    """Why a response went that no newer one replaced."""

    ROOM = "room"
    """It was still of use, but others needed the room."""
    EXPIRED = "expired"
    """No request could use it any more: past its `keep_until`."""
    PURGED = "purged"
    """The same: below a hard floor, with no validator."""
    VARIANTS = "variants"
    """Its key had too many variants."""
    DROPPED = "dropped"
    """A write made its key unusable, or the origin's answer did."""
    CLEARED = "cleared"
    """The worker no longer trusted anything in its store."""


@dataclass(frozen=True, slots=True)
class StoreStats:
    """What a store holds now, and what has happened to it since it was made."""

    keys: int
    responses: int
    size_bytes: int
    max_bytes: int
    evicted: int
    """Responses that had to make room though they were still of use."""
    swept: int
    """Responses removed because no request could use them any more: purged, or past their end."""
    refused: int
    """Responses not taken: larger than the whole store, or older than what is there."""


class Place(Protocol):
    """Where a store has the variants under one key."""

    used: bool
    """Set by whoever answers from it, as a look-up does."""

    @property
    def gone(self) -> bool:
        """Whether it is no longer in the store; then it has no `value`."""

    @property
    def value(self) -> tuple[StoredResponse, ...]:
        """One at least, the newest first."""


class Store(Protocol):
    """Stored responses by key. No method waits, so that checking the floors and using what they allow is one step."""

    def get(self, key: CacheKey) -> tuple[StoredResponse, ...]:
        """The variants under `key`, the newest first; empty when there is none. Whether they are of use is for
        `decide_reuse` to say."""
        ...

    def place(self, key: CacheKey) -> Place | None:
        """Where the variants under `key` are, until it is `gone`: for whoever asks for them again and again."""
        ...

    def put(self, stored: StoredResponse) -> bool:
        """Keep `stored` in place of the same variant. False, and nothing is changed, when it is not taken: rule 1
        never replaces a response by one of lower position."""
        ...

    def grown(self, stored: StoredResponse) -> bool:
        """`stored` has got its coded copy: count it, and make room for it. False, and nothing is counted, when it is
        too large with it; true as well when it is not here any more."""
        ...

    def drop(self, key: CacheKey) -> int:
        """Forget every variant under `key`; how many there were."""
        ...

    def stats(self) -> StoreStats: ...


class Claim(Protocol):
    """One worker's part in a flight of its site: it either flies, or waits for the worker that does."""

    @property
    def mine(self) -> bool:
        """Whether this worker is to ask the origin. Also where the tier cannot say: then every worker asks."""
        ...

    async def landed(self, wait_s: float) -> bool:
        """Wait until the worker that flies has put its answer into the tier, or has given up. False: `wait_s` passed,
        or the tier died."""
        ...

    def release(self) -> None:
        """The flight of a claim that is `mine` has ended; whoever waits is woken. Never waits."""
        ...


class Tier(Protocol):
    """A store that the workers of one site share, off the path of a hit: asked by flights alone.

    It may die or forget at any time, which costs misses and nothing else: no method raises, and each wait is bounded.
    What it gives is held against this worker's floors like everything else, and it is not asked past the lease
    (docs/freshness.md, rule 5).
    """

    async def find(self, key: CacheKey, policy_version: str) -> tuple[StoredResponse, ...]:
        """The variants under `key` that were stored under this version of its policy, the newest first."""
        ...

    def keep(self, stored: StoredResponse) -> None:
        """Keep `stored` until its `keep_until`; in the background."""
        ...

    def drop(self, key: CacheKey) -> None:
        """Forget every variant under `key`; in the background."""
        ...

    async def claim(self, variant: bytes, for_s: float) -> Claim:
        """Take part in the flight called `variant`; whoever claims it first flies, for `for_s` seconds at the most."""
        ...
