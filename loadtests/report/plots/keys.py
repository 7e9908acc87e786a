"""Key fragmentation: how many objects an edge stores for a URL, and which URLs keep missing."""

from __future__ import annotations

from markupsafe import Markup

from loadtests import scraped
from loadtests.recorder.run import Address, Run
from loadtests.report import svg
from loadtests.report.charts import LETTER_PX, NARROW, WIDE, Chart, Size, drawing
from loadtests.report.figure import NOTHING, Figure, Table, unmeasured
from loadtests.report.scales import Linear
from loadtests.units import count_text, digits, in_words, plural, share_text

TITLE = "Key fragmentation"
DEFINITION = (
    "Objects: what a worker of the edge stored when the run ended, on average; workers tell each other what they "
    "stored, so each holds one object of a URL. URLs: different addresses that the edge was asked for in the run. More "
    "objects than URLs: from before the run, or a key holds something that does not change the answer. Misses: MISS "
    "and REVALIDATED."
)
BARS = 12
ROW_PX = 31


def figure(run: Run) -> Figure:
    stored = _stored(run, last=True)
    missed = _often_missed(run)
    if not missed and not (stored and run.asked_urls):
        return unmeasured(TITLE, _lacking(run, stored))
    tables = []
    if stored:
        tables.append(_objects(run, stored))
    if missed:
        rows = [
            [
                _cut(address.target, 28),
                address.edge,
                count_text(address.misses),
                share_text(1 - address.misses / address.requests),
            ]
            for address in missed[:BARS]
        ]
        tables.append(Table("URLs with the most misses", ("URL", "edge", "misses", "hit ratio"), rows, frozenset({1})))
    return Figure(TITLE, _finding(run, stored), DEFINITION, [_bars(run)] if missed else [], tables, _full(run))


def _stored(run: Run, *, last: bool) -> dict[str, float]:
    """Edge -> objects in the store of one of its workers, when the run ended, or when it began."""
    workers = scraped.levels(run, scraped.WORKERS)
    place = -1 if last else 0
    return {
        edge: points[place][1] / max(1.0, max((value for _, value in workers.get(edge, ())), default=1.0))
        for edge, points in scraped.levels(run, scraped.STORE_OBJECTS).items()
        if points
    }


def _often_missed(run: Run) -> list[Address]:
    """Those with more misses than the first, which every URL has."""
    return [address for address in run.addresses if address.misses > 1]


def _lacking(run: Run, stored: dict[str, float]) -> str:
    if run.addresses and not stored:
        return (
            "No URL missed twice at an edge, and the edges' stores were not scraped: there is nothing to show of keys."
        )
    return "Neither the misses of single URLs nor the objects in the edges' stores were recorded in this run."


def _per_url(run: Run, edge: str, objects: float) -> float | None:
    asked = run.asked_urls.get(edge)
    return objects / asked if asked else None


def _finding(run: Run, stored: dict[str, float]) -> str:
    ratios = {edge: ratio for edge, objects in stored.items() if (ratio := _per_url(run, edge, objects)) is not None}
    said = []
    if ratios:
        told = [f"{digits(ratio)} at {edge}" for edge, ratio in ratios.items()]
        said.append(f"Objects for each URL that was asked for: {in_words(told)}.")
    if run.addresses and run.addresses[0].misses:
        worst = run.addresses[0]
        times = "once" if worst.misses == 1 else f"{count_text(worst.misses)} times"
        said.append(f"No URL missed more often than {times}, of {plural(worst.requests, 'request')}.")
    return " ".join(said)


def _objects(run: Run, stored: dict[str, float]) -> Table:
    before = _stored(run, last=False)
    rows = []
    for edge, objects in sorted(stored.items()):
        ratio = _per_url(run, edge, objects)
        asked = run.asked_urls.get(edge)
        rows.append(
            [
                edge,
                count_text(round(objects)),
                count_text(round(before.get(edge, 0.0))),
                NOTHING if asked is None else count_text(asked),
                NOTHING if ratio is None else digits(ratio),
            ]
        )
    return Table("Objects for each URL", ("edge", "objects", "before the run", "URLs", "objects / URL"), rows)


def _bars(run: Run) -> Chart:
    shown = _often_missed(run)[:BARS]
    most = max(address.requests for address in shown)

    def drawn(size: Size) -> Markup:
        left, right = 4, size.width - 62
        across = Linear(0, most, left, right)
        parts = []
        letters = int((size.width - 8) / LETTER_PX)
        for number, address in enumerate(shown):
            top = number * ROW_PX
            name = _cut(f"{address.target} at {address.edge}", letters)
            parts.append(svg.text(left, top + 12, name, look="row"))
            width = max(1.0, across(address.requests) - left)
            parts.append(svg.el("rect", x=left, y=top + 17, width=width, height=9, class_="bar hit faint"))
            width = max(1.0, across(address.misses) - left)
            parts.append(svg.el("rect", x=left, y=top + 17, width=width, height=9, class_="bar miss"))
            end = across(address.requests) + 6
            parts.append(svg.text(end, top + 25, f"{address.misses} / {address.requests}", look="note"))
        said = "; ".join(f"{each.target} at {each.edge}: {each.misses} of {each.requests}" for each in shown[:5])
        return drawing(
            size, len(shown) * ROW_PX + 4, TITLE, f"Misses among the requests of single URLs. {said}.", parts
        )

    return Chart(drawn(WIDE), drawn(NARROW), [("miss", "area", "misses"), ("hit", "area faint", "requests")])


def _cut(words: str, letters: int) -> str:
    """The beginning and the end, where the whole is too long: URLs differ at both."""
    if len(words) <= letters:
        return words
    behind = letters // 3
    return f"{words[: letters - behind - 1]}…{words[-behind:]}"


def _full(run: Run) -> Table | None:
    if not run.addresses:
        return None
    rows = [
        [address.target, address.edge, count_text(address.requests), count_text(address.misses)]
        for address in run.addresses
    ]
    return Table(
        f"The {len(rows)} URLs with the most misses", ("URL", "edge", "requests", "misses"), rows, frozenset({1})
    )
