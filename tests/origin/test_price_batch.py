"""Many prices at once: one transaction, one position, all of them or none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from cache_policies.positions import PurgeKind
from origin.accounts import audit
from origin.events.entries import entry_at
from origin.pricing.batch import MOST_PRICES, BadBatch, NewPrice, change_prices
from origin.pricing.model import PriceVersionConflict
from origin.pricing.service import change_price, market_of, prices
from origin.shop import Shop
from tests.support.small_shop import client_of, small_shop, staff_of, token_of

pytestmark = pytest.mark.database
ANNA = "anna@example.com"
API = "/api/staff/v1"


@pytest.fixture
async def shop(database) -> AsyncIterator[Shop]:
    async with small_shop(database) as shop:
        yield shop


async def shown(shop: Shop, market: str, *skus: str) -> dict[str, tuple[int, int]]:
    """Minor units and version of each price."""
    async with shop.database.writes.connect() as connection:
        found = await prices(connection, shop.markets, market_of(shop.markets, market), skus)
    return {sku: (price.money.minor_units, price.version) for sku, price in found.items()}


SALE = [
    NewPrice("LAMP-1", "eu-eur", "8.00"),
    NewPrice("LAMP-1-RED", "eu-eur", "9.00", 0),
    NewPrice("MUG-1", "jp-jpy", "1500"),
]


async def test_all_of_them_change_at_one_position(shop):
    before = await change_price(shop, ANNA, "LAMP-1", "eu-eur", "10.00")
    changed = await change_prices(shop, ANNA, SALE, "autumn sale")
    assert changed.position.cv == before.position.cv + 1
    assert [(market.id, price.sku, price.money.minor_units) for market, price in changed.prices] == [
        ("eu-eur", "LAMP-1", 800),
        ("eu-eur", "LAMP-1-RED", 900),
        ("jp-jpy", "MUG-1", 1500),
    ]
    assert await shown(shop, "eu-eur", "LAMP-1", "LAMP-1-RED") == {"LAMP-1": (800, 2), "LAMP-1-RED": (900, 1)}
    async with shop.database.writes.connect() as connection:
        logged = await entry_at(connection, changed.position)
        entries = await audit.entries(connection, limit=3)
    assert logged is not None
    assert (logged.entry.kind, logged.cause) == (PurgeKind.HARD, "3 prices set")
    # A variant is purged with its product; each market's orders by price are.
    paths = ("lighting%2flamps", "lighting", "")
    assert set(logged.entry.tags) == {
        *("p:eu-eur:lamp-1", "many:eu-eur", *(f"cp:eu-eur:{path}" for path in paths)),
        *("p:jp-jpy:mug-1", "many:jp-jpy", *(f"cp:jp-jpy:{path}" for path in paths)),
    }
    told = [(entry.subject, entry.action, entry.reason, entry.purge_id) for entry in reversed(entries)]
    assert told == [(f"{new.market}/{new.sku}", "price.set", "autumn sale", changed.purge_id) for new in SALE]
    assert entries[2].before is not None
    assert entries[2].after is not None
    assert (entries[2].before["amount"], entries[2].after["amount"]) == ("10.00", "8.00")


@pytest.mark.parametrize(
    ("wanted", "faults"),
    [
        pytest.param([], {"prices"}, id="none"),
        pytest.param([NewPrice("X", "eu-eur", "1")] * (MOST_PRICES + 1), {"prices"}, id="too many"),
        pytest.param(
            [
                *(*SALE, NewPrice("LAMP-1", "eu-eur", "7.00")),
                *(NewPrice("LAMP-2", "eu-eur", "1,00"), NewPrice("A", "mars", "1")),
            ],
            {"prices.3", "prices.4.amount", "prices.5.market"},
            id="twice the same, no amount, no market",
        ),
        pytest.param([*SALE, NewPrice("A\x00", "eu-eur", "1")], {"prices.3.sku"}, id="what no database holds"),
        pytest.param([*SALE, NewPrice("NO-SUCH", "eu-eur", "1")], {"prices.3.sku"}, id="an unknown SKU"),
    ],
)
async def test_every_fault_is_named_and_nothing_is_changed(shop, wanted, faults):
    before = await shown(shop, "eu-eur", "LAMP-1", "LAMP-1-RED")
    with pytest.raises(BadBatch) as refused:
        await change_prices(shop, ANNA, wanted)
    assert set(refused.value.faults) == faults
    assert await shown(shop, "eu-eur", "LAMP-1", "LAMP-1-RED") == before


async def test_one_price_that_somebody_else_changed_stops_all_of_them(shop):
    await change_price(shop, ANNA, "LAMP-1-RED", "eu-eur", "10.00")
    with pytest.raises(PriceVersionConflict, match="LAMP-1-RED"):
        await change_prices(shop, ANNA, SALE)
    assert await shown(shop, "eu-eur", "LAMP-1-RED") == {"LAMP-1-RED": (1000, 1)}
    assert (await shown(shop, "eu-eur", "LAMP-1"))["LAMP-1"][1] == 0


async def test_two_batches_in_opposite_orders_do_not_wait_for_each_other_for_ever(shop):
    rows = [NewPrice(sku, market, "1") for sku in ("LAMP-1", "LAMP-2", "MUG-1") for market in ("eu-eur", "jp-jpy")]
    async with asyncio.timeout(20):
        done = await asyncio.gather(*[change_prices(shop, ANNA, rows[:: (-1) ** turn]) for turn in range(6)])
    assert len({each.position for each in done}) == 6
    assert (await shown(shop, "eu-eur", "MUG-1"))["MUG-1"] == (100, 6)


async def test_as_many_prices_as_may_be_fit_into_a_request(shop):
    """Whatever their SKUs are: what is wrong with them is said, not that they are too long."""
    email = await staff_of(shop, "editor")
    rows = [{"sku": f"{number:0256}", "market": "eu-eur", "amount": "1234567.89"} for number in range(MOST_PRICES)]
    async with client_of(shop) as client:
        client.headers.update(await token_of(client, email))
        answer = await client.put(f"{API}/prices", json={"prices": rows, "reason": "x" * 500})
    assert answer.status_code == 422
    assert {error["pointer"] for error in answer.json()["errors"]} == {
        f"prices.{row}.sku" for row in range(MOST_PRICES)
    }


async def test_programs_send_a_batch_and_read_the_one_position(shop):
    email, viewer = await staff_of(shop, "editor"), await staff_of(shop, "viewer")
    rows: list[dict[str, object]] = [{"sku": new.sku, "market": new.market, "amount": new.amount} for new in SALE]
    body = {"prices": rows, "reason": "sale"}
    async with client_of(shop) as client:
        refused = await client.put(f"{API}/prices", json=body, headers=await token_of(client, viewer))
        client.headers.update(await token_of(client, email))
        changed = await client.put(f"{API}/prices", json=body)
        report = (await client.get(f"{API}/changes/{changed.json()['position']}")).json()
        rows[0]["expected_version"] = 0
        conflict = await client.put(f"{API}/prices", json=body)
        faulty = await client.put(
            f"{API}/prices", json={"prices": [{"sku": "LAMP-1", "market": "mars", "amount": "1"}]}
        )
    assert (refused.status_code, changed.status_code) == (403, 200)
    assert [(each["sku"], each["market"], each["amount"], each["version"]) for each in changed.json()["prices"]] == [
        ("LAMP-1", "eu-eur", "8.00", 1),
        ("LAMP-1-RED", "eu-eur", "9.00", 1),
        ("MUG-1", "jp-jpy", "1500", 1),
    ]
    assert report["purge"]["id"] == changed.json()["purge_id"]
    assert (conflict.status_code, conflict.json()["theirs"]["amount"]) == (409, "8.00")
    assert faulty.status_code == 422
    assert [each["pointer"] for each in faulty.json()["errors"]] == ["prices.0.market"]
