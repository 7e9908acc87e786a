"""Requests and responses as values (RFC 9110): what the core decides about. Standard library only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache

LONGEST_SHARED = 1_000
"""Characters of a value up to which a line is remembered for others: 8 MB at the very most."""


@lru_cache(maxsize=8_192)
def _shared(line: tuple[str, str]) -> tuple[str, str]:
    """The first equal line that was seen lately."""
    return line


class Headers:
    """Field lines in the order received; names lower case, values without surrounding blanks (RFC 9110 §5).

    Immutable. A lookup is by lower-case name, line by line: there are a dozen, and an index of each response would
    take more room than its lines.
    """

    __slots__ = ("pairs",)

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        self.pairs: tuple[tuple[str, str], ...] = tuple(pairs)

    def get(self, name: str) -> str | None:
        """The first line of `name`, for fields that are not lists."""
        for key, value in self.pairs:
            if key == name:
                return value
        return None

    def lines(self, name: str) -> list[str]:
        """Every line of `name`, in order."""
        return [value for key, value in self.pairs if key == name]

    def joined(self, name: str) -> str | None:
        """All lines of `name` as one field: a list (RFC 9110 §5.3), or cookies one after the other (RFC 9113 §8.2.3);
        None when absent."""
        lines = self.lines(name)
        return ("; " if name == "cookie" else ", ").join(lines) if lines else None

    def without(self, names: Iterable[str]) -> Headers:
        drop = frozenset(names)
        return Headers([pair for pair in self.pairs if pair[0] not in drop])

    def with_(self, *pairs: tuple[str, str]) -> Headers:
        """These fields replaced (all lines of the same names removed first)."""
        drop = {name for name, _ in pairs}
        return Headers((*(pair for pair in self.pairs if pair[0] not in drop), *pairs))

    def shared(self) -> Headers:
        """The same, in less room: lines that other responses have too are kept once for all of them."""
        return Headers([_shared(line) if len(line[1]) <= LONGEST_SHARED else line for line in self.pairs])

    def __contains__(self, name: object) -> bool:
        for key, _ in self.pairs:  # noqa: SIM110  # half of what any() takes, and asked often
            if key == name:
                return True
        return False

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self.pairs)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Headers) and other.pairs == self.pairs

    def __hash__(self) -> int:
        return hash(self.pairs)

    def __repr__(self) -> str:
        return f"Headers({list(self.pairs)!r})"


@dataclass(frozen=True, slots=True)
class Request:
    """A viewer's request after strict parsing."""

    method: str
    authority: str
    """Host and port as the viewer named them, lower case."""
    path: str
    """As received, still percent-encoded; starts with `/`."""
    query: str
    """Without the `?`; empty when there is none."""
    headers: Headers = field(default_factory=Headers)
    peer: str = ""
    """Address of whoever sent it, as the edge found it (`hops.client_address`); empty when that is unknown."""


@dataclass(frozen=True, slots=True)
class Response:
    """A complete response."""

    status: int
    headers: Headers = field(default_factory=Headers)
    body: bytes = b""


HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authentication-info",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Fields of one connection (RFC 9110 §7.6.1), together with whatever Connection names."""


def list_members(text: str | None) -> list[str]:
    """The members of a list-valued field (RFC 9110 §5.6.1), empty ones left out."""
    return [member for part in (text or "").split(",") if (member := part.strip(" \t"))]


def one_spelling(headers: Headers, name: str) -> str:
    """A field that is there, as all its spellings are told apart from others: one line, small letters, no blanks."""
    return ",".join(list_members(headers.joined(name))).lower()


def end_to_end(headers: Headers) -> Headers:
    """`headers` without those of one connection, and without what Connection names (RFC 9110 §7.6.1)."""
    named = {name.lower() for name in list_members(headers.joined("connection"))}
    return headers.without(HOP_BY_HOP | named)


def is_strong(etag: str | None) -> bool:
    """Whether `etag` is a strong entity tag (RFC 9110 §8.8.3)."""
    return etag is not None and len(etag) >= 2 and etag[0] == etag[-1] == '"'
