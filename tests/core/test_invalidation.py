"""What an unsafe request makes unusable (RFC 9111 §4.4, RFC 9875 §3)."""

from dataclasses import replace

import pytest

from cache_policies.tags import site_tag
from edge.core.http import Headers
from edge.core.invalidation import invalidated_keys, invalidated_tags
from edge.core.key import CacheKey
from edge.core.policy import ALL_QUERY, PolicySet
from tests.support.builders import KEY, MARKETS, PAGE, request

REST = replace(PAGE, id="rest", path="/{rest...}", query=ALL_QUERY)
PRIVATE = replace(PAGE, id="account", path="/account/{rest...}", store=False)
POLICIES = PolicySet((replace(PAGE, query=("sort",)), PRIVATE, REST), MARKETS)
OWN = KEY


def other(path, query=""):
    return CacheKey("shop.example", path, (("*", query),) if query else (), "")


def keys(method="POST", status=200, path=KEY.path, query="", **fields):
    headers = Headers((name.replace("_", "-"), value) for name, value in fields.items())
    return invalidated_keys(request(method, path, query), status, headers, POLICIES)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "M-SEARCH", "LOCK", "post", "get"])
@pytest.mark.parametrize("status", [200, 201, 204, 299, 301, 303, 399])
def test_an_unsafe_method_that_succeeded(method, status):
    assert keys(method, status) == (OWN,)


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "TRACE"])
def test_a_safe_method_never(method):
    assert keys(method, location="/a", content_location="/b") == ()


@pytest.mark.parametrize("status", [100, 103, 400, 404, 409, 412, 500, 503, 599])
def test_an_error_never(status):
    assert keys(status=status, location="/a") == ()


@pytest.mark.parametrize("name", ["location", "content_location"])
@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        pytest.param("/a", other("/a"), id="a path"),
        pytest.param("/a?b=1&a", other("/a", "b=1&a"), id="with a query"),
        pytest.param("/a#f", other("/a"), id="without its fragment"),
        pytest.param(
            "hat", CacheKey("shop.example", "/eu-eur/products/hat", (), "eu-eur"), id="relative to the target"
        ),
        pytest.param("../c/%68ats", other("/eu-eur/c/hats"), id="upwards, in its normal form"),
        pytest.param(
            "?sort=x", CacheKey(*OWN[:2], (("sort", "x"),), "eu-eur"), id="a query alone, as the route reads it"
        ),
        pytest.param("//shop.example/a", other("/a"), id="for this host"),
        pytest.param("http://shop.example/a", other("/a"), id="an address"),
        pytest.param("HTTP://Shop.Example:80/a", other("/a"), id="in capitals, its port said"),
        pytest.param("https://shop.example/a", None, id="another scheme is another origin"),
        pytest.param("http://shop.example:80", other("/"), id="no path"),
        pytest.param("http://shop.example:8080/a", None, id="another port"),
        pytest.param("http://shop.example:443/a", None, id="the port of the other scheme"),
        pytest.param("http://other.example/a", None, id="another host"),
        pytest.param("//other.example/a", None, id="another host, of the same scheme"),
        pytest.param("http://u:p@shop.example/a", None, id="with a user"),
        pytest.param("ftp://shop.example/a", None, id="another scheme"),
        pytest.param("mailto:a@shop.example", None, id="no address of ours"),
        pytest.param("/a//b", None, id="what no edge answers"),
        pytest.param("/%zz", None, id="what cannot be read"),
        pytest.param("http://[", None, id="or not at all"),
        pytest.param("/account/orders", None, id="where nothing is stored"),
    ],
)
def test_what_else_it_names(name, reference, expected):
    found = keys(**{name: reference})
    assert found == ((OWN,) if expected is None else (OWN, expected))


def test_both_names_and_each_key_once():
    assert keys(location="/a", content_location="/b") == (OWN, other("/a"), other("/b"))
    assert keys(location=KEY.path, content_location="http://shop.example" + KEY.path) == (OWN,)


def test_the_target_as_it_is_keyed():
    assert keys(query="utm=1&sort=a%20b") == (CacheKey(*OWN[:2], (("sort", "a b"),), "eu-eur"),)
    assert keys(path="/account/orders") == ()
    assert keys(path="/a//b") == ()


def test_a_port_of_its_own():
    asked = replace(request("PUT", "/a"), authority="shop.example:8080")
    found = invalidated_keys(asked, 200, Headers([("location", "http://shop.example:8080/b")]), POLICIES)
    assert [key.path for key in found] == ["/a", "/b"]
    assert {key.authority for key in found} == {"shop.example:8080"}
    over_tls = Headers([("location", "https://shop.example:443/c"), ("content-location", "/d")])
    secure = replace(asked, authority="shop.example")
    assert [key.path for key in invalidated_keys(secure, 200, over_tls, POLICIES, "https")] == ["/a", "/c", "/d"]
    elsewhere = Headers([("location", "http://shop.example/b")])
    assert [key.path for key in invalidated_keys(asked, 200, elsewhere, POLICIES)] == ["/a"]


@pytest.mark.parametrize(
    ("method", "status", "text", "expected"),
    [
        ("POST", 200, '"a", "B c"', ("a", "b%20c")),
        ("POST", 200, '"a", "a"', ("a",)),
        ("POST", 200, '"*"', ("%2a",)),
        ("POST", 200, '""', ()),
        ("POST", 200, '"a", b', ()),
        ("POST", 404, '"a"', ()),
        ("GET", 200, '"a"', ()),
    ],
)
def test_groups(method, status, text, expected):
    headers = Headers([("cache-group-invalidation", text)])
    assert invalidated_tags(request(method), status, headers) == expected
    assert all(tag == site_tag(tag.encode()) for tag in expected)
