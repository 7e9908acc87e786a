"""`python -m tests.security`: attack the edge in every way that it has to stand, and count the differences."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import tempfile
import time
from pathlib import Path

from tests.security import fuzz
from tests.security.lab import Row, laboratory
from tests.security.oracle import Tally, in_words
from tests.security.rows import ROWS


async def run(rows: dict[str, Row], most: int | None, seed: int) -> list[Tally]:
    """The table's lines; `most` as in `Lab`."""
    tallies: list[Tally] = []
    with tempfile.TemporaryDirectory(prefix="nearshelf-security-") as folder:
        async with laboratory(Path(folder), most=most, seed=seed) as lab:
            for name, row in rows.items():
                began = time.monotonic()
                tallies += await row(lab)
                print(f"row {name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
            for pair in lab.pairs:
                strict = Tally(
                    "all", f"what the {pair.kind.name} edges sent, read strictly", requests=pair.origin.count
                )
                strict.differences += pair.origin.faults
                tallies.append(strict)
    return tallies


def main() -> int:
    return fuzzing(sys.argv[2:]) if sys.argv[1:2] == ["fuzz"] else attacking(sys.argv[1:])


def fuzzing(arguments: list[str]) -> int:
    """`python -m tests.security fuzz`: one input in a hundred goes over a connection, as an origin's answer."""
    parser = argparse.ArgumentParser(prog="python -m tests.security fuzz")
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    began = time.monotonic()
    logging.getLogger("nearshelf").setLevel(logging.CRITICAL)  # an origin that says such things is complained of
    answers = options.inputs // 100
    counts = fuzz.fuzz(options.inputs - answers, options.seed)
    counts["origins' answers"] = asyncio.run(fuzz.fuzz_origin(answers, options.seed))
    print(fuzz.in_words(counts, time.monotonic() - began))
    return 1 if any(count.failures for count in counts.values()) else 0


def attacking(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.security", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", default=",".join(ROWS), help=f"rows, with commas between (of {', '.join(ROWS)})")
    parser.add_argument("--most", type=int, help="cases of each part at the most, chosen by chance (default all)")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    wanted = options.only.split(",")
    unknown = [name for name in wanted if name not in ROWS]
    if unknown:
        parser.error(f"--only {','.join(unknown)}: expected some of {', '.join(ROWS)}")
    began = time.monotonic()
    tallies = asyncio.run(run({name: ROWS[name] for name in wanted}, options.most, options.seed))
    print(in_words(tallies))
    differences = sum(len(tally.differences) for tally in tallies)
    requests = sum(tally.requests for tally in tallies if tally.row != "all")
    print(f"{differences} differences against a fresh edge in {requests:,} requests; {time.monotonic() - began:.0f} s")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
