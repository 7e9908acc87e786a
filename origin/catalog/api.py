"""The storefront's pages, the product JSON, pictures and static files, as routes.

Every answer that may be kept is read from one snapshot, carries that snapshot's position, and names the tags of all
that it shows (origin/events/purge_map.py says what a response has to carry).
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, Final
from urllib.parse import parse_qsl, quote, unquote

import orjson
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from cache_policies.market_values import UNKNOWN_COUNTRY
from cache_policies.markets import Market, Markets
from cache_policies.tags import (
    asset_tag,
    category_prices_tag,
    category_tag,
    department_tag,
    home_tag,
    list_tag,
    navigation_tag,
    picture_tag,
    product_tag,
    rates_tag,
    slug_tag,
)
from origin.caching import CacheHints, cached, uncached
from origin.catalog import art, service
from origin.catalog.model import PAGE_SIZE, Card, Sort, Tree
from origin.catalog.pages import STATIC, Frame, Offers, Pages, category_path, listing_query, product_path, static_digest
from origin.errors import NotFound, TooLarge
from origin.inventory import service as inventory
from origin.money import amount_text
from origin.pricing import service as pricing
from origin.pricing.model import Price
from origin.readthrough import Rendered
from origin.shop import Shop
from origin.snapshot import Remembered, Snapshot

COOKIE: Final = "ns_market"
"""Remembers the market that a visitor chose; read at `/` only, so it never enters the key of a page."""
COOKIE_AGE_S: Final = 365 * 86_400

PAGE_FRESH_S: Final = 300
PAGE_STALE_WHILE_REVALIDATE_S: Final = 600
PAGE_STALE_IF_ERROR_S: Final = 86_400
JSON_FRESH_S: Final = 60
NOT_FOUND_FRESH_S: Final = 30
"""An address that does not exist may exist soon; one that a robot invents is soon forgotten."""
IMMUTABLE_S: Final = 365 * 86_400

POPULAR_ON_HOME: Final = 12
RELATED_SHOWN: Final = 6
MAX_PAGE: Final = 10_000
MAX_FORM_BYTES: Final = 8_192

_HTML: Final = "text/html; charset=utf-8"
_AUTHORITY: Final = re.compile(r"(?:[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
_PATH: Final = re.compile(r"/[^\x00-\x20\x7f\\]*")


def routes(shop: Shop) -> list[BaseRoute]:
    """Every route of the storefront. The last one takes whatever is left below a market: it must stay last."""
    store = Storefront(shop)
    return [
        Route("/", store.entry, methods=["GET"], name="entry"),
        Route("/market", store.switch_market, methods=["POST"], name="market-switcher"),
        Route("/static/{digest}/{name}", store.static, methods=["GET"], name="static"),
        Route("/art/{digest}/{sku}.svg", store.picture, methods=["GET"], name="art"),
        Route("/api/v1/{market}/products", store.products_json, methods=["GET"], name="product-list"),
        Route("/api/v1/{market}/products/{sku}", store.product_json, methods=["GET"], name="product"),
        Route("/{market}/", store.home, methods=["GET"], name="home"),
        Route("/{market}/c/{path:path}", store.category, methods=["GET"], name="category-page"),
        Route("/{market}/products/{slug}", store.product, methods=["GET"], name="product-page"),
        Route("/{market}", store.without_slash, methods=["GET"], name="default"),
        Route("/{market}/{rest:path}", store.anything_else, methods=["GET"], name="default"),
    ]


class Storefront:
    """The handlers; each reads one snapshot."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self._pages = Pages()
        self._trees = Remembered(service.tree)
        self._showcases = Remembered(service.best_of_departments)

    # The way in.

    async def entry(self, request: Request) -> Response:
        """`/`: to the market that the visitor chose, else to that of the country the edge found, else the default."""
        chosen = self._shop.markets.by_id(request.cookies.get(COOKIE, ""))
        market = chosen or self._shop.markets.for_country(
            request.headers.get("nearshelf-country", UNKNOWN_COUNTRY).upper()
        )
        return _redirect(302, f"/{market.id}/")

    async def switch_market(self, request: Request) -> Response:
        """`POST /market` with `market` and `return_to`: remembers the market and goes to the same page there."""
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_FORM_BYTES:
                raise TooLarge(f"the form of the market switcher has at most {MAX_FORM_BYTES:,} bytes")
        form = dict(parse_qsl(body.decode("utf-8", "replace"), max_num_fields=20))
        market = self._shop.markets.by_id(form.get("market", ""))
        if market is None:
            raise NotFound("There is no such market. Please go back and choose one from the list.")
        response = _redirect(303, same_page_in(self._shop.markets, market, form.get("return_to", "")))
        response.set_cookie(
            COOKIE,
            market.id,
            max_age=COOKIE_AGE_S,
            httponly=True,
            samesite="lax",
            secure=_scheme(request) == "https",
        )
        return response

    async def without_slash(self, request: Request) -> Response:
        """`/eu-eur` -> `/eu-eur/`."""
        return _redirect(308, f"/{self._market(request).id}/")

    # Pages.

    async def home(self, request: Request) -> Response:
        market = self._market(request)
        return await self._answer(request, ("home", market.id, _seen_at(request)), partial(self._home, request, market))

    async def _home(self, request: Request, market: Market) -> Rendered:
        async with self._snapshot(request) as snapshot:
            tree = await self._trees.at(snapshot)
            showcase = await self._showcases.at(snapshot)
            popular = await service.most_popular(snapshot.connection, POPULAR_ON_HOME)
            offers = await self._offers(snapshot.connection, market, [card.sku for card in popular])
        frame = self._frame(request, market, tree, f"/{market.id}/")
        shown = {path: offers.card(card) for path, card in showcase.items()}
        body = self._pages.home(frame, [offers.card(card) for card in popular], shown)
        tags = [home_tag(market.id), navigation_tag(market.id), *_product_tags(market, [*popular, *showcase.values()])]
        return Rendered(body, _HTML, _page_hints(snapshot, [*tags, *_rates(market, offers)]))

    async def category(self, request: Request) -> Response:
        market, path = self._market(request), request.path_params["path"]
        sort, page = _sort_of(request), _page_of(request)
        about = ("category-page", market.id, path, sort.value, str(page), _seen_at(request))
        return await self._answer(request, about, partial(self._category, request, market, path, sort, page))

    async def _category(self, request: Request, market: Market, path: str, sort: Sort, page: int) -> Rendered:
        async with self._snapshot(request) as snapshot:
            tree = await self._trees.at(snapshot)
            category = tree.at(path)
            if category is None:
                what = "There is no such department. It may have moved; the others are above."
                return self._not_found(request, snapshot, market, tree, what, [category_tag(market.id, path)])
            count, cards, offers = await self._listing(snapshot.connection, market, tree.subtree(path), sort, page)
        if page > 1 and not cards:
            what = f"{category.name} has fewer pages than that."
            tags = [category_tag(market.id, path)]
            return self._not_found(request, snapshot, market, tree, what, tags)
        frame = self._frame(
            request, market, tree, f"{category_path(market.id, category.path)}{listing_query(sort, page)}"
        )
        shown = [offers.card(card) for card in cards]
        body = self._pages.category(frame, category, shown, sort=sort, page=page, count=count)
        tags = [category_tag(market.id, path), navigation_tag(market.id), *_product_tags(market, cards)]
        if sort.by_price:
            tags += [category_prices_tag(market.id, path), rates_tag(market.id)]
        return Rendered(body, _HTML, _page_hints(snapshot, [*tags, *_rates(market, offers)]))

    async def product(self, request: Request) -> Response:
        market, slug = self._market(request), request.path_params["slug"]
        wanted = request.query_params.get("variant", "")
        about = ("product-page", market.id, slug, wanted, _seen_at(request))
        return await self._answer(request, about, partial(self._product, request, market, slug, wanted))

    async def _product(self, request: Request, market: Market, slug: str, wanted: str) -> Rendered:
        async with self._snapshot(request) as snapshot:
            tree = await self._trees.at(snapshot)
            product = await service.product_by_slug(snapshot.connection, slug)
            if product is None:
                what = "We no longer have this product, or never had it."
                # `l:` as well, for what lists so many products at once that it names none of them.
                tags = [slug_tag(market.id, slug), list_tag(market.id)]
                return self._not_found(request, snapshot, market, tree, what, tags)
            related = await service.related_to(snapshot.connection, product, RELATED_SHOWN)
            skus = [product.sku, *(variant.sku for variant in product.variants), *(card.sku for card in related)]
            offers = await self._offers(snapshot.connection, market, skus)
        chosen = wanted if any(variant.sku == wanted for variant in product.variants) else product.sku
        # A variant has no page of its own: search engines are shown the product's.
        frame = self._frame(request, market, tree, product_path(market.id, product.slug))
        body = self._pages.product(frame, product, offers, chosen, [offers.card(card) for card in related])
        tags = [
            slug_tag(market.id, slug),
            navigation_tag(market.id),
            *_product_tags(market, [product.card, *related]),
            # What is related is chosen among the members of these.
            *(category_tag(market.id, path) for path in product.category_paths),
        ]
        # A variant that it does not have could have any name: the page is the product's, and is kept as that.
        hints = _page_hints(snapshot, [*tags, *_rates(market, offers)])
        return Rendered(body, _HTML, hints, keep=wanted in {"", chosen})

    async def anything_else(self, request: Request) -> Response:
        """A page that does not exist, below a market that does."""
        market = self._market(request)
        async with self._snapshot(request) as snapshot:
            tree = await self._trees.at(snapshot)
        found = self._not_found(request, snapshot, market, tree, "There is no page at this address.", [])
        return cached(request, found.body, found.media_type, found.hints, found.status)

    def _not_found(
        self, request: Request, snapshot: Snapshot, market: Market, tree: Tree, what: str, tags: Iterable[str]
    ) -> Rendered:
        body = self._pages.not_found(self._frame(request, market, tree, f"/{market.id}/"), what)
        hints = _hints(snapshot, [*tags, navigation_tag(market.id)], NOT_FOUND_FRESH_S)
        return Rendered(body, _HTML, hints, 404)

    async def _offers(self, connection: AsyncConnection, market: Market, skus: Sequence[str]) -> Offers:
        """What these cost in `market`, and whether they are in stock."""
        prices = await pricing.prices(connection, self._shop.markets, market, skus)
        return Offers(market, skus, prices, await inventory.bands(connection, skus))

    async def _listing(
        self, connection: AsyncConnection, market: Market, categories: Sequence[Any], sort: Sort, page: int
    ) -> tuple[int, list[Card], Offers]:
        """How many products the categories have, those of one page, and what these cost."""
        offset = (page - 1) * PAGE_SIZE
        if not sort.by_price:
            count, cards = await service.page_of(connection, categories, sort, offset, PAGE_SIZE)
            return count, cards, await self._offers(connection, market, [card.sku for card in cards])
        skus = await service.skus_in(connection, categories)
        prices = await pricing.prices(connection, self._shop.markets, market, skus)
        here = by_price(skus, prices, descending=sort is Sort.PRICE_DOWN)[offset : offset + PAGE_SIZE]
        cards = await service.cards(connection, here)
        bands = await inventory.bands(connection, here)
        return len(skus), cards, Offers(market, here, {sku: prices[sku] for sku in here if sku in prices}, bands)

    # JSON.

    async def products_json(self, request: Request) -> Response:
        """Listed products by SKU, 24 a page, with price and band."""
        market, page = self._market(request), _page_of(request)
        about = ("product-list", market.id, str(page))
        return await self._answer(request, about, partial(self._products_json, request, market, page))

    async def _products_json(self, request: Request, market: Market, page: int) -> Rendered:
        async with self._snapshot(request) as snapshot:
            count = await service.count_all(snapshot.connection)
            cards = await service.all_products(snapshot.connection, (page - 1) * PAGE_SIZE, PAGE_SIZE)
            offers = await self._offers(snapshot.connection, market, [card.sku for card in cards])
        pages = max(1, -(-count // PAGE_SIZE))
        tags = [list_tag(market.id), navigation_tag(market.id), *_product_tags(market, cards), *_rates(market, offers)]
        if page > pages:
            return _json_not_found(snapshot, tags, f"There are {pages} pages, not {page}.")
        base = f"/api/v1/{market.id}/products"
        document = {
            "market": market.id,
            "currency": market.currency,
            "page": page,
            "pages": pages,
            "count": count,
            "next": f"{base}?page={page + 1}" if page < pages else None,
            "previous": f"{base}?page={page - 1}" if page > 1 else None,
            "products": [
                {
                    "sku": card.sku,
                    "name": card.name,
                    "url": product_path(market.id, card.slug),
                    "picture": art.path_of(card),
                    "category": card.category_path or None,
                    **_offer(offers, card.sku),
                }
                for card in cards
            ],
        }
        return _json(document, snapshot, tags)

    async def product_json(self, request: Request) -> Response:
        """One product with its variants; asked for by its SKU or by that of a variant."""
        market, sku = self._market(request), request.path_params["sku"]
        about = ("product", market.id, sku)
        return await self._answer(request, about, partial(self._product_json, request, market, sku))

    async def _product_json(self, request: Request, market: Market, sku: str) -> Rendered:
        async with self._snapshot(request) as snapshot:
            found = await service.product_of(snapshot.connection, sku)
            product = None if found is None else await service.product_by_sku(snapshot.connection, found.sku)
            if product is None:
                # A product that is listed later may bring this SKU as a variant: its event names the list as well.
                tags = [product_tag(market.id, sku if found is None else found.sku), list_tag(market.id)]
                return _json_not_found(snapshot, tags, f"No product has the SKU {sku[:80]!r}.")
            skus = [product.sku, *(variant.sku for variant in product.variants)]
            offers = await self._offers(snapshot.connection, market, skus)
        document = {
            "sku": product.sku,
            "market": market.id,
            "name": product.name,
            "url": product_path(market.id, product.slug),
            "picture": art.path_of(product.card),
            "description": product.description,
            "categories": list(product.category_paths),
            "attributes": product.attributes,
            "options": product.options,
            **_offer(offers, product.sku),
            "variants": [
                {"sku": variant.sku, "options": variant.options, **_offer(offers, variant.sku)}
                for variant in product.variants
            ],
        }
        tags = [*_product_tags(market, [product.card]), navigation_tag(market.id), *_rates(market, offers)]
        return _json(document, snapshot, tags)

    # Files.

    async def picture(self, request: Request) -> Response:
        """The drawn picture of a product; the digest must be that of its drawing as it is now."""
        sku, digest = request.path_params["sku"], request.path_params["digest"]
        async with self._snapshot(request) as snapshot:
            cards = await service.cards(snapshot.connection, [sku])
        if not cards or digest != art.digest_of(cards[0]):
            hints = _hints(snapshot, [picture_tag(sku)], NOT_FOUND_FRESH_S)
            return cached(request, b"There is no such picture.\n", "text/plain; charset=utf-8", hints, status=404)
        hints = _hints(snapshot, [picture_tag(sku)], IMMUTABLE_S, immutable=True)
        return cached(request, art.draw(cards[0]).encode(), "image/svg+xml", hints)

    async def static(self, request: Request) -> Response:
        """A style sheet or icon; another digest is another release's, which this worker does not have."""
        name = request.path_params["name"]
        async with self._snapshot(request) as snapshot:
            pass
        if name not in STATIC or request.path_params["digest"] != static_digest(name):
            # Its own release may be started any moment, so nobody keeps this.
            return uncached(b"There is no such file.\n", "text/plain; charset=utf-8", 404)
        content, media_type = STATIC[name]
        return cached(request, content, media_type, _hints(snapshot, [asset_tag(name)], IMMUTABLE_S, immutable=True))

    # What they share.

    def _market(self, request: Request) -> Market:
        """The market in the address. Raises NotFound, which no cache keeps: it could be any text."""
        market = self._shop.markets.by_id(request.path_params["market"])
        if market is None:
            known = ", ".join(known.id for known in self._shop.markets.all)
            raise NotFound(f"There is nothing at this address. The shop's markets are {known}.")
        return market

    def _snapshot(self, request: Request) -> AbstractAsyncContextManager[Snapshot]:
        return self._shop.readthrough.snapshot(request)

    async def _answer(
        self, request: Request, about: tuple[str, ...], read: Callable[[], Awaitable[Rendered]]
    ) -> Response:
        return await self._shop.readthrough.answer(request, about, read)

    def _frame(self, request: Request, market: Market, tree: Tree, path: str) -> Frame:
        return Frame(market, self._shop.markets, tree, _seen_at(request), path)


def same_page_in(markets: Markets, market: Market, return_to: str) -> str:
    """The address of the page `return_to` in `market`; its home page when that is no page of this shop.

    Only a path that starts with a market of ours is followed: never another host, whatever a browser would make of
    `//`, a backslash, a scheme or a line break.
    """
    path, _, query = return_to.partition("?")
    head, _, rest = path.removeprefix("/").partition("/")
    if not _PATH.fullmatch(return_to) or "#" in return_to or markets.by_id(head) is None or len(return_to) > 2_000:
        return f"/{market.id}/"
    # Taken apart and written anew: what is not plain text in an address is escaped again.
    safe = quote(unquote(rest), safe="/~!$&'()*+,;=:@-._")
    fields = parse_qsl(query, max_num_fields=20)[:20] if query.count("&") < 20 else []
    pairs = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in fields)
    return f"/{market.id}/{safe}{'?' if pairs else ''}{pairs}"


def _redirect(status: int, location: str) -> Response:
    return uncached(b"", "text/plain; charset=utf-8", status, {"location": location})


def _seen_at(request: Request) -> str:
    """Scheme and authority as the viewer wrote them; empty when that is no authority."""
    authority = request.headers.get("x-forwarded-host") or request.headers.get("host", "")
    return f"{_scheme(request)}://{authority.lower()}" if _AUTHORITY.fullmatch(authority) else ""


def _scheme(request: Request) -> str:
    scheme = request.headers.get("x-forwarded-proto", request.url.scheme)
    return scheme if scheme in {"http", "https"} else "http"


def _sort_of(request: Request) -> Sort:
    try:
        return Sort(request.query_params.get("sort", Sort.POPULAR))
    except ValueError:
        return Sort.POPULAR


def _page_of(request: Request) -> int:
    text = request.query_params.get("page", "1")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 6 and 1 <= int(text) <= MAX_PAGE else 1


def by_price(skus: Sequence[str], prices: dict[str, Price], *, descending: bool) -> list[str]:
    """`skus` by their price, equal ones by SKU; what has no price here comes last in either order."""
    priced = sorted(sku for sku in skus if sku in prices)
    priced.sort(key=lambda sku: prices[sku].money.minor_units, reverse=descending)
    return priced + sorted(sku for sku in skus if sku not in prices)


def _product_tags(market: Market, cards: Iterable[Card]) -> list[str]:
    shown = list(cards)
    departments = dict.fromkeys(department_tag(market.id, card.category_path) for card in shown if card.category_path)
    return [*(product_tag(market.id, card.sku) for card in shown), *departments]


def _rates(market: Market, offers: Offers) -> list[str]:
    return [rates_tag(market.id)] if offers.hang_on_rates else []


def _hints(snapshot: Snapshot, tags: Iterable[str], fresh_s: int, *, immutable: bool = False) -> CacheHints:
    """Of what shows no price."""
    return CacheHints(
        fresh_s=fresh_s,
        stale_while_revalidate_s=0,
        stale_if_error_s=PAGE_STALE_IF_ERROR_S,
        tags=tuple(tags),
        position=snapshot.position,
        immutable=immutable,
    )


def _page_hints(snapshot: Snapshot, tags: Iterable[str]) -> CacheHints:
    """Of a page with prices: kept long, for every change purges it, and shown stale-marked while the origin is away."""
    return CacheHints(
        fresh_s=PAGE_FRESH_S,
        stale_while_revalidate_s=PAGE_STALE_WHILE_REVALIDATE_S,
        stale_if_error_s=PAGE_STALE_IF_ERROR_S,
        tags=tuple(tags),
        position=snapshot.position,
        shows_price=True,
    )


def _offer(offers: Offers, sku: str) -> dict[str, Any]:
    """Price and band as the price and stock resources say them."""
    price = offers.prices.get(sku)
    return {
        "price": None
        if price is None
        else {
            "sku": sku,
            "market": offers.market.id,
            "currency": price.money.currency,
            "amount": amount_text(price.money),
            "amount_minor": price.money.minor_units,
            "source": price.source,
        },
        "stock": offers.band(sku).value,
    }


def _json(document: dict[str, Any], snapshot: Snapshot, tags: Iterable[str]) -> Rendered:
    """JSON with prices: programs act on it, so it is never served stale on an error."""
    hints = CacheHints(
        fresh_s=JSON_FRESH_S,
        stale_while_revalidate_s=0,
        stale_if_error_s=0,
        tags=tuple(tags),
        position=snapshot.position,
        shows_price=True,
    )
    return Rendered(orjson.dumps(document), "application/json", hints)


def _json_not_found(snapshot: Snapshot, tags: Iterable[str], detail: str) -> Rendered:
    document = {"type": "about:blank", "title": "Not Found", "status": 404, "detail": detail}
    hints = CacheHints(
        fresh_s=NOT_FOUND_FRESH_S,
        stale_while_revalidate_s=0,
        stale_if_error_s=0,
        tags=tuple(tags),
        position=snapshot.position,
    )
    return Rendered(orjson.dumps(document), "application/problem+json", hints, 404)
