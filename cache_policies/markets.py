"""Markets: where a shopper buys, in which currency and language, and which countries are led there.

A market is the first segment of every storefront address, so that it is part of every key in every runtime.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from cache_policies.reading import PACKAGED_POLICIES, Fault, Place, PolicyError, Refused, Value, read_document

__all__ = ["PACKAGED_POLICIES", "Market", "Markets", "TaxDisplay", "load_markets"]

_ID = re.compile(r"[a-z]{2}-[a-z]{3}")
_COUNTRY = re.compile(r"[A-Z]{2}")
_CURRENCY = re.compile(r"[A-Z]{3}")
_LANGUAGE = re.compile(r"[a-z]{2}(-[A-Z]{2})?")
_JURISDICTION = re.compile(r"[a-z]{2,8}")
_FIELDS = ("name", "country", "countries", "currency", "language", "tax_display", "jurisdiction")


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
    """Every market, and the one for whoever has none."""

    all: tuple[Market, ...]
    default: str
    """Id of the market for unknown countries and crawlers."""
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
        if self.default not in self._by_id:
            raise ValueError(f"the default market {self.default!r} is not among the markets")

    def by_id(self, market_id: str) -> Market | None:
        return self._by_id.get(market_id)

    def rounding_of(self, currency: str) -> Rounding:
        """How converted prices in `currency` are rounded."""
        return dict(self.rounding).get(currency, Rounding())

    def for_country(self, country: str) -> Market:
        """The market of a country (two capital letters); the default for one that no market names."""
        return self._by_country.get(country) or self._by_id[self.default]


def load_markets(directory: Path | None = None) -> Markets:
    """The markets in `markets.yaml` of `directory` (default: the packaged policies).

    Raises PolicyError with every fault, each with file, line and column.
    """
    path = (directory or PACKAGED_POLICIES) / "markets.yaml"
    faults: list[Fault] = []
    document = read_document(path, faults)
    found: list[Market] = []
    default = ""
    if document is not None:
        document.only(("default", "markets"))
        default = document.required("default", lambda value: value.matching(_ID, "the id of a market"), "")
        taken: dict[str, tuple[str, Place]] = {}
        entries = document.required("markets", lambda value: value.fields("a mapping from id to market"), None) or {}
        for market_id, (place, value) in entries.items():
            if _ID.fullmatch(market_id) is None:
                faults.append(Fault(place, value.path, f"id {market_id}, expected country-currency such as eu-eur"))
            with suppress(Refused):
                found.append(_read_market(market_id, value, taken))
        if not faults and default not in entries:
            at, written = document.fields()["default"]
            faults.append(Fault(at, written.path, f"{default} is no market here, expected one of {', '.join(entries)}"))
    if faults:
        raise PolicyError(faults)
    return Markets(tuple(found), default)


def _read_market(market_id: str, value: Value, taken: dict[str, tuple[str, Place]]) -> Market:
    value.only(_FIELDS)
    country = value.required("country", lambda at: at.matching(_COUNTRY, "two capital letters"), "")
    countries = value.required("countries", lambda at: at.words(_COUNTRY, "two capital letters"), ())
    for item in value.optional("countries", lambda at: at.items(), ()):
        code = item.written
        if not isinstance(code, str):
            continue
        if code in taken and taken[code][0] != market_id:
            other, place = taken[code]
            item.fault(f"{code} is already led to {other} on line {place.line}, expected each country once")
        taken.setdefault(code, (market_id, item.place))
    if country and countries and country not in countries:
        value.fault(f"country {country} is not in countries, expected it there")
    return Market(
        id=market_id,
        name=value.required("name", lambda at: at.text(), ""),
        country=country,
        countries=countries,
        currency=value.required("currency", lambda at: at.matching(_CURRENCY, "a currency such as EUR"), ""),
        language=value.required("language", lambda at: at.matching(_LANGUAGE, "a language tag such as en-GB"), ""),
        tax_display=value.required("tax_display", lambda at: at.choice(TaxDisplay), TaxDisplay.INCLUDED),
        jurisdiction=value.required("jurisdiction", lambda at: at.matching(_JURISDICTION, "a name such as eu"), ""),
    )
