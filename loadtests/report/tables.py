"""What was counted as CSV: a line for each label, and a line for each second and status. Durations in microseconds."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

from loadtests.recorder.histogram import Histogram
from loadtests.recorder.run import Run

SHARES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p999": 0.999}
_TIMES = (*SHARES, "max", "mean")

CELLS = (
    "phase",
    "counts",
    "status",
    "route",
    "edge",
    "market",
    "requests",
    "body_bytes",
    *(f"{kind}_{name}_us" for kind in ("corrected", "uncorrected") for name in _TIMES),
    "codes",
)
SECONDS = (
    "second",
    "intended",
    "sent",
    "done",
    "status",
    "edge",
    "requests",
    "body_bytes",
    *(f"status_{name}_us" for name in _TIMES),
)


def write_cells(run: Run, path: Path) -> Path:
    """A line for each phase, status, route, edge and market. Durations that were not counted are empty."""
    counting = {phase.name for phase in run.phases if phase.counts}
    return _write(
        path,
        CELLS,
        (
            [
                cell.label.phase,
                "yes" if cell.label.phase in counting else "no",
                cell.label.status,
                cell.label.route,
                cell.label.edge,
                cell.label.market,
                cell.requests,
                cell.body_bytes,
                *_times(cell.corrected),
                *_times(cell.uncorrected),
                " ".join(f"{code}:{times}" for code, times in sorted(cell.codes.items())),
            ]
            for cell in run.cells
        ),
    )


def write_seconds(run: Run, path: Path) -> Path:
    """A line for each second, status and edge; what is told of a second, or of a status in it, is on all its lines."""
    lines: list[Sequence[object]] = []
    for second in run.seconds:
        whole = [second.at_s, second.intended, second.sent, second.done]
        if not second.requests:
            lines.append([*whole, "", "", 0, 0, *_times(Histogram())])
        for status, per_edge in sorted(second.requests.items()):
            times = _times(second.latency.get(status, Histogram()))
            sizes = second.body_bytes.get(status, {})
            lines += [
                [*whole, status, edge, requests, sizes.get(edge, 0), *times]
                for edge, requests in sorted(per_edge.items())
            ]
    return _write(path, SECONDS, lines)


def _times(found: Histogram) -> list[object]:
    if not found.count:
        return [""] * len(_TIMES)
    return [
        *(round(found.percentile_us(share), 1) for share in SHARES.values()),
        found.highest_us,
        round(found.mean_us, 1),
    ]


def _write(path: Path, head: Sequence[str], lines: Iterable[Sequence[object]]) -> Path:
    draft = path.with_name(f".{path.name}.draft")
    with draft.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(head)
        writer.writerows([_cell(value) for value in line] for line in lines)
    draft.replace(path)
    return path


def _cell(value: object) -> object:
    """A spreadsheet takes text that begins with one of these for a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in {"=", "+", "-", "@", "\t", "\r"} else value
