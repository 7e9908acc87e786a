"""Mistakes that a supervisor could make, or a server about who has it in charge."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from infra.failover import following
from infra.failover.following import Following
from infra.failover.machine import Machine
from infra.failover.steps import Record
from tests.simulation.bugs.planting import Bug, failing_over, instead
from tests.simulation.engine import statements
from tests.simulation.engine.statements import CHARGE, CLOCK
from tests.simulation.plan import Plan

# -- who may be promoted, and when -------------------------------------------------------------------------------------


def _whoever_answers(candidate: Any) -> Any:
    return lambda self, now, *_: next(iter(self._answering(now)), None)


SOON_S = 1.0
"""After which a standby that follows no more is given up, where that is looked into: worlds are short."""


@contextmanager
def _still_promotable() -> Iterator[None]:
    gone = Following._gone

    def kept(self: Following, *args: Any) -> Any:
        before = self.promotable
        steps = [step for step in gone(self, *args) if not isinstance(step, Record)]
        self.promotable = before
        return steps

    with patch.object(following, "STANDBY_GONE_S", SOON_S), patch.object(Following, "_gone", kept):
        yield


def _at_once(stopped: Any) -> Any:
    def promoted(self: Machine, node: str, dead: bool, now: float) -> Any:
        self._lease_over_at = now
        return stopped(self, node, dead, now)

    return promoted


# -- who is in charge --------------------------------------------------------------------------------------------------


def _in_charge_until(view: Any) -> bool:
    server, charge = view.server, view.get(*CHARGE)
    if not server.is_primary or view.get(*CLOCK).timeline != server.timeline:
        return False
    return charge is None or bool(server.process.wall() < charge.until)


# -- the worlds --------------------------------------------------------------------------------------------------------


def _with(*strikes: str, every_s: float, may_kill: bool, change_every_s: float = 0.3) -> Any:
    def tuned(plan: Plan) -> Plan:
        return replace(
            failing_over(plan),
            edges=("eu/1", "us/1"),
            origins=("origin/1", "origin/2"),
            strikes=strikes,
            strike_every_s=every_s,
            change_every_s=change_every_s,
            may_kill=may_kill,
        )

    return tuned


BUGS = (
    Bug(
        "promotes-whoever-answers",
        8,
        "a standby is promoted that commits do not wait for",
        instead(Machine, "candidate", _whoever_answers),
        _with("streaming-stopped", "primary-killed", every_s=1.5, may_kill=True),
    ),
    Bug(
        "promotable-over-a-release",
        8,
        "a standby counts as holding everything when commits wait for it no more",
        _still_promotable,
        _with("failover-with-a-tail-lost", every_s=4.0, may_kill=True),
    ),
    Bug(
        "promoted-without-waiting",
        8,
        "a standby is promoted while the lease of an old primary that could not be ended may run",
        instead(Machine, "_stopped", _at_once),
        _with("supervisor-cut-off", "failover-asked-for", every_s=0.7, may_kill=False),
    ),
    Bug(
        "in-charge-though-set-back",
        8,
        "a primary whose clock was set back has its old lease for as long again",
        lambda: patch.object(statements, "is_in_charge", _in_charge_until),
        _with("halves-parted", "server-clock-stepped", every_s=1.5, may_kill=False),
    ),
)
