"""The origin's statements, played on PostgreSQL and on the simulated database: both give the same rows.

What is drawn or measured where a statement runs (times, log positions, random ids) is left out of the comparison.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import pytest
from sqlalchemy import TextClause, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from cache_policies.positions import Position
from origin import db, snapshot, whereabouts
from origin.events import feed, observer, purge_log
from tests.simulation.engine import statements
from tests.simulation.engine.cluster import FIRST, Cluster
from tests.simulation.engine.database import SimEngine
from tests.simulation.engine.loop import SimLoop
from tests.simulation.engine.network import Network
from tests.support.servers import DatabaseUrls

WORKERS = ("worker-one", "worker-two", "worker-three")
STATES = ("waiting", "shown", "live")
RENEW = text(
    "SELECT events.renew_supervisor_lease(:holder, clock_timestamp() - interval '1 hour', interval '2 seconds') IS NULL"
)
"""One that has run out before it is given."""


@dataclass(frozen=True, slots=True)
class Step:
    """One statement with its values, and what of its rows is compared."""

    statement: TextClause
    values: dict[str, Any]
    told: Callable[[Sequence[Any], int], Any]


def rows(given: Sequence[Any], count: int) -> Any:
    return [tuple(list(value) if isinstance(value, tuple | list) else value for value in row) for row in given]


def counted(given: Sequence[Any], count: int) -> Any:
    return count


def paged(given: Sequence[Any], count: int) -> Any:
    """Rows of a page: in an order of their own, and without the ids that the server draws."""
    drawn = {(row.epoch, row.cv): row.id for row in given if row.kind == "epoch" or (row.epoch, row.cv) == FIRST}
    return sorted(
        (
            row.what,
            row.epoch,
            row.cv,
            "" if (row.epoch, row.cv) in drawn else row.id,
            row.kind,
            list(row.tags or ()),
            row.fork_cv,
        )
        for row in given
    )


def placed(given: Sequence[Any], count: int) -> Any:
    return [(row.epoch, row.cv) for row in given]


def viewed(given: Sequence[Any], count: int) -> Any:
    return [
        (
            sorted(json.loads(row.contacts)),
            row.epoch,
            row.settled,
            sorted(json.loads(row.lost)),
        )
        for row in given
    ]


def reported(given: Sequence[Any], count: int) -> Any:
    return [None if row.report is None else json.loads(row.report) for row in given]


def nothing(given: Sequence[Any], count: int) -> Any:
    return None


class Story:
    """Steps drawn from a seed, so that they meet: of a handful of workers, positions and epochs."""

    def __init__(self, seed: int) -> None:
        self._draws = Random(seed)
        self._known: dict[Position, str] = {}
        self._at = FIRST

    def steps(self, count: int) -> Iterator[Step]:
        kinds = (
            self._purge, self._purge, self._contact, self._contact, self._register, self._leave, self._forget,
            self._forget_left, self._read, self._read, self._shared, self._clock, self._progress, self._look,
            self._look, self._report, self._settle, self._charge,
        )  # fmt: skip
        for number in range(count):
            yield from self._epoch() if number in {count // 3, 2 * count // 3} else self._draws.choice(kinds)()

    def _position(self) -> tuple[Position, str]:
        """One of the log, near it, or with another id."""
        position = self._draws.choice([*self._known, FIRST, Position(self._at.epoch, self._at.cv + 3), Position(9, 9)])
        id_ = self._known.get(position, str(uuid.UUID(int=7)))
        return position, id_ if self._draws.random() < 0.8 else str(uuid.UUID(int=8))

    def _purge(self) -> Iterator[Step]:
        self._at = Position(self._at.epoch, self._at.cv + 1)
        id_ = uuid.UUID(int=self._draws.getrandbits(128))
        self._known[self._at] = str(id_)
        tags = self._draws.sample(["a", "b", "c", "*"], self._draws.randrange(1, 4))
        kind = self._draws.choice(["hard", "soft"])
        values = {"kind": kind, "tags": tags, "cause": "a test", "actor": "somebody", "id": id_}
        yield Step(db._LOG_PURGE, values, rows)

    def _epoch(self) -> Iterator[Step]:
        self._at = Position(self._at.epoch + 1, self._at.cv + 1)
        yield Step(statements.EPOCH, {"actor": "somebody", "above": self._draws.choice([0, self._at.epoch - 1])}, rows)

    def _contact(self) -> Iterator[Step]:
        position, id_ = self._position()
        yield Step(
            feed._CONTACT,
            {
                "worker": self._draws.choice(WORKERS),
                "edge": "eu",
                "contact": self._draws.randrange(1, 30),
                "epoch": position.epoch,
                "cv": position.cv,
                "id": id_,
                "public_url": "http://eu",
            },
            counted,
        )

    def _register(self) -> Iterator[Step]:
        worker, contact = self._draws.choice(WORKERS), self._draws.randrange(1, 30)
        yield Step(
            feed._REGISTER, {"worker": worker, "edge": "us", "contact": contact, "public_url": "http://us"}, counted
        )

    def _leave(self) -> Iterator[Step]:
        if self._draws.random() < 0.3:
            yield Step(feed._LEAVE, {"worker": self._draws.choice(WORKERS)}, counted)

    def _forget(self) -> Iterator[Step]:
        if self._draws.random() < 0.5:
            values = {"worker": self._draws.choice(WORKERS), "contact": self._draws.randrange(1, 30)}
            yield Step(observer._FORGET, values, counted)

    def _forget_left(self) -> Iterator[Step]:
        yield Step(feed._FORGET_LEFT, {}, counted)

    def _read(self) -> Iterator[Step]:
        position, id_ = self._position()
        limit = self._draws.choice([1, 3, 500])
        yield Step(
            purge_log._READ_AFTER, {"epoch": position.epoch, "cv": position.cv, "id": id_, "limit": limit}, paged
        )

    def _shared(self) -> Iterator[Step]:
        position, _ = self._position()
        yield Step(purge_log._SHARED, {"epoch": position.epoch, "cv": position.cv}, placed)

    def _clock(self) -> Iterator[Step]:
        yield Step(snapshot._CLOCK, {}, rows)
        yield Step(snapshot._HEAD, {}, rows)
        yield Step(db._IN_CHARGE, {}, rows)
        yield Step(text(whereabouts._SAY), {}, rows)

    def _progress(self) -> Iterator[Step]:
        position, _ = self._position()
        yield Step(
            observer._WRITE_PROGRESS,
            {
                "epoch": position.epoch,
                "cv": position.cv,
                "state": self._draws.choice(STATES),
                "report": json.dumps({"number": self._draws.randrange(100)}),
            },
            counted,
        )

    def _report(self) -> Iterator[Step]:
        position, _ = self._position()
        yield Step(observer._READ_PROGRESS, {"epoch": position.epoch, "cv": position.cv}, reported)

    def _look(self) -> Iterator[Step]:
        watched = [self._position() for _ in range(3)]
        epochs, cvs = ([position[part] for position, _ in watched] for part in range(2))
        yield Step(observer._VIEW, {"epochs": epochs, "cvs": cvs, "ids": [id_ for _, id_ in watched]}, viewed)

    def _settle(self) -> Iterator[Step]:
        yield Step(observer._SETTLE, {"epoch": self._draws.choice([self._at.epoch, self._at.epoch + 1])}, nothing)

    def _charge(self) -> Iterator[Step]:
        """Nobody is in charge for a while, and changes are refused."""
        if self._draws.random() < 0.7:
            return
        yield Step(RENEW, {"holder": "a supervisor"}, nothing)
        before = self._at
        yield from (*self._purge(), *self._clock(), *self._look(), *self._read())
        self._known.pop(self._at)
        self._at = before
        yield Step(statements.END, {}, nothing)


async def play(engine: Any, steps: Sequence[Step]) -> list[Any]:
    """What each of `steps` gives, or that it was refused."""
    told: list[Any] = []
    for step in steps:
        try:
            async with engine.connect() as connection:
                result = await connection.execute(step.statement, step.values)
                given = list(result) if step.told not in {counted, nothing} else []
                told.append(step.told(given, result.rowcount))
        except DBAPIError as exc:
            told.append(("refused", getattr(exc.orig, "sqlstate", None)))
    return told


def simulated_answers(steps: Sequence[Step]) -> list[Any]:
    loop = SimLoop(1)
    network = Network(loop)
    cluster = Cluster(loop, network, ["db"])
    cluster.on(RENEW, _charge_that_ran_out)
    client = loop.process("client")
    told: list[Any] = []

    async def whole() -> None:
        engine = SimEngine(network, "postgresql+asyncpg://db/shop", isolation_level="AUTOCOMMIT")
        told.extend(await play(engine, steps))

    client.start(whole)
    loop.run(1_000.0)
    loop.close()
    assert loop.faults == []
    return told


def _charge_that_ran_out(view: Any, values: Any) -> Any:
    basis = view.server.process.wall() - 3_600.0
    return statements.renew_charge(view, {**values, "basis": basis, "length_s": 2.0})


async def test_postgresql_and_the_simulated_database_give_the_same(database: DatabaseUrls):
    story = Story(1)
    steps = list(story.steps(400))
    expected = simulated_answers(steps)
    engine = create_async_engine(database.admin, isolation_level="AUTOCOMMIT")
    try:
        found = await play(engine, steps)
    finally:
        await engine.dispose()
    for number, (step, real, told) in enumerate(zip(steps, found, expected, strict=True)):
        assert told == real, f"step {number}: {step.statement.text} with {step.values}"


def test_each_statement_of_the_origin_is_played():
    """None is told to the simulated database that this test does not compare, but those that cannot be."""
    played = {step.statement.text for seed in range(20) for step in Story(seed).steps(100)} | {statements.RENEW.text}
    apart = {
        db.LOCALLY.text: "says how its own transaction commits, and gives nothing",
        purge_log._TRIM.text: "the simulation trims what is younger than an hour",
        statements.WALL_CLOCK.text: "gives the time",
    }
    assert set(statements.STATEMENTS) - played - set(apart) == set()


@pytest.mark.parametrize("keep", [1, 3, 100])
def test_the_log_is_trimmed_from_its_oldest_end(keep: int):
    purges = [step for step in Story(3).steps(120) if step.statement is db._LOG_PURGE][:5]
    reading = Step(purge_log._READ_AFTER, {"epoch": 0, "cv": 0, "id": "", "limit": 500}, paged)
    *_, trimmed, page = simulated_answers([*purges, Step(purge_log._TRIM, {"keep": keep}, rows), reading])
    assert trimmed == [(max(0, 6 - keep),)]
    assert sorted(row[2] for row in page if row[0] == "entry") == list(range(max(1, 7 - keep), 7))
