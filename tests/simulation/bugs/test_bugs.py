"""Every planted mistake is caught, and by nothing that would also be said without it (docs/freshness.md, how it is
proved). `python -m tests.simulation.bugs` prints after how many serves."""

from __future__ import annotations

import pytest

from tests.simulation.bugs.hunt import BUGS, hunt, is_clean_without


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_caught(name: str):
    caught = hunt(BUGS[name])
    assert caught is not None, f"{BUGS[name].what}: no invariant was broken"
    print(caught.told())
    assert is_clean_without(BUGS[name], caught), f"{caught.violation.text}: also without the bug"


def test_at_least_twenty_mistakes_are_planted_and_each_breaks_a_rule_that_there_is():
    assert len(BUGS) >= 20
    assert {bug.rule for bug in BUGS.values()} <= set(range(1, 12))
    assert len({bug.what for bug in BUGS.values()}) == len(BUGS)
