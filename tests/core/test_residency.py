"""Who may be asked: no placement ever sends personal data to an origin that does not list its jurisdiction."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache_policies.market_values import Market, Markets, TaxDisplay
from cache_policies.origins import Origin, Origins
from edge.core.policy import CachePolicy, DataClass, Residency
from edge.core.residency import Placed, Unplaced, Why, place
from tests.support.builders import MARKETS

ACCOUNT = CachePolicy("account", "/{market}/account", data_class=DataClass.PERSONAL, store=False)
EU = Origin("eu", ("eu",))
US = Origin("us", ("us",), reads_fail_over_to="eu")
BOTH = Origin("both", ("us", "eu"))
ORIGINS = Origins((US, EU, BOTH), "us")


def account(residency: Residency = Residency.ROUTE, origin: str = "") -> CachePolicy:
    return replace(ACCOUNT, residency=residency, origin=origin)


@pytest.mark.parametrize(
    ("policy", "market", "country", "expected"),
    [
        pytest.param(account(Residency.NONE), "eu-eur", "DE", Placed(US, EU), id="no rule: the default and its second"),
        pytest.param(account(Residency.NONE, "eu"), "us-usd", "US", Placed(EU), id="no rule: the one that it names"),
        pytest.param(account(), "eu-eur", "US", Placed(EU), id="the market in the path, wherever the visitor is"),
        pytest.param(account(), "us-usd", "DE", Placed(US), id="its second may not hold the data: nobody fails over"),
        pytest.param(account(), "", "NO", Placed(EU), id="no market in the path: the visitor's"),
        pytest.param(account(), "", "ZZ", Placed(US), id="an unknown country: the default market"),
        pytest.param(account(origin="both"), "eu-eur", "DE", Placed(BOTH), id="the route's own origin before others"),
        pytest.param(account(Residency.TOKENISE), "eu-eur", "DE", Unplaced(Why.NO_VAULT), id="tokenise"),
        pytest.param(account(Residency.SEAL), "eu-eur", "DE", Unplaced(Why.NO_VAULT), id="seal"),
    ],
)
def test_who_is_asked(policy, market, country, expected):
    assert place(policy, market, country, MARKETS, ORIGINS) == expected


def test_a_second_that_lists_the_jurisdiction_is_used():
    first = Origin("first", ("eu",), reads_fail_over_to="second")
    second = Origin("second", ("eu", "us"))
    assert place(account(), "eu-eur", "DE", MARKETS, Origins((first, second), "first")) == Placed(first, second)


def test_nobody_is_asked_where_no_origin_lists_the_jurisdiction():
    assert place(account(), "eu-eur", "DE", MARKETS, Origins()) == Unplaced(Why.RESIDENCY)
    assert place(account(), "eu-eur", "DE", MARKETS, Origins((US,), "us")) == Unplaced(Why.RESIDENCY)


NAMES = ("a", "b", "c", "d")
JURISDICTIONS = st.sampled_from(["eu", "us", "jp", "ch"])


@st.composite
def worlds(draw: st.DrawFn) -> tuple[Markets, Origins]:
    """Markets and origins in any relation that the reader of policies lets pass."""
    markets = tuple(
        Market(f"m{number}-eur", "", country, (country,), "EUR", "en", TaxDisplay.INCLUDED, draw(JURISDICTIONS))
        for number, country in enumerate(("DE", "US", "JP"))
    )
    names = NAMES[: draw(st.integers(1, len(NAMES)))]
    origins = tuple(
        Origin(
            name,
            tuple(draw(st.lists(JURISDICTIONS, unique=True, max_size=3))),
            draw(st.sampled_from(["", *(other for other in names if other != name)])),
        )
        for name in names
    )
    return Markets(markets, "m0-eur"), Origins(origins, draw(st.sampled_from(names)))


@given(worlds(), st.sampled_from(Residency), st.data())
def test_no_placement_sends_to_an_origin_that_does_not_list_the_jurisdiction(world, residency, data):
    markets, origins = world
    origin = data.draw(st.sampled_from(["", *(each.name for each in origins.all)]))
    market_id = data.draw(st.sampled_from(["", *(market.id for market in markets.all), "no-market"]))
    country = data.draw(st.sampled_from(["DE", "US", "JP", "FR", "ZZ"]))
    placed = place(account(residency, origin), market_id, country, markets, origins)
    if residency in {Residency.TOKENISE, Residency.SEAL}:
        assert placed == Unplaced(Why.NO_VAULT)
        return
    if residency is Residency.NONE:
        assert isinstance(placed, Placed)
        assert placed.origin == origins.by_name(origin)
        return
    market = markets.by_id(market_id) if market_id else markets.for_country(country)
    may = [] if market is None else [each for each in origins.all if market.jurisdiction in each.jurisdictions]
    if isinstance(placed, Unplaced):
        assert placed.why is Why.RESIDENCY
        assert not may
        return
    assert placed.origin in may
    assert placed.fail_over is None or placed.fail_over in may
