"""The Functions by themselves: refusals, generations, what is deleted, and what makes them small."""

from __future__ import annotations

import re

import pytest

from cache_policies.tags import category_tag, home_tag, product_tag, slug_tag
from edge.core.http import Headers, Request
from edge.core.policy import ALL_QUERY, Auth, CachePolicy, Generation, PolicySet
from edge.core.request_rules import refusal
from edge.gateway.answers import unavailable
from edge.gateway.server import REFUSALS, Refusal
from edge.lambda_edge.events import SILENCE, TOLD_FIELD
from edge.policy_files import load_policies
from infra.aws.functions import MAX_FUNCTION_BYTES, FunctionTooLarge, viewer_request_function, viewer_response_function
from tests.support.builders import MARKETS
from tests.support.cloudfront import DISTRIBUTION, Function, ViewerRequest, viewer_event, viewer_response_event


@pytest.fixture(scope="module")
def function() -> ViewerRequest:
    return ViewerRequest(viewer_request_function(load_policies(), ["shop.example"]))


def generation(function, target, kvs, **event) -> str:
    return function(viewer_event(target, **event), kvs)["headers"]["nearshelf-generation"]["value"]


@pytest.mark.parametrize(
    ("target", "kvs", "expected"),
    [
        pytest.param("/eu-eur/products/oak", {"*": "1.5"}, "1.5", id="nothing but the start"),
        pytest.param("/eu-eur/products/oak", {"*": "1.5", slug_tag("eu-eur", "oak"): "1.9"}, "1.9", id="its product"),
        pytest.param("/eu-eur/products/oak", {"*": "1.5", slug_tag("us-usd", "oak"): "1.9"}, "1.5", id="other market"),
        pytest.param("/eu-eur/products/OAK", {"*": "1.5", slug_tag("eu-eur", "OAK"): "1.9"}, "1.9", id="lower case"),
        pytest.param(
            "/eu-eur/products/caf%C3%A9%20(1)",
            {"*": "1.5", slug_tag("eu-eur", "café (1)"): "1.9"},
            "1.9",
            id="tags are encoded",
        ),
        pytest.param(
            "/api/v1/eu-eur/prices/SKU-1", {"*": "1.5", product_tag("eu-eur", "SKU-1"): "1.9"}, "1.9", id="a price"
        ),
        pytest.param(
            "/eu-eur/c/a/b", {"*": "1.5", category_tag("eu-eur", "a/b"): "1.9"}, "1.9", id="a category with its path"
        ),
        pytest.param("/eu-eur/", {"*": "1.5", home_tag("eu-eur"): "1.9"}, "1.9", id="a home page"),
        pytest.param("/eu-eur/", {"*": "1.5", "m:eu-eur": "1.9", "h:eu-eur": "1.7"}, "1.9", id="the market is higher"),
        pytest.param("/eu-eur/", {"*": "2.1", "m:eu-eur": "1.9", "h:eu-eur": "1.7"}, "2.1", id="a higher epoch"),
        pytest.param("/eu-eur/", {"*": "1.9", "h:eu-eur": "1.10"}, "1.10", id="numbers, not text"),
        pytest.param(
            "/eu-eur/",
            {"*": "1.900719925474099300", "h:eu-eur": "1.900719925474099301"},
            "1.900719925474099301",
            id="beyond what a double can hold",
        ),
        pytest.param("/eu-eur/", {}, "head.req-1", id="a store that was never filled"),
        pytest.param("/eu-eur/", None, "head.req-1", id="a store that is out of order"),
        pytest.param("/eu-eur/", {"*": "soon"}, "head.req-1", id="a value that is no position"),
        pytest.param("/eu-eur/c/%FF", {"*": "1.5"}, "head.req-1", id="a name that is not UTF-8"),
        pytest.param("/static/0123/site.css", {"*": "1.5"}, "none", id="a route without a generation"),
        pytest.param("/eu-eur/cart", {"*": "1.5"}, "once.req-1", id="a route that is not stored"),
        pytest.param("/eu-eur/products/oak/deeper", {"*": "1.5"}, "once.req-1", id="below a stored behaviour"),
    ],
)
def test_generation(function, target, kvs, expected):
    assert generation(function, target, kvs) == expected


FORGED = {
    "nearshelf-generation": "9.9",
    "min-catalog-version": "9.9",
    "nearshelf-edge-key": "guess",
    "nearshelf-country": "US",
    "nearshelf-viewer-cache-control": "public",
    "x-forwarded-host": "evil.example",
    "x-forwarded-for": "198.51.100.1, 192.0.2.1",
    "x-forwarded-port": "1",
    "forwarded": "for=198.51.100.1;host=evil.example",
    "x-country": "US",
    "x-country-code": "US",
    "cf-ipcountry": "US",
    "x-appengine-country": "US",
    "country": "US",
}


def test_a_clients_own_fields_are_overwritten_or_deleted(function):
    headers = function(
        viewer_event("/eu-eur/", headers={**FORGED, "accept-language": "de"}, country="DE"), {"*": "1.5"}
    )
    assert {name: field["value"] for name, field in headers["headers"].items()} == {
        "host": DISTRIBUTION,
        "accept-language": "de",
        "cloudfront-viewer-country": "DE",
        "x-forwarded-host": DISTRIBUTION,
        "nearshelf-generation": "1.5",
    }


def test_forged_fields_choose_no_market(function):
    answer = function(viewer_event("/", headers=FORGED, country="DE"), {})
    assert answer["headers"]["location"]["value"] == "/eu-eur/"
    assert function(viewer_event("/", headers=FORGED), {})["headers"]["location"]["value"] == "/us-usd/"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        (DISTRIBUTION, 0),
        ("shop.example", 0),
        ("SHOP.example", 0),
        ("evil.example", 421),
        ("shop.example.evil.example", 421),
        ("", 421),
    ],
)
def test_only_names_of_the_shop_are_served(function, host, status):
    answer = function(viewer_event("/eu-eur/", host=host), {"*": "1.5"})
    assert answer.get("statusCode", 0) == status
    if not status:
        assert answer["headers"]["x-forwarded-host"]["value"] == host.lower()


def test_cookies_stay_only_where_the_route_says_so(function):
    cookies = {"ns_market": "eu-eur", "session": "s"}
    assert function(viewer_event("/eu-eur/", cookies=cookies), {"*": "1.5"})["cookies"] == {}
    assert set(function(viewer_event("/eu-eur/cart", cookies=cookies), {"*": "1.5"})["cookies"]) == set(cookies)


GUARDED = PolicySet(
    [
        CachePolicy("feed", "/edge/{rest...}", store=False, refuse_status=404, blocked_countries=("KP", "CU")),
        CachePolicy("open", "/open", fresh_s=60, forward_methods=("GET", "HEAD")),
        CachePolicy(
            "list", "/api/list", fresh_s=60, query=("page",), auth=Auth.OPTIONAL, blocked_countries=("KP", "CU")
        ),
        CachePolicy("me", "/me", store=False, auth=Auth.REQUIRED, blocked_countries=("SY",)),
        CachePolicy("mail", "/mail", store=False, auth=Auth.OPTIONAL),
        CachePolicy("rest", "/{rest...}", store=False, query=ALL_QUERY),
    ],
    MARKETS,
)


@pytest.fixture(scope="module")
def guarded() -> ViewerRequest:
    return ViewerRequest(viewer_request_function(GUARDED))


def gateways_answer(path, method, country, authorization):
    """In the order of edge/gateway/exchange.py: the country, then `refusal`."""
    fields = (("authorization", authorization),) if authorization is not None else ()
    request = Request(method, DISTRIBUTION, path, "", Headers(fields))
    match = GUARDED.match(path)
    if country in match.policy.blocked_countries:
        status, _, why = REFUSALS[Refusal.COUNTRY_BLOCKED]
        return unavailable(status, why, request)
    refused = refusal(request, match)
    return refused.response if refused else None


@pytest.mark.parametrize("authorization", [None, "", "Bearer x"])
@pytest.mark.parametrize("country", [None, "KP", "CU", "PC", "SY", "DE"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE"])
@pytest.mark.parametrize("path", ["/edge/x", "/open", "/api/list", "/me", "/mail", "/else"])
def test_the_edge_refuses_as_the_gateway_does(path, method, country, authorization, guarded):
    expected = gateways_answer(path, method, country, authorization)
    headers = {} if authorization is None else {"authorization": authorization}
    answer = guarded(viewer_event(path, method, headers, country=country), {})
    assert answer.get("statusCode") == (expected.status if expected else None)
    if expected:
        found = {name: field["value"] for name, field in answer["headers"].items()}
        assert found == dict(expected.headers.without(("content-length",)))


@pytest.mark.parametrize(
    ("path", "authorization", "expected", "passed"),
    [
        pytest.param("/api/list", None, "none", None, id="stored, nobody in particular"),
        pytest.param("/api/list", "Bearer x", "once.req-1", "Bearer x", id="stored, somebody: past the store"),
        pytest.param("/open", "Bearer x", "none", None, id="stored, credentials do not count"),
        pytest.param("/mail", "Bearer x", "once.req-1", "Bearer x", id="never stored"),
        pytest.param("/me", "Bearer x", "once.req-1", "Bearer x", id="required"),
    ],
)
def test_credentials_get_a_key_of_their_own(path, authorization, expected, passed, guarded):
    headers = {"authorization": authorization} if authorization else {}
    sent = guarded(viewer_event(path, headers=headers), {})["headers"]
    assert sent["nearshelf-generation"]["value"] == expected
    assert sent.get("authorization", {}).get("value") == passed


def test_a_country_is_blocked_whatever_the_client_says_of_it(guarded):
    forged = {"x-country": "DE", "x-forwarded-for": "192.0.2.1", "nearshelf-country": "DE"}
    assert guarded(viewer_event("/api/list", headers=forged, country="KP"), {})["statusCode"] == 451
    assert "statusCode" not in guarded(viewer_event("/api/list", headers={"x-country": "KP"}), {})


def test_answers_are_in_the_readers_form(guarded):
    program = guarded(viewer_event("/api/list", country="KP"), {})
    assert program["headers"]["content-type"]["value"] == "application/problem+json"
    assert '"status":451' in program["body"]["data"]
    person = guarded(viewer_event("/me", country="SY"), {})
    assert "<h1>Unavailable For Legal Reasons</h1>" in person["body"]["data"]
    assert "malformed: dot-segment." in guarded(viewer_event("/a/../b"), {})["body"]["data"]


def test_a_generation_that_no_bucket_can_move_is_a_key_for_once():
    policies = PolicySet(
        [
            CachePolicy("everywhere", "/list/{category}", fresh_s=60, generation=Generation.CATEGORY),
            CachePolicy("nameless", "/{market}/list", fresh_s=60, generation=Generation.PRODUCT),
            CachePolicy("rest", "/{rest...}", store=False),
        ],
        MARKETS,
    )
    function = ViewerRequest(viewer_request_function(policies))
    assert generation(function, "/list/a", {"*": "1.5"}) == "once.req-1"
    assert generation(function, "/eu-eur/list", {"*": "1.5", "h:eu-eur": "1.9"}) == "1.9"


def test_a_refusal_is_never_kept_and_says_what_may_be_done(function):
    answer = function(viewer_event("/eu-eur/", "POST"), {"*": "1.5"})
    assert answer["statusCode"] == 405
    assert answer["headers"]["allow"]["value"] == "GET, HEAD"
    assert answer["headers"]["cache-control"]["value"] == "no-store"


BARE = PolicySet([CachePolicy("rest", "/{rest...}", store=False)], MARKETS)


def test_the_shipped_policies_leave_a_fifth_of_the_room():
    assert len(viewer_request_function(load_policies(), ["shop.example"])) < 8_000
    assert len(viewer_response_function()) < 1_000


def test_only_what_the_policies_need_is_in_it():
    bare = viewer_request_function(BARE)
    assert len(bare) < 3_500
    for unneeded in ("cf.kvs", "import", "451", "401", "302", "ns_market", "decodeURIComponent", "normaliseQuery"):
        assert unneeded not in bare, unneeded
    assert "statusCode" not in ViewerRequest(bare)(viewer_event("/anything?a=1", "POST"))
    assert ViewerRequest(bare)(viewer_event("/anything?a=1"))["querystring"] == ""


def test_too_many_routes_are_refused_with_what_takes_the_room_and_what_to_do():
    many = [CachePolicy(f"r{number}", f"/some/long/place/{number}/{{x}}", fresh_s=60) for number in range(400)]
    with pytest.raises(FunctionTooLarge) as refused:
        viewer_request_function(PolicySet([*many, *BARE.policies], MARKETS))
    text = str(refused.value)
    assert re.match(rf"viewer-request\.js: \d+ bytes, at most {MAX_FUNCTION_BYTES}, which AWS does not raise: ", text)
    assert re.search(r": \d+ for 401 routes, .*\d+ for 2 kinds of routes, .*\d+ for the code", text)
    assert "Let one route take in several" in text


NOT_IN_THE_RUNTIME = {
    "a class": r"\bclass\b",
    "spread or rest": r"\.\.\.(?!\})",
    "destructuring": r"\b(const|let|var)\s*[{\[]",
    "a default parameter": r"function \w*\([^)]*=",
    "for...of": r"\bfor\s*\([^)]*\bof\b",
    "optional chaining": r"\?\.(?!\d)|\?\?",
    "Map, Set, eval": r"\b(Map|Set|WeakMap|Symbol|Proxy|eval|Function|setTimeout)\b",
    "a generator": r"function\s*\*|\byield\b",
    "newer methods": r"\.(flat|flatMap|findLast|at|matchAll|includes|find|findIndex|fromEntries)\(",
}


@pytest.mark.parametrize("what", NOT_IN_THE_RUNTIME)
def test_the_sources_keep_to_the_language_of_the_runtime(what):
    for source in (
        viewer_request_function(load_policies()),
        viewer_request_function(GUARDED),
        viewer_response_function(),
    ):
        code = re.sub(r"'(?:\\.|[^'\\\n])*'|`[^`]*`", "''", source)
        found = re.search(NOT_IN_THE_RUNTIME[what], code)
        assert found is None, found


@pytest.fixture(scope="module")
def viewer_response() -> Function:
    return Function(viewer_response_function())


@pytest.mark.parametrize(
    ("told", "expected"),
    [(None, "max-age=0, s-maxage=60"), ("no-cache, no-store", "no-cache, no-store"), (SILENCE, None)],
)
def test_a_viewer_is_told_what_was_meant_for_viewers(told, expected, viewer_response):
    headers = {"cache-control": "max-age=0, s-maxage=60", "etag": '"e"'} | ({TOLD_FIELD: told} if told else {})
    found = viewer_response(viewer_response_event(headers))["headers"]
    assert found.pop("cache-control", {}).get("value") == expected
    assert found == {"etag": {"value": '"e"'}}


def test_what_edge_and_origin_say_to_each_other_stays_between_them(viewer_response):
    between = ("cache-tag", "catalog-version", "surrogate-key", "nearshelf-expires-at", "nearshelf-new-field")
    event = viewer_response_event({**dict.fromkeys(between, "x"), "x-shop": "1"})
    event["response"]["cookies"] = {"a": {"value": "b"}}
    returned = viewer_response(event)
    assert returned["headers"] == {"x-shop": {"value": "1"}}
    assert returned["cookies"] == {"a": {"value": "b"}}
    assert returned["statusCode"] == 200
