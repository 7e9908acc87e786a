"""The store of one worker: in memory, bounded by bytes, forgetting first what nobody can use."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from itertools import islice

import cachetools

from edge.core.floors import Floors, Verdict
from edge.core.key import CacheKey
from edge.core.stored import StoredResponse
from edge.store.base import MAX_VARIANTS, StoreStats

LOOKED_AT = 16
"""How many of the least recently used keys are looked at for one that is dead, before one that is alive must go."""

Variants = tuple[StoredResponse, ...]


class MemoryStore:
    """Least recently used goes first, but a dead one among the oldest goes before any that is alive.

    Dead is what no request can use any more: past its `keep_until`, or below a hard floor with nothing left to
    validate by. `clock` gives moments of the edge's clock; `floors` are the worker's own.
    """

    def __init__(self, max_bytes: int, floors: Floors, clock: Callable[[], float]) -> None:
        self._entries = _Entries(max_bytes, self._is_dead)
        self._floors = floors
        self._clock = clock
        self._refused = 0
        self._to_sweep: list[CacheKey] = []

    def get(self, key: CacheKey) -> Variants:
        """The variants under `key`, the newest first; a look-up that finds some counts as a use."""
        try:
            return self._entries[key]
        except KeyError:
            return ()

    def peek(self, key: CacheKey) -> Variants:
        """The same without counting as a use."""
        return self._entries.peek(key)

    def keys(self) -> list[CacheKey]:
        """Every key that is there now, for whoever looks through the whole store."""
        return list(self._entries)

    def put(self, stored: StoredResponse) -> bool:
        """Keep `stored` in place of the same variant, unless that one has a higher position (rule 1) or `stored` alone
        is larger than the store."""
        others: list[StoredResponse] = []
        for variant in self._entries.peek(stored.key):
            if variant.vary != stored.vary:
                others.append(variant)
            elif variant.position > stored.position:
                self._refused += 1
                return False
        variants = (stored, *others)[:MAX_VARIANTS]
        while len(variants) > 1 and _size_of(variants) > self._entries.maxsize:
            variants = variants[:-1]
        try:
            self._entries[stored.key] = variants
        except ValueError:
            self._refused += 1
            return False
        return True

    def grown(self, stored: StoredResponse) -> bool:
        """Count `stored` anew, after its coded copy was made; others make room. False: larger than the whole store."""
        variants = self._entries.peek(stored.key)
        if not any(variant is stored for variant in variants):
            return True
        try:
            self._entries[stored.key] = variants
        except ValueError:
            return False
        return True

    def drop(self, key: CacheKey) -> int:
        variants = self._entries.peek(key)
        if variants:
            del self._entries[key]
        return len(variants)

    def clear(self) -> None:
        """Forget everything: a worker that no longer trusts what it has applied."""
        self._entries.clear()
        self._to_sweep.clear()

    def sweep(self, limit: int = 200) -> int:
        """Look at the next `limit` keys for what is dead and forget it; how many responses went.

        To be called now and then between requests: about a microsecond a key, and a purge then gives its memory back
        without anybody having asked for what it purged (rule 9).
        """
        if not self._to_sweep:
            self._to_sweep = list(self._entries)
        went = 0
        for _ in range(min(limit, len(self._to_sweep))):
            key = self._to_sweep.pop()
            variants = self._entries.peek(key)
            alive = tuple([variant for variant in variants if not self._is_dead(variant)])
            if len(alive) == len(variants):
                continue
            went += len(variants) - len(alive)
            self._entries.replace(key, alive)
        self._entries.swept += went
        return went

    def stats(self) -> StoreStats:
        return StoreStats(
            keys=len(self._entries),
            responses=self._entries.responses,
            size_bytes=int(self._entries.currsize),
            max_bytes=int(self._entries.maxsize),
            evicted=self._entries.evicted,
            swept=self._entries.swept,
            refused=self._refused,
        )

    def _is_dead(self, stored: StoredResponse) -> bool:
        if self._clock() >= stored.keep_until:
            return True
        if stored.judged_at == self._floors.sequence or stored.etag is not None:
            # A purged body with a validator may turn out unchanged: one 304 instead of a whole answer.
            return False
        return self._floors.judge(stored) is Verdict.PURGED


class _Entries(cachetools.Cache[CacheKey, Variants]):
    """Variants by key, in the order of their last use; says which to forget when room is needed."""

    def __init__(self, max_bytes: int, is_dead: Callable[[StoredResponse], bool]) -> None:
        super().__init__(max_bytes, getsizeof=_size_of)
        self._order: OrderedDict[CacheKey, None] = OrderedDict()
        self._is_dead = is_dead
        self.responses = 0
        self.evicted = 0
        self.swept = 0

    def __getitem__(self, key: CacheKey) -> Variants:
        variants = cachetools.Cache.__getitem__(self, key)
        self._order.move_to_end(key)
        return variants

    def peek(self, key: CacheKey) -> Variants:
        return cachetools.Cache.__getitem__(self, key) if key in self._order else ()

    def __setitem__(self, key: CacheKey, variants: Variants) -> None:
        if _size_of(variants) > self.maxsize:
            raise ValueError("larger than the whole store")
        if key in self._order:
            # Out first: making room could otherwise choose the very entry that is being replaced.
            del self[key]
        cachetools.Cache.__setitem__(self, key, variants)
        for variant in variants:
            variant.held = True
        self._order[key] = None
        self.responses += len(variants)

    def __delitem__(self, key: CacheKey) -> None:
        variants = self.peek(key)
        self.responses -= len(variants)
        for variant in variants:
            variant.held = False
        cachetools.Cache.__delitem__(self, key)
        del self._order[key]

    def replace(self, key: CacheKey, variants: Variants) -> None:
        """Other variants under a key that is there, its place in the order unchanged; none: the key goes."""
        if not variants:
            del self[key]
            return
        before = self.peek(key)
        for variant in before:
            variant.held = False
        cachetools.Cache.__setitem__(self, key, variants)
        for variant in variants:
            variant.held = True
        self.responses += len(variants) - len(before)

    def popitem(self) -> tuple[CacheKey, Variants]:
        """Forget one key: of the least recently used ones a dead one if there is any, else the least recently used."""
        if not self._order:
            raise KeyError("the store is empty")
        for key in list(islice(self._order, LOOKED_AT)):
            variants = self.peek(key)
            if any([variant.used for variant in variants]):
                # Answered with since it was last looked at: a use that did not pass through here.
                for variant in variants:
                    variant.used = False
                self._order.move_to_end(key)
                continue
            if all(self._is_dead(variant) for variant in variants):
                self.swept += len(variants)
                break
        else:
            key = next(iter(self._order))
            variants = self.peek(key)
            self.evicted += len(variants)
        del self[key]
        return key, variants

    def clear(self) -> None:
        for key in self._order:
            for variant in self.peek(key):
                variant.held = False
        cachetools.Cache.clear(self)
        self._order.clear()
        self.responses = 0


def _size_of(variants: Variants) -> int:
    return sum([variant.size for variant in variants])
