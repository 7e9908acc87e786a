"""What the stores held against what they may hold, and what was put out."""

from __future__ import annotations

from loadtests import scraped
from loadtests.measures import windows
from loadtests.recorder.run import Run
from loadtests.report.charts import Bars, Line, Panel, Rule, timeline
from loadtests.report.figure import NOTHING, Bins, Figure, Table, bins_of, highest, means, unmeasured
from loadtests.report.scales import Linear, nice_high, percent_text, plain_text
from loadtests.units import bytes_text, count_text, digits, plural, share_text, time_text

TITLE = "Memory and evictions"
DEFINITION = (
    "Stored bytes of all workers of an edge over what they may store; evictions as the edges count them, by why "
    "(room: still of use, and gone for others). Age: how long what went for room had been stored, on average."
)
NEAR = 0.25
"""The share of its budget from which on a store's axis reaches up to the budget."""


def figure(run: Run) -> Figure:
    used, budgets = scraped.levels(run, scraped.STORE_BYTES), scraped.levels(run, scraped.STORE_MAX_BYTES)
    shares = {
        edge: [(at_s, value / budgets[edge][-1][1]) for at_s, value in points]
        for edge, points in used.items()
        if points and budgets.get(edge) and budgets[edge][-1][1] > 0
    }
    if not shares:
        return unmeasured(
            TITLE,
            f"The edges' stores were not scraped in this run ({scraped.STORE_BYTES}, {scraped.STORE_MAX_BYTES}), so "
            "nothing is known of their memory.",
        )
    bins = bins_of(run)
    evicted = scraped.rates(run, scraped.EVICTIONS)
    looks = {edge: f"e{number % 6 + 1}" for number, edge in enumerate(sorted({*shares, *evicted}))}
    fullest = max(value for points in shares.values() for _, value in points)
    # With room above the budget for the word; stores that are far from it would be lines on the ground.
    high = max(1.16, 1.05 * fullest) if fullest > NEAR else nice_high(fullest * 1.05)
    panels = [
        Panel(
            lambda bottom, top: Linear(0, high, bottom, top),
            percent_text,
            [
                *(Line(list(points), looks[edge], "", edge) for edge, points in sorted(shares.items())),
                *([Rule(1.0, "budget")] if fullest > NEAR else []),
            ],
            height=130,
            title="stored, of the budget" + ("" if fullest > NEAR else ", which is far above this frame"),
        )
    ]
    gone = means(bins, evicted.values())
    most = highest(gone)
    if most > 0:
        panels.append(
            Panel(
                lambda bottom, top: Linear(0, nice_high(most), bottom, top),
                plain_text,
                [Bars(_bars(bins, gone), "miss")],
                height=56,
                title="evictions a second, all edges",
                y_ticks=2,
            )
        )
    told = ", ".join(f"{edge} at most {share_text(max(each for _, each in points))}" for edge, points in shares.items())
    chart = timeline(run, panels, TITLE, f"Share of the budget over time: {told}. {_evictions(run)}")
    return Figure(
        TITLE,
        f"{_highest(shares, budgets)} {_evictions(run)}",
        DEFINITION,
        [chart],
        [_table(run, used, budgets)],
        _full(bins, shares, gone),
    )


def _bars(bins: Bins, values: list[float | None]) -> list[tuple[float, float, float, float]]:
    return [
        (number * bins.width_s, (number + 1) * bins.width_s, 0.0, value) for number, value in enumerate(values) if value
    ]


def _highest(shares: dict[str, list[tuple[float, float]]], budgets: dict[str, list[tuple[float, float]]]) -> str:
    edge, share = max(
        ((edge, max(value for _, value in points)) for edge, points in shares.items()), key=lambda e: e[1]
    )
    budget = bytes_text(budgets[edge][-1][1])
    if share > 1:
        return f"{edge} held more than it may: {share_text(share)} of {budget}."
    return f"No store was fuller than {share_text(share)} of its budget ({edge}, of {budget})."


def _counted(run: Run, **labels: str) -> float | None:
    return scraped.increase(run, scraped.EVICTIONS, windows(run), labels)


def _evictions(run: Run) -> str:
    total = _counted(run)
    if total is None:
        return "Evictions were not scraped."
    if round(total) == 0:
        return "Nothing was evicted."
    reasons = sorted({series.labels.get("why", "") for series in scraped.select(run, scraped.EVICTIONS)} - {""})
    counted = {why: round(_counted(run, why=why) or 0) for why in reasons}
    said = ", ".join(f"{why} {count_text(number)}" for why, number in counted.items() if number)
    return f"{plural(round(total), 'eviction')}{f' ({said})' if any(counted.values()) else ''}."


def _table(
    run: Run, used: dict[str, list[tuple[float, float]]], budgets: dict[str, list[tuple[float, float]]]
) -> Table:
    rows = []
    for edge, points in sorted(used.items()):
        budget = budgets[edge][-1][1] if budgets.get(edge) else None
        top = max((value for _, value in points), default=0.0)
        gone = _counted(run, edge=edge)
        rows.append(
            [
                edge,
                bytes_text(top),
                NOTHING if budget is None else bytes_text(budget),
                NOTHING if not budget else share_text(top / budget),
                NOTHING if gone is None else count_text(round(gone)),
                _age(run, edge),
            ]
        )
    return Table("Stores", ("edge", "stored at most", "budget", "share", "evictions", "age"), rows)


def _age(run: Run, edge: str) -> str:
    total = scraped.increase(run, f"{scraped.EVICTED_AGE}_sum", windows(run), {"edge": edge})
    count = scraped.increase(run, f"{scraped.EVICTED_AGE}_count", windows(run), {"edge": edge})
    return time_text(total / count * 1e6) if total is not None and count else NOTHING


def _full(bins: Bins, shares: dict[str, list[tuple[float, float]]], gone: list[float | None]) -> Table:
    per_edge = {edge: {int(at_s): value for at_s, value in points} for edge, points in shares.items()}
    rows = []
    for number in range(bins.count):
        at_s = number * bins.width_s
        values = [per_edge[edge].get(at_s) for edge in sorted(shares)]
        each = gone[number]
        rows.append(
            [
                str(at_s),
                *(NOTHING if value is None else share_text(value) for value in values),
                NOTHING if each is None else digits(each),
            ]
        )
    return Table("Share of the budget", ("at second", *sorted(shares), "evictions a second"), rows)
