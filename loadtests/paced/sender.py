"""Sends requests at the moments they are meant for, over kept-alive connections, one process on one core.

One loop on epoll and plain sockets: what is due goes first, then what has come is read, one event at a time, looking
after each whether something has become due. A connection has one request under way; when all of an edge's are busy,
what is due waits in line and is sent late, which its corrected duration tells. Between events the process sleeps until
the next moment, exact to some tens of microseconds.
"""

from __future__ import annotations

import contextlib
import gc
import math
import select
import socket
import time
from array import array
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from loadtests.paced.answers import Answers, Unreadable
from loadtests.paced.schedule import Schedule
from loadtests.reading import status_of
from loadtests.recorder.recorder import Recorder
from loadtests.recorder.run import Label, Status

RECEIVE_BYTES = 262_144
LOOK_FOR_SILENCE_EVERY_S = 0.25
_NEVER = math.nan


@dataclass(slots=True)
class Sent:
    """What became of each moment of a schedule; times in seconds since the start."""

    sent_s: array[float]
    """NaN: never."""
    received_s: array[float]
    """When its answer was complete, or it was given up."""
    codes: array[int]
    """0: no complete answer."""
    sizes: array[int]
    cache_statuses: list[bytes]
    was_free: bytearray
    """1: a connection was idle when it was due."""
    ended_s: float = 0.0
    """When the last was answered or given up; when it was told to stop, where it was."""
    was_cut: bool = False
    """It was told to stop; what was due later than `ended_s` has no times."""

    @classmethod
    def nothing(cls, count: int) -> Sent:
        return cls(
            sent_s=array("d", [_NEVER]) * count,
            received_s=array("d", [_NEVER]) * count,
            codes=array("H", [0]) * count,
            sizes=array("Q", [0]) * count,
            cache_statuses=[b""] * count,
            was_free=bytearray(count),
        )


class _Connection:
    """One connection to an edge, open or to be opened for its next request."""

    __slots__ = ("answers", "edge", "number", "served", "socket", "unsent")

    def __init__(self, edge: int) -> None:
        self.edge = edge
        self.number = -1
        """Of the moment whose request is under way; -1: idle."""
        self.socket: socket.socket | None = None
        self.unsent = b""
        self.served = 0
        """Answers that came over the socket that it has now."""
        self.answers = Answers()


class Sender:
    """Carries out one schedule. `connections`: how many to each edge; `patience_s`: for an answer."""

    def __init__(self, schedule: Schedule, *, connections: int, patience_s: float) -> None:
        self._due_s = schedule.due_s
        self._which = schedule.which
        self._requests = schedule.requests()
        self._has_body = [asked.method != "HEAD" for asked in schedule.asked]
        edges = list(schedule.edges)
        self._edge_of = [edges.index(asked.edge) for asked in schedule.asked]
        parts = [urlsplit(address) for address in schedule.edges.values()]
        self._addresses = [_address(part.hostname or "", part.port or 80) for part in parts]
        self._patience_s = patience_s
        self._idle = [deque(_Connection(edge) for _ in range(connections)) for edge in range(len(edges))]
        self._waiting: list[deque[int]] = [deque() for _ in edges]
        self._all = [connection for idle in self._idle for connection in idle]
        self._by_fd: dict[int, _Connection] = {}
        self._epoll = select.epoll()
        self._under_way = 0
        self.began_at = 0.0
        """Second 0, on time.monotonic()."""
        self._stopped = False
        self._sent = Sent.nothing(len(self._due_s))

    def stop(self, *_: object) -> None:
        """Send nothing more; what is under way is waited for. May be called by a signal."""
        self._stopped = True

    def run(self, recorder: Recorder) -> Sent:
        """Everything sent and answered, or given up. The recorder is begun, pulsed and ended; it has no sample yet."""
        for connection in self._all:
            self._open(connection)
        _sleep_exactly()
        gc.collect()
        gc.disable()
        try:
            recorder.begin()
            self.began_at = time.monotonic()
            self._go(recorder)
            if not self._sent.was_cut:
                self._sent.ended_s = self._now_s()
                recorder.end(self._sent.ended_s)
        finally:
            gc.enable()
            self._epoll.close()
            for connection in self._all:
                if connection.socket is not None:
                    connection.socket.close()
        return self._sent

    def _go(self, recorder: Recorder) -> None:
        due_s, count, poll, began_at, clock = (
            self._due_s, len(self._due_s), self._epoll.poll, self.began_at, time.monotonic,
        )  # fmt: skip
        waits_on = [self._epoll.fileno()]
        at, look_again_s = 0, LOOK_FOR_SILENCE_EVERY_S
        next_s = due_s[0] if count else math.inf
        while next_s < math.inf or self._under_way or any(self._waiting):
            for fd, event in poll(0):
                if clock() - began_at >= next_s:
                    at = self._send_due(at)
                    next_s = due_s[at] if at < count else math.inf
                found = self._by_fd.get(fd)
                if found is not None:
                    self._happened(found, event)
            now_s = clock() - began_at
            if now_s >= next_s:
                at = self._send_due(at)
                next_s = due_s[at] if at < count else math.inf
                now_s = clock() - began_at
            # Here and not more often: a loop that comes round late is one that let answers lie in their sockets.
            if now_s >= recorder.next_pulse_s:
                recorder.pulse(now_s)
                if self._stopped and not self._sent.was_cut:
                    at, next_s = count, math.inf
                    self._cut_short(now_s)
                    recorder.end(now_s)
                if now_s >= look_again_s:
                    self._look_for_silence(now_s)
                    look_again_s = now_s + LOOK_FOR_SILENCE_EVERY_S
                now_s = clock() - began_at
            until_s = min(next_s, recorder.next_pulse_s)
            if until_s > now_s:
                # epoll's own timeout counts in milliseconds.
                select.select(waits_on, (), (), until_s - now_s)

    def _now_s(self) -> float:
        return time.monotonic() - self.began_at

    def _send_due(self, at: int) -> int:
        """Send what is due, or put it in line; the number of the next moment."""
        count, due_s = len(self._due_s), self._due_s
        while at < count and due_s[at] <= self._now_s():
            edge = self._edge_of[self._which[at]]
            if self._idle[edge]:
                self._sent.was_free[at] = 1
                # In turn, so that every worker behind the edge gets its share.
                connection = self._idle[edge].popleft()
                if not self._send(connection, at):
                    self._idle[edge].append(connection)
            else:
                self._waiting[edge].append(at)
            at += 1
        return at

    def _send(self, connection: _Connection, number: int) -> bool:
        """Whether the request of that moment is under way; otherwise it is given up, and the connection idle."""
        request = self._requests[self._which[number]]
        connection.number = number
        connection.answers.expect(has_body=self._has_body[self._which[number]])
        self._under_way += 1
        self._sent.sent_s[number] = self._now_s()
        if connection.socket is None:
            return self._send_over_new(connection, request)
        try:
            written = connection.socket.send(request)
        except BlockingIOError:
            written = 0
        except OSError:
            # Closed by the other side meanwhile.
            self._close(connection)
            return self._send_over_new(connection, request)
        if written < len(request):
            connection.unsent = request[written:]
            self._epoll.modify(connection.socket.fileno(), select.EPOLLIN | select.EPOLLOUT)
        return True

    def _send_over_new(self, connection: _Connection, request: bytes) -> bool:
        """Whether a connection could be begun, over which `request` then goes; otherwise it is given up."""
        if self._open(connection):
            connection.unsent = request
            return True
        self._give_up(connection)
        return False

    def _open(self, connection: _Connection) -> bool:
        """Begin to connect; what is unsent goes when that is done. False: this cannot even begin."""
        family, address = self._addresses[connection.edge]
        opened = socket.socket(family, socket.SOCK_STREAM)
        opened.setblocking(False)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.socket, connection.served = opened, 0
        self._by_fd[opened.fileno()] = connection
        self._epoll.register(opened.fileno(), select.EPOLLIN | select.EPOLLOUT)
        try:
            opened.connect(address)
        except BlockingIOError:
            pass
        except OSError:
            self._close(connection)
            return False
        return True

    def _close(self, connection: _Connection) -> None:
        if connection.socket is not None:
            del self._by_fd[connection.socket.fileno()]
            with contextlib.suppress(OSError):
                self._epoll.unregister(connection.socket.fileno())
            connection.socket.close()
            connection.socket = None
        connection.unsent = b""

    def _happened(self, connection: _Connection, event: int) -> None:
        assert connection.socket is not None
        if event & select.EPOLLOUT:
            try:
                if connection.unsent:
                    connection.unsent = connection.unsent[connection.socket.send(connection.unsent) :]
            except BlockingIOError:
                pass
            except OSError:
                self._broken(connection)
                return
            if not connection.unsent and not event & (select.EPOLLERR | select.EPOLLHUP):
                self._epoll.modify(connection.socket.fileno(), select.EPOLLIN)
        if event & ~select.EPOLLOUT:
            self._receive(connection)

    def _receive(self, connection: _Connection) -> None:
        assert connection.socket is not None
        try:
            data = connection.socket.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self._broken(connection)
            return
        received_s = self._now_s()
        if connection.number < 0:
            # Closed while idle, or bytes that nobody asked for.
            self._close(connection)
            return
        answers = connection.answers
        try:
            complete = answers.feed(data) if data else answers.closed()
        except Unreadable:
            self._fail(connection)
            return
        if complete:
            self._complete(connection, received_s)
        elif not data:
            self._broken(connection)

    def _complete(self, connection: _Connection, received_s: float) -> None:
        sent, number, answers = self._sent, connection.number, connection.answers
        sent.received_s[number] = received_s
        sent.codes[number] = answers.code
        sent.sizes[number] = answers.size
        sent.cache_statuses[number] = answers.cache_status
        connection.served += 1
        if not answers.keeps:
            self._close(connection)
        connection.number = -1
        self._under_way -= 1
        self._go_on(connection)

    def _go_on(self, connection: _Connection) -> None:
        """The connection is idle: who waits longest is next."""
        waiting = self._waiting[connection.edge]
        while waiting:
            if self._send(connection, waiting.popleft()):
                return
        self._idle[connection.edge].append(connection)

    def _broken(self, connection: _Connection) -> None:
        """The connection failed. One that had served before and brought no byte was closed while the request was on its
        way, as servers do with idle ones: the request goes again, once, over a new one, and its time goes on."""
        again = connection.served > 0 and not connection.answers.begun
        self._close(connection)
        if connection.number < 0:
            return
        if not again:
            self._fail(connection)
        elif not self._send_over_new(connection, self._requests[self._which[connection.number]]):
            self._go_on(connection)

    def _fail(self, connection: _Connection) -> None:
        """No complete answer will come to what is under way; somebody else's turn."""
        self._give_up(connection)
        self._go_on(connection)

    def _give_up(self, connection: _Connection) -> None:
        self._sent.received_s[connection.number] = self._now_s()
        self._sent.codes[connection.number] = 0
        self._close(connection)
        connection.number = -1
        self._under_way -= 1

    def _look_for_silence(self, now_s: float) -> None:
        """Give up whatever has waited for longer than `patience_s`, sent or not."""
        for connection in self._all:
            if connection.number >= 0 and now_s - self._sent.sent_s[connection.number] > self._patience_s:
                self._fail(connection)
        for waiting in self._waiting:
            while waiting and now_s - self._due_s[waiting[0]] > self._patience_s:
                self._sent.received_s[waiting.popleft()] = now_s

    def _cut_short(self, now_s: float) -> None:
        """Nothing is due any more, and nobody who waits in line is sent."""
        self._sent.ended_s, self._sent.was_cut = now_s, True
        for waiting in self._waiting:
            for number in waiting:
                self._sent.received_s[number] = now_s
            waiting.clear()


def _address(host: str, port: int) -> tuple[int, tuple[object, ...]]:
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    return family, address


def _sleep_exactly() -> None:
    """Linux may wake a process 50 us late, to wake several at once; not this one. proc(5), timerslack_ns."""
    with contextlib.suppress(OSError):
        Path("/proc/self/timerslack_ns").write_text("1")


def tell(recorder: Recorder, schedule: Schedule, sent: Sent) -> None:
    """Every sample to the recorder, when the run is over: meanwhile it would have cost half of the generator's time."""
    statuses: dict[tuple[int, bytes], Status] = {}
    labels: dict[tuple[str, Status, int], Label] = {}
    until_s = sent.ended_s if sent.was_cut else math.inf
    moments = zip(schedule.phase_of(), schedule.due_s, schedule.which, strict=True)
    for number, (phase, due_s, which) in enumerate(moments):
        if due_s > until_s:
            break
        asked, code, said = schedule.asked[which], sent.codes[number], sent.cache_statuses[number]
        status = statuses.get((code, said))
        if status is None:
            headers = {"cache-status": said.decode("latin-1")} if said else {}
            status = statuses[code, said] = status_of(headers, code or None)
        label = labels.get((phase, status, which))
        if label is None:
            label = labels[phase, status, which] = Label(phase, status, asked.route, asked.edge, asked.market)
        sent_s = sent.sent_s[number]
        recorder.sample(
            label,
            asked.target,
            due_s,
            None if math.isnan(sent_s) else sent_s,
            sent.received_s[number],
            code or None,
            sent.sizes[number],
            was_free=bool(sent.was_free[number]),
        )
