"""The tables of schema `inventory`, and the reads and writes over them; nobody else touches them.

Only the band is public, so only a transaction that changes a band must have a purge-log row. A trigger keeps `band`
in step with `stock` (migration 0003).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice

from sqlalchemy import ARRAY, Column, Integer, MetaData, Table, Text, any_, bindparam, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from origin.inventory.model import Band

metadata = MetaData(schema="inventory")

stock = Table(
    "stock",
    metadata,
    Column("sku", Text, primary_key=True),
    Column("on_hand", Integer, nullable=False),
    Column("low_at", Integer, nullable=False, server_default="5"),
)

band = Table("band", metadata, Column("sku", Text, primary_key=True), Column("band", Text, nullable=False))
"""A SKU without a row is out. Written by the trigger only."""

_ROWS_AT_ONCE = 5_000


async def bands(connection: AsyncConnection, skus: Sequence[str]) -> dict[str, Band]:
    """The bands of those of `skus` that have a row."""
    wanted = bindparam("skus", type_=ARRAY(Text))
    rows = await connection.execute(select(band).where(band.c.sku == any_(wanted)), {"skus": list(skus)})
    return {row.sku: Band(row.band) for row in rows}


async def lock(connection: AsyncConnection, sku: str) -> int:
    """Holds the stock row of `sku` until the end of the transaction, making an empty one; the pieces on hand."""
    await connection.execute(insert(stock).values(sku=sku, on_hand=0).on_conflict_do_nothing())
    on_hand: int = (
        await connection.execute(select(stock.c.on_hand).where(stock.c.sku == sku).with_for_update())
    ).scalar_one()
    return on_hand


async def write(connection: AsyncConnection, sku: str, on_hand: int) -> None:
    """Sets the pieces on hand of a row that `lock` holds."""
    await connection.execute(update(stock).where(stock.c.sku == sku).values(on_hand=on_hand))


async def upsert(connection: AsyncConnection, rows: Iterable[tuple[str, int]]) -> int:
    """Writes (sku, pieces on hand), the last of equal SKUs winning; how many rows were read."""
    statement = insert(stock).from_select(
        ["sku", "on_hand"],
        select(
            func.unnest(bindparam("skus", type_=ARRAY(Text))), func.unnest(bindparam("amounts", type_=ARRAY(Integer)))
        ),
    )
    statement = statement.on_conflict_do_update(
        index_elements=[stock.c.sku], set_={"on_hand": statement.excluded.on_hand}
    )
    count, rows = 0, iter(rows)
    while batch := list(islice(rows, _ROWS_AT_ONCE)):
        count += len(batch)
        unique = dict(batch)
        await connection.execute(statement, {"skus": list(unique), "amounts": list(unique.values())})
    return count
