"""What a write through this worker overtook is of no use, whoever brings it, and however late (RFC 9111 §4.4)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from cache_policies.folder import folder_called
from edge.core.key import CacheKey
from edge.gateway import invalidations
from edge.gateway.invalidations import Writes
from edge.gateway.settings import Positions
from tests.support.builders import stored
from tests.support.clock import ManualClock
from tests.support.edge_shop import EdgeShop
from tests.support.scripted_origin import Reply

PAGE = "/page"


@pytest.fixture
def writes() -> Writes:
    return Writes(ManualClock(100.0))


def key(number: int = 1) -> CacheKey:
    return CacheKey("shop.example", f"/{number}", (), "")


@pytest.mark.parametrize(
    ("stored_at", "initial_age_s", "old"),
    [(99.0, 0.0, True), (100.5, 0.6, True), (100.0, 0.0, True), (100.5, 0.4, False), (101.0, 0.0, False)],
)
def test_what_was_asked_for_before_the_write_is_old(writes, stored_at, initial_age_s, old):
    writes.note(key())
    held = stored(key=key(), stored_at=stored_at, initial_age_s=initial_age_s)
    assert writes.overtook(held) is old
    assert not writes.overtook(stored(key=key(2), stored_at=stored_at))


def test_the_last_write_counts(writes):
    writes.note(key())
    writes._clock.advance(10)
    writes.note(key())
    assert writes.overtook(stored(key=key(), stored_at=105.0))


def test_writes_are_remembered_up_to_a_bound_the_oldest_are_forgotten(writes, monkeypatch):
    monkeypatch.setattr(invalidations, "MAX_WRITES", 3)
    for number in (1, 2, 3, 1, 4):
        writes.note(key(number))
    known = [number for number in (1, 2, 3, 4) if writes.overtook(stored(key=key(number), stored_at=1.0))]
    assert known == [1, 3, 4]


@pytest_asyncio.fixture
async def shop(tmp_path: Path) -> AsyncIterator[EdgeShop]:
    async with EdgeShop(tmp_path, policies=folder_called("rfc9111"), settings={"positions": Positions.SITE}) as shop:
        yield shop


async def test_what_a_sibling_stored_before_it_heard_of_a_write_is_not_taken(shop):
    shop.origin.on(PAGE, Reply(b"old", headers={"cache-control": "max-age=60"}))
    await shop.get(PAGE)
    (told,) = shop.gateway.store.peek(next(iter(shop.gateway.store.keys())))
    shop.later(1)
    await shop.get(PAGE, "Content-Length: 0", method="POST")
    shop.origin.on(PAGE, Reply(b"new", headers={"cache-control": "max-age=60"}))
    # Its datagram comes after the write's answer has gone out.
    shop.gateway._take(told)
    assert (await shop.get(PAGE)).body == b"new"
