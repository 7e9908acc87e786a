"""What can go wrong while a local shop starts or runs, in words for whoever started it."""

from __future__ import annotations

from infra.errors import CommandError


class LocalError(CommandError):
    """The local shop cannot do this."""
