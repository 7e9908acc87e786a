"""Take the primary of a running shop away, again and again, and see what shoppers and staff notice.

    ./dev up --products 300
    python -m loadtests.failovers --kills 50 --freezes 20

A killed primary ends at once; a frozen one keeps its connections for half a minute and then goes on, with another
promoted meanwhile. Frozen ones are kept from acknowledging anything by all fences together, and by each of the others
alone while the rest is switched off (docs/faults.md, `disarm`); they may answer nothing either, but where only their
commits wait for a standby, which keeps what is to survive and nothing else. Some are killed while edges show changes
that their standby never had, with synchronous commits switched off: those are lost, and may not be shown any more.
Meanwhile pages and prices of some markets are read at every edge, and staff change prices in another. The default takes
about half an hour on two cores, and says so first; a run that cannot go on tells what it has seen until then.

After each loss, and again once the shop is whole, nobody changes anything until the last change is reported live. Then
each price that was changed is read at every edge: it has to be shown, and to be what the primary says. A kill that was
to lose changes and lost none is tried again, up to three times as often as was asked for.

Exit status: 0 when every promise was kept, 1 when one was not, or not put to the test, 2 when the run could not start
or go on, or was interrupted: then whatever was broken is mended first.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from loadtests.failovers.report import Report, render
from loadtests.failovers.rounds import Plan, Run
from loadtests.faults import FaultsUnavailable
from loadtests.http1 import NoAnswer
from loadtests.staff import StaffApi, StaffError
from loadtests.target import BadTarget, Target, load_target


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtests.failovers", description=__doc__.partition("\n")[0])
    plan = Plan()
    parser.add_argument("--kills", type=int, default=plan.kills, help="times it is killed (default: %(default)s)")
    parser.add_argument("--freezes", type=int, default=plan.freezes, help="times it is frozen (default: %(default)s)")
    parser.add_argument("--tails", type=int, default=plan.tails, help="kills with a lost tail (default: %(default)s)")
    parser.add_argument("--frozen", type=float, default=plan.frozen_s, metavar="SECONDS", help="how long, each time")
    parser.add_argument("--seed", type=int, default=plan.seed)
    parser.add_argument("--rate", type=float, default=plan.rate, help="reads a second in all (default: %(default)s)")
    parser.add_argument("--ready", type=Path, help="ready file (default: NEARSHELF_READY, or the state folder's)")
    parser.add_argument("--state", type=Path, help="state folder (default: .nearshelf)")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    return parser.parse_args(arguments)


def plan_of(options: argparse.Namespace) -> Plan:
    """Raises BadTarget for a plan that cannot be played, or tells nothing."""
    plan = Plan(options.kills, options.freezes, options.tails, options.frozen, options.seed, options.rate)
    if min(plan.kills, plan.freezes, plan.tails) < 0 or not plan.kills + plan.freezes + plan.tails:
        raise BadTarget("--kills, --freezes and --tails: not less than nothing, and one round at least is needed")
    if not all(math.isfinite(value) and value > 0 for value in (plan.frozen_s, plan.rate)):
        raise BadTarget("--frozen and --rate: a finite number, more than nothing, is needed")
    return plan


async def play(target: Target, plan: Plan) -> Report:
    """All rounds. Raises BadTarget, StaffError, NoAnswer or FaultsUnavailable when they cannot be played."""
    playing = asyncio.current_task()
    assert playing is not None
    # The shop is mended first. Not by way of SIGINT, which a shell has its background jobs ignore.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, playing.cancel)
    staff = await StaffApi.signed_in(target)
    return await Run(target, staff, plan, lambda line: print(line, file=sys.stderr, flush=True)).run()


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse_arguments(arguments)
    try:
        plan = plan_of(options)
        report = asyncio.run(play(load_target(options.ready, options.state), plan))
    except (BadTarget, StaffError, NoAnswer, FaultsUnavailable) as exc:
        print(f"failovers: {exc}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("failovers: interrupted", file=sys.stderr)
        return 2
    print(json.dumps(report.to_json(), indent=2) if options.json else render(report))
    return 0 if report.passed else 1


if __name__ == "__main__":
    sys.exit(main())
