"""YAML read with places: every value knows its file, line and column, and every fault is reported at once.

Scalars stay the text that was written, and the reader of a field says what it must be: `NO` is Norway where a
country is expected. Needs ruamel.yaml when a file is read, not when this module is imported: Lambda@Edge carries
policies as values.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from cache_policies.codes import CODES, Severity

PACKAGED_POLICIES = Path(__file__).parent
"""The policies that come with the project."""

_DURATION = re.compile(r"(0|[1-9][0-9]{0,8})(s|m|h|d)")
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_SIZE = re.compile(r"([1-9][0-9]{0,5})(B|kB|MB)")
_BYTES = {"B": 1, "kB": 1_000, "MB": 1_000_000}
MAX_NESTING = 20
"""Lists and mappings within each other; a policy needs a handful."""

E = TypeVar("E", bound=StrEnum)
T = TypeVar("T")
D = TypeVar("D")


class Place(NamedTuple):
    """Where something was written; line and column count from 1, columns in characters."""

    file: str
    line: int
    column: int
    end_column: int = 0
    """The first column behind it; 0 where it ends on another line."""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """One thing wrong with a policy file."""

    place: Place
    field: str
    """Dotted path of the field: `routes.price.fresh`; empty for a fault of the whole file."""
    what: str
    """What was found, and what was expected."""
    code: str = ""
    """Stable, of `codes.CODES`: `NS012`."""
    fix: str = ""
    """What to do, in one sentence; empty where `what` says it already."""

    @property
    def severity(self) -> Severity:
        return CODES[self.code].severity

    def __str__(self) -> str:
        return f"{self.place} {self.field}: {self.what}" if self.field else f"{self.place}: {self.what}"


class PolicyError(Exception):
    """Policies cannot be used. The text lists every fault, one a line: `prices.yaml:14:12 routes.price.fresh: ...`."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(sorted(set(faults)))
        super().__init__("\n".join(str(fault) for fault in self.faults))


class Refused(Exception):
    """A value that was reported as a fault; the field falls back to its default and reading goes on."""


@dataclass(slots=True)
class Value:
    """One value of a document: its place, and what was written there."""

    place: Place
    path: str
    written: str | list[Value] | dict[str, tuple[Place, Value]]
    faults: list[Fault] = field(repr=False)
    quoted: bool = False

    def fault(self, what: str) -> None:
        self.faults.append(Fault(self.place, self.path, what))

    def _refuse(self, expected: str) -> Refused:
        self.fault(f"{self._shown()}, expected {expected}")
        return Refused()

    def _shown(self) -> str:
        if isinstance(self.written, str):
            return (f'"{self.written}"' if self.quoted else self.written) if self.written else "nothing"
        return "a list" if isinstance(self.written, list) else "a mapping"

    def text(self, expected: str = "text") -> str:
        if not isinstance(self.written, str) or not self.written:
            raise self._refuse(expected)
        return self.written

    def matching(self, pattern: re.Pattern[str], expected: str) -> str:
        text = self.text(expected)
        if pattern.fullmatch(text) is None:
            raise self._refuse(expected)
        return text

    def boolean(self) -> bool:
        text = self.text("true or false")
        if self.quoted or text not in {"true", "false"}:
            raise self._refuse("true or false")
        return text == "true"

    def duration_s(self) -> float:
        """Seconds: `300s`, `5m`, `12h`, `1d`."""
        expected = "a duration of zero or more with its unit, such as 300s, 5m, 12h or 1d"
        match = _DURATION.fullmatch(self.text(expected))
        if match is None:
            raise self._refuse(expected)
        return float(int(match[1]) * _SECONDS[match[2]])

    def size_bytes(self) -> int:
        """Bytes: `500kB`, `2MB` (powers of ten)."""
        expected = "a size with its unit, such as 500kB or 2MB"
        match = _SIZE.fullmatch(self.text(expected))
        if match is None:
            raise self._refuse(expected)
        return int(match[1]) * _BYTES[match[2]]

    def choice(self, kind: type[E]) -> E:
        words = [member.value for member in kind]
        text = self.text("one of " + ", ".join(words))
        if text not in words:
            raise self._refuse("one of " + ", ".join(words) + did_you_mean(text, words))
        return kind(text)

    def status(self, allowed: Callable[[int], bool], expected: str) -> int:
        text = self.text(expected)
        if not (text.isascii() and text.isdigit() and len(text) == 3 and allowed(int(text))):
            raise self._refuse(expected)
        return int(text)

    def items(self, expected: str = "a list") -> list[Value]:
        if not isinstance(self.written, list):
            raise self._refuse(expected)
        return self.written

    def fields(self, expected: str = "a mapping") -> dict[str, tuple[Place, Value]]:
        if not isinstance(self.written, dict):
            raise self._refuse(expected)
        return self.written

    def words(self, pattern: re.Pattern[str], expected: str) -> tuple[str, ...]:
        """A list of different words."""
        found: list[str] = []
        for item in self.items("a list of " + expected):
            with suppress(Refused):
                word = item.matching(pattern, expected)
                if word in found:
                    item.fault(f"{word} a second time, expected each only once")
                else:
                    found.append(word)
        return tuple(found)

    def optional(self, name: str, read: Callable[[Value], T], default: D) -> T | D:
        """What `read` makes of the field `name`, or `default` when it is absent or at fault."""
        entry = self.fields().get(name)
        if entry is None:
            return default
        with suppress(Refused):
            return read(entry[1])
        return default

    def required(self, name: str, read: Callable[[Value], T], default: D) -> T | D:
        """The same; absence is a fault. `default` only keeps the reader going."""
        if name not in self.fields():
            self.fault(f"{name} is missing")
        return self.optional(name, read, default)

    def only(self, known: Iterable[str]) -> None:
        """Report every field that is not known, with the likeliest meant one."""
        names = list(known)
        for name, (place, value) in self.fields().items():
            if name not in names:
                hint = did_you_mean(name, names) or ", expected one of " + ", ".join(names)
                self.faults.append(Fault(place, value.path, f"no such field{hint}"))


def did_you_mean(word: str, known: Iterable[str]) -> str:
    close = get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def read_document(path: Path, faults: list[Fault]) -> Value | None:
    """The one document in `path`; None, with the fault noted, when it cannot be read as YAML with a mapping on top."""
    from ruamel.yaml import YAML
    from ruamel.yaml.composer import Composer
    from ruamel.yaml.error import MarkedYAMLError, YAMLError
    from ruamel.yaml.events import AliasEvent

    name = path.name

    class PlainComposer(Composer):
        """Refuses what makes a small file endless: aliases (also of a value within itself), and deep nesting."""

        def compose_node(self, parent: Any, index: Any) -> Any:
            event = self.parser.peek_event()
            place = Place(name, event.start_mark.line + 1, event.start_mark.column + 1)
            if isinstance(event, AliasEvent):
                faults.append(Fault(place, "", f"an alias, *{event.anchor}; expected the value itself"))
                raise Refused
            if self.depth >= MAX_NESTING:
                faults.append(Fault(place, "", f"nested more than {MAX_NESTING} levels deep"))
                raise Refused
            return super().compose_node(parent, index)

    yaml = YAML(typ="safe", pure=True)
    yaml.Composer = PlainComposer
    try:
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text)
    except Refused:
        return None
    except OSError as exc:
        faults.append(Fault(Place(name, 1, 1), "", f"cannot be read: {exc.strerror}"))
        return None
    except UnicodeDecodeError as exc:
        line = path.read_bytes()[: exc.start].count(b"\n") + 1
        faults.append(Fault(Place(name, line, 1), "", "not UTF-8 text"))
        return None
    except MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        place = Place(name, mark.line + 1, mark.column + 1) if mark else Place(name, 1, 1)
        faults.append(Fault(place, "", f"not YAML: {exc.problem or exc.context}"))
        return None
    except YAMLError as exc:
        faults.append(Fault(Place(name, 1, 1), "", f"not YAML: {exc}"))
        return None
    if node is None:
        faults.append(Fault(Place(name, 1, 1), "", "the file is empty, expected a mapping"))
        return None
    value = _value(node, name, "", faults)
    if not isinstance(value.written, dict):
        value.fault("expected a mapping")
        return None
    return value


def _value(node: Any, file: str, path: str, faults: list[Fault]) -> Value:
    place = Place(file, node.start_mark.line + 1, node.start_mark.column + 1)
    if node.id == "scalar":
        return Value(place, path, node.value, faults, quoted=node.style is not None)
    if node.id == "sequence":
        items = [_value(item, file, f"{path}[{number}]", faults) for number, item in enumerate(node.value)]
        return Value(place, path, items, faults)
    fields: dict[str, tuple[Place, Value]] = {}
    for key, item in node.value:
        at = Place(file, key.start_mark.line + 1, key.start_mark.column + 1)
        name = key.value if isinstance(key.value, str) else "?"
        below = f"{path}.{name}" if path else name
        if name in fields:
            first = fields[name][0]
            faults.append(Fault(at, below, f"written a second time, first on line {first.line}; expected once"))
            continue
        value = _value(item, file, below, faults)
        if value.written == "" and not value.quoted:
            # YAML puts an absent value at the next token, which may be lines further down.
            value.place = at
        fields[name] = (at, value)
    return Value(place, path, fields, faults)
