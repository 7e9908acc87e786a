"""When is a change live? Leases and standbys judged by a hand-turned clock, then the same on real servers (rule 6)."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import httpx
import pytest
from sqlalchemy import text

from cache_policies.positions import Position, PurgeKind
from origin.db import Database
from origin.events.live import (
    QUIET_S,
    RUN_OUT_S,
    Contact,
    Epochs,
    Leases,
    LiveReport,
    LiveState,
    Outcome,
    Standby,
    StandbyReport,
    View,
    Watch,
    WorkerReport,
)
from origin.events.messages import TagsPurged
from origin.events.observer import Observer, ReadBack, read_view
from tests.support.epochs import raise_epoch
from tests.support.origin import FakeWorker, running_shop, settings_of, until, without_standbys

CHANGE = Position(1, 10)
BEFORE = Position(1, 9)
STANDBY = Standby("standby1", 500)


def contact(worker: str, number: int, applied: Position) -> Contact:
    return Contact(worker, worker[:2], number, applied, "http://127.0.0.1:9")


def view(
    *contacts: Contact, flushed: int = 400, standbys: tuple[Standby, ...] = (STANDBY,), instance: str = "a"
) -> View:
    return View(instance, flushed, contacts, standbys)


class Story:
    """An observer's looks, one after the other, at times told by the test."""

    def __init__(self, committed_at: float = 100.0, standbys: tuple[str, ...] = ()) -> None:
        self.leases = Leases()
        self.epochs = Epochs()
        self.watch = Watch(CHANGE, "its id", committed_at, standbys)

    def before(self, now: float, seen: View) -> None:
        """A look before the commit: leases and epochs only."""
        self.leases.see(seen, now)
        self.epochs.is_settled(seen, now)

    def look(self, now: float, seen: View) -> LiveReport:
        if not self.leases.see(seen, now):
            self.watch.start_over()
        self.watch.judge(seen, self.leases, now, self.epochs.is_settled(seen, now))
        return self.watch.report


def outcomes(report: LiveReport) -> dict[str, Outcome]:
    return {worker.worker: worker.outcome for worker in report.workers}


def test_live_when_every_worker_has_asked_from_the_position():
    story = Story()
    report = story.look(100.01, view(contact("eu-1", 5, BEFORE), contact("us-1", 5, BEFORE)))
    assert (report.state, report.done) == (LiveState.WAITING, 0)
    report = story.look(100.02, view(contact("eu-1", 6, CHANGE), contact("us-1", 6, BEFORE)))
    assert (report.state, report.done) == (LiveState.WAITING, 1)
    report = story.look(100.03, view(contact("eu-1", 6, CHANGE), contact("us-1", 7, Position(1, 12))))
    assert report.state is LiveState.LIVE
    assert [(worker.worker, worker.ms) for worker in report.workers] == [("eu-1", 20.0), ("us-1", 30.0)]
    assert report.elapsed_ms == 30.0


def test_no_worker_means_nothing_to_wait_for():
    assert Story().look(100.01, view()).state is LiveState.LIVE


def test_a_silent_worker_is_waited_out_from_when_its_contact_was_first_seen():
    silent = contact("eu-1", 5, BEFORE)
    story = Story()
    story.before(99.0, view(silent))
    assert story.look(99.0 + RUN_OUT_S - 0.001, view(silent)).state is LiveState.WAITING
    report = story.look(99.001 + RUN_OUT_S, view(silent))
    assert report.state is LiveState.LIVE
    assert outcomes(report) == {"eu-1": Outcome.LEASE_RAN_OUT}
    assert report.workers[0].ms == pytest.approx((99.001 + RUN_OUT_S - 100.0) * 1000, abs=0.1)


def test_a_worker_that_asks_without_having_applied_is_waited_for_again():
    story = Story()
    story.look(100.0, view(contact("eu-1", 5, BEFORE)))
    story.look(101.9, view(contact("eu-1", 6, BEFORE)))
    assert story.look(103.0, view(contact("eu-1", 6, BEFORE))).state is LiveState.WAITING
    assert story.look(101.901 + RUN_OUT_S, view(contact("eu-1", 6, BEFORE))).state is LiveState.LIVE


def test_a_worker_that_comes_back_after_its_lease_ran_out_is_named_acknowledged():
    story = Story()
    other = contact("us-1", 1, BEFORE)
    story.before(90.0, view(contact("eu-1", 5, BEFORE)))
    report = story.look(100.0, view(contact("eu-1", 5, BEFORE), other))
    assert outcomes(report) == {"eu-1": Outcome.LEASE_RAN_OUT, "us-1": Outcome.WAITING}
    report = story.look(100.5, view(contact("eu-1", 6, BEFORE), other))
    assert outcomes(report)["eu-1"] is Outcome.LEASE_RAN_OUT  # it asked after the change: it was answered with it
    report = story.look(100.6, view(contact("eu-1", 7, CHANGE), other))
    assert outcomes(report)["eu-1"] is Outcome.ACKNOWLEDGED


def test_nothing_is_live_until_the_leases_of_the_primary_before_are_over():
    """A worker that only the old primary knew may hold a lease that nobody here has heard of."""
    story = Story()
    young = replace(view(contact("eu-1", 5, CHANGE)), epoch=2, settled=False)
    story.before(99.0, young)
    assert story.look(99.0 + QUIET_S - 0.001, young).state is LiveState.WAITING
    assert story.look(99.001 + QUIET_S, young).state is LiveState.LIVE
    # Two leases, each as long as the slower of two clocks may make it.
    assert pytest.approx((2.0 + 2.0) * 1.01) == QUIET_S


def test_an_observer_that_begins_later_need_not_wait_once_more():
    young = replace(view(contact("eu-1", 5, CHANGE)), epoch=2, settled=True)
    assert Story().look(100.01, young).state is LiveState.LIVE


def test_a_broken_connection_does_not_begin_the_wait_anew():
    story = Story()
    young = replace(view(contact("eu-1", 5, CHANGE)), epoch=2, settled=False)
    story.before(95.0, young)
    story.leases.start_over()
    story.watch.start_over()
    assert story.look(95.001 + QUIET_S + 5.0, young).state is LiveState.LIVE


def test_a_change_whose_entry_is_gone_is_lost_whoever_is_beyond_it():
    seen = replace(view(contact("eu-1", 5, Position(3, 12))), epoch=3, lost=frozenset({CHANGE}))
    assert Story().look(100.01, seen).state is LiveState.LOST
    assert Story().look(100.01, replace(seen, lost=frozenset({Position(2, 10)}))).state is LiveState.LIVE


def test_a_worker_that_leaves_is_done():
    story = Story()
    story.look(100.0, view(contact("eu-1", 5, BEFORE)))
    report = story.look(100.1, view())
    assert (report.state, outcomes(report)) == (LiveState.LIVE, {"eu-1": Outcome.LEFT})


def test_a_worker_that_registers_later_is_not_waited_for():
    story = Story()
    story.look(100.0, view(contact("eu-1", 5, BEFORE)))
    late = contact("eu-2", 1, Position(0, 0))
    report = story.look(100.1, view(contact("eu-1", 6, CHANGE), late))
    assert (report.state, outcomes(report)) == (LiveState.LIVE, {"eu-1": Outcome.ACKNOWLEDGED})


def test_an_older_epoch_acknowledges_nothing():
    story = Story()
    report = story.look(100.0, view(contact("eu-1", 5, Position(0, 99))))
    assert report.state is LiveState.WAITING


def test_another_server_means_starting_over():
    silent = contact("eu-1", 5, BEFORE)
    story = Story()
    story.before(90.0, view(silent))
    asked = contact("us-1", 3, CHANGE)
    pending = contact("ap-1", 3, BEFORE)
    assert story.look(100.0, view(silent, asked, pending)).done == 2
    report = story.look(100.1, view(silent, contact("us-1", 3, BEFORE), pending, instance="b"))
    assert (report.state, report.done) == (LiveState.WAITING, 0)
    assert story.look(100.101 + RUN_OUT_S, view(silent, pending, instance="b")).state is LiveState.LIVE


def test_a_broken_connection_forgets_what_was_observed():
    leases = Leases()
    silent = contact("eu-1", 5, BEFORE)
    leases.see(view(silent), 90.0)
    assert leases.still_for_s(silent, 100.0) == 10.0
    leases.start_over()
    assert leases.see(view(silent), 100.0) is False
    assert leases.still_for_s(silent, 100.0) == 0.0


DONE = contact("eu-1", 6, CHANGE)


@pytest.mark.parametrize(
    ("promotable", "standbys", "state", "further"),
    [
        pytest.param((), (Standby("s1", 400),), LiveState.LIVE, False, id="flushed"),
        pytest.param((), (Standby("s1", 399),), LiveState.SHOWN, True, id="not flushed yet"),
        pytest.param((), (Standby("s1", None),), LiveState.SHOWN, True, id="has not said"),
        pytest.param((), (), LiveState.SHOWN, False, id="no standby"),
        pytest.param((), (Standby("s1", 400), Standby("s2", 1)), LiveState.SHOWN, True, id="all that stream count"),
        pytest.param(("s1",), (Standby("s1", 400), Standby("s2", 1)), LiveState.LIVE, False, id="s2 is no heir"),
        pytest.param(("s1", "s2"), (Standby("s1", 400),), LiveState.SHOWN, False, id="an heir is away"),
    ],
)
def test_live_needs_the_change_on_every_standby_that_may_be_promoted(promotable, standbys, state, further):
    story = Story(standbys=promotable)
    report = story.look(100.01, view(DONE, standbys=standbys))
    assert report.state is state
    assert story.watch.can_come_further is further


def test_what_the_primary_writes_later_need_not_be_flushed():
    story = Story()
    story.look(100.0, view(contact("eu-1", 5, BEFORE), flushed=400, standbys=(Standby("s1", 300),)))
    report = story.look(100.1, view(DONE, flushed=900, standbys=(Standby("s1", 450),)))
    assert report.state is LiveState.LIVE


def test_shown_becomes_live_when_the_standby_has_it():
    story = Story()
    assert story.look(100.1, view(DONE, standbys=())).state is LiveState.SHOWN
    report = story.look(100.5, view(DONE))
    assert (report.state, report.elapsed_ms) == (LiveState.LIVE, 500.0)


def test_a_report_survives_its_stored_form():
    report = LiveReport(
        CHANGE,
        LiveState.SHOWN,
        12.5,
        (WorkerReport("eu", "w", Outcome.LEASE_RAN_OUT, 3.25, "http://127.0.0.1:1"),),
        (StandbyReport("standby1", False),),
    )
    assert LiveReport.from_json(report.to_json()) == report


# --- on real servers --------------------------------------------------------------------------------------------


@pytest.fixture
async def origin(database):
    async with running_shop(settings_of(database)) as running:
        yield running


async def purge(database: Database) -> Position:
    async with database.unit_of_work(actor="a", cause="b") as work:
        work.record(TagsPurged(("t",), PurgeKind.HARD))
    assert work.position is not None
    return work.position


async def test_live_names_every_worker_and_the_standby(origin, postgres):
    shop, client = origin
    workers = [FakeWorker(client, f"worker-{edge}", edge) for edge in ("us", "eu", "ap")]
    await asyncio.gather(*(worker.catch_up() for worker in workers))
    position = await purge(shop.database)
    waiting = asyncio.ensure_future(shop.observer.wait_live(position, 10))
    await workers[0].catch_up()
    await until(lambda: shop.observer._watches[position].report.done == 1)
    assert not waiting.done()
    await asyncio.gather(workers[1].catch_up(), workers[2].catch_up())
    report = await waiting
    assert report.state is LiveState.LIVE
    assert [(worker.edge, worker.outcome) for worker in report.workers] == [
        ("ap", Outcome.ACKNOWLEDGED),
        ("eu", Outcome.ACKNOWLEDGED),
        ("us", Outcome.ACKNOWLEDGED),
    ]
    assert report.standbys == (StandbyReport(postgres.standby_name, True),)
    assert all(0 < worker.ms <= report.elapsed_ms for worker in report.workers)


async def test_without_a_standby_that_may_be_promoted_it_is_shown_never_live(database):
    async with running_shop(without_standbys(settings_of(database))) as (shop, client):
        worker = FakeWorker(client, "worker-1")
        await worker.catch_up()
        position = await purge(shop.database)
        await worker.catch_up()
        report = await shop.observer.wait_live(position, 10)
        assert report.state is LiveState.SHOWN


async def test_a_wait_ends_with_what_is_known(origin):
    shop, client = origin
    await FakeWorker(client, "worker-1").catch_up()
    position = await purge(shop.database)
    report = await shop.observer.wait_live(position, 0.05)
    assert (report.state, outcomes(report)) == (LiveState.WAITING, {"worker-1": Outcome.WAITING})


async def test_the_registry_is_read_after_the_commit(origin, monkeypatch):
    """A look that was sent before the commit must not decide: a worker may have registered in between."""
    shop, client = origin
    sent, go_on = asyncio.Event(), asyncio.Event()
    gate_open = False

    async def held(connection, watches):
        seen = await read_view(connection, watches)
        if not gate_open:
            sent.set()
            await go_on.wait()
        return seen

    monkeypatch.setattr("origin.events.observer.read_view", held)
    await sent.wait()  # this look saw an empty registry
    worker = FakeWorker(client, "worker-1")
    await worker.ask()
    position = await purge(shop.database)
    waiting = asyncio.ensure_future(shop.observer.wait_live(position, 0.3))
    await asyncio.sleep(0)
    gate_open = True
    go_on.set()
    report = await waiting
    assert (report.state, outcomes(report)) == (LiveState.WAITING, {"worker-1": Outcome.WAITING})


async def test_what_is_lost_is_what_the_log_has_not_whatever_its_number(origin, database):
    """Epoch 2 was given up: its changes are nowhere, though the log that goes on has inherited more than their `cv`."""
    shop, _ = origin
    kept, after = await purge(shop.database), await purge(shop.database)
    assert await raise_epoch(database, above=2) == Position(3, after.cv + 1)
    async with shop.database.log.connect() as connection:
        of_kept = text("SELECT id::text FROM events.purge_log WHERE (epoch, cv) = (:epoch, :cv)")
        entry_id = (await connection.execute(of_kept, kept._asdict())).scalar_one()

        async def lost(*watches: Watch) -> frozenset[Position]:
            return (await read_view(connection, watches)).lost

        given_up, trimmed = Position(2, kept.cv), Position(1, 0)
        watches = [Watch(position, entry_id, 0.0) for position in (kept, given_up, trimmed)]
        assert await lost(*watches) == {given_up}
        assert await lost(Watch(kept, "of another history", 0.0)) == {kept}
        assert await lost() == frozenset()


async def test_progress_can_be_told_by_another_worker_and_later(origin, database):
    shop, client = origin
    worker = FakeWorker(client, "worker-1")
    await worker.catch_up()
    position = await purge(shop.database)
    await worker.catch_up()
    report = await shop.observer.wait_live(position, 10)
    assert report.state is LiveState.LIVE
    await until(lambda: not shop.observer._unwritten)

    async def is_told() -> bool:
        # Not started: it knows only what is written.
        return await Observer(shop.database).report(position) == report

    await until(is_told, what="the same report by another worker")
    assert await Observer(shop.database).report(Position(1, 999)) is None


async def test_a_change_made_elsewhere_is_followed_when_somebody_asks(origin, database):
    """A commit by another process, the command line say: whoever asks for it makes this worker watch it."""
    shop, client = origin
    worker = FakeWorker(client, "worker-1")
    await worker.catch_up()
    other = Database(database.primary, markets=shop.markets)
    try:
        position = await purge(other)
    finally:
        await other.close()
    assert (await shop.observer.report(position)).state is LiveState.WAITING
    await worker.catch_up()
    report = await shop.observer.wait_live(position, 10)
    assert (report.state, report.done) == (LiveState.LIVE, 1)


class Edges(httpx.AsyncBaseTransport):
    """Three edges: one shows the new price, one the old one, one is down."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(str(request.url))
        match request.url.host:
            case "us":
                return httpx.Response(200, json={"amount": "12.00"}, headers={"cache-status": "edge-us; hit"})
            case "eu":
                return httpx.Response(200, json={"amount": "11.00"})
            case _:
                raise httpx.ConnectError("refused", request=request)


async def test_the_price_is_read_back_through_every_edge(origin):
    shop, _ = origin
    edges = Edges()
    await shop.observer._client.aclose()
    shop.observer._client = httpx.AsyncClient(transport=edges)
    base = WorkerReport("us", "a", Outcome.ACKNOWLEDGED, 1.0, "http://us")
    workers = (
        base,
        replace(base, worker="b"),
        replace(base, edge="eu", public_url="http://eu:8082"),
        replace(base, edge="ap", public_url="http://ap"),
    )
    report = LiveReport(CHANGE, LiveState.LIVE, 1.0, workers)
    backs = {back.edge: back for back in await shop.observer.read_back(report, "eu-eur", "SKU 1/ä", "12.00")}
    assert edges.asked == [
        "http://ap/api/v1/eu-eur/prices/SKU%201%2F%C3%A4",
        "http://eu:8082/api/v1/eu-eur/prices/SKU%201%2F%C3%A4",
        "http://us/api/v1/eu-eur/prices/SKU%201%2F%C3%A4",
    ]
    assert isinstance(backs["us"], ReadBack)
    assert (backs["us"].as_expected, backs["us"].amount, backs["us"].cache_status) == (True, "12.00", "edge-us; hit")
    assert (backs["eu"].as_expected, backs["eu"].amount, backs["eu"].status) == (False, "11.00", 200)
    assert (backs["ap"].as_expected, backs["ap"].status, backs["ap"].error) == (False, 0, "refused")
