"""What the answer to an unsafe request makes unusable (RFC 9111 §4.4, RFC 9875 §3)."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urljoin, urlsplit

from edge.core.http import Headers, Request
from edge.core.key import BadTarget, CacheKey, cache_key, normalise_path
from edge.core.policy import PolicySet
from edge.core.structured import parse_strings
from edge.core.tags import field_tags

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
"""Every other method is taken for unsafe, unknown ones too (RFC 9111 §4.4)."""
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


def invalidates(method: str, status: int) -> bool:
    """Whether anything stored is to be dropped at all: the method is not safe, and the answer is no error."""
    return method not in SAFE_METHODS and 200 <= status < 400


def invalidated_keys(
    request: Request, status: int, headers: Headers, policies: PolicySet, scheme: str = "http"
) -> tuple[CacheKey, ...]:
    """The keys whose stored responses, every variant of them, must not be used any more; each once.

    That of the request's target, and those of Location and Content-Location on the same origin: `scheme`, host and port
    as viewers of this listener name them. A reference that no edge would answer names nothing.
    """
    if not invalidates(request.method, status):
        return ()
    found: dict[CacheKey, None] = {}
    for path, query in ((request.path, request.query), *_named(request, headers, scheme)):
        try:
            match = policies.match(normalise_path(path))
            if match.policy.store:
                found[cache_key(Request("GET", request.authority, path, query), match)] = None
        except BadTarget:
            continue
    return tuple(found)


def invalidated_tags(request: Request, status: int, headers: Headers) -> tuple[str, ...]:
    """The tags of the groups that Cache-Group-Invalidation names (RFC 9875 §3), as `storing.label_of` spells groups in
    an edge with a purge log of its own; none where the field cannot be read."""
    if not invalidates(request.method, status):
        return ()
    groups = parse_strings(headers.joined("cache-group-invalidation") or "") or ()
    return tuple(dict.fromkeys(field_tags(groups)))


def _named(request: Request, headers: Headers, scheme: str) -> Iterator[tuple[str, str]]:
    """Path and query of what Location and Content-Location name on this host, relative references resolved."""
    default_port = _DEFAULT_PORTS[scheme]
    here = request.authority.removesuffix(default_port)
    base = f"{scheme}://{request.authority}{request.path}" + (f"?{request.query}" if request.query else "")
    for name in ("location", "content-location"):
        for reference in headers.lines(name):
            try:
                parts = urlsplit(urljoin(base, reference))
            except ValueError:
                continue
            if parts.scheme == scheme and parts.netloc.lower().removesuffix(default_port) == here:
                yield parts.path or "/", parts.query
