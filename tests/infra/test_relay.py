"""The simulated distance: it delays, it does not lose, and it can be cut."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from infra.local.relay import Channel, Relay
from infra.local.relayed import QUEUE_BYTES
from infra.local.spoiling import LONGEST_ANSWER, spoiler

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def relayed(serve: Serve, rtt_ms: float) -> AsyncIterator[tuple[Relay, int]]:
    """A server, and a relay in front of it with two channels of one edge; yields the relay and the first's port."""

    async def tidy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(ConnectionError):
                await serve(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(tidy, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    relay = Relay([Channel("eu", name, 0, port, rtt_ms) for name in ("fills", "questions")])
    await relay.start()
    try:
        yield relay, relay.listeners[0].address()
    finally:
        relay.stop()
        server.close()
        await server.wait_closed()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()


async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, text: bytes) -> float:
    """Seconds until `text` has come back."""
    began = time.monotonic()
    writer.write(text)
    assert await reader.readexactly(len(text)) == text
    return time.monotonic() - began


async def test_a_round_trip_takes_its_time_and_the_first_a_handshake_more():
    async with relayed(echo, rtt_ms=60) as (_, port):
        began = time.monotonic()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await exchange(reader, writer, b"first")
        assert time.monotonic() - began >= 0.120
        assert await exchange(reader, writer, b"second") >= 0.060
        writer.close()


async def test_each_direction_carries_half():
    heard: list[float] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readline():
            heard.append(time.monotonic())

    async with relayed(listen, rtt_ms=100) as (_, port):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"the handshake is over when this is heard\n")
        await until(lambda: len(heard) == 1)
        sent = time.monotonic()
        writer.write(b"one way\n")
        await until(lambda: len(heard) == 2)
        assert heard[1] - sent >= 0.050
        writer.close()


async def test_delay_does_not_limit_what_fits_through():
    """Twenty sends in a row are under way at once: far less than twenty round trips."""
    async with relayed(echo, rtt_ms=100) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await exchange(reader, writer, b"open")
        began = time.monotonic()
        for _ in range(20):
            writer.write(b"x" * 1000)
            await asyncio.sleep(0.001)
        await reader.readexactly(20_000)
        assert 0.100 <= time.monotonic() - began < 1.0
        writer.close()


async def test_bytes_arrive_whole_and_in_order_also_when_the_reader_is_slow():
    size = QUEUE_BYTES * 2
    sent = bytes(range(256)) * (size // 256)

    async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(sent)
        await writer.drain()

    async with relayed(send, rtt_ms=4) as (relay, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=65_536)
        # Nothing is read here until the relay has taken all it may hold.
        await until(lambda: relay.listeners[0].held_bytes() > QUEUE_BYTES // 4)
        assert relay.listeners[0].held_bytes() <= QUEUE_BYTES + 1_000_000
        received = bytearray()
        while data := await reader.read(1 << 20):
            received += data
        assert bytes(received) == sent
        writer.close()


async def test_an_end_of_stream_leaves_the_other_direction_open():
    async def answer_after_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"got %d bytes" % len(await reader.read()))

    async with relayed(answer_after_the_end, rtt_ms=20) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"x" * 1234)
        writer.write_eof()
        assert await reader.read() == b"got 1234 bytes"
        writer.close()


async def test_nothing_is_kept_of_a_connection_that_both_sides_ended():
    async with relayed(echo, rtt_ms=2) as (relay, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await exchange(reader, writer, b"hello")
        writer.close()
        await until(lambda: not relay.listeners[0].connections)


async def test_a_broken_connection_breaks_the_other_side():
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.transport.abort()

    async with relayed(hang_up, rtt_ms=10) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"go\n")
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()


async def test_an_origin_that_refuses_is_a_reset_after_a_round_trip():
    relay = Relay([Channel("eu", "fills", 0, await closed_port(), 50)])
    await relay.start()
    began = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", relay.listeners[0].address())
    with pytest.raises(ConnectionResetError):
        await reader.read()
    assert time.monotonic() - began >= 0.050
    writer.close()
    relay.stop()


async def test_a_cut_resets_what_is_open_refuses_what_is_new_and_heals():
    async with relayed(echo, rtt_ms=2) as (relay, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await exchange(reader, writer, b"before")
        other = relay.listeners[1].address()

        assert (await relay.obey({"do": "cut", "edge": "eu", "channel": "fills"}))["ok"]
        with pytest.raises(ConnectionResetError):
            await reader.read()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        untouched = await asyncio.open_connection("127.0.0.1", other)
        await exchange(*untouched, b"the other channel is open")

        await relay.obey({"do": "heal", "edge": "eu", "channel": "all"})
        again = await asyncio.open_connection("127.0.0.1", port)
        await exchange(*again, b"after")
        await exchange(*untouched, b"healing disturbs nobody")
        for stream in (writer, untouched[1], again[1]):
            stream.close()


async def test_a_stall_keeps_connections_and_passes_nothing_until_it_heals():
    async with relayed(echo, rtt_ms=2) as (relay, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await exchange(reader, writer, b"before")
        await relay.obey({"do": "stall", "edge": "eu", "channel": "fills"})
        writer.write(b"during")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.1)
        assert relay.listeners[0].status()["condition"] == "stalled"
        await relay.obey({"do": "heal"})
        assert await reader.readexactly(6) == b"during"
        writer.close()


async def test_a_slowed_channel_answers_later_and_what_is_asked_travels_as_ever():
    heard: list[float] = []

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            heard.append(time.monotonic())
            writer.write(line)

    async with relayed(note, rtt_ms=2) as (relay, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await exchange(reader, writer, b"before\n")
        assert (await relay.obey({"do": "slow", "edge": "eu", "channel": "fills", "ms": 150}))["ok"]
        assert relay.listeners[0].status()["condition"] == "slowed by 150 ms"
        sent = time.monotonic()
        assert await exchange(reader, writer, b"during\n") >= 0.150
        assert heard[1] - sent < 0.150
        writer.close()


async def test_what_is_under_way_on_a_slowed_channel_arrives_when_it_heals():
    async with relayed(echo, rtt_ms=2) as (relay, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await exchange(reader, writer, b"before")
        await relay.obey({"do": "slow", "edge": "eu", "channel": "fills", "ms": 60_000})
        writer.write(b"during")
        await until(lambda: relay.listeners[0].held_bytes() == 6)
        await relay.obey({"do": "heal"})
        assert await asyncio.wait_for(reader.readexactly(6), 5) == b"during"
        writer.close()


async def test_a_limited_channel_lets_so_many_bytes_through_and_all_of_them_in_order():
    async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(bytes(range(200)))

    async with relayed(send, rtt_ms=0) as (relay, port):
        await relay.obey({"do": "slow", "edge": "eu", "channel": "fills", "bytes_per_s": 1_000})
        assert relay.listeners[0].status()["condition"] == "slowed to 1000 bytes a second"
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await until(lambda: bool(relay.listeners[0].connections))
        for connection in relay.listeners[0].connections:
            connection.back.due -= 60.0  # nothing has come for a minute: that saves nothing up
        began = time.monotonic()
        writer.write(b"go\n")
        assert await reader.readexactly(200) == bytes(range(200))
        assert time.monotonic() - began >= 0.2
        writer.close()


@pytest.mark.parametrize(
    ("fault", "felt"),
    [
        pytest.param({"do": "cut"}, 1, id="reset"),
        pytest.param({"do": "garble"}, 1, id="reset before garbage"),
        pytest.param({"do": "stall"}, 0, id="stalled, and nothing came"),
        pytest.param({"do": "slow", "ms": 1}, 0, id="slow, and nothing came"),
        pytest.param({"do": "truncate", "seed": 5}, 0, id="cut short, and nothing came"),
    ],
)
async def test_a_fault_is_felt_by_whom_it_changes_something_for(fault, felt):
    async with relayed(echo, rtt_ms=0) as (relay, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await exchange(reader, writer, b"before")
        assert (await relay.obey({**fault, "edge": "eu", "channel": "fills"}))["felt"] == felt
        assert (await relay.obey({"do": "heal", "edge": "eu", "channel": "fills"}))["felt"] == felt
        # The next fault is another.
        assert (await relay.obey({"do": "slow", "ms": 1, "edge": "eu", "channel": "all"}))["felt"] == 0
        writer.close()


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param({"do": "stall"}, id="held"),
        pytest.param({"do": "slow", "ms": 50}, id="delayed"),
        pytest.param({"do": "slow", "bytes_per_s": 10_000}, id="limited"),
        pytest.param({"do": "truncate", "seed": 5}, id="cut short"),
        pytest.param({"do": "garble", "seed": 5}, id="garbled"),
    ],
)
async def test_what_comes_while_a_fault_is_in_force_is_felt_once_for_each_connection(fault):
    async with relayed(echo, rtt_ms=0) as (relay, port):
        await relay.obey({**fault, "edge": "eu", "channel": "fills"})
        writers = []
        for _ in range(2):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writers.append((reader, writer))
            for _ in range(2):
                writer.write(b"x" * LONGEST_ANSWER)
        fills, questions = relay.listeners
        await until(lambda: fills.felt == 2)
        assert questions.felt == 0
        assert (await relay.obey({"do": "heal", "edge": "eu"}))["felt"] == 2
        for _, writer in writers:
            writer.close()


async def test_a_truncated_channel_ends_each_connection_in_good_order_somewhere():
    whole = bytes(range(256)) * 200

    async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(whole)
        await writer.drain()

    async with relayed(send, rtt_ms=0) as (relay, port):
        open_before = await asyncio.open_connection("127.0.0.1", port)
        await until(lambda: bool(relay.listeners[0].connections))
        await relay.obey({"do": "truncate", "edge": "eu", "channel": "fills", "seed": 5})
        lengths = []
        for reader, writer in (open_before, *[await asyncio.open_connection("127.0.0.1", port) for _ in range(4)]):
            writer.write(b"go\n")
            found = await asyncio.wait_for(reader.read(), 5)
            assert whole.startswith(found)
            lengths.append(len(found))
            writer.close()
        assert min(lengths) > 0
        assert max(lengths) <= LONGEST_ANSWER
        assert len(set(lengths)) > 1
        await relay.obey({"do": "heal"})
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"go\n")
        assert await reader.readexactly(len(whole)) == whole
        writer.close()


def test_connections_are_truncated_in_short_answers_and_in_long_ones():
    whole = bytes(LONGEST_ANSWER + 1)
    lengths = [len(spoiler("truncate", 5, number).take(whole)[0]) for number in range(400)]
    assert all(1 <= length <= LONGEST_ANSWER for length in lengths)
    for lowest in (1, 10, 100, 1_000):
        assert sum(lowest <= length < lowest * 10 for length in lengths) > 60


async def test_a_garbled_channel_resets_what_is_open_and_answers_with_nonsense():
    """Never with the beginning of an answer and then nonsense: that could be taken for a whole one."""
    async with relayed(echo, rtt_ms=0) as (relay, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await exchange(reader, writer, b"before")
        await relay.obey({"do": "garble", "edge": "eu", "channel": "fills", "seed": 5})
        with pytest.raises(ConnectionResetError):
            await reader.read()
        told = []
        for _ in range(2):
            again, other = await asyncio.open_connection("127.0.0.1", port)
            other.write(b"HTTP/1.1 200 OK")
            told.append(await again.readexactly(15))
            other.close()
        assert b"HTTP" not in told[0] + told[1]
        assert told[0] != told[1]
        await relay.obey({"do": "heal"})
        healed = await asyncio.open_connection("127.0.0.1", port)
        await exchange(*healed, b"after")
        healed[1].close()
        writer.close()


async def test_the_latest_fault_of_a_channel_is_in_force():
    async with relayed(echo, rtt_ms=0) as (relay, port):
        for do, condition in (
            ({"do": "stall"}, "stalled"),
            ({"do": "slow", "ms": 5}, "slowed by 5 ms"),
            ({"do": "cut"}, "cut"),
            ({"do": "garble"}, "garbled"),
            ({"do": "truncate"}, "truncated"),
            ({"do": "heal"}, "open"),
        ):
            assert (await relay.obey({**do, "edge": "eu", "channel": "fills"}))["ok"]
            assert relay.listeners[0].status()["condition"] == condition
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await exchange(reader, writer, b"open")
        writer.close()


async def test_a_channel_may_lead_from_one_unix_socket_to_another(tmp_path):
    closed = 0

    async def echo_and_close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal closed
        with contextlib.suppress(ConnectionError):
            await echo(reader, writer)
        writer.close()
        closed += 1

    server = await asyncio.start_unix_server(echo_and_close, str(tmp_path / "target"))
    here = tmp_path / "here"
    relay = Relay([Channel("replication", "replication", 0, 0, 0.0, str(here), str(tmp_path / "target"))])
    await relay.start()
    reader, writer = await asyncio.open_unix_connection(str(here))
    await exchange(reader, writer, b"hello")
    await relay.obey({"do": "cut", "edge": "replication"})
    with contextlib.suppress(ConnectionResetError):
        assert await reader.read() == b""
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_unix_connection(str(here))
    await relay.obey({"do": "heal", "edge": "replication"})
    again = await asyncio.open_unix_connection(str(here))
    await exchange(*again, b"again")
    for stream in (writer, again[1]):
        stream.close()
    await until(lambda: not relay.listeners[0].connections)
    await until(lambda: closed == 2)
    relay.stop()
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize(
    ("command", "word"),
    [
        pytest.param({"do": "slow", "edge": "eu"}, "by how much", id="slow, and not by how much"),
        pytest.param({"do": "slow", "edge": "eu", "ms": -1}, "ms", id="faster than before"),
        pytest.param({"do": "slow", "edge": "eu", "bytes_per_s": 0}, "bytes_per_s", id="nothing at all"),
        pytest.param({"do": "garble", "edge": "eu", "seed": None}, "seed", id="no seed"),
        pytest.param({"do": "truncate", "edge": "eu", "seed": "7"}, "seed", id="a seed in words"),
        pytest.param({"do": "cut", "edge": "mars"}, "mars", id="an edge that is not there"),
        pytest.param({"do": "cut", "edge": "eu", "channel": "gossip"}, "gossip", id="a channel that is not there"),
        pytest.param({"do": "dance"}, "dance", id="a command that is not there"),
        pytest.param({}, "None", id="no command"),
    ],
)
async def test_a_wrong_command_is_refused_with_its_reason(command, word):
    relay = Relay([Channel("eu", "fills", 0, 1, 1)])
    answer = await relay.obey(command)
    assert not answer["ok"]
    assert word in answer["error"]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


async def closed_port() -> int:
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    return port
