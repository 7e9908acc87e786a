"""Failover of the servers that a local shop runs itself: their processes are ours to watch, to end and to start."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from infra.failover.records import OURS, record
from infra.failover.sql import SqlServers, StepFailed
from infra.failover.steps import (
    Announce,
    Ended,
    Event,
    Open,
    Probe,
    Promote,
    Record,
    Rejoin,
    Release,
    Seen,
    Start,
    Step,
    Stop,
    Synchronise,
    Unleash,
)
from infra.local.errors import LocalError
from infra.local.postgres import Databases
from infra.local.processes import describe_status
from infra.local.state import State


class EmbeddedDriver:
    """What the machine wants, done to the embedded servers."""

    def __init__(
        self,
        servers: Databases,
        state: State,
        holder: str,
        *,
        moved: Callable[[str], None],
        tell: Callable[[str], None],
    ) -> None:
        """`moved`: hears who is the primary, once it can be worked with. `tell`: says a line to people."""
        self._servers = servers
        self._state = state
        self._sql = SqlServers(servers.addresses(), holder)
        self._moved = moved
        self._tell = tell
        self._watching: set[asyncio.Task[None]] = set()
        self._reviving: dict[str, asyncio.Task[Any]] = {}
        """Server -> what starts it just now."""

    async def probe(self, step: Probe) -> Seen:
        return await self._sql.probe(step)

    def record(self, step: Record) -> None:
        record(self._state.folder / OURS, step)

    def announce(self, step: Announce) -> None:
        self._servers.primary_name = step.node
        self._moved(step.node)

    async def carry_out(self, step: Step, submit: Callable[[Event], None]) -> bool:
        try:
            return await self._carry_out(step, submit)
        except LocalError as exc:
            raise StepFailed(str(exc)) from exc

    async def _carry_out(self, step: Step, submit: Callable[[Event], None]) -> bool:
        match step:
            case Stop(node):
                return await self._stop(step, node)
            case Promote(node):
                # Nobody follows it yet: what it commits first would wait for ever.
                await self._sql.release(Release(node))
                await self._sql.promote(step)
            case Open():
                await self._sql.open(step)
            case Unleash():
                await self._sql.unleash(step)
            case Synchronise():
                await self._sql.synchronise(step)
            case Release():
                await self._sql.release(step)
            case Start(node):
                await self._revive(node, self._servers.start(node))
                self.watch(node, submit)
            case Rejoin(node, primary):
                self._servers.primary_name = primary
                await self._revive(node, self._servers.follow(node))
                self.watch(node, submit)
            case _:
                raise AssertionError(step)
        return False

    async def _revive(self, node: str, work: Coroutine[Any, Any, Any]) -> None:
        """Raises StepFailed when somebody stops the server meanwhile."""
        self._servers.nodes[node].child.restarts += 1
        task = self._reviving[node] = asyncio.ensure_future(work)
        try:
            await asyncio.wait({task})
        finally:
            task.cancel()
            await asyncio.wait({task})
            del self._reviving[node]
        if task.cancelled():
            raise StepFailed("it was stopped meanwhile")
        task.result()

    async def _stop(self, step: Stop, node: str) -> bool:
        if (reviving := self._reviving.get(node)) is not None and (step.orderly or step.kill):
            # It could start a process when we have looked for the last time.
            reviving.cancel()
            await asyncio.wait({reviving})
        if step.orderly:
            await self._servers.nodes[node].child.stop()
        if step.orderly or step.kill:
            await self._servers.end(node)
            return True
        return self._servers.is_dead(node)

    def watch(self, node: str, submit: Callable[[Event], None]) -> None:
        """Tell the machine when the server that runs now has ended."""
        task = asyncio.ensure_future(self._watch(node, submit))
        self._watching.add(task)
        task.add_done_callback(self._watching.discard)

    async def _watch(self, node: str, submit: Callable[[Event], None]) -> None:
        child = self._servers.nodes[node].child
        status = await child.wait()
        words = child.last_words()
        said = f"; it said last: {words[-1][:200]}" if words else ""
        self._tell(f"{node} ended ({describe_status(status)}){said}")
        submit(Ended(node))

    async def close(self) -> None:
        for task in self._watching:
            task.cancel()
        await asyncio.gather(*self._watching, return_exceptions=True)
        await self._sql.close()
