"""The tags that a policy adds to those of the response."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache_policies.positions import Position
from cache_policies.tags import EVERYTHING, category_tag, filled_tag, path_tag, site_tag, slug_tag
from edge.core.http import Headers
from edge.core.policy import CachePolicy, Match
from edge.core.storing import Label, label_of
from edge.core.tags import field_tags, policy_tags
from edge.gateway.purges import BadOrder, order_of
from tests.support.builders import PAGE, match

PRODUCT = "/{market}/products/{slug}"
CATEGORY = "/{market}/c/{category...}"


def tags_of(pattern: str, path: str, *templates: str) -> tuple[str, ...]:
    return policy_tags(Match(CachePolicy("a", pattern, tags=templates), path, "eu-eur"))


@pytest.mark.parametrize(
    ("pattern", "path", "template", "expected"),
    [
        pytest.param(PRODUCT, "/eu-eur/products/boot", "page:product", "page:product", id="nothing to fill in"),
        pytest.param(PRODUCT, "/eu-eur/products/boot", "s:{market}:{slug}", "s:eu-eur:boot", id="two names"),
        pytest.param(PRODUCT, "/eu-eur/products/Boot", "s:{slug}", "s:boot", id="lower case"),
        pytest.param(
            PRODUCT, "/eu-eur/products/B%C3%84R,%20X", "s:{slug}", "s:b%c3%a4r%2c%20x", id="spelled as tags are"
        ),
        pytest.param(PRODUCT, "/eu-eur/products/a%25b", "s:{slug}", "s:a%25b", id="a percent sign in the name"),
        pytest.param(PRODUCT, "/eu-eur/products/%FF", "s:{slug}", "s:%ef%bf%bd", id="not UTF-8"),
        pytest.param(
            CATEGORY, "/eu-eur/c/shoes/boots", "cat:{category}", "cat:shoes%2fboots", id="the rest of the path"
        ),
        pytest.param(PRODUCT, "/eu-eur/products/%7Bmarket%7D", "s:{slug}", "s:%7bmarket%7d", id="a name like a name"),
    ],
)
def test_a_template_is_filled_with_what_the_path_captured(pattern, path, template, expected):
    assert tags_of(pattern, path, template) == (expected,)


def test_it_is_the_spelling_of_the_origin():
    assert tags_of(PRODUCT, "/eu-eur/products/B%C3%84R", "s:{market}:{slug}") == (slug_tag("eu-eur", "BÄR"),)
    assert tags_of(CATEGORY, "/eu-eur/c/A/%C3%9Cb", "c:{market}:{category}") == (category_tag("eu-eur", "A/Üb"),)


def test_each_once_in_their_order():
    assert tags_of(PRODUCT, "/eu-eur/products/b", "page", "s:{slug}", "s:b", "page") == ("page", "s:b")


def test_most_policies_add_none():
    assert policy_tags(match(PAGE)) == ()
    assert policy_tags(match(replace(PAGE, tags=("x",)))) == ("x",)


def test_a_name_that_is_not_captured_is_no_tag():
    with pytest.raises(KeyError, match="slog"):
        filled_tag("s:{slog}", {"slug": "boot"})


# --- names that an origin makes up, and what a person types ---


@given(st.binary())
def test_a_name_of_an_origin_can_stand_in_a_list_and_comes_back_unchanged(name):
    tag = site_tag(name)
    assert tag.isascii()
    assert tag == tag.lower()
    assert tag != EVERYTHING
    assert not set(tag) & set(" ,*\t\r\n")
    assert site_tag(tag.encode()) == tag
    assert site_tag(name.upper()) == site_tag(name.lower()) == tag


@given(st.text(st.characters(exclude_characters=",*", exclude_categories=("C", "Z")), min_size=1, max_size=60))
@pytest.mark.parametrize("field", ["cache-tag", "surrogate-key"])
def test_what_a_person_types_is_what_the_origin_sends_in_utf8(field, name):
    sent = Headers([(field, f"first, {name.encode().decode('latin-1')}")])
    label = label_of(sent, match(PAGE), Position(1, 7))
    assert isinstance(label, Label)
    assert order_of({"tags": [name]}).tags[0] in label.tags


@given(st.text(st.sampled_from("aB*,% é/"), max_size=20))
def test_a_path_that_a_person_types_names_what_is_stored_under_it(name):
    try:
        (tag,) = order_of({"paths": [f"/{name}"]}).tags
    except BadOrder:
        return
    assert tag == site_tag(tag.encode())


def test_two_spellings_of_a_name():
    assert field_tags(["CAF\xc3\xa9", "a*b", "", "\u20ac"]) == ["caf%c3%a9", "a%2ab", "?"]
    assert path_tag("/a*B,c") == "path:/a%2ab%2cc"
    assert order_of({"tags": ["Café", "path:/Café"]}).tags == ("caf%c3%a9", "path:/caf%c3%a9")
    assert order_of({"paths": ["/Café", "/a%2Ab"]}).tags == ("path:/caf%c3%a9", "path:/a%2ab")


@pytest.mark.parametrize(
    ("order", "said"),
    [
        ({"tags": ["a,b"]}, "not one tag: commas separate tags.*repeat --tag.*%2c"),
        ({"tags": ["a b"]}, "in Surrogate-Key blanks do.*%20"),
        ({"tags": ["a\nb"]}, "controls that no field carries"),
        ({"tags": ["a\x7f"]}, "controls"),
        ({"tags": ["  "]}, "not a tag: it is empty"),
        ({"tags": ["product-*"]}, "no wildcards.*%2a"),
        ({"tags": ["path:/product/*"]}, "no wildcards"),
        ({"paths": ["/product/*"]}, "no wildcards.*--all.*%2A"),
        ({"paths": ["*"]}, "no wildcards"),
        ({"paths": ["http://a.example/*"]}, "no wildcards"),
    ],
)
def test_what_can_never_find_anything_is_refused(order, said):
    with pytest.raises(BadOrder, match=said):
        order_of(order)
