"""`GET /api/v1/{market}/prices/{sku}`: one price, small and on its own, so that a change purges little."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from cache_policies.markets import Market
from cache_policies.tags import department_tag, list_tag, product_tag, rates_tag
from origin.caching import CacheHints
from origin.catalog import service as catalog
from origin.pricing.service import checked_sku, market_of, price_json, prices
from origin.readthrough import Rendered

if TYPE_CHECKING:
    from origin.shop import Shop

FRESH_S = 300
"""A purge ends it sooner; this bounds what a cache without floors (CloudFront) may show."""
NOT_FOUND_FRESH_S = 30


def routes(shop: Shop) -> list[BaseRoute]:
    """The routes of prices that the public may read."""

    async def show(request: Request) -> Response:
        market, sku = market_of(shop.markets, request.path_params["market"]), checked_sku(request.path_params["sku"])
        return await shop.readthrough.answer(request, ("price", market.id, sku), partial(read, request, market, sku))

    async def read(request: Request, market: Market, sku: str) -> Rendered:
        async with shop.readthrough.snapshot(request) as snapshot:
            product = await catalog.product_of(snapshot.connection, sku)
            # A product that was taken down has no price that anybody could pay.
            cards = [] if product is None else await catalog.cards(snapshot.connection, [product.sku])
            listed = bool(cards)
            price = (await prices(snapshot.connection, shop.markets, market, [sku])).get(sku) if listed else None
        if product is None or price is None:
            # A rate, a price or a listing may make it known; `l:` because a variant is listed under its product's SKU.
            asked = product_tag(market.id, product.sku if product else sku)
            body = {
                "type": "about:blank",
                "title": "Not Found",
                "status": 404,
                "detail": f"no price of {sku[:80]!r} in {market.id}",
            }
            tags = (asked, list_tag(market.id), rates_tag(market.id))
            hints = CacheHints(NOT_FOUND_FRESH_S, 0, 0, tags, snapshot.position, shows_price=True)
            return Rendered(orjson.dumps(body), "application/problem+json", hints, 404)
        converted = (rates_tag(market.id),) if price.source == "converted" else ()
        departments = (department_tag(market.id, card.category_path) for card in cards if card.category_path)
        tags = (product_tag(market.id, product.sku), *departments, *converted)
        hints = CacheHints(FRESH_S, 0, 0, tags, snapshot.position, shows_price=True)
        return Rendered(orjson.dumps(price_json(price, market)), "application/json", hints)

    return [Route("/api/v1/{market}/prices/{sku:path}", show, methods=["GET"], name="price")]
