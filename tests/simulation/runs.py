"""Many runs, in several processes, until so many serves have been checked; to be gone on with after a break.

Run number n of seed S is the world of the seed S x 1,000,000,000 + n, wherever and whenever it is played: totals depend
on the seed and the number of serves alone.
"""

from __future__ import annotations

import base64
import gc
import json
import multiprocessing
import time
from array import array
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from tests.simulation.coverage import Coverage
from tests.simulation.world import World

RUNS_OF_A_SEED = 1_000_000_000
RUNS_AT_ONCE = 4
"""Played by a process before it reports."""
AHEAD = 3
"""Batches given to each process, so that none waits."""
KEEP_EVERY_S = 30.0
"""How often a resumable run writes down how far it is."""
MOST_FAILURES = 5
"""Failing runs that end the whole."""
FORMAT = 1


class CannotResume(Exception):
    """A file that does not belong to this run. Reads: progress.json is of seed 3, not 7; name another file."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A run with a violation."""

    seed: int
    checked: int
    """Serves that had been checked in this run until then."""
    invariant: str
    text: str


@dataclass(slots=True)
class Totals:
    """What many runs were, taken together."""

    seed: int
    runs: int = 0
    steps: int = 0
    served: int = 0
    checked: int = 0
    virtual_s: float = 0.0
    took_s: float = 0.0
    traces: set[int] = field(default_factory=set)
    """Of each distinct run, what happened in which order."""
    coverage: Coverage = field(default_factory=Coverage)
    failures: list[Failure] = field(default_factory=list)

    def add(self, other: Totals) -> None:
        self.runs += other.runs
        self.steps += other.steps
        self.served += other.served
        self.checked += other.checked
        self.virtual_s += other.virtual_s
        self.traces |= other.traces
        self.coverage.add(other.coverage)
        self.failures += other.failures

    def told(self) -> list[str]:
        """The figures as lines."""
        rate = self.checked / self.took_s if self.took_s else 0.0
        return [
            f"runs                    {self.runs:>16,}",
            f"steps                   {self.steps:>16,}",
            f"distinct interleavings  {len(self.traces):>16,}",
            f"checked serves          {self.checked:>16,}   of {self.served:,} answers",
            f"violations              {len(self.failures):>16,}",
            f"{self.virtual_s / 3600:,.1f} simulated hours in {self.took_s:,.0f} s; {rate:,.0f} checked a second",
        ]

    def to_json(self) -> str:
        return json.dumps(
            {
                "format": FORMAT,
                "seed": self.seed,
                "runs": self.runs,
                "steps": self.steps,
                "served": self.served,
                "checked": self.checked,
                "virtual_s": self.virtual_s,
                "took_s": self.took_s,
                "traces": base64.b64encode(array("Q", sorted(self.traces)).tobytes()).decode(),
                "faults": dict(sorted(self.coverage.faults.items())),
                "invariants": dict(sorted(self.coverage.invariants.items())),
                "failures": [[each.seed, each.checked, each.invariant, each.text] for each in self.failures],
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Raises ValueError, KeyError or TypeError for what is not such a text."""
        value: dict[str, Any] = json.loads(text)
        if value["format"] != FORMAT:
            raise ValueError(f"format {value['format']!r}, only {FORMAT} is understood")
        traces = array("Q")
        traces.frombytes(base64.b64decode(value["traces"]))
        return cls(
            value["seed"],
            value["runs"],
            value["steps"],
            value["served"],
            value["checked"],
            value["virtual_s"],
            value["took_s"],
            set(traces),
            Coverage(value["faults"], value["invariants"]),
            [Failure(*each) for each in value["failures"]],
        )


def seed_of(seed: int, number: int) -> int:
    """The seed of the world of run `number`."""
    return seed * RUNS_OF_A_SEED + number


def play(seed: int, first: int, count: int) -> Totals:
    """Runs `first` to `first + count - 1` of `seed`."""
    totals = Totals(seed)
    for number in range(first, first + count):
        result = World(seed_of(seed, number)).run()
        totals.runs += 1
        totals.steps += result.steps
        totals.served += result.served
        totals.checked += result.checked
        totals.virtual_s += result.virtual_s
        totals.traces.add(result.trace)
        totals.coverage.add(result.coverage)
        if result.violations:
            found = result.violations[0]
            totals.failures.append(Failure(result.seed, result.checked, found.invariant.value, found.text))
        # Worlds are full of cycles, and the collector is off while one runs.
        del result
        gc.collect()
    return totals


def prepare() -> None:
    """To be called once in each process that plays: what is loaded by now is out of the collector's sight."""
    gc.collect()
    gc.freeze()


def play_until(
    serves: int,
    seed: int,
    *,
    processes: int = 1,
    resume: Path | None = None,
    heard: Callable[[Totals], None] = lambda totals: None,
) -> Totals:
    """Runs of `seed` in their order until `serves` have been checked, or MOST_FAILURES have failed.

    `resume`: where progress is written down, and read from at the beginning. `heard` is told of progress. Raises
    CannotResume, and OSError where the file cannot be written.
    """
    totals = Totals(seed) if resume is None or not resume.exists() else _read(resume, seed)
    began, before_s, kept_at = time.monotonic(), totals.took_s, time.monotonic()
    given = totals.runs
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), prepare) as pool:
        under_way: deque[Future[Totals]] = deque()
        while totals.checked < serves and len(totals.failures) < MOST_FAILURES:
            while len(under_way) < processes * AHEAD:
                under_way.append(pool.submit(play, seed, given, RUNS_AT_ONCE))
                given += RUNS_AT_ONCE
            # In their order, so that the same are counted each time.
            totals.add(under_way.popleft().result())
            totals.took_s = before_s + time.monotonic() - began
            heard(totals)
            if resume is not None and time.monotonic() - kept_at > KEEP_EVERY_S:
                kept_at = time.monotonic()
                _write(resume, totals)
        pool.shutdown(wait=True, cancel_futures=True)
    if resume is not None:
        _write(resume, totals)
    return totals


def _read(path: Path, seed: int) -> Totals:
    try:
        totals = Totals.from_json(path.read_text())
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise CannotResume(f"{path} does not hold the progress of a run ({exc}); name another file, or none") from exc
    if totals.seed != seed:
        raise CannotResume(f"{path} is of seed {totals.seed}, not {seed}; name another file, or its seed")
    return totals


def _write(path: Path, totals: Totals) -> None:
    beside = path.with_name(path.name + ".new")
    beside.write_text(totals.to_json())
    beside.replace(path)
