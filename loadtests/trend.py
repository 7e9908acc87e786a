"""How the figures of each scenario moved over many runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from loadtests.measures import measure_called, take
from loadtests.recorder.run import RUN_FILE, BadRun, Run, read_run
from loadtests.report.first_screen import started_text
from loadtests.report.terminal import columns
from loadtests.units import Kind, plural, text_of


class NoRuns(Exception):
    """There is nothing to show. Reads: nightly: no run in it; ..."""


@dataclass(frozen=True, slots=True)
class Column:
    """A figure that is followed."""

    name: str
    measure: str
    """Of `measures`; of durations the corrected ones, where the generator has intended times."""
    labels: tuple[tuple[str, str], ...] = ()
    more_is_better: bool = False

    @property
    def kind(self) -> Kind:
        found = measure_called(self.measure)
        assert found is not None
        return found.kind

    def of(self, run: Run) -> float | None:
        measure = self.measure if run.open_loop or self.measure not in {"p50", "p99"} else f"uncorrected_{self.measure}"
        return take(run, measure, **dict(self.labels))


HIT, MISS = (("status", "hit"),), (("status", "miss"),)
COLUMNS = (
    Column("hit ratio", "hit_ratio", more_is_better=True),
    Column("HIT p50", "p50", HIT),
    Column("HIT p99", "p99", HIT),
    Column("MISS p99", "p99", MISS),
    Column("origin/s", "origin_rps"),
    Column("price live p95", "live_p95"),
    Column("errors", "errors"),
    Column("old prices", "old_prices"),
)


@dataclass(frozen=True, slots=True)
class Point:
    """One run among others of its scenario."""

    folder: str
    run: Run
    figures: tuple[float | None, ...]
    """Of COLUMNS, in their order."""
    breaks: tuple[str, ...]
    """What is not as in the run before: its figures are not to be held against that one's."""

    @property
    def word(self) -> str:
        if self.run.passed:
            return "passed"
        # An old price is proved whatever the generator did.
        return "failed" if self.run.check.valid or self.run.prices.promise_broken else "invalid"

    @property
    def revision(self) -> str:
        return self.run.versions.get("revision", "")[:12]


@dataclass(frozen=True, slots=True)
class Trend:
    """All runs below a folder."""

    scenarios: dict[str, list[Point]]
    """By the names of scenarios; runs in the order in which they started."""
    unread: list[str]
    """Files that are no runs of this version, and why."""


def read_trend(folder: Path) -> Trend:
    """Every run below `folder`. Raises NoRuns."""
    found: list[tuple[str, Run]] = []
    unread = []
    for path in sorted(folder.glob(f"**/{RUN_FILE}")):
        try:
            found.append((str(path.parent.relative_to(folder)), read_run(path)))
        except BadRun as exc:
            unread.append(str(exc))
    if not found:
        why = f"; {len(unread)} could not be read: {unread[0]}" if unread else ""
        raise NoRuns(f"{folder}: no run in it{why}; name a folder with folders of runs, or run `nearshelf load run`")
    return Trend(_scenarios(found), unread)


def _scenarios(found: Sequence[tuple[str, Run]]) -> dict[str, list[Point]]:
    scenarios: dict[str, list[Point]] = {}
    for folder, run in sorted(found, key=lambda each: (each[1].scenario, each[1].started_at, each[0])):
        points = scenarios.setdefault(run.scenario, [])
        breaks = _breaks(points[-1].run, run) if points else ()
        points.append(Point(folder, run, tuple(column.of(run) for column in COLUMNS), breaks))
    return scenarios


def _breaks(before: Run, after: Run) -> tuple[str, ...]:
    pairs = {
        "machine": (before.machine, after.machine),
        "generator": (before.generator, after.generator),
        "seed": (before.seed, after.seed),
        "requests": (before.request_digest, after.request_digest),
        "length": (round(before.duration_s), round(after.duration_s)),
    }
    changed = [name for name, (one, other) in pairs.items() if one != other]
    # Another seed means other requests; one word is enough.
    return tuple(name for name in changed if name != "requests" or "seed" not in changed)


def figure_text(value: float | None, column: Column) -> str:
    return "–" if value is None else text_of(value, column.kind)


HEAD = ("started", "", *(column.name for column in COLUMNS), "revision", "policies", "other than before")


def rows_of(points: Sequence[Point]) -> list[list[str]]:
    """As HEAD says."""
    return [
        [
            started_text(point.run).removesuffix(" UTC"),
            point.word,
            *(figure_text(value, column) for value, column in zip(point.figures, COLUMNS, strict=True)),
            point.revision,
            ", ".join(sorted({digest[:8] for digest in point.run.policy_digests.values()})),
            ", ".join(point.breaks),
        ]
        for point in points
    ]


WORDS = frozenset({1, len(COLUMNS) + 2, len(COLUMNS) + 3, len(COLUMNS) + 4})
"""Columns that hold words."""


def as_text(found: Trend) -> str:
    """For a terminal: a table for each scenario."""
    lines: list[str] = []
    for scenario, points in found.scenarios.items():
        lines += [
            f"{scenario}: {plural(len(points), 'run')}",
            "",
            *columns([list(HEAD), *rows_of(points)], words=WORDS),
            "",
        ]
    return "\n".join(lines).rstrip("\n")


def as_json_text(found: Trend) -> str:
    """For programs: times in microseconds, shares from 0 to 1."""
    document = {
        scenario: [
            {
                "folder": point.folder,
                "started_at": point.run.started_at,
                "verdict": point.word,
                "figures": dict(zip((column.name for column in COLUMNS), point.figures, strict=True)),
                "revision": point.revision,
                "policies": point.run.policy_digests,
                "seed": point.run.seed,
                "breaks": point.breaks,
            }
            for point in points
        ]
        for scenario, points in found.scenarios.items()
    }
    return json.dumps(document, indent=2)
