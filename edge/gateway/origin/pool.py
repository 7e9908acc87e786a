"""The pool of one origin: which of its addresses is asked, who waits for a free place, what is sent again."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from edge.core.http import Headers
from edge.gateway import wire
from edge.gateway.origin.address import Address
from edge.gateway.origin.breaker import RetryBudget
from edge.gateway.origin.connection import Connection, OnInterim
from edge.gateway.origin.errors import ErrorKind, OriginError
from edge.gateway.origin.health import keep_checking
from edge.gateway.origin.limits import KEEP_IDLE_S, READ_BYTES, UNSAFE_REUSE_S, Caps, Deadlines
from edge.gateway.origin.line import EQUAL, Line, Rank, Waiting
from edge.gateway.origin.pace import Pace
from edge.gateway.origin.request_head import Body, render_request_head
from edge.gateway.origin.response import OriginResponse
from edge.gateway.wire import Wires

logger = logging.getLogger("nearshelf.origin")

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
"""What may be sent again."""


class Begun(NamedTuple):
    """A GET that was sent without waiting (`OriginPool.begin_read`), and why it failed, if it has."""

    address: Address
    connection: Connection
    sent_at: float
    error: OriginError | None = None


class Turn:
    """A place at one of an origin's addresses, got before it is known whether the origin will be asked at all.

    Whoever has got it hands it to `OriginPool.send`, and releases it once in the end, whatever came of it.
    """

    __slots__ = ("_pool", "address", "rank", "tries_until")

    def __init__(self, pool: OriginPool, address: Address, rank: Rank) -> None:
        self.address: Address | None = address
        """None once a request has taken it."""
        self.rank = rank
        self.tries_until = address.breaker.closed_until
        """Nobody else tries the address before then, if this is the trial of one that is left alone."""
        self._pool = pool

    def release(self) -> None:
        """What it was for has ended, or was not needed: its place is free, if no request took it, and its tag's."""
        self._pool.released(self)


NEW_ONLY_S = -1.0
"""In place of how long a connection may have been idle: only a new one will do."""


class OriginPool:
    """Connections to the addresses of one origin, kept open between requests.

    `clock` gives seconds of the edge's clock. A request goes to the address with the fewest requests under way, among
    those that are up and not left alone; when all are down, to any of them, because the checks may be wrong. Beyond
    `caps` it waits its turn (`line.py`), or is refused. A `patient` pool, for requests that are always asked again,
    never leaves an origin alone, and takes the connection that has been idle longest, also for unsafe methods: so spare
    ones stay open, and none of its requests waits for a connection to be made. `wired`: connections without TLS are
    watched by `wire.Wires`, where there is epoll, else by the loop.
    """

    def __init__(
        self,
        urls: Sequence[str],
        clock: Callable[[], float],
        *,
        deadlines: Deadlines | None = None,
        caps: Caps | None = None,
        tls: ssl.SSLContext | None = None,
        patient: bool = False,
        wired: bool = True,
    ) -> None:
        wires = self._wires_here if wired and wire.AVAILABLE else None
        self.addresses = tuple(Address(url, tls, self._on_freed, wires, oldest_first=patient) for url in urls)
        if not self.addresses:
            raise ValueError("an origin without an address")
        self.deadlines = deadlines or Deadlines()
        self.caps = caps or Caps()
        self.retries = RetryBudget()
        self.pace = Pace()
        self.passed_on = 0
        """Requests that were sent to another address because the first could not be connected to."""
        self.turned_away = 0
        """Requests that were refused because everything was in use."""
        self._clock = clock
        self._patient = patient
        self._turn = 0
        self._line = Line(self.caps.tag_connections)
        self._closing = False
        self._wires: Wires | None = None

    def _wires_here(self) -> Wires:
        """What watches the connections of this pool, from the first one on."""
        if self._wires is None:
            self._wires = Wires(READ_BYTES, lasting=True)
        return self._wires

    async def send(
        self,
        method: str,
        target: str,
        headers: Headers,
        body: Body = None,
        *,
        deadlines: Deadlines | None = None,
        wait_s: float | None = None,
        on_interim: OnInterim | None = None,
        begun: Begun | None = None,
        turn: Turn | None = None,
    ) -> OriginResponse:
        """Send one request and wait for the head of its response.

        `headers` hold everything but framing, which is written here: a body of bytes with its length, a streamed one
        chunked unless `headers` carry its `content-length`. `deadlines` and `wait_s` (for a free place) instead of the
        pool's. `on_interim` gets every 103 before this returns. `begun`: what `begin_read` sent, and what has failed.
        `turn`: its place, where it was got before; one that was used already says only how urgent this is.

        What could not be sent at all, because there was no connection, goes to another address. A safe request without
        a body that got no head of a response is sent once more, to another address or, when a kept connection turned
        out dead, over a new one: within the retry budget. Raises OriginError.
        """
        allowed = deadlines or self.deadlines
        head = render_request_head(method, target, headers, body)
        repeatable = body is None and method in SAFE_METHODS
        max_idle_s = KEEP_IDLE_S if repeatable or self._patient else UNSAFE_REUSE_S
        rank = EQUAL if turn is None else replace(turn.rank, tag="")
        # Its pace was kept to when the turn was got; what is sent again with it was not allowed for.
        allowed_for = rank.spare and turn is not None and turn.address is not None
        if begun is not None:
            address = begun.address
        else:
            self.retries.request()
            if turn is not None and turn.address is not None:
                address, turn.address = turn.address, None
            else:
                address = self._take((), target) or await self._queue(target, wait_s, rank)
            if not address.breaker.is_open:
                self.pace.sent(self._clock(), allowed=allowed_for)
        tried: tuple[Address, ...] = ()
        while True:
            # Whether one that was left alone can be reached again, only a new connection tells.
            idle_s = NEW_ONLY_S if address.breaker.is_open else max_idle_s
            connection = address.idle(self._clock(), idle_s) if begun is None else begun.connection
            kept = connection is not None
            try:
                if begun is not None and begun.error is not None:
                    failed, begun = begun.error, None
                    raise failed
                connection = connection or await address.connect(target, allowed.connect_s)
                response = await self._exchange(address, connection, method, target, head, body, allowed, on_interim)
            except OriginError as exc:
                found_dead = kept and exc.kind is ErrorKind.CONNECTION_TERMINATED
                if not found_dead:
                    self._failed(address)
                    tried = (*tried, address)
                if not self._may_go_on(connection, repeatable, tried):
                    if found_dead:
                        self._failed(address)
                    raise
                if connection is not None:
                    # Once: what fails again, elsewhere or over a new connection, is not the connection's fault.
                    repeatable = False
                if found_dead:
                    max_idle_s = NEW_ONLY_S
                address = self._take(tried, target) or await self._queue(target, wait_s, rank)
            else:
                self._succeeded(address)
                return response

    def begin_read(
        self, target: str, head: bytes, now: float, on_event: Callable[[], None], on_interim: OnInterim
    ) -> Begun | None:
        """Send a GET over a kept connection to whoever's turn it is; None: that takes a wait, and nothing was sent.

        `head`: the whole request, as `render_request_head` would write it. `on_event` is called as by the connection;
        then the caller reads the response (`response`), or ends it (`end`).
        """
        if self._line.first() is not None:
            return None
        candidates = self._candidates(())
        address = self._choose(candidates) if candidates else None
        if address is None or address.breaker.is_open:
            return None
        connection = address.idle(now, KEEP_IDLE_S)
        if connection is None:
            return None
        address.under_way += 1
        self.pace.sent(now)
        self.retries.request()
        connection.begin_told(target, head, self.deadlines.head_s, on_event, on_interim)
        return Begun(address, connection, now)

    def response(self, begun: Begun, target: str) -> OriginResponse:
        """The response to what was begun, its head being there, for whoever goes on reading it."""
        begun.connection.on_event = None
        self._succeeded(begun.address)
        return OriginResponse(begun.address, begun.connection, self._clock, self.deadlines, target, begun.sent_at)

    def end(self, begun: Begun, now: float) -> None:
        """The response to what was begun has been read to its end, or has failed; the connection is free."""
        if begun.connection.whole:
            self._succeeded(begun.address)
        begun.address.give_back(begun.connection, now)

    def _succeeded(self, address: Address) -> None:
        breaker = address.breaker
        if breaker.is_open:
            logger.info("the origin at %s answers again", address.authority)
            self._came_back()
        breaker.succeeded()

    def _came_back(self) -> None:
        """One address answers again; where none did, that is the origin itself."""
        if self._is_away:
            self.pace.came_back(self._clock())

    @property
    def _is_away(self) -> bool:
        return all(address.breaker.is_open for address in self.addresses)

    def _may_go_on(self, connection: Connection | None, repeatable: bool, tried: tuple[Address, ...]) -> bool:
        """Whether a request that failed is sent to an address that is not in `tried`; counts it."""
        if not any(self._candidates(tried)):
            return False
        if connection is None:
            self.passed_on += 1
            return True
        return repeatable and self.retries.take(self._clock())

    def _failed(self, address: Address) -> None:
        was_open = address.breaker.is_open
        address.failures += 1
        address.breaker.failed(self._clock())
        if address.breaker.is_open and not was_open:
            logger.warning(
                "the origin at %s failed %d times in a row and is left alone for a moment",
                address.authority,
                address.breaker.FAILURES,
            )
            if self._is_away:
                self.pace.went_away()

    async def _exchange(
        self,
        address: Address,
        connection: Connection,
        method: str,
        target: str,
        head: bytes,
        body: Body,
        allowed: Deadlines,
        on_interim: OnInterim | None,
    ) -> OriginResponse:
        sent_at = self._clock()
        try:
            connection.begin(method, target, head + body if isinstance(body, bytes) else head, on_interim)
            if body is not None and not isinstance(body, bytes):
                await _send_body(
                    connection, body, allowed.write_s, chunked=b"\r\ntransfer-encoding: chunked\r\n" in head
                )
            await connection.wait_for_head(allowed.head_s)
        except BaseException:
            connection.close()
            address.give_back(connection, sent_at)
            raise
        return OriginResponse(address, connection, self._clock, allowed, target, sent_at)

    # -- whose turn it is ----------------------------------------------------------------------------------------------

    def _candidates(self, avoid: tuple[Address, ...]) -> Sequence[Address]:
        """The addresses that may be asked now, full ones included."""
        if self._closing:
            return ()
        now = self._clock()
        if len(self.addresses) == 1 and not avoid:
            return self.addresses if self._patient or self.addresses[0].breaker.admits(now) else ()
        open_ones = [address for address in self.addresses if address not in avoid and address.breaker.admits(now)]
        up = [address for address in open_ones if address.health.is_up]
        if up or open_ones or not self._patient:
            return up or open_ones
        return [address for address in self.addresses if address not in avoid]

    def _choose(self, candidates: Sequence[Address]) -> Address | None:
        """The one with the fewest requests under way, each in turn among equals; None: all are full."""
        most = self.caps.connections
        if len(candidates) == 1:
            return candidates[0] if candidates[0].under_way < most else None
        self._turn += 1
        start = self._turn % len(candidates)
        best = min((*candidates[start:], *candidates[:start]), key=_under_way)
        return best if best.under_way < most else None

    def turn_at_once(self, target: str, rank: Rank) -> Turn | None:
        """A place for a request of this rank, if it has not to wait for one: then `turn` is to be called. Raises
        OriginError as `send` does, and for one that gives way."""
        if rank.spare and not self.pace.allows(self._clock()):
            self.turned_away += 1
            raise OriginError(ErrorKind.CONNECTION_LIMIT_REACHED, target)
        try:
            address = self._take((), target, rank.tag)
        except OriginError:
            self._not_sent(rank)
            raise
        return None if address is None else Turn(self, address, rank)

    async def turn(self, target: str, rank: Rank) -> Turn:
        """A place for a request of this rank, when it is its turn. Raises OriginError when that takes too long."""
        try:
            address = self._take((), target, rank.tag) or await self._queue(target, None, rank)
        except BaseException:
            self._not_sent(rank)
            raise
        return Turn(self, address, rank)

    def released(self, turn: Turn) -> None:
        """For `Turn.release`."""
        self._line.ended(turn.rank.tag)
        address, turn.address = turn.address, None
        if address is not None:
            address.under_way -= 1
            address.breaker.called_off(turn.tries_until)
            self._not_sent(turn.rank)
        self._on_freed()

    def _not_sent(self, rank: Rank) -> None:
        """What was allowed to go (`turn_at_once`) did not."""
        if rank.spare:
            self.pace.not_sent()

    def _take(self, avoid: tuple[Address, ...], target: str, tag: str = "") -> Address | None:
        """A place at one of the addresses, at once; None when others wait or all are full, or what may be under way for
        `tag` is. Raises OriginError when all are left alone."""
        candidates = self._candidates(avoid)
        if not candidates:
            raise OriginError(ErrorKind.DESTINATION_UNAVAILABLE, target)
        if not self._line.has_room(tag):
            return None
        if self._line.first() is not None:
            # A pause may have ended since the last of them looked.
            self._on_freed()
            if self._line.first() is not None:
                return None
        address = self._choose(candidates)
        if address is not None:
            address.under_way += 1
            address.breaker.began(self._clock())
            self._line.began(tag)
        return address

    async def _queue(self, target: str, wait_s: float | None, rank: Rank) -> Address:
        """A place at an address, when it is this request's turn. Raises OriginError."""
        line = self._line
        if len(line) >= (self.caps.queue // 2 if rank.patient else self.caps.queue):
            self.turned_away += 1
            raise OriginError(ErrorKind.CONNECTION_LIMIT_REACHED, target)
        loop = asyncio.get_running_loop()
        waiting = line.join(rank)
        place = waiting.place
        wait_s = self.caps.queue_s if wait_s is None else wait_s
        timer = None if wait_s == float("inf") else loop.call_later(wait_s, self._expire, waiting)
        try:
            address = await place
        except BaseException:
            if place.done() and not place.cancelled():
                # Called off in the turn of the loop in which it got its place: that goes to the next in line.
                given = place.result()
                if given is not None:
                    given.under_way -= 1
                    given.breaker.called_off(given.breaker.closed_until)
                    line.ended(rank.tag)
                    self._on_freed()
            else:
                line.leave(waiting)
            raise
        finally:
            if timer is not None:
                timer.cancel()
        if address is None:
            self.turned_away += 1
            candidates = self._candidates(())
            kind = ErrorKind.CONNECTION_LIMIT_REACHED if candidates else ErrorKind.DESTINATION_UNAVAILABLE
            raise OriginError(kind, target)
        return address

    def _expire(self, waiting: Waiting) -> None:
        if not waiting.place.done():
            self._line.leave(waiting)
            waiting.place.set_result(None)

    def _on_freed(self) -> None:
        """A place is free, or another address may be asked: hand it to whoever's turn it is."""
        line = self._line
        while (waiting := line.first()) is not None:
            candidates = self._candidates(())
            if not candidates:
                for one in line.clear():
                    if not one.place.done():
                        one.place.set_result(None)
                return
            address = self._choose(candidates)
            if address is None:
                return
            line.leave(waiting)
            if waiting.place.done():
                continue
            address.under_way += 1
            address.breaker.began(self._clock())
            line.began(waiting.rank.tag)
            waiting.place.set_result(address)

    # -- the rest ------------------------------------------------------------------------------------------------------

    @property
    def under_way(self) -> int:
        """Requests that hold a place."""
        return sum(address.under_way for address in self.addresses)

    @property
    def opened(self) -> int:
        """Connections made since the start."""
        return sum(address.opened for address in self.addresses)

    async def watch(self, path: str) -> None:
        """Check every address now and then, for ever: whether it answers a GET of `path`."""
        await asyncio.gather(*(keep_checking(partial(self.check, address, path)) for address in self.addresses))

    async def check(self, address: Address, path: str) -> None:
        """One check of one address."""
        if not address.health.heard(await address.answers(path)):
            return
        if address.health.is_up:
            logger.info("the origin at %s passes its health checks again", address.authority)
            # The checks found it out first: no need to wait for the end of a pause.
            self._came_back()
            address.breaker.succeeded()
            self._on_freed()
        else:
            logger.warning("the origin at %s fails its health checks and is not asked", address.authority)

    def status(self) -> dict[str, Any]:
        """What `/status` shows of this origin."""
        return {
            "connections_opened": self.opened,
            "left_alone": self._is_away,
            "held_back": self.pace.held_back,
            "waiting": len(self._line),
            "turned_away": self.turned_away,
            "sent_again": self.retries.used,
            "not_sent_again": self.retries.refused,
            "passed_on": self.passed_on,
            "addresses": [address.status() for address in self.addresses],
        }

    def close(self) -> None:
        """Hang up everywhere; exchanges under way end with an error."""
        self._closing = True
        for address in self.addresses:
            address.close()
        if self._wires is not None:
            self._wires.close()
        for waiting in self._line.clear():
            if not waiting.place.done():
                waiting.place.set_result(None)


def _under_way(address: Address) -> int:
    return address.under_way


async def _send_body(connection: Connection, body: AsyncIterator[bytes], write_s: float, *, chunked: bool) -> None:
    """Send the pieces as they come, until the last or until the origin answers before it.

    An early answer is usually a refusal, and the sender may be waiting for it. The connection cannot be used again
    then, because the origin still waits for the rest.
    """
    sending = asyncio.create_task(_send_pieces(connection, body, write_s, chunked=chunked))
    try:
        await asyncio.wait((sending, connection.head), return_when=asyncio.FIRST_COMPLETED)
        if sending.done():
            sending.result()
        else:
            connection.may_keep = False
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


async def _send_pieces(connection: Connection, body: AsyncIterator[bytes], write_s: float, *, chunked: bool) -> None:
    async for data in body:
        if data:
            await connection.write(b"%x\r\n%b\r\n" % (len(data), data) if chunked else data, write_s)
    if chunked:
        await connection.write(b"0\r\n\r\n", write_s)
