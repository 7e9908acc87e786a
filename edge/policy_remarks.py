"""What is to be said about one route, put where it was written: in the route, or in the `defaults` of its file.

The contradictions (`policy_checks`) and what is probably a mistake (`policy_lints`) are both said through here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from cache_policies.codes import CODES, Severity
from cache_policies.reading import Fault, Place, Value
from edge.core.policy import CachePolicy


class WrittenRoute(NamedTuple):
    """A route as it was understood, and as it was written: its own fields and those of the file's `defaults`."""

    policy: CachePolicy
    value: Value


class Remarks:
    """What is to be said about one route, put where its fields were written."""

    def __init__(self, route: WrittenRoute) -> None:
        self.policy, self._value = route
        self._written = self._value.fields()
        self._unreadable = {name for name in ("path", *self._written) if self._has_fault(name)}

    def _has_fault(self, name: str) -> bool:
        path = self._path(name)
        return any(fault.field == path or fault.field.startswith((path + "[", path + ".")) for fault in self._faults)

    @property
    def _faults(self) -> list[Fault]:
        return self._value.faults

    def _path(self, name: str) -> str:
        return self._written[name][1].path if name in self._written else f"{self._value.path}.{name}"

    @property
    def clean(self) -> bool:
        """Whether nothing was found wrong with any of its fields so far."""
        return not any(self._has_fault(name) for name in ("path", *self._written)) and not any(
            fault.field.startswith(self._value.path + ".") or fault.field == self._value.path for fault in self._faults
        )

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
            place, path = next(_items(value, item), (value.place if at_value else place, path))
        if self.inherits(name) and CODES[code].severity is Severity.ERROR:
            # A default may suit every other route; what is probably a mistake is said once of all of them.
            what = f"for {self.policy.id}: {what}"
        self._faults.append(Fault(place, path, what, code, fix))


def _items(value: Value, item: str) -> Iterator[tuple[Place, str]]:
    """Where `item` stands in a list, or as a key of a mapping."""
    if item and isinstance(value.written, list):
        yield from ((each.place, each.path) for each in value.written if each.written == item)
    elif item and isinstance(value.written, dict):
        yield from ((place, each.path) for name, (place, each) in value.written.items() if name == item)
