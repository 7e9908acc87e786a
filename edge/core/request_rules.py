"""What a viewer's request may be, and what of it reaches the origin.

The forwarded request is made anew from the key and from allow-lists. On a stored route nothing reaches the origin that
is not in the key or listed by the policy, so that no answer can depend on what the next viewer does not share.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Literal, NamedTuple

from cache_policies.fields import MIN_VERSION_FIELD
from cache_policies.positions import Position
from edge.core.http import Headers, Request, Response, end_to_end, one_spelling
from edge.core.key import CacheKey, query_text
from edge.core.policy import Auth, CachePolicy, Match

if TYPE_CHECKING:
    from edge.core.stored import StoredResponse

COUNTRY_FIELD = "nearshelf-country"
AUTHORIZATION_FIELD = "authorization"
CHALLENGE = 'Bearer realm="shop"'
"""WWW-Authenticate of the edge's own 401: the least that one must say (RFC 9110 §11.6.1). What the credentials are, and
whether they are right, is the origin's business."""

FORWARDED_ALWAYS = frozenset({"traceparent", "tracestate"})
"""Fields that change no answer."""

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
    AUTHORIZATION_MISSING = "authorization-missing"


class Refused(NamedTuple):
    """What the edge answers to what it never forwards, and why."""

    response: Response
    reason: RefusedBecause


def refusal(request: Request, match: Match) -> Refused | None:
    """The edge's own answer to what it never forwards; None: go on.

    The policy's `refuse` status; 405 with Allow for a method that the route neither answers nor forwards; 401 for a
    request without Authorization where the policy requires one.
    """
    policy = match.policy
    if policy.refuse_status:
        return Refused(edge_answer(policy.refuse_status), RefusedBecause.REFUSED)
    if request.method not in policy.methods and request.method not in policy.forward_methods:
        allowed = dict.fromkeys((*policy.methods, *policy.forward_methods))
        return Refused(edge_answer(405, ("allow", ", ".join(allowed))), RefusedBecause.METHOD)
    if policy.auth is Auth.REQUIRED and AUTHORIZATION_FIELD not in request.headers:
        response = edge_answer(401, ("www-authenticate", CHALLENGE))
        return Refused(response, RefusedBecause.AUTHORIZATION_MISSING)
    return None


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
    country: str,
    stored: StoredResponse | None = None,
    scheme: str = "http",
) -> Request:
    """The request to send to the origin for `request`; its target is rebuilt from `key`.

    On a stored route HEAD is asked for as GET, so that the answer can be kept, and the precondition is the edge's own,
    from `stored`. What passes the store (`passes_store`) takes its Authorization along and is otherwise asked for with
    the same fields. The country goes only where nothing is stored. `minimum` becomes Min-Catalog-Version. Left to the
    connection that sends it: Host, the edge's key, and the framing of a body.
    """
    policy = match.policy
    stored_route = policy.store and request.method in policy.methods
    storing = stored_route and not passes_store(request, policy)
    allowed = (FORWARDED_ALWAYS if stored_route else FORWARDED_UNSTORED) | set(policy.request_fields)
    if policy.auth is not Auth.NONE:
        allowed |= {AUTHORIZATION_FIELD}
    if policy.cookies and not stored_route:
        allowed |= {"cookie"}
    pairs = [(name, value) for name, value in end_to_end(request.headers) if name in allowed]
    if stored_route and policy.vary:
        # What requests share an answer by is what the origin gets to see: another spelling must not choose it for them.
        seen = Headers(pairs)
        pairs = list(seen.with_(*[(name, one_spelling(seen, name)) for name in policy.vary if name in seen]))
    if storing and stored is not None:
        pairs.extend(stored.conditional_fields)
    if not stored_route:
        pairs.append((COUNTRY_FIELD, country))
        if request.peer:
            pairs.append(("x-forwarded-for", request.peer))
    if minimum is not None:
        pairs.append((MIN_VERSION_FIELD, str(minimum)))
    pairs += [("x-forwarded-host", key.authority), ("x-forwarded-proto", scheme), ("via", "1.1 nearshelf")]
    method = "GET" if storing and request.method == "HEAD" else request.method
    return Request(method, key.authority, key.path, query_text(key), Headers(pairs), request.peer)
