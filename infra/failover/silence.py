"""Which servers have been silent, and for how long: probes counted, and our own sleep blamed on nobody. Pure."""

from __future__ import annotations

from collections.abc import Iterable

PROBE_EVERY_S = 0.25
PROBE_DEADLINE_S = 1.0
PROBES_LOST = 3
SILENT_S = 1.5
"""A primary that refuses at once, as one does that recovers from the end of a session, has as long as a silent one:
three probes, begun 0.25 s apart, of 1 s each."""
HUNG_S = 30.0
"""A server that said nothing for so long, not even a refusal, hangs."""
LATE_S = 1.0
"""A tick that comes so late tells that this process itself did not run: silence in that time is nobody's fault."""


class Silence:
    """Times are those of the machine."""

    def __init__(self, nodes: Iterable[str], now: float) -> None:
        self._answered_at = dict.fromkeys(nodes, now)
        """Server -> when the probe was sent that it answered last."""
        self._unanswered = dict.fromkeys(self._answered_at, 0)
        """Server -> probes in a row since."""
        self._heard_at = dict(self._answered_at)
        """Server -> when it last said anything."""
        self._looked_at = now

    def look_at_ourselves(self, now: float) -> None:
        """To be called whenever we run: whoever was not running itself counts anew."""
        if now - self._looked_at > LATE_S:
            for node in self._answered_at:
                self.begin_anew(node, now)
        self._looked_at = now

    def begin_anew(self, node: str, now: float) -> None:
        """What was before now says nothing any more."""
        self._answered_at[node] = self._heard_at[node] = now
        self._unanswered[node] = 0

    def answered(self, node: str, sent_at: float, now: float) -> bool:
        """A probe was answered; False: a later one was before."""
        self._heard_at[node] = now
        if sent_at < self._answered_at[node]:
            return False
        self._answered_at[node], self._unanswered[node] = sent_at, 0
        return True

    def unanswered(self, node: str, sent_at: float, *, silent: bool, now: float) -> None:
        """A probe was not; `silent`: nor refused."""
        if not silent:
            self._heard_at[node] = now
        if sent_at > self._answered_at[node]:
            self._unanswered[node] += 1

    def answered_at(self, node: str) -> float:
        """When the probe was sent that it answered last, or when we began anew."""
        return self._answered_at[node]

    def is_lost(self, node: str, now: float) -> bool:
        """It has had its chances to answer."""
        return self._unanswered[node] >= PROBES_LOST and now - self._answered_at[node] >= SILENT_S

    def hangs(self, node: str, now: float) -> bool:
        """It has said nothing for `HUNG_S`, though it was asked."""
        return self._unanswered[node] >= PROBES_LOST and now - self._heard_at[node] > HUNG_S
