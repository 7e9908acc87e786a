"""How much of what viewers ask reaches the origin."""

from __future__ import annotations

from loadtests import scraped
from loadtests.measures import take
from loadtests.recorder.run import Run
from loadtests.report.charts import Area, Column, Line, Panel, timeline
from loadtests.report.figure import NOTHING, Bins, Figure, Table, below, bins_of, highest, means, points, unmeasured
from loadtests.report.scales import Linear, nice_high, plain_text
from loadtests.units import count_text, digits, rate_text, share_text

TITLE = "Viewers against origin"
DEFINITION = (
    "Viewers: answers that were complete, by the generator. Origin: requests of the edges that it answered (misses, "
    "validations, refreshes in the background, what is passed), by the edges' own counters. Coalesced: requests that "
    "waited for another's fetch instead of making one. Offload = 1 - origin / viewers."
)
NAMES = ("viewers", "origin", "no answer", "coalesced")


def figure(run: Run) -> Figure:
    edges = sorted(scraped.rates(run, scraped.FETCHES))
    if not edges:
        return unmeasured(
            TITLE,
            f"The edges' counters were not scraped in this run ({scraped.FETCHES}), so nothing is known of the origin.",
        )
    coalesced = scraped.rates(run, scraped.COALESCED)
    bins = bins_of(run)
    viewers = means(bins, [{second.at_s: float(second.done) for second in run.seconds}])
    origin = means(bins, scraped.rates(run, scraped.FETCHES, which=scraped.answered).values())
    failed = means(bins, scraped.rates(run, scraped.FETCHES, which=scraped.unanswered).values())
    waited = means(bins, coalesced.values())
    high = nice_high(highest(viewers, origin, failed, waited))
    panel = Panel(
        lambda bottom, top: Linear(0, high, bottom, top),
        plain_text,
        [
            Area(below(bins, viewers), "viewers", "faint"),
            Area(below(bins, origin), "origin", "faint"),
            Line(points(bins, viewers), "viewers", "", "viewers"),
            Line(points(bins, waited), "coalesced", "dash", "coalesced"),
            Line(points(bins, failed), "error", "thin", "no answer" if highest(failed) else ""),
            Line(points(bins, origin), "origin", "", "origin"),
        ],
        height=190,
        y_ticks=5,
    )
    chart = timeline(
        run,
        [panel],
        TITLE,
        f"Requests a second, means of {bins.words}, from 0 to {plain_text(high)}. {_finding(run)}",
        columns=[_column(bins, number, viewers, origin, failed, waited) for number in range(bins.count)],
        legend=[
            ("viewers", "area", "viewers"),
            ("origin", "area", "origin"),
            ("coalesced", "line dash", "coalesced"),
            *([("error", "line thin", "asked of the origin, no answer")] if highest(failed) else []),
        ],
    )
    rows = [
        [str(number * bins.width_s), *(_text(each[number]) for each in (viewers, origin, failed, waited))]
        for number in range(bins.count)
    ]
    full = Table(f"Requests a second, means of {bins.words}", ("from second", *NAMES), rows)
    return Figure(TITLE, _finding(run), DEFINITION, [chart], [_table(run, edges)], full)


def _text(value: float | None) -> str:
    return NOTHING if value is None else digits(value)


def _column(bins: Bins, number: int, *values: list[float | None]) -> Column:
    told = [f"{name} {_text(each[number])}" for name, each in zip(NAMES, values, strict=True)]
    return bins.column(number, " · ".join(told))


def _offload(run: Run, **labels: str) -> float | None:
    viewers, origin = take(run, "rps", **labels), take(run, "origin_rps", **labels)
    return None if not viewers or origin is None else 1 - origin / viewers


def _finding(run: Run) -> str:
    offload, origin, viewers = _offload(run), take(run, "origin_rps"), take(run, "rps")
    if offload is None or origin is None or viewers is None:
        return "The edges' counters cover none of the phases that count."
    if offload < 0:
        return f"The edges fetched more than viewers asked for: {rate_text(origin)} for {rate_text(viewers)}."
    return (
        f"{share_text(offload)} of requests stayed at the edges: {digits(viewers)} a second came in, {digits(origin)} "
        "reached the origin."
    )


def _table(run: Run, edges: list[str]) -> Table:
    rows = []
    for edge in [*edges, ""] if len(edges) > 1 else edges:
        labels = {"edge": edge} if edge else {}
        offload, waited = _offload(run, **labels), take(run, "coalesced", **labels)
        rows.append(
            [
                edge or "all edges",
                _text(take(run, "rps", **labels)),
                _text(take(run, "origin_rps", **labels)),
                NOTHING if offload is None else share_text(offload),
                NOTHING if waited is None else count_text(waited),
            ]
        )
    head = ("edge", "viewers, a second", "origin, a second", "offload", "coalesced")
    return Table("Requests of the phases that count", head, rows)
