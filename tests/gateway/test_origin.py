"""The pooled client: which connections are kept, how long anything is waited for, what is never sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio

from edge.core.http import Headers
from edge.gateway.origin import (
    Caps,
    Deadlines,
    ErrorKind,
    OriginError,
    OriginPool,
    PoolTransport,
)
from edge.gateway.origin.breaker import Breaker
from edge.gateway.origin.request_head import render_request_head
from tests.support.clock import ManualClock
from tests.support.scripted_origin import Reply, ScriptedOrigin

SHORT = Deadlines(connect_s=0.5, head_s=0.1, idle_s=0.1, total_s=0.3)
HOST = Headers((("host", "shop"),))


@pytest_asyncio.fixture
async def origin() -> AsyncIterator[ScriptedOrigin]:
    async with ScriptedOrigin() as origin:
        yield origin


def pool_to(origin: ScriptedOrigin, clock: ManualClock | None = None, *, max_connections: int = 4) -> OriginPool:
    caps = Caps(connections=max_connections, queue_s=0.1)
    return OriginPool((origin.url,), clock or ManualClock(), deadlines=SHORT, caps=caps)


async def body_of(pool: OriginPool, target: str, method: str = "GET") -> bytes:
    body = await (await pool.send(method, target, HOST)).read(1_000_000)
    assert body is not None
    return body


@pytest.mark.parametrize(
    ("method", "reply"),
    [
        pytest.param("GET", Reply(b"hello"), id="a length"),
        pytest.param("GET", Reply(b"hello", chunked=True), id="chunked"),
        pytest.param("HEAD", Reply(b"hello"), id="HEAD"),
        pytest.param("GET", Reply(b"", 204), id="204"),
        pytest.param("GET", Reply(b"", 304, {"etag": '"x"'}), id="304"),
        pytest.param("GET", Reply(b""), id="an empty body"),
    ],
)
async def test_a_connection_is_kept_after_a_response_read_to_its_end(origin, method, reply):
    origin.on("/a", reply)
    pool = pool_to(origin)
    for _ in range(3):
        await body_of(pool, "/a", method)
    assert (pool.opened, origin.count("/a")) == (1, 3)
    pool.close()


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(Reply(b"hello", headers={"connection": "close"}), id="close"),
        pytest.param(Reply(b"hello", until_close=True), id="no length"),
    ],
)
async def test_a_connection_that_cannot_go_on_is_not_kept(origin, reply):
    origin.on("/a", reply)
    pool = pool_to(origin)
    assert [await body_of(pool, "/a") for _ in range(2)] == [b"hello", b"hello"]
    assert pool.opened == 2
    pool.close()


async def test_an_old_connection_is_not_used_again_and_a_write_wants_a_young_one(origin):
    clock = ManualClock()
    origin.on("/a", Reply(b"hello"))
    pool = pool_to(origin, clock)
    await body_of(pool, "/a")
    clock.advance(2)
    await body_of(pool, "/a")
    assert pool.opened == 1
    clock.advance(2)
    await (await pool.send("POST", "/a", HOST, b"x")).read(100)
    assert pool.opened == 2
    clock.advance(61)
    await body_of(pool, "/a")
    assert pool.opened == 3
    pool.close()


async def test_a_patient_pool_keeps_spare_connections_in_use_also_for_questions(origin):
    clock = ManualClock()
    origin.on("/a", Reply(b"hello"))
    pool = OriginPool((origin.url,), clock, deadlines=SHORT, patient=True)
    open_at_once = [await pool.send("POST", "/a", HOST, b"x") for _ in range(3)]
    for response in open_at_once:
        await response.read(100)
    # One at a time for longer than an idle connection is kept: each has its turn, so none grows too old.
    for _ in range(9):
        clock.advance(15)
        await (await pool.send("POST", "/a", HOST, b"x")).read(100)
    assert pool.opened == 3
    pool.close()


async def test_requests_beyond_the_limit_wait_for_a_connection(origin):
    origin.on("/a", Reply(b"hello"))
    pool = pool_to(origin, max_connections=2)
    assert await asyncio.gather(*(body_of(pool, "/a") for _ in range(10))) == [b"hello"] * 10
    assert pool.opened == 2
    pool.close()


async def test_waiting_for_a_connection_ends(origin):
    origin.on("/a", Reply(b"hello"))
    pool = pool_to(origin, max_connections=1)
    open_response = await pool.send("GET", "/a", HOST)
    with pytest.raises(OriginError) as found:
        await pool.send("GET", "/a", HOST)
    assert found.value.kind is ErrorKind.CONNECTION_LIMIT_REACHED
    open_response.abandon()
    assert await body_of(pool, "/a") == b"hello"
    pool.close()


async def test_a_waiter_that_is_called_off_leaves_its_place_to_the_next(origin):
    origin.on("/a", Reply(b"hello"))
    pool = pool_to(origin, max_connections=1)
    held = await pool.send("GET", "/a", HOST)
    first = asyncio.create_task(body_of(pool, "/a"))
    second = asyncio.create_task(body_of(pool, "/a"))
    await asyncio.sleep(0)
    await held.read(100)
    first.cancel()
    assert await second == b"hello"
    pool.close()


@pytest.mark.parametrize("held", ["head", "body"])
async def test_silence_is_a_timeout(origin, held):
    pool = pool_to(origin)
    if held == "head":
        with origin.holding("/a"), pytest.raises(OriginError) as found:
            await pool.send("GET", "/a", HOST)
    else:

        async def stalls(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhello")
            await reader.read(1)
            return False

        origin._one = stalls
        response = await pool.send("GET", "/a", HOST)
        with pytest.raises(OriginError) as found:
            await response.read(1_000)
    assert found.value.kind is ErrorKind.HTTP_RESPONSE_TIMEOUT
    pool.close()


async def test_a_body_that_trickles_is_given_up_in_the_end(origin):
    async def trickles(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n")
        for _ in range(100):
            writer.write(b"x")
            await asyncio.sleep(0.02)
        return False

    origin._one = trickles
    pool = pool_to(origin)
    response = await pool.send("GET", "/a", HOST)
    with pytest.raises(OriginError) as found:
        await response.read(1_000)
    assert found.value.kind is ErrorKind.HTTP_RESPONSE_TIMEOUT
    pool.close()


async def test_a_body_that_proves_too_long_can_still_be_streamed_whole(origin):
    origin.on("/a", Reply(b"0123456789" * 1_000, chunked=True))
    pool = pool_to(origin)
    response = await pool.send("GET", "/a", HOST)
    assert await response.read(5_000) is None
    assert b"".join([piece async for piece in response.chunks()]) == b"0123456789" * 1_000
    pool.close()


def test_the_breaker_lets_one_request_try_and_doubles_its_pause():
    breaker = Breaker()
    for _ in range(breaker.FAILURES):
        assert breaker.admits(100.0)
        breaker.failed(100.0)
    assert not breaker.admits(100.4)
    assert breaker.admits(100.5)
    breaker.began(100.5)
    assert not breaker.admits(100.6)
    breaker.failed(100.7)
    assert not breaker.admits(101.6)
    assert breaker.admits(101.8)
    breaker.began(101.8)
    breaker.succeeded()
    assert breaker.admits(101.9)
    assert not breaker.is_open


@pytest.mark.parametrize(
    ("target", "pairs"),
    [
        ("/a b", ()),
        ("/a\r\nx: y", ()),
        ("/a", (("x\r\ny", "z"),)),
        ("/a", (("x", "y\r\nz: 1"),)),
        ("/a", (("x", "y\x00"),)),
        ("/a", (("x y", "z"),)),
    ],
)
def test_nothing_breaks_out_of_its_line(target, pairs):
    with pytest.raises(ValueError, match="not a "):
        render_request_head("GET", target, Headers(pairs), None)


async def test_httpx_speaks_over_the_same_pool(origin):
    origin.on("/a", lambda seen: Reply(seen.body.upper(), headers={"x-method": seen.method}, chunked=True))
    pool = pool_to(origin)
    async with httpx.AsyncClient(transport=PoolTransport(pool), base_url=origin.url) as client:
        for _ in range(2):
            response = await client.post("/a", content=b"hello")
            assert (response.text, response.headers["x-method"]) == ("HELLO", "POST")
        assert pool.opened == 1
        assert origin.last("/a").headers["content-length"] == "5"
        await origin.stop()
        with pytest.raises(httpx.ConnectError, match="connection_refused"):
            await client.get("/a")
