"""The promise held against seeded worlds. Exit status 0: kept; 1: broken; 2: the run does not count; 3: stopped before
its end."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.simulation.plan import FAULT_POINTS
from tests.simulation.players import ENDS, PlayerEnded, prepare
from tests.simulation.progress import CannotResume, play_until
from tests.simulation.promise import Invariant
from tests.simulation.runs import Totals
from tests.simulation.story import story_of
from tests.simulation.world import World

SAY_EVERY_S = 10.0


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--serves", type=_count, default=100_000, help="how many serves are to be checked")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=_count, default=2)
    parser.add_argument("--resume", type=Path, help="a file that holds how far a long run is, also after a break")
    parser.add_argument(
        "--replay", type=_number, metavar="RUN", help="play one run, by the number of its world, and tell it"
    )
    parser.add_argument("--everything", action="store_true", help="with --replay: the whole story, line by line")
    chosen = parser.parse_args(arguments)
    if chosen.replay is not None:
        return _replay(chosen.replay, everything=chosen.everything)
    stop = _Stop()
    try:
        totals = play_until(
            chosen.serves,
            chosen.seed,
            processes=chosen.processes,
            resume=chosen.resume,
            heard=Progress(chosen.serves, time.monotonic),
            stopping=stop,
        )
    except (CannotResume, PlayerEnded, OSError) as exc:
        print(f"tests.simulation: {exc}", file=sys.stderr)
        return 2
    finally:
        stop.forget()
    print("\n".join([*totals.told(), "", *totals.coverage.told()]))
    for failure in totals.failures:
        print(f"\nrun {failure.seed} broke {failure.invariant}: {failure.text}")
    if totals.failures:
        print()
        return _replay(totals.failures[0].seed, everything=False)
    if stop.asked:
        print(f"\nStopped at {totals.checked:,} of {chosen.serves:,} checked serves; {_how_to_go_on(chosen)}")
        return 3
    missing = totals.coverage.missing(FAULT_POINTS, [invariant.value for invariant in Invariant], totals.checked)
    if missing:
        print("\nThis run does not count, because not everything was tried:", *missing, sep="\n  ")
        return 2
    return 0


def _count(text: str) -> int:
    """For argparse: a whole number from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return int(text)


def _number(text: str) -> int:
    """For argparse: a whole number from 0 on."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0 on")
    return int(text)


def _how_to_go_on(chosen: argparse.Namespace) -> str:
    if chosen.resume is None:
        return "nothing of it is kept: a run that names a file (--resume) can be gone on with."
    return (
        f"go on with: python -m tests.simulation --serves {chosen.serves} --seed {chosen.seed} "
        f"--processes {chosen.processes} --resume {shlex.quote(str(chosen.resume))}"
    )


def _replay(seed: int, *, everything: bool) -> int:
    prepare()
    result = World(seed, telling=True).run()
    if everything:
        print("\n".join(f"{at:10.4f}  {who:<10} {text}" for at, who, text in result.story))
    print("\n".join(story_of(result)))
    return 1 if result.violations else 0


class _Stop:
    """Whether somebody wants the end, by Ctrl-C or SIGTERM."""

    def __init__(self) -> None:
        self.asked = False
        self._before = {number: signal.signal(number, self._ask) for number in ENDS}

    def __call__(self) -> bool:
        return self.asked

    def _ask(self, *_: object) -> None:
        self.asked = True

    def forget(self) -> None:
        """Signals mean what they meant before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)


class Progress:
    """Says now and then how far it is, and how long it will take at the pace of this command, to whoever looks.

    `clock`: seconds.
    """

    def __init__(self, serves: int, clock: Callable[[], float]) -> None:
        self._serves = serves
        self._clock = clock
        self._began = self._said_at = clock()
        self._begins_with: int | None = None

    def __call__(self, totals: Totals) -> None:
        now = self._clock()
        if self._begins_with is None:
            self._begins_with = totals.checked
            if totals.runs:
                self._say(f"goes on from {totals.checked:,} checked serves in {totals.runs:,} runs")
        elif now - self._said_at >= SAY_EVERY_S:
            self._said_at = now
            rate = (totals.checked - self._begins_with) / (now - self._began)
            left = max(0, self._serves - totals.checked)
            self._say(
                f"{totals.checked:>14,} checked serves in {totals.runs:,} runs, {len(totals.failures)} violations; "
                f"{rate:,.0f} a second, {_spelt(left / rate) if rate else 'who knows how long'} to go"
            )

    def _say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


def _spelt(seconds: float) -> str:
    """Reads: 2:05:09."""
    minutes, s = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{s:02}"


if __name__ == "__main__":
    sys.exit(main())
