"""The tier of a site, over a real Valkey: shared, judged, and never worth waiting for when it fails."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from redis.asyncio import Redis

from cache_policies.positions import Position
from edge.store import regional
from edge.store.base import MAX_VARIANTS
from edge.store.codec import encode
from edge.store.regional import FAILURES, MAX_RECORD_BYTES, WAIT_S, RegionalTier
from tests.support.builders import KEY, PAGE, stored
from tests.support.clock import ManualClock

WALL = 1_795_000_000.0
VERSION = PAGE.version
TIMES = ("stored_at", "fresh_until", "revalidate_until", "error_until", "keep_until", "unreachable_until")
_sites = itertools.count()


class Machine:
    """A machine of the site, with clocks of its own; times of `stored()` are of its edge's clock."""

    def __init__(self, site: Site, tier: RegionalTier, clock: ManualClock, wall: ManualClock) -> None:
        self.site = site
        self.tier = tier
        self.clock = clock
        self.wall = wall

    def later(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.wall.advance(seconds)

    async def written(self) -> None:
        """Until everything told so far is in the server."""
        await until(lambda: not self.tier._bytes_to_write and self.tier._to_write.empty())
        claim = await self.tier.claim(os.urandom(8), 1.0)
        claim.release()
        await until(self.tier._to_write.empty)
        await self.tier._redis.ping()

    async def find(self):
        return await self.tier.find(KEY, VERSION)


class Site:
    """A site of the test's own in one server, and its machines."""

    def __init__(self, url: str, stack: AsyncExitStack) -> None:
        self.name = f"eu{next(_sites)}"
        self.url = url
        self._stack = stack

    async def machine(self, *, clock: float = 100.0, wall: float = WALL, url: str = "", up: bool = True) -> Machine:
        hands = ManualClock(clock), ManualClock(wall)
        tier = RegionalTier(url or self.url, self.name, *hands)
        tier.start()
        self._stack.push_async_callback(tier.close)
        if up:
            await until(lambda: tier.up)
        return Machine(self, tier, *hands)

    async def server(self) -> Redis:
        client = Redis.from_url(self.url)
        self._stack.push_async_callback(client.aclose)
        return client


async def until(statement: Callable[[], bool], within_s: float = 10.0) -> None:
    async with asyncio.timeout(within_s):
        while not statement():
            await asyncio.sleep(0.002)


@pytest.fixture
async def site(valkey) -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        yield Site(valkey.servers.redis_url, stack)


async def test_what_one_worker_keeps_another_of_its_site_finds(site):
    one, two = await site.machine(), await site.machine()
    response = stored(unreachable_until=2_000.0)
    one.tier.keep(response)
    await one.written()
    (found,) = await two.find()
    # The server's clock runs on, while those of the machines stand still.
    aged_s = 100.0 - found.stored_at
    assert 0.0 <= aged_s < 5.0
    assert replace(found, **{name: getattr(response, name) for name in TIMES}) == response
    for name in TIMES:
        assert getattr(found, name) == pytest.approx(getattr(response, name) - aged_s, abs=1e-5)
    assert (one.tier.kept, two.tier.found) == (1, 1)


async def test_other_sites_know_nothing_of_it(site):
    one = await site.machine()
    other = await Site(site.url, site._stack).machine()
    one.tier.keep(stored())
    await one.written()
    assert await other.find() == ()


async def test_a_restarted_worker_finds_what_its_site_had(site):
    before = await site.machine()
    before.tier.keep(stored())
    await before.written()
    await before.tier.close()
    # The machine was started again as well: its edge's clock counts from another moment.
    after = await site.machine(clock=7.0, wall=WALL + 20.0)
    (found,) = await after.find()
    assert found.position == Position(1, 5)
    assert after.clock() - found.stored_at == pytest.approx(20.0, abs=1e-3)
    assert found.fresh_until - after.clock() == pytest.approx(40.0, abs=1e-3)


@pytest.mark.parametrize(
    ("wrong_by_s", "age_s"),
    [
        pytest.param(30.0, 30.0, id="ahead of the writer: taken for older than it is"),
        pytest.param(-30.0, 0.0, id="behind the writer: never taken for younger than it is"),
        pytest.param(-1_000_000.0, 0.0, id="a machine that does not know the date"),
    ],
)
async def test_age_is_counted_for_the_worse_where_clocks_disagree(site, wrong_by_s, age_s):
    one, two = await site.machine(), await site.machine(wall=WALL + wrong_by_s)
    one.tier.keep(stored())
    await one.written()
    (found,) = await two.find()
    assert 100.0 - age_s - 5.0 < found.stored_at <= 100.0 - age_s + 1e-3


async def test_what_was_long_on_its_way_to_the_server_is_as_old_as_it_is(site):
    """Behind a cut, say; and then its edge's wall clock is set back by as much."""
    one = await site.machine()
    # What the server does now it was told when its clock showed half a minute less.
    one.tier._server_ahead_s -= 30.0
    one.tier.keep(stored())
    await one.written()
    two = await site.machine(clock=130.0, wall=WALL)
    (found,) = await two.find()
    assert 30.0 <= 130.0 - found.stored_at < 35.0


async def test_what_was_decided_by_another_policy_counts_as_absent(site):
    machine = await site.machine()
    machine.tier.keep(stored(policy_version="of other policies"))
    await machine.written()
    assert await machine.find() == ()


async def test_variants_live_side_by_side_the_newest_first(site):
    machine = await site.machine()
    english, german = (stored(vary=(("accept-language", language),)) for language in ("en", "de"))
    newer = replace(german, stored_at=110.0, body=b"newer")
    for response in (german, english, newer):
        machine.tier.keep(response)
    await machine.written()
    found = await machine.find()
    assert [(response.vary[0][1], response.body) for response in found] == [("de", b"newer"), ("en", b"body")]


async def test_variants_are_bounded(site):
    machine = await site.machine()
    for number in range(MAX_VARIANTS + 1):
        machine.tier.keep(stored(vary=(("a", str(number)),)))
    await machine.written()
    assert [response.vary[0][1] for response in await machine.find()] == [str(MAX_VARIANTS)]


@pytest.mark.parametrize(
    ("position", "taken"),
    [
        (Position(1, 4), False),
        (Position(1, 5), True),
        (Position(1, 10), True),
        (Position(0, 99), False),
        (Position(10, 0), True),
    ],
)
async def test_a_record_never_gives_way_to_one_of_lower_position(site, position, taken):
    machine = await site.machine()
    machine.tier.keep(stored(body=b"first"))
    machine.tier.keep(stored(body=b"second", position=position))
    await machine.written()
    assert [response.body for response in await machine.find()] == [b"second" if taken else b"first"]


async def test_a_record_lives_as_long_as_it_may_be_kept(site):
    machine, server = await site.machine(), await site.server()
    machine.tier.keep(stored(keep_until=160.0))
    await machine.written()
    name = machine.tier._name_of(KEY)
    assert 50_000 < await server.pttl(name) <= 60_000
    machine.tier.keep(stored(keep_until=400.0, vary=(("a", "b"),)))
    await machine.written()
    assert 290_000 < await server.pttl(name) <= 300_000
    machine.later(60.0)
    assert [response.vary for response in await machine.find()] == [(("a", "b"),)]


async def test_what_is_past_its_end_or_too_large_is_not_kept(site):
    machine = await site.machine()
    machine.tier.keep(stored(keep_until=100.0))
    machine.tier.keep(stored(body=b"x" * MAX_RECORD_BYTES))
    await machine.written()
    assert await machine.find() == ()
    assert (machine.tier.kept, machine.tier.not_kept) == (0, 1)


async def test_dropping_takes_every_variant_also_one_kept_just_before(site):
    machine = await site.machine()
    machine.tier.keep(stored(vary=(("a", "b"),)))
    machine.tier.keep(stored())
    machine.tier.drop(KEY)
    await machine.written()
    assert await machine.find() == ()


OTHER_KEY = encode(stored(key=KEY._replace(path="/eu-eur/products/shoe")), ahead_s=WALL)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"noise", id="noise"),
        pytest.param(b"0 0 0 {}", id="no record"),
        pytest.param(b"0 x y " + encode(stored()), id="no times"),
        pytest.param(b"0 nan inf " + encode(stored()), id="times that are no numbers"),
        pytest.param(b"0 0 0 " + encode(stored()).replace(b'"v":4', b'"v":3'), id="another version"),
        pytest.param(b"0 0 0 " + OTHER_KEY, id="another key"),
        pytest.param(b"0 0 0 " + encode(stored())[:-1], id="cut short"),
    ],
)
async def test_what_cannot_be_read_counts_as_absent(site, value):
    machine, server = await site.machine(), await site.server()
    await server.hset(machine.tier._name_of(KEY), "planted", value)
    assert await machine.find() == ()
    assert machine.tier.unreadable == 1
    assert machine.tier.up


async def test_something_else_under_the_name_is_an_absent_record(site):
    machine, server = await site.machine(), await site.server()
    await server.set(machine.tier._name_of(KEY), "no hash")
    assert await machine.find() == ()
    machine.tier.keep(stored())
    await machine.written()
    assert await machine.find() == ()
    assert machine.tier.up


# -- claims ------------------------------------------------------------------------------------------------------------


async def test_one_of_the_workers_flies_and_the_others_hear_of_its_landing(site):
    machines = [await site.machine() for _ in range(3)]
    first, *others = [await machine.tier.claim(b"flight", 10.0) for machine in machines]
    assert (first.mine, [claim.mine for claim in others]) == (True, [False, False])
    waiting = [asyncio.create_task(claim.landed(5.0)) for claim in others]
    machines[0].tier.keep(stored())
    first.release()
    assert await asyncio.gather(*waiting) == [True, True]
    # What it brought is there before its landing is heard of.
    assert [len(await machine.find()) for machine in machines] == [1, 1, 1]


async def test_a_landing_before_anybody_waits_is_not_missed(site):
    one, two = await site.machine(), await site.machine()
    first = await one.tier.claim(b"flight", 10.0)
    second = await two.tier.claim(b"flight", 10.0)
    first.release()
    await until(lambda: not two.tier._waiting)
    assert await second.landed(0.0)


async def test_other_flights_are_other_claims_and_a_released_one_is_free(site):
    one, two = await site.machine(), await site.machine()
    first = await one.tier.claim(b"flight", 10.0)
    assert (await two.tier.claim(b"another", 10.0)).mine
    first.release()
    await one.written()
    assert (await two.tier.claim(b"flight", 10.0)).mine


async def test_a_claim_that_ran_out_is_not_taken_from_its_next_owner(site):
    one, two, three = [await site.machine() for _ in range(3)]
    server = await site.server()
    first = await one.tier.claim(b"flight", 10.0)
    (name,) = [name async for name in server.scan_iter(f"*:{site.name}:claim:*")]
    assert 0 < await server.pttl(name) <= 10_000
    await server.delete(name)
    second = await two.tier.claim(b"flight", 10.0)
    assert second.mine
    first.release()
    await one.written()
    assert not (await three.tier.claim(b"flight", 10.0)).mine


async def test_nobody_waits_longer_than_it_may_or_than_the_claim_lasts(site):
    one, two = await site.machine(), await site.machine()
    await one.tier.claim(b"long", 60.0)
    await one.tier.claim(b"short", 0.05)
    long, short = await two.tier.claim(b"long", 60.0), await two.tier.claim(b"short", 60.0)
    began = time.monotonic()
    assert not await long.landed(0.05)
    assert not short.mine
    assert not await short.landed(60.0)
    assert time.monotonic() - began < 5.0
    assert not two.tier._waiting


# -- a server that fails -----------------------------------------------------------------------------------------------


class Line:
    """The way to the server: it can be cut, and it can go silent."""

    def __init__(self, folder: Path, server: str) -> None:
        self.path = folder / "line"
        self.url = f"unix://{self.path}"
        self._server = server.removeprefix("unix://")
        self._listening: asyncio.Server | None = None
        self._open: list[asyncio.StreamWriter] = []
        self._flowing = asyncio.Event()
        self._flowing.set()

    async def connect(self) -> None:
        self._listening = await asyncio.start_unix_server(self._serve, str(self.path))

    async def cut(self) -> None:
        """As if the server were killed: connections end, and new ones are refused."""
        assert self._listening is not None
        self._listening.close()
        self.path.unlink(missing_ok=True)
        for writer in self._open:
            writer.transport.abort()
        self._open.clear()

    def hang(self) -> None:
        """As if the server were stopped: connections are taken, and nothing is answered."""
        self._flowing.clear()

    def go_on(self) -> None:
        self._flowing.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_unix_connection(self._server)
        self._open += [writer, there_writer]
        await asyncio.gather(self._pass(reader, there_writer), self._pass(there_reader, writer))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                await self._flowing.wait()
                writer.write(data)
        except ConnectionError:
            pass
        writer.transport.abort()


@pytest.fixture
async def line(site, tmp_path) -> AsyncIterator[Line]:
    line = Line(tmp_path, site.url)
    await line.connect()
    yield line
    line.go_on()
    await line.cut()


async def test_a_server_that_is_killed_in_mid_use_costs_misses_and_comes_back_by_itself(site, line, monkeypatch):
    monkeypatch.setattr(regional, "RETRY_S", 0.01)
    near, far = await site.machine(), await site.machine(url=line.url)
    far.tier.keep(stored())
    await far.written()
    held = await near.tier.claim(b"flight", 60.0)
    waiting = asyncio.create_task((await far.tier.claim(b"flight", 60.0)).landed(60.0))
    await line.cut()
    assert not await waiting
    assert not far.tier.up
    assert await far.find() == ()
    assert (await far.tier.claim(b"flight", 60.0)).mine
    far.tier.keep(stored(body=b"lost"))
    assert far.tier.not_kept == 1
    await line.connect()
    await until(lambda: far.tier.up)
    assert [response.body for response in await far.find()] == [b"body"]
    assert not (await far.tier.claim(b"flight", 60.0)).mine
    held.release()


async def test_what_was_to_be_dropped_while_it_was_away_is_gone_when_it_is_back(site, line, monkeypatch):
    monkeypatch.setattr(regional, "RETRY_S", 0.01)
    near, far = await site.machine(), await site.machine(url=line.url)
    for path in ("/a", "/b", "/c"):
        near.tier.keep(stored(key=KEY._replace(path=path)))
    await near.written()
    line.hang()
    far.tier.drop(KEY._replace(path="/a"))
    await until(lambda: far.tier._failures > 0)
    await line.cut()
    await until(lambda: not far.tier.up)
    far.tier.drop(KEY._replace(path="/b"))
    line.go_on()
    await line.connect()
    await until(lambda: far.tier.up)
    found = [await near.tier.find(KEY._replace(path=path), VERSION) for path in ("/a", "/b", "/c")]
    assert [len(variants) for variants in found] == [0, 0, 1]
    assert not far.tier._owed


async def test_what_is_to_be_dropped_is_remembered_up_to_a_bound(site, tmp_path, monkeypatch):
    monkeypatch.setattr(regional, "MAX_OWED", 10)
    machine = await site.machine(url=f"unix://{tmp_path}/nothing", up=False)
    for number in range(100):
        machine.tier.drop(KEY._replace(path=f"/{number}"))
    assert list(machine.tier._owed) == [
        machine.tier._name_of(KEY._replace(path=f"/{number}")) for number in range(90, 100)
    ]


async def test_a_server_that_hangs_is_waited_for_a_few_times_and_then_not_at_all(site, line, monkeypatch):
    monkeypatch.setattr(regional, "RETRY_S", 0.01)
    machine = await site.machine(url=line.url)
    machine.tier.keep(stored())
    await machine.written()
    line.hang()
    began = time.monotonic()
    for _ in range(FAILURES):
        assert await machine.find() == ()
    assert not machine.tier.up
    assert time.monotonic() - began < FAILURES * WAIT_S + 1.0
    began = time.monotonic()
    for _ in range(1_000):
        assert await machine.find() == ()
        assert (await machine.tier.claim(b"flight", 60.0)).mine
    assert time.monotonic() - began < WAIT_S
    line.go_on()
    await until(lambda: machine.tier.up)
    assert len(await machine.find()) == 1


async def test_a_server_that_hangs_while_nobody_asks_is_noticed(site, line, monkeypatch):
    monkeypatch.setattr(regional, "QUIET_S", 0.02)
    machine = await site.machine(url=line.url)
    line.hang()
    await until(lambda: not machine.tier.up)
    assert machine.tier.outages == 1


async def test_a_server_that_was_never_there_costs_nothing(site, tmp_path):
    machine = await site.machine(url=f"unix://{tmp_path}/nothing", up=False)
    assert await machine.find() == ()
    claim = await machine.tier.claim(b"flight", 60.0)
    assert claim.mine
    assert not await claim.landed(60.0)
    claim.release()
    machine.tier.keep(stored())
    machine.tier.drop(KEY)
    await machine.tier.close()


async def test_who_left_tells_and_hears_nothing_more(site):
    one, two = await site.machine(), await site.machine()
    one.tier.leave()
    one.tier.keep(stored())
    assert await one.find() == ()
    assert await two.find() == ()


async def test_what_waits_to_be_written_is_bounded(site, line, monkeypatch):
    monkeypatch.setattr(regional, "MAX_WAITING_BYTES", 300_000)
    machine = await site.machine(url=line.url)
    line.hang()
    for number in range(50):
        machine.tier.keep(stored(key=KEY._replace(path=f"/{number}"), body=b"x" * 100_000))
        await asyncio.sleep(0)
    assert machine.tier._bytes_to_write <= 400_000
    assert machine.tier.not_kept >= 40
