"""Break a running shop again and again, and judge every answer by what was live when it was asked for.

    ./dev up
    python -m loadtests.chaos --faults 1000 --answers 1000000 --seed 7 --out chaos-7
    python -m loadtests.chaos --resume chaos-7 --rate 500
    python -m loadtests.chaos --judge chaos-7
    python -m loadtests.chaos --faults 30 --seed 7 --schedule

Faults come in episodes, drawn from the seed; each ends with a look at how soon every worker knew everything again.
Meanwhile prices change, purges are ordered and shoppers read at every edge. Everything is written into a history, and
judged by observers that know HTTP and versions only. `--judge` judges the histories of a run anew.

`--faults` counts those that were seen to bite, and `--answers` those that could have been old: asked for after a change
of a price in them had been reported live. A run goes on until there are as many of both. How much is wanted, and under
which load, may be another when a run is resumed; its seed and its kinds of faults may not.

Exit status: 0 when nothing was wrong, 1 when something was, 2 when the run could not start or go on.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import json
import math
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loadtests.chaos import schedule
from loadtests.chaos.history import BadHistory
from loadtests.chaos.report import rendered
from loadtests.chaos.run import Folder, Plan, alone, judged, run
from loadtests.chaos.shop import Shop
from loadtests.chaos.tally import Tally
from loadtests.faults import FaultsUnavailable
from loadtests.staff import StaffError
from loadtests.target import BadTarget, load_target

RESUMED_WITH = {
    "faults": "faults",
    "answers": "answers",
    "rate": "rate",
    "connections": "connections",
    "orders": "orders",
    "calm": "calm_s",
    "quiet": "quiet_s",
}
"""Options that may be others when a run goes on -> fields of its plan. Each session notes under which it ran."""


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Options that were not given are None."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.chaos", description=(__doc__ or "").partition("\n")[0])
    plan = Plan()
    parser.add_argument("--faults", type=int, help=f"how many have to bite (default: {plan.faults})")
    parser.add_argument("--answers", type=int, help="go on until so many were checked that could have been old")
    parser.add_argument("--seed", type=int, help=f"(default: {plan.seed})")
    parser.add_argument("--rate", type=float, help=f"requests a second in all (default: {plan.rate:g})")
    parser.add_argument("--connections", type=int, help=f"readers of each edge (default: {plan.connections})")
    parser.add_argument("--orders", type=int, help=f"changes on their way at once (default: {plan.orders})")
    parser.add_argument(
        "--calm", type=float, metavar="SECONDS", help=f"without faults, at first (default: {plan.calm_s:g})"
    )
    parser.add_argument(
        "--quiet", type=float, metavar="SECONDS", help=f"without faults, now and then (default: {plan.quiet_s:g})"
    )
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
    """Of a run that begins, or of what one goes on with. Raises BadTarget."""
    if options.resume is not None:
        for name in ("seed", "kinds", "out"):
            if getattr(options, name) is not None:
                raise BadTarget(f"--{name}: a run that goes on with --resume keeps its own")
    given = changes_of(options)
    if options.seed is not None:
        given["seed"] = options.seed
    if options.kinds is not None:
        given["kinds"] = tuple(kind.strip() for kind in options.kinds.split(","))
        for kind in given["kinds"]:
            if kind not in schedule.KINDS:
                raise BadTarget(f"--kinds: no kind {kind!r}; there are {', '.join(schedule.KINDS)}")
    return Plan(**given)


def changes_of(options: argparse.Namespace) -> dict[str, Any]:
    """What was said of how much is to be done. Raises BadTarget."""
    given = {
        field: getattr(options, name) for name, field in RESUMED_WITH.items() if getattr(options, name) is not None
    }
    if not all(math.isfinite(value) for value in given.values()):
        raise BadTarget("--rate, --calm and --quiet: a finite number is needed")
    if any(given.get(name, 1) <= 0 for name in ("rate", "connections", "orders", "faults")):
        raise BadTarget("--rate, --connections, --orders and --faults: more than nothing is needed")
    if any(value < 0 for value in given.values()):
        raise BadTarget("--answers, --calm and --quiet: not less than nothing")
    return given


async def print_schedule(options: argparse.Namespace) -> None:
    """Raises BadTarget or FaultsUnavailable."""
    plan = plan_of(options)
    stage = await Shop(load_target(options.ready, options.state)).stage()
    if not schedule.possible(stage, plan.kinds):
        raise BadTarget(f"--kinds: there is nothing in this shop for {', '.join(plan.kinds)}")
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
    observing = asyncio.current_task()
    assert observing is not None
    # The shop is mended first. Not by way of SIGINT, which a shell has its background jobs ignore.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, observing.cancel)
    plan = plan_of(options)
    if options.resume is not None:
        Folder.resume(options.resume)
    target = load_target(options.ready, options.state)
    # A folder is only made or changed once there is a shop to break, and read before that.
    with alone(target.state):
        if options.resume is not None:
            folder = Folder.resume(options.resume, **changes_of(options))
        else:
            name = f"chaos-{plan.seed}-{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%S}"
            folder = Folder.make(options.out or Path(name), plan)
        return await run(target, folder, _say)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse_arguments(arguments)
    try:
        if options.schedule:
            asyncio.run(print_schedule(options))
            return 0
        tally = found_in(options.judge) if options.judge is not None else asyncio.run(observe(options))
    except (BadTarget, BadHistory, StaffError, FaultsUnavailable, OSError) as exc:
        print(f"chaos: {exc}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("chaos: interrupted; go on with --resume", file=sys.stderr)
        return 2
    print(json.dumps({**tally.to_json(), "passed": tally.passed}, indent=2) if options.json else rendered(tally))
    return 0 if tally.passed else 1


if __name__ == "__main__":
    sys.exit(main())
