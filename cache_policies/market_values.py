"""Markets as values, however they were written down: what Lambda@Edge carries, without the reading of files."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

UNKNOWN_COUNTRY = "ZZ"
"""In the place of a country that nobody knows: no country has it (ISO 3166, user-assigned)."""


class TaxDisplay(StrEnum):
    """How this market's prices are shown."""

    INCLUDED = "included"
    EXCLUDED = "excluded"


@dataclass(frozen=True, slots=True)
class Market:
    """One market of the shop."""

    id: str
    """First path segment: `eu-eur`."""
    name: str
    country: str
    """The country whose habits it follows, two letters of ISO 3166."""
    countries: tuple[str, ...]
    """Countries whose visitors are led here; `country` among them."""
    currency: str
    """ISO 4217."""
    language: str
    """BCP 47 tag by which its numbers and dates are written."""
    tax_display: TaxDisplay
    jurisdiction: str
    """Where its customers' personal data lives."""


class Rounding(NamedTuple):
    """How a converted price of one currency is made presentable; explicit prices are never touched."""

    step: int = 1
    """Whole minor units: 5 rounds CHF to 0.05. Half a step is rounded up."""
    ending: int | None = None
    """Minor units within one unit of the currency that every price ends in: 99 for .99. The nearest such price, the
    higher of two that are equally near, never below the lowest one. With `ending`, `step` is 1."""


@dataclass(frozen=True, slots=True)
class Markets:
    """Every market, and the one for whoever has none. There may be none at all: then no route asks for one."""

    all: tuple[Market, ...] = ()
    default: str = ""
    """Id of the market for unknown countries and crawlers; empty where there are no markets."""
    blocked: tuple[str, ...] = ()
    """Countries whose visitors are answered with 451 on every route that does not say otherwise."""
    rounding: tuple[tuple[str, Rounding], ...] = ()
    """By currency; one that is not here is rounded half up to its own digits."""
    _by_id: dict[str, Market] = field(init=False, repr=False, compare=False)
    _by_country: dict[str, Market] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_id", {market.id: market for market in self.all})
        by_country = {country: market for market in reversed(self.all) for country in market.countries}
        object.__setattr__(self, "_by_country", by_country)
        if self.default not in self._by_id and (self.all or self.default):
            raise ValueError(f"the default market {self.default!r} is not among the markets")

    def by_id(self, market_id: str) -> Market | None:
        return self._by_id.get(market_id)

    def rounding_of(self, currency: str) -> Rounding:
        """How converted prices in `currency` are rounded."""
        return dict(self.rounding).get(currency, Rounding())

    def for_country(self, country: str) -> Market:
        """The market of a country (two capital letters); the default for one that no market names. KeyError where
        there are no markets."""
        return self._by_country.get(country) or self._by_id[self.default]
