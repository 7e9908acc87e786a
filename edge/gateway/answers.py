"""What the edge itself says when there is nothing to show: small, never kept, in the reader's form."""

from __future__ import annotations

from html import escape
from http import HTTPStatus

import orjson

from edge.core.http import Headers, Request, Response

RETRY_AFTER_S = 1
"""A lease comes back, a purge storm passes, an origin restarts: soon, or not soon."""


def unavailable(status: int, why: str, request: Request | None) -> Response:
    """An error answer: problem+json (RFC 9457) for the API, a small page for people."""
    title = HTTPStatus(status).phrase
    fields: list[tuple[str, str]] = [("cache-control", "no-store")]
    if status in (503, 504, 502):
        fields.append(("retry-after", str(RETRY_AFTER_S)))
    if request is not None and request.path.startswith("/api/"):
        body = orjson.dumps({"type": "about:blank", "title": title, "status": status, "detail": why})
        media_type = "application/problem+json"
    else:
        again = "" if status == 451 else _AGAIN
        body = _PAGE.format(title=escape(title), why=escape(why), again=again).encode()
        media_type = "text/html; charset=utf-8"
    if request is not None and request.method == "HEAD":
        fields += [("content-type", media_type), ("content-length", str(len(body)))]
        return Response(status, Headers(fields))
    return Response(status, Headers((("content-type", media_type), *fields, ("content-length", str(len(body))))), body)


def for_nobody(why: str, request: Request) -> Response:
    """503 for what may be sent to nobody, which trying again does not change."""
    response = unavailable(503, why, request)
    return Response(503, response.headers.without(("retry-after",)), response.body)


_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>body{{font:1.1rem/1.5 system-ui,sans-serif;max-width:36rem;margin:15vh auto;padding:0 1.25rem}}</style>
<h1>{title}</h1>
<p>{why}</p>
{again}</html>
"""
_AGAIN = '<p><a href="">Try again</a></p>\n'
