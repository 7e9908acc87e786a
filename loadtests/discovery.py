"""What a stranger finds in a shop by following its links: markets, categories, listings, products."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Generator
from html import unescape
from urllib.parse import unquote

from loadtests.http1 import Answer, Connection, NoAnswer
from loadtests.people import ShopFront, ShownProduct, home, listing
from loadtests.reading import links, products_on
from loadtests.target import BadTarget

MAX_LISTINGS = 2_000
"""Pages of listings looked at, whatever is still to be found: some seconds, and a shop of 48,000 products."""
MOST_REDIRECTS = 4
_MARKET = re.compile(r'(?:href="/|value=")([a-z]{2}-[a-z]{3})(?=["/])')
_PAGE = re.compile(r"[?&;]page=(\d+)")
_SORT_LINK = re.compile(r"[?&;]sort=([a-z0-9_-]+)")
_SORT_CHOICE = re.compile(r'<select[^>]*\sname="sort"[^>]*>(.*?)</select>', re.DOTALL)
_OPTION = re.compile(r'<option[^>]*\svalue="([^"]+)"')


def looking_around(products: int) -> Generator[str, bytes, ShopFront]:
    """The walk itself, without I/O: yields targets to GET, is sent their pages, returns what it found.

    Starts at `/`, follows category links breadth first in the market it lands in, then turns the pages of what it has
    seen, the narrowest categories first. Stops when it knows `products` products, or has looked at MAX_LISTINGS pages.
    The same products are sold in every market.
    """
    entry = yield "/"
    markets = tuple(dict.fromkeys(_MARKET.findall(entry.decode("utf-8"))))
    if not markets:
        return ShopFront((), (), ())
    market = markets[0]
    front_page = yield home(market).target
    markets = tuple(dict.fromkeys((*markets, *_MARKET.findall(front_page.decode("utf-8")))))
    found = _Found(market, products)
    waiting = deque(found.categories_on(front_page))
    looked = 0
    while waiting and looked < MAX_LISTINGS and not found.enough:
        category = waiting.popleft()
        if category not in found.pages:
            looked += 1
            page = yield listing(market, category).target
            found.see(category, page)
            waiting.extend(found.categories_on(page))
    for category in found.narrowest_first():
        for number in range(2, found.pages[category] + 1):
            if looked >= MAX_LISTINGS or found.enough:
                return found.front(markets)
            looked += 1
            found.see(category, (yield listing(market, category, page=number).target))
    return found.front(markets)


class _Found:
    """What the walk knows so far."""

    def __init__(self, market: str, products: int) -> None:
        self.pages: dict[str, int] = {}
        """Category -> pages of its listing, in the order in which they were seen."""
        self._market = market
        self._wanted = products
        self._sorts: dict[str, None] = {"": None}
        self._skus: dict[str, str] = {}
        self._shown_in: dict[str, list[str]] = {}

    @property
    def enough(self) -> bool:
        return len(self._skus) >= self._wanted

    def categories_on(self, page: bytes) -> list[str]:
        prefix = f"/{self._market}/c/"
        return [unquote(link.removeprefix(prefix)) for link in links(page) if link.startswith(prefix)]

    def see(self, category: str, page: bytes) -> None:
        """Note what a page of a category's listing shows."""
        text = unescape(page.decode("utf-8"))
        pages = max((int(number) for number in _PAGE.findall(text)), default=1)
        self.pages[category] = max(self.pages.get(category, 1), pages)
        self._sorts.update(dict.fromkeys(_SORT_LINK.findall(text)))
        for choices in _SORT_CHOICE.findall(text):
            self._sorts.update(dict.fromkeys(_OPTION.findall(choices)))
        for slug, sku in products_on(self._market, page).items():
            if slug in self._skus or not self.enough:
                self._skus[slug] = sku
                shown_in = self._shown_in.setdefault(slug, [])
                if category not in shown_in:
                    shown_in.append(category)

    def narrowest_first(self) -> list[str]:
        """Categories without one below them, then the others: these show the same products again."""
        parents = {category.rpartition("/")[0] for category in self.pages}
        return sorted(self.pages, key=lambda category: category in parents)

    def front(self, markets: tuple[str, ...]) -> ShopFront:
        return ShopFront(
            markets=markets,
            categories=tuple(self.pages),
            products=tuple(ShownProduct(slug, sku, tuple(self._shown_in[slug])) for slug, sku in self._skus.items()),
            sorts=tuple(self._sorts),
            pages=self.pages,
        )


async def discover(connection: Connection, products: int) -> ShopFront:
    """A shop front with at most `products` products. Raises BadTarget when the shop does not answer with pages."""
    walk = looking_around(products)
    target = next(walk)
    while True:
        try:
            target = walk.send(await _page(connection, target))
        except StopIteration as found:
            front: ShopFront = found.value
            return front


async def _page(connection: Connection, target: str) -> bytes:
    way = following(connection.base_url, target)
    asked = next(way)
    while True:
        try:
            asked = way.send(await connection.request("GET", asked))
        except NoAnswer as exc:
            raise BadTarget(str(exc)) from exc
        except StopIteration as found:
            page: bytes = found.value
            return page


def following(base_url: str, target: str) -> Generator[str, Answer, bytes]:
    """The page at a target, redirects followed, without I/O: yields targets to GET, is sent their answers. Raises
    BadTarget."""
    for _ in range(MOST_REDIRECTS):
        answer = yield target
        if answer.status == 200:
            return answer.body
        if not 300 <= answer.status < 400 or "location" not in answer.headers:
            raise BadTarget(f"{base_url}{target}: {answer.status}, expected a page")
        target = answer.headers["location"].removeprefix(base_url)
    raise BadTarget(f"{base_url}{target}: redirects in a circle")
