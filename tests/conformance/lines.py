"""What a shared cache must get right and its peers get wrong, point by point, and the cases that test each point.

The points were gathered from the RFCs and from what eight well-known caches do; patterns name cases by their ids.
"""

from __future__ import annotations

LINES: dict[str, tuple[str, ...]] = {
    # Freshness
    "the upstream's Age counts at once and goes on counting; our own Age is sent, and rises": (
        "age-counts",
        "age-left",
        "age-sent*",
        "age-rises",
        "age-slow-answer",
    ),
    "an Age that is no whole number is ignored, a huge one saturates, of several the first counts": (
        "age-huge",
        "age-2-*",
        "age-list*",
        "age-two-lines*",
        "age-float",
        "age-negative",
        "age-text",
        "age-blanks",
    ),
    "lifetime by Expires is Expires minus Date; Age counts still": (
        "fresh-expires-fast-clock*",
        "fresh-expires-old-date*",
        "fresh-expires-is-date",
        "fresh-max-age-old-date*",
        "fresh-max-age-future-date*",
        "age-expires",
    ),
    "a malformed Expires means already stale": ("expires-*", "heuristic-not-beside-bad-expires"),
    "s-maxage, then max-age, then Expires; names in any case; quotes; one rule for duplicates": (
        "fresh-s-maxage*",
        "fresh-max-age-0-expires",
        "fresh-max-age-beats-*",
        "cc-capitals",
        "cc-mixed-case",
        "cc-single-quotes",
        "cc-quoted*",
        "cc-duplicate*",
    ),
    "without freshness and validator nothing is stored": ("fresh-nothing",),
    "nothing is guessed but for statuses cacheable by default, or public; 5xx never": (
        "heuristic-2*",
        "heuristic-not-*",
        "heuristic-public-302",
    ),
    "Date is passed on as received, on hits too, and once": ("date-*",),
    # What may be stored
    "any final status with explicit freshness, unknown ones included": ("status-*-fresh", "status-*-expires"),
    "must-understand with an unknown status is not stored": ("store-not-understood*", "store-understood"),
    "private, no-store, no-cache in any case and beside anything; no-cache is stored and validated": (
        "store-private*",
        "store-no-store*",
        "store-no-cache*",
        "store-max-age-*",
        "store-public-*",
        "store-*-second-line",
    ),
    "a request with Authorization: reuse only with public, must-revalidate or s-maxage": ("authorization-*",),
    "hop-by-hop fields and what Connection names are neither stored nor passed on": ("hop-re*", "freshen-hop-by-hop"),
    "Set-Cookie: not stored, and never handed to those who waited along": ("store-set-cookie*", "crowd-set-cookie"),
    "the answer to POST with its own Content-Location may serve GET": ("store-post-content-location", "store-not-post"),
    # Vary
    "Vary is a list over all lines, and * anywhere means never": (
        "vary-star-*",
        "vary-second-*",
        "vary-third-name",
        "vary-empty-*",
    ),
    "missing matches only missing; variants live side by side; the newest wins": (
        "vary-missing-*",
        "vary-there-*",
        "vary-both-missing",
        "vary-side-by-side",
        "vary-many",
        "vary-newest-wins",
        "vary-names-change",
    ),
    "Accept-Encoding and Accept-Language are normalised before they are compared": (
        "vary-blanks",
        "vary-lines-joined",
        "vary-coding-*",
        "vary-language-*",
        "vary-accept-*",
    ),
    "a purge or an invalidation removes every variant": ("vary-invalidated", "purge-variants"),
    # Validation and 304
    "validation is done with the stored response's own validators": (
        "validate-etag",
        "validate-weak-etag",
        "validate-last-modified*",
        "validate-both",
        "validate-own-*",
        "vary-variant-validated",
    ),
    "a 304 updates the stored fields, but for what describes the stored body": ("freshen-*", "validate-fresh-again"),
    "our own 304: its fields, If-None-Match first, weak comparison, lists, *": (
        "precondition-304-*",
        "precondition-etag*",
        "precondition-star*",
        "precondition-date-*",
    ),
    "a viewer's precondition that misses puts no 304 into the cache": (
        "validate-cold-*",
        "validate-foreign-304",
        "validate-412",
    ),
    "HEAD from a stored GET; a HEAD response never replaces a body": ("head-*", "store-head-not-get"),
    # Invalidation
    "unsafe methods, unknown ones too, on 2xx and 3xx; Location and Content-Location of the same origin": (
        "invalidate-*",
    ),
    # Stale
    "stale-while-revalidate starts at expiry and ends on time": (
        "swr-shown",
        "swr-not-before",
        "swr-ends*",
        "swr-begins-by-age",
        "swr-0",
    ),
    "one refresh for all; it outlives its viewer; a failing one extends nothing": (
        "swr-one-refresh",
        "swr-outlives-viewer",
        "swr-failing*",
        "swr-refreshed",
        "swr-validated",
    ),
    "stale-if-error covers 500, 502, 503, 504, refused, reset and timeout, and nothing else": ("stale-if-error-*",),
    "must-revalidate, proxy-revalidate, no-cache and s-maxage forbid all of these; a broken connection otherwise": (
        "swr-must-revalidate",
        "swr-proxy-revalidate",
        "swr-s-maxage",
        "swr-no-cache",
        "stale-must-revalidate-*",
        "stale-proxy-revalidate-*",
        "stale-s-maxage-*",
        "stale-no-cache-*",
        "stale-reset",
        "stale-refused",
    ),
    "no grace that the origin did not ask for": ("stale-no-grace*",),
    # Targeted fields
    "CDN-Cache-Control is a dictionary; what does not parse is ignored whole, a wrong type does not count": (
        "targeted-malformed-*",
        "targeted-type-*",
        "targeted-empty*",
    ),
    "it replaces Cache-Control and Expires; Age counts; it is passed on; our own name comes first": (
        "targeted-beats-*",
        "targeted-hides-*",
        "targeted-age",
        "targeted-expires*",
        "targeted-passed-on",
        "targeted-own-*",
        "targeted-no-store",
        "targeted-private",
        "targeted-no-cache",
    ),
    # Ranges and interim responses
    "ranges are cut from a stored 200; If-Range strongly; 416 says the length": (
        "range-first-last",
        "range-open*",
        "range-suffix*",
        "range-if-range*",
        "range-unsatisfiable-*",
    ),
    "a 206 is never taken for a 200; storing and completing one is optional": ("part-*",),
    "103 is passed through and not stored": ("interim-103*",),
    # Concurrency
    "a cold crowd costs one fetch; a leader that fails fails nobody else": (
        "crowd-cold*",
        "crowd-first-fails",
        "crowd-error",
    ),
    "what may not be shared sends everybody off at once, by its head, and that is remembered": (
        "crowd-private*",
        "crowd-no-store",
    ),
    "variants and credentials are not collapsed": ("crowd-variants*", "crowd-authorization*"),
    "the fill goes on when its viewer leaves": ("crowd-first-leaves", "crowd-all-leave"),
    # Purge
    "a fill that began before a purge is not stored, nor joined afterwards; nor a refresh or a 304": (
        "purge-in-flight*",
        "invalidate-in-flight",
    ),
    "tags of a fill are known only with its head: purges of tags are kept for as long": ("purge-in-flight*",),
    "a soft purge makes stale, within the object's own window; must-revalidate goes as by a hard one": ("purge-soft*",),
    "a child is not filled from a parent that was not purged: the sequence number travels": ("purge-stored-again",),
    "tags: exact, limited, in Surrogate-Key, Cache-Tag and Cache-Groups": (
        "purge-tag",
        "purge-other-tag",
        "purge-of-many",
        "purge-surrogate-key",
        "purge-groups",
        "group-*",
    ),
    "a purge is answered with what was done": ("purge-tag", "purge-path", "purge-several-addresses"),
    # Visible
    "Cache-Status on every response, with its parameters; negative ttl when stale": ("visible-*",),
    # Seldom tested
    "If-Match": ("precondition-match*", "precondition-put-match"),
    "If-Unmodified-Since": ("precondition-unmodified*",),
    "If-None-Match: *": ("precondition-star*",),
    "If-Range": ("range-if-range*", "part-if-range-then-whole"),
    "416": ("range-unsatisfiable-*", "range-416-then-whole", "part-416-not-kept"),
    "several ranges": ("range-several*", "range-many-overlapping"),
    "joining two partial responses": ("part-joined", "part-not-joined"),
    "only-if-cached with something stored": ("request-only-if-cached*",),
    "max-stale, bare and exceeded": ("request-max-stale*",),
    "safe methods invalidate nothing": ("invalidate-options-200", "invalidate-head-200", "invalidate-get-*"),
    "statuses 300, 405, 414, 451, 501": (
        "status-300-fresh",
        "status-405-fresh",
        "status-414-fresh",
        "status-451-fresh",
        "status-501-fresh",
        "heuristic-300",
    ),
    "caches that are no CDN ignore CDN-Cache-Control": ("targeted-ignored*",),
}
