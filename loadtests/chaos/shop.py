"""The shop under fire as its supervisor and its workers' admin listeners tell it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from cache_policies.positions import Position
from loadtests.chaos import processes
from loadtests.chaos.schedule import SUPERVISOR, Command, Stage
from loadtests.faults import Breakage, FaultsUnavailable, what_is_wrong
from loadtests.http1 import Connection, NoAnswer
from loadtests.target import BadTarget, Target

ROLES = frozenset({"primary", "standby"})
"""Names of whoever has that role, which moves."""
LOOK_EVERY_S = 0.1
PATIENCE_S = 1.5
"""For one answer of an admin listener, and of the origin whether it is ready."""
APART_S = 0.5
"""Between two who ask the origin for that while neither is answered."""
WHOLE_WITHIN_S = 90.0
"""How long a shop may take until all of it runs again: a standby may have to be copied anew."""


class Shop:
    """A running shop, told to break and asked how it is."""

    def __init__(self, target: Target) -> None:
        """Raises BadTarget where the shop cannot be broken from here."""
        if target.control is None or not target.admin or target.admin_token is None:
            raise BadTarget("faults need a shop that `nearshelf up` runs on this machine, for this account")
        self.target = target
        self.questions: Mapping[str, str] = {}
        """Where each edge asks its questions, and `origin`, to which these lead; known with the stage."""
        self._breakage = Breakage(target.control)
        self._token = target.admin_token
        self._thawing: asyncio.subprocess.Process | None = None

    async def tell(self, command: Command) -> Mapping[str, Any]:
        """Carry out one command of docs/faults.md; what was answered when it was done. Raises FaultsUnavailable."""
        if command.get("name") == SUPERVISOR:
            await (self._freeze(float(command["s"])) if command["do"] == "freeze" else self._until_thawed())
            return {}
        return await asyncio.to_thread(self._breakage.ask, command)

    async def insist(self, command: Command, within_s: float = 60.0) -> Mapping[str, Any]:
        """The same, again and again until it is done: what is broken has to be mended. Raises FaultsUnavailable."""
        give_up_at = time.monotonic() + within_s
        while True:
            try:
                return await self.tell(command)
            except FaultsUnavailable:
                if time.monotonic() > give_up_at:
                    raise
                await asyncio.sleep(LOOK_EVERY_S)

    async def _freeze(self, lasts_s: float) -> None:
        """Stop the supervisor in its tracks; it goes on after `lasts_s` even if we are killed: nobody else would see
        to that, and it is deaf meanwhile."""
        pid = int((await self.status())["supervisor"])
        self._thawing = await asyncio.create_subprocess_exec(
            "sh",
            "-c",
            f"kill -STOP {pid}; sleep {lasts_s}; kill -CONT {pid}",
            stdin=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )

    async def _until_thawed(self) -> None:
        if self._thawing is not None:
            await self._thawing.wait()

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
        status = await self.status()
        names = [process["name"] for process in status["processes"]]
        edges = tuple(self.target.edges)
        self.questions = status["questions"]
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

    def address_of(self, name: str) -> str | None:
        """Where a worker answers; None for what is none of ours. Those of the origin share one, but for one of them."""
        edge, _, number = name.rpartition("-")
        if edge in self.target.admin:
            return self.target.admin[edge][int(number) - 1]
        if name == "origin-questions":
            return self.questions["origin"]
        return self.target.origin if edge == "origin" else None

    async def until_whole(self) -> str:
        """Until all run and nothing is broken; what is still wrong after WHOLE_WITHIN_S, if anything."""
        give_up_at = time.monotonic() + WHOLE_WITHIN_S
        while True:
            try:
                wrong = what_is_wrong(await self.status())
            except FaultsUnavailable as exc:
                wrong = str(exc)
            if not wrong or time.monotonic() > give_up_at:
                return wrong
            await asyncio.sleep(LOOK_EVERY_S)

    async def used(self) -> Sequence[tuple[str, int, int]]:
        """Name, bytes in memory and open files of each process that is ours, and of who keeps them. Raises
        FaultsUnavailable."""
        status = await self.status()
        pids = {process["name"]: process["pid"] for process in status["processes"] if process["role"] is None}
        found = []
        for name, pid in (pids | {"supervisor": status["supervisor"]}).items():
            with contextlib.suppress(OSError, TypeError):  # it has just ended
                found.append((name, processes.memory_bytes(pid), processes.open_files(pid)))
        return found

    def workers(self) -> Workers:
        """Once the stage is known."""
        return Workers(self.target.admin, self.questions, self._token)


class Known(NamedTuple):
    """When a worker knew everything. Moments of time.monotonic()."""

    asked_at: float
    """When the origin could be asked again on its way, or was given up."""
    at: float | None
    """None: not as long as anybody looked."""
    seconds: float | None
    """From when it could have asked: the origin answered, and the worker ran."""


class Workers:
    """Every edge worker, asked at its admin listener how far it is, and the way on which it asks the origin."""

    def __init__(self, admin: Mapping[str, Iterable[str]], questions: Mapping[str, str], token: str) -> None:
        """`questions`: where each edge asks."""
        self._urls = {f"{edge}-{number}": url for edge, urls in admin.items() for number, url in enumerate(urls, 1)}
        self._questions = {edge: questions[edge] for edge in admin}
        self._fields = {"Authorization": f"Bearer {token}"}

    async def until_they_know(
        self, head: Callable[[], Position], ended_at: float, killed: Collection[str], within_s: float
    ) -> dict[str, Known]:
        """Worker -> when, after `ended_at`, it had applied everything and held its lease.

        First somebody has to be answered who asks the origin's listener for questions whether it is ready, on the way
        of the worker's edge. From then on it has to know what is `head` at that moment, and is watched for `within_s`.
        Of a worker that was killed it counts from its own first answer.
        """
        asking = {edge: asyncio.create_task(_until_answered(url)) for edge, url in self._questions.items()}

        async def one(name: str, url: str) -> Known:
            answered = await asking[name.rpartition("-")[0]]
            if answered is None:
                return Known(time.monotonic(), None, None)
            return await self._until(url, head(), max(answered, ended_at), name in killed, within_s)

        times = await asyncio.gather(*(one(name, url) for name, url in self._urls.items()))
        return dict(zip(self._urls, times, strict=True))

    async def _until(self, url: str, position: Position, asked_at: float, killed: bool, within_s: float) -> Known:
        runs_since = asked_at
        async with Connection(url, timeout_s=PATIENCE_S) as connection:
            while True:
                looked_at = time.monotonic()
                try:
                    answer = await connection.request("GET", "/status", self._fields)
                    if killed:
                        runs_since, killed = max(asked_at, looked_at), False
                    if answer.status == 200 and knows(json.loads(answer.body), position):
                        return Known(asked_at, answer.received_at, max(0.0, answer.received_at - runs_since))
                except (NoAnswer, ValueError):
                    pass  # it starts, or is too busy: asked again
                if looked_at - runs_since > within_s:
                    return Known(asked_at, None, None)
                await asyncio.sleep(LOOK_EVERY_S)


async def _until_answered(url: str) -> float | None:
    """When somebody asked whether it is ready who was answered that it is; None: nobody was, within WHOLE_WITHIN_S.

    Asked again at once when that failed, and beside one that waits after APART_S: one that is stuck tells nothing of
    the next, and an origin that has just begun is not to be buried in such questions.
    """
    give_up_at, asked_at = time.monotonic() + WHOLE_WITHIN_S, float("-inf")
    asking: set[asyncio.Task[float | None]] = set()
    try:
        while (now := time.monotonic()) < give_up_at:
            if not asking or now >= asked_at + APART_S:
                asked_at = now
                asking.add(asyncio.create_task(_ready(url)))
            await asyncio.sleep(LOOK_EVERY_S)
            done = {task for task in asking if task.done()}
            times = [at for task in done if (at := task.result()) is not None]
            if times:
                return min(times)
            asking -= done
        return None
    finally:
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)


async def _ready(url: str) -> float | None:
    """When somebody set out to ask who was answered with 200; None: nobody was."""
    asked_at = time.monotonic()
    async with Connection(url, timeout_s=PATIENCE_S) as connection:
        try:
            answer = await connection.request("GET", "/readyz")
        except NoAnswer:
            return None
        return asked_at if answer.status == 200 else None


def knows(status: Mapping[str, Any], position: Position) -> bool:
    """Whether a worker that says this of itself has applied everything up to `position`, and counts as following."""
    applied = status["applied"]
    return applied is not None and Position.parse(applied) >= position and bool(status["lease_held"])
