"""The primary is handed over because somebody asks, or not, and why."""

from __future__ import annotations

import pytest

from infra.failover.machine import Refused
from infra.failover.steps import Announce, Done, Ended, Failed, Phase, Promote, Record, Rejoin, Start, Stop
from tests.support.failover_machine import KILL, OPEN, opened


def test_the_primary_is_handed_over_in_good_order_when_somebody_asks():
    shop = opened()
    orderly = Stop("pg-1", kill=True, heir="pg-2")
    assert shop.take(shop.machine.ask(None, shop.now)) == [orderly]
    shop.tell(Ended("pg-1"))
    assert shop.tell(Done(orderly, dead=True)) == [Record("pg-2", None, 2), Promote("pg-2")]


@pytest.mark.parametrize(
    ("to", "promotable", "why"),
    [
        ("pg-1", "pg-2", "is the primary already"),
        ("pg-9", "pg-2", "there are pg-1, pg-2"),
        ("pg-2", None, "--accept-loss"),
        (None, None, "--accept-loss"),
    ],
)
def test_a_failover_that_makes_no_sense_or_would_lose_changes_is_refused(to, promotable, why):
    shop = opened(promotable=promotable)
    with pytest.raises(Refused, match=why):
        shop.machine.ask(to, shop.now)
    assert shop.machine.phase is Phase.STEADY


def test_whoever_accepts_the_loss_gets_the_standby_there_is():
    shop = opened(promotable=None)
    assert shop.take(shop.machine.ask(None, shop.now, accept_loss=True)) == [Stop("pg-1", kill=True, heir="pg-2")]


def test_a_second_failover_waits_for_the_end_of_the_first():
    shop = opened()
    shop.machine.ask(None, shop.now)
    with pytest.raises(Refused, match="fencing"):
        shop.machine.ask(None, shop.now)


def test_nothing_is_handed_over_to_a_server_that_is_being_rewound():
    shop = opened()
    shop.tell(Ended("pg-1"))
    shop.tell(Done(KILL, dead=True))
    shop.tell(Done(Promote("pg-2")))
    assert shop.tell(Done(OPEN)) == [Record("pg-2", None, 2), Announce("pg-2"), Rejoin("pg-1", "pg-2")]
    for accept_loss in (False, True):
        with pytest.raises(Refused, match="does not answer"):
            shop.machine.ask(None, shop.now, accept_loss=accept_loss)
    # The new primary is lost meanwhile: there is nobody else.
    assert shop.tell(Ended("pg-2")) == []
    assert shop.tick(0.5) == [Start("pg-2")]
    assert shop.tell(Failed(Rejoin("pg-1", "pg-2"), "no primary")) == []
    assert shop.tick(0.5) == [Rejoin("pg-1", "pg-2")]


def test_a_standby_that_is_silent_is_promoted_by_nobody_who_accepts_the_loss_either():
    shop = opened(promotable=None)
    shop.tick(3.0)
    with pytest.raises(Refused, match="pg-2 that could be promoted does not answer"):
        shop.machine.ask("pg-2", shop.now, accept_loss=True)


def test_when_nobody_is_replaced_unasked_a_lost_primary_is_started_again():
    shop = opened(automatic=False)
    assert shop.tell(Ended("pg-1")) == []
    assert "nobody is promoted unasked" in shop.said[-1]
    assert shop.tick(0.5) == [Start("pg-1")]
    # Asked for while that is tried: what starts it is stopped first.
    assert shop.take(shop.machine.ask(None, shop.now)) == [KILL]
    assert shop.tell(Failed(Start("pg-1"), "it was stopped meanwhile")) == []
    assert shop.tell(Done(KILL, dead=True)) == [Record("pg-2", None, 2), Promote("pg-2")]
