"""Money: what is read, what is refused and why, and how it is shown."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from origin.money import (
    MAX_MINOR_UNITS,
    Money,
    MoneyError,
    amount_text,
    convert,
    digits_of,
    format_money,
    parse_amount,
    parse_rate,
)


@pytest.mark.parametrize(
    ("text", "currency", "minor_units"),
    [
        pytest.param("12.00", "EUR", 1200, id="two digits"),
        pytest.param("12", "EUR", 1200, id="no point"),
        pytest.param("12.5", "EUR", 1250, id="fewer digits than the currency has"),
        pytest.param("  0.04 ", "GBP", 4, id="blanks around"),
        pytest.param("0", "USD", 0, id="free"),
        pytest.param("007", "USD", 700, id="leading zeros"),
        pytest.param("1200", "JPY", 1200, id="yen have no minor unit"),
        pytest.param("1.250", "KWD", 1250, id="three digits"),
        pytest.param("90071992547409.91", "EUR", MAX_MINOR_UNITS, id="the largest"),
    ],
)
def test_an_amount_is_read_exactly(text, currency, minor_units):
    assert parse_amount(text, currency) == Money(minor_units, currency)


@pytest.mark.parametrize(
    ("text", "currency", "why"),
    [
        ("", "EUR", "empty"),
        ("   ", "EUR", "empty"),
        ("-1", "EUR", "no sign"),
        ("+1", "EUR", "no sign"),
        ("\u22121", "EUR", "no sign"),
        ("12,00", "EUR", "comma"),
        ("1,200.00", "EUR", "comma"),
        ("1 200", "EUR", "grouping"),
        ("1\u00a0200", "EUR", "grouping"),
        ("1'200", "EUR", "grouping"),
        ("1_200", "EUR", "grouping"),
        ("12.", "EUR", "both sides"),
        (".5", "EUR", "both sides"),
        ("1.2.3", "EUR", "more than one point"),
        ("1e3", "EUR", "exponent"),
        ("NaN", "EUR", "only numbers"),
        ("Infinity", "EUR", "only numbers"),
        ("€12", "EUR", "only the digits"),
        ("١٢", "EUR", "only the digits"),
        ("0x10", "EUR", "only the digits"),
        ("12.005", "EUR", "3 digits after the point, EUR has 2"),
        ("12.0", "JPY", "JPY has none"),
        ("1.2345", "KWD", "KWD has 3"),
        ("90071992547409.92", "EUR", "too much"),
        ("9" * 5000, "EUR", "too much"),
        ("12", "XXA", "unknown currency"),
        ("12", "eur", "unknown currency"),
        ("12", "XAU", "no minor unit"),
    ],
)
def test_anything_else_is_refused_with_the_reason(text, currency, why):
    with pytest.raises(MoneyError, match=why):
        parse_amount(text, currency)


def test_a_refusal_does_not_repeat_a_long_text():
    with pytest.raises(MoneyError) as refused:
        parse_amount("x" * 10_000, "EUR")
    assert len(str(refused.value)) < 200


@given(st.integers(0, MAX_MINOR_UNITS), st.sampled_from(["JPY", "EUR", "KWD", "CLF"]))
def test_what_is_written_is_read_back(minor_units, currency):
    money = Money(minor_units, currency)
    assert parse_amount(amount_text(money), currency) == money


@pytest.mark.parametrize(
    ("money", "expected"),
    [
        (Money(1200, "EUR"), "12.00"),
        (Money(5, "EUR"), "0.05"),
        (Money(1200, "JPY"), "1200"),
        (Money(1250, "KWD"), "1.250"),
        (Money(-5, "EUR"), "-0.05"),
    ],
)
def test_amount_text_has_the_digits_of_the_currency(money, expected):
    assert amount_text(money) == expected


@pytest.mark.parametrize(
    ("money", "rate", "currency", "expected"),
    [
        pytest.param(Money(1000, "USD"), "0.86", "EUR", 860, id="plain"),
        pytest.param(Money(1, "USD"), "0.5", "EUR", 1, id="half a cent goes up"),
        pytest.param(Money(3, "USD"), "0.5", "EUR", 2, id="1.5 goes up, not to even"),
        pytest.param(Money(5, "USD"), "0.5", "EUR", 3, id="2.5 goes up, not to even"),
        pytest.param(Money(3, "USD"), "0.499999999999", "EUR", 1, id="just below half"),
        pytest.param(Money(999, "USD"), "156.2", "JPY", 1560, id="into a currency without minor units"),
        pytest.param(Money(1560, "JPY"), "0.0064", "USD", 998, id="and back"),
        pytest.param(Money(1000, "USD"), "0.307", "KWD", 3070, id="into three digits"),
        pytest.param(Money(3075, "KWD"), "1", "EUR", 308, id="three digits to two, half up"),
        pytest.param(Money(0, "USD"), "0.86", "EUR", 0, id="nothing"),
        pytest.param(Money(MAX_MINOR_UNITS, "USD"), "0.999999999999", "EUR", 9007199254731984, id="no digit is lost"),
    ],
)
def test_conversion_rounds_half_up_once(money, rate, currency, expected):
    assert convert(money, Decimal(rate), currency) == Money(expected, currency)


@pytest.mark.parametrize("rate", ["0", "-1", "NaN", "Infinity"])
def test_a_rate_must_be_a_number_above_zero(rate):
    with pytest.raises(MoneyError, match="above zero"):
        convert(Money(1, "EUR"), Decimal(rate), "USD")


def test_a_conversion_that_would_be_too_much_is_refused():
    with pytest.raises(MoneyError, match="too much"):
        convert(Money(MAX_MINOR_UNITS, "USD"), Decimal(2), "EUR")


@pytest.mark.parametrize("text", ["", "1,5", "-1", "1e3", "0", "0.000", "NaN", ".5", "1" * 13, "0." + "1" * 13])
def test_a_rate_that_is_not_plain_is_refused(text):
    with pytest.raises(MoneyError, match="rate"):
        parse_rate(text)


def test_a_plain_rate_is_read_exactly():
    assert parse_rate(" 0.864250 ") == Decimal("0.86425")


@pytest.mark.parametrize(
    ("money", "language", "expected"),
    [
        (Money(120000, "EUR"), "de", "1.200,00 €"),
        (Money(120000, "EUR"), "en-IE", "€1,200.00"),
        (Money(120000, "USD"), "en-US", "$1,200.00"),
        (Money(120000, "USD"), "en_US", "$1,200.00"),
        (Money(120000, "GBP"), "en-GB", "£1,200.00"),
        (Money(1200, "JPY"), "ja", "¥1,200"),
        (Money(1250, "KWD"), "en-US", "KWD 1.250"),
        (Money(5, "EUR"), "de", "0,05 €"),
    ],
)
def test_money_is_shown_in_the_reader_s_language(money, language, expected):
    shown = format_money(money, language)
    assert shown.replace("\u00a0", " ").replace("\u202f", " ") == expected


def test_an_unknown_language_is_named():
    with pytest.raises(MoneyError, match="tlh"):
        format_money(Money(1, "EUR"), "tlh")


@pytest.mark.parametrize(("currency", "digits"), [("JPY", 0), ("EUR", 2), ("KWD", 3), ("CLF", 4)])
def test_digits_come_from_iso_4217(currency, digits):
    assert digits_of(currency) == digits
