"""What a run means to do and when: an open-loop schedule, made from a scenario, a seed and what the shop sells.

Pure. Every time is in seconds since the start of the run. Whoever carries a plan out sends each arrival when it is due,
or as soon as it can after that; it is never put off because an earlier answer was late.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from loadtests.oracle import PriceKey
from loadtests.people import Visit
from loadtests.recorder.run import Phase


class Person(StrEnum):
    """Who asks."""

    BROWSER = "browser"
    SEARCHER = "searcher"
    """Goes through the listings of categories: sorted, paged, back and forth."""
    BOT = "bot"
    CROWD = "crowd"
    """Sent to one product by a campaign, all at once, everywhere."""
    BUSTER = "buster"
    """Adds parameters that nobody offered, to get past the caches."""


class Arrival(NamedTuple):
    """One request that is meant to be sent."""

    at_s: float
    phase: str
    person: Person
    visitor: int
    """Who it is among those of a kind; one visitor keeps cookies and a browser's cache for a session."""
    edge: str
    method: str
    visit: Visit
    fields: tuple[tuple[str, str], ...] = ()
    """Request fields beside those of every request of that person."""
    asks_again: bool = False
    """The visitor's browser holds this page already: it goes with If-None-Match, where an ETag came with it."""


class Doing(StrEnum):
    """What is done to the shop during a run."""

    PRICE = "price"
    PURGE = "purge"
    FLUSH = "flush"
    """Purge everything, at every edge."""
    FAULT = "fault"
    HEAL = "heal"


class Deed(NamedTuple):
    """One thing that is done at its time, whatever else is under way."""

    at_s: float
    doing: Doing
    key: PriceKey | None = None
    """PRICE: which price changes."""
    amount: str | None = None
    """PRICE: to what, in the market's currency; None: to an amount that it never had, chosen by the run's seed. An
    amount that it had before (recorded changes go back and forth) becomes the nearest one that it never had."""
    tags: tuple[str, ...] = ()
    """PURGE."""
    soft: bool = False
    command: tuple[tuple[str, str], ...] = ()
    """FAULT and HEAL: what the shop's control socket is told (docs/faults.md)."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that a run means to do, both lists in the order of their times."""

    scenario: str
    seed: int
    phases: tuple[Phase, ...]
    arrivals: tuple[Arrival, ...]
    deeds: tuple[Deed, ...]
    watched: tuple[PriceKey, ...]
    """Prices that the run changes: the oracle knows their history."""
    spotlight: tuple[str, ...] = ()
    """What the crowd asks for and nobody else does: its fetches at the origin are counted apart."""
    remarks: tuple[str, ...] = ()
    """What a person who reads the run's result ought to know about how it was planned."""

    @property
    def digest(self) -> str:
        """Of every arrival and deed in order, so that two runs can be told to have meant the same."""
        found = hashlib.blake2b(digest_size=16)
        for one in (*self.arrivals, *self.deeds):
            found.update(repr(tuple(one)).encode())
        return found.hexdigest()
