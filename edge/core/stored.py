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


class Form:
    """One way of sending a stored response: with its body as received, or with that in one content coding."""

    __slots__ = ("body", "head", "told", "told_until")

    def __init__(self, body: bytes) -> None:
        self.body = body
        """Empty for a coding in which it is being made, or would not be shorter: then it is sent as received."""
        self.head = b""
        """What stays of a hit's head (`delivery.form_head`); empty before the first hit."""
        self.told = b""
        """The whole head of a hit, with its age and what Cache-Status says, as this edge wrote it last."""
        self.told_until = float("-inf")
        """Until when that is true, in seconds of the edge's clock."""


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
    forms: dict[str, Form] | None = field(default=None, init=False, compare=False, repr=False)
    """How it is sent, by content coding (`compression.CODINGS`; ``""``: as received). The gateway makes each when it is
    first asked for."""

    def __post_init__(self) -> None:
        # A store holds very many: what they have in common each holds once.
        self.headers = self.headers.shared()
        self.tags = tuple([_shared_tag(tag) for tag in self.tags])
        self.position = _shared_position(self.position)

    def form(self, coding: str) -> Form | None:
        """How it is sent in `coding`; None: nobody has asked for that yet."""
        return None if self.forms is None else self.forms.get(coding)

    def keep_form(self, coding: str, form: Form) -> None:
        if self.forms is None:
            self.forms = {}
        self.forms[coding] = form

    def take_copies(self, other: StoredResponse) -> None:
        """The coded copies of a response with the same body; their heads are rendered anew."""
        for coding, form in (other.forms or {}).items():
            if coding:
                self.keep_form(coding, Form(form.body))

    @property
    def size(self) -> int:
        """Bytes held against the store's budget: the body, its coded copies, and a fair guess at the rest."""
        return (
            len(self.body)
            + sum(len(form.body) for coding, form in (self.forms or {}).items() if coding)
            + sum(len(name) + len(value) + 120 for name, value in self.headers.pairs)
            + 1_000
        )
