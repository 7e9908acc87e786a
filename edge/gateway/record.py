"""One record per exchange, and its renderings: the access log line and the counters (Cache-Status is in core.status).

A hit is recorded without building a record: `RecordBook.hit` renders the same line from the same template.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import orjson

from edge.core.key import CacheKey
from edge.core.reuse import FwdReason
from edge.gateway.counters import Counters, Tally

LINE = b'{"time":%.3f,%b"status":%d,"cache":"%b",%b"ttl":%b,"age":%b,"bytes":%d,"ms":%.2f,"origin_ms":%b}\n'
"""Everything between the request's own part and the newline; enum words and numbers need no escaping."""

FLUSH_EVERY_S = 0.2
FLUSH_BYTES = 65_536
LAST_KEPT = 400
"""Exchanges remembered that were no plain hits: some 200 kB."""


@dataclass(slots=True)
class ExchangeRecord:
    """What happened to one request that was not a plain hit."""

    received_at: float
    """Seconds of the edge's clock."""
    about: bytes
    """The request's part of the log line, from `request_part`."""
    route: str
    """As in it; `-`: none was looked for."""
    outcome: str = "miss"
    """One of: hit (a 304 or HEAD among them), stale, validated, miss, pass, edge, error, gone."""
    reason: str = ""
    """From a closed vocabulary: core.reuse.Why, core.storing's reasons, RefusedBecause, Refusal, ErrorKind."""
    fwd: FwdReason | None = None
    fwd_status: int | None = None
    stored: bool = False
    collapsed: bool = False
    ttl_s: int | None = None
    age_s: int | None = None
    status: int = 0
    bytes_sent: int = 0
    origin_s: float | None = None
    retold: bytes = b""
    """Members of the line from `retold`."""


def request_part(
    edge: str,
    worker: str,
    method: str,
    route: str,
    key: CacheKey | None,
    noted: tuple[tuple[str, str], ...] = (),
    *,
    personal: bool,
) -> bytes:
    """The part of a log line that depends on the request alone: rendered once per address, then remembered.

    No query values but those that the policy lists, and those `noted` (`retold.noted_query`); neither path nor query of
    a personal route.
    """
    about: dict[str, Any] = {"edge": edge, "worker": worker, "method": method, "route": route}
    if key is not None and not personal:
        about["path"] = key.path
        counted = key.query if not key.query or key.query[0][0] != "*" else ()
        if counted or noted:
            about["query"] = dict((*counted, *noted))
    return orjson.dumps(about)[1:-1] + b","


def line_of(wall: float, now: float, record: ExchangeRecord) -> bytes:
    """The access log's line of an exchange that was no plain hit, and was over at `now` (`wall` of the wall clock)."""
    words = b""
    if record.reason:
        words += b'"reason":"%b",' % record.reason.encode()
    if record.fwd is not None:
        words += b'"fwd":"%b",' % record.fwd.value.encode()
    if record.fwd_status is not None:
        words += b'"fwd_status":%d,' % record.fwd_status
    if record.stored:
        words += b'"stored":true,'
    if record.collapsed:
        words += b'"collapsed":true,'
    words += record.retold
    return LINE % (
        wall,
        record.about,
        record.status,
        record.outcome.encode(),
        words,
        _number(record.ttl_s),
        _number(record.age_s),
        record.bytes_sent,
        (now - record.received_at) * 1000,
        b"null" if record.origin_s is None else b"%.2f" % (record.origin_s * 1000),
    )


def _number(value: int | None) -> bytes:
    return b"null" if value is None else b"%d" % value


class NoLog(Exception):
    """An access log that cannot be written. Reads: '/nope/log' cannot be written: Permission denied."""


def opened(target: str) -> int:
    """The descriptor of the file that an access log is appended to; its folder is made, and it is. Raises NoLog."""
    path = Path(target)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not waiting for a reader, if it is a pipe.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK | os.O_CLOEXEC, 0o640)
    except (OSError, ValueError) as exc:
        why = exc.strerror if isinstance(exc, OSError) else str(exc)
        raise NoLog(
            f"{target!r} cannot be written: {why}; name a file that this user may append to, or - for standard output"
        ) from exc
    os.set_blocking(descriptor, True)
    return descriptor


class AccessLog:
    """Lines gathered in memory and written together, at most `FLUSH_EVERY_S` later or at `FLUSH_BYTES`.

    `target`: a path, or `-` for standard output; raises NoLog. A full disk loses lines, never answers.
    """

    def __init__(self, target: str) -> None:
        self._fd = 1 if target == "-" else opened(target)
        self._lines: list[bytes] = []
        self._size = 0
        self._timer: asyncio.TimerHandle | None = None
        self.lost_lines = 0

    def write(self, line: bytes) -> None:
        self._lines.append(line)
        self._size += len(line)
        if self._size >= FLUSH_BYTES:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_EVERY_S, self.flush)

    def flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        lines, self._lines, self._size = self._lines, [], 0
        if not lines:
            return
        data = b"".join(lines)
        try:
            while data:
                data = data[os.write(self._fd, data) :]
        except OSError:
            self.lost_lines += len(lines)

    def close(self) -> None:
        self.flush()
        if self._fd != 1:
            os.close(self._fd)


class Lines(Protocol):
    """Takes finished lines of the access log."""

    def write(self, line: bytes) -> None: ...


class RecordBook:
    """Takes what happened: counts it, writes the log line when there is a log, and remembers the last of what was no
    plain hit.

    `clock`: seconds of the edge's clock. `wall`: seconds since the epoch, for the line's time.
    """

    def __init__(self, edge: str, log: Lines | None, clock: Callable[[], float], wall: Callable[[], float]) -> None:
        self.edge = edge
        self.log = log
        """Where lines go. Somebody who looks may take its place, and see every line (`gateway/recent.py`)."""
        self.last: deque[tuple[float, float, ExchangeRecord]] = deque(maxlen=LAST_KEPT)
        """What was no plain hit, with the time of the wall clock and of the edge's clock when it was noted."""
        self.counters = Counters()
        """All exchanges are counted there, and nowhere else."""
        self._clock = clock
        self._wall = wall

    def hit(
        self, about: bytes, tally: Tally, received_at: float, status: int, ttl_s: int, age_s: int, size: int
    ) -> None:
        """A fresh response from the store, to be counted in `tally`: the only exchange without a reason."""
        took_s = self._clock() - received_at
        tally.add(took_s)
        tally.bytes_sent += size
        if self.log is not None:
            self.log.write(
                LINE
                % (
                    self._wall(),
                    about,
                    status,
                    b"hit",
                    b"",
                    b"%d" % ttl_s,
                    b"%d" % age_s,
                    size,
                    took_s * 1000,
                    b"null",
                )
            )

    def note(self, record: ExchangeRecord) -> None:
        """Any other exchange, once, when its last byte was handed to the kernel or its viewer was gone."""
        now = self._clock()
        tally = self.counters.exchange(record.route, record.outcome, record.reason, record.status)
        tally.add(now - record.received_at)
        tally.bytes_sent += record.bytes_sent
        tally.coalesced += record.collapsed
        noted = (self._wall(), now, record)
        self.last.append(noted)
        if self.log is not None:
            self.log.write(line_of(*noted))

    def by_cache_status(self) -> dict[str, int]:
        """How many exchanges ended how: `hit` and `OUTCOME:REASON`."""
        found: Counter[str] = Counter()
        for label, tally in self.counters.exchanges.items():
            found[f"{label.status}:{label.reason}" if label.reason else label.status] += tally.total
        return {"hit": found.pop("hit", 0), **dict(sorted(found.items()))}

    @property
    def bytes_sent(self) -> int:
        """Of all answers, their heads included."""
        return sum([tally.bytes_sent for tally in self.counters.exchanges.values()])
