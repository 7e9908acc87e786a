"""Who sends a request: session cookies of browsers, tokens of programs, and whether a form is one of ours."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from origin.accounts.model import ForgedRequest, Session
from origin.accounts.service import session_of
from origin.errors import NotSignedIn

if TYPE_CHECKING:
    from origin.shop import Shop

CSRF_FIELD = "csrf"
_SESSION = "nearshelf-session"
_LOGIN = "nearshelf-login"
_LOGIN_S = 3600
CONSOLE_PATH = "/console"


def client_address(request: Request) -> str:
    """The address that the connection comes from. No field of the request is believed."""
    return request.client.host if request.client is not None else ""


# --- programs ---


async def token_session(shop: Shop, request: Request) -> tuple[str, Session]:
    """The token of a program and its session. Raises NotSignedIn."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    session = await session_of(shop.database, token.strip(), "token") if scheme.lower() == "bearer" else None
    if session is None:
        raise NotSignedIn(
            "not signed in, or the session has ended; sign in and send the token as Authorization: Bearer"
        )
    return token.strip(), session


# --- browsers ---


async def browser_session(shop: Shop, request: Request) -> tuple[str, Session] | None:
    """The token in the session cookie and its session; None when nobody is signed in."""
    token = request.cookies.get(_cookie(request, _SESSION))
    session = await session_of(shop.database, token, "browser") if token else None
    return None if token is None or session is None else (token, session)


def keep_session(request: Request, response: Response, token: str, lifetime_s: int) -> None:
    """Gives the browser its session; no script can read it, no other site can send it."""
    _set(request, response, _SESSION, token, lifetime_s)
    _set(request, response, _LOGIN, "", 0)


def forget_session(request: Request, response: Response) -> None:
    _set(request, response, _SESSION, "", 0)


def login_token(request: Request) -> str:
    """What the login form repeats: before there is a session, the form is bound to a cookie of its own."""
    return request.cookies.get(_cookie(request, _LOGIN)) or secrets.token_urlsafe(32)


def keep_login_token(request: Request, response: Response, token: str) -> None:
    _set(request, response, _LOGIN, token, _LOGIN_S)


def check_login_form(request: Request, form: Mapping[str, Any]) -> None:
    """Raises ForgedRequest unless the login form comes from our own page in this browser."""
    _check_origin(request)
    _check_token(request.cookies.get(_cookie(request, _LOGIN), ""), form)


def check_form(request: Request, session: Session, form: Mapping[str, Any]) -> None:
    """Raises ForgedRequest unless the form comes from one of our own pages in this session."""
    _check_origin(request)
    _check_token(session.csrf, form)


def _check_origin(request: Request) -> None:
    """What browsers say about where a form comes from; programs say nothing and have no cookie of anybody."""
    site = request.headers.get("sec-fetch-site")
    if site is not None and site != "same-origin":
        raise ForgedRequest("it came from another site")
    origin = request.headers.get("origin")
    if origin is None:
        return
    try:
        # The scheme is left out: behind a proxy that ends TLS we see http where the browser says https.
        authority = urlsplit(origin).netloc.lower()
    except ValueError as exc:
        raise ForgedRequest("what it says about where it comes from is no address") from exc
    if authority != request.headers.get("host", "").lower():
        raise ForgedRequest("it came from another site")


def _check_token(expected: str, form: Mapping[str, Any]) -> None:
    given = form.get(CSRF_FIELD)
    if not expected or not isinstance(given, str) or not hmac.compare_digest(expected.encode(), given.encode()):
        raise ForgedRequest("it is out of date")


def _cookie(request: Request, name: str) -> str:
    # __Host- binds a cookie to this very host, but needs https; over http the path keeps it from the edges, which may
    # be other ports of the same host (cookies do not know ports).
    return f"__Host-{name}" if request.url.scheme == "https" else name


def _set(request: Request, response: Response, name: str, value: str, lifetime_s: int) -> None:
    secure = request.url.scheme == "https"
    response.set_cookie(
        _cookie(request, name),
        value,
        max_age=lifetime_s,
        path="/" if secure else CONSOLE_PATH,
        secure=secure,
        httponly=True,
        samesite="strict",
    )
