"""What one worker stored, its siblings store: one fill for all the workers of an edge."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cache_policies.positions import Position
from edge.core.http import Headers
from edge.core.key import CacheKey
from edge.core.stored import StoredResponse
from edge.store.codec import encode, key_record
from edge.store.siblings import DROPPED, MAX_DATAGRAM_BYTES, STORED, Siblings
from tests.support.clock import ManualClock
from tests.support.edge_shop import EdgeShop

PAGE = StoredResponse(
    key=CacheKey("shop", "/eu-eur/c/shoes", (("page", "2"), ("q", "ü")), "eu-eur"),
    policy_version="0123456789abcdef",
    status=200,
    headers=Headers((("content-type", "text/html"), ("x", "é"), ("x", "again"))),
    body=b"line\nline\n\x00",
    vary=(("accept-language", "de"), ("accept", None)),
    etag='"v1"',
    position=Position(1, 7),
    tags=("c:eu-eur:shoes", "n:eu-eur"),
    stored_at=10_000.25,
    initial_age_s=1.5,
    no_cache=False,
    fresh_until=10_060.0,
    revalidate_until=10_120.0,
    error_until=20_000.0,
    keep_until=30_000.0,
    judged_at=17,
)


class Worker(Siblings):
    def __init__(self, folder: Path, name: str, clock: Callable[[], float], version: str = "0123456789abcdef") -> None:
        self.got: list[StoredResponse] = []
        self.dropped: list[CacheKey] = []
        super().__init__(folder, name, lambda key: version, self.got.append, self.dropped.append, clock)

    async def until_got(self, count: int) -> None:
        async with asyncio.timeout(5):
            while len(self.got) < count:
                await asyncio.sleep(0)


async def test_what_was_stored_under_another_version_of_its_policy_is_not_taken(tmp_path):
    clock = ManualClock()
    one, two = Worker(tmp_path / "eu", "one", clock), Worker(tmp_path / "eu", "two", clock)
    one.open()
    two.open()
    one.tell(replace(PAGE, policy_version="of other policies"))
    one.tell(PAGE)
    await two.until_got(1)
    assert [stored.policy_version for stored in two.got] == [PAGE.policy_version]
    assert (two.heard, two.lost) == (1, 0)
    one.close()
    two.close()


RECORD = encode(PAGE)


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"x",
        STORED,
        STORED + b"null\nx",
        STORED + RECORD[:50],
        STORED + RECORD.replace(b'"v":4', b'"v":3'),
        DROPPED,
        DROPPED + RECORD[:50],
        STORED + key_record(PAGE.key),
        b"n" + RECORD,
        RECORD,
    ],
)
async def test_what_cannot_be_read_is_counted_and_forgotten(tmp_path, message):
    worker = Worker(tmp_path / "eu", "one", ManualClock())
    worker.open()
    other = Worker(tmp_path / "eu", "two", ManualClock())
    other.open()
    assert other._socket is not None
    other._socket.sendto(message, str(tmp_path / "eu" / "one"))
    async with asyncio.timeout(5):
        while not worker.lost:
            await asyncio.sleep(0)
    assert not worker.got
    assert not worker.dropped
    worker.close()
    other.close()


async def test_what_one_worker_forgot_because_of_a_write_its_siblings_forget_in_its_order(tmp_path):
    clock = ManualClock()
    one, two = Worker(tmp_path / "eu", "one", clock), Worker(tmp_path / "eu", "two", clock)
    heard: list[StoredResponse | CacheKey] = []
    two._on_stored = two._on_dropped = heard.append
    one.tell_dropped(PAGE.key)
    one.open()
    two.open()
    one.tell(PAGE)
    one.tell_dropped(PAGE.key)
    async with asyncio.timeout(5):
        while two.heard < 2:
            await asyncio.sleep(0)
    stored, dropped = heard
    assert isinstance(stored, StoredResponse)
    assert (stored.body, dropped) == (PAGE.body, PAGE.key)
    one.close()
    two.close()


async def test_every_sibling_hears_of_it_and_the_teller_does_not(tmp_path):
    clock = ManualClock()
    workers = [Worker(tmp_path / "eu", name, clock) for name in ("one", "two", "three")]
    for worker in workers:
        worker.open()
    workers[0].tell(PAGE)
    for worker in workers[1:]:
        await worker.until_got(1)
    assert not workers[0].got
    for worker in workers:
        worker.close()
    assert list((tmp_path / "eu").iterdir()) == []


async def test_a_sibling_that_crashed_is_swept_away(tmp_path):
    clock = ManualClock()
    one, two = Worker(tmp_path / "eu", "one", clock), Worker(tmp_path / "eu", "two", clock)
    one.open()
    two.open()
    assert two._socket is not None
    asyncio.get_running_loop().remove_reader(two._socket.fileno())
    two._socket.close()
    one.tell(PAGE)
    assert not (tmp_path / "eu" / "two").exists()
    one.close()


async def test_a_sibling_that_does_not_read_costs_nothing_but_misses(tmp_path):
    clock = ManualClock()
    one, two = Worker(tmp_path / "eu", "one", clock), Worker(tmp_path / "eu", "two", clock)
    one.open()
    two.open()
    large = replace(PAGE, body=b"x" * 100_000)
    for _ in range(100):
        one.tell(large)
    assert one.lost > 0
    one.tell(replace(PAGE, body=b"x" * (MAX_DATAGRAM_BYTES + 1)))
    await two.until_got(1)
    one.close()
    two.close()


async def test_a_folder_that_others_may_write_to_is_refused(tmp_path):
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(PermissionError, match="nobody else may write"):
        Worker(folder, "one", ManualClock()).open()


async def hears(shop: EdgeShop, other: Siblings) -> bool:
    """Whether the shop's worker takes a datagram sent now."""
    gateway = shop.gateway
    version = gateway.version_of(PAGE.key)
    assert gateway.siblings is not None
    heard = gateway.siblings.heard
    other._looked_at = float("-inf")
    other.tell(replace(PAGE, policy_version=version, headers=Headers(())))
    for _ in range(20):
        await asyncio.sleep(0)
    return gateway.siblings.heard > heard


@pytest.mark.parametrize("ending", ["lost history", "stop"])
async def test_a_worker_that_trusts_itself_no_more_neither_tells_nor_hears(tmp_path, ending):
    later: list[tuple[bool, int]] = []
    async with EdgeShop(tmp_path) as shop:
        gateway = shop.gateway
        folder = tmp_path / "siblings"
        siblings = Siblings(
            folder, gateway.worker, gateway.version_of, gateway.store.put, gateway.store.drop, gateway._clock
        )
        gateway.siblings = siblings
        siblings.open()
        other = Worker(folder, "other", shop.clock)
        other.open()
        assert await hears(shop, other)

        async def leave() -> None:
            gateway._tell_siblings(PAGE)
            later.append((await hears(shop, other), siblings.told))

        gateway._leave = leave  # type: ignore[method-assign]  # to listen at that moment
        if ending == "lost history":
            gateway._on_lost_history()
            await leave()
    other.close()
    assert set(later) == {(False, 0)}
