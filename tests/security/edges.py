"""Edge workers as processes of their own in front of the careless origin: one to be attacked, one to be left alone."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.security.origin import Origin, PurgeLog, careless, honest
from tests.security.viewer import HERE, HOP, Viewers

ROOT = Path(__file__).parents[2]
SHOP = "shop.example"
HOSTS = 6_000
"""Names besides, each a namespace of keys that nobody has touched yet: `host_name(n)`."""
TOKEN = "token-of-the-security-tests"
EDGE_KEY = "key-of-the-security-tests"
GATEWAY = ("-m", "edge.gateway")


def host_name(number: int) -> str:
    return f"h{number}.example" if number else SHOP


@dataclass(frozen=True, slots=True)
class Kind:
    """How an edge is set up. `policies`: a folder, or a profile's name; empty for the shop's. `program`: of Python."""

    name: str
    policies: str = ""
    positions: str = "origin"
    program: tuple[str, ...] = GATEWAY
    forwards_all: bool = False
    """Every field reaches the origin, which has to say in Vary what it looks at."""


SHOP_EDGE = Kind("shop")
RFC9111_EDGE = Kind("rfc9111", policies="rfc9111", positions="site", forwards_all=True)


@dataclass(frozen=True, slots=True)
class Edge:
    address: tuple[str, int]
    admin: tuple[str, int]
    log: Path
    process: subprocess.Popen[bytes]

    @property
    def admin_url(self) -> str:
        return f"http://{self.admin[0]}:{self.admin[1]}"


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        bound = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in bound:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in bound]


@contextlib.asynccontextmanager
async def running_edge(folder: Path, kind: Kind, origin_url: str, log: PurgeLog) -> AsyncIterator[Edge]:
    """One worker, until the end of the block, which begins when it follows the purge log."""
    folder.mkdir(parents=True, exist_ok=True)
    port, admin_port = _free_ports(2)
    environment = {
        "NEARSHELF_EDGE": "eu",
        "NEARSHELF_LISTEN": f"127.0.0.1:{port}",
        "NEARSHELF_ADMIN_LISTEN": f"127.0.0.1:{admin_port}",
        "NEARSHELF_PUBLIC_URL": f"http://{SHOP}",
        "NEARSHELF_HOSTS": ",".join(host_name(number) for number in range(1, HOSTS)),
        "NEARSHELF_ORIGIN_URL": origin_url,
        "NEARSHELF_FEED_URL": log.url,
        "NEARSHELF_EDGE_KEY": EDGE_KEY,
        "NEARSHELF_ADMIN_TOKEN": TOKEN,
        "NEARSHELF_ACCESS_LOG": str(folder / "access.log"),
        "NEARSHELF_TRUSTED_HOPS": HOP,
        "NEARSHELF_POSITIONS": kind.positions,
        "NEARSHELF_POLICIES": kind.policies,
    }
    output = folder / "output"
    with output.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, *kind.program], stdout=file, stderr=file, cwd=ROOT, env=os.environ | environment
        )
    try:
        edge = Edge(("127.0.0.1", port), ("127.0.0.1", admin_port), folder / "access.log", process)
        await _until_ready(edge, output)
        yield edge
        if process.poll() is not None:
            raise AssertionError(f"the edge ended by itself:\n{output.read_text()[-3000:]}")
        if "Traceback" in (said := output.read_text()):
            raise AssertionError(f"the edge met a fault of its own:\n{said[-3000:]}")
    finally:
        process.terminate()
        try:
            await asyncio.to_thread(process.wait, 30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


async def _until_ready(edge: Edge, output: Path) -> None:
    deadline = time.monotonic() + 60
    async with httpx.AsyncClient(trust_env=False) as client:
        while True:
            with contextlib.suppress(httpx.TransportError):
                answer = await client.get(f"{edge.admin_url}/readyz")
                if answer.json().get("status") == "ready":
                    return
            if edge.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"the edge does not become ready:\n{output.read_text()[-3000:]}")
            await asyncio.sleep(0.05)


class Side:
    """One edge, with viewers of each kind: an attacker (nobody knows where), and clean ones behind the trusted hop."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.attacker = Viewers(address, HERE)
        self.clean = Viewers(address, HOP)

    def close(self) -> None:
        self.attacker.close()
        self.clean.close()

    @property
    def asked(self) -> int:
        return self.attacker.asked + self.clean.asked


@dataclass(frozen=True, slots=True)
class Pair:
    """Two edges that differ in nothing but what they have met. `edge`: the attacked one, where it is a process."""

    kind: Kind
    origin: Origin
    log: PurgeLog
    attacked: Side
    fresh: Side
    edge: Edge | None = None


@contextlib.asynccontextmanager
async def running_pair(folder: Path, kind: Kind = SHOP_EDGE) -> AsyncIterator[Pair]:
    usual = honest if kind.forwards_all else careless
    async with Origin(usual=usual) as origin, PurgeLog() as log, contextlib.AsyncExitStack() as stack:
        edge, fresh = await asyncio.gather(
            *(
                stack.enter_async_context(running_edge(folder / f"{kind.name}-{role}", kind, origin.url, log))
                for role in ("attacked", "fresh")
            )
        )
        pair = Pair(kind, origin, log, Side(edge.address), Side(fresh.address), edge)
        try:
            yield pair
        finally:
            pair.attacked.close()
            pair.fresh.close()
