"""Answers as a stranger reads them."""

from __future__ import annotations

import json

import pytest

from loadtests.oracle import PriceKey
from loadtests.reading import (
    CacheStatus,
    Unreadable,
    cache_status,
    is_marked,
    links,
    products_on,
    shown_prices,
    status_of,
)
from loadtests.recorder.run import Status

LISTING = b"""<!doctype html><!--nearshelf:notice-->
<a href="/eu-eur/c/shoes?sort=price">sort</a>
<article><a href="/eu-eur/products/red-shoe"><img></a>
  <data class="price" data-sku="SHOE-1" value="1250">\xe2\x82\xac12.50</data>
  <data class="was price" data-sku="SHOE-1" value="1500">\xe2\x82\xac15.00</data></article>
<article><a href="/eu-eur/products/caf%C3%A9-cup?x=1">cup</a>
  <data value="900" data-sku="A&amp;B" class="price">\xe2\x82\xac9</data></article>
<data class="stock" value="3">3</data>
"""


def test_every_price_of_a_page_is_read():
    assert shown_prices("eu-eur", "text/html; charset=utf-8", LISTING) == [
        (PriceKey("eu-eur", "SHOE-1"), 1250),
        (PriceKey("eu-eur", "SHOE-1"), 1500),
        (PriceKey("eu-eur", "A&B"), 900),
    ]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(
            {"sku": "S", "market": "gb-gbp", "amount": "1.00", "amount_minor": 100},
            [(PriceKey("gb-gbp", "S"), 100)],
            id="a price",
        ),
        pytest.param(
            {"sku": "S", "name": "n", "price": {"currency": "EUR", "amount_minor": 5}},
            [(PriceKey("eu-eur", "S"), 5)],
            id="a product with its price inside",
        ),
        pytest.param(
            {"items": [{"sku": "S", "price": {"amount_minor": 5}, "variants": [{"sku": "V", "amount_minor": 6}]}]},
            [(PriceKey("eu-eur", "S"), 5), (PriceKey("eu-eur", "V"), 6)],
            id="a list with variants",
        ),
        pytest.param({"sku": "S", "band": "low"}, [], id="stock"),
    ],
)
def test_prices_in_json_belong_to_the_nearest_sku(value, expected):
    assert shown_prices("eu-eur", "application/json", json.dumps(value).encode()) == expected


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("text/html", b'<data class="price" data-sku="S" value="12.50">'),
        ("text/html", b'<data class="price" value="1250">'),
        ("application/json", b'{"amount_minor": 3}'),
        ("application/json", b"{"),
    ],
)
def test_what_cannot_be_read_is_an_error_and_not_an_absence(content_type, body):
    with pytest.raises(Unreadable):
        shown_prices("eu-eur", content_type, body)


def test_products_of_a_listing_and_its_links():
    assert products_on("eu-eur", LISTING) == {"red-shoe": "SHOE-1", "café-cup": "A&B"}
    assert links(LISTING) == ["/eu-eur/c/shoes", "/eu-eur/products/red-shoe", "/eu-eur/products/caf%C3%A9-cup"]


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("eu-1; hit; ttl=12", CacheStatus("hit")),
        ("eu-1; hit; ttl=-3; detail=stale-while-revalidate", CacheStatus("hit, stale", "stale-while-revalidate")),
        ("eu-1; hit; detail=stale-marked", CacheStatus("hit, stale", "stale-marked")),
        ("eu-1; fwd=stale; fwd-status=200; detail=purged-hard", CacheStatus("fwd=stale", "purged-hard")),
        ("origin; hit, eu-1; fwd=uri-miss; stored", CacheStatus("fwd=uri-miss")),
        ('eu-1; fwd=bypass; detail="policy-never-stores"', CacheStatus("fwd=bypass", "policy-never-stores")),
    ],
)
def test_cache_status(field, expected):
    assert cache_status({"cache-status": field}) == expected


def test_no_cache_status_is_said():
    assert cache_status({}) == CacheStatus("none")


def test_only_a_page_whose_notice_is_filled_counts_as_marked():
    marked = {"cache-status": "eu-1; hit; detail=stale-marked"}
    assert is_marked(marked, b"<p>Prices are being confirmed</p>")
    assert not is_marked(marked, LISTING)
    assert not is_marked({"cache-status": "eu-1; hit"}, b"<p>Prices are being confirmed</p>")


@pytest.mark.parametrize(
    ("field", "code", "expected"),
    [
        pytest.param("eu-1; hit; ttl=12", 200, Status.HIT, id="a hit"),
        pytest.param("eu-1; hit; ttl=12", 304, Status.HIT, id="a hit that the browser had"),
        pytest.param("eu-1; hit; ttl=-3", 200, Status.STALE, id="stale by its ttl"),
        pytest.param("eu-1; hit; ttl=-3; detail=stale-while-revalidate", 200, Status.STALE, id="stale by its word"),
        pytest.param(
            "eu-1; fwd=stale; fwd-status=502; ttl=-9; detail=stale-if-error",
            200,
            Status.STALE,
            id="stale after the origin was asked in vain",
        ),
        pytest.param("eu-1; fwd=stale; fwd-status=304; detail=expired", 200, Status.REVALIDATED, id="confirmed"),
        pytest.param("eu-1; fwd=stale; fwd-status=200; detail=purged-hard", 200, Status.MISS, id="replaced"),
        pytest.param("eu-1; fwd=uri-miss; stored", 200, Status.MISS, id="a miss"),
        pytest.param("eu-1; fwd=uri-miss; collapsed", 200, Status.MISS, id="a follower"),
        pytest.param("eu-1; fwd=uri-miss; detail=regional", 200, Status.MISS, id="from the tier"),
        pytest.param("origin; hit, eu-1; fwd=uri-miss", 200, Status.MISS, id="a hit further away"),
        pytest.param("eu-1; fwd=uri-miss", 404, Status.MISS, id="a missing page of the origin"),
        pytest.param("eu-1; fwd=bypass; fwd-status=304", 304, Status.PASS, id="never stored"),
        pytest.param("eu-1; fwd=method", 303, Status.PASS, id="a write"),
        pytest.param('eu-1; detail="too-long"', 414, Status.EDGE, id="a refusal"),
        pytest.param("eu-1", 302, Status.EDGE, id="a redirect"),
        pytest.param("eu-1; hit", 503, Status.ERROR, id="a failure, wherever it was kept"),
        pytest.param("", 502, Status.ERROR, id="a failure of the origin"),
        pytest.param("", None, Status.ERROR, id="no answer"),
        pytest.param("", 200, Status.DIRECT, id="the origin itself"),
    ],
)
def test_every_answer_is_counted_in_one_class(field, code, expected):
    assert status_of({"cache-status": field} if field else {}, code) is expected
