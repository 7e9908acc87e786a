"""Alembic's entry: connects as the owner and runs each step in a transaction of its own."""

from __future__ import annotations

import asyncio

from alembic import context
from sqlalchemy import Connection, pool, text
from sqlalchemy.ext.asyncio import create_async_engine

MIGRATION_LOCK = 0x6E656172
"""Number of the advisory lock that makes a second migration wait for the first."""


def _run(connection: Connection) -> None:
    connection.execute(text("SELECT pg_advisory_lock(:number)"), {"number": MIGRATION_LOCK})
    connection.commit()
    context.configure(connection=connection, transaction_per_migration=True, version_table_schema="public")
    try:
        with context.begin_transaction():
            context.run_migrations()
        connection.commit()
    finally:
        connection.rollback()
        connection.execute(text("SELECT pg_advisory_unlock(:number)"), {"number": MIGRATION_LOCK})
        connection.commit()


async def _migrate(url: str) -> None:
    engine = create_async_engine(url, poolclass=pool.NullPool)
    async with engine.connect() as connection:
        await connection.run_sync(_run)
    await engine.dispose()


asyncio.run(_migrate(context.config.attributes["database_url"]))
