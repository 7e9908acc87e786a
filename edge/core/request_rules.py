"""What a viewer's request may be, and what of it reaches the origin.

The forwarded request is made anew from the key and from allow-lists. On a stored route nothing reaches the origin that
is not in the key or listed by the policy, so that no answer can depend on what the next viewer does not share.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal, NamedTuple

from cache_policies.fields import MIN_VERSION_FIELD
from cache_policies.positions import Position
from edge.core.http import Headers, Request, Response, end_to_end
from edge.core.key import CacheKey, query_text
from edge.core.policy import ALL, Auth, CachePolicy, Match
from edge.core.variants import AUTHORIZATION_FIELD, PREFERENCES, forwards, may_pass, spelling

COUNTRY_FIELD = "nearshelf-country"
CHALLENGE = 'Bearer realm="shop"'
"""WWW-Authenticate of the edge's own 401: the least that one must say (RFC 9110 §11.6.1). What the credentials are, and
whether they are right, is the origin's business."""

OWN_VIA = "1.1 nearshelf"

FORWARDED_ALWAYS = frozenset({"traceparent", "tracestate"})
"""Fields that change no answer."""

PART = frozenset({"range", "if-range"})
"""Which part of an answer is wanted: forwarded when it is not kept, whatever the route lists (RFC 9110 §14.2)."""

FORWARDED_UNSTORED = FORWARDED_ALWAYS | {
    "accept",
    "accept-encoding",
    "accept-language",
    "cache-control",
    "content-encoding",
    "content-language",
    "content-type",
    "idempotency-key",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-event-id",
    "origin",
    "prefer",
    "priority",
    "range",
    "referer",
    "sec-fetch-dest",
    "sec-fetch-mode",
    "sec-fetch-site",
    "sec-fetch-user",
    "user-agent",
    "x-csrf-token",
    "x-requested-with",
}
"""Fields forwarded on routes that are never stored. Cookie needs `cookies: true` besides, Authorization `auth`."""


def passes_store(request: Request, policy: CachePolicy) -> bool:
    """Whether `request` goes past the store of its route both ways: it carries credentials, and the policy lets them
    through, so that the answer may be for this person only (RFC 9111 §3.5)."""
    return policy.store and policy.auth is Auth.OPTIONAL and AUTHORIZATION_FIELD in request.headers


class RefusedBecause(StrEnum):
    """Why the edge answers in place of the origin: the `reason` of the log line, the `detail` of Cache-Status."""

    REFUSED = "refused"
    """The policy says `refuse`."""
    METHOD = "method"
    MAX_FORWARDS = "max-forwards"
    """An OPTIONS that was not to go any further (RFC 9110 §7.6.2)."""
    AUTHORIZATION_MISSING = "authorization-missing"


class Refused(NamedTuple):
    """What the edge answers to what it never forwards, and why."""

    response: Response
    reason: RefusedBecause


def refusal(request: Request, match: Match) -> Refused | None:
    """The edge's own answer to what it never forwards; None: go on.

    The policy's `refuse` status; 405 with Allow for a method that the route neither answers nor forwards; 200 with
    Allow for an OPTIONS that says `Max-Forwards: 0`; 401 for a request without Authorization where the policy requires
    one.
    """
    policy = match.policy
    if policy.refuse_status:
        return Refused(edge_answer(policy.refuse_status), RefusedBecause.REFUSED)
    if not policy.takes(request.method):
        return Refused(edge_answer(405, _allowed(policy)), RefusedBecause.METHOD)
    if request.method == "OPTIONS" and _max_forwards(request.headers) == 0:
        return Refused(edge_answer(200, _allowed(policy)), RefusedBecause.MAX_FORWARDS)
    if policy.auth is Auth.REQUIRED and AUTHORIZATION_FIELD not in request.headers:
        response = edge_answer(401, ("www-authenticate", CHALLENGE))
        return Refused(response, RefusedBecause.AUTHORIZATION_MISSING)
    return None


def _allowed(policy: CachePolicy) -> tuple[str, str]:
    forwarded = ("OPTIONS",) if policy.forward_methods == ALL else policy.forward_methods
    return "allow", ", ".join(dict.fromkeys((*policy.methods, *forwarded)))


def _max_forwards(headers: Headers) -> int | None:
    """How many more hops a request may take; None where it does not say so in digits."""
    text = headers.get("max-forwards") or ""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 9 else None


def edge_answer(status: int, *fields: tuple[str, str], text: str = "") -> Response:
    """A short plain-text answer made by the edge itself, which no cache keeps."""
    body = text.encode()
    own = [("cache-control", "no-store"), ("content-length", str(len(body)))]
    if body:
        own.insert(0, ("content-type", "text/plain; charset=utf-8"))
    return Response(status, Headers((*own, *fields)), body)


def forward_request(
    request: Request,
    match: Match,
    key: CacheKey,
    *,
    minimum: Position | Literal["head"] | None,
    country: str | None,
    conditions: tuple[tuple[str, str], ...] = (),
    past_store: bool = False,
    scheme: str = "http",
) -> Request:
    """The request to send to the origin for `request`; its target is rebuilt from `key`.

    Where the answer may be kept, HEAD is asked for as GET, and the precondition is the edge's own: `conditions`
    (`validation.conditions`). What goes past the store (`past_store`, `passes_store`) keeps its method, and takes its
    own conditions along where every field is forwarded. `minimum` becomes Min-Catalog-Version; `country` goes only
    where nothing is stored. An edge with a purge log of its own has None for both. Left to the connection that sends
    it: Host, the edge's key, and the framing of a body.
    """
    policy = match.policy
    stored_route = policy.store and request.method in policy.methods
    storing = stored_route and not past_store and not passes_store(request, policy)
    seen = end_to_end(request.headers)
    if storing:
        pairs = [(name, value) for name, value in seen if name in FORWARDED_ALWAYS or forwards(name, policy)]
    else:
        pairs = [(name, value) for name, value in seen if _passes(name, policy, stored_route=stored_route)]
    if stored_route:
        # What requests share an answer by is what the origin gets to see: another spelling must not choose it for them.
        kept = Headers(pairs)
        listed = PREFERENCES if policy.vary == ALL else policy.vary
        pairs = list(kept.with_(*[(name, spelling(kept, name, policy)) for name in listed if name in kept]))
    pairs.extend(conditions if storing else ())
    if not stored_route:
        if country is not None:
            pairs.append((COUNTRY_FIELD, country))
        if request.peer:
            pairs.append(("x-forwarded-for", request.peer))
    hops = _max_forwards(seen)
    if request.method == "OPTIONS" and hops is not None:
        pairs.append(("max-forwards", str(max(0, hops - 1))))
    if minimum is not None:
        pairs.append((MIN_VERSION_FIELD, str(minimum)))
    pairs += [("x-forwarded-host", key.authority), ("x-forwarded-proto", scheme), ("via", _via(seen, policy))]
    method = "GET" if storing and request.method == "HEAD" else request.method
    return Request(method, key.authority, key.path, query_text(key), Headers(pairs), request.peer)


def _passes(name: str, policy: CachePolicy, *, stored_route: bool) -> bool:
    """Whether a field reaches the origin with a request whose answer is not kept."""
    if name == AUTHORIZATION_FIELD:
        return policy.auth is not Auth.NONE
    if policy.request_fields == ALL:
        return may_pass(name)
    if name == "cookie" and not stored_route:
        return policy.cookies
    if name in PART:
        return True
    return name in (FORWARDED_ALWAYS if stored_route else FORWARDED_UNSTORED) or name in policy.request_fields


def _via(seen: Headers, policy: CachePolicy) -> str:
    """Ours after those before it (RFC 9110 §7.6.3), which on a stored route with an allow-list are a viewer's own words
    and must choose nobody's answer."""
    before = seen.joined("via") if policy.request_fields == ALL or not policy.store else None
    return f"{before}, {OWN_VIA}" if before else OWN_VIA
