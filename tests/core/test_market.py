"""Which market a visitor is led to."""

import pytest

from cache_policies.markets import load_markets
from edge.core.http import Headers, Response
from edge.core.market import CRAWLERS, MarketSource, choose_market, market_choice, market_redirect
from tests.support.builders import EUROPE, MARKETS


@pytest.mark.parametrize(
    ("country", "cookie", "agent", "expected"),
    [
        pytest.param("DE", None, None, "eu-eur", id="by country"),
        pytest.param("US", None, None, "us-usd", id="another"),
        pytest.param("BR", None, None, "us-usd", id="a country that no market names"),
        pytest.param("ZZ", None, None, "us-usd", id="unknown"),
        pytest.param("", None, None, "us-usd", id="nothing"),
        pytest.param("US", "a=b; ns_market=eu-eur", None, "eu-eur", id="the switcher remembers"),
        pytest.param("US", 'ns_market="eu-eur"', None, "eu-eur", id="in quotes"),
        pytest.param("DE", "ns_market=xx-xxx", None, "eu-eur", id="a market that is none"),
        pytest.param("DE", "ns_market=", None, "eu-eur", id="an empty cookie"),
        pytest.param("DE", "xns_market=us-usd", None, "eu-eur", id="another cookie"),
        pytest.param("DE", None, "Mozilla/5.0 (compatible; Googlebot/2.1)", "us-usd", id="a crawler"),
        pytest.param("US", "ns_market=eu-eur", "bingbot", "eu-eur", id="the switcher wins over everything"),
        pytest.param("DE", None, "Mozilla/5.0 (X11; Linux)", "eu-eur", id="a browser"),
    ],
)
def test_the_market_of_a_visitor(country, cookie, agent, expected):
    assert choose_market(MARKETS, country, cookie, agent).id == expected


def test_the_redirect_is_kept_by_nobody():
    assert market_redirect(EUROPE) == Response(
        302, Headers([("location", "/eu-eur/"), ("cache-control", "no-store"), ("content-length", "0")])
    )


def test_crawlers_are_spelled_as_they_are_compared():
    assert all(crawler == crawler.lower() for crawler in CRAWLERS)


def test_the_packaged_markets():
    markets = load_markets()
    assert [market.id for market in markets.all] == ["us-usd", "ca-cad", "eu-eur", "gb-gbp", "jp-jpy", "sg-sgd"]
    assert markets.for_country("NO").id == "eu-eur"
    assert markets.for_country("JP").currency == "JPY"
    assert markets.for_country("ZZ").id == markets.default == "us-usd"
    assert markets.by_id("xx-xxx") is None


@pytest.mark.parametrize(
    ("country", "cookie", "agent", "source"),
    [
        ("DE", "ns_market=us-usd", "bingbot", MarketSource.SWITCHER),
        ("DE", None, "bingbot", MarketSource.CRAWLER),
        ("DE", "ns_market=xx-xxx", None, MarketSource.COUNTRY),
        ("US", None, None, MarketSource.COUNTRY),
        ("BR", None, None, MarketSource.DEFAULT),
        ("ZZ", None, None, MarketSource.DEFAULT),
    ],
)
def test_what_decided_the_market_is_said(country, cookie, agent, source):
    assert market_choice(MARKETS, country, cookie, agent).source is source
