"""Where a read comes from: the replica, a little patience, the primary, or nobody (rule 3)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest
from sqlalchemy import text

from cache_policies.markets import load_markets
from cache_policies.positions import Position
from origin import snapshot as snapshots_module
from origin.db import PRIMARY_FILL_CONNECTIONS, Database
from origin.events.messages import CatalogReplaced
from origin.snapshot import Snapshots, TooOld
from tests.support.servers import DatabaseUrls, EmbeddedServers


@pytest.fixture
async def shop_database(database: DatabaseUrls):
    opened = Database(database.primary, [database.replica], markets=load_markets())
    yield opened
    await opened.close()


@pytest.fixture
def paused(postgres: EmbeddedServers) -> Iterator[EmbeddedServers]:
    postgres.pause_replay()
    yield postgres
    postgres.resume_replay()
    postgres.wait_for_replay()


async def change(database: Database) -> Position:
    async with database.unit_of_work(actor="a", cause="b") as work:
        work.record(CatalogReplaced())
    assert work.position is not None
    return work.position


async def test_without_a_minimum_the_replica_answers(shop_database):
    snapshots = Snapshots(shop_database)
    async with snapshots.open() as snapshot:
        assert (snapshot.position, snapshot.source) == (Position(1, 1), "replica-0")
    assert snapshots.served == {"primary": 0, "replica-0": 1}


async def test_a_snapshot_stays_where_it_is(shop_database, postgres):
    snapshots = Snapshots(shop_database)
    async with snapshots.open() as snapshot:
        await change(shop_database)
        await asyncio.to_thread(postgres.wait_for_replay)
        assert (await snapshot.connection.execute(text("SELECT cv FROM events.clock"))).scalar_one() == 1
    async with snapshots.open() as snapshot:
        assert snapshot.position == Position(1, 2)


@pytest.mark.parametrize("source", ["replica", "primary"])
async def test_a_snapshot_is_read_only(shop_database, source):
    snapshots = Snapshots(shop_database)
    if source == "primary":
        shop_database.replicas = ()
        snapshots = Snapshots(shop_database)
    async with snapshots.open() as snapshot:
        assert snapshot.source.startswith(source)
        shown = await snapshot.connection.execute(
            text("SELECT current_setting('transaction_read_only'), current_setting('transaction_isolation')")
        )
        assert tuple(shown.one()) == ("on", "repeatable read")


async def test_a_replica_that_is_about_to_catch_up_is_waited_for(shop_database, paused, monkeypatch):
    monkeypatch.setattr(snapshots_module, "WAIT_FOR_REPLICAS_S", 30.0)
    wanted = await change(shop_database)
    snapshots = Snapshots(shop_database)

    async def read() -> tuple[Position, str]:
        async with snapshots.open(wanted) as snapshot:
            return snapshot.position, snapshot.source

    reading = asyncio.ensure_future(read())
    await asyncio.to_thread(paused.resume_replay)
    assert await reading == (wanted, "replica-0")


async def test_a_replica_that_stands_still_gives_way_to_the_primary_and_comes_back(shop_database, paused):
    wanted = await change(shop_database)
    snapshots = Snapshots(shop_database)
    async with snapshots.open(wanted) as snapshot:
        assert (snapshot.position, snapshot.source) == (wanted, "primary")
    # Whoever asks for less is still served by the replica.
    async with snapshots.open(Position(1, 1)) as snapshot:
        assert (snapshot.position, snapshot.source) == (Position(1, 1), "replica-0")
    # After one wait in vain nobody waits for it again while it stands there.
    async with snapshots.open(wanted):
        pass
    started = time.monotonic()
    for _ in range(40):
        async with snapshots.open(wanted) as snapshot:
            assert snapshot.source == "primary"
        async with snapshots.open() as snapshot:
            assert snapshot.source == "replica-0"
    assert time.monotonic() - started < 40 * snapshots_module.WAIT_FOR_REPLICAS_S
    await asyncio.to_thread(paused.resume_replay)
    await asyncio.to_thread(paused.wait_for_replay)
    async with snapshots.open(wanted) as snapshot:
        assert (snapshot.position, snapshot.source) == (wanted, "replica-0")


async def test_no_read_ever_lies_below_its_minimum(shop_database, postgres):
    """Reads race with changes and a lagging replica; each is at or above what was asked, and says the truth."""
    postgres.delay_replay(20)
    try:
        snapshots = Snapshots(shop_database)
        newest = Position(1, 1)
        stop = asyncio.Event()
        sources: set[str] = set()

        async def read(by_head: bool) -> None:
            while not stop.is_set():
                committed = newest
                async with snapshots.open("head" if by_head else committed) as snapshot:
                    assert snapshot.position >= committed
                    cv = (await snapshot.connection.execute(text("SELECT max(cv) FROM events.purge_log"))).scalar_one()
                    assert cv == snapshot.position.cv
                    sources.add(snapshot.source)

        readers = [asyncio.ensure_future(read(number % 2 == 0)) for number in range(6)]
        for _ in range(40):
            newest = await change(shop_database)
            await asyncio.sleep(0.005)
        stop.set()
        await asyncio.gather(*readers)
        assert sources == {"replica-0", "primary"} or sources == {"replica-0"}
    finally:
        postgres.delay_replay(0)
        postgres.wait_for_replay()


async def test_the_head_is_read_on_the_primary_after_the_request_came(shop_database, paused):
    wanted = await change(shop_database)
    async with Snapshots(shop_database).open("head") as snapshot:
        assert (snapshot.position, snapshot.source) == (wanted, "primary")


async def test_what_even_the_primary_has_not_is_too_old(shop_database):
    with pytest.raises(TooOld, match=r"is at 1\.1, and 1\.9 was asked for") as caught:
        async with Snapshots(shop_database).open(Position(1, 9)):
            pass
    assert caught.value.retry_after_s >= 1
    with pytest.raises(TooOld):
        async with Snapshots(shop_database).open(Position(2, 0)):
            pass


async def test_a_dead_replica_is_left_alone_and_tried_again(database, monkeypatch):
    dead = database.replica.replace("port=", "port=1")
    opened = Database(database.primary, [dead, database.replica], markets=load_markets())
    try:
        snapshots = Snapshots(opened)
        for _ in range(4):
            async with snapshots.open() as snapshot:
                assert snapshot.source == "replica-1"
        assert snapshots.served["replica-1"] == 4
    finally:
        await opened.close()
    alone = Database(database.primary, [dead], markets=load_markets())
    try:
        async with Snapshots(alone).open() as snapshot:
            assert snapshot.source == "primary"
    finally:
        await alone.close()


async def test_a_dead_primary_does_not_stop_reads_of_the_replica(database):
    opened = Database(database.primary.replace("port=", "port=1"), [database.replica], markets=load_markets())
    try:
        snapshots = Snapshots(opened)
        async with snapshots.open(Position(1, 1)) as snapshot:
            assert snapshot.source == "replica-0"
        with pytest.raises(TooOld):
            async with snapshots.open("head"):
                pass
        with pytest.raises(TooOld):
            async with snapshots.open(Position(1, 2)):
                pass
    finally:
        await opened.close()


async def test_fills_on_the_primary_are_capped_queued_and_refused(database, monkeypatch):
    monkeypatch.setattr(snapshots_module, "PRIMARY_QUEUE", 2)
    monkeypatch.setattr(snapshots_module, "PRIMARY_WAIT_S", 30.0)
    opened = Database(database.primary, markets=load_markets())
    try:
        snapshots = Snapshots(opened)
        release = asyncio.Event()
        inside = 0
        most = 0

        async def fill() -> None:
            nonlocal inside, most
            async with snapshots.open():
                inside += 1
                most = max(most, inside)
                await release.wait()
                inside -= 1

        fills = [asyncio.ensure_future(fill()) for _ in range(PRIMARY_FILL_CONNECTIONS + 2)]
        async with asyncio.timeout(10):
            while inside < PRIMARY_FILL_CONNECTIONS:
                await asyncio.sleep(0.001)
        with pytest.raises(TooOld, match="too many reads are waiting"):
            await fill()
        release.set()
        await asyncio.gather(*fills)
        assert most == PRIMARY_FILL_CONNECTIONS
    finally:
        await opened.close()


async def test_a_fill_that_waits_too_long_is_refused(database, monkeypatch):
    monkeypatch.setattr(snapshots_module, "PRIMARY_WAIT_S", 0.01)
    opened = Database(database.primary, markets=load_markets())
    try:
        snapshots = Snapshots(opened)
        async with asyncio.TaskGroup() as group:
            release, full = asyncio.Event(), asyncio.Semaphore(0)

            async def hold() -> None:
                async with snapshots.open():
                    full.release()
                    await release.wait()

            for _ in range(PRIMARY_FILL_CONNECTIONS):
                group.create_task(hold())
            for _ in range(PRIMARY_FILL_CONNECTIONS):
                await full.acquire()
            with pytest.raises(TooOld, match="took no read for"):
                async with snapshots.open():
                    pass
            release.set()
        async with snapshots.open() as snapshot:
            assert snapshot.source == "primary"
    finally:
        await opened.close()
