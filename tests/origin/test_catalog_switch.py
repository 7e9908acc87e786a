"""The market switcher leads to the same page in another market, and never anywhere else."""

from __future__ import annotations

import pytest

from cache_policies.markets import load_markets
from origin.catalog.api import same_page_in

MARKETS = load_markets()


@pytest.mark.parametrize(
    ("return_to", "location"),
    [
        ("/us-usd/", "/jp-jpy/"),
        ("/us-usd/c/kitchen/knives", "/jp-jpy/c/kitchen/knives"),
        ("/us-usd/c/kitchen?page=2&sort=price-up", "/jp-jpy/c/kitchen?page=2&sort=price-up"),
        ("/us-usd/products/caf%C3%A9", "/jp-jpy/products/caf%C3%A9"),
        ("/us-usd", "/jp-jpy/"),
        ("/jp-jpy/c/x", "/jp-jpy/c/x"),
        pytest.param("", "/jp-jpy/", id="nothing"),
        pytest.param("https://evil.example/", "/jp-jpy/", id="another host"),
        pytest.param("//evil.example/us-usd/", "/jp-jpy/", id="no scheme"),
        pytest.param("///evil.example", "/jp-jpy/", id="three slashes"),
        pytest.param("/\\evil.example", "/jp-jpy/", id="backslash"),
        pytest.param("/us-usd\\@evil.example/", "/jp-jpy/", id="backslash within"),
        pytest.param("/us-usd/\r\nSet-Cookie: a=b", "/jp-jpy/", id="line break"),
        pytest.param("/us-usd/%0d%0aSet-Cookie:%20a=b", "/jp-jpy/%0D%0ASet-Cookie:%20a=b", id="encoded line break"),
        pytest.param("/us-usd/\x00", "/jp-jpy/", id="NUL"),
        pytest.param("/us-usd/ x", "/jp-jpy/", id="blank"),
        pytest.param("javascript:alert(1)", "/jp-jpy/", id="a script"),
        pytest.param("us-usd/c/x", "/jp-jpy/", id="relative"),
        pytest.param("/console", "/jp-jpy/", id="not a page of the shop"),
        pytest.param("/xx-xxx/c/x", "/jp-jpy/", id="unknown market"),
        pytest.param("/us-usd//evil.example", "/jp-jpy//evil.example", id="two slashes below the market"),
        pytest.param("/us-usd/c/x#frag", "/jp-jpy/", id="fragment"),
        pytest.param("/us-usd/c/" + "x" * 3_000, "/jp-jpy/", id="too long"),
        pytest.param("/us-usd/c/x?" + "a=1&" * 400, "/jp-jpy/c/x", id="too many fields"),
        pytest.param("/us-usd/c/x?next=//evil", "/jp-jpy/c/x?next=%2F%2Fevil", id="escaped again"),
    ],
)
def test_where_the_switcher_leads(return_to: str, location: str):
    market = MARKETS.by_id("jp-jpy")
    assert market is not None
    assert same_page_in(MARKETS, market, return_to) == location
