"""Looks for planted bugs: worlds are played, one after the other, until an invariant does not hold."""

from __future__ import annotations

import gc
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from unittest.mock import patch

from tests.simulation import world
from tests.simulation.bugs import of_edges, of_the_origin, of_the_supervisor
from tests.simulation.bugs.planting import Bug, named
from tests.simulation.plan import Plan, plan_of
from tests.simulation.promise import Violation
from tests.simulation.world import Result

BUGS = named([*of_edges.BUGS, *of_the_origin.BUGS, *of_the_supervisor.BUGS])
"""Every planted bug, by its name."""
MOST_RUNS = 20
"""Worlds that are played before it counts as not caught."""
FIRST_SEED = 1


VIEW_EVERY_S = 0.02
"""Between two viewers of one worker: a mistake shows at the few that come at the right moment, and each one costs."""


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
    """Seconds of a processor."""
    violation: Violation

    def told(self) -> str:
        found = self.violation
        return (
            f"{self.bug:<36} {self.served:>7,} serves ({self.checked:,} checked), {self.runs} worlds, "
            f"{self.took_s:.1f} s: {found.invariant.value}"
        )


def hunt(bug: Bug, runs: int = MOST_RUNS, first_seed: int = FIRST_SEED) -> Caught | None:
    """Play worlds with `bug` in them, until it is caught; None: it was not."""
    began = time.process_time()
    served = checked = 0
    with bug.plant():
        for number in range(runs):
            played = _play(bug, first_seed + number, bug.mended_after_s or world.STORM_S)
            served += played.served
            checked += played.checked
            if played.violations:
                took_s = time.process_time() - began
                return Caught(bug.name, played.seed, number + 1, served, checked, took_s, played.violations[0])
    return None


def is_clean_without(bug: Bug, caught: Caught) -> bool:
    """Whether the world that showed `bug` has nothing to complain of without it, for as long."""
    return not _play(bug, caught.seed, bug.mended_after_s or caught.violation.at).violations


def _play(bug: Bug, seed: int, storm_s: float) -> Result:
    """What came of a world in which only those faults strike that `bug` is looked for with, for so long; nobody mends
    them, but where that is needed."""

    def tuned(draws: Random, due: Sequence[str]) -> Plan:
        return bug.tune(replace(plan_of(draws), view_every_s=VIEW_EVERY_S))

    gc.collect()
    with patch.object(world, "plan_of", tuned), patch.object(world, "due_in", lambda seed: []):
        return world.World(seed, storm_s=storm_s).run(mends=bug.mended_after_s is not None)


def hunt_all(names: Sequence[str] = ()) -> list[str]:
    """Look for these, or for all; says what came of each, and gives the names of those that were not caught."""
    missed = []
    for bug in [BUGS[name] for name in names] or list(BUGS.values()):
        caught = hunt(bug)
        if caught is None:
            missed.append(bug.name)
        print(f"{bug.name:<36} NOT CAUGHT" if caught is None else caught.told(), flush=True)
    return missed
