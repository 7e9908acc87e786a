"""The same 500 requests at CloudFront, as compiled: the market is never the client's to choose but by the switcher.

Each also goes to a gateway behind a hop that it trusts, and the two may differ only in what the compiler announces.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from cache_policies.markets import load_markets
from edge.policy_files import load_policies
from tests.support.cloudfront_reader.messages import OriginRequest, values_of
from tests.support.forged_requests import COUNT, ForgedRequest, forged_requests
from tests.treaty.announced import unexplained
from tests.treaty.generated_requests import SHOP, Generated
from tests.treaty.two_edges import Both, TwoEdges, compiled

REQUESTS = forged_requests(load_markets())
STORED = "/eu-eur/products/lamp"
UNSTORED = "/elsewhere"
PERSONAL = "/eu-eur/cart"
WANTED = {"cookie", "user-agent", "accept-language", "x-forwarded-for", "nearshelf-country", "via"}
"""Fields that clients send and an application may want to read, and those that an edge writes."""
OF_CLOUDFRONT = {"cloudfront-viewer-country"}


@pytest_asyncio.fixture
async def edges(tmp_path: Path) -> AsyncIterator[TwoEdges]:
    async with TwoEdges(load_policies(), compiled(None, tmp_path / "compiled"), tmp_path) as edges:
        yield edges


def sent(request: ForgedRequest, target: str) -> Generated:
    """Without tabs and what is beyond ASCII, of which AWS does not say how a Function gets to see it."""
    lines = tuple((name.lower(), re.sub(r"[^ -~]", " ", value)) for name, value in request.lines)
    return Generated("GET", target, lines, SHOP, "" if request.country == "ZZ" else request.country, request.address)


def at_origin(both: Both) -> OriginRequest:
    (asked,) = both.theirs.asked
    return asked


async def test_500_forged_requests_choose_neither_market_nor_country_nor_key(edges: TwoEdges) -> None:
    announced: Counter[str] = Counter()
    wrong: list[str] = []
    keys = set()

    def expect(request: ForgedRequest, what: str, is_so: object, should_be: object) -> None:
        if is_so != should_be:
            wrong.append(f"{request.number}: {what} is {is_so!r}, should be {should_be!r}")

    for request in REQUESTS:
        entry = await edges.ask(sent(request, request.target))
        expect(request, "market", dict(entry.theirs.headers).get("location"), f"/{request.market}/")
        expect(request, "status", entry.theirs.status, 302)
        passed = await edges.ask(sent(request, PERSONAL if request.number % 2 else UNSTORED))
        asked = at_origin(passed)
        expect(request, "country", values_of(asked.headers, "nearshelf-country"), [request.country])
        expect(request, "address", values_of(asked.headers, "x-forwarded-for"), [request.address])
        told = [] if request.country == "ZZ" else [request.country]
        expect(request, "CloudFront's country", values_of(asked.headers, "cloudfront-viewer-country"), told)
        forged = {name.lower() for name, _ in request.lines} - WANTED - OF_CLOUDFRONT
        expect(request, "forged fields", sorted(forged & {name for name, _ in asked.headers}), [])
        stored = await edges.ask(sent(request, STORED))
        keys.add(stored.theirs.key)
        expect(request, "country of a page", values_of(at_origin(stored).headers, "nearshelf-country"), [])
        for both in (entry, passed, stored):
            wrong += [f"{request.number}: {found}" for found in unexplained(both, announced)]
    print(f"\n{COUNT} forged requests: {len(wrong)} differences, {len(keys)} key for one page")
    assert wrong[:5] == []
    assert len(keys) == 1, "no field of a client makes another key"


@pytest.mark.parametrize(
    ("cookie", "market"),
    [
        pytest.param(["ns_market=gb-gbp; ns_market=jp-jpy"], "gb-gbp", id="the first of two"),
        pytest.param(["ns_market=xx-xxx; ns_market=jp-jpy"], "eu-eur", id="the first of two is no market"),
        pytest.param(["ns_market=; ns_market=jp-jpy"], "eu-eur", id="the first of two is empty"),
        pytest.param(["a=b; ns_market=gb-gbp; c=d; ns_market=gb-gbp"], "gb-gbp", id="twice the same, others between"),
        pytest.param(["ns_market=gb-gbp", "ns_market=jp-jpy"], "gb-gbp", id="on two lines"),
        pytest.param(["a=b", "c=d; ns_market=jp-jpy"], "jp-jpy", id="on the second line"),
        pytest.param(['ns_market="jp-jpy"'], "jp-jpy", id="in quotes"),
        pytest.param(['ns_market="xx"; ns_market="jp-jpy"'], "eu-eur", id="two in quotes, the first is no market"),
        pytest.param(["NS_MARKET=gb-gbp; ns_market=jp-jpy"], "jp-jpy", id="capitals are another name"),
        pytest.param(["xns_market=gb-gbp; ns_marketx=gb-gbp"], "eu-eur", id="names that hold it"),
        pytest.param(["ns_market=gb-gbp=jp-jpy"], "eu-eur", id="an equals sign within"),
        pytest.param([";;ns_market=gb-gbp;"], "gb-gbp", id="empty pairs around"),
        pytest.param(["ns_market"], "eu-eur", id="no value at all"),
    ],
)
async def test_repeated_cookies_of_the_switcher_are_read_alike(edges: TwoEdges, cookie: list[str], market: str) -> None:
    lines = tuple(("cookie", value) for value in cookie)
    both = await edges.ask(Generated("GET", "/", lines, SHOP, "DE", "203.0.113.9"))
    found = (both.ours.response.headers["location"], dict(both.theirs.headers)["location"])
    assert found == (f"/{market}/", f"/{market}/")


async def test_an_edge_that_lets_clients_say_the_country_would_be_found_out(edges: TwoEdges) -> None:
    """CloudFront's word does lead: the requests are told apart by it."""
    led = set()
    for country in ("DE", "JP", "GB", ""):
        entry = await edges.ask(Generated("GET", "/", (), SHOP, country, "203.0.113.9"))
        led.add(dict(entry.theirs.headers)["location"])
    assert led == {"/eu-eur/", "/jp-jpy/", "/gb-gbp/", "/us-usd/"}
