"""Single rows of the purge log, for whoever shows them to people."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from cache_policies.positions import Position, PurgeEntry, PurgeKind

_AT = text(
    "SELECT epoch, cv, id::text AS id, kind, tags, fork_cv, cause, actor, at FROM events.purge_log"
    " WHERE epoch = :epoch AND cv = :cv"
)
_BY_ID = text("SELECT epoch, cv, id::text AS id FROM events.purge_log WHERE id::text = ANY(CAST(:ids AS text[]))")


@dataclass(frozen=True, slots=True)
class LoggedPurge:
    """A row of the purge log with who and why, which edges are not told."""

    entry: PurgeEntry
    cause: str
    actor: str
    at: datetime


async def entry_at(connection: AsyncConnection, position: Position) -> LoggedPurge | None:
    """The row at `position`; None where there is none, or none any more (the log is trimmed)."""
    row = (await connection.execute(_AT, {"epoch": position.epoch, "cv": position.cv})).one_or_none()
    if row is None:
        return None
    entry = PurgeEntry(Position(row.epoch, row.cv), row.id, PurgeKind(row.kind), tuple(row.tags), row.fork_cv)
    return LoggedPurge(entry, row.cause, row.actor, row.at)


async def positions_of(connection: AsyncConnection, ids: Iterable[str]) -> dict[str, Position]:
    """The positions of the rows with these ids, without those that are trimmed."""
    rows = await connection.execute(_BY_ID, {"ids": list(ids)})
    return {row.id: Position(row.epoch, row.cv) for row in rows}
