"""What may be kept at an edge with a purge log of its own, in front of any origin (RFC 9111 §3)."""

from dataclasses import replace

import pytest

from cache_policies.positions import Position
from edge.core.http import Headers
from edge.core.policy import ALL, Auth
from edge.core.storing import DoNotStore, Label, Reason, Store, label_of, may_store
from tests.support.builders import DATE_S, KEY, PAGE, PATH_TAG, match, request, response

COUNTER = Position(1, 7)
ANY = replace(
    PAGE,
    fresh_s=0.0,
    max_fresh_s=2.0**31,
    stale_while_revalidate_s=0.0,
    stale_if_error_s=0.0,
    negative_s=(),
    any_status=True,
    heuristic_percent=10,
    request_fields=ALL,
    vary=ALL,
    auth=Auth.SHARED,
    stale_if_unreachable_s=9.0,
)
MODIFIED = "Sat, 21 Nov 2026 11:00:00 GMT"


def plain(status=200, **fields):
    """A response of an origin that knows nothing of us."""
    return response(status, **{"etag": None, "catalog_version": None, "cache_tag": None, **fields})


def decide(answer, *, asked=None, policy=ANY):
    return may_store(
        asked or request(),
        answer,
        match(policy),
        KEY,
        counter=COUNTER,
        sent_at=100.0,
        received_at=100.0,
        wall_now=float(DATE_S),
    )


FINAL = (
    *range(200, 206), 299, *range(300, 304), 305, 307, 308, 399, 400, 403, 404, 405, 406, 410, 413, 414, 418, 431,
    451, 499, 500, 501, 503, 504, 599,
)  # fmt: skip


@pytest.mark.parametrize("status", FINAL)
def test_every_final_status_that_states_its_freshness(status):
    decision = decide(plain(status, cache_control="max-age=60"))
    assert isinstance(decision, Store)
    assert decision.stored.fresh_until == 160.0
    assert isinstance(decide(plain(status, expires="Sat, 21 Nov 2026 12:01:00 GMT")), Store)


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (206, Reason.PARTIAL_CONTENT),
        (304, Reason.STATUS),
        (412, Reason.STATUS),
        (416, Reason.STATUS),
        (600, Reason.STATUS),
    ],
)
def test_but_for_what_is_no_whole_response(status, reason):
    assert decide(plain(status, cache_control="max-age=60")) == DoNotStore(reason)
    assert decide(plain(status, content_range="bytes 0-3/9", cache_control="max-age=60")) == DoNotStore(
        Reason.PARTIAL_CONTENT
    )


@pytest.mark.parametrize("status", [299, 302, 400, 403, 416, 431, 499, 500, 501, 503])
def test_without_it_a_status_that_is_not_cacheable_by_default_is_not_kept(status):
    assert decide(plain(status, last_modified=MODIFIED, etag='"a"')) == DoNotStore(Reason.STATUS)


@pytest.mark.parametrize("status", [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 451])
def test_one_that_is_may_be_guessed(status):
    decision = decide(plain(status, last_modified=MODIFIED))
    assert isinstance(decision, Store)
    assert decision.stored.fresh_until == 460.0


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        pytest.param({}, False, id="neither freshness nor validator"),
        pytest.param({"etag": '"a"'}, True, id="an ETag"),
        pytest.param({"etag": 'W/"a"'}, True, id="a weak one"),
        pytest.param({"last_modified": MODIFIED}, True, id="Last-Modified"),
        pytest.param({"cache_control": "no-cache"}, False, id="no-cache, and nothing to validate by"),
        pytest.param({"cache_control": "no-cache", "etag": '"a"'}, True, id="no-cache, to be validated"),
        pytest.param({"cache_control": "max-age=0", "last_modified": MODIFIED}, True, id="already stale"),
    ],
)
def test_what_is_of_no_use_is_not_kept(fields, kept):
    decision = decide(plain(**fields), policy=replace(ANY, heuristic_percent=0))
    assert isinstance(decision, Store) if kept else decision == DoNotStore(Reason.NO_LIFETIME)


def test_an_error_that_is_stale_is_of_no_use_even_with_an_etag():
    assert decide(plain(404, cache_control="max-age=0", etag='"a"')) == DoNotStore(Reason.NO_LIFETIME)


@pytest.mark.parametrize(
    ("status", "cache_control", "reason"),
    [
        (200, "max-age=60, must-understand", None),
        (200, "max-age=60, no-store, must-understand", None),
        (404, "max-age=60, no-store, must-understand", None),
        (299, "max-age=60, no-store, must-understand", Reason.MUST_UNDERSTAND),
        (599, "max-age=60, must-understand", Reason.MUST_UNDERSTAND),
        (200, "max-age=60, no-store", Reason.NO_STORE),
        (200, "max-age=60, private, must-understand", Reason.PRIVATE),
    ],
)
def test_must_understand(status, cache_control, reason):
    """RFC 9111 §5.2.2.3."""
    decision = decide(plain(status, cache_control=cache_control))
    assert isinstance(decision, Store) if reason is None else decision == DoNotStore(reason)
    targeted = decide(plain(status, cdn_cache_control=cache_control, cache_control="max-age=9"))
    assert type(targeted) is type(decision)


@pytest.mark.parametrize("status", [400, 405, 406, 412, 413, 414, 416, 431])
def test_what_one_odd_request_provokes_is_not_kept_by_a_policy_that_only_names_it(status):
    named = replace(ANY, any_status=False, negative_s=((status, 10.0), (403, 10.0)))
    for cache_control in (None, "public, max-age=60"):
        assert decide(plain(status, cache_control=cache_control), policy=named) == DoNotStore(Reason.STATUS)
    assert isinstance(decide(plain(403), policy=named), Store)


def test_the_labels_of_the_origin_do_not_count():
    decision = decide(plain(cache_control="max-age=60", catalog_version="9.9"))
    assert isinstance(decision, Store)
    assert (decision.stored.position, decision.stored.tags) == (COUNTER, (PATH_TAG,))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param({"cache-tag": "a, B"}, ("a", "b"), id="Cache-Tag, commas"),
        pytest.param({"surrogate-key": "post-1  All"}, ("post-1", "all"), id="Surrogate-Key, blanks"),
        pytest.param({"surrogate-key": "a,b c"}, ("a", "b", "c"), id="or commas"),
        pytest.param({"cache-groups": '"x y", "Z";p'}, ("x%20y", "z"), id="Cache-Groups (RFC 9875)"),
        pytest.param({"cache-groups": '"x", y'}, (), id="that cannot be read"),
        pytest.param({"cache-tag": "a", "surrogate-key": "a b", "cache-groups": '"b", "c"'}, ("a", "b", "c"), id="all"),
        pytest.param({"cache-tag": "*"}, ("%2a",), id="never the tag of everything"),
    ],
)
def test_tags_of_any_origin(fields, expected):
    assert label_of(Headers(fields.items()), match(ANY), COUNTER) == Label(COUNTER, (*expected, PATH_TAG))


def test_groups_count_as_many_as_the_rfc_wants():
    groups = ", ".join(f'"{n:032}"' for n in range(32))
    label = label_of(Headers([("cache-groups", groups)]), match(ANY), COUNTER)
    assert isinstance(label, Label)
    assert len(label.tags) == 33


def test_too_many_tags_or_too_long_ones_would_escape_a_purge():
    many = " ".join(f"t{n}" for n in range(51))
    assert decide(plain(cache_control="max-age=9", surrogate_key=many)) == DoNotStore(Reason.TOO_MANY_TAGS)
    long = decide(plain(cache_control="max-age=9", surrogate_key="t" * 257))
    assert long == DoNotStore(Reason.BAD_TAG)


@pytest.mark.parametrize(
    ("cache_control", "kept"),
    [
        ("max-age=60", False),
        ("public", True),
        ("max-age=60, must-revalidate", True),
        ("s-maxage=60", True),
        ("private, s-maxage=60", False),
    ],
)
def test_the_answer_to_an_authorised_request(cache_control, kept):
    """RFC 9111 §3.5."""
    answer = plain(cache_control=cache_control, last_modified=MODIFIED)
    for scheme in ("Bearer x", "bearer x", "Basic eDp5"):
        assert isinstance(decide(answer, asked=request(authorization=scheme)), Store) is kept


@pytest.mark.parametrize("status", [200, 301, 404])
def test_a_cookie_is_never_stored(status):
    answer = plain(status, cache_control="public, max-age=60", set_cookie="a=b")
    assert decide(answer) == DoNotStore(Reason.SET_COOKIE)


@pytest.mark.parametrize(
    ("vary", "kept"),
    [
        ("Cookie, User-Agent, X-Anything", True),
        ("*", False),
        ("Cookie, *", False),
        ("no name", False),
        (", ".join(f"x-{n}" for n in range(16)), True),
        (", ".join(f"x-{n}" for n in range(17)), False),
    ],
)
def test_where_any_field_may_be_varied_on(vary, kept):
    decision = decide(plain(cache_control="max-age=60", vary=vary), asked=request(cookie="A=b"))
    assert isinstance(decision, Store) if kept else decision == DoNotStore(Reason.VARY)


def test_how_long_it_is_shown_when_the_origin_is_out_of_reach():
    decision = decide(plain(cache_control="max-age=60"))
    assert isinstance(decision, Store)
    kept = decision.stored
    assert (kept.fresh_until, kept.error_until, kept.unreachable_until) == (160.0, 160.0, 169.0)
    assert kept.keep_until == 669.0


def test_one_date_is_kept():
    answer = plain(cache_control="max-age=60")
    twice = replace(answer, headers=Headers([*answer.headers, ("date", "Sat, 21 Nov 2026 12:00:09 GMT")]))
    decision = decide(twice)
    assert isinstance(decision, Store)
    assert decision.stored.headers.lines("date") == [answer.headers.get("date")]


def test_expires_counts_from_the_arrival_where_there_is_no_date():
    decision = decide(plain(date=None, expires="Sat, 21 Nov 2026 12:01:00 GMT"))
    assert isinstance(decision, Store)
    assert decision.stored.fresh_until == 160.0
