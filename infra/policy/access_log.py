"""Access logs of an edge's workers, read for `nearshelf policy diff --replay`: several at once, rotated, gzipped.

What all lines have is kept in columns of numbers, so that millions of lines fit into memory; what only the lines of
fetched answers tell is kept beside them. The members of a line are in docs/request.md.
"""

from __future__ import annotations

import gzip
import statistics
import zlib
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NamedTuple, cast
from urllib.parse import quote

import orjson

from cache_policies.positions import Position, WireError
from edge.core.reuse import Why
from edge.core.storing import Reason
from infra.errors import CommandError

_LATEST = 2.0**32
"""No edge writes a later time, in seconds since the epoch: there are dates for all before it."""
HITS = frozenset({"hit", "stale"})
MISSES = frozenset({"validated", "miss", "regional"})
"""Hit ratio = hits / (hits + misses); what is passed on, refused or failed is in neither."""
_ANSWERED = HITS | MISSES | {"pass", "edge", "error"}
"""How requests end whose viewer was still there."""
_FAILED = frozenset({Why.STALE_IF_ERROR, Why.STALE_IF_UNREACHABLE, Why.STALE_MARKED})
_ABOUT_THE_REQUEST = frozenset({206, 304, 412, 416})
"""Statuses that say nothing of the stored response: conditions and parts of one request."""
FORBIDDEN = frozenset(
    {
        Reason.NO_STORE,
        Reason.PRIVATE,
        Reason.SET_COOKIE,
        Reason.NO_LABEL,
        Reason.NO_TAGS,
        Reason.TOO_MANY_TAGS,
        Reason.BAD_TAG,
        Reason.MUST_UNDERSTAND,
        Reason.HARD_END,
        Reason.LENGTH_UNKNOWN,
    }
)
"""Why an answer was not stored, as no policy would have it otherwise."""
_GZIP = b"\x1f\x8b"
_EXPECTED = "expected lines of NEARSHELF_ACCESS_LOG"


class Asked(NamedTuple):
    """One address as it is asked for at one edge."""

    edge: str
    method: str
    path: str
    """Empty where the log does not say it."""
    query: str
    """The parameters that the log tells."""
    route: str
    target: int
    """Equal for the same path and query, whatever the edge and the method."""


class Ending(NamedTuple):
    """How a request ended."""

    cache: str
    reason: str
    status: int
    """Of the origin's answer; 0 where the line's speaks of the request alone, or is the edge's own."""
    worker: str


class Said(NamedTuple):
    """What the origin said about keeping an answer, in seconds; None where it was silent."""

    fresh_s: int | None = None
    unmodified_s: int | None = None
    """Time since Last-Modified, where it did not say how long it is fresh."""
    stale_while_revalidate_s: int | None = None
    stale_if_error_s: int | None = None
    no_cache: bool = False
    no_stale: bool = False
    vary: str = ""
    """Names of the fields that the answer varies on."""


SILENT = Said()


class Details(NamedTuple):
    """What some lines tell besides."""

    origin_s: float | None
    position: Position | None
    aged_s: float | None
    floor: Position | None
    variant: str


NO_DETAILS = Details(None, None, None, None, "")


@dataclass(slots=True)
class AccessLog:
    """Requests that edges answered. `received`, `asked` and `ended` are columns with one place for each; `order` has
    the places in the order of time."""

    received: array[float] = field(default_factory=lambda: array("d"))
    """Seconds since the epoch."""
    asked: array[int] = field(default_factory=lambda: array("L"))
    ended: array[int] = field(default_factory=lambda: array("L"))
    addresses: list[Asked] = field(default_factory=list)
    """By the numbers in `asked`."""
    endings: list[Ending] = field(default_factory=list)
    """By the numbers in `ended`."""
    details: dict[int, Details] = field(default_factory=dict)
    """By place."""
    said: dict[tuple[int, int], Said] = field(default_factory=dict)
    """By target and status, what the origin said last."""
    granted_s: dict[tuple[int, int], int] = field(default_factory=dict)
    """By target and status, the longest freshness that a line shows: for logs that do not tell what the origin said."""
    forbidden: set[tuple[int, int]] = field(default_factory=set)
    """Targets and statuses of answers that no policy would have stored."""
    sizes: dict[int, int] = field(default_factory=dict)
    """By target, bytes that it takes in a store."""
    ages: dict[int, tuple[float, int | None]] = field(default_factory=dict)
    """By address, when it was asked for first, and how old the response was then; None where it came from no store."""
    fetch_s: dict[tuple[str, str], float] = field(default_factory=dict)
    """By edge and route, how long the origin usually takes; with an empty route that of the edge."""
    failing: dict[str, list[tuple[float, bool]]] = field(default_factory=dict)
    """By edge in which any request to the origin failed: each of them in the order of time, and whether it failed."""
    order: Sequence[int] = ()
    shares_flights: bool = False
    """Whether the workers of an edge share a tier, so that one of them asks the origin for all."""
    unfinished: int = 0
    """Logs whose last line ends in the middle."""

    def __len__(self) -> int:
        return len(self.received)

    @property
    def begins_at(self) -> float:
        return self.received[self.order[0]]

    @property
    def ends_at(self) -> float:
        return self.received[self.order[-1]]


def read_logs(paths: Iterable[Path]) -> AccessLog:
    """The requests of access logs; folders stand for the edges' logs in them, with `access.log` in their names.

    Raises CommandError for what cannot be read, for a line that is none with its file and number, and where no request
    is told.
    """
    reader = _Reader()
    for path in _files(paths):
        reader.read(path)
    return reader.finished()


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    seen: set[Path] = set()
    for path in paths:
        found = [path]
        if path.is_dir():
            named = sorted(each for each in path.iterdir() if "access.log" in each.name and each.is_file())
            found = [each for each in named if not _is_of_an_origin(each)]
            if not found:
                raise CommandError(f"{path} holds no edge's log with access.log in its name; name the logs themselves")
        for each in found:
            if each.resolve() not in seen:
                seen.add(each.resolve())
                yield each


def _is_of_an_origin(path: Path) -> bool:
    """Whether a log beside those of edges is an origin's: its lines say nothing of an edge's cache."""
    try:
        with _opened(path) as file:
            said = orjson.loads(file.readline())
    except (OSError, EOFError, zlib.error, ValueError):
        return False
    return isinstance(said, dict) and "cache" not in said and "source" in said


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """A file, unpacked if it is gzipped."""
    with path.open("rb") as raw:
        packed = raw.read(2) == _GZIP
        raw.seek(0)
        yield cast(IO[bytes], gzip.GzipFile(fileobj=raw)) if packed else raw


class _Reader:
    def __init__(self) -> None:
        self._log = AccessLog()
        self._addresses: dict[tuple[Any, ...], int] = {}
        self._targets: dict[tuple[str, str], int] = {}
        self._endings: dict[tuple[Any, ...], int] = {}
        self._fetches: dict[tuple[str, str], list[float]] = defaultdict(list)
        self._outcomes: dict[str, list[tuple[float, bool]]] = defaultdict(list)

    def read(self, path: Path) -> None:
        try:
            with _opened(path) as file:
                for number, line in enumerate(file, start=1):
                    self._take_line(line, path, number)
        except (OSError, EOFError, zlib.error) as exc:
            why = exc.strerror or str(exc) if isinstance(exc, OSError) else str(exc)
            raise CommandError(f"{path} cannot be read as an access log: {why}") from exc

    def _take_line(self, line: bytes, path: Path, number: int) -> None:
        if line.isspace():
            return
        try:
            said = orjson.loads(line)
        except ValueError as exc:
            if not line.endswith(b"\n"):
                # Its worker writes on, or was killed while it wrote.
                self._log.unfinished += 1
                return
            raise _no_line(path, number, exc) from exc
        try:
            if said["cache"] in _ANSWERED and ("path" in said or said["cache"] != "edge"):
                self._take(said)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, WireError) as exc:
            raise _no_line(path, number, exc) from exc

    def _take(self, said: dict[str, Any]) -> None:
        log, cache, status = self._log, said["cache"], said["status"]
        time, query = said["time"], said.get("query")
        key = (said["edge"], said["method"], said.get("path", ""), None if query is None else tuple(query.items()))
        asked = self._addresses.get(key)
        if asked is None:
            asked = self._addresses[key] = self._address(key, str(said.get("route", "")))
        reason = said.get("reason", "")
        end = (cache, reason, status, said["worker"])
        ended = self._endings.get(end)
        if ended is None:
            ended = self._endings[end] = self._ending(end)
        received = time - said["ms"] / 1_000
        if not 0 <= received <= time < _LATEST:
            raise ValueError(f"time {time}, ms {said['ms']}: expected seconds since the epoch, and milliseconds")
        place = len(log.received)
        log.received.append(received)
        log.asked.append(asked)
        log.ended.append(ended)
        age = said["age"]
        first = log.ages.get(asked)
        if first is None or received < first[0]:
            log.ages[asked] = (received, age if cache in HITS else None)
        address = log.addresses[asked]
        if not address.path:
            return
        stored_status = log.endings[ended].status
        if "said" not in said:
            ttl = said["ttl"]
            lived = age if cache in HITS else 0 if said.get("stored") else None
            if ttl is not None and lived is not None:
                at = (address.target, stored_status or 200)
                log.granted_s[at] = max(log.granted_s.get(at, 0), int(ttl + lived))
        if cache != "hit" or "variant" in said:
            self._take_details(said, place, address, stored_status or 200)

    def _take_details(self, said: dict[str, Any], place: int, address: Asked, status: int) -> None:
        log, cache, reason = self._log, said["cache"], said.get("reason", "")
        position, floor, told = said.get("position"), said.get("floor"), said.get("said")
        origin_ms = said.get("origin_ms")
        aged_s, variant = said.get("aged"), said.get("variant", "")
        if position is not None or floor is not None or variant or origin_ms is not None:
            log.details[place] = Details(
                None if origin_ms is None else float(origin_ms) / 1_000,
                None if position is None else Position.parse(position),
                None if aged_s is None else float(aged_s),
                None if floor is None else Position.parse(floor),
                str(variant),
            )
        at = (address.target, status)
        if told is not None:
            log.said[at] = Said(
                told.get("fresh"),
                told.get("unmodified"),
                told.get("stale_while_revalidate"),
                told.get("stale_if_error"),
                bool(told.get("no_cache")),
                bool(told.get("no_stale")),
                str(said.get("vary", "")),
            )
            log.sizes[address.target] = int(said["size"])
            log.forbidden.discard(at)
        elif cache == "miss" and reason in FORBIDDEN:
            log.forbidden.add(at)
        log.shares_flights |= cache == "regional"
        failed = reason in _FAILED or (cache == "error" and reason != Why.LEASE_LAPSED)
        if failed or (origin_ms is not None and "collapsed" not in said):
            self._outcomes[address.edge].append((log.received[place], failed))
        if origin_ms is not None and cache in MISSES:
            self._fetches[address.edge, address.route].append(origin_ms / 1_000)
            self._fetches[address.edge, ""].append(origin_ms / 1_000)

    def _address(self, key: tuple[Any, ...], route: str) -> int:
        edge, method, path, pairs = key
        if not (isinstance(edge, str) and isinstance(method, str) and isinstance(path, str)):
            raise TypeError("edge, method and path are texts")
        query = "&".join([f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in pairs or ()])
        target = self._targets.setdefault((path, query), len(self._targets))
        self._log.addresses.append(Asked(edge, method, path, query, route, target))
        return len(self._log.addresses) - 1

    def _ending(self, end: tuple[Any, ...]) -> int:
        cache, reason, status, worker = end
        if not (isinstance(reason, str) and isinstance(worker, str) and type(status) is int):
            raise TypeError("reason and worker are texts, and status is a whole number")
        unknown = status in _ABOUT_THE_REQUEST or cache in ("edge", "error")
        self._log.endings.append(Ending(cache, reason, 0 if unknown else status, worker))
        return len(self._log.endings) - 1

    def finished(self) -> AccessLog:
        log = self._log
        if not log.received:
            raise CommandError(f"these access logs hold no request that an edge answered; {_EXPECTED}")
        log.order = sorted(range(len(log.received)), key=log.received.__getitem__)
        log.fetch_s = {at: statistics.median(found) for at, found in self._fetches.items()}
        log.failing = {
            edge: sorted(found) for edge, found in self._outcomes.items() if any(failed for _, failed in found)
        }
        return log


def _no_line(path: Path, number: int, exc: Exception) -> CommandError:
    said = f"no {exc}" if isinstance(exc, KeyError) else str(exc)
    return CommandError(f"{path}:{number}: no line of an edge's access log ({said}); {_EXPECTED}")
