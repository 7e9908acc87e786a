"""`nearshelf policy fmt`: policy files in one form: the order of fields, the spacing, nothing else.

Works on the text, guided by the nodes that the YAML reader finds in it, so that a comment stays with what it stands
above or behind even where fields change places. Order that means something (of routes, of parameters) is kept. A file
is written only if it still says the same.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cache_policies.folder import policy_files_in
from cache_policies.kinds import Field
from cache_policies.markets import MARKET_FIELDS, MARKETS_FIELDS, MARKETS_FILE, ROUNDING_FIELDS
from cache_policies.origins_file import ORIGIN_FIELDS, ORIGINS_FIELDS, ORIGINS_FILE
from cache_policies.reading import PACKAGED_POLICIES
from edge.policy_files import POLICY_FIELDS, read_policies
from edge.route_fields import ROUTE_FIELDS
from edge.route_kinds import THROTTLE_FIELDS

INDENT = 2

_Order = Sequence[str]


def _names(fields: Iterable[Field[Any]]) -> _Order:
    return [each.name for each in fields]


_ORDERS: dict[str, dict[tuple[str, ...], _Order]] = {
    MARKETS_FILE: {
        (): _names(MARKETS_FIELDS),
        ("markets", "*"): _names(MARKET_FIELDS),
        ("currencies", "*"): _names(ROUNDING_FIELDS),
    },
    ORIGINS_FILE: {(): _names(ORIGINS_FIELDS), ("origins", "*"): _names(ORIGIN_FIELDS)},
}
_ROUTES: dict[tuple[str, ...], _Order] = {
    (): _names(POLICY_FIELDS),
    ("defaults",): _names(ROUTE_FIELDS),
    ("defaults", "throttle"): _names(THROTTLE_FIELDS),
    ("routes", "*"): _names(ROUTE_FIELDS),
    ("routes", "*", "throttle"): _names(THROTTLE_FIELDS),
}
"""Path of a mapping, `*` for any id -> the order of its fields. Fields that are not there come last, as they were."""
_SPACED = {("routes",), ("markets",), ("origins",)}
"""Mappings whose entries stand apart by an empty line, as those of a file do."""


class NotFormattable(Exception):
    """A file is left as it is. The text says which, why and what to do."""


@dataclass(frozen=True, slots=True)
class Formatted:
    """One file, and what it should be."""

    path: Path
    before: str
    after: str

    @property
    def changed(self) -> bool:
        return self.before != self.after


def format_files(paths: Sequence[Path]) -> list[Formatted]:
    """The canonical form of the named files, or of the `*.yaml` in named folders; without any, of the packaged ones.

    Nothing is written. Raises NotFormattable for a path that is no policy file, or a file that is not YAML or would
    say something else afterwards.
    """
    formatted = []
    for path in _files(paths):
        before = _read(path)
        formatted.append(Formatted(path, before, format_text(before, path)))
    for folder in dict.fromkeys(each.path.parent for each in formatted):
        _prove_the_same(folder, [each for each in formatted if each.path.parent == folder and each.changed])
    return formatted


def _read(path: Path) -> str:
    """Raises NotFormattable for what is no text, and for a pipe or a device, which might never end."""
    if path.exists() and not path.is_file():
        raise NotFormattable(f"{path} is no file of text; take it out of the folder")
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as exc:
        raise NotFormattable(f"{path} cannot be read: {exc}") from exc


def write(formatted: Formatted) -> None:
    """Replace the file in one step, with its permissions; it is whole before and after.

    Raises NotFormattable when somebody has saved it since it was read, and OSError.
    """
    path = formatted.path.resolve()
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", newline="\n", dir=path.parent, delete=False) as file:
        new = Path(file.name)
        try:
            file.write(formatted.after)
            file.flush()
            os.fsync(file.fileno())
            shutil.copymode(path, new)
            if _read(path) != formatted.before:
                raise NotFormattable(f"{path} was saved by somebody else meanwhile; run the same command again")
            new.replace(path)
        except BaseException:
            new.unlink(missing_ok=True)
            raise


def format_text(text: str, path: Path) -> str:
    """The canonical form of one file's text. `path` says by its name which kind of file, and is named in errors."""
    root = _compose(text, path)
    if root is None:
        return text
    if root.id != "mapping" or root.flow_style:
        raise NotFormattable(f"{path} has no mapping on top; write `routes:` and its routes below each other")
    orders = _ORDERS.get(path.name, _ROUTES)
    try:
        after = _Layout(text, orders).file(root)
    except _Odd as exc:
        raise NotFormattable(f"{path}:{exc.line}: {exc}; change that by hand first") from exc
    again = _compose(after, path)
    if again is None or _meaning(again) != _meaning(root) or _comments(after) != _comments(text):
        raise NotFormattable(f"{path} would not say the same afterwards, and is left as it is")
    return after


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths or [PACKAGED_POLICIES]:
        if path.is_dir():
            yield from (each for each in policy_files_in(path) if each.suffix == ".yaml")
        elif path.is_file() and path.suffix == ".yaml":
            yield path
        else:
            raise NotFormattable(f"{path} is neither a *.yaml file nor a folder of them")


def _prove_the_same(folder: Path, changed: Sequence[Formatted]) -> None:
    """Raises NotFormattable if an edge would understand the folder otherwise with the changed files.

    Policies that cannot be read at all are compared as YAML only, which `format_text` has done.
    """
    before = read_policies(folder).policies
    if before is None or not changed:
        return
    with tempfile.TemporaryDirectory(prefix="nearshelf-fmt-") as name:
        copy = Path(name)
        for path in _files([folder]):
            shutil.copyfile(path, copy / path.name)
        for each in changed:
            (copy / each.path.name).write_text(each.after, encoding="utf-8")
        after = read_policies(copy).policies
    if after is None or after.digest != before.digest:
        names = ", ".join(each.path.name for each in changed)
        raise NotFormattable(f"{names} in {folder} would not say the same afterwards, and are left as they are")


def _compose(text: str, path: Path) -> Any:
    """The node tree of the one document; None for an empty one."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        return YAML(typ="safe", pure=True).compose(text)
    except MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        place = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        raise NotFormattable(f"{place} is not YAML: {exc.problem or exc.context}; `policy check` says more") from exc
    except YAMLError as exc:
        raise NotFormattable(f"{path} is not YAML: {exc}; `policy check` says more") from exc


def _meaning(node: Any) -> Any:
    """What a node says, without the order of fields; the order of the ids below `routes` is part of it."""
    if node.id == "scalar":
        return (node.tag, node.style is not None, node.value)
    if node.id == "sequence":
        return [_meaning(item) for item in node.value]
    fields = [(_meaning(key), _meaning(value)) for key, value in node.value]
    routes = [key for key, value in node.value if key.value == "routes" and value.id == "mapping"]
    order = [[key.value for key, _ in value.value] for key, value in node.value if key in routes]
    return (sorted(fields, key=repr), order)


def _comments(text: str) -> list[str]:
    return sorted(found[0].strip() for line in text.split("\n") if (found := re.search(r"(^|\s)#.*$", line)))


class _Odd(Exception):
    """Something that no policy needs and the layout does not know."""

    def __init__(self, line: int, what: str) -> None:
        self.line = line
        super().__init__(what)


@dataclass(slots=True)
class _Entry:
    """One field: what stands above it, and the line behind the last that belongs to it."""

    key: Any
    value: Any
    lead: list[str]
    """Comments and empty lines, without their indentation."""
    stop: int = 0


class _Layout:
    def __init__(self, text: str, orders: Mapping[tuple[str, ...], _Order]) -> None:
        self._text = text
        self._lines = text.split("\n")
        self._orders = orders

    def file(self, root: Any) -> str:
        first = root.value[0][0].start_mark.line
        above = [line.strip() for line in self._lines[:first]]
        for number, line in enumerate(above):
            if line and not line.startswith("#") and line != "---":
                raise _Odd(number + 1, f"{line} before the first field")
        # What an empty line parts from the first field is about the file, and stays on top of it.
        header_ends = max((number for number, line in enumerate(above, 1) if line in {"", "---"}), default=0)
        entries, rest = self._entries(root, first, len(self._lines))
        entries[0].lead = above[header_ends:]
        lines = [*above[:header_ends], *self._mapping(entries, (), 0)]
        if any(rest):
            lines += ["", *rest]
        return "\n".join(_without_runs(lines)).strip("\n") + "\n"

    def _entries(self, node: Any, start: int, stop: int) -> tuple[list[_Entry], list[str]]:
        """The fields of a block mapping on the lines from `start` to before `stop`, and the comments below them."""
        entries: list[_Entry] = []
        end = start - 1
        column = node.start_mark.column
        for key, value in node.value:
            if key.id != "scalar" or key.anchor or value.anchor:
                raise _Odd(key.start_mark.line + 1, "an anchor, or a key that is no word")
            if key.start_mark.line <= end:
                raise _Odd(key.start_mark.line + 1, "two fields on one line")
            between = self._lines[end + 1 : key.start_mark.line]
            deeper = _deeper(between, column) if entries else 0
            if entries:
                entries[-1].stop = end + 1 + deeper
            entries.append(_Entry(key, value, [line.strip() for line in between[deeper:]]))
            end = self._last_line(key, value)
        below = self._lines[end + 1 : stop]
        deeper = _deeper(below, column)
        entries[-1].stop = end + 1 + deeper
        rest = [line.strip() for line in below[deeper:]]
        for number, line in enumerate(rest, end + 2 + deeper):
            if line and not line.startswith("#"):
                raise _Odd(number, f"{line} behind the last field")
        return entries, rest

    def _last_line(self, key: Any, value: Any) -> int:
        """The last line of a field, without the comments below it."""
        if value.id == "scalar":
            if value.style in {"|", ">"}:
                last = value.end_mark.line - (value.end_mark.column == 0)
                while last > value.start_mark.line and not self._lines[last].strip():
                    last -= 1
                return int(last)
            empty = value.start_mark.index == value.end_mark.index
            return int(key.end_mark.line if empty else value.end_mark.line)
        if value.flow_style or not value.value:
            return int(value.end_mark.line)
        last = value.value[-1]
        return self._last_line(*last) if value.id == "mapping" else self._last_line(last, last)

    def _mapping(self, entries: list[_Entry], path: tuple[str, ...], indent: int) -> list[str]:
        order = self._order(path)
        rank = {name: number for number, name in enumerate(order)}
        ranked = sorted(entries, key=lambda entry: rank.get(entry.key.value, len(rank)))
        spaced = not path or path in _SPACED
        lines: list[str] = []
        for number, entry in enumerate(ranked):
            lead = _without_runs(entry.lead)
            if not spaced:
                lead = [line for line in lead if line]
            while lead and not lead[0]:
                lead = lead[1:]
            if spaced and number:
                lines.append("")
            lines += [" " * indent + line if line else "" for line in lead]
            lines += self._field(entry, path, indent)
        return lines

    def _order(self, path: tuple[str, ...]) -> _Order:
        generic = tuple("*" if number == 1 and path[0] != "defaults" else name for number, name in enumerate(path))
        return self._orders.get(generic, ())

    def _field(self, entry: _Entry, path: tuple[str, ...], indent: int) -> list[str]:
        key, value = entry.key, entry.value
        begun = " " * indent + self._slice(key) + ":"
        below = indent + INDENT
        if value.id != "scalar" and not value.flow_style and value.value:
            begun += self._comment(key.end_mark.line, self._after_colon(key))
            start = key.end_mark.line + 1
            if value.id == "sequence":
                return [begun, *self._items(value, start, entry.stop, below)]
            entries, rest = self._entries(value, start, entry.stop)
            lines = [begun, *self._mapping(entries, (*path, key.value), below)]
            return [*lines, *(" " * below + line for line in rest if line)]
        shown = self._value(value, indent)
        lines = [f"{begun} {shown[0]}".rstrip(), *shown[1:]]
        if not (value.id == "scalar" and value.style in {"|", ">"}):
            empty = value.start_mark.index == value.end_mark.index
            at = (key.end_mark.line, self._after_colon(key)) if empty else (value.end_mark.line, value.end_mark.column)
            lines[-1] += self._comment(*at)
        tail = self._lines[self._last_line(key, value) + 1 : entry.stop]
        return [*lines, *(" " * below + line.strip() for line in tail if line.strip())]

    def _items(self, sequence: Any, start: int, stop: int, indent: int) -> list[str]:
        """A list written with dashes."""
        lines: list[str] = []
        for item in sequence.value:
            if item.id != "scalar" and not item.flow_style:
                raise _Odd(item.start_mark.line + 1, "a list of mappings")
            if item.start_mark.index == item.end_mark.index:
                raise _Odd(item.start_mark.line + 1, "an empty item")
            lines += [" " * indent + line.strip() for line in self._lines[start : item.start_mark.line] if line.strip()]
            shown = self._value(item, indent)
            shown[-1] += self._comment(item.end_mark.line, item.end_mark.column)
            lines += [" " * indent + "- " + shown[0], *shown[1:]]
            start = item.end_mark.line + 1
        return [*lines, *(" " * indent + line.strip() for line in self._lines[start:stop] if line.strip())]

    def _value(self, node: Any, indent: int) -> list[str]:
        """A scalar or a flow collection; the first line without indentation."""
        if node.start_mark.line == node.end_mark.line:
            return [self._flow(node)]
        source = self._slice(node).rstrip("\n").split("\n")
        if node.id == "scalar" and node.style in {"|", ">"}:
            return [line.rstrip() for line in source]
        lines = [source[0].rstrip()]
        for number, line in enumerate(source[1:], 1):
            closes = number == len(source) - 1 and line.strip() in {"]", "}"}
            lines.append((" " * (indent if closes else indent + INDENT) + line.strip()).rstrip())
        return lines

    def _flow(self, node: Any) -> str:
        if node.id == "scalar":
            return self._slice(node)
        if node.anchor:
            raise _Odd(node.start_mark.line + 1, "an anchor")
        if node.id == "sequence":
            return "[" + ", ".join(self._flow(item) for item in node.value) + "]"
        pairs = [(self._slice(key), self._flow(value)) for key, value in node.value]
        return "{" + ", ".join(f"{key}: {value}".rstrip() for key, value in pairs) + "}"

    def _slice(self, node: Any) -> str:
        return self._text[node.start_mark.index : node.end_mark.index]

    def _after_colon(self, key: Any) -> int:
        number = int(key.end_mark.line)
        colon = self._lines[number].find(":", key.end_mark.column)
        if colon < 0:
            raise _Odd(number + 1, "a key and its colon on different lines")
        return colon + 1

    def _comment(self, line: int, column: int) -> str:
        """What stands behind a value on its line, which can be a comment only."""
        rest = self._lines[line][column:].strip()
        if rest and not rest.startswith("#"):
            raise _Odd(line + 1, f"{rest} behind a value")
        return f"  {rest}" if rest else ""


def _deeper(lines: Sequence[str], column: int) -> int:
    """How many of the first lines hold comments of what stands above them: those indented further than `column`."""
    deeper = 0
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        if not line.lstrip().startswith("#") or len(line) - len(line.lstrip()) <= column:
            break
        deeper = number
    return deeper


def _without_runs(lines: Sequence[str]) -> list[str]:
    """One empty line where there are several."""
    return [line for number, line in enumerate(lines) if line or not number or lines[number - 1]]
