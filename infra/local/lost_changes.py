"""What only an old primary had, written down before its data is rewound and nobody can ever read it again.

Changes that were never acknowledged, or that somebody gave up with --accept-loss. The rows of the purge log after the
last that both have, and those of the audit list that the new primary does not have: who changed what, from what to
what. One JSON object a line, with the name of its table.

Rows are told by their ids and not by their positions: a server that was given up goes on in positions of its own.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra.local.state import write_atomically

if TYPE_CHECKING:
    import asyncpg

_PURGES = "SELECT epoch, cv, id FROM events.purge_log ORDER BY epoch DESC, cv DESC"
_PURGES_SEEN = "SELECT id FROM events.purge_log"
_LOST_PURGES = """
SELECT to_jsonb(log)::text FROM events.purge_log AS log WHERE (epoch, cv) > ($1, $2) ORDER BY epoch, cv
"""
_LATEST_AUDIT = """
SELECT id, to_jsonb(audit)::text AS row FROM accounts.audit WHERE id > $1 ORDER BY id
"""
_AUDIT_SEEN = "SELECT to_jsonb(audit)::text FROM accounts.audit WHERE id > $1"
AUDIT_ROWS = 10_000
"""How many of the latest rows of the audit list are compared."""


async def lost_rows(old: asyncpg.Connection[Any], new: asyncpg.Connection[Any]) -> tuple[int, list[dict[str, Any]]]:
    """The epoch of the new one, and what only the old one has.

    Where the new one has forgotten all that the old one has there, some of what is written down may not be lost.
    Raises what asyncpg raises.
    """
    seen = {row[0] for row in await new.fetch(_PURGES_SEEN)}
    both = next(((epoch, cv) for epoch, cv, each in await old.fetch(_PURGES) if each in seen), (0, 0))
    purges = [row[0] for row in await old.fetch(_LOST_PURGES, *both)]
    since = max(0, await old.fetchval("SELECT coalesce(max(id), 0) FROM accounts.audit") - AUDIT_ROWS)
    known = {row[0] for row in await new.fetch(_AUDIT_SEEN, since)}
    audit = [row["row"] for row in await old.fetch(_LATEST_AUDIT, since) if row["row"] not in known]
    rows = [{"table": "events.purge_log", **json.loads(row)} for row in purges]
    rows += [{"table": "accounts.audit", **json.loads(row)} for row in audit]
    return await new.fetchval("SELECT epoch FROM events.clock"), rows


def write_down(rows: list[dict[str, Any]], folder: Path, name: str) -> Path:
    """The file that they are in now; the same name again: the same file. Raises OSError."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.jsonl"
    write_atomically(path, "".join(json.dumps(row) + "\n" for row in rows), lasting=True)
    return path
