"""What the value of a field can be that only routes have: how it is read, and its schema (`cache_policies.kinds`)."""

from __future__ import annotations

import math
import re
from contextlib import suppress
from enum import StrEnum
from typing import Any, TypeVar

from cache_policies.kinds import (
    DURATION,
    Field,
    Kind,
    choice,
    described,
    listed,
    only,
    or_word,
    spelled,
    whole,
    whole_number,
)
from cache_policies.reading import Fault, Refused, Value
from edge.core.http import HOP_BY_HOP
from edge.core.policy import ALL, ALL_QUERY, Throttle, parse_pattern

E = TypeVar("E", bound=StrEnum)


def _path(value: Value) -> str:
    expected = "a path pattern such as /{market}/products/{slug}"
    if value.type != "string" or not isinstance(value.written, str) or not value.written:
        raise value.refuse(expected, "NS103" if value.type in {"array", "object"} else "NS113")
    try:
        parse_pattern(value.written)
    except ValueError as exc:
        fix = (
            f"Write /{value.written}." if value.written[0] not in "/{" else "Write plain segments, {name} or {name...}."
        )
        value.fault(f"{value.shown}: {exc}", "NS113", fix)
        raise Refused from exc
    return value.written


_CAPTURE = r"\{[a-z_]+\}"
_LITERAL = r"[A-Za-z0-9._~!$&'()*+,;=:@-]"
_PATTERN = (
    r"(?!.*\{([a-z_]+)(?:\.\.\.)?\}.*\{\1(?:\.\.\.)?\})"
    rf"(?:/(?:{_LITERAL}+|{_CAPTURE}))*/(?:{_LITERAL}*|\{{[a-z_]+(?:\.\.\.)?\}})"
)
"""What `parse_pattern` takes: no capture twice, the rest and an empty segment only at the end."""
PATH = Kind(_path, whole(_PATTERN))


def _methods(expected: str) -> Kind[tuple[str, ...]]:
    return listed(spelled("[A-Z][A-Z-]{0,19}", expected, "NS109", hint=lambda text: text.strip().upper()), expected)


METHODS = _methods("methods in capitals")
FORWARD_METHODS = or_word("all", ALL, _methods("methods in capitals, or the word all"))
QUERY = or_word(
    "all",
    ALL_QUERY,
    listed(
        spelled(r"[A-Za-z0-9._~-]{1,40}", "parameter names, or the word all", "NS110"),
        "parameter names, or the word all",
    ),
)
_FIELD_PATTERN = "[a-z][a-z0-9-]{0,60}"


def _field_name(expected: str) -> Kind[str]:
    return spelled(_FIELD_PATTERN, expected, "NS111", hint=lambda text: text.strip().lower().replace("_", "-"))


_FORWARDED_EXPECTED = "field names in small letters, or the word all"
_FORWARDED_NAME = _field_name(_FORWARDED_EXPECTED)
_VARY_EXPECTED = "field names in small letters, or the word any"
VARY = or_word("any", ALL, listed(_field_name(_VARY_EXPECTED), _VARY_EXPECTED))
_EDGE_WRITES = HOP_BY_HOP | {"host", "content-length", "cookie", "min-catalog-version", "via"}
"""Request fields that the edge writes itself, or decides about by other fields of a route."""
_EDGE_PREFIXES = ("nearshelf-", "x-forwarded-", "if-")


def _forwarded_field(value: Value) -> str:
    name = _FORWARDED_NAME.read(value)
    if name in _EDGE_WRITES or name.startswith(_EDGE_PREFIXES):
        fix = "Say cookies: true, on a route that is not stored." if name == "cookie" else f"Remove {name}."
        value.fault(f"{name} is written by the edge itself, expected a field of the viewer", "NS115", fix)
        raise Refused
    return name


_FORWARDED = Kind(
    _forwarded_field,
    {
        "type": "string",
        "pattern": f"^(?!(?:{'|'.join(sorted(_EDGE_WRITES))})$|{'|'.join(_EDGE_PREFIXES)})(?:{_FIELD_PATTERN})$",
    },
)
REQUEST_FIELDS = or_word("all", ALL, listed(_FORWARDED, _FORWARDED_EXPECTED))


class Statuses(StrEnum):
    """Which statuses are stored."""

    CACHEABLE = "cacheable"
    ANY = "any"


class RequestDirectives(StrEnum):
    """What becomes of a request's Cache-Control."""

    IGNORE = "ignore"
    HONOUR = "honour"


def _whether(kind: type[E], word: E) -> Kind[bool]:
    """One of the words of an enumeration, as whether it is `word`."""
    words = choice(kind)
    return Kind(lambda value: words.read(value) is word, words.schema)


STATUSES = _whether(Statuses, Statuses.ANY)
REQUEST_DIRECTIVES = _whether(RequestDirectives, RequestDirectives.HONOUR)
REFUSED_STATUS = or_word("none", 0, whole_number(400, 499, "a status from 400 to 499", "NS108"))
_ERROR_STATUS = "[45][0-9]{2}"


def _negative(value: Value) -> tuple[tuple[int, float], ...]:
    found: list[tuple[int, float]] = []
    for name, (place, seconds) in value.fields("a mapping from status to duration, such as {404: 10s}").items():
        if re.fullmatch(_ERROR_STATUS, name) is None:
            what = f"status {name}, expected one from 400 to 599"
            value.faults.append(Fault(place, seconds.path, what, "NS108", "Write an error status, such as 404."))
            continue
        with suppress(Refused):
            found.append((int(name), DURATION.read(seconds)))
    return tuple(sorted(found))


NEGATIVE = Kind(
    _negative,
    {"type": "object", "propertyNames": whole(_ERROR_STATUS), "additionalProperties": DURATION.schema},
)

_TAG = spelled(
    rf"(?:[a-z0-9._~:%/-]|{_CAPTURE})+",
    "a cache tag in small letters, such as cat:{market}:{category}",
    "NS116",
    hint=lambda text: re.sub(r"[ ,]+", "-", text.strip().lower()).replace("...}", "}"),
)
TAGS = listed(_TAG, "cache tags in small letters")

_PER_SECOND = {"s": 1, "m": 60, "h": 3_600}


def _meant_rate(text: str) -> str:
    match = re.fullmatch(
        r"([1-9][0-9]{0,5}) ?(?:r?/? ?(s|sec|second|m|min|minute|h|hour)s?|rps|per (\w+))?", text.lower()
    )
    return text if match is None else f"{match[1]}/{(match[2] or match[3] or 's')[0]}"


_RATE_TEXT = spelled(
    r"[1-9][0-9]{0,5}/[smh]",
    "a rate such as 100/s, 600/m or 5000/h",
    "NS117",
    hint=_meant_rate,
)


def _rate(value: Value) -> float:
    count, unit = _RATE_TEXT.read(value).split("/")
    return int(count) / _PER_SECOND[unit]


def _throttle(value: Value) -> Throttle:
    if not isinstance(value.written, dict):
        rate = _rate(value)
        return Throttle(rate, _a_second_of(rate))
    only(value, THROTTLE_FIELDS)
    before = len(value.faults)
    rate, burst = (each.of(value, None) for each in THROTTLE_FIELDS)
    if rate is None or len(value.faults) > before:
        raise Refused
    return Throttle(rate, burst or _a_second_of(rate))


def _a_second_of(rate_per_s: float) -> int:
    return max(1, math.ceil(rate_per_s))


THROTTLE_FIELDS: tuple[Field[Any], ...] = (
    Field(
        "rate",
        Kind(_rate, _RATE_TEXT.schema),
        "requests a second, a minute or an hour",
        "required",
        "how often one client may ask in the long run: `100/s`, `600/m`, `5000/h`",
        ("limit", "requests"),
    ),
    Field(
        "burst",
        whole_number(1, 1_000_000, "a number of requests from 1 to 1000000", "NS118"),
        "requests",
        "those of one second, at least 1",
        "how many may come at once",
    ),
)

THROTTLE: Kind[Throttle | None] = or_word(
    "none", None, Kind(_throttle, {"anyOf": [_RATE_TEXT.schema, described(THROTTLE_FIELDS)]})
)
