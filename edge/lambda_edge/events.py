"""CloudFront's event dictionaries <-> the core's requests (AWS: Lambda@Edge event structure).

Header maps are `{"host": [{"key": "Host", "value": "shop.example"}]}`: names in lower case, one item a line. A request
event is answered with its own request dictionary (go on) or with a response dictionary (answer here).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from edge.core.http import Headers, Request

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


TOLD_FIELD = "nearshelf-viewer-cache-control"
"""What a viewer is told about caching, kept beside the Cache-Control that CloudFront obeys."""
SILENCE = "-"
"""Value of TOLD_FIELD where a viewer is told nothing."""


class BadEvent(ValueError):
    """The event is not what CloudFront sends. Reads: not a CloudFront origin-request event: no Records."""


def cf_request_of(event: Mapping[str, Any]) -> dict[str, Any]:
    """The request dictionary inside an origin-request event: to be changed in place and returned. Raises BadEvent."""
    try:
        cf = event["Records"][0]["cf"]
        kind, request = cf["config"]["eventType"], cf["request"]
    except (KeyError, IndexError, TypeError) as exc:
        raise BadEvent(f"not a CloudFront origin-request event: {exc!r} is missing") from exc
    if kind != "origin-request" or not isinstance(request, dict):
        raise BadEvent(f"not a CloudFront origin-request event but {kind!r}: attach this function to origin-request")
    return request


def request_of(cf_request: Mapping[str, Any]) -> Request:
    """The core's form of a request that the viewer-request Function has let through.

    The authority is what the Function wrote into `x-forwarded-host`: at origin-request, Host is the origin's.
    """
    headers = Headers(
        (name, str(line["value"])) for name, lines in cf_request.get("headers", {}).items() for line in lines
    )
    return Request(
        method=cf_request["method"],
        authority=(headers.get("x-forwarded-host") or headers.get("host") or "").lower(),
        path=cf_request["uri"],
        query=cf_request.get("querystring", ""),
        headers=headers,
        peer=cf_request.get("clientIp", ""),
    )


def replace_headers(cf_request: dict[str, Any], remove: Iterable[str], add: Iterable[tuple[str, str]]) -> None:
    """Remove fields, then add lines, in place; fields that CloudFront guards at this event are not removed."""
    headers: dict[str, list[dict[str, str]]] = cf_request["headers"]
    for name in remove:
        if name not in READ_ONLY_AT_ORIGIN_REQUEST:
            headers.pop(name, None)
    for name, value in add:
        headers.setdefault(name, []).append({"key": _title(name), "value": value})


def answer(status: int, fields: Mapping[str, str], text: str) -> dict[str, Any]:
    """A response dictionary that CloudFront sends to the viewer instead of asking the origin."""
    return {
        "status": str(status),
        "statusDescription": HTTPStatus(status).phrase,
        "headers": {name: [{"key": _title(name), "value": value}] for name, value in fields.items()},
        "bodyEncoding": "text",
        "body": text,
    }


def _title(name: str) -> str:
    return "-".join(part.capitalize() for part in name.split("-"))
