"""What can go wrong in the shop, by what the caller may do about it; nothing here knows HTTP (problems.py does).

A module of the shop subclasses the one that fits: `class PriceVersionConflict(Conflict)`. The message is shown to
the person who asked, so it says what happened, to what, and what to do next.
"""

from __future__ import annotations

from collections.abc import Mapping


class ShopError(Exception):
    """An expected failure; its text is for the person who asked."""


class Invalid(ShopError):
    """What was asked cannot be done as written; asking again changes nothing.

    `faults` names each bad field with what is wrong with it.
    """

    def __init__(self, message: str, faults: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.faults: dict[str, str] = dict(faults or {})


class NotSignedIn(ShopError):
    """Nobody is signed in, or the session is over: sign in and ask again."""


class NotAllowed(ShopError):
    """Somebody is signed in who may not do this."""


class NotFound(ShopError):
    """There is no such thing."""


class Conflict(ShopError):
    """It has changed since the caller looked: look again, then ask again."""


class TooLarge(ShopError):
    """More was sent than is taken in one request."""


class TooOften(ShopError):
    """Asked too many times; ask again after `retry_after_s` seconds."""

    def __init__(self, message: str, retry_after_s: int = 60) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Unavailable(ShopError):
    """Not now; ask again after `retry_after_s` seconds."""

    def __init__(self, message: str, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
