"""The audit list: who did what, when, why, and what it changed. Rows are added and read, never altered.

The application's database role may INSERT and SELECT only, and a trigger refuses everything else to everybody
(migration 0003).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Column, DateTime, Identity, Table, Text, func, insert, or_, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncConnection

from origin.accounts.tables import metadata

MAX_REASON_CHARACTERS = 500

audit = Table(
    "audit",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("before", JSONB(none_as_null=True)),
    Column("after", JSONB(none_as_null=True)),
    Column("reason", Text, nullable=False, server_default=""),
    Column("purge_id", Text),
)


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One thing that somebody did."""

    id: int
    at: datetime
    actor: str
    action: str
    """`price.set`, `price.remove`, `rate.set`, `stock.set`, `purge`, `staff.add`, `staff.change`, `login`, `logout`,
    `catalog.import`."""
    subject: str
    """What it was done to: `eu-eur/SKU` for a price, the tags of a purge, an e-mail."""
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    reason: str
    purge_id: str | None
    """Id of the purge-log entry written in the same transaction, if there was one."""


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which entries to show; an empty text leaves that part open."""

    actor: str = ""
    action: str = ""
    subject: str = ""
    """Part of a subject, of any case."""
    purge_id: str = ""
    """Of a purge-log entry: what was done in its transaction."""


async def write(
    connection: AsyncConnection,
    *,
    actor: str,
    action: str,
    subject: str,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
    reason: str = "",
    purge_id: str | None = None,
) -> None:
    """Adds an entry in the caller's transaction: what happened and its entry exist together, or neither does."""
    await connection.execute(
        insert(audit).values(
            actor=actor,
            action=action,
            subject=subject,
            before=before,
            after=after,
            reason=reason.strip()[:MAX_REASON_CHARACTERS],
            purge_id=purge_id,
        )
    )


async def entries(
    connection: AsyncConnection, wanted: AuditFilter = AuditFilter(), *, before_id: int | None = None, limit: int = 50
) -> list[AuditEntry]:
    """The entries that `wanted` lets through, newest first; with `before_id` the page after that entry."""
    query = select(audit).order_by(audit.c.id.desc()).limit(limit)
    if wanted.actor:
        query = query.where(audit.c.actor == wanted.actor)
    if wanted.action:
        query = query.where(or_(audit.c.action == wanted.action, audit.c.action.startswith(wanted.action + ".")))
    if wanted.subject:
        query = query.where(audit.c.subject.icontains(wanted.subject, autoescape=True))
    if wanted.purge_id:
        query = query.where(audit.c.purge_id == wanted.purge_id)
    if before_id is not None:
        query = query.where(audit.c.id < before_id)
    return [AuditEntry(**row._mapping) for row in await connection.execute(query)]


async def entries_of_purge(
    connection: AsyncConnection, purge_id: str, *, actor: str, limit: int
) -> tuple[list[AuditEntry], int]:
    """Up to `limit` of the entries written together with the purge-log entry of this id, in their order, those of
    `actor` before the others; and how many there are."""
    together = audit.c.purge_id == purge_id
    query = select(audit).where(together).order_by(audit.c.actor != actor, audit.c.id).limit(limit)
    found = [AuditEntry(**row._mapping) for row in await connection.execute(query)]
    if len(found) < limit:
        return found, len(found)
    return found, (await connection.execute(select(func.count()).select_from(audit).where(together))).scalar_one()


async def is_noted(connection: AsyncConnection, *, actor: str, action: str, subject: str) -> bool:
    """Whether `actor` has done exactly this."""
    query = select(audit.c.id).where(audit.c.actor == actor, audit.c.action == action, audit.c.subject == subject)
    return (await connection.execute(query.limit(1))).one_or_none() is not None
