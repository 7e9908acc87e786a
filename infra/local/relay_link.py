"""Our end of infra.local.relay: commands to its standard input, answers from its output."""

from __future__ import annotations

import asyncio
import json
from asyncio.subprocess import Process
from typing import Any

from infra.local.errors import LocalError
from infra.local.processes import Child, tail

READY_S = 60.0
"""How long it may take to listen."""


class RelayLink:
    """One relay after the other, as they are started."""

    def __init__(self) -> None:
        self._child: Child | None = None
        self._listening: asyncio.Task[None] | None = None
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._number = 0
        self._ready = asyncio.Event()

    async def attach(self, child: Child) -> None:
        """Talk to this process from now on. Raises LocalError when it does not come up."""
        self._child = child
        self._ready.clear()
        self._listening = asyncio.ensure_future(self._listen(child))
        ready = asyncio.ensure_future(self._ready.wait())
        try:
            await asyncio.wait({ready, self._listening}, timeout=READY_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ready.cancel()
        if not self._ready.is_set():
            raise LocalError(f"the relay did not start; {tail(child.last_words(12), child.log)}")

    async def ask(self, command: dict[str, Any]) -> dict[str, Any]:
        """Raises LocalError when the relay refuses, or is not there."""
        child = self._child
        if child is None or not child.is_running:
            raise LocalError("the relay is not running; try again in a second")
        assert isinstance(child.process, Process)
        assert child.process.stdin is not None
        self._number += 1
        number = self._number
        answer = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            child.process.stdin.write(json.dumps({"id": number, **command}).encode() + b"\n")
            async with asyncio.timeout(10.0):
                result: dict[str, Any] = await answer
        except TimeoutError as exc:
            raise LocalError("the relay does not answer; is it frozen?") from exc
        finally:
            self._waiting.pop(number, None)
        if not result.get("ok"):
            raise LocalError(str(result.get("error")))
        return result

    async def _listen(self, child: Child) -> None:
        assert isinstance(child.process, Process)
        assert child.process.stdout is not None
        while line := await child.process.stdout.readline():
            message = json.loads(line)
            if message.get("ready"):
                self._ready.set()
            elif (waiting := self._waiting.get(message.get("id"))) is not None and not waiting.done():
                waiting.set_result(message)
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(LocalError("the relay ended"))
