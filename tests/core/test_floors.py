"""Floors and Lease (docs/freshness.md)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache_policies.positions import ZERO, Position, PurgeEntry, PurgeKind
from edge.core.floors import Floors, Lease, Verdict
from edge.core.storing import Label


def test_a_response_is_current_at_its_floor_and_purged_below_it():
    floors = Floors()
    floors.apply(PurgeEntry(Position(1, 7), "id", PurgeKind.HARD, ("a", "b")))
    assert floors.judge(Label(Position(1, 7), ("a",))) is Verdict.CURRENT
    assert floors.judge(Label(Position(1, 6), ("x", "b"))) is Verdict.PURGED
    assert floors.judge(Label(Position(1, 6), ("x",))) is Verdict.CURRENT


def test_a_soft_floor_makes_stale_and_a_hard_one_wins():
    floors = Floors()
    floors.raise_to(Position(1, 7), ("a",), PurgeKind.SOFT)
    assert floors.judge(Label(Position(1, 6), ("a",))) is Verdict.STALE_ONLY
    floors.raise_to(Position(1, 7), ("a",), PurgeKind.HARD)
    assert floors.judge(Label(Position(1, 6), ("a",))) is Verdict.PURGED


@pytest.mark.parametrize(("kind", "verdict"), [(PurgeKind.HARD, Verdict.PURGED), (PurgeKind.SOFT, Verdict.STALE_ONLY)])
def test_everything_is_a_tag_of_every_response(kind, verdict):
    floors = Floors()
    floors.raise_to(Position(2, 0), ("*",), kind)
    assert floors.judge(Label(Position(1, 999), ())) is verdict
    assert len(floors) == 0
    assert floors


def test_a_floor_is_never_lowered():
    floors = Floors()
    floors.raise_to(Position(1, 9), ("a", "*"))
    floors.raise_to(Position(1, 5), ("a", "*"))
    assert floors.hard_floor(("a",)) == Position(1, 9)
    assert floors.everything == Position(1, 9)


def test_a_refill_asks_for_the_highest_of_hard_and_soft():
    floors = Floors()
    assert floors.refill_floor(("a",)) == ZERO
    floors.raise_to(Position(1, 3), ("*",))
    floors.raise_to(Position(1, 5), ("a",), PurgeKind.SOFT)
    floors.raise_to(Position(1, 4), ("a",), PurgeKind.HARD)
    assert floors.refill_floor(("a", "b")) == Position(1, 5)
    assert floors.refill_floor(()) == Position(1, 3)


def test_every_rise_is_seen_in_the_sequence():
    floors = Floors()
    seen = {floors.sequence}
    for cv, tag in enumerate(["a", "b", "*", "a"], 1):
        floors.raise_to(Position(1, cv), (tag,))
        assert floors.sequence not in seen
        seen.add(floors.sequence)


_PURGES = st.lists(
    st.tuples(st.integers(0, 9), st.sampled_from("abcdefgh*"), st.sampled_from(PurgeKind)), min_size=1, max_size=40
)


@given(_PURGES, st.integers(1, 5), st.integers(0, 9), st.sampled_from("abcdefgh"))
def test_forgetting_floors_purges_too_much_and_never_too_little(purges, max_floors, cv, tag):
    bounded, unbounded = Floors(max_floors=max_floors), Floors()
    for floor, purged, kind in purges:
        bounded.raise_to(Position(1, floor), (purged,), kind)
        unbounded.raise_to(Position(1, floor), (purged,), kind)
    order = [Verdict.CURRENT, Verdict.STALE_ONLY, Verdict.PURGED]
    label = Label(Position(1, cv), (tag,))
    assert order.index(bounded.judge(label)) >= order.index(unbounded.judge(label))
    assert len(bounded) <= 2 * max_floors
    assert bounded.refill_floor((tag,)) >= unbounded.refill_floor((tag,))


@given(_PURGES)
def test_the_order_in_which_entries_arrive_does_not_matter(purges):
    one, other = Floors(), Floors()
    for floor, tag, kind in purges:
        one.raise_to(Position(1, floor), (tag,), kind)
    for floor, tag, kind in [*reversed(purges), *purges]:
        other.raise_to(Position(1, floor), (tag,), kind)
    for tag in "abcdefgh":
        assert one.hard_floor((tag,)) == other.hard_floor((tag,))
        assert one.soft_floor((tag,)) == other.soft_floor((tag,))


def test_a_lease_is_held_from_its_question_for_its_length():
    lease = Lease(2.0)
    assert not lease.held(0.0)
    lease.renew(10.0)
    assert lease.held(11.999)
    assert not lease.held(12.0)
    lease.renew(9.0)
    assert lease.held(11.999)


def test_a_lease_given_up_is_held_no_more():
    lease = Lease(2.0)
    lease.renew(10.0)
    lease.give_up()
    assert not lease.held(10.0)
