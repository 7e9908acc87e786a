"""Hit ratio over time, by request and by byte, at each edge."""

from __future__ import annotations

from loadtests.measures import Ratio, counted_seconds, ratio_of
from loadtests.recorder.run import MISS_STATUSES, Run, Status
from loadtests.report.charts import Area, Column, Line, Panel, timeline
from loadtests.report.figure import NOTHING, Bins, Figure, Table, bins_of, unmeasured
from loadtests.report.scales import Linear, percent_text
from loadtests.units import count_text, plural, share_text

TITLE = "Hit ratio over time"
DEFINITION = (
    "Hit ratio = hits / (hits + misses). Hits: answered from the store, fresh (HIT) or stale (STALE); misses: MISS and "
    "REVALIDATED. What is never stored (pass), the edge's own answers and errors stand apart. By byte: the same, of "
    "bytes of bodies."
)
ALL = "all edges"


def figure(run: Run) -> Figure:
    cells = run.counted()
    whole, whole_bytes = ratio_of(cells), ratio_of(cells, by_byte=True)
    if whole.value is None:
        return unmeasured(TITLE, "No request of this run could have hit a cache: there were no hits and no misses.")
    edges = sorted({cell.label.edge for cell in run.cells})
    bins = bins_of(run, at_least=60)
    by_request, by_byte = _over_time(run, bins, edges, by_byte=False), _over_time(run, bins, edges, by_byte=True)
    stale = _stale_over_time(run, bins, [ALL, *edges])
    low = _low(run, bins, by_request, by_byte)
    panels = [
        Panel(
            lambda bottom, top: Linear(low, 1.0, bottom, top),
            percent_text,
            [
                Area(_stale(by_request[edge], stale[edge], bins), "stale"),
                Line(_points(by_byte[edge], bins), "bytes", "dash"),
                Line(_points(by_request[edge], bins), "requests"),
            ],
            height=84 if edge == ALL else 60,
            title=edge,
            y_ticks=3,
        )
        for edge in ([ALL, *edges] if len(edges) > 1 else edges)
    ]
    described = ", ".join(_said(edge, ratio_of(cell for cell in cells if cell.label.edge == edge)) for edge in edges)
    chart = timeline(
        run,
        panels,
        TITLE,
        f"Hit ratio of {bins.words}, a panel for each edge, from {percent_text(low)} to 100 %. "
        f"Over the whole run by request: {described}.",
        columns=_columns(bins, by_request, edges),
        legend=[
            ("requests", "line", "by request: hits / (hits + misses), pass apart"),
            ("stale", "area", "of it stale"),
            ("bytes", "line dash", "by byte"),
        ],
    )
    return Figure(
        TITLE,
        _finding(run, whole, whole_bytes, bins, by_request, edges),
        f"{DEFINITION} A point for {bins.words}.",
        [chart],
        [_table(run, edges), _by_route(run)],
        _full(bins, by_request, by_byte, [ALL, *edges]),
    )


def _over_time(run: Run, bins: Bins, edges: list[str], *, by_byte: bool) -> dict[str, list[Ratio]]:
    found = {edge: [Ratio() for _ in range(bins.count)] for edge in (ALL, *edges)}
    for second in run.seconds:
        number = bins.of(second.at_s)
        for status, per_edge in (second.body_bytes if by_byte else second.requests).items():
            for edge, times in per_edge.items():
                found[ALL][number].add(status, times)
                found.setdefault(edge, [Ratio() for _ in range(bins.count)])[number].add(status, times)
    return found


def _points(ratios: list[Ratio], bins: Bins) -> list[tuple[float, float | None]]:
    return [(bins.middle(number), ratio.value) for number, ratio in enumerate(ratios)]


def _stale_over_time(run: Run, bins: Bins, edges: list[str]) -> dict[str, list[int]]:
    found = {edge: [0] * bins.count for edge in edges}
    for second in run.seconds:
        for edge, times in second.requests.get(Status.STALE, {}).items():
            for name in (edge, ALL):
                found[name][bins.of(second.at_s)] += times
    return found


def _stale(ratios: list[Ratio], stale: list[int], bins: Bins) -> list[tuple[float, float, float] | None]:
    """From the ratio without stale hits up to the ratio."""
    return [
        None if ratio.value is None else (bins.middle(number), ratio.value - times / ratio.judged, ratio.value)
        for number, (ratio, times) in enumerate(zip(ratios, stale, strict=True))
    ]


def _low(run: Run, bins: Bins, *series: dict[str, list[Ratio]]) -> float:
    """The lower end of the axis: a tenth below what was reached while it counted. Warm-up may leave the frame."""
    counting = {bins.of(second.at_s) for second in counted_seconds(run)}
    values = [
        ratio.value
        for each in series
        for ratios in each.values()
        for number, ratio in enumerate(ratios)
        if number in counting and ratio.value is not None
    ]
    return max(0.0, min(0.9, int(min(values, default=0.0) * 10) / 10))


def _columns(bins: Bins, ratios: dict[str, list[Ratio]], edges: list[str]) -> list[Column]:
    found = []
    for number in range(bins.count):
        told = [_said(edge, ratios[edge][number]) for edge in ((ALL, *edges) if len(edges) > 1 else edges)]
        found.append(bins.column(number, " · ".join(told)))
    return found


def _said(name: str, ratio: Ratio) -> str:
    return f"{name} {NOTHING if ratio.value is None else share_text(ratio.value)}"


def _finding(
    run: Run, whole: Ratio, whole_bytes: Ratio, bins: Bins, ratios: dict[str, list[Ratio]], edges: list[str]
) -> str:
    assert whole.value is not None
    said = f"{share_text(whole.value)} of requests were hits"
    if whole_bytes.value is not None:
        said += f", {share_text(whole_bytes.value)} of bytes"
    counting = {bins.of(second.at_s) for second in counted_seconds(run)}
    lowest = min(
        (
            (ratio.value, number, edge)
            for edge in edges
            for number, ratio in enumerate(ratios[edge])
            if number in counting and ratio.value is not None and ratio.judged >= 10
        ),
        default=None,
    )
    return said + (f"; lowest {share_text(lowest[0])} at {lowest[2]}, {bins.said(lowest[1])}." if lowest else ".")


def _table(run: Run, edges: list[str]) -> Table:
    rows = []
    for edge in [*edges, ALL] if len(edges) > 1 else edges:
        cells = [cell for cell in run.counted() if edge in {cell.label.edge, ALL}]
        by_status = {status: sum(cell.requests for cell in cells if cell.label.status is status) for status in Status}
        misses = sum(by_status[status] for status in MISS_STATUSES)
        rows.append(
            [
                edge,
                *(_share(ratio_of(cells, by_byte=by_byte)) for by_byte in (False, True)),
                *(count_text(by_status[status]) for status in (Status.HIT, Status.STALE)),
                count_text(misses),
                count_text(by_status[Status.PASS]),
            ]
        )
    head = ("edge", "by request", "by byte", "hits", "stale", "misses", "pass")
    return Table("Hit ratio of the phases that count", head, rows)


def _by_route(run: Run) -> Table:
    rows = []
    cells = run.counted()
    for route in sorted({cell.label.route for cell in cells}):
        its = [cell for cell in cells if cell.label.route == route]
        rows.append(
            [
                route,
                *(_share(ratio_of(its, by_byte=by_byte)) for by_byte in (False, True)),
                count_text(sum(cell.requests for cell in its)),
            ]
        )
    return Table("By kind of page", ("page", "by request", "by byte", "requests"), rows)


def _share(ratio: Ratio) -> str:
    return NOTHING if ratio.value is None else share_text(ratio.value)


def _full(bins: Bins, by_request: dict[str, list[Ratio]], by_byte: dict[str, list[Ratio]], edges: list[str]) -> Table:
    rows = [
        [
            str(number * bins.width_s),
            *(_share(by_request[edge][number]) for edge in edges),
            _share(by_byte[ALL][number]),
            count_text(by_request[ALL][number].judged),
        ]
        for number in range(bins.count)
    ]
    head = ("from second", *edges, f"{ALL}, by byte", "hits and misses")
    return Table(f"Hit ratio of {bins.words}, {plural(bins.count, 'row')}", head, rows)
