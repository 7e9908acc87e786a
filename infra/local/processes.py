"""Starting, watching and ending child processes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from asyncio.subprocess import Process
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from infra.local.errors import LocalError

PATIENCE_S = 8.0
"""How long a process may take to end once asked; then it is killed."""
BACKOFF_S = (0.1, 0.5, 1.0, 2.0, 5.0)
"""Pauses before starting a process again; the last one repeats."""
SETTLED_S = 30.0
"""A process that lived this long is taken as sound: the next pause is the first again."""


@dataclass(frozen=True, slots=True)
class Account:
    """Whom a process runs as, when we are root and it must not be."""

    uid: int
    gid: int
    name: str


@dataclass(frozen=True, slots=True)
class Program:
    """How one process is started and asked to stop."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: Path
    stop_signal: int = signal.SIGTERM
    account: Account | None = None
    arguments: tuple[str, ...] = ()
    """The part of `argv` after the module, for a nursery that has it already."""
    talks: bool = False
    """Takes commands on standard input and answers on standard output."""


class Tether:
    """Our end of infra.local.tether, which ends the children if we are killed."""

    def __init__(self, runtime: Path, lock_descriptor: int) -> None:
        self._runtime = runtime
        self._lock_descriptor = lock_descriptor
        self._process: Process | None = None

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-S", "-E", str(Path(__file__).with_name("tether.py")), str(self._runtime)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=(self._lock_descriptor,),
            cwd="/",
        )

    def _tell(self, message: dict[str, int]) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        if not self._process.stdin.is_closing():
            self._process.stdin.write(json.dumps(message).encode() + b"\n")

    def add(self, pid: int, stop_signal: int) -> None:
        self._tell({"add": pid, "signal": int(stop_signal)})

    def remove(self, pid: int) -> None:
        self._tell({"remove": pid})

    async def stop(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            await self._process.wait()


class Running(Protocol):
    """A started process; asyncio's Process is one."""

    @property
    def pid(self) -> int: ...
    @property
    def returncode(self) -> int | None:
        """Negative for a signal; None while it runs."""

    async def wait(self) -> int: ...
    def send_signal(self, signal: int, /) -> None: ...


class Log:
    """The file that a process prints to. The one of the run before is kept as NAME.log.1."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with contextlib.suppress(FileNotFoundError):
            path.replace(path.with_name(path.name + ".1"))

    def open(self) -> int:
        return os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def size(self) -> int:
        try:
            return self.path.stat().st_size
        except OSError:
            return 0

    def last_lines(self, count: int, since: int = 0) -> list[str]:
        """The last lines that say anything, oldest first, of what was printed after byte `since`."""
        try:
            with self.path.open("rb") as file:
                file.seek(max(since, self.size() - 16_384))
                lines = file.read().decode(errors="replace").splitlines()
        except OSError:
            return []
        return [line.rstrip() for line in lines if line.strip()][-count:]


@dataclass(slots=True)
class Child:
    """A program and, while it runs, its process. Whoever has the child decides whether it is started again."""

    program: Program
    log: Log
    tether: Tether
    nursery: Nursery | None = None
    """Who forks it; None: it is executed."""
    process: Running | None = None
    started_at: float = 0.0
    """On the monotonic clock."""
    restarts: int = 0
    frozen: bool = False
    _log_from: int = field(default=0)

    @property
    def name(self) -> str:
        return self.program.name

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.is_running and self.process is not None else None

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.returncode is None

    async def start(self) -> None:
        """Raises LocalError when the program cannot be executed."""
        program = self.program
        self._log_from = self.log.size()
        if self.nursery is not None:
            self.process = await self.nursery.fork(program, self.log)
        else:
            output = self.log.open()
            try:
                self.process = await _spawn(program, output)
            except OSError as exc:
                raise LocalError(f"{self.name} cannot be started: {program.argv[0]}: {exc.strerror}") from exc
            finally:
                os.close(output)
        self.tether.add(self.process.pid, program.stop_signal)
        self.started_at = time.monotonic()
        self.frozen = False

    async def wait(self) -> int:
        """Until it has ended; its exit status, negative for a signal."""
        assert self.process is not None
        process = self.process
        status = await process.wait()
        self.tether.remove(process.pid)
        if self.process is process:
            self.frozen = False
        return status

    async def stop(self) -> None:
        """Ask, wait, and after PATIENCE_S insist. Does nothing when it is not running."""
        process = self.process
        if process is None or process.returncode is not None:
            return
        self.thaw()
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(self.program.stop_signal)
        try:
            async with asyncio.timeout(PATIENCE_S):
                await process.wait()
        except TimeoutError:
            self.kill()
            await process.wait()
        self.tether.remove(process.pid)

    def kill(self) -> None:
        for pid in self._family() if self.is_running else ():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def freeze(self) -> None:
        """Stop it in its tracks, with its children; it keeps its connections and says nothing."""
        self._signal_family(signal.SIGSTOP)
        self.frozen = True

    def thaw(self) -> None:
        self._signal_family(signal.SIGCONT)
        self.frozen = False

    def _signal_family(self, number: int) -> None:
        for pid in self._family():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _family(self) -> list[int]:
        """The process and, where /proc tells, its children: PostgreSQL is many processes."""
        if self.pid is None:
            return []
        children: list[int] = []
        with contextlib.suppress(OSError, ValueError):
            text = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text(encoding="ascii")
            children = [int(word) for word in text.split()]
        return [self.pid, *children]

    def last_words(self, count: int = 1) -> list[str]:
        """What it printed last since it was started."""
        return self.log.last_lines(count, self._log_from)


class Worker:
    """A process that a nursery forked."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._ended = asyncio.Event()

    def end(self, status: int) -> None:
        self.returncode = status
        self._ended.set()

    async def wait(self) -> int:
        await self._ended.wait()
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, signal: int, /) -> None:
        if self.returncode is None:
            os.kill(self.pid, signal)


class Nursery:
    """Our end of infra.local.nursery: workers of one module, forked from a process that has read it already.

    When the nursery ends, nobody could tell any more how its workers end: they are killed, and whoever keeps them
    starts them again from a new nursery.
    """

    def __init__(self, program: Program, log: Log, tether: Tether) -> None:
        self._child = Child(program, log, tether)
        self._listening: asyncio.Task[None] | None = None
        self._asked: deque[asyncio.Future[int]] = deque()
        self._workers: dict[int, Worker] = {}
        self._starting = asyncio.Lock()

    async def start(self) -> None:
        """Does nothing when it runs. Raises LocalError when it cannot be executed."""
        async with self._starting:
            if not self._child.is_running:
                if self._listening is not None:
                    await self._listening
                await self._child.start()
                self._listening = asyncio.ensure_future(self._listen())

    async def fork(self, program: Program, log: Log) -> Worker:
        """Raises LocalError when the nursery could not read its modules."""
        await self.start()
        process = self._child.process
        assert isinstance(process, Process)
        assert process.stdin is not None
        started: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._asked.append(started)
        command = {
            "name": program.name,
            "arguments": program.arguments,
            "env": dict(program.env),
            "log": str(log.path),
        }
        process.stdin.write(json.dumps(command).encode() + b"\n")
        pid = await started
        return self._workers[pid]

    async def stop(self) -> None:
        """With whatever is left of its workers."""
        for worker in self._workers.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker.pid, signal.SIGKILL)
        process = self._child.process
        if isinstance(process, Process) and process.stdin is not None:
            process.stdin.close()
        await self._child.stop()
        if self._listening is not None:
            await self._listening

    async def _listen(self) -> None:
        process = self._child.process
        assert isinstance(process, Process)
        assert process.stdout is not None
        while line := await process.stdout.readline():
            news = json.loads(line)
            if "started" in news:
                pid = news["started"]
                self._workers[pid] = Worker(pid)
                started = self._asked.popleft()
                if started.cancelled():
                    os.kill(pid, signal.SIGKILL)  # nobody waits for it any more
                else:
                    started.set_result(pid)
            elif (worker := self._workers.pop(news["ended"], None)) is not None:
                worker.end(news["status"])
        await self._child.wait()
        for started in self._asked:
            if not started.done():
                child = self._child
                words = tail(child.last_words(12), child.log)
                started.set_exception(LocalError(f"{child.name} ended while starting; {words}"))
        self._asked.clear()
        for worker in self._workers.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker.pid, signal.SIGKILL)
            worker.end(-signal.SIGKILL)
        self._workers.clear()


async def _spawn(program: Program, output: int) -> Process:
    """In a session of its own: Ctrl-C is for the supervisor, which knows the order. Raises OSError."""
    account = program.account
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        *program.argv,
        stdin=pipe if program.talks else asyncio.subprocess.DEVNULL,
        stdout=pipe if program.talks else output,
        stderr=output,
        env=dict(program.env),
        cwd=program.cwd,
        start_new_session=True,
        user=account.uid if account is not None else None,
        group=account.gid if account is not None else None,
        extra_groups=[] if account is not None else None,
    )


async def run_once(program: Program, log: Log, tether: Tether, nursery: Nursery | None = None) -> None:
    """Run a program to its end. Ends it, and waits for that, when we are cancelled.

    Raises LocalError with the last lines that it printed when it fails.
    """
    child = Child(program, log, tether, nursery)
    await child.start()
    try:
        status = await child.wait()
    except asyncio.CancelledError:
        await child.stop()
        raise
    if status != 0:
        raise LocalError(f"{program.name} failed ({describe_status(status)}); {tail(child.last_words(12), log)}")


def describe_status(status: int) -> str:
    """An exit status in words."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"


def tail(lines: list[str], log: Log) -> str:
    """The end of a log, for an error message."""
    if not lines:
        return f"it printed nothing (log: {log.path})"
    return "it said last:\n" + "\n".join("    " + line for line in lines) + f"\n  log: {log.path}"
