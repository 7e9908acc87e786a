"""Two origins: reads that fail over, floors for whoever answers, and personal data that stays where it may be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from cache_policies.origins import Origin, Origins
from edge.core.policy import CachePolicy, DataClass, OnLeaseLapse, PolicySet, Residency
from tests.support.builders import MARKETS
from tests.support.edge_shop import EdgeShop
from tests.support.scripted_origin import Reply, ScriptedOrigin, changed, page

PAGE = "/eu-eur/products/lamp"
CART = "/eu-eur/cart"
ACCOUNT = "/eu-eur/account"
TAG = "p:eu-eur:sku-1"

FIRST = Origin("first", ("us",), reads_fail_over_to="second")
SECOND = Origin("second", ("eu",))

POLICIES = (
    CachePolicy(
        "page",
        "/{market}/products/{slug}",
        fresh_s=60.0,
        max_fresh_s=600.0,
        stale_if_error_s=3_600.0,
        keep_s=3_600.0,
        shows_price=True,
        on_lease_lapse=OnLeaseLapse.STALE_MARKED,
    ),
    CachePolicy("cart", "/{market}/cart", data_class=DataClass.PERSONAL, store=False),
    CachePolicy("account", "/{market}/account", data_class=DataClass.PERSONAL, store=False, residency=Residency.ROUTE),
    CachePolicy("me", "/me", data_class=DataClass.PERSONAL, store=False, residency=Residency.ROUTE),
    CachePolicy("there", "/there", store=False, origin="second"),
    CachePolicy("rest", "/{rest...}", store=False),
)


def policies(*origins: Origin, routes: Iterable[CachePolicy] = POLICIES) -> PolicySet:
    return PolicySet(routes, MARKETS, Origins(origins or (FIRST, SECOND), (origins or (FIRST,))[0].name))


class TwoOrigins(EdgeShop):
    """`origin` is the first, `second` the other."""

    def __init__(self, tmp_path: Path, second: ScriptedOrigin, chosen: PolicySet) -> None:
        self.second = second
        names = {origin.name for origin in chosen.origins.all} - {chosen.origins.default}
        super().__init__(tmp_path, policies=chosen, settings={"origins": dict.fromkeys(names, (second.url,))})

    async def __aenter__(self) -> TwoOrigins:
        await super().__aenter__()
        return self

    def asked(self, path: str) -> tuple[int, int]:
        """How often each origin was asked for `path`."""
        return self.origin.count(path), self.second.count(path)


@pytest_asyncio.fixture
async def second() -> AsyncIterator[ScriptedOrigin]:
    async with ScriptedOrigin() as second:
        yield second


@pytest_asyncio.fixture
async def shop(tmp_path: Path, second: ScriptedOrigin) -> AsyncIterator[TwoOrigins]:
    async with TwoOrigins(tmp_path, second, policies()) as shop:
        yield shop


# -- failing over ------------------------------------------------------------------------------------------------------

FAILURES = [
    pytest.param(Reply(b"broken", 500), id="500"),
    pytest.param(Reply(b"broken", 502), id="502"),
    pytest.param(changed(Reply(b"busy", 503, {"retry-after": "9"})), id="503"),
    pytest.param(Reply(b"broken", 504), id="504"),
    pytest.param(Reply(reset=True), id="hangs up"),
    pytest.param(Reply(b"no", 403, {"nearshelf-refused": "edge-key"}), id="refuses the edge's key"),
]


@pytest.mark.parametrize(
    "failure", [*FAILURES, pytest.param(changed(page(b"half of it"), cut_after=4), id="cut short")]
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_fill_that_fails_is_answered_by_the_second_origin_and_stored(shop, failure, method):
    shop.origin.on(PAGE, failure)
    shop.second.on(PAGE, page(b"from the second"))
    response = await shop.get(PAGE, method=method)
    assert (response.status, response.detail) == (200, "cold")
    again = await shop.get(PAGE)
    assert (again.is_hit, again.body) == (True, b"from the second")
    assert shop.gateway.status()["reads_failed_over"] == 1
    assert shop.second.last(PAGE).headers["host"] == shop.host
    assert shop.second.last(PAGE).headers["nearshelf-edge-key"] == "the-key"


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_read_that_is_passed_on_fails_over_as_well(shop, failure, method):
    shop.origin.on(CART, failure)
    shop.second.on(CART, Reply(b"your cart"))
    response = await shop.get(CART, method=method)
    assert (response.status, response.body) == (200, b"your cart" if method == "GET" else b"")
    assert shop.asked(CART)[1] == 1


async def test_an_origin_that_is_gone_is_tried_first_each_time_until_its_breaker_opens(shop):
    shop.second.on(CART, Reply(b"your cart"))
    await shop.origin.stop()
    for _ in range(5):
        assert (await shop.get(CART)).status == 200
        assert shop.gateway.status()["origins"]["first"]["left_alone"] == (_ == 4)
    await shop.origin.start()
    shop.origin.on(CART, Reply(b"first again"))
    assert (await shop.get(CART)).body == b"your cart"
    shop.later(1)
    assert (await shop.get(CART)).body == b"first again"
    assert shop.asked(CART) == (1, 6)


@pytest.mark.parametrize("status", [400, 404, 410, 429, 501])
async def test_any_other_answer_is_the_first_origins_word(shop, status):
    shop.origin.on(CART, Reply(b"no", status))
    assert (await shop.get(CART)).status == status
    assert shop.asked(CART) == (1, 0)


@pytest.mark.parametrize("failure", FAILURES[:-1])
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_a_write_never_fails_over(shop, failure, method):
    shop.origin.on(CART, failure)
    response = await shop.get(CART, "Content-Length: 0", method=method)
    assert response.status >= 500
    assert shop.asked(CART) == (1, 0)
    await shop.origin.stop()
    assert (await shop.get(CART, "Content-Length: 0", method=method)).status == 503
    assert shop.second.count(CART) == 0


async def test_a_read_that_says_it_has_no_body_fails_over_like_any_other(shop):
    shop.origin.on(CART, Reply(b"broken", 500))
    shop.second.on(CART, Reply(b"your cart"))
    assert (await shop.get(CART, "Content-Length: 0")).body == b"your cart"


@pytest.mark.parametrize("failure", [Reply(b"broken too", 502), Reply(reset=True)])
async def test_the_second_origins_word_is_the_last(shop, failure):
    shop.origin.on(CART, Reply(b"broken", 500))
    shop.second.on(CART, failure)
    response = await shop.get(CART)
    assert response.status == (502 if failure.status == 502 else 503)
    assert shop.asked(CART)[0] == 1


async def test_first_the_second_origin_then_what_is_stale(shop):
    shop.origin.on(PAGE, page(b"old", cdn="max-age=10"))
    await shop.get(PAGE)
    shop.later(11)
    shop.origin.on(PAGE, Reply(b"broken", 500))
    shop.second.on(PAGE, page(b"new", cdn="max-age=10", etag='"v2"'))
    assert (await shop.get(PAGE)).body == b"new"
    shop.later(11)
    shop.second.on(PAGE, Reply(b"broken", 500))
    stale = await shop.get(PAGE)
    assert (stale.body, stale.detail) == (b"new", "stale-if-error")
    assert shop.asked(PAGE) == (3, 2)


async def test_past_the_lease_a_second_origin_is_asked_for_the_head_before_a_page_is_marked_stale(shop):
    shop.origin.on(PAGE, page(b"old<!--nearshelf:notice-->", cdn="max-age=600"))
    await shop.get(PAGE)
    shop.later(5, lease=False)
    await shop.origin.stop()
    shop.second.on(PAGE, Reply(b"too old here", 503))
    assert (await shop.get(PAGE)).detail == "stale-marked"
    assert shop.second.last(PAGE).minimum == "head"
    shop.second.on(PAGE, page(b"new", etag='"v2"', position="1.9"))
    shop.later(1, lease=False)
    assert (await shop.get(PAGE)).body == b"new"


async def test_a_304_of_the_second_origin_confirms_what_the_first_one_sent(shop):
    shop.origin.on(PAGE, page(b"lamp", cdn="max-age=10"))
    await shop.get(PAGE)
    shop.later(11)
    shop.origin.on(PAGE, Reply(b"broken", 500))
    shop.second.on(PAGE, changed(page(b"", cdn="max-age=10", position="1.7"), status=304))
    assert (await shop.get(PAGE)).body == b"lamp"
    assert shop.second.last(PAGE).headers["if-none-match"] == '"v1"'
    assert (await shop.get(PAGE)).is_hit


# -- floors ------------------------------------------------------------------------------------------------------------


async def test_an_answer_of_a_lagging_second_origin_is_neither_stored_nor_shown(shop):
    """It reads a replica that has not heard of the change, and honours Min-Catalog-Version no better."""
    shop.origin.on(PAGE, page(b"10.00", etag='"10.00"'))
    await shop.get(PAGE)
    shop.purge(TAG)
    shop.origin.on(PAGE, Reply(b"broken", 500))
    shop.second.on(PAGE, page(b"10.00", etag='"old"'))
    response = await shop.get(PAGE)
    assert response.status == 503
    assert b"10.00" not in response.body
    assert all(seen.minimum == "1.6" for seen in shop.second.seen if seen.path == PAGE)
    shop.second.on(PAGE, page(b"12.00", position="1.6", etag='"12.00"'))
    assert (await shop.get(PAGE)).body == b"12.00"
    assert (await shop.get(PAGE)).is_hit


async def test_a_lagging_second_origin_that_catches_up_on_demand_is_shown(shop):
    await shop.origin.stop()
    shop.purge(TAG)
    new = page(b"12.00", position="1.6", etag='"12.00"')
    shop.second.on(PAGE, lambda seen: new if seen.minimum == "1.6" else page(b"10.00"))
    response = await shop.get(PAGE)
    assert (response.status, response.body) == (200, b"12.00")
    assert [seen.minimum for seen in shop.second.seen if seen.path == PAGE] == ["1.5", "1.6"]


async def test_a_change_that_goes_live_while_the_second_origin_answers_is_not_missed(shop):
    shop.origin.on(PAGE, Reply(b"broken", 500))
    with shop.second.holding(PAGE) as held:
        viewer = shop.asking(PAGE)
        await held.arrived()
        shop.purge(TAG)
        shop.second.on(PAGE, page(b"12.00", position="1.6", etag='"12.00"'))
        held.answer(page(b"10.00"))
        assert (await viewer).body == b"12.00"
    assert (await shop.get(PAGE)).body == b"12.00"


async def test_a_fill_of_the_first_origin_that_comes_late_does_not_undo_what_the_second_one_said(shop):
    with shop.origin.holding(PAGE) as held:
        slow = shop.asking(PAGE)
        await held.arrived()
        shop.purge(TAG)
        shop.second.on(PAGE, page(b"12.00", position="1.6", etag='"12.00"'))
        shop.origin.on(PAGE, Reply(b"broken", 500))
        held.answer(page(b"10.00"))
        assert (await slow).body == b"12.00"
    assert (await shop.get(PAGE)).body == b"12.00"


@pytest.mark.parametrize("which", ["first", "second"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_purged_answer_that_is_only_passed_on_is_shown_to_nobody(shop, which, method):
    shop.purge(TAG)
    if which == "second":
        shop.origin.on(CART, Reply(b"broken", 500))
    origin = shop.origin if which == "first" else shop.second
    origin.on(CART, page(b"10.00", cdn="no-store"))
    response = await shop.get(CART, method=method)
    assert (response.status, response.detail) == (503, "below-floor")
    assert b"10.00" not in response.body
    assert origin.last(CART).minimum == "1.6"
    origin.on(CART, page(b"12.00", position="1.6", cdn="no-store"))
    assert (await shop.get(CART, method=method)).status == 200


# -- which origin ------------------------------------------------------------------------------------------------------


async def test_a_route_may_name_its_origin(shop):
    shop.origin.on("/there", Reply(b"here"))
    shop.second.on("/there", Reply(b"there"))
    assert (await shop.get("/there")).body == b"there"
    assert (await shop.get("/there", "Content-Length: 0", method="POST")).body == b"there"
    assert shop.asked("/there") == (0, 2)


async def test_personal_data_goes_where_its_market_lives_and_fails_over_to_nobody_else(shop):
    shop.second.on(ACCOUNT, Reply(b"in Europe"))
    shop.origin.on("/us-usd/account", Reply(b"in America"))
    assert (await shop.get(ACCOUNT, "Content-Length: 0", method="POST")).body == b"in Europe"
    assert (await shop.get("/us-usd/account")).body == b"in America"
    assert (shop.asked(ACCOUNT), shop.asked("/us-usd/account")) == ((0, 1), (1, 0))
    shop.origin.on("/us-usd/account", Reply(b"broken", 500))
    assert (await shop.get("/us-usd/account")).status == 500
    await shop.origin.stop()
    assert (await shop.get("/us-usd/account")).status == 503
    assert shop.second.count("/us-usd/account") == 0


async def test_where_nobody_may_hold_the_data_nobody_gets_it(tmp_path, second):
    nowhere = replace(SECOND, jurisdictions=("ch",))
    async with TwoOrigins(tmp_path, second, policies(FIRST, nowhere)) as shop:
        for method in ("GET", "POST", "DELETE"):
            response = await shop.get(ACCOUNT, "Content-Length: 0", method=method)
            assert (response.status, response.detail) == (503, "residency")
            assert response.headers["cache-control"] == "no-store"
            assert "retry-after" not in response.headers
        assert (await shop.get("/us-usd/account")).status == 404
        assert shop.asked(ACCOUNT) == (0, 0)
        assert [line["reason"] for line in shop.log_lines() if line["cache"] == "edge"] == ["residency"] * 3
        assert "account" not in {line.get("path") for line in shop.log_lines()}


async def test_without_a_market_in_the_path_the_visitors_country_decides(shop):
    """The loopback address belongs to no country, so to the default market, which is American."""
    shop.origin.on("/me", Reply(b"in America"))
    assert (await shop.get("/me", "Cookie: ns_market=eu-eur", "Nearshelf-Country: DE")).body == b"in America"
    assert shop.asked("/me") == (1, 0)


@pytest.mark.parametrize("residency", [Residency.TOKENISE, Residency.SEAL])
async def test_what_needs_a_vault_is_answered_503_while_there_is_none(tmp_path, second, residency):
    routes = [replace(policy, residency=residency) if policy.id == "account" else policy for policy in POLICIES]
    async with TwoOrigins(tmp_path, second, policies(routes=routes)) as shop:
        viewer = await shop.viewer()
        viewer.get(ACCOUNT, shop.host, "Content-Length: 4", method="POST")
        response = await viewer.response()
        assert (response.status, response.detail) == (503, "no-vault")
        assert await viewer.is_closed()
        assert shop.asked(ACCOUNT) == (0, 0)


async def test_a_crowd_that_fails_over_makes_one_forward_request(shop):
    shop.origin.on(PAGE, Reply(b"broken", 500))
    with shop.second.holding(PAGE) as held:
        crowd = [shop.asking(PAGE) for _ in range(20)]
        await held.arrived()
        await shop.has_waiters(20)
        held.answer(page(b"lamp"))
        answers = await asyncio.gather(*crowd)
    assert {answer.body for answer in answers} == {b"lamp"}
    assert shop.asked(PAGE) == (1, 1)
