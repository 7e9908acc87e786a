"""The plain request: whatever the quick expression takes, the complete parser takes, and reads the same.

`NEARSHELF_FUZZ` says how many inputs the fuzz tries (default 20,000; the first 100,000 take some ten seconds).
"""

from __future__ import annotations

import asyncio
import os
import random

import pytest

from edge.gateway.plain import PLAIN_FIELDS, read_plain
from edge.gateway.server import GatewayServer, Limits, Parsed, Refusal, ViewerConnection

INPUTS = int(os.environ.get("NEARSHELF_FUZZ", "20000"))
SEED = 20_261_121

GET = (
    b"GET /eu-eur/products/boot?variant=red HTTP/1.1\r\nHost: shop.example:8080\r\nConnection: keep-alive\r\n"
    b'sec-ch-ua: "Chromium";v="126"\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\nAccept: text/html,*/*;q=0.8\r\n'
    b"Sec-Fetch-Mode: navigate\r\nAccept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: de-DE,de;q=0.9\r\n"
    b"Cookie: session=1; cart=caf\xe9\r\n\r\n"
)
PIECES = (
    b"GET ", b"get ", b"HEAD ", b"POST ", b"PRI * HTTP/2.0", b" HTTP/1.1", b" HTTP/1.0", b" HTTP/1.1 ", b"HTTP/1.1",
    b"\r\n", b"\n", b"\r", b"\r\n\r\n", b" ", b"\t", b"\x00", b"\x0b", b"\x7f", b"\x80", b"\xff", b":", b": ", b" :",
    b",", b"Host: other\r\n", b"host: other\r\n", b"HOST: other\r\n", b"Host:other\r\n", b"Host: \r\n", b"Host : a\r\n",
    b"Content-Length: 5\r\n", b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n", b"Expect: 100-continue\r\n",
    b"Connection: close\r\n", b"Connection: Keep-Alive\r\n", b"Connection: upgrade\r\n", b"Upgrade: h2c\r\n",
    b"Range: bytes=0-1\r\n", b"If-None-Match: *\r\n", b"Authorization: Basic eDp5\r\n", b"Cache-Control: no-cache\r\n",
    b"Cookie: a=b\r\n", b"Cookie: a=b\r\n c\r\n", b"Accept-Encoding: br\r\n", b"X: y\r\n", b"Accept\r\n",
    b"Accept:\r\n", b"/", b"//", b"*", b"#", b"?", b"%", b"http://shop.example/",
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
)  # fmt: skip


class Reader:
    """What the complete parser makes of bytes: the requests, and why it refused the rest."""

    def __init__(self) -> None:
        self.requests: list[Parsed] = []
        self.refused: list[Refusal] = []

    def quick(self, data: bytes, now: float, viewer: ViewerConnection | None = None) -> None:
        """Nothing is answered without the complete parser here."""

    def at_once(self, parsed: Parsed, now: float) -> bytes:
        self.requests.append(parsed)
        return b"."

    def refuse(self, refusal: Refusal, parsed: Parsed | None, now: float) -> bytes:
        self.refused.append(refusal)
        return b"!"


class Sink(asyncio.Transport):
    """A viewer who takes everything."""

    def get_extra_info(self, name: str, default: object = None) -> object:
        return default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0

    def write(self, data: bytes | bytearray | memoryview) -> None: ...

    def close(self) -> None: ...

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


def read_in_full(data: bytes) -> Reader:
    reader = Reader()
    viewer = ViewerConnection(GatewayServer(reader, lambda: 1.0, Limits()))
    viewer.connection_made(Sink())
    viewer.received(data)
    return reader


def agrees(data: bytes) -> bool:
    """Whether `data` is taken for a plain request; fails where the complete parser sees something else in it."""
    found = read_plain(data)
    if found is None:
        return False
    target, host, accept_encoding = found.groups()
    full = read_in_full(data)
    if host is None:
        assert full.refused == [Refusal.HOST_MISSING], data
        return False
    assert not full.refused, data
    assert len(full.requests) == 1, data
    parsed = full.requests[0]
    assert (parsed.method, parsed.target, parsed.host) == (b"GET", target, host), data
    assert parsed.keep_alive, data
    assert parsed.body is None, data
    fields = [(name.lower(), value) for name, value in parsed.fields]
    assert [value.strip(b" \t") for name, value in fields if name == b"accept-encoding"] == (
        [] if accept_encoding is None else [accept_encoding.strip(b" \t")]
    ), data
    others = {name for name, _ in fields} - {b"host", b"connection"}
    assert others <= PLAIN_FIELDS, data
    assert {value.lower() for name, value in fields if name == b"connection"} <= {b"keep-alive"}, data
    return True


def test_what_browsers_send_is_plain():
    assert agrees(GET)
    found = read_plain(GET)
    assert found is not None
    assert found.groups() == (b"/eu-eur/products/boot?variant=red", b"shop.example:8080", b"gzip, deflate, br, zstd")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param(b"GET", b"HEAD", id="another method"),
        pytest.param(b"GET /", b"GET http://shop.example/", id="an absolute target"),
        pytest.param(b"GET /eu", b"GET  /eu", id="two blanks"),
        pytest.param(b"1.1", b"1.0", id="HTTP/1.0"),
        pytest.param(b"\r\nHost", b"\nHost", id="a bare LF"),
        pytest.param(b"Host: ", b"Host : ", id="a blank before the colon"),
        pytest.param(b"Host: ", b"Host: a\r\nHost: ", id="two Hosts"),
        pytest.param(b"Host: ", b"hOST: ", id="an unusual spelling"),
        pytest.param(b"keep-alive", b"close", id="the last request"),
        pytest.param(b"keep-alive", b"keep-alive, cookie", id="fields of the connection"),
        pytest.param(b"Cookie: ", b"Cookie: a\x00", id="NUL in a value"),
        pytest.param(b"Cookie: ", b"Cookie: a\r\n b", id="a folded line"),
        pytest.param(b"Cookie: ", b"Cookie: a\rb", id="CR in a value"),
        pytest.param(b"Cookie: ", b"Accept-Encoding: br\r\nCookie: ", id="two lists of codings"),
        pytest.param(b"Cookie: ", b"Content-Length: 0\r\nCookie: ", id="a length"),
        pytest.param(b"Cookie: ", b"Transfer-Encoding: chunked\r\nCookie: ", id="chunked"),
        pytest.param(b"Cookie: ", b"If-None-Match: *\r\nCookie: ", id="a condition"),
        pytest.param(b"Cookie: ", b"Range: bytes=0-1\r\nCookie: ", id="a range"),
        pytest.param(b"Cookie: ", b"Authorization: x\r\nCookie: ", id="credentials"),
        pytest.param(b"Cookie: ", b"Cache-Control: no-cache\r\nCookie: ", id="a directive"),
        pytest.param(b"Cookie: ", b"X-Any: 1\r\nCookie: ", id="any other field"),
        pytest.param(b"\r\n\r\n", b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", id="a second request behind it"),
        pytest.param(b"\r\n\r\n", b"\r\n\r\n\r\n", id="an empty line behind it"),
        pytest.param(b"\r\n\r\n", b"\r\n", id="not whole"),
    ],
)
def test_what_is_not_plain(old, new):
    assert old in GET
    assert read_plain(GET.replace(old, new, 1)) is None


def test_every_plain_field_is_read():
    for name in PLAIN_FIELDS - {b"accept-encoding", b"Accept-Encoding"}:
        assert agrees(GET.replace(b"Cookie: ", name + b": ")), name


def mutated(chosen: random.Random) -> bytes:
    data = bytearray(GET)
    for _ in range(chosen.randint(0, 3)):
        at = chosen.randrange(len(data) + 1)
        if chosen.random() < 0.4:
            starts = [0, *(place + 2 for place in range(len(data)) if data[place : place + 2] == b"\r\n")]
            at = chosen.choice(starts)
        match chosen.randrange(5):
            case 0:
                data[at:at] = chosen.choice(PIECES)
            case 1:
                del data[at : at + chosen.randint(1, 12)]
            case 2 if at < len(data):
                data[at] = chosen.randrange(256)
            case 3:
                data[at : at + chosen.randint(1, 4)] = chosen.choice(PIECES)
            case _:
                piece = data[at : at + chosen.randint(1, 40)]
                data[at:at] = piece
    return bytes(data)


def test_nothing_is_plain_that_the_complete_parser_reads_otherwise():
    chosen = random.Random(SEED)
    taken = sum([agrees(mutated(chosen)) for _ in range(INPUTS)])
    # Not vacuous: many are taken, and many are not.
    assert INPUTS / 10 < taken < INPUTS * 9 / 10


def test_random_bytes_end_no_parser():
    chosen = random.Random(SEED + 1)
    for _ in range(INPUTS // 20):
        data = b"".join([chosen.choice(PIECES) for _ in range(chosen.randint(1, 12))])
        agrees(data)
        read_in_full(data)
