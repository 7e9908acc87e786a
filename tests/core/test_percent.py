"""Percent-encoding agrees with the standard library's, which the edges do without."""

from __future__ import annotations

from urllib.parse import quote, unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache_policies.percent import percent_decoded, percent_encoded


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_encoding_is_that_of_the_standard_library(text):
    assert percent_encoded(text) == quote(text, safe="")


@given(st.text("%0aFg/é+ ", max_size=12))
def test_decoding_is_that_of_the_standard_library(text):
    assert percent_decoded(text.encode()) == unquote_to_bytes(text)


@pytest.mark.parametrize(("text", "encoded"), [("", ""), ("a~._-9Z", "a~._-9Z"), ("é /", "%C3%A9%20%2F"), ("%", "%25")])
def test_one_spelling(text, encoded):
    assert percent_encoded(text) == encoded


def test_what_is_no_text_is_refused():
    with pytest.raises(UnicodeEncodeError):
        percent_encoded("\ud800")
