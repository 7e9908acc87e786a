"""Many runs: their totals, their progress in a file, and what they print."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.simulation.coverage import Coverage
from tests.simulation.promise import Invariant, Violation
from tests.simulation.runs import CannotResume, Failure, Totals, play_until, seed_of
from tests.simulation.story import story_of
from tests.simulation.world import Result


def some_totals() -> Totals:
    totals = Totals(7, runs=3, steps=1_000, served=90, checked=80, virtual_s=96.0, took_s=2.5)
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


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("no progress", "does not hold the progress of a run", id="something else"),
        pytest.param('{"format": 0}', "format 0, only 1 is understood", id="another format"),
        pytest.param(some_totals().to_json(), "is of seed 7, not 8", id="another seed"),
    ],
)
def test_a_file_that_is_not_of_this_run_is_refused(tmp_path: Path, text, said):
    file = tmp_path / "progress.json"
    file.write_text(text)
    with pytest.raises(CannotResume, match=said):
        play_until(1, 8, resume=file)


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
