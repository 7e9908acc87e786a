"""Errors and stale answers, second by second, with the faults that were injected."""

from __future__ import annotations

from loadtests.recorder.run import Run, Status
from loadtests.report.charts import Bars, Panel, fault_windows, timeline
from loadtests.report.figure import Bins, Figure, Table, bins_of, highest, means, unmeasured
from loadtests.report.scales import Linear, nice_high, plain_text
from loadtests.units import count_text, digits, plural, share_text

TITLE = "Errors and stale answers"
DEFINITION = (
    "Stale: answered from the store although no longer fresh, while the origin is asked in the background or cannot be "
    "reached. Errors: no answer, or a 5xx. Shaded: from a fault to its end. Warm-up is shown, and not counted."
)
PARTS = (Status.STALE, Status.ERROR)


def figure(run: Run) -> Figure:
    totals = {
        status: sum(times for second in run.seconds for times in second.requests.get(status, {}).values())
        for status in PARTS
    }
    faults = fault_windows(run)
    if not any(totals.values()) and not faults:
        return unmeasured(
            TITLE,
            "No fault was injected, nothing was answered stale, and every request had an answer that was no error.",
        )
    bins = bins_of(run)
    values = {status: means(bins, [_per_second(run, status)]) for status in PARTS}
    panels = []
    for status in PARTS:
        high = nice_high(highest(values[status]), 2)
        panels.append(
            Panel(
                lambda bottom, top, high=high: Linear(0, high, bottom, top),  # type: ignore[misc]
                plain_text,
                [Bars(_bars(bins, values[status]), status)],
                height=80,
                title=f"{'errors' if status is Status.ERROR else 'stale answers'} a second",
                y_ticks=3,
            )
        )
    chart = timeline(
        run,
        panels,
        TITLE,
        f"Stale answers and errors a second, means of {bins.words}. {_finding(run, totals)}",
        columns=[
            bins.column(
                number, " · ".join(f"{status} {digits(values[status][number] or 0)} a second" for status in PARTS)
            )
            for number in range(bins.count)
        ],
    )
    tables = [_table(run), *([_codes(run)] if totals[Status.ERROR] else [])]
    return Figure(TITLE, _finding(run, totals), DEFINITION, [chart], tables, _full(run, bins, values))


def _per_second(run: Run, status: Status) -> dict[int, float]:
    return {second.at_s: float(sum(second.requests.get(status, {}).values())) for second in run.seconds}


def _bars(bins: Bins, values: list[float | None]) -> list[tuple[float, float, float, float]]:
    return [
        (number * bins.width_s, (number + 1) * bins.width_s, 0.0, value) for number, value in enumerate(values) if value
    ]


def _finding(run: Run, totals: dict[Status, int]) -> str:
    said = f"{plural(totals[Status.ERROR], 'error')} and {plural(totals[Status.STALE], 'stale answer')}"
    faults = fault_windows(run)
    if not faults:
        return f"{said}; no fault was injected."
    requests, errors = _during(run, faults)
    if not requests:
        return f"{said}; no request fell into the time of the fault."
    answered = share_text(1 - errors / requests)
    return f"{said}; while the fault lasted, {answered} of {plural(requests, 'request')} were answered."


def _during(run: Run, faults: list[tuple[float, float, str]]) -> tuple[int, int]:
    requests = errors = 0
    for second in run.seconds:
        if any(from_s <= second.at_s < to_s for from_s, to_s, _ in faults):
            requests += sum(sum(per_edge.values()) for per_edge in second.requests.values())
            errors += sum(second.requests.get(Status.ERROR, {}).values())
    return requests, errors


def _table(run: Run) -> Table:
    edges = sorted({cell.label.edge for cell in run.cells})
    rows = []
    for edge in edges:
        cells = [cell for cell in run.counted() if cell.label.edge == edge]
        total = sum(cell.requests for cell in cells)
        some = {status: sum(cell.requests for cell in cells if cell.label.status is status) for status in PARTS}
        rows.append(
            [
                edge,
                count_text(total),
                count_text(some[Status.STALE]),
                count_text(some[Status.ERROR]),
                share_text(some[Status.ERROR] / total) if total else "–",
            ]
        )
    return Table("Of the phases that count", ("edge", "requests", "stale", "errors", "of all"), rows)


def _codes(run: Run) -> Table:
    codes: dict[str, int] = {}
    for cell in run.counted():
        if cell.label.status is Status.ERROR:
            for code, times in cell.codes.items():
                codes[code] = codes.get(code, 0) + times
    return Table(
        "Errors by what was answered",
        ("answer", "requests"),
        [[code, count_text(codes[code])] for code in sorted(codes)],
    )


def _full(run: Run, bins: Bins, values: dict[Status, list[float | None]]) -> Table:
    rows = [
        [str(number * bins.width_s), *(digits(values[status][number] or 0) for status in PARTS)]
        for number in range(bins.count)
        if any(values[status][number] for status in PARTS)
    ]
    return Table(f"Means of {bins.words} with any", ("from second", "stale a second", "errors a second"), rows)
