"""The failover machine by a clock that is turned by hand."""

from __future__ import annotations

from infra.failover.machine import Machine
from infra.failover.silence import PROBE_EVERY_S
from infra.failover.steps import Announce, Done, Event, Open, Phase, Probe, Say, Seen, Step, Stop, Unseen


class Shop:
    """A machine and its clock. Probes and words are left out of what it wants done."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.now = 100.0
        self.said: list[str] = []

    def role(self) -> tuple[str, Phase, str | None, bool]:
        machine = self.machine
        return machine.primary, machine.phase, machine.promotable, machine.is_whole

    def take(self, steps: list[Step]) -> list[Step]:
        self.said += [step.text for step in steps if isinstance(step, Say)]
        return [step for step in steps if not isinstance(step, Probe | Say)]

    def tell(self, event: Event) -> list[Step]:
        return self.take(self.machine.observe(event, self.now))

    def tick(self, seconds: float = PROBE_EVERY_S) -> list[Step]:
        """What it wants while so much time goes by."""
        steps: list[Step] = []
        end = self.now + seconds
        while self.now < end - 1e-9:
            self.now = min(end, self.now + PROBE_EVERY_S)
            steps += self.take(self.machine.tick(self.now))
        return steps

    def seen(self, node: str, **more: object) -> list[Step]:
        """A probe that was sent now is answered now."""
        values: dict[str, object] = {
            "in_recovery": False,
            "timeline": 1,
            "followed": True,
            "synchronous": True,
            "epoch": 1,
        }
        values |= {"name": "standby1"} | more
        return self.tell(Seen(node, self.now, **values))  # type: ignore[arg-type]

    def standing_by(self, node: str = "pg-2") -> None:
        """The standby answers."""
        assert self.seen(node, in_recovery=True) == []

    def silent(self, node: str, seconds: float) -> list[Step]:
        """Every probe of that time goes unanswered for a second; the standby answers."""
        steps: list[Step] = []
        for _ in range(round(seconds / PROBE_EVERY_S)):
            steps += self.tick()
            if self.machine.primary == node and self.machine.phase is Phase.STEADY:
                self.standing_by()
            steps += self.tell(Unseen(node, self.now - 1.0, "no answer"))
        return steps


def opened(promotable: str | None = "pg-2", **more: object) -> Shop:
    """Two servers of ours, whose first one is in charge."""
    shop = Shop(Machine(["pg-1", "pg-2"], "pg-1", promotable, 100.0, epoch=1, **more))  # type: ignore[arg-type]
    assert shop.take(shop.machine.start()) == [Open("pg-1", above=1, lease=True)]
    assert shop.tell(Done(Open("pg-1", above=1, lease=True))) == [Announce("pg-1")]
    shop.standing_by()
    return shop


KILL = Stop("pg-1", kill=True)
OPEN = Open("pg-2", above=1, lease=True)
