"""Looks for planted bugs: worlds are played, one after the other, until an invariant does not hold."""

from __future__ import annotations

import gc
import time
from collections.abc import Sequence
from dataclasses import dataclass
from unittest.mock import patch

from tests.simulation import world
from tests.simulation.bugs import of_edges, of_the_origin
from tests.simulation.bugs.planting import Bug, named
from tests.simulation.promise import Violation

BUGS = named([*of_edges.BUGS, *of_the_origin.BUGS])
"""Every planted bug, by its name."""
MOST_RUNS = 60
"""Worlds that are played before it counts as not caught."""
FIRST_SEED = 1


@dataclass(frozen=True, slots=True)
class Caught:
    """How a bug was found."""

    bug: str
    seed: int
    """Of the world that showed it."""
    runs: int
    served: int
    """Answers that had been looked at by then."""
    checked: int
    """Of these, those about what had been reported live."""
    took_s: float
    violation: Violation

    def told(self) -> str:
        found = self.violation
        return (
            f"{self.bug:<36} {self.checked:>9,} checked serves, {self.runs:>3} worlds, {self.took_s:>5.1f} s: "
            f"{found.invariant.value}"
        )


def hunt(bug: Bug, runs: int = MOST_RUNS, first_seed: int = FIRST_SEED) -> Caught | None:
    """Play worlds with `bug` in them until it is caught; None: it was not."""
    began = time.monotonic()
    served = checked = 0
    draw = world.plan_of
    with patch.object(world, "plan_of", lambda draws: bug.tune(draw(draws))), bug.plant():
        for number in range(runs):
            seed = first_seed + number
            result = world.World(seed).run()
            served += result.served
            checked += result.checked
            if result.violations:
                took_s = time.monotonic() - began
                return Caught(bug.name, seed, number + 1, served, checked, took_s, result.violations[0])
            del result
            gc.collect()
    return None


def hunt_all(names: Sequence[str] = ()) -> list[str]:
    """Look for these, or for all; says what came of each, and gives the names of those that were not caught."""
    missed = []
    for bug in [BUGS[name] for name in names] or list(BUGS.values()):
        caught = hunt(bug)
        if caught is None:
            missed.append(bug.name)
        print(f"{bug.name:<36} NOT CAUGHT" if caught is None else caught.told(), flush=True)
    return missed
