"""What edges and origin say of themselves, each second of a run: `/metrics` of every worker, added up for each edge.

A process of its own asks, so that reading figures takes nothing from the generator and waits for nobody:

    scraper = Scraper.start({"eu": ["http://127.0.0.1:9001", ...]}, "http://127.0.0.1:8000", token)
    ... the run, whose second 0 is `began_at` on time.monotonic() ...
    found = scraper.stop(began_at)

Whoever does not answer is missed and nothing else: in an outage that is what the run is about.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Self, TextIO
from urllib.parse import urlsplit

from prometheus_client.parser import text_string_to_metric_families

EVERY_S = 1.0
PATIENCE_S = 0.8
"""For one answer; less than EVERY_S, so that one that hangs misses its own look only."""
FIRST_LOOK_S = 5.0
LAST_LOOK_S = 10.0
ORIGIN = ""
"""Stands for the origin where the others are names of edges."""
KEPT_LABELS = frozenset({"status", "result", "why", "source", "pop"})
"""What figures are told apart by; over every other label (route, code, method) they are added up."""
_WANTED = ("nearshelf_", "process_cpu_seconds_total", "process_resident_memory_bytes")
_LEAST = frozenset({"nearshelf_lease_held", "nearshelf_purge_epoch", "nearshelf_purge_position"})
_MOST = frozenset(
    {
        "nearshelf_policy_refused",
        "nearshelf_purge_contact_age_seconds",
        "nearshelf_purge_floors",
        "nearshelf_purge_lag_messages",
    }
)
"""Levels of which an edge has that of its last worker, not the sum (docs/metrics.md)."""
POLICY_INFO, BUILD_INFO = "nearshelf_policy_info", "nearshelf_build_info"

Figures = dict[str, float]
"""`NAME{label=value,...}` -> value."""


class Look(NamedTuple):
    """One answer to one question for figures."""

    tick: int
    """Number of the look; all workers are asked in the same one."""
    at: float
    """time.monotonic() when the answer was there."""
    edge: str
    url: str
    figures: Figures | None
    """None: no answer, or none that could be read."""
    infos: dict[str, str]
    """`digest` of the policies and `build`, as the worker says them."""


@dataclass(frozen=True, slots=True)
class Scraped:
    """What a run's edges and origin said."""

    series: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    """As Run.series: of edges with a label `edge`, of the origin without."""
    policy_digests: dict[str, str] = field(default_factory=dict)
    """Edge -> digest at the first look; several, joined by ` and `, where its workers differ."""
    builds: dict[str, str] = field(default_factory=dict)
    """Edge, or `origin` -> what it says it was built from."""
    remarks: list[str] = field(default_factory=list)
    """Who did not answer, in sentences."""


class Scraper:
    """The process that asks. `start` waits for the first look, so that figures are there from before second 0."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    @classmethod
    def start(
        cls, edges: Mapping[str, Sequence[str]], origin: str | None, token: str, every_s: float = EVERY_S
    ) -> Self:
        """`edges`: name -> addresses of its admin listeners, one for each worker. `token`: the bearer token of all."""
        sources = [(edge, url.rstrip("/")) for edge, urls in edges.items() for url in urls]
        sources += [] if origin is None else [(ORIGIN, origin.rstrip("/"))]
        process = subprocess.Popen(
            [sys.executable, "-m", "loadtests.recorder.scraping"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # A Ctrl-C is for the run, which then wants to know what was seen.
            start_new_session=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        scraper = cls(process)
        with contextlib.suppress(OSError):
            # Not as an argument: those are for everybody on the machine to see.
            process.stdin.write(json.dumps({"sources": sources, "token": token, "every_s": every_s}) + "\n")
            process.stdin.flush()
            process.stdout.readline()
        return scraper

    def stop(self, began_at: float) -> Scraped:
        """What was seen; `began_at`: time.monotonic() at second 0. Empty, with a remark, where the process failed."""
        try:
            output, _ = self._process.communicate("stop\n", timeout=LAST_LOOK_S)
            looks = [Look(*each) for each in json.loads(output)]
        except (OSError, subprocess.TimeoutExpired, ValueError, TypeError) as exc:
            self.abandon()
            return Scraped(remarks=[f"figures of edges and origin were lost: {exc}"])
        return merged(looks, began_at)

    def abandon(self) -> None:
        """End it without asking what it saw."""
        self._process.kill()
        self._process.wait()


def merged(looks: Iterable[Look], began_at: float) -> Scraped:
    """The looks as series: the workers of an edge added up at each tick, at the mean time of their answers.

    Counters and levels are told apart by their names, as Prometheus wants it. A counter that falls belongs to a worker
    that was started again and counts from 0; what its predecessor had counted is kept. Of a worker that does not answer
    what it had counted last counts on; its levels are missing, and the whole edge's at that tick with them. One that
    did not answer the first look counts from its own first answer on: what it had counted until then is mostly older
    than the run.
    """
    series: dict[str, list[tuple[float, float]]] = {}
    digests: dict[str, set[str]] = defaultdict(set)
    builds: dict[str, set[str]] = defaultdict(set)
    counters: dict[tuple[str, str], _Counters] = defaultdict(_Counters)
    known: set[tuple[str, str]] = set()
    missed: Counter[tuple[str, str]] = Counter()
    ticks: dict[int, dict[tuple[str, str], Look]] = defaultdict(dict)
    workers: dict[str, set[str]] = defaultdict(set)
    for look in looks:
        ticks[look.tick][look.edge, look.url] = look
        workers[look.edge].add(look.url)
    first = min(ticks, default=0)
    for tick, edge in ((tick, edge) for tick in sorted(ticks) for edge in sorted(workers)):
        its_looks = [ticks[tick].get((edge, url)) for url in workers[edge]]
        answered = [look for look in its_looks if look is not None and look.figures is not None]
        total: Figures = defaultdict(float)
        for url in sorted(workers[edge]):
            its = ticks[tick].get((edge, url))
            figures = None if its is None else its.figures
            missed[edge, url] += figures is None
            if figures is not None and (edge, url) not in known:
                known.add((edge, url))
                if tick != first:
                    counters[edge, url].begin_at(figures)
            for key, value in counters[edge, url].after(figures or {}).items():
                total[key] += value
        if len(answered) == len(its_looks):
            for key, value in (pair for look in answered for pair in (look.figures or {}).items()):
                if not _is_counter(key):
                    total[key] = _together(key, total[key], value) if key in total else value
        for look in answered:
            if tick == first and "digest" in look.infos:
                digests[edge].add(look.infos["digest"])
            if "build" in look.infos:
                builds[edge or "origin"].add(look.infos["build"])
        moments = [look.at for look in answered] or [look.at for look in ticks[tick].values()]
        at_s = round(sum(moments) / len(moments) - began_at, 3)
        for key, value in total.items():
            series.setdefault(_labelled(key, edge), []).append((at_s, value))
        if edge != ORIGIN:
            series.setdefault(f"workers_answering{{edge={edge}}}", []).append((at_s, float(len(answered))))
    return Scraped(
        series=series,
        policy_digests={edge: " and ".join(sorted(found)) for edge, found in digests.items()},
        builds={edge: " and ".join(sorted(found)) for edge, found in builds.items()},
        remarks=[
            f"{edge or 'the origin'} gave no figures at {url}/metrics in {count} of {len(ticks)} looks"
            for (edge, url), count in sorted(missed.items())
            if count
        ],
    )


class _Counters:
    """What one worker and its predecessors have counted."""

    def __init__(self) -> None:
        self._last: Figures = {}
        self._before: Figures = {}

    def begin_at(self, figures: Figures) -> None:
        """Of what its first answer says, nothing belongs to the run."""
        self._before = {key: -value for key, value in figures.items() if _is_counter(key)}

    def after(self, figures: Figures) -> Figures:
        for key, value in figures.items():
            if _is_counter(key):
                last = self._last.get(key, 0.0)
                if value < last:
                    self._before[key] = self._before.get(key, 0.0) + last
                self._last[key] = value
        return {key: value + self._before.get(key, 0.0) for key, value in self._last.items()}


def _is_counter(key: str) -> bool:
    return key.partition("{")[0].endswith(("_total", "_count", "_sum"))


def _together(key: str, one: float, two: float) -> float:
    """A level of two workers of one edge."""
    name = key.partition("{")[0]
    return min(one, two) if name in _LEAST else max(one, two) if name in _MOST else one + two


def _labelled(key: str, edge: str) -> str:
    if edge == ORIGIN:
        return key
    name, _, labels = key.partition("{")
    return f"{name}{{edge={edge}{',' if labels else '}'}{labels}"


def read_figures(text: str, *, of_an_edge: bool) -> tuple[Figures, dict[str, str]]:
    """The figures that are kept, and the infos, of an answer in the text format. Raises ValueError for no such text.

    An edge's own name (`pop`) is not among its labels: whoever asked knows whom.
    """
    kept = KEPT_LABELS - {"pop"} if of_an_edge else KEPT_LABELS
    figures: Figures = defaultdict(float)
    infos: dict[str, str] = {}
    # Without the lines that nobody wants: parsing all of them would take ten times as long.
    wanted = "\n".join(line for line in text.splitlines() if line.startswith(_WANTED) and not _is_left_out(line))
    for family in text_string_to_metric_families(wanted + "\n"):
        for sample in family.samples:
            if sample.name == POLICY_INFO:
                infos["digest"] = sample.labels.get("digest", "")
            elif sample.name == BUILD_INFO:
                infos["build"] = " ".join(value for _, value in sorted(sample.labels.items()) if value)
            else:
                labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()) if name in kept)
                figures[f"{sample.name}{{{labels}}}" if labels else sample.name] += float(sample.value)
    return dict(figures), infos


def _is_left_out(line: str) -> bool:
    """Buckets: what is asked each second is how many and how long in all."""
    return line.partition("{")[0].partition(" ")[0].endswith(("_bucket", "_created"))


class _Asker(threading.Thread):
    """Asks one worker at each tick, over a connection that it keeps while it can."""

    def __init__(self, number: int, edge: str, url: str, token: str, began_at: float, every_s: float) -> None:
        super().__init__(name=f"asker {number}", daemon=True)
        self.looks: list[Look] = []
        self.looked = threading.Event()
        """The first look is over."""
        self._edge, self._url, self._token = edge, url, token
        self._began_at, self._every_s = began_at, every_s
        self._enough = threading.Event()
        self._connection: http.client.HTTPConnection | None = None

    def run(self) -> None:
        tick = 0
        while True:
            self.looks.append(self._look(tick))
            self.looked.set()
            # Ticks that went by while somebody did not answer are not made up for.
            tick = max(tick + 1, int((time.monotonic() - self._began_at) / self._every_s) + 1)
            if self._enough.wait(max(0.0, self._began_at + tick * self._every_s - time.monotonic())):
                self.looks.append(self._look(tick))
                return

    def finish(self) -> None:
        """One more look, then no more."""
        self._enough.set()

    def _look(self, tick: int) -> Look:
        figures: Figures | None = None
        infos: dict[str, str] = {}
        try:
            text = self._ask()
            figures, infos = read_figures(text, of_an_edge=self._edge != ORIGIN)
        except (OSError, http.client.HTTPException, ValueError):
            self._hang_up()
        return Look(tick, time.monotonic(), self._edge, self._url, figures, infos)

    def _ask(self) -> str:
        """Raises OSError, HTTPException or ValueError."""
        if self._connection is None:
            parts = urlsplit(self._url)
            self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=PATIENCE_S)
        self._connection.request("GET", "/metrics", headers={"Authorization": f"Bearer {self._token}"})
        answer = self._connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise ValueError(f"{self._url}/metrics: status {answer.status}")
        return body.decode("utf-8")

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def main(commands: TextIO, answers: TextIO) -> int:
    """Takes what to ask on a line, says `looking` after the first look, and tells everything when told to stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    order = json.loads(commands.readline())
    began_at = time.monotonic()
    askers = [
        _Asker(number, edge, url, order["token"], began_at, order["every_s"])
        for number, (edge, url) in enumerate(order["sources"])
    ]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.looked.wait(FIRST_LOOK_S)
    answers.write("looking\n")
    answers.flush()
    if not commands.readline():
        return 0
    for asker in askers:
        asker.finish()
    for asker in askers:
        asker.join(LAST_LOOK_S / 2)
    json.dump([look for asker in askers for look in list(asker.looks)], answers)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.stdin, sys.stdout))
