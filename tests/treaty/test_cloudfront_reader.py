"""The reader itself: AWS's tables as its guides have them, apart from anything that was compiled."""

from __future__ import annotations

import pytest

from tests.support.cloudfront_reader.distribution import path_for_patterns, regex_of
from tests.support.cloudfront_reader.keeping import lifetimes
from tests.support.cloudfront_reader.messages import Lifetimes, OriginAnswer


def kept(said: str | None, *, status: int = 200, ttl: tuple[int, int, int] = (0, 0, 100), error: float | None = 0.0):
    headers = () if said is None else (("cache-control", said),)
    policy = dict(zip(("MinTTL", "DefaultTTL", "MaxTTL"), ttl, strict=True))
    return lifetimes(OriginAnswer(status, headers), policy, error, 0.0)


@pytest.mark.parametrize(
    ("said", "ttl", "fresh"),
    [
        pytest.param("max-age=50", (0, 0, 100), 50, id="max-age"),
        pytest.param("max-age=50, s-maxage=20", (0, 0, 100), 20, id="s-maxage first"),
        pytest.param("max-age=500", (0, 0, 100), 100, id="at most MaxTTL"),
        pytest.param("max-age=5", (10, 10, 100), 10, id="at least MinTTL"),
        pytest.param(None, (0, 30, 100), 30, id="silence: DefaultTTL"),
        pytest.param(None, (40, 30, 100), 40, id="silence: MinTTL above DefaultTTL"),
        pytest.param("no-store", (10, 0, 100), 10, id="MinTTL overrides no-store"),
        pytest.param("private", (10, 0, 100), 10, id="MinTTL overrides private"),
    ],
)
def test_how_long_a_success_is_kept(said, ttl, fresh):
    found = kept(said, ttl=ttl)
    assert found is not None
    assert found.fresh_s == fresh


@pytest.mark.parametrize("said", ["no-store", "no-cache", "private", "max-age=60, private"])
def test_what_is_forbidden_is_not_kept(said):
    assert kept(said) is None


def test_silence_about_errors_is_leave_to_show_expired_copies_until_max_ttl():
    assert kept("s-maxage=20") == Lifetimes(20, 0, 80)
    assert kept("s-maxage=20, stale-if-error=0") == Lifetimes(20, 0, 0)
    assert kept("s-maxage=20, stale-while-revalidate=500, stale-if-error=30") == Lifetimes(20, 80, 30)


@pytest.mark.parametrize(
    ("status", "said", "error", "fresh"),
    [
        pytest.param(404, None, None, 10, id="ten seconds unless told otherwise"),
        pytest.param(404, None, 0.0, None, id="told otherwise"),
        pytest.param(404, "s-maxage=30", 0.0, 30, id="as long as the answer says"),
        pytest.param(404, "s-maxage=30", 60.0, 60, id="or the minimum, whichever is longer"),
        pytest.param(404, "no-store", 60.0, None, id="404 obeys no-store"),
        pytest.param(503, "no-store", 60.0, 60, id="503 does not"),
        pytest.param(403, None, None, None, id="403 only if told"),
        pytest.param(403, "max-age=9", None, 9, id="403, told"),
        pytest.param(410, "max-age=9", None, None, id="410 never"),
    ],
)
def test_how_long_an_error_is_kept(status, said, error, fresh):
    found = kept(said, status=status, error=error)
    assert found == (None if fresh is None else Lifetimes(fresh, 0, 0))


@pytest.mark.parametrize(
    ("pattern", "path", "takes"),
    [
        ("/a/*", "/a/b/c", True),
        ("/a/*", "/A/b", False),
        ("/??-???/", "/eu-eur/", True),
        ("/??-???/", "/eu-eur", False),
        ("/a.b/*", "/axb/c", False),
        ("*", "/", True),
    ],
)
def test_path_patterns(pattern, path, takes):
    assert (regex_of(pattern).fullmatch(path) is not None) is takes


@pytest.mark.parametrize(
    ("path", "read"),
    [("/a/b/..", "/a/"), ("/a//b", "/a/b"), ("/%61/%2f", "/a/%2F"), ("/a/./b", "/a/b"), ("/../a", "/a"), ("/", "/")],
)
def test_patterns_are_held_against_the_normalised_path(path, read):
    assert path_for_patterns(path) == read
