"""Who is the primary, and what to do when it is lost: observations in, steps out (docs/freshness.md, rule 8).

Pure: no clock, no I/O. `observe` and `tick` are given the time, in seconds of one monotonic clock, and return steps to
carry out in that order; the outcome of each comes back as Done or Failed. A primary is lost when its process ends, or
when it is silent (infra.failover.silence). Then: fence it, promote the standby that holds whatever was acknowledged,
open that as a primary (epoch and lease in its first transaction), tell the origin, and have the old one rejoin. Once a
standby is being promoted nothing leads back to the old primary.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from infra.failover.errands import RETRY_S, Errands
from infra.failover.following import Following
from infra.failover.silence import HUNG_S, Silence
from infra.failover.standbys import Standbys
from infra.failover.steps import (
    Announce,
    Done,
    Ended,
    Event,
    Failed,
    Fence,
    Freed,
    Held,
    Open,
    Phase,
    Probe,
    Promote,
    Record,
    Rejoin,
    Release,
    Say,
    Seen,
    Start,
    Step,
    Stop,
    Synchronise,
    TakeBack,
    Unleash,
    Unseen,
    doing,
)

ANSWERING_S = 2.0
"""A standby that was seen in this time can be promoted; so long are those of others waited for after the fence."""
RENEW_EVERY_S = 0.5
LEASE_S = 2.0
"""Length of a supervisor lease."""
CLOCK_RATE = 1.01
"""How much faster a server's clock may run than ours, or slower."""
SETTLED_S = 30.0
"""A server that lived this long is taken as sound: the next pause is the first again."""


class Refused(Exception):
    """A failover that somebody asked for is not begun. Says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Move:
    """One failover: when each part was done, in seconds of the machine's clock; None: not yet."""

    why: str
    old: str
    new: str
    lost_at: float
    accepts_loss: bool = False
    given_up: str = ""
    """Why nobody was promoted after all."""
    fenced_at: float | None = None
    promoted_at: float | None = None
    opened_at: float | None = None

    @property
    def is_over(self) -> bool:
        return self.opened_at is not None or self.given_up != ""


class Machine:
    """Two servers or more, one of them the primary. `keeps`: their processes are ours to start and to end."""

    def __init__(
        self,
        nodes: Sequence[str],
        primary: str,
        promotable: str | None,
        now: float,
        *,
        epoch: int = 0,
        down: Iterable[str] = (),
        automatic: bool = True,
        keeps: bool = True,
        named: Iterable[str] = (),
    ) -> None:
        """`promotable`, `epoch`: what an earlier run recorded: the standby that holds whatever was acknowledged, and
        the highest epoch that may have been given out. `down`: servers that are yet to be started. `automatic`: a lost
        primary is replaced without being asked. `named`: of servers of others, what the standbys are called that may
        be promoted; none: all of them."""
        self.nodes = tuple(nodes)
        self.primary = primary
        self.epoch = epoch
        """The highest that may have been given out."""
        self.phase = Phase.OPENING
        self.target = primary
        """Who is being promoted or opened."""
        self._fences = frozenset(Fence) if keeps else frozenset({Fence.LEASE})
        self.armed = self._fences
        self.moves: list[Move] = []
        self.down = set(down)
        """Servers whose process has ended, and that are not up again."""
        self.held: set[str] = set()
        self._automatic = automatic
        self._keeps = keeps
        self._timeline = 0
        """The highest that a primary of ours was seen to write; 0: none was seen yet."""
        self._next_timeline = 0
        """Which the target writes, or will, that is being made the primary; 0: not known."""
        self._above = epoch
        self._strays: set[str] = set()
        """Old primaries that may still run: the fence that ends them was disarmed."""
        self._standbys = Standbys(nodes, named)
        self._has_all = False
        """Of servers of others: the target has all that the old primary has written, which was in good order."""
        self._silence = Silence(nodes, now)
        self._said_silent = False
        self._said_trouble = False
        self._ousted = False
        """Another supervisor was seen to have the primary in charge."""
        self._lease_over_at = now
        self._loose_since: float | None = None
        """Since when the primary has had no lease that could run out; infinite: it is just being let loose."""
        self._renewed_at = now - RENEW_EVERY_S
        """When a renewal was last sent."""
        self._confirmed_at = now
        """When the last renewal was sent that is known to have succeeded."""
        self._errands = Errands()
        self._following = Following(promotable, self._errands, now)
        self._up_since: dict[str, float] = dict.fromkeys(nodes, now)

    # --- what happens ---

    def start(self) -> list[Step]:
        """The first steps."""
        return self._errands.issue(self._open())

    def tick(self, now: float) -> list[Step]:
        """To be called every `PROBE_EVERY_S`."""
        self._silence.look_at_ourselves(now)
        steps: list[Step] = []
        for node in self.nodes:
            if node in self.down:
                continue
            renew = (
                node == self.primary
                and self.phase is Phase.STEADY
                and Fence.LEASE in self.armed
                and now - self._renewed_at >= RENEW_EVERY_S
            )
            if renew:
                self._renewed_at = now
                # It is counted from a reading of the server's clock that we had before now.
                self._lease_over_at = now + LEASE_S * CLOCK_RATE
            steps.append(Probe(node, renew))
        for step in self._errands.due(now):
            if self._is_wanted(step):
                steps += self._errands.issue(step)
            else:
                self._errands.forget_failures(step)
        if self.phase is Phase.WAITING and self._is_lease_over(now):
            steps += self._fenced(now)
        if Fence.KILL in self.armed:
            steps += [step for node in sorted(self._strays) for step in self._errands.issue(Stop(node, kill=True))]
            steps += self._end_who_hangs(now)
        return steps

    def _end_who_hangs(self, now: float) -> list[Step]:
        """A frozen process does not end by itself, and a standby that hangs is one that nobody can be moved to."""
        steps: list[Step] = []
        for node in self.nodes:
            if node not in self.down and self._silence.hangs(node, now):
                self._silence.begin_anew(node, now)
                said = Say(f"{node} has said nothing for {HUNG_S:g} s: it is ended, and started again")
                steps += [said, *self._errands.issue(Stop(node, kill=True))]
        return steps

    def observe(self, event: Event, now: float) -> list[Step]:
        """What `event` makes necessary."""
        self._silence.look_at_ourselves(now)
        match event:
            case Seen():
                return self._seen(event, now)
            case Unseen():
                return self._unseen(event, now)
            case Ended(node):
                return self._ended(node, now)
            case Held(node):
                self.held.add(node)
                return []
            case Freed(node):
                self.held.discard(node)
                return self._restart(node, 0.0, now) if node in self.down else []
            case Done(step):
                self._errands.returned(step)
                self._errands.succeeded(step)
                if not isinstance(step, Start | Rejoin):  # of those, how long it lives tells (_pause_of)
                    self._errands.forget_failures(step)
                return self._done(event, now)
            case Failed(step, why):
                self._errands.returned(step)
                return self._failed(step, why, now)

    def ask(self, to: str | None, now: float, *, accept_loss: bool = False) -> list[Step]:
        """Hand the primary over to the standby `to`; None: to the one there is. Raises Refused."""
        if to is not None and to not in self.nodes:
            raise Refused(f"there is no server {to!r}; there are {', '.join(self.nodes)}")
        if to == self.primary:
            raise Refused(f"{to} is the primary already")
        if self.phase is not Phase.STEADY:
            raise Refused(f"{self.target} is being made the primary already (it is {self.phase.value})")
        if self._ousted:
            raise Refused(f"another supervisor has {self.primary} in charge; ask that one")
        answering = self._answering(now)
        target = self.candidate(now, to)
        if target is None or (to is not None and to != target):
            target = to or self._standbys.likeliest(answering, self._timeline)
            if target not in answering:
                who = to or "a standby"
                raise Refused(f"{who} that could be promoted does not answer: it is away, or is just being made one")
            if not accept_loss:
                raise Refused(
                    f"{target} may lack changes that were acknowledged; wait until `nearshelf status` says that it may "
                    "be promoted, or give them up with --accept-loss"
                )
        orderly = not self._is_lost(now)
        if orderly and self._errands.is_busy(TakeBack(self.primary)):
            raise Refused(f"{self.primary} is being told that it may go on, after the last attempt; ask again")
        return self._begin("asked for", target, now, orderly=orderly, accepts_loss=accept_loss)

    def disarm(self, fence: Fence) -> list[Step]:
        """Fail over without this fence from now on, to see what the others are worth."""
        self.armed -= {fence}
        if fence is not Fence.LEASE:
            return []
        self._loose_since = math.inf
        return self._errands.issue(Unleash(self.primary))

    def arm(self) -> list[Step]:
        """All fences again."""
        was, self.armed = self.armed, self._fences
        if Fence.SYNC in was or Fence.SYNC not in self._fences:
            return []
        # Nothing waited for the standby meanwhile.
        self._following.promotable = None
        who = self.target if self.phase in {Phase.PROMOTING, Phase.OPENING} else self.primary
        return [Record(who, None, self.epoch)]

    @property
    def promotable(self) -> str | None:
        """Of servers of ours: the standby that holds whatever was acknowledged."""
        return self._following.promotable

    @property
    def disarmed(self) -> frozenset[Fence]:
        """Fences that a failover goes without."""
        return self._fences - self.armed

    @property
    def is_whole(self) -> bool:
        """Nothing is under way, every server runs, and the primary could be lost without a loss."""
        return (
            self.phase is Phase.STEADY
            and not self.down
            and not self._strays
            and (not self._keeps or self.promotable is not None)
        )

    # --- probes ---

    def _seen(self, seen: Seen, now: float) -> list[Step]:
        node = seen.node
        if seen.in_recovery and node == self.primary:
            return self._unseen(Unseen(node, seen.sent_at, "it is a standby", silent=False), now)
        if self._silence.answered(node, seen.sent_at, now) and node == self.primary:
            self._said_silent = False
        if seen.in_recovery:
            self._standbys.said(seen, now)
            return []
        self._standbys.is_none(node)
        if node != self.primary:
            return self._adopt(seen, now)
        self._ousted = seen.ousted or (self._ousted and not seen.renewed)
        if seen.renewed:
            self._confirmed_at = max(self._confirmed_at, seen.sent_at)
            if self._loose_since is not None and seen.sent_at >= self._loose_since:
                self._loose_since = None
        self._timeline, self.epoch = max(self._timeline, seen.timeline), max(self.epoch, seen.epoch)
        said: list[Step] = []
        if seen.trouble and not self._said_trouble:
            said = [Say(f"{node} answers, but its lease cannot be renewed: {seen.trouble}")]
        self._said_trouble = bool(seen.trouble) or (self._said_trouble and not seen.renewed)
        if self.phase is not Phase.STEADY or not self._keeps:
            return said
        standby = next(each for each in self.nodes if each != node)
        synchronous = Fence.SYNC in self.armed
        return [*said, *self._following.seen(seen, standby, self.epoch, now, synchronous=synchronous)]

    def _unseen(self, unseen: Unseen, now: float) -> list[Step]:
        node = unseen.node
        if node in self.down:
            return []
        self._silence.unanswered(node, unseen.sent_at, silent=unseen.silent, now=now)
        if node != self.primary or self.phase is not Phase.STEADY or not self._silence.is_lost(node, now):
            return []
        return self._lost(f"does not answer (it said: {unseen.why})", now)

    def _adopt(self, seen: Seen, now: float) -> list[Step]:
        """A server that we did not promote is a primary: somebody else did, if its history is the newer one. Also where
        we are about to make another one the primary, which may be gone for good."""
        if seen.node == self.target:
            self._next_timeline = max(self._next_timeline, seen.timeline)
            return []
        if self._keeps or not 0 < max(self._timeline, self._next_timeline) < seen.timeline:
            return []
        if self.phase is not Phase.STEADY:
            under_way = (Promote(self.target), self._open())
            if self.phase is Phase.FENCING or any(self._errands.is_under_way(step) for step in under_way):
                return []  # it is seen again
            if self.moves and not self.moves[-1].is_over:
                why = f"{seen.node} was promoted by somebody else"
                self.moves[-1] = replace(self.moves[-1], given_up=why)
            # What opened the target may have failed when that was done already.
            self._lease_over_at = max(self._lease_over_at, now + LEASE_S * CLOCK_RATE)
        self.target, self._next_timeline = seen.node, seen.timeline
        self.moves.append(Move("promoted by somebody else", self.primary, seen.node, now, promoted_at=now))
        self.phase = Phase.WAITING
        return [Say(f"{seen.node} was promoted by somebody else; {self.primary} is the primary no more")]

    # --- losing the primary ---

    def _ended(self, node: str, now: float) -> list[Step]:
        self.down.add(node)
        if node in self._strays:
            self._strays.discard(node)
            return self._restart(node, RETRY_S[0], now)
        if self.phase is Phase.STEADY and node == self.primary:
            return self._lost("ended", now)
        if node == self.target and self.phase in {Phase.PROMOTING, Phase.OPENING}:
            return self._restart(node, RETRY_S[0], now)
        if node == self.primary:
            # Being fenced. Where only its lease was waited for, there is nothing to wait for any more.
            return self._errands.issue(Stop(node, kill=Fence.KILL in self.armed)) if self.phase is Phase.WAITING else []
        return self._restart(node, self._pause_of(node, now), now)

    def _lost(self, how: str, now: float) -> list[Step]:
        target = self.candidate(now) if self._automatic and self._was_in_charge() else None
        if target is not None:
            return self._begin(how, target, now, orderly=False)
        if self.primary in self.down:
            who = "no standby may be promoted" if self._automatic else "nobody is promoted unasked"
            said = Say(f"{self.primary}, the primary, {how}, and {who}; it is started again")
            return [said, *self._restart(self.primary, self._pause_of(self.primary, now), now)]
        if self._said_silent:
            return []
        self._said_silent = True
        return [
            Say(
                f"{self.primary}, the primary, {how}, and no standby may be promoted without losing changes; "
                "`nearshelf failover --accept-loss` promotes one anyway"
                if self.candidate(now) is None
                else f"{self.primary}, the primary, {how}; `nearshelf failover` promotes a standby"
            )
        ]

    def _was_in_charge(self) -> bool:
        """Whether we had the primary in charge until it was lost. Of servers of others, another supervisor may have
        taken over while we did not run; ours are nobody else's."""
        if self._keeps or Fence.LEASE not in self.armed:
            return True
        return not self._ousted and self._silence.answered_at(self.primary) - self._confirmed_at <= LEASE_S

    def candidate(self, now: float, favourite: str | None = None) -> str | None:
        """The standby that may be promoted now, and answers; `favourite`, where there are several."""
        answering = self._answering(now)
        if self._keeps:
            return self.promotable if self.promotable in answering else None
        if self._is_lost(now) and not self._standbys.are_named:
            # Where nobody is named, whoever streams counts, one that is none of the servers, too: only the primary
            # itself could tell that a standby lacks nothing.
            return None
        return self._standbys.furthest(answering, self.primary, self._timeline, favourite)

    def _is_lost(self, now: float) -> bool:
        """The primary is: it ended, or is silent."""
        return self.primary in self.down or self._silence.is_lost(self.primary, now)

    def _answering(self, now: float) -> dict[str, Seen]:
        """The standbys that answer, and what they said."""
        away = self._strays | self.down | {self.primary}
        seen = self._standbys.seen_since(now - ANSWERING_S)
        return {node: said for node, said in seen.items() if node not in away}

    def _is_lease_over(self, now: float) -> bool:
        """Of the old primary, for certain; or it is not waited for."""
        return Fence.LEASE not in self.armed or (self._loose_since is None and now >= self._lease_over_at)

    def _begin(self, why: str, target: str, now: float, *, orderly: bool, accepts_loss: bool = False) -> list[Step]:
        self.phase, self.target, self._has_all = Phase.FENCING, target, False
        self.moves.append(Move(why, self.primary, target, now, accepts_loss))
        ends = Fence.KILL in self.armed or (orderly and self._keeps)
        stop = Stop(self.primary, kill=ends, heir=target if orderly else None)
        return [Say(f"{self.primary}, the primary, {why}: {target} is promoted"), *self._errands.issue(stop)]

    def _fenced(self, now: float) -> list[Step]:
        """The old primary goes on no more. Until now it did: of several standbys another may be further than the one
        that was when we began, so they are asked once more."""
        if self.moves[-1].fenced_at is None:
            self._note("fenced_at", now)
        move = self.moves[-1]
        if self._keeps or self._has_all or move.accepts_loss or move.promoted_at is not None:
            return self._promote()
        fenced_at = move.fenced_at or now
        asked = self._standbys.asked_since(fenced_at)
        heir = self._standbys.furthest(asked, self.primary, self._timeline, self.target)
        if heir is None:
            if now - fenced_at <= ANSWERING_S:
                return []
            return self._give_up("a standby that may have its last changes is silent; --accept-loss gives them up")
        if heir == self.target:
            return self._promote()
        said = Say(f"{heir} is promoted instead of {self.target}: it is further")
        self.target, self.moves[-1] = heir, replace(move, new=heir)
        return [said, *self._promote()]

    def _give_up(self, why: str) -> list[Step]:
        """Nobody was promoted yet, and nobody is: the old primary goes on, if it still can."""
        self.phase, self.target = Phase.STEADY, self.primary
        self.moves[-1] = replace(self.moves[-1], given_up=why)
        said = Say(f"{self.primary} is not replaced: {why}")
        return [said, *self._errands.issue(TakeBack(self.primary))]

    def _promote(self) -> list[Step]:
        self._above, self.epoch = self.epoch, self.epoch + 1
        # Written first: whoever starts this shop next goes on from here, and never back.
        record = Record(self.target, None, self.epoch)
        if self.moves[-1].promoted_at is not None:
            return [record, *self._errands.issue(self._opening())]
        self.phase = Phase.PROMOTING
        # Unknown where the old one's was never seen: that may be higher.
        self._next_timeline = self._timeline + 1 if self._timeline else 0
        return [record, *self._errands.issue(Promote(self.target))]

    def _opening(self) -> Open:
        self.phase = Phase.OPENING
        return self._open()

    def _open(self) -> Open:
        return Open(self.target, self._above, Fence.LEASE in self.armed)

    # --- outcomes ---

    def _done(self, done: Done, now: float) -> list[Step]:
        match done.step:
            case Stop(node):
                self._has_all = done.step.heir == self.target
                return self._stopped(node, done.dead, now)
            case Promote(node) if self.phase is Phase.PROMOTING and node == self.target:
                self._note("promoted_at", now)
                return self._errands.issue(self._opening())
            case Open(node) if self.phase is Phase.OPENING and node == self.target:
                return self._opened(now, done.step.lease)
            case Start(node):
                return self._is_up(node, now)
            case Rejoin(node):
                # Whoever reads of a standby may go there again.
                return [*self._is_up(node, now), *([Announce(self.primary)] if self.phase is Phase.STEADY else [])]
            case Synchronise(primary, standby) if primary == self.primary and self.phase is Phase.STEADY:
                self._standbys.said(Seen(standby, now, in_recovery=True), now)
                return self._following.synchronised(done.step, self.epoch, now) if Fence.SYNC in self.armed else []
            case Release():
                self._following.released(now)
            case Unleash(node) if node == self.primary:
                self._loose_since = now
        return []

    def _stopped(self, node: str, dead: bool, now: float) -> list[Step]:
        if dead:
            self._strays.discard(node)
            self.down.add(node)
        if node == self.primary and self.phase in {Phase.FENCING, Phase.WAITING}:
            self.phase = Phase.WAITING
            return self._fenced(now) if dead or Fence.LEASE not in self.armed else []
        return self._restart(node, 0.0, now) if dead and node != self.primary else []

    def _opened(self, now: float, lease: bool) -> list[Step]:
        old, self.primary, self.phase = self.primary, self.target, Phase.STEADY
        self._silence.begin_anew(self.primary, now)
        self._ousted = False
        self._renewed_at = self._confirmed_at = now
        self._lease_over_at = now + LEASE_S * CLOCK_RATE
        self._loose_since = None if lease else now
        steps: list[Step] = []
        if lease and Fence.LEASE not in self.armed:
            # Disarmed while it was being opened.
            self._loose_since = math.inf
            steps += self._errands.issue(Unleash(self.primary))
        if old == self.primary:
            return [*steps, Announce(self.primary)]
        self._note("opened_at", now)
        self._following.begin_anew()
        took_s = now - self.moves[-1].lost_at
        said = Say(f"{self.primary} is the primary, {took_s:.2f} s later")
        steps += [Record(self.primary, None, self.epoch), Announce(self.primary), said]
        if not self._keeps:
            return steps
        if old in self.down:
            return [*steps, *self._restart(old, 0.0, now)]
        self._strays.add(old)
        return steps

    def _is_up(self, node: str, now: float) -> list[Step]:
        self.down.discard(node)
        self._up_since[node] = now
        self._silence.begin_anew(node, now)
        if node == self.target and self.phase is Phase.PROMOTING:
            return self._errands.issue(Promote(node))
        if node == self.target and self.phase is Phase.OPENING:
            return self._errands.issue(self._open())
        return []

    def _failed(self, step: Step, why: str, now: float) -> list[Step]:
        if isinstance(step, Stop) and self.phase is Phase.FENCING and step.node == self.primary:
            if step.orderly and not self._keeps and not self.moves[-1].accepts_loss:
                return self._give_up(f"{step.heir} may lack its last changes: {why}")
            # It could not be ended for certain: its lease is what is left to wait for.
            return [Say(f"{step.node} could not be ended: {why}"), *self._stopped(step.node, False, now)]
        if step == Unleash(self.primary):
            self._loose_since = now  # it may have been let loose all the same
        if not self._is_wanted(step):
            self._errands.forget_failures(step)
            return []
        if step == Start(self.primary) and self.phase is Phase.STEADY and self._automatic:
            target = self.candidate(now)
            if target is not None:
                return self._begin(f"cannot be started ({why})", target, now, orderly=False)
        is_news = self._errands.failed(step, now)
        return [Say(f"{doing(step)} failed, trying again: {why}")] if is_news else []

    def _is_wanted(self, step: Step) -> bool:
        match step:
            case Promote(node):
                return self.phase is Phase.PROMOTING and node == self.target and node not in self.down
            case Open(node):
                return self.phase is Phase.OPENING and node == self.target and node not in self.down
            case Start(node) | Rejoin(node):
                return node in self.down and node not in self.held and step == self._revival(node)
            case Unleash(node):
                return Fence.LEASE not in self.armed and node == self.primary
            case Synchronise(primary) | Release(primary):
                return self.phase is Phase.STEADY and primary == self.primary and primary not in self.down
            case Stop(node):
                return node in self._strays
            case TakeBack(node):
                return self.phase is Phase.STEADY and node == self.primary
            case Probe() | Announce() | Record() | Say():
                return False

    # --- starting again ---

    def _restart(self, node: str, pause_s: float, now: float) -> list[Step]:
        if node in self.held or not self._keeps:
            return []
        if node == self.primary != self.target:
            # Once the other one is open: what is only here cannot be told from what is there before.
            return []
        step = self._revival(node)
        if pause_s == 0.0:
            return self._errands.at_once(step)
        self._errands.later(step, now + pause_s)
        return []

    def _revival(self, node: str) -> Step:
        """How a server that has ended runs again: a primary, or one that is being made one, as it was."""
        if node == self.target:
            return Start(node)
        return Rejoin(node, self.target)

    def _pause_of(self, node: str, now: float) -> float:
        """How long a server that has just ended is left alone."""
        step = self._revival(node)
        if now - self._up_since[node] > SETTLED_S:
            self._errands.forget_failures(step)
        return self._errands.pause(step)

    def _note(self, part: Literal["fenced_at", "promoted_at", "opened_at"], now: float) -> None:
        """That part of the failover is done."""
        times: dict[str, Any] = {part: now}
        self.moves[-1] = replace(self.moves[-1], **times)
