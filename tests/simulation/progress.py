"""Runs until so many serves have been checked; to be gone on with after a break, by the code that began them.

How far a long run is stands in a file that is written whole or not at all, after each batch of runs.
"""

from __future__ import annotations

import hashlib
import os
import platform
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from tests.simulation.players import Play, batches
from tests.simulation.runs import Totals, play

ROOT = Path(__file__).parents[2]
ROOMS = ("cache_policies", "edge", "origin", "infra/failover", "tests/simulation")
"""What is played, and what plays it."""
MOST_FAILURES = 5
"""Failing runs that end the whole."""


class CannotResume(Exception):
    """A file that does not belong to this run. Reads: progress.json is of seed 3, not 7; name another file."""


def play_until(
    serves: int,
    seed: int,
    *,
    processes: int = 1,
    resume: Path | None = None,
    heard: Callable[[Totals], None] = lambda totals: None,
    stopping: Callable[[], bool] = lambda: False,
    playing: Play = play,
) -> Totals:
    """Runs of `seed` in their order until `serves` have been checked, MOST_FAILURES have failed, or `stopping` says so.

    `resume`: where progress is written down, and read from at the beginning. `heard` is told of progress. Raises
    CannotResume, PlayerEnded, and OSError where the file cannot be written.
    """
    code = digest_of_code()
    totals = Totals(seed, code) if resume is None else _read(resume, seed, code)
    heard(totals)
    before_s, began = totals.took_s, time.monotonic()
    with closing(batches(seed, totals.runs, processes, stopping, playing)) as played:
        while totals.checked < serves and len(totals.failures) < MOST_FAILURES:
            batch = next(played, None)
            if batch is None:
                break
            totals.add(batch)
            totals.took_s = before_s + time.monotonic() - began
            if resume is not None:
                _write(resume, totals)
            heard(totals)
    return totals


def digest_of_code(root: Path = ROOT) -> str:
    """What changes with the code that runs are made of, its policies, or the Python that it runs on: 16 hex digits.

    Left out are tests of single parts, and what is written for people.
    """
    digest = hashlib.sha256(platform.python_version().encode())
    for room in ROOMS:
        for path in sorted((root / room).rglob("*")):
            if path.suffix in {".pyc", ".md"} or path.name.startswith("test_") or not path.is_file():
                continue
            octets = path.read_bytes()
            digest.update(f"\n{path.relative_to(root).as_posix()} {len(octets)}\n".encode())
            digest.update(octets)
    return digest.hexdigest()[:16]


def _read(path: Path, seed: int, code: str) -> Totals:
    """What `path` holds; nothing yet, where there is no such file."""
    if not path.exists():
        if not path.parent.is_dir():
            raise CannotResume(
                f"{path} cannot be written: there is no folder {path.parent}; make it, or name another file"
            )
        return Totals(seed, code)
    try:
        totals = Totals.from_json(path.read_text())
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise CannotResume(f"{path} does not hold the progress of a run ({exc}); name another file, or none") from exc
    if totals.seed != seed:
        raise CannotResume(f"{path} is of seed {totals.seed}, not {seed}; name another file, or its seed")
    if totals.code != code:
        raise CannotResume(
            f"{path} is of other code ({totals.code}, now {code}): its serves say nothing about what is here; "
            "name another file, or go back to that code"
        )
    return totals


def _write(path: Path, totals: Totals) -> None:
    """Killed meanwhile, or without power, there is the old file or the new one."""
    beside = path.with_name(path.name + ".new")
    with beside.open("w") as file:
        file.write(totals.to_json())
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
