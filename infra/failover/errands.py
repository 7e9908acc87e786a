"""Steps that are under way: each is carried out once at a time, and again, with longer pauses, when it fails. Pure."""

from __future__ import annotations

from infra.failover.steps import Step

RETRY_S = (0.1, 0.5, 1.0, 2.0, 5.0)
"""Pauses before a step is tried again; the last one repeats."""


class Errands:
    """Times are those of the machine."""

    def __init__(self) -> None:
        self._busy: set[Step] = set()
        self._due: dict[Step, float] = {}
        self._attempts: dict[Step, int] = {}
        self._failing: set[Step] = set()
        """Those whose last attempt failed."""

    def issue(self, step: Step) -> list[Step]:
        """`step`, unless it is being carried out already, or waits to be tried again."""
        if self.is_busy(step):
            return []
        self._busy.add(step)
        return [step]

    def is_busy(self, step: Step) -> bool:
        """It is being carried out, or waits to be tried again."""
        return step in self._busy or step in self._due

    def is_under_way(self, step: Step) -> bool:
        """It is being carried out."""
        return step in self._busy

    def at_once(self, step: Step) -> list[Step]:
        """The same, even if it waits to be tried again."""
        self._due.pop(step, None)
        return self.issue(step)

    def later(self, step: Step, due_at: float) -> None:
        self._due[step] = due_at

    def due(self, now: float) -> list[Step]:
        """Those whose pause is over; they wait no more."""
        found = [step for step, due_at in self._due.items() if due_at <= now]
        for step in found:
            del self._due[step]
        return found

    def returned(self, step: Step) -> None:
        """It was carried out, or failed."""
        self._busy.discard(step)

    def succeeded(self, step: Step) -> None:
        """Its next failure is news; its pauses go on where they were."""
        self._failing.discard(step)

    def failed(self, step: Step, now: float) -> bool:
        """It waits to be tried again. Whether that is news: the attempt before did not fail."""
        self.later(step, now + self.pause(step))
        is_news = step not in self._failing
        self._failing.add(step)
        return is_news

    def forget_failures(self, step: Step) -> None:
        """The next failure is news, and the pause after it is the first again."""
        self._attempts.pop(step, None)
        self._failing.discard(step)

    def pause(self, step: Step) -> float:
        """How long to leave it alone; longer each time."""
        attempts = self._attempts.get(step, 0)
        self._attempts[step] = attempts + 1
        return RETRY_S[min(attempts, len(RETRY_S) - 1)]
