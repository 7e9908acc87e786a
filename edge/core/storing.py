"""Whether a response may be kept for later requests (RFC 9111 §3), and what is kept of it.

Deny by default: what carries no label, or what a policy does not foresee, is forwarded and forgotten.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from cache_policies.fields import HARD_END_FIELD, TAGS_FIELD, VERSION_FIELD
from cache_policies.positions import MAX_TAG_CHARACTERS, MAX_TAGS_PER_RESPONSE, Position, WireError
from cache_policies.tags import path_tag
from edge.core.directives import Directives, response_directives
from edge.core.freshness import Lifetimes, http_date, initial_age, lifetimes, may_guess, proposed_freshness
from edge.core.http import Headers, Request, Response, end_to_end, list_members
from edge.core.key import CacheKey
from edge.core.policy import ALL, CachePolicy, DataClass, Match
from edge.core.stored import StoredResponse
from edge.core.structured import parse_strings
from edge.core.tags import field_tags, policy_tags
from edge.core.variants import vary_values, varying_fields

STORABLE_STATUSES = frozenset({200, 301, 308})
"""Beyond these a status is stored only where the policy's `negative_s` names it, or with `any_status`."""
NEVER_BY_DEFAULT = frozenset({400, 405, 406, 413, 414, 431})
"""What one odd request can make an origin say about an address that is in order: not stored although `negative_s` names
it. Where `any_status` follows RFC 9111, they are stored if the origin itself states their freshness."""
ABOUT_CONDITIONS = frozenset({304, 412, 416})
"""What is said about the conditions or the range of one request, which no key holds: never stored."""
UNDERSTOOD_STATUSES = frozenset(
    (
        *(200, 201, 202, 203, 204, 205, 300, 301, 302, 303, 307, 308),
        *range(400, 418),
        *(421, 422, 423, 424, 425, 426, 428, 429, 431, 451),
        *range(500, 509),
        *(510, 511),
    )
)
"""Statuses whose rules for caching are known here, for `must-understand` (RFC 9111 §5.2.2.3)."""
MAX_VARY_NAMES = 16
"""A response that varies on more is not stored: no two requests would ever share it."""
_BETWEEN_KEYS = re.compile(r"[, \t]+")


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
    MUST_UNDERSTAND = "must-understand"
    """Only for caches that know its status, and this one does not (RFC 9111 §5.2.2.3)."""
    NO_LABEL = "no-label"
    """No Catalog-Version, or one that is no position."""
    NO_TAGS = "no-tags"
    TOO_MANY_TAGS = "too-many-tags"
    BAD_TAG = "bad-tag"
    VARY = "vary"
    """Varies on `*`, on a field that the policy does not list (`varying_fields`), or on too many."""
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


def label_of(headers: Headers, match: Match, counter: Position | None) -> Label | Reason:
    """The label of a response, or why it has none that counts.

    `counter` None: the edge follows its origin's purge log, and the label is the origin's (rule 1). Else the edge keeps
    a purge log of its own, and `counter` is what this worker had applied of it before the request was sent: that is the
    position, whatever the origin says. The policy's tags join those of the response, and the tag of its path.
    """
    if counter is None:
        try:
            position = Position.parse(headers.joined(VERSION_FIELD) or "")
        except WireError:
            return Reason.NO_LABEL
        own = list_members(headers.joined(TAGS_FIELD))
    else:
        position, own = counter, _site_tags(headers)
    tags = tuple(dict.fromkeys([*own, *policy_tags(match)]))
    if not tags and counter is None:
        return Reason.NO_TAGS
    if len(tags) > MAX_TAGS_PER_RESPONSE:
        return Reason.TOO_MANY_TAGS
    # CloudFront compares tags without regard to case, we do not: a capital would be purged there and not here.
    if any(len(tag) > MAX_TAG_CHARACTERS or not tag.isascii() or tag != tag.lower() for tag in tags):
        return Reason.BAD_TAG
    return Label(position, (*tags, path_tag(match.path)))


def _site_tags(headers: Headers) -> list[str]:
    """What an origin that knows nothing of us calls its response: Cache-Tag, Surrogate-Key (blanks between), and
    Cache-Groups (RFC 9875 §2), which does not count when it cannot be read."""
    # Not at every blank of Unicode: U+00A0 is half of a character in UTF-8.
    keys = _BETWEEN_KEYS.split(headers.joined("surrogate-key") or "")
    groups = parse_strings(headers.joined("cache-groups") or "") or ()
    return field_tags((*list_members(headers.joined(TAGS_FIELD)), *keys, *groups))


def may_store(
    request: Request,
    response: Response,
    match: Match,
    key: CacheKey,
    *,
    counter: Position | None = None,
    sent_at: float,
    received_at: float,
    wall_now: float,
) -> Store | DoNotStore:
    """Whether `response` may be kept for later requests (RFC 9111 §3).

    `request` is the forwarded one. `counter` as in `label_of`. `sent_at` and `received_at` are moments of the edge's
    clock, `wall_now` the wall clock at `received_at` in seconds since the epoch. The floors are not asked here: judge
    `stored` right before it is put and served, after the last await.
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
    directives = response_directives(response.headers)
    if not _status_may_be_stored(response, directives, policy):
        return DoNotStore(Reason.STATUS)
    forbidden = forbids_storing(directives, response.status)
    if forbidden is not None:
        return DoNotStore(forbidden)
    if "authorization" in request.headers and not directives.shares_authorised:
        return DoNotStore(Reason.AUTHORIZATION)
    if "set-cookie" in response.headers:
        return DoNotStore(Reason.SET_COOKIE)
    label = label_of(response.headers, match, counter)
    if isinstance(label, Reason):
        return DoNotStore(label)
    varies_on = varying_fields(response.headers, policy)
    if not _may_vary(varies_on, policy):
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
        labelled=counter is None,
        wall_now=wall_now,
    )


def forbids_storing(directives: Directives, status: int) -> Reason | None:
    """Which directive keeps a response with this status out of a shared cache. With `must-understand`, `no-store` is
    for caches that do not know the status (RFC 9111 §5.2.2.3)."""
    if directives.must_understand:
        if status not in UNDERSTOOD_STATUSES:
            return Reason.MUST_UNDERSTAND
    elif directives.no_store:
        return Reason.NO_STORE
    return Reason.PRIVATE if directives.private else None


def _status_may_be_stored(response: Response, directives: Directives, policy: CachePolicy) -> bool:
    """The policy's list; with `any_status` every final one that states its freshness or may have it guessed, unknown
    ones included (RFC 9111 §3)."""
    status = response.status
    if status in STORABLE_STATUSES:
        return True
    if policy.any_status and 200 <= status <= 599 and status not in ABOUT_CONDITIONS:
        stated = proposed_freshness(response.headers, directives) is not None
        if stated or may_guess(status, directives, policy):
            return True
    return status in dict(policy.negative_s) and status not in NEVER_BY_DEFAULT | ABOUT_CONDITIONS


def _may_vary(names: set[str], policy: CachePolicy) -> bool:
    if policy.vary == ALL:
        return "*" not in names and len(names) <= MAX_VARY_NAMES
    return names <= set(policy.vary)


def lay_down(
    stored: StoredResponse, directives: Directives, policy: CachePolicy, *, labelled: bool, wall_now: float
) -> Store | DoNotStore:
    """Write the ends of its lifetimes into a response just received or freshened, and say whether any use is left.
    `labelled`: whether the edge follows its origin's purge log (`validators_of`)."""
    lived = lifetimes(stored.status, stored.headers, directives, policy)
    end = _hard_end(stored, wall_now)
    if end is None or end <= stored.stored_at:
        return DoNotStore(Reason.HARD_END)
    _set_ends(stored, lived, policy, end)
    # Not what could only be shown when the origin is out of reach: it was stale when it came (RFC 9111 §3).
    useful_until = max(stored.revalidate_until, stored.error_until)
    if _has_validator(stored, labelled=labelled):
        useful_until = stored.keep_until
    if useful_until <= stored.stored_at:
        return DoNotStore(Reason.NO_LIFETIME)
    return Store(stored)


def _has_validator(stored: StoredResponse, *, labelled: bool) -> bool:
    """Whether it is of use past its lifetimes: to be asked about (`validation.conditions`)."""
    if labelled:
        return stored.etag is not None
    return 200 <= stored.status < 300 and (stored.etag is not None or "last-modified" in stored.headers)


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
    stored.unreachable_until = min(expires + lived.stale_if_unreachable_s, end)
    last = max(stored.fresh_until, stored.revalidate_until, stored.error_until, stored.unreachable_until)
    stored.keep_until = max(last, stored.stored_at) + policy.keep_s


def dated(headers: Headers, wall_now: float) -> Headers:
    """`headers` with one Date: as received, else the moment it was received (RFC 9110 §6.6.1)."""
    lines = headers.lines("date")
    return headers if len(lines) == 1 else headers.with_(("date", lines[0] if lines else http_date(wall_now)))
