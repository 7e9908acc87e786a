"""Connections of bytes between simulated processes, as asyncio's protocols know them.

Order holds and nothing is lost while a connection stands, as TCP has it: bytes come late, in pieces, or not before the
link is healed, or the connection is reset.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import cast

from tests.simulation.engine.links import Lane, Links
from tests.simulation.engine.processes import Process

READ_BYTES = 16_384
"""What a protocol gets at a time, at the most."""

Factory = Callable[[], asyncio.BaseProtocol]


class Connections:
    """Who listens, and what stands, over `links`."""

    def __init__(self, links: Links) -> None:
        self._links = links
        self._loop = links.loop
        self.draws = links.draws
        self._listeners: dict[str, list[tuple[Process, Factory]]] = {}
        self._turn = 0
        self._ends: dict[SimTransport, None] = {}

    def reset(self, origin: str, target: str) -> int:
        """End every connection of bytes from one to the other, as a box that forgot them would; how many there were."""
        broken = [end for end in self._ends if (end.process.name, end.peer.process.name) == (origin, target)]
        for end in broken:
            for side in (end, end.peer):
                side.process.post(0.0, side.was_reset)
        return len(broken)

    def listen(self, process: Process, host: str, factory: Factory) -> None:
        """From now on `process` takes connections to `host`, each with a protocol of `factory`; several take turns."""
        self._listeners.setdefault(host, []).append((process, factory))
        process.dependents[_Listening(self, host, process)] = None

    def stop_listening(self, process: Process, host: str) -> None:
        """`process` takes no connection to `host` any more; those that stand go on."""
        self._listeners[host] = [entry for entry in self._listeners.get(host, ()) if entry[0] is not process]

    async def connect(self, factory: Factory, host: str) -> tuple[asyncio.Transport, asyncio.BaseProtocol]:
        """A connection from the process that runs to one that listens at `host`.

        Raises ConnectionRefusedError where nobody does; waits, while the way is cut.
        """
        links, client = self._links, self._loop.current
        made: asyncio.Future[tuple[asyncio.Transport, asyncio.BaseProtocol]] = self._loop.create_future()
        listening = self._listeners.get(host)
        if listening:
            self._turn += 1
            server, serve = listening[self._turn % len(listening)]
            target = server.name
        else:
            server, serve, target = links.kernel, None, host
        there, back = Lane(links.link(client.name, target)), Lane(links.link(target, client.name))

        def knock() -> None:
            if serve is None or (server, serve) not in self._listeners.get(host, ()):
                links.carry(back, client, refuse)
                return
            near, far = (
                SimTransport(self, links, client, there, host),
                SimTransport(self, links, server, back, client.name),
            )
            near.peer, far.peer = far, near
            server.post(0.0, far.open, serve)
            links.carry(back, links.kernel, take, near)

        def refuse() -> None:
            if not made.done():
                made.set_exception(ConnectionRefusedError(f"nobody listens at {host}"))

        def take(near: SimTransport) -> None:
            if client.alive:
                client.post(0.0, finish, near)
            else:
                links.carry(near.lane, near.peer.process, near.peer.was_reset)

        def finish(near: SimTransport) -> None:
            if made.done():
                near.give_up()
            else:
                made.set_result((near, near.open(factory)))

        links.carry(there, links.kernel, knock)
        return await made

    def joined(self, end: SimTransport) -> None:
        self._ends[end] = None

    def left(self, end: SimTransport) -> None:
        self._ends.pop(end, None)


class _Listening:
    """Ends with its process: connections are refused from then on."""

    def __init__(self, connections: Connections, host: str, process: Process) -> None:
        self._connections, self._host, self._process = connections, host, process

    def process_died(self) -> None:
        self._connections.stop_listening(self._process, self._host)


class SimTransport(asyncio.Transport):
    """One end of a connection of bytes, in `process`; what is written travels over `lane`."""

    peer: SimTransport

    def __init__(self, connections: Connections, links: Links, process: Process, lane: Lane, peername: str) -> None:
        super().__init__({"peername": (peername, 0)})
        self.process = process
        self.lane = lane
        self._connections = connections
        self._links = links
        self._protocol: asyncio.BaseProtocol | None = None
        self._take: Callable[[bytes], object] = _drop
        self._closing = False
        self._lost = False
        self._paused = False
        self._unread: deque[bytes | None] = deque()
        """What has arrived and was not read; None: the peer's end of it."""

    # -- its protocol's side -------------------------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._closing or not data:
            return
        link = self.lane.link
        links, peer = self._links, self.peer
        octets = bytes(data)
        if link.tear and len(octets) > 1 and links.draws.random() < link.tear:
            at = links.draws.randrange(1, len(octets))
            links.carry(self.lane, peer.process, peer.arrived, octets[:at])
            octets = octets[at:]
        links.carry(self.lane, peer.process, peer.arrived, octets)

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.write(b"".join(list_of_data))

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._links.carry(self.lane, self.peer.process, self.peer.arrived, None)
            self.process.post(0.0, self.was_lost, None)

    def abort(self) -> None:
        self.give_up()
        self.process.post(0.0, self.was_lost, None)

    def give_up(self) -> None:
        """Hang up with a reset."""
        if not self._lost:
            self._closing = True
            self._links.carry(self.lane, self.peer.process, self.peer.was_reset)

    def get_write_buffer_size(self) -> int:
        """Nothing waits: the network has taken it."""
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Needless where nothing waits."""

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        self._paused = False
        if self._unread:
            self.process.post(0.0, self._read)

    # -- the network's side --------------------------------------------------------------------------------------------

    def open(self, factory: Factory) -> asyncio.BaseProtocol:
        """The connection stands: the protocol of this end is made, and told."""
        protocol = self._protocol = factory()
        self._take = getattr(protocol, "received", None) or cast(asyncio.Protocol, protocol).data_received
        self.process.dependents[self] = None
        self._connections.joined(self)
        protocol.connection_made(self)
        return protocol

    def arrived(self, data: bytes | None) -> None:
        """Bytes, or their end."""
        if self._closing:
            if data is not None:
                # Nobody is there to read it any more.
                self._links.carry(self.lane, self.peer.process, self.peer.was_reset)
            return
        if data is not None and not self._unread and not self._paused and len(data) <= READ_BYTES:
            self._take(data)
            return
        self._unread.append(data)
        self._read()

    def _read(self) -> None:
        unread = self._unread
        while unread and not self._paused and not self._closing:
            data = unread.popleft()
            if data is None:
                if not cast(asyncio.Protocol, self._protocol).eof_received():
                    self.close()
                return
            if len(data) > READ_BYTES:
                unread.appendleft(data[READ_BYTES:])
                data = data[:READ_BYTES]
            self._take(data)

    def was_reset(self) -> None:
        self.was_lost(ConnectionResetError("the peer is gone"))

    def was_lost(self, exc: Exception | None) -> None:
        """The connection is over for this end."""
        if self._lost or self._protocol is None:
            return
        self._lost = self._closing = True
        self.process.dependents.pop(self, None)
        self._connections.left(self)
        self._protocol.connection_lost(exc)

    def process_died(self) -> None:
        """Its machine tells the peer."""
        self._lost = self._closing = True
        self._connections.left(self)
        self._links.carry(self.lane, self.peer.process, self.peer.was_reset)


def _drop(data: bytes) -> None:
    """Before a connection stands nothing arrives."""
