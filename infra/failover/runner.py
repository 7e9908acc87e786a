"""Carries out what the machine wants, and tells it what became of that."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from cache_policies import clock
from infra.failover.machine import Machine, Move, Refused
from infra.failover.silence import PROBE_EVERY_S
from infra.failover.sql import in_words
from infra.failover.steps import Announce, Done, Event, Failed, Fence, Probe, Record, Say, Seen, Step, Unseen


class Driver(Protocol):
    """The servers as the machine may treat them."""

    async def probe(self, step: Probe) -> Seen:
        """Raises when no answer came, or none that makes sense."""

    async def carry_out(self, step: Step, submit: Callable[[Event], None]) -> bool:
        """Whether no process of that server is left, for a Stop. Raises when it could not be done.

        `submit`: hears when a server that was started here ends.
        """

    def record(self, step: Record) -> None:
        """Raises OSError when it is not on the disk now."""

    def announce(self, step: Announce) -> None: ...

    async def close(self) -> None: ...


class Runner:
    """One machine and its servers. `run` until it is cancelled; it raises what is a mistake of ours."""

    def __init__(
        self,
        machine: Machine,
        driver: Driver,
        tell: Callable[[Say], None],
        clock: Callable[[], float] = clock.now,
    ) -> None:
        """`tell`: says a line to people. `clock`: counts the time asleep, in which another may have taken over."""
        self.machine = machine
        self._driver = driver
        self._tell = tell
        self._clock = clock
        self._tasks: set[asyncio.Task[None]] = set()
        self._mistake: BaseException | None = None
        """What one of them has raised: the machine was not told, and knows less than is so."""
        self._held_up: deque[Step] = deque()
        """A Record that could not be written, and every step after it: none is taken before it is remembered."""
        self._said_held_up = False
        self._changed = asyncio.Event()

    async def run(self) -> None:
        self._do(self.machine.start())
        try:
            while self._mistake is None:
                waiting, self._held_up = self._held_up, deque()
                self._do(waiting)
                self._do(self.machine.tick(self._clock()))
                await asyncio.sleep(PROBE_EVERY_S)
            raise self._mistake
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self._driver.close()

    def submit(self, event: Event) -> None:
        """Tell the machine, and do what it wants."""
        self._do(self.machine.observe(event, self._clock()))
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def move(self, to: str | None, *, accept_loss: bool = False) -> Move:
        """Hand the primary over, and wait until that is done. Raises Refused, or TimeoutError from the caller's own."""
        count = len(self.machine.moves)
        self._do(self.machine.ask(to, self._clock(), accept_loss=accept_loss))
        await self.until(lambda: self.machine.moves[count].is_over)
        move = self.machine.moves[count]
        if move.given_up:
            raise Refused(f"{move.old} was not handed over: {move.given_up}")
        return move

    def disarm(self, fence: Fence) -> None:
        """Fail over without it from now on."""
        self._do(self.machine.disarm(fence))

    def arm(self) -> None:
        """With all fences again."""
        self._do(self.machine.arm())

    def disarmed(self) -> list[str]:
        return sorted(fence.value for fence in self.machine.disarmed)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something that events change is so."""
        while not condition():
            await self._changed.wait()

    def status(self) -> dict[str, Any]:
        """For people and programs: who is what, and how the last failover went."""
        machine = self.machine
        return {
            "primary": machine.primary,
            "standbys": [node for node in machine.nodes if node != machine.primary],
            "promotable": machine.candidate(self._clock()),
            "phase": machine.phase.value,
            "whole": machine.is_whole,
            "epoch": machine.epoch,
            "fences": sorted(fence.value for fence in machine.armed),
            "moves": len(machine.moves),
            "last": described(machine.moves[-1]) if machine.moves else None,
        }

    # --- steps ---

    def _do(self, steps: Iterable[Step]) -> None:
        for step in steps:
            match step:
                case Say():
                    self._tell(step)
                case Probe():
                    self._spawn(self._probe(step))
                case _ if self._held_up:
                    self._held_up.append(step)
                case Record():
                    self._remember(step)
                case Announce():
                    self._driver.announce(step)
                case _:
                    self._spawn(self._carry_out(step))

    def _remember(self, step: Record) -> None:
        try:
            self._driver.record(step)
        except OSError as exc:
            self._held_up.append(step)
            if not self._said_held_up:
                self._said_held_up = True
                self._tell(Say(f"who is the primary cannot be written down, so nothing is changed meanwhile: {exc}"))
        else:
            self._said_held_up = False

    def _spawn(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._mistake = task.exception()

    async def _probe(self, step: Probe) -> None:
        sent_at = self._clock()
        try:
            seen = await self._driver.probe(step)
        except Exception as exc:  # noqa: BLE001 - also what its driver makes of nonsense: that is no answer
            self.submit(Unseen(step.node, sent_at, in_words(exc), silent=isinstance(exc, TimeoutError)))
        else:
            self.submit(seen)

    async def _carry_out(self, step: Step) -> None:
        try:
            dead = await self._driver.carry_out(step, self.submit)
        except Exception as exc:  # noqa: BLE001 - whatever it was: a step that nobody hears of is never tried again
            self.submit(Failed(step, in_words(exc)))
        else:
            self.submit(Done(step, dead))


def described(move: Move) -> dict[str, Any]:
    """A failover with the milliseconds from the loss to each of its parts."""

    def ms(at: float | None) -> float | None:
        return None if at is None else round((at - move.lost_at) * 1000, 1)

    return {
        "why": move.why,
        "old": move.old,
        "new": move.new,
        "fenced_ms": ms(move.fenced_at),
        "promoted_ms": ms(move.promoted_at),
        "opened_ms": ms(move.opened_at),
    }
