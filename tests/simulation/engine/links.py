"""Links between simulated processes: what travels over them comes late, in order on each lane, or not before a heal."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from tests.simulation.engine.loop import SimLoop
from tests.simulation.engine.processes import Process

NEAR_S = (0.0001, 0.002)
"""How long the way takes where nobody says anything else, in virtual seconds: from, to."""
BEHIND_S = 1e-9
"""By how much what follows on a lane comes later, at the least."""


class Link:
    """The way from `origin` to `target`, two names of processes."""

    def __init__(self, origin: str, target: str, delay: tuple[float, float]) -> None:
        self.origin = origin
        self.target = target
        self.delay = delay
        """Virtual seconds: from, to."""
        self.tear = 0.0
        """The chance that bytes written together arrive in two pieces."""
        self.loss = 0.0
        """The chance that a message is lost."""
        self.repeat = 0.0
        """The chance that a message arrives twice."""
        self.shuffle = 0.0
        """The chance that a message does not keep its place in the order of its stream, and comes late."""
        self.is_cut = False
        self.held: deque[tuple[Lane, Process, Callable[..., object], tuple[Any, ...]]] = deque()
        """What was sent while it was cut and is sent again when it is healed."""


class Lane:
    """One direction of one connection: what is sent over it arrives in order."""

    __slots__ = ("last_at", "link")

    def __init__(self, link: Link) -> None:
        self.link = link
        self.last_at = 0.0


class Links:
    """`delay_between` gives the delay of a link by the names of its ends, in virtual seconds (from, to)."""

    def __init__(
        self, loop: SimLoop, delay_between: Callable[[str, str], tuple[float, float]] = lambda origin, target: NEAR_S
    ) -> None:
        self.loop = loop
        self.kernel = loop.process("kernel")
        """Answers for all machines: connections are made, refused and reset though a process is stopped."""
        self.sent = 0
        """How often anything was put on a link."""
        self._delay_between = delay_between
        self._links: dict[tuple[str, str], Link] = {}
        self.draws = loop.draws("network")
        self._draw = self.draws.random

    # -- links ---------------------------------------------------------------------------------------------------------

    def link(self, origin: str, target: str) -> Link:
        """The way between the processes of these names, always the same object."""
        found = self._links.get((origin, target))
        if found is None:
            found = self._links[(origin, target)] = Link(origin, target, self._delay_between(origin, target))
        return found

    def links(self, origins: Iterable[str], targets: Iterable[str], *, both: bool = True) -> Iterator[Link]:
        """Every way from one of `origins` to one of `targets`; `both`: and back."""
        far = list(targets)
        for origin in origins:
            for target in far:
                yield self.link(origin, target)
                if both:
                    yield self.link(target, origin)

    def cut(self, origins: Iterable[str], targets: Iterable[str], *, both: bool = True) -> None:
        """Nothing gets through between them until `heal`: bytes wait, messages are lost or wait, connecting hangs."""
        for link in self.links(origins, targets, both=both):
            link.is_cut = True

    def heal(self, origins: Iterable[str] | None = None, targets: Iterable[str] | None = None) -> None:
        """End the cut between them, or every cut."""
        if origins is None or targets is None:
            healed = list(self._links.values())
        else:
            healed = list(self.links(origins, targets))
        for link in healed:
            link.is_cut = False
            held, link.held = link.held, deque()
            for lane, receiver, callback, args in held:
                self.carry(lane, receiver, callback, *args)

    def delay_of(self, link: Link) -> float:
        low, high = link.delay
        return low + (high - low) * self._draw()

    def carry(self, lane: Lane, receiver: Process, callback: Callable[..., object], *args: Any) -> None:
        """`callback(*args)` in `receiver`, when what is sent now over `lane` arrives there."""
        link = lane.link
        self.sent += 1
        if link.is_cut:
            link.held.append((lane, receiver, callback, args))
            return
        low, high = link.delay
        now = self.loop.now
        at = now + low + (high - low) * self._draw()
        if at <= lane.last_at:
            at = lane.last_at + BEHIND_S
        lane.last_at = at
        receiver.post(at - now, callback, *args)


class End:
    """One side of something that hears when its process dies."""

    def __init__(self, died: Callable[[], None]) -> None:
        self.process_died = died
