"""Hints -> ETag, Cache-Control, CDN-Cache-Control, Cache-Tag, Catalog-Version (docs/wire.md, rule 1).

No response leaves here storable without both a position and tags.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from cache_policies.fields import MIN_VERSION_FIELD, MIN_VERSION_HEAD, TAGS_FIELD, VERSION_FIELD
from cache_policies.positions import MAX_TAGS_PER_RESPONSE, Position, WireError
from cache_policies.tags import many_tag, tag_of_all
from origin.errors import Invalid
from origin.snapshot import Minimum

_GIVEN_UP_FIRST = ("cp:", "c:", "p:", "d:", "s:")
"""Kinds of tags that `many:` stands for: each event that names one of these names `many:` of its market."""


@dataclass(frozen=True, slots=True)
class CacheHints:
    """What the origin says about keeping one response. Times in seconds; 0: not at all."""

    fresh_s: int
    """How long it may be served without asking."""
    stale_while_revalidate_s: int
    stale_if_error_s: int
    tags: tuple[str, ...]
    """What purges it; see `events/purge_map.py` for what a response has to carry."""
    position: Position
    """Of the snapshot that the body was read from."""
    shows_price: bool = False
    """A viewer may keep it only to ask again each time (rule 10)."""
    immutable: bool = False
    """The address holds a digest of the content: viewers keep it for `fresh_s` without asking."""
    expires_at: int | None = None
    """A hard end, in seconds since the epoch, past which the body is neither fresh nor stale."""


def minimum_of(request: Request) -> Minimum:
    """What an edge demands of the snapshot (`Min-Catalog-Version`); None for everybody without the edge key.

    The app deletes the field of those (`app.EdgeKey`). Raises Invalid when the field is neither a position nor
    `head`.
    """
    text = request.headers.get(MIN_VERSION_FIELD)
    if text is None:
        return None
    if text == MIN_VERSION_HEAD:
        return "head"
    try:
        return Position.parse(text)
    except WireError as exc:
        raise Invalid(f"Min-Catalog-Version: {exc}") from exc


def cached(request: Request, body: bytes, media_type: str, hints: CacheHints, status: int = 200) -> Response:
    """The response to GET or HEAD with all its labels; 304 when the viewer's copy is this one.

    A 304 and the answer to HEAD carry the labels too: they move them to the stored response (rule 1). Raises
    ValueError without tags: what nothing purges must not be kept, say `uncached` instead.
    """
    if not hints.tags:
        raise ValueError("a response that may be stored names the tags that purge it")
    etag = etag_of(body)
    headers = {
        "etag": etag,
        "cache-control": _for_cloudfront(hints),
        "cdn-cache-control": _for_edges(hints),
        TAGS_FIELD: ", ".join(fit(hints.tags)),
        VERSION_FIELD: str(hints.position),
    }
    if hints.expires_at is not None:
        headers["nearshelf-expires-at"] = str(hints.expires_at)
    if status == 200 and matches(request.headers.getlist("if-none-match"), etag):
        return Response(status_code=304, headers=headers)
    response = Response(body, status, headers, media_type)
    if request.method == "HEAD":
        response.body = b""  # Content-Length stays that of the body (RFC 9110 §9.3.2)
    return response


def uncached(body: bytes, media_type: str, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A response that nobody keeps: staff pages, answers to writes, whatever has no position."""
    return Response(body, status, {**(headers or {}), "cache-control": "no-store"}, media_type)


def etag_of(body: bytes) -> str:
    """A strong validator: a digest of the body, quoted."""
    digest = hashlib.blake2b(body, digest_size=16).digest()
    return '"' + base64.urlsafe_b64encode(digest).rstrip(b"=").decode() + '"'


def matches(fields: Iterable[str], etag: str) -> bool:
    """Whether If-None-Match holds `etag` (weak comparison, RFC 9110 §13.1.2)."""
    for field in fields:
        if field.strip() == "*":
            return True
        # Our tags are base64: a comma inside a foreign tag cannot make one of ours out of two halves with quotes.
        if any(candidate.strip().removeprefix("W/") == etag for candidate in field.split(",")):
            return True
    return False


def fit(tags: Iterable[str]) -> tuple[str, ...]:
    """`tags`, and those that stand for all of their kinds (`tag_of_all`): at most 50.

    With more, those of single products, addresses and categories give way to `many:` of their markets, which every
    change in a market names. Raises ValueError when even that is not enough: then the response shows too much.
    """
    named = tuple(tags)
    distinct = tuple(dict.fromkeys([*named, *(found for tag in named if (found := tag_of_all(tag)) is not None)]))
    if len(distinct) <= MAX_TAGS_PER_RESPONSE:
        return distinct
    kept = [tag for tag in distinct if not tag.startswith(_GIVEN_UP_FIRST)]
    given_up = [tag for tag in distinct if tag.startswith(_GIVEN_UP_FIRST)]
    fitted = tuple(dict.fromkeys([*kept, *(many_tag(tag.split(":")[1]) for tag in given_up)]))
    if len(fitted) > MAX_TAGS_PER_RESPONSE:
        raise ValueError(f"{len(fitted)} tags that `many:` cannot stand for; a response carries at most 50")
    return fitted


def _for_edges(hints: CacheHints) -> str:
    # Zeros, too: where nothing is said an edge takes its policy's own windows.
    parts = [
        f"max-age={hints.fresh_s}",
        f"stale-while-revalidate={hints.stale_while_revalidate_s}",
        f"stale-if-error={hints.stale_if_error_s}",
    ]
    if hints.immutable:
        parts.append("immutable")
    return ", ".join(parts)


def _for_cloudfront(hints: CacheHints) -> str:
    """The same for a cache that does not know CDN-Cache-Control. Browsers ask again each time, but for immutables.

    `stale-if-error=0` is said, because CloudFront takes silence for leave to serve expired copies on errors; always
    where a price shows, because CloudFront has no floor below which a copy is gone and no notice to fill. `no-cache`
    would bind CloudFront too: viewers get that word from the edge.
    """
    if hints.immutable:
        return f"public, max-age={hints.fresh_s}, immutable"
    parts = ["public", "max-age=0", f"s-maxage={hints.fresh_s}"]
    if hints.stale_while_revalidate_s:
        parts.append(f"stale-while-revalidate={hints.stale_while_revalidate_s}")
    parts.append(f"stale-if-error={0 if hints.shows_price else hints.stale_if_error_s}")
    return ", ".join(parts)
