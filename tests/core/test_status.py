"""Cache-Status as text (RFC 9211)."""

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
            CacheStatus("eu", fwd=FwdReason.URI_MISS, fwd_status=200, stored=True, collapsed=True, detail="not-stored"),
            "eu; fwd=uri-miss; fwd-status=200; stored; collapsed; detail=not-stored",
        ),
        (CacheStatus("eu", fwd=FwdReason.STALE, detail='a "b" \\ \r\n'), 'eu; fwd=stale; detail="a \\"b\\" \\\\ "'),
        (CacheStatus("eu"), "eu"),
    ],
)
def test_the_text_of_a_status(status, text):
    assert status.text() == text
    (member,) = http_sf.parse(text.encode(), tltype="list")
    assert str(member[0]) == status.cache
    assert set(member[1]) <= {"hit", "fwd", "fwd-status", "ttl", "stored", "collapsed", "detail"}
