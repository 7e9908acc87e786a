"""What keeps an old primary from going on, and what is done without it."""

from __future__ import annotations

from infra.failover.machine import LEASE_S
from infra.failover.silence import PROBE_EVERY_S
from infra.failover.steps import (
    Announce,
    Done,
    Ended,
    Failed,
    Fence,
    Open,
    Phase,
    Probe,
    Promote,
    Record,
    Rejoin,
    Release,
    Seen,
    Step,
    Stop,
    Synchronise,
    Unleash,
)
from tests.support.failover_machine import KILL, OPEN, opened


def test_a_primary_that_could_not_be_ended_is_outlived_by_nobody_s_lease():
    shop = opened()
    shop.machine.disarm(Fence.KILL)
    shop.tick(1.0)
    shop.seen("pg-1")
    stop = Stop("pg-1", kill=False)
    steps = shop.silent("pg-1", 3.0)
    assert steps == [stop]
    assert shop.tell(Done(stop, dead=False)) == []
    assert shop.machine.phase is Phase.WAITING
    waited = 0.0
    while not (steps := shop.tick()):
        waited += PROBE_EVERY_S
    assert steps == [Record("pg-2", None, 2), Promote("pg-2")]
    assert waited <= LEASE_S * 1.01
    # Not sooner than a lease after the last renewal could have been sent: that was when the machine was last steady.
    move = shop.machine.moves[-1]
    assert move.fenced_at is not None
    assert move.fenced_at - move.lost_at >= LEASE_S - 0.5


def test_the_lease_is_renewed_twice_a_second_by_whoever_is_steady_and_by_nobody_else():
    shop = opened()

    def renewals(seconds: float) -> int:
        steps: list[Step] = []
        for _ in range(round(seconds / PROBE_EVERY_S)):
            shop.now += PROBE_EVERY_S
            steps += shop.machine.tick(shop.now)
        return sum(isinstance(step, Probe) and step.renew for step in steps)

    assert renewals(10.0) == 20
    shop.tell(Ended("pg-1"))
    assert renewals(10.0) == 0


def test_an_old_primary_that_still_runs_is_ended_and_rejoins_once_that_fence_is_armed_again():
    shop = opened()
    shop.machine.disarm(Fence.KILL)
    shop.silent("pg-1", 4.0)
    shop.tell(Done(Stop("pg-1", kill=False), dead=False))
    shop.tick(3.0)
    shop.tell(Done(Promote("pg-2")))
    assert shop.tell(Done(OPEN)) == [Record("pg-2", None, 2), Announce("pg-2")]
    assert shop.tick(30.0) == []
    shop.machine.arm()
    assert shop.tick() == [KILL]
    assert shop.tell(Done(KILL, dead=True)) == [Rejoin("pg-1", "pg-2")]


def test_without_the_lease_the_old_primary_is_let_loose_and_the_new_one_as_well():
    shop = opened()
    assert shop.machine.disarm(Fence.LEASE) == [Unleash("pg-1")]
    shop.machine.disarm(Fence.KILL)
    steps = shop.silent("pg-1", 4.0)
    assert steps == [Stop("pg-1", kill=False)]
    # Nothing to wait for: what is left is that its commits wait for a standby that follows it no more.
    assert shop.tell(Done(Stop("pg-1", kill=False), dead=False)) == [Record("pg-2", None, 2), Promote("pg-2")]
    assert shop.tell(Done(Promote("pg-2"))) == [Open("pg-2", above=1, lease=False)]


def test_a_lease_that_was_disarmed_while_the_new_primary_was_opened_with_one_is_taken_from_it():
    shop = opened()
    shop.tell(Ended("pg-1"))
    shop.tell(Done(KILL, dead=True))
    assert shop.tell(Done(Promote("pg-2"))) == [OPEN]
    shop.machine.disarm(Fence.LEASE)
    assert shop.tell(Done(OPEN))[0] == Unleash("pg-2")


def test_without_synchronous_commits_whoever_follows_may_be_promoted():
    shop = opened()
    shop.machine.disarm(Fence.SYNC)
    shop.tick()
    assert shop.seen("pg-1") == [Release("pg-1")]
    shop.tell(Done(Release("pg-1")))
    assert shop.machine.promotable == "pg-2"
    assert shop.machine.arm() == [Record("pg-1", None, 1)]
    shop.tick()
    assert shop.seen("pg-1", synchronous=False) == [Synchronise("pg-1", "pg-2")]


def test_trouble_with_the_lease_is_said_once_until_it_is_over():
    shop = opened()
    for _ in range(3):
        shop.tick()
        shop.seen("pg-1", trouble="the disk is full")
        shop.tick()
        shop.seen("pg-1")
    assert [said for said in shop.said if "disk is full" in said] == [
        "pg-1 answers, but its lease cannot be renewed: the disk is full"
    ]
    shop.seen("pg-1", renewed=True)
    shop.seen("pg-1", trouble="the disk is full")
    assert len([said for said in shop.said if "disk is full" in said]) == 2


def test_fences_that_are_armed_while_another_is_promoted_do_not_lead_back_to_the_old_primary():
    shop = opened()
    shop.machine.disarm(Fence.SYNC)
    shop.tell(Ended("pg-1"))
    assert shop.tell(Done(KILL, dead=True)) == [Record("pg-2", None, 2), Promote("pg-2")]
    assert shop.machine.arm() == [Record("pg-2", None, 2)]
    shop.tell(Done(Promote("pg-2")))
    shop.machine.disarm(Fence.SYNC)
    assert shop.machine.arm() == [Record("pg-2", None, 2)]
    assert shop.tell(Done(OPEN))[0] == Record("pg-2", None, 2)


def test_a_primary_that_was_let_loose_is_waited_for_until_a_lease_of_it_was_renewed():
    """Until then there is none that could run out."""
    shop = opened()
    shop.machine.disarm(Fence.LEASE)
    sent_at = shop.now
    shop.tick()
    shop.tell(Done(Unleash("pg-1")))
    shop.machine.arm()
    shop.tick()
    # Renewed before it was let loose, and heard of only now.
    shop.tell(Seen("pg-1", sent_at, in_recovery=False, timeline=1, renewed=True))
    assert shop.silent("pg-1", 4.0) == [KILL]
    assert shop.tell(Failed(KILL, "its machine cannot be reached")) == []
    assert shop.tick(2 * LEASE_S) == []
    assert shop.machine.phase is Phase.WAITING
    shop.tell(Ended("pg-1"))
    assert shop.tell(Done(KILL, dead=True)) == [Record("pg-2", None, 2), Promote("pg-2")]


def test_a_primary_that_was_let_loose_and_has_a_lease_again_is_outlived():
    shop = opened()
    shop.machine.disarm(Fence.LEASE)
    shop.tell(Done(Unleash("pg-1")))
    shop.machine.arm()
    shop.tick()
    shop.seen("pg-1", renewed=True)
    assert shop.silent("pg-1", 4.0) == [KILL]
    shop.tell(Failed(KILL, "its machine cannot be reached"))
    assert shop.tick(LEASE_S + 0.5) == [Record("pg-2", None, 2), Promote("pg-2")]
