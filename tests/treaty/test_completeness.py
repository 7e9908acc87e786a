"""Rule 11: wherever a public address shows something else after a change, that change purges what it showed before.

Every address is rendered uncached before and after; nothing here knows how a page is made.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import text

from cache_policies.positions import MAX_TAGS_PER_RESPONSE, Position, PurgeKind
from cache_policies.tags import EVERYTHING
from origin.catalog import import_command
from origin.catalog import service as catalog
from origin.catalog.demo import demo_catalog
from origin.catalog.import_files import RowSource
from origin.catalog.import_report import Silent
from origin.catalog.importer import Importer
from origin.catalog.model import PAGE_SIZE, Sort
from origin.events.messages import CatalogReplaced, Event, TagsPurged
from origin.inventory.service import set_stock
from origin.pricing.model import NoOwnPrice, NothingToFallBackOn
from origin.pricing.service import change_price, remove_price, set_rate
from origin.shop import Shop
from tests.support.origin import OriginClient, running_shop, settings_of

MARKETS = ("eu-eur", "jp-jpy")
PRODUCTS = 300
"""Enough that a department has several pages: a change then moves products on pages that do not show it."""
PRICE = re.compile(r'<data class="price"[^>]* data-sku="([^"]+)"[^>]* value="(\d+)"')


@dataclass(frozen=True)
class Shown:
    """What one address shows, and its label."""

    status: int
    body: bytes
    tags: frozenset[str]
    position: str | None

    @property
    def prices(self) -> dict[str, set[str]]:
        """The prices in a page by SKU, in minor units."""
        found: dict[str, set[str]] = {}
        for sku, value in PRICE.findall(self.body.decode("utf-8", "replace")):
            found.setdefault(sku, set()).add(value)
        return found


class Site:
    """Every kind of address of a small shop, in two markets."""

    def __init__(self, shop: Shop, client: OriginClient) -> None:
        self.shop = shop
        self.client = client
        self.products: list[tuple[str, str]] = []
        self.variants: list[str] = []
        self.categories: list[str] = []
        self.addresses: list[str] = []

    async def explore(self) -> None:
        async with self.shop.database.writes.connect() as connection:
            rows = (await connection.execute(text("SELECT sku, slug FROM catalog.product ORDER BY sku"))).all()
            paths = {row.sku: await catalog.category_paths_of(connection, row.sku) for row in rows}
            departments = Counter(path for of_one in paths.values() for path in of_one if "/" not in path)
            [(department, size)] = departments.most_common(1)
            assert size > PAGE_SIZE
            self.products = [(row.sku, row.slug) for row in rows if department in paths[row.sku]]
            self.categories = [department, *(path for path in paths[self.products[0][0]] if path != department)]
            query = text("SELECT sku FROM catalog.variant WHERE sku LIKE ANY (:likes) ORDER BY sku")
            likes = [f"{sku}%" for sku, _ in self.products[:8]]
            self.variants = list((await connection.execute(query, {"likes": likes})).scalars())
        for market in MARKETS:
            # All of one market; of the other, enough to see that it is told apart.
            few = market != MARKETS[0]
            self.addresses += [f"/{market}/", f"/{market}/nowhere", f"/{market}/c/no-such/category"]
            for path in self.categories[:1] if few else self.categories:
                pages = (1,) if few else (1, 2, 99)
                self.addresses += [f"/{market}/c/{path}?sort={sort}&page={page}" for sort in Sort for page in pages]
            slugs = [slug for _, slug in self.products[: 2 if few else 8]]
            self.addresses += [f"/{market}/products/{slug}" for slug in [*slugs, "no-such-product"]]
            self.addresses += [f"/api/v1/{market}/products?page={page}" for page in (1, 2, 99)]
            skus = [sku for sku, _ in self.products[: 2 if few else 8]] + self.variants[:3] + ["NO-SUCH-SKU"]
            for sku in skus:
                self.addresses += [f"/api/v1/{market}/{kind}/{sku}" for kind in ("products", "prices", "stock")]

    async def render(self) -> dict[str, Shown]:
        return {address: await self.show(address) for address in self.addresses}

    async def show(self, address: str) -> Shown:
        response = await self.client.get(address)
        tags = frozenset(tag.strip() for tag in response.headers.get("cache-tag", "").split(",") if tag.strip())
        return Shown(response.status_code, response.content, tags, response.headers.get("catalog-version"))


@pytest.fixture
async def site(database) -> AsyncIterator[Site]:
    async with running_shop(settings_of(database, replicas=False)) as (shop, client):
        await import_command.seed(shop.database, products=PRODUCTS, seed=5)
        site = Site(shop, client)
        await site.explore()
        yield site


async def entry_at(shop: Shop, position: Position) -> tuple[PurgeKind, frozenset[str]]:
    async with shop.database.writes.connect() as connection:
        query = text("SELECT kind, tags FROM events.purge_log WHERE epoch = :epoch AND cv = :cv")
        row = (await connection.execute(query, position._asdict())).one()
    return PurgeKind(row.kind), frozenset(row.tags)


def judge(
    before: dict[str, Shown], after: dict[str, Shown], position: Position, kind: PurgeKind, purged: frozenset[str]
) -> list[str]:
    """Everything that this change should have purged and did not. Also: every response bears its label."""
    faults = []
    for address, old in before.items():
        new = after[address]
        if not new.tags or new.position != str(position) or len(new.tags) > MAX_TAGS_PER_RESPONSE:
            faults.append(f"{address}: badly labelled, at {new.position} with {len(new.tags)} tags")
        if (old.status, old.body) == (new.status, new.body):
            continue
        if EVERYTHING not in purged and not old.tags & purged:
            faults.append(f"{address}: changed, but carried {sorted(old.tags)[:12]}, none of {sorted(purged)[:12]}")
        if kind is PurgeKind.HARD:
            continue
        if old.status != new.status and 200 in {old.status, new.status}:
            faults.append(f"{address}: {old.status} became {new.status} by a soft purge")
        changed = [sku for sku in old.prices.keys() & new.prices.keys() if old.prices[sku] != new.prices[sku]]
        if changed:
            faults.append(f"{address}: the price of {changed} changed by a soft purge")
    return faults


Change = Callable[["Site", random.Random], Awaitable[Position | None]]


async def a_price(site: Site, rng: random.Random) -> Position | None:
    sku = rng.choice([sku for sku, _ in site.products] * 3 + site.variants)
    market = rng.choice(MARKETS)
    # Among the cheapest or the dearest: it moves past whole pages.
    amount = f"{rng.choice([1, 90_000]) + rng.randrange(9)}" + ("" if market == "jp-jpy" else ".50")
    return (await change_price(site.shop, "anna@example.com", sku, market, amount)).position


async def no_price(site: Site, rng: random.Random) -> Position | None:
    for sku, _ in rng.sample(site.products, len(site.products)):
        try:
            return (await remove_price(site.shop, "anna@example.com", sku, rng.choice(MARKETS))).position
        except (NoOwnPrice, NothingToFallBackOn):
            continue
    return None


async def a_rate(site: Site, rng: random.Random) -> Position | None:
    quote = rng.choice(["EUR", "JPY"])
    rate = f"0.{rng.randrange(50, 99)}" if quote == "EUR" else str(rng.randrange(90, 200))
    return (await set_rate(site.shop, "anna@example.com", "USD", quote, rate)).position


async def stock(site: Site, rng: random.Random) -> Position | None:
    sku = rng.choice([sku for sku, _ in site.products] + site.variants)
    return (await set_stock(site.shop, "anna@example.com", sku, rng.choice([0, 2, 500]))).position


async def record(site: Site, statement: str, values: dict[str, Any], *events: Event) -> Position | None:
    """A change as a use case of the catalog makes it."""
    async with site.shop.database.unit_of_work(actor="anna@example.com", cause="catalog") as work:
        assert (await work.connection.execute(text(statement), values)).rowcount
        for event in events:
            work.record(event)
    return work.position


async def take_down(site: Site, rng: random.Random) -> Position | None:
    sku, _ = rng.choice(site.products)
    async with site.shop.database.writes.connect() as connection:
        status = text("SELECT status FROM catalog.product WHERE sku = :sku")
        listed = (await connection.execute(status, {"sku": sku})).scalar_one() == "listed"
    return (await catalog.set_listed(site.shop, "anna@example.com", sku, not listed)).position


async def an_import(site: Site, rng: random.Random) -> Position | None:
    """Products become others: names, prices, how popular they are, the categories that they are in."""
    rows = [row for row in demo_catalog(PRODUCTS, 5) if row.get("sku") in {sku for sku, _ in site.products}]
    changed = []
    for row in rng.sample(rows, 3):
        shelf = rng.choice(rows)["category_ids"]
        price = [{"currency": "USD", "amount": f"{rng.randrange(1, 900)}.00"}]
        name = f"{row['name']} {rng.randrange(99)}"
        changed.append(
            {**row, "name": name, "popularity": rng.randrange(10**6), "category_ids": shelf, "prices": price}
        )
    database = site.shop.database
    importing = Importer(database, database.markets, Silent(), actor="anna@example.com")
    outcome = await importing.run([RowSource("rows", changed)])
    return Position.parse(outcome.position) if outcome.position else None


CHANGES: tuple[Change, ...] = (a_price, no_price, a_rate, stock, take_down, an_import)


async def change_and_judge(site: Site, rounds: int, seed: int) -> None:
    rng = random.Random(seed)
    order = [change for change in CHANGES for _ in range(rounds)]
    rng.shuffle(order)
    before = await site.render()
    changed = 0
    for change in order:
        position = await change(site, rng)
        if position is None:
            continue
        after = await site.render()
        kind, purged = await entry_at(site.shop, position)
        faults = judge(before, after, position, kind, purged)
        assert not faults, f"{change.__name__} at {position}, {kind}:\n" + "\n".join(faults[:20])
        changed += sum(before[address].body != after[address].body for address in before)
        before = after
    assert changed > 10 * rounds  # the changes were not vacuous


@pytest.mark.timeout(300)
async def test_whatever_changes_was_purged(site: Site):
    await change_and_judge(site, rounds=2, seed=11)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(3))
async def test_whatever_changes_was_purged_at_length(site: Site, seed: int):
    await change_and_judge(site, rounds=12, seed=seed)


async def test_a_purge_by_hand_also_names_what_has_too_many_tags(site: Site):
    async with site.shop.database.unit_of_work(actor="a", cause="b") as work:
        work.record(TagsPurged(("p:eu-eur:sku-1",), PurgeKind.SOFT))
    assert work.position is not None
    kind, tags = await entry_at(site.shop, work.position)
    assert (kind, tags) == (PurgeKind.SOFT, frozenset({"p:eu-eur:sku-1", "many:eu-eur"}))


async def test_an_import_purges_everything(site: Site):
    async with site.shop.database.unit_of_work(actor="a", cause="b") as work:
        work.record(CatalogReplaced())
    assert work.position is not None
    assert await entry_at(site.shop, work.position) == (PurgeKind.HARD, frozenset({EVERYTHING}))


async def test_a_rate_that_is_too_large_and_comes_back_purges_what_had_no_price(site: Site):
    """The page without prices carries the tag of the rate that takes and gives them."""
    # So dear that at the largest rate nothing has a price that can be written.
    dear = "UPDATE pricing.base_price SET minor_units = minor_units * 1000"
    await record(site, dear, {}, CatalogReplaced())
    before = await site.render()
    for rate in ("999999999999", "0.86"):
        changed = await set_rate(site.shop, "anna@example.com", "USD", "EUR", rate)
        after = await site.render()
        faults = judge(before, after, changed.position, *await entry_at(site.shop, changed.position))
        assert not faults, f"rate {rate}:\n" + "\n".join(faults[:20])
        gone = [address for address in before if before[address].prices.keys() != after[address].prices.keys()]
        assert any("/products/" in address for address in gone)
        before = after
