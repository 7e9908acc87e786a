"""What the machine wants is done in order, nothing before it is written down, and whatever goes wrong is heard of."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import itertools
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace

import pytest

from cache_policies import clock
from infra.failover import keeping
from infra.failover import runner as module
from infra.failover.keeping import KeptDatabases
from infra.failover.machine import Machine
from infra.failover.runner import Runner
from infra.failover.sql import SqlServers
from infra.failover.steps import Announce, Ended, Event, Open, Phase, Probe, Promote, Record, Say, Seen, Step, Stop
from infra.local.voice import Voice


class FakeServers:
    """Two servers that do as they are told."""

    def __init__(self) -> None:
        self.done: list[Step] = []
        self.records: list[Record] = []
        self.is_full = False
        self.fails: list[Exception] = []
        """Raised by the steps to come, one each."""
        self.primary = "pg-1"
        self.talks_nonsense = False

    async def probe(self, step: Probe) -> Seen:
        if self.talks_nonsense and step.node == self.primary:
            raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")
        return Seen(step.node, 0.0, in_recovery=step.node != self.primary, timeline=1, followed=True, synchronous=True)

    async def carry_out(self, step: Step, submit: Callable[[Event], None]) -> bool:
        if self.fails:
            raise self.fails.pop()
        self.done.append(step)
        if isinstance(step, Promote):
            self.primary = step.node
        return isinstance(step, Stop)

    def record(self, step: Record) -> None:
        if self.is_full:
            raise OSError(28, "No space left on device")
        self.records.append(step)

    def announce(self, step: Announce) -> None:
        self.done.append(step)

    async def close(self) -> None:
        """Nothing to close."""


@pytest.fixture
def servers(monkeypatch) -> FakeServers:
    monkeypatch.setattr(module, "PROBE_EVERY_S", 0.0)
    return FakeServers()


@contextlib.asynccontextmanager
async def running(servers: FakeServers, said: list[str]) -> AsyncIterator[Runner]:
    milliseconds = itertools.count(0, 10)
    machine = Machine(["pg-1", "pg-2"], "pg-1", "pg-2", 0.0)

    def tell(say: Say) -> None:
        said.append(say.text)

    # A hundredth of a second for each look at the clock.
    runner = Runner(machine, servers, tell, lambda: next(milliseconds) / 1000)
    task = asyncio.create_task(runner.run())
    try:
        async with asyncio.timeout(20):
            await runner.until(lambda: machine.phase is Phase.STEADY and machine.candidate(0.0) == "pg-2")
            yield runner
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_nobody_is_promoted_before_that_is_written_down(servers):
    said: list[str] = []
    async with running(servers, said) as runner:
        servers.is_full = True
        runner.submit(Ended("pg-1"))
        await runner.until(lambda: any("cannot be written down" in each for each in said))
        looks = len(said)
        for _ in range(50):
            await asyncio.sleep(0)
        assert not [step for step in servers.done if isinstance(step, Promote)]
        assert len(said) == looks, "it is said once"
        servers.is_full = False
        await runner.until(lambda: runner.machine.primary == "pg-2")
    assert servers.records[0] == Record("pg-2", None, 1)
    assert Announce("pg-2") in servers.done


async def test_a_step_that_fails_in_a_way_that_nobody_thought_of_is_tried_again(servers):
    said: list[str] = []
    async with running(servers, said) as runner:
        runner.submit(Ended("pg-1"))
        servers.fails = [KeyError("odd"), RuntimeError("odder")]
        await runner.until(lambda: runner.machine.primary == "pg-2")
    assert [step for step in servers.done if isinstance(step, Open)][-1].node == "pg-2"
    assert any("odd" in each for each in said)


async def test_a_server_that_talks_nonsense_is_one_that_does_not_answer(servers):
    async with running(servers, []) as runner:
        servers.talks_nonsense = True
        await runner.until(lambda: runner.machine.primary == "pg-2")


def broken(*_: object) -> list[Step]:
    raise KeyError("a mistake of ours")


@pytest.mark.parametrize("part", ["tick", "observe"])
async def test_a_mistake_of_our_own_is_heard_of(servers, monkeypatch, tmp_path, part):
    """Whoever is not watched any more loses its lease, and the shop takes no change: people have to know why."""
    alarms: list[tuple[str, list[str]]] = []
    voice = Voice(quiet=True)
    monkeypatch.setattr(voice, "alarm", lambda *said: alarms.append(said))
    state = SimpleNamespace(folder=tmp_path, runtime=tmp_path)
    kept = KeptDatabases(SimpleNamespace(), None, state, voice, failover=None, moved=lambda: None)  # type: ignore[arg-type]
    runner = await kept.supervise(servers, Record("pg-1", "pg-2", 0), ["pg-1", "pg-2"])
    assert runner.machine.phase is Phase.STEADY
    monkeypatch.setattr(runner.machine, part, broken)
    async with asyncio.timeout(20):
        while not alarms:
            await asyncio.sleep(0)
    ((title, lines),) = alarms
    assert title == "The databases are not watched any more"
    assert "a mistake of ours" in lines[-1]
    assert "stop `up`, and start it again" in lines[0]
    await kept.stop()


@pytest.mark.parametrize("made", [Runner, SqlServers])
def test_the_time_asleep_counts(made):
    """Else a machine that was suspended for minutes would go on as if nothing could have happened meanwhile."""
    assert inspect.signature(made).parameters["clock"].default is clock.now
    assert "import time" not in inspect.getsource(keeping), "there the same clock tells when the machine began"
