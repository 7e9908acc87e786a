"""Every error becomes a status here and nowhere else: RFC 9457 problems for programs, a small page for people.

What the text says is for whoever asked; what only we should know goes to the log, never into a response.
"""

from __future__ import annotations

import html
import json
import logging
from collections.abc import Mapping
from http import HTTPStatus

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ExceptionHandler

from cache_policies.positions import WireError
from origin.caching import uncached
from origin.db import NOT_IN_CHARGE
from origin.errors import (
    Conflict,
    Invalid,
    NotAllowed,
    NotFound,
    NotSignedIn,
    ShopError,
    TooLarge,
    TooOften,
    Unavailable,
)

_log = logging.getLogger(__name__)

STATUS_OF: Mapping[type[ShopError], HTTPStatus] = {
    Invalid: HTTPStatus.UNPROCESSABLE_ENTITY,
    NotSignedIn: HTTPStatus.UNAUTHORIZED,
    NotAllowed: HTTPStatus.FORBIDDEN,
    NotFound: HTTPStatus.NOT_FOUND,
    Conflict: HTTPStatus.CONFLICT,
    TooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    TooOften: HTTPStatus.TOO_MANY_REQUESTS,
    Unavailable: HTTPStatus.SERVICE_UNAVAILABLE,
}
"""The table. An error has the status of the nearest of its bases that is named here."""

PROGRAM_PATHS = ("/api/", "/edge/", "/livez", "/readyz", "/metrics")
"""Addresses that programs ask; everything else is asked by people."""


def handlers() -> dict[int | type[Exception], ExceptionHandler]:
    """For `Starlette(exception_handlers=...)`."""
    return {
        ShopError: _shop_error,
        WireError: _wire_error,
        HTTPException: _http_exception,
        DBAPIError: _database_error,
        PoolTimeout: _database_error,
        OSError: _database_error,
    }


def status_of(error: ShopError) -> HTTPStatus:
    """The status for `error`, by the nearest base in the table."""
    return next((STATUS_OF[base] for base in type(error).__mro__ if base in STATUS_OF), HTTPStatus.BAD_REQUEST)


def problem(
    request: Request,
    status: int,
    detail: str,
    *,
    faults: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The answer that says what went wrong: a problem document, or a page. Nobody keeps it."""
    phrase = HTTPStatus(status).phrase
    fields = dict(headers or {})
    if request.url.path.startswith(PROGRAM_PATHS):
        document: dict[str, object] = {"type": "about:blank", "title": phrase, "status": status, "detail": detail}
        if faults:
            document["errors"] = [{"pointer": name, "detail": fault} for name, fault in faults.items()]
        return uncached(json.dumps(document).encode(), "application/problem+json", status, fields)
    items = "".join(f"<li>{html.escape(name)}: {html.escape(fault)}</li>" for name, fault in (faults or {}).items())
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{status} {html.escape(phrase)}</title></head><body><main><h1>{html.escape(phrase)}</h1>"
        f"<p>{html.escape(detail)}</p>{f'<ul>{items}</ul>' if items else ''}</main></body></html>"
    )
    return uncached(page.encode(), "text/html; charset=utf-8", status, fields)


def _shop_error(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, ShopError)
    headers = {}
    if isinstance(exc, Unavailable | TooOften):
        headers["retry-after"] = str(exc.retry_after_s)
    if isinstance(exc, NotSignedIn):
        headers["www-authenticate"] = "Bearer"
    faults = exc.faults if isinstance(exc, Invalid) else None
    return problem(request, status_of(exc), str(exc), faults=faults, headers=headers)


def _wire_error(request: Request, exc: Exception) -> Response:
    return problem(request, HTTPStatus.BAD_REQUEST, str(exc))


def _http_exception(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    detail = _SAID_BY_STARLETTE.get(exc.status_code, exc.detail)
    return problem(request, exc.status_code, detail, headers=exc.headers)


_SAID_BY_STARLETTE = {
    404: "There is nothing at this address.",
    405: "This address does not take requests of that method.",
}


def _database_error(request: Request, exc: Exception) -> Response:
    if isinstance(exc, DBAPIError) and _sqlstate(exc) in _NOT_TEXT:
        return problem(request, HTTPStatus.UNPROCESSABLE_ENTITY, "The request holds a character that no text can have.")
    if isinstance(exc, DBAPIError) and not _is_passing(exc):
        return unexpected(request, exc)
    _log.warning("%s %s: the database did not answer: %s", request.method, request.url.path, exc)
    detail = "The shop's database cannot be reached just now. Please try again in a moment."
    return problem(request, HTTPStatus.SERVICE_UNAVAILABLE, detail, headers={"retry-after": "1"})


_PASSING = (
    "08",  # connection
    "53",  # resources
    "57",  # operator intervention, also "the database system is starting up"
    "25006",  # read-only: the primary was demoted
    "40",  # serialisation, deadlock, conflict with recovery
    "55P03",  # lock not available
    NOT_IN_CHARGE,
)
"""SQLSTATE prefixes of what another try may not meet again."""

_NOT_TEXT = ("22021", "22P05")
"""SQLSTATEs for NUL in a text and in JSON: whoever sent it is told, and nobody is woken."""


def _is_passing(exc: DBAPIError) -> bool:
    state = _sqlstate(exc)
    if exc.connection_invalidated or state is None:
        return True
    return state.startswith(_PASSING)


def _sqlstate(exc: DBAPIError) -> str | None:
    state = getattr(exc.orig, "sqlstate", None) or getattr(exc.orig, "pgcode", None)
    return None if state is None else str(state)


def unexpected(request: Request, exc: Exception) -> Response:
    """The answer to a fault of our own: noted here with its traceback, which nobody else sees."""
    _log.error("%s %s failed", request.method, request.url.path, exc_info=exc)
    detail = "Something went wrong here. It has been noted; trying again may help."
    return problem(request, HTTPStatus.INTERNAL_SERVER_ERROR, detail)
