"""From candidate stored responses to one decision: what may answer this request (RFC 9111 §4, RFC 5861, rule 2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from edge.core.floors import Floors, Lease
from edge.core.http import Request
from edge.core.policy import CachePolicy
from edge.core.stored import StoredResponse


class FwdReason(StrEnum):
    """Why a request was forwarded: the `fwd` values of RFC 9211 §2.2."""

    BYPASS = "bypass"
    METHOD = "method"
    URI_MISS = "uri-miss"
    VARY_MISS = "vary-miss"
    REQUEST = "request"
    STALE = "stale"


class Why(StrEnum):
    """The `detail` beside a decision: one closed vocabulary for header, access log and metrics."""

    EXPIRED = "expired"
    PURGED_HARD = "purged-hard"
    PURGED_SOFT = "purged-soft"
    LEASE_LAPSED = "lease-lapsed"
    NO_CACHE = "no-cache"
    NOT_STORED = "not-stored"
    UNSAFE_METHOD = "unsafe-method"
    POLICY_NEVER_STORES = "policy-never-stores"
    STALE_WHILE_REVALIDATE = "stale-while-revalidate"
    STALE_IF_ERROR = "stale-if-error"
    STALE_MARKED = "stale-marked"


@dataclass(frozen=True, slots=True)
class Fresh:
    stored: StoredResponse


@dataclass(frozen=True, slots=True)
class Stale:
    """Servable now, and to be refreshed behind the viewer's back."""

    stored: StoredResponse
    why: Why


@dataclass(frozen=True, slots=True)
class MustValidate:
    """The origin must be asked, with this response's validator.

    `stored` may serve as stale-if-error only where `on_error` still finds it servable.
    """

    stored: StoredResponse
    why: Why
    demand_head: bool = False


@dataclass(frozen=True, slots=True)
class Absent:
    fwd: FwdReason
    why: Why
    demand_head: bool = False


def decide_reuse(
    request: Request,
    candidates: Sequence[StoredResponse],
    policy: CachePolicy,
    floors: Floors,
    lease: Lease,
    now: float,
) -> Fresh | Stale | MustValidate | Absent:
    """What may answer `request`. Newest candidate first; floors before anything else; nothing fresh without a lease."""
    raise NotImplementedError


def on_error(
    candidates: Sequence[StoredResponse],
    request: Request,
    policy: CachePolicy,
    floors: Floors,
    lease: Lease,
    now: float,
) -> Stale | None:
    """What may be served although the origin failed (RFC 5861 §4, rule 5); None: answer the error.

    With the lease held: within stale-if-error, Why.STALE_IF_ERROR. With it lapsed: only where the policy says
    stale-marked, Why.STALE_MARKED. Hard floors hold in both.
    """
    raise NotImplementedError
