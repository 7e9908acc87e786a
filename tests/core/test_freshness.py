"""Freshness lifetime and age (RFC 9111 §4.2)."""

from dataclasses import replace
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.core.directives import Directives, response_directives
from edge.core.freshness import (
    Lifetimes,
    current_age,
    http_date,
    initial_age,
    lifetimes,
    parse_age,
    parse_http_date,
    proposed_freshness,
)
from edge.core.http import Headers
from edge.core.policy import CachePolicy
from tests.support.builders import DATE, DATE_S, PAGE, stored

LATER = "Sat, 21 Nov 2026 12:05:00 GMT"


@pytest.mark.parametrize(
    ("fields", "expected_s"),
    [
        pytest.param([], None, id="silent"),
        pytest.param([("cache-control", "max-age=60")], 60, id="max-age"),
        pytest.param([("cache-control", "max-age=60, s-maxage=600")], 600, id="s-maxage wins in a shared cache"),
        pytest.param([("cache-control", "max-age=60, max-age=5")], 60, id="the first of duplicates"),
        pytest.param([("cdn-cache-control", "max-age=5"), ("cache-control", "s-maxage=600")], 5, id="targeted wins"),
        pytest.param([("cdn-cache-control", "max-age=5, s-maxage=9")], 9, id="s-maxage in a targeted field, too"),
        pytest.param(
            [("cdn-cache-control", "public"), ("expires", LATER), ("date", DATE)], None, id="targeted replaces Expires"
        ),
        pytest.param([("expires", LATER), ("date", DATE)], 300, id="Expires minus Date"),
        pytest.param([("expires", DATE), ("date", LATER)], 0, id="Expires before Date"),
        pytest.param([("expires", LATER)], 0, id="Expires without Date"),
        pytest.param([("expires", "0"), ("date", DATE)], 0, id="Expires: 0"),
        pytest.param([("expires", LATER), ("expires", LATER), ("date", DATE)], 0, id="Expires twice"),
        pytest.param(
            [("cache-control", "max-age=60"), ("expires", "0"), ("date", DATE)], 60, id="max-age beats Expires"
        ),
        pytest.param(
            [("cache-control", "max-age=x"), ("expires", LATER), ("date", DATE)], 0, id="unreadable means stale"
        ),
    ],
)
def test_freshness_that_the_origin_proposes(fields, expected_s):
    headers = Headers(fields)
    assert proposed_freshness(headers, response_directives(headers)) == expected_s


@pytest.mark.parametrize(
    ("status", "cache_control", "expected"),
    [
        pytest.param(200, "", Lifetimes(60, 30, 1000), id="silent: the policy's own"),
        pytest.param(200, "max-age=300", Lifetimes(300, 30, 1000), id="below the ceiling"),
        pytest.param(200, "max-age=9999", Lifetimes(600, 30, 1000), id="the policy caps"),
        pytest.param(
            200, "max-age=5, stale-while-revalidate=9, stale-if-error=0", Lifetimes(5, 9, 0), id="smaller windows"
        ),
        pytest.param(200, "max-age=5, stale-while-revalidate=99", Lifetimes(5, 30, 1000), id="windows are capped"),
        pytest.param(200, "max-age=5, must-revalidate", Lifetimes(5, 0, 0), id="must-revalidate: never stale"),
        pytest.param(200, "s-maxage=5", Lifetimes(5, 0, 0), id="s-maxage: never stale (RFC 9111 §5.2.2.10)"),
        pytest.param(200, "max-age=5, no-cache", Lifetimes(0, 0, 0), id="no-cache: kept to be validated"),
        pytest.param(404, "", Lifetimes(10, 0, 0), id="an error answer by negative_s"),
        pytest.param(404, "max-age=300", Lifetimes(10, 0, 0), id="capped by it"),
        pytest.param(404, "max-age=3", Lifetimes(3, 0, 0), id="or shorter"),
        pytest.param(404, "no-cache", Lifetimes(0, 0, 0), id="an error answer with no-cache"),
    ],
)
def test_the_origin_proposes_and_the_policy_caps(status, cache_control, expected):
    headers = Headers([("cache-control", cache_control)])
    assert lifetimes(status, headers, response_directives(headers), PAGE) == expected


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        pytest.param("max-age=5", Lifetimes(5, 0, 0), id="silent: nothing is served stale"),
        pytest.param("max-age=5, stale-while-revalidate=9, stale-if-error=8", Lifetimes(5, 9, 8), id="as it says"),
        pytest.param("max-age=5, stale-while-revalidate=999, stale-if-error=999", Lifetimes(5, 90, 80), id="capped"),
    ],
)
def test_stale_windows_with_a_ceiling_and_no_default(said, expected):
    policy = CachePolicy("a", "/a", max_fresh_s=60, max_stale_while_revalidate_s=90, max_stale_if_error_s=80)
    headers = Headers([("cache-control", said)])
    assert lifetimes(200, headers, response_directives(headers), policy) == expected


MODIFIED = "Sat, 21 Nov 2026 10:00:00 GMT"
LONG_AGO = "Sat, 21 Nov 2020 12:00:00 GMT"
GUESSING = replace(PAGE, fresh_s=0.0, heuristic_percent=10)


@pytest.mark.parametrize(
    ("status", "fields", "expected_s"),
    [
        pytest.param(200, {"last-modified": MODIFIED}, 720, id="a tenth of two hours (RFC 9111 §4.2.2)"),
        pytest.param(200, {"last-modified": LONG_AGO}, 86_400, id="a day at the most"),
        pytest.param(200, {"last-modified": LATER}, 0, id="modified in its future"),
        pytest.param(200, {}, 0, id="nobody knows when it was modified"),
        pytest.param(200, {"last-modified": MODIFIED, "date": "today"}, 0, id="nor when it was made"),
        pytest.param(200, {"last-modified": MODIFIED, "cache-control": "max-age=5"}, 5, id="what is said counts"),
        pytest.param(200, {"last-modified": MODIFIED, "expires": "0"}, 0, id="also that it is stale"),
        pytest.param(200, {"last-modified": MODIFIED, "cache-control": "no-cache"}, 0, id="no-cache"),
        pytest.param(203, {"last-modified": MODIFIED}, 720, id="cacheable by default (RFC 9110 §15.1)"),
        pytest.param(404, {"last-modified": MODIFIED}, 10, id="where the policy says how long, it does"),
        pytest.param(410, {"last-modified": MODIFIED}, 720, id="410"),
        pytest.param(302, {"last-modified": MODIFIED}, 0, id="302 is not cacheable by default"),
        pytest.param(302, {"last-modified": MODIFIED, "cache-control": "public"}, 720, id="but public"),
        pytest.param(299, {"last-modified": MODIFIED, "cache-control": "public"}, 720, id="so is an unknown one"),
        pytest.param(500, {"last-modified": MODIFIED, "cache-control": "public"}, 0, id="a failure never"),
        pytest.param(501, {"last-modified": MODIFIED}, 0, id="501 neither, though by default it might"),
    ],
)
def test_freshness_that_is_guessed(status, fields, expected_s):
    headers = Headers({"date": DATE, **fields}.items())
    assert lifetimes(status, headers, response_directives(headers), GUESSING).fresh_s == expected_s


def test_nothing_is_guessed_where_the_policy_does_not_say_so():
    headers = Headers([("date", DATE), ("last-modified", MODIFIED)])
    assert lifetimes(200, headers, Directives(), replace(PAGE, fresh_s=0.0)).fresh_s == 0.0
    assert lifetimes(200, headers, Directives(), replace(GUESSING, fresh_s=7.0)).fresh_s == 7.0


@pytest.mark.parametrize(
    ("status", "cache_control", "expected_s"),
    [
        (200, "max-age=5", 9.0),
        (200, "max-age=5, stale-if-error=0", 9.0),
        (200, "max-age=5, must-revalidate", 0.0),
        (200, "max-age=5, proxy-revalidate", 0.0),
        (200, "no-cache", 0.0),
        (200, "s-maxage=5", 0.0),
        (404, "max-age=5", 0.0),
        (503, "max-age=5", 0.0),
    ],
)
def test_how_long_it_is_shown_when_the_origin_is_out_of_reach(status, cache_control, expected_s):
    headers = Headers([("cache-control", cache_control)])
    policy = replace(PAGE, stale_if_unreachable_s=9.0)
    assert lifetimes(status, headers, response_directives(headers), policy).stale_if_unreachable_s == expected_s


@pytest.mark.parametrize(
    ("age", "expected_s"),
    [
        ("7", 7), (" 7 ", 7), ("7, 9", 7), ("0", 0), ("7.0", 0), ("-1", 0), ("abc", 0), ("", 0), ("², 3", 0),
        ("99999999999", 2**31), ("4294967296", 2**31),
    ],
)  # fmt: skip
def test_the_age_field(age, expected_s):
    assert parse_age(Headers([("age", age)])) == expected_s


def test_of_two_age_lines_the_first_counts():
    assert parse_age(Headers([("age", "5"), ("age", "9")])) == 5


@pytest.mark.parametrize(
    ("fields", "expected_s"),
    [
        pytest.param([], 2, id="the forward delay"),
        pytest.param([("age", "30")], 32, id="Age and the forward delay"),
        pytest.param([("date", DATE)], 10, id="ten seconds since Date"),
        pytest.param([("date", DATE), ("age", "30")], 32, id="the larger of both"),
        pytest.param([("date", LATER)], 2, id="an origin whose clock runs ahead"),
        pytest.param([("date", "yesterday")], 2, id="a Date that is none"),
        pytest.param([("date", "Sat, 21 Nov 1026 12:00:00 GMT")], 2**31, id="a Date of a thousand years ago saturates"),
        pytest.param([("age", "99999999999")], 2**31, id="and so does Age"),
    ],
)
def test_initial_age(fields, expected_s):
    assert initial_age(Headers(fields), sent_at=98.0, received_at=100.0, wall_now=DATE_S + 10) == expected_s


def test_current_age_goes_on_from_the_initial_age_and_never_back():
    response = stored(initial_age_s=7.0, stored_at=100.0)
    assert current_age(response, 105.5) == 12.5
    assert current_age(response, 99.0) == 7.0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Sat, 21 Nov 2026 12:00:00 UTC",
        "Sat, 21 Nov 2026 12:00:00 AEST",
        "Sat, 21 Nov 2026 12:00:00",
        "Sat 21 Nov 2026 12:00:00 GMT",
        "Sat, 21-Nov-2026 12:00:00 GMT",
        "Sat, 21-Nov-26 12:00:00 GMT",
        "Saturday, 21-Nov-2026 12:00:00 GMT",
        "Saturday, 21 Nov 26 12:00:00 GMT",
        "Sat Nov 21 12:00:00 2026 GMT",
        "Sat Nov  21 12:00:00 2026",
        "Sat Nov 1 12:00:00 2026",
        "Sat, 21 Nov 26 12:00:00 GMT",
        "Sat, 21 Nov 2026 2:00:00 GMT",
        "Sat, 21  Nov 2026 12:00:00 GMT",
        "sat, 21 nov 2026 12:00:00 gmt",
        "Sat, 31 Feb 2026 12:00:00 GMT",
        "Sat, 21 Nov 2026 24:00:00 GMT",
        "Sat, 21 Nov 2026 12:60:00 GMT",
        "Sat, 21 Nov 2026 12:00:00 GMT ",
        "Sat, ２１ Nov 2026 12:00:00 GMT",
        "1795262400",
    ],
)
def test_a_date_in_any_other_form_is_none(text):
    assert parse_http_date(text) is None


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("Sunday, 06-Nov-94 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ("Saturday, 21-Nov-26 12:00:00 GMT", "Sat, 21 Nov 2026 12:00:00 GMT"),
        ("Wednesday, 31-Dec-69 23:59:59 GMT", "Tue, 31 Dec 2069 23:59:59 GMT"),
        ("Thursday, 01-Jan-70 00:00:00 GMT", "Thu, 01 Jan 1970 00:00:00 GMT"),
        ("Sun Nov  6 08:49:37 1994", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ("Sat Nov 21 12:00:00 2026", "Sat, 21 Nov 2026 12:00:00 GMT"),
    ],
)
def test_the_two_obsolete_forms_are_dates(text, same):
    assert parse_http_date(text) == parse_http_date(same) is not None


def test_a_leap_second_is_a_date():
    assert parse_http_date("Sat, 31 Dec 2016 23:59:60 GMT") == 1_483_228_800


@given(st.integers(min_value=0, max_value=253_402_300_799))
def test_dates_as_the_standard_library_writes_them(seconds):
    assert parse_http_date(formatdate(seconds, usegmt=True)) == seconds
    assert http_date(seconds) == formatdate(seconds, usegmt=True)
