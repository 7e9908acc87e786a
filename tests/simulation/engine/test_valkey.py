"""The simulated Valkey and the real one: the same commands give the same; and one that forgets, stops and dies."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from random import Random
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeout

from edge.store import regional
from origin import shelf
from tests.simulation.engine.loop import SimLoop
from tests.simulation.engine.network import Network
from tests.simulation.engine.valkey import SimRedis, SimValkey
from tests.support.servers import EmbeddedServers

NAMES = ("one", "two")
POSITIONS = ("000000001.000000000000000007", "000000001.000000000000000010", "000000002.000000000000000001")


def commands(seed: int, count: int) -> list[tuple[Any, ...]]:
    """What the tier and the shelf say to their server, so that it meets."""
    draws = Random(seed)
    made: list[tuple[Any, ...]] = []
    for _ in range(count):
        name, position = draws.choice(NAMES), draws.choice(POSITIONS)
        variant, value = bytes([draws.randrange(5)]), b"%d" % draws.randrange(100)
        px = draws.choice((50_000, 90_000))
        made.append(
            draws.choice(
                (
                    ("EVAL", regional._KEEP, 1, f"hash:{name}", variant, position, value, px, 3),
                    ("HVALS", f"hash:{name}"),
                    ("UNLINK", f"hash:{name}", f"value:{name}"),
                    ("EVAL", shelf._PUT, 1, f"value:{name}", position.encode() + value, px),
                    ("EVAL", shelf._PUT, 1, f"value:{name}", b"garbage", px),
                    ("GET", f"value:{name}"),
                    ("DEL", f"value:{name}"),
                    ("PTTL", "nothing"),
                    ("PING",),
                )
            )
        )
    return made


async def answers(client: Any, said: Sequence[tuple[Any, ...]]) -> list[Any]:
    """What each gives; of records without the moments that the server writes into them."""
    told = []
    for command in said:
        given = await client.execute_command(*command)
        if command[0] == "HVALS":
            given = sorted((value[:28], value.split(b" ", 2)[2]) for value in given)
        told.append(b"PONG" if given is True else given)
    return told


async def claims(client: Any) -> list[Any]:
    """A claim is taken once, and ended by who has it."""
    told: list[Any] = []
    for token in ("mine", "yours"):
        pipe = client.pipeline(transaction=False)
        pipe.set("claim", token, nx=True, px=60_000)
        pipe.pttl("claim")
        taken, left_ms = await pipe.execute()
        told.append((taken, 59_000 < left_ms <= 60_000))
    release = ("EVAL", regional._RELEASE, 2, "claim", "landings")
    return told + [await client.execute_command(*release, token, "name") for token in ("yours", "mine", "mine")]


class World:
    """A server, and a client of it."""

    def __init__(self) -> None:
        self.loop = SimLoop(1)
        self.network = Network(self.loop)
        self.valkey = SimValkey(self.loop, self.network)
        self.client = self.loop.process("client")

    def redis(self, timeout_s: float | None = None) -> SimRedis:
        return SimRedis(self.network, "redis://valkey", timeout_s)

    def play(self, story: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        told = self.client.start(story)
        self.loop.run(self.loop.now + 600.0)
        assert told.done(), "the story has come to a halt"
        self.loop.close()
        assert self.loop.faults == []
        return told.result()


async def really(servers: EmbeddedServers, story: Callable[[Any], Awaitable[Any]]) -> Any:
    client = Redis.from_url(servers.redis_url, protocol=2)
    try:
        await client.flushall()
        return await story(client)
    finally:
        await client.aclose()


@pytest.mark.parametrize("seed", range(3))
async def test_both_give_the_same(valkey: EmbeddedServers, seed: int):
    said = commands(seed, 150)
    world = World()
    simulated = world.play(lambda: answers(world.redis(), said))
    real = await really(valkey, lambda client: answers(client, said))
    for command, told, found in zip(said, simulated, real, strict=True):
        assert told == found, command


async def test_claims_are_the_same_in_both(valkey: EmbeddedServers):
    world = World()
    assert world.play(lambda: claims(world.redis())) == await really(valkey, claims)


def test_what_is_kept_for_a_while_is_forgotten_then():
    world = World()

    async def story() -> list[Any]:
        client = world.redis()
        await client.execute_command("SET", "name", "value", False, 5_000)
        told = [await client.get("name"), await client.execute_command("PTTL", "name") > 4_900]
        await asyncio.sleep(5)
        return [*told, await client.get("name"), await client.execute_command("PTTL", "name")]

    assert world.play(story) == [b"value", True, None, -2]


def test_it_forgets_when_it_is_told_to_when_it_is_full_and_when_it_dies():
    world = World()

    async def story() -> list[Any]:
        client, told = world.redis(), []
        for disaster in (world.valkey.wipe, lambda: world.valkey.evict(1.0), restart):
            await client.execute_command("SET", "name", "value", False, None)
            told.append(await client.get("name"))
            disaster()
            told.append(await again(client))
        return told

    def restart() -> None:
        world.valkey.process.kill()
        world.valkey.start()

    async def again(client: SimRedis) -> Any:
        try:
            return await client.get("name")
        except RedisConnectionError:
            return await client.get("name")

    assert world.play(story) == [b"value", None] * 3


def test_one_that_is_stopped_is_not_waited_for_and_one_that_is_dead_refuses():
    world = World()

    async def story() -> None:
        client = world.redis(0.1)
        await client.ping()
        world.valkey.process.freeze()
        with pytest.raises(RedisTimeout):
            await client.ping()
        world.valkey.process.wake()
        await client.ping()
        world.valkey.process.kill()
        await asyncio.sleep(1)
        with pytest.raises(RedisConnectionError):
            await client.ping()

    world.play(story)


def test_who_listens_hears_until_the_server_dies():
    world = World()

    async def story() -> list[Any]:
        heard: list[Any] = []
        async with world.redis().pubsub() as ears:
            await ears.subscribe("channel")
            try:
                async for message in ears.listen():
                    heard.append((message["type"], message["data"]))
                    if len(heard) == 1:
                        assert await world.redis().publish("channel", "1.7") == 1
                        await ears.ping()
                    if len(heard) == 3:
                        world.valkey.process.kill()
            except RedisConnectionError:
                heard.append("gone")
        return heard

    assert sorted(map(str, world.play(story))) == sorted(
        map(str, [("subscribe", 1), ("message", b"1.7"), ("pong", b""), "gone"])
    )


def test_nothing_heard_in_time_is_nothing():
    world = World()

    async def story() -> Any:
        ears = world.redis().pubsub()
        await ears.subscribe("channel")
        await ears.get_message(timeout=1.0)
        return await ears.get_message(timeout=1.0)

    assert world.play(story) is None
