"""What the simulated shop sells, and how a page of it is made: rows with numbers, read in a snapshot, and their tags.

Rows are the price, the stock band, the copy and the listing of each product. The value of a row is a number that no
other change of the run has, so that whoever reads an answer knows which change it is from. Tags are those that
`origin/catalog` gives its pages, and changes happen as the events that `origin` has for them.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from cache_policies.positions import PurgeKind
from cache_policies.tags import (
    category_prices_tag,
    category_tag,
    home_tag,
    list_tag,
    navigation_tag,
    product_tag,
    slug_tag,
)
from origin.caching import CacheHints
from origin.events.messages import (
    CatalogReplaced,
    Event,
    PriceChanged,
    ProductListed,
    ProductTakenDown,
    StockBandChanged,
    TagsPurged,
)
from origin.readthrough import Rendered
from origin.snapshot import Remembered, Snapshot
from tests.simulation.engine.cluster import Cluster
from tests.simulation.engine.storage import Key
from tests.simulation.engine.transactions import View
from tests.simulation.promise import Shown

HOST = "shop.example"
MARKET = "eu-eur"
CATEGORY = "shoes"
SKUS = ("boot", "clog", "mule")
TABLE = "rows"
KINDS = ("price", "stock", "copy", "listed")

READ = text("SELECT name, number FROM sim.rows WHERE name = ANY(:names)")
WRITE = text("UPDATE sim.rows SET number = :number WHERE name = :name")

_SHOWN = re.compile(rb"([a-z]+:[a-z]+)=(\d+)")
NOTICE_SLOT = b"<!--nearshelf:notice-->"
FILLING = b" ." * 640
"""What makes a page long enough to be handed on as it grows, and to be coded."""


def row_of(kind: str, sku: str) -> str:
    return f"{kind}:{sku}"


ROWS = tuple(row_of(kind, sku) for sku in SKUS for kind in KINDS)
PRICES = tuple(row_of("price", sku) for sku in SKUS)


def kind_of(row: str) -> PurgeKind:
    """What a change of `row` does to what is stored."""
    return PurgeKind.SOFT if row.startswith("copy:") else PurgeKind.HARD


def is_listed(number: int) -> bool:
    """Whether a listing of that number is one; every third is a takedown."""
    return number % 3 != 0


def event_of(row: str, number: int) -> Event:
    """What happened when `row` became `number`."""
    kind, _, sku = row.partition(":")
    match kind:
        case "price":
            return PriceChanged(MARKET, sku, (CATEGORY,))
        case "stock":
            return StockBandChanged(sku, (CATEGORY,))
        case "listed" if is_listed(number):
            return ProductListed(sku, sku, (CATEGORY,))
        case "listed":
            return ProductTakenDown(sku, sku, (CATEGORY,))
        case _:
            return TagsPurged((product_tag(MARKET, sku),), PurgeKind.SOFT)


EVERYTHING_REPLACED = CatalogReplaced()


@dataclass(frozen=True, slots=True, eq=False)
class Page:
    """One address of the shop, each made once. A page of one product is a 404 while that is not listed."""

    name: str
    target: str
    rows: tuple[str, ...]
    tags: tuple[str, ...]
    html: bool = False
    long: bool = False


def _pages() -> tuple[Page, ...]:
    pages = []
    for sku in SKUS:
        product, slug = product_tag(MARKET, sku), slug_tag(MARKET, sku)
        price, stock, copy, listed = (row_of(kind, sku) for kind in KINDS)
        api = f"/api/v1/{MARKET}"
        pages += [
            Page(f"price of {sku}", f"{api}/prices/{sku}", (price, listed), (product,)),
            Page(f"stock of {sku}", f"{api}/stock/{sku}", (stock, listed), (product,)),
            Page(f"product {sku}", f"{api}/products/{sku}", (price, stock, copy, listed), (product,)),
            Page(
                f"page of {sku}",
                f"/{MARKET}/products/{sku}",
                (price, stock, copy, listed),
                (slug, product, navigation_tag(MARKET), category_tag(MARKET, CATEGORY)),
                html=True,
            ),
        ]
    every = tuple(product_tag(MARKET, sku) for sku in SKUS)
    prices, listings = ([row_of(kind, sku) for sku in SKUS] for kind in ("price", "listed"))
    category = (category_tag(MARKET, CATEGORY), category_prices_tag(MARKET, CATEGORY), *every)
    members = (list_tag(MARKET), navigation_tag(MARKET), *every)
    return (
        *pages,
        Page("category", f"/{MARKET}/c/{CATEGORY}", (*prices, *listings), category, html=True, long=True),
        Page("list", f"/api/v1/{MARKET}/products", (*prices, *listings), members),
        Page("home", f"/{MARKET}/", (prices[0], listings[0]), (home_tag(MARKET), every[0]), html=True),
    )


PAGES = _pages()
BY_TARGET = {page.target: page for page in PAGES}


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """What the origin says about keeping an answer, in seconds; short, so that runs see the ends of them."""

    fresh_s: int
    revalidate_s: int
    error_s: int
    negative_s: int = 1

    def longest_s(self, page: Page, detail: str, *, absent: bool) -> float:
        """For how long an answer with that word of Cache-Status may be shown after the origin has said it, in seconds.
        `absent`: it says that there is nothing."""
        if absent:
            return self.negative_s
        if not page.html or not detail:
            return self.fresh_s
        stale_s = self.revalidate_s if detail in {"stale-while-revalidate", "purged-soft"} else self.error_s
        return self.fresh_s + stale_s


class Numbered(NamedTuple):
    """A row of `sim.rows`."""

    name: str
    number: int


def know_rows(cluster: Cluster) -> None:
    """Tell the simulated database what the statements of the shop do."""

    def read(view: View, values: Mapping[str, Any]) -> list[Numbered]:
        return [Numbered(name, view.get(TABLE, name)) for name in values["names"]]

    def change(view: View, values: Mapping[str, Any]) -> Generator[Key, None, int]:
        yield TABLE, values["name"]
        view.put(TABLE, values["name"], values["number"])
        return 1

    cluster.on(READ, read)
    cluster.on(WRITE, change)


class Rendering:
    """One origin worker's handlers. What does not belong to one product is remembered by position, as in the shop."""

    def __init__(self, lifetimes: Lifetimes) -> None:
        self._lifetimes = lifetimes
        self._listings = Remembered(_listings)

    async def render(self, page: Page, snapshot: Snapshot) -> Rendered:
        """The answer for `page` in `snapshot`, from two statements."""
        listings = await self._listings.at(snapshot)
        others = [name for name in page.rows if name not in listings]
        numbers = {**listings, **await _read(snapshot.connection, others)} if others else listings
        shown = " ".join(f"{name}={numbers[name]}" for name in page.rows)
        own = [name for name in page.rows if name.startswith("listed:")]
        absent = len(own) == 1 and not is_listed(numbers[own[0]])
        body = shown.encode()
        if page.html:
            body = b"<p>" + NOTICE_SLOT + body + (FILLING if page.long else b"") + b"</p>"
        else:
            body = b'{"rows": "' + body + b'"}'
        return Rendered(
            body,
            "text/html; charset=utf-8" if page.html else "application/json",
            self._hints(page, snapshot, absent=absent),
            404 if absent else 200,
        )

    def _hints(self, page: Page, snapshot: Snapshot, *, absent: bool) -> CacheHints:
        times = self._lifetimes
        if absent:
            return CacheHints(times.negative_s, 0, 0, page.tags, snapshot.position, shows_price=True)
        stale = (times.revalidate_s, times.error_s) if page.html else (0, 0)
        return CacheHints(times.fresh_s, *stale, page.tags, snapshot.position, shows_price=True)


async def _listings(connection: AsyncConnection) -> Mapping[str, int]:
    return await _read(connection, [row_of("listed", sku) for sku in SKUS])


async def _read(connection: AsyncConnection, names: Sequence[str]) -> dict[str, int]:
    rows = await connection.execute(READ, {"names": list(names)})
    return {row.name: row.number for row in rows}


async def write(connection: AsyncConnection, row: str, number: int) -> None:
    """`row` is `number` from the end of this transaction on."""
    await connection.execute(WRITE, {"name": row, "number": number})


@lru_cache(maxsize=4_096)
def shown_in(body: bytes) -> Shown:
    """The rows that a body shows, with their numbers."""
    return tuple([(name.decode(), int(number)) for name, number in _SHOWN.findall(body)])
