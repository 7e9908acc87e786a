"""Rule 2 on the real processes: a fill that a purge overtakes never brings the old price back (docs/freshness.md).

Each test holds the origin's whole answer between the origin and an edge worker of its own, makes a change live, lets
the answer go and asks again. The worker is counted in *live*. What is held is below the floor when it lands, so the
worker itself asks again with that floor, whether or not anybody still waits.

Each runs with one worker alone, and with two of one edge and the tier that they share: then the other one must show
what is new as well, without asking the origin.
"""

from __future__ import annotations

import contextlib
import json
import re
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis
from sqlalchemy import text

from cache_policies.markets import load_markets
from cache_policies.positions import Position
from cache_policies.tags import category_prices_tag, product_tag
from origin.catalog import service as catalog
from origin.db import Database
from origin.events.messages import ProductListed, ProductTakenDown
from tests.support.barriers import WITHIN_S, Asked, Barrier, BarrierProxy, EdgeViewer, RealEdge
from tests.support.raw_http import RawResponse
from tests.support.servers import EmbeddedServers, Stack

MARKET = "eu-eur"
STAFF = "/api/staff/v1"
PRICE = re.compile(r'<data class="price"[^>]* data-sku="([^"]+)"[^>]* value="(\d+)"')


def price_of(response: RawResponse | Asked) -> int:
    """The price in the JSON of one, in minor units."""
    assert response.status == 200, response
    price: int = json.loads(response.body)["amount_minor"]
    return price


def prices_in(page: RawResponse | Asked) -> dict[str, int]:
    """The prices in a page by SKU, in minor units."""
    assert page.status == 200, page
    return {sku: int(value) for sku, value in PRICE.findall(page.body.decode())}


@dataclass
class Product:
    sku: str
    page: str
    """Address of its page."""
    price: int
    """In minor units, before any change of the test."""

    @property
    def price_address(self) -> str:
        return f"/api/v1/{MARKET}/prices/{self.sku}"


@dataclass
class Shop:
    """The real shop with an edge worker behind barriers, perhaps another one, and a member of its staff."""

    stack: Stack
    proxy: BarrierProxy
    edge: RealEdge
    http: httpx.AsyncClient
    """To the origin directly, signed in."""
    other: RealEdge | None = None
    """A worker of the same edge."""
    priced: set[str] = field(default_factory=set)

    @property
    def workers(self) -> list[RealEdge]:
        return [self.edge] if self.other is None else [self.edge, self.other]

    async def products(self) -> list[Product]:
        """A page of products whose prices in this market are converted ones, so that they can be given back."""
        found = (await self._ok("GET", f"/api/v1/{MARKET}/products"))["products"]
        return [
            Product(each["sku"], each["url"], each["price"]["amount_minor"])
            for each in found
            if each["price"]["source"] == "converted"
        ]

    async def change_price(self, sku: str, minor_units: int) -> Position:
        """Returns when the change is live, this worker included."""
        self.priced.add(sku)
        amount = f"{minor_units // 100}.{minor_units % 100:02}"
        changed = await self._ok("PUT", f"{STAFF}/products/{sku}/prices/{MARKET}", {"amount": amount})
        return await self.live(Position.parse(changed["position"]))

    async def purge(self, sku: str, kind: str) -> Position:
        order = {"kind": kind, "product": sku, "market": MARKET}
        return await self.live(Position.parse((await self._ok("POST", f"{STAFF}/purges", order))["position"]))

    async def live(self, position: Position) -> Position:
        report = await self._ok("GET", f"{STAFF}/changes/{position}?wait_s={WITHIN_S:g}")
        assert report["state"] == "live", report
        outcomes = {worker["worker"]: worker["outcome"] for worker in report["workers"]}
        for edge in self.workers:
            assert outcomes[edge.worker] == "acknowledged", report
        return position

    async def _ok(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        answer = await self.http.request(method, path, json=body)
        assert answer.is_success, answer.text
        document: dict[str, Any] = answer.json()
        return document

    async def give_back(self) -> None:
        """The prices as they were: other tests use the same shop."""
        for sku in self.priced:
            await self._ok("DELETE", f"{STAFF}/products/{sku}/prices/{MARKET}")

    async def hold(self, target: str, *, method: str = "GET", mid_body: bool = False) -> tuple[EdgeViewer, Barrier]:
        """A viewer whose fill is held at the barrier."""
        barrier = self.proxy.barrier(target, mid_body=mid_body)
        viewer = await self.edge.viewer()
        viewer.send(target, method=method)
        await barrier.held()
        return viewer, barrier

    async def let_go(self, barrier: Barrier) -> None:
        """Once the worker knows of every viewer; what it stores from here on counts for `stored_nothing_below`."""
        await self.edge.has_read_everything()
        self.edge.stored()
        barrier.release()

    def stored_nothing_below(self, live: Position) -> bool:
        """Also what was stored and then replaced at once; something must have been stored."""
        positions = self.edge.stored()
        return bool(positions) and min(positions) >= live

    async def is_asked_again(self, held: Asked, position: Position) -> Asked:
        """The worker's next question about what was held: it names the floor (rule 3)."""
        number = self.proxy.answers_to(held.target).index(held) + 1
        again = await self.proxy.answer(held.target, number)
        assert held.position < position
        assert again.minimum is not None, "asked again without the floor that the answer was below"
        assert position <= again.minimum <= again.position
        return again

    async def is_a_hit(self, target: str) -> RawResponse:
        """What is in the store now, at every worker, without asking the origin."""
        asked = len(self.proxy.answers_to(target))
        response = await self.edge.ask(target)
        assert response.is_hit, response
        if self.other is not None:
            await self.other.has_read_everything()
            there = await self.other.ask(target)
            assert (there.is_hit, there.body) == (True, response.body), there
        assert len(self.proxy.answers_to(target)) == asked
        return response


@pytest.fixture(scope="module")
def staff_token(stack: Stack) -> str:
    login = {"email": stack.staff_email, "password": stack.staff_password}
    answer = httpx.post(f"{stack.origin}{STAFF}/login", json=login, trust_env=False, timeout=WITHIN_S)
    assert answer.is_success, answer.text
    token: str = answer.json()["token"]
    return token


ONE, TWO, TIER = "one worker", "two workers", "two workers and their tier"
OpenShop = Callable[[str], AbstractAsyncContextManager[Shop]]


@pytest.fixture
def open_shop(stack: Stack, staff_token: str, valkey: EmbeddedServers) -> OpenShop:
    """The shop before workers as one of ONE, TWO, TIER says."""

    @contextlib.asynccontextmanager
    async def opened(crew: str) -> AsyncIterator[Shop]:
        signed_in = {"authorization": f"Bearer {staff_token}"}
        environment = {}
        if crew == TIER:
            # What an earlier test has left there is not this one's.
            space = f"barrier-{secrets.token_hex(8)}"
            environment = {"NEARSHELF_REGIONAL": valkey.redis_url, "NEARSHELF_REGIONAL_SPACE": space}
        async with contextlib.AsyncExitStack() as opening:
            proxy = await opening.enter_async_context(BarrierProxy(stack.origin))
            told = (proxy.url, stack.origin, stack.env["NEARSHELF_EDGE_KEY"], environment)
            edge = await opening.enter_async_context(RealEdge(*told))
            other = None
            if crew != ONE:
                other = await opening.enter_async_context(RealEdge(*told, beside=edge))
            http = await opening.enter_async_context(
                httpx.AsyncClient(base_url=stack.origin, headers=signed_in, trust_env=False, timeout=WITHIN_S * 2)
            )
            shop = Shop(stack, proxy, edge, http, other)
            try:
                yield shop
            finally:
                await shop.give_back()

    return opened


@pytest.fixture(params=[ONE, TIER])
async def shop(open_shop: OpenShop, request: pytest.FixtureRequest) -> AsyncIterator[Shop]:
    async with open_shop(request.param) as shop:
        yield shop


VIEWERS = pytest.mark.parametrize("waits", [True, False], ids=["the viewer waits", "the viewer hung up"])


@VIEWERS
@pytest.mark.parametrize("mid_body", [False, True], ids=["with a length", "chunked, held in mid-body"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_an_answer_with_the_old_price(shop: Shop, waits: bool, mid_body: bool, method: str):
    product = (await shop.products())[0]
    viewer, barrier = await shop.hold(product.price_address, method=method, mid_body=mid_body)
    held = await barrier.held()
    assert price_of(held) == product.price
    if not waits:
        viewer.hang_up()

    live = await shop.change_price(product.sku, product.price + 100)
    await shop.let_go(barrier)

    again = await shop.is_asked_again(held, live)
    assert price_of(again) == product.price + 100
    if waits:
        shown = await viewer.response()
        assert shown.status == 200
        assert not shown.is_hit
        assert shown.headers["etag"] == again.answer["etag"] != held.answer["etag"]
        assert shown.headers["content-length"] == str(len(again.body))
        assert method == "HEAD" or price_of(shown) == product.price + 100
    else:
        # Shares the fill that is under way, or finds what it brought.
        assert price_of(await shop.edge.ask(product.price_address)) == product.price + 100
    for _ in range(2):
        assert price_of(await shop.is_a_hit(product.price_address)) == product.price + 100
    assert shop.stored_nothing_below(live)
    assert len(shop.proxy.answers_to(product.price_address)) == 2


@VIEWERS
async def test_a_304_for_a_stored_answer(shop: Shop, waits: bool):
    """JSON is never served stale: after a soft purge the viewer waits while the stored answer is validated."""
    product = (await shop.products())[1]
    assert price_of(await shop.edge.ask(product.price_address)) == product.price
    await shop.purge(product.sku, "soft")
    viewer, barrier = await shop.hold(product.price_address)
    held = await barrier.held()
    assert held.status == 304
    if not waits:
        viewer.hang_up()

    live = await shop.change_price(product.sku, product.price + 200)
    await shop.let_go(barrier)

    assert price_of(await shop.is_asked_again(held, live)) == product.price + 200
    if waits:
        shown = await viewer.response()
        assert not shown.is_hit
        assert price_of(shown) == product.price + 200
    else:
        assert price_of(await shop.edge.ask(product.price_address)) == product.price + 200
    assert price_of(await shop.is_a_hit(product.price_address)) == product.price + 200
    assert shop.stored_nothing_below(live)


async def test_viewers_who_share_the_held_fill(shop: Shop):
    """One joins before the change is live, one after: both are shown the new price, by one more fill."""
    product = (await shop.products())[2]
    leader, barrier = await shop.hold(product.price_address)
    held = await barrier.held()
    before = await shop.edge.viewer()
    before.send(product.price_address)
    await shop.edge.has_read_everything()

    live = await shop.change_price(product.sku, product.price + 300)
    after = await shop.edge.viewer()
    after.send(product.price_address)
    await shop.edge.has_read_everything()
    assert len(shop.proxy.answers_to(product.price_address)) == 1
    await shop.let_go(barrier)

    await shop.is_asked_again(held, live)
    shown = [await viewer.response() for viewer in (leader, before, after)]
    assert [price_of(each) for each in shown] == [product.price + 300] * 3
    assert ["collapsed" in each.cache_status for each in shown] == [False, True, True]
    assert not any(each.is_hit for each in shown)
    assert price_of(await shop.is_a_hit(product.price_address)) == product.price + 300
    assert shop.stored_nothing_below(live)
    assert len(shop.proxy.answers_to(product.price_address)) == 2


@pytest.mark.parametrize("crew", [TWO, TIER])
async def test_a_viewer_of_the_other_worker(open_shop: OpenShop, valkey: EmbeddedServers, crew: str):
    """With a tier it waits for the claim of the first, without one it asks the origin itself: both read the old price,
    and both are shown the new one."""
    async with open_shop(crew) as shop, Redis.from_url(valkey.redis_url) as tier:
        assert shop.other is not None
        product = (await shop.products())[7]
        address = product.price_address
        viewer, barrier = await shop.hold(address)
        barriers = [barrier]
        there = await shop.other.viewer()
        if crew == TIER:
            claims = await claims_asked_for(tier)
            there.send(address)
            while await claims_asked_for(tier) == claims:
                await shop.other.has_read_everything()
            assert len(shop.proxy.answers_to(address)) == 1
        else:
            barriers.append(shop.proxy.barrier(address))
            there.send(address)
            assert price_of(await barriers[1].held()) == product.price

        live = await shop.change_price(product.sku, product.price + 600)
        await shop.let_go(barrier)
        barriers[-1].release()

        for waiting in (viewer, there):
            shown = await waiting.response()
            assert price_of(shown) == product.price + 600
            assert not shown.is_hit
        assert price_of(await shop.is_a_hit(address)) == product.price + 600
        assert shop.stored_nothing_below(live)
        assert len(shop.proxy.answers_to(address)) == (2 if crew == TIER else 4)


async def claims_asked_for(tier: Redis) -> int:
    """How often any worker has asked the tier for a claim."""
    return int((await tier.info("commandstats")).get("cmdstat_set", {}).get("calls", 0))


async def test_a_refresh_behind_the_viewers_back(shop: Shop):
    """Softly purged, shown stale, refreshed; then the price changes: the refreshed copy must not be served."""
    product = (await shop.products())[3]
    assert prices_in(await shop.edge.ask(product.page))[product.sku] == product.price
    await shop.purge(product.sku, "soft")
    barrier = shop.proxy.barrier(product.page)
    stale = await shop.edge.ask(product.page)
    assert (stale.is_hit, stale.detail) == (True, "purged-soft")
    held = await barrier.held()

    live = await shop.change_price(product.sku, product.price + 400)
    late = await shop.edge.viewer()
    late.send(product.page)
    await shop.let_go(barrier)

    again = await shop.is_asked_again(held, live)
    assert prices_in(again)[product.sku] == product.price + 400
    shown = await late.response()
    assert not shown.is_hit
    assert prices_in(shown)[product.sku] == product.price + 400
    assert prices_in(await shop.is_a_hit(product.page))[product.sku] == product.price + 400
    assert shop.stored_nothing_below(live)


async def test_a_refresh_that_nobody_waits_for(shop: Shop):
    product = (await shop.products())[4]
    await shop.edge.ask(product.page)
    await shop.purge(product.sku, "soft")
    barrier = shop.proxy.barrier(product.page)
    assert (await shop.edge.ask(product.page)).detail == "purged-soft"
    held = await barrier.held()
    assert held.status == 304

    live = await shop.change_price(product.sku, product.price + 500)
    await shop.let_go(barrier)

    await shop.is_asked_again(held, live)
    assert prices_in(await shop.edge.ask(product.page))[product.sku] == product.price + 500
    assert prices_in(await shop.is_a_hit(product.page))[product.sku] == product.price + 500
    assert shop.stored_nothing_below(live)


@VIEWERS
async def test_a_404_of_a_product_that_is_listed_meanwhile(shop: Shop, waits: bool):
    product = (await shop.products())[5]
    database = Database(shop.stack.env["DATABASE_URL"], markets=load_markets())
    try:
        await shop.live(await list_product(database, product.sku, listed=False))
        viewer, barrier = await shop.hold(product.price_address)
        held = await barrier.held()
        assert held.status == 404
        if not waits:
            viewer.hang_up()

        live = await shop.live(await list_product(database, product.sku, listed=True))
        await shop.let_go(barrier)

        assert price_of(await shop.is_asked_again(held, live)) == product.price
        if waits:
            assert price_of(await viewer.response()) == product.price
        else:
            assert price_of(await shop.edge.ask(product.price_address)) == product.price
        assert price_of(await shop.is_a_hit(product.price_address)) == product.price
        assert shop.stored_nothing_below(live)
    finally:
        await list_product(database, product.sku, listed=True)
        await database.close()


async def list_product(database: Database, sku: str, *, listed: bool) -> Position:
    """List a product or take it down, as a use case of the catalog does: its change is recorded with it."""
    async with database.unit_of_work(actor="anna@example.com", cause="catalog") as work:
        found = await catalog.product_of(work.connection, sku)
        assert found is not None
        paths = await catalog.category_paths_of(work.connection, sku)
        statement = text("UPDATE catalog.product SET status = :status WHERE sku = :sku")
        status = "listed" if listed else "taken_down"
        await work.connection.execute(statement, {"status": status, "sku": sku})
        work.record((ProductListed if listed else ProductTakenDown)(sku, found.slug, paths))
    assert work.position is not None
    return work.position


@VIEWERS
@pytest.mark.parametrize("moves", ["onto", "off"])
async def test_a_product_that_moves_onto_the_page_or_off_it(shop: Shop, moves: str, waits: bool):
    """Sorted by price: only one of the two answers names the product, both name the order by price."""
    category, first, second = await two_pages(shop)
    target = f"/{MARKET}/c/{category}?sort=price-up"
    if moves == "onto":
        sku, price = next(sku for sku in second if sku not in first), min(first.values()) - 1
    else:
        sku, price = next(iter(first)), max(second.values()) + 1
    tag = product_tag(MARKET, sku)
    viewer, barrier = await shop.hold(target)
    held = await barrier.held()
    assert category_prices_tag(MARKET, category) in held.tags
    assert (tag in held.tags) == (moves == "off")
    if not waits:
        viewer.hang_up()

    live = await shop.change_price(sku, price)
    await shop.let_go(barrier)

    again = await shop.is_asked_again(held, live)
    assert (tag in again.tags) == (moves == "onto")
    shown = await viewer.response() if waits else await shop.edge.ask(target)
    for page in (shown, await shop.is_a_hit(target)):
        assert prices_in(page).get(sku) == (price if moves == "onto" else None)
    assert shop.stored_nothing_below(live)


async def two_pages(shop: Shop) -> tuple[str, dict[str, int], dict[str, int]]:
    """A category whose order by price has a second page; the prices on both, the cheapest first."""
    home = (await shop.http.get(f"/{MARKET}/")).text
    for category in dict.fromkeys(re.findall(rf'href="/{MARKET}/c/([a-z0-9-]+)"', home)):
        pages = []
        for number in (1, 2):
            answer = await shop.http.get(f"/{MARKET}/c/{category}", params={"sort": "price-up", "page": number})
            pages.append({sku: int(value) for sku, value in PRICE.findall(answer.text)})
        if all(pages):
            return category, pages[0], pages[1]
    raise AssertionError("no department has two pages")


async def test_a_fill_that_is_overtaken_each_time(shop: Shop):
    """Rule 3: the last answer goes, unstored, to who came before what it lacks was live; not to who came after."""
    product = (await shop.products())[6]
    early, barrier = await shop.hold(product.price_address)
    for number in range(1, 4):
        following = shop.proxy.barrier(product.price_address)
        await shop.change_price(product.sku, product.price + number)
        barrier.release()
        await following.held()
        barrier = following
    overtaken = await barrier.held()
    live = await shop.change_price(product.sku, product.price + 4)
    late = await shop.edge.viewer()
    late.send(product.price_address)
    await shop.edge.has_read_everything()
    barrier.release()

    shown = await early.response()
    assert price_of(shown) == price_of(overtaken) == product.price + 3
    assert shown.detail == "overtaken"
    assert "stored" not in shown.cache_status
    assert price_of(await late.response()) == product.price + 4
    assert price_of(await shop.is_a_hit(product.price_address)) == product.price + 4
    assert shop.stored_nothing_below(live)
