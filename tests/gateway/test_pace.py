"""An origin that comes back is asked no faster than before for what can wait."""

from __future__ import annotations

import pytest

from edge.gateway.origin.pace import LOWEST_PER_S, OWED_S, QUIET_S, SLOT_S, SLOTS, Pace


def steadily(pace: Pace, per_s: float, from_s: float = 0.0, for_s: float = SLOT_S * 6) -> float:
    """That many requests a second; when it ends."""
    count = round(per_s * for_s)
    for number in range(count):
        pace.sent(from_s + number / per_s)
    return from_s + for_s


def allowed(pace: Pace, from_s: float, for_s: float, every_s: float = 0.01) -> int:
    """How many of those may go that try all the time."""
    return sum(pace.allows(from_s + number * every_s) for number in range(round(for_s / every_s)))


@pytest.fixture
def pace() -> Pace:
    """Of an origin that was asked ten times a second, and came back after a minute, at second 100."""
    pace = Pace()
    steadily(pace, 10.0)
    pace.went_away()
    pace.came_back(100.0)
    return pace


def test_nothing_waits_while_the_origin_answers():
    pace = Pace()
    steadily(pace, 10.0)
    assert allowed(pace, 30.0, 1.0) == 100
    assert not pace.is_kept


def test_afterwards_as_many_go_as_before(pace):
    assert pace.per_s == pytest.approx(10.0, rel=0.05)
    assert allowed(pace, 100.0, 20.0) == pytest.approx(20 * pace.per_s, abs=2)
    assert pace.held_back > 1_000


def test_not_even_the_first_second_is_faster(pace):
    assert allowed(pace, 100.0, 1.0) <= 11


def test_what_cannot_wait_goes_and_counts(pace):
    for number in range(50):
        pace.sent(100.0 + number / 50)
    # Five times the pace within a second: what can wait waits until that is made up for.
    assert allowed(pace, 101.0, 3.0) == 0
    assert allowed(pace, 104.0, 10.0) == pytest.approx(100, abs=15)


def test_no_more_is_owed_than_some_seconds_of_it(pace):
    for _ in range(10_000):
        pace.sent(100.0)
    assert allowed(pace, 100.0 + OWED_S, 1.2) > 0


def test_when_nobody_has_to_wait_any_more_nothing_is_held_back(pace):
    now = 100.0
    assert not pace.allows(now)
    while pace.is_kept:
        now += 1.0
        pace.allows(now)
        assert now < 100.0 + 2 * QUIET_S
    assert now >= 100.0 + QUIET_S
    assert allowed(pace, now, 1.0) == 100


def test_the_pace_is_that_of_the_last_minute():
    pace = Pace()
    now = steadily(pace, 100.0)
    now = steadily(pace, 2.0, now, for_s=SLOT_S * (SLOTS + 1))
    pace.went_away()
    pace.came_back(now + 60)
    assert pace.per_s == pytest.approx(2.0, rel=0.05)


def test_seconds_without_a_request_count():
    pace = Pace()
    now = steadily(pace, 10.0, for_s=SLOT_S * 3)
    pace.sent(now + SLOT_S * 3)
    pace.went_away()
    pace.came_back(now + 60)
    assert pace.per_s == pytest.approx(5.0, rel=0.1)


def test_what_was_sent_while_it_went_away_is_no_part_of_it():
    pace = Pace()
    now = steadily(pace, 10.0)
    for _ in range(1_000):
        pace.sent(now + 0.1)
    pace.went_away()
    pace.came_back(now + 60)
    assert pace.per_s == pytest.approx(10.0, rel=0.05)


def test_more_than_was_asked_for_before_is_not_held_back_for_ever(pace):
    """Twice as many want to go as before, all the time: no backlog of the outage, which would have an end."""
    now, gone = 100.0, 0
    for second in range(1_200):
        gone += sum(pace.allows(now + second + number / 20) for number in range(20))
        if second == 59:
            assert gone == pytest.approx(60 * 10, rel=0.06)  # no surge
        if second == 119:
            assert gone <= 1.1 * 120 * 10
        if not pace.is_kept:
            break
    assert not pace.is_kept
    assert second < 700


def test_without_a_past_nothing_is_held_back():
    pace = Pace()
    steadily(pace, 10.0, for_s=SLOT_S)
    pace.went_away()
    pace.came_back(100.0)
    assert allowed(pace, 100.0, 1.0) == 100


def test_however_quiet_it_was_a_backlog_has_an_end():
    pace = Pace()
    pace.sent(0.0)
    pace.sent(SLOT_S * (SLOTS + 5))
    pace.went_away()
    pace.came_back(200.0)
    assert pace.per_s == LOWEST_PER_S
    assert allowed(pace, 200.0, 11.0) >= 1
