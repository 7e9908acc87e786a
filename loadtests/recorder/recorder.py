"""Takes what a generator measured, request by request, and makes a Run of it.

A generator does this, with all times in seconds since the start of its run, on its monotonic clock:

    recorder = Recorder(scenario="steady-day", ..., phases=plan.phases, duration_s=90.0)
    for arrival in plan.arrivals:               # before the first is sent: what nobody sends is known to be missing
        recorder.intend(arrival.at_s)
    recorder.begin()                            # second 0
    ... recorder.pulse(now_s)                   # from a loop of its own that sleeps until recorder.next_pulse_s
    ... recorder.sample(label, target, arrival_at_s, sent_at_s, received_at_s, code, body_bytes, was_free=...)
    ... recorder.event(at_s, "purge", "everything") ; recorder.changed(PriceChange(...))
    run = recorder.finish(ended_at_s)           # then prices, figures, series, versions are set on it

Everybody who was meant to ask is counted, whatever became of it: a request that got no answer has a sample with code
None and the time at which it was given up, one that was never sent has `sent_at_s=None` as well. Otherwise those who
fared worst would drop out of the percentiles. `finish` finds who has no sample at all, and calls the run invalid.
"""

from __future__ import annotations

import datetime as dt
import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

from loadtests.recorder import check, machine
from loadtests.recorder.histogram import Histogram
from loadtests.recorder.pulses import Pulses
from loadtests.recorder.run import (
    MISS_STATUSES,
    Address,
    Cell,
    Event,
    Label,
    Phase,
    PriceChange,
    Purge,
    Run,
    Second,
)

NO_ANSWER = "no answer"
NEVER_SENT = "never sent"
"""Beside status codes, the keys of Cell.codes."""
MAX_ADDRESSES = 50
_READ_EVERY_S = 1.0


class Recorder:
    """Everything measured in one run. Not for several threads; greenlets of one thread may share it.

    `phases`: in the order of their times, without overlap. `duration_s`: how long the run is meant to be; requests sent
    later than that are too late for the intended rate. `readings`: what the machine says of itself; another one in
    tests.
    """

    def __init__(
        self,
        *,
        scenario: str,
        description: str,
        seed: int,
        generator: str,
        request_digest: str,
        phases: Sequence[Phase],
        duration_s: float,
        readings: Callable[[], machine.Reading] = machine.read_now,
    ) -> None:
        if not phases:
            raise ValueError("a run has at least one phase")
        self.duration_s = duration_s
        self._run = Run(
            scenario=scenario,
            description=description,
            started_at="",
            seed=seed,
            generator=generator,
            open_loop=True,
            duration_s=duration_s,
            request_digest=request_digest,
            machine=machine.this_machine(),
            phases=list(phases),
        )
        self._counting = {phase.name for phase in phases if phase.counts}
        self._cells: dict[Label, Cell] = {}
        self._seconds: dict[int, Second] = {}
        self._intended: list[float] = []
        self._told: list[float] = []
        self._addresses: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
        """(edge, target) -> requests and misses of the phases that count; warm-up leaves zeros."""
        self._sent = self._in_time = self._done = self._late = 0
        self._readings = readings
        self._taken: list[tuple[float, machine.Reading]] = []
        self._pulses = Pulses(self._counts_at)

    def intend(self, at_s: float) -> None:
        """One request is meant to be sent at `at_s`. Of every one, before any is sent."""
        self._intended.append(at_s)

    @property
    def is_begun(self) -> bool:
        return bool(self._taken)

    def begin(self) -> None:
        """The run's second 0 is now."""
        self._run.started_at = dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")
        self._taken = [(0.0, self._readings())]

    def sample(
        self,
        label: Label,
        target: str,
        arrival_at_s: float,
        sent_at_s: float | None,
        received_at_s: float,
        code: int | None,
        body_bytes: int,
        *,
        was_free: bool = True,
    ) -> None:
        """One request and what became of it. Takes about five microseconds.

        `target`: path and query, as sent. `arrival_at_s`: when it was meant to be sent, as it was intended.
        `sent_at_s`: just before its first byte left; None: never. `received_at_s`: just after its last byte came, or
        when it was given up. `code`: None without a complete answer; the label's status is then ERROR. `was_free`:
        somebody who could send it was waiting for it when it was due, so that a late start is the generator's fault.
        """
        cell = self._cells.get(label)
        if cell is None:
            cell = self._cells[label] = Cell(label)
        cell.requests += 1
        cell.body_bytes += body_bytes
        key = str(code) if code is not None else NEVER_SENT if sent_at_s is None else NO_ANSWER
        cell.codes[key] = cell.codes.get(key, 0) + 1
        counts = label.phase in self._counting
        self._told.append(arrival_at_s)
        corrected_us = (received_at_s - arrival_at_s) * 1e6
        cell.corrected.add(corrected_us)
        if sent_at_s is not None:
            cell.uncorrected.add((received_at_s - sent_at_s) * 1e6)
            self._second(sent_at_s).sent += 1
            in_time = sent_at_s <= self.duration_s + check.LATE_S
            self._second(arrival_at_s).in_time += in_time
            if counts:
                self._sent += 1
                self._in_time += in_time
                self._late += was_free and sent_at_s - arrival_at_s > check.LATE_S
        if code is not None:
            self._second(received_at_s).done += 1
            self._done += counts
        meant = self._second(arrival_at_s)
        status, edge = label.status.value, label.edge
        latency = meant.latency.get(status)
        if latency is None:
            latency = meant.latency[status] = Histogram()
            meant.requests[status] = {}
            meant.body_bytes[status] = {}
        latency.add(corrected_us)
        by_edge = meant.requests[status]
        by_edge[edge] = by_edge.get(edge, 0) + 1
        octets = meant.body_bytes[status]
        octets[edge] = octets.get(edge, 0) + body_bytes
        address = self._addresses[edge, target]
        if counts:
            address[0] += 1
            address[1] += label.status in MISS_STATUSES

    @property
    def next_pulse_s(self) -> float:
        """When the generator's loop is to call `pulse` next: to sleep until then, not for as long as one."""
        return self._pulses.next_s

    def pulse(self, now_s: float) -> None:
        """The generator's loop has come round. Each pulse that was due meanwhile is counted, with how late it is."""
        self._pulses.come(now_s)
        if now_s - self._taken[-1][0] >= _READ_EVERY_S:
            self._taken.append((now_s, self._readings()))

    def event(self, at_s: float, kind: str, text: str) -> None:
        """A marker in the plots; `kind` as in run.Event."""
        self._run.events.append(Event(at_s, kind, text))

    def changed(self, change: PriceChange) -> None:
        """One change of a price, when all of it is known."""
        self._run.changes.append(change)

    def purged(self, purge: Purge) -> None:
        """One purge that was ordered; when it was live may be told it later, as of a change."""
        self._run.purges.append(purge)

    def so_far(self) -> list[Cell]:
        """What has been counted until now, for whoever watches a run; the cells go on counting."""
        return list(self._cells.values())

    def end(self, ended_at_s: float) -> None:
        """The generator's work is over: what its process does from now on (samples told later) is not counted as its
        own. Without it, `finish` is that moment."""
        self.pulse(ended_at_s)
        if ended_at_s > self._taken[-1][0]:
            self._taken.append((ended_at_s, self._readings()))

    def finish(self, ended_at_s: float, *, cut_short: str | None = None) -> Run:
        """The run, judged. Once, when everything has been answered or given up.

        `cut_short`: why it ended before its time (`interrupted`). The run is invalid then; what was meant for later
        than `ended_at_s` is not missed, and is to have no sample.
        """
        self.end(ended_at_s)
        intended = self._intended if cut_short is None else [at_s for at_s in self._intended if at_s <= ended_at_s]
        for at_s in intended:
            self._second(at_s).intended += 1
        run = self._run
        run.cells = [self._cells[label] for label in sorted(self._cells)]
        last = max(self._seconds, default=-1)
        run.seconds = [self._seconds.get(at_s) or Second(at_s) for at_s in range(last + 1)]
        run.events.sort(key=lambda event: event.at_s)
        run.changes.sort(key=lambda change: change.at_s)
        run.purges.sort(key=lambda purge: purge.at_s)
        run.addresses = self._worst_addresses()
        for edge, _ in self._addresses:
            run.asked_urls[edge] = run.asked_urls.get(edge, 0) + 1
        taken = self._taken_by_stretch()
        run.series |= self._generator_series(taken)
        if cut_short is not None:
            run.duration_s = min(run.duration_s, ended_at_s)
        run.check = check.judged(self._evidence(intended, taken, ended_at_s, cut_short))
        return run

    def _evidence(
        self,
        intended: Sequence[float],
        taken: Sequence[tuple[float, float, machine.Taken]],
        ended_at_s: float,
        cut_short: str | None,
    ) -> check.Evidence:
        meant = Counter(at_s for at_s in intended if self._counts_at(at_s))
        told = Counter(at_s for at_s in self._told if self._counts_at(at_s))
        shares = [
            check.CpuWindow(from_s, to_s, each.cpu_share)
            for from_s, to_s, each in taken
            if self._counts_at((from_s + to_s) / 2)
        ]
        whole = machine.taken_between(self._taken[0][1], self._taken[-1][1])
        return check.Evidence(
            open_loop=True,
            planned_s=self.duration_s,
            ended_s=ended_at_s,
            cut_short=cut_short,
            intended=sum(meant.values()),
            in_time=self._in_time,
            sent=self._sent,
            done=self._done,
            unaccounted=(meant - told).total(),
            unforeseen=(told - meant).total(),
            late=self._late,
            lag=self._pulses.lag,
            busiest=check.busiest_window(shares),
            cores=1,
            cpu_share=whole.cpu_share,
            steal_share=whole.steal_share,
        )

    def _second(self, at_s: float) -> Second:
        number = max(0, int(at_s))
        found = self._seconds.get(number)
        if found is None:
            found = self._seconds[number] = Second(number)
        return found

    def _counts_at(self, at_s: float) -> bool:
        """Whether a moment belongs to a phase that counts; what is after the last one belongs to the last."""
        phase = next((each for each in self._run.phases if at_s < each.to_s), None)
        return (phase or self._run.phases[-1]).counts

    def _worst_addresses(self) -> list[Address]:
        found = (
            Address(edge, target, requests, misses)
            for (edge, target), (requests, misses) in self._addresses.items()
            if misses
        )
        return heapq.nsmallest(MAX_ADDRESSES, found, key=lambda each: (-each.misses, each.edge, each.target))

    def _taken_by_stretch(self) -> list[tuple[float, float, machine.Taken]]:
        pairs = zip(self._taken, self._taken[1:], strict=False)
        return [(from_s, to_s, machine.taken_between(before, after)) for (from_s, before), (to_s, after) in pairs]

    def _generator_series(
        self, taken: Sequence[tuple[float, float, machine.Taken]]
    ) -> dict[str, list[tuple[float, float]]]:
        """What the generator and the machine were doing, as Run.series has it; each stretch at its end."""
        return {
            "generator_cpu_share": [(round(to_s, 3), round(each.cpu_share, 4)) for _, to_s, each in taken],
            "generator_lag_ms": [
                (float(at_s), round(lag_ms, 3)) for at_s, lag_ms in sorted(self._pulses.worst_ms.items())
            ],
            "machine_busy_cores": [(round(to_s, 3), round(each.busy_cores, 4)) for _, to_s, each in taken],
            "machine_steal_share": [(round(to_s, 3), round(each.steal_share, 4)) for _, to_s, each in taken],
        }
