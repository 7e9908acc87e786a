"""Who is the primary: every step of a failover, by a clock that is turned by hand."""

from __future__ import annotations

from infra.failover.following import STANDBY_GONE_S
from infra.failover.machine import Machine
from infra.failover.silence import PROBE_EVERY_S, SILENT_S
from infra.failover.steps import (
    Announce,
    Done,
    Ended,
    Failed,
    Freed,
    Held,
    Open,
    Phase,
    Promote,
    Record,
    Rejoin,
    Release,
    Seen,
    Start,
    Step,
    Stop,
    Synchronise,
    Unseen,
)
from tests.support.failover_machine import KILL, OPEN, opened


def test_a_primary_that_ends_is_replaced_step_by_step_and_comes_back_as_the_standby():
    shop = opened()
    assert shop.tell(Ended("pg-1")) == [KILL]
    assert shop.machine.phase is Phase.FENCING
    assert shop.tell(Done(KILL, dead=True)) == [Record("pg-2", None, 2), Promote("pg-2")]
    assert shop.tell(Done(Promote("pg-2"))) == [OPEN]
    assert shop.machine.primary == "pg-1"
    assert shop.tell(Done(OPEN)) == [Record("pg-2", None, 2), Announce("pg-2"), Rejoin("pg-1", "pg-2")]
    assert shop.role() == ("pg-2", Phase.STEADY, None, False)
    # Whoever reads of a standby may go there.
    assert shop.tell(Done(Rejoin("pg-1", "pg-2"))) == [Announce("pg-2")]
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


def test_a_standby_is_not_promotable_by_a_word_that_was_under_way_before_commits_were_told_not_to_wait():
    """It is wanted again meanwhile, which changes nothing of what is under way."""
    shop = opened(promotable=None)
    wanted = Synchronise("pg-1", "pg-2")
    assert shop.seen("pg-1", synchronous=False) == [wanted]
    steps: list[Step] = []
    for _ in range(round((STANDBY_GONE_S + 1) / PROBE_EVERY_S)):
        shop.tick()
        steps += shop.seen("pg-1", followed=False)
    assert steps == [Release("pg-1")]
    shop.tell(Done(Release("pg-1")))
    shop.tick()
    assert shop.seen("pg-1", synchronous=False) == []
    assert shop.tell(Done(wanted)) == []
    assert shop.machine.promotable is None
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
    assert shop.tell(Done(OPEN)) == [Record("pg-2", None, 2), Announce("pg-2")]
    assert shop.tick(30.0) == []
    assert shop.tell(Freed("pg-1")) == [Rejoin("pg-1", "pg-2")]


def test_an_old_primary_that_may_run_again_waits_until_the_new_one_is_open():
    """What only the old one has cannot be told from what the new one has before that has begun its epoch."""
    shop = opened()
    shop.tell(Held("pg-1"))
    shop.tell(Ended("pg-1"))
    assert shop.tell(Freed("pg-1")) == []
    shop.tell(Done(KILL, dead=True))
    assert shop.tell(Freed("pg-1")) == []
    shop.tell(Done(Promote("pg-2")))
    assert shop.tell(Freed("pg-1")) == []
    assert shop.tick(5.0) == []
    assert shop.tell(Done(OPEN)) == [Record("pg-2", None, 2), Announce("pg-2"), Rejoin("pg-1", "pg-2")]


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


def test_why_an_ended_standby_cannot_follow_is_said_whenever_it_begins_and_not_at_every_attempt():
    shop = opened()
    rejoin = Rejoin("pg-2", "pg-1")
    words = "failed, trying again: no room"
    for times in (1, 2):
        shop.tell(Ended("pg-2"))
        for _ in range(3):
            while shop.tick() != [rejoin]:
                pass
            shop.tell(Failed(rejoin, "no room"))
            assert sum(words in said for said in shop.said) == times
        while shop.tick() != [rejoin]:
            pass
        shop.tell(Done(rejoin))


def test_why_a_lost_primary_cannot_be_started_is_said():
    shop = opened(promotable=None)
    shop.tell(Ended("pg-1"))
    assert shop.tick(0.5) == [Start("pg-1")]
    assert shop.tell(Failed(Start("pg-1"), "its disk is gone")) == []
    assert "its disk is gone" in shop.said[-1]


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
