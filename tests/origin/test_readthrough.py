"""Answers that were made before: given as what they are, while they hold, whatever becomes of Redis."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace

import httpx
import pytest
from redis import Redis
from starlette.requests import Request

from cache_policies.fields import EDGE_KEY_FIELD, MIN_VERSION_FIELD
from cache_policies.positions import ZERO, Position, PurgeEntry, PurgeKind
from cache_policies.tags import EVERYTHING, path_tag
from origin import readthrough
from origin.caching import CacheHints
from origin.db import Database
from origin.events import purge_log
from origin.events.messages import TagsPurged
from origin.events.purge_log import LogTail
from origin.events.wake import Wake
from origin.inventory.service import set_stock
from origin.pricing.service import change_price
from origin.readthrough import ReadThrough, Rendered, Result, Value, judge
from origin.shelf import Shelf, in_order
from origin.shop import Shop, open_shop
from tests.support.epochs import raise_epoch
from tests.support.origin import until
from tests.support.scripted_redis import ScriptedRedis
from tests.support.servers import DatabaseUrls, EmbeddedServers
from tests.support.small_shop import EDGE_KEY, client_of, small_shop

ANNA = "anna@example.com"
PRICE = "/api/v1/eu-eur/prices/LAMP-1"
ADDRESSES = (
    "/eu-eur/",
    "/eu-eur/c/lighting",
    "/eu-eur/c/lighting/lamps?sort=price-up",
    "/eu-eur/products/lamp-one",
    "/eu-eur/products/lamp-one?variant=LAMP-1-RED",
    "/api/v1/eu-eur/products",
    "/api/v1/eu-eur/products/LAMP-1",
    PRICE,
    "/api/v1/eu-eur/stock/LAMP-1",
)
LABELS = ("catalog-version", "cache-tag", "etag", "cache-control", "cdn-cache-control", "content-type")


@pytest.fixture(autouse=True)
def _patience(monkeypatch):
    """Nothing here depends on how fast the machine is."""
    monkeypatch.setattr("origin.shelf.WAIT_S", 30.0)


@pytest.fixture
def redis(valkey: EmbeddedServers) -> Iterator[Redis]:
    """The server, with nothing in it."""
    with Redis.from_url(valkey.redis_url) as client:
        client.flushall()
        yield client


@dataclass
class Worker:
    """One worker of the origin, and an edge's connection to it."""

    shop: Shop
    client: httpx.AsyncClient

    async def ask(self, path: str, minimum: object = None, method: str = "GET", **headers: str) -> httpx.Response:
        if minimum is not None:
            headers[MIN_VERSION_FIELD] = str(minimum)
        answer = await self.client.request(method, path, headers=headers)
        await self.shop.readthrough.written()
        return answer

    async def price(self, minimum: object = None) -> tuple[str, Position]:
        """What it says LAMP-1 costs, and at which position."""
        answer = await self.ask(PRICE, minimum)
        assert answer.status_code == 200, answer.text
        return answer.json()["amount"], position_of(answer)

    def results(self) -> Counter[str]:
        """How many look-ups came to what."""
        [family] = self.shop.metrics.readthrough.collect()
        return Counter(
            {
                sample.labels["result"]: int(sample.value)
                for sample in family.samples
                if sample.name.endswith("_total") and sample.value
            }
        )

    def statements(self) -> int:
        """How many were sent for public reads."""
        [family] = self.shop.metrics.statements.collect()
        return sum(int(sample.value) for sample in family.samples if sample.labels["pool"] not in {"log", "writes"})

    async def change(self, amount: str, sku: str = "LAMP-1", market: str = "eu-eur") -> Position:
        """Change a price, and wait until this worker's tail knows."""
        position = (await change_price(self.shop, ANNA, sku, market, amount)).position
        await until(lambda: self.shop.tail.head >= position)
        return position


def position_of(answer: httpx.Response) -> Position:
    return Position.parse(answer.headers["catalog-version"])


@contextlib.asynccontextmanager
async def another(worker: Worker) -> AsyncIterator[Worker]:
    """One more worker of the same origin, which starts now."""
    settings = worker.shop.settings
    async with open_shop(settings, serving=True) as shop, client_of(shop, **{EDGE_KEY_FIELD: EDGE_KEY}) as client:
        await until(lambda: shop.tail.head > ZERO)
        yield Worker(shop, client)


@contextlib.asynccontextmanager
async def worker_on(urls: DatabaseUrls, redis_url: str, *, standby: bool = False) -> AsyncIterator[Worker]:
    async with (
        small_shop(urls, serving=True, standby=standby, redis_url=redis_url) as shop,
        client_of(shop, **{EDGE_KEY_FIELD: EDGE_KEY}) as client,
    ):
        worker = Worker(shop, client)
        await worker.change("10.00")
        yield worker


@pytest.fixture
async def worker(database: DatabaseUrls, valkey: EmbeddedServers, redis: Redis) -> AsyncIterator[Worker]:
    """LAMP-1 costs 10.00 in eu-eur."""
    async with worker_on(database, valkey.redis_url) as worker:
        yield worker


# --- given again ---


async def test_the_second_who_asks_is_given_the_same_answer_without_the_database(worker):
    for number, path in enumerate(ADDRESSES, 1):
        first = await worker.ask(path)
        assert first.status_code == 200
        before = worker.statements()
        second = await worker.ask(path)
        assert worker.statements() == before
        assert second.content == first.content
        assert {name: second.headers[name] for name in LABELS} == {name: first.headers[name] for name in LABELS}
        assert worker.results() == {"absent": number, "hit": number}


async def test_what_a_change_names_is_read_anew_and_the_rest_is_given(worker):
    old = {path: await worker.ask(path) for path in ADDRESSES}
    position = await worker.change("99.00")
    new = {path: await worker.ask(path) for path in ADDRESSES}
    assert worker.results() == {"absent": len(ADDRESSES), "overtaken": len(ADDRESSES)}
    for path in ADDRESSES:
        assert position_of(new[path]) == position
        # Tags know products, not what of them changed.
        shows_another_price = "/stock/" not in path and "variant=" not in path
        assert (new[path].content != old[path].content) == shows_another_price, path
    await worker.change("10.00", sku="LAMP-2", market="us-usd")
    for path in ADDRESSES:
        again = await worker.ask(path)
        assert (again.content, position_of(again)) == (new[path].content, position)
    assert worker.results()["hit"] == len(ADDRESSES)


async def test_workers_share_what_they_keep(worker):
    async with another(worker) as other:
        first = await worker.ask(PRICE)
        assert (await other.ask(PRICE)).content == first.content
        assert other.results() == {"hit": 1}


async def test_head_and_conditional_requests_are_answered_from_what_was_kept(worker):
    first = await worker.ask("/eu-eur/")
    head = await worker.ask("/eu-eur/", method="HEAD")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(first.content))
    same = await worker.ask("/eu-eur/", **{"if-none-match": first.headers["etag"]})
    assert (same.status_code, same.content) == (304, b"")
    other = await worker.ask("/eu-eur/", **{"if-none-match": '"another"'})
    assert other.content == first.content
    for answer in (head, same, other):
        labels = ("catalog-version", "cache-tag", "etag", "cdn-cache-control")
        assert {name: answer.headers[name] for name in labels} == {name: first.headers[name] for name in labels}
    assert worker.results() == {"absent": 1, "hit": 3}


async def test_a_304_does_not_confirm_what_a_change_overtook(worker):
    old = await worker.ask("/eu-eur/products/lamp-one")
    position = await worker.change("99.00")
    answer = await worker.ask("/eu-eur/products/lamp-one", **{"if-none-match": old.headers["etag"]})
    assert answer.status_code == 200
    assert position_of(answer) == position


async def test_what_is_not_there_is_not_kept(worker, redis):
    for path in ("/eu-eur/products/nothing", "/api/v1/eu-eur/prices/NOTHING", "/eu-eur/c/nowhere"):
        for _ in range(2):
            assert (await worker.ask(path)).status_code == 404
    assert worker.results() == {"absent": 6}
    assert redis.dbsize() == 0


async def test_a_variant_that_is_none_is_not_kept_under_its_name(worker, redis):
    named = await worker.ask("/eu-eur/products/lamp-one?variant=anything")
    assert redis.dbsize() == 0
    plain = await worker.ask("/eu-eur/products/lamp-one")
    assert named.content == plain.content
    assert redis.dbsize() == 1


async def test_pages_of_two_authorities_are_two(worker):
    one = await worker.ask("/eu-eur/", **{"x-forwarded-host": "one.example"})
    two = await worker.ask("/eu-eur/", **{"x-forwarded-host": "two.example"})
    assert b"one.example" in one.content
    assert b"one.example" not in two.content
    assert worker.results() == {"absent": 2}


async def test_what_others_than_edges_ask_is_given_and_not_kept(worker, redis):
    async with client_of(worker.shop) as stranger:
        assert (await stranger.get(PRICE)).status_code == 200
        await worker.shop.readthrough.written()
        assert redis.dbsize() == 0
        kept = await worker.ask(PRICE)
        assert (await stranger.get(PRICE)).content == kept.content
    assert worker.results() == {"absent": 2, "hit": 1}


async def test_it_can_be_switched_off(worker, redis):
    settings = replace(worker.shop.settings, readthrough=False)
    async with open_shop(settings, serving=True) as shop, client_of(shop, **{EDGE_KEY_FIELD: EDGE_KEY}) as client:
        off = Worker(shop, client)
        assert (await off.price())[0] == (await off.price())[0] == "10.00"
        assert off.results() == {}
    assert redis.dbsize() == 0


async def test_values_are_forgotten_after_a_while(worker, redis):
    await worker.ask(PRICE)
    [name] = redis.keys("nearshelf:rt:*")
    assert 0 < redis.pttl(name) <= readthrough.LIFE_S * 1000


# --- what a reader demands ---


async def test_a_value_below_the_demanded_position_is_not_given(worker):
    amount, position = await worker.price()
    await worker.change("1.00", sku="LAMP-2", market="us-usd")
    later = await worker.change("2.00", sku="LAMP-2", market="us-usd")
    assert await worker.price(minimum=position) == (amount, position)
    assert await worker.price(minimum=later) == (amount, later)
    assert worker.results() == {"absent": 1, "hit": 1, "behind": 1}
    assert await worker.price() == (amount, later)


async def test_the_head_is_never_answered_from_what_was_kept(worker):
    await worker.price()
    before = worker.statements()
    assert await worker.price(minimum="head") == await worker.price()
    assert worker.statements() > before
    assert worker.results() == {"absent": 1, "head": 1, "hit": 1}


async def test_a_demand_that_this_worker_has_not_heard_of_yet_is_never_answered_from_what_was_kept(worker):
    _, position = await worker.price()
    for demand in (Position(1, position.cv + 1), Position(2, 1), Position(9, 999)):
        answer = await worker.ask(PRICE, demand)
        assert answer.status_code == 503
        assert "catalog-version" not in answer.headers


# --- late writes ---


class Held(Shelf):
    """Writes wait for `open_again`; `put_late` repeats all that were made."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.free = asyncio.Event()
        self.waiting = asyncio.Event()
        self.made: list[tuple[str, bytes, float]] = []

    async def put(self, name: str, value: bytes, for_s: float) -> bool:
        self.made.append((name, value, for_s))
        self.waiting.set()
        await self.free.wait()
        return await super().put(name, value, for_s)


async def test_what_was_read_before_a_change_and_kept_after_it_is_not_given(worker, valkey):
    shelf = worker.shop.readthrough._shelf = Held(valkey.redis_url)
    assert (await worker.client.get(PRICE)).json()["amount"] == "10.00"
    await asyncio.wait_for(shelf.waiting.wait(), 10)
    position = await worker.change("12.00")
    shelf.free.set()
    await worker.shop.readthrough.written()
    assert await worker.price() == ("12.00", position)
    assert worker.results() == {"absent": 1, "overtaken": 1}
    # Whoever was still slower does not put the old one back.
    assert not await Shelf.put(shelf, *shelf.made[0])
    assert await worker.price() == ("12.00", position)
    assert worker.results()["hit"] == 1
    await shelf.close()


async def test_what_a_replica_shows_after_a_change_is_neither_given_nor_kept(database, valkey, redis, postgres):
    async with worker_on(database, valkey.redis_url, standby=True) as worker:
        await asyncio.to_thread(postgres.wait_for_replay)
        amount, old = await worker.price()
        await asyncio.to_thread(postgres.pause_replay)
        try:
            new = await worker.change("12.00")
            # A reader without demands is shown what the replica has, under its own label.
            assert await worker.price() == ("10.00", old)
            assert await worker.price() == ("10.00", old)
            assert worker.results() == {"absent": 1, "overtaken": 2}
            # An edge that knows of the change demands it.
            assert await worker.price(minimum=new) == ("12.00", new)
            assert await worker.price() == ("12.00", new)
            assert worker.results()["hit"] == 1
        finally:
            await asyncio.to_thread(postgres.resume_replay)
            await asyncio.to_thread(postgres.wait_for_replay)
        assert amount == "10.00"


async def test_a_position_that_the_tail_has_not_reached_is_waited_for_and_then_kept(worker, monkeypatch):
    tail = worker.shop.tail
    reading = asyncio.Event()
    real = tail._read

    async def held() -> None:
        await reading.wait()
        await real()

    monkeypatch.setattr(tail, "_read", held)
    position = (await change_price(worker.shop, ANNA, "LAMP-1", "eu-eur", "12.00")).position
    assert (await worker.client.get(PRICE)).headers["catalog-version"] == str(position)
    assert tail.head < position
    reading.set()
    await worker.shop.readthrough.written()
    assert await worker.price() == ("12.00", position)
    assert worker.results() == {"absent": 1, "hit": 1}


# --- workers that know little ---


async def test_a_worker_that_just_started_believes_nothing_from_before_its_tail(worker):
    await worker.ask(PRICE)
    await worker.change("1.00", sku="LAMP-2", market="us-usd")
    async with another(worker) as fresh:
        assert await fresh.price() == ("10.00", fresh.shop.tail.head)
        assert fresh.results() == {"unknown": 1}
        # What it has read itself both believe.
        assert await fresh.price() == await worker.price()
        assert fresh.results()["hit"] == worker.results()["hit"] == 1


async def test_a_worker_that_just_started_believes_what_was_read_where_its_tail_begins(worker):
    await worker.ask(PRICE)
    async with another(worker) as fresh:
        await fresh.price()
        assert fresh.results() == {"hit": 1}


async def test_a_worker_that_hears_nothing_of_the_log_gives_nothing(worker, monkeypatch):
    await worker.price()
    monkeypatch.setattr(worker.shop.readthrough, "_clock", lambda: worker.shop.tail.as_of + 2.001)
    assert (await worker.price())[0] == "10.00"
    assert worker.results() == {"absent": 1, "unsure": 1}


async def test_whoever_changed_a_price_here_sees_it_here_at_once(worker):
    for amount in ("11.00", "12.00", "13.00"):
        await worker.price()
        changed = await change_price(worker.shop, ANNA, "LAMP-1", "eu-eur", amount)
        assert await worker.price() == (amount, changed.position)


async def test_the_tail_is_read_though_nobody_nudges_and_no_edge_asks(database):
    async with small_shop(database, serving=True) as shop:
        position = shop.tail.head
        async with database_of(database, shop) as elsewhere:
            # As an import does: another process, whose nudge nobody hears.
            async with elsewhere.unit_of_work(actor="a", cause="b") as work:
                work.record(TagsPurged(("p:eu-eur:lamp-1",), PurgeKind.HARD))
            assert work.position is not None
            assert work.position > position
            await until(lambda: shop.tail.head == work.position)


@contextlib.asynccontextmanager
async def database_of(urls: DatabaseUrls, shop: Shop) -> AsyncIterator[Database]:
    database = Database(urls.primary, markets=shop.markets)
    yield database
    await database.close()


async def test_a_database_made_anew_beside_an_old_redis_is_another_history(postgres, valkey, redis):
    amounts = {}
    for amount in ("11.00", "12.00"):
        urls = postgres.copy()
        async with worker_on(urls, valkey.redis_url) as worker:
            position = await worker.change(amount)
            amounts[amount] = position
            assert await worker.price() == (amount, position)
            assert await worker.price() == (amount, position)
        postgres.drop(urls.name)
    assert len(set(amounts.values())) == 1, "the point of this test: one position, two histories"


async def test_what_was_read_before_an_epoch_began_is_given_after_it(worker, database):
    """A failover that lost nothing costs no database a read."""
    amount, position = await worker.price()
    began = await raise_epoch(database)
    await until(lambda: worker.shop.tail.head == began)
    assert await worker.price() == (amount, position)
    assert worker.results() == {"absent": 1, "hit": 1}
    assert (await worker.price(began))[1] == began
    assert worker.results()["behind"] == 1


# --- purges by hand ---


async def test_what_is_purged_by_hand_is_read_anew(worker):
    path = "/eu-eur/products/lamp-one"
    await worker.ask(path)
    purges = [
        (tag, kind)
        for tag in ("p:eu-eur:lamp-1", EVERYTHING, path_tag(path), "n:eu-eur")
        for kind in (PurgeKind.HARD, PurgeKind.SOFT)
    ]
    for tag, kind in purges:
        async with worker.shop.database.unit_of_work(actor=ANNA, cause="by hand") as work:
            work.record(TagsPurged((tag,), kind))
        await until(lambda position=work.position: worker.shop.tail.head == position)
        assert position_of(await worker.ask(path)) == work.position, tag
    assert worker.results() == {"absent": 1, "overtaken": len(purges)}


async def test_another_stock_band_is_read_anew(worker):
    path = "/api/v1/eu-eur/stock/LAMP-1"
    assert (await worker.ask(path)).json()["band"] == "in_stock"
    position = (await set_stock(worker.shop, ANNA, "LAMP-1", 0)).position
    await until(lambda: worker.shop.tail.head == position)
    assert (await worker.ask(path)).json()["band"] == "out"


# --- judging ---


HINTS = CacheHints(60, 0, 0, ("p:eu-eur:a", "n:eu-eur"), Position(1, 5), shows_price=True)
VALUE = Value(Rendered(b"{}", "application/json", HINTS), "id-of-1.5")


FOUR = Position(1, 4)


def tail_of(*entries: tuple[Position, str], begins: Position = FOUR) -> LogTail:
    """A tail that begins at `begins` and holds entries that name one tag each."""
    tail = LogTail(None, Wake())  # type: ignore[arg-type]
    tail._begin_at(begins, f"id-of-{begins}")
    for position, tag in entries:
        tail._append((PurgeEntry(position, f"id-of-{position}", PurgeKind.HARD, (tag,)),))
    tail.as_of = 100.0
    return tail


FIVE = (Position(1, 5), "p:eu-eur:a")


@pytest.mark.parametrize(
    ("entries", "minimum", "expected"),
    [
        pytest.param([FIVE], None, Result.HIT, id="what its own position names is in it"),
        pytest.param([FIVE], Position(1, 5), Result.HIT, id="as high as demanded"),
        pytest.param([FIVE], Position(1, 6), Result.BEHIND, id="below what is demanded"),
        pytest.param([FIVE], Position(2, 1), Result.BEHIND, id="a demand of a later epoch"),
        pytest.param([FIVE], "head", Result.BEHIND, id="the head"),
        pytest.param([FIVE, (Position(1, 6), "p:eu-eur:b")], None, Result.HIT, id="another product changed"),
        pytest.param([FIVE, (Position(1, 6), "p:eu-eur:a")], None, Result.OVERTAKEN, id="its product changed"),
        pytest.param([FIVE, (Position(1, 6), "n:eu-eur")], None, Result.OVERTAKEN, id="another of its tags"),
        pytest.param([FIVE, (Position(1, 6), EVERYTHING)], None, Result.OVERTAKEN, id="everything"),
        pytest.param([FIVE, (Position(1, 6), "path:/a")], None, Result.OVERTAKEN, id="its address"),
        pytest.param([], None, Result.UNKNOWN, id="not there yet"),
        pytest.param([(Position(2, 5), "x")], None, Result.UNKNOWN, id="the same number in another epoch"),
        pytest.param([FIVE, (Position(2, 6), "x")], None, Result.HIT, id="a later epoch goes on with it"),
        pytest.param([FIVE, (Position(2, 6), "p:eu-eur:a")], None, Result.OVERTAKEN, id="which changed its product"),
    ],
)
def test_what_may_be_given(entries, minimum, expected):
    tags = (*HINTS.tags, "path:/a")
    assert judge(VALUE, tags, minimum, tail_of(*entries), 100.5, 0.0) is expected


def test_before_the_tail_begins_nothing_is_known():
    assert judge(VALUE, HINTS.tags, None, tail_of(begins=Position(1, 6)), 100.5, 0.0) is Result.UNKNOWN
    assert judge(VALUE, HINTS.tags, None, tail_of(begins=Position(1, 5)), 100.5, 0.0) is Result.HIT


def test_an_entry_of_the_same_position_with_another_id_is_another_history():
    other = replace(VALUE, id="somebody else's")
    assert judge(other, HINTS.tags, None, tail_of(FIVE), 100.5, 0.0) is Result.UNKNOWN


def test_what_another_primary_did_not_inherit_is_not_given():
    tail = tail_of(FIVE, (Position(1, 6), "p:eu-eur:a"), (Position(1, 7), "n:eu-eur"))
    lost = Value(replace(VALUE.rendered, hints=replace(HINTS, position=Position(1, 7))), "id-of-1.7")
    assert judge(lost, HINTS.tags, None, tail, 100.5, 0.0) is Result.HIT
    assert tail._go_back(Position(1, 5), "id-of-1.5")
    tail._append((PurgeEntry(Position(2, 6), "id-of-2.6", PurgeKind.EPOCH, (), 5),))
    assert judge(lost, HINTS.tags, None, tail, 100.5, 0.0) is Result.UNKNOWN
    assert judge(VALUE, HINTS.tags, None, tail, 100.5, 0.0) is Result.HIT, "what had overtaken it never happened"


def test_a_tail_goes_back_to_what_it_knows_and_nowhere_else():
    tail = tail_of(FIVE, (Position(1, 6), "x"))
    for position, entry_id in ((Position(1, 5), "another"), (Position(1, 3), "id-of-1.3"), (Position(2, 5), "x")):
        assert not tail._go_back(position, entry_id)
    assert tail.head == Position(1, 6)
    assert tail._go_back(Position(1, 4), "id-of-1.4"), "where it begins"
    assert (tail.head, tail.head_id, tail.entries_after(FOUR)) == (FOUR, "id-of-1.4", ())
    assert tail.floor_of(["x", "p:eu-eur:a"]) == ZERO
    assert tail.id_at(Position(1, 5)) is None


def test_past_its_hard_end_it_is_not_given():
    ends = replace(VALUE, rendered=replace(VALUE.rendered, hints=replace(HINTS, expires_at=1_000)))
    assert judge(ends, HINTS.tags, None, tail_of(FIVE), 100.5, 999.9) is Result.HIT
    assert judge(ends, HINTS.tags, None, tail_of(FIVE), 100.5, 1_000.0) is Result.EXPIRED


def test_a_tail_that_was_read_longer_ago_than_a_lease_proves_nothing():
    assert judge(VALUE, HINTS.tags, None, tail_of(FIVE), 102.0, 0.0) is Result.HIT
    assert judge(VALUE, HINTS.tags, None, tail_of(FIVE), 102.01, 0.0) is Result.UNSURE


def test_a_tail_that_never_was_read_proves_nothing():
    tail = LogTail(None, Wake())  # type: ignore[arg-type]
    assert judge(VALUE, HINTS.tags, None, tail, 0.0, 0.0) is Result.UNSURE


def test_what_the_tail_forgets_it_no_longer_vouches_for(monkeypatch):
    monkeypatch.setattr(purge_log, "TAIL_ENTRIES", 3)
    tail = tail_of(FIVE, *((Position(1, 6 + n), f"t:{n}") for n in range(2)))
    assert judge(VALUE, HINTS.tags, None, tail, 100.0, 0.0) is Result.HIT
    tail._append((PurgeEntry(Position(1, 8), "id", PurgeKind.HARD, ("t:8",)),))
    assert judge(VALUE, HINTS.tags, None, tail, 100.0, 0.0) is Result.HIT
    tail._append((PurgeEntry(Position(1, 9), "id", PurgeKind.HARD, ("t:9",)),))
    assert judge(VALUE, HINTS.tags, None, tail, 100.0, 0.0) is Result.UNKNOWN


@pytest.mark.parametrize("seed", range(20))
def test_floors_of_a_tail_are_those_of_the_entries_it_has(seed, monkeypatch):
    monkeypatch.setattr(purge_log, "TAIL_ENTRIES", 7)
    rng = random.Random(seed)
    tail = tail_of(begins=Position(1, 0))
    written: list[PurgeEntry] = []
    for cv in range(1, 60):
        tags = tuple(rng.sample("abcdefg", rng.randint(1, 3)))
        written.append(PurgeEntry(Position(1, cv), f"id-{cv}", PurgeKind.HARD, tags))
        tail._append((written[-1],))
        kept = written[-7:]
        for tag in "abcdefg":
            named = [entry.position for entry in kept if tag in entry.tags]
            assert tail.floor_of([tag]) == max(named, default=ZERO)
        assert tail.entries_after(Position(1, cv - 1)) == (written[-1],)
        known = {entry.position: entry.id for entry in written[-8:]}
        for asked in range(cv + 3):
            position = Position(1, asked)
            expected = known.get(position, "id-of-1.0" if asked == 0 and cv <= 7 else None)
            assert tail.id_at(position) == expected


# --- what is no value ---


def damaged(value: bytes, rng: random.Random) -> Iterator[tuple[str, bytes]]:
    for size in {0, 1, 27, 28, 29, 59, 60, 63, 64, 65, len(value) - 1, *rng.sample(range(len(value)), 20)}:
        yield f"the first {size} bytes", value[:size]
    for place in {0, 8, 10, 27, 28, 59, 60, 63, 64, len(value) - 1, *rng.sample(range(len(value)), 40)}:
        yield (
            f"byte {place} changed",
            value[:place] + bytes([value[place] ^ (1 << rng.randrange(8))]) + value[place + 1 :],
        )
    yield "more at its end", value + b" "
    yield "a higher position", in_order(Position(1, 10**17)) + value[28:]
    yield "another price", value.replace(b"10.00", b"99.00").replace(b"1000", b"9900")
    yield "nothing but zeros", bytes(200)
    yield "noise", rng.randbytes(500)
    yield "text", b"hello"
    yield "JSON", b'{"amount": "1.00"}'


async def test_what_none_of_our_workers_has_kept_is_no_value_and_stands_in_nobody_s_way(worker, redis):
    expected = await worker.price()
    [name] = redis.keys("nearshelf:rt:*")
    value = redis.get(name)
    for what, bad in damaged(value, random.Random(7)):
        assert bad != value, what
        redis.set(name, bad)
        before = worker.results()["garbage"]
        assert await worker.price() == expected, what
        assert worker.results()["garbage"] == before + 1, what
        assert redis.get(name) == value, what
    assert await worker.price() == expected
    assert worker.results()["hit"] == 1


async def test_a_value_under_another_name_is_no_value(worker, redis):
    await worker.ask("/api/v1/eu-eur/prices/LAMP-2")
    [cheap] = redis.keys("nearshelf:rt:*")
    moved = redis.get(cheap)
    expected = await worker.price()
    [name] = set(redis.keys("nearshelf:rt:*")) - {cheap}
    redis.set(name, moved)
    assert await worker.price() == expected
    assert worker.results()["garbage"] == 1


async def test_what_is_no_text_in_redis_costs_a_miss(worker, redis):
    expected = await worker.price()
    [name] = redis.keys("nearshelf:rt:*")
    redis.delete(name)
    redis.rpush(name, "a", "list")
    assert await worker.price() == expected
    assert worker.results() == {"absent": 1, "away": 1}


async def test_an_old_value_put_back_is_what_it_is(worker, redis):
    old = await worker.price()
    [name] = redis.keys("nearshelf:rt:*")
    kept = redis.get(name)
    position = await worker.change("12.00")
    assert await worker.price() == ("12.00", position)
    redis.set(name, kept)
    assert await worker.price() == ("12.00", position)
    assert worker.results()["overtaken"] == 2
    async with another(worker) as fresh:
        redis.set(name, kept)
        assert await fresh.price() == ("12.00", position)
        assert fresh.results() == {"unknown": 1}
    assert old[0] == "10.00"


async def test_a_full_redis_loses_values_and_nothing_else(worker, redis):
    redis.config_set("maxmemory-policy", "noeviction")
    redis.config_set("maxmemory", 1)
    try:
        assert await worker.price() == await worker.price()
        assert worker.results() == {"absent": 2}
    finally:
        redis.config_set("maxmemory", 0)
        redis.config_set("maxmemory-policy", "allkeys-lru")
    await worker.price()
    assert (await worker.price())[0] == "10.00"
    assert worker.results()["hit"] == 1


@pytest.mark.parametrize("other", [{"renders": "another release"}, {"secret": "another key of the edges"}])
async def test_releases_that_render_otherwise_and_other_shops_share_nothing(worker, valkey, redis, other):
    shelf = Shelf(valkey.redis_url)

    def door(renders: str = "this release", secret: str = EDGE_KEY) -> ReadThrough:
        shop = worker.shop
        return ReadThrough(shop.snapshots, shop.tail, shop.metrics, shelf, renders=renders, secret=secret)

    doors = [door(), door(**other)]
    bodies = []
    for each, body in zip((*doors, *doors), (b"one", b"two", b"three", b"four"), strict=True):
        hints = replace(HINTS, position=worker.shop.tail.head)
        bodies.append((await _answered(each, Rendered(body, "text/plain", hints))).body)
    assert bodies == [b"one", b"two", b"one", b"two"]
    await shelf.close()


async def _answered(door: ReadThrough, rendered: Rendered):
    async def read() -> Rendered:
        return rendered

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/a",
        "raw_path": b"/a",
        "query_string": b"",
        "headers": [],
        "state": {"from_edge": True},
    }
    response = await door.answer(Request(scope), ("a",), read)
    await door.written()
    return response


async def test_what_is_too_large_is_not_kept(worker, valkey, redis):
    large = Rendered(
        b"x" * (readthrough.MAX_BODY_BYTES + 1), "text/plain", replace(HINTS, position=worker.shop.tail.head)
    )
    await _answered(worker.shop.readthrough, large)
    assert redis.dbsize() == 0


async def test_a_value_with_a_hard_end_is_gone_by_then(worker, redis):
    door, head = worker.shop.readthrough, worker.shop.tail.head
    now = door._wall()
    over = Rendered(b"x", "text/plain", replace(HINTS, position=head, expires_at=int(now) - 1))
    await _answered(door, over)
    assert redis.dbsize() == 0
    soon = Rendered(b"x", "text/plain", replace(HINTS, position=head, expires_at=int(now) + 100))
    await _answered(door, soon)
    [name] = redis.keys("nearshelf:rt:*")
    assert 0 < redis.pttl(name) <= 100_000
    answer = await _answered(door, replace(soon, body=b"y"))
    assert (answer.body, answer.headers["nearshelf-expires-at"]) == (b"x", str(int(now) + 100))


# --- a server that is slow or gone ---


@pytest.mark.parametrize("fault", ["slow", "gone"])
async def test_a_shop_whose_redis_is_slow_or_gone_answers_from_the_database(worker, fault, monkeypatch):
    monkeypatch.setattr("origin.shelf.WAIT_S", 0.0)
    async with ScriptedRedis() as server:
        shelf = worker.shop.readthrough._shelf = Shelf(server.url)
        if fault == "gone":
            await server.stop()
        else:
            server.holds_everything = True
        for path in ADDRESSES:
            assert (await worker.ask(path)).status_code == 200
        results = worker.results()
        assert set(results) <= {"slow", "away"}
        assert results.total() == len(ADDRESSES)
        await shelf.close()


# --- everything at once ---


class Late(Shelf):
    """Writes arrive when they like, some of them twice, and some of what was kept is put back by hand."""

    def __init__(self, url: str, rng: random.Random) -> None:
        super().__init__(url)
        self.rng = rng
        self.all: list[tuple[str, bytes]] = []

    async def put(self, name: str, value: bytes, for_s: float) -> bool:
        self.all.append((name, value))
        for _ in range(self.rng.choice((0, 0, 1, 5, 30))):
            await asyncio.sleep(0.001)
        return await super().put(name, value, for_s)


AMOUNT = re.compile(r'data-sku="LAMP-1" value="(\d+)"')


@pytest.mark.parametrize("seed", range(4))
async def test_no_answer_bears_a_position_that_its_body_does_not_have(database, valkey, redis, postgres, seed):
    """Two workers, a standby that lags, late writes, values put back: every price is that of the label's position."""
    rng = random.Random(seed)
    async with worker_on(database, valkey.redis_url, standby=True) as one, another(one) as two:
        workers = (one, two)
        for worker in workers:
            worker.shop.readthrough._shelf = Late(valkey.redis_url, rng)
        history = [(one.shop.tail.head, 1000)]
        served: list[tuple[Position, int, str]] = []
        over = asyncio.Event()

        async def merchandise() -> None:
            for number in range(40):
                amount = 1001 + number
                sku = "LAMP-1" if number % 3 else "LAMP-2"
                worker = rng.choice(workers)
                changed = await change_price(worker.shop, ANNA, sku, "eu-eur", f"{amount // 100}.{amount % 100:02d}")
                if sku == "LAMP-1":
                    history.append((changed.position, amount))
                await asyncio.sleep(rng.choice((0, 0.005, 0.03)))
            over.set()

        async def shop_for() -> None:
            floor: Position | None = None
            while not over.is_set():
                worker = rng.choice(workers)
                path = rng.choice((PRICE, PRICE, "/eu-eur/products/lamp-one"))
                minimum = rng.choice((None, None, floor, "head"))
                answer = await worker.client.get(
                    path, headers={} if minimum is None else {MIN_VERSION_FIELD: str(minimum)}
                )
                if answer.status_code == 503:
                    continue
                assert answer.status_code == 200
                position = position_of(answer)
                if isinstance(minimum, Position):
                    assert position >= minimum
                amount = answer.json()["amount_minor"] if path == PRICE else int(AMOUNT.findall(answer.text)[0])
                served.append((position, amount, path))
                floor = max(floor or ZERO, position)

        async def meddle() -> None:
            while not over.is_set():
                shelf = rng.choice(workers).shop.readthrough._shelf
                assert isinstance(shelf, Late)
                if shelf.all:
                    name, value = rng.choice(shelf.all)
                    await asyncio.to_thread(redis.set, name, value)
                await asyncio.sleep(0.01)

        async def lag() -> None:
            while not over.is_set():
                await asyncio.to_thread(postgres.pause_replay)
                await asyncio.sleep(0.05)
                await asyncio.to_thread(postgres.resume_replay)
                await asyncio.sleep(0.02)

        try:
            async with asyncio.TaskGroup() as group:
                for work in (merchandise(), meddle(), lag(), *(shop_for() for _ in range(4))):
                    group.create_task(work)
        finally:
            await asyncio.to_thread(postgres.resume_replay)
            await asyncio.to_thread(postgres.wait_for_replay)
        for worker in workers:
            await worker.shop.readthrough.written()
        for position, amount, path in served:
            truth = [was for at, was in history if at <= position][-1]
            assert amount == truth, f"{path} at {position} shows {amount}, and it was {truth}"
        results = one.results() + two.results()
        assert results["hit"] > 10, results
        assert results["overtaken"] + results["behind"] > 5, results
