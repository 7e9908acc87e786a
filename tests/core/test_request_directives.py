"""What a request says about stored responses, where the policy honours it (RFC 9111 §5.2.1)."""

from dataclasses import replace

import pytest

from cache_policies.positions import Position, PurgeKind
from edge.core.floors import Floors, Lease
from edge.core.http import Headers
from edge.core.request_directives import RequestDirectives, request_directives
from edge.core.reuse import Absent, Fresh, FwdReason, MustValidate, Stale, Unsatisfiable, Why, decide_reuse
from tests.support.builders import PAGE, request, response, stored

HONOURS = replace(PAGE, honour_request=True)
FRESH, SWR, EXPIRED = 120.0, 170.0, 200.0
"""Stored at 100 and fresh until 160; then for 30 s stale while it is refreshed."""


def decide(cache_control=None, now=FRESH, *, kept=None, policy=HONOURS, floors=None, lease_s=1e9, **asked):
    lease = Lease(lease_s)
    lease.renew(0.0)
    candidates = () if kept is None else (kept,)
    for each in candidates:
        each.policy_version = policy.version
    fields = {} if cache_control is None else {"cache_control": cache_control}
    return decide_reuse(request(**asked, **fields), candidates, policy, floors or Floors(), lease, now)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        pytest.param(["no-cache"], RequestDirectives(no_cache=True), id="no-cache"),
        pytest.param(
            ["No-Store, ONLY-IF-CACHED"], RequestDirectives(no_store=True, only_if_cached=True), id="any case"
        ),
        pytest.param(["max-age=5, max-age=9"], RequestDirectives(max_age_s=5), id="the first of duplicates"),
        pytest.param(["max-age=5", "min-fresh=7"], RequestDirectives(max_age_s=5, min_fresh_s=7), id="over all lines"),
        pytest.param(['max-age="5"'], RequestDirectives(max_age_s=5), id="quoted"),
        pytest.param(["max-age=x"], RequestDirectives(max_age_s=0), id="unreadable max-age: something new"),
        pytest.param(["max-age"], RequestDirectives(max_age_s=0), id="without a number, too"),
        pytest.param(["max-stale"], RequestDirectives(max_stale_s=float("inf")), id="bare max-stale: however stale"),
        pytest.param(["max-stale=10"], RequestDirectives(max_stale_s=10), id="max-stale with a limit"),
        pytest.param(["max-stale=x"], RequestDirectives(), id="unreadable max-stale: no leave"),
        pytest.param(["min-fresh=x"], RequestDirectives(), id="unreadable min-fresh"),
        pytest.param(["max-age=99999999999"], RequestDirectives(max_age_s=2**31), id="saturates"),
        pytest.param(["private, foo=1"], RequestDirectives(), id="others"),
        pytest.param([""], RequestDirectives(), id="empty"),
    ],
)
def test_as_they_are_read(lines, expected):
    assert request_directives(Headers([("cache-control", line) for line in lines])) == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"pragma": "no-cache"}, RequestDirectives(no_cache=True)),
        ({"pragma": "x, No-Cache"}, RequestDirectives(no_cache=True)),
        ({"pragma": "x"}, None),
        ({"pragma": "no-cache", "cache-control": "max-age=5"}, RequestDirectives(max_age_s=5)),
        ({}, None),
    ],
)
def test_pragma_counts_where_there_is_no_cache_control(fields, expected):
    """RFC 9111 §5.4."""
    assert request_directives(Headers(fields.items())) == expected


@pytest.mark.parametrize(
    ("cache_control", "now", "expected"),
    [
        pytest.param(None, FRESH, None, id="silent"),
        pytest.param("no-cache", FRESH, Why.REQUEST_NO_CACHE, id="no-cache"),
        pytest.param("max-age=20", FRESH, None, id="no older than 20 s"),
        pytest.param("max-age=19", FRESH, Why.REQUEST_MAX_AGE, id="too old"),
        pytest.param("max-age=0", FRESH, Why.REQUEST_MAX_AGE, id="reload"),
        pytest.param("min-fresh=40", FRESH, None, id="fresh for 40 s more"),
        pytest.param("min-fresh=41", FRESH, Why.REQUEST_MIN_FRESH, id="not fresh enough"),
        pytest.param("max-stale", FRESH, None, id="fresh is not stale"),
        pytest.param("max-age=19, max-stale", FRESH, Why.REQUEST_MAX_AGE, id="too old, stale or not"),
        pytest.param("no-store", FRESH, None, id="no-store forbids to store"),
    ],
)
def test_a_fresh_response(cache_control, now, expected):
    kept = stored()
    decision = decide(cache_control, now, kept=kept)
    assert decision == (Fresh(kept) if expected is None else MustValidate(kept, expected))


@pytest.mark.parametrize(
    ("cache_control", "expected"),
    [
        pytest.param(None, None, id="silent"),
        pytest.param("max-stale", None, id="stale is welcome"),
        pytest.param("max-age=99", Why.REQUEST_MAX_AGE, id="max-age does not take what is stale (§5.2.1.1)"),
        pytest.param("max-age=99, max-stale", None, id="unless it says so"),
        pytest.param("min-fresh=0", Why.REQUEST_MIN_FRESH, id="nor does min-fresh"),
        pytest.param("no-cache", Why.REQUEST_NO_CACHE, id="nor no-cache"),
    ],
)
def test_one_that_is_stale_while_it_is_refreshed(cache_control, expected):
    kept = stored()
    decision = decide(cache_control, SWR, kept=kept)
    if expected is None:
        assert decision == Stale(kept, Why.STALE_WHILE_REVALIDATE)
    else:
        assert decision == MustValidate(kept, expected)


@pytest.mark.parametrize(
    ("cache_control", "said", "served"),
    [
        pytest.param("max-stale", None, True, id="bare"),
        pytest.param("max-stale=40", None, True, id="within its limit"),
        pytest.param("max-stale=39", None, False, id="exceeded"),
        pytest.param("max-stale, max-age=99", None, False, id="too old for max-age"),
        pytest.param("max-stale, max-age=100", None, True, id="old enough for it"),
        pytest.param("max-stale, min-fresh=1", None, False, id="min-fresh contradicts"),
        pytest.param("max-stale, no-cache", None, False, id="no-cache is stronger"),
        pytest.param("max-stale, no-store", None, False, id="neither stored nor served stale"),
        pytest.param("max-stale", "must-revalidate, max-age=60", False, id="must-revalidate (§5.2.2.2)"),
        pytest.param("max-stale", "proxy-revalidate, max-age=60", False, id="proxy-revalidate"),
        pytest.param("max-stale", "s-maxage=60", False, id="s-maxage"),
        pytest.param("max-stale", "max-age=60", True, id="max-age forbids nothing"),
    ],
)
def test_one_that_has_expired(cache_control, said, served):
    kept = stored(headers=response(cache_control=said).headers)
    decision = decide(cache_control, EXPIRED, kept=kept)
    if served:
        assert decision == Stale(kept, Why.REQUEST_MAX_STALE, refresh=False)
    elif "no-store" in cache_control:
        assert decision == Absent(FwdReason.STALE, Why.REQUEST_NO_STORE)
    else:
        assert decision == MustValidate(kept, Why.EXPIRED)


def test_max_stale_asks_in_vain_for_what_may_not_be_served_at_all():
    hard_end = stored(headers=response(nearshelf_expires_at="1").headers)
    assert decide("max-stale", EXPIRED, kept=hard_end) == MustValidate(hard_end, Why.EXPIRED)
    not_found = stored(status=404)
    assert decide("max-stale", EXPIRED, kept=not_found) == MustValidate(not_found, Why.EXPIRED)
    no_cache = stored(no_cache=True)
    assert decide("max-stale", kept=no_cache) == MustValidate(no_cache, Why.NO_CACHE)
    floors = Floors()
    floors.raise_to(Position(1, 9), ("h:eu-eur",))
    purged = stored()
    assert decide("max-stale", kept=purged, floors=floors) == MustValidate(purged, Why.PURGED_HARD)
    soft = Floors()
    soft.raise_to(Position(1, 9), ("h:eu-eur",), PurgeKind.SOFT)
    assert decide("max-stale", EXPIRED, kept=purged, floors=soft) == MustValidate(purged, Why.PURGED_SOFT)
    assert decide("max-stale", EXPIRED, kept=purged, lease_s=2.0) == MustValidate(purged, Why.LEASE_LAPSED, True)


@pytest.mark.parametrize(
    ("cache_control", "now", "kept", "expected"),
    [
        pytest.param("only-if-cached", FRESH, True, Fresh, id="there is one"),
        pytest.param("only-if-cached", SWR, True, Stale, id="one that may be stale"),
        pytest.param("only-if-cached", EXPIRED, True, Unsatisfiable, id="one that has to be validated"),
        pytest.param("only-if-cached, max-stale", EXPIRED, True, Stale, id="unless it takes that"),
        pytest.param("only-if-cached, max-age=0", FRESH, True, Unsatisfiable, id="one that it does not take"),
        pytest.param("only-if-cached", FRESH, False, Unsatisfiable, id="there is none"),
        pytest.param("only-if-cached, no-store", FRESH, False, Unsatisfiable, id="nor is it to be fetched unstored"),
    ],
)
def test_only_if_cached(cache_control, now, kept, expected):
    """RFC 9111 §5.2.1.7."""
    assert isinstance(decide(cache_control, now, kept=stored() if kept else None), expected)


def test_only_if_cached_where_nothing_is_stored():
    assert decide("only-if-cached", policy=replace(HONOURS, store=False)) == Unsatisfiable()


@pytest.mark.parametrize(
    ("cache_control", "now", "fwd"),
    [
        ("no-store, max-age=0", FRESH, FwdReason.REQUEST),
        ("no-store", SWR, FwdReason.REQUEST),
        ("no-store", EXPIRED, FwdReason.STALE),
    ],
)
def test_no_store_goes_past_the_store(cache_control, now, fwd):
    decision = decide(cache_control, now, kept=stored())
    assert decision == Absent(fwd, Why.REQUEST_NO_STORE)
    assert isinstance(decision, Absent)
    assert decision.past_store


def test_no_store_with_nothing_stored():
    assert decide("no-store") == Absent(FwdReason.URI_MISS, Why.REQUEST_NO_STORE)
    assert decide("no-store", lease_s=2.0) == Absent(FwdReason.URI_MISS, Why.REQUEST_NO_STORE, demand_head=True)
    assert decide("no-cache") == Absent(FwdReason.URI_MISS, Why.COLD)


@pytest.mark.parametrize("cache_control", ["no-cache", "max-age=0", "no-store", "only-if-cached", "min-fresh=999"])
def test_nothing_counts_where_the_policy_does_not_honour_it(cache_control):
    kept = stored()
    assert decide(cache_control, kept=kept, policy=PAGE) == Fresh(kept)
    assert decide(cache_control, policy=PAGE) == Absent(FwdReason.URI_MISS, Why.COLD)


@pytest.mark.parametrize("cache_control", ["no-store", "only-if-cached", "no-cache"])
def test_nor_for_a_write(cache_control):
    decision = decide(cache_control, method="POST")
    assert decision == Absent(FwdReason.METHOD, Why.UNSAFE_METHOD)
    assert isinstance(decision, Absent)
    assert decision.past_store
