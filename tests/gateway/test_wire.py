"""Wires: what is written arrives whole and in order, however little the kernel takes; an end is told once."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import AsyncIterator

import pytest

from edge.gateway import wire
from edge.gateway.wire import Listener, Wire, Wires

pytestmark = pytest.mark.skipif(not wire.AVAILABLE, reason="there is no epoll here")


class End:
    """Notes what happens. Echoes what it is sent, where `echoes`."""

    def __init__(self, *, echoes: bool = False, stays: bool = False) -> None:
        self.echoes = echoes
        self.stays = stays
        self.got = b""
        self.paused: list[bool] = []
        self.lost: list[Exception | None] = []
        self.transport: Wire

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, Wire)
        self.transport = transport

    def received(self, data: bytes) -> None:
        self.got += data
        if data == b"fail":
            raise RuntimeError("a fault")
        if self.echoes:
            self.transport.write(data)

    def eof_received(self) -> bool:
        return self.stays

    def pause_writing(self) -> None:
        self.paused.append(True)

    def resume_writing(self) -> None:
        self.paused.append(False)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.append(exc)


class Pair:
    """A wire, and whoever is at its other end."""

    def __init__(self, **how: bool) -> None:
        here, self.peer = socket.socketpair()
        for end in (here, self.peer):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
        self.peer.setblocking(False)
        self.wires = Wires()
        self.end = End(**how)
        self.wires.add(here, None, self.end)

    @property
    def wire(self) -> Wire:
        return self.end.transport

    async def read(self, octets: int) -> bytes:
        loop, got = asyncio.get_running_loop(), b""
        async with asyncio.timeout(5):
            while len(got) < octets and (data := await loop.sock_recv(self.peer, 65_536)):
                got += data
        return got


@pytest.fixture
async def pairs() -> AsyncIterator[list[Pair]]:
    made: list[Pair] = []
    yield made
    for pair in made:
        pair.wires.close()
        pair.peer.close()
    await asyncio.sleep(0)


async def until(statement: object) -> None:
    async with asyncio.timeout(5):
        while not statement():  # type: ignore[operator]
            await asyncio.sleep(0)


async def test_what_is_written_arrives_in_order(pairs):
    chosen = random.Random(5)
    pairs.append(pair := Pair())
    pair.wire.set_write_buffer_limits(high=50_000)
    wanted = b""
    for number in range(60):
        pieces = [chosen.randbytes(chosen.choice((0, 1, 700, 9_000))) for _ in range(3)]
        if number % 2:
            pair.wire.writelines(pieces)
        else:
            pair.wire.write(b"".join(pieces))
        wanted += b"".join(pieces)
    assert pair.wire.get_write_buffer_size() > 50_000
    assert pair.end.paused == [True]
    assert await pair.read(len(wanted)) == wanted
    await until(lambda: pair.end.paused == [True, False])
    assert pair.wire.get_write_buffer_size() == 0
    pair.wire.writelines([b"a", b"", b"b"])
    assert await pair.read(2) == b"ab"


async def test_what_was_written_is_sent_before_the_wire_is_closed(pairs):
    pairs.append(pair := Pair())
    pair.wire.write(b"x" * 100_000)
    pair.wire.close()
    assert pair.wire.is_closing()
    pair.wire.write(b"y")
    pair.wire.writelines([b"y"])
    assert pair.end.lost == []
    assert await pair.read(100_001) == b"x" * 100_000
    await until(lambda: pair.end.lost == [None])


async def test_reading_can_be_held(pairs):
    pairs.append(pair := Pair())
    pair.wire.pause_reading()
    pair.peer.send(b"one")
    for _ in range(5):
        await asyncio.sleep(0)
    assert pair.end.got == b""
    pair.wire.resume_reading()
    await until(lambda: pair.end.got == b"one")


@pytest.mark.parametrize("stays", [False, True])
async def test_the_last_byte_of_the_other_side(pairs, stays):
    pairs.append(pair := Pair(stays=stays))
    pair.peer.shutdown(socket.SHUT_WR)
    if stays:
        pair.wire.write(b"still")
        assert await pair.read(5) == b"still"
        pair.wire.close()
    await until(lambda: pair.end.lost == [None])


async def test_a_fault_ends_its_own_wire_alone(pairs, caplog):
    pairs.append(pair := Pair())
    pairs.append(other := Pair(echoes=True))
    pair.peer.send(b"fail")
    await until(lambda: len(pair.end.lost) == 1)
    assert "a fault of this program" in caplog.text
    other.peer.send(b"hello")
    assert await other.read(5) == b"hello"


async def test_nobody_there_any_more(pairs):
    pairs.append(pair := Pair())
    pair.peer.close()
    for _ in range(3):
        pair.wire.write(b"x")
    await until(lambda: len(pair.end.lost) == 1)
    pair.wire.abort()
    pair.wire.close()
    await asyncio.sleep(0)
    assert len(pair.end.lost) == 1


async def test_a_listener_accepts_and_tells_who_came():
    bound = socket.create_server(("127.0.0.1", 0))
    ends: list[End] = []

    def made() -> End:
        ends.append(End(echoes=True))
        return ends[-1]

    listener = Listener(bound, made)
    streams = [await asyncio.open_connection(*bound.getsockname()) for _ in range(100)]
    for number, (_, writer) in enumerate(streams):
        writer.write(b"%03d" % number)
    for number, (reader, _) in enumerate(streams):
        assert await reader.readexactly(3) == b"%03d" % number
    assert len(ends) == 100
    assert ends[0].transport.get_extra_info("peername") == streams[0][1].get_extra_info("sockname")
    # Hung up on without a word: RST.
    sock = streams[0][1].get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    streams[0][1].transport.abort()
    await until(lambda: len(ends[0].lost) == 1)
    address = bound.getsockname()
    listener.stop_accepting()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(*address)
    listener.close()
    await until(lambda: all(len(end.lost) == 1 for end in ends))
    for _, writer in streams:
        writer.close()
