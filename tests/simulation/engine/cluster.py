"""The simulated database: a primary and its standbys, and what is done to them from outside."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import TextClause

from cache_policies.positions import Position, PurgeKind
from tests.simulation.engine import statements
from tests.simulation.engine.loop import SimLoop
from tests.simulation.engine.network import Network
from tests.simulation.engine.processes import Process
from tests.simulation.engine.servers import Server
from tests.simulation.engine.statements import CLOCK, SETTLED, STATEMENTS, Clock, Logged
from tests.simulation.engine.storage import PURGE_LOG, Key, Record
from tests.simulation.engine.transactions import Handler, Transaction, View

FIRST = Position(1, 1)
"""Where the purge log begins."""


WALL_S = 1_767_225_600.0


class Cluster:
    """Servers of these `names`; the first is the primary, and the others follow it. `rows`: what there is besides the
    purge log at the beginning."""

    def __init__(
        self, loop: SimLoop, network: Network, names: Sequence[str], rows: Mapping[Key, Any] | None = None
    ) -> None:
        self.loop = loop
        self.network = network
        self.on_visible: list[Callable[[Server, Record], None]] = []
        """Called in the step in which a commit becomes visible where it was made, and must not raise."""
        self.primary = names[0]
        """Who was made the primary last, alive or not."""
        self._draws = loop.draws("cluster")
        clocks = loop.draws("clocks of servers")
        # As much apart as rule 6 allows: a lease is counted by one clock and its end by another.
        self._clocks = {name: [clocks.uniform(0.9955, 1.0045), WALL_S + clocks.uniform(-2.0, 2.0)] for name in names}
        """Of each server's machine: how fast its clocks run, and what its wall clock shows at the beginning."""
        self._handlers: dict[str, Handler] = dict(STATEMENTS)
        self._timeline = 1
        beginning = Logged(self.new_id(), PurgeKind.HARD.value, ("*",), None, 0.0)
        first: dict[Key, Any] = {
            CLOCK: Clock(*FIRST),
            (PURGE_LOG, FIRST): beginning,
            (SETTLED, FIRST.epoch): True,
            **(rows or {}),
        }
        shared = Record(1, 1, first, 0.0, names[0], 0.0)
        self.records: list[Record] = [shared]
        """Every commit of every history, in the order in which they were written."""
        self.servers = {name: Server(self, name) for name in names}
        for name, server in self.servers.items():
            server.is_primary = name == self.primary
            server.upstream = None if server.is_primary else self.primary
            server.log.append(shared)
            server.storage.apply(shared)
            server.flushed = server.replayed = 1
            server.start()

    # -- what statements do --------------------------------------------------------------------------------------------

    def on(self, statement: TextClause, handler: Handler) -> None:
        """From now on `statement` does what `handler` says (servers.View)."""
        self._handlers[statement.text] = handler

    def handler(self, text: str) -> Handler:
        """Raises AssertionError for a statement that nobody has told the meaning of."""
        found = self._handlers.get(text)
        assert found is not None, f"the simulated database does not know the statement {text!r}: see statements.py"
        return found

    # -- faults and failover -------------------------------------------------------------------------------------------

    def replay_lag(self, name: str, seconds: tuple[float, float]) -> None:
        """From now on a standby replays what it receives so much later, in virtual seconds: from, to."""
        self.servers[name].lag = seconds

    def pause(self, name: str) -> None:
        """A standby receives, and shows nothing new."""
        self.servers[name].paused = True

    def resume(self, name: str) -> None:
        self.servers[name].resume()

    def stop_streaming(self, name: str) -> None:
        """A standby receives nothing more, which its primary may not notice: so a tail gets lost."""
        self.servers[name].streams = False

    def start_streaming(self, name: str) -> None:
        self.servers[name].streams = True

    def wait_for_standbys(self, name: str, standbys: Sequence[str]) -> None:
        """`synchronous_standby_names` of a server: commits that must survive wait for any one of these; none: for
        nobody."""
        server = self.servers[name]
        server.synchronous = tuple(standbys)
        server.confirm_replicated()

    def promote(self, name: str) -> None:
        """pg_promote, now: a standby becomes a primary of its own. Its epoch is for whoever promotes to raise."""
        server = self.servers[name]
        assert server.process.alive
        assert not server.is_primary
        server.promote()
        self.primary = name
        self.loop.note(f"{name} is promoted at record {len(server.log)}")

    def follow(self, name: str, upstream: str) -> None:
        """A standby follows another primary from now on; one that has what that one has not must `rejoin`."""
        self.servers[name].upstream = upstream

    def rejoin(self, name: str, upstream: str | None = None) -> int:
        """A server comes back as a standby of `upstream` (None: the primary): rewound to what both share, if it has
        more; killed before, if it runs. How many records it had to forget."""
        server, other = self.servers[name], self.servers[upstream or self.primary]
        if server.process.alive:
            server.process.kill()
        shared = 0
        for mine, theirs in zip(server.log, other.log, strict=False):
            if mine is not theirs:
                break
            shared += 1
        forgotten = len(server.log) - shared
        server.demote(shared)
        server.synchronous = ()
        server.upstream = other.name
        server.start()
        return forgotten

    def start(self, name: str) -> None:
        """Start a server that was killed, as what it was."""
        self.servers[name].start()

    def step_clock(self, name: str, seconds: float) -> None:
        """The wall clock of a server's machine is stepped."""
        self._clocks[name][1] += seconds
        self.servers[name].process.wall_offset_s = self._clocks[name][1]

    # -- what is true --------------------------------------------------------------------------------------------------

    @property
    def head(self) -> Position:
        """The newest position that is visible at the primary."""
        server = self.servers[self.primary]
        table, key = CLOCK
        clock = server.storage.get(table, key, server.snapshot())
        return Position(clock.epoch, clock.cv)

    def in_charge(self) -> list[str]:
        """Servers that take themselves to be in charge, also those that are stopped just now."""
        return [name for name, server in self.servers.items() if server.process.alive and _is_in_charge(server)]

    def survives(self, record: Record) -> bool:
        """Whether the primary's history holds `record`; what it does not hold was lost at a promotion or a crash."""
        log = self.servers[self.primary].log
        return len(log) >= record.number and log[record.number - 1] is record

    # -- for servers and statements ------------------------------------------------------------------------------------

    def process_of(self, server: Server) -> Process:
        """A new process for a server that starts."""
        rate, wall_offset_s = self._clocks[server.name]
        offset_s = 50_000.0 + 1_000.0 * server.starts
        return self.loop.process(server.name, rate=rate, offset_s=offset_s, wall_offset_s=wall_offset_s)

    def next_timeline(self) -> int:
        self._timeline += 1
        return self._timeline

    def new_id(self) -> str:
        """gen_random_uuid()"""
        return str(uuid.UUID(int=self._draws.getrandbits(128)))


def _is_in_charge(server: Server) -> bool:
    return statements.is_in_charge(View(Transaction(server, repeatable=False, durability="on")))
