"""The control socket of a running shop: one JSON object a line, one answer a line (docs/faults.md)."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from infra.local.errors import LocalError

ANSWER_S = 120.0
"""How long a command may take: starting the origin again is one."""
LINE_BYTES = 1 << 20

Handler = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]
"""Carries out a command; raises LocalError when it cannot be done."""


class ControlServer:
    """Listens on a unix socket that only our own account may use."""

    def __init__(self, path: Path, handler: Handler) -> None:
        self.path = path
        self._handler = handler
        self._server: asyncio.Server | None = None
        self._conversations: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        before = os.umask(0o177)
        try:
            self._server = await asyncio.start_unix_server(self._accept, str(self.path), limit=LINE_BYTES)
        finally:
            os.umask(before)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for conversation in self._conversations:
            conversation.cancel()
        await asyncio.gather(*self._conversations, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._conversations.add(task)
        try:
            while line := await reader.readline():
                writer.write(json.dumps(await self._answer(line)).encode() + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError):
            pass  # gone, or a line without end: nothing to answer
        finally:
            self._conversations.discard(task)
            writer.close()

    async def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            command = json.loads(line)
            if not isinstance(command, dict):
                raise ValueError("not an object")
        except ValueError:
            return {"ok": False, "error": "a command is a JSON object on one line"}
        try:
            return {"ok": True, **await self._handler(command)}
        except LocalError as exc:
            return {"ok": False, "error": str(exc)}


def ask(path: Path, command: dict[str, Any]) -> dict[str, Any]:
    """Send one command and wait for its answer.

    Raises LocalError when nobody listens, or the command could not be carried out.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(ANSWER_S)
        try:
            connection.connect(str(path))
            connection.sendall(json.dumps(command).encode() + b"\n")
            with connection.makefile("rb") as lines:
                line = lines.readline()
        except TimeoutError as exc:
            raise LocalError(f"the shop did not answer within {ANSWER_S:.0f} s; is `nearshelf up` stopped?") from exc
        except OSError as exc:
            raise LocalError(
                f"the shop cannot be reached at {path}: {exc.strerror}; is `nearshelf up` running?"
            ) from exc
    if not line:
        raise LocalError("the shop ended while it was asked")
    answer: dict[str, Any] = json.loads(line)
    if not answer.get("ok"):
        raise LocalError(str(answer.get("error")))
    return answer
