"""A viewer's preconditions, held against what would be sent (RFC 9110 §13)."""

from __future__ import annotations

import re

from edge.core.freshness import parse_http_date
from edge.core.http import Headers, Request, is_strong

# Read one by one rather than split at commas: an entity tag may hold one (RFC 9110 §8.8.3). Blanks it may not hold, but
# some origins make such, and their viewers send them back.
_ENTITY_TAG = re.compile(r'(W/)?("[\x20\x21\x23-\x7e\x80-\xff]*")')


def precondition_status(request: Request, status: int, headers: Headers) -> int | None:
    """304 or 412 in place of a response with this status and these fields; None: send it (RFC 9110 §13.2.2).

    In the order of the section. A cache may leave If-Match and If-Unmodified-Since to the origin; here they count for
    what is read, because on a stored route the origin never sees them. Only a success is conditional, and only a GET
    or a HEAD: what any other method did has been done. A date confirms only where it is a strong validator.
    """
    if request.method not in {"GET", "HEAD"} or not 200 <= status < 300 or status == 206:
        return None
    asked = request.headers
    if "if-match" in asked:
        if not _matches(asked.joined("if-match") or "", headers.get("etag"), strongly=True):
            return 412
    elif "if-unmodified-since" in asked and _modified_since(asked.get("if-unmodified-since"), headers) is True:
        return 412
    if "if-none-match" in asked:
        return 304 if _matches(asked.joined("if-none-match") or "", headers.get("etag"), strongly=False) else None
    unmodified = _modified_since(asked.get("if-modified-since"), headers) is False
    return 304 if unmodified and _has_strong_date(headers) else None


def range_applies(request: Request, headers: Headers) -> bool:
    """Whether a part may be sent: there is no If-Range, or it holds (RFC 9110 §13.1.5).

    A strong comparison of entity tags; or the very date of Last-Modified, if that is a strong validator.
    """
    held = request.headers.get("if-range")
    if held is None:
        return True
    if held.endswith('"'):
        return is_strong(held) and held == headers.get("etag")
    return _has_strong_date(headers) and parse_http_date(held) == parse_http_date(headers.get("last-modified") or "")


def _has_strong_date(headers: Headers) -> bool:
    """Whether Last-Modified is a strong validator: the response was made a second later at least (RFC 9110 §8.8.2.2).
    What was made within the same second may have changed again since, and still say that date."""
    modified, made = parse_http_date(headers.get("last-modified") or ""), parse_http_date(headers.get("date") or "")
    return modified is not None and made is not None and made - modified >= 1


def _matches(wanted: str, etag: str | None, *, strongly: bool) -> bool:
    """Whether the list of entity tags has this one; `*` stands for whatever there is."""
    if wanted.strip(" \t") == "*":
        return True
    if etag is None or (strongly and not is_strong(etag)):
        return False
    opaque = etag.removeprefix("W/")
    return any(tag == opaque and not (strongly and weak) for weak, tag in _ENTITY_TAG.findall(wanted))


def _modified_since(since: str | None, headers: Headers) -> bool | None:
    """None where one of the two dates is missing or cannot be read: then the condition does not count."""
    since_s = parse_http_date(since or "")
    modified_s = parse_http_date(headers.get("last-modified") or "")
    return None if since_s is None or modified_s is None else modified_s > since_s
