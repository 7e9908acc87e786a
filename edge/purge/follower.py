"""Follows the purge log: asks the origin, raises floors, renews the lease (docs/freshness.md, rules 4 and 5).

`Follower` holds the rules and does no I/O: it is asked for a question and told of answers. `FollowerLoop` keeps one
question open at the origin at every moment, over whatever `ask` it is given.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from enum import Enum

from cache_policies.feed import ASK_EVERY_S, HOLD_S, LEASE_S, Answer, Question
from cache_policies.positions import ORDERED_KINDS, Position, PurgeEntry, PurgeKind, WireError
from cache_policies.tags import EVERYTHING
from edge.core.floors import Floors, Lease

logger = logging.getLogger("nearshelf.follower")

STREAM_DEADLINE_S = HOLD_S + LEASE_S
"""An answer later than this renews nothing, because its question is older than a lease."""
RETRY_S = 0.1
"""After a question that failed. Many edges notice a cut at once, but ten small questions a second are cheap."""
REFUSED_RETRY_S = 2.0
"""After a question whose key was refused: only somebody who changes a setting can help."""
MAX_WHILE_FAILING = 4
"""Questions that wait for their answer at the same time while questions fail: an origin that is slow to answer would
otherwise find so many waiting that whoever sent the next one had given it up before its turn."""
APART_WHILE_FAILING_S = STREAM_DEADLINE_S / MAX_WHILE_FAILING
"""Between two of them. Sent one right after the other, they would all be lost in the same silence, and when the origin
is well again nobody would ask before the first is given up."""
MAX_OPEN_STREAMS = 32
"""Beyond it the oldest is hung up: its question has been reported, and younger ones hear the same entries."""
REMEMBERED = 1_000
"""Ids of the entries that were applied last: what a failover lost is shorter, or everything is taken as purged."""
SPARE_STREAMS = 3
"""Asked at once when the origin is heard, at first or again: their connections stay open, so that a report never waits
a round trip for one to be made."""


class Outcome(Enum):
    """What one line of an answer did."""

    CURRENT = "current"
    """Nothing new; everything up to the line's head is applied."""
    APPLIED = "applied"
    """Floors rose: report it by asking again at once."""
    DOUBT = "doubt"
    """A gap, another history, an unreadable entry: nothing applied, nothing renewed; hang up and ask again."""
    LEFT_BEHIND = "left_behind"
    """About a position that was left behind meanwhile, and nobody can say that what its stream goes on with follows
    what is applied now. Hang up; the questions asked since are answered for themselves."""
    LOST_HISTORY = "lost_history"
    """The log is shorter than what was applied, in the same epoch: stored responses may come from a history that no
    longer exists, and no floor can tell. The worker must restart with an empty store."""


class Follower:
    """What one worker has applied, and the rules by which it moves.

    Times are seconds of the edge's clock. Applying is one step: no await between reading an answer and raising floors.
    """

    def __init__(self, worker: str, edge: str, public_url: str, floors: Floors, lease: Lease) -> None:
        self.worker = worker
        self.edge = edge
        self.public_url = public_url
        self.floors = floors
        self.lease = lease
        self.applied: Position | None = None
        self.applied_id: str | None = None
        self._ids: dict[Position, str] = {}
        """Of what was applied last, without gaps, the oldest first."""
        self.contact = 0
        self.caught_up = False
        """Whether the whole log was applied once: before it, a starting worker serves nothing from its store."""
        self.flushes = 0
        self.rewinds = 0
        """Times that the tail of what was applied turned out to be lost with an old primary."""
        self.entries = dict.fromkeys(ORDERED_KINDS, 0)
        """Purges applied, by their kind."""
        self.head: Position | None = None
        """The log's, as heard last."""

    @property
    def behind(self) -> int:
        """How many entries are known to be in the log and are not applied yet."""
        if self.head is None or self.applied is None:
            return 0
        return max(0, self.head.cv - self.applied.cv)

    def question(self) -> Question:
        """The next question; its sender notes the time just before sending it."""
        self.contact += 1
        return Question(self.worker, self.edge, self.contact, self.applied, self.applied_id, self.public_url)

    def on_answer(self, question: Question, answer: Answer, asked_at: float) -> Outcome:
        """Apply one line of the answer to `question`, which was sent at `asked_at`."""
        if self.applied is None:
            if answer.start is None:
                return Outcome.DOUBT
            start, start_id = answer.start
            self.head = answer.head
            # Nothing is known of what was purged before the oldest retained entry: older responses count as purged.
            self.floors.raise_to(start, (EVERYTHING,))
            self._move_to(start, start_id)
            self._apply_run(self._new_entries(answer.entries, start, start_id) or ())
            self._renew(answer, asked_at)
            return Outcome.APPLIED

        if answer.head.epoch < self.applied.epoch:
            # A primary that was replaced and does not know it yet: what it says is not evidence.
            return Outcome.DOUBT
        self.head = answer.head if self.head is None else max(self.head, answer.head)
        late = question.after != self.applied or question.after_id != self.applied_id
        if answer.flush or answer.rewind is not None:
            if late:
                return Outcome.LEFT_BEHIND
            if answer.rewind is not None:
                return self._rewind(answer, *answer.rewind, asked_at)
            if answer.head < self.applied:
                return Outcome.LOST_HISTORY
            return self._flush(answer, asked_at)

        run = self._new_entries(answer.entries, self.applied, self.applied_id)
        if not run and answer.head.epoch > self.applied.epoch and not late:
            # An epoch that nothing leads to from what is applied.
            return self._flush(answer, asked_at)
        if run is None:
            return Outcome.DOUBT
        if self.applied == answer.head and not run and answer.head_id != self.applied_id:
            return Outcome.DOUBT
        if late and run and run[0].kind is PurgeKind.EPOCH and not _shows(answer, self.applied):
            # It begins after an entry of the same number, which may be of another epoch than the one applied last.
            return Outcome.LEFT_BEHIND
        self._apply_run(run)
        self._renew(answer, asked_at)
        return Outcome.APPLIED if run else Outcome.CURRENT

    @staticmethod
    def _new_entries(entries: tuple[PurgeEntry, ...], at: Position, at_id: str | None) -> tuple[PurgeEntry, ...] | None:
        """The gapless run of `entries` that follows `at`; None when there is a hole or another history."""
        run = []
        for entry in entries:
            if entry.position < at:
                continue
            if entry.position == at:
                if entry.id != at_id:
                    return None
                continue
            # An epoch begins with its record, whose `fork_cv` is then the one of `at`, and with nothing else.
            begins = entry.position.epoch > at.epoch
            if entry.position.cv != at.cv + 1 or begins is not (entry.kind is PurgeKind.EPOCH):
                return None
            run.append(entry)
            at, at_id = entry.position, entry.id
        return tuple(run)

    def _apply_run(self, run: tuple[PurgeEntry, ...]) -> None:
        for entry in run:
            if entry.kind is PurgeKind.EPOCH:
                assert self.applied is not None
                self.floors.begin_epoch(entry.position, self.applied)
            else:
                self.floors.apply(entry)
                self.entries[entry.kind] += 1
            self._move_to(entry.position, entry.id)

    def _rewind(self, answer: Answer, shared: Position, shared_id: str, asked_at: float) -> Outcome:
        """Go back to the newest entry that a new primary inherited, and on with its own."""
        assert self.applied is not None
        run = self._new_entries(answer.entries, shared, shared_id)
        if not run or run[0] is not answer.entries[0] or run[0].position.epoch <= self.applied.epoch:
            return Outcome.DOUBT
        if self._ids.get(shared) != shared_id:
            # Nobody can say that it was applied here.
            return self._flush(answer, asked_at)
        self._ids = {position: entry_id for position, entry_id in self._ids.items() if position <= shared}
        self._move_to(shared, shared_id)
        self._apply_run(run)
        self.rewinds += 1
        self._renew(answer, asked_at)
        return Outcome.APPLIED

    def _flush(self, answer: Answer, asked_at: float) -> Outcome:
        """Forget what was known of the log, by taking everything older than its head as purged: always safe."""
        self.floors.raise_to(answer.head, (EVERYTHING,))
        self._ids.clear()
        self._move_to(answer.head, answer.head_id)
        self.flushes += 1
        self._renew(answer, asked_at)
        return Outcome.APPLIED

    def _move_to(self, position: Position, entry_id: str) -> None:
        self.applied, self.applied_id = position, entry_id
        self._ids[position] = entry_id
        if len(self._ids) > REMEMBERED:
            del self._ids[next(iter(self._ids))]

    def _renew(self, answer: Answer, asked_at: float) -> None:
        """Only when everything up to the head is applied; a page of a longer log renews nothing."""
        assert self.applied is not None
        if self.applied >= answer.head:
            # Stamped when the question was sent, not when the answer came: the answer can only vouch for the time
            # before it left the origin.
            self.lease.renew(asked_at)
            self.caught_up = True


def _shows(answer: Answer, position: Position) -> bool:
    return any(entry.position == position for entry in answer.entries)


Ask = Callable[[Question], AsyncIterator[bytes]]
"""Sends a question and yields the lines of its answer. Raises OSError (or a subclass) when there is none."""


class QuestionRefused(ConnectionError):
    """The origin answers, and does not take this edge for one of its own."""


class FollowerLoop:
    """Keeps one question open at the origin: asks every L/8, and at once when something was applied.

    `clock` gives seconds of the edge's clock. `on_lost_history` is called once, when the worker must restart.
    """

    def __init__(
        self,
        follower: Follower,
        ask: Ask,
        clock: Callable[[], float],
        on_lost_history: Callable[[], None],
    ) -> None:
        self.follower = follower
        self._ask = ask
        self._clock = clock
        self._on_lost_history = on_lost_history
        self._soon = asyncio.Event()
        self._streams: dict[asyncio.Task[None], None] = {}
        self._asked_at = float("-inf")
        self._failing = False
        self._refused = False
        self._is_lost = False
        self._heard_at = float("-inf")
        self._spares_wanted = True

    async def run(self) -> None:
        """Until cancelled, or until the worker must restart; the open streams are hung up then."""
        try:
            while not self._is_lost:
                self._soon.clear()
                if self._may_ask():
                    self._open_stream()
                if self._spares_wanted and self._heard_at > float("-inf") and not self._failing:
                    self._spares_wanted = False
                    for _ in range(SPARE_STREAMS):
                        self._open_stream()
                wait_s = REFUSED_RETRY_S if self._refused else RETRY_S if self._failing else ASK_EVERY_S
                try:
                    async with asyncio.timeout(wait_s):
                        await self._soon.wait()
                except TimeoutError:
                    pass
        finally:
            streams = list(self._streams)
            for task in streams:
                task.cancel()
            await asyncio.gather(*streams, return_exceptions=True)

    def _may_ask(self) -> bool:
        """Not while questions fail and others wait for their answer that were asked a moment ago."""
        waited_s = self._clock() - self._asked_at
        return not self._failing or not self._streams or waited_s >= APART_WHILE_FAILING_S

    def _open_stream(self) -> None:
        self._asked_at = self._clock()
        if len(self._streams) >= MAX_OPEN_STREAMS:
            oldest = next(iter(self._streams))
            oldest.cancel()
            del self._streams[oldest]
        task = asyncio.create_task(self._one_question())
        self._streams[task] = None
        task.add_done_callback(lambda done: self._streams.pop(done, None))

    async def _one_question(self) -> None:
        question = self.follower.question()
        asked_at = self._clock()
        try:
            async with asyncio.timeout(STREAM_DEADLINE_S), aclosing(_closable(self._ask(question))) as lines:
                async for line in lines:
                    if self._is_lost:
                        # Nothing gives back the lease that was given up.
                        return
                    outcome = self.follower.on_answer(question, Answer.from_json(line), asked_at)
                    if outcome is Outcome.LOST_HISTORY:
                        self._is_lost = True
                        self.follower.lease.give_up()
                        self._soon.set()
                        self._on_lost_history()
                        return
                    if outcome is Outcome.DOUBT:
                        self._say_failing("the answer does not continue what is applied")
                        return
                    self._say_healed()
                    if outcome is Outcome.LEFT_BEHIND:
                        return
                    if outcome is Outcome.APPLIED:
                        self._soon.set()
        except QuestionRefused as exc:
            self._say_failing(str(exc), refused=True)
        except (OSError, TimeoutError, WireError) as exc:
            if self._heard_at < asked_at:
                self._say_failing(str(exc) or "no answer in time")

    def _say_failing(self, why: str, *, refused: bool = False) -> None:
        if not self._failing or (refused and not self._refused):
            again_s = REFUSED_RETRY_S if refused else RETRY_S
            logger.warning("questions to the origin fail: %s (asking again every %.1f s)", why, again_s)
        self._failing = True
        self._refused = self._refused or refused
        self._spares_wanted = True

    def _say_healed(self) -> None:
        self._heard_at = self._clock()
        if self._failing:
            logger.warning("questions to the origin are answered again")
        self._failing = self._refused = False


async def _closable(lines: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """An async generator around any async iterator, so that leaving it early always closes the stream below."""
    try:
        async for line in lines:
            yield line
    finally:
        close = getattr(lines, "aclose", None)
        if close is not None:
            await close()
