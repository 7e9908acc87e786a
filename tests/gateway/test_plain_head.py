"""The plain response: whatever is read at a glance, the complete parser reads the same."""

from __future__ import annotations

import random

import httptools
import pytest

from edge.gateway.origin import plain_head
from edge.gateway.origin.plain_head import read_plain_head

OK = b"HTTP/1.1 200 OK\r\n"
PLAIN = OK + b'Server: x\r\nContent-Type: text/html\r\nETag: "v1"\r\nContent-Length: 5\r\n\r\nhello'


class InFull:
    """What llhttp makes of the same bytes."""

    def __init__(self, data: bytes) -> None:
        self.pairs: list[tuple[str, str]] = []
        self.body = b""
        self.complete = 0
        self.refused = False
        self._parser = httptools.HttpResponseParser(self)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.refused = True

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.complete and not self.body:
            self.pairs.append((name.decode("latin-1").lower(), value.decode("latin-1").rstrip(" \t")))

    def on_headers_complete(self) -> None:
        if not self.complete:
            self.status = self._parser.get_status_code()
            self.version = self._parser.get_http_version()
            self.keeps = self._parser.should_keep_alive()

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.complete += 1


def test_a_plain_response_is_read_at_a_glance():
    found = read_plain_head(PLAIN)
    assert found is not None
    pairs = [("server", "x"), ("content-type", "text/html"), ("etag", '"v1"'), ("content-length", "5")]
    assert (found.status, [line[:2] for line in found.lines], found.length) == (200, pairs, 5)
    assert found.lines[0][2] == "server: x"
    assert PLAIN[found.end :] == b"hello"


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(PLAIN.replace(b"Content-Length: 5", b"X: y"), id="no length"),
        pytest.param(PLAIN.replace(b"Server: x", b"Content-Length: 5"), id="two lengths"),
        pytest.param(PLAIN.replace(b": 5", b": +5"), id="a doubtful length"),
        pytest.param(PLAIN.replace(b"Server: x", b"Transfer-Encoding: chunked"), id="a transfer coding"),
        pytest.param(PLAIN.replace(b"Server: x", b"Connection: close"), id="the last one"),
        pytest.param(PLAIN.replace(b"Server: x", b"Connection: etag"), id="a field of this connection"),
        pytest.param(PLAIN.replace(b"200 OK", b"103 Hints"), id="interim"),
        pytest.param(PLAIN.replace(b"200 OK", b"204 No"), id="204"),
        pytest.param(PLAIN.replace(b"HTTP/1.1", b"HTTP/1.0"), id="HTTP/1.0"),
        pytest.param(PLAIN.replace(b"Server: x", b"Server: x\r\n y"), id="obs-fold"),
        pytest.param(PLAIN.replace(b"Server: x", b"Server : x"), id="a blank before the colon"),
        pytest.param(PLAIN.replace(b"Server: x", b"Server: x\ny: z"), id="bare LF"),
        pytest.param(PLAIN.replace(b"Server: x", b"Server: \x00"), id="NUL"),
        pytest.param(b"\r\n" + PLAIN, id="an empty line first"),
        pytest.param(PLAIN[:40], id="half a head"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_what_is_not_plain_is_left_to_the_complete_parser(data):
    assert read_plain_head(data) is None


def test_whatever_is_read_at_a_glance_is_read_the_same_in_full():
    """Seeded: mangled responses, with lines that are remembered among them."""
    chosen = random.Random(11)
    names = [b"Server", b"Content-Length", b"Transfer-Encoding", b"Connection", b"X-A", b"Set-Cookie", b"x\xe9", b"Age"]
    values = [b"5", b"0", b"chunked", b"keep-alive", b"close", b"a b", b" \t5", b"5 ", b"a\x01", b"\xff", b"", b"5, 5"]
    octets = b"\r\n\x00\x01 :\t,;5aHTP/.\x7f\x80\xff"
    read = refused = 0
    for _ in range(60_000):
        lines = [b"HTTP/1.1 200 OK", *(b"%b: %b" % (chosen.choice(names), chosen.choice(values)) for _ in range(3))]
        if chosen.random() < 0.7:
            lines.append(b"Content-Length: 5")
        data = bytearray(b"\r\n".join(lines) + b"\r\n\r\nhello")
        for _ in range(chosen.choice((0, 0, 1, 2))):
            at = chosen.randrange(len(data))
            match chosen.randrange(3):
                case 0:
                    data[at] = chosen.choice(octets)
                case 1:
                    del data[at]
                case _:
                    data.insert(at, chosen.choice(octets))
        found = read_plain_head(bytes(data))
        if found is None:
            refused += 1
            continue
        read += 1
        body = bytes(data)[found.end :]
        full = InFull(bytes(data)[: found.end] + body[: found.length])
        assert not full.refused, bytes(data)
        assert (found.status, [line[:2] for line in found.lines]) == (full.status, full.pairs), bytes(data)
        assert (full.version, full.keeps) == ("1.1", True), bytes(data)
        assert full.body == body[: found.length], bytes(data)
        assert full.complete == (len(body) >= found.length), bytes(data)
    assert read > 2_000
    assert refused > 5_000


def test_what_is_remembered_is_bounded():
    for number in range(plain_head.MAX_KNOWN_LINES * 2):
        assert read_plain_head(PLAIN.replace(b"Server: x", b"X-%d: y" % number).replace(b"OK", b"R%d" % number))
    assert len(plain_head._known_lines) <= plain_head.MAX_KNOWN_LINES
    assert len(plain_head._known_statuses) <= plain_head.MAX_KNOWN_LINES
