"""The market and the country are never the client's to choose but by the switcher: 500 requests, over real sockets.

Visitors come from loopback addresses (Linux answers for all of 127.0.0.0/8), whose countries an MMDB of our own knows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cache_policies.markets import load_markets
from edge.core.hops import TrustedHops
from tests.support.edge_shop import EdgeShop
from tests.support.forged_requests import COUNT, VISITORS, ForgedRequest, forged_requests
from tests.support.mmdb import write_mmdb
from tests.support.raw_http import RawResponse, RawViewer
from tests.support.scripted_origin import Seen, page

MARKETS = load_markets()
REQUESTS = forged_requests(MARKETS)
HOP = "127.0.0.1"
"""Who is trusted, where anybody is."""
SECOND_HOP = "10.20.30.40"
AT = {address: f"127.0.7.{number}" for number, address in enumerate(VISITORS, 1)}
"""Loopback addresses of visitors who come without a hop."""
STORED = "/eu-eur/products/lamp"
UNSTORED = "/elsewhere"
PERSONAL = "/eu-eur/cart"
NEVER_THERE = (
    "forwarded",
    "cf-ipcountry",
    "cloudfront-viewer-country",
    "x-real-ip",
    "true-client-ip",
    "x-country-code",
)


def countries(folder: Path) -> Path:
    """A database that knows the visitors at their own addresses and at the loopback ones."""
    known = {address: country for address, country in VISITORS.items() if country != "ZZ"}
    known |= {AT[address]: country for address, country in known.items()}
    return write_mmdb(folder / "countries.mmdb", {address: {"country_code": code} for address, code in known.items()})


def shop_with(folder: Path, *hops: str, country_field: str = "") -> EdgeShop:
    settings: dict[str, Any] = {"mmdb": countries(folder), "trusted_hops": TrustedHops.parse(hops)}
    return EdgeShop(folder, settings=settings | {"country_field": country_field})


Lines = Iterable[tuple[str, str]]


@dataclass
class Through:
    """How requests reach the edge: from which address, and what is made of their lines on the way."""

    source: Callable[[ForgedRequest], str]
    lines: Callable[[ForgedRequest], Lines]
    viewers: dict[str, RawViewer] = field(default_factory=dict)

    async def send(self, shop: EdgeShop, request: ForgedRequest, target: str, *more: str) -> RawResponse:
        source = self.source(request)
        if source not in self.viewers:
            streams = await asyncio.open_connection(*shop.gateway.address, local_addr=(source, 0))
            self.viewers[source] = RawViewer(*streams)
        viewer = self.viewers[source]
        viewer.get(target, shop.host, *(f"{name}: {value}" for name, value in self.lines(request)), *more)
        return await viewer.response()

    def close(self) -> None:
        for viewer in self.viewers.values():
            viewer.writer.transport.abort()


def straight() -> Through:
    return Through(lambda request: AT[request.address], lambda request: request.lines)


def with_address_appended(request: ForgedRequest, *, own_line: bool, chain: bool) -> Lines:
    """What a hop makes of it: the address of whoever spoke to it, behind what is there or on a line of its own."""
    told = f"{request.address}, {SECOND_HOP}" if chain else request.address
    forged = [value for name, value in request.lines if name.lower() == "x-forwarded-for"]
    if own_line:
        return [*request.lines, ("x-forwarded-for", told)]
    kept = [pair for pair in request.lines if pair[0].lower() != "x-forwarded-for"]
    return [*kept, ("X-Forwarded-For", ", ".join([*forged, told]))]


def behind_a_hop(*, chain: bool = False) -> Through:
    return Through(
        lambda _: HOP,
        lambda request: with_address_appended(request, own_line=request.number % 2 == 0, chain=chain),
    )


def behind_a_hop_that_names_the_country(name: str) -> Through:
    """It writes its own field over any client's, as content delivery networks do; nothing where it does not know."""

    def lines(request: ForgedRequest) -> Lines:
        told = with_address_appended(request, own_line=True, chain=False)
        own = [] if request.country == "ZZ" else [(name, request.country)]
        return [*(pair for pair in told if pair[0].lower() != name.lower()), *own]

    return Through(lambda _: HOP, lines)


async def differences(shop: EdgeShop, through: Through, requests: Iterable[ForgedRequest] = REQUESTS) -> list[str]:
    """Everything that was otherwise than the visitor's true address, country and choice of market want it."""
    found: list[str] = []

    def expect(request: ForgedRequest, what: str, is_so: object, should_be: object) -> None:
        if is_so != should_be:
            found.append(f"{request.number}: {what} is {is_so!r}, should be {should_be!r}")

    shop.origin.on(STORED, page(b"lamp", cdn="max-age=300"))
    try:
        for request in requests:
            entry = await through.send(shop, request, request.target)
            expect(request, "status", entry.status, 302)
            expect(request, "market", entry.headers.get("location"), f"/{request.market}/")
            expect(request, "cache-control", entry.headers.get("cache-control"), "no-store")

            target = PERSONAL if request.number % 2 else UNSTORED
            await through.send(shop, request, target)
            seen = shop.origin.seen[-1]
            expect(request, "target", seen.path, target)
            expect(request, "country", lines_of(seen, "nearshelf-country"), [request.country])
            expect(request, "address", lines_of(seen, "x-forwarded-for"), [told_address(through, request)])
            expect(request, "forged fields", forged_in(seen, request), [])

            stored = await through.send(shop, request, STORED)
            expect(request, "stored page", (stored.status, stored.body), (200, b"lamp"))
    finally:
        through.close()
    fills = [seen for seen in shop.origin.seen if seen.path == STORED]
    assert len(fills) == 1, "no field of a client makes another key"
    assert not {"nearshelf-country", "x-forwarded-for"} & set(fills[0].headers)
    return found


def told_address(through: Through, request: ForgedRequest) -> str:
    source = through.source(request)
    return request.address if source == HOP else source


def lines_of(seen: Seen, name: str) -> list[str]:
    return [value for key, value in seen.pairs if key == name]


def forged_in(seen: Seen, request: ForgedRequest) -> list[str]:
    """Fields of the client that came through, but for those that an application may want to read."""
    wanted = {"cookie", "user-agent", "accept-language", "x-forwarded-for", "nearshelf-country", "via"}
    sent = {name.lower() for name, _ in request.lines} | set(NEVER_THERE)
    return sorted((sent - wanted) & set(seen.headers))


# -- the requests themselves -------------------------------------------------------------------------------------------


def test_they_are_500_the_same_each_time_and_claim_what_is_not_so():
    assert len(REQUESTS) == COUNT == 500
    assert forged_requests(MARKETS) == REQUESTS
    assert {request.address for request in REQUESTS} == set(VISITORS)
    assert {request.market for request in REQUESTS} == {market.id for market in MARKETS.all}
    misled = [
        request
        for request in REQUESTS
        if any(MARKETS.for_country(country).id != request.market for country in request.claimed)
    ]
    assert len(misled) > 450
    names = {name.lower() for request in REQUESTS for name, _ in request.lines}
    assert {"x-forwarded-for", *NEVER_THERE} <= names
    assert 80 < sum(bool(request.switched) for request in REQUESTS) < 170


# -- no hop is trusted -------------------------------------------------------------------------------------------------


async def test_straight_from_the_visitor(tmp_path):
    async with shop_with(tmp_path) as shop:
        assert await differences(shop, straight()) == []
        assert len(shop.origin.seen) == COUNT + 1


async def test_a_hop_that_nobody_trusts_is_the_visitor(tmp_path):
    """Its address is all that is known, and no database knows it: everybody is led by cookie or to the default."""
    async with shop_with(tmp_path) as shop:
        through = behind_a_hop()
        for request in REQUESTS:
            entry = await through.send(shop, request, "/")
            assert entry.headers["location"] == f"/{request.switched or MARKETS.default}/"
        through.close()


# -- trusted hops ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chain", [False, True], ids=["one hop", "a chain of hops"])
async def test_behind_a_trusted_hop(tmp_path, chain):
    async with shop_with(tmp_path, f"{HOP}/32", "10.0.0.0/8") as shop:
        assert await differences(shop, behind_a_hop(chain=chain)) == []
        assert len(shop.origin.seen) == COUNT + 1


async def test_past_the_trusted_hop_straight_to_the_edge(tmp_path):
    async with shop_with(tmp_path, f"{HOP}/32", "10.0.0.0/8") as shop:
        assert await differences(shop, straight()) == []


@pytest.mark.parametrize("name", ["CloudFront-Viewer-Country", "CF-IPCountry", "Nearshelf-Country"])
async def test_behind_a_hop_that_names_the_country(tmp_path, name):
    async with shop_with(tmp_path, f"{HOP}/32", country_field=name.lower()) as shop:
        assert await differences(shop, behind_a_hop_that_names_the_country(name), REQUESTS[:200]) == []
        assert await differences_past_it(shop) == []


async def differences_past_it(shop: EdgeShop) -> list[str]:
    """The entry page alone, for clients that know the field and come past the hop."""
    through = straight()
    found = []
    for request in REQUESTS:
        entry = await through.send(shop, request, "/", f"{shop.gateway.settings.country_field}: JP")
        if entry.headers["location"] != f"/{request.market}/":
            found.append(f"{request.number}: {entry.headers['location']}")
    through.close()
    return found


# -- that these tests can fail -----------------------------------------------------------------------------------------


async def test_a_trusted_hops_word_does_change_the_market(tmp_path):
    async with shop_with(tmp_path, f"{HOP}/32") as shop:
        for address, country in VISITORS.items():
            entry = await shop.get("/", f"X-Forwarded-For: {address}")
            assert entry.headers["location"] == f"/{MARKETS.for_country(country).id}/"
    async with shop_with(tmp_path, f"{HOP}/32", country_field="cf-ipcountry") as shop:
        assert (await shop.get("/", "CF-IPCountry: JP")).headers["location"] == "/jp-jpy/"


async def test_an_edge_that_trusts_its_visitors_is_found_out(tmp_path):
    """With the visitors themselves among the hops, what they write counts, and the same check counts the damage."""
    async with shop_with(tmp_path, "127.0.0.0/8") as shop:
        found = await differences(shop, straight())
    markets = [each for each in found if ": market is" in each]
    addresses = [each for each in found if ": address is" in each]
    assert len(markets) > 50
    assert len(addresses) > 200


# -- the switcher ------------------------------------------------------------------------------------------------------


async def test_the_switcher_wins_over_geography_and_adds_no_keys(tmp_path):
    async with shop_with(tmp_path) as shop:
        for market in MARKETS.all:
            for path in (f"/{market.id}/", f"/{market.id}/products/lamp"):
                shop.origin.on(path, page(path.encode(), tags=f"h:{market.id}", cdn="max-age=300"))
        through = Through(lambda request: AT[request.address], lambda _: ())
        for request in REQUESTS[:100]:
            for choice in ("", *(market.id for market in MARKETS.all)):
                cookie = [f"Cookie: ns_market={choice}"] if choice else []
                entry = await through.send(shop, request, "/", *cookie)
                led_to = entry.headers["location"]
                assert led_to == f"/{choice or MARKETS.for_country(request.country).id}/"
                for path in (led_to, f"{led_to}products/lamp"):
                    shown = await through.send(shop, request, path, *cookie)
                    assert shown.body == path.encode()
        through.close()
        keys = set(shop.gateway.store._entries)
        assert {tuple(key) for key in keys} == {
            (shop.host, path, (), market.id)
            for market in MARKETS.all
            for path in (f"/{market.id}/", f"/{market.id}/products/lamp")
        }
        assert len(shop.origin.seen) == len(keys) == 12
