"""Breaking a local shop on purpose while it is observed, through its supervisor's control socket (docs/faults.md)."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from loadtests.target import Target

ANSWER_S = 30.0
STARTING_S = 120.0
"""How long a blocking command may take: starting the origin again is one."""
NO_CONTROL = "this shop's ready file names no control socket: faults need a local shop"
_MENDED_BY: Mapping[str, Callable[[Mapping[str, str]], dict[str, Any]]] = {
    "stop": lambda broken: {"do": "start", "name": broken["name"]},
    "freeze": lambda broken: {"do": "thaw", "name": broken["name"]},
    "cut": lambda broken: {**broken, "do": "heal"},
    "stall": lambda broken: {**broken, "do": "heal"},
    "pause-replay": lambda _: {"do": "resume-replay"},
    "delay-replay": lambda _: {"do": "delay-replay", "ms": 0},
}
"""What a run may do to a shop -> what undoes it; each may be told to a shop that is whole already. A killed process is
started again by its supervisor."""


class FaultsUnavailable(Exception):
    """A fault could not be made or mended. Says which and why."""


def _asked(command: Mapping[str, Any]) -> bytes:
    """A command as the control socket takes it: a line of JSON."""
    return json.dumps(dict(command)).encode() + b"\n"


def _answered(command: Mapping[str, Any], line: bytes) -> dict[str, Any]:
    """The answer, a line of JSON as well. Raises FaultsUnavailable where the command was not obeyed."""
    try:
        answer = dict(json.loads(line))
    except (ValueError, TypeError) as exc:
        raise _unreachable(command, exc) from exc
    if not answer.get("ok"):
        raise FaultsUnavailable(f"{command['do']}: {answer.get('error')}")
    return answer


def _unreachable(command: Mapping[str, Any], exc: Exception) -> FaultsUnavailable:
    """Without the path of the socket: this is told in reports, which go to others."""
    why = str(exc) or type(exc).__name__
    return FaultsUnavailable(f"{command['do']}: the shop's control socket: {why}; does the shop run (`./dev up`)?")


class Faults:
    """The faults that a run may ask for."""

    def __init__(self, control: Path) -> None:
        self._control = control

    @classmethod
    def of(cls, target: Target) -> Faults:
        """Raises FaultsUnavailable where the shop has no control socket on this machine."""
        if target.control is None:
            raise FaultsUnavailable(NO_CONTROL)
        return cls(target.control)

    async def pause_replay(self) -> None:
        """The standby goes on receiving changes and stops showing them."""
        await self._do({"do": "pause-replay"})

    async def resume_replay(self) -> None:
        await self._do({"do": "resume-replay"})

    async def cut(self, edge: str) -> None:
        """No question of `edge` reaches the origin; its fills do."""
        await self._do({"do": "cut", "edge": edge, "channel": "questions"})

    async def heal(self, edge: str) -> None:
        await self._do({"do": "heal", "edge": edge, "channel": "questions"})

    async def _do(self, command: dict[str, str]) -> None:
        try:
            async with asyncio.timeout(ANSWER_S):
                reader, writer = await asyncio.open_unix_connection(str(self._control))
                try:
                    writer.write(_asked(command))
                    _answered(command, await reader.readline())
                finally:
                    writer.close()
        except (OSError, ValueError) as exc:
            raise _unreachable(command, exc) from exc


class Breakage:
    """What a run breaks, and mends at its end whatever happens. Blocking: each call returns when the thing is done."""

    def __init__(self, control: Path | None) -> None:
        self._control = control
        self._broken: list[dict[str, str]] = []

    def tell(self, command: Mapping[str, str]) -> None:
        """Carry out one command of docs/faults.md. Raises FaultsUnavailable."""
        if command["do"] in _MENDED_BY:
            # Noted first: a command that got no answer may have been obeyed.
            self._broken.append(dict(command))
        self.ask(command)
        self._broken = [broken for broken in self._broken if _MENDED_BY[broken["do"]](broken) != dict(command)]

    def mend(self) -> list[str]:
        """Undo what was broken and not mended yet, the latest first; says what could not be undone."""
        failed = []
        while self._broken:
            command = _MENDED_BY[self._broken[-1]["do"]](self._broken.pop())
            try:
                self.ask(command)
            except FaultsUnavailable as exc:
                failed.append(f"{exc}; `nearshelf fault list` shows what is broken, `nearshelf fault heal` mends it")
        return failed

    def in_force(self) -> list[str]:
        """What is broken now, by whomever, in words. Raises FaultsUnavailable."""
        return [str(text) for text in self.ask({"do": "faults"})["faults"]]

    def ask(self, command: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to one command. Raises FaultsUnavailable."""
        if self._control is None:
            raise FaultsUnavailable(NO_CONTROL)
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(STARTING_S)
                connection.connect(str(self._control))
                connection.sendall(_asked(command))
                with connection.makefile("rb") as lines:
                    return _answered(command, lines.readline())
        except OSError as exc:
            raise _unreachable(command, exc) from exc


def what_is_wrong(status: Mapping[str, Any]) -> str:
    """Why a shop is not whole, by what it says of itself (`status`); empty: it is."""
    wrong = [
        f"{process['name']} is {process['condition']}"
        for process in status["processes"]
        if process["condition"] != "running"
    ]
    wrong += status["faults"]
    replication = status["replication"]
    if replication.get("state") != "streaming":
        wrong.append(f"replication: {replication.get('error') or replication.get('state')}")
    if not status["failover"]["whole"]:
        wrong.append("failover: no standby may be promoted yet")
    return "; ".join(wrong)
