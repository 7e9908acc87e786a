"""A tier in this process, for workers in this process (`edge.store.base.Tier`)."""

from __future__ import annotations

import asyncio

from edge.core.key import CacheKey
from edge.core.stored import StoredResponse


class MemoryTier:
    """What several workers share. `asked` counts look-ups."""

    def __init__(self) -> None:
        self.kept: dict[CacheKey, list[StoredResponse]] = {}
        self.flying: dict[bytes, asyncio.Event] = {}
        self.asked = 0

    async def find(self, key: CacheKey, policy_version: str) -> tuple[StoredResponse, ...]:
        self.asked += 1
        await asyncio.sleep(0)
        return tuple([each for each in self.kept.get(key, []) if each.policy_version == policy_version])

    def keep(self, stored: StoredResponse) -> None:
        others = [each for each in self.kept.get(stored.key, []) if each.vary != stored.vary]
        self.kept[stored.key] = [stored, *others]

    def drop(self, key: CacheKey) -> None:
        self.kept.pop(key, None)

    async def claim(self, variant: bytes, for_s: float) -> MemoryClaim:
        await asyncio.sleep(0)
        landing = self.flying.get(variant)
        if landing is not None:
            return MemoryClaim(self, variant, landing, mine=False)
        landing = self.flying[variant] = asyncio.Event()
        return MemoryClaim(self, variant, landing, mine=True)


class MemoryClaim:
    def __init__(self, tier: MemoryTier, variant: bytes, landing: asyncio.Event, *, mine: bool) -> None:
        self.mine = mine
        self._tier = tier
        self._variant = variant
        self._landing = landing

    async def landed(self, wait_s: float) -> bool:
        try:
            async with asyncio.timeout(wait_s):
                await self._landing.wait()
        except TimeoutError:
            return False
        return True

    def release(self) -> None:
        assert self.mine
        self._tier.flying.pop(self._variant).set()
