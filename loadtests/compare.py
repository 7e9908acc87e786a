"""Two runs of the same plan beside each other: what changed, by how much, and whether that can be chance."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from loadtests import scraped
from loadtests.bootstrap import DRAWS, Interval, Tails, Weights, draws_of, interval_of, mean, ratio
from loadtests.measures import counted_changes, in_windows, take, windows
from loadtests.recorder.run import HIT_STATUSES, MISS_STATUSES, PriceChange, Run, Second, Status
from loadtests.report.first_screen import started_text
from loadtests.report.terminal import columns
from loadtests.statistics import exact_percentile
from loadtests.units import MINUS, NO_BREAK, Kind, digits, plural, share_text, text_of

SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
NEVER_MS = 30_000.0
"""What is not live or not seen by then never is: nobody waits longer (`deeds.WAIT_LIVE_S`, `probes.PATIENCE_S`)."""
FEWEST_BEYOND = 10
"""Requests beyond a percentile in each run; with fewer it hangs on single ones, and drawing them again is no help."""


class Better(StrEnum):
    """Which way of changing is good."""

    MORE = "more"
    LESS = "less"
    NEITHER = "neither"


class Outcome(StrEnum):
    """What can be said of a change."""

    BETTER = "better"
    WORSE = "worse"
    SAME = "no difference shown"
    OTHER = "different"
    """Shown to differ, and neither way is the better one."""
    UNKNOWN = "too little to tell"


class Unlike(Exception):
    """The runs cannot be compared. Names every difference."""


@dataclass(frozen=True, slots=True)
class Change:
    """One figure of both runs."""

    name: str
    kind: Kind
    better: Better
    before: float
    after: float
    interval: Interval | None
    """Of the change; of shares in points (0 to 1), of everything else relative to `before`."""

    @property
    def relative(self) -> bool:
        return self.kind is not Kind.SHARE

    @property
    def change(self) -> float:
        """As `interval`; NaN where there was nothing to relate it to."""
        return _change(self.before, self.after, self.kind)

    @property
    def outcome(self) -> Outcome:
        if self.interval is None:
            return Outcome.UNKNOWN
        if not self.interval.excludes_zero:
            return Outcome.SAME
        if self.better is Better.NEITHER:
            return Outcome.OTHER
        rose = self.interval.low > 0
        return Outcome.BETTER if rose == (self.better is Better.MORE) else Outcome.WORSE

    @property
    def change_text(self) -> str:
        return _change_text(self.change, self.kind)

    @property
    def interval_text(self) -> str:
        if self.interval is None:
            return "–"
        return f"{_change_text(self.interval.low, self.kind)} to {_change_text(self.interval.high, self.kind)}"


@dataclass(frozen=True, slots=True)
class Comparison:
    """Everything about two runs."""

    before: Run
    after: Run
    changes: tuple[Change, ...]
    differences: tuple[str, ...]
    """Why the runs should not be compared; they were nevertheless (`--force`)."""
    seed: int

    @property
    def worse(self) -> bool:
        return any(change.outcome is Outcome.WORSE for change in self.changes)


def differences_of(before: Run, after: Run) -> list[str]:
    """Everything that makes one run unlike the other, and each that cannot be believed."""
    pairs: list[tuple[str, object, object]] = [
        ("scenario", before.scenario, after.scenario),
        ("seed", before.seed, after.seed),
        ("request digest", before.request_digest, after.request_digest),
        ("generator", before.generator, after.generator),
        ("loop", "open" if before.open_loop else "closed", "open" if after.open_loop else "closed"),
        ("cpu", before.machine.cpu, after.machine.cpu),
        ("cores", before.machine.cores, after.machine.cores),
        ("memory", before.machine.memory_bytes, after.machine.memory_bytes),
        ("kernel", before.machine.kernel, after.machine.kernel),
    ]
    found = [f"{name}: {one} in A, {other} in B" for name, one, other in pairs if one != other]
    if abs(before.duration_s - after.duration_s) >= 0.5:
        found.append(f"duration: {digits(before.duration_s)} s in A, {digits(after.duration_s)} s in B")
    found += [
        f"{name} is invalid: {fault}" for name, run in (("A", before), ("B", after)) for fault in run.check.faults
    ]
    return found


def compare(before: Run, after: Run, *, force: bool = False, seed: int = 1, draws: int = DRAWS) -> Comparison:
    """The changes from one run to the other. Raises Unlike, unless `force`."""
    differences = differences_of(before, after)
    if differences and not force:
        raise Unlike(
            "the runs are not alike, so a change would say nothing:\n"
            + "\n".join(f"  {difference}" for difference in differences)
            + "\n  run the same scenario and seed on the same machine, or compare them nevertheless with --force"
        )
    changes = [*_of_seconds(before, after, seed, draws), *_of_price_changes(before, after, seed, draws)]
    return Comparison(before, after, tuple(changes), tuple(differences), seed)


# --- paired by second -------------------------------------------------------------------------------------------------


def _paired(before: Run, after: Run) -> tuple[list[Second], list[Second], list[int]]:
    """The seconds that count in both runs, and how many of them each phase has."""
    first, second = ({each.at_s: each for each in run.seconds} for run in (before, after))
    also = windows(after)
    one: list[Second] = []
    other: list[Second] = []
    lengths = []
    for window in windows(before):
        shared = [
            at_s for at_s in sorted(first) if at_s in second and in_windows(at_s, [window]) and in_windows(at_s, also)
        ]
        one += [first[at_s] for at_s in shared]
        other += [second[at_s] for at_s in shared]
        if shared:
            lengths.append(len(shared))
    return one, other, lengths


def _of_seconds(before: Run, after: Run, seed: int, draws: int) -> list[Change]:
    one, other, lengths = _paired(before, after)
    if not lengths:
        return []
    weights = draws_of(lengths, seed, draws=draws)
    whole = [1] * sum(lengths)
    found: list[Change] = []

    def add(name: str, kind: Kind, better: Better, figures: Sequence[Callable[[Weights], float]]) -> None:
        first, second = (figure(whole) for figure in figures)
        if math.isnan(first) or math.isnan(second):
            return
        drawn = [_change(figures[0](weight), figures[1](weight), kind) for weight in weights]
        found.append(Change(name, kind, better, first, second, interval_of(drawn)))

    for name, by_byte in (("hit ratio", False), ("hit ratio by byte", True)):
        add(name, Kind.SHARE, Better.MORE, [_hit_ratio(seconds, by_byte=by_byte) for seconds in (one, other)])
    for status in Status:
        found += _latencies(status, one, other, weights, whole)
    rates = [_per_second(run, scraped.FETCHES, scraped.answered) for run in (before, after)]
    for name, counted, better in (
        ("origin requests", rates, Better.LESS),
        ("coalesced", [_per_second(run, scraped.COALESCED) for run in (before, after)], Better.NEITHER),
    ):
        if all(second.at_s in each for each in counted for second in one):
            values = [[each[second.at_s] for second in one] for each in counted]
            add(f"{name}/s", Kind.RATE, better, [mean(each) for each in values])
    for name, status, better in (("stale", Status.STALE, Better.LESS), ("errors", Status.ERROR, Better.LESS)):
        if any(second.requests.get(status) for second in (*one, *other)):
            add(f"{name}, of requests", Kind.SHARE, better, [_share(seconds, status) for seconds in (one, other)])
    if before.open_loop and after.open_loop:
        sent = [
            ratio([float(second.in_time) for second in seconds], [float(second.intended) for second in seconds])
            for seconds in (one, other)
        ]
        add("achieved", Kind.SHARE, Better.MORE, sent)
    else:
        add("requests/s", Kind.RATE, Better.MORE, [mean([float(each.done) for each in s]) for s in (one, other)])
    return found


def _hit_ratio(seconds: Sequence[Second], *, by_byte: bool) -> Callable[[Weights], float]:
    hits, judged = [], []
    for second in seconds:
        counts = second.body_bytes if by_byte else second.requests
        total = {status: sum(per_edge.values()) for status, per_edge in counts.items()}
        hits.append(float(sum(total.get(status, 0) for status in HIT_STATUSES)))
        judged.append(hits[-1] + sum(total.get(status, 0) for status in MISS_STATUSES))
    return ratio(hits, judged)


def _share(seconds: Sequence[Second], status: Status) -> Callable[[Weights], float]:
    return ratio(
        [float(sum(second.requests.get(status, {}).values())) for second in seconds],
        [float(sum(sum(per_edge.values()) for per_edge in second.requests.values())) for second in seconds],
    )


def _latencies(
    status: Status, one: Sequence[Second], other: Sequence[Second], draws: Sequence[Weights], whole: Weights
) -> list[Change]:
    parts = [[second.latency.get(status) for second in seconds] for seconds in (one, other)]
    fewest = min(sum(each.count for each in part if each is not None) for part in parts)
    names = [name for name, share in SHARES.items() if fewest * (1 - share) >= FEWEST_BEYOND]
    if not names:
        return []
    first, second = (Tails(part) for part in parts)
    shares = [SHARES[name] for name in names]
    before, after = first.percentiles_us(shares, whole), second.percentiles_us(shares, whole)
    drawn = [(first.percentiles_us(shares, weights), second.percentiles_us(shares, weights)) for weights in draws]
    found = []
    for number, name in enumerate(names):
        interval = interval_of([_change(its[number], others[number], Kind.TIME) for its, others in drawn])
        figure = f"{status.upper()} {name}"
        found.append(Change(figure, Kind.TIME, Better.LESS, before[number], after[number], interval))
    return found


def _per_second(run: Run, name: str, which: scraped.Which = scraped.every) -> dict[int, float]:
    totals: dict[int, float] = {}
    for seconds in scraped.rates(run, name, which=which).values():
        for at_s, value in seconds.items():
            totals[at_s] = totals.get(at_s, 0.0) + value
    return totals


# --- paired by change of a price --------------------------------------------------------------------------------------


def _of_price_changes(before: Run, after: Run, seed: int, draws: int) -> list[Change]:
    """The same plan changes the same prices: the second change of a price in A is its second one in B.

    What never became live, or was never seen, counts as NEVER_MS: left out, a shop would look better for it.
    """
    first, second = _numbered(before), _numbered(after)
    pairs = [(change, second[key]) for key, change in first.items() if key in second]
    found = []
    lives = [(_ms(a.live_ms), _ms(b.live_ms)) for a, b in pairs]
    fresh = [
        (_ms(one), _ms(b.fresh_ms[edge]))
        for a, b in pairs
        for edge, one in sorted(a.fresh_ms.items())
        if edge in b.fresh_ms
    ]
    for name, times in (("price live", lives), ("purge to fresh", fresh)):
        if len(times) < 10:
            continue
        dice = random.Random(f"{seed}/{name}")
        for part, share in (("p50", 0.5), ("p95", 0.95)):
            changes = [_of_pairs(dice.choices(times, k=len(times)), share) for _ in range(draws)]
            one, other = (exact_percentile([pair[side] for pair in times], share) * 1e3 for side in (0, 1))
            found.append(Change(f"{name} {part}", Kind.TIME, Better.LESS, one, other, interval_of(changes)))
    return found


def _numbered(run: Run) -> dict[tuple[str, str, int], PriceChange]:
    """The changes that count, by market, SKU and how many of this price there were before."""
    found: dict[tuple[str, str, int], PriceChange] = {}
    times: Counter[tuple[str, str]] = Counter()
    for change in counted_changes(run):
        price = change.market, change.sku
        found[*price, times[price]] = change
        times[price] += 1
    return found


def _ms(measured: float | None) -> float:
    return NEVER_MS if measured is None else measured


def _of_pairs(pairs: Sequence[tuple[float, float]], share: float) -> float:
    one, other = (exact_percentile([pair[side] for pair in pairs], share) for side in (0, 1))
    return _change(one, other, Kind.TIME)


def _change(before: float, after: float, kind: Kind) -> float:
    if kind is Kind.SHARE:
        return after - before
    if before:
        return after / before - 1
    return 0.0 if after == 0 else math.nan


# --- telling --------------------------------------------------------------------------------------------------------


def _change_text(change: float, kind: Kind) -> str:
    if math.isnan(change):
        return "–"
    sign = "+" if change > 0 else MINUS if change < 0 else "±"
    if kind is Kind.SHARE:
        return f"{sign}{abs(change) * 100:.2f}{NO_BREAK}points"
    return f"{sign}{abs(change) * 100:.1f}{NO_BREAK}%"


def summary(found: Comparison) -> str:
    """What to know, in a sentence or two."""
    worse = [change.name for change in found.changes if change.outcome is Outcome.WORSE]
    better = [change.name for change in found.changes if change.outcome is Outcome.BETTER]
    if not found.changes:
        return "The runs have no figure in common."
    if not worse and not better:
        return f"No difference is shown in any of {plural(len(found.changes), 'figure')}."
    return (
        f"Of {plural(len(found.changes), 'figure')}, {len(better)} better, {len(worse)} worse, "
        f"{len(found.changes) - len(better) - len(worse)} not shown to be either."
    )


CAUTION = (
    "Intervals: 95 %, from blocks of 5 seconds drawn again, paired by second (prices: by change). They tell what "
    "varies within these two runs, not what varies from one run to the next; of 20 figures that are the same, one "
    "will look different by chance. Repeat both before you believe a small change."
)


def rows_of(found: Comparison) -> list[list[str]]:
    """Figure, A, B, change, interval, outcome."""
    return [
        [
            change.name,
            _value(change.before, change.kind),
            _value(change.after, change.kind),
            change.change_text,
            change.interval_text,
            change.outcome.value,
        ]
        for change in found.changes
    ]


def _value(value: float, kind: Kind) -> str:
    return share_text(value) if kind is Kind.SHARE else text_of(value, kind)


HEAD = ("figure", "A", "B", "change", "95 % interval", "")


def as_text(found: Comparison) -> str:
    """For a terminal."""
    lines = [f"{found.before.scenario}: {summary(found)}"]
    lines += [f"NOT ALIKE: {difference}" for difference in found.differences]
    lines += ["", *columns([list(HEAD), *rows_of(found)], words={5}), "", CAUTION]
    for name, run in (("A", found.before), ("B", found.after)):
        old = take(run, "old_prices")
        lines.append(
            f"{name}: {started_text(run)}, revision {run.versions.get('revision', 'not recorded')}, policies "
            f"{', '.join(sorted(set(run.policy_digests.values()))) or 'not recorded'}"
            + ("" if old is None else f", old prices after live {old:.0f}")
        )
    return "\n".join(lines)


def as_json_text(found: Comparison) -> str:
    """For programs: times in microseconds, shares from 0 to 1, changes as `Change.interval` says."""
    figures = [
        {
            "name": change.name,
            "kind": change.kind,
            "better": change.better,
            "before": change.before,
            "after": change.after,
            "change": None if math.isnan(change.change) else change.change,
            "relative": change.relative,
            "interval": change.interval,
            "outcome": change.outcome,
        }
        for change in found.changes
    ]
    return json.dumps({"differences": found.differences, "worse": found.worse, "figures": figures}, indent=2)
