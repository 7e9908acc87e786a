"""The origin-response handler: CloudFront keeps what our gateway would, no longer; viewers are told the same."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cache_policies.positions import Position
from edge.core.delivery import deliver_forwarded
from edge.core.directives import parse_cache_control
from edge.core.http import Headers, Request, Response
from edge.core.key import CacheKey
from edge.core.policy import Auth, CachePolicy, PolicySet
from edge.core.status import CacheStatus
from edge.core.storing import Store, may_store
from edge.lambda_edge.events import SILENCE, TOLD_FIELD, BadEvent
from edge.lambda_edge.origin_response import handler_for
from edge.policy_files import load_policies
from infra.aws.functions import viewer_response_function
from origin.caching import CacheHints, cached
from tests.support.builders import MARKETS
from tests.support.cloudfront import (
    DISTRIBUTION,
    Function,
    origin_event,
    origin_response_event,
    run_lambda,
    viewer_response_event,
)

POLICIES = load_policies()
NOW = 1_800_000_000.0
LABELS = {"catalog-version": "1.9", "cache-tag": "s:eu-eur:oak, p:eu-eur:sku-1", "content-length": "100", "etag": '"e"'}
PAGE = "/eu-eur/products/oak"
PRICE = "/api/v1/eu-eur/prices/SKU-1"
FILE = "/static/0123/site.css"


def answer(headers, uri=PAGE, status=200, method="GET", policies=POLICIES, generation="1.9", wall_now=NOW, **request):
    """What the handler makes of an origin's response: field -> value, one line each but for Set-Cookie."""
    fields = {"x-forwarded-host": DISTRIBUTION, "nearshelf-generation": generation}
    fields |= {name.replace("_", "-"): value for name, value in request.items()}
    sent = origin_event(
        {
            "method": method,
            "uri": uri,
            "querystring": "",
            "headers": {name: {"value": value} for name, value in fields.items()},
            "cookies": {},
        }
    )["Records"][0]["cf"]["request"]
    handler = handler_for(policies.policies, policies.markets, lambda: wall_now)
    return run_lambda(handler, origin_response_event(sent, status, headers))


def fields(returned):
    return {name: ", ".join(line["value"] for line in lines) for name, lines in returned["headers"].items()}


def obeyed(*args, **named):
    return fields(answer(*args, **named)).get("cache-control")


def is_kept(*args, **named):
    said = parse_cache_control([obeyed(*args, **named)])
    assert said.no_store or (said.s_maxage_s is not None and said.stale_if_error_s is not None)
    return not said.no_store


def test_a_page_of_our_origin_is_kept_for_a_minute_with_its_tags_and_viewers_may_keep_nothing():
    origin = cached(
        _starlette_request(PAGE),
        b"page",
        "text/html",
        CacheHints(300, 600, 86_400, ("s:eu-eur:oak",), Position(1, 9), shows_price=True),
    )
    found = fields(answer(dict(origin.headers)))
    assert found["cache-control"] == "max-age=0, s-maxage=60, stale-while-revalidate=0, stale-if-error=0"
    assert found[TOLD_FIELD] == "no-cache, no-store"
    assert found["cache-tag"] == "s:eu-eur:oak, m:eu-eur"  # every page of a market can be named by it
    assert found["etag"] == origin.headers["etag"]
    assert not {"catalog-version", "cdn-cache-control", "nearshelf-expires-at"} & set(found)


def _starlette_request(path):
    from starlette.requests import Request as StarletteRequest

    return StarletteRequest({"type": "http", "method": "GET", "path": path, "headers": []})


@pytest.mark.parametrize(
    ("said", "uri", "expected"),
    [
        pytest.param(
            "max-age=20", PAGE, (20, 40, 0), id="a short price leaves what is left of the bound to refreshing"
        ),
        pytest.param("max-age=300", PRICE, (60, 0, 0), id="a price is never stale"),
        pytest.param("max-age=10, stale-if-error=900", PRICE, (10, 0, 0), id="nor when the origin would have it"),
        pytest.param("max-age=99", FILE, (99, 0, 31_536_000), id="what shows no price may outlive an error"),
        pytest.param("max-age=99, stale-if-error=5", FILE, (99, 0, 5), id="the origin may say less"),
        pytest.param("max-age=99, must-revalidate", FILE, (99, 0, 0), id="or nothing stale at all"),
        pytest.param("no-cache", PAGE, (0, 0, 0), id="asked about every time"),
    ],
)
def test_lifetimes_are_those_of_the_gateway_within_the_bound_of_prices(said, uri, expected):
    found = parse_cache_control([obeyed({**LABELS, "cdn-cache-control": said}, uri=uri)])
    assert (found.s_maxage_s, found.stale_while_revalidate_s, found.stale_if_error_s) == expected


def test_the_origins_cache_control_counts_where_it_says_nothing_to_cdns():
    assert "s-maxage=7," in obeyed({**LABELS, "cache-control": "max-age=0, s-maxage=7"})
    assert "s-maxage=60," in obeyed(LABELS)  # silent: the policy's default


def test_what_the_response_has_aged_already_counts():
    made = "Fri, 15 Jan 2027 07:59:45 GMT"  # 15 s before
    assert "s-maxage=5," in obeyed({**LABELS, "cache-control": "s-maxage=20", "date": made})
    assert "s-maxage=5," in obeyed({**LABELS, "cache-control": "s-maxage=20", "age": "15"})


def test_a_hard_end_bounds_every_lifetime():
    ends = {**LABELS, "nearshelf-expires-at": str(int(NOW) + 12)}
    assert obeyed(ends) == "max-age=0, s-maxage=12, stale-while-revalidate=0, stale-if-error=0"
    assert is_kept(ends, wall_now=NOW + 11)
    assert not is_kept(ends, wall_now=NOW + 12)


@pytest.mark.parametrize(
    ("headers", "named"),
    [
        pytest.param({"cache-tag": "a:b"}, {}, id="no position"),
        pytest.param({"catalog-version": "1.9"}, {}, id="no tags"),
        pytest.param({**LABELS, "cache-tag": ", ".join(f"t:{n}" for n in range(51))}, {}, id="more than fifty tags"),
        pytest.param({**LABELS, "cache-tag": "P:SKU"}, {}, id="a tag in capitals"),
        pytest.param({**LABELS, "set-cookie": "a=b"}, {}, id="a cookie"),
        pytest.param({**LABELS, "vary": "accept-language"}, {}, id="varies on what is in no key"),
        pytest.param({**LABELS, "cdn-cache-control": "private"}, {}, id="private to CDNs"),
        pytest.param(LABELS, {"status": 500}, id="a failure"),
        pytest.param(LABELS, {"status": 302}, id="a status that is not storable"),
        pytest.param({**LABELS, "content-range": "bytes 0-1/2"}, {"status": 206}, id="a part"),
        pytest.param({**LABELS, "content-length": "2000001"}, {}, id="too large"),
        pytest.param({name: LABELS[name] for name in ("catalog-version", "cache-tag")}, {}, id="of unknown length"),
        pytest.param(LABELS, {"generation": "head.req-1"}, id="a key for once, because the store is out of order"),
        pytest.param(LABELS, {"generation": "once.req-1"}, id="a key for once"),
        pytest.param(LABELS, {"authorization": "Bearer x"}, id="asked for with credentials"),
        pytest.param(LABELS, {"method": "OPTIONS"}, id="another method"),
    ],
)
def test_what_may_not_be_kept_is_not_kept_by_cloudfront_either(headers, named):
    assert not is_kept({"cache-control": "public, s-maxage=300", **headers}, **named)
    found = fields(answer({"cache-control": "public, s-maxage=300", **headers}, **named))
    assert "cache-tag" not in found
    assert "set-cookie" not in found


def test_silence_of_the_origin_is_no_leave_to_serve_an_expired_copy_on_errors():
    assert not is_kept({"content-length": "1"})
    assert obeyed({"content-length": "1"}, FILE) == "no-store"


def test_a_chunked_response_has_an_end_and_keeps_its_guarded_fields():
    headers = {name: LABELS[name] for name in ("catalog-version", "cache-tag")}
    found = fields(answer({**headers, "transfer-encoding": "chunked", "via": "1.1 proxy"}))
    assert "s-maxage=60" in found["cache-control"]
    assert (found["transfer-encoding"], found["via"]) == ("chunked", "1.1 proxy")


@pytest.mark.parametrize(("status", "expected_s"), [(404, 10), (410, None)])
def test_errors_live_as_long_as_the_policy_says_for_their_status(status, expected_s):
    found = parse_cache_control([obeyed(LABELS, status=status)])
    assert found.s_maxage_s == expected_s
    assert found.no_store == (expected_s is None)
    if expected_s is not None:
        assert (found.max_age_s, found.stale_while_revalidate_s, found.stale_if_error_s) == (0, 0, 0)


def test_an_error_says_nothing_that_only_a_function_would_take_out():
    assert TOLD_FIELD not in fields(answer({**LABELS, "cache-control": "public, s-maxage=300"}, status=404))


def test_a_304_renews_what_it_confirms():
    assert obeyed(LABELS, status=304) == obeyed(LABELS)
    assert not is_kept({}, status=304)


def test_a_head_is_judged_as_the_get_that_shares_its_entry():
    assert obeyed(LABELS, method="HEAD") == obeyed(LABELS)


@pytest.mark.parametrize(
    ("said", "expected", "told"),
    [
        pytest.param(None, None, "-", id="silent: nothing keeps it by default"),
        pytest.param("no-store", "no-store", "no-store", id="forbidden"),
        pytest.param("private, max-age=60", "private, max-age=60", "private, max-age=60", id="private"),
        pytest.param("max-age=60", "no-store", "max-age=60", id="allowed to all: not at the edge"),
    ],
)
def test_an_unstored_route_is_left_alone_unless_cloudfront_would_keep_it(said, expected, told):
    headers = {"set-cookie": ["a=b", "c=d"], "content-length": "1"}
    found = answer(headers if said is None else {**headers, "cache-control": said}, "/eu-eur/cart")
    assert (fields(found).get("cache-control"), fields(found).get(TOLD_FIELD)) == (expected, told)
    assert [line["value"] for line in found["headers"]["set-cookie"]] == ["a=b", "c=d"]


def test_the_tags_of_the_policy_join_those_of_the_origin():
    product = POLICIES.by_id("product-page")
    assert product is not None
    tagged = replace(product, tags=("page:product", "s:{market}:{slug}"))
    policies = PolicySet([tagged, POLICIES.policies[-1]], POLICIES.markets)
    found = fields(answer(LABELS, policies=policies))
    assert found["cache-tag"] == "s:eu-eur:oak, p:eu-eur:sku-1, page:product"
    assert is_kept({"catalog-version": "1.9", "content-length": "1"}, policies=policies)


def test_a_route_with_optional_credentials_is_kept_for_those_who_send_none():
    policies = PolicySet(
        [
            CachePolicy("list", "/list", fresh_s=60, max_fresh_s=60, auth=Auth.OPTIONAL),
            CachePolicy("rest", "/{rest...}", store=False),
        ],
        MARKETS,
    )
    assert "s-maxage=60" in obeyed(LABELS, "/list", policies=policies)
    assert obeyed(LABELS, "/list", policies=policies, authorization="Basic eA==") == "no-store"


@pytest.mark.parametrize(
    ("compress", "vary", "kept"),
    [
        (True, "Accept-Encoding", True),
        (True, "accept-encoding, accept-language", False),
        (True, "*", False),
        (False, "Accept-Encoding", False),
    ],
)
def test_what_the_origin_has_coded_may_be_kept_where_the_coding_is_in_the_key(compress, vary, kept):
    policies = PolicySet(
        [CachePolicy("page", "/page", fresh_s=60, compress=compress), CachePolicy("r", "/{rest...}", store=False)],
        MARKETS,
    )
    headers = {**LABELS, "vary": vary, "content-encoding": "gzip"}
    assert is_kept(headers, "/page", policies=policies) is kept
    assert fields(answer(headers, "/page", policies=policies))["vary"] == vary


@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize("vary", ["Accept-Encoding", "accept-encoding, cookie"])
def test_a_plain_answer_that_names_the_coding_is_kept_as_at_the_gateway(compress, vary):
    page = CachePolicy("page", "/page", fresh_s=60, compress=compress)
    policies = PolicySet([page, CachePolicy("r", "/{rest...}", store=False)], MARKETS)
    headers = {**LABELS, "vary": vary}
    request = Request("GET", DISTRIBUTION, "/page", "", Headers(()))
    response = Response(200, Headers(tuple(headers.items())), b"page")
    key = CacheKey(DISTRIBUTION, "/page", (), "")
    by_gateway = may_store(request, response, policies.match("/page"), key, sent_at=0.0, received_at=0.0, wall_now=NOW)
    assert is_kept(headers, "/page", policies=policies) is isinstance(by_gateway, Store)
    assert isinstance(by_gateway, Store) is (compress and vary == "Accept-Encoding")


def test_what_refuses_this_distribution_is_an_origin_that_fails():
    headers = {"nearshelf-refused": "edge-key", "x-reason": "wrong key", "content-length": "9", "via": "1.1 proxy"}
    returned = answer(headers, PRICE, status=403)
    assert (returned["status"], fields(returned)["content-type"]) == ("503", "application/problem+json")
    assert fields(returned)["cache-control"] == "no-store"
    assert fields(returned)["retry-after"] == "1"
    assert not {"x-reason", "nearshelf-refused", "content-length"} & set(fields(returned))
    assert "cannot be reached" in returned["body"]


@pytest.mark.parametrize(
    "wrong", [{}, {"Records": [{"cf": {"config": {"eventType": "origin-response"}, "request": {}}}]}]
)
def test_an_event_of_another_kind_is_an_error_that_says_so(wrong):
    with pytest.raises(BadEvent, match="not a CloudFront origin-response event"):
        handler_for(POLICIES.policies, POLICIES.markets)(wrong, None)


def test_attached_to_the_wrong_event_it_says_where_it_belongs():
    request = origin_event({"method": "GET", "uri": "/", "querystring": "", "headers": {}, "cookies": {}})
    with pytest.raises(BadEvent, match="attach this function to origin-response"):
        handler_for(POLICIES.policies, POLICIES.markets)(
            {"Records": [{"cf": {**request["Records"][0]["cf"], "response": {}}}]}, None
        )


RESPONSES = [
    pytest.param(uri, status, said, id=f"{uri} {status} {said}")
    for uri in (PAGE, PRICE, FILE, "/eu-eur/cart", "/eu-eur/products/oak/deeper")
    for status in (200, 301, 302)
    for said in (None, "no-store", "private", "public, max-age=60", "max-age=0, s-maxage=300", "no-cache")
]


@pytest.fixture(scope="module")
def viewer_response() -> Function:
    return Function(viewer_response_function())


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize(("uri", "status", "said"), RESPONSES)
def test_through_handler_and_function_a_viewer_sees_what_the_gateway_would_show(
    uri, status, said, labelled, viewer_response
):
    headers = {
        "content-type": "text/html",
        "content-length": "0",
        "etag": '"e"',
        "x-shop": "1",
        "nearshelf-anything": "1",
        "cdn-cache-control": "max-age=9",
    }
    headers |= {"cache-control": said} if said else {}
    headers |= LABELS | {"content-length": "0"} if labelled else {}
    policy = POLICIES.match(uri).policy
    gateway = deliver_forwarded(
        Request("GET", DISTRIBUTION, uri, ""), Response(status, Headers(headers.items())), policy, CacheStatus("x")
    )
    kept = answer(headers, uri, status)
    shown = viewer_response(viewer_response_event(fields(kept), status))
    found = {name: field["value"] for name, field in shown["headers"].items()}
    assert found == dict(gateway.headers.without(("cache-status",)))


def test_where_the_origin_is_silent_viewers_are_told_nothing(viewer_response):
    kept = fields(answer({**LABELS, "cdn-cache-control": "max-age=60"}, FILE))
    assert kept[TOLD_FIELD] == SILENCE
    assert "cache-control" not in viewer_response(viewer_response_event(kept))["headers"]
