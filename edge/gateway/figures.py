"""Everything that is exported of one worker at one moment, as plain values: told to its site, added up, rendered.

Taking them is one step of the loop and costs a fraction of a microsecond for each tally, so that they fit together and
no viewer waits; `metrics.py` makes the text of them piece by piece.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson

from edge.gateway.counters import Counters, ExchangeLabel, FetchLabel

Labels = tuple[str, ...]
"""Values of a family's labels, `pop` left out, in its order."""


class Spread(NamedTuple):
    """How often something took how long, at one moment."""

    counts: tuple[int, ...]
    """As `Durations.counts`."""
    seconds: float

    def plus(self, other: Spread) -> Spread:
        counts = tuple([one + two for one, two in zip(self.counts, other.counts, strict=True)])
        return Spread(counts, self.seconds + other.seconds)


class Ended(NamedTuple):
    """Exchanges of one label, at one moment."""

    took: Spread
    bytes_sent: int
    coalesced: int

    def plus(self, other: Ended) -> Ended:
        return Ended(self.took.plus(other.took), self.bytes_sent + other.bytes_sent, self.coalesced + other.coalesced)


@dataclass(slots=True)
class Counts:
    """What only ever rises while a process lives."""

    exchanges: dict[ExchangeLabel, Ended] = field(default_factory=dict)
    fetches: dict[FetchLabel, Spread] = field(default_factory=dict)
    counters: dict[str, dict[Labels, float]] = field(default_factory=dict)
    """By the name of the family, without `_total`."""
    spreads: dict[str, dict[Labels, Spread]] = field(default_factory=dict)
    """The histograms beside those above."""

    def add(self, other: Counts) -> None:
        """Add what another process has counted."""
        for label, ended in other.exchanges.items():
            known = self.exchanges.get(label)
            self.exchanges[label] = ended if known is None else known.plus(ended)
        _add_spreads(self.fetches, other.fetches)
        for name, rows in other.counters.items():
            own = self.counters.setdefault(name, {})
            for labels, value in rows.items():
                own[labels] = own.get(labels, 0.0) + value
        for name, spreads in other.spreads.items():
            _add_spreads(self.spreads.setdefault(name, {}), spreads)


def _add_spreads(own: dict[Any, Spread], others: Mapping[Any, Spread]) -> None:
    for labels, spread in others.items():
        known = own.get(labels)
        own[labels] = spread if known is None else known.plus(spread)


@dataclass(slots=True)
class Figures:
    """Of one process, or of a site: then those of all of its workers, added up."""

    pop: str
    """The edge's name."""
    worker: str
    """What tells one process from the next in its place."""
    counts: Counts = field(default_factory=Counts)
    gauges: dict[str, dict[Labels, float]] = field(default_factory=dict)
    """What is the case now, by the name of the family."""

    def to_json(self) -> bytes:
        counts = self.counts
        return orjson.dumps(
            {
                "pop": self.pop,
                "worker": self.worker,
                "exchanges": list(counts.exchanges.items()),
                "fetches": list(counts.fetches.items()),
                "counters": {name: list(rows.items()) for name, rows in counts.counters.items()},
                "spreads": {name: list(rows.items()) for name, rows in counts.spreads.items()},
                "gauges": {name: list(rows.items()) for name, rows in self.gauges.items()},
            },
            default=tuple,  # named ones
        )

    @classmethod
    def from_json(cls, text: bytes) -> Figures:
        """Raises ValueError where it is none of our own making."""
        try:
            told = orjson.loads(text)
            return cls(
                told["pop"],
                told["worker"],
                Counts(
                    {
                        ExchangeLabel(*label): Ended(_spread(took), size, coalesced)
                        for label, (took, size, coalesced) in told["exchanges"]
                    },
                    {FetchLabel(*label): _spread(took) for label, took in told["fetches"]},
                    {name: {tuple(labels): value for labels, value in rows} for name, rows in told["counters"].items()},
                    {
                        name: {tuple(labels): _spread(took) for labels, took in rows}
                        for name, rows in told["spreads"].items()
                    },
                ),
                {name: {tuple(labels): value for labels, value in rows} for name, rows in told["gauges"].items()},
            )
        except (KeyError, TypeError, ValueError) as exc:
            raise ValueError(f"no figures of a worker: {exc!r}") from exc


def _spread(told: tuple[Iterable[int], float]) -> Spread:
    counts, seconds = told
    return Spread(tuple(counts), seconds)


def counted(counters: Counters) -> Counts:
    """What the counters say now."""
    return Counts(
        {
            label: Ended(Spread(tuple(tally.counts), tally.seconds), tally.bytes_sent, tally.coalesced)
            for label, tally in counters.exchanges.items()
        },
        {label: Spread(tuple(took.counts), took.seconds) for label, took in counters.fetches.items()},
    )
