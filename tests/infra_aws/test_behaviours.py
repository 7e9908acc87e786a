"""Cache behaviours: CloudFront's first match gives every path what the policies' first match says it should have."""

from __future__ import annotations

import itertools
import random
import re
from functools import cache
from pathlib import Path

import pytest

from cache_policies.markets import load_markets
from edge.core.policy import CachePolicy, DataClass, Generation, PolicySet, covers
from edge.policy_files import load_policies
from infra.aws.compile import CompileError, compile_policies
from infra.aws.differences import differences
from infra.aws.templates.behaviours import (
    chosen,
    misfits,
    needed_behaviours,
    ordered_behaviours,
    overlap,
    path_pattern,
    takes_in,
)
from infra.aws.templates.content import content_of

FULL = Path(__file__).parents[1] / "support" / "policies_full"
MARKETS = load_markets()
REST = CachePolicy("rest", "/{rest...}", store=False)


def private(policy_id: str, path: str) -> CachePolicy:
    return CachePolicy(policy_id, path, data_class=DataClass.PERSONAL, store=False, cookies=True)


def contents_of(policies: PolicySet):
    @cache
    def content(policy_id: str):
        found = policies.by_id(policy_id)
        assert found is not None
        return content_of(found, policies)

    return lambda policy: content(policy.id)


def regex_of(pattern: str) -> re.Pattern[str]:
    """CloudFront's matching, written anew: `*` any run, `?` one character."""
    return re.compile("".join({"*": ".*", "?": "."}.get(character, re.escape(character)) for character in pattern))


def first_match(behaviours, path):
    """The pattern of the behaviour that CloudFront takes."""
    return next((item.pattern for item in behaviours if regex_of(item.pattern).fullmatch(path)), "*")


# --- patterns --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wide", "narrow", "expected"),
    [
        ("/a/*", "/a/b", True),
        ("/a/*", "/a/b/*", True),
        ("/a/*", "/a/", True),
        ("/a/*", "/a", False),
        ("/a/b", "/a/*", False),
        ("/??-???/", "/us-usd/", True),
        ("/us-usd/", "/??-???/", False),
        ("/*/c/*", "/??-???/c/*", True),
        ("/??-???/c/*", "/*/c/*", False),
        ("*", "/a?c*", True),
        ("/a*c", "/ab*bc", True),
        ("/a*c", "/ab*b", False),
        ("/a/*", "/b/a/*", False),
    ],
)
def test_a_pattern_takes_in_another(wide, narrow, expected):
    assert takes_in(wide, narrow) is expected


def test_taking_in_and_overlapping_are_what_the_words_say():
    """Against every path of up to four characters over a small alphabet."""
    chance = random.Random(3)
    paths = ["".join(run) for length in range(5) for run in itertools.product("ab/", repeat=length)]
    patterns = ["".join(chance.choice("ab/?*") for _ in range(chance.randint(0, 4))) for _ in range(70)]
    matched = {pattern: {path for path in paths if regex_of(pattern).fullmatch(path)} for pattern in patterns}
    for one, other in itertools.product(patterns, repeat=2):
        if takes_in(one, other):
            assert matched[other] <= matched[one], (one, other)
        if matched[one] & matched[other]:
            assert overlap(one, other), (one, other)
        elif len(one) + len(other) <= 4:
            assert not overlap(one, other), (one, other)


# --- order -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "paths",
    [
        pytest.param(["/{market}/c/sale", "/{market}/c/{category...}"], id="a name before what takes it in"),
        pytest.param(["/{market}/c/{one}", "/{market}/c/{one}/list"], id="one segment, and a deeper one behind it"),
        pytest.param(["/{market}/c/{a}/{b}", "/{market}/c/{a}/list/{c}"], id="two segments, and three"),
        pytest.param(["/a/{x}", "/a/{x}/b/{y...}", "/a/{x}/{y}"], id="three"),
        pytest.param(["/{x}/b", "/a/{x}/b"], id="a capture first"),
    ],
)
def test_the_behaviour_comes_first_whose_paths_the_other_would_take(paths):
    policies = PolicySet([*(CachePolicy(f"p{n}", path) for n, path in enumerate(paths)), REST], MARKETS)
    behaviours = ordered_behaviours(policies)
    for policy in policies.policies[:-1]:
        path = re.sub(r"\{[^}]*\}", "x", policy.path.replace("{market}", "eu-eur"))
        assert policies.match(path).policy is policy
        assert first_match(behaviours, path) == path_pattern(policy)


@pytest.mark.parametrize("folder", [None, FULL], ids=["the shipped ones", "every field"])
def test_every_path_gets_what_its_route_says(folder):
    """20,000 paths: in the behaviour that CloudFront chooses, or, for what no route names, in that of a route that the
    Function tells apart."""
    policies = load_policies(folder)
    content = contents_of(policies)
    behaviours = needed_behaviours(policies, content)
    by_pattern = {item.pattern: item.policy for item in behaviours} | {"*": policies.policies[-1]}
    words = sorted({word for policy in policies.policies for word in re.findall(r"[a-z0-9-]+", policy.path)})
    chance = random.Random(11)
    named = 0
    for _ in range(20_000):
        path = some_path(chance, policies, words)
        route = policies.match(path).policy
        if route is not policies.policies[-1] and not route.refuse_status and route.redirect == "none":
            named += 1
            assert content(by_pattern[first_match(behaviours, path)]) == content(route), path
    assert named > 5_000


def some_path(chance: random.Random, policies: PolicySet, words: list[str]) -> str:
    """A path of a route, its captures filled with names, now and then with a segment more or less."""
    policy = chance.choice(policies.policies)
    path = policy.path.replace("{market}", chance.choice(policies.markets.all).id)
    path = re.sub(
        r"\{[a-z]+\.\.\.\}", lambda _: "/".join(chance.choice(words) for _ in range(chance.randint(1, 3))), path
    )
    path = re.sub(r"\{[a-z]+\}", lambda _: chance.choice([*words, "x", "oak-table"]), path)
    if chance.random() < 0.2:
        path += chance.choice(["/x", "/", f"/{chance.choice(words)}"])
    return path.replace("//", "/")


# --- merging ---------------------------------------------------------------------------------------------------


def test_behaviours_that_change_nothing_are_left_out():
    policies = PolicySet(
        [
            CachePolicy("sale", "/c/sale", generation=Generation.CATEGORY),
            CachePolicy("tree", "/c/{category...}", generation=Generation.CATEGORY),
            CachePolicy("ping", "/ping", store=False),
            private("cart", "/cart"),
            REST,
        ],
        MARKETS,
    )
    needed = [item.pattern for item in needed_behaviours(policies, contents_of(policies))]
    # The sale is a category like any other; the ping is like everything else.
    assert needed == ["/c/*", "/cart"]
    said = {(item.policy_id, item.field): item.instead for item in differences(policies)}
    assert said["ping", "path"] == "no behaviour of its own for /ping: another gives its paths the same"


def test_what_stands_between_keeps_a_behaviour():
    policies = PolicySet(
        [CachePolicy("sale", "/c/sale/now"), private("mine", "/c/sale/{x}"), CachePolicy("tree", "/c/{x...}"), REST],
        MARKETS,
    )
    assert [item.pattern for item in needed_behaviours(policies, contents_of(policies))] == [
        "/c/sale/now",
        "/c/sale/*",
        "/c/*",
    ]


def test_merging_changes_what_no_path_gets():
    """300 random sets of policies: with and without the behaviours left out, the same content for every path."""
    chance = random.Random(5)
    left_out = 0
    for _ in range(300):
        policies = some_policies(chance)
        content = contents_of(policies)
        all_of_them, needed = ordered_behaviours(policies), needed_behaviours(policies, content)
        left_out += len(all_of_them) - len(needed)
        policy_of = {item.pattern: item.policy for item in all_of_them} | {"*": policies.policies[-1]}
        for _ in range(60):
            path = "/" + "/".join(chance.choice(["a", "b", "c", "x", "us-usd"]) for _ in range(chance.randint(1, 4)))
            before = content(policy_of[first_match(all_of_them, path)])
            assert content(policy_of[first_match(needed, path)]) == before, path
    assert left_out > 50


def test_every_path_that_goes_astray_is_known():
    """The same sets: a path in a behaviour of other content than its route's is one of the misfits."""
    chance = random.Random(6)
    astray = 0
    for _ in range(300):
        policies = some_policies(chance)
        content = contents_of(policies)
        behaviours = needed_behaviours(policies, content)
        known = {(found.route.id, found.behaviour.pattern) for found in misfits(policies, behaviours, content)}
        policy_of = {item.pattern: item.policy for item in behaviours} | {"*": policies.policies[-1]}
        for _ in range(60):
            path = "/" + "/".join(chance.choice(["a", "b", "c", "x", "us-usd"]) for _ in range(chance.randint(1, 4)))
            route, pattern = policies.match(path).policy, first_match(behaviours, path)
            if content(policy_of[pattern]) != content(route) and pattern != "*":
                astray += 1
                assert (route.id, pattern) in known, (path, [policy.path for policy in policies.policies])
    assert astray > 100


def test_a_misfit_is_what_it_says():
    chance = random.Random(7)
    for _ in range(100):
        policies = some_policies(chance)
        content = contents_of(policies)
        behaviours = needed_behaviours(policies, content)
        for found in misfits(policies, behaviours, content):
            assert policies.match(found.path).policy is found.route
            assert chosen(behaviours, found.path, policies.policies[-1]) == found.behaviour
            assert first_match(behaviours, found.path) == found.behaviour.pattern
            assert content(found.route) != content(found.behaviour.policy)


def some_policies(chance: random.Random) -> PolicySet:
    """A few routes over three names, of three kinds, none of which hides another."""
    routes: list[CachePolicy] = []
    for number in range(chance.randint(2, 6)):
        middle = [chance.choice(["a", "b", name]) for name in ("{two}", "{three}") if chance.random() < 0.7]
        parts = [chance.choice(["a", "b", "c", "{one}", "{market}"]), *middle]
        if chance.random() < 0.3:
            parts.append("{rest...}")
        path = "/" + "/".join(parts)
        if any(covers(route.path, path, MARKETS) for route in routes):
            continue
        kind = chance.choice(["stored", "priced", "private"])
        if kind == "private":
            routes.append(private(f"r{number}", path))
        else:
            routes.append(CachePolicy(f"r{number}", path, fresh_s=60, shows_price=kind == "priced"))
    return PolicySet([*routes, REST], MARKETS)


# --- what cannot be told apart ---------------------------------------------------------------------------------


def test_a_personal_page_that_would_lose_its_cookies_is_no_template():
    policies = PolicySet(
        [
            CachePolicy("pages", "/{section}/{page}", fresh_s=60, where="pages.yaml:3:3"),
            private("mine", "/{section}/{page...}"),
            REST,
        ],
        MARKETS,
    )
    with pytest.raises(CompileError) as caught:
        compile_policies(policies)
    (finding,) = [item for item in caught.value.findings if item.code == "EDGE116"]
    assert "of mine, which then has no cookies" in finding.what
    assert "/*/*" in finding.where


def test_a_route_that_loses_nothing_it_needs_is_compiled_and_the_difference_is_said():
    policies = PolicySet(
        [
            CachePolicy("pages", "/{section}/{page}", fresh_s=60),
            CachePolicy("deeper", "/{section}/{page...}", fresh_s=600),
            REST,
        ],
        MARKETS,
    )
    compile_policies(policies)
    said = [item.instead for item in differences(policies) if (item.policy_id, item.field) == ("deeper", "path")]
    assert any("gets the behaviour /*/* of pages" in instead for instead in said)
