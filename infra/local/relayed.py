"""One relayed connection: bytes on their way in both directions, each with the moment at which it arrives."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from infra.local.spoiling import Slowness, Spoiler

if TYPE_CHECKING:
    from infra.local.relay import Channel, Listener

QUEUE_BYTES = 16 << 20
"""What one direction of one connection may hold while it travels: at 180 ms still some 170 MB/s. More waits at the
sender."""


class _Direction:
    """Bytes on their way from one socket to the other, each with the moment at which it arrives there."""

    __slots__ = (
        "blocked",
        "due",
        "end_delivered",
        "end_read",
        "held",
        "loop",
        "on_end",
        "on_felt",
        "over",
        "queue",
        "queued",
        "sink",
        "slowness",
        "source",
        "spoiler",
        "timer",
        "travel_s",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, travel_s: float, not_before: float, held: bool) -> None:
        self.loop = loop
        self.on_end: Callable[[], None] = lambda: None
        """Called when the end of the stream has been handed over."""
        self.on_felt: Callable[[], None] = lambda: None
        """Called when a fault has changed what came, or when it comes."""
        self.travel_s = travel_s
        self.due = not_before
        self.queue: deque[tuple[float, bytes | None]] = deque()
        """(loop time of arrival, bytes); None is the end of the stream."""
        self.queued = 0
        self.source: asyncio.Transport | None = None
        self.sink: asyncio.Transport | None = None
        self.blocked = False
        """The sink takes no more for now."""
        self.held = held
        """The channel is stalled."""
        self.end_read = False
        self.end_delivered = False
        self.timer: asyncio.TimerHandle | None = None
        self.slowness: Slowness | None = None
        self.spoiler: Spoiler | None = None
        self.over = False
        """The stream was ended here: what is still said is not passed on."""

    def push(self, data: bytes | None) -> None:
        if self.over:
            return
        if data is not None and self.spoiler is not None:
            whole = data
            data, self.over = self.spoiler.take(whole)
            if self.over or data != whole:
                self.on_felt()
        if data is not None and (self.held or self.slowness is not None):
            self.on_felt()
        if self.slowness is None or self.slowness.bytes_per_s is None or data is None:
            self._enqueue(data, 0.0)
        else:
            # A tenth of a second's worth at a time, each piece when the line is free again.
            size = max(1, self.slowness.bytes_per_s // 10)
            for start in range(0, len(data), size):
                piece = data[start : start + size]
                self._enqueue(piece, len(piece) / self.slowness.bytes_per_s)
        if self.over:
            self._enqueue(None, 0.0)

    def _enqueue(self, data: bytes | None, line_s: float) -> None:
        """`line_s`: how long the line is busy with it."""
        late_s = 0.0 if self.slowness is None else self.slowness.ms / 1000
        # Never earlier than what went before: bytes do not overtake each other.
        self.due = max(self.due, self.loop.time() + self.travel_s + late_s) + line_s
        self.queue.append((self.due, data))
        if data is None:
            self.end_read = True
        else:
            self.queued += len(data)
            if self.queued > QUEUE_BYTES and self.source is not None:
                self.source.pause_reading()
        if self.timer is None and self.sink is not None and not self.blocked and not self.held:
            self.timer = self.loop.call_at(self.queue[0][0], self.deliver)

    def deliver(self) -> None:
        """Write whatever has arrived, and set the timer for the rest."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        sink = self.sink
        if sink is None or self.blocked or self.held:
            return
        now = self.loop.time()
        arrived: list[bytes] = []
        while self.queue and self.queue[0][0] <= now:
            data = self.queue.popleft()[1]
            if data is None:
                self.end_delivered = True
            else:
                arrived.append(data)
        if arrived:
            whole = arrived[0] if len(arrived) == 1 else b"".join(arrived)
            before = self.queued
            self.queued -= len(whole)
            sink.write(whole)
            if self.source is not None and before > QUEUE_BYTES // 2 >= self.queued and not self.source.is_closing():
                self.source.resume_reading()
        if self.end_delivered and not sink.is_closing():
            with contextlib.suppress(OSError):  # it is gone already, which nobody has told us yet
                sink.write_eof()
            self.on_end()
        if self.queue and not self.blocked:
            self.timer = self.loop.call_at(self.queue[0][0], self.deliver)

    def go_at(self, slowness: Slowness | None) -> None:
        """From now on be as slow as that; what is under way arrives no later than it would when sent now."""
        self.slowness = slowness
        if slowness is None and self.queue:
            latest = self.loop.time() + self.travel_s
            self.queue = deque((min(due, latest), data) for due, data in self.queue)
            self.due = min(self.due, latest)
        self.deliver()

    def drop(self) -> None:
        self.queue.clear()
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class End(asyncio.Protocol):
    """One end of a relayed connection; `inbound` carries what it says, `outbound` what it is told."""

    def __init__(self, connection: Connection, inbound: _Direction, outbound: _Direction) -> None:
        self.connection = connection
        self.inbound = inbound
        self.outbound = outbound
        outbound.on_end = self.close_if_ended

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        plain = transport.get_extra_info("socket")
        if plain.family != socket.AF_UNIX:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.inbound.source = transport
        self.outbound.sink = transport
        if self.connection.over:
            _reset(transport)
            return
        self.outbound.deliver()

    def data_received(self, data: bytes) -> None:
        self.inbound.push(data)

    def eof_received(self) -> bool:
        self.inbound.push(None)
        self.close_if_ended()
        return True  # the other direction may still have much to say

    @property
    def ended(self) -> bool:
        """Both streams of this socket have come to their end."""
        return self.inbound.end_read and self.outbound.end_delivered

    def close_if_ended(self) -> None:
        if self.ended and self.outbound.sink is not None:
            self.outbound.sink.close()

    def pause_writing(self) -> None:
        self.outbound.blocked = True

    def resume_writing(self) -> None:
        self.outbound.blocked = False
        self.outbound.deliver()

    def connection_lost(self, exc: Exception | None) -> None:
        self.connection.lost(self)


class Connection:
    """A viewer of the relay and its counterpart at the origin."""

    def __init__(self, channel: Listener) -> None:
        loop = asyncio.get_running_loop()
        rtt_s = channel.plan.rtt_ms / 1000
        established = loop.time() + rtt_s
        towards = _Direction(loop, rtt_s / 2, established + rtt_s / 2, channel.stalled)
        back = _Direction(loop, rtt_s / 2, established, channel.stalled)
        back.slowness, back.spoiler = channel.slowness, channel.next_spoiler()
        self.channel = channel
        self.directions = (towards, back)
        self.near = End(self, inbound=towards, outbound=back)
        self.far = End(self, inbound=back, outbound=towards)
        self.back = back
        self.open_ends = 2
        self.over = False
        self.has_felt = False
        """The fault that is in force on the channel has changed something here."""
        self.established = established
        for direction in self.directions:
            direction.on_felt = self.feel

    async def reach(self, plan: Channel) -> None:
        """Connect to the origin; if it refuses, so does this connection, when the news would have come back."""
        loop = asyncio.get_running_loop()
        try:
            if plan.target_path:
                await loop.create_unix_connection(lambda: self.far, plan.target_path)
            else:
                await loop.create_connection(lambda: self.far, "127.0.0.1", plan.target_port)
        except OSError:
            loop.call_at(self.established, self.reset)

    def feel(self) -> None:
        """Count as one that has felt the channel's fault."""
        if not self.has_felt:
            self.has_felt = True
            self.channel.felt += 1

    def lost(self, end: End) -> None:
        self.open_ends -= 1
        other = self.far if end is self.near else self.near
        sink = other.outbound.sink
        if self.over or sink is None or sink.is_closing() or self.open_ends == 0:
            self.finish()
        elif not end.ended:
            # It broke. The other end hears of it after the bytes that were sent before.
            loop = asyncio.get_running_loop()
            travel_s = other.outbound.travel_s
            loop.call_at(max(other.outbound.due, loop.time() + travel_s), self.reset)

    def reset(self) -> None:
        """Break both ends at once."""
        self.over = True
        for direction in self.directions:
            if direction.sink is not None:
                _reset(direction.sink)
        self.finish()

    def hold(self, held: bool) -> None:
        for direction in self.directions:
            direction.held = held
            if held and direction.queue:
                self.feel()
            direction.deliver()

    def finish(self) -> None:
        self.over = True
        for direction in self.directions:
            direction.drop()
        self.channel.connections.discard(self)


def _reset(transport: asyncio.Transport) -> None:
    """Close with a TCP reset rather than an orderly end."""
    if transport.is_closing():
        return
    with contextlib.suppress(OSError):
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
