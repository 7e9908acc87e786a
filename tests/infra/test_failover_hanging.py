"""Servers that hang are ended, and nobody else."""

from __future__ import annotations

import pytest

from infra.failover.silence import HUNG_S, PROBE_EVERY_S
from infra.failover.steps import Done, Ended, Failed, Fence, Promote, Rejoin, Start, Step, Stop, Unseen
from tests.support.failover_machine import KILL, Shop, opened


def hang(shop: Shop, node: str, seconds: float, *, silent: bool = True) -> list[Step]:
    """Every probe of `node` is in vain for so long, and the others answer."""
    steps: list[Step] = []
    for _ in range(round(seconds / PROBE_EVERY_S)):
        steps += shop.tick()
        for other in shop.machine.nodes:
            if other != node and other not in shop.machine.down:
                steps += shop.seen(other, in_recovery=other != shop.machine.primary)
        steps += shop.tell(Unseen(node, shop.now - 1.0, "no answer", silent=silent))
    return steps


@pytest.mark.parametrize("promotable", ["pg-2", None])
def test_a_standby_that_hangs_is_ended_and_rejoins(promotable):
    shop = opened(promotable=promotable)
    if promotable is None:
        shop.seen("pg-1", followed=False, synchronous=False)
    stop = Stop("pg-2", kill=True)
    steps = hang(shop, "pg-2", HUNG_S + 1.0)
    assert steps.count(stop) == 1
    assert shop.said[-1] == "pg-2 has said nothing for 30 s: it is ended, and started again"
    assert shop.tell(Done(stop, dead=True)) == [Rejoin("pg-2", "pg-1")]


def test_a_primary_that_hangs_without_a_standby_is_ended_and_started_again():
    shop = opened(promotable=None)
    stop = Stop("pg-1", kill=True)
    assert hang(shop, "pg-1", HUNG_S - 1.0) == []
    assert hang(shop, "pg-1", 2.0) == [stop]
    assert shop.tell(Ended("pg-1")) == []
    assert shop.tell(Done(stop, dead=True)) == []
    assert shop.tick(0.5) == [Start("pg-1")]


def test_one_that_is_being_promoted_and_hangs_is_ended_and_promoted_again():
    shop = opened()
    shop.tell(Ended("pg-1"))
    shop.tell(Done(KILL, dead=True))
    stop = Stop("pg-2", kill=True)
    assert hang(shop, "pg-2", HUNG_S + 1.0) == [stop]
    assert shop.tell(Failed(Promote("pg-2"), "the connection was closed")) == []
    assert shop.tell(Done(stop, dead=True)) == [Start("pg-2")]
    shop.tell(Done(Start("pg-2")))
    assert shop.tick(0.5) == [Promote("pg-2")]


def test_whoever_refuses_does_not_hang():
    """A server that recovers says so to whoever asks, for as long as it takes."""
    assert hang(opened(), "pg-2", 3 * HUNG_S, silent=False) == []


def test_a_server_that_hangs_is_left_alone_where_that_fence_is_disarmed():
    shop = opened()
    shop.machine.disarm(Fence.KILL)
    assert hang(shop, "pg-2", 3 * HUNG_S) == []
