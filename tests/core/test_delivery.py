"""The viewer's answer: what is added, what is removed, what a 304 and a stale-marked page are (rules 5 and 10)."""

from dataclasses import replace

import pytest

from edge.core.delivery import NOTICE, deliver, deliver_forwarded, deliver_marked, form_head, response_head
from edge.core.http import Headers, Response
from edge.core.policy import ALL, OnLeaseLapse
from edge.core.reuse import NOTICE_SLOT, FwdReason
from edge.core.status import CacheStatus
from edge.core.viewer_fields import viewer_headers
from tests.support.builders import DATE, PAGE, request, response, stored

PRICED = replace(PAGE, shows_price=True)
HIT = CacheStatus("nearshelf-eu", hit=True, ttl=40)
HIT_TEXT = "nearshelf-eu; hit; ttl=40"


def names(headers):
    return [name for name, _ in headers]


def test_a_hit():
    answer = deliver(request(), stored(initial_age_s=7.4), PAGE, 120.0, HIT)
    assert answer == Response(
        200,
        Headers(
            [
                ("date", DATE),
                ("content-type", "text/html"),
                ("etag", '"a"'),
                ("accept-ranges", "bytes"),
                ("content-length", "4"),
                ("age", "27"),
                ("cache-status", HIT_TEXT),
            ]
        ),
        b"body",
    )


def test_what_is_between_edge_and_origin_does_not_travel():
    headers = Headers(
        [
            ("catalog-version", "1.5"),
            ("cache-tag", "a"),
            ("surrogate-key", "a b"),
            ("nearshelf-cache-control", "max-age=5"),
            ("nearshelf-expires-at", "5"),
            ("nearshelf-anything", "5"),
            ("connection", "x-hop, close"),
            ("x-hop", "1"),
            ("keep-alive", "1"),
            ("transfer-encoding", "chunked"),
            ("age", "5"),
            ("content-length", "5"),
            ("set-cookie", "a=b"),
            ("x-shop", "1"),
            ("cache-status", "upstream; hit"),
        ]
    )
    assert viewer_headers(headers, PAGE).pairs == (("x-shop", "1"), ("cache-status", "upstream; hit"))
    assert ("set-cookie", "a=b") in viewer_headers(headers, replace(PAGE, cookies=True)).pairs
    assert ("set-cookie", "a=b") in viewer_headers(headers, replace(PAGE, request_fields=ALL)).pairs


def test_what_is_for_other_caches_goes_on_to_them_but_where_a_price_shows():
    headers = response(cdn_cache_control="max-age=5", cache_control="max-age=9, immutable").headers
    seen = viewer_headers(headers, PAGE)
    assert (seen.get("cdn-cache-control"), seen.get("cache-control")) == ("max-age=5", "max-age=9, immutable")
    assert "cdn-cache-control" not in viewer_headers(headers, PRICED)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (None, ["no-cache"]),
        ("public, max-age=600, s-maxage=600", ["no-cache"]),
        ("no-store", ["no-store"]),
        ("no-store, private, max-age=9", ["no-store, private, max-age=9"]),
        ("Private, max-age=9", ["private, no-cache"]),
        ('private="x-shop", max-age=9', ["private, no-cache"]),
    ],
)
def test_what_shows_a_price_is_asked_for_every_time(said, expected):
    headers = viewer_headers(response(cache_control=said, expires=DATE, pragma="x").headers, PRICED)
    assert headers.lines("cache-control") == expected
    assert ("expires" in headers) is ("no-store" in expected[0])
    assert "etag" in headers


def test_a_page_with_prices_is_not_even_kept_because_back_does_not_ask():
    page = replace(PRICED, on_lease_lapse=OnLeaseLapse.STALE_MARKED)
    assert viewer_headers(response().headers, page).lines("cache-control") == ["no-cache, no-store"]
    private = response(cache_control="private, max-age=300").headers
    assert viewer_headers(private, page).lines("cache-control") == ["private, no-cache, no-store"]


def test_other_answers_keep_what_the_origin_says_to_viewers():
    headers = viewer_headers(response(cache_control="public, max-age=31536000, immutable").headers, PAGE)
    assert headers.lines("cache-control") == ["public, max-age=31536000, immutable"]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_304_carries_what_a_cache_needs_and_no_body(method):
    kept = stored(headers=response(vary="accept-language", expires=DATE, x_other="1").headers)
    answer = deliver(request(method, if_none_match='"a"'), kept, PRICED, 120.0, HIT)
    assert answer.status == 304
    assert answer.body == b""
    assert dict(answer.headers) == {
        "date": DATE,
        "etag": '"a"',
        "vary": "accept-language",
        "cache-control": "no-cache",
        "age": "20",
        "cache-status": HIT_TEXT,
    }


def test_head_says_the_length_of_the_body_it_leaves_out():
    answer = deliver(request("HEAD"), stored(), PAGE, 120.0, HIT)
    assert answer.body == b""
    assert answer.headers.get("content-length") == "4"


def test_a_forwarded_answer():
    status = CacheStatus("nearshelf-eu", fwd=FwdReason.URI_MISS, fwd_status=200, stored=True)
    answer = deliver_forwarded(request(), response(age="5", cache_status="upstream; hit"), PRICED, status)
    assert answer.headers.lines("cache-status") == ["upstream; hit", status.text()]
    assert answer.headers.lines("age") == ["5"]
    assert answer.headers.lines("content-length") == ["4"]
    assert "catalog-version" not in answer.headers


def test_a_forwarded_answer_is_304_to_a_viewer_who_has_it():
    assert deliver_forwarded(request(if_none_match='"a"'), response(), PAGE, HIT).status == 304


def test_what_a_write_did_is_not_conditional_afterwards():
    asked = request("POST", if_none_match="*", if_match='"z"')
    assert deliver_forwarded(asked, response(), PAGE, HIT).status == 200


def test_an_unstored_route_leaves_preconditions_to_the_origin():
    never = replace(PAGE, store=False)
    assert deliver_forwarded(request(if_none_match='"a"'), response(), never, HIT).status == 200


def test_the_length_in_an_origins_answer_to_head_is_kept():
    never = replace(PAGE, store=False)
    answer = deliver_forwarded(request("HEAD"), response(body=b"", content_length="99"), never, HIT)
    assert answer.headers.lines("content-length") == ["99"]


@pytest.mark.parametrize("policy", [PAGE, replace(PAGE, store=False)])
def test_head_does_not_say_the_length_of_a_body_that_nobody_read(policy):
    assert "content-length" not in deliver_forwarded(request("HEAD"), response(body=b""), policy, HIT).headers


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_without_a_body_has_no_length(status):
    assert "content-length" not in deliver_forwarded(request(), response(status, b""), PAGE, HIT).headers


@pytest.mark.parametrize(
    "asked", [request(), request(if_none_match='"a"'), request(if_modified_since=DATE), request(range="bytes=0-1")]
)
def test_a_stale_marked_page_is_whole_without_validators_and_kept_by_nobody(asked):
    body = b"<body>" + NOTICE_SLOT + b"text" + NOTICE_SLOT + b"</body>"
    kept = stored(body=body, headers=response(last_modified=DATE, expires=DATE, cache_control="max-age=9").headers)
    digests = [("content-digest", "sha-256=:YQ==:"), ("repr-digest", "sha-256=:YQ==:")]
    kept.headers = Headers([*kept.headers, ("cdn-cache-control", "max-age=9"), *digests])
    status = CacheStatus("nearshelf-eu", hit=True, ttl=-90, detail="stale-marked")
    answer = deliver_marked(asked, kept, replace(PRICED, shows_price=False), 250.0, status)
    assert answer.status == 200
    assert answer.body == b"<body>" + NOTICE + b"text" + NOTICE_SLOT + b"</body>"
    assert answer.headers.lines("cache-control") == ["no-store"]
    assert answer.headers.lines("age") == ["150"]
    assert answer.headers.lines("content-length") == [str(len(answer.body))]
    assert answer.headers.lines("cache-status") == [status.text()]
    assert not {
        "accept-ranges", "catalog-version", "cdn-cache-control", "content-digest", "etag", "expires", "last-modified",
        "repr-digest",
    } & set(names(answer.headers))  # fmt: skip


def test_what_shows_no_price_and_has_no_slot_is_marked_by_its_fields_only():
    assert deliver_marked(request(), stored(), PAGE, 250.0, HIT).body == b"body"


def test_the_notice_is_announced_to_everybody():
    assert b'role="status"' in NOTICE


@pytest.mark.parametrize("policy", [PAGE, PRICED])
def test_the_ready_made_head_of_a_hit_is_what_deliver_says(policy):
    kept = stored(headers=response(cache_control="max-age=9", cache_status="upstream; hit").headers)
    head = (
        b"".join(form_head(kept, policy, "", len(kept.body)))
        + b"age: 20\r\ncache-status: "
        + HIT_TEXT.encode()
        + b"\r\n\r\n"
    )
    assert head == response_head(deliver(request(), kept, policy, 120.0, HIT))


def test_a_head_on_the_wire():
    assert response_head(Response(404, Headers([("a", "é")]))) == b"HTTP/1.1 404 Not Found\r\na: \xe9\r\n\r\n"
    assert response_head(Response(299)) == b"HTTP/1.1 299 \r\n\r\n"
