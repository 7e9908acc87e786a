"""Cache keys: tuples of named parts, never joined text (RFC 9111 §2).

The forwarded request is rebuilt from the key (`forward_target`), so that what the origin is asked and what the answer
is stored under agree by construction. The same rules run in CloudFront as a generated Function.
"""

from __future__ import annotations

import re
import sys
from enum import StrEnum
from typing import NamedTuple

from cache_policies.percent import percent_decoded, percent_encoded
from edge.core.http import Request
from edge.core.policy import ALL_QUERY, Match


class CacheKey(NamedTuple):
    """What tells stored responses apart before Vary. Different requests cannot spell the same key."""

    authority: str
    path: str
    """Normalised: percent-encoding in one spelling, no dot segments."""
    query: tuple[tuple[str, str], ...]
    """Only the parameters the policy lists, in its order, decoded. On a route with ALL_QUERY the one pair
    `("*", the query as received)`."""
    market: str


class TargetFault(StrEnum):
    """Why a request target is refused with 400: what two readers might read differently is not passed on."""

    NOT_A_PATH = "not-a-path"
    """The path does not start with a slash."""
    BAD_CHARACTER = "bad-character"
    """A control, a blank, a backslash, `#` or a byte beyond ASCII that should have been percent-encoded."""
    BAD_ENCODING = "bad-encoding"
    """A `%` without two hexadecimal digits, or a parameter that is not UTF-8."""
    ENCODED_SLASH = "encoded-slash"
    """`%2F` or `%5C` in the path."""
    ENCODED_CONTROL = "encoded-control"
    DOT_SEGMENT = "dot-segment"
    """`.` or `..` as a whole segment, also percent-encoded."""
    EMPTY_SEGMENT = "empty-segment"
    """`//` in the path."""
    REPEATED_PARAMETER = "repeated-parameter"
    """A parameter that counts is there twice."""


class BadTarget(ValueError):
    """The request target is refused: answer 400 and name `fault`; do not forward."""

    def __init__(self, fault: TargetFault) -> None:
        super().__init__(fault.value)
        self.fault = fault


def normalise_path(path: str) -> str:
    """`path` with percent-encoding in one spelling (RFC 3986 §6.2.2); its own normal form comes back unchanged.

    Unreserved characters are never encoded, others always, in capitals. Raises BadTarget for what origins disagree
    about: dot and empty segments, encoded slashes, controls.
    """
    if _PLAIN_PATH(path) is not None and "//" not in path and "/." not in path:
        return path
    return _normalise_path(path)


def normalise_query(query: str, allowed: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """The parameters of `query` that are in `allowed`, decoded, in the order of `allowed`.

    `+` and `%20` are blanks, a parameter without `=` has an empty value. All others are dropped unread. Raises
    BadTarget for an allowed parameter that is there twice, or holds a control or what is not UTF-8. With ALL_QUERY
    the query passes as received, and only characters that no URL may hold are refused.
    """
    if not query or not allowed:
        return ()
    if allowed is ALL_QUERY or allowed == ALL_QUERY:
        if _QUERY(query) is None:
            raise BadTarget(TargetFault.BAD_CHARACTER)
        return (("*", query),)
    plain = _PLAIN_QUERY(query) is not None
    parts: list[tuple[str, str]] = []
    for pair in query.split("&"):
        name, _, value = pair.partition("=")
        if not plain:
            name = _decoded_name(name)
        if name in allowed:
            parts.append((name, value if plain else _decoded_value(value)))
    if len(parts) > 1:
        found = dict(parts)
        if len(found) < len(parts):
            raise BadTarget(TargetFault.REPEATED_PARAMETER)
        return tuple([(name, found[name]) for name in allowed if name in found])
    return tuple(parts)


def dropped_parameters(query: str, allowed: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the parameters that `normalise_query` leaves out, as often and in the order in which they came."""
    if not query or allowed == ALL_QUERY:
        return ()
    names = [_decoded_name(pair.partition("=")[0]) for pair in query.split("&") if pair]
    return tuple([name for name in names if name not in allowed])


def cache_key(request: Request, match: Match) -> CacheKey:
    """The key of `request` under the policy that `PolicySet.match(normalise_path(request.path))` found.

    Raises BadTarget when the query is refused.
    """
    return CacheKey(
        request.authority,
        match.path,
        normalise_query(request.query, match.policy.query),
        # One object for all keys of a market.
        sys.intern(match.market),
    )


def query_text(key: CacheKey) -> str:
    """The query of the forwarded request, without the `?`: one spelling per key."""
    if not key.query:
        return ""
    if key.query[0][0] == "*":
        return key.query[0][1]
    return "&".join([f"{percent_encoded(name)}={percent_encoded(value)}" for name, value in key.query])


def forward_target(key: CacheKey) -> str:
    """Path and query to ask the origin for. Reading them again gives the same key."""
    query = query_text(key)
    return f"{key.path}?{query}" if query else key.path


_PLAIN_PATH = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@/-]*").fullmatch
# Nothing to decode and nothing to refuse: what nearly every query is.
_PLAIN_QUERY = re.compile(r"[A-Za-z0-9._~&=-]*").fullmatch
# What WHATWG leaves unencoded in a query, and therefore browsers send, minus what splits a request line.
_QUERY = re.compile(r"[!$-;=?-~]*").fullmatch
_RAW_PATH = re.compile(r"[!\"$-\[\]-~]*").fullmatch
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})").search
_TO_ENCODE = re.compile(r"[\"<>\[\]^`{|}]")
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]").search


def _normalise_path(path: str) -> str:
    if not path.startswith("/"):
        raise BadTarget(TargetFault.NOT_A_PATH)
    if _RAW_PATH(path) is None:
        raise BadTarget(TargetFault.BAD_CHARACTER)
    if _BAD_ESCAPE(path):
        raise BadTarget(TargetFault.BAD_ENCODING)
    text = _TO_ENCODE.sub(lambda found: f"%{ord(found[0]):02X}", _ESCAPE.sub(_one_spelling, path))
    segments = text[1:].split("/")
    if "." in segments or ".." in segments:
        raise BadTarget(TargetFault.DOT_SEGMENT)
    if "" in segments[:-1]:
        raise BadTarget(TargetFault.EMPTY_SEGMENT)
    return text


def _one_spelling(escape: re.Match[str]) -> str:
    code = int(escape[1], 16)
    if code < 0x20 or code == 0x7F:
        raise BadTarget(TargetFault.ENCODED_CONTROL)
    character = chr(code)
    if character in "/\\":
        raise BadTarget(TargetFault.ENCODED_SLASH)
    return character if character in _UNRESERVED else f"%{code:02X}"


def _decoded_name(name: str) -> str:
    """What cannot be decoded is no parameter that counts, and comes back as it is."""
    try:
        return percent_decoded(name.replace("+", " ").encode()).decode("ascii")
    except UnicodeError:
        return name


def _decoded_value(value: str) -> str:
    if _BAD_ESCAPE(value):
        raise BadTarget(TargetFault.BAD_ENCODING)
    try:
        text = percent_decoded(value.replace("+", " ").encode("ascii")).decode("utf-8")
    except UnicodeEncodeError:
        raise BadTarget(TargetFault.BAD_CHARACTER) from None
    except UnicodeDecodeError:
        raise BadTarget(TargetFault.BAD_ENCODING) from None
    if _CONTROLS(text):
        raise BadTarget(TargetFault.ENCODED_CONTROL)
    return text
