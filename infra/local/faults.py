"""Breaking a local shop on purpose, and mending it: what the control socket understands (docs/faults.md)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from infra.local.errors import LocalError
from infra.local.processes import Child
from infra.local.topology import CHANNELS

if TYPE_CHECKING:
    from infra.local.supervisor import Supervisor

T = TypeVar("T")

HIGHEST_DELAY_MS = 600_000
DATABASE_S = 15.0
"""How long a database may take to do what it is asked."""
PARTICIPLES = {"cut": "cut", "stall": "stalled"}


class Faults:
    """The faults of one shop."""

    def __init__(self, shop: Supervisor) -> None:
        self._shop = shop
        self._cuts: dict[tuple[str, str], str] = {}
        """(edge, channel) -> `cut` or `stall`; a relay that had to be restarted is told again."""

    async def obey(self, command: dict[str, Any]) -> dict[str, Any]:
        """Carry out one command and return what there is to tell. Raises LocalError when it cannot be done."""
        shop = self._shop
        action = command.get("do")
        if action == "status":
            return await shop.status()
        if action == "faults":
            return {"faults": await self.active()}
        if not shop.is_ready:
            raise LocalError("the shop is still starting; wait until it says that it is ready")
        match action:
            case "stop":
                for child in reversed(self._named(command)):
                    await shop.rest(child)
            case "start":
                await shop.wake(self._named(command))
            case "kill":
                for child in self._named(command):
                    child.kill()
            case "freeze":
                for child in self._named(command):
                    child.freeze()
            case "thaw":
                for child in self._named(command):
                    child.thaw()
            case "cut" | "stall":
                await self._cut(str(action), command)
            case "heal":
                await self._heal(command)
            case "pause-replay":
                await self._on_standby(shop.servers.pause_replay())
            case "resume-replay":
                await self._resume_replay()
            case "delay-replay":
                delay_ms = command.get("ms")
                if not isinstance(delay_ms, int) or isinstance(delay_ms, bool) or not 0 <= delay_ms <= HIGHEST_DELAY_MS:
                    raise LocalError(
                        f"delay-replay: ms is a whole number from 0 to {HIGHEST_DELAY_MS}, not {delay_ms!r}"
                    )
                await self._on_standby(shop.servers.delay_replay(delay_ms))
            case _:
                raise LocalError(f"unknown command {action!r}; docs/faults.md lists them")
        return {"faults": await self.active()}

    async def active(self) -> list[str]:
        """The faults in force, in words."""
        shop = self._shop
        found = [f"{child.name} is stopped" for child in shop.children.values() if child.name in shop.resting]
        found += [f"{child.name} is frozen" for child in shop.children.values() if child.frozen]
        found += [f"{edge}: {channel} {PARTICIPLES[how]}" for (edge, channel), how in sorted(self._cuts.items())]
        with contextlib.suppress(LocalError):
            replication = await self._on_standby(shop.servers.replication())
            if replication["replay_paused"]:
                found.append("replay on the standby is paused")
            if replication["replay_delay"] != "0":
                found.append(f"replay on the standby is delayed by {replication['replay_delay']}")
        return found

    async def repeat_cuts(self) -> None:
        """Tell a new relay what the old one was told."""
        for (edge, channel), how in self._cuts.items():
            await self._shop.relay.ask({"do": how, "edge": edge, "channel": channel})

    # --- names ---

    def _named(self, command: dict[str, Any]) -> list[Child]:
        """The processes meant by `name`: one of them, `origin`, or an edge with all its workers."""
        shop, name = self._shop, command.get("name")
        groups = {edge.name: [worker.name for worker in edge.workers] for edge in shop.topology.edges}
        groups["origin"] = list(shop.topology.origin_workers)
        names = groups.get(str(name), [str(name)])
        if any(one not in shop.children for one in names):
            raise LocalError(f"no process {name!r}; there are {', '.join([*groups, *shop.children])}")
        return [shop.children[one] for one in names]

    def _channels(self, command: dict[str, Any]) -> list[tuple[str, str]]:
        edge, channel = command.get("edge") or "all", command.get("channel") or "all"
        edges = [one.name for one in self._shop.topology.edges]
        if edge not in (*edges, "all"):
            raise LocalError(f"no edge {edge!r}; there are {', '.join(edges)}, or all")
        if channel not in (*CHANNELS, "all"):
            raise LocalError(f"no channel {channel!r}; there are {', '.join(CHANNELS)}, or all")
        return [
            (one, other) for one in edges for other in CHANNELS if edge in (one, "all") and channel in (other, "all")
        ]

    # --- actions ---

    async def _cut(self, how: str, command: dict[str, Any]) -> None:
        for edge, channel in self._channels(command):
            await self._shop.relay.ask({"do": how, "edge": edge, "channel": channel})
            self._cuts[edge, channel] = how

    async def _heal(self, command: dict[str, Any]) -> None:
        for edge, channel in self._channels(command):
            if (edge, channel) in self._cuts:
                await self._shop.relay.ask({"do": "heal", "edge": edge, "channel": channel})
                del self._cuts[edge, channel]
        if command.get("edge") is None:
            # Everything: thaw before the databases are asked, wake before anything waits for the origin.
            for child in self._shop.children.values():
                if child.frozen:
                    child.thaw()
            await self._shop.wake([self._shop.children[name] for name in self._shop.resting])
            await self._resume_replay()

    async def _resume_replay(self) -> None:
        await self._on_standby(self._shop.servers.resume_replay())
        await self._on_standby(self._shop.servers.delay_replay(0))

    async def _on_standby(self, work: Coroutine[Any, Any, T]) -> T:
        import asyncpg

        try:
            async with asyncio.timeout(DATABASE_S):
                return await work
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as exc:
            raise LocalError(f"the databases cannot be asked: {exc or type(exc).__name__}; do they run?") from exc
