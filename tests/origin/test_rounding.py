"""Converted prices: a table worked out by hand, and what holds for every conversion."""

import csv
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from iso4217 import Currency

from cache_policies.currencies import DIGITS
from cache_policies.markets import PACKAGED_POLICIES, Rounding, load_markets
from origin.money import (
    Money,
    MoneyError,
    amount_text,
    check_rounding,
    convert,
    digits_of,
    format_money,
    parse_amount,
    rounding_text,
)

BY_HAND = Path(__file__).with_name("prices_by_hand.csv")
"""Nothing in it was computed by this program or its libraries: products by hand, digits from ISO 4217, writing from
CLDR. `rounding` is a step (`0.05`), an ending (`.99`) or empty; in `shown` a no-break space is written `~` and a narrow
one `^`."""


def rows_by_hand() -> list[dict[str, str]]:
    with BY_HAND.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def rounding_from(text: str, currency: str) -> Rounding:
    if text.startswith("."):
        return Rounding(ending=int(text[1:]))
    return Rounding(step=parse_amount(text, currency).minor_units) if text else Rounding()


def test_the_table_is_as_large_as_was_promised():
    rows = rows_by_hand()
    assert len(rows) >= 60
    assert len({row["to"] for row in rows}) >= 12
    assert len({row["language"] for row in rows}) >= 12
    assert all(row["why"] and None not in row for row in rows)


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(row, id=f"{line}-{row['base']} {row['from']} to {row['to']} {row['rounding']}")
        for line, row in enumerate(rows_by_hand(), 2)
    ],
)
def test_a_price_is_what_it_is_by_hand(row):
    rounding = rounding_from(row["rounding"], row["to"])
    converted = convert(parse_amount(row["base"], row["from"]), Decimal(row["rate"]), row["to"], rounding)
    assert amount_text(converted) == row["amount"], row["why"]
    shown = format_money(converted, row["language"])
    assert shown.replace("\u00a0", "~").replace("\u202f", "^") == row["shown"], row["why"]


@pytest.mark.parametrize(
    ("currency", "rounding", "why"),
    [
        pytest.param("JPY", Rounding(ending=80), "JPY have no minor units", id="yen end in nothing"),
        pytest.param("JPY", Rounding(ending=0), "JPY have no minor units", id="not even in 0"),
        pytest.param("EUR", Rounding(ending=100), "expected 0 to 99", id="more than a unit of the currency"),
        pytest.param("KWD", Rounding(ending=1000), "expected 0 to 999", id="a unit of three digits"),
        pytest.param("EUR", Rounding(ending=-1), "expected 0 to 99", id="below nothing"),
        pytest.param("EUR", Rounding(step=0), "1 minor unit or more", id="no step"),
        pytest.param("EUR", Rounding(step=-5), "1 minor unit or more", id="a step down"),
        pytest.param("EUR", Rounding(step=5, ending=99), "both", id="two wishes"),
        pytest.param("XXA", Rounding(), "unknown currency", id="no such currency"),
    ],
)
def test_a_rounding_that_makes_no_sense_is_refused(currency, rounding, why):
    for refused in (
        lambda: check_rounding(currency, rounding),
        lambda: rounding_text(currency, rounding),
        lambda: convert(Money(100, "USD"), Decimal(1), currency, rounding),
    ):
        with pytest.raises(MoneyError, match=why):
            refused()


def test_a_price_below_zero_is_not_converted():
    with pytest.raises(MoneyError, match=r"-0\.01 USD"):
        convert(Money(-1, "USD"), Decimal(1), "EUR")


@pytest.mark.parametrize(
    ("currency", "rounding", "expected"),
    [
        ("EUR", Rounding(), ""),
        ("CHF", Rounding(5), "to 0.05"),
        ("JPY", Rounding(100), "to 100"),
        ("EUR", Rounding(ending=99), "to end in .99"),
        ("EUR", Rounding(ending=5), "to end in .05"),
        ("KWD", Rounding(ending=990), "to end in .990"),
    ],
)
def test_a_rounding_is_said_in_words(currency, rounding, expected):
    assert rounding_text(currency, rounding) == expected


CURRENCIES = ["JPY", "KRW", "EUR", "USD", "CHF", "HUF", "KWD", "BHD", "CLF"]
amounts = st.integers(0, 10**9)
rates = st.integers(1, 10**9).map(lambda millionths: Decimal(millionths).scaleb(-6))
currencies = st.sampled_from(CURRENCIES)


@st.composite
def roundings(draw, currency):
    unit = 10 ** digits_of(currency)
    steps = st.integers(1, 5_000).map(Rounding)
    return draw(steps if unit == 1 else steps | st.integers(0, unit - 1).map(lambda ending: Rounding(1, ending)))


def allowed(currency: str, rounding: Rounding) -> tuple[int, int]:
    """The lowest price of a rounding and the distance to the next."""
    if rounding.ending is None:
        return rounding.step, rounding.step
    unit = 10 ** digits_of(currency)
    return rounding.ending or unit, unit


@given(amounts, currencies, rates, currencies, st.data())
def test_a_converted_price_is_the_nearest_that_the_rounding_allows(minor_units, base, rate, currency, data):
    rounding = data.draw(roundings(currency))
    result = convert(Money(minor_units, base), rate, currency, rounding).minor_units
    exact = Fraction(minor_units, 10 ** digits_of(base)) * Fraction(rate) * 10 ** digits_of(currency)
    lowest, apart = allowed(currency, rounding)
    if minor_units == 0:
        assert result == 0
        return
    assert result >= lowest > 0
    assert (result - lowest) % apart == 0
    assert exact - result < Fraction(apart, 2)
    assert result == lowest or result - exact <= Fraction(apart, 2)


@given(amounts, amounts, currencies, rates, currencies, st.data())
def test_a_higher_base_price_never_makes_a_lower_price(one, other, base, rate, currency, data):
    rounding = data.draw(roundings(currency))
    lower, higher = sorted((one, other))
    assert (
        convert(Money(lower, base), rate, currency, rounding).minor_units
        <= convert(Money(higher, base), rate, currency, rounding).minor_units
    )


@given(amounts, currencies, rates, rates, currencies, st.data())
def test_a_higher_rate_never_makes_a_lower_price(minor_units, base, one, other, currency, data):
    rounding = data.draw(roundings(currency))
    lower, higher = sorted((one, other))
    money = Money(minor_units, base)
    assert (
        convert(money, lower, currency, rounding).minor_units <= convert(money, higher, currency, rounding).minor_units
    )


@given(amounts, currencies, rates, currencies, st.data())
def test_a_rounded_price_stays_as_it_is_when_rounded_again(minor_units, base, rate, currency, data):
    rounding = data.draw(roundings(currency))
    once = convert(Money(minor_units, base), rate, currency, rounding)
    assert convert(once, Decimal(1), currency, rounding) == once


@given(amounts, currencies, rates, currencies)
def test_without_a_rounding_of_its_own_a_currency_rounds_half_up_to_its_digits(minor_units, base, rate, currency):
    exact = (Decimal(minor_units) * rate).scaleb(digits_of(currency) - digits_of(base))
    expected = int(exact.quantize(Decimal(1), rounding=ROUND_HALF_UP))
    assume(expected > 0)
    assert convert(Money(minor_units, base), rate, currency).minor_units == expected


# What markets.yaml says.


def test_whoever_reads_the_markets_knows_the_digits_that_prices_have():
    """The edges have a list of their own, because they do without the libraries of the origin."""
    priced = {currency.code for currency in Currency if currency.exponent is not None}
    assert priced <= DIGITS.keys()
    assert {currency: digits_of(currency) for currency in priced} == {code: DIGITS[code] for code in priced}


@pytest.mark.parametrize(
    ("currency", "written", "said", "base", "expected"),
    [
        ("CHF", "{round_to: 0.05}", "to 0.05", "9.29", "9.30"),
        ("JPY", "{round_to: 100}", "to 100", "929.00", "900"),
        ("HUF", "{round_to: 5}", "to 5.00", "9.29", "10.00"),
        ("SEK", "{round_to: 1}", "to 1.00", "9.29", "9.00"),
        ("KWD", "{round_to: 0.25}", "to 0.250", "9.29", "9.250"),
        ("EUR", "{ending: .99}", "to end in .99", "9.29", "8.99"),
        ("EUR", "{ending: .00}", "to end in .00", "9.29", "9.00"),
        ("KWD", "{ending: .99}", "to end in .990", "9.29", "8.990"),
    ],
)
def test_the_rounding_in_a_file_is_that_of_the_prices(tmp_path, currency, written, said, base, expected):
    text = (PACKAGED_POLICIES / "markets.yaml").read_text()
    (tmp_path / "markets.yaml").write_text(f"{text}\ncurrencies:\n  {currency}: {written}\n")
    rounding = load_markets(tmp_path).rounding_of(currency)
    assert rounding_text(currency, rounding) == said
    assert amount_text(convert(parse_amount(base, "USD"), Decimal(1), currency, rounding)) == expected
