"""What the origin says to a cache that has neither floors nor notices: CloudFront, which knows only Cache-Control."""

from __future__ import annotations

import dataclasses

import pytest
from starlette.requests import Request

from cache_policies.positions import Position
from edge.core.directives import parse_cache_control
from origin.caching import CacheHints, cached

HINTS = CacheHints(300, 600, 86_400, ("p:eu-eur:sku-1",), Position(1, 7))


def directives_of(hints: CacheHints):
    request = Request({"type": "http", "method": "GET", "path": "/", "headers": []})
    response = cached(request, b"body", "text/html", hints)
    return parse_cache_control([response.headers["cache-control"]])


def test_an_expired_price_is_never_served_on_an_error():
    assert directives_of(dataclasses.replace(HINTS, shows_price=True)).stale_if_error_s == 0


def test_what_shows_no_price_may_be():
    assert directives_of(HINTS).stale_if_error_s == 86_400


@pytest.mark.parametrize("shows_price", [True, False])
def test_silence_about_errors_would_be_leave_to_serve_expired_copies(shows_price):
    hints = dataclasses.replace(HINTS, stale_if_error_s=0, shows_price=shows_price)
    assert directives_of(hints).stale_if_error_s == 0


def test_freshness_is_said_to_shared_caches_only():
    said = directives_of(dataclasses.replace(HINTS, shows_price=True))
    assert (said.s_maxage_s, said.max_age_s) == (300, 0)
