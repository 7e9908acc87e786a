"""Prices: where they come from, changing them, and what each change leaves behind."""

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from cache_policies.positions import PurgeKind
from origin.accounts import audit
from origin.events.entries import entry_at
from origin.events.messages import CatalogReplaced
from origin.money import Money
from origin.pricing.model import (
    AmountRefused,
    NoOwnPrice,
    NothingToFallBackOn,
    PriceVersionConflict,
    UnknownMarket,
    UnknownSku,
)
from origin.pricing.service import (
    change_price,
    ensure_rates,
    load_base_prices,
    load_prices,
    market_of,
    price_facts,
    prices,
    remove_price,
    set_rate,
)
from origin.shop import Shop
from tests.support.origin import until
from tests.support.servers import DatabaseUrls
from tests.support.small_shop import client_of, small_shop

ANNA = "anna@example.com"


@pytest.fixture
async def shop(database: DatabaseUrls) -> AsyncIterator[Shop]:
    async with small_shop(database) as shop:
        yield shop


async def price_of(shop: Shop, sku: str, market: str):
    async with shop.database.writes.connect() as connection:
        return (await prices(connection, shop.markets, market_of(shop.markets, market), [sku])).get(sku)


async def last_audit(shop: Shop):
    async with shop.database.writes.connect() as connection:
        return (await audit.entries(connection, limit=1))[0]


async def purge_at(shop: Shop, position):
    async with shop.database.writes.connect() as connection:
        logged = await entry_at(connection, position)
    assert logged is not None
    return logged.entry


@pytest.mark.parametrize(
    ("sku", "market", "minor_units"),
    [
        pytest.param("LAMP-1", "us-usd", 1000, id="the base currency itself"),
        pytest.param("LAMP-1", "eu-eur", 860, id="by a rate"),
        pytest.param("LAMP-1", "jp-jpy", 1540, id="into a currency without minor units"),
        pytest.param("LAMP-1-RED", "us-usd", 1100, id="of a variant"),
        pytest.param("LAMP-2", "eu-eur", 2500, id="listed in euros"),
        pytest.param("LAMP-2", "us-usd", 2907, id="euros to dollars, half up"),
    ],
)
async def test_without_a_price_of_its_own_a_market_shows_the_base_price_converted(shop, sku, market, minor_units):
    price = await price_of(shop, sku, market)
    assert (price.money.minor_units, price.source, price.version) == (minor_units, "converted", 0)


async def test_without_a_base_price_there_is_no_price(shop):
    assert await price_of(shop, "MUG-1", "us-usd") is None
    assert await price_of(shop, "NOBODY", "us-usd") is None


async def test_a_changed_price_is_shown_purged_and_written_down(shop):
    changed = await change_price(shop, ANNA, "LAMP-1", "eu-eur", "12.00", reason="autumn sale")
    price = await price_of(shop, "LAMP-1", "eu-eur")
    assert (price.money, price.source, price.version) == (Money(1200, "EUR"), "explicit", 1)
    assert changed.price == price
    assert (await price_of(shop, "LAMP-1", "us-usd")).money == Money(1000, "USD")

    purge = await purge_at(shop, changed.position)
    assert purge.kind is PurgeKind.HARD
    assert purge.id == changed.purge_id
    assert {"p:eu-eur:lamp-1", "cp:eu-eur:lighting", "cp:eu-eur:lighting%2flamps", "many:eu-eur"} <= set(purge.tags)
    assert not any(":us-usd" in tag for tag in purge.tags)

    entry = await last_audit(shop)
    assert (entry.actor, entry.action, entry.subject) == (ANNA, "price.set", "eu-eur/LAMP-1")
    assert (entry.before["amount"], entry.after["amount"]) == ("8.60", "12.00")
    assert (entry.reason, entry.purge_id) == ("autumn sale", changed.purge_id)


async def test_a_variant_s_price_purges_its_product(shop):
    changed = await change_price(shop, ANNA, "LAMP-1-RED", "eu-eur", "13.00")
    assert "p:eu-eur:lamp-1" in (await purge_at(shop, changed.position)).tags
    assert (await price_of(shop, "LAMP-1", "eu-eur")).source == "converted"


@pytest.mark.parametrize(
    "move",
    [
        pytest.param(
            (
                "UPDATE catalog.product SET version = version + 1 WHERE sku = 'LAMP-1'",
                (
                    "UPDATE catalog.product_category AS m SET category_id = c.id"
                    " FROM catalog.category AS c, catalog.product AS p"
                    " WHERE c.path = 'lighting' AND p.sku = 'LAMP-1' AND m.product_id = p.id"
                ),
                "UPDATE catalog.category SET path = 'moved' WHERE path = 'lighting'",
            ),
            id="the product",
        ),
        pytest.param(("UPDATE catalog.category SET path = 'moved' WHERE path = 'lighting/lamps'",), id="its category"),
    ],
)
async def test_a_price_changed_during_an_import_that_moves_its_product_purges_the_new_place(shop, move):
    """A page of the new place, stored between the two commits, must not keep its old order by price."""
    waiting = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
    async with shop.database.unit_of_work(actor="import", cause="import") as work:
        for statement in move:
            await work.connection.execute(text(statement))
        work.record(CatalogReplaced())
        change = asyncio.create_task(change_price(shop, ANNA, "LAMP-1", "eu-eur", "12.00"))
        async with shop.database.log.connect() as connection:

            async def it_waits() -> bool:
                return change.done() or bool(await connection.scalar(waiting))

            await until(it_waits, 10.0, "a change that waits for the import")
    purge = await purge_at(shop, (await change).position)
    assert "cp:eu-eur:moved" in purge.tags


async def test_a_removed_price_goes_back_to_the_converted_one_and_keeps_counting(shop):
    await change_price(shop, ANNA, "LAMP-1", "eu-eur", "12.00")
    changed = await remove_price(shop, ANNA, "LAMP-1", "eu-eur")
    assert (changed.price.money.minor_units, changed.price.source, changed.price.version) == (860, "converted", 2)
    assert (await last_audit(shop)).action == "price.remove"
    again = await change_price(shop, ANNA, "LAMP-1", "eu-eur", "12.00")
    assert again.price.version == 3


async def test_two_editors_the_second_is_refused_and_sees_both_values(shop):
    await change_price(shop, ANNA, "LAMP-1", "eu-eur", "12.00", expected_version=0)
    with pytest.raises(PriceVersionConflict) as refused:
        await change_price(shop, "ben@example.com", "LAMP-1", "eu-eur", "11.00", expected_version=0)
    assert "12.00 EUR" in str(refused.value)
    assert "11.00 EUR" in str(refused.value)
    assert ANNA in str(refused.value)
    assert (await price_of(shop, "LAMP-1", "eu-eur")).money.minor_units == 1200


async def test_of_editors_at_the_same_moment_one_wins(shop):
    outcomes = await asyncio.gather(
        *(change_price(shop, ANNA, "LAMP-1", "eu-eur", f"{n}.00", expected_version=0) for n in range(1, 6)),
        return_exceptions=True,
    )
    assert sum(isinstance(outcome, PriceVersionConflict) for outcome in outcomes) == 4
    assert (await price_of(shop, "LAMP-1", "eu-eur")).version == 1


@pytest.mark.parametrize(
    ("sku", "market", "amount", "refusal"),
    [
        ("LAMP-1", "eu-eur", "12,00", AmountRefused),
        ("LAMP-1", "jp-jpy", "12.00", AmountRefused),
        ("LAMP-1", "eu-eur", "-1", AmountRefused),
        ("LAMP-1", "xx-xxx", "12.00", UnknownMarket),
        ("LAMP-9", "eu-eur", "12.00", UnknownSku),
    ],
)
async def test_what_cannot_be_is_refused_and_leaves_nothing_behind(shop, sku, market, amount, refusal):
    async with shop.database.writes.connect() as connection:
        before = (await connection.execute(text("SELECT epoch, cv FROM events.clock"))).one()
    with pytest.raises(refusal):
        await change_price(shop, ANNA, sku, market, amount)
    async with shop.database.writes.connect() as connection:
        assert (await connection.execute(text("SELECT epoch, cv FROM events.clock"))).one() == before
        assert not await audit.entries(connection)
        assert await connection.scalar(text("SELECT count(*) FROM pricing.price")) == 0


async def test_an_unknown_sku_is_refused_with_what_may_have_been_meant(shop):
    with pytest.raises(UnknownSku, match="did you mean LAMP-1 or LAMP-2"):
        await change_price(shop, ANNA, "LAMP-", "eu-eur", "12.00")


async def test_an_unknown_market_is_refused_with_the_known_ones(shop):
    with pytest.raises(UnknownMarket, match="eu-eur"):
        await change_price(shop, ANNA, "LAMP-1", "eu-usd", "12.00")


async def test_a_price_that_is_not_there_cannot_be_removed(shop):
    with pytest.raises(NoOwnPrice):
        await remove_price(shop, ANNA, "LAMP-1", "eu-eur")


async def test_the_last_price_cannot_be_removed(shop):
    await change_price(shop, ANNA, "MUG-1", "eu-eur", "7.00")
    with pytest.raises(NothingToFallBackOn, match="no base price"):
        await remove_price(shop, ANNA, "MUG-1", "eu-eur")
    assert (await price_of(shop, "MUG-1", "eu-eur")).money.minor_units == 700


async def test_a_rate_moves_the_converted_prices_of_its_markets_only(shop):
    await change_price(shop, ANNA, "LAMP-1", "eu-eur", "12.00")
    done = await set_rate(shop, ANNA, "USD", "EUR", "0.5", "new rate")
    assert done.markets == ("eu-eur",)
    assert (await price_of(shop, "LAMP-1", "eu-eur")).money.minor_units == 1200
    assert (await price_of(shop, "LAMP-1-RED", "eu-eur")).money.minor_units == 550
    assert (await price_of(shop, "LAMP-2", "eu-eur")).money.minor_units == 2500
    purge = await purge_at(shop, done.position)
    assert (purge.kind, set(purge.tags)) == (PurgeKind.HARD, {"rates:eu-eur", "many:eu-eur"})
    entry = await last_audit(shop)
    assert (entry.action, entry.subject, entry.before, entry.after) == (
        "rate.set",
        "USD/EUR",
        {"rate": "0.86"},
        {"rate": "0.5"},
    )


@pytest.mark.parametrize(
    ("base", "quote", "rate", "why"),
    [
        ("USD", "USD", "1", "itself"),
        ("USD", "KWD", "0.3", "no market sells in KWD"),
        ("ABC", "EUR", "1", "unknown currency"),
        ("USD", "EUR", "0", "above zero"),
        ("USD", "EUR", "1e3", "not a rate"),
    ],
)
async def test_a_rate_that_cannot_be_used_is_refused(shop, base, quote, rate, why):
    with pytest.raises(AmountRefused, match=why):
        await set_rate(shop, ANNA, base, quote, rate)


async def test_rates_that_are_there_are_left_alone(shop):
    await set_rate(shop, ANNA, "USD", "EUR", "0.5")
    async with shop.database.unit_of_work(actor="test", cause="nothing recorded") as work:
        assert await ensure_rates(work.connection, shop.markets, "test") == 0
    assert (await price_of(shop, "LAMP-1", "eu-eur")).money.minor_units == 500


async def test_where_a_price_comes_from_is_told_per_market(shop):
    await change_price(shop, ANNA, "LAMP-1", "eu-eur", "12.00")
    async with shop.database.writes.connect() as connection:
        facts = {fact.market: fact for fact in await price_facts(connection, shop.markets, "LAMP-1")}
    assert list(facts) == [market.id for market in shop.markets.all]
    assert facts["eu-eur"].own == Money(1200, "EUR")
    assert facts["eu-eur"].changed_by == ANNA
    assert facts["eu-eur"].converted == Money(860, "EUR")
    assert facts["gb-gbp"].own is None
    assert facts["gb-gbp"].rate == Decimal("0.75")


async def test_bulk_rows_replace_what_was_there_and_the_last_of_equal_skus_wins(shop):
    async with shop.database.unit_of_work(actor="test", cause="bulk") as work:
        from origin.events.messages import CatalogReplaced

        assert await load_base_prices(work.connection, [("LAMP-1", "USD", 1), ("LAMP-1", "USD", 2000)]) == 2
        assert await load_prices(work.connection, [("LAMP-2", "gb-gbp", "GBP", 1999)], "import") == 1
        work.record(CatalogReplaced())
    assert (await price_of(shop, "LAMP-1", "us-usd")).money.minor_units == 2000
    assert (await price_of(shop, "LAMP-2", "gb-gbp")).money.minor_units == 1999


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE pricing.base_price SET minor_units = minor_units + 1",
        "INSERT INTO pricing.price VALUES ('LAMP-1', 'eu-eur', 'EUR', 1, 1, now(), 'psql')",
        "DELETE FROM pricing.rate",
    ],
)
async def test_a_price_cannot_be_changed_without_a_purge(shop, statement):
    with pytest.raises(DBAPIError, match="without a purge-log row"):
        async with shop.database.unit_of_work(actor="test", cause="behind the service's back") as work:
            await work.connection.execute(text(statement))


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE pricing.base_price SET minor_units = -1",
        "UPDATE pricing.rate SET rate = 0",
        "UPDATE pricing.base_price SET currency = 'eur'",
    ],
)
async def test_the_tables_refuse_what_cannot_be(shop, statement):
    with pytest.raises(DBAPIError, match="check constraint"):
        async with shop.database.unit_of_work(actor="test", cause="nonsense") as work:
            await work.connection.execute(text(statement))


async def test_the_price_api_shows_labels_and_sources(shop):
    await change_price(shop, ANNA, "LAMP-1", "eu-eur", "12.00")
    async with client_of(shop) as client:
        own = await client.get("/api/v1/eu-eur/prices/LAMP-1")
        converted = await client.get("/api/v1/eu-eur/prices/LAMP-1-RED")
    assert own.json() == {
        "sku": "LAMP-1",
        "market": "eu-eur",
        "currency": "EUR",
        "amount": "12.00",
        "amount_minor": 1200,
        "source": "explicit",
    }
    assert own.headers["cache-tag"] == "p:eu-eur:lamp-1, d:eu-eur:lighting, m:eu-eur"
    assert own.headers["catalog-version"]
    assert "stale-if-error=0" in own.headers["cdn-cache-control"]
    assert (converted.json()["amount"], converted.json()["source"]) == ("9.46", "converted")
    assert converted.headers["cache-tag"] == "p:eu-eur:lamp-1, d:eu-eur:lighting, rates:eu-eur, m:eu-eur"


@pytest.mark.parametrize(
    ("sku", "tag"), [("NOBODY", "p:eu-eur:nobody"), ("MUG-1", "p:eu-eur:mug-1")], ids=["unknown", "no price"]
)
async def test_a_missing_price_is_a_404_that_a_later_price_purges(shop, sku, tag):
    async with client_of(shop) as client:
        missing = await client.get(f"/api/v1/eu-eur/prices/{sku}")
    assert missing.status_code == 404
    assert missing.headers["content-type"] == "application/problem+json"
    assert missing.headers["catalog-version"]
    assert {tag, "l:eu-eur", "rates:eu-eur", "m:eu-eur"} == set(missing.headers["cache-tag"].split(", "))


async def test_what_cannot_be_a_sku_is_a_404_that_is_not_kept(shop):
    async with client_of(shop) as client:
        for sku in ("%00", "x" * 300, "%C3%A4" * 100):
            for kind in ("prices", "stock"):
                missing = await client.get(f"/api/v1/eu-eur/{kind}/{sku}")
                assert (missing.status_code, missing.headers["cache-control"]) == (404, "no-store")
        assert (await client.get("/api/v1/eu-eur/prices/a%2Fb")).headers["cache-tag"].startswith("p:eu-eur:a%2fb")


async def test_a_price_in_an_unknown_market_is_not_kept(shop):
    async with client_of(shop) as client:
        missing = await client.get("/api/v1/xx-xxx/prices/LAMP-1")
    assert (missing.status_code, missing.headers["cache-control"]) == (404, "no-store")


async def test_a_product_that_was_taken_down_has_no_price(shop):
    async with shop.database.unit_of_work(actor="test", cause="take down") as work:
        from origin.events.messages import CatalogReplaced

        await work.connection.execute(text("UPDATE catalog.product SET status = 'taken_down' WHERE sku = 'LAMP-1'"))
        work.record(CatalogReplaced())
    async with client_of(shop) as client:
        assert (await client.get("/api/v1/eu-eur/prices/LAMP-1")).status_code == 404
        assert (await client.get("/api/v1/eu-eur/stock/LAMP-1")).status_code == 404
