"""The judge of shown prices, with planted violations that it must find and innocent answers that it must not."""

from __future__ import annotations

import random

import pytest

from loadtests.oracle import Oracle, PriceKey, Verdict

KEY = PriceKey("eu-eur", "SKU-1")
INITIAL = 1000


@pytest.fixture
def oracle() -> Oracle:
    """1000, then 1200 asked for at 10 and live at 11, then 1300 asked for at 20 and live at 21."""
    oracle = Oracle()
    oracle.start(KEY, INITIAL)
    first = oracle.began(KEY, 1200, at=10.0)
    oracle.live(first, at=11.0)
    second = oracle.began(KEY, 1300, at=20.0)
    oracle.live(second, at=21.0)
    return oracle


@pytest.mark.parametrize(
    ("amount", "sent_at", "verdict", "vacuous"),
    [
        pytest.param(1000, 5.0, Verdict.OK, True, id="nothing has changed yet"),
        pytest.param(1000, 10.5, Verdict.OK, True, id="the old price while the change is on its way"),
        pytest.param(1200, 10.5, Verdict.OK, True, id="the new price before anybody reported it"),
        pytest.param(1000, 11.0, Verdict.SUPERSEDED, False, id="the old price asked for at the very moment of live"),
        pytest.param(1000, 15.0, Verdict.SUPERSEDED, False, id="the old price after live"),
        pytest.param(1200, 15.0, Verdict.OK, False, id="the new price after live"),
        pytest.param(1200, 20.5, Verdict.OK, False, id="still the middle price while the third is on its way"),
        pytest.param(1300, 20.5, Verdict.OK, False, id="the third price before it is live"),
        pytest.param(1200, 21.0, Verdict.SUPERSEDED, False, id="the middle price after the third is live"),
        pytest.param(1000, 25.0, Verdict.SUPERSEDED, False, id="back to the first price after two changes"),
        pytest.param(1300, 25.0, Verdict.OK, False, id="the third price"),
        pytest.param(999, 25.0, Verdict.ALIEN, False, id="a price that this product never had"),
    ],
)
def test_an_answer_is_judged_by_what_was_live_when_its_request_was_sent(oracle, amount, sent_at, verdict, vacuous):
    judged = oracle.judge(KEY, amount, sent_at, received_at=sent_at + 30.0)
    assert judged is not None
    assert judged.verdict is verdict
    assert judged.vacuous is vacuous


def test_a_violation_names_what_should_have_been_shown_and_for_how_long_it_was_wrong(oracle):
    judged = oracle.judge(KEY, 1000, 25.0, 25.1)
    assert judged is not None
    assert judged.superseded_by is not None
    assert judged.superseded_by.amount == 1300
    assert judged.replaced_s == pytest.approx(14.0)  # 1000 was replaced by a live change at 11


def test_a_change_that_was_never_reported_live_condemns_nobody_but_its_successor_does():
    oracle = Oracle()
    oracle.start(KEY, INITIAL)
    oracle.began(KEY, 1200, at=10.0)
    third = oracle.began(KEY, 1300, at=12.0)
    for amount in (1000, 1200, 1300):
        judged = oracle.judge(KEY, amount, 15.0, 15.1)
        assert judged is not None
        assert judged.verdict is Verdict.OK
    oracle.live(third, at=16.0)
    for amount, verdict in ((1000, Verdict.SUPERSEDED), (1200, Verdict.SUPERSEDED), (1300, Verdict.OK)):
        judged = oracle.judge(KEY, amount, 16.0, 16.1)
        assert judged is not None
        assert judged.verdict is verdict


def test_reports_out_of_order_condemn_by_the_order_of_commits_not_of_reports():
    oracle = Oracle()
    oracle.start(KEY, INITIAL)
    first = oracle.began(KEY, 1200, at=10.0)
    second = oracle.began(KEY, 1300, at=10.1)
    oracle.live(second, at=11.0)
    oracle.live(first, at=12.0)
    judged = oracle.judge(KEY, 1200, 12.5, 12.6)
    assert judged is not None
    assert judged.verdict is Verdict.SUPERSEDED


def test_a_price_seen_before_anybody_asked_for_it_is_called_unborn(oracle):
    judged = oracle.judge(KEY, 1300, sent_at=12.0, received_at=13.0)
    assert judged is not None
    assert judged.verdict is Verdict.UNBORN


def test_a_refused_change_must_not_be_seen(oracle):
    oracle.refused(oracle.began(KEY, 1400, at=30.0))
    judged = oracle.judge(KEY, 1400, sent_at=31.0, received_at=31.1)
    assert judged is not None
    assert judged.verdict is Verdict.ALIEN
    assert oracle.current(KEY) == 1300


def test_only_the_first_report_counts(oracle):
    change = oracle.began(KEY, 1400, at=30.0)
    oracle.live(change, at=31.0)
    oracle.live(change, at=40.0)
    assert change.live_at == 31.0


def test_an_unwatched_price_is_not_judged(oracle):
    assert oracle.judge(PriceKey("us-usd", "SKU-1"), 1, 99.0, 99.1) is None


def test_without_a_known_first_price_any_unknown_amount_counts_as_it():
    oracle = Oracle()
    oracle.start(KEY, None)
    oracle.live(oracle.began(KEY, 1200, at=10.0), at=11.0)
    before = oracle.judge(KEY, 777, 10.5, 10.6)
    after = oracle.judge(KEY, 777, 11.5, 11.6)
    assert before is not None
    assert after is not None
    assert (before.verdict, after.verdict) == (Verdict.OK, Verdict.SUPERSEDED)


def test_an_amount_may_not_come_twice(oracle):
    for amount in (INITIAL, 1200, 1300):
        with pytest.raises(ValueError, match="told apart"):
            oracle.began(KEY, amount, at=40.0)


@pytest.mark.parametrize("seed", range(20))
def test_planted_violations_in_a_random_history_are_found_and_nothing_else_is(seed):
    """A model of an edge that shows what a linear history allows, with a bug planted in every tenth answer."""
    rng = random.Random(seed)
    oracle = Oracle()
    oracle.start(KEY, 0)
    now, committed, live = 0.0, 0, 0  # amounts are numbered in commit order
    change = None
    for _ in range(400):
        now += rng.random()
        if committed == live and rng.random() < 0.2:
            committed += 1
            change = oracle.began(KEY, committed, at=now)
        elif change is not None and committed > live and rng.random() < 0.5:
            live = committed
            oracle.live(change, at=now)
        now += rng.random()
        planted = live > 0 and rng.random() < 0.1
        amount = rng.randrange(live) if planted else rng.randint(live, committed)
        judged = oracle.judge(KEY, amount, sent_at=now, received_at=now + 0.01)
        assert judged is not None
        assert judged.verdict is (Verdict.SUPERSEDED if planted else Verdict.OK)


@pytest.mark.parametrize(
    ("amount", "received_at", "stale_s"),
    [
        pytest.param(1000, 10.1, None, id="the commit is not confirmed yet"),
        pytest.param(1000, 10.5, 0.25, id="the old price between commit and live"),
        pytest.param(1200, 10.5, None, id="the new price"),
        pytest.param(1000, 20.75, 10.5, id="the first price, replaced twice: since the first of both"),
        pytest.param(1200, 20.75, 0.5, id="the middle price since the second commit"),
        pytest.param(1300, 20.75, None, id="the price of the moment"),
    ],
)
def test_staleness_counts_from_the_confirmed_commit_of_what_replaced_the_price(amount, received_at, stale_s):
    oracle = Oracle()
    oracle.start(KEY, INITIAL)
    oracle.committed(oracle.began(KEY, 1200, at=10.0), at=10.25)
    oracle.committed(oracle.began(KEY, 1300, at=20.0), at=20.25)
    judged = oracle.judge(KEY, amount, received_at - 0.01, received_at)
    assert judged is not None
    assert judged.verdict is Verdict.OK
    assert judged.stale_s == (None if stale_s is None else pytest.approx(stale_s))


def test_a_refused_change_replaces_nothing():
    oracle = Oracle()
    oracle.start(KEY, INITIAL)
    oracle.refused(oracle.began(KEY, 1200, at=10.0))
    judged = oracle.judge(KEY, INITIAL, 11.0, 11.1)
    assert judged is not None
    assert judged.stale_s is None
