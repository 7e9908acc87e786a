"""The origin while its servers change places: it follows, and what was promised outlives the one that is lost."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from sqlalchemy import text

from cache_policies.feed import FEED_PATH, Question
from cache_policies.fields import EDGE_KEY_FIELD
from cache_policies.markets import load_markets
from cache_policies.positions import Position
from origin import db as db_module
from origin.db import Database, Durability, NotInCharge, OutcomeUnknown
from origin.errors import Unavailable
from origin.events import live as live_module
from origin.events import observer as observer_module
from origin.events.feed import leave, note_contact
from origin.events.live import LiveState
from origin.events.messages import CatalogReplaced
from origin.events.observer import Observer, read_view
from origin.settings import OriginSettings
from origin.shop import Shop
from tests.support.origin import EDGE_KEY, FakeWorker, running_shop, until
from tests.support.pair import Pair

pytestmark = [pytest.mark.database, pytest.mark.alone]

EDGE = {EDGE_KEY_FIELD: EDGE_KEY}


@pytest.fixture(scope="module")
def servers(scratch: Path, _servers_exist: None) -> Iterator[Pair]:
    with Pair(scratch / "pair") as pair:
        pair.start_postgres()
        yield pair


@pytest.fixture
def pair(servers: Pair) -> Iterator[Pair]:
    yield servers
    servers.heal()


@pytest.fixture
async def origin(pair):
    settings = OriginSettings(database_url=pair.database_url, replica_urls=(pair.replica_url,), edge_key=EDGE_KEY)
    async with running_shop(settings) as running:
        yield running


def database_at(url: str) -> Database:
    return Database(url, markets=load_markets())


async def change(database: Database, durability: Durability = Durability.SURVIVES) -> Position:
    async with database.unit_of_work(actor="a", cause="b", durability=durability) as work:
        work.record(CatalogReplaced())
    assert work.position is not None
    return work.position


async def changed_within(shop: Shop, within_s: float = 10.0) -> Position:
    """A change as somebody makes it who tries again while he is told to."""
    made: list[Position] = []

    async def is_made() -> bool:
        with suppress(Unavailable, OSError):
            made.append(await change(shop.database))
        return bool(made)

    await until(is_made, within_s, "a change that is taken again")
    return made[0]


@pytest.mark.parametrize("told", [True, False], ids=["told by the supervisor", "by itself"])
async def test_after_a_kill_the_worker_is_where_the_primary_is(origin, pair, told):
    shop, client = origin
    before = await change(shop.database)
    worker = FakeWorker(client, "worker-1")
    await worker.catch_up()
    await asyncio.to_thread(pair.wait_for_replay)
    pair.end(pair.servers.primary.name)
    # Pages are read from the standby; what needs the primary is told when to come again.
    async with shop.snapshots.open() as snapshot:
        assert (snapshot.source, snapshot.position) == ("replica-0", before)
    with pytest.raises(Unavailable):
        await change(shop.database)
    answer = await client.post(FEED_PATH, content=worker.question().to_json(), headers=EDGE)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    head = await client.get("/api/v1/eu-eur/products", headers=EDGE | {"min-catalog-version": "head"})
    assert (head.status_code, head.headers["retry-after"]) == (503, "1")
    pair.promote()
    if told:
        await shop.database.look_again()
        after = await change(shop.database)
    else:
        after = await changed_within(shop)
    assert (after.epoch, shop.database.primary.moves) == (before.epoch + 1, 1)
    assert after > before
    await until(lambda: shop.observer.in_charge)
    await worker.catch_up()
    assert worker.applied == after


async def test_a_worker_does_not_wait_on_a_frozen_primary_nor_go_back_to_it(origin, pair):
    shop, _ = origin
    before = await change(shop.database)
    await asyncio.to_thread(pair.wait_for_replay)
    old = pair.servers.primary
    pair.hold_lease("50 ms")
    pair.freeze(old.name)
    waiting = asyncio.create_task(change(shop.database))
    async with asyncio.timeout(10):
        with pytest.raises((Unavailable, OSError)):
            await waiting
    pair.promote()
    after = await changed_within(shop)
    pair.thaw(old.name)
    await shop.database.look_again()
    again = await change(shop.database)
    assert (after.epoch, again) == (before.epoch + 1, Position(after.epoch, after.cv + 1))
    # It still takes itself for a primary, and says no to everything that would matter.
    assert pair.ask(old.port, "SELECT NOT pg_is_in_recovery() AND NOT events.in_charge()")
    there = database_at(pair.url_of(old.port))
    with pytest.raises(db_module.NotInCharge):
        await change(there)
    await there.close()


async def test_a_commit_that_the_freeze_overtook_is_not_acknowledged(pair, monkeypatch):
    """The lease held when the position was taken; the server stood still, and another one is the primary now."""
    old = pair.servers.primary
    database = database_at(pair.url_of(old.port))
    await change(database)
    take = database._take_position

    async def take_and_freeze(work):
        pair.hold_lease("400 ms")
        position = await take(work)
        pair.freeze(old.name)
        await asyncio.to_thread(pair.promote)
        await asyncio.sleep(0.4)  # the lease itself, which only the clock ends
        pair.thaw(old.name)
        return position

    monkeypatch.setattr(database, "_take_position", take_and_freeze)
    with pytest.raises(OutcomeUnknown):
        await change(database)
    # So it is: kept there, where nobody will ever read it.
    assert pair.ask(old.port, "SELECT cv FROM events.clock") >= pair.ask(
        pair.primary_port, "SELECT cv FROM events.clock"
    )
    await database.close()


async def test_a_read_outlasts_the_promotion_of_its_standby_and_its_connection_is_not_used_again(pair):
    standby = text("SELECT pg_is_in_recovery()")
    database = Database(pair.database_url, [pair.replica_url], markets=load_markets())
    try:
        async with database.replicas[0].connect() as connection:
            assert (await connection.execute(standby)).scalar_one()
            pair.end(pair.servers.primary.name)
            pair.promote()
            await asyncio.to_thread(pair.heal)
            await database.look_again()
            assert not (await connection.execute(standby)).scalar_one()
        async with database.replicas[0].connect() as connection:
            assert (await connection.execute(standby)).scalar_one()
    finally:
        await database.close()


async def test_a_frozen_standby_costs_a_moment_and_the_primary_reads(origin, pair):
    shop, _ = origin
    async with shop.snapshots.open() as snapshot:
        assert snapshot.source == "replica-0"
    pair.freeze(pair.servers.standby.name)
    async with asyncio.timeout(10), shop.snapshots.open() as snapshot:
        assert snapshot.source == "primary"


async def test_a_change_that_went_down_with_the_primary_is_called_lost(origin, pair, monkeypatch):
    shop, client = origin
    monkeypatch.setattr(observer_module, "IDLE_S", 0.01)
    worker = FakeWorker(client, "worker-1")
    await worker.catch_up()
    # Whoever sends the log stands still, which neither server notices, and is killed with the rest.
    os.kill(pair.ask(pair.primary_port, "SELECT pid FROM pg_stat_replication"), signal.SIGSTOP)
    lost = await change(shop.database)
    pair.end(pair.servers.primary.name)
    pair.promote()
    await shop.database.look_again()
    report = await shop.observer.wait_live(lost)
    assert report.state is LiveState.LOST
    # Whoever asks afterwards is told so by a worker that has never heard of it, too.
    told = await Observer(shop.database).report(lost)
    assert told is not None
    assert told.state is LiveState.LOST
    assert (
        pair.ask(
            pair.primary_port, "SELECT count(*) FROM events.purge_log WHERE (epoch, cv) = ($1, $2)", lost.epoch, lost.cv
        )
        == 0
    )
    assert (await change(shop.database)).cv > lost.cv


async def test_a_standby_that_somebody_promotes_by_hand_takes_nothing_before_its_epoch_begins(pair):
    """Nobody supervises it, and the epoch of the primary that was lost was settled long ago."""
    await asyncio.to_thread(pair.wait_for_replay)
    pair.end(pair.servers.primary.name)
    heir = pair.servers.standby
    assert pair.ask(heir.port, "SELECT pg_promote(true, 30)")
    pair.servers.primary_name = heir.name
    database = database_at(pair.database_url)
    with pytest.raises(NotInCharge):
        await change(database)
    async with database.log.connect() as connection:
        with pytest.raises(NotInCharge):
            await read_view(connection)
    epoch = pair.ask(heir.port, "SELECT epoch FROM events.raise_epoch('somebody')")
    assert (await change(database)).epoch == epoch
    await database.close()


async def test_nothing_is_live_in_an_epoch_that_has_just_begun(origin, pair, monkeypatch):
    shop, _ = origin
    monkeypatch.setattr(live_module, "QUIET_S", 3600.0)
    await asyncio.to_thread(pair.wait_for_replay)
    pair.end(pair.servers.primary.name)
    pair.promote()
    await shop.database.look_again()
    position = await change(shop.database)
    assert (await shop.observer.wait_live(position, 0.3)).state is LiveState.WAITING
    monkeypatch.setattr(live_module, "QUIET_S", 0.0)
    # No standby yet: everywhere, and not on a second disk.
    assert (await shop.observer.wait_live(position)).state is LiveState.SHOWN
    assert pair.ask(pair.primary_port, "SELECT true FROM events.settled_epoch WHERE epoch = $1", position.epoch)


async def test_what_survives_waits_for_the_standby_and_the_rest_does_not(pair, monkeypatch):
    database = database_at(pair.database_url)
    pair.configure(pair.primary_port, "synchronous_standby_names", f"ANY 1 ({pair.standby_name})")
    await change(database)
    pair.freeze(pair.servers.standby.name)
    async with asyncio.timeout(5):
        local = await change(database, Durability.LOCAL)
        async with database.log.connect() as connection:
            await note_contact(database, connection, Question("worker-2", "eu", 1, None, None, "http://127.0.0.1:9"))
        await leave(database, "worker-2")
    surviving = asyncio.create_task(change(database))
    waits = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
    async with database.log.connect() as connection:

        async def it_waits() -> bool:
            assert not surviving.done()
            return bool((await connection.execute(waits)).scalar_one())

        await until(it_waits, what="a commit that waits for the standby")
    pair.thaw(pair.servers.standby.name)
    assert await surviving == Position(local.epoch, local.cv + 1)
    await database.close()


async def test_a_commit_that_no_standby_confirms_is_not_acknowledged(pair, monkeypatch):
    monkeypatch.setattr(db_module, "COMMIT_TIMEOUT_S", 0.3)
    assert db_module.COMMIT_TIMEOUT_S < db_module.STATEMENT_TIMEOUT_S
    database = database_at(pair.database_url)
    pair.configure(pair.primary_port, "synchronous_standby_names", f"ANY 1 ({pair.standby_name})")
    before = await change(database)
    pair.freeze(pair.servers.standby.name)
    with pytest.raises(OutcomeUnknown, match="cannot be told"):
        await change(database)
    pair.thaw(pair.servers.standby.name)
    assert (await change(database)).cv > before.cv
    await database.close()
