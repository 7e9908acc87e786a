"""The store of one worker: bounded by bytes, forgetting first what nobody can use, never going back (rule 1)."""

from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from cache_policies.positions import ORDERED_KINDS, Position
from edge.core.floors import Floors
from edge.core.key import CacheKey
from edge.core.stored import Form
from edge.store.base import MAX_VARIANTS, Evicted
from edge.store.memory import LOOKED_AT, MemoryStore
from tests.support.builders import KEY, stored

ROOM = stored().size


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def floors() -> Floors:
    return Floors()


@pytest.fixture
def store(floors, clock) -> MemoryStore:
    return MemoryStore(10 * ROOM, floors, clock)


def key(name: object) -> CacheKey:
    return KEY._replace(path=f"/eu-eur/products/{name}")


def page(name: object, **changes):
    return stored(key=key(name), **changes)


def test_what_was_put_is_found_and_nothing_else(store):
    response = stored()
    assert store.get(KEY) == ()
    assert store.put(response)
    assert store.get(KEY) == (response,)
    assert store.get(KEY._replace(authority="other.example")) == ()


def test_the_same_variant_is_replaced_and_others_live_beside_it_newest_first(store):
    german, english = stored(vary=(("accept-language", "de"),)), stored(vary=(("accept-language", "en"),))
    newer = replace(german, position=Position(1, 6))
    for response in (german, english, newer):
        assert store.put(response)
    assert store.get(KEY) == (newer, english)


@pytest.mark.parametrize(
    ("position", "taken"),
    [
        (Position(1, 4), False),
        (Position(1, 5), True),
        (Position(1, 6), True),
        (Position(0, 99), False),
        (Position(2, 0), True),
    ],
)
def test_a_response_never_gives_way_to_one_of_lower_position(store, position, taken):
    first = stored(position=Position(1, 5), body=b"first")
    second = stored(position=position, body=b"second")
    store.put(first)
    assert store.put(second) is taken
    assert store.get(KEY) == ((second,) if taken else (first,))
    assert store.stats().refused == (0 if taken else 1)


def test_another_variant_may_be_of_lower_position(store):
    store.put(stored(vary=(("a", "1"),), position=Position(1, 9)))
    assert store.put(stored(vary=(("a", "2"),), position=Position(1, 1)))


def test_variants_are_bounded(floors, clock):
    store = MemoryStore(100 * ROOM, floors, clock)
    for number in range(MAX_VARIANTS + 3):
        store.put(stored(vary=(("a", str(number)),)))
    assert [response.vary[0][1] for response in store.get(KEY)] == [str(n) for n in range(MAX_VARIANTS + 2, 2, -1)]
    assert store.stats().responses == MAX_VARIANTS


def test_what_was_not_asked_for_goes_first(store):
    for name in range(10):
        assert store.put(page(name))
    store.get(key(0))
    store.peek(key(1))
    store.put(page("new"))
    assert store.get(key(0))
    assert not store.get(key(1))
    assert store.stats().evicted == 1


def test_a_crawl_through_everything_leaves_what_is_asked_for(store):
    for name in range(10):
        store.put(page(name))
    for name in range(8):
        store.get(key(name))
    for name in range(10, 1_000):
        store.put(page(name))
    assert all(store.get(key(name)) for name in range(8))


def test_what_is_past_its_end_goes_before_what_is_not(store, clock):
    for name in range(10):
        store.put(page(name, keep_until=150.0 if name == 5 else 1_000.0))
    clock.now = 200.0
    store.put(page("new"))
    assert store.get(key(0))
    assert not store.get(key(5))
    assert (store.stats().evicted, store.stats().swept) == (0, 1)


def test_what_was_purged_and_cannot_be_validated_goes_before_what_was_not(store, floors):
    for name in range(10):
        store.put(page(name, tags=(f"t:{name}",), etag=None if name in {5, 7} else '"a"'))
    floors.raise_to(Position(1, 9), ("t:3", "t:5"))
    store.put(page("new"))
    assert store.get(key(3)), "its validator may still save a body"
    assert not store.get(key(5))


def test_looking_for_a_dead_one_is_bounded(floors, clock):
    store = MemoryStore(50 * ROOM, floors, clock)
    for name in range(50):
        store.put(page(name, keep_until=150.0 if name == LOOKED_AT else 1_000.0))
    clock.now = 200.0
    store.put(page("new"))
    assert store.get(key(LOOKED_AT))
    assert not store.get(key(0))


def test_a_response_larger_than_the_store_is_not_taken_and_costs_nothing(store):
    store.put(stored())
    assert not store.put(stored(body=b"x" * 20 * ROOM, position=Position(1, 9)))
    assert len(store.get(KEY)) == 1
    assert store.stats().refused == 1


def test_variants_that_together_are_too_large_leave_the_newest(floors, clock):
    store = MemoryStore(2 * ROOM, floors, clock)
    for number in range(4):
        assert store.put(stored(vary=(("a", str(number)),)))
    assert [response.vary[0][1] for response in store.get(KEY)] == ["3", "2"]


def test_replacing_in_a_full_store_throws_out_others_not_itself(floors, clock):
    store = MemoryStore(3 * ROOM, floors, clock)
    for name in range(3):
        store.put(page(name))
    assert store.put(page(0, body=b"x" * ROOM))
    assert store.get(key(0))[0].body == b"x" * ROOM
    assert store.stats().responses == store.stats().keys == 2


def test_drop_and_clear(store):
    store.put(stored(vary=(("a", "1"),)))
    store.put(stored(vary=(("a", "2"),)))
    assert store.drop(KEY) == 2
    assert store.drop(KEY) == 0
    store.put(stored())
    store.clear()
    assert store.get(KEY) == ()
    assert (store.stats().keys, store.stats().responses, store.stats().size_bytes) == (0, 0, 0)


def test_sweeping_gives_memory_back_a_piece_at_a_time(floors, clock):
    store = MemoryStore(1_000 * ROOM, floors, clock)
    for name in range(100):
        store.put(page(name, tags=("even" if name % 2 == 0 else "odd",), etag=None))
    floors.raise_to(Position(1, 9), ("even",))
    assert sum(store.sweep(limit=10) for _ in range(10)) == 50
    assert store.stats().swept == store.stats().keys == 50
    assert store.sweep(limit=1_000) == 0


def test_sweeping_takes_a_dead_variant_from_among_live_ones(store, clock):
    store.put(stored(vary=(("a", "1"),), keep_until=150.0))
    store.put(stored(vary=(("a", "2"),)))
    clock.now = 200.0
    assert store.sweep() == 1
    assert [response.vary for response in store.get(KEY)] == [(("a", "2"),)]


def test_sweeping_lives_with_keys_that_went_meanwhile(store, clock):
    for name in range(5):
        store.put(page(name))
    store.sweep(limit=1)
    for name in range(5):
        store.drop(key(name))
    assert store.sweep() == 0


def test_a_coded_copy_is_counted_and_others_make_room_for_it(floors, clock):
    store = MemoryStore(3 * ROOM, floors, clock)
    first, second, third = page("first"), page("second"), page("third")
    for response in (first, second, third):
        store.put(response)
    first.keep_form("gzip", Form("gzip", b"x" * 10))
    assert store.grown(first)
    assert (store.peek(key("first")), store.peek(key("second"))) == ((first,), ())
    assert store.stats().size_bytes == first.size + third.size == 2 * ROOM + 10
    store.drop(key("first"))
    assert store.stats().size_bytes == ROOM


def test_a_coded_copy_that_there_is_no_room_for_changes_nothing(floors, clock):
    store = MemoryStore(2 * ROOM, floors, clock)
    first, second = page("first"), page("second")
    store.put(first)
    store.put(second)
    first.keep_form("gzip", Form("gzip", b"x" * (ROOM + 1)))
    assert not store.grown(first)
    first.keep_form("gzip", Form("gzip", b""))
    assert store.peek(key("first")) == (first,)
    assert store.stats().size_bytes == first.size + second.size


def test_a_response_that_is_gone_has_nothing_to_count(store):
    old = stored()
    store.put(old)
    store.put(replace(old, position=Position(1, 6)))
    before = store.stats()
    old.keep_form("gzip", Form("gzip", b"x" * 100))
    assert store.grown(old)
    assert store.stats() == before


class StoreUnderLoad(RuleBasedStateMachine):
    """The budget is never exceeded, counts are right and no position falls, whatever is done in whatever order."""

    def __init__(self) -> None:
        super().__init__()
        self.clock, self.floors = Clock(), Floors()
        self.store = MemoryStore(6 * ROOM, self.floors, self.clock)

    @rule(
        name=st.integers(0, 5),
        variant=st.sampled_from(["de", "en"]),
        cv=st.integers(0, 5),
        octets=st.sampled_from([0, 10, 900, 5 * ROOM, 9 * ROOM]),
        etag=st.sampled_from([None, '"a"']),
        lives=st.integers(1, 50),
    )
    def put(self, name, variant, cv, octets, etag, lives):
        new = page(
            name,
            vary=(("l", variant),),
            position=Position(1, cv),
            body=b"x" * octets,
            etag=etag,
            keep_until=self.clock.now + lives,
        )
        same = [found for found in self.store.peek(new.key) if found.vary == new.vary]
        taken = self.store.put(new)
        assert taken == (new.size <= 6 * ROOM and not (same and same[0].position > new.position))
        if taken:
            assert self.store.peek(new.key)[0] is new

    @rule(name=st.integers(0, 5))
    def get(self, name):
        found = self.store.get(key(name))
        assert len({response.vary for response in found}) == len(found)

    @rule(name=st.integers(0, 5), variant=st.integers(0, 1), octets=st.sampled_from([0, 10, 900, 5 * ROOM]))
    def code(self, name, variant, octets):
        found = self.store.peek(key(name))[variant : variant + 1]
        for response in found:
            before = response.form("gzip") or Form("gzip", b"")
            response.keep_form("gzip", Form("gzip", b"x" * octets))
            if not self.store.grown(response):
                response.keep_form("gzip", before)

    @rule(name=st.integers(0, 5))
    def drop(self, name):
        self.store.drop(key(name))
        assert self.store.peek(key(name)) == ()

    @rule(cv=st.integers(1, 6), tag=st.sampled_from(["p:eu-eur:boot", "*"]), kind=st.sampled_from(ORDERED_KINDS))
    def purge(self, cv, tag, kind):
        self.floors.raise_to(Position(1, cv), (tag,), kind)

    @rule(seconds=st.integers(1, 30), limit=st.integers(1, 4))
    def wait_and_sweep(self, seconds, limit):
        self.clock.now += seconds
        self.store.sweep(limit)

    @invariant()
    def adds_up(self):
        stats = self.store.stats()
        held = [response for name in range(6) for response in self.store.peek(key(name))]
        assert stats.responses == len(held)
        assert stats.size_bytes == sum(response.size for response in held) <= stats.max_bytes
        assert stats.keys == sum(1 for name in range(6) if self.store.peek(key(name)))


StoreUnderLoad.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestStoreUnderLoad = StoreUnderLoad.TestCase


def test_what_goes_is_counted_by_why(clock, floors):
    store = MemoryStore(3 * ROOM + 100, floors, clock)
    for number in range(5):
        clock.now += 1
        assert store.put(page(number, stored_at=clock.now))
    assert store.evictions[Evicted.ROOM] == 2
    assert (store.evicted_ages.total, store.evicted_ages.seconds) == (2, 6.0), "three seconds each"
    assert store.drop(key(4)) == 1
    store.put(page(5, keep_until=clock.now))
    assert store.sweep() == 1
    store.put(page(6, etag=None))
    floors.raise_to(Position(1, 99), ("*",))
    assert store.sweep() == 1
    store.clear()
    assert {why: count for why, count in store.evictions.items() if count} == {
        Evicted.ROOM: 2,
        Evicted.DROPPED: 1,
        Evicted.EXPIRED: 1,
        Evicted.PURGED: 1,
        Evicted.CLEARED: 2,
    }
    assert store.stats().evicted == store.stats().swept == 2


def test_one_variant_too_many_is_counted_as_such(clock, floors):
    store = MemoryStore(100 * ROOM, floors, clock)
    for number in range(MAX_VARIANTS + 2):
        store.put(stored(vary=(("accept-language", f"l{number}"),)))
    assert store.evictions[Evicted.VARIANTS] == 2
    assert store.evictions[Evicted.ROOM] == 0
