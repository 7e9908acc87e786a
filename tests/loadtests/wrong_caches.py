"""Caches that are wrong on purpose, in the process: an interleaving that none of them fails cannot fail at all.

Both keep what the origin lets them keep, validate it and collapse or not. `Deletes` forgets what it is told to forget,
as caches do, and shows nothing stale. `Deaf` says that it has done what it is told, does nothing, and shows what it has
until the origin says something else.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from loadtests.http1 import Answer, Connection, NoAnswer
from loadtests.interleavings.caches import Cache, Change, Told
from loadtests.interleavings.origin import Origin

ORIGIN_S = 1.0
"""How long an origin that says nothing is waited for."""


@dataclass(slots=True)
class Kept:
    answer: Answer
    until: float


class Wrong(Cache):
    about = "wrong on purpose"
    forgets: ClassVar[bool]
    """What it is told to forget."""
    stale: ClassVar[bool]
    """Whether it shows what is stale."""

    def __init__(self, origin: Origin, folder: Path, inner: Cache | None = None) -> None:
        super().__init__(origin, folder, inner)
        self.kept: dict[str, Kept] = {}
        """Outlives a restart, as on a disk."""
        self.fetching: dict[str, asyncio.Task[Answer | None]] = {}
        self.refreshing: set[asyncio.Task[Answer | None]] = set()
        self.viewers: set[asyncio.Task[None]] = set()
        self.server: asyncio.Server
        self.now = 0.0

    def clock(self) -> float:
        return self.now

    async def wait(self, seconds: float) -> None:
        """Its clock is turned by hand."""
        self.now += seconds

    async def _start(self) -> None:
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self._running.push_async_callback(self._hang_up)

    async def _hang_up(self) -> None:
        self.server.close()
        tasks = [*self.viewers, *self.refreshing, *self.fetching.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def tell(self, change: Change, within_s: float) -> Told:
        if self.orders_lost or not self.server.is_serving():
            return Told(False, "the order is lost")
        if self.forgets:
            for page in change.pages:
                self.kept.pop(page.path, None)
        return Told(True, "it says so")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.viewers.add(task)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            answer = await self._answer(head.split(" ")[1])
            status, body = (502, b"") if answer is None else (answer.status, answer.body)
            told = {} if answer is None else answer.headers
            lines = [f"{name}: {told[name]}" for name in ("cache-control", "etag") if name in told]
            fields = "\r\n".join([*lines, f"Content-Length: {len(body)}", "Connection: close"])
            writer.write(f"HTTP/1.1 {status} Wrong\r\n{fields}\r\n\r\n".encode() + body)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.viewers.discard(task)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _answer(self, path: str) -> Answer | None:
        kept = self.kept.get(path)
        if kept is not None and self.now < kept.until:
            return kept.answer
        if kept is not None and self.stale:
            refresh = asyncio.create_task(self._fetch(path, kept))
            self.refreshing.add(refresh)
            refresh.add_done_callback(self.refreshing.discard)
            return kept.answer
        if path not in self.fetching:
            self.fetching[path] = asyncio.create_task(self._fetch(path, kept))
            self.fetching[path].add_done_callback(lambda _: self.fetching.pop(path))
        return await asyncio.shield(self.fetching[path])

    async def _fetch(self, path: str, kept: Kept | None) -> Answer | None:
        """None: the origin gives no answer."""
        fields = {} if kept is None else {"If-None-Match": kept.answer.headers["etag"]}
        async with Connection(self.upstream, ORIGIN_S) as connection:
            try:
                answer = await connection.request("GET", path, fields)
            except NoAnswer:
                return None
        if answer.status >= 500:
            return answer
        lived = re.search(r"max-age=(\d+)", answer.headers["cache-control"])
        assert lived is not None
        if answer.status == 304:
            assert kept is not None
            answer = kept.answer
        self.kept[path] = Kept(answer, self.now + int(lived[1]))
        return answer


class Deletes(Wrong):
    name = "deletes"
    forgets, stale = True, False


class Deaf(Wrong):
    name = "deaf"
    forgets, stale = False, True
