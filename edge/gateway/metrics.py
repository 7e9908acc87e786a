"""Figures as Prometheus reads them (docs/metrics.md): what is exported, what becomes of several workers' figures, and
the text, made piece by piece: a scrape of thousands of series keeps no viewer waiting for longer than one piece takes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum
from itertools import accumulate, islice

from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from edge.durations import AGE_BOUNDS_S, BOUNDS_S
from edge.gateway.figures import Counts, Figures, Labels, Spread

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
NUMBERS_AT_ONCE = 50
"""Series of counters and gauges in one piece; a histogram is a piece by itself. A piece takes some 0.2 ms."""


class Kind(StrEnum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Added(Enum):
    """What a site says, whose workers say several things; counters and histograms are always added up."""

    SUM = "sum"
    LEAST = "least"
    MOST = "most"


@dataclass(frozen=True, slots=True)
class Family:
    """One metric. `labels` without `pop`, which comes first where `has_pop`."""

    name: str
    """As in `Counts.counters` and so on: without `_total`."""
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    added: Added = Added.SUM
    bounds_s: tuple[float, ...] = BOUNDS_S
    has_pop: bool = True


REQUESTS = Family(
    "nearshelf_edge_requests", Kind.COUNTER, "Exchanges with viewers, by how they ended.",
    ("route", "status", "reason", "code_class"),
)  # fmt: skip
REQUEST_SECONDS = Family(
    "nearshelf_edge_request_seconds",
    Kind.HISTOGRAM,
    "From when a request had been read to when its answer was handed over.",
    ("route", "status"),
)
RESPONSE_BYTES = Family(
    "nearshelf_edge_response_bytes", Kind.COUNTER, "Bytes of answers to viewers, heads included.", ("route", "status")
)
COALESCED = Family(
    "nearshelf_edge_coalesced", Kind.COUNTER, "Exchanges answered by what another one had asked for.", ("route",)
)
STALE_SERVED = Family("nearshelf_edge_stale_served", Kind.COUNTER, "Stale responses shown, by why.", ("why",))
FETCHES = Family(
    "nearshelf_origin_fetches", Kind.COUNTER, "Requests to the origin, by what came of them.", ("route", "result")
)
FETCH_SECONDS = Family(
    "nearshelf_origin_fetch_seconds",
    Kind.HISTOGRAM,
    "From when the origin was to be asked to the head of its answer.",
    ("route",),
)

SIMPLE = (
    Family("nearshelf_origin_failovers", Kind.COUNTER, "Reads whose first origin gave no usable answer."),
    Family("nearshelf_edge_viewers", Kind.GAUGE, "Connections of viewers."),
    Family("nearshelf_edge_connections", Kind.COUNTER, "Connections of viewers accepted."),
    Family("nearshelf_edge_flights", Kind.GAUGE, "Requests to the origin under way that others may share."),
    Family("nearshelf_cache_bytes", Kind.GAUGE, "What the store holds against its budget."),
    Family("nearshelf_cache_max_bytes", Kind.GAUGE, "The store's budget."),
    Family("nearshelf_cache_objects", Kind.GAUGE, "Stored responses."),
    Family("nearshelf_cache_keys", Kind.GAUGE, "Keys with at least one stored response."),
    Family("nearshelf_cache_evictions", Kind.COUNTER, "Stored responses that went, by why.", ("why",)),
    Family("nearshelf_cache_refused", Kind.COUNTER, "Responses that the store did not take: too large, or too old."),
    Family(
        "nearshelf_cache_evicted_age_seconds",
        Kind.HISTOGRAM,
        "How long responses had been stored that made room for others.",
        bounds_s=AGE_BOUNDS_S,
    ),
    Family("nearshelf_sibling_messages", Kind.COUNTER, "Messages between the edge's workers.", ("event",)),
    Family("nearshelf_purges", Kind.COUNTER, "Entries of the purge log that were applied.", ("mode",)),
    Family("nearshelf_purge_flushes", Kind.COUNTER, "Times that everything counted as purged, for doubts."),
    Family(
        "nearshelf_purge_refreshed", Kind.COUNTER, "Responses fetched anew after a purge before anybody asked."
    ),
    Family(
        "nearshelf_purge_lag_messages", Kind.GAUGE, "Entries known of and not applied yet.", added=Added.MOST
    ),
    Family(
        "nearshelf_purge_ack_seconds", Kind.HISTOGRAM, "From a purge to the word of a worker that it is applied."
    ),
    Family("nearshelf_purge_epoch", Kind.GAUGE, "Epoch of the position applied.", added=Added.LEAST),
    Family("nearshelf_purge_position", Kind.GAUGE, "The position applied, within its epoch.", added=Added.LEAST),
    Family(
        "nearshelf_purge_contact_age_seconds",
        Kind.GAUGE,
        "Since the question was sent whose answer last confirmed that all is applied.",
        added=Added.MOST,
    ),
    Family("nearshelf_purge_floors", Kind.GAUGE, "Tags with a floor of their own.", added=Added.MOST),
    Family("nearshelf_lease_held", Kind.GAUGE, "1 while anything may be shown as fresh.", added=Added.LEAST),
    Family("nearshelf_policy_info", Kind.GAUGE, "1, with the digest of its policies.", ("digest",), Added.MOST),
    Family(
        "nearshelf_policy_refused", Kind.GAUGE, "1 while the policy files are not those in force.", added=Added.MOST
    ),
    Family("nearshelf_edge_log_lines_lost", Kind.COUNTER, "Lines of the access log that could not be written."),
    Family("nearshelf_site_workers", Kind.GAUGE, "Workers of the site, by state.", ("state",)),
    Family("nearshelf_site_restarts", Kind.COUNTER, "Workers that were started again."),
    Family(
        "nearshelf_build_info", Kind.GAUGE, "1, with the version of the program.", ("version",), Added.MOST,
        has_pop=False,
    ),
    Family("process_cpu_seconds", Kind.COUNTER, "User and system CPU time.", has_pop=False),
    Family("process_resident_memory_bytes", Kind.GAUGE, "Resident memory.", has_pop=False),
    Family("process_virtual_memory_bytes", Kind.GAUGE, "Virtual memory.", has_pop=False),
    Family("process_open_fds", Kind.GAUGE, "Open file descriptors.", has_pop=False),
    Family("process_max_fds", Kind.GAUGE, "Most file descriptors.", added=Added.LEAST, has_pop=False),
    Family(
        "process_start_time_seconds", Kind.GAUGE, "Start, since the epoch.", added=Added.LEAST, has_pop=False
    ),
)  # fmt: skip
"""Those whose rows stand in figures under their own names. A family that a process knows nothing of has no rows there,
and is not exported."""

_ADDED = {family.name: family.added for family in SIMPLE}


def add_gauges(own: dict[str, dict[Labels, float]], others: dict[str, dict[Labels, float]]) -> None:
    """What is the case now in `own`, and in another process."""
    for name, rows in others.items():
        known = own.setdefault(name, {})
        for labels, value in rows.items():
            known[labels] = _both(_ADDED[name], known[labels], value) if labels in known else value


def _both(added: Added, one: float, two: float) -> float:
    match added:
        case Added.SUM:
            return one + two
        case Added.LEAST:
            return min(one, two)
        case Added.MOST:
            return max(one, two)


def pieces(figures: Figures) -> Iterator[Metric]:
    """The families one after the other, long ones in several pieces."""
    yield from _of_exchanges(figures.pop, figures.counts)
    yield from _of_fetches(figures.pop, figures.counts)
    for family in SIMPLE:
        if family.kind is Kind.HISTOGRAM:
            spreads = figures.counts.spreads.get(family.name)
            if spreads is not None:
                yield from _histograms(family, figures.pop, spreads.items())
        else:
            numbers = figures.counts.counters if family.kind is Kind.COUNTER else figures.gauges
            rows = numbers.get(family.name)
            if rows is not None:
                yield from _numbers(family, figures.pop, rows.items())


async def text_of(figures: Figures) -> bytes:
    """What a scrape is answered. Whatever else the loop has to do gets its turn after each piece."""
    text: list[bytes] = []
    name = ""
    for piece in pieces(figures):
        told = generate_latest(_One(piece))
        if piece.name == name:
            # The family goes on: what it is was said.
            _, _, told = told.split(b"\n", 2)
        name = piece.name
        text.append(told)
        await asyncio.sleep(0)
    return b"".join(text)


class _One(Collector):
    """A piece as `generate_latest` takes it."""

    def __init__(self, piece: Metric) -> None:
        self._piece = piece

    def collect(self) -> Iterable[Metric]:
        return (self._piece,)


def _of_exchanges(pop: str, counts: Counts) -> Iterator[Metric]:
    exchanges = counts.exchanges
    yield from _numbers(REQUESTS, pop, ((label, sum(ended.took.counts)) for label, ended in exchanges.items()))
    by_status: dict[Labels, list[Spread]] = {}
    size: dict[Labels, float] = {}
    coalesced: dict[Labels, float] = {}
    stale: dict[Labels, float] = {}
    for label, ended in exchanges.items():
        labels = (label.route, label.status)
        by_status.setdefault(labels, []).append(ended.took)
        size[labels] = size.get(labels, 0) + ended.bytes_sent
        if ended.coalesced:
            coalesced[label.route,] = coalesced.get((label.route,), 0) + ended.coalesced
        if label.status == "stale":
            stale[label.reason,] = stale.get((label.reason,), 0) + sum(ended.took.counts)
    yield from _histograms(REQUEST_SECONDS, pop, ((labels, _sum(spreads)) for labels, spreads in by_status.items()))
    yield from _numbers(RESPONSE_BYTES, pop, size.items())
    yield from _numbers(COALESCED, pop, coalesced.items())
    yield from _numbers(STALE_SERVED, pop, stale.items())


def _of_fetches(pop: str, counts: Counts) -> Iterator[Metric]:
    yield from _numbers(FETCHES, pop, ((label, sum(took.counts)) for label, took in counts.fetches.items()))
    by_route: dict[Labels, list[Spread]] = {}
    for label, took in counts.fetches.items():
        by_route.setdefault((label.route,), []).append(took)
    yield from _histograms(FETCH_SECONDS, pop, ((labels, _sum(spreads)) for labels, spreads in by_route.items()))


def _sum(spreads: Sequence[Spread]) -> Spread:
    total, *others = spreads
    for other in others:
        total = total.plus(other)
    return total


def _numbers(family: Family, pop: str, rows: Iterable[tuple[Labels, float]]) -> Iterator[Metric]:
    names = ("pop", *family.labels) if family.has_pop else family.labels
    made = CounterMetricFamily if family.kind is Kind.COUNTER else GaugeMetricFamily
    left = iter(rows)
    while True:
        piece = made(family.name, family.help, labels=names)
        for labels, value in islice(left, NUMBERS_AT_ONCE):
            piece.add_metric((pop, *labels) if family.has_pop else labels, value)
        yield piece
        if len(piece.samples) < NUMBERS_AT_ONCE:
            return


def _histograms(family: Family, pop: str, rows: Iterable[tuple[Labels, Spread]]) -> Iterator[Metric]:
    ends = [*map(str, family.bounds_s), "+Inf"]
    first = True
    for labels, spread in rows:
        piece = HistogramMetricFamily(family.name, family.help, labels=("pop", *family.labels))
        buckets = list(zip(ends, accumulate(spread.counts), strict=True))
        piece.add_metric((pop, *labels), buckets, spread.seconds)
        first = False
        yield piece
    if first:
        yield HistogramMetricFamily(family.name, family.help, labels=("pop", *family.labels))
