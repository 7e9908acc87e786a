"""One request at both edges: a running gateway worker over sockets, and the compiled files read back as CloudFront."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

import brotli  # type: ignore[import-untyped]

from cache_policies.tags import is_path_tag
from edge.core.hops import TrustedHops
from edge.core.http import Headers, Request
from edge.core.key import BadTarget, CacheKey, cache_key, normalise_path
from edge.core.policy import Auth, CachePolicy, Match, PolicySet
from edge.core.request_rules import passes_store
from edge.core.stored import StoredResponse
from edge.core.variants import vary_values
from infra.aws.compile import compile_to
from tests.support.cloudfront_reader.distribution import Distribution
from tests.support.cloudfront_reader.messages import OriginAnswer, OriginRequest, Outcome, Pairs, Viewer
from tests.support.cloudfront_reader.stack import DOMAIN
from tests.support.edge_shop import WALL, EdgeShop
from tests.support.raw_http import RawResponse, RawViewer
from tests.support.scripted_origin import Reply, ScriptedOrigin, Seen
from tests.treaty.generated_requests import SHOP, Generated, answer_to

COUNTRY_FIELD = "cloudfront-viewer-country"
"""In which the hop before the gateway says where a visitor is, as CloudFront says it to its functions."""

SECRET = "secret of edge-key"
"""What the reader takes Secrets Manager to hold under the name `edge-key`."""


def domain_of(origin: str) -> str:
    return f"{origin}.origins.example"


def compiled(policies: Path | None, out: Path) -> Path:
    compile_to(policies, out, [SHOP])
    return out


def parameters_of(policies: PolicySet) -> dict[str, str]:
    """Names of the origins by the parameters of the template, as docs/aws.md has them."""
    named = {}
    for origin in policies.origins.all:
        words = "".join(word.capitalize() for word in origin.name.split("-"))
        parameter = "OriginDomainName" if origin.name == policies.origins.default else f"Origin{words}DomainName"
        named[parameter] = domain_of(origin.name)
    return {**named, "EdgeKeySecret": "edge-key"}


class AtGateway(NamedTuple):
    """What the gateway did with a request."""

    response: RawResponse
    line: Mapping[str, Any]
    """Of the access log."""
    asked: tuple[tuple[str, Seen], ...]
    """Origin, request."""
    stored: StoredResponse | None


@dataclass(frozen=True)
class Both:
    """One request at both edges."""

    sent: Generated
    policies: PolicySet
    ours: AtGateway
    theirs: Outcome
    routes: tuple[str, ...]
    """By the Function's table and by the packages of the two handlers; empty where the Function answered."""
    strays: bool
    """Whether CloudFront gives the path another behaviour than it gives to a plain path of the same route."""

    @cached_property
    def match(self) -> Match | None:
        """None: the gateway refuses the address."""
        try:
            match = self.policies.match(normalise_path(self.request.path))
            cache_key(self.request, match)
        except BadTarget:
            return None
        return match

    @cached_property
    def request(self) -> Request:
        return request_of(self.sent)

    @property
    def policy(self) -> CachePolicy:
        """The last route's where the address is refused."""
        return self.match.policy if self.match else self.policies.policies[-1]

    @property
    def shared_key(self) -> tuple[CacheKey, tuple[tuple[str, str | None], ...]] | None:
        """What the gateway finds a stored response by, variants told apart; None: nothing is shared there."""
        if self.match is None or not self.policy.store or self.request.method not in self.policy.methods:
            return None
        if passes_store(self.request, self.policy):
            return None
        if self.policy.auth is Auth.SHARED and "authorization" in self.request.headers:
            # The origin may let everybody have the answer; CloudFront is told to take no such word.
            return None
        variant = vary_values(self.request.headers, self.policy, sorted(self.policy.vary))
        return cache_key(self.request, self.match), variant

    @property
    def is_for_once(self) -> bool:
        """Whether CloudFront's key is of this request alone, as the Function makes it where nothing may be shared."""
        parts = dict(self.theirs.key or ())
        return parts.get("nearshelf-generation", "").startswith(("once.", "head."))

    @property
    def is_nameless(self) -> bool:
        """Whether the Function finds no bucket because the path is not UTF-8: the origin is asked for its head."""
        try:
            unquote_to_bytes(self.theirs.uri).decode()
        except UnicodeDecodeError:
            return dict(self.theirs.key or ()).get("nearshelf-generation", "").startswith("head.")
        return False


def request_of(sent: Generated) -> Request:
    path, _, query = sent.target.partition("?")
    return Request(sent.method, sent.host.lower(), path, query, Headers(sent.lines))


class TwoEdges:
    """Use as an async context manager. Before each request both have forgotten everything, unless told otherwise."""

    def __init__(self, policies: PolicySet, folder: Path, tmp_path: Path) -> None:
        self.policies = policies
        self._exits = AsyncExitStack()
        self._folder = folder
        self._tmp_path = tmp_path
        self._viewer: RawViewer | None = None
        self.failing = False
        """Whether every origin answers 503."""
        self._origins: dict[str, ScriptedOrigin] = {}
        self._asked: list[tuple[str, Seen]] = []

    async def __aenter__(self) -> TwoEdges:
        self.distribution = self._exits.enter_context(Distribution(self._folder, parameters_of(self.policies)))
        default = self.policies.origins.default
        for origin in self.policies.origins.all:
            if origin.name != default:
                self._origins[origin.name] = await self._exits.enter_async_context(ScriptedOrigin())
        settings = {
            "public_url": f"http://{SHOP}",
            "trusted_hops": TrustedHops.parse(["127.0.0.1"]),
            "country_field": COUNTRY_FIELD,
            "edge_key": SECRET,
            "origins": {name: (origin.url,) for name, origin in self._origins.items()},
        }
        shop = EdgeShop(self._tmp_path, policies=self.policies, settings=settings)
        self.shop = await self._exits.enter_async_context(shop)
        self._origins[default] = self.shop.origin
        self._began = self.shop.clock.time
        for name, scripted in self._origins.items():
            scripted.otherwise = self._script(name)
        self._log = self._exits.enter_context(self.shop.log_path.open())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._exits.aclose()

    def _script(self, name: str) -> Any:
        def answer(seen: Seen) -> Reply:
            self._asked.append((name, seen))
            return self._answer(seen.path, name)

        return answer

    @property
    def wall(self) -> float:
        """Seconds since the epoch, by the worker's clock, which both go by."""
        return WALL + self.shop.clock.time - self._began

    def _answer(self, path: str, origin: str) -> Reply:
        return (
            Reply(b"down", 503, {"cache-control": "no-store"}) if self.failing else answer_to(path, origin, self.wall)
        )

    # -- one request -----------------------------------------------------------------------------------------------

    async def ask(self, sent: Generated) -> Both:
        return self.both(sent, await self.at_gateway_afresh(sent), self.distribution)

    async def at_gateway_afresh(self, sent: Generated) -> AtGateway:
        """What a gateway does that has stored nothing."""
        self.shop.gateway.store.clear()
        return await self.at_gateway(sent)

    def both(self, sent: Generated, ours: AtGateway, distribution: Distribution) -> Both:
        """What the gateway did beside what `distribution` does that has kept nothing."""
        distribution.clear()
        theirs = self.at_cloudfront(sent, distribution)
        routes: tuple[str, ...] = ()
        if theirs.uri:
            line = self.policies.policies[distribution.line_of(theirs.uri)]
            routes = (line.id, *theirs.routes)
        return Both(sent, self.policies, ours, theirs, routes, self._strays(sent, distribution))

    def _strays(self, sent: Generated, distribution: Distribution) -> bool:
        path = request_of(sent).path
        try:
            pattern = self.policies.match(normalise_path(path)).policy.path
        except BadTarget:
            return False
        plain = re.sub(r"\{[^}]+\}", "x", pattern.replace("{market}", self.policies.markets.default))
        return distribution.behaviour_of(path).says != distribution.behaviour_of(plain).says

    async def at_gateway(self, sent: Generated) -> AtGateway:
        """Behind a hop that it trusts, which tells it address and country as CloudFront does its functions."""
        self._asked.clear()
        if self._viewer is None:
            self._viewer = await self.shop.viewer()
        lines = [f"{name}: {value}" for name, value in sent.lines if name != COUNTRY_FIELD]
        lines.append(f"x-forwarded-for: {sent.ip}")
        if sent.country:
            lines.append(f"{COUNTRY_FIELD}: {sent.country}")
        host = self.shop.host if sent.host == DOMAIN else sent.host
        self._viewer.get(sent.target, host, *lines, method=sent.method)
        response = await self._viewer.response(to=sent.method)
        if response.headers.get("connection") == "close":
            self._viewer = None
        log_file = self.shop.gateway._log
        assert log_file is not None
        log_file.flush()
        return AtGateway(response, json.loads(self._log.readline()), self._seen(), self._stored(sent))

    def _seen(self) -> tuple[tuple[str, Seen], ...]:
        """What the origins were asked, the worker's own address written as the distribution's name."""
        return tuple(
            (
                name,
                replace(
                    seen, pairs=tuple((field, value.replace(self.shop.host, DOMAIN)) for field, value in seen.pairs)
                ),
            )
            for name, seen in self._asked
        )

    def _stored(self, sent: Generated) -> StoredResponse | None:
        request = request_of(sent)
        if sent.host == DOMAIN:
            request = replace(request, authority=self.shop.host)
        try:
            match = self.policies.match(normalise_path(request.path))
            found = self.shop.gateway.store.peek(cache_key(request, match))
        except BadTarget:
            return None
        return found[0] if found else None

    def at_cloudfront(self, sent: Generated, distribution: Distribution) -> Outcome:
        lines = tuple((name, value.strip()) for name, value in sent.lines)
        viewer = Viewer(sent.method, sent.target, lines, sent.host, sent.ip, sent.country or None)
        return distribution.ask(viewer, self._origin, now=self.shop.clock.time, wall=self.wall)

    def _origin(self, request: OriginRequest) -> OriginAnswer:
        name = next(each.name for each in self.policies.origins.all if domain_of(each.name) == request.domain)
        return head_of(self._answer(request.uri, name), request.method)


def head_of(reply: Reply, method: str) -> OriginAnswer:
    """A scripted answer with the framing that the scripted server gives it."""
    headers: list[tuple[str, str]] = [*reply.headers.items(), *reply.extra]
    if reply.chunked:
        headers.append(("transfer-encoding", "chunked"))
    elif not reply.until_close and reply.status not in (204, 304):
        headers.append(("content-length", str(len(reply.body))))
    return OriginAnswer(reply.status, tuple(headers), b"" if method == "HEAD" else reply.body)


# --- wherein they differ --------------------------------------------------------------------------------------------


class Difference(NamedTuple):
    """Something that is not the same at both edges."""

    what: str
    """`status`, `stored`, `at origin: accept`, `to viewer: vary`, ..."""
    ours: object
    theirs: object


_NOT_COMPARED_AT_ORIGIN = frozenset({"host", "connection", "content-length", "transfer-encoding", "user-agent"})


def differences(both: Both) -> Iterator[Difference]:
    """Each in its smallest part."""
    ours, theirs = both.ours, both.theirs
    if ours.response.status != theirs.status:
        yield Difference("status", ours.response.status, theirs.status)
    if both.routes and set(both.routes) != {ours.line["route"]}:
        yield Difference("route", ours.line["route"], both.routes)
    own = ours.line["cache"] == "edge"
    if own != (theirs.by in {"viewer-request", "origin-request", "cloudfront"}):
        yield Difference("who answers", ours.line["cache"], theirs.by)
    yield from _at_origins(both)
    yield from _kept(both)
    yield from _to_viewers(both, own)


def _at_origins(both: Both) -> Iterator[Difference]:
    ours = [name for name, _ in both.ours.asked]
    theirs = [request.domain.removesuffix(".origins.example") for request in both.theirs.asked]
    if ours != theirs:
        yield Difference("origins asked", ours, theirs)
    for (_, mine), other in zip(both.ours.asked, both.theirs.asked, strict=False):
        target = f"{other.uri}?{other.query}" if other.query else other.uri
        if mine.target != target:
            yield Difference("target at origin", mine.target, target)
        if mine.method != other.method:
            yield Difference("method at origin", mine.method, other.method)
        yield from _fields("at origin", mine.pairs, other.headers, _NOT_COMPARED_AT_ORIGIN)


def _kept(both: Both) -> Iterator[Difference]:
    stored, lived = both.ours.stored, both.theirs.lifetimes
    mine = None if stored is None else lifetimes_of(stored)
    if mine is not None and not any(mine):
        # Kept to be validated only, which is CloudFront's own business.
        mine = None
    if both.is_for_once:
        # Whatever CloudFront keeps there, nobody asks for it again.
        lived = None
    other = None if lived is None else (lived.fresh_s, lived.revalidate_s, lived.error_s)
    if mine != other:
        yield Difference("kept", mine, other)
    if stored is not None and lived is not None:
        # What a purge by address names stays at our edges.
        tags = tuple(tag for tag in stored.tags if not is_path_tag(tag))
        if tags != both.theirs.tags:
            yield Difference("tags", tags, both.theirs.tags)


def lifetimes_of(stored: StoredResponse) -> tuple[float, float, float]:
    """Fresh, and servable stale after that, seconds from when it was stored."""
    fresh = max(stored.fresh_until, stored.stored_at)
    windows = (fresh - stored.stored_at, stored.revalidate_until - fresh, stored.error_until - fresh)
    return tuple(float(int(max(0.0, each) + 1e-6)) for each in windows)  # type: ignore[return-value]


_OF_EACH_EDGE = frozenset(
    {"cache-status", "x-cache", "via", "age", "connection", "transfer-encoding", "content-length"}
)
"""What each edge says of itself and of its connection."""


def _to_viewers(both: Both, own: bool) -> Iterator[Difference]:
    ignored = _OF_EACH_EDGE | ({"date"} if own or "date" not in dict(both.theirs.headers) else set())
    yield from _fields("to viewer", both.ours.response.pairs, both.theirs.headers, ignored)
    bodies = [_plain(both.ours.response.body, both.ours.response.pairs), _plain(both.theirs.body, both.theirs.headers)]
    if not own and bodies[0] != bodies[1]:
        yield Difference("body", bodies[0][:40], bodies[1][:40])


def _plain(body: bytes, pairs: Pairs) -> bytes:
    """Without the coding that the edge has made; what the origin calls gzip in these tests is none."""
    if ("content-encoding", "br") in pairs and body:
        return bytes(brotli.decompress(body))
    coded = ("content-encoding", "gzip") in pairs and body.startswith(b"\x1f\x8b")
    return gzip.decompress(body) if coded else body


def _fields(where: str, ours: Pairs, theirs: Pairs, ignored: frozenset[str] | set[str]) -> Iterator[Difference]:
    for name in sorted({name for name, _ in (*ours, *theirs)} - ignored):
        mine = [value for key, value in ours if key == name]
        other = [value for key, value in theirs if key == name]
        if mine != other:
            yield Difference(f"{where}: {name}", mine, other)
