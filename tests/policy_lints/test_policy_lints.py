"""Every code has a policy that makes it fire and one that does not, and docs/lints.md shows both."""

import re
import shutil
from pathlib import Path

import pytest

from cache_policies.codes import CODES, Severity
from cache_policies.reading import PACKAGED_POLICIES, Fault
from infra.aws.compile import CompileError
from infra.aws.functions import FunctionTooLarge
from infra.aws.lint import Finding
from infra.aws.package_lambda import PackageTooLarge
from infra.policy.check import Target, check
from infra.policy.renderings import page

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PAGE = (ROOT / "docs" / "lints.md").read_text()
FILES = {"markets.yaml", "origins.yaml", "default.yaml"}

TOLD_IN_WORDS = {
    "NS001": "a file that is not there",
    "NS002": "bytes that are no text",
    "NS013": "a megabyte",
    "NS014": "a file name",
    "NS511": "what has no code of its own yet",
    "NS520": "more throttles than fit on a page",
    "NS554": "more policies than fit on a page",
    "NS555": "more policies than fit on a page",
    "NS556": "what the compiler's own lint finds",
}
"""Codes whose policies cannot stand on a page; tests elsewhere make them fire."""
ALWAYS = {"NS500"}
"""Notes that no policy avoids."""

WITH_FIXTURES = sorted(path.name for path in HERE.iterdir() if path.is_dir() and path.name.startswith("NS"))


def written(folder: Path, text: str) -> Path:
    """The files of an example, beside the packaged markets and a route for everything else."""
    shutil.copy(PACKAGED_POLICIES / "markets.yaml", folder)
    (folder / "default.yaml").write_text(
        "routes:\n  default:\n    path: /{rest...}\n    store: false\n    query: all\n"
    )
    name, lines = "page.yaml", []
    for line in [*text.splitlines(), "# end.yaml"]:
        heading = re.fullmatch(r"# ([a-z]+\.yaml)", line)
        if heading is None:
            lines.append(line)
            continue
        if any(lines):
            # As many lines as in the example, so that places can be compared.
            (folder / name).write_text("\n".join(lines) + "\n")
        name, lines = heading[1], []
    return folder


def found(folder: Path, code: str, which: str) -> list[Fault]:
    text = (HERE / code / f"{which}.yaml").read_text()
    target = Target.CLOUDFRONT if code.startswith("NS5") else Target.LOCAL
    return [fault for _, fault in check([written(folder, text)], target).faults]


@pytest.mark.parametrize("code", WITH_FIXTURES)
def test_the_bad_example_fires(code, tmp_path):
    faults = [fault for fault in found(tmp_path, code, "bad") if fault.code == code]
    assert faults
    for fault in faults:
        assert fault.severity is CODES[code].severity
        assert fault.what
        assert fault.fix or fault.severity is Severity.NOTE
        assert fault.fix == "" or re.fullmatch(r"[A-Z{].*\.", fault.fix)


@pytest.mark.parametrize("code", [code for code in WITH_FIXTURES if code not in ALWAYS])
def test_the_good_example_is_clean(code, tmp_path):
    faults = found(tmp_path, code, "good")
    assert [str(fault) for fault in faults if fault.severity is not Severity.NOTE or fault.code == code] == []


def test_every_code_has_both_examples_or_is_told_in_words():
    assert CODES.keys() - set(WITH_FIXTURES) == set(TOLD_IN_WORDS)
    for code in WITH_FIXTURES:
        assert (HERE / code / "bad.yaml").is_file()
        assert code in ALWAYS or (HERE / code / "good.yaml").is_file()


def sections() -> dict[str, str]:
    """Code -> its section of the page."""
    parts = re.split(r"^### (NS[0-9]{3})$", PAGE, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_every_code_is_on_the_page_and_no_other():
    assert sorted(sections()) == sorted(CODES)


@pytest.mark.parametrize("code", sorted(CODES))
def test_the_page_says_what_the_code_means_and_shows_the_examples(code):
    section = sections()[code]
    assert f"*{CODES[code].severity}: {CODES[code].title}.* " in section
    examples = re.findall(r"^```yaml\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    files = [HERE / code / name for name in ("bad.yaml", "good.yaml")]
    assert examples == [file.read_text() for file in files if file.is_file()]
    assert page(code) == f"docs/lints.md#{code.lower()}"


def test_nothing_fires_on_the_packaged_policies():
    report = check([])
    assert [str(fault) for _, fault in report.faults] == []
    assert report.exit_status(strict=True) == 0


# What CloudFront refuses, told without policies that are large enough for it.


@pytest.mark.parametrize(
    ("raised", "code", "what"),
    [
        (FunctionTooLarge("viewer-request.js: 10400 bytes"), "NS554", "viewer-request.js: 10400 bytes"),
        (PackageTooLarge("origin-request.zip: 1200000 bytes"), "NS555", "origin-request.zip: 1200000 bytes"),
        (
            CompileError([Finding("EDGE102", "Distribution", "81 behaviours", "merge routes", "cloudfront-limits")]),
            "NS556",
            "81 behaviours (EDGE102, Distribution)",
        ),
    ],
)
def test_what_the_compiler_refuses_is_an_error(monkeypatch, raised, code, what):
    def refuse(_, **__):
        raise raised

    monkeypatch.setattr("infra.policy.cloudfront.compile_policies", refuse)
    (fault,) = [fault for _, fault in check([], Target.CLOUDFRONT).faults if fault.severity is Severity.ERROR]
    assert (fault.code, fault.what) == (code, what)
    assert fault.fix.endswith(".")


@pytest.mark.parametrize(("throttled", "costs"), [(20, False), (25, True)])
def test_what_costs_extra_is_a_note_as_in_the_compilers_report(throttled, costs, tmp_path):
    (folder := tmp_path / "policies").mkdir()
    routes = [f"  r{n}:\n    path: /r{n}/{{x}}\n    store: false\n    throttle: 10/s\n" for n in range(throttled)]
    checked = check([written(folder, "routes:\n" + "".join(routes))], Target.CLOUDFRONT)
    notes = [fault for _, fault in checked.faults if fault.code == "NS520"]
    assert checked.exit_status(strict=True) == 0
    assert len(notes) == costs
    for note in notes:
        assert note.severity is Severity.NOTE
        assert re.fullmatch(r"1[0-9]{3} capacity units: .* from 1500 on \(EDGE207, \w+\)", note.what)
        assert note.fix.startswith("Stay within 1500 capacity units")
        assert str(note.place) == "default.yaml:1:1"


def test_every_difference_has_a_code_of_its_own(tmp_path):
    faults = [fault for _, fault in check([], Target.CLOUDFRONT).faults]
    for code in WITH_FIXTURES:
        if code.startswith("NS5"):
            folder = tmp_path / code
            folder.mkdir()
            faults += found(folder, code, "bad")
    assert {fault.code for fault in faults} > {"NS500", "NS501", "NS519"}
    assert [fault for fault in faults if fault.code == "NS511"] == []


def test_a_difference_stands_where_its_field_was_written(tmp_path):
    """In the route, in `defaults`, or at the route where the field has its default."""
    folder = written(
        tmp_path,
        "defaults:\n  fresh: 300s\n  forward_methods: [GET, HEAD]\n\n"
        "routes:\n"
        "  page:\n    path: /{market}/page\n    shows_price: true\n    generation: market\n    keep: 1h\n",
    )
    places = {
        fault.code: (fault.place.line, fault.place.column)
        for _, fault in check([folder], Target.CLOUDFRONT).faults
        if fault.place.file == "page.yaml"
    }
    assert (places["NS504"], places["NS507"], places["NS509"]) == ((2, 3), (10, 5), (6, 3))
