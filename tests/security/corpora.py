"""Names that web software reads: a list of our own, and the shared word lists where they lie beside the project."""

from __future__ import annotations

from pathlib import Path

OWN = Path(__file__).parent / "lists"
SHARED = Path(__file__).parents[3] / "shared" / "data" / "corpora"
"""Not part of the project; rows that need it say so when it is not there."""


def own(name: str) -> list[str]:
    return (OWN / f"{name}.txt").read_text().split()


def shared(name: str) -> list[str] | None:
    """None where the word lists are absent."""
    path = SHARED / f"{name}.txt"
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line] if path.is_file() else None
