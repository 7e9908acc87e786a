"""The simulated distance between edges and origin: a TCP relay that delays every byte.

    python -m infra.local.relay '[
        {"edge": "eu", "channel": "fills", "port": 8103, "target_port": 8080, "rtt_ms": 80}, ...]'

One process serves all edges. Each channel (an edge's `fills`, an edge's `questions`) is a listener of its own, so that
it can be cut by itself. A byte leaves rtt/2 after it came in, in both directions, and the first byte of a connection a
whole round trip later still, as if the handshake had travelled too. Nothing else is simulated: no loss, no limit of
bandwidth. Commands come as JSON lines on standard input and are answered on standard output:

    {"id": 1, "do": "cut", "edge": "eu", "channel": "questions"}      -> {"id": 1, "ok": true}
    {"id": 2, "do": "status"}                                         -> {"id": 2, "ok": true, "channels": [...]}

`cut` resets what is open and refuses what is new; `stall` keeps connections open and passes nothing, as a silent
network does; `heal` ends either. End of input ends the relay, so that it cannot outlive whoever started it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import struct
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

QUEUE_BYTES = 16 << 20
"""What one direction of one connection may hold while it travels: at 180 ms still some 170 MB/s. More waits at the
sender."""


@dataclass(frozen=True, slots=True)
class Channel:
    """One relayed address."""

    edge: str
    channel: str
    port: int
    """Where the edge connects, on 127.0.0.1."""
    target_port: int
    """Where it leads to, on 127.0.0.1."""
    rtt_ms: float


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
        "queue",
        "queued",
        "sink",
        "source",
        "timer",
        "travel_s",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, travel_s: float, not_before: float, held: bool) -> None:
        self.loop = loop
        self.on_end: Callable[[], None] = lambda: None
        """Called when the end of the stream has been handed over."""
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

    def push(self, data: bytes | None) -> None:
        # Never earlier than what went before: bytes do not overtake each other.
        self.due = max(self.due, self.loop.time() + self.travel_s)
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
            sink.write_eof()
            self.on_end()
        if self.queue and not self.blocked:
            self.timer = self.loop.call_at(self.queue[0][0], self.deliver)

    def drop(self) -> None:
        self.queue.clear()
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class _Socket(asyncio.Protocol):
    """One end of a relayed connection; `inbound` carries what it says, `outbound` what it is told."""

    def __init__(self, connection: Connection, inbound: _Direction, outbound: _Direction) -> None:
        self.connection = connection
        self.inbound = inbound
        self.outbound = outbound
        outbound.on_end = self.close_if_ended

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        plain = transport.get_extra_info("socket")
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
        self.channel = channel
        self.directions = (towards, back)
        self.near = _Socket(self, inbound=towards, outbound=back)
        self.far = _Socket(self, inbound=back, outbound=towards)
        self.open_ends = 2
        self.over = False
        self.established = established

    async def reach(self, host: str, port: int) -> None:
        """Connect to the origin; if it refuses, so does this connection, when the news would have come back."""
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: self.far, host, port)
        except OSError:
            loop.call_at(self.established, self.reset)

    def lost(self, end: _Socket) -> None:
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


class Listener:
    """One channel: listening, cut or stalled."""

    def __init__(self, plan: Channel) -> None:
        self.plan = plan
        self.port = plan.port
        """Where it listens; kept when a cut ends, also where the plan left it open (0)."""
        self.stalled = False
        self.connections: set[Connection] = set()
        self.server: asyncio.Server | None = None
        self.reaching: set[asyncio.Task[None]] = set()

    async def listen(self) -> None:
        if self.server is None:
            loop = asyncio.get_running_loop()
            self.server = await loop.create_server(self._accept, "127.0.0.1", self.port, backlog=512)
            self.port = self.address()

    def _accept(self) -> _Socket:
        connection = Connection(self)
        self.connections.add(connection)
        task = asyncio.get_running_loop().create_task(connection.reach("127.0.0.1", self.plan.target_port))
        self.reaching.add(task)
        task.add_done_callback(self.reaching.discard)
        return connection.near

    def address(self) -> int:
        """The port on which it listens."""
        assert self.server is not None
        port: int = self.server.sockets[0].getsockname()[1]
        return port

    def held_bytes(self) -> int:
        """What is under way in both directions of all connections."""
        return sum(direction.queued for connection in self.connections for direction in connection.directions)

    def cut(self) -> None:
        if self.server is not None:
            self.server.close()
            self.server = None
        for connection in list(self.connections):
            connection.reset()

    async def stall(self) -> None:
        await self.listen()
        self._hold(True)

    async def heal(self) -> None:
        await self.listen()
        self._hold(False)

    def _hold(self, held: bool) -> None:
        self.stalled = held
        for connection in list(self.connections):
            connection.hold(held)

    def status(self) -> dict[str, Any]:
        condition = "cut" if self.server is None else "stalled" if self.stalled else "open"
        return {
            "edge": self.plan.edge,
            "channel": self.plan.channel,
            "port": self.plan.port,
            "held_bytes": self.held_bytes(),
            "rtt_ms": self.plan.rtt_ms,
            "condition": condition,
            "connections": len(self.connections),
        }


class Relay:
    """All channels, and the commands that change them."""

    def __init__(self, channels: list[Channel]) -> None:
        self.listeners = [Listener(channel) for channel in channels]

    async def start(self) -> None:
        """Raises OSError when an address is taken."""
        for listener in self.listeners:
            await listener.listen()

    def stop(self) -> None:
        for listener in self.listeners:
            listener.cut()

    async def obey(self, command: dict[str, Any]) -> dict[str, Any]:
        """Carry out one command; the answer is `ok`, or says what is wrong with the command."""
        match command.get("do"):
            case "status":
                return {"ok": True, "channels": [listener.status() for listener in self.listeners]}
            case "cut" | "stall" | "heal" as action:
                chosen = self._chosen(command.get("edge"), command.get("channel"))
                if not chosen:
                    return {"ok": False, "error": f"no such channel: {command.get('edge')} {command.get('channel')}"}
                for listener in chosen:
                    if action == "cut":
                        listener.cut()
                    elif action == "stall":
                        await listener.stall()
                    else:
                        await listener.heal()
                return {"ok": True}
            case other:
                return {"ok": False, "error": f"unknown command: {other!r}"}

    def _chosen(self, edge: str | None, channel: str | None) -> list[Listener]:
        """None or `all` is every one."""
        return [
            listener
            for listener in self.listeners
            if edge in (None, "all", listener.plan.edge) and channel in (None, "all", listener.plan.channel)
        ]


async def serve(channels: list[Channel]) -> None:
    """Relay until standard input ends."""
    loop = asyncio.get_running_loop()
    relay = Relay(channels)
    await relay.start()
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    _say({"ready": True})
    try:
        while line := await lines.readline():
            try:
                command = json.loads(line)
            except ValueError:
                _say({"ok": False, "error": "not a line of JSON"})
                continue
            answer = await relay.obey(command)
            _say({"id": command.get("id"), **answer})
    finally:
        relay.stop()


def _say(answer: dict[str, Any]) -> None:
    os.write(sys.stdout.fileno(), json.dumps(answer).encode() + b"\n")


def main(arguments: list[str]) -> int:
    try:
        asyncio.run(serve([Channel(**channel) for channel in json.loads(arguments[0])]))
    except OSError as exc:
        print(f"relay: {exc}", file=sys.stderr, flush=True)
        return 1
    except KeyboardInterrupt:
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
