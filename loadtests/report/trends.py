"""Many runs on one page: a plot of each figure over the runs of a scenario, and the table of them all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from loadtests.report import svg
from loadtests.report.charts import NARROW, WIDE, Chart, Size, drawing
from loadtests.report.figure import Figure, Table
from loadtests.report.first_screen import BAD, GOOD, ODD, Said, started_text
from loadtests.report.page import render, write_page
from loadtests.report.scales import Linear, percent_text
from loadtests.trend import COLUMNS, HEAD, WORDS, Column, Point, Trend, figure_text, rows_of
from loadtests.units import plural

ROW_PX = 62
PLOT_PX = 38


def trend_html(found: Trend) -> str:
    """The trend as one page."""
    figures = [_figure(scenario, points) for scenario, points in found.scenarios.items()]
    runs = sum(len(points) for points in found.scenarios.values())
    return render(
        "trend.html",
        said=f"{plural(runs, 'run')} of {plural(len(figures), 'scenario')}",
        lasts=[_last(scenario, points) for scenario, points in found.scenarios.items()],
        figures=figures,
        unread=found.unread,
    )


def write_trend(found: Trend, path: Path) -> None:
    """The page, in a folder that is made. Raises OSError."""
    write_page(path, trend_html(found))


def _last(scenario: str, points: Sequence[Point]) -> Said:
    last = points[-1]
    look = {"passed": GOOD, "failed": BAD, "invalid": ODD}[last.word]
    broken = [verdict.text for verdict in last.run.thresholds if not verdict.met]
    said = f"{scenario}: the last run, {started_text(last.run)}, {last.word}" + (
        f" ({', '.join(broken)})" if broken else ""
    )
    return Said("met" if look is GOOD else "broken" if look is BAD else "odd", look[1], f"{said}.")


def _figure(scenario: str, points: Sequence[Point]) -> Figure:
    followed = [number for number in range(len(COLUMNS)) if any(point.figures[number] is not None for point in points)]
    passed = sum(point.word == "passed" for point in points)
    return Figure(
        scenario,
        f"{passed} of {plural(len(points), 'run')} passed." + _moved(points),
        "A dot for each run, in the order of their times: filled where it passed, hollow where it failed or is "
        "invalid. An upright line stands where machine, generator, seed, requests or length changed: what is left of "
        "it is not to be held against what is right of it. Each row has a scale of its own, from 0 but for the hit "
        "ratio.",
        [_small_plots(scenario, points, followed)],
        [],
        Table(f"{plural(len(points), 'run')} of {scenario}", HEAD, rows_of(points), WORDS),
    )


def _moved(points: Sequence[Point]) -> str:
    """How the last run differs from the one before, where they can be held against each other."""
    if len(points) < 2:
        return ""
    before, last = points[-2], points[-1]
    if last.breaks:
        return f" The last one differs from the one before in {', '.join(last.breaks)}."
    told = [
        f"{column.name} {figure_text(one, column)} → {figure_text(other, column)}"
        for column, one, other in zip(COLUMNS[:4], before.figures, last.figures, strict=False)
        if one is not None and other is not None
    ]
    return f" From the one before to the last: {', '.join(told)}." if told else ""


def _small_plots(scenario: str, points: Sequence[Point], followed: Sequence[int]) -> Chart:
    def drawn(size: Size) -> Markup:
        size = Size(size.width, 104, 78, size.narrow)
        parts = [
            _row(points, number, COLUMNS[number], size, 6 + ROW_PX * place) for place, number in enumerate(followed)
        ]
        bottom = 6 + ROW_PX * len(followed)
        first, last = started_text(points[0].run)[:16], started_text(points[-1].run)[:16]
        parts.append(svg.text(size.left, bottom + 8, first, look="tick"))
        if len(points) > 1:
            parts.append(svg.text(size.width - size.right, bottom + 8, last, look="tick", anchor="end"))
        told = "; ".join(
            f"{COLUMNS[number].name}: {figure_text(points[0].figures[number], COLUMNS[number])} to "
            f"{figure_text(points[-1].figures[number], COLUMNS[number])}"
            for number in followed
        )
        return drawing(size, bottom + 14, f"Runs of {scenario}", f"From the first run to the last. {told}.", parts)

    return Chart(drawn(WIDE), drawn(NARROW))


def _row(points: Sequence[Point], number: int, column: Column, size: Size, top: float) -> Markup:
    values = [point.figures[number] for point in points]
    there = [value for value in values if value is not None]
    # A hit ratio of 94 % against one of 92 % would be a straight line on an axis from 0.
    low = max(0.0, int(min(there, default=0.0) * 20 - 0.5) / 20) if column.more_is_better else 0.0
    high = 1.0 if column.more_is_better else max(there, default=0.0) * 1.1 or 1.0
    across = Linear(-0.5, len(points) - 0.5, size.left, size.width - size.right)
    up = Linear(low, high, top + PLOT_PX, top)
    parts = [
        svg.text(size.left - 10, top + PLOT_PX / 2 + 4, column.name, look="row", anchor="end"),
        svg.el("line", x1=size.left, x2=size.width - size.right, y1=top + PLOT_PX, y2=top + PLOT_PX, class_="axis"),
    ]
    if low:
        parts.append(
            svg.text(size.left - 10, top + PLOT_PX / 2 + 18, f"from {percent_text(low)}", look="note", anchor="end")
        )
    for place, point in enumerate(points):
        if point.breaks:
            at = across(place - 0.5)
            parts.append(svg.el("line", x1=at, x2=at, y1=top - 4, y2=top + PLOT_PX + 4, class_="phase"))
    line: list[tuple[float, float] | None] = []
    for place, (point, value) in enumerate(zip(points, values, strict=True)):
        if point.breaks:
            line.append(None)
        line.append(None if value is None else (across(place), up(value)))
    parts.append(svg.el("path", d=svg.path_of(line), class_="line revalidated thin"))
    for place, (point, value) in enumerate(zip(points, values, strict=True)):
        if value is not None:
            figure = f"{column.name} {figure_text(value, column)}"
            said = f"{started_text(point.run)}: {figure}, {point.word}, revision {point.revision or 'not recorded'}"
            look = "revalidated" if point.word == "passed" else "error"
            style = "" if point.word == "passed" else " hollow"
            dot = svg.el("circle", svg.el("title", said), cx=across(place), cy=up(value), r=4)
            parts.append(svg.el("g", dot, class_=f"dot {look}{style}"))
    last = next((value for value in reversed(values) if value is not None), None)
    if last is not None:
        parts.append(svg.text(size.width - size.right + 8, up(last) + 4, figure_text(last, column), look="end ink"))
    return svg.join(parts)
