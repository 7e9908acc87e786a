"""The files of a run beside its JSON: the page, tables for spreadsheets, and a verdict for CI."""

from __future__ import annotations

from pathlib import Path

from loadtests.recorder.run import Run
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
        appendix=[],
    )


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
