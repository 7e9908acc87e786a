"""Who may use an admin listener, and how often.

The token comes as `Authorization: Bearer TOKEN`, or, for browsers, as the password of Basic with any name: what a
browser knows of it stays with this listener's host and port, which a cookie's would not. Because a browser sends it
along unasked, what changes something counts only when it was sent from a page of this listener.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import logging
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from edge.core.policy import Throttle
from edge.core.throttle import Throttles, retry_after_s

logger = logging.getLogger("nearshelf.audit")

WRONG_TOKENS = Throttle(rate_per_s=30 / 60, burst=30)
"""Of one address: beyond it wrong tokens are not compared any more."""
ORDERS = Throttle(rate_per_s=20, burst=100)
"""Purges of one address."""
REALM = "nearshelf edge"


class Guard:
    """Of one admin listener. `clock`: seconds, never stepping."""

    def __init__(self, token: str, clock: Callable[[], float]) -> None:
        self._token = token.encode()
        self._clock = clock
        self._throttles = Throttles(10_000)
        self.refused = 0
        """Requests with a wrong token, or with none, since it was made."""

    def refusal(self, request: Request) -> Response | None:
        """The answer to a request that may not be served; None: it may.

        The right token always passes. It is too long to be guessed; were others' wrong ones held against it, any
        forgotten script on the same machine could keep an operator from purging.
        """
        given, by_browser = _given(request)
        if given is not None and hmac.compare_digest(given, self._token):
            if by_browser and request.method not in {"GET", "HEAD"} and not _from_here(request):
                return said(403, "sent from a page of another site; use this listener's own page, or Bearer")
            return None
        self.refused += 1
        if given is not None:
            wait_s = self._throttles.wait_s(("token", address_of(request)), WRONG_TOKENS, self._clock())
            if wait_s:
                return said(429, "too many wrong tokens", {"retry-after": str(retry_after_s(wait_s))})
            logger.warning("a wrong admin token from %s for %s", address_of(request), ascii(request.url.path)[1:-1])
        return said(
            401,
            "this page wants the admin token: Authorization: Bearer TOKEN; a browser: as password, with any name",
            {"www-authenticate": f'Basic realm="{REALM}", charset="UTF-8", Bearer realm="{REALM}"'},
        )

    def too_often(self, request: Request) -> Response | None:
        """The answer to an order that comes too soon after others of the same address; None: it is counted."""
        wait_s = self._throttles.wait_s(("order", address_of(request)), ORDERS, self._clock())
        if not wait_s:
            return None
        return said(429, "too many purges; one purge may name 1,000 tags", {"retry-after": str(retry_after_s(wait_s))})


def said(status: int, text: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """An error as JSON."""
    return JSONResponse({"error": text}, status, {"cache-control": "no-store", **(headers or {})})


def address_of(request: Request) -> str:
    """Whoever sent it; a socket in the file system has no addresses."""
    return "local" if request.client is None else request.client.host


def _given(request: Request) -> tuple[bytes | None, bool]:
    """The token that came with a request, and whether a browser may have added it unasked."""
    scheme, _, rest = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return rest.strip().encode(), False
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(rest.strip(), validate=True).partition(b":")[2], True
        except (binascii.Error, ValueError):
            return b"", True
    return None, False


def _from_here(request: Request) -> bool:
    """Whether a browser sent it from a page of this listener; one that does not say so did not."""
    if site := request.headers.get("sec-fetch-site"):
        return site == "same-origin"
    return request.headers.get("origin") == f"{request.url.scheme}://{request.headers.get('host', '')}"
