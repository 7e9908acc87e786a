"""The promise, story by story: what was purged is never shown again, whatever was in flight (docs/freshness.md)."""

from __future__ import annotations

import asyncio
import socket
import struct
from dataclasses import replace
from gzip import compress
from typing import Any

import pytest

from cache_policies.feed import LEASE_S, Answer
from cache_policies.positions import Position
from tests.support.edge_shop import EdgeShop
from tests.support.raw_http import RawResponse
from tests.support.scripted_origin import Reply, changed, page

PAGE = "/eu-eur/products/lamp"
PRICE = "/api/v1/eu-eur/prices/sku-1"
TAG = "p:eu-eur:sku-1"


def price(amount: str, position: str, **more: Any) -> Reply:
    return page(f'{{"amount":"{amount}"}}'.encode(), position=position, etag=f'"{amount}"', **more)


def by_minimum(old: Reply, new: Reply, at: str = "1.6"):
    """A lagging replica: the old answer, unless the request demands the position of the change or the head."""
    return lambda seen: new if seen.minimum in {at, "head"} else old


# -- the purge/fill race -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("held_reply", "method"),
    [
        pytest.param(price("10.00", "1.5"), "GET", id="a plain body"),
        pytest.param(changed(price("10.00", "1.5"), chunked=True), "GET", id="chunked"),
        pytest.param(price("10.00", "1.5"), "HEAD", id="HEAD"),
        pytest.param(price("10.00", "1.5", tags=f"other, {TAG}"), "GET", id="the tag among others"),
        pytest.param(changed(price("none", "1.5"), status=404), "GET", id="a negative answer"),
    ],
)
async def test_a_price_read_before_a_change_is_not_shown_after_it(shop, held_reply, method):
    with shop.origin.holding(PRICE) as held:
        slow_viewer = shop.asking(PRICE, method=method)
        await held.arrived()
        shop.purge(TAG)
        shop.origin.on(PRICE, price("12.00", "1.6"))
        held.answer(held_reply)
        response = await slow_viewer
    assert response.status == 200
    assert response.headers["etag"] == '"12.00"'
    assert shop.origin.last(PRICE).minimum == "1.6"
    again = await shop.get(PRICE)
    assert again.is_hit
    assert again.body == b'{"amount":"12.00"}'


@pytest.mark.parametrize(
    ("status", "more"), [(410, {}), (302, {"location": "/eu-eur/old"}), (404, {"set-cookie": "a=b"})]
)
async def test_what_is_not_stored_is_not_shown_after_the_change_that_ended_it_whatever_its_status(shop, status, more):
    old = changed(price("old", "1.5"), status=status)
    old.headers.update(more)
    shop.origin.on(PRICE, by_minimum(old, price("12.00", "1.6")))
    shop.purge(TAG)
    seen = await shop.get(PRICE)
    assert (seen.status, seen.headers["etag"]) == (200, '"12.00"')


async def test_a_304_read_before_a_change_revives_nothing(shop):
    shop.origin.on(PRICE, price("10.00", "1.5", cdn="max-age=10"))
    await shop.get(PRICE)
    shop.later(11)
    with shop.origin.holding(PRICE) as held:
        viewer = shop.asking(PRICE)
        assert (await held.arrived()).headers["if-none-match"] == '"10.00"'
        shop.purge(TAG)
        shop.origin.on(PRICE, price("12.00", "1.6"))
        held.answer(changed(price("10.00", "1.5"), status=304, body=b""))
        assert b"12.00" in (await viewer).body
    assert b"12.00" in (await shop.get(PRICE)).body


async def test_a_304_from_after_the_change_confirms_the_old_body(shop):
    shop.origin.on(PRICE, price("10.00", "1.5"))
    await shop.get(PRICE)
    shop.purge(TAG)
    shop.origin.on(PRICE, changed(price("10.00", "1.6"), status=304, body=b""))
    response = await shop.get(PRICE)
    assert b"10.00" in response.body
    assert shop.origin.last(PRICE).minimum == "1.6"
    assert (await shop.get(PRICE)).is_hit


async def test_a_waiter_on_somebody_elses_fill_gets_the_new_price_too(shop):
    with shop.origin.holding(PRICE) as held:
        before = shop.asking(PRICE)
        await held.arrived()
        shop.purge(TAG)
        after = shop.asking(PRICE)
        await shop.has_waiters(2)
        shop.origin.on(PRICE, price("12.00", "1.6"))
        held.answer(price("10.00", "1.5"))
        for viewer in (before, after):
            assert b"12.00" in (await viewer).body


async def test_a_purge_in_the_very_turn_in_which_a_flight_lands_reaches_its_followers(shop):
    """The follower takes its share one turn of the loop after the flight stored it."""
    flights = shop.gateway._flights
    original = flights._fetch

    async def purging(errand, fate):
        landed = await original(errand, fate)
        if not purges:
            # Stored, and not yet handed over: now the change goes live.
            purges.append(shop.purge(TAG))
            shop.origin.on(PRICE, price("12.00", "1.6"))
        return landed

    purges: list[object] = []
    flights._fetch = purging
    shop.origin.on(PRICE, price("10.00", "1.5"))
    assert b"12.00" in (await shop.get(PRICE)).body


async def test_a_background_refresh_that_is_overtaken_by_a_purge_stores_nothing_old(shop):
    shop.origin.on(PAGE, page(b"old", cdn="max-age=10, stale-while-revalidate=100", etag='"old"'))
    await shop.get(PAGE)
    shop.later(11)
    with shop.origin.holding(PAGE) as held:
        assert (await shop.get(PAGE)).body == b"old"
        await held.arrived()
        shop.purge(TAG)
        shop.origin.on(PAGE, page(b"new", position="1.6", etag='"new"'))
        held.answer(page(b"old again", position="1.5", etag='"older"'))
        await shop.until(lambda: shop.origin.count(PAGE) == 3)
    await shop.until(lambda: not len(shop.gateway._flights))
    response = await shop.get(PAGE)
    assert (response.body, response.is_hit) == (b"new", True)


async def test_a_tag_that_only_the_old_response_carried_purges_it(shop):
    shop.origin.on(PAGE, page(b"in category", tags="c:eu-eur:shoes"))
    await shop.get(PAGE)
    shop.purge("c:eu-eur:shoes")
    shop.origin.on(PAGE, by_minimum(page(b"in category", tags="c:eu-eur:shoes"), page(b"gone", position="1.6")))
    assert (await shop.get(PAGE)).body == b"gone"


async def test_a_tag_that_only_the_new_response_carries_is_asked_for_again(shop):
    shop.origin.on(PAGE, page(b"v1", tags="c:eu-eur:hats"))
    await shop.get(PAGE)
    shop.purge("c:eu-eur:hats")
    shop.purge("c:eu-eur:shoes")
    shop.origin.on(
        PAGE,
        by_minimum(
            page(b"half", position="1.6", tags="c:eu-eur:shoes"), page(b"whole", position="1.7", tags="c:eu-eur:shoes"),
            at="1.7",
        ),
    )  # fmt: skip
    assert (await shop.get(PAGE)).body == b"whole"


async def test_an_origin_that_cannot_get_above_the_floor_is_given_up_on_with_503(shop):
    shop.origin.on(PRICE, price("10.00", "1.5"))
    shop.purge(TAG)
    response = await shop.get(PRICE)
    assert (response.status, response.headers["retry-after"], response.detail) == (503, "1", "below-floor")
    assert b"10.00" not in response.body
    assert shop.origin.count(PRICE) == 4


async def test_what_is_not_stored_is_held_against_the_floors_as_well(shop):
    shop.purge(TAG)
    vary = {"vary": "user-agent"}
    shop.origin.on(PRICE, by_minimum(price("10.00", "1.5", **vary), price("12.00", "1.6", **vary)))
    assert b"12.00" in (await shop.get(PRICE)).body


async def test_an_unlabelled_price_is_asked_for_at_everything_this_worker_has_heard_of(shop):
    shop.purge("p:eu-eur:other")
    bare = {"tags": "", "catalog_version": ""}
    shop.origin.on(PRICE, by_minimum(price("10.00", "", **bare), price("12.00", "", **bare)))
    assert b"12.00" in (await shop.get(PRICE)).body


async def test_purging_everything_purges_everything(shop):
    shop.origin.on(PAGE, page(b"old"))
    await shop.get(PAGE)
    shop.purge("*")
    shop.origin.on(PAGE, page(b"new", position="1.6"))
    assert (await shop.get(PAGE)).body == b"new"


async def test_a_soft_purge_shows_the_old_copy_once_and_asks_for_the_new_one(shop):
    window = "max-age=60, stale-while-revalidate=600"
    shop.origin.on(PAGE, page(b"old", cdn=window))
    await shop.get(PAGE)
    shop.purge(TAG, soft=True)
    shop.origin.on(PAGE, by_minimum(page(b"old", cdn=window), page(b"new", position="1.6", cdn=window, etag='"n"')))
    stale = await shop.get(PAGE)
    assert (stale.body, stale.detail) == (b"old", "purged-soft")
    await shop.until(lambda: not len(shop.gateway._flights))
    fresh = await shop.get(PAGE)
    assert (fresh.body, fresh.is_hit, fresh.detail) == (b"new", True, "")


# -- overtaken answers -------------------------------------------------------------------------------------------------


def overtaking(shop):
    """An origin that answers with its head, while one more change is applied here before the answer lands."""

    def reply(_seen):
        here = str(shop.position)
        shop.purge(TAG)
        return page(here.encode(), position=here, etag=f'"{here}"')

    return reply


async def test_an_answer_that_purges_keep_overtaking_is_shown_to_who_came_before_them_and_not_stored(shop):
    shop.origin.on(PAGE, overtaking(shop))
    response = await shop.get(PAGE)
    assert (response.status, response.body, response.detail) == (200, b"1.8", "overtaken")
    assert "stored" not in response.cache_status
    assert shop.origin.count(PAGE) == 4
    assert shop.gateway.store.stats().responses == 0
    assert shop.log_lines()[-1]["reason"] == "overtaken"
    assert shop.gateway.status()["cache"]["miss:overtaken"] == 1


async def test_the_last_ask_demands_everything_applied_by_then(shop):
    shop.origin.on(PAGE, overtaking(shop))
    shop.purge("p:eu-eur:other")
    await shop.get(PAGE)
    asked = [seen.minimum for seen in shop.origin.seen if seen.path == PAGE]
    assert asked[-1] == "1.9"


async def test_an_overtaken_answer_is_not_for_a_viewer_who_came_after_the_change(shop):
    shop.origin.on(PAGE, overtaking(shop))
    with shop.origin.holding(PAGE) as held:
        early = shop.asking(PAGE)
        await held.arrived()
        shop.purge(TAG)
        for _ in range(5):
            # More than the first flight can catch up with before it has used up its asks.
            shop.purge("p:eu-eur:other")
        late = shop.asking(PAGE)
        await shop.has_waiters(2)
        came_at = shop.position
        held.answer(page(b"1.5", position="1.5"))
        for viewer in (early, late):
            response = await viewer
            assert (response.status, response.detail) == (200, "overtaken")
            assert Position.parse(response.body.decode()) >= came_at


async def test_a_follower_that_arrives_during_the_last_ask_gets_a_newer_answer(shop):
    answers = overtaking(shop)
    followers: list[asyncio.Task[RawResponse]] = []

    def reply(seen):
        if shop.origin.count(PAGE) == 4:
            late.set()
        return answers(seen)

    late = asyncio.Event()
    shop.origin.on(PAGE, reply)
    original = shop.gateway._fills.send

    async def sending(*arguments, **named):
        response = await original(*arguments, **named)
        if late.is_set() and not followers:
            # The last answer is here, and not judged yet: this viewer arrives after the change that overtakes it.
            came_at.append(shop.position)
            followers.append(shop.asking(PAGE))
            await shop.has_waiters(2)
        return response

    came_at: list[Any] = []
    shop.gateway._fills.send = sending
    first = await shop.get(PAGE)
    second = await followers[0]
    assert first.detail == second.detail == "overtaken"
    assert first.body == b"1.8"
    assert Position.parse(second.body.decode()) >= came_at[0]


async def test_past_the_lease_an_overtaken_answer_of_the_head_is_shown(shop):
    shop.later(LEASE_S, lease=False)

    def reply(_seen):
        here = str(shop.position)
        shop.purge(TAG)
        shop.gateway.lease.give_up()
        return page(here.encode(), position=here)

    shop.origin.on(PAGE, reply)
    response = await shop.get(PAGE)
    assert (response.status, response.detail) == (200, "overtaken")
    assert {seen.minimum for seen in shop.origin.seen if seen.path == PAGE} == {"head"}


async def test_an_overtaken_answer_of_an_ended_epoch_is_refused(shop):
    def reply(_seen):
        shop.position = Position(2, shop.position.cv)
        shop.tell(Answer((), shop.position, f"id-{shop.position}"))
        return page(b"the lost history", position="1.99")

    shop.origin.on(PAGE, reply)
    assert (await shop.get(PAGE)).status == 503


# -- the lease ---------------------------------------------------------------------------------------------------------


async def test_past_the_lease_nothing_is_fresh_and_the_head_is_demanded(shop):
    shop.origin.on(PRICE, price("10.00", "1.5"))
    await shop.get(PRICE)
    shop.later(LEASE_S, lease=False)
    shop.origin.on(PRICE, by_minimum(price("10.00", "1.5"), price("12.00", "1.6")))
    response = await shop.get(PRICE)
    assert (b"12.00" in response.body, response.is_hit, response.detail) == (True, False, "lease-lapsed")
    assert shop.origin.last(PRICE).minimum == "head"
    await shop.get(PRICE)
    assert shop.origin.count(PRICE) == 3
    shop.renew()
    assert (await shop.get(PRICE)).is_hit


async def test_past_the_lease_only_what_needed_it_fails_for_its_sake(shop):
    """A write, and a route that is never stored and shows no price, say what really went wrong."""
    shop.later(LEASE_S, lease=False)
    await shop.origin.stop()
    for method, target, detail in (
        ("GET", PRICE, "lease-lapsed"),
        ("POST", "/eu-eur/cart/lines", "connection_refused"),
        ("GET", "/eu-eur/cart", "connection_refused"),
    ):
        response = await shop.get(target, method=method)
        assert (response.status, response.detail) == (503, detail), target


async def test_past_the_lease_a_viewer_takes_only_a_flight_sent_after_it_arrived(shop):
    shop.later(LEASE_S, lease=False)
    shop.origin.on(PRICE, price("12.00", "1.6"))
    with shop.origin.holding(PRICE) as held:
        first = shop.asking(PRICE)
        await held.arrived()
        # These arrive after the first flight was sent: what it read may be older than they are.
        late = [shop.asking(PRICE) for _ in range(20)]
        await shop.has_waiters(21)
        held.answer(price("10.00", "1.5"))
        assert b"10.00" in (await first).body
    for viewer in late:
        assert b"12.00" in (await viewer).body
    assert shop.origin.count(PRICE) == 2
    assert all(seen.minimum == "head" for seen in shop.origin.seen if seen.path == PRICE)


async def test_a_flight_sent_with_the_lease_held_is_not_shared_with_viewers_who_arrive_past_it(shop):
    with shop.origin.holding(PRICE) as held:
        early = shop.asking(PRICE)
        await held.arrived()
        shop.later(LEASE_S, lease=False)
        late = shop.asking(PRICE)
        demanded = await held.arrived()
        assert demanded.minimum == "head"
        shop.origin.on(PRICE, price("12.00", "1.6"))
        held.answer(None)
        assert b"12.00" in (await late).body
        await early


async def test_past_the_lease_with_the_origin_gone_a_price_is_503_and_a_page_is_marked(shop):
    shop.origin.on(PRICE, price("10.00", "1.5"))
    body = b"<body><!--nearshelf:notice--><p>lamp 10.00</p>"
    shop.origin.on(
        PAGE, page(body, cdn="max-age=60, stale-if-error=600", last_modified="Mon, 01 Jan 2024 00:00:00 GMT")
    )
    await shop.get(PRICE)
    await shop.get(PAGE)
    await shop.origin.stop()
    shop.later(LEASE_S, lease=False)

    refused = await shop.get(PRICE)
    assert (refused.status, refused.headers["retry-after"]) == (503, "1")
    assert refused.headers["content-type"] == "application/problem+json"
    assert b"10.00" not in refused.body

    for lines in ((), ('If-None-Match: "v1"',), ("Range: bytes=0-3",)):
        marked = await shop.get(PAGE, *lines)
        assert marked.status == 200
        assert b"being confirmed" in marked.body
        assert b"lamp 10.00" in marked.body
        assert marked.headers["cache-control"] == "no-store"
        assert not {"etag", "last-modified"} & set(marked.headers)
        assert marked.detail == "stale-marked"
        assert not marked.is_hit

    await shop.origin.start()
    shop.later(5)
    assert (await shop.get(PAGE)).is_hit
    assert (await shop.get(PRICE)).is_hit


async def test_a_purged_page_is_not_even_shown_marked(shop):
    shop.origin.on(PAGE, page(b"old", cdn="max-age=60, stale-if-error=600"))
    await shop.get(PAGE)
    shop.purge(TAG)
    await shop.origin.stop()
    shop.later(LEASE_S, lease=False)
    response = await shop.get(PAGE)
    assert response.status == 503
    assert b"old" not in response.body


@pytest.mark.parametrize(
    "kept",
    [
        pytest.param(page(b"10.00"), id="without a slot"),
        pytest.param(page(compress(b"10.00<!--nearshelf:notice-->"), content_encoding="gzip"), id="coded"),
    ],
)
async def test_a_page_in_which_there_is_no_place_for_the_notice_is_not_shown_without_it(shop, kept):
    shop.origin.on(PAGE, kept)
    assert (await shop.get(PAGE)).body == kept.body
    await shop.origin.stop()
    shop.later(LEASE_S, lease=False)
    response = await shop.get(PAGE)
    assert (response.status, response.detail, response.headers["retry-after"]) == (503, "lease-lapsed", "1")


async def test_a_stopping_worker_serves_nothing_more_from_its_store(shop):
    shop.origin.on(PRICE, price("10.00", "1.5"))
    await shop.get(PRICE)
    shop.gateway.lease.give_up()
    shop.origin.on(PRICE, price("12.00", "1.6"))
    assert b"12.00" in (await shop.get(PRICE)).body


async def test_a_starting_worker_serves_nothing_from_its_store_before_it_has_applied_the_log(tmp_path):
    async with EdgeShop(tmp_path, applied=False) as shop:
        shop.origin.on(PRICE, price("10.00", "1.4"))
        for _ in range(2):
            assert not (await shop.get(PRICE)).is_hit
        assert [seen.minimum for seen in shop.origin.seen if seen.path == PRICE] == ["head", "head"]
        shop.origin.on(PRICE, price("12.00", "1.5"))
        shop.start_following()
        # What it stored before is older than the start of the log: purged, for all that is known.
        assert b"12.00" in (await shop.get(PRICE)).body
        assert (await shop.get(PRICE)).is_hit


async def test_a_starting_worker_does_not_even_show_marked_what_a_sibling_told_it(shop, tmp_path):
    shop.origin.on(PAGE, page(b"<!--nearshelf:notice-->recalled"))
    await shop.get(PAGE)
    [told] = shop.gateway.store.peek(next(iter(shop.gateway.store.keys())))
    async with EdgeShop(tmp_path, applied=False) as starting:
        told = replace(told, key=told.key._replace(authority=starting.host))
        await starting.origin.stop()
        starting.gateway._take(told)
        assert (await starting.get(PAGE)).status == 503
        starting.start_following()
        starting.gateway._take(told)
        assert (await starting.get(PAGE)).is_hit


async def test_an_unstored_read_asks_for_everything_this_worker_has_heard_of(shop):
    shop.origin.on("/elsewhere", Reply(b"x"))
    shop.purge("p:eu-eur:other")
    await shop.get("/elsewhere")
    assert shop.origin.last("/elsewhere").minimum == "1.6"


# -- stale -------------------------------------------------------------------------------------------------------------


async def test_stale_while_revalidate_makes_one_refresh_however_many_look(shop):
    shop.origin.on(PAGE, page(b"old", cdn="max-age=10, stale-while-revalidate=100", etag='"old"'))
    await shop.get(PAGE)
    shop.later(11)
    with shop.origin.holding(PAGE) as held:
        answers = await asyncio.gather(*(shop.get(PAGE) for _ in range(20)))
        assert {(answer.body, answer.detail) for answer in answers} == {(b"old", "stale-while-revalidate")}
        await held.arrived()
        held.answer(page(b"new", cdn="max-age=10", etag='"new"'))
        await shop.until(lambda: not len(shop.gateway._flights))
    assert shop.origin.count(PAGE) == 2
    assert (await shop.get(PAGE)).body == b"new"


async def test_stale_while_revalidate_ends_on_time_though_refreshes_fail(shop):
    shop.origin.on(PAGE, page(b"old", cdn="max-age=10, stale-while-revalidate=100, stale-if-error=0"))
    await shop.get(PAGE)
    shop.origin.on(PAGE, Reply(b"broken", 500))
    for _ in range(10):
        shop.later(10.5)
        assert (await shop.get(PAGE)).body == b"old"
        await shop.until(lambda: not len(shop.gateway._flights))
    shop.later(10)
    assert (await shop.get(PAGE)).status == 500


async def test_a_failed_refresh_is_not_tried_again_at_once(shop):
    shop.origin.on(PAGE, page(b"old", cdn="max-age=10, stale-while-revalidate=100"))
    await shop.get(PAGE)
    shop.later(11)
    shop.origin.on(PAGE, Reply(b"broken", 500))
    for _ in range(5):
        await shop.get(PAGE)
        await shop.until(lambda: not len(shop.gateway._flights))
    assert shop.origin.count(PAGE) == 2
    shop.later(1.5)
    await shop.get(PAGE)
    await shop.until(lambda: shop.origin.count(PAGE) == 3)


@pytest.mark.parametrize(
    "failure",
    [
        pytest.param(Reply(b"broken", 500), id="500"),
        pytest.param(Reply(b"broken", 502), id="502"),
        pytest.param(Reply(b"broken", 503, {"retry-after": "1"}), id="503"),
        pytest.param(Reply(b"broken", 504), id="504"),
        pytest.param(Reply(reset=True), id="reset"),
        pytest.param(changed(page(b"half of it"), cut_after=4), id="cut short"),
        pytest.param(None, id="refused"),
        pytest.param("hold", id="timeout"),
    ],
)
async def test_stale_if_error_covers_a_failing_origin(shop, failure):
    shop.origin.on(PAGE, page(b"old", cdn="max-age=10, stale-while-revalidate=0, stale-if-error=100"))
    await shop.get(PAGE)
    shop.later(11)
    if failure is None:
        await shop.origin.stop()
    elif failure == "hold":
        object.__setattr__(shop.gateway.origins.default.deadlines, "head_s", 0.05)
    else:
        shop.origin.on(PAGE, failure)
    if failure == "hold":
        with shop.origin.holding(PAGE):
            response = await shop.get(PAGE)
    else:
        response = await shop.get(PAGE)
    assert (response.status, response.body, response.detail) == (200, b"old", "stale-if-error")
    assert "fwd=stale" in response.cache_status
    shop.later(100)
    if failure not in (None, "hold"):
        assert (await shop.get(PAGE)).status >= 500


@pytest.mark.parametrize("status", [403, 404, 410])
async def test_stale_if_error_does_not_cover_what_the_origin_means(shop, status):
    shop.origin.on(PAGE, page(b"old", cdn="max-age=10, stale-while-revalidate=0, stale-if-error=100"))
    await shop.get(PAGE)
    shop.later(11)
    shop.origin.on(PAGE, Reply(b"no", status))
    assert (await shop.get(PAGE)).status == status


REFUSED = Reply(b"your key", 403, {"cache-control": "no-store", "nearshelf-refused": "edge-key"})


async def test_an_origin_that_refuses_this_edges_key_counts_as_failing(shop, caplog):
    body = b"old<!--nearshelf:notice-->"
    shop.origin.on(PAGE, page(body, cdn="max-age=10, stale-while-revalidate=0, stale-if-error=100"))
    await shop.get(PAGE)
    shop.later(11)
    for path in (PAGE, PRICE, "/elsewhere"):
        shop.origin.on(path, REFUSED)
    shown = await shop.get(PAGE)
    assert (shown.status, shown.body, shown.detail) == (200, body, "stale-if-error")
    shop.later(LEASE_S, lease=False)
    marked = await shop.get(PAGE)
    assert (marked.status, marked.detail) == (200, "stale-marked")
    for path in (PRICE, "/elsewhere"):
        refused = await shop.get(path)
        assert (refused.status, refused.detail) == (503, "edge-key-refused")
        assert b"your key" not in refused.body
        assert refused.headers["proxy-status"] == "nearshelf-eu; error=proxy_configuration_error"
    assert sum("NEARSHELF_EDGE_KEY" in message for message in caplog.messages) == 1


async def test_a_viewer_who_hangs_up_frees_the_connection_of_an_answer_that_is_not_for_him(shop):
    shop.origin.on(PAGE, page(b"old", cdn="max-age=10, stale-while-revalidate=0, stale-if-error=100"))
    await shop.get(PAGE)
    shop.later(11)
    with shop.origin.holding(PAGE) as held:
        viewer = await shop.viewer()
        viewer.get(PAGE, shop.host)
        await held.arrived()
        linger = struct.pack("ii", 1, 0)
        viewer.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        viewer.writer.transport.abort()
        server = shop.gateway.server
        assert server is not None
        await shop.until(lambda: all(connection.gone for connection in server.connections))
        held.answer(Reply(b"broken", 503))
        await shop.until(lambda: not len(shop.gateway._flights))
    await shop.until(lambda: not shop.gateway.origins.default.under_way)


async def test_a_body_cut_short_is_neither_kept_nor_passed_as_whole(shop):
    shop.origin.on(PAGE, changed(page(b"the whole page"), cut_after=5))
    response = await shop.get(PAGE)
    assert response.status == 502
    shop.origin.on(PAGE, page(b"the whole page"))
    assert (await shop.get(PAGE)).body == b"the whole page"


async def test_a_large_body_cut_short_ends_with_the_connection(shop):
    shop.origin.on("/download", Reply(b"x" * 3_000_000, chunked=True, cut_after=2_000_000))
    viewer = await shop.viewer()
    viewer.get("/download", shop.host)
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await viewer.response()
