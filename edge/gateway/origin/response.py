"""A response whose head has arrived, and whose body is read by whoever asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from edge.gateway.origin.address import Address
from edge.gateway.origin.connection import Connection
from edge.gateway.origin.errors import ErrorKind, OriginError
from edge.gateway.origin.limits import READ_AHEAD_BYTES, Deadlines


class OriginResponse:
    """Read it to the end or `abandon` it: either frees the connection."""

    __slots__ = (
        "_address",
        "_clock",
        "_connection",
        "_deadlines",
        "_prefix",
        "close_delimited",
        "head_at",
        "headers",
        "length",
        "sent_at",
        "status",
        "target",
    )

    def __init__(
        self,
        address: Address,
        connection: Connection,
        clock: Callable[[], float],
        deadlines: Deadlines,
        target: str,
        sent_at: float,
    ) -> None:
        self.status = connection.status
        self.headers = connection.headers
        self.length = connection.length
        """Content-Length of a response that has a body; None when unknown."""
        self.close_delimited = connection.close_delimited
        """The body ends with the connection, so that a cut looks like an end: never to be stored."""
        self.sent_at = sent_at
        """When the request was sent and when the head had arrived: seconds of the edge's clock."""
        self.head_at = clock()
        self.target = target
        self._prefix: list[bytes] = []
        self._deadlines = deadlines
        self._address = address
        self._clock = clock
        self._connection: Connection | None = connection

    async def next_chunk(self) -> bytes:
        """The next piece of the body; empty at its end. Raises OriginError."""
        connection = self._connection
        if connection is None:
            return b""
        try:
            data = await connection.next_chunk(self._deadlines.idle_s)
        except (OriginError, asyncio.CancelledError):
            self.abandon()
            raise
        if not data:
            self._connection = None
            self._address.give_back(connection, self._clock())
        return data

    async def read(self, limit: int) -> bytes | None:
        """The whole body; None when it is longer than `limit` bytes: `chunks` gives it then from its start."""
        if self.length is not None and self.length > limit:
            return None
        if self._connection is not None and self._connection.whole:
            # The usual case of a short body, which came together with its head: nothing to wait for, no timer to set.
            return await self._gather(limit)
        try:
            async with asyncio.timeout(self._deadlines.total_s):
                return await self._gather(limit)
        except TimeoutError as exc:
            self.abandon()
            raise OriginError(ErrorKind.HTTP_RESPONSE_TIMEOUT, self.target) from exc

    async def _gather(self, limit: int) -> bytes | None:
        pieces: list[bytes] = []
        size = 0
        while data := await self.next_chunk():
            pieces.append(data)
            size += len(data)
            if size > limit:
                self._prefix = pieces
                return None
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body in pieces, those that a failed `read` took included."""
        prefix, self._prefix = self._prefix, []
        for data in prefix:
            yield data
        while data := await self.next_chunk():
            yield data

    async def discard(self) -> None:
        """Get rid of a body that nobody wants: read a short one, so that the connection can be used again."""
        try:
            if await self.read(READ_AHEAD_BYTES) is None:
                self.abandon()
        except OriginError:
            self.abandon()

    def abandon(self) -> None:
        """Hang up, unless the body was read to its end."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
            self._address.give_back(connection, self._clock())
