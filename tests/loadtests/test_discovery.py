"""A stranger finds a shop by its links: markets, categories, sorts, pages, products, as many as are wanted."""

from __future__ import annotations

from collections.abc import Mapping

from loadtests.discovery import looking_around
from loadtests.people import ShopFront, ShownProduct

SWITCHER = '<option value="us-usd">US</option><option value="eu-eur">EU</option>'


def cards(**skus: str) -> str:
    return "".join(
        f'<a href="/us-usd/products/{slug}">x</a><data class="price" data-sku="{sku}" value="1">1</data>'
        for slug, sku in skus.items()
    )


SHOP = {
    "/": SWITCHER + '<a href="/us-usd/">home</a>',
    "/us-usd/": SWITCHER + '<a href="/us-usd/c/shoes">s</a><a href="/us-usd/c/bags">b</a>',
    "/us-usd/c/shoes": '<select id="s" name="sort"><option value="price">p</option></select>'
    '<a href="?page=2">2</a><a href="?sort=price&amp;page=3">3</a><a href="/us-usd/c/shoes/red">r</a>'
    + cards(one="SKU-1"),
    "/us-usd/c/shoes?page=2": '<a href="?page=3">3</a>' + cards(three="SKU-3"),
    "/us-usd/c/shoes?page=3": '<a href="?page=2">2</a>' + cards(five="SKU-5"),
    "/us-usd/c/bags": cards(two="SKU-2"),
    "/us-usd/c/shoes/red": '<a href="?page=2">2</a>' + cards(one="SKU-1", three="SKU-3"),
    "/us-usd/c/shoes/red?page=2": cards(four="SKU-4"),
}


def look_around(products: int, shop: Mapping[str, str] = SHOP) -> tuple[ShopFront, list[str]]:
    """What is found, and what was asked for."""
    walk = looking_around(products)
    asked = [next(walk)]
    while True:
        try:
            asked.append(walk.send(shop[asked[-1]].encode()))
        except StopIteration as found:
            return found.value, asked


def test_it_finds_markets_categories_sorts_pages_and_products():
    front, _ = look_around(100)
    assert front.markets == ("us-usd", "eu-eur")
    assert front.categories == ("shoes", "bags", "shoes/red")
    assert front.sorts == ("", "price")
    assert front.pages == {"shoes": 3, "bags": 1, "shoes/red": 2}
    assert front.products == (
        ShownProduct("one", "SKU-1", ("shoes", "shoes/red")),
        ShownProduct("two", "SKU-2", ("bags",)),
        ShownProduct("three", "SKU-3", ("shoes/red", "shoes")),
        ShownProduct("four", "SKU-4", ("shoes/red",)),
        ShownProduct("five", "SKU-5", ("shoes",)),
    )


def test_the_pages_of_the_narrowest_categories_are_turned_first():
    _, asked = look_around(100)
    assert asked[-3:] == ["/us-usd/c/shoes/red?page=2", "/us-usd/c/shoes?page=2", "/us-usd/c/shoes?page=3"]


def test_no_page_is_turned_once_enough_is_known():
    front, asked = look_around(2)
    assert [item.slug for item in front.products] == ["one", "two"]
    assert asked == ["/", "/us-usd/", "/us-usd/c/shoes", "/us-usd/c/bags"]


def test_no_product_page_is_asked_for():
    """What is to be cold in a run must not have been looked at before it."""
    _, asked = look_around(100)
    assert not any("/products/" in target for target in asked)


def test_a_page_without_markets_is_no_shop():
    assert look_around(5, {"/": "<h1>It works</h1>"})[0] == ShopFront((), (), ())
