"""`nearshelf edge` as a process of its own, in front of an origin that a test runs."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx

from edge.site.tokens import find_token

ROOT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-c", "from infra.cli import main; main()")


class RunningSite:
    """Use as an async context manager. Ports are free ones; the state and the token are in `folder`.

    `arguments`: further ones of the command, `--origin` among them.
    """

    def __init__(self, folder: Path, *arguments: str, workers: int = 2, env: dict[str, str] | None = None) -> None:
        self.folder = folder
        self.env = os.environ | {"XDG_STATE_HOME": str(folder / "xdg")} | (env or {})
        self.arguments = (
            *("--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--workers", str(workers)),
            *("--state", str(folder / "state"), *arguments),
        )
        self.lines: list[str] = []
        self.errors: list[str] = []

    async def __aenter__(self) -> RunningSite:
        self.process = await asyncio.create_subprocess_exec(
            *(*COMMAND, "edge", *self.arguments),
            env=self.env,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._reading = [
            asyncio.create_task(_read(self.process.stdout, self.lines)),
            asyncio.create_task(_read(self.process.stderr, self.errors)),
        ]
        async with asyncio.timeout(60):
            while not any("nearshelf purge" in line for line in self.lines):
                if self.process.returncode is not None:
                    raise AssertionError("\n".join([*self.lines, *self.errors]))
                await asyncio.sleep(0.01)
        self.url = self._said("viewers")
        self.admin = self._said("explorer")
        token = find_token(self.env, self.admin)
        assert token is not None
        self.token = token
        self.client = httpx.AsyncClient(
            base_url=self.admin, headers={"authorization": f"Bearer {token}"}, timeout=30, trust_env=False
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.aclose()
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
            await asyncio.wait_for(self.process.wait(), 30)
        await asyncio.gather(*self._reading)

    def _said(self, what: str) -> str:
        found = re.search(rf"^ +{what} +(https?://\S+?)/?,?(?: |$)", "\n".join(self.lines), re.MULTILINE)
        assert found is not None, self.lines
        return found[1]

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    async def status(self) -> dict[str, Any]:
        found: dict[str, Any] = (await self.client.get("/status")).json()
        return found

    async def pids(self) -> list[int]:
        return [worker["pid"] for worker in (await self.status())["workers"]]

    async def until_ready(self, restarts: int) -> None:
        """Until all workers are ready and have been restarted so often, all together."""
        async with asyncio.timeout(90):
            while True:
                workers = (await self.status())["workers"]
                if sum(worker["restarts"] for worker in workers) >= restarts and all(
                    worker["state"] == "ready" for worker in workers
                ):
                    return
                await asyncio.sleep(0.02)

    async def purge(self, **order: Any) -> dict[str, Any]:
        answer = await self.client.post("/purge", json=order)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found


async def _read(stream: asyncio.StreamReader | None, lines: list[str]) -> None:
    assert stream is not None
    while line := await stream.readline():
        lines.append(line.decode().rstrip())


def is_running(pid: int) -> bool:
    """Whether there is a process with that number that has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
