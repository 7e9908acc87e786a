"""One spelling for every path and query, and a forwarded target that is read back as the same key."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.core.http import Request
from edge.core.key import (
    BadTarget,
    CacheKey,
    TargetFault,
    cache_key,
    dropped_parameters,
    forward_target,
    normalise_path,
    normalise_query,
)
from edge.core.policy import ALL_QUERY, CachePolicy, PolicySet
from tests.support.builders import MARKETS

CATEGORY = CachePolicy("category", "/{market}/c/{category...}", query=("sort", "page"))
REST = CachePolicy("rest", "/{rest...}", store=False, query=ALL_QUERY)
POLICIES = PolicySet([CATEGORY, REST], MARKETS)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        pytest.param("/", "/", id="the root"),
        pytest.param("/eu-eur/c/shoes", "/eu-eur/c/shoes", id="plain"),
        pytest.param("/a/", "/a/", id="a slash at the end stays"),
        pytest.param("/a!$&'()*+,;=:@b~_-.c", "/a!$&'()*+,;=:@b~_-.c", id="what may stand there"),
        pytest.param("/%61%7E%2d", "/a~-", id="unreserved characters are never encoded"),
        pytest.param("/%c3%a9", "/%C3%A9", id="capitals"),
        pytest.param("/%21", "/%21", id="reserved characters keep their meaning"),
        pytest.param("/%2525", "/%2525", id="decoded once only"),
        pytest.param("/a|b[c]^`", "/a%7Cb%5Bc%5D%5E%60", id="what browsers leave raw"),
        pytest.param("/...", "/...", id="three dots are a name"),
        pytest.param("/.well-known/x", "/.well-known/x", id="a name that starts with a dot"),
        pytest.param("/%2ea", "/.a", id="an encoded dot in a name"),
    ],
)
def test_paths_have_one_spelling(path, expected):
    assert normalise_path(path) == expected


@pytest.mark.parametrize(
    ("path", "fault"),
    [
        ("", TargetFault.NOT_A_PATH),
        ("*", TargetFault.NOT_A_PATH),
        ("http://evil.example/", TargetFault.NOT_A_PATH),
        ("/a/../b", TargetFault.DOT_SEGMENT),
        ("/a/.", TargetFault.DOT_SEGMENT),
        ("/%2e%2E/b", TargetFault.DOT_SEGMENT),
        ("/.%2e", TargetFault.DOT_SEGMENT),
        ("//evil.example", TargetFault.EMPTY_SEGMENT),
        ("/a//b", TargetFault.EMPTY_SEGMENT),
        ("/a//", TargetFault.EMPTY_SEGMENT),
        ("/a%2fb", TargetFault.ENCODED_SLASH),
        ("/a%5Cb", TargetFault.ENCODED_SLASH),
        ("/a\\b", TargetFault.BAD_CHARACTER),
        ("/a b", TargetFault.BAD_CHARACTER),
        ("/a\x00", TargetFault.BAD_CHARACTER),
        ("/a\n", TargetFault.BAD_CHARACTER),
        ("/a#b", TargetFault.BAD_CHARACTER),
        ("/é", TargetFault.BAD_CHARACTER),
        ("/%00", TargetFault.ENCODED_CONTROL),
        ("/%0d%0aX", TargetFault.ENCODED_CONTROL),
        ("/%7f", TargetFault.ENCODED_CONTROL),
        ("/%", TargetFault.BAD_ENCODING),
        ("/%zz", TargetFault.BAD_ENCODING),
        ("/%4", TargetFault.BAD_ENCODING),
    ],
)
def test_paths_that_two_readers_read_differently_are_refused(path, fault):
    with pytest.raises(BadTarget) as caught:
        normalise_path(path)
    assert caught.value.fault is fault


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        pytest.param("", (), id="none"),
        pytest.param("utm_source=mail", (), id="what does not count"),
        pytest.param("page=2&sort=price", (("sort", "price"), ("page", "2")), id="in the policy's order"),
        pytest.param("a=1&page=2&&b", (("page", "2"),), id="among others"),
        pytest.param("sort", (("sort", ""),), id="without a value"),
        pytest.param("sort=", (("sort", ""),), id="an empty value"),
        pytest.param("sort=a=b", (("sort", "a=b"),), id="an equals sign in the value"),
        pytest.param("so%72t=a+b%20c", (("sort", "a b c"),), id="decoded"),
        pytest.param("sort=%C3%A9", (("sort", "é"),), id="UTF-8"),
        pytest.param("sort=a%26page%3D3", (("sort", "a&page=3"),), id="encoded separators are text"),
        pytest.param("Sort=a", (), id="names by case"),
        pytest.param("sort[]=a&%ff=1&%zz=2", (), id="names that are nothing we know"),
        pytest.param("x=1&x=2", (), id="repeated, but does not count"),
        pytest.param("x=%00%ff%", (), id="a value that nobody reads"),
    ],
)
def test_queries_have_one_spelling(query, expected):
    assert normalise_query(query, ("sort", "page")) == expected


@pytest.mark.parametrize(
    ("query", "fault"),
    [
        ("sort=a&sort=b", TargetFault.REPEATED_PARAMETER),
        ("sort=a&sort=a", TargetFault.REPEATED_PARAMETER),
        ("sort=a&s%6frt=b", TargetFault.REPEATED_PARAMETER),
        ("sort=%", TargetFault.BAD_ENCODING),
        ("sort=%ff", TargetFault.BAD_ENCODING),
        ("sort=%0a", TargetFault.ENCODED_CONTROL),
        ("sort=a\x00", TargetFault.ENCODED_CONTROL),
        ("sort=é", TargetFault.BAD_CHARACTER),
    ],
)
def test_a_parameter_that_counts_must_be_readable_and_there_once(query, fault):
    with pytest.raises(BadTarget) as caught:
        normalise_query(query, ("sort", "page"))
    assert caught.value.fault is fault


@pytest.mark.parametrize(
    ("query", "dropped"),
    [
        ("", ()),
        ("page=2", ()),
        ("utm_source=a&page=2&gclid", ("utm_source", "gclid")),
        ("%70age=2&PAGE=3&&", ("PAGE",)),
        ("a=1&a=2", ("a", "a")),
        ("%FF=1", ("%FF",)),
    ],
)
def test_parameters_that_do_not_count_are_named(query, dropped):
    assert dropped_parameters(query, ("sort", "page")) == dropped


def test_nothing_is_dropped_where_the_query_passes_as_received():
    assert dropped_parameters("a=1&b", ALL_QUERY) == ()


def test_an_unstored_route_passes_its_query_as_received():
    assert normalise_query("q=a%20b&q=c&%zz", ALL_QUERY) == (("*", "q=a%20b&q=c&%zz"),)


@pytest.mark.parametrize("query", ["a b", "a\r\nX: y", "a#b", "é", '"', "<"])
def test_but_not_what_no_url_may_hold(query):
    with pytest.raises(BadTarget):
        normalise_query(query, ALL_QUERY)


def key_of(path: str, query: str) -> CacheKey:
    return cache_key(Request("GET", "shop.example", path, query), POLICIES.match(normalise_path(path)))


def test_the_key_says_authority_path_parameters_and_market():
    assert key_of("/eu-eur/c/a", "x=1&page=2") == CacheKey("shop.example", "/eu-eur/c/a", (("page", "2"),), "eu-eur")
    assert key_of("/elsewhere", "x=1") == CacheKey("shop.example", "/elsewhere", (("*", "x=1"),), "")


def test_requests_that_join_to_the_same_text_have_different_keys():
    assert key_of("/eu-eur/c/a", "sort=b%26page%3D2") != key_of("/eu-eur/c/a", "sort=b&page=2")


_PATHS = st.text(alphabet=string.ascii_letters + string.digits + "-._~!$&'()*+,;=:@/%|[\\\"25eEfFcC3", max_size=20)
_QUERIES = st.text(alphabet="sortpage=&%+2C3a9 é\x00", max_size=20)
_VALUES = st.text(alphabet=st.characters(blacklist_categories=["Cs", "Cc"]), max_size=8)


@given(_PATHS)
def test_normalising_a_path_again_changes_nothing(path):
    try:
        once = normalise_path("/" + path)
    except BadTarget:
        return
    assert normalise_path(once) == once


@given(_PATHS, _QUERIES)
def test_the_forwarded_target_is_read_back_as_the_same_key(path, query):
    try:
        key = key_of("/eu-eur/c/" + path, query)
    except BadTarget:
        return
    back, _, back_query = forward_target(key).partition("?")
    assert key_of(back, back_query) == key


@given(_VALUES, _VALUES, _VALUES, _VALUES)
def test_different_parameters_never_share_a_target(sort, page, other_sort, other_page):
    one = CacheKey("shop.example", "/eu-eur/c/a", (("sort", sort), ("page", page)), "eu-eur")
    other = CacheKey("shop.example", "/eu-eur/c/a", (("sort", other_sort), ("page", other_page)), "eu-eur")
    assert (forward_target(one) == forward_target(other)) == (one == other)
