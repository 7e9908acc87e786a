"""`python -m tests.conformance`: play the cases against caches, and say what came of them."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from fnmatch import fnmatch
from pathlib import Path

from tests.conformance import lint
from tests.conformance.chapters import CASES
from tests.conformance.origin import Origin
from tests.conformance.player import Lint, Outcome, Player, Verdict
from tests.conformance.report import document, summary
from tests.conformance.script import Case
from tests.conformance.targets import NEARSHELF, PEERS, WRONG, Target

BY_NAME = {target.name.lower(): target for target in (NEARSHELF, *PEERS, *WRONG)}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=(__doc__ or "").partition("\n")[0])
    names = ", ".join(BY_NAME)
    parser.add_argument("--against", default="nearshelf", help=f"comma list of {names}; or all (default nearshelf)")
    parser.add_argument("--only", default="*", help="ids of cases, with * for anything: 'range-*,head-get'")
    parser.add_argument("--write", type=Path, help="put the tables into this document, between its marks")
    options = parser.parse_args()

    if options.against == "all":
        targets = [target for target in (NEARSHELF, *PEERS) if target.is_installed]
    else:
        unknown = [name for name in options.against.lower().split(",") if name not in BY_NAME]
        if unknown:
            parser.error(f"--against {', '.join(unknown)}: expected some of {names}, or all")
        targets = [BY_NAME[name] for name in options.against.lower().split(",")]
    patterns = options.only.split(",")
    cases = [case for case in CASES if any(fnmatch(case.id, pattern) for pattern in patterns)]
    if not cases:
        parser.error(f"--only {options.only}: there is no such case")
    if options.write is not None and (len(cases) < len(CASES) or NEARSHELF not in targets):
        parser.error("--write needs all cases, and nearshelf among the caches")
    missing = [target.name for target in targets if not target.is_installed]
    if missing:
        print(f"not installed here: {', '.join(missing)}", file=sys.stderr)
        return 2

    results: dict[str, list[Verdict]] = {}
    faults: list[str] = []
    for target in targets:
        began = time.monotonic()
        looks = lint.faults if target is NEARSHELF else None
        results[target.name], found = asyncio.run(play(target, cases, looks, second_try=target not in WRONG))
        print(summary(target, results[target.name], time.monotonic() - began, verbose=options.write is None))
        if target is NEARSHELF:
            faults = found
    for fault in faults:
        print(f"lint: {fault}")
    if options.write is not None:
        document(options.write, targets, results)
        print(f"written: {options.write}")
    broken = [each for each in results.get(NEARSHELF.name, []) if each.outcome is not Outcome.PASSED]
    return 1 if faults or any(each.case.kind == "required" for each in broken) else 0


async def play(
    target: Target, cases: list[Case], looks: Lint | None = None, *, second_try: bool = False
) -> tuple[list[Verdict], list[str]]:
    """The verdicts, and what `looks` finds wrong with the responses."""
    async with Origin() as origin, target.start(origin.port) as running:
        player = Player(origin, running.address, running.purge, looks)
        return await player.play_all(cases, target.offers, second_try=second_try), player.lint_faults


if __name__ == "__main__":
    sys.exit(main())
