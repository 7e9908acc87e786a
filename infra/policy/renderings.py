"""One report of `policy check`, four ways: for people, for programs (JSON), SARIF 2.1.0, and GitHub's log commands."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cache_policies.codes import CODES, Severity
from cache_policies.reading import Fault, Place
from infra.policy.check import LINE_BREAK, Checked, Report, Target

DOCUMENT = "docs/lints.md"
WIDTH = 120
"""Columns of a source line that are shown; longer ones are cut around the place."""
SARIF_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/os/schemas/sarif-schema-2.1.0.json"

_COLOUR = {Severity.ERROR: "31;1", Severity.WARNING: "33;1", Severity.NOTE: "36"}


class Format(StrEnum):
    TEXT = "text"
    JSON = "json"
    SARIF = "sarif"
    GITHUB = "github"


def render(report: Report, form: Format, *, colour: bool = False) -> str:
    """The whole report, without a last line feed. `colour` is for text only."""
    match form:
        case Format.TEXT:
            return "\n".join(_text(report, Paint(colour)))
        case Format.JSON:
            return json.dumps(_json(report), indent=2, ensure_ascii=False)
        case Format.SARIF:
            return json.dumps(_sarif(report), indent=2, ensure_ascii=False)
        case Format.GITHUB:
            return "\n".join(_github(report))


def page(code: str) -> str:
    """Where a code is explained."""
    return f"{DOCUMENT}#{code.lower()}"


class Paint:
    """Colours text for a terminal, or does not."""

    def __init__(self, colour: bool) -> None:
        self._colour = colour

    def __call__(self, style: str, text: str) -> str:
        return f"\x1b[{style}m{text}\x1b[0m" if self._colour else text


def _text(report: Report, paint: Paint) -> Iterator[str]:
    notes: dict[tuple[str, str], list[str]] = {}
    for checked, fault in report.faults:
        if fault.severity is Severity.NOTE:
            places = notes.setdefault((fault.code, fault.what), [])
            if fault.field:
                places.append(f"{_place(checked, fault)} {fault.field}")
            continue
        severity = paint(_COLOUR[fault.severity], str(fault.severity))
        place = paint("1", printable(_place(checked, fault)))
        yield f"{place}: {severity} {fault.code} {printable(_said(fault))}"
        text = checked.files.texts.get(fault.place.file, "")
        yield from excerpt(text, fault.place, paint, _COLOUR[fault.severity])
        yield f"  fix: {printable(fault.fix)}  {paint('2', page(fault.code))}"
        yield ""
    for (code, what), places in sorted(notes.items()):
        yield f"{paint(_COLOUR[Severity.NOTE], str(Severity.NOTE))} {code} {printable(what)}  {paint('2', page(code))}"
        yield from (f"  at {printable(place)}" for place in places)
    if notes:
        yield ""
    for checked in report.checked:
        yield printable(_summary(checked, report))


def _place(checked: Checked, fault: Fault) -> str:
    return f"{checked.path(fault.place.file)}:{fault.place.line}:{fault.place.column}"


def _said(fault: Fault) -> str:
    return f"{fault.field}: {fault.what}" if fault.field else fault.what


def _summary(checked: Checked, report: Report) -> str:
    severities = [fault.severity for fault in checked.faults]
    counts = [counted(severities.count(each), each) for each in (Severity.ERROR, Severity.WARNING)]
    if Severity.NOTE in severities:
        counts.append(counted(severities.count(Severity.NOTE), Severity.NOTE))
    policies = checked.files.policies
    files = counted(len(checked.files.texts), "file")
    if policies is None:
        known = f"{files}; an edge would not start"
    else:
        routes, markets = counted(len(policies.policies), "route"), counted(len(policies.markets.all), "market")
        known = f"{files} ({routes}, {markets}); digest {policies.digest}"
    said = [f"{', '.join(counts)} in {known}"]
    if checked.elsewhere:
        said.append(f"{checked.elsewhere} more in the folder's other files")
    if report.target is Target.CLOUDFRONT and policies is None:
        said.append("not looked at for CloudFront")
    return f"{checked.path('')}: {'; '.join(said)}; {checked.spent_ms:.0f} ms"


def counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def excerpt(text: str, place: Place, paint: Paint, style: str) -> Iterator[str]:
    """The line of a file's text, and carets below what is at `place`."""
    lines = LINE_BREAK.split(text)
    if not 1 <= place.line <= len(lines):
        return
    line, start, end = printable(lines[place.line - 1]), place.column - 1, place.end_column - 1
    if not start < end <= len(line):
        end = start + 1
    if len(line) > WIDTH:
        first = max(0, min(start - WIDTH // 3, len(line) - WIDTH))
        line, start, end = line[first : first + WIDTH], start - first, min(end - first, WIDTH)
    number = f"{place.line:>4} | "
    before = "".join("\t" if character == "\t" else " " * _columns(character) for character in line[:start])
    carets = "^" * max(1, sum(_columns(character) for character in line[start:end]))
    yield number + line
    yield f"{'|':>{len(number) - 1}} {before}{paint(style, carets)}"


def _columns(character: str) -> int:
    """Columns of a terminal that a character takes."""
    if unicodedata.category(character) in {"Me", "Mn"}:
        return 0
    return 2 if unicodedata.east_asian_width(character) in {"W", "F"} else 1


def printable(text: str) -> str:
    """`text` without what a terminal would obey, character for character: a policy file is somebody else's words."""
    return "".join(
        character
        if character == "\t" or unicodedata.category(character) not in {"Cc", "Cf", "Cs"}
        else "\N{REPLACEMENT CHARACTER}"
        for character in text
    )


def _json(report: Report) -> dict[str, Any]:
    return {
        "faults": [
            {
                "file": checked.path(fault.place.file),
                "line": fault.place.line,
                "column": fault.place.column,
                "end_column": fault.place.end_column or None,
                "severity": fault.severity,
                "code": fault.code,
                "title": CODES[fault.code].title,
                "field": fault.field,
                "what": fault.what,
                "fix": fault.fix,
                "page": page(fault.code),
            }
            for checked, fault in report.faults
        ],
        "folders": [
            {
                "folder": checked.path(""),
                "files": sorted(checked.files.texts),
                "routes": len(policies.policies) if (policies := checked.files.policies) else None,
                "markets": len(policies.markets.all) if policies else None,
                "digest": policies.digest if policies else None,
                "elsewhere": checked.elsewhere,
                "ms": round(checked.spent_ms, 1),
            }
            for checked in report.checked
        ],
        "target": report.target,
        "errors": report.count(Severity.ERROR),
        "warnings": report.count(Severity.WARNING),
        "notes": report.count(Severity.NOTE),
    }


def _sarif(report: Report) -> dict[str, Any]:
    """SARIF 2.1.0 (docs.oasis-open.org/sarif/sarif/v2.1.0); the numbers are sections of it."""
    codes = sorted({fault.code for _, fault in report.faults})
    return {
        "$schema": SARIF_SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "nearshelf policy check",
                        "version": version("nearshelf"),
                        "rules": [
                            {
                                "id": code,
                                "shortDescription": {"text": CODES[code].title},
                                "help": {"text": f"Explained in {page(code)}."},
                                "defaultConfiguration": {"level": CODES[code].severity},
                            }
                            for code in codes
                        ],
                    }
                },
                # 3.14.17: what a column counts.
                "columnKind": "unicodeCodePoints",
                "results": [_result(checked, fault, codes.index(fault.code)) for checked, fault in report.faults],
            }
        ],
    }


def _result(checked: Checked, fault: Fault, rule: int) -> dict[str, Any]:
    region = {"startLine": fault.place.line, "startColumn": fault.place.column}
    if fault.place.end_column > fault.place.column:
        region["endColumn"] = fault.place.end_column
    path = Path(checked.path(fault.place.file))
    # 3.27.10: the words of severity are the same as ours.
    return {
        "ruleId": fault.code,
        "ruleIndex": rule,
        "level": fault.severity,
        "message": {"text": " ".join(filter(None, (f"{_said(fault)}.", fault.fix)))},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": path.as_uri() if path.is_absolute() else quote(path.as_posix())},
                    "region": region,
                }
            }
        ],
    }


def _github(report: Report) -> Iterator[str]:
    """docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands, and how its runner reads them."""
    commands = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.NOTE: "notice"}
    for checked, fault in report.faults:
        properties = {
            "file": printable(checked.path(fault.place.file)),
            "line": str(fault.place.line),
            "col": str(fault.place.column),
            "title": f"{fault.code} {CODES[fault.code].title}",
        }
        listed = ",".join(f"{name}={_escaped(value, in_property=True)}" for name, value in properties.items())
        message = " ".join(filter(None, (f"{_said(fault)}.", fault.fix, page(fault.code))))
        yield f"::{commands[fault.severity]} {listed}::{_escaped(message)}"
    for checked in report.checked:
        yield printable(_summary(checked, report))


def _escaped(text: str, *, in_property: bool = False) -> str:
    """A line feed would end the command, a comma or colon the property."""
    text = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return text.replace(":", "%3A").replace(",", "%2C") if in_property else text
