"""What got no answer is doubtful until the shop itself settles it, whatever order its answers come in."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from cache_policies.positions import Position
from loadtests import staff
from loadtests.chaos import merchandise
from loadtests.chaos.history import Began, Committed, Doubtful, Event, Live, Price, Refused, Settled
from loadtests.chaos.merchandise import Merchandise, facts_of
from loadtests.chaos.shop import knows
from loadtests.faults import what_is_wrong
from loadtests.oracle import PriceKey
from loadtests.staff import StaffError
from loadtests.target import Target

KEY = PriceKey("eu-eur", "SKU-1")
TARGET = Target({"eu": "http://127.0.0.1:1"}, "http://127.0.0.1:1", Path("/nowhere"), None)


class Shop:
    """A price with a version, and whether its answers get through."""

    def __init__(self) -> None:
        self.amount, self.version, self.cv = 1000, 1, 7
        self.hides = 0
        """Answers to changes that are lost, after they were carried out."""
        self.drops = 0
        """Changes that are lost before they were carried out."""
        self.states = ["live"]
        self.late: list[Mapping[str, Any]] = []

    async def ask(self, exchange: staff.Exchange) -> dict[str, Any]:
        await asyncio.sleep(0)
        if exchange.method == "PUT":
            return self.change(exchange.body or {})
        if "/changes/" in exchange.target:
            state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
            if state == "unknown":
                raise StaffError("404 no such change", refused=True, status=404)
            return {"state": state, "workers": []}
        return {"prices": [{"market": "eu-eur", "amount_minor": self.amount, "version": self.version}]}

    def change(self, body: Mapping[str, Any]) -> dict[str, Any]:
        if self.drops:
            self.drops -= 1
            self.late.append(body)
            raise StaffError("no answer")
        if body["expected_version"] != self.version:
            raise StaffError("409 the price has changed", refused=True, status=409)
        self.amount, self.version, self.cv = round(float(body["amount"]) * 100), self.version + 1, self.cv + 1
        if self.hides:
            self.hides -= 1
            raise StaffError("no answer")
        return {"position": f"1.{self.cv}", "price": {"version": self.version}}


class Goods(Merchandise):
    """Over a shop in this process."""

    def __init__(self, shop: Shop) -> None:
        self.events: list[Event] = []
        super().__init__(TARGET, [(Price(KEY, 1000), 1, 2)], seed=1, note=self.events.append, now=lambda: 0.0)
        self._ask = shop.ask  # type: ignore[method-assign]

    @property
    def price(self) -> Any:
        return self._prices[0]

    def kinds(self) -> list[type[Event]]:
        return [type(event) for event in self.events]


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.fixture
def goods(shop: Shop) -> Goods:
    return Goods(shop)


async def test_a_change_is_confirmed_and_then_live(shop, goods):
    told: list[PriceKey] = []
    goods.told = told.append
    await goods._change(goods.price)
    await goods.finish(5)
    assert goods.kinds() == [Began, Committed, Live]
    assert told == [KEY]
    assert goods.head == Position(1, 8)
    assert await goods.lost() == []


async def test_shown_is_not_live(shop, goods):
    shop.states = ["waiting", "shown", "live"]
    await goods._change(goods.price)
    await goods.finish(5)
    assert goods.kinds() == [Began, Committed, Live]
    assert goods.states == {"waiting": 1, "shown": 1}


async def test_what_got_no_answer_and_is_there_is_settled_by_looking(shop, goods):
    shop.hides = 1
    await goods._change(goods.price)
    assert goods.kinds() == [Began, Doubtful]
    assert await goods._settle(goods.price)
    assert goods.events[-1] == Settled(0.0, 1, True)
    assert (goods.price.amount, goods.price.version) == (shop.amount, 2)
    assert await goods.lost() == []


async def test_what_is_not_there_is_certain_only_when_the_next_was_taken(shop, goods):
    shop.drops = 1
    await goods._change(goods.price)
    assert await goods._settle(goods.price)
    assert goods.kinds() == [Began, Doubtful]
    await goods._change(goods.price)
    assert goods.kinds() == [Began, Doubtful, Began, Committed, Settled]
    assert goods.events[-1] == Settled(0.0, 1, False)
    with pytest.raises(StaffError):  # and when it comes at last, it is refused
        shop.change(shop.late[0])


async def test_what_comes_late_makes_the_next_be_refused(shop, goods):
    shop.drops = 1
    await goods._change(goods.price)
    await goods._settle(goods.price)
    shop.change(shop.late[0])
    await goods._change(goods.price)
    assert goods.kinds() == [Began, Doubtful, Began, Refused, Settled]
    assert goods.events[-1] == Settled(0.0, 1, True)


async def test_of_several_doubtful_ones_the_one_that_is_there_rules_out_the_others(shop, goods):
    shop.drops, shop.hides = 1, 1
    await goods._change(goods.price)
    await goods._change(goods.price)
    await goods._settle(goods.price)
    assert goods.events[-2:] == [Settled(0.0, 2, True), Settled(0.0, 1, False)]


@pytest.mark.parametrize(("last", "event"), [("lost", Settled(0.0, 1, False)), ("live", Live(0.0, 1))])
async def test_only_the_shop_s_own_word_makes_a_confirmed_change_a_lost_one(shop, goods, monkeypatch, last, event):
    """That it knows of none is no answer: a change of which that stays so never becomes live, which is wrong."""
    monkeypatch.setattr(merchandise, "PAUSE_S", 0.0)
    shop.states = ["unknown", "unknown", last]
    await goods._change(goods.price)
    await goods.finish(5)
    assert goods.events[2:] == [event]


async def test_a_shop_that_refuses_at_once_is_not_asked_at_once_again(shop, goods, monkeypatch):
    monkeypatch.setattr(merchandise, "PAUSE_S", 0.02)
    shop.drops = 1_000_000
    await goods._change(goods.price)
    await goods.finish(0.1)
    assert 2 <= len(shop.late) <= 0.1 / 0.02 + 2


async def test_a_price_that_is_another_than_was_confirmed_is_told(shop, goods):
    await goods._change(goods.price)
    shop.amount = 1
    (lost,) = await goods.lost()
    assert "SKU-1" in lost
    await goods.stop()


def test_a_price_that_is_not_there_is_said():
    with pytest.raises(StaffError, match="SKU-1 has no price"):
        facts_of({"prices": []}, KEY)


def test_a_shop_is_whole_when_all_runs_and_streams():
    status: dict[str, Any] = {
        "processes": [{"name": "eu-1", "condition": "running"}],
        "faults": [],
        "replication": {"state": "streaming"},
        "failover": {"whole": True},
    }
    assert what_is_wrong(status) == ""
    assert "eu-1 is frozen" in what_is_wrong({**status, "processes": [{"name": "eu-1", "condition": "frozen"}]})
    assert "eu: fills cut" in what_is_wrong({**status, "faults": ["eu: fills cut"]})
    assert "disconnected" in what_is_wrong({**status, "replication": {"state": "disconnected"}})
    assert "no answer" in what_is_wrong({**status, "replication": {"state": "unknown", "error": "no answer"}})
    assert "promoted" in what_is_wrong({**status, "failover": {"whole": False}})


@pytest.mark.parametrize(
    ("applied", "lease_held", "expected"),
    [("1.8", True, True), ("2.1", True, True), ("1.7", True, False), ("1.8", False, False), (None, True, False)],
)
def test_a_worker_knows_what_it_has_applied_under_a_lease(applied, lease_held, expected):
    assert knows({"applied": applied, "lease_held": lease_held}, Position(1, 8)) is expected
