"""Failover as an edge sees it: what a lost history left behind is never shown again, what was inherited stays, and a
server that was left behind has nothing to say any more (docs/freshness.md, rule 8)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from cache_policies.feed import LEASE_S, Answer
from cache_policies.positions import Position, PurgeEntry, PurgeKind
from edge.core.policy import CachePolicy, PolicySet
from edge.gateway.regional import Regional
from tests.support.builders import MARKETS
from tests.support.edge_shop import EdgeShop
from tests.support.memory_tier import MemoryTier
from tests.support.scripted_origin import Pace, Reply, Script, Seen, changed, page

PAGE = "/eu-eur/products/lamp"
PRICE = "/api/v1/eu-eur/prices/sku-1"
CART = "/cart"
TAG = "p:eu-eur:sku-1"


def price(amount: str, position: str, **more: Any) -> Reply:
    return page(f'{{"amount":"{amount}"}}'.encode(), position=position, etag=f'"{amount}"', **more)


def left_behind(old: Reply, new: Reply) -> Script:
    """A server that did not hear of the promotion, unless the request demands the new epoch."""

    def reply(seen: Seen) -> Reply:
        demanded = seen.minimum
        return new if demanded is not None and demanded.startswith("2.") else old

    return reply


async def stored(shop: EdgeShop, path: str, reply: Reply) -> None:
    shop.origin.on(path, reply)
    assert (await shop.get(path)).status == 200
    assert (await shop.get(path)).is_hit


async def test_what_the_new_primary_inherited_stays_a_hit(shop):
    await stored(shop, PAGE, page())
    shop.purge("p:eu-eur:other")
    await stored(shop, PRICE, price("12.00", "1.6"))
    shop.fail_over()
    for path in (PAGE, PRICE):
        assert (await shop.get(path)).is_hit
        assert shop.origin.count(path) == 1


async def test_a_price_that_was_lost_with_the_old_primary_is_not_shown_again(shop):
    await stored(shop, PRICE, price("10.00", "1.5"))
    shop.purge(TAG)
    await stored(shop, PRICE, price("12.00", "1.6"))
    shop.fail_over(lost=1)
    shop.origin.on(PRICE, left_behind(price("12.00", "1.6"), price("10.00", "2.6")))
    response = await shop.get(PRICE)
    assert (response.body, response.is_hit, response.detail) == (b'{"amount":"10.00"}', False, "purged-hard")
    assert shop.origin.last(PRICE).minimum == "2.6"
    again = await shop.get(PRICE)
    assert (again.body, again.is_hit) == (b'{"amount":"10.00"}', True)
    assert [line["floor"] for line in shop.log_lines() if "floor" in line] == ["1.6", "2.6"]


async def test_what_a_lost_purge_took_away_is_shown_again(shop):
    """The purge has not happened, and what it purged was never replaced here."""
    await stored(shop, PAGE, page(b"as it was"))
    shop.purge("p:eu-eur:other")
    shop.purge(TAG)
    shop.fail_over(lost=2)
    response = await shop.get(PAGE)
    assert (response.body, response.is_hit) == (b"as it was", True)


async def test_a_lost_price_is_not_shown_though_the_origin_is_down(shop):
    shop.purge(TAG)
    await stored(shop, PRICE, price("12.00", "1.6", cdn="max-age=60, stale-if-error=600"))
    shop.fail_over(lost=1)
    await shop.origin.stop()
    response = await shop.get(PRICE)
    assert response.status >= 500
    assert b"12.00" not in response.body


@pytest.mark.parametrize("position", ["1.5", "1.6", "1.99"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_fill_that_was_under_way_brings_nothing_of_the_ended_epoch(shop, position, method):
    shop.purge(TAG)
    with shop.origin.holding(PRICE) as held:
        viewer = shop.asking(PRICE, method=method)
        await held.arrived()
        shop.fail_over(lost=1)
        shop.origin.on(PRICE, price("10.00", "2.6"))
        held.answer(price("12.00", position))
        response = await viewer
    assert response.headers["etag"] == '"10.00"'
    assert shop.origin.last(PRICE).minimum == "2.6"
    assert b"10.00" in (await shop.get(PRICE)).body


async def test_a_304_of_the_ended_epoch_revives_nothing(shop):
    await stored(shop, PRICE, price("10.00", "1.5", cdn="max-age=10"))
    shop.later(11)
    with shop.origin.holding(PRICE) as held:
        viewer = shop.asking(PRICE)
        assert (await held.arrived()).headers["if-none-match"] == '"10.00"'
        shop.fail_over()
        shop.origin.on(PRICE, price("11.00", "2.6"))
        held.answer(changed(price("10.00", "1.5"), status=304, body=b""))
        assert b"11.00" in (await viewer).body
    assert b"11.00" in (await shop.get(PRICE)).body


async def test_a_lost_body_that_the_new_history_has_as_well_is_confirmed_by_a_304(shop):
    """An ETag is a digest of the body: the bytes are those of the new history, whatever else was lost."""
    shop.purge(TAG)
    await stored(shop, PRICE, price("10.00", "1.6"))
    shop.fail_over(lost=1)
    shop.origin.on(PRICE, changed(price("10.00", "2.6"), status=304, body=b""))
    response = await shop.get(PRICE)
    assert b"10.00" in response.body
    assert shop.origin.last(PRICE).minimum == "2.6"
    assert (await shop.get(PRICE)).is_hit


async def test_a_waiter_from_before_the_failover_gets_the_new_history_too(shop):
    shop.purge(TAG)
    with shop.origin.holding(PRICE) as held:
        before = shop.asking(PRICE)
        await held.arrived()
        shop.fail_over(lost=1)
        after = shop.asking(PRICE)
        await shop.has_waiters(2)
        shop.origin.on(PRICE, price("10.00", "2.6"))
        held.answer(price("12.00", "1.6"))
        for viewer in (before, after):
            assert b"10.00" in (await viewer).body


async def test_a_failover_in_the_very_turn_in_which_a_flight_lands_reaches_its_viewers(shop):
    shop.purge(TAG)
    flights = shop.gateway._flights
    original = flights._fetch

    async def failing_over(errand, fate):
        landed = await original(errand, fate)
        if shop.position.epoch == 1:
            # Stored, and not yet handed over.
            shop.fail_over(lost=1)
            shop.origin.on(PRICE, price("10.00", "2.6"))
        return landed

    flights._fetch = failing_over
    shop.origin.on(PRICE, price("12.00", "1.6"))
    assert b"10.00" in (await shop.get(PRICE)).body


async def test_a_server_left_behind_cannot_answer_past_the_lease_either(shop):
    shop.fail_over()
    shop.later(LEASE_S, lease=False)
    shop.origin.on(PRICE, price("12.00", "1.99"))
    response = await shop.get(PRICE)
    assert response.status == 503
    assert shop.origin.last(PRICE).minimum == "head"
    shop.origin.on(PRICE, price("10.00", "2.6"))
    assert b"10.00" in (await shop.get(PRICE)).body


@pytest.mark.parametrize("cdn", ["no-store", "max-age=60"])
async def test_what_is_only_passed_on_is_held_against_the_epoch_as_well(shop, cdn):
    shop.fail_over()
    path = CART if cdn == "no-store" else PRICE
    shop.origin.on(path, price("12.00", "1.5", cdn=cdn, vary="user-agent"))
    response = await shop.get(path)
    assert (response.status, response.detail) == (503, "below-floor")
    assert b"12.00" not in response.body
    shop.origin.on(path, price("12.00", "2.6", cdn=cdn, vary="user-agent"))
    assert (await shop.get(path)).status == 200


async def test_an_answer_that_changes_overtake_is_not_one_of_the_ended_epoch(shop):
    def reply(_seen):
        if shop.position.epoch == 1:
            shop.fail_over()
        return price("12.00", "1.99")

    shop.origin.on(PRICE, reply)
    assert (await shop.get(PRICE)).status == 503


async def test_what_the_old_primary_goes_on_to_say_is_no_evidence(shop):
    await stored(shop, PRICE, price("10.00", "1.5"))
    shop.fail_over()
    shop.clock.advance(LEASE_S)
    position = Position(1, 6)
    shop.tell(Answer((PurgeEntry(position, "id-1.6", PurgeKind.SOFT, (TAG,)),), position, "id-1.6"))
    assert not shop.gateway.holds_lease
    assert shop.gateway.follower.applied == Position(2, 6)


async def test_two_failovers_are_survived_like_one(shop):
    await stored(shop, PAGE, page(b"inherited"))
    shop.purge(TAG)
    await stored(shop, PRICE, price("12.00", "1.6"))
    shop.fail_over(lost=1)
    shop.purge("p:eu-eur:other")
    shop.fail_over(lost=1)
    assert shop.position == Position(3, 7)
    assert (await shop.get(PAGE)).is_hit
    shop.origin.on(PRICE, price("10.00", "3.7"))
    assert b"10.00" in (await shop.get(PRICE)).body
    assert shop.gateway.status()["flushes"] == 0
    assert shop.gateway.status()["rewinds"] == 2


async def test_what_a_sibling_or_the_tier_has_of_a_lost_history_is_not_taken(shop):
    shop.purge(TAG)
    await stored(shop, PRICE, price("12.00", "1.6"))
    gateway, tier = shop.gateway, MemoryTier()
    [key] = gateway.store.keys()
    [ghost] = gateway.store.peek(key)
    gateway._fills._regional = Regional(tier, gateway.floors, gateway.lease, shop.clock, lambda stored: False)
    shop.fail_over(lost=1)
    shop.origin.on(PRICE, price("10.00", "2.6"))
    # A worker that has not heard of it yet goes on telling what it has.
    tier.keep(ghost)
    gateway.store.drop(ghost.key)
    gateway._take(ghost)
    assert b"10.00" in (await shop.get(PRICE)).body
    gateway._take(ghost)
    again = await shop.get(PRICE)
    assert (again.is_hit, again.body) == (True, b'{"amount":"10.00"}')


async def test_a_large_answer_of_a_lost_history_is_joined_by_nobody_and_not_stored(tmp_path: Path):
    body, film = b"x" * 300_000, "/film"
    everything = CachePolicy("all", "/{rest...}", fresh_s=60.0, max_fresh_s=600.0, max_body_bytes=2_000_000)
    async with EdgeShop(tmp_path, policies=PolicySet([everything], MARKETS)) as shop:
        shop.purge("film")
        pace = Pace(100_000)
        shop.origin.on(film, changed(page(body, position="1.6", tags="film", etag='"v1"'), pace=pace))
        viewer = await shop.viewer()
        viewer.get(film, shop.host)
        async with asyncio.timeout(5):
            await viewer.reader.readuntil(b"\r\n\r\n")
        shop.fail_over(lost=1)
        shop.origin.on(film, page(b"new", position="2.6", tags="film", etag='"v2"'))
        assert (await shop.get(film)).body == b"new"
        pace.to(len(body))
        async with asyncio.timeout(5):
            # Who read it before goes on to its end: cutting it short would help nobody.
            assert await viewer.reader.readexactly(len(body)) == body
        again = await shop.get(film)
        assert (again.is_hit, again.body) == (True, b"new")


async def test_a_hit_after_a_failover_is_judged_once_and_then_pays_one_comparison_again(shop, monkeypatch):
    await stored(shop, PAGE, page())
    shop.fail_over()
    floors, judged = shop.gateway.floors, 0
    judge = type(floors).judge

    def counting(self, labelled):
        nonlocal judged
        judged += 1
        return judge(self, labelled)

    monkeypatch.setattr(type(floors), "judge", counting)
    for _ in range(3):
        assert (await shop.get(PAGE)).is_hit
    assert judged == 1
