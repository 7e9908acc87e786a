"""What the failover machine is told, and what it wants done: the words between it and its drivers. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Fence(StrEnum):
    """What keeps an old primary from going on after another was promoted. LEASE and KILL are each enough alone."""

    SYNC = "sync"
    """A synchronous transaction needs the standby, which follows the old primary no more. That keeps what was
    acknowledged, and nothing else: questions are still answered, and other transactions take nothing of a standby."""
    LEASE = "lease"
    """A primary answers questions and takes writes only while the supervisor renews its lease."""
    KILL = "kill"
    """Its processes are ended before anything is promoted; only where they are ours."""


class Phase(StrEnum):
    OPENING = "opening"
    """There is a primary, which gets its epoch and its lease now; until then it takes no writes."""
    STEADY = "steady"
    FENCING = "fencing"
    """The old primary is being kept from going on."""
    WAITING = "waiting"
    """Until the lease of an old primary that could not be ended is certainly over."""
    PROMOTING = "promoting"


# --- what is observed ---


@dataclass(frozen=True, slots=True)
class Seen:
    """A server answered a probe."""

    node: str
    sent_at: float
    """When the probe was sent, on the machine's clock."""
    in_recovery: bool
    """It is a standby."""
    timeline: int = 0
    """Of a primary: the one that it writes. Of a standby: the one that it receives; 0: it receives nothing."""
    followed: bool = False
    """Of a primary: its standby is streaming."""
    synchronous: bool = False
    """Of a primary: synchronous transactions wait for its standby."""
    epoch: int = 0
    """Of its purge log."""
    renewed: bool = False
    """Its lease was renewed."""
    trouble: str = ""
    """Why its lease, which was to be renewed, could not be."""
    ousted: bool = False
    """Because another supervisor holds it."""
    received: int = 0
    """Of a standby: how far it has received the log, in bytes."""
    name: str = ""
    """Of a standby: what the primary that it follows calls it."""


@dataclass(frozen=True, slots=True)
class Unseen:
    """A server did not answer a probe."""

    node: str
    sent_at: float
    why: str
    silent: bool = True
    """It said nothing; False: it, or its machine, refused."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A server's process has ended."""

    node: str


@dataclass(frozen=True, slots=True)
class Held:
    """Somebody stops this server on purpose: it is not started again before it is Freed."""

    node: str


@dataclass(frozen=True, slots=True)
class Freed:
    """It may run again."""

    node: str


@dataclass(frozen=True, slots=True)
class Done:
    """A step was carried out."""

    step: Step
    dead: bool = False
    """Of a Stop: no process of that server is left."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A step could not be carried out."""

    step: Step
    why: str


Event = Seen | Unseen | Ended | Held | Freed | Done | Failed


# --- what is to be done ---


@dataclass(frozen=True, slots=True)
class Probe:
    """Ask a server how it is; answered by Seen or Unseen."""

    node: str
    renew: bool = False
    """Renew its supervisor lease."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Keep an old primary from going on: `kill` ends its processes."""

    node: str
    kill: bool
    heir: str | None = None
    """In good order: it lets this standby have all of its log first."""

    @property
    def orderly(self) -> bool:
        return self.heir is not None


@dataclass(frozen=True, slots=True)
class TakeBack:
    """Let an old primary of others go on after all, that was told not to."""

    node: str


@dataclass(frozen=True, slots=True)
class Promote:
    """Make a standby the primary. Nothing to do where it is one already."""

    node: str


@dataclass(frozen=True, slots=True)
class Open:
    """The first transaction of a primary: where its timeline is new the epoch is raised; then it gets its lease."""

    node: str
    above: int
    """The highest epoch that may have been given out: a raised one is beyond it."""
    lease: bool
    """False: it is in charge for as long as it runs; that fence is disarmed."""


@dataclass(frozen=True, slots=True)
class Unleash:
    """Let a primary be in charge without a lease, whatever becomes of us."""

    node: str


@dataclass(frozen=True, slots=True)
class Announce:
    """Tell whoever holds connections that this is the primary now."""

    node: str


@dataclass(frozen=True, slots=True)
class Start:
    """Start a server that has ended, as what it was."""

    node: str


@dataclass(frozen=True, slots=True)
class Rejoin:
    """Have a server run as the standby of another: as it is, rewound, or made anew."""

    node: str
    primary: str


@dataclass(frozen=True, slots=True)
class Synchronise:
    """Have synchronous transactions wait for the standby; done when that is certain, and it holds all there was."""

    primary: str
    standby: str


@dataclass(frozen=True, slots=True)
class Release:
    """Have no transaction wait for a standby any more."""

    primary: str


@dataclass(frozen=True, slots=True)
class Record:
    """Remember over restarts who is the primary, which standby may be promoted, and the highest epoch."""

    primary: str
    promotable: str | None
    epoch: int


@dataclass(frozen=True, slots=True)
class Say:
    """Tell people."""

    text: str
    alarming: bool = True


Step = (
    Probe
    | Stop
    | TakeBack
    | Promote
    | Open
    | Unleash
    | Announce
    | Start
    | Rejoin
    | Synchronise
    | Release
    | Record
    | Say
)


def doing(step: Step) -> str:
    """What is being done, for people."""
    match step:
        case Promote(node):
            return f"promoting {node}"
        case Open(node):
            return f"opening {node} as the primary"
        case Start(node):
            return f"starting {node}"
        case Rejoin(node, primary):
            return f"having {node} follow {primary}"
        case Synchronise(_, standby):
            return f"having writes wait for {standby}"
        case Release(primary):
            return f"having writes on {primary} wait for nobody"
        case Stop(node):
            return f"ending {node}"
        case TakeBack(node):
            return f"letting {node} go on"
        case _:
            return type(step).__name__
