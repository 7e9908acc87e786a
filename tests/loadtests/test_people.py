"""Shoppers, bots and merchandisers are seeded, and what they ask for is spelled as the shop spells it."""

from __future__ import annotations

import itertools
import random
from collections import Counter

import pytest

from loadtests.oracle import PriceKey
from loadtests.people import (
    Kind,
    Merchandiser,
    Mix,
    ShopFront,
    ShownProduct,
    Taste,
    Zipf,
    amount_text,
    browse,
    crawl,
    listing,
    popularity_of,
    product,
    search,
)

FRONT = ShopFront(
    markets=("eu-eur", "us-usd"),
    categories=("shoes", "shoes/red"),
    products=tuple(ShownProduct(f"slug-{n}", f"SKU-{n}", ("shoes",)) for n in range(50)),
    sorts=("", "price"),
    pages={"shoes": 3},
)


@pytest.mark.parametrize("session", [browse, search])
def test_the_same_seed_sends_the_same_sequence(session):
    taste = Taste(FRONT, seed=1)

    def sequence(seed: int) -> list[str]:
        rng = random.Random(seed)
        return [visit.target for _ in range(20) for visit in session(taste, "eu-eur", rng)]

    assert sequence(7) == sequence(7)
    assert sequence(7) != sequence(8)


def test_popularity_follows_the_exponent():
    zipf, rng = Zipf(100, 0.8), random.Random(1)
    drawn = Counter(zipf.draw(rng) for _ in range(100_000))
    assert set(drawn) <= set(range(100))
    assert drawn[0] / drawn[15] == pytest.approx(16**0.8, rel=0.15)


def test_all_shoppers_of_a_run_agree_on_what_is_popular():
    assert popularity_of(FRONT, 3) == popularity_of(FRONT, 3)
    assert sorted(popularity_of(FRONT, 3)) == list(range(50))
    assert Taste(FRONT, 3).products == Taste(FRONT, 3).products != Taste(FRONT, 4).products


def test_a_mix_is_drawn_in_proportion_and_never_what_has_no_share():
    mix, rng = Mix({"bot": 35, "nobody": 0, "shopper": 65}), random.Random(1)
    drawn = Counter(mix.draw(rng) for _ in range(20_000))
    assert drawn["bot"] / 20_000 == pytest.approx(0.35, abs=0.02)
    assert set(drawn) == {"bot", "shopper"}


def test_people_know_the_most_popular_and_bots_read_everything():
    taste, rng = Taste(FRONT, seed=1, known=10), random.Random(1)
    assert taste.products == Taste(FRONT, seed=1).products[:10]
    bought = {visit.target for _ in range(500) for visit in browse(taste, "eu-eur", rng) if visit.kind is Kind.PRODUCT}
    assert bought == {f"/eu-eur/products/{item.slug}" for item in taste.products}
    read = {visit.target for visit in itertools.islice(crawl(taste, "eu-eur", rng), 60)}
    assert {f"/eu-eur/products/{item.slug}" for item in FRONT.products} <= read


def test_nobody_asks_for_what_is_hidden():
    taste = Taste(FRONT, seed=1, hidden=["SKU-7"])
    rng = random.Random(1)
    sessions = [visit for _ in range(300) for session in (browse, search) for visit in session(taste, "eu-eur", rng)]
    seen = [*sessions, *itertools.islice(crawl(taste, "eu-eur", rng), 500)]
    assert product("eu-eur", "slug-8") in seen
    assert not any("slug-7" in visit.target.split("/") or visit.target.endswith("/SKU-7") for visit in seen)


def test_a_searcher_stays_in_one_category_and_turns_its_pages_back_and_forth():
    taste, rng = Taste(FRONT, seed=1), random.Random(2)
    sessions = [[visit.target for visit in search(taste, "eu-eur", rng)] for _ in range(200)]
    pages = [[target for target in session if "/c/" in target] for session in sessions]
    assert all(target.startswith("/eu-eur/c/shoes") for session in pages for target in session)
    assert any("/eu-eur/c/shoes?page=3" in session for session in pages)
    forth_and_back = ["/eu-eur/c/shoes", "/eu-eur/c/shoes?page=2", "/eu-eur/c/shoes"]
    assert any(session[:3] == forth_and_back for session in pages)
    assert any("sort=price" in target for session in pages for target in session)


def test_a_bot_reads_everything_in_order_and_begins_again():
    taste = Taste(FRONT, seed=1)
    lap = 1 + 3 + 1 + 50
    seen = [visit.target for visit in itertools.islice(crawl(taste, "eu-eur", random.Random(1)), 2 * lap)]
    at = seen.index("/eu-eur/c/shoes")
    pages = ["/eu-eur/c/shoes", "/eu-eur/c/shoes?page=2", "/eu-eur/c/shoes?page=3"]
    assert seen[at : at + 53] == [*pages, *(f"/eu-eur/products/slug-{n}" for n in range(50))]
    assert seen[:lap] == seen[lap:]


def test_a_shop_without_listings_is_read_too():
    front = ShopFront(("eu-eur",), (), (ShownProduct("one", "SKU-1", ()),))
    taste, rng = Taste(front, seed=1), random.Random(1)
    assert [visit.kind for visit in search(taste, "eu-eur", rng)] == [Kind.HOME]
    assert [visit.target for visit in itertools.islice(crawl(taste, "eu-eur", rng), 3)] == [
        "/eu-eur/",
        "/eu-eur/products/one",
        "/eu-eur/",
    ]


def test_targets_are_percent_encoded():
    assert listing("eu-eur", "shoes/red & blue", sort="price", page=2).target == (
        "/eu-eur/c/shoes/red%20%26%20blue?sort=price&page=2"
    )
    assert listing("eu-eur", "shoes").target == "/eu-eur/c/shoes"
    assert product("eu-eur", "a/b").target == "/eu-eur/products/a%2Fb"


def test_a_merchandiser_never_repeats_an_amount_even_where_few_are_left():
    merchandiser, key = Merchandiser(1), PriceKey("jp-jpy", "S")
    current, seen = 3, {3}
    for _ in range(300):
        current = merchandiser.next_amount(key, current)
        assert current > 0
        assert current not in seen
        seen.add(current)


def test_amounts_are_written_with_the_digits_of_the_currency():
    assert amount_text(1250, 2) == "12.50"
    assert amount_text(5, 2) == "0.05"
    assert amount_text(1250, 0) == "1250"
    assert amount_text(1250, 3) == "1.250"
