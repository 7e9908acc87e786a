"""What CloudFront would answer with 502 instead of taking: checked on whatever a handler or Function returns.

Written from the developer guide (edge-function-restrictions-all, lambda-event-structure, functions-event-structure),
apart from the code that must keep to it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

DISALLOWED = re.compile(
    r"connection|expect|keep-alive|proxy-(authenticate|authorization|connection)|trailer|upgrade"
    r"|x-accel-(buffering|charset|limit-rate|redirect)|x-amz-cf-.*|x-cache|x-edge-.*|x-forwarded-proto|x-real-ip"
    r"|x-amzn-(auth|cf-billing|cf-id|cf-xff|errortype|fle-profile|header-(count|order)|lambda-integration-tag|requestid)"
)
READ_ONLY = {
    "viewer-request": {"cdn-loop", "content-length", "host", "transfer-encoding", "via", "cloudfront-viewer-country"},
    "origin-request": {
        "accept-encoding",
        "cdn-loop",
        "content-length",
        "if-modified-since",
        "if-none-match",
        "if-range",
        "if-unmodified-since",
        "transfer-encoding",
        "via",
    },
    "origin-response": {"transfer-encoding", "via"},
    "viewer-response": {"warning", "via"},
}
MAX_GENERATED_BYTES = {"viewer-request": 40_000, "origin-request": 1_000_000, "origin-response": 1_000_000}
_NAME = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+")
_VALUE = re.compile(r"[\x20-\x7e]*")
_DOMAIN = re.compile(r"(?=.{1,253}$)[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+")


def check_lambda(event: Mapping[str, Any], returned: Mapping[str, Any]) -> None:
    """Raises AssertionError for what CloudFront would refuse from a Lambda@Edge handler. `event`: before it ran."""
    cf = event["Records"][0]["cf"]
    kind = cf["config"]["eventType"]
    headers = {name: [line["value"] for line in lines] for name, lines in returned["headers"].items()}
    for name, lines in returned["headers"].items():
        assert lines, f"{name} has no line"
        assert all(line.get("key", name).lower() == name for line in lines), f"{name} is keyed by another name"
    received = cf["response" if kind == "origin-response" else "request"]["headers"]
    before = {name: [line["value"] for line in lines] for name, lines in received.items()}
    if "status" in returned:
        _check_response(kind, headers, int(returned["status"]), isinstance(returned["status"], str))
        _check_body(kind, returned.get("body", ""), returned.get("bodyEncoding", "text"), ("text", "base64"))
        if kind == "origin-response":
            _check_unchanged(kind, before, headers)
        return
    assert kind == "origin-request", f"a {kind} handler returns a response"
    _check_unchanged(kind, before, headers)
    _check_names(kind, headers)
    for name in ("method", "clientIp"):
        assert returned[name] == cf["request"][name], f"{name} is read-only"
    _check_target(returned["uri"], returned["querystring"])
    assert set(returned["origin"]) == {"custom"}
    custom = returned["origin"]["custom"]
    assert _DOMAIN.fullmatch(custom["domainName"]), custom["domainName"]
    assert re.fullmatch(r"(/.*[^/])?", custom["path"])
    assert len(custom["path"]) <= 255
    assert custom["port"] in (80, 443) or 1024 <= custom["port"] <= 65535
    for name in ("readTimeout", "keepaliveTimeout"):
        assert custom[name] in range(1, 121), f"{name} is {custom[name]}"
    for name in custom["customHeaders"]:
        assert name not in headers, f"custom header {name} repeats one of the request"


def check_function(event: Mapping[str, Any], returned: Mapping[str, Any]) -> None:
    """The same for a Function."""
    kind = event["context"]["eventType"]
    headers = {name: [field["value"]] for name, field in returned["headers"].items()}
    assert not {"cookie", "set-cookie"} & set(headers), "cookies are apart in a Function"
    part = event["response" if kind == "viewer-response" else "request"]
    before = {name: [field["value"]] for name, field in part["headers"].items()}
    if "statusCode" in returned:
        status = returned["statusCode"]
        _check_response(kind, headers, status, isinstance(status, int))
        if kind == "viewer-response":
            _check_unchanged(kind, before, headers)
            assert status == part["statusCode"], "another status than the origin's bypasses custom error pages"
        body = returned.get("body", {"encoding": "text", "data": ""})
        _check_body(kind, body["data"], body["encoding"], ("text", "base64"))
        return
    assert kind == "viewer-request", "a viewer-response Function returns a response"
    _check_unchanged(kind, before, headers)
    _check_names(kind, headers)
    assert returned["method"] == part["method"], "the method is read-only"
    query = returned["querystring"]
    _check_target(returned["uri"], query if isinstance(query, str) else "")


def _check_names(kind: str, headers: Mapping[str, list[str]]) -> None:
    for name, values in headers.items():
        assert _NAME.fullmatch(name), f"{name!r} is no field name in small letters"
        assert not DISALLOWED.fullmatch(name), f"{name} may not be set at {kind}"
        for value in values:
            assert _VALUE.fullmatch(value), f"{name}: {value!r}"


def _check_unchanged(kind: str, before: Mapping[str, list[str]], after: Mapping[str, list[str]]) -> None:
    for name in READ_ONLY[kind]:
        assert before.get(name) == after.get(name), f"{name} is read-only at {kind}"


def _check_response(kind: str, headers: Mapping[str, list[str]], status: int, right_type: bool) -> None:
    assert right_type, "the status is of the wrong type: text for Lambda@Edge, a number for Functions"
    assert 200 <= status <= 599
    _check_names(kind, headers)
    if kind in {"viewer-request", "origin-request"}:
        assert not READ_ONLY[kind] & set(headers), "a generated response has no fields that CloudFront counts"


def _check_body(kind: str, data: str | None, encoding: str, allowed: tuple[str, ...]) -> None:
    assert encoding in allowed
    assert len((data or "").encode()) <= MAX_GENERATED_BYTES.get(kind, 0)


def _check_target(uri: str, query: str) -> None:
    assert uri.startswith("/")
    assert len(uri) + len(query) < 8_192
    assert not re.search(r"[\x00-\x20\x7f#]", uri + query), f"{uri}?{query}"
