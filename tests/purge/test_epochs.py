"""Histories that fork, at random: what a follower's floors let through is of the history that it follows, and not
purged there, whatever was lost, restored, trimmed, delayed or said by a primary that had been replaced (rule 8)."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from cache_policies.feed import LEASE_S, Answer, Question
from cache_policies.positions import Position, PurgeEntry, PurgeKind
from edge.core.floors import Floors, Lease, Verdict
from edge.core.storing import Label
from edge.purge.follower import Follower, Outcome

SEEDS, STEPS = 40, 400
PAGE = 3
MOST_STREAMS = 8
TAGS = "abcd"


@dataclass
class Server:
    """One database: the log it has, and how much of that it still keeps."""

    log: list[PurgeEntry]
    trimmed: int = 0

    @property
    def head(self) -> PurgeEntry:
        return self.log[-1]

    def answer(self, question: Question) -> Answer:
        """As `origin.events.feed` answers."""
        kept, head = self.log[self.trimmed :], self.head
        if question.after is None:
            return Answer((), head.position, head.id, (kept[0].position, kept[0].id))
        after, rewind = question.after, None
        place = next((n for n, e in enumerate(kept) if (e.position, e.id) == (after, question.after_id)), None)
        if place is None and after.epoch < head.position.epoch:
            older = [n for n, e in enumerate(kept) if e.position.epoch <= after.epoch]
            if older and kept[older[-1]].position.cv < after.cv:
                place = older[-1]
                rewind = kept[place].position, kept[place].id
        if place is None:
            return Answer((), head.position, head.id, flush=True)
        return Answer(tuple(kept[place + 1 :][:PAGE]), head.position, head.id, rewind=rewind)


@dataclass
class Stream:
    """A question, who answers it, and how far that log was told."""

    question: Question
    server: Server
    told: int = 0

    def first(self) -> Answer:
        answer = self.server.answer(self.question)
        last = answer.entries[-1] if answer.entries else None
        told = (last.position, last.id) if last else answer.rewind or answer.start
        if told is None:
            # Nothing is new, or all of it is gone: it goes on from its head.
            told = answer.head, answer.head_id
        self.told = 1 + next(n for n, e in enumerate(self.server.log) if (e.position, e.id) == told)
        return answer

    def next(self) -> Answer:
        server = self.server
        entries = tuple(server.log[self.told :][:PAGE])
        self.told += len(entries)
        return Answer(entries, server.head.position, server.head.id)


@dataclass
class World:
    """A primary, a standby that lags, primaries that were replaced, and one worker that follows."""

    rng: random.Random
    before: dict[str, PurgeEntry] = field(default_factory=dict)
    """Entry by the id of the one after it: every history there ever was, backwards."""
    by_id: dict[str, PurgeEntry] = field(default_factory=dict)
    epoch: int = 1
    streams: list[Stream] = field(default_factory=list)
    """Questions that are still open."""
    under_way: list[tuple[Stream, bytes, int]] = field(default_factory=list)
    """Lines, and how long the log was when they were said."""
    rewinds: int = 0
    flushes: int = 0
    outcomes: dict[Outcome, int] = field(default_factory=lambda: dict.fromkeys(Outcome, 0))

    def __post_init__(self) -> None:
        first = PurgeEntry(Position(1, 1), "id-0", PurgeKind.HARD, ("*",))
        self.by_id[first.id] = first
        self.primary, self.standby = Server([first]), Server([first])
        self.replaced: list[Server] = []
        self.begin()

    def begin(self) -> None:
        """The worker starts anew."""
        self.follower = Follower("worker-1", "eu", "http://edge", Floors(max_floors=6), Lease(LEASE_S))

    def write(self, server: Server) -> None:
        at = server.head
        kind = self.rng.choice((PurgeKind.HARD, PurgeKind.HARD, PurgeKind.SOFT))
        tags = tuple(self.rng.sample(TAGS, self.rng.randint(1, 2))) if self.rng.random() < 0.95 else ("*",)
        position = Position(at.position.epoch, at.position.cv + 1)
        self.add(server, PurgeEntry(position, f"id-{len(self.by_id)}", kind, tags))

    def add(self, server: Server, entry: PurgeEntry) -> None:
        self.before[entry.id] = server.head
        self.by_id[entry.id] = entry
        server.log.append(entry)

    def replicate(self) -> None:
        have = len(self.standby.log)
        self.standby.log += self.primary.log[have : have + self.rng.randint(0, 4)]

    def promote(self, log: list[PurgeEntry]) -> None:
        """A server with `log` is the primary from now on; the one before may not know it."""
        self.replaced = [*self.replaced, self.primary][-2:]
        self.primary = Server(list(log))
        self.epoch += 1
        fork_cv = log[-1].position.cv
        position = Position(self.epoch, fork_cv + 1)
        self.add(self.primary, PurgeEntry(position, f"id-{len(self.by_id)}", PurgeKind.EPOCH, (), fork_cv))
        self.standby = Server(list(self.primary.log[: self.rng.randint(len(log), len(self.primary.log))]))

    def step(self) -> bool:
        """Something happens; whether the worker heard of anything."""
        heard = False
        match self.rng.choices(
            ("write", "replicate", "ask", "go on", "hear", "ghost", "promote", "restore", "trim", "restart"),
            (30, 25, 60, 30, 120, 15, 5, 4, 1, 1),
        )[0]:
            case "write":
                self.write(self.primary)
            case "replicate":
                self.replicate()
            case "ask":
                asked = self.primary
                if self.replaced and self.rng.random() < 0.1:
                    asked = self.rng.choice(self.replaced)
                stream = Stream(self.follower.question(), asked)
                self.streams = [*self.streams, stream][-MOST_STREAMS:]
                self.say(stream, stream.first())
            case "go on" if self.streams:
                stream = self.rng.choice(self.streams)
                self.say(stream, stream.next())
            case "hear" if self.under_way:
                number = self.rng.randrange(len(self.under_way)) if self.rng.random() < 0.3 else 0
                said = self.under_way[number]
                if self.rng.random() < 0.9:
                    del self.under_way[number]
                self.hear(*said)
                heard = True
            case "ghost" if self.replaced:
                self.write(self.rng.choice(self.replaced))
            case "promote":
                self.promote(self.standby.log)
            case "restore":
                old = self.rng.choice([self.primary, *self.replaced]).log
                self.promote(old[: self.rng.randint(1, len(old))])
            case "trim":
                self.primary.trimmed = self.rng.randint(self.primary.trimmed, len(self.primary.log) - 1)
            case "restart":
                self.streams.clear()
                self.under_way.clear()
                self.begin()
        return heard

    def say(self, stream: Stream, answer: Answer) -> None:
        self.under_way.append((stream, answer.to_json(), len(stream.server.log)))

    def hear(self, stream: Stream, line: bytes, length: int) -> None:
        follower, server = self.follower, stream.server
        follower.lease.give_up()
        before = follower.rewinds, follower.flushes
        outcome = follower.on_answer(stream.question, Answer.from_json(line), 0.0)
        if outcome in (Outcome.DOUBT, Outcome.LEFT_BEHIND):
            # Hung up: nothing more is heard of it.
            self.streams = [each for each in self.streams if each is not stream]
            self.under_way = [each for each in self.under_way if each[0] is not stream]
        self.rewinds += follower.rewinds - before[0]
        self.flushes += follower.flushes - before[1]
        self.outcomes[outcome] += 1
        assert outcome is not Outcome.LOST_HISTORY
        if follower.lease.held(1.0):
            # Whoever renews has everything that the server had when it answered.
            had = server.log[length - 1]
            assert had.id in [entry.id for entry in self.followed()]

    def followed(self) -> Iterator[PurgeEntry]:
        """The history that the worker follows, the newest first."""
        entry = None if self.follower.applied_id is None else self.by_id[self.follower.applied_id]
        while entry is not None:
            yield entry
            entry = self.before.get(entry.id)

    def check(self) -> int:
        """No label passes that is not of the history followed, or purged in it; how many passed that were."""
        applied, floors = self.follower.applied, self.follower.floors
        if applied is None:
            return 0
        history = list(self.followed())
        passed = 0
        for labelled in self.rng.sample(list(self.by_id.values()), min(12, len(self.by_id))):
            label = Label(labelled.position, tuple(self.rng.sample(TAGS, 2)))
            verdict = floors.judge(label)
            if labelled.position > applied or verdict is Verdict.PURGED:
                continue
            newer = []
            for entry in history:
                if entry.id == labelled.id:
                    break
                newer.append(entry)
            else:
                raise AssertionError(f"{labelled} passes, and is not of the history up to {applied}")
            purging = [entry for entry in newer if not {*entry.tags}.isdisjoint({*label.tags, "*"})]
            assert all(entry.kind is PurgeKind.SOFT for entry in purging), (label, purging)
            assert verdict is Verdict.STALE_ONLY or not purging, (label, purging)
            passed += 1
        return passed


def test_what_passes_is_of_the_history_followed_and_not_purged_in_it():
    outcomes, rewinds, flushes, passed = dict.fromkeys(Outcome, 0), 0, 0, 0
    for seed in range(SEEDS):
        world = World(random.Random(seed))
        for step in range(STEPS):
            try:
                if world.step():
                    passed += world.check()
            except AssertionError as exc:
                raise AssertionError(f"seed {seed}, step {step}: {exc}") from exc
        rewinds, flushes = rewinds + world.rewinds, flushes + world.flushes
        for outcome, count in world.outcomes.items():
            outcomes[outcome] += count
    # Every kind of answer came up, and not everything is called purged: a test of the test.
    assert all(outcomes[outcome] > 500 for outcome in (Outcome.APPLIED, Outcome.CURRENT, Outcome.DOUBT)), outcomes
    assert min(rewinds, flushes) > 50
    assert passed > 2_000


def test_nothing_is_taken_from_a_stream_whose_first_line_was_about_what_was_left_behind():
    """Two ghosts are applied when a late question is told to go back. The epoch that it tells of has two entries as
    well, and its next line begins another one: as if that followed the ghosts."""
    ids = {Position(1, 480): "a", Position(1, 481): "b", Position(1, 482): "c"}
    ids |= {Position(2, 481): "d", Position(2, 482): "e", Position(3, 483): "f"}

    def answer(*entries: PurgeEntry, rewind: Position | None = None, start: Position | None = None) -> Answer:
        head = entries[-1].position if entries else Position(1, 480)
        given = [None if each is None else (each, ids[each]) for each in (start, rewind)]
        return Answer(entries, head, ids[head], given[0], rewind=given[1])

    def purge(at: Position, *tags: str) -> PurgeEntry:
        return PurgeEntry(at, ids[at], PurgeKind.HARD, tags)

    def record(at: Position) -> PurgeEntry:
        return PurgeEntry(at, ids[at], PurgeKind.EPOCH, (), at.cv - 1)

    follower = Follower("worker-1", "eu", "http://edge", Floors(), Lease(LEASE_S))
    follower.on_answer(follower.question(), answer(start=Position(1, 480)), 0.0)
    follower.on_answer(follower.question(), answer(purge(Position(1, 481), "x")), 0.0)
    late = follower.question()
    follower.on_answer(follower.question(), answer(purge(Position(1, 482), "x")), 0.0)
    begun = (record(Position(2, 481)), purge(Position(2, 482), "p:a"))
    lines = [answer(*begun, rewind=Position(1, 480)), answer(record(Position(3, 483)))]
    follower.lease.give_up()
    for line in lines:
        assert follower.on_answer(late, line, 1.0) is Outcome.LEFT_BEHIND
    shows_the_old_price = Label(Position(1, 480), ("p:a",))
    assert follower.applied == Position(1, 482)
    assert not follower.lease.held(1.0)
    # Its next question is told to go back.
    rewind = answer(*begun, record(Position(3, 483)), rewind=Position(1, 480))
    follower.on_answer(follower.question(), rewind, 2.0)
    assert follower.applied == Position(3, 483)
    assert follower.floors.judge(shows_the_old_price) is Verdict.PURGED
