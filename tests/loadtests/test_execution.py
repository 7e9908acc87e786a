"""Arrivals are sent when they are due by whoever of their kind is free, and all who were meant to ask are counted."""

from __future__ import annotations

import socket
import threading

import pytest

from loadtests import people
from loadtests.execution import FEWEST_CONNECTIONS, FIELDS, Execution, Told, User
from loadtests.http1 import Answer
from loadtests.judge import Findings, Judge
from loadtests.oracle import Oracle, PriceKey
from loadtests.plan import Arrival, Person, Plan
from loadtests.recorder.recorder import NEVER_SENT, NO_ANSWER, Recorder
from loadtests.recorder.run import Phase, Status

KEY = PriceKey("eu-eur", "SKU-1")
PAGE = people.product("eu-eur", "one")
PRICE = people.price(*KEY)
BEGUN_AT = 1_000.0
HIT = {"cache-status": "eu; hit; ttl=9", "content-type": "application/json", "etag": '"a"'}


def arrival(
    at_s: float, person: Person = Person.BROWSER, *, visit=PRICE, again: bool = False, visitor: int = 1
) -> Arrival:
    return Arrival(at_s, "run", person, visitor, "eu", "GET", visit, asks_again=again)


def execution_of(*arrivals: Arrival, url: str = "http://127.0.0.1:1") -> tuple[Execution, list[Told]]:
    """Begun at BEGUN_AT, over in ten seconds."""
    plan = Plan("test", 1, (Phase("run", 0, 10),), arrivals, (), (KEY,))
    recorder = Recorder(
        scenario="test",
        description="",
        seed=1,
        generator="locust",
        request_digest=plan.digest,
        phases=plan.phases,
        duration_s=10.0,
    )
    recorder.begin()
    told: list[Told] = []
    oracle = Oracle()
    oracle.start(KEY, 1000)
    found = Execution(plan, {"eu": url}, recorder, Judge(oracle, Findings()), tell=told.append, timeout_s=5.0)
    found.begun_at = BEGUN_AT
    return found, told


def answer(sent_at: float, seconds: float, code: int = 200, amount: int = 1000, **fields: str) -> Answer:
    body = f'{{"sku": "SKU-1", "amount_minor": {amount}}}'.encode()
    return Answer(code, HIT | fields, body, BEGUN_AT + sent_at, BEGUN_AT + sent_at + seconds)


def test_an_answer_counts_from_when_it_was_meant_to_be_asked_for_and_from_when_it_was():
    one = arrival(2.0)
    execution, told = execution_of(one)
    assert execution.take(Person.BROWSER) is one
    execution.answered(one, answer(2.5, 0.004), was_free=False)
    assert execution.done.is_set()
    (cell,) = execution.recorder.so_far()
    assert (cell.label.status, cell.label.route, cell.label.market) == (Status.HIT, "price", "eu-eur")
    assert (cell.corrected.highest_us, cell.uncorrected.highest_us) == (504_000, 4_000)
    assert [one.seconds for one in told] == [pytest.approx(0.004)]
    assert told[0].why is None


def test_each_kind_of_person_takes_its_own_arrivals_in_their_order():
    first, second, bot = arrival(1), arrival(2), arrival(1.5, Person.BOT)
    execution, _ = execution_of(first, bot, second)
    assert execution.people == {Person.BROWSER: 2, Person.BOT: 1}
    assert [execution.take(Person.BROWSER) for _ in range(3)] == [first, second, None]
    assert execution.take(Person.BOT) is bot


def test_an_etag_is_remembered_for_who_is_going_to_ask_again():
    first, other, again = arrival(1), arrival(1, visitor=2), arrival(2, again=True)
    execution, _ = execution_of(first, other, again)
    assert execution.etag(again) is None
    execution.answered(other, answer(1, 0.1, etag='"other"'), was_free=True)
    assert execution.etag(again) is None
    execution.answered(first, answer(1, 0.1), was_free=True)
    assert execution.etag(again) == '"a"'
    assert execution.etag(first) is None


@pytest.mark.parametrize(
    ("given", "why", "status"),
    [
        pytest.param(answer(1, 0.1), None, Status.HIT, id="well"),
        pytest.param(answer(1, 0.1, 503), "status 503", Status.ERROR, id="an error"),
        pytest.param(answer(1, 0.1, amount=7), "a price that it must not show", Status.HIT, id="a price never set"),
        pytest.param(answer(1, 0.1, 404), None, Status.HIT, id="what is not there, and never was"),
    ],
)
def test_what_fails_a_request_for_locust(given, why, status):
    one = arrival(1)
    execution, told = execution_of(one)
    execution.answered(one, given, was_free=True)
    assert told[0].why == why
    assert [cell.label.status for cell in execution.recorder.so_far()] == [status]


def test_what_nobody_sent_in_time_is_counted_and_what_was_not_due_is_not():
    due, later = arrival(1), arrival(5)
    execution, told = execution_of(due, later)
    execution.give_up(BEGUN_AT + 3.0)
    (cell,) = execution.recorder.so_far()
    assert (cell.label.status, cell.codes, cell.corrected.highest_us) == (Status.ERROR, {NEVER_SENT: 1}, 2_000_000)
    assert not cell.uncorrected.count
    assert told == []


# --- users ---------------------------------------------------------------------------------------------------------


class Server:
    """Answers each request with the next of `answers`, in a thread; `asked` are their heads."""

    def __init__(self, *answers: bytes) -> None:
        self.asked: list[bytes] = []
        self._answers = list(answers)
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        # A connection each: an execution opens some before it uses any again.
        for text in self._answers:
            connection, _ = self._listener.accept()
            self.asked.append(connection.recv(65536))
            connection.sendall(text)
            self._open.append(connection)

    def close(self) -> None:
        self._thread.join(10)
        for each in (*self._open, self._listener):
            each.close()


OK = b'HTTP/1.1 200 OK\r\nCache-Status: eu; hit; ttl=9\r\nETag: "a"\r\nContent-Length: 0\r\n\r\n'


def test_a_user_sleeps_until_its_arrival_is_due_and_sends_what_the_plan_says():
    first, again = arrival(1, visit=PAGE), arrival(2, visit=PAGE, again=True)
    again = again._replace(fields=(("Accept-Language", "de"),))
    server = Server(OK, OK)
    execution, _ = execution_of(first, again, url=server.url)
    execution.begun_at = 1e12  # nothing is ever due by itself
    slept: list[float] = []
    user = User(execution, Person.BROWSER, slept.append)
    assert [user.next(), user.next(), user.next()] == [True, True, False]
    execution.close()
    server.close()
    assert slept == [1e12 + 1, 1e12 + 2]
    for name, value in FIELDS[Person.BROWSER]:
        assert f"\r\n{name}: {value}\r\n".encode() in server.asked[0]
    assert b"If-None-Match" not in server.asked[0]
    assert b'\r\nIf-None-Match: "a"\r\n' in server.asked[1]
    assert b"\r\nAccept-Language: de\r\n" in server.asked[1]


def test_a_user_that_comes_too_late_sends_at_once_and_was_not_free():
    server = Server(OK)
    execution, _ = execution_of(arrival(1), url=server.url)
    slept: list[float] = []
    user = User(execution, Person.BROWSER, slept.append)
    assert user.next()
    execution.close()
    server.close()
    assert slept == []
    run = execution.recorder.finish(5.0)
    assert (run.check.sent, run.check.late_share, execution.waited) == (1, 0.0, 1)


def test_connections_take_turns_once_there_are_a_few():
    execution, _ = execution_of(arrival(1))
    first = [execution.connection("eu") for _ in range(FEWEST_CONNECTIONS)]
    for connection in first:
        execution.give_back("eu", connection)
    assert [execution.connection("eu") for _ in first] == first
    assert execution.connection("eu") not in first


def test_no_answer_is_an_error_that_is_counted():
    execution, told = execution_of(arrival(1))
    user = User(execution, Person.BROWSER, lambda _: None)
    assert user.next()
    (cell,) = execution.recorder.so_far()
    assert (cell.label.status, cell.codes) == (Status.ERROR, {NO_ANSWER: 1})
    assert told[0].why is not None
    assert "refused" in told[0].why


def test_after_a_stop_nothing_more_is_sent():
    execution, told = execution_of(arrival(1), arrival(2))
    execution.begun_at = 1e12
    execution.stopped_at = 1e12 + 1.5
    user = User(execution, Person.BROWSER, lambda _: None)
    assert execution.has_unfinished()
    assert user.next()  # was due before, and gets no answer at this address
    assert not execution.has_unfinished()
    assert not user.next()
    assert len(told) == 1


def test_of_two_requests_that_are_alike_each_has_to_come_to_its_end():
    execution, _ = execution_of(arrival(1), arrival(1))
    execution.stopped_at = BEGUN_AT + 2
    one, other = execution.take(Person.BROWSER), execution.take(Person.BROWSER)
    assert one == other is not None
    execution.let_go(arrival(1))
    assert execution.has_unfinished()
    execution.let_go(arrival(1))
    assert not execution.has_unfinished()


def test_a_user_that_is_told_to_stop_in_the_middle_tells_of_what_it_had_sent():
    class Stop(BaseException):
        """As gevent ends a greenlet."""

    execution, _ = execution_of(arrival(1), arrival(2))
    execution.begun_at = 1e12

    def stop(_: float) -> None:
        raise Stop

    with pytest.raises(Stop):
        User(execution, Person.BROWSER, stop).next()
    assert execution.recorder.so_far() == []
