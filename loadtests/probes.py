"""How soon a changed price is shown: probes read it at every edge until it is new.

They are viewers like any other and judged as such, but not counted among a run's requests. Each asks as often as it can
bear: a probe whose answer is old waits PAUSE_S and asks again.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping

from loadtests import people
from loadtests.client import Connection
from loadtests.http1 import NoAnswer
from loadtests.judge import Judge
from loadtests.oracle import Change, Oracle, PriceKey

PAUSE_S = 0.01
PATIENCE_S = 15.0
"""A price that is not new after this long stays without a time: leases of lost workers run out sooner."""
MOST_AT_ONCE = 8
"""Changes followed at the same time; in a storm the others go unfollowed."""
WHO = "probe"


class Probes:
    """Follows changes of prices to every edge."""

    def __init__(
        self, edges: Mapping[str, str], oracle: Oracle, judge: Judge, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._edges = edges
        self._oracle = oracle
        self._judge = judge
        self._sleep = sleep
        self._free: dict[str, list[Connection]] = {edge: [] for edge in edges}
        self._following: set[threading.Thread] = set()
        self._stopping = False

    @property
    def busy(self) -> bool:
        """No further change can be followed now."""
        return len(self._following) >= MOST_AT_ONCE * len(self._edges)

    def prime(self, key: PriceKey) -> None:
        """Ask every edge once, so that there is an old price in its store that the change has to replace."""
        if not self.busy:
            self._start_at_each(lambda edge: self._prime(edge, key))

    def follow(self, change: Change, fresh_ms: dict[str, float | None]) -> None:
        """From now on ask every edge until it shows the change or a later one; `fresh_ms` is told when it first did."""
        if not self.busy:
            self._start_at_each(lambda edge: self._follow(edge, change, fresh_ms))

    def stop(self, patience_s: float) -> None:
        """Let those under way come to their end, and end those that do not in time."""
        give_up_at = time.monotonic() + patience_s
        for thread in list(self._following):
            thread.join(max(0.0, give_up_at - time.monotonic()))
        self._stopping = True
        for connections in self._free.values():
            for connection in connections:
                connection.close()

    def _start_at_each(self, work: Callable[[str], None]) -> None:
        def working(edge: str) -> None:
            try:
                work(edge)
            finally:
                self._following.discard(threading.current_thread())

        for edge in self._edges:
            thread = threading.Thread(target=working, args=(edge,), daemon=True)
            self._following.add(thread)
            thread.start()

    def _prime(self, edge: str, key: PriceKey) -> None:
        with contextlib.suppress(NoAnswer):
            self._ask(edge, key)

    def _follow(self, edge: str, change: Change, fresh_ms: dict[str, float | None]) -> None:
        fresh_ms[edge] = None
        give_up_at = change.begun_at + PATIENCE_S
        while not self._stopping and time.monotonic() < give_up_at:
            with contextlib.suppress(NoAnswer):
                amount, received_at = self._ask(edge, change.key)
                if amount is not None and self._oracle.is_shown(change, amount):
                    fresh_ms[edge] = (received_at - change.begun_at) * 1000
                    return
            self._sleep(PAUSE_S)

    def _ask(self, edge: str, key: PriceKey) -> tuple[int | None, float]:
        """What the edge shows, if anything, and when its answer had come. Raises NoAnswer."""
        connection = self._free[edge].pop() if self._free[edge] else Connection(self._edges[edge])
        visit = people.price(*key)
        try:
            answer = connection.request("GET", visit.target)
        finally:
            self._free[edge].append(connection)
        shown = dict(self._judge.probed(edge, visit, answer, WHO))
        return shown.get(key), answer.received_at
