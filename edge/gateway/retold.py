"""What a line of the access log says beside how a request ended, so that the log can be answered once more under other
policies (`nearshelf policy diff --replay`): what the origin said of an answer's life, where it was read, its size.

Written where an answer was fetched, never on a hit. Names, numbers and positions only; of what tells variants apart no
more than sixteen bits.
"""

from __future__ import annotations

import zlib

import orjson

from edge.core.directives import response_directives
from edge.core.floors import Floors
from edge.core.freshness import parse_http_date, proposed_freshness
from edge.core.http import Headers, Request
from edge.core.key import BadTarget, normalise_query
from edge.core.policy import ALL_QUERY, CachePolicy
from edge.core.reuse import Why
from edge.core.stored import StoredResponse
from edge.core.variants import vary_values

MAX_VARY_CHARACTERS = 200


def fetched(stored: StoredResponse, length: int | None = None) -> bytes:
    """Members about a response that was fetched and may be shared; `length` of a body that is not there yet."""
    size = stored.size + (length or 0)
    return b'"position":"%b","size":%d,"aged":%.3f,"said":%b,%b' % (
        str(stored.position).encode(),
        size,
        stored.initial_age_s,
        orjson.dumps(_said(stored.headers)),
        _variant(stored),
    )


def purged(stored: StoredResponse, why: Why, floors: Floors) -> bytes:
    """Where the floor is that `stored` is below; empty for what was not purged."""
    if why is Why.PURGED_HARD:
        # What is of no history any more is below no floor of its tags, but below whatever a fill asks for now.
        ghost = floors.is_ghost(stored.position)
        floor = floors.refill_floor(stored.tags) if ghost else floors.hard_floor(stored.tags)
    elif why is Why.PURGED_SOFT:
        floor = floors.soft_floor(stored.tags)
    else:
        return b""
    return b'"floor":"%b",' % str(floor).encode()


def shown(request: Request, stored: StoredResponse, policy: CachePolicy) -> bytes:
    """Which variant an answer from the store is; empty where there is only one."""
    if not stored.vary:
        return b""
    return _variant_of(vary_values(request.headers, policy, [name for name, _ in stored.vary]))


def noted_query(query: str, policy: CachePolicy, names: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """The parameters among `names` that the policy does not count; none where they could not be read."""
    others = tuple([name for name in names if name not in policy.query])
    if not query or not others:
        return ()
    try:
        return normalise_query(query, others)
    except BadTarget:
        return ()


def noted_names(policy: CachePolicy, names: tuple[str, ...]) -> tuple[str, ...]:
    """The parameters by which addresses are told apart, in the log at least: those of the key, and `names`."""
    if not names or policy.query == ALL_QUERY:
        return policy.query
    return policy.query + tuple([name for name in names if name not in policy.query])


def _said(headers: Headers) -> dict[str, int | bool]:
    """What the origin said about keeping it, in seconds; nothing where it was silent."""
    directives = response_directives(headers)
    said: dict[str, int | bool] = {}
    fresh_s = proposed_freshness(headers, directives)
    if fresh_s is not None:
        said["fresh"] = int(fresh_s)
    else:
        made, modified = (parse_http_date(headers.get(name) or "") for name in ("date", "last-modified"))
        if made is not None and modified is not None:
            said["unmodified"] = max(0, made - modified)
    if directives.stale_while_revalidate_s is not None:
        said["stale_while_revalidate"] = directives.stale_while_revalidate_s
    if directives.stale_if_error_s is not None:
        said["stale_if_error"] = directives.stale_if_error_s
    if directives.no_cache:
        said["no_cache"] = True
    elif directives.forbids_stale:
        said["no_stale"] = True
    return said


def _variant(stored: StoredResponse) -> bytes:
    if not stored.vary:
        return b""
    names = ",".join([name for name, _ in stored.vary])[:MAX_VARY_CHARACTERS]
    return b'"vary":%b,%b' % (orjson.dumps(names), _variant_of(stored.vary))


def _variant_of(values: tuple[tuple[str, str | None], ...]) -> bytes:
    """Enough to tell the few variants of a key apart, and too little to tell a person."""
    return b'"variant":"%04x",' % (zlib.crc32(repr(values).encode()) & 0xFFFF)
