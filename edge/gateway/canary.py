"""A canary for each set of policies: what must never be shared is tried on every route before a request is.

The worst of a cache's accidents is an answer to one person that the next one gets, since a release or a changed policy
let it be stored. What the reader of policies checks is what is written; this asks the very functions that decide about
an answer, as they run in this process.
"""

from __future__ import annotations

from collections.abc import Iterator

from cache_policies.positions import Position
from edge.core.http import Headers, Request, Response
from edge.core.key import CacheKey
from edge.core.policy import CachePolicy, Match, PolicySet, parse_pattern
from edge.core.request_rules import forward_request, passes_store
from edge.core.storing import DoNotStore, may_store

_LABEL = (("catalog-version", "1.1"), ("cache-tag", "canary"))
_COUNTER = Position(1, 1)
_CREDENTIALS = (("authorization", "Bearer canary"), ("cookie", "session=canary"))
_FRESH = (("cache-control", "public, max-age=60"),)

_NEVER: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    ("with Set-Cookie", (*_FRESH, ("set-cookie", "session=canary"))),
    ("that is private", (("cache-control", "private, max-age=60"),)),
    ("that says no-store", (("cache-control", "no-store, max-age=60"),)),
    ("that varies on everything", (*_FRESH, ("vary", "*"))),
)


def shared_by_mistake(policies: PolicySet, *, own_positions: bool) -> tuple[str, ...]:
    """What `policies` would give to others than the one who may have it: one sentence each; empty when all is well.

    On every route: answers that may never be shared, whoever asked; and an answer without a word about caching, to
    a request whose credentials reach the origin. `own_positions`: the purge log is the site's own; elsewhere a label is
    such a word.
    """
    return tuple([sentence for policy in policies.policies for sentence in _of_route(policy, policies, own_positions)])


def _of_route(policy: CachePolicy, policies: PolicySet, own_positions: bool) -> Iterator[str]:
    match = Match(policy, _some_path(policy, policies), policies.markets.all[0].id if policies.markets.all else "")
    label = () if own_positions else _LABEL
    for what, fields in _NEVER:
        if _is_shared(match, (), (*fields, *label), own_positions):
            yield f"route {policy.id}: an answer {what} would be shared"
    if not own_positions and _is_shared(match, (), _FRESH, own_positions):
        yield f"route {policy.id}: an answer without a position would be shared, which no purge could reach"
    for name, value in _CREDENTIALS:
        if _is_shared(match, ((name, value),), (), own_positions):
            yield (
                f"route {policy.id}: an answer that says nothing about caching would be shared, although the "
                f"{name.capitalize()} of who asked reaches the origin; say fresh: 0s, or keep the field from the origin"
            )


def _is_shared(
    match: Match,
    asked_with: tuple[tuple[str, str], ...],
    said: tuple[tuple[str, str], ...],
    own_positions: bool,
) -> bool:
    key = CacheKey("canary.invalid", match.path, (), match.market)
    request = Request("GET", key.authority, key.path, "", Headers(asked_with))
    if match.policy.store and passes_store(request, match.policy):
        return False
    forward = forward_request(request, match, key, minimum=None, country=None)
    if any(name not in forward.headers for name, _ in asked_with):
        return False
    counter = _COUNTER if own_positions else None
    answer = Response(200, Headers((*said, ("etag", '"canary"'))))
    decision = may_store(forward, answer, match, key, counter=counter, sent_at=0.0, received_at=0.0, wall_now=0.0)
    if isinstance(decision, DoNotStore):
        return False
    stored = decision.stored
    # What is only kept to be asked about shows nothing to anybody whom the origin does not let see it.
    return max(stored.fresh_until, stored.revalidate_until, stored.error_until, stored.unreachable_until) > 0.0


def _some_path(policy: CachePolicy, policies: PolicySet) -> str:
    """A path that the route's pattern matches."""
    market = policies.markets.all[0].id if policies.markets.all else "market"
    return "/" + "/".join(
        market if part.name == "market" else "canary" if part.name else part.literal
        for part in parse_pattern(policy.path)
    )
