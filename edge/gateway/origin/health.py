"""Whether an address is in good health: asked now and then, and believed after several equal answers."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable


class Health:
    """What the checks of one address have said. Healthy until they say otherwise, and where nobody checks."""

    FALLS = 3
    """Failed checks in a row after which an address counts as down."""
    RISES = 2
    """Good ones in a row after which it counts as up again."""

    def __init__(self) -> None:
        self.is_up = True
        self._against = 0
        """Checks in a row that contradict `is_up`."""

    def heard(self, good: bool) -> bool:
        """Count one check; whether it changed what is believed."""
        if good == self.is_up:
            self._against = 0
            return False
        self._against += 1
        if self._against < (self.RISES if good else self.FALLS):
            return False
        self.is_up, self._against = good, 0
        return True


EVERY_S = 5.0
JITTER = 0.2
"""Part of the pause by which it varies, so that the workers of many edges do not all ask at once."""
CHECK_S = 2.0
"""How long an answer may take before the check counts as failed."""


async def keep_checking(check: Callable[[], Awaitable[None]]) -> None:
    """`check` for ever, from a first time within one pause on; two are never under way at once."""
    await asyncio.sleep(random.uniform(0.0, EVERY_S))  # spreads load, keeps no secret
    while True:
        await check()
        await asyncio.sleep(EVERY_S * random.uniform(1 - JITTER, 1 + JITTER))
