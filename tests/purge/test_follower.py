"""The follower's rules as a table of stories: what raises floors, what renews the lease, what does neither."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from cache_policies.feed import ASK_EVERY_S, LEASE_S, Answer, Question
from cache_policies.positions import Position, PurgeEntry, PurgeKind
from edge.core.floors import Floors, Lease
from edge.purge.follower import (
    APART_WHILE_FAILING_S,
    MAX_WHILE_FAILING,
    SPARE_STREAMS,
    STREAM_DEADLINE_S,
    Follower,
    FollowerLoop,
    Outcome,
    QuestionRefused,
)

T = 1_000.0


def at(cv: int, epoch: int = 1) -> Position:
    return Position(epoch, cv)


def entry(
    cv: int, *tags: str, epoch: int = 1, entry_id: str | None = None, kind: PurgeKind = PurgeKind.HARD
) -> PurgeEntry:
    return PurgeEntry(at(cv, epoch), entry_id or f"id{epoch}.{cv}", kind, tags or ("p:x",))


def begins(epoch: int, fork_cv: int) -> PurgeEntry:
    """The record of an epoch."""
    return PurgeEntry(at(fork_cv + 1, epoch), f"id{epoch}.{fork_cv + 1}", PurgeKind.EPOCH, (), fork_cv)


def line(
    *entries: PurgeEntry,
    head: int,
    epoch: int = 1,
    flush: bool = False,
    start: int | None = None,
    rewind: tuple[Position, str] | None = None,
) -> Answer:
    return Answer(
        entries,
        at(head, epoch),
        f"id{epoch}.{head}",
        None if start is None else (at(start, epoch), f"id{epoch}.{start}"),
        flush,
        rewind,
    )


@pytest.fixture
def follower() -> Follower:
    return Follower("worker-one", "eu", "http://edge", Floors(), Lease(LEASE_S))


def started(follower: Follower, cv: int = 5) -> Follower:
    """Applied up to `cv`, lease given up again, so that a renewal shows."""
    assert follower.on_answer(follower.question(), line(head=cv, start=cv), T) is Outcome.APPLIED
    follower.lease.give_up()
    return follower


def test_a_starting_worker_takes_everything_before_the_oldest_retained_entry_as_purged(follower):
    question = follower.question()
    assert question.after is None
    assert follower.on_answer(question, line(head=9, start=4), T) is Outcome.APPLIED
    assert follower.floors.everything == at(4)
    assert follower.applied == at(4)
    assert not follower.lease.held(T)
    assert not follower.caught_up
    follower.on_answer(follower.question(), line(*(entry(cv) for cv in range(5, 10)), head=9), T + 1)
    assert follower.caught_up
    assert follower.lease.held(T + 1)


def test_a_question_reports_what_is_applied_and_counts_contacts(follower):
    started(follower)
    first, second = follower.question(), follower.question()
    assert (first.after, first.after_id) == (at(5), "id1.5")
    assert second.contact == first.contact + 1


def test_the_lease_counts_from_when_the_question_was_sent(follower):
    started(follower)
    follower.on_answer(follower.question(), line(head=5), T)
    assert follower.lease.held(T + LEASE_S - 0.001)
    assert not follower.lease.held(T + LEASE_S)


def test_an_entry_raises_its_floors_by_its_kind(follower):
    started(follower)
    follower.on_answer(follower.question(), line(entry(6, "a"), entry(7, "b", kind=PurgeKind.SOFT), head=7), T)
    assert follower.floors.hard_floor(["a"]) == at(6)
    assert follower.floors.soft_floor(["b"]) == at(7)
    assert follower.floors.hard_floor(["b"]) == at(5)


def test_a_page_of_a_longer_log_is_applied_and_renews_nothing(follower):
    started(follower)
    assert follower.on_answer(follower.question(), line(entry(6), entry(7), head=9), T) is Outcome.APPLIED
    assert follower.applied == at(7)
    assert not follower.lease.held(T)


def test_the_same_entries_over_two_streams_are_applied_once_and_vouch_twice(follower):
    started(follower)
    first, second = follower.question(), follower.question()
    follower.on_answer(first, line(entry(6), head=6), T)
    assert follower.on_answer(second, line(entry(6), head=6), T + 0.25) is Outcome.CURRENT
    assert follower.lease.held(T + 0.25 + LEASE_S - 0.001)


def test_an_older_stream_vouches_only_for_its_own_question(follower):
    started(follower)
    old = follower.question()
    follower.on_answer(follower.question(), line(entry(6), entry(7), head=7), T + 1)
    assert follower.on_answer(old, line(entry(6), head=6), T) is Outcome.CURRENT
    assert not follower.lease.held(T + 1 + LEASE_S)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(line(entry(7), head=7), id="a hole is a loss"),
        pytest.param(line(entry(6), entry(8), head=8), id="a hole inside"),
        pytest.param(line(entry(5, entry_id="other"), entry(6), head=6), id="another id at the applied position"),
        pytest.param(Answer((), at(5), "other"), id="another id at the head"),
        pytest.param(line(entry(6), entry(1, epoch=2), head=6), id="an entry of another epoch among ours"),
        pytest.param(line(head=99, epoch=0), id="a primary that was replaced"),
    ],
)
def test_in_doubt_nothing_is_applied_and_nothing_renewed(follower, answer):
    started(follower)
    before = follower.floors.sequence
    assert follower.on_answer(follower.question(), answer, T) is Outcome.DOUBT
    assert follower.applied == at(5)
    assert follower.floors.sequence == before
    assert not follower.lease.held(T)


def test_flush_raises_everything_to_the_head(follower):
    started(follower)
    assert follower.on_answer(follower.question(), line(head=40, flush=True), T) is Outcome.APPLIED
    assert follower.floors.everything == at(40)
    assert (follower.applied, follower.applied_id) == (at(40), "id1.40")


def test_a_late_flush_about_a_position_already_left_changes_nothing(follower):
    started(follower)
    old = follower.question()
    follower.on_answer(follower.question(), line(entry(6), head=6), T)
    assert follower.on_answer(old, line(head=6, flush=True), T) is Outcome.LEFT_BEHIND
    assert follower.floors.everything == at(5)


def test_an_unknown_epoch_raises_everything_to_the_head(follower):
    started(follower)
    answer = line(entry(6), entry(7, epoch=2), head=7, epoch=2)
    assert follower.on_answer(follower.question(), answer, T) is Outcome.APPLIED
    assert follower.floors.everything == at(7, epoch=2)
    assert follower.applied == at(7, epoch=2)
    assert follower.lease.held(T)


def test_a_log_shorter_than_what_was_applied_asks_for_a_restart(follower):
    started(follower)
    assert follower.on_answer(follower.question(), line(head=3, flush=True), T) is Outcome.LOST_HISTORY


# -- epochs ------------------------------------------------------------------------------------------------------------


def with_tail(follower: Follower) -> Follower:
    """Applied 5 to 9, of which a new primary has inherited 5 to 7."""
    started(follower)
    run = (entry(6, "a"), entry(7, "b"), entry(8, "c"), entry(9, "d", kind=PurgeKind.SOFT))
    follower.on_answer(follower.question(), line(*run, head=9), T)
    follower.lease.give_up()
    return follower


SHARED = (at(7), "id1.7")


def test_an_epoch_that_inherited_everything_goes_on_without_a_flush(follower):
    started(follower)
    answer = line(entry(6, "a"), begins(2, 6), entry(8, "b", epoch=2), head=8, epoch=2)
    assert follower.on_answer(follower.question(), answer, T) is Outcome.APPLIED
    assert (follower.applied, follower.applied_id) == (at(8, 2), "id2.8")
    assert follower.floors.everything == at(5)
    assert (follower.flushes, follower.rewinds, follower.entries[PurgeKind.HARD]) == (0, 0, 2)
    assert follower.floors.hard_floor(["a"]) == at(6)
    assert follower.floors.is_ghost(at(7))
    assert follower.lease.held(T)
    assert follower.question().after == at(8, 2)


def test_a_page_that_ends_before_the_epoch_renews_nothing(follower):
    started(follower)
    assert follower.on_answer(follower.question(), line(entry(6), head=8, epoch=2), T) is Outcome.APPLIED
    assert (follower.applied, follower.behind) == (at(6), 2)
    assert not follower.lease.held(T)
    follower.on_answer(follower.question(), line(begins(2, 6), entry(8, epoch=2), head=8, epoch=2), T)
    assert follower.lease.held(T)
    assert follower.flushes == 0


def test_a_lost_tail_is_gone_back_from(follower):
    with_tail(follower)
    answer = line(begins(2, 7), entry(9, "e", epoch=2), head=9, epoch=2, rewind=SHARED)
    assert follower.on_answer(follower.question(), answer, T) is Outcome.APPLIED
    floors = follower.floors
    assert (follower.applied, follower.applied_id) == (at(9, 2), "id2.9")
    assert floors.hard_floor(["b"]) == at(7)
    assert floors.hard_floor(["c"]) == floors.soft_floor(["d"]) == at(7), "what raised them never happened"
    assert floors.hard_floor(["e"]) == at(9, 2)
    assert floors.everything == at(5)
    assert floors.is_ghost(at(8))
    assert (follower.flushes, follower.rewinds) == (0, 1)
    assert follower.lease.held(T)


@pytest.mark.parametrize(
    ("rewind", "answered"),
    [
        pytest.param((at(7), "another"), begins(2, 7), id="an entry that is another one here"),
        pytest.param((at(4), "id1.4"), begins(2, 4), id="an entry from before the log was followed"),
        pytest.param((at(12), "id1.12"), begins(2, 12), id="an entry that was never applied"),
    ],
)
def test_who_cannot_tell_whether_the_history_is_the_same_flushes(follower, rewind, answered):
    with_tail(follower)
    head = answered.position.cv
    answer = line(answered, head=head, epoch=2, rewind=rewind)
    assert follower.on_answer(follower.question(), answer, T) is Outcome.APPLIED
    assert follower.floors.everything == follower.applied == at(head, 2)
    assert (follower.flushes, follower.rewinds) == (1, 0)


def test_an_entry_that_was_forgotten_is_not_gone_back_to(follower, monkeypatch):
    monkeypatch.setattr("edge.purge.follower.REMEMBERED", 2)
    with_tail(follower)
    follower.on_answer(follower.question(), line(begins(2, 7), head=8, epoch=2, rewind=SHARED), T)
    assert (follower.applied, follower.flushes) == (at(8, 2), 1)


def test_nothing_from_before_a_flush_is_gone_back_to(follower):
    """Whoever flushed has not applied what lies between."""
    with_tail(follower)
    follower.on_answer(follower.question(), line(head=20, flush=True), T)
    follower.on_answer(follower.question(), line(begins(2, 7), head=8, epoch=2, rewind=SHARED), T)
    assert follower.floors.everything == follower.applied == at(8, 2)
    assert follower.rewinds == 0


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(line(head=8, epoch=2, rewind=SHARED), id="with nothing after it"),
        pytest.param(line(entry(8, epoch=2), head=8, epoch=2, rewind=SHARED), id="an epoch without its record"),
        pytest.param(line(begins(2, 8), head=9, epoch=2, rewind=SHARED), id="with a hole after it"),
        pytest.param(line(entry(8), entry(9), head=9, rewind=SHARED), id="into the same epoch"),
        pytest.param(line(entry(6), begins(2, 7), head=8, epoch=2, rewind=SHARED), id="with entries before it"),
    ],
)
def test_a_rewind_that_makes_no_sense_moves_nobody(follower, answer):
    with_tail(follower)
    before = follower.floors.sequence
    assert follower.on_answer(follower.question(), answer, T) is Outcome.DOUBT
    assert (follower.applied, follower.floors.sequence) == (at(9), before)
    assert not follower.lease.held(T)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(line(entry(10, epoch=2), head=10, epoch=2), id="without its record"),
        pytest.param(line(begins(2, 10), head=11, epoch=2), id="which inherited more than is known here"),
        pytest.param(line(head=10, epoch=2), id="with nothing that leads there"),
    ],
)
def test_an_epoch_that_does_not_continue_what_is_applied_is_a_flush(follower, answer):
    with_tail(follower)
    assert follower.on_answer(follower.question(), answer, T) is Outcome.APPLIED
    assert follower.floors.everything == follower.applied == answer.head
    assert follower.flushes == 1


def test_a_record_inside_an_epoch_is_no_record(follower):
    started(follower)
    assert follower.on_answer(follower.question(), line(begins(1, 5), head=6), T) is Outcome.DOUBT


def test_a_late_rewind_changes_nothing(follower):
    with_tail(follower)
    old = follower.question()
    answer = line(begins(2, 7), head=8, epoch=2, rewind=SHARED)
    follower.on_answer(follower.question(), answer, T)
    sequence = follower.floors.sequence
    assert follower.on_answer(old, answer, T + 1) is Outcome.LEFT_BEHIND
    assert (follower.applied, follower.floors.sequence, follower.rewinds) == (at(8, 2), sequence, 1)


def test_an_epoch_is_not_taken_from_a_late_answer_that_does_not_say_what_it_follows(follower):
    """Two epochs parted at 5: 2 was given up, and 3 begins as many entries later as were applied of it."""
    started(follower)
    old = follower.question()
    follower.on_answer(follower.question(), line(begins(2, 5), entry(7, "a", epoch=2), head=7, epoch=2), T)
    follower.lease.give_up()
    sequence = follower.floors.sequence
    other = line(entry(6, "b"), entry(7, "c"), begins(3, 7), head=8, epoch=3)
    assert follower.on_answer(old, other, T + 1) is Outcome.LEFT_BEHIND
    assert (follower.applied, follower.floors.sequence) == (at(7, 2), sequence)
    assert not follower.lease.held(T + 1)


def test_an_epoch_is_taken_from_a_late_answer_that_shows_what_it_follows(follower):
    started(follower)
    old = follower.question()
    follower.on_answer(follower.question(), line(entry(6), head=6), T)
    assert follower.on_answer(old, line(entry(6), begins(2, 6), head=7, epoch=2), T) is Outcome.APPLIED
    assert follower.applied == at(7, 2)


def test_what_the_old_primary_says_after_the_epoch_began_is_no_evidence(follower):
    with_tail(follower)
    old = follower.question()
    follower.on_answer(follower.question(), line(begins(2, 7), head=8, epoch=2, rewind=SHARED), T)
    follower.lease.give_up()
    sequence = follower.floors.sequence
    assert follower.on_answer(old, line(entry(10), head=10), T + 1) is Outcome.DOUBT
    assert follower.floors.sequence == sequence
    assert not follower.lease.held(T + 1)


def test_several_failovers_at_once_are_gone_through_one_by_one(follower):
    with_tail(follower)
    answer = line(begins(2, 7), entry(9, "e", epoch=2), begins(3, 9), head=10, epoch=3, rewind=SHARED)
    assert follower.on_answer(follower.question(), answer, T) is Outcome.APPLIED
    assert follower.applied == at(10, 3)
    assert follower.floors.is_ghost(at(8))
    assert follower.floors.is_ghost(at(10, 2))
    assert follower.floors.hard_floor(["e"]) == at(9, 2)


def test_a_worker_that_starts_in_a_log_with_a_failover_learns_of_it(follower):
    follower.on_answer(follower.question(), line(head=5, start=5), T)
    answer = line(entry(6), begins(2, 6), head=7, epoch=2)
    follower.on_answer(follower.question(), answer, T)
    assert follower.floors.is_ghost(at(7))
    assert follower.caught_up


# -- the loop ----------------------------------------------------------------------------------------------------------


class ScriptedFeed:
    """Hands each question's answers over when the test says so; an exception in the queue ends a stream."""

    def __init__(self) -> None:
        self.questions: asyncio.Queue[tuple[Question, asyncio.Queue[Answer | Exception]]] = asyncio.Queue()
        self.open = 0

    async def ask(self, question: Question) -> AsyncIterator[bytes]:
        answers: asyncio.Queue[Answer | Exception] = asyncio.Queue()
        self.questions.put_nowait((question, answers))
        self.open += 1
        try:
            while True:
                answer = await answers.get()
                if isinstance(answer, Exception):
                    raise answer
                yield answer.to_json()
        finally:
            self.open -= 1


class Running:
    def __init__(self, follower: Follower) -> None:
        self.feed = ScriptedFeed()
        self.lost = 0
        self.now = T
        self.loop = FollowerLoop(follower, self.feed.ask, lambda: self.now, self._on_lost)

    def _on_lost(self) -> None:
        self.lost += 1

    async def __aenter__(self) -> Running:
        self.task = asyncio.create_task(self.loop.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    async def next_question(self, within_s: float = 2.0) -> tuple[Question, asyncio.Queue[Answer | Exception]]:
        async with asyncio.timeout(within_s):
            return await self.feed.questions.get()


async def test_what_was_applied_is_reported_at_once_while_the_first_stream_stays_open(follower):
    async with Running(follower) as running:
        question, answers = await running.next_question()
        answers.put_nowait(line(head=5, start=5))
        report, _ = await running.next_question(within_s=ASK_EVERY_S / 2)
        assert (question.after, report.after) == (None, at(5))
        answers.put_nowait(line(entry(6), head=6))
        while (await running.next_question(within_s=ASK_EVERY_S * 2))[0].after != at(6):
            pass
        assert running.feed.open >= 2


async def test_a_question_is_asked_every_eighth_of_a_lease_without_waiting_for_the_last(follower):
    async with Running(follower) as running:
        for contact in (1, 2, 3):
            question, _ = await running.next_question()
            assert question.contact == contact


async def test_spare_questions_are_asked_at_once_when_the_origin_is_heard(follower):
    async with Running(follower) as running:
        _, answers = await running.next_question()
        answers.put_nowait(line(head=5, start=5))
        first = [await running.next_question(within_s=ASK_EVERY_S / 2) for _ in range(1 + SPARE_STREAMS)]
        assert {question.after for question, _ in first} == {at(5)}


async def test_a_cut_is_survived_by_asking_again(follower):
    async with Running(follower) as running:
        _, answers = await running.next_question()
        answers.put_nowait(ConnectionResetError("cut"))
        _, answers = await running.next_question()
        answers.put_nowait(line(head=5, start=5))
        while (await running.next_question())[0].after != at(5):
            pass


async def test_an_origin_that_is_slow_to_answer_is_not_buried_in_questions(follower, monkeypatch):
    monkeypatch.setattr("edge.purge.follower.RETRY_S", 0.001)
    async with Running(follower) as running:
        _, answers = await running.next_question()
        answers.put_nowait(TimeoutError())
        waiting = []
        for _ in range(MAX_WHILE_FAILING):
            waiting.append(await running.next_question())
            with pytest.raises(TimeoutError):
                await running.next_question(within_s=0.02)
            running.now += APART_WHILE_FAILING_S
        # By now the first is given up: there are never more. One that is answered ends it.
        assert running.now - T == pytest.approx(STREAM_DEADLINE_S)
        waiting[0][1].put_nowait(TimeoutError())
        await running.next_question()
        waiting[1][1].put_nowait(line(head=5, start=5))
        while (await running.next_question())[0].after != at(5):
            pass
        assert running.feed.open > MAX_WHILE_FAILING


async def test_an_origin_that_is_well_again_is_not_long_in_being_asked(follower, monkeypatch):
    """Refused for a while, then silent: the questions of that silence are lost, and the next one is soon."""
    monkeypatch.setattr("edge.purge.follower.RETRY_S", 0.001)
    async with Running(follower) as running:
        for _ in range(2 * MAX_WHILE_FAILING):
            _, answers = await running.next_question()
            answers.put_nowait(ConnectionRefusedError())
        await running.next_question()  # into the silence
        running.now += APART_WHILE_FAILING_S
        _, answers = await running.next_question()
        answers.put_nowait(line(head=5, start=5))
        while (await running.next_question())[0].after != at(5):
            pass
        assert LEASE_S / 2 > APART_WHILE_FAILING_S


async def test_a_stream_about_what_was_left_behind_is_hung_up_and_nothing_is_called_failing(follower, caplog):
    started(follower)
    async with Running(follower) as running:
        _, late = await running.next_question()
        # Heard at last, and the spare questions are asked.
        _, answers = await running.next_question()
        answers.put_nowait(line(entry(6), head=6))
        for _ in range(1 + SPARE_STREAMS):
            await running.next_question()
        before = running.feed.open
        late.put_nowait(line(head=6, flush=True))
        async with asyncio.timeout(2):
            while running.feed.open >= before:
                await asyncio.sleep(0)
        assert follower.flushes == 0
        assert not caplog.records


async def test_a_doubtful_answer_ends_its_stream(follower):
    async with Running(follower) as running:
        _, answers = await running.next_question()
        answers.put_nowait(Answer((), at(5), "id1.5"))
        await running.next_question()
        async with asyncio.timeout(2):
            while running.feed.open > 1:
                await asyncio.sleep(0)
        assert follower.applied is None


async def test_a_lost_history_gives_up_the_lease_and_asks_for_a_restart(follower):
    started(follower)
    async with Running(follower) as running:
        _, answers = await running.next_question()
        answers.put_nowait(line(head=3, flush=True))
        async with asyncio.timeout(2):
            while not running.lost:
                await asyncio.sleep(0)
        assert not follower.lease.held(T)


async def test_no_answer_gives_back_the_lease_of_a_worker_that_must_restart(follower):
    """Of the questions that were open then one may still be answered; its store is of another history all the same."""
    started(follower)
    async with Running(follower) as running:
        _, early = await running.next_question()
        _, answers = await running.next_question()
        answers.put_nowait(line(head=3, flush=True))
        early.put_nowait(line(head=5))
        async with asyncio.timeout(2):
            await running.task
        assert (running.lost, running.feed.open) == (1, 0)
        assert not follower.lease.held(T)


async def test_a_refused_key_is_said_once_and_not_asked_hot(follower, monkeypatch, caplog):
    monkeypatch.setattr("edge.purge.follower.REFUSED_RETRY_S", 0.5)
    async with Running(follower) as running:
        _, answers = await running.next_question()
        answers.put_nowait(ConnectionResetError("cut"))
        asked = 0
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.7):
                while True:
                    _, answers = await running.feed.questions.get()
                    answers.put_nowait(QuestionRefused("refused with status 403"))
                    asked += 1
        # The one that was due when the first refusal came, and one half a second later.
        assert 2 <= asked <= 3
    assert sum("refused with status" in message for message in caplog.messages) == 1


async def test_stopping_hangs_up_every_stream(follower):
    async with Running(follower) as running:
        await running.next_question()
    assert running.feed.open == 0
