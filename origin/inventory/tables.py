"""The table of schema `inventory`, and the reads and writes over it; nobody else touches it.

Only the band is public, so only a transaction that changes a band must have a purge-log row (migration 0003).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice

from sqlalchemy import ARRAY, Column, Integer, MetaData, Table, Text, any_, bindparam, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from origin.inventory.model import LOW_AT

metadata = MetaData(schema="inventory")

stock = Table(
    "stock",
    metadata,
    Column("sku", Text, primary_key=True),
    Column("on_hand", Integer, nullable=False),
    Column("low_at", Integer, nullable=False, server_default=str(LOW_AT)),
)

_ROWS_AT_ONCE = 5_000


async def levels(connection: AsyncConnection, skus: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Pieces on hand, and at how many they are low, of those of `skus` that have a row."""
    wanted = bindparam("skus", type_=ARRAY(Text))
    rows = await connection.execute(select(stock).where(stock.c.sku == any_(wanted)), {"skus": list(skus)})
    return {row.sku: (row.on_hand, row.low_at) for row in rows}


async def lock(connection: AsyncConnection, sku: str) -> tuple[int, int]:
    """Holds the stock row of `sku` until the end of the transaction; makes an empty one where there is none.

    Gives the pieces on hand, and at how many they are low.
    """
    await connection.execute(insert(stock).values(sku=sku, on_hand=0).on_conflict_do_nothing())
    row = (await connection.execute(select(stock).where(stock.c.sku == sku).with_for_update())).one()
    return row.on_hand, row.low_at


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
