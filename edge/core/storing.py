"""Whether a response may be kept for later requests (RFC 9111 §3), and what is kept of it.

Deny by default: what carries no label, or what a policy does not foresee, is forwarded and forgotten.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from cache_policies.fields import HARD_END_FIELD, TAGS_FIELD, VERSION_FIELD
from cache_policies.positions import MAX_TAG_CHARACTERS, MAX_TAGS_PER_RESPONSE, Position, WireError
from edge.core.directives import Directives, response_directives
from edge.core.freshness import Lifetimes, http_date, initial_age, lifetimes
from edge.core.http import Headers, Request, Response, end_to_end, list_members, one_spelling
from edge.core.key import CacheKey
from edge.core.policy import CachePolicy, DataClass, Match
from edge.core.stored import StoredResponse
from edge.core.tags import policy_tags

STORABLE_STATUSES = frozenset({200, 301, 308})
"""Beyond these a status is stored only where the policy's `negative_s` names it."""


class Reason(StrEnum):
    """Why a response was not stored: the `detail` of a forwarded answer, and a label in the metrics."""

    POLICY_NEVER_STORES = "policy-never-stores"
    PERSONAL_DATA = "personal-data"
    METHOD = "method"
    PARTIAL_CONTENT = "partial-content"
    STATUS = "status"
    NO_STORE = "no-store"
    PRIVATE = "private"
    AUTHORIZATION = "authorization"
    SET_COOKIE = "set-cookie"
    NO_LABEL = "no-label"
    """No Catalog-Version, or one that is no position."""
    NO_TAGS = "no-tags"
    TOO_MANY_TAGS = "too-many-tags"
    BAD_TAG = "bad-tag"
    VARY = "vary"
    """Varies on `*`, or on a field that the policy does not list (`varying_fields`)."""
    BODY_TOO_LARGE = "body-too-large"
    LENGTH_UNKNOWN = "length-unknown"
    """Its body ends with the connection, so that a cut would look like its end. Found by the gateway."""
    HARD_END = "hard-end"
    """Its hard end has passed, or cannot be read."""
    NO_LIFETIME = "no-lifetime"
    """Neither fresh, nor servable stale, nor of use for validation."""
    NOT_MODIFIED_MISMATCH = "not-modified-mismatch"
    """A 304 without a strong ETag equal to the stored one: it says nothing about the stored body."""
    BELOW_FLOOR = "below-floor"
    """Purged while the fill was in flight. Not decided here: floors are read after the last await."""


@dataclass(frozen=True, slots=True)
class Store:
    """The response may be kept, as `stored`, unless the floors have risen above it meanwhile."""

    stored: StoredResponse


@dataclass(frozen=True, slots=True)
class DoNotStore:
    """The response may be used for this request and must then be forgotten."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class Label:
    """Which snapshot a response shows, and what purges it: what floors judge (rule 1)."""

    position: Position
    tags: tuple[str, ...]


def label_of(headers: Headers, added: tuple[str, ...] = ()) -> Label | Reason:
    """The label of a response, or why it has none that counts. `added`: the policy's tags, which join its own."""
    try:
        position = Position.parse(headers.joined(VERSION_FIELD) or "")
    except WireError:
        return Reason.NO_LABEL
    tags = tuple(dict.fromkeys([*list_members(headers.joined(TAGS_FIELD)), *added]))
    if not tags:
        return Reason.NO_TAGS
    if len(tags) > MAX_TAGS_PER_RESPONSE:
        return Reason.TOO_MANY_TAGS
    # CloudFront compares tags without regard to case, we do not: a capital would be purged there and not here.
    if any(len(tag) > MAX_TAG_CHARACTERS or not tag.isascii() or tag != tag.lower() for tag in tags):
        return Reason.BAD_TAG
    return Label(position, tags)


def may_store(
    request: Request,
    response: Response,
    match: Match,
    key: CacheKey,
    *,
    sent_at: float,
    received_at: float,
    wall_now: float,
) -> Store | DoNotStore:
    """Whether `response` may be kept for later requests (RFC 9111 §3).

    `request` is the forwarded one. `sent_at` and `received_at` are moments of the edge's clock, `wall_now` the wall
    clock at `received_at` in seconds since the epoch. The floors are not asked here: judge `stored` right before it
    is put and served, after the last await.
    """
    policy = match.policy
    if policy.data_class is DataClass.PERSONAL:
        return DoNotStore(Reason.PERSONAL_DATA)
    if not policy.store:
        return DoNotStore(Reason.POLICY_NEVER_STORES)
    if request.method != "GET":
        return DoNotStore(Reason.METHOD)
    if response.status == 206 or "content-range" in response.headers:
        return DoNotStore(Reason.PARTIAL_CONTENT)
    if response.status not in STORABLE_STATUSES and response.status not in dict(policy.negative_s):
        return DoNotStore(Reason.STATUS)
    directives = response_directives(response.headers)
    if directives.no_store:
        return DoNotStore(Reason.NO_STORE)
    if directives.private:
        return DoNotStore(Reason.PRIVATE)
    if "authorization" in request.headers and not (
        directives.public or directives.must_revalidate or directives.s_maxage_s is not None
    ):
        return DoNotStore(Reason.AUTHORIZATION)
    if "set-cookie" in response.headers:
        return DoNotStore(Reason.SET_COOKIE)
    label = label_of(response.headers, policy_tags(match))
    if isinstance(label, Reason):
        return DoNotStore(label)
    varies_on = varying_fields(response.headers, policy)
    if not varies_on <= set(policy.vary):
        return DoNotStore(Reason.VARY)
    if len(response.body) > policy.max_body_bytes:
        return DoNotStore(Reason.BODY_TOO_LARGE)
    return lay_down(
        StoredResponse(
            key=key,
            policy_version=policy.version,
            status=response.status,
            headers=dated(end_to_end(response.headers), wall_now),
            body=response.body,
            vary=vary_values(request.headers, policy, sorted(varies_on)),
            etag=response.headers.get("etag"),
            position=label.position,
            tags=label.tags,
            stored_at=received_at,
            initial_age_s=initial_age(response.headers, sent_at=sent_at, received_at=received_at, wall_now=wall_now),
            no_cache=directives.no_cache,
            fresh_until=received_at,
            revalidate_until=received_at,
            error_until=received_at,
            keep_until=received_at,
        ),
        directives,
        policy,
        wall_now=wall_now,
    )


def lay_down(
    stored: StoredResponse, directives: Directives, policy: CachePolicy, *, wall_now: float
) -> Store | DoNotStore:
    """Write the ends of its lifetimes into a response just received or freshened, and say whether any use is left."""
    lived = lifetimes(stored.status, stored.headers, directives, policy)
    end = _hard_end(stored, wall_now)
    if end is None or end <= stored.stored_at:
        return DoNotStore(Reason.HARD_END)
    _set_ends(stored, lived, policy, end)
    useful_until = stored.error_until if stored.etag is None else stored.keep_until
    if max(useful_until, stored.revalidate_until) <= stored.stored_at:
        return DoNotStore(Reason.NO_LIFETIME)
    return Store(stored)


def _hard_end(stored: StoredResponse, wall_now: float) -> float | None:
    """The hard end as a moment of the edge's clock; infinity when there is none, None when it cannot be read."""
    written = stored.headers.get(HARD_END_FIELD)
    if written is None:
        return float("inf")
    if not (written.isascii() and written.isdigit() and len(written) <= 12):
        return None
    return stored.stored_at + (int(written) - wall_now)


def _set_ends(stored: StoredResponse, lived: Lifetimes, policy: CachePolicy, end: float) -> None:
    expires = stored.stored_at - stored.initial_age_s + lived.fresh_s
    stored.fresh_until = min(expires, end)
    stored.revalidate_until = min(expires + lived.stale_while_revalidate_s, end)
    stored.error_until = min(expires + lived.stale_if_error_s, end)
    last = max(stored.fresh_until, stored.revalidate_until, stored.error_until)
    stored.keep_until = max(last, stored.stored_at) + policy.keep_s


def dated(headers: Headers, wall_now: float) -> Headers:
    """`headers` with a Date, which a recipient adds where the origin left it out (RFC 9110 §6.6.1)."""
    return headers if "date" in headers else headers.with_(("date", http_date(wall_now)))


def vary_names(headers: Headers) -> set[str]:
    """The field names a response varies on, lower case; `*` among them when that is there anywhere."""
    return {name.lower() for name in list_members(headers.joined("vary"))}


def varying_fields(headers: Headers, policy: CachePolicy) -> set[str]:
    """The fields that tell variants of this response apart in our store.

    Where the policy compresses, no viewer's Accept-Encoding reaches the origin: what it sends without a coding is the
    one variant, and we code it ourselves. What it has coded nevertheless is not for everybody.
    """
    names = vary_names(headers)
    return names - {"accept-encoding"} if policy.compress and "content-encoding" not in headers else names


def vary_values(request: Headers, policy: CachePolicy, names: Iterable[str]) -> tuple[tuple[str, str | None], ...]:
    """What tells variants apart: each field as the origin gets to see it, in one spelling (RFC 9111 §4.1).

    A field that this policy does not forward is missing at the origin, whatever the viewer sent.
    """
    return tuple(
        [
            (name, one_spelling(request, name) if name in policy.request_fields and name in request else None)
            for name in names
        ]
    )
