"""What a flight is sent for, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from cache_policies.positions import Position
from edge.core.http import Request
from edge.core.key import CacheKey
from edge.core.policy import Match
from edge.core.residency import Placed
from edge.core.stored import StoredResponse
from edge.gateway.growing import Growing, Reader
from edge.gateway.origin import ErrorKind, OnInterim, OriginError, OriginResponse

REGIONAL = "regional"
"""Why an answer did not come from the origin, nor from this worker's store: another worker of the site had it."""
_SAID_AT_ONCE = frozenset(
    {ErrorKind.DESTINATION_UNAVAILABLE, ErrorKind.CONNECTION_LIMIT_REACHED, ErrorKind.PROXY_CONFIGURATION_ERROR}
)
"""Errors that the next request would meet again: nobody was asked, so that the origin is left alone."""


@dataclass(frozen=True, slots=True)
class Errand:
    """What a flight is sent for."""

    request: Request
    match: Match
    key: CacheKey
    validate: StoredResponse | None
    """Its validator goes along, and a 304 freshens it."""
    known_tags: tuple[str, ...] | None
    """Tags the key's last response carried; None when none is known."""
    demand_head: bool
    country: str
    placed: Placed
    """Who is asked."""
    applied: Position | None = None
    """What this worker had applied when the viewer arrived."""
    shared: bool = True
    """Whether what comes of it may answer others who ask for the same, and the other way round."""
    stood_in: bool = False
    """Something may be shown instead where the origin is not asked."""
    ranged: bool = False
    """Only a part is asked for: it is cut from the whole, or asked for by itself (`Apart`)."""
    hint: OnInterim | None = None
    """Takes the interim responses (RFC 8297) for the viewer who leads; never raises."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A response that may be shared: storable, and not below the floors when it was put into the store."""

    stored: StoredResponse
    taken: bool
    """Whether the store took it: not when it holds a newer one, has no room for it, or when the key was invalidated
    meanwhile."""
    fwd_status: int | None
    """The origin's; None where it was not asked."""
    sent_at: float
    origin_s: float
    validated: bool = False
    regional: bool = False
    """Found in the tier that the workers of the site share."""


@dataclass(frozen=True, slots=True)
class Overtaken:
    """A whole labelled answer that reached the position it was asked for, and was below the floors when it landed:
    not stored, and only for viewers who arrived before what it lacks was live (`Flights._may_take`)."""

    stored: StoredResponse
    fwd_status: int
    sent_at: float
    origin_s: float


@dataclass(slots=True)
class NotKept:
    """A response for one viewer only: not storable, or too large. The first to claim it streams it."""

    response: OriginResponse
    reason: str
    sent_at: float
    origin_s: float
    _claimed: bool = field(default=False)

    def claim(self) -> bool:
        claimed, self._claimed = self._claimed, True
        return not claimed

    def abandon_unclaimed(self) -> None:
        if self.claim():
            self.response.abandon()


@dataclass(frozen=True, slots=True)
class Failed:
    """No usable response: an OriginError, or answers that stayed below the floors of their own tags."""

    error: OriginError | None
    reason: str
    origin_s: float
    fwd_status: int | None = None

    @property
    def gave_way(self) -> bool:
        """Whether there was only no place for it at the origin, which nobody says is failing."""
        return self.error is not None and self.error.kind is ErrorKind.CONNECTION_LIMIT_REACHED

    @property
    def worth_another_try(self) -> bool:
        """Whether whoever waited for it may ask once more: what failed was this request, as far as anybody knows."""
        return self.error is not None and self.error.kind not in _SAID_AT_ONCE


@dataclass(frozen=True, slots=True)
class Apart:
    """A part that cannot be cut from a shared whole, for there will be none, or not soon: ask for the part itself."""


Fetched = Kept | Overtaken | NotKept | Failed
"""What a flight ends with."""
Landed = Fetched | Growing | Apart
"""What a viewer gets of it."""


@dataclass(frozen=True, slots=True)
class Taken:
    """One viewer's share of a flight."""

    landed: Landed
    collapsed: bool
    reader: Reader | None = None
    """Of a body that is still growing: to be left whatever happens."""
