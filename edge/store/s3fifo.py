"""Which key goes when room is needed: S3-FIFO (Yang et al., SOSP 2023), with one bit a key.

Three FIFO queues. A new key waits in the small one, a tenth of the room; asked for while it is there, it moves on to
the main one, else it goes, and only its hash is remembered for a while: a key that comes back then was worth keeping
and joins the main queue at once. In the main queue a key that was asked for goes round once more. So a crawl through
keys that nobody asks for again passes through a tenth of the room, and the rest does not notice it
(edge/decisions/0007-scan-resistance.md has what was measured beside LRU, LFU and SIEVE).

A hit writes one bit and moves nothing.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

import cachetools

K = TypeVar("K")
V = TypeVar("V")

SMALL_SHARE = 0.1
"""Of the room, for keys that have not proved themselves."""
REACH = 500
"""Keys looked at for one eviction, at the most: where all were asked for, any is as good as any other."""
FIRST_GHOSTS = 256


class _Link:
    """A place in a ring."""

    __slots__ = ("newer", "older")

    older: _Link
    newer: _Link


class Entry(_Link, Generic[K, V]):
    """One key with its value. `used` is all that a hit writes. Whoever keeps one looks whether it is `gone`."""

    __slots__ = ("gone", "key", "queue", "size", "used", "value")

    def __init__(self, key: K, value: V, size: float) -> None:
        self.key = key
        self.value = value
        self.size = size
        self.used = False
        self.gone = False
        self.queue: _Queue


class _Queue(_Link):
    """Entries in the order in which they came: the ring's `newer` is the oldest one, its `older` the newest."""

    __slots__ = ("size",)

    def __init__(self) -> None:
        self.older = self.newer = self
        self.size = 0.0

    def append(self, entry: Entry[K, V]) -> None:
        entry.queue, entry.newer, entry.older = self, self, self.older
        self.older.newer = entry
        self.older = entry
        self.size += entry.size

    @property
    def oldest(self) -> _Link | None:
        return None if self.newer is self else self.newer


class S3Fifo(cachetools.Cache[K, V]):
    """A cache bounded by the sizes of its values (`getsizeof`), in the way of `cachetools`.

    Its data is in `entries`, not in the dictionaries of the base: a key then costs one place in one dictionary.
    """

    def __init__(self, maxsize: float, getsizeof: Callable[[V], float] | None = None) -> None:
        super().__init__(maxsize, getsizeof)
        self.entries: dict[K, Entry[K, V]] = {}
        """For who looks up without a call in between: whoever takes a value sets its entry's `used`."""
        self._small, self._main = _Queue(), _Queue()
        self._ghosts = array("q", bytes(8 * FIRST_GHOSTS))
        """Hashes of keys that went unasked for, each at a place of its own choice, over whichever was there."""
        self._patrolled: _Link = self._small

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} keys, maxsize={self.maxsize}, currsize={self.currsize})"

    @property
    def currsize(self) -> float:
        return self._small.size + self._main.size

    def __getitem__(self, key: K) -> V:
        entry = self.entries.get(key)
        if entry is None:
            return self.__missing__(key)
        entry.used = True
        return entry.value

    def peek(self, key: K) -> V | None:
        """The value, without counting as a use; None when there is none."""
        entry = self.entries.get(key)
        return None if entry is None else entry.value

    def __setitem__(self, key: K, value: V) -> None:
        """Raises ValueError, and nothing is changed, when the value is larger than all the room."""
        size = self.getsizeof(value)
        if size > self.maxsize:
            raise ValueError("larger than the whole cache")
        new, before = Entry(key, value, size), self.entries.get(key)
        if before is None:
            queue = self._main if self._came_back(key) else self._small
        else:
            # Out first: making room could otherwise choose the very entry that is being replaced.
            queue, new.used = before.queue, before.used
            del self[key]
        while self.currsize + size > self.maxsize:
            self.popitem()
        self.entries[key] = new
        queue.append(new)

    def __delitem__(self, key: K) -> None:
        self._end(self.entries.pop(key))

    def __contains__(self, key: object) -> bool:
        return key in self.entries

    def __iter__(self) -> Iterator[K]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def popitem(self) -> tuple[K, V]:
        """Forget the key that is worth least. Raises KeyError when there is none."""
        entry = self._worth_least()
        if entry.queue is self._small:
            self._remember(entry.key)
        value = entry.value
        del self[entry.key]
        return entry.key, value

    def __del__(self) -> None:
        # Whoever takes its entries out of the collector's sight would keep them for ever.
        self.clear()

    def clear(self) -> None:
        for queue in (self._small, self._main):
            # Link by link: what is left in a ring would wait for a collection.
            while (entry := queue.oldest) is not None:
                assert isinstance(entry, Entry)
                self._end(entry)
        self.entries.clear()

    def patrol(self, count: int) -> list[tuple[K, V]]:
        """The next `count` keys with their values, from where the last patrol ended, round and round."""
        found: list[tuple[K, V]] = []
        at = self._patrolled
        for _ in range(min(count, len(self.entries))):
            at = at.newer
            while not isinstance(at, Entry):
                at = (self._main if at is self._small else self._small).newer
            found.append((at.key, at.value))
        self._patrolled = at
        return found

    def _worth_least(self) -> Entry[K, V]:
        """Raises KeyError when there is none. On the way keys that were asked for get another round."""
        if not self.entries:
            raise KeyError("the cache is empty")
        room = self.maxsize * SMALL_SHARE
        for looked_at in range(1, REACH + 1):
            queue = self._small if self._small.size >= room or self._main.oldest is None else self._main
            entry = queue.oldest
            assert isinstance(entry, Entry)
            if not entry.used or looked_at == REACH:
                return entry
            entry.used = False
            self._take_out(entry)
            self._main.append(entry)
        raise AssertionError("one of them went")

    def _end(self, entry: Entry[K, V]) -> None:
        """It is in no queue any more, and holds nothing for whoever kept it."""
        self._take_out(entry)
        entry.gone = True
        del entry.value

    def _take_out(self, entry: Entry[K, V]) -> None:
        if self._patrolled is entry:
            self._patrolled = entry.older
        entry.older.newer, entry.newer.older = entry.newer, entry.older
        entry.queue.size -= entry.size
        # No way back into the ring: an entry is freed as soon as nobody uses it.
        entry.older = entry.newer = entry.queue

    def _remember(self, key: K) -> None:
        if len(self.entries) > 2 * len(self._ghosts):
            self._ghosts = array("q", bytes(16 * len(self._ghosts)))
        trace = _trace(key)
        self._ghosts[trace % len(self._ghosts)] = trace

    def _came_back(self, key: K) -> bool:
        trace = _trace(key)
        place = trace % len(self._ghosts)
        if self._ghosts[place] != trace:
            return False
        self._ghosts[place] = 0
        return True


def _trace(key: Hashable) -> int:
    """What is remembered of a key that went; 0 stands for none."""
    return hash(key) or 1
