"""An origin that knows nothing of positions, behind an edge with a purge log of its own: RFC 9111 to the letter, and
the race between purge and fill closed by the position applied when the fill began (docs/freshness.md, rule 2)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path

import pytest
import pytest_asyncio

from cache_policies.folder import folder_called
from cache_policies.tags import path_tag
from edge.gateway.explain import described_request
from edge.gateway.settings import Positions
from tests.support.edge_shop import EdgeShop
from tests.support.scripted_origin import Pace, Reply, Seen, changed

PAGE = "/a/page"
TAG = path_tag(PAGE)


@pytest_asyncio.fixture
async def shop(tmp_path: Path) -> AsyncIterator[EdgeShop]:
    async with EdgeShop(tmp_path, policies=folder_called("rfc9111"), settings={"positions": Positions.SITE}) as shop:
        yield shop


def answer(body: bytes = b"one", cache_control: str = "max-age=60", status: int = 200, **fields: str) -> Reply:
    headers = {"date": formatdate(1_795_000_000, usegmt=True), "cache-control": cache_control}
    headers |= {name.replace("_", "-"): value for name, value in fields.items()}
    return Reply(body, status, {name: value for name, value in headers.items() if value})


async def test_the_origin_hears_nothing_of_positions_and_gets_what_the_viewer_sent(shop):
    shop.origin.on(PAGE, answer())
    await shop.get(f"{PAGE}?b=2&a=1", "Cookie: a=b", "X-Own: 1")
    seen = shop.origin.last(PAGE)
    assert seen.target == f"{PAGE}?b=2&a=1"
    assert (seen.headers["host"], seen.headers["cookie"], seen.headers["x-own"]) == (shop.host, "a=b", "1")
    assert not {"min-catalog-version", "nearshelf-edge-key", "nearshelf-country"} & set(seen.headers)


async def test_what_is_stored_is_at_the_position_that_was_applied_when_it_was_asked_for(shop):
    shop.purge("something-else")
    shop.origin.on(PAGE, answer(catalog_version="9.9"))
    await shop.get(PAGE)
    (stored,) = shop.gateway.store.peek(next(iter(shop.gateway.store._entries)))
    assert stored.position == shop.position
    assert (await shop.get(PAGE)).is_hit


@pytest.mark.parametrize("soft", [False, True])
async def test_a_fill_that_began_before_a_purge_is_neither_stored_nor_given_to_those_who_came_after(shop, soft):
    shop.origin.on(PAGE, answer(b"new"))
    with shop.origin.holding(PAGE) as held:
        before = shop.asking(PAGE)
        await held.arrived()
        shop.purge(TAG, soft=soft)
        after = shop.asking(PAGE)
        await shop.has_waiters(2)
        held.answer(answer(b"old"))
        assert (await after).body == b"new"
        assert (await before).body == b"new"
    again = await shop.get(PAGE)
    assert (again.is_hit, again.body) == (True, b"new")


async def test_a_validation_that_began_before_a_purge_confirms_nothing(shop):
    shop.origin.on(PAGE, answer(b"old", "max-age=10", etag='"1"'))
    await shop.get(PAGE)
    shop.later(11)
    with shop.origin.holding(PAGE) as held:
        before = shop.asking(PAGE)
        seen = await held.arrived()
        assert seen.headers["if-none-match"] == '"1"'
        shop.purge(TAG)
        shop.origin.on(PAGE, answer(b"new", etag='"2"'))
        held.answer(answer(b"", status=304, etag='"1"'))
        assert (await before).body == b"new"
    again = await shop.get(PAGE)
    assert (again.is_hit, again.body) == (True, b"new")


async def test_a_background_refresh_that_began_before_a_purge_stores_nothing_old(shop):
    shop.origin.on(PAGE, answer(b"old", "max-age=10, stale-while-revalidate=100"))
    await shop.get(PAGE)
    shop.later(11)
    with shop.origin.holding(PAGE) as held:
        assert (await shop.get(PAGE)).body == b"old"
        await held.arrived()
        shop.purge(TAG)
        shop.origin.on(PAGE, answer(b"new"))
        held.answer(answer(b"old again"))
        await shop.until(lambda: not len(shop.gateway._flights))
    assert (await shop.get(PAGE)).body == b"new"


async def test_what_grows_while_it_is_purged_is_not_stored_and_nobody_joins_it(shop):
    pace = Pace(100_000)
    body = b"x" * 300_000
    shop.origin.on(PAGE, changed(answer(body), pace=pace, chunked=True))
    before = shop.asking(PAGE)
    await shop.until(lambda: any(flight.growing for flight in shop.gateway._flights._under_way.values()))
    shop.purge(TAG)
    shop.origin.on(PAGE, answer(b"new"))
    assert (await shop.get(PAGE)).body == b"new"
    pace.to(len(body))
    assert (await before).body == body
    again = await shop.get(PAGE)
    assert (again.is_hit, again.body) == (True, b"new")


async def test_an_origin_that_purges_keep_overtaking_answers_those_who_came_before(shop):
    """The log moves with each answer; who arrived before all of that may have what was read then."""

    def overtaken(seen: Seen) -> Reply:
        shop.purge(TAG)
        return answer(b"at last")

    shop.origin.on(PAGE, overtaken)
    response = await shop.get(PAGE)
    assert (response.status, response.body, response.detail) == (200, b"at last", "overtaken")


async def test_past_the_lease_nothing_is_fresh_and_nobody_takes_a_flight_that_was_sent_before(shop):
    shop.origin.on(PAGE, answer(etag='"1"'))
    await shop.get(PAGE)
    shop.later(3, lease=False)
    with shop.origin.holding(PAGE) as held:
        first = shop.asking(PAGE)
        await held.arrived()
        second = shop.asking(PAGE)
        await shop.has_waiters(2)
        held.answer(answer(b"", status=304, etag='"1"'))
        assert (await first).body == (await second).body == b"one"
    assert shop.origin.count(PAGE) == 3


# -- RFC 9111 ----------------------------------------------------------------------------------------------------------


def personal(seen: Seen, cache_control: str, **fields: str) -> Reply:
    return answer(b"hello " + seen.headers.get("cookie", "nobody").encode(), cache_control, 200, **fields)


async def test_what_a_refresh_brings_for_the_viewer_who_caused_it_is_for_nobody_else(shop):
    shop.origin.on(PAGE, answer(b"for all", "max-age=10, stale-while-revalidate=600"))
    await shop.get(PAGE)
    shop.later(11)
    shop.origin.on(PAGE, lambda seen: personal(seen, "private", set_cookie=f"sid=of-{seen.headers['cookie']}"))
    with shop.origin.holding(PAGE) as held:
        assert (await shop.get(PAGE, "Cookie: alice")).body == b"for all"
        await held.arrived()
        bob = shop.asking(PAGE, "Cookie: bob", "Cache-Control: max-age=0")
        await shop.has_waiters(1)
        held.answer()
        seen = await bob
    assert (seen.body, seen.headers["set-cookie"]) == (b"hello bob", "sid=of-bob")


async def test_an_overtaken_answer_that_varies_is_not_for_whoever_sent_another_field(shop):
    def overtaken(seen: Seen) -> Reply:
        if shop.origin.count(PAGE) <= 4:
            shop.purge(TAG)
        return personal(seen, "max-age=60", vary="Cookie")

    with shop.origin.holding(PAGE) as held:
        shop.origin.on(PAGE, overtaken)
        alice = shop.asking(PAGE, "Cookie: alice")
        await held.arrived()
        bob = shop.asking(PAGE, "Cookie: bob")
        await shop.has_waiters(2)
        held.answer()
        first, second = await alice, await bob
    assert (first.body, first.detail) == (b"hello alice", "overtaken")
    assert second.body == b"hello bob"


@pytest.mark.parametrize("soft", [False, True])
async def test_a_date_of_whole_seconds_does_not_confirm_what_was_purged(shop, soft):
    modified = formatdate(1_795_000_000, usegmt=True)

    def by_date(seen: Seen) -> Reply:
        if seen.headers.get("if-modified-since") == modified:
            return answer(b"", status=304, last_modified=modified)
        return answer(b"new", last_modified=modified)

    shop.origin.on(PAGE, answer(b"old", "max-age=60, stale-while-revalidate=600", last_modified=modified))
    await shop.get(PAGE)
    shop.origin.on(PAGE, by_date)
    shop.purge(TAG, soft=soft)
    await shop.get(PAGE)
    await shop.until(lambda: shop.origin.count(PAGE) == 2 and not len(shop.gateway._flights))
    again = await shop.get(PAGE)
    assert (again.body, again.is_hit) == (b"new", True)


async def test_only_if_cached_asks_nobody(shop):
    shop.origin.on(PAGE, answer())
    missing = await shop.get(PAGE, "Cache-Control: only-if-cached")
    assert (missing.status, missing.detail, shop.origin.count(PAGE)) == (504, "only-if-cached", 0)
    await shop.get(PAGE)
    assert (await shop.get(PAGE, "Cache-Control: only-if-cached")).is_hit


async def test_a_request_that_wants_the_origins_word_shares_nobodys_flight(shop):
    shop.origin.on(PAGE, answer(etag='"1"'))
    await shop.get(PAGE)
    with shop.origin.holding(PAGE) as held:
        crowd = [shop.asking(PAGE, "Cache-Control: no-cache") for _ in range(3)]
        for _ in crowd:
            await held.arrived()
        held.answer()
        for response in await asyncio.gather(*crowd):
            assert "fwd=request" in response.cache_status


async def test_what_a_request_forbids_to_store_is_not_stored(shop):
    shop.origin.on(PAGE, answer())
    await shop.get(PAGE, "Cache-Control: no-store")
    assert not (await shop.get(PAGE)).is_hit


async def test_requests_with_credentials_share_no_flight(shop):
    shop.origin.on(PAGE, lambda seen: answer(seen.headers["authorization"].encode(), "max-age=60"))
    with shop.origin.holding(PAGE) as held:
        crowd = [shop.asking(PAGE, f"Authorization: Basic {number}") for number in range(3)]
        for _ in crowd:
            await held.arrived()
        held.answer()
        assert sorted(response.body for response in await asyncio.gather(*crowd)) == [
            b"Basic 0",
            b"Basic 1",
            b"Basic 2",
        ]


async def test_a_crowd_of_two_languages_makes_one_forward_request_for_each(shop):
    shop.origin.on(PAGE, lambda seen: answer(seen.headers["accept-language"].encode(), vary="Accept-Language"))
    with shop.origin.holding(PAGE) as held:
        crowd = [shop.asking(PAGE, f"Accept-Language: {'de' if number % 2 else 'fr'}") for number in range(10)]
        await held.arrived()
        await shop.has_waiters(10)
        held.answer()
        answers = await asyncio.gather(*crowd)
    assert [each.body for each in answers] == [b"fr", b"de"] * 5
    assert shop.origin.count(PAGE) == 2


async def test_a_cookie_reaches_the_one_viewer_who_asked(shop):
    secrets = iter(range(100))
    shop.origin.on(PAGE, lambda _: answer(b"yours", set_cookie=f"session={next(secrets)}"))
    with shop.origin.holding(PAGE) as held:
        crowd = [shop.asking(PAGE) for _ in range(5)]
        await held.arrived()
        await shop.has_waiters(5)
        held.answer()
        answers = await asyncio.gather(*crowd)
    assert len({each.headers["set-cookie"] for each in answers}) == 5


async def test_stale_is_shown_while_the_origin_cannot_be_reached(shop):
    shop.origin.on(PAGE, answer(b"old", "max-age=10"))
    await shop.get(PAGE)
    shop.later(11)
    await shop.origin.stop()
    shown = await shop.get(PAGE)
    assert (shown.body, shown.detail) == (b"old", "stale-if-unreachable")
    await shop.origin.start()
    shop.origin.on(PAGE, Reply(b"broken", 500))
    shop.later(60)
    assert (await shop.get(PAGE)).status == 500


@pytest.mark.parametrize(
    ("found", "shown"),
    [
        pytest.param(answer(b"new", "no-store"), b"new", id="not for everybody any more"),
        pytest.param(answer(b"gone", "no-store", 404), b"gone", id="gone"),
        pytest.param(answer(b"yours", set_cookie="a=b"), b"old", id="for one viewer"),
        pytest.param(Reply(b"broken", 500), b"old", id="a failure"),
        pytest.param(Reply(b"you again", 429), b"old", id="too many"),
    ],
)
async def test_what_a_refresh_finds_takes_the_place_of_what_is_stale(shop, found, shown):
    shop.origin.on(PAGE, answer(b"old", "max-age=10, stale-while-revalidate=1000"))
    await shop.get(PAGE)
    shop.later(11)
    shop.origin.on(PAGE, found)
    assert (await shop.get(PAGE)).body == b"old"
    await shop.until(lambda: not len(shop.gateway._flights))
    assert (await shop.get(PAGE)).body == shown


async def test_an_origin_that_wants_to_be_asked_and_cannot_be_reached_means_504(shop):
    shop.origin.on(PAGE, answer(b"old", "max-age=10, must-revalidate", etag='"1"'))
    await shop.get(PAGE)
    shop.later(11)
    await shop.origin.stop()
    assert (await shop.get(PAGE)).status == 504


# -- invalidation ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "M-SEARCH"])
@pytest.mark.parametrize(("status", "stays"), [(200, False), (204, False), (303, False), (400, True), (500, True)])
async def test_a_write_makes_what_is_stored_unusable_unless_it_fails(shop, method, status, stays):
    shop.origin.on(PAGE, lambda seen: answer() if seen.method == "GET" else Reply(b"", status))
    await shop.get(PAGE)
    assert (await shop.get(PAGE, "Content-Length: 0", method=method)).status == status
    assert (await shop.get(PAGE)).is_hit is stays


@pytest.mark.parametrize("field", ["Location", "Content-Location"])
@pytest.mark.parametrize(
    ("where", "stays"), [("/other", False), ("http://{host}/other", False), ("http://x/other", True)]
)
async def test_a_write_invalidates_what_it_names_on_its_own_host(shop, field, where, stays):
    shop.origin.on("/other", answer())
    shop.origin.on("/form", Reply(b"", 201, {field: where.format(host=shop.host)}))
    await shop.get("/other")
    await shop.get("/form", "Content-Length: 0", method="POST")
    assert (await shop.get("/other")).is_hit is stays


async def test_a_fill_that_began_before_a_write_is_not_stored(shop):
    shop.origin.on(PAGE, lambda seen: Reply(b"", 204) if seen.method == "POST" else answer(b"new"))
    with shop.origin.holding(PAGE) as held:
        before = shop.asking(PAGE)
        await held.arrived()
        del shop.origin._held[PAGE]
        await shop.get(PAGE, "Content-Length: 0", method="POST")
        assert (await shop.get(PAGE)).body == b"new"
        shop.origin._held[PAGE] = held
        held.answer(answer(b"old"))
        assert (await before).body == b"old"
    again = await shop.get(PAGE)
    assert (again.is_hit, again.body) == (True, b"new")


@pytest.mark.parametrize("method", ["CONNECT", "TRACE", "PURGE"])
async def test_methods_that_nobody_may_use_are_refused(shop, method):
    response = await shop.get(PAGE, method=method)
    assert response.status == 405
    assert shop.origin.count(PAGE) == 0


@pytest.mark.parametrize(
    ("line", "status"),
    [("BREW /pot HTTP/1.1", 501), ("get / HTTP/1.1", 501), ("GE(T / HTTP/1.1", 400), ("BREW / HTTP/3", 400)],
)
async def test_a_method_that_nobody_knows_is_not_implemented(shop, line, status):
    viewer = await shop.viewer()
    viewer.send(f"{line}\r\nHost: {shop.host}\r\n\r\n".encode())
    assert (await viewer.response()).status == status
    assert await viewer.is_closed()


@pytest.mark.parametrize("size", [10, 500_000])
async def test_what_is_passed_on_stays_as_old_as_it_came(shop, size):
    shop.origin.on(PAGE, answer(b"x" * size, "no-store", age="7"))
    assert (await shop.get(PAGE)).headers["age"] == "7"


async def test_upstreams_word_comes_before_ours_in_cache_status(shop):
    shop.origin.on(PAGE, answer(cache_status="Upstream; hit"))
    for _ in range(2):
        response = await shop.get(PAGE)
        lines = [value for name, value in response.pairs if name == "cache-status"]
        assert lines[0] == "Upstream; hit"
        assert lines[1].startswith("nearshelf-eu; ")


# -- explained ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "lines"),
    [
        ("GET", ()),
        ("HEAD", ()),
        ("GET", ("Cookie: a=b", "Authorization: Basic x")),
        ("GET", ("Cache-Control: no-cache",)),
        ("GET", ("Cache-Control: no-store",)),
        ("GET", ("Cache-Control: only-if-cached",)),
        ("GET", ("Range: bytes=0-1",)),
        ("POST", ("Content-Length: 0",)),
        ("M-SEARCH", ()),
        ("OPTIONS", ("Max-Forwards: 0",)),
        ("TRACE", ()),
    ],
)
async def test_explain_says_beforehand_what_becomes_of_a_request(shop, method, lines):
    shop.origin.on(PAGE, answer())
    fields = [(name, value) for name, _, value in (line.partition(": ") for line in lines)]
    request = described_request(f"{PAGE}?a=1", "GET", fields, "127.0.0.1", shop.host)
    told = shop.gateway.explain(replace(request, method=method), "ZZ")["decision"]
    await shop.get(f"{PAGE}?a=1", *lines, method=method)
    (line,) = shop.log_lines()
    said = told["outcome"]
    assert (line["cache"], line.get("fwd")) == (said["cache"], said["fwd"])
    assert line.get("reason") in {said["reason"], told["do_not_store"]}
    assert said["status"] is None or line["status"] == said["status"]
    if told["forward"] is not None:
        seen = shop.origin.last(PAGE)
        connection = {"host", "content-length", "transfer-encoding"}
        assert (seen.method, seen.target) == (told["forward"]["method"], told["forward"]["target"])
        assert sorted(set(seen.headers) - connection) == sorted(set(told["forward"]["fields"]) - connection)
        assert line.get("stored", False) == told["storable"]
