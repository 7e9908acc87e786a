"""The site's purge log as its workers see it: questions are answered as an origin answers them, purges are entered,
and what has been applied by whom is known (docs/freshness.md, rules 4 to 6).

Everything here runs in one thread: to take note of a question and to choose its answer is one step, and so is to enter
a purge and to see who has to apply it. `routes` is how workers reach it, over loopback; each has a key of its own, so
that a question tells which process asked it.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from cache_policies.feed import (
    FEED_PATH,
    HOLD_S,
    LEASE_S,
    LEAVE_PATH,
    MAX_PURGE_WAIT_S,
    PAGE_ENTRIES,
    PURGE_PATH,
    Answer,
    PurgeWish,
    Question,
)
from cache_policies.fields import EDGE_KEY_FIELD, REFUSED_EDGE_KEY, REFUSED_FIELD
from cache_policies.positions import ORDERED_KINDS, ZERO, Position, PurgeEntry, PurgeKind, WireError
from edge.durations import Durations
from edge.gateway.listening import body_of
from edge.site.log import LogUnusable, PurgeLog

logger = logging.getLogger("nearshelf.site")

RUN_OUT_S = LEASE_S * 1.01
"""A contact number that stood still for so long belongs to a lease that is over, whichever clock runs fast by 1 %."""
MAX_HELD_PER_WORKER = 64
"""Questions of one worker that are open at a time; it keeps half as many."""
MAX_BODY_BYTES = 400_000
"""1,000 tags of 256 characters, and what is around them."""

Audit = Callable[[str, str, dict[str, Any]], None]
"""Hears of each purge: who ordered it, why, and what came of it."""


class Outcome(StrEnum):
    """What is known of one worker and one purge."""

    WAITING = "waiting"
    APPLIED = "applied"
    """It asked from the purge's position or beyond."""
    LEASE_RAN_OUT = "lease ran out"
    """It was silent until nothing that it holds can count as fresh."""
    GONE = "gone"
    """Its process has ended, or it stopped serving from its store and said so."""


@dataclass(slots=True, eq=False)
class Member:
    """One worker process, from its start to its end. Times are seconds of the edge's clock."""

    name: str
    key: str = field(repr=False)
    worker: str = ""
    """What it calls itself; empty until its first question."""
    contact: int = 0
    applied: Position = ZERO
    moved_at: float = 0.0
    """When its contact number last rose."""
    gone: bool = False
    held: int = 0


class SiteFeed:
    """The log and who follows it. `clock` gives seconds of the edge's clock."""

    def __init__(self, log: PurgeLog, clock: Callable[[], float], audit: Audit, hold_s: float = HOLD_S) -> None:
        self.log = log
        self._clock = clock
        self._audit = audit
        self._hold_s = hold_s
        self.entered = dict.fromkeys(ORDERED_KINDS, 0)
        """Purges entered, by their kind."""
        self.acks = Durations()
        """From when a purge was ordered to when each worker had applied it, where it did while that was waited for."""
        self._members: list[Member] = []
        self._entering = asyncio.Lock()
        self._grown = asyncio.Event()
        self._heard = asyncio.Event()

    # --- who follows the log ---

    def join(self, name: str, key: str) -> Member:
        """A process that is about to be started. It counts from its first question on: it applies the log before it
        serves anything from its store."""
        member = Member(name, key)
        self._members.append(member)
        return member

    def reaped(self, member: Member) -> None:
        """Its process has certainly ended: nothing is served by it any more."""
        member.gone = True
        self._members.remove(member)
        self._tell_heard()

    def member_of(self, key: str) -> Member | None:
        found = None
        for member in self._members:
            if hmac.compare_digest(member.key.encode(), key.encode("latin-1", "replace")):
                found = member
        return found

    @property
    def living(self) -> list[Member]:
        """The workers that may serve from their stores."""
        return [member for member in self._members if member.worker and not member.gone]

    async def until_applied(self, member: Member) -> None:
        """Wait until `member` has applied everything that is in the log now, or is gone."""
        head = self.log.head
        while not (member.gone or member.applied >= head):
            await self._heard.wait()

    def _tell_heard(self) -> None:
        heard, self._heard = self._heard, asyncio.Event()
        heard.set()

    # --- questions ---

    def note(self, member: Member, question: Question) -> bool:
        """Take note of what `question` reports; whether its position is one of this log. Raises WireError."""
        if member.worker != question.worker:
            if member.worker:
                raise WireError(f"{member.name} calls itself {member.worker}, not {question.worker[:64]!a}")
            member.worker = question.worker
        if question.contact > member.contact:
            # Contacts may arrive out of order: the number only ever rises.
            member.contact, member.moved_at = question.contact, self._clock()
        if question.after is None:
            return True
        known = self.log.after(question.after, question.after_id or "") is not None
        if known and question.after > member.applied:
            member.applied = question.after
        self._tell_heard()
        return known

    async def answer(self, member: Member, question: Question) -> AsyncGenerator[bytes, None]:
        """The lines of the answer to a question that was noted, each with its line feed: the first at once, then one
        whenever there are entries, until it has been open for L/4."""
        log, until = self.log, self._clock() + self._hold_s
        if question.after is None:
            yield _line(Answer((), log.head, log.head_id, (log.start, log.start_id)))
            if log.start != log.head:
                return
        else:
            entries = log.after(question.after, question.after_id or "")
            page = (entries or ())[:PAGE_ENTRIES]
            yield _line(Answer(page, log.head, log.head_id, flush=entries is None))
            if entries is None or len(page) < len(entries):
                return
        at, at_id = log.head, log.head_id
        while (left_s := until - self._clock()) > 0 and not member.gone:
            grown = self._grown
            try:
                async with asyncio.timeout(left_s):
                    await grown.wait()
            except TimeoutError:
                return
            entries = log.after(at, at_id)
            if entries is None or len(entries) > PAGE_ENTRIES:
                return
            if entries:
                at, at_id = log.head, log.head_id
                yield _line(Answer(entries, at, at_id))

    # --- purges ---

    async def purge(
        self, kind: PurgeKind, tags: tuple[str, ...], who: str, reason: str, wait_s: float
    ) -> dict[str, Any]:
        """Enter a purge, and wait until it is live, at most `wait_s`; what was done, as JSON.

        Raises LogUnusable when it cannot be written: then nothing was purged.
        """
        began = self._clock()
        async with self._entering:
            entry = await asyncio.to_thread(self.log.write, kind, tags)
            # One step from here on: whoever is among the living now must apply it, whoever joins later reads it.
            self.log.add(entry)
            self.entered[kind] += 1
            to_apply = self.living
            grown, self._grown = self._grown, asyncio.Event()
            grown.set()
            if self.log.wants_trimming:
                await self._trim()
        workers = await self._until_live(entry, to_apply, began + wait_s, began)
        done = {
            "position": str(entry.position),
            "id": entry.id,
            "kind": kind.value,
            "tags": list(tags),
            "live": all(worker["outcome"] != Outcome.WAITING.value for worker in workers),
            "seconds": round(self._clock() - began, 6),
            "workers": workers,
        }
        self._audit(who, reason, done)
        return done

    async def _trim(self) -> None:
        try:
            shorter = await asyncio.to_thread(self.log.trimmed)
        except LogUnusable as exc:
            # It only grows; the next purge tries again.
            logger.warning("the purge log was not trimmed: %s", exc)
            return
        if shorter is not None:
            self.log.take(shorter)

    async def _until_live(
        self, entry: PurgeEntry, to_apply: list[Member], deadline: float, began: float
    ) -> list[dict[str, Any]]:
        found = {id(member): (Outcome.WAITING, 0.0) for member in to_apply}
        while True:
            now = self._clock()
            waits_until = [deadline]
            for member in to_apply:
                if found[id(member)][0] is Outcome.WAITING:
                    outcome = self._outcome(member, entry.position, now)
                    found[id(member)] = (outcome, now - began)
                    if outcome is Outcome.APPLIED:
                        self.acks.add(now - began)
                    if outcome is Outcome.WAITING:
                        waits_until.append(member.moved_at + RUN_OUT_S)
            if len(waits_until) == 1 or now >= deadline:
                break
            try:
                async with asyncio.timeout(max(0.001, min(waits_until) - now)):
                    await self._heard.wait()
            except TimeoutError:
                pass
        return [
            {"worker": member.name, "outcome": outcome.value, "ms": round(after_s * 1000, 1)}
            for member in to_apply
            for outcome, after_s in (found[id(member)],)
        ]

    def _outcome(self, member: Member, position: Position, now: float) -> Outcome:
        if member.applied >= position:
            return Outcome.APPLIED
        if member.gone:
            return Outcome.GONE
        return Outcome.LEASE_RAN_OUT if now - member.moved_at >= RUN_OUT_S else Outcome.WAITING

    # --- over HTTP ---

    def routes(self) -> list[BaseRoute]:
        """What workers ask, each with the edge key that it was given."""

        def known(request: Request) -> Member | None:
            return self.member_of(request.headers.get(EDGE_KEY_FIELD, ""))

        async def ask(request: Request) -> Response:
            member = known(request)
            if member is None:
                return _refused()
            if member.gone or member.held >= MAX_HELD_PER_WORKER:
                return _said(503, f"{member.name} has left, or keeps {MAX_HELD_PER_WORKER} questions open already")
            try:
                question = Question.from_json(await _body(request))
                self.note(member, question)
            except WireError as exc:
                return _said(400, str(exc))
            return _Lines(self.answer(member, question), member)

        async def go(request: Request) -> Response:
            member = known(request)
            if member is None:
                return _refused()
            member.gone = True
            self._tell_heard()
            return Response(status_code=204, headers={"cache-control": "no-store"})

        async def enter(request: Request) -> Response:
            member = known(request)
            if member is None:
                return _refused()
            try:
                wish = PurgeWish.from_json(await _body(request))
            except WireError as exc:
                return _said(400, str(exc))
            wait_s = min(wish.wait_s, MAX_PURGE_WAIT_S)
            try:
                done = await self.purge(wish.kind, wish.tags, member.name, wish.reason, wait_s)
            except LogUnusable as exc:
                return _said(503, str(exc))
            return JSONResponse(done, headers={"cache-control": "no-store"})

        return [
            Route(FEED_PATH, ask, methods=["POST"]),
            Route(LEAVE_PATH, go, methods=["POST"]),
            Route(PURGE_PATH, enter, methods=["POST"]),
        ]


class _Lines(StreamingResponse):
    """An answer that gives its place back however it ends."""

    def __init__(self, lines: AsyncIterator[bytes], member: Member) -> None:
        super().__init__(lines, headers={"cache-control": "no-store"}, media_type="application/x-ndjson")
        self._member = member

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self._member.held += 1
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._member.held -= 1


async def _body(request: Request) -> bytes:
    """Raises WireError for one that is too long."""
    found = await body_of(request, MAX_BODY_BYTES)
    if found is None:
        raise WireError(f"a body has at most {MAX_BODY_BYTES} bytes here")
    return found


def _refused() -> Response:
    return JSONResponse(
        {"detail": "this address answers the workers of this site only"},
        403,
        {"cache-control": "no-store", REFUSED_FIELD: REFUSED_EDGE_KEY},
    )


def _said(status: int, detail: str) -> Response:
    return JSONResponse({"detail": detail}, status, {"cache-control": "no-store"})


def _line(answer: Answer) -> bytes:
    return answer.to_json() + b"\n"
