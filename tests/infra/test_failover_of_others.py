"""Servers of others, whose processes are not ours to end: who is promoted, and when nobody is."""

from __future__ import annotations

import pytest

from infra.failover.machine import LEASE_S, Machine, Refused
from infra.failover.steps import Done, Open, Phase, Promote, Record, Stop
from tests.support.failover_machine import OPEN, Shop, opened


def others(automatic: bool = False) -> Shop:
    return opened(promotable=None, keeps=False, automatic=automatic)


def test_servers_of_others_are_not_replaced_unasked():
    shop = others()
    shop.seen("pg-2", in_recovery=True, received=5)
    assert shop.silent("pg-1", 10.0) == []
    assert shop.machine.phase is Phase.STEADY
    assert "`nearshelf failover` promotes a standby" in shop.said[-1]


def test_the_standby_of_others_that_is_furthest_is_promoted_once_the_lease_is_over():
    shop = Shop(Machine(["a", "b", "c"], "a", None, 100.0, keeps=False))
    shop.take(shop.machine.start())
    shop.tell(Done(Open("a", above=0, lease=True)))
    shop.tick()
    shop.seen("b", in_recovery=True, received=5)
    shop.seen("c", in_recovery=True, received=6)
    with pytest.raises(Refused, match="b may lack changes"):
        shop.machine.ask("b", shop.now)
    stop = Stop("a", kill=False, orderly=True)
    assert shop.take(shop.machine.ask("c", shop.now)) == [stop]
    shop.tell(Done(stop, dead=False))
    assert shop.machine.phase is Phase.WAITING
    assert shop.tick(LEASE_S + 0.5) == [Record("c", None, 1), Promote("c")]


def test_an_old_primary_of_others_that_still_runs_is_not_taken_for_a_new_one():
    shop = others()
    shop.tick()
    shop.seen("pg-1", timeline=3)
    shop.standing_by()
    stop = Stop("pg-1", kill=False, orderly=True)
    assert shop.take(shop.machine.ask(None, shop.now)) == [stop]
    shop.tell(Done(stop))
    shop.tick(LEASE_S + 0.5)
    shop.tell(Done(Promote("pg-2")))
    shop.tell(Done(OPEN))
    assert shop.machine.primary == "pg-2"
    assert shop.seen("pg-1", timeline=3) == []
    shop.seen("pg-2", timeline=4)
    assert shop.seen("pg-1", timeline=3) == []
    assert len(shop.machine.moves) == 1


def test_a_server_that_somebody_else_promoted_is_put_in_charge_when_the_lease_of_the_old_one_is_over():
    shop = others()
    shop.tick()
    shop.seen("pg-1", timeline=1)
    assert shop.seen("pg-2", timeline=2) == []
    assert shop.machine.phase is Phase.WAITING
    steps = shop.tick(LEASE_S + 0.5)
    assert steps == [Record("pg-2", None, 2), Open("pg-2", above=1, lease=True)]
    shop.tell(Done(Open("pg-2", above=1, lease=True)))
    assert shop.machine.primary == "pg-2"


def test_a_supervisor_that_slept_promotes_no_server_of_others_unasked():
    """Another one may have taken over."""
    shop = others(automatic=True)
    shop.tick()
    shop.seen("pg-1", renewed=True)
    shop.now += 30.0
    assert shop.silent("pg-1", 5.0) == []
    assert "`nearshelf failover` promotes a standby" in shop.said[-1]
    assert shop.machine.ask(None, shop.now)


def test_a_supervisor_that_was_ousted_promotes_nobody_even_when_asked():
    shop = others(automatic=True)
    shop.tick()
    shop.seen("pg-1", trouble="the supervisor b/1 has this server in charge", ousted=True)
    shop.standing_by()
    with pytest.raises(Refused, match="another supervisor has pg-1 in charge"):
        shop.machine.ask(None, shop.now)
    assert shop.silent("pg-1", 5.0) == []
    shop.seen("pg-1", renewed=True)
    shop.standing_by()
    assert shop.silent("pg-1", 5.0) == [Stop("pg-1", kill=False)]
