"""The one error that a command shows to people as it is."""

from __future__ import annotations


class CommandError(Exception):
    """A command cannot be carried out. The text says what, where, why and what to do next."""
