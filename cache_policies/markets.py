"""markets.yaml -> Markets: where a shopper buys, in which currency and language, and which countries are led there.

A market is the first segment of every storefront address, so that it is part of every key in every runtime.
"""

from __future__ import annotations

import re
from contextlib import suppress
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from cache_policies.currencies import DIGITS
from cache_policies.kinds import (
    COUNTRY,
    JURISDICTION,
    Field,
    Kind,
    Schema,
    choice,
    described,
    listed,
    only,
    spelled,
    whole,
)
from cache_policies.market_values import Market, Markets, Rounding, TaxDisplay
from cache_policies.reading import PACKAGED_POLICIES, Fault, Place, PolicyError, Refused, Value, closest, read_document

__all__ = [
    "MARKETS_FIELDS",
    "MARKETS_FILE",
    "MARKET_FIELDS",
    "PACKAGED_POLICIES",
    "ROUNDING_FIELDS",
    "Market",
    "Markets",
    "Rounding",
    "TaxDisplay",
    "load_markets",
    "read_markets",
]

MARKETS_FILE = "markets.yaml"

_ID = "[a-z]{2}-[a-z]{3}"
_MARKET_ID = spelled(_ID, "the id of a market", "NS123", hint=lambda text: text.lower().replace("_", "-"))


_NAME = spelled(r"[^\u0000-\u001f\u007f-\u009f]+", "text without control characters", "NS103")


def _currency(value: Value) -> str:
    expected = "a currency such as EUR"
    text = value.text(expected, "NS120")
    if text not in DIGITS:
        meant = closest(text, DIGITS)
        hint = f"; did you mean {meant}?" if meant else " of ISO 4217"
        raise value.refuse(expected + hint, "NS120", f"Write {meant or 'EUR'}, or what else is meant, in capitals.")
    return text


def _meant_language(text: str) -> str:
    language, _, country = text.replace("_", "-").partition("-")
    return f"{language.lower()}-{country.upper()}" if country else language.lower()


_LANGUAGE = spelled("[a-z]{2}(?:-[A-Z]{2})?", "a language tag such as en-GB", "NS121", hint=_meant_language)

MARKET_FIELDS: tuple[Field[Any], ...] = (
    Field("name", _NAME, "text", "required", "as shoppers read it"),
    Field(
        "country",
        COUNTRY,
        "country (ISO 3166)",
        "required",
        "the country whose habits the market follows, two capital letters; one of `countries`",
    ),
    Field(
        "countries",
        listed(COUNTRY, "two capital letters"),
        "list of countries",
        "required",
        "countries led here; each in one market only. `NO` is Norway",
    ),
    Field(
        "currency",
        Kind(_currency, {"enum": sorted(DIGITS)}),
        "currency (ISO 4217)",
        "required",
        "what is paid with",
    ),
    Field("language", _LANGUAGE, "language tag", "required", "by which numbers and dates are written: `en-GB`"),
    Field(
        "tax_display",
        choice(TaxDisplay),
        "`included`, `excluded`",
        "required",
        "whether the prices that are shown have the tax in them",
    ),
    Field(
        "jurisdiction",
        JURISDICTION,
        "name",
        "required",
        "where its customers' personal data lives; origins say which ones they may hold",
    ),
)

_STEPS = tuple(Decimal(digits).scaleb(power) for power in range(-4, 5) for digits in (1, 2, 5, 25))


def _amounts(amounts: list[Decimal]) -> list[int | float]:
    return [int(amount) if amount == int(amount) else float(amount) for amount in amounts]


def _steps(digits: int) -> list[Decimal]:
    """What a currency with so many digits can be rounded to: 1, 2, 5 and 25 times a power of ten, to 10,000."""
    return sorted({step for step in _STEPS if step == round(step, digits) and step <= 10_000})


def _endings(digits: int) -> list[Decimal]:
    """What its prices can end in: .00 to .99."""
    return [Decimal(hundredths).scaleb(-2) for hundredths in range(100)] if digits >= 2 else []


def _amount(value: Value, allowed: list[Decimal], expected: str) -> Decimal:
    text = value.written
    if isinstance(text, str) and value.type == "number":
        if re.fullmatch(r"-?(?:0|[1-9][0-9]*|(?=\.))(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?", text) is None:
            expected += ", in plain digits: readers of YAML disagree about what this is"
            raise value.refuse(expected, "NS011", "Write it in decimal digits, such as 0.05 or .99.")
        with suppress(InvalidOperation):
            if (amount := Decimal(text)) in allowed:
                return amount
    unquoted = f"Write {text}, without quotes." if value.quoted else ""
    raise value.refuse(expected, "NS125" if isinstance(text, str) else "NS103", unquoted)


def _rounding_fields(digits: int) -> tuple[Field[Any], ...]:
    """What stands under a currency with so many digits."""
    steps, endings = _steps(digits), _endings(digits)
    step_expected = f"1, 2, 5 or 25 times a power of ten, from {steps[0]:f} to 10000"

    def ending(value: Value) -> Decimal:
        if not endings:
            raise value.refuse("round_to: the currency has no digits to end in", "NS125", "Write round_to: 10, or so.")
        return _amount(value, endings, "two digits from .00 to .99")

    return (
        Field(
            "round_to",
            Kind(lambda value: _amount(value, steps, step_expected), {"enum": _amounts(steps)}),
            "amount",
            "the currency's smallest",
            "a converted price becomes the nearest multiple, half a step upwards: `0.05`; 1, 2, 5 or 25 times a power "
            "of ten, to 10000",
            ("step", "round", "rounding"),
        ),
        Field(
            "ending",
            Kind(ending, {"enum": _amounts(endings)} if endings else {"not": {}}),
            "two digits",
            "none",
            "a converted price becomes the nearest one that ends so, the higher of two as near: `.99`; in place of "
            "`round_to`, and not for a currency without digits",
            ("ends_in", "charm"),
        ),
    )


ROUNDING_FIELDS = _rounding_fields(2)


def _rounding(currency: str, value: Value) -> Rounding:
    written = value.fields("{round_to: 0.05} or {ending: .99}")
    before = len(value.faults)
    only(value, ROUNDING_FIELDS)
    step, ending = (each.of(value, None) for each in _rounding_fields(DIGITS[currency]))
    if len(value.faults) == before and len(written) != 1:
        found = "both round_to and ending" if written else "neither round_to nor ending"
        value.fault(f"{found}, expected one of the two", "NS125", "Write {round_to: 0.05}, or {ending: .99}.")
    if len(value.faults) > before:
        raise Refused
    if ending is not None:
        return Rounding(ending=int(ending.scaleb(DIGITS[currency])))
    return Rounding(step=int(step.scaleb(DIGITS[currency])))


def _rounding_schema(digits: int) -> Schema:
    return {**described(_rounding_fields(digits)), "minProperties": 1, "maxProperties": 1}


def _currencies(value: Value) -> tuple[tuple[str, Rounding], ...]:
    found: dict[str, Rounding] = {}
    for currency, (place, entry) in value.fields("a mapping from currency to its rounding").items():
        if currency not in DIGITS:
            meant = closest(currency, DIGITS)
            what = f"{currency}, expected a currency of ISO 4217" + (f"; did you mean {meant}?" if meant else "")
            fix = f"Write {meant or 'EUR'}, or what else is meant, in capitals."
            value.faults.append(Fault(place, entry.path, what, "NS120", fix))
            continue
        with suppress(Refused):
            found[currency] = _rounding(currency, entry)
    return tuple(sorted(found.items()))


def _by_digits(digits: int) -> str:
    return "|".join(sorted(currency for currency in DIGITS if DIGITS[currency] == digits))


_CURRENCIES_SCHEMA: Schema = {
    "type": "object",
    "additionalProperties": False,
    "patternProperties": {
        f"^(?:{_by_digits(digits)})$": _rounding_schema(digits) for digits in sorted(set(DIGITS.values()))
    },
}


def _markets(value: Value) -> tuple[Market, ...]:
    found: list[Market] = []
    taken: dict[str, tuple[str, Place]] = {}
    for market_id, (place, entry) in value.fields("a mapping from id to market").items():
        if re.fullmatch(_ID, market_id) is None:
            what = f"id {market_id}, expected country-currency such as eu-eur"
            value.faults.append(
                Fault(place, entry.path, what, "NS123", "Write two small letters, a hyphen and three small letters.")
            )
        with suppress(Refused):
            found.append(_read_market(market_id, entry, taken))
    return tuple(found)


def _read_market(market_id: str, value: Value, taken: dict[str, tuple[str, Place]]) -> Market:
    fields = value.fields("a mapping from field to value")
    only(value, MARKET_FIELDS)
    known: dict[str, Any] = {}
    for each in MARKET_FIELDS:
        found = each.of(value, None)
        if found is not None:
            known[each.name] = found
    written = fields["countries"][1].written if "countries" in fields else ""
    for item in written if isinstance(written, list) else []:
        code = item.written
        if not isinstance(code, str):
            continue
        if code in taken and taken[code][0] != market_id:
            other, place = taken[code]
            what = f"{code} is already led to {other} on line {place.line}, expected each country once"
            item.fault(what, "NS132", f"Remove {code} here or there.")
        taken.setdefault(code, (market_id, item.place))
    if "country" in known and "countries" in known and known["country"] not in known["countries"]:
        place, entry = fields["country"]
        what = f"country {known['country']} is not in countries, expected it there"
        value.faults.append(Fault(place, entry.path, what, "NS133", f"Add {known['country']} to countries."))
    if len(known) < len(MARKET_FIELDS):
        raise Refused
    return Market(id=market_id, **known)


MARKETS_FIELDS: tuple[Field[Any], ...] = (
    Field(
        "default",
        _MARKET_ID,
        "id of a market",
        "required",
        "for countries that no market names, for visitors whose country is unknown, and for crawlers",
    ),
    Field(
        "markets",
        Kind(
            _markets,
            {"type": "object", "propertyNames": whole(_ID), "additionalProperties": described(MARKET_FIELDS)},
        ),
        "id: market",
        "required",
        "every market, by its id: country and currency, `eu-eur`, the first segment of every storefront address",
    ),
    Field(
        "blocked",
        listed(COUNTRY, "two capital letters"),
        "list of countries",
        "`[]`",
        "visitors from there are answered with 451 on every route that does not say `blocked_countries` itself; who "
        "comes from an unknown country is served",
    ),
    Field(
        "currencies",
        Kind(_currencies, _CURRENCIES_SCHEMA),
        "currency: rounding",
        "none",
        "how prices that were converted by a rate are made presentable; prices set by hand are never touched",
    ),
)


def load_markets(directory: Path | None = None) -> Markets:
    """The markets in `markets.yaml` of `directory` (default: the packaged policies).

    Raises PolicyError with every fault, each with file, line and column.
    """
    faults: list[Fault] = []
    document = read_document((directory or PACKAGED_POLICIES) / MARKETS_FILE, faults)
    markets = read_markets(document) if document is not None else None
    if markets is None:
        raise PolicyError(faults)
    return markets


def read_markets(document: Value) -> Markets | None:
    """The markets that `markets.yaml` says; None, with the faults noted, when anything is wrong with them."""
    before = len(document.faults)
    only(document, MARKETS_FIELDS)
    default, markets, blocked, currencies = (each.of(document, None) for each in MARKETS_FIELDS)
    entries = document.fields()["markets"][1].written if "markets" in document.fields() else None
    if default is not None and isinstance(entries, dict) and default not in entries:
        at, written = document.fields()["default"]
        what = f"{default} is no market here, expected one of {', '.join(entries) or 'those below markets'}"
        document.faults.append(Fault(at, written.path, what, "NS131", "Write the id of a market below."))
    if len(document.faults) > before:
        return None
    return Markets(markets, default, blocked or (), currencies or ())
