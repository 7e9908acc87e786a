"""The last exchanges of a worker, for an operator who looks.

A plain hit costs nothing more for it while nobody looks: then only what was no plain hit is remembered, by the book
itself (`RecordBook.last`). While somebody looks, the lines of all exchanges pass through here on their way to the log.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

import orjson

from edge.gateway.record import Lines, RecordBook, line_of

KEPT = 500
LOOKING_S = 30.0
"""All exchanges are seen for so long after the last look."""
TELL_EVERY_S = 0.25
QUIET_TURNS = 20
"""After so many of them without an exchange a message without any says that the worker is there."""
TOLD_AT_ONCE = 50
"""Exchanges in one message of a live stream, the newest; of the others the message says how many they were."""


class Recent:
    """Of one worker: `log` is where its book's lines go."""

    def __init__(self, book: RecordBook, log: Lines | None) -> None:
        self._book = book
        self._log = log
        self._lines: deque[bytes] = deque(maxlen=KEPT)
        self._seen = 0
        """How many lines have passed through here."""
        self._ends: asyncio.TimerHandle | None = None
        self._closed = False

    def write(self, line: bytes) -> None:
        """A line of the book's, while somebody looks."""
        self._lines.append(line)
        self._seen += 1
        if self._log is not None:
            self._log.write(line)

    def latest(self, limit: int) -> list[dict[str, Any]]:
        """The last exchanges, the newest first, at most `limit`. Who asks for them looks."""
        self._look()
        return [orjson.loads(line) for line in reversed(list(self._lines)[-limit:])] if limit else []

    async def live(self) -> AsyncIterator[dict[str, Any]]:
        """Exchanges as they happen, gathered for TELL_EVERY_S each: `{"requests": [newest first], "skipped": N}`.

        Until nobody takes them any more.
        """
        seen, quiet = self._seen, QUIET_TURNS
        while not self._closed:
            self._look()
            new, seen = self._seen - seen, self._seen
            quiet += 1
            if not new and quiet < QUIET_TURNS:
                await asyncio.sleep(TELL_EVERY_S)
                continue
            quiet = 0
            told = min(new, TOLD_AT_ONCE, len(self._lines))
            lines = [self._lines[-place] for place in range(1, told + 1)]
            yield {"requests": [orjson.loads(line) for line in lines], "skipped": new - told}
            await asyncio.sleep(TELL_EVERY_S)

    def close(self) -> None:
        """Nobody looks any more: live streams end, within TELL_EVERY_S."""
        self._closed = True
        if self._ends is not None:
            self._ends.cancel()
        self._look_away()

    def _look(self) -> None:
        if self._book.log is not self:
            self._lines.extend([line_of(*noted) for noted in self._book.last])
            self._book.log = self
        if self._ends is not None:
            self._ends.cancel()
        self._ends = asyncio.get_running_loop().call_later(LOOKING_S, self._look_away)

    def _look_away(self) -> None:
        self._book.log = self._log
        # What comes from now on is not seen whole: the book's own memory tells more of it.
        self._lines.clear()
        self._ends = None
