"""What observers keep and forget, and what they say where a change is not, or the database is not."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import cast

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from cache_policies.positions import Position, PurgeKind
from origin.db import Database, NotInCharge
from origin.events.live import LiveReport, LiveState
from origin.events.messages import TagsPurged
from origin.events.observer import FORGET_S, SAY_EVERY_S, WATCH_S, Observer, read_view
from tests.support.epochs import raise_epoch
from tests.support.origin import FakeWorker, running_shop, settings_of, until

CHANGE = Position(1, 10)


@pytest.fixture
async def origin(database):
    async with running_shop(settings_of(database)) as running:
        yield running


async def test_a_lost_change_is_called_so_also_to_who_asks_afterwards(origin, database):
    shop, _ = origin
    async with shop.database.unit_of_work(actor="a", cause="b") as work:
        work.record(TagsPurged(("t",), PurgeKind.HARD))
    kept = work.position
    before, lost = Position(1, kept.cv + 1), Position(1, kept.cv + 2)
    assert await shop.observer.report(before) is None, "to come, as far as anybody knows"
    began = await raise_epoch(database)
    fresh = Observer(shop.database)  # as in a worker that was started since
    # An older report says no more than that it was there.
    fresh._keep(LiveReport(lost, LiveState.SHOWN, 3.0))
    for position in (before, lost):
        assert await fresh.wait_live(position) == LiveReport(position, LiveState.LOST, 0.0)
    for none in (Position(1, 0), Position(began.epoch, kept.cv), Position(began.epoch, began.cv + 1)):
        assert await fresh.report(none) is None
    assert (await fresh.wait_live(kept, 0.0)).state is not LiveState.LOST


@pytest.mark.parametrize("off", ["-1 hour", "1 hour"])
async def test_a_change_is_followed_from_when_somebody_asks_whenever_it_was_made(origin, database, off):
    """Long ago, or in the eyes of a server whose clock is wrong."""
    shop, _ = origin
    await shop.observer.stop()  # which would call it live
    async with shop.database.unit_of_work(actor="a", cause="b") as work:
        work.record(TagsPurged(("t",), PurgeKind.HARD))
    now = 10_000.0
    observer = Observer(shop.database, ("a-standby",), clock=lambda: now)
    engine = create_async_engine(database.admin, poolclass=NullPool)
    async with engine.begin() as admin:
        await admin.execute(text("SET LOCAL session_replication_role TO replica"))  # no trigger refuses it
        await admin.execute(text(f"UPDATE events.purge_log SET at = at + interval '{off}'"))
    async with shop.database.log.connect() as connection:
        await observer.report(work.position)
        for later, followed in ((0.0, True), (WATCH_S, True), (0.1, False)):
            now += later
            await observer._look_once(connection)
            assert (work.position in observer._watches) is followed
        report = await observer.report(work.position)
        assert report is not None
        assert report.elapsed_ms >= 0


async def test_a_server_that_is_not_in_charge_does_not_say_what_there_is_not(origin, monkeypatch):
    """Another one may have it: whoever asks is to ask again."""
    shop, _ = origin

    async def not_in_charge(*_):
        raise NotInCharge

    monkeypatch.setattr("origin.events.observer.read_view", not_in_charge)
    with pytest.raises(NotInCharge):
        await Observer(shop.database).report(Position(1, 999))


async def test_a_registration_that_stood_still_is_removed_only_at_that_number(origin):
    shop, _ = origin
    now = 1000.0
    observer = Observer(shop.database, clock=lambda: now)
    async with shop.database.log.connect() as connection:
        insert = text("INSERT INTO events.contact VALUES (:worker, 'eu', 7, 0, 0, 'http://127.0.0.1:9')")
        for worker in ("dead-worker", "late-worker"):
            await connection.execute(insert, {"worker": worker})
        await observer._look_once(connection)
        now += FORGET_S - 0.1
        await observer._look_once(connection)
        query = text("SELECT worker FROM events.contact ORDER BY worker")
        assert (await connection.execute(query)).scalars().all() == ["dead-worker", "late-worker"]
        now += 0.2
        seen = await read_view(connection)
        await connection.execute(text("UPDATE events.contact SET contact = 8 WHERE worker = 'late-worker'"))

        async def stale(*_):
            return seen

        patch = pytest.MonkeyPatch()
        patch.setattr("origin.events.observer.read_view", stale)
        try:
            await observer._look_once(connection)
        finally:
            patch.undo()
        assert (await connection.execute(query)).scalars().all() == ["late-worker"]


async def test_a_restarted_observer_connection_starts_over(origin, database):
    shop, client = origin
    await FakeWorker(client, "worker-1").catch_up()
    await until(lambda: shop.observer._leases._since)
    first_seen = shop.observer._leases._since["worker-1"][1]
    async with shop.database.writes.connect() as connection:
        kill = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE pid <> pg_backend_pid() AND usename = current_user AND datname = current_database()"
        )
        await connection.execute(text(kill))
    await until(lambda: shop.observer._leases._since.get("worker-1", (0, first_seen))[1] != first_seen)
    assert shop.observer._leases._since["worker-1"][1] > first_seen


class Unwell:
    """A database whose log raises what it is told to, then takes the progress that is written."""

    def __init__(self, *troubles: Exception) -> None:
        self.troubles = list(troubles)
        self.written: list[int] = []
        self.log = self

    @asynccontextmanager
    async def connect(self):
        yield self

    async def execute(self, statement, values):
        if self.troubles:
            raise self.troubles.pop(0)
        self.written.append(values["cv"])


def observer_of(database: Unwell, monkeypatch, clock=lambda: 0.0) -> Observer:
    monkeypatch.setattr("origin.events.observer.IDLE_S", 0.0)
    return Observer(cast(Database, database), clock=clock)


@pytest.mark.parametrize(
    ("trouble", "kept"),
    [
        pytest.param(ConnectionResetError("gone"), [2, 3, 1], id="the database was lost: after the others"),
        pytest.param(IntegrityError("", {}, Exception("no such entry")), [2, 3], id="its entry is lost"),
    ],
)
async def test_what_was_found_out_is_kept_as_soon_as_the_database_can(monkeypatch, trouble, kept):
    database = Unwell(trouble)
    observer = observer_of(database, monkeypatch)
    for cv in (1, 2, 3):
        observer._keep(LiveReport(Position(1, cv), LiveState.LIVE, 1.0))
    writing = asyncio.create_task(observer._write())
    await until(lambda: not observer._unwritten and not observer._written.is_set())
    await until(lambda: len(database.written) >= len(kept))
    assert database.written == kept
    writing.cancel()


async def test_a_report_that_cannot_be_kept_gives_way_to_a_newer_one(monkeypatch):
    database = Unwell()
    observer = observer_of(database, monkeypatch)
    shown, live = (LiveReport(CHANGE, state, 1.0) for state in (LiveState.SHOWN, LiveState.LIVE))

    class Meanwhile(ConnectionResetError):
        def __str__(self) -> str:
            observer._keep(live)
            return "gone"

    database.troubles = [Meanwhile()]
    observer._keep(shown)
    writing = asyncio.create_task(observer._write())
    await until(lambda: bool(database.written))
    assert (database.written, observer._unwritten) == ([CHANGE.cv], {})
    writing.cancel()


async def test_trouble_that_lasts_is_not_said_at_every_look(monkeypatch, caplog):
    now, looks = 1000.0, 0

    async def not_in_charge(*_):
        nonlocal looks
        looks += 1
        raise NotInCharge

    monkeypatch.setattr("origin.events.observer.read_view", not_in_charge)
    looking = asyncio.create_task(observer_of(Unwell(), monkeypatch, clock=lambda: now)._look())
    await until(lambda: looks >= 10)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    now += SAY_EVERY_S
    before = looks
    await until(lambda: looks >= before + 10)
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2
    looking.cancel()
