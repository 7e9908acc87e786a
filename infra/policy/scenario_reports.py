"""What `nearshelf policy test` found, three ways: for people, as JSON, and as JUnit XML for a build server."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from cache_policies.codes import Severity
from cache_policies.reading import Fault, Place
from infra.policy.renderings import Paint, counted, excerpt, page, printable
from infra.policy.scenarios import Failure, Played, Run

_RED, _GREEN, _BOLD, _FAINT = "31;1", "32", "1", "2"


def in_text(tested: Run, min_coverage: float, paint: Paint) -> str:
    """The whole report, without a last line feed."""
    return "\n".join(_text(tested, min_coverage, paint))


def _text(tested: Run, min_coverage: float, paint: Paint) -> Iterator[str]:
    if not tested.is_readable:
        yield from _unreadable(tested, paint)
        return
    texts = {file.path: file.text for file in tested.files}
    for file in tested.files:
        yield paint(_BOLD, printable(shown(file.path)))
        for played in tested.played:
            if played.scenario.file == file.path:
                yield from _scenario(played, texts, paint)
        yield ""
    failed = sum(not played.passed for played in tested.played)
    checks, spent_ms = _sum(tested)
    said = f"{counted(len(tested.played), 'scenario')}, {failed} failed; {counted(checks, 'expectation')}"
    virtual_s = sum(played.virtual_s for played in tested.played)
    yield paint(_RED if failed else _GREEN, f"{said}; {_span(virtual_s)} of virtual time in {spent_ms:.0f} ms")
    yield _coverage(tested)
    if tested.coverage_percent < min_coverage:
        yield paint(_RED, f"coverage is below {min_coverage:g} %: write scenarios for the routes never exercised")


def _sum(tested: Run) -> tuple[int, float]:
    return sum(played.checks for played in tested.played), sum(played.spent_ms for played in tested.played)


def _coverage(tested: Run) -> str:
    never = tested.never_exercised
    exercised = f"{len(tested.routes) - len(never)}/{len(tested.routes)} routes exercised"
    return f"{exercised}; never: {', '.join(never)}" if never else exercised


def _scenario(played: Played, texts: Mapping[Path, str], paint: Paint) -> Iterator[str]:
    word = paint(_GREEN, "ok    ") if played.passed else paint(_RED, "FAILED")
    scenario = played.scenario
    about = f"  {paint(_FAINT, printable(scenario.about))}" if scenario.about else ""
    steps = counted(len(scenario.steps), "step")
    time = f"{steps}, {_span(played.virtual_s)}, {played.spent_ms:.0f} ms"
    yield f"  {word} {scenario.id} ({time}){about}"
    for failure in played.failures:
        yield f"{paint(_BOLD, _place(scenario.file, failure.place))}: {_failed(failure)}"
        yield from excerpt(texts[scenario.file], failure.place, paint, _RED)
        yield f"  answered: {printable(failure.answered)}"


def _span(seconds: float) -> str:
    """A while in its two largest units: `1d 14h`."""
    left, parts = round(seconds), []
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        count, left = divmod(left, length)
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2]) or "0s"


def _failed(failure: Failure) -> str:
    return printable(f"{failure.field}: expected {failure.expected}, got {failure.got}")


def _unreadable(tested: Run, paint: Paint) -> Iterator[str]:
    """Every fault that keeps the scenarios from being played."""
    errors = 0
    for path, text, fault in _faults(tested):
        errors += 1
        said = f"{fault.field}: {fault.what}" if fault.field else fault.what
        yield f"{paint(_BOLD, _place(path, fault.place))}: {paint(_RED, 'error')} {fault.code} {printable(said)}"
        yield from excerpt(text, fault.place, paint, _RED)
        yield f"  fix: {printable(fault.fix)}  {paint(_FAINT, page(fault.code))}"
        yield ""
    yield f"nothing was played: {counted(errors, 'error')}"


def _faults(tested: Run) -> Iterator[tuple[Path, str, Fault]]:
    """Each with the path of its file and that file's text."""
    if tested.policies.policies is None:
        for fault in tested.policies.faults:
            if fault.severity is Severity.ERROR:
                file = fault.place.file
                yield tested.folder / file, tested.policies.texts.get(file, ""), fault
    for each in tested.files:
        for fault in each.faults:
            yield each.path, each.text, fault


def shown(path: Path) -> str:
    """The file as one may open it from here."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_absolute() and path.is_relative_to(here) else str(path)


def _place(path: Path, place: Place) -> str:
    return f"{printable(shown(path))}:{place.line}:{place.column}"


# -- for programs ------------------------------------------------------------------------------------------------------


def in_json(tested: Run) -> str:
    return json.dumps(_json(tested), indent=2, ensure_ascii=False)


def _json(tested: Run) -> dict[str, Any]:
    policies = tested.policies.policies
    return {
        "policies": {"folder": shown(tested.folder), "digest": None if policies is None else policies.digest},
        "faults": [
            {
                "file": shown(path),
                "line": fault.place.line,
                "column": fault.place.column,
                "code": fault.code,
                "field": fault.field,
                "what": fault.what,
                "fix": fault.fix,
            }
            for path, _, fault in _faults(tested)
        ],
        "scenarios": [
            {
                "file": shown(played.scenario.file),
                "line": played.scenario.place.line,
                "id": played.scenario.id,
                "about": played.scenario.about or None,
                "passed": played.passed,
                "steps": len(played.scenario.steps),
                "expectations": played.checks,
                "virtual_s": round(played.virtual_s, 3),
                "ms": round(played.spent_ms, 1),
                "routes": sorted(played.routes - {""}),
                "failures": [
                    {
                        "file": shown(played.scenario.file),
                        "line": failure.place.line,
                        "column": failure.place.column,
                        "field": failure.field,
                        "expected": failure.expected,
                        "got": failure.got,
                        "answered": failure.answered,
                    }
                    for failure in played.failures
                ],
            }
            for played in tested.played
        ],
        "failed": sum(not played.passed for played in tested.played),
        "coverage": {
            "routes": len(tested.routes),
            "exercised": len(tested.routes) - len(tested.never_exercised),
            "never": list(tested.never_exercised),
            "percent": round(tested.coverage_percent, 1),
        },
    }


def in_junit(tested: Run) -> str:
    """One suite for each file, one case for each scenario; what cannot be read is an error of its file's suite."""
    root = ET.Element("testsuites", name="nearshelf policy test")
    faults: dict[Path, list[Fault]] = {}
    for path, _, fault in _faults(tested):
        faults.setdefault(path, []).append(fault)
    for path in dict.fromkeys([*faults, *(file.path for file in tested.files)]):
        _suite(root, path, [played for played in tested.played if played.scenario.file == path], faults.get(path, []))
    for name in ("tests", "failures", "errors"):
        root.set(name, str(sum(int(suite.get(name, "0")) for suite in root)))
    root.set("time", f"{_sum(tested)[1] / 1000:.6f}")
    ET.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _suite(root: ET.Element, path: Path, cases: list[Played], faults: list[Fault]) -> None:
    name = _xml(shown(path))
    suite = ET.SubElement(
        root,
        "testsuite",
        name=name,
        tests=str(len(cases) + len(faults)),
        failures=str(sum(not played.passed for played in cases)),
        errors=str(len(faults)),
        time=f"{sum(played.spent_ms for played in cases) / 1000:.6f}",
    )
    for fault in faults:
        case = ET.SubElement(suite, "testcase", classname=name, name=f"{fault.place.line}:{fault.place.column}")
        said = _xml(f"{_place(path, fault.place)} {fault.field}: {fault.what}. {fault.fix}")
        ET.SubElement(case, "error", message=said, type=fault.code)
    for played in cases:
        case = ET.SubElement(
            suite, "testcase", classname=name, name=played.scenario.id, time=f"{played.spent_ms / 1000:.6f}"
        )
        if played.failures:
            lines = [
                _xml(f"{_place(path, each.place)} {_failed(each)} (answered: {each.answered})")
                for each in played.failures
            ]
            failure = ET.SubElement(case, "failure", message=lines[0], type="expectation")
            failure.text = "\n".join(lines)


def _xml(text: str) -> str:
    """Without what XML 1.0 cannot hold."""
    return "".join(
        character if character.isprintable() or character in "\t\n" else "\N{REPLACEMENT CHARACTER}"
        for character in text
    )
