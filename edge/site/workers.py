"""The worker processes of a site: started, kept, drained. None of them outlives the parent.

Each holds the reading end of one pipe, whose other end only the parent has: when it reads its end, the parent is gone,
however that came about, and the worker stops (`edge.gateway.__main__`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import sys
from collections import deque
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path

from edge.site.feed import Member, SiteFeed

READY_S = 60.0
"""How long a worker may take from its start until it has applied the purge log."""
BACKOFF_S = (0.0, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Before the next start of a worker that ended by itself: longer each time."""
SETTLED_S = 30.0
"""A worker that ran for so long is not in a loop: the next end is a first one again."""
DRAIN_S = 8.0
"""What a stopping worker has for its last answers, and to leave; then it is killed."""
REMEMBERED_LINES = 20

Say = Callable[[str], None]


class State(StrEnum):
    STARTING = "starting"
    READY = "ready"
    DOWN = "down"


class WorkerFailed(Exception):
    """A worker ended before it was ready; the text is its own. Or no process could be made; then it is the system's."""


class Worker:
    """One place in the crew, whichever process has it. `environment` gives what a process is told beside its own."""

    def __init__(
        self, number: int, feed: SiteFeed, folder: Path, environment: Mapping[str, str], lifeline: int, say: Say
    ) -> None:
        self.name = f"worker-{number}"
        self.admin = folder / f"{self.name}.admin"
        """The socket of its admin listener."""
        self.admin_token = secrets.token_urlsafe(24)
        self.state = State.DOWN
        self.restarts = 0
        self.member: Member | None = None
        self.process: asyncio.subprocess.Process | None = None
        self._feed = feed
        self._environment = environment
        self._lifeline = lifeline
        self._say = say
        self._lines: deque[str] = deque(maxlen=REMEMBERED_LINES)
        self._reading: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()

    @property
    def pid(self) -> int | None:
        return None if self.process is None else self.process.pid

    async def start(self) -> None:
        """Start a process and wait until it has applied the log. Raises WorkerFailed when there can be none now, when
        it ends before that, or takes too long; by then it has ended."""
        key = secrets.token_urlsafe(24)
        self.state, self.member = State.STARTING, self._feed.join(self.name, key)
        self._lines.clear()
        try:
            # -P: the folder in which the command was given is nothing to import from.
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "edge.gateway"),
                env={
                    **self._environment,
                    "NEARSHELF_ADMIN_LISTEN": f"unix:{self.admin}",
                    "NEARSHELF_ADMIN_TOKEN": self.admin_token,
                    "NEARSHELF_EDGE_KEY": key,
                    "NEARSHELF_LIFELINE": str(self._lifeline),
                },
                stdin=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                pass_fds=(self._lifeline,),
                # Ctrl-C is the parent's to hear: it drains the workers.
                start_new_session=True,
            )
        except OSError as exc:
            # No memory, process or descriptor to be had at the moment. Nobody has the key that was made for it.
            self._feed.reaped(self.member)
            self.state, self.member = State.DOWN, None
            raise WorkerFailed(f"{self.name}: no process can be made: {exc}") from exc
        self._reading = asyncio.create_task(self._read(self.process))
        ended = asyncio.create_task(self.process.wait())
        applied = asyncio.create_task(self._feed.until_applied(self.member))
        try:
            await asyncio.wait({ended, applied}, timeout=READY_S, return_when=asyncio.FIRST_COMPLETED)
            if ended.done() or not applied.done():
                why = f"ended with status {self.process.returncode}" if ended.done() else "did not get ready"
                await self._end()
                raise WorkerFailed("\n".join(self._lines) or f"{self.name} {why}")
        finally:
            for task in (ended, applied):
                task.cancel()
            await asyncio.gather(ended, applied, return_exceptions=True)
        self.state = State.READY

    async def keep(self) -> None:
        """Start it again whenever it ends, until cancelled or stopped."""
        loop = asyncio.get_running_loop()
        tries = 0
        while not self._stopping.is_set():
            assert self.process is not None
            started = loop.time()
            if self.state is State.READY:
                status = await self.process.wait()
                await self._end()
                if self._stopping.is_set():
                    return
                how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
                last = f": {self._lines[-1]}" if self._lines else ""
                self._say(f"{self.name} {how}; starting it again{last if status > 0 else ''}")
                tries = 0 if loop.time() - started > SETTLED_S else tries
            await asyncio.sleep(BACKOFF_S[min(tries, len(BACKOFF_S) - 1)])
            tries += 1
            if self._stopping.is_set():
                return
            try:
                self.restarts += 1
                await self.start()
            except WorkerFailed as exc:
                again_s = BACKOFF_S[min(tries, len(BACKOFF_S) - 1)]
                self._say(f"{self.name} does not start (again in {again_s:g} s):\n{exc}")
            else:
                self._say(f"{self.name} is ready again")

    async def stop(self) -> None:
        """Drain it, then kill it."""
        self._stopping.set()
        if self.process is None:
            return
        self.signal(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                await self.process.wait()
        await self._end()

    def signal(self, number: int) -> None:
        if self.process is not None and self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)

    async def _end(self) -> None:
        """Make certain that the process is no more, and tell the feed."""
        assert self.process is not None
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
        await self.process.wait()
        self.state = State.DOWN
        if self.member is not None:
            self._feed.reaped(self.member)
            self.member = None
        if self._reading is not None:
            await self._reading
            self._reading = None
        self.admin.unlink(missing_ok=True)

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        """Pass on what it says, line by line, with its name."""
        assert process.stderr is not None
        while True:
            try:
                line = await process.stderr.readline()
            except ValueError:
                continue  # longer than asyncio keeps; what follows is read on
            if not line:
                return
            text = line.decode("utf-8", "replace").rstrip()
            self._lines.append(text)
            if self.state is State.READY:
                with contextlib.suppress(OSError):
                    os.write(2, f"{self.name} {text}\n".encode())
