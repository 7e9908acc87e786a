"""The machine that a run was measured on: what it is, what the generator took of it, what its host gave to others.

Linux: read from /proc. Where a file is not there, a figure is 0 or `unknown`, and nothing fails.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import resource
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from loadtests.recorder.run import Machine


def this_machine(proc: Path = Path("/proc")) -> Machine:
    return Machine(
        cpu=_field(proc / "cpuinfo", "model name") or platform.processor() or "unknown",
        cores=os.cpu_count() or 1,
        memory_bytes=int((_field(proc / "meminfo", "MemTotal") or "0 kB").split()[0]) * 1024,
        kernel=f"{platform.system()} {platform.release()}",
    )


def versions_here(packages: Sequence[str] = ()) -> dict[str, str]:
    """`nearshelf`, `python`, `revision` and the named packages; `revision` ends in `-changed` where files differ."""
    found = {"python": platform.python_version()}
    for name in ("nearshelf", *packages):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "unknown"
    revision = _git("rev-parse", "--short=12", "HEAD")
    if revision:
        found["revision"] = revision + ("-changed" if _git("status", "--porcelain", "--untracked-files=no") else "")
    return found


def _field(path: Path, name: str) -> str:
    try:
        lines = path.read_text("utf-8", "replace").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == name), "")


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(Path(__file__).resolve().parent), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


@dataclass(frozen=True, slots=True)
class Reading:
    """Figures that only grow, taken at one moment."""

    at: float
    """Seconds of a monotonic clock."""
    process_s: float
    """Processor time of the generator: all its threads, user and system."""
    machine_ticks: int
    """Time of all cores together, whatever it went to."""
    busy_ticks: int
    """Of it, what this machine's processes and its kernel took."""
    steal_ticks: int
    """Of it, what the host gave to others while somebody here wanted to run."""


@dataclass(frozen=True, slots=True)
class Taken:
    """Shares between two readings."""

    seconds: float
    cpu_share: float
    """Of the generator; 1 is one core."""
    busy_cores: float
    """Cores that anything on this machine kept busy, the generator among it."""
    steal_share: float
    """Of all cores, 0 to 1."""


def read_now(clock: Callable[[], float] = time.monotonic, proc: Path = Path("/proc")) -> Reading:
    """About 30 us. Fields of /proc/stat: proc(5); what guests take is in user and nice already."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    try:
        ticks = [int(value) for value in (proc / "stat").read_text().partition("\n")[0].split()[1:9]]
    except (OSError, ValueError):
        ticks = []
    ticks += [0] * (8 - len(ticks))
    user, nice, system, _idle, _iowait, irq, soft, steal = ticks
    return Reading(
        at=clock(),
        process_s=usage.ru_utime + usage.ru_stime,
        machine_ticks=sum(ticks),
        busy_ticks=user + nice + system + irq + soft,
        steal_ticks=steal,
    )


def taken_between(before: Reading, after: Reading, ticks_per_s: int = os.sysconf("SC_CLK_TCK")) -> Taken:
    """Zeros for no time at all."""
    seconds = after.at - before.at
    ticks = after.machine_ticks - before.machine_ticks
    return Taken(
        seconds=seconds,
        cpu_share=(after.process_s - before.process_s) / seconds if seconds > 0 else 0.0,
        busy_cores=(after.busy_ticks - before.busy_ticks) / ticks_per_s / seconds if seconds > 0 else 0.0,
        steal_share=(after.steal_ticks - before.steal_ticks) / ticks if ticks > 0 else 0.0,
    )
