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

    def said(self, seen: Seen, now: float) -> None:
        self._said[seen.node] = now, seen

    def is_none(self, node: str) -> None:
        """That one is a primary."""
        self._said.pop(node, None)

    def seen_since(self, then: float) -> dict[str, Seen]:
        return {node: seen for node, (seen_at, seen) in self._said.items() if seen_at >= then}

    def asked_since(self, then: float) -> dict[str, Seen]:
        return {node: seen for node, (_, seen) in self._said.items() if seen.sent_at >= then}

    def furthest(self, answering: Mapping[str, Seen], primary: str, favourite: str | None = None) -> str | None:
        """The one to promote, `favourite` if there are several; None where one that may be promoted does not answer:
        it may be the only one that has some acknowledged change."""
        able = {node: seen for node, seen in answering.items() if node != primary and self._may(seen)}
        if self._named:
            known = {node for node, (_, seen) in self._said.items() if node != primary and self._may(seen)}
            is_everybody_here = known <= able.keys() and self._named <= {seen.name for seen in able.values()}
        else:
            is_everybody_here = able.keys() == self._nodes - {primary}
        if not is_everybody_here:
            return None
        return max(able, key=lambda node: (able[node].received, node == favourite), default=None)

    def _may(self, seen: Seen) -> bool:
        return not self._named or seen.name in self._named
