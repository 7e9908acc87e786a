"""An origin for benches: pages made by a function, counted and delayed on demand, and a purge log with what is put in.

It runs in a thread of the bench. Where the origin's speed matters (misses), a server of its own is the better origin.
"""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from cache_policies.feed import FEED_PATH, HOLD_S, LEAVE_PATH, Answer, Question
from cache_policies.positions import Position, PurgeEntry, PurgeKind

_EPOCH = 1
_LENGTH = re.compile(r"(?i)\ncontent-length: *(\d+)")


@dataclass(frozen=True, slots=True)
class Page:
    """What the origin answers."""

    body: bytes
    media_type: str = "text/html; charset=utf-8"
    fields: tuple[str, ...] = ()
    """Further field lines, without line ends."""
    status: int = 200


PageFor = Callable[[str, str], Page]
"""From a request's target and its whole head to the page for it."""


def labelled(
    tag: str, *, fresh_s: int = 86_400, directives: str = "", position: str = f"{_EPOCH}.1"
) -> tuple[str, ...]:
    """The fields with which the shop's origin says that a page may be kept."""
    said = f"max-age={fresh_s}{directives}"
    return (
        f"catalog-version: {position}",
        f"cache-tag: {tag}",
        f"cdn-cache-control: {said}",
        f"cache-control: public, {said}",
        f'etag: "{tag}"',
    )


class BenchOrigin:
    """Answers every path by `page_for`, `delay_s` seconds after the request came; `fetches` counts by target."""

    def __init__(self, page_for: PageFor, delay_s: float = 0.0) -> None:
        self.page_for = page_for
        self.delay_s = delay_s
        self.fetches: Counter[str] = Counter()
        self.most_under_way = 0
        """Requests for pages that were here at once, at the most."""
        self._under_way = 0
        self.port = 0
        self.loop = asyncio.new_event_loop()
        self.reported_s: dict[Position, float] = {}
        """By entry: how long after it was put a worker first reported it applied, in seconds."""
        self.reports: Counter[Position] = Counter()
        """By entry: how many workers have reported it applied."""
        self._heard: set[tuple[str, Position]] = set()
        self._put_at: dict[Position, float] = {}
        self._entries: list[PurgeEntry] = []
        self._grown = asyncio.Event()
        self._server: asyncio.Server

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def position(self) -> Position:
        """The head of the purge log."""
        return Position(_EPOCH, 1 + len(self._entries))

    def purge(self, *tags: str, kind: PurgeKind = PurgeKind.HARD) -> Position:
        """Put an entry into the log, from any thread; edges hear of it at once. The entry's position."""

        async def put() -> Position:
            position = Position(_EPOCH, self.position.cv + 1)
            self._entries.append(PurgeEntry(position, _id_at(position), kind, tags))
            self._put_at[position] = time.perf_counter()
            self._grown.set()
            self._grown = asyncio.Event()
            return position

        return asyncio.run_coroutine_threadsafe(put(), self.loop).result()

    async def listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]

    def close(self) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                length = _LENGTH.search(head)
                body = await reader.readexactly(int(length[1])) if length else b""
                target = head.split(" ", 2)[1]
                if target == FEED_PATH:
                    page = Page(await self._feed(body), "application/x-ndjson")
                elif target == LEAVE_PATH:
                    page = Page(b"")
                else:
                    self.fetches[target] += 1
                    self._under_way += 1
                    self.most_under_way = max(self.most_under_way, self._under_way)
                    try:
                        if self.delay_s:
                            await asyncio.sleep(self.delay_s)
                        page = self.page_for(target, head)
                    finally:
                        self._under_way -= 1
                writer.write(_rendered(page))
                await writer.drain()
                if "connection: close" in head.lower() or "http/1.0" in head.lower():
                    break
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _feed(self, body: bytes) -> bytes:
        """The answer to a question, held while there is nothing to tell (docs/wire.md)."""
        question = Question.from_json(body) if body else None
        after = None if question is None else question.after
        if after in self._put_at and after not in self.reported_s:
            self.reported_s[after] = time.perf_counter() - self._put_at[after]
        if question is not None and after is not None and (question.worker, after) not in self._heard:
            self._heard.add((question.worker, after))
            self.reports[after] += 1
        start = (Position(_EPOCH, 1), _id_at(Position(_EPOCH, 1))) if after is None else None
        if after == self.position:
            grown = self._grown
            with suppress(TimeoutError):
                await asyncio.wait_for(grown.wait(), HOLD_S)
        entries = tuple([entry for entry in self._entries if after is not None and entry.position > after])
        head = self.position
        return Answer(entries, head, _id_at(head), start).to_json() + b"\n"


def _id_at(position: Position) -> str:
    return f"entry-{position.cv}"


def _rendered(page: Page) -> bytes:
    fields = [f"content-type: {page.media_type}", f"content-length: {len(page.body)}", *page.fields]
    return (f"HTTP/1.1 {page.status} OK\r\n" + "\r\n".join(fields) + "\r\n\r\n").encode() + page.body


@contextmanager
def running(origin: BenchOrigin) -> Iterator[BenchOrigin]:
    """`origin`, listening in a thread of its own while the block runs."""
    ready = threading.Event()

    def run() -> None:
        origin.loop.run_until_complete(origin.listen())
        ready.set()
        origin.loop.run_forever()

    async def stop() -> None:
        origin.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        origin.loop.stop()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    ready.wait()
    try:
        yield origin
    finally:
        asyncio.run_coroutine_threadsafe(stop(), origin.loop)
        thread.join()
        origin.loop.close()
