"""What came of each interleaving at each cache, and the table of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum


class Verdict(Enum):
    HOLDS = "holds"
    """Nobody who asked after the change was reported done, or later still where it never was, was shown what was before
    it as current; and what the row says came about."""
    FAILS = "**fails**"
    """Somebody was, or what the row says did not come about."""
    CANNOT = "cannot"
    """It is never reported done, and what was before is shown meanwhile: there is no way to say it to this cache."""
    NOT_PLAYED = "not played"
    """What leads up to it did not come about, which says nothing of the cache."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One cell."""

    verdict: Verdict
    words: str
    """What was seen."""

    def __str__(self) -> str:
        return f"{self.verdict.value}: {self.words}"


@dataclass(frozen=True, slots=True)
class Column:
    """One cache and what it did, by the interleaving's id."""

    name: str
    about: str
    findings: Mapping[str, Finding]


def table(rows: Sequence[tuple[str, str]], columns: Sequence[Column]) -> str:
    """The Markdown table. `rows`: id and title of each interleaving, in their order."""
    lines = [f"| | {' | '.join(column.name for column in columns)} |", "|---" * (len(columns) + 1) + "|"]
    for row, title in rows:
        cells = [str(column.findings[row]) for column in columns]
        lines.append(f"| **{row}** {title} | {' | '.join(cells)} |")
    counts = [
        ", ".join(
            f"{count} {verdict.value}"
            for verdict in Verdict
            if (count := sum(finding.verdict is verdict for finding in column.findings.values()))
        )
        for column in columns
    ]
    lines.append(f"| {len(rows)} in all | {' | '.join(counts)} |")
    return "\n".join(lines)


def notes(columns: Sequence[Column]) -> str:
    """How each cache was set up, and what cannot be said to it."""
    return "\n".join(f"- **{column.name}**: {column.about}." for column in columns)
