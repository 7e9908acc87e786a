"""A database server of the simulation, as far as the promise depends on what PostgreSQL does.

A commit is written to the log, flushed, waits for a standby where it has to, and is visible after that: on the standby
it may be visible before. Row locks are held until then. A crash loses what was not flushed. A standby receives, flushes
and replays, each in its own time. A promoted one goes on from what it has received, on a timeline of its own.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any

from tests.simulation.engine.loop import Process
from tests.simulation.engine.storage import Key, Record, Snapshot, Storage

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

Handler = Callable[["View", Any], Any]
"""What a statement does: gives its rows, as a list of tuples with names, or how many it changed. A generator gives up
the keys of the rows that it is going to change, and goes on with each when nobody else has it."""


class Refused(Exception):
    """The server does not do that: what a database error is to its client."""

    def __init__(self, why: str, sqlstate: str = "XX000") -> None:
        super().__init__(why)
        self.sqlstate = sqlstate


class Transaction:
    """One transaction at a server. `repeatable`: one snapshot for all its statements."""

    def __init__(self, server: Server, *, repeatable: bool, durability: str) -> None:
        self.server = server
        self.repeatable = repeatable
        self.durability = durability
        """As synchronous_commit has it: `on`, `local` or `off`."""
        self.writes: dict[Key, Any] = {}
        self.locks: list[Key] = []
        self.seen: Snapshot | None = None
        self.failed = False
        self.ended = False

    def look(self) -> Snapshot:
        """What the next statement sees."""
        if self.seen is None or not self.repeatable:
            self.seen = self.server.snapshot()
        return self.seen


class View:
    """What one statement can do, for those who say what it does."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction
        self.server = transaction.server
        self._seen = transaction.look()

    def look_again(self) -> None:
        """After waiting for a lock, as READ COMMITTED does."""
        self._seen = self._transaction.look()

    def get(self, table: str, key: Any) -> Any:
        """The row, or None."""
        writes = self._transaction.writes
        if writes and (table, key) in writes:
            return writes[table, key]
        return self.server.storage.get(table, key, self._seen)

    def rows(self, table: str) -> Iterator[tuple[Any, Any]]:
        """Keys and rows, in the order in which they were first written."""
        own = {key: value for (name, key), value in self._transaction.writes.items() if name == table}
        for key, value in self.server.storage.rows(table, self._seen):
            if key not in own:
                yield key, value
        for key, value in own.items():
            if value is not None:
                yield key, value

    def newest(self, table: str) -> Iterator[tuple[Any, Any]]:
        """The same without what this transaction has written itself, the latest first."""
        return self.server.storage.newest(table, self._seen)

    def commit_as(self, durability: str) -> None:
        """SET LOCAL synchronous_commit"""
        self._transaction.durability = durability

    def put(self, table: str, key: Any, value: Any) -> None:
        """Write the row, whose lock this transaction has; None deletes it."""
        assert (table, key) in self._transaction.locks, f"{table} {key} is written without its lock"
        if not self.server.is_primary:
            raise Refused("cannot execute this in a read-only transaction", "25006")
        self._transaction.writes[table, key] = value


class Backend:
    """What a server keeps for one session: its transaction, if one is open."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._transaction: Transaction | None = None
        self._committing: Transaction | None = None
        self._confirm: Callable[[], None] | None = None
        """Ends the wait of what is being committed for a standby."""

    def execute(self, text: str, values: Any, repeatable: bool, durability: str, at_once: bool) -> Any:
        """The rows of one statement, or a future of them. `at_once`: a transaction of its own. Raises Refused."""
        handler = self._server.cluster.handler(text)
        transaction = self._transaction
        if transaction is None:
            transaction = Transaction(self._server, repeatable=repeatable, durability=durability)
            if not at_once:
                self._transaction = transaction
        if transaction.failed:
            raise Refused("the transaction has failed: nothing but a rollback is done in it", "25P02")
        view = View(transaction)
        try:
            result = handler(view, values)
        except Refused:
            self._fail(transaction)
            raise
        if isinstance(result, Generator):
            return self._drive(transaction, view, result, at_once=at_once)
        return self._committed(transaction, result) if at_once else result

    def is_primary(self) -> bool:
        """Not pg_is_in_recovery()."""
        return self._server.is_primary

    def commit(self) -> Any:
        """None, or a future that is done when the commit is confirmed. Raises Refused after a failure."""
        transaction, self._transaction = self._transaction, None
        if transaction is None:
            return None
        if transaction.failed:
            self._server.release(transaction)
            raise Refused("the transaction has failed: it is rolled back", "25P02")
        return self._committed(transaction, None)

    def rollback(self) -> None:
        transaction, self._transaction = self._transaction, None
        if transaction is not None:
            self._server.release(transaction)

    def hung_up(self) -> None:
        """What is being committed is committed all the same, and waits for no standby any more."""
        if self._committing is not None:
            self._committing.durability = "local"
        if self._confirm is not None:
            self._confirm()
        self.rollback()

    # -- inside --------------------------------------------------------------------------------------------------------

    def _drive(self, transaction: Transaction, view: View, steps: Generator[Key, None, Any], *, at_once: bool) -> Any:
        """Run a statement that waits for locks: its rows, or a future of them."""
        server = self._server
        while True:
            try:
                wanted = next(steps)
            except StopIteration as done:
                return self._committed(transaction, done.value) if at_once else done.value
            except Refused:
                self._fail(transaction)
                raise
            if not server.lock(transaction, wanted):
                break
            view.look_again()
        outcome: asyncio.Future[Any] = server.cluster.loop.create_future()

        def go_on(granted: bool) -> None:
            if transaction.ended:
                server.release(transaction)
                return
            try:
                if not granted:
                    steps.close()
                    raise Refused("canceling statement due to lock timeout", "55P03")
                view.look_again()
                result = self._drive(transaction, view, steps, at_once=at_once)
            except Refused as exc:
                self._fail(transaction)
                outcome.set_exception(exc)
                return
            if isinstance(result, asyncio.Future):
                result.add_done_callback(lambda done: _pass_on(done, outcome))
            else:
                outcome.set_result(result)

        server.wait_for(transaction, wanted, go_on)
        return outcome

    def _fail(self, transaction: Transaction) -> None:
        transaction.failed = True
        transaction.writes.clear()
        if self._transaction is not transaction:
            self._server.release(transaction)

    def _committed(self, transaction: Transaction, result: Any) -> Any:
        server = self._server
        if not transaction.writes:
            server.release(transaction)
            return result
        record = server.write(transaction)
        if transaction.durability == "off":
            server.confirm(record, transaction)
            server.flush_later()
            return result
        outcome: asyncio.Future[Any] = server.cluster.loop.create_future()

        def confirm() -> None:
            self._committing = self._confirm = None
            if not outcome.done():
                server.confirm(record, transaction)
                outcome.set_result(result)

        def flushed() -> None:
            if transaction.durability == "on" and server.synchronous:
                self._confirm = confirm
                server.waiting.append((record.number, confirm))
                server.confirm_replicated()
            else:
                confirm()

        self._committing = transaction

        server.hidden.add(record.number)
        server.flush(record.number, flushed)
        return outcome


def _pass_on(done: asyncio.Future[Any], outcome: asyncio.Future[Any]) -> None:
    if outcome.done() or done.cancelled():
        return
    exc = done.exception()
    if exc is None:
        outcome.set_result(done.result())
    else:
        outcome.set_exception(exc)


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

    def hung_up(self) -> None:
        if self._name is not None:
            self._server.followers.pop(self._name, None)


def _replication_of(name: str) -> str:
    return f"replication/{name}"
