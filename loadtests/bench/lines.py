"""The lines of the table of documents.py: what a document asks for, what was measured, what it took."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from loadtests.bench.measuring import Verdict


@dataclass(frozen=True, slots=True)
class Options:
    """How long and how large."""

    seconds: float
    """Length of each run that counts."""
    products: int
    """In the shops that are started."""
    tries: int
    """How often a run is repeated whose generator fell behind."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table."""

    asks: str
    """What the document names: its figure, in words."""
    measured: str
    cores: str
    """Processor time of the servers, in cores."""
    verdicts: tuple[Verdict, ...] = ()
    doubts: tuple[str, ...] = ()
    """Why the figures cannot be believed, each in a sentence: the generator fell behind, say."""

    @property
    def met(self) -> bool:
        """Every figure, and they can be believed."""
        return not self.doubts and all(verdict.met for verdict in self.verdicts)


def table(lines: Sequence[Line]) -> str:
    """The Markdown table; a line without a figure to judge has a dash for its verdict."""
    rows = ["| the documents ask for | measured | cores | |", "|---|---|---|---|"]
    for line in lines:
        said = "**doubtful**" if line.doubts else "met" if line.met else "**NOT MET**"
        rows.append(f"| {line.asks} | {line.measured} | {line.cores} | {said if line.verdicts else '-'} |")
    return "\n".join(rows)


def judged(lines: Sequence[Line]) -> str:
    """Every verdict, a line each, and every doubt."""
    found = [f"- {verdict}" for line in lines for verdict in line.verdicts]
    doubts = dict.fromkeys(doubt for line in lines for doubt in line.doubts)
    return "\n".join([*found, *(f"- **DOUBTFUL**: {doubt}" for doubt in doubts)])
