"""The one error that a command shows to people as it is, and the one way to show it."""

from __future__ import annotations

import sys


class CommandError(Exception):
    """A command cannot be carried out. The text says what, where, why and what to do next."""


def complain(text: str) -> None:
    """Say on stderr what went wrong. What a terminal would obey is spelled out: names of files are somebody else's."""
    shown = "".join(each if each == "\n" or each.isprintable() else ascii(each)[1:-1] for each in text)
    print(f"nearshelf: {shown}", file=sys.stderr, flush=True)
