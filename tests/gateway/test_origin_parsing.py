"""What an origin may say on a connection: everything doubtful is refused, and nothing of it reaches a viewer."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from edge.core.http import Headers
from edge.gateway.origin import Caps, Deadlines, ErrorKind, OriginError, OriginPool
from edge.gateway.origin.limits import MAX_INTERIM_RESPONSES, MAX_RESPONSE_FIELDS, MAX_RESPONSE_HEAD_BYTES
from tests.support.clock import ManualClock
from tests.support.raw_origin import RawOrigin

HOST = Headers((("host", "shop"),))
OK = b"HTTP/1.1 200 OK\r\n"
EMPTY = OK + b"content-length: 0\r\n\r\n"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"


@pytest_asyncio.fixture
async def origin() -> AsyncIterator[RawOrigin]:
    async with RawOrigin() as origin:
        yield origin


@pytest_asyncio.fixture(params=[True, False], ids=["by wires", "by the loop"])
async def pool(origin: RawOrigin, request: pytest.FixtureRequest) -> AsyncIterator[OriginPool]:
    deadlines, caps = Deadlines(2, 2, 2, 2), Caps(connections=1)
    pool = OriginPool((origin.url,), ManualClock(), deadlines=deadlines, caps=caps, wired=request.param)
    yield pool
    pool.close()


async def said(origin: RawOrigin, pool: OriginPool, data: bytes, method: str = "GET") -> tuple[int, Headers, bytes]:
    """What the edge makes of `data`, said to one request and followed by the end of the connection."""
    asking = asyncio.create_task(pool.send(method, "/a", HOST))
    connection = await origin.accepted()
    await connection.answer(data)
    connection.hang_up()
    response = await asking
    body = await response.read(1_000_000)
    assert body is not None
    return response.status, response.headers, body


REFUSED = [
    pytest.param(b"HTTP/1.1 200 OK\ncontent-length: 0\r\n\r\n", id="bare LF after the status line"),
    pytest.param(OK + b"x: y\ncontent-length: 0\r\n\r\n", id="bare LF after a field"),
    pytest.param(OK + b"x: y\rcontent-length: 0\r\n\r\n", id="bare CR"),
    pytest.param(OK + b"x: a\r\n b\r\ncontent-length: 0\r\n\r\n", id="obs-fold"),
    pytest.param(OK + b" x: a\r\ncontent-length: 0\r\n\r\n", id="a blank before the first field"),
    pytest.param(OK + b"x : a\r\ncontent-length: 0\r\n\r\n", id="a blank before the colon"),
    pytest.param(OK + b"x: a\x00b\r\ncontent-length: 0\r\n\r\n", id="NUL in a value"),
    pytest.param(OK + b"location: /\x01\r\ncontent-length: 0\r\n\r\n", id="a control in a value"),
    pytest.param(OK + b"x: \x7f\r\ncontent-length: 0\r\n\r\n", id="DEL in a value"),
    pytest.param(OK + b"x\x00y: a\r\ncontent-length: 0\r\n\r\n", id="NUL in a name"),
    pytest.param(OK + b"x\xe9: a\r\ncontent-length: 0\r\n\r\n", id="a name that is no token"),
    pytest.param(OK + b": a\r\ncontent-length: 0\r\n\r\n", id="no name"),
    pytest.param(OK + b"nonsense\r\ncontent-length: 0\r\n\r\n", id="no colon"),
    pytest.param(OK + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", id="CL and TE"),
    pytest.param(OK + b"transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n", id="TE and CL"),
    pytest.param(OK + b"content-length: 5\r\ncontent-length: 5\r\n\r\nhello", id="CL twice, the same"),
    pytest.param(OK + b"content-length: 5\r\ncontent-length: 4\r\n\r\nhello", id="CL twice"),
    pytest.param(OK + b"content-length: 5, 5\r\n\r\nhello", id="CL as a list"),
    pytest.param(OK + b"content-length: +5\r\n\r\nhello", id="CL with a sign"),
    pytest.param(OK + b"content-length: -1\r\n\r\nhello", id="CL below zero"),
    pytest.param(OK + b"content-length: 0x5\r\n\r\nhello", id="CL in hex"),
    pytest.param(OK + b"content-length: 1_0\r\n\r\nhellohello", id="CL with an underscore"),
    pytest.param(OK + b"content-length: 5 5\r\n\r\nhello", id="CL with a blank in it"),
    pytest.param(OK + b"content-length:\r\n\r\nhello", id="CL empty"),
    pytest.param(OK + b"content-length: 99999999999999999999999\r\n\r\nhello", id="CL beyond counting"),
    pytest.param(OK + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n", id="TE gzip, chunked"),
    pytest.param(OK + b"transfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n", id="TE chunked, gzip"),
    pytest.param(OK + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n", id="TE xchunked"),
    pytest.param(OK + b"transfer-encoding: identity\r\n\r\nhello", id="TE identity"),
    pytest.param(OK + b"transfer-encoding:\r\n\r\n0\r\n\r\n", id="TE empty"),
    pytest.param(
        OK + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", id="TE chunked twice"
    ),
    pytest.param(b"HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", id="TE in HTTP/1.0"),
    pytest.param(b"HTTP/2.0 200 OK\r\ncontent-length: 0\r\n\r\n", id="HTTP/2.0"),
    pytest.param(b"HTTP/1.2 200 OK\r\ncontent-length: 0\r\n\r\n", id="HTTP/1.2"),
    pytest.param(b"HTTP/0.9 200 OK\r\ncontent-length: 0\r\n\r\n", id="HTTP/0.9"),
    pytest.param(b"RTSP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n", id="RTSP"),
    pytest.param(b"ICE/1.0 200 OK\r\ncontent-length: 0\r\n\r\n", id="ICE"),
    pytest.param(b"http/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", id="http in small letters"),
    pytest.param(b"\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", id="an empty line first"),
    pytest.param(b"HTTP/1.1 099 OK\r\ncontent-length: 0\r\n\r\n", id="status 099"),
    pytest.param(b"HTTP/1.1 600 OK\r\ncontent-length: 0\r\n\r\n", id="status 600"),
    pytest.param(b"HTTP/1.1 20 OK\r\ncontent-length: 0\r\n\r\n", id="status of two digits"),
    pytest.param(b"HTTP/1.1 1000 OK\r\ncontent-length: 0\r\n\r\n", id="status of four digits"),
    pytest.param(b"HTTP/1.1 101 Switching\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n", id="101"),
    pytest.param(b"HTTP/1.1 101 Switching\r\n\r\n" + EMPTY, id="101 that offers nothing"),
    pytest.param(b"HTTP/1.1 103 Hints\r\n\r\n" * (MAX_INTERIM_RESPONSES + 1) + EMPTY, id="103 without end"),
    pytest.param(b"hello\r\n\r\n", id="no HTTP at all"),
]


@pytest.mark.parametrize("data", REFUSED)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_head_that_could_be_read_in_two_ways_is_refused(origin, pool, data, method):
    with pytest.raises(OriginError) as found:
        await said(origin, pool, data, method)
    assert found.value.kind is ErrorKind.HTTP_PROTOCOL_ERROR
    assert pool.under_way == 0


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(OK + b"x: " + b"y" * MAX_RESPONSE_HEAD_BYTES + b"\r\ncontent-length: 0\r\n\r\n", id="one field"),
        pytest.param(OK + b"x: y\r\n" * (MAX_RESPONSE_FIELDS + 1) + b"content-length: 0\r\n\r\n", id="many fields"),
        pytest.param(OK + b"x: " + b"y" * (MAX_RESPONSE_HEAD_BYTES + 10), id="a field that does not end"),
        pytest.param(b"HTTP/1.1 200 " + b"y" * (MAX_RESPONSE_HEAD_BYTES + 10), id="a reason that does not end"),
        pytest.param((b"HTTP/1.1 103 Hints\r\nlink: " + b"y" * 9_000 + b"\r\n\r\n") * 4 + EMPTY, id="with its hints"),
    ],
)
async def test_a_head_that_is_too_long_is_refused(origin, pool, data):
    with pytest.raises(OriginError) as found:
        await said(origin, pool, data)
    assert found.value.kind is ErrorKind.HTTP_RESPONSE_HEADER_SECTION_SIZE


async def test_the_longest_head_passes(origin, pool):
    status, headers, _ = await said(origin, pool, OK + b"x: " + b"y" * 32_000 + b"\r\ncontent-length: 0\r\n\r\n")
    assert (status, len(headers.get("x") or "")) == (200, 32_000)


TAKEN = [
    pytest.param(EMPTY, (200, b""), id="nothing"),
    pytest.param(OK + b"content-length: 5\r\n\r\nhello", (200, b"hello"), id="a length"),
    pytest.param(OK + b"Content-Length:\t5 \r\n\r\nhello", (200, b"hello"), id="blanks around a length"),
    pytest.param(CHUNKED + b"3\r\nhel\r\n2;a=b\r\nlo\r\n0\r\nx: y\r\n\r\n", (200, b"hello"), id="chunks"),
    pytest.param(OK + b"Transfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", (200, b"hello"), id="Chunked"),
    pytest.param(OK + b"\r\nhello", (200, b"hello"), id="until the end of the connection"),
    pytest.param(b"HTTP/1.0 200 OK\r\n\r\nhello", (200, b"hello"), id="HTTP/1.0"),
    pytest.param(b"HTTP/1.1 204 No\r\n\r\n", (204, b""), id="204"),
    pytest.param(b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n", (304, b""), id="304 with a length"),
    pytest.param(b"HTTP/1.1 200\r\ncontent-length: 0\r\n\r\n", (200, b""), id="no reason phrase"),
    pytest.param(b"HTTP/1.1 599 Own\r\ncontent-length: 0\r\n\r\n", (599, b""), id="599"),
    pytest.param(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 P\r\n\r\n" + EMPTY, (200, b""), id="100 and 102"),
]


@pytest.mark.parametrize(("data", "expected"), TAKEN)
async def test_what_is_well_said_is_taken(origin, pool, data, expected):
    status, _, body = await said(origin, pool, data)
    assert (status, body) == expected


@pytest.mark.parametrize("data", [param.values[0] for param in TAKEN])
async def test_bytes_may_come_one_by_one(origin, pool, data):
    together = await said(origin, pool, data)
    asking = asyncio.create_task(pool.send("GET", "/a", HOST))
    connection = await origin.accepted()
    await connection.request()
    connection.writer.transport.set_write_buffer_limits(0)
    for at in range(len(data)):
        connection.say(data[at : at + 1])
        await asyncio.sleep(0)
    connection.hang_up()
    response = await asking
    assert (response.status, response.headers, await response.read(1_000)) == together


async def test_a_field_value_keeps_its_bytes_and_loses_the_blanks_around_it(origin, pool):
    _, headers, _ = await said(origin, pool, OK + b"X-Name: \t caf\xc3\xa9  x \t\r\ncontent-length: 0\r\n\r\n")
    assert headers.get("x-name") == b"caf\xc3\xa9  x".decode("latin-1")


async def test_a_trailer_field_joins_nothing(origin, pool):
    _, headers, body = await said(origin, pool, CHUNKED + b"2\r\nhi\r\n0\r\nset-cookie: a=b\r\netag: x\r\n\r\n")
    assert (headers.pairs, body) == ((("transfer-encoding", "chunked"),), b"hi")


CUT = [
    pytest.param(OK + b"content-length: 10\r\n\r\nhello", id="a length"),
    pytest.param(CHUNKED + b"5\r\nhello\r\n", id="chunks without a last one"),
    pytest.param(CHUNKED + b"5\r\nhel", id="a chunk"),
    pytest.param(CHUNKED + b"5\r\nhello\r\n0\r\n", id="trailer section"),
]


@pytest.mark.parametrize("data", CUT)
async def test_a_body_cut_short_is_no_body(origin, pool, data):
    with pytest.raises(OriginError) as found:
        await said(origin, pool, data)
    assert found.value.kind is ErrorKind.HTTP_RESPONSE_INCOMPLETE
    assert pool.under_way == 0


@pytest.mark.parametrize("data", [b"HTTP/1.1 2", OK, OK + b"content-length: 5\r\n"])
async def test_a_head_cut_short_is_no_head_and_is_not_asked_for_again(origin, pool, data):
    with pytest.raises(OriginError) as found:
        await said(origin, pool, data)
    assert found.value.kind is ErrorKind.HTTP_RESPONSE_INCOMPLETE
    assert origin.connections == 1


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"5\nhello\r\n0\r\n\r\n", id="bare LF after a size"),
        pytest.param(b"5 \r\nhello\r\n0\r\n\r\n", id="a blank after a size"),
        pytest.param(b"0x5\r\nhello\r\n0\r\n\r\n", id="0x"),
        pytest.param(b"+5\r\nhello\r\n0\r\n\r\n", id="a sign"),
        pytest.param(b"\r\nhello\r\n0\r\n\r\n", id="no size"),
        pytest.param(b"5\r\nhelloX\r\n0\r\n\r\n", id="more than its size"),
        pytest.param(b"fffffffffffffffff\r\nhello\r\n0\r\n\r\n", id="a size beyond counting"),
        pytest.param(b"5;a=\x00\r\nhello\r\n0\r\n\r\n", id="a control in an extension"),
        pytest.param(b"5\r\nhello\r\n0\r\nx: y\n\r\n", id="bare LF in the trailer section"),
    ],
)
async def test_chunks_that_are_not_well_formed_end_the_body(origin, pool, data):
    with pytest.raises(OriginError) as found:
        await said(origin, pool, CHUNKED + data)
    assert found.value.kind is ErrorKind.HTTP_PROTOCOL_ERROR


async def test_chunk_extensions_without_end_are_given_up(origin, pool):
    asking = asyncio.create_task(pool.send("GET", "/a", HOST))
    connection = await origin.accepted()
    await connection.answer(CHUNKED + b"1\r\nx\r\n")
    response = await asking
    assert await response.next_chunk() == b"x"
    connection.say(b"1;")
    for _ in range(5):
        connection.say(b"e" * 4_096)
    with pytest.raises(OriginError) as found:
        await response.next_chunk()
    assert found.value.kind is ErrorKind.HTTP_PROTOCOL_ERROR


async def test_a_body_of_very_small_chunks_is_no_abuse(origin, pool):
    _, _, body = await said(origin, pool, CHUNKED + b"1\r\nx\r\n" * 20_000 + b"0\r\n\r\n")
    assert len(body) == 20_000


async def test_hints_are_told_and_come_before_the_answer(origin, pool):
    told: list[tuple[int, Headers]] = []
    asking = asyncio.create_task(pool.send("GET", "/a", HOST, on_interim=lambda *hint: told.append(hint)))
    connection = await origin.accepted()
    await connection.request()
    connection.say(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n")
    connection.say(b"HTTP/1.1 103 Early Hints\r\nlink: </b.css>\r\n\r\n" + EMPTY)
    response = await asking
    assert told == [(103, Headers((("link", "</a.css>; rel=preload"),))), (103, Headers((("link", "</b.css>"),)))]
    assert (response.status, response.headers.get("link"), await response.read(9)) == (200, None, b"")


KEPT_AFTER = [
    pytest.param("GET", EMPTY, True, id="nothing"),
    pytest.param("GET", OK + b"content-length: 5\r\n\r\nhello", True, id="a length"),
    pytest.param("GET", CHUNKED + b"5\r\nhello\r\n0\r\n\r\n", True, id="chunks"),
    pytest.param("HEAD", OK + b"content-length: 5\r\n\r\n", True, id="HEAD with a length"),
    pytest.param("HEAD", OK + b"\r\n", True, id="HEAD without one"),
    pytest.param("HEAD", OK + b"transfer-encoding: chunked\r\n\r\n", True, id="HEAD of chunks"),
    pytest.param("GET", b"HTTP/1.1 304 Not Modified\r\n\r\n", True, id="304"),
    pytest.param("GET", b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n", True, id="304 with a length"),
    pytest.param("GET", b"HTTP/1.1 204 No\r\n\r\n", True, id="204"),
    pytest.param("GET", b"HTTP/1.1 204 No\r\ncontent-length: 5\r\n\r\n", False, id="204 with a length"),
    pytest.param("GET", b"HTTP/1.1 204 No\r\ntransfer-encoding: chunked\r\n\r\n", False, id="204 of chunks"),
    pytest.param("GET", OK + b"connection: close\r\ncontent-length: 0\r\n\r\n", False, id="close"),
    pytest.param("GET", OK + b"connection: x, Close\r\ncontent-length: 0\r\n\r\n", False, id="close among others"),
    pytest.param("GET", b"HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n", False, id="HTTP/1.0"),
    pytest.param("GET", b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 0\r\n\r\n", True, id="1.0 kept"),
    pytest.param("GET", EMPTY + EMPTY, False, id="a second response"),
    pytest.param("GET", EMPTY + b"x", False, id="a byte too many"),
    pytest.param("GET", OK + b"content-length: 5\r\n\r\nhello!", False, id="longer than its length"),
    pytest.param("GET", CHUNKED + b"0\r\n\r\n0\r\n\r\n", False, id="a second end"),
    pytest.param("HEAD", OK + b"content-length: 5\r\n\r\nhello", False, id="HEAD with a body"),
    pytest.param("GET", b"HTTP/1.1 304 Not Modified\r\n\r\nhello", False, id="304 with a body"),
]


@pytest.mark.parametrize(("method", "data", "kept"), KEPT_AFTER)
async def test_a_connection_goes_on_only_when_it_is_certain_where_the_next_response_begins(
    origin, pool, method, data, kept
):
    asking = asyncio.create_task(pool.send(method, "/a", HOST))
    connection = await origin.accepted()
    await connection.answer(data)
    response = await asking
    await response.read(100)
    second = asyncio.create_task(pool.send("GET", "/b", HOST))
    if not kept:
        await connection.gone()
        connection = await origin.accepted()
    await connection.answer(OK + b"content-length: 3\r\n\r\ntwo")
    assert await (await second).read(100) == b"two"
    assert origin.connections == (1 if kept else 2)


async def test_bytes_that_nobody_asked_for_end_an_idle_connection(origin, pool):
    asking = asyncio.create_task(pool.send("GET", "/a", HOST))
    connection = await origin.accepted()
    await connection.answer(EMPTY)
    await (await asking).read(100)
    connection.say(OK + b"content-length: 6\r\n\r\npoison")
    await connection.gone()
    second = asyncio.create_task(pool.send("GET", "/b", HOST))
    await (await origin.accepted()).answer(OK + b"content-length: 3\r\n\r\ntwo")
    assert await (await second).read(100) == b"two"


async def test_a_thousand_mangled_responses_are_refused_or_read_as_meant(origin, pool):
    """Whatever becomes of a response, the next exchange is answered with its own."""
    chosen = random.Random(9)
    whole = OK + b'etag: "v1"\r\ntransfer-encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nz: 1\r\n\r\n'
    refused = 0
    for number in range(1_000):
        data = bytearray(whole)
        for _ in range(chosen.randint(1, 3)):
            at = chosen.randrange(len(data))
            match chosen.randrange(3):
                case 0:
                    data[at] = chosen.choice(b"\r\n\x00 :;\t,0aF\xff")
                case 1:
                    del data[at]
                case _:
                    data.insert(at, chosen.choice(b"\r\n\x00 :;\t,0aF\xff"))
        asking = asyncio.create_task(pool.send("GET", "/a", HOST))
        connection = await origin.accepted()
        await connection.answer(bytes(data))
        connection.hang_up()
        try:
            response = await asking
            body = await response.read(1_000)
        except OriginError:
            refused += 1
        else:
            assert body is not None
            assert not any(ord(mark) < 32 and mark != "\t" for _, value in response.headers for mark in value)
        await connection.gone()
        assert pool.under_way == 0, number
        pool.addresses[0].breaker.succeeded()
    assert 0 < refused < 1_000
