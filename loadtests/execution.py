"""Carrying out the requests of a plan: each is sent when it is due by whoever of its kind is free, and told of exactly.

Users are a pool. A user takes the next arrival of its kind, sleeps until it is due, sends it and waits for the answer.
When nobody is free the arrival is sent late, and counts from when it was due all the same: that is what the next
shopper would have felt. Nothing here knows locust; without it, users are threads.
"""

from __future__ import annotations

import math
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from loadtests.client import CODINGS, Connection
from loadtests.http1 import Answer, NoAnswer
from loadtests.judge import Judge
from loadtests.plan import Arrival, Person, Plan
from loadtests.reading import status_of
from loadtests.recorder.check import LATE_S
from loadtests.recorder.recorder import Recorder
from loadtests.recorder.run import Label, Status

LEAD_S = 0.5
"""From the beginning of an execution to second 0 of its run: users are on their places by then."""
FEWEST_CONNECTIONS = 12
"""To each edge, before any is used again: the kernel deals them out to its workers."""
PATIENCE_S = 20.0
"""How long after the last arrival was due answers are waited for; longer than `Connection.timeout_s`."""

_PEOPLE_FIELDS = (
    ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64) nearshelf-load"),
    ("Accept", "text/html,application/xhtml+xml,*/*;q=0.8"),
    ("Accept-Encoding", CODINGS),
)
_BOT_FIELDS = (("Accept", "*/*"), ("Accept-Encoding", "gzip"))
FIELDS: Mapping[Person, tuple[tuple[str, str], ...]] = {
    person: _BOT_FIELDS if person is Person.BOT else _PEOPLE_FIELDS for person in Person
}
"""What every request of a kind of person carries beside its own fields; a bot's say who it is."""


@dataclass(frozen=True, slots=True)
class Told:
    """What became of one request, for whoever keeps figures of its own."""

    arrival: Arrival
    seconds: float
    """From sending it to its answer."""
    body_bytes: int
    why: str | None
    """Why it failed; None: it did not."""


class Execution:
    """One run's requests."""

    def __init__(
        self,
        plan: Plan,
        edges: Mapping[str, str],
        recorder: Recorder,
        judge: Judge,
        *,
        tell: Callable[[Told], None] = lambda _: None,
        timeout_s: float = 15.0,
    ) -> None:
        """`edges`: name -> address. `tell`: called after each request, which is also recorded and judged."""
        self.plan = plan
        self.edges = edges
        self.recorder = recorder
        self.judge = judge
        self.timeout_s = timeout_s
        self.begun_at = 0.0
        """Second 0 of the run, on the monotonic clock."""
        self.stopped_at = math.inf
        """When somebody ended the run before its time: what is due after it is not sent."""
        self.done = threading.Event()
        """Everything has been sent, and answered or given up."""
        self._tell = tell
        self._waiting: dict[Person, deque[Arrival]] = {person: deque() for person in Person}
        self._connections: dict[str, deque[Connection]] = {edge: deque() for edge in edges}
        """Kept alive and free, whoever used them last."""
        self._opened = dict.fromkeys(edges, 0)
        self.waited = 0
        """Requests sent late because no user of their kind was free."""
        self._taken: Counter[Arrival] = Counter()
        """Waiting to be due, or for their answers; two that are alike are two."""
        self._left = len(plan.arrivals)
        # ETags are kept only where somebody is going to need one.
        self._etags: dict[tuple[Person, int, str], str | None] = {}
        for arrival in plan.arrivals:
            recorder.intend(arrival.at_s)
            self._waiting[arrival.person].append(arrival)
            if arrival.asks_again:
                self._etags[arrival.person, arrival.visitor, arrival.visit.target] = None
        if not self._left:
            self.done.set()

    @property
    def people(self) -> dict[Person, int]:
        """How many requests each kind of person has still to send."""
        return {person: len(waiting) for person, waiting in self._waiting.items() if waiting}

    @property
    def ends_at(self) -> float:
        """When everything should have been sent."""
        last = self.plan.arrivals[-1].at_s if self.plan.arrivals else 0.0
        return self.begun_at + max(last, self.plan.phases[-1].to_s)

    def begin(self, now: float) -> None:
        """Second 0 is LEAD_S from now."""
        self.begun_at = now + LEAD_S

    def seconds(self, at: float) -> float:
        """A moment of the monotonic clock in seconds of the run."""
        return at - self.begun_at

    def take(self, person: Person) -> Arrival | None:
        """The next arrival of a kind; it is the caller's now. None: there are no more."""
        waiting = self._waiting[person]
        if not waiting:
            return None
        arrival = waiting.popleft()
        self._taken[arrival] += 1
        return arrival

    def let_go(self, arrival: Arrival) -> None:
        """Whoever took it has done with it what there was to be done."""
        self._taken[arrival] -= 1
        if not self._taken[arrival]:
            del self._taken[arrival]

    def has_unfinished(self) -> bool:
        """Whether something that was due by `stopped_at` is not over yet."""
        heads = (waiting[0] for waiting in self._waiting.values() if waiting)
        return any(self.begun_at + arrival.at_s <= self.stopped_at for arrival in (*self._taken, *heads))

    def connection(self, edge: str) -> Connection:
        """One that is free now, of those the one that was used longest ago: both workers of an edge are met."""
        free = self._connections[edge]
        if free and self._opened[edge] >= FEWEST_CONNECTIONS:
            return free.popleft()
        self._opened[edge] += 1
        return Connection(self.edges[edge], timeout_s=self.timeout_s)

    def give_back(self, edge: str, connection: Connection) -> None:
        self._connections[edge].append(connection)

    def close(self) -> None:
        """Close what is open; nobody may be sending."""
        for free in self._connections.values():
            while free:
                free.pop().close()

    def etag(self, arrival: Arrival) -> str | None:
        return self._etags.get((arrival.person, arrival.visitor, arrival.visit.target)) if arrival.asks_again else None

    def answered(self, arrival: Arrival, answer: Answer, *, was_free: bool) -> None:
        """Record, judge and remember an answer."""
        headers, code = answer.headers, answer.status
        status = status_of(headers, code)
        self._sample(arrival, status, answer.sent_at, answer.received_at, code, len(answer.body), was_free=was_free)
        key = (arrival.person, arrival.visitor, arrival.visit.target)
        if key in self._etags and "etag" in headers:
            self._etags[key] = headers["etag"]
        who = f"{arrival.person} {arrival.visitor}"
        before = self.judge.findings.broken
        self.judge.answered(arrival.edge, arrival.method, arrival.visit, answer, who)
        why = None
        if status is Status.ERROR:
            why = f"status {code}"
        elif self.judge.findings.broken > before:
            why = "a price that it must not show"
        self._tell(Told(arrival, answer.received_at - answer.sent_at, len(answer.body), why))

    def unanswered(self, arrival: Arrival, sent_at: float | None, now: float, why: str, *, was_free: bool) -> None:
        """Record a request that got no answer, or (`sent_at` None) was never sent."""
        self._sample(arrival, Status.ERROR, sent_at, now, None, 0, was_free=was_free)
        if sent_at is not None:
            self._tell(Told(arrival, now - sent_at, 0, why))

    def _sample(
        self,
        arrival: Arrival,
        status: Status,
        sent_at: float | None,
        received_at: float,
        code: int | None,
        body_bytes: int,
        *,
        was_free: bool,
    ) -> None:
        self.recorder.sample(
            Label(arrival.phase, status, arrival.visit.kind, arrival.edge, arrival.visit.market),
            arrival.visit.target,
            arrival.at_s,
            None if sent_at is None else sent_at - self.begun_at,
            received_at - self.begun_at,
            code,
            body_bytes,
            was_free=was_free,
        )
        if sent_at is not None and not was_free:
            self.waited += sent_at - self.begun_at - arrival.at_s > LATE_S
        self._left -= 1
        if not self._left:
            self.done.set()

    def give_up(self, now: float) -> None:
        """Nobody takes arrivals any more: those that were due and never sent are told of."""
        for waiting in self._waiting.values():
            while waiting:
                arrival = waiting.popleft()
                if self.begun_at + arrival.at_s <= now:
                    self.unanswered(arrival, None, now, "never sent", was_free=False)


class User:
    """One of the pool: sends the arrivals of one kind of person, one after the other."""

    def __init__(self, execution: Execution, person: Person, sleep_until: Callable[[float], None]) -> None:
        """`sleep_until`: lets others run until a moment of the monotonic clock."""
        self.execution = execution
        self.person = person
        self._sleep_until = sleep_until
        self._fields = FIELDS[person]

    def next(self) -> bool:
        """Carry out the next arrival; False when there is none left."""
        execution = self.execution
        arrival = execution.take(self.person)
        if arrival is None:
            return False
        due_at = execution.begun_at + arrival.at_s
        was_free = time.monotonic() <= due_at
        sent_at: float | None = None
        try:
            if was_free:
                self._sleep_until(due_at)
            if due_at > execution.stopped_at:
                return False
            fields: Iterable[tuple[str, str]] = (*self._fields, *arrival.fields)
            if (etag := execution.etag(arrival)) is not None:
                fields = (*fields, ("If-None-Match", etag))
            connection = execution.connection(arrival.edge)
            sent_at = time.monotonic()
            try:
                answer = connection.request(arrival.method, arrival.visit.target, fields)
            finally:
                execution.give_back(arrival.edge, connection)
        except NoAnswer as exc:
            execution.unanswered(arrival, sent_at, time.monotonic(), str(exc), was_free=was_free)
        except BaseException:
            # Told to stop in the middle. What was sent is told of; what was not due yet belongs to nobody.
            if sent_at is not None:
                execution.unanswered(arrival, sent_at, time.monotonic(), "the run was stopped", was_free=was_free)
            raise
        else:
            execution.answered(arrival, answer, was_free=was_free)
        finally:
            execution.let_go(arrival)
        return True
