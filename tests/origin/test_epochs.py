"""An epoch in the purge log, and who followed the one before: what goes on, what goes back, what flushes (rule 8)."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from cache_policies.feed import LEASE_S, Answer, Question
from cache_policies.positions import Position, PurgeEntry, PurgeKind
from edge.core.floors import Floors, Lease
from edge.purge.follower import Follower, Outcome
from origin.errors import Unavailable
from origin.events.entries import entry_at
from origin.events.feed import Feed
from origin.events.messages import TagsPurged
from origin.events.purge_log import LogTail, read_after
from origin.events.wake import Wake
from tests.support.epochs import raise_epoch
from tests.support.origin import FakeWorker, running_shop, settings_of, until

GHOST = "00000000-0000-0000-0000-00000000dead"


@pytest.fixture
async def origin(database):
    async with running_shop(settings_of(database)) as running:
        yield running


@pytest.fixture
def shop(origin):
    return origin[0]


@pytest.fixture
def client(origin):
    return origin[1]


async def purge(shop, *tags: str) -> Position:
    async with shop.database.unit_of_work(actor="a", cause="b") as work:
        work.record(TagsPurged(tags, PurgeKind.HARD))
    assert work.position is not None
    return work.position


async def applied_of(shop, worker: str) -> Position:
    of_worker = text("SELECT applied_epoch, applied_cv FROM events.contact WHERE worker = :worker")
    async with shop.database.log.connect() as connection:
        row = (await connection.execute(of_worker, {"worker": worker})).one()
    return Position(row.applied_epoch, row.applied_cv)


async def id_at(shop, position: Position) -> str:
    async with shop.database.log.connect() as connection:
        logged = await entry_at(connection, position)
    assert logged is not None
    return logged.entry.id


# --- the record ---


async def test_an_epoch_takes_the_next_position_and_says_what_it_inherited(shop, database):
    before = await purge(shop, "a")
    began = await raise_epoch(database)
    assert began == Position(2, before.cv + 1)
    async with shop.database.log.connect() as connection:
        logged = await entry_at(connection, began)
        clock = (await connection.execute(text("SELECT epoch, cv, fork_cv FROM events.clock"))).one()
    assert logged is not None
    assert (logged.entry.kind, logged.entry.tags, logged.entry.fork_cv) == (PurgeKind.EPOCH, (), before.cv)
    assert logged.actor == "the supervisor"
    assert (clock.epoch, clock.cv, clock.fork_cv) == (2, began.cv, before.cv)
    after = await purge(shop, "a")
    assert after == Position(2, began.cv + 1)


async def test_no_epoch_is_given_out_twice(shop, database):
    """A server that was restored, or promoted without the record of the epoch before, has never heard of that."""
    assert (await raise_epoch(database, above=6)).epoch == 7
    assert (await raise_epoch(database, above=3)).epoch == 8


async def test_an_epoch_that_is_rolled_back_has_not_begun(shop, database):
    head = await purge(shop, "a")
    engine = create_async_engine(database.admin, poolclass=NullPool)
    async with engine.connect() as connection:
        await connection.execute(text("SELECT events.raise_epoch('somebody')"))
        await connection.rollback()
    assert await purge(shop, "a") == Position(1, head.cv + 1)


async def test_an_epoch_is_kept_and_trimmed_like_any_entry(shop, database):
    await raise_epoch(database)
    await purge(shop, "a")
    engine = create_async_engine(database.admin, poolclass=NullPool)
    async with engine.begin() as connection:
        for statement in (
            "ALTER TABLE events.purge_log DISABLE TRIGGER USER",
            "UPDATE events.purge_log SET at = at - interval '2 hours'",
            "ALTER TABLE events.purge_log ENABLE TRIGGER USER",
        ):
            await connection.execute(text(statement))
        assert (await connection.execute(text("SELECT events.trim_purge_log(1)"))).scalar_one() == 2


# --- questions ---


async def test_a_worker_that_had_applied_what_was_inherited_goes_on(shop, client, database):
    worker = FakeWorker(client, "worker-1")
    await purge(shop, "a")
    await worker.catch_up()
    began = await raise_epoch(database)
    after = await purge(shop, "b")
    answer = await worker.glance()
    assert [entry.position for entry in answer.entries] == [began, after]
    assert answer.entries[0].fork_cv == began.cv - 1
    assert (answer.flush, answer.rewind, answer.head) == (False, None, after)
    await worker.catch_up()
    assert await applied_of(shop, "worker-1") == after


async def test_a_worker_that_had_applied_what_was_lost_is_told_where_to_go_back_to(shop, client, database):
    shared = await purge(shop, "a")
    worker = FakeWorker(client, "worker-1")
    await worker.catch_up()
    began = await raise_epoch(database)
    worker.applied, worker.applied_id = Position(1, shared.cv + 3), GHOST
    answer = await worker.glance()
    assert answer.rewind == (shared, await id_at(shop, shared))
    assert [entry.position for entry in answer.entries] == [began]
    assert (answer.flush, answer.head) == (False, began)
    assert await applied_of(shop, "worker-1") == shared, "what no log holds acknowledges nothing"


async def test_a_worker_that_slept_through_two_epochs_goes_back_to_before_the_first(shop, client, database):
    shared = await purge(shop, "a")
    await raise_epoch(database)
    await purge(shop, "b")
    await raise_epoch(database)
    worker = FakeWorker(client, "worker-1", applied=Position(1, shared.cv + 1), applied_id=GHOST)
    answer = await worker.glance()
    assert answer.rewind is not None
    assert answer.rewind[0] == shared
    assert [entry.kind for entry in answer.entries] == [PurgeKind.EPOCH, PurgeKind.HARD, PurgeKind.EPOCH]


@pytest.mark.parametrize(
    "position",
    [
        pytest.param(Position(1, 2), id="another id where the log has an entry"),
        pytest.param(Position(2, 99), id="beyond the head of this epoch"),
        pytest.param(Position(3, 1), id="an epoch to come"),
        pytest.param(Position(0, 9), id="from before the log"),
    ],
)
async def test_what_no_history_of_this_log_explains_is_a_flush(shop, client, database, position):
    await purge(shop, "a")
    began = await raise_epoch(database)
    worker = FakeWorker(client, "worker-1", applied=position, applied_id=GHOST)
    answer = await worker.glance()
    assert (answer.flush, answer.rewind, answer.entries, answer.head) == (True, None, (), began)


async def test_where_the_fork_is_trimmed_the_answer_is_a_flush(shop, client, database):
    shared = await purge(shop, "a")
    await raise_epoch(database)
    engine = create_async_engine(database.admin, poolclass=NullPool)
    async with engine.begin() as connection:
        for statement in (
            "ALTER TABLE events.purge_log DISABLE TRIGGER USER",
            "DELETE FROM events.purge_log WHERE epoch = 1",
            "ALTER TABLE events.purge_log ENABLE TRIGGER USER",
        ):
            await connection.execute(text(statement))
    worker = FakeWorker(client, "worker-1", applied=Position(1, shared.cv + 1), applied_id=GHOST)
    assert (await worker.glance()).flush


async def test_a_held_question_hears_of_the_epoch(shop, client, database):
    worker = FakeWorker(client, "worker-1")
    await worker.catch_up()
    asking = asyncio.ensure_future(worker.ask())
    await until(lambda: shop.tail.held == 1)
    began = await raise_epoch(database)
    answers = await asking
    assert [entry.position for entry in answers[-1].entries] == [began]
    assert answers[-1].head == began


async def test_an_edge_follows_through_failovers_with_and_without_a_lost_tail(shop, client, database):
    """The real follower on the real feed."""
    await purge(shop, "a")
    follower = Follower("worker-1", "eu", "http://127.0.0.1:9", Floors(), Lease(LEASE_S))
    worker = FakeWorker(client, "worker-1")

    async def hear() -> Outcome:
        question = follower.question()
        return follower.on_answer(question, await worker.glance(question), 0.0)

    async def caught_up() -> None:
        while await hear() is Outcome.APPLIED:
            pass

    await caught_up()
    began = await raise_epoch(database)
    await caught_up()
    assert follower.applied == began
    shared = await purge(shop, "b")
    await caught_up()
    # The old primary had two more, and this edge has heard of them.
    for cv in (shared.cv + 1, shared.cv + 2):
        position = Position(2, cv)
        follower.on_answer(
            follower.question(),
            Answer((PurgeEntry(position, f"ghost-{cv}", PurgeKind.HARD, ("*",)),), position, f"ghost-{cv}"),
            0.0,
        )
    assert follower.floors.everything == Position(2, shared.cv + 2)
    again = await raise_epoch(database)
    await caught_up()
    assert (follower.applied, follower.flushes, follower.rewinds) == (again, 0, 1)
    assert follower.floors.everything == shared
    assert follower.floors.is_ghost(Position(2, shared.cv + 1))
    assert await applied_of(shop, "worker-1") == again


# --- the tail ---


async def test_the_tail_goes_back_with_the_log_and_forgets_what_was_lost(shop, database):
    first, shared = await purge(shop, "a"), await purge(shop, "b")
    tail = LogTail(shop.database, Wake())
    await tail._read()
    tail._begin_at(first, await id_at(shop, first))
    await tail._read()
    ghosts = tuple(PurgeEntry(Position(1, shared.cv + n), GHOST, PurgeKind.HARD, ("a", "c")) for n in (1, 2))
    tail._append(ghosts)
    began = await raise_epoch(database)
    await tail._read()
    assert tail.head == began
    assert [entry.position for entry in tail.entries_after(first) or ()] == [shared, began]
    assert tail.entries_after(ghosts[-1].position) is None, "a held question from there is to be asked again"
    assert tail.id_at(ghosts[0].position) is None
    assert tail.floor_of(["b"]) == shared
    assert tail.floor_of(["a", "c"]) == Position(0, 0)


async def test_a_tail_that_does_not_know_where_the_histories_part_begins_anew(shop, database):
    shared = await purge(shop, "a")
    tail = LogTail(shop.database, Wake())
    tail._begin_at(Position(1, shared.cv + 5), GHOST)
    began = await raise_epoch(database)
    await tail._read()
    assert (tail.head, tail.entries_after(began)) == (began, ())
    assert tail.id_at(shared) is None


async def test_a_server_whose_epoch_has_ended_is_not_listened_to(shop, client):
    """This worker has heard of a promotion, and its connection still leads to the old primary."""
    head = await purge(shop, "a")
    later = Position(2, head.cv + 1)
    shop.tail._begin_at(later, GHOST)
    with pytest.raises(ConnectionError, match="its epoch has ended"):
        await shop.tail._read()
    assert shop.tail.head == later
    lines = Feed(shop.database, shop.tail).answer(Question("worker-1", "eu", 1, None, None, "http://127.0.0.1:9"))
    with pytest.raises(Unavailable, match="its epoch has ended"):
        await anext(lines)
    await lines.aclose()


async def test_a_log_is_read_back_to_the_fork_only_for_who_is_beyond_it(shop, database):
    shared = await purge(shop, "a")
    await raise_epoch(database)
    async with shop.database.log.connect() as connection:
        lost = await read_after(connection, Position(1, shared.cv + 1), GHOST)
        assert (lost.known, lost.rewind) == (True, (shared, await id_at(shop, shared)))
        assert lost.reaches_head
        known = await read_after(connection, shared, await id_at(shop, shared))
        assert (known.known, known.rewind) == (True, None)
        foreign = await read_after(connection, shared, GHOST)
        assert (foreign.known, foreign.rewind) == (False, None)
