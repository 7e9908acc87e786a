"""The last look at a shop: prices, pages, listings and products in the API, by GET and by HEAD."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping

import pytest

from loadtests import people
from loadtests.chaos import readers
from loadtests.chaos.history import Event, Other, Seen
from loadtests.chaos.readers import Readers, Street
from loadtests.http1 import Answer
from loadtests.oracle import PriceKey
from loadtests.people import ShopFront, ShownProduct, Visit

LAMP = PriceKey("eu-eur", "SKU-1")
STREET = Street(ShopFront(("eu-eur",), ("light",), (ShownProduct("lamp", "SKU-1", ("light",)),)), [LAMP])
PRICE = people.price(*LAMP).target
PAGE = people.product(LAMP.market, "lamp")
LISTING = people.listing(LAMP.market, "light")
API = people.api_product(*LAMP)


class Edge:
    """Shows a price at every place, but for what it is told otherwise."""

    def __init__(self) -> None:
        self.amounts: dict[tuple[str, str], int | None] = {}
        """Method and target -> the amount there; None: it shows none."""
        self.status: dict[tuple[str, str], int] = {}
        self.marked = False
        self.etag = ""
        """Of whatever it shows; empty: one for each amount."""
        self.asked: list[tuple[str, str]] = []

    def __call__(self, url: str, timeout_s: float) -> Edge:
        return self

    async def __aenter__(self) -> Edge:
        return self

    async def __aexit__(self, *_: object) -> None: ...

    async def request(self, method: str, target: str, fields: Mapping[str, str]) -> Answer:
        self.asked.append((method, target))
        return self.answer(method, target)

    def answer(self, method: str, target: str) -> Answer:
        amount = self.amounts.get((method, target), 1200)
        if target.startswith("/api/"):
            kind, text = (
                "application/json",
                json.dumps({} if amount is None else {"sku": LAMP.sku, "amount_minor": amount}),
            )
        else:
            kind = "text/html"
            text = "" if amount is None else f'<data class="price" data-sku="{LAMP.sku}" value="{amount}">'
        headers = {"content-type": kind, "etag": self.etag or f'"{amount}"'}
        if self.marked and kind == "text/html":
            headers["cache-status"] = "eu; hit; detail=stale-marked"
        return Answer(self.status.get((method, target), 200), headers, text.encode(), 1.0, 1.1)


@pytest.fixture
def edge(monkeypatch: pytest.MonkeyPatch) -> Edge:
    told = Edge()
    monkeypatch.setattr(readers, "Connection", told)
    return told


def crowd(events: list[Event]) -> Readers:
    return Readers(
        {"eu": "http://eu"}, STREET, seed=1, connections=1, rate=1.0, note=events.append, began_at=0.0, recent=[]
    )


async def looked(monkeypatch: pytest.MonkeyPatch, place: Visit) -> list[str]:
    """What a look finds wrong that finds the price at this place beside its own address."""

    def there(*_: object) -> Visit:
        return place

    monkeypatch.setattr(Street, "visit", there)
    events: list[Event] = []
    found = await crowd(events).look_everywhere("eu", "http://eu", {LAMP: 1200})
    assert events  # judged as well, as whatever is seen
    return found


@pytest.mark.parametrize("place", [PAGE, LISTING, API])
async def test_a_shop_that_is_as_before(edge, monkeypatch, place):
    assert await looked(monkeypatch, place) == []
    assert edge.asked == [("GET", PRICE), ("GET", place.target), ("HEAD", place.target)]


@pytest.mark.parametrize(
    ("place", "wrong", "words"),
    [
        pytest.param(PAGE, {("GET", PRICE): 1000}, "1000, confirmed was 1200", id="the price in the API"),
        pytest.param(PAGE, {("GET", PAGE.target): 1000}, "1000, confirmed was 1200", id="a page"),
        pytest.param(LISTING, {("GET", LISTING.target): 1000}, "1000, confirmed was 1200", id="a listing"),
        pytest.param(API, {("GET", API.target): None}, "not shown", id="a product without its price"),
        pytest.param(LISTING, {("GET", LISTING.target): None}, "", id="on another page of the listing"),
        pytest.param(PAGE, {("HEAD", PAGE.target): 7}, "", id="a body that nobody has read"),
    ],
)
async def test_another_price_than_was_confirmed_is_found(edge, monkeypatch, place, wrong, words):
    edge.amounts = wrong
    found = "; ".join(await looked(monkeypatch, place))
    assert words in found
    assert bool(found) == bool(words)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_page_that_fails_is_found(edge, monkeypatch, method):
    edge.status[method, PAGE.target] = 503
    assert await looked(monkeypatch, PAGE) == [f"{method} {PAGE.target}: status 503"]


async def test_a_page_whose_prices_are_still_being_confirmed_is_found(edge, monkeypatch):
    edge.marked = True
    assert "being confirmed" in (await looked(monkeypatch, PAGE))[0]


def test_prices_are_looked_for_wherever_they_are_shown():
    rng = random.Random(1)
    assert {STREET.visit(LAMP, rng).kind for _ in range(100)} == {PAGE.kind, LISTING.kind, API.kind, people.Kind.PRICE}


def told(edge: Edge, method: str, visit: Visit, status: int = 200) -> list[Event]:
    """What is noted of one answer."""
    events: list[Event] = []
    edge.status[method, visit.target] = status
    crowd(events).answered("eu", method, visit, edge.answer(method, visit.target))
    return events


@pytest.mark.parametrize("visit", [PAGE, API, people.price(*LAMP)])
def test_an_answer_without_the_price_that_it_is_about_is_wrong(edge, visit):
    """A page that was cut short is one."""
    edge.amounts["GET", visit.target] = None
    (event,) = told(edge, "GET", visit)
    assert isinstance(event, Other)
    assert event.what == "unreadable: SKU-1 (eu-eur) is not shown"


@pytest.mark.parametrize(
    ("method", "visit", "status"),
    [
        pytest.param("GET", LISTING, 200, id="a listing of which this may be another page"),
        pytest.param("HEAD", PAGE, 200, id="a HEAD of a body that nobody has read"),
        pytest.param("GET", PAGE, 304, id="a 304 to a body that nobody remembers"),
        pytest.param("GET", PAGE, 503, id="a failure"),
    ],
)
def test_what_need_not_show_a_price_is_not_wrong_without(edge, method, visit, status):
    edge.amounts[method, visit.target] = None
    (event,) = told(edge, method, visit, status)
    assert isinstance(event, Other)
    assert event.what == ""


def test_a_page_whose_prices_are_being_confirmed_need_not_show_them(edge):
    edge.marked, edge.amounts["GET", PAGE.target] = True, None
    (event,) = told(edge, "GET", PAGE)
    assert isinstance(event, Other)
    assert event.what == "marked"


def test_another_body_under_the_same_etag_is_wrong_and_judged_by_what_it_shows(edge):
    events: list[Event] = []
    everybody = crowd(events)
    edge.etag = '"same"'
    for amount in (1200, 1300):
        edge.amounts["GET", PAGE.target] = amount
        everybody.answered("eu", "GET", PAGE, edge.answer("GET", PAGE.target))
    first, second, other = events
    assert isinstance(first, Seen)
    assert isinstance(second, Seen)
    assert (first.shown, second.shown) == (((0, 1200),), ((0, 1300),))
    assert isinstance(other, Other)
    assert other.what == 'unreadable: another body under the same ETag "same"'
