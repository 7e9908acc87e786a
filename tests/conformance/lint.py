"""What must be true of every response that our gateway sends, whatever the case was about."""

from __future__ import annotations

import re
from collections.abc import Iterator

import http_sf

from tests.conformance.cache_status import last_member
from tests.conformance.script import Ask
from tests.conformance.viewer import Got

HOP_BY_HOP = ("keep-alive", "proxy-connection", "te", "upgrade", "proxy-authenticate", "proxy-authentication-info")
OUR_OWN = ("nearshelf-cache-control", "catalog-version", "min-catalog-version", "edge-key")
"""Fields between edge and origin that no viewer is to see."""
PARAMETERS: dict[str, type | tuple[type, ...]] = {
    "hit": bool,
    "fwd": http_sf.Token,
    "fwd-status": int,
    "ttl": int,
    "stored": bool,
    "collapsed": bool,
    "key": str,
    "detail": (str, http_sf.Token),
}
FORWARDED_FOR = {"bypass", "method", "uri-miss", "vary-miss", "miss", "request", "stale", "partial"}
_DATE = re.compile(r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT")
_LINE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*")


def faults(ask: Ask, got: Got) -> Iterator[str]:
    """What is wrong with `got`, the response to `ask`; nothing where everything is as it should be."""
    yield from _head(got)
    yield from _framing(ask, got)
    yield from _date_and_age(ask, got)
    yield from _cache_status(got)
    for name in (*HOP_BY_HOP, *OUR_OWN):
        if got.lines(name):
            yield f"{name} is for one connection, or for us: {got.lines(name)}"
    for line in got.lines("connection"):
        if line.lower() not in {"close", "keep-alive"}:
            yield f"Connection names something: {line!r}"


def _head(got: Got) -> Iterator[str]:
    for line in got.head[:-4].split(b"\r\n")[1:]:
        if _LINE.fullmatch(line) is None:
            yield f"a line that is no field: {line!r}"
    for name in ("content-length", "content-type", "etag", "last-modified", "location"):
        if len(got.lines(name)) > 1:
            yield f"{name} is there {len(got.lines(name))} times"
    etag = got.one("etag")
    if etag is not None and re.fullmatch(r'(W/)?"[\x21\x23-\x7e\x80-\xff, ]*("[^"]*")*[^"]*"', etag) is None:
        yield f"no entity tag: {etag!r}"


def _framing(ask: Ask, got: Got) -> Iterator[str]:
    length, chunked = got.one("content-length"), got.one("transfer-encoding")
    if got.surplus:
        yield f"{len(got.surplus)} bytes after the end: {got.surplus[:40]!r}"
    if length is not None and chunked is not None:
        yield "a length beside Transfer-Encoding"
    if got.status in (204, 304) and (chunked is not None or (got.status == 204 and length is not None)):
        yield f"a {got.status} with a framing: length {length}, coding {chunked}"
    if length is not None and not re.fullmatch("[0-9]+", length):
        yield f"a length that is no number: {length!r}"
    if got.status not in (204, 304) and ask.method != "HEAD" and length is None and chunked is None:
        yield "neither a length nor chunks"
    if got.status == 206 and ask.method != "HEAD":
        single = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", got.one("content-range") or "")
        if single is None:
            if "multipart/byteranges" not in (got.one("content-type") or ""):
                yield f"a 206 that does not say which part it is: {got.one('content-range')!r}"
        elif got.complete and int(single[2]) - int(single[1]) + 1 != len(got.body):
            yield f"{got.one('content-range')} with {len(got.body)} bytes"
    if got.status == 200 and got.lines("content-range"):
        yield "a 200 with Content-Range"


def _date_and_age(ask: Ask, got: Got) -> Iterator[str]:
    dates, ages = got.lines("date"), got.lines("age")
    if len(dates) != 1:
        yield f"{len(dates)} Dates"
    elif _DATE.fullmatch(dates[0]) is None and not _origin_said(ask, dates[0]):
        yield f"no date: {dates[0]!r}"
    status = last_member(got.lines("cache-status"))
    if status is None or not status.get("hit"):
        return
    if len(ages) != 1 or not (ages[0].isascii() and ages[0].isdigit()):
        yield f"a hit with the Age {ages}"


def _origin_said(ask: Ask, value: str) -> bool:
    return any(found == value for answer in ask.answers for _, found in answer.fields) or not ask.answers


def _cache_status(got: Got) -> Iterator[str]:
    """RFC 9211 §2, of the last member, which is ours."""
    if got.one("cache-status") is None:
        yield "no Cache-Status"
        return
    status = last_member(got.lines("cache-status"))
    if status is None:
        yield f"a Cache-Status that does not parse: {got.one('cache-status')!r}"
        return
    for name, value in status.items():
        if name not in PARAMETERS:
            yield f"a parameter of Cache-Status that nobody knows: {name}"
        elif not isinstance(value, PARAMETERS[name]):
            yield f"{name} of Cache-Status is {value!r}"
    if status.get("hit") and "fwd" in status:
        yield "both hit and fwd"
    if "fwd" in status and str(status["fwd"]) not in FORWARDED_FOR:
        yield f"fwd={status['fwd']}"
    for name in ("fwd-status", "stored", "collapsed"):
        if name in status and "fwd" not in status:
            yield f"{name} without fwd"
