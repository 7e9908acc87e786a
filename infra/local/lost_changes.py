"""What only an old primary had, written down before its data is rewound and nobody can ever read it again.

Changes that were never acknowledged, or that somebody gave up with --accept-loss. The rows of the purge log beyond the
point where the histories part, and those of the audit list that the new primary does not have: who changed what, from
what to what. One JSON object a line, with the name of its table.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra.local.state import write_atomically

if TYPE_CHECKING:
    import asyncpg

_FORK = """
SELECT epoch, fork_cv FROM events.purge_log WHERE kind = 'epoch' AND epoch > $1 ORDER BY epoch LIMIT 1
"""
_LOST_PURGES = "SELECT to_jsonb(log)::text FROM events.purge_log AS log WHERE cv > $1 ORDER BY epoch, cv"
_LATEST_AUDIT = """
SELECT id, to_jsonb(audit)::text AS row FROM accounts.audit WHERE id > $1 ORDER BY id
"""
_AUDIT_SEEN = "SELECT to_jsonb(audit)::text FROM accounts.audit WHERE id > $1"
AUDIT_ROWS = 10_000
"""How many of the latest rows of the audit list are compared."""


async def lost_rows(old: asyncpg.Connection[Any], new: asyncpg.Connection[Any]) -> tuple[str, list[dict[str, Any]]]:
    """Where the histories part, as `EPOCH.CV` of the first position of the new one, and what only the old one has.

    Raises what asyncpg raises.
    """
    fork = await new.fetchrow(_FORK, await old.fetchval("SELECT epoch FROM events.clock"))
    if fork is None:
        return "", []
    purges = [row[0] for row in await old.fetch(_LOST_PURGES, fork["fork_cv"])]
    since = max(0, await old.fetchval("SELECT coalesce(max(id), 0) FROM accounts.audit") - AUDIT_ROWS)
    known = {row[0] for row in await new.fetch(_AUDIT_SEEN, since)}
    audit = [row["row"] for row in await old.fetch(_LATEST_AUDIT, since) if row["row"] not in known]
    rows = [{"table": "events.purge_log", **json.loads(row)} for row in purges]
    rows += [{"table": "accounts.audit", **json.loads(row)} for row in audit]
    return f"{fork['epoch']}.{fork['fork_cv'] + 1}", rows


def write_down(rows: list[dict[str, Any]], folder: Path, name: str) -> Path:
    """The file that they are in now; the same name again: the same file. Raises OSError."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.jsonl"
    write_atomically(path, "".join(json.dumps(row) + "\n" for row in rows), lasting=True)
    return path
