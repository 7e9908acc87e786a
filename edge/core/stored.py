"""A stored response: parsed once when it is stored, so that a lookup is arithmetic on numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

from cache_policies.positions import Position
from edge.core.http import Headers
from edge.core.key import CacheKey


@lru_cache(maxsize=8_192)
def _shared_tag(tag: str) -> str:
    """The first equal one that was seen lately."""
    return tag


@lru_cache(maxsize=64)
def _shared_position(position: Position) -> Position:
    return position


_NEVER = float("-inf")
_OBJECTS_BYTES = 1_550
"""What everything but body, fields and tags takes: the objects, the key, its places in the store."""


class Form:
    """One way of sending a stored response: with its body as received, or with that in one content coding."""

    __slots__ = ("age", "body", "coding", "kept", "reason", "start", "status", "told", "told_until", "ttl")

    def __init__(self, coding: str, body: bytes) -> None:
        self.coding = coding
        """Empty: as received."""
        self.body = body
        """Empty while it is being coded: until then it is sent as received."""
        self.start = b""
        """Where a hit's head begins: what it has in common with many others, held once for all of them. Empty before
        the first hit."""
        self.told = b""
        """The rest of a hit's head, with its age and what Cache-Status says, as this edge wrote it last."""
        self.kept = 0
        """Octets at the beginning of `told` that do not change with its age."""
        self.told_until = _NEVER
        """Until when that is true, in seconds of the edge's clock."""
        self.status = self.age = self.ttl = 0
        """What it tells, for the access log; seconds."""
        self.reason = ""
        """Why it is shown though it is stale; empty: it is fresh."""

    def tell(self, start: bytes, own: bytes, rest: bytes, until: float) -> None:
        """The next hits are told `start` and `own` (`delivery.form_head`), and `rest`, which is true `until` then."""
        self.start, self.told, self.kept, self.told_until = start, own + rest, len(own), until


@dataclass(slots=True)
class StoredResponse:
    """One variant under a key. Times are seconds of the edge's clock, which counts suspension and never steps.

    Not changed after it is stored, but for `judged_at` and what hits keep; freshening by a 304 makes a new one.
    """

    key: CacheKey
    policy_version: str
    """`CachePolicy.version` of the policy it was stored under: under another it counts as absent."""
    status: int
    headers: Headers
    """End-to-end fields as received; what must not reach a viewer is removed on delivery."""
    body: bytes
    vary: tuple[tuple[str, str | None], ...]
    """Field names this response varies on, with the values of the request that fetched it (`variants.vary_values`)."""
    etag: str | None
    """As received, quotes and weakness included."""
    position: Position
    tags: tuple[str, ...]
    stored_at: float
    initial_age_s: float
    """Corrected initial age (RFC 9111 §4.2.3): what it had aged before it was stored."""
    no_cache: bool
    """The origin wants to be asked before every reuse."""
    fresh_until: float
    revalidate_until: float
    """End of stale-while-revalidate; equal to `fresh_until` when there is none."""
    error_until: float
    """End of stale-if-error."""
    keep_until: float
    unreachable_until: float = 0.0
    """End of what `CachePolicy.stale_if_unreachable_s` allows."""
    judged_at: int = -1
    """`Floors.sequence` when it was last found current: nothing to compare while that has not moved."""
    hits: int = field(default=0, init=False, compare=False, repr=False)
    """How often this worker has answered from it, for whoever looks."""
    received: Form | None = field(default=None, init=False, compare=False, repr=False)
    """How it is sent as it was received. The gateway makes this and the next when they are first asked for."""
    coded: dict[str, Form] | None = field(default=None, init=False, compare=False, repr=False)
    """How it is sent to who wants a content coding, by its name (`compression.CODINGS`); where it would make nothing
    shorter, the form as received."""

    def __post_init__(self) -> None:
        # A store holds very many: what they have in common each holds once.
        self.headers = self.headers.shared()
        self.tags = tuple([_shared_tag(tag) for tag in self.tags])
        self.position = _shared_position(self.position)

    def form(self, coding: str) -> Form | None:
        """How it is sent in `coding`, or as received for ``""``; None: nobody has asked for that yet."""
        if not coding:
            return self.received
        return None if self.coded is None else self.coded.get(coding)

    def keep_form(self, coding: str, form: Form) -> None:
        if not coding:
            self.received = form
        elif self.coded is None:
            self.coded = {coding: form}
        else:
            self.coded[coding] = form

    def take_copies(self, other: StoredResponse) -> None:
        """The coded copies of a response with the same body; their heads are rendered anew."""
        for form in other.copies:
            self.keep_form(form.coding, Form(form.coding, form.body))

    @property
    def copies(self) -> list[Form]:
        """Its coded copies, also those that are being made."""
        return [form for form in self.coded.values() if form.coding] if self.coded else []

    @property
    def size(self) -> int:
        """Bytes held against the store's budget: what it costs the process in memory once it was hit, as
        `python -m loadtests.bench memory` measures it. A head that was rendered is about as long as the fields."""
        return (
            len(self.body)
            + sum([len(form.body) for form in self.copies])
            + sum([len(name) + len(value) for name, value in self.headers.pairs])
            + 64 * len(self.tags)
            + _OBJECTS_BYTES
        )
