"""Stock: bands, and that only a band that changes is anybody's business."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from cache_policies.positions import PurgeKind
from origin.accounts import audit
from origin.events.entries import entry_at
from origin.events.messages import CatalogReplaced
from origin.inventory.model import MAX_ON_HAND, Band, StockError
from origin.inventory.service import bands, load_stock, set_stock
from origin.pricing.model import UnknownSku
from origin.shop import Shop
from tests.support.servers import DatabaseUrls
from tests.support.small_shop import client_of, small_shop

ANNA = "anna@example.com"


@pytest.fixture
async def shop(database: DatabaseUrls) -> AsyncIterator[Shop]:
    async with small_shop(database) as shop:
        yield shop


async def band_of(shop: Shop, sku: str) -> Band:
    async with shop.database.writes.connect() as connection:
        return (await bands(connection, [sku]))[sku]


async def test_bands_follow_the_pieces_on_hand(shop):
    seen = {}
    for on_hand in (0, 1, 5, 6, 1000):
        await set_stock(shop, ANNA, "LAMP-1", on_hand)
        seen[on_hand] = await band_of(shop, "LAMP-1")
    assert seen == {0: Band.OUT, 1: Band.LOW, 5: Band.LOW, 6: Band.IN_STOCK, 1000: Band.IN_STOCK}


async def test_each_sku_may_be_low_at_a_number_of_its_own(shop):
    async with shop.database.unit_of_work(actor="test", cause="low at") as work:
        await work.connection.execute(text("UPDATE inventory.stock SET low_at = 20 WHERE sku = 'LAMP-1'"))
        work.record(CatalogReplaced())
    assert await band_of(shop, "LAMP-1") is Band.LOW


async def test_what_was_never_counted_is_out(shop):
    assert await band_of(shop, "MUG-1") is Band.OUT


async def test_a_band_that_changes_is_purged_hard_in_every_market(shop):
    done = await set_stock(shop, ANNA, "LAMP-1-RED", 0, "last one broken")
    assert (done.before, done.band) == (Band.LOW, Band.OUT)
    assert done.position is not None
    async with shop.database.writes.connect() as connection:
        logged = await entry_at(connection, done.position)
        [entry] = await audit.entries(connection, limit=1)
    assert logged is not None
    purge = logged.entry
    assert purge.kind is PurgeKind.HARD
    assert {f"p:{market.id}:lamp-1" for market in shop.markets.all} <= set(purge.tags)
    assert (entry.action, entry.subject, entry.reason) == ("stock.set", "LAMP-1-RED", "last one broken")
    assert (entry.before, entry.after) == ({"on_hand": 3, "band": "low"}, {"on_hand": 0, "band": "out"})


async def test_selling_a_piece_within_a_band_purges_nothing(shop):
    done = await set_stock(shop, ANNA, "LAMP-1", 11)
    assert (done.position, done.before, done.band) == (None, Band.IN_STOCK, Band.IN_STOCK)


async def test_first_stock_of_nothing_changes_nothing_public(shop):
    assert (await set_stock(shop, ANNA, "MUG-1", 0)).position is None


@pytest.mark.parametrize("on_hand", [-1, MAX_ON_HAND + 1])
async def test_stock_that_cannot_be_is_refused(shop, on_hand):
    with pytest.raises(StockError):
        await set_stock(shop, ANNA, "LAMP-1", on_hand)


async def test_stock_of_an_unknown_sku_is_refused(shop):
    with pytest.raises(UnknownSku):
        await set_stock(shop, ANNA, "NOBODY", 1)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE inventory.stock SET on_hand = 0 WHERE sku = 'LAMP-1'",
        "UPDATE inventory.stock SET low_at = 100 WHERE sku = 'LAMP-1'",
        "DELETE FROM inventory.stock WHERE sku = 'LAMP-1'",
        "INSERT INTO inventory.stock (sku, on_hand) VALUES ('MUG-1', 9)",
    ],
)
async def test_a_band_cannot_be_changed_without_a_purge(shop, statement):
    with pytest.raises(DBAPIError, match="without a purge-log row"):
        async with shop.database.unit_of_work(actor="test", cause="behind the service's back") as work:
            await work.connection.execute(text(statement))


async def test_the_application_cannot_write_a_band_by_itself(shop):
    with pytest.raises(DBAPIError, match="permission denied"):
        async with shop.database.unit_of_work(actor="test", cause="nonsense") as work:
            await work.connection.execute(text("UPDATE inventory.band SET band = 'out'"))


async def test_bulk_stock_replaces_what_was_there(shop):
    async with shop.database.unit_of_work(actor="test", cause="bulk") as work:
        assert await load_stock(work.connection, [("LAMP-1", 1), ("LAMP-1", 2), ("MUG-1", 50)]) == 3
        work.record(CatalogReplaced())
    assert (await band_of(shop, "LAMP-1"), await band_of(shop, "MUG-1")) == (Band.LOW, Band.IN_STOCK)


async def test_the_stock_api_tells_the_band_and_nothing_else(shop):
    async with client_of(shop) as client:
        answer = await client.get("/api/v1/eu-eur/stock/LAMP-1-RED")
        missing = await client.get("/api/v1/eu-eur/stock/NOBODY")
    assert answer.json() == {"sku": "LAMP-1-RED", "band": "low"}
    assert answer.headers["cache-tag"] == "p:eu-eur:lamp-1, d:eu-eur:lighting, m:eu-eur"
    assert answer.headers["catalog-version"]
    assert missing.status_code == 404
    assert set(missing.headers["cache-tag"].split(", ")) == {"p:eu-eur:nobody", "l:eu-eur", "m:eu-eur"}
