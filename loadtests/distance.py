"""Simulated distance between a viewer and what it asks: a relay on the loopback that lets bytes travel.

    python -m loadtests.distance 9082:8082:80       # port 9082 is port 8082, 80 ms round trip away
    python -m loadtests.distance --check            # how exact it is on this machine

A byte arrives half a round trip after it left, in both directions; a connection's first byte leaves a whole round trip
after the connection was opened, as if the handshake had travelled too; and a new connection starts slowly (`wire.py`),
so that 30 kB over it take as many round trips as on a long wire. Not simulated: loss, limits of bandwidth, TLS, and
the window that falls after a pause.

One line of JSON says where it listens; each line that comes on standard input is answered by how late bytes were
handed over since the last one. The end of standard input ends the relay.
"""

from __future__ import annotations

import argparse
import contextlib
import heapq
import json
import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from loadtests.recorder.histogram import Histogram
from loadtests.wire import Wire

HOST = "127.0.0.1"
BACKLOG_BYTES = 1 << 20
"""What may wait for its turn to leave; more stays with the sender."""
READ_BYTES = 1 << 18
HIGHEST_RTT_MS = 10_000.0


@dataclass(frozen=True, slots=True)
class Path:
    """One relayed address."""

    port: int
    """Where viewers connect, on 127.0.0.1; 0: any free port."""
    target_port: int
    """What they reach, on 127.0.0.1."""
    rtt_ms: float


class BadPath(ValueError):
    """A path cannot be read. Reads: 9082:8082: expected PORT:TARGET_PORT:MILLISECONDS, e.g. 9082:8082:80."""


class RelayFailed(Exception):
    """The relay's process did not begin to listen, or ended. Says what it said last."""


def read_path(text: str) -> Path:
    """The path that `PORT:TARGET_PORT:MILLISECONDS` names. Raises BadPath."""
    try:
        port, target_port, rtt_ms = text.split(":")
        path = Path(int(port), int(target_port), float(rtt_ms.removesuffix("ms")))
    except ValueError as exc:
        raise BadPath(f"{text}: expected PORT:TARGET_PORT:MILLISECONDS, e.g. 9082:8082:80") from exc
    if not (0 <= path.port < 65_536 and 0 < path.target_port < 65_536):
        raise BadPath(f"{text}: a port is a number from 1 to 65535, and the first may be 0 for any free one")
    if not 0 <= path.rtt_ms <= HIGHEST_RTT_MS:
        raise BadPath(f"{text}: the round trip is a number of milliseconds from 0 to {HIGHEST_RTT_MS:.0f}")
    return path


class _Direction:
    """A wire between two sockets."""

    __slots__ = ("blocked", "ended", "link", "out", "paused", "read_all", "sink", "source", "timer_at", "wire")

    def __init__(self, link: _Link, source: socket.socket, sink: socket.socket, wire: Wire) -> None:
        self.link = link
        self.source = source
        self.sink = sink
        self.wire = wire
        self.out = bytearray()
        """Arrived, and not yet taken by the sink."""
        self.blocked = False
        """The sink takes no more for now."""
        self.paused = False
        """So much waits to leave that the source has to wait, too."""
        self.read_all = False
        """The source has come to its end."""
        self.ended = False
        """The end of the stream has arrived."""
        self.timer_at: float | None = None


class _Link:
    """A viewer's connection and its counterpart at the target."""

    __slots__ = ("back", "far", "near", "over", "port", "towards")

    def __init__(self, near: socket.socket, far: socket.socket, rtt_s: float, now: float, port: int) -> None:
        self.near, self.far = near, far
        self.port = port
        """Where the viewer connected."""
        self.towards = _Direction(self, near, far, Wire(rtt_s / 2, now + rtt_s))
        self.back = _Direction(self, far, near, Wire(rtt_s / 2, now + rtt_s / 2))
        self.over = False


class Relay:
    """All paths in one loop of their own: `run` until `stop` is called, from any thread."""

    def __init__(self, paths: Sequence[Path], clock: Callable[[], float] = time.monotonic) -> None:
        """Listens at once. Raises OSError when a port is taken."""
        self._clock = clock
        self._epoll = select.epoll()
        self._by_fd: dict[int, _Link] = {}
        self._events: dict[int, int] = {}
        """What of each socket epoll watches for; sockets that wait for nothing are not in it."""
        self._listeners: dict[int, tuple[socket.socket, Path]] = {}
        self._timers: list[tuple[float, int, _Direction]] = []
        self._count = 0
        self._stopped = False
        self.lateness: dict[int, Histogram] = {}
        """By the port that viewers connect to: how late its bytes were handed over, microseconds."""
        self._woken, self._waker = socket.socketpair()
        self._epoll.register(self._woken.fileno(), select.EPOLLIN)
        self.ports: list[int] = []
        """Where each path listens, in their order."""
        try:
            for path in paths:
                listener = socket.create_server((HOST, path.port), backlog=512)
                listener.setblocking(False)
                port: int = listener.getsockname()[1]
                self.ports.append(port)
                self.lateness[port] = Histogram()
                self._listeners[listener.fileno()] = (listener, path)
                self._epoll.register(listener.fileno(), select.EPOLLIN)
        except OSError:
            self._close()
            raise

    def take_lateness(self) -> dict[int, Any]:
        """`lateness` as JSON; from now on it counts anew. From any thread."""
        taken, self.lateness = self.lateness, {port: Histogram() for port in self.ports}
        return {port: found.to_json() for port, found in taken.items()}

    def stop(self) -> None:
        """From any thread."""
        self._stopped = True
        self._waker.send(b"x")

    def run(self) -> None:
        try:
            while not self._stopped:
                self._wait()
                for fd, events in self._epoll.poll(0):
                    self._ready(fd, events)
                self._hand_over_what_is_due()
        finally:
            self._close()

    def _wait(self) -> None:
        """Until something can be read or written, or something arrives."""
        left_s = max(0.0, self._timers[0][0] - self._clock()) if self._timers else None
        # epoll itself counts in whole milliseconds, which is what is to be told apart here; select does not.
        select.select([self._epoll.fileno()], [], [], left_s)

    def _ready(self, fd: int, events: int) -> None:
        if fd in self._listeners:
            self._accept(*self._listeners[fd])
            return
        link = self._by_fd.get(fd)
        if link is None:
            return
        inbound, outbound = (link.towards, link.back) if fd == link.near.fileno() else (link.back, link.towards)
        if events & select.EPOLLOUT:
            outbound.blocked = False
            self._flush(outbound)
        if events & ~select.EPOLLOUT:
            self._read(inbound)

    def _accept(self, listener: socket.socket, path: Path) -> None:
        try:
            near, _ = listener.accept()
        except OSError:
            return  # it went away again
        now = self._clock()
        far = socket.socket()
        try:
            far.connect((HOST, path.target_port))
        except OSError:
            far.close()
            near.close()
            return
        link = _Link(near, far, path.rtt_ms / 1000, now, listener.getsockname()[1])
        for end in (near, far):
            end.setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._by_fd[end.fileno()] = link
        self._interest(link)

    def _read(self, direction: _Direction) -> None:
        if direction.link.over:
            return
        try:
            data = direction.source.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self._break(direction.link)
            return
        direction.wire.send(data, self._clock())
        direction.read_all = not data
        direction.paused = direction.wire.waiting_bytes > BACKLOG_BYTES
        self._interest(direction.link)
        self._set_timer(direction)

    def _hand_over_what_is_due(self) -> None:
        timers = self._timers
        while timers and timers[0][0] <= self._clock():
            at, _, direction = heapq.heappop(timers)
            if direction.timer_at != at or direction.link.over:
                continue
            direction.timer_at = None
            self._hand_over(direction, self._clock())

    def _hand_over(self, direction: _Direction, now: float) -> None:
        late = self.lateness[direction.link.port]
        for due, data in direction.wire.arrived(now):
            late.add((now - due) * 1e6)
            direction.out += data
            direction.ended = direction.ended or not data
        if direction.paused and direction.wire.waiting_bytes <= BACKLOG_BYTES // 2:
            direction.paused = False
        self._flush(direction)
        self._set_timer(direction)

    def _set_timer(self, direction: _Direction) -> None:
        if direction.link.over:
            return
        at = direction.wire.next_at()
        if at is not None and at != direction.timer_at:
            direction.timer_at = at
            self._count += 1
            heapq.heappush(self._timers, (at, self._count, direction))

    def _flush(self, direction: _Direction) -> None:
        if direction.out and not direction.blocked:
            try:
                del direction.out[: direction.sink.send(direction.out)]
            except BlockingIOError:
                pass
            except OSError:
                self._break(direction.link)
                return
        direction.blocked = bool(direction.out)
        self._interest(direction.link)
        if direction.ended and not direction.out:
            link = direction.link
            with contextlib.suppress(OSError):
                direction.sink.shutdown(socket.SHUT_WR)
            if all(each.ended and not each.out for each in (link.towards, link.back)):
                self._break(link)

    def _interest(self, link: _Link) -> None:
        """Watch for what the link waits for. A socket that waits for nothing is left out: epoll would go on telling
        that it has hung up."""
        if link.over:
            return
        for end, inbound, outbound in ((link.near, link.towards, link.back), (link.far, link.back, link.towards)):
            fd = end.fileno()
            reading = not (inbound.read_all or inbound.paused)
            events = (select.EPOLLIN if reading else 0) | (select.EPOLLOUT if outbound.blocked else 0)
            known = self._events.get(fd, 0)
            if events == known:
                continue
            if not known:
                self._epoll.register(fd, events)
            elif events:
                self._epoll.modify(fd, events)
            else:
                self._epoll.unregister(fd)
            self._events[fd] = events

    def _break(self, link: _Link) -> None:
        """Close both ends at once."""
        if link.over:
            return
        link.over = True
        for end in (link.near, link.far):
            if self._events.pop(end.fileno(), 0):
                self._epoll.unregister(end.fileno())
            del self._by_fd[end.fileno()]
            end.close()

    def _close(self) -> None:
        for link in set(self._by_fd.values()):
            self._break(link)
        for listener, _ in self._listeners.values():
            listener.close()
        self._epoll.close()
        self._woken.close()
        self._waker.close()


class Relayed:
    """A relay in a process of its own, as `relayed` gives it."""

    def __init__(self, process: subprocess.Popen[str], ports: Sequence[int]) -> None:
        self._process = process
        self.ports = ports
        """Where each path listens, in their order."""

    def lateness(self) -> dict[int, Histogram]:
        """By port, how late bytes were handed over since this was last asked (the first time: since the start)."""
        assert self._process.stdin is not None
        self._process.stdin.write("lateness\n")
        self._process.stdin.flush()
        told: dict[str, Any] = _told(self._process)["lateness"]
        return {int(port): Histogram.from_json(found) for port, found in told.items()}


@contextlib.contextmanager
def relayed(paths: Sequence[Path]) -> Iterator[Relayed]:
    """A relay for these paths while the block runs. Raises RelayFailed when it does not begin to listen."""
    texts = [f"{path.port}:{path.target_port}:{path.rtt_ms:g}" for path in paths]
    process = subprocess.Popen(
        [sys.executable, "-m", "loadtests.distance", *texts],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield Relayed(process, [int(each["port"]) for each in _told(process)["listening"]])
        finally:
            assert process.stdin is not None
            process.stdin.close()


def _told(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    assert process.stderr is not None
    line = process.stdout.readline()
    if not line:
        raise RelayFailed(f"the relay ended: {process.stderr.read().strip()}")
    told: dict[str, Any] = json.loads(line)
    return told


# -- how exact it is ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Errors:
    """How much longer than it should exchanges at one distance took, microseconds."""

    rtt_ms: float
    open: Histogram
    """A few bytes each way over an open connection: one round trip."""
    new: Histogram
    """30 kB over a new connection: three."""


CHECKED_MS = (2.0, 10.0, 20.0, 80.0, 180.0)
CHECK_ANSWER_BYTES = 30_000


def check(distances_ms: Sequence[float] = CHECKED_MS, seconds: float = 2.0) -> list[Errors]:
    """Exchanges with a server that answers at once, `seconds` for each distance and kind; one after the other."""
    with socket.create_server((HOST, 0)) as server:
        threading.Thread(target=_answer_at_once, args=(server,), daemon=True).start()
        target = server.getsockname()[1]
        with relayed([Path(0, target, rtt_ms) for rtt_ms in distances_ms]) as relay:
            return [_errors(port, rtt_ms, seconds) for port, rtt_ms in zip(relay.ports, distances_ms, strict=True)]


def _errors(port: int, rtt_ms: float, seconds: float) -> Errors:
    found = Errors(rtt_ms, Histogram(), Histogram())
    with socket.create_connection((HOST, port)) as connection:
        _exchange(connection, 1)  # the first one waits for the handshake, too
        for _ in range(max(5, int(seconds * 1000 / max(1.0, rtt_ms)))):
            found.open.add((_exchange(connection, 1) - rtt_ms / 1000) * 1e6)
    for _ in range(max(5, int(seconds * 1000 / max(1.0, 3 * rtt_ms)))):
        began = time.monotonic()
        with socket.create_connection((HOST, port)) as connection:
            _exchange(connection, CHECK_ANSWER_BYTES)
        found.new.add((time.monotonic() - began - 3 * rtt_ms / 1000) * 1e6)
    return found


def _exchange(connection: socket.socket, octets: int) -> float:
    """Ask for so many bytes; how long it took, seconds."""
    began = time.monotonic()
    connection.sendall(octets.to_bytes(4, "big"))
    while octets:
        octets -= len(connection.recv(min(octets, READ_BYTES)))
    return time.monotonic() - began


def _answer_at_once(server: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            connection, _ = server.accept()
            with connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                while asked := connection.recv(4):
                    connection.sendall(bytes(int.from_bytes(asked, "big")))


def check_table(found: Sequence[Errors]) -> str:
    """For people: by how many milliseconds exchanges took longer than one round trip, or three, and nothing else."""
    lines = [
        "| round trip, ms | open connection: median | p99 | most | new connection, 30 kB: median | p99 | most |",
        "|---|---|---|---|---|---|---|",
    ]
    for errors in found:
        cells = [f"{errors.rtt_ms:g}"]
        for each in (errors.open, errors.new):
            cells += [f"{us / 1000:.2f}" for us in (each.percentile_us(0.5), each.percentile_us(0.99), each.highest_us)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """2: it could not run."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.distance", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("paths", nargs="*", metavar="PORT:TARGET_PORT:MILLISECONDS", help="9082:8082:80; port 0: any")
    parser.add_argument("--check", action="store_true", help="measure how exact it is on this machine, and end")
    options = parser.parse_args(argv)
    if options.check:
        print(check_table(check()))
        return 0
    try:
        if not options.paths:
            raise BadPath("no paths: expected PORT:TARGET_PORT:MILLISECONDS, e.g. 9082:8082:80")
        paths = [read_path(text) for text in options.paths]
        relay = Relay(paths)
    except (BadPath, OSError) as exc:
        print(exc, file=sys.stderr)
        return 2
    listening = [
        {"port": port, "target_port": path.target_port, "rtt_ms": path.rtt_ms}
        for port, path in zip(relay.ports, paths, strict=True)
    ]
    _say({"listening": listening})
    threading.Thread(target=_obey, args=(relay,), daemon=True).start()
    with contextlib.suppress(KeyboardInterrupt):
        relay.run()
    return 0


def _obey(relay: Relay) -> None:
    for _ in sys.stdin:
        _say({"lateness": relay.take_lateness()})
    relay.stop()


def _say(told: dict[str, Any]) -> None:
    with contextlib.suppress(BrokenPipeError):
        os.write(sys.stdout.fileno(), json.dumps(told).encode() + b"\n")


if __name__ == "__main__":
    sys.exit(main())
