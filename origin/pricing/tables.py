"""The tables of schema `pricing`, and the reads and writes over them; nobody else touches these tables.

Every table here is public: a transaction that changes one without a purge-log row is refused at commit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Column,
    DateTime,
    Integer,
    MetaData,
    Numeric,
    Row,
    Table,
    Text,
    and_,
    bindparam,
    func,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from cache_policies.markets import Market, Rounding
from origin.money import Money
from origin.pricing.model import PriceFacts

metadata = MetaData(schema="pricing")

base_price = Table(
    "base_price",
    metadata,
    Column("sku", Text, primary_key=True),
    Column("currency", Text, nullable=False),
    Column("minor_units", BigInteger, nullable=False),
)
"""One per SKU (of a product or of a variant), in the currency that it was listed in."""

price = Table(
    "price",
    metadata,
    Column("sku", Text, primary_key=True),
    Column("market", Text, primary_key=True),
    Column("currency", Text, nullable=False),
    Column("minor_units", BigInteger),
    Column("version", Integer, nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("updated_by", Text, nullable=False),
)
"""A market's own price. `minor_units` is null once it was removed: the row stays, so its version goes on counting."""

rate = Table(
    "rate",
    metadata,
    Column("base", Text, primary_key=True),
    Column("quote", Text, primary_key=True),
    Column("rate", Numeric(24, 12), nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("updated_by", Text, nullable=False),
)
"""Units of `quote` for one unit of `base`."""

_ROWS_AT_ONCE = 5_000
_Row = TypeVar("_Row")


def _facts_of(row: Row[*tuple[Any, ...]], market: Market, rounding: Rounding) -> PriceFacts:
    return PriceFacts(
        sku=row.sku,
        market=market.id,
        currency=market.currency,
        own=None if row.own_minor_units is None else Money(row.own_minor_units, row.own_currency),
        version=row.version or 0,
        changed_at=row.updated_at,
        changed_by=row.updated_by,
        base=None if row.base_minor_units is None else Money(row.base_minor_units, row.base_currency),
        rate=row.rate,
        rounding=rounding,
    )


_wanted = func.unnest(bindparam("skus", type_=ARRAY(Text))).table_valued("sku").render_derived(name="wanted")
_FACTS = select(
    _wanted.c.sku,
    price.c.minor_units.label("own_minor_units"),
    price.c.currency.label("own_currency"),
    price.c.version,
    price.c.updated_at,
    price.c.updated_by,
    base_price.c.minor_units.label("base_minor_units"),
    base_price.c.currency.label("base_currency"),
    rate.c.rate,
).select_from(
    _wanted.outerjoin(price, and_(price.c.sku == _wanted.c.sku, price.c.market == bindparam("market", type_=Text)))
    .outerjoin(base_price, base_price.c.sku == _wanted.c.sku)
    .outerjoin(rate, and_(rate.c.base == base_price.c.currency, rate.c.quote == bindparam("currency", type_=Text)))
)


async def facts(
    connection: AsyncConnection, market: Market, rounding: Rounding, skus: Sequence[str]
) -> list[PriceFacts]:
    """What the price of each of `skus` in `market` is made from; also of SKUs that have nothing.

    `rounding`: of converted prices in the market's currency (`Markets.rounding_of`).
    """
    rows = await connection.execute(
        _FACTS, {"skus": list(dict.fromkeys(skus)), "market": market.id, "currency": market.currency}
    )
    return [_facts_of(row, market, rounding) for row in rows]


async def lock(connection: AsyncConnection, sku: str, market: str, currency: str, actor: str) -> None:
    """Holds the price row of `sku` in `market` until the end of the transaction; makes it where there is none.

    A row made here says version 0 and no price, as if it were not there.
    """
    await connection.execute(
        insert(price)
        .values(sku=sku, market=market, currency=currency, minor_units=None, version=0, updated_by=actor)
        .on_conflict_do_nothing()
    )
    await connection.execute(
        select(price.c.version).where(price.c.sku == sku, price.c.market == market).with_for_update()
    )


async def lock_all(connection: AsyncConnection, rows: Sequence[tuple[str, str, str]], actor: str) -> None:
    """The same for many (sku, market, currency), always in the same order, so that two batches never wait for each
    other."""
    values = [
        {"sku": sku, "market": market, "currency": currency, "minor_units": None, "version": 0, "updated_by": actor}
        for sku, market, currency in sorted(rows)
    ]
    await connection.execute(insert(price).values(values).on_conflict_do_nothing())
    held = tuple_(price.c.sku, price.c.market).in_([(sku, market) for sku, market, _ in rows])
    await connection.execute(
        select(price.c.version).where(held).order_by(price.c.sku, price.c.market).with_for_update()
    )


async def write_price(
    connection: AsyncConnection, sku: str, market: str, currency: str, minor_units: int | None, actor: str
) -> None:
    """Sets (or, with None, removes) the own price of a row that `lock` holds, and counts its version up."""
    await connection.execute(
        update(price)
        .where(price.c.sku == sku, price.c.market == market)
        .values(
            currency=currency,
            minor_units=minor_units,
            version=price.c.version + 1,
            updated_at=func.clock_timestamp(),
            updated_by=actor,
        )
    )


async def write_rate(connection: AsyncConnection, base: str, quote: str, value: Decimal, actor: str) -> Decimal | None:
    """Sets a rate; gives the one before, if there was one."""
    before = await connection.scalar(
        select(rate.c.rate).where(rate.c.base == base, rate.c.quote == quote).with_for_update()
    )
    row = insert(rate).values(base=base, quote=quote, rate=value, updated_by=actor)
    await connection.execute(
        row.on_conflict_do_update(
            index_elements=[rate.c.base, rate.c.quote],
            set_={"rate": value, "updated_by": actor, "updated_at": func.clock_timestamp()},
        )
    )
    return before


async def rates(connection: AsyncConnection) -> dict[tuple[str, str], Decimal]:
    """Every rate by (base, quote)."""
    return {(row.base, row.quote): row.rate for row in await connection.execute(select(rate))}


async def add_missing_rates(connection: AsyncConnection, rows: Iterable[Mapping[str, Any]]) -> int:
    """Adds the rates that are not there yet and leaves the others alone; how many were added."""
    added = await connection.execute(insert(rate).values(list(rows)).on_conflict_do_nothing().returning(rate.c.base))
    return len(added.all())


async def upsert_base_prices(connection: AsyncConnection, rows: Iterable[tuple[str, str, int]]) -> int:
    """Writes (sku, currency, minor units), the last of equal SKUs winning within a batch; how many rows were read."""
    statement = insert(base_price).from_select(
        ["sku", "currency", "minor_units"],
        select(
            func.unnest(bindparam("skus", type_=ARRAY(Text))),
            func.unnest(bindparam("currencies", type_=ARRAY(Text))),
            func.unnest(bindparam("amounts", type_=ARRAY(BigInteger))),
        ),
    )
    statement = statement.on_conflict_do_update(
        index_elements=[base_price.c.sku],
        set_={"currency": statement.excluded.currency, "minor_units": statement.excluded.minor_units},
    )
    count = 0
    for batch in _batches(rows):
        count += len(batch)
        unique = {row[0]: row for row in batch}
        await connection.execute(
            statement,
            {
                "skus": [row[0] for row in unique.values()],
                "currencies": [row[1] for row in unique.values()],
                "amounts": [row[2] for row in unique.values()],
            },
        )
    return count


async def upsert_prices(connection: AsyncConnection, rows: Iterable[tuple[str, str, str, int]], actor: str) -> int:
    """Writes (sku, market, currency, minor units) as own prices of markets, counting versions up; how many."""
    statement = insert(price).from_select(
        ["sku", "market", "currency", "minor_units", "version", "updated_by"],
        select(
            func.unnest(bindparam("skus", type_=ARRAY(Text))),
            func.unnest(bindparam("markets", type_=ARRAY(Text))),
            func.unnest(bindparam("currencies", type_=ARRAY(Text))),
            func.unnest(bindparam("amounts", type_=ARRAY(BigInteger))),
            1,
            bindparam("actor", type_=Text),
        ),
    )
    statement = statement.on_conflict_do_update(
        index_elements=[price.c.sku, price.c.market],
        set_={
            "currency": statement.excluded.currency,
            "minor_units": statement.excluded.minor_units,
            "version": price.c.version + 1,
            "updated_at": func.clock_timestamp(),
            "updated_by": statement.excluded.updated_by,
        },
    )
    count = 0
    for batch in _batches(rows):
        count += len(batch)
        unique = {row[:2]: row for row in batch}
        await connection.execute(
            statement,
            {
                "skus": [row[0] for row in unique.values()],
                "markets": [row[1] for row in unique.values()],
                "currencies": [row[2] for row in unique.values()],
                "amounts": [row[3] for row in unique.values()],
                "actor": actor,
            },
        )
    return count


def _batches(rows: Iterable[_Row]) -> Iterator[list[_Row]]:
    rows = iter(rows)
    while batch := list(islice(rows, _ROWS_AT_ONCE)):
        yield batch
