"""YAML read with places: every value knows its file, line and column, and every fault is reported at once.

Scalars stay the text that was written, and the reader of a field (`kinds.py`) says what it must be: `NO` is Norway
where a country is expected. Needs ruamel.yaml when a file is read, not when this module is imported: Lambda@Edge
carries policies as values.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from cache_policies.codes import CODES, Severity

PACKAGED_POLICIES = Path(__file__).parent
"""The policies that come with the project."""
PROFILES = PACKAGED_POLICIES / "profiles"
"""Folders of policies for other origins than the shop, found by their bare names (`folder.folder_called`)."""

MAX_NESTING = 20
"""Lists and mappings within each other; a policy needs a handful."""
MAX_FILE_BYTES = 1_000_000
"""The largest file that is read: thousands of routes."""

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
    code: str
    """Stable, of `codes.CODES`: `NS012`."""
    fix: str = ""
    """What to do, in one sentence; empty where `what` says it already."""

    @property
    def severity(self) -> Severity:
        return CODES[self.code].severity

    def __str__(self) -> str:
        where = f"{self.place} {self.field}: {self.what}" if self.field else f"{self.place}: {self.what}"
        return f"{where} [{self.code}]"


class PolicyError(Exception):
    """Policies cannot be used. The text lists every fault, one a line: `prices.yaml:14:12 routes.price.fresh: ...`."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(sorted(set(faults)))
        super().__init__("\n".join(str(fault) for fault in self.faults))


class Refused(Exception):
    """A value that was reported as a fault; the field falls back to its default and reading goes on."""


# What the core schema of YAML 1.2 makes of plain text (https://yaml.org/spec/1.2.2/, 10.3.2), and so does an editor.
_NULL = re.compile(r"~|null|Null|NULL|")
_BOOLEAN = re.compile(r"true|True|TRUE|false|False|FALSE")
_NUMBER = re.compile(
    r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+"
    r"|[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)


@dataclass(slots=True)
class Value:
    """One value of a document: its place, and what was written there."""

    place: Place
    path: str
    written: str | list[Value] | dict[str, tuple[Place, Value]]
    faults: list[Fault] = field(repr=False)
    quoted: bool = False
    unreadable: bool = False
    """Reported already, so that nothing more is to be said of it."""

    def fault(self, what: str, code: str, fix: str = "") -> None:
        if not self.unreadable:
            self.faults.append(Fault(self.place, self.path, what, code, fix))

    def refuse(self, expected: str, code: str, fix: str = "") -> Refused:
        """Report what was found in place of what was `expected`; to be raised."""
        self.fault(f"{self.shown}, expected {expected}", code, fix or f"Write {expected}.")
        return Refused()

    @property
    def shown(self) -> str:
        """The value as a message names it, cut where it is long."""
        if isinstance(self.written, list):
            return "a list"
        if isinstance(self.written, dict):
            return "a mapping"
        text = self.written if self.written.isprintable() else repr(self.written)[1:-1]
        text = text if len(text) <= 80 else f"{text[:77]}..."
        return f'"{text}"' if self.quoted else text or "nothing"

    @property
    def type(self) -> str:
        """What an editor takes it for: `null`, `boolean`, `number`, `string`, `array` or `object`."""
        if not isinstance(self.written, str):
            return "array" if isinstance(self.written, list) else "object"
        if self.quoted:
            return "string"
        for name, pattern in (("null", _NULL), ("boolean", _BOOLEAN), ("number", _NUMBER)):
            if pattern.fullmatch(self.written):
                return name
        return "string"

    def text(self, expected: str = "text", code: str = "NS103") -> str:
        """The text that was written; a number, `true`, `null` and nothing are none, unless they are in quotes."""
        if not isinstance(self.written, str):
            raise self.refuse(expected, "NS103")
        if self.type != "string" or not self.written:
            raise self.refuse(expected, code)
        return self.written

    def items(self, expected: str = "a list") -> list[Value]:
        if not isinstance(self.written, list):
            raise self.refuse(expected, "NS103")
        return self.written

    def fields(self, expected: str = "a mapping") -> dict[str, tuple[Place, Value]]:
        if not isinstance(self.written, dict):
            raise self.refuse(expected, "NS103")
        return self.written

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
            self.fault(f"{name} is missing", "NS102", f"Add {name}.")
        return self.optional(name, read, default)

    def only(self, known: Iterable[str], other_names: Mapping[str, str] | None = None) -> None:
        """Report every field that is not known, with the likeliest meant one; `other_names` lead to known ones."""
        names = list(known)
        for name, (place, value) in self.fields().items():
            if name in names:
                continue
            meant = (other_names or {}).get(name.lower().replace("-", "_")) or closest(name, names)
            if meant:
                what, fix = f"no such field; did you mean {meant}?", f"Write {meant} in place of {name}."
            else:
                what, fix = "no such field, expected one of " + ", ".join(names), "Remove it, or write one of these."
            self.faults.append(Fault(place, value.path, what, "NS101", fix))


def closest(word: str, known: Iterable[str]) -> str:
    """The known word that was probably meant; empty when none is near."""
    by_shape = {name.lower().replace("_", "-"): name for name in known}
    close = get_close_matches(word.lower().replace("_", "-"), list(by_shape), n=1)
    return by_shape[close[0]] if close else ""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    meant = closest(word, known)
    return f"; did you mean {meant}?" if meant else ""


def read_document(path: Path, faults: list[Fault], texts: dict[str, str] | None = None) -> Value | None:
    """The one document in `path`; None, with the fault noted, when it cannot be read as YAML with a mapping on top.

    `texts` gets the file's text by its name, for whoever shows the lines.
    """
    start = Place(path.name, 1, 1)
    try:
        if path.exists() and not path.is_file():
            faults.append(Fault(start, "", "no file of text", "NS001", "Put a file of YAML there, or nothing."))
            return None
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as exc:
        faults.append(
            Fault(start, "", f"cannot be read: {exc.strerror}", "NS001", f"Add {path.name}, readable by this user.")
        )
        return None
    if len(content) > MAX_FILE_BYTES:
        what = f"more than {MAX_FILE_BYTES:,} bytes"
        faults.append(Fault(start, "", what, "NS013", "Split it into several files."))
        return None
    # Editors do not count a byte order mark as a column.
    text = content.removeprefix(b"\xef\xbb\xbf").decode("utf-8", errors="surrogateescape")
    if texts is not None:
        texts[path.name] = content.removeprefix(b"\xef\xbb\xbf").decode("utf-8", errors="replace")
    return parse_document(text, path.name, faults)


def parse_document(text: str, name: str, faults: list[Fault]) -> Value | None:
    """The one document in `text`, as if it were the file `name`; None, with the fault noted, when there is none.

    Bytes that were no UTF-8 are expected as `surrogateescape` leaves them.
    """
    from ruamel.yaml.error import MarkedYAMLError, YAMLError
    from ruamel.yaml.reader import ReaderError

    try:
        node = _compose(text, name, faults)
    except Refused:
        return None
    except ReaderError as exc:
        faults.append(_strange_character(text, name, exc.position))
        return None
    except MarkedYAMLError as exc:
        faults.append(_not_yaml(exc, text, name))
        return None
    except (YAMLError, ValueError) as exc:
        faults.append(Fault(Place(name, 1, 1), "", f"not YAML: {exc}", "NS003", "Write it as YAML."))
        return None
    value = None if node is None else _value(node, name, "", faults)
    if value is None or (value.written == "" and not value.quoted and not value.unreadable):
        what = "the file is empty, expected a mapping"
        faults.append(Fault(Place(name, 1, 1), "", what, "NS004", "Fill it, or remove it."))
        return None
    if not isinstance(value.written, dict):
        value.fault(f"{value.shown}, expected a mapping", "NS005", "Begin with a field and a colon, such as routes:.")
        return None
    return value


def _compose(text: str, name: str, faults: list[Fault]) -> Any:
    """The tree of nodes. Raises Refused when a fault was noted that ends the reading, and ruamel's errors."""
    from ruamel.yaml import YAML
    from ruamel.yaml.composer import Composer
    from ruamel.yaml.events import AliasEvent
    from ruamel.yaml.nodes import ScalarNode

    class PlainComposer(Composer):
        """Refuses what makes a small file endless (aliases, deep nesting), and what changes the meaning of words."""

        def compose_document(self) -> Any:
            event = self.parser.peek_event()
            if event.version is not None or event.tags:
                before = text.split("\n")[: event.start_mark.line]
                place = Place(name, next(number for number, line in enumerate(before, 1) if line.startswith("%")), 1)
                what = "a directive, expected none: it changes what the words below it mean"
                faults.append(Fault(place, "", what, "NS010", "Remove the line that begins with %."))
            return super().compose_document()

        def compose_node(self, parent: Any, index: Any) -> Any:
            event = self.parser.peek_event()
            place = Place(name, event.start_mark.line + 1, event.start_mark.column + 1)
            if isinstance(event, AliasEvent):
                self.parser.get_event()
                return ScalarNode(_ALIAS, event.anchor, event.start_mark, event.end_mark)
            if self.depth >= MAX_NESTING:
                what = f"nested more than {MAX_NESTING} levels deep"
                faults.append(
                    Fault(place, "", what, "NS007", "Write it flatter: no field needs more than five levels.")
                )
                raise Refused
            if event.tag is not None:
                what = f"a tag, {str(event.tag).replace('tag:yaml.org,2002:', '!!')}; expected the value alone"
                faults.append(Fault(place, "", what, "NS010", "Remove the tag."))
            return super().compose_node(parent, index)

    yaml = YAML(typ="safe", pure=True)
    yaml.Composer = PlainComposer
    return yaml.compose(text)


def _strange_character(text: str, name: str, position: int) -> Fault:
    line, column = text.count("\n", 0, position) + 1, position - (text.rfind("\n", 0, position) + 1) + 1
    place = Place(name, line, column, column + 1)
    character = text[position]
    if "\udc80" <= character <= "\udcff":
        what = f"not UTF-8 text: the byte 0x{ord(character) - 0xDC00:02X}"
        return Fault(place, "", what, "NS002", "Save the file as UTF-8.")
    return Fault(place, "", f"not YAML: the character U+{ord(character):04X}", "NS003", "Remove the character.")


_ALIAS = "an alias"
"""Tag of the node that stands for one."""
_TAB_HINT = "found character '\\t' that cannot start any token"


def _not_yaml(error: Any, text: str, name: str) -> Fault:
    mark = error.problem_mark or error.context_mark
    place = Place(name, mark.line + 1, mark.column + 1) if mark else Place(name, 1, 1)
    problem = " ".join((error.problem or error.context or "cannot be read").split())
    if "another document" in problem:
        return Fault(place, "", "a second document, expected one", "NS012", "Remove the line ---, or split the file.")
    lines = text.split("\n")
    line = lines[mark.line] if mark and mark.line < len(lines) else ""
    if "\t" in line[: len(line) - len(line.lstrip())] or problem == _TAB_HINT:
        return Fault(place, "", "not YAML: a tab where spaces are expected", "NS003", "Indent with spaces.")
    fix = "Look at this line and the one before it."
    if "quoted scalar" in str(error.context) and "end of stream" in problem:
        opened = Place(name, error.context_mark.line + 1, error.context_mark.column + 1)
        return Fault(opened, "", "not YAML: a quote that is never closed", "NS003", "Close the quote, or leave it out.")
    if "but got '{'" in problem or "but got '}'" in problem:
        fix = "Put text that has braces in it into quotes, where it stands in a list."
    return Fault(place, "", f"not YAML: {problem}", "NS003", fix)


def _place(node: Any, file: str) -> Place:
    start, end = node.start_mark, node.end_mark
    end_column = end.column + 1 if end.line == start.line and end.column > start.column else 0
    return Place(file, start.line + 1, start.column + 1, end_column)


def _value(node: Any, file: str, path: str, faults: list[Fault]) -> Value:
    place = _place(node, file)
    if node.tag == _ALIAS:
        what = f"an alias, *{node.value}; expected the value itself"
        faults.append(Fault(place, path, what, "NS006", "Write the value again, or put it into defaults."))
        return Value(place, path, "", faults, unreadable=True)
    if node.id == "scalar":
        return Value(place, path, node.value, faults, quoted=node.style is not None)
    if node.id == "sequence":
        items = [_value(item, file, f"{path}[{number}]", faults) for number, item in enumerate(node.value)]
        return Value(place, path, items, faults)
    fields: dict[str, tuple[Place, Value]] = {}
    for key, item in node.value:
        at = _place(key, file)
        if not isinstance(key.value, str) or not key.value or not key.value.isprintable() or key.tag == _ALIAS:
            what = "a key that is no plain word, expected the name of a field"
            faults.append(Fault(at, path, what, "NS009", "Write the name of a field, then a colon."))
            continue
        name = key.value
        below = f"{path}.{name}" if path else name
        if name in fields:
            first = fields[name][0]
            what = f"written a second time, first on line {first.line}; expected once"
            faults.append(Fault(at, below, what, "NS008", f"Remove this one or the one on line {first.line}."))
            continue
        value = _value(item, file, below, faults)
        if value.written == "" and not value.quoted and not value.unreadable:
            # YAML puts an absent value at the next token, which may be lines further down.
            value.place = at
        fields[name] = (at, value)
    return Value(place, path, fields, faults)
