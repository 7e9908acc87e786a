"""What a worker counts and exports: of every exchange once, bounded, and with a hit's own time."""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from cache_policies.feed import LEASE_S, Answer
from cache_policies.markets import PACKAGED_POLICIES
from cache_policies.positions import Position, PurgeEntry, PurgeKind
from edge.core.policy import DataClass
from edge.durations import BOUNDS_S, Durations
from edge.gateway import counters, metrics, wire
from edge.gateway.counters import OTHER, Counters, ExchangeLabel, FetchLabel
from edge.gateway.figures import Counts, Ended, Figures, Spread, counted
from edge.policy_files import load_policies
from tests.support.clock import ManualClock
from tests.support.edge_shop import EdgeShop
from tests.support.scraped import Scrape, scrape
from tests.support.scripted_origin import Reply, page

PAGE = "/eu-eur/products/lamp"
REQUESTS = "nearshelf_edge_requests_total"
STATUSES = {"hit", "stale", "validated", "miss", "pass", "edge", "error", "gone"}
SECONDS = "nearshelf_edge_request_seconds"


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[EdgeShop]:
    async with EdgeShop(tmp_path) as shop:
        yield shop


async def scraped(shop: EdgeShop) -> Scrape:
    host, port = shop.gateway.admin_address
    return await scrape(f"http://{host}:{port}", "the-token")


async def ended(shop: EdgeShop) -> dict[tuple[str, ...], float]:
    return (await scraped(shop)).rows(REQUESTS, "route", "status", "reason", "code_class")


# -- what is counted ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("log", [True, False], ids=["with the access log", "without"])
async def test_every_exchange_is_counted_once_by_how_it_ended(tmp_path, log):
    async with EdgeShop(tmp_path, settings={} if log else {"access_log": ""}) as shop:
        shop.origin.on(PAGE, page())
        viewer = await shop.viewer()
        for _ in range(4):
            viewer.get(PAGE, shop.host)
            await viewer.response()
        await shop.get(PAGE, 'If-None-Match: "v1"')
        await shop.get(PAGE, method="HEAD")
        await shop.get("/eu-eur/products/nothing")
        for _ in range(2):
            await shop.get("/somewhere")
        await shop.get(PAGE, method="DELETE")
        found = await ended(shop)
        assert found.pop(("product-page", "hit", "", "2xx")) == 4
        assert found.pop(("product-page", "hit", "", "3xx")) == 1
        assert found.pop(("product-page", "miss", "cold", "2xx")) == 1
        assert found.pop(("default", "pass", "policy-never-stores", "4xx")) == 2
        assert sum(found.values()) == 2
        # One place counts: what the explorer and /status say is made of the same numbers.
        status = shop.gateway.status()
        assert sum(status["cache"].values()) == 10
        assert status["cache"]["hit"] == 5


async def test_a_hit_that_tells_of_an_error_is_counted_by_its_own_class(shop):
    shop.origin.on(PAGE, page(status=404, cdn="max-age=60"))
    viewer = await shop.viewer()
    for _ in range(3):
        viewer.get(PAGE, shop.host)
        await viewer.response()
    assert (await ended(shop))["product-page", "hit", "", "4xx"] == 2


async def test_bytes_are_those_that_viewers_got(shop):
    shop.origin.on(PAGE, page(b"x" * 20_000))
    got = 0
    viewer = await shop.viewer()
    for _ in range(3):
        viewer.get(PAGE, shop.host, "Accept-Encoding: identity")
        head = await viewer.reader.readuntil(b"\r\n\r\n")
        body = await viewer.reader.readexactly(20_000)
        got += len(head) + len(body)
    assert (await scraped(shop)).total("nearshelf_edge_response_bytes_total", route="product-page") == got


class Slow:
    """Writing takes time."""

    def __init__(self, clock: ManualClock) -> None:
        self.takes_s = 0.0
        self._clock = clock

    def of(self, write: Callable[[wire.Wire, Any], None]) -> Callable[[wire.Wire, Any], None]:
        def slowly(to: wire.Wire, data: Any) -> None:
            self._clock.advance(self.takes_s)
            write(to, data)

        return slowly


@pytest.mark.parametrize("log", [True, False], ids=["with the access log", "without"])
@pytest.mark.parametrize("size", [100, 20_000], ids=["in one piece", "in two"])
async def test_a_hit_takes_from_when_its_bytes_were_read_to_when_they_were_handed_over(
    tmp_path, monkeypatch, log, size
):
    async with EdgeShop(tmp_path, settings={} if log else {"access_log": ""}) as shop:
        shop.origin.on(PAGE, page(b"x" * size))
        viewer = await shop.viewer()
        viewer.get(PAGE, shop.host)
        await viewer.response()
        handing_over = Slow(shop.clock)
        monkeypatch.setattr(wire.Wire, "write", handing_over.of(wire.Wire.write))
        monkeypatch.setattr(wire.Wire, "writelines", handing_over.of(wire.Wire.writelines))
        for handing_over.takes_s in (0.0002, 0.0004, 0.0049, 30.0):
            viewer.get(PAGE, shop.host)
            assert (await viewer.response()).is_hit
            shop.renew()
        found = await scraped(shop)
        by_end = {
            float(dict(pairs)["le"]): value
            for (name, pairs), value in found.samples.items()
            if name == f"{SECONDS}_bucket" and dict(pairs)["status"] == "hit"
        }
        assert [by_end[end] for end in (0.00025, 0.0005, 0.0025, 0.005, 10.0, float("inf"))] == [1, 2, 2, 3, 3, 4]
        assert found.total(f"{SECONDS}_sum", status="hit") == pytest.approx(30.0055)
        assert found.total(f"{SECONDS}_count", status="hit") == 4


def test_half_a_millisecond_and_five_are_told_apart():
    apart = [end for end in BOUNDS_S if 0.0005 <= end < 0.005]
    assert BOUNDS_S[0] == 0.00025
    assert len(apart) >= 3
    took = Durations()
    for moment in (*BOUNDS_S, 11.0):
        took.add(moment)
    assert took.counts == [1] * (len(BOUNDS_S) + 1), "each bucket holds its upper end"


async def test_a_crowd_is_one_fetch_and_the_others_are_counted_as_coalesced(shop):
    with shop.origin.holding(PAGE) as held:
        crowd = [shop.asking(PAGE) for _ in range(20)]
        await held.arrived()
        await shop.has_waiters(20)
        shop.clock.advance(0.03)
        held.answer(page())
        await asyncio.gather(*crowd)
    found = await scraped(shop)
    assert found.rows("nearshelf_origin_fetches_total", "route", "result") == {("product-page", "2xx"): 1}
    assert found.total("nearshelf_origin_fetch_seconds_sum", route="product-page") == pytest.approx(0.03)
    assert found.total("nearshelf_edge_coalesced_total", route="product-page") == 19


async def test_what_came_of_each_request_to_the_origin_is_counted(shop):
    shop.origin.on(PAGE, page(cdn="max-age=60, stale-while-revalidate=0"))
    await shop.get(PAGE)
    shop.later(61)
    shop.origin.on(PAGE, Reply(b"", 304, {"etag": '"v1"', "catalog-version": "1.5", "cache-tag": "p:eu-eur:sku-1"}))
    await shop.get(PAGE)
    shop.origin.on("/somewhere", Reply(b"", 302, {"location": "/"}))
    for _ in range(3):
        await shop.get("/somewhere")
    shop.origin.on("/broken", Reply(b"", 500))
    await shop.get("/broken")
    shop.origin.on("/gone", Reply(reset=True))
    await shop.get("/gone")
    found = await scraped(shop)
    assert found.rows("nearshelf_origin_fetches_total", "route", "result") == {
        ("product-page", "2xx"): 1,
        ("product-page", "304"): 1,
        ("default", "3xx"): 3,
        ("default", "5xx"): 1,
        ("default", "connection_terminated"): 1,
    }
    assert found.total("nearshelf_origin_fetch_seconds_count") == 7


async def test_a_stale_answer_is_counted_by_why_on_the_short_way_and_the_long(shop):
    shop.origin.on(PAGE, page(cdn="max-age=60, stale-while-revalidate=600, stale-if-error=600"))
    await shop.get(PAGE)
    shop.later(61)
    with shop.origin.holding(PAGE):
        for _ in range(3):
            await shop.get(PAGE)
        found = await scraped(shop)
        assert found.rows("nearshelf_edge_stale_served_total", "why") == {("stale-while-revalidate",): 3}


# -- the store, the log, the policies ----------------------------------------------------------------------------------


async def test_what_leaves_the_store_is_counted_by_why(tmp_path):
    async with EdgeShop(tmp_path, settings={"store_bytes": 1_000_000}) as shop:
        shop.origin.otherwise = page(b"x" * 200_000, etag=None)
        for number in range(8):
            await shop.get(f"/eu-eur/products/p{number}")
        found = await scraped(shop)
        room = found.total("nearshelf_cache_evictions_total", why="room")
        assert room >= 3
        assert found.total("nearshelf_cache_evicted_age_seconds_count") == room
        objects = found.total("nearshelf_cache_objects")
        assert 0 < found.total("nearshelf_cache_bytes") <= found.total("nearshelf_cache_max_bytes") == 1_000_000
        shop.purge("p:eu-eur:sku-1")
        shop.gateway.store.sweep()
        found = await scraped(shop)
        assert found.total("nearshelf_cache_evictions_total", why="purged") == objects
        assert found.total("nearshelf_cache_objects") == found.total("nearshelf_cache_bytes") == 0


async def test_how_far_the_purge_log_is_applied_and_how_old_that_is(shop):
    shop.purge("a")
    shop.purge("b", soft=True)
    shop.later(1.5, lease=False)
    found = await scraped(shop)
    assert found.rows("nearshelf_purges_total", "mode") == {("hard",): 1, ("soft",): 1}
    assert (found.total("nearshelf_purge_epoch"), found.total("nearshelf_purge_position")) == (1, 7)
    assert found.total("nearshelf_purge_contact_age_seconds") == pytest.approx(1.5)
    assert (found.total("nearshelf_lease_held"), found.total("nearshelf_purge_lag_messages")) == (1, 0)
    # A page of a long log: three are there, one of them has come.
    entry = PurgeEntry(Position(1, 8), "id-1.8", PurgeKind.HARD, ("c",))
    shop.tell(Answer((entry,), Position(1, 10), "id-1.10"))
    shop.later(LEASE_S, lease=False)
    found = await scraped(shop)
    assert found.total("nearshelf_purge_lag_messages") == 2
    assert found.total("nearshelf_lease_held") == 0


async def test_edges_that_decide_alike_have_one_digest_wherever_their_files_are(tmp_path):
    digests = []
    for name, mend in (("one", False), ("two", False), ("three", True)):
        folder = tmp_path / name / "policies"
        shutil.copytree(PACKAGED_POLICIES, folder)
        if mend:
            path = folder / "default.yaml"
            path.write_text(path.read_text() + "\n# a remark\n")
        async with EdgeShop(tmp_path / name, policies=load_policies(folder)) as shop:
            ((digest,),) = (await scraped(shop)).rows("nearshelf_policy_info", "digest")
            assert digest == shop.gateway.status()["policies"]["digest"]
            digests.append(digest)
    assert len(set(digests)) == 1
    policies = load_policies(PACKAGED_POLICIES)
    first, *others = policies.policies
    stricter = type(policies)([replace(first, data_class=DataClass.PERSONAL, store=False), *others], policies.markets)
    assert stricter.digest not in digests


async def test_other_policies_count_under_their_own_routes_from_the_next_request_on(shop):
    shop.origin.on(PAGE, page())
    for _ in range(2):
        await shop.get(PAGE)
    policies = shop.gateway.policies
    renamed = [replace(policy, id=f"new-{policy.id}") for policy in policies.policies]
    assert not shop.gateway._use(type(policies)(renamed, policies.markets, policies.origins))
    for _ in range(2):
        await shop.get(PAGE)
    found = await ended(shop)
    assert found["product-page", "hit", "", "2xx"] == found["new-product-page", "hit", "", "2xx"] == 1


# -- bounded -----------------------------------------------------------------------------------------------------------


async def test_no_attack_makes_series(shop):
    """Random methods, paths, hosts, queries and fields; origins that answer anything."""
    shop.origin.otherwise = lambda seen: Reply(
        b"x", random.Random(seen.target).choice([200, 201, 204, 299, 301, 404, 418, 451, 500, 503, 599])
    )
    rng = random.Random(7)
    words = ["eu-eur", "products", "api", "v1", "prices", "stock", "c", "art", "static", "console", "cart", "..", "%2e"]

    for _ in range(1_000):
        method = rng.choice(["GET", "HEAD", "POST", "PUT", "DELETE", "PURGE", "TRACE", "OPTIONS", f"M{rng.random()}"])
        path = "/" + "/".join(rng.choice([*words, f"x{rng.randrange(10**9)}"]) for _ in range(rng.randrange(5)))
        query = f"?{rng.randrange(10**9)}={rng.randrange(10**9)}" if rng.random() < 0.4 else ""
        host = rng.choice([shop.host, "shop.example", f"h{rng.randrange(10**9)}.example", ""])
        field = rng.choice(
            [f"X-{rng.randrange(10**9)}: 1", "Cache-Control: no-cache", "Range: bytes=0-1", "Cookie: a=b"]
        )
        viewer = await shop.viewer()
        viewer.get(path + query, host, field, "Connection: close", method=method)
        await viewer.reader.read()
        viewer.writer.transport.abort()
    found = await scraped(shop)
    assert found.total(REQUESTS) >= 1_000
    requests = [dict(pairs) for name, pairs in found.samples if name == REQUESTS]
    routes = {policy.id for policy in shop.gateway.policies.policies} | {"-"}
    assert {labels["route"] for labels in requests} <= routes
    assert {labels["status"] for labels in requests} <= STATUSES
    assert {labels["code_class"] for labels in requests} <= {"1xx", "2xx", "3xx", "4xx", "5xx", "-"}
    assert not [labels for labels in requests if any(digit in labels["reason"] for digit in "0123456789")]
    assert len(requests) <= 80
    assert len(found.samples) <= 700


def test_beyond_the_bound_all_else_is_counted_together(monkeypatch):
    monkeypatch.setattr(counters, "MAX_LABELS", 10)
    counting = Counters()
    for number in range(100):
        counting.exchange(f"route-{number}", "hit", "", 200).add(0.001)
        counting.answered(f"route-{number}", 200, 0.001)
    assert len(counting.exchanges) == len(counting.fetches) == 11
    assert counting.exchanges[ExchangeLabel(OTHER, "hit", OTHER, "2xx")].total == 90
    assert counting.fetches[FetchLabel(OTHER, "2xx")].total == 90


# -- told --------------------------------------------------------------------------------------------------------------


def some_figures() -> Figures:
    counting = Counters()
    for route in range(40):
        for status in ("hit", "stale", "miss"):
            counting.exchange(f"route-{route}", status, "why" if status == "stale" else "", 200).add(0.002)
        counting.answered(f"route-{route}", 304, 0.02)
    found = Figures("eu", "one", counted(counting), {"nearshelf_cache_bytes": {(): 5.0}})
    found.counts.counters["nearshelf_cache_evictions"] = {("room",): 3.0}
    found.counts.spreads["nearshelf_purge_ack_seconds"] = {(): Spread((1,) * 16, 7.0)}
    return found


def test_figures_arrive_as_they_were_sent():
    figures = some_figures()
    assert Figures.from_json(figures.to_json()) == figures


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"{}", b'{"pop": "eu", "worker": "w", "exchanges": [1]}', b'{"error": "no"}']
)
def test_what_is_no_figures_is_refused(text):
    with pytest.raises(ValueError, match="no figures"):
        Figures.from_json(text)


def test_counts_are_added_up_label_by_label():
    one, two = some_figures().counts, some_figures().counts
    two.exchanges[ExchangeLabel("only-here", "hit", "", "2xx")] = Ended(Spread((1,) * 16, 1.0), 10, 0)
    total = Counts()
    total.add(one)
    total.add(two)
    assert sum(total.exchanges[ExchangeLabel("route-1", "hit", "", "2xx")].took.counts) == 2
    assert total.exchanges[ExchangeLabel("only-here", "hit", "", "2xx")].bytes_sent == 10
    assert total.counters["nearshelf_cache_evictions"] == {("room",): 6.0}
    assert total.spreads["nearshelf_purge_ack_seconds"] == {(): Spread((2,) * 16, 14.0)}


async def test_a_long_answer_is_made_in_short_pieces_with_everybody_elses_turn_between_them():
    figures = some_figures()
    pieces = list(metrics.pieces(figures))
    assert max(len(piece.samples) for piece in pieces) <= metrics.NUMBERS_AT_ONCE
    turns, over = 0, False

    async def turn() -> None:
        nonlocal turns
        while not over:
            turns += 1
            await asyncio.sleep(0)

    turning = asyncio.create_task(turn())
    text = (await metrics.text_of(figures)).decode()
    over = True
    await turning
    assert turns >= len(pieces)
    # And is one text: each family is announced once, with all of its samples.
    found = Scrape.of(text)
    assert found.total(REQUESTS) == 120
    assert found.total(f"{SECONDS}_count") == 120
    assert len(found.samples) == sum(len(piece.samples) for piece in pieces)


async def test_the_metrics_want_the_token(shop):
    host, port = shop.gateway.admin_address
    async with httpx.AsyncClient(base_url=f"http://{host}:{port}", trust_env=False) as client:
        for path in ("/metrics", "/figures"):
            refused = await client.get(path)
            assert refused.status_code == 401
            assert "nearshelf_" not in refused.text
    assert (await shop.get("/metrics")).status == 404
