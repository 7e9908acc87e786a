"""Parts of a stored body (RFC 9110 §14): which are cut, and what the answer says about them."""

import gzip
import re
from dataclasses import replace
from email.parser import BytesParser
from email.policy import HTTP

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.core.delivery import deliver, deliver_forwarded
from edge.core.http import Headers
from edge.core.ranges import MAX_RANGES, partial, wanted_parts
from edge.core.status import CacheStatus
from edge.core.stored import Form
from tests.support.builders import DATE, PAGE, request, response, stored

HIT = CacheStatus("nearshelf-eu", hit=True, ttl=40)
ALPHABET = b"abcdefghijklmnopqrstuvwxyz"


def answered(*, kept=None, policy=PAGE, method="GET", **fields):
    return deliver(request(method, **fields), kept or stored(body=ALPHABET), policy, 120.0, HIT)


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        pytest.param("bytes=0-3", ((0, 4),), id="first and last"),
        pytest.param("bytes=5-", ((5, 10),), id="open end"),
        pytest.param("bytes=-3", ((7, 10),), id="the last three"),
        pytest.param("bytes=-99", ((0, 10),), id="more than there are"),
        pytest.param("bytes=8-99", ((8, 10),), id="up to the end"),
        pytest.param("bytes=8-" + "9" * 30, ((8, 10),), id="beyond any number"),
        pytest.param("bytes=9-9", ((9, 10),), id="one octet"),
        pytest.param("BYTES=0-0", ((0, 1),), id="units without regard to case (§14.1)"),
        pytest.param("bytes= 0-0 , 2-2 ,, -1", ((0, 1), (2, 3), (9, 10)), id="several, with blanks and empty members"),
        pytest.param("bytes=5-6, 0-1", ((5, 7), (0, 2)), id="in the order in which they are asked for"),
        pytest.param("bytes=0-1, 2-3", ((0, 2), (2, 4)), id="next to each other"),
        pytest.param("bytes=0-1, 90-", ((0, 2),), id="one that does not exist is left out"),
        pytest.param("bytes=10-", (), id="none exists"),
        pytest.param("bytes=-0", (), id="the last zero"),
        pytest.param("bytes=20-30, -0", (), id="none of them"),
        pytest.param("bytes=3-2", None, id="the last before the first: not valid (§14.1.1)"),
        pytest.param("bytes=0-3, 3-2", None, id="one that is not valid spoils all"),
        pytest.param("bytes=a-b", None, id="no numbers"),
        pytest.param("bytes=0-3;5-6", None, id="no list"),
        pytest.param("bytes=+1-2", None, id="signs"),
        pytest.param("bytes=٠-٣", None, id="other digits"),
        pytest.param("bytes=-", None, id="nothing"),
        pytest.param("bytes=", None, id="empty"),
        pytest.param("bytes 0-3", None, id="no equals sign"),
        pytest.param("items=0-3", None, id="another unit"),
        pytest.param("bytes=0-4, 4-5", None, id="they overlap: the whole"),
        pytest.param("bytes=0-, 5-6", None, id="one within another"),
        pytest.param("bytes=" + ",".join(f"{n}-{n}" for n in range(6)), None, id="six: the whole"),
        pytest.param("bytes=" + "0" * 200 + "-1", None, id="longer than any that makes sense"),
    ],
)
def test_which_parts(field, expected):
    assert wanted_parts(field, 10) == expected


def test_of_nothing_there_is_no_part():
    assert wanted_parts("bytes=0-", 0) == ()
    assert wanted_parts("bytes=-5", 0) == ()


@given(st.text(alphabet="bytes=0123456789-, ;x", max_size=40).map(lambda text: "bytes=" + text), st.integers(0, 50))
def test_whatever_is_asked_parts_are_within_the_body_apart_and_few(field, octets):
    parts = wanted_parts(field, octets)
    if parts is not None:
        assert len(parts) <= MAX_RANGES
        assert all(0 <= first < end <= octets for first, end in parts)
        assert sum(end - first for first, end in parts) <= octets


def test_one_part():
    answer = answered(range="bytes=2-5")
    assert (answer.status, answer.body) == (206, b"cdef")
    assert answer.headers.get("content-range") == "bytes 2-5/26"
    assert answer.headers.lines("content-length") == ["4"]
    # What the 200 would have said of itself (§15.3.7).
    assert (answer.headers.get("etag"), answer.headers.get("date")) == ('"a"', DATE)
    assert (answer.headers.get("age"), answer.headers.get("content-type")) == ("20", "text/html")
    assert answer.headers.get("cache-status") == HIT.text()


def test_several_parts():
    answer = answered(range="bytes=0-1, -2, 7-7")
    assert answer.status == 206
    assert "content-range" not in answer.headers
    assert answer.headers.lines("content-length") == [str(len(answer.body))]
    content_type = answer.headers.get("content-type")
    assert content_type is not None
    message = BytesParser(policy=HTTP).parsebytes(b"content-type: " + content_type.encode() + b"\r\n\r\n" + answer.body)
    parts = [
        (part["content-range"], part["content-type"], part.get_payload(decode=True)) for part in message.iter_parts()
    ]
    assert parts == [
        ("bytes 0-1/26", "text/html", b"ab"),
        ("bytes 24-25/26", "text/html", b"yz"),
        ("bytes 7-7/26", "text/html", b"h"),
    ]


def test_the_boundary_is_never_in_the_body():
    headers, content = partial(Headers(), ALPHABET, ((0, 1), (2, 3)))
    first = (headers.get("content-type") or "").partition("boundary=")[2].encode()
    holding = ALPHABET + b"nearshelf-" + re.sub(rb".*-", b"", first)
    found = {
        (partial(Headers(), body, ((0, 1), (2, 3)))[0].get("content-type") or "").partition("boundary=")[2].encode()
        in body
        for body in (ALPHABET, holding, b" ".join(b"nearshelf-%08x" % n for n in range(100)))
    }
    assert found == {False}
    assert content.count(first) == 3


def test_a_part_of_several_that_is_alone_is_no_multipart():
    answer = answered(range="bytes=0-1, 99-")
    assert answer.headers.get("content-range") == "bytes 0-1/26"
    assert answer.body == b"ab"


def test_no_such_part():
    answer = answered(range="bytes=26-")
    assert (answer.status, answer.body) == (416, b"")
    assert answer.headers.get("content-range") == "bytes */26"
    assert answer.headers.lines("content-length") == ["0"]
    assert answer.headers.get("cache-control") == "no-store"
    assert "etag" not in answer.headers


@pytest.mark.parametrize(
    ("if_range", "status"), [('"a"', 206), ('"b"', 200), ('W/"a"', 200), ("Sat, 21 Nov 2026 11:00:00 GMT", 206)]
)
def test_if_range_that_does_not_hold_gives_the_whole(if_range, status):
    kept = stored(body=ALPHABET, headers=response(last_modified="Sat, 21 Nov 2026 11:00:00 GMT").headers)
    answer = answered(kept=kept, range="bytes=0-1", if_range=if_range)
    assert answer.status == status
    assert answer.body == (b"ab" if status == 206 else ALPHABET)
    # A range that does not exist is none if the condition does not hold.
    nowhere = answered(kept=kept, range="bytes=99-", if_range=if_range)
    assert nowhere.status == (416 if status == 206 else 200)


def test_preconditions_come_before_ranges():
    assert answered(range="bytes=0-1", if_none_match='"a"').status == 304
    assert answered(range="bytes=0-1", if_match='"b"').status == 412
    assert answered(range="bytes=0-1", if_match='"a"').status == 206


def test_only_a_get_has_parts():
    answer = answered(method="HEAD", range="bytes=0-1")
    assert (answer.status, answer.body, answer.headers.get("content-length")) == (200, b"", "26")


@pytest.mark.parametrize("status", [203, 301, 404])
def test_only_of_a_200(status):
    assert answered(kept=stored(status=status, body=ALPHABET), range="bytes=0-1").status == status


def test_a_coded_copy_is_never_cut():
    body = b"<p>text</p>" * 200
    kept = stored(body=body)
    kept.keep_form("gzip", Form("gzip", gzip.compress(body)))
    policy = replace(PAGE, compress=True)
    assert answered(kept=kept, policy=policy, accept_encoding="gzip").headers.get("content-encoding") == "gzip"
    part = answered(kept=kept, policy=policy, accept_encoding="gzip", range="bytes=3-6")
    assert (part.status, part.body) == (206, b"text")
    assert "content-encoding" not in part.headers
    assert part.headers.get("etag") == '"a"'
    assert part.headers.get("vary") == "Accept-Encoding"


def test_what_is_stored_says_that_parts_may_be_asked_for():
    assert answered().headers.lines("accept-ranges") == ["bytes"]
    none = stored(headers=response(accept_ranges="none").headers)
    assert answered(kept=none).headers.lines("accept-ranges") == ["bytes"]
    assert "accept-ranges" not in answered(kept=stored(status=404)).headers


def test_digests_of_the_whole_content_are_not_those_of_a_part():
    kept = stored(body=ALPHABET, headers=response(content_digest="sha-256=:x:", repr_digest="sha-256=:y:").headers)
    part = answered(kept=kept, range="bytes=0-1")
    assert "content-digest" not in part.headers
    assert part.headers.get("repr-digest") == "sha-256=:y:"
    assert answered(kept=kept).headers.get("content-digest") == "sha-256=:x:"


def test_of_a_body_that_is_not_there_yet_no_part_is_cut():
    answer = deliver(request(range="bytes=26-"), stored(body=b""), PAGE, 120.0, HIT, whole=True)
    assert answer.status == 200


def test_an_answer_that_is_not_stored_is_cut_where_the_origin_did_not_see_the_range():
    answer = deliver_forwarded(request(range="bytes=1-2"), response(body=b"body"), PAGE, HIT)
    assert (answer.status, answer.body) == (206, b"od")
    passed = deliver_forwarded(request(range="bytes=1-2"), response(body=b"body"), replace(PAGE, store=False), HIT)
    assert (passed.status, passed.body) == (200, b"body")
    own = deliver_forwarded(request(range="bytes=1-2"), response(206, b"od", content_range="bytes 1-2/4"), PAGE, HIT)
    assert (own.status, own.body, own.headers.get("content-range")) == (206, b"od", "bytes 1-2/4")
