"""`GET /api/v1/{market}/stock/{sku}`: the band of one SKU; how many pieces there are is nobody's business."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from cache_policies.markets import Market
from cache_policies.tags import department_tag, list_tag, product_tag
from origin.caching import CacheHints
from origin.catalog import service as catalog
from origin.inventory.service import bands
from origin.pricing.service import checked_sku, market_of
from origin.readthrough import Rendered

if TYPE_CHECKING:
    from origin.shop import Shop

FRESH_S = 300
"""A purge ends it sooner; this bounds what a cache without floors (CloudFront) may show."""
NOT_FOUND_FRESH_S = 30


def routes(shop: Shop) -> list[BaseRoute]:
    """The routes of stock that the public may read."""

    async def show(request: Request) -> Response:
        market, sku = market_of(shop.markets, request.path_params["market"]), checked_sku(request.path_params["sku"])
        return await shop.readthrough.answer(request, ("stock", market.id, sku), partial(read, request, market, sku))

    async def read(request: Request, market: Market, sku: str) -> Rendered:
        async with shop.readthrough.snapshot(request) as snapshot:
            product = await catalog.product_of(snapshot.connection, sku)
            cards = [] if product is None else await catalog.cards(snapshot.connection, [product.sku])
            band = (await bands(snapshot.connection, [sku]))[sku]
        if product is None or not cards:
            # `l:` because a variant is listed under its product's SKU.
            unknown = (product_tag(market.id, product.sku if product else sku), list_tag(market.id))
            body = {"type": "about:blank", "title": "Not Found", "status": 404, "detail": f"no product {sku[:80]!r}"}
            hints = CacheHints(NOT_FOUND_FRESH_S, 0, 0, unknown, snapshot.position, shows_price=True)
            return Rendered(orjson.dumps(body), "application/problem+json", hints, 404)
        departments = (department_tag(market.id, card.category_path) for card in cards if card.category_path)
        tags = (product_tag(market.id, product.sku), *departments)
        hints = CacheHints(FRESH_S, 0, 0, tags, snapshot.position, shows_price=True)
        return Rendered(orjson.dumps({"sku": sku, "band": band.value}), "application/json", hints)

    return [Route("/api/v1/{market}/stock/{sku:path}", show, methods=["GET"], name="stock")]
