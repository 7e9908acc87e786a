"""The files of a run beside its JSON: the page, tables for spreadsheets, and a verdict for CI."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from loadtests.measures import NotMeasured, counted_purges, measure_called
from loadtests.recorder.run import Run
from loadtests.report.figure import NOTHING, Table
from loadtests.report.first_screen import (
    facts_of,
    measured_text,
    places_of,
    started_text,
    tiles_of,
    validity_of,
    verdict_of,
)
from loadtests.report.junit import junit_text
from loadtests.report.page import render, write_page
from loadtests.report.plots import figures_of
from loadtests.report.tables import write_cells, write_seconds
from loadtests.scraped import labels_of
from loadtests.units import count_text, text_of

LOCUST = {
    "num_requests": "requests",
    "num_failures": "failures",
    "median_response_time": "median",
    "response_time_percentile_0.95": "p95",
    "response_time_percentile_0.99": "p99",
    "max_response_time": "slowest",
}
"""Locust's names of what it counts, and ours."""


def report_html(run: Run) -> str:
    """The whole report as one page."""
    return render(
        "report.html",
        run=run,
        started=started_text(run),
        verdict=verdict_of(run),
        tiles=tiles_of(run),
        said=measured_text,
        places=places_of(run),
        validity=validity_of(run),
        facts=facts_of(run),
        figures=figures_of(run),
        own=own_figures(run),
        appendix=locust_tables(run),
    )


def own_figures(run: Run) -> Table | None:
    """What the run itself took of what it did to the shop, each by the name that a threshold gives it."""
    rows = []
    for key, value in run.figures.items():
        measure = measure_called(labels_of(key)[0])
        if measure is not None:
            rows.append([key, text_of(value, measure.kind), measure.meaning])
    for name in ("purge_live_p50", "purge_live_p99", "purge_live_max") if counted_purges(run) else ():
        measure = measure_called(name)
        assert measure is not None
        try:
            found = measure.take(run, {})
            rows.append([name, text_of(found.value, measure.kind), f"{measure.meaning}, {found.of}"])
        except NotMeasured as exc:
            rows.append([name, NOTHING, f"{measure.meaning}: {exc}"])
    if not rows:
        return None
    return Table("By the names that thresholds give them", ("figure", "measured", "meaning"), rows, frozenset({2}))


def locust_tables(run: Run) -> list[Table]:
    """Locust's own statistics beside ours: what it keeps in milliseconds, from when a request was sent."""
    rows = [
        [
            f"{row.get('method', '')} {row.get('name', '')}".strip(),
            *(_locust_text(row.get(name)) for name in LOCUST),
        ]
        for row in run.locust.get("rows", ())
        if isinstance(row, dict)
    ]
    if not rows:
        return []
    return [Table("Locust's own statistics, milliseconds, warm-up included", ("request", *LOCUST.values()), rows)]


def _locust_text(value: Any) -> str:
    return count_text(value) if isinstance(value, int | float) else NOTHING


def write_reports(run: Run, folder: Path) -> list[Path]:
    """report.html, cells.csv, seconds.csv and junit.xml in a folder that is made; the page first. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / "report.html"
    write_page(page, report_html(run))
    return [
        page,
        write_cells(run, folder / "cells.csv"),
        write_seconds(run, folder / "seconds.csv"),
        _written(folder / "junit.xml", junit_text(run)),
    ]


def _written(path: Path, text: str) -> Path:
    write_page(path, text)
    return path
