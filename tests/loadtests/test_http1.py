"""The observer's client against a scripted server on loopback."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from loadtests.http1 import Connection, NoAnswer


@contextlib.asynccontextmanager
async def serving(*answers: bytes):
    """A server that answers each request with the next bytes; an empty answer closes the connection instead."""
    waiting = list(answers)
    requests: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                requests.append(head)
                answer = waiting.pop(0)
                writer.write(answer)
                await writer.drain()
                if not answer or b"onnection: close" in answer or b"HTTP/1.0" in answer:
                    break
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        async with Connection(f"http://127.0.0.1:{port}", timeout_s=5.0) as connection:
            yield connection, requests


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
    async with serving(raw, b"HTTP/1.1 304 Not Modified\r\nETag: e\r\n\r\n") as (connection, requests):
        first = await connection.request("GET", "/a")
        second = await connection.request("GET", "/b", {"If-None-Match": "e"})
    assert (first.status, first.body) == (200, body)
    assert (second.status, second.headers["etag"]) == (304, "e")
    assert first.sent_at <= first.received_at <= second.sent_at
    assert b"If-None-Match: e" in requests[1]


async def test_head_has_no_body_whatever_its_length_says():
    async with serving(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", b"HTTP/1.1 204 No Content\r\n\r\n") as (
        connection,
        _,
    ):
        assert (await connection.request("HEAD", "/a")).body == b""
        assert (await connection.request("GET", "/a")).status == 204


async def test_a_connection_closed_while_idle_is_opened_again_for_a_read_and_not_for_a_write():
    ok = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    async with serving(ok, b"", ok, b"") as (connection, requests):
        await connection.request("GET", "/1")
        assert (await connection.request("GET", "/2")).status == 200
        with pytest.raises(NoAnswer):
            await connection.request("PUT", "/3", {}, b"{}")
    assert len(requests) == 4


async def test_no_answer_says_where_and_why():
    async with serving(b"") as (connection, _):
        with pytest.raises(NoAnswer, match=r"GET http://127\.0\.0\.1:\d+/a: "):
            await connection.request("GET", "/a")
    connection = Connection("http://127.0.0.1:1")
    with pytest.raises(NoAnswer, match="127"):
        await connection.request("GET", "/a")
