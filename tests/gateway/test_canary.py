"""What must never be shared is tried on every route before a request is."""

from __future__ import annotations

from dataclasses import replace

import pytest

import edge.core.storing
from cache_policies.folder import folder_called
from edge.core.policy import ALL, ALL_QUERY, Auth, CachePolicy, PolicySet
from edge.gateway.canary import shared_by_mistake
from edge.gateway.settings import Positions
from edge.policy_files import load_policies
from tests.support.builders import MARKETS
from tests.support.edge_shop import EdgeShop
from tests.support.scripted_origin import page

PLAIN = CachePolicy("everything", "/{rest...}", fresh_s=60.0, max_fresh_s=600.0)


def mistakes(policy: CachePolicy = PLAIN, *, own_positions: bool = True) -> tuple[str, ...]:
    return shared_by_mistake(PolicySet([policy], MARKETS), own_positions=own_positions)


@pytest.mark.parametrize("own_positions", [False, True])
def test_the_policies_that_ship_give_nobody_what_is_anothers(own_positions):
    assert shared_by_mistake(load_policies(), own_positions=own_positions) == ()
    assert shared_by_mistake(load_policies(folder_called("rfc9111")), own_positions=own_positions) == ()
    assert mistakes(own_positions=own_positions) == ()


@pytest.mark.parametrize(
    "change",
    [
        {"request_fields": ALL, "vary": ALL, "query": ALL_QUERY},
        {"request_fields": ("cookie",), "vary": ("cookie",)},
    ],
)
def test_a_lifetime_for_answers_to_whoever_is_signed_in_is_a_mistake(change):
    (sentence,) = mistakes(replace(PLAIN, **change))
    assert sentence.startswith("route everything: an answer that says nothing about caching would be shared")
    assert "Cookie" in sentence
    assert mistakes(replace(PLAIN, fresh_s=0.0, **change)) == ()
    # There the origin's label says that the answer is for everybody.
    assert mistakes(replace(PLAIN, **change), own_positions=False) == ()


@pytest.mark.parametrize("auth", list(Auth))
def test_what_is_asked_with_authorization_is_shared_by_no_route(auth):
    assert mistakes(replace(PLAIN, auth=auth)) == ()


@pytest.mark.parametrize(
    ("broken", "what"),
    [("shares_authorised", "Authorization"), ("forbids_storing", "private")],
)
def test_an_edge_that_forgets_a_rule_is_found_out(monkeypatch, broken, what):
    if broken == "shares_authorised":
        monkeypatch.setattr("edge.core.directives.Directives.shares_authorised", True)
    else:
        monkeypatch.setattr(edge.core.storing, "forbids_storing", lambda *_: None)
    assert what in " ".join(mistakes(replace(PLAIN, auth=Auth.SHARED)))


async def test_a_running_worker_keeps_the_policies_that_it_has(tmp_path):
    good = PolicySet([PLAIN], MARKETS)
    bad = PolicySet([replace(PLAIN, request_fields=ALL, vary=ALL)], MARKETS)
    async with EdgeShop(tmp_path, policies=good, settings={"positions": Positions.SITE}) as shop:
        reasons = shop.gateway._use(bad)
        assert "Cookie" in reasons[0]
        assert shop.gateway.policies is good
        shop.origin.on("/x", page())
        await shop.get("/x", "Cookie: a=b")
        assert "cookie" not in shop.origin.last("/x").headers
