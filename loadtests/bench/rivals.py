"""Eviction policies to compare the product's with, each as simple as its paper: one place for each key."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from typing import Protocol

import cachetools


class Policy(Protocol):
    def ask(self, key: Hashable) -> bool:
        """Whether `key` is there; when it is not, it is from now on."""
        ...


class OfCachetools:
    """Any `cachetools.Cache`."""

    def __init__(self, cache: cachetools.Cache[Hashable, bool]) -> None:
        self._cache = cache

    def ask(self, key: Hashable) -> bool:
        try:
            return self._cache[key]
        except KeyError:
            self._cache[key] = True
            return False


class Sieve:
    """SIEVE (Zhang et al., NSDI 2024): a queue that a hand goes through, sparing once what was asked for.

    What the hand has passed and what lies before it are two queues here; they change places when it is through.
    """

    def __init__(self, room: int) -> None:
        self._room = room
        self._used: dict[Hashable, bool] = {}
        self._before: deque[Hashable] = deque()
        self._passed: deque[Hashable] = deque()

    def ask(self, key: Hashable) -> bool:
        if key in self._used:
            self._used[key] = True
            return True
        if len(self._used) >= self._room:
            self._evict()
        self._used[key] = False
        self._before.append(key)
        return False

    def _evict(self) -> None:
        while True:
            if not self._before:
                self._before, self._passed = self._passed, self._before
            key = self._before.popleft()
            if not self._used[key]:
                del self._used[key]
                return
            self._used[key] = False
            self._passed.append(key)


Maker = Callable[[int], Policy]
RIVALS: dict[str, Maker] = {
    "LRU": lambda room: OfCachetools(cachetools.LRUCache(room)),
    "LFU": lambda room: OfCachetools(cachetools.LFUCache(room)),
    "SIEVE": Sieve,
}
