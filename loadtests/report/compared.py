"""Two runs on one page: every figure with its interval, and their plots laid over each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from markupsafe import Markup

from loadtests import scraped
from loadtests.compare import CAUTION, HEAD, Change, Comparison, Outcome, rows_of, summary
from loadtests.measures import Ratio
from loadtests.recorder.histogram import Histogram
from loadtests.recorder.run import Run, Status
from loadtests.report import svg
from loadtests.report.charts import NARROW, WIDE, X_AXIS_PX, Chart, Line, Panel, Size, drawing, plot, timeline, x_axis
from loadtests.report.figure import Bins, Figure, Table, bins_of, highest, means, points
from loadtests.report.first_screen import BAD, GOOD, ODD, Said, facts_of, started_text, verdict_of
from loadtests.report.page import render, write_page
from loadtests.report.plots.latency import by_status
from loadtests.report.plots.percentiles import shares_of
from loadtests.report.scales import Linear, Log, Tail, log_ends, micros_text, nice_high, percent_text, plain_text
from loadtests.units import MINUS, count_text, plural, time_text

ROW_PX = 24
LOOKS = {Outcome.BETTER: "hit", Outcome.WORSE: "error", Outcome.OTHER: "pass"}
"""The colour of an outcome; the rest is grey."""


def compared_html(found: Comparison) -> str:
    """The comparison as one page."""
    figures = [
        figure
        for figure in (_forest(found), _hit_ratio(found), _latency(found), _percentiles(found), _origin(found))
        if figure is not None
    ]
    for number, figure in enumerate(figures, 1):
        figure.number = number
    return render(
        "compared.html",
        found=found,
        verdict=_verdict(found),
        sides=[("A", found.before, verdict_of(found.before)), ("B", found.after, verdict_of(found.after))],
        facts=_facts(found),
        figures=figures,
    )


def write_compared(found: Comparison, path: Path) -> None:
    """The page, in a folder that is made. Raises OSError."""
    write_page(path, compared_html(found))


def _verdict(found: Comparison) -> Said:
    if found.differences:
        return Said(*ODD, f"Compared nevertheless: {summary(found)}", "Not alike")
    better = any(change.outcome is Outcome.BETTER for change in found.changes)
    if found.worse:
        return Said(*BAD, summary(found), "Better and worse" if better else "Worse")
    return Said(*GOOD, summary(found), "Better" if better else "No difference")


def _facts(found: Comparison) -> list[tuple[str, str, str, bool]]:
    """Name, A, B, and whether they differ."""
    before, after = facts_of(found.before), dict(facts_of(found.after))
    rows = [("started", started_text(found.before), started_text(found.after), False)]
    return rows + [(name, value, after.get(name, ""), value != after.get(name, "")) for name, value in before]


# --- changes with their intervals -----------------------------------------------------------------------------------


def _forest(found: Comparison) -> Figure | None:
    if not found.changes:
        return None
    relative = [change for change in found.changes if change.relative and change.interval]
    points_of = [change for change in found.changes if not change.relative and change.interval]
    charts = [
        _intervals(changes, title)
        for changes, title in ((points_of, "Changes in points"), (relative, "Changes in percent"))
        if changes
    ]
    table = Table("Every figure of both runs", HEAD, rows_of(found), frozenset({5}))
    return Figure("What changed", summary(found), CAUTION, charts, [table], stacked=True)


def _intervals(changes: Sequence[Change], title: str) -> Chart:
    ends = sorted(max(map(abs, change.interval)) for change in changes if change.interval)
    # A few long intervals may leave the frame, so that the others can be read.
    reach = max(0.001, min(ends[-1], ends[len(ends) * 3 // 4] * 1.5) * 1.08)

    def drawn(size: Size) -> Markup:
        size = Size(size.width, 130, 20, size.narrow)
        across = Linear(-reach, reach, size.left, size.width - size.right)
        bottom = 8 + ROW_PX * len(changes)
        ticks = 4 if size.narrow else 8
        parts = [
            svg.el("line", x1=across(tick), x2=across(tick), y1=8, y2=bottom, class_="grid")
            for tick in across.ticks(ticks)
        ]
        parts.append(svg.el("line", x1=across(0), x2=across(0), y1=2, y2=bottom + 4, class_="phase"))
        for number, change in enumerate(changes):
            parts.append(_interval(change, across, 8 + ROW_PX * (number + 0.5), size))
        parts.append(x_axis(across, lambda value: _signed(value, relative=changes[0].relative), size, bottom, ticks))
        told = "; ".join(f"{each.name} {each.change_text}, {each.interval_text}: {each.outcome}" for each in changes)
        return drawing(
            size, bottom + X_AXIS_PX, title, f"Changes from A to B with 95 % intervals around them. {told}.", parts
        )

    legend = [("hit", "area", "better"), ("error", "area", "worse"), ("edge", "area", "no difference shown")]
    return Chart(drawn(WIDE), drawn(NARROW), legend)


def _interval(change: Change, x: Linear, at: float, size: Size) -> Markup:
    assert change.interval is not None
    low, high, middle = x(change.interval.low), x(change.interval.high), x(change.change)
    # One without an end goes on beyond the frame.
    ends = [end for end in change.interval if abs(end) <= x.high]
    return svg.el(
        "g",
        svg.text(size.left - 8, at + 4, change.name, look="row", anchor="end"),
        svg.el("line", x1=low, x2=high, y1=at, y2=at, class_="range"),
        svg.el("path", d="".join(f"M{svg.px(x(end))} {svg.px(at - 4)}v8" for end in ends), class_="range"),
        *(_beyond(x, at, end) for end in change.interval if end not in ends),
        svg.el("circle", cx=middle, cy=at, r=4.2, class_="solid") if abs(change.change) <= x.high else None,
        class_=f"mark {LOOKS.get(change.outcome, 'edge')}",
    )


def _beyond(x: Linear, at: float, end: float) -> Markup:
    """An arrow where an interval leaves the frame."""
    step = 7 if end > 0 else -7
    return svg.el("path", d=f"M{svg.px(x(end) + step)} {svg.px(at)}l{-step} -5v10Z", class_="solid")


def _signed(value: float, *, relative: bool) -> str:
    size = f"{round(abs(value) * 100, 6):g}"
    sign = "" if size == "0" else "+" if value > 0 else MINUS
    return f"{sign}{size} %" if relative else f"{sign}{size}"


# --- plots over each other ------------------------------------------------------------------------------------------


def _both(found: Comparison) -> tuple[tuple[str, Run, str, str], ...]:
    """Name, run, look and style of each side: A is dashed, so that they differ without colours, too."""
    return ("A", found.before, "miss", "dash"), ("B", found.after, "revalidated", "")


LEGEND = [("miss", "line dash", "A"), ("revalidated", "line", "B")]


def _overlaid(
    found: Comparison,
    bins: Bins,
    title: str,
    take: Callable[[Run], list[float | None]],
    panel: Callable[[list[Line], list[list[float | None]]], Panel],
    text: Callable[[float], str],
) -> Chart:
    values = [take(run) for _, run, _, _ in _both(found)]
    lines = [
        Line(points(bins, each), look, style, name)
        for each, (name, _, look, style) in zip(values, _both(found), strict=True)
    ]
    columns = [
        bins.column(
            number,
            " · ".join(
                f"{name} {'–' if (value := each[number]) is None else text(value)}"
                for name, each in zip("AB", values, strict=True)
            ),
        )
        for number in range(bins.count)
    ]
    # The phases and events are those of B; the same plan gives both the same.
    said = f"Both runs over each other, {bins.words}: A dashed, B drawn through."
    return timeline(found.after, [panel(lines, values)], title, said, columns=columns, legend=LEGEND)


def _hit_ratio(found: Comparison) -> Figure | None:
    bins = bins_of(found.after, at_least=100)

    def taken(run: Run) -> list[float | None]:
        ratios = [Ratio() for _ in range(bins.count)]
        for second in run.seconds:
            for status, per_edge in second.requests.items():
                ratios[bins.of(second.at_s)].add(status, sum(per_edge.values()))
        return [ratio.value for ratio in ratios]

    def panel(lines: list[Line], values: list[list[float | None]]) -> Panel:
        lowest = min((value for each in values for value in each if value is not None), default=0.0)
        low = max(0.0, min(0.9, int(lowest * 10) / 10))
        return Panel(lambda bottom, top: Linear(low, 1, bottom, top), percent_text, lines, height=150)

    if not any(value is not None for run in (found.before, found.after) for value in taken(run)):
        return None
    chart = _overlaid(found, bins, "Hit ratio of both", taken, panel, percent_tenth)
    return Figure("Hit ratio over time", _said(found, "hit ratio"), "", [chart], _table(found, ("hit ratio",)))


def percent_tenth(share: float) -> str:
    return f"{share * 100:.1f} %"


def _latency(found: Comparison) -> Figure | None:
    bins = bins_of(found.after, at_least=500)
    charts = []
    for status in (Status.HIT, Status.MISS):
        for name, share in (("p50", 0.5), ("p99", 0.99)):
            if any(change.name == f"{status.upper()} {name}" for change in found.changes):
                charts.append(_latency_chart(found, bins, status, name, share))
    if not charts:
        return None
    return Figure(
        "Latency over time",
        _said(found, "HIT p99"),
        "From intended times." if found.after.open_loop else "From sending times: a closed loop has no intended ones.",
        charts,
        _table(found, tuple(status.upper() for status in Status)),
    )


def _latency_chart(found: Comparison, bins: Bins, status: Status, name: str, share: float) -> Chart:
    def taken(run: Run) -> list[float | None]:
        parts = [Histogram() for _ in range(bins.count)]
        for second in run.seconds:
            if (histogram := second.latency.get(status)) is not None:
                parts[bins.of(second.at_s)].merge(histogram)
        return [part.percentile_us(share) if part.count else None for part in parts]

    def panel(lines: list[Line], values: list[list[float | None]]) -> Panel:
        low, high = log_ends([value for each in values for value in each if value is not None], 1)
        return Panel(
            lambda bottom, top: Log(low, high, bottom, top),
            micros_text,
            lines,
            height=90,
            title=f"{status.upper()} {name}",
        )

    return _overlaid(found, bins, f"{status.upper()} {name} of both", taken, panel, time_text)


def _percentiles(found: Comparison) -> Figure | None:
    sides = [by_status(run) for _, run, _, _ in _both(found)]
    shared = [
        status
        for status in (Status.HIT, Status.MISS, Status.STALE, Status.PASS)
        if all(status in each for each in sides)
    ]
    if not shared:
        return None
    charts = []
    tables = []
    for status in shared:
        both = [each[status] for each in sides]
        low, high = log_ends([part.percentile_us(share) for part in both for share in (0.0, 1.0)], 1)
        nines = max(1.0, *(_nines(part.count) for part in both))
        lines = [
            Line([(share, part.percentile_us(share)) for share in shares_of(part.count)], look, style, name)
            for part, (name, _, look, style) in zip(both, _both(found), strict=True)
        ]
        charts.append(
            plot(
                Panel(
                    lambda bottom, top, low=low, high=high: Log(low, high, bottom, top),  # type: ignore[misc]
                    micros_text,
                    lines,
                    height=150,
                    title=status.upper(),
                ),
                lambda left, right, nines=nines: Tail(nines, left, right),  # type: ignore[misc]
                lambda share: f"{round(share * 100, 6):g} %",
                f"Percentiles of {status.upper()} of both",
                "Latency on a logarithmic axis over percentiles, A dashed and B drawn through.",
                legend=LEGEND,
            )
        )
        rows = [
            [f"p{round(share * 100, 4):g}", *(time_text(part.percentile_us(share)) for part in both)]
            for share in (0.5, 0.9, 0.95, 0.99, 0.999)
            if share <= 1 - 1 / min(part.count for part in both) or share == 0.5
        ]
        rows.append(["slowest", *(time_text(part.highest_us) for part in both)])
        rows.append(["requests", *(count_text(part.count) for part in both)])
        tables.append(Table(status.upper(), ("", "A", "B"), rows))
    said = f"Whole curves of {plural(len(shared), 'status', 'statuses')} that both runs have."
    return Figure("Percentiles", said, "", charts, tables, paired=True)


def _nines(count: int) -> float:
    return Tail(9, 0, 9)(1 - 1 / count) if count > 1 else 1.0


def _origin(found: Comparison) -> Figure | None:
    bins = bins_of(found.after)

    def taken(run: Run) -> list[float | None]:
        return means(bins, scraped.rates(run, scraped.FETCHES, which=scraped.answered).values())

    def panel(lines: list[Line], values: list[list[float | None]]) -> Panel:
        high = nice_high(highest(*values))
        return Panel(lambda bottom, top: Linear(0, high, bottom, top), plain_text, lines, height=150)

    if not all(any(value is not None for value in taken(run)) for run in (found.before, found.after)):
        return None
    chart = _overlaid(found, bins, "Origin requests of both", taken, panel, lambda value: f"{value:.1f}")
    tables = _table(found, ("origin", "coalesced"))
    return Figure("Origin requests a second", _said(found, "origin requests/s"), "", [chart], tables)


def _said(found: Comparison, name: str) -> str:
    for change in found.changes:
        if change.name == name:
            return f"{name}: {change.change_text}, 95 % interval {change.interval_text}: {change.outcome}."
    return f"{name}: too little to compare."


def _table(found: Comparison, beginnings: tuple[str, ...]) -> list[Table]:
    rows = [row[:4] for row in rows_of(found) if row[0].startswith(beginnings)]
    return [Table("Of both runs", HEAD[:4], rows)] if rows else []
