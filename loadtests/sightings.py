"""Who saw which watched price when: a row for each price in each answer, as a table for people and spreadsheets."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from loadtests.oracle import PriceKey, Verdict

MOST_ROWS = 100_000
"""Kept of each kind, old prices and others: some 10 MB as text."""
HEADER = ("at_s", "edge", "who", "page", "market", "sku", "shown_minor", "verdict", "stale_ms", "cache_status")


class Sighting(NamedTuple):
    """One price in one answer."""

    at: float
    """When the answer had arrived, on the clock of the run."""
    edge: str
    who: str
    page: str
    key: PriceKey
    amount: int
    verdict: Verdict
    stale_s: float | None
    """Since what replaced it was committed; None when it was the price of the moment."""
    cache_status: str


class Sightings:
    """The rows of a run, bounded: prices that had been replaced are kept although there is no room for others."""

    def __init__(self, most: int = MOST_ROWS) -> None:
        self._most = most
        self._current: list[Sighting] = []
        self._replaced: list[Sighting] = []
        self.left_out = 0
        """Rows that there was no room for."""

    def add(self, sighting: Sighting) -> None:
        rows = self._current if sighting.stale_s is None else self._replaced
        if len(rows) < self._most:
            rows.append(sighting)
        else:
            self.left_out += 1

    def __len__(self) -> int:
        return len(self._current) + len(self._replaced)

    def __iter__(self) -> Iterator[Sighting]:
        """By time."""
        return iter(sorted((*self._current, *self._replaced), key=lambda one: one.at))

    def write(self, path: Path, begun_at: float) -> None:
        """All rows by time, in seconds since `begun_at`."""
        with path.open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            rows.writerow(HEADER)
            for seen in self:
                rows.writerow(
                    (
                        f"{seen.at - begun_at:.6f}",
                        seen.edge,
                        seen.who,
                        seen.page,
                        seen.key.market,
                        seen.key.sku,
                        seen.amount,
                        seen.verdict,
                        "" if seen.stale_s is None else f"{seen.stale_s * 1000:.3f}",
                        seen.cache_status,
                    )
                )
