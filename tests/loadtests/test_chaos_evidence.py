"""What is seen of a fault: something where it bites, nothing where a command was obeyed and that is all."""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cache_policies.positions import Position
from loadtests.chaos.evidence import Evidence
from loadtests.chaos.schedule import Stage
from loadtests.chaos.shop import Shop, Workers
from loadtests.target import Target

STAGE = Stage(("eu",), ("eu-1",), ("origin-1", "origin-questions"), full_disk=True)
STREAMING = {"state": "streaming", "replay_paused": False, "replay_delay": "0", "unreplayed_bytes": 0}
Answers = Callable[[str], tuple[int, dict[str, str], Any]]


@contextlib.asynccontextmanager
async def listening(answer: Answers) -> AsyncIterator[str]:
    """The address of somebody who answers each GET by its path: status, fields, JSON."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                status, fields, value = answer(head.split(b" ")[1].decode())
                body = json.dumps(value).encode()
                lines = [f"HTTP/1.1 {status} Said", f"Content-Length: {len(body)}"]
                lines += [f"{name}: {text}" for name, text in fields.items()]
                writer.write("\r\n".join((*lines, "", "")).encode() + body)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


class ToldShop(Shop):
    """Says of itself what it was told to."""

    def __init__(self, state: Path, admin: str = "http://127.0.0.1:1") -> None:
        super().__init__(Target({}, "http://127.0.0.1:1", state, Path("/nowhere"), {"eu": (admin,)}, None, "token"))
        self.said: dict[str, Any] = {"processes": [], "replication": dict(STREAMING), "supervisor": os.getpid()}

    async def status(self) -> dict[str, Any]:
        return self.said


@pytest.fixture
def shop(tmp_path: Path) -> ToldShop:
    return ToldShop(tmp_path)


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """One that waits."""
    with subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"]) as child:
        yield child
        child.send_signal(signal.SIGCONT)
        child.kill()


async def seen(shop: ToldShop, breaks: dict[str, Any], pids: dict[str, int], told: dict[str, Any] | None = None) -> str:
    return await Evidence(shop, STAGE).of(breaks, pids, told or {}, until=time.monotonic())


async def test_a_process_is_killed_when_it_is_gone(shop, process, monkeypatch):
    monkeypatch.setattr("loadtests.chaos.evidence.AT_ONCE_S", 0.0)
    shop.said["processes"] = [{"name": "eu-1", "pid": process.pid}, {"name": "origin-1", "pid": None}]
    breaks = {"do": "kill", "name": "eu"}
    pids = await Evidence(shop, STAGE).pids_before(breaks)
    assert pids == {"eu-1": process.pid}
    assert await seen(shop, breaks, pids) == ""
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and nobody has asked how
    assert "eu-1" in await seen(shop, breaks, pids)
    process.wait()
    assert "gone" in await seen(shop, breaks, pids)
    assert await seen(shop, breaks, {}) == ""


async def test_a_process_is_frozen_when_it_is_stopped(shop, process):
    pids = {"eu-1": process.pid}
    assert await seen(shop, {"do": "freeze", "name": "eu-1"}, pids) == ""
    process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
    assert "stopped" in await seen(shop, {"do": "freeze", "name": "eu-1"}, pids)
    assert await seen(shop, {"do": "freeze", "name": "eu-1"}, pids | {"eu-2": os.getpid()}) == ""


async def test_a_supervisor_that_is_frozen_goes_on_by_itself(shop, process):
    """It cannot be told to, and whoever froze it may be gone."""
    shop.said["supervisor"] = process.pid
    breaks = {"do": "freeze", "name": "supervisor", "s": 0.05}
    pids = await Evidence(shop, STAGE).pids_before(breaks)
    assert pids == {"supervisor": process.pid}
    await shop.tell(breaks)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED)
    await shop.tell({"do": "thaw", "name": "supervisor"})
    assert await seen(shop, breaks, pids) == ""


@pytest.mark.parametrize(
    ("breaks", "replication", "words"),
    [
        pytest.param({"do": "cut", "edge": "replication"}, {}, "", id="a cut that cuts nothing"),
        pytest.param({"do": "cut", "edge": "replication"}, {"state": "disconnected"}, "disconnected", id="a cut"),
        pytest.param({"do": "cut", "edge": "replication"}, {"state": "unknown"}, "", id="nobody can tell"),
        pytest.param({"do": "pause-replay"}, {"replay_paused": True}, "", id="paused, and nothing came"),
        pytest.param({"do": "pause-replay"}, {"unreplayed_bytes": 5}, "", id="behind, and not paused"),
        pytest.param({"do": "pause-replay"}, {"replay_paused": True, "unreplayed_bytes": 5}, "5 bytes", id="paused"),
        pytest.param({"do": "delay-replay"}, {"replay_delay": "9s"}, "", id="delayed, and nothing came"),
        pytest.param({"do": "delay-replay"}, {"replay_delay": "9s", "unreplayed_bytes": 5}, "5 bytes", id="delayed"),
    ],
)
async def test_what_replication_shows(shop, breaks, replication, words):
    shop.said["replication"] = STREAMING | replication
    found = await seen(shop, breaks, {})
    assert words in found
    assert bool(found) == bool(words)


@pytest.mark.parametrize(("told", "words"), [({"forgot": 0}, ""), ({}, ""), ({"forgot": 7}, "7 keys")])
async def test_a_wipe_that_found_nothing_did_nothing(shop, told, words):
    found = await seen(shop, {"do": "wipe", "name": "valkey"}, {}, told)
    assert words in found
    assert bool(found) == bool(words)


@pytest.mark.parametrize(("do", "felt", "words"), [("stall", 0, ""), ("stall", 3, "3 connections"), ("thaw", 3, "")])
def test_what_the_way_between_edges_and_origin_tells_at_the_end(do, felt, words):
    found = Evidence.at_the_end({"do": do, "edge": "eu"}, {"felt": felt})
    assert words in found
    assert bool(found) == bool(words)


async def test_a_clock_is_wrong_when_answers_are_dated_wrongly(tmp_path):
    off_s = 3_600.0

    def dated(_: str) -> tuple[int, dict[str, str], Any]:
        return 200, {"Date": email.utils.formatdate(time.time() + off_s, usegmt=True)}, {}

    async with listening(dated) as url:
        shop = ToldShop(tmp_path, admin=url)
        assert "dates its answers" in await seen(shop, {"do": "step-clock", "name": "eu-1", "s": 3_600}, {})
        assert await seen(shop, {"do": "step-clock", "name": "eu", "s": -60}, {}) == ""
        off_s = 0.0
        assert await seen(shop, {"do": "step-clock", "name": "eu-1", "s": 60}, {}) == ""


async def test_a_disk_is_full_when_somebody_found_no_room_on_it(shop):
    logs = shop.target.state / "logs"
    logs.mkdir()
    (logs / "pg-1.log").write_text("could not extend file: No space left on device\n")  # another time
    evidence = Evidence(shop, STAGE)
    breaks = {"do": "fill-disk"}
    assert await evidence.pids_before(breaks) == {}
    assert await evidence.of(breaks, {}, {}, until=time.monotonic()) == ""
    (logs / "origin-1.log").write_text("could not extend file: No space left on device\n")
    assert "origin-1" in await evidence.of(breaks, {}, {}, until=time.monotonic())


async def test_what_processes_take_is_measured_but_for_the_databases(shop, process):
    shop.said["processes"] = [
        {"name": "eu-1", "pid": process.pid, "role": None},
        {"name": "pg-1", "pid": process.pid, "role": "primary"},
        {"name": "eu-2", "pid": None, "role": None},
    ]
    found = {name: (memory, files) for name, memory, files in await shop.used()}
    assert set(found) == {"eu-1", "supervisor"}
    memory_bytes, files = found["supervisor"]  # this process
    assert memory_bytes > 10_000_000
    assert files >= 3


# --- how soon everybody knows everything again ---


class Told:
    """A worker's admin listener and the origin's listener for questions, at one address."""

    def __init__(self) -> None:
        self.refusals = 0
        """Times that the origin says that it is not ready."""
        self.ignorances = 0
        """Times that the worker says that it is behind."""
        self.asked: list[str] = []

    def __call__(self, path: str) -> tuple[int, dict[str, str], Any]:
        self.asked.append(path)
        if path == "/readyz":
            self.refusals -= 1
            return (503 if self.refusals >= 0 else 200), {}, {}
        self.ignorances -= 1
        return 200, {}, {"applied": "1.7" if self.ignorances >= 0 else "1.8", "lease_held": True}


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loadtests.chaos.shop.LOOK_EVERY_S", 0.01)


@pytest.mark.usefixtures("soon")
async def test_a_worker_is_asked_when_the_origin_can_be_asked_again():
    told, head = Told(), Position(1, 7)
    told.refusals, told.ignorances = 3, 2

    def newest() -> Position:
        assert "/readyz" in told.asked  # what was confirmed meanwhile has to be known, too
        return Position(1, 8)

    async with listening(told) as url:
        ended_at = time.monotonic()
        (known,) = (await Workers({"eu": [url]}, {"eu": url}, "t").until_they_know(newest, ended_at, (), 5.0)).values()
    assert head < newest()
    assert told.asked[:4] == ["/readyz"] * 4
    assert told.asked.count("/status") == 3
    assert known.at is not None
    assert ended_at < known.asked_at < known.at
    assert known.seconds == pytest.approx(known.at - known.asked_at)


@pytest.mark.usefixtures("soon")
async def test_of_a_worker_that_was_killed_it_counts_from_its_first_answer():
    told = Told()
    async with listening(told) as origin, listening(told) as admin:
        workers = Workers({"eu": [admin]}, {"eu": origin}, "t")
        began = time.monotonic()
        (known,) = (await workers.until_they_know(lambda: Position(1, 8), began - 9.0, ["eu-1"], 20.0)).values()
    assert known.at is not None
    assert known.seconds is not None
    assert known.at > began
    assert known.seconds < time.monotonic() - began


@pytest.mark.usefixtures("soon")
async def test_of_a_worker_that_stays_behind_nobody_says_that_it_knows():
    told = Told()
    told.ignorances = 1_000_000
    async with listening(told) as url:
        workers = Workers({"eu": [url]}, {"eu": url}, "t")
        (known,) = (await workers.until_they_know(lambda: Position(1, 8), time.monotonic(), (), 0.0)).values()
    assert (known.at, known.seconds) == (None, None)


@pytest.mark.usefixtures("soon")
async def test_an_origin_that_is_slow_is_not_buried_in_questions_whether_it_is_ready(monkeypatch):
    monkeypatch.setattr("loadtests.chaos.shop.WHOLE_WITHIN_S", 0.2)
    asked = 0

    async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        await reader.read()
        writer.close()

    server = await asyncio.start_server(never, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    workers = Workers({"eu": [url]}, {"eu": url}, "t")
    (known,) = (await workers.until_they_know(lambda: Position(1, 8), time.monotonic(), (), 5.0)).values()
    server.close()
    assert known.seconds is None
    assert asked == 1


@pytest.mark.usefixtures("soon")
async def test_where_the_origin_cannot_be_asked_nobody_knows(monkeypatch):
    monkeypatch.setattr("loadtests.chaos.shop.WHOLE_WITHIN_S", 0.05)
    told = Told()
    told.refusals = 1_000_000
    async with listening(told) as url:
        workers = Workers({"eu": [url]}, {"eu": url}, "t")
        (known,) = (await workers.until_they_know(lambda: Position(1, 8), time.monotonic(), (), 5.0)).values()
    assert known.seconds is None
    assert "/status" not in told.asked


@pytest.mark.usefixtures("soon")
async def test_of_workers_that_do_not_answer_nobody_says_that_they_know():
    async with listening(Told()) as origin:
        workers = Workers({"eu": ["http://127.0.0.1:1"]}, {"eu": origin}, "t")
        (known,) = (await workers.until_they_know(lambda: Position(1, 8), 0.0, (), 0.0)).values()
    assert known.seconds is None
