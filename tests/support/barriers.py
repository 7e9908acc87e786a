"""Barriers between a real edge worker and a real origin: answers are read whole from the origin, held, let go.

`BarrierProxy` stands on the way of fills and knows HTTP; `RealEdge` is a process `python -m edge.gateway` behind it,
whose questions go to the origin directly. Nothing here sleeps: every wait is for an event, within `WITHIN_S`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from cache_policies.positions import Position
from edge.store.siblings import STORED
from tests.support.raw_http import RawResponse, RawViewer

WITHIN_S = 20.0
"""How long anything may take on a busy machine before a test fails."""
LONGEST_MESSAGE_BYTES = 200_000
"""Of a worker to its siblings."""


@dataclass(frozen=True)
class Asked:
    """One fill and what the origin said to it. Field names are lower case."""

    target: str
    request: dict[str, str]
    status: int
    answer: dict[str, str]
    body: bytes

    @property
    def minimum(self) -> Position | None:
        """The position it demanded; None for none."""
        text = self.request.get("min-catalog-version")
        return None if text is None else Position.parse(text)

    @property
    def position(self) -> Position:
        return Position.parse(self.answer["catalog-version"])

    @property
    def tags(self) -> set[str]:
        return {tag.strip() for tag in self.answer["cache-tag"].split(",")}


class Barrier:
    """Holds the next answer to one target, from when the origin has given it whole until `release`."""

    def __init__(self, target: str, *, mid_body: bool) -> None:
        self.target = target
        self.mid_body = mid_body
        self._held: asyncio.Future[Asked] = asyncio.get_running_loop().create_future()
        self._released = asyncio.Event()

    async def held(self) -> Asked:
        """What is held, as soon as it is."""
        async with asyncio.timeout(WITHIN_S):
            return await asyncio.shield(self._held)

    def release(self) -> None:
        self._released.set()

    async def hold(self, asked: Asked) -> None:
        self._held.set_result(asked)
        await self._released.wait()


class BarrierProxy:
    """Use as an async context manager. Everything that came through is in `asked`, in the order of its answers."""

    def __init__(self, origin_url: str) -> None:
        parts = urlsplit(origin_url)
        assert parts.hostname is not None
        assert parts.port is not None
        self._origin = (parts.hostname, parts.port)
        self.asked: list[Asked] = []
        self._more = asyncio.Condition()
        self._barriers: list[Barrier] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server
        self.url = ""

    def barrier(self, target: str, *, mid_body: bool = False) -> Barrier:
        """One for the next answer to `target`. `mid_body`: it is passed on chunked and held after half of its body."""
        barrier = Barrier(target, mid_body=mid_body)
        self._barriers.append(barrier)
        return barrier

    def answers_to(self, target: str) -> list[Asked]:
        return [asked for asked in self.asked if asked.target == target]

    async def answer(self, target: str, number: int) -> Asked:
        """The answer to `target` with this number, counted from 0, as soon as the origin has given it."""
        async with asyncio.timeout(WITHIN_S), self._more:
            await self._more.wait_for(lambda: len(self.answers_to(target)) > number)
        return self.answers_to(target)[number]

    async def __aenter__(self) -> BarrierProxy:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while True:
                await self._one(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        request_line, *lines = head[:-4].decode("latin-1").split("\r\n")
        method, target, _ = request_line.split(" ")
        assert method == "GET", f"{method} {target}: only fills come this way, and a fill is a GET"
        to_origin = [request_line, *_without_connection(lines), "Connection: close", "", ""]
        async with await RawViewer.open(self._origin) as origin:
            origin.send("\r\n".join(to_origin).encode("latin-1"))
            answer = await origin.response(within_s=WITHIN_S)
        asked = Asked(target, _fields(lines), answer.status, answer.headers, answer.body)
        barrier = next((waiting for waiting in self._barriers if waiting.target == target), None)
        async with self._more:
            self.asked.append(asked)
            self._more.notify_all()
        if barrier is None:
            writer.write(_head(answer) + answer.body)
        else:
            self._barriers.remove(barrier)
            if barrier.mid_body:
                half = len(answer.body) // 2
                writer.write(_head(answer, chunked=True) + _chunk(answer.body[:half]))
                await barrier.hold(asked)
                writer.write(_chunk(answer.body[half:]) + b"0\r\n\r\n")
            else:
                await barrier.hold(asked)
                writer.write(_head(answer) + answer.body)
        await writer.drain()


def _fields(lines: list[str]) -> dict[str, str]:
    return {line.partition(":")[0].lower(): line.partition(":")[2].strip() for line in lines}


def _without_connection(lines: list[str]) -> list[str]:
    return [line for line in lines if not line.lower().startswith("connection:")]


def _head(answer: RawResponse, *, chunked: bool = False) -> bytes:
    left_out = {"connection", "transfer-encoding", "content-length"}
    lines = [f"{name}: {value}" for name, value in answer.pairs if name not in left_out]
    if chunked:
        lines.append("transfer-encoding: chunked")
    elif answer.status not in (204, 304):
        lines.append(f"content-length: {len(answer.body)}")
    return "\r\n".join((f"HTTP/1.1 {answer.status} Relayed", *lines, "", "")).encode("latin-1")


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class RealEdge:
    """One worker of an edge called `barrier`, from its first contact at the origin to its leaving.

    It believes in a sibling, and tells it each response in the step in which that goes into its own store: `stored`.
    `environment`: what it is told besides. `beside`: another worker of the same edge, whose sibling it is; what either
    stores is told to that one's listener.
    """

    NAME = "barrier"

    def __init__(
        self,
        fills_url: str,
        questions_url: str,
        edge_key: str,
        environment: Mapping[str, str] | None = None,
        beside: RealEdge | None = None,
    ) -> None:
        self._port, self._admin_port = _free_port(), _free_port()
        self._beside = beside
        # What a response is stored under holds the host that it was asked for: they have one name.
        self.host: str = f"127.0.0.1:{self._port}" if beside is None else beside.host
        if beside is None:
            # The name of a socket is short.
            self._folder = tempfile.TemporaryDirectory(prefix="nearshelf-barrier-")
            self._sibling = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        else:
            self._folder, self._sibling = beside._folder, beside._sibling
        self._environment = {
            "NEARSHELF_EDGE": self.NAME,
            "NEARSHELF_LISTEN": f"127.0.0.1:{self._port}",
            "NEARSHELF_HOSTS": self.host,
            "NEARSHELF_ADMIN_LISTEN": f"127.0.0.1:{self._admin_port}",
            "NEARSHELF_ORIGIN_URL": fills_url,
            "NEARSHELF_FEED_URL": questions_url,
            "NEARSHELF_EDGE_KEY": edge_key,
            "NEARSHELF_ADMIN_TOKEN": "the-token-of-the-barrier-tests",
            "NEARSHELF_SIBLINGS": self._folder.name,
            **(environment or {}),
        }
        self._viewers: list[RawViewer] = []
        self._process: asyncio.subprocess.Process
        self.worker: str
        """Its name in live reports, once it is ready."""

    async def __aenter__(self) -> RealEdge:
        if self._beside is None:
            self._sibling.setblocking(False)
            self._sibling.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * LONGEST_MESSAGE_BYTES)
            self._sibling.bind(str(Path(self._folder.name) / "the-sibling"))
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "edge.gateway",
            env=os.environ | self._environment,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            await self._ready()
        except BaseException:
            self._process.kill()
            await self._process.communicate()
            self._close()
            raise
        return self

    def _close(self) -> None:
        if self._beside is None:
            self._sibling.close()
            self._folder.cleanup()

    def stored(self) -> list[Position]:
        """The positions of what went into the store since this was asked last, in order; at most ten are kept."""
        positions = []
        with contextlib.suppress(BlockingIOError):
            while True:
                message = self._sibling.recv(LONGEST_MESSAGE_BYTES)
                if message.startswith(STORED):
                    head, _, _ = message.removeprefix(STORED).partition(b"\n")
                    positions.append(Position.parse(json.loads(head)["position"]))
        return positions

    async def _ready(self) -> None:
        async with httpx.AsyncClient(trust_env=False) as client, asyncio.timeout(WITHIN_S):
            while True:
                assert self._process.returncode is None, "the edge worker ended instead of becoming ready"
                try:
                    answer = await client.get(f"http://127.0.0.1:{self._admin_port}/readyz")
                    if answer.status_code == 200 and answer.json()["status"] == "ready":
                        token = {"authorization": f"Bearer {self._environment['NEARSHELF_ADMIN_TOKEN']}"}
                        status = await client.get(f"http://127.0.0.1:{self._admin_port}/status", headers=token)
                        self.worker = status.json()["worker"]
                        return
                except httpx.TransportError:
                    pass
                await asyncio.sleep(0.02)

    async def __aexit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        for viewer in self._viewers:
            viewer.writer.transport.abort()
        self._process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(WITHIN_S):
                errors = (await self._process.communicate())[1]
        except TimeoutError:
            self._process.kill()
            await self._process.communicate()
            raise
        finally:
            self._close()
        if kind is None:
            assert self._process.returncode == 0, errors.decode()
            assert b"Traceback" not in errors, errors.decode()

    async def viewer(self) -> EdgeViewer:
        """A connection that this worker has accepted and answered on once."""
        raw = await RawViewer.open(("127.0.0.1", self._port))
        self._viewers.append(raw)
        viewer = EdgeViewer(raw, self.host)
        await viewer.in_turn()
        return viewer

    async def ask(self, target: str, *, method: str = "GET") -> RawResponse:
        """One request on a connection of its own."""
        viewer = await self.viewer()
        viewer.send(target, method=method)
        return await viewer.response()

    async def has_read_everything(self) -> None:
        """Returns once the worker has dealt with whatever was sent to it before, on any connection.

        Bytes sent over loopback are at the receiver when `send` returns. So a worker that answers a later request has
        those in the same turn of its loop at the latest, and is through with that turn when it answers one more.
        """
        viewer = await self.viewer()
        await viewer.in_turn()


class EdgeViewer:
    """One connection to the worker, one request at a time."""

    def __init__(self, raw: RawViewer, host: str) -> None:
        self._raw = raw
        self._host = host
        self._method = "GET"

    def send(self, target: str, *, method: str = "GET") -> None:
        self._method = method
        self._raw.get(target, self._host, method=method)

    async def response(self) -> RawResponse:
        return await self._raw.response(to=self._method, within_s=WITHIN_S)

    async def in_turn(self) -> None:
        """A round trip that the worker answers by itself: the redirect of `/`."""
        self.send("/")
        answer = await self.response()
        assert answer.status == 302, answer

    def hang_up(self) -> None:
        self._raw.writer.transport.abort()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
