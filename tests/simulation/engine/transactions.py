"""What a database server keeps for its sessions: transactions, what their statements see, and how they end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any

from tests.simulation.engine.storage import Key, Snapshot

if TYPE_CHECKING:
    from tests.simulation.engine.servers import Server

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

    def cancel(self) -> None:
        """What is being committed is committed all the same, and waits for no standby any more."""
        if self._committing is not None:
            self._committing.durability = "local"
        if self._confirm is not None:
            self._confirm()

    def hung_up(self) -> None:
        """A commit that waits for a standby goes on waiting, hidden and with its locks: nobody looks after its client
        before it is confirmed."""
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
