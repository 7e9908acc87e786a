"""A database server of the simulation, as far as the promise depends on what PostgreSQL does.

A commit is written to the log, flushed, waits for a standby where it has to, and is visible after that: on the standby
it may be visible before. Row locks are held until then. A crash loses what was not flushed. A standby receives, flushes
and replays, each in its own time. A promoted one goes on from what it has received, on a timeline of its own.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tests.simulation.engine.processes import Process
from tests.simulation.engine.storage import Key, Record, Snapshot, Storage
from tests.simulation.engine.transactions import Backend, Refused, Transaction

if TYPE_CHECKING:
    from tests.simulation.engine.cluster import Cluster

FLUSH_S = (0.0002, 0.003)
"""How long the disk takes, in virtual seconds."""
WRITER_S = (0.05, 0.6)
"""When the log is flushed for those who did not wait for it."""
LOCK_TIMEOUT_S = 5.0
ASK_AGAIN_S = 0.2
"""A standby that has no upstream tries so often."""
NOTHING_HIDDEN: frozenset[int] = frozenset()


class Server:
    """One database server; made and started by `Cluster`."""

    process: Process

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster = cluster
        self.name = name
        self.log: list[Record] = []
        self.storage = Storage()
        self.flushed = 0
        """The number of the last record on its disk."""
        self.replayed = 0
        """The number of the last record that readers see, on a standby."""
        self.is_primary = False
        self.timeline = 1
        self.upstream: str | None = None
        """Whom it follows, as a standby."""
        self.starts = 0
        self.lag = (0.0, 0.02)
        """Virtual seconds between receiving and replaying a record: from, to."""
        self.paused = False
        self.streams = True
        """Whether it receives anything at all."""
        self.synchronous: tuple[str, ...] = ()
        """Any one of these standbys must have flushed a commit before it is confirmed; empty: nobody."""
        self.followers: dict[str, int] = {}
        """Standbys that stream from it, and what they have said to have flushed."""
        self.hidden: set[int] = set()
        self.waiting: list[tuple[int, Callable[[], None]]] = []
        """Commits that wait for a standby."""
        self._hidden_now = NOTHING_HIDDEN
        self._locks: dict[Key, tuple[Transaction, deque[tuple[Transaction, Callable[[bool], None]]]]] = {}
        self._due = 0
        """Up to where a standby would have replayed, were it not paused."""
        self._replay_at = 0.0
        self._flush_planned = False
        self._news: list[asyncio.Future[None]] = []
        self._draws = cluster.loop.draws(f"database/{name}")

    def __repr__(self) -> str:
        return f"{self.name}: {'primary' if self.is_primary else 'standby'} of {self.timeline}, at {len(self.log)}"

    # -- its life ------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start it, at first or after a crash: what was on its disk is there, and nothing else."""
        loop = self.cluster.loop
        self.starts += 1
        self.cut(self.flushed)
        self.followers, self.waiting, self.hidden = {}, [], set()
        self._hidden_now = NOTHING_HIDDEN
        self._replay_at = 0.0
        if self.is_primary:
            self._show_all()
        else:
            self._replay(len(self.log))
        self._locks = {}
        self._flush_planned = False
        self._news = []
        self.process = self.cluster.process_of(self)
        self.cluster.network.take_sessions(self.process, self.name, lambda session: Backend(self))
        self.cluster.network.take_sessions(self.process, _replication_of(self.name), lambda session: _Sender(self))
        if not self.is_primary:
            self.process.start(self._follow)
        loop.note(f"{self.name} starts")

    def cut(self, number: int) -> None:
        """Forget every record after `number`."""
        del self.log[number:]
        self.storage.forget_after(number)
        self.flushed = min(self.flushed, number)
        self.replayed = min(self.replayed, number)
        self._due = min(self._due, number)

    def promote(self) -> None:
        """Go on as a primary, from everything received, on a new timeline."""
        self._replay(len(self.log))
        self.is_primary = True
        self.upstream = None
        self.timeline = self.cluster.next_timeline()
        self.flushed = len(self.log)
        self._show_all()

    def demote(self, shared: int) -> None:
        """Become a standby again that has the first `shared` records of its log, as pg_rewind makes one; while down."""
        if self.is_primary:
            self.replayed = len(self.log)
        self.is_primary = False
        self.cut(shared)
        self._due = self.flushed = shared

    def _show_all(self) -> None:
        """What was in the log and not confirmed when its server ended is confirmed by being read."""
        for record in self.log:
            if record.visible_at is None:
                record.visible_at = self.cluster.loop.now
                for hook in self.cluster.on_visible:
                    hook(self, record)

    @property
    def instance(self) -> str:
        """What changes when it was restarted, promoted or exchanged."""
        return f"{self.name}/{self.timeline}/{self.starts}"

    # -- reading -------------------------------------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        return Snapshot(len(self.log) if self.is_primary else self.replayed, self._hidden_now)

    # -- locks ---------------------------------------------------------------------------------------------------------

    def lock(self, transaction: Transaction, key: Key) -> bool:
        """Take the lock of a row; False: another transaction has it."""
        if key in transaction.locks:
            return True
        if key in self._locks:
            return False
        self._locks[key] = transaction, deque()
        transaction.locks.append(key)
        return True

    def wait_for(self, transaction: Transaction, key: Key, then: Callable[[bool], None]) -> None:
        """Call `then(True)` when `transaction` has got the lock; `then(False)` after the time-out."""
        place = transaction, then
        self._locks[key][1].append(place)

        def give_up() -> None:
            entry = self._locks.get(key)
            if entry is not None and place in entry[1]:
                entry[1].remove(place)
                then(False)

        self.process.post(LOCK_TIMEOUT_S, give_up)

    def release(self, transaction: Transaction) -> None:
        """It is over: give up its locks, each to whoever waits longest."""
        transaction.ended = True
        locks, transaction.locks = transaction.locks, []
        granted = []
        for key in locks:
            _, waiting = self._locks.pop(key)
            if waiting:
                successor, then = waiting.popleft()
                self._locks[key] = successor, waiting
                successor.locks.append(key)
                granted.append(then)
        for then in granted:
            then(True)

    # -- committing ----------------------------------------------------------------------------------------------------

    def write(self, transaction: Transaction) -> Record:
        """Put what `transaction` wrote into the log; still hidden, unless it is confirmed in the same step."""
        cluster = self.cluster
        record = Record(len(self.log) + 1, self.timeline, transaction.writes, cluster.loop.now, self.name)
        self.log.append(record)
        self.storage.apply(record)
        cluster.records.append(record)
        return record

    def confirm(self, record: Record, transaction: Transaction) -> None:
        """The commit is visible from here on, and its locks are free."""
        self.hidden.discard(record.number)
        self._hidden_now = frozenset(self.hidden) if self.hidden else NOTHING_HIDDEN
        record.visible_at = self.cluster.loop.now
        for hook in self.cluster.on_visible:
            hook(self, record)
        self.release(transaction)

    def flush(self, number: int, then: Callable[[], None]) -> None:
        """Call `then` when the log is on disk up to `number`."""
        self._hidden_now = frozenset(self.hidden) if self.hidden else NOTHING_HIDDEN

        def done() -> None:
            self._is_flushed(number)
            then()

        self.process.post(self._draws.uniform(*FLUSH_S), done)

    def flush_later(self) -> None:
        """Some time soon, for commits that nobody waits for."""
        if not self._flush_planned:
            self._flush_planned = True
            self.process.post(self._draws.uniform(*WRITER_S), self._flush_all)

    def _flush_all(self) -> None:
        self._flush_planned = False
        self._is_flushed(len(self.log))

    def _is_flushed(self, number: int) -> None:
        if number > self.flushed:
            self.flushed = number
            news, self._news = self._news, []
            for waiter in news:
                if not waiter.done():
                    waiter.set_result(None)

    def confirm_replicated(self) -> None:
        """Confirm the commits for which a standby has said enough, or which need none any more."""
        names = self.synchronous
        reached = max([self.followers[name] for name in names if name in self.followers], default=0)
        waiting, self.waiting = self.waiting, []
        for number, confirm in waiting:
            if not names or number <= reached:
                confirm()
            else:
                self.waiting.append((number, confirm))

    # -- following -----------------------------------------------------------------------------------------------------

    async def _follow(self) -> None:
        """Receive the log of whoever is followed, as long as this is a standby."""
        while not self.is_primary:
            session = None
            try:
                upstream = self.upstream
                if upstream is None or not self.streams:
                    raise ConnectionError("nobody is followed")
                session = await self.cluster.network.open(_replication_of(upstream))
                while self._follows(upstream):
                    last = self.log[-1] if self.log else None
                    records = await session.call(session.served.after, self.name, last, self.flushed)
                    if not self._follows(upstream):
                        break
                    for record in records:
                        assert record.number == len(self.log) + 1
                        self.log.append(record)
                    await asyncio.sleep(self._draws.uniform(*FLUSH_S))
                    if self._follows(upstream):
                        self.flushed = len(self.log)
                        self._replay_later(records)
            except (OSError, Refused) as exc:
                self.cluster.loop.note(f"{self.name} does not stream: {exc}")
            finally:
                if session is not None:
                    session.close()
            await asyncio.sleep(ASK_AGAIN_S)

    def _follows(self, upstream: str) -> bool:
        return not self.is_primary and self.upstream == upstream and self.streams

    def _replay_later(self, records: tuple[Record, ...]) -> None:
        if records:
            now = self.cluster.loop.now
            self.timeline = max(self.timeline, records[-1].timeline)
            # In the order of the log, however unevenly it goes.
            self._replay_at = max(self._replay_at, now + self._draws.uniform(*self.lag))
            self.process.post(self._replay_at - now, self._replay_due, records[-1].number)

    def _replay_due(self, number: int) -> None:
        if self.is_primary or number > len(self.log):
            return
        self._due = max(self._due, number)
        if not self.paused:
            self._replay(self._due)

    def _replay(self, number: int) -> None:
        for record in self.log[self.replayed : number]:
            self.storage.apply(record)
        self.replayed = max(self.replayed, number)

    def resume(self) -> None:
        """Replay what came while it was paused."""
        self.paused = False
        self._replay_due(self._due)


class _Sender:
    """What a server keeps for a standby that streams from it."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._name: str | None = None

    def after(self, name: str, last: Record | None, flushed: int) -> Any:
        """The records after `last`, once there are any that are flushed here; `flushed` is what the standby reports.

        Raises Refused where the standby has what this log has not.
        """
        server = self._server
        at = 0 if last is None else last.number
        if last is not None and (len(server.log) < at or server.log[at - 1] is not last):
            raise Refused(f"{name} has a record {at} that {server.name} does not have: it must be rewound")
        self._name = name
        server.followers[name] = flushed
        server.confirm_replicated()
        if server.flushed > at:
            return tuple(server.log[at : server.flushed])
        news: asyncio.Future[None] = server.cluster.loop.create_future()
        answer: asyncio.Future[tuple[Record, ...]] = server.cluster.loop.create_future()
        server._news.append(news)
        news.add_done_callback(lambda _: answer.set_result(tuple(server.log[at : server.flushed])))
        return answer

    def cancel(self) -> None:
        """It ends with its session alone."""

    def hung_up(self) -> None:
        if self._name is not None:
            self._server.followers.pop(self._name, None)


def _replication_of(name: str) -> str:
    return f"replication/{name}"
