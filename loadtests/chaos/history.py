"""The history of a run under faults: what was asked for, answered, broken and mended, as it became known.

One file for each session of a run, JSON lines, packed: the first says what the session was about, each other is one
event. Times are seconds since the session began, on the observer's monotonic clock. Whoever judges needs nothing else.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self, TextIO

from loadtests.oracle import PriceKey

VERSION = 2
REPAIRED_WITHIN_S = 2.0
"""After a fault has ended: every worker knows everything again, by repair or by flush."""
UNKNOWN_LOAD = "a load that was not noted"


class Began(NamedTuple):
    """A change of a price is about to be asked for; or, with key -1, a purge is about to be ordered."""

    at: float
    change: int
    key: int
    """Place in Session.prices."""
    amount: int


class Committed(NamedTuple):
    """The shop said that it is done."""

    at: float
    change: int
    position: str


class Refused(NamedTuple):
    """The shop said that it was not done."""

    at: float
    change: int


class Doubtful(NamedTuple):
    """The shop did not say what became of it."""

    at: float
    change: int


class Settled(NamedTuple):
    """From now on it is certain whether the shop has what was doubtful, or had been confirmed."""

    at: float
    change: int
    there: bool


class Live(NamedTuple):
    """The shop reported the change live."""

    at: float
    change: int


class Seen(NamedTuple):
    """A complete answer that showed prices of this run, or only confirmed them (HEAD, 304)."""

    at: float
    """When it had arrived."""
    sent: float
    edge: str
    target: str
    shown: tuple[tuple[int, int], ...]
    """Places in Session.prices, with the amounts."""
    cache: str
    """By Cache-Status."""


class Other(NamedTuple):
    """Any other answer, or none."""

    at: float
    sent: float
    edge: str
    target: str
    code: int
    """0: there was no complete answer."""
    page: bool
    """For people, not for programs."""
    what: str
    """`marked`: it said that its prices were being confirmed. `unreadable`: it hid what it had to show, and how."""


class Broken(NamedTuple):
    """A fault was made."""

    at: float
    fault: int
    kind: str
    words: str
    edge: str | None = None
    """The one that it is about; None: it is about what all of them share."""


class Felt(NamedTuple):
    """A fault was seen to do what it is for."""

    at: float
    fault: int
    what: str
    """What was seen of it."""


class NotBroken(NamedTuple):
    """A fault could not be made."""

    at: float
    fault: int
    kind: str
    why: str


class Mended(NamedTuple):
    """A fault has come to its end."""

    at: float
    fault: int


class Repaired(NamedTuple):
    """After the last of some faults had ended: whether a worker knew everything again, and how soon."""

    at: float
    episode: int
    worker: str
    seconds: float | None
    """Since the origin answered again on this worker's way to it, and the worker itself ran; None: it did not, as long
    as anybody looked."""
    in_all_s: float
    """Since the last fault was mended, or the last process killed: with what it takes until something runs again."""
    restarted: bool = False
    """It was killed itself: it began with nothing, and serves nothing from its store before it knows everything."""


class Used(NamedTuple):
    """What a process of the shop takes of the machine, while nothing is broken."""

    at: float
    process: str
    memory_bytes: int
    files: int
    """Open ones, sockets included."""


class Ended(NamedTuple):
    """The session came to its end in good order: whatever was to be waited for has been waited for."""

    at: float


class Looked(NamedTuple):
    """One of the things that have to be as before at the end; or that the session broke off, and why."""

    at: float
    what: str
    wrong: str
    """Empty: it is."""


Event = (
    Began
    | Committed
    | Refused
    | Doubtful
    | Settled
    | Live
    | Seen
    | Other
    | Broken
    | Felt
    | NotBroken
    | Mended
    | Repaired
    | Used
    | Looked
    | Ended
)
_EVENTS: Mapping[str, Callable[..., Event]] = {
    kind.__name__.lower(): kind
    for kind in (
        Began,
        Committed,
        Refused,
        Doubtful,
        Settled,
        Live,
        Seen,
        Other,
        Broken,
        Felt,
        NotBroken,
        Mended,
        Repaired,
        Used,
        Looked,
        Ended,
    )
}
_MANY = frozenset({"seen", "other"})
FLUSHED_EVERY_S = 1.0
"""Of answers a killed observer loses so much; whatever else it noted is in the file before it goes on."""


class Price(NamedTuple):
    """A price that a session changes."""

    key: PriceKey
    amount: int
    """Before the first change."""


@dataclass(frozen=True, slots=True)
class Session:
    """What a history is about."""

    seed: int
    number: int
    """Of the session within its run; 0 for the first."""
    started_at: str
    edges: tuple[str, ...]
    prices: tuple[Price, ...]
    repaired_within_s: float = REPAIRED_WITHIN_S
    load: str = UNKNOWN_LOAD
    """What went on beside the faults, in words."""

    def to_json(self) -> dict[str, Any]:
        return {
            "v": VERSION,
            "seed": self.seed,
            "number": self.number,
            "started_at": self.started_at,
            "edges": list(self.edges),
            "repaired_within_s": self.repaired_within_s,
            "load": self.load,
            "prices": [[*price.key, price.amount] for price in self.prices],
        }


class BadHistory(ValueError):
    """A file that is no history, or one of another version. Reads: which, and where."""


class History:
    """Writes one session's; whoever watches is told each event as it is written."""

    def __init__(self, file: TextIO, watch: Callable[[Event], None]) -> None:
        self._file = file
        self._watch = watch
        self._flushed_at = 0.0

    @classmethod
    @contextlib.contextmanager
    def writing(cls, path: Path, session: Session, watch: Callable[[Event], None]) -> Iterator[Self]:
        """A new file. Under its name there is never one without its first line, whoever is killed when."""
        draft = path.with_name(path.name + ".new")
        with gzip.open(draft, "wt", compresslevel=1, encoding="utf-8") as file:
            file.write(json.dumps(session.to_json()) + "\n")
            file.flush()
            draft.replace(path)
            yield cls(file, watch)

    def note(self, event: Event) -> None:
        line = to_line(event)
        self._file.write(line)
        # A change that is about to be ordered is noted before it is, also if we are killed in between.
        if type(event).__name__.lower() not in _MANY or event.at >= self._flushed_at + FLUSHED_EVERY_S:
            self._file.flush()
            self._flushed_at = event.at
        # As it will be read, so that whoever judges the file judges the same.
        self._watch(from_line(line))


def to_line(event: Event) -> str:
    values = [round(value, 6) if isinstance(value, float) else value for value in event]
    return json.dumps([type(event).__name__.lower(), *values], separators=(",", ":")) + "\n"


def from_line(line: str) -> Event:
    """Raises ValueError, KeyError, TypeError or IndexError for what `to_line` did not write."""
    tag, *values = json.loads(line)
    if tag == "seen":
        values[4] = tuple((key, amount) for key, amount in values[4])
    return _EVENTS[tag](*values)


def read_history(path: Path) -> tuple[Session, Iterator[Event]]:
    """The session and its events, as far as they were written before the observer was killed. Raises BadHistory."""
    lines = _lines(path)
    try:
        head = json.loads(next(lines))
        if head["v"] != VERSION:
            raise BadHistory(f"{path}: version {head['v']}, this program reads {VERSION}")
        prices = tuple(Price(PriceKey(market, sku), amount) for market, sku, amount in head["prices"])
        session = Session(
            head["seed"],
            head["number"],
            head["started_at"],
            tuple(head["edges"]),
            prices,
            float(head["repaired_within_s"]),
            str(head.get("load", UNKNOWN_LOAD)),
        )
    except (StopIteration, KeyError, TypeError, json.JSONDecodeError) as exc:
        raise BadHistory(f"{path}: not the history of a run under faults ({exc!r})") from exc
    return session, _events(path, lines)


def left_behind(session: Session, events: Iterable[Event]) -> dict[PriceKey, set[int]]:
    """What each price may be after a session that came to no good end: the amount that was confirmed last, and those
    that have been ordered since and were not refused."""
    keys: dict[int, PriceKey] = {}
    amounts: dict[int, int] = {}
    found = {price.key: {price.amount} for price in session.prices}
    for event in events:
        match event:
            case Began(_, change, key, amount) if key >= 0:
                keys[change], amounts[change] = session.prices[key].key, amount
                found[keys[change]].add(amount)
            case Committed(_, change) | Settled(_, change, True) if change in keys:
                found[keys[change]] = {amounts[change]}
            case Refused(_, change) | Settled(_, change, False) if change in keys:
                found[keys[change]].discard(amounts[change])
            case _:
                pass
    return found


def _lines(path: Path) -> Iterator[str]:
    """Raises BadHistory."""
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            for line in file:
                if line.endswith("\n"):
                    yield line
    except (EOFError, zlib.error):
        return  # killed in the middle
    except OSError as exc:
        raise BadHistory(f"{path}: {exc}") from exc


def _events(path: Path, lines: Iterator[str]) -> Iterator[Event]:
    for number, line in enumerate(lines, start=2):
        try:
            yield from_line(line)
        except (ValueError, KeyError, TypeError, IndexError) as exc:
            raise BadHistory(f"{path}, line {number}: {exc!r}") from exc
