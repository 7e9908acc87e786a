"""The whole curve of percentiles, from intended times and from sending times beside each other."""

from __future__ import annotations

import math

from loadtests.measures import corrected, uncorrected
from loadtests.recorder.histogram import Histogram
from loadtests.recorder.run import Run, Status
from loadtests.report.charts import Chart, Line, Panel, plot
from loadtests.report.figure import NOTHING, Figure, Table, unmeasured
from loadtests.report.scales import Log, Tail, log_ends, micros_text
from loadtests.units import plural, time_text

TITLE = "Corrected and uncorrected"
DEFINITION = (
    "Corrected: from when a request was meant to be sent. Uncorrected: from when it was sent, which forgives a server "
    "that makes everybody wait. The axis gives each further nine the same room, as HdrHistogram's does; a curve ends "
    "where it has one request left."
)
SHARES = (0.5, 0.9, 0.95, 0.99, 0.999, 0.9999)
MOST_CHARTS = 4
FEWEST = 20
"""Requests of a status, below which it has a line in the table and no curve."""


def figure(run: Run) -> Figure:
    found: dict[Status, tuple[Histogram, Histogram]] = {}
    for status in Status:
        cells = [cell for cell in run.counted() if cell.label.status is status]
        pair = corrected(cells), uncorrected(cells)
        if pair[1].count:
            found[status] = pair
    if not found:
        return unmeasured(TITLE, "No request was answered in the phases that count.")
    # The edge's own answers and errors come last: nobody tunes a cache by them.
    enough = [status for status in found if found[status][1].count >= FEWEST] or list(found)
    most = sorted(enough, key=lambda status: (status in {Status.EDGE, Status.ERROR}, -found[status][1].count))[
        :MOST_CHARTS
    ]
    shown = [status for status in found if status in most]
    definition = DEFINITION
    if len(found) > len(shown):
        definition += f" Curves of {MOST_CHARTS} statuses; the folded table has all."
    if not run.open_loop:
        definition += f" {run.generator} is a closed loop: there are no intended times, and so nothing to correct by."
    return Figure(
        TITLE,
        _finding(run, found),
        definition,
        [_chart(status, *found[status]) for status in shown],
        [_beside(status, *found[status]) for status in shown],
        _table(found),
        paired=True,
    )


def shares_of(count: int) -> list[float]:
    """Shares at equal distances on the axis of nines, up to the last of so many."""
    nines = math.log10(count) if count > 1 else 0.3
    steps = max(2, round(nines * 24))
    return [1 - 10 ** (-nines * step / steps) for step in range(steps + 1)]


def _curve(found: Histogram) -> list[tuple[float, float | None]]:
    return [(share, found.percentile_us(share)) for share in shares_of(found.count)]


def _chart(status: Status, with_wait: Histogram, without: Histogram) -> Chart:
    both = [found for found in (with_wait, without) if found.count]
    values = [found.percentile_us(share) for found in both for share in (0.0, 1.0)]
    low, high = log_ends(values, 1)
    nines = max(1.0, math.log10(max(found.count for found in both)))
    lines = [Line(_curve(without), status, "dash", "uncorr.")]
    legend = [(status, "line dash", "uncorrected")]
    if with_wait.count:
        lines.append(Line(_curve(with_wait), status, "", "corr."))
        legend.insert(0, (status, "line", "corrected"))
    described = ", ".join(
        f"{name} p50 {time_text(found.percentile_us(0.5))}, p99 {time_text(found.percentile_us(0.99))}, "
        f"slowest {time_text(found.highest_us)}"
        for name, found in (("corrected", with_wait), ("uncorrected", without))
        if found.count
    )
    return plot(
        Panel(
            lambda bottom, top: Log(low, high, bottom, top),
            micros_text,
            lines,
            height=180,
            title=status.upper(),
            y_ticks=5,
        ),
        lambda left, right: Tail(nines, left, right),
        lambda share: f"{round(share * 100, 6):g} %",
        f"Percentiles of {status.upper()}",
        f"Latency on a logarithmic axis over percentiles. {described}.",
        legend=legend,
    )


def _finding(run: Run, found: dict[Status, tuple[Histogram, Histogram]]) -> str:
    if not run.open_loop:
        return "Only uncorrected percentiles: the generator has no intended times."
    ratios = {
        status: with_wait.percentile_us(0.99) / max(1.0, without.percentile_us(0.99))
        for status, (with_wait, without) in found.items()
        if with_wait.count >= 100
    }
    if not ratios:
        return "Too few requests of any one status for a p99."
    hidden = [status for status, ratio in ratios.items() if ratio >= 1.1]
    status = next((each for each in (Status.HIT, Status.MISS) if each in hidden), max(ratios, key=ratios.__getitem__))
    with_wait, without = (part.percentile_us(0.99) for part in found[status])
    if ratios[status] < 1.1:
        return (
            "Nobody waited to be sent: corrected and uncorrected p99 are within a tenth of each other for every status."
        )
    return (
        f"Waiting hides in the uncorrected figure: p99 of {status.upper()} is {time_text(with_wait)} from when it was "
        f"meant to be sent, {time_text(without)} from when it was sent."
    )


def _beside(status: Status, with_wait: Histogram, without: Histogram) -> Table:
    rows = [
        [
            f"p{round(share * 100, 4):g}",
            *(time_text(part.percentile_us(share)) if part.count else NOTHING for part in (with_wait, without)),
        ]
        for share in SHARES
        # As far as there are requests to tell it from the slowest.
        if share <= 1 - 1 / without.count or share == SHARES[0]
    ]
    rows.append(["slowest", *(time_text(part.highest_us) if part.count else NOTHING for part in (with_wait, without))])
    caption = f"{status.upper()}, {plural(without.count, 'request')}"
    return Table(caption, ("", "corrected", "uncorrected"), rows)


def _table(found: dict[Status, tuple[Histogram, Histogram]]) -> Table:
    names = [f"p{round(share * 100, 4):g}" for share in SHARES]
    rows = []
    for status, pair in found.items():
        for name, histogram in zip(("corrected", "uncorrected"), pair, strict=True):
            values = [histogram.percentile_us(share) for share in SHARES]
            rows.append(
                [
                    status.upper(),
                    name,
                    *(time_text(value) if histogram.count else NOTHING for value in values),
                    time_text(histogram.highest_us) if histogram.count else NOTHING,
                ]
            )
    return Table("Percentiles of the phases that count", ("status", "", *names, "slowest"), rows, frozenset({1}))
