"""Bytes travel as long as they should, by a clock turned by hand; and they come whole, through real sockets."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from loadtests import distance
from loadtests.distance import BadPath, Path, read_path
from loadtests.wire import FIRST_WINDOW_BYTES, Wire

pytestmark = pytest.mark.alone

WINDOW = FIRST_WINDOW_BYTES


def all_arrivals(wire: Wire) -> list[tuple[float, int]]:
    """(moment, bytes) until nothing is under way any more."""
    found = []
    while (at := wire.next_at()) is not None:
        found += [(round(moment, 6), len(data)) for moment, data in wire.arrived(at)]
    return found


def test_a_byte_arrives_half_a_round_trip_after_it_left():
    wire = Wire(0.040)
    wire.send(b"hello", 10.0)
    assert wire.next_at() == 10.04
    assert list(wire.arrived(10.0399)) == []
    assert list(wire.arrived(10.04)) == [(10.04, b"hello")]


def test_who_calls_late_is_told_when_it_was_due():
    wire = Wire(0.040)
    wire.send(b"hello", 0.0)
    assert list(wire.arrived(5.0)) == [(0.04, b"hello")]


def test_nothing_leaves_before_the_handshake_is_over():
    wire = Wire(0.040, not_before=0.080)
    wire.send(b"early", 0.010)
    wire.send(b"late", 0.100)
    assert all_arrivals(wire) == [(0.12, 5), (0.14, 4)]


@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        pytest.param(WINDOW, [(0.04, WINDOW)], id="ten segments go at once"),
        pytest.param(30_000, [(0.04, WINDOW), (0.12, 15_400)], id="30 kB take a round trip more"),
        pytest.param(
            7 * WINDOW, [(0.04, WINDOW), (0.12, 2 * WINDOW), (0.20, 4 * WINDOW)], id="each round trip twice as much"
        ),
    ],
)
def test_a_new_connection_starts_slowly(octets, expected):
    wire = Wire(0.040)
    wire.send(b"x" * octets, 0.0)
    assert all_arrivals(wire) == expected


def test_what_was_acknowledged_late_by_the_caller_leaves_at_its_own_moment():
    wire = Wire(0.040)
    wire.send(b"x" * 30_000, 0.0)
    assert [round(at, 6) for at, _ in wire.arrived(9.0)] == [0.04, 0.12]


def test_a_window_that_was_never_full_does_not_grow():
    wire = Wire(0.040)
    for number in range(20):
        wire.send(b"x" * 1_000, float(number))
        all_arrivals(wire)
    wire.send(b"x" * 2 * WINDOW, 100.0)
    assert all_arrivals(wire) == [(100.04, WINDOW), (100.12, WINDOW)]


def test_bytes_stay_in_order_and_the_end_comes_last():
    wire = Wire(0.040)
    text = bytes(range(256)) * 200
    for start in range(0, len(text), 7_000):
        wire.send(text[start : start + 7_000], start / 1e9)
    wire.send(b"", 0.001)
    arrived = list(wire.arrived(100.0))
    assert b"".join(data for _, data in arrived) == text
    assert [data for _, data in arrived].index(b"") == len(arrived) - 1
    assert wire.waiting_bytes == 0


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("9082:8082", "expected PORT:TARGET_PORT:MILLISECONDS"),
        ("9082:8082:far", "expected PORT:TARGET_PORT:MILLISECONDS"),
        ("99999:8082:80", "from 1 to 65535"),
        ("9082:0:80", "from 1 to 65535"),
        ("9082:8082:-1", "from 0 to 10000"),
        ("9082:8082:nan", "from 0 to 10000"),
    ],
)
def test_what_is_no_path_is_refused(text, why):
    with pytest.raises(BadPath, match=why):
        read_path(text)


def test_a_path_may_say_its_unit():
    assert read_path("0:8082:80ms") == Path(0, 8082, 80.0)


# -- through sockets ---------------------------------------------------------------------------------------------------


@contextmanager
def relay_to(target_port: int, rtt_ms: float = 2.0) -> Iterator[distance.Relay]:
    relay = distance.Relay([Path(0, target_port, rtt_ms)])
    thread = threading.Thread(target=relay.run)
    thread.start()
    try:
        yield relay
    finally:
        relay.stop()
        thread.join(10)
        assert not thread.is_alive()


@contextmanager
def echo() -> Iterator[int]:
    """A server that reads to the end of what one viewer says, and then says it all again."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                got = bytearray()
                while data := connection.recv(65_536):
                    got += data
                connection.sendall(got)

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        thread.join(10)
        assert not thread.is_alive()


@pytest.mark.parametrize("octets", [1, 100_000, 6_000_000])
def test_bytes_come_whole_and_so_does_their_end(octets):
    text = bytes(range(251)) * (octets // 251 + 1)
    with echo() as target, relay_to(target) as relay:
        with socket.create_connection(("127.0.0.1", relay.ports[0]), timeout=30) as viewer:
            viewer.sendall(text)
            viewer.shutdown(socket.SHUT_WR)
            got = bytearray()
            while data := viewer.recv(65_536):
                got += data
        assert got == text
        assert relay.lateness[relay.ports[0]].count > 1


def test_nobody_there_ends_the_connection():
    with socket.create_server(("127.0.0.1", 0)) as server:
        nobody = server.getsockname()[1]
    with (
        relay_to(nobody) as relay,
        socket.create_connection(("127.0.0.1", relay.ports[0]), timeout=30) as viewer,
        suppress(ConnectionResetError),
    ):
        assert viewer.recv(1) == b""


def test_a_viewer_that_goes_away_takes_its_counterpart_along():
    with socket.create_server(("127.0.0.1", 0)) as server, relay_to(server.getsockname()[1]) as relay:
        viewer = socket.create_connection(("127.0.0.1", relay.ports[0]), timeout=30)
        target, _ = server.accept()
        target.settimeout(30)
        viewer.close()
        with target:
            assert target.recv(1) == b""


def test_in_a_process_of_its_own_it_says_where_it_listens_and_how_late_it_was():
    with echo() as target, distance.relayed([Path(0, target, 1.0)]) as relay:
        [port] = relay.ports
        with socket.create_connection(("127.0.0.1", port), timeout=30) as viewer:
            viewer.sendall(b"hello")
            viewer.shutdown(socket.SHUT_WR)
            assert viewer.recv(5) == b"hello"
        assert relay.lateness()[port].count >= 2
        assert relay.lateness()[port].count <= 2  # counted anew: at most the ends


def test_a_port_that_is_taken_is_said():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(distance.RelayFailed, match="in use"), distance.relayed([Path(port, port, 1.0)]):
            pass


def test_the_command_says_what_it_expects():
    found = subprocess.run([sys.executable, "-m", "loadtests.distance", "9082"], capture_output=True, text=True)
    assert found.returncode == 2
    assert "9082:8082:80" in found.stderr


def test_the_check_tells_every_distance():
    [found] = distance.check([1.0], seconds=0.01)
    assert found.open.count == 10
    assert found.new.count == 5
    assert "| 1 |" in distance.check_table([found])
