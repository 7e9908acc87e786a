"""Judges of a history, each of one thing: events in, what is wrong out. Pure, and linear in the history.

They know HTTP and versions, and nothing of the code under test. Each is tested with violations planted in a history.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from loadtests.chaos.history import (
    Began,
    Broken,
    Committed,
    Ended,
    Event,
    Felt,
    Live,
    Looked,
    Mended,
    NotBroken,
    Other,
    Refused,
    Repaired,
    Seen,
    Session,
    Settled,
    Used,
)
from loadtests.oracle import Change, Oracle, Verdict
from loadtests.recorder.histogram import Histogram

KEPT = 20
"""Of each kind of wrong, how many are told."""
SOON_S = 2.0
"""Answers that were asked for within this after a report of live are counted apart: if anything is old, it is there."""
MORE_MEMORY_BYTES = 128 << 20
MORE_FILES = 128
"""By how much a process may grow while it is broken again and again. Files: connections to viewers and to the origin,
which are kept for a minute, come and go."""
AFTERMATH_S = 3.0
"""After a fault it is not calm yet for so long: leases are waited out."""
RECOVERY_S = 6.0
"""After a fault an edge may fail for so long: one whose origin failed it again and again leaves it alone for up to four
seconds, and then tries it."""
CALM_WINDOW_S = 10.0
ENOUGH_CALM, MOST_FAILED_CALM = 20, 0.1
"""Of each so many seconds in which nothing is broken at an edge it may fail this share of its requests, and of fewer
nobody can tell: a machine that is busy starting databases is slow elsewhere."""
PURGE = -1
"""In the place of a price: a change that is a purge."""


class Checker(Protocol):
    """One judge."""

    def see(self, event: Event) -> None:
        """The next event."""
        ...

    def wrong(self) -> list[str]:
        """Everything found so far that must not be, a sentence each; the first of many."""
        ...


class _Findings:
    """Sentences, bounded: the count goes on."""

    def __init__(self) -> None:
        self.count = 0
        self.told: list[str] = []

    def add(self, text: str) -> None:
        self.count += 1
        if len(self.told) < KEPT:
            self.told.append(text)

    def all(self) -> list[str]:
        left = self.count - len(self.told)
        return [*self.told, f"... and {left:,} more of the kind"] if left else list(self.told)


class Promise:
    """No old price after live; nothing that was never set, not yet asked for, or gone with a database."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._oracle = Oracle()
        for price in session.prices:
            self._oracle.start(price.key, price.amount)
        self._changes: dict[int, Change] = {}
        self._places: dict[int, int] = {}
        """Change -> place of its price."""
        self._found = _Findings()
        self.answers = 0
        """Answers that showed a price of this run."""
        self.telling = 0
        """Of these, how many could have been wrong: a change of what they showed had become live."""
        self.soon = 0
        """Of these, how many were asked for within SOON_S after the change."""
        self._live_at: dict[int, float] = {}
        """Place of a price -> when a change of it was reported live last."""
        self.prices = 0
        self.verdicts: Counter[Verdict] = Counter()
        self.unreadable = 0
        self.staleness = Histogram()
        """From the confirmed commit of a change to each answer that still showed what it replaced."""

    def see(self, event: Event) -> None:
        match event:
            case Began(at, number, key, amount):
                if key != PURGE:
                    self._changes[number] = self._oracle.began(self._session.prices[key].key, amount, at)
                    self._places[number] = key
            case Committed(at, number) if number in self._changes:
                self._oracle.committed(self._changes[number], at)
            case Refused(_, number) if number in self._changes:
                self._oracle.refused(self._changes[number])
            case Live(at, number) if number in self._changes:
                self._oracle.live(self._changes[number], at)
                self._live_at[self._places[number]] = at
            case Settled(at, number, there) if not there and number in self._changes:
                self._oracle.gone(self._changes[number], at)
            case Seen():
                self._judge(event)
            case Other(what=what) if what.startswith("unreadable"):
                self.unreadable += 1
                self._found.add(f"{event.at:.3f} s: {event.edge} {event.target}: {what}")
            case _:
                pass

    def _judge(self, seen: Seen) -> None:
        telling = soon = False
        for place, amount in seen.shown:
            key = self._session.prices[place].key
            judged = self._oracle.judge(key, amount, seen.sent, seen.at)
            assert judged is not None
            self.prices += 1
            self.verdicts[judged.verdict] += 1
            telling = telling or not judged.vacuous
            soon = soon or 0.0 <= seen.sent - self._live_at.get(place, float("-inf")) <= SOON_S
            if judged.stale_s is not None:
                self.staleness.add(judged.stale_s * 1e6)
            if judged.verdict is not Verdict.OK:
                expected = judged.superseded_by.amount if judged.superseded_by else self._oracle.current(key)
                since = f", replaced and live {judged.replaced_s:.3f} s before" if judged.superseded_by else ""
                self._found.add(
                    f"{seen.at:.3f} s: {judged.verdict.value}: {seen.edge} {seen.target} showed {key.sku} "
                    f"({key.market}) for {amount}, expected {expected}{since}; {seen.cache}"
                )
        self.answers += 1
        self.telling += telling
        self.soon += soon

    @property
    def old_prices(self) -> int:
        return self.verdicts[Verdict.SUPERSEDED]

    @property
    def ghosts(self) -> int:
        return self.verdicts[Verdict.GHOST]

    def wrong(self) -> list[str]:
        return self._found.all()


class Purges:
    """Every change that was confirmed becomes live, and stays."""

    def __init__(self) -> None:
        self._confirmed: dict[int, Committed] = {}
        self._waiting: dict[int, Committed] = {}
        """Those of them that are not live yet."""
        self._gone = _Findings()
        self.confirmed = 0
        self.live = 0
        self._ended = False
        """Of an observer that was killed in the middle nobody knows what it would have seen become live."""

    def see(self, event: Event) -> None:
        match event:
            case Committed(_, number):
                self.confirmed += 1
                self._confirmed[number] = self._waiting[number] = event
            case Live(_, number):
                self.live += self._waiting.pop(number, None) is not None
            case Settled(at, number, there) if not there and number in self._confirmed:
                lost = self._confirmed.pop(number)
                self._waiting.pop(number, None)
                self._gone.add(
                    f"{at:.3f} s: the change at {lost.position}, confirmed at {lost.at:.3f} s, is gone from the shop"
                )
            case Ended():
                self._ended = True
            case _:
                pass

    @property
    def never_live(self) -> int:
        return len(self._waiting) if self._ended else 0

    @property
    def gone(self) -> int:
        return self._gone.count

    def wrong(self) -> list[str]:
        late = _Findings()
        for each in self._waiting.values() if self._ended else ():
            late.add(f"the change at {each.position}, confirmed at {each.at:.3f} s, never became live: a lost purge")
        return self._gone.all() + late.all()


class Repairs:
    """When faults have ended, every worker has soon repaired its gap, or flushed. One that begins anew has none."""

    def __init__(self, within_s: float) -> None:
        self._within_s = within_s
        self._found = _Findings()
        self.seconds = Histogram()
        self.restarts = Histogram()
        """Of workers that had been killed themselves, since their first answer."""
        self.in_all = Histogram()
        """Of all of them, with what it took until something ran again."""

    def see(self, event: Event) -> None:
        if not isinstance(event, Repaired):
            return
        self.in_all.add(event.in_all_s * 1e6)
        if event.seconds is not None:
            (self.restarts if event.restarted else self.seconds).add(event.seconds * 1e6)
        if event.seconds is None or (event.seconds > self._within_s and not event.restarted):
            took = "did not" if event.seconds is None else f"took {event.seconds:.2f} s to"
            self._found.add(f"{event.at:.3f} s: after episode {event.episode} {event.worker} {took} know everything")

    def wrong(self) -> list[str]:
        return self._found.all()


class Latencies:
    """From the order of a change to the report that it is live, with and without a fault in force meanwhile.

    A change that begins within `AFTERMATH_S` after a fault counts as one under it.
    """

    def __init__(self) -> None:
        self.calm = Histogram()
        self.faulty = Histogram()
        self._began: dict[int, tuple[float, bool]] = {}
        self._in_force: set[int] = set()
        self._last_ended = float("-inf")

    def see(self, event: Event) -> None:
        match event:
            case Broken(_, fault):
                self._in_force.add(fault)
                self._began = {number: (at, True) for number, (at, _) in self._began.items()}
            case Mended(at, fault):
                self._in_force.discard(fault)
                self._last_ended = at
            case Began(at, number):
                self._began[number] = at, bool(self._in_force) or at < self._last_ended + AFTERMATH_S
            case Live(at, number) if number in self._began:
                began_at, faulty = self._began.pop(number)
                (self.faulty if faulty else self.calm).add((at - began_at) * 1e6)
            case Refused(_, number):
                self._began.pop(number, None)
            case _:
                pass

    def wrong(self) -> list[str]:
        return []


@dataclass(slots=True)
class _Window:
    """`CALM_WINDOW_S` of an edge's calm seconds: consecutive ones, but for what was broken in between."""

    from_s: float
    """When its first request was sent."""
    asked: int = 0
    failed: int = 0


@dataclass(slots=True)
class _Calm:
    """When nothing is broken at one edge, and what became of requests that were sent then."""

    in_force: set[int] = field(default_factory=set)
    """Faults at this edge, or of what all edges share."""
    since: float = 0.0
    """While none is in force: calm from then on, which may be yet to come."""
    before_s: float = 0.0
    """Calm seconds that ended when something was broken."""
    touched: bool = False
    """By a fault of which the repair was not yet looked at."""
    windows: dict[int, _Window] = field(default_factory=dict)

    def broken(self, at: float, fault: int) -> None:
        if not self.in_force:
            self.before_s += max(0.0, at - self.since)
        self.in_force.add(fault)
        self.touched = True

    def mended(self, at: float, fault: int) -> None:
        if fault in self.in_force:
            self.in_force.discard(fault)
            self.since = max(self.since, at + RECOVERY_S)

    def repaired(self, at: float) -> None:
        """What was mended already took until now."""
        if self.touched:
            self.since = max(self.since, at + RECOVERY_S)

    def seconds(self, at: float) -> float:
        """Calm until then, in all."""
        return self.before_s + (0.0 if self.in_force else max(0.0, at - self.since))

    def count(self, sent: float, *, failed: bool) -> None:
        if self.in_force or sent < self.since:
            return
        window = self.windows.setdefault(int(self.seconds(sent) / CALM_WINDOW_S), _Window(sent))
        window.asked += 1
        window.failed += failed


class Availability:
    """Answers and failures, by edge. An edge that is killed, or cut off, fails; one that fails while nothing is broken
    at it, nor of what it shares with others, is wrong.
    """

    def __init__(self, edges: Iterable[str]) -> None:
        self.answered: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.marked = 0
        self._calm = {edge: _Calm() for edge in edges}
        self._last_at = 0.0
        self._over = False
        """Somebody has looked at the repair after the faults so far."""

    @property
    def calm_s(self) -> dict[str, float]:
        """Edge -> for how long its answers were judged."""
        return {edge: calm.seconds(self._last_at) for edge, calm in self._calm.items()}

    @property
    def calm_answers(self) -> dict[str, int]:
        """Edge -> how many were judged, failures included."""
        return {edge: sum(window.asked for window in calm.windows.values()) for edge, calm in self._calm.items()}

    def see(self, event: Event) -> None:
        self._last_at = max(self._last_at, event.at)
        match event:
            case Broken(at, fault, edge=edge):
                if self._over:
                    self._begin()
                for calm in self._calm.values() if edge is None else (self._calm[edge],):
                    calm.broken(at, fault)
            case Mended(at, fault):
                for calm in self._calm.values():
                    calm.mended(at, fault)
            case Repaired(at, worker=worker):
                self._over = True
                self._calm[worker.rpartition("-")[0]].repaired(at)
            case Seen(sent=sent, edge=edge):
                self._count(edge, sent, failed=False)
            case Other(sent=sent, edge=edge, code=code, what=what):
                failed = code == 0 or code >= 400
                self._count(edge, sent, failed=failed)
                self.marked += not failed and what == "marked"
            case _:
                pass

    def _begin(self) -> None:
        """Another episode."""
        self._over = False
        for calm in self._calm.values():
            calm.touched = False

    def _count(self, edge: str, sent: float, *, failed: bool) -> None:
        (self.failed if failed else self.answered)[edge] += 1
        self._calm[edge].count(sent, failed=failed)

    def wrong(self) -> list[str]:
        found = _Findings()
        for edge, calm in sorted(self._calm.items()):
            for window in calm.windows.values():
                if window.asked >= ENOUGH_CALM and window.failed > MOST_FAILED_CALM * window.asked:
                    found.add(
                        f"edge {edge} failed {window.failed:,} of {window.asked:,} requests while nothing was broken "
                        f"there, in {CALM_WINDOW_S:g} such seconds from {window.from_s:.0f} s on"
                    )
        return found.all()


class Growth:
    """No process takes more and more of the machine. The first look at each name is what others are held against."""

    def __init__(self) -> None:
        self._first: dict[str, Used] = {}
        self._found: dict[str, str] = {}
        self.most_memory_bytes = 0
        self.most_files = 0
        """The largest growth of any process since the first look."""

    def see(self, event: Event) -> None:
        if not isinstance(event, Used):
            return
        first = self._first.setdefault(event.process, event)
        memory_bytes, files = event.memory_bytes - first.memory_bytes, event.files - first.files
        self.most_memory_bytes = max(self.most_memory_bytes, memory_bytes)
        self.most_files = max(self.most_files, files)
        if memory_bytes > MORE_MEMORY_BYTES or files > MORE_FILES:
            self._found[event.process] = (
                f"{event.at:.3f} s: {event.process} has grown by {memory_bytes >> 20} MiB and {files} open files "
                f"since {first.at:.0f} s (at most {MORE_MEMORY_BYTES >> 20} and {MORE_FILES})"
            )

    def wrong(self) -> list[str]:
        return list(self._found.values())


class Bites:
    """Which faults were made, and which of them did what they are for."""

    def __init__(self) -> None:
        self.made: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        """Kind -> how many could not be made."""
        self.felt: Counter[str] = Counter()
        self._kinds: dict[int, str] = {}

    def see(self, event: Event) -> None:
        match event:
            case Broken(_, fault, kind):
                self.made[kind] += 1
                self._kinds[fault] = kind
            case NotBroken(kind=kind):
                self.made[kind] -= 1
                self.refused[kind] += 1
            case Felt(_, fault):
                self.felt[self._kinds[fault]] += 1
            case _:
                pass

    def wrong(self) -> list[str]:
        return []


class Recovery:
    """At the end everything is as before."""

    def __init__(self) -> None:
        self.ended = False
        """Somebody has looked."""
        self._found = _Findings()

    def see(self, event: Event) -> None:
        if isinstance(event, Looked) and event.wrong:
            self._found.add(f"{event.at:.3f} s: {event.what}: {event.wrong}")
        self.ended = self.ended or isinstance(event, Ended)

    def wrong(self) -> list[str]:
        return self._found.all()


class Verdicts:
    """All judges of one session."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.promise = Promise(session)
        self.purges = Purges()
        self.repairs = Repairs(session.repaired_within_s)
        self.latencies = Latencies()
        self.availability = Availability(session.edges)
        self.growth = Growth()
        self.bites = Bites()
        self.recovery = Recovery()
        self.last_at = 0.0
        self._all: Sequence[Checker] = (
            self.promise,
            self.purges,
            self.repairs,
            self.latencies,
            self.availability,
            self.growth,
            self.bites,
            self.recovery,
        )

    def see(self, event: Event) -> None:
        self.last_at = event.at
        for checker in self._all:
            checker.see(event)

    def wrong(self) -> list[str]:
        return [text for checker in self._all for text in checker.wrong()]
