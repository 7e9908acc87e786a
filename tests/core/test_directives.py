"""Cache-Control and CDN-Cache-Control, read the way that keeps less where they are ambiguous."""

from typing import Any

import http_sf
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.core.directives import MAX_DELTA_S, Directives, parse_cache_control, response_directives
from edge.core.http import Headers
from edge.core.structured import parse_dictionary


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        pytest.param([], Directives(), id="nothing"),
        pytest.param(["max-age=60"], Directives(max_age_s=60), id="max-age"),
        pytest.param(
            ["Max-Age=60, NO-CACHE"], Directives(max_age_s=60, no_cache=True), id="names without regard to case"
        ),
        pytest.param(['max-age="60"'], Directives(max_age_s=60), id="a quoted number is a number"),
        pytest.param(["max-age='60'"], Directives(max_age_s=0), id="single quotes do not quote: stale"),
        pytest.param(["max-age=1.5"], Directives(max_age_s=0), id="a fraction is stale"),
        pytest.param(["max-age=-1"], Directives(max_age_s=0), id="a negative lifetime is stale"),
        pytest.param(["max-age"], Directives(max_age_s=0), id="a lifetime without a number is stale"),
        pytest.param(["max-age=²"], Directives(max_age_s=0), id="a digit that is not ASCII is stale"),
        pytest.param(["max-age=99999999999"], Directives(max_age_s=MAX_DELTA_S), id="huge saturates"),
        pytest.param(["max-age=9999999999"], Directives(max_age_s=MAX_DELTA_S), id="ten digits saturate"),
        pytest.param(["max-age=60, max-age=5"], Directives(max_age_s=60), id="the first of duplicates"),
        pytest.param(["max-age=60", "max-age=5"], Directives(max_age_s=60), id="the first over several lines"),
        pytest.param(["no-store, max-age=60"], Directives(no_store=True, max_age_s=60), id="both are known"),
        pytest.param(
            ['private="x-a, no-store"'], Directives(private=True), id="field names make it private, and only that"
        ),
        pytest.param(['no-cache="set-cookie"'], Directives(no_cache=True), id="field names make it no-cache"),
        pytest.param(
            ["public;max-age=9, s-maxage=5"], Directives(s_maxage_s=5), id="what is no directive is passed over"
        ),
        pytest.param([", ,max-age=7,,"], Directives(max_age_s=7), id="empty members"),
        pytest.param(["max-age = 7"], Directives(max_age_s=0), id="blanks around the equals sign"),
        pytest.param(
            ['ext="max-age=9, no-store", max-age=7'], Directives(max_age_s=7), id="inside quotes nothing counts"
        ),
        pytest.param(['ext="never closed, max-age=9'], Directives(), id="an open quote takes the rest with it"),
        pytest.param(
            ["no-store, must-understand"], Directives(no_store=True, must_understand=True), id="both are said"
        ),
        pytest.param(["nostore"], Directives(), id="unknown names are ignored"),
        pytest.param(
            ["stale-while-revalidate=30, stale-if-error=x, public, must-revalidate, proxy-revalidate"],
            Directives(
                stale_while_revalidate_s=30,
                stale_if_error_s=0,
                public=True,
                must_revalidate=True,
                proxy_revalidate=True,
            ),
            id="stale windows",
        ),
    ],
)
def test_cache_control(lines, expected):
    assert parse_cache_control(lines) == expected


@pytest.mark.parametrize(
    ("cdn", "expected"),
    [
        pytest.param("max-age=300, stale-while-revalidate=60", (300, 60), id="lifetimes"),
        pytest.param("max-age=300;x=1, stale-while-revalidate=60;y", (300, 60), id="parameters do not matter"),
        pytest.param("max-age=5, max-age=300", (300, None), id="the last of duplicates (RFC 9651)"),
        pytest.param('max-age="300", stale-while-revalidate=60', (None, 60), id="a string is no lifetime"),
        pytest.param("max-age=1.5", (None, None), id="a decimal is no lifetime"),
        pytest.param("max-age=-5", (0, None), id="below zero is zero"),
        pytest.param("max-age", (None, None), id="true is no lifetime"),
    ],
)
def test_a_targeted_field_replaces_cache_control(cdn, expected):
    found = response_directives(Headers([("cache-control", "max-age=9, no-store"), ("cdn-cache-control", cdn)]))
    assert found.targeted
    assert not found.no_store
    assert (found.max_age_s, found.stale_while_revalidate_s) == expected


@pytest.mark.parametrize(
    "cdn",
    ["", "  ", "max-age=300,", "Max-Age=300", "max-age=300 s-maxage=5", "max-age=", "max-age=300, 5", 'a="', "a=(1"],
)
def test_a_targeted_field_that_does_not_parse_is_ignored_whole(cdn):
    found = response_directives(Headers([("cdn-cache-control", cdn), ("cache-control", "max-age=9")]))
    assert found == Directives(max_age_s=9)


@pytest.mark.parametrize(
    ("cdn", "expected"),
    [("no-store", True), ("no-store=?1", True), ("no-store=1", True), ('no-store="x"', True), ("no-store=?0", False)],
)
def test_what_forbids_counts_with_any_value_but_false(cdn, expected):
    assert response_directives(Headers([("cdn-cache-control", cdn)])).no_store is expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param(
            {"nearshelf-cache-control": "max-age=1", "cdn-cache-control": "max-age=2"}, 1, id="our own name first"
        ),
        pytest.param({"nearshelf-cache-control": "max-age=", "cdn-cache-control": "max-age=2"}, 2, id="if it is valid"),
        pytest.param({"nearshelf-cache-control": "", "cdn-cache-control": "max-age=2"}, 2, id="and not empty"),
        pytest.param(
            {"nearshelf-cache-control": "public", "cdn-cache-control": "max-age=2"}, None, id="it replaces all"
        ),
        pytest.param({"cdn-cache-control": "max-age=2, &"}, 3, id="what does not parse is ignored whole"),
        pytest.param({"cdn-cache-control": 'max-age="2"'}, None, id="another type does not count"),
        pytest.param({"cdn-cache-control": "max-age=1.5"}, None, id="nor does a fraction"),
        pytest.param({"cdn-cache-control": "max-age=1, max-age=2"}, 2, id="the last of equal keys (RFC 9651 §3.2)"),
    ],
)
def test_the_first_valid_targeted_field_counts(fields, expected):
    headers = Headers([*fields.items(), ("cache-control", "max-age=3, max-age=4")])
    assert response_directives(headers).max_age_s == expected


@pytest.mark.parametrize(
    ("said", "expected"),
    [("public", True), ("must-revalidate", True), ("s-maxage=0", True), ("max-age=9, proxy-revalidate", False)],
)
def test_what_lets_the_answer_to_an_authorised_request_be_shared(said, expected):
    assert parse_cache_control([said]).shares_authorised is expected
    assert response_directives(Headers([("cdn-cache-control", said)])).shares_authorised is expected


def test_several_lines_are_one_dictionary():
    headers = Headers([("cdn-cache-control", "max-age=5"), ("cdn-cache-control", "no-cache")])
    assert response_directives(headers) == Directives(max_age_s=5, no_cache=True, targeted=True)


@pytest.mark.parametrize("said", ["no-cache", "must-revalidate", "proxy-revalidate", "s-maxage=5"])
def test_what_forbids_serving_stale(said):
    assert parse_cache_control([said]).forbids_stale
    assert not parse_cache_control(["max-age=5"]).forbids_stale


_TEXT = st.text(alphabet='ab*-_.=,;() "\\?01:@%xA~5\t', max_size=24)


@given(_TEXT)
def test_a_dictionary_parses_exactly_where_another_parser_says_so(text):
    try:
        theirs: Any = http_sf.parse(text.encode(), tltype="dictionary") if text.strip(" ") else {}
    except http_sf.StructuredFieldError:
        theirs = None
    ours = parse_dictionary(text)
    assert (ours is None) == (theirs is None)
    if ours is not None and theirs is not None:
        assert list(ours) == list(theirs)
        for name, (value, _) in theirs.items():
            if type(value) in {bool, int}:
                assert ours[name] == value
                assert type(ours[name]) is type(value)


@given(st.text(max_size=60))
def test_cache_control_takes_any_text(text):
    found = parse_cache_control([text])
    assert found.max_age_s is None or 0 <= found.max_age_s <= MAX_DELTA_S
