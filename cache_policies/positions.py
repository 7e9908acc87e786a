"""Positions in the purge log, and the entries found there (docs/wire.md)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple, Self

_POSITION = re.compile(r"(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,17})")

ENTRY_VERSION = 1
MAX_TAGS_PER_ENTRY = 1_000
MAX_TAGS_PER_RESPONSE = 50
"""CloudFront drops the tags past the 50th silently; what we accept here must be accepted there."""
MAX_TAG_CHARACTERS = 256


class WireError(ValueError):
    """Text from the other side that does not follow docs/wire.md: refused, never guessed."""


class Position(NamedTuple):
    """A place in the purge log: compared as a pair, written `epoch.cv`.

    `epoch` is raised by the first transaction of a promoted or restored primary; `cv` counts the
    transactions that changed anything a public page shows, without gaps.
    """

    epoch: int
    cv: int

    def __str__(self) -> str:
        return f"{self.epoch}.{self.cv}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """The position written as `epoch.cv`. Raises WireError on anything else."""
        match = _POSITION.fullmatch(text)
        if match is None:
            raise WireError(f"not a position: {text[:40]!r}, expected EPOCH.CV such as 1.7041")
        return cls(int(match[1]), int(match[2]))


ZERO = Position(0, 0)
"""Below every position that a database gives out."""


class PurgeKind(StrEnum):
    """What a purge does to the stored responses that carry its tags."""

    HARD = "hard"
    """Price, stock band, takedown, erasure: never served again."""
    SOFT = "soft"
    """Copy, images: served as stale only, until refreshed."""


@dataclass(frozen=True, slots=True)
class PurgeEntry:
    """One row of the purge log: everything that carries one of `tags` and is older than `position` is purged."""

    position: Position
    id: str
    """Random, so that the same number in another history is told apart."""
    kind: PurgeKind
    tags: tuple[str, ...]

    def to_wire(self) -> dict[str, Any]:
        return {
            "v": ENTRY_VERSION,
            "position": str(self.position),
            "id": self.id,
            "kind": self.kind.value,
            "tags": list(self.tags),
        }

    @classmethod
    def from_wire(cls, value: object) -> Self:
        """The entry in decoded JSON. Raises WireError; an unknown version is refused, not guessed."""
        if not isinstance(value, dict):
            raise WireError("a purge entry must be an object")
        if value.get("v") != ENTRY_VERSION:
            raise WireError(f"purge entry version {value.get('v')!r} is not understood, only {ENTRY_VERSION}")
        tags, entry_id = value.get("tags"), value.get("id")
        if not isinstance(tags, list) or not tags or not all(isinstance(tag, str) and tag for tag in tags):
            raise WireError("a purge entry must name its tags")
        if len(tags) > MAX_TAGS_PER_ENTRY:
            raise WireError(f"a purge entry names at most {MAX_TAGS_PER_ENTRY} tags, not {len(tags)}")
        if not isinstance(entry_id, str) or not entry_id:
            raise WireError("a purge entry must have an id")
        try:
            kind = PurgeKind(str(value.get("kind")))
        except ValueError as exc:
            raise WireError(f"purge kind {value.get('kind')!r} is not understood") from exc
        return cls(Position.parse(str(value.get("position"))), entry_id, kind, tuple(tags))
