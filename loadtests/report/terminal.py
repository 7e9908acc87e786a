"""A run in a terminal: the verdict, a line for each threshold, and the latency of each status."""

from __future__ import annotations

from collections.abc import Sequence

from loadtests.recorder.run import Run
from loadtests.report.first_screen import measured_text, tiles_of, validity_of, verdict_of
from loadtests.report.plots.latency import NAMES, by_status, percentile_texts
from loadtests.units import count_text, time_text

PASSED, BROKEN, INVALID = 0, 1, 3
"""Exit statuses of a run."""


def exit_status(run: Run) -> int:
    """0: everything is met; 1: a threshold or the promise is broken; 3: the figures cannot be believed.

    A price that must not be shown is proved by the answer that showed it, in an invalid run too: 1.
    """
    if run.passed:
        return PASSED
    return BROKEN if run.check.valid or run.prices.promise_broken else INVALID


def lines_of(run: Run) -> list[str]:
    """What `load run` and `load report` print."""
    verdict = verdict_of(run)
    lines = [f"{run.scenario}: {verdict.word.upper()}. {verdict.said}", ""]
    lines += columns([[tile.name, tile.value, tile.beside] for tile in tiles_of(run)], words={2})
    latency = by_status(run)
    if latency:
        lines += ["", "latency from when a request was " + ("meant to be sent" if run.open_loop else "sent")]
        rows = [
            [
                status.upper(),
                count_text(found.count),
                *percentile_texts(found),
                time_text(found.highest_us),
            ]
            for status, found in latency.items()
        ]
        lines += columns([["", "requests", *NAMES, "slowest"], *rows])
    lines += [
        "",
        *(f"{'met    ' if each.met else 'NOT MET'}  {each.text}: {measured_text(each)}" for each in run.thresholds),
    ]
    if run.thresholds:
        lines.append("")
    lines += [f"{said.sign} {said.said}" for said in validity_of(run)]
    lines += [f"✗ {violation}" for violation in run.prices.violations]
    return lines


def columns(rows: Sequence[Sequence[str]], words: frozenset[int] | set[int] = frozenset()) -> list[str]:
    """Rows of text in columns: the first and those of words from the left, figures from the right."""
    widths = [max(len(row[number]) for row in rows) for number in range(len(rows[0]) if rows else 0)]
    return [
        "  ".join(
            text.ljust(width) if number == 0 or number in words else text.rjust(width)
            for number, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
