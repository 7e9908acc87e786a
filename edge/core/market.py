"""Which market a visitor is led to at the entry page; every later address says it itself."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from cache_policies.market_values import UNKNOWN_COUNTRY, Market, Markets
from edge.core.http import Headers, Response

MARKET_COOKIE = "ns_market"
"""Set by the market switcher; holds the id of a market."""

CRAWLERS = (
    "applebot",
    "bingbot",
    "duckduckbot",
    "facebookexternalhit",
    "googlebot",
    "linkedinbot",
    "petalbot",
    "twitterbot",
    "yandexbot",
)
"""Parts of the User-Agent of crawlers, lower case."""


class MarketSource(StrEnum):
    """What decided the market of a visitor."""

    SWITCHER = "switcher"
    """The cookie of the market switcher."""
    CRAWLER = "crawler"
    """The user agent of one of `CRAWLERS`."""
    COUNTRY = "country"
    DEFAULT = "default"
    """No market names the country, or it is unknown."""


class ChosenMarket(NamedTuple):
    market: Market
    source: MarketSource


def market_choice(markets: Markets, country: str, cookie: str | None, user_agent: str | None) -> ChosenMarket:
    """The market of a visitor, and why: what the switcher remembers, else by country, else the default.

    `cookie` is the Cookie field as received; `country` two capital letters, `ZZ` when unknown. Crawlers get the
    default, so that what they index does not depend on where they happen to crawl from.
    """
    chosen = markets.by_id(_cookie_value(cookie or "", MARKET_COOKIE))
    if chosen is not None:
        return ChosenMarket(chosen, MarketSource.SWITCHER)
    agent = (user_agent or "").lower()
    if any(crawler in agent for crawler in CRAWLERS):
        return ChosenMarket(markets.for_country(UNKNOWN_COUNTRY), MarketSource.CRAWLER)
    market = markets.for_country(country)
    return ChosenMarket(market, MarketSource.COUNTRY if country in market.countries else MarketSource.DEFAULT)


def choose_market(markets: Markets, country: str, cookie: str | None, user_agent: str | None) -> Market:
    """The same without the reason."""
    return market_choice(markets, country, cookie, user_agent).market


def market_redirect(market: Market) -> Response:
    """The answer to the entry page: 302 to the market's home, which no cache keeps."""
    location = f"/{market.id}/"
    return Response(
        302,
        Headers((("location", location), ("cache-control", "no-store"), ("content-length", "0"))),
    )


def _cookie_value(cookie: str, name: str) -> str:
    for pair in cookie.split(";"):
        key, _, value = pair.strip(" \t").partition("=")
        if key == name:
            return value.strip('"')
    return ""
