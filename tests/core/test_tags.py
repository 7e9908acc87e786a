"""The tags that a policy adds to those of the response."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cache_policies.tags import category_tag, filled_tag, slug_tag
from edge.core.policy import CachePolicy, Match
from edge.core.tags import policy_tags
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
