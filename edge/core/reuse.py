"""From candidate stored responses to one decision: what may answer this request (RFC 9111 §4, RFC 5861, rule 2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from edge.core.floors import Floors, Lease, Verdict
from edge.core.http import Request
from edge.core.policy import CachePolicy, OnLeaseLapse
from edge.core.stored import StoredResponse
from edge.core.storing import vary_values


class FwdReason(StrEnum):
    """Why a request was forwarded: the `fwd` values of RFC 9211 §2.2."""

    BYPASS = "bypass"
    METHOD = "method"
    URI_MISS = "uri-miss"
    VARY_MISS = "vary-miss"
    STALE = "stale"


class Why(StrEnum):
    """The `detail` beside a decision: one closed vocabulary for header, access log and metrics."""

    EXPIRED = "expired"
    PURGED_HARD = "purged-hard"
    PURGED_SOFT = "purged-soft"
    LEASE_LAPSED = "lease-lapsed"
    NO_CACHE = "no-cache"
    COLD = "cold"
    """Nothing was in the store under this key, or no variant of it for this request."""
    UNSAFE_METHOD = "unsafe-method"
    POLICY_NEVER_STORES = "policy-never-stores"
    AUTHORIZATION = "authorization"
    """Credentials came with the request: neither from the store nor into it."""
    STALE_WHILE_REVALIDATE = "stale-while-revalidate"
    STALE_IF_ERROR = "stale-if-error"
    STALE_MARKED = "stale-marked"
    OVERTAKEN = "overtaken"
    """Purged while it was fetched, again and again: shown to one who arrived before that, and not stored."""


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
    """What may answer `request`. Newest candidate first; floors before anything else; nothing fresh without a lease.

    The request's own Cache-Control does not count (RFC 9111 §5.2.1 leaves that to the cache): a viewer cannot make
    the edge ask the origin, nor make it serve what is stale. What is purged is still of use for validation: the
    origin says in 304 that the body has not changed since, and the floors say from when on it must know that. What was
    stored under a policy that decided otherwise counts as absent.
    """
    if not policy.store:
        # Nothing of it is stored, but a price read from a lagging replica would be as old as a stored one.
        return Absent(FwdReason.BYPASS, Why.POLICY_NEVER_STORES, policy.shows_price and not lease.held(now))
    if request.method not in policy.methods:
        return Absent(FwdReason.METHOD, Why.UNSAFE_METHOD, policy.shows_price and not lease.held(now))
    version = policy.version
    known = False
    for stored in candidates:
        if stored.policy_version != version:
            continue
        known = True
        if stored.vary and not selected(request, stored, policy):
            continue
        if stored.judged_at == floors.sequence:
            verdict = Verdict.CURRENT
        else:
            verdict = floors.judge(stored)
            if verdict is Verdict.CURRENT:
                stored.judged_at = floors.sequence
        if not lease.held(now):
            return MustValidate(stored, Why.LEASE_LAPSED, demand_head=True)
        if verdict is Verdict.PURGED:
            return MustValidate(stored, Why.PURGED_HARD)
        if stored.no_cache:
            return MustValidate(stored, Why.NO_CACHE)
        if verdict is Verdict.STALE_ONLY:
            if stored.fresh_until < stored.revalidate_until and now < stored.revalidate_until:
                return Stale(stored, Why.PURGED_SOFT)
            return MustValidate(stored, Why.PURGED_SOFT)
        if now < stored.fresh_until:
            return Fresh(stored)
        if now < stored.revalidate_until:
            return Stale(stored, Why.STALE_WHILE_REVALIDATE)
        return MustValidate(stored, Why.EXPIRED)
    return Absent(FwdReason.VARY_MISS if known else FwdReason.URI_MISS, Why.COLD, demand_head=not lease.held(now))


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
    stale-marked, Why.STALE_MARKED, and only a whole 200. Hard floors hold in both. Ask again after every await:
    `candidates` are what the store holds now.
    """
    held = lease.held(now)
    if not policy.store or (not held and policy.on_lease_lapse is not OnLeaseLapse.STALE_MARKED):
        return None
    for stored in candidates:
        if stored.policy_version != policy.version or (stored.vary and not selected(request, stored, policy)):
            continue
        if now >= stored.error_until or floors.judge(stored) is Verdict.PURGED:
            continue
        if held:
            return Stale(stored, Why.STALE_IF_ERROR)
        if stored.status == 200:
            return Stale(stored, Why.STALE_MARKED)
    return None


def selected(request: Request, stored: StoredResponse, policy: CachePolicy) -> bool:
    """Whether `stored` is the variant for `request` (RFC 9111 §4.1); a missing field matches only a missing one."""
    return stored.vary == vary_values(request.headers, policy, [name for name, _ in stored.vary])
