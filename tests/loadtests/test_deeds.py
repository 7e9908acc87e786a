"""What a run does to a shop, with a scripted shop whose staff API, edges and control socket are real sockets."""

from __future__ import annotations

import pytest

from loadtests.deeds import Deeds, Merchandiser, Operator, minor_units, what_is_done
from loadtests.faults import Breakage, FaultsUnavailable
from loadtests.judge import Findings, Judge
from loadtests.oracle import Oracle, PriceKey
from loadtests.plan import Deed, Doing, Plan
from loadtests.probes import Probes
from loadtests.recorder.recorder import Recorder
from loadtests.recorder.run import Phase
from loadtests.staff import credentials_of
from loadtests.target import load_target
from tests.support.fake_shop import EDGES, FakeShop

KEY = PriceKey("eu-eur", "SKU-1")
BEFORE = 1001
"""What it costs in the shop."""


class Bench:
    """Everything that carries deeds out, at one shop."""

    def __init__(self, shop: FakeShop, *deeds: Deed) -> None:
        target = load_target(shop.ready, shop.folder)
        self.plan = Plan("test", 1, (Phase("run", 0, 10),), (), deeds, (KEY,))
        self.recorder = Recorder(
            scenario="test",
            description="",
            seed=1,
            generator="locust",
            request_digest="",
            phases=self.plan.phases,
            duration_s=10.0,
        )
        self.recorder.begin()
        self.oracle = Oracle()
        self.oracle.start(KEY, BEFORE)
        self.judge = Judge(self.oracle, Findings())
        self.probes = Probes(target.edges, self.oracle, self.judge)
        self.breakage = Breakage(target.control)
        self.deeds = Deeds(self.plan, target.origin, self.recorder, self.oracle, self.probes, self.breakage)
        self.deeds.digits = {"eu-eur": 2}
        self.deeds.sign_in(credentials_of(target.state))

    def carry_out(self) -> None:
        """All of them, at once."""
        for one in (Merchandiser(self.deeds, lambda _: None), Operator(self.deeds, lambda _: None)):
            while one.next():
                pass
        self.probes.stop(10.0)
        assert self.deeds.done.is_set()


@pytest.fixture
def shop(tmp_path):
    with FakeShop(tmp_path).running() as running:
        yield running


def test_a_price_is_changed_watched_until_live_and_read_at_every_edge(shop):
    bench = Bench(shop, Deed(1.0, Doing.PRICE, KEY, "12.50"))
    bench.carry_out()
    assert shop.prices[KEY] == 1250
    run = bench.recorder.finish(10.0)
    (change,) = run.changes
    assert (change.market, change.sku) == KEY
    assert change.live_ms is not None
    assert 0 < change.committed_ms <= change.live_ms
    assert set(change.fresh_ms) == set(EDGES)
    assert all(ms is not None and ms > 0 for ms in change.fresh_ms.values())
    assert [(event.kind, event.text) for event in run.events] == [("price", "eu-eur SKU-1")]
    assert bench.deeds.outcomes.failed == []
    assert bench.judge.findings.answers_telling > 0 or bench.judge.findings.answers_checked > 0


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        pytest.param("12.50", 1250, id="a new amount"),
        pytest.param("10.01", 1002, id="the one that it has: the nearest that it never had"),
        pytest.param("10", 1000, id="without a fraction"),
    ],
)
def test_an_amount_that_a_price_had_before_is_moved_until_it_never_had_it(shop, wanted, expected):
    bench = Bench(shop, Deed(1.0, Doing.PRICE, KEY, wanted))
    assert bench.deeds.new_amount(bench.plan.deeds[0], KEY) == expected


def test_the_same_seed_chooses_the_same_amounts(shop):
    deed = Deed(1.0, Doing.PRICE, KEY)
    first, second = (Bench(shop, deed).deeds.new_amount(deed, KEY) for _ in range(2))
    assert first == second != BEFORE


@pytest.mark.parametrize(
    ("hangs_up", "second"),
    [
        pytest.param(True, "left alone", id="the origin hangs up: nobody knows whether it was committed"),
        pytest.param(False, "refused", id="there is no origin: it certainly was not"),
    ],
)
def test_only_a_price_in_doubt_is_left_alone(shop, hangs_up, second):
    bench = Bench(shop, Deed(1.0, Doing.PRICE, KEY), Deed(2.0, Doing.PRICE, KEY))
    if hangs_up:
        shop.hangs_up = True
    else:
        bench.deeds.origin = "http://127.0.0.1:1"
    bench.carry_out()
    assert len(bench.deeds.outcomes.failed) == 2
    assert second in bench.deeds.outcomes.failed[1]
    assert bench.recorder.finish(10.0).changes == []


def test_purges_are_ordered_by_tags_hard_or_soft_and_waited_for(shop):
    bench = Bench(
        shop,
        Deed(1.0, Doing.PURGE, tags=("p:eu-eur:sku-1", "p:eu-eur:sku-2"), soft=True),
        Deed(2.0, Doing.FLUSH),
    )
    bench.carry_out()
    assert shop.purged == [["p:eu-eur:sku-1", "p:eu-eur:sku-2"], ["*"]]
    outcomes = bench.deeds.outcomes
    assert (outcomes.purges, outcomes.tags) == (2, 3)
    purges = bench.recorder.finish(10.0).purges
    assert [purge.tags for purge in purges] == [2, 1]
    assert all(purge.live_ms is not None and purge.live_ms > 0 for purge in purges)
    # The scripted shop says of every change that a worker's lease had to run out.
    assert sum(outcomes.waited_out.values()) == 2


def test_a_run_whose_deeds_were_not_done_says_so(shop):
    price, fault = Deed(1.0, Doing.PRICE, KEY), Deed(2.0, Doing.FAULT, command=(("do", "freeze"), ("name", "eu-1")))
    done = Bench(shop, price, fault)
    done.carry_out()
    assert done.deeds.undone() == []
    refused = Bench(shop, price, fault)
    refused.deeds.origin = "http://127.0.0.1:1"
    refused.breakage = refused.deeds.breakage = Breakage(None)
    refused.carry_out()
    changes, faults = refused.deeds.undone()
    assert changes.startswith("0 of 1 change of prices and purges were made")
    assert faults.startswith("0 of 1 fault and their ends were made")


def test_a_fault_that_lasts_to_the_end_may_be_mended_after_it(shop):
    bench = Bench(
        shop,
        Deed(2.0, Doing.FAULT, command=(("do", "freeze"), ("name", "eu-1"))),
        Deed(10.0, Doing.HEAL, command=(("do", "thaw"), ("name", "eu-1"))),
    )
    operator = Operator(bench.deeds, lambda _: None)
    assert bench.deeds.undone() != []
    assert operator.next()
    assert bench.deeds.undone() == []
    assert operator.next()
    assert bench.deeds.undone() == []


def test_a_change_that_never_becomes_live_was_made_all_the_same(shop, monkeypatch):
    monkeypatch.setattr("loadtests.deeds.WAIT_LIVE_S", 0.0)
    shop.state = "shown on some"
    bench = Bench(shop, Deed(1.0, Doing.PRICE, KEY))
    bench.carry_out()
    (change,) = bench.recorder.finish(10.0).changes
    assert change.live_ms is None
    assert bench.deeds.undone() == []


def test_faults_are_told_to_the_control_socket_and_what_is_not_mended_is(shop):
    freeze = (("do", "freeze"), ("name", "eu-1"))
    cut = (("do", "cut"), ("edge", "us"), ("channel", "questions"))
    heal = (("do", "heal"), ("edge", "us"), ("channel", "questions"))
    bench = Bench(
        shop,
        Deed(1.0, Doing.FAULT, command=freeze),
        Deed(2.0, Doing.FAULT, command=cut),
        Deed(3.0, Doing.HEAL, command=heal),
    )
    bench.carry_out()
    assert shop.told == [dict(freeze), dict(cut), dict(heal)]
    assert bench.breakage.mend() == []
    assert shop.told[3:] == [{"do": "thaw", "name": "eu-1"}]
    assert bench.breakage.mend() == []
    assert len(shop.told) == 4


@pytest.mark.parametrize(
    ("broken", "mended"),
    [
        ({"do": "stop", "name": "origin"}, {"do": "start", "name": "origin"}),
        ({"do": "stall", "edge": "eu"}, {"do": "heal", "edge": "eu"}),
        ({"do": "pause-replay"}, {"do": "resume-replay"}),
        ({"do": "kill", "name": "eu-1"}, None),
    ],
)
def test_what_mends_what(shop, broken, mended):
    breakage = Breakage(shop.folder / "control")
    breakage.tell(broken)
    breakage.mend()
    assert shop.told[1:] == ([] if mended is None else [mended])


def test_a_shop_that_cannot_be_mended_is_told_of(tmp_path):
    breakage = Breakage(tmp_path / "nobody-listens")
    with pytest.raises(FaultsUnavailable):
        breakage.tell({"do": "freeze", "name": "eu-1"})
    (said,) = breakage.mend()
    assert "thaw" in said
    assert "nearshelf fault heal" in said
    assert str(tmp_path) not in said
    with pytest.raises(FaultsUnavailable, match="names no control socket"):
        Breakage(None).in_force()


def test_a_probe_follows_until_the_price_is_new_and_judges_what_it_sees(tmp_path):
    shown_old = {"eu": 3}

    def bug(edge: str, path: str) -> bool:
        shown_old[edge] = shown_old.get(edge, 0) - 1
        return shown_old[edge] >= 0

    with FakeShop(tmp_path, bug).running() as shop:
        bench = Bench(shop, Deed(1.0, Doing.PRICE, KEY, "12.50"))
        bench.carry_out()
    (change,) = bench.recorder.finish(10.0).changes
    assert set(change.fresh_ms) == {"us", "eu"}
    # Three old answers at one edge: some after the commit, and none after live unless the shop was quick.
    assert bench.judge.findings.answers_checked >= 5
    assert bench.judge.staleness.count <= 3


@pytest.mark.parametrize(
    ("deed", "said"),
    [
        (Deed(0, Doing.PURGE, tags=("a",), soft=True), "soft a"),
        (Deed(0, Doing.PURGE, tags=("a", "b")), "2 tags"),
        (Deed(0, Doing.FLUSH), "everything"),
        (Deed(0, Doing.FAULT, command=(("do", "cut"), ("edge", "eu"))), "cut eu"),
    ],
)
def test_deeds_in_words(deed, said):
    assert what_is_done(deed) == said


@pytest.mark.parametrize(("text", "digits", "expected"), [("12.5", 2, 1250), ("980", 0, 980), ("0.05", 2, 5)])
def test_minor_units(text, digits, expected):
    assert minor_units(text, digits) == expected


def test_more_digits_than_a_currency_has_are_no_amount():
    with pytest.raises(ValueError, match="more than 0 digits"):
        minor_units("9.80", 0)
