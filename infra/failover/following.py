"""Who of two servers of ours may be promoted, by what the primary says of its standby. Pure."""

from __future__ import annotations

from infra.failover.errands import Errands
from infra.failover.steps import Record, Release, Say, Seen, Step, Synchronise

STANDBY_GONE_S = 5.0
"""A standby that was gone for so long is waited for no more, and may not be promoted until it has caught up."""


class Following:
    """Times are those of the machine."""

    def __init__(self, promotable: str | None, errands: Errands, now: float) -> None:
        self.promotable = promotable
        """The standby that holds whatever was acknowledged; None: nobody is sure to."""
        self._errands = errands
        self._gone_since: float | None = None
        self._changed_at = now
        """When what commits wait for was last changed: what was seen of it before says nothing."""
        self._wanted: Step | None = None
        """What commits were last to be told to wait for."""

    def begin_anew(self) -> None:
        """Another server is the primary: nobody follows it yet."""
        self.promotable = self._gone_since = self._wanted = None

    def seen(self, seen: Seen, standby: str, epoch: int, now: float, *, synchronous: bool) -> list[Step]:
        """The primary answered; `synchronous`: commits are to wait for the standby."""
        if seen.sent_at < self._changed_at:
            return []
        if not seen.followed:
            return self._gone(seen, standby, epoch, now)
        self._gone_since = None
        if not synchronous:
            steps = self._want(Release(seen.node)) if seen.synchronous else []
            if self.promotable is None:
                self.promotable = standby
                steps.append(Record(seen.node, standby, epoch))
            return steps
        if seen.synchronous and self.promotable is not None:
            return []
        # If it was promotable: somebody changed the setting, or that fence was disarmed. It may lack a commit since.
        steps = [Record(seen.node, None, epoch)] if self.promotable is not None else []
        self.promotable = None
        return [*steps, *self._want(Synchronise(seen.node, standby))]

    def _gone(self, seen: Seen, standby: str, epoch: int, now: float) -> list[Step]:
        if self._gone_since is None:
            self._gone_since = now
        if now - self._gone_since < STANDBY_GONE_S or (self.promotable is None and not seen.synchronous):
            return []
        steps: list[Step] = []
        if self.promotable is not None:
            self.promotable = None
            said = Say(f"{standby} has not followed for {STANDBY_GONE_S:g} s: writes no longer wait for it")
            steps = [said, Record(seen.node, None, epoch)]
        # In this order: from the moment in which no commit waits for it, it may lack one.
        return [*steps, *self._want(Release(seen.node))]

    def _want(self, step: Release | Synchronise) -> list[Step]:
        """A Release that is still on its way would undo what a Synchronise does."""
        if isinstance(step, Synchronise) and self._errands.is_busy(Release(step.primary)):
            return []
        issued = self._errands.issue(step)
        if issued:
            # Else one is still on its way that began before what was wanted last: what that one does says nothing.
            self._wanted = step
        return issued

    def released(self, now: float) -> None:
        """No commit waits for a standby any more."""
        self._changed_at = now

    def synchronised(self, step: Synchronise, epoch: int, now: float) -> list[Step]:
        """Commits waited for the standby when it had caught up; not any more, if a Release was wanted meanwhile."""
        self._changed_at = now
        if step != self._wanted or self.promotable == step.standby:
            return []
        self.promotable = step.standby
        said = Say(f"{step.standby} holds everything, and may be promoted", alarming=False)
        return [Record(step.primary, step.standby, epoch), said]
