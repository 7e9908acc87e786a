"""A run as JUnit XML, as CI systems read it: a test case for each thing that a run is held to."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

from loadtests.recorder.run import Run
from loadtests.report.first_screen import measured_text

_NO_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 has no way to write."""


def junit_text(run: Run) -> str:
    """Thresholds, the promise, and whether the run is valid: not to be believed is an error, not a failure."""
    cases: list[tuple[str, str, str]] = [
        ("validity", "the generator kept up and was not the bottleneck", "\n".join(run.check.faults))
    ]
    broken = [*run.prices.violations] or (
        [f"{run.prices.old_after_live} old prices after live, {run.prices.wrong} prices that nobody set"]
        if run.prices.promise_broken
        else []
    )
    cases.append(("promise", "no old price is shown as current after live", "\n".join(broken)))
    cases += [
        ("thresholds", verdict.text, "" if verdict.met else f"{verdict.where}: {measured_text(verdict)}")
        for verdict in run.thresholds
    ]
    invalid, failed = not run.check.valid, sum(bool(why) for group, _, why in cases if group != "validity")
    suite = ET.Element(
        "testsuite",
        name=_clean(f"nearshelf load {run.scenario}"),
        tests=str(len(cases)),
        failures=str(failed),
        errors=str(int(invalid)),
        time=f"{run.duration_s:.3f}",
        timestamp=run.started_at.removesuffix("Z"),
    )
    for group, name, why in cases:
        case = ET.SubElement(
            suite, "testcase", classname=_clean(f"{run.scenario}.{group}"), name=_clean(name), time="0"
        )
        if why:
            kind = "error" if group == "validity" else "failure"
            told = ET.SubElement(case, kind, message=_clean(why.partition("\n")[0]), type=group)
            told.text = _clean(why)
    ET.indent(suite)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(suite, encoding="unicode") + "\n"


def _clean(text: str) -> str:
    return _NO_XML.sub("\ufffd", text)
