"""What stands on a page: figures with a finding, their charts and their tables."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from loadtests.recorder.run import Run
from loadtests.report.charts import Chart, Column, length_s
from loadtests.report.svg import slug

NOTHING = "–"
"""In a table, where nothing was measured."""
MAX_COLUMNS = 120
"""Points of a line over time: more would be closer together than a line is wide."""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text; the first column names its row."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: frozenset[int] = frozenset()
    """Columns beside the first that hold words, not numbers."""


@dataclass(slots=True)
class Figure:
    """One numbered part of a report."""

    title: str
    finding: str
    """What it shows, in a sentence."""
    definition: str = ""
    """What exactly was counted."""
    charts: Sequence[Chart] = ()
    tables: Sequence[Table] = ()
    full: Table | None = None
    """Every value, folded away."""
    paired: bool = False
    """Each table stands beside the chart of the same number, instead of all beside all."""
    stacked: bool = False
    """Its tables are too wide to stand beside a chart."""
    nothing: bool = False
    """Nothing was measured: `finding` says what and why, and there is no empty frame."""
    number: int = field(default=0)

    @property
    def name(self) -> str:
        return slug(self.title)


def unmeasured(title: str, why: str) -> Figure:
    return Figure(title, why, nothing=True)


@dataclass(frozen=True, slots=True)
class Bins:
    """The seconds of a run in equal parts, few enough for a line."""

    width_s: int
    count: int

    def of(self, at_s: float) -> int:
        return min(max(0, int(at_s / self.width_s)), self.count - 1)

    def middle(self, number: int) -> float:
        return (number + 0.5) * self.width_s

    def column(self, number: int, said: str) -> Column:
        from_s = number * self.width_s
        return Column(from_s, from_s + self.width_s, f"{self.said(number)}: {said}")

    def said(self, number: int) -> str:
        from_s = number * self.width_s
        return f"second {from_s}" if self.width_s == 1 else f"{from_s} to {from_s + self.width_s} s"

    @property
    def words(self) -> str:
        return "each second" if self.width_s == 1 else f"each {self.width_s} seconds"


def bins_of(run: Run, at_least: float = 0.0) -> Bins:
    """Parts of a run that are wide enough for a line of MAX_COLUMNS points, and hold `at_least` requests on average."""
    length = length_s(run)
    requests = sum(cell.requests for cell in run.cells)
    width = next(
        (
            width
            for width in (1, 2, 5, 10, 20, 30, 60, 120, 300)
            if length / width <= MAX_COLUMNS and requests * width / length >= at_least
        ),
        max(1, round(length / 6)),
    )
    return Bins(width, max(1, math.ceil(length / width - 1e-6)))


def means(bins: Bins, parts: Iterable[Mapping[int, float]]) -> list[float | None]:
    """What all parts (second -> how much) make a second, on average over each bin; None where no second is known."""
    totals: dict[int, float] = {}
    for part in parts:
        for at_s, value in part.items():
            totals[at_s] = totals.get(at_s, 0.0) + value
    found: list[list[float]] = [[] for _ in range(bins.count)]
    for at_s, value in totals.items():
        found[bins.of(at_s)].append(value)
    return [sum(values) / len(values) if values else None for values in found]


def points(bins: Bins, values: Sequence[float | None]) -> list[tuple[float, float | None]]:
    return [(bins.middle(number), value) for number, value in enumerate(values)]


def below(bins: Bins, values: Sequence[float | None]) -> list[tuple[float, float, float] | None]:
    """What an area from 0 up to a line fills."""
    return [None if value is None else (bins.middle(number), 0.0, value) for number, value in enumerate(values)]


def highest(*series: Sequence[float | None]) -> float:
    return max((value for values in series for value in values if value is not None), default=0.0)
