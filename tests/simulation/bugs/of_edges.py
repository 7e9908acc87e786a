"""Mistakes that an edge could make: with floors, leases, fills, and what it follows."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from cache_policies.positions import Position, PurgeEntry, PurgeKind
from cache_policies.tags import EVERYTHING
from edge.core import delivery, reuse
from edge.core.floors import Floors, Lease
from edge.core.reuse import MustValidate, Stale, Why
from edge.core.stored import StoredResponse
from edge.gateway import fills, handover
from edge.gateway.fills import Fills
from edge.gateway.flights import Flights
from edge.gateway.landings import Errand, Failed, NotKept
from edge.gateway.server import GatewayServer, ViewerConnection
from edge.purge.follower import Follower, FollowerLoop
from edge.store.memory import MemoryStore
from tests.simulation.bugs.planting import BlindFloors, Bug, blind, failing_over, instead, struck_by
from tests.simulation.engine import statements
from tests.simulation.engine.processes import OWNER, Process
from tests.simulation.engine.storage import PURGE_LOG
from tests.simulation.plan import Plan
from tests.simulation.shop import Lifetimes

# -- floors ------------------------------------------------------------------------------------------------------------


def _silent_purge(raise_to: Any) -> Any:
    def raised(self: Floors, position: Position, tags: Any, kind: PurgeKind = PurgeKind.HARD) -> None:
        before = self.sequence
        raise_to(self, position, tags, kind)
        self.sequence = before

    return raised


def _soft(apply: Any) -> Any:
    return lambda self, entry: self.raise_to(entry.position, entry.tags, PurgeKind.SOFT)


def _forgets(forget: Any) -> Any:
    def forgotten(self: Floors, kind: PurgeKind) -> None:
        floors = self._hard if kind is PurgeKind.HARD else self._soft
        for tag in list(floors)[: len(floors) // 2]:
            del floors[tag]

    return forgotten


def _keeps_ghosts(begin_epoch: Any) -> Any:
    def begun(self: Floors, began: Position, shared: Position) -> None:
        forks = self.forks
        begin_epoch(self, began, shared)
        self.forks = forks

    return begun


def _stale_though_purged(standing: Any) -> Any:
    def decided(stored: StoredResponse, floors: Floors, lease: Lease, now: float) -> Any:
        found = standing(stored, floors, lease, now)
        if isinstance(found, MustValidate) and found.why is Why.PURGED_HARD and now < stored.revalidate_until:
            return Stale(stored, Why.STALE_WHILE_REVALIDATE)
        return found

    return decided


def _error_though_purged(on_error: Any) -> Any:
    def decided(candidates: Any, request: Any, policy: Any, floors: Any, *rest: Any, **named: Any) -> Any:
        return on_error(candidates, request, policy, BlindFloors(floors), *rest, **named)

    return decided


# -- fills -------------------------------------------------------------------------------------------------------------


def _revives(freshened: Any) -> Any:
    def confirmed(self: Fills, validate: StoredResponse, *rest: Any) -> StoredResponse | None:
        stored: StoredResponse | None = freshened(self, validate, *rest)
        if stored is not None:
            stored.position = max(stored.position, self._floors.refill_floor(stored.tags))
        return stored

    return confirmed


def _own_position(first_minimum: Any) -> Any:
    return lambda self, errand: first_minimum(self, replace(errand, demand_head=False))


def _joins_what_was_sent(join: Any) -> Any:
    def joined(self: Flights, variant: Any, errand: Errand) -> Any:
        flight = self._joined(variant, errand)
        return join(self, variant, errand) if flight is None else (flight, False)

    return joined


@contextmanager
def _for_anybody() -> Iterator[None]:
    """Of an origin that is asked once: four purges in a row are rare."""
    with patch.object(fills, "MAX_ASKS", 1), patch.object(Flights, "_may_take", lambda *_: True):
        yield


# -- the lease ---------------------------------------------------------------------------------------------------------


def _for_ever(renew: Any) -> Any:
    def renewed(self: Lease, asked_at: float) -> None:
        self.until = math.inf

    return renewed


def _any_page(renew: Any) -> Any:
    def renewed(self: Follower, answer: Any, asked_at: float) -> None:
        self.lease.renew(asked_at)
        self.caught_up = True

    return renewed


@contextmanager
def _stamped_late() -> Iterator[None]:
    made, on_answer = FollowerLoop.__init__, Follower.on_answer

    def make(self: Any, follower: Any, ask: Any, clock: Callable[[], float], *rest: Any) -> None:
        made(self, follower, ask, clock, *rest)
        follower.clock_of_its_loop = clock

    def answered(self: Any, question: Any, answer: Any, asked_at: float) -> Any:
        return on_answer(self, question, answer, self.clock_of_its_loop())

    with patch.object(FollowerLoop, "__init__", make), patch.object(Follower, "on_answer", answered):
        yield


def _begins_anew(fetch: Any) -> Any:
    async def fetched(self: Fills, errand: Errand, fate: Any) -> Any:
        landed = await fetch(self, errand, fate)
        old = errand.validate
        if old is not None and (isinstance(landed, Failed) or (isinstance(landed, NotKept) and _broken(landed))):
            by_s = self._clock() - old.stored_at
            ends = {name: getattr(old, name) + by_s for name in ("fresh_until", "revalidate_until", "error_until")}
            self._store.put(replace(old, stored_at=old.stored_at + by_s, **ends))
        return landed

    return fetched


def _broken(landed: NotKept) -> bool:
    return landed.response.status >= 500


def _without_a_word(deliver_marked: Any) -> Any:
    def delivered(*args: Any) -> Any:
        with patch.object(delivery, "NOTICE", reuse.NOTICE_SLOT):
            return deliver_marked(*args)

    return delivered


def _any_tag(precondition_status: Any) -> Any:
    def confirmed(request: Any, status: int, headers: Any) -> Any:
        found = precondition_status(request, status, headers)
        return 304 if found is None and status == 200 and "if-none-match" in request.headers else found

    return confirmed


@contextmanager
def _from_the_future() -> Iterator[None]:
    """Both halves of it: either is harmless without the other."""
    question = Follower.question
    texts = {handler: text for text, handler in statements.STATEMENTS.items()}

    def asked(self: Follower) -> Any:
        said = question(self)
        if self.applied is None or self.head is None:
            return said
        return replace(said, after=max(self.applied, self.head))

    def noted(view: Any, values: Any) -> Any:
        row = view.get(PURGE_LOG, Position(values["epoch"], values["cv"]))
        return (yield from statements.note_contact(view, {**values, "id": "" if row is None else row.id}))

    planted = {texts[statements.note_contact]: noted}
    with patch.object(Follower, "question", asked), patch.dict(statements.STATEMENTS, planted):
        yield


def _coarse(make: Any) -> Any:
    def made(self: GatewayServer, application: Any, clock: Callable[[], float], *rest: Any) -> None:
        read_at = -math.inf

        def coarse() -> float:
            nonlocal read_at
            now = clock()
            if now - read_at >= 1.0:
                read_at = now
            return read_at

        make(self, application, coarse, *rest)

    return made


def _sleeps(clock: Any) -> Any:
    return lambda self: self.on_its_clock(self.loop.now)


def _keeps(give_up: Any) -> Any:
    return lambda self: None


# -- the log -----------------------------------------------------------------------------------------------------------


def _skips_gaps(new_entries: Any) -> Any:
    def following(entries: tuple[PurgeEntry, ...], at: Position, at_id: str | None) -> tuple[PurgeEntry, ...]:
        return tuple(entry for entry in entries if entry.position > at)

    return staticmethod(following)


def _does_not_flush(flush: Any) -> Any:
    def flushed(self: Follower, answer: Any, asked_at: float) -> Any:
        with patch.object(Floors, "raise_to", lambda *_: None):
            return flush(self, answer, asked_at)

    return flushed


def _starts_open(on_answer: Any) -> Any:
    def answered(self: Follower, question: Any, answer: Any, asked_at: float) -> Any:
        if self.applied is not None:
            return on_answer(self, question, answer, asked_at)
        raise_to = Floors.raise_to

        def but_everything(floors: Floors, position: Position, tags: Any, kind: PurgeKind = PurgeKind.HARD) -> None:
            raise_to(floors, position, [tag for tag in tags if tag != EVERYTHING], kind)

        with patch.object(Floors, "raise_to", but_everything):
            return on_answer(self, question, answer, asked_at)

    return answered


def _not_counted(question: Any) -> Any:
    def asked(self: Follower) -> Any:
        self.contact = 0
        return question(self)

    return asked


# -- what shows at the end, and at viewers who are slow ----------------------------------------------------------------


def _above_the_head(begin_epoch: Any) -> Any:
    def begun(self: Floors, began: Position, shared: Position) -> None:
        begin_epoch(self, began, shared)
        self.raise_to(Position(began.epoch, began.cv + 1_000), (EVERYTHING,))

    return begun


def _waits_for_another(fetch: Any) -> Any:
    async def fetched(self: Fills, errand: Errand, fate: Any) -> Any:
        before = self._floors.sequence
        landed = await fetch(self, errand, fate)
        now = self._floors.sequence
        while before != now == self._floors.sequence:
            await asyncio.sleep(0.1)
        return landed

    return fetched


def _never_lets_go(put: Any) -> Any:
    def kept(self: Any, stored: StoredResponse) -> Any:
        if OWNER.get().name == "us/1":
            stored.fresh_until += 1_000.0
        return put(self, stored)

    return kept


def _as_of_before(resume_writing: Any) -> Any:
    def resumed(self: Any) -> None:
        before = self._now
        with patch.object(self._server, "clock", lambda: before):
            resume_writing(self)

    return resumed


def _as_of_its_beginning(on_headers_complete: Any) -> Any:
    def completed(self: Any) -> None:
        self._now = self._head_started
        on_headers_complete(self)

    return completed


def _few_floors(plan: Plan) -> Plan:
    return replace(plan, edge=replace(plan.edge, max_floors=4), strikes=(), change_every_s=0.7)


def _with_tier(plan: Plan) -> Plan:
    tuned = struck_by("edge-killed", "log-trimmed", every_s=0.4, change_every_s=0.7)(plan)
    return replace(tuned, edge=replace(tuned.edge, regional=True), edges=("eu/1", "eu/2"))


def _short_lived(plan: Plan) -> Plan:
    tuned = struck_by("pages-fail", view_every_s=0.01)(plan)
    return replace(tuned, origin=replace(tuned.origin, lifetimes=Lifetimes(1, 3, 0)))


def _two_edges(plan: Plan) -> Plan:
    tuned = struck_by(edges=("eu/1", "us/1"), change_every_s=4.0)(plan)
    return replace(tuned, origin=replace(tuned.origin, lifetimes=Lifetimes(1, 0, 0)))


def _unsure(plan: Plan) -> Plan:
    tuned = struck_by("messages-lost", "pages-fail", change_every_s=0.3)(plan)
    return replace(tuned, origin=replace(tuned.origin, lifetimes=Lifetimes(8, 30, 60)))


BUGS = (
    Bug(
        "purge-leaves-the-sequence",
        2,
        "a purge raises the floors and not their sequence, by which a hit sees that there is anything to compare",
        instead(Floors, "raise_to", _silent_purge),
    ),
    Bug("soft-where-hard", 7, "a hard purge is applied as a soft one", instead(Floors, "apply", _soft)),
    Bug(
        "compaction-forgets",
        9,
        "floors that are forgotten do not raise the floor of everything",
        instead(Floors, "_forget", _forgets),
        _few_floors,
    ),
    Bug(
        "ghosts-kept",
        8,
        "the record of an epoch does not take away what the old primary had beyond the fork",
        instead(Floors, "begin_epoch", _keeps_ghosts),
        failing_over,
    ),
    Bug(
        "floor-skipped-while-revalidating",
        2,
        "what is purged is served while it is being refreshed",
        instead(reuse, "standing", _stale_though_purged),
    ),
    Bug(
        "floor-skipped-on-error",
        2,
        "what is purged is served when the origin fails",
        instead(handover, "on_error", _error_though_purged),
        struck_by("origin-killed", "edge-cut", "connections-reset"),
    ),
    Bug(
        "floor-skipped-for-a-follower",
        2,
        "who waited for somebody else's fill takes what was purged meanwhile",
        blind(Flights),
        struck_by("edge-slow", far=0.15, change_every_s=0.7),
    ),
    Bug(
        "304-revives",
        1,
        "a 304 is taken as word that the body is as new as was asked for, whatever its label says",
        instead(Fills, "_freshened", _revives),
        struck_by("replica-lags", "edge-slow", far=0.15, change_every_s=0.7),
    ),
    Bug(
        "overtaken-for-anybody",
        3,
        "an answer that a purge overtook is handed also to those who asked after it",
        _for_anybody,
        struck_by("edge-slow", far=0.15, change_every_s=0.4),
    ),
    Bug(
        "lapsed-asks-for-its-own-position",
        5,
        "a worker whose lease has run out asks for what it has applied, which a lagging replica has, too",
        instead(Fills, "_first_minimum", _own_position),
        struck_by("messages-lost", "replica-lags", "replica-paused", change_every_s=0.7),
    ),
    Bug(
        "lapsed-joins-what-was-sent",
        5,
        "a viewer of a worker whose lease has run out takes the answer of a fill that was sent before",
        instead(Flights, "_join", _joins_what_was_sent),
        struck_by(
            "messages-lost", "edge-slow", every_s=0.2, edges=("eu/1",), far=0.15, change_every_s=0.15, view_every_s=0.01
        ),
    ),
    Bug("lease-without-end", 5, "a lease, once given, never runs out", instead(Lease, "renew", _for_ever)),
    Bug(
        "page-renews",
        5,
        "a page of a longer log renews the lease",
        instead(Follower, "_renew", _any_page),
        struck_by("edge-cut", "edge-frozen", "edge-killed", change_every_s=0.7),
    ),
    Bug(
        "stamped-with-the-answer",
        5,
        "the lease is counted from the answer, not from the question",
        lambda: _stamped_late(),
    ),
    Bug(
        "coarse-clock",
        5,
        "a worker reads its clock once a second, and judges by that whether its lease is held",
        instead(GatewayServer, "__init__", _coarse),
        struck_by("edge-cut", every_s=3.0, change_every_s=0.4),
    ),
    Bug(
        "clock-that-sleeps",
        5,
        "the lease is counted on a clock that stands still while the machine sleeps",
        instead(Process, "clock", _sleeps),
        struck_by("edge-suspended", change_every_s=0.7),
    ),
    Bug(
        "stopping-goes-on-serving",
        6,
        "a worker that has left goes on serving from its store while it finishes what it began",
        instead(Lease, "give_up", _keeps),
        struck_by("edge-stopped", every_s=0.4, far=0.15, change_every_s=0.7),
    ),
    Bug(
        "gap-skipped",
        4,
        "entries after a gap in the log are applied as if nothing were missing",
        instead(Follower, "_new_entries", _skips_gaps),
        struck_by("messages-lost", "messages-reordered", change_every_s=0.7),
    ),
    Bug(
        "flush-without-floor",
        4,
        "a worker whose position is not in the log goes on from its head without taking anything for purged",
        instead(Follower, "_flush", _does_not_flush),
        struck_by("log-trimmed", "edge-frozen", "edge-cut", every_s=0.4, change_every_s=0.7),
    ),
    Bug(
        "start-without-floor",
        5,
        "a starting worker takes what is older than the retained log for current",
        instead(Follower, "on_answer", _starts_open),
        _with_tier,
    ),
    Bug(
        "position-from-the-future",
        4,
        "a worker names the head that it has heard of, and the registry does not look for the id that it names",
        _from_the_future,
        struck_by("price-war", "edge-left-behind", change_every_s=0.7),
    ),
    Bug(
        "failed-refresh-extends-the-window",
        2,
        "a refresh that failed counts as one: what is stored may be shown for as long again",
        instead(Fills, "fetch", _begins_anew),
        _short_lived,
    ),
    Bug(
        "marked-without-a-word",
        5,
        "a page that is shown without a lease says nothing about it",
        instead(handover, "deliver_marked", _without_a_word),
        _unsure,
    ),
    Bug(
        "304-to-any-copy",
        2,
        "whoever asks whether a copy is current is told that it is, whichever that is",
        instead(delivery, "precondition_status", _any_tag),
    ),
    Bug(
        "floor-above-the-head",
        8,
        "who applies the record of an epoch takes for purged what is to come, too, so that nothing is ever shown again",
        instead(Floors, "begin_epoch", _above_the_head),
        failing_over,
        mended_after_s=8.0,
    ),
    Bug(
        "overtaken-waits-for-another",
        3,
        "a fill that a purge has overtaken goes on at the next purge",
        instead(Fills, "fetch", _waits_for_another),
        struck_by(far=0.15, change_every_s=0.7, view_every_s=0.01),
        mended_after_s=4.0,
    ),
    Bug(
        "never-lets-go",
        2,
        "one edge shows what it has stored for as long as no purge names it, while another asks anew",
        instead(MemoryStore, "put", _never_lets_go),
        _two_edges,
    ),
    Bug(
        "as-of-before",
        2,
        "what waited behind a viewer who did not read is answered as of when that one stopped reading",
        instead(ViewerConnection, "resume_writing", _as_of_before),
        _two_edges,
    ),
    Bug(
        "as-of-its-beginning",
        2,
        "a request whose head comes in pieces is answered as of the first of them",
        instead(ViewerConnection, "on_headers_complete", _as_of_its_beginning),
        _two_edges,
    ),
    Bug(
        "questions-not-counted",
        6,
        "every question has the same number, so that a worker that asks looks like one that is gone",
        instead(Follower, "question", _not_counted),
        struck_by("edge-slow", "origin-stalls", change_every_s=0.7),
    ),
)
