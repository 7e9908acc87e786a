"""What a store holds costs the collector of cycles nothing, and is freed all the same."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from dataclasses import replace

import pytest

from cache_policies.positions import Position
from edge.core.floors import Floors
from edge.core.stored import Form, StoredResponse
from edge.gateway.hits import Known
from edge.store.memory import MemoryStore
from edge.store.untracked import untrack
from tests.support.builders import KEY, stored
from tests.support.edge_shop import EdgeShop
from tests.support.scripted_origin import page


class Watched:
    pass


def test_only_what_is_in_sight_is_taken_out_of_it():
    for nothing in (None, 1, "text", b"bytes", (), 1.5, object()):
        untrack(nothing)
    held = [Watched()]
    assert gc.is_tracked(held)
    untrack(held)
    untrack(held)
    assert not gc.is_tracked(held)


def a_store() -> MemoryStore:
    return MemoryStore(10_000_000, Floors(), lambda: 100.0)


def in_sight(store: MemoryStore) -> list[object]:
    """What the collector would walk of an entry."""
    entry = store._by_key[KEY]
    (response,) = entry.value
    return [
        each
        for each in (store._by_key, entry, entry.value, entry.key, response, response.key, response.headers)
        if gc.is_tracked(each)
    ]


def test_what_is_stored_is_out_of_sight():
    store = a_store()
    first = stored()
    store.put(first)
    assert in_sight(store) == []
    store.put(replace(first, position=Position(1, 6)))
    assert in_sight(store) == []


def test_what_hits_added_goes_out_of_sight_when_it_is_swept_past():
    store = a_store()
    response = stored()
    store.put(response)
    response.keep_form("", Form("", response.body))
    assert gc.is_tracked(response.received)
    store.sweep()
    assert not gc.is_tracked(response.received)


class Seen(str):
    """Text that can be looked after."""

    __slots__ = ("__weakref__",)


def put(store: MemoryStore, path: str = KEY.path) -> weakref.ref[Seen]:
    """Put a response that was hit once, and hold nothing of it."""
    mark = Seen("version")
    response = stored(key=KEY._replace(path=path), policy_version=mark, etag=None)
    response.keep_form("", Form("", response.body))
    store.put(response)
    return weakref.ref(mark)


@pytest.mark.parametrize(
    "forget",
    [
        pytest.param(lambda store: store.drop(KEY), id="dropped"),
        pytest.param(lambda store: store.clear(), id="cleared"),
        pytest.param(lambda store: store.put(stored(position=Position(1, 6))), id="replaced"),
        pytest.param(lambda store: store._entries.popitem(), id="evicted"),
        pytest.param(lambda store: (store._floors.raise_to(Position(1, 9), ("*",)), store.sweep()), id="swept"),
    ],
)
def test_what_goes_is_freed_at_once(forget):
    store = a_store()
    gc.disable()
    try:
        gone = put(store)
        assert gone() is not None
        forget(store)
        assert gone() is None
    finally:
        gc.enable()


def test_a_store_that_nobody_uses_any_more_is_freed_whole():
    store = a_store()
    gone = [put(store, path) for path in ("/a", "/b")]
    del store
    gc.collect()
    assert [mark() for mark in gone] == [None, None]


MEASURED = """
import gc, time
from dataclasses import replace
from edge.core.floors import Floors
from edge.store.memory import MemoryStore
from tests.support.builders import KEY, stored
from tests.support.edge_shop import EdgeShop
from tests.support.scripted_origin import page

def took():
    gc.collect()
    begun = time.process_time()
    gc.collect()
    return time.process_time() - begun

store, before = MemoryStore(10**9, Floors(), lambda: 100.0), took()
one = stored()
for number in range(30_000):
    store.put(replace(one, key=KEY._replace(path=f"/{number}")))
print(before, took(), store.stats().responses)
"""


def test_a_collection_takes_no_longer_for_a_full_store():
    run = subprocess.run([sys.executable, "-c", MEASURED], capture_output=True, text=True, check=True)
    empty_s, full_s, responses = map(float, run.stdout.split())
    assert responses == 30_000
    # Some 60 ms more, if they were walked.
    assert full_s < empty_s * 1.5 + 0.005


async def test_what_a_worker_remembers_of_addresses_and_forms_is_out_of_sight_too(tmp_path):
    async with EdgeShop(tmp_path) as shop:
        for number in range(3):
            target = f"/eu-eur/products/{number}"
            shop.origin.on(target, page(b"x" * 2_000))
            for coding in ("identity", "br", "identity", "br"):
                await shop.get(target, f"accept-encoding: {coding}")
        shop.gateway.store.sweep()
        mine = {id(form) for key in shop.gateway.store._by_key for form in forms(shop.gateway.store.peek(key)[0])}
        assert len(mine) == 6, "as received, and in a coding"
        seen = gc.get_objects()
        assert not [each for each in seen if isinstance(each, Known) or id(each) in mine]


def forms(response: StoredResponse) -> list[Form]:
    return [*({"": response.received} if response.received else {}).values(), *(response.coded or {}).values()]
