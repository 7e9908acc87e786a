"""An old primary, asked directly, as the origin's workers would: does it still acknowledge anything, or answer?

By sessions that were open before it froze. Like a worker they take a commit for acknowledged once the server says,
after it, that it is in charge (`events.in_charge`), and an answer for one if it has a row.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

import asyncpg

ANSWER_S = 4.0
"""How long an old primary has to acknowledge something; a commit that waits for its standby waits for ever."""
TAG = "p:none:failover-test"
_CHANGE = "SELECT events.log_purge('hard', ARRAY[$1], 'asked of an old primary', 'failover test')"
_ANSWERS = {
    "a question of an edge": """
        SELECT epoch, cv FROM events.purge_log WHERE (SELECT events.in_charge()) ORDER BY epoch DESC, cv DESC LIMIT 1
    """,
    "the head": "SELECT epoch, cv FROM events.clock WHERE (SELECT events.in_charge())",
    "what is live": "SELECT count(*) FROM events.contact HAVING (SELECT events.in_charge())",
}
"""What a worker asks its primary, by what that is for: as `origin` does it, less what is of no account here."""
LOCAL = "a change for which no standby is waited"


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


@dataclass(slots=True)
class Said:
    """What an old primary did that it was asked for, in words."""

    acknowledged: list[str] = field(default_factory=list)
    """Of what is to survive."""
    answered: list[str] = field(default_factory=list)
    """And of the rest: questions, and what may be lost."""
    asked: int = 0
    """Of that rest: so much it can have answered."""


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

    async def asked(self) -> Said:
        """After it goes on: what of all that it is asked it acknowledges or answers, in words."""
        said = Said(asked=len(_ANSWERS) + 1)
        said.answered += [what for what, question in _ANSWERS.items() if await _succeeds(self._answered(question))]
        if self._commit is not None and await _succeeds(self._commit):
            said.acknowledged.append("the commit of a change that it had begun before")
        # That one holds nobody up any more: the server was told that it is waited for no longer.
        if await _succeeds(self._local()):
            said.answered.append(LOCAL)
        if await _succeeds(_acknowledged(self._idle, _CHANGE, TAG)):
            said.acknowledged.append("a change that was asked of it after it had gone on")
        for connection in (self._idle, self._begun):
            connection.terminate()
        return said

    async def _answered(self, question: str) -> bool:
        return await self._idle.fetchrow(question) is not None

    async def _local(self) -> bool:
        async with self._idle.transaction():
            await self._idle.execute("SET LOCAL synchronous_commit TO local")
            await self._idle.execute("SET LOCAL lock_timeout = '2s'")
            await self._idle.fetchrow(_CHANGE, TAG)
        return True


async def _acknowledged(connection: asyncpg.Connection[Any], statement: str, *values: str) -> bool:
    if values:
        await connection.fetchrow(statement, *values)
    else:
        await connection.execute(statement)
    return bool(await connection.fetchval("SELECT events.in_charge()"))


async def _succeeds(work: Awaitable[bool]) -> bool:
    asked = asyncio.ensure_future(work)
    in_time, _ = await asyncio.wait({asked}, timeout=ANSWER_S)
    if not in_time:
        asked.cancel()
        # Cancelled it may still fail, which somebody has to hear; a server that says nothing must not hold us up.
        await asyncio.wait({asked}, timeout=ANSWER_S)
    failed = not asked.done() or asked.cancelled() or asked.exception() is not None
    return bool(in_time) and not failed and asked.result()
