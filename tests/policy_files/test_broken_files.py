"""Broken policy files: every fault of every file in one run, each with its code, its line and column, and a fix.

`broken/` has one file, or one folder, for each case, and beside it, in `NAME.faults`, all that is to be found in it.
Warnings and notes are left out. After a change that is meant, `python -m tests.policy_files.test_broken_files` writes
these anew; read what they say before you commit them.
"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from pathlib import Path

import pytest

from cache_policies.codes import CODES, Severity
from cache_policies.markets import read_markets
from cache_policies.origins_file import read_origins
from cache_policies.reading import Fault, parse_document
from edge.policy_files import PACKAGED_POLICIES, read_policies, read_routes

BROKEN = Path(__file__).parent / "broken"
CASES = sorted(path for path in BROKEN.iterdir() if path.suffix != ".faults")
ROUTE = "routes:\n  default:\n    path: /{rest...}\n    store: false\n"


def prepared(case: Path, folder: Path) -> Path:
    """A folder of policies that has nothing wrong but the case; `kind-what.yaml` becomes `kind.yaml`."""
    if case.is_dir():
        shutil.copytree(case, folder, dirs_exist_ok=True)
        if (case / "default.yaml").exists():
            shutil.copy(PACKAGED_POLICIES / "markets.yaml", folder)
        return folder
    shutil.copy(PACKAGED_POLICIES / "markets.yaml", folder)
    (folder / "default.yaml").write_text(ROUTE)
    kind = case.name.partition("-")[0]
    name = f"{kind}.yaml" if kind in {"markets", "origins", "default"} else case.name
    shutil.copy(case, folder / name)
    return folder


def errors(case: Path, folder: Path) -> tuple[Fault, ...]:
    found = read_policies(prepared(case, folder))
    assert found.policies is None
    return tuple(fault for fault in found.faults if fault.severity is Severity.ERROR)


def told(faults: tuple[Fault, ...]) -> str:
    return "".join(f"{fault}\n    {fault.fix}\n" for fault in faults)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_every_fault_is_found_in_one_run_at_its_place(case, tmp_path):
    found = errors(case, tmp_path)
    assert told(found) == case.with_suffix(".faults").read_text(encoding="utf-8")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_a_fault_has_a_code_a_place_in_the_text_and_a_fix(case, tmp_path):
    faults = errors(case, tmp_path)
    texts = read_policies(tmp_path).texts
    assert list(faults) == sorted(set(faults))
    for fault in faults:
        assert fault.code in CODES
        assert fault.fix.endswith("."), fault
        assert str(fault).isprintable(), fault
        lines = texts.get(fault.place.file, "").split("\n")
        line = lines[fault.place.line - 1].removesuffix("\r")
        assert 1 <= fault.place.column <= len(line) + 1, fault
        assert fault.place.end_column == 0 or fault.place.column < fault.place.end_column <= len(line) + 1, fault


def test_a_file_that_is_too_large_is_not_read_on(tmp_path):
    prepared(BROKEN / "empty.yaml", tmp_path)
    (tmp_path / "empty.yaml").write_bytes(b"# " + b"x" * 1_000_000)
    (fault,) = read_policies(tmp_path).faults
    assert (str(fault.place), fault.code) == ("empty.yaml:1:1", "NS013")


def test_what_is_no_file_is_not_opened(tmp_path):
    prepared(BROKEN / "empty.yaml", tmp_path)
    (tmp_path / "empty.yaml").unlink()
    (tmp_path / "folder.yaml").mkdir()
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "link.yaml").symlink_to("nowhere")
    faults = read_policies(tmp_path).faults
    assert [(fault.place.file, fault.code) for fault in faults] == [
        ("folder.yaml", "NS001"),
        ("link.yaml", "NS001"),
        ("pipe.yaml", "NS001"),
    ]


def test_whatever_a_file_holds_it_is_read_or_refused():
    """Bytes of the packaged files and of the broken ones, cut, doubled and swapped: never anything but faults."""
    rng = random.Random("whatever a file holds")
    files = [*PACKAGED_POLICIES.glob("*.yaml"), *(path for path in CASES if path.is_file())]
    sources = [path.read_bytes() for path in sorted(files) if path.stem != "nested"]
    strange = [
        b"\t",
        b"\x00",
        b"\xff",
        b"&a ",
        b"*a",
        b"{",
        b"]",
        b": ",
        b"\n- ",
        b"'",
        b'"',
        b"!!int ",
        b"\r",
        b"%",
        b"? ",
        b"|\n",
    ]
    refused = 0
    for _ in range(400):
        content = bytearray(rng.choice(sources) or b"routes: {}\n")
        for _ in range(rng.randint(1, 4)):
            start = rng.randrange(len(content) + 1)
            content[start : start + rng.choice([0, 0, 1, 3, 200])] = rng.choice(
                [b"", *strange, rng.choice(sources)[:60]]
            )
        faults: list[Fault] = []
        document = parse_document(content.decode("utf-8", errors="surrogateescape"), "a.yaml", faults)
        for read in (lambda value: read_routes(value, None), read_markets, read_origins):
            if document is not None:
                read(document)
        refused += document is None
        assert all(fault.code and fault.fix and str(fault).isprintable() for fault in faults)
    assert refused > 50


def test_thirty_files_and_more_with_every_code_of_files_and_fields():
    assert len(CASES) >= 30
    found = "".join(path.read_text(encoding="utf-8") for path in BROKEN.glob("*.faults"))
    missing = [code for code in CODES if "NS001" <= code <= "NS399" and f"[{code}]" not in found]
    # A file beyond the limit is made by a test of its own.
    assert missing == ["NS013"]


if __name__ == "__main__":
    for each in CASES:
        with tempfile.TemporaryDirectory() as scratch:
            each.with_suffix(".faults").write_text(told(errors(each, Path(scratch))), encoding="utf-8")
