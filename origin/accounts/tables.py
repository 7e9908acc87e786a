"""The tables of schema `accounts`; nobody else touches them. The audit list is in `audit.py`."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from sqlalchemy import (
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    case,
    delete,
    func,
    select,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from origin.accounts.model import Role, Session, Staff

metadata = MetaData(schema="accounts")

staff = Table(
    "staff",
    metadata,
    Column("email", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("password_hash", Text, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    CheckConstraint("email = lower(email)"),
)

session = Table(
    "session",
    metadata,
    Column("token", LargeBinary, primary_key=True),
    Column("staff", Text, ForeignKey(staff.c.email, ondelete="CASCADE"), nullable=False),
    Column("csrf", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("expires_at", DateTime(timezone=True), nullable=False),
)
"""`token` is the SHA-256 of what the browser or the program holds: a copy of this table signs nobody in."""

login_attempt = Table(
    "login_attempt",
    metadata,
    Column("bucket", Text, primary_key=True),
    Column("attempts", Integer, nullable=False),
    Column("window_start", DateTime(timezone=True), nullable=False, server_default=func.now()),
)
"""Attempts to sign in per account and per address in the current window."""


async def staff_of(connection: AsyncConnection, email: str) -> tuple[Staff, str] | None:
    """The member of staff with this e-mail, and the hash of the password."""
    row = (await connection.execute(select(staff).where(staff.c.email == email))).one_or_none()
    return None if row is None else (Staff(row.email, row.name, Role(row.role)), row.password_hash)


async def write_staff(connection: AsyncConnection, member: Staff, password_hash: str) -> None:
    """Adds a member of staff, or replaces name, role and password of the one with this e-mail."""
    row = insert(staff).values(
        email=member.email, name=member.name, role=member.role.value, password_hash=password_hash
    )
    await connection.execute(
        row.on_conflict_do_update(
            index_elements=[staff.c.email],
            set_={
                "name": row.excluded.name,
                "role": row.excluded.role,
                "password_hash": row.excluded.password_hash,
            },
        )
    )


async def end_sessions(connection: AsyncConnection, email: str) -> None:
    """Signs a member of staff out everywhere."""
    await connection.execute(delete(session).where(session.c.staff == email))


async def add_session(
    connection: AsyncConnection, token: bytes, email: str, csrf: str, kind: Literal["browser", "token"], lifetime_s: int
) -> datetime:
    """Keeps a session; gives the moment at which it ends. Sessions that have ended are cleared away."""
    await connection.execute(delete(session).where(session.c.expires_at < func.now()))
    expires_at: datetime = (
        await connection.execute(
            insert(session)
            .values(
                token=token,
                staff=email,
                csrf=csrf,
                kind=kind,
                expires_at=func.now() + func.make_interval(0, 0, 0, 0, 0, 0, lifetime_s),
            )
            .returning(session.c.expires_at)
        )
    ).scalar_one()
    return expires_at


async def session_of(connection: AsyncConnection, token: bytes) -> Session | None:
    """The session with this digest, unless it has ended."""
    row = (
        await connection.execute(
            select(session.c.csrf, session.c.kind, session.c.expires_at, staff.c.email, staff.c.name, staff.c.role)
            .join_from(session, staff)
            .where(session.c.token == token, session.c.expires_at > func.now())
        )
    ).one_or_none()
    if row is None:
        return None
    return Session(Staff(row.email, row.name, Role(row.role)), row.csrf, row.kind, row.expires_at)


async def drop_session(connection: AsyncConnection, token: bytes) -> None:
    await connection.execute(delete(session).where(session.c.token == token))


async def count_attempt(connection: AsyncConnection, bucket: str, window_s: int) -> tuple[int, int]:
    """Counts one attempt in `bucket`; how many there were in the current window, and the seconds until it ends.

    Windows that have ended are cleared away, so the table holds no more than one window's attempts.
    """
    window = func.make_interval(0, 0, 0, 0, 0, 0, window_s)
    over = login_attempt.c.window_start < func.now() - window
    row = (
        await connection.execute(
            insert(login_attempt)
            .values(bucket=bucket, attempts=1)
            .on_conflict_do_update(
                index_elements=[login_attempt.c.bucket],
                set_={
                    "attempts": case((over, 1), else_=login_attempt.c.attempts + 1),
                    "window_start": case((over, func.now()), else_=login_attempt.c.window_start),
                },
            )
            .returning(
                login_attempt.c.attempts,
                func.ceil(func.extract("epoch", login_attempt.c.window_start + window - func.now())).label("left_s"),
            )
        )
    ).one()
    # After our own row is held, and past the rows that others hold: clearing up never waits, so it cannot deadlock.
    ended = select(login_attempt.c.bucket).where(over).with_for_update(skip_locked=True)
    await connection.execute(delete(login_attempt).where(login_attempt.c.bucket.in_(ended)))
    return row.attempts, max(1, int(row.left_s))


async def forget_attempts(connection: AsyncConnection, bucket: str) -> None:
    await connection.execute(delete(login_attempt).where(login_attempt.c.bucket == bucket))
