"""What a stranger finds in a shop by following its links: markets, categories, listings, products."""

from __future__ import annotations

import re
from collections.abc import Generator
from html import unescape
from urllib.parse import unquote

from loadtests.http1 import Connection, NoAnswer
from loadtests.people import ShopFront, ShownProduct, home, listing
from loadtests.reading import links, products_on
from loadtests.target import BadTarget

MAX_LISTINGS = 60
"""Listings followed: enough for a working set, few enough that looking around takes a second or two."""
_MARKET = re.compile(r'(?:href="/|value=")([a-z]{2}-[a-z]{3})(?=["/])')
_PAGE = re.compile(r"[?&;]page=(\d+)")
_SORT_LINK = re.compile(r"[?&;]sort=([a-z0-9_-]+)")
_SORT_CHOICE = re.compile(r'<select[^>]*\sname="sort"[^>]*>(.*?)</select>', re.DOTALL)
_OPTION = re.compile(r'<option[^>]*\svalue="([^"]+)"')


def looking_around(products: int) -> Generator[str, bytes, ShopFront]:
    """The walk itself, without I/O: yields targets to GET, is sent their pages, returns what it found.

    Starts at `/`, follows category links breadth first in the market it lands in, and stops when it knows `products`
    products or has seen MAX_LISTINGS listings. The same products are sold in every market.
    """
    entry = yield "/"
    markets = tuple(dict.fromkeys(_MARKET.findall(entry.decode("utf-8"))))
    if not markets:
        return ShopFront((), (), ())
    market = markets[0]
    front_page = yield home(market).target
    markets = tuple(dict.fromkeys((*markets, *_MARKET.findall(front_page.decode("utf-8")))))
    prefix = f"/{market}/c/"
    waiting = [unquote(link.removeprefix(prefix)) for link in links(front_page) if link.startswith(prefix)]
    seen: dict[str, int] = {}
    sorts: dict[str, None] = {"": None}
    skus: dict[str, str] = {}
    shown_in: dict[str, list[str]] = {}
    while waiting and len(seen) < MAX_LISTINGS and len(skus) < products:
        category = waiting.pop(0)
        if category in seen:
            continue
        page = yield listing(market, category).target
        text = unescape(page.decode("utf-8"))
        seen[category] = max((int(number) for number in _PAGE.findall(text)), default=1)
        sorts.update(dict.fromkeys(_SORT_LINK.findall(text)))
        for choices in _SORT_CHOICE.findall(text):
            sorts.update(dict.fromkeys(_OPTION.findall(choices)))
        for slug, sku in products_on(market, page).items():
            if slug in skus or len(skus) < products:
                skus[slug] = sku
                shown_in.setdefault(slug, []).append(category)
        waiting += [unquote(link.removeprefix(prefix)) for link in links(page) if link.startswith(prefix)]
    return ShopFront(
        markets=markets,
        categories=tuple(seen),
        products=tuple(ShownProduct(slug, sku, tuple(shown_in[slug])) for slug, sku in skus.items()),
        sorts=tuple(sorts),
        pages=seen,
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
    for _ in range(4):
        try:
            answer = await connection.request("GET", target)
        except NoAnswer as exc:
            raise BadTarget(str(exc)) from exc
        if answer.status == 200:
            return answer.body
        if not 300 <= answer.status < 400 or "location" not in answer.headers:
            raise BadTarget(f"{connection.base_url}{target}: {answer.status}, expected a page")
        target = answer.headers["location"].removeprefix(connection.base_url)
    raise BadTarget(f"{connection.base_url}{target}: redirects in a circle")
