"""A change is watched until it is live, and told: as it happens on a terminal, else once at the end."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Final

import typer

from infra.staff_origin import EXIT_FAILED, EXIT_NOT_LIVE, EXIT_NOT_REPLICATED, Origin, Refused

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

POLL_S: Final = 0.5
"""How long one question for the state of a change is held by the origin, in seconds; and the pause after one that
failed."""
LEAST_S: Final = 1.0
"""An origin has so long for an answer, even where nothing is left of the time."""


def finish(
    origin: Origin, changed: Mapping[str, Any], saved: str, *, wait: bool, timeout: float, as_json: bool
) -> None:
    """Tells what was saved, watches it if that was asked for, and ends with the exit code that says how it went."""
    position = changed["position"]
    if not wait:
        if as_json:
            typer.echo(json.dumps({"changed": changed}, indent=2, ensure_ascii=False))
        else:
            typer.echo(f"{saved}; saved at {position}, {origin.url}/console/changes/{position} shows how far it is")
        return
    if not as_json:
        typer.echo(f"{saved}; saved at {position}")
    report = _watch(origin, position, timeout, quiet=as_json)
    verdict, code = _verdict(report, timeout)
    if as_json:
        told = None if isinstance(report, Refused) else report
        document = {"changed": changed, "report": told, "verdict": verdict, "exit_code": code}
        typer.echo(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        typer.echo(verdict)
    if code:
        raise typer.Exit(code)


def _watch(origin: Origin, position: str, timeout: float, *, quiet: bool) -> dict[str, Any] | Refused:
    """Asks until the change is live or `timeout` seconds are over; shows each answer on a terminal, else the last.

    An origin that cannot tell is asked again: the change is saved, and a database that fails over is back in seconds.
    Returns the last answer, or why there was none.
    """
    deadline = time.monotonic() + timeout
    console = _console()
    display = nullcontext() if quiet or not console.is_terminal else _live(console)
    with display as live:
        while True:
            left_s = deadline - time.monotonic()
            wait_s = max(0.0, min(POLL_S, left_s))
            report: dict[str, Any] | Refused
            path = f"/changes/{position}?wait_s={wait_s:.3f}&read_back=yes"
            try:
                report = origin.ask("GET", path, wait_s=wait_s, within_s=max(LEAST_S, left_s))
            except Refused as refused:
                report = refused
                if refused.code != EXIT_FAILED:
                    break
                # It may have failed by silence, which took what was left.
                time.sleep(max(0.0, min(POLL_S, deadline - time.monotonic())))
            else:
                if live is not None:
                    live.update(_report_tables(report))
                if report["final"]:
                    break
            if time.monotonic() >= deadline:
                break
    if not quiet and not console.is_terminal and not isinstance(report, Refused):
        for line in _report_lines(report):
            typer.echo(line)
    return report


def _verdict(report: Mapping[str, Any] | Refused, timeout: float) -> tuple[str, int]:
    """The last line, and the exit code."""
    if isinstance(report, Refused):
        return f"saved, but not seen live: {report}", EXIT_NOT_LIVE
    workers = report["workers"]
    done = [worker for worker in workers if worker["outcome"] != "waiting"]
    count = f"{len(done)} of {len(workers)} workers"
    wrong = [read for read in report["read_back"] if not read["as_expected"]]
    if report["state"] == "live":
        late = [worker for worker in done if worker["outcome"] == "lease ran out"]
        line = f"live in {report['elapsed_ms']:.0f} ms: {count}"
        if late:
            line += f", of which the lease of {_names(late)} was waited out"
        if wrong:
            line += f"; not read back as expected from {', '.join(read['edge'] for read in wrong)}"
        return line, 0
    if report["state"] == "shown":
        missing = [standby["name"] for standby in report["standbys"] if not standby["flushed"]]
        why = f"waiting for {', '.join(missing)}" if missing else "no standby is connected"
        return f"shown everywhere, not yet replicated: {count}, {why}", EXIT_NOT_REPLICATED
    if report["state"] == "lost":
        return f"{report['verdict']}; make it again", EXIT_NOT_LIVE
    waiting = [worker for worker in workers if worker["outcome"] == "waiting"]
    return f"not live after {timeout:g} s: {count}, waiting for {_names(waiting)}", EXIT_NOT_LIVE


def _names(workers: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(f"{worker['edge']} {worker['worker'][:6]}" for worker in workers) or "the edges' first reports"


_OUTCOMES: Final = {"acknowledged": "applied", "left": "stopped"}
"""What people are told instead of the report's own words."""
_WORKER_HEAD: Final = ("edge", "worker", "outcome", "ms")
_STANDBY_HEAD: Final = ("standby", "flushed")
_READ_HEAD: Final = ("read back from", "price", "ms", "Cache-Status")


def _worker_rows(report: Mapping[str, Any]) -> list[tuple[str, ...]]:
    return [
        (worker["edge"], worker["worker"][:6], _OUTCOMES.get(worker["outcome"], worker["outcome"]), _ms(worker["ms"]))
        for worker in report["workers"]
    ]


def _standby_rows(report: Mapping[str, Any]) -> list[tuple[str, ...]]:
    return [(standby["name"], "yes" if standby["flushed"] else "not yet") for standby in report["standbys"]]


def _read_rows(report: Mapping[str, Any]) -> list[tuple[str, ...]]:
    return [
        (
            read["edge"],
            _shown(read),
            _ms(read["ms"]),
            read["cache_status"] or "",
        )
        for read in report["read_back"]
    ]


def _shown(read: Mapping[str, Any]) -> str:
    if read["amount"] is None:
        return str(read["error"] or f"answered {read['status']}")
    return f"{read['amount']} {read['currency']}" + ("" if read["as_expected"] else " (unexpected)")


def _report_lines(report: Mapping[str, Any]) -> list[str]:
    lines: list[str] = []
    for head, rows in (
        (_WORKER_HEAD, _worker_rows(report)),
        (_STANDBY_HEAD, _standby_rows(report)),
        (_READ_HEAD, _read_rows(report)),
    ):
        if rows:
            lines.extend(_plain(head, rows))
    return lines


def _report_tables(report: Mapping[str, Any]) -> RenderableType:
    from rich.console import Group

    tables = [
        _table(head, rows)
        for head, rows in (
            (_WORKER_HEAD, _worker_rows(report)),
            (_STANDBY_HEAD, _standby_rows(report)),
            (_READ_HEAD, _read_rows(report)),
        )
        if rows
    ]
    return Group(*tables)


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}"


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False)


def _live(console: Console) -> AbstractContextManager[Any]:
    from rich.live import Live

    return Live(console=console, refresh_per_second=20)


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    console = _console()
    if console.is_terminal:
        console.print(_table(head, rows))
    else:
        for line in _plain(head, rows):
            typer.echo(line)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for name in head:
        table.add_column(name, justify="right" if name in {"ms", "version"} else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def _plain(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns of text, two blanks apart: for pipes and files."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in (head, *rows)
    ]
