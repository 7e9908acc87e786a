"""The simulated network: bytes in order, cuts and resets; questions, datagrams and sessions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from tests.simulation.engine.loop import SimLoop
from tests.simulation.engine.network import Network
from tests.simulation.engine.processes import Process
from tests.simulation.engine.sessions import Session


class World:
    """A client and a server."""

    def __init__(self, seed: int = 1) -> None:
        self.loop = SimLoop(seed)
        self.network = Network(self.loop)
        self.client, self.server = self.loop.process("client"), self.loop.process("server")
        self.said: list[str] = []

    def say(self, what: str) -> None:
        self.said.append(what)

    def play(self, story: Callable[[], Coroutine[Any, Any, None]], seconds: float = 60.0) -> list[str]:
        """Let the client do `story`; what was said."""
        told = self.client.start(story)
        self.loop.run(self.loop.now + seconds)
        if self.client.alive:
            assert told.done(), "the story has come to a halt"
            told.result()
        assert self.loop.faults == []
        return self.said

    def links(self) -> list[Any]:
        return list(self.network.links(["client"], ["server"]))


class End(asyncio.Protocol):
    """Says what happens to it."""

    def __init__(self, name: str, world: World, *, stays: bool = False) -> None:
        self.name, self.world, self.stays = name, world, stays
        self.data = b""
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.data += data

    def eof_received(self) -> bool:
        self.world.say(f"{self.name} has heard the end")
        return self.stays

    def connection_lost(self, exc: Exception | None) -> None:
        self.world.say(f"{self.name} lost {'' if exc is None else type(exc).__name__}".rstrip())


def listening(world: World, *, stays: bool = False) -> list[End]:
    ends: list[End] = []

    def accept() -> End:
        ends.append(End("server", world, stays=stays))
        return ends[-1]

    world.network.listen(world.server, "here", accept)
    return ends


async def connected(world: World) -> End:
    _, end = await asyncio.get_running_loop().create_connection(lambda: End("client", world), "here", 80)
    assert isinstance(end, End)
    return end


@pytest.mark.parametrize("seed", range(5))
def test_bytes_arrive_whole_and_in_order_however_they_are_torn_and_late(seed: int):
    world = World(seed)
    ends = listening(world)
    sent = [bytes([number % 256]) * (1 + number * 700 % 40_000) for number in range(40)]
    for link in world.links():
        link.tear, link.delay = 0.7, (0.001, 2.0)

    async def story() -> None:
        end = await connected(world)
        for piece in sent:
            end.transport.write(piece)
            await asyncio.sleep(0.01)
        end.transport.close()

    assert world.play(story, 300.0) == ["client lost", "server has heard the end", "server lost"]
    assert ends[0].data == b"".join(sent)


def test_half_a_connection_stays_open_for_an_answer():
    world = World()
    ends = listening(world, stays=True)

    async def story() -> None:
        end = await connected(world)
        end.transport.write(b"last words")
        await asyncio.sleep(1)
        ends[0].transport.write(b"yes?")
        await asyncio.sleep(1)
        assert end.data == b"yes?"
        ends[0].transport.close()

    assert world.play(story) == ["server lost", "client has heard the end", "client lost"]


def test_nobody_listens():
    world = World()

    async def story() -> None:
        with pytest.raises(ConnectionRefusedError, match="nobody listens at here"):
            await connected(world)
        world.say("refused")

    assert world.play(story) == ["refused"]


def test_a_killed_server_resets_its_connections_and_refuses_new_ones():
    world = World()
    listening(world)

    async def story() -> None:
        await connected(world)
        world.server.kill()
        await asyncio.sleep(1)
        with pytest.raises(ConnectionRefusedError):
            await connected(world)

    assert world.play(story) == ["client lost ConnectionResetError"]


def test_a_frozen_server_is_connected_to_and_reads_when_it_wakes():
    world = World()
    ends = listening(world)

    async def story() -> None:
        world.server.freeze()
        end = await connected(world)
        end.transport.write(b"are you there?")
        await asyncio.sleep(5)
        assert not ends
        world.server.wake()
        await asyncio.sleep(1)
        assert ends[0].data == b"are you there?"

    world.play(story)


def test_bytes_wait_for_a_heal_and_connecting_hangs_meanwhile():
    world = World()
    ends = listening(world)

    async def story() -> None:
        end = await connected(world)
        world.network.cut(["client"], ["server"])
        end.transport.write(b"one ")
        end.transport.write(b"two")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3):
                await connected(world)
        await asyncio.sleep(1)
        assert ends[0].data == b""
        world.network.heal(["client"], ["server"])
        await asyncio.sleep(1)
        assert ends[0].data == b"one two"
        assert len(ends) == 2, "the connection that was given up came through, and was ended"

    assert world.play(story) == ["server lost ConnectionResetError"]


def test_a_connection_can_be_forgotten_on_the_way():
    world = World()
    listening(world)

    async def story() -> None:
        await connected(world)
        assert world.network.reset("client", "server") == 1

    assert sorted(world.play(story)) == ["client lost ConnectionResetError", "server lost ConnectionResetError"]


def test_whoever_does_not_read_gets_it_later():
    world = World()
    ends = listening(world)

    async def story() -> None:
        end = await connected(world)
        await asyncio.sleep(1)
        ends[0].transport.pause_reading()
        end.transport.write(b"patience")
        end.transport.close()
        await asyncio.sleep(1)
        assert ends[0].data == b""
        ends[0].transport.resume_reading()
        await asyncio.sleep(1)
        assert ends[0].data == b"patience"

    assert world.play(story) == ["client lost", "server has heard the end", "server lost"]


# -- questions ---------------------------------------------------------------------------------------------------------


async def numbers(payload: bytes) -> AsyncIterator[bytes]:
    for number in range(int(payload)):
        yield b"%d" % number
        await asyncio.sleep(0.1)


async def answers(world: World, payload: bytes = b"5") -> list[int]:
    return [int(answer) async for answer in world.network.ask("feed", payload)]


def test_a_question_is_answered_by_a_stream():
    world = World()
    world.network.serve(world.server, "feed", numbers)

    async def story() -> None:
        assert await answers(world) == [0, 1, 2, 3, 4]
        world.say("heard")

    assert world.play(story) == ["heard"]


def heard_with(seed: int, **chances: float) -> list[int]:
    world = World(seed)
    world.network.serve(world.server, "feed", numbers)
    for name, chance in chances.items():
        setattr(world.network.link("server", "client"), name, chance)
    heard: list[int] = []

    async def story() -> None:
        async with asyncio.timeout(30):
            async for answer in world.network.ask("feed", b"8"):
                heard.append(int(answer))  # noqa: PERF401  # those that came before the time is over count

    async def patient() -> None:
        try:
            await story()
        except TimeoutError:
            heard.append(-1)

    world.play(patient)
    return heard


def test_messages_are_lost_repeated_and_overtaken():
    runs = range(12)
    assert any(set(heard_with(seed, loss=0.4)) < set(range(-1, 8)) for seed in runs)
    assert any(-1 in heard_with(seed, loss=0.4) for seed in runs), "also the word that no more will come"
    assert any(len(heard) > len(set(heard)) for heard in (heard_with(seed, repeat=0.5) for seed in runs))
    assert any(heard != sorted(heard) for heard in (heard_with(seed, shuffle=0.4) for seed in runs))


def test_who_leaves_a_question_ends_its_answer():
    world = World()

    async def endless(payload: bytes) -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"."
                await asyncio.sleep(0.1)
        finally:
            world.say("ended")

    world.network.serve(world.server, "feed", endless)

    async def story() -> None:
        lines = world.network.ask("feed", b"")
        await anext(lines)
        await lines.aclose()

    assert world.play(story) == ["ended"]


def test_a_dead_server_breaks_off_and_nobody_there_refuses():
    world = World()
    world.network.serve(world.server, "feed", numbers)

    async def story() -> None:
        with pytest.raises(ConnectionResetError):
            async for _ in world.network.ask("feed", b"50"):
                world.server.kill()
        with pytest.raises(ConnectionRefusedError):
            await answers(world)
        world.say("told")

    assert world.play(story) == ["told"]


def test_what_fails_there_is_no_answer_here():
    world = World()

    async def fails(payload: bytes) -> AsyncIterator[bytes]:
        yield b"1"
        raise RuntimeError("not today")

    world.network.serve(world.server, "feed", fails)

    async def story() -> None:
        with pytest.raises(ConnectionError, match="not today"):
            await answers(world)

    world.play(story)


def test_datagrams_arrive_or_do_not():
    world = World()
    heard: list[bytes] = []
    world.network.hear(world.server, "ear", heard.append)

    async def story() -> None:
        assert world.network.tell("ear", b"one")
        assert not world.network.tell("nowhere", b"x")
        await asyncio.sleep(1)
        world.network.link("client", "server").loss = 1.0
        assert world.network.tell("ear", b"two")

    world.play(story)
    assert heard == [b"one"]


# -- sessions ----------------------------------------------------------------------------------------------------------


class Counter:
    """What a server keeps for a session."""

    def __init__(self, world: World, session: Session) -> None:
        self._world, self.session = world, session
        self.count = 0

    def add(self, number: int) -> int:
        self.count += number
        return self.count

    def later(self) -> asyncio.Future[str]:
        done: asyncio.Future[str] = self._world.loop.create_future()
        self._world.server.post(2.0, done.set_result, "done")
        return done

    def fail(self) -> None:
        raise ValueError("no")

    def cancel(self) -> None:
        self._world.say(f"not waited for at {self.count}")

    def hung_up(self) -> None:
        self._world.say(f"hung up at {self.count}")


def counting(world: World) -> None:
    world.network.take_sessions(world.server, "counter", lambda session: Counter(world, session))


async def opened(world: World) -> tuple[Session, Counter]:
    session = await world.network.open("counter")
    return session, session.served


def test_calls_are_made_there_and_answered_in_order():
    world = World()
    counting(world)

    async def story() -> None:
        session, counter = await opened(world)
        assert await asyncio.gather(*(session.call(counter.add, number) for number in (1, 2, 3))) == [1, 3, 6]
        assert await session.call(counter.later) == "done"
        with pytest.raises(ValueError, match="no"):
            await session.call(counter.fail)
        session.tell(counter.add, 4)
        session.close()
        with pytest.raises(ConnectionResetError):
            await session.call(counter.add, 1)

    assert world.play(story) == ["hung up at 10"]


def test_a_call_of_which_nobody_waits_for_the_answer_ends_the_session():
    world = World()
    counting(world)

    async def story() -> None:
        session, counter = await opened(world)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.0):
                await session.call(counter.later)
        assert session.broken

    assert world.play(story) == ["not waited for at 0", "hung up at 0"]


@pytest.mark.parametrize("who", ["client", "server"])
def test_a_session_ends_with_either_side(who: str):
    world = World()
    counting(world)

    async def story() -> None:
        session, counter = await opened(world)
        await session.call(counter.add, 7)
        killed: Process = getattr(world, who)
        world.loop.after(world.loop.world, 1.0, killed.kill)
        with pytest.raises(ConnectionResetError):
            await asyncio.gather(session.call(counter.later), session.call(counter.later))
        world.say("reset")

    assert world.play(story) == (["hung up at 7"] if who == "client" else ["reset"])


def test_whoever_waits_to_be_let_in_hears_of_the_servers_death():
    world = World()
    counting(world)
    world.server.freeze()

    async def story() -> None:
        world.loop.after(world.loop.world, 1.0, world.server.kill)
        with pytest.raises(ConnectionResetError):
            await opened(world)
        world.say("reset")

    assert world.play(story) == ["reset"]
