"""Asking the origin whether a stored response still holds, and what its 304 changes (RFC 9111 §4.3, rule 1)."""

from __future__ import annotations

from dataclasses import replace

from cache_policies.fields import TAGS_FIELD
from edge.core.directives import response_directives
from edge.core.freshness import initial_age
from edge.core.http import Headers, Response, end_to_end, is_strong, list_members
from edge.core.policy import Match
from edge.core.stored import StoredResponse
from edge.core.storing import DoNotStore, Label, Reason, Store, label_of, lay_down, varying_fields
from edge.core.tags import policy_tags

_OF_THE_STORED_BODY = frozenset({"content-length", "content-encoding", "content-range", "etag"})
"""What describes the body that is kept, and therefore stays as it was (RFC 9111 §3.2)."""


def freshen(
    stored: StoredResponse, response: Response, match: Match, *, sent_at: float, received_at: float, wall_now: float
) -> Store | DoNotStore:
    """What a 304 makes of the stored response whose validator was sent (RFC 9111 §4.3.4).

    Only on a strong match and only if the 304 is labelled itself (rule 1). It moves position, tags and lifetimes;
    one read from an older snapshot than the stored body still confirms the body, but position and tags stay. Fields
    are replaced by the 304's, except those that describe the body. Times as in `may_store`. DoNotStore says that the
    304 is of no use: forward again without the precondition. `stored` itself is left as it was.
    """
    etag = response.headers.get("etag")
    if response.status != 304 or not is_strong(etag) or etag != stored.etag:
        return DoNotStore(Reason.NOT_MODIFIED_MISMATCH)
    if list_members(stored.headers.joined(TAGS_FIELD)) and not list_members(response.headers.joined(TAGS_FIELD)):
        # The policy's tags alone would let go of what purges the stored body.
        return DoNotStore(Reason.NO_TAGS)
    label = label_of(response.headers, policy_tags(match))
    if isinstance(label, Reason):
        return DoNotStore(label)
    if "set-cookie" in response.headers:
        return DoNotStore(Reason.SET_COOKIE)
    received = end_to_end(response.headers).without(_OF_THE_STORED_BODY)
    replaced = {name for name, _ in received}
    headers = Headers((*stored.headers.without(replaced), *received))
    if varying_fields(headers, match.policy) != {name for name, _ in stored.vary}:
        # Which requests the body answers is not known for another list of fields.
        return DoNotStore(Reason.VARY)
    directives = response_directives(headers)
    if directives.no_store:
        return DoNotStore(Reason.NO_STORE)
    if directives.private:
        return DoNotStore(Reason.PRIVATE)
    if label.position < stored.position:
        label = Label(stored.position, stored.tags)
    freshened = replace(
        stored,
        headers=headers,
        position=label.position,
        tags=label.tags,
        stored_at=received_at,
        initial_age_s=initial_age(response.headers, sent_at=sent_at, received_at=received_at, wall_now=wall_now),
        no_cache=directives.no_cache,
        judged_at=-1,
        hit_head=None,
        coded_hit_head=None,
    )
    return lay_down(freshened, directives, match.policy, wall_now=wall_now)
