"""A failover of the database as its log sees it: the first transaction of whoever is promoted."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from cache_policies.positions import Position
from tests.support.servers import DatabaseUrls

_RAISE = text("SELECT epoch, cv FROM events.raise_epoch('the supervisor', :above)")


async def raise_epoch(database: DatabaseUrls, above: int = 0) -> Position:
    """Begin an epoch, as the supervisor does; the position of its record."""
    engine = create_async_engine(database.admin, poolclass=NullPool)
    async with engine.begin() as connection:
        row = (await connection.execute(_RAISE, {"above": above})).one()
    return Position(row.epoch, row.cv)
