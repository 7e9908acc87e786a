"""Purging by hand: what staff may name, and the tags that it stands for."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cache_policies.feed import PurgeWish
from cache_policies.markets import Market
from cache_policies.positions import MAX_TAG_CHARACTERS, MAX_TAGS_PER_ENTRY, PurgeKind
from cache_policies.tags import EVERYTHING, category_prices_tag, category_tag, product_tag
from origin.accounts.model import Role, Staff, require
from origin.accounts.orders import Order, Purged
from origin.catalog import service as catalog
from origin.errors import Invalid
from origin.pricing.model import UnknownSku
from origin.pricing.service import market_of, similar_skus

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from origin.shop import Shop

_TAG = re.compile(r"[a-z0-9][a-z0-9:._~%*!$'()+-]*", re.ASCII)
_PATH_TAG = re.compile(r"path:/[!-+\--@\[-~]*", re.ASCII)
"""What edges add to everything that they store (`cache_policies.tags.path_tag`)."""


@dataclass(frozen=True, slots=True)
class PurgeOrder:
    """What to purge: exactly one of `tags`, `product` and `category`."""

    kind: PurgeKind
    tags: tuple[str, ...] = ()
    product: str | None = None
    """SKU of a product or of a variant: whatever shows the product."""
    category: str | None = None
    """Path of a category: its pages; the products in it keep theirs."""
    market: str | None = None
    """Of a product or category: only there; None: in every market."""
    reason: str = ""


class BadPurge(Invalid):
    """A purge that names nothing, too much, or something that cannot be a tag."""

    def __init__(self, why: str, field: str) -> None:
        super().__init__(why, {field: why})


async def purge(shop: Shop, staff: Staff, order: PurgeOrder) -> Purged:
    """Purges what `order` names, on every edge.

    Raises RoleTooLow below editor, and below admin for everything at once and hard; BadPurge, UnknownMarket and
    UnknownSku for what cannot be purged.
    """
    require(staff, Role.EDITOR, "a purge")
    # The tags as they will be purged: rights are asked for what is done, not for how it was written.
    order = replace(order, tags=checked_tags(order.tags))
    if EVERYTHING in order.tags and order.kind is PurgeKind.HARD:
        require(staff, Role.ADMIN, "a hard purge of everything")
    async with shop.database.writes.connect() as connection:
        tags = await _tags_of(shop, connection, order)
    return await shop.purges.enter(Order(order.kind, tags, staff.email, "purge by hand", _subject(order), order.reason))


async def purge_for_edge(shop: Shop, wish: PurgeWish) -> Purged:
    """Purges what an edge's operator names, on every edge; the edge stands in the audit list as who did it.

    Raises BadPurge for what cannot be a tag.
    """
    order = PurgeOrder(wish.kind, checked_tags(wish.tags))
    return await shop.purges.enter(
        Order(order.kind, order.tags, f"edge {wish.edge}", "purge through an edge", _subject(order), wish.reason)
    )


async def _tags_of(shop: Shop, connection: AsyncConnection, order: PurgeOrder) -> tuple[str, ...]:
    if sum((bool(order.tags), order.product is not None, order.category is not None)) != 1:
        raise BadPurge("name exactly one of tags, product and category", "tags")
    if order.tags:
        if order.market is not None:
            raise BadPurge("a tag names its market itself: p:eu-eur:sku-1", "market")
        return order.tags
    markets = shop.markets.all if order.market is None else (market_of(shop.markets, order.market),)
    if order.product is not None:
        product = await catalog.product_of(connection, order.product)
        if product is None:
            raise UnknownSku(order.product, await similar_skus(connection, order.product))
        return tuple(product_tag(market.id, product.sku) for market in markets)
    assert order.category is not None
    path = order.category.strip().strip("/")
    tree = await catalog.tree(connection)
    if tree.at(path) is None:
        raise BadPurge(f"there is no category {path[:80]!r}; its path is what follows /c/ in its address", "category")
    return _category_tags(markets, path)


def _category_tags(markets: Iterable[Market], path: str) -> tuple[str, ...]:
    return tuple(
        tag for market in markets for tag in (category_tag(market.id, path), category_prices_tag(market.id, path))
    )


def checked_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """The tags without repeats. Raises BadPurge for text that no response can carry as a tag."""
    distinct = tuple(dict.fromkeys(tag.strip() for tag in tags))
    if len(distinct) > MAX_TAGS_PER_ENTRY:
        raise BadPurge(f"one purge names at most {MAX_TAGS_PER_ENTRY} tags, not {len(distinct)}", "tags")
    for tag in distinct:
        if tag == EVERYTHING:
            continue
        if len(tag) > MAX_TAG_CHARACTERS:
            raise BadPurge(f"a tag has at most {MAX_TAG_CHARACTERS} characters: {tag[:40]!r}...", "tags")
        if not (_TAG.fullmatch(tag) or _PATH_TAG.fullmatch(tag)):
            raise BadPurge(
                f"{tag[:80]!r} is not a tag: tags are lower case and percent-encoded, such as p:eu-eur:sku-1", "tags"
            )
    if EVERYTHING in distinct and len(distinct) > 1:
        raise BadPurge("* is everything already; name it alone", "tags")
    return distinct


def _subject(order: PurgeOrder) -> str:
    if order.tags:
        return ", ".join(order.tags[:5]) + (f" and {len(order.tags) - 5} more" if len(order.tags) > 5 else "")
    where = f"{order.market}/" if order.market else ""
    return f"{where}{order.product}" if order.product is not None else f"{where}c/{order.category}"
