"""How a mistake is put into the real code, for as long as it is looked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

from edge.core.floors import Verdict
from tests.simulation.plan import Plan, url_of
from tests.simulation.shop import Lifetimes

Plant = Callable[[], AbstractContextManager[object]]


@dataclass(frozen=True, slots=True)
class Bug:
    """A mistake that somebody could make."""

    name: str
    rule: int
    """Of docs/freshness.md, which it breaks."""
    what: str
    """What is wrong, in a sentence."""
    plant: Plant
    tune: Callable[[Plan], Plan] = lambda plan: plan
    """The worlds in which it is looked for: those where it can do harm."""
    mended_after_s: float | None = None
    """When everything is mended there, for what shows only then; None: never."""


def instead(owner: object, name: str, make: Callable[[Any], Any]) -> Plant:
    """`owner.name` becomes what `make` makes of it."""
    return lambda: patch.object(owner, name, make(getattr(owner, name)))


def struck_by(*strikes: str, every_s: float = 0.6, **plan: Any) -> Callable[[Plan], Plan]:
    """Worlds in which these faults strike, and no others; `plan` says what else of them is not left to chance."""
    return lambda drawn: replace(drawn, strikes=strikes, strike_every_s=every_s, **plan)


def failing_over(drawn: Plan) -> Plan:
    """Worlds in which primaries are lost, some with a tail, and others take their places."""
    tuned = struck_by(
        "failover-with-a-tail-lost",
        "failover-asked-for",
        every_s=4.0,
        supervised=True,
        may_kill=True,
        change_every_s=0.7,
    )(drawn)
    two = tuned.servers[:2]
    replicas = (url_of(*two, role="standby"),)
    origin = replace(
        tuned.origin,
        primary_url=url_of(*two),
        replica_urls=replicas,
        standbys=(),
        lifetimes=Lifetimes(60, 30, 60),
    )
    edge = replace(tuned.edge, store_bytes=10_000_000, max_floors=1_000)
    return replace(tuned, servers=two, origin=origin, edge=edge)


def blind(owner: type) -> Plant:
    """Whatever `owner` holds against its floors passes."""

    @contextmanager
    def planted() -> Iterator[None]:
        made = vars(owner)["__init__"]

        def make(self: Any, *args: Any, **named: Any) -> None:
            made(self, *args, **named)
            self._floors = BlindFloors(self._floors)

        with patch.object(owner, "__init__", make):
            yield

    return planted


class BlindFloors:
    """Floors by which nothing is purged."""

    def __init__(self, floors: Any) -> None:
        self._floors = floors

    def __getattr__(self, name: str) -> Any:
        return getattr(self._floors, name)

    def judge(self, labelled: object) -> Any:
        return Verdict.CURRENT

    judge_answer = judge


def named(bugs: Sequence[Bug]) -> dict[str, Bug]:
    """By their names, each of which there is once."""
    found = {bug.name: bug for bug in bugs}
    assert len(found) == len(bugs), "two planted bugs have the same name"
    return found
