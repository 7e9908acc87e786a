"""Positions in the purge log, and the entries found there (docs/wire.md)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple, Self

_POSITION = re.compile(r"(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,17})")

ENTRY_VERSION = 1
EPOCH_VERSION = 2
"""Of entries of kind `epoch`: who does not know them must not guess what they do."""
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
    """What an entry of the purge log does."""

    HARD = "hard"
    """Price, stock band, takedown, erasure: what carries its tags is never served again."""
    SOFT = "soft"
    """Copy, images: what carries its tags is served as stale only, until refreshed."""
    EPOCH = "epoch"
    """No purge: the first entry of a promoted or restored primary. Nobody orders one."""


ORDERED_KINDS = (PurgeKind.HARD, PurgeKind.SOFT)
"""What a purge can be that somebody orders."""


def ordered_kind(text: object) -> PurgeKind:
    """The kind of a purge as somebody spelt it: hard or soft. Raises WireError."""
    for kind in ORDERED_KINDS:
        if text == kind.value:
            return kind
    raise WireError(f"purge kind {text!r} is not understood")


@dataclass(frozen=True, slots=True)
class PurgeEntry:
    """One row of the purge log: everything that carries one of `tags` and is older than `position` is purged.

    One of kind `epoch` has no tags and says where its history left the one before: after `(e, fork_cv)` comes
    `(e + 1, fork_cv + 1)`, so that positions have no gap there either.
    """

    position: Position
    id: str
    """Random, so that the same number in another history is told apart."""
    kind: PurgeKind
    tags: tuple[str, ...]
    fork_cv: int | None = None
    """The `cv` that the epoch inherited; None for all other kinds."""

    def to_wire(self) -> dict[str, Any]:
        value: dict[str, Any] = {
            "v": ENTRY_VERSION,
            "position": str(self.position),
            "id": self.id,
            "kind": self.kind.value,
            "tags": list(self.tags),
        }
        if self.fork_cv is not None:
            value |= {"v": EPOCH_VERSION, "fork_cv": self.fork_cv}
        return value

    @classmethod
    def from_wire(cls, value: object) -> Self:
        """The entry in decoded JSON. Raises WireError; an unknown version is refused, not guessed."""
        if not isinstance(value, dict):
            raise WireError("a purge entry must be an object")
        version, entry_id = value.get("v"), value.get("id")
        if type(version) is not int or version not in {ENTRY_VERSION, EPOCH_VERSION}:
            raise WireError(f"purge entry version {version!r} is not understood, only 1 and 2")
        if not isinstance(entry_id, str) or not entry_id:
            raise WireError("a purge entry must have an id")
        position, tags = Position.parse(str(value.get("position"))), value.get("tags")
        if version == EPOCH_VERSION:
            fork_cv = value.get("fork_cv")
            if value.get("kind") != PurgeKind.EPOCH.value or tags != []:
                raise WireError("a purge entry of version 2 is of kind epoch, and names no tags")
            if type(fork_cv) is not int or not 0 <= fork_cv == position.cv - 1:
                raise WireError(f"an epoch that begins at {position} inherited {position.cv - 1}, not {fork_cv!r}")
            return cls(position, entry_id, PurgeKind.EPOCH, (), fork_cv)
        if not isinstance(tags, list) or not tags or not all(isinstance(tag, str) and tag for tag in tags):
            raise WireError("a purge entry must name its tags")
        if len(tags) > MAX_TAGS_PER_ENTRY:
            raise WireError(f"a purge entry names at most {MAX_TAGS_PER_ENTRY} tags, not {len(tags)}")
        return cls(position, entry_id, ordered_kind(value.get("kind")), tuple(tags))
