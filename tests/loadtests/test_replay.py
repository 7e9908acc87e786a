"""Recorded orders and price changes, played again: small files of our own in the format of the real ones."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from typing import Any

import pytest

from loadtests.oracle import PriceKey
from loadtests.people import ShopFront, ShownProduct
from loadtests.plan import Person, Plan
from loadtests.planning import make_plan
from loadtests.replay import BUYERS_FROM, BadRecording, market_of, read_recordings
from loadtests.scenario import Replay
from loadtests.scenario_files import load_scenario

FRONT = ShopFront(
    markets=("us-usd", "eu-eur", "gb-gbp", "jp-jpy"),
    categories=("mugs",),
    products=tuple(ShownProduct(f"mug-{n}", f"MUG{n}", ("mugs",)) for n in range(6)),
)
ORDERS = [
    {"order": "1", "placed_at": "2011-11-14T08:00:00Z", "country": "United Kingdom", "lines": [{"sku": "MUG1"}]},
    {"order": "2", "placed_at": "2011-11-14T20:00:00Z", "country": "EIRE", "lines": [{"sku": "mug2"}, {"sku": "MUG3"}]},
    {"order": "3", "placed_at": "2011-11-15T08:00:00Z", "lines": [{"sku": "GONE"}, {"sku": "GONE"}, {"sku": "MUG4"}]},
]
CHANGES = [
    {"sku": "MUG1", "changed_at": "2011-11-14T00:00:00Z", "currency": "GBP", "old": "4.95", "new": "5.95"},
    {"sku": "MUG2", "changed_at": "2011-11-23T12:00:00Z", "currency": "GBP", "old": "1.00", "new": "0.5"},
    {"sku": "LOST", "week_of": "2011-11-21", "currency": "GBP", "old": "1.00", "new": "0.50"},
    {"sku": "MUG3", "week_of": "2011-11-28", "currency": "CHF", "old": "1.00", "new": "2.00"},
]


def lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    text = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


def played(folder: Path, speed: str | None = None) -> Plan:
    """Over 100 s after a warm-up of 20 s, with next to nobody else in the shop."""
    usual = {
        "duration": "100s",
        "warmup": "20s",
        "rate": "0.1",
        "replay.orders": str(lines(folder / "orders.jsonl.gz", ORDERS)),
        "replay.price_changes": str(lines(folder / "changes.jsonl", CHANGES)),
    }
    if speed is not None:
        usual["replay.speed"] = speed
    return make_plan(load_scenario("replay", usual), FRONT, ("us", "eu", "ap"), 1)


def buyers(plan: Plan) -> dict[int, list[str]]:
    """Number of the order -> what its buyer looks at, as addresses without listings."""
    found: dict[int, list[str]] = {}
    for arrival in plan.arrivals:
        if arrival.visitor >= BUYERS_FROM and arrival.person is Person.BROWSER:
            found.setdefault(arrival.visitor - BUYERS_FROM, [])
            if "/c/" not in arrival.visit.target:
                found[arrival.visitor - BUYERS_FROM].append(arrival.visit.target)
    return found


def test_orders_become_the_visits_that_led_to_them(tmp_path):
    plan = played(tmp_path, speed="8640")
    assert buyers(plan)[1] == [
        "/eu-eur/products/mug-2",
        "/api/v1/eu-eur/prices/MUG2",
        "/eu-eur/products/mug-3",
        "/api/v1/eu-eur/prices/MUG3",
    ]


def test_an_order_is_placed_at_its_moment_and_looked_for_before(tmp_path):
    plan = played(tmp_path)
    second = [arrival for arrival in plan.arrivals if arrival.visitor == BUYERS_FROM + 1]
    # Half of the recording has passed: the middle of 100 s that begin at 20 s.
    assert second[-1].at_s == pytest.approx(70)
    assert second[0].at_s < second[-1].at_s
    assert {arrival.edge for arrival in second} == {"eu"}
    assert {arrival.phase for arrival in second} == {"run"}


def test_a_recording_takes_as_long_as_the_run_unless_a_speed_says_otherwise(tmp_path):
    usual = played(tmp_path)
    assert set(buyers(usual)) == {0, 1, 2}
    # The first is placed as the run begins: only the last look before it is within the run.
    assert buyers(usual)[0] == ["/api/v1/gb-gbp/prices/MUG1"]
    fast = played(tmp_path, speed="86400")
    assert max(arrival.at_s for arrival in fast.arrivals if arrival.visitor >= BUYERS_FROM) == pytest.approx(21)
    slow = played(tmp_path, speed="600")
    assert "2 of 3 recorded orders played (1 after the end of the run), 600 recorded seconds in one" in slow.remarks


def test_price_changes_go_to_the_markets_that_pay_in_their_currency(tmp_path):
    plan = played(tmp_path)
    assert [(deed.at_s, deed.key, deed.amount) for deed in plan.deeds] == [
        (20.0, PriceKey("gb-gbp", "MUG1"), "5.95"),
        (pytest.approx(20 + 9.5 / 21 * 100), PriceKey("gb-gbp", "MUG2"), "0.50"),
    ]
    assert plan.watched == (PriceKey("gb-gbp", "MUG1"), PriceKey("gb-gbp", "MUG2"))


def test_a_change_that_only_its_week_is_known_of_falls_somewhere_in_that_week(tmp_path):
    week = [{"sku": f"MUG{n}", "week_of": "2011-11-14", "currency": "GBP", "new": f"{n}.50"} for n in range(6)]
    settings = {"replay.price_changes": str(lines(tmp_path / "week.jsonl", week)), "duration": "100s"}
    deeds = make_plan(load_scenario("replay", settings), FRONT, ("eu",), 1).deeds
    times = [deed.at_s for deed in deeds]
    assert len(set(times)) == 6
    assert max(times) - min(times) > 30
    assert {deed.amount for deed in deeds} == {change["new"] for change in week}


def test_what_the_shop_does_not_sell_is_counted_and_said(tmp_path):
    assert played(tmp_path).remarks == (
        "all 3 recorded orders played, 864 recorded seconds in one",
        (
            "2 of 4 recorded price changes played (1 with nothing that is sold here, "
            "1 in a currency of no market here), 1.814e+04 recorded seconds in one"
        ),
        "2 SKUs of the recordings are not sold here, 3 lines left out: GONE, LOST",
    )


def test_an_order_of_nothing_that_is_sold_here_is_not_played(tmp_path):
    gone = [
        {"placed_at": "2011-11-14T08:00:00Z", "lines": [{"sku": "MUG1"}]},
        {"placed_at": "2011-11-14T09:00:00Z", "lines": [{"sku": "GONE"}]},
    ]
    settings = {"replay.orders": str(lines(tmp_path / "gone.jsonl", gone)), "duration": "100s", "rate": "0.1"}
    plan = make_plan(load_scenario("replay", settings), FRONT, ("eu",), 1)
    assert set(buyers(plan)) == {0}
    assert plan.remarks[0] == (
        "1 of 2 recorded orders played (1 with nothing that is sold here), 36 recorded seconds in one"
    )


def test_the_same_seed_plays_the_same(tmp_path):
    assert played(tmp_path).digest == played(tmp_path).digest


def test_without_files_it_says_how_to_name_them():
    with pytest.raises(BadRecording, match=r"--set replay\.orders=orders\.jsonl\.gz"):
        make_plan(load_scenario("replay"), FRONT, ("us",), 1)


@pytest.mark.parametrize(
    ("country", "market"),
    [("United Kingdom", "gb-gbp"), ("EIRE", "eu-eur"), ("Germany", "eu-eur"), ("USA", "us-usd"), ("JP", "jp-jpy")],
)
def test_a_country_is_led_to_its_market(country, market):
    assert market_of(country, FRONT, random.Random(1)) == market


def test_a_country_that_nobody_knows_comes_from_anywhere():
    found = {market_of("Unspecified", FRONT, random.Random(seed)) for seed in range(50)}
    assert found == set(FRONT.markets)


def test_every_bad_line_is_said_with_its_number_and_what_was_expected(tmp_path):
    orders = tmp_path / "orders.jsonl"
    orders.write_text(
        "\n".join(
            [
                json.dumps(ORDERS[0]),
                "{",
                "[]",
                '{"placed_at": "2011-11-14", "lines": []}',
                '{"placed_at": "yesterday", "lines": [{"sku": "A"}]}',
                '{"placed_at": "2011-11-14", "lines": [{"sku": "A"}, {"quantity": 3}]}',
            ]
        )
    )
    changes = tmp_path / "changes.jsonl"
    changes.write_text(
        '{"sku": "A", "week_of": "2011-11-14", "currency": "GBP", "new": "5.999"}\n'
        '{"sku": "A", "week_of": "2011-11-14", "currency": "POUND", "new": "5"}\n'
        '{"sku": "A", "week_of": "2011-11-14", "currency": "GBP", "new": "-5"}\n'
        '{"sku": "A", "week_of": "2011-11-14", "currency": "GBP", "new": "five"}\n'
    )
    with pytest.raises(BadRecording) as caught:
        read_recordings(Replay(orders, changes))
    assert str(caught.value).splitlines() == [
        "orders.jsonl:2: not JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)",
        "orders.jsonl:3: [], expected a JSON object",
        "orders.jsonl:4: lines is missing, expected a list of objects with sku",
        "orders.jsonl:5: placed_at: yesterday, expected a time of ISO 8601 such as 2011-11-14T08:10:00Z",
        "orders.jsonl:6: lines[1].sku is missing, expected text",
        "changes.jsonl:1: new: 5.999, expected at most 2 digits after the point for GBP",
        "changes.jsonl:2: currency: POUND, expected one of ISO 4217, such as GBP",
        "changes.jsonl:3: new: -5, expected an amount above zero",
        "changes.jsonl:4: new: five, expected a decimal amount such as 5.95",
    ]


def test_a_file_that_cannot_be_read_is_said_so(tmp_path):
    broken = tmp_path / "broken.jsonl.gz"
    broken.write_bytes(b"\x1f\x8bnothing")
    empty = tmp_path / "empty.jsonl"
    empty.write_text("\n")
    for path, said in (
        (tmp_path / "none.jsonl", "none.jsonl: cannot be read"),
        (broken, "broken.jsonl.gz: cannot be read"),
        (empty, "empty.jsonl: nothing in it"),
    ):
        with pytest.raises(BadRecording, match=said):
            read_recordings(Replay(orders=path))
