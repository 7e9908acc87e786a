"""After the purge of a tag that much carries: the origin is asked once for each key, hottest first, within its caps."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
import pytest_asyncio

from edge.core.policy import CachePolicy, PolicySet
from edge.gateway import hottest
from edge.gateway.hottest import HOT_HITS
from edge.gateway.origin import Caps
from edge.gateway.regional import Regional
from tests.support.builders import MARKETS
from tests.support.edge_shop import EdgeShop
from tests.support.memory_tier import MemoryTier
from tests.support.raw_http import RawResponse
from tests.support.scripted_origin import Reply, Seen, page

TAG = "c:eu-eur:lamps"
WAIT_S = 0.05
POLICIES = PolicySet(
    [
        CachePolicy(
            "all",
            "/{rest...}",
            fresh_s=60.0,
            max_fresh_s=600.0,
            keep_s=600.0,
            stale_while_revalidate_s=60.0,
            collapse_wait_s=WAIT_S,
            vary=("accept-language",),
        )
    ],
    MARKETS,
)
PATIENT = PolicySet([CachePolicy("all", "/{rest...}", fresh_s=60.0, max_fresh_s=600.0, keep_s=600.0)], MARKETS)
Making = Callable[..., AbstractAsyncContextManager[EdgeShop]]


def lamp(number: int) -> str:
    return f"/lamp-{number}"


def answers(shop: EdgeShop, count: int, *, position: str = "1.5", directives: str = "max-age=60") -> None:
    """The origin shows so many lamps, all with one tag, as they were read at `position`."""
    for number in range(count):
        body, etag = f"lamp {number} at {position}".encode(), f'"{position}"'
        shop.origin.on(lamp(number), page(body, position=position, tags=TAG, cdn=directives, etag=etag))


@pytest.fixture
def shop_of(tmp_path: Path) -> Making:
    def make(**caps: float) -> EdgeShop:
        given = {"connections": 2, "tag_connections": 2, "queue": 100, "queue_s": math.inf, **caps}
        settings = {"origin_caps": Caps(**given), "refresh_hottest": 0}  # type: ignore[arg-type]
        return EdgeShop(tmp_path / "edge", policies=POLICIES, settings=settings)

    return make


@pytest_asyncio.fixture
async def shop(shop_of) -> AsyncIterator[EdgeShop]:
    async with shop_of() as shop:
        yield shop


async def get(worker: EdgeShop, path: str) -> RawResponse:
    """As viewers ask every worker of a site: for the same host."""
    viewer = await worker.viewer()
    viewer.get(path, "shop.example")
    return await viewer.response()


def waiting(shop: EdgeShop) -> int:
    return int(shop.gateway.origins.default.status()["waiting"])


async def stored(shop: EdgeShop, count: int, *, hits: int = 0) -> None:
    """`count` lamps are in the store; each was asked for `hits` times more than the one before."""
    answers(shop, count)
    for number in range(count):
        for _ in range(1 + hits * number):
            assert (await shop.get(lamp(number))).status == 200


async def test_followers_of_a_flight_that_waits_for_its_turn_wait_with_it(shop):
    """Beyond the policy's patience: a second fetch would only lengthen the line."""
    await stored(shop, 3)
    shop.purge(TAG)
    with shop.origin.holding(lamp(0)) as first, shop.origin.holding(lamp(1)) as second:
        held = [shop.asking(lamp(number)) for number in (0, 1)]
        await first.arrived()
        await second.arrived()
        crowd = [shop.asking(lamp(2)) for _ in range(20)]
        await shop.has_waiters(22)
        await shop.until(lambda: waiting(shop) == 1)
        # Timers of one loop go off in their order: however busy this machine is, everybody's patience is over by then.
        await asyncio.sleep(3 * WAIT_S)
        answers(shop, 3, position="1.6")
        first.answer()
        second.answer()
        found = [await asking for asking in (*held, *crowd)]
    assert {answer.status for answer in found} == {200}
    assert {answer.body for answer in found[2:]} == {b"lamp 2 at 1.6"}
    assert shop.origin.count(lamp(2)) == 2


async def test_once_its_turn_has_come_a_follower_has_the_policys_patience(shop):
    await stored(shop, 2)
    shop.purge(TAG)
    with shop.origin.holding(lamp(0)) as first, shop.origin.holding(lamp(1)) as second:
        held = [shop.asking(lamp(0))]
        await first.arrived()
        crowd = [shop.asking(lamp(1)) for _ in range(2)]
        await second.arrived()
        # Nobody else has a place at the origin: the one who lost patience waits for one.
        await shop.until(lambda: waiting(shop) == 1)
        answers(shop, 2, position="1.6")
        second.answer()
        first.answer()
        assert {(await asking).status for asking in (*held, *crowd)} == {200}


async def test_the_hottest_is_fetched_first(shop):
    await stored(shop, 6, hits=2)
    shop.purge(TAG)
    answers(shop, 6, position="1.6")
    before = len(shop.origin.seen)
    with shop.origin.holding(lamp(0)) as first, shop.origin.holding(lamp(1)) as second:
        held = [shop.asking(lamp(number)) for number in (0, 1)]
        await first.arrived()
        await second.arrived()
        line = []
        for number in (2, 3, 4, 5):
            line.append(shop.asking(lamp(number)))
            await shop.until(lambda: waiting(shop) == len(line))
        # One place, so that they go one after the other.
        second.answer()
        for asking in line:
            assert (await asking).status == 200
        first.answer()
        await asyncio.gather(*held)
    assert [seen.path for seen in shop.origin.seen[before + 2 :]] == [lamp(5), lamp(4), lamp(3), lamp(2)]


async def test_what_the_tag_lost_holds_up_nothing_else(shop_of):
    async with shop_of(connections=3) as shop:
        await stored(shop, 3)
        shop.origin.on("/other", page(tags="c:eu-eur:mugs"))
        shop.purge(TAG)
        with shop.origin.holding(lamp(0)) as first, shop.origin.holding(lamp(1)) as second:
            held = [shop.asking(lamp(number)) for number in (0, 1, 2)]
            await first.arrived()
            await second.arrived()
            await shop.until(lambda: waiting(shop) == 1)
            assert (await shop.get("/other")).status == 200
            assert shop.origin.count(lamp(2)) == 1
            answers(shop, 3, position="1.6")
            first.answer()
            second.answer()
            assert {(await asking).status for asking in held} == {200}


async def test_past_the_deadline_what_is_hard_purged_is_503_with_retry_after(shop_of):
    """Also where the origin has said that its failure is to be told as 504: it was not asked."""
    async with shop_of(connections=1, tag_connections=1, queue_s=0.02) as shop:
        answers(shop, 2, directives="max-age=60, must-revalidate")
        for number in (0, 1):
            await shop.get(lamp(number))
        shop.purge(TAG)
        with shop.origin.holding(lamp(0)) as first:
            held = shop.asking(lamp(0))
            await first.arrived()
            refused = await shop.get(lamp(1))
            answers(shop, 2, position="1.6")
            first.answer()
            assert (await held).status == 200
        assert (refused.status, refused.headers["retry-after"]) == (503, "1")
        assert refused.headers["proxy-status"] == "nearshelf-eu; error=connection_limit_reached"
        assert shop.origin.count(lamp(1)) == 1
        assert (await shop.get(lamp(1))).body == b"lamp 1 at 1.6"


async def test_past_the_deadline_what_is_soft_purged_is_shown_stale(shop_of):
    async with shop_of(connections=1, tag_connections=1, queue_s=0.02) as shop:
        await stored(shop, 2)
        shop.purge(TAG, soft=True)
        with shop.origin.holding(lamp(0)) as first:
            assert (await shop.get(lamp(0))).detail == "purged-soft"
            await first.arrived()
            for _ in range(3):
                shown = await shop.get(lamp(1))
                assert (shown.status, shown.body, shown.detail) == (200, b"lamp 1 at 1.5", "purged-soft")
            await shop.until(lambda: shop.gateway.origins.default.turned_away == 1)
            answers(shop, 2, position="1.6")
            first.answer()
        assert shop.origin.count(lamp(1)) == 1


async def test_a_refresh_that_nobody_waited_for_goes_before_others_once_a_viewer_does(shop_of):
    """At first something is shown meanwhile; then that is too old, and whoever asks for it now has nothing else."""
    async with shop_of(connections=1) as shop:
        await stored(shop, 2, hits=2)
        shop.purge(TAG, soft=True)
        answers(shop, 3, position="1.6")
        with shop.origin.holding(lamp(0)) as first:
            for number in (0, 1):
                assert (await shop.get(lamp(number))).detail == "purged-soft"
            await first.arrived()
            await shop.until(lambda: waiting(shop) == 1)
            others = shop.asking(lamp(2))
            await shop.until(lambda: waiting(shop) == 2)
            shop.later(130.0)
            joined = shop.asking(lamp(1))
            line = shop.gateway.origins.default._line
            await shop.until(lambda: (next_one := line.first()) is not None and next_one.rank.heat > 0)
            first.answer()
            assert {(await viewer).status for viewer in (joined, others)} == {200}
        assert [seen.path for seen in shop.origin.seen[-2:]] == [lamp(1), lamp(2)]
        assert shop.origin.count(lamp(1)) == 2


async def test_two_workers_of_a_site_fetch_each_key_once_however_long_they_wait_for_their_turn(tmp_path, shop_of):
    caps = {"origin_caps": Caps(connections=1, tag_connections=1, queue=100, queue_s=math.inf), "refresh_hottest": 0}
    count = 10
    async with EdgeShop(tmp_path / "one", policies=PATIENT, settings=caps) as one:
        settings = {**caps, "origin_urls": (one.origin.url,)}
        async with EdgeShop(tmp_path / "two", policies=PATIENT, settings=settings) as two:
            tier = MemoryTier()
            for worker in (one, two):
                gateway = worker.gateway
                regional = Regional(tier, gateway.floors, gateway.lease, worker.clock, gateway._writes.overtook)
                gateway._fills._regional = regional
            answers(one, count)
            for worker in (one, two):
                for number in range(count):
                    await get(worker, lamp(number))
            assert [one.origin.count(lamp(number)) for number in range(count)] == [1] * count
            for worker in (one, two):
                worker.purge(TAG)
            most = 0

            def noted(seen: Seen) -> Reply:
                nonlocal most
                most = max(most, *(worker.gateway.origins.default.under_way for worker in (one, two)))
                number = int(seen.path.rpartition("-")[2])
                return page(f"lamp {number} at 1.6".encode(), position="1.6", tags=TAG, etag='"1.6"')

            for number in range(count):
                one.origin.on(lamp(number), noted)
            crowd = [
                asyncio.create_task(get(worker, lamp(number)))
                for number in range(count)
                for worker in (one, two)
                for _ in range(5)
            ]
            found = [await viewer for viewer in crowd]
            assert {answer.status for answer in found} == {200}
            assert all(answer.body.endswith(b" at 1.6") for answer in found)
            assert [one.origin.count(lamp(number)) for number in range(count)] == [2] * count
            assert most == 1
            assert tier.flying == {}


async def test_a_worker_that_waits_for_another_holds_no_place_meanwhile(tmp_path):
    caps = {"origin_caps": Caps(connections=1, queue=100, queue_s=math.inf), "refresh_hottest": 0}
    async with EdgeShop(tmp_path / "one", policies=POLICIES, settings=caps) as one:
        settings = {**caps, "origin_urls": (one.origin.url,)}
        async with EdgeShop(tmp_path / "two", policies=POLICIES, settings=settings) as two:
            tier = MemoryTier()
            for worker in (one, two):
                gateway = worker.gateway
                regional = Regional(tier, gateway.floors, gateway.lease, worker.clock, gateway._writes.overtook)
                gateway._fills._regional = regional
            answers(one, 2)
            with one.origin.holding(lamp(0)) as held:
                first = asyncio.create_task(get(one, lamp(0)))
                await held.arrived()
                second = asyncio.create_task(get(two, lamp(0)))
                await two.until(lambda: len(tier.flying) == 1 and two.gateway.flights == 1)
                assert (await get(two, lamp(1))).status == 200
                held.answer()
                assert {(await viewer).status for viewer in (first, second)} == {200}
            assert tier.flying == {}


# -- the hottest ------------------------------------------------------------------------------------------------------


@pytest_asyncio.fixture
async def refreshing(tmp_path: Path) -> AsyncIterator[EdgeShop]:
    """An edge whose looks are made by the test."""
    async with EdgeShop(tmp_path / "edge", policies=POLICIES, settings={"refresh_hottest": 2}) as shop:
        shop.gateway._tasks[-1].cancel()
        yield shop


async def test_what_is_asked_for_most_is_fetched_before_anybody_asks(refreshing):
    shop = refreshing
    answers(shop, 4)
    for number, times in enumerate((1, HOT_HITS + 1, HOT_HITS + 2, HOT_HITS + 3)):
        for _ in range(times):
            await shop.get(lamp(number))
    shop.purge(TAG)
    answers(shop, 4, position="1.6")
    await shop.gateway.hottest.look()
    assert [shop.origin.count(lamp(number)) for number in range(4)] == [1, 1, 2, 2]
    assert shop.gateway.hottest.refreshed == 2
    for number in (2, 3):
        shown = await shop.get(lamp(number))
        assert (shown.is_hit, shown.body) == (True, f"lamp {number} at 1.6".encode())
    assert (await shop.get(lamp(1))).detail == "purged-hard"
    # What was refreshed is purged no more, and was not asked for again.
    await shop.gateway.hottest.look()
    assert shop.gateway.hottest.refreshed == 2


async def test_a_viewer_who_comes_meanwhile_joins_the_refresh(refreshing):
    shop = refreshing
    answers(shop, 1)
    for _ in range(HOT_HITS + 1):
        await shop.get(lamp(0))
    shop.purge(TAG)
    with shop.origin.holding(lamp(0)) as held:
        looking = asyncio.create_task(shop.gateway.hottest.look())
        await held.arrived()
        viewer = shop.asking(lamp(0))
        await shop.has_waiters(1)
        answers(shop, 1, position="1.6")
        held.answer()
        assert (await viewer).body == b"lamp 0 at 1.6"
        await looking
    assert shop.origin.count(lamp(0)) == 2


async def test_what_a_viewer_asked_for_first_is_not_counted_as_refreshed(refreshing):
    shop = refreshing
    answers(shop, 1)
    for _ in range(HOT_HITS + 1):
        await shop.get(lamp(0))
    shop.purge(TAG)
    with shop.origin.holding(lamp(0)) as held:
        viewer = shop.asking(lamp(0))
        await held.arrived()
        await shop.gateway.hottest.look()
        answers(shop, 1, position="1.6")
        held.answer()
        assert (await viewer).status == 200
    assert shop.gateway.hottest.refreshed == 0


async def test_what_is_purged_meanwhile_is_looked_for_before_the_rest_of_the_list(tmp_path, monkeypatch):
    monkeypatch.setattr(hottest, "AT_ONCE", 1)
    async with EdgeShop(tmp_path / "edge", policies=POLICIES, settings={"refresh_hottest": 9}) as shop:
        shop.gateway._tasks[-1].cancel()
        answers(shop, 2)
        shop.origin.on("/mug", page(tags="c:eu-eur:mugs"))
        for path, times in ((lamp(0), HOT_HITS + 1), (lamp(1), HOT_HITS + 2), ("/mug", HOT_HITS + 3)):
            for _ in range(times):
                await shop.get(path)
        shop.purge(TAG)
        before = len(shop.origin.seen)
        with shop.origin.holding(lamp(1)) as held:
            looking = asyncio.create_task(shop.gateway.hottest.look())
            await held.arrived()
            answers(shop, 2, position="1.6")
            shop.purge("c:eu-eur:mugs")
            shop.origin.on("/mug", page(tags="c:eu-eur:mugs", position="1.7"))
            held.answer()
            await looking
        assert [seen.path for seen in shop.origin.seen[before:]] == [lamp(1)]
        await shop.gateway.hottest.look()
        assert [seen.path for seen in shop.origin.seen[before:]] == [lamp(1), "/mug", lamp(0)]


@pytest.mark.parametrize("what", ["it varies", "the lease has run out", "it is current again", "the origin is away"])
async def test_what_cannot_be_fetched_for_nobody_is_left(refreshing, what):
    shop = refreshing
    answers(shop, 1)
    if what == "it varies":
        shop.origin.on(lamp(0), page(tags=TAG, vary="accept-language"))
    for _ in range(HOT_HITS + 2):
        await shop.get(lamp(0))
    shop.purge(TAG)
    answers(shop, 1, position="1.6")
    expected = 1
    match what:
        case "the lease has run out":
            shop.later(3, lease=False)
        case "it is current again":
            assert (await shop.get(lamp(0))).body == b"lamp 0 at 1.6"
            expected = 2
        case "the origin is away":
            shop.origin.on(lamp(0), Reply(reset=True))
            expected = shop.origin.count(lamp(0)) + 2
    await shop.gateway.hottest.look()
    assert shop.origin.count(lamp(0)) <= expected
    if what == "the origin is away":
        asked = shop.origin.count(lamp(0))
        # Once more at once would be too soon: a refresh that failed is not repeated before a pause is over.
        await shop.gateway.hottest.look()
        assert shop.origin.count(lamp(0)) == asked


async def test_it_looks_by_itself_when_something_was_purged(tmp_path):
    async with EdgeShop(tmp_path / "edge", policies=POLICIES) as shop:
        answers(shop, 1)
        for _ in range(HOT_HITS + 1):
            await shop.get(lamp(0))
        shop.purge(TAG)
        answers(shop, 1, position="1.6")
        await shop.until(lambda: shop.origin.count(lamp(0)) == 2)
        assert (await shop.get(lamp(0))).body == b"lamp 0 at 1.6"
