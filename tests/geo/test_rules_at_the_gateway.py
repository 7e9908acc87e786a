"""Closed countries, throttles, Authorization and the tags of policies, at a gateway over real sockets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from cache_policies.markets import PACKAGED_POLICIES, load_markets
from edge.core.hops import TrustedHops
from edge.core.policy import ALL_QUERY, Auth, CachePolicy, DataClass, PolicySet, Redirect, Throttle
from edge.core.request_rules import CHALLENGE
from edge.core.throttle import Throttles
from edge.gateway.settings import Address
from edge.gateway.visitors import Visitors
from tests.support.edge_shop import EdgeShop
from tests.support.mmdb import write_mmdb
from tests.support.raw_http import RawResponse, RawViewer
from tests.support.scripted_origin import Reply, page

GERMAN, KOREAN, FRENCH, NOWHERE = "127.0.8.1", "127.0.8.2", "127.0.8.3", "127.0.8.4"
HOP = "127.0.0.1"
PAGE = CachePolicy("page", "/{market}/products/{slug}", fresh_s=300.0, max_fresh_s=300.0, keep_s=60.0)
ENTRY = CachePolicy("entry", "/", store=False, methods=(), forward_methods=("GET",), redirect=Redirect.MARKET)
CLOSED = replace(
    PAGE, id="closed", path="/{market}/closed/{slug}", forward_methods=("GET",), blocked_countries=("KP", "SY")
)
THROTTLED = replace(PAGE, id="throttled", path="/{market}/throttled/{slug}", throttle=Throttle(2.0, 3))
TAGGED = replace(PAGE, id="tagged", path="/{market}/tagged/{slug}", tags=("page:tagged", "g:{market}:{slug}"))
OPTIONAL = replace(PAGE, id="optional", path="/{market}/optional/{slug}", auth=Auth.OPTIONAL)
PRICE = replace(OPTIONAL, id="price", path="/{market}/prices/{slug}", shows_price=True)
REQUIRED = CachePolicy(
    "required", "/members", store=False, auth=Auth.REQUIRED, throttle=Throttle(1.0, 2), blocked_countries=("KP",)
)
REFUSED = CachePolicy("refused", "/closed-404", store=False, refuse_status=404, blocked_countries=("KP",))
CART = CachePolicy("cart", "/{market}/cart", DataClass.PERSONAL, store=False, cookies=True, query=ALL_QUERY)
REST = CachePolicy("rest", "/{rest...}", store=False, query=ALL_QUERY, auth=Auth.OPTIONAL)
POLICIES = (
    ENTRY, PAGE, CLOSED, THROTTLED, TAGGED, OPTIONAL, PRICE, REQUIRED, REFUSED, CART, REST,
)  # fmt: skip


def shop_of(folder: Path, *policies: CachePolicy, **settings: Any) -> EdgeShop:
    known = {GERMAN: {"country_code": "DE"}, KOREAN: {"country_code": "KP"}, "203.0.113.7": {"country_code": "KP"}}
    mmdb = write_mmdb(folder / "countries.mmdb", known)
    rules = PolicySet(policies or POLICIES, load_markets())
    return EdgeShop(folder, policies=rules, settings={"mmdb": mmdb} | settings)


@pytest_asyncio.fixture
async def shop(tmp_path: Path) -> AsyncIterator[EdgeShop]:
    async with shop_of(tmp_path) as shop:
        yield shop


async def get(shop: EdgeShop, source: str, target: str, *lines: str, method: str = "GET") -> RawResponse:
    """One request from a loopback address of the visitor's own."""
    viewer = RawViewer(*await asyncio.open_connection(*shop.gateway.address, local_addr=(source, 0)))
    async with viewer:
        viewer.get(target, shop.host, *lines, method=method)
        return await viewer.response(to=method)


# -- closed countries --------------------------------------------------------------------------------------------------

LAMP = "/eu-eur/closed/lamp"


async def test_a_closed_country_is_answered_451_and_nobody_else(shop):
    shop.origin.on(LAMP, page())
    refused = await get(shop, KOREAN, LAMP)
    assert (refused.status, refused.detail) == (451, "country-blocked")
    assert refused.headers["cache-control"] == "no-store"
    assert refused.headers["content-type"] == "text/html; charset=utf-8"
    assert b"not available in your country" in refused.body
    assert b"Try again" not in refused.body
    assert "link" not in refused.headers
    assert shop.origin.seen == []
    assert (await get(shop, GERMAN, LAMP)).status == 200
    assert (await get(shop, NOWHERE, LAMP)).is_hit, "an unknown country is served"


async def test_also_where_the_page_is_in_the_store(shop):
    shop.origin.on(LAMP, page())
    await get(shop, GERMAN, LAMP)
    for method, line in (("GET", "Accept: */*"), ("GET", 'If-None-Match: "v1"'), ("HEAD", "Accept: */*")):
        assert (await get(shop, KOREAN, LAMP, line, method=method)).status == 451
        assert (await get(shop, GERMAN, LAMP, line, method=method)).is_hit
    assert shop.gateway.store.stats().responses == 1
    assert shop.origin.count(LAMP) == 1


async def test_the_connection_stays_open_and_the_next_page_is_another_matter(shop):
    shop.origin.on("/eu-eur/products/lamp", page())
    viewer = RawViewer(*await asyncio.open_connection(*shop.gateway.address, local_addr=(KOREAN, 0)))
    async with viewer:
        for target, status in ((LAMP, 451), ("/eu-eur/products/lamp", 200), (LAMP, 451)):
            viewer.get(target, shop.host)
            assert (await viewer.response()).status == status


@pytest.mark.parametrize(
    ("target", "method", "status"),
    [
        pytest.param("/eu-eur/closed/%2e%2e", "GET", 400, id="behind the check of the target"),
        pytest.param(LAMP, "POST", 451, id="before the method"),
        pytest.param("/closed-404", "GET", 451, id="before what nobody may see"),
        pytest.param("/members", "GET", 451, id="before 401"),
    ],
)
async def test_what_comes_first(shop, target, method, status):
    assert (await get(shop, KOREAN, target, method=method)).status == status


async def test_a_program_is_told_in_json(tmp_path):
    api = replace(PAGE, id="api", path="/api/v1/{market}/prices/{sku}", blocked_countries=("KP",))
    async with shop_of(tmp_path, api, REST) as shop:
        refused = await get(shop, KOREAN, "/api/v1/eu-eur/prices/LAMP")
    assert (refused.status, refused.headers["content-type"]) == (451, "application/problem+json")
    assert b'"status":451' in refused.body


async def test_no_field_of_a_client_opens_or_closes_a_country(shop):
    shop.origin.on(LAMP, page())
    for name in ("X-Forwarded-For", "Forwarded", "CF-IPCountry", "CloudFront-Viewer-Country", "Nearshelf-Country"):
        assert (await get(shop, KOREAN, LAMP, f"{name}: DE", "X-Forwarded-For: 127.0.8.1")).status == 451
        assert (await get(shop, GERMAN, LAMP, f"{name}: KP", "X-Forwarded-For: 203.0.113.7")).status == 200


async def test_behind_a_trusted_hop_each_request_of_a_connection_is_looked_at(tmp_path):
    async with shop_of(tmp_path, trusted_hops=TrustedHops.parse([HOP])) as shop:
        shop.origin.on(LAMP, page())
        viewer = await shop.viewer()
        for client, status in ((GERMAN, 200), ("203.0.113.7", 451), (GERMAN, 200), (KOREAN, 451), ("unknown", 200)):
            viewer.get(LAMP, shop.host, f"X-Forwarded-For: {client}")
            assert (await viewer.response()).status == status


async def test_a_dual_stack_listener_sees_the_same_visitors(tmp_path):
    try:
        socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True).close()
    except (OSError, ValueError) as exc:
        pytest.skip(f"no dual stack here: {exc}")
    async with shop_of(tmp_path, listen=Address("::", 0)) as shop:
        shop.origin.on(LAMP, page())
        for source, status in ((GERMAN, 200), (KOREAN, 451)):
            streams = await asyncio.open_connection("127.0.0.1", shop.gateway.address[1], local_addr=(source, 0))
            async with RawViewer(*streams) as viewer:
                viewer.get(LAMP, shop.host)
                assert (await viewer.response()).status == status
                viewer.get("/eu-eur/cart", shop.host)
                await viewer.response()
        assert [seen.headers["x-forwarded-for"] for seen in shop.origin.seen[1:]] == [GERMAN, KOREAN]


async def test_countries_closed_for_the_whole_shop_but_for_a_route_that_says_otherwise(tmp_path):
    folder = tmp_path / "policies"
    folder.mkdir()
    markets = (PACKAGED_POLICIES / "markets.yaml").read_text()
    (folder / "markets.yaml").write_text(f"blocked: [KP]\n{markets}")
    (folder / "default.yaml").write_text(
        "routes:\n"
        "  about:\n    path: /about\n    store: false\n    blocked_countries: []\n"
        "  press:\n    path: /press\n    store: false\n    blocked_countries: [FR]\n"
        "  default:\n    path: /{rest...}\n    store: false\n"
    )
    mmdb = write_mmdb(tmp_path / "a.mmdb", {FRENCH: {"country_code": "FR"}, KOREAN: {"country_code": "KP"}})
    async with EdgeShop(tmp_path, policies=folder, settings={"mmdb": mmdb}) as shop:
        for target, french, korean in (("/about", 404, 404), ("/press", 451, 404), ("/other", 404, 451)):
            assert (await get(shop, FRENCH, target)).status == french
            assert (await get(shop, KOREAN, target)).status == korean


# -- throttles ---------------------------------------------------------------------------------------------------------

OFTEN = "/eu-eur/throttled/lamp"


async def test_who_asks_too_often_is_told_when_to_come_back_hits_included(shop):
    shop.origin.on(OFTEN, page())
    answers = [await get(shop, GERMAN, OFTEN) for _ in range(4)]
    assert [answer.status for answer in answers] == [200, 200, 200, 429]
    assert [answer.is_hit for answer in answers] == [False, True, True, False]
    refused = answers[-1]
    assert (refused.detail, refused.headers["retry-after"]) == ("throttled", "1")
    assert refused.headers["cache-control"] == "no-store"
    assert (await get(shop, NOWHERE, OFTEN)).status == 200
    shop.later(0.5)
    assert [(await get(shop, GERMAN, OFTEN)).status for _ in range(2)] == [200, 429]
    shop.later(60)
    assert [(await get(shop, GERMAN, OFTEN)).status for _ in range(4)] == [200, 200, 200, 429]


async def test_every_way_to_an_answer_is_counted_once(shop):
    shop.origin.on(OFTEN, page())
    ways = (("GET", "Accept: */*"), ("HEAD", "Accept: */*"), ("GET", 'If-None-Match: "v1"'), ("GET", "Accept: */*"))
    statuses = [(await get(shop, GERMAN, OFTEN, line, method=method)).status for method, line in ways]
    assert statuses == [200, 200, 304, 429]
    assert (await get(shop, GERMAN, OFTEN, method="POST")).status == 429
    shop.later(301)
    # Stale or gone by now: the long way to the origin, which is not counted twice either.
    assert [(await get(shop, GERMAN, OFTEN)).status for _ in range(4)] == [200, 200, 200, 429]


async def test_a_changed_throttle_holds_at_once_and_begins_with_full_buckets(tmp_path):
    """Under the old one this client would have to wait for an hour."""
    hourly = replace(THROTTLED, throttle=Throttle(1 / 3600, 1))
    async with shop_of(tmp_path, hourly, REST) as shop:
        shop.origin.on(OFTEN, page())
        assert [(await get(shop, GERMAN, OFTEN)).status for _ in range(2)] == [200, 429]
        assert shop.gateway._use(PolicySet((THROTTLED, REST), load_markets())) == ()
        assert [(await get(shop, GERMAN, OFTEN)).status for _ in range(4)] == [200, 200, 200, 429]


async def test_routes_are_counted_apart(shop):
    shop.origin.on(OFTEN, page())
    shop.origin.on("/eu-eur/products/lamp", page())
    assert [(await get(shop, GERMAN, OFTEN)).status for _ in range(4)] == [200, 200, 200, 429]
    assert (await get(shop, GERMAN, "/members", "Authorization: Bearer x")).status == 404
    assert [(await get(shop, GERMAN, "/eu-eur/products/lamp")).status for _ in range(9)] == [200] * 9


async def test_a_route_that_asks_for_neither_pays_for_neither(shop, monkeypatch):
    asked: list[str] = []

    def noted(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def note(*args: Any) -> Any:
            asked.append(name)
            return method(*args)

        return note

    monkeypatch.setattr(Visitors, "of", noted("visitor", Visitors.of))
    monkeypatch.setattr(Throttles, "wait_s", noted("throttle", Throttles.wait_s))
    for target in ("/eu-eur/products/lamp", OFTEN):
        shop.origin.on(target, page())
        await get(shop, GERMAN, target)
    asked.clear()
    for method, line in (("GET", "Accept: */*"), ("HEAD", "Accept: */*"), ("GET", 'If-None-Match: "v1"')):
        assert (await get(shop, GERMAN, "/eu-eur/products/lamp", line, method=method)).is_hit
    assert asked == []
    assert (await get(shop, GERMAN, OFTEN)).is_hit
    assert asked == ["visitor", "throttle"]


async def test_whoever_guesses_at_credentials_is_counted_too(shop):
    assert [(await get(shop, GERMAN, "/members")).status for _ in range(3)] == [401, 401, 429]


async def test_clients_behind_a_hop_are_counted_by_their_own_address_and_ipv6_by_its_64(tmp_path):
    async with shop_of(tmp_path, trusted_hops=TrustedHops.parse([HOP])) as shop:
        shop.origin.on(OFTEN, page())

        async def statuses(*clients: str) -> list[int]:
            return [(await shop.get(OFTEN, f"X-Forwarded-For: {client}")).status for client in clients]

        assert await statuses(*["192.0.2.1"] * 4, "192.0.2.2") == [200, 200, 200, 429, 200]
        assert await statuses(*[f"2001:db8::{number}" for number in range(4)]) == [200, 200, 200, 429]
        assert await statuses("2001:db8:0:1::1") == [200]
        assert await statuses("6.6.6.6, 192.0.2.1", "[2001:db8::ffff]:443") == [429, 429]
        # A hop that does not say who asks is counted itself: nobody gets round a throttle by being unreadable.
        assert await statuses("unknown", "", "_x", "unknown") == [200, 200, 200, 429]


# -- authorization -----------------------------------------------------------------------------------------------------

MINE = "/eu-eur/optional/lamp"


async def test_required_is_asked_for_by_the_edge_itself(shop):
    refused = await get(shop, GERMAN, "/members")
    assert (refused.status, refused.detail) == (401, "authorization-missing")
    assert refused.headers["www-authenticate"] == CHALLENGE
    assert refused.headers["cache-control"] == "no-store"
    assert shop.origin.seen == []
    shop.origin.on("/members", Reply(b"members"))
    assert (await get(shop, GERMAN, "/members", "Authorization: Bearer x")).body == b"members"
    assert shop.origin.last("/members").headers["authorization"] == "Bearer x"


async def test_optional_goes_past_the_store_both_ways(shop):
    shop.origin.on(
        MINE, lambda seen: page(seen.headers.get("authorization", "for all").encode(), cdn="public, max-age=300")
    )
    mine = await get(shop, GERMAN, MINE, "Authorization: Bearer me", "Accept-Language: de", "X-Forwarded-For: 6.6.6.6")
    assert (mine.body, mine.detail) == (b"Bearer me", "authorization")
    assert shop.gateway.store.stats().responses == 0
    sent = shop.origin.last(MINE).headers
    assert not {"accept-language", "x-forwarded-for", "nearshelf-country", "user-agent"} & set(sent)
    assert sent["min-catalog-version"] == "1.5"
    assert (await get(shop, GERMAN, MINE)).body == b"for all"
    assert (await get(shop, GERMAN, MINE)).is_hit
    again = await get(shop, GERMAN, MINE, "Authorization: Bearer you")
    assert (again.body, again.is_hit) == (b"Bearer you", False)
    assert (await get(shop, GERMAN, MINE)).body == b"for all"
    assert "fwd=bypass" in again.cache_status


async def test_what_passed_the_store_still_answers_conditions_and_head(shop):
    shop.origin.on(MINE, page(b"mine"))
    whole = await get(shop, GERMAN, MINE, "Authorization: Bearer me", 'If-None-Match: "v1"')
    assert (whole.status, whole.body) == (304, b"")
    head = await get(shop, GERMAN, MINE, "Authorization: Bearer me", method="HEAD")
    assert (head.status, head.body, shop.origin.last(MINE).method) == (200, b"", "HEAD")


async def test_a_price_past_the_store_is_as_new_as_the_log_and_past_the_lease_as_new_as_the_head(shop):
    price = "/eu-eur/prices/lamp"
    shop.origin.on(price, page(b"12.00"))
    shop.purge("p:eu-eur:lamp")
    await get(shop, GERMAN, price, "Authorization: Bearer me")
    assert shop.origin.last(price).minimum == "1.6"
    shop.later(10, lease=False)
    await get(shop, GERMAN, price, "Authorization: Bearer me")
    assert shop.origin.last(price).minimum == "head"


async def test_none_takes_it_off_and_answers_from_the_store(shop):
    target = "/eu-eur/products/lamp"
    shop.origin.on(target, page())
    await get(shop, GERMAN, target, "Authorization: Bearer me")
    assert "authorization" not in shop.origin.last(target).headers
    assert (await get(shop, GERMAN, target, "Authorization: Bearer you")).is_hit
    await get(shop, GERMAN, "/eu-eur/cart", "Authorization: Bearer me")
    assert "authorization" not in shop.origin.last("/eu-eur/cart").headers


# -- tags of policies --------------------------------------------------------------------------------------------------

TAGGED_LAMP = "/eu-eur/tagged/L%C3%84MP"


@pytest.mark.parametrize("tag", ["page:tagged", "g:eu-eur:l%c3%a4mp", "p:eu-eur:sku-1"])
async def test_a_purge_by_any_of_the_tags_ends_the_page(shop, tag):
    shop.origin.on(TAGGED_LAMP, page(b"old"))
    await get(shop, GERMAN, TAGGED_LAMP)
    assert (await get(shop, GERMAN, TAGGED_LAMP)).is_hit
    shop.purge("g:us-usd:l%c3%a4mp", "page:other")
    assert (await get(shop, GERMAN, TAGGED_LAMP)).is_hit
    position = shop.purge(tag)
    shop.origin.on(TAGGED_LAMP, page(b"new", position=str(position), etag='"v2"'))
    shown = await get(shop, GERMAN, TAGGED_LAMP)
    assert (shown.body, shown.detail) == (b"new", "purged-hard")


async def test_an_answer_without_tags_of_its_own_is_kept_under_those_of_the_policy(shop):
    shop.origin.on(TAGGED_LAMP, page(tags=""))
    await get(shop, GERMAN, TAGGED_LAMP)
    assert (await get(shop, GERMAN, TAGGED_LAMP)).is_hit
    (kept,) = shop.gateway.store.get(next(iter(shop.gateway.store._entries)))
    assert kept.tags == ("page:tagged", "g:eu-eur:l%c3%a4mp", "path:/eu-eur/tagged/l%c3%84mp")
    shown = await get(shop, GERMAN, TAGGED_LAMP)
    assert "cache-tag" not in shown.headers


async def test_an_answer_below_the_floor_of_a_policys_tag_is_asked_for_again(shop):
    position = shop.purge("page:tagged")
    old, new = page(b"old", tags=""), page(b"new", tags="", position=str(position))
    shop.origin.on(TAGGED_LAMP, lambda seen: new if seen.minimum == str(position) else old)
    assert (await get(shop, GERMAN, TAGGED_LAMP)).body == b"new"
    assert [seen.minimum for seen in shop.origin.seen] == ["1.5", str(position)]
