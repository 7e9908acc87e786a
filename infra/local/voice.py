"""What a person in front of `nearshelf up` sees."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterable

from infra.errors import complain


class Voice:
    """Plain text unless standard output is a terminal that wants colour.

    Whoever speaks goes on when nobody can hear it: the reader has gone away, or the disk of a log is full.
    """

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self.colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
        self.started = time.monotonic()

    def line(self, text: str = "") -> None:
        if not self.quiet:
            with contextlib.suppress(OSError):
                print(text, flush=True)

    def step(self, text: str) -> None:
        self.line(f"{time.monotonic() - self.started:6.1f} s  {text}")

    def strong(self, text: str) -> str:
        return f"\x1b[1m{text}\x1b[0m" if self.colour else text

    def alarm(self, title: str, lines: Iterable[str]) -> None:
        """Something that a person must mend; red on a terminal, and said even when quiet."""
        if self.colour and sys.stderr.isatty():
            title = f"\x1b[1;37;41m {title} \x1b[0m"
        with contextlib.suppress(OSError):
            print("\n".join(("", title, *(f"  {line}" for line in lines), "")), file=sys.stderr, flush=True)

    def warn(self, text: str) -> None:
        """Something went wrong and is being dealt with; said even when quiet."""
        with contextlib.suppress(OSError):
            complain(text)
