"""The simulated distance between edges and origin: a TCP relay that delays every byte.

    python -m infra.local.relay '[
        {"edge": "eu", "channel": "fills", "port": 8103, "target_port": 8080, "rtt_ms": 80}, ...]'

One process serves all edges. Each channel (an edge's `fills`, an edge's `questions`) is a listener of its own, so that
it can be cut by itself. A byte leaves rtt/2 after it came in, in both directions, and the first byte of a connection a
whole round trip later still, as if the handshake had travelled too. Nothing is lost. Commands come as JSON lines on
standard input and are answered on standard output:

    {"id": 1, "do": "cut", "edge": "eu", "channel": "questions"}      -> {"id": 1, "ok": true, "felt": 3}
    {"id": 2, "do": "status"}                                         -> {"id": 2, "ok": true, "channels": [...]}

`cut` resets what is open and refuses what is new; `stall` keeps connections open and passes nothing, as a silent
network does; `slow` delays answers (`ms`) or limits them (`bytes_per_s`); `truncate` ends each connection in good order
somewhere in an answer; `garble` resets what is open and tells who comes anew bytes that mean nothing, always the same
for the same `seed`. The latest of them is in force; `heal` ends it, and is answered with `felt`: how many connections
were reset, held, delayed, cut short or garbled by it. End of input ends the relay, so that it cannot outlive whoever
started it.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.local.relayed import Connection, End
from infra.local.spoiling import Slowness, Spoiler, seed_of, spoiler

CONDITIONS = {"garble": "garbled", "truncate": "truncated"}


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
    path: str = ""
    """A unix socket to listen at, instead of a port."""
    target_path: str = ""
    """The unix socket it then leads to."""


class Listener:
    """One channel: listening, cut, or with what comes through it delayed or spoilt."""

    def __init__(self, plan: Channel) -> None:
        self.plan = plan
        self.port = plan.port
        """Where it listens; kept when a cut ends, also where the plan left it open (0)."""
        self.stalled = False
        self.slowness: Slowness | None = None
        self.spoilt: tuple[str, int] | None = None
        """`garble` or `truncate`, and its seed."""
        self.spoilers = 0
        """How many were made: each is another."""
        self.felt = 0
        """Connections that have felt the fault in force, or the last one: reset, held, delayed, cut short, garbled."""
        self.connections: set[Connection] = set()
        self.server: asyncio.Server | None = None
        self.reaching: set[asyncio.Task[None]] = set()

    async def listen(self) -> None:
        if self.server is not None:
            return
        loop = asyncio.get_running_loop()
        if self.plan.path:
            self.server = await loop.create_unix_server(
                self._accept, sock=_unix_socket(Path(self.plan.path)), backlog=512
            )
        else:
            self.server = await loop.create_server(self._accept, "127.0.0.1", self.port, backlog=512)
            self.port = self.address()

    def _accept(self) -> End:
        connection = Connection(self)
        self.connections.add(connection)
        task = asyncio.get_running_loop().create_task(connection.reach(self.plan))
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
        self._begin()
        self._feel_all()
        self.close()

    def close(self) -> None:
        """Listen no more, and reset what is open."""
        if self.server is not None:
            self.server.close()
            self.server = None
        self._reset_all()

    async def stall(self) -> None:
        await self.heal()
        self._begin()
        self._hold(True)

    async def slow(self, slowness: Slowness) -> None:
        await self.heal()
        self._begin()
        self._go_at(slowness)

    async def spoil(self, how: str, seed: int) -> None:
        """`garble` or `truncate`. What is open and would be garbled is reset: half an answer and then garbage could be
        taken for a whole one, which no origin ever sends."""
        await self.heal()
        self._begin()
        self.spoilt = (how, seed)
        if how == "garble":
            self._feel_all()
            self._reset_all()
        else:
            for connection in self.connections:
                connection.back.spoiler = self.next_spoiler()

    async def heal(self) -> None:
        """End whatever is in force."""
        await self.listen()
        if self.spoilt is not None:
            self.spoilt = None
            self._reset_all()
        self._go_at(None)
        self._hold(False)

    def next_spoiler(self) -> Spoiler | None:
        if self.spoilt is None:
            return None
        self.spoilers += 1
        return spoiler(*self.spoilt, self.spoilers)

    def _begin(self) -> None:
        """A fault begins: nobody has felt it yet."""
        self.felt = 0
        for connection in self.connections:
            connection.has_felt = False

    def _feel_all(self) -> None:
        for connection in self.connections:
            connection.feel()

    def _reset_all(self) -> None:
        for connection in list(self.connections):
            connection.reset()

    def _go_at(self, slowness: Slowness | None) -> None:
        self.slowness = slowness
        for connection in list(self.connections):
            connection.back.go_at(slowness)

    def _hold(self, held: bool) -> None:
        self.stalled = held
        for connection in list(self.connections):
            connection.hold(held)

    @property
    def condition(self) -> str:
        if self.server is None:
            return "cut"
        if self.stalled:
            return "stalled"
        if self.slowness is not None:
            return f"slowed {self.slowness}"
        return "open" if self.spoilt is None else CONDITIONS[self.spoilt[0]]

    def status(self) -> dict[str, Any]:
        return {
            "edge": self.plan.edge,
            "channel": self.plan.channel,
            "port": self.plan.port,
            "held_bytes": self.held_bytes(),
            "rtt_ms": self.plan.rtt_ms,
            "condition": self.condition,
            "connections": len(self.connections),
            "felt": self.felt,
        }


def _unix_socket(path: Path) -> socket.socket:
    """Bound to `path`, for everybody who may enter its folder: the databases run as another account than we."""
    path.unlink(missing_ok=True)  # of a relay that was killed
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    bound.bind(str(path))
    path.chmod(0o666)
    return bound


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
            listener.close()

    async def obey(self, command: dict[str, Any]) -> dict[str, Any]:
        """Carry out one command; the answer is `ok`, or says what is wrong with the command.

        Of a fault it says in `felt` how many connections have felt it so far.
        """
        match command.get("do"):
            case "status":
                return {"ok": True, "channels": [listener.status() for listener in self.listeners]}
            case "cut" | "stall" | "slow" | "truncate" | "garble" | "heal" as action:
                chosen = self._chosen(command.get("edge"), command.get("channel"))
                if not chosen:
                    return {"ok": False, "error": f"no such channel: {command.get('edge')} {command.get('channel')}"}
                try:
                    for listener in chosen:
                        await self._change(listener, action, command)
                except ValueError as exc:
                    return {"ok": False, "error": str(exc)}
                return {"ok": True, "felt": sum(listener.felt for listener in chosen)}
            case other:
                return {"ok": False, "error": f"unknown command: {other!r}"}

    @staticmethod
    async def _change(listener: Listener, action: str, command: dict[str, Any]) -> None:
        """Raises ValueError that says what is wrong with the command."""
        match action:
            case "cut":
                listener.cut()
            case "stall":
                await listener.stall()
            case "slow":
                await listener.slow(Slowness.of(command))
            case "heal":
                await listener.heal()
            case _:
                await listener.spoil(action, seed_of(command))

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
