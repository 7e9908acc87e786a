"""Two worker processes of one edge over one folder of policies, which changes while they run."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from cache_policies.feed import FEED_PATH, LEAVE_PATH, Answer
from cache_policies.positions import Position
from edge.policy_files import PACKAGED_POLICIES, load_policies
from tests.support.scripted_origin import Reply, ScriptedOrigin, page

PAGE = "/eu-eur/products/lamp"
HOME = "/eu-eur/"
HEAD = Position(1, 5)
WITHIN_S = 20.0


class Workers:
    """Two of them, on one port; `output` is what each printed, once they have ended."""

    def __init__(self, origin: ScriptedOrigin, folder: Path, siblings: Path) -> None:
        self.port, *self.admin_ports = (_free_port() for _ in range(3))
        self.output: list[str] = []
        self._settings = {
            "NEARSHELF_EDGE": "eu",
            "NEARSHELF_LISTEN": f"127.0.0.1:{self.port}",
            "NEARSHELF_ORIGIN_URL": origin.url,
            "NEARSHELF_EDGE_KEY": "the-key",
            "NEARSHELF_ADMIN_TOKEN": "the-token",
            "NEARSHELF_POLICIES": str(folder),
            "NEARSHELF_SIBLINGS": str(siblings),
        }
        self._client = httpx.AsyncClient(trust_env=False, headers={"authorization": "Bearer the-token"})
        self.processes: list[asyncio.subprocess.Process] = []

    async def start(self) -> None:
        for port in self.admin_ports:
            listen = {"NEARSHELF_ADMIN_LISTEN": f"127.0.0.1:{port}"}
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "edge.gateway"),
                env=os.environ | self._settings | listen,
                stderr=asyncio.subprocess.PIPE,
            )
            self.processes.append(process)
        async with asyncio.timeout(WITHIN_S):
            for port in self.admin_ports:
                while not await self._is_ready(port):
                    await asyncio.sleep(0.02)

    async def _is_ready(self, port: int) -> bool:
        try:
            return (await self._client.get(f"http://127.0.0.1:{port}/readyz")).status_code == 200
        except httpx.TransportError:
            return False

    async def policies(self) -> list[dict[str, Any]]:
        """What each worker says of its policies."""
        found = [await self._client.get(f"http://127.0.0.1:{port}/status") for port in self.admin_ports]
        return [answer.json()["policies"] for answer in found]

    async def until(self, statement: Callable[[dict[str, Any]], object]) -> None:
        """Until both say so."""
        async with asyncio.timeout(WITHIN_S):
            while not all(statement(said) for said in await self.policies()):
                await asyncio.sleep(0.02)

    async def get(self, path: str) -> httpx.Response:
        """On a connection of its own: the kernel chooses a worker."""
        async with httpx.AsyncClient(trust_env=False) as client:
            return await client.get(f"http://127.0.0.1:{self.port}{path}")

    async def are_hits(self, path: str, times: int) -> list[bool]:
        return ["; hit" in (await self.get(path)).headers["cache-status"] for _ in range(times)]

    async def until_stored(self, path: str) -> None:
        """Until both workers have what the first to be asked was answered: the other is told of it by a datagram."""
        async with asyncio.timeout(WITHIN_S):
            for port in self.admin_ports:
                while not await self._holds(port, path):
                    await asyncio.sleep(0.02)

    async def _holds(self, port: int, path: str) -> bool:
        asked = {"url": f"http://127.0.0.1:{self.port}{path}"}
        found = (await self._client.get(f"http://127.0.0.1:{port}/explain", params=asked)).json()["stored"]
        return any(stored["state"] == "fresh" for stored in found)

    async def stop(self) -> None:
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        for process in self.processes:
            _, errors = await asyncio.wait_for(process.communicate(), WITHIN_S)
            self.output.append(errors.decode())
        await self._client.aclose()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


ROUTES = """\
routes:
  page:
    path: /{market}/products/{slug}
    fresh: 300s
    max_fresh: 1h
  home:
    path: /{market}/
    fresh: 200s
    max_fresh: 1h
  default:
    path: /{rest...}
    store: false
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "policies"
    folder.mkdir()
    shutil.copy(PACKAGED_POLICIES / "markets.yaml", folder)
    (folder / "default.yaml").write_text(ROUTES)
    return folder


@contextlib.asynccontextmanager
async def running(folder: Path, tmp_path: Path) -> AsyncIterator[tuple[ScriptedOrigin, Workers]]:
    async with ScriptedOrigin() as origin:
        answer = Answer((), HEAD, str(HEAD), (HEAD, str(HEAD)))
        origin.on(FEED_PATH, Reply(answer.to_json() + b"\n", chunked=True))
        origin.on(LEAVE_PATH, Reply(b"", 204))
        for path in (PAGE, HOME):
            origin.on(path, page(path.encode()))
        workers = Workers(origin, folder, tmp_path / "eu")
        try:
            await workers.start()
            yield origin, workers
        finally:
            await workers.stop()
    assert [process.returncode for process in workers.processes] == [0, 0], workers.output
    assert not any("Traceback" in output for output in workers.output), workers.output


def edit(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


async def test_both_workers_take_what_can_be_used_and_refuse_what_cannot(folder, tmp_path):
    async with running(folder, tmp_path) as (origin, workers):
        first = load_policies(folder).digest
        assert [said["digest"] for said in await workers.policies()] == [first, first]
        for path in (PAGE, HOME):
            assert await workers.are_hits(path, 1) == [False]
            await workers.until_stored(path)
            assert await workers.are_hits(path, 9) == [True] * 9

        # Product pages live longer; the home page is as it was.
        routes = folder / "default.yaml"
        edit(routes, "fresh: 300s", "fresh: 600s")
        second = load_policies(folder).digest
        await workers.until(lambda said: said["digest"] == second)
        assert await workers.are_hits(HOME, 10) == [True] * 10
        assert await workers.are_hits(PAGE, 1) == [False]
        await workers.until_stored(PAGE)
        assert await workers.are_hits(PAGE, 19) == [True] * 19
        assert (origin.count(PAGE), origin.count(HOME)) == (2, 1)

        edit(routes, "fresh: 600s", "fresh: ten minutes")
        await workers.until(lambda said: said["refused"])
        for said in await workers.policies():
            assert said["digest"] == second
            assert any(fault.startswith("default.yaml:4:12 ") for fault in said["refused"])
        assert await workers.are_hits(PAGE, 10) == [True] * 10

        edit(routes, "fresh: ten minutes", "fresh: 900s")
        third = load_policies(folder).digest
        await workers.until(lambda said: said["digest"] == third and not said["refused"])
    for output in workers.output:
        assert f"policies {second} of {folder} are in force" in output
        assert "cannot be used" in output
        assert "routes.page.fresh: ten minutes" in output


async def test_a_hang_up_signal_has_the_files_read_again_and_ends_nothing(folder, tmp_path):
    async with running(folder, tmp_path) as (_, workers):
        before = [said["loaded_at"] for said in await workers.policies()]
        for process in workers.processes:
            process.send_signal(signal.SIGHUP)
        await workers.until(lambda said: said["loaded_at"] not in before)
        assert (await workers.get(PAGE)).status_code == 200


async def test_an_origin_without_an_address_ends_a_worker_at_its_start(folder):
    (folder / "origins.yaml").write_text("default: shop\norigins:\n  shop: {}\n  second: {}\n")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "edge.gateway"),
        env=os.environ
        | {
            "NEARSHELF_EDGE": "eu",
            "NEARSHELF_LISTEN": "127.0.0.1:0",
            "NEARSHELF_ADMIN_LISTEN": "127.0.0.1:0",
            "NEARSHELF_ORIGIN_URL": "http://127.0.0.1:9",
            "NEARSHELF_EDGE_KEY": "the-key",
            "NEARSHELF_ADMIN_TOKEN": "the-token",
            "NEARSHELF_POLICIES": str(folder),
            "NEARSHELF_ORIGINS": "secnod=http://127.0.0.1:9",
        },
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await asyncio.wait_for(process.communicate(), WITHIN_S)
    said = errors.decode()
    assert process.returncode == 2, said
    assert "origins.yaml declares the origin second, and there is no address for it" in said
    assert "NEARSHELF_ORIGINS has an address for secnod" in said
    assert "Traceback" not in said
