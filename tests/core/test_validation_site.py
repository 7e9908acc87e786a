"""Validation at an edge with a purge log of its own, in front of any origin (RFC 9111 §4.3)."""

from dataclasses import replace

import pytest

from cache_policies.positions import Position
from edge.core.floors import Floors, Verdict
from edge.core.http import Headers
from edge.core.storing import DoNotStore, Reason, Store
from edge.core.validation import conditions, freshen
from tests.support.builders import DATE_S, PATH_TAG, match, response, stored

COUNTER = Position(1, 9)
MODIFIED = "Sat, 21 Nov 2026 11:00:00 GMT"
EARLIER = "Sat, 21 Nov 2026 10:00:00 GMT"


def kept(etag='"a"', modified=None, **changes):
    fields = response(etag=etag, last_modified=modified, catalog_version=None, cache_tag=None).headers
    return stored(headers=fields, etag=etag, **{"tags": (PATH_TAG,), **changes})


def not_modified(**fields):
    return response(304, b"", **{"etag": None, "catalog_version": None, "cache_tag": None, **fields})


def freshened(old, answer, counter=COUNTER):
    return freshen(old, answer, match(), counter=counter, sent_at=500.0, received_at=500.0, wall_now=float(DATE_S))


@pytest.mark.parametrize(
    ("old", "expected"),
    [
        pytest.param(kept(), {"if-none-match": '"a"'}, id="a strong ETag"),
        pytest.param(kept('W/"a"'), {"if-none-match": 'W/"a"'}, id="a weak one"),
        pytest.param(kept(None, MODIFIED), {"if-modified-since": MODIFIED}, id="Last-Modified"),
        pytest.param(
            kept('"a"', MODIFIED), {"if-none-match": '"a"', "if-modified-since": MODIFIED}, id="both (RFC 9111 §4.3.1)"
        ),
        pytest.param(kept(None, "yesterday"), {}, id="a Last-Modified that is no date"),
        pytest.param(kept(None), {}, id="none"),
        pytest.param(kept('"a"', MODIFIED, status=404), {}, id="an error: a 304 would be about a success"),
        pytest.param(kept('"a"', MODIFIED, status=301), {}, id="nor is a redirect conditional (RFC 9110 §13.2.1)"),
    ],
)
def test_what_the_origin_is_asked(old, expected):
    assert dict(conditions(old, labelled=False)) == expected


def test_only_a_strong_etag_may_confirm_what_was_purged():
    assert dict(conditions(kept('"a"', MODIFIED), labelled=False, purged=True)) == {"if-none-match": '"a"'}
    assert conditions(kept('W/"a"', MODIFIED), labelled=False, purged=True) == ()
    assert conditions(kept(None, MODIFIED), labelled=False, purged=True) == ()


@pytest.mark.parametrize(
    ("old", "answer", "is_about"),
    [
        pytest.param(kept(), {"etag": '"a"'}, True, id="the strong ETag (RFC 9111 §4.3.4)"),
        pytest.param(kept(), {"etag": '"b"'}, False, id="another"),
        pytest.param(kept(None, MODIFIED), {"etag": '"b"'}, False, id="one that is not known"),
        pytest.param(kept('W/"a"'), {"etag": '"a"'}, False, id="strong where a weak one is stored"),
        pytest.param(kept('W/"a"'), {"etag": 'W/"a"'}, True, id="the weak ETag"),
        pytest.param(kept(), {"etag": 'W/"a"'}, True, id="weak where a strong one is stored"),
        pytest.param(kept('W/"a"'), {"etag": 'W/"b"'}, False, id="another weak one"),
        pytest.param(kept(None, MODIFIED), {"last_modified": MODIFIED}, True, id="Last-Modified"),
        pytest.param(kept(None, MODIFIED), {"last_modified": EARLIER}, False, id="another date, though before it"),
        pytest.param(
            kept(None, MODIFIED), {"etag": 'W/"b"', "last_modified": MODIFIED}, True, id="a weak one beside it"
        ),
        pytest.param(kept('"a"', MODIFIED), {"etag": '"a"', "last_modified": EARLIER}, True, id="the ETag decides"),
        pytest.param(kept('"a"', MODIFIED), {}, True, id="none: about the one that was asked about"),
    ],
)
def test_which_304_is_about_the_stored_response(old, answer, is_about):
    decision = freshened(old, not_modified(**answer))
    assert isinstance(decision, Store) if is_about else decision == DoNotStore(Reason.NOT_MODIFIED_MISMATCH)
    if isinstance(decision, Store):
        new = decision.stored
        assert (new.etag, new.body, new.fresh_until) == (old.etag, old.body, 560.0)
        assert new.headers.get("etag") == old.headers.get("etag")


def test_it_moves_to_what_was_applied_when_it_was_asked_for():
    decision = freshened(kept(), not_modified(catalog_version="9.9"))
    assert isinstance(decision, Store)
    assert (decision.stored.position, decision.stored.tags) == (COUNTER, (PATH_TAG,))


def test_a_purge_while_it_was_asked_for_holds():
    floors = Floors()
    decision = freshened(kept(position=Position(1, 5)), not_modified())
    floors.raise_to(Position(1, 10), (PATH_TAG,))
    assert isinstance(decision, Store)
    assert floors.judge(decision.stored) is Verdict.PURGED


def test_tags_that_it_does_not_repeat_still_hold():
    fields = Headers([*kept().headers, ("surrogate-key", "a b"), ("cache-tag", "c")])
    old = stored(headers=fields, tags=("c", "a", "b", PATH_TAG))
    decision = freshened(old, not_modified())
    assert isinstance(decision, Store)
    assert decision.stored.tags == ("c", "a", "b", PATH_TAG)
    moved = freshened(old, not_modified(surrogate_key="d"))
    assert isinstance(moved, Store)
    assert moved.stored.tags == ("c", "d", PATH_TAG)


def test_new_fields_count_at_once_and_those_of_the_body_stay():
    old = kept()
    answer = not_modified(
        cache_control="max-age=5", content_length="0", content_encoding="br", content_range="x", x_new="1", age="2"
    )
    decision = freshened(old, answer)
    assert isinstance(decision, Store)
    new = decision.stored
    assert (new.fresh_until, new.initial_age_s) == (503.0, 2.0)
    assert new.headers.get("x-new") == "1"
    assert not {"content-length", "content-encoding", "content-range"} & {name for name, _ in new.headers}


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"cache_control": "no-store"}, Reason.NO_STORE),
        ({"cache_control": "private"}, Reason.PRIVATE),
        ({"set_cookie": "a=b"}, Reason.SET_COOKIE),
        ({"vary": "x-a"}, Reason.VARY),
    ],
)
def test_what_ends_its_being_stored(fields, reason):
    assert freshened(kept(), not_modified(**fields)) == DoNotStore(reason)


def test_what_has_no_use_left_is_not_kept_for_it():
    old = kept(None)
    useless = freshened(replace(old, headers=old.headers), not_modified(cache_control="max-age=0, must-revalidate"))
    assert useless == DoNotStore(Reason.NO_LIFETIME)
