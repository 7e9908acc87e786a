"""What an import did, and who is told how it goes: plain lines, bars on a terminal, or nobody."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from origin.catalog.import_files import Fault


@dataclass(slots=True)
class Outcome:
    """What an import did. With faults and without `keep_valid` nothing was written: `committed` is False."""

    products: int = 0
    """Good product rows read."""
    categories: int = 0
    added: int = 0
    updated: int = 0
    unchanged: int = 0
    rejected: int = 0
    faults: int = 0
    warnings: int = 0
    committed: bool = False
    position: str = ""
    """Of the purge-log entry; empty when nothing had changed."""
    seconds: float = 0.0


class Reporter(Protocol):
    """Who is told how an import goes."""

    def fault(self, fault: Fault) -> None: ...

    def warning(self, fault: Fault) -> None: ...

    def read(self, file: str, rows: int, done_bytes: int, total_bytes: int) -> None: ...

    def finished(self, file: str, rows: int) -> None: ...

    def written(self, rows: int, of: int) -> None: ...


class Plain:
    """Says how an import goes in plain lines on standard error: for pipes, logs and tests."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._written = 0

    def fault(self, fault: Fault) -> None:
        self._write(str(fault))

    def warning(self, fault: Fault) -> None:
        self._write(f"{fault} (warning)")

    def read(self, file: str, rows: int, done_bytes: int, total_bytes: int) -> None: ...

    def finished(self, file: str, rows: int) -> None:
        self._write(f"read {file}: {counted(rows, 'row')}")

    def written(self, rows: int, of: int) -> None:
        if rows != self._written and (rows >= of or rows - self._written >= 10_000):
            self._written = rows
            self._write(f"checked and wrote {rows:,} of {of:,} products")


class Bars:
    """The same with a bar for each step, on a terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.progress = Progress(
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[told]}"), TimeElapsedColumn(),
            console=console,
        )  # fmt: skip
        self._tasks: dict[str, Any] = {}

    def fault(self, fault: Fault) -> None:
        self._console.print(str(fault), style="red", markup=False, highlight=False, soft_wrap=True)

    def warning(self, fault: Fault) -> None:
        self._console.print(f"{fault} (warning)", style="yellow", markup=False, highlight=False, soft_wrap=True)

    def read(self, file: str, rows: int, done_bytes: int, total_bytes: int) -> None:
        self._show(f"reading {Path(file).name}", done_bytes, total_bytes, counted(rows, "row"))

    def finished(self, file: str, rows: int) -> None:
        self._show(f"reading {Path(file).name}", 1, 1, counted(rows, "row"))

    def written(self, rows: int, of: int) -> None:
        self._show("writing products", rows, of, f"{rows:,} of {of:,}")

    def _show(self, step: str, done: int, of: int, told: str) -> None:
        if step not in self._tasks:
            self._tasks[step] = self.progress.add_task(step, total=max(of, 1), told=told)
        self.progress.update(self._tasks[step], total=max(of, 1), completed=done if of else 1, told=told)


class Silent:
    """Shows no progress. Rows that we made ourselves have no faults: one is a broken promise."""

    def fault(self, fault: Fault) -> None:
        raise AssertionError(f"the demo catalog is at fault: {fault}")

    def warning(self, fault: Fault) -> None:
        raise AssertionError(f"the demo catalog is at fault: {fault}")

    def read(self, file: str, rows: int, done_bytes: int, total_bytes: int) -> None: ...

    def finished(self, file: str, rows: int) -> None: ...

    def written(self, rows: int, of: int) -> None: ...


def summary(outcome: Outcome, rejects: Path | None = None) -> list[str]:
    """What to say at the end."""
    faults, rows = counted(outcome.faults, "fault"), counted(outcome.rejected, "row")
    if not outcome.committed:
        return [f"{faults} in {rows}: nothing was changed. Mend them, or import the rest with --keep-valid."]
    good = f"{counted(outcome.products, 'product')} and {counted(outcome.categories, 'category')}"
    done = f"{outcome.added:,} added, {outcome.updated:,} updated, {outcome.unchanged:,} unchanged"
    lines = [f"{good} in {outcome.seconds:.1f} s: {done}."]
    if outcome.faults:
        where = f"they are in {rejects}" if rejects is not None else "name a file with --rejects to keep them"
        lines.append(f"{faults} in {rows} that were not imported; {where}.")
    if outcome.position:
        lines.append(f"Live pages follow from position {outcome.position}.")
    return lines


def counted(number: int, noun: str) -> str:
    many = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else many}"
