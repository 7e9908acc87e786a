"""Floors and Lease (docs/freshness.md)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache_policies.positions import ORDERED_KINDS, ZERO, Position, PurgeEntry, PurgeKind
from edge.core.floors import MAX_FORKS, Floors, Fork, Lease, Verdict
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
    st.tuples(st.integers(0, 9), st.sampled_from("abcdefgh*"), st.sampled_from(ORDERED_KINDS)), min_size=1, max_size=40
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


def failed_over(*forks: tuple[int, int], floors: Floors | None = None) -> Floors:
    """Epochs began, each after the cv that it inherited."""
    floors = floors or Floors()
    for epoch, fork_cv in forks:
        floors.begin_epoch(Position(epoch, fork_cv + 1), Position(epoch - 1, fork_cv))
    return floors


@pytest.mark.parametrize(
    ("position", "verdict"),
    [
        pytest.param(Position(1, 480), Verdict.CURRENT, id="inherited"),
        pytest.param(Position(1, 481), Verdict.PURGED, id="a ghost"),
        pytest.param(Position(1, 9_999), Verdict.PURGED, id="written by a primary that does not know it yet"),
        pytest.param(Position(2, 481), Verdict.CURRENT, id="the record itself"),
        pytest.param(Position(2, 490), Verdict.CURRENT, id="of the new epoch"),
    ],
)
def test_what_the_old_primary_had_beyond_the_fork_is_purged_whatever_its_tags(position, verdict):
    floors = failed_over((2, 480))
    assert floors.judge(Label(position, ("a",))) is verdict
    assert floors.is_ghost(position) is (verdict is Verdict.PURGED)


def test_floors_beyond_the_fork_are_lowered_to_it():
    """What raised them has not happened: what is not changed since the fork may be served again."""
    floors = Floors()
    floors.raise_to(Position(1, 400), ("a", "*"))
    floors.raise_to(Position(1, 490), ("b",))
    floors.raise_to(Position(1, 491), ("c", "*"), PurgeKind.SOFT)
    failed_over((2, 480), floors=floors)
    shared = Position(1, 480)
    assert (floors.hard_floor(("a",)), floors.hard_floor(("b",))) == (Position(1, 400), shared)
    assert floors.soft_floor(("c",)) == floors.soft_floor(()) == shared
    assert floors.judge(Label(shared, ("b", "c"))) is Verdict.CURRENT
    assert floors.judge(Label(Position(1, 479), ("b",))) is Verdict.PURGED
    floors.raise_to(Position(2, 485), ("b",))
    assert floors.judge(Label(shared, ("b",))) is Verdict.PURGED


def test_everything_is_lowered_as_well():
    floors = Floors()
    floors.raise_to(Position(1, 490), ("*",))
    failed_over((2, 480), floors=floors)
    assert floors.everything == Position(1, 480)


def test_an_epoch_is_seen_in_the_sequence():
    floors = Floors()
    before = floors.sequence
    failed_over((2, 480), floors=floors)
    assert floors.sequence != before


def test_from_an_epoch_on_a_fill_asks_for_it_and_takes_nothing_older():
    floors = failed_over((2, 480))
    assert floors.refill_floor(("a",)) == floors.refill_floor(()) == Position(2, 481)
    inherited = Label(Position(1, 470), ("a",))
    assert floors.judge(inherited) is Verdict.CURRENT, "stored already, it stays"
    assert floors.judge_answer(inherited) is Verdict.PURGED, "answered only now, it comes from a server left behind"
    assert floors.judge_answer(Label(Position(2, 481), ("a",))) is Verdict.CURRENT
    floors.raise_to(Position(2, 500), ("a",), PurgeKind.SOFT)
    assert floors.refill_floor(("a",)) == Position(2, 500)
    assert floors.judge_answer(Label(Position(2, 499), ("a",))) is Verdict.STALE_ONLY


def test_an_epoch_that_everything_was_raised_to_is_known_too():
    floors = Floors()
    assert not floors.has_ended(Position(1, 5))
    floors.raise_to(Position(2, 0), ("*",))
    assert floors.has_ended(Position(1, 999))
    assert not floors.has_ended(Position(2, 0))


def test_a_ghost_of_an_earlier_fork_stays_one():
    floors = failed_over((2, 480), (3, 520))
    assert floors.is_ghost(Position(1, 481))
    assert floors.is_ghost(Position(2, 521))
    assert not floors.is_ghost(Position(2, 520))
    assert not floors.is_ghost(Position(1, 480))


def test_a_restored_backup_ends_what_later_forks_had_kept():
    floors = failed_over((2, 480), (3, 520))
    floors.begin_epoch(Position(7, 301), Position(1, 300))
    assert floors.forks == (Fork(Position(1, 300), Position(7, 301)),)
    assert floors.is_ghost(Position(1, 301))
    assert floors.is_ghost(Position(3, 521))
    assert not floors.is_ghost(Position(1, 300))


def test_an_epoch_that_this_log_never_had_is_lost_from_its_beginning():
    """Promoted, and given up for another server that had inherited more: who heard of the latter alone is told so by
    the epochs."""
    floors = Floors()
    floors.begin_epoch(Position(5, 11), Position(3, 10))
    assert floors.is_ghost(Position(4, 9))
    assert not floors.is_ghost(Position(3, 10))


def test_forks_are_bounded_and_forgetting_one_purges_too_much_and_never_too_little():
    floors = failed_over(*((epoch, 10 * epoch) for epoch in range(2, MAX_FORKS + 5)))
    assert len(floors.forks) == MAX_FORKS
    for epoch in range(1, MAX_FORKS + 4):
        ghost = Position(epoch, 10 * (epoch + 1) + 1)
        assert floors.judge(Label(ghost, ())) is Verdict.PURGED
    assert floors.judge(Label(Position(MAX_FORKS + 4, 10_000), ())) is Verdict.CURRENT


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


@pytest.mark.parametrize(
    ("purges", "expected"),
    [
        pytest.param([], "", id="nobody's"),
        pytest.param([(4, ("a",))], "", id="an older purge took nothing away"),
        pytest.param([(6, ("a",)), (7, ("b",))], "b", id="the last one"),
        pytest.param([(7, ("b", "a"))], "a", id="of those that came together the first by name"),
        pytest.param([(6, ("a",)), (7, ("*",))], "*", id="everything"),
        pytest.param([(6, ("*",)), (7, ("a",))], "a", id="after everything"),
        pytest.param([(7, ("z",))], "", id="another tag"),
    ],
)
@pytest.mark.parametrize("kind", [PurgeKind.HARD, PurgeKind.SOFT])
def test_whose_purge_took_a_response_away(purges, expected, kind):
    floors = Floors()
    for cv, tags in purges:
        floors.raise_to(Position(1, cv), tags, kind)
    assert floors.purging_tag(Label(Position(1, 5), ("a", "b"))) == expected
