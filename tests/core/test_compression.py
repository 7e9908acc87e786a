"""Content coding: who is answered in which, what is coded, and the fields of every form."""

import gzip
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.core.compression import (
    CODINGS,
    COMPRESSIBLE_TYPES,
    MAX_ACCEPT_ENCODING,
    chosen_by_coding,
    coding_for,
    may_be_coded,
    of_the_coded,
)
from edge.core.delivery import deliver, deliver_marked, form_head, response_head
from edge.core.http import Headers
from edge.core.policy import OnLeaseLapse
from edge.core.status import CacheStatus
from edge.core.stored import Form, StoredResponse
from tests.support.builders import PAGE, request, response, stored

COMPRESSED = replace(PAGE, compress=True)
BODY = b"<p>a lamp that is as plain as the page it stands on</p>" * 40
HIT = CacheStatus("nearshelf-eu", hit=True, ttl=40)
BROWSER = "gzip, deflate, br, zstd"
COPIES = {"gzip": gzip.compress(BODY), "br": b"in brotli", "zstd": b"in zstandard"}


@pytest.mark.parametrize(
    ("accept_encoding", "expected"),
    [
        pytest.param(None, "", id="no field: nobody asked for a coding"),
        pytest.param("", "", id="empty: no coding is wanted"),
        pytest.param("gzip", "gzip", id="gzip"),
        pytest.param(BROWSER, "br", id="a browser's: all alike, the first of ours"),
        pytest.param("br", "br", id="brotli"),
        pytest.param("zstd", "zstd", id="zstandard"),
        pytest.param("gzip, zstd", "zstd", id="of two alike ours, in our order"),
        pytest.param("br;q=0.8, zstd, gzip;q=0.9", "zstd", id="the heaviest"),
        pytest.param("br;q=0, zstd;q=0.2, gzip;q=0.1", "zstd", id="the heaviest of what is left"),
        pytest.param("br;q=0.5, *", "gzip", id="the star stands for gzip alone"),
        pytest.param("gzip;q=0, *;q=0.3, zstd;q=0.1", "zstd", id="the star is not for what is named"),
        pytest.param("identity;q=0.9, br;q=0.8, gzip", "gzip", id="one is liked better than identity"),
        pytest.param("identity;q=0.9, br;q=0.8", "", id="identity is liked better"),
        pytest.param("GZip", "gzip", id="names are without case"),
        pytest.param("x-gzip", "gzip", id="its old name"),
        pytest.param("deflate", "", id="another coding"),
        pytest.param("identity", "", id="identity"),
        pytest.param("*", "gzip", id="whatever there is"),
        pytest.param("*;q=0", "", id="nothing at all: identity is what is left"),
        pytest.param("gzip;q=0", "", id="not gzip"),
        pytest.param("gzip;q=0.000", "", id="not gzip, with digits"),
        pytest.param("x-gzip;q=0", "", id="not gzip by its old name"),
        pytest.param("gzip;q=0, *", "", id="everything but gzip"),
        pytest.param("*, gzip;q=0", "", id="everything but gzip, the other way round"),
        pytest.param("deflate;q=1.0, *;q=0.5", "gzip", id="gzip is in the star"),
        pytest.param("gzip;q=0.001", "gzip", id="hardly"),
        pytest.param("identity;q=0", "", id="not identity, and nothing that we have"),
        pytest.param("identity;q=0, gzip", "gzip", id="not identity, but gzip"),
        pytest.param("identity;q=0, *", "gzip", id="not identity, but anything else"),
        pytest.param("identity;q=0.5, gzip;q=1.0", "gzip", id="rather gzip"),
        pytest.param("identity, gzip;q=0.5", "", id="rather identity"),
        pytest.param("identity, gzip", "gzip", id="either: the shorter one"),
        pytest.param("identity;q=1, *;q=0.1", "", id="rather identity than the star"),
        pytest.param(" gzip ;  q=0.5 ,deflate", "gzip", id="blanks"),
        pytest.param("gzip\t;\tQ=0", "", id="tabs, and a capital Q"),
        pytest.param(",, gzip ,", "gzip", id="empty members"),
        pytest.param("gzip, gzip;q=0", "", id="named twice: the lower weight"),
        pytest.param("gzip;q=2", "", id="no weight: the member does not count"),
        pytest.param("gzip;q=0.0001", "", id="four digits are no weight"),
        pytest.param("gzip;level=9", "", id="another parameter"),
        pytest.param("gzip;q=-1, *", "gzip", id="a broken member leaves the others"),
        pytest.param("gzipped", "", id="another name that starts alike"),
        pytest.param("gzip br", "", id="no comma"),
        pytest.param("gz\u00efp", "", id="no token"),
        pytest.param("gzip" + "," * (MAX_ACCEPT_ENCODING - 4), "gzip", id="as long as it may be"),
        pytest.param("gzip" + "," * (MAX_ACCEPT_ENCODING - 3), "", id="too long to be read"),
    ],
)
def test_in_which_coding_a_viewer_is_answered(accept_encoding, expected):
    assert coding_for(accept_encoding) == expected


@given(st.text(alphabet="gzipdentybrsd-*;q=01. ,\t", max_size=40))
def test_no_spelling_is_too_odd(text):
    assert coding_for(text) in {"", *CODINGS}
    assert coding_for(f"{text}, gzip;q=0, br;q=0, zstd;q=0") == ""
    assert coding_for(text) == coding_for(text.upper())


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
    headers = of_the_coded(response(etag=etag).headers, "zstd")
    assert headers.lines("etag") == expected
    assert headers.lines("content-encoding") == ["zstd"]


def test_what_is_true_of_the_uncoded_bytes_only_is_not_said_of_the_coded():
    headers = of_the_coded(response(accept_ranges="bytes", repr_digest="sha-256=:x:", digest="md5=x").headers, "br")
    assert not {"accept-ranges", "repr-digest", "digest"} & {name for name, _ in headers}


# What a viewer gets.


def page(copies=("gzip",), **changes) -> StoredResponse:
    """Stored, with copies in these codings: what is in them is not looked at here."""
    kept = stored(body=BODY, **changes)
    for coding in copies:
        kept.keep_form(coding, Form(coding, COPIES[coding]))
    return kept


def answer_to(kept, policy=COMPRESSED, method="GET", **fields):
    return deliver(request(method, **fields), kept, policy, 120.0, HIT)


@pytest.mark.parametrize(("accept_encoding", "coding"), [("gzip", "gzip"), (BROWSER, "br"), ("gzip, zstd", "zstd")])
def test_a_viewer_gets_the_copy_in_its_coding(accept_encoding, coding):
    answer = answer_to(page(CODINGS), accept_encoding=accept_encoding)
    assert answer.body == COPIES[coding]
    assert answer.headers.lines("content-encoding") == [coding]
    assert answer.headers.lines("content-length") == [str(len(answer.body))]
    assert answer.headers.lines("etag") == ['W/"a"']
    assert answer.headers.lines("vary") == ["Accept-Encoding"]


@pytest.mark.parametrize("fields", [{}, {"accept_encoding": "deflate"}, {"accept_encoding": "gzip;q=0"}])
def test_who_does_not_gets_the_body_as_it_is_and_caches_hear_of_the_other(fields):
    answer = answer_to(page(), **fields)
    assert answer.body == BODY
    assert "content-encoding" not in answer.headers
    assert answer.headers.lines("content-length") == [str(len(BODY))]
    assert answer.headers.lines("etag") == ['"a"']
    assert answer.headers.lines("vary") == ["Accept-Encoding"]


def test_until_there_is_a_copy_the_body_goes_out_as_it_is():
    being_made = page(())
    being_made.keep_form("br", Form("br", b""))
    not_shorter = page(())
    not_shorter.keep_form("br", Form("", BODY))
    for kept in (page(()), being_made, not_shorter, page(("zstd", "gzip"))):
        answer = answer_to(kept, accept_encoding="br")
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


def test_a_range_is_never_cut_from_a_copy():
    answer = answer_to(page(), accept_encoding="gzip", range="bytes=0-9")
    assert (answer.status, answer.body) == (206, BODY[:10])
    assert "content-encoding" not in answer.headers
    assert answer.headers.lines("etag") == ['"a"']


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
    kept = page(CODINGS, headers=response(vary="Accept-Language").headers)
    for coding in CODINGS:
        head = b"".join(form_head(kept, policy, coding, len(COPIES[coding])))
        assert head + rest == response_head(answer_to(kept, policy, accept_encoding=coding))
    assert b"".join(form_head(kept, policy, "", len(BODY))) + rest == response_head(answer_to(kept, policy))


def test_copies_go_over_to_a_response_with_the_same_body_and_their_heads_do_not():
    old, new = page(CODINGS), page(())
    for form in (old.coded or {}).values():
        form.tell(b"HTTP/1.1 200 OK\r\n", b"", b"age: 1\r\n\r\n", 100.0)
    old.keep_form("", Form("", BODY))
    new.take_copies(old)
    assert new.received is None
    assert {coding: form.body for coding, form in (new.coded or {}).items()} == COPIES
    assert {form.start for form in (new.coded or {}).values()} == {b""}
    assert new.size == old.size
