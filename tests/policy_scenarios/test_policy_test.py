"""`nearshelf policy test`: what it prints, what it writes, and how it ends."""

import json
import shutil
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from cache_policies.reading import PACKAGED_POLICIES
from infra import cli

GOOD = """\
answers:
  /eu-eur/: {body: x, tags: ["h:eu-eur"]}
scenarios:
  home:
    about: Shown <twice> & stored.
    steps:
      - {request: /eu-eur/, expect: {outcome: miss}}
      - {at: 2h, request: /eu-eur/nothing, expect: {status: 404}}
"""
BAD = GOOD.replace("outcome: miss", "outcome: hit, age: 9s")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    """Policies in `policies/` below the current folder, with one scenario file."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "policies"
    path.mkdir()
    for name in ("markets.yaml", "catalog.yaml", "default.yaml"):
        shutil.copy(PACKAGED_POLICIES / name, path)
    (path / "scenarios").mkdir()
    (path / "scenarios" / "home.yaml").write_text(GOOD)
    return path


def run(capsys, *words: str) -> tuple[int, str, str]:
    status = cli.run(["policy", "test", "--policies", "policies", *words])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.out + captured.err
    return status, captured.out, captured.err


def test_what_is_as_expected(folder, capsys):
    status, out, _ = run(capsys)
    assert status == 0
    lines = out.splitlines()
    assert lines[0] == "policies/scenarios/home.yaml"
    assert lines[1].startswith("  ok     home (2 steps, 2h, ")
    assert lines[1].endswith(" ms)  Shown <twice> & stored.")
    assert lines[3].startswith("1 scenario, 0 failed; 2 expectations; 2h of virtual time in ")
    assert lines[4:] == ["2/5 routes exercised; never: category-page, product-page, entry"]


def test_what_is_not_has_its_line_and_a_caret(folder, capsys):
    (folder / "scenarios" / "home.yaml").write_text(BAD)
    status, out, _ = run(capsys)
    assert status == 1
    assert (
        "policies/scenarios/home.yaml:7:47: scenarios.home.steps[0].expect.outcome: expected hit, got miss\n"
        "   7 |       - {request: /eu-eur/, expect: {outcome: hit, age: 9s}}\n"
        "     |                                               ^^^\n"
        "  answered: 200 nearshelf-test; fwd=uri-miss; fwd-status=200; ttl=300; stored; detail=cold\n"
        "policies/scenarios/home.yaml:7:57: scenarios.home.steps[0].expect.age: expected 9s, got 0s\n"
    ) in out
    assert "\n1 scenario, 1 failed; 3 expectations; " in out


@pytest.mark.parametrize(("percent", "status"), [("40", 0), ("40.1", 1), ("100", 1)])
def test_coverage_below_the_least_fails(folder, capsys, percent, status):
    ended, out, _ = run(capsys, "--min-coverage", percent)
    assert ended == status
    assert ("coverage is below" in out) is bool(status)


def test_several_files_and_folders(folder, capsys):
    other = folder.parent / "other.yaml"
    other.write_text(GOOD)
    status, out, _ = run(capsys, "other.yaml", "policies/scenarios", "other.yaml")
    assert status == 0
    assert "2 scenarios, 0 failed" in out


def test_each_scenario_begins_anew(folder, capsys):
    (folder / "scenarios" / "second.yaml").write_text(GOOD)
    assert run(capsys)[0] == 0


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        pytest.param(
            "scenarios/home.yaml",
            GOOD.replace("status", "stattus"),
            "policies/scenarios/home.yaml:8:53: error NS101 scenarios.home.steps[1].expect.stattus: no such field",
            id="a scenario file",
        ),
        pytest.param(
            "catalog.yaml",
            "routes:\n  a:\n    path: /a\n    fresh: 5\n",
            "policies/catalog.yaml:4:12: error NS105 routes.a.fresh: 5, expected a duration",
            id="a policy file",
        ),
    ],
)
def test_with_an_unreadable_file_nothing_is_played(folder, capsys, file, text, said):
    (folder / "scenarios" / "fine.yaml").write_text(GOOD)
    (folder / file).write_text(text)
    status, out, _ = run(capsys, "--junit", "report.xml")
    assert status == 2
    assert out.startswith(said)
    assert out.endswith("nothing was played: 1 error\n")
    root = ET.parse(folder.parent / "report.xml").getroot()
    assert root.get("errors") == "1"
    assert [case.get("type") for case in root.iter("error")] == [said.split(" ")[2]]


@pytest.mark.parametrize("named", ["nowhere", "nowhere.yaml", "empty"])
def test_where_there_is_no_scenario(folder, capsys, named):
    (folder.parent / "empty").mkdir()
    status, out, err = run(capsys, named)
    assert status == 2
    assert out == ""
    assert err.startswith(f"nearshelf: {named} ")
    assert "name a scenario file" in err


def test_as_json(folder, capsys):
    (folder / "scenarios" / "home.yaml").write_text(BAD)
    status, out, _ = run(capsys, "--json")
    assert status == 1
    said = json.loads(out)
    assert said["failed"] == 1
    assert said["coverage"] == {
        "routes": 5,
        "exercised": 2,
        "never": ["category-page", "product-page", "entry"],
        "percent": 40.0,
    }
    scenario = said["scenarios"][0]
    assert scenario["routes"] == ["default", "home"]
    assert scenario["virtual_s"] == 7200
    assert [(each["line"], each["column"], each["expected"], each["got"]) for each in scenario["failures"]] == [
        (7, 47, "hit", "miss"),
        (7, 57, "9s", "0s"),
    ]


def test_as_junit_xml(folder, capsys):
    (folder / "scenarios" / "bad.yaml").write_text(BAD.replace("home:", "bad:"))
    assert run(capsys, "--junit", "build/report.xml")[0] == 1
    root = ET.parse(folder.parent / "build" / "report.xml").getroot()
    assert (root.tag, root.get("tests"), root.get("failures"), root.get("errors")) == ("testsuites", "2", "1", "0")
    assert [suite.get("name") for suite in root] == ["policies/scenarios/bad.yaml", "policies/scenarios/home.yaml"]
    cases = {case.get("name"): case for case in root.iter("testcase")}
    assert list(cases) == ["bad", "home"]
    assert cases["home"].find("failure") is None
    failure = cases["bad"].find("failure")
    assert failure is not None
    assert len((failure.text or "").splitlines()) == 2
    assert failure.get("message", "").startswith("policies/scenarios/bad.yaml:7:47 scenarios.bad.steps[0].expect")
    assert all(float(case.get("time", "-1")) >= 0 for case in cases.values())


def test_control_characters_reach_neither_terminal_nor_xml(folder, capsys):
    (folder / "scenarios" / "home.yaml").write_text(
        GOOD.replace("body: x", 'body: "a\\e[31m\\u0001b"').replace("outcome: miss", "body: y")
    )
    status, out, _ = run(capsys, "--junit", "report.xml")
    assert status == 1
    assert "\x1b" not in out
    assert ET.parse(folder.parent / "report.xml").getroot().get("failures") == "1"


def test_a_report_that_cannot_be_written(folder, capsys):
    (folder.parent / "file").write_text("")
    status, _, err = run(capsys, "--junit", "file/report.xml")
    assert status == 1
    assert err.startswith("nearshelf: file/report.xml cannot be written: ")
