"""What an operator may look at: Starlette on a listener of its own, never the viewers' one.

`/livez` and `/readyz` are open; everything else wants the admin token.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from cache_policies.market_values import UNKNOWN_COUNTRY
from edge.core import http
from edge.gateway.explain import NoRequest, described_request

Status = Callable[[], dict[str, Any]]
Explain = Callable[[http.Request, str], dict[str, Any]]
"""What this worker would do with a request of a visitor from a country, and what it holds for it."""


def admin_app(
    token: str, status: Status, explain: Explain, is_ready: Callable[[], bool], is_degraded: Callable[[], bool]
) -> Starlette:
    """`status` gives everything `/status` shows; the others are asked at each request, from the same loop."""

    async def livez(_: Request) -> Response:
        return PlainTextResponse("alive\n", headers={"cache-control": "no-store"})

    async def readyz(_: Request) -> Response:
        # An edge whose origin is down stays ready: taking it out of service would turn stale pages into no pages.
        if not is_ready():
            return _json({"status": "starting", "why": "the purge log has not been applied yet"}, 503)
        if is_degraded():
            return _json({"status": "degraded", "why": "the lease has lapsed: nothing is served as fresh"})
        return _json({"status": "ready"})

    def guarded(page: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        async def check(request: Request) -> Response:
            given = request.headers.get("authorization", "")
            if not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
                return _json(
                    {"error": "this page wants the admin token: Authorization: Bearer TOKEN"},
                    401,
                    {"www-authenticate": 'Bearer realm="nearshelf edge"'},
                )
            return await page(request)

        return check

    async def status_page(_: Request) -> Response:
        return _json(status())

    async def explain_page(request: Request) -> Response:
        asked = request.query_params
        pairs = [(name.strip(), value) for name, _, value in (line.partition(":") for line in asked.getlist("field"))]
        try:
            described = described_request(asked.get("url", ""), asked.get("method", "GET"), pairs)
        except NoRequest as exc:
            return _json(
                {"error": f"{exc}; ask with ?url=/eu-eur/, and method, country and field where they matter"}, 400
            )
        return _json(explain(described, asked.get("country", UNKNOWN_COUNTRY)))

    return Starlette(
        routes=[
            Route("/livez", livez, methods=["GET"]),
            Route("/readyz", readyz, methods=["GET"]),
            Route("/status", guarded(status_page), methods=["GET"]),
            Route("/explain", guarded(explain_page), methods=["GET"]),
        ]
    )


def _json(content: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse(content, status, {"cache-control": "no-store", **(headers or {})})
