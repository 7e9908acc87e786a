"""Requests, responses, policies and stored responses for tests, with only what a test is about said."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from cache_policies.markets import Market, Markets, TaxDisplay
from cache_policies.positions import Position
from edge.core.http import Headers, Request, Response
from edge.core.key import CacheKey
from edge.core.policy import CachePolicy, Match
from edge.core.stored import StoredResponse

DATE = "Sat, 21 Nov 2026 12:00:00 GMT"
DATE_S = 1_795_262_400
"""DATE as seconds since the epoch."""

EUROPE = Market("eu-eur", "Europe", "DE", ("DE", "NO"), "EUR", "en-IE", TaxDisplay.INCLUDED, "eu")
AMERICA = Market("us-usd", "United States", "US", ("US",), "USD", "en-US", TaxDisplay.EXCLUDED, "us")
MARKETS = Markets((EUROPE, AMERICA), "us-usd")

KEY = CacheKey("shop.example", "/eu-eur/products/boot", (), "eu-eur")
PATH_TAG = "path:/eu-eur/products/boot"
"""What every response stored under KEY carries besides its own tags."""

PAGE = CachePolicy(
    "page",
    "/{market}/products/{slug}",
    fresh_s=60.0,
    max_fresh_s=600.0,
    stale_while_revalidate_s=30.0,
    stale_if_error_s=1_000.0,
    keep_s=500.0,
    negative_s=((404, 10.0),),
)


def request(method: str = "GET", path: str = KEY.path, query: str = "", **fields: str) -> Request:
    """Fields by keyword: `if_none_match='"a"'`."""
    pairs = [(name.replace("_", "-"), value) for name, value in fields.items()]
    return Request(method, KEY.authority, path, query, Headers(pairs), "192.0.2.7")


def response(status: int = 200, body: bytes = b"body", **fields: str | None) -> Response:
    """A labelled response made at DATE; None takes a field away."""
    known: dict[str, str | None] = {
        "date": DATE,
        "content-type": "text/html",
        "etag": '"a"',
        "catalog_version": "1.5",
        "cache_tag": "p:eu-eur:boot, h:eu-eur",
        **fields,
    }
    return Response(
        status, Headers((name.replace("_", "-"), value) for name, value in known.items() if value is not None), body
    )


def match(policy: CachePolicy = PAGE, **changes: Any) -> Match:
    return Match(replace(policy, **changes), KEY.path, "eu-eur")


def stored(**changes: Any) -> StoredResponse:
    """Stored at 100, fresh until 160, then 30 s servable while refreshed; servable on error until 1160."""
    values: dict[str, Any] = {
        "key": KEY,
        "policy_version": PAGE.version,
        "status": 200,
        "headers": response().headers,
        "body": b"body",
        "vary": (),
        "etag": '"a"',
        "position": Position(1, 5),
        "tags": ("p:eu-eur:boot", "h:eu-eur"),
        "stored_at": 100.0,
        "initial_age_s": 0.0,
        "no_cache": False,
        "fresh_until": 160.0,
        "revalidate_until": 190.0,
        "error_until": 1_160.0,
        "keep_until": 1_660.0,
    }
    return StoredResponse(**{**values, **changes})
