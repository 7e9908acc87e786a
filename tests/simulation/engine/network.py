"""The network between simulated processes: connections of bytes, as asyncio's protocols know them; links that fail.

A link is the way from one process to another. On a connection order holds and nothing is lost while it stands, as TCP
has it: bytes come late, in pieces, or not before the link is healed, or the connection is reset. What is asked and told
in messages (`messages.py`) may be lost, repeated and overtaken.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

from tests.simulation.engine.loop import Process, SimLoop

NEAR_S = (0.0001, 0.002)
"""How long the way takes where nobody says anything else, in virtual seconds: from, to."""
READ_BYTES = 16_384
"""What a protocol gets at a time, at the most."""
BEHIND_S = 1e-9
"""By how much what follows on a connection comes later, at the least."""

Factory = Callable[[], asyncio.BaseProtocol]


class Link:
    """The way from `origin` to `target`, two names of processes."""

    def __init__(self, origin: str, target: str, delay: tuple[float, float]) -> None:
        self.origin = origin
        self.target = target
        self.delay = delay
        """Virtual seconds: from, to."""
        self.tear = 0.0
        """The chance that bytes written together arrive in two pieces."""
        self.loss = 0.0
        """The chance that a message is lost."""
        self.repeat = 0.0
        """The chance that a message arrives twice."""
        self.shuffle = 0.0
        """The chance that a message does not keep its place in the order of its stream, and comes late."""
        self.is_cut = False
        self.held: deque[tuple[Lane, Process, Callable[..., object], tuple[Any, ...]]] = deque()
        """What was sent while it was cut and is sent again when it is healed."""


class Lane:
    """One direction of one connection: what is sent over it arrives in order."""

    __slots__ = ("last_at", "link")

    def __init__(self, link: Link) -> None:
        self.link = link
        self.last_at = 0.0


class Network:
    """`delay_between` gives the delay of a link by the names of its ends, in virtual seconds (from, to)."""

    def __init__(
        self, loop: SimLoop, delay_between: Callable[[str, str], tuple[float, float]] = lambda origin, target: NEAR_S
    ) -> None:
        self.loop = loop
        loop.connect_over = self.connect
        self.kernel = loop.process("kernel")
        """Answers for all machines: connections are made, refused and reset though a process is stopped."""
        self.sent = 0
        """How often anything was put on a link."""
        self._delay_between = delay_between
        self._links: dict[tuple[str, str], Link] = {}
        self._listeners: dict[str, list[tuple[Process, Factory]]] = {}
        self._turn = 0
        self.draws = loop.draws("network")
        self._draw = self.draws.random
        self._ends: dict[SimTransport, None] = {}

    # -- links ---------------------------------------------------------------------------------------------------------

    def link(self, origin: str, target: str) -> Link:
        """The way between the processes of these names, always the same object."""
        found = self._links.get((origin, target))
        if found is None:
            found = self._links[(origin, target)] = Link(origin, target, self._delay_between(origin, target))
        return found

    def links(self, origins: Iterable[str], targets: Iterable[str], *, both: bool = True) -> Iterator[Link]:
        """Every way from one of `origins` to one of `targets`; `both`: and back."""
        far = list(targets)
        for origin in origins:
            for target in far:
                yield self.link(origin, target)
                if both:
                    yield self.link(target, origin)

    def cut(self, origins: Iterable[str], targets: Iterable[str], *, both: bool = True) -> None:
        """Nothing gets through between them until `heal`: bytes wait, messages are lost or wait, connecting hangs."""
        for link in self.links(origins, targets, both=both):
            link.is_cut = True

    def heal(self, origins: Iterable[str] | None = None, targets: Iterable[str] | None = None) -> None:
        """End the cut between them, or every cut."""
        if origins is None or targets is None:
            healed = list(self._links.values())
        else:
            healed = list(self.links(origins, targets))
        for link in healed:
            link.is_cut = False
            held, link.held = link.held, deque()
            for lane, receiver, callback, args in held:
                self.carry(lane, receiver, callback, *args)

    def reset(self, origin: str, target: str) -> int:
        """End every connection of bytes from one to the other, as a box that forgot them would; how many there were."""
        broken = [end for end in self._ends if (end.process.name, end.peer.process.name) == (origin, target)]
        for end in broken:
            for side in (end, end.peer):
                side.process.post(0.0, side.was_reset)
        return len(broken)

    def delay_of(self, link: Link) -> float:
        low, high = link.delay
        return low + (high - low) * self._draw()

    def carry(self, lane: Lane, receiver: Process, callback: Callable[..., object], *args: Any) -> None:
        """`callback(*args)` in `receiver`, when what is sent now over `lane` arrives there."""
        link = lane.link
        self.sent += 1
        if link.is_cut:
            link.held.append((lane, receiver, callback, args))
            return
        low, high = link.delay
        now = self.loop.now
        at = now + low + (high - low) * self._draw()
        if at <= lane.last_at:
            at = lane.last_at + BEHIND_S
        lane.last_at = at
        receiver.post(at - now, callback, *args)

    # -- connections of bytes ------------------------------------------------------------------------------------------

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
        client = self.loop.current
        made: asyncio.Future[tuple[asyncio.Transport, asyncio.BaseProtocol]] = self.loop.create_future()
        listening = self._listeners.get(host)
        if listening:
            self._turn += 1
            server, serve = listening[self._turn % len(listening)]
            target = server.name
        else:
            server, serve, target = self.kernel, None, host
        there, back = Lane(self.link(client.name, target)), Lane(self.link(target, client.name))

        def knock() -> None:
            if serve is None or (server, serve) not in self._listeners.get(host, ()):
                self.carry(back, client, refuse)
                return
            near, far = SimTransport(self, client, there, host), SimTransport(self, server, back, client.name)
            near.peer, far.peer = far, near
            server.post(0.0, far.open, serve)
            self.carry(back, self.kernel, take, near)

        def refuse() -> None:
            if not made.done():
                made.set_exception(ConnectionRefusedError(f"nobody listens at {host}"))

        def take(near: SimTransport) -> None:
            if client.alive:
                client.post(0.0, finish, near)
            else:
                self.carry(near.lane, near.peer.process, near.peer.was_reset)

        def finish(near: SimTransport) -> None:
            if made.done():
                near.give_up()
            else:
                made.set_result((near, near.open(factory)))

        self.carry(there, self.kernel, knock)
        return await made

    def joined(self, end: SimTransport) -> None:
        self._ends[end] = None

    def left(self, end: SimTransport) -> None:
        self._ends.pop(end, None)


class _Listening:
    """Ends with its process: connections are refused from then on."""

    def __init__(self, network: Network, host: str, process: Process) -> None:
        self._network, self._host, self._process = network, host, process

    def process_died(self) -> None:
        self._network.stop_listening(self._process, self._host)


class SimTransport(asyncio.Transport):
    """One end of a connection of bytes, in `process`; what is written travels over `lane`."""

    peer: SimTransport

    def __init__(self, network: Network, process: Process, lane: Lane, peername: str) -> None:
        super().__init__({"peername": (peername, 0)})
        self.process = process
        self.lane = lane
        self._network = network
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
        network, peer = self._network, self.peer
        octets = bytes(data)
        if link.tear and len(octets) > 1 and network.draws.random() < link.tear:
            at = network.draws.randrange(1, len(octets))
            network.carry(self.lane, peer.process, peer.arrived, octets[:at])
            octets = octets[at:]
        network.carry(self.lane, peer.process, peer.arrived, octets)

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.write(b"".join(list_of_data))

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._network.carry(self.lane, self.peer.process, self.peer.arrived, None)
            self.process.post(0.0, self.was_lost, None)

    def abort(self) -> None:
        self.give_up()
        self.process.post(0.0, self.was_lost, None)

    def give_up(self) -> None:
        """Hang up with a reset."""
        if not self._lost:
            self._closing = True
            self._network.carry(self.lane, self.peer.process, self.peer.was_reset)

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
        self._network.joined(self)
        protocol.connection_made(self)
        return protocol

    def arrived(self, data: bytes | None) -> None:
        """Bytes, or their end."""
        if self._closing:
            if data is not None:
                # Nobody is there to read it any more.
                self._network.carry(self.lane, self.peer.process, self.peer.was_reset)
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
        self._network.left(self)
        self._protocol.connection_lost(exc)

    def process_died(self) -> None:
        """Its machine tells the peer."""
        self._lost = self._closing = True
        self._network.left(self)
        self._network.carry(self.lane, self.peer.process, self.peer.was_reset)


def _drop(data: bytes) -> None:
    """Before a connection stands nothing arrives."""
