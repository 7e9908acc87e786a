"""One policy, two edges: every request has the same route, market, key or refusal in gateway, Function and handler."""

from __future__ import annotations

import random
import re
from collections import Counter
from dataclasses import dataclass

import pytest

from edge.core.http import Headers, Request
from edge.core.key import BadTarget, CacheKey, cache_key, normalise_path, normalise_query
from edge.core.policy import PolicySet
from edge.core.request_rules import refusal
from edge.lambda_edge.events import cf_request_of, request_of
from edge.lambda_edge.origin_request import handler_for, route
from edge.policy_files import load_policies
from infra.aws.functions import viewer_request_function
from tests.support.cloudfront import DISTRIBUTION, ViewerRequest, origin_event, viewer_event
from tests.treaty.requests import CASES, Case

KVS = {"*": "1.7"}


@dataclass(frozen=True)
class Decided:
    """What an edge makes of a request."""

    route: str = ""
    key: CacheKey | None = None
    status: int = 0
    fault: str = ""


@pytest.fixture(scope="module")
def policies() -> PolicySet:
    return load_policies()


@pytest.fixture(scope="module")
def function(policies) -> ViewerRequest:
    return ViewerRequest(viewer_request_function(policies))


def by_the_gateway(case: Case, policies: PolicySet) -> Decided:
    """The steps of edge/gateway/exchange.py, by the core's functions."""
    path, _, query = case.target.partition("?")
    request = Request(case.method, DISTRIBUTION, path, query, Headers(tuple(case.headers.items())))
    try:
        match = policies.match(normalise_path(path))
        key = cache_key(request, match)
    except BadTarget as exc:
        return Decided(status=400, fault=exc.fault.value)
    refused = refusal(request, match)
    return Decided(status=refused.response.status) if refused else Decided(match.policy.id, key)


def by_the_function(case: Case, function: ViewerRequest, policies: PolicySet) -> tuple[Decided, dict]:
    """What the Function returns, read as CloudFront reads it: host, path and query string make the key."""
    answer = function(viewer_event(case.target, case.method, case.headers, case.cookies), KVS)
    if "statusCode" in answer:
        fault = re.search(r"malformed: ([a-z-]+)", answer.get("body", {}).get("data", ""))
        return Decided(status=answer["statusCode"], fault=fault[1] if fault else ""), answer
    policy = policies.policies[function.route(answer["uri"])]
    first, *others = answer["uri"][1:].split("/")
    market = next((part for part in (first, *others) if policies.markets.by_id(part)), "")
    key = CacheKey(
        answer["headers"]["x-forwarded-host"]["value"],
        answer["uri"],
        normalise_query(answer["querystring"], policy.query),
        market if "{market}" in policy.path else "",
    )
    return Decided(policy.id, key), answer


def expected(case: Case) -> Decided:
    if case.fault:
        return Decided(status=400, fault=case.fault)
    if case.status:
        return Decided(status=case.status)
    path = case.path or case.target.partition("?")[0]
    return Decided(case.route, CacheKey(DISTRIBUTION, path, case.query, case.market))


def test_the_table_is_one_of_at_least_forty_requests_with_names():
    assert len(CASES) >= 40
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_gateway_function_and_handler_decide_alike(case, policies, function):
    assert by_the_gateway(case, policies) == expected(case)

    decided, request = by_the_function(case, function, policies)
    assert decided == expected(case)
    if decided.key is None:
        return

    event = origin_event(request)
    routed = route(request_of(cf_request_of(event)), policies)
    assert Decided(routed.match.policy.id, routed.key) == expected(case)

    sent = handler_for(policies.policies, policies.markets)(event, None)
    assert (sent["uri"], sent["method"]) == (decided.key.path, case.method)
    assert normalise_query(sent["querystring"], routed.match.policy.query) == decided.key.query
    assert ("cookie" in sent["headers"]) == (bool(case.cookies) and routed.match.policy.cookies)


@pytest.mark.parametrize("case", [case for case in CASES if case.route], ids=lambda case: case.name)
def test_a_second_pass_changes_nothing(case, policies, function):
    """What the Function wrote is its own normal form: a request that comes through two layers keeps its key."""
    first, request = by_the_function(case, function, policies)
    target = request["uri"] + ("?" + request["querystring"] if request["querystring"] else "")
    again, _ = by_the_function(Case("again", target, method=case.method), function, policies)
    assert again == first


@pytest.mark.parametrize(
    ("country", "cookie", "agent", "market"),
    [
        pytest.param("DE", None, "", "eu-eur", id="by country"),
        pytest.param("JP", None, "", "jp-jpy", id="another country"),
        pytest.param("BR", None, "", "us-usd", id="a country of no market"),
        pytest.param(None, None, "", "us-usd", id="no country"),
        pytest.param("ZZ", None, "", "us-usd", id="an unknown country"),
        pytest.param("de", None, "", "us-usd", id="countries are written in capitals"),
        pytest.param("DE", "gb-gbp", "", "gb-gbp", id="the switcher wins"),
        pytest.param("DE", "xx-xxx", "", "eu-eur", id="a market that is none"),
        pytest.param("DE", "constructor", "", "eu-eur", id="a name that JavaScript knows"),
        pytest.param("DE", None, "Mozilla/5.0 (compatible; Googlebot/2.1)", "us-usd", id="a crawler"),
        pytest.param("DE", "gb-gbp", "Mozilla/5.0 (compatible; Googlebot/2.1)", "gb-gbp", id="a crawler with a cookie"),
    ],
)
def test_the_entry_page_leads_to_the_same_market(country, cookie, agent, market, policies, function):
    from edge.core.market import choose_market, market_redirect

    cookie_field = None if cookie is None else f"a=b; ns_market={cookie}"
    ours = market_redirect(choose_market(policies.markets, country or "ZZ", cookie_field, agent))
    theirs = function(
        viewer_event(
            "/", headers={"user-agent": agent}, cookies={} if cookie is None else {"ns_market": cookie}, country=country
        ),
        KVS,
    )
    assert ours.headers.get("location") == theirs["headers"]["location"]["value"] == f"/{market}/"
    assert ours.status == theirs["statusCode"]
    assert ours.headers.get("cache-control") == theirs["headers"]["cache-control"]["value"] == "no-store"


ODD = "%2e %2E%2e . .. %2f %5C %00 %7f % %4 %zz a%20b caf%c3%a9 %FF ~ %7E a;b=c x:y@z ' \" <b> {x} | ` ^ [ \\ %25 !*()"
WORDS = (
    "eu-eur us-usd xx-xxx EU-EUR c products cart checkout account api v1 prices stock market art edge console oak SKU-1"
)


def random_target(rng: random.Random) -> str:
    """A target that is nearly right: the shapes of the policies, with what attackers and accidents put into them."""
    words = [*WORDS.split(), *ODD.split(), "", "constructor", "__proto__"]
    shapes = [
        "/eu-eur/c/{}",
        "/us-usd/products/{}",
        "/api/v1/gb-gbp/prices/{}",
        "/api/v1/jp-jpy/{}/SKU-1",
        "/{}/cart",
        "/{}/",
        "/{}",
    ]
    part = "/".join(rng.choice(words) for _ in range(rng.choice([1, 1, 1, 2, 3, 5])))
    path = rng.choice(shapes).format(part) if rng.random() < 0.8 else "/" + part
    if rng.random() < 0.4:
        return path
    names = [
        "page",
        "sort",
        "variant",
        "%70age",
        "PAGE",
        "utm_source",
        "a",
        "",
        "so%72t",
        "p+age",
        "%FF",
        "constructor",
    ]
    values = [
        "2",
        "price",
        "a+b",
        "a%20b",
        "%C3%A4",
        "%FF",
        "%",
        "%0a",
        "",
        "=",
        "a=b",
        "%26",
        "%3D",
        "'()*!",
        "~",
        "<",
        '"',
        "{}",
        "[1]",
        "\\",
    ]
    pairs = [
        f"{rng.choice(names)}{rng.choice(['=', '=', '=', ''])}{rng.choice(values)}" for _ in range(rng.randint(0, 4))
    ]
    return path + "?" + rng.choice(["&", "&", "&", ";", "&&"]).join(pairs)


def test_random_requests_are_decided_alike(policies, function):
    rng = random.Random(1)
    outcomes: Counter[str] = Counter()
    for _ in range(4_000):
        method = rng.choice(["GET", "GET", "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"])
        case = Case("random", random_target(rng), method=method)
        ours = by_the_gateway(case, policies)
        theirs, request = by_the_function(case, function, policies)
        if ours.route == "entry":
            assert theirs.status == 302, case
            continue
        assert theirs == ours, case
        outcomes[ours.fault or str(ours.status) if ours.key is None else "key"] += 1
        if ours.key is not None:
            routed = route(request_of(cf_request_of(origin_event(request))), policies)
            assert Decided(routed.match.policy.id, routed.key) == ours, case
    assert outcomes["key"] > 100
    assert {"405", "dot-segment", "empty-segment", "bad-encoding", "encoded-slash", "repeated-parameter"} <= set(
        outcomes
    )
