"""The supervisor of the simulated databases: the failover machine's own code, over servers that are simulated.

`Machine` and `Runner` are those of `infra/failover`. What they want done is done here: over sessions that may be slow,
cut or refused, as `infra/failover/sql.py` does it, and to processes, as `infra/failover/embedded.py` does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from infra.failover.machine import LEASE_S, Machine
from infra.failover.machine import Refused as NotBegun
from infra.failover.runner import Runner
from infra.failover.silence import PROBE_DEADLINE_S
from infra.failover.sql import StepFailed
from infra.failover.steps import (
    Announce,
    Ended,
    Event,
    Fence,
    Open,
    Probe,
    Promote,
    Record,
    Rejoin,
    Release,
    Say,
    Seen,
    Start,
    Step,
    Stop,
    Synchronise,
)
from tests.simulation.engine.cluster import Cluster
from tests.simulation.engine.processes import Process
from tests.simulation.engine.statements import CLOCK
from tests.simulation.engine.supervision import Hand
from tests.simulation.engine.transactions import Refused

FLUSHED_S = 20.0
POLL_S = 0.01
TOLD_S = 0.001
"""From the end of a process until its parent is told."""
START_S = 0.05
"""A server takes so long to start; of the real ones it is more."""
MOVE_S = 20.0
"""How long somebody waits for a failover that was asked for."""


class _Said(NamedTuple):
    """What a server says of itself."""

    in_recovery: bool
    timeline: int
    followed: bool
    synchronous: bool
    epoch: int
    received: int
    wall: float
    is_opened: bool
    """Whether an epoch has begun on its timeline."""


class Supervisor:
    """To be made by a task of its process. `known`: what an earlier one has recorded. `may_kill`: servers are on a
    machine where their processes can be ended; otherwise their lease has to run out.

    `moved` hears who is the primary; `keep` gets what is to be remembered; `reaches` says whether a server can be
    reached from here.
    """

    def __init__(
        self,
        cluster: Cluster,
        process: Process,
        known: Record,
        *,
        may_kill: bool,
        reaches: Callable[[str], bool],
        moved: Callable[[str], None],
        keep: Callable[[Record], None],
    ) -> None:
        self.process = process
        self._cluster = cluster
        self._reaches = reaches
        self._moved = moved
        self._keep = keep
        self._holder = f"supervisor-{process.incarnation}"
        self._bases: dict[str, float] = {}
        """The clock of each server, as it left it last: from then on its next lease counts."""
        primary = cluster.servers[known.primary]
        if not primary.process.alive:
            cluster.start(known.primary)
        if not primary.is_primary:
            # Whoever was promoting it was killed, and there is no way back (infra/local/postgres.py, start_primary).
            cluster.wait_for_standbys(known.primary, ())
            cluster.promote(known.primary)
        down = [name for name, server in cluster.servers.items() if not server.process.alive]
        self.machine = Machine(
            list(cluster.servers),
            known.primary,
            known.promotable,
            process.monotonic(),
            epoch=known.epoch,
            down=down,
        )
        self.runner = Runner(self.machine, self, self._tell, process.monotonic)
        if not may_kill:
            self.machine.disarm(Fence.KILL)
        self._down = down

    async def run(self) -> None:
        for name in self._cluster.servers:
            if name in self._down:
                self.runner.submit(Ended(name))
            else:
                self._watch(name)
        await self.runner.run()

    async def hand_over(self) -> bool:
        """Somebody asks for a failover; whether there was one."""
        try:
            async with asyncio.timeout(MOVE_S):
                await self.runner.move(None)
        except (NotBegun, TimeoutError) as exc:
            self._cluster.loop.note(f"no failover: {str(exc) or 'it takes too long'}")
            return False
        return True

    def _tell(self, said: Say) -> None:
        self._cluster.loop.note(said.text)

    def _watch(self, name: str) -> None:
        """Hear of the end of the process that runs now."""
        self._cluster.servers[name].process.dependents[_Watcher(self, name)] = None

    def has_ended(self, name: str) -> None:
        """The process of a server has ended, and its parent is told."""
        self.process.post(TOLD_S, self.runner.submit, Ended(name))

    # -- what the runner asks of a driver ------------------------------------------------------------------------------

    async def probe(self, step: Probe) -> Seen:
        node, sent_at = step.node, self.process.monotonic()
        # Read before it is sent, and used once: what another probe hears meanwhile is too new to count from.
        basis = self._bases.pop(node, None)
        async with asyncio.timeout(PROBE_DEADLINE_S):
            said = await self._ask(node)
            self._bases[node] = said.wall
            renewed, trouble = False, ""
            if step.renew and basis is not None and not said.in_recovery:
                try:
                    self._bases[node] = await Hand(self._cluster, node).renew(self._holder, basis, LEASE_S)
                    renewed = True
                except Refused as exc:
                    trouble = str(exc)
                    del self._bases[node]
        return Seen(
            node,
            sent_at,
            said.in_recovery,
            timeline=said.timeline,
            followed=said.followed,
            synchronous=said.synchronous,
            epoch=said.epoch,
            renewed=renewed,
            trouble=trouble,
            received=said.received,
        )

    async def carry_out(self, step: Step, submit: Callable[[Event], None]) -> bool:
        try:
            return await self._carry_out(step)
        except Refused as exc:
            raise StepFailed(str(exc)) from exc

    def record(self, step: Record) -> None:
        self._keep(step)

    def announce(self, step: Announce) -> None:
        self._moved(step.node)

    async def close(self) -> None:
        """Sessions end with their processes."""

    # -- inside --------------------------------------------------------------------------------------------------------

    async def _carry_out(self, step: Step) -> bool:
        cluster = self._cluster
        match step:
            case Stop(node):
                return self._stop(node, kill=step.kill or step.orderly)
            case Promote(node):
                hand = Hand(cluster, node)
                if (await self._ask(node)).in_recovery:
                    await hand.wait_for_standbys(())
                    await hand.promote()
            case Open(node):
                await self._open(node, step)
            case Synchronise(primary, standby):
                await self._synchronise(primary, standby)
            case Release(primary):
                await Hand(cluster, primary).wait_for_standbys(())
            case Start(node):
                await self._end_leftovers(node)
                cluster.start(node)
                self._watch(node)
            case Rejoin(node, primary):
                await self._end_leftovers(node)
                forgotten = cluster.rejoin(node, primary)
                cluster.loop.note(f"{node} rejoins {primary}, {forgotten} records forgotten")
                self._watch(node)
            case _:
                raise AssertionError(step)
        return False

    async def _end_leftovers(self, node: str) -> None:
        """What still runs of a server is ended before it is started, and its end is heard of before its start is."""
        process = self._cluster.servers[node].process
        if process.alive:
            process.kill()
        await asyncio.sleep(START_S)

    def _stop(self, node: str, *, kill: bool) -> bool:
        process = self._cluster.servers[node].process
        if kill and process.alive:
            if not self._reaches(node):
                raise StepFailed("its machine cannot be reached")
            process.kill()
        return not process.alive

    async def _open(self, node: str, step: Open) -> None:
        said = await self._ask(node)
        hand = Hand(self._cluster, node)
        if not said.is_opened or said.epoch < step.above:
            await hand.begin_epoch(step.above, self._holder, said.wall, LEASE_S)
        else:
            await hand.renew(self._holder, said.wall, LEASE_S)

    async def _synchronise(self, primary: str, standby: str) -> None:
        await Hand(self._cluster, primary).wait_for_standbys((standby,))
        server = self._cluster.servers[primary]
        session = await self._cluster.network.open(primary)
        try:
            wanted = await session.call(lambda: len(server.log))
            give_up_at = self.process.monotonic() + FLUSHED_S
            while await session.call(lambda: server.followers.get(standby, 0)) < wanted:
                if self.process.monotonic() > give_up_at:
                    raise StepFailed(f"{standby} has not caught up after {FLUSHED_S:g} s")
                await asyncio.sleep(POLL_S)
        finally:
            session.close()

    async def _ask(self, node: str) -> _Said:
        session = await self._cluster.network.open(node)
        try:
            said: _Said = await session.call(self._look, node)
        finally:
            session.close()
        return said

    def _look(self, node: str) -> _Said:
        """At the server itself."""
        server = self._cluster.servers[node]
        seen = server.snapshot()
        clock = server.storage.get(*CLOCK, seen)
        return _Said(
            not server.is_primary,
            server.timeline,
            bool(server.followers),
            bool(server.synchronous),
            clock.epoch,
            len(server.log),
            server.process.wall(),
            clock.timeline == server.timeline,
        )


@dataclass(frozen=True, slots=True)
class _Watcher:
    """Hears of the end of a server's process, as its parent does."""

    supervisor: Supervisor
    node: str

    def process_died(self) -> None:
        self.supervisor.has_ended(self.node)
