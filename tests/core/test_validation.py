"""What is asked of the origin about a stored response, and what its 304 moves (RFC 9111 §4.3, rule 1)."""

from dataclasses import replace
from typing import Any

import pytest

from cache_policies.positions import Position
from edge.core.http import Headers, Response, is_strong
from edge.core.stored import Form
from edge.core.storing import DoNotStore, Reason, Store
from edge.core.validation import conditions, freshen
from tests.support.builders import DATE_S, PATH_TAG, match, response, stored

NOT_MODIFIED = response(304, b"", catalog_version="1.9", cache_tag="p:eu-eur:boot, c:eu-eur:shoes")


def freshened(old, answer):
    return freshen(old, answer, match(), sent_at=499.0, received_at=500.0, wall_now=float(DATE_S))


@pytest.mark.parametrize(
    ("etag", "expected"),
    [('"a"', True), ('""', True), ('W/"a"', False), ("a", False), ('"', False), ("", False), (None, False)],
)
def test_a_strong_etag(etag, expected):
    assert is_strong(etag) is expected
    assert conditions(stored(etag=etag), labelled=True) == ((("if-none-match", etag),) if expected else ())


def test_a_304_moves_position_tags_and_lifetimes_and_keeps_the_body():
    old = stored(judged_at=7)
    for coding in ("", "gzip"):
        form = Form(coding, b"copy")
        form.tell(b"start", b"own", b"rest", 100.0)
        old.keep_form(coding, form)
    decision = freshened(old, NOT_MODIFIED)
    assert isinstance(decision, Store)
    new = decision.stored
    assert (new.position, new.tags) == (Position(1, 9), ("p:eu-eur:boot", "c:eu-eur:shoes", PATH_TAG))
    assert (new.stored_at, new.initial_age_s, new.fresh_until) == (500.0, 1.0, 559.0)
    assert (new.body, new.status, new.etag) == (old.body, 200, '"a"')
    assert new.judged_at == -1
    # The copies are of the body, which is the same; the rendered heads say what has just changed.
    assert new.form("") is None
    copy = new.form("gzip")
    assert copy is not None
    assert (copy.body, copy.start, copy.told) == (b"copy", b"", b"")
    assert (old.position, old.stored_at) == (Position(1, 5), 100.0)


def test_a_304_carries_the_tags_of_the_policy_too():
    tagged = match(tags=("page:product",))
    times: dict[str, Any] = {"sent_at": 499.0, "received_at": 500.0, "wall_now": float(DATE_S)}
    decision = freshen(stored(), NOT_MODIFIED, tagged, **times)
    assert isinstance(decision, Store)
    assert decision.stored.tags == ("p:eu-eur:boot", "c:eu-eur:shoes", "page:product", PATH_TAG)
    # The tags of the stored body are the origin's to repeat: without them a purge would miss it.
    untagged = response(304, b"", catalog_version="1.9", cache_tag=None)
    assert freshen(stored(), untagged, tagged, **times) == DoNotStore(Reason.NO_TAGS)
    never_had_any = stored(headers=response(cache_tag=None).headers, tags=("page:product",))
    assert isinstance(freshen(never_had_any, untagged, tagged, **times), Store)


def test_its_fields_replace_the_stored_ones_but_for_those_of_the_body():
    old = stored(
        headers=Headers(
            [("etag", '"a"'), ("content-length", "4"), ("content-encoding", "br"), ("x-a", "1"), ("x-b", "1")]
        )
    )
    fields = Headers(
        [
            *NOT_MODIFIED.headers,
            ("content-length", "0"),
            ("content-encoding", "gzip"),
            ("x-a", "2"),
            ("connection", "x"),
        ]
    )
    decision = freshened(old, Response(304, fields))
    assert isinstance(decision, Store)
    new = decision.stored.headers
    assert [new.lines(name) for name in ("content-length", "content-encoding", "x-a", "x-b", "etag")] == [
        ["4"], ["br"], ["2"], ["1"], ['"a"'],
    ]  # fmt: skip
    assert "connection" not in new
    assert new.get("catalog-version") == "1.9"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        pytest.param(replace(NOT_MODIFIED, status=200), Reason.NOT_MODIFIED_MISMATCH, id="not a 304"),
        pytest.param(response(304, etag='W/"a"'), Reason.NOT_MODIFIED_MISMATCH, id="a weak match"),
        pytest.param(response(304, etag='"b"'), Reason.NOT_MODIFIED_MISMATCH, id="another body"),
        pytest.param(response(304, etag=None), Reason.NOT_MODIFIED_MISMATCH, id="no validator"),
        pytest.param(response(304, catalog_version=None), Reason.NO_LABEL, id="no label of its own"),
        pytest.param(response(304, cache_tag=None), Reason.NO_TAGS, id="no tags of its own"),
        pytest.param(response(304, cache_control="no-store"), Reason.NO_STORE, id="no-store"),
        pytest.param(response(304, cache_control="private"), Reason.PRIVATE, id="private"),
        pytest.param(response(304, set_cookie="a=b"), Reason.SET_COOKIE, id="Set-Cookie"),
        pytest.param(response(304, vary="cookie"), Reason.VARY, id="other requests than before"),
        pytest.param(response(304, vary="*"), Reason.VARY, id="nobody else at all"),
    ],
)
def test_a_304_that_is_of_no_use(answer, reason):
    assert freshened(stored(), answer) == DoNotStore(reason)


@pytest.mark.parametrize("then", [None, "Accept-Encoding"])
@pytest.mark.parametrize("now", [None, "Accept-Encoding"])
def test_accept_encoding_in_vary_is_no_variant_where_the_policy_compresses(then, now):
    old = stored(headers=response(vary=then).headers)
    answer = response(304, b"", vary=now)
    times: dict[str, Any] = {"sent_at": 499.0, "received_at": 500.0, "wall_now": float(DATE_S)}
    assert isinstance(freshen(old, answer, match(compress=True), **times), Store)
    coded = stored(headers=response(vary=None, content_encoding="br").headers)
    assert freshen(coded, response(304, b"", vary="accept-encoding"), match(compress=True), **times) == DoNotStore(
        Reason.VARY
    )


def test_a_weak_stored_etag_is_never_freshened():
    assert freshened(stored(etag='W/"a"'), response(304, etag='W/"a"')) == DoNotStore(Reason.NOT_MODIFIED_MISMATCH)


def test_a_304_from_an_older_snapshot_confirms_the_body_and_lowers_nothing():
    decision = freshened(stored(), response(304, catalog_version="1.3", cache_tag="old"))
    assert isinstance(decision, Store)
    assert (decision.stored.position, decision.stored.tags) == (Position(1, 5), ("p:eu-eur:boot", "h:eu-eur"))
    assert decision.stored.fresh_until == 559.0


def test_a_hard_end_survives_a_304_that_does_not_repeat_it():
    end = str(DATE_S + 10)
    old = stored(headers=Headers([*stored().headers, ("nearshelf-expires-at", end)]))
    decision = freshened(old, NOT_MODIFIED)
    assert isinstance(decision, Store)
    assert decision.stored.error_until == 510.0
