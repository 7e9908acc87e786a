"""The way that replication takes between two databases, so that it can be broken: a folder of names for their sockets.

A standby reaches its primary by a name in this folder. The name is a link: to the primary's own socket, so that nothing
lies between them; to the relay's, when what comes through is to be held, slowed or spoilt; or it is not there. Whoever
changes it ends the streams that are open, and the standby comes again by the new way within a tenth of a second.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

EDGE = CHANNEL = "replication"
"""What the relay calls it, beside the edges."""


class ReplicationLine:
    """`folder`: of the names, private to the databases' account. `sockets`: where they listen. `ports`: theirs."""

    def __init__(self, folder: Path, sockets: Path, ports: tuple[int, ...]) -> None:
        self.folder = folder
        self._sockets = sockets
        self._ports = ports

    def lead_directly(self) -> None:
        for port in self._ports:
            self._lead(port, self._sockets / _name(port))

    def lead_through_relay(self) -> None:
        for port in self._ports:
            self._lead(port, self._relayed(port))

    def lead_nowhere(self) -> None:
        for port in self._ports:
            (self.folder / _name(port)).unlink(missing_ok=True)

    def relay_plan(self) -> list[dict[str, Any]]:
        """More channels for infra.local.relay."""
        return [
            {
                "edge": EDGE,
                "channel": CHANNEL,
                "port": 0,
                "target_port": 0,
                "rtt_ms": 0.0,
                "path": str(self._relayed(port)),
                "target_path": str(self._sockets / _name(port)),
            }
            for port in self._ports
        ]

    def _relayed(self, port: int) -> Path:
        return self.folder / f"relay.{port}"

    def _lead(self, port: int, target: Path) -> None:
        draft = self.folder / f"new.{port}"
        draft.unlink(missing_ok=True)
        draft.symlink_to(target)
        draft.replace(self.folder / _name(port))


def _name(port: int) -> str:
    """As PostgreSQL's clients look for it."""
    return f".s.PGSQL.{port}"
