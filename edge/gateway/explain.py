"""What an edge decides about one request before it asks anybody, step by step: the gateway's steps, told.

Every decision is made by the function of the core that makes it for a viewer. Used offline by `nearshelf policy
explain`, and by a running worker to say what it would do itself and what it holds.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from cache_policies.fields import TAGS_FIELD, VERSION_FIELD
from cache_policies.positions import Position
from cache_policies.tags import is_path_tag
from edge.core.directives import MAX_DELTA_S, Directives, response_directives
from edge.core.floors import Floors, Lease, Verdict
from edge.core.freshness import Lifetimes, current_age, lifetimes
from edge.core.http import Headers, Request, Response
from edge.core.key import BadTarget, CacheKey, cache_key, dropped_parameters, forward_target, normalise_path
from edge.core.market import ChosenMarket, market_choice, market_redirect
from edge.core.policy import CachePolicy, Match, Mismatch, PolicySet, Redirect, mismatch
from edge.core.request_rules import forward_request, passes_store, refusal
from edge.core.residency import Placed, Unplaced, place
from edge.core.reuse import Absent, Fresh, FwdReason, MustValidate, Stale, Unsatisfiable, Why, decide_reuse, on_error
from edge.core.stored import StoredResponse
from edge.core.storing import DoNotStore, Reason, may_store
from edge.core.tags import policy_tags
from edge.gateway.exchange import MARKET_REDIRECT, NEVER_SERVED
from edge.gateway.server import REFUSALS, Refusal

_ORIGINS_OWN_TAG = "origin"
"""Stands for the tags of an answer that nobody has seen."""
_NOW = 0.0


class PassedOver(NamedTuple):
    """A route that is tried before the one that matched."""

    policy: CachePolicy
    mismatch: Mismatch


class Kept(NamedTuple):
    """How long a stored response of one status is of use: seconds, each counted from the end of the one before, but
    the stale windows, which both count from the end of freshness."""

    fresh_s: float
    stale_while_revalidate_s: float
    stale_if_error_s: float
    stale_if_unreachable_s: float
    keep_s: float


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of a request at an edge whose store is empty and whose lease is held."""

    request: Request
    country: str
    visitor: ChosenMarket | None
    """The market that the entry page would lead this visitor to; None where there are no markets."""
    cache: str
    """As the access log says it: `edge`, `miss` or `pass`."""
    reason: str
    status: int = 0
    """Of the edge's own answer; 0: the origin's."""
    location: str = ""
    """Of a redirect."""
    match: Match | None = None
    """None: no route is looked for, because the address is refused."""
    key: CacheKey | None = None
    passed_over: tuple[PassedOver, ...] = ()
    dropped: tuple[str, ...] = ()
    """Parameters that do not count."""
    fwd: FwdReason | None = None
    forward: Request | None = None
    """What the origin is asked."""
    placed: Placed | None = None
    """Which origin."""
    do_not_store: Reason | None = None
    """Why a whole, labelled 200 would not be stored; None: it would."""
    kept: tuple[tuple[int, Kept], ...] = ()
    """By status: 200, and every status of `negative`; of the answer's own status alone where one is known."""
    ceiling: Kept | None = None
    """The most that an origin could propose."""
    tags: tuple[str, ...] = ()
    """Those of the policy; those of the answer before them where one is known."""

    @property
    def market(self) -> str:
        """The market in the key; empty when the address has none."""
        return self.key.market if self.key is not None else ""


class NoRequest(ValueError):
    """What was described is no request. The text says which part, and what was expected."""


def described_request(
    url: str, method: str, fields: Iterable[tuple[str, str]], peer: str = "", authority: str = ""
) -> Request:
    """The request that somebody describes, as the edge would parse it. Raises NoRequest.

    `url` is an address, or a path with its query: then for the host of the field Host, else for `authority`.
    """
    if _METHOD.fullmatch(method) is None:
        raise NoRequest(f"{method!r} is no method, expected capital letters such as GET")
    pairs = []
    for name, value in fields:
        if _FIELD_NAME.fullmatch(name) is None or _NOT_IN_A_VALUE.search(value):
            raise NoRequest(f"{name!r} is no field of a request, expected 'Name: value'")
        pairs.append((name.lower(), value.strip(" \t")))
    url = url.partition("#")[0]
    if url.startswith("/"):
        path, _, query = url.partition("?")
        authority = next((value.lower() for name, value in pairs if name == "host"), authority)
    else:
        try:
            scheme, netloc, path, query, _ = urlsplit(url)
        except ValueError as exc:
            raise NoRequest(f"{url!r} is no address: {exc}") from None
        if scheme not in {"http", "https"} or not netloc:
            raise NoRequest(f"{url!r} is no address, expected a path such as /eu-eur/, or http://HOST/eu-eur/")
        path, authority = path or "/", netloc.rpartition("@")[2].lower()
    return Request(method, authority, path, query, Headers(pairs), peer)


_METHOD = re.compile(r"[A-Z][A-Z-]{0,19}")
_FIELD_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_NOT_IN_A_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def decide(
    request: Request,
    policies: PolicySet,
    country: str,
    answer: Response | None = None,
    *,
    own_positions: bool = False,
) -> Decision:
    """What an edge with `policies` does with `request`, from a visitor in `country` (ZZ: unknown).

    `answer`: what the origin says, for lifetimes, tags and storing; None: nothing is known of it, so the policy's own
    values are told. `own_positions`: the edge keeps a purge log of its own, so that an answer needs no label.
    """
    visitor = None
    if policies.markets.all:
        visitor = market_choice(
            policies.markets, country, request.headers.joined("cookie"), request.headers.get("user-agent")
        )

    def own(status: int, reason: str, **more: Any) -> Decision:
        return Decision(request, country, visitor, "edge", reason, status, **more)

    if request.method.encode() in NEVER_SERVED:
        return own(REFUSALS[Refusal.METHOD][0], Refusal.METHOD.value)
    try:
        match = policies.match(normalise_path(request.path))
    except BadTarget as exc:
        return own(400, exc.fault.value)
    passed_over = tuple(_passed_over(match, policies))
    try:
        key = cache_key(request, match)
    except BadTarget as exc:
        return own(400, exc.fault.value, match=match, passed_over=passed_over)
    policy = match.policy
    found: dict[str, Any] = {
        "match": match,
        "key": key,
        "passed_over": passed_over,
        "dropped": dropped_parameters(request.query, policy.query),
    }
    if country in policy.blocked_countries:
        return own(REFUSALS[Refusal.COUNTRY_BLOCKED][0], Refusal.COUNTRY_BLOCKED.value, **found)
    refused = refusal(request, match)
    if refused is not None:
        return own(refused.response.status, refused.reason.value, **found)
    if policy.redirect is Redirect.MARKET:
        assert visitor is not None, "the reader of policies lets no redirect pass where there are no markets"
        response = market_redirect(visitor.market)
        return own(response.status, MARKET_REDIRECT, location=response.headers.get("location") or "", **found)
    placed = place(policy, match.market, country, policies.markets, policies.origins)
    if isinstance(placed, Unplaced):
        return own(503, placed.why.value, **found)
    stored: StoredResponse | Reason
    told_country = None if own_positions else country
    if passes_store(request, policy):
        need, stored = Absent(FwdReason.BYPASS, Why.AUTHORIZATION), Reason.AUTHORIZATION
        forward = forward_request(request, match, key, minimum=None, country=told_country)
    else:
        empty = _of_nothing(request, policy)
        if isinstance(empty, Unsatisfiable):
            return own(504, empty.why.value, **found)
        need = empty
        forward = forward_request(request, match, key, minimum=None, country=told_country, past_store=need.past_store)
        by_request = need.why is Why.REQUEST_NO_STORE
        stored = Reason.NO_STORE if by_request else _may_store(forward, answer, match, key, own_positions)
    return Decision(
        request,
        country,
        visitor,
        "pass" if need.past_store else "miss",
        need.why.value,
        fwd=need.fwd,
        placed=placed,
        forward=forward,
        do_not_store=stored if isinstance(stored, Reason) else None,
        kept=() if isinstance(stored, Reason) else _kept(policy, answer),
        ceiling=None if isinstance(stored, Reason) else _ceiling(policy),
        tags=policy_tags(match) if isinstance(stored, Reason) or answer is None else _told_tags(stored),
        **found,
    )


def _told_tags(stored: StoredResponse) -> tuple[str, ...]:
    """Those of the origin and of the policy; that of its path everything has, on this edge alone."""
    return tuple([tag for tag in stored.tags if not is_path_tag(tag)])


def _of_nothing(request: Request, policy: CachePolicy) -> Absent | Unsatisfiable:
    """What an empty store has for the request, the lease being held."""
    lease = Lease(1.0)
    lease.renew(_NOW)
    found = decide_reuse(request, (), policy, Floors(), lease, _NOW)
    assert isinstance(found, Absent | Unsatisfiable), "nothing is in an empty store"
    return found


def _passed_over(match: Match, policies: PolicySet) -> list[PassedOver]:
    found: list[PassedOver] = []
    for policy in policies.policies:
        if policy is match.policy:
            break
        why = mismatch(policy.path, match.path, policies.markets)
        assert why is not None, "the first route that matches decides"
        found.append(PassedOver(policy, why))
    return found


def _may_store(
    forward: Request, answer: Response | None, match: Match, key: CacheKey, own_positions: bool
) -> StoredResponse | Reason:
    if answer is None:
        answer = Response(200, Headers(((VERSION_FIELD, "1.1"), (TAGS_FIELD, _ORIGINS_OWN_TAG), ("etag", '"1"'))))
    counter = Position(1, 1) if own_positions else None
    decision = may_store(forward, answer, match, key, counter=counter, sent_at=_NOW, received_at=_NOW, wall_now=_NOW)
    return decision.reason if isinstance(decision, DoNotStore) else decision.stored


def _kept(policy: CachePolicy, answer: Response | None) -> tuple[tuple[int, Kept], ...]:
    if answer is not None:
        directives = response_directives(answer.headers)
        return ((answer.status, _with_keep(lifetimes(answer.status, answer.headers, directives, policy), policy)),)
    return tuple(
        (status, _with_keep(lifetimes(status, Headers(), Directives(), policy), policy))
        for status in (200, *(status for status, _ in policy.negative_s))
    )


def _ceiling(policy: CachePolicy) -> Kept:
    most = Directives(
        max_age_s=MAX_DELTA_S, stale_while_revalidate_s=MAX_DELTA_S, stale_if_error_s=MAX_DELTA_S, targeted=True
    )
    return _with_keep(lifetimes(200, Headers(), most, policy), policy)


def _with_keep(lived: Lifetimes, policy: CachePolicy) -> Kept:
    return Kept(
        lived.fresh_s,
        lived.stale_while_revalidate_s,
        lived.stale_if_error_s,
        lived.stale_if_unreachable_s,
        policy.keep_s,
    )


def key_digest(key: CacheKey) -> str:
    """Sixteen hex digits of a key: equal at every edge, whatever its machine."""
    return hashlib.sha256(repr(tuple(key)).encode()).hexdigest()[:16]


# -- as JSON -----------------------------------------------------------------------------------------------------------


def told(decision: Decision, policies: PolicySet) -> dict[str, Any]:
    """The decision as JSON, without places: what two edges must say alike when they decide alike."""
    match, key = decision.match, decision.key
    return {
        "policies": policies.digest,
        "country": decision.country,
        "outcome": {
            "cache": decision.cache,
            "status": decision.status or None,
            "reason": decision.reason,
            "fwd": decision.fwd.value if decision.fwd else None,
            "location": decision.location or None,
        },
        "route": None if match is None else {"id": match.policy.id, "version": match.policy.version},
        "key": None
        if key is None
        else {
            "authority": key.authority,
            "path": key.path,
            "query": [list(pair) for pair in key.query],
            "market": key.market,
            "digest": key_digest(key),
        },
        "market": decision.market or None,
        "visitor_market": None if decision.visitor is None else decision.visitor.market.id,
        "lifetimes": {str(status): kept._asdict() for status, kept in decision.kept},
        "storable": decision.forward is not None and decision.do_not_store is None,
        "do_not_store": decision.do_not_store.value if decision.do_not_store else None,
        "tags": list(decision.tags),
        "forward": None
        if decision.forward is None or key is None
        else {
            "origin": None if decision.placed is None else decision.placed.origin.name,
            "method": decision.forward.method,
            "target": forward_target(key),
            "fields": sorted({name for name, _ in decision.forward.headers}),
        },
    }


def told_stored(
    decision: Decision, variants: Sequence[StoredResponse], floors: Floors, lease: Lease, now: float, wall: float
) -> list[dict[str, Any]]:
    """What a worker holds under the decision's key, the newest first, and what each is good for at `now`.

    `now` is a moment of the edge's clock, `wall` the same moment in seconds since the epoch.
    """
    if decision.match is None:
        return []
    policy = decision.match.policy
    found = []
    for stored in variants:
        state, why = _state(decision.request, stored, policy, floors, lease, now)
        on_failure = on_error((stored,), decision.request, policy, floors, lease, now, unreachable=True)
        found.append(
            {
                "state": state,
                "why": why,
                "below_floor": floors.judge(stored).value if floors.judge(stored) is not Verdict.CURRENT else None,
                "if_the_origin_fails": None if on_failure is None else on_failure.why.value,
                "status": stored.status,
                "age_s": int(current_age(stored, now)),
                "ttl_s": int(stored.fresh_until - now),
                "stored_at": round(wall - (now - stored.stored_at), 3),
                "lifetimes": kept_of(stored)._asdict(),
                "size_bytes": stored.size,
                "vary": [list(pair) for pair in stored.vary],
                "tags": list(stored.tags),
                "position": str(stored.position),
                "etag": stored.etag,
                "policy_version": stored.policy_version,
                "fields": [list(pair) for pair in stored.headers.pairs],
            }
        )
    return found


def kept_of(stored: StoredResponse) -> Kept:
    """How long a response that is stored is of use, in all."""
    return Kept(
        stored.fresh_until - stored.stored_at + stored.initial_age_s,
        stored.revalidate_until - stored.fresh_until,
        stored.error_until - stored.fresh_until,
        stored.unreachable_until - stored.fresh_until,
        stored.keep_until
        - max(stored.fresh_until, stored.revalidate_until, stored.error_until, stored.unreachable_until),
    )


def _state(
    request: Request, stored: StoredResponse, policy: CachePolicy, floors: Floors, lease: Lease, now: float
) -> tuple[str, str | None]:
    match decide_reuse(request, (stored,), policy, floors, lease, now):
        case Fresh():
            return "fresh", None
        case Stale(why=why):
            return "stale", why.value
        case MustValidate(why=Why.PURGED_HARD | Why.PURGED_SOFT as why):
            return "below floor", why.value
        case MustValidate(why=why):
            return "kept", why.value
        case Absent(fwd=fwd):
            return "another variant", fwd.value
        case Unsatisfiable(why=why):
            return "kept", why.value
