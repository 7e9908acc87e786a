from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.support.edge_shop import EdgeShop


@pytest_asyncio.fixture
async def shop(tmp_path: Path) -> AsyncIterator[EdgeShop]:
    async with EdgeShop(tmp_path) as shop:
        yield shop
