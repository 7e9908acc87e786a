"""Breaking a local shop on purpose while it is observed, through its supervisor's control socket (docs/faults.md)."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from loadtests.target import Target

ANSWER_S = 30.0


class FaultsUnavailable(Exception):
    """A fault could not be made or mended. Says which and why."""


class Faults:
    """The faults that a run may ask for."""

    def __init__(self, control: Path) -> None:
        self._control = control

    @classmethod
    def of(cls, target: Target) -> Faults:
        """Raises FaultsUnavailable where the shop has no control socket on this machine."""
        if target.control is None:
            raise FaultsUnavailable("this shop's ready file names no control socket: faults need a local shop")
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
                    writer.write(json.dumps(command).encode() + b"\n")
                    answer = json.loads(await reader.readline())
                finally:
                    writer.close()
        except (OSError, TimeoutError, ValueError) as exc:
            raise FaultsUnavailable(f"{command['do']}: {self._control}: {str(exc) or type(exc).__name__}") from exc
        if not answer.get("ok"):
            raise FaultsUnavailable(f"{command['do']}: {answer.get('error')}")
