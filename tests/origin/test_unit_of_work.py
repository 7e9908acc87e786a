"""The unit of work: one transaction, one position, no gaps."""

from __future__ import annotations

import asyncio
import random

import pytest
from sqlalchemy import text

from cache_policies.positions import Position
from origin.db import Committed, Database
from origin.events.messages import CatalogReplaced, PriceChanged, StockBandChanged
from origin.events.purge_log import read_after
from origin.shop import Shop
from tests.support.origin import running_shop, settings_of


@pytest.fixture
async def shop(database):
    async with running_shop(settings_of(database)) as (shop, _):
        yield shop


async def log_of(database: Database) -> list:
    async with database.writes.connect() as connection:
        query = "SELECT epoch, cv, id::text AS id, kind, tags, cause, actor FROM events.purge_log ORDER BY epoch, cv"
        return list((await connection.execute(text(query))).all())


async def test_what_happened_becomes_one_entry(shop: Shop):
    async with shop.database.unit_of_work(actor="anna@example.com", cause="price set") as work:
        work.record(PriceChanged("eu-eur", "SKU-1", ("shoes",)))
        work.record(StockBandChanged("SKU-2", ()))
        before = work.position
    assert before is None
    assert work.position == Position(1, 2)
    entry = (await log_of(shop.database))[-1]
    assert (entry.id, entry.actor, entry.cause, entry.kind) == (work.purge_id, "anna@example.com", "price set", "hard")
    assert {"p:eu-eur:sku-1", "p:jp-jpy:sku-2", "many:gb-gbp"} <= set(entry.tags)


async def test_nothing_recorded_takes_no_position(shop: Shop):
    async with shop.database.unit_of_work(actor="a", cause="b") as work:
        await work.connection.execute(text("SELECT 1"))
    assert work.position is None
    assert len(await log_of(shop.database)) == 1


async def test_an_exception_rolls_everything_back(shop: Shop):
    with pytest.raises(ZeroDivisionError):
        async with shop.database.unit_of_work(actor="a", cause="b") as work:
            work.record(CatalogReplaced())
            await work.connection.execute(text("INSERT INTO events.contact VALUES ('worker-x', 'eu', 1, 0, 0, '')"))
            raise ZeroDivisionError
    assert len(await log_of(shop.database)) == 1
    async with shop.database.writes.connect() as connection:
        assert (await connection.execute(text("SELECT count(*) FROM events.contact"))).scalar_one() == 0


async def test_hooks_hear_of_each_position_once_and_only_of_commits(shop: Shop):
    heard: list[Committed] = []
    shop.database.on_commit.append(heard.append)
    async with shop.database.unit_of_work(actor="a", cause="b"):
        pass
    async with shop.database.unit_of_work(actor="a", cause="b") as work:
        work.record(CatalogReplaced())
    assert [(committed.position, committed.id) for committed in heard] == [(work.position, work.purge_id)]


async def test_positions_have_no_gaps_under_concurrent_writers_and_aborts(shop: Shop):
    rng = random.Random(7)
    taken: list[Position] = []

    async def write(number: int) -> None:
        fails = rng.random() < 0.3
        slow = rng.random() * 0.003
        try:
            async with shop.database.unit_of_work(actor=f"writer {number}", cause="race") as work:
                await work.connection.execute(text("SELECT pg_sleep(:s)"), {"s": slow})
                work.record(PriceChanged("eu-eur", f"SKU-{number}", ()))
                if fails:
                    await work.connection.execute(text("SELECT events.log_purge('hard', ARRAY['x'], '', '')"))
                    raise ZeroDivisionError
        except ZeroDivisionError:
            return
        assert work.position is not None
        taken.append(work.position)

    await asyncio.gather(*(write(number) for number in range(80)))
    log = await log_of(shop.database)
    assert [entry.cv for entry in log] == list(range(1, len(log) + 1))
    assert sorted(taken) == [Position(1, cv) for cv in range(2, len(log) + 1)]


async def test_a_snapshot_that_sees_a_position_sees_its_change(shop: Shop):
    """Readers race with writers: whoever sees cv = n sees the row that n wrote, on primary and replica."""
    stop = asyncio.Event()
    seen: set[str] = set()

    async def read(engine) -> None:
        while not stop.is_set():
            async with engine.connect() as connection:
                cv = (await connection.execute(text("SELECT cv FROM events.clock"))).scalar_one()
                applied = (await connection.execute(text("SELECT max(contact) FROM events.contact"))).scalar_one()
                assert cv == 1 or applied == cv, (cv, applied)
                seen.add(str(engine.url))
            await asyncio.sleep(0)

    readers = [asyncio.ensure_future(read(engine)) for engine in (shop.database.primary_fills, *shop.database.replicas)]
    for cv in range(2, 60):
        async with shop.database.unit_of_work(actor="a", cause="b") as work:
            statement = "INSERT INTO events.contact VALUES ('worker-1', 'eu', :cv, 0, 0, '') "
            statement += "ON CONFLICT (worker) DO UPDATE SET contact = excluded.contact"
            await work.connection.execute(text(statement), {"cv": cv})
            work.record(CatalogReplaced())
    stop.set()
    await asyncio.gather(*readers)
    assert len(seen) == 2


async def test_a_cancelled_caller_leaves_no_unannounced_position(shop: Shop):
    """The commit waits for the clock row; its caller is cancelled meanwhile; hooks still hear of what was committed."""
    heard: list[Committed] = []
    shop.database.on_commit.append(heard.append)

    async def change() -> None:
        async with shop.database.unit_of_work(actor="a", cause="b") as work:
            work.record(CatalogReplaced())

    async with shop.database.writes.connect() as blocker:
        await blocker.execute(text("SELECT events.log_purge('hard', ARRAY['x'], 'first', 'a')"))
        task = asyncio.ensure_future(change())
        async with shop.database.log.connect() as connection:
            waiting = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
            while not (await connection.execute(waiting)).scalar_one():
                assert not task.done()
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
        await blocker.commit()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [entry.cv for entry in await log_of(shop.database)] == [1, 2, 3]
    assert [committed.position for committed in heard] == [Position(1, 3)]


async def test_a_caller_cancelled_before_the_commit_takes_no_position(shop: Shop):
    entered = asyncio.Event()

    async def change() -> None:
        async with shop.database.unit_of_work(actor="a", cause="b") as work:
            work.record(CatalogReplaced())
            entered.set()
            await asyncio.sleep(60)

    task = asyncio.ensure_future(change())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(await log_of(shop.database)) == 1


async def test_the_log_is_read_in_pages_with_head_and_oldest(shop: Shop):
    for _ in range(7):
        async with shop.database.unit_of_work(actor="a", cause="b") as work:
            work.record(CatalogReplaced())
    log = await log_of(shop.database)
    async with shop.database.log.connect() as connection:
        page = await read_after(connection, Position(1, 3), log[2].id, limit=2)
        assert [entry.position.cv for entry in page.entries] == [4, 5]
        assert (page.known, page.reaches_head) == (True, False)
        assert (page.head, page.head_id) == (Position(1, 8), log[-1].id)
        assert (page.oldest, page.oldest_id) == (Position(1, 1), log[0].id)
        rest = await read_after(connection, Position(1, 5), page.entries[-1].id, limit=3)
        assert rest.reaches_head
        at_head = await read_after(connection, page.head, page.head_id)
        assert (at_head.entries, at_head.reaches_head) == ((), True)
        foreign = await read_after(connection, Position(1, 3), log[3].id)
        assert (foreign.known, foreign.entries) == (False, ())
        beyond = await read_after(connection, Position(1, 99), log[-1].id)
        assert not beyond.known
