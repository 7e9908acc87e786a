"""One origin worker of the simulation: the origin's own code between a database and edges that are simulated.

Pools, unit of work, snapshots, purge log, feed, live ledger, wake-up, read-through and its shelf are those of
`origin/`, joined as `origin/shop.py` joins them; pages are made by `shop.py`. HTTP is read by httptools and answered
here, in the pieces in which a server would send it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Any, Protocol

import httptools
from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import Request
from starlette.responses import Response

from cache_policies.feed import Question
from cache_policies.markets import Markets
from cache_policies.positions import Position, WireError
from origin.caching import cached
from origin.db import Database, Durability
from origin.errors import ShopError, Unavailable
from origin.events.feed import Feed, leave
from origin.events.live import LiveReport, LiveState
from origin.events.observer import Observer
from origin.events.purge_log import LogTail, trim
from origin.events.wake import Wake
from origin.readthrough import ReadThrough, Rendered
from origin.shelf import Shelf
from origin.snapshot import Snapshots
from tests.simulation.edges import EDGE_KEY, FEED, LEAVE
from tests.simulation.engine.loop import SimLoop
from tests.simulation.engine.network import Network
from tests.simulation.engine.processes import Process
from tests.simulation.promise import Promise
from tests.simulation.shop import BY_TARGET, EVERYTHING_REPLACED, Lifetimes, Page, Rendering, event_of, write
from tests.simulation.viewers import Said
from tests.simulation.waiting import Waiting

logger = logging.getLogger("nearshelf.simulation")

LISTENS_AT = "origin.example"
REDIS_URL = "redis://valkey"
CHANGE_DEADLINE_S = 30.0
"""A merchandiser waits no longer than this for a change to be committed, and then for it to be live."""
PIECES = 3


@dataclass(frozen=True, slots=True)
class OriginSettings:
    """What origin workers of one run are like."""

    primary_url: str
    replica_urls: tuple[str, ...]
    standbys: tuple[str, ...]
    lifetimes: Lifetimes
    readthrough: bool
    pieces_s: float
    """Pause between two pieces of a long body."""


class Failing(StrEnum):
    """What an origin worker may do wrong with pages, while it goes on answering questions."""

    ERRORS = "500 in place of pages"
    CUT_SHORT = "pages that break off"


class Surroundings(Protocol):
    """What a worker needs of the world."""

    loop: SimLoop
    network: Network
    markets: Markets
    promise: Promise
    waiting: Waiting
    said: Said

    def reported(self, report: LiveReport) -> None:
        """Somebody was told of a change what this says, or would be."""
        ...


class _Uncounted:
    """In place of metrics that nobody reads."""

    def labels(self, *_: str) -> _Uncounted:
        return self

    def inc(self) -> None:
        """Nothing."""

    def observe(self, amount: float) -> None:
        """Nothing."""

    @property
    def readthrough(self) -> _Uncounted:
        return self

    @property
    def readthrough_seconds(self) -> _Uncounted:
        return self


class _Observer(Observer):
    """Without a client for read-backs: viewers of the simulation look for themselves. `found` hears of what is found
    out when it is: from now on whoever asks is told that."""

    def __init__(
        self,
        database: Database,
        standbys: Sequence[str],
        clock: Callable[[], float],
        found: Callable[[LiveReport], None],
    ) -> None:
        super().__init__(database, standbys, clock)
        self._found = found

    def _keep(self, report: LiveReport) -> None:
        super()._keep(report)
        self._found(report)

    async def start(self) -> None:
        self._tasks = [
            asyncio.create_task(self._look(), name="live"),
            asyncio.create_task(self._write(), name="live progress"),
        ]


class OriginWorker:
    """To be made by a task of its process."""

    def __init__(self, world: Surroundings, process: Process, settings: OriginSettings, draws: Random) -> None:
        self.process = process
        self.name = process.name
        self.settings = settings
        self._world = world
        self._draws = draws
        self._rendering = Rendering(settings.lifetimes)
        self.database = Database(settings.primary_url, settings.replica_urls, markets=world.markets)
        self.wake = Wake(REDIS_URL)
        self.observer = _Observer(self.database, settings.standbys, process.monotonic, world.reported)
        self.tail = LogTail(self.database, self.wake)
        self.database.on_commit.extend([self.tail.committed, self.wake.announce, self.observer.watch])
        self.snapshots = Snapshots(self.database)
        self.fails: tuple[Failing, float] | None = None
        """What it does wrong with pages, and how often of one time."""
        metrics: Any = _Uncounted()
        self.readthrough = ReadThrough(
            self.snapshots,
            self.tail,
            metrics,
            Shelf(REDIS_URL, process.monotonic) if settings.readthrough else None,
            secret=EDGE_KEY,
            clock=process.monotonic,
            wall=process.wall,
        )
        self.feed = Feed(self.database, self.tail)

    async def start(self) -> None:
        await self.wake.start()
        await self.observer.start()
        await self.tail.start()
        self._watching = asyncio.create_task(self.database.keep_watch(), name="watch")
        for task in (self._watching, *self.observer._tasks, *self.tail._tasks):
            task.add_done_callback(self._has_ended)
        network = self._world.network
        network.serve(self.process, FEED, self._questions)
        network.serve(self.process, LEAVE, self._leaves)
        network.listen(self.process, LISTENS_AT, lambda: _Connection(self))

    def _has_ended(self, task: asyncio.Task[None]) -> None:
        """A task that goes on for as long as the process does has ended."""
        if not task.cancelled():
            self._world.loop.faults.append(f"{task.get_name()} of {self.name} ended: {task.exception()!r}")

    # -- what merchandisers do -----------------------------------------------------------------------------------------

    async def change(self, writes: dict[str, int], durability: Durability, *, everything: bool = False) -> bool:
        """Somebody changes rows here, all in one transaction, and waits until that is live; whether it is confirmed."""
        world, loop = self._world, self._world.loop
        what = " ".join(f"{row}={number}" for row, number in writes.items())
        turn = world.waiting.begins(self.name, f"the change {what}", loop.now)
        survives = durability is Durability.SURVIVES
        changes = [world.promise.wanted(row, number, survives=survives) for row, number in writes.items()]
        loop.note(f"begins {what}")
        try:
            async with asyncio.timeout(CHANGE_DEADLINE_S):
                async with self.database.unit_of_work(
                    actor="merchandiser", cause="a change", durability=durability
                ) as work:
                    for row, number in sorted(writes.items()):
                        await write(work.connection, row, number)
                        work.record(event_of(row, number))
                    if everything:
                        work.record(EVERYTHING_REPLACED)
                assert work.position is not None
                for change in changes:
                    world.promise.confirmed(change)
                loop.note(f"has committed {what} at {work.position}")
                await self.look_at(work.position)
        except (SQLAlchemyError, ShopError, OSError, TimeoutError) as exc:
            loop.note(f"did not hear of {what}: {str(exc) or type(exc).__name__}")
        finally:
            world.waiting.ends(turn)
        return all(change.confirmed for change in changes)

    async def look_at(self, position: Position, wait_s: float = 10.0) -> LiveState:
        """Wait until the change at `position` is live, and tell whoever asked. Raises what the database raises."""
        report = await self.observer.wait_live(position, wait_s)
        self._world.loop.note(f"reports {position} {report.state.value}")
        self._world.reported(report)
        return report.state

    async def look_again_at(self, position: Position) -> None:
        """Somebody asks again about a change that was not live."""
        try:
            await self.look_at(position)
        except (SQLAlchemyError, ShopError, OSError) as exc:
            self._world.loop.note(f"cannot say whether {position} is live: {exc}")

    async def trim_log(self, keep: int) -> None:
        """Forget the oldest entries of the log, as the tail does now and then."""
        try:
            async with self.database.log.connect() as connection:
                await trim(connection, keep)
        except (SQLAlchemyError, ShopError, OSError) as exc:
            self._world.loop.note(f"the log is not trimmed: {exc}")

    def has_bad_luck(self, failing: Failing) -> bool:
        """Whether that goes wrong now."""
        return self.fails is not None and self.fails[0] is failing and self._draws.random() < self.fails[1]

    # -- what edges ask ------------------------------------------------------------------------------------------------

    async def _questions(self, payload: bytes) -> AsyncIterator[bytes]:
        """The feed, as `origin/events/api.py` answers it; raises ConnectionError in place of a 503."""
        try:
            question = Question.from_json(payload)
            self.feed.admit()
        except (WireError, Unavailable) as exc:
            raise ConnectionError(str(exc)) from exc
        try:
            async for line in self.feed.answer(question):
                yield line
        except (SQLAlchemyError, ShopError, OSError) as exc:
            raise ConnectionError(str(exc)) from exc
        except Exception as exc:
            self._world.loop.faults.append(f"a question failed: {exc!r}")
            raise
        finally:
            self.feed.release()

    async def _leaves(self, payload: bytes) -> AsyncIterator[bytes]:
        try:
            await leave(self.database, payload.decode())
        except SQLAlchemyError as exc:
            raise ConnectionError(str(exc)) from exc
        yield b""

    async def answer(self, edge: str, method: str, target: str, headers: list[tuple[bytes, bytes]]) -> Response:
        """What is said to one request of `edge` for a page."""
        if self.has_bad_luck(Failing.ERRORS):
            return Response(b"something broke", 500)
        page = BY_TARGET.get(target)
        if page is None:
            return Response(b"nothing here", 404, {"cache-control": "no-store"})
        path = page.target
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": headers,
            "state": {"from_edge": True},
        }
        request = Request(scope)
        try:
            response = await self.readthrough.answer(request, (page.name,), lambda: self._read(request, page))
            self._world.said.to(edge, response.headers["etag"].encode(), self._world.loop.now)
            return response
        except (Unavailable, SQLAlchemyError, OSError) as exc:
            self._world.loop.note(f"cannot answer {page.name}: {exc}")
            return Response(b"not now", 503, {"retry-after": "1", "cache-control": "no-store"})

    async def _read(self, request: Request, page: Page) -> Rendered:
        async with self.readthrough.snapshot(request) as snapshot:
            rendered = await self._rendering.render(page, snapshot)
        etag = cached(request, rendered.body, rendered.media_type, rendered.hints).headers["etag"]
        self._world.said.bodies[etag.encode()] = rendered.body
        return rendered


class _Connection(asyncio.Protocol):
    """One connection of an edge: one request after the other."""

    def __init__(self, worker: OriginWorker) -> None:
        self._worker = worker
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._task is not None:
            self._task.cancel()

    def on_message_begin(self) -> None:
        self._target, self._headers = b"", []

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))

    def on_message_complete(self) -> None:
        method = self._parser.get_method().decode()
        answering = self._answer(method, self._target.decode(), self._headers)
        self._task = asyncio.get_running_loop().create_task(answering)

    async def _answer(self, method: str, target: str, headers: list[tuple[bytes, bytes]]) -> None:
        worker = self._worker
        transport = self._transport
        assert transport is not None
        edge = transport.get_extra_info("peername")[0].partition("/")[0]
        response = await worker.answer(edge, method, target, headers)
        lines = [f"HTTP/1.1 {response.status_code} Simulated"]
        lines += [f"{name.decode()}: {value.decode('latin-1')}" for name, value in response.raw_headers]
        head = "\r\n".join([*lines, "", ""]).encode("latin-1")
        body = b"" if method == "HEAD" or response.status_code == 304 else bytes(response.body)
        if worker.has_bad_luck(Failing.CUT_SHORT):
            transport.write(head + body[: len(body) // 2])
            transport.close()
            return
        if len(body) < 400:
            transport.write(head + body)
            return
        # What is long comes in pieces, and anything may happen between them.
        transport.write(head)
        step = -(-len(body) // PIECES)
        for start in range(0, len(body), step):
            await asyncio.sleep(worker.settings.pieces_s * worker._draws.random())
            transport.write(body[start : start + step])
