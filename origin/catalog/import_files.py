"""Where the lines of an import come from, and how a fault in one is written down."""

from __future__ import annotations

import contextlib
import gzip
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Protocol

import orjson

MAX_LINE_BYTES: Final = 1_048_576
"""A longer line is a fault and is skipped: memory stays bounded whatever a file holds."""
MAX_SKIPPED_BYTES: Final = 64 * 1_048_576
"""A line that goes on for so much longer ends the reading of its file: it may be a device or a pipe without end."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a row stands: a file as it was named, and a line counted from 1."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with one row. Reads `file:line: field: what and why`."""

    place: Place
    field: str
    text: str

    def __str__(self) -> str:
        return f"{self.place}: {self.field}: {self.text}" if self.field else f"{self.place}: {self.text}"


class Source(Protocol):
    """Lines to import, and how far they have been read."""

    name: str
    total_bytes: int

    def lines(self) -> Iterator[tuple[int, bytes | None, str]]:
        """Line number, the line (None when it cannot be had), and then why not."""
        ...

    def done_bytes(self) -> int: ...


class FileSource:
    """A file of JSON lines; gzip is recognised by its first two bytes, whatever the file is called."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path
        self._raw: IO[bytes] | None = None
        try:
            self.total_bytes = path.stat().st_size
        except OSError:
            self.total_bytes = 0

    def done_bytes(self) -> int:
        with contextlib.suppress(OSError, ValueError):
            if self._raw is not None:
                return self._raw.tell()
        return self.total_bytes

    def lines(self) -> Iterator[tuple[int, bytes | None, str]]:
        number = 0
        try:
            with self._path.open("rb") as raw:
                self._raw = raw
                stream: IO[bytes] | gzip.GzipFile = raw
                if raw.peek(2)[:2] == b"\x1f\x8b":
                    stream = gzip.GzipFile(fileobj=raw)
                while True:
                    line = stream.readline(MAX_LINE_BYTES + 1)
                    if not line:
                        return
                    number += 1
                    if len(line) > MAX_LINE_BYTES and not line.endswith(b"\n"):
                        skipped = 0
                        while (rest := stream.readline(MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
                            skipped += len(rest)
                            if skipped > MAX_SKIPPED_BYTES:
                                yield number, None, f"a line without end (after {skipped:,} bytes); no more was read"
                                return
                        yield number, None, f"the line is longer than {MAX_LINE_BYTES:,} bytes, it was skipped"
                    elif line.strip():
                        yield number, line, ""
        except OSError as exc:
            why = exc.strerror or str(exc)
            yield max(number, 1), None, f"the file cannot be read: {why[:1].lower()}{why[1:]}"
        except (EOFError, zlib.error) as exc:
            yield number + 1, None, f"the gzip stream is broken here ({exc}), what follows was not read"


class RowSource:
    """Rows made in memory, such as the demo catalog's."""

    def __init__(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        self.name = name
        self.total_bytes = 0
        self._rows = rows

    def done_bytes(self) -> int:
        return 0

    def lines(self) -> Iterator[tuple[int, bytes | None, str]]:
        for number, row in enumerate(self._rows, 1):
            yield number, orjson.dumps(row), ""
