"""The viewer-request Function by itself: hosts, generations, and what it deletes."""

from __future__ import annotations

import pytest

from cache_policies.tags import category_tag, home_tag, product_tag, slug_tag
from edge.policy_files import load_policies
from infra.aws.functions import viewer_request_function
from tests.support.cloudfront import DISTRIBUTION, ViewerRequest, viewer_event


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


def test_a_clients_own_fields_are_overwritten_or_deleted(function):
    forged = {
        "nearshelf-generation": "9.9",
        "min-catalog-version": "9.9",
        "nearshelf-edge-key": "guess",
        "nearshelf-country": "US",
        "x-forwarded-host": "evil.example",
        "forwarded": "host=evil.example",
        "accept-language": "de",
    }
    headers = function(viewer_event("/eu-eur/", headers=forged), {"*": "1.5"})["headers"]
    assert {name: field["value"] for name, field in headers.items()} == {
        "host": DISTRIBUTION,
        "accept-language": "de",
        "x-forwarded-host": DISTRIBUTION,
        "nearshelf-generation": "1.5",
    }


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


def test_a_refusal_is_never_kept_and_says_what_may_be_done(function):
    answer = function(viewer_event("/eu-eur/", "POST"), {"*": "1.5"})
    assert answer["statusCode"] == 405
    assert answer["headers"]["allow"]["value"] == "GET, HEAD"
    assert answer["headers"]["cache-control"]["value"] == "no-store"
