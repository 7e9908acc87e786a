"""What came of many runs of one seed, taken together.

Run number n of seed S is the world of the seed S x 1,000,000,000 + n, wherever and whenever it is played: totals depend
on the seed, the code and the number of serves alone.
"""

from __future__ import annotations

import base64
import gc
import hashlib
import json
import time
from array import array
from dataclasses import dataclass, field
from typing import Any, Self

from tests.simulation.coverage import Coverage
from tests.simulation.world import World

RUNS_OF_A_SEED = 1_000_000_000
FORMAT = 2


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
    code: str = ""
    """The digest of the code that played them (`progress.digest_of_code`), where that matters."""
    runs: int = 0
    steps: int = 0
    served: int = 0
    checked: int = 0
    virtual_s: float = 0.0
    took_s: float = 0.0
    processor_s: float = 0.0
    """Seconds of a processor, of all who played."""
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
        self.processor_s += other.processor_s
        self.traces |= other.traces
        self.coverage.add(other.coverage)
        self.failures += other.failures

    def told(self) -> list[str]:
        """The figures as lines."""
        rate = self.checked / self.took_s if self.took_s else 0.0
        each = self.checked / self.processor_s if self.processor_s else 0.0
        return [
            f"seed and code           {self.seed:>16} / {self.code}",
            f"runs                    {self.runs:>16,}",
            f"steps                   {self.steps:>16,}",
            f"distinct interleavings  {len(self.traces):>16,}   taken together {self._digest()}",
            f"checked serves          {self.checked:>16,}   of {self.served:,} answers",
            f"violations              {len(self.failures):>16,}",
            f"checked a second        {rate:>16,.0f}   {each:,.0f} a second of a processor",
            f"{self.virtual_s / 3600:,.1f} simulated hours in {self.took_s:,.0f} s",
        ]

    def _digest(self) -> str:
        """The same for whoever plays the same runs."""
        return hashlib.sha256(array("Q", sorted(self.traces)).tobytes()).hexdigest()[:16]

    def to_json(self) -> str:
        return json.dumps(
            {
                "format": FORMAT,
                "seed": self.seed,
                "code": self.code,
                "runs": self.runs,
                "steps": self.steps,
                "served": self.served,
                "checked": self.checked,
                "virtual_s": self.virtual_s,
                "took_s": self.took_s,
                "processor_s": self.processor_s,
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
            value["code"],
            value["runs"],
            value["steps"],
            value["served"],
            value["checked"],
            value["virtual_s"],
            value["took_s"],
            value["processor_s"],
            set(traces),
            Coverage(value["faults"], value["invariants"]),
            [Failure(*each) for each in value["failures"]],
        )


def seed_of(seed: int, number: int) -> int:
    """The seed of the world of run `number`."""
    return seed * RUNS_OF_A_SEED + number


def play(seed: int, first: int, count: int) -> Totals:
    """Runs `first` to `first + count - 1` of `seed`."""
    began = time.process_time()
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
    totals.processor_s = time.process_time() - began
    return totals
