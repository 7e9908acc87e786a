"""The question that edges ask, answered from the primary only (docs/wire.md, rules 4 and 6).

The order is what the promise rests on: commit the contact, then read entries and head in one statement, then answer.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from cache_policies.feed import HOLD_S, Answer, Question
from cache_policies.positions import ZERO
from origin.db import LOCALLY, Database
from origin.errors import Unavailable
from origin.events.purge_log import LogPage, LogTail, read_after, read_ends

MAX_HELD = 1_024
"""Questions that one origin worker answers at a time, at most; two are open per edge worker."""

# A position is taken as applied only when this log holds it with that id: a question from another history
# acknowledges nothing. Contacts may arrive out of order, so both numbers only ever rise.
_CONTACT = text(
    """
    UPDATE events.contact AS known
       SET contact = greatest(known.contact, :contact),
           applied_epoch = CASE WHEN news THEN :epoch ELSE known.applied_epoch END,
           applied_cv = CASE WHEN news THEN :cv ELSE known.applied_cv END,
           edge = :edge,
           public_url = :public_url
      FROM (SELECT before.worker, (:epoch, :cv) > (before.applied_epoch, before.applied_cv)
                   AND EXISTS (SELECT FROM events.purge_log
                                WHERE epoch = :epoch AND cv = :cv AND id::text = :id) AS news
              FROM events.contact AS before WHERE before.worker = :worker FOR UPDATE) AS question
     WHERE known.worker = question.worker
    """
)
_REGISTER = text(
    """
    INSERT INTO events.contact (worker, edge, contact, applied_epoch, applied_cv, public_url)
    VALUES (:worker, :edge, :contact, 0, 0, :public_url)
    ON CONFLICT (worker) DO NOTHING
    """
)
# A question sent before leaving may arrive after it: the row stays for a while, so that it cannot register again.
_LEAVE = text(
    """
    INSERT INTO events.contact (worker, edge, contact, applied_epoch, applied_cv, public_url, left_at)
    VALUES (:worker, '', 1, 0, 0, '', now())
    ON CONFLICT (worker) DO UPDATE SET left_at = excluded.left_at
    """
)
_FORGET_LEFT = text("DELETE FROM events.contact WHERE left_at < now() - interval '1 hour'")


async def note_contact(database: Database, connection: AsyncConnection, question: Question) -> None:
    """Commit that this question was asked; the first of a worker is its registration, which survives a crash.

    `connection` is one of `database.log`, which commits each statement by itself.
    """
    after = question.after or ZERO
    values = {
        "worker": question.worker,
        "edge": question.edge,
        "contact": question.contact,
        "epoch": after.epoch,
        "cv": after.cv,
        "id": question.after_id or "",
        "public_url": question.public_url,
    }
    if (await connection.execute(_CONTACT, values)).rowcount:
        return
    # `writes` waits for the disk, `log` does not: a lost contact costs a moment, a lost registration the promise. One
    # that is lost with the primary is waited out: nothing is live for a while after a promotion.
    async with database.writes.begin() as durable:
        await durable.execute(LOCALLY)
        await durable.execute(_REGISTER, values)
    await connection.execute(_CONTACT, values)


async def leave(database: Database, worker: str) -> None:
    """End the registration of a worker that serves nothing more, for good."""
    async with database.writes.begin() as connection:
        await connection.execute(LOCALLY)
        await connection.execute(_FORGET_LEFT)
        await connection.execute(_LEAVE, {"worker": worker})


class Feed:
    """Answers questions; one per origin worker."""

    def __init__(self, database: Database, tail: LogTail, hold_s: float = HOLD_S) -> None:
        self._database = database
        self._tail = tail
        self._hold_s = hold_s
        self._open = 0

    def admit(self) -> None:
        """Take one more question, or raise Unavailable. Whoever takes one gives it back with `release`."""
        if self._open >= MAX_HELD:
            raise Unavailable(f"{MAX_HELD} questions are open at this worker of the origin already")
        self._open += 1

    def release(self) -> None:
        self._open -= 1

    async def answer(self, question: Question) -> AsyncGenerator[bytes, None]:
        """The lines of the answer, each with its line feed: the first at once, then one whenever there are entries.

        Ends when the question has been open for L/4, or earlier when the worker has to ask anew anyhow: it starts,
        has to flush, or is more than a page behind.
        """
        started = time.monotonic()
        async with self._database.log.connect() as connection:
            await note_contact(self._database, connection, question)
            if question.after is None:
                page = await read_ends(connection)
            else:
                page = await read_after(connection, question.after, question.after_id or "")
        if page.head.epoch < self._tail.head.epoch:
            raise Unavailable(f"the database that was asked is at {page.head}, and its epoch has ended")
        # The connection is back in its pool: how fast an edge takes its lines is no matter of the database.
        if question.after is None:
            yield _line(Answer((), page.head, page.head_id, (page.oldest, page.oldest_id)))
            if page.oldest != page.head:
                return
        else:
            yield _line(Answer(page.entries, page.head, page.head_id, flush=not page.known, rewind=page.rewind))
            if not page.reaches_head:
                return
        async for line in self._lines_after(page, started + self._hold_s):
            yield line

    async def _lines_after(self, page: LogPage, until: float) -> AsyncGenerator[bytes, None]:
        tail, at = self._tail, page.head
        tail.note_head(at)
        tail.held += 1
        try:
            while await tail.wait_beyond(at, until - time.monotonic()):
                entries = tail.entries_after(at)
                if entries is None or entries[-1].position != tail.head:
                    return
                yield _line(Answer(entries, tail.head, tail.head_id))
                at = tail.head
        finally:
            tail.held -= 1


def _line(answer: Answer) -> bytes:
    return answer.to_json() + b"\n"
