"""httpx over the pool: bodies stream both ways, timeouts and errors are those that a caller of httpx expects."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio

from edge.gateway.origin import Caps, ErrorKind, OriginPool, PoolTransport
from edge.gateway.origin.breaker import Breaker
from edge.gateway.origin.transport import ERRORS
from tests.support.clock import ManualClock
from tests.support.raw_origin import RawOrigin, refusing_url

LATER = httpx.Timeout(5.0)
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


@pytest_asyncio.fixture
async def origin() -> AsyncIterator[RawOrigin]:
    async with RawOrigin() as origin:
        yield origin


def client_of(pool: OriginPool, url: str, timeout: httpx.Timeout = LATER) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=PoolTransport(pool), base_url=url, timeout=timeout, trust_env=False)


@pytest_asyncio.fixture
async def client(origin: RawOrigin) -> AsyncIterator[httpx.AsyncClient]:
    pool = OriginPool((origin.url,), ManualClock(), caps=Caps(connections=1))
    async with client_of(pool, origin.url) as client:
        yield client


async def test_a_body_is_sent_while_it_is_made(origin, client):
    go_on = asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        yield b"first"
        await go_on.wait()
        yield b"second"

    asking = asyncio.create_task(client.post("/a", content=pieces()))
    connection = await origin.accepted()
    head = await connection.request()
    assert b"\r\ntransfer-encoding: chunked\r\n" in head.lower()
    assert await connection.body(10) == b"5\r\nfirst\r\n"
    go_on.set()
    assert await connection.body(16) == b"6\r\nsecond\r\n0\r\n\r\n"
    connection.say(OK)
    assert (await asking).text == "ok"


async def test_a_streamed_body_with_a_length_keeps_it(origin, client):
    async def pieces() -> AsyncIterator[bytes]:
        yield b"hel"
        yield b"lo"

    asking = asyncio.create_task(client.post("/a", content=pieces(), headers={"content-length": "5"}))
    connection = await origin.accepted()
    head = (await connection.request()).lower()
    assert b"\r\ncontent-length: 5\r\n" in head
    assert b"transfer-encoding" not in head
    assert await connection.body(5) == b"hello"
    connection.say(OK)
    assert (await asking).status_code == 200


async def test_a_whole_body_goes_in_one_write_with_its_length(origin, client):
    asking = asyncio.create_task(client.post("/a?b=c", json={"sku": 1}))
    connection = await origin.accepted()
    head = await connection.request()
    assert head.startswith(b"POST /a?b=c HTTP/1.1\r\n")
    assert head.lower().count(b"\r\ncontent-length: 9\r\n") == 1
    assert await connection.body(9) == b'{"sku":1}'
    connection.say(OK)
    assert (await asking).text == "ok"


async def test_a_response_is_read_while_it_comes(origin, client):
    asking = asyncio.create_task(client.send(client.build_request("GET", "/a"), stream=True))
    connection = await origin.accepted()
    await connection.answer(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\none\n\r\n")
    response = await asking
    lines = response.aiter_lines()
    assert await anext(lines) == "one"
    connection.say(b"4\r\ntwo\n\r\n0\r\n\r\n")
    assert [line async for line in lines] == ["two"]
    await response.aclose()
    again = asyncio.create_task(client.get("/b"))
    await connection.answer(OK)
    assert (await again).text == "ok"
    assert origin.connections == 1


async def test_a_response_that_nobody_reads_to_its_end_frees_its_place(origin, client):
    asking = asyncio.create_task(client.send(client.build_request("GET", "/a"), stream=True))
    connection = await origin.accepted()
    await connection.answer(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhello")
    await (await asking).aclose()
    await connection.gone()
    again = asyncio.create_task(client.get("/b"))
    await (await origin.accepted()).answer(OK)
    assert (await again).text == "ok"


async def test_a_refusal_in_the_middle_of_a_body_is_heard(origin, client):
    never = asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        yield b"first"
        await never.wait()

    asking = asyncio.create_task(client.post("/a", content=pieces()))
    connection = await origin.accepted()
    await connection.answer(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno")
    response = await asking
    assert (response.status_code, response.text) == (413, "no")
    # What was not sent would be taken for the next request.
    await connection.gone()


async def test_a_refusal_before_all_of_a_whole_body_has_gone_ends_the_connection(origin, client):
    asking = asyncio.create_task(client.post("/a", content=b"x" * 50_000_000))
    connection = await origin.accepted()
    await connection.answer(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno")
    assert (await asking).status_code == 413
    await connection.gone()


@pytest.mark.parametrize("host", ["http://elsewhere.example", "http://169.254.169.254", "http://[::1]"])
async def test_nobody_but_the_origin_is_asked(origin, client, host):
    with pytest.raises(httpx.UnsupportedProtocol, match="is not this client's origin"):
        await client.get(f"{host}/latest/meta-data")
    assert origin.connections == 0


async def test_a_redirect_that_a_caller_follows_leads_nowhere_else(origin, client):
    asking = asyncio.create_task(client.get("/a", follow_redirects=True))
    redirect = b"HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n"
    await (await origin.accepted()).answer(redirect)
    with pytest.raises(httpx.UnsupportedProtocol):
        await asking


# -- timeouts and errors -----------------------------------------------------------------------------------------------


def test_every_kind_of_failure_has_its_exception():
    assert set(ERRORS) == set(ErrorKind)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (b"", httpx.RemoteProtocolError),
        (b"HTTP/1.1 200", httpx.RemoteProtocolError),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhel", httpx.RemoteProtocolError),
        (b"nonsense\r\n\r\n", httpx.RemoteProtocolError),
        (b"HTTP/1.1 200 OK\r\nx: " + b"y" * 40_000, httpx.RemoteProtocolError),
    ],
)
async def test_an_answer_that_is_none(origin, client, said, expected):
    asking = asyncio.create_task(client.post("/a", content=b"x"))
    connection = await origin.accepted()
    await connection.answer(said)
    connection.hang_up()
    with pytest.raises(expected) as found:
        await asking
    assert found.value.request.url.path == "/a"


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhel"])
async def test_a_callers_read_timeout_is_kept(origin, client, said):
    asking = asyncio.create_task(client.get("/a", timeout=httpx.Timeout(5, read=0.01)))
    await (await origin.accepted()).answer(said)
    with pytest.raises(httpx.ReadTimeout):
        await asking


async def test_a_callers_write_timeout_is_kept(origin, client):
    async def pieces() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 1_000_000

    with pytest.raises(httpx.WriteTimeout):
        await client.post("/a", content=pieces(), timeout=httpx.Timeout(5, write=0.05))


async def test_a_callers_pool_timeout_is_kept(origin, client):
    first = asyncio.create_task(client.get("/a"))
    connection = await origin.accepted()
    with pytest.raises(httpx.PoolTimeout):
        await client.get("/b", timeout=httpx.Timeout(5, pool=0.01))
    await connection.answer(OK)
    assert (await first).text == "ok"


async def test_no_timeout_is_none(origin, client):
    asking = asyncio.create_task(client.get("/a", timeout=None))
    connection = await origin.accepted()
    await connection.answer(OK)
    assert (await asking).text == "ok"


async def test_nobody_there_and_nobody_asked_any_more(origin):
    url = refusing_url()
    async with client_of(OriginPool((url,), ManualClock()), url) as client:
        for _ in range(Breaker.FAILURES):
            with pytest.raises(httpx.ConnectError, match="connection_refused"):
                await client.get("/a")
        with pytest.raises(httpx.ConnectError, match="destination_unavailable"):
            await client.get("/a")


async def test_a_connection_that_takes_too_long():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        pool = OriginPool((url,), ManualClock())
        async with client_of(pool, url, httpx.Timeout(5, connect=0.0)) as client:
            with pytest.raises(httpx.ConnectTimeout):
                await client.get("/a")
        assert pool.under_way == 0
