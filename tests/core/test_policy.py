"""Which policy a path falls under, and which patterns hide others."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.core.policy import CachePolicy, Mismatch, PolicySet, covers, mismatch, parse_pattern
from tests.support.builders import MARKETS

PATTERNS = [
    ("entry", "/"),
    ("home", "/{market}/"),
    ("category", "/{market}/c/{category...}"),
    ("product", "/{market}/products/{slug}"),
    ("price", "/api/v1/{market}/prices/{sku}"),
    ("art", "/art/{digest}/{name}"),
    ("console", "/console"),
    ("any-list", "/{thing}/list"),
    ("rest", "/{rest...}"),
]
POLICIES = PolicySet([CachePolicy(name, path) for name, path in PATTERNS], MARKETS)


@pytest.mark.parametrize(
    ("path", "policy", "market", "captured"),
    [
        ("/", "entry", "", {}),
        ("/eu-eur/", "home", "eu-eur", {"market": "eu-eur"}),
        ("/eu-eur", "rest", "", {"rest": "eu-eur"}),
        ("/xx-xxx/", "rest", "", {"rest": "xx-xxx/"}),
        ("/us-usd/c/shoes/boots", "category", "us-usd", {"market": "us-usd", "category": "shoes/boots"}),
        ("/us-usd/c/", "rest", "", {"rest": "us-usd/c/"}),
        ("/eu-eur/products/a.b-c", "product", "eu-eur", {"market": "eu-eur", "slug": "a.b-c"}),
        ("/eu-eur/products/a/b", "rest", "", {"rest": "eu-eur/products/a/b"}),
        ("/eu-eur/products/", "rest", "", {"rest": "eu-eur/products/"}),
        ("/api/v1/us-usd/prices/X", "price", "us-usd", {"market": "us-usd", "sku": "X"}),
        ("/api/v1/xx/prices/X", "rest", "", {"rest": "api/v1/xx/prices/X"}),
        ("/art/d/n.svg", "art", "", {"digest": "d", "name": "n.svg"}),
        ("/console", "console", "", {}),
        ("/console/", "rest", "", {"rest": "console/"}),
        ("/eu-eur/list", "any-list", "", {"thing": "eu-eur"}),
        ("/console/list", "any-list", "", {"thing": "console"}),
        ("/what/list", "any-list", "", {"thing": "what"}),
    ],
)
def test_the_first_pattern_that_matches_decides(path, policy, market, captured):
    found = POLICIES.match(path)
    assert (found.policy.id, found.path, found.market, found.captured) == (policy, path, market, captured)


def test_what_no_pattern_can_match_falls_under_the_last():
    assert POLICIES.match("*").policy.id == "rest"
    assert POLICIES.match("").policy.id == "rest"


@pytest.mark.parametrize("policies", [[], [CachePolicy("a", "/a")], [CachePolicy("a", "/{a}")]])
def test_the_last_policy_must_match_every_path(policies):
    with pytest.raises(ValueError, match="every path"):
        PolicySet(policies, MARKETS)


@pytest.mark.parametrize(
    ("pattern", "complaint"),
    [
        ("", "starts with /"),
        ("a/b", "starts with /"),
        ("/a//b", "empty segment"),
        ("/{a...}/b", "nothing may follow"),
        ("/{a}/{a}", "a second time"),
        ("/{A}", "neither"),
        ("/a{b}", "neither"),
        ("/a b", "neither"),
        ("/{a", "neither"),
        ("/*", ""),
    ],
)
def test_a_pattern_that_cannot_be_read_says_why(pattern, complaint):
    if not complaint:
        assert parse_pattern(pattern)[0].literal == "*"
        return
    with pytest.raises(ValueError, match=complaint):
        parse_pattern(pattern)


def test_a_pattern_is_read_once_however_many_it_is_held_against():
    assert parse_pattern("/{market}/c/{category...}") is parse_pattern("/{market}/c/{category...}")


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("/a", "/a", True),
        ("/a", "/a/", False),
        ("/{x}", "/a", True),
        ("/a", "/{x}", False),
        ("/{x}", "/", False),
        ("/{x}/", "/{market}/", True),
        ("/{market}/", "/{x}/", False),
        ("/{market}/", "/eu-eur/", True),
        ("/{market}/", "/xx-xxx/", False),
        ("/{x...}", "/a/{b}", True),
        ("/{x...}", "/", False),
        ("/a/{x...}", "/a", False),
        ("/a/{x...}", "/a/", False),
        ("/a/{x...}", "/a/{y...}", True),
        ("/a/{x}", "/a/{y...}", False),
        ("/{market}/c/{x...}", "/us-usd/c/{y}", True),
    ],
)
def test_which_pattern_hides_another(first, second, expected):
    assert covers(first, second, MARKETS) is expected


_SEGMENT = st.sampled_from(["a", "eu-eur", "b", "{x}", "{market}"])
_PATTERN = st.builds(
    lambda segments, end: "/" + "/".join([*segments, *end]),
    st.lists(_SEGMENT, max_size=2, unique=True),
    st.sampled_from([["{r...}"], ["c"], ["{y}"], [""]]),
)
_PATH = st.lists(st.sampled_from(["a", "b", "c", "eu-eur", "us-usd"]), max_size=3).map(
    lambda parts: "/" + "/".join(parts)
)


@given(st.lists(_PATTERN, max_size=4), _PATH)
def test_matching_agrees_with_trying_one_pattern_after_the_other(patterns, path):
    patterns = [*patterns, "/{rest...}"]
    policies = PolicySet([CachePolicy(str(n), pattern) for n, pattern in enumerate(patterns)], MARKETS)
    expected = next((n for n, pattern in enumerate(patterns) if covers(pattern, path, MARKETS)), len(patterns) - 1)
    assert policies.match(path).policy.id == str(expected)


def test_the_digest_tells_policies_apart_and_not_where_they_were_written():
    def digest(policy: CachePolicy) -> str:
        return PolicySet([policy, CachePolicy("rest", "/{rest...}")], MARKETS).digest

    assert digest(CachePolicy("a", "/a")) == digest(CachePolicy("a", "/a", where="a.yaml:3:5"))
    assert digest(CachePolicy("a", "/a")) != digest(CachePolicy("a", "/a", fresh_s=1.0))
    assert POLICIES.by_id("price") is POLICIES.match("/api/v1/us-usd/prices/X").policy
    assert POLICIES.by_id("nothing") is None


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("/{market}/products/{slug}", "/eu-eur/products/boot", None),
        ("/{market}/products/{slug}", "/xx-xxx/products/boot", Mismatch(1, "{market}", "xx-xxx")),
        ("/{market}/products/{slug}", "/eu-eur/c/boot", Mismatch(2, "products", "c")),
        ("/{market}/products/{slug}", "/eu-eur/products", Mismatch(3, "{slug}", None)),
        ("/{market}/products/{slug}", "/eu-eur/products/", Mismatch(3, "{slug}", "")),
        ("/{market}/products/{slug}", "/eu-eur/products/boot/red", Mismatch(4, "", "red")),
        ("/{market}/c/{category...}", "/eu-eur/c/a/b", None),
        ("/{market}/c/{category...}", "/eu-eur/c/", Mismatch(3, "{category...}", "")),
        ("/{market}/", "/eu-eur", Mismatch(2, "", None)),
        ("/", "/console", Mismatch(1, "", "console")),
    ],
)
def test_where_a_path_leaves_a_pattern(pattern, path, expected):
    assert mismatch(pattern, path, MARKETS) == expected


@given(st.lists(st.sampled_from(["", "eu-eur", "c", "products", "list", "api", "v1", "prices", "console", "x"])))
def test_the_first_pattern_without_a_mismatch_is_the_one_that_matches(segments):
    path = "/" + "/".join(segments)
    told = next((name for name, pattern in PATTERNS if mismatch(pattern, path, MARKETS) is None), "rest")
    assert POLICIES.match(path).policy.id == told
