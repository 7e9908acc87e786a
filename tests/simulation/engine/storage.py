"""What a database server has on its disk: a log of records, and the versions of rows by the records that wrote them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from cache_policies.positions import Position

PURGE_LOG = "purge_log"

Key = tuple[str, Any]
"""Table and key of a row."""


@dataclass(slots=True, eq=False)
class Record:
    """One committed transaction in the log. Servers that share a history share the object."""

    number: int
    """Its place in the log, from 1: what a log sequence number is here."""
    timeline: int
    writes: Mapping[Key, Any]
    """The rows that it wrote; None: deleted."""
    made_at: float
    """When it was written to the log, in virtual seconds."""
    made_by: str
    """The server, by its name."""
    visible_at: float | None = None
    """When everybody could read it where it was made; None: not yet, or never."""

    @property
    def position(self) -> Position | None:
        """The position that it took in the purge log."""
        return next((key for table, key in self.writes if table == PURGE_LOG and self.writes[table, key]), None)


class Snapshot(NamedTuple):
    """What a statement sees: every record up to `upto`, but those `hidden` that were not confirmed then."""

    upto: int
    hidden: frozenset[int]


class Storage:
    """The versions of rows."""

    def __init__(self) -> None:
        self._tables: dict[str, dict[Any, list[tuple[int, Any]]]] = {}

    def apply(self, record: Record) -> None:
        """Add the versions that `record` writes; records come in the order of their numbers."""
        for (table, key), value in record.writes.items():
            self._tables.setdefault(table, {}).setdefault(key, []).append((record.number, value))

    def get(self, table: str, key: Any, seen: Snapshot) -> Any:
        """The row as `seen` has it; None: there is none."""
        versions = self._tables.get(table, {}).get(key)
        return None if versions is None else _visible(versions, seen)

    def rows(self, table: str, seen: Snapshot) -> Iterator[tuple[Any, Any]]:
        """Keys and rows, in the order in which they were first written."""
        for key, versions in self._tables.get(table, {}).items():
            value = _visible(versions, seen)
            if value is not None:
                yield key, value

    def newest(self, table: str, seen: Snapshot) -> Iterator[tuple[Any, Any]]:
        """The same, the latest first."""
        tables = self._tables.get(table, {})
        for key in reversed(tables):
            value = _visible(tables[key], seen)
            if value is not None:
                yield key, value

    def forget_after(self, number: int) -> None:
        """Forget every version of a later record."""
        for table in self._tables.values():
            for key in [key for key, versions in table.items() if versions[-1][0] > number]:
                kept = [version for version in table[key] if version[0] <= number]
                if kept:
                    table[key] = kept
                else:
                    del table[key]


def _visible(versions: list[tuple[int, Any]], seen: Snapshot) -> Any:
    upto, hidden = seen
    for number, value in reversed(versions):
        if number <= upto and number not in hidden:
            return value
    return None
