"""Crowds, writes, large bodies, slow partners: what reaches the origin, and how often."""

from __future__ import annotations

import asyncio
import shutil

import pytest

from cache_policies.markets import PACKAGED_POLICIES
from edge.gateway.server import Limits
from tests.support.edge_shop import EdgeShop
from tests.support.scripted_origin import Reply, changed, page

PAGE = "/eu-eur/products/lamp"


# -- collapsing --------------------------------------------------------------------------------------------------------


async def test_fifty_viewers_of_a_cold_page_make_one_forward_request(shop):
    with shop.origin.holding(PAGE) as held:
        crowd = [shop.asking(PAGE) for _ in range(50)]
        await held.arrived()
        await shop.has_waiters(50)
        held.answer(page(b"lamp"))
        answers = await asyncio.gather(*crowd)
    assert {answer.body for answer in answers} == {b"lamp"}
    assert shop.origin.count(PAGE) == 1
    assert sum("collapsed" in answer.cache_status for answer in answers) == 49


async def test_a_leader_who_hangs_up_fails_nobody(shop):
    with shop.origin.holding(PAGE) as held:
        leader = await shop.viewer()
        leader.get(PAGE, shop.host)
        await held.arrived()
        follower = shop.asking(PAGE)
        await shop.has_waiters(2)
        leader.writer.transport.abort()
        await asyncio.sleep(0)
        held.answer(page(b"lamp"))
        assert (await follower).body == b"lamp"
    assert shop.origin.count(PAGE) == 1
    assert (await shop.get(PAGE)).is_hit


async def test_a_fill_goes_on_when_its_only_viewer_hangs_up(shop):
    with shop.origin.holding(PAGE) as held:
        viewer = await shop.viewer()
        viewer.get(PAGE, shop.host)
        await held.arrived()
        viewer.writer.transport.abort()
        (connection,) = shop.gateway.server.connections
        await shop.until(lambda: connection._at_end)
        held.answer(page(b"lamp"))
        await shop.until(lambda: not len(shop.gateway._flights))
    assert (await shop.get(PAGE)).is_hit


async def test_a_response_with_a_cookie_is_shared_with_nobody(shop):
    secrets = iter(range(100))
    shop.origin.on(PAGE, lambda _: page(b"yours %d" % next(secrets), set_cookie="session=1"))
    with shop.origin.holding(PAGE) as held:
        crowd = [shop.asking(PAGE) for _ in range(5)]
        await held.arrived()
        await shop.has_waiters(5)
        held.answer()
        answers = await asyncio.gather(*crowd)
    assert len({answer.body for answer in answers}) == 5
    assert not any("set-cookie" in answer.headers for answer in answers)


async def test_a_key_that_proved_not_storable_is_not_queued_on(shop):
    shop.origin.on(PAGE, page(cdn="no-store"))
    await shop.get(PAGE)
    with shop.origin.holding(PAGE) as held:
        crowd = [shop.asking(PAGE) for _ in range(5)]
        for _ in crowd:
            await held.arrived()
        held.answer()
        await asyncio.gather(*crowd)
    shop.origin.on(PAGE, page())
    shop.later(11)
    await shop.get(PAGE)
    assert (await shop.get(PAGE)).is_hit


async def test_a_failing_origin_is_asked_twice_for_a_whole_crowd(shop):
    shop.origin.on(PAGE, Reply(b"broken", 500))
    with shop.origin.holding(PAGE) as held:
        crowd = [shop.asking(PAGE) for _ in range(10)]
        await held.arrived()
        await shop.has_waiters(10)
        held.answer()
        answers = await asyncio.gather(*crowd)
    assert all(answer.status >= 500 for answer in answers)
    assert shop.origin.count(PAGE) == 2


@pytest.mark.parametrize("failure", [Reply(b"broken", 500), changed(page(b"x" * 100), cut_after=10)])
async def test_a_failed_leader_fails_nobody_else(shop, failure):
    shop.origin.on(PAGE, page(b"lamp"))
    with shop.origin.holding(PAGE) as held:
        leader = shop.asking(PAGE)
        await held.arrived()
        crowd = [shop.asking(PAGE) for _ in range(9)]
        await shop.has_waiters(10)
        held.answer(failure)
        assert (await leader).status in {500, 502}
        answers = await asyncio.gather(*crowd)
    assert {answer.body for answer in answers} == {b"lamp"}
    assert shop.origin.count(PAGE) == 2


async def test_a_follower_waits_no_longer_than_its_policy_says(tmp_path):
    policies = tmp_path / "policies"
    policies.mkdir()
    (policies / "default.yaml").write_text(
        "routes:\n  quick:\n    path: /quick\n    fresh: 60s\n    collapse_wait: 1s\n"
        "  default:\n    path: /{rest...}\n    store: false\n"
    )
    shutil.copy(PACKAGED_POLICIES / "markets.yaml", policies)
    async with EdgeShop(tmp_path, policies=policies) as shop:
        with shop.origin.holding("/quick") as held:
            leader = shop.asking("/quick")
            await held.arrived()
            follower = shop.asking("/quick")
            await held.arrived()
            held.answer(page())
            await leader
            assert "collapsed" not in (await follower).cache_status


async def test_a_field_that_connection_names_chooses_nobodys_variant(tmp_path):
    """The origin never sees it, so its answer must not be handed to those who did send it end to end."""
    policies = tmp_path / "policies"
    policies.mkdir()
    (policies / "default.yaml").write_text(
        "routes:\n  spoken:\n    path: /spoken\n    fresh: 60s\n"
        "    request_fields: [accept-language]\n    vary: [accept-language]\n"
        "  default:\n    path: /{rest...}\n    store: false\n"
    )
    shutil.copy(PACKAGED_POLICIES / "markets.yaml", policies)
    async with EdgeShop(tmp_path, policies=policies) as shop:
        shop.origin.on(
            "/spoken", lambda seen: page(seen.headers.get("accept-language", "none").encode(), vary="accept-language")
        )
        with shop.origin.holding("/spoken") as held:
            forger = shop.asking("/spoken", "Accept-Language: de", "Connection: Accept-Language, keep-alive")
            await held.arrived()
            reader = shop.asking("/spoken", "Accept-Language: de")
            await held.arrived()
            held.answer()
            assert ((await forger).body, (await reader).body) == (b"none", b"de")
        assert (await shop.get("/spoken", "Accept-Language: de")).body == b"de"


async def test_the_origin_sees_of_a_field_that_tells_variants_apart_the_one_spelling_that_they_share(tmp_path):
    policies = tmp_path / "policies"
    policies.mkdir()
    (policies / "default.yaml").write_text(
        "routes:\n  trial:\n    path: /trial\n    fresh: 60s\n    request_fields: [x-trial]\n    vary: [x-trial]\n"
        "  default:\n    path: /{rest...}\n    store: false\n"
    )
    shutil.copy(PACKAGED_POLICIES / "markets.yaml", policies)
    async with EdgeShop(tmp_path, policies=policies) as shop:
        shop.origin.on("/trial", lambda seen: page(seen.headers["x-trial"].encode(), vary="X-Trial"))
        forged = await shop.get("/trial", "X-Trial: A", "X-Trial:  , b")
        assert (forged.body, forged.is_hit) == (b"a,b", False)
        reader = await shop.get("/trial", "X-Trial: a, b")
        assert (reader.body, reader.is_hit) == (b"a,b", True)


# -- through to the origin ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_write_is_streamed_while_it_arrives(shop, chunked):
    shop.origin.on("/market", Reply(b"done", 303, {"location": "/jp-jpy/", "set-cookie": "ns_market=jp-jpy"}))
    viewer = await shop.viewer()
    framing = "Transfer-Encoding: chunked" if chunked else "Content-Length: 600000"
    viewer.get("/market", shop.host, framing, "Content-Type: text/plain", "X-Secret: 1", method="POST")
    for _ in range(60):
        data = b"x" * 10_000
        viewer.send(b"%x\r\n%b\r\n" % (len(data), data) if chunked else data)
        await viewer.writer.drain()
    if chunked:
        viewer.send(b"0\r\n\r\n")
    response = await viewer.response()
    assert (response.status, response.body) == (303, b"done")
    assert response.headers["location"] == "/jp-jpy/"
    seen = shop.origin.last("/market")
    assert len(seen.body) == 600_000
    assert "x-secret" not in seen.headers
    assert "expect" not in seen.headers
    assert response.detail == "policy-never-stores"
    viewer.get("/again", shop.host)
    assert (await viewer.response()).status == 404


async def test_the_last_write_of_a_connection_may_send_its_body_after_its_head(shop):
    shop.origin.on("/market", Reply(b"done", 303))
    viewer = await shop.viewer()
    viewer.get("/market", shop.host, "Connection: close", "Content-Length: 5", method="POST")
    await shop.until(lambda: any(conn._busy is not None for conn in shop.gateway.server.connections))
    viewer.send(b"hello")
    assert (await viewer.response()).status == 303
    assert shop.origin.last("/market").body == b"hello"
    assert await viewer.is_closed()


@pytest.mark.parametrize("connection", ["keep-alive", "close"])
@pytest.mark.parametrize("body", [b"0x2\r\nab\r\n", b"-2\r\nab\r\n", b"2\r\nabXX"])
async def test_a_malformed_body_is_answered_400_and_the_origin_never_gets_its_end(shop, connection, body):
    shop.origin.on("/market", Reply(b"done"))
    viewer = await shop.viewer()
    viewer.get("/market", shop.host, f"Connection: {connection}", "Transfer-Encoding: chunked", method="POST")
    await shop.until(lambda: any(conn._busy is not None for conn in shop.gateway.server.connections))
    viewer.send(body)
    response = await viewer.response()
    assert (response.status, response.detail) == (400, "malformed")
    assert await viewer.is_closed()
    assert shop.origin.count("/market") == 0


async def test_a_write_is_sent_once_even_if_its_connection_dies(shop):
    shop.origin.on("/market", Reply(b"ok"))
    await shop.get("/market", "Content-Length: 0", method="POST")
    shop.origin.on("/market", Reply(reset=True))
    response = await shop.get("/market", "Content-Length: 0", method="POST")
    assert response.status >= 500
    assert shop.origin.count("/market") == 2


async def test_a_read_is_repeated_once_when_a_kept_connection_turned_out_dead(shop):
    shop.origin.on(PAGE, page(cdn="no-store"))
    await shop.get(PAGE)
    await shop.origin.stop()
    await shop.origin.start()
    assert (await shop.get(PAGE)).status == 200


async def test_a_refusal_before_the_end_of_a_write_is_passed_on_and_closes(shop):
    shop.origin.on("/market", Reply(b"too much", 413))
    original = shop.origin._one

    async def impatient(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 No\r\ncontent-length: 8\r\nconnection: close\r\n\r\ntoo much")
        await writer.drain()
        return False

    shop.origin._one = impatient
    viewer = await shop.viewer()
    viewer.get("/market", shop.host, "Content-Length: 5000000", method="POST")
    viewer.send(b"x" * 100_000)
    response = await viewer.response()
    shop.origin._one = original
    assert (response.status, response.body) == (413, b"too much")
    assert response.headers["connection"] == "close"


async def test_a_write_past_its_limit_is_refused_and_the_origin_never_gets_its_end(tmp_path):
    async with EdgeShop(tmp_path, limits=Limits(body_bytes=1_000)) as shop:
        viewer = await shop.viewer()
        viewer.get("/market", shop.host, "Transfer-Encoding: chunked", method="POST")
        viewer.send(b"5dc\r\n" + b"x" * 1500 + b"\r\n0\r\n\r\n")
        response = await viewer.response()
        assert (response.status, response.detail) == (413, "body-too-large")
        assert await viewer.is_closed()
        assert shop.origin.count("/market") == 0


async def test_a_large_body_is_streamed_and_waits_for_its_viewer(shop):
    size = 30_000_000
    shop.origin.on("/download", Reply(b"x" * size))
    viewer = await shop.viewer()
    viewer.get("/download", shop.host)
    await shop.until(lambda: any(conn._write_paused for conn in shop.gateway.server.connections))
    (connection,) = shop.gateway.server.connections
    for _ in range(200):
        await asyncio.sleep(0)
    assert connection.transport.get_write_buffer_size() < 2_000_000
    response = await viewer.response()
    assert len(response.body) == size


@pytest.mark.parametrize("path", ["/live", "/eu-eur/products/lamp"])
async def test_head_says_no_length_where_nobody_knows_it(shop, path):
    shop.origin.on(path, Reply(b"y" * 400_000, headers={"cache-control": "no-store"}, chunked=True))
    assert len((await shop.get(path)).body) == 400_000
    head = await shop.get(path, method="HEAD")
    assert (head.status, head.body) == (200, b"")
    assert "content-length" not in head.headers


async def test_chunked_stays_chunked_for_a_body_of_unknown_length(shop):
    shop.origin.on("/live", Reply(b"y" * 5_000, chunked=True))
    response = await shop.get("/live")
    assert response.headers["transfer-encoding"] == "chunked"
    assert response.body == b"y" * 5_000


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        pytest.param(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello", 502, id="two lengths"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\nhello", 502, id="two framings"
        ),
        pytest.param(b"SSH-2.0-OpenSSH\r\n", 502, id="not HTTP"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nx: " + b"a" * 40_000 + b"\r\ncontent-length: 0\r\n\r\n", 502, id="a huge head"
        ),
        pytest.param(b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", 502, id="an upgrade"),
    ],
)
async def test_an_answer_that_is_not_http_is_never_passed_on(shop, raw, status):
    async def babble(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(raw)
        await writer.drain()
        return True

    shop.origin._one = babble
    response = await shop.get(PAGE)
    assert response.status == status
    assert "proxy-status" in response.headers


async def test_bytes_after_a_response_are_never_taken_for_the_next_one(shop):
    smuggled = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil"
    original = shop.origin._write

    async def twice(writer, seen, reply):
        if seen.path == "/first":
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok" + smuggled)
            await writer.drain()
            return True
        return await original(writer, seen, reply)

    shop.origin._write = twice
    shop.origin.on(PAGE, page(b"lamp"))
    assert b"evil" not in (await shop.get("/first")).body
    assert (await shop.get(PAGE)).body == b"lamp"


async def test_a_dead_origin_costs_little_and_is_found_again(shop):
    await shop.origin.stop()
    for _ in range(5):
        assert (await shop.get("/x")).status == 503
    resting = await shop.get("/x")
    assert resting.headers["proxy-status"] == "nearshelf-eu; error=destination_unavailable"
    assert resting.headers["retry-after"] == "1"
    await shop.origin.start()
    shop.later(1)
    assert (await shop.get("/x")).status == 404


# -- one connection ----------------------------------------------------------------------------------------------------


async def test_hits_and_misses_on_one_connection_come_in_order(shop):
    shop.origin.on(PAGE, page(b"lamp"))
    shop.origin.on("/a", Reply(b"A"))
    await shop.get(PAGE)
    viewer = await shop.viewer()
    for target in (PAGE, "/a", PAGE, "/a", PAGE):
        viewer.get(target, shop.host)
    assert [(await viewer.response()).body for _ in range(5)] == [b"lamp", b"A", b"lamp", b"A", b"lamp"]


async def test_draining_finishes_what_was_begun(shop):
    shop.origin.on("/slow", Reply(b"slow"))
    with shop.origin.holding("/slow") as held:
        viewer = shop.asking("/slow")
        await held.arrived()
        draining = asyncio.create_task(shop.gateway.server.drain(5))
        await asyncio.sleep(0)
        held.answer()
        assert (await viewer).body == b"slow"
        await draining


async def test_a_changed_reply_is_only_changed_where_said():
    assert changed(page(b"a"), body=b"b").headers["cache-tag"] == page(b"a").headers["cache-tag"]


# -- slow bodies -------------------------------------------------------------------------------------------------------


async def test_who_is_slow_with_a_short_body_keeps_no_connection_to_the_origin(shop):
    shop.origin.on("/eu-eur/cart/items", Reply(b"kept", headers={"cache-control": "no-store"}))
    slow = await shop.viewer()
    slow.send(f"POST /eu-eur/cart/items HTTP/1.1\r\nHost: {shop.host}\r\nContent-Length: 5\r\n\r\nhel".encode())
    await shop.has_waiters(1)
    assert (await shop.get("/eu-eur/cart/else")).status == 404
    assert shop.origin.connections == 1
    slow.send(b"lo")
    assert (await slow.response()).body == b"kept"
    assert shop.origin.last("/eu-eur/cart/items").body == b"hello"
    assert shop.origin.connections == 1
