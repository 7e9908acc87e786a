"""A worker's wall clock, stepped on purpose: what `time.time()` says, and nothing else that a process can ask.

A worker that a nursery forked listens for a signal; then it reads from a file by how many seconds its clock is wrong.
Until then nothing is in the way of its clock. The monotonic clocks go on, as they do when a machine's clock is set.
"""

from __future__ import annotations

import contextlib
import signal
import time
from pathlib import Path

from infra.local.state import write_atomically

_right = time.time


def file_beside(log: Path) -> Path:
    """Where a worker that prints to `log` finds by how much its clock is wrong."""
    return log.with_suffix(".clock")


def is_there() -> bool:
    """Whether this system has a signal to spare."""
    return hasattr(signal, "SIGRTMIN")


def step_signal() -> int:
    return int(signal.SIGRTMIN) + 7


def ignore() -> None:
    """In a nursery: a worker that was forked a moment ago is not ended by being told before it can listen."""
    if is_there():
        signal.signal(step_signal(), signal.SIG_IGN)


def obey(file: Path) -> None:
    """In a worker: be as wrong as the file says, now and whenever told to look again."""
    if is_there():
        signal.signal(step_signal(), lambda *_: _take(file))
        _take(file)


def _take(file: Path) -> None:
    off_s = 0.0
    with contextlib.suppress(OSError, ValueError):
        off_s = float(file.read_text(encoding="ascii"))
    vars(time)["time"] = (lambda: _right() + off_s) if off_s else _right


def write(file: Path, off_s: float) -> None:
    """In the supervisor: what the worker is to read. Raises OSError."""
    if off_s:
        write_atomically(file, repr(off_s))
    else:
        file.unlink(missing_ok=True)
