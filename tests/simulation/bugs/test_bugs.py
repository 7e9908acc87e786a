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


def test_mistakes_are_planted_against_every_rule_but_the_one_that_only_a_browser_can_show():
    assert len(BUGS) >= 50
    # Rule 10 is about what browsers keep: it is tried in one (tests/pages/).
    assert {bug.rule for bug in BUGS.values()} == {*range(1, 10), 11}
    assert len({bug.what for bug in BUGS.values()}) == len(BUGS)
