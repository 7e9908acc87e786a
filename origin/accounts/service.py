"""Use cases of accounts: add staff, sign in and out, who is asking."""

from __future__ import annotations

import hashlib
import ipaddress
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from origin.accounts import audit, tables
from origin.accounts.model import (
    MAX_PASSWORD_CHARACTERS,
    Session,
    Staff,
    StaffError,
    TooManyLogins,
    WrongLogin,
    checked_email,
    checked_password,
    checked_role,
)
from origin.accounts.passwords import Passwords
from origin.db import Durability

if TYPE_CHECKING:
    from origin.db import Database
    from origin.shop import Shop

BROWSER_SESSION_S = 12 * 3600
"""A working day, in seconds; then sign in again."""
TOKEN_SESSION_S = 30 * 24 * 3600
"""A token of the command line, in seconds."""

LOGIN_WINDOW_S = 15 * 60
"""Attempts are counted over this long, in seconds."""
LOGINS_PER_ACCOUNT = 10
"""Attempts for one account in a window, whether it exists or not; a successful one starts the count again."""
LOGINS_PER_ADDRESS = 50
"""Attempts from one address (of IPv6, one /64) in a window: one office may hold many people."""


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A new session. `token` is the only copy: the database keeps a digest."""

    token: str
    session: Session


async def add_staff(shop: Shop, email: str, role: str, password: str, name: str = "") -> Staff:
    """Adds a member of staff, or gives the one with this e-mail the name, role and password given here.

    A changed member is signed out everywhere. Raises StaffError for what cannot be used.
    """
    email, checked = checked_email(email), checked_role(role)
    member = Staff(email, _checked_name(name) or email.partition("@")[0], checked)
    password_hash = await Passwords().hash(checked_password(password))
    async with shop.database.unit_of_work(actor="command line", cause="staff") as work:
        existing = await tables.staff_of(work.connection, email)
        await tables.write_staff(work.connection, member, password_hash)
        if existing is not None:
            await tables.end_sessions(work.connection, email)
        await audit.write(
            work.connection,
            actor="command line",
            action="staff.add" if existing is None else "staff.change",
            subject=email,
            before=None if existing is None else {"name": existing[0].name, "role": existing[0].role.value},
            after={"name": member.name, "role": member.role.value},
        )
    return member


async def sign_in(
    database: Database, passwords: Passwords, email: str, password: str, address: str, kind: Literal["browser", "token"]
) -> SignedIn:
    """A session for the member of staff with this e-mail and password.

    Raises TooManyLogins before the password is looked at, and WrongLogin; an unknown e-mail takes as long
    as a wrong password.
    """
    email = email.strip().lower()
    account, place = f"account {_digest_text(email)}", f"address {_network(address)}"
    async with database.unit_of_work(actor="sign-in", cause="attempt", durability=Durability.LOCAL) as work:
        # Counted before the password is looked at, so that attempts sent side by side are counted as well. An
        # address that is over its limit counts no accounts: one visitor cannot fill the table.
        attempts, left_s = await tables.count_attempt(work.connection, place, LOGIN_WINDOW_S)
        allowed = attempts <= LOGINS_PER_ADDRESS
        if allowed:
            attempts, left_s = await tables.count_attempt(work.connection, account, LOGIN_WINDOW_S)
            allowed = attempts <= LOGINS_PER_ACCOUNT
        found = await tables.staff_of(work.connection, email) if allowed else None
    if not allowed:
        raise TooManyLogins(left_s)
    member, stored = found or (None, None)
    if not await passwords.matches(stored, password[:MAX_PASSWORD_CHARACTERS]) or member is None:
        raise WrongLogin
    token, csrf = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
    async with database.unit_of_work(actor=member.email, cause="sign-in") as work:
        expires_at = await tables.add_session(
            work.connection,
            _digest(token),
            member.email,
            csrf,
            kind,
            BROWSER_SESSION_S if kind == "browser" else TOKEN_SESSION_S,
        )
        await tables.forget_attempts(work.connection, account)
        await audit.write(
            work.connection, actor=member.email, action="login", subject=member.email, after={"kind": kind}
        )
    return SignedIn(token, Session(member, csrf, kind, expires_at))


async def sign_out(database: Database, token: str, session: Session) -> None:
    """Ends the session of `token`."""
    async with database.unit_of_work(actor=session.staff.email, cause="sign-out") as work:
        await tables.drop_session(work.connection, _digest(token))
        await audit.write(
            work.connection,
            actor=session.staff.email,
            action="logout",
            subject=session.staff.email,
            after={"kind": session.kind},
        )


async def session_of(database: Database, token: str, kind: Literal["browser", "token"]) -> Session | None:
    """The session of this kind that `token` opens, unless it has ended."""
    async with database.writes.connect() as connection:
        session = await tables.session_of(connection, _digest(token))
    return session if session is not None and session.kind == kind else None


def _digest(token: str) -> bytes:
    # A token has 256 random bits: a plain digest cannot be turned back, and is quick to look up.
    return hashlib.sha256(token.encode()).digest()


def _digest_text(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _network(address: str) -> str:
    """The part of a client's address that one household or server holds: an IPv4 address, a /64 of IPv6."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return "unknown"
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return str(ip.ipv4_mapped)
        return str(ipaddress.ip_network((ip, 64), strict=False))
    return str(ip)


def _checked_name(name: str) -> str:
    name = " ".join(name.split())
    if len(name) > 100 or not name.isprintable():
        raise StaffError("a name has at most 100 printable characters")
    return name
