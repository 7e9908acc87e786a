"""What the loss of the primary would lose: bytes and seconds, as one observer sees them."""

from __future__ import annotations

import pytest

from origin.events.exposure import MOST_SAMPLES, Exposure
from origin.events.live import Standby, View


def view(flushed: int, *standbys: Standby, instance: str = "a") -> View:
    return View(instance, flushed, (), standbys)


def test_what_every_standby_lacks_is_unsafe_and_grows_old():
    exposure = Exposure()
    exposure.see(view(100, Standby("one", 100)), 10.0)
    assert (exposure.unsafe_bytes, exposure.unsafe_s(11.0)) == (0, 0.0)
    exposure.see(view(150, Standby("one", 100)), 12.0)
    exposure.see(view(180, Standby("one", 120)), 13.0)
    assert (exposure.unsafe_bytes, exposure.unsafe_s(15.0)) == (60, 3.0)
    exposure.see(view(180, Standby("one", 150)), 16.0)
    assert (exposure.unsafe_bytes, exposure.unsafe_s(16.0)) == (30, 3.0)
    exposure.see(view(180, Standby("one", 180)), 17.0)
    assert (exposure.unsafe_bytes, exposure.unsafe_s(17.0)) == (0, 0.0)


def test_one_standby_that_has_it_is_enough():
    exposure = Exposure()
    exposure.see(view(200, Standby("one", 100), Standby("two", 200)), 1.0)
    assert (exposure.unsafe_bytes, exposure.standbys) == (0, 2)


@pytest.mark.parametrize("standby", [Standby("backup", 200), Standby("one", None)])
def test_who_may_not_be_promoted_or_has_not_said_saves_nothing(standby):
    exposure = Exposure(("one",))
    exposure.see(view(100, Standby("one", 100)), 1.0)
    exposure.see(view(200, standby), 2.0)
    assert (exposure.unsafe_bytes, exposure.unsafe_s(4.0)) == (100, 2.0)


def test_what_a_standby_had_stays_safe_while_it_is_away():
    exposure = Exposure()
    exposure.see(view(100, Standby("one", 90)), 1.0)
    exposure.see(view(100), 2.0)
    assert (exposure.unsafe_bytes, exposure.standbys) == (10, 0)


def test_without_a_standby_it_is_counted_from_the_first_look():
    exposure = Exposure()
    exposure.see(view(1_000), 1.0)
    exposure.see(view(1_500), 5.0)
    assert (exposure.unsafe_bytes, exposure.unsafe_s(6.0)) == (500, 1.0)


def test_another_primary_is_another_count():
    exposure = Exposure()
    exposure.see(view(500, Standby("one", 100)), 1.0)
    exposure.see(view(450, instance="b"), 2.0)
    assert (exposure.unsafe_bytes, exposure.unsafe_s(9.0)) == (0, 0.0)


def test_a_long_absence_takes_little_memory_and_is_never_called_shorter():
    exposure = Exposure()
    exposure.see(view(0, Standby("one", 0)), 0.0)
    for second in range(1, 5 * MOST_SAMPLES):
        exposure.see(view(second), float(second))
    assert len(exposure._samples) <= MOST_SAMPLES
    assert exposure.unsafe_s(5_000.0) == 4_999.0
    exposure.see(view(5_000, Standby("one", 2_000)), 5_000.0)
    assert exposure.unsafe_s(5_000.0) >= 3_000.0 - 1.0
