"""Who uses the shop, in plain Python: what each kind of person looks at next, what merchandisers change next. Seeded.

No I/O: a person says what to ask for, a harness (locust, the freshness observer) asks. Two runs over the same shop with
the same seed send the same sequence. How many there are of each, where they live and how long they think is in
`people.yaml`; who asks when is made of both in `planning.py`.
"""

from __future__ import annotations

import bisect
import functools
import itertools
import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, NamedTuple, TypeVar
from urllib.parse import quote

from loadtests.oracle import PriceKey

T = TypeVar("T")

ZIPF_EXPONENT = 0.8
"""Popularity of products: the k-th is asked for k^-0.8 times as often as the first."""
CRAWLER_AGENT = "Mozilla/5.0 (compatible; nearshelf-crawler/1.0; +https://crawler.example/about)"
"""What a bot calls itself."""
_REMEMBERED_VISITS = 200_000
"""Addresses spelt once for a whole plan: products times markets of a large shop."""


class Kind(StrEnum):
    HOME = "home"
    CATEGORY = "category"
    PRODUCT = "product"
    PRICE = "price"
    API_PRODUCT = "api-product"
    STOCK = "stock"
    NOT_THERE = "not-there"
    """An address that ends in a 404: counted apart, or the hit ratio of what is there would be blurred."""


HELD_BY_BROWSERS = frozenset({Kind.PRICE, Kind.API_PRODUCT, Kind.STOCK})
"""What a browser may keep, and asks for again with If-None-Match; pages leave the edge as `no-store` (docs/wire.md)."""


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


class Mix(Generic[T]):
    """Things drawn in proportion to their weights."""

    def __init__(self, weights: Mapping[T, float]) -> None:
        """Raises ValueError where no weight is above zero."""
        chosen = {thing: weight for thing, weight in weights.items() if weight > 0}
        if not chosen:
            raise ValueError("nothing to choose from")
        self.things = tuple(chosen)
        self._cumulative = list(itertools.accumulate(chosen.values()))

    def draw(self, rng: random.Random) -> T:
        return self.things[bisect.bisect_right(self._cumulative, rng.random() * self._cumulative[-1])]


class Zipf:
    """Ranks drawn with probability proportional to (rank + 1) ** -exponent."""

    def __init__(self, size: int, exponent: float = ZIPF_EXPONENT) -> None:
        if size < 1:
            raise ValueError("nothing to choose from")
        self._cumulative = list(itertools.accumulate((rank + 1) ** -exponent for rank in range(size)))

    def draw(self, rng: random.Random) -> int:
        return bisect.bisect_left(self._cumulative, rng.random() * self._cumulative[-1])


@functools.lru_cache(_REMEMBERED_VISITS)
def home(market: str) -> Visit:
    return Visit(Kind.HOME, market, f"/{market}/")


@functools.lru_cache(_REMEMBERED_VISITS)
def listing(market: str, category: str, sort: str = "", page: int = 1) -> Visit:
    parameters = [f"sort={quote(sort, safe='')}"] if sort else []
    parameters += [f"page={page}"] if page > 1 else []
    query = f"?{'&'.join(parameters)}" if parameters else ""
    return Visit(Kind.CATEGORY, market, f"/{market}/c/{quote(category)}{query}")


@functools.lru_cache(_REMEMBERED_VISITS)
def product(market: str, slug: str) -> Visit:
    return Visit(Kind.PRODUCT, market, f"/{market}/products/{quote(slug, safe='')}")


@functools.lru_cache(_REMEMBERED_VISITS)
def price(market: str, sku: str) -> Visit:
    return Visit(Kind.PRICE, market, f"/api/v1/{market}/prices/{quote(sku, safe='')}")


@functools.lru_cache(_REMEMBERED_VISITS)
def api_product(market: str, sku: str) -> Visit:
    return Visit(Kind.API_PRODUCT, market, f"/api/v1/{market}/products/{quote(sku, safe='')}")


@functools.lru_cache(_REMEMBERED_VISITS)
def stock(market: str, sku: str) -> Visit:
    return Visit(Kind.STOCK, market, f"/api/v1/{market}/stock/{quote(sku, safe='')}")


class Taste:
    """What people know of a shop and how much they like it: products and categories, each from the most popular on."""

    def __init__(
        self,
        front: ShopFront,
        seed: int,
        exponent: float = ZIPF_EXPONENT,
        known: int | None = None,
        hidden: Iterable[str] = (),
    ) -> None:
        """`known`: how many products people know, None: all. `hidden`: SKUs that nobody asks for, bots neither."""
        nobody = frozenset(hidden)
        ranked = [item for place in popularity_of(front, seed) if (item := front.products[place]).sku not in nobody]
        self.products = tuple(ranked[:known])
        self.front = front
        self.on_sale = tuple(item for item in front.products if item.sku not in nobody)
        """What a bot finds, in the order of the shop."""
        self._zipf = Zipf(len(self.products), exponent)
        self._below: dict[str, list[ShownProduct]] = {}
        for item in self.products:
            for category in item.categories:
                self._below.setdefault(category, []).append(item)
        # A category is as popular as what it shows: those with much in them lead to the most people.
        self.categories = tuple(sorted(self._below, key=lambda path: (-len(self._below[path]), path)))
        self._zipf_of_categories = Zipf(len(self.categories), exponent) if self.categories else None
        self._zipf_within = {path: Zipf(len(items), exponent) for path, items in self._below.items()}

    def product(self, rng: random.Random) -> ShownProduct:
        return self.products[self._zipf.draw(rng)]

    def category(self, rng: random.Random) -> str | None:
        """The path of a category; None where the shop has none."""
        return self.categories[self._zipf_of_categories.draw(rng)] if self._zipf_of_categories else None

    def product_in(self, category: str, rng: random.Random) -> ShownProduct:
        """One of what a category of `categories` shows."""
        return self._below[category][self._zipf_within[category].draw(rng)]

    def pages(self, category: str) -> int:
        return self.front.pages.get(category, 1)


def browse(taste: Taste, market: str, rng: random.Random) -> Iterator[Visit]:
    """One session of a shopper: in at the home page or a product, through listings, compares products, leaves."""
    if rng.random() < 0.6:
        yield home(market)
    for _ in range(rng.randint(1, 4)):
        item = taste.product(rng)
        if item.categories and rng.random() < 0.7:
            category = rng.choice(item.categories)
            sort = rng.choice(taste.front.sorts) if rng.random() < 0.3 else ""
            page = rng.randint(1, taste.pages(category)) if rng.random() < 0.2 else 1
            yield listing(market, category, sort, page)
        yield product(market, item.slug)
        yield stock(market, item.sku)
        if rng.random() < 0.4:
            yield price(market, item.sku)


def search(taste: Taste, market: str, rng: random.Random) -> Iterator[Visit]:
    """One session of somebody who looks for something in a category: sorts, turns pages back and forth, opens a few."""
    category = taste.category(rng)
    if category is None:
        yield home(market)
        return
    sort, page, pages = "", 1, taste.pages(category)
    yield listing(market, category)
    for _ in range(rng.randint(3, 10)):
        roll = rng.random()
        if roll < 0.2:
            sort, page = rng.choice(taste.front.sorts), 1
        elif roll < 0.5 and page < pages:
            page += 1
        elif roll < 0.6 and page > 1:
            page -= 1
        else:
            item = taste.product_in(category, rng)
            yield product(market, item.slug)
            yield price(market, item.sku)
        # Back to the listing, or on to the next page of it: pages are not kept, so it is asked for either way.
        yield listing(market, category, sort, page)


def crawl(taste: Taste, market: str, rng: random.Random) -> Iterator[Visit]:
    """What a bot asks for, in order and without end: each category's pages, then what they show that is new to it."""
    categories = taste.front.categories
    first = rng.randrange(len(categories)) if categories else 0
    shown_in: dict[str, list[ShownProduct]] = {}
    for item in taste.on_sale:
        for category in item.categories:
            shown_in.setdefault(category, []).append(item)
    while True:
        yield home(market)
        read: set[str] = set()
        for category in (*categories[first:], *categories[:first]):
            for page in range(1, taste.pages(category) + 1):
                yield listing(market, category, page=page)
            for item in shown_in.get(category, ()):
                if item.slug not in read:
                    read.add(item.slug)
                    yield product(market, item.slug)
        for item in taste.on_sale:
            if not item.categories:
                yield product(market, item.slug)


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
