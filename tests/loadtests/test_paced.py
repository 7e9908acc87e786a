"""The paced generator against scripted servers: what is due is sent, and everything that was meant is told of."""

from __future__ import annotations

import socket
import threading
from array import array
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from itertools import pairwise

import pytest

from loadtests.paced.schedule import STEADY, WARM_UP, Asked, Schedule, Spacing, steady
from loadtests.paced.sender import Sender, Sent, tell
from loadtests.recorder.histogram import Histogram
from loadtests.recorder.recorder import Recorder
from loadtests.recorder.run import Phase, Run

pytestmark = pytest.mark.alone

HIT = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nCache-Status: eu-1; hit; ttl=9\r\n\r\nhello"
MISS = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nCache-Status: eu-1; fwd=uri-miss\r\n\r\nno"

Script = Callable[[int, bytes], bytes | None]
"""Number of the request over all connections, and its head -> the answer; None: the connection is closed instead."""


class Edge:
    """Answers as its script says; one thread for each connection."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.requests: list[bytes] = []
        self.connections = 0
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._start(self._accept)

    def _start(self, what: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=what, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                accepted, _ = self._listener.accept()
                self.connections += 1
                self._open.append(accepted)
                self._start(self._serve, accepted)

    def _serve(self, viewer: socket.socket) -> None:
        got = b""
        with suppress(OSError), viewer:
            while piece := viewer.recv(65_536):
                got += piece
                while b"\r\n\r\n" in got:
                    head, _, got = got.partition(b"\r\n\r\n")
                    with self._lock:
                        number = len(self.requests)
                        self.requests.append(head)
                    answer = self.script(number, head)
                    if answer is None:
                        return
                    viewer.sendall(answer)

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for each in self._open:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)


@contextmanager
def edge(script: Script) -> Iterator[Edge]:
    found = Edge(script)
    try:
        yield found
    finally:
        found.close()


def ask(name: str = "eu", target: str = "/p", **more: str) -> Asked:
    return Asked(name, "product", "eu-eur", target, **more)  # type: ignore[arg-type]


def at(edges: dict[str, str], due_s: list[float], asked: list[Asked] | None = None) -> Schedule:
    asked = asked or [ask(name) for name in edges]
    which = array("L", (number % len(asked) for number in range(len(due_s))))
    return Schedule(edges, asked, [Phase("rest", 0.0, 60.0)], array("d", due_s), which)


def carried_out(schedule: Schedule, *, connections: int = 4, patience_s: float = 30.0, stop: bool = False) -> Run:
    recorder = Recorder(
        scenario="volume",
        description="",
        seed=1,
        generator="paced",
        request_digest=schedule.digest,
        phases=schedule.phases,
        duration_s=schedule.duration_s,
    )
    for due_s in schedule.due_s:
        recorder.intend(due_s)
    sender = Sender(schedule, connections=connections, patience_s=patience_s)
    if stop:
        sender.stop()
    sent: Sent = sender.run(recorder)
    tell(recorder, schedule, sent)
    return recorder.finish(sent.ended_s, cut_short="interrupted" if sent.was_cut else None)


def codes(run: Run) -> dict[tuple[str, str], int]:
    return {(cell.label.status.value, code): count for cell in run.cells for code, count in cell.codes.items()}


def merged(run: Run, which: str) -> Histogram:
    return Histogram.merged(getattr(cell, which) for cell in run.cells)


def test_everything_is_sent_when_it_is_due_and_counted_by_what_became_of_it():
    due_s = [number * 0.002 for number in range(200)]
    with edge(lambda number, head: MISS if number == 0 else HIT) as eu:
        run = carried_out(at({"eu": eu.url}, due_s, [ask(fields=(("User-Agent", "x"),))]))  # type: ignore[arg-type]
    assert codes(run) == {("hit", "200"): 199, ("miss", "200"): 1}
    assert (run.check.intended, run.check.sent, run.check.done) == (200, 200, 200)
    assert eu.requests[0] == f"GET /p HTTP/1.1\r\nHost: {eu.url.removeprefix('http://')}\r\nUser-Agent: x".encode()
    assert sum(cell.body_bytes for cell in run.cells) == 199 * 5 + 2
    assert sum(second.intended for second in run.seconds) == 200
    assert [(each.target, each.requests, each.misses) for each in run.addresses] == [("/p", 200, 1)]
    # Nothing is sent before its time, and nothing arrives before it is sent.
    assert merged(run, "corrected").lowest_us >= merged(run, "uncorrected").lowest_us > 0


def test_a_stall_shows_in_corrected_p99_and_not_in_uncorrected():
    """One connection and 300 requests in 0.9 s; the server takes 0.5 s for one of them."""
    stalled = threading.Event()

    def script(number: int, head: bytes) -> bytes:
        if number == 100:
            stalled.wait(0.5)
        return HIT

    with edge(script) as eu:
        run = carried_out(at({"eu": eu.url}, [number * 0.003 for number in range(300)]), connections=1)
    corrected, uncorrected = merged(run, "corrected"), merged(run, "uncorrected")
    assert corrected.count == uncorrected.count == 300
    assert corrected.percentile_us(0.99) > 400_000
    assert uncorrected.highest_us > 490_000
    assert uncorrected.percentile_us(0.99) < corrected.percentile_us(0.99) / 4
    # More than half of all was sent late; nobody was free to send it sooner.
    assert run.check.late_share < 0.3


def test_requests_go_to_their_edges_and_are_counted_there():
    with ExitStack() as stack:
        eu, us = (stack.enter_context(edge(lambda number, head: HIT)) for _ in range(2))
        run = carried_out(at({"eu": eu.url, "us": us.url}, [number * 0.001 for number in range(30)]))
    assert {cell.label.edge: cell.requests for cell in run.cells} == {"eu": 15, "us": 15}
    assert len(eu.requests) == len(us.requests) == 15


def test_connections_take_turns():
    with edge(lambda number, head: HIT) as eu:
        carried_out(at({"eu": eu.url}, [number * 0.001 for number in range(40)]), connections=8)
    assert eu.connections == 8


def test_a_connection_that_was_closed_while_idle_is_opened_again_and_nothing_is_lost():
    served: dict[str, int] = {}

    def script(number: int, head: bytes) -> bytes | None:
        name = threading.current_thread().name
        served[name] = served.get(name, 0) + 1
        return None if served[name] == 3 else HIT

    with edge(script) as eu:
        run = carried_out(at({"eu": eu.url}, [number * 0.002 for number in range(60)]), connections=2)
    assert codes(run) == {("hit", "200"): 60}
    assert eu.connections > 2
    assert len(eu.requests) > 60


def test_a_server_that_closes_after_each_answer_is_asked_over_new_connections():
    closing = HIT.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    with edge(lambda number, head: closing) as eu:
        run = carried_out(at({"eu": eu.url}, [number * 0.002 for number in range(20)]), connections=2)
    assert codes(run) == {("hit", "200"): 20}
    assert eu.connections >= 20


def test_an_edge_that_is_down_is_an_error_for_everybody_who_would_have_come():
    with edge(lambda number, head: HIT) as eu:
        nobody = eu.url
    run = carried_out(at({"eu": nobody}, [number * 0.001 for number in range(2000)]), connections=2)
    assert codes(run) == {("error", "no answer"): 2000}
    assert (run.check.sent, run.check.done) == (2000, 0)


def test_a_generator_that_is_asked_for_too_much_marks_its_run_invalid():
    """100,000 a second: more than a process sends, whoever answers."""
    with edge(lambda number, head: HIT) as eu:
        nobody = eu.url
    schedule = at({"eu": nobody}, [number / 100_000 for number in range(20_000)])
    run = carried_out(replace(schedule, phases=[Phase("rest", 0.0, 0.2)]))
    assert run.check.intended == run.check.sent == 20_000
    assert any("of the requests were sent before the end" in fault for fault in run.check.faults)


def test_half_an_answer_is_no_answer():
    with edge(lambda number, head: HIT[:-2] if number < 3 else None) as eu:
        run = carried_out(at({"eu": eu.url}, [0.0, 0.001, 0.002]), connections=3, patience_s=0.3)
    assert codes(run) == {("error", "no answer"): 3}
    assert merged(run, "corrected").lowest_us >= 300_000


def test_whoever_waited_in_line_for_too_long_was_never_sent_and_counts_with_that_time():
    silence = threading.Event()

    def script(number: int, head: bytes) -> bytes | None:
        silence.wait(20)
        return None

    with edge(script) as eu:
        run = carried_out(at({"eu": eu.url}, [0.0, 0.05, 0.1]), connections=1, patience_s=0.6)
        silence.set()
    assert sum(codes(run).values()) == 3
    assert codes(run)["error", "no answer"] >= 1
    corrected = merged(run, "corrected")
    assert corrected.count == 3
    assert corrected.lowest_us >= 600_000
    assert not run.check.valid


def test_a_head_is_answered_without_a_body():
    with edge(lambda number, head: HIT.removesuffix(b"hello") if head.startswith(b"HEAD") else HIT) as eu:
        run = carried_out(at({"eu": eu.url}, [0.0, 0.01, 0.02, 0.03], [ask(), ask(method="HEAD")]), connections=1)
    assert codes(run) == {("hit", "200"): 4}
    assert sum(cell.body_bytes for cell in run.cells) == 10


def test_a_generator_that_is_told_to_stop_says_so_and_misses_nothing_that_was_due_later():
    with edge(lambda number, head: HIT) as eu:
        run = carried_out(at({"eu": eu.url}, [0.0, 0.001, 30.0, 31.0]), stop=True)
    assert run.check.faults[0].endswith(": interrupted")
    assert len(run.check.faults) <= 2
    assert run.duration_s < 30
    assert run.check.intended <= 2


@pytest.mark.parametrize(
    "asked",
    [ask(target="/a b\r\nX: y"), ask(fields=(("A", "b\r\n\r\nGET /"),)), ask(method="POST")],  # type: ignore[arg-type]
)
def test_what_cannot_stand_in_a_request_is_not_sent(asked):
    with pytest.raises(ValueError, match=r"line break|only GET and HEAD"):
        at({"eu": "http://127.0.0.1:1"}, [0.0], [asked]).requests()


# --- schedules ---

EDGES = {"eu": "http://127.0.0.1:1"}
ASKED = [ask(target=f"/{number}") for number in range(5)]


def made(seed: int = 1, spacing: Spacing = Spacing.RANDOM, weights: list[float] | None = None) -> Schedule:
    return steady(EDGES, ASKED, rate_per_s=1000, duration_s=8, warmup_s=2, seed=seed, weights=weights, spacing=spacing)


def test_a_steady_schedule_has_its_rate_and_its_warm_up():
    schedule = made()
    assert len(schedule.due_s) == pytest.approx(10_000, abs=400)
    assert list(schedule.due_s) == sorted(schedule.due_s)
    assert schedule.due_s[0] >= 0
    assert schedule.due_s[-1] < 10
    assert [(phase.name, phase.from_s, phase.to_s, phase.counts) for phase in schedule.phases] == [
        (WARM_UP, 0, 2, False),
        (STEADY, 2, 10, True),
    ]
    phases = list(schedule.phase_of())
    assert phases.count(WARM_UP) == sum(due_s < 2 for due_s in schedule.due_s)
    assert list(schedule.which[:7]) == [0, 1, 2, 3, 4, 0, 1]


def test_gaps_are_a_metronomes_or_those_of_people():
    even = made(spacing=Spacing.EVEN).due_s
    assert {round(after - before, 9) for before, after in pairwise(even)} == {0.001}
    random = made().due_s
    gaps = [after - before for before, after in pairwise(random)]
    # Of exponential gaps e^-1 are longer than the mean.
    assert sum(gap > 0.001 for gap in gaps) / len(gaps) == pytest.approx(0.368, abs=0.02)


def test_weights_say_how_often():
    schedule = made(weights=[8, 1, 1, 0, 0])
    counted = [which for due_s, which in zip(schedule.due_s, schedule.which, strict=True) if due_s >= 2]
    assert counted.count(0) / len(counted) == pytest.approx(0.8, abs=0.02)
    assert counted.count(3) == 0


def test_the_same_seed_is_the_same_schedule_and_another_is_not():
    assert made(seed=3).digest == made(seed=3).digest
    assert made(seed=3).digest != made(seed=4).digest
    assert made(weights=[1, 2, 3, 4, 5]).digest != made().digest


def test_a_schedule_is_read_as_it_was_written(tmp_path):
    schedule = made()
    schedule.write(tmp_path)
    again = Schedule.read(tmp_path)
    assert again.digest == schedule.digest
    assert again.requests() == schedule.requests()
    assert list(again.phases) == list(schedule.phases)


@pytest.mark.parametrize("wrong", [{"rate_per_s": 0}, {"duration_s": 0}, {"warmup_s": -1}, {"asked": []}])
def test_nothing_to_send_is_refused(wrong):
    sound = {"edges": EDGES, "asked": ASKED, "rate_per_s": 10, "duration_s": 1, "warmup_s": 0, "seed": 1}
    with pytest.raises(ValueError, match="nothing to send"):
        steady(**sound | wrong)
