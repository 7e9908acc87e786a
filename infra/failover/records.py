"""Who is the primary, as the next run is to know it: a file in the state folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from infra.failover.sql import in_words
from infra.failover.steps import Record
from infra.local.errors import LocalError
from infra.local.state import write_atomically

OURS = "failover.json"
"""Of the servers that we run."""
OF_OTHERS = "failover-others.json"
"""Of those that others run."""


def recorded(path: Path) -> Record | None:
    """What an earlier run recorded; None: nothing. Raises LocalError when that cannot be read."""
    try:
        known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        primary, promotable, epoch = known["primary"], known["promotable"], known["epoch"]
        if not (isinstance(primary, str) and isinstance(promotable, str | None) and type(epoch) is int):
            raise ValueError('it is to read like {"primary": "pg-1", "promotable": null, "epoch": 0}')
        return Record(primary, promotable, epoch)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise LocalError(
            f"{path} says who the primary is, and cannot be read ({in_words(exc)}); mend it, as in docs/failover.md"
        ) from exc


def record(path: Path, step: Record) -> None:
    """For the next run, should this one, or the machine, end the next moment. Raises OSError."""
    known = {"primary": step.primary, "promotable": step.promotable, "epoch": step.epoch}
    write_atomically(path, json.dumps(known) + "\n", lasting=True)
