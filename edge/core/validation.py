"""Asking the origin whether a stored response still holds, and what its 304 changes (RFC 9111 §4.3, rule 1)."""

from __future__ import annotations

from dataclasses import replace

from cache_policies.fields import TAGS_FIELD
from cache_policies.positions import Position
from edge.core.directives import response_directives
from edge.core.freshness import initial_age, parse_http_date
from edge.core.http import Headers, Response, end_to_end, is_strong, list_members
from edge.core.policy import Match
from edge.core.stored import StoredResponse
from edge.core.storing import DoNotStore, Label, Reason, Store, forbids_storing, label_of, lay_down
from edge.core.variants import varying_fields

_OF_THE_STORED_BODY = frozenset({"content-length", "content-encoding", "content-range", "etag"})
"""What describes the body that is kept, and therefore stays as it was (RFC 9111 §3.2)."""


def conditions(stored: StoredResponse, *, labelled: bool, purged: bool = False) -> tuple[tuple[str, str], ...]:
    """The precondition fields to forward, from the stored response, never the viewer's (RFC 9111 §4.3.1).

    `labelled`: the edge follows its origin's purge log; then a strong ETag or nothing, because no 304 could freshen it
    otherwise (rule 1). Else whatever validators there are, of a response that a 304 can speak of; but the strong ETag
    alone of one that is `purged`, hard or soft, because a date of whole seconds would confirm the very body that had to
    go.
    """
    etag = stored.etag
    if labelled or purged:
        return (("if-none-match", etag),) if etag is not None and is_strong(etag) else ()
    if not 200 <= stored.status < 300:
        return ()
    fields = [] if etag is None else [("if-none-match", etag)]
    modified = stored.headers.get("last-modified")
    if modified is not None and parse_http_date(modified) is not None:
        fields.append(("if-modified-since", modified))
    return tuple(fields)


def freshen(
    stored: StoredResponse,
    response: Response,
    match: Match,
    *,
    counter: Position | None = None,
    sent_at: float,
    received_at: float,
    wall_now: float,
) -> Store | DoNotStore:
    """What a 304 makes of the stored response whose validators were sent (RFC 9111 §4.3.4).

    Where the label is the origin's (`counter` None), only on a strong match and only if the 304 is labelled itself
    (rule 1); elsewhere as RFC 9111 has it (`_is_about`), at the position `counter` (`storing.label_of`). It moves
    position, tags and lifetimes; one read from an older snapshot than the stored body still confirms the body, but
    position and tags stay. Fields are replaced by the 304's, except those that describe the body. Times as in
    `may_store`. DoNotStore says that the 304 is of no use: forward again without the precondition. `stored` itself is
    left as it was.
    """
    if response.status != 304 or not _is_about(stored, response.headers, labelled=counter is None):
        return DoNotStore(Reason.NOT_MODIFIED_MISMATCH)
    received = end_to_end(response.headers).without(_OF_THE_STORED_BODY)
    replaced = {name for name, _ in received}
    headers = Headers((*stored.headers.without(replaced), *received))
    if counter is None and list_members(stored.headers.joined(TAGS_FIELD)) and TAGS_FIELD not in replaced:
        # The policy's tags alone would let go of what purges the stored body.
        return DoNotStore(Reason.NO_TAGS)
    # In a purge log of the edge's own, tags that the 304 leaves out still hold: they are stored fields like others.
    label = label_of(response.headers if counter is None else headers, match, counter)
    if isinstance(label, Reason):
        return DoNotStore(label)
    if "set-cookie" in response.headers:
        return DoNotStore(Reason.SET_COOKIE)
    if varying_fields(headers, match.policy) != {name for name, _ in stored.vary}:
        # Which requests the body answers is not known for another list of fields.
        return DoNotStore(Reason.VARY)
    directives = response_directives(headers)
    forbidden = forbids_storing(directives, stored.status)
    if forbidden is not None:
        return DoNotStore(forbidden)
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
    )
    freshened.take_copies(stored)
    return lay_down(freshened, directives, match.policy, labelled=counter is None, wall_now=wall_now)


def _is_about(stored: StoredResponse, not_modified: Headers, *, labelled: bool) -> bool:
    """Whether a 304 speaks of the stored response (RFC 9111 §4.3.4).

    A strong ETag must be the stored one. A weak one is compared weakly, without an ETag Last-Modified must be the same.
    A 304 without either speaks of the one response that was asked about: only its validators were sent.
    """
    etag = not_modified.get("etag")
    if labelled or is_strong(etag):
        return is_strong(etag) and etag == stored.etag
    if etag is not None and stored.etag is not None:
        return etag.removeprefix("W/") == stored.etag.removeprefix("W/")
    modified = not_modified.get("last-modified")
    return modified is None or modified == stored.headers.get("last-modified")
