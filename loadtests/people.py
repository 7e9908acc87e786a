"""Who uses the shop, in plain Python: what shoppers look at next, what merchandisers change next. Seeded.

No I/O: a person says what to ask for, a harness (locust, the freshness observer) asks. Two runs over the same shop with
the same seed send the same sequence for each person.
"""

from __future__ import annotations

import bisect
import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple
from urllib.parse import quote

from loadtests.oracle import PriceKey

ZIPF_EXPONENT = 0.8
"""Popularity of products: the k-th is asked for k^-0.8 times as often as the first."""


class Kind(StrEnum):
    HOME = "home"
    CATEGORY = "category"
    PRODUCT = "product"
    PRICE = "price"
    API_PRODUCT = "api-product"
    STOCK = "stock"


class Visit(NamedTuple):
    """One thing to ask for."""

    kind: Kind
    market: str
    target: str
    """Path and query."""


@dataclass(frozen=True, slots=True)
class ShownProduct:
    """A product as its listing shows it, the same in every market."""

    slug: str
    sku: str
    categories: tuple[str, ...]
    """Paths of the listings where it was seen."""


@dataclass(frozen=True, slots=True)
class ShopFront:
    """What a stranger found by following links."""

    markets: tuple[str, ...]
    categories: tuple[str, ...]
    products: tuple[ShownProduct, ...]
    sorts: tuple[str, ...] = ("",)
    """Values of a listing's `sort` that its links offer; the empty one is the default."""
    pages: dict[str, int] = field(default_factory=dict)
    """Pages of each category's listing; 1 where not said."""


class Zipf:
    """Ranks drawn with probability proportional to (rank + 1) ** -exponent."""

    def __init__(self, size: int, exponent: float = ZIPF_EXPONENT) -> None:
        if size < 1:
            raise ValueError("nothing to choose from")
        self._cumulative = list(itertools.accumulate((rank + 1) ** -exponent for rank in range(size)))

    def draw(self, rng: random.Random) -> int:
        return bisect.bisect_left(self._cumulative, rng.random() * self._cumulative[-1])


def home(market: str) -> Visit:
    return Visit(Kind.HOME, market, f"/{market}/")


def listing(market: str, category: str, sort: str = "", page: int = 1) -> Visit:
    parameters = [f"sort={quote(sort, safe='')}"] if sort else []
    parameters += [f"page={page}"] if page > 1 else []
    query = f"?{'&'.join(parameters)}" if parameters else ""
    return Visit(Kind.CATEGORY, market, f"/{market}/c/{quote(category)}{query}")


def product(market: str, slug: str) -> Visit:
    return Visit(Kind.PRODUCT, market, f"/{market}/products/{quote(slug, safe='')}")


def price(market: str, sku: str) -> Visit:
    return Visit(Kind.PRICE, market, f"/api/v1/{market}/prices/{quote(sku, safe='')}")


def api_product(market: str, sku: str) -> Visit:
    return Visit(Kind.API_PRODUCT, market, f"/api/v1/{market}/products/{quote(sku, safe='')}")


def stock(market: str, sku: str) -> Visit:
    return Visit(Kind.STOCK, market, f"/api/v1/{market}/stock/{quote(sku, safe='')}")


class Browser:
    """A shopper of one market: comes in at the home page or a product, looks through listings, compares, leaves."""

    def __init__(self, front: ShopFront, seed: int, popularity: Sequence[int] | None = None) -> None:
        self.rng = random.Random(seed)
        self.front = front
        self._zipf = Zipf(len(front.products))
        self._ranked = popularity if popularity is not None else popularity_of(front, seed=0)
        self.market = self.rng.choice(front.markets)

    def _product(self) -> ShownProduct:
        return self.front.products[self._ranked[self._zipf.draw(self.rng)]]

    def session(self) -> Iterator[Visit]:
        """The visits of one session, in order."""
        rng, market = self.rng, self.market
        if rng.random() < 0.6:
            yield home(market)
        for _ in range(rng.randint(1, 4)):
            item = self._product()
            if item.categories and rng.random() < 0.7:
                category = rng.choice(item.categories)
                sort = rng.choice(self.front.sorts) if rng.random() < 0.3 else ""
                page = rng.randint(1, self.front.pages.get(category, 1)) if rng.random() < 0.2 else 1
                yield listing(market, category, sort, page)
            yield product(market, item.slug)
            yield stock(market, item.sku)
            if rng.random() < 0.4:
                yield price(market, item.sku)

    def think_s(self) -> float:
        """How long the shopper reads before the next visit, seconds."""
        return min(self.rng.expovariate(1.0), 5.0)


def popularity_of(front: ShopFront, seed: int) -> list[int]:
    """Positions in `front.products` from the most to the least popular: the same for every shopper of a run."""
    ranked = list(range(len(front.products)))
    random.Random(f"popularity {seed}").shuffle(ranked)
    return ranked


class Merchandiser:
    """Changes prices: never to an amount that a price had before, so that every answer tells which change it shows."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(f"merchandiser {seed}")
        self._had: dict[PriceKey, set[int]] = {}

    def next_amount(self, key: PriceKey, current: int) -> int:
        """A new amount within about a third of `current`, in minor units; above zero."""
        had = self._had.setdefault(key, set())
        had.add(current)
        middle = max(current, 100)
        for widening in itertools.count(1):
            low, high = max(1, middle - middle * widening // 3), middle + middle * widening // 3
            amount = self.rng.randint(low, high)
            if amount not in had:
                had.add(amount)
                return amount
        raise AssertionError("an endless search ended")


def amount_text(minor_units: int, digits: int) -> str:
    """The amount as a person types it: 1250 with 2 digits is `12.50`."""
    if digits == 0:
        return str(minor_units)
    whole, part = divmod(minor_units, 10**digits)
    return f"{whole}.{part:0{digits}d}"
