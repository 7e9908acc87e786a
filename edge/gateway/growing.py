"""A storable response whose body is still on its way: one fill, and any number of viewers who read it as it comes.

The body is held once, in the pieces that the origin sent; a reader is a place in it. A slow reader makes no copies and
slows nobody down, as long as the body may still be stored. A body that outgrows what may be stored is only passed on:
then what all have read is let go, and the origin waits while the slowest is `WINDOW_BYTES` behind. How long it may be
behind is the server's business (`Limits.stalled_write_s`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

from edge.core.stored import StoredResponse

WHOLE_BYTES = 65_536
"""A storable body that is complete within so many bytes lands whole: one write, with its length."""
WINDOW_BYTES = 262_144
"""Of a body that is not stored: how far the slowest reader may be behind the origin."""
PIECE_BYTES = 65_536
"""What a reader gets at a time of a body that is there as a whole."""


class CutShort(Exception):
    """The rest of the body will not come: hang up, so that nobody takes a part for the whole. Says why in one word."""


class Crowd(Protocol):
    """Those who wait for the response to begin."""

    @property
    def waiting(self) -> int: ...


class Growing:
    """One body on its way. The fill feeds it, `join` makes a reader.

    `stored` is the response that is kept in the end, still without its body; `length` its Content-Length, None when
    the origin did not say. While one of `crowd` may still join, nothing is let go.
    """

    def __init__(
        self,
        stored: StoredResponse,
        length: int | None,
        crowd: Crowd,
        *,
        fwd_status: int,
        sent_at: float,
        origin_s: float,
    ) -> None:
        self.stored = stored
        self.length = length
        self.crowd = crowd
        self.fwd_status = fwd_status
        self.sent_at = sent_at
        self.origin_s = origin_s
        self.joinable = True
        """Whether anybody may still join: not what was invalidated, nor what has outgrown its limit."""
        self.size = 0
        """Bytes that have come so far."""
        self._pieces: deque[bytes] = deque()
        self._first = 0
        """Number of the first piece that is still held."""
        self._held = 0
        """Bytes in the pieces that are still held."""
        self._outgrown = False
        self._whole: bytes | None = None
        self._cut: str | None = None
        self._readers: set[Reader] = set()
        self._waiting: list[asyncio.Future[None]] = []
        """Readers who have read everything so far."""
        self._room: asyncio.Future[None] | None = None

    # -- the fill's side -------------------------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """The next piece of the body."""
        self._pieces.append(data)
        self._held += len(data)
        self.size += len(data)
        self._wake_readers()

    def finish(self) -> bytes:
        """The body is complete: the whole of it, where it did not outgrow its limit."""
        if self._outgrown:
            self._whole = b""
        else:
            self._whole = b"".join(self._pieces)
            # Whoever still reads goes on in the whole: the pieces would be a second copy.
            self._pieces.clear()
        self._wake_readers()
        return self._whole

    def cut(self, reason: str) -> None:
        """The rest will not come."""
        self.joinable = False
        self._cut = reason
        self._wake_readers()

    def outgrow(self) -> None:
        """Larger than may be stored: from here on it is passed on to those who read it, and to nobody else."""
        self.joinable = False
        self._outgrown = True
        self._let_go()

    async def room(self) -> bool:
        """Of a body that is only passed on: wait until the slowest reader has caught up. False: nobody reads it."""
        while True:
            if not self._readers and not self.crowd.waiting:
                return False
            if self._held < WINDOW_BYTES:
                return True
            self._room = asyncio.get_running_loop().create_future()
            await self._room

    # -- the viewers' side -----------------------------------------------------------------------------------------

    def is_whole(self) -> bool:
        """Whether all of it has come, and is the body of `stored` now: not of what outgrew its limit."""
        return bool(self._whole)

    def join(self) -> Reader:
        """A reader at the start of the body; `leave` it whatever happens. Only while `joinable`, or by the crowd."""
        assert self._first == 0
        reader = Reader(self)
        self._readers.add(reader)
        return reader

    def somebody_left(self) -> None:
        """One of the crowd has joined or gone away."""
        self._let_go()

    # -- small parts -----------------------------------------------------------------------------------------------

    def _let_go(self) -> None:
        """Forget what everybody has read, and let the fill go on if it waits."""
        if not self._outgrown:
            return
        if not self.crowd.waiting:
            end = self._first + len(self._pieces)
            slowest = min((reader.piece for reader in self._readers), default=end)
            while self._first < slowest:
                self._held -= len(self._pieces.popleft())
                self._first += 1
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    def _wake_readers(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    async def _next(self, reader: Reader) -> bytes | memoryview:
        while True:
            if self._whole is not None and not self._outgrown:
                return memoryview(self._whole)[reader.offset : reader.offset + PIECE_BYTES]
            number = reader.piece - self._first
            if number < len(self._pieces):
                return self._pieces[number]
            if self._cut is not None:
                raise CutShort(self._cut)
            if self._whole is not None:
                return b""
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(future)
            await future

    def _leave(self, reader: Reader) -> None:
        self._readers.discard(reader)
        self._let_go()


class Reader:
    """One viewer's place in a growing body."""

    __slots__ = ("_growing", "offset", "piece")

    def __init__(self, growing: Growing) -> None:
        self._growing = growing
        self.piece = 0
        self.offset = 0

    async def next(self) -> bytes | memoryview:
        """The next piece; empty at the end of the body. Raises CutShort."""
        data = await self._growing._next(self)
        if data:
            self.piece += 1
            self.offset += len(data)
            self._growing._let_go()
        return data

    def leave(self) -> None:
        self._growing._leave(self)
