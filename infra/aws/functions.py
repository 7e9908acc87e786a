"""The Functions of CloudFront (runtime cloudfront-js-2.0), generated from the policies.

viewer-request does for CloudFront what the first steps of an exchange do in our gateway: refuse what two readers might
read differently, find the route, refuse what the route forbids, write one spelling of path and query (which CloudFront
then makes its key of), lead `/` to a market. Its rules are those of `edge/core/key.py`, `policy.py` and
`request_rules.py`, and tests/treaty/test_two_edges.py holds the two side by side. viewer-response hands out what the
origin-response handler meant for the viewer. Both are written in `javascript/`, readable; what comes out of here is the
same without comments, indentation and what no policy needs, and the policies as tables.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cache_policies.market_values import Markets
from edge.core.market import CRAWLERS
from edge.core.policy import ALL, Auth, CachePolicy, Generation, PolicySet, Redirect, parse_pattern
from edge.core.request_rules import CHALLENGE
from edge.core.viewer_fields import BETWEEN_EDGE_AND_ORIGIN
from edge.lambda_edge.events import GENERATION_FIELD, SILENCE, TOLD_FIELD
from infra.aws.squeeze import squeezed, with_features

MAX_FUNCTION_BYTES = 10_240
"""What CloudFront accepts; not adjustable."""

ALL_METHODS = ("GET", "HEAD", "OPTIONS", "PUT", "PATCH", "POST", "DELETE")
"""What CloudFront knows; it answers others with 403 itself."""

AUTHORITY_FIELD = "x-forwarded-host"
"""Part of CloudFront's key: the viewer's host, which CloudFront itself leaves out when it has several names."""

_SOURCES = Path(__file__).parent / "javascript"


class FunctionTooLarge(Exception):
    """CloudFront would refuse the function. The text says what takes the room, and what to do."""


def viewer_request_function(policies: PolicySet, hosts: Sequence[str] = ()) -> str:
    """JavaScript source. `hosts`: names of the shop beside the distribution's own. Raises FunctionTooLarge."""
    tables = _Tables(policies)
    markets = [market.id for market in policies.markets.all]
    room = {
        f"{len(policies.policies)} routes": tables.routes,
        f"{len(tables.kinds)} kinds of routes": _lines(tables.kinds),
        f"{len(markets)} markets": _list(_countries(policies.markets)) + _list(markets),
        f"{len(hosts)} names of the shop": _list(hosts),
    }
    source = _filled(
        "viewer-request.js",
        tables.features,
        {
            "HOSTS": _list(hosts),
            "MARKETS": _list(markets),
            "COUNTRIES": _list(_countries(policies.markets)),
            "DEFAULT_MARKET": _text(policies.markets.default),
            "CRAWLERS": f"/{'|'.join(CRAWLERS)}/",
            "METHODS": _text(tables.methods),
            "KINDS": _lines(tables.kinds),
            "BLOCKED": _list(tables.blocked),
            "ROUTES": f"`{tables.routes}`",
            "CHALLENGE": _text(CHALLENGE),
            "AUTHORITY_FIELD": _text(AUTHORITY_FIELD),
            "GENERATION_FIELD": _text(GENERATION_FIELD),
        },
    )
    return _within_the_limit("viewer-request.js", source, room)


def viewer_response_function() -> str:
    """JavaScript source; the same for all policies, because the handler before it knew the route."""
    source = _filled(
        "viewer-response.js",
        frozenset(),
        {
            "TOLD_FIELD": _text(TOLD_FIELD),
            "SILENCE": _text(SILENCE),
            "REMOVED": _list(sorted(name for name in BETWEEN_EDGE_AND_ORIGIN if not name.startswith("nearshelf-"))),
        },
    )
    return _within_the_limit("viewer-response.js", source, {})


def _filled(name: str, features: frozenset[str], values: dict[str, str]) -> str:
    source = with_features((_SOURCES / name).read_text(), features)
    for placeholder, value in values.items():
        source = source.replace(f"${placeholder}$", value)
    return squeezed(source)


def _within_the_limit(name: str, source: str, room: dict[str, str]) -> str:
    size = len(source.encode())
    if size <= MAX_FUNCTION_BYTES:
        return source
    parts = {what: len(text.encode()) for what, text in room.items()}
    listed = ", ".join(f"{bytes_} for {what}" for what, bytes_ in sorted(parts.items(), key=lambda item: -item[1]))
    raise FunctionTooLarge(
        f"{name}: {size} bytes, at most {MAX_FUNCTION_BYTES}, which AWS does not raise: {listed}, "
        f"{size - sum(parts.values())} for the code. Let one route take in several ({{name}}, {{rest...}}), and let "
        "routes agree in methods, query, auth, generation and blocked_countries, so that they share a kind"
    )


class _Kind(NamedTuple):
    """What the Function must know of a policy beside its path."""

    methods: str
    query: str
    stored: bool
    bucket: str
    cookies: bool
    refuse: int
    redirect: bool
    auth: int
    """2: a request without Authorization is answered with 401; 1: one with it has a key of its own."""
    blocked: str
    """Country codes end to end."""


class _Tables:
    """The policies as the Function reads them: routes that refer to kinds."""

    def __init__(self, policies: PolicySet) -> None:
        of_policies = [_kind(policy) for policy in policies.policies]
        kinds = list(dict.fromkeys(of_policies))
        self.methods = Counter(kind.methods for kind in kinds).most_common(1)[0][0]
        self.blocked = list(dict.fromkeys(kind.blocked for kind in kinds if kind.blocked))
        self.kinds = [self._written(kind) for kind in kinds]
        self.routes = "\n".join(
            f"{kinds.index(kind)}{_pattern(policy, kind)}"
            for policy, kind in zip(policies.policies, of_policies, strict=True)
        )
        self.features = _features(kinds)

    def _written(self, kind: _Kind) -> str:
        """What is false, empty or as with most is left out."""
        parts = []
        if kind.methods != self.methods:
            parts.append(f"methods: {_text(kind.methods)}")
        if kind.query:
            parts.append(f"query: {_text(kind.query)}")
        if kind.stored:
            parts.append("stored: 1")
        if kind.bucket:
            parts.append(f"bucket: {_text(kind.bucket)}")
        if kind.cookies:
            parts.append("cookies: 1")
        if kind.refuse:
            parts.append(f"refuse: {kind.refuse}")
        if kind.redirect:
            parts.append("redirect: 1")
        if kind.auth:
            parts.append(f"auth: {kind.auth}")
        if kind.blocked:
            parts.append(f"blocked: {self.blocked.index(kind.blocked)}")
        return "{" + ", ".join(parts) + "}"


def _features(kinds: Sequence[_Kind]) -> frozenset[str]:
    """What of the source is needed; the names are those behind `//?` in it."""
    has = {
        "query": any(kind.query for kind in kinds),
        "noquery": not any(kind.query for kind in kinds),
        "allquery": any(kind.query == "*" for kind in kinds),
        "listed": any(kind.query not in {"", "*"} for kind in kinds),
        "refuse": any(kind.refuse for kind in kinds),
        "redirect": any(kind.redirect for kind in kinds),
        "blocked": any(kind.blocked for kind in kinds),
        "required": any(kind.auth == 2 for kind in kinds),
        "credentials": any(kind.auth == 1 for kind in kinds),
        "buckets": any(kind.bucket for kind in kinds),
    }
    has["country"] = has["pairs"] = has["redirect"] or has["blocked"]
    has["encode"] = has["listed"] or has["buckets"]
    return frozenset(name for name, needed in has.items() if needed)


def methods_of(policy: CachePolicy) -> tuple[str, ...]:
    """The methods that the route answers or passes on; where it passes on whatever comes, what CloudFront knows."""
    passed_on = ALL_METHODS if policy.forward_methods == ALL else policy.forward_methods
    return tuple(dict.fromkeys((*policy.methods, *passed_on)))


def _kind(policy: CachePolicy) -> _Kind:
    bucket = _bucket(policy)
    past_the_store = int(policy.store)
    auth = {Auth.NONE: 0, Auth.OPTIONAL: past_the_store, Auth.SHARED: past_the_store, Auth.REQUIRED: 2}[policy.auth]
    return _Kind(
        methods=" ".join(methods_of(policy)),
        query=" ".join(policy.query),
        # A generation that no bucket can move would never end: such a route has a key for each request.
        stored=policy.store and (bucket is not None or policy.generation is Generation.NONE),
        bucket=bucket or "",
        cookies=policy.passes_cookies,
        refuse=policy.refuse_status,
        redirect=policy.redirect is Redirect.MARKET,
        auth=auth,
        blocked="".join(policy.blocked_countries),
    )


def _bucket(policy: CachePolicy) -> str | None:
    """First letter of the bucket whose position goes into the key (docs/cloudfront.md); None: the path names none."""
    captured = [part.name for part in parse_pattern(policy.path) if part.name]
    if policy.generation is Generation.NONE or "market" not in captured:
        return None
    if policy.generation is Generation.CATEGORY and "category" in captured:
        return "c"
    if policy.generation is Generation.PRODUCT and "slug" in captured:
        return "s"
    if policy.generation is Generation.PRODUCT and "sku" in captured:
        return "p"
    # Raised by every change in the market, so that nothing is missed.
    return "h"


_NAME_IN_BUCKET = {"c": "category", "s": "slug", "p": "sku"}


def _pattern(policy: CachePolicy, kind: _Kind) -> str:
    """The path pattern in signs that no literal segment may hold."""
    segments = []
    for part in parse_pattern(policy.path):
        if not part.name:
            segments.append(part.literal)
        elif part.name == "market":
            segments.append("^")
        elif part.name == _NAME_IN_BUCKET.get(kind.bucket):
            segments.append(">" if part.rest else "<")
        else:
            segments.append("#" if part.rest else "?")
    return "/" + "/".join(segments)


def _countries(markets: Markets) -> list[str]:
    return ["" if market.id == markets.default else "".join(market.countries) for market in markets.all]


def _text(value: str) -> str:
    """A JavaScript string literal with single quotes."""
    return "'" + json.dumps(value)[1:-1].replace('\\"', '"').replace("'", "\\'") + "'"


def _list(values: Sequence[str]) -> str:
    return "[" + ", ".join(_text(value) for value in values) + "]"


def _lines(items: Sequence[str]) -> str:
    return "[\n" + ",\n".join(items) + "\n]"
