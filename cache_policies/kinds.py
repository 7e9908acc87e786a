"""How the value of a field is read, and what an editor's JSON Schema says of it: one definition of both.

The patterns are read by Python and by JSON Schema (ECMA-262, with the `u` flag), so they keep to what both understand
alike. A `Field` adds what a person reads: unit, default and meaning. Tables of them are the reader, the schema and
the documentation (`edge/route_fields.py`, `markets.py`, `origins_file.py`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Generic, TypeVar

from cache_policies.reading import Refused, Value, closest, did_you_mean

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)
Schema = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """What a value can be: `read` raises Refused after it has noted the fault; `schema` accepts what `read` does."""

    read: Callable[[Value], T]
    schema: Schema


@dataclass(frozen=True, slots=True)
class Field(Generic[T]):
    """One field of a mapping, for its reader, for the schema and for the table in cache_policies/README.md."""

    name: str
    kind: Kind[T]
    unit: str
    default: str
    """As it is documented; `required` for a field that has none."""
    meaning: str
    """One line."""
    other_names: tuple[str, ...] = field(default=())
    """What the same thing is called elsewhere; small letters and underscores."""

    @property
    def required(self) -> bool:
        return self.default == "required"

    def of(self, value: Value, default: T) -> T:
        """What the mapping `value` says of this field; `default` when it is absent or at fault."""
        read = value.required if self.required else value.optional
        return read(self.name, self.kind.read, default)

    @property
    def documented(self) -> str:
        """Its row in the table of README.md."""
        return f"| `{self.name}` | {self.unit} | {self.default} | {self.meaning} |"


def only(value: Value, known: Iterable[Field[Any]]) -> None:
    """Report every field of the mapping that is none of these."""
    table = list(known)
    value.only([each.name for each in table], {other: each.name for each in table for other in each.other_names})


def whole(pattern: str) -> Schema:
    """The schema of text that the pattern matches from end to end."""
    return {"type": "string", "pattern": f"^(?:{pattern})$"}


def spelled(
    pattern: str, expected: str, code: str, known: Iterable[str] = (), hint: Callable[[str], str] = str
) -> Kind[str]:
    """Text in a certain spelling. `hint` makes of other text what was probably meant; offered if the pattern fits it,
    else the nearest of the `known` words is."""
    compiled = re.compile(pattern)
    words = tuple(known)

    def read(value: Value) -> str:
        if isinstance(value.written, str) and value.type == "string" and compiled.fullmatch(value.written):
            return value.written
        raise _refuse_text(value, compiled, expected, code, words, hint)

    return Kind(read, whole(pattern))


def _refuse_text(
    value: Value, pattern: re.Pattern[str], expected: str, code: str, known: tuple[str, ...], hint: Callable[[str], str]
) -> Refused:
    if not isinstance(value.written, str):
        return value.refuse(expected, "NS103")
    if value.type != "string" and value.written and pattern.fullmatch(value.written):
        return value.refuse(
            f"{expected}; in YAML it is a {value.type} without quotes", code, f'Write "{value.written}", with quotes.'
        )
    meant = hint(value.written)
    if not (meant != value.written and pattern.fullmatch(meant)):
        meant = closest(value.written, known) if value.written else ""
    if meant:
        return value.refuse(f"{expected}; did you mean {meant}?", code, f"Write {meant}.")
    return value.refuse(expected, code)


def choice(kind: type[E], among: Iterable[E] | None = None) -> Kind[E]:
    """One of the words of an enumeration; of those `among`, where only some can be meant."""
    words = [member.value for member in (kind if among is None else among)]
    expected = "one of " + ", ".join(words)

    def read(value: Value) -> E:
        text = value.text(expected, "NS104")
        if text not in words:
            meant = closest(text, words)
            raise value.refuse(expected + did_you_mean(text, words), "NS104", f"Write {meant}." if meant else "")
        return kind(text)

    return Kind(read, {"enum": words})


def _boolean(value: Value) -> bool:
    if value.type != "boolean" or not isinstance(value.written, str):
        meant = {"yes": "true", "on": "true", "true": "true", "no": "false", "off": "false", "false": "false"}
        word = meant.get(value.written.lower(), "") if isinstance(value.written, str) else ""
        fix = f"Write {word}, without quotes." if word else ""
        raise value.refuse("true or false", "NS107" if isinstance(value.written, str) else "NS103", fix)
    return value.written.lower() == "true"


BOOLEAN = Kind(_boolean, {"type": "boolean"})

_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_DURATION = r"(?:0|[1-9][0-9]{0,9})[smhd]"
_DURATION_EXPECTED = "a duration of zero or more with its unit, such as 300s, 5m, 12h or 1d"
_UNITS = {
    "": "s", "s": "s", "sec": "s", "secs": "s", "second": "s", "seconds": "s",
    "m": "m", "min": "m", "mins": "m", "minute": "m", "minutes": "m",
    "h": "h", "hr": "h", "hour": "h", "hours": "h", "d": "d", "day": "d", "days": "d",
}  # fmt: skip


def _meant_duration(text: str) -> str:
    """`5` and `5 min` as 5s and 5m, `1w` as 7d, `1500ms` as 2s; the text itself where nothing is near."""
    match = re.fullmatch(r"([0-9]{1,6})[ _]?([a-z]*)", text.strip().lower())
    if match is None:
        return text
    number = int(match[1])
    if match[2] in {"w", "week", "weeks"}:
        return f"{number * 7}d"
    if match[2] in {"ms", "millis", "milliseconds"}:
        return f"{-(-number // 1_000)}s"
    return f"{number}{_UNITS[match[2]]}" if match[2] in _UNITS else text


def _in_seconds(text: str) -> float:
    return float(int(text[:-1]) * _SECONDS[text[-1]])


def _read_as(kind: Kind[str], make: Callable[[str], T]) -> Kind[T]:
    return Kind(lambda value: make(kind.read(value)), kind.schema)


DURATION = _read_as(spelled(_DURATION, _DURATION_EXPECTED, "NS105", hint=_meant_duration), _in_seconds)
"""Seconds: `300s`, `5m`, `12h`, `1d`."""
TIMEOUT = _read_as(
    spelled(r"[1-9][0-9]{0,8}[smhd]", "a duration of one second or more, such as 5s", "NS105", hint=_meant_duration),
    _in_seconds,
)
"""Seconds, never none."""

_BYTES = {"B": 1, "kB": 1_000, "MB": 1_000_000}


def _meant_size(text: str) -> str:
    match = re.fullmatch(r"([0-9]{1,6})[ _]?(b|kb|k|kib|mb|m|mib|)", text.strip().lower())
    if match is None:
        return text
    return match[1] + {"": "B", "b": "B", "k": "kB", "m": "MB"}[match[2][:1]]


def _in_bytes(text: str) -> int:
    number, unit = re.fullmatch(r"([0-9]+)([A-Za-z]+)", text).groups()  # type: ignore[union-attr]
    return int(number) * _BYTES[unit]


SIZE = _read_as(
    spelled(r"[1-9][0-9]{0,5}(?:B|kB|MB)", "a size with its unit, such as 500kB or 2MB", "NS106", hint=_meant_size),
    _in_bytes,
)
"""Bytes: `500kB`, `2MB` (powers of ten)."""


def whole_number(low: int, high: int, expected: str, code: str) -> Kind[int]:
    """A number from `low` to `high`, in plain decimal digits."""

    def read(value: Value) -> int:
        text = value.written
        if not isinstance(text, str):
            raise value.refuse(expected, "NS103")
        if value.type != "number":
            plain = text.isascii() and text.isdigit()
            raise value.refuse(expected, code, f"Write {text}, without quotes." if plain else "")
        if re.fullmatch(r"0|-?[1-9][0-9]*", text) is None:
            if re.fullmatch(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", text) is None:
                raise value.refuse(expected, code)
            raise value.refuse(
                f"{expected}, in plain digits: readers of YAML disagree about what this is",
                "NS011",
                "Write the number in decimal digits, without a zero or a sign in front.",
            )
        if len(text) > len(str(high)) or not low <= int(text) <= high:
            raise value.refuse(expected, code)
        return int(text)

    return Kind(read, {"type": "integer", "minimum": low, "maximum": high})


def listed(item: Kind[str], expected: str) -> Kind[tuple[str, ...]]:
    """A list of different words."""

    def read(value: Value) -> tuple[str, ...]:
        found: dict[str, None] = {}
        for each in value.items("a list of " + expected):
            with suppress(Refused):
                word = item.read(each)
                if word in found:
                    each.fault(f"{word} a second time, expected each only once", "NS112", "Remove one of the two.")
                else:
                    found[word] = None
        return tuple(found)

    return Kind(read, {"type": "array", "items": item.schema, "uniqueItems": True})


def or_word(word: str, meant: T, kind: Kind[T]) -> Kind[T]:
    """`kind`, or a word that stands for `meant`."""
    return Kind(
        lambda value: meant if value.type == "string" and value.written == word else kind.read(value),
        {"anyOf": [{"const": word}, kind.schema]},
    )


def described(table: Iterable[Field[Any]]) -> dict[str, Any]:
    """The schema of a mapping with these fields and no other."""
    fields = list(table)
    schema: dict[str, Any] = {
        "type": "object",
        "additionalProperties": False,
        "properties": {each.name: field_schema(each) for each in fields},
    }
    required = [each.name for each in fields if each.required]
    return schema | {"required": required} if required else schema


def referred(table: Iterable[Field[Any]]) -> dict[str, Any]:
    """The same, of fields that the document describes once, in its `$defs`."""
    fields = list(table)
    return {**described(fields), "properties": {each.name: {"$ref": f"#/$defs/{each.name}"} for each in fields}}


def field_schema(each: Field[Any]) -> dict[str, Any]:
    """The schema of a field's value, with what an editor shows beside it."""
    default = "" if each.required else f" Default: {each.default.replace('`', '')}."
    meaning = each.meaning.replace("`", "").replace("\\|", "|")
    return {"description": f"{meaning[:1].upper()}{meaning[1:]}.{default}", **each.kind.schema}


COUNTRY = spelled("[A-Z]{2}", "two capital letters", "NS119", hint=str.upper)
"""ISO 3166: `NO` is Norway."""
JURISDICTION = spelled("[a-z]{2,8}", "a name such as eu", "NS122", hint=str.lower)
NAME = r"[a-z][a-z0-9-]{0,39}"
"""What routes and origins are called."""


def meant_name(text: str) -> str:
    """The name that was probably meant: small letters, digits and hyphens."""
    return re.sub(r"[ _.]+", "-", text.strip().lower())


ORIGIN_NAME = spelled(NAME, "small letters, digits and hyphens, such as shop", "NS124", hint=meant_name)
