"""A shop with three products over the embedded PostgreSQL, for tests of the origin's modules."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import httpx
from sqlalchemy import text

from cache_policies.markets import Markets
from origin.accounts.service import add_staff
from origin.app import app_of
from origin.catalog.tables import category_id_of, product_id_of
from origin.events.messages import CatalogReplaced
from origin.inventory.service import load_stock
from origin.pricing.service import ensure_rates, load_base_prices
from origin.settings import OriginSettings
from origin.shop import Shop, open_shop
from tests.support.servers import DatabaseUrls

EDGE_KEY = "the-key-of-the-edges-in-tests"
PASSWORD = "correct horse battery"
ORIGIN = "http://origin.test"

_CATEGORIES = (("lighting", "Lighting", None), ("lighting/lamps", "Lamps", "lighting"))
_PRODUCTS = (("LAMP-1", "lamp-one", "Brass Lamp"), ("LAMP-2", "lamp-two", "Paper Lamp"), ("MUG-1", "mug", "Blue Mug"))
_BASE_PRICES = (("LAMP-1", "USD", 1000), ("LAMP-1-RED", "USD", 1100), ("LAMP-2", "EUR", 2500))
"""MUG-1 has none: it is sold nowhere until it gets a price of its own."""
_STOCK = (("LAMP-1", 12), ("LAMP-1-RED", 3), ("LAMP-2", 0))


@contextlib.asynccontextmanager
async def small_shop(
    urls: DatabaseUrls,
    *,
    serving: bool = False,
    standby: bool = False,
    markets: Markets | None = None,
    redis_url: str = "",
) -> AsyncIterator[Shop]:
    """The shop, filled: LAMP-1 (with the variant LAMP-1-RED), LAMP-2, MUG-1 in the category lighting/lamps.

    `serving`: with the observer and the log's tail at work. `standby`: reads come from the standby.
    `markets`: other ones than those that are shipped. `redis_url`: with nudges and the read-through cache.
    """
    settings = OriginSettings(
        database_url=urls.primary,
        replica_urls=(urls.replica,) if standby else (),
        edge_key=EDGE_KEY,
        redis_url=redis_url,
    )
    async with open_shop(settings, markets=markets, serving=serving) as shop:
        await _fill(shop)
        yield shop


async def _fill(shop: Shop) -> None:
    async with shop.database.unit_of_work(actor="test", cause="fill") as work:
        for number, (path, name, parent) in enumerate(_CATEGORIES):
            await work.connection.execute(
                text(
                    "INSERT INTO catalog.category (id, external_id, parent_id, path, name, level, position)"
                    " VALUES (:id, :path, :parent, :path, :name, :level, :position)"
                ),
                {
                    "id": category_id_of(path),
                    "parent": category_id_of(parent) if parent else None,
                    "path": path,
                    "name": name,
                    "level": path.count("/") + 1,
                    "position": number,
                },
            )
        for sku, slug, name in _PRODUCTS:
            await work.connection.execute(
                text(
                    "INSERT INTO catalog.product (id, external_id, sku, slug, name, digest)"
                    " VALUES (:id, :sku, :sku, :slug, :name, '')"
                ),
                {"id": product_id_of(sku), "sku": sku, "slug": slug, "name": name},
            )
            await work.connection.execute(
                text("INSERT INTO catalog.product_category (product_id, category_id, position) VALUES (:p, :c, 0)"),
                {"p": product_id_of(sku), "c": category_id_of("lighting/lamps")},
            )
        await work.connection.execute(
            text("INSERT INTO catalog.variant (sku, product_id, position) VALUES ('LAMP-1-RED', :p, 0)"),
            {"p": product_id_of("LAMP-1")},
        )
        await load_base_prices(work.connection, _BASE_PRICES)
        await load_stock(work.connection, _STOCK)
        await ensure_rates(work.connection, shop.markets, "test")
        work.record(CatalogReplaced())


async def staff_of(shop: Shop, role: str) -> str:
    """The e-mail of a new member of staff with that role; the password is PASSWORD."""
    email = f"{role}@example.com"
    await add_staff(shop, email, role, PASSWORD, name=role.title())
    return email


@contextlib.asynccontextmanager
async def client_of(shop: Shop, **headers: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the shop's whole application, without a network."""
    transport = httpx.ASGITransport(app=app_of(shop), client=("192.0.2.7", 40_000))
    async with httpx.AsyncClient(transport=transport, base_url=ORIGIN, headers=headers) as client:
        yield client


async def token_of(client: httpx.AsyncClient, email: str) -> dict[str, str]:
    """The header that signs `email` in at the staff API."""
    answer = await client.post("/api/staff/v1/login", json={"email": email, "password": PASSWORD})
    assert answer.status_code == 200, answer.text
    return {"authorization": f"Bearer {answer.json()['token']}"}
