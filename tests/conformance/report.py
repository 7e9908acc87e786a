"""The figures in words: for the terminal, and for docs/conformance.md."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tests.conformance.chapters import CHAPTERS
from tests.conformance.known import KNOWN
from tests.conformance.player import Outcome, Verdict
from tests.conformance.script import Kind
from tests.conformance.targets import Target

COUNTED = (Kind.REQUIRED, Kind.OPTIONAL)


def summary(target: Target, verdicts: list[Verdict], took_s: float, *, verbose: bool = True) -> str:
    """What came of the cases, and each that was not passed with its reason."""
    lines = []
    if verbose:
        lines = [
            f"{verdict.outcome:11} {verdict.case.kind:11} {verdict.case.id}: {verdict.case.says}; {verdict.why}"
            for verdict in verdicts
            if verdict.outcome in (Outcome.FAILED, Outcome.UNTESTED)
        ]
    twice = [verdict.case.id for verdict in verdicts if verdict.outcome is Outcome.PASSED and verdict.tries > 1]
    if twice:
        lines.append(f"passed only when played again: {', '.join(twice)}")
    counts = ", ".join(f"{kind} {_of(verdicts, kind)}" for kind in Kind)
    return "\n".join([*lines, f"{target.name} {target.version()}: {counts}; {took_s:.0f} s"])


def _of(verdicts: list[Verdict], kind: Kind) -> str:
    """Passed of those that this cache is held to: `12 of 14`, and how many say nothing of it."""
    of_kind = [verdict for verdict in verdicts if verdict.case.kind is kind]
    outcomes = Counter(verdict.outcome for verdict in of_kind)
    held_to = len(of_kind) - outcomes[Outcome.NOT_OFFERED] - outcomes[Outcome.UNTESTED]
    untested = f" ({outcomes[Outcome.UNTESTED]} untested)" if outcomes[Outcome.UNTESTED] else ""
    return f"{outcomes[Outcome.PASSED]} of {held_to}{untested}" if held_to or untested else "–"


def document(path: Path, targets: list[Target], results: dict[str, list[Verdict]]) -> None:
    """Put the tables between the marks of `path`. Raises ValueError when it has none."""
    text = path.read_text()
    for mark, table in (("table", _table(targets, results)), ("failures", _failures(results["nearshelf"]))):
        before, begin, rest = text.partition(f"<!-- {mark} -->\n")
        _, end, after = rest.partition(f"<!-- /{mark} -->")
        if not (begin and end):
            raise ValueError(f"{path} has no <!-- {mark} --> ... <!-- /{mark} --> to write between")
        text = f"{before}{begin}\n{table}\n\n{end}{after}"
    path.write_text(text)


def _table(targets: list[Target], results: dict[str, list[Verdict]]) -> str:
    names = [f"{target.name} {target.version()}".strip() for target in targets]
    lines = [
        "| chapter | cases |" + "".join(f" {name}: required | optional |" for name in names),
        "|---|---|" + "---|---|" * len(names),
    ]
    for chapter, cases in [*CHAPTERS.items(), ("**all**", tuple(case for each in CHAPTERS.values() for case in each))]:
        ids = {case.id for case in cases}
        row = f"| {chapter} | {len(cases)} |"
        for target in targets:
            verdicts = [verdict for verdict in results[target.name] if verdict.case.id in ids]
            row += "".join(f" {_of(verdicts, kind)} |" for kind in COUNTED)
        lines.append(row)
    return "\n".join(lines)


def _failures(verdicts: list[Verdict]) -> str:
    """What our gateway does not pass, with the reasons written down for it."""
    lines = ["| case | | what is tested | why it is not passed |", "|---|---|---|---|"]
    for verdict in verdicts:
        if verdict.outcome is not Outcome.PASSED and verdict.outcome is not Outcome.NOT_OFFERED:
            why = KNOWN.get(verdict.case.id, verdict.why)
            lines.append(f"| `{verdict.case.id}` | {verdict.case.kind} | {verdict.case.says} | {why} |")
    return "\n".join(lines)
