"""A place in the crew of a site: a process that cannot be made now is made later."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from edge.site import workers
from edge.site.feed import SiteFeed
from edge.site.log import PurgeLog
from edge.site.workers import State, Worker, WorkerFailed
from tests.support.clock import ManualClock

REFUSED = BlockingIOError(11, "Resource temporarily unavailable")


class Crew:
    """One worker, whose processes do nothing, and cannot be made while there is something in `refusals`."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.feed = SiteFeed(PurgeLog(folder / "log"), ManualClock(), lambda *_: None)
        self.refusals: list[OSError] = []
        self.said: list[str] = []
        self.worker = Worker(1, self.feed, folder, {}, 0, self.said.append)
        self._real = asyncio.create_subprocess_exec
        monkeypatch.setattr(asyncio, "create_subprocess_exec", self._make)

    async def _make(self, *_: str, **__: Any) -> asyncio.subprocess.Process:
        if self.refusals:
            raise self.refusals.pop()
        sleeps = (sys.executable, "-c", "import time; time.sleep(60)")
        process = await self._real(*sleeps, stderr=asyncio.subprocess.PIPE)
        assert self.worker.member is not None
        self.worker.member.worker, self.worker.member.applied = "its-name", self.feed.log.head
        return process


@pytest_asyncio.fixture
async def crew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Crew]:
    crew = Crew(tmp_path, monkeypatch)
    yield crew
    monkeypatch.setattr(workers, "DRAIN_S", 0.0)
    await crew.worker.stop()


async def test_a_process_that_cannot_be_made_is_a_worker_that_failed(crew):
    crew.refusals = [REFUSED]
    with pytest.raises(WorkerFailed, match=r"worker-1: no process can be made: .* temporarily"):
        await crew.worker.start()
    assert (crew.worker.state, crew.worker.member, crew.worker.pid) == (State.DOWN, None, None)
    assert crew.feed._members == []


async def test_a_worker_that_ends_while_no_process_can_be_made_is_started_when_one_can(crew):
    await crew.worker.start()
    first, crew.refusals = crew.worker.pid, [REFUSED]
    keeping = asyncio.create_task(crew.worker.keep())
    crew.worker.signal(9)
    async with asyncio.timeout(10):
        while "worker-1 is ready again" not in crew.said:
            assert not keeping.done()
            await asyncio.sleep(0.01)
    keeping.cancel()
    assert crew.worker.pid != first
    assert any("no process can be made" in line for line in crew.said)
    assert [member.name for member in crew.feed._members] == ["worker-1"]
