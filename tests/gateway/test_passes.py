"""The short way of what is passed through does what the long way does: to the origin, and to the viewer."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from edge.core.policy import ALL, ALL_QUERY, Auth, CachePolicy, DataClass, PolicySet, Throttle
from edge.gateway import passes
from edge.gateway.origin import READ_AHEAD_BYTES
from edge.gateway.server import ViewerConnection
from tests.support.builders import MARKETS
from tests.support.edge_shop import EdgeShop
from tests.support.raw_http import RawResponse
from tests.support.scripted_origin import Reply, Seen

CART = "/eu-eur/cart"
ANY = "/any/thing"

POLICIES = PolicySet(
    [
        CachePolicy(
            "cart", "/{market}/cart", data_class=DataClass.PERSONAL, store=False, cookies=True, query=ALL_QUERY
        ),
        CachePolicy("bare", "/bare", store=False),
        CachePolicy("all", "/any/{rest...}", store=False, request_fields=ALL, query=ALL_QUERY),
        CachePolicy("closed", "/closed", store=False, auth=Auth.REQUIRED),
        CachePolicy("kept", "/kept", fresh_s=60.0),
        CachePolicy("rest", "/{rest...}", store=False),
    ],
    MARKETS,
)

FIELDS = (
    "User-Agent: test/1",
    "Accept: text/html, */*;q=0.8",
    "Accept-Language: de-DE,de;q=0.9",
    "Accept-Encoding: gzip, br",
    "Cookie: session=1; cart=2",
    "Referer: https://elsewhere.example/?a=b",
    "X-Forwarded-For: 203.0.113.9",
    "Sec-Fetch-Mode: navigate",
    'sec-ch-ua: "x"',
    "DNT: 1",
)
"""Every one of them may come with a plain request."""


@pytest_asyncio.fixture
async def shop(tmp_path: Path) -> AsyncIterator[EdgeShop]:
    async with EdgeShop(tmp_path, policies=POLICIES) as shop:
        yield shop


class Way:
    """Counts what goes the short way, to its end (`short`) or not (`left`)."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.short = self.left = 0
        answered, go_on = ViewerConnection.answered, ViewerConnection.go_on

        def count(viewer: ViewerConnection, *arguments: Any) -> None:
            self.short += 1
            answered(viewer, *arguments)

        def count_left(viewer: ViewerConnection, *arguments: Any) -> None:
            self.left += 1
            go_on(viewer, *arguments)

        monkeypatch.setattr(ViewerConnection, "answered", count)
        monkeypatch.setattr(ViewerConnection, "go_on", count_left)

    @property
    def taken(self) -> int:
        return self.short + self.left


@pytest.fixture
def way(monkeypatch: pytest.MonkeyPatch) -> Way:
    return Way(monkeypatch)


def same(first: RawResponse, second: RawResponse) -> None:
    """One answer is the other, whatever the order of its fields."""
    assert (first.status, first.body) == (second.status, second.body)
    assert sorted(first.pairs) == sorted(second.pairs)


def same_forwarded(first: Seen, second: Seen) -> None:
    assert (first.method, first.target, first.body) == (second.method, second.target, second.body)
    assert first.pairs == second.pairs


def only(policy: CachePolicy) -> PolicySet:
    return PolicySet([policy, POLICIES.policies[-1]] if policy.path != "/{rest...}" else [policy], MARKETS)


REPLIES = [
    pytest.param(Reply(b"your cart", headers={"cache-control": "private", "etag": '"x"'}), id="a page"),
    pytest.param(Reply(b""), id="nothing"),
    pytest.param(Reply(b"x" * 100_000, headers={"date": "Sat, 21 Nov 2026 12:00:00 GMT"}), id="a long page"),
    pytest.param(Reply(b"no", 404, {"x-name": "caf\xe9"}), id="404"),
    pytest.param(Reply(b"no", 500), id="500"),
    pytest.param(Reply(b"", 302, {"location": "/eu-eur/"}), id="a redirect"),
    pytest.param(Reply(b"", 204), id="204"),
    pytest.param(Reply(b"", 304, {"etag": '"x"'}), id="304"),
    pytest.param(Reply(b"x", headers={"connection": "keep-alive", "keep-alive": "timeout=5"}), id="kept alive"),
    pytest.param(Reply(b"x", extra=(("set-cookie", "a=b"), ("set-cookie", "c=d"))), id="cookies"),
    pytest.param(
        Reply(b"x", headers={"nearshelf-x": "y", "surrogate-key": "a", "cache-tag": "b"}), id="not for viewers"
    ),
    pytest.param(Reply(b"x", headers={"cdn-cache-control": "max-age=5", "cache-status": "up; hit"}), id="for caches"),
    pytest.param(Reply(b"x", headers={"transfer-encoding-like": "x", "via": "1.1 up"}), id="via"),
]


@pytest.mark.parametrize("reply", REPLIES)
@pytest.mark.parametrize("path", [CART, "/bare", ANY])
async def test_both_ways_say_the_same(shop, way, reply, path):
    shop.origin.on(path, reply)
    long = await shop.get(path, *FIELDS)
    assert way.taken == 0
    short = await shop.get(path, *FIELDS)
    assert (way.short, way.left) == (1, 0)
    same(long, short)
    assert long.headers.get("cache-status") is not None
    same_forwarded(*[seen for seen in shop.origin.seen if seen.path == path])


ODD = [
    pytest.param(Reply(b"x", headers={"age": "7"}), id="cached before"),
    pytest.param(Reply(b"x", headers={"connection": "x-own", "x-own": "1"}), id="a field of that connection"),
    pytest.param(Reply(b"x", headers={"catalog-version": "1.5", "cache-tag": "a"}), id="labelled"),
    pytest.param(Reply(b"your key", 403, {"nearshelf-refused": "edge-key"}), id="refused"),
    pytest.param(Reply(b"chunks" * 1_000, chunked=True), id="chunked"),
    pytest.param(Reply(b"x" * (READ_AHEAD_BYTES + 1)), id="very long"),
    pytest.param(Reply(b"x", until_close=True), id="until the connection ends"),
    pytest.param(Reply(b"0123456789", cut_after=5), id="cut short"),
    pytest.param(Reply(reset=True), id="no answer"),
]


@pytest.mark.parametrize("reply", ODD)
async def test_what_is_more_than_that_goes_on_the_long_way(shop, way, reply):
    # So that the next one finds a connection, and the origin's own failure is met on both ways.
    shop.origin.on("/bare", Reply(b"warm"))
    await shop.get("/bare")
    shop.origin.on("/bare", reply)
    before = shop.origin.count("/bare")
    short = await shop.get("/bare", *FIELDS)
    assert (way.short, way.left) == (0, 1)
    asked = shop.origin.count("/bare") - before
    shop.gateway._exchange._passes.forget_addresses()
    same(await shop.get("/bare", *FIELDS), short)
    assert asked == (2 if reply.reset else 1)


async def test_a_viewer_of_many_requests_is_answered_in_order(shop, way):
    shop.origin.on(CART, lambda seen: Reply(seen.target.encode()))
    targets = [f"{CART}?n={number}" for number in range(8)]
    for target in targets:
        await shop.get(target)
    viewer = await shop.viewer()
    for target in targets:
        viewer.get(target, shop.host)
    assert [(await viewer.response()).body.decode() for _ in targets] == targets


async def test_a_viewer_who_says_close_is_told_so_and_hung_up_on(shop, way):
    shop.origin.on(CART, Reply(b"your cart"))
    await shop.get(CART)
    viewer = await shop.viewer()
    viewer.get(CART, shop.host, "Connection: close")
    response = await viewer.response()
    assert (response.status, response.headers.get("connection")) == (200, "close")
    assert await viewer.reader.read() == b""


@pytest.mark.parametrize(
    "line",
    [
        "Authorization: Basic x",
        "Range: bytes=0-1",
        "If-None-Match: *",
        "Cache-Control: no-cache",
        "Expect: 100-continue",
        "Connection: cookie",
        "Via: 1.0 before",
        "X-Own: y",
        "TE: trailers",
    ],
)
async def test_a_request_with_anything_unusual_goes_the_long_way(shop, way, line):
    shop.origin.on(CART, Reply(b"your cart"))
    await shop.get(CART)
    await shop.get(CART, line)
    assert way.taken == 0


@pytest.mark.parametrize("method", ["HEAD", "POST", "DELETE"])
async def test_other_methods_go_the_long_way(shop, way, method):
    shop.gateway._exchange.use(only(replace(POLICIES.policies[0], forward_methods=ALL)))
    shop.origin.on(CART, Reply(b"your cart"))
    await shop.get(CART)
    await shop.get(CART, method=method)
    assert way.taken == 0


@pytest.mark.parametrize(
    "policy",
    [
        pytest.param(CachePolicy("a", "/{rest...}", store=False, throttle=Throttle(1.0, 100)), id="throttled"),
        pytest.param(CachePolicy("a", "/{rest...}", store=False, blocked_countries=("XX",)), id="blocked"),
        pytest.param(CachePolicy("a", "/{rest...}", store=False, shows_price=True), id="prices"),
        pytest.param(CachePolicy("a", "/{rest...}", fresh_s=60.0), id="stored"),
    ],
)
async def test_routes_that_look_at_who_asks_or_when_go_the_long_way(shop, way, policy):
    shop.gateway._exchange.use(only(policy))
    shop.origin.on("/x", Reply(b"x", headers={"cache-control": "no-store"}))
    for _ in range(2):
        await shop.get("/x")
    assert way.taken == 0


async def test_a_closed_route_stays_closed_to_who_has_no_credentials(shop, way):
    shop.origin.on("/closed", Reply(b"secret"))
    assert (await shop.get("/closed", "Authorization: Basic x")).status == 200
    assert (await shop.get("/closed")).status == 401
    assert way.taken == 0


async def test_the_position_that_goes_along_is_the_one_applied_by_then(shop, way):
    shop.origin.on(CART, Reply(b"your cart"))
    for _ in range(2):
        await shop.get(CART)
    shop.purge("p:eu-eur:sku-1")
    await shop.get(CART)
    await shop.get(CART)
    seen = [seen.minimum for seen in shop.origin.seen if seen.path == CART]
    assert seen[0] == seen[1] != seen[2] == seen[3] == str(shop.position)
    assert way.short == 3


async def test_other_policies_count_from_the_next_request_on(shop, way):
    shop.origin.on(CART, Reply(b"your cart", extra=(("set-cookie", "a=b"),)))
    for _ in range(2):
        assert "set-cookie" in (await shop.get(CART, *FIELDS)).headers
    shop.gateway._exchange.use(only(replace(POLICIES.policies[0], cookies=False)))
    for _ in range(2):
        assert "set-cookie" not in (await shop.get(CART, *FIELDS)).headers
    assert way.short == 2
    assert ["cookie" in seen.headers for seen in shop.origin.seen if seen.path == CART] == [True, True, False, False]


async def test_a_viewer_who_hangs_up_takes_nothing_with_it(shop, way):
    shop.origin.on(CART, Reply(b"your cart"))
    await shop.get(CART)
    with shop.origin.holding(CART) as held:
        viewer = await shop.viewer()
        viewer.get(CART, shop.host)
        await held.arrived()
        at_once = struct.pack("ii", 1, 0)
        viewer.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
        viewer.writer.transport.abort()
        await shop.until(lambda: all(each.gone for each in shop.gateway.server.connections))
        held.answer()
    await shop.until(lambda: not shop.gateway.origins.default.under_way)
    assert (await shop.get(CART)).body == b"your cart"
    assert shop.gateway.status()["cache"]["gone:policy-never-stores"] == 1


async def test_a_stopping_worker_finishes_what_it_is_passing_through(shop, way):
    shop.origin.on(CART, Reply(b"your cart"))
    await shop.get(CART)
    with shop.origin.holding(CART) as held:
        viewer = await shop.viewer()
        viewer.get(CART, shop.host)
        await held.arrived()
        stopping = asyncio.create_task(shop.gateway.server.drain(5))
        await asyncio.sleep(0)
        held.answer()
        assert (await viewer.response()).body == b"your cart"
        await stopping
    assert way.short == 1


async def test_hints_are_handed_on(shop, way):
    shop.origin.on(CART, Reply(b"your cart", headers={"x-n": "1"}))
    await shop.get(CART)
    real = shop.origin._write

    async def hinting(writer: asyncio.StreamWriter, seen: Seen, reply: Reply) -> bool:
        writer.write(b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n")
        return await real(writer, seen, reply)

    shop.origin._write = hinting
    viewer = await shop.viewer()
    viewer.get(CART, shop.host)
    head = await viewer.reader.readuntil(b"\r\n\r\n")
    assert head == b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n"
    assert (await viewer.response()).body == b"your cart"
    assert way.short == 1


async def test_what_is_remembered_is_bounded(shop, way, monkeypatch):
    monkeypatch.setattr(passes, "MAX_KNOWN_TARGETS", 10)
    shop.origin.otherwise = Reply(b"x")
    for number in range(25):
        await shop.get(f"/any/{number}")
    assert len(shop.gateway._exchange._passes._known) <= 10
    await shop.get(f"/any/{'x' * 600}")
    await shop.get(f"/any/{'x' * 600}")
    assert way.taken == 0


async def test_what_is_under_way_while_the_policies_change_is_not_remembered(shop, way):
    shop.origin.on("/bare", Reply(b"x"))
    with shop.origin.holding("/bare") as held:
        before = shop.asking("/bare")
        await held.arrived()
        assert shop.gateway._use(only(CachePolicy("bare", "/bare", store=False, refuse_status=404))) == ()
        held.answer()
        assert (await before).status == 200
    for _ in range(2):
        assert (await shop.get("/bare")).status == 404
    assert way.taken == 0
