"""A full disk, on purpose: a file that takes whatever is left where a shop's databases live.

Only where that is a small file system of its own (docs/faults.md).
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from infra.local.errors import LocalError

NAME = "filler"
MOST_BYTES = 4 << 30
"""A larger file system is not ours to fill."""
_PIECE_BYTES = 16 << 20


def free_bytes(folder: Path) -> int:
    """How much room there is on the disk that `folder` is on."""
    about = os.statvfs(folder)
    return about.f_bavail * about.f_frsize


class Disk:
    """The disk that `folder` is on."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / NAME

    @property
    def is_full(self) -> bool:
        """Filled by us."""
        return self._file.exists()

    def why_not(self) -> str | None:
        """Why it may not be filled; None where it may."""
        folder = self._file.parent
        about = os.statvfs(folder)
        if folder.stat().st_dev == Path("/").stat().st_dev:
            return "the shop's databases are on the machine's own disk; give them a small one, as in docs/faults.md"
        if about.f_blocks * about.f_frsize > MOST_BYTES:
            return f"the shop's disk has more than {MOST_BYTES >> 30} GiB: too much to be filled on purpose"
        return None

    def check(self) -> None:
        """Raises LocalError where it is not for us to fill."""
        refused = self.why_not()
        if refused is not None:
            raise LocalError(f"fill-disk: {refused}")

    def fill(self) -> None:
        """Leave nothing. Raises LocalError where that is not for us to do, or does not work."""
        self.check()
        try:
            with self._file.open("ab") as file:
                piece = _PIECE_BYTES
                while piece:
                    try:
                        os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, piece)
                    except OSError as exc:
                        if exc.errno not in {errno.ENOSPC, errno.EDQUOT}:
                            raise
                        piece = piece // 2 if piece > 4096 else 0
        except OSError as exc:
            raise LocalError(f"fill-disk: {self._file}: {exc.strerror}") from exc

    def empty(self) -> None:
        """Give back what was taken."""
        self._file.unlink(missing_ok=True)
