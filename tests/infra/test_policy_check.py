"""`nearshelf policy check`: what it prints for people and for programs, and how it ends."""

import json
import random
import re
import shutil
from contextlib import suppress
from pathlib import Path

import pytest

from cache_policies.codes import CODES, Severity
from cache_policies.reading import PACKAGED_POLICIES, Fault, Place
from edge.policy_files import PolicyFiles
from infra import cli
from infra.policy.check import Checked, Report, Target, check
from infra.policy.fmt import NotFormattable, format_text
from infra.policy.renderings import Format, render

DEFAULT = "routes:\n  default:\n    path: /{rest...}\n    store: false\n    query: all\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    """Policies in `policies/` below the current folder, without a fault."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "policies"
    path.mkdir()
    shutil.copy(PACKAGED_POLICIES / "markets.yaml", path)
    (path / "default.yaml").write_text(DEFAULT)
    return path


def run(capsys, *words: str) -> tuple[int, str]:
    status = cli.run(["policy", "check", *words])
    captured = capsys.readouterr()
    assert captured.err == ""
    assert "Traceback" not in captured.out
    return status, re.sub(r"; [0-9]+ ms$", "; N ms", captured.out, flags=re.MULTILINE)


def test_each_fault_has_its_line_a_caret_a_fix_and_a_page(folder, capsys):
    (folder / "a.yaml").write_text(
        "routes:\n"
        "  page:\n"
        "    path: /{market}/page\n"
        "    forward_methods: [GET, HEAD]\n"
        "    fresh: 300s\n"
        "    cookies: true\n"
        "\n"
        "  other:\n"
        "    path: /other\n"
        "    forward_methods: [GET, HEAD]\n"
        "    fresh: 300s\n"
        "    query: [page, utm_source]\n"
    )
    status, output = run(capsys, "policies")
    assert status == 2
    assert output == (
        "policies/a.yaml:6:5: error NS205 routes.page.cookies: true on a stored route, expected false: what a cookie "
        "decides must not be shown to the next viewer\n"
        "   6 |     cookies: true\n"
        "     |     ^^^^^^^\n"
        "  fix: Say data_class: personal, or remove cookies.  docs/lints.md#ns205\n"
        "\n"
        "policies/a.yaml:12:19: warning NS404 routes.other.query[1]: utm_source in the key: it changes with every "
        "visit and not the answer\n"
        "  12 |     query: [page, utm_source]\n"
        "     |                   ^^^^^^^^^^\n"
        "  fix: Remove utm_source: what is not listed is dropped before the key is made.  docs/lints.md#ns404\n"
        "\n"
        "policies: 1 error, 1 warning in 3 files; an edge would not start; N ms\n"
    )


def test_clean_policies_say_what_they_are(folder, capsys):
    status, output = run(capsys, "policies")
    assert status == 0
    assert re.fullmatch(
        r"policies: 0 errors, 0 warnings in 2 files \(1 route, 6 markets\); digest [0-9a-f]{16}; N ms\n", output
    )


@pytest.mark.parametrize(
    ("field", "strict", "status"),
    [
        ("forward_methods: [GET, HEAD]", False, 0),
        ("forward_methods: [GET, HEAD]", True, 0),
        ("keep: 1h", False, 0),
        ("keep: 1h", True, 1),
        ("keep: soon", False, 2),
        ("keep: soon", True, 2),
    ],
)
def test_it_ends_with_1_for_warnings_only_when_strict_and_with_2_for_errors(folder, capsys, field, strict, status):
    (folder / "a.yaml").write_text(f"routes:\n  a:\n    path: /a\n    fresh: 5s\n    {field}\n")
    assert run(capsys, "policies", *(["--strict"] if strict else []))[0] == status


def test_notes_never_count(folder, capsys):
    (folder / "a.yaml").write_text(
        "routes:\n"
        "  sealed:\n    path: /sealed/{rest...}\n    data_class: personal\n    residency: seal\n"
        "  tokens:\n    path: /tokens/{rest...}\n    data_class: personal\n    residency: tokenise\n"
    )
    status, output = run(capsys, "policies", "--strict")
    assert status == 0
    assert "note NS490 tokenise: " in output
    assert "pseudonymisation (GDPR Art. 4(5))" in output
    assert "  at policies/a.yaml:9:5 routes.tokens.residency\n" in output
    assert "note NS491 seal: " in output
    assert output.count("It does not claim anonymity. This version has no vault, so the route answers 503") == 2
    assert "0 errors, 0 warnings, 2 notes in 3 files" in output


def test_named_files_are_judged_with_their_folder_and_reported_alone(folder, capsys):
    (folder / "a.yaml").write_text("routes:\n  a:\n    path: /{rest...}\n    store: false\n")
    (folder / "b.yaml").write_text("routes:\n  b:\n    path: /b\n    store: false\n")
    status, output = run(capsys, "policies/b.yaml")
    assert status == 2
    assert "policies/b.yaml:3:11: error NS301" in output
    assert "default.yaml:" not in output
    assert "1 error, 0 warnings in 4 files; an edge would not start; 1 more in the folder's other files; N ms" in output
    assert run(capsys, "policies/a.yaml")[0] == 0


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("nowhere", "nowhere is neither a folder, a file nor a profile (rfc9111)"),
        ("policies/notes.txt", "policies/notes.txt does not end in .yaml"),
    ],
)
def test_what_holds_no_policies_is_named(folder, capsys, path, what):
    (folder / "notes.txt").write_text("")
    assert cli.run(["policy", "check", path]) == 2
    assert what in capsys.readouterr().err


def test_an_unknown_format_is_refused(folder, capsys):
    assert cli.run(["policy", "check", "policies", "--format", "xml"]) == 2
    assert "xml" in capsys.readouterr().err


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe", b"\x00", b"a: \x1b[2J\n", b"\xef\xbb\xbf", b"\r\r\n:", b"[" * 9999]
)
@pytest.mark.parametrize("form", list(Format))
def test_no_file_ends_in_a_traceback(folder, capsys, content, form):
    (folder / "a.yaml").write_bytes(content)
    status, output = run(capsys, "policies", "--format", form)
    assert status == 2
    assert "\x1b" not in output


SCRAPS = [
    "[", "]", "{", "}", ": ", "- ", "#", "&a ", "*a", "!!str ", "'", '"', "|", ">", "\t", "\x00", "\u2028", "é", "? ",
    "<<: ", "%YAML", "\r", "null", "  ", "\n", "\n---\n", "\n    x: 1\n", "\n    z:\n    - a # b\n", "# allow NS414\n",
    "[a, b]: c\n",
]  # fmt: skip


@pytest.mark.parametrize("seed", range(40))
def test_however_files_are_broken_there_are_faults_with_codes_and_no_exception(folder, seed):
    chance = random.Random(seed)
    for path in PACKAGED_POLICIES.glob("*.yaml"):
        shutil.copy(path, folder)
    path = folder / chance.choice(["catalog.yaml", "prices.yaml", "markets.yaml", "default.yaml"])
    text = path.read_text()
    for _ in range(chance.randint(1, 5)):
        at = chance.randrange(len(text))
        text = text[:at] + chance.choice(SCRAPS) + text[at + chance.choice([0, 0, 1, 9]) :]
    path.write_text(text, newline="")
    report = check([folder])
    assert all(fault.code in CODES for _, fault in report.faults)
    for form in Format:
        assert render(report, form)
    with suppress(NotFormattable):
        once = format_text(text, path)
        assert format_text(once, path) == once


# Comments that allow a warning.


def allowing(folder: Path, comment: str, before: str = "") -> list[str]:
    (folder / "a.yaml").write_text(f"routes:\n  a:\n{before}    path: /a{comment}\n    fresh: 5s\n")
    return [fault.code for _, fault in check([folder]).faults]


def test_a_comment_with_a_reason_allows_a_warning(folder):
    assert allowing(folder, "") == ["NS414"]
    assert allowing(folder, "  # allow NS414: reviews are posted here") == []
    assert allowing(folder, "", "    # allow NS414: reviews are posted here\n    # really\n") == []


def test_a_comment_without_a_reason_or_a_need_is_a_warning_itself(folder):
    assert allowing(folder, "  # allow NS414") == ["NS414", "NS426"]
    assert allowing(folder, "  # allow NS414:") == ["NS414", "NS426"]
    assert allowing(folder, "  # allow NS414 as agreed: they are posted") == ["NS414", "NS426"]
    assert sorted(allowing(folder, "  # allow NS414, NS408: why not")) == ["NS427"]
    assert sorted(allowing(folder, "  # allow NS999: why not")) == ["NS414", "NS427"]


def test_errors_cannot_be_allowed(folder):
    (folder / "a.yaml").write_text("routes:\n  a:\n    path: /a\n    fresh: x  # allow NS105: soon\n")
    assert [fault.code for _, fault in check([folder]).faults] == ["NS105", "NS427"]


# What a terminal gets.


def report(text: str, place: Place, what: str = "odd", code: str = "NS105") -> Report:
    files = PolicyFiles(None, (), {}, {place.file: text})
    fault = Fault(place, "routes.a.fresh", what, code, "Write another.")
    return Report((Checked(Path("here"), files, (fault,), 0, 1.0),), Target.LOCAL)


@pytest.mark.parametrize(
    ("line", "column", "end", "shown", "carets"),
    [
        ("a: bc", 4, 6, "a: bc", "   ^^"),
        ("a: bc", 4, 0, "a: bc", "   ^"),
        ("\ta: bc", 5, 7, "\ta: bc", "\t   ^^"),
        ("漢字: bc", 5, 7, "漢字: bc", "      ^^"),
        ("e\u0301: 漢", 5, 6, "e\u0301: 漢", "   ^^"),
        ("a: \x1b[31mb", 4, 5, "a: �[31mb", "   ^"),
        ("a: \u202eb", 5, 6, "a: �b", "    ^"),
        ("a", 7, 9, "a", " ^"),
    ],
)
def test_the_caret_stands_below_its_word(line, column, end, shown, carets):
    text = render(report(f"first\n{line}\nlast\n", Place("a.yaml", 2, column, end)), Format.TEXT)
    _, excerpt, below, *_ = text.split("\n")
    assert excerpt == f"   2 | {shown}"
    assert below == f"     | {carets}"


def test_a_long_line_is_cut_around_the_place():
    line = "x" * 300 + "HERE" + "y" * 300
    text = render(report(line, Place("a.yaml", 1, 301, 305)), Format.TEXT)
    _, excerpt, below, *_ = text.split("\n")
    assert len(excerpt) == 127
    assert excerpt[below.index("^") : below.rindex("^") + 1] == "HERE"


def test_colour_is_only_for_terminals(folder, capsys):
    (folder / "a.yaml").write_text("routes:\n  a:\n    path: /a\n    fresh: x\n")
    assert "\x1b" not in run(capsys, "policies")[1]
    plain, coloured = (render(check([folder]), Format.TEXT, colour=colour) for colour in (False, True))
    assert "\x1b[31;1merror\x1b[0m" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured).split("\n")[:-1] == plain.split("\n")[:-1]


def test_what_a_policy_says_does_not_reach_the_terminal_as_a_command():
    text = render(report("a: 1\n", Place("\x1b]0;a.yaml", 1, 1), "\x1b[2J\u202eevil"), Format.TEXT)
    assert "\x1b" not in text
    assert "\u202e" not in text


# What programs get.


def test_json_has_every_fault_and_the_sums(folder, capsys):
    (folder / "a.yaml").write_text("routes:\n  a:\n    path: /a\n    fresh: x\n")
    found = json.loads(run(capsys, "policies", "--format", "json")[1])
    assert found["faults"] == [
        {
            "file": "policies/a.yaml",
            "line": 4,
            "column": 12,
            "end_column": 13,
            "severity": "error",
            "code": "NS105",
            "title": CODES["NS105"].title,
            "field": "routes.a.fresh",
            "what": "x, expected a duration of zero or more with its unit, such as 300s, 5m, 12h or 1d",
            "fix": found["faults"][0]["fix"],
            "page": "docs/lints.md#ns105",
        }
    ]
    assert (found["errors"], found["warnings"], found["notes"], found["target"]) == (1, 0, 0, "local")
    assert found["folders"][0]["files"] == ["a.yaml", "default.yaml", "markets.yaml"]


def test_sarif_is_what_version_2_1_0_asks_for(folder, capsys):
    """The properties that the standard requires, section by section, and what viewers of it need besides."""
    (folder / "a b.yaml").write_text("routes:\n  a:\n    path: /a\n    fresh: x\n  b:\n    path: /b\n    fresh: 5s\n")
    log = json.loads(run(capsys, "policies", "--format", "sarif")[1])
    assert log["version"] == "2.1.0"  # 3.13.2
    assert log["$schema"].endswith("sarif-schema-2.1.0.json")  # 3.13.3
    (only,) = log["runs"]  # 3.13.4
    driver = only["tool"]["driver"]  # 3.14.6, 3.18.2
    assert driver["name"]  # 3.19.8
    assert [rule["id"] for rule in driver["rules"]] == ["NS105", "NS414"]  # 3.49.3
    assert len({rule["id"] for rule in driver["rules"]}) == len(driver["rules"])
    for rule in driver["rules"]:
        assert rule["shortDescription"]["text"]  # 3.12
        assert rule["help"]["text"]
        assert rule["defaultConfiguration"]["level"] in {"none", "note", "warning", "error"}  # 3.50.3
    assert only["columnKind"] in {"utf16CodeUnits", "unicodeCodePoints"}  # 3.14.17
    assert [result["level"] for result in only["results"]] == ["error", "warning"]  # 3.27.10
    for result in only["results"]:
        assert result["message"]["text"]  # 3.27.11
        assert driver["rules"][result["ruleIndex"]]["id"] == result["ruleId"]  # 3.27.5, 3.27.6
        (location,) = result["locations"]  # 3.27.12
        physical = location["physicalLocation"]
        assert physical["artifactLocation"]["uri"] == "policies/a%20b.yaml"  # 3.4.3, RFC 3986
        assert physical["region"]["startLine"] >= 1  # 3.30.5
        assert physical["region"]["startColumn"] >= 1
        assert physical["region"].get("endColumn", 99) > physical["region"]["startColumn"]
    assert only["results"][0]["locations"][0]["physicalLocation"]["region"] == {
        "startLine": 4,
        "startColumn": 12,
        "endColumn": 13,
    }


def test_sarif_of_clean_policies_has_no_results(folder, capsys):
    status, output = run(capsys, "policies", "--format", "sarif")
    assert status == 0
    assert json.loads(output)["runs"][0]["results"] == []


def test_github_commands_are_escaped():
    text = render(report("a: 1\n", Place("a,b:c%.yaml", 3, 7), "100%, or\r\nnot::x"), Format.GITHUB)
    command, summary = text.split("\n")
    assert command == (
        "::error file=here/a%2Cb%3Ac%25.yaml,line=3,col=7,title=NS105 not a duration::"
        "routes.a.fresh: 100%25, or%0D%0Anot::x. Write another. docs/lints.md#ns105"
    )
    assert summary.startswith("here: 1 error, 0 warnings in 1 file; an edge would not start")


def test_a_file_name_cannot_speak_to_the_terminal_of_a_build():
    text = render(report("a: 1\n", Place("a\x1b[31m\nb.yaml", 3, 7)), Format.GITHUB)
    assert text.startswith("::error file=here/a\N{REPLACEMENT CHARACTER}[31m\N{REPLACEMENT CHARACTER}b.yaml,line=3,")
    assert "\x1b" not in text


def test_github_knows_notices_and_warnings(folder, capsys):
    (folder / "a.yaml").write_text(
        "routes:\n  a:\n    path: /a\n    fresh: 5s\n"
        "  b:\n    path: /b/{rest...}\n    data_class: personal\n    residency: seal\n"
    )
    lines = run(capsys, "policies", "--format", "github")[1].splitlines()
    assert lines[0].startswith("::warning file=policies/a.yaml,line=3,col=5,title=NS414 ")
    assert lines[1].startswith("::notice file=policies/a.yaml,line=8,col=5,title=NS491 ")


def test_every_severity_has_a_word_in_every_form():
    for severity in Severity:
        code = next(code for code, each in CODES.items() if each.severity is severity)
        for form in Format:
            assert render(report("a: 1\n", Place("a.yaml", 1, 1), code=code), form)
