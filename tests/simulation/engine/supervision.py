"""What a supervisor does to one database server, over a session from the process that runs: rule 8's side of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cache_policies.positions import Position
from tests.simulation.engine.cluster import Cluster
from tests.simulation.engine.servers import Server
from tests.simulation.engine.sessions import Session
from tests.simulation.engine.statements import EPOCH, RENEW, WALL_CLOCK
from tests.simulation.engine.transactions import Refused


class Hand:
    """Each of these takes a session of its own, so that nothing waits behind anything.

    All raise OSError when there is no way to the server, and Refused when it does not do it.
    """

    def __init__(self, cluster: Cluster, name: str) -> None:
        self._cluster = cluster
        self._server: Server = cluster.servers[name]
        self.name = name

    async def clock(self) -> float:
        """What its wall clock shows: the first basis of a lease."""
        rows = await self._ask([(WALL_CLOCK.text, {})])
        return float(rows[0][0])

    async def renew(self, holder: str, basis: float, length_s: float) -> float:
        """Have it in charge until `basis` + `length_s`; its clock, the basis of the next renewal."""
        values = {"holder": holder, "basis": basis, "length_s": length_s}
        rows = await self._ask([(RENEW.text, values)])
        return float(rows[0][0])

    async def promote(self) -> None:
        """pg_promote"""
        session = await self._open()
        try:
            await session.call(self._promote)
        finally:
            session.close()

    async def begin_epoch(self, above: int, holder: str, basis: float, length_s: float) -> Position:
        """The first transaction of a promoted primary: its epoch, higher than `above`, and its lease."""
        renewal = {"holder": holder, "basis": basis, "length_s": length_s}
        rows = await self._ask([(RENEW.text, renewal), (EPOCH.text, {"above": above})])
        return Position(rows[0].epoch, rows[0].cv)

    async def wait_for_standbys(self, names: Sequence[str]) -> None:
        """`synchronous_standby_names`; none: commits wait for nobody."""
        session = await self._open()
        try:
            await session.call(self._cluster.wait_for_standbys, self.name, names)
        finally:
            session.close()

    def _promote(self) -> None:
        if self._server.is_primary:
            raise Refused("recovery is not in progress")
        self._cluster.promote(self.name)

    async def _ask(self, statements: Sequence[tuple[str, Any]]) -> Any:
        """What the last of these gives, all in one transaction that is flushed here."""
        session = await self._open()
        rows: Any = None
        try:
            for text, values in statements:
                rows = await session.call(session.served.execute, text, values, False, "local", False)
            await session.call(session.served.commit)
        finally:
            session.close()
        return rows

    async def _open(self) -> Session:
        return await self._cluster.network.open(self.name)
