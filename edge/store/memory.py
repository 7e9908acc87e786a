"""The store of one worker: in memory, bounded by bytes, forgetting first what nobody can use."""

from __future__ import annotations

from collections.abc import Callable

from edge.core.floors import Floors, Verdict
from edge.core.key import CacheKey
from edge.core.stored import StoredResponse
from edge.durations import AGE_BOUNDS_S, Durations
from edge.store.base import MAX_VARIANTS, Evicted, Place, StoreStats
from edge.store.s3fifo import S3Fifo
from edge.store.untracked import untrack

LOOKED_AT = 8
"""Keys looked at for one that is dead, before one that is alive must go: others each time, round and round."""

SWEPT_AT_ONCE = 50
"""Keys looked at in one sweep: a quarter of a millisecond when all of them go."""

Variants = tuple[StoredResponse, ...]


class MemoryStore:
    """What was not asked for goes first (`S3Fifo`), but a dead one of those looked at goes before any that is alive.

    Dead is what no request can use any more: past its `keep_until`, or below a hard floor with nothing left to
    validate by. `clock` gives moments of the edge's clock; `floors` are the worker's own.
    """

    def __init__(self, max_bytes: int, floors: Floors, clock: Callable[[], float]) -> None:
        self._entries = _Entries(max_bytes, self._why_dead, clock)
        self._floors = floors
        self._clock = clock
        self._by_key = self._entries.entries
        self._refused = 0

    def get(self, key: CacheKey) -> Variants:
        """The variants under `key`, the newest first; a look-up that finds some counts as a use."""
        entry = self._by_key.get(key)
        if entry is None:
            return ()
        entry.used = True
        return entry.value

    def place(self, key: CacheKey) -> Place | None:
        return self._by_key.get(key)

    def peek(self, key: CacheKey) -> Variants:
        """The same without counting as a use."""
        return self._entries.peek(key) or ()

    def keys(self) -> list[CacheKey]:
        """Every key that is there now, for whoever looks through the whole store."""
        return list(self._entries)

    def __len__(self) -> int:
        """How many keys there are."""
        return len(self._entries)

    def __bool__(self) -> bool:
        """Never empty: a store with nothing in it is one all the same."""
        return True

    def put(self, stored: StoredResponse) -> bool:
        """Keep `stored` in place of the same variant, unless that one has a higher position (rule 1) or `stored` alone
        is larger than the store."""
        others: list[StoredResponse] = []
        for variant in self.peek(stored.key):
            if variant.vary != stored.vary:
                others.append(variant)
            elif variant.position > stored.position:
                self._refused += 1
                return False
        variants = (stored, *others)[:MAX_VARIANTS]
        surplus = 1 + len(others) - len(variants)
        crowded = 0
        while len(variants) > 1 and _size_of(variants) > self._entries.maxsize:
            variants = variants[:-1]
            crowded += 1
        try:
            self._entries[stored.key] = variants
        except ValueError:
            self._refused += 1
            return False
        self.evictions[Evicted.VARIANTS] += surplus
        self.evictions[Evicted.ROOM] += crowded
        return True

    def grown(self, stored: StoredResponse) -> bool:
        """Count `stored` anew, after its coded copy was made; others make room. False: larger than the whole store."""
        variants = self.peek(stored.key)
        if not any(variant is stored for variant in variants):
            return True
        try:
            self._entries[stored.key] = variants
        except ValueError:
            return False
        return True

    def drop(self, key: CacheKey) -> int:
        variants = self.peek(key)
        if variants:
            del self._entries[key]
            self.evictions[Evicted.DROPPED] += len(variants)
        return len(variants)

    def clear(self) -> None:
        """Forget everything: a worker that no longer trusts what it has applied."""
        self.evictions[Evicted.CLEARED] += self._entries.responses
        self._entries.clear()

    def sweep(self, limit: int = SWEPT_AT_ONCE) -> int:
        """Look at the next `limit` keys for what is dead and forget it; how many responses went.

        To be called now and then between requests: about a microsecond a key, and a purge then gives its memory back
        without anybody having asked for what it purged (rule 9).
        """
        went = 0
        for key, variants in self._entries.patrol(limit):
            whys = [self._why_dead(variant) for variant in variants]
            alive = tuple([variant for variant, why in zip(variants, whys, strict=True) if why is None])
            if len(alive) == len(variants):
                for variant in variants:
                    # What hits added since it was put.
                    for held in (variant.received, variant.coded, *(variant.coded or {}).values()):
                        untrack(held)
                continue
            went += len(variants) - len(alive)
            for why in whys:
                if why is not None:
                    self.evictions[why] += 1
            if alive:
                self._entries[key] = alive
            else:
                del self._entries[key]
        return went

    def stats(self) -> StoreStats:
        return StoreStats(
            keys=len(self._entries),
            responses=self._entries.responses,
            size_bytes=int(self._entries.currsize),
            max_bytes=int(self._entries.maxsize),
            evicted=self.evictions[Evicted.ROOM],
            swept=self.evictions[Evicted.EXPIRED] + self.evictions[Evicted.PURGED],
            refused=self._refused,
        )

    @property
    def evictions(self) -> dict[Evicted, int]:
        """Responses that went, by why, since the store was made."""
        return self._entries.evictions

    @property
    def evicted_ages(self) -> Durations:
        """How long those had been in the store that had to make room for others."""
        return self._entries.evicted_ages

    def _why_dead(self, stored: StoredResponse) -> Evicted | None:
        """Why no request can use it any more; None: one still can."""
        if self._clock() >= stored.keep_until:
            return Evicted.EXPIRED
        if stored.judged_at == self._floors.sequence or stored.etag is not None:
            # A purged body with a validator may turn out unchanged: one 304 instead of a whole answer.
            return None
        return Evicted.PURGED if self._floors.judge(stored) is Verdict.PURGED else None


class _Entries(S3Fifo[CacheKey, Variants]):
    """Variants by key. Counts them, and what went, and forgets a dead key before one that is alive."""

    def __init__(
        self, max_bytes: int, why_dead: Callable[[StoredResponse], Evicted | None], clock: Callable[[], float]
    ) -> None:
        super().__init__(max_bytes, getsizeof=_size_of)
        self._why_dead = why_dead
        self._clock = clock
        self.responses = 0
        self.evictions = dict.fromkeys(Evicted, 0)
        self.evicted_ages = Durations(AGE_BOUNDS_S)

    def __setitem__(self, key: CacheKey, variants: Variants) -> None:
        super().__setitem__(key, variants)
        self.responses += len(variants)
        # The dictionary as well: it is tracked anew with everything that it gets.
        for held in (self.entries, self.entries[key], key, variants):
            untrack(held)
        for stored in variants:
            untrack(stored)
            untrack(stored.key)
            untrack(stored.headers)

    def __delitem__(self, key: CacheKey) -> None:
        self.responses -= len(self.peek(key) or ())
        super().__delitem__(key)

    def popitem(self) -> tuple[CacheKey, Variants]:
        for key, variants in self.patrol(LOOKED_AT):
            whys: list[Evicted] = []
            for variant in variants:
                why = self._why_dead(variant)
                if why is None:
                    break
                whys.append(why)
            else:
                for why in whys:
                    self.evictions[why] += 1
                del self[key]
                return key, variants
        key, variants = super().popitem()
        self.evictions[Evicted.ROOM] += len(variants)
        now = self._clock()
        for variant in variants:
            self.evicted_ages.add(now - variant.stored_at)
        return key, variants

    def clear(self) -> None:
        super().clear()
        self.responses = 0


def _size_of(variants: Variants) -> int:
    return sum([variant.size for variant in variants])
