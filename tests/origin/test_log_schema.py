"""What the database itself refuses: plain SQL, as the owner and as the application (rule 11)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from tests.support.servers import DatabaseUrls

LOG = "SELECT events.log_purge('hard', ARRAY['*'], 'test', 'tests')"


@pytest.fixture
async def owner(database: DatabaseUrls) -> AsyncIterator[AsyncConnection]:
    engine = create_async_engine(database.admin, poolclass=NullPool)
    async with engine.connect() as connection:
        for statement in (
            "CREATE TABLE public.shown (id integer PRIMARY KEY, price integer, note text)",
            "SELECT events.watch('public.shown')",
            "CREATE TABLE public.partly (id integer PRIMARY KEY, band text, on_hand integer)",
            "SELECT events.watch('public.partly', 'band')",
            "GRANT ALL ON public.shown, public.partly TO nearshelf",
        ):
            await connection.execute(text(statement))
        await connection.commit()
        yield connection


@pytest.fixture
async def application(owner: AsyncConnection, database: DatabaseUrls) -> AsyncIterator[AsyncConnection]:
    engine = create_async_engine(database.primary, poolclass=NullPool)
    async with engine.connect() as connection:
        yield connection


async def run(connection: AsyncConnection, *statements: str) -> None:
    for statement in statements:
        await connection.execute(text(statement))
    await connection.commit()


async def refused(connection: AsyncConnection, *statements: str) -> str:
    with pytest.raises(DBAPIError) as caught:
        await run(connection, *statements)
    await connection.rollback()
    return str(caught.value.orig)


async def head(connection: AsyncConnection) -> tuple[int, int]:
    row = (await connection.execute(text("SELECT epoch, cv FROM events.clock"))).one()
    await connection.rollback()
    return row.epoch, row.cv


@pytest.mark.parametrize(
    "change",
    [
        pytest.param("INSERT INTO shown VALUES (2, 1, '')", id="insert"),
        pytest.param("UPDATE shown SET price = 2", id="update"),
        pytest.param("DELETE FROM shown", id="delete"),
        pytest.param("TRUNCATE shown", id="truncate"),
        pytest.param("INSERT INTO shown VALUES (1, 9, '') ON CONFLICT (id) DO UPDATE SET price = 9", id="upsert"),
        pytest.param("WITH c AS (UPDATE shown SET price = 3 RETURNING 1) SELECT * FROM c", id="inside a query"),
    ],
)
async def test_a_change_of_a_shown_table_without_a_purge_is_refused_at_commit(owner, change):
    await run(owner, "INSERT INTO shown VALUES (1, 1, '')", LOG)
    before = await head(owner)
    message = await refused(owner, change)
    assert "changes public.shown" in message
    assert "without a purge-log row" in message
    assert (await owner.execute(text("SELECT price FROM shown"))).scalars().all() == [1]
    await owner.rollback()
    assert await head(owner) == before
    await run(owner, change, LOG)
    assert await head(owner) == (before[0], before[1] + 1)


async def test_the_refusal_says_what_to_do(owner):
    with pytest.raises(DBAPIError) as caught:
        await run(owner, "INSERT INTO shown VALUES (1, 1, '')")
    error: Any = caught.value.orig
    cause = error.__cause__
    assert cause.sqlstate == "23000"
    assert "events.log_purge" in cause.hint
    assert "Edges would go on" in cause.detail


async def test_the_log_may_be_written_before_the_change(owner):
    await run(owner, LOG, "INSERT INTO shown VALUES (1, 1, '')")
    assert await head(owner) == (1, 2)


async def test_a_change_that_was_rolled_back_to_a_savepoint_needs_no_purge(owner):
    await run(owner, "SAVEPOINT a", "INSERT INTO shown VALUES (1, 1, '')", "ROLLBACK TO SAVEPOINT a")
    message = await refused(
        owner,
        *("SAVEPOINT a", "INSERT INTO shown VALUES (1, 1, '')", "ROLLBACK TO SAVEPOINT a"),
        "INSERT INTO shown VALUES (2, 1, '')",
    )
    assert "without a purge-log row" in message


async def test_checking_early_does_not_let_a_later_change_through(owner):
    message = await refused(owner, "SET CONSTRAINTS ALL IMMEDIATE", "INSERT INTO shown VALUES (1, 1, '')")
    assert "without a purge-log row" in message


async def test_the_marker_does_not_outlive_the_transaction(owner):
    await run(owner, "INSERT INTO shown VALUES (1, 1, '')", "UPDATE shown SET price = 2", LOG)
    assert (await owner.execute(text("SELECT count(*) FROM events.unlogged_change"))).scalar_one() == 0


async def test_columns_that_are_not_shown_may_change_freely(owner):
    await run(owner, "INSERT INTO partly VALUES (1, 'low', 3)", LOG)
    await run(owner, "UPDATE partly SET on_hand = 2")
    assert "changes public.partly" in await refused(owner, "UPDATE partly SET band = 'out', on_hand = 0")
    assert "changes public.partly" in await refused(owner, "DELETE FROM partly")


async def test_an_old_row_with_the_number_of_this_transaction_is_no_excuse(owner):
    # After a dump and restore into another server, transaction numbers begin again.
    await run(owner, LOG, "ALTER TABLE events.purge_log DISABLE TRIGGER USER")
    await owner.execute(text("INSERT INTO shown VALUES (1, 1, '')"))
    await owner.execute(text("UPDATE events.purge_log SET xid = pg_current_xact_id() WHERE cv = 1"))
    with pytest.raises(DBAPIError, match="without a purge-log row"):
        await owner.commit()
    await owner.rollback()
    await run(owner, "ALTER TABLE events.purge_log ENABLE TRIGGER USER")


async def test_the_log_begins_with_everything(owner):
    row = (await owner.execute(text("SELECT epoch, cv, kind, tags FROM events.purge_log"))).one()
    assert (row.epoch, row.cv, row.kind, row.tags) == (1, 1, "hard", ["*"])


BENT = [
    "UPDATE events.purge_log SET tags = ARRAY['x']",
    "DELETE FROM events.purge_log",
    "TRUNCATE events.purge_log CASCADE",
    "DELETE FROM events.clock",
    "TRUNCATE events.clock",
    "INSERT INTO events.clock VALUES (false, 1, 1, 0)",
    "INSERT INTO events.purge_log (epoch, cv, kind, tags, cause, actor) VALUES (1, 9, 'hard', '{*}', '', '')",
    "UPDATE events.clock SET cv = 99",
    "SELECT events.log_purge('hard', ARRAY[]::text[], '', '')",
    "SELECT events.log_purge('hard', ARRAY['a', NULL], '', '')",
    "SELECT events.log_purge('warm', ARRAY['a'], '', '')",
    "SELECT events.log_purge('hard', array_fill('x'::text, ARRAY[1001]), '', '')",
    "SELECT events.log_purge('epoch', ARRAY[]::text[], '', '')",
    "SELECT events.log_purge('epoch', ARRAY['a'], '', '')",
    "SELECT events.raise_epoch(NULL)",
]


async def test_even_the_owner_cannot_bend_the_log_by_accident(owner):
    for statement in BENT:
        await refused(owner, statement)
        assert await head(owner) == (1, 1), statement


FORBIDDEN = [
    "UPDATE events.clock SET cv = cv + 1",
    "INSERT INTO events.purge_log (epoch, cv, kind, tags, cause, actor) VALUES (1, 2, 'hard', '{*}', '', '')",
    "DELETE FROM events.purge_log",
    "DELETE FROM events.unlogged_change",
    "INSERT INTO events.unlogged_change VALUES (pg_current_xact_id(), 'x')",
    "ALTER TABLE shown DISABLE TRIGGER USER",
    "SET session_replication_role = replica",
    "SELECT events.watch('public.shown')",
    "SELECT events.raise_epoch('me')",
]


async def test_the_application_cannot_get_around_the_log(application):
    for statement in FORBIDDEN:
        message = await refused(application, statement)
        assert "permission denied" in message or "must be owner" in message, statement


async def test_the_application_logs_through_the_function(application):
    await run(application, "INSERT INTO shown VALUES (1, 1, '')", LOG)
    assert await head(application) == (1, 2)
    row = (await application.execute(text("SELECT xid, actor FROM events.purge_log WHERE cv = 2"))).one()
    assert row.actor == "tests"


async def test_trimming_keeps_the_newest_the_young_and_the_last(owner):
    for _ in range(9):
        await run(owner, LOG)
    trim = text("SELECT events.trim_purge_log(:keep)")
    assert (await owner.execute(trim, {"keep": 1})).scalar_one() == 0  # all are younger than an hour
    await owner.commit()
    await run(
        owner,
        "ALTER TABLE events.purge_log DISABLE TRIGGER USER",
        "UPDATE events.purge_log SET at = at - interval '2 hours' WHERE cv <= 8",
        "ALTER TABLE events.purge_log ENABLE TRIGGER USER",
    )
    assert (await owner.execute(trim, {"keep": 100})).scalar_one() == 0
    assert (await owner.execute(trim, {"keep": 4})).scalar_one() == 6
    assert (await owner.execute(trim, {"keep": 0})).scalar_one() == 2
    left = (await owner.execute(text("SELECT cv FROM events.purge_log ORDER BY cv"))).scalars().all()
    assert left == [9, 10]
    await owner.commit()
    # Trimming opened no door for others.
    assert "append-only" in await refused(owner, "DELETE FROM events.purge_log")


async def test_trimming_never_empties_the_log(owner):
    await run(
        owner,
        "ALTER TABLE events.purge_log DISABLE TRIGGER USER",
        "UPDATE events.purge_log SET at = at - interval '2 hours'",
        "ALTER TABLE events.purge_log ENABLE TRIGGER USER",
        "SELECT events.trim_purge_log(0)",
    )
    assert (await owner.execute(text("SELECT count(*) FROM events.purge_log"))).scalar_one() == 1
