"""The viewer's response, from a stored or a forwarded one (RFC 9110 §13, RFC 9111 §4; rules 5 and 10)."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from http import HTTPStatus

from edge.core.compression import chosen_by_coding, coding_for, may_be_coded, of_the_coded
from edge.core.freshness import current_age
from edge.core.http import Headers, Request, Response
from edge.core.policy import CachePolicy
from edge.core.preconditions import precondition_status, range_applies
from edge.core.ranges import partial, wanted_parts
from edge.core.reuse import NOTICE_SLOT
from edge.core.status import CacheStatus
from edge.core.stored import StoredResponse
from edge.core.viewer_fields import viewer_headers

NOTICE = (
    b'<div role="status" class="notice" lang="en">Prices are being confirmed. '
    b"You always pay the price shown at the checkout.</div>"
)
"""What stale-marked pages say in their slot."""

_IN_NOT_MODIFIED = frozenset(
    {
        "cache-control",
        "cdn-cache-control",
        "content-location",
        "date",
        "etag",
        "expires",
        "set-cookie",
        "vary",
    }
)
"""What a 304 carries (RFC 9110 §15.4.5), as far as the response has it; Last-Modified where there is no ETag."""

_NOT_IN_MARKED = frozenset(
    {
        "accept-ranges",
        "cache-control",
        "cdn-cache-control",
        "content-digest",
        "etag",
        "expires",
        "last-modified",
        "pragma",
        "repr-digest",
    }
)
"""Nobody keeps a stale-marked page, nor asks for it again by a validator. Digests (RFC 9530) are of the body as it was
before its slot was filled."""
_BODILESS = frozenset({204, 304})


def deliver(
    request: Request,
    stored: StoredResponse,
    policy: CachePolicy,
    now: float,
    status: CacheStatus,
    *,
    whole: bool = False,
) -> Response:
    """The answer to `request` from a stored response: 200 (or its own status), 206, 304, 412, 416, or the head alone
    for HEAD.

    `now` is a moment of the edge's clock. The answer says Age and Cache-Status, and its Content-Length, which for HEAD
    is that of the body it leaves out. The coded copy is sent where there is one and the viewer takes it; a 304 has the
    fields of whichever would have been sent. `whole`: no part is cut, because the body is not there yet.
    """
    added = (("age", str(int(current_age(stored, now)))), *_status_line(status))
    coding = wanted_coding(request.headers, stored, policy)
    form = stored.form(coding) if coding else None
    coding, body = (form.coding, form.body) if form is not None and form.body else ("", stored.body)
    headers = _fields(stored, policy, coding)
    instead = _instead_of(request, stored.status, headers, stored.headers, added)
    if instead is not None:
        return instead
    if whole:
        return _whole(request, stored.status, headers, body, added)
    return _whole_or_part(request, stored.status, headers, stored.headers, body, added)


def wanted_coding(request: Headers, stored: StoredResponse, policy: CachePolicy) -> str:
    """The coding in which this viewer is to be answered, as soon as there is a copy in it; empty: as received.
    Who asks for a part gets one of the body as received."""
    if not policy.compress or "range" in request:
        return ""
    coding = coding_for(request.joined("accept-encoding"))
    return coding if coding and has_coded_forms(stored, policy) else ""


def has_coded_forms(stored: StoredResponse, policy: CachePolicy) -> bool:
    """Whether a viewer who takes one of CODINGS may be answered in it."""
    return may_be_coded(policy, stored.status, stored.headers, len(stored.body))


def deliver_forwarded(request: Request, response: Response, policy: CachePolicy, status: CacheStatus) -> Response:
    """The answer to `request` from a response that came from the origin for it, or for the leader it waited on.

    Preconditions are evaluated here as well, because on a stored route the origin has not seen the viewer's.
    """
    headers = viewer_headers(response.headers, policy)
    added = _status_line(status)
    if "age" in response.headers:
        added = (("age", response.headers.get("age") or "0"), *added)
    if policy.store:
        instead = _instead_of(request, response.status, headers, response.headers, added)
        if instead is not None:
            return instead
    if request.method == "HEAD" and not response.body:
        # Nobody here has read the body: its length is what the origin says, and where it says none, nobody knows.
        length = [pair for pair in response.headers if pair[0] == "content-length"][:1]
        return Response(response.status, Headers((*headers, *length, *added)))
    if policy.store:
        return _whole_or_part(request, response.status, headers, response.headers, response.body, added)
    return _whole(request, response.status, headers, response.body, added)


def deliver_marked(
    request: Request, stored: StoredResponse, policy: CachePolicy, now: float, status: CacheStatus
) -> Response:
    """The stale-marked answer (rule 5): a full 200 without validators that nobody keeps, its notice slot filled.

    For when the lease has run out and the origin does not answer; `reuse.on_error` says whether there is a slot, where
    there has to be. Preconditions are not evaluated. `now` as in `deliver`. Never coded: its body is made for this
    moment.
    """
    headers = viewer_headers(stored.headers, policy).without(_NOT_IN_MARKED)
    body = stored.body.replace(NOTICE_SLOT, NOTICE, 1)
    added = (("cache-control", "no-store"), ("age", str(int(current_age(stored, now)))), *_status_line(status))
    return _whole(request, stored.status, headers, body, added)


def form_head(stored: StoredResponse, policy: CachePolicy, coding: str, octets: int) -> tuple[bytes, bytes]:
    """Status line and every field of a hit that does not change while it is stored, each line ended by CRLF: what it
    has in common with many others, one object for all of them, and what is its own.

    `coding` and `octets`: of the form that is sent, an empty coding for the body as received. What is left to add:
    `age: N`, `cache-status: ...`, the empty line and, but for HEAD, the body. An upstream's Cache-Status is in here
    already, as an earlier line of the same list.
    """
    fields = (*_fields(stored, policy, coding), *_length(stored.status, octets))
    common, own = _in_common_first(fields)
    return _shared_start(_start(stored.status, common)), _lines(own)


def response_head(response: Response) -> bytes:
    """Status line, fields and the empty line of any response, in HTTP/1.1."""
    common, own = _in_common_first(response.headers)
    return _start(response.status, common) + _lines(own) + b"\r\n"


def _in_common_first(pairs: Iterable[tuple[str, str]]) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Fields that look alike in many responses, then those that do not. The order of lines with different names means
    nothing (RFC 9110 §5.3), and that of lines with one name stays."""
    return [pair for pair in pairs if pair[0] not in _OWN], [pair for pair in pairs if pair[0] in _OWN]


def _start(status: int, pairs: Iterable[tuple[str, str]]) -> bytes:
    return f"HTTP/1.1 {status} {_PHRASES.get(status, '')}\r\n".encode() + _lines(pairs)


@lru_cache(maxsize=1_024)
def _shared_start(start: bytes) -> bytes:
    """The first equal one that was seen lately."""
    return start


def _lines(pairs: Iterable[tuple[str, str]]) -> bytes:
    return "".join([f"{name}: {value}\r\n" for name, value in pairs]).encode("latin-1", "replace")


_OWN = frozenset(
    {
        "age", "cache-status", "content-length", "content-location", "content-range", "date", "etag", "expires",
        "last-modified", "link", "location", "server-timing", "set-cookie",
    }
)  # fmt: skip
"""Fields with a value of a response's own, as a rule."""

_PHRASES = {status.value: status.phrase for status in HTTPStatus}


def _fields(stored: StoredResponse, policy: CachePolicy, coding: str) -> Headers:
    """A stored response's fields as a viewer gets them, in one of its forms."""
    headers = viewer_headers(stored.headers, policy)
    if has_coded_forms(stored, policy):
        headers = chosen_by_coding(headers)
    if coding:
        return of_the_coded(headers, coding)
    return headers.with_(("accept-ranges", "bytes")) if stored.status == 200 else headers


def _instead_of(
    request: Request, status: int, headers: Headers, received: Headers, added: tuple[tuple[str, str], ...]
) -> Response | None:
    """The 304 or 412 that the viewer's preconditions ask for; `headers` are what a viewer sees of those `received`."""
    instead = precondition_status(request, status, received)
    if instead == 304:
        return Response(304, Headers((*_not_modified_fields(headers), *added)))
    return _refused(412, added) if instead == 412 else None


def _whole_or_part(
    request: Request,
    status: int,
    headers: Headers,
    received: Headers,
    body: bytes,
    added: tuple[tuple[str, str], ...],
) -> Response:
    """A whole 200, or the parts of it that the viewer asks for (RFC 9110 §14.2); any other status as it is."""
    asked = request.headers.joined("range")
    if asked is None or status != 200 or request.method != "GET" or not range_applies(request, received):
        return _whole(request, status, headers, body, added)
    parts = wanted_parts(asked, len(body))
    if parts is None:
        return _whole(request, status, headers, body, added)
    if not parts:
        return _refused(416, (("content-range", f"bytes */{len(body)}"), *added))
    fields, content = partial(headers, body, parts)
    return _whole(request, 206, fields, content, added)


def _refused(status: int, added: tuple[tuple[str, str], ...]) -> Response:
    """The edge's own word about this request alone."""
    return Response(status, Headers((("cache-control", "no-store"), ("content-length", "0"), *added)))


def _whole(
    request: Request, status: int, headers: Headers, body: bytes, added: tuple[tuple[str, str], ...]
) -> Response:
    fields = Headers((*headers, *_length(status, len(body)), *added))
    return Response(status, fields, b"" if request.method == "HEAD" or status in _BODILESS else body)


def _length(status: int, octets: int) -> tuple[tuple[str, str], ...]:
    return () if status in _BODILESS else (("content-length", str(octets)),)


def _not_modified_fields(headers: Headers) -> tuple[tuple[str, str], ...]:
    kept = _IN_NOT_MODIFIED if "etag" in headers else _IN_NOT_MODIFIED | {"last-modified"}
    return tuple([pair for pair in headers if pair[0] in kept])


def _status_line(status: CacheStatus) -> tuple[tuple[str, str], ...]:
    """Ours as a further line after an upstream's: the cache nearest to the origin comes first (RFC 9211 §2)."""
    return (("cache-status", status.text()),)
