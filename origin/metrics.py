"""What a worker of the origin counts for operations, in the text format of Prometheus (docs/metrics.md).

Alone, a worker shows its own figures. Workers that are told of one folder (`share`) keep theirs in files there, and
whichever of them is asked shows the sum. Each has a number while it runs, and a worker that is started again takes the
number of one that is gone with what that had counted: sums never fall, and there are never more files than workers ran
at once. The first worker of all clears the folder, which may hold another release's figures.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Final, TypeVar

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest, values
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from sqlalchemy import event
from sqlalchemy.pool import QueuePool

from origin.db import Committed, Database
from origin.events.messages import PriceChanged

CONTENT_TYPE: Final = prometheus_client.CONTENT_TYPE_LATEST
REQUEST_BUCKETS_S: Final = (
    *(0.000_25, 0.000_5, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
SAMPLE_EVERY_S: Final = 1.0
"""How often what can only be looked at (memory, connections in use) is looked at."""
UNKNOWN_POP: Final = "other"
MOST_POPS: Final = 64
"""Names of edges that become labels: an edge names itself, and a label must not be as many as there are questions."""

M = TypeVar("M", Counter, Gauge, Histogram)

# When a series began is not of interest here, and would double their number.
prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]


class SharedFolder:
    """A number of its own in `folder`, for as long as this process runs, and the files of all its workers."""

    def __init__(self, folder: Path) -> None:
        """Raises OSError where the folder cannot be made or written."""
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(folder / "gate.lock"):
            if not any(_is_held(lock) for lock in folder.glob("worker-*.lock")):
                for file in folder.glob("*.db"):
                    file.unlink()
            self.number, self._descriptor = self._take_a_number()
            # What the one before it had at that moment; what it had counted goes on.
            for file in folder.glob(f"gauge_live*_{self.number}.db"):
                file.unlink()

    def _take_a_number(self) -> tuple[int, int]:
        for number in itertools.count(1):
            descriptor = os.open(self._folder / f"worker-{number}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
            else:
                return number, descriptor
        raise AssertionError("numbers have no end")

    def files(self) -> list[str]:
        """Those whose figures count: of the dead, only what they had counted."""
        found = []
        for file in sorted(self._folder.glob("*.db")):
            kind, _, number = file.stem.rpartition("_")
            if not kind.startswith("gauge_live") or _is_held(self._folder / f"worker-{number}.lock"):
                found.append(str(file))
        return found


@contextlib.contextmanager
def _locked(file: Path) -> Iterator[None]:
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _is_held(lock: Path) -> bool:
    """Whether a process that runs holds `lock`. For the moment of this look, a worker that starts passes it over."""
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def share(folder: Path) -> SharedFolder:
    """From now on, what this process counts is counted in `folder`. Once, at the entry, before any `Metrics` is made.

    Raises OSError where the folder cannot be used.
    """
    shared = SharedFolder(folder)
    # The library reads its folder from the environment, and only there.
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
    values.ValueClass = values.MultiProcessValue(lambda: shared.number)  # type: ignore[no-untyped-call]
    return shared


class Metrics:
    """The metrics of one worker. `shared`: what `share` gave; None: this worker is alone."""

    def __init__(self, shared: SharedFolder | None = None) -> None:
        self._shared = shared
        self._all: list[Counter | Gauge | Histogram] = []
        self._looks: list[Callable[[], None]] = []
        self._looking = threading.Lock()
        """A scrape looks in a thread of its own, and what grew since the last look is to be counted once."""
        self._pops: set[str] = set()
        self.requests = self._made(
            Counter, "nearshelf_origin_requests", "Requests answered.", ("route", "method", "code_class")
        )
        self.request_seconds = self._timed(
            "nearshelf_origin_request_seconds", "From the head of a request to the end of its answer.", ("route",)
        )
        self.snapshots = self._made(
            Counter, "nearshelf_snapshots", "Snapshots opened for public reads, by database.", ("source",)
        )
        self.readthrough = self._made(
            Counter, "nearshelf_readthrough", "Look-ups in the read-through cache, by what came of them.", ("result",)
        )
        self.readthrough_seconds = self._timed(
            "nearshelf_readthrough_seconds",
            "Time of an answer through the read-through cache (hit, miss), and of keeping a value (write).",
            ("of",),
        )
        self.price_changes = self._made(Counter, "nearshelf_price_changes", "Prices changed by use cases.")
        self.purge_ack_seconds = self._timed(
            "nearshelf_purge_ack_seconds",
            "From a commit to the report of an edge worker that has applied it.",
            ("pop",),
        )
        self.questions_open = self._level("nearshelf_questions_open", "Questions of edge workers that are held open.")
        self.statements = self._made(
            Counter, "nearshelf_database_statements", "Statements sent to a database.", ("pool",)
        )
        self.connections_in_use = self._level(
            "nearshelf_database_connections_in_use", "Connections taken from a pool.", ("pool",)
        )
        self.connections_max = self._level("nearshelf_database_connections_max", "Size of a pool.", ("pool",))
        self.in_charge = self._level(
            "nearshelf_primary_in_charge", "1 while the workers reach a primary that is in charge.", mode="livemin"
        )
        self.primary_moves = self._level(
            "nearshelf_primary_moves", "How often the primary was found at another server.", mode="livemax"
        )
        self.standbys = self._level(
            "nearshelf_promotable_standbys", "Standbys that stream and may be promoted.", mode="livemin"
        )
        self.unsafe_bytes = self._level(
            "nearshelf_rpo_bytes", "What the loss of the primary would lose: bytes of its log.", mode="livemax"
        )
        self.unsafe_s = self._level("nearshelf_rpo_seconds", "How old the oldest of that is.", mode="livemax")
        self._build = self._made(
            Gauge, "nearshelf_build_info", "1, with the version of the program.", ("version",), mode="max"
        )
        self._build.labels(version("nearshelf")).set(1)
        self._process()

    # --- making them ---

    def _made(
        self, kind: type[M], name: str, about: str, labels: Sequence[str] = (), *, mode: str = "", **more: object
    ) -> M:
        made = kind(name, about, labels, registry=None, **({"multiprocess_mode": mode} if mode else {}), **more)  # type: ignore[arg-type]
        self._all.append(made)
        return made

    def _timed(self, name: str, about: str, labels: Sequence[str] = ()) -> Histogram:
        return self._made(Histogram, name, about, labels, buckets=REQUEST_BUCKETS_S)

    def _level(self, name: str, about: str, labels: Sequence[str] = (), *, mode: str = "livesum") -> Gauge:
        """A gauge that is the sum, or by `mode` the most or least, over the workers that run."""
        return self._made(Gauge, name, about, labels, mode=mode)

    def _process(self) -> None:
        cpu = self._made(Counter, "process_cpu_seconds", "Processor time of the workers.")
        memory = self._level("process_resident_memory_bytes", "Memory of the workers, shared pages counted in each.")
        files = self._level("process_open_fds", "Open files and connections of the workers.")
        started = self._made(
            Gauge, "process_start_time_seconds", "When the newest worker was started, since the epoch.", mode="livemax"
        )
        started.set(time.time())
        known = time.process_time()
        page_bytes = os.sysconf("SC_PAGE_SIZE")

        def look() -> None:
            nonlocal known
            before, known = known, time.process_time()
            cpu.inc(known - before)
            # Only where there is /proc.
            with contextlib.suppress(OSError):
                memory.set(int(Path("/proc/self/statm").read_text().split()[1]) * page_bytes)
                files.set(len(os.listdir("/proc/self/fd")))  # noqa: PTH208 - numbers, not paths

        self._looks.append(look)

    # --- what the shop tells ---

    def watch(self, database: Database) -> None:
        """Count the statements of `database`, and look at its pools."""
        for name, engine in database.pools().items():
            sent, pool = self.statements.labels(name), engine.pool
            event.listen(engine.sync_engine, "before_cursor_execute", lambda *_, sent=sent: sent.inc())
            assert isinstance(pool, QueuePool)
            self.connections_max.labels(name).set(pool.size())
            self.look_at(self.connections_in_use.labels(name), pool.checkedout)

    def committed(self, committed: Committed) -> None:
        """For `Database.on_commit`."""
        self.price_changes.inc(sum(isinstance(each, PriceChanged) for each in committed.events))

    def look_at(self, gauge: Gauge, level: Callable[[], float]) -> None:
        """Have `gauge` say what `level` gives, as often as anything is looked at."""
        self._looks.append(lambda: gauge.set(level()))

    def acknowledged(self, pop: str, seconds: float) -> None:
        """A worker of the edge `pop` has applied a change, so long after its commit."""
        if pop not in self._pops:
            if len(self._pops) >= MOST_POPS:
                pop = UNKNOWN_POP
            self._pops.add(pop)
        self.purge_ack_seconds.labels(pop).observe(seconds)

    async def keep_looking(self) -> None:
        """Look at what can only be looked at, until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(SAMPLE_EVERY_S)

    def look(self) -> None:
        """Once, now. From any thread."""
        with self._looking:
            for look in self._looks:
                look()

    # --- telling ---

    def exposition(self) -> bytes:
        """All of it as text; of every worker, where they share a folder."""
        self.look()
        registry = CollectorRegistry()
        registry.register(_Collected(self._families()))
        return generate_latest(registry)

    def _families(self) -> list[Metric]:
        own = [family for metric in self._all for family in metric.collect()]
        if self._shared is None:
            return own
        found = MultiProcessCollector.merge(self._shared.files())  # type: ignore[no-untyped-call]
        merged: Mapping[str, Metric] = {family.name: family for family in found}
        # What nobody has counted yet is in no file: it is named all the same.
        return [merged.get(family.name, Metric(family.name, family.documentation, family.type)) for family in own]


class _Collected(Collector):
    """Families as a collector."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = list(families)

    def collect(self) -> Iterable[Metric]:
        return self._families
