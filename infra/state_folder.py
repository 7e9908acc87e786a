"""Where the state of a local shop is, for whoever does not say."""

from __future__ import annotations

import os
from pathlib import Path


def default_state() -> Path:
    """$NEARSHELF_STATE, else where the state is for whoever says nothing."""
    given = os.environ.get("NEARSHELF_STATE")
    return Path(given) if given else usual_state()


def usual_state() -> Path:
    """`.nearshelf` in this checkout; installed without one, in the current folder."""
    root = Path(__file__).parents[1]
    return (root if (root / "pyproject.toml").exists() else Path.cwd()) / ".nearshelf"
