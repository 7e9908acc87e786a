"""The viewer's response, from a stored or a forwarded one (RFC 9110 §13, RFC 9111 §4; rules 5 and 10)."""

from __future__ import annotations

import re
from http import HTTPStatus

from edge.core.compression import accepts_gzip, chosen_by_coding, may_be_coded, of_the_coded
from edge.core.freshness import current_age, parse_http_date
from edge.core.http import Headers, Request, Response
from edge.core.policy import CachePolicy
from edge.core.status import CacheStatus
from edge.core.stored import StoredResponse
from edge.core.viewer_fields import viewer_headers

NOTICE_SLOT = b"<!--nearshelf:notice-->"
NOTICE = (
    b'<div role="status" class="notice" lang="en">Prices are being confirmed. '
    b"You always pay the price shown at the checkout.</div>"
)
"""What stale-marked pages say in their slot."""

_IN_NOT_MODIFIED = frozenset({"cache-control", "content-location", "date", "etag", "expires", "set-cookie", "vary"})
"""What a 304 carries (RFC 9110 §15.4.5), as far as the response has it."""

# Read one by one rather than split at commas: an entity tag may hold one (RFC 9110 §8.8.3).
_OPAQUE_TAG = re.compile(r'"[\x21\x23-\x7e\x80-\xff]*"')

_BODILESS = frozenset({204, 304})


def deliver(request: Request, stored: StoredResponse, policy: CachePolicy, now: float, status: CacheStatus) -> Response:
    """The answer to `request` from a stored response: 200 (or its own status), 304, or the head alone for HEAD.

    `now` is a moment of the edge's clock. The answer says Age and Cache-Status, and its Content-Length, which for HEAD
    is that of the body it leaves out. The coded copy is sent where there is one and the viewer takes it; a 304 has the
    fields of whichever would have been sent.
    """
    added = (("age", str(int(current_age(stored, now)))), *_status_line(status))
    coded = stored.coded if wants_coded(request.headers, stored, policy) else None
    headers = _fields(stored, policy, coded=bool(coded))
    if not_modified(request.headers, stored.status, stored.headers):
        return Response(304, Headers((*_not_modified_fields(headers), *added)))
    return _whole(request, stored.status, headers, coded or stored.body, added)


def has_coded_form(stored: StoredResponse, policy: CachePolicy) -> bool:
    """Whether a viewer who takes gzip may be answered in it, as soon as there is a coded copy."""
    return may_be_coded(policy, stored.status, stored.headers, len(stored.body))


def wants_coded(request: Headers, stored: StoredResponse, policy: CachePolicy) -> bool:
    """Whether this viewer is to be answered from the coded copy."""
    return policy.compress and accepts_gzip(request.joined("accept-encoding")) and has_coded_form(stored, policy)


def deliver_forwarded(request: Request, response: Response, policy: CachePolicy, status: CacheStatus) -> Response:
    """The answer to `request` from a response that came from the origin for it, or for the leader it waited on.

    Preconditions are evaluated here as well, because on a stored route the origin has not seen the viewer's.
    """
    headers = viewer_headers(response.headers, policy)
    added = _status_line(status)
    if "age" in response.headers:
        added = (("age", response.headers.get("age") or "0"), *added)
    if policy.store and not_modified(request.headers, response.status, response.headers):
        return Response(304, Headers((*_not_modified_fields(headers), *added)))
    if request.method == "HEAD" and not response.body and "content-length" in response.headers:
        length = (("content-length", response.headers.get("content-length") or "0"),)
        return Response(response.status, Headers((*headers, *length, *added)))
    return _whole(request, response.status, headers, response.body, added)


def deliver_marked(
    request: Request, stored: StoredResponse, policy: CachePolicy, now: float, status: CacheStatus
) -> Response:
    """The stale-marked answer (rule 5): a full 200 without validators that nobody keeps, its notice slot filled.

    For when the lease has run out and the origin does not answer. Preconditions are not evaluated. `now` as in
    `deliver`. Never coded: its body is made for this moment.
    """
    headers = viewer_headers(stored.headers, policy).without(("cache-control", "etag", "expires", "last-modified"))
    body = stored.body.replace(NOTICE_SLOT, NOTICE, 1)
    added = (("cache-control", "no-store"), ("age", str(int(current_age(stored, now)))), *_status_line(status))
    return _whole(request, stored.status, headers, body, added)


def not_modified(request: Headers, status: int, headers: Headers) -> bool:
    """Whether the viewer already has what would be sent: answer 304 (RFC 9110 §13.2.2).

    If-None-Match beats If-Modified-Since; it compares weakly and takes lists and `*`. Only a 200 is conditional here.
    """
    if status != 200:
        return False
    wanted = request.joined("if-none-match")
    if wanted is not None:
        etag = headers.get("etag")
        if wanted.strip() == "*":
            return True
        return etag is not None and etag.removeprefix("W/") in _OPAQUE_TAG.findall(wanted)
    since, modified = request.get("if-modified-since"), headers.get("last-modified")
    if since is None or modified is None:
        return False
    since_s, modified_s = parse_http_date(since), parse_http_date(modified)
    return since_s is not None and modified_s is not None and modified_s <= since_s


def hit_head(stored: StoredResponse, policy: CachePolicy) -> bytes:
    """Status line and every field of a hit that does not change while it is stored, each line ended by CRLF.

    What is left to add per hit: `age: N`, `cache-status: ...`, the empty line and, but for HEAD, `stored.body`. An
    upstream's Cache-Status is in here already, as an earlier line of the same list.
    """
    return _head(stored.status, (*_fields(stored, policy, coded=False), *_length(stored.status, len(stored.body))))


def coded_hit_head(stored: StoredResponse, policy: CachePolicy) -> bytes:
    """The same for the coded form, whose body is `stored.coded`: it has to be there."""
    assert stored.coded
    return _head(stored.status, (*_fields(stored, policy, coded=True), *_length(stored.status, len(stored.coded))))


def response_head(response: Response) -> bytes:
    """Status line, fields and the empty line of any response, in HTTP/1.1."""
    return _head(response.status, response.headers.pairs) + b"\r\n"


def _head(status: int, pairs: tuple[tuple[str, str], ...]) -> bytes:
    lines = [f"HTTP/1.1 {status} {_PHRASES.get(status, '')}", *(f"{name}: {value}" for name, value in pairs), ""]
    return "\r\n".join(lines).encode("latin-1", "replace")


_PHRASES = {status.value: status.phrase for status in HTTPStatus}


def _fields(stored: StoredResponse, policy: CachePolicy, *, coded: bool) -> Headers:
    """A stored response's fields as a viewer gets them, in one of its forms."""
    headers = viewer_headers(stored.headers, policy)
    if has_coded_form(stored, policy):
        headers = chosen_by_coding(headers)
    return of_the_coded(headers) if coded else headers


def _whole(
    request: Request, status: int, headers: Headers, body: bytes, added: tuple[tuple[str, str], ...]
) -> Response:
    fields = Headers((*headers, *_length(status, len(body)), *added))
    return Response(status, fields, b"" if request.method == "HEAD" or status in _BODILESS else body)


def _length(status: int, octets: int) -> tuple[tuple[str, str], ...]:
    return () if status in _BODILESS else (("content-length", str(octets)),)


def _not_modified_fields(headers: Headers) -> tuple[tuple[str, str], ...]:
    return tuple([pair for pair in headers if pair[0] in _IN_NOT_MODIFIED])


def _status_line(status: CacheStatus) -> tuple[tuple[str, str], ...]:
    """Ours as a further line after an upstream's: the cache nearest to the origin comes first (RFC 9211 §2)."""
    return (("cache-status", status.text()),)
