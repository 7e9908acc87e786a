"""A finished run: everything that was measured, as one JSON file that reports, comparisons and thresholds read.

Times of a run are seconds since its start (`at_s`) on the generator's monotonic clock; durations inside histograms are
microseconds. *Corrected* durations count from when a request was meant to be sent, *uncorrected* ones from when it was.
"""

from __future__ import annotations

import gzip
import json
import zlib
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import PlainSerializer, PlainValidator, TypeAdapter, ValidationError

from loadtests.recorder.histogram import Histogram as _Histogram

FORMAT = 1
RUN_FILE = "run.json.gz"
"""Name of the file in a run's folder."""


def _histogram(value: object) -> _Histogram:
    if isinstance(value, _Histogram):
        return value
    try:
        return _Histogram.from_json(value)  # type: ignore[arg-type]
    except (KeyError, TypeError) as exc:
        raise ValueError(f"no histogram: {exc!r}") from exc


Histogram = Annotated[_Histogram, PlainValidator(_histogram), PlainSerializer(_Histogram.to_json)]


class Status(StrEnum):
    """How a request ended, by Cache-Status (RFC 9211): never one mixed line for all of them."""

    HIT = "hit"
    STALE = "stale"
    """From the store although no longer fresh; a hit, and shown apart."""
    REVALIDATED = "revalidated"
    """The origin confirmed what was stored."""
    MISS = "miss"
    PASS = "pass"  # noqa: S105  # nobody's password
    """Never stored by policy; outside the hit ratio."""
    EDGE = "edge"
    """The edge's own answer: redirects, refusals."""
    ERROR = "error"
    """No answer, or 5xx."""
    DIRECT = "direct"
    """No Cache-Status: answered by the origin itself."""


HIT_STATUSES = frozenset({Status.HIT, Status.STALE})
MISS_STATUSES = frozenset({Status.MISS, Status.REVALIDATED})
"""Hit ratio = hits / (hits + misses), requests of HIT_STATUSES over those of both sets; pass, edge and error apart."""


class Label(NamedTuple):
    """What requests are counted by."""

    phase: str
    status: Status
    route: str
    """Kind of page: `home`, `category`, `product`, `price`, ..."""
    edge: str
    market: str


@dataclass(slots=True)
class Cell:
    """All requests of one label."""

    label: Label
    corrected: Histogram = field(default_factory=_Histogram)
    """Empty for a generator without intended times (`Run.open_loop`)."""
    uncorrected: Histogram = field(default_factory=_Histogram)
    requests: int = 0
    body_bytes: int = 0
    codes: dict[str, int] = field(default_factory=dict)
    """Status code, or `no answer` -> requests."""


@dataclass(slots=True)
class Second:
    """One second of the run, by when requests were *meant* to be sent (by when they were, in a closed loop)."""

    at_s: int
    intended: int = 0
    """Requests meant to be sent in it."""
    sent: int = 0
    """Requests really sent in it, whenever they were meant to be."""
    in_time: int = 0
    """Of those meant to be sent in it, how many were before the run's planned end."""
    done: int = 0
    """Answers that were complete in it, whenever they were asked for."""
    requests: dict[str, dict[str, int]] = field(default_factory=dict)
    """Status -> edge -> requests."""
    body_bytes: dict[str, dict[str, int]] = field(default_factory=dict)
    """Status -> edge -> bytes."""
    latency: dict[str, Histogram] = field(default_factory=dict)
    """Status -> corrected durations (uncorrected ones in a closed loop)."""


@dataclass(slots=True)
class Address:
    """One URL as viewers asked one edge for it, in the phases that count."""

    edge: str
    target: str
    """Path and query, as sent."""
    requests: int
    misses: int
    """Of MISS_STATUSES."""


@dataclass(slots=True)
class Phase:
    """A part of a run; what a scenario compares (`rest`, `storm`). Warm-up is one that does not count."""

    name: str
    from_s: float
    to_s: float
    counts: bool = True


@dataclass(slots=True)
class Event:
    """Something that happened at a moment: a marker in the plots."""

    at_s: float
    kind: str
    """`price`, `purge`, `fault`, `heal`, `policy`, `phase`."""
    text: str


@dataclass(slots=True)
class PriceChange:
    """One change of a price by the run, and when it could be seen. Milliseconds from when its commit was asked for."""

    at_s: float
    market: str
    sku: str
    committed_ms: float
    live_ms: float | None
    """Reported live; None: never, within the run's patience."""
    fresh_ms: dict[str, float | None] = field(default_factory=dict)
    """Edge -> first answer of a probe with the new price; None: none in its patience, or before the run ended.

    Empty: the change was not followed."""


@dataclass(slots=True)
class Purge:
    """One purge that the run ordered."""

    at_s: float
    tags: int
    """How many it named; everything is one."""
    live_ms: float | None
    """From the order to the report that it is live; None: never, within the run's patience."""


@dataclass(slots=True)
class Prices:
    """What the oracle found; see docs/load-testing.md."""

    answers_checked: int = 0
    answers_telling: int = 0
    """Of these, how many could have been wrong."""
    old_after_live: int = 0
    wrong: int = 0
    marked: int = 0
    """Pages that said that their prices were being confirmed."""
    staleness: Histogram = field(default_factory=_Histogram)
    """From the commit of a change to each answer that still showed what it replaced."""
    violations: list[str] = field(default_factory=list)

    @property
    def promise_broken(self) -> bool:
        """An old or a wrong price was shown as current: that is proved whatever the generator did."""
        return bool(self.old_after_live or self.wrong)


@dataclass(slots=True)
class Machine:
    """Where the generator ran; runs of other machines are not compared."""

    cpu: str
    cores: int
    memory_bytes: int
    kernel: str


@dataclass(slots=True)
class GeneratorCheck:
    """Whether the generator itself can be believed."""

    intended: int = 0
    sent: int = 0
    done: int = 0
    late_share: float = 0.0
    """Share of requests sent more than 10 ms after they were meant to be, although somebody was free to send them."""
    lag_p99_ms: float = 0.0
    """How late the generator's own loop woke up; beside wrk, how late another process did."""
    cpu_share: float = 0.0
    """Processor time of the generator over the time that passed; 1 is one core."""
    steal_share: float = 0.0
    """Time that the machine's host gave to others, of all cores."""
    faults: list[str] = field(default_factory=list)
    """Why the run is invalid, each in a sentence; empty: valid."""
    remarks: list[str] = field(default_factory=list)
    """What a reader should know of a valid run, too: a closed loop, a host that gave its time to others."""

    @property
    def valid(self) -> bool:
        return not self.faults


@dataclass(slots=True)
class Verdict:
    """One threshold, judged."""

    text: str
    """As written in the file."""
    where: str
    """`file:line`."""
    measured: float | None
    """In the unit of the threshold; None: nothing was measured, which is not met."""
    met: bool
    said: str
    """The whole line for people."""


@dataclass(slots=True)
class Run:
    """One run of one scenario."""

    scenario: str
    description: str
    started_at: str
    """ISO 8601, UTC."""
    seed: int
    generator: str
    """`locust`, `paced` or `wrk`."""
    open_loop: bool
    duration_s: float
    """From second 0 to the end of the last phase, or to where the run was cut short: for so long requests are meant to
    be sent. With the warm-up, where that is a phase; wrk's is a run of its own before this one."""
    request_digest: str
    """Of everything that was meant to be sent, in its order: the same seed over the same shop gives the same."""
    machine: Machine
    versions: dict[str, str] = field(default_factory=dict)
    """`nearshelf`, `revision`, `python`, `locust`, `wrk`, ..."""
    policy_digests: dict[str, str] = field(default_factory=dict)
    """Edge -> digest of the policies it decided by when the run began."""
    phases: list[Phase] = field(default_factory=list)
    cells: list[Cell] = field(default_factory=list)
    seconds: list[Second] = field(default_factory=list)
    addresses: list[Address] = field(default_factory=list)
    """Those with the most misses, most first, fifty at the most."""
    asked_urls: dict[str, int] = field(default_factory=dict)
    """Edge -> how many different URLs it was asked for, warm-up included: beside its stored objects."""
    events: list[Event] = field(default_factory=list)
    changes: list[PriceChange] = field(default_factory=list)
    purges: list[Purge] = field(default_factory=list)
    prices: Prices = field(default_factory=Prices)
    series: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    """Figures scraped from edges and origin each second: `NAME{label=value,...}` -> (at_s, value)."""
    figures: dict[str, float] = field(default_factory=dict)
    """Figures that belong to a scenario, by the names that thresholds give them: `origin_fetches{edge=eu}`, ..."""
    check: GeneratorCheck = field(default_factory=GeneratorCheck)
    locust: dict[str, Any] = field(default_factory=dict)
    """Locust's own statistics, kept beside ours."""
    thresholds: list[Verdict] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Valid, no old price, and every threshold met."""
        return self.check.valid and not self.prices.promise_broken and all(verdict.met for verdict in self.thresholds)

    def counted(self) -> list[Cell]:
        """The cells of phases that count: what all figures are about unless they name a phase."""
        counting = {phase.name for phase in self.phases if phase.counts}
        return [cell for cell in self.cells if cell.label.phase in counting]


class BadRun(Exception):
    """A file is no run. Reads: load/a/run.json.gz: format 3, this version reads 1; ..."""


_RUN: TypeAdapter[Run] = TypeAdapter(Run)


def write_run(run: Run, folder: Path) -> Path:
    """The file, in a folder that is made; whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    path, draft = folder / RUN_FILE, folder / f".{RUN_FILE}.draft"
    document = {"format": FORMAT, "run": _RUN.dump_python(run, mode="json")}
    draft.write_bytes(gzip.compress(json.dumps(document, separators=(",", ":")).encode(), mtime=0))
    draft.replace(path)
    return path


def read_run(path: Path) -> Run:
    """The run in a folder, or in a file of its own. Raises BadRun."""
    path = path / RUN_FILE if path.is_dir() else path
    remedy = "name the folder of a run, as `nearshelf load run` says it at its end"
    try:
        document = json.loads(gzip.decompress(path.read_bytes()))
    except FileNotFoundError as exc:
        raise BadRun(f"{path}: not there; {remedy}") from exc
    except (OSError, EOFError, zlib.error, ValueError) as exc:
        raise BadRun(f"{path}: {exc}; {remedy}") from exc
    if not isinstance(document, dict) or "format" not in document:
        raise BadRun(f"{path}: no run; {remedy}")
    if document["format"] != FORMAT:
        raise BadRun(f"{path}: format {document['format']}, this version reads {FORMAT}; run the scenario again")
    try:
        return _RUN.validate_python(document.get("run"))
    except ValidationError as exc:
        first = exc.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadRun(f"{path}: {where}: {first['msg']}; {remedy}") from exc
