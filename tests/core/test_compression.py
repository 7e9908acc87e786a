"""Content coding: who is answered in gzip, what is coded, and the fields of either form."""

import gzip
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.core.compression import (
    COMPRESSIBLE_TYPES,
    MAX_ACCEPT_ENCODING,
    accepts_gzip,
    chosen_by_coding,
    coded,
    may_be_coded,
    of_the_coded,
)
from edge.core.delivery import coded_hit_head, deliver, deliver_marked, hit_head, response_head
from edge.core.http import Headers
from edge.core.policy import OnLeaseLapse
from edge.core.status import CacheStatus
from tests.support.builders import PAGE, request, response, stored

COMPRESSED = replace(PAGE, compress=True)
BODY = b"<p>a lamp that is as plain as the page it stands on</p>" * 40
HIT = CacheStatus("nearshelf-eu", hit=True, ttl=40)
BROWSER = "gzip, deflate, br, zstd"


@pytest.mark.parametrize(
    ("accept_encoding", "expected"),
    [
        pytest.param(None, False, id="no field: nobody asked for a coding"),
        pytest.param("", False, id="empty: no coding is wanted"),
        pytest.param("gzip", True, id="gzip"),
        pytest.param(BROWSER, True, id="a browser's"),
        pytest.param("GZip", True, id="names are without case"),
        pytest.param("x-gzip", True, id="its old name"),
        pytest.param("br", False, id="another coding"),
        pytest.param("identity", False, id="identity"),
        pytest.param("*", True, id="whatever there is"),
        pytest.param("*;q=0", False, id="nothing at all: identity is what is left"),
        pytest.param("gzip;q=0", False, id="not gzip"),
        pytest.param("gzip;q=0.000", False, id="not gzip, with digits"),
        pytest.param("x-gzip;q=0", False, id="not gzip by its old name"),
        pytest.param("gzip;q=0, *", False, id="everything but gzip"),
        pytest.param("*, gzip;q=0", False, id="everything but gzip, the other way round"),
        pytest.param("br;q=1.0, *;q=0.5", True, id="gzip is in the star"),
        pytest.param("gzip;q=0.001", True, id="hardly"),
        pytest.param("identity;q=0", False, id="not identity, and nothing that we have"),
        pytest.param("identity;q=0, gzip", True, id="not identity, but gzip"),
        pytest.param("identity;q=0, *", True, id="not identity, but anything else"),
        pytest.param("identity;q=0.5, gzip;q=1.0", True, id="rather gzip"),
        pytest.param("identity, gzip;q=0.5", False, id="rather identity"),
        pytest.param("identity, gzip", True, id="either: the shorter one"),
        pytest.param("identity;q=1, *;q=0.1", False, id="rather identity than the star"),
        pytest.param(" gzip ;  q=0.5 ,br", True, id="blanks"),
        pytest.param("gzip\t;\tQ=0", False, id="tabs, and a capital Q"),
        pytest.param(",, gzip ,", True, id="empty members"),
        pytest.param("gzip, gzip;q=0", False, id="named twice: the lower weight"),
        pytest.param("gzip;q=2", False, id="no weight: the member does not count"),
        pytest.param("gzip;q=0.0001", False, id="four digits are no weight"),
        pytest.param("gzip;level=9", False, id="another parameter"),
        pytest.param("gzip;q=-1, *", True, id="a broken member leaves the others"),
        pytest.param("gzipped", False, id="another name that starts alike"),
        pytest.param("gzip br", False, id="no comma"),
        pytest.param("gz\u00efp", False, id="no token"),
        pytest.param("gzip" + "," * (MAX_ACCEPT_ENCODING - 4), True, id="as long as it may be"),
        pytest.param("gzip" + "," * (MAX_ACCEPT_ENCODING - 3), False, id="too long to be read"),
    ],
)
def test_who_is_answered_in_gzip(accept_encoding, expected):
    assert accepts_gzip(accept_encoding) is expected


@given(st.text(alphabet="gzipdentyx-*;q=01. ,\t", max_size=40))
def test_no_spelling_is_too_odd(text):
    assert accepts_gzip(text) in {True, False}
    assert not accepts_gzip(f"{text}, gzip;q=0")
    assert accepts_gzip(text) == accepts_gzip(text.upper())


@pytest.mark.parametrize(
    ("fields", "status", "octets", "expected"),
    [
        pytest.param({}, 200, 1_000, True, id="the smallest"),
        pytest.param({}, 200, 999, False, id="smaller"),
        pytest.param({}, 200, 10_000_000, True, id="the largest"),
        pytest.param({}, 200, 10_000_001, False, id="larger"),
        pytest.param({}, 404, 5_000, False, id="an error"),
        pytest.param({}, 301, 5_000, False, id="a redirect"),
        pytest.param({"content-type": "text/html; charset=utf-8"}, 200, 5_000, True, id="a type with a parameter"),
        pytest.param({"content-type": "Text/HTML ;charset=utf-8"}, 200, 5_000, True, id="a type in capitals"),
        pytest.param({"content-type": "application/json"}, 200, 5_000, True, id="json"),
        pytest.param({"content-type": "image/svg+xml"}, 200, 5_000, True, id="drawings"),
        pytest.param({"content-type": "image/avif"}, 200, 5_000, False, id="pictures are compressed already"),
        pytest.param({"content-type": "font/woff2"}, 200, 5_000, False, id="so are woff2 fonts"),
        pytest.param({"content-type": "text/html-ish"}, 200, 5_000, False, id="another type that starts alike"),
        pytest.param({"content-type": None}, 200, 5_000, False, id="no type"),
        pytest.param({"content_encoding": "br"}, 200, 5_000, False, id="coded by the origin"),
        pytest.param({"cache_control": "max-age=5, No-Transform"}, 200, 5_000, False, id="the origin forbids it"),
    ],
)
def test_what_has_a_coded_form(fields, status, octets, expected):
    headers = response(**fields).headers
    assert may_be_coded(COMPRESSED, status, headers, octets) is expected
    assert not may_be_coded(PAGE, status, headers, octets)


def test_every_listed_type_is_spelt_as_it_is_compared():
    assert all(name == name.lower().strip() and name.count("/") == 1 for name in COMPRESSIBLE_TYPES)


@given(st.binary(max_size=200), st.integers(0, 200))
def test_a_coded_body_is_the_body_and_shorter_or_there_is_none(piece, times):
    body = piece * times
    copy = coded(body)
    assert copy == b"" or (gzip.decompress(copy) == body and len(copy) < len(body))
    assert coded(body) == copy


def test_a_page_gets_shorter_and_noise_does_not():
    assert 0 < len(coded(BODY)) < len(BODY) / 5
    assert coded(bytes(range(256)) * 4) != b""
    assert coded(bytes(range(256))) == b""


@pytest.mark.parametrize(
    ("vary", "expected"),
    [
        ([], ["Accept-Encoding"]),
        (["Accept-Language"], ["Accept-Language, Accept-Encoding"]),
        (["accept", "x-a"], ["accept, x-a, Accept-Encoding"]),
        (["accept-ENCODING"], ["accept-ENCODING"]),
        (["*"], ["*"]),
    ],
)
def test_vary_names_accept_encoding_once(vary, expected):
    assert chosen_by_coding(Headers([("vary", line) for line in vary])).lines("vary") == expected


@pytest.mark.parametrize(
    ("etag", "expected"),
    [
        ('"a"', ['W/"a"']),
        ('W/"a"', ['W/"a"']),
        (None, []),
    ],
)
def test_the_tag_of_the_coded_form_is_weak(etag, expected):
    headers = of_the_coded(response(etag=etag).headers)
    assert headers.lines("etag") == expected
    assert headers.lines("content-encoding") == ["gzip"]


def test_what_is_true_of_the_uncoded_bytes_only_is_not_said_of_the_coded():
    headers = of_the_coded(response(accept_ranges="bytes", repr_digest="sha-256=:x:", digest="md5=x").headers)
    assert not {"accept-ranges", "repr-digest", "digest"} & {name for name, _ in headers}


# What a viewer gets.


def page(**changes):
    return stored(body=BODY, coded=coded(BODY), **changes)


def answer_to(kept, policy=COMPRESSED, method="GET", **fields):
    return deliver(request(method, **fields), kept, policy, 120.0, HIT)


def test_who_takes_gzip_gets_the_coded_copy():
    answer = answer_to(page(), accept_encoding=BROWSER)
    assert gzip.decompress(answer.body) == BODY
    assert answer.headers.lines("content-encoding") == ["gzip"]
    assert answer.headers.lines("content-length") == [str(len(answer.body))]
    assert answer.headers.lines("etag") == ['W/"a"']
    assert answer.headers.lines("vary") == ["Accept-Encoding"]


@pytest.mark.parametrize("fields", [{}, {"accept_encoding": "br"}, {"accept_encoding": "gzip;q=0"}])
def test_who_does_not_gets_the_body_as_it_is_and_caches_hear_of_the_other(fields):
    answer = answer_to(page(), **fields)
    assert answer.body == BODY
    assert "content-encoding" not in answer.headers
    assert answer.headers.lines("content-length") == [str(len(BODY))]
    assert answer.headers.lines("etag") == ['"a"']
    assert answer.headers.lines("vary") == ["Accept-Encoding"]


@pytest.mark.parametrize("copy", [None, b""])
def test_until_there_is_a_copy_the_body_goes_out_as_it_is(copy):
    answer = answer_to(stored(body=BODY, coded=copy), accept_encoding="gzip")
    assert answer.body == BODY
    assert answer.headers.lines("etag") == ['"a"']
    assert answer.headers.lines("vary") == ["Accept-Encoding"]


def test_a_route_that_does_not_compress_says_nothing_of_it():
    answer = answer_to(page(), PAGE, accept_encoding="gzip")
    assert answer.body == BODY
    assert "vary" not in answer.headers


def test_a_copy_is_not_used_any_more_once_the_origin_forbids_it():
    """A 304 may bring other fields for the same body."""
    kept = page(headers=response(cache_control="no-transform").headers)
    answer = answer_to(kept, accept_encoding="gzip")
    assert answer.body == BODY
    assert "vary" not in answer.headers


@pytest.mark.parametrize("accept_encoding", ["gzip", "identity"])
def test_head_says_the_length_that_get_would(accept_encoding):
    got = answer_to(page(), accept_encoding=accept_encoding)
    head = answer_to(page(), method="HEAD", accept_encoding=accept_encoding)
    assert head.headers == got.headers
    assert head.headers.lines("content-length") == [str(len(got.body))]
    assert head.body == b""


@pytest.mark.parametrize("known", ['"a"', 'W/"a"', '"x", W/"a"', "*"])
@pytest.mark.parametrize(("accept_encoding", "etag"), [("gzip", 'W/"a"'), ("identity", '"a"')])
def test_either_form_of_the_tag_is_known_again(known, accept_encoding, etag):
    answer = answer_to(page(), accept_encoding=accept_encoding, if_none_match=known)
    assert (answer.status, answer.body) == (304, b"")
    assert answer.headers.lines("etag") == [etag]
    assert answer.headers.lines("vary") == ["Accept-Encoding"]
    assert not {"content-encoding", "content-length"} & {name for name, _ in answer.headers}


def test_a_range_is_cut_from_neither_form():
    """RFC 9110 §14.2: a server may ignore it; the answer is whole."""
    answer = answer_to(page(), accept_encoding="gzip", range="bytes=0-9")
    assert answer.status == 200
    assert gzip.decompress(answer.body) == BODY


def test_a_stale_marked_page_is_never_coded():
    policy = replace(COMPRESSED, shows_price=True, on_lease_lapse=OnLeaseLapse.STALE_MARKED)
    answer = deliver_marked(request(accept_encoding="gzip"), page(), policy, 250.0, HIT)
    assert answer.body == BODY
    assert answer.headers.lines("content-length") == [str(len(BODY))]
    assert "content-encoding" not in answer.headers


@pytest.mark.parametrize("shows_price", [False, True])
def test_the_ready_made_heads_are_what_deliver_says(shows_price):
    policy = replace(COMPRESSED, shows_price=shows_price)
    rest = b"age: 20\r\ncache-status: nearshelf-eu; hit; ttl=40\r\n\r\n"
    kept = page(headers=response(vary="Accept-Language").headers)
    assert coded_hit_head(kept, policy) + rest == response_head(answer_to(kept, policy, accept_encoding="gzip"))
    assert hit_head(kept, policy) + rest == response_head(answer_to(kept, policy))
