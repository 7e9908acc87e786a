"""The question an edge worker asks and the answers it gets: the wire form of both (docs/wire.md)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Self

from cache_policies.positions import MAX_TAGS_PER_ENTRY, Position, PurgeEntry, PurgeKind, WireError, ordered_kind

LEASE_S = 2.0
"""L: how long a worker may call anything fresh, in seconds after it *sent* a question that was answered in full."""
HOLD_S = LEASE_S / 4
"""How long the origin keeps a question open, in seconds."""
ASK_EVERY_S = LEASE_S / 8
"""A worker asks again this often, so that one of its questions is always open at the origin, however far away."""
PAGE_ENTRIES = 500
"""Entries in one answer at the most; a page that does not reach the head renews no lease."""

FEED_PATH = "/edge/v1/feed"
LEAVE_PATH = "/edge/v1/leave"
PURGE_PATH = "/edge/v1/purge"
MAX_PURGE_WAIT_S = 10.0
"""How long whoever keeps the log waits until a purge is live, before it answers how far it is."""
MAX_PURGE_REASON_CHARACTERS = 500


@dataclass(frozen=True, slots=True)
class Question:
    """`What comes after `after`?` - which also reports that everything up to `after` is applied."""

    worker: str
    """Random and new at each process start."""
    edge: str
    contact: int
    """Counts this worker's questions, from 1."""
    after: Position | None
    """None: nothing applied yet; the first question of a worker."""
    after_id: str | None
    public_url: str
    """Where viewers reach this edge; read-backs go there."""

    def to_json(self) -> bytes:
        return json.dumps(
            {
                "worker": self.worker,
                "edge": self.edge,
                "contact": self.contact,
                "after": None if self.after is None else str(self.after),
                "after_id": self.after_id,
                "public_url": self.public_url,
            }
        ).encode()

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        """Raises WireError when the text is not a question."""
        value = _object(text)
        worker, edge, contact = value.get("worker"), value.get("edge"), value.get("contact")
        after, after_id, url = value.get("after"), value.get("after_id"), value.get("public_url")
        if not (isinstance(worker, str) and 8 <= len(worker) <= 64 and isinstance(edge, str) and 1 <= len(edge) <= 32):
            raise WireError("a question names its worker (8 to 64 characters) and its edge (1 to 32)")
        if not isinstance(contact, int) or isinstance(contact, bool) or contact < 1:
            raise WireError("a question carries its contact number, 1 or more")
        if after is not None and (not isinstance(after, str) or not isinstance(after_id, str)):
            raise WireError("a question that names a position names the id found there")
        if not isinstance(url, str):
            raise WireError("a question carries the public address of its edge")
        return cls(
            worker, edge, contact, None if after is None else Position.parse(after), after_id if after else None, url
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """One line of the answer: entries after the question's position (or after the line before), and the head."""

    entries: tuple[PurgeEntry, ...]
    head: Position
    head_id: str
    start: tuple[Position, str] | None = None
    """Oldest retained entry and its id; given when the question had no position."""
    flush: bool = False
    """The question's position is not in this log: raise `*` to the head and go on from there."""
    rewind: tuple[Position, str] | None = None
    """The newest entry of this log, and its id, that the question's history may share with it: the question's own
    position is of an epoch that ended before it. Whoever knows that entry by this id goes back to it, and on with
    `entries`, of which the first begins an epoch; to everybody else it is a flush."""

    def to_json(self) -> bytes:
        return json.dumps(
            {
                "entries": [entry.to_wire() for entry in self.entries],
                "head": str(self.head),
                "head_id": self.head_id,
                "start": None if self.start is None else [str(self.start[0]), self.start[1]],
                "flush": self.flush,
                "rewind": None if self.rewind is None else [str(self.rewind[0]), self.rewind[1]],
            }
        ).encode()

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        """Raises WireError when the line is not an answer."""
        value = _object(text)
        entries, head_id, flush = value.get("entries"), value.get("head_id"), value.get("flush")
        if not isinstance(entries, list) or not isinstance(head_id, str) or not isinstance(flush, bool):
            raise WireError("an answer has entries, a head with its id, and flush")
        return cls(
            tuple(PurgeEntry.from_wire(entry) for entry in entries),
            Position.parse(str(value.get("head"))),
            head_id,
            _place(value, "start"),
            flush,
            _place(value, "rewind"),
        )


@dataclass(frozen=True, slots=True)
class PurgeWish:
    """`Purge this`: what an edge asks of whoever keeps the log, for its operator or because of an origin's answer."""

    edge: str
    kind: PurgeKind
    tags: tuple[str, ...]
    reason: str = ""
    """For the audit list."""
    wait_s: float = 0.0
    """How long to wait until it is live, at most MAX_PURGE_WAIT_S."""

    def to_json(self) -> bytes:
        return json.dumps(
            {
                "edge": self.edge,
                "kind": self.kind.value,
                "tags": list(self.tags),
                "reason": self.reason,
                "wait_s": self.wait_s,
            }
        ).encode()

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        """Raises WireError when the text is not such a wish. Whether its tags can be tags is not looked at here."""
        value = _object(text)
        edge, tags, reason, wait_s = value.get("edge"), value.get("tags"), value.get("reason"), value.get("wait_s")
        if not (isinstance(edge, str) and 1 <= len(edge) <= 32 and edge.isascii() and edge.isprintable()):
            raise WireError("a purge names its edge in 1 to 32 printable ASCII characters")
        if not isinstance(tags, list) or not tags or not all(isinstance(tag, str) and tag for tag in tags):
            raise WireError("a purge names its tags")
        if len(tags) > MAX_TAGS_PER_ENTRY:
            raise WireError(f"a purge names at most {MAX_TAGS_PER_ENTRY} tags, not {len(tags)}")
        if not isinstance(reason, str) or len(reason) > MAX_PURGE_REASON_CHARACTERS:
            raise WireError(f"the reason of a purge is text of at most {MAX_PURGE_REASON_CHARACTERS} characters")
        if isinstance(wait_s, bool) or not isinstance(wait_s, int | float) or not 0 <= wait_s <= MAX_PURGE_WAIT_S:
            raise WireError(f"a purge waits 0 to {MAX_PURGE_WAIT_S:g} seconds")
        return cls(edge, ordered_kind(value.get("kind")), tuple(tags), reason, float(wait_s))


def _place(value: dict[str, Any], name: str) -> tuple[Position, str] | None:
    """A position of the log with the id found there. Raises WireError."""
    place = value.get(name)
    if place is None:
        return None
    if not (isinstance(place, list) and len(place) == 2 and all(isinstance(part, str) for part in place)):
        raise WireError(f"an answer's {name} is a position and an id")
    return Position.parse(place[0]), place[1]


def _object(text: bytes) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as exc:
        raise WireError(f"not JSON: {exc}") from exc
    if not isinstance(value, dict):
        raise WireError("not a JSON object")
    return value
