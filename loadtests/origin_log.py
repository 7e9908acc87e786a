"""The origin's own account of what edges fetched: its access log, from a moment on (docs/wire.md, JSON lines)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import unquote


class OriginLog:
    """One log file, which may not be there."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._from = 0

    def begin(self) -> None:
        """Lines count from now on."""
        if self._path is not None and self._path.exists():
            self._from = self._path.stat().st_size

    def fetches(self, targets: Iterable[str], edges: Mapping[str, str]) -> dict[str, int] | None:
        """How often each edge fetched one of `targets` (path and query, as viewers ask); None: no log can be read.

        `edges`: the authority by which viewers know an edge -> its name.
        """
        if self._path is None:
            return None
        wanted = {_target(*target.partition("?")[::2]) for target in targets}
        found = dict.fromkeys(edges.values(), 0)
        try:
            with self._path.open("rb") as file:
                file.seek(self._from)
                for line in file:
                    entry = json.loads(line)
                    edge = edges.get(entry["host"])
                    if entry["edge_key"] and edge is not None and _target(entry["path"], entry["query"]) in wanted:
                        found[edge] += 1
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return found


def _target(path: str, query: str) -> tuple[str, str]:
    """One spelling: the origin writes paths decoded, viewers send them percent-encoded."""
    return unquote(path), query
