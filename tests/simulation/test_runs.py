"""Many runs: their totals, and what is told of one that fails."""

from __future__ import annotations

from tests.simulation.coverage import Coverage
from tests.simulation.promise import Invariant, Violation
from tests.simulation.runs import Failure, Totals, seed_of
from tests.simulation.story import story_of
from tests.simulation.world import Result


def some_totals() -> Totals:
    totals = Totals(7, "c0de", runs=3, steps=1_000, served=90, checked=80, virtual_s=96.0, took_s=2.5, processor_s=4.5)
    totals.traces = {1, 2**64 - 1}
    totals.coverage = Coverage({"edge-cut": 4}, {"promise": 80})
    totals.failures = [Failure(seed_of(7, 2), 12, "promise", "eu/1 answered with what is old")]
    return totals


def test_progress_survives_a_file():
    totals = some_totals()
    again = Totals.from_json(totals.to_json())
    assert again.to_json() == totals.to_json()
    assert (again.told(), again.failures) == (totals.told(), totals.failures)


def test_totals_add_up():
    totals = some_totals()
    totals.add(some_totals())
    assert (totals.runs, totals.checked, len(totals.traces)) == (6, 160, 2)
    assert totals.coverage.faults["edge-cut"] == 8


def test_a_story_tells_the_end_and_what_was_about_it():
    story = [
        (1.0, "world", "kill -9 eu/2"),
        (1.5, "origin/1", "has committed price:boot=9 at 1.4"),
        (8.9, "us/1", "plain price of boot: 200; hit price:boot=3"),
        (8.95, "us/1", "plain price of clog: 200; hit price:clog=3"),
        (9.0, "eu/1", "plain price of boot: 200; hit price:boot=3"),
    ]
    violation = Violation(Invariant.PROMISE, 9.0, "eu/1 showed price:boot=3", ("price:boot", "eu/1"))
    result = Result(5, 100, 1, 10, 9, 9.0, Coverage(), [violation], story)
    lines = story_of(result)
    told = [line for line in lines if line[:10].strip().replace(".", "").isdigit()]
    assert [line.split(maxsplit=2)[2] for line in told] == [
        "has committed price:boot=9 at 1.4",
        "plain price of boot: 200; hit price:boot=3",
        "plain price of boot: 200; hit price:boot=3",
    ]
    assert "2 lines" in "\n".join(lines)
