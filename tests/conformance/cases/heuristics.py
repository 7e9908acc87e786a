"""Freshness where the origin states none (RFC 9111 §4.2.2), and which statuses it is for."""

from __future__ import annotations

from tests.conformance.script import (
    FRESH,
    INFORMATION,
    OPTIONAL,
    REQUIRED,
    At,
    Came,
    Case,
    Kind,
    again,
    case,
    cc,
    fill,
    ok,
)

YEAR_S = 365 * 86_400
OLD = ("Last-Modified", At(-YEAR_S))

BY_DEFAULT = (200, 203, 300, 301, 308, 404, 410)
"""Statuses that are cacheable by heuristics (RFC 9110 §15.1) and have nothing against it."""
DOUBTFUL = (204, 405, 414, 451, 501)
"""The same, but an attacker may make an origin answer so, or there is nothing to gain."""
NOT_BY_DEFAULT = (201, 202, 299, 302, 303, 307, 400, 401, 403, 406, 409, 418, 429, 499)
ERRORS = (500, 502, 503, 504, 505, 599)


def _reused(status: int, kind: Kind) -> Case:
    return case(
        f"heuristic-{status}",
        "9111 §4.2.2",
        kind,
        f"a {status} that was last changed a year ago is reused without being told so",
        fill(ok(OLD, status=status)),
        again(Came.STORE),
    )


def _not_reused(status: int) -> Case:
    return case(
        f"heuristic-not-{status}",
        "9111 §3",
        REQUIRED,
        f"a {status} is not reused without being told so",
        fill(ok(OLD, status=status)),
        again(Came.ASKED, FRESH),
    )


CASES = (
    *(_reused(status, OPTIONAL) for status in BY_DEFAULT),
    *(_reused(status, INFORMATION) for status in DOUBTFUL),
    *(_not_reused(status) for status in (*NOT_BY_DEFAULT, *ERRORS)),
    case(
        "heuristic-just-changed",
        "9111 §4.2.2",
        OPTIONAL,
        "what was changed a moment ago is not reused without being told so",
        fill(ok(("Last-Modified", At(0)))),
        again(Came.ASKED, FRESH),
    ),
    case(
        "heuristic-future-change",
        "9111 §4.2.2",
        OPTIONAL,
        "a Last-Modified in the future gives no freshness",
        fill(ok(("Last-Modified", At(86_400)))),
        again(Came.ASKED, FRESH),
    ),
    case(
        "heuristic-malformed-change",
        "9111 §4.2.2",
        OPTIONAL,
        "a Last-Modified that is no date gives no freshness",
        fill(ok(("Last-Modified", "long ago"))),
        again(Came.ASKED, FRESH),
    ),
    case(
        "heuristic-age",
        "9111 §4.2.3",
        REQUIRED,
        "Age counts against a lifetime that was guessed: ten minutes' tenth is used up after an hour",
        fill(ok(("Last-Modified", At(-600)), ("Age", "3600"))),
        again(Came.ASKED, FRESH),
    ),
    case(
        "heuristic-not-beside-max-age",
        "9111 §4.2.2",
        REQUIRED,
        "nothing is guessed beside max-age=0",
        fill(cc("max-age=0", OLD)),
        again(Came.ASKED, FRESH),
    ),
    case(
        "heuristic-not-beside-s-maxage",
        "9111 §4.2.2",
        REQUIRED,
        "nothing is guessed beside s-maxage=0",
        fill(cc("s-maxage=0", OLD)),
        again(Came.ASKED, FRESH),
    ),
    case(
        "heuristic-not-beside-expires",
        "9111 §4.2.2",
        REQUIRED,
        "nothing is guessed beside an Expires in the past",
        fill(ok(OLD, ("Expires", At(-10)))),
        again(Came.ASKED, FRESH),
    ),
    case(
        "heuristic-not-beside-bad-expires",
        "9111 §5.3",
        REQUIRED,
        "nothing is guessed beside an Expires that is no date",
        fill(ok(OLD, ("Expires", "0"))),
        again(Came.ASKED, FRESH),
    ),
    case(
        "heuristic-no-cache",
        "9111 §5.2.2.4",
        REQUIRED,
        "nothing is guessed beside no-cache",
        fill(cc("no-cache", OLD)),
        again(Came.ASKED, FRESH),
    ),
    case(
        "heuristic-public-302",
        "9111 §4.2.2",
        INFORMATION,
        "a 302 that says public may be guessed about",
        fill(cc("public", OLD, status=302)),
        again(Came.STORE),
    ),
    case(
        "heuristic-query",
        "9111 §4.2.2",
        INFORMATION,
        "an address with a query may be guessed about",
        fill(ok(OLD), target="?a=1"),
        again(Came.STORE, target="?a=1"),
    ),
    case(
        "heuristic-without-date",
        "9111 §4.2.2",
        INFORMATION,
        "without Date, the time of arrival counts",
        fill(ok(OLD).but(date=False)),
        again(Came.STORE),
    ),
)
