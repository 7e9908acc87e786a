"""Where answers are kept: a server that may be slow, full, lying or gone costs misses and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from redis import Redis

from cache_policies.positions import Position
from origin import shelf as shelf_module
from origin.shelf import FAILURES, REST_S, Absence, Shelf, in_order
from tests.support.origin import until
from tests.support.scripted_redis import ScriptedRedis
from tests.support.servers import EmbeddedServers


@pytest.fixture
def patience(monkeypatch):
    """Waits as long as it takes; `with patience(seconds)`: so long."""
    monkeypatch.setattr(shelf_module, "WAIT_S", 30.0)

    @contextmanager
    def for_s(seconds: float) -> Iterator[None]:
        shelf_module.WAIT_S = seconds
        yield
        shelf_module.WAIT_S = 30.0

    return for_s


@pytest.fixture
def redis(valkey: EmbeddedServers) -> Iterator[Redis]:
    """The server, with nothing in it."""
    with Redis.from_url(valkey.redis_url) as client:
        client.flushall()
        yield client


async def test_a_higher_position_stays_whoever_is_late(valkey, redis, patience):
    shelf = Shelf(valkey.redis_url)
    values = {cv: in_order(Position(1, cv)) + b"%d" % cv for cv in (9, 10, 100)}
    assert await shelf.put("a", values[10], 60)
    assert not await shelf.put("a", values[9], 60)
    assert await shelf.get("a") == values[10]
    assert await shelf.put("a", values[100], 60)
    assert not await shelf.put("a", values[10], 60)
    later = in_order(Position(2, 1)) + b"later"
    assert await shelf.put("a", later, 60)
    assert not await shelf.put("a", values[100], 60)
    assert await shelf.get("a") == later
    await shelf.drop("a")
    assert await shelf.get("a") is Absence.ABSENT
    redis.set("a", "no value")
    assert await shelf.put("a", values[9], 60)
    await shelf.close()


async def test_an_answer_that_nobody_waited_for_is_nobody_else_s(patience):
    async with ScriptedRedis() as server:
        server.values = {b"a": b"of a", b"b": b"of b"}
        server.hold = {b"a"}
        shelf = Shelf(server.url)
        assert await shelf.get("b") == b"of b"
        with patience(0):
            assert await shelf.get("a") is Absence.SLOW
        assert await shelf.get("b") == b"of b"
        server.released.set()
        await until(lambda: not shelf._under_way)
        for _ in range(5):
            assert await shelf.get("b") == b"of b"
            assert await shelf.get("a") == b"of a"
        await shelf.close()


async def test_whoever_is_slow_again_and_again_is_left_alone_for_a_while(patience):
    now = 0.0
    async with ScriptedRedis() as server:
        server.hold = {b"a"}
        shelf = Shelf(server.url, clock=lambda: now)
        with patience(0):
            for _ in range(FAILURES):
                assert await shelf.get("a") is Absence.SLOW
            await until(lambda: len(server.asked) == FAILURES)
            assert await shelf.get("a") is await shelf.get("b") is Absence.AWAY
            now += REST_S[0]
            assert await shelf.get("a") is Absence.SLOW
            assert await shelf.get("b") is Absence.AWAY
        await until(lambda: len(server.asked) == FAILURES + 1)
        now += 2 * REST_S[0]
        server.released.set()
        assert await shelf.get("b") is Absence.ABSENT
        assert await shelf.get("a") is Absence.ABSENT
        await shelf.close()


async def test_no_more_is_under_way_than_a_worker_may_have(patience, monkeypatch):
    monkeypatch.setattr(shelf_module, "MOST_UNDER_WAY", 2)
    async with ScriptedRedis() as server:
        server.hold = {b"a"}
        shelf = Shelf(server.url)
        with patience(0):
            assert [await shelf.get("a"), await shelf.get("a")] == [Absence.SLOW, Absence.SLOW]
        assert await shelf.get("b") is Absence.AWAY
        server.released.set()
        await until(lambda: not shelf._under_way)
        assert await shelf.get("b") is Absence.ABSENT
        await shelf.close()


async def test_a_server_that_hangs_up_costs_misses(patience):
    async with ScriptedRedis() as server:
        shelf = Shelf(server.url)
        assert await shelf.get("a") is Absence.ABSENT
    assert await shelf.get("a") is Absence.AWAY
    await shelf.close()


async def test_what_speaks_no_redis_costs_misses(patience):
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    shelf = Shelf(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    assert await shelf.get("a") is Absence.AWAY
    await shelf.close()
    server.close()
