"""Markets: where a shopper buys, in which currency and language, and which countries are led there.

A market is the first segment of every storefront address, so that it is part of every key in every runtime.
"""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from cache_policies.market_values import Market, Markets, Rounding, TaxDisplay
from cache_policies.reading import PACKAGED_POLICIES, Fault, Place, PolicyError, Refused, Value, read_document

__all__ = ["PACKAGED_POLICIES", "Market", "Markets", "Rounding", "TaxDisplay", "load_markets"]

_ID = re.compile(r"[a-z]{2}-[a-z]{3}")
_COUNTRY = re.compile(r"[A-Z]{2}")
_CURRENCY = re.compile(r"[A-Z]{3}")
_LANGUAGE = re.compile(r"[a-z]{2}(-[A-Z]{2})?")
_JURISDICTION = re.compile(r"[a-z]{2,8}")
_FIELDS = ("name", "country", "countries", "currency", "language", "tax_display", "jurisdiction")


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
