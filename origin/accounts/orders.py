"""Purges that people and edges order, those of a second together: the first at once, the others when that is over.

Each entry of the purge log is read by every worker of every edge and watched until it is live. A program that purges a
product at a time, a thousand times, would make a thousand of them; merged it is one a second of each kind, or a few
where their tags are more than one holds, and everybody who ordered is told the position of theirs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from cache_policies.positions import MAX_TAGS_PER_ENTRY, ORDERED_KINDS, Position, PurgeKind
from origin.accounts import audit
from origin.db import Database
from origin.errors import Unavailable
from origin.events.messages import TagsPurged

MERGE_S = 1.0
"""From one commit of orders to the next, at the least."""
MAX_ACTORS_CHARACTERS = 300


@dataclass(frozen=True, slots=True)
class Order:
    """What somebody ordered, checked."""

    kind: PurgeKind
    tags: tuple[str, ...]
    actor: str
    cause: str
    """In a few words, for the purge log."""
    subject: str
    """What was named, for the audit list."""
    reason: str


@dataclass(frozen=True, slots=True)
class Purged:
    """A committed purge; `tags` are those of the order, the entry may name more."""

    position: Position
    purge_id: str
    kind: PurgeKind
    tags: tuple[str, ...]


_Waiting = tuple[Order, asyncio.Future[Purged]]


class PurgeOrders:
    """Of one origin worker; others merge their own. Closed at the end of the shop."""

    def __init__(self, database: Database, merge_s: float = MERGE_S) -> None:
        self._database = database
        self._merge_s = merge_s
        self._waiting: list[_Waiting] = []
        self._committing: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()

    async def enter(self, order: Order) -> Purged:
        """Commit `order`, with whatever else is ordered meanwhile: at once, or up to a second after the last commit.

        It is carried out also when its caller is called off. Raises what the database raises.
        """
        if self._closing.is_set():
            raise Unavailable("this worker of the origin is stopping; please try again")
        done: asyncio.Future[Purged] = asyncio.get_running_loop().create_future()
        # Whoever hung up is told of no failure either.
        done.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._waiting.append((order, done))
        if self._committing is None:
            self._committing = asyncio.create_task(self._commit(), name="purge orders")
        return await asyncio.shield(done)

    async def close(self) -> None:
        """Commit what waits, and take no more."""
        self._closing.set()
        if self._committing is not None:
            await self._committing

    async def _commit(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                ordered, self._waiting = self._waiting, []
                began_at = loop.time()
                for kind in ORDERED_KINDS:
                    for together in self._fitting([one for one in ordered if one[0].kind is kind]):
                        await self._together(kind, together)
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(began_at + self._merge_s):
                        await self._closing.wait()
        finally:
            self._committing = None

    def _fitting(self, ordered: Sequence[_Waiting]) -> Iterator[list[_Waiting]]:
        """`ordered`, in its order, in as few parts as it takes that none purges more than was ordered: an entry that
        names too much names whole markets instead. An order that does so by itself has a part of its own."""
        # The entry names `many:` of each market, too.
        room = MAX_TAGS_PER_ENTRY - len(self._database.markets.all)
        part: list[_Waiting] = []
        tags: set[str] = set()
        for one in ordered:
            if part and len(tags) + len(set(one[0].tags) - tags) > room:
                yield part
                part, tags = [], set()
            part.append(one)
            tags.update(one[0].tags)
        if part:
            yield part

    async def _together(self, kind: PurgeKind, ordered: Sequence[_Waiting]) -> None:
        # What it raises is everybody's who ordered, whatever it is.
        [outcome] = await asyncio.gather(self._write(kind, [order for order, _ in ordered]), return_exceptions=True)
        for order, done in ordered:
            if done.done():
                continue
            if isinstance(outcome, BaseException):
                done.set_exception(outcome)
            else:
                done.set_result(Purged(*outcome, kind, order.tags))

    async def _write(self, kind: PurgeKind, orders: Sequence[Order]) -> tuple[Position, str]:
        """One transaction, one entry; each order has its line in the audit list."""
        actors = ", ".join(dict.fromkeys(order.actor for order in orders))[:MAX_ACTORS_CHARACTERS]
        cause = orders[0].cause if len(orders) == 1 else f"{len(orders)} purges together"
        async with self._database.unit_of_work(actor=actors, cause=cause) as work:
            work.record(TagsPurged(tuple(dict.fromkeys(tag for order in orders for tag in order.tags)), kind))
            for order in orders:
                await audit.write(
                    work.connection,
                    actor=order.actor,
                    action="purge",
                    subject=order.subject,
                    after={"kind": order.kind.value, "tags": list(order.tags)},
                    reason=order.reason,
                    purge_id=work.purge_id,
                )
        assert work.position is not None
        return work.position, work.purge_id
