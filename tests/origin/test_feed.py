"""The feed over the application and real servers: contact first, then entries and head, then lines (rules 4, 6)."""

from __future__ import annotations

import asyncio
import json

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.pool import AsyncAdaptedQueuePool

from cache_policies.feed import FEED_PATH, HOLD_S, LEAVE_PATH, PAGE_ENTRIES, Answer, Question
from cache_policies.fields import EDGE_KEY_FIELD
from cache_policies.positions import Position, PurgeKind
from origin.db import Database
from origin.events import feed as feed_module
from origin.events.feed import Feed, note_contact
from origin.events.messages import CatalogReplaced, TagsPurged
from origin.events.purge_log import LogTail
from origin.events.wake import Wake
from tests.support.origin import EDGE_KEY, FakeWorker, running_shop, settings_of, until


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


async def purge(database: Database, *tags: str) -> Position:
    async with database.unit_of_work(actor="a", cause="b") as work:
        work.record(TagsPurged(tags, PurgeKind.HARD) if tags else CatalogReplaced())
    assert work.position is not None
    return work.position


async def contacts(database: Database) -> dict[str, tuple[int, Position]]:
    async with database.writes.connect() as connection:
        rows = (await connection.execute(text("SELECT * FROM events.contact WHERE left_at IS NULL"))).all()
    return {row.worker: (row.contact, Position(row.applied_epoch, row.applied_cv)) for row in rows}


async def first_line(feed: Feed, question: Question) -> Answer:
    lines = feed.answer(question)
    try:
        return Answer.from_json(await anext(lines))
    finally:
        await lines.aclose()


async def test_a_starting_worker_hears_the_start_and_then_the_log(shop, client):
    await purge(shop.database, "p:eu-eur:a")
    worker = FakeWorker(client, "worker-1")
    (answer,) = await worker.ask()
    assert answer.start is not None
    assert (answer.start[0], answer.head, answer.entries, answer.flush) == (Position(1, 1), Position(1, 2), (), False)
    assert (await contacts(shop.database))["worker-1"] == (1, Position(0, 0))
    worker.apply(answer)
    answers = await worker.ask()
    assert answers[0].entries[0].tags[0] == "p:eu-eur:a"
    assert (await contacts(shop.database))["worker-1"] == (2, Position(1, 1))


async def test_a_held_question_hears_of_a_change_at_once(shop, client):
    worker = FakeWorker(client, "worker-1")
    await worker.catch_up()
    asking = asyncio.ensure_future(worker.ask())
    await until(lambda: shop.tail.held == 1)
    first = await purge(shop.database, "p:eu-eur:a")
    second = await purge(shop.database, "p:eu-eur:b")
    answers = await asking
    assert [entry.position for answer in answers for entry in answer.entries] == [first, second]
    assert answers[-1].head == second
    assert all(not answer.entries or answer.entries[-1].position == answer.head for answer in answers)


async def test_the_hold_ends_by_itself(shop, client):
    worker = FakeWorker(client, "worker-1")
    await worker.catch_up()
    loop = asyncio.get_running_loop()
    started = loop.time()
    answers = await worker.ask()
    assert len(answers) == 1
    assert HOLD_S <= loop.time() - started < HOLD_S + 2
    assert shop.tail.held == 0


async def test_a_change_of_another_process_is_heard_without_any_nudge(shop, client, database):
    """No Redis, and a commit that this worker did not make: held questions make it poll."""
    worker = FakeWorker(client, "worker-1")
    await worker.catch_up()
    asking = asyncio.ensure_future(worker.ask())
    await until(lambda: shop.tail.held == 1)
    other = Database(database.primary, markets=shop.markets)
    try:
        position = await purge(other, "p:eu-eur:a")
    finally:
        await other.close()
    answers = await asking
    assert answers[-1].head == position
    assert len(answers) == 2


async def test_nudges_travel_over_redis_and_their_loss_is_survived(database, valkey):
    settings = settings_of(database, redis_url=valkey.redis_url)
    async with running_shop(settings) as (one, client), running_shop(settings) as (other, _):
        await until(lambda: one.wake.connected and other.wake.connected)
        worker = FakeWorker(client, "worker-1")
        await worker.catch_up()
        asking = asyncio.ensure_future(worker.ask())
        await until(lambda: one.tail.held == 1)
        position = await purge(other.database, "p:eu-eur:a")
        await until(lambda: one.tail.head == position)
        assert (await asking)[-1].head == position
    async with running_shop(settings_of(database, redis_url="unix:///nowhere")) as (shop, client):
        assert not shop.wake.connected
        worker = FakeWorker(client, "worker-2")
        await worker.catch_up()
        position = await purge(shop.database, "p:eu-eur:b")
        assert (await worker.ask())[-1].head == position


async def test_a_long_log_comes_in_pages_that_do_not_claim_the_head(shop, client):
    worker = FakeWorker(client, "worker-1")
    await worker.catch_up()
    async with shop.database.writes.begin() as connection:
        log = "SELECT events.log_purge('hard', ARRAY['t'], '', '') FROM generate_series(1, :n)"
        await connection.execute(text(log), {"n": PAGE_ENTRIES + 20})
    (answer,) = await worker.ask()
    assert len(answer.entries) == PAGE_ENTRIES
    assert answer.entries[-1].position < answer.head
    worker.apply(answer)
    answers = await worker.ask()
    assert len(answers[0].entries) == 20
    assert answers[0].entries[-1].position == answers[0].head


@pytest.mark.parametrize(
    ("position", "known_id"),
    [
        pytest.param(Position(1, 99), True, id="beyond the head"),
        pytest.param(Position(1, 2), False, id="another id"),
        pytest.param(Position(2, 2), True, id="unknown epoch"),
        pytest.param(Position(1, 0), True, id="trimmed"),
    ],
)
async def test_a_position_that_the_log_does_not_hold_acknowledges_nothing(shop, client, position, known_id):
    await purge(shop.database, "t")
    head = await purge(shop.database, "t")
    worker = FakeWorker(client, "worker-1")
    await worker.catch_up()
    foreign_id = worker.applied_id if known_id else "00000000-0000-0000-0000-000000000000"
    worker.applied, worker.applied_id = position, foreign_id
    (answer,) = await worker.ask()
    assert (answer.flush, answer.entries, answer.head) == (True, (), head)
    number, applied = (await contacts(shop.database))["worker-1"]
    assert (number, applied) == (worker.contact, head)  # what was reported before still stands; nothing was added
    other = FakeWorker(client, "worker-2", applied=position, applied_id=foreign_id)
    await other.ask()
    assert (await contacts(shop.database))["worker-2"] == (1, Position(0, 0))


async def test_contacts_out_of_order_never_go_back(shop, client):
    worker = FakeWorker(client, "worker-1")
    await worker.catch_up()
    early = worker.question()
    await purge(shop.database, "t")
    await worker.catch_up()
    late = (await contacts(shop.database))["worker-1"]
    await worker.ask(early)
    assert (await contacts(shop.database))["worker-1"] == late


async def test_entries_are_read_after_the_contact_is_committed(shop, client, monkeypatch):
    """The race of registration and change, held open: whoever is not in the registry yet reads the change."""
    order: list[str] = []
    noted, go_on = asyncio.Event(), asyncio.Event()
    original = feed_module.note_contact

    async def slow(database: Database, connection: AsyncConnection, question: Question) -> None:
        await original(database, connection, question)
        noted.set()
        await go_on.wait()
        order.append("read")

    monkeypatch.setattr(feed_module, "note_contact", slow)
    worker = FakeWorker(client, "worker-1")
    asking = asyncio.ensure_future(worker.ask())
    await noted.wait()
    assert "worker-1" in await contacts(shop.database)
    position = await purge(shop.database, "t")
    order.append("change")
    go_on.set()
    answer = (await asking)[0]
    assert order == ["change", "read"]
    assert answer.head == position  # it may not claim an earlier head


async def test_no_change_falls_between_registry_and_log(shop, client):
    """Workers register while changes are made. For each pair: the change sees the worker, or the worker the change."""
    changes: dict[Position, set[str]] = {}
    heard: dict[str, Position] = {}
    feed = Feed(shop.database, shop.tail)

    async def register(number: int) -> None:
        name = f"worker-{number}"
        answer = await first_line(feed, Question(name, "eu", 1, None, None, "http://127.0.0.1:9"))
        heard[name] = answer.head

    async def change() -> None:
        position = await purge(shop.database, "t")
        changes[position] = set(await contacts(shop.database))

    for batch in range(12):
        await asyncio.gather(*(register(batch * 4 + number) for number in range(4)), change(), change())
    assert len(changes) == 24
    for position, seen in changes.items():
        for name, head in heard.items():
            assert name in seen or head >= position, (name, head, position)


async def test_a_registration_waits_for_the_disk_and_later_contacts_do_not(shop, monkeypatch):
    async with shop.database.log.connect() as log, shop.database.writes.connect() as writes:
        setting = text("SELECT current_setting('synchronous_commit')")
        assert (await log.execute(setting)).scalar_one() == "off"
        assert (await writes.execute(setting)).scalar_one() == "on"
    question = Question("worker-1", "eu", 1, None, None, "http://127.0.0.1:9")
    async with shop.database.log.connect() as connection:
        await note_contact(shop.database, connection, question)
        assert "worker-1" in await contacts(shop.database)  # committed, though the connection is still in use
        monkeypatch.setattr(shop.database, "writes", None)
        await note_contact(shop.database, connection, question)  # needs no durable write


async def test_a_worker_that_leaves_is_gone(shop, client):
    worker = FakeWorker(client, "worker-1")
    await worker.catch_up()
    await worker.leave()
    assert await contacts(shop.database) == {}


async def test_a_question_that_arrives_after_leaving_registers_nobody(shop, client):
    """A stopping worker hangs up on the question it had under way; another process may still be about to read it."""
    worker, early = FakeWorker(client, "worker-1"), FakeWorker(client, "worker-2")
    await worker.catch_up()
    await worker.leave()
    await worker.ask()
    await early.leave()  # before its first question is read
    await early.ask()
    assert await contacts(shop.database) == {}
    position = await purge(shop.database)
    report = await shop.observer.report(position)
    assert report.workers == ()


async def test_who_left_is_forgotten_when_somebody_leaves_later(shop, client):
    await FakeWorker(client, "worker-1").leave()
    async with shop.database.writes.begin() as connection:
        await connection.execute(text("UPDATE events.contact SET left_at = left_at - interval '2 hours'"))
    await FakeWorker(client, "worker-2").leave()
    async with shop.database.writes.connect() as connection:
        assert (await connection.execute(text("SELECT worker FROM events.contact"))).scalars().all() == ["worker-2"]


async def test_only_edges_are_answered(client):
    for headers, status in (({}, 401), ({EDGE_KEY_FIELD: "wrong"}, 403), ({EDGE_KEY_FIELD: EDGE_KEY + "x"}, 403)):
        for path in (FEED_PATH, LEAVE_PATH):
            response = await client.post(path, content=b"{}", headers=headers)
            assert response.status_code == status
            assert response.headers["content-type"] == "application/problem+json"
            assert response.headers["cache-control"] == "no-store"


QUESTION = {
    "worker": "worker-1",
    "edge": "eu",
    "contact": 1,
    "after": None,
    "after_id": None,
    "public_url": "http://127.0.0.1:9",
}


NO_QUESTIONS: list[dict[str, object]] = [
    {"worker": "short"},
    {"worker": "with a space"},
    {"worker": "nul\x00nul\x00"},
    {"edge": ""},
    {"edge": "é"},
    {"contact": 0},
    {"contact": True},
    {"contact": 2**63},
    {"after": "1.x", "after_id": "x"},
    {"after": "1.1", "after_id": None},
    {"public_url": "file:///etc/passwd"},
    {"public_url": "http://" + "x" * 300},
]


async def test_a_question_that_is_none_is_refused_and_registers_nobody(shop, client):
    for change in NO_QUESTIONS:
        body = json.dumps(QUESTION | change)
        response = await client.post(FEED_PATH, content=body, headers={EDGE_KEY_FIELD: EDGE_KEY})
        assert response.status_code == 400, (change, response.text)
        assert response.json()["status"] == 400
    assert await contacts(shop.database) == {}


async def test_a_leave_that_is_none_is_refused(client):
    for body in (b"", b"[]", b"{", b"\xff", b'{"worker": 1}', b'{"worker": "x"}'):
        response = await client.post(LEAVE_PATH, content=body, headers={EDGE_KEY_FIELD: EDGE_KEY})
        assert response.status_code == 400, body


async def test_open_questions_are_bounded(shop, client, monkeypatch):
    monkeypatch.setattr(feed_module, "MAX_HELD", 1)
    worker = FakeWorker(client, "worker-1")
    await worker.catch_up()
    asking = asyncio.ensure_future(worker.ask())
    await until(lambda: shop.tail.held == 1)
    response = await client.post(FEED_PATH, content=worker.question().to_json(), headers={EDGE_KEY_FIELD: EDGE_KEY})
    assert response.status_code == 503
    assert int(response.headers["retry-after"]) >= 1
    await asking
    assert len(await worker.ask()) == 1  # its place was given back


async def test_a_question_that_fails_gives_its_place_back(shop, client, monkeypatch):
    monkeypatch.setattr(feed_module, "MAX_HELD", 1)

    async def broken(database: Database, connection: AsyncConnection, question: Question) -> None:
        raise OSError("no database")

    worker = FakeWorker(client, "worker-1")
    with monkeypatch.context() as patch:
        patch.setattr(feed_module, "note_contact", broken)
        for _ in range(3):
            response = await client.post(
                FEED_PATH, content=worker.question().to_json(), headers={EDGE_KEY_FIELD: EDGE_KEY}
            )
            assert response.status_code == 503
            assert "retry-after" in response.headers
    assert len(await worker.ask()) >= 1


async def test_a_line_that_is_not_taken_keeps_no_connection(shop, database):
    own = Database(database.primary, markets=shop.markets)  # nobody else's look at the log is counted
    lines = Feed(own, shop.tail).answer(Question("worker-1", "eu", 1, None, None, "http://127.0.0.1:9"))
    try:
        await anext(lines)
        pool = own.log.pool
        assert isinstance(pool, AsyncAdaptedQueuePool)
        assert pool.checkedout() == 0
    finally:
        await lines.aclose()
        await own.close()


async def test_a_viewer_that_hangs_up_ends_its_question(shop):
    feed = Feed(shop.database, shop.tail, hold_s=60.0)
    await first_line(feed, Question("worker-1", "eu", 1, None, None, "http://127.0.0.1:9"))
    lines = feed.answer(Question("worker-1", "eu", 2, None, None, "http://127.0.0.1:9"))
    await anext(lines)
    waiting = asyncio.ensure_future(anext(lines))
    await until(lambda: shop.tail.held == 1)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert shop.tail.held == 0


async def test_the_tail_reaches_back_as_far_as_it_says(shop, monkeypatch):
    tail = LogTail(shop.database, Wake())
    monkeypatch.setattr("origin.events.purge_log.TAIL_ENTRIES", 3)
    await tail.start()
    try:
        tail.note_head(Position(1, 1))
        await until(lambda: tail.head == Position(1, 1))
        for _ in range(5):
            tail.note_head(await purge(shop.database, "t"))
        assert await tail.wait_beyond(Position(1, 5), 5)
        assert tail.head == Position(1, 6)
        after = tail.entries_after(Position(1, 4))
        assert after is not None
        assert [entry.position.cv for entry in after] == [5, 6]
        assert tail.entries_after(Position(1, 1)) is None or len(tail.entries_after(Position(1, 1)) or ()) == 5
    finally:
        await tail.stop()
