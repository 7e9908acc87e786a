"""A site's own purge log: one file, appended to and flushed to the disk before anybody hears of an entry.

Each line is the CRC-32 of what follows it, in eight hexadecimal digits, a blank, and a JSON object: first where the log
starts, then the entries as they go over the wire (`PurgeEntry.to_wire`), without gaps. Whatever is not exactly that is
a damaged log: then a new one begins in a higher epoch, which purges everything that was stored before it.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import time
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from cache_policies.positions import ORDERED_KINDS, Position, PurgeEntry, PurgeKind, WireError

VERSION = 1
KEEP_ENTRIES = 10_000
"""Entries that trimming leaves: more than anybody can be behind who has not been asleep for long."""
KEEP_BYTES = 8_000_000
"""The same by size: an entry may name 1,000 tags."""
EPOCHS_BEGAN = 1_735_689_600
"""2025-01-01, in seconds since the epoch: a position has nine digits for its epoch, enough for 31 years from then."""
HIGHEST_EPOCH = 999_999_999


class LogUnusable(Exception):
    """The log cannot be read or written; the text says which file and why."""


class PurgeLog:
    """The purge log of one site. Not for several processes: whoever opens it holds the state folder.

    `wall` gives seconds since the epoch.
    """

    def __init__(
        self,
        path: Path,
        *,
        wall: Callable[[], float] = time.time,
        keep_entries: int = KEEP_ENTRIES,
        keep_bytes: int = KEEP_BYTES,
    ) -> None:
        """Raises LogUnusable where the file can be neither read nor made."""
        self.path = path
        self._keep_entries = keep_entries
        self._keep_bytes = keep_bytes
        self.entries: list[PurgeEntry] = []
        """Without gaps, the oldest first; the first one follows `start`."""
        self.identity = ""
        """Random, of this log from its beginning to its end: positions of two logs cannot be compared."""
        self.began_anew: str | None = None
        """Why this is a new log in a new epoch; None: it goes on where it was."""
        try:
            text = path.read_bytes() if path.exists() else None
        except OSError as exc:
            raise LogUnusable(f"the purge log {path} cannot be read: {exc.strerror}") from exc
        try:
            if text is None:
                raise _Damaged("there was none")
            self.identity, self.start, self.start_id, self.entries = _parsed(text)
            self._size = len(text)
            self._descriptor = _open(path)
        except _Damaged as exc:
            self.began_anew = str(exc)
            self._begin_anew(text, wall())

    @property
    def head(self) -> Position:
        """The position of the newest entry, or the start where there is none."""
        return self.entries[-1].position if self.entries else self.start

    @property
    def head_id(self) -> str:
        return self.entries[-1].id if self.entries else self.start_id

    def after(self, position: Position, entry_id: str) -> tuple[PurgeEntry, ...] | None:
        """The entries after `position`, oldest first; None when this log does not hold it with that id."""
        if position.epoch != self.start.epoch:
            return None
        place = position.cv - self.start.cv
        if not 0 <= place <= len(self.entries):
            return None
        found = self.start_id if place == 0 else self.entries[place - 1].id
        return tuple(self.entries[place:]) if found == entry_id else None

    def write(self, kind: PurgeKind, tags: tuple[str, ...]) -> PurgeEntry:
        """The next entry, on the disk, but not yet of the log: `add` makes it so. Waits for the disk, and changes
        nothing else, so that it may run in a thread; one at a time.

        Raises LogUnusable, and the file is as before, when it cannot be written.
        """
        at = self.head
        entry = PurgeEntry(Position(at.epoch, at.cv + 1), secrets.token_hex(12), kind, tags)
        line = _line(entry.to_wire())
        try:
            _write_all(self._descriptor, line)
            os.fsync(self._descriptor)
        except OSError as exc:
            # Nobody has heard of it: what was written of it must not stand there after the next start.
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self._size)
                os.fsync(self._descriptor)
            raise LogUnusable(f"the purge was not written to {self.path}: {exc.strerror}; nothing was purged") from exc
        self._size += len(line)
        return entry

    def add(self, entry: PurgeEntry) -> None:
        """What `write` has written counts from now on."""
        assert entry.position.cv == self.head.cv + 1
        self.entries.append(entry)

    @property
    def wants_trimming(self) -> bool:
        return len(self.entries) > 2 * self._keep_entries or self._size > 2 * self._keep_bytes

    def trimmed(self) -> _Draft | None:
        """The log without its oldest entries, written beside it; None: there is nothing to forget. Who has not applied
        what is forgotten is answered with *flush*. Waits for the disk, and changes nothing: `take` does.

        Raises LogUnusable when it cannot be written.
        """
        kept: list[PurgeEntry] = []
        size = 0
        for entry in reversed(self.entries[-self._keep_entries :]):
            size += len(_line(entry.to_wire()))
            if size > self._keep_bytes and kept:
                break
            kept.append(entry)
        kept.reverse()
        dropped = self.entries[: len(self.entries) - len(kept)]
        return self._draft(dropped[-1].position, dropped[-1].id, kept) if dropped else None

    def take(self, draft: _Draft) -> None:
        """Go on with `draft`, to which nothing was written since."""
        if self._descriptor != -1:
            os.close(self._descriptor)
        self._descriptor, self._size = draft.descriptor, draft.size
        self.start, self.start_id, self.entries = draft.start, draft.start_id, draft.entries

    def close(self) -> None:
        os.close(self._descriptor)

    def _begin_anew(self, old: bytes | None, now: float) -> None:
        # Counted from the wall clock, because a log that is lost cannot be asked for its epoch. Microseconds as the
        # first number: two logs begun in one second, as when somebody empties the folder, share no positions either.
        epoch = min(max(int(now) - EPOCHS_BEGAN, 1), HIGHEST_EPOCH)
        known = 0 if old is None else _highest_epoch(old)
        first = 0 if epoch <= known else int((now % 1) * 1_000_000)
        if old is not None:
            with contextlib.suppress(OSError):
                self.path.replace(self.path.with_name(self.path.name + ".damaged"))
        self._descriptor = -1
        self.identity = secrets.token_hex(8)
        start = Position(min(max(epoch, known + 1), HIGHEST_EPOCH), first)
        self.take(self._draft(start, secrets.token_hex(12), []))

    def _draft(self, start: Position, start_id: str, entries: list[PurgeEntry]) -> _Draft:
        """Another file in place of the one there is, whole or not at all. Raises LogUnusable."""
        path = self.path.with_name(f".{self.path.name}.draft")
        head = {"nearshelf-purge-log": VERSION, "log": self.identity, "start": str(start), "id": start_id}
        text = b"".join([_line(head), *(_line(entry.to_wire()) for entry in entries)])
        try:
            path.unlink(missing_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                _write_all(descriptor, text)
                os.fsync(descriptor)
                path.replace(self.path)
                _sync_folder(self.path.parent)
            except OSError:
                os.close(descriptor)
                raise
        except OSError as exc:
            raise LogUnusable(f"the purge log {self.path} cannot be written: {exc.strerror}") from exc
        return _Draft(descriptor, len(text), start, start_id, entries)


class _Draft(NamedTuple):
    """A whole log, on the disk under its name."""

    descriptor: int
    size: int
    start: Position
    start_id: str
    entries: list[PurgeEntry]


class _Damaged(Exception):
    """What the file holds is not a purge log."""


def _line(value: dict[str, Any]) -> bytes:
    text = json.dumps(value, separators=(",", ":")).encode()
    return b"%08x %b\n" % (zlib.crc32(text), text)


def _values(text: bytes) -> Iterable[dict[str, Any]]:
    """The object of each line. Raises _Damaged."""
    if not text.endswith(b"\n"):
        raise _Damaged("its last line has no end")
    for number, line in enumerate(text[:-1].split(b"\n"), 1):
        checksum, _, rest = line.partition(b" ")
        if checksum != b"%08x" % zlib.crc32(rest):
            raise _Damaged(f"line {number} does not fit its checksum")
        try:
            value = json.loads(rest)
        except ValueError:
            raise _Damaged(f"line {number} is not JSON") from None
        if not isinstance(value, dict):
            raise _Damaged(f"line {number} is not an object")
        yield value


def _parsed(text: bytes) -> tuple[str, Position, str, list[PurgeEntry]]:
    """Identity, start, its id, and the entries. Raises _Damaged."""
    values = iter(_values(text))
    head = next(values)
    names = (head.get("log"), head.get("id"))
    if head.get("nearshelf-purge-log") != VERSION or not all(isinstance(name, str) and name for name in names):
        raise _Damaged(f"it is not a purge log of version {VERSION}")
    try:
        start = Position.parse(str(head.get("start")))
        entries = [PurgeEntry.from_wire(value) for value in values]
    except WireError as exc:
        raise _Damaged(str(exc)) from exc
    for number, entry in enumerate(entries, 1):
        if entry.kind not in ORDERED_KINDS:
            raise _Damaged(f"entry {number} begins an epoch, which a site's log never does in its middle")
        if entry.position != Position(start.epoch, start.cv + number):
            raise _Damaged(f"entry {number} is at {entry.position}, which does not follow the one before")
    return str(names[0]), start, str(names[1]), entries


def _highest_epoch(text: bytes) -> int:
    """The highest epoch that any sound line of a damaged log names."""
    found = 0
    for line in text.split(b"\n"):
        with contextlib.suppress(_Damaged, WireError):
            for value in _values(line + b"\n"):
                named = value.get("start", value.get("position"))
                found = max(found, Position.parse(str(named)).epoch)
    return found


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    except OSError as exc:
        raise LogUnusable(f"the purge log {path} cannot be written: {exc.strerror}") from exc


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _sync_folder(folder: Path) -> None:
    """So that the new name is on the disk, too."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
