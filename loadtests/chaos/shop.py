"""The shop under fire as its supervisor and its workers' admin listeners tell it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable, Mapping
from typing import Any

from cache_policies.positions import Position
from loadtests.chaos.schedule import Command, Stage
from loadtests.faults import Breakage, FaultsUnavailable
from loadtests.http1 import Connection, NoAnswer
from loadtests.target import BadTarget, Target

ROLES = frozenset({"primary", "standby"})
"""Names of whoever has that role, which moves."""
LOOK_EVERY_S = 0.1
PATIENCE_S = 1.5
"""For one answer of an admin listener."""
WHOLE_WITHIN_S = 90.0
"""How long a shop may take until all of it runs again: a standby may have to be copied anew."""


class Shop:
    """A running shop, told to break and asked how it is."""

    def __init__(self, target: Target) -> None:
        """Raises BadTarget where the shop cannot be broken from here."""
        if target.control is None or not target.admin or target.admin_token is None:
            raise BadTarget("faults need a shop that `nearshelf up` runs on this machine, for this account")
        self.target = target
        self._breakage = Breakage(target.control)
        self._token = target.admin_token

    async def tell(self, command: Command) -> None:
        """Carry out one command of docs/faults.md; returns when it is done. Raises FaultsUnavailable."""
        await asyncio.to_thread(self._breakage.ask, command)

    async def insist(self, command: Command, within_s: float = 60.0) -> None:
        """The same, again and again until it is done: what is broken has to be mended. Raises FaultsUnavailable."""
        give_up_at = time.monotonic() + within_s
        while True:
            try:
                await self.tell(command)
            except FaultsUnavailable:
                if time.monotonic() > give_up_at:
                    raise
                await asyncio.sleep(LOOK_EVERY_S)
            else:
                return

    async def status(self) -> Mapping[str, Any]:
        """What `nearshelf status --json` shows. Raises FaultsUnavailable."""
        return await asyncio.to_thread(self._breakage.ask, {"do": "status"})

    async def by_name(self, breaks: Command, mends: Command | None) -> tuple[Command, Command | None]:
        """Both commands with the name of the process that is the primary, or the standby, now. Raises
        FaultsUnavailable."""
        role = breaks.get("name")
        if role not in ROLES:
            return breaks, mends
        for process in (await self.status())["processes"]:
            if process.get("role") == role:
                named = {"name": process["name"]}
                return breaks | named, None if mends is None else mends | named
        raise FaultsUnavailable(f"nobody is the {role} now")

    async def stage(self) -> Stage:
        """What there is to be broken. Raises FaultsUnavailable."""
        names = [process["name"] for process in (await self.status())["processes"]]
        edges = tuple(self.target.edges)
        return Stage(
            edges,
            tuple(name for name in names if name.partition("-")[0] in edges),
            tuple(name for name in names if name.startswith("origin-")),
            await self._disk_may_be_filled(),
        )

    async def _disk_may_be_filled(self) -> bool:
        try:
            await self.tell({"do": "fill-disk", "dry": True})
        except FaultsUnavailable:
            return False
        return True

    async def until_whole(self) -> tuple[float, str]:
        """When the process that was started last had been started, once all run and nothing is broken; and what is
        still wrong after WHOLE_WITHIN_S, if anything."""
        give_up_at = time.monotonic() + WHOLE_WITHIN_S
        while True:
            try:
                status = await self.status()
                wrong = what_is_wrong(status)
            except FaultsUnavailable as exc:
                status, wrong = {"processes": []}, str(exc)
            if not wrong or time.monotonic() > give_up_at:
                now = time.monotonic()
                up_s = [process["up_s"] for process in status["processes"] if process["up_s"] is not None]
                return now - min(up_s, default=0.0), wrong
            await asyncio.sleep(LOOK_EVERY_S)

    async def workers(self) -> Workers:
        return Workers(self.target.admin, self._token)


def what_is_wrong(status: Mapping[str, Any]) -> str:
    """Why a shop is not whole, by its status; empty: it is."""
    wrong = [
        f"{process['name']} is {process['condition']}"
        for process in status["processes"]
        if process["condition"] != "running"
    ]
    wrong += status["faults"]
    replication = status["replication"]
    if replication.get("state") != "streaming":
        wrong.append(f"replication: {replication.get('error') or replication.get('state')}")
    return "; ".join(wrong)


class Workers:
    """Every edge worker, asked at its admin listener how far it is."""

    def __init__(self, admin: Mapping[str, Iterable[str]], token: str) -> None:
        self._urls = {f"{edge}-{number}": url for edge, urls in admin.items() for number, url in enumerate(urls, 1)}
        self._fields = {"Authorization": f"Bearer {token}"}

    async def until_they_know(self, position: Position, since: float, within_s: float) -> dict[str, float | None]:
        """Worker -> how long after `since` (time.monotonic()) it had applied `position` and held its lease; None: not
        `within_s` after it."""
        times = await asyncio.gather(*(self._until(url, position, since, within_s) for url in self._urls.values()))
        return dict(zip(self._urls, times, strict=True))

    async def _until(self, url: str, position: Position, since: float, within_s: float) -> float | None:
        async with Connection(url, timeout_s=PATIENCE_S) as connection:
            while True:
                asked_at = time.monotonic()
                try:
                    answer = await connection.request("GET", "/status", self._fields)
                    if answer.status == 200 and knows(json.loads(answer.body), position):
                        return max(0.0, answer.received_at - since)
                except (NoAnswer, ValueError):
                    pass  # it starts, or is too busy: asked again
                if asked_at - since > within_s:
                    return None
                await asyncio.sleep(LOOK_EVERY_S)


def knows(status: Mapping[str, Any], position: Position) -> bool:
    """Whether a worker that says this of itself has applied everything up to `position`, and counts as following."""
    applied = status["applied"]
    return applied is not None and Position.parse(applied) >= position and bool(status["lease_held"])
