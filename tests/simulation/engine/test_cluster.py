"""The simulated database: what commits, crashes, lag and promotions do, seen through the origin's own engines."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack
from typing import Any, NamedTuple

import pytest
from sqlalchemy import text
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from cache_policies.markets import load_markets
from cache_policies.positions import Position, PurgeKind
from edge.policy_files import PACKAGED_POLICIES
from origin.db import Database, Durability, NotInCharge
from origin.events.messages import TagsPurged
from origin.events.observer import read_view
from origin.events.purge_log import read_after
from origin.snapshot import Snapshots, TooOld
from tests.simulation.engine.cluster import Cluster
from tests.simulation.engine.database import SimEngine
from tests.simulation.engine.loop import SimLoop
from tests.simulation.engine.network import Network
from tests.simulation.engine.patches import simulated
from tests.simulation.engine.supervision import Hand
from tests.simulation.engine.transactions import Refused

MARKETS = load_markets(PACKAGED_POLICIES)
READ = text("SELECT number FROM numbers WHERE name = :name")
WRITE = text("UPDATE numbers SET number = number + :by WHERE name = :name")
FIRST_ROW = ("purge_log", Position(1, 1))
BOTH = "postgresql+asyncpg:///shop?host=db-a:5432&host=db-b:5432"


class Number(NamedTuple):
    number: int


def read(view: Any, values: Any) -> list[Number]:
    return [Number(view.get("numbers", values["name"]))]


def write(view: Any, values: Any) -> Any:
    key = "numbers", values["name"]
    yield key
    view.put(*key, view.get(*key) + values["by"])
    return 1


class World:
    """Two servers, and a process that uses them."""

    def __init__(self, seed: int = 1) -> None:
        self.loop = SimLoop(seed)
        self.network = Network(self.loop)
        self.cluster = Cluster(
            self.loop, self.network, ["db-a", "db-b"], {("numbers", "one"): 1, ("numbers", "two"): 2}
        )
        self.cluster.on(READ, read)
        self.cluster.on(WRITE, write)
        self.cluster.replay_lag("db-b", (0.0, 0.01))
        self.client = self.loop.process("client")

    def play(self, story: Callable[[], Coroutine[Any, Any, None]], seconds: float = 120.0) -> None:
        """Let the client do `story`, to its end."""
        told = self.client.start(story)
        self.loop.run(self.loop.now + seconds)
        assert told.done(), "the story has come to a halt"
        told.result()
        assert self.loop.faults == []

    def engine(self, name: str, **options: Any) -> SimEngine:
        return SimEngine(self.network, f"postgresql+asyncpg://{name}/shop", **options)

    async def number(self, name: str, row: str = "one") -> int:
        async with self.engine(name).connect() as connection:
            return int((await connection.execute(READ, {"name": row})).scalar_one())


@pytest.fixture
def world() -> Iterator[World]:
    with ExitStack() as stack:
        made = World()
        stack.enter_context(simulated(made.loop, made.network))
        stack.callback(made.loop.close)
        yield made


async def add(engine: SimEngine, by: int = 1, row: str = "one") -> None:
    async with engine.begin() as connection:
        await connection.execute(WRITE, {"name": row, "by": by})


def test_what_is_committed_is_read_there_at_once_and_on_the_standby_in_a_moment(world: World):
    async def story() -> None:
        await add(world.engine("db-a"))
        assert await world.number("db-a") == 2
        await asyncio.sleep(0.5)
        assert await world.number("db-b") == 2

    world.play(story)
    assert world.cluster.survives(world.cluster.records[-1])


def test_what_is_not_committed_is_nobodys_and_gone_with_its_connection(world: World):
    async def story() -> None:
        engine = world.engine("db-a", pool_size=1)
        async with engine.connect() as connection:
            await connection.execute(WRITE, {"name": "one", "by": 5})
            assert (await connection.execute(READ, {"name": "one"})).scalar_one() == 6
            assert await world.number("db-a") == 1
        async with engine.connect() as connection:
            assert (await connection.execute(READ, {"name": "one"})).scalar_one() == 1
        await add(engine)
        assert await world.number("db-a") == 2

    world.play(story)


def test_writers_of_a_row_wait_for_each_other_and_lose_nothing(world: World):
    async def story() -> None:
        engines = [world.engine("db-a") for _ in range(8)]
        await asyncio.gather(*(add(engine) for engine in engines))
        assert await world.number("db-a") == 9

    world.play(story)


def test_who_waits_for_a_lock_for_too_long_is_told_and_who_died_does_not_get_it(world: World):
    async def story() -> None:
        engine = world.engine("db-a", pool_size=3)
        async with engine.connect() as holder:
            await holder.execute(WRITE, {"name": "one", "by": 1})
            with pytest.raises(OperationalError, match="lock timeout"):
                await add(engine)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1.0):
                    await add(engine)
            await holder.commit()
        await add(engine)
        assert await world.number("db-a") == 3

    world.play(story)


def test_a_snapshot_stays_what_it_was(world: World):
    async def story() -> None:
        async with world.engine("db-a", isolation_level="REPEATABLE READ").connect() as connection:
            assert (await connection.execute(READ, {"name": "two"})).scalar_one() == 2
            await add(world.engine("db-a"))
            assert (await connection.execute(READ, {"name": "one"})).scalar_one() == 1
            await connection.rollback()
            assert (await connection.execute(READ, {"name": "one"})).scalar_one() == 2

    world.play(story)


def test_a_standby_takes_no_writes_and_lags_and_stands(world: World):
    async def story() -> None:
        with pytest.raises(OperationalError, match="read-only"):
            await add(world.engine("db-b"))
        world.cluster.replay_lag("db-b", (3.0, 3.0))
        await add(world.engine("db-a"))
        await asyncio.sleep(2)
        assert await world.number("db-b") == 1
        await asyncio.sleep(2)
        assert await world.number("db-b") == 2
        world.cluster.pause("db-b")
        await add(world.engine("db-a"))
        await asyncio.sleep(30)
        assert await world.number("db-b") == 2
        world.cluster.resume("db-b")
        assert await world.number("db-b") == 3

    world.play(story)


def test_a_crash_loses_what_nobody_waited_for_and_nothing_else(world: World):
    async def story() -> None:
        await add(world.engine("db-a"), 10)
        hasty = world.engine("db-a", connect_args={"server_settings": {"synchronous_commit": "off"}})
        await add(hasty, 100)
        assert await world.number("db-a") == 111
        server = world.cluster.servers["db-a"]
        server.process.kill()
        with pytest.raises(OSError, match="nobody listens"):
            await world.number("db-a")
        server.start()
        assert await world.number("db-a") == 11

    world.play(story)


def test_a_session_that_breaks_is_said_to_be_broken_and_replaced(world: World):
    async def story() -> None:
        engine = world.engine("db-a", pool_pre_ping=True)
        async with engine.connect() as connection:
            await connection.execute(READ, {"name": "one"})
            world.cluster.servers["db-a"].process.kill()
            with pytest.raises(InterfaceError) as caught:
                await connection.execute(READ, {"name": "one"})
            assert caught.value.connection_invalidated
        world.cluster.start("db-a")
        await add(engine)

    world.play(story)


def test_a_pool_has_so_many_connections_and_no_more(world: World):
    async def story() -> None:
        engine = world.engine("db-a", pool_size=1, pool_timeout=2.0)
        async with engine.connect():
            with pytest.raises(PoolTimeout):
                async with engine.connect():
                    pass
        await add(engine)

    world.play(story)


def test_a_commit_that_must_survive_waits_for_the_standby_and_is_seen_there_first(world: World):
    async def story() -> None:
        world.cluster.wait_for_standbys("db-a", ["db-b"])
        await asyncio.sleep(1)
        world.network.link("db-b", "db-a").delay = (5.0, 5.0)
        adding = asyncio.create_task(add(world.engine("db-a")))
        await asyncio.sleep(3)
        assert not adding.done()
        assert (await world.number("db-a"), await world.number("db-b")) == (1, 2)
        await adding
        assert await world.number("db-a") == 2

    world.play(story)


def test_when_the_standby_is_gone_it_waits_until_nobody_asks_for_it_any_more(world: World):
    async def story() -> None:
        world.cluster.wait_for_standbys("db-a", ["db-b"])
        world.cluster.servers["db-b"].process.kill()
        adding = asyncio.create_task(add(world.engine("db-a")))
        await asyncio.sleep(30)
        assert not adding.done()
        await Hand(world.cluster, "db-a").wait_for_standbys([])
        await adding

    world.play(story)


def test_who_dies_while_it_waits_leaves_its_commit_waiting_hidden_and_with_its_locks(world: World):
    another = world.loop.process("another")

    async def story() -> None:
        world.cluster.wait_for_standbys("db-a", ["db-b"])
        world.cluster.servers["db-b"].process.kill()
        another.start(lambda: add(world.engine("db-a")))
        await asyncio.sleep(1)
        another.kill()
        await asyncio.sleep(1)
        assert await world.number("db-a") == 1
        with pytest.raises(OperationalError, match="lock timeout"):
            await add(world.engine("db-a"))
        await Hand(world.cluster, "db-a").wait_for_standbys([])
        assert await world.number("db-a") == 2
        await add(world.engine("db-a"))
        assert await world.number("db-a") == 3

    world.play(story)


def test_who_says_that_it_waits_no_more_ends_the_wait(world: World):
    async def story() -> None:
        world.cluster.wait_for_standbys("db-a", ["db-b"])
        world.cluster.servers["db-b"].process.kill()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await add(world.engine("db-a"))
        await asyncio.sleep(1)
        assert await world.number("db-a") == 2

    world.play(story)


async def change(database: Database, **options: Any) -> Position:
    async with database.unit_of_work(actor="somebody", cause="a test", **options) as work:
        work.record(TagsPurged(("p:eu-eur:boot",), PurgeKind.HARD))
    assert work.position is not None
    return work.position


def test_positions_have_no_gap_and_an_abort_gives_its_number_back(world: World):
    async def story() -> None:
        database = Database("postgresql+asyncpg://db-a/shop", markets=MARKETS)
        taken = await asyncio.gather(*(change(database) for _ in range(5)))
        assert sorted(taken) == [Position(1, cv) for cv in range(2, 7)]
        with pytest.raises(ZeroDivisionError):
            async with database.unit_of_work(actor="somebody", cause="a test") as work:
                work.record(TagsPurged(("x",), PurgeKind.HARD))
                _ = 1 / 0
        assert await change(database) == Position(1, 7)
        async with database.log.connect() as connection:
            page = await read_after(connection, Position(1, 1), world.cluster.records[0].writes[FIRST_ROW].id)
        assert [entry.position.cv for entry in page.entries] == list(range(2, 8))

    world.play(story)


def test_reads_ask_the_replica_then_the_primary(world: World):
    async def story() -> None:
        database = Database("postgresql+asyncpg://db-a/shop", ("postgresql+asyncpg://db-b/shop",), markets=MARKETS)
        snapshots = Snapshots(database)
        world.cluster.pause("db-b")
        position = await change(database)
        async with snapshots.open() as snapshot:
            assert (snapshot.source, snapshot.position) == ("replica-0", Position(1, 1))
        async with snapshots.open(position) as snapshot:
            assert (snapshot.source, snapshot.position) == ("primary", position)
        async with snapshots.open("head") as snapshot:
            assert snapshot.position == position
        with pytest.raises(TooOld):
            async with snapshots.open(Position(1, 99)):
                pass

    world.play(story)


async def fail_over(world: World, *, above: int = 0) -> None:
    """As a supervisor does it: the standby is promoted, and its epoch begins."""
    hand = Hand(world.cluster, "db-b")
    await hand.promote()
    basis = await hand.clock()
    assert await hand.begin_epoch(above, "a supervisor", basis, 2.0)


def test_a_promotion_goes_on_from_what_was_received_and_a_lost_tail_is_lost(world: World):
    async def story() -> None:
        database = Database(BOTH, markets=MARKETS)
        kept = await change(database)
        await asyncio.sleep(1)
        world.cluster.stop_streaming("db-b")
        await asyncio.sleep(1)
        lost = await change(database)
        world.cluster.servers["db-a"].process.kill()
        world.cluster.start_streaming("db-b")
        await fail_over(world)
        assert world.cluster.primary == "db-b"
        assert world.cluster.head == Position(2, kept.cv + 1)
        assert await change(database) == Position(2, kept.cv + 2)
        by_position = {record.position: record for record in world.cluster.records}
        assert world.cluster.survives(by_position[kept])
        assert not world.cluster.survives(by_position[lost])
        assert world.cluster.rejoin("db-a") == 1
        await asyncio.sleep(2)
        assert world.cluster.servers["db-a"].log == world.cluster.servers["db-b"].log

    world.play(story)


def test_one_that_was_frozen_goes_on_as_a_primary_that_nobody_has_in_charge(world: World):
    async def story() -> None:
        old = Database("postgresql+asyncpg://db-a/shop", markets=MARKETS)
        hand = Hand(world.cluster, "db-a")
        await hand.renew("a supervisor", await hand.clock(), 2.0)
        await change(old, durability=Durability.LOCAL)
        world.cluster.servers["db-a"].process.freeze()
        await asyncio.sleep(3)
        await fail_over(world)
        world.cluster.servers["db-a"].process.wake()
        with pytest.raises(NotInCharge):
            await change(old, durability=Durability.LOCAL)
        async with old.log.connect() as connection:
            with pytest.raises(NotInCharge):
                await read_view(connection)

    world.play(story)


def test_a_clock_that_is_set_back_ends_a_lease_and_the_next_renewal_begins_one(world: World):
    async def story() -> None:
        hand = Hand(world.cluster, "db-a")
        basis = await hand.renew("a supervisor", await hand.clock(), 2.0)
        assert world.cluster.in_charge() == ["db-a"]
        world.cluster.step_clock("db-a", -600.0)
        assert world.cluster.in_charge() == []
        with pytest.raises(Refused, match="in the past"):
            await hand.renew("a supervisor", basis, 2.0)
        await hand.renew("a supervisor", await hand.clock(), 2.0)
        assert world.cluster.in_charge() == ["db-a"]

    world.play(story)


def test_a_standby_with_records_that_its_primary_has_not_must_be_rewound(world: World):
    async def story() -> None:
        await add(world.engine("db-a"))
        await asyncio.sleep(1)
        world.cluster.stop_streaming("db-b")
        await asyncio.sleep(1)
        await add(world.engine("db-a"))
        await fail_over(world)
        old = world.cluster.servers["db-a"]
        old.process.kill()
        old.is_primary, old.upstream = False, "db-b"
        old.start()
        await asyncio.sleep(2)
        assert old.log != world.cluster.servers["db-b"].log, "it is not let in"
        assert world.cluster.rejoin("db-a") == 1
        await asyncio.sleep(2)
        assert await world.number("db-a") == 2

    world.play(story)


def test_a_supervisor_can_only_do_what_the_server_allows(world: World):
    async def story() -> None:
        hand = Hand(world.cluster, "db-a")
        basis = await hand.clock()
        with pytest.raises(Refused, match="lasts up to 2 s"):
            await hand.renew("one", basis, 9.0)
        with pytest.raises(Refused, match="lies in the past"):
            await hand.renew("one", basis + 60.0, 2.0)
        await hand.renew("one", basis, 2.0)
        with pytest.raises(Refused, match="the supervisor one has this server in charge"):
            await hand.renew("two", await hand.clock(), 2.0)
        with pytest.raises(Refused, match="recovery is not in progress"):
            await hand.promote()

    world.play(story)


def test_a_statement_that_nobody_told_it_is_refused(world: World):
    async def story() -> None:
        async with world.engine("db-a").connect() as connection:
            with pytest.raises(AssertionError, match=r"does not know the statement 'SELECT 42'"):
                await connection.execute(text("SELECT 42"))

    world.play(story)
