"""From candidate stored responses to one decision: what may answer this request (RFC 9111 §4, RFC 5861, rule 2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from cache_policies.fields import HARD_END_FIELD
from edge.core.directives import response_directives
from edge.core.floors import Floors, Lease, Verdict
from edge.core.freshness import current_age
from edge.core.http import Request
from edge.core.policy import Auth, CachePolicy, OnLeaseLapse
from edge.core.request_directives import RequestDirectives, request_directives
from edge.core.stored import StoredResponse
from edge.core.variants import vary_values

NOTICE_SLOT = b"<!--nearshelf:notice-->"
"""Where a page has its notice, when it is shown stale-marked (rule 5)."""


class FwdReason(StrEnum):
    """Why a request was forwarded: the `fwd` values of RFC 9211 §2.2."""

    BYPASS = "bypass"
    METHOD = "method"
    URI_MISS = "uri-miss"
    VARY_MISS = "vary-miss"
    REQUEST = "request"
    """A stored response would do, but not for this request's own Cache-Control."""
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
    STALE_IF_UNREACHABLE = "stale-if-unreachable"
    """No connection to the origin could be made, or it broke (RFC 9111 §4.2.4)."""
    STALE_MARKED = "stale-marked"
    REQUEST_NO_CACHE = "request-no-cache"
    REQUEST_NO_STORE = "request-no-store"
    REQUEST_MAX_AGE = "request-max-age"
    REQUEST_MIN_FRESH = "request-min-fresh"
    REQUEST_MAX_STALE = "request-max-stale"
    """Stale, and the request takes it nevertheless."""
    ONLY_IF_CACHED = "only-if-cached"
    OVERTAKEN = "overtaken"
    """Purged while it was fetched, again and again: shown to one who arrived before that, and not stored."""


@dataclass(frozen=True, slots=True)
class Fresh:
    stored: StoredResponse


@dataclass(frozen=True, slots=True)
class Stale:
    """Servable now; unless `refresh` is false, to be refreshed behind the viewer's back."""

    stored: StoredResponse
    why: Why
    refresh: bool = True


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

    @property
    def past_store(self) -> bool:
        """Whether what the origin says is for this viewer alone: neither kept nor shared (`forward_request`)."""
        return self.fwd in _PAST_STORE or self.why is Why.REQUEST_NO_STORE


_PAST_STORE = frozenset({FwdReason.BYPASS, FwdReason.METHOD})


@dataclass(frozen=True, slots=True)
class Unsatisfiable:
    """The request takes nothing but what is stored, and there is nothing that may be used: 504 (RFC 9111 §5.2.1.7)."""

    why: Why = Why.ONLY_IF_CACHED


Decision = Fresh | Stale | MustValidate | Absent | Unsatisfiable


def decide_reuse(
    request: Request,
    candidates: Sequence[StoredResponse],
    policy: CachePolicy,
    floors: Floors,
    lease: Lease,
    now: float,
    *,
    heed: bool = True,
) -> Decision:
    """What may answer `request`. Newest candidate first; floors before anything else; nothing fresh without a lease.

    The request's own Cache-Control counts where the policy honours it, unless `heed` is false (RFC 9111 §5.2.1 leaves
    that to the cache): elsewhere a viewer cannot make the edge ask the origin, nor make it serve what is stale. What is
    purged is still of use for validation: the origin says in 304 that the body has not changed since, and the floors
    say from when on it must know that. What was stored under a policy that decided otherwise counts as absent.
    """
    if policy.honour_request and heed:
        asked = request_directives(request.headers)
        if asked is not None:
            found = decide_reuse(request, candidates, policy, floors, lease, now, heed=False)
            return _as_asked(asked, found, policy, now)
    if not policy.store:
        # Nothing of it is stored, but a price read from a lagging replica would be as old as a stored one.
        return Absent(FwdReason.BYPASS, Why.POLICY_NEVER_STORES, policy.shows_price and now >= lease.until)
    if request.method not in policy.methods:
        return Absent(FwdReason.METHOD, Why.UNSAFE_METHOD, policy.shows_price and now >= lease.until)
    version = policy.version
    known = False
    for stored in candidates:
        if stored.policy_version != version:
            continue
        known = True
        if stored.vary and not selected(request, stored, policy):
            continue
        if policy.auth is _SHARED and not _may_be_shown(request, stored):
            return Absent(FwdReason.REQUEST, Why.AUTHORIZATION, now >= lease.until)
        return standing(stored, floors, lease, now)
    return Absent(FwdReason.VARY_MISS if known else FwdReason.URI_MISS, Why.COLD, now >= lease.until)


def standing(stored: StoredResponse, floors: Floors, lease: Lease, now: float) -> Fresh | Stale | MustValidate:
    """What `stored` is good for at `now`, for a request that it is the variant of. Remembers when nothing was purged
    since it was last found current."""
    if stored.judged_at == floors.sequence:
        verdict = _CURRENT
    else:
        verdict = floors.judge(stored)
        if verdict is _CURRENT:
            stored.judged_at = floors.sequence
    if now >= lease.until:
        return MustValidate(stored, Why.LEASE_LAPSED, demand_head=True)
    if verdict is _CURRENT and not stored.no_cache:
        if now < stored.fresh_until:
            return Fresh(stored)
        if now < stored.revalidate_until:
            return Stale(stored, Why.STALE_WHILE_REVALIDATE)
        return MustValidate(stored, Why.EXPIRED)
    if verdict is Verdict.PURGED:
        return MustValidate(stored, Why.PURGED_HARD)
    if stored.no_cache:
        return MustValidate(stored, Why.NO_CACHE)
    if stored.fresh_until < stored.revalidate_until and now < stored.revalidate_until:
        return Stale(stored, Why.PURGED_SOFT)
    return MustValidate(stored, Why.PURGED_SOFT)


_SHARED = Auth.SHARED
_CURRENT = Verdict.CURRENT


def _may_be_shown(request: Request, stored: StoredResponse) -> bool:
    """Whether `stored` may answer a request with Authorization: only where it says that it is for everybody, however
    it was asked for (RFC 9111 §3.5, and a little stricter). Parses what is stored, for these requests alone."""
    return "authorization" not in request.headers or response_directives(stored.headers).shares_authorised


def _as_asked(asked: RequestDirectives, found: Decision, policy: CachePolicy, now: float) -> Decision:
    """What the request's own directives make of a decision (RFC 9111 §5.2.1)."""
    if isinstance(found, Absent) and found.fwd is FwdReason.METHOD:
        return found
    demand_head, fwd = False, FwdReason.STALE
    if isinstance(found, Fresh | Stale):
        unwanted = _unwanted(asked, found, now)
        if unwanted is None and (not asked.no_store or isinstance(found, Fresh)):
            return found
        fwd = FwdReason.REQUEST
        found = MustValidate(found.stored, unwanted or Why.REQUEST_NO_STORE)
    elif (
        isinstance(found, MustValidate) and found.why is Why.EXPIRED and _takes_stale(asked, found.stored, policy, now)
    ):
        return Stale(found.stored, Why.REQUEST_MAX_STALE, refresh=False)
    if asked.only_if_cached:
        return Unsatisfiable()
    if isinstance(found, Absent):
        demand_head, fwd = found.demand_head, found.fwd
    elif isinstance(found, MustValidate):
        demand_head = found.demand_head
    return Absent(fwd, Why.REQUEST_NO_STORE, demand_head) if asked.no_store else found


def _unwanted(asked: RequestDirectives, found: Fresh | Stale, now: float) -> Why | None:
    """Why the request does not take a stored response that would do otherwise."""
    stored = found.stored
    if asked.no_cache:
        return Why.REQUEST_NO_CACHE
    if asked.max_age_s is not None:
        # Without max-stale beside it, it does not take what is stale either (RFC 9111 §5.2.1.1).
        stale = isinstance(found, Stale) and asked.max_stale_s is None
        if stale or current_age(stored, now) > asked.max_age_s:
            return Why.REQUEST_MAX_AGE
    if asked.min_fresh_s is not None and stored.fresh_until - now < asked.min_fresh_s:
        return Why.REQUEST_MIN_FRESH
    return None


def _takes_stale(asked: RequestDirectives, stored: StoredResponse, policy: CachePolicy, now: float) -> bool:
    """Whether max-stale covers a response that nothing forbids to be served stale (RFC 9111 §5.2.1.2, §4.2.4)."""
    if asked.max_stale_s is None or asked.no_cache or asked.min_fresh_s is not None or asked.no_store:
        return False
    if now - stored.fresh_until > asked.max_stale_s or stored.status in dict(policy.negative_s):
        return False
    if asked.max_age_s is not None and current_age(stored, now) > asked.max_age_s:
        return False
    return HARD_END_FIELD not in stored.headers and not response_directives(stored.headers).forbids_stale


def on_error(
    candidates: Sequence[StoredResponse],
    request: Request,
    policy: CachePolicy,
    floors: Floors,
    lease: Lease,
    now: float,
    *,
    unreachable: bool = False,
) -> Stale | None:
    """What may be served although the origin failed (RFC 5861 §4, rule 5); None: answer the error.

    With the lease held: within stale-if-error, Why.STALE_IF_ERROR, for a 500, 502, 503 or 504 and for an origin that is
    `unreachable`: refused, reset, too slow, cut short. For the latter also as long as the policy's
    `stale_if_unreachable_s` allows, Why.STALE_IF_UNREACHABLE. With the lease lapsed: only where the policy says
    stale-marked, Why.STALE_MARKED, and only a whole 200, which has to have a notice slot if it shows a price. Hard
    floors hold in all, and what forbids stale answers forbids those below a soft floor. Ask again after every await:
    `candidates` are what the store holds now.
    """
    held = lease.held(now)
    if not policy.store or (not held and policy.on_lease_lapse is not OnLeaseLapse.STALE_MARKED):
        return None
    for stored in candidates:
        if stored.policy_version != policy.version or (stored.vary and not selected(request, stored, policy)):
            continue
        by_error = now < stored.error_until
        if not (by_error or (unreachable and now < stored.unreachable_until)):
            continue
        verdict = floors.judge(stored)
        if verdict is Verdict.PURGED or (verdict is Verdict.STALE_ONLY and not _may_be_stale(stored)):
            continue
        if held:
            return Stale(stored, Why.STALE_IF_ERROR if by_error else Why.STALE_IF_UNREACHABLE)
        if stored.status == 200 and by_error and (not policy.shows_price or _has_slot(stored)):
            return Stale(stored, Why.STALE_MARKED)
    return None


def _has_slot(stored: StoredResponse) -> bool:
    """Whether there is a place for the notice, without which a price would look like a current one. In a body that came
    coded there is none that could be filled."""
    return "content-encoding" not in stored.headers and NOTICE_SLOT in stored.body


def _may_be_stale(stored: StoredResponse) -> bool:
    """Whether it has any stale window: one of those that nothing forbids, and that somebody asked for."""
    return stored.fresh_until < max(stored.revalidate_until, stored.error_until, stored.unreachable_until)


def selected(request: Request, stored: StoredResponse, policy: CachePolicy) -> bool:
    """Whether `stored` is the variant for `request` (RFC 9111 §4.1); a missing field matches only a missing one."""
    return stored.vary == vary_values(request.headers, policy, [name for name, _ in stored.vary])
