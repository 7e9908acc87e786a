"""Whether a fault bites: looked for while it is in force, and not by asking whoever made it where there is another way.

A command that was obeyed proves nothing: a cut between an edge and the origin harms nobody while nothing goes that way,
and a process may be told to stop and go on. Only faults of which something was seen count.
"""

from __future__ import annotations

import asyncio
import email.utils
import errno
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from loadtests.chaos import processes
from loadtests.chaos.schedule import SUPERVISOR, Command, Stage
from loadtests.chaos.shop import Shop
from loadtests.faults import FaultsUnavailable
from loadtests.http1 import Connection, NoAnswer

LOOK_EVERY_S = 0.1
AT_ONCE_S = 2.0
"""How long something is looked for that ends by itself: the death of a process."""
CLOCK_TOLERANCE_S = 30.0
"""A clock counts as wrong from here on: they are set wrong by a minute or more."""
_NO_ROOM = os.strerror(errno.ENOSPC).encode()
_BY_THE_WAY = frozenset({"cut", "stall", "slow", "truncate", "garble"})


class Evidence:
    """Of one fault after the other. `stage`: what there is to be broken."""

    def __init__(self, shop: Shop, stage: Stage) -> None:
        self._shop = shop
        self._stage = stage
        self._log_sizes: dict[Path, int] = {}
        """Of what the shop's processes print to, before the disk was filled."""

    async def pids_before(self, breaks: Command) -> dict[str, int]:
        """The processes that a fault is about, which run now. Raises FaultsUnavailable."""
        if breaks["do"] == "fill-disk":
            self._log_sizes = {log: log.stat().st_size for log in self._logs()}
        if breaks["do"] not in {"kill", "freeze", "stop"}:
            return {}
        status = await self._shop.status()
        running = {process["name"]: process["pid"] for process in status["processes"]}
        running[SUPERVISOR] = status["supervisor"]
        names = self._stage.members(str(breaks["name"]))
        return {name: running[name] for name in names if running.get(name) is not None}

    async def of(self, breaks: Command, pids: Mapping[str, int], told: Mapping[str, Any], until: float) -> str:
        """What was seen of a fault that is in force, until `until` (time.monotonic()) at the latest; empty: nothing.

        `told`: what the shop answered when it was told to break. What goes by the way between edges and origin is
        counted at its end (`at_the_end`).
        """
        if breaks["do"] == "wipe":
            return f"{told['forgot']:,} keys forgotten" if told.get("forgot") else ""
        until = max(until, time.monotonic() + AT_ONCE_S) if breaks["do"] == "kill" else until
        while True:
            seen = await self._seen(breaks, pids)
            if seen or time.monotonic() >= until:
                return seen
            await asyncio.sleep(LOOK_EVERY_S)

    @staticmethod
    def at_the_end(breaks: Command, told: Mapping[str, Any]) -> str:
        """The same, by what the shop answered when it was told to mend."""
        if breaks["do"] in _BY_THE_WAY and told.get("felt"):
            return f"felt on {told['felt']:,} connections"
        return ""

    async def _seen(self, breaks: Command, pids: Mapping[str, int]) -> str:
        match breaks["do"]:
            case "kill" | "stop":
                return _of_all(pids, processes.is_gone, "gone")
            case "freeze":
                return _of_all(pids, processes.is_stopped, "stopped in its tracks")
            case "fill-disk":
                return self._out_of_room()
            case "step-clock":
                return await self._clock(str(breaks["name"]), float(breaks["s"]))
            case "cut" if breaks["edge"] == "replication":
                state = (await self._replication()).get("state", "streaming")
                return f"replication is {state}" if state not in {"streaming", "unknown"} else ""
            case "pause-replay":
                found = await self._replication()
                return _lag(found) if found.get("replay_paused") else ""
            case "delay-replay":
                found = await self._replication()
                return _lag(found) if found.get("replay_delay", "0") != "0" else ""
            case _:
                return ""

    def _logs(self) -> list[Path]:
        return sorted((self._shop.target.state / "logs").glob("*.log"))

    def _out_of_room(self) -> str:
        """Who has said that there was no room for what it had to write: a disk that is full and that nobody writes to
        harms nobody. What cannot be printed for the same reason is not seen."""
        for log in self._logs():
            with log.open("rb") as file:
                file.seek(self._log_sizes.get(log, 0))
                if _NO_ROOM in file.read():
                    return f"{log.stem} found no room on the disk"
        return ""

    async def _replication(self) -> Mapping[str, Any]:
        try:
            found: Mapping[str, Any] = (await self._shop.status())["replication"]
        except FaultsUnavailable:
            return {}
        return found

    async def _clock(self, name: str, off_s: float) -> str:
        """Whether one of the workers dates its answers wrongly by so much (RFC 9110 §6.6.1)."""
        for member in self._stage.members(name):
            url = self._shop.address_of(member)
            if url is None:
                continue
            found_s = await _dated(url)
            if found_s is not None and abs(found_s - off_s) <= CLOCK_TOLERANCE_S:
                return f"{member} dates its answers {found_s:+,.0f} s from now"
        return ""


def _of_all(pids: Mapping[str, int], is_so: Callable[[int], bool], how: str) -> str:
    if not pids or not all(is_so(pid) for pid in pids.values()):
        return ""
    return ", ".join(f"{name} ({pid})" for name, pid in pids.items()) + f" {how}"


def _lag(replication: Mapping[str, Any]) -> str:
    behind = replication.get("unreplayed_bytes")
    return f"the standby shows {behind:,} bytes less than the primary has" if behind else ""


async def _dated(url: str) -> float | None:
    """How far the Date of an answer is from our own clock, seconds; None: there is no such answer."""
    async with Connection(url, timeout_s=1.0) as connection:
        try:
            answer = await connection.request("GET", "/livez")
            return email.utils.parsedate_to_datetime(answer.headers["date"]).timestamp() - time.time()
        except (NoAnswer, KeyError, ValueError):
            return None
