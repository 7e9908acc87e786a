"""Every figure that a run can be asked for, by its name and labels: what thresholds, reports and trends read.

A figure is about the phases that count unless a phase is named. Nothing measured is no figure, and says why.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from cache_policies.reading import did_you_mean
from loadtests import scraped
from loadtests.recorder.check import achieved
from loadtests.recorder.histogram import Histogram
from loadtests.recorder.run import HIT_STATUSES, MISS_STATUSES, Cell, PriceChange, Purge, Run, Second, Status
from loadtests.statistics import exact_percentile
from loadtests.units import Kind, in_words, plural

LABELS = ("phase", "status", "route", "edge", "market")
"""What requests can be chosen by, as in `recorder.run.Label`."""
_OF_ANY_STATUS = tuple(label for label in LABELS if label != "status")
WHERE = ("edge", "phase")

Labels = Mapping[str, str]


class NotMeasured(Exception):
    """There is no such figure in this run. Says why."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One figure."""

    value: float
    """In the kept unit of its kind (`units.Kind`)."""
    of: str
    """What it was taken from: `of 1 204 requests`; empty for a count."""


@dataclass(frozen=True, slots=True)
class Measure:
    """A figure that a run can be asked for."""

    kind: Kind
    labels: tuple[str, ...]
    """Those that can choose what it is about."""
    take: Callable[[Run, Labels], Measured]
    """Raises NotMeasured."""
    meaning: str


# --- what is counted --------------------------------------------------------------------------------------------


def windows(run: Run, phase: str = "") -> list[tuple[float, float]]:
    """From when to when the phases that count went on, or the one that is named. Seconds of the run."""
    return [(part.from_s, part.to_s) for part in run.phases if (part.name == phase if phase else part.counts)]


def in_windows(at_s: float, where: Sequence[tuple[float, float]]) -> bool:
    return any(from_s <= at_s < to_s for from_s, to_s in where)


def counted_seconds(run: Run, phase: str = "") -> list[Second]:
    where = windows(run, phase)
    return [second for second in run.seconds if in_windows(second.at_s, where)]


def cells_of(run: Run, labels: Labels) -> list[Cell]:
    """The cells with these labels. Raises NotMeasured when no request had them, naming the nearest that there were."""
    cells = run.cells if "phase" in labels else run.counted()
    for name, value in labels.items():
        known = sorted({str(getattr(cell.label, name)) for cell in cells if cell.requests})
        cells = [cell for cell in cells if cell.requests and str(getattr(cell.label, name)) == value]
        if not cells:
            raise NotMeasured(
                f"no request with {name}={value}; there were {in_words(known)}{did_you_mean(value, known)}"
                if known
                else "no request was counted"
            )
    if not any(cell.requests for cell in cells):
        raise NotMeasured("no request was counted")
    return cells


def corrected(cells: Iterable[Cell]) -> Histogram:
    return Histogram.merged(cell.corrected for cell in cells)


def uncorrected(cells: Iterable[Cell]) -> Histogram:
    return Histogram.merged(cell.uncorrected for cell in cells)


@dataclass(slots=True)
class Ratio:
    """Hits and misses, and their ratio: hits / (hits + misses). Pass, edge and error stand apart."""

    hits: float = 0
    misses: float = 0

    def add(self, status: str, times: float) -> None:
        if status in HIT_STATUSES:
            self.hits += times
        elif status in MISS_STATUSES:
            self.misses += times

    @property
    def judged(self) -> float:
        return self.hits + self.misses

    @property
    def value(self) -> float | None:
        """None: nothing that could have hit was asked for."""
        return self.hits / self.judged if self.judged else None


def ratio_of(cells: Iterable[Cell], *, by_byte: bool = False) -> Ratio:
    found = Ratio()
    for cell in cells:
        found.add(cell.label.status, cell.body_bytes if by_byte else cell.requests)
    return found


def counted_changes(run: Run, phase: str = "") -> list[PriceChange]:
    """The changes of prices that were begun in the phases that count, or in the one that is named.

    One that was begun after the end, because those before it took so long, belongs to the last phase: left out, a shop
    would look the better the slower it is.
    """
    where = _windows_of_deeds(run, phase)
    return [change for change in run.changes if in_windows(change.at_s, where)]


def counted_purges(run: Run, phase: str = "") -> list[Purge]:
    """The purges that were ordered in the phases that count, or in the one that is named; late ones as changes."""
    where = _windows_of_deeds(run, phase)
    return [purge for purge in run.purges if in_windows(purge.at_s, where)]


def _windows_of_deeds(run: Run, phase: str) -> list[tuple[float, float]]:
    end = max((part.to_s for part in run.phases), default=0.0)
    return [(from_s, math.inf if to_s == end else to_s) for from_s, to_s in windows(run, phase)]


def fresh_times_ms(changes: Iterable[PriceChange], edge: str = "") -> list[float]:
    """From the request to commit to the first new price that a probe saw; of all edges, or of one.

    Infinity where a probe looked for it and never saw it: that took longer than everything that was measured.
    """
    return [
        math.inf if ms is None else ms for change in changes for its, ms in change.fresh_ms.items() if edge in {"", its}
    ]


# --- each figure ------------------------------------------------------------------------------------------------

Stat = Callable[[Histogram], float]


def _latency(stat: Stat, *, as_intended: bool) -> Callable[[Run, Labels], Measured]:
    def take(run: Run, labels: Labels) -> Measured:
        cells = cells_of(run, labels)
        found = corrected(cells) if as_intended else uncorrected(cells)
        if not found.count:
            raise NotMeasured(
                "nothing was counted from intended times: the generator has none; write uncorrected_..."
                if as_intended and not run.open_loop
                else "no duration was counted"
            )
        return Measured(stat(found), f"of {plural(found.count, 'request')}")

    return take


def _changes(run: Run, labels: Labels) -> list[PriceChange]:
    changes = counted_changes(run, labels.get("phase", ""))
    if "market" in labels:
        changes = [change for change in changes if change.market == labels["market"]]
    if not changes:
        raise NotMeasured("no price was changed" if not run.changes else "no price was changed there and then")
    return changes


def _purges(run: Run, labels: Labels) -> list[Purge]:
    purges = counted_purges(run, labels.get("phase", ""))
    if not purges:
        raise NotMeasured("nothing was purged" if not run.purges else "nothing was purged there and then")
    return purges


def _live(
    stat: Callable[[Sequence[float]], float],
    of: Callable[[Run, Labels], Sequence[PriceChange | Purge]],
    one: str,
) -> Callable[[Run, Labels], Measured]:
    def take(run: Run, labels: Labels) -> Measured:
        ordered = of(run, labels)
        # One that never became live was longer than everything that was measured.
        found = stat([math.inf if each.live_ms is None else each.live_ms for each in ordered])
        never = sum(each.live_ms is None for each in ordered)
        if math.isinf(found):
            raise NotMeasured(f"{never} of {plural(len(ordered), one)} never became live")
        return Measured(found * 1e3, f"of {plural(len(ordered), one)}" + (f", {never} never live" if never else ""))

    return take


def _fresh(stat: Callable[[Sequence[float]], float]) -> Callable[[Run, Labels], Measured]:
    def take(run: Run, labels: Labels) -> Measured:
        found = fresh_times_ms(_changes(run, labels), labels.get("edge", ""))
        if not found:
            raise NotMeasured("no probe looked for a new price there")
        never = sum(map(math.isinf, found))
        took = stat(found)
        if math.isinf(took):
            raise NotMeasured(f"{never} of {plural(len(found), 'probe')} never saw the new price")
        return Measured(took * 1e3, f"of {plural(len(found), 'probe')}" + (f", {never} never saw it" if never else ""))

    return take


def _staleness(stat: Stat) -> Callable[[Run, Labels], Measured]:
    def take(run: Run, labels: Labels) -> Measured:
        if not run.prices.answers_telling:
            raise NotMeasured("no answer could have shown an old price")
        found = run.prices.staleness
        return Measured(stat(found), f"of {plural(found.count, 'answer')} with what a change replaced")

    return take


def _hit_ratio(*, by_byte: bool) -> Callable[[Run, Labels], Measured]:
    def take(run: Run, labels: Labels) -> Measured:
        found = ratio_of(cells_of(run, labels), by_byte=by_byte)
        if found.value is None:
            raise NotMeasured("no hit and no miss")
        return Measured(found.value, "of " + plural(int(found.judged), "byte" if by_byte else "request"))

    return take


def _share_of(*statuses: Status) -> Callable[[Run, Labels], Measured]:
    def take(run: Run, labels: Labels) -> Measured:
        cells = cells_of(run, labels)
        total = sum(cell.requests for cell in cells)
        some = sum(cell.requests for cell in cells if cell.label.status in statuses)
        return Measured(some / total, f"{plural(some, 'request')} of {plural(total, 'request')}")

    return take


def _requests(run: Run, labels: Labels) -> Measured:
    """None of a status is a figure: 0. None of a route, an edge or a market is a misspelled one, or a broken run."""
    cells = cells_of(run, {name: value for name, value in labels.items() if name != "status"})
    wanted = labels.get("status")
    return Measured(sum(cell.requests for cell in cells if wanted in {None, str(cell.label.status)}), "")


def _errors(run: Run, labels: Labels) -> Measured:
    return _requests(run, {**labels, "status": Status.ERROR})


def _mean_bytes(run: Run, labels: Labels) -> Measured:
    cells = cells_of(run, labels)
    requests = sum(cell.requests for cell in cells)
    return Measured(sum(cell.body_bytes for cell in cells) / requests, f"of {plural(requests, 'request')}")


def _length_s(run: Run, labels: Labels) -> tuple[list[tuple[float, float]], float]:
    where = windows(run, labels.get("phase", ""))
    length = sum(to_s - from_s for from_s, to_s in where)
    if length <= 0:
        known = [phase.name for phase in run.phases]
        name = labels.get("phase", "")
        raise NotMeasured(
            f"no phase {name}; there were {in_words(known)}{did_you_mean(name, known)}" if name else "no phase counts"
        )
    return where, length


def _edge(labels: Labels) -> dict[str, str]:
    return {"edge": labels["edge"]} if "edge" in labels else {}


def _scraped(name: str, *, per_second: bool, which: scraped.Which = scraped.every) -> Callable[[Run, Labels], Measured]:
    def take(run: Run, labels: Labels) -> Measured:
        where, length = _length_s(run, labels)
        total = scraped.increase(run, name, where, _edge(labels), which)
        if total is None:
            raise NotMeasured(f"{name} was not scraped" + (f" from {labels['edge']}" if "edge" in labels else ""))
        return Measured(total / length, f"over {length:.0f} s") if per_second else Measured(round(total), "")

    return take


def _rate(run: Run, labels: Labels) -> Measured:
    _, length = _length_s(run, labels)
    requests = sum(cell.requests for cell in cells_of(run, labels))
    return Measured(requests / length, f"over {length:.0f} s")


def _achieved(run: Run, labels: Labels) -> Measured:
    seconds = counted_seconds(run, labels.get("phase", ""))
    intended = sum(second.intended for second in seconds)
    if not intended:
        raise NotMeasured("the generator has no intended times" if not run.open_loop else "no request was intended")
    in_time = sum(second.in_time for second in seconds)
    return Measured(achieved(in_time, intended), f"of {plural(intended, 'request')}")


def _store_bytes(run: Run, labels: Labels) -> Measured:
    highest = {
        edge: max(value for _, value in points)
        for edge, points in scraped.levels(run, scraped.STORE_BYTES, _edge(labels)).items()
        if points
    }
    if not highest:
        raise NotMeasured(f"{scraped.STORE_BYTES} was not scraped")
    edge = max(highest, key=highest.__getitem__)
    return Measured(highest[edge], f"at its highest, at {edge}")


def _store_share(run: Run, labels: Labels) -> Measured:
    used = scraped.levels(run, scraped.STORE_BYTES, _edge(labels))
    budgets = scraped.levels(run, scraped.STORE_MAX_BYTES, _edge(labels))
    found = {
        edge: max(value for _, value in points) / budgets[edge][-1][1]
        for edge, points in used.items()
        if points and budgets.get(edge) and budgets[edge][-1][1]
    }
    if not found:
        raise NotMeasured(f"{scraped.STORE_BYTES} and {scraped.STORE_MAX_BYTES} were not scraped")
    edge = max(found, key=found.__getitem__)
    return Measured(found[edge], f"at its highest, at {edge}")


def _old_prices(run: Run, labels: Labels) -> Measured:
    if not run.prices.answers_telling:
        raise NotMeasured("no answer could have shown one: none showed a price of which a change was live")
    return Measured(
        run.prices.old_after_live, f"in {plural(run.prices.answers_telling, 'answer')} that could have shown one"
    )


def _wrong_prices(run: Run, labels: Labels) -> Measured:
    if not run.prices.answers_checked:
        raise NotMeasured("the oracle checked no answer")
    return Measured(run.prices.wrong, f"in {plural(run.prices.answers_checked, 'answer')} with a price that is watched")


def _figure(name: str) -> Callable[[Run, Labels], Measured]:
    """A figure that the scenario itself took: those with these labels, added up."""

    def take(run: Run, labels: Labels) -> Measured:
        found = []
        for key, value in run.figures.items():
            its_name, pairs = scraped.labels_of(key)
            if its_name == name and all(dict(pairs).get(label) == wanted for label, wanted in labels.items()):
                found.append(value)
        if not found:
            known = sorted(key for key in run.figures if scraped.labels_of(key)[0] == name)
            raise NotMeasured(f"the run has {in_words(known)}" if known else "the scenario took no such figure")
        return Measured(sum(found), "")

    return take


MEASURES: dict[str, Measure] = {
    "hit_ratio": Measure(
        Kind.SHARE,
        _OF_ANY_STATUS,
        _hit_ratio(by_byte=False),
        "hits / (hits + misses), by request; pass, edge and error apart",
    ),
    "byte_hit_ratio": Measure(Kind.SHARE, _OF_ANY_STATUS, _hit_ratio(by_byte=True), "the same by bytes of bodies"),
    "stale_share": Measure(
        Kind.SHARE, _OF_ANY_STATUS, _share_of(Status.STALE), "answers that were served stale, of all"
    ),
    "error_share": Measure(
        Kind.SHARE, _OF_ANY_STATUS, _share_of(Status.ERROR), "requests without an answer or with a 5xx"
    ),
    "errors": Measure(Kind.COUNT, _OF_ANY_STATUS, _errors, "requests without an answer or with a 5xx"),
    "requests": Measure(Kind.COUNT, LABELS, _requests, "requests"),
    "rps": Measure(Kind.RATE, LABELS, _rate, "requests a second"),
    "achieved": Measure(Kind.SHARE, ("phase",), _achieved, "requests sent before the run's end, of those meant to be"),
    "mean_bytes": Measure(Kind.BYTES, LABELS, _mean_bytes, "bytes of a body on the wire, on average"),
    "origin_rps": Measure(
        Kind.RATE,
        WHERE,
        _scraped(scraped.FETCHES, per_second=True, which=scraped.answered),
        "requests of the edges that the origin answered, a second",
    ),
    "origin_requests": Measure(
        Kind.COUNT,
        WHERE,
        _scraped(scraped.FETCHES, per_second=False, which=scraped.answered),
        "requests of the edges that the origin answered",
    ),
    "origin_failures": Measure(
        Kind.COUNT,
        WHERE,
        _scraped(scraped.FETCHES, per_second=False, which=scraped.unanswered),
        "requests of the edges to the origin without a usable answer",
    ),
    "coalesced": Measure(
        Kind.COUNT, WHERE, _scraped(scraped.COALESCED, per_second=False), "requests that waited for another's fetch"
    ),
    "evictions": Measure(
        Kind.COUNT, WHERE, _scraped(scraped.EVICTIONS, per_second=False), "responses that were put out of a store"
    ),
    "store_bytes": Measure(Kind.BYTES, ("edge",), _store_bytes, "what an edge stored, at its highest"),
    "store_share": Measure(Kind.SHARE, ("edge",), _store_share, "the same over its budget"),
    "old_prices": Measure(Kind.COUNT, (), _old_prices, "old prices shown as current after live"),
    "wrong_prices": Measure(Kind.COUNT, (), _wrong_prices, "prices that were never set"),
    "origin_fetches": Measure(
        Kind.COUNT, ("edge",), _figure("origin_fetches"), "fetches of the product on sale, by the origin's own log"
    ),
    **{
        name: Measure(Kind.COUNT, (), _figure(name), meaning)
        for name, meaning in {
            "prices_changed": "changes of prices that the run made",
            "purges": "purges that it ordered",
            "purged_tags": "tags that these named",
            "deeds_late": "deeds begun more than a second after they were due",
            "deeds_failed": "deeds that could not be done",
            "leases_waited_out": "times that a change or a purge had to wait until a silent worker's lease ran out",
        }.items()
    },
}

_PERCENTILE = re.compile(r"p(\d{1,3}(?:\.\d{1,4})?)")

_TIMES: dict[str, tuple[tuple[str, ...], str]] = {
    "": (LABELS, "a request, from when it was meant to be sent"),
    "uncorrected": (LABELS, "a request, from when it was sent"),
    "live": (("phase", "market"), "from a price's commit to the report that it is live everywhere"),
    "purge_live": (("phase",), "from the order of a purge to the report that it is live everywhere"),
    "purge_to_fresh": (("phase", "market", "edge"), "from a price's commit to the first new price that a probe saw"),
    "staleness": ((), "from a price's commit to answers that still showed what it replaced"),
}

EXAMPLES = (
    *MEASURES,
    *(
        f"{family}{'_' if family else ''}{stat}"
        for family in _TIMES
        for stat in ("p50", "p90", "p95", "p99", "p99.9", "mean", "max")
    ),
)
"""Names to hold a misspelled one against; any percentile will do."""


def measure_called(name: str) -> Measure | None:
    """The figure of that name; None: there is none. Percentiles are `p99`, `p99.9`, `live_p95`, ..."""
    if name in MEASURES:
        return MEASURES[name]
    family, _, stat = name.rpartition("_")
    if family not in _TIMES or not stat:
        return None
    of_histogram: Stat
    of_values: Callable[[Sequence[float]], float]
    if stat == "max":
        of_histogram, of_values = (lambda found: float(found.highest_us)), max
    elif stat == "mean":
        of_histogram, of_values = (lambda found: found.mean_us), _mean
    elif (found := _PERCENTILE.fullmatch(stat)) and 0 < float(found[1]) <= 100:
        share = float(found[1]) / 100
        of_histogram = lambda found: found.percentile_us(share)  # noqa: E731
        of_values = lambda values: exact_percentile(values, share)  # noqa: E731
    else:
        return None
    labels, meaning = _TIMES[family]
    take = {
        "": _latency(of_histogram, as_intended=True),
        "uncorrected": _latency(of_histogram, as_intended=False),
        "live": _live(of_values, _changes, "change"),
        "purge_live": _live(of_values, _purges, "purge"),
        "purge_to_fresh": _fresh(of_values),
        "staleness": _staleness(of_histogram),
    }[family]
    return Measure(Kind.TIME, labels, take, f"{stat} of a duration: {meaning}")


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def take(run: Run, name: str, **labels: str) -> float | None:
    """The figure in its kept unit; None: not measured. For whoever knows the name; KeyError for an unknown one."""
    measure = measure_called(name)
    if measure is None:
        raise KeyError(name)
    try:
        return measure.take(run, labels).value
    except NotMeasured:
        return None
