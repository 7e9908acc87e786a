"""Volume: more requests a second than locust's Python can carry, as a Run like any other.

    schedule = steady({"eu": "http://127.0.0.1:8082"}, asked, rate_per_s=10_000, duration_s=20, warmup_s=5, seed=1)
    run = volume_run(schedule, scenario="volume", description="...", seed=1)

`Generator.PACED` (loadtests/paced) is an open loop: every request at the moment that it is meant for, in a process of
its own on one core, which carries some 20,000 a second. `Generator.WRK` (loadtests/wrk.py) is a closed one: as many
as the other side answers, and says so. Nobody changes prices meanwhile, and no price is judged.
"""

from __future__ import annotations

import datetime as dt
import json
import signal
import subprocess
import sys
import tempfile
import time
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from loadtests import wrk
from loadtests.execution import FIELDS
from loadtests.paced.__main__ import GENERATOR as PACED_NAME
from loadtests.paced.__main__ import Order
from loadtests.paced.schedule import STEADY, Asked, Schedule, Spacing, steady
from loadtests.plan import Plan
from loadtests.reading import status_of
from loadtests.recorder import check, machine
from loadtests.recorder.run import BadRun, Cell, Label, Phase, Run, Status, read_run
from loadtests.recorder.scraping import Scraped, Scraper

__all__ = [
    "Asked",
    "Figures",
    "Generator",
    "Schedule",
    "Spacing",
    "VolumeFailed",
    "schedule_of",
    "steady",
    "volume_run",
]

CONNECTIONS = 64
"""To each edge, if nothing else is said: enough that 10,000 a second wait for none while answers take 5 ms."""
PATIENCE_S = 10.0
MAX_OTHERS = 0.001
"""Share of answers of another status among those whose durations wrk cannot tell apart."""
WRK_REQUESTS = 20_000
"""Of a schedule, so many in its order are what wrk goes round."""


class Generator(StrEnum):
    PACED = PACED_NAME
    WRK = "wrk"


class VolumeFailed(Exception):
    """There is no run. Says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Who is asked for figures each second of a run (loadtests/recorder/scraping.py)."""

    edges: Mapping[str, Sequence[str]]
    """Name -> addresses of its admin listeners."""
    origin: str | None
    token: str


def volume_run(
    schedule: Schedule,
    *,
    scenario: str,
    description: str = "",
    seed: int,
    generator: Generator = Generator.PACED,
    connections: int = CONNECTIONS,
    patience_s: float = PATIENCE_S,
    core: int | None = None,
    figures: Figures | None = None,
) -> Run:
    """Carry out a schedule and say what was measured. Raises VolumeFailed.

    `connections`: to each edge. `core`: where the generator is to stay; None: anywhere. Ctrl-C ends a paced run early,
    which it says; one by wrk leaves nothing, and the KeyboardInterrupt goes on.
    """
    scraper = None if figures is None else Scraper.start(figures.edges, figures.origin, figures.token)
    try:
        if generator is Generator.PACED:
            run, began_at = _paced(schedule, scenario, description, seed, connections, patience_s, core)
        else:
            run, began_at = _by_wrk(schedule, scenario, description, seed, connections, core)
    except BaseException:
        if scraper is not None:
            scraper.abandon()
        raise
    scraped = Scraped() if scraper is None else scraper.stop(began_at)
    run.series |= scraped.series
    run.policy_digests = dict(scraped.policy_digests)
    run.versions |= machine.versions_here() | {f"{name} build": build for name, build in scraped.builds.items()}
    run.check.remarks += scraped.remarks
    return run


def schedule_of(plan: Plan, edges: Mapping[str, str]) -> Schedule:
    """What a plan's people ask these edges for, at the same moments. Raises VolumeFailed for a plan that does more.

    `edges`: name -> address; what others are asked is left out.
    Nobody here keeps a page: what the plan asks for again goes without an ETag, and comes in full.
    """
    if plan.deeds:
        raise VolumeFailed(
            f"{plan.scenario}: it changes or breaks the shop, which only locust does; choose a scenario that only "
            "asks, or leave the generator out"
        )
    places: dict[Asked, int] = {}
    due_s, which = array("d"), array("L")
    for arrival in (each for each in plan.arrivals if each.edge in edges):
        asked = Asked(
            arrival.edge,
            arrival.visit.kind,
            arrival.visit.market,
            arrival.visit.target,
            (*FIELDS[arrival.person], *arrival.fields),
            arrival.method,
        )
        due_s.append(arrival.at_s)
        which.append(places.setdefault(asked, len(places)))
    return Schedule(edges, list(places), plan.phases, due_s, which)


def _paced(
    schedule: Schedule,
    scenario: str,
    description: str,
    seed: int,
    connections: int,
    patience_s: float,
    core: int | None,
) -> tuple[Run, float]:
    """The run, and when it began on time.monotonic()."""
    with tempfile.TemporaryDirectory(prefix="nearshelf-paced-") as name:
        folder = Path(name)
        schedule.write(folder)
        order = Order(
            scenario=scenario,
            description=description,
            seed=seed,
            connections=connections,
            patience_s=patience_s,
            core=core,
        )
        (folder / "order.json").write_text(json.dumps(order))
        process = subprocess.Popen(
            [sys.executable, "-m", "loadtests.paced", str(folder)],
            stderr=subprocess.PIPE,
            text=True,
            # Ctrl-C reaches it through us, in good order.
            start_new_session=True,
        )
        try:
            _, said = process.communicate()
        except KeyboardInterrupt:
            process.send_signal(signal.SIGINT)
            _, said = process.communicate()
        finally:
            process.kill()
            process.wait()
        try:
            return read_run(folder), float((folder / "began").read_text())
        except (BadRun, OSError) as exc:
            last = said.strip().splitlines()[-1:] or [f"status {process.returncode}"]
            raise VolumeFailed(f"the paced generator ended without a run: {last[0]}") from exc


def _by_wrk(
    schedule: Schedule, scenario: str, description: str, seed: int, connections: int, core: int | None
) -> tuple[Run, float]:
    if len(schedule.edges) != 1:
        raise VolumeFailed(f"wrk asks one edge at a time, not {', '.join(schedule.edges)}: name one")
    ((edge, address),) = schedule.edges.items()
    texts = schedule.requests()
    counted = [phase for phase in schedule.phases if phase.counts]
    begins_s = counted[0].from_s if counted else 0.0
    sequence = [n for at_s, n in zip(schedule.due_s, schedule.which, strict=True) if at_s >= begins_s][:WRK_REQUESTS]
    requests = [texts[number] for number in sequence]
    seconds = max(1, round(schedule.duration_s - begins_s))
    try:
        if begins_s:
            wrk.run(address, texts, seconds=max(1, round(begins_s)), connections=connections, core=core)
        started_at, began_at, before = dt.datetime.now(dt.UTC), time.monotonic(), machine.read_now()
        measured = wrk.run(address, requests, seconds=seconds, connections=connections, core=core)
        taken = machine.taken_between(before, machine.read_now())
        version = wrk.version()
    except wrk.WrkFailed as exc:
        raise VolumeFailed(str(exc)) from exc
    cells, faults, remarks = _cells(measured, edge)
    answered, failed = measured.requests, sum(measured.failed.values())
    found = check.judged(
        check.Evidence(
            open_loop=False,
            planned_s=measured.duration_s,
            ended_s=measured.duration_s,
            cut_short=None,
            intended=answered + failed,
            in_time=answered + failed,
            sent=answered + failed,
            done=answered,
            unaccounted=0,
            unforeseen=0,
            late=0,
            lag=measured.lag,
            busiest=check.CpuWindow(0.0, measured.duration_s, measured.cpu_share),
            cores=1,
            cpu_share=measured.cpu_share,
            steal_share=taken.steal_share,
        )
    )
    found.faults += faults
    found.remarks += remarks
    run = Run(
        scenario=scenario,
        description=description,
        started_at=started_at.isoformat(timespec="milliseconds"),
        seed=seed,
        generator=Generator.WRK.value,
        open_loop=False,
        duration_s=measured.duration_s,
        request_digest=schedule.digest,
        machine=machine.this_machine(),
        versions={"wrk": version},
        phases=[Phase(STEADY, 0.0, measured.duration_s)],
        cells=cells,
        check=found,
    )
    return run, began_at


def _cells(measured: wrk.Measured, edge: str) -> tuple[list[Cell], list[str], list[str]]:
    """The cells, with faults and remarks: wrk knows how many had which status, and how long all took together.

    All durations go to the status that nearly all answers had; where it is not nearly all, that is a fault.
    """
    cells: dict[Status, Cell] = {}
    for answered in measured.answers:
        headers = {"cache-status": answered.cache_status} if answered.cache_status else {}
        cell = _cell(cells, status_of(headers, answered.code), edge)
        cell.requests += answered.count
        cell.body_bytes += answered.body_bytes
        code = str(answered.code)
        cell.codes[code] = cell.codes.get(code, 0) + answered.count
    most = max(cells.values(), key=lambda cell: cell.requests)
    most.uncorrected.merge(measured.latency)
    others = measured.requests - most.requests
    faults: list[str] = []
    remarks: list[str] = []
    if others:
        counts = Counter({status.value: cell.requests for status, cell in cells.items() if cell is not most})
        text = (
            f"{others:,} of {measured.requests:,} answers were no {most.label.status} "
            f"({', '.join(f'{count:,} {status}' for status, count in counts.most_common())}), and wrk cannot tell "
            f"their durations apart"
        )
        (faults if others > MAX_OTHERS * measured.requests else remarks).append(text)
    for why, count in measured.failed.items():
        cell = _cell(cells, Status.ERROR, edge)
        cell.requests += count
        cell.codes[f"{why} failed"] = count
    return sorted(cells.values(), key=lambda cell: cell.label), faults, remarks


def _cell(cells: dict[Status, Cell], status: Status, edge: str) -> Cell:
    return cells.setdefault(status, Cell(Label(STEADY, status, "all", edge, "all")))
