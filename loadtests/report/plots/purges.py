"""From a price's commit to its being live everywhere, and to the first viewer at each edge who sees it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from loadtests.measures import counted_changes, fresh_times_ms
from loadtests.recorder.run import PriceChange, Run
from loadtests.report.charts import Chart, Dots, Line, Panel, Rule, plot, timeline
from loadtests.report.figure import NOTHING, Figure, Table, unmeasured
from loadtests.report.scales import Linear, Log, log_ends, micros_text, percent_text
from loadtests.statistics import exact_percentile
from loadtests.units import count_text, plural, time_text

TITLE = "Purge to fresh"
DEFINITION = (
    "From when the commit of a new price was asked for: to the report that it is live at every edge (live), and to the "
    "first answer of an edge that shows it to a probe (fresh). The upright lines are CloudFront's published 95th "
    "percentiles: an invalidation takes effect within 5 s, and is reported complete within 25 s."
)
CLOUDFRONT_EFFECT_MS, CLOUDFRONT_STATUS_MS = 5_000.0, 25_000.0
LIVE = "live"


def figure(run: Run) -> Figure:
    changes = counted_changes(run)
    if not changes:
        return unmeasured(TITLE, "No price was changed while it counted, so no purge was on its way.")
    times = {LIVE: [math.inf if change.live_ms is None else change.live_ms for change in changes]}
    times |= {
        edge: fresh_times_ms(changes, edge) for edge in sorted({edge for each in changes for edge in each.fresh_ms})
    }
    times = {name: values for name, values in times.items() if not all(map(math.isinf, values))}
    if not times:
        return unmeasured(
            TITLE, f"{plural(len(changes), 'price')} changed, and none became live: there is no time to show."
        )
    every = [value for values in times.values() for value in values if not math.isinf(value)]
    low, high = log_ends([*every, CLOUDFRONT_STATUS_MS], 0.1)
    looks = _looks(times)
    references = [
        Rule(CLOUDFRONT_EFFECT_MS, "CloudFront p95: 5 s effect", upright=True, down=92, short="5 s"),
        Rule(CLOUDFRONT_STATUS_MS, "CloudFront p95: 25 s status", upright=True, down=116, short="25 s"),
    ]
    curves = [Line(_curve(values, high), looks[name], "dash" if name == LIVE else "") for name, values in times.items()]
    legend = [
        (
            looks[name],
            "line dash" if name == LIVE else "line",
            "live everywhere" if name == LIVE else f"fresh at {name}",
        )
        for name in times
    ]
    described = "; ".join(f"{name}: p50 {_at(values, 0.5)}, p95 {_at(values, 0.95)}" for name, values in times.items())
    distribution = plot(
        Panel(
            lambda bottom, top: Linear(0, 1, bottom, top),
            percent_text,
            [*references, *curves],
            height=190,
            title="share of changes that were there by then",
        ),
        lambda left, right: Log(low, high, left, right),
        lambda ms: micros_text(ms * 1e3),
        TITLE,
        f"Distributions, time on a logarithmic axis, beside CloudFront's 5 s and 25 s. {described}.",
        legend=legend,
    )
    return Figure(
        TITLE,
        _finding(times, changes),
        DEFINITION,
        [distribution, _over_time(run, changes, looks, low, high)],
        [_table(times)],
        _full(changes, [name for name in times if name != LIVE]),
    )


def _looks(times: dict[str, list[float]]) -> dict[str, str]:
    edges = [name for name in times if name != LIVE]
    return {LIVE: "ink"} | {edge: f"e{number % 6 + 1}" for number, edge in enumerate(edges)}


def _curve(values: Sequence[float], high: float) -> list[tuple[float, float | None]]:
    """The share of all that were there by each moment, as steps; some that never were leave a line below the top."""
    steps: list[tuple[float, float | None]] = []
    there = sorted(value for value in values if not math.isinf(value))
    for number, value in enumerate(there):
        steps += [(value, number / len(values)), (value, (number + 1) / len(values))]
    return steps if len(there) == len(values) else [*steps, (high, len(there) / len(values))]


def _over_time(run: Run, changes: list[PriceChange], looks: dict[str, str], low: float, high: float) -> Chart:
    marks = [
        Dots([(change.at_s, ms) for change in changes if (ms := change.fresh_ms.get(edge)) is not None], look, "small")
        for edge, look in looks.items()
        if edge != LIVE
    ]
    lives = Dots(
        [(change.at_s, change.live_ms) for change in changes if change.live_ms is not None], "ink", "small hollow"
    )
    return timeline(
        run,
        [
            Panel(
                lambda bottom, top: Log(low, high, bottom, top),
                lambda ms: micros_text(ms * 1e3),
                [
                    Rule(CLOUDFRONT_EFFECT_MS, "CloudFront p95: 5 s effect"),
                    Rule(CLOUDFRONT_STATUS_MS, "25 s status"),
                    lives,
                    *marks,
                ],
                height=150,
                title="each change, when it was made",
                y_ticks=6,
            )
        ],
        f"{TITLE} over time",
        f"A dot for each of {plural(len(changes), 'change')} at each edge, over the time of the run; hollow: live.",
    )


def _at(values: Sequence[float], share: float) -> str:
    took = exact_percentile(values, share)
    return "never" if math.isinf(took) else time_text(took * 1e3)


def _finding(times: dict[str, list[float]], changes: Sequence[PriceChange]) -> str:
    fresh = [value for name, values in times.items() if name != LIVE for value in values]
    said = []
    if fresh:
        said.append(f"A new price was seen at p95 after {_at(fresh, 0.95)}")
    if LIVE in times:
        said.append(f"{'it' if fresh else 'a new price'} was live everywhere at p95 after {_at(times[LIVE], 0.95)}")
    text = "; ".join(said)
    text = f"{text[:1].upper()}{text[1:]}."
    never = sum(change.live_ms is None for change in changes)
    if never:
        text += f" {count_text(never)} of {plural(len(changes), 'change')} never became live."
    unseen = sum(ms is None for change in changes for ms in change.fresh_ms.values())
    if unseen:
        text += f" {plural(unseen, 'probe')} never saw the new price."
    unfollowed = sum(not change.fresh_ms for change in changes)
    if fresh and unfollowed:
        text += f" {count_text(unfollowed)} of {plural(len(changes), 'change')} had no probe: fresh is of the others."
    return text


def _table(times: dict[str, list[float]]) -> Table:
    rows = [
        [
            "live" if name == LIVE else f"fresh at {name}",
            str(len(values)),
            *(_at(values, share) for share in (0.5, 0.95, 0.99, 1.0)),
        ]
        for name, values in times.items()
    ]
    return Table("From the commit of a price", ("until", "changes", "p50", "p95", "p99", "slowest"), rows)


def _seen(change: PriceChange, edge: str) -> str:
    if edge not in change.fresh_ms:
        return NOTHING
    ms = change.fresh_ms[edge]
    return "never" if ms is None else time_text(ms * 1e3)


def _full(changes: list[PriceChange], edges: list[str]) -> Table:
    rows = [
        [
            f"{change.at_s:.2f}",
            f"{change.market}/{change.sku}",
            time_text(change.committed_ms * 1e3),
            "never" if change.live_ms is None else time_text(change.live_ms * 1e3),
            *(_seen(change, edge) for edge in edges),
        ]
        for change in changes
    ]
    head = ("at second", "price", "committed", "live", *(f"fresh at {edge}" for edge in edges))
    return Table(f"Each of {plural(len(changes), 'change')}", head, rows, frozenset({1}))
