"""Which standbys answer, and which of those of others holds whatever was acknowledged. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from infra.failover.steps import Seen


class Standbys:
    """Times are those of the machine."""

    def __init__(self, nodes: Iterable[str], named: Iterable[str]) -> None:
        """`named`: what those that may be promoted are called; none: whoever follows may be."""
        self._nodes = frozenset(nodes)
        self._named = frozenset(named)
        self._said: dict[str, tuple[float, Seen]] = {}
        """Standby -> when it was seen last, and what it said."""
        self._received: dict[str, int] = {}
        """Standby -> the timeline that it received when it last received one."""

    @property
    def are_named(self) -> bool:
        return bool(self._named)

    def said(self, seen: Seen, now: float) -> None:
        self._said[seen.node] = now, seen
        if seen.timeline:
            self._received[seen.node] = seen.timeline

    def is_none(self, node: str) -> None:
        """That one is a primary."""
        self._said.pop(node, None)
        self._received.pop(node, None)

    def seen_since(self, then: float) -> dict[str, Seen]:
        return {node: seen for node, (seen_at, seen) in self._said.items() if seen_at >= then}

    def asked_since(self, then: float) -> dict[str, Seen]:
        return {node: seen for node, (_, seen) in self._said.items() if seen.sent_at >= then}

    def furthest(
        self, answering: Mapping[str, Seen], primary: str, timeline: int, favourite: str | None = None
    ) -> str | None:
        """The one to promote, `favourite` if there are several; None where one that may be promoted does not answer:
        it may be the only one that has some acknowledged change; or where one has not received `timeline`, which the
        primary writes. How far that one is says nothing: an old primary may be further, in a history that has ended."""
        able = {
            node: seen
            for node, seen in answering.items()
            if node != primary and self._may(seen) and self._follows(node, timeline)
        }
        if self._named:
            # Of several that have one name, one was enough for what was acknowledged; one that has never been seen may
            # have it, too.
            others = self._nodes - {primary}
            bearers = {node for node in others if node not in self._said or self._may(self._said[node][1])}
            is_everybody_here = bearers <= able.keys() and self._named <= {seen.name for seen in able.values()}
        else:
            is_everybody_here = able.keys() == self._nodes - {primary}
        if not is_everybody_here:
            return None
        return max(able, key=lambda node: (able[node].received, node == favourite), default=None)

    def likeliest(self, answering: Mapping[str, Seen], timeline: int) -> str | None:
        """The one that lacks least, where none is sure to lack nothing."""
        return max(
            answering,
            key=lambda node: (self._follows(node, timeline), answering[node].received),
            default=None,
        )

    def _follows(self, node: str, timeline: int) -> bool:
        return self._received.get(node, 0) >= timeline

    def _may(self, seen: Seen) -> bool:
        return not self._named or seen.name in self._named
