"""Lists of strings (RFC 9651 §3.1): groups of responses (RFC 9875). Dictionaries are in test_directives.py."""

from typing import Any

import http_sf
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.core.structured import parse_strings


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('"a"', ("a",)),
        ('"a", "b c" ,\t"d"', ("a", "b c", "d")),
        (r'"a\"b\\c"', ('a"b\\c',)),
        ('"a";x=1;y, "b"', ("a", "b")),
        ('""', ("",)),
        ("", ()),
        ("  ", ()),
        ("a", None),
        ('"a", b', None),
        ('"a", 1', None),
        ('("a" "b")', None),
        ('"a",', None),
        ('"a" "b"', None),
        ('"a', None),
        ('"\x7f"', None),
        ('%"a"', None),
    ],
)
def test_a_list_of_strings(text, expected):
    assert parse_strings(text) == expected


@given(st.text(alphabet='ab*-_.=,;() "\\?01:@%xA~5\t', max_size=24))
def test_it_parses_exactly_where_another_parser_finds_strings_alone(text):
    try:
        theirs: Any = http_sf.parse(text.encode(), tltype="list") if text.strip(" ") else []
    except http_sf.StructuredFieldError:
        theirs = None
    if theirs is not None and not all(type(value) is str for value, _ in theirs):
        theirs = None
    assert parse_strings(text) == (None if theirs is None else tuple(value for value, _ in theirs))
