"""Cache-Status (RFC 9211): what this edge did with a request, in one field."""

from __future__ import annotations

import re
from dataclasses import dataclass

from edge.core.reuse import FwdReason

_TOKEN = re.compile(r"[A-Za-z*][!#$%&'*+.^_`|~0-9A-Za-z:/-]*")


@dataclass(frozen=True, slots=True)
class CacheStatus:
    """One member of Cache-Status. `hit` and `fwd` exclude each other (RFC 9211 §2). It never says `key`, which
    would tell everybody what of a request does not count."""

    cache: str
    """Name of this cache: a token such as `nearshelf-eu`."""
    hit: bool = False
    """Answered without asking the origin for this request; a stale answer refreshed in the background is a hit."""
    fwd: FwdReason | None = None
    fwd_status: int | None = None
    """The origin's status, where it is not the one the viewer gets."""
    ttl: int | None = None
    """Seconds of freshness left; negative when stale."""
    stored: bool = False
    collapsed: bool = False
    """Answered by another request's forwarding."""
    detail: str | None = None
    """A word of `reuse.Why`, `storing.Reason` or the gateway's errors."""

    def text(self) -> str:
        """The member as it stands in the field: `nearshelf-eu; fwd=stale; fwd-status=304; stored; detail=expired`."""
        text = self.cache
        if self.hit:
            text += "; hit"
        elif self.fwd is not None:
            text += f"; fwd={self.fwd.value}"
        if self.fwd_status is not None:
            text += f"; fwd-status={self.fwd_status}"
        if self.ttl is not None:
            text += f"; ttl={self.ttl}"
        if self.stored:
            text += "; stored"
        if self.collapsed:
            text += "; collapsed"
        if self.detail is not None:
            text += f"; detail={_item(self.detail)}"
        return text


def _item(detail: str) -> str:
    return detail if _TOKEN.fullmatch(detail) else _string(detail)


def _string(text: str) -> str:
    """A structured string (RFC 9651 §3.3.3), without what none may hold."""
    shown = "".join(character for character in text if " " <= character <= "~")
    return '"' + shown.replace("\\", "\\\\").replace('"', '\\"') + '"'
