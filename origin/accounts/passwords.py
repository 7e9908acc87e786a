"""Password hashes: argon2id, computed in a thread, a few at a time."""

from __future__ import annotations

import asyncio
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

# argon2-cffi's defaults are the low-memory profile of RFC 9106 §4: 3 passes over 64 MiB.
_hasher = PasswordHasher()
_AT_ONCE = 2
"""Each takes 64 MiB and a core for some 50 ms: a flood of sign-ins must not take the worker's memory."""


class Passwords:
    """Hashes and verifies, at most two at a time in this process."""

    def __init__(self) -> None:
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def hash(self, password: str) -> str:
        async with self._turns:
            return await asyncio.to_thread(_hasher.hash, password)

    async def matches(self, stored: str | None, password: str) -> bool:
        """Whether `password` is the one `stored` was made from. None, an unknown account, costs the same time."""
        async with self._turns:
            return await asyncio.to_thread(_verify, stored, password)


def _verify(stored: str | None, password: str) -> bool:
    try:
        _hasher.verify(stored or _nobody(), password)
    except (VerificationError, InvalidHashError):
        return False
    return stored is not None


@cache
def _nobody() -> str:
    """The hash that the password of an unknown account is compared with."""
    return _hasher.hash("no account has this password")
