"""Servers of others, whose processes are not ours to end: who is promoted, and when nobody is."""

from __future__ import annotations

import pytest

from infra.failover.machine import LEASE_S, Machine, Refused
from infra.failover.silence import PROBE_EVERY_S
from infra.failover.steps import Done, Failed, Open, Phase, Promote, Record, Step, Stop, TakeBack, Unseen
from tests.support.failover_machine import OPEN, Shop, opened


def others(automatic: bool = False, named: tuple[str, ...] = ("standby1",)) -> Shop:
    return opened(promotable=None, keeps=False, automatic=automatic, named=named)


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
    stop = Stop("a", kill=False, heir="c")
    assert shop.take(shop.machine.ask("c", shop.now)) == [stop]
    shop.tell(Done(stop, dead=False))
    assert shop.machine.phase is Phase.WAITING
    assert shop.tick(LEASE_S + 0.5) == [Record("c", None, 1), Promote("c")]


def test_an_old_primary_of_others_that_still_runs_is_not_taken_for_a_new_one():
    shop = others()
    shop.tick()
    shop.seen("pg-1", timeline=3)
    shop.seen("pg-2", in_recovery=True, timeline=3)
    stop = Stop("pg-1", kill=False, heir="pg-2")
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


# --- promoted by somebody else while another one was to be promoted ---


def promoted_by_somebody_else(shop: Shop, timeline: int) -> None:
    """`c` was, and is put in charge as soon as whatever the last target got as a lease is over."""
    epoch = shop.machine.epoch
    assert shop.seen("c", timeline=timeline) == []
    assert (shop.machine.phase, shop.machine.target) == (Phase.WAITING, "c")
    assert shop.tick(LEASE_S - 0.5) == []
    opening = Open("c", above=epoch, lease=True)
    assert shop.tick(1.0) == [Record("c", None, epoch + 1), opening]
    shop.tell(Done(opening))
    assert shop.role()[:2] == ("c", Phase.STEADY)


def test_a_server_that_was_promoted_after_the_one_that_was_adopted_is_adopted_instead():
    """The first may be gone for good."""
    shop = three()
    shop.seen("b", timeline=2)
    (_, opening) = shop.tick(LEASE_S + 0.5)
    # While it is being opened, nobody else is.
    assert shop.seen("c", timeline=3) == []
    assert shop.machine.target == "b"
    shop.tell(Failed(opening, "connection refused"))
    # Nor one whose history is not the newer one.
    assert shop.seen("c", timeline=2) == []
    assert (shop.machine.phase, shop.machine.target) == (Phase.OPENING, "b")
    promoted_by_somebody_else(shop, timeline=3)


def test_a_server_that_was_promoted_instead_of_the_one_that_we_wait_to_promote_is_adopted():
    shop = three(automatic=True)
    stop = Stop("a", kill=False)
    assert falls_silent(shop, b=50, c=50) == [stop]
    assert shop.seen("c", timeline=2) == []  # the old one is still being told to take no more
    assert shop.machine.target == "b"
    shop.tell(Done(stop))
    promoted_by_somebody_else(shop, timeline=2)
    assert shop.machine.moves[0].given_up == "c was promoted by somebody else"


def test_a_server_that_was_promoted_instead_of_one_whose_promotion_fails_is_adopted():
    shop = three(automatic=True)
    stop = Stop("a", kill=False)
    falls_silent(shop, b=50, c=50)
    shop.tell(Done(stop))
    until_fenced(shop)
    stand_by(shop, b=50, c=50)
    assert shop.tick() == [Record("b", None, 2), Promote("b")]
    assert shop.seen("c", timeline=3) == []
    assert shop.machine.target == "b", "it is just being promoted"
    shop.tell(Failed(Promote("b"), "connection refused"))
    # That may be what `b` writes as well.
    assert shop.seen("c", timeline=2) == []
    assert shop.machine.target == "b"
    # It is what `b` writes, if somebody was quicker than we were.
    assert shop.seen("b", timeline=3) == []
    assert shop.seen("c", timeline=3) == []
    assert shop.machine.target == "b"
    promoted_by_somebody_else(shop, timeline=4)


def test_an_old_primary_of_which_nothing_was_known_is_not_taken_for_a_newer_one():
    """Which timeline the new one writes is known only from what the old one was seen to write."""
    shop = three(automatic=True)
    shop.machine._timeline = 0  # not one probe came through before it was lost
    stop = Stop("a", kill=False)
    falls_silent(shop, b=50, c=50)
    shop.tell(Done(stop))
    until_fenced(shop)
    stand_by(shop, b=50, c=50)
    assert shop.tick() == [Record("b", None, 2), Promote("b")]
    shop.tell(Done(Promote("b")))
    shop.tell(Done(Open("b", above=1, lease=True)))
    assert shop.seen("a", timeline=4) == []
    assert shop.role()[:2] == ("b", Phase.STEADY)


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


# --- standbys of another history ---


def test_an_old_primary_that_was_started_as_a_standby_and_receives_nothing_is_not_promoted():
    """How far it has come is no measure: that was in a history which has ended."""
    shop = others(automatic=True)
    shop.tick()
    shop.seen("pg-1", timeline=2, renewed=True)
    shop.seen("pg-2", in_recovery=True, timeline=0, received=900)
    with pytest.raises(Refused, match="pg-2 may lack changes"):
        shop.machine.ask(None, shop.now)
    assert shop.silent("pg-1", 4.0) == []
    assert "no standby may be promoted without losing changes" in shop.said[-1]


def test_a_standby_that_received_the_history_of_the_primary_may_be_promoted_when_it_receives_no_more():
    shop = others(automatic=True)
    shop.tick()
    shop.seen("pg-1", timeline=2, renewed=True)
    shop.seen("pg-2", in_recovery=True, timeline=1, received=900)
    shop.seen("pg-2", in_recovery=True, timeline=2, received=901)
    steps: list[Step] = []
    for _ in range(round(4.0 / PROBE_EVERY_S)):
        steps += shop.tick()
        shop.seen("pg-2", in_recovery=True, timeline=0, received=901)
        steps += shop.tell(Unseen("pg-1", shop.now - 1.0, "no answer"))
    assert steps == [Stop("pg-1", kill=False)]


def test_given_up_changes_are_those_of_the_standby_that_lacks_least():
    shop = Shop(Machine(["a", "b", "c"], "a", None, 100.0, keeps=False))
    shop.take(shop.machine.start())
    shop.tell(Done(Open("a", above=0, lease=True)))
    shop.tick()
    shop.seen("a", timeline=2, renewed=True)
    shop.seen("b", in_recovery=True, timeline=0, received=900)
    shop.seen("c", in_recovery=True, timeline=2, received=5)
    assert shop.take(shop.machine.ask(None, shop.now, accept_loss=True)) == [Stop("a", kill=False, heir="c")]


# --- several standbys, of which not all are as far ---


def three(*, automatic: bool = False, named: tuple[str, ...] = ("of-b", "of-c")) -> Shop:
    """`a` is in charge."""
    shop = Shop(Machine(["a", "b", "c"], "a", None, 100.0, keeps=False, automatic=automatic, named=named))
    shop.take(shop.machine.start())
    shop.tell(Done(Open("a", above=0, lease=True)))
    shop.tick()
    shop.seen("a", renewed=True)
    return shop


def falls_silent(shop: Shop, *, b: int | None, c: int | None) -> list[Step]:
    """`a` does; the standbys answer with how far they are, or do not."""
    steps: list[Step] = []
    for _ in range(round(4.0 / PROBE_EVERY_S)):
        steps += shop.tick()
        stand_by(shop, b=b, c=c)
        steps += shop.tell(Unseen("a", shop.now - 1.0, "no answer"))
    return steps


def stand_by(shop: Shop, *, b: int | None, c: int | None) -> None:
    for node, received in (("b", b), ("c", c)):
        if received is not None:
            shop.seen(node, in_recovery=True, received=received, name=f"of-{node}")


def until_fenced(shop: Shop) -> None:
    """The standbys answer up to then, and are as far as they were."""
    while shop.machine.moves[-1].fenced_at is None:
        assert shop.tick() == []
        if shop.machine.moves[-1].fenced_at is None:
            stand_by(shop, b=50, c=50)


def test_the_standby_of_others_that_is_furthest_when_the_old_primary_is_fenced_is_promoted():
    """While its lease ran out the old one went on, and another one got what it acknowledged."""
    shop = three(automatic=True)
    stop = Stop("a", kill=False)
    assert falls_silent(shop, b=50, c=50) == [stop]
    assert shop.machine.target == "b"
    shop.tell(Done(stop))
    until_fenced(shop)
    stand_by(shop, b=50, c=90)
    assert shop.tick() == [Record("c", None, 2), Promote("c")]
    assert shop.machine.moves[-1].new == "c"
    assert "c is promoted instead of b: it is further" in shop.said


def test_what_a_standby_of_others_said_before_the_old_primary_was_fenced_is_not_enough():
    shop = three(automatic=True)
    stop = Stop("a", kill=False)
    falls_silent(shop, b=50, c=50)
    shop.tell(Done(stop))
    until_fenced(shop)
    stand_by(shop, b=50, c=None)
    assert shop.tick() == []
    # The other one does not answer any more: it may be the only one that has the last change.
    assert shop.tick(2.0) == [TakeBack("a")]
    assert shop.role()[:2] == ("a", Phase.STEADY)
    assert "--accept-loss" in shop.said[-1]


@pytest.mark.parametrize(
    ("named", "b", "c", "chosen"),
    [
        pytest.param((), 5, 6, None, id="nobody is named, and something else may have got the last change"),
        pytest.param(("of-b", "of-c"), 5, 6, "c", id="the one that is furthest"),
        pytest.param(("of-b",), 5, 6, "b", id="the one that is named, not the one that is furthest"),
        pytest.param(("of-b",), 5, None, None, id="the other was never seen, and may have the same name"),
        pytest.param(("of-b",), None, 6, None, id="the one that is named is missing"),
        pytest.param(("of-b", "of-c"), 5, None, None, id="one of those that are named is missing"),
        pytest.param(("of-b", "of-c"), 6, 6, "b", id="all that are named"),
    ],
)
def test_of_others_only_who_is_named_is_promoted_and_only_if_all_of_them_answer(named, b, c, chosen):
    shop = three(automatic=True, named=named)
    steps = falls_silent(shop, b=b, c=c)
    if chosen is None:
        assert steps == []
        assert shop.machine.phase is Phase.STEADY
        return
    assert steps == [Stop("a", kill=False)]
    assert shop.machine.target == chosen


def test_a_standby_that_is_known_to_be_called_otherwise_is_not_asked_for():
    shop = three(named=("of-b",))
    stand_by(shop, b=5, c=6)
    shop.tick(3.0)
    stand_by(shop, b=5, c=None)
    assert shop.machine.candidate(shop.now) == "b"


def test_where_nobody_is_named_a_lost_primary_is_replaced_only_by_whoever_accepts_the_loss():
    """What streamed, and counted for what was acknowledged, may be none of the servers that we know."""
    shop = three(named=())
    stand_by(shop, b=5, c=6)
    assert shop.machine.candidate(shop.now) == "c"  # handed over in good order the old one itself tells what it lacks
    falls_silent(shop, b=5, c=6)
    assert "`nearshelf failover --accept-loss` promotes one anyway" in shop.said[-1]
    # As `status` says.
    assert shop.machine.candidate(shop.now) is None
    with pytest.raises(Refused, match="c may lack changes"):
        shop.machine.ask(None, shop.now)
    assert shop.take(shop.machine.ask(None, shop.now, accept_loss=True)) == [Stop("a", kill=False)]


def test_two_standbys_of_others_may_have_the_same_name():
    shop = three(named=("standby1",))
    for node in ("b", "c"):
        shop.seen(node, in_recovery=True, received=5, name="standby1")
    assert shop.machine.candidate(shop.now) is not None
    shop.tick(3.0)
    shop.seen("b", in_recovery=True, received=5, name="standby1")
    assert shop.machine.candidate(shop.now) is None


def test_servers_of_others_that_cannot_be_handed_over_in_good_order_are_not_handed_over():
    shop = three()
    stand_by(shop, b=5, c=6)
    stop = Stop("a", kill=False, heir="b")
    with pytest.raises(Refused):
        shop.machine.ask("b", shop.now)
    shop.take(shop.machine.ask("b", shop.now, accept_loss=True))
    # Whoever accepts the loss gets it.
    assert shop.tell(Failed(stop, "b does not have its last changes after 20 s")) == []
    assert shop.tick(LEASE_S + 0.5) == [Record("b", None, 2), Promote("b")]

    shop = three()
    stand_by(shop, b=5, c=6)
    stop = Stop("a", kill=False, heir="c")
    assert shop.take(shop.machine.ask(None, shop.now)) == [stop]
    assert shop.tell(Failed(stop, "c does not have its last changes after 20 s")) == [TakeBack("a")]
    assert shop.role()[:2] == ("a", Phase.STEADY)
    assert "c does not have its last changes" in shop.machine.moves[-1].given_up
    stand_by(shop, b=5, c=6)
    with pytest.raises(Refused, match="ask again"):
        shop.machine.ask(None, shop.now)
    assert shop.tell(Failed(TakeBack("a"), "nothing in time")) == []
    assert shop.tick(0.5) == [TakeBack("a")]
    shop.tell(Done(TakeBack("a")))
    stand_by(shop, b=5, c=6)
    assert shop.take(shop.machine.ask(None, shop.now)) == [stop]


def test_a_primary_of_others_that_is_lost_is_not_asked_to_hand_over():
    shop = three()
    assert falls_silent(shop, b=5, c=6) == []
    assert shop.take(shop.machine.ask(None, shop.now)) == [Stop("a", kill=False)]
