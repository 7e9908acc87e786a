"""What Linux tells of processes: seen by ourselves, whatever the shop's supervisor says of them."""

from __future__ import annotations

import os
from pathlib import Path

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_GONE, _STOPPED = frozenset("ZXx"), frozenset("T")


def _state(pid: int) -> str:
    """One letter (proc(5)); empty where there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return ""


def is_gone(pid: int) -> bool:
    """Whether a process has ended, reaped or not."""
    state = _state(pid)
    return not state or state in _GONE


def is_stopped(pid: int) -> bool:
    """Whether a signal has stopped a process in its tracks."""
    return _state(pid) in _STOPPED


def memory_bytes(pid: int) -> int:
    """What a process has resident. Raises OSError where there is no such process, or it is not ours to look at."""
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * _PAGE_BYTES


def open_files(pid: int) -> int:
    """How many files and sockets a process has open. Raises OSError as `memory_bytes` does."""
    return len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208 - names are all that is wanted
