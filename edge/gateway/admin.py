"""What an operator may look at and order: Starlette on a listener of its own, never the viewers' one.

`/livez` and `/readyz` are open, and so are the explorer's style and script; everything else wants the admin token.
The same listener stands before one worker and before a site with all of its workers (`Behind`).
"""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import parse_qsl, urlencode

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import (
    FileResponse,
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import BaseRoute, Route

from cache_policies.market_values import UNKNOWN_COUNTRY
from edge.gateway.entries import MOST_TOLD, STATES, Wanted
from edge.gateway.explain import NoRequest
from edge.gateway.explorer import pages
from edge.gateway.figures import Figures
from edge.gateway.guard import Guard, address_of, said
from edge.gateway.listening import body_of
from edge.gateway.metrics import CONTENT_TYPE, text_of
from edge.gateway.purges import MAX_BODY_BYTES, NOTHING_STORED, BadOrder, Order, PurgeFailed, order_of

logger = logging.getLogger("nearshelf.audit")

MOST_LOOKING = 8
"""Live streams at a time."""
_PAGE_FIELDS = {
    "content-security-policy": pages.CONTENT_SECURITY_POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
_NOT_KEPT = {"cache-control": "no-store"}


class Behind(Protocol):
    """What an admin listener stands before. Everything that is told is JSON, as Python values."""

    def readiness(self) -> tuple[int, dict[str, Any]]:
        """The status and the body of `/readyz`."""
        ...

    async def status(self) -> dict[str, Any]: ...

    async def overview(self) -> dict[str, Any]:
        """The figures of the explorer's front page."""
        ...

    async def figures(self) -> Figures:
        """What is exported for Prometheus."""
        ...

    async def explain(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """What would be done with a request, and what is held for it: `url`, `method`, `country`, `fields`. Raises
        NoRequest."""
        ...

    async def entries(self, wanted: Wanted) -> dict[str, Any]: ...

    async def carrying(self, tags: Sequence[str]) -> int | None:
        """How many stored responses a purge of `tags` applies to; None: too many to count."""
        ...

    async def requests(self, limit: int) -> list[dict[str, Any]]:
        """The last exchanges, the newest first."""
        ...

    def live(self) -> AsyncIterator[bytes]:
        """Messages of the live stream, each a JSON object, until nobody takes them any more."""
        ...

    async def purge(self, order: Order, who: str) -> dict[str, Any]:
        """Carry out `order`; what was done. Raises PurgeFailed."""
        ...


def admin_app(token: str, behind: Behind, clock: Callable[[], float]) -> Starlette:
    """The application of one admin listener. `clock`: seconds, for its limits."""
    guard = Guard(token, clock)
    looking = 0

    def guarded(answer: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        async def check(request: Request) -> Response:
            refused = guard.refusal(request)
            return await answer(request) if refused is None else refused

        return check

    async def livez(_: Request) -> Response:
        return PlainTextResponse("alive\n", headers=_NOT_KEPT)

    async def readyz(_: Request) -> Response:
        status, body = behind.readiness()
        return _json(body, status)

    async def status_page(_: Request) -> Response:
        return _json({**await behind.status(), "admin_refused": guard.refused})

    async def explain_page(request: Request) -> Response:
        asked = request.query_params
        fields = [(name.strip(), value) for name, _, value in (line.partition(":") for line in asked.getlist("field"))]
        try:
            found = await behind.explain(
                {
                    "url": asked.get("url", ""),
                    "method": asked.get("method", "GET"),
                    "country": asked.get("country", UNKNOWN_COUNTRY),
                    "fields": fields,
                }
            )
        except NoRequest as exc:
            return said(400, f"{exc}; ask with ?url=/eu-eur/, and method, country and field where they matter")
        return _json(found)

    async def overview_page(_: Request) -> Response:
        return _json(await behind.overview())

    async def metrics_page(_: Request) -> Response:
        return Response(await text_of(await behind.figures()), headers=_NOT_KEPT | {"content-type": CONTENT_TYPE})

    async def figures_page(_: Request) -> Response:
        return Response((await behind.figures()).to_json(), headers=_NOT_KEPT, media_type="application/json")

    async def entries_page(request: Request) -> Response:
        try:
            wanted = _wanted(request.query_params)
        except ValueError as exc:
            return said(400, str(exc))
        return _json(await behind.entries(wanted))

    async def requests_page(request: Request) -> Response:
        limit = request.query_params.get("limit", "100")
        if not (limit.isascii() and limit.isdigit() and len(limit) < 6):
            return said(400, "limit is a number")
        return _json({"requests": await behind.requests(min(int(limit), MOST_TOLD))})

    async def live_page(_: Request) -> Response:
        if looking >= MOST_LOOKING:
            return said(503, f"{MOST_LOOKING} look already")

        async def events() -> AsyncIterator[bytes]:
            nonlocal looking
            looking += 1
            try:
                async for message in behind.live():
                    yield b"data: %b\n\n" % message
            finally:
                looking -= 1

        return StreamingResponse(
            events(), headers=_NOT_KEPT | {"x-accel-buffering": "no"}, media_type="text/event-stream"
        )

    async def purge_page(request: Request) -> Response:
        refused = guard.too_often(request)
        if refused is not None:
            return refused
        by_form = False
        try:
            body = await _body(request)
            # What is JSON is taken for JSON, whatever curl says of it.
            kind = request.headers.get("content-type", "")
            by_form = kind.startswith("application/x-www-form-urlencoded") and not body.lstrip().startswith(b"{")
            order = order_of(_form(body) if by_form else orjson.loads(body))
            done = await behind.purge(order, address_of(request))
        except (BadOrder, orjson.JSONDecodeError) as exc:
            text = str(exc) if isinstance(exc, BadOrder) else f"not JSON: {exc}"
            return _trouble(400, text) if by_form else said(400, text)
        except PurgeFailed as exc:
            return _trouble(exc.status, str(exc)) if by_form else said(exc.status, str(exc))
        logger.info(
            "purged %s at %s by %s in %.3f s: %s%s%s",
            done["kind"],
            done["position"],
            address_of(request),
            done["seconds"],
            " ".join(done["tags"][:20]),
            f" and {len(done['tags']) - 20} more" if len(done["tags"]) > 20 else "",
            f" ({ascii(order.reason)[1:-1]})" if order.reason else "",
        )
        return RedirectResponse("/?" + urlencode({"done": _done(done)}), 303) if by_form else _json(done)

    async def carrying_page(request: Request) -> Response:
        try:
            order = order_of({"tags": orjson.loads(await _body(request))["tags"]})
        except (BadOrder, orjson.JSONDecodeError, KeyError, TypeError) as exc:
            return said(400, f'expected {{"tags": [...]}}: {exc}')
        return _json({"objects": await behind.carrying(order.tags)})

    async def front_page(request: Request) -> Response:
        asked = request.query_params
        try:
            wanted = _wanted(asked)
        except ValueError as exc:
            return _trouble(400, str(exc))
        overview = await behind.overview()
        if asked.get("part") == "overview":
            return _html(pages.overview_only(overview))
        requests = await behind.requests(pages.REQUESTS_SHOWN)
        found = await behind.entries(wanted)
        return _html(pages.front(overview, requests, found, wanted, asked.get("done", "")[:300]))

    async def entry_page(request: Request) -> Response:
        url = request.query_params.get("url", "")
        try:
            found = await behind.explain({"url": url, "method": "GET", "country": UNKNOWN_COUNTRY, "fields": []})
        except NoRequest as exc:
            return _trouble(400, str(exc))
        return _html(pages.entry(await behind.overview(), url, found))

    def file_page(name: str) -> Route:
        kind, path = pages.FILES[name]

        async def answer(_: Request) -> Response:
            return FileResponse(path, media_type=kind, headers=_PAGE_FIELDS | {"cache-control": "no-cache"})

        return Route(f"/{name}", answer, methods=["GET"])

    routes: list[BaseRoute] = [
        Route("/livez", livez, methods=["GET"]),
        Route("/readyz", readyz, methods=["GET"]),
        *(file_page(name) for name in pages.FILES),
        Route("/", guarded(front_page), methods=["GET"]),
        Route("/entry", guarded(entry_page), methods=["GET"]),
        Route("/status", guarded(status_page), methods=["GET"]),
        Route("/overview", guarded(overview_page), methods=["GET"]),
        Route("/metrics", guarded(metrics_page), methods=["GET"]),
        Route("/figures", guarded(figures_page), methods=["GET"]),
        Route("/explain", guarded(explain_page), methods=["GET"]),
        Route("/entries", guarded(entries_page), methods=["GET"]),
        Route("/entries/one", guarded(explain_page), methods=["GET"]),
        Route("/carrying", guarded(carrying_page), methods=["POST"]),
        Route("/requests", guarded(requests_page), methods=["GET"]),
        Route("/requests/live", guarded(live_page), methods=["GET"]),
        Route("/purge", guarded(purge_page), methods=["POST"]),
    ]
    return Starlette(routes=routes)


def _wanted(asked: Mapping[str, str]) -> Wanted:
    """The filter in a query. Raises ValueError saying which part cannot be read."""
    older, limit, state = asked.get("older", "").strip() or "0", asked.get("limit", "100"), asked.get("state", "")
    try:
        older_s = float(older)
    except ValueError:
        older_s = -1.0
    if not (math.isfinite(older_s) and older_s >= 0):
        raise ValueError("older is an age in seconds, such as 300")
    if not (limit.isascii() and limit.isdigit() and 1 <= int(limit[:9]) <= MOST_TOLD):
        raise ValueError(f"limit is a number from 1 to {MOST_TOLD}")
    if state and state not in STATES:
        raise ValueError(f"state is one of {', '.join(STATES)}")
    return Wanted(asked.get("key", "").strip(), asked.get("tag", "").strip(), older_s, state, int(limit))


async def _body(request: Request) -> bytes:
    """Raises BadOrder for one that is too long."""
    found = await body_of(request, MAX_BODY_BYTES)
    if found is None:
        raise BadOrder(f"an order has at most {MAX_BODY_BYTES:,} bytes; send several")
    return found


def _form(body: bytes) -> dict[str, Any]:
    """The order that the explorer's form sends."""
    sent = dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))
    name, what = sent.get("name", "").strip(), sent.get("what", "")
    order: dict[str, Any] = {"soft": "soft" in sent, "reason": "explorer"}
    if what == "all":
        return order | {"all": True}
    if not name:
        raise BadOrder("it names nothing: write the tag or the path")
    return order | {"paths" if what == "path" else "tags": [name]}


def _done(done: Mapping[str, Any]) -> str:
    """What a purge has come to, in one sentence."""
    workers = done["workers"]
    applied = sum(worker["outcome"] != "waiting" for worker in workers)
    objects = done.get("objects")
    held = "" if objects is None else f", {objects:,} stored responses" if objects else f"; {NOTHING_STORED}"
    return (
        f"Purged ({done['kind']}) {', '.join(done['tags'][:3])} at {done['position']}: {applied} of {len(workers)} "
        f"workers in {done['seconds'] * 1000:.0f} ms{held}."
    )


def _json(content: Mapping[str, Any], status: int = 200) -> JSONResponse:
    return JSONResponse(content, status, _NOT_KEPT)


def _html(text: str, status: int = 200) -> HTMLResponse:
    return HTMLResponse(text, status, _PAGE_FIELDS | _NOT_KEPT)


def _trouble(status: int, text: str) -> HTMLResponse:
    return _html(pages.trouble(status, text), status)
