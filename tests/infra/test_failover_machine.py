"""Who is the primary: every step of a failover, by a clock that is turned by hand."""

from __future__ import annotations

import pytest

from infra.failover.following import STANDBY_GONE_S
from infra.failover.machine import LEASE_S, Machine, Refused
from infra.failover.silence import HUNG_S, PROBE_EVERY_S, SILENT_S
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
    Unleash,
    Unseen,
)


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
        values = {"in_recovery": False, "timeline": 1, "followed": True, "synchronous": True, "epoch": 1} | more
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


def test_a_primary_that_ends_is_replaced_step_by_step_and_comes_back_as_the_standby():
    shop = opened()
    assert shop.tell(Ended("pg-1")) == [KILL]
    assert shop.machine.phase is Phase.FENCING
    assert shop.tell(Done(KILL, dead=True)) == [Record("pg-2", None, 2), Promote("pg-2")]
    assert shop.tell(Done(Promote("pg-2"))) == [OPEN]
    assert shop.machine.primary == "pg-1"
    assert shop.tell(Done(OPEN)) == [Announce("pg-2"), Rejoin("pg-1", "pg-2")]
    assert shop.role() == ("pg-2", Phase.STEADY, None, False)
    assert shop.tell(Done(Rejoin("pg-1", "pg-2"))) == []
    assert shop.seen("pg-2", synchronous=False, epoch=2) == [Synchronise("pg-2", "pg-1")]
    assert shop.tell(Done(Synchronise("pg-2", "pg-1"))) == [Record("pg-2", "pg-1", 2)]
    assert shop.role() == ("pg-2", Phase.STEADY, "pg-1", True)
    shop.standing_by("pg-1")
    assert shop.tell(Ended("pg-2")) == [Stop("pg-2", kill=True)]


def test_a_silent_primary_is_lost_after_three_probes_in_a_row_and_no_sooner():
    shop = opened()
    shop.tick(10.0)
    shop.seen("pg-1")
    sent_at = shop.now
    for number in (1, 2, 3):
        shop.tick()
        sent = sent_at + number * PROBE_EVERY_S
        shop.now = sent + 1.0
        shop.machine.tick(shop.now)
        shop.standing_by()
        lost = shop.tell(Unseen("pg-1", sent, "no answer"))
        assert lost == ([KILL] if number == 3 else [])
        shop.now = sent
    assert "does not answer (it said: no answer)" in shop.said[-1]


def test_a_primary_that_refuses_at_once_has_as_long_as_a_silent_one():
    shop = opened()
    shop.seen("pg-1")
    began = shop.now
    steps: list[Step] = []
    while not steps:
        shop.tick()
        shop.standing_by()
        steps = shop.tell(Unseen("pg-1", shop.now, "it is recovering"))
    assert steps == [KILL]
    assert shop.now - began == SILENT_S


def test_an_answer_in_between_starts_the_count_anew():
    shop = opened()
    for _ in range(20):
        shop.tick()
        shop.tell(Unseen("pg-1", shop.now, "slow"))
        shop.tick()
        shop.tell(Unseen("pg-1", shop.now, "slow"))
        shop.tick()
        assert shop.seen("pg-1") == []


def test_whoever_was_asleep_itself_blames_nobody():
    shop = opened()
    shop.seen("pg-1")
    sent = [shop.now + PROBE_EVERY_S * number for number in range(1, 5)]
    shop.now += 30.0
    assert [shop.tell(Unseen("pg-1", each, "no answer")) for each in sent] == [[], [], [], []]
    assert shop.machine.phase is Phase.STEADY


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
    assert shop.tell(Done(OPEN)) == [Announce("pg-2")]
    assert shop.tick(30.0) == []
    shop.machine.arm()
    assert shop.tick() == [KILL]
    assert shop.tell(Done(KILL, dead=True)) == [Rejoin("pg-1", "pg-2")]


def test_without_a_standby_that_holds_everything_the_primary_itself_is_started_again():
    shop = opened(promotable=None)
    assert shop.tell(Ended("pg-1")) == []
    assert shop.tick(0.5) == [Start("pg-1")]
    assert shop.tell(Done(Start("pg-1"))) == []
    assert shop.machine.phase is Phase.STEADY
    assert "no standby may be promoted" in shop.said[-1]


def test_a_primary_that_cannot_be_started_gives_way_to_a_standby_that_comes_up_meanwhile():
    shop = opened(down=["pg-2"])
    shop.tell(Ended("pg-1"))
    assert shop.tick(0.5) == [Start("pg-1")]
    shop.tell(Done(Rejoin("pg-2", "pg-1")))
    shop.standing_by()
    assert shop.tell(Failed(Start("pg-1"), "its disk is gone")) == [KILL]


def test_a_silent_primary_without_a_standby_is_said_once_and_left_alone():
    shop = opened(promotable=None)
    assert shop.silent("pg-1", 20.0) == []
    assert len([said for said in shop.said if "--accept-loss" in said]) == 1


def test_a_standby_that_does_not_answer_is_not_promoted():
    shop = opened()
    shop.tick(3.0)
    assert shop.tell(Ended("pg-1")) == []
    assert shop.tick(0.5) == [Start("pg-1")]


def test_a_standby_that_is_gone_may_not_be_promoted_before_commits_stop_to_wait_for_it():
    shop = opened()
    steps: list[Step] = []
    for _ in range(round((STANDBY_GONE_S + 1) / PROBE_EVERY_S)):
        shop.tick()
        steps += shop.seen("pg-1", followed=False)
    assert steps == [Record("pg-1", None, 1), Release("pg-1")]
    assert shop.machine.promotable is None
    shop.tell(Done(Release("pg-1")))
    shop.tick()
    assert shop.seen("pg-1", synchronous=False) == [Synchronise("pg-1", "pg-2")]
    assert shop.machine.promotable is None
    shop.tell(Done(Synchronise("pg-1", "pg-2")))
    assert shop.machine.promotable == "pg-2"


def test_a_standby_that_comes_back_while_commits_are_told_not_to_wait_is_not_promotable_by_an_older_word():
    """It had caught up; then no commit waited for it; only then comes the word that it had."""
    shop = opened(promotable=None)
    wanted = Synchronise("pg-1", "pg-2")
    assert shop.seen("pg-1", synchronous=False) == [wanted]
    steps: list[Step] = []
    for _ in range(round((STANDBY_GONE_S + 1) / PROBE_EVERY_S)):
        shop.tick()
        steps += shop.seen("pg-1", followed=False)
    assert steps == [Release("pg-1")]
    assert shop.tell(Done(wanted)) == []
    assert shop.machine.promotable is None
    shop.tick()
    # Nor are commits told to wait while they are still being told not to.
    assert shop.seen("pg-1", synchronous=False) == []
    shop.tell(Done(Release("pg-1")))
    shop.tick()
    assert shop.seen("pg-1", synchronous=False) == [wanted]
    assert shop.tell(Done(wanted)) == [Record("pg-1", "pg-2", 1)]


def test_a_standby_that_is_gone_for_a_moment_stays_promotable():
    shop = opened()
    for _ in range(15):
        shop.tick()
        assert shop.seen("pg-1", followed=False) == []
    shop.tick()
    assert shop.seen("pg-1") == []
    assert shop.machine.promotable == "pg-2"


def test_what_was_seen_before_the_setting_changed_says_nothing_of_it():
    shop = opened(promotable=None)
    wanted = Synchronise("pg-1", "pg-2")
    assert shop.seen("pg-1", synchronous=False) == [wanted]
    sent_at = shop.now
    shop.tick()
    shop.tell(Done(wanted))
    assert shop.tell(Seen("pg-1", sent_at, in_recovery=False, followed=True, synchronous=False)) == []
    assert shop.machine.promotable == "pg-2"


def test_somebody_who_clears_the_setting_by_hand_is_noticed():
    shop = opened()
    shop.tick()
    assert shop.seen("pg-1", synchronous=False) == [Record("pg-1", None, 1), Synchronise("pg-1", "pg-2")]


def test_once_a_standby_is_being_promoted_nothing_leads_back():
    shop = opened()
    shop.tell(Ended("pg-1"))
    shop.tell(Done(KILL, dead=True))
    assert shop.tell(Failed(Promote("pg-2"), "it does not answer")) == []
    assert shop.tick(0.5) == [Promote("pg-2")]
    # The one that is being promoted ends: it is started, and promoted.
    assert shop.tell(Ended("pg-2")) == []
    assert shop.tell(Failed(Promote("pg-2"), "it does not answer")) == []
    assert shop.tick(0.5) == [Start("pg-2")]
    assert shop.tell(Done(Start("pg-2"))) == [Promote("pg-2")]


def test_a_promoted_primary_that_ends_before_it_is_open_is_opened_when_it_runs_again():
    shop = opened()
    shop.tell(Ended("pg-1"))
    shop.tell(Done(KILL, dead=True))
    shop.tell(Done(Promote("pg-2")))
    shop.tell(Ended("pg-2"))
    shop.tell(Failed(OPEN, "it does not answer"))
    assert shop.tick(0.5) == [Start("pg-2")]
    assert shop.tell(Done(Start("pg-2"))) == [OPEN]


def test_no_epoch_is_given_out_twice_even_if_nobody_knows_whether_it_was():
    shop = opened()
    shop.seen("pg-1", epoch=7)
    shop.tell(Ended("pg-1"))
    assert shop.tell(Done(KILL, dead=True))[0] == Record("pg-2", None, 8)
    assert shop.tell(Done(Promote("pg-2"))) == [Open("pg-2", above=7, lease=True)]
    # The next run of the supervisor knows of 8 by the record alone.
    again = Machine(["pg-1", "pg-2"], "pg-2", None, 0.0, epoch=8)
    assert again.epoch == 8


def test_a_server_that_was_stopped_on_purpose_is_replaced_and_stays_away_until_it_may_run():
    shop = opened()
    shop.tell(Held("pg-1"))
    shop.tell(Ended("pg-1"))
    shop.tell(Done(KILL, dead=True))
    shop.tell(Done(Promote("pg-2")))
    assert shop.tell(Done(OPEN)) == [Announce("pg-2")]
    assert shop.tick(30.0) == []
    assert shop.tell(Freed("pg-1")) == [Rejoin("pg-1", "pg-2")]


def test_a_standby_that_keeps_ending_is_started_with_longer_and_longer_pauses():
    shop = opened()
    pauses = []
    for _ in range(5):
        shop.tell(Ended("pg-2"))
        began = shop.now
        while not (steps := shop.tick()):
            pass
        assert steps == [Rejoin("pg-2", "pg-1")]
        pauses.append(shop.now - began)
        shop.tell(Done(Rejoin("pg-2", "pg-1")))
    assert pauses == sorted(pauses)
    assert pauses[-1] >= 5.0
    shop.tick(60.0)
    shop.tell(Ended("pg-2"))
    assert shop.tick() == [Rejoin("pg-2", "pg-1")]


def test_the_primary_is_handed_over_in_good_order_when_somebody_asks():
    shop = opened()
    orderly = Stop("pg-1", kill=True, orderly=True)
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
    assert shop.take(shop.machine.ask(None, shop.now, accept_loss=True)) == [Stop("pg-1", kill=True, orderly=True)]


def test_a_second_failover_waits_for_the_end_of_the_first():
    shop = opened()
    shop.machine.ask(None, shop.now)
    with pytest.raises(Refused, match="fencing"):
        shop.machine.ask(None, shop.now)


def test_without_the_lease_the_old_primary_is_let_loose_and_the_new_one_as_well():
    shop = opened()
    assert shop.machine.disarm(Fence.LEASE) == [Unleash("pg-1")]
    shop.machine.disarm(Fence.KILL)
    steps = shop.silent("pg-1", 4.0)
    assert steps == [Stop("pg-1", kill=False)]
    # Nothing to wait for: what is left is that its commits wait for a standby that follows it no more.
    assert shop.tell(Done(Stop("pg-1", kill=False), dead=False)) == [Record("pg-2", None, 2), Promote("pg-2")]
    assert shop.tell(Done(Promote("pg-2"))) == [Open("pg-2", above=1, lease=False)]


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


# --- servers that hang ---


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


# --- both at once ---


def test_both_end_at_once_the_primary_first():
    shop = opened()
    assert shop.tell(Ended("pg-1")) == [KILL]
    assert shop.tell(Ended("pg-2")) == []
    assert shop.tell(Done(KILL, dead=True)) == [Record("pg-2", None, 2), Promote("pg-2")]
    assert shop.tell(Failed(Promote("pg-2"), "connection refused")) == []
    assert shop.tick(0.5) == [Start("pg-2")]
    assert shop.tell(Done(Start("pg-2"))) == [Promote("pg-2")]


def test_both_end_at_once_the_standby_first():
    shop = opened()
    assert shop.tell(Ended("pg-2")) == []
    assert shop.tell(Ended("pg-1")) == []
    assert shop.tick(0.5) == [Rejoin("pg-2", "pg-1"), Start("pg-1")]
    shop.tell(Done(Start("pg-1")))
    shop.tell(Done(Rejoin("pg-2", "pg-1")))
    assert shop.role() == ("pg-1", Phase.STEADY, "pg-2", True)


def test_nothing_is_handed_over_to_a_server_that_is_being_rewound():
    shop = opened()
    shop.tell(Ended("pg-1"))
    shop.tell(Done(KILL, dead=True))
    shop.tell(Done(Promote("pg-2")))
    assert shop.tell(Done(OPEN)) == [Announce("pg-2"), Rejoin("pg-1", "pg-2")]
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


# --- servers of others ---


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
