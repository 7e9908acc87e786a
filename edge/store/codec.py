"""A stored response as bytes, for whoever else at this site stores it: siblings by datagram, the tier by record.

Never trusted: what is decoded may come from another release, from a machine with another clock, or from somebody who
should not be able to write there. Whatever is not exactly a record of this version is `Unreadable`.
"""

from __future__ import annotations

import math
import re
from typing import Any

import orjson

from cache_policies.positions import Position, WireError
from edge.core.http import Headers
from edge.core.key import CacheKey
from edge.core.stored import StoredResponse

VERSION = 4
"""Raised with every change of what a record holds: a worker reads its own version only."""
MAX_TAGS = 200
"""More than any response can get past `storing.label_of`."""

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+").fullmatch
_VALUE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*").fullmatch
"""No control but the tab (RFC 9110 §5.5): a line break in a value would be written out as the end of its line."""


class Unreadable(ValueError):
    """Bytes that are no record of this version. Reads: version 2, only 3 is understood."""


def encode(stored: StoredResponse, *, ahead_s: float = 0.0) -> bytes:
    """One line of JSON, and the body as it is. What each worker finds out for itself is left out.

    `ahead_s`: how far the clock that the record's times are written by is ahead of the edge's, in seconds.
    """
    about = {
        "v": VERSION,
        "key": _key_value(stored.key),
        "policy": stored.policy_version,
        "status": stored.status,
        "headers": stored.headers.pairs,
        "length": len(stored.body),
        "vary": stored.vary,
        "etag": stored.etag,
        "position": str(stored.position),
        "tags": stored.tags,
        "no_cache": stored.no_cache,
        "times": [
            stored.initial_age_s,
            stored.stored_at + ahead_s,
            stored.fresh_until + ahead_s,
            stored.revalidate_until + ahead_s,
            stored.error_until + ahead_s,
            stored.keep_until + ahead_s,
            stored.unreachable_until + ahead_s,
        ],
    }
    return orjson.dumps(about, option=orjson.OPT_APPEND_NEWLINE) + stored.body


def decode(record: bytes, *, ahead_s: float = 0.0) -> StoredResponse:
    """The response in a record whose times were written by a clock that is `ahead_s` ahead of this edge's.

    Raises Unreadable.
    """
    head, newline, body = record.partition(b"\n")
    about = _object(head)
    if about.get("v") != VERSION:
        raise Unreadable(f"version {about.get('v')!r}, only {VERSION} is understood")
    if not newline or about.get("length") != len(body):
        raise Unreadable("its body is cut short")
    status, etag = about.get("status"), about.get("etag")
    if type(status) is not int or not 200 <= status <= 599:
        raise Unreadable(f"status {status!r}")
    if etag is not None:
        etag = _value(etag)
    initial_age_s, *moments = _times(about.get("times"))
    if initial_age_s < 0:
        raise Unreadable("an age below zero")
    stored_at, fresh_until, revalidate_until, error_until, keep_until, unreachable_until = [
        moment - ahead_s for moment in moments
    ]
    tags = tuple([_text(tag) for tag in _list(about.get("tags"))])
    if len(tags) > MAX_TAGS:
        raise Unreadable(f"{len(tags)} tags")
    no_cache = about.get("no_cache")
    if type(no_cache) is not bool:
        raise Unreadable("no_cache is neither true nor false")
    try:
        position = Position.parse(_text(about.get("position")))
    except WireError as exc:
        raise Unreadable(str(exc)) from exc
    return StoredResponse(
        key=_key_from(about.get("key")),
        policy_version=_text(about.get("policy")),
        status=status,
        headers=Headers([(_name(name), _value(value)) for name, value in _pairs(about.get("headers"))]),
        body=body,
        vary=tuple(
            [(_name(name), None if value is None else _value(value)) for name, value in _pairs(about.get("vary"))]
        ),
        etag=etag,
        position=position,
        tags=tags,
        stored_at=stored_at,
        initial_age_s=initial_age_s,
        no_cache=no_cache,
        fresh_until=fresh_until,
        revalidate_until=revalidate_until,
        error_until=error_until,
        keep_until=keep_until,
        unreachable_until=unreachable_until,
    )


def key_record(key: CacheKey) -> bytes:
    """A key alone: the same bytes for the same key and for no other."""
    return orjson.dumps({"v": VERSION, "key": _key_value(key)})


def key_recorded(record: bytes) -> CacheKey:
    """The key in a record of one. Raises Unreadable."""
    about = _object(record)
    if about.get("v") != VERSION:
        raise Unreadable(f"version {about.get('v')!r}, only {VERSION} is understood")
    return _key_from(about.get("key"))


def _key_value(key: CacheKey) -> list[Any]:
    return [key.authority, key.path, key.query, key.market]


def _key_from(value: object) -> CacheKey:
    parts = _list(value)
    if len(parts) != 4:
        raise Unreadable("a key has four parts")
    authority, path, query, market = parts
    pairs = tuple([(_text(name), _text(text)) for name, text in _pairs(query)])
    return CacheKey(_text(authority), _text(path), pairs, _text(market))


def _object(text: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as exc:
        raise Unreadable(f"not JSON: {exc}") from exc
    if not isinstance(value, dict):
        raise Unreadable("not an object")
    return value


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise Unreadable(f"{str(value)[:40]!r} where a list belongs")
    return value


def _pairs(value: object) -> list[list[Any]]:
    pairs = _list(value)
    if not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        raise Unreadable("a member that is no pair")
    return pairs


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise Unreadable(f"{str(value)[:40]!r} where text belongs")
    return value


def _name(value: object) -> str:
    name = _text(value)
    if _NAME(name) is None:
        raise Unreadable(f"{name[:40]!r} is no field name")
    return name


def _value(value: object) -> str:
    text = _text(value)
    if _VALUE(text) is None:
        raise Unreadable("a control in the value of a field")
    return text


def _times(value: object) -> list[float]:
    times = _list(value)
    if len(times) != 7 or not all(type(moment) in {int, float} and math.isfinite(moment) for moment in times):
        raise Unreadable("its times are not seven numbers")
    return [float(moment) for moment in times]
