"""How long after a price's change answers still showed the old one: a distribution, and none of it after live."""

from __future__ import annotations

import math

from loadtests.recorder.histogram import Histogram, middle_of
from loadtests.recorder.run import Run
from loadtests.report.charts import Bars, Chart, Panel, Rule, plot
from loadtests.report.figure import Figure, Table, unmeasured
from loadtests.report.scales import Linear, Log, log_ends, micros_text, nice_high, plain_text
from loadtests.units import count_text, plural, time_text

TITLE = "Price staleness"
DEFINITION = (
    "From the commit of a change to each answer that still showed what it replaced. Until a change is reported live, "
    "that is allowed; afterwards no answer may show the old price as current. Pages that say that their prices are "
    "being confirmed are counted apart."
)
STEPS_A_DOUBLING = 2


def figure(run: Run) -> Figure:
    prices = run.prices
    if not prices.answers_checked:
        return unmeasured(TITLE, "The oracle checked no answer in this run: it changed no price, so none could be old.")
    charts = []
    if prices.staleness.count:
        charts.append(_chart(prices.staleness))
    return Figure(TITLE, _finding(run), DEFINITION, charts or (), [_table(run)], _violations(run))


def _finding(run: Run) -> str:
    prices = run.prices
    if prices.old_after_live or prices.wrong:
        said = [plural(prices.old_after_live, "answer") + " showed an old price after the new one was live"]
        if prices.wrong:
            said.append(plural(prices.wrong, "answer") + " showed a price that was never set")
        return f"The promise was broken: {'; '.join(said)}."
    if not prices.answers_telling:
        return "No old price was shown after live, and no answer could have shown one: nothing is proved."
    said_so = f"No old price was shown after live, in {plural(prices.answers_telling, 'answer')} that could have"
    if not prices.staleness.count:
        return f"{said_so}; none showed an old one before, either."
    return f"{said_so}; the last old one came {time_text(prices.staleness.highest_us)} after its change was committed."


def _chart(found: Histogram) -> Chart:
    grouped: dict[int, int] = {}
    for bucket, times in found.buckets.items():
        step = math.floor(math.log2(max(middle_of(bucket), 1.0)) * STEPS_A_DOUBLING)
        grouped[step] = grouped.get(step, 0) + times
    bars = [
        (2 ** (step / STEPS_A_DOUBLING), 2 ** ((step + 1) / STEPS_A_DOUBLING), 0.0, float(times))
        for step, times in sorted(grouped.items())
    ]
    low, high = log_ends([bars[0][0], bars[-1][1]], 1)
    top = nice_high(max(bar[3] for bar in bars))
    told = ", ".join(f"p{share:g} {time_text(found.percentile_us(share / 100))}" for share in (50, 95, 99))
    return plot(
        Panel(
            lambda bottom, upper: Linear(0, top, bottom, upper),
            plain_text,
            [
                Bars(bars, "stale"),
                *(
                    Rule(found.percentile_us(share), name, upright=True)
                    for share, name in ((0.5, "p50"), (0.99, "p99"))
                ),
            ],
            height=150,
            title="answers with the old price",
        ),
        lambda left, right: Log(low, high, left, right),
        micros_text,
        TITLE,
        f"{plural(found.count, 'answer')} with an old price by how long after its change, on a logarithmic axis: "
        f"{told}, last {time_text(found.highest_us)}.",
    )


def _table(run: Run) -> Table:
    prices = run.prices
    times = [
        (f"p{share:g} of staleness", time_text(prices.staleness.percentile_us(share / 100)))
        for share in (50, 95, 99)
        if prices.staleness.count
    ]
    rows = [
        ("answers checked", count_text(prices.answers_checked)),
        ("that could have been wrong", count_text(prices.answers_telling)),
        ("old price after live", count_text(prices.old_after_live)),
        ("price never set", count_text(prices.wrong)),
        ("prices being confirmed", count_text(prices.marked)),
        ("old price before live", count_text(prices.staleness.count - prices.old_after_live)),
        *times,
    ]
    if prices.staleness.count:
        rows.append(("last old price", time_text(prices.staleness.highest_us)))
    return Table("What the oracle found", ("", ""), rows)


def _violations(run: Run) -> Table | None:
    if not run.prices.violations:
        return None
    rows = [[str(number), said] for number, said in enumerate(run.prices.violations, 1)]
    return Table("Every broken promise", ("", "what was shown"), rows, frozenset({1}))
