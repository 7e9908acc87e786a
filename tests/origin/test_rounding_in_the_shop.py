"""The rounding of a currency, wherever a converted price is shown, ordered by, or previewed."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from cache_policies.markets import Rounding, load_markets
from infra.staff import _where_from
from origin.events.messages import CatalogReplaced
from origin.money import Money, MoneyError
from origin.pricing.service import change_price, load_base_prices, prices, remove_price
from origin.settings import OriginSettings
from origin.shop import Shop, open_shop
from tests.support.servers import DatabaseUrls
from tests.support.small_shop import client_of, small_shop, staff_of, token_of

ANNA = "anna@example.com"
MARKETS = replace(load_markets(), rounding=(("EUR", Rounding(ending=99)), ("CAD", Rounding(5)), ("JPY", Rounding(100))))


@pytest.fixture
async def shop(database: DatabaseUrls) -> AsyncIterator[Shop]:
    async with small_shop(database, markets=MARKETS) as shop:
        yield shop


async def price_of(shop: Shop, sku: str, market_id: str) -> tuple[Money, str]:
    market = shop.markets.by_id(market_id)
    assert market is not None
    async with shop.database.writes.connect() as connection:
        price = (await prices(connection, shop.markets, market, [sku]))[sku]
    return price.money, price.source


@pytest.mark.parametrize(
    ("sku", "market", "expected"),
    [
        pytest.param("LAMP-1", "eu-eur", Money(899, "EUR"), id="10.00 USD x 0.86 = 8.60, to end in .99"),
        pytest.param("LAMP-1", "ca-cad", Money(1370, "CAD"), id="13.70 is a multiple of 0.05"),
        pytest.param("LAMP-1-RED", "ca-cad", Money(1505, "CAD"), id="11.00 USD x 1.37 = 15.07, to 0.05"),
        pytest.param("LAMP-1", "jp-jpy", Money(1500, "JPY"), id="1540 to hundreds"),
        pytest.param("LAMP-1", "gb-gbp", Money(750, "GBP"), id="no rounding of its own: half up"),
        pytest.param("LAMP-2", "eu-eur", Money(2500, "EUR"), id="listed in euros: nothing was converted"),
    ],
)
async def test_a_converted_price_is_rounded(shop, sku, market, expected):
    assert await price_of(shop, sku, market) == (expected, "converted")


async def test_a_price_of_its_own_is_never_touched(shop):
    await change_price(shop, ANNA, "LAMP-1", "eu-eur", "12.34")
    assert await price_of(shop, "LAMP-1", "eu-eur") == (Money(1234, "EUR"), "explicit")
    changed = await remove_price(shop, ANNA, "LAMP-1", "eu-eur")
    assert changed.price.money == Money(899, "EUR")
    assert await price_of(shop, "LAMP-1", "eu-eur") == (Money(899, "EUR"), "converted")


async def test_pages_and_json_show_the_rounded_price(shop):
    async with client_of(shop) as client:
        document = (await client.get("/api/v1/eu-eur/prices/LAMP-1")).json()
        assert (document["amount"], document["amount_minor"], document["source"]) == ("8.99", 899, "converted")
        page = (await client.get("/eu-eur/products/lamp-one")).text
        assert "€8.99" in page
        assert "€8.60" not in page
        listing = (await client.get("/eu-eur/c/lighting/lamps")).text
        assert "€8.99" in listing


async def test_a_listing_by_price_orders_by_what_is_shown(shop):
    """8.51 and 8.60 are both shown as 8.99, so their SKUs decide; unrounded, MUG-1 would come first."""
    async with shop.database.unit_of_work(actor="test", cause="prices") as work:
        await load_base_prices(work.connection, [("MUG-1", "USD", 990)])
        work.record(CatalogReplaced())
    async with client_of(shop) as client:
        page = (await client.get("/eu-eur/c/lighting/lamps?sort=price-up")).text
    assert page.count("€8.99") >= 2
    assert page.index("/products/lamp-one") < page.index("/products/mug") < page.index("/products/lamp-two")


async def test_staff_see_the_rounded_price_and_why_it_is_that(shop):
    email = await staff_of(shop, "editor")
    async with client_of(shop) as client:
        answer = await client.get("/api/staff/v1/products/LAMP-1", headers=await token_of(client, email))
    by_market = {price["market"]: price for price in answer.json()["prices"]}
    assert by_market["eu-eur"]["amount"] == "8.99"
    assert by_market["eu-eur"]["rounded"] == "to end in .99"
    assert by_market["gb-gbp"]["rounded"] is None
    assert by_market["us-usd"]["rounded"] is None
    assert _where_from(by_market["eu-eur"]) == "10.00 USD × 0.86, rounded to end in .99"
    assert _where_from(by_market["gb-gbp"]) == "10.00 USD × 0.75"


async def test_a_shop_does_not_open_with_a_rounding_that_makes_no_sense(database):
    settings = OriginSettings(database_url=database.primary, replica_urls=(), edge_key="k" * 20)
    with pytest.raises(MoneyError, match="JPY have no minor units"):
        async with open_shop(settings, markets=replace(MARKETS, rounding=(("JPY", Rounding(ending=80)),))):
            pass
