"""What the values in scenario files can be (`scenario_files`, `expectations`)."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from cache_policies.kinds import NAME, Kind, listed, meant_name, spelled, whole_number
from cache_policies.positions import Position, WireError
from cache_policies.reading import Fault, Refused, Value, did_you_mean
from edge.core.hops import parse_address
from infra.policy.virtual_edge import NoLabel

T = TypeVar("T")


def kind(read: Callable[[Value], T]) -> Kind[T]:
    """A kind that no editor's schema describes."""
    return Kind(read, {})


def plain_text(value: Value) -> str:
    """Any text, a number too, as it was written."""
    if not isinstance(value.written, str):
        raise value.refuse("text", "NS103")
    return value.written


def field_value(value: Value) -> str:
    text = plain_text(value)
    if not text.isprintable() or not text.isascii():
        raise value.refuse("the value of a header field: visible characters of ASCII, in one line", "NS103")
    return text


def members(value: Value, name_pattern: str, expected: str, code: str, read: Callable[[Value], T]) -> dict[str, T]:
    """A mapping whose names fit a pattern."""
    found: dict[str, T] = {}
    for name, (place, entry) in value.fields(f"a mapping from {expected} to its value").items():
        if re.fullmatch(name_pattern, name) is None:
            value.faults.append(Fault(place, entry.path, f"{name}, expected {expected}", code, f"Write {expected}."))
            continue
        with suppress(Refused):
            found[name] = read(entry)
    return found


FIELD_NAME = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"


def header_fields(value: Value) -> tuple[tuple[str, str], ...]:
    return tuple(members(value, FIELD_NAME, "the name of a header field", "NS111", field_value).items())


_MOMENT = r"(0|[1-9][0-9]{0,8})(ms|s|m|h|d)"
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}


def _moment(value: Value) -> float:
    written = _MOMENT_TEXT.read(value)
    number, unit = re.fullmatch(_MOMENT, written).groups()  # type: ignore[union-attr]  # it was just matched
    return int(number) * _UNITS[unit]


_MOMENT_TEXT = spelled(
    _MOMENT,
    "a duration with its unit, such as 300ms, 30s, 5m, 12h or 1d",
    "NS105",
    hint=lambda text: f"{text}s" if text.isdigit() else text.replace(" ", "").lower(),
)
MOMENT = kind(_moment)
STATUS = whole_number(200, 599, "a status from 200 to 599", "NS108")
METHOD = spelled(
    "[A-Z][A-Z-]{0,19}", "a method in capitals, such as GET", "NS109", hint=lambda text: text.strip().upper()
)
STEP_ID = spelled(NAME, "small letters, digits and hyphens, such as first-visit", "NS114", hint=meant_name)
TAGS = listed(
    spelled(r"[!-+\--@\[-~]{1,256}", "a cache tag: no capitals, blanks or commas", "NS116", hint=str.lower),
    "cache tags, such as p:eu-eur:lamp-1",
)


def position(value: Value) -> Position | NoLabel:
    text = plain_text(value)
    words = [each.value for each in NoLabel]
    if text in words:
        return NoLabel(text)
    try:
        return Position.parse(text)
    except WireError as exc:
        expected = "head, none or a position such as 1.7"
        raise value.refuse(expected + did_you_mean(text, words), "NS104") from exc


def address(value: Value) -> str:
    text = plain_text(value)
    if parse_address(text) is None:
        raise value.refuse("an address, such as 192.0.2.7 or 2001:db8::7", "NS103")
    return text


def url(value: Value) -> str:
    text = plain_text(value)
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        raise value.refuse("an address as a browser sends it, such as /eu-eur/?page=2", "NS113")
    return text
