"""CloudFront's event dictionaries <-> the core's requests and responses (AWS: Lambda@Edge event structure).

Header maps are `{"host": [{"key": "Host", "value": "shop.example"}]}`: names in lower case, one item a line. A request
event is answered with its own request dictionary (go on) or with a response dictionary (answer here); a response event
with its own response dictionary.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from edge.core.http import Headers, Request, Response

READ_ONLY_AT_ORIGIN_REQUEST = frozenset(
    {
        "accept-encoding",
        "cdn-loop",
        "content-length",
        "if-modified-since",
        "if-none-match",
        "if-range",
        "if-unmodified-since",
        "transfer-encoding",
        "via",
    }
)
"""CloudFront answers 502 when an origin-request handler changes one of these."""
READ_ONLY_AT_ORIGIN_RESPONSE = frozenset({"transfer-encoding", "via"})
"""The same for an origin-response handler."""

GENERATION_FIELD = "nearshelf-generation"
"""Written by the viewer-request Function and part of CloudFront's key: `1.7041`, `head.ID`, `once.ID` or `none`."""
TOLD_FIELD = "nearshelf-viewer-cache-control"
"""What a viewer is told about caching, kept beside the Cache-Control that CloudFront obeys."""
SILENCE = "-"
"""Value of TOLD_FIELD where a viewer is told nothing."""


class BadEvent(ValueError):
    """The event is not what CloudFront sends. Reads: not a CloudFront origin-request event: no Records."""


def cf_request_of(event: Mapping[str, Any]) -> dict[str, Any]:
    """The request dictionary inside an origin-request event: to be changed in place and returned. Raises BadEvent."""
    request: dict[str, Any] = _cf(event, "origin-request")["request"]
    return request


def cf_exchange_of(event: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Request and response of an origin-response event; the second is to be changed and returned. Raises BadEvent."""
    cf = _cf(event, "origin-response")
    return cf["request"], cf["response"]


def _cf(event: Mapping[str, Any], expected: str) -> dict[str, Any]:
    try:
        cf: dict[str, Any] = event["Records"][0]["cf"]
        kind, parts = cf["config"]["eventType"], [cf["request"]]
        if expected == "origin-response":
            parts.append(cf["response"])
    except (KeyError, IndexError, TypeError) as exc:
        raise BadEvent(f"not a CloudFront {expected} event: {exc!r} is missing") from exc
    if kind != expected or not all(isinstance(part, dict) for part in parts):
        raise BadEvent(f"not a CloudFront {expected} event but {kind!r}: attach this function to {expected}")
    return cf


def request_of(cf_request: Mapping[str, Any]) -> Request:
    """The core's form of a request that the viewer-request Function has let through.

    The authority is what the Function wrote into `x-forwarded-host`: at the origin's side, Host is the origin's.
    """
    headers = headers_of(cf_request)
    return Request(
        method=cf_request["method"],
        authority=(headers.get("x-forwarded-host") or headers.get("host") or "").lower(),
        path=cf_request["uri"],
        query=cf_request.get("querystring", ""),
        headers=headers,
        peer=cf_request.get("clientIp", ""),
    )


def response_of(cf_response: Mapping[str, Any]) -> Response:
    """The core's form of the head of an origin's response; its body is never shown to a handler."""
    return Response(int(cf_response["status"]), headers_of(cf_response))


def headers_of(message: Mapping[str, Any]) -> Headers:
    return Headers((name, str(line["value"])) for name, lines in message.get("headers", {}).items() for line in lines)


def replace_headers(message: dict[str, Any], remove: Iterable[str], add: Iterable[tuple[str, str]]) -> None:
    """Remove fields, then add lines, in place. What CloudFront guards at this event is the caller's to leave alone."""
    headers: dict[str, list[dict[str, str]]] = message["headers"]
    for name in remove:
        headers.pop(name, None)
    for name, value in add:
        headers.setdefault(name, []).append({"key": _title(name), "value": value})


def answer(status: int, fields: Mapping[str, str], text: str) -> dict[str, Any]:
    """A response dictionary that CloudFront sends to the viewer instead of asking the origin."""
    return {
        "status": str(status),
        "headers": {name: [{"key": _title(name), "value": value}] for name, value in fields.items()},
        "bodyEncoding": "text",
        "body": text,
    }


def explained(request: Request, status: int, phrase: str, why: str, *fields: tuple[str, str]) -> dict[str, Any]:
    """An answer of the edge's own in the reader's form, as edge/gateway/answers.py has it. `why` is plain text of ours:
    nothing in it is escaped."""
    if request.path.startswith("/api/"):
        media_type = "application/problem+json"
        text = f'{{"type":"about:blank","title":"{phrase}","status":{status},"detail":"{why}"}}'
    else:
        media_type = "text/html; charset=utf-8"
        text = f'<!doctype html>\n<html lang="en">\n<title>{phrase}</title>\n<h1>{phrase}</h1>\n<p>{why}</p>\n</html>\n'
    return answer(status, {"cache-control": "no-store", "content-type": media_type, **dict(fields)}, text)


def _title(name: str) -> str:
    return "-".join([part.capitalize() for part in name.split("-")])
