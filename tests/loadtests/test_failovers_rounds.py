"""What a round counts: from when a primary is lost until the shop is whole, and what is tried again."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from loadtests.failovers import __main__ as command
from loadtests.failovers import rounds
from loadtests.failovers.looking import Reading
from loadtests.failovers.report import Report
from loadtests.failovers.rounds import Plan, Run
from loadtests.failovers.witnesses import Merchandisers, Refusal, Shoppers, Write
from loadtests.faults import FaultsUnavailable
from loadtests.oracle import PriceKey
from loadtests.staff import Exchange, StaffApi, StaffError
from loadtests.target import Target

KEY = PriceKey("eu-eur", "LAMP-1")
TAKEN_S = 0.05
"""How long a primary takes for a change."""


class Staff:
    """The primary, as the staff API tells of it."""

    def __init__(self) -> None:
        self.amount = 1200
        self.states = ["live"]
        """Of every change, one after the other; the last one stays."""

    @contextlib.asynccontextmanager
    async def session(self) -> AsyncIterator[Staff]:
        yield self

    async def ask(self, exchange: Exchange) -> dict[str, Any]:
        if "/changes/" not in exchange.target:
            return {"prices": [{"market": KEY.market, "amount_minor": self.amount}]}
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        if state.isdigit():
            raise StaffError("refused", status=int(state))
        return {"state": state, "workers": []}


class Shop(Run):
    """A run against a shop in this process: one price, one edge; whoever is killed is replaced at once."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        (folder / "env.json").write_text(json.dumps({"DATABASE_URL": "postgresql://nearshelf@/shop?host=/a:1"}))
        self.primary = Staff()
        self.said: list[str] = []
        target = Target({"eu": "http://127.0.0.1:1"}, "http://127.0.0.1:2", folder, folder / "control")
        super().__init__(target, self.primary, plan, self.said.append)  # type: ignore[arg-type]
        self._keys = [KEY]
        self.pages = self.prices = Shoppers(target.edges, ["/"], 10.0, "seed")
        self.merchandisers = Merchandisers(None, [KEY], {}, "seed")  # type: ignore[arg-type]
        self.asked: list[str] = []
        self.when: dict[str, Callable[[], None]] = {}
        """What happens while the shop is asked to do something."""
        self.looked_for: list[list[PriceKey]] = []
        self.moves = 0
        self.promotable = ["pg-2"]
        self.waits_until = 0
        """How often the status says that commits wait for the standby, once they are to be let go."""

    async def _ask(self, command: Mapping[str, Any]) -> dict[str, Any]:
        does = str(command["do"])
        if does != "status":
            self.asked.append(does)
        elif self.asked[-1:] == ["disarm"]:
            self.waits_until -= 1
        if does in self.when:
            self.when[does]()
        if does == "kill":
            self.moves += 1
            self.change("2.9", 1200)
        return {
            "failover": {
                "primary": "pg-1",
                "promotable": self.promotable[0] if self.promotable else None,
                "moves": self.moves,
                "epoch": 1,
                "last": {"opened_ms": 300.0} if self.moves else None,
                "whole": True,
            },
            "processes": [{"name": "pg-1", "pid": 0, "condition": "running"}],
            "faults": [],
            "replication": {"state": "streaming", "waited_for": self.waits_until > 0},
        }

    def change(self, position: str | None, amount: int, within_s: float = TAKEN_S) -> None:
        """Staff change the price in a moment; refused without a `position`."""
        begun_at = time.monotonic() + 0.001
        ended_at = begun_at + within_s
        self.merchandisers.writes.append(
            Write(KEY, amount, str(amount), begun_at, ended_at, position, 200 if position else 503)
        )

    def refuse(self) -> None:
        """A reader of prices is refused one."""
        self.prices.seen.refused.append(Refusal(time.monotonic(), "eu", "/", 503, True))


@pytest.fixture
def shown() -> list[int]:
    """What the edge shows, at each look; the last one stays."""
    return [1200]


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shown: list[int]) -> Shop:
    made = Shop(tmp_path, Plan(kills=1, freezes=0, tails=2))

    async def read(_: object, keys: Sequence[PriceKey], within_s: float) -> list[Reading]:
        made.looked_for.append(list(keys))
        return [Reading("eu", KEY, shown.pop(0) if len(shown) > 1 else shown[0])]

    monkeypatch.setattr(rounds, "readings", read)
    for name in ("SETTLE_S", "GHOST_S", "TAIL_S", "LOOK_S"):
        monkeypatch.setattr(rounds, name, 0.0)
    # The other half of the kills sends a signal of its own.
    monkeypatch.setattr(made._rng, "random", lambda: 0.0)
    return made


async def test_a_round_in_which_all_goes_well(shop):
    await shop._kill()
    (played,) = shop.report.rounds
    assert (played.prices_asked, played.prices_read) == (2, 2)
    assert (played.ghosts, played.old_prices, played.unread, played.not_live) == ([], [], [], [])
    assert shop.merchandisers.may.is_set()


async def test_what_the_old_primary_takes_while_it_is_being_killed_is_not_taken_again(shop):
    shop.when["kill"] = lambda: shop.change("1.8", 1200, within_s=0.0)
    await shop._kill()
    (played,) = shop.report.rounds
    of_the_old, of_the_new = shop.merchandisers.writes
    assert (of_the_old.position, of_the_new.position) == ("1.8", "2.9")
    assert played.writes_back_s is not None
    assert played.writes_back_s >= TAKEN_S


async def test_a_round_of_a_lost_tail_is_over_when_the_shop_is_whole(shop, shown):
    """It was told before the shop was mended: what was refused after that was in no round."""
    shown[:] = [1300, 1200]
    shop.when["cut"] = lambda: shop.change(None, 1300)
    shop.when["heal"] = shop.refuse
    assert await shop._lose_a_tail()
    assert shop.asked == ["disarm", "cut", "kill", "heal"]
    (played,) = shop.report.rounds
    assert (played.tail, played.prices_refused) == (1, 1)
    assert played.whole_s is not None
    assert not shop.merchandisers.giving_up


async def test_a_standby_is_cut_off_once_no_commit_waits_for_it(shop):
    """Cut off before, changes would wait for it, and there would be none to be lost."""
    shop.waits_until = 3
    left: list[int] = []
    shop.when["cut"] = lambda: left.append(shop.waits_until)
    await shop._lose_a_tail()
    assert left == [0]


async def test_of_a_tail_only_what_has_just_changed_is_read(shop):
    """What had been given up in earlier rounds was read as well: then the standby had been away for too long."""
    other = PriceKey("eu-eur", "LAMP-2")
    shop.merchandisers.writes.append(Write(other, 1, "1", 0.0, 1.0, "1.2", 200, given_up=True))
    shop.when["cut"] = lambda: shop.change(None, 1300)
    await shop._lose_a_tail()
    assert shop.looked_for[0] == [KEY]


async def test_a_tail_that_nobody_had_seen_is_none(shop):
    shop.when["cut"] = lambda: shop.change(None, 1300)
    assert not await shop._lose_a_tail()
    assert shop.report.rounds[0].tail == 0
    assert not shop.report.tails


async def test_where_nobody_may_be_promoted_nothing_is_killed_and_that_is_counted(shop):
    shop.when["cut"] = shop.promotable.clear
    assert not await shop._lose_a_tail()
    assert shop.asked == ["disarm", "cut", "heal"]
    assert (shop.report.rounds, shop.report.tails_tried, shop.report.tails_spared) == ([], 1, 1)


@pytest.mark.parametrize(
    ("lost", "tried"),
    [
        pytest.param([True, True], 2, id="both at once"),
        pytest.param([False, True, False, True], 4, id="in four tries"),
        pytest.param([False] * 9, 6, id="never"),
    ],
)
async def test_a_tail_that_was_not_lost_is_tried_again_three_times_for_each(shop, monkeypatch, lost, tried):
    tries = iter(lost)
    played: list[str] = []

    async def lose() -> bool:
        played.append("tail")
        return next(tries)

    async def kill() -> None:
        played.append("kill")

    monkeypatch.setattr(shop, "_lose_a_tail", lose)
    monkeypatch.setattr(shop, "_kill", kill)
    await shop._play(["tail", "kill", "tail"], [])
    assert played.count("tail") == tried
    assert played.count("kill") == 1
    assert shop.report.tails_asked == 2


async def test_an_edge_that_stays_at_a_price_that_was_acknowledged_shows_an_old_one(shop, shown):
    """It was looked for among the changes that may be lost only."""
    shop.change("1.7", 1100)
    shown[:] = [1100]
    await shop._kill()
    (played,) = shop.report.rounds
    assert played.old_prices == ["eu: eu-eur LAMP-1 shown at 1100, and is 1200"] * 2
    assert played.ghosts == []


async def test_before_the_last_change_is_live_the_price_of_before_is_none_too_old_and_a_ghost_is_one(
    shop, shown, monkeypatch
):
    shown[:] = [1100, 1100, 1300]
    shop.change(None, 1300)
    shop.primary.states = ["waiting"]
    monkeypatch.setattr(rounds, "LIVE_WITHIN_S", 0.0)
    await shop._kill()
    (played,) = shop.report.rounds
    assert played.not_live == ["2.9: still 'waiting'"] * 2
    assert (len(played.ghosts), played.old_prices) == (1, [])


async def test_the_last_change_is_waited_for_through_refusals(shop):
    """With the standby away nothing is more than shown; once the shop is whole it has to become live."""
    shop.primary.states = ["503", "waiting", "shown", "shown", "live"]
    await shop._kill()
    assert shop.report.rounds[0].not_live == []
    assert shop.primary.states == ["live"]


def test_prices_are_judged_over_the_whole_run(shop):
    seen = shop.prices.seen
    seen.by_status.update({"200": 5, "503": 2, "500": 1})
    seen.failed.append("eu /: no answer")
    for status, retry_after in ((503, True), (503, False), (500, False)):
        seen.refused.append(Refusal(1.0, "eu", "/p", status, retry_after))
    shop._sum_up(1.0)
    assert shop.report.price_statuses == {"200": 5, "503": 2, "500": 1, "no answer": 1}
    assert shop.report.price_failures == ["eu /: no answer", "eu /p: 500"]
    assert (shop.report.without_retry_after, shop.report.refused_outside) == (1, 3)


# --- its end ---


class Control:
    """A control socket that takes its time, for `Breakage`."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.refuses = 0

    def ask(self, command: Mapping[str, Any]) -> dict[str, Any]:
        if command["do"] == "freeze":
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.05)  # it is being frozen while we are told to end
        if self.refuses:
            self.refuses -= 1
            raise FaultsUnavailable("heal: not now")
        self.done.append(str(command["do"]))
        return {}


class Freezing(Run):
    """Has its one round, in which somebody ends it."""

    async def _meet(self) -> None:
        self._breakage = CONTROL  # type: ignore[assignment]
        self.pages = self.prices = Shoppers({}, ["/"], 10.0, "seed")
        self.merchandisers = Merchandisers(None, [KEY], {}, "seed")  # type: ignore[arg-type]

    async def _play(self, *_: object) -> None:
        await self._ask({"do": "freeze"})
        raise AssertionError("it was told to end")


CONTROL = Control()


@pytest.mark.parametrize("background", [False, True], ids=["in a terminal", "of a shell, in the background"])
def test_whoever_ends_it_finds_the_shop_mended(tmp_path, monkeypatch, capsys, background):
    async def signed_in(*_: object) -> None: ...

    def unheard(*_: object) -> None:
        raise AssertionError("nobody listens for SIGTERM")

    (tmp_path / "env.json").write_text(json.dumps({"DATABASE_URL": "postgresql://nearshelf@/shop?host=/a:1"}))
    target = Target({}, "http://127.0.0.1:2", tmp_path, tmp_path / "control")
    CONTROL.done.clear()
    CONTROL.refuses = 0
    monkeypatch.setattr(command, "load_target", lambda *_: target)
    monkeypatch.setattr(command, "Run", Freezing)
    monkeypatch.setattr(StaffApi, "signed_in", signed_in)
    before = signal.signal(signal.SIGTERM, unheard)
    # A shell has what it runs in the background ignore Ctrl-C.
    interrupts = signal.signal(signal.SIGINT, signal.SIG_IGN if background else signal.default_int_handler)
    try:
        assert command.main([]) == 2
    finally:
        signal.signal(signal.SIGTERM, before)
        signal.signal(signal.SIGINT, interrupts)
    assert CONTROL.done == ["freeze", "heal"]
    assert "interrupted" in capsys.readouterr().err


async def test_what_cannot_be_mended_yet_is_tried_again(shop, monkeypatch):
    monkeypatch.setattr(shop, "_breakage", CONTROL)
    monkeypatch.setattr(shop, "_ask", lambda command: Run._ask(shop, command))
    CONTROL.done.clear()
    CONTROL.refuses = 2
    await shop._mend()
    assert CONTROL.done == ["heal"]
    CONTROL.refuses = 1
    monkeypatch.setattr(rounds, "MEND_S", -1.0)
    await shop._mend()
    assert "not mended: heal: not now" in shop.said[-1]


def test_a_report_is_told_as_json_with_why_it_does_not_count():
    assert Report().to_json()["empty"] == ["nothing was lost, read or changed"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--kills", "-1"], "--kills, --freezes and --tails"),
        (["--kills", "0", "--freezes", "0", "--tails", "0"], "one round at least"),
        (["--frozen", "-3"], "--frozen and --rate"),
        (["--rate", "nan"], "--frozen and --rate"),
    ],
)
def test_a_plan_that_cannot_be_played_is_refused_in_a_line(options, said, capsys):
    assert command.main(options) == 2
    refused = capsys.readouterr().err
    assert refused.startswith("failovers: ")
    assert said in refused
    assert refused.count("\n") == 1
