"""Latency by cache status, on a logarithmic axis: never one mixed line."""

from __future__ import annotations

from markupsafe import Markup

from loadtests.measures import corrected, uncorrected
from loadtests.recorder.histogram import Histogram
from loadtests.recorder.run import Run, Status
from loadtests.report import svg
from loadtests.report.charts import NARROW, WIDE, X_AXIS_PX, Chart, Column, Line, Panel, Size, drawing, timeline, x_axis
from loadtests.report.figure import NOTHING, Bins, Figure, Table, bins_of, unmeasured
from loadtests.report.scales import Log, log_ends, micros_text
from loadtests.units import count_text, time_text

TITLE = "Latency by cache status"
PERCENTILES = (0.5, 0.95, 0.99, 0.999)
NAMES = ("p50", "p95", "p99", "p99.9")
ROW_PX = 34


def figure(run: Run) -> Figure:
    found = by_status(run)
    if not found:
        return unmeasured(TITLE, "No request was answered in the phases that count.")
    since = "meant to be sent" if run.open_loop else "sent (the generator is a closed loop and has no intended times)"
    bins = bins_of(run, at_least=300)
    over_time = _over_time(run, bins)
    shown = [status for status in found if status in over_time]
    charts = [_ranges(found), _time_chart(run, bins, over_time, shown)]
    return Figure(
        TITLE,
        _finding(found),
        f"From when a request was {since} to the last byte of its answer. p99 is what 99 of 100 requests did not "
        f"exceed. Over time: p50 and p99 of {bins.words}; where a point stands for fewer than 100 requests, its p99 is "
        "the slowest.",
        charts,
        [_table(found)],
        _full(bins, over_time, shown),
    )


def by_status(run: Run) -> dict[Status, Histogram]:
    """What was counted from intended times, of each status that there was; in a closed loop from when it was sent."""
    take = corrected if run.open_loop else uncorrected
    every = {status: take(cell for cell in run.counted() if cell.label.status is status) for status in Status}
    return {status: found for status, found in every.items() if found.count}


def _finding(found: dict[Status, Histogram]) -> str:
    said = [
        f"{status.upper()} {time_text(found[status].percentile_us(0.5))} at p50 and "
        f"{time_text(found[status].percentile_us(0.99))} at p99"
        for status in (Status.HIT, Status.MISS)
        if status in found
    ]
    return "; ".join(said) + "." if said else f"No hits and no misses; {', '.join(found)} only."


def _ranges(found: dict[Status, Histogram]) -> Chart:
    values = [histogram.percentile_us(share) for histogram in found.values() for share in PERCENTILES]
    low, high = log_ends(values, 1)

    def drawn(size: Size) -> Markup:
        size = Size(size.width, 92, 16, size.narrow)
        across = Log(low, high, size.left, size.width - size.right)
        bottom = 8 + ROW_PX * len(found)
        ticks = 5 if size.narrow else 9
        parts = [
            svg.el("line", x1=across(tick), x2=across(tick), y1=8, y2=bottom, class_="grid")
            for tick in across.ticks(ticks)
        ]
        for number, (status, histogram) in enumerate(found.items()):
            parts.append(_row(status, histogram, across, 8 + ROW_PX * (number + 0.5), size))
        parts.append(svg.el("line", x1=size.left, x2=size.width - size.right, y1=bottom, y2=bottom, class_="axis"))
        parts.append(x_axis(across, micros_text, size, bottom, ticks))
        described = "; ".join(
            f"{status}: "
            + ", ".join(f"{name} {time_text(value)}" for name, value in zip(NAMES, _of(each), strict=True))
            for status, each in found.items()
        )
        return drawing(
            size, bottom + X_AXIS_PX, TITLE, f"A row for each status, time on a logarithmic axis. {described}.", parts
        )

    legend = [
        ("ink", "dot", "p50"),
        ("ink", "stroke", "p95"),
        ("ink", "diamond", "p99"),
        ("ink", "dot hollow", "p99.9, or the slowest of fewer than 1000"),
    ]
    return Chart(drawn(WIDE), drawn(NARROW), legend)


def _of(histogram: Histogram) -> list[float]:
    return [histogram.percentile_us(share) for share in PERCENTILES]


def percentile_texts(found: Histogram) -> list[str]:
    """Those of PERCENTILES that so many requests have: below a thousand there is no p99.9, only a slowest."""
    return [
        time_text(found.percentile_us(share))
        if found.count * (1 - share) >= 0.999 or share == PERCENTILES[0]
        else NOTHING
        for share in PERCENTILES
    ]


def _row(status: Status, histogram: Histogram, x: Log, at: float, size: Size) -> Markup:
    values = _of(histogram)
    p50, p95, p99, p999 = (x(value) for value in values)
    return svg.el(
        "g",
        svg.text(size.left - 10, at + 4, status.upper(), look="row", anchor="end"),
        svg.el("line", x1=p50, x2=p999, y1=at, y2=at, class_="range"),
        svg.el("circle", cx=p999, cy=at, r=4.2, class_="hollow"),
        svg.el("path", d=f"M{svg.px(p99)} {svg.px(at - 5.5)}l5.5 5.5l-5.5 5.5l-5.5 -5.5Z", class_="solid"),
        svg.el("line", x1=p95, x2=p95, y1=at - 6, y2=at + 6, class_="range"),
        svg.el("circle", cx=p50, cy=at, r=4.8, class_="solid"),
        svg.text(p50, at - 9, time_text(values[0]), look="note", anchor="middle"),
        class_=f"mark {status}",
    )


def _over_time(run: Run, bins: Bins) -> dict[Status, list[Histogram]]:
    found: dict[Status, list[Histogram]] = {}
    for second in run.seconds:
        for status, histogram in second.latency.items():
            parts = found.setdefault(Status(status), [Histogram() for _ in range(bins.count)])
            parts[bins.of(second.at_s)].merge(histogram)
    return found


def _time_chart(run: Run, bins: Bins, over_time: dict[Status, list[Histogram]], shown: list[Status]) -> Chart:
    panels = []
    for status in shown:
        parts = over_time[status]
        values = [part.percentile_us(share) for part in parts if part.count for share in (0.5, 0.99)]
        low, high = log_ends(values, 1)
        lines = [
            Line(
                [
                    (bins.middle(number), part.percentile_us(share) if part.count else None)
                    for number, part in enumerate(parts)
                ],
                status,
                style,
                label,
            )
            for share, style, label in ((0.99, "thin", "p99"), (0.5, "", "p50"))
        ]
        panels.append(
            Panel(
                lambda bottom, top, low=low, high=high: Log(low, high, bottom, top),  # type: ignore[misc]
                micros_text,
                lines,
                height=66,
                title=status.upper(),
                y_ticks=4,
            )
        )
    columns = [_column(bins, number, over_time, shown) for number in range(bins.count)]
    said = f"p50 and p99 of {bins.words} on logarithmic axes, a panel for each status: {', '.join(shown)}."
    return timeline(run, panels, f"{TITLE} over time", said, columns=columns)


def _column(bins: Bins, number: int, over_time: dict[Status, list[Histogram]], shown: list[Status]) -> Column:
    told = [
        f"{status.upper()} {time_text(part.percentile_us(0.5))} / {time_text(part.percentile_us(0.99))}"
        for status in shown
        if (part := over_time[status][number]).count
    ]
    return bins.column(number, " · ".join(told[:4]) or "nothing")


def _table(found: dict[Status, Histogram]) -> Table:
    rows = [
        [status.upper(), count_text(histogram.count), *percentile_texts(histogram)]
        for status, histogram in found.items()
    ]
    return Table("Latency of the phases that count", ("status", "requests", *NAMES), rows)


def _full(bins: Bins, over_time: dict[Status, list[Histogram]], shown: list[Status]) -> Table:
    rows = [
        [
            str(number * bins.width_s),
            status.upper(),
            count_text(part.count),
            *percentile_texts(part),
        ]
        for number in range(bins.count)
        for status in shown
        if (part := over_time[status][number]).count
    ]
    return Table(f"Latency of {bins.words}", ("from second", "status", "requests", *NAMES), rows, frozenset({1}))
