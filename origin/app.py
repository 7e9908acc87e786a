"""The origin as one ASGI application: the place where the modules' routes are joined."""

from __future__ import annotations

import asyncio
import hmac
import logging
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from http import HTTPStatus

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cache_policies.fields import EDGE_KEY_FIELD, MIN_VERSION_FIELD, REFUSED_EDGE_KEY, REFUSED_FIELD
from cache_policies.markets import Markets
from origin.accounts import edge_purges
from origin.accounts import staff_api as accounts
from origin.catalog import api as catalog
from origin.console import pages as console
from origin.db import Database
from origin.errors import NotFound, NotSignedIn, TooLarge
from origin.events import api as events
from origin.inventory import api as inventory
from origin.metrics import CONTENT_TYPE, Metrics
from origin.pricing import api as pricing
from origin.problems import handlers, problem, unexpected
from origin.record import AccessLog, Recorded, Records
from origin.release import noted_release, release_digest
from origin.settings import OriginSettings
from origin.shop import Shop, open_shop

_log = logging.getLogger(__name__)

MAX_BODY_BYTES = 300_000
"""More in one request's body is refused. The longest that is meant: a purge of 1,000 tags, and 500 prices."""

WRONG_KEY = (
    "The edge key of this request is not this origin's. Origin and edges need the same NEARSHELF_EDGE_KEY; "
    "viewers send none."
)

EDGE_ONLY_FIELDS = frozenset(
    field.encode()
    for field in (
        EDGE_KEY_FIELD,
        MIN_VERSION_FIELD,
        "nearshelf-country",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-forwarded-for",
    )
)
"""Believed from an edge, deleted from everybody else's requests."""

SECURITY_FIELDS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "strict-origin-when-cross-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=()",
}
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""Content-Security-Policy of pages: everything comes from this authority, nothing is inline."""
PICTURE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; sandbox"
"""The same for a picture that is opened by itself: it may style itself and do nothing else."""

_MODULES: tuple[Callable[[Shop], list[BaseRoute]], ...] = (
    events.routes,
    edge_purges.routes,
    console.routes,
    accounts.routes,
    pricing.routes,
    inventory.routes,
    catalog.routes,
)
"""In the order in which addresses are matched: the catalog's `/{market}/...` come last."""


def make_app(
    settings: OriginSettings, markets: Markets, metrics: Metrics | None = None, log: AccessLog | None = None
) -> Starlette:
    """One worker's application. The shop is opened when it starts and closed when it stops.

    `metrics`: where it counts; None: for itself. `log`: its access log; None: none.
    """
    records = Records(metrics or Metrics(), log)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        digest = release_digest(settings.policies)
        async with (
            open_shop(settings, markets=markets, serving=True, metrics=records.metrics) as shop,
            noted_release(shop.database, digest),
        ):
            app.state.shop = shop
            routes = routes_of(shop)
            records.learn(routes)
            app.router.routes.extend(routes)
            with _told_of_moves(shop.database):
                yield

    app = Starlette(exception_handlers=dict(handlers()), middleware=_middleware(settings, records), lifespan=lifespan)
    app.router.redirect_slashes = False
    return app


@contextmanager
def _told_of_moves(database: Database) -> Iterator[None]:
    """Meanwhile SIGUSR1 says that another server was promoted, or one is back (docs/failover.md)."""
    loop, looks = asyncio.get_running_loop(), set[asyncio.Task[None]]()

    def look() -> None:
        looks.add(task := loop.create_task(database.look_again(), name="told of a move"))
        task.add_done_callback(looks.discard)

    loop.add_signal_handler(signal.SIGUSR1, look)
    try:
        yield
    finally:
        # Not `remove_signal_handler`: that leaves what the signal does by itself, which is to end a process that has
        # yet to commit what was ordered.
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)


def app_of(shop: Shop) -> Starlette:
    """The application over a shop that is open already; whoever opened it closes it."""
    routes, records = routes_of(shop), Records(shop.metrics)
    records.learn(routes)
    app = Starlette(routes=routes, exception_handlers=dict(handlers()), middleware=_middleware(shop.settings, records))
    app.router.redirect_slashes = False
    app.state.shop = shop
    return app


def routes_of(shop: Shop) -> list[BaseRoute]:
    """Health and metrics, then the routes of every module."""
    routes: list[BaseRoute] = [
        Route("/livez", _live, name="liveness"),
        Route("/readyz", _ready, name="readiness"),
        Route("/metrics", _metrics, name="metrics"),
    ]
    for module_routes in _MODULES:
        routes.extend(module_routes(shop))
    return routes


def _middleware(settings: OriginSettings, records: Records) -> list[Middleware]:
    return [
        Middleware(Recorded, records=records),
        Middleware(SecurityFields),
        Middleware(Faults),
        Middleware(EdgeKey, key=settings.edge_key),
        Middleware(BodyLimit),
    ]


class Faults:
    """Answers for a handler that failed. When the answer had begun already, the connection ends in its middle."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = False

        async def watched(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except ClientDisconnect:
            # Nobody is left to answer, and nothing failed here.
            _log.info("%s %s was broken off by its client", scope["method"], scope["path"])
        except Exception as exc:
            response = unexpected(Request(scope), exc)
            if begun:
                raise
            await response(scope, receive, send)


class EdgeKey:
    """Tells edges from everybody else: `request.state.from_edge`; what only edges may say is deleted from others.

    A wrong key is refused. To answer its sender as a stranger would drop the position that it demands, and an edge
    with an old key would take what a lagging replica shows for the present.
    """

    def __init__(self, app: ASGIApp, key: str) -> None:
        self._app = app
        self._key = key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            shown = [value for name, value in scope["headers"] if name == EDGE_KEY_FIELD.encode()]
            from_edge = bool(shown)
            if from_edge and not (self._key and all(hmac.compare_digest(value, self._key) for value in shown)):
                _log.warning("%s %s was refused: its edge key is wrong", scope["method"], scope["path"])
                refused = {REFUSED_FIELD: REFUSED_EDGE_KEY}
                await problem(Request(scope), HTTPStatus.FORBIDDEN, WRONG_KEY, headers=refused)(scope, receive, send)
                return
            if not from_edge:
                # In place: `Recorded` reads from the same scope which route was found.
                scope["headers"] = [pair for pair in scope["headers"] if pair[0] not in EDGE_ONLY_FIELDS]
            scope.setdefault("state", {})["from_edge"] = from_edge
        await self._app(scope, receive, send)


class BodyLimit:
    """Refuses a body of more than `MAX_BODY_BYTES`, announced or not."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        received = 0

        async def limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > MAX_BODY_BYTES:
                raise TooLarge(f"a request body has at most {MAX_BODY_BYTES} bytes here")
            return message

        await self._app(scope, limited, send)


class SecurityFields:
    """Adds to every response what tells a browser to trust less; a route that says more stays as it is."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_fields(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_FIELDS.items():
                    headers.setdefault(name, value)
                media_type = headers.get("content-type", "")
                if media_type.startswith("text/html"):
                    headers.setdefault("content-security-policy", PAGE_POLICY)
                elif media_type.startswith("image/svg"):
                    headers.setdefault("content-security-policy", PICTURE_POLICY)
            await send(message)

        await self._app(scope, receive, with_fields)


async def _live(request: Request) -> Response:
    """This process answers."""
    return PlainTextResponse("ok\n", headers={"cache-control": "no-store"})


async def _metrics(request: Request) -> Response:
    """What this worker, or all of them, counted; for whoever runs the origin, and never through an edge."""
    shop: Shop = request.app.state.shop
    token = shop.settings.admin_token
    if not token or request.state.from_edge:
        raise NotFound("There is nothing at this address.")
    claimed = request.headers.get("authorization", "")
    if not hmac.compare_digest(claimed.encode("latin-1"), f"Bearer {token}".encode("latin-1")):
        raise NotSignedIn("Metrics want the admin token (NEARSHELF_ADMIN_TOKEN) as a bearer token.")
    # Reading what all workers have counted takes some ten milliseconds: pages in the making do not wait for that.
    shown = await asyncio.to_thread(shop.metrics.exposition)
    return Response(shown, headers={"cache-control": "no-store"}, media_type=CONTENT_TYPE)


async def _ready(request: Request) -> Response:
    """What this worker depends on, and whether it can do without; 503 when it cannot work."""
    shop: Shop = request.app.state.shop
    in_charge = await _answers(shop.database.log, "SELECT events.in_charge()")
    checks: dict[str, dict[str, object]] = {"primary": {"critical": True, "ok": in_charge}}
    for number, replica in enumerate(shop.database.replicas):
        checks[f"replica-{number}"] = {"critical": False, "ok": await _answers(replica)}
    if shop.settings.redis_url:
        checks["redis"] = {"critical": False, "ok": shop.wake.connected}
    ready = all(check["ok"] for check in checks.values() if check["critical"])
    return JSONResponse(
        {"ready": ready, "checks": checks}, status_code=200 if ready else 503, headers={"cache-control": "no-store"}
    )


async def _answers(engine: AsyncEngine, question: str = "SELECT true FROM events.clock") -> bool:
    try:
        async with engine.connect() as connection:
            return bool((await connection.execute(text(question))).scalar())
    except (SQLAlchemyError, OSError):
        return False
