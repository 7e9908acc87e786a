"""Break a running shop again and again, and judge every answer by what was live when it was asked for.

    ./dev up
    python -m loadtests.chaos --faults 1000 --answers 1000000 --seed 7 --out chaos-7
    python -m loadtests.chaos --resume chaos-7
    python -m loadtests.chaos --judge chaos-7
    python -m loadtests.chaos --faults 30 --seed 7 --schedule

Faults come in episodes, drawn from the seed; each ends with a look at how soon every worker knew everything again.
Meanwhile prices change, purges are ordered and shoppers read at every edge. Everything is written into a history, and
judged by observers that know HTTP and versions only. `--judge` judges the histories of a run anew.

`--faults` counts those that were seen to bite, and `--answers` those that could have been old: asked for after a change
of a price in them had been reported live. A run goes on until there are as many of both.

Exit status: 0 when nothing was wrong, 1 when something was, 2 when the run could not start or go on.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from loadtests.chaos import schedule
from loadtests.chaos.history import BadHistory
from loadtests.chaos.report import rendered
from loadtests.chaos.run import Folder, Plan, judged, run
from loadtests.chaos.shop import Shop
from loadtests.chaos.tally import Tally
from loadtests.faults import FaultsUnavailable
from loadtests.staff import StaffError
from loadtests.target import BadTarget, load_target


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtests.chaos", description=(__doc__ or "").partition("\n")[0])
    plan = Plan()
    parser.add_argument("--faults", type=int, default=plan.faults, help="how many have to bite (default: %(default)s)")
    parser.add_argument(
        "--answers", type=int, default=plan.answers, help="go on until so many were checked that could have been old"
    )
    parser.add_argument("--seed", type=int, default=plan.seed)
    parser.add_argument("--rate", type=float, default=plan.rate, help="requests a second in all (default: %(default)s)")
    parser.add_argument("--connections", type=int, default=plan.connections, help="readers of each edge")
    parser.add_argument("--orders", type=int, default=plan.orders, help="changes on their way at once")
    parser.add_argument("--calm", type=float, default=plan.calm_s, metavar="SECONDS", help="without faults, at first")
    parser.add_argument("--kinds", help="only these kinds of faults, separated by commas")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the run (default: chaos-SEED-TIME)")
    parser.add_argument("--resume", type=Path, metavar="DIR", help="go on with the run in this folder")
    parser.add_argument("--judge", type=Path, metavar="DIR", help="judge the histories in this folder anew, and exit")
    parser.add_argument("--schedule", action="store_true", help="print what would be broken when, and exit")
    parser.add_argument("--ready", type=Path, help="ready file (default: NEARSHELF_READY, or the state folder's)")
    parser.add_argument("--state", type=Path, help="state folder (default: .nearshelf)")
    parser.add_argument("--json", action="store_true", help="print what was found as JSON")
    return parser.parse_args(arguments)


def plan_of(options: argparse.Namespace) -> Plan:
    """Raises BadTarget for a kind that there is not."""
    kinds = tuple(schedule.KINDS)
    if options.kinds is not None:
        kinds = tuple(kind.strip() for kind in options.kinds.split(","))
        for kind in kinds:
            if kind not in schedule.KINDS:
                raise BadTarget(f"--kinds: no kind {kind!r}; there are {', '.join(schedule.KINDS)}")
    if options.rate <= 0 or min(options.connections, options.orders, options.faults) < 1:
        raise BadTarget("--rate, --connections, --orders and --faults: more than nothing is needed")
    return Plan(
        seed=options.seed,
        faults=options.faults,
        answers=options.answers,
        rate=options.rate,
        connections=options.connections,
        orders=options.orders,
        calm_s=options.calm,
        kinds=kinds,
    )


async def print_schedule(options: argparse.Namespace) -> None:
    """Raises BadTarget or FaultsUnavailable."""
    plan = plan_of(options)
    stage = await Shop(load_target(options.ready, options.state)).stage()
    left = plan.faults
    for episode in schedule.episodes(plan.seed, 0, stage, plan.kinds):
        print(episode)
        left -= len(episode.faults)
        if left <= 0:
            return


def found_in(folder: Path) -> Tally:
    """All histories in a folder, judged anew. Raises BadHistory or BadTarget."""
    paths = sorted(folder.glob("session-*.jsonl.gz"))
    if not paths:
        raise BadTarget(f"{folder}: no history of a run; it would be session-0.jsonl.gz")
    whole = Tally()
    for path in paths:
        whole.add(judged(path))
    return whole


async def observe(options: argparse.Namespace) -> Tally:
    """Raises BadTarget, BadHistory, StaffError or FaultsUnavailable."""
    # As after Ctrl-C: the shop is mended first.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, os.kill, os.getpid(), signal.SIGINT)
    if options.resume is not None:
        folder = Folder.resume(options.resume)
    else:
        plan = plan_of(options)
        name = f"chaos-{plan.seed}-{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%S}"
        folder = Folder.make(options.out or Path(name), plan)
    return await run(load_target(options.ready, options.state), folder, _say)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse_arguments(arguments)
    try:
        if options.schedule:
            asyncio.run(print_schedule(options))
            return 0
        tally = found_in(options.judge) if options.judge is not None else asyncio.run(observe(options))
    except (BadTarget, BadHistory, StaffError, FaultsUnavailable) as exc:
        print(f"chaos: {exc}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("chaos: interrupted; go on with --resume", file=sys.stderr)
        return 2
    print(json.dumps({**tally.to_json(), "passed": tally.passed}, indent=2) if options.json else rendered(tally))
    return 0 if tally.passed else 1


if __name__ == "__main__":
    sys.exit(main())
