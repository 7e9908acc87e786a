"""What a scenario says, as values: who comes, how many, when, and what is done to the shop meanwhile.

How one is written down is `scenario_files.py`, what becomes of it is `planning.py`. Durations are seconds. Times within
a scenario count from the end of its warm-up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from cache_policies.reading import Place
from loadtests.plan import Person
from loadtests.shapes import Shape

WARM_UP = "warm-up"
"""The phase before all others, which does not count."""
ONLY_PHASE = "run"
"""The name of the phase of a scenario that names none."""

NOTHING: Mapping[str, float] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Bots:
    crawlers: int
    """How many crawl at the same time, each one market."""
    heads: float
    """Share of their requests that are HEAD."""
    asks_again: float
    """Share of their requests for a page seen before that go with If-None-Match."""


@dataclass(frozen=True, slots=True)
class People:
    """Who uses the shop (people.yaml)."""

    popularity: float
    """Exponent of Zipf's law."""
    products: int
    """How many products people know: the most popular ones."""
    catalogue: int
    """How many products are looked for in the shop: bots read them all, and storms purge them all."""
    markets: Mapping[str, float]
    """Market -> share of visitors."""
    home_edges: Mapping[str, str]
    people: Mapping[Person, float]
    """Of BROWSER, SEARCHER and BOT: share of requests."""
    think: Mapping[Person, float]
    """Of BROWSER and SEARCHER: seconds on average before the next request."""
    returns: float
    bots: Bots
    funnel: Mapping[str, float]
    """`view`, `add`, `buy`: what sessions lead to; the last two are inert while nothing can be bought."""

    @property
    def to_find(self) -> int:
        """How many products a stranger has to find before a plan is made."""
        return max(self.products, self.catalogue)


@dataclass(frozen=True, slots=True)
class PhasePlan:
    """One part of a scenario; it ends where the next one begins."""

    name: str
    from_s: float
    load: float = 1.0
    """What the rate is multiplied by, on top of the shape."""
    crowd: float = 0.0
    """How many times the scenario's rate asks for one product that nobody knew before, from all edges alike."""
    busting: float = 0.0
    """How many times the scenario's rate asks with parameters that nobody offered."""
    markets: Mapping[str, float] = field(default_factory=lambda: NOTHING)
    """Where those visitors buy who come in this phase; empty: as everywhere."""
    people: Mapping[Person, float] = field(default_factory=dict)
    """Empty: as everywhere."""


class Act(StrEnum):
    """What can be done to a shop during a run."""

    PRICES = "prices"
    PURGES = "purges"
    FLUSH = "flush"
    FAULT = "fault"


@dataclass(frozen=True, slots=True)
class DeedPlan:
    """Something done during one phase."""

    act: Act
    phase: str
    """In which phase; WARM_UP is one, too."""
    per_minute: float = 0.0
    """PRICES: changes; PURGES: tags."""
    prices: int = 0
    """PRICES: how many different ones change in turn."""
    tags_per_order: int = 1
    """PURGES: how many tags one order names."""
    soft: bool = False
    """PURGES and FLUSH: still servable while it is being refreshed."""
    command: tuple[tuple[str, str], ...] = ()
    """FAULT: what the shop's control socket is told when the phase begins."""
    mend: tuple[tuple[str, str], ...] = ()
    """FAULT: and when it ends."""


@dataclass(frozen=True, slots=True)
class Replay:
    """Recorded demand, played again."""

    orders: Path | None = None
    price_changes: Path | None = None
    speed: float | None = None
    """Recorded seconds in one of the run; None: each recording takes exactly as long as the run."""


class ThresholdLine(NamedTuple):
    """A threshold as it is written, with its place; `thresholds.py` reads it."""

    text: str
    place: Place


@dataclass(frozen=True, slots=True)
class Scenario:
    """One scenario, complete: what its own file leaves out stands here as people.yaml says it."""

    name: str
    description: str
    duration_s: float
    """The part that counts, after the warm-up."""
    warmup_s: float
    rate: float
    """Requests a second of browsers, searchers and bots together, before shape and load."""
    shape: Shape
    people: People
    phases: tuple[PhasePlan, ...]
    """In order, the first from 0, together as long as the scenario."""
    deeds: tuple[DeedPlan, ...] = ()
    replay: Replay | None = None
    thresholds: tuple[ThresholdLine, ...] = ()

    def lasting(self, duration_s: float) -> Scenario:
        """The same in another time: phases keep their shares of it, rates stay, the warm-up shrinks but never grows."""
        scale = duration_s / self.duration_s
        return replace(
            self,
            duration_s=duration_s,
            warmup_s=self.warmup_s * min(1.0, scale),
            phases=tuple(replace(phase, from_s=phase.from_s * scale) for phase in self.phases),
        )
