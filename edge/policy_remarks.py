"""What is to be said about one route, put where it was written: in the route, or in the `defaults` of its file.

The contradictions (`policy_checks`) and what is probably a mistake (`policy_lints`) are both said through here.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from typing import NamedTuple

from cache_policies.codes import CODES, Severity
from cache_policies.reading import Fault, Place, Value
from edge.core.policy import CachePolicy


class WrittenRoute(NamedTuple):
    """A route as it was understood, and as it was written: its own fields and those of the file's `defaults`."""

    policy: CachePolicy
    value: Value


class Noted:
    """Where faults were noted so far, in order: a field need not read all of them to know whether it has one."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self._fields = sorted({fault.field for fault in faults})

    def at(self, path: str) -> bool:
        """Whether there is a fault of the field with this path, or of anything in it."""
        return self._next(path) == path or any(self._next(path + end).startswith(path + end) for end in ".[")

    def _next(self, path: str) -> str:
        position = bisect_left(self._fields, path)
        return self._fields[position] if position < len(self._fields) else ""


class Remarks:
    """What is to be said about one route, put where its fields were written. `noted`: before anything is said here."""

    def __init__(self, route: WrittenRoute, noted: Noted) -> None:
        self.policy, self._value = route
        self._written = self._value.fields()
        self._items: dict[str, dict[str, tuple[Place, str]]] = {}
        self._unreadable = {name for name in ("path", *self._written) if noted.at(self._path(name))}

    @property
    def _faults(self) -> list[Fault]:
        return self._value.faults

    def _path(self, name: str) -> str:
        return self._written[name][1].path if name in self._written else f"{self._value.path}.{name}"

    def is_clean(self, noted: Noted) -> bool:
        """Whether nothing was found wrong with any of its fields."""
        return not any(noted.at(path) for path in (self._value.path, *map(self._path, self._written)))

    def writes(self, name: str) -> bool:
        """Whether the field stands in the route or in the `defaults` of its file."""
        return name in self._written

    def inherits(self, name: str) -> bool:
        """Whether the field stands in the `defaults` of its file and not in the route."""
        return self.writes(name) and not self._path(name).startswith(self._value.path + ".")

    def readable(self, name: str) -> bool:
        """Whether the field was understood, or left out."""
        return name not in self._unreadable

    def at(self, name: str, code: str, what: str, fix: str, *, item: str = "", at_value: bool = False) -> None:
        """Note a fault at the field `name`: at its name, its value, or at `item` in its list or mapping.

        Nothing is noted about a field that could not be read: it contradicts nothing that is known.
        """
        if not self.readable(name):
            return
        place, path = self._value.place, self._path(name)
        if name in self._written:
            place, value = self._written[name]
            place, path = self._item(name, value, item) or (value.place if at_value else place, path)
        if self.inherits(name) and CODES[code].severity is Severity.ERROR:
            # A default may suit every other route; what is probably a mistake is said once of all of them.
            what = f"for {self.policy.id}: {what}"
        self._faults.append(Fault(place, path, what, code, fix))

    def _item(self, name: str, value: Value, item: str) -> tuple[Place, str] | None:
        if not item:
            return None
        if name not in self._items:
            self._items[name] = _items(value)
        return self._items[name].get(item)


def _items(value: Value) -> dict[str, tuple[Place, str]]:
    """Where each word of a list stands, or each key of a mapping; the first of two that are the same."""
    found: dict[str, tuple[Place, str]] = {}
    if isinstance(value.written, list):
        for each in value.written:
            if isinstance(each.written, str):
                found.setdefault(each.written, (each.place, each.path))
    elif isinstance(value.written, dict):
        found = {name: (place, each.path) for name, (place, each) in value.written.items()}
    return found
