"""The origin-request handler: what reaches the origin, and what CloudFront would refuse."""

from __future__ import annotations

from functools import partial

import pytest

from cache_policies.origins import Origin, Origins
from edge.core.policy import Auth, CachePolicy, Residency
from edge.lambda_edge.events import READ_ONLY_AT_ORIGIN_REQUEST, BadEvent
from edge.lambda_edge.origin_request import handler_for, minimum_of
from edge.policy_files import load_policies
from tests.support.builders import MARKETS
from tests.support.cloudfront import DISTRIBUTION, origin_event, run_lambda

POLICIES = load_policies()
RAW_HANDLER = handler_for(POLICIES.policies, POLICIES.markets)
HANDLER = partial(run_lambda, RAW_HANDLER)


def event(uri="/eu-eur/products/oak", method="GET", query="", cookies=None, origin=None, origins="", **headers):
    """What CloudFront sends after the Function: `x_y` is the field x-y."""
    fields: dict[str, str | None] = {"x-forwarded-host": DISTRIBUTION, "nearshelf-generation": "1.9"}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    return origin_event(
        {
            "method": method,
            "uri": uri,
            "querystring": query,
            "headers": {name: {"value": value} for name, value in fields.items() if value is not None},
            "cookies": {name: {"value": value} for name, value in (cookies or {}).items()},
        },
        origin=origin or "origin.example",
        origins=origins,
    )


def fields(sent):
    return {name: [line["value"] for line in lines] for name, lines in sent["headers"].items()}


def test_a_fill_carries_the_generation_as_the_least_position_and_nothing_of_the_viewer():
    sent = HANDLER(
        event(user_agent="Mozilla/5.0", accept_language="de", cloudfront_viewer_country="DE", traceparent="00-a-b-01")
    )
    assert fields(sent) == {
        "host": ["origin.example"],
        "x-forwarded-host": [DISTRIBUTION],
        "min-catalog-version": ["1.9"],
        "nearshelf-generation": ["1.9"],
        "traceparent": ["00-a-b-01"],
        "via": ["2.0 cloudfront"],
    }


def test_fields_that_cloudfront_guards_are_left_as_they_are():
    guarded = {"if_none_match": '"e"', "accept_encoding": "br,gzip", "cdn_loop": "x"}
    before = event(**guarded)
    headers = before["Records"][0]["cf"]["request"]["headers"]
    kept = {name: headers[name] for name in READ_ONLY_AT_ORIGIN_REQUEST & set(headers)}
    assert len(kept) == 4
    sent = HANDLER(before)
    assert {name: sent["headers"][name] for name in kept} == kept


def test_a_write_reaches_the_origin_with_its_cookies_its_country_and_its_type():
    sent = HANDLER(
        event(
            "/eu-eur/cart/items",
            "POST",
            query="a=1",
            cookies={"ns_cart": "7"},
            nearshelf_generation="once.req-1",
            content_type="application/json",
            cloudfront_viewer_country="DE",
            x_evil="1",
        )
    )
    found = fields(sent)
    assert sent["method"] == "POST"
    assert sent["querystring"] == "a=1"
    assert found["cookie"] == ["ns_cart=7"]
    assert found["nearshelf-country"] == ["DE"]
    assert found["content-type"] == ["application/json"]
    assert found["x-forwarded-for"] == ["203.0.113.9"]
    assert not {"x-evil", "min-catalog-version"} & set(found)


@pytest.mark.parametrize("country", [None, "de", "D", "DEU", "../"])
def test_a_country_that_is_none_is_unknown(country):
    sent = HANDLER(event("/eu-eur/cart", nearshelf_generation="once.1", cloudfront_viewer_country=country))
    assert fields(sent)["nearshelf-country"] == ["ZZ"]


@pytest.mark.parametrize(
    ("generation", "expected"),
    [
        (None, None),
        ("none", None),
        ("once.abc", None),
        ("1.7041", "1.7041"),
        ("head.abc", "head"),
        ("rubbish", "head"),
        ("1.07", "head"),
    ],
)
def test_what_a_generation_asks_of_the_origin(generation, expected):
    minimum = minimum_of(generation)
    assert (None if minimum is None else str(minimum)) == expected


def test_what_the_function_refuses_is_refused_without_it_too():
    answer = HANDLER(event("/eu-eur/c/%2e%2e/cart"))
    assert answer["status"] == "400"
    assert "malformed: dot-segment." in answer["body"]
    assert HANDLER(event("/api/v1/%2e%2e"))["headers"]["content-type"][0]["value"] == "application/problem+json"
    assert answer["headers"]["cache-control"] == [{"key": "Cache-Control", "value": "no-store"}]
    answer = HANDLER(event(method="DELETE"))
    assert answer["status"] == "405"
    assert answer["headers"]["allow"][0]["value"] == "GET, HEAD"
    assert "content-length" not in answer["headers"]
    assert HANDLER(event("/edge/v1/feed", "POST"))["status"] == "404"


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"Records": []}, id="no record"),
        pytest.param(
            {"Records": [{"cf": {"config": {"eventType": "viewer-request"}, "request": {}}}]}, id="other event"
        ),
    ],
)
def test_an_event_of_another_kind_is_an_error_that_says_so(wrong):
    with pytest.raises(BadEvent, match="not a CloudFront origin-request event"):
        RAW_HANDLER(wrong, None)


def test_an_origin_in_a_bucket_is_refused():
    wrong = event()
    wrong["Records"][0]["cf"]["request"]["origin"] = {"s3": {}}
    with pytest.raises(BadEvent, match="custom origin"):
        RAW_HANDLER(wrong, None)


ORIGINS = Origins(
    (
        Origin("shop", ("us",), reads_fail_over_to="spare"),
        Origin("spare", ("us",)),
        Origin("europe", ("eu",), response_timeout_s=12.0),
    ),
    "shop",
)
NAMES = "shop=shop.example; spare=spare.example; europe=europe.example"
PLACING = partial(
    run_lambda,
    handler_for(
        [
            CachePolicy("page", "/{market}/products/{slug}", fresh_s=60),
            CachePolicy("art", "/art/{name}", fresh_s=60, origin="europe"),
            CachePolicy("me", "/{market}/me", store=False, residency=Residency.ROUTE, auth=Auth.REQUIRED),
            CachePolicy("my", "/me", store=False, residency=Residency.ROUTE),
            CachePolicy("card", "/card", store=False, residency=Residency.TOKENISE),
            CachePolicy("rest", "/{rest...}", store=False),
        ],
        MARKETS,
        ORIGINS,
    ),
)


def asked(uri, origin="shop.example", method="GET", **headers):
    sent = PLACING(event(uri, method, origin=origin, origins=NAMES, authorization="Bearer x", **headers))
    if "status" in sent:
        return sent["status"]
    custom = sent["origin"]["custom"]
    assert sent["headers"]["host"][0]["value"] == custom["domainName"]
    assert set(custom["customHeaders"]) == {"nearshelf-edge-key"}, "the table of origins is not for the origin"
    return custom["domainName"]


@pytest.mark.parametrize(
    ("uri", "chosen", "expected", "country"),
    [
        pytest.param("/eu-eur/products/oak", "shop.example", "shop.example", None, id="as the behaviour says"),
        pytest.param("/eu-eur/products/oak", "spare.example", "spare.example", None, id="the second try of a read"),
        pytest.param("/eu-eur/products/oak", "europe.example", "shop.example", None, id="under another's behaviour"),
        pytest.param("/art/x", "shop.example", "europe.example", None, id="the origin of the route"),
        pytest.param("/art/x", "spare.example", "europe.example", None, id="which fails over to nobody"),
        pytest.param("/eu-eur/me", "shop.example", "europe.example", "US", id="the jurisdiction of the market"),
        pytest.param("/eu-eur/me", "spare.example", "europe.example", "US", id="also on a second try"),
        pytest.param("/us-usd/me", "shop.example", "shop.example", "DE", id="not of the visitor's country"),
        pytest.param("/me", "shop.example", "europe.example", "DE", id="the country where no market is named"),
        pytest.param("/me", "spare.example", "spare.example", "US", id="a spare of the same jurisdiction"),
        pytest.param("/card", "shop.example", "503", "DE", id="no vault"),
    ],
)
def test_a_request_reaches_only_an_origin_that_may_have_it(uri, chosen, expected, country):
    assert asked(uri, chosen, cloudfront_viewer_country=country) == expected


def test_a_write_is_never_sent_to_a_spare():
    assert asked("/anything", "spare.example", "POST") == "shop.example"
    assert asked("/anything", "spare.example", "HEAD") == "spare.example"


def test_where_nobody_may_have_it_nobody_is_asked():
    nobody = handler_for(
        [
            CachePolicy("me", "/api/me", store=False, residency=Residency.ROUTE),
            CachePolicy("r", "/{r...}", store=False),
        ],
        MARKETS,
    )
    answer = run_lambda(nobody, event("/api/me"))
    found = fields(answer)
    assert (answer["status"], found["cache-control"]) == ("503", ["no-store"])
    assert "retry-after" not in found, "trying again does not change it"
    assert found["content-type"] == ["application/problem+json"]


def test_another_origin_is_given_its_own_time():
    sent = PLACING(event("/art/x", origin="shop.example", origins=NAMES))
    assert sent["origin"]["custom"]["readTimeout"] == 12


def test_a_missing_name_is_an_error_that_says_what_to_deploy():
    with pytest.raises(BadEvent, match="does not name europe: deploy template and functions of the same policies"):
        PLACING(event("/art/x", origin="shop.example", origins="shop=shop.example"))
    with pytest.raises(BadEvent, match="does not name shop"):
        PLACING(event("/eu-eur/products/oak", origin="shop.example"))


@pytest.mark.parametrize("uri", ["/me", "/eu-eur/products/oak"])
def test_a_second_run_for_the_second_origin_finds_what_the_first_found(uri):
    before = event(uri, origin="shop.example", origins=NAMES, cloudfront_viewer_country="DE")
    first = PLACING(before)
    cf = before["Records"][0]["cf"]
    again = {"Records": [{"cf": {**cf, "request": {**first, "origin": cf["request"]["origin"]}}}]}
    assert PLACING(again) == first


def test_credentials_are_required_where_the_policy_says_so_and_passed_where_it_lets_them():
    refused = PLACING(event("/eu-eur/me", origins=NAMES, origin="shop.example"))
    assert (refused["status"], fields(refused)["www-authenticate"]) == ("401", ['Bearer realm="shop"'])
    sent = PLACING(event("/eu-eur/me", origins=NAMES, origin="shop.example", authorization="Bearer x"))
    assert fields(sent)["authorization"] == ["Bearer x"]
    sent = PLACING(event("/eu-eur/products/oak", origins=NAMES, origin="shop.example", authorization="Bearer x"))
    assert "authorization" not in fields(sent)


def test_a_price_without_a_position_in_its_key_is_the_newest_there_is():
    """A replica that lags would show the old one to whoever sends credentials, or asks a route that is never stored."""
    price = CachePolicy("price", "/{market}/prices/{sku}", fresh_s=60.0, shows_price=True, auth=Auth.OPTIONAL)
    own = CachePolicy("own", "/{market}/own/{sku}", store=False, shows_price=True)
    page = CachePolicy("page", "/{market}/pages/{slug}", fresh_s=60.0, auth=Auth.OPTIONAL)
    handler = partial(
        run_lambda, handler_for((price, own, page, CachePolicy("rest", "/{rest...}", store=False)), MARKETS)
    )

    def minimum(uri, **more):
        return fields(handler(event(uri, nearshelf_generation="once.1", **more))).get("min-catalog-version")

    assert minimum("/eu-eur/prices/oak", authorization="Bearer x") == ["head"]
    assert minimum("/eu-eur/own/oak") == minimum("/eu-eur/own/oak", method="HEAD") == ["head"]
    assert minimum("/eu-eur/own/oak", method="POST") is None
    assert minimum("/eu-eur/pages/oak", authorization="Bearer x") is None
