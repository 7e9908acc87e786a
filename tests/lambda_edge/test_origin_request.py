"""The origin-request handler: what reaches the origin, and what CloudFront would refuse."""

from __future__ import annotations

import pytest

from edge.lambda_edge.events import READ_ONLY_AT_ORIGIN_REQUEST, BadEvent
from edge.lambda_edge.origin_request import handler_for, minimum_of
from edge.policy_files import load_policies
from tests.support.cloudfront import DISTRIBUTION, origin_event

POLICIES = load_policies()
HANDLER = handler_for(POLICIES.policies, POLICIES.markets)


def event(uri="/eu-eur/products/oak", method="GET", query="", cookies=None, **headers):
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
        }
    )


def fields(sent):
    return {name: [line["value"] for line in lines] for name, lines in sent["headers"].items()}


def test_a_fill_carries_the_generation_as_the_least_position_and_nothing_of_the_viewer():
    sent = HANDLER(
        event(user_agent="Mozilla/5.0", accept_language="de", cloudfront_viewer_country="DE", traceparent="00-a-b-01"),
        None,
    )
    assert fields(sent) == {
        "host": ["origin.example"],
        "x-forwarded-host": [DISTRIBUTION],
        "min-catalog-version": ["1.9"],
        "traceparent": ["00-a-b-01"],
        "via": ["2.0 cloudfront"],
    }


def test_fields_that_cloudfront_guards_are_left_as_they_are():
    guarded = {"if_none_match": '"e"', "accept_encoding": "br,gzip", "cdn_loop": "x"}
    before = event(**guarded)
    headers = before["Records"][0]["cf"]["request"]["headers"]
    kept = {name: headers[name] for name in READ_ONLY_AT_ORIGIN_REQUEST & set(headers)}
    assert len(kept) == 4
    sent = HANDLER(before, None)
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
        ),
        None,
    )
    found = fields(sent)
    assert sent["method"] == "POST"
    assert sent["querystring"] == "a=1"
    assert found["cookie"] == ["ns_cart=7"]
    assert found["nearshelf-country"] == ["DE"]
    assert found["content-type"] == ["application/json"]
    assert found["x-forwarded-for"] == ["203.0.113.9"]
    assert not {"x-evil", "nearshelf-generation", "cloudfront-viewer-country", "min-catalog-version"} & set(found)


@pytest.mark.parametrize("country", [None, "de", "D", "DEU", "../"])
def test_a_country_that_is_none_is_unknown(country):
    sent = HANDLER(event("/eu-eur/cart", nearshelf_generation="once.1", cloudfront_viewer_country=country), None)
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
    answer = HANDLER(event("/eu-eur/c/%2e%2e/cart"), None)
    assert (answer["status"], answer["body"]) == ("400", "Bad Request: dot-segment\n")
    assert answer["headers"]["cache-control"] == [{"key": "Cache-Control", "value": "no-store"}]
    answer = HANDLER(event(method="DELETE"), None)
    assert answer["status"] == "405"
    assert answer["headers"]["allow"][0]["value"] == "GET, HEAD"
    assert "content-length" not in answer["headers"]
    assert HANDLER(event("/edge/v1/feed", "POST"), None)["status"] == "404"


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
        HANDLER(wrong, None)


def test_an_origin_in_a_bucket_is_refused():
    wrong = event()
    wrong["Records"][0]["cf"]["request"]["origin"] = {"s3": {}}
    with pytest.raises(BadEvent, match="custom origin"):
        HANDLER(wrong, None)
