"""What a run does to the shop: prices changed and purges ordered as staff would, each watched until it is live; faults.

Merchandisers are a pool as users are: each takes the next deed, does it when it is due and waits until it is live. When
all are waiting the next deed is done late, and that is said. Faults are an operator's, who waits for nobody; whatever a
run has broken is mended at its end.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from loadtests import people, staff
from loadtests.client import Connection, NotSent
from loadtests.faults import Breakage, FaultsUnavailable
from loadtests.http1 import NoAnswer
from loadtests.oracle import Change, Oracle, PriceKey
from loadtests.plan import Deed, Doing, Plan
from loadtests.probes import Probes
from loadtests.recorder.recorder import Recorder
from loadtests.recorder.run import PriceChange, Purge
from loadtests.units import count_text, plural

LIVE_STATES = frozenset({"live", "shown"})
"""States of a change after which no edge may show what it replaced."""
WAIT_LIVE_S = 30.0
"""A change that is not live after this long never was: leases of lost workers run out within seconds."""
PRIME_BEFORE_S = 1.0
"""How long before a price changes it is looked at: every edge has it in its store by then."""
LATE_S = 1.0
"""A deed later than this after it was due is counted."""
MIN_ORDERED = 0.98
"""Of the changes of prices and the purges that a scenario asks for: with fewer, the shop was not put to the test."""
REASON = "load test"
_EVENT_KINDS = {
    Doing.PRICE: "price",
    Doing.PURGE: "purge",
    Doing.FLUSH: "purge",
    Doing.FAULT: "fault",
    Doing.HEAL: "heal",
}
_OPERATORS = frozenset({Doing.FAULT, Doing.HEAL})


@dataclass(slots=True)
class Outcomes:
    """What became of the deeds."""

    prices: int = 0
    purges: int = 0
    tags: int = 0
    faults: int = 0
    """Commands of an operator that were obeyed before the end."""
    late: int = 0
    failed: list[str] = field(default_factory=list)
    """What could not be done, and why."""
    waited_out: dict[str, int] = field(default_factory=dict)
    """Edge/worker -> changes for which its lease had to run out."""


class Deeds:
    """The deeds of one run."""

    def __init__(
        self,
        plan: Plan,
        origin: str,
        recorder: Recorder,
        oracle: Oracle,
        probes: Probes,
        breakage: Breakage,
    ) -> None:
        """`oracle`: is told what every watched price is, before the first deed."""
        self.origin = origin
        self.recorder = recorder
        self.oracle = oracle
        self.probes = probes
        self.breakage = breakage
        self.digits: Mapping[str, int] = {}
        """Of each market's currency."""
        self.outcomes = Outcomes()
        self.token: str | None = None
        self.begun_at = 0.0
        """Second 0 of the run, on the monotonic clock."""
        self.merchandise = deque(deed for deed in plan.deeds if deed.doing not in _OPERATORS)
        self.faults = deque(deed for deed in plan.deeds if deed.doing in _OPERATORS)
        self.done = threading.Event()
        self._amounts = people.Merchandiser(plan.seed)
        self._locks: dict[PriceKey, threading.Lock] = defaultdict(threading.Lock)
        self._doubtful: set[PriceKey] = set()
        """Prices of which nobody knows whether a change was committed: they are not touched again."""
        self._orders, self._end_s = len(self.merchandise), plan.phases[-1].to_s
        self._commands = sum(map(self._is_within, self.faults))
        self._left = len(plan.deeds)
        if not self._left:
            self.done.set()

    def sign_in(self, credentials: staff.Credentials) -> None:
        """Raises StaffError."""
        with Connection(self.origin) as connection:
            self.token = str(ask(connection, staff.sign_in(credentials), None)["token"])

    def seconds(self, at: float) -> float:
        return at - self.begun_at

    def event(self, deed: Deed, at: float, text: str) -> None:
        self.recorder.event(self.seconds(at), _EVENT_KINDS[deed.doing], text)

    def failed(self, deed: Deed, at: float, why: object) -> None:
        """A deed could not be done."""
        text = f"{what_is_done(deed)}: {why}"
        self.outcomes.failed.append(text)
        self.event(deed, at, f"failed: {text}")

    def begun(self, deed: Deed, at: float) -> None:
        """A deed begins now."""
        self.outcomes.late += self.seconds(at) - deed.at_s > LATE_S
        self.event(deed, at, what_is_done(deed))

    def finished(self) -> None:
        """One deed is done, or could not be."""
        self._left -= 1
        if not self._left:
            self.done.set()

    def obeyed(self, deed: Deed) -> None:
        """An operator's command was carried out."""
        self.outcomes.faults += self._is_within(deed)

    def _is_within(self, deed: Deed) -> bool:
        """Whether a deed belongs to what is measured: a fault that lasts to the end may end after it."""
        return deed.at_s < self._end_s

    def undone(self) -> list[str]:
        """Why a run proves nothing that went to its end: what its scenario does to the shop was not done."""
        outcomes = self.outcomes
        ordered, found = outcomes.prices + outcomes.purges, []
        if ordered < MIN_ORDERED * self._orders:
            found.append(
                f"{count_text(ordered)} of {plural(self._orders, 'change')} of prices and purges were made (at least "
                f"{MIN_ORDERED:.0%}): the shop was not put to the test that the scenario is"
            )
        if outcomes.faults < self._commands:
            found.append(
                f"{count_text(outcomes.faults)} of {plural(self._commands, 'fault')} and their ends were made: what "
                f"was to be broken was not, or not mended in time"
            )
        return found

    # --- prices ---

    def new_amount(self, deed: Deed, key: PriceKey) -> int:
        """The amount that a price is changed to, in minor units: one that it never had."""
        current = self.oracle.current(key)
        assert current is not None
        if deed.amount is None:
            while self.oracle.had(key, amount := self._amounts.next_amount(key, current)):
                pass
            return amount
        wanted = minor_units(deed.amount, self.digits[key.market])
        for distance in range(1_000_000):
            for amount in (wanted + distance, wanted - distance):
                if amount > 0 and not self.oracle.had(key, amount):
                    return amount
        raise AssertionError("an endless search ended")

    def lock(self, key: PriceKey) -> threading.Lock:
        """Held from the order to commit until its answer: the order of orders is that of commits."""
        return self._locks[key]

    def is_doubtful(self, key: PriceKey) -> bool:
        return key in self._doubtful

    def doubt(self, key: PriceKey) -> None:
        self._doubtful.add(key)


def ask(connection: Connection, exchange: staff.Exchange, token: str | None) -> dict[str, Any]:
    """The staff API's answer. Raises StaffError."""
    headers, body = staff.request_parts(exchange, token)
    try:
        answer = connection.request(exchange.method, exchange.target, tuple(headers.items()), body or b"")
    except NoAnswer as exc:
        raise staff.StaffError(str(exc), refused=isinstance(exc, NotSent)) from exc
    return staff.read_answer(exchange, answer.status, answer.body)


def what_is_done(deed: Deed) -> str:
    """A deed in words."""
    kind = "soft " if deed.soft else ""
    match deed.doing:
        case Doing.PRICE:
            assert deed.key is not None
            return f"{deed.key.market} {deed.key.sku}"
        case Doing.PURGE:
            return f"{kind}{deed.tags[0]}" if len(deed.tags) == 1 else f"{kind}{len(deed.tags)} tags"
        case Doing.FLUSH:
            return f"{kind}everything"
        case _:
            return " ".join(value for _, value in deed.command)


def minor_units(amount: str, digits: int) -> int:
    """`12.50` with 2 digits is 1250. Raises ValueError."""
    whole, _, part = amount.partition(".")
    if len(part) > digits:
        raise ValueError(f"{amount}: more than {digits} digits")
    return int(whole + part.ljust(digits, "0"))


class Merchandiser:
    """One of the pool that changes prices and orders purges."""

    def __init__(self, deeds: Deeds, sleep_until: Callable[[float], None]) -> None:
        self._deeds = deeds
        self._sleep_until = sleep_until
        self._connection = Connection(deeds.origin, timeout_s=staff.HOLD_S + 10.0)

    def next(self) -> bool:
        """Do the next deed; False when there is none left."""
        deeds = self._deeds
        if not deeds.merchandise:
            return False
        deed = deeds.merchandise.popleft()
        due_at = deeds.begun_at + deed.at_s
        try:
            if deed.key is not None and time.monotonic() < due_at - PRIME_BEFORE_S:
                self._sleep_until(due_at - PRIME_BEFORE_S)
                deeds.probes.prime(deed.key)
            self._sleep_until(due_at)
            deeds.begun(deed, time.monotonic())
            self._change(deed, deed.key) if deed.key is not None else self._purge(deed)
        except (staff.StaffError, ValueError) as exc:
            deeds.failed(deed, time.monotonic(), exc)
        finally:
            # The origin closes idle connections soon, and an order into a closed one is an order in doubt.
            self._connection.close()
        deeds.finished()
        return True

    def _change(self, deed: Deed, key: PriceKey) -> None:
        deeds = self._deeds
        with deeds.lock(key):
            if deeds.is_doubtful(key):
                raise staff.StaffError("an earlier change of this price got no answer; it is left alone")
            amount = deeds.new_amount(deed, key)
            change = deeds.oracle.began(key, amount, time.monotonic())
            text = people.amount_text(amount, deeds.digits[key.market])
            try:
                answer = ask(self._connection, staff.change_price(key, text, REASON), deeds.token)
            except staff.StaffError as exc:
                if exc.refused:
                    deeds.oracle.refused(change)
                else:
                    deeds.doubt(key)
                raise
            committed_at = time.monotonic()
            deeds.oracle.committed(change, committed_at)
        deeds.outcomes.prices += 1
        told = PriceChange(
            at_s=deeds.seconds(change.begun_at),
            market=key.market,
            sku=key.sku,
            committed_ms=(committed_at - change.begun_at) * 1000,
            live_ms=None,
        )
        deeds.recorder.changed(told)
        deeds.probes.follow(change, told.fresh_ms)
        self._until_live(answer, change, told)

    def _until_live(self, answer: Mapping[str, Any], change: Change, told: PriceChange) -> None:
        live_at = self._wait(str(answer["position"]))
        if live_at is not None:
            self._deeds.oracle.live(change, live_at)
            told.live_ms = (live_at - change.begun_at) * 1000

    def _purge(self, deed: Deed) -> None:
        deeds = self._deeds
        begun_at = time.monotonic()
        tags = ("*",) if deed.doing is Doing.FLUSH else deed.tags
        answer = ask(self._connection, staff.order_purge(tags, soft=deed.soft, reason=REASON), deeds.token)
        deeds.outcomes.purges += 1
        deeds.outcomes.tags += len(tags)
        told = Purge(deeds.seconds(begun_at), len(tags), live_ms=None)
        deeds.recorder.purged(told)
        live_at = self._wait(str(answer["position"]))
        if live_at is not None:
            told.live_ms = (live_at - begun_at) * 1000

    def _wait(self, position: str) -> float | None:
        """When the change at this position was reported live; None: not in time. Raises StaffError."""
        give_up_at = time.monotonic() + WAIT_LIVE_S
        while True:
            left_s = give_up_at - time.monotonic()
            exchange = staff.ask_progress(position, max(0.0, min(left_s, staff.HOLD_S)))
            progress = staff.progress_of(ask(self._connection, exchange, self._deeds.token))
            if progress.state in LIVE_STATES:
                live_at = time.monotonic()
                waited_out = self._deeds.outcomes.waited_out
                for worker in progress.waited_out:
                    waited_out[worker] = waited_out.get(worker, 0) + 1
                return live_at
            if left_s <= 0:
                return None


class Operator:
    """Breaks the shop and mends it, one command after the other."""

    def __init__(self, deeds: Deeds, sleep_until: Callable[[float], None]) -> None:
        self._deeds = deeds
        self._sleep_until = sleep_until

    def next(self) -> bool:
        """Carry out the next fault; False when there is none left."""
        deeds = self._deeds
        if not deeds.faults:
            return False
        deed = deeds.faults.popleft()
        self._sleep_until(deeds.begun_at + deed.at_s)
        deeds.begun(deed, time.monotonic())
        try:
            deeds.breakage.tell(dict(deed.command))
            deeds.obeyed(deed)
        except FaultsUnavailable as exc:
            deeds.failed(deed, time.monotonic(), exc)
        deeds.finished()
        return True
