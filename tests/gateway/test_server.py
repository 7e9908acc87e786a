"""Strict parsing, limits, timeouts, pipelining: the viewers' side with an application that only echoes."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import pytest_asyncio

from edge.gateway.server import REFUSALS, GatewayServer, Limits, Parsed, Quick, Refusal, ViewerConnection
from tests.support.clock import ManualClock
from tests.support.raw_http import RawViewer

HOST = b"Host: shop\r\n"


def text(body: bytes, status: int = 200, extra: bytes = b"") -> bytes:
    return b"HTTP/1.1 %d Echo\r\n%bcontent-length: %d\r\n\r\n%b" % (status, extra, len(body), body)


class Echo:
    """Answers with the target. `/slow...` waits for `release`; `/body` reads the body; `/big` is 4 MB."""

    def __init__(self) -> None:
        self.seen: list[Parsed] = []
        self.moments: list[float] = []
        """As of which each was answered."""
        self.release = asyncio.Event()
        self.refused: list[Refusal] = []

    def quick(self, data: bytes, now: float, viewer: ViewerConnection) -> Quick:
        return None

    def at_once(self, parsed: Parsed, now: float) -> bytes | Callable[[], Awaitable[None]]:
        self.seen.append(parsed)
        self.moments.append(now)
        if parsed.target.startswith(b"/slow"):
            return lambda: self._slow(parsed)
        if parsed.target == b"/body":
            return lambda: self._body(parsed)
        if parsed.target == b"/big":
            return text(b"x" * 4_000_000)
        return text(parsed.target)

    async def _slow(self, parsed: Parsed) -> None:
        await self.release.wait()
        parsed.viewer.write(text(parsed.target))

    async def _body(self, parsed: Parsed) -> None:
        assert parsed.body is not None
        body = b"".join([piece async for piece in parsed.body.pieces()])
        parsed.viewer.write(text(body))

    def refuse(self, refusal: Refusal, parsed: Parsed | None, now: float) -> bytes:
        self.refused.append(refusal)
        status, _, why = REFUSALS[refusal]
        return text(why.encode(), status, b"connection: close\r\n")


class Served:
    def __init__(self, limits: Limits) -> None:
        self.clock = ManualClock()
        self.echo = Echo()
        self.server = GatewayServer(self.echo, self.clock, limits)

    async def viewer(self) -> RawViewer:
        return await RawViewer.open(self.address)

    async def start(self) -> None:
        bound = socket.create_server(("127.0.0.1", 0))
        self.address = bound.getsockname()
        await self.server.listen(bound)

    def later(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.server.sweep()


LIMITS = Limits(pipelined=4, body_bytes=1_000, head_bytes=2_000, target_bytes=500, connections=5)


@pytest_asyncio.fixture
async def served() -> AsyncIterator[Served]:
    served = Served(LIMITS)
    await served.start()
    yield served
    served.echo.release.set()
    await served.server.drain(0.5)


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        pytest.param(b"GET / HTTP/1.1\nHost: shop\n\n", 400, id="bare LF"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: shop\nX: y\r\n\r\n", 400, id="bare LF between fields"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: shop\r\nX: a\r\n b\r\n\r\n", 400, id="obs-fold"),
        pytest.param(b"GET / HTTP/1.1\r\n Host: shop\r\n\r\n", 400, id="blank before the first field"),
        pytest.param(b"GET / HTTP/1.1\r\nHost : shop\r\n\r\n", 400, id="blank before the colon"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: shop\r\nX: a\x00b\r\n\r\n", 400, id="NUL in a value"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: shop\r\nX: a\rb\r\n\r\n", 400, id="CR in a value"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: shop\r\nX\xe9: a\r\n\r\n", 400, id="a name beyond ASCII"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: shop\r\nnothing\r\n\r\n", 400, id="a line without a colon"),
        pytest.param(b"GET /\x01 HTTP/1.1\r\nHost: shop\r\n\r\n", 400, id="a control in the target"),
        pytest.param(b"GET /\xc3\xa9 HTTP/1.1\r\nHost: shop\r\n\r\n", 400, id="a target beyond ASCII"),
        pytest.param(b"GET shop HTTP/1.1\r\nHost: shop\r\n\r\n", 400, id="a target that is no path"),
        pytest.param(b"get / HTTP/1.1\r\nHost: shop\r\n\r\n", 501, id="a method in lower case"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", 400, id="no Host"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: shop\r\nHost: shop\r\n\r\n", 400, id="two Hosts"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: shop\r\nhOST: other\r\n\r\n", 400, id="two Hosts in other case"),
        pytest.param(b"GET / HTTP/1.0\r\nHost: shop\r\n\r\n", 505, id="HTTP/1.0"),
        pytest.param(b"GET / HTTP/1.0\r\nHost: shop\r\nConnection: keep-alive\r\n\r\n", 505, id="HTTP/1.0 kept alive"),
        pytest.param(b"GET /\r\n\r\n", 505, id="HTTP/0.9"),
        pytest.param(b"GET / HTTP/1.2\r\nHost: shop\r\n\r\n", 400, id="HTTP/1.2"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, id="HTTP/2"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, id="TLS on a plain port"),
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
            id="CL and TE",
        ),
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
            400,
            id="TE and CL",
        ),
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 400, id="CL twice"
        ),
        pytest.param(b"POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 3, 3\r\n\r\nabc", 400, id="CL list"),
        pytest.param(b"POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: +3\r\n\r\nabc", 400, id="CL with a sign"),
        pytest.param(b"POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 0x3\r\n\r\nabc", 400, id="CL in hex"),
        pytest.param(b"POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: \r\n\r\n", 400, id="CL empty"),
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501, id="TE gzip"
        ),
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501, id="TE unknown"
        ),
        pytest.param(
            b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n" * 2 + b"\r\n0\r\n\r\n",
            400,
            id="TE twice",
        ),
        pytest.param(b"GET / HTTP/1.1\r\nHost: shop\r\nContent-Length: 3\r\n\r\nabc", 400, id="GET with a body"),
        pytest.param(
            b"HEAD / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, id="HEAD with a body"
        ),
        pytest.param(b"POST / HTTP/1.1\r\nHost: shop\r\nExpect: 200-ok\r\nContent-Length: 1\r\n\r\n", 417, id="Expect"),
        pytest.param(b"POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 1001\r\n\r\n", 413, id="body too long"),
        pytest.param(b"GET /" + b"a" * 600 + b" HTTP/1.1\r\nHost: shop\r\n\r\n", 414, id="target too long"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: shop\r\nX: " + b"a" * 2_000 + b"\r\n\r\n", 431, id="head too long"),
        pytest.param(
            b"POST / HTTP/1.1\r\n"
            + HOST
            + b"Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 3\r\n\r\nabc",
            400,
            id="Upgrade with a body",
        ),
    ],
)
async def test_a_doubtful_request_is_refused_and_nothing_after_it_is_read(served, request_bytes, status):
    async with await served.viewer() as viewer:
        viewer.send(request_bytes + b"GET /smuggled HTTP/1.1\r\nHost: shop\r\n\r\n")
        response = await viewer.response(to="HEAD" if request_bytes.startswith(b"HEAD") else "GET")
        assert response.status == status
        assert await viewer.is_closed()
    assert b"/smuggled" not in [seen.target for seen in served.echo.seen]
    assert len(served.echo.refused) == 1


async def test_the_refusal_of_a_head_has_no_body(served):
    async with await served.viewer() as viewer:
        viewer.send(b"HEAD / HTTP/1.1\r\nHost: shop\r\nContent-Length: 3\r\n\r\nabc")
        response = await viewer.response(to="HEAD")
        assert response.status == 400
        assert int(response.headers["content-length"]) > 0
        assert await viewer.is_closed()


@pytest.mark.parametrize("piece", [1, 7, 10_000])
async def test_requests_are_the_same_however_they_are_cut_into_pieces(served, piece):
    stream = (
        b"POST /body HTTP/1.1\r\nHost: shop\r\nContent-Length: 5\r\n\r\nhello"
        b"GET /a HTTP/1.1\r\nHost: shop\r\n\r\n"
        b"POST /body HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
        b"GET /z HTTP/1.1\r\nHost: shop\r\n\r\n"
    )
    async with await served.viewer() as viewer:
        for start in range(0, len(stream), piece):
            viewer.send(stream[start : start + piece])
            await asyncio.sleep(0)
        assert [(await viewer.response()).body for _ in range(4)] == [b"hello", b"/a", b"abcde", b"/z"]


async def test_pipelined_requests_are_answered_in_order_behind_a_slow_one(served):
    async with await served.viewer() as viewer:
        for target in ("/slow1", "/a", "/slow2", "/b"):
            viewer.get(target, "shop")
        await viewer.writer.drain()
        while len(served.echo.seen) < 1:
            await asyncio.sleep(0)
        served.echo.release.set()
        assert [(await viewer.response()).body for _ in range(4)] == [b"/slow1", b"/a", b"/slow2", b"/b"]


async def test_more_pipelined_requests_than_may_wait_are_left_unread_not_lost(served):
    async with await served.viewer() as viewer:
        targets = ["/slow", *(f"/{n}" for n in range(3_000))]
        viewer.send(b"".join(b"GET %b HTTP/1.1\r\nHost: shop\r\n\r\n" % target.encode() for target in targets))
        while not served.server.connections:
            await asyncio.sleep(0)
        (connection,) = served.server.connections
        while not connection._reading_paused:
            await asyncio.sleep(0)
        assert len(connection._queue) < 16_384 // 30 + LIMITS.pipelined
        served.echo.release.set()
        assert [(await viewer.response()).body.decode() for _ in targets] == targets


async def test_several_answers_leave_in_one_write(served, monkeypatch):
    writes: list[bytes] = []
    async with await served.viewer() as viewer:
        while not served.server.connections:
            await asyncio.sleep(0)
        (connection,) = served.server.connections
        original = connection.transport

        class Spy:
            def write(self, data: bytes) -> None:
                writes.append(data)
                original.write(data)

            def __getattr__(self, name: str) -> object:
                return getattr(original, name)

        connection.transport = Spy()
        viewer.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: shop\r\n\r\n" % n for n in range(3)))
        assert [(await viewer.response()).body for _ in range(3)] == [b"/0", b"/1", b"/2"]
    assert len(writes) == 1


async def test_connection_close_is_obeyed(served):
    async with await served.viewer() as viewer:
        viewer.get("/a", "shop", "Connection: close")
        assert (await viewer.response()).body == b"/a"
        assert await viewer.is_closed()


async def test_an_upgrade_is_not_taken_up(served):
    async with await served.viewer() as viewer:
        viewer.get("/a", "shop", "Connection: upgrade", "Upgrade: websocket")
        assert (await viewer.response()).body == b"/a"
        assert await viewer.is_closed()


async def test_a_half_closed_viewer_still_gets_its_answer(served):
    async with await served.viewer() as viewer:
        viewer.get("/slow", "shop")
        viewer.writer.write_eof()
        while not served.echo.seen:
            await asyncio.sleep(0)
        served.echo.release.set()
        assert (await viewer.response()).body == b"/slow"
        assert await viewer.is_closed()


async def test_expect_continue_is_answered_when_the_body_is_wanted(served):
    async with await served.viewer() as viewer:
        viewer.get("/body", "shop", "Expect: 100-continue", "Content-Length: 2", method="POST")
        assert (await viewer.response()).status == 100
        viewer.send(b"ok")
        assert (await viewer.response()).body == b"ok"


async def test_a_chunked_body_past_its_limit_is_cut_off(served):
    async with await served.viewer() as viewer:
        viewer.get("/body", "shop", "Transfer-Encoding: chunked", method="POST")
        viewer.send(b"5dc\r\n" + b"x" * 1500 + b"\r\n0\r\n\r\n")
        assert await viewer.is_closed()


async def test_a_head_that_trickles_in_is_given_up(served):
    async with await served.viewer() as viewer:
        viewer.send(b"GET / HTTP/1.1\r\nHost: sh")
        while not (served.server.connections and next(iter(served.server.connections))._head_started):
            await asyncio.sleep(0)
        served.later(LIMITS.head_s - 1)
        viewer.send(b"o")
        served.later(2)
        assert (await viewer.response()).status == 408
        assert await viewer.is_closed()


async def test_an_idle_connection_is_closed_without_a_word(served):
    async with await served.viewer() as viewer:
        viewer.get("/a", "shop")
        await viewer.response()
        served.later(LIMITS.idle_s + 1)
        assert await viewer.is_closed()


async def test_a_body_that_stops_coming_is_given_up(served):
    async with await served.viewer() as viewer:
        viewer.get("/body", "shop", "Content-Length: 10", method="POST")
        viewer.send(b"abc")
        while not served.echo.seen:
            await asyncio.sleep(0)
        served.later(LIMITS.body_idle_s + 1)
        assert await viewer.is_closed()


async def test_a_viewer_that_does_not_read_is_hung_up_on(served):
    async with await served.viewer() as viewer:
        for _ in range(8):
            viewer.get("/big", "shop")
        while not (served.server.connections and next(iter(served.server.connections))._write_paused):
            await asyncio.sleep(0)
        served.later(1)
        served.later(LIMITS.stalled_write_s + 1)
        async with asyncio.timeout(5):
            while served.server.connections:
                await asyncio.sleep(0)
        # Only what fitted into the buffers was ever answered; the rest was not even started.
        assert len(served.echo.seen) < 8


async def test_what_waited_behind_a_slow_reader_is_answered_as_of_then(served):
    async with await served.viewer() as viewer:
        for _ in range(8):
            viewer.get("/big", "shop")
        while not (served.server.connections and next(iter(served.server.connections))._write_paused):
            await asyncio.sleep(0)
        before, began = len(served.echo.seen), served.clock()
        served.clock.advance(60)
        for _ in range(8):
            await viewer.response()
        assert served.echo.moments == [began] * before + [began + 60] * (8 - before)
        assert before < 8


async def test_one_connection_too_many_is_told_so(served):
    viewers = [await served.viewer() for _ in range(LIMITS.connections)]
    async with await served.viewer() as viewer:
        assert (await viewer.response()).status == 503
        assert await viewer.is_closed()
    for viewer in viewers:
        viewer.writer.transport.abort()


async def test_draining_finishes_what_was_begun_and_closes_the_rest(served):
    async with await served.viewer() as busy, await served.viewer() as idle:
        busy.get("/slow", "shop")
        while not served.echo.seen or len(served.server.connections) < 2:
            await asyncio.sleep(0)
        draining = asyncio.create_task(served.server.drain(5))
        assert await idle.is_closed()
        served.echo.release.set()
        assert (await busy.response()).body == b"/slow"
        assert await busy.is_closed()
        await draining
        with pytest.raises(ConnectionError):
            await served.viewer()


async def test_trailer_fields_never_join_the_request(served):
    async with await served.viewer() as viewer:
        viewer.get("/slow", "shop")
        viewer.get("/body", "shop", "Transfer-Encoding: chunked", method="POST")
        viewer.send(b"2\r\nok\r\n0\r\nX-Csrf-Token: smuggled\r\nHost: other\r\n\r\n")
        viewer.get("/after", "shop")
        while not served.server.connections or len(next(iter(served.server.connections))._queue) < 2:
            await asyncio.sleep(0)
        served.echo.release.set()
        assert [(await viewer.response()).body for _ in range(3)] == [b"/slow", b"ok", b"/after"]
    names = {name.lower() for name, _ in served.echo.seen[1].fields}
    assert names == {b"host", b"transfer-encoding"}


@pytest.mark.parametrize(
    "endless",
    [
        pytest.param(b"0\r\n" + b"X: y\r\n" * 1_000, id="trailer fields"),
        pytest.param(b"1;" + b"a" * 5_000, id="a chunk extension"),
    ],
)
async def test_what_surrounds_a_chunked_body_is_bounded(served, endless):
    async with await served.viewer() as viewer:
        viewer.get("/body", "shop", "Transfer-Encoding: chunked", method="POST")
        viewer.send(b"2\r\nok\r\n")
        while not served.echo.seen:
            await asyncio.sleep(0)
        viewer.send(endless)
        assert await viewer.is_closed()
