"""What our gateway does not pass, and why, by the id of the case. What passes after all must leave this table."""

from __future__ import annotations

KNOWN: dict[str, str] = {
    "store-post-content-location": "Answers to unsafe methods are never stored, on purpose (docs/house.md): the next "
    "GET costs one request, and no POST can put anything before other viewers.",
    "group-case": "Groups share one space of names with the other tags, which are compared in lower case: more is "
    "invalidated than was asked for, never less.",
    "group-other-host": "An edge is one site, whatever names it is known by, and so are its groups: more is "
    "invalidated than was asked for, never less.",
    # Information: either answer conforms, and this is ours.
    "heuristic-501": "A 501 speaks of the method, and nothing is gained by guessing how long it will be so; one that "
    "says how long it is fresh is kept.",
    "cut-by-close": "What ends with the connection cannot be told from what was cut, so it is not kept.",
    "vary-star-validated": "What varies on * is not stored at all.",
    "precondition-date-of-date": "The Date of a response says when it was sent, not when it was changed: without "
    "Last-Modified the whole is sent.",
    "request-max-stale-max-age": "A request's max-age is held against the age, whatever max-stale says beside it.",
    "request-bad-max-age": "A request whose max-age cannot be read is taken to ask for something new.",
    "authorization-of-public": "A request with credentials may be answered otherwise by the origin, so it is asked, "
    "unless what is stored says that credentials do not matter.",
    "crowd-max-age-0": "What may not be reused for the next request is not shared with those who waited either.",
}
