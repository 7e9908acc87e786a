"""The load generator's client against a scripted server on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import gzip

import brotli  # type: ignore[import-untyped]
import pytest

from loadtests.client import Connection, decoded
from loadtests.http1 import Answer, NoAnswer

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


@contextlib.asynccontextmanager
async def serving(*answers: bytes, timeout_s: float = 5.0):
    """A server that answers each request with the next bytes and hangs up where they are empty or do not end."""
    waiting = list(answers)
    requests: list[bytes] = []
    conversations: list[asyncio.Task[None]] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        conversations.append(task)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                requests.append(await reader.readuntil(b"\r\n\r\n"))
                answer = waiting.pop(0)
                writer.write(answer.removesuffix(b"HANG UP"))
                await writer.drain()
                if not answer or b"onnection: close" in answer or answer.endswith(b"HANG UP"):
                    break
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with Connection(f"http://127.0.0.1:{port}", timeout_s=timeout_s) as connection:

            async def ask(method, target, fields=(), body=b""):
                return await asyncio.to_thread(connection.request, method, target, fields, body)

            yield ask, requests
        await asyncio.gather(*conversations)


@pytest.mark.parametrize(
    ("raw", "body"),
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"hello", id="length"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=1\r\nhel\r\n2\r\nlo\r\n0\r\nT: 1\r\n\r\n",
            b"hello",
            id="chunks, an extension and a trailer",
        ),
        pytest.param(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello", b"hello", id="to the end"),
        pytest.param(
            b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            b"",
            id="interim",
        ),
    ],
)
async def test_bodies_are_read_to_their_end_and_the_connection_is_used_again(raw, body):
    async with serving(raw, b"HTTP/1.1 304 Not Modified\r\nETag: e\r\n\r\n") as (ask, requests):
        first = await ask("GET", "/a")
        second = await ask("GET", "/b", [("If-None-Match", "e")])
    assert (first.status, first.body) == (200, body)
    assert (second.status, second.headers["etag"]) == (304, "e")
    assert first.sent_at <= first.received_at <= second.sent_at <= second.received_at
    assert b"If-None-Match: e" in requests[1]


async def test_head_has_no_body_whatever_its_length_says():
    async with serving(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", OK) as (ask, _):
        assert (await ask("HEAD", "/a")).body == b""
        assert (await ask("GET", "/a")).status == 200


async def test_a_connection_closed_while_idle_is_opened_again_for_a_read_and_not_for_a_write():
    async with serving(OK, b"", OK, b"") as (ask, requests):
        await ask("GET", "/1")
        assert (await ask("GET", "/2")).status == 200
        with pytest.raises(NoAnswer, match="closed without an answer"):
            await ask("PUT", "/3", (), b"{}")
        assert len(requests) == 4


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhelloHANG UP", "4 bytes before", id="half a body"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-LenHANG UP", "in the middle", id="half a head"),
        pytest.param(b"SSH-2.0-x\r\n\r\n", "not a status line", id="not HTTP"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nabc", "2 bytes after", id="too much"),
    ],
)
async def test_half_an_answer_is_none_and_never_asked_for_again(raw, why):
    async with serving(OK, raw, OK) as (ask, requests):
        await ask("GET", "/1")
        with pytest.raises(NoAnswer, match=why):
            await ask("GET", "/2")
        assert len(requests) == 2
        assert (await ask("GET", "/3")).status == 200


async def test_no_answer_in_time_is_said_and_the_connection_given_up():
    async with serving(OK, b"HTTP/1.1 200 OK\r\n", OK, timeout_s=0.05) as (ask, _):
        await ask("GET", "/1")
        with pytest.raises(NoAnswer, match=r"no answer within 0\.05 s"):
            await ask("GET", "/2")
        assert (await ask("GET", "/3")).status == 200


async def test_nobody_listens():
    with Connection("http://127.0.0.1:1") as connection, pytest.raises(NoAnswer, match="refused"):
        connection.request("GET", "/")


@pytest.mark.parametrize(
    ("coding", "coded"),
    [(None, b"hello"), ("gzip", gzip.compress(b"hello", mtime=0)), ("br", brotli.compress(b"hello"))],
)
def test_content_codings_are_undone(coding, coded):
    headers = {} if coding is None else {"content-encoding": coding}
    assert decoded(Answer(200, headers, coded, 0.0, 0.0)) == b"hello"


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
def test_what_cannot_be_undone_is_said(coding):
    with pytest.raises(ValueError, match=coding):
        decoded(Answer(200, {"content-encoding": coding}, b"hello", 0.0, 0.0))
