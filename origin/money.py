"""Money as whole minor units: parsing, converting, rounding, showing. Never a float.

`Decimal` appears in three places only: a rate, what it is multiplied to as an exact fraction, and the number that is
shown. What is stored, compared and sent is an integer.
"""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache

from babel import Locale, UnknownLocaleError
from babel.numbers import NumberPattern, get_decimal_symbol
from iso4217 import Currency

from cache_policies.markets import Rounding

MAX_MINOR_UNITS = 2**53 - 1
"""The largest amount: every JSON reader holds it exactly."""

_AMOUNT = re.compile(r"([0-9]+)(?:\.([0-9]+))?", re.ASCII)
# CLDR's currency spacing, which Babel leaves out: `KWD 1.250`, not `KWD1.250`.
_LETTER_BESIDE_DIGIT = re.compile(r"(?<=[^\W\d_])(?=\d)|(?<=\d)(?=[^\W\d_])")
# CLDR's minimumGroupingDigits of 2, which Babel leaves out: `1234,50 €` but `12.345,50 €`.
_GROUPS_FROM_10_000 = frozenset({"be", "bg", "et", "hu", "hy", "it", "ka", "lv", "pl", "sl", "sq"})
"""Languages, in every country."""
_GROUPS_FROM_10_000_THERE = frozenset({"es", "es_ES", "es_EA", "es_IC", "pt_PT"})
"""Not in Latin America."""
_DECIMAL_OF_MONEY = {"fr_CH": "."}
"""CLDR's currencyDecimal, where it is not the decimal sign of other numbers; Babel leaves it out."""
_PLAIN_RATE = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,12})?", re.ASCII)


class MoneyError(ValueError):
    """An amount, a rate or a currency that cannot be used; the text says what was wrong and what is expected."""


@dataclass(frozen=True, slots=True)
class Money:
    """An amount in the smallest unit of its currency: `Money(1200, "EUR")` is 12.00 euros."""

    minor_units: int
    currency: str


@lru_cache(maxsize=512)
def digits_of(currency: str) -> int:
    """How many decimal digits `currency` has (ISO 4217): JPY 0, EUR 2, KWD 3.

    Raises MoneyError for a code that ISO 4217 does not list and for one without a minor unit (gold, XAU).
    """
    try:
        exponent = Currency(currency).exponent
    except ValueError as exc:
        raise MoneyError(f"unknown currency {currency[:12]!r}, expected an ISO 4217 code such as EUR") from exc
    if exponent is None:
        raise MoneyError(f"{currency} has no minor unit, so nothing can be priced in it")
    return int(exponent)


def parse_amount(text: str, currency: str) -> Money:
    """The amount that a person or a file wrote: digits, and a point before the minor units if there are any.

    Surrounding blanks are ignored. Raises MoneyError saying why for everything else: a sign, a currency
    symbol, grouping, a decimal comma, an exponent, NaN, more digits than the currency has, too much.
    """
    digits = digits_of(currency)
    text = text.strip()
    example = _example(digits)
    if not text:
        raise MoneyError(f"the amount is empty, expected for example {example}")
    match = _AMOUNT.fullmatch(text)
    if match is None:
        raise MoneyError(f"{text[:40]!r} is not an amount: {_why_not(text)}, expected for example {example}")
    whole, fraction = match[1], match[2] or ""
    if len(fraction) > digits:
        raise MoneyError(
            f"{text[:40]!r} has {len(fraction)} digits after the point, {currency} has {digits or 'none'}"
            f", expected for example {example}"
        )
    minor_units = int(whole[:40] + fraction.ljust(digits, "0")) if len(whole) <= 40 else MAX_MINOR_UNITS + 1
    if minor_units > MAX_MINOR_UNITS:
        raise MoneyError(f"{text[:40]!r} is too much, the largest is {amount_text(Money(MAX_MINOR_UNITS, currency))}")
    return Money(minor_units, currency)


def parse_rate(text: str) -> Decimal:
    """An exchange rate written as a plain decimal number above zero, at most 12 digits on either side of the point.

    Raises MoneyError saying why for everything else.
    """
    text = text.strip()
    if not _PLAIN_RATE.fullmatch(text):
        raise MoneyError(f"{text[:40]!r} is not a rate, expected a plain decimal number such as 0.8642")
    rate = Decimal(text)
    if rate <= 0:
        raise MoneyError(f"a rate must be above zero, not {text}")
    return rate


def amount_text(money: Money) -> str:
    """The amount for machines and input fields, with exactly the currency's digits: `12.00`, `1200`, `1.250`."""
    digits = digits_of(money.currency)
    if digits == 0:
        return str(money.minor_units)
    sign = "-" if money.minor_units < 0 else ""
    whole, fraction = divmod(abs(money.minor_units), 10**digits)
    return f"{sign}{whole}.{fraction:0{digits}d}"


HALF_UP = Rounding()
"""To the digits of the currency: what holds where `markets.yaml` says nothing about it."""


def convert(money: Money, rate: Decimal, currency: str, rounding: Rounding = HALF_UP) -> Money:
    """`money` in `currency` at `rate` units of it for one unit of its own, rounded once, from the exact product.

    To the nearest price that `rounding` allows; of two that are equally near the higher one. A price above zero stays
    above zero: it becomes at least the lowest price that `rounding` allows. What is free stays free. Raises MoneyError
    for an amount below zero, a rate that is not a positive finite number, a rounding that makes no sense in
    `currency`, and a result that is too much.
    """
    if not rate.is_finite() or rate <= 0:
        raise MoneyError(f"a rate must be a number above zero, not {rate}")
    if money.minor_units < 0:
        raise MoneyError(f"a price below zero, {amount_text(money)} {money.currency}, is not converted")
    step, first = _allowed(currency, rounding)
    times, per = rate.as_integer_ratio()
    numerator = money.minor_units * times * 10 ** digits_of(currency)
    denominator = per * 10 ** digits_of(money.currency)
    minor_units = _nearest(numerator, denominator, step, first) if numerator else 0
    if minor_units > MAX_MINOR_UNITS:
        raise MoneyError(f"{amount_text(money)} {money.currency} at {rate} is too much to be shown in {currency}")
    return Money(minor_units, currency)


def check_rounding(currency: str, rounding: Rounding) -> None:
    """Raises MoneyError, saying why, where no price in `currency` could be rounded as `rounding` says."""
    _allowed(currency, rounding)


def rounding_text(currency: str, rounding: Rounding) -> str:
    """What `rounding` does to a converted price, for people: `to 0.05`, `to end in .99`; empty: half up to the digits.

    Raises MoneyError as `check_rounding` does.
    """
    _allowed(currency, rounding)
    if rounding.ending is not None:
        return f"to end in .{rounding.ending:0{digits_of(currency)}d}"
    return "" if rounding.step == 1 else f"to {amount_text(Money(rounding.step, currency))}"


def _allowed(currency: str, rounding: Rounding) -> tuple[int, int]:
    """The prices above zero that `rounding` allows: the distance between two of them, and the lowest.

    With an ending one price of each whole unit: from 0.99 on for 99, but from 1.00 on for 0.
    """
    step, ending = rounding
    digits = digits_of(currency)
    if step < 1:
        raise MoneyError(f"prices in {currency} cannot be rounded to {step}, expected 1 minor unit or more")
    if ending is None:
        return step, step
    if not digits:
        raise MoneyError(f"prices in {currency} have no minor units to end in, expected a step in whole {currency}")
    unit = 10**digits
    if not 0 <= ending < unit:
        raise MoneyError(f"prices in {currency} cannot end in {ending}, expected 0 to {unit - 1} minor units")
    if step != 1:
        raise MoneyError(f"prices in {currency} cannot both end in {ending} and be rounded to {step}: expected one")
    return unit, ending or unit


def _nearest(numerator: int, denominator: int, step: int, first: int) -> int:
    """The whole number nearest to a fraction among `first`, `first + step` and so on; halfway between two: the higher.

    Twice the distance to `first` plus one step, divided by two steps and cut off: half a step more goes up.
    """
    beyond = numerator - first * denominator
    steps = (2 * beyond + step * denominator) // (2 * step * denominator)
    return first + max(steps, 0) * step


@lru_cache(maxsize=16_384)
def format_money(money: Money, language: str) -> str:
    """The amount as people who read `language` (`de`, `en-GB`) expect it, with exactly the currency's digits.

    The result may hold no-break spaces. Raises MoneyError for a language that CLDR does not know.
    """
    locale, pattern = _pattern(language, digits_of(money.currency))
    # Exact: the pattern has as many digits as the number, so nothing is left to be rounded.
    value = Decimal(money.minor_units).scaleb(-digits_of(money.currency))
    grouped = abs(value) >= 10_000 or not (
        locale.language in _GROUPS_FROM_10_000 or str(locale) in _GROUPS_FROM_10_000_THERE
    )
    shown: str = pattern.apply(value, locale, currency=money.currency, currency_digits=False, group_separator=grouped)
    if (decimal := _DECIMAL_OF_MONEY.get(str(locale))) is not None:
        shown = shown.replace(get_decimal_symbol(locale), decimal)
    # The narrow yen sign: CLDR's wide one needs a Japanese font, which pages in English cannot count on.
    return _LETTER_BESIDE_DIGIT.sub("\u00a0", shown.replace("\uffe5", "\u00a5"))


@lru_cache(maxsize=256)
def _pattern(language: str, digits: int) -> tuple[Locale, NumberPattern]:
    try:
        locale = Locale.parse(language.replace("-", "_"))
    except (UnknownLocaleError, ValueError) as exc:
        raise MoneyError(f"unknown language {language[:20]!r}, expected for example de or en-GB") from exc
    # CLDR's digits lag behind ISO 4217 for some currencies; ISO 4217 decides here as it does everywhere else.
    pattern = copy.copy(locale.currency_formats["standard"])
    pattern.frac_prec = (digits, digits)
    return locale, pattern


def _example(digits: int) -> str:
    return f"12.{'5'.ljust(digits, '0')}" if digits else "1250"


def _why_not(text: str) -> str:
    if text[0] in "+-\u2212":
        return "no sign is allowed"
    if "," in text:
        return "a comma could be either separator, write a point and no grouping"
    if re.search(r"\s|['’_]", text):
        return "no grouping is allowed"
    if text.lower() in {"nan", "inf", "infinity"}:
        return "only numbers are"
    if re.fullmatch(r"[0-9.]+[eE][+-]?[0-9]+", text):
        return "no exponent is allowed"
    if text.startswith(".") or text.endswith("."):
        return "digits are needed on both sides of the point"
    if text.count(".") > 1:
        return "there is more than one point"
    return "only the digits 0 to 9 and one point are allowed"
