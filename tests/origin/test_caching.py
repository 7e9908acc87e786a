"""Labels, validators and lifetimes of what may be stored (rule 1, docs/wire.md)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from starlette.requests import Request

from cache_policies.positions import MAX_TAGS_PER_RESPONSE, Position
from origin.caching import CacheHints, cached, etag_of, fit, matches, minimum_of, uncached
from origin.errors import Invalid

HINTS = CacheHints(300, 600, 86_400, ("p:eu-eur:a", "n:eu-eur"), Position(1, 7))


def request(method: str = "GET", **headers: str) -> Request:
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "method": method, "path": "/", "headers": pairs, "query_string": b""})


def test_a_response_bears_its_labels():
    response = cached(request(), b"body", "text/html", HINTS)
    assert response.status_code == 200
    assert response.headers["catalog-version"] == "1.7"
    assert response.headers["cache-tag"] == "p:eu-eur:a, n:eu-eur, m:eu-eur"
    assert response.headers["cdn-cache-control"] == "max-age=300, stale-while-revalidate=600, stale-if-error=86400"
    assert response.headers["etag"] == etag_of(b"body")
    assert response.headers["content-length"] == "4"


@pytest.mark.parametrize(
    ("hints", "edges", "cloudfront"),
    [
        pytest.param(
            HINTS,
            "max-age=300, stale-while-revalidate=600, stale-if-error=86400",
            "public, max-age=0, s-maxage=300, stale-while-revalidate=600, stale-if-error=86400",
            id="a page",
        ),
        pytest.param(
            replace(HINTS, fresh_s=60, stale_while_revalidate_s=0, stale_if_error_s=0),
            "max-age=60, stale-while-revalidate=0, stale-if-error=0",
            "public, max-age=0, s-maxage=60, stale-if-error=0",
            id="a price: never stale on an error, and CloudFront is told so",
        ),
        pytest.param(
            replace(HINTS, fresh_s=31_536_000, stale_while_revalidate_s=0, immutable=True),
            "max-age=31536000, stale-while-revalidate=0, stale-if-error=86400, immutable",
            "public, max-age=31536000, immutable",
            id="a picture by its digest",
        ),
    ],
)
def test_the_same_is_said_to_both_kinds_of_edges(hints, edges, cloudfront):
    headers = cached(request(), b"x", "text/plain", hints).headers
    assert headers["cdn-cache-control"] == edges
    assert headers["cache-control"] == cloudfront


def test_a_hard_end_travels():
    assert "nearshelf-expires-at" not in cached(request(), b"x", "text/plain", HINTS).headers
    hints = replace(HINTS, expires_at=1_790_000_000)
    assert cached(request(), b"x", "text/plain", hints).headers["nearshelf-expires-at"] == "1790000000"


def test_the_validator_is_strong_and_of_the_body_only():
    one = cached(request(), b"same", "text/html", HINTS).headers["etag"]
    other = cached(request(), b"same", "text/html", replace(HINTS, position=Position(1, 8), tags=("x:y",))).headers[
        "etag"
    ]
    assert one == other
    assert one.startswith('"')
    assert one.endswith('"')
    assert cached(request(), b"other", "text/html", HINTS).headers["etag"] != one


TAG = etag_of(b"body")


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        pytest.param({}, 200, id="none"),
        pytest.param({"if_none_match": TAG}, 304, id="ours"),
        pytest.param({"if_none_match": f'"x", {TAG}'}, 304, id="in a list"),
        pytest.param({"if_none_match": f"W/{TAG}"}, 304, id="weakened on the way"),
        pytest.param({"if_none_match": "*"}, 304, id="any"),
        pytest.param({"if_none_match": '"x"'}, 200, id="another"),
        pytest.param({"if_none_match": TAG.strip('"')}, 200, id="unquoted"),
        pytest.param({"if_none_match": ""}, 200, id="empty"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_if_none_match(fields, status, method):
    response = cached(request(method, **fields), b"body", "text/html", HINTS)
    assert response.status_code == status
    if status == 304:
        assert response.body == b""
        assert "content-length" not in response.headers
    # A 304 and the answer to HEAD are labelled too: they move the label to the stored response.
    for name in ("catalog-version", "cache-tag", "cdn-cache-control", "cache-control", "etag"):
        assert name in response.headers


def test_head_says_the_length_of_what_get_would_send():
    response = cached(request("HEAD"), b"body", "text/html", HINTS)
    assert (response.headers["content-length"], response.body) == ("4", b"")


def test_a_404_is_labelled_and_never_a_304():
    response = cached(request(if_none_match=TAG), b"body", "text/html", HINTS, status=404)
    assert response.status_code == 404
    assert response.headers["catalog-version"] == "1.7"


def test_what_nothing_purges_is_not_kept():
    with pytest.raises(ValueError, match="names the tags"):
        cached(request(), b"x", "text/html", replace(HINTS, tags=()))


def test_several_lines_of_if_none_match_are_one_list():
    assert matches(['"a"', '"b"'], '"b"')
    assert not matches([], '"b"')


def test_many_tags_give_way_to_the_one_that_stands_for_them():
    tags = ["n:eu-eur", "rates:eu-eur", "l:eu-eur", "many:jp-jpy", *(f"p:eu-eur:{number}" for number in range(60))]
    markets = ("m:eu-eur", "m:jp-jpy")
    assert fit(tags) == ("n:eu-eur", "rates:eu-eur", "l:eu-eur", "many:jp-jpy", *markets, "many:eu-eur")
    exactly = [f"p:eu-eur:{number}" for number in range(MAX_TAGS_PER_RESPONSE - 1)]
    assert fit([*exactly, exactly[0]]) == (*exactly, "m:eu-eur")
    assert fit(fit(tags)) == fit(tags)


def test_whatever_is_shown_in_a_market_carries_its_tag_and_each_picture_that_of_all():
    assert fit(["pic:a", "p:eu-eur:a", "h:jp-jpy"]) == (
        "pic:a",
        "p:eu-eur:a",
        "h:jp-jpy",
        "pics",
        "m:eu-eur",
        "m:jp-jpy",
    )
    assert fit(["file:style.css"]) == ("file:style.css",)


def test_what_nothing_can_stand_for_is_refused():
    with pytest.raises(ValueError, match="cannot stand for"):
        fit(f"pic:{number}" for number in range(60))


@pytest.mark.parametrize(
    ("field", "minimum"),
    [(None, None), ("head", "head"), ("1.7041", Position(1, 7041))],
)
def test_the_minimum(field, minimum):
    asked = request() if field is None else request(min_catalog_version=field)
    assert minimum_of(asked) == minimum


@pytest.mark.parametrize("field", ["", "HEAD", "1", "1.x", "-1.1"])
def test_a_minimum_that_is_none_is_refused(field):
    with pytest.raises(Invalid, match="Min-Catalog-Version"):
        minimum_of(request(min_catalog_version=field))


def test_uncached_is_kept_by_nobody():
    response = uncached(b"x", "text/html", 201, {"location": "/"})
    assert response.headers["cache-control"] == "no-store"
    assert (response.status_code, response.headers["location"]) == (201, "/")
    assert "etag" not in response.headers
