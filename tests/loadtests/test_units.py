"""How figures are written: never a false zero, never more digits than were measured."""

from __future__ import annotations

import pytest

from loadtests.units import bytes_text, count_text, digits, in_words, share_text, time_text


def plain(text: str) -> str:
    return text.replace("\u202f", " ").replace("\u00a0", " ").replace("\u2212", "-")


@pytest.mark.parametrize(
    ("us", "text"),
    [(0, "0 us"), (1, "1 us"), (400, "400 us"), (412.5, "412 us"), (999, "999 us"), (999.6, "1.00 ms"),
     (4_210, "4.21 ms"),
     (99_960, "100 ms"), (999_600, "1.00 s"), (2_000_000, "2.00 s"), (61_000_000, "61.0 s"), (-1500, "-1.50 ms")],
)  # fmt: skip
def test_a_duration_is_written_in_the_unit_in_which_it_is_at_least_one(us, text):
    assert plain(time_text(us)) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [(0, "0.0 %"), (1, "100.0 %"), (0.925, "92.5 %"), (0.99987, "99.99 %"), (0.99996, "99.996 %"), (0.0004, "0.04 %")],
)
def test_a_share_that_is_not_all_or_nothing_is_not_written_as_if_it_were(share, text):
    assert plain(share_text(share)) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (9.996, "10.0"), (0.001234, "0.00123"), (1234, "1 234"), (123456.7, "123 457"), (-3.5, "-3.50")],
)
def test_three_digits_count(value, text):
    assert plain(digits(value)) == text


def test_counts_bytes_and_lists():
    assert [plain(count_text(value)) for value in (0, 7, 1204, 2.5)] == ["0", "7", "1 204", "2.50"]
    assert [plain(bytes_text(value)) for value in (0, 812, 999.7, 30_100, 64e6, 2e9)] == [
        "0 B", "812 B", "1.00 kB", "30.1 kB", "64.0 MB", "2.00 GB",
    ]  # fmt: skip
    assert [in_words(names) for names in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == [
        "none",
        "a",
        "a and b",
        "a, b and c",
    ]
