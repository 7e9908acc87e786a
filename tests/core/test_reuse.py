"""From candidates to one decision: floors first, nothing fresh without a lease (RFC 9111 §4; rules 2, 5, 7)."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache_policies.positions import ORDERED_KINDS, Position, PurgeKind
from edge.core.floors import Floors, Lease
from edge.core.policy import Auth, OnLeaseLapse
from edge.core.reuse import (
    NOTICE_SLOT,
    Absent,
    Fresh,
    FwdReason,
    MustValidate,
    Stale,
    Why,
    decide_reuse,
    on_error,
)
from tests.support.builders import PAGE, request, stored
from tests.support.builders import response as answered

MARKED = replace(PAGE, on_lease_lapse=OnLeaseLapse.STALE_MARKED, shows_price=True)
LANGUAGES = replace(PAGE, vary=("accept-language",), request_fields=("accept-language",))


def page(**more):
    """A stored page with a place for the notice."""
    return stored(body=NOTICE_SLOT, **more)


def lease_held() -> Lease:
    lease = Lease(1e9)
    lease.renew(0.0)
    return lease


def lease_lapsed() -> Lease:
    return Lease(2.0)


def floors_with(*raised: tuple[Position, str, PurgeKind]) -> Floors:
    floors = Floors()
    for position, tag, kind in raised:
        floors.raise_to(position, (tag,), kind)
    return floors


def under(policy, candidates):
    """The candidates, stored while `policy` was in force."""
    for candidate in candidates:
        candidate.policy_version = policy.version
    return candidates


def decide(*candidates, asked=None, policy=PAGE, floors=None, lease=None, now=120.0):
    under(policy, candidates)
    return decide_reuse(
        asked or request(), candidates, policy, Floors() if floors is None else floors, lease or lease_held(), now
    )


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        pytest.param(100.0, Fresh, id="just stored"),
        pytest.param(159.9, Fresh, id="until its lifetime is over"),
        pytest.param(160.0, Why.STALE_WHILE_REVALIDATE, id="then stale while a refresh runs"),
        pytest.param(189.9, Why.STALE_WHILE_REVALIDATE, id="until that ends"),
        pytest.param(190.0, Why.EXPIRED, id="then the origin is waited for"),
        pytest.param(5_000.0, Why.EXPIRED, id="however late"),
    ],
)
def test_by_age(now, expected):
    response = stored()
    decision = decide(response, now=now)
    if expected is Fresh:
        assert decision == Fresh(response)
    elif expected is Why.STALE_WHILE_REVALIDATE:
        assert decision == Stale(response, expected)
    else:
        assert decision == MustValidate(response, expected)


def test_nothing_stored():
    assert decide() == Absent(FwdReason.URI_MISS, Why.COLD)
    assert decide(lease=lease_lapsed()) == Absent(FwdReason.URI_MISS, Why.COLD, demand_head=True)


def test_no_cache_is_validated_every_time():
    response = stored(no_cache=True)
    assert decide(response) == MustValidate(response, Why.NO_CACHE)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PURGE"])
def test_other_methods_are_forwarded(method):
    assert decide(stored(), asked=request(method)) == Absent(FwdReason.METHOD, Why.UNSAFE_METHOD)


def test_head_is_answered_from_a_stored_get():
    assert isinstance(decide(stored(), asked=request("HEAD")), Fresh)


def test_a_route_that_never_stores_is_forwarded():
    never = replace(PAGE, store=False)
    assert decide(stored(), policy=never) == Absent(FwdReason.BYPASS, Why.POLICY_NEVER_STORES)
    assert decide(policy=never, lease=lease_lapsed()) == Absent(FwdReason.BYPASS, Why.POLICY_NEVER_STORES)


def test_an_unstored_price_demands_the_head_once_the_lease_has_lapsed():
    never = replace(PAGE, store=False, shows_price=True)
    assert decide(policy=never, lease=lease_lapsed()) == Absent(
        FwdReason.BYPASS, Why.POLICY_NEVER_STORES, demand_head=True
    )


@pytest.mark.parametrize("said", ["no-cache", "no-store", "max-age=0", "only-if-cached, max-stale=9999"])
def test_a_viewer_cannot_choose_what_is_asked_or_served(said):
    assert isinstance(decide(stored(), asked=request(cache_control=said, pragma="no-cache")), Fresh)
    assert isinstance(decide(stored(), asked=request(cache_control=said), now=5_000.0), MustValidate)


@pytest.mark.parametrize(
    ("floor", "verdict"),
    [
        (Position(1, 4), None),
        (Position(1, 5), None),
        (Position(1, 6), Why.PURGED_HARD),
        (Position(2, 0), Why.PURGED_HARD),
    ],
)
@pytest.mark.parametrize("tag", ["p:eu-eur:boot", "h:eu-eur", "*"])
@pytest.mark.parametrize("now", [120.0, 170.0, 300.0])
def test_below_a_hard_floor_nothing_is_served(floor, verdict, tag, now):
    response = stored()
    decision = decide(response, floors=floors_with((floor, tag, PurgeKind.HARD)), now=now)
    if verdict is None:
        assert not (isinstance(decision, MustValidate) and decision.why is Why.PURGED_HARD)
    else:
        assert decision == MustValidate(response, verdict)


@pytest.mark.parametrize(
    ("now", "expected"),
    [(120.0, Stale), (189.0, Stale), (190.0, MustValidate)],
)
def test_below_a_soft_floor_a_response_is_stale(now, expected):
    response = stored()
    floors = floors_with((Position(1, 6), "h:eu-eur", PurgeKind.SOFT))
    assert decide(response, floors=floors, now=now) == expected(response, Why.PURGED_SOFT)


def test_a_soft_purge_waits_for_the_origin_where_nothing_may_be_stale():
    response = stored(revalidate_until=160.0)
    floors = floors_with((Position(1, 6), "h:eu-eur", PurgeKind.SOFT))
    assert decide(response, floors=floors) == MustValidate(response, Why.PURGED_SOFT)


def test_a_response_once_found_current_is_compared_again_only_after_the_next_purge():
    response = stored()
    floors = floors_with((Position(1, 6), "another", PurgeKind.HARD))
    assert isinstance(decide(response, floors=floors), Fresh)
    assert response.judged_at == floors.sequence
    floors.raise_to(Position(1, 7), ("another",))
    assert response.judged_at != floors.sequence
    floors.raise_to(Position(1, 8), ("p:eu-eur:boot",))
    assert isinstance(decide(response, floors=floors), MustValidate)
    assert response.judged_at != floors.sequence


def test_a_soft_verdict_is_never_remembered_as_current():
    response = stored()
    floors = floors_with((Position(1, 6), "*", PurgeKind.SOFT))
    for _ in range(2):
        assert isinstance(decide(response, floors=floors), Stale)


@pytest.mark.parametrize("now", [120.0, 170.0, 5_000.0])
@pytest.mark.parametrize("floors", [Floors(), floors_with((Position(1, 6), "*", PurgeKind.HARD))])
def test_without_the_lease_the_head_is_demanded(now, floors):
    response = stored()
    assert decide(response, lease=lease_lapsed(), floors=floors, now=now) == MustValidate(
        response, Why.LEASE_LAPSED, demand_head=True
    )


def test_the_lease_counts_from_when_the_question_was_sent():
    lease = Lease(2.0)
    lease.renew(118.0)
    assert isinstance(decide(stored(), lease=lease, now=119.9), Fresh)
    assert isinstance(decide(stored(), lease=lease, now=120.0), MustValidate)


def test_the_newest_matching_variant_is_chosen():
    english = stored(vary=(("accept-language", "en"),), body=b"hello")
    german = stored(vary=(("accept-language", "de"),), body=b"hallo")
    absent = stored(vary=(("accept-language", None),), body=b"?")
    candidates = (english, german, absent)
    assert decide(*candidates, asked=request(accept_language="DE"), policy=LANGUAGES) == Fresh(german)
    assert decide(*candidates, asked=request(), policy=LANGUAGES) == Fresh(absent)
    assert decide(*candidates, asked=request(accept_language=""), policy=LANGUAGES) == Absent(
        FwdReason.VARY_MISS, Why.COLD
    )


def test_a_field_that_is_not_forwarded_makes_no_variants():
    policy = replace(PAGE, vary=("accept-encoding",))
    response = stored(vary=(("accept-encoding", None),))
    assert decide(response, asked=request(accept_encoding="br"), policy=policy) == Fresh(response)


def failed(*candidates, policy=MARKED, floors=None, lease=None, now=300.0, asked=None):
    under(policy, candidates)
    return on_error(
        candidates, asked or request(), policy, Floors() if floors is None else floors, lease or lease_held(), now
    )


def test_when_the_origin_fails_a_page_is_served_stale_for_its_time():
    response = stored()
    assert failed(response) == Stale(response, Why.STALE_IF_ERROR)
    assert failed(response, now=1_160.0) is None
    assert failed() is None


def test_when_the_lease_has_lapsed_too_it_is_served_marked_or_not_at_all():
    response = page()
    assert failed(response, lease=lease_lapsed()) == Stale(response, Why.STALE_MARKED)
    assert failed(response, lease=lease_lapsed(), policy=PAGE) is None
    assert failed(response, lease=lease_lapsed(), now=1_160.0) is None


@pytest.mark.parametrize("status", [301, 308, 404])
def test_only_a_page_can_be_marked(status):
    assert failed(page(status=status), lease=lease_lapsed()) is None
    assert failed(page(status=status)) is not None


@pytest.mark.parametrize(
    "response",
    [
        pytest.param(stored(), id="without a slot"),
        pytest.param(
            stored(body=b"10.00" + NOTICE_SLOT, headers=answered(content_encoding="gzip").headers), id="coded"
        ),
    ],
)
def test_a_price_that_has_no_place_for_the_notice_is_not_shown_without_it(response):
    assert failed(response, lease=lease_lapsed()) is None
    assert failed(response) == Stale(response, Why.STALE_IF_ERROR)
    unpriced = replace(MARKED, shows_price=False)
    assert failed(response, lease=lease_lapsed(), policy=unpriced) == Stale(response, Why.STALE_MARKED)


@pytest.mark.parametrize("lease", [lease_held(), lease_lapsed()])
def test_hard_floors_hold_when_the_origin_fails_and_soft_ones_do_not_forbid(lease):
    assert failed(page(), lease=lease, floors=floors_with((Position(1, 6), "*", PurgeKind.HARD))) is None
    assert failed(page(), lease=lease, floors=floors_with((Position(1, 6), "*", PurgeKind.SOFT))) is not None


def test_the_right_variant_is_served_stale_or_none():
    german = stored(vary=(("accept-language", "de"),))
    assert failed(german, policy=LANGUAGES, asked=request(accept_language="de")) is not None
    assert failed(german, policy=LANGUAGES, asked=request(accept_language="fr")) is None


@pytest.mark.parametrize("held", [True, False])
def test_what_was_stored_under_another_policy_is_absent(held):
    lease = lease_held() if held else lease_lapsed()
    changed = replace(MARKED, fresh_s=61.0)
    ours, theirs = under(MARKED, [page()])[0], under(changed, [page(etag='"theirs"')])[0]
    floors = Floors()
    absent = Absent(FwdReason.URI_MISS, Why.COLD, demand_head=not held)
    assert decide_reuse(request(), [theirs], MARKED, floors, lease, 120.0) == absent
    assert on_error([theirs], request(), MARKED, floors, lease, 300.0) is None
    rescue = on_error([theirs, ours], request(), MARKED, floors, lease, 300.0)
    assert rescue is not None
    assert rescue.stored is ours
    if held:
        assert decide_reuse(request(), [theirs, ours], MARKED, floors, lease, 120.0) == Fresh(ours)


def test_a_policy_that_moved_or_was_written_down_again_keeps_what_it_stored():
    moved = replace(MARKED, where="other.yaml:7:3")
    response = under(MARKED, [stored()])[0]
    assert decide_reuse(request(), [response], moved, Floors(), lease_held(), 120.0) == Fresh(response)


def test_nothing_of_an_unstored_route_is_served_stale():
    assert failed(stored(), policy=replace(MARKED, store=False)) is None


_POSITION = st.builds(Position, st.integers(0, 2), st.integers(0, 5))
_TAG = st.sampled_from(["p:eu-eur:boot", "h:eu-eur", "*", "else"])


@given(
    st.lists(st.tuples(_POSITION, _TAG, st.sampled_from(ORDERED_KINDS)), max_size=6),
    st.lists(st.tuples(_POSITION, st.sampled_from([("p:eu-eur:boot",), ("h:eu-eur", "else")])), min_size=1, max_size=3),
    st.floats(90, 2_000),
    st.booleans(),
)
def test_nothing_below_a_hard_floor_is_ever_shown(purges, labels, now, held):
    floors = Floors(max_floors=2)
    candidates = under(MARKED, [page(position=position, tags=tags) for position, tags in labels])
    lease = lease_held() if held else lease_lapsed()
    hard: dict[str, Position] = {}
    for position, tag, kind in purges:
        floors.raise_to(position, (tag,), kind)
        if kind is PurgeKind.HARD:
            hard[tag] = max(hard.get(tag, position), position)
        decision = decide_reuse(request(), candidates, MARKED, floors, lease, now)
        shown = [decision.stored] if isinstance(decision, Fresh | Stale) else []
        rescue = on_error(candidates, request(), MARKED, floors, lease, now)
        shown += [rescue.stored] if rescue is not None else []
        for response in shown:
            for tag in (*response.tags, "*"):
                assert response.position >= hard.get(tag, Position(0, 0))
        assert held or not isinstance(decision, Fresh | Stale)


SHARED = replace(PAGE, auth=Auth.SHARED)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("public, max-age=60", True),
        ("must-revalidate, max-age=60", True),
        ("s-maxage=60", True),
        ("max-age=60", False),
        ("proxy-revalidate, max-age=60", False),
        (None, False),
    ],
)
def test_who_brings_credentials_gets_only_what_says_that_it_is_for_everybody(said, shown):
    """RFC 9111 §3.5."""
    kept = stored(headers=answered(cache_control=said).headers)
    with_credentials = decide(kept, asked=request(authorization="Bearer x"), policy=SHARED)
    assert with_credentials == (Fresh(kept) if shown else Absent(FwdReason.REQUEST, Why.AUTHORIZATION))
    assert decide(kept, policy=SHARED) == Fresh(kept)


def fails(*candidates, unreachable, policy=PAGE, floors=None, now=120.0):
    under(policy, candidates)
    return on_error(candidates, request(), policy, floors or Floors(), lease_held(), now, unreachable=unreachable)


def test_out_of_reach_is_not_an_error_answer():
    """RFC 9111 §4.2.4: a 503 is an answer, a broken connection is none."""
    kept = stored(error_until=160.0, unreachable_until=1_000.0)
    assert fails(kept, unreachable=True, now=500.0) == Stale(kept, Why.STALE_IF_UNREACHABLE)
    assert fails(kept, unreachable=False, now=500.0) is None
    assert fails(kept, unreachable=True, now=1_000.0) is None


def test_stale_if_error_covers_both():
    kept = stored(unreachable_until=2_000.0)
    for unreachable in (True, False):
        assert fails(kept, unreachable=unreachable, now=500.0) == Stale(kept, Why.STALE_IF_ERROR)
    assert fails(kept, unreachable=True, now=1_500.0) == Stale(kept, Why.STALE_IF_UNREACHABLE)


def test_floors_hold_out_of_reach_too():
    kept = stored(error_until=160.0, unreachable_until=1_000.0)
    hard = floors_with((Position(1, 9), "h:eu-eur", PurgeKind.HARD))
    soft = floors_with((Position(1, 9), "h:eu-eur", PurgeKind.SOFT))
    assert fails(kept, unreachable=True, floors=hard) is None
    assert fails(kept, unreachable=True, floors=soft) == Stale(kept, Why.STALE_IF_ERROR)


def test_what_may_never_be_stale_goes_by_a_soft_purge_as_by_a_hard_one():
    kept = stored(revalidate_until=160.0, error_until=160.0, unreachable_until=160.0)
    soft = floors_with((Position(1, 9), "h:eu-eur", PurgeKind.SOFT))
    assert decide(kept, floors=soft) == MustValidate(kept, Why.PURGED_SOFT)
    for unreachable in (True, False):
        assert fails(kept, unreachable=unreachable, floors=soft) is None
        assert fails(kept, unreachable=unreachable) == Stale(kept, Why.STALE_IF_ERROR)


def test_stale_marked_is_for_pages_within_stale_if_error_alone():
    kept = page(error_until=160.0, unreachable_until=1_000.0)
    under(MARKED, (kept,))
    found = on_error((kept,), request(), MARKED, Floors(), lease_lapsed(), 500.0, unreachable=True)
    assert found is None


def test_the_newest_of_those_that_match():
    older, newer = stored(body=b"older"), stored(body=b"newer")
    assert decide(newer, older) == Fresh(newer)
    german = stored(vary=(("accept-language", "de"),))
    english = stored(vary=(("accept-language", "en"),))
    assert decide(english, german, asked=request(accept_language="DE"), policy=LANGUAGES) == Fresh(german)
    assert decide(english, german, asked=request(), policy=LANGUAGES) == Absent(FwdReason.VARY_MISS, Why.COLD)
