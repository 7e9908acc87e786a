"""What a run has tried: how often each fault struck, and how often each invariant was held against something.

A run in which a fault never struck, or an invariant was never put to the test, proves nothing about them, so that it
does not count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping


class Coverage:
    """Counts of one run, or of many."""

    def __init__(self, faults: Mapping[str, int] | None = None, invariants: Mapping[str, int] | None = None) -> None:
        self.faults: Counter[str] = Counter(faults)
        self.invariants: Counter[str] = Counter(invariants)

    def struck(self, fault: str) -> None:
        """A fault has struck."""
        self.faults[fault] += 1

    def checked(self, invariant: str, times: int = 1) -> None:
        """An invariant was held against something that it could have failed on."""
        self.invariants[invariant] += times

    def add(self, other: Coverage) -> None:
        self.faults.update(other.faults)
        self.invariants.update(other.invariants)

    def missing(self, faults: Iterable[str], invariants: Iterable[str], serves: int) -> list[str]:
        """What was tried too seldom for so many checked serves, in words; empty: the run counts."""
        few, checks = needed(serves)
        return [
            *(f"fault {name}: struck {self.faults[name]} times, {few} are needed" for name in faults
              if self.faults[name] < few),
            *(f"invariant {name}: checked {self.invariants[name]} times, {checks} are needed" for name in invariants
              if self.invariants[name] < checks),
        ]  # fmt: skip

    def told(self) -> list[str]:
        """Both counts as lines."""
        names = sorted(self.faults)
        width = max([len(name) for name in (*names, *self.invariants)], default=0)
        return [
            "invariants, how often each was put to the test:",
            *(f"  {name:<{width}}  {count:>12,}" for name, count in sorted(self.invariants.items())),
            "faults, how often each struck:",
            *(f"  {name:<{width}}  {self.faults[name]:>12,}" for name in names),
        ]


def needed(serves: int) -> tuple[int, int]:
    """How often each fault must have struck, and each invariant been checked, in a run of so many checked serves: a
    hundred times from twenty million on and a thousand from ten million on, in proportion below, at least once."""
    return max(1, min(100, serves // 200_000)), max(1, min(1_000, serves // 10_000))
