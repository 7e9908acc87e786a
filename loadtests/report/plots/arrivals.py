"""What was meant to be sent against what was: whether the generator kept up with its own plan."""

from __future__ import annotations

from loadtests.measures import counted_seconds, take
from loadtests.recorder.run import Run
from loadtests.report.charts import Area, Line, Mark, Panel, timeline
from loadtests.report.figure import NOTHING, Figure, Table, below, bins_of, highest, means, points, unmeasured
from loadtests.report.scales import Linear, nice_high, plain_text
from loadtests.units import count_text, digits, plural, share_text

TITLE = "Intended against achieved rate"
DEFINITION = (
    "Intended: requests that the plan put into a second. Sent: those that left in it, whenever they were meant to. "
    "Answered: answers that were complete in it. Achieved: of those that were meant for a phase, the share that was "
    "sent before the end of the run. Where the lines part for long, the run did not do what it says, and is invalid."
)


def figure(run: Run) -> Figure:
    if not run.seconds:
        return unmeasured(TITLE, "No second of this run was recorded.")
    bins = bins_of(run)
    intended = means(bins, [{second.at_s: float(second.intended) for second in run.seconds}])
    sent = means(bins, [{second.at_s: float(second.sent) for second in run.seconds}])
    done = means(bins, [{second.at_s: float(second.done) for second in run.seconds}])
    high = nice_high(highest(intended, sent, done))
    short = [
        None if full is None or low is None else (bins.middle(number), min(low, full), full)
        for number, (full, low) in enumerate(zip(intended, sent, strict=True))
    ]
    lines: list[Mark] = [
        Area(below(bins, sent), "sent", "faint"),
        Line(points(bins, done), "done", "thin", "answered"),
        Line(points(bins, sent), "sent", "", "sent"),
    ]
    legend = [("sent", "line", "sent"), ("done", "line thin", "answered")]
    if run.open_loop:
        lines.insert(1, Area(short, "short"))
        lines.append(Line(points(bins, intended), "ink", "dash", "intended"))
        legend = [("ink", "line dash", "intended"), *legend, ("short", "area", "not sent when it was meant to be")]
    chart = timeline(
        run,
        [Panel(lambda bottom, top: Linear(0, high, bottom, top), plain_text, lines, height=170, y_ticks=5)],
        TITLE,
        f"Requests a second, means of {bins.words}, from 0 to {plain_text(high)}. {_finding(run)}",
        columns=[
            bins.column(
                number,
                " · ".join(
                    f"{name} {NOTHING if values[number] is None else digits(values[number] or 0)}"
                    for name, values in (("intended", intended), ("sent", sent), ("answered", done))
                    if run.open_loop or name != "intended"
                ),
            )
            for number in range(bins.count)
        ],
        legend=legend,
    )
    return Figure(TITLE, _finding(run), DEFINITION, [chart], [_table(run)], _full(run))


def _finding(run: Run) -> str:
    if not run.open_loop:
        return (
            f"{run.generator} is a closed loop: it sends when an answer has come, so there is no intended rate to "
            "keep, and a slow server is asked less."
        )
    share = take(run, "achieved")
    if share is None:
        return "Nothing was meant to be sent."
    intended = sum(second.intended for second in counted_seconds(run))
    said = f"{share_text(share)} of {plural(intended, 'intended request')} were sent before the end"
    return said + (", and the run is valid." if run.check.valid else "; the run is invalid.")


def _table(run: Run) -> Table:
    rows = []
    for phase in run.phases:
        seconds = counted_seconds(run, phase.name)
        length = max(phase.to_s - phase.from_s, 1e-9)
        intended, sent = sum(second.intended for second in seconds), sum(second.sent for second in seconds)
        achieved = take(run, "achieved", phase=phase.name)
        rows.append(
            [
                phase.name if phase.counts else f"{phase.name} (not counted)",
                digits(intended / length) if run.open_loop else NOTHING,
                digits(sent / length),
                NOTHING if achieved is None else share_text(achieved),
            ]
        )
    return Table("Requests a second", ("phase", "intended", "sent", "achieved"), rows)


def _full(run: Run) -> Table:
    rows = [
        [
            str(second.at_s),
            count_text(second.intended) if run.open_loop else NOTHING,
            count_text(second.sent),
            count_text(second.done),
        ]
        for second in run.seconds
    ]
    return Table("Requests of each second", ("second", "intended", "sent", "answered"), rows)
