"""Staff: who they are and what they may do. No I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Literal

from origin.errors import Invalid, NotAllowed, NotSignedIn, TooOften

MIN_PASSWORD_CHARACTERS = 10
MAX_PASSWORD_CHARACTERS = 1_000
"""Longer ones would only make the hash slower to compute."""

_EMAIL = re.compile(r"[^@\s\x00-\x1f]{1,64}@[^@\s\x00-\x1f]{1,190}")


class Role(StrEnum):
    """What a member of staff may do; each may do what those before it may."""

    VIEWER = "viewer"
    """Reads the console."""
    EDITOR = "editor"
    """Changes prices, purges by product, category or tag."""
    ADMIN = "admin"
    """Also purges everything, hard."""

    def may(self, needed: Role) -> bool:
        order = list(Role)
        return order.index(self) >= order.index(needed)


@dataclass(frozen=True, slots=True)
class Staff:
    """A member of staff."""

    email: str
    name: str
    role: Role


@dataclass(frozen=True, slots=True)
class Session:
    """Somebody who is signed in, from a browser or with a token."""

    staff: Staff
    csrf: str
    """What every form of this session repeats."""
    kind: Literal["browser", "token"]
    expires_at: datetime


class WrongLogin(NotSignedIn):
    """No such pair of e-mail and password; which of the two was wrong is not told."""

    def __init__(self) -> None:
        super().__init__("e-mail or password is wrong")


class TooManyLogins(TooOften):
    """Too many failed attempts for this account or from this address."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(f"too many sign-ins; try again in {max(1, -(-retry_after_s // 60))} min", retry_after_s)


class RoleTooLow(NotAllowed):
    """The role does not allow it."""

    def __init__(self, staff: Staff, needed: Role, what: str) -> None:
        super().__init__(f"{what} needs the role {needed}, {staff.email} is {staff.role}")
        self.needed = needed


class ForgedRequest(NotAllowed):
    """A form that was not sent from one of our own pages in this session."""

    def __init__(self, why: str) -> None:
        super().__init__(f"this form was not accepted: {why}; open the page again and repeat what you did")


class StaffError(Invalid):
    """An e-mail, name, role or password that cannot be used; the text says why."""


def checked_email(text: str) -> str:
    """The e-mail as it is stored: lower case, no blanks around it. Raises StaffError when it is none."""
    email = text.strip().lower()
    if not _EMAIL.fullmatch(email):
        raise StaffError(f"{text[:80]!r} is not an e-mail address")
    return email


def checked_role(text: str) -> Role:
    """Raises StaffError, naming the roles, for another word."""
    try:
        return Role(text)
    except ValueError as exc:
        raise StaffError(f"unknown role {text[:40]!r}, expected one of {', '.join(Role)}") from exc


def checked_password(password: str) -> str:
    """`password` itself. Raises StaffError when it is too short to be one, or too long."""
    if len(password) < MIN_PASSWORD_CHARACTERS:
        raise StaffError(
            f"a password needs at least {MIN_PASSWORD_CHARACTERS} characters, this one has {len(password)}"
        )
    if len(password) > MAX_PASSWORD_CHARACTERS:
        raise StaffError(f"a password has at most {MAX_PASSWORD_CHARACTERS} characters")
    return password


def require(staff: Staff, needed: Role, what: str) -> None:
    """Raises RoleTooLow, saying `what` was asked for, unless the role of `staff` covers `needed`."""
    if not staff.role.may(needed):
        raise RoleTooLow(staff, needed, what)
