"""What a paced run sends and when: requests, and a row of moments with the request of each. Made before it starts.

Written into a folder for the process that sends, so that not even reading it costs anything while the run goes on.
"""

from __future__ import annotations

import hashlib
import json
import random
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from loadtests.recorder.run import Phase

WARM_UP, STEADY = "warm-up", "steady"


class Asked(NamedTuple):
    """One request, to one edge. Counted by `route` and `market`."""

    edge: str
    route: str
    market: str
    target: str
    """Path and query."""
    fields: tuple[tuple[str, str], ...] = ()
    """Beside Host."""
    method: str = "GET"
    """GET or HEAD."""


class Spacing(StrEnum):
    """How the moments of a steady rate lie."""

    RANDOM = "random"
    """Independent visitors: the gaps are exponential (a Poisson process), some come together."""
    EVEN = "even"
    """A metronome: every gap the same."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """`due_s[n]`: when the n-th request is meant to be sent, seconds since the start, ascending. `which[n]`: its place
    in `asked`."""

    edges: Mapping[str, str]
    """Name -> address, http://HOST:PORT."""
    asked: Sequence[Asked]
    phases: Sequence[Phase]
    due_s: array[float]
    which: array[int]

    @property
    def duration_s(self) -> float:
        return self.phases[-1].to_s

    @property
    def digest(self) -> str:
        """Of everything in its order, so that two runs can be told to have meant the same."""
        found = hashlib.blake2b(digest_size=16)
        for asked in self.asked:
            found.update(repr(tuple(asked)).encode())
        found.update(self.due_s.tobytes())
        found.update(self.which.tobytes())
        return found.hexdigest()

    def requests(self) -> list[bytes]:
        """What is sent for each of `asked`. Raises ValueError for what cannot stand in a request."""
        return [_request(asked, urlsplit(self.edges[asked.edge]).netloc) for asked in self.asked]

    def phase_of(self) -> Iterator[str]:
        """The phase of each moment, in their order."""
        phases = iter(self.phases)
        phase = next(phases)
        for due_s in self.due_s:
            while due_s >= phase.to_s and phase is not self.phases[-1]:
                phase = next(phases)
            yield phase.name

    def write(self, folder: Path) -> None:
        """For `read`, on this machine."""
        (folder / "due").write_bytes(self.due_s.tobytes())
        (folder / "which").write_bytes(self.which.tobytes())
        document = {
            "edges": dict(self.edges),
            "asked": [list(asked) for asked in self.asked],
            "phases": [[phase.name, phase.from_s, phase.to_s, phase.counts] for phase in self.phases],
        }
        (folder / "schedule.json").write_text(json.dumps(document))

    @classmethod
    def read(cls, folder: Path) -> Schedule:
        """What `write` wrote."""
        document: dict[str, Any] = json.loads((folder / "schedule.json").read_text())
        due_s, which = array("d"), array("L")
        due_s.frombytes((folder / "due").read_bytes())
        which.frombytes((folder / "which").read_bytes())
        return cls(
            edges=document["edges"],
            asked=[
                Asked(edge, route, market, target, tuple((name, value) for name, value in fields), method)
                for edge, route, market, target, fields, method in document["asked"]
            ],
            phases=[Phase(*each) for each in document["phases"]],
            due_s=due_s,
            which=which,
        )


def _request(asked: Asked, authority: str) -> bytes:
    if asked.method not in {"GET", "HEAD"}:
        raise ValueError(f"{asked.method} {asked.target}: only GET and HEAD are sent, which may be sent again")
    lines = [f"{asked.method} {asked.target} HTTP/1.1", f"Host: {authority}"]
    lines += [f"{name}: {value}" for name, value in asked.fields]
    if any(letter in line for line in lines for letter in "\r\n"):
        raise ValueError(f"{asked.target!r}: a line break within a request")
    return "\r\n".join((*lines, "", "")).encode("ascii")


def steady(
    edges: Mapping[str, str],
    asked: Sequence[Asked],
    *,
    rate_per_s: float,
    duration_s: float,
    warmup_s: float,
    seed: int,
    weights: Sequence[float] | None = None,
    spacing: Spacing = Spacing.RANDOM,
) -> Schedule:
    """The same rate all the time: `warmup_s` that do not count, then `duration_s` that do.

    `weights`: how often each of `asked` is asked for beside the others; the warm-up goes through all of them in turn,
    so that nothing is cold that can be warm. Raises ValueError when there is nothing to ask for, or no time for it.
    """
    if not asked or rate_per_s <= 0 or duration_s <= 0 or warmup_s < 0:
        raise ValueError(f"nothing to send: {len(asked)} requests, {rate_per_s:g} a second, {duration_s:g} s")
    rng = random.Random(f"paced {seed}")
    ends_s = warmup_s + duration_s
    due_s = array("d", _moments(rng, rate_per_s, ends_s, spacing))
    warming = sum(1 for at_s in due_s if at_s < warmup_s)
    cumulative = list(accumulate(weights if weights is not None else [1.0] * len(asked)))
    which = array("L", (number % len(asked) for number in range(warming)))
    which.extend(rng.choices(range(len(asked)), cum_weights=cumulative, k=len(due_s) - warming))
    phases = [Phase(STEADY, warmup_s, ends_s)]
    if warmup_s:
        phases.insert(0, Phase(WARM_UP, 0.0, warmup_s, counts=False))
    return Schedule(edges, asked, phases, due_s, which)


def _moments(rng: random.Random, rate_per_s: float, until_s: float, spacing: Spacing) -> Iterator[float]:
    if spacing is Spacing.EVEN:
        for number in range(int(until_s * rate_per_s)):
            yield number / rate_per_s
        return
    at_s = rng.expovariate(rate_per_s)
    while at_s < until_s:
        yield at_s
        at_s += rng.expovariate(rate_per_s)
