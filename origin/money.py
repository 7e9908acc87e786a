"""Money as whole minor units: parsing, converting, showing. Never a float.

`Decimal` appears in two places only, reading an amount that a person typed and multiplying by a rate;
what is stored, compared and sent is an integer.
"""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal, localcontext
from functools import lru_cache

from babel import Locale, UnknownLocaleError
from babel.numbers import NumberPattern
from iso4217 import Currency

MAX_MINOR_UNITS = 2**53 - 1
"""The largest amount: every JSON reader holds it exactly."""

_AMOUNT = re.compile(r"([0-9]+)(?:\.([0-9]+))?", re.ASCII)
# CLDR's currency spacing, which Babel leaves out: `KWD 1.250`, not `KWD1.250`.
_LETTER_BESIDE_DIGIT = re.compile(r"(?<=[^\W\d_])(?=\d)|(?<=\d)(?=[^\W\d_])")
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


def convert(money: Money, rate: Decimal, currency: str) -> Money:
    """`money` in `currency` at `rate` units of it for one unit of its own, rounded half up to the currency's digits.

    Raises MoneyError when the rate is not a positive finite number or the result is too much.
    """
    if not rate.is_finite() or rate <= 0:
        raise MoneyError(f"a rate must be a number above zero, not {rate}")
    with localcontext() as context:
        # 16 digits of money times 24 of rate, exactly: the only rounding is the one asked for.
        context.prec = 64
        shift = digits_of(currency) - digits_of(money.currency)
        exact = (Decimal(money.minor_units) * rate).scaleb(shift)
        minor_units = int(exact.quantize(Decimal(1), rounding=ROUND_HALF_UP))
    if abs(minor_units) > MAX_MINOR_UNITS:
        raise MoneyError(f"{amount_text(money)} {money.currency} at {rate} is too much to be shown in {currency}")
    return Money(minor_units, currency)


@lru_cache(maxsize=16_384)
def format_money(money: Money, language: str) -> str:
    """The amount as people who read `language` (`de`, `en-GB`) expect it, with exactly the currency's digits.

    The result may hold no-break spaces. Raises MoneyError for a language that CLDR does not know.
    """
    locale, pattern = _pattern(language, digits_of(money.currency))
    # Exact: the pattern has as many digits as the number, so nothing is left to be rounded.
    value = Decimal(money.minor_units).scaleb(-digits_of(money.currency))
    shown: str = pattern.apply(value, locale, currency=money.currency, currency_digits=False)
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
