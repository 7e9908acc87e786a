"""Use cases of stock: which band a SKU is in, and setting what is on hand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy.ext.asyncio import AsyncConnection

from cache_policies.positions import Position
from origin.accounts import audit
from origin.catalog import service as catalog
from origin.events.messages import StockBandChanged
from origin.inventory import tables
from origin.inventory.model import Band, checked_on_hand
from origin.pricing.model import UnknownSku

if TYPE_CHECKING:
    from origin.shop import Shop


@dataclass(frozen=True, slots=True)
class StockSet:
    """Committed stock. Without a position the band stayed what it was: nothing public changed."""

    position: Position | None
    purge_id: str
    before: Band
    band: Band


async def bands(connection: AsyncConnection, skus: Sequence[str]) -> dict[str, Band]:
    """The band of each of `skus`. What was never counted is out."""
    known = await tables.bands(connection, skus)
    return {sku: known.get(sku, Band.OUT) for sku in skus}


async def set_stock(shop: Shop, actor: str, sku: str, on_hand: int, reason: str = "") -> StockSet:
    """Sets how many pieces of `sku` are on hand; purges only when its band changes.

    Raises StockError for a number that cannot be, UnknownSku for a SKU that the catalog does not have.
    """
    checked_on_hand(on_hand)
    async with shop.database.unit_of_work(actor=actor, cause="stock set") as work:
        product = await catalog.product_of(work.connection, sku)
        if product is None:
            raise UnknownSku(sku)
        was = await tables.lock(work.connection, sku)
        before = (await bands(work.connection, [sku]))[sku]
        await tables.write(work.connection, sku, on_hand)
        after = (await bands(work.connection, [sku]))[sku]
        if before is not after:
            work.record(StockBandChanged(product.sku, await catalog.category_paths_of(work.connection, product.sku)))
        await audit.write(
            work.connection,
            actor=actor,
            action="stock.set",
            subject=sku,
            before={"on_hand": was, "band": before.value},
            after={"on_hand": on_hand, "band": after.value},
            reason=reason,
            purge_id=work.purge_id if before is not after else None,
        )
    return StockSet(work.position, work.purge_id, before, after)


async def load_stock(connection: AsyncConnection, rows: Iterable[tuple[str, int]]) -> int:
    """Writes stock (sku, pieces on hand) in bulk, inside the caller's unit of work; how many.

    The caller records the event: only it knows what the rows belong to.
    """
    return await tables.upsert(connection, rows)
