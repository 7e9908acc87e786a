"""Cache-Status as text (RFC 9211)."""

from typing import Any

import http_sf
import pytest

from edge.core.reuse import FwdReason
from edge.core.status import CacheStatus


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (CacheStatus("nearshelf-eu", hit=True, ttl=212), "nearshelf-eu; hit; ttl=212"),
        (CacheStatus("eu", hit=True, ttl=-30, detail="stale-if-error"), "eu; hit; ttl=-30; detail=stale-if-error"),
        (
            CacheStatus("eu", fwd=FwdReason.URI_MISS, fwd_status=200, stored=True, collapsed=True, detail="cold"),
            "eu; fwd=uri-miss; fwd-status=200; stored; collapsed; detail=cold",
        ),
        (CacheStatus("eu", fwd=FwdReason.STALE, detail='a "b" \\ \r\n'), 'eu; fwd=stale; detail="a \\"b\\" \\\\ "'),
        (CacheStatus("eu"), "eu"),
    ],
)
def test_the_text_of_a_status(status, text):
    assert status.text() == text
    members: Any = http_sf.parse(text.encode(), tltype="list")
    ((cache, parameters),) = members
    assert str(cache) == status.cache
    assert set(parameters) <= {"hit", "fwd", "fwd-status", "ttl", "stored", "collapsed", "detail"}
