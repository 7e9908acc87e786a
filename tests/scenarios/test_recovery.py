"""The origin was away for a while: what viewers saw, and how fast it is asked again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from edge.core.policy import CachePolicy, OnLeaseLapse, PolicySet
from edge.gateway.origin.breaker import Breaker
from tests.support.builders import MARKETS
from tests.support.edge_shop import EdgeShop
from tests.support.scripted_origin import Reply, page

PAGES = 30
FRESH_S = 60.0
POLICIES = PolicySet(
    [
        CachePolicy(
            "pages",
            "/page/{number}",
            fresh_s=FRESH_S,
            max_fresh_s=600.0,
            keep_s=86_400.0,
            stale_while_revalidate_s=30.0,
            stale_if_error_s=86_400.0,
            on_lease_lapse=OnLeaseLapse.STALE_MARKED,
        ),
        CachePolicy("price", "/price/{number}", fresh_s=FRESH_S, max_fresh_s=600.0, keep_s=600.0),
        CachePolicy("other", "/{rest...}", store=False),
    ],
    MARKETS,
)


@pytest_asyncio.fixture
async def shop(tmp_path: Path) -> AsyncIterator[EdgeShop]:
    """Asked for one page after the other, one in a second: that is the origin's pace."""
    async with EdgeShop(tmp_path, policies=POLICIES, settings={"refresh_hottest": 0}) as shop:
        answers(shop)
        for number in range(PAGES):
            assert (await shop.get(f"/page/{number}")).status == 200
            shop.later(1.0)
        yield shop


def answers(shop: EdgeShop) -> None:
    """The origin has every page, and one more price."""
    for number in range(PAGES):
        shop.origin.on(f"/page/{number}", page(b"<!--nearshelf:notice-->page", tags=f"t:{number}", cdn="max-age=60"))
    for number in range(PAGES):
        shop.origin.on(f"/price/{number}", page(b"{}", tags=f"t:{number}", cdn="max-age=60"))


async def goes_away(shop: EdgeShop) -> None:
    """For two minutes, in which the lease runs out and every page becomes stale; viewers see them all the same."""
    for number in range(PAGES):
        shop.origin.on(f"/page/{number}", Reply(reset=True))
        shop.origin.on(f"/price/{number}", Reply(reset=True))
    shop.later(3.0, lease=False)
    for number in range(Breaker.FAILURES):
        shown = await shop.get(f"/page/{number}")
        assert shown.status == 200
        assert b"being confirmed" in shown.body
    assert shop.gateway.origins.default.status()["left_alone"]
    shop.later(120.0, lease=False)
    for number in range(PAGES):
        assert (await shop.get(f"/page/{number}")).status == 200
    assert (await shop.get("/price/0")).status == 503


async def comes_back(shop: EdgeShop, *, lease: bool = True) -> None:
    """The first to ask after the pause finds out."""
    answers(shop)
    shop.later(Breaker.LONGEST_PAUSE_S, lease=lease)
    shop.origin.seen.clear()
    assert (await shop.get("/page/0")).status == 200
    await shop.until(lambda: not shop.gateway.origins.default.status()["left_alone"])


def asked(shop: EdgeShop) -> int:
    return len(shop.origin.seen)


async def test_what_became_due_meanwhile_is_asked_for_no_faster_than_before(shop):
    await goes_away(shop)
    await comes_back(shop)
    for second in range(20):
        before = asked(shop)
        for number in range(PAGES):
            assert (await shop.get(f"/page/{number}")).status == 200
        await shop.until(lambda: shop.gateway.origins.default.under_way == 0)
        # One in a second, as before; the first second has the one that found out.
        assert asked(shop) - before <= 2, second
        shop.later(1.0)
    assert 12 <= asked(shop) <= 22


async def test_while_the_lease_is_not_back_it_is_the_same_and_pages_say_that_prices_are_being_confirmed(shop):
    await goes_away(shop)
    await comes_back(shop, lease=False)
    asked_before = asked(shop)
    for number in range(1, PAGES):
        shown = await shop.get(f"/page/{number}")
        assert shown.status == 200
    assert asked(shop) - asked_before <= 2


async def test_while_the_lease_is_not_back_what_there_is_nothing_to_show_for_is_asked_for_at_once(shop):
    """The origin answers; only its log is out of reach. That may last."""
    await goes_away(shop)
    await comes_back(shop, lease=False)
    for number in range(PAGES):
        # Once never asked for, once purged for all that this worker knows.
        for _ in range(2):
            assert (await shop.get(f"/price/{number}")).status == 200
    assert shop.origin.count("/price/0") == 2


async def test_what_somebody_waits_for_is_asked_for_at_once(shop):
    await goes_away(shop)
    await comes_back(shop)
    for number in range(PAGES):
        shown = await shop.get(f"/price/{number}")
        assert shown.status == 200
    assert asked(shop) >= PAGES


async def test_in_the_end_nothing_is_held_back(shop):
    await goes_away(shop)
    await comes_back(shop)
    for _ in range(70):
        for number in range(PAGES):
            await shop.get(f"/page/{number}")
        await shop.until(lambda: shop.gateway.origins.default.under_way == 0)
        shop.later(1.0)
    pool = shop.gateway.origins.default
    assert pool.pace.held_back > 0
    held_back = pool.pace.held_back
    shop.later(FRESH_S)
    before = asked(shop)
    for number in range(PAGES):
        assert (await shop.get(f"/page/{number}")).status == 200
    await shop.until(lambda: asked(shop) - before >= PAGES)
    assert pool.pace.held_back == held_back
