"""Breaking a local shop on purpose, and mending it: what the control socket understands (docs/faults.md)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from infra.failover.machine import Refused
from infra.failover.runner import described
from infra.failover.sql import TROUBLE
from infra.failover.steps import Fence
from infra.local import replication_line, wall_clock
from infra.local.disk import Disk
from infra.local.errors import LocalError
from infra.local.processes import Child
from infra.local.topology import CHANNELS

if TYPE_CHECKING:
    from infra.local.supervisor import Supervisor

T = TypeVar("T")

HIGHEST_DELAY_MS = 600_000
MOST_OFF_S = 10 * 365 * 86_400.0
"""How wrong a clock may be made."""
DATABASE_S = 15.0
"""How long a database may take to do what it is asked."""
FAILOVER_S = 90.0
"""How long a failover that somebody asked for is waited for."""
PARTICIPLES = {"cut": "cut", "stall": "stalled", "truncate": "truncated", "garble": "garbled"}
OF_REPLAY = {"pause-replay", "resume-replay", "delay-replay"}
REPLICATION = (replication_line.EDGE, replication_line.CHANNEL)


class Faults:
    """The faults of one shop."""

    def __init__(self, shop: Supervisor) -> None:
        self._shop = shop
        self._cuts: dict[tuple[str, str], dict[str, Any]] = {}
        """(edge, channel) -> what the relay was told; one that had to be restarted is told again."""
        self._on_the_way = asyncio.Lock()
        """Held by whoever changes the cuts: another client may be about the same. Nothing waits in it that a fault
        could hold for longer than the relay is waited for."""
        self._off_s: dict[str, float] = {}
        """Name of a worker -> by how much its wall clock is wrong."""
        self._disk = Disk(shop.servers.home)
        self._disk.empty()  # what a killed run left
        for file in shop.state.logs.glob("*.clock"):
            file.unlink()

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
        if shop.databases.external is not None and (
            action in OF_REPLAY or command.get("edge") == replication_line.EDGE
        ):
            raise LocalError(f"{action}: others run the databases (DATABASE_URL), and break them")
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
            case "cut" | "stall" | "slow" | "truncate" | "garble":
                await self._cut(str(action), command)
            case "heal":
                return {"felt": await self._heal(command), "faults": await self.active()}
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
            case "failover":
                return await self._fail_over(command)
            case "disarm":
                self._disarm(command)
            case "wipe":
                return {"forgot": await self._wipe(command), "faults": await self.active()}
            case "fill-disk":
                await asyncio.to_thread(self._disk.check if _flag(command, "dry") else self._disk.fill)
            case "empty-disk":
                self._disk.empty()
            case "step-clock":
                self._step_clock(command)
            case _:
                raise LocalError(f"unknown command {action!r}; docs/faults.md lists them")
        return {"faults": await self.active()}

    async def active(self) -> list[str]:
        """The faults in force, in words."""
        shop = self._shop
        found = [f"{child.name} is stopped" for child in shop.children.values() if child.name in shop.resting]
        found += [f"{child.name} is frozen" for child in shop.children.values() if child.frozen]
        found += [f"{edge}: {channel} {_how(told)}" for (edge, channel), told in sorted(self._cuts.items())]
        found += [f"{name}'s clock is wrong by {off_s:+g} s" for name, off_s in self._off_s.items()]
        found += ["the disk is full"] if self._disk.is_full else []
        found += [f"failover without the fence {fence}" for fence in shop.databases.disarmed()]
        servers = shop.servers.database_children()
        if not servers or any(server.frozen or not server.is_running for server in servers):
            return found  # one that is asked would keep us waiting
        with contextlib.suppress(LocalError):
            replication = await self._on_standby(shop.servers.replication())
            if replication["replay_paused"]:
                found.append("replay on the standby is paused")
            if replication["replay_delay"] != "0":
                found.append(f"replay on the standby is delayed by {replication['replay_delay']}")
        return found

    async def repeat_cuts(self) -> None:
        """Tell a new relay what the old one was told."""
        for (edge, channel), told in list(self._cuts.items()):
            if (edge, channel) != REPLICATION or told["do"] != "cut":
                await self._shop.relay.ask({**told, "edge": edge, "channel": channel})

    # --- names ---

    def _named(self, command: dict[str, Any]) -> list[Child]:
        """The processes meant by `name`: one of them, `origin`, or an edge with all its workers."""
        shop, name = self._shop, command.get("name")
        groups = {edge.name: [worker.name for worker in edge.workers] for edge in shop.topology.edges}
        groups["origin"] = list(shop.topology.origin_workers)
        if shop.databases.external is None:
            groups["primary"], groups["standby"] = [shop.servers.primary.name], [shop.servers.standby.name]
        names = groups.get(str(name), [str(name)])
        if any(one not in shop.children for one in names):
            raise LocalError(f"no process {name!r}; there are {', '.join([*groups, *shop.children])}")
        return [shop.children[one] for one in names]

    def _channels(self, command: dict[str, Any]) -> list[tuple[str, str]]:
        edge, channel = command.get("edge") or "all", command.get("channel") or "all"
        edges = [one.name for one in self._shop.topology.edges]
        if edge == replication_line.EDGE:
            return [REPLICATION]
        if edge not in (*edges, "all"):
            raise LocalError(f"no edge {edge!r}; there are {', '.join(edges)}, all, or {replication_line.EDGE}")
        if channel not in (*CHANNELS, "all"):
            raise LocalError(f"no channel {channel!r}; there are {', '.join(CHANNELS)}, or all")
        return [
            (one, other) for one in edges for other in CHANNELS if edge in (one, "all") and channel in (other, "all")
        ]

    # --- actions ---

    async def _cut(self, how: str, command: dict[str, Any]) -> None:
        told = {name: command[name] for name in ("ms", "bytes_per_s", "seed") if name in command} | {"do": how}
        async with self._on_the_way:
            for edge, channel in self._channels(command):
                if (edge, channel) == REPLICATION:
                    await self._change_replication(told)
                else:
                    await self._shop.relay.ask({**told, "edge": edge, "channel": channel})
                self._cuts[edge, channel] = told

    async def _change_replication(self, told: dict[str, Any] | None) -> int:
        """None: as if nothing had been. How many connections of the relay have felt it."""
        line, felt = self._shop.servers.line, 0
        where = {"edge": replication_line.EDGE, "channel": replication_line.CHANNEL}
        if told is None:
            felt = int((await self._shop.relay.ask({"do": "heal", **where}))["felt"])
            line.lead_directly()
        elif told["do"] == "cut":
            line.lead_nowhere()
        else:
            await self._shop.relay.ask({**told, **where})
            line.lead_through_relay()
        await self._shop.servers.end_streams()
        return felt

    async def _heal(self, command: dict[str, Any]) -> int:
        """How many connections have felt what is ended."""
        everything = command.get("edge") is None
        if everything:
            # Thaw before anybody is asked for anything, wake before anything waits for the origin.
            for child in self._shop.children.values():
                if child.frozen:
                    child.thaw()
        channels = self._channels(command) + ([REPLICATION] if everything else [])
        async with self._on_the_way:
            felt = sum([await self._end_cut(*each) for each in channels if each in self._cuts])
        if everything:
            self._disk.empty()
            for name in list(self._off_s):
                self._set_clock(name, 0.0)
            self._shop.databases.runner.arm()
            await self._shop.wake([self._shop.children[name] for name in self._shop.resting])
            if self._shop.databases.external is None:
                await self._shop.databases.until_whole()
                await self._resume_replay()
        return felt

    async def _end_cut(self, edge: str, channel: str) -> int:
        """How many connections have felt it."""
        if (edge, channel) == REPLICATION:
            passed = await self._change_replication(None)
            felt = passed if self._cuts[edge, channel]["do"] != "cut" else 0  # that is none of the relay's
        else:
            felt = int((await self._shop.relay.ask({"do": "heal", "edge": edge, "channel": channel}))["felt"])
        del self._cuts[edge, channel]
        return felt

    async def _fail_over(self, command: dict[str, Any]) -> dict[str, Any]:
        """Hand the primary over, and say how that went."""
        failover, to, accept_loss = self._shop.databases.runner, command.get("to"), _flag(command, "accept_loss")
        try:
            async with asyncio.timeout(FAILOVER_S):
                move = await failover.move(to, accept_loss=accept_loss)
        except Refused as exc:
            raise LocalError(f"failover: {exc}") from exc
        except TimeoutError as exc:
            raise LocalError(
                f"failover: not done after {FAILOVER_S:g} s ({failover.machine.phase.value}); it goes on by itself, "
                "`nearshelf status` shows how far it is"
            ) from exc
        return {"failover": described(move)}

    def _disarm(self, command: dict[str, Any]) -> None:
        failover, fence = self._shop.databases.runner, command.get("fence")
        known = sorted(each.value for each in failover.machine.armed)
        if fence not in known:
            raise LocalError(f"disarm: no fence {fence!r} is armed; there are {', '.join(known) or 'none'}")
        failover.disarm(Fence(fence))

    async def _wipe(self, command: dict[str, Any]) -> int:
        """How many keys were forgotten."""
        if command.get("name") != "valkey":
            raise LocalError(f"wipe: only valkey may be wiped, not {command.get('name')!r}")
        try:
            async with asyncio.timeout(DATABASE_S):
                return await self._shop.servers.wipe_valkey()
        except (OSError, TimeoutError) as exc:
            raise LocalError(f"valkey cannot be wiped: {str(exc) or type(exc).__name__}; does it run?") from exc

    def _step_clock(self, command: dict[str, Any]) -> None:
        off_s = command.get("s")
        if isinstance(off_s, bool) or not isinstance(off_s, int | float) or not abs(off_s) <= MOST_OFF_S:
            raise LocalError(f"step-clock: s is a number of seconds from -{MOST_OFF_S:.0f} on, not {off_s!r}")
        if not wall_clock.is_there():
            raise LocalError("step-clock: this system has no signal to spare for it")
        children = self._named(command)
        strangers = [child.name for child in children if child.nursery is None]
        if strangers:
            raise LocalError(f"step-clock: {strangers[0]} is none of ours: only workers of the origin and of edges")
        for child in children:
            self._set_clock(child.name, float(off_s))

    def _set_clock(self, name: str, off_s: float) -> None:
        child = self._shop.children[name]
        file = wall_clock.file_beside(child.log.path)
        try:
            wall_clock.write(file, off_s)
        except OSError as exc:  # the disk is full, perhaps by another fault
            raise LocalError(f"step-clock: {file}: {exc.strerror}") from exc
        if child.process is not None and child.is_running:
            with contextlib.suppress(ProcessLookupError):
                child.process.send_signal(wall_clock.step_signal())
        if off_s:
            self._off_s[name] = off_s
        else:
            self._off_s.pop(name, None)

    async def _resume_replay(self) -> None:
        await self._on_standby(self._shop.servers.resume_replay())
        await self._on_standby(self._shop.servers.delay_replay(0))

    async def _on_standby(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            async with asyncio.timeout(DATABASE_S):
                return await work
        except TROUBLE as exc:
            raise LocalError(f"the databases cannot be asked: {exc or type(exc).__name__}; do they run?") from exc


def _flag(command: dict[str, Any], name: str) -> bool:
    """False where nothing is said. Raises LocalError for what is neither true nor false: "false" is no reason to give
    anything up."""
    said = command.get(name, False)
    if not isinstance(said, bool):
        raise LocalError(f"{command.get('do')}: {name} is true or false, not {said!r}")
    return said


def _how(told: dict[str, Any]) -> str:
    """What a relay was told, in words."""
    if told["do"] != "slow":
        return PARTICIPLES[told["do"]]
    parts = [f"slowed by {told['ms']:g} ms"] if told.get("ms") else []
    parts += [f"limited to {told['bytes_per_s']} bytes a second"] if told.get("bytes_per_s") else []
    return " and ".join(parts)
