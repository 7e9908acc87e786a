"""What every bench shares: servers pinned to a core, their CPU by their own account, disturbed runs repeated, tables.

Figures of this kind move by a quarter between blocks minutes apart. So the rows of a table take turns (A B C A B C),
a ratio is taken within a round, and a run during which anything else took more than MAX_FOREIGN_CORES is repeated.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from loadtests.wrk import asking

TICKS = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
MAX_FOREIGN_CORES = 0.12
SERVER_CORE, CLIENT_CORE = 0, 1

PACKAGES = {
    "git": "git",
    "haproxy": "haproxy",
    "nginx": "nginx-light",
    "taskset": "util-linux",
    "varnishd": "varnish",
    "varnishncsa": "varnish",
    "wrk": "wrk",
}
"""Debian's packages of the commands that benches start."""


class BenchError(Exception):
    """A bench cannot go on; what it says is for whoever started it."""


def missing(commands: Sequence[str]) -> list[str]:
    """Those of `commands` that are not on this machine."""
    return [command for command in commands if shutil.which(command) is None]


def how_to_get(commands: Sequence[str]) -> str:
    """The line that tells how to install `commands`."""
    packages = sorted({PACKAGES[command] for command in commands})
    return f"not found: {', '.join(commands)}. On Debian: apt-get install {' '.join(packages)}"


def cannot_run(needed: Sequence[str], *, cores: int = 2) -> str | None:
    """Why a bench that needs these commands cannot run here; None: it can."""
    lacking = missing(needed)
    if lacking:
        return how_to_get(lacking)
    if len(os.sched_getaffinity(0)) < cores:
        return f"this takes {cores} cores: one for the server, one for the client"
    return None


def path_of(command: str) -> str:
    """The full path of a command that is there. Raises BenchError."""
    found = shutil.which(command)
    if found is None:
        raise BenchError(how_to_get([command]))
    return found


def pinned(core: int) -> list[str]:
    """What to put before a command so that it stays on one core."""
    return [path_of("taskset"), "-c", str(core)]


def free_port() -> int:
    """A TCP port of the loopback that nobody has at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def ending(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """Ends `process` when the block does."""
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@dataclass
class Server:
    """What is measured: a process with its descendants, listening on a port of the loopback."""

    name: str
    port: int
    process: subprocess.Popen[bytes]
    hit_field: str = ""
    """The response field that tells a hit; empty: nobody asks."""
    is_hit: Callable[[str], bool] = bool
    """Whether that field's value is that of a hit."""
    helpers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    """Other processes whose work is part of it: what writes its access log."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def pids(self) -> list[int]:
        """The processes and all that descend from them."""
        return with_descendants([self.process.pid, *(helper.pid for helper in self.helpers)])

    def ticks(self) -> int:
        """utime and stime so far, in clock ticks."""
        total = 0
        for pid in self.pids():
            try:
                parts = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            total += int(parts[11]) + int(parts[12])
        return total

    def rss_bytes(self) -> int:
        """Resident memory of all processes, shared pages counted in each."""
        total = 0
        for pid in self.pids():
            try:
                total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES
            except OSError:
                continue
        return total

    def check_alive(self) -> None:
        """Raises BenchError when the process has ended."""
        status = self.process.poll()
        if status is not None:
            raise BenchError(f"{self.name} ended with status {status}")


def with_descendants(pids: Sequence[int]) -> list[int]:
    """These processes and all that descend from them."""
    found: list[int] = []
    to_ask = list(pids)
    while to_ask:
        pid = to_ask.pop()
        found.append(pid)
        for task in _tasks_of(pid):
            try:
                to_ask += map(int, (task / "children").read_text().split())
            except OSError:
                continue
    return found


def own_ticks() -> int:
    """utime and stime so far, in clock ticks, of this process and all that descend from it, ended ones too."""
    total = 0
    for pid in with_descendants([os.getpid()]):
        try:
            parts = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += sum(map(int, parts[11:15]))
    return total


class Foreign:
    """What else the machine did since this was made: anything but this process and all that descends from it."""

    def __init__(self) -> None:
        self._began, self._own, self._all = time.monotonic(), own_ticks(), busy_ticks()

    def cores(self) -> float:
        """Mean, in cores."""
        others = (busy_ticks() - self._all) - (own_ticks() - self._own)
        return max(0.0, others / TICKS / (time.monotonic() - self._began))


def _tasks_of(pid: int) -> list[Path]:
    try:
        return list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return []


def busy_ticks() -> int:
    """Ticks that any process took on any core, since the machine started."""
    user, nice, system, _idle, _wait, irq, soft, *_ = map(
        int, Path("/proc/stat").read_text().split("\n")[0].split()[1:]
    )
    return user + nice + system + irq + soft


@dataclass(frozen=True, slots=True)
class Run:
    """One run that counts."""

    per_s: float
    cpu_us: float
    """CPU microseconds a request, of the server's own processes."""
    p50_ms: float
    p99_ms: float
    foreign: float
    """Cores taken by anything but the server and the client."""
    tries: int
    """How often it was run until nothing disturbed it."""


def wrk(server: Server, script: Path, *, seconds: int, connections: int, helpers: Sequence[Server] = ()) -> Run:
    """One run of wrk with a Lua script that gives the requests (`wrk_script`). Raises BenchError on errors.

    `helpers`: other processes that the run needs, an origin say; they count neither as the server nor as foreign.
    """
    command = [*pinned(CLIENT_CORE), path_of("wrk"), "-t1", f"-c{connections}", f"-d{seconds}s"]
    command += ["--latency", "-s", str(script), server.url]
    server_before, helpers_before = server.ticks(), sum(helper.ticks() for helper in helpers)
    children_before, all_before, began = os.times(), busy_ticks(), time.monotonic()
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    elapsed = time.monotonic() - began
    everything, children = busy_ticks() - all_before, os.times()
    took = server.ticks() - server_before
    took_by_helpers = sum(helper.ticks() for helper in helpers) - helpers_before
    client = (
        children.children_user + children.children_system - children_before.children_user
        - children_before.children_system
    )  # fmt: skip
    if "Non-2xx" in output or "Socket errors" in output:
        raise BenchError(f"{server.name}: wrk reports errors:\n{output}")
    requests = int(_found(r"(\d+) requests in", output))
    if not requests:
        raise BenchError(f"{server.name} answered nothing")
    return Run(
        per_s=float(_found(r"Requests/sec:\s+([\d.]+)", output)),
        cpu_us=took / TICKS / requests * 1e6,
        p50_ms=_latency_ms("50%", output),
        p99_ms=_latency_ms("99%", output),
        foreign=max(0.0, (everything - took - took_by_helpers) / TICKS - client) / elapsed,
        tries=1,
    )


def wrk_script(path: Path, requests: Sequence[bytes]) -> Path:
    """Write a script that sends these whole requests one after the other, and again from the first."""
    path.write_text(asking(requests, path.with_suffix(".requests")))
    return path


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    if match is None:
        raise BenchError(f"wrk's output is not understood:\n{text}")
    return match[1]


def _latency_ms(percentile: str, output: str) -> float:
    unit = _found(rf"{percentile}\s+[\d.]+(us|ms|s|m)\b", output)
    return (
        float(_found(rf"{percentile}\s+([\d.]+)", output)) * {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}[unit]
    )


def undisturbed(once: Callable[[], Run], max_tries: int) -> Run:
    """A run with little foreign load; the quietest of `max_tries` when none is quiet enough."""
    best: Run | None = None
    tries = 0
    while best is None or (best.foreign > MAX_FOREIGN_CORES and tries < max_tries):
        tries += 1
        run = once()
        if best is None or run.foreign < best.foreign:
            best = run
    return Run(best.per_s, best.cpu_us, best.p50_ms, best.p99_ms, best.foreign, tries)


@dataclass
class Row:
    """One row of a table: what gives a run of it, and the runs that it gave."""

    name: str
    once: Callable[[], Run]
    runs: list[Run] = field(default_factory=list)


def take_turns(rows: Sequence[Row], rounds: int, max_tries: int, *, heading: str = "") -> None:
    """Every row once in each round; told as it goes."""
    for number in range(1, rounds + 1):
        for row in rows:
            run = undisturbed(row.once, max_tries)
            row.runs.append(run)
            print(
                f"{heading}round {number}: {row.name:44} {run.per_s:9,.0f} req/s {run.cpu_us:6.2f} us "
                f"p99 {run.p99_ms:6.2f} ms  foreign {run.foreign:.2f} core, try {run.tries}",
                flush=True,
            )


def table(rows: Sequence[Row], against: Sequence[str]) -> str:
    """A Markdown table: medians with quartiles, and CPU beside each of the rows named in `against`, round by round."""
    peers = [row for row in rows if row.name in against]
    lines = [
        "| | req/s, median (quartiles) | CPU us/req, median (quartiles) | p50 ms | p99 ms |"
        + "".join(f" CPU x {peer.name} |" for peer in peers),
        "|---|---|---|---|---|" + "---|" * len(peers),
    ]
    for row in rows:
        cells = [
            row.name,
            spread([run.per_s for run in row.runs], ",.0f"),
            spread([run.cpu_us for run in row.runs], ".1f"),
            f"{statistics.median([run.p50_ms for run in row.runs]):.2f}",
            f"{statistics.median([run.p99_ms for run in row.runs]):.2f}",
            *(f"{cpu_ratio(row, peer):.2f}" for peer in peers),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    foreign = max(run.foreign for row in rows for run in row.runs)
    return "\n".join([*lines, "", disturbance(foreign)])


def disturbance(foreign: float) -> str:
    """What a table says of the cores that anything else took."""
    said = f"The most that anything else took during a run that counts: {foreign:.2f} core."
    if foreign <= MAX_FOREIGN_CORES:
        return said
    return f"{said}\n**Disturbed**: more than {MAX_FOREIGN_CORES} core. Take the ratios with care, and measure again."


def cpu_ratio(ours: Row, theirs: Row) -> float:
    """The median of CPU time a request, ours to theirs, round by round."""
    return statistics.median([our.cpu_us / their.cpu_us for our, their in zip(ours.runs, theirs.runs, strict=True)])


def rate_ratio(ours: Row, theirs: Row) -> float:
    """The median of requests a second, ours to theirs, round by round."""
    return statistics.median([our.per_s / their.per_s for our, their in zip(ours.runs, theirs.runs, strict=True)])


def spread(values: Sequence[float], form: str) -> str:
    """The median, and the quartiles where there is more than one value."""
    if len(values) < 2:
        return f"{values[0]:{form}}"
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return f"{middle:{form}} ({low:{form}} - {high:{form}})"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One figure held against its aim."""

    what: str
    figure: float
    aim: float
    at_least: bool = False

    @property
    def met(self) -> bool:
        return self.figure >= self.aim if self.at_least else self.figure <= self.aim

    def __str__(self) -> str:
        bound = "at least" if self.at_least else "at most"
        return f"{'met' if self.met else 'NOT MET'}: {self.what}: {self.figure:.2f}, {bound} {self.aim:g}"


def told(verdicts: Sequence[Verdict]) -> str:
    """The verdicts, a line each."""
    return "\n".join(f"- {verdict}" for verdict in verdicts)


def today() -> str:
    """The date, for what is written down."""
    return time.strftime("%Y-%m-%d", time.gmtime())


def write_between_marks(document: Path, mark: str, text: str) -> None:
    """Replace what stands between `<!-- mark -->` and `<!-- /mark -->`. Raises BenchError when they are not there."""
    before, begin, rest = document.read_text().partition(f"<!-- {mark} -->\n")
    _, end, after = rest.partition(f"<!-- /{mark} -->")
    if not (begin and end):
        raise BenchError(f"{document} has no <!-- {mark} --> ... <!-- /{mark} --> to write between")
    document.write_text(f"{before}{begin}\n{text}\n\n{end}{after}")


def complain(text: str) -> int:
    """Say why the bench did not run; its exit status."""
    print(text, file=sys.stderr)
    return 2
