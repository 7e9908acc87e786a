"""S3-FIFO: who goes, who stays, and that it is a cache as cachetools means it."""

from __future__ import annotations

import gc
import weakref

import cachetools
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from edge.store.s3fifo import FIRST_GHOSTS, REACH, Entry, S3Fifo


def filled(count: int, *, room: int = 0) -> S3Fifo[int, str]:
    cache: S3Fifo[int, str] = S3Fifo(room or count)
    for key in range(count):
        cache[key] = f"value {key}"
    return cache


def test_a_key_that_nobody_asked_for_goes_before_one_that_somebody_did():
    cache = filled(10)
    assert cache[0] == "value 0"
    cache[10] = "new"
    assert 0 in cache
    assert 1 not in cache


def test_looking_without_asking_changes_nothing():
    cache = filled(10)
    assert cache.peek(0) == "value 0"
    assert cache.peek(99) is None
    assert 1 in cache
    cache[10] = "new"
    assert 0 not in cache


def test_a_scan_of_any_length_passes_through_a_tenth():
    cache = filled(100)
    for key in range(90):
        assert cache[key]
    for key in range(1_000, 20_000):
        cache[key] = "scanned"
    assert all(key in cache for key in range(90))
    assert len(cache) == 100


def test_a_key_that_comes_back_soon_is_kept_at_once():
    cache = filled(100)
    for key in range(90):
        assert cache[key]
    cache[1_000] = "once"
    for key in range(5_000, 5_050):
        cache[key] = "scanned"
    assert 1_000 not in cache
    cache[1_000] = "again"
    for key in range(3_000, 3_050):
        cache[key] = "scanned"
    assert 1_000 in cache


def test_what_was_hot_once_goes_when_it_is_asked_for_no_more():
    cache = filled(100)
    for key in range(100):
        assert cache[key]
    for _ in range(3):
        for key in range(200, 300):
            try:
                assert cache[key]
            except KeyError:
                cache[key] = "new"
    assert sum(key in cache for key in range(200, 300)) > 60


def test_where_all_were_asked_for_one_eviction_looks_at_a_bounded_number():
    cache = filled(3 * REACH)
    for key in cache:
        assert cache[key]
    cache[-1] = "new"
    assert len(cache) == 3 * REACH
    assert sum(entry.used for entry in cache.entries.values()) == 2 * REACH


def test_replacing_makes_room_among_others_and_keeps_what_is_known_of_the_key():
    cache: S3Fifo[str, bytes] = S3Fifo(10, getsizeof=len)
    cache["a"], cache["b"], cache["c"] = b"xxx", b"xxx", b"xxx"
    assert cache["a"]
    cache["a"] = b"xxxxxx"
    assert (cache.peek("a"), cache.currsize) == (b"xxxxxx", 9)
    assert cache.entries["a"].used
    assert "b" not in cache


def test_what_is_larger_than_all_the_room_is_refused_and_nothing_changes():
    cache: S3Fifo[str, bytes] = S3Fifo(10, getsizeof=len)
    cache["a"] = b"xxx"
    for key in ("a", "b"):
        with pytest.raises(ValueError, match="larger than the whole cache"):
            cache[key] = b"x" * 11
    assert dict(cache.items()) == {"a": b"xxx"}


def test_more_is_remembered_of_what_went_where_there_are_more_keys():
    cache = filled(10 * FIRST_GHOSTS)
    for key in range(-1, -6 * FIRST_GHOSTS, -1):
        cache[key] = "scanned"
    assert len(cache._ghosts) >= 4 * FIRST_GHOSTS


def test_it_is_a_cache_as_cachetools_means_it():
    @cachetools.cached(cache := S3Fifo[tuple[int], int](2))
    def double(number: int) -> int:
        calls.append(number)
        return 2 * number

    calls: list[int] = []
    assert [double(1), double(1), double(2), double(3), double(1)] == [2, 2, 4, 6, 2]
    assert calls == [1, 2, 3]
    assert (cache.maxsize, cache.currsize, len(cache)) == (2, 2, 2)
    assert isinstance(cache, cachetools.Cache)
    with pytest.raises(KeyError):
        S3Fifo[int, int](1).popitem()
    with pytest.raises(KeyError):
        del cache[(99,)]
    assert cache.get((99,)) is None
    assert cache.pop((1,)) == 2
    cache.clear()
    assert (len(cache), cache.currsize) == (0, 0)


class Value:
    pass


@pytest.mark.parametrize("end", ["popitem", "delete", "replace", "clear"])
def test_what_goes_is_freed_without_a_collection(end):
    cache: S3Fifo[int, Value] = S3Fifo(3)
    gc.disable()
    try:
        cache[0] = Value()
        seen = weakref.ref(cache.peek(0))
        entry = weakref.finalize(cache.entries[0].value, lambda: None)
        {
            "popitem": cache.popitem,
            "delete": lambda: cache.pop(0),
            "replace": lambda: cache.__setitem__(0, Value()),
            "clear": cache.clear,
        }[end]()
        assert seen() is None
        assert not entry.alive
    finally:
        gc.enable()


def test_a_patrol_comes_by_every_key_again_and_again():
    cache = filled(10, room=20)
    for key in range(5):
        assert cache[key]
    seen = [key for _ in range(6) for key, _ in cache.patrol(5)]
    assert sorted(seen) == sorted([*range(10)] * 3)
    assert len(cache.patrol(1_000)) == 10
    assert S3Fifo[int, int](1).patrol(5) == []


class CacheUnderLoad(RuleBasedStateMachine):
    """Its room is never exceeded and its queues hold exactly its keys, whatever is done in whatever order."""

    def __init__(self) -> None:
        super().__init__()
        self.cache: S3Fifo[int, int] = S3Fifo(20, getsizeof=lambda value: value)

    @rule(key=st.integers(0, 12), size=st.integers(0, 21))
    def put(self, key, size):
        if size > 20:
            with pytest.raises(ValueError, match="larger"):
                self.cache[key] = size
        else:
            self.cache[key] = size
            assert self.cache.peek(key) == size

    @rule(key=st.integers(0, 12))
    def get(self, key):
        assert self.cache.get(key, -1) == (-1 if key not in self.cache else self.cache.peek(key))

    @rule(key=st.integers(0, 12))
    def delete(self, key):
        self.cache.pop(key, None)
        assert key not in self.cache

    @rule(count=st.integers(1, 5))
    def patrol(self, count):
        found = self.cache.patrol(count)
        assert len({key for key, _ in found}) == min(count, len(self.cache))
        for key, value in found[:1]:
            assert self.cache.pop(key) == value

    @rule()
    def pop(self):
        if self.cache:
            key, value = self.cache.popitem()
            assert key not in self.cache
            assert 0 <= value <= 20

    @rule()
    def clear(self):
        self.cache.clear()

    @invariant()
    def adds_up(self):
        queued = []
        for queue in (self.cache._small, self.cache._main):
            at, size = queue.newer, 0.0
            while at is not queue:
                assert isinstance(at, Entry)
                assert at.newer.older is at
                assert at.queue is queue
                queued.append(at.key)
                size += at.size
                at = at.newer
            assert queue.size == size
        assert sorted(queued) == sorted(self.cache)
        assert self.cache.currsize == sum(entry.value for entry in self.cache.entries.values()) <= 20


CacheUnderLoad.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestCacheUnderLoad = CacheUnderLoad.TestCase
