"""A seeded event loop on virtual time, whose every step belongs to a process that can be killed, frozen or stopped.

The code that runs on it is asyncio's and ours, unchanged. What happens next is decided here alone: timers and messages
by their times, and among processes that could go on at the same moment by the seed. Nothing waits, no thread runs, and
what a seed does it does again.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import random
import sys
import traceback
import zlib
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from tests.simulation.engine.processes import OWNER, Handle, Process, nothing

T = TypeVar("T")

TURN_S = 1e-7
"""The least by which a timer is away."""
MOST_STEPS_AT_ONE_MOMENT = 200_000
"""More of them without time passing: somebody goes round in a circle."""
DEEPEST_STALL = 3
"""How many processes may be stopped in the middle of a step at the same time."""
THREAD_S = (0.0001, 0.005)
"""How long what is meant for a thread takes, in virtual seconds."""

_TRACE_BITS = (1 << 64) - 1
_MIX, _STEP = 6_364_136_223_846_793_005, 1_442_695_040_888_963_407
"""Knuth's multiplier and increment for 64 bits."""


class Stuck(Exception):
    """The simulated program goes round in a circle at one moment of virtual time."""


if TYPE_CHECKING:
    # What it does not have, nobody may ask for; typeshed would have all of it spelt out.
    _Base = asyncio.BaseEventLoop
else:
    _Base = asyncio.AbstractEventLoop


class SimLoop(_Base):
    """`seed` decides everything. `telling`: keep what `note` is told as `story`."""

    def __init__(self, seed: int, *, telling: bool = False) -> None:
        self.seed = seed
        self.now = 0.0
        """Virtual seconds since the beginning."""
        self.steps = 0
        self.trace = 0
        """What has happened so far, and in which order, as 64 bits."""
        self.telling = telling
        self.story: list[tuple[float, str, str]] = []
        """Virtual time, process, what it did."""
        self.faults: list[str] = []
        """What callbacks and tasks let escape."""
        self._draws: dict[str, random.Random] = {}
        self._random = self.draws("order").random
        self._stall_draws = self.draws("stalls")
        self._thread_draws = self.draws("threads")
        self._heap: list[tuple[float, int, Handle]] = []
        self._pushed = 0
        self._runnable: list[Process] = []
        self._processes = 0
        self._incarnations: dict[str, int] = {}
        self._graves: list[Any] = []
        """What dead processes leave: let go, it would run their `finally`."""
        self._stopping = False
        self._until = 0.0
        self._closed = False
        self._depth = 0
        self.connect_over: Callable[..., Coroutine[Any, Any, Any]] | None = None
        """Set by the network."""
        self.world = self.process("world")
        """Who makes things happen from outside."""
        self.current = self.world

    # -- the world's side ----------------------------------------------------------------------------------------------

    def process(
        self, name: str, *, rate: float = 1.0, offset_s: float = 1_000.0, wall_offset_s: float = 1_767_225_600.0
    ) -> Process:
        """A new process. `rate`: how fast its clock runs; `offset_s`: what that shows at the beginning."""
        self._processes += 1
        incarnation = self._incarnations[name] = self._incarnations.get(name, 0) + 1
        return Process(self, name, self._processes, incarnation, rate, offset_s, wall_offset_s)

    def after(self, process: Process, delay_s: float, callback: Callable[..., object], *args: Any) -> Handle:
        """`callback(*args)` in `process`, in `delay_s` virtual seconds, as a timer of its own."""
        return self.push(Handle(process, callback, args, process.context, self.now + delay_s))

    def draws(self, name: str) -> random.Random:
        """The random numbers of that name, always the same object."""
        if name not in self._draws:
            self._draws[name] = random.Random(f"{self.seed}/{name}")
        return self._draws[name]

    def note(self, text: str) -> None:
        """What happened, in words: part of the trace, and of the story."""
        self.trace = (self.trace * _MIX + zlib.crc32(text.encode())) & _TRACE_BITS
        if self.telling:
            self.story.append((self.now, self.current.name, text))

    def run(self, until: float) -> None:
        """Let happen what happens before the virtual moment `until`, or before somebody calls `stop`, or nothing is
        left. Raises Stuck."""
        self._stopping = False
        self._until = until
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(firstiter=nothing, finalizer=self._finalize)
        before = asyncio._get_running_loop()
        asyncio._set_running_loop(self)
        try:
            self._run(until)
        finally:
            asyncio._set_running_loop(before)
            sys.set_asyncgen_hooks(*hooks)
            self.current = self.world

    def stop(self) -> None:
        """End `run` after this step."""
        self._stopping = True

    def close(self) -> None:
        """End of the simulation: nothing happens any more, and what was under way is let go without a word."""
        if self._closed:
            return
        self._closed = True
        self._heap.clear()
        self._runnable.clear()
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(firstiter=nothing, finalizer=nothing)
        before = asyncio._get_running_loop()
        asyncio._set_running_loop(self)
        try:
            for task in asyncio.all_tasks(self):
                task._log_destroy_pending = False  # type: ignore[attr-defined]  # as asyncio itself does
                coroutine = task.get_coro()
                try:
                    coroutine.close()
                except Exception:  # whoever waits in a `finally` waits in vain
                    continue
            self._graves.clear()
        finally:
            asyncio._set_running_loop(before)
            sys.set_asyncgen_hooks(*hooks)

    # -- the heart -----------------------------------------------------------------------------------------------------

    def _run(self, until: float) -> None:
        heap, runnable, draw, pop = self._heap, self._runnable, self._random, heapq.heappop
        since = self.steps
        while not self._stopping:
            if runnable:
                count = len(runnable)
                at = 0 if count == 1 else int(draw() * count)
                process = runnable[at]
                ready = process.ready
                handle = ready.popleft()
                if not ready:
                    runnable[at] = runnable[-1]
                    runnable.pop()
                    process.is_queued = False
                if handle.is_cancelled:
                    continue
                self.current = process
                self.steps = steps = self.steps + 1
                self.trace = (self.trace * _MIX + process.index * _STEP) & _TRACE_BITS
                if steps - since > MOST_STEPS_AT_ONE_MOMENT:
                    raise Stuck(f"{process} goes round in a circle at {self.now:.6f} s: {handle.callback!r}")
                try:
                    handle.context.run(handle.callback, *handle.args)
                except Exception as exc:
                    self.call_exception_handler({"message": f"a callback of {process} failed", "exception": exc})
                if process.is_doomed:
                    process.die_if_doomed()
                continue
            if not heap or heap[0][0] > until:
                self.now = max(self.now, until)
                return
            when = heap[0][0]
            if when > self.now:
                self.now = when
                self.trace = (self.trace * _MIX + int(when * 1e7)) & _TRACE_BITS
                since = self.steps
            while heap and heap[0][0] <= when:
                self._arrive(pop(heap)[2])

    def _arrive(self, handle: Handle) -> None:
        """The time of `handle` has come."""
        if handle.is_cancelled:
            return
        process = handle.process
        if not process.alive:
            self._graves.append(handle)
        elif process.stopped:
            process.hold(handle)
        else:
            process.ready.append(handle)
            if not process.is_queued:
                process.is_queued = True
                self._runnable.append(process)

    def push(self, handle: Handle) -> Handle:
        """Let `handle` come at its time."""
        if not self._closed:
            self._pushed += 1
            heapq.heappush(self._heap, (handle.virtual, self._pushed, handle))
        return handle

    def queue(self, process: Process) -> None:
        """`process` may go on, if it has anything to do."""
        if process.ready and not process.is_queued:
            process.is_queued = True
            self._runnable.append(process)

    def unqueue(self, process: Process) -> None:
        """`process` does not go on for now."""
        if process.is_queued:
            process.is_queued = False
            self._runnable.remove(process)

    def postpone_timers(self, process: Process, by_s: float, held: list[Handle]) -> None:
        """The timers of `process` come `by_s` later; `held` are those whose time had come meanwhile."""
        heap = []
        for when, number, handle in self._heap:
            if handle.process is process and not handle.is_message:
                handle.virtual += by_s
                heap.append((handle.virtual, number, handle))
            else:
                heap.append((when, number, handle))
        heapq.heapify(heap)
        self._heap[:] = heap
        for handle in held:
            handle.virtual += by_s
            self.push(handle)

    def bury(self, *what: object) -> None:
        """Keep until the end what a dead process has left."""
        self._graves.append((what, list(asyncio.all_tasks(self))))

    # -- stopped in the middle of a step -------------------------------------------------------------------------------

    def chance(self, probability: float) -> bool:
        return self._stall_draws.random() < probability

    def stalled_reading(self, process: Process) -> float:
        """What `process`, which is running, reads from its clock when it is stopped right before or after that."""
        stale = self._stall_draws.random() < 0.5
        reading = process.offset_s + self.now * process.rate
        assert process.stalls is not None
        self.stall(process, self._stall_draws.uniform(0.0, process.stalls[1]))
        return reading if stale else process.offset_s + self.now * process.rate

    def stall(self, process: Process, for_s: float) -> None:
        """Stop `process` here, in the middle of its step, and let all others go on for `for_s` virtual seconds."""
        if self._depth >= DEEPEST_STALL:
            return
        task = asyncio.current_task(self)
        if task is not None:
            asyncio.tasks._leave_task(self, task)
        self._depth += 1
        process.stop_midway()
        self.note(f"stops in the middle of a step for {for_s:.3f} s")
        try:
            self._run(min(self.now + for_s, self._until))
            while process.frozen and self.now < self._until and not self._stopping:
                self._run(min(self.now + 0.1, self._until))
        finally:
            self._depth -= 1
            self.current = process
            if task is not None:
                asyncio.tasks._enter_task(self, task)
            process.go_on_midway()

    # -- asyncio's side ------------------------------------------------------------------------------------------------

    def time(self) -> float:
        process = self.current
        return process.on_its_clock(self.now)

    def call_soon(  # type: ignore[override]  # its handles are ours
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> Any:
        if context is None:
            process, context = self.current, contextvars.copy_context()
        else:
            process = context.get(OWNER, self.world)
        handle = Handle(process, callback, args, context)
        if self._closed:
            return handle
        if not process.alive:
            self._graves.append(handle)
            return handle
        process.ready.append(handle)
        if not process.is_queued and not process.stopped:
            process.is_queued = True
            self._runnable.append(process)
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]  # as there

    def call_at(  # type: ignore[override]  # its handles are ours
        self, when: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> Any:
        if context is None:
            process, context = self.current, contextvars.copy_context()
        else:
            process = context.get(OWNER, self.world)
        return self.push(
            Handle(process, callback, args, context, max(process.in_virtual_time(when), self.now + TURN_S))
        )

    def call_later(  # type: ignore[override]  # its handles are ours
        self, delay: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> Any:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(  # type: ignore[override]  # its name and context are for asyncio
        self, coro: Coroutine[Any, Any, T], *, name: str | None = None, context: contextvars.Context | None = None
    ) -> asyncio.Task[T]:
        return asyncio.Task(coro, loop=self, name=name, context=context)

    async def create_connection(  # type: ignore[override]  # of asyncio's many ways, the one that is used
        self, protocol_factory: Callable[[], asyncio.BaseProtocol], host: str, port: int, **_: Any
    ) -> tuple[asyncio.Transport, asyncio.BaseProtocol]:
        """A connection over the simulated network. Raises ConnectionRefusedError where nobody listens."""
        if self.connect_over is None:
            raise ConnectionRefusedError(f"there is no network to reach {host}:{port} over")
        made: tuple[asyncio.Transport, asyncio.BaseProtocol] = await self.connect_over(protocol_factory, host)
        return made

    def run_in_executor(  # type: ignore[override]  # a future, as there, and nobody gives an executor
        self, executor: Any, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """What is meant for a thread is done in a moment, all at once."""
        future: asyncio.Future[T] = self.create_future()

        def done() -> None:
            if future.done():
                return
            try:
                future.set_result(func(*args))
            except Exception as exc:
                future.set_exception(exc)

        self.current.post(self._thread_draws.uniform(*THREAD_S), done)
        return future

    def is_running(self) -> bool:
        return not self._closed

    def is_closed(self) -> bool:
        return self._closed

    def get_debug(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if self._closed:
            return
        exc = context.get("exception")
        told = "" if exc is None else "".join(traceback.format_exception(exc))
        self.faults.append(f"{self.now:.6f} {self.current}: {context.get('message')}\n{told}")

    def _finalize(self, generator: AsyncGenerator[Any, Any]) -> None:
        """Somebody let go of a generator that had not ended: it is closed, as asyncio does, unless its process died."""
        if self._closed or not self.current.alive:
            self._graves.append(generator)
        else:
            self.current.context.copy().run(self.create_task, generator.aclose())
