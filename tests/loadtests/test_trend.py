"""Many runs: grouped by scenario, in the order of their times, and told apart where they are not alike."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loadtests.recorder.run import write_run
from loadtests.report.trends import trend_html
from loadtests.trend import NoRuns, as_json_text, as_text, read_trend
from tests.support.load_runs import Shape, made_run


def put(folder: Path, name: str, day: int, *, scenario: str = "steady-day", **shape) -> None:
    run = made_run(Shape(seconds=12, warmup=2, rate=40, changes=4, **shape))
    run.scenario, run.started_at = scenario, f"2026-11-{day:02}T03:00:00Z"
    if name == "broken":
        run.prices.old_after_live = 1
    write_run(run, folder / name)


def test_runs_are_grouped_and_in_the_order_of_their_times_whatever_their_folders_are_called(tmp_path):
    put(tmp_path, "z", 1)
    put(tmp_path, "deep/er/a", 3)
    put(tmp_path, "broken", 2)
    put(tmp_path, "sale", 2, scenario="flash-sale")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "run.json.gz").write_bytes(b"no run")
    found = read_trend(tmp_path)
    assert list(found.scenarios) == ["flash-sale", "steady-day"]
    assert [(point.folder, point.word) for point in found.scenarios["steady-day"]] == [
        ("z", "passed"),
        ("broken", "failed"),
        ("deep/er/a", "passed"),
    ]
    assert len(found.unread) == 1
    assert "other/run.json.gz" in found.unread[0]
    page = trend_html(found)
    assert "4 runs of 2 scenarios" in page
    assert "Left out: " in page


def test_what_is_not_as_in_the_run_before_is_said(tmp_path):
    put(tmp_path, "a", 1)
    put(tmp_path, "b", 2, noise=2)
    put(tmp_path, "c", 3, seed=8)
    points = read_trend(tmp_path).scenarios["steady-day"]
    assert [point.breaks for point in points] == [(), (), ("seed",)]
    text = as_text(read_trend(tmp_path))
    assert text.splitlines()[0] == "steady-day: 3 runs"
    assert text.splitlines()[-1].endswith("seed")
    document = json.loads(as_json_text(read_trend(tmp_path)))
    assert document["steady-day"][0]["figures"]["hit ratio"] > 0.5
    assert document["steady-day"][2]["breaks"] == ["seed"]


def test_a_folder_without_runs_says_what_to_do(tmp_path):
    with pytest.raises(NoRuns, match="no run in it; name a folder with folders of runs"):
        read_trend(tmp_path)
    (tmp_path / "run.json.gz").write_bytes(b"")
    with pytest.raises(NoRuns, match="1 could not be read"):
        read_trend(tmp_path)
