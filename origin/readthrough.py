"""Answers of the public that were made before: between the origin's handlers and the database (decision 0002).

A value is a whole answer: body, tags, lifetimes and the position at which all of it was read, under one seal. It is
given again only as what it is, labelled with its own position, and only while this worker's tail of the purge log
proves that it still holds. Nothing hangs on Redis: whatever is wrong with a value or its server, the answer is read.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum

import orjson
from starlette.requests import Request
from starlette.responses import Response

from cache_policies.feed import LEASE_S
from cache_policies.positions import Position
from cache_policies.tags import path_tag
from origin.caching import CacheHints, cached, fit, minimum_of
from origin.events.purge_log import LogTail
from origin.metrics import Metrics
from origin.shelf import POSITION_CHARACTERS, Absence, Shelf, in_order
from origin.snapshot import Minimum, Snapshot, Snapshots

LIFE_S = 900.0
"""After so long a value is read anew, though nothing named it: what was not kept while Redis was away catches up."""
MAX_BODY_BYTES = 500_000
WAIT_FOR_LOG_S = 1.0
"""How long a new value waits for this worker's tail to come to its position, before it is not kept."""
MOST_WRITES = 64
"""Values on their way to Redis; one more is not kept."""
FORMAT = "1"
_SEAL_BYTES = 32


@dataclass(frozen=True, slots=True)
class Rendered:
    """A whole answer of the public, as a handler made it from one snapshot."""

    body: bytes
    media_type: str
    hints: CacheHints
    status: int = 200
    keep: bool = True
    """Whether the next who asks for the same may have it. Only a 200 is kept: of other addresses there is no end."""


@dataclass(frozen=True, slots=True)
class Value:
    """A kept answer. `id`: of the purge-log entry at its position, so that another history is told apart."""

    rendered: Rendered
    id: str


class Result(StrEnum):
    """What came of a look-up, beside `shelf.Absence`."""

    HIT = "hit"
    HEAD = "head"
    """The reader demands the head as the primary has it: nothing that was read before can do."""
    BEHIND = "behind"
    """Below the position that the reader demands."""
    OVERTAKEN = "overtaken"
    """An entry after its position names one of its tags."""
    UNKNOWN = "unknown"
    """Its position is not in this worker's tail: from before that begins, not there yet, or of another history."""
    UNSURE = "unsure"
    """This worker has not heard of the purge log for too long, or not yet of a change of its own."""
    EXPIRED = "expired"
    GARBAGE = "garbage"
    """Not what one of our workers has kept under this name."""


def judge(value: Value, tags: tuple[str, ...], minimum: Minimum, tail: LogTail, now: float, wall: float) -> Result:
    """Whether `value` may be given to a reader who demands `minimum`: HIT, or why not. Pure.

    `tags`: its own, and what else its address is purged by. `now`: time.monotonic(); `wall`: time.time().
    """
    hints = value.rendered.hints
    position = hints.position
    if not tail.is_current(now, LEASE_S):
        return Result.UNSURE
    if minimum is not None and (minimum == "head" or position < minimum):
        return Result.BEHIND
    if tail.id_at(position) != value.id:
        return Result.UNKNOWN
    if tail.floor_of(tags) > position:
        return Result.OVERTAKEN
    if hints.expires_at is not None and wall >= hints.expires_at:
        return Result.EXPIRED
    return Result.HIT


class ReadThrough:
    """The one door through which the public's answers are read."""

    def __init__(
        self,
        snapshots: Snapshots,
        tail: LogTail,
        metrics: Metrics,
        shelf: Shelf | None = None,
        *,
        secret: str = "",
        renders: str = "",
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """`shelf` None: every answer is read. `secret`: shared by this origin's workers, and by nobody who may write to
        Redis. `renders`: what decides how rows are rendered; workers who differ in it share nothing.
        """
        self._snapshots = snapshots
        self._tail = tail
        self._metrics = metrics
        self._shelf = shelf
        self._key = hashlib.blake2b(secret.encode(), person=b"nearshelf-rt").digest()
        self._prefix = f"nearshelf:rt:{FORMAT}:{self._sealed(renders.encode()).hex()[:16]}:"
        self._clock = clock
        self._wall = wall
        self._writes: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        for write in self._writes:
            write.cancel()
        await asyncio.gather(*self._writes, return_exceptions=True)
        if self._shelf is not None:
            await self._shelf.close()

    async def written(self) -> None:
        """Wait until everything is kept that is on its way now."""
        await asyncio.gather(*self._writes, return_exceptions=True)

    # --- the door ---

    @asynccontextmanager
    async def snapshot(self, request: Request) -> AsyncIterator[Snapshot]:
        """A snapshot at or above what the reader demands; the access log will say where from."""
        async with self._snapshots.open(minimum_of(request)) as snapshot:
            request.state.source = snapshot.source
            yield snapshot

    async def answer(
        self, request: Request, about: tuple[str, ...], read: Callable[[], Awaitable[Rendered]]
    ) -> Response:
        """The answer to `request`: one that was made before, else what `read` makes.

        `about`: everything in the request that the answer depends on, in the same words each time; the first names
        the kind. `read` opens its snapshot with `snapshot` of the same request.
        """
        started = self._clock()
        if self._shelf is None:
            return _response(request, await read())
        name = self._name_of(about)
        found = await self._look_up(self._shelf, request, name)
        self._metrics.readthrough.labels(Result.HIT.value if isinstance(found, Rendered) else found.value).inc()
        if isinstance(found, Rendered):
            request.state.source = "readthrough"
            response = _response(request, found)
            self._metrics.readthrough_seconds.labels("hit").observe(self._clock() - started)
            return response
        rendered = await read()
        response = _response(request, rendered)
        self._metrics.readthrough_seconds.labels("miss").observe(self._clock() - started)
        # Pages name the authority that was asked. Edges answer to theirs alone; of others there is no end.
        if request.state.from_edge:
            self._keep(self._shelf, name, rendered, _address_tag(request))
        return response

    # --- looking up ---

    async def _look_up(self, shelf: Shelf, request: Request, name: str) -> Rendered | Result | Absence:
        minimum = minimum_of(request)
        if minimum == "head":
            return Result.HEAD
        if minimum is not None:
            self._tail.note_head(minimum)
        sealed = await shelf.get(name)
        if isinstance(sealed, Absence):
            return sealed
        value = self._opened(name, sealed)
        if value is None:
            # It would stand in the way of every value of a lower position.
            await shelf.drop(name)
            return Result.GARBAGE
        tags = (*value.rendered.hints.tags, _address_tag(request))
        result = judge(value, tags, minimum, self._tail, self._clock(), self._wall())
        return value.rendered if result is Result.HIT else result

    # --- keeping ---

    def _keep(self, shelf: Shelf, name: str, rendered: Rendered, address: str) -> None:
        if rendered.status != 200 or not rendered.keep or len(rendered.body) > MAX_BODY_BYTES:
            return
        if len(self._writes) < MOST_WRITES:
            write = asyncio.create_task(self._write(shelf, name, rendered, address), name="read-through write")
            self._writes.add(write)
            write.add_done_callback(self._writes.discard)

    async def _write(self, shelf: Shelf, name: str, rendered: Rendered, address: str) -> None:
        position = rendered.hints.position
        # The primary may be ahead of what this worker has read of the log.
        self._tail.note_head(position)
        if not await self._tail.wait_beyond(Position(position.epoch, position.cv - 1), WAIT_FOR_LOG_S):
            return
        id_ = self._tail.id_at(position)
        tags = (*fit(rendered.hints.tags), address)
        life_s = LIFE_S
        if rendered.hints.expires_at is not None:
            life_s = min(life_s, rendered.hints.expires_at - self._wall())
        if id_ is None or life_s <= 0 or self._tail.floor_of(tags) > position:
            return
        started = self._clock()
        if await shelf.put(name, self._closed(name, Value(rendered, id_)), life_s):
            self._metrics.readthrough_seconds.labels("write").observe(self._clock() - started)

    # --- values as bytes: the position, the seal, the length of the head, the head, the body ---

    def _name_of(self, about: tuple[str, ...]) -> str:
        return self._prefix + hashlib.blake2b(orjson.dumps(about), digest_size=20).hexdigest()

    def _sealed(self, *parts: bytes) -> bytes:
        seal = hashlib.blake2b(key=self._key, digest_size=_SEAL_BYTES)
        for part in parts:
            seal.update(b"%d:" % len(part))
            seal.update(part)
        return seal.digest()

    def _closed(self, name: str, value: Value) -> bytes:
        rendered, hints = value.rendered, value.rendered.hints
        head = orjson.dumps(
            [
                value.id,
                rendered.media_type,
                fit(hints.tags),
                [hints.fresh_s, hints.stale_while_revalidate_s, hints.stale_if_error_s, hints.expires_at],
                [hints.shows_price, hints.immutable],
            ]
        )
        at = in_order(hints.position)
        seal = self._sealed(name.encode(), at, head, rendered.body)
        return b"".join((at, seal, len(head).to_bytes(4, "big"), head, rendered.body))

    def _opened(self, name: str, sealed: bytes) -> Value | None:
        """The value in `sealed`; None when no worker with our secret has kept it under this name."""
        at, rest = sealed[:POSITION_CHARACTERS], sealed[POSITION_CHARACTERS:]
        seal, length, rest = rest[:_SEAL_BYTES], rest[_SEAL_BYTES : _SEAL_BYTES + 4], rest[_SEAL_BYTES + 4 :]
        head_bytes = int.from_bytes(length, "big")
        head, body = rest[:head_bytes], rest[head_bytes:]
        if len(length) < 4 or not hmac.compare_digest(seal, self._sealed(name.encode(), at, head, body)):
            return None
        id_, media_type, tags, (fresh, revalidate, on_error, expires_at), (price, immutable) = orjson.loads(head)
        position = Position(*map(int, at.split(b".")))
        hints = CacheHints(fresh, revalidate, on_error, tuple(tags), position, price, immutable, expires_at)
        return Value(Rendered(body, media_type, hints), id_)


def _response(request: Request, rendered: Rendered) -> Response:
    return cached(request, rendered.body, rendered.media_type, rendered.hints, rendered.status)


def _address_tag(request: Request) -> str:
    """What an edge's operator purges this address by; edges spell addresses in one way."""
    raw = request.scope.get("raw_path") or request.scope["path"].encode()
    return path_tag(raw.decode("latin-1"))
