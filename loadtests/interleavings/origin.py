"""The origin that all caches stand before: a primary, a replica that may lag, a purge log, barriers and troubles.

One origin for each cache, so that everything can be counted. It is the shop's side of docs/wire.md in small: it labels
what it answers, answers the questions of edges, and reads the primary for whoever demands a position that the replica
has not got. A cache that knows nothing of this finds an ordinary origin with `Cache-Control`, `ETag` and `Cache-Tag`.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple, Self

from cache_policies.feed import FEED_PATH, HOLD_S, LEASE_S, LEAVE_PATH, Answer, Question
from cache_policies.fields import EDGE_KEY_FIELD, MIN_VERSION_FIELD, MIN_VERSION_HEAD, TAGS_FIELD, VERSION_FIELD
from cache_policies.positions import Position, PurgeEntry, PurgeKind

EDGE_KEY = "the key of the interleavings"
RUN_OUT_S = LEASE_S * 1.01
"""A worker that was silent for so long calls nothing fresh any more (docs/freshness.md, rule 6)."""
SOON_S = 10.0
"""How long anything that must happen may take."""
_EPOCH = 1
_GONE = b"not in the catalog"


class Trouble(Enum):
    """What becomes of the answers for one page."""

    NONE = "none"
    RESET = "the connection is reset"
    SILENCE = "no answer ever comes"
    ERROR_500 = "500"
    ERROR_503 = "503"
    CUT_SHORT = "the body is cut short"


@dataclass(slots=True)
class Page:
    """One address, and what it has shown since when."""

    path: str
    tags: tuple[str, ...]
    lives: str
    """What the origin says of its lifetimes."""
    prices: list[tuple[int, int | None]]
    """(position in the log, price in minor units from there on); None: not in the catalog, 404."""
    bytes_long: int = 0
    """At least so long is the body."""
    replica_at: int | None = None
    """The position behind which the replica hides what happens to this page; None: it keeps up."""
    trouble: Trouble = Trouble.NONE
    fetches: int = 0
    """Requests that have reached the origin."""
    barriers: list[Barrier] = field(default_factory=list)

    @property
    def price(self) -> int | None:
        return self.prices[-1][1]

    def price_at(self, cv: int) -> int | None:
        return next(price for since, price in reversed(self.prices) if since <= cv)

    def barrier(self, *, most: int = 1, mid_body: bool = False, whole: bool = False) -> Barrier:
        """Holds the next `most` answers, each read from the database already: what happens now is not in them.

        `mid_body`: half of the body has gone out. `whole`: with 200, even where the request had a validator.
        """
        barrier = Barrier(most, mid_body, whole)
        self.barriers.append(barrier)
        return barrier


class Barrier:
    """Answers that are held between the database and the cache."""

    def __init__(self, most: int, mid_body: bool, whole: bool) -> None:
        self.left = most
        self.mid_body = mid_body
        self.whole = whole
        self.statuses: list[int] = []
        """Of the answers that were held."""
        self._reached = asyncio.Event()
        self._released = asyncio.Event()

    async def reached(self) -> None:
        """Until an answer is held. Raises TimeoutError when none is: the cache has not asked."""
        async with asyncio.timeout(SOON_S):
            await self._reached.wait()

    def release(self) -> None:
        self.left = 0
        self._released.set()

    async def hold(self, status: int) -> None:
        self.statuses.append(status)
        self._reached.set()
        await self._released.wait()


class _Seen(NamedTuple):
    target: str
    fields: dict[str, str]
    body: bytes


class _Reply(NamedTuple):
    status: int
    fields: dict[str, str]
    body: bytes


@dataclass(slots=True)
class _Contact:
    number: int = 0
    moved_at: float = 0.0
    applied: Position | None = None


class Live(NamedTuple):
    """Whether every worker is known to be done with a change, and how."""

    done: bool
    words: str


class Origin:
    """Use as an async context manager. Everything runs in one loop, so what it is told to do is done at once."""

    def __init__(self) -> None:
        self.pages: dict[str, Page] = {}
        self.delay_s = 0.0
        """How long the database takes for each page."""
        self.under_way = 0
        self.most_under_way = 0
        """Pages that were being read at the same time."""
        self.questions_lost = False
        """Whether what edges ask the purge log is lost on its way."""
        self.port = 0
        self._entries: list[PurgeEntry] = []
        self._grown = asyncio.Event()
        self._contacts: dict[str, _Contact] = {}
        self._asking: set[asyncio.StreamWriter] = set()
        """Connections that bring questions."""
        self._serving: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def head(self) -> Position:
        return Position(_EPOCH, 1 + len(self._entries))

    def page(
        self, path: str, tags: tuple[str, ...], lives: str, *, price: int | None = 1000, bytes_long: int = 0
    ) -> Page:
        """A page of this origin, from now on."""
        page = self.pages[path] = Page(path, tags, lives, [(0, price)], bytes_long)
        return page

    def change(self, pages: list[Page], tag: str, kind: PurgeKind = PurgeKind.HARD) -> Position:
        """A transaction: each of `pages` costs 2.00 more, or is listed at last, and the log names `tag`."""
        position = Position(_EPOCH, self.head.cv + 1)
        for page in pages:
            page.prices.append((position.cv, (page.price or 1000) + 200))
        self._entries.append(PurgeEntry(position, _id_at(position), kind, (tag,)))
        grown, self._grown = self._grown, asyncio.Event()
        grown.set()
        return position

    async def live(self, position: Position, within_s: float) -> Live:
        """Until every worker has reported `position` or was silent for longer than its lease (rule 6)."""
        began = time.monotonic()
        while True:
            now = time.monotonic()
            waiting = [
                contact for contact in self._contacts.values() if contact.applied is None or contact.applied < position
            ]
            if not waiting:
                return Live(True, "live by its report" if self._contacts else "live, for it had left")
            if all(now - contact.moved_at > RUN_OUT_S for contact in waiting):
                return Live(True, f"live after {now - began:.1f} s, its lease over")
            if now - began > within_s:
                return Live(False, f"not live after {within_s:g} s")
            await asyncio.sleep(0.002)

    def lose_questions(self) -> None:
        """From now on, and those that are open."""
        self.questions_lost = True
        for writer in self._asking:
            writer.transport.abort()

    # --- its network ---

    async def __aenter__(self) -> Self:
        await self.listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.refuse()

    async def listen(self) -> None:
        """At first, or again."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]

    async def refuse(self) -> None:
        """Hang up everywhere and listen no more: connections are refused."""
        if self._server is not None:
            self._server.close()
            self._server = None
        serving = list(self._serving)
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            while await self._answer(await _request(reader), writer):
                pass
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            pass
        finally:
            self._serving.discard(task)
            self._asking.discard(writer)
            writer.transport.abort()

    async def _answer(self, seen: _Seen, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection goes on."""
        if seen.target in {FEED_PATH, LEAVE_PATH}:
            if self.questions_lost:
                return False
            self._asking.add(writer)
            if seen.target == FEED_PATH:
                reply = _Reply(200, {"content-type": "application/x-ndjson"}, await self._feed(seen.body))
            else:
                self._contacts.pop(json.loads(seen.body)["worker"], None)
                reply = _Reply(204, {}, b"")
            # What is lost meanwhile was hung up on.
            writer.write(_head_of(reply) + reply.body)
            await writer.drain()
            return True
        page = self.pages.get(seen.target)
        if page is None:
            writer.write(_head_of(_Reply(404, {"cache-control": "no-store"}, _GONE)) + _GONE)
            await writer.drain()
            return True
        return await self._show(page, seen, writer)

    async def _show(self, page: Page, seen: _Seen, writer: asyncio.StreamWriter) -> bool:
        page.fetches += 1
        if page.trouble is Trouble.SILENCE:
            await asyncio.Event().wait()
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            barrier = next((each for each in page.barriers if each.left), None)
            # The database is read here: from now on nothing that happens is in this answer.
            reply = self._read(page, seen, conditional=barrier is None or not barrier.whole)
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            if page.trouble is Trouble.RESET:
                return False
            head, body = _head_of(reply), reply.body
            if barrier is not None:
                barrier.left -= 1
                if barrier.mid_body:
                    half, body = body[: len(body) // 2], body[len(body) // 2 :]
                    writer.write(head + half)
                    head = b""
                    await writer.drain()
                await barrier.hold(reply.status)
            if page.trouble is Trouble.CUT_SHORT:
                writer.write(head + body[: len(body) // 2])
                await writer.drain()
                writer.close()
                await writer.wait_closed()
                return False
            writer.write(head + body)
            await writer.drain()
        finally:
            self.under_way -= 1
        return True

    def _read(self, page: Page, seen: _Seen, *, conditional: bool) -> _Reply:
        """What one node of the database shows, labelled with its position."""
        if page.trouble in {Trouble.ERROR_500, Trouble.ERROR_503}:
            return _Reply(int(page.trouble.value), {"cache-control": "no-store"}, b"out of order")
        cv = self._read_at(page, seen)
        price = page.price_at(cv)
        etag = f'"{price}"'
        fields = {
            "content-type": "text/html; charset=utf-8",
            VERSION_FIELD: str(Position(_EPOCH, cv)),
            TAGS_FIELD: ", ".join(page.tags),
            "cdn-cache-control": page.lives,
            "cache-control": page.lives,
            "etag": etag,
        }
        if price is None:
            return _Reply(404, fields, _GONE)
        if conditional and etag in seen.fields.get("if-none-match", ""):
            return _Reply(304, fields, b"")
        body = f'<!doctype html><data class="price" value="{price}">{price / 100:.2f}</data><!--nearshelf:notice-->'
        return _Reply(200, fields, body.ljust(page.bytes_long).encode())

    def _read_at(self, page: Page, seen: _Seen) -> int:
        """The replica's position, or the primary's where the replica's is not enough for what is demanded (rule 3)."""
        head = self.head.cv
        if page.replica_at is None or seen.fields.get(EDGE_KEY_FIELD) != EDGE_KEY:
            return head if page.replica_at is None else page.replica_at
        minimum = seen.fields.get(MIN_VERSION_FIELD)
        if minimum is None:
            return page.replica_at
        return head if minimum == MIN_VERSION_HEAD or Position.parse(minimum).cv > page.replica_at else page.replica_at

    async def _feed(self, body: bytes) -> bytes:
        """The contact is noted, then the log is read, then answered (docs/wire.md): at once, or when it has grown."""
        question = Question.from_json(body)
        contact = self._contacts.setdefault(question.worker, _Contact())
        if question.contact > contact.number:
            contact.number, contact.moved_at = question.contact, time.monotonic()
        after = question.after
        if after is not None and (contact.applied is None or after > contact.applied):
            contact.applied = after
        start = (Position(_EPOCH, 1), _id_at(Position(_EPOCH, 1))) if after is None else None
        if after == self.head:
            grown = self._grown
            try:
                async with asyncio.timeout(HOLD_S):
                    await grown.wait()
            except TimeoutError:
                pass
        entries = tuple([entry for entry in self._entries if after is not None and entry.position > after])
        return Answer(entries, self.head, _id_at(self.head), start).to_json() + b"\n"


def _id_at(position: Position) -> str:
    return f"entry-{position.cv}"


async def _request(reader: asyncio.StreamReader) -> _Seen:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    request_line, *lines = head[:-4].split("\r\n")
    fields = {line.partition(":")[0].lower(): line.partition(":")[2].strip() for line in lines}
    body = await reader.readexactly(int(fields.get("content-length", "0")))
    return _Seen(request_line.split(" ")[1], fields, body)


def _head_of(reply: _Reply) -> bytes:
    fields = dict(reply.fields)
    if reply.status not in {204, 304}:
        fields["content-length"] = str(len(reply.body))
    lines = [f"HTTP/1.1 {reply.status} Said", *(f"{name}: {value}" for name, value in fields.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
