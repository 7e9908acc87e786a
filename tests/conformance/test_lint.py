"""The linter sees what is wrong with a response."""

from __future__ import annotations

import pytest

from tests.conformance.lint import faults
from tests.conformance.script import Ask
from tests.conformance.viewer import Got

GOOD = {
    "date": "Tue, 15 Nov 1994 08:12:31 GMT",
    "age": "3",
    "content-length": "2",
    "cache-status": "edge; hit; ttl=5",
    "etag": '"a"',
}


def _found(
    status: int = 200, body: bytes = b"ok", surplus: bytes = b"", method: str = "GET", **changed: str | None
) -> str:
    fields = {name: value for name, value in {**GOOD, **_spelt(changed)}.items() if value is not None}
    pairs = [(name, line) for name, value in fields.items() for line in value.split("|")]
    head = "\r\n".join([f"HTTP/1.1 {status} Said", *(f"{name}: {value}" for name, value in pairs)]) + "\r\n\r\n"
    got = Got(status, pairs, body, complete=True, surplus=surplus, head=head.encode("latin-1"))
    return "; ".join(faults(Ask(method=method), got))


def _spelt(changed: dict[str, str | None]) -> dict[str, str | None]:
    return {name.replace("_", "-"): value for name, value in changed.items()}


def test_a_good_response_has_no_faults():
    assert _found() == ""
    assert _found(304, b"", content_length=None) == ""
    assert _found(method="HEAD", body=b"") == ""
    assert _found(age=None, cache_status="edge; fwd=uri-miss; fwd-status=200; stored; detail=cold") == ""


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"date": None}, "0 Dates"),
        ({"date": f"{GOOD['date']}|{GOOD['date']}"}, "2 Dates"),
        ({"age": None}, "hit with the Age"),
        ({"age": "3|4"}, "hit with the Age"),
        ({"age": "-1"}, "hit with the Age"),
        ({"keep_alive": "timeout=5"}, "for one connection"),
        ({"upgrade": "h2c"}, "for one connection"),
        ({"nearshelf_cache_control": "max-age=1"}, "for us"),
        ({"connection": "close, x-thing"}, "Connection names something"),
        ({"cache_status": None}, "no Cache-Status"),
        ({"cache_status": "edge; hit; ="}, "does not parse"),
        ({"cache_status": "edge; hit; ttl=abc"}, "ttl of Cache-Status"),
        ({"cache_status": "edge; hit; fwd=miss"}, "both hit and fwd"),
        ({"cache_status": "edge; fwd=because"}, "fwd=because"),
        ({"cache_status": "edge; hit; stored"}, "stored without fwd"),
        ({"cache_status": "edge; hit; mood=good"}, "nobody knows: mood"),
        ({"content_length": "2|2"}, "2 times"),
        ({"content_length": None}, "neither a length nor chunks"),
        ({"transfer_encoding": "chunked"}, "beside Transfer-Encoding"),
        ({"content_range": "bytes 0-1/2"}, "200 with Content-Range"),
        ({"etag": "a"}, "no entity tag"),
        ({"bad name": "x"}, "a line that is no field"),
        ({"surplus": b"x"}, "bytes after the end"),
        ({"status": 204, "body": b""}, "204 with a framing"),
        ({"status": 206}, "does not say which part"),
        ({"status": 206, "content_range": "bytes 0-5/10"}, "with 2 bytes"),
    ],
)
def test_what_is_wrong_is_found(changed, fault):
    assert fault in _found(**changed)
