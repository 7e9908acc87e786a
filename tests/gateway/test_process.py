"""`python -m edge.gateway` as a process, with a purge log over real HTTP."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import sys

import httpx
import pytest

from cache_policies.feed import FEED_PATH, LEAVE_PATH, Answer, Question
from cache_policies.positions import Position, PurgeEntry, PurgeKind
from edge.policy_files import PACKAGED_POLICIES
from tests.support.scripted_origin import Reply, ScriptedOrigin, Seen, page

PAGE = "/eu-eur/products/lamp"


class Log:
    """A purge log that answers each question at once with what comes after it."""

    def __init__(self, origin: ScriptedOrigin) -> None:
        self.entries: list[PurgeEntry] = []
        self.reported: list[Position] = []
        origin.on(FEED_PATH, self.answer)
        origin.on(LEAVE_PATH, Reply(b"", 204))

    @property
    def head(self) -> Position:
        return self.entries[-1].position if self.entries else Position(1, 5)

    def answer(self, seen: Seen) -> Reply:
        assert seen.headers["nearshelf-edge-key"] == "the-key"
        question = Question.from_json(seen.body)
        if question.after is None:
            answer = Answer((), self.head, str(self.head), (self.head, str(self.head)))
        else:
            self.reported.append(question.after)
            new = tuple(entry for entry in self.entries if entry.position > question.after)
            answer = Answer(new, self.head, str(self.head))
        return Reply(answer.to_json() + b"\n", headers={"content-type": "application/x-ndjson"}, chunked=True)

    def purge(self, *tags: str) -> Position:
        position = Position(1, self.head.cv + 1)
        self.entries.append(PurgeEntry(position, str(position), PurgeKind.HARD, tags))
        return position


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_a_worker_starts_follows_the_log_and_leaves(tmp_path, loop):
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    async with ScriptedOrigin() as origin:
        log = Log(origin)
        origin.on(PAGE, page(b"old"))
        port, admin_port = free_port(), free_port()
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "edge.gateway",
            env=os.environ
            | {
                "NEARSHELF_EDGE": "eu",
                "NEARSHELF_LISTEN": f"127.0.0.1:{port}",
                "NEARSHELF_ADMIN_LISTEN": f"127.0.0.1:{admin_port}",
                "NEARSHELF_ORIGIN_URL": origin.url,
                "NEARSHELF_EDGE_KEY": "the-key",
                "NEARSHELF_ADMIN_TOKEN": "the-token",
                "NEARSHELF_ACCESS_LOG": str(tmp_path / "access.log"),
                "NEARSHELF_LOOP": loop,
            },
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with httpx.AsyncClient(trust_env=False) as client:
                await until_ready(admin_port)
                url = f"http://127.0.0.1:{port}{PAGE}"
                assert (await client.get(url)).text == "old"
                assert "; hit" in (await client.get(url)).headers["cache-status"]
                position = log.purge("p:eu-eur:sku-1")
                origin.on(PAGE, page(b"new", position=str(position)))
                async with asyncio.timeout(5):
                    while position not in log.reported:
                        await asyncio.sleep(0.01)
                assert (await client.get(url)).text == "new"
        finally:
            process.send_signal(signal.SIGTERM)
            _, errors = await asyncio.wait_for(process.communicate(), 15)
        assert process.returncode == 0, errors.decode()
        assert origin.count(LEAVE_PATH) == 1
        assert (tmp_path / "access.log").read_text().count("\n") == 3


async def test_two_workers_of_one_edge_need_one_fill(tmp_path):
    async with ScriptedOrigin() as origin:
        Log(origin)
        origin.on(PAGE, page(b"lamp"))
        port, admin_ports = free_port(), (free_port(), free_port())
        processes = [
            await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "edge.gateway",
                env=os.environ
                | {
                    "NEARSHELF_EDGE": "eu",
                    "NEARSHELF_LISTEN": f"127.0.0.1:{port}",
                    "NEARSHELF_ADMIN_LISTEN": f"127.0.0.1:{admin_port}",
                    "NEARSHELF_ORIGIN_URL": origin.url,
                    "NEARSHELF_EDGE_KEY": "the-key",
                    "NEARSHELF_ADMIN_TOKEN": "the-token",
                    "NEARSHELF_SIBLINGS": str(tmp_path / "eu"),
                },
                stderr=asyncio.subprocess.PIPE,
            )
            for admin_port in admin_ports
        ]
        try:
            for admin_port in admin_ports:
                await until_ready(admin_port)
            url = f"http://127.0.0.1:{port}{PAGE}"
            for number in range(30):
                # A connection each: the kernel chooses a worker for it.
                async with httpx.AsyncClient(trust_env=False) as client:
                    status = (await client.get(url)).headers["cache-status"]
                    assert ("; hit" in status) == (number > 0)
            assert origin.count(PAGE) == 1
            async with httpx.AsyncClient(trust_env=False, headers={"authorization": "Bearer the-token"}) as client:
                hits = [
                    (await client.get(f"http://127.0.0.1:{at}/status")).json()["cache"]["hit"] for at in admin_ports
                ]
            assert sum(hits) == 29
            assert min(hits) > 0
        finally:
            for process in processes:
                process.send_signal(signal.SIGTERM)
            for process in processes:
                await asyncio.wait_for(process.communicate(), 15)
    assert list((tmp_path / "eu").iterdir()) == []


async def until_ready(admin_port: int) -> None:
    async with httpx.AsyncClient(trust_env=False) as client, asyncio.timeout(20):
        while True:
            try:
                if (await client.get(f"http://127.0.0.1:{admin_port}/readyz")).status_code == 200:
                    return
            except httpx.ConnectError:
                await asyncio.sleep(0.05)


async def test_a_taken_address_is_named(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "edge.gateway",
            env=os.environ
            | {
                "NEARSHELF_EDGE": "eu",
                "NEARSHELF_LISTEN": f"127.0.0.1:{port}",
                "NEARSHELF_ADMIN_LISTEN": "127.0.0.1:0",
                "NEARSHELF_ORIGIN_URL": "http://127.0.0.1:9",
                "NEARSHELF_EDGE_KEY": "the-key",
                "NEARSHELF_ADMIN_TOKEN": "the-token",
            },
            stderr=asyncio.subprocess.PIPE,
        )
        _, errors = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 4
    assert f"127.0.0.1:{port}" in errors.decode()
    assert "Traceback" not in errors.decode()


async def test_policies_that_cannot_be_used_end_a_worker_with_every_fault(tmp_path):
    shutil.copytree(PACKAGED_POLICIES, tmp_path / "policies", ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    for name in ("catalog.yaml", "prices.yaml"):
        with (tmp_path / "policies" / name).open("a") as file:
            file.write("colour: red\n")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "edge.gateway",
        env=os.environ
        | {
            "NEARSHELF_EDGE": "eu",
            "NEARSHELF_LISTEN": "127.0.0.1:0",
            "NEARSHELF_ADMIN_LISTEN": "127.0.0.1:0",
            "NEARSHELF_ORIGIN_URL": "http://127.0.0.1:9",
            "NEARSHELF_EDGE_KEY": "the-key",
            "NEARSHELF_ADMIN_TOKEN": "the-token",
            "NEARSHELF_POLICIES": str(tmp_path / "policies"),
        },
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await process.communicate()
    said = errors.decode()
    assert process.returncode == 2, said
    assert "catalog.yaml:" in said
    assert "prices.yaml:" in said
    assert "Traceback" not in said
