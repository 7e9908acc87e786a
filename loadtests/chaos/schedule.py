"""What is broken when: episodes of one to three faults, drawn from a seed. Pure.

Each episode is drawn by itself, from the seed and its number, so that a run can be resumed at any. A fault is a command
to the shop's control socket (docs/faults.md) and, where it does not end by itself, another that ends it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

from loadtests.people import Mix

Command = dict[str, Any]
CHANNELS = ("questions", "fills", "all")
LATEST_S = 1.5
"""Faults of an episode begin within this of each other."""
HIGHEST_LAG_MS = 10_000
STEPS_S = (-86_400, -3_600, -60, 60, 3_600, 86_400)
"""By how much clocks are set wrong."""
SUPERVISOR = "supervisor"
"""Whoever runs the shop and keeps its primary in charge: `nearshelf up` itself."""
SIZES = {1: 4.0, 2: 4.0, 3: 2.0}
"""How many faults an episode has, by weight."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing to break. Times in seconds."""

    kind: str
    """As it is counted."""
    begins_s: float
    """Since its episode began."""
    lasts_s: float
    """Until it is mended; 0: it ends by itself."""
    breaks: Command
    mends: Command | None

    def __str__(self) -> str:
        words = " ".join(str(value) for value in self.breaks.values())
        return f"{self.begins_s:5.2f} s {words}" + (f", for {self.lasts_s:.2f} s" if self.lasts_s else "")


@dataclass(frozen=True, slots=True)
class Episode:
    """Faults that overlap, or nearly."""

    number: int
    faults: tuple[Fault, ...]

    def __str__(self) -> str:
        return f"episode {self.number}\n" + "\n".join(f"  {fault}" for fault in self.faults)


@dataclass(frozen=True, slots=True)
class Stage:
    """What there is to be broken."""

    edges: tuple[str, ...]
    edge_workers: tuple[str, ...]
    origin_workers: tuple[str, ...]
    full_disk: bool
    """The shop's disk is one that may be filled."""

    def members(self, name: str) -> tuple[str, ...]:
        """The processes that a name means: itself, those of an edge, or those of the origin."""
        if name == "origin":
            return self.origin_workers
        return tuple(one for one in self.edge_workers if one.rpartition("-")[0] == name) or (name,)

    def edge_of(self, breaks: Command) -> str | None:
        """The one edge that a fault is about; None: it is about what all edges share."""
        if "edge" in breaks:
            return breaks["edge"] if breaks["edge"] in self.edges else None
        name = str(breaks.get("name", ""))
        return next((edge for edge in self.edges if name == edge or name in self.members(edge)), None)


Draw = Callable[[random.Random, Stage], tuple[Command, Command | None, float]]
"""Draws the command that breaks, that which mends, and how long is between."""


def _kill(*, of: Callable[[Stage], Collection[str]]) -> Draw:
    def draw(rng: random.Random, stage: Stage) -> tuple[Command, Command | None, float]:
        return {"do": "kill", "name": rng.choice(sorted(of(stage)))}, None, 0.0

    return draw


def _freeze(shortest_s: float, longest_s: float, *, of: Callable[[Stage], Collection[str]]) -> Draw:
    def draw(rng: random.Random, stage: Stage) -> tuple[Command, Command | None, float]:
        name = rng.choice(sorted(of(stage)))
        return {"do": "freeze", "name": name}, {"do": "thaw", "name": name}, rng.uniform(shortest_s, longest_s)

    return draw


def _freeze_supervisor(rng: random.Random, _: Stage) -> tuple[Command, Command | None, float]:
    # It can be told nothing meanwhile: for how long is said beforehand.
    lasts_s = round(rng.uniform(0.3, 6.0), 3)
    return {"do": "freeze", "name": SUPERVISOR, "s": lasts_s}, {"do": "thaw", "name": SUPERVISOR}, lasts_s


def _stop_origin(rng: random.Random, _: Stage) -> tuple[Command, Command | None, float]:
    return {"do": "stop", "name": "origin"}, {"do": "start", "name": "origin"}, rng.uniform(0.5, 4.0)


def _on_the_way(how: str) -> Draw:
    """Between edges and the origin."""

    def draw(rng: random.Random, stage: Stage) -> tuple[Command, Command | None, float]:
        where = {"edge": rng.choice((*stage.edges, "all")), "channel": rng.choice(CHANNELS)}
        return {"do": how, **where, **_amount(how, rng)}, {"do": "heal", **where}, rng.uniform(0.5, 5.0)

    return draw


def _replication(how: str) -> Draw:
    def draw(rng: random.Random, _: Stage) -> tuple[Command, Command | None, float]:
        where = {"edge": "replication"}
        return {"do": how, **where, **_amount(how, rng)}, {"do": "heal", **where}, rng.uniform(0.5, 4.0)

    return draw


def _amount(how: str, rng: random.Random) -> Command:
    match how:
        case "slow":
            amounts: tuple[Command, ...] = (
                {"ms": rng.randrange(100, 3_000)},
                {"ms": 0, "bytes_per_s": rng.randrange(500, 50_000)},
            )
            return rng.choice(amounts)
        case "truncate" | "garble":
            return {"seed": rng.randrange(1 << 31)}
        case _:
            return {}


def _pause_replay(rng: random.Random, _: Stage) -> tuple[Command, Command | None, float]:
    return {"do": "pause-replay"}, {"do": "resume-replay"}, rng.uniform(0.5, 8.0)


def _delay_replay(rng: random.Random, _: Stage) -> tuple[Command, Command | None, float]:
    ms = rng.randint(1, HIGHEST_LAG_MS)
    return {"do": "delay-replay", "ms": ms}, {"do": "delay-replay", "ms": 0}, rng.uniform(1.0, 1.0 + ms / 1000)


def _wipe(_: random.Random, __: Stage) -> tuple[Command, Command | None, float]:
    return {"do": "wipe", "name": "valkey"}, None, 0.0


def _fill_disk(rng: random.Random, _: Stage) -> tuple[Command, Command | None, float]:
    return {"do": "fill-disk"}, {"do": "empty-disk"}, rng.uniform(0.5, 3.0)


def _step_clock(rng: random.Random, stage: Stage) -> tuple[Command, Command | None, float]:
    name = rng.choice((*stage.edge_workers, *stage.edges, *stage.origin_workers, "origin"))
    off_s = rng.choice(STEPS_S)
    return {"do": "step-clock", "name": name, "s": off_s}, {"do": "step-clock", "name": name, "s": 0}, rng.uniform(1, 5)


def _only(name: str) -> Callable[[Stage], Collection[str]]:
    return lambda _: (name,)


KINDS: dict[str, tuple[float, Draw]] = {
    "kill edge worker": (8, _kill(of=lambda stage: stage.edge_workers)),
    "kill edge": (2, _kill(of=lambda stage: stage.edges)),
    "freeze edge worker": (8, _freeze(0.3, 6.0, of=lambda stage: stage.edge_workers)),
    "freeze edge": (2, _freeze(0.3, 6.0, of=lambda stage: stage.edges)),
    "kill origin worker": (6, _kill(of=lambda stage: stage.origin_workers)),
    "freeze origin worker": (6, _freeze(0.3, 5.0, of=lambda stage: stage.origin_workers)),
    "stop origin": (2, _stop_origin),
    "kill relay": (2, _kill(of=_only("relay"))),
    "freeze relay": (2, _freeze(0.3, 3.0, of=_only("relay"))),
    "kill valkey": (3, _kill(of=_only("valkey"))),
    "freeze valkey": (3, _freeze(0.3, 4.0, of=_only("valkey"))),
    "wipe valkey": (4, _wipe),
    "kill standby": (3, _kill(of=_only("standby"))),
    "freeze standby": (3, _freeze(0.3, 4.0, of=_only("standby"))),
    "kill primary": (3, _kill(of=_only("primary"))),
    "freeze primary": (3, _freeze(0.3, 6.0, of=_only("primary"))),
    "freeze supervisor": (3, _freeze_supervisor),
    "cut": (8, _on_the_way("cut")),
    "stall": (8, _on_the_way("stall")),
    "slow": (8, _on_the_way("slow")),
    "truncate": (6, _on_the_way("truncate")),
    "garble": (6, _on_the_way("garble")),
    "cut replication": (4, _replication("cut")),
    "stall replication": (3, _replication("stall")),
    "slow replication": (4, _replication("slow")),
    "pause replay": (8, _pause_replay),
    "delay replay": (8, _delay_replay),
    "fill disk": (2, _fill_disk),
    "step clock": (6, _step_clock),
}
"""Kind -> its weight, and how one is drawn."""


def possible(stage: Stage, kinds: Collection[str]) -> tuple[str, ...]:
    """Those of these kinds that there is something for, in the order of KINDS."""
    return tuple(kind for kind in KINDS if kind in kinds and (kind != "fill disk" or stage.full_disk))


def episode(seed: int, number: int, stage: Stage, kinds: Collection[str] = tuple(KINDS)) -> Episode:
    """The episode with this number, of kinds of which one at least is `possible`. No two of its faults are about the
    very same thing."""
    rng = random.Random(f"chaos {seed} {number}")
    mix = Mix({kind: KINDS[kind][0] for kind in possible(stage, kinds)})
    faults: list[Fault] = []
    subjects: set[str] = set()
    for _ in range(Mix(SIZES).draw(rng)):
        kind = mix.draw(rng)
        breaks, mends, lasts_s = KINDS[kind][1](rng, stage)
        subject = _subject(breaks)
        begins_s = rng.uniform(0.0, LATEST_S)
        if subject not in subjects:
            subjects.add(subject)
            faults.append(Fault(kind, round(begins_s, 3), round(lasts_s, 3), breaks, mends))
    return Episode(number, tuple(sorted(faults, key=lambda fault: fault.begins_s)))


def _subject(command: Command) -> str:
    """What only one fault at a time can be about: a process, a channel, the standby's replay."""
    if "name" in command:
        group = str(command["name"]).partition("-")[0]
        return f"clock {group}" if command["do"] == "step-clock" else f"process {group}"
    if "edge" in command:
        return f"way {command['edge']}" if command["edge"] == "replication" else "way"
    return "replay" if "replay" in command["do"] else str(command["do"])


def episodes(seed: int, first: int, stage: Stage, kinds: Collection[str] = tuple(KINDS)) -> Iterator[Episode]:
    """All from one on, without end."""
    while True:
        yield episode(seed, first, stage, kinds)
        first += 1
