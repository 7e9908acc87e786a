"""The seeded loop: whose turn it is, what a process has, and what becomes of one that is killed, frozen or stopped."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.engine import loop as loop_module
from tests.simulation.engine.loop import SimLoop, Stuck
from tests.simulation.engine.processes import Process

ROOT = Path(__file__).parents[3]


def told(loop: SimLoop) -> list[str]:
    return [text for _, _, text in loop.story]


async def ticks(loop: SimLoop, process: Process, times: int, every_s: float = 1.0) -> None:
    for number in range(times):
        await asyncio.sleep(every_s)
        loop.note(f"{process.name} {number}")


def test_time_passes_only_as_far_as_somebody_waits_for_it():
    loop = SimLoop(1, telling=True)
    process = loop.process("a")
    process.start(ticks, loop, process, 3, 1_000.0)
    loop.run(10_000.0)
    assert [(round(at), text) for at, _, text in loop.story] == [(1_000, "a 0"), (2_000, "a 1"), (3_000, "a 2")]
    assert loop.now == 10_000.0


def test_each_process_has_a_clock_of_its_own_in_everything_that_asyncio_asks():
    loop = SimLoop(1)
    fast = loop.process("fast", rate=1.25, offset_s=500.0)
    seen: list[float] = []

    async def wait() -> None:
        seen.append(asyncio.get_running_loop().time())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(5.0):
                await asyncio.sleep(3_600)
        seen.append(fast.clock())

    fast.start(wait)
    loop.run(100.0)
    assert seen == pytest.approx([500.0, 505.0])
    assert loop.process("slow", rate=0.5, offset_s=0.0).clock() == pytest.approx(50.0)


def test_within_a_process_first_come_first_served():
    loop = SimLoop(3)
    process = loop.process("a")
    order: list[int] = []

    async def many() -> None:
        for number in range(20):
            asyncio.get_running_loop().call_soon(order.append, number)

    process.start(many)
    loop.run(1.0)
    assert order == list(range(20))


def orders(seed: int) -> tuple[str, ...]:
    loop = SimLoop(seed, telling=True)
    for name in "abcd":
        process = loop.process(name)
        process.start(ticks, loop, process, 3)
    loop.run(10.0)
    return tuple(told(loop))


def test_the_seed_chooses_between_processes_that_could_go_on_at_the_same_moment():
    assert orders(5) == orders(5)
    assert len({orders(seed) for seed in range(30)}) > 20


def test_nothing_of_a_killed_process_runs_not_even_its_finally():
    loop = SimLoop(1, telling=True)
    process = loop.process("a")

    async def works() -> None:
        try:
            await ticks(loop, process, 100)
        finally:
            loop.note("cleaned up")

    process.start(works)
    loop.after(loop.world, 2.5, process.kill)
    loop.run(60.0)
    assert told(loop) == ["a 0", "a 1"]
    loop.close()
    assert told(loop) == ["a 0", "a 1", "cleaned up"], "only the end of the simulation lets go of what it left"
    assert loop.faults == []


def test_what_depends_on_a_process_hears_of_its_death_once():
    loop = SimLoop(1)
    process = loop.process("a")
    deaths: list[str] = []

    class Dependent:
        def process_died(self) -> None:
            deaths.append("died")

    process.dependents[Dependent()] = None
    process.kill()
    process.kill()
    assert deaths == ["died"]
    assert (loop.process("a").incarnation, process.alive) == (2, False)


def test_a_frozen_process_finds_what_has_arrived_before_its_overdue_timers():
    loop = SimLoop(1, telling=True)
    process = loop.process("a")
    process.start(ticks, loop, process, 3)
    loop.after(loop.world, 0.5, process.freeze)
    process.post(4.0, loop.note, "a message")
    loop.after(loop.world, 5.0, process.wake)
    loop.run(5.5)
    assert told(loop) == ["a message", "a 0"]
    loop.run(20.0)
    assert told(loop) == ["a message", "a 0", "a 1", "a 2"]


def test_timers_of_a_machine_that_slept_come_later_and_its_boot_clock_went_on():
    loop = SimLoop(1, telling=True)
    process = loop.process("a", offset_s=0.0)
    process.start(ticks, loop, process, 2)
    loop.after(loop.world, 0.4, process.suspend)
    loop.after(loop.world, 10.4, process.wake)
    loop.run(10.9)
    assert told(loop) == []
    loop.run(20.0)
    assert [round(at, 1) for at, _, _ in loop.story] == [11.0, 12.0]
    assert process.clock() == pytest.approx(20.0)
    assert process.monotonic() == pytest.approx(10.0)


def test_a_process_can_be_stopped_in_the_middle_of_a_step_while_others_go_on():
    loop = SimLoop(1, telling=True)
    stopped, other = loop.process("stopped"), loop.process("other")
    stopped.stalls = (1.0, 3.0)
    readings: list[float] = []

    async def reads() -> None:
        task = asyncio.current_task()
        before = loop.now
        readings.append(stopped.clock())
        loop.note(f"was stopped for {loop.now - before:.1f} s")
        assert asyncio.current_task() is task
        await asyncio.sleep(0)
        loop.note("goes on")
        stopped.stalls = None

    other.start(ticks, loop, other, 3, 0.5)
    stopped.start(reads)
    loop.run(10.0)
    said = [text for text in told(loop) if not text.startswith("stops")]
    assert said[0].startswith("other"), "somebody else went on meanwhile"
    assert said.index("goes on") == next(at for at, text in enumerate(said) if text.startswith("was stopped")) + 1
    assert loop.faults == []


def test_one_that_is_killed_in_the_middle_of_a_step_ends_with_that_step():
    loop = SimLoop(4, telling=True)
    process = loop.process("a")
    process.stalls = (1.0, 3.0)

    async def reads() -> None:
        process.clock()
        loop.note("the step ends")
        await asyncio.sleep(0)
        loop.note("never said")

    process.start(reads)
    loop.after(loop.world, 0.01, process.kill)
    loop.run(10.0)
    assert told(loop)[1:] == ["the step ends"]
    assert not process.alive


def test_a_generator_that_is_let_go_is_closed_by_its_process():
    loop = SimLoop(1, telling=True)
    process = loop.process("a")

    async def numbers():
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0)
            loop.note("closed")

    async def takes_one() -> None:
        generator = numbers()
        assert await anext(generator) == 1
        del generator
        await asyncio.sleep(1)

    process.start(takes_one)
    loop.run(2.0)
    assert told(loop) == ["closed"]


def test_what_a_task_or_a_callback_lets_escape_is_a_fault():
    loop = SimLoop(1)
    process = loop.process("a")

    async def fails() -> None:
        raise KeyError("a task")

    def fails_at_once() -> None:
        raise KeyError("a callback")

    process.start(fails)
    loop.after(process, 1.0, fails_at_once)
    loop.run(2.0)
    assert len(loop.faults) == 2
    assert "a task" in loop.faults[0]
    assert "a callback" in loop.faults[1]
    assert "Traceback" in loop.faults[1]


def test_whoever_goes_round_in_a_circle_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(loop_module, "MOST_STEPS_AT_ONE_MOMENT", 1_000)
    loop = SimLoop(1)
    process = loop.process("dizzy")

    async def circle() -> None:
        while True:
            await asyncio.sleep(0)

    process.start(circle)
    with pytest.raises(Stuck, match=r"dizzy#1 goes round in a circle at 0\.000000 s"):
        loop.run(1.0)
    loop.close()


def test_the_trace_tells_runs_apart_and_takes_notes_into_account():
    def trace(seed: int, word: str) -> int:
        loop = SimLoop(seed)
        loop.after(loop.process("a"), 1.0, loop.note, word)
        loop.run(2.0)
        return loop.trace

    assert trace(1, "yes") == trace(1, "yes")
    assert trace(1, "yes") != trace(1, "no")


PLAY = """
from tests.simulation.engine.test_loop import orders
print(orders(7))
"""


@pytest.mark.parametrize("hash_seed", ["1", "4242"])
def test_the_same_seed_does_the_same_under_another_hash_seed(hash_seed: str):
    told_there = subprocess.run(
        [sys.executable, "-c", PLAY],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)},
    )
    assert told_there.stdout.strip() == str(orders(7))
