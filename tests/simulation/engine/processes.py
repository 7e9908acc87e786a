"""The processes of a simulation: what each has to do, its clocks, and what is done to it from outside."""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from tests.simulation.engine.loop import SimLoop

T = TypeVar("T")


class Handle:
    """One callback to come. Looks like asyncio's, as far as anybody asks."""

    __slots__ = ("args", "callback", "context", "is_cancelled", "is_message", "process", "virtual")

    def __init__(
        self,
        process: Process,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: contextvars.Context,
        virtual: float = 0.0,
        is_message: bool = False,
    ) -> None:
        self.process = process
        self.callback = callback
        self.args = args
        self.context = context
        self.virtual = virtual
        """When, on the loop's own time; of timers and messages."""
        self.is_message = is_message
        """Comes from outside of the process: from the network, a disk, a thread."""
        self.is_cancelled = False

    def cancel(self) -> None:
        if not self.is_cancelled:
            self.is_cancelled = True
            # What it would have been called with may be large, and the heap keeps it until its time.
            self.callback, self.args = nothing, ()

    def cancelled(self) -> bool:
        return self.is_cancelled

    def when(self) -> float:
        """On the clock of its process, as `loop.time()` shows it there."""
        return self.process.on_its_clock(self.virtual)


class Dies(Protocol):
    """Whatever ends with its process, and must be told."""

    def process_died(self) -> None: ...


class Process:
    """One process of the simulated world; made by `SimLoop.process`."""

    def __init__(
        self, loop: SimLoop, name: str, index: int, incarnation: int, rate: float, offset_s: float, wall_offset_s: float
    ) -> None:
        self.loop = loop
        self.name = name
        """What this place in the world is called; the next incarnation has the same."""
        self.index = index
        self.incarnation = incarnation
        self.rate = rate
        """Seconds of its clock in one virtual second."""
        self.offset_s = offset_s
        self.wall_offset_s = wall_offset_s
        """What its wall clock shows when the simulation begins, in seconds since the epoch; may be stepped."""
        self.alive = True
        self.stalls: tuple[float, float] | None = None
        """The chance that it is stopped where it reads its clock, and for how long at the most, in virtual seconds."""
        self.context = contextvars.copy_context()
        self.context.run(OWNER.set, self)
        self.dependents: dict[Dies, None] = {}
        """Told, in order, when it is killed."""
        self.ready: deque[Handle] = deque()
        self.is_queued = False
        self._frozen_since: float | None = None
        self._suspended = False
        self._stalled = 0
        self.is_doomed = False
        self._slept_s = 0.0
        """How much less its monotonic clock shows than `clock`: what its machine has slept, in virtual seconds."""
        self._held_messages: list[Handle] = []
        self._held_timers: list[Handle] = []

    def __repr__(self) -> str:
        return f"{self.name}#{self.incarnation}"

    # -- its clocks ----------------------------------------------------------------------------------------------------

    def clock(self) -> float:
        """Seconds of its clock that counts suspension: the edge's."""
        loop = self.loop
        if self.stalls is not None and loop.current is self and loop.chance(self.stalls[0]):
            return loop.stalled_reading(self)
        return self.offset_s + loop.now * self.rate

    def wall(self) -> float:
        """Seconds since the epoch, as its wall clock shows them."""
        return self.wall_offset_s + self.loop.now * self.rate

    def monotonic(self) -> float:
        """Its clock that stands still while its machine sleeps: what time.monotonic() gives there."""
        return self.clock() - self._slept_s * self.rate

    def on_its_clock(self, virtual: float) -> float:
        """A virtual moment from now on, on its monotonic clock."""
        return self.offset_s + (virtual - self._slept_s) * self.rate

    def in_virtual_time(self, moment: float) -> float:
        """The inverse of `on_its_clock`."""
        return (moment - self.offset_s) / self.rate + self._slept_s

    # -- what it does --------------------------------------------------------------------------------------------------

    def start(self, function: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> asyncio.Task[T]:
        """`function(*args)` as a task of this process."""
        context = self.context.copy()
        return asyncio.Task(context.run(partial(function, *args)), loop=self.loop, context=context)

    def post(self, delay_s: float, callback: Callable[..., object], *args: Any) -> Handle:
        """Something arrives at it in `delay_s` virtual seconds; runs in its own context, once it can run."""
        return self.loop.push(Handle(self, callback, args, self.context, self.loop.now + delay_s, True))

    # -- what is done to it --------------------------------------------------------------------------------------------

    @property
    def stopped(self) -> bool:
        """Frozen, suspended, or stopped in the middle of a step."""
        return self._frozen_since is not None or self._stalled > 0

    @property
    def frozen(self) -> bool:
        return self._frozen_since is not None

    def freeze(self) -> None:
        """SIGSTOP: nothing of it runs; what arrives waits. Once is enough."""
        if self._frozen_since is None:
            self._frozen_since = self.loop.now
            self.loop.unqueue(self)

    def suspend(self) -> None:
        """Its machine sleeps: as `freeze`, and its monotonic clock stands still, so that its timers come later."""
        if self._frozen_since is None:
            self._suspended = True
            self.freeze()

    def wake(self) -> None:
        """SIGCONT, or the machine wakes: what has arrived comes first, then the timers that are overdue."""
        if self._frozen_since is None:
            return
        slept_s = self.loop.now - self._frozen_since
        self._frozen_since = None
        if self._suspended:
            self._suspended = False
            self._slept_s += slept_s
            self.loop.postpone_timers(self, slept_s, self._held_timers)
            self._held_timers = []
        self.go_on()

    def stop_midway(self) -> None:
        """It stops inside of the step that is running now."""
        self._stalled += 1
        self.loop.unqueue(self)

    def go_on_midway(self) -> None:
        self._stalled -= 1
        self.go_on()

    def go_on(self) -> None:
        """Let run what waited, if nothing stops it any more."""
        if self.stopped or not self.alive:
            return
        messages, timers, self._held_messages, self._held_timers = self._held_messages, self._held_timers, [], []
        self.ready.extend(messages)
        self.ready.extend(timers)
        self.loop.queue(self)

    def hold(self, handle: Handle) -> None:
        """Its time has come, and its process is stopped."""
        (self._held_messages if handle.is_message else self._held_timers).append(handle)

    def kill(self) -> None:
        """SIGKILL: nothing of it runs again, not even its `finally`. Its connections are reset by its machine.

        One that is stopped in the middle of a step ends with that step.
        """
        if not self.alive:
            return
        if self._stalled:
            self.is_doomed = True
            return
        self.alive = False
        self.loop.unqueue(self)
        self.loop.bury(self.ready, self._held_messages, self._held_timers)
        self.ready = deque()
        self._held_messages, self._held_timers = [], []
        dependents, self.dependents = self.dependents, {}
        for dependent in dependents:
            dependent.process_died()

    def die_if_doomed(self) -> None:
        if self.is_doomed and not self._stalled:
            self.is_doomed = False
            self.kill()


OWNER: contextvars.ContextVar[Process] = contextvars.ContextVar("OWNER")
"""To which process the code that runs belongs; tasks and callbacks inherit it."""


def nothing(*_: object) -> None:
    """In place of a callback that was called off, or of a hook."""
