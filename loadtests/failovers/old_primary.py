"""An old primary, asked directly, as the origin's workers would: does it still acknowledge anything?

By sessions that were open before it froze. Like a worker they take a commit for acknowledged once the server says,
after it, that it is in charge (`events.in_charge`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

import asyncpg

ANSWER_S = 4.0
"""How long an old primary has to acknowledge something; a commit that waits for its standby waits for ever."""
TAG = "p:none:failover-test"
_CHANGE = "SELECT events.log_purge('hard', ARRAY[$1], 'asked of an old primary', 'failover test')"


@dataclass(frozen=True, slots=True)
class Addresses:
    """Sockets of the servers, in the order of their names."""

    hosts: tuple[tuple[str, int], ...]
    role: str
    database: str

    @classmethod
    def of(cls, environment: Mapping[str, Any]) -> Addresses:
        """From what `env.json` of a shop says."""
        url = urlsplit(str(environment["DATABASE_URL"]))
        hosts = tuple(
            (host, int(port)) for host, _, port in (text.rpartition(":") for text in parse_qs(url.query)["host"])
        )
        return cls(hosts, url.username or "nearshelf", url.path.lstrip("/"))

    async def connect(self, number: int) -> asyncpg.Connection[Any]:
        host, port = self.hosts[number]
        return await asyncpg.connect(
            host=host,
            port=port,
            user=self.role,
            database=self.database,
            timeout=5.0,
            server_settings={"synchronous_commit": "on"},
        )


class OldPrimary:
    """Two sessions on a primary that is about to be frozen: one idle, one with a change that only lacks its commit."""

    def __init__(self, idle: asyncpg.Connection[Any], begun: asyncpg.Connection[Any]) -> None:
        self._idle = idle
        self._begun = begun
        self._commit: asyncio.Future[bool] | None = None

    @classmethod
    async def met(cls, addresses: Addresses, number: int) -> OldPrimary:
        """`number`: which of the servers is the primary."""
        idle, begun = await addresses.connect(number), await addresses.connect(number)
        return cls(idle, begun)

    async def change(self) -> None:
        """Everything of a change but its commit; to be called at the last moment, since it holds up all others."""
        await self._begun.execute("BEGIN")
        await self._begun.execute("SET LOCAL lock_timeout = '2s'")
        await self._begun.fetchrow(_CHANGE, TAG)

    def commit(self) -> None:
        """Ask it, now that it is frozen, to commit that change."""
        self._commit = asyncio.ensure_future(_acknowledged(self._begun, "COMMIT"))

    async def acknowledged(self) -> list[str]:
        """After it goes on: what of all that it is asked it acknowledges, in words."""
        found = []
        if await _succeeds(asyncio.ensure_future(_acknowledged(self._idle, _CHANGE, TAG))):
            found.append("a change that was asked of it after it had gone on")
        if self._commit is not None and await _succeeds(self._commit):
            found.append("the commit of a change that it had begun before")
        for connection in (self._idle, self._begun):
            connection.terminate()
        return found


async def _acknowledged(connection: asyncpg.Connection[Any], statement: str, *values: str) -> bool:
    if values:
        await connection.fetchrow(statement, *values)
    else:
        await connection.execute(statement)
    return bool(await connection.fetchval("SELECT events.in_charge()"))


async def _succeeds(asked: asyncio.Future[bool]) -> bool:
    done, _ = await asyncio.wait({asked}, timeout=ANSWER_S)
    if not done:
        asked.cancel()
        return False
    return not asked.cancelled() and asked.exception() is None and asked.result()
