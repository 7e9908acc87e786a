"""Plans: the same seed means the same requests, whoever asks; and each scenario means what its file says."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path

import pytest

from cache_policies.tags import product_tag
from loadtests.people import Kind, ShopFront, ShownProduct
from loadtests.plan import Arrival, Doing, Person, Plan
from loadtests.planning import BadPlan, make_plan
from loadtests.scenario_files import load_scenario, scenario_names

CATEGORIES = tuple(f"department-{n // 4}/category-{n}" for n in range(12))
FRONT = ShopFront(
    markets=("us-usd", "ca-cad", "eu-eur", "gb-gbp", "jp-jpy", "sg-sgd"),
    categories=CATEGORIES,
    products=tuple(ShownProduct(f"thing-{n}", f"SKU-{n}", (CATEGORIES[n % 12],)) for n in range(300)),
    sorts=("", "price-up", "name"),
    pages=dict.fromkeys(CATEGORIES, 2),
)
EDGES = ("us", "eu", "ap")
PLAYABLE = tuple(name for name in scenario_names() if name != "replay")


def plan_of(name: str, settings: Mapping[str, str] | None = None, *, seed: int = 1, **more: str) -> Plan:
    return make_plan(load_scenario(name, {**(settings or {}), **more}), FRONT, EDGES, seed)


def rate_in(plan: Plan, phase: str, *persons: Person) -> float:
    """Requests a second that these people mean to send in a phase."""
    span = next(one for one in plan.phases if one.name == phase)
    count = sum(arrival.phase == phase and (not persons or arrival.person in persons) for arrival in plan.arrivals)
    return count / (span.to_s - span.from_s)


def by_visitor(plan: Plan) -> dict[tuple[Person, int], list[Arrival]]:
    found: dict[tuple[Person, int], list[Arrival]] = defaultdict(list)
    for arrival in plan.arrivals:
        found[arrival.person, arrival.visitor].append(arrival)
    return found


@pytest.mark.parametrize("name", PLAYABLE)
def test_a_plan_is_in_order_within_its_phases_and_the_same_again(name):
    plan = plan_of(name, duration="20s")
    times = [arrival.at_s for arrival in plan.arrivals]
    assert times == sorted(times)
    assert [deed.at_s for deed in plan.deeds] == sorted(deed.at_s for deed in plan.deeds)
    spans = {phase.name: phase for phase in plan.phases}
    assert all(spans[one.phase].from_s <= one.at_s < spans[one.phase].to_s for one in plan.arrivals)
    assert [phase.counts for phase in plan.phases] == [False, *[True] * (len(plan.phases) - 1)]
    assert plan == plan_of(name, duration="20s")
    assert plan.digest != plan_of(name, seed=2, duration="20s").digest


def test_the_digest_is_the_same_in_every_process_whatever_its_hash_seed():
    program = (
        "from tests.loadtests.test_planning import plan_of\n"
        "print(*(plan_of(name, duration='5s').digest for name in ('price-storm', 'purge-storm', 'cache-busting')))"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("0", "4711")
    }
    here = " ".join(plan_of(name, duration="5s").digest for name in ("price-storm", "purge-storm", "cache-busting"))
    assert found == {here + "\n"}


def test_more_price_changes_are_not_other_requests():
    """So that two runs which differ in one thing can be compared pair by pair."""
    few, many = plan_of("price-storm"), plan_of("price-storm", {"deeds.0.per_minute": "2000"})
    assert len(many.deeds) > len(few.deeds)
    assert many.arrivals == few.arrivals


def test_a_plan_is_what_its_people_want_and_not_how_fast_anybody_answers():
    plan = plan_of("price-storm", duration="200s")
    assert rate_in(plan, "rest") == pytest.approx(80, rel=0.05)
    shares = Counter(arrival.person for arrival in plan.arrivals)
    assert shares[Person.BOT] / len(plan.arrivals) == pytest.approx(0.35, abs=0.02)
    assert shares[Person.BROWSER] / len(plan.arrivals) == pytest.approx(0.45, abs=0.02)


def test_nobody_looks_at_the_next_thing_before_they_have_thought():
    gaps = []
    for (person, _), visits in by_visitor(plan_of("price-storm", returns="0")).items():
        if person is Person.BROWSER:
            gaps += [later.at_s - earlier.at_s for earlier, later in itertools.pairwise(visits)]
    assert min(gaps) >= 0
    # Exponential with a mean of 3 s, and then until somebody is wanted again.
    assert 2.9 < sum(gaps) / len(gaps) < 3.6


def test_a_visitor_stays_in_one_market_and_at_the_edge_near_it():
    homes = {"us-usd": "us", "ca-cad": "us", "eu-eur": "eu", "gb-gbp": "eu", "jp-jpy": "ap", "sg-sgd": "ap"}
    plan = plan_of("price-storm")
    for visits in by_visitor(plan).values():
        assert len({visit.visit.market for visit in visits}) == 1
    assert all(arrival.edge == homes[arrival.visit.market] for arrival in plan.arrivals)


def test_a_shop_with_other_edges_and_fewer_markets_gets_its_people_too():
    front = ShopFront(("eu-eur", "no-nok"), FRONT.categories, FRONT.products)
    plan = make_plan(load_scenario("steady-day"), front, ["north", "south"], 1)
    assert {(arrival.visit.market, arrival.edge) for arrival in plan.arrivals} == {("eu-eur", "north")}
    elsewhere = ShopFront(("no-nok", "dk-dkk"), FRONT.categories, FRONT.products)
    plan = make_plan(load_scenario("steady-day"), elsewhere, ["north", "south"], 1)
    assert {arrival.edge for arrival in plan.arrivals} == {"north", "south"}


def test_bots_say_who_they_are_read_in_order_and_use_head_now_and_then():
    bots = [arrival for arrival in plan_of("bot-crawl").arrivals if arrival.person is Person.BOT]
    assert all("crawler" in dict(bot.fields)["User-Agent"] for bot in bots)
    methods = Counter(bot.method for bot in bots)
    assert methods["HEAD"] / len(bots) == pytest.approx(0.05, abs=0.01)
    one = [bot.visit for bot in bots if bot.visitor == 0]
    assert [visit.kind for visit in one[:3]] == [Kind.HOME, Kind.CATEGORY, Kind.CATEGORY]
    assert one[2].target == f"{one[1].target}?page=2"


def test_only_what_somebody_holds_is_asked_for_again():
    plan = plan_of("bot-crawl", duration="5m")
    held: dict[tuple[Person, int], set[str]] = defaultdict(set)
    again = Counter[Person]()
    for arrival in plan.arrivals:
        who = arrival.person, arrival.visitor
        if arrival.asks_again:
            assert arrival.visit.target in held[who]
            again[arrival.person] += 1
            if arrival.person is not Person.BOT:
                # Pages leave the edge as no-store: a browser has none to ask about.
                assert arrival.visit.kind in {Kind.PRICE, Kind.STOCK}
        if arrival.method == "GET":
            held[who].add(arrival.visit.target)
    assert again[Person.BOT] > 100
    assert again[Person.BROWSER] > 10


def test_a_few_products_are_asked_for_most():
    looked_at = Counter(
        arrival.visit.target.rpartition("/")[2]
        for arrival in plan_of("price-storm", people="{browser: 1}").arrivals
        if arrival.visit.kind is Kind.PRODUCT
    )
    counts = [count for _, count in looked_at.most_common()]
    weights = [rank**-0.8 for rank in range(1, 101)]
    assert sum(counts[:30]) / sum(counts) == pytest.approx(sum(weights[:30]) / sum(weights), abs=0.05)


# --- what each scenario is about ---


def test_the_busiest_hour_of_the_day_has_5_4_times_the_mean():
    plan = plan_of("steady-day", rate="400")
    hours = Counter(int((arrival.at_s - 30) / 4) for arrival in plan.arrivals if arrival.phase == "run")
    assert max(hours.values()) / (sum(hours.values()) / 24) == pytest.approx(5.4, rel=0.05)


def test_the_flash_sales_product_is_cold_and_then_wanted_everywhere_at_once():
    plan = plan_of("flash-sale")
    begins = next(phase.from_s for phase in plan.phases if phase.name == "flash")
    crowd = [arrival for arrival in plan.arrivals if arrival.person is Person.CROWD]
    (target,) = plan.spotlight
    assert {arrival.visit.target for arrival in crowd} == {target}
    assert all((arrival.visit.target == target) is (arrival.person is Person.CROWD) for arrival in plan.arrivals)
    slug = target.rpartition("/")[2]
    assert not any(
        slug in arrival.visit.target.split("/") for arrival in plan.arrivals if arrival.person is not Person.CROWD
    )
    assert rate_in(plan, "flash", Person.CROWD) == pytest.approx(20 * 12, rel=0.05)
    first = {edge: min(arrival.at_s for arrival in crowd if arrival.edge == edge) for edge in EDGES}
    assert all(begins <= at_s < begins + 0.1 for at_s in first.values())
    shares = Counter(arrival.edge for arrival in crowd)
    assert all(share / len(crowd) == pytest.approx(1 / 3, abs=0.03) for share in shares.values())
    # An earlier run may have asked for it. Nothing purges it later: a second fetch would be right then.
    (purge,) = plan.deeds
    assert (purge.at_s, purge.doing, purge.tags, purge.soft) == (0.0, Doing.PURGE, (f"path:{target}",), False)


def test_a_price_storm_changes_popular_prices_in_turn():
    plan = plan_of("price-storm")
    changes = [deed for deed in plan.deeds if deed.doing is Doing.PRICE]
    assert len(changes) == pytest.approx(240, abs=2)
    assert set(plan.watched) == {deed.key for deed in changes}
    assert len(plan.watched) == 120
    last: dict[object, float] = {}
    for change in changes:
        assert change.at_s - last.get(change.key, -100) > 20
        last[change.key] = change.at_s
    shown = Counter(arrival.visit.target for arrival in plan.arrivals)
    slugs = {item.sku: item.slug for item in FRONT.products}
    assert sum(shown[f"/{key.market}/products/{slugs[key.sku]}"] for key in plan.watched) > 300


def test_more_prices_than_products_change_in_other_markets_as_well():
    plan = plan_of("price-storm", {"deeds.0.prices": "400", "deeds.0.per_minute": "1000"})
    assert len(plan.watched) == 400


def test_a_purge_storm_names_a_thousand_tags_a_minute_spelt_as_the_shop_spells_them():
    plan = plan_of("purge-storm")
    orders = [deed for deed in plan.deeds if deed.doing is Doing.PURGE]
    storm = next(phase for phase in plan.phases if phase.name == "storm")
    assert all(storm.from_s <= order.at_s < storm.to_s for order in orders)
    assert sum(len(order.tags) for order in orders) == pytest.approx(5_000, abs=20)
    tags = [tag for order in orders for tag in order.tags]
    assert set(tags) >= {product_tag(market, f"SKU-{n}") for market in FRONT.markets for n in range(300)}
    assert {"h:eu-eur", "c:us-usd:department-0%2fcategory-1", "cp:us-usd:department-0%2fcategory-1"} <= set(tags)
    # Every tag is as old as it can be when its turn comes again.
    distinct = len(set(tags))
    assert len(set(tags[:distinct])) == distinct
    assert any(deed.doing is Doing.PRICE and deed.at_s > storm.from_s for deed in plan.deeds)


def test_a_cold_start_is_a_flush_when_its_phase_begins():
    plan = plan_of("cold-start")
    (deed,) = plan.deeds
    assert deed.doing is Doing.FLUSH
    assert deed.at_s == next(phase.from_s for phase in plan.phases if phase.name == "cold")


def test_countries_shift_from_one_edge_to_another():
    plan = plan_of("country-shift")
    fresh = {arrival.visitor for arrival in plan.arrivals if arrival.phase in {"warm-up", "europe"}}
    shares = {
        phase: Counter(
            arrival.edge
            for arrival in plan.arrivals
            if arrival.phase == phase
            and arrival.person is not Person.BOT
            and (phase == "europe" or arrival.visitor not in fresh)
        )
        for phase in ("europe", "asia")
    }
    assert shares["europe"]["eu"] > 10 * shares["europe"]["ap"]
    assert shares["asia"]["ap"] > 5 * shares["asia"]["eu"]


def test_an_outage_begins_and_is_mended_with_its_phase():
    plan = plan_of("origin-outage")
    outage = next(phase for phase in plan.phases if phase.name == "outage")
    faults = [deed for deed in plan.deeds if deed.doing in {Doing.FAULT, Doing.HEAL}]
    assert [(deed.at_s, deed.doing, dict(deed.command)) for deed in faults] == [
        (outage.from_s, Doing.FAULT, {"do": "stop", "name": "origin"}),
        (outage.to_s, Doing.HEAL, {"do": "start", "name": "origin"}),
    ]


@pytest.mark.parametrize(
    ("written", "begun", "mended"),
    [
        ("{do: fault, phase: run, command: cut, edge: eu, channel: questions}", "cut", "heal"),
        ("{do: fault, phase: run, command: stall, edge: all}", "stall", "heal"),
        ("{do: fault, phase: run, command: freeze, name: eu-1}", "freeze", "thaw"),
        ("{do: fault, phase: run, command: pause-replay}", "pause-replay", "resume-replay"),
    ],
)
def test_every_fault_is_mended_by_its_opposite_for_the_same_thing(written, begun, mended):
    fault, heal = plan_of("steady-day", duration="5s", deeds=f"[{written}]").deeds
    assert (dict(fault.command)["do"], dict(heal.command)["do"]) == (begun, mended)
    assert fault.command[1:] == heal.command[1:]


def test_cache_busters_never_ask_for_the_same_address_twice():
    plan = plan_of("cache-busting")
    busters = [arrival.visit for arrival in plan.arrivals if arrival.person is Person.BUSTER]
    assert rate_in(plan, "attack", Person.BUSTER) == pytest.approx(3 * 30, rel=0.1)
    random_parameters = [visit for visit in busters if visit.kind is Kind.PRODUCT]
    assert len({visit.target for visit in random_parameters}) == len(random_parameters)
    pages = {visit.target.partition("?")[0] for visit in random_parameters}
    assert len(pages) < len(random_parameters) / 2
    absurd = [visit for visit in busters if visit.kind is Kind.NOT_THERE]
    assert len(absurd) / len(busters) == pytest.approx(0.1, abs=0.02)
    assert all(int(visit.target.rpartition("?page=")[2]) >= 2_000 for visit in absurd)


def test_bots_are_nearly_everybody_while_they_crawl():
    plan = plan_of("bot-crawl")
    assert rate_in(plan, "crawl") == pytest.approx(2 * rate_in(plan, "rest"), rel=0.1)
    assert rate_in(plan, "crawl", Person.BOT) / rate_in(plan, "crawl") == pytest.approx(0.8, abs=0.03)


# --- what cannot be planned ---


def test_an_empty_shop_is_said_so():
    with pytest.raises(BadPlan, match="is the shop seeded"):
        make_plan(load_scenario("steady-day"), ShopFront((), (), ()), EDGES, 1)


def test_a_crowd_wants_more_than_one_product():
    front = ShopFront(("eu-eur",), (), FRONT.products[:1])
    with pytest.raises(BadPlan, match="a crowd wants a product that nobody else asks for"):
        make_plan(load_scenario("flash-sale"), front, EDGES, 1)


def test_no_warm_up_is_no_phase():
    plan = plan_of("steady-day", warmup="0s", duration="5s", deeds="[{do: flush, phase: warm-up}]")
    assert [phase.name for phase in plan.phases] == ["run"]
    assert not plan.deeds
