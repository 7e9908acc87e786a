"""Which statuses are kept that state their freshness (RFC 9111 §3, RFC 9110 §15)."""

from __future__ import annotations

from tests.conformance.script import (
    FRESH,
    INFORMATION,
    OPTIONAL,
    REQUIRED,
    At,
    Came,
    again,
    case,
    cc,
    fill,
    grown_stale,
    ok,
)

STATUSES = (200, 201, 202, 203, 204, 299, 300, 301, 302, 303, 307, 308, 402, 403, 404, 410, 418, 451, 499, 500, 501)
STATUSES_LATER = (502, 503, 504, 599)
ABOUT_THE_REQUEST = (400, 405, 414)
"""They speak of the request rather than of the resource: kept, they let one viewer spoil an address for all."""
_LOCATION = ("Location", "/elsewhere")

CASES = (
    *(
        case(
            f"status-{status}-fresh",
            "9111 §3",
            OPTIONAL,
            f"a {status} that says how long it is fresh is reused",
            fill(cc("max-age=3600", *([_LOCATION] if 300 <= status < 400 else []), status=status)),
            again(Came.STORE, status=status),
        )
        for status in (*STATUSES, *STATUSES_LATER)
    ),
    *(
        case(
            f"status-{status}-fresh",
            "9111 §3",
            INFORMATION,
            f"a {status} that says how long it is fresh is reused",
            fill(cc("max-age=3600", status=status)),
            again(Came.STORE, status=status),
        )
        for status in ABOUT_THE_REQUEST
    ),
    *(
        case(
            f"status-{status}-expires",
            "9111 §3",
            OPTIONAL,
            f"a {status} with an Expires in the future is reused",
            fill(ok(("Expires", At(3600)), status=status)),
            again(Came.STORE, status=status),
        )
        for status in (200, 302, 404, 503, 599)
    ),
    *(
        case(
            f"status-{status}-stale",
            "9111 §4.2",
            REQUIRED,
            f"a {status} is not reused when it is stale",
            *grown_stale(*([_LOCATION] if status < 400 else []), status=status),
            again(Came.ASKED, FRESH),
        )
        for status in (301, 404, 410, 503, 599)
    ),
    *(
        case(
            f"status-{status}-no-store",
            "9111 §5.2.2.5",
            REQUIRED,
            f"a {status} with no-store is not reused",
            fill(cc("no-store, max-age=3600", *([_LOCATION] if status < 400 else []), status=status)),
            again(Came.ASKED, FRESH),
        )
        for status in (301, 404, 503)
    ),
    case(
        "status-unknown-passed",
        "9110 §15",
        REQUIRED,
        "a status that nobody knows is passed on as it is",
        again(Came.ORIGIN, cc("no-store", status=497), status=497),
    ),
    case(
        "status-negative-replaced",
        "9111 §4.2",
        REQUIRED,
        "what exists at last is shown when the 404 has become stale",
        *grown_stale(status=404),
        again(Came.ORIGIN, FRESH, status=200),
    ),
    case(
        "status-redirect-location",
        "9111 §3.1",
        REQUIRED,
        "a stored redirection keeps its Location",
        fill(cc("max-age=3600", ("Location", "/elsewhere?a=1#b"), status=301)),
        again(Came.STORE, given=True),
        again(Came.STORE, has={"Location": "/elsewhere?a=1#b"}),
    ),
    case(
        "status-401-challenge",
        "9110 §11.6.1",
        REQUIRED,
        "the challenge of a 401 is passed on",
        again(
            Came.ORIGIN,
            cc("no-store", ("WWW-Authenticate", 'Basic realm="a, b", Bearer'), status=401),
            has={"WWW-Authenticate": 'Basic realm="a, b", Bearer'},
        ),
    ),
)
