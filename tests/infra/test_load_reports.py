"""`nearshelf load report`, `compare` and `trend`: what they write, what they refuse, and how they end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from infra import cli
from loadtests.recorder.run import write_run
from tests.support.load_runs import Shape, made_run


def put(folder: Path, **changes) -> str:
    run = made_run(Shape(seconds=16, warmup=4, rate=80, changes=6, noise=changes.pop("noise", 1)))
    for name, value in changes.items():
        setattr(run, name, value)
    write_run(run, folder)
    return str(folder)


def test_a_report_is_written_again_into_the_run_s_folder_or_where_it_is_told(tmp_path, capsys):
    run = put(tmp_path / "a")
    assert cli.run(["load", "report", run]) == 0
    assert {path.name for path in (tmp_path / "a").iterdir()} == {
        "run.json.gz", "report.html", "cells.csv", "seconds.csv", "junit.xml",
    }  # fmt: skip
    assert capsys.readouterr().out.startswith("steady-day: PASSED. ")
    assert cli.run(["load", "report", f"{run}/run.json.gz", "--out", str(tmp_path / "b")]) == 0
    assert (tmp_path / "b" / "report.html").read_text() == (tmp_path / "a" / "report.html").read_text()


def test_thresholds_of_a_file_are_judged_instead_of_the_scenario_s(tmp_path, capsys):
    run, file = put(tmp_path / "a"), tmp_path / "night.txt"
    file.write_text("hit_ratio > 0.2\nrequests > 1000000  # never\n")
    assert cli.run(["load", "report", run, "--thresholds", str(file)]) == 1
    lines = capsys.readouterr().out.replace("\u202f", " ").splitlines()
    assert any(line.startswith("met      hit_ratio > 0.2: 0.") for line in lines)
    assert any(line.startswith("NOT MET  requests > 1000000: ") for line in lines)
    assert "requests &gt; 1000000" in (tmp_path / "a" / "report.html").read_text()


def test_an_invalid_run_ends_with_3(tmp_path):
    run = made_run(Shape(seconds=8, warmup=2))
    run.check.faults.append("the generator took all of its core")
    write_run(run, tmp_path)
    assert cli.run(["load", "report", str(tmp_path)]) == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["report", "{none}"], "not there; name the folder of a run"),
        (["report", "{a}", "--thresholds", "{none}"], "none:1:1: cannot be read: No such file or directory"),
        (["report", "{a}", "--thresholds", "{bad}"], "bad.txt:1:1: no figure is called p999; did you mean"),
        (["report", "{a}", "--out", "{bad}/x"], "cannot be written: Not a directory; name another folder with --out"),
        (["compare", "{a}", "{none}"], "not there"),
        (["compare", "{a}", "{other}"], "seed: 7 in A, 9 in B"),
        (["compare", "{a}", "{a}", "--html", "{bad}/x.html"], "bad.txt: cannot be written: File exists"),
        (["trend", "{empty}"], "no run in it"),
    ],
)
def test_what_cannot_be_done_says_why_in_words_and_ends_with_2(arguments, said, tmp_path, capsys):
    put(tmp_path / "a")
    put(tmp_path / "other", seed=9)
    (tmp_path / "bad.txt").write_text("p999 < 3ms\n")
    (tmp_path / "empty").mkdir()
    names = {name: str(tmp_path / name) for name in ("a", "none", "other", "empty")} | {
        "bad": str(tmp_path / "bad.txt")
    }
    assert cli.run(["load", *(argument.format(**names) for argument in arguments)]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error


def test_a_comparison_is_printed_and_written(tmp_path, capsys):
    a, b = put(tmp_path / "a"), put(tmp_path / "b", noise=2)
    assert cli.run(["load", "compare", a, b, "--exit-code"]) in {0, 1}
    out = capsys.readouterr().out
    assert "95 % interval" in out
    assert out.rstrip().endswith(f"page: {b}/compared.html")
    assert "B against A" in (tmp_path / "b" / "compared.html").read_text()
    other = put(tmp_path / "other", seed=9)
    assert cli.run(["load", "compare", a, other, "--force", "--json", "--html", str(tmp_path / "c.html")]) == 0
    assert json.loads(capsys.readouterr().out)["differences"] == ["seed: 7 in A, 9 in B"]
    assert (tmp_path / "c.html").exists()


def test_worse_is_status_1_only_when_asked_for(tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    write_run(made_run(Shape(seconds=30)), a)
    write_run(made_run(Shape(seconds=30, noise=2, slower=3)), b)
    assert cli.run(["load", "compare", str(a), str(b)]) == 0
    assert cli.run(["load", "compare", str(a), str(b), "--exit-code"]) == 1
    assert cli.run(["load", "compare", str(b), str(a), "--exit-code"]) == 0


def test_a_trend_is_printed_and_written_and_names_what_it_could_not_read(tmp_path, capsys, monkeypatch):
    put(tmp_path / "load" / "one")
    put(tmp_path / "load" / "two", started_at="2026-11-22T03:00:00Z")
    (tmp_path / "load" / "odd").mkdir()
    (tmp_path / "load" / "odd" / "run.json.gz").write_bytes(b"?")
    monkeypatch.setenv("NEARSHELF_STATE", str(tmp_path))
    assert cli.run(["load", "trend"]) == 0
    output = capsys.readouterr()
    assert output.out.startswith("steady-day: 2 runs")
    assert "odd/run.json.gz" in output.err
    assert "2 runs of 1 scenario" in (tmp_path / "load" / "trend.html").read_text()
    assert cli.run(["load", "trend", str(tmp_path), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["steady-day"]) == 2
