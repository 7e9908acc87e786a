"""Mistakes that the origin could make: with labels, the log, the registry, and what it calls live."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from cache_policies.positions import Position
from cache_policies.tags import many_tag
from origin import db, readthrough, snapshot
from origin.caching import minimum_of
from origin.events import feed, live, observer, purge_log, purge_map
from origin.events.live import LiveState, Outcome
from origin.events.messages import PriceChanged
from origin.snapshot import Snapshots
from tests.simulation.bugs.planting import Bug, failing_over, instead, struck_by
from tests.simulation.engine import statements
from tests.simulation.engine.statements import Head, Logged
from tests.simulation.engine.storage import PURGE_LOG
from tests.simulation.plan import Plan

BEHIND_S = 0.5
"""How long after its first answer a worker is registered, where that is the mistake."""

# -- labels ------------------------------------------------------------------------------------------------------------


def _labelled_by_the_primary(open_: Any) -> Any:
    @asynccontextmanager
    async def opened(self: Snapshots, minimum: Any = None) -> AsyncIterator[Any]:
        async with open_(self, minimum) as taken:
            yield replace(taken, position=await self._read_head())

    return opened


def _labelled_afterwards(open_: Any) -> Any:
    @asynccontextmanager
    async def opened(self: Snapshots, minimum: Any = None) -> AsyncIterator[Any]:
        async with open_(self, minimum) as taken:
            pools = {replica.name: replica._engine for replica in self._replicas}
            async with pools.get(taken.source, self._primary._engine).connect() as another:
                position = await snapshot._position(another)
            yield replace(taken, position=position)

    return opened


@contextmanager
def _sequence() -> Iterator[None]:
    """nextval() in place of the row: no lock, and nobody waits for anybody."""
    last: dict[str, int] = {}

    def take(view: Any, values: Any) -> Any:
        clock = view.get(*statements.CLOCK)
        name = view.server.name
        last[name] = max(last.get(name, 0), clock.cv) + 1
        position = Position(clock.epoch, last[name])
        yield PURGE_LOG, position
        logged = Logged(str(values["id"]), values["kind"], tuple(values["tags"]), None, view.server.process.wall())
        view.put(PURGE_LOG, position, logged)
        return [Head(*position)]

    def read(view: Any, values: Any) -> list[Head]:
        clock = view.get(*statements.CLOCK)
        return [Head(clock.epoch, max(clock.cv, last.get(view.server.name, 0)))]

    texts = {handler: text for text, handler in statements.STATEMENTS.items()}
    planted = {texts[statements.log_purge]: take, texts[statements.read_clock]: read}
    with patch.dict(statements.STATEMENTS, planted):
        yield


def _any_position(read_head: Any) -> Any:
    async def nothing(self: Snapshots) -> None:
        return None

    return nothing


def _believed(look_up: Any) -> Any:
    async def found(self: Any, shelf: Any, request: Any, name: str) -> Any:
        minimum = minimum_of(request)
        sealed = await shelf.get(name)
        value = self._opened(name, sealed) if isinstance(sealed, bytes) else None
        if value is None or minimum == "head":
            return await look_up(self, shelf, request, name)
        position = max(self._tail.head, minimum or self._tail.head)
        return replace(value.rendered, hints=replace(value.rendered.hints, position=position))

    return found


# -- the log and the registry ------------------------------------------------------------------------------------------


def _names_too_little(tags_of: Any) -> Any:
    def named(event: Any, markets: Any) -> Any:
        return iter([many_tag(event.market)]) if isinstance(event, PriceChanged) else tags_of(event, markets)

    return named


def _registered_later(note_contact: Any) -> Any:
    registering: dict[str, asyncio.Task[None]] = {}

    async def register(database: Any, question: Any) -> None:
        await asyncio.sleep(BEHIND_S)
        async with database.log.connect() as connection:
            await note_contact(database, connection, question)

    async def noted(database: Any, connection: Any, question: Any) -> None:
        task = registering.get(question.worker)
        if task is None:
            registering[question.worker] = asyncio.create_task(register(database, question))
        elif task.done():
            await note_contact(database, connection, question)

    return noted


def _acknowledges_what_it_sends(note_contact: Any) -> Any:
    async def noted(database: Any, connection: Any, question: Any) -> None:
        page = await purge_log.read_ends(connection)
        if question.after is not None:
            question = replace(question, after=page.head, after_id=page.head_id)
        await note_contact(database, connection, question)

    return noted


# -- what is live ------------------------------------------------------------------------------------------------------


def _one_is_enough(state: Any) -> Any:
    def stated(self: Any, workers: Any, standbys: Any) -> Any:
        done = [report for report in workers if report.outcome is not Outcome.WAITING]
        return state(self, done or workers, standbys)

    return stated


def _without_standbys(state: Any) -> Any:
    def stated(self: Any, workers: Any, standbys: Any) -> Any:
        found = state(self, workers, standbys)
        return LiveState.LIVE if found is LiveState.SHOWN else found

    return stated


def _shown_at_first(judge: Any) -> Any:
    def judged(self: Any, *args: Any) -> Any:
        is_new, news = self._workers is None, judge(self, *args)
        if is_new and self.report.state is LiveState.WAITING:
            self.report = replace(self.report, state=LiveState.SHOWN)
        return news

    return judged


def _for_nobody(engine: Any) -> Any:
    def made(*args: Any, **named: Any) -> Any:
        return engine(*args, **{"synchronous_commit": "local", **named})

    return made


def _two_sites(*strikes: str, every_s: float, may_kill: bool) -> Callable[[Plan], Plan]:
    def tuned(plan: Plan) -> Plan:
        over = failing_over(plan)
        return replace(
            over,
            edges=("eu/1", "us/1"),
            origins=("origin/1", "origin/2"),
            strikes=strikes,
            strike_every_s=every_s,
            change_every_s=0.3,
            may_kill=may_kill,
        )

    return tuned


def _shelved(plan: Plan) -> Plan:
    return replace(plan, origin=replace(plan.origin, readthrough=True), strikes=(), change_every_s=0.7)


BUGS = (
    Bug(
        "label-of-the-primary",
        1,
        "what is read on a replica is labelled with where the primary is",
        instead(Snapshots, "open", _labelled_by_the_primary),
        struck_by("replica-lags", change_every_s=0.7),
    ),
    Bug(
        "label-outside-the-snapshot",
        1,
        "the label is read where the body is, and in a snapshot of its own",
        instead(Snapshots, "open", _labelled_afterwards),
        struck_by(change_every_s=0.25, view_every_s=0.008),
    ),
    Bug(
        "sequence-for-the-counter",
        1,
        "positions are drawn from a sequence, which hands them out before the commit",
        _sequence,
        struck_by(change_every_s=0.7),
    ),
    Bug(
        "replica-for-the-head",
        5,
        "who demands the head is answered by any replica",
        instead(Snapshots, "_read_head", _any_position),
        struck_by("messages-lost", "replica-lags", "replica-paused", change_every_s=0.7),
    ),
    Bug(
        "redis-as-truth",
        1,
        "what Redis holds is given as if it had just been read, without a look at the log",
        instead(readthrough.ReadThrough, "_look_up", _believed),
        _shelved,
    ),
    Bug(
        "purge-names-too-little",
        11,
        "a price change does not name the product",
        instead(purge_map, "_tags_of", _names_too_little),
    ),
    Bug(
        "head-before-the-contact",
        6,
        "a worker is told the head before its registration is committed",
        instead(feed, "note_contact", _registered_later),
        struck_by("edge-killed", "edge-slow", every_s=0.4, change_every_s=0.3, edges=("eu/1", "eu/2", "us/1")),
    ),
    Bug(
        "acknowledges-what-it-sends",
        6,
        "a worker counts as having applied what it is only being told",
        instead(feed, "note_contact", _acknowledges_what_it_sends),
    ),
    Bug(
        "live-before-all",
        6,
        "a change is live when one worker has applied it",
        instead(live.Watch, "_state", _one_is_enough),
        struck_by("edge-slow", edges=("eu/1", "eu/2", "us/1"), change_every_s=0.7),
    ),
    Bug(
        "shown-at-first",
        6,
        "a change counts as shown until it turns out whom it waits for: a word that is taken back before anybody asks",
        instead(live.Watch, "judge", _shown_at_first),
        struck_by("edge-slow", edges=("eu/1", "eu/2", "us/1"), change_every_s=0.7),
    ),
    Bug(
        "run-out-too-early",
        6,
        "a lease counts as over before it is",
        lambda: patch.object(live, "RUN_OUT_S", 1.5),
        struck_by("edge-cut", "messages-lost", change_every_s=0.7),
    ),
    Bug(
        "survives-nothing",
        6,
        "a commit that is to survive its primary does not wait for a standby",
        instead(db, "_engine", _for_nobody),
        failing_over,
    ),
    Bug(
        "live-without-a-standby",
        6,
        "a change is live when every worker has applied it, whether a standby has it on its disk or not",
        instead(live.Watch, "_state", _without_standbys),
        failing_over,
    ),
    Bug(
        "in-charge-without-a-lease",
        8,
        "a primary answers whether or not its supervisor has it in charge",
        lambda: patch.object(statements, "is_in_charge", lambda view: view.server.is_primary),
        _two_sites("halves-parted", every_s=8.0, may_kill=False),
    ),
    Bug(
        "live-right-after-a-promotion",
        8,
        "a new primary calls live what those workers have applied that it knows of, from its first moment on",
        lambda: patch.object(live, "QUIET_S", 0.0),
        _two_sites("registration-lost", every_s=5.0, may_kill=True),
    ),
    Bug(
        "forgotten-too-early",
        6,
        "a registration is removed while its worker's lease may still be held",
        lambda: patch.object(observer, "FORGET_S", 0.5),
        struck_by("edge-cut", "messages-lost", change_every_s=0.7),
    ),
)
