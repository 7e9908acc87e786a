"""The promise held against seeded worlds. Exit status 0: kept; 1: broken; 2: the run does not count."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from tests.simulation.plan import FAULT_POINTS
from tests.simulation.promise import Invariant
from tests.simulation.runs import CannotResume, Totals, play_until, prepare
from tests.simulation.story import story_of
from tests.simulation.world import World

SAY_EVERY_S = 10.0


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--serves", type=int, default=100_000, help="how many serves are to be checked")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--resume", type=Path, help="a file that holds how far a long run is, also after a break")
    parser.add_argument(
        "--replay", type=int, metavar="RUN", help="play one run, by the number of its world, and tell it"
    )
    parser.add_argument("--everything", action="store_true", help="with --replay: the whole story, line by line")
    chosen = parser.parse_args(arguments)
    if chosen.replay is not None:
        return _replay(chosen.replay, everything=chosen.everything)
    try:
        totals = play_until(
            chosen.serves, chosen.seed, processes=chosen.processes, resume=chosen.resume, heard=_Progress()
        )
    except (CannotResume, OSError) as exc:
        print(f"tests.simulation: {exc}", file=sys.stderr)
        return 2
    print("\n".join([*totals.told(), "", *totals.coverage.told()]))
    for failure in totals.failures:
        print(f"\nrun {failure.seed} broke {failure.invariant}: {failure.text}")
    if totals.failures:
        print()
        return _replay(totals.failures[0].seed, everything=False)
    missing = totals.coverage.missing(FAULT_POINTS, [invariant.value for invariant in Invariant], totals.checked)
    if missing:
        print("\nThis run does not count, because not everything was tried:", *missing, sep="\n  ")
        return 2
    return 0


def _replay(seed: int, *, everything: bool) -> int:
    prepare()
    result = World(seed, telling=True).run()
    if everything:
        print("\n".join(f"{at:10.4f}  {who:<10} {text}" for at, who, text in result.story))
    print("\n".join(story_of(result)))
    return 1 if result.violations else 0


class _Progress:
    """Says now and then how far it is, where somebody looks."""

    def __init__(self) -> None:
        self._said_at = time.monotonic()

    def __call__(self, totals: Totals) -> None:
        if time.monotonic() - self._said_at >= SAY_EVERY_S:
            self._said_at = time.monotonic()
            print(f"{totals.checked:>14,} checked serves in {totals.runs:,} runs", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
