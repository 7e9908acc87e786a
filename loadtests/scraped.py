"""What was scraped from edges and origin each second of a run (`Run.series`): counters, rates and levels, per edge."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from types import MappingProxyType

from loadtests.recorder.run import Run

Labels = Mapping[str, str]
NONE: Labels = MappingProxyType({})

_KEY = re.compile(r"(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(?P<labels>.*)\})?", re.DOTALL)
_LABEL = re.compile(r"""([a-zA-Z_][a-zA-Z0-9_]*)=(?:"((?:\\.|[^"\\])*)"|([^,"]*))""")

FETCHES = "nearshelf_origin_fetches_total"
COALESCED = "nearshelf_edge_coalesced_total"
EVICTIONS = "nearshelf_cache_evictions_total"
EVICTED_AGE = "nearshelf_cache_evicted_age_seconds"
STORE_BYTES = "nearshelf_cache_bytes"
STORE_MAX_BYTES = "nearshelf_cache_max_bytes"
STORE_OBJECTS = "nearshelf_cache_objects"
WORKERS = "workers_answering"
"""How many of an edge's workers answered; the scraper's own."""


@dataclass(frozen=True, slots=True)
class Series:
    """One scraped figure over time."""

    name: str
    labels: Mapping[str, str]
    """An edge is `edge`, whether the metric calls it that or `pop`."""
    points: Sequence[tuple[float, float]]
    """(at_s, value), ascending."""

    @property
    def edge(self) -> str:
        return self.labels.get("edge", "")


@lru_cache(maxsize=4096)
def labels_of(key: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    """The name and the labels of `NAME{label=value,...}`, values in quotes or not."""
    found = _KEY.fullmatch(key)
    if found is None:
        return key, ()
    pairs = _LABEL.findall(found["labels"] or "")
    return found["name"], tuple(("edge" if name == "pop" else name, quoted or bare) for name, quoted, bare in pairs)


Which = Callable[[Series], bool]


def every(series: Series) -> bool:
    return True


def answered(series: Series) -> bool:
    """Of FETCHES: those that the origin answered, whatever it said, not those that never had an answer (RFC 9209)."""
    return series.labels.get("result", "2xx")[:1].isdigit()


def unanswered(series: Series) -> bool:
    return not answered(series)


def select(run: Run, name: str, labels: Labels = NONE, which: Which = every) -> list[Series]:
    """Every series of that name with these labels that `which` takes, by its key's order."""
    found = []
    for key in sorted(run.series):
        its_name, pairs = labels_of(key)
        its_labels = dict(pairs)
        if its_name == name and all(its_labels.get(label) == value for label, value in labels.items()):
            found.append(Series(name, its_labels, run.series[key]))
    return [series for series in found if which(series)]


def counted(series: Series, began_at_s: float) -> list[tuple[float, float]]:
    """How much a counter had counted since scraping began, at each of its points.

    A counter that appears later than that began at 0. One that falls lost a process: what the rest had counted is kept,
    what was lost between two looks is not made up.
    """
    points = series.points
    if not points:
        return []
    total = points[0][1] if points[0][0] > began_at_s + 0.5 else 0.0
    found = [(began_at_s, 0.0), (max(began_at_s, points[0][0] - 1), 0.0)] if total else []
    found.append((points[0][0], total))
    for (_, before), (at_s, value) in pairwise(points):
        total += max(0.0, value - before)
        found.append((at_s, total))
    return found


def _at(points: Sequence[tuple[float, float]], at_s: float) -> float:
    """The value at a time, on the straight line between two points; beyond them, that of the nearest."""
    place = bisect_left(points, at_s, key=lambda point: point[0])
    if place == 0:
        return points[0][1]
    if place == len(points):
        return points[-1][1]
    (from_s, low), (to_s, high) = points[place - 1], points[place]
    return low + (high - low) * (at_s - from_s) / (to_s - from_s) if to_s > from_s else high


def began_at_s(run: Run) -> float | None:
    """When the first figure was scraped; None: nothing was."""
    return min((points[0][0] for points in run.series.values() if points), default=None)


def increase(
    run: Run, name: str, windows: Sequence[tuple[float, float]], labels: Labels = NONE, which: Which = every
) -> float | None:
    """By how much the counters of that name rose in the windows, all series together.

    None: nothing of that name was scraped, with these labels. A counter's labels show with its first count, so 0 is
    only said of what `which` leaves out.
    """
    found, began = select(run, name, labels), began_at_s(run)
    if not found or began is None:
        return None
    total = 0.0
    for series in filter(which, found):
        points = counted(series, began)
        total += sum(_at(points, to_s) - _at(points, from_s) for from_s, to_s in windows)
    return total


def _edge_of(series: Series) -> str:
    return series.edge


def rates(
    run: Run,
    name: str,
    labels: Labels = NONE,
    *,
    which: Which = every,
    by: Callable[[Series], str] = _edge_of,
) -> dict[str, dict[int, float]]:
    """By how much counters rose in each second: what `by` says of a series -> second -> increase.

    Only seconds that lie within what was scraped.
    """
    found: dict[str, dict[int, float]] = {}
    began = began_at_s(run)
    for series in select(run, name, labels, which):
        points = counted(series, began or 0.0)
        if len(points) < 2:
            continue
        seconds = found.setdefault(by(series), {})
        for at_s in range(max(0, round(points[0][0])), round(points[-1][0])):
            seconds[at_s] = seconds.get(at_s, 0.0) + _at(points, at_s + 1) - _at(points, at_s)
    return found


def levels(run: Run, name: str, labels: Labels = NONE) -> dict[str, list[tuple[float, float]]]:
    """A gauge over time, per edge; several series of an edge are added up, each keeping its last value."""
    grouped: dict[str, list[Series]] = {}
    for series in select(run, name, labels):
        grouped.setdefault(series.edge, []).append(series)
    found = {}
    for edge, parts in grouped.items():
        if len(parts) == 1:
            found[edge] = list(parts[0].points)
            continue
        times = sorted({at_s for part in parts for at_s, _ in part.points})
        found[edge] = [(at_s, sum(_last(part.points, at_s) for part in parts)) for at_s in times]
    return found


def _last(points: Sequence[tuple[float, float]], at_s: float) -> float:
    place = bisect_left(points, at_s, key=lambda point: point[0])
    if place < len(points) and points[place][0] == at_s:
        return points[place][1]
    return points[place - 1][1] if place else 0.0
