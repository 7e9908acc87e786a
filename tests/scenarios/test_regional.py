"""Two workers of a site and the tier that they share: asked by flights alone, held against each worker's own floors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from cache_policies.positions import Position
from edge.core.policy import CachePolicy, PolicySet
from edge.gateway.regional import Regional
from tests.support.builders import MARKETS
from tests.support.edge_shop import EdgeShop
from tests.support.memory_tier import MemoryTier
from tests.support.raw_http import RawResponse
from tests.support.scripted_origin import Pace, Reply, changed, page

PAGE = "/page"
TAG = "p:eu-eur:sku-1"
WAIT_S = 0.2
POLICIES = PolicySet(
    [CachePolicy("all", "/{rest...}", fresh_s=60.0, max_fresh_s=600.0, keep_s=600.0, collapse_wait_s=WAIT_S)], MARKETS
)


class Site:
    """Workers `one` and `two` in front of one origin."""

    def __init__(self, one: EdgeShop, two: EdgeShop, tier: MemoryTier) -> None:
        self.one = one
        self.two = two
        self.tier = tier
        self.origin = one.origin
        for worker in (one, two):
            gateway = worker.gateway
            regional = Regional(tier, gateway.floors, gateway.lease, worker.clock, gateway._writes.overtook)
            gateway._fills._regional = gateway._invalidations._regional = regional

    async def get(self, worker: EdgeShop, *lines: str, method: str = "GET", path: str = PAGE) -> RawResponse:
        viewer = await worker.viewer()
        viewer.get(path, "shop.example", *lines, method=method)
        return await viewer.response(to=method)


@pytest_asyncio.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with EdgeShop(tmp_path / "one", policies=POLICIES) as one:
        settings = {"origin_urls": (one.origin.url,)}
        async with EdgeShop(tmp_path / "two", policies=POLICIES, settings=settings) as two:
            yield Site(one, two, MemoryTier())


async def test_what_one_worker_fetched_the_other_finds(site):
    site.origin.on(PAGE, page())
    await site.get(site.one)
    found = await site.get(site.two)
    assert found.body == b"<p>hello</p>"
    assert "; fwd=uri-miss; " in found.cache_status
    assert (found.detail, "; stored" in found.cache_status, "fwd-status" in found.cache_status) == (
        "regional",
        True,
        False,
    )
    assert (await site.get(site.two)).is_hit
    assert site.origin.count(PAGE) == 1
    assert site.two.log_lines()[0]["cache"] == "regional"


async def test_a_hit_does_not_ask_it(site):
    site.origin.on(PAGE, page())
    await site.get(site.one)
    asked = site.tier.asked
    assert (await site.get(site.one)).is_hit
    assert site.tier.asked == asked


async def test_a_cold_crowd_at_both_workers_makes_one_fetch(site):
    site.origin.on(PAGE, page())
    with site.origin.holding(PAGE) as held:
        crowd = [asyncio.create_task(site.get(worker)) for worker in (site.one, site.two) for _ in range(20)]
        await held.arrived()
        await site.one.has_waiters(20)
        await site.two.has_waiters(20)
        held.answer()
        assert {each.body for each in await asyncio.gather(*crowd)} == {b"<p>hello</p>"}
    assert site.origin.count(PAGE) == 1
    assert site.tier.flying == {}


async def test_what_landed_between_the_look_and_the_claim_is_not_fetched_again(site):
    site.origin.on(PAGE, page())
    claim = site.tier.claim

    async def late(*asked):
        site.tier.claim = claim
        await site.get(site.one)
        return await claim(*asked)

    site.tier.claim = late
    assert (await site.get(site.two)).detail == "regional"
    assert (site.origin.count(PAGE), site.tier.flying) == (1, {})


async def test_each_worker_holds_it_against_its_own_floors(site):
    site.origin.on(PAGE, page(b"old"))
    await site.get(site.one)
    site.two.purge(TAG)
    site.origin.on(PAGE, page(b"new", position="1.6", etag='"v2"'))
    assert (await site.get(site.two)).body == b"new"
    assert site.origin.count(PAGE) == 2


async def test_a_fill_that_a_purge_overtakes_leaves_nothing_in_it(site):
    site.origin.on(PAGE, page(b"new", position="1.6", etag='"v2"'))
    with site.origin.holding(PAGE) as held:
        before = asyncio.create_task(site.get(site.one))
        await held.arrived()
        site.one.purge(TAG)
        site.two.purge(TAG)
        held.answer(page(b"old"))
        assert (await before).body == b"new"
    assert [each.body for variants in site.tier.kept.values() for each in variants] == [b"new"]
    assert (await site.get(site.two)).body == b"new"


async def test_past_the_lease_it_is_not_asked(site):
    site.origin.on(PAGE, page())
    await site.get(site.one)
    asked = site.tier.asked
    site.two.later(3, lease=False)
    await site.get(site.two)
    assert (site.tier.asked, site.origin.count(PAGE)) == (asked, 2)


async def test_a_lease_that_runs_out_while_it_answers_makes_its_answer_useless(site):
    site.origin.on(PAGE, page())
    await site.get(site.one)
    find = site.tier.find

    async def slowly(*asked):
        found = await find(*asked)
        site.two.clock.advance(3)
        return found

    site.tier.find = slowly
    await site.get(site.two)
    assert site.origin.count(PAGE) == 2


async def test_what_is_stale_there_is_validated(site):
    site.origin.on(PAGE, page(b"body", etag='"v1"'))
    await site.get(site.one)
    site.one.later(61)
    site.two.later(61)
    site.origin.on(
        PAGE, lambda seen: page(b"", etag='"v1"', status=304) if "if-none-match" in seen.headers else Reply()
    )
    response = await site.get(site.two)
    assert (response.status, response.body) == (200, b"body")
    assert site.origin.last(PAGE).headers["if-none-match"] == '"v1"'


@pytest.mark.parametrize("reply", [Reply(b"broken", 500), page(cdn="no-store"), Reply(reset=True)])
async def test_a_claim_is_released_whatever_comes_of_it(site, reply):
    site.origin.on(PAGE, reply)
    await site.get(site.one)
    assert site.tier.flying == {}
    site.origin.on(PAGE, page())
    assert (await site.get(site.two)).body == b"<p>hello</p>"


async def test_a_claim_is_released_when_its_worker_stops(site):
    with site.origin.holding(PAGE) as held:
        asking = asyncio.create_task(site.get(site.one))
        await held.arrived()
        assert len(site.tier.flying) == 1
        await site.one.gateway._flights.stop()
        assert site.tier.flying == {}
        assert (await asking).status == 503


async def test_a_worker_waits_for_another_no_longer_than_its_policy_says(site):
    """As when the other one is killed: nobody releases its claim."""
    site.origin.on(PAGE, page())
    with site.origin.holding(PAGE) as held:
        first = asyncio.create_task(site.get(site.one))
        await held.arrived()
        second = asyncio.create_task(site.get(site.two))
        await held.arrived()
        held.answer()
        await asyncio.gather(first, second)
    assert site.origin.count(PAGE) == 2


async def test_a_write_takes_it_out(site):
    site.origin.on(PAGE, lambda seen: Reply(b"", 204) if seen.method == "POST" else page())
    await site.get(site.one)
    await site.get(site.one, "Content-Length: 0", method="POST")
    assert site.tier.kept == {}
    assert "regional" not in (await site.get(site.two)).cache_status


async def test_what_another_worker_keeps_too_late_for_a_write_is_not_used(site):
    """It had fetched before the write, and its record came after the key was dropped."""
    site.origin.on(PAGE, page(b"old"))
    await site.get(site.one)
    (late,) = list(site.tier.kept.values())
    site.two.later(1)
    await site.get(site.two, "Content-Length: 0", method="POST")
    assert site.tier.kept == {}
    site.tier.keep(late[0])
    site.origin.on(PAGE, page(b"new", position="1.6", etag='"v2"'))
    assert (await site.get(site.two)).body == b"new"


async def test_a_write_through_a_sibling_takes_out_what_this_worker_was_about_to_keep(site):
    site.origin.on(PAGE, page())
    await site.get(site.one)
    gateway = site.one.gateway
    gateway.regional = site.tier
    gateway._forget(next(iter(gateway.store.keys())))
    gateway.regional = None
    assert site.tier.kept == {}


@pytest.mark.parametrize(("applied", "found"), [("1.4", False), ("1.5", True), ("1.6", True), (None, False)])
async def test_with_a_log_of_its_own_nothing_is_newer_than_what_was_applied(site, applied, found):
    """No purge would reach it before the log has come as far."""
    site.origin.on(PAGE, page(position="1.5"))
    await site.get(site.one)
    gateway = site.two.gateway
    position = None if applied is None else Position.parse(applied)
    gateway._fills._regional = Regional(
        site.tier, gateway.floors, gateway.lease, site.two.clock, lambda stored: False, lambda: position
    )
    assert ("regional" in (await site.get(site.two)).cache_status) is found


async def test_a_large_answer_is_there_when_it_has_come_to_its_end(site):
    pace, body = Pace(100_000), b"x" * 300_000
    site.origin.on(PAGE, changed(page(body), pace=pace))
    first = asyncio.create_task(site.get(site.one))
    await site.one.until(lambda: any(flight.growing for flight in site.one.gateway._flights._under_way.values()))
    second = asyncio.create_task(site.get(site.two))
    await site.two.has_waiters(1)
    pace.to(len(body))
    assert (await first).body == (await second).body == body
    assert site.origin.count(PAGE) == 1
