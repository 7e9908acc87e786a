"""One edge location of a compiled distribution: from a viewer's request to what the viewer gets."""

from __future__ import annotations

import gzip
import re
from base64 import b64encode
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

from tests.support.cloudfront import Function, ViewerRequest
from tests.support.cloudfront_reader.handlers import HandlerFailed, Package
from tests.support.cloudfront_reader.keeping import lifetimes
from tests.support.cloudfront_reader.messages import (
    Lifetimes,
    Origin,
    OriginAnswer,
    OriginRequest,
    Outcome,
    Pairs,
    Refused,
    Viewer,
    header_map,
    joined,
    values_of,
)
from tests.support.cloudfront_reader.rates import counted_by
from tests.support.cloudfront_reader.stack import DOMAIN, MANAGED_CACHING_DISABLED, Stack
from tests.support.cloudfront_rules import DISALLOWED, check_lambda

_UNRESERVED = re.compile(rb"[A-Za-z0-9._~-]")
_COMPRESSED_STATUSES = frozenset({200, 403, 404})
_COMPRESSED_TYPES = frozenset(
    {"text/html", "text/css", "text/plain", "text/javascript", "application/json", "application/javascript",
     "application/xml", "image/svg+xml", "text/xml"}
)  # fmt: skip
"""Those of DG:ServingCompressedFiles that a shop has."""
_IN_A_304 = frozenset({"cache-control", "content-location", "date", "etag", "expires", "set-cookie", "vary"})


@dataclass
class _Copy:
    answer: OriginAnswer
    at: float
    lived: Lifetimes


@dataclass(frozen=True)
class _Behaviour:
    pattern: str
    config: Mapping[str, Any]
    cache: Mapping[str, Any] | None
    """Configuration of its cache policy; None: CachingDisabled."""
    request: Mapping[str, Any]
    response: Mapping[str, Any]

    @property
    def says(self) -> Mapping[str, Any]:
        """All but the path pattern."""
        return {name: value for name, value in self.config.items() if name != "PathPattern"}


class Distribution:
    """Use as a context manager. `folder`: as `nearshelf aws compile` fills it; the packages are found by the parameters
    `OriginRequestKey` and `OriginResponseKey`, which name files below it. `parameters`: the others, where it matters.
    `kvs`: the KeyValueStore, None when it is out of order."""

    def __init__(self, folder: Path, parameters: Mapping[str, str] | None = None) -> None:
        packages = {"OriginRequestKey": "lambda/origin-request.zip", "OriginResponseKey": "lambda/origin-response.zip"}
        self._stack = Stack(folder / "templates/edge.json", packages | dict(parameters or {}))
        self._folder = folder
        self._config = self._stack.distribution
        self._functions: dict[str, Function] = {}
        """By the reference in the behaviour, as the packages are."""
        self._packages: dict[str, Package] = {}
        self._exits = ExitStack()
        self._copies: OrderedDict[tuple[tuple[str, str], ...], _Copy] = OrderedDict()
        self._requests = 0
        self._routes: list[str] = []
        self.kvs: dict[str, str] | None = {"*": "1.5"}
        self.error_minimums = {
            each["ErrorCode"]: float(each["ErrorCachingMinTTL"])
            for each in self._config.get("CustomErrorResponses", [])
            if "ErrorCachingMinTTL" in each
        }
        self.origins: dict[str, Mapping[str, Any]] = {each["Id"]: each for each in self._config["Origins"]}
        self._groups = {each["Id"]: each for each in self._config.get("OriginGroups", {}).get("Items", [])}
        listed = [*self._config["CacheBehaviors"], {"PathPattern": "*", **self._config["DefaultCacheBehavior"]}]
        self.behaviours = tuple(self._behaviour(each) for each in listed)

    def __enter__(self) -> Distribution:
        return self

    def __exit__(self, *_: object) -> None:
        self._exits.close()

    def clear(self) -> None:
        """Throw away every copy."""
        self._copies.clear()

    # -- what the distribution says --------------------------------------------------------------------------------

    def _behaviour(self, config: Mapping[str, Any]) -> _Behaviour:
        cache = None
        if config["CachePolicyId"] != MANAGED_CACHING_DISABLED:
            cache = self._policy(config["CachePolicyId"], "CachePolicy")
        events = [each["EventType"] for each in config.get("FunctionAssociations", [])]
        events += [each["EventType"] for each in config.get("LambdaFunctionAssociations", [])]
        assert len(events) == len(set(events)), f"{config['PathPattern']}: two functions for one event"
        return _Behaviour(
            config["PathPattern"],
            config,
            cache,
            self._policy(config["OriginRequestPolicyId"], "OriginRequestPolicy"),
            self._policy(config["ResponseHeadersPolicyId"], "ResponseHeadersPolicy"),
        )

    def _policy(self, reference: str, kind: str) -> Mapping[str, Any]:
        return dict(self._stack.resource(reference, f"AWS::CloudFront::{kind}")[f"{kind}Config"])

    def behaviour_of(self, path: str) -> _Behaviour:
        """The first whose pattern matches the path as CloudFront reads it (DG:DownloadDistValuesCacheBehavior)."""
        read = path_for_patterns(path)
        return next(each for each in self.behaviours if regex_of(each.pattern).fullmatch(read))

    def _function(self, behaviour: _Behaviour, event: str) -> Function | None:
        for each in behaviour.config.get("FunctionAssociations", []):
            if each["EventType"] == event:
                reference = each["FunctionARN"]
                if reference not in self._functions:
                    source = self._stack.function(reference)
                    assert source == (self._folder / f"functions/{event}.js").read_text(), f"{event}.js is another"
                    self._functions[reference] = (ViewerRequest if event == "viewer-request" else Function)(source)
                return self._functions[reference]
        return None

    def _handler(self, behaviour: _Behaviour, event: str) -> Package | None:
        for each in behaviour.config.get("LambdaFunctionAssociations", []):
            if each["EventType"] == event:
                reference = each["LambdaFunctionARN"]
                if reference not in self._packages:
                    key, handler, digest = self._stack.handler(reference)
                    content = (self._folder / key).read_bytes()
                    assert b64encode(sha256(content).digest()).decode() == digest, f"{key} is another"
                    package = Package(self._folder / key, handler)
                    self._packages[reference] = self._exits.enter_context(package)
                return self._packages[reference]
        return None

    def line_of(self, uri: str) -> int:
        """Number of the route of a normalised path in the Function's own table."""
        function = self._function(self.behaviours[-1], "viewer-request")
        assert isinstance(function, ViewerRequest)
        return function.route(uri)

    # -- a request -------------------------------------------------------------------------------------------------

    def ask(self, viewer: Viewer, origin: Origin, *, now: float = 0.0, wall: float = 0.0) -> Outcome:
        """`now`: seconds of any clock; `wall`: seconds since the epoch."""
        self._requests += 1
        self._routes = []
        path, mark, query = viewer.target.partition("?")
        behaviour = self.behaviour_of(path)
        rules = tuple(counted_by(self._stack.web_acl, path))
        outcome = Outcome(403, by="cloudfront", behaviour=behaviour.pattern, rate_rules=rules)
        geo = self._config["Restrictions"]["GeoRestriction"]
        assert geo["RestrictionType"] == "none", "a geo restriction answers before the Function"
        if viewer.method not in behaviour.config["AllowedMethods"]:
            # "This distribution is not configured to allow the HTTP request method" (DG:http-403).
            return outcome
        try:
            passed = self._viewer_request(viewer, behaviour, path, query if mark else None)
        except Refused as exc:
            return replace(outcome, status=502, body=str(exc).encode())
        if "statusCode" in passed:
            # No viewer-response Function for it, and no response headers policy's word is needed.
            return replace(
                outcome,
                status=passed["statusCode"],
                headers=_lines_of_function(passed),
                body=passed.get("body", {}).get("data", "").encode(),
                by="viewer-request",
            )
        headers, cookies = _lines_of_function(passed), _cookie_text(passed["cookies"])
        outcome = replace(outcome, uri=passed["uri"], query=passed["querystring"])
        outcome = replace(outcome, key=self._key(behaviour, viewer.method, outcome, headers))
        return self._answered(viewer, behaviour, outcome, headers, cookies, origin, now, wall)

    def _viewer_request(self, viewer: Viewer, behaviour: _Behaviour, path: str, query: str | None) -> dict[str, Any]:
        """What the Function returns. Without one the request itself."""
        headers = [(name, value) for name, value in viewer.headers if not DISALLOWED.fullmatch(name)]
        cookies = [part for name, value in headers if name == "cookie" for part in value.split(";")]
        headers = [(name, value) for name, value in headers if name != "cookie"]
        if "cloudfront-viewer-country" in self._asked_for(behaviour):
            # Whatever the viewer says under this name is overwritten; where nobody asks for it, it stands.
            headers = [(name, value) for name, value in headers if name != "cloudfront-viewer-country"]
            if viewer.country is not None:
                headers.append(("cloudfront-viewer-country", viewer.country))
        headers.append(("host", viewer.host))
        request = {
            "method": viewer.method,
            "uri": path,
            "querystring": {},
            "headers": {name: _one_or_more(values) for name, values in header_map(tuple(headers)).items()},
            "cookies": _cookie_map(cookies),
        }
        event = {
            "version": "1.0",
            "context": {
                "distributionDomainName": DOMAIN,
                "distributionId": "E1",
                "eventType": "viewer-request",
                "requestId": f"request-{self._requests}",
            },
            "viewer": {"ip": viewer.ip},
            "rawQuery": query,
            "request": request,
        }
        function = self._function(behaviour, "viewer-request")
        if function is None:
            return {**request, "querystring": query or ""}
        try:
            returned = function(event, self.kvs)
        except AssertionError as exc:
            raise Refused(f"viewer-request: {exc}") from exc
        if not isinstance(returned.get("querystring", ""), str):
            raise Refused("viewer-request left the query as it was parsed, whose order is not the viewer's")
        return returned

    def _asked_for(self, behaviour: _Behaviour) -> set[str]:
        """Fields that cache policy and origin request policy name, lower case."""
        named: list[str] = list(behaviour.request["HeadersConfig"].get("Headers", []))
        if behaviour.cache is not None:
            config = behaviour.cache["ParametersInCacheKeyAndForwardedToOrigin"]
            named += config["HeadersConfig"].get("Headers", [])
        return {name.lower() for name in named}

    def _keyed(self, behaviour: _Behaviour) -> list[str]:
        assert behaviour.cache is not None
        headers = behaviour.cache["ParametersInCacheKeyAndForwardedToOrigin"]["HeadersConfig"]
        assert headers["HeaderBehavior"] in {"none", "whitelist"}
        return sorted(name.lower() for name in headers.get("Headers", []))

    def _key(
        self, behaviour: _Behaviour, method: str, outcome: Outcome, headers: Pairs
    ) -> tuple[tuple[str, str], ...] | None:
        """DG:understanding-the-cache-key: the distribution's host, path, and what the cache policy names."""
        if behaviour.cache is None or method not in behaviour.config["CachedMethods"]:
            return None
        config = behaviour.cache["ParametersInCacheKeyAndForwardedToOrigin"]
        parts = [("path", outcome.uri)]
        queries = config["QueryStringsConfig"]["QueryStringBehavior"]
        assert queries in {"none", "all"}, f"{queries} is not known here"
        if queries == "all":
            parts.append(("query", outcome.query))
        assert config["CookiesConfig"]["CookieBehavior"] == "none"
        parts += [(name, text) for name in self._keyed(behaviour) if (text := joined(headers, name)) is not None]
        coding = _normalised_coding(config, headers)
        if coding is not None:
            parts.append(("accept-encoding", coding))
        return tuple(parts)

    # -- copies ----------------------------------------------------------------------------------------------------

    def _answered(
        self,
        viewer: Viewer,
        behaviour: _Behaviour,
        outcome: Outcome,
        headers: Pairs,
        cookies: str,
        origin: Origin,
        now: float,
        wall: float,
    ) -> Outcome:
        copy = None if outcome.key is None else self._copies.get(outcome.key)
        if copy is not None:
            age = now - copy.at
            if age < copy.lived.fresh_s:
                return self._delivered(viewer, behaviour, replace(outcome, by="store"), copy.answer, int(age))
            if age < copy.lived.fresh_s + copy.lived.revalidate_s:
                refreshed = self._fetch(viewer, behaviour, outcome, headers, cookies, origin, copy, now, wall)
                kept = replace(outcome, by="store", asked=refreshed[0].asked)
                return self._delivered(viewer, behaviour, kept, copy.answer, int(age))
        outcome, answer = self._fetch(viewer, behaviour, outcome, headers, cookies, origin, copy, now, wall)
        failed = outcome.by != "origin-request" and 500 <= answer.status <= 599
        if copy is not None and failed and now - copy.at < copy.lived.fresh_s + copy.lived.error_s:
            kept = replace(outcome, by="store", lifetimes=None)
            return self._delivered(viewer, behaviour, kept, copy.answer, int(now - copy.at))
        return self._delivered(viewer, behaviour, outcome, answer, None)

    def _fetch(
        self,
        viewer: Viewer,
        behaviour: _Behaviour,
        outcome: Outcome,
        headers: Pairs,
        cookies: str,
        origin: Origin,
        copy: _Copy | None,
        now: float,
        wall: float,
    ) -> tuple[Outcome, OriginAnswer]:
        """Ask the origins, run the handlers, keep what is to be kept."""
        target = behaviour.config["TargetOriginId"]
        members: list[str] = [target]
        failover: frozenset[int] = frozenset()
        if target in self._groups:
            group = self._groups[target]
            members = [each["OriginId"] for each in group["Members"]["Items"]]
            failover = frozenset(group["FailoverCriteria"]["StatusCodes"]["Items"])
        if viewer.method not in {"GET", "HEAD", *behaviour.config["CachedMethods"]}:
            # DG:high_availability_origin_failover.
            members = members[:1]
        etag = joined(copy.answer.headers, "etag") if copy is not None else None
        asked: tuple[OriginRequest, ...] = ()
        answer = OriginAnswer(502, ())
        for number, member in enumerate(members):
            last = number == len(members) - 1
            event = self._origin_event(viewer, behaviour, outcome, headers, cookies, self.origins[member], etag)
            try:
                sent = self._run(behaviour, "origin-request", event, wall)
                if "status" in sent:
                    answer = _generated(sent)
                    return replace(outcome, status=answer.status, by="origin-request", asked=asked), answer
                request = _origin_request(sent)
                asked += (request,)
                answered = origin(request)
                if (503 if answered is None else answered.status) in failover and not last:
                    continue
                if answered is None:
                    return replace(outcome, by="cloudfront", asked=asked), OriginAnswer(502, (), b"")
                answer = self._origin_response(behaviour, sent, answered, wall)
            except Refused as exc:
                return replace(outcome, by="cloudfront", asked=asked), OriginAnswer(502, (), str(exc).encode())
            except HandlerFailed as exc:
                return replace(outcome, by="cloudfront", asked=asked), OriginAnswer(503, (), str(exc).encode())
            break
        if answer.status == 304 and copy is not None and etag is not None:
            fresh = header_map(answer.headers)
            left = tuple((name, value) for name, value in copy.answer.headers if name not in fresh)
            answer = replace(copy.answer, headers=(*left, *answer.headers))
        outcome = replace(outcome, asked=asked, by="origin")
        if outcome.key is None or behaviour.cache is None:
            return outcome, answer
        lived = lifetimes(answer, behaviour.cache, self.error_minimums.get(answer.status), wall)
        if lived is None:
            return outcome, answer
        self._copies[outcome.key] = _Copy(answer, now, lived)
        tag_field = self._config.get("CacheTagConfig", {}).get("HeaderName", "").lower()
        tags = [part.strip() for part in (joined(answer.headers, tag_field) or "").split(",") if part.strip()]
        return replace(outcome, lifetimes=lived, tags=tuple(tags[:50])), answer

    # -- the origin's side -----------------------------------------------------------------------------------------

    def _origin_event(
        self,
        viewer: Viewer,
        behaviour: _Behaviour,
        outcome: Outcome,
        headers: Pairs,
        cookies: str,
        origin: Mapping[str, Any],
        etag: str | None,
    ) -> dict[str, Any]:
        """DG:lambda-event-structure, with the fields that cache policy and origin request policy let through."""
        config = behaviour.request["HeadersConfig"]
        names = self._asked_for(behaviour)
        everything = config["HeaderBehavior"] in {"allViewer", "allViewerAndWhitelistCloudFront"}
        assert everything or config["HeaderBehavior"] in {"none", "whitelist"}, config["HeaderBehavior"]
        lines = [
            (name, value)
            for name, value in headers
            if name in names or (everything and not name.startswith("cloudfront-"))
        ]
        if behaviour.cache is not None:
            keyed = behaviour.cache["ParametersInCacheKeyAndForwardedToOrigin"]
            coding = _normalised_coding(keyed, headers)
            if keyed["EnableAcceptEncodingGzip"] or keyed["EnableAcceptEncodingBrotli"]:
                lines = [(name, value) for name, value in lines if name != "accept-encoding"]
                lines.append(("accept-encoding", coding or "identity"))
        present = {name for name, _ in lines}
        if "host" not in present:
            lines.append(("host", origin["DomainName"]))
        if "user-agent" not in present:
            lines.append(("user-agent", "Amazon CloudFront"))
        before = [value for name, value in lines if name == "x-forwarded-for"]
        lines = [(name, value) for name, value in lines if name != "x-forwarded-for"]
        lines += [("x-forwarded-for", ", ".join([*before, viewer.ip])), ("via", f"2.0 {DOMAIN} (CloudFront)")]
        if etag is not None:
            lines.append(("if-none-match", etag))
        if cookies and behaviour.request["CookiesConfig"]["CookieBehavior"] == "all":
            lines.append(("cookie", cookies))
        queries = behaviour.request["QueryStringsConfig"]["QueryStringBehavior"]
        if behaviour.cache is not None:
            keyed_queries = behaviour.cache["ParametersInCacheKeyAndForwardedToOrigin"]["QueryStringsConfig"]
            queries = "all" if keyed_queries["QueryStringBehavior"] == "all" else queries
        custom = origin["CustomOriginConfig"]
        return {
            "clientIp": viewer.ip,
            "method": viewer.method,
            "uri": outcome.uri,
            "querystring": outcome.query if queries == "all" else "",
            "headers": _lambda_lines(tuple(lines)),
            "origin": {
                "custom": {
                    "customHeaders": _lambda_lines(
                        tuple(
                            (each["HeaderName"].lower(), each["HeaderValue"])
                            for each in origin.get("OriginCustomHeaders", [])
                        )
                    ),
                    "domainName": origin["DomainName"],
                    "path": origin.get("OriginPath", ""),
                    "port": 443,
                    "protocol": "https",
                    "keepaliveTimeout": custom["OriginKeepaliveTimeout"],
                    "readTimeout": custom["OriginReadTimeout"],
                    "sslProtocols": custom["OriginSSLProtocols"],
                }
            },
        }

    def _run(
        self,
        behaviour: _Behaviour,
        event: str,
        request: dict[str, Any],
        wall: float,
        response: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """What a handler returns, as far as CloudFront takes it. Raises Refused, HandlerFailed."""
        handler = self._handler(behaviour, event)
        if handler is None:
            return request if response is None else response
        cf: dict[str, Any] = {
            "config": {
                "distributionDomainName": DOMAIN,
                "distributionId": "E1",
                "eventType": event,
                "requestId": f"request-{self._requests}",
            },
            "request": request,
        }
        if response is not None:
            cf["response"] = response
        record = {"Records": [{"cf": cf}]}
        returned, route = handler(record, wall)
        self._routes.append(route)
        try:
            check_lambda(record, returned)
        except (AssertionError, KeyError) as exc:
            raise Refused(f"{event}: {exc!r}") from exc
        return returned

    def _origin_response(
        self, behaviour: _Behaviour, sent: dict[str, Any], answered: OriginAnswer, wall: float
    ) -> OriginAnswer:
        head = {
            "status": str(answered.status),
            "statusDescription": "",
            "headers": _lambda_lines(
                tuple((name, value) for name, value in answered.headers if not DISALLOWED.fullmatch(name))
            ),
        }
        returned = self._run(behaviour, "origin-response", sent, wall, head)
        body = returned["body"].encode() if "body" in returned else answered.body
        return OriginAnswer(int(returned["status"]), _lambda_pairs(returned), body)

    # -- the viewer's side -----------------------------------------------------------------------------------------

    def _delivered(
        self, viewer: Viewer, behaviour: _Behaviour, outcome: Outcome, answer: OriginAnswer, age: int | None
    ) -> Outcome:
        headers, body = _compressed(behaviour, viewer, answer)
        headers = tuple((name, value) for name, value in headers if name not in {"connection", "keep-alive", "age"})
        headers = _vary(headers, self._asked_for(behaviour), bool(behaviour.config.get("Compress")))
        headers = _by_response_policy(behaviour.response, headers)
        if answer.status < 400:
            function = self._function(behaviour, "viewer-response")
            if function is not None:
                try:
                    headers = self._viewer_response(function, viewer, outcome, answer.status, headers)
                except AssertionError as exc:
                    return replace(outcome, status=502, headers=(), body=str(exc).encode(), by="cloudfront")
        status = answer.status
        conditional = behaviour.cache is not None and viewer.method in {"GET", "HEAD"}
        if conditional and _not_modified(viewer, status, headers):
            status, body = 304, b""
            headers = tuple((name, value) for name, value in headers if name in _IN_A_304)
        if age is not None:
            headers = (*headers, ("age", str(age)))
        said = {"store": "Hit from cloudfront", "cloudfront": "Error from cloudfront"}.get(
            outcome.by, "Miss from cloudfront"
        )
        headers = (*headers, ("x-cache", said))
        body = b"" if viewer.method == "HEAD" else body
        return replace(outcome, status=status, headers=headers, body=body, routes=tuple(self._routes))

    def _viewer_response(
        self, function: Function, viewer: Viewer, outcome: Outcome, status: int, headers: Pairs
    ) -> Pairs:
        cookies = [value for name, value in headers if name == "set-cookie"]
        event = {
            "version": "1.0",
            "context": {
                "distributionDomainName": DOMAIN,
                "distributionId": "E1",
                "eventType": "viewer-response",
                "requestId": f"request-{self._requests}",
            },
            "viewer": {"ip": viewer.ip},
            "rawQuery": outcome.query,
            "request": {"method": viewer.method, "uri": outcome.uri, "querystring": {}, "headers": {}, "cookies": {}},
            "response": {
                "statusCode": status,
                "statusDescription": "",
                "headers": {
                    name: _one_or_more(values) for name, values in header_map(headers).items() if name != "set-cookie"
                },
                "cookies": _set_cookie_map(cookies),
            },
        }
        returned = function(event, self.kvs)
        lines = [*_lines_of_function(returned)]
        for name, cookie in returned.get("cookies", {}).items():
            for each in cookie.get("multiValue", [cookie]):
                attributes = f"; {each['attributes']}" if each.get("attributes") else ""
                lines.append(("set-cookie", f"{name}={each['value']}{attributes}"))
        return tuple(lines)


# -- paths -----------------------------------------------------------------------------------------------------------


@cache
def regex_of(pattern: str) -> re.Pattern[str]:
    """`*` is any run of characters, `?` any one, case counts (DG:DownloadDistValuesCacheBehavior)."""
    text = "".join({"*": ".*", "?": "."}.get(character, re.escape(character)) for character in pattern)
    return re.compile(text, re.DOTALL)


def path_for_patterns(path: str) -> str:
    """The path that patterns are held against: normalised by RFC 3986, runs of slashes as one."""

    def decoded(escape: re.Match[str]) -> str:
        octet = unquote_to_bytes(escape[0])
        return octet.decode() if _UNRESERVED.fullmatch(octet) else escape[0].upper()

    text = re.sub(r"%[0-9A-Fa-f]{2}", decoded, path)
    segments: list[str] = []
    parts = re.sub("/+", "/", text).split("/")[1:]
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        if part == "..":
            segments = segments[:-1]
        elif part != ".":
            segments.append(part)
        if part in {".", ".."} and last:
            segments.append("")
    return "/" + "/".join(segments)


# -- fields ----------------------------------------------------------------------------------------------------------


def _one_or_more(values: list[str]) -> dict[str, Any]:
    """DG:functions-event-structure: `value` is the first, `multiValue` all of them."""
    if len(values) == 1:
        return {"value": values[0]}
    return {"value": values[0], "multiValue": [{"value": value} for value in values]}


def _cookie_map(parts: list[str]) -> dict[str, Any]:
    found: dict[str, list[str]] = {}
    for part in parts:
        name, _, value = part.strip().partition("=")
        if name:
            found.setdefault(name, []).append(value)
    return {name: _one_or_more(values) for name, values in found.items()}


def _cookie_text(cookies: Mapping[str, Any]) -> str:
    return "; ".join(
        f"{name}={each['value']}" for name, cookie in cookies.items() for each in cookie.get("multiValue", [cookie])
    )


def _set_cookie_map(lines: list[str]) -> dict[str, Any]:
    found: dict[str, list[dict[str, str]]] = {}
    for line in lines:
        pair, _, attributes = line.partition(";")
        name, _, value = pair.strip().partition("=")
        found.setdefault(name, []).append({"value": value, "attributes": attributes.strip()})
    return {
        name: {**values[0], **({"multiValue": values} if len(values) > 1 else {})} for name, values in found.items()
    }


def _lines_of_function(message: Mapping[str, Any]) -> Pairs:
    return tuple(
        (name, each["value"]) for name, value in message["headers"].items() for each in value.get("multiValue", [value])
    )


def _lambda_lines(pairs: Pairs) -> dict[str, list[dict[str, str]]]:
    return {name: [{"key": name, "value": each} for each in values] for name, values in header_map(pairs).items()}


def _lambda_pairs(message: Mapping[str, Any]) -> Pairs:
    return tuple((name, line["value"]) for name, lines in message["headers"].items() for line in lines)


def _generated(returned: Mapping[str, Any]) -> OriginAnswer:
    body = returned.get("body", "")
    assert returned.get("bodyEncoding", "text") == "text"
    return OriginAnswer(int(returned["status"]), _lambda_pairs(returned), body.encode())


def _origin_request(sent: Mapping[str, Any]) -> OriginRequest:
    custom = sent["origin"]["custom"]
    added = tuple((name, line["value"]) for name, lines in custom["customHeaders"].items() for line in lines)
    return OriginRequest(
        custom["domainName"],
        sent["method"],
        f"{custom['path']}{sent['uri']}",
        sent["querystring"],
        (*_lambda_pairs(sent), *added),
    )


def _normalised_coding(config: Mapping[str, Any], headers: Pairs) -> str | None:
    """DG:cache-key-understand-cache-policy: one spelling of the codings that the cache policy takes."""
    said = (joined(headers, "accept-encoding") or "").lower()
    named = {part.partition(";")[0].strip() for part in said.split(",") if not re.search(r";\s*q=0(\.0*)?\s*$", part)}
    taken = [
        coding
        for coding, flag in (("br", "EnableAcceptEncodingBrotli"), ("gzip", "EnableAcceptEncodingGzip"))
        if config[flag] and coding in named
    ]
    return ",".join(taken) or None


def _compressed(behaviour: _Behaviour, viewer: Viewer, answer: OriginAnswer) -> tuple[Pairs, bytes]:
    """DG:ServingCompressedFiles. Best effort there; here it is always made, and always as gzip."""
    headers, body = answer.headers, answer.body
    length = joined(headers, "content-length") or ""
    kind = (joined(headers, "content-type") or "").partition(";")[0].strip().lower()
    if (
        not behaviour.config.get("Compress")
        or behaviour.cache is None
        or _normalised_coding(behaviour.cache["ParametersInCacheKeyAndForwardedToOrigin"], viewer.headers) is None
        or answer.status not in _COMPRESSED_STATUSES
        or kind not in _COMPRESSED_TYPES
        or values_of(headers, "content-encoding")
        or not (length.isdigit() and 1_000 <= int(length) <= 10_000_000)
    ):
        return headers, body
    changed = []
    for name, value in headers:
        if name == "etag":
            changed.append((name, value if value.startswith("W/") else f"W/{value}"))
        elif name != "content-length":
            changed.append((name, value))
    return (*changed, ("content-encoding", "gzip")), gzip.compress(body)


def _vary(headers: Pairs, forwarded: set[str], compresses: bool) -> Pairs:
    """DG:RequestAndResponseBehaviorCustomOrigin: names that are not forwarded are taken out."""
    named = [part.strip() for value in values_of(headers, "vary") for part in value.split(",") if part.strip()]
    left = [name for name in named if name.lower() in forwarded or (compresses and name.lower() == "accept-encoding")]
    others = tuple((name, value) for name, value in headers if name != "vary")
    return (*others, ("vary", ", ".join(left))) if left else others


def _by_response_policy(policy: Mapping[str, Any], headers: Pairs) -> Pairs:
    """DG:understanding-response-headers-policies: removes first, then adds."""
    removed = {each["Header"].lower() for each in policy.get("RemoveHeadersConfig", {}).get("Items", [])}
    headers = tuple((name, value) for name, value in headers if name not in removed)
    for each in policy.get("CustomHeadersConfig", {}).get("Items", []):
        name = each["Header"].lower()
        if each["Override"]:
            headers = tuple(pair for pair in headers if pair[0] != name)
        if not values_of(headers, name):
            headers = (*headers, (name, each["Value"]))
    return headers


def _not_modified(viewer: Viewer, status: int, headers: Pairs) -> bool:
    wanted, etag = joined(viewer.headers, "if-none-match"), joined(headers, "etag")
    if status != 200 or wanted is None or etag is None:
        return False
    tags = {part.strip().removeprefix("W/") for part in wanted.split(",")}
    return wanted.strip() == "*" or etag.removeprefix("W/") in tags
