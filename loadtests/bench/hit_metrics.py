"""What a hit costs in the worker's process, and what counting it adds: `python -m loadtests.bench hit_metrics`.

From the bytes of a request to the buffer for the kernel, in one process and without the kernel: thousands of different
requests for hundreds of pages, each with a cookie and advertising parameters of its own, given to a connection as its
socket would give them. They are timed in short blocks, of which a round counts for the time that its quickest
(QUICKEST) do not exceed: whatever else the machine does makes blocks longer, never shorter. `--beside REV` measures
the edge of another commit in turns with this one, and tells what lies between them. Then one scrape of a worker with
thousands of series while hits go on: how long the loop, and so any hit, has to wait for it at the most.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from loadtests.bench import measuring
from loadtests.bench.measuring import SERVER_CORE, BenchError, Verdict
from loadtests.bench.origins import BenchOrigin, Page, labelled, running
from loadtests.statistics import exact_percentile

ROOT = Path(__file__).parents[2]
WORKER = Path(__file__).with_name("hit_worker.py")
NOW, BEFORE = "now", "beside"
QUICKEST = 0.02
"""Of the blocks of a round: those that nothing disturbed."""
MOST_ADDED_NS = 300.0
"""What counting may add to a hit."""
MOST_HELD_MS = 2.0
"""For how long a scrape may keep hits waiting: as long as the other viewers of one round do (edge/gateway/wire.py)."""


def main(argv: Sequence[str] | None = None) -> int:
    """1: an aim was missed; 2: it could not run."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.bench hit_metrics", description=__doc__.partition("\n")[0]
    )
    parser.add_argument(
        "--beside", metavar="REV", default="", help="a commit whose edge is measured in turns with this"
    )
    parser.add_argument("--rounds", type=int, default=7, help="rounds of the interleaved run (default 7)")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of one run (default 2)")
    parser.add_argument("--write", type=Path, help="put the table into this file, between its `hit_metrics` marks")
    options = parser.parse_args(argv)
    reason = measuring.cannot_run(["taskset", *(["git"] if options.beside else [])], cores=1)
    if reason is not None:
        return measuring.complain(reason)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nearshelf-bench-")))
        trees = {NOW: ROOT}
        if options.beside:
            trees[BEFORE] = _tree_of(options.beside, scratch / "beside")
        origin = stack.enter_context(running(BenchOrigin(_page)))
        logs = {"": "", "with the access log": str(scratch / "access.log")}
        found: dict[tuple[str, str], list[float]] = {}
        scraped: dict[str, Any] = {}
        for number in range(options.rounds):
            for log, target in logs.items():
                for name, tree in trees.items():
                    scrape = name == NOW and not log and number == options.rounds - 1
                    told = _measured(tree, origin.url, target, options.seconds, scrape=scrape)
                    found.setdefault((name, log), []).append(exact_percentile(told["blocks"], QUICKEST))
                    scraped |= told if scrape else {}
    text, verdicts = _told(found, logs, options.beside, scraped)
    print(f"\n{text}\n")
    if options.write is not None:
        measuring.write_between_marks(options.write, "hit_metrics", text)
    return int(not all(verdict.met for verdict in verdicts))


def _told(
    found: dict[tuple[str, str], list[float]],
    logs: Sequence[str] | dict[str, str],
    beside: str,
    scraped: dict[str, Any],
) -> tuple[str, list[Verdict]]:
    taken = f"CPU ns a hit in the quickest {100 * QUICKEST:.0f} % of blocks of each round"
    lines = [f"| | {taken}, median of rounds (quartiles) |" + (f" at {beside} | added |" if beside else "")]
    lines.append("|---|---|" + ("---|---|" if beside else ""))
    verdicts = []
    for log in logs:
        cells = [f"a hit{', ' if log else ''}{log}", measuring.spread(found[NOW, log], ",.0f")]
        if beside:
            pairs = zip(found[NOW, log], found[BEFORE, log], strict=True)
            added = [now - before for now, before in pairs]
            cells += [measuring.spread(found[BEFORE, log], ",.0f"), measuring.spread(added, ",.0f")]
            name = f"ns added to a hit{', ' if log else ''}{log}"
            verdicts.append(Verdict(name, statistics.median(added), MOST_ADDED_NS))
        lines.append(f"| {' | '.join(cells)} |")
    name = f"ms that a scrape of {scraped['series']:,} series ({scraped['took_ms']:.0f} ms in all) keeps a hit waiting"
    verdicts.append(Verdict(name, scraped["held_ms"], MOST_HELD_MS))
    return (
        f"{time.strftime('%Y-%m-%d', time.gmtime())}: in the process alone, 4,000 different requests for 400 pages of "
        f"8 KB; Python {sys.version.split()[0]}\n\n" + "\n".join(lines) + f"\n\n{measuring.told(verdicts)}"
    ), verdicts


def _page(target: str, head: str) -> Page:
    name = target.partition("?")[0].rpartition("/")[2]
    return Page(b"<p>" + name.encode().ljust(8_189, b"."), fields=labelled(f"p:eu-eur:{name}"))


def _tree_of(revision: str, folder: Path) -> Path:
    """The files of a commit. Raises BenchError."""
    folder.mkdir()
    command = [measuring.path_of("git"), "archive", revision, "edge", "cache_policies"]
    archive = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    if archive.returncode:
        raise BenchError(f"--beside {revision}: {archive.stderr.decode().strip()}")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(folder, filter="data")
    return folder


def _measured(tree: Path, origin: str, log: str, seconds: float, *, scrape: bool) -> dict[str, Any]:
    """One worker's figures. Raises BenchError when it fails."""
    asked = json.dumps({"origin": origin, "log": log, "seconds": seconds, "scrape": scrape})
    command = [*measuring.pinned(SERVER_CORE), sys.executable, "-P", str(WORKER), asked]
    env = {**os.environ, "PYTHONPATH": str(tree)}
    found = subprocess.run(command, capture_output=True, text=True, env=env, cwd=tree, check=False)
    if found.returncode:
        raise BenchError(f"the worker failed:\n{found.stderr}")
    told: dict[str, Any] = json.loads(found.stdout)
    return told
