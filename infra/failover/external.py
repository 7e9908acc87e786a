"""Failover of servers that others run: by SQL, without a hand on their processes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from infra.failover.embedded import record, recorded
from infra.failover.runner import in_words
from infra.failover.sql import TROUBLE, SqlServers
from infra.failover.steps import Announce, Event, Open, Probe, Promote, Record, Seen, Step, Stop, Unleash
from infra.local.errors import LocalError
from infra.local.state import State


class ExternalDriver:
    """What the machine wants, asked of servers that are not ours: only the lease of an old primary is sure to end."""

    def __init__(
        self, addresses: Mapping[str, Mapping[str, Any]], state: State, holder: str, *, moved: Callable[[str], None]
    ) -> None:
        """`addresses`: of their administrator. `moved`: hears who is the primary, once it can be worked with."""
        self._sql = SqlServers(addresses, holder)
        self._nodes: Sequence[str] = tuple(addresses)
        self._state = state
        self._moved = moved

    async def find_primary(self) -> Record:
        """Who is the primary now, with what an earlier run recorded. Raises LocalError where that is not clear."""
        found, why = [], []
        for node in self._nodes:
            try:
                seen = await self._sql.probe(Probe(node))
            except TROUBLE as exc:
                why.append(f"{node}: {in_words(exc)}")
                continue
            why.append(f"{node}: {'a standby' if seen.in_recovery else 'a primary'}")
            if not seen.in_recovery:
                found.append(node)
        known = recorded(self._state, found[0] if len(found) == 1 else "")
        if known.primary in found or len(found) == 1:
            primary = known.primary if known.primary in found else found[0]
            return Record(primary, None, known.epoch)
        what = "more than one of them is a primary" if found else "none of them is a primary that answers"
        raise LocalError(f"of the servers of DATABASE_URL and REPLICA_URLS, {what}:\n  " + "\n  ".join(why))

    async def probe(self, step: Probe) -> Seen:
        return await self._sql.probe(step)

    def record(self, step: Record) -> None:
        record(self._state, step)

    def announce(self, step: Announce) -> None:
        self._moved(step.node)

    async def carry_out(self, step: Step, submit: Callable[[Event], None]) -> bool:
        match step:
            case Stop():
                with contextlib.suppress(*TROUBLE):
                    await self._sql.turn_away(step)
            case Promote():
                await self._sql.promote(step)
            case Open():
                await self._sql.open(step)
            case Unleash():
                await self._sql.unleash(step)
            case _:
                raise AssertionError(step)
        return False

    async def close(self) -> None:
        await self._sql.close()
