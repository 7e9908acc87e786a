"""What goes over the wire, on both sides of CloudFront."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

Pairs = tuple[tuple[str, str], ...]
"""Field lines, names in lower case."""


def values_of(pairs: Pairs, name: str) -> list[str]:
    return [value for key, value in pairs if key == name]


def joined(pairs: Pairs, name: str) -> str | None:
    found = values_of(pairs, name)
    return ", ".join(found) if found else None


@dataclass(frozen=True)
class Viewer:
    """A viewer's request as it reaches an edge location."""

    method: str
    target: str
    """Path and query as sent."""
    headers: Pairs
    """Without Host."""
    host: str
    ip: str = "203.0.113.9"
    country: str | None = None
    """As CloudFront knows it from the address; None: unknown."""
    body: bytes = b""


@dataclass(frozen=True)
class OriginRequest:
    """What CloudFront sends to an origin."""

    domain: str
    method: str
    uri: str
    query: str
    headers: Pairs
    """Custom headers of the origin included."""


@dataclass(frozen=True)
class OriginAnswer:
    status: int
    headers: Pairs
    body: bytes = b""


Origin = Callable[[OriginRequest], OriginAnswer | None]
"""What the origins say; None: there is no connection."""


@dataclass(frozen=True)
class Lifetimes:
    """How long CloudFront uses a copy, seconds from now."""

    fresh_s: float
    revalidate_s: float
    """After freshness: served at once while it is refreshed."""
    error_s: float
    """After freshness: served when the origin fails. Without `stale-if-error` that is until the copy is thrown away."""


@dataclass(frozen=True)
class Outcome:
    """What CloudFront made of a request, and why."""

    status: int
    headers: Pairs = ()
    body: bytes = b""
    by: str = "origin"
    """Who answered: `cloudfront`, `viewer-request`, `origin-request`, `origin`, `store`."""
    behaviour: str = "*"
    uri: str = ""
    """As the viewer-request Function wrote it; empty where that answered."""
    query: str = ""
    key: tuple[tuple[str, str], ...] | None = None
    """None: nothing is kept there, whatever an answer says."""
    asked: tuple[OriginRequest, ...] = ()
    lifetimes: Lifetimes | None = None
    """Of what was kept; None: nothing was."""
    tags: tuple[str, ...] = ()
    """By which what was kept can be invalidated."""
    rate_rules: tuple[str, ...] = ()
    """Those that count this request."""
    routes: tuple[str, ...] = ()
    """Ids of its route by the packages of the handlers that ran."""


class Refused(Exception):
    """CloudFront does not take what a function returned: 502 for the viewer."""


def header_map(pairs: Pairs) -> Mapping[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    return found
