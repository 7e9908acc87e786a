"""The figures in words, and the command line."""

from __future__ import annotations

import sys

import pytest

from tests.conformance.__main__ import main
from tests.conformance.chapters import CASES
from tests.conformance.player import Outcome, Verdict
from tests.conformance.report import document, summary
from tests.conformance.script import Case, Kind
from tests.conformance.targets import NEARSHELF, NGINX_TARGET, Target

OURS = Target("nearshelf", NEARSHELF.start)
PEER = Target("nginx", NGINX_TARGET.start, version=lambda: "1.2.3")


def _verdict(case: Case) -> Verdict:
    """Half of the required cases pass, one is untested, information fails."""
    number = CASES.index(case)
    if case.kind is Kind.INFORMATION:
        return Verdict(case, Outcome.FAILED, "as it is")
    if number == 0:
        return Verdict(case, Outcome.UNTESTED, "not so far")
    return Verdict(case, Outcome.PASSED if number % 2 else Outcome.FAILED, "" if number % 2 else "wrong")


def test_a_summary_counts_and_names_what_is_not_passed():
    told = summary(PEER, [_verdict(case) for case in CASES[:6]], 12.3)
    assert CASES[2].id in told
    assert CASES[1].id not in told
    assert "nginx 1.2.3: " in told
    assert "(1 untested)" in told
    assert told.endswith("12 s")
    assert "again" not in told


def test_a_summary_names_what_was_passed_only_when_played_again():
    told = summary(PEER, [Verdict(CASES[3], Outcome.PASSED, tries=2)], 1.0)
    assert f"played again: {CASES[3].id}" in told


def test_the_tables_go_between_their_marks(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "before\n<!-- table -->\nold\n<!-- /table -->\nmiddle\n<!-- failures -->\n<!-- /failures -->\nafter\n"
    )
    verdicts = [_verdict(case) for case in CASES]
    document(page, [OURS, PEER], {"nearshelf": verdicts, "nginx": verdicts})
    text = page.read_text()
    assert "FORMER" not in text
    assert f"| **all** | {len(CASES)} |" in text
    assert "nginx 1.2.3: required" in text
    assert f"`{CASES[2].id}`" in text
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    document(page, [OURS, PEER], {"nearshelf": verdicts, "nginx": verdicts})
    assert page.read_text() == text


def test_a_document_without_marks_is_left_alone(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("nothing here\n")
    with pytest.raises(ValueError, match="no <!-- table -->"):
        document(page, [OURS], {"nearshelf": [_verdict(case) for case in CASES]})
    assert page.read_text() == "nothing here\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--against", "squid"], "expected some of nearshelf, nginx"),
        (["--only", "no-such-*"], "there is no such case"),
        (["--only", "age-*", "--write", "x.md"], "needs all cases"),
    ],
)
def test_what_cannot_be_asked_for_is_said(monkeypatch, capsys, arguments, said):
    monkeypatch.setattr(sys, "argv", ["conformance", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_the_command_says_what_is_wrong(monkeypatch, capsys):
    monkeypatch.setattr(
        sys, "argv", ["conformance", "--against", "keeps nothing", "--only", "fresh-max-age,store-no-store"]
    )
    assert main() == 0
    told = capsys.readouterr().out
    assert "failed      optional    fresh-max-age: max-age makes a response fresh" in told
    assert "required 1 of 1, optional 0 of 1" in told
