"""Shoppers and merchandisers are seeded, and what they ask for is spelled as the shop spells it."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from loadtests.discovery import looking_around
from loadtests.oracle import PriceKey
from loadtests.people import (
    Browser,
    Merchandiser,
    ShopFront,
    ShownProduct,
    Zipf,
    amount_text,
    listing,
    popularity_of,
    product,
)

FRONT = ShopFront(
    markets=("eu-eur", "us-usd"),
    categories=("shoes", "shoes/red"),
    products=tuple(ShownProduct(f"slug-{n}", f"SKU-{n}", ("shoes",)) for n in range(50)),
    sorts=("", "price"),
    pages={"shoes": 3},
)


def test_the_same_seed_sends_the_same_sequence():
    def sequence(seed: int) -> list[str]:
        browser = Browser(FRONT, seed)
        return [visit.target for _ in range(20) for visit in browser.session()]

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


def test_looking_around_finds_markets_categories_sorts_pages_and_products():
    switcher = '<option value="us-usd">US</option><option value="eu-eur">EU</option>'
    card = '<a href="/us-usd/products/{0}">x</a><data class="price" data-sku="{1}" value="1">1</data>'
    shop = {
        "/": switcher + '<a href="/us-usd/">home</a>',
        "/us-usd/": switcher + '<a href="/us-usd/c/shoes">s</a><a href="/us-usd/c/bags">b</a>',
        "/us-usd/c/shoes": '<select id="s" name="sort"><option value="price">p</option></select>'
        '<a href="?page=2">2</a><a href="?sort=price&amp;page=4">4</a><a href="/us-usd/c/shoes/red">r</a>'
        + card.format("one", "SKU-1"),
        "/us-usd/c/bags": card.format("two", "SKU-2"),
        "/us-usd/c/shoes/red": card.format("one", "SKU-1") + card.format("three", "SKU-3"),
    }
    walk = looking_around(10)
    target = next(walk)
    front = None
    while front is None:
        try:
            target = walk.send(shop[target].encode())
        except StopIteration as found:
            front = found.value
    assert front.markets == ("us-usd", "eu-eur")
    assert front.categories == ("shoes", "bags", "shoes/red")
    assert front.sorts == ("", "price")
    assert front.pages["shoes"] == 4
    assert front.products == (
        ShownProduct("one", "SKU-1", ("shoes", "shoes/red")),
        ShownProduct("two", "SKU-2", ("bags",)),
        ShownProduct("three", "SKU-3", ("shoes/red",)),
    )
