"""When what is stale may be shown, and when it must not be (RFC 9111 §4.2.4, RFC 5861)."""

from __future__ import annotations

from tests.conformance.script import (
    FRESH,
    INFORMATION,
    OPTIONAL,
    REFUSE,
    REQUIRED,
    RESET,
    STALE_IN_S,
    Absent,
    Answer,
    Between,
    Came,
    Case,
    Field,
    Kind,
    Landed,
    Pause,
    Present,
    Together,
    again,
    ask,
    case,
    cc,
    fill,
    grown_stale,
    ok,
)

ASKED, STORE, ORIGIN, BEHIND, FALLBACK, FAILED = (
    Came.ASKED,
    Came.STORE,
    Came.ORIGIN,
    Came.BEHIND,
    Came.FALLBACK,
    Came.FAILED,
)

TOO_LONG_S = 9.0
"""Longer than any of the caches waits for an origin, as they are set up here."""
SLOW = FRESH.but(delay_s=0.6)
ETAG: Field = ("ETag", '"a"')
SWR = cc("max-age=1, stale-while-revalidate=60")
SIE = cc("max-age=1, stale-if-error=60")

WHILE_REVALIDATE = (
    case(
        "swr-shown",
        "5861 §3",
        OPTIONAL,
        "within stale-while-revalidate the stale response is shown at once",
        fill(SWR),
        Pause(STALE_IN_S),
        again(BEHIND, SLOW, of=1),
    ),
    case(
        "swr-refreshed",
        "5861 §3",
        OPTIONAL,
        "behind the viewer the response is refreshed",
        fill(SWR),
        Pause(STALE_IN_S),
        again(BEHIND, SLOW, of=1),
        Landed(2),
        again(STORE, of=2),
    ),
    case(
        "swr-validated",
        "5861 §3",
        OPTIONAL,
        "behind the viewer the response is validated, and then fresh",
        fill(cc("max-age=1, stale-while-revalidate=60", ETAG)),
        Pause(STALE_IN_S),
        again(BEHIND, SLOW.or_304(ETAG, ("Cache-Control", "max-age=3600")), of=1),
        Landed(2),
        again(STORE, of=1),
    ),
    case(
        "swr-not-before",
        "5861 §3",
        OPTIONAL,
        "before it is stale nothing is refreshed",
        fill(cc("max-age=3600, stale-while-revalidate=60")),
        again(STORE),
        Pause(0.2),
        again(STORE),
    ),
    case(
        "swr-ends",
        "5861 §3",
        REQUIRED,
        "after stale-while-revalidate the origin is waited for",
        fill(cc("max-age=1, stale-while-revalidate=1")),
        Pause(3.2),
        again(ASKED, FRESH),
    ),
    case(
        "swr-ends-by-age",
        "5861 §3",
        REQUIRED,
        "the Age that a response came with counts against stale-while-revalidate",
        fill(cc("max-age=60, stale-while-revalidate=60", ("Age", "130"))),
        again(ASKED, FRESH),
    ),
    case(
        "swr-begins-by-age",
        "5861 §3",
        OPTIONAL,
        "what came with an Age beyond max-age is shown within stale-while-revalidate",
        fill(cc("max-age=60, stale-while-revalidate=600", ("Age", "130"))),
        again(BEHIND, SLOW, of=1),
    ),
    case(
        "swr-0",
        "5861 §3",
        REQUIRED,
        "stale-while-revalidate=0 allows nothing",
        fill(cc("max-age=1, stale-while-revalidate=0")),
        Pause(STALE_IN_S),
        again(ASKED, FRESH),
    ),
    *(
        case(
            f"swr-{name}",
            f"9111 {section}",
            REQUIRED,
            f"{directive} forbids what stale-while-revalidate allows",
            fill(cc(f"max-age=1, {directive}, stale-while-revalidate=60")),
            Pause(STALE_IN_S),
            again(ASKED, FRESH),
        )
        for name, directive, section in (
            ("must-revalidate", "must-revalidate", "§5.2.2.2"),
            ("proxy-revalidate", "proxy-revalidate", "§5.2.2.8"),
            ("s-maxage", "s-maxage=1", "§5.2.2.10"),
            ("no-cache", "no-cache", "§5.2.2.4"),
        )
    ),
    case(
        "swr-one-refresh",
        "5861 §3",
        OPTIONAL,
        "ten viewers cause one refresh",
        fill(SWR),
        Pause(STALE_IN_S),
        Together(tuple(again(Came.ANY, *([SLOW] if not n else []), of=1) for n in range(10)), alike=True),
        Landed(2),
        again(STORE, asked=0),
    ),
    case(
        "swr-outlives-viewer",
        "5861 §3",
        OPTIONAL,
        "the refresh goes on when the viewer who caused it has gone",
        fill(SWR),
        Pause(STALE_IN_S),
        Together((ask(SLOW, came=Came.ANY, hangs_up_after_s=0.3),)),
        Landed(2),
        again(STORE, of=2),
    ),
    case(
        "swr-failing",
        "5861 §3",
        OPTIONAL,
        "a refresh that fails replaces nothing: the stale response is shown again",
        fill(SWR),
        Pause(STALE_IN_S),
        again(BEHIND, ok(status=500).but(delay_s=0.6), of=1),
        Landed(2),
        again(BEHIND, SLOW, of=1),
    ),
    case(
        "swr-failing-extends-nothing",
        "5861 §3",
        REQUIRED,
        "a refresh that fails does not lengthen stale-while-revalidate",
        fill(cc("max-age=1, stale-while-revalidate=2")),
        Pause(STALE_IN_S),
        again(Came.ANY, ok(status=500).but(delay_s=0.2)),
        Pause(2.1),
        again(ASKED, FRESH),
    ),
    case(
        "swr-gone",
        "5861 §3",
        OPTIONAL,
        "a refresh that finds a 404 shows it from then on",
        fill(SWR),
        Pause(STALE_IN_S),
        again(BEHIND, cc("max-age=3600", status=404).but(delay_s=0.6), of=1),
        Landed(2),
        again(STORE, status=404),
    ),
    case(
        "swr-forbidden-since",
        "5861 §3",
        OPTIONAL,
        "a refresh that finds no-store leaves nothing to be shown",
        fill(SWR),
        Pause(STALE_IN_S),
        again(Came.ANY, cc("no-store").but(delay_s=0.2)),
        Landed(2),
        Pause(0.2),
        again(ASKED, cc("no-store")),
    ),
    case(
        "swr-age",
        "9111 §5.1",
        REQUIRED,
        "what is shown stale has its Age",
        *grown_stale(says=", stale-while-revalidate=60"),
        again(BEHIND, SLOW, given=True),
        again(Came.ANY, has={"Age": Present()}),
    ),
)


def _fails(name: str, says: str, kind: Kind, came: Came, stored: Answer, failure: Answer, **others) -> Case:
    """What is stored, and has become stale, when the origin fails."""
    return case(
        f"stale-{name}",
        others.pop("anchor", "5861 §4"),
        kind,
        says,
        fill(stored),
        Pause(STALE_IN_S),
        again(came, failure, **others),
    )


IF_ERROR = (
    *(
        _fails(
            f"if-error-{status}",
            f"within stale-if-error a {status} is answered with what is stored",
            OPTIONAL,
            FALLBACK,
            SIE,
            ok(status=status),
            status=200,
            of=1,
        )
        for status in (500, 502, 503, 504)
    ),
    _fails(
        "if-error-reset",
        "within stale-if-error a reset is answered with what is stored",
        OPTIONAL,
        FALLBACK,
        SIE,
        RESET,
    ),
    _fails(
        "if-error-refused",
        "within stale-if-error a refused connection is answered with what is stored",
        OPTIONAL,
        Came.ANY,
        SIE,
        REFUSE,
        of=1,
    ),
    _fails(
        "if-error-cut",
        "within stale-if-error an answer that was cut is answered with what is stored",
        INFORMATION,
        FALLBACK,
        SIE,
        cc("max-age=60", body=b"x" * 1000).but(cut_after=10),
        of=1,
    ),
    _fails(
        "if-error-timeout",
        "within stale-if-error an origin that does not answer is answered with what is stored",
        OPTIONAL,
        FALLBACK,
        SIE,
        FRESH.but(delay_s=TOO_LONG_S),
        of=1,
    ),
    _fails(
        "if-error-must-revalidate-timeout",
        "must-revalidate forbids what stale-if-error allows, for an origin that does not answer",
        REQUIRED,
        FAILED,
        cc("max-age=1, must-revalidate, stale-if-error=60"),
        FRESH.but(delay_s=TOO_LONG_S),
        anchor="9111 §5.2.2.2",
    ),
    *(
        _fails(
            f"if-error-not-{status}",
            f"stale-if-error is not for a {status}",
            REQUIRED,
            ORIGIN,
            SIE,
            cc("no-store", status=status),
            status=status,
        )
        for status in (400, 401, 403, 404, 410, 429)
    ),
    _fails(
        "if-error-recovers",
        "when the origin is back, its answer is shown",
        REQUIRED,
        ORIGIN,
        SIE,
        FRESH,
        of=2,
    ),
    case(
        "stale-if-error-ends",
        "5861 §4",
        REQUIRED,
        "after stale-if-error the error is shown",
        fill(cc("max-age=1, stale-if-error=1")),
        Pause(3.2),
        again(ORIGIN, cc("no-store", status=503), status=503),
    ),
    case(
        "stale-if-error-ends-by-age",
        "5861 §4",
        OPTIONAL,
        "the Age that a response came with counts against stale-if-error",
        fill(cc("max-age=60, stale-if-error=60", ("Age", "130"))),
        again(ORIGIN, cc("no-store", status=503), status=503),
    ),
    case(
        "stale-if-error-age",
        "9111 §5.1",
        REQUIRED,
        "what is shown in place of an error has its Age",
        fill(cc("max-age=1, stale-if-error=60")),
        Pause(STALE_IN_S),
        again(FALLBACK, ok(status=503), given=True),
        again(Came.ANY, ok(status=503), has={"Age": Between(2, 30)}),
    ),
    *(
        _fails(
            f"if-error-{name}-503",
            f"{directive} forbids what stale-if-error allows, for a 503",
            REQUIRED,
            ORIGIN,
            cc(f"max-age=1, {directive}, stale-if-error=60"),
            cc("no-store", status=503),
            status=(502, 503, 504),
            anchor=f"9111 {section}",
        )
        for name, directive, section in (
            ("must-revalidate", "must-revalidate", "§5.2.2.2"),
            ("proxy-revalidate", "proxy-revalidate", "§5.2.2.8"),
            ("s-maxage", "s-maxage=1", "§5.2.2.10"),
        )
    ),
    *(
        _fails(
            f"if-error-{name}-reset",
            f"{directive} forbids what stale-if-error allows, for a reset",
            REQUIRED,
            FAILED,
            cc(f"max-age=1, {directive}, stale-if-error=60"),
            RESET,
            anchor=f"9111 {section}",
        )
        for name, directive, section in (
            ("must-revalidate", "must-revalidate", "§5.2.2.2"),
            ("proxy-revalidate", "proxy-revalidate", "§5.2.2.8"),
            ("s-maxage", "s-maxage=1", "§5.2.2.10"),
            ("no-cache", "no-cache", "§5.2.2.4"),
        )
    ),
)

UNASKED = (
    _fails(
        "reset",
        "what allows nothing and forbids nothing is shown when the origin's connection breaks",
        OPTIONAL,
        FALLBACK,
        cc("max-age=1"),
        RESET,
        anchor="9111 §4.2.4",
    ),
    _fails(
        "refused",
        "what allows nothing and forbids nothing is shown when the origin cannot be reached",
        OPTIONAL,
        Came.ANY,
        cc("max-age=1"),
        REFUSE,
        of=1,
        anchor="9111 §4.2.4",
    ),
    _fails(
        "503",
        "what allows nothing is not shown in place of a 503",
        INFORMATION,
        ORIGIN,
        cc("max-age=1"),
        cc("no-store", status=503),
        status=503,
        anchor="9111 §4.3.3",
    ),
    *(
        _fails(
            f"{name}-{how}",
            f"{directive}: nothing stale is shown when the connection {what}",
            REQUIRED,
            FAILED,
            cc(f"max-age=1, {directive}"),
            failure,
            anchor=f"9111 {section}",
        )
        for name, directive, section in (
            ("must-revalidate", "must-revalidate", "§5.2.2.2"),
            ("proxy-revalidate", "proxy-revalidate", "§5.2.2.8"),
            ("s-maxage", "s-maxage=1", "§5.2.2.10"),
            ("no-cache", "no-cache", "§5.2.2.4"),
        )
        for how, failure, what in (("reset", RESET, "breaks"), ("refused", REFUSE, "is refused"))
    ),
    _fails(
        "must-revalidate-504",
        "must-revalidate: the error is 504 when the origin cannot be reached",
        OPTIONAL,
        FAILED,
        cc("max-age=1, must-revalidate"),
        REFUSE,
        status=504,
        anchor="9111 §5.2.2.2",
    ),
    case(
        "stale-no-grace",
        "9111 §4.2.4",
        REQUIRED,
        "nobody is shown what is stale because the origin takes long",
        fill(cc("max-age=1")),
        Pause(STALE_IN_S),
        again(ASKED, SLOW),
    ),
    case(
        "stale-no-grace-for-crowds",
        "9111 §4.2.4",
        REQUIRED,
        "nobody is shown what is stale because somebody else is already asking",
        fill(cc("max-age=1")),
        Pause(STALE_IN_S),
        Together(tuple(again(Came.ANY, *([SLOW] if not n else []), of=(2, 3, 4, 5, 6)) for n in range(5))),
    ),
    case(
        "stale-cold-reset",
        "9110 §15.6.3",
        REQUIRED,
        "where nothing is stored, a broken connection is an error",
        again(FAILED, RESET),
    ),
    case(
        "stale-cold-refused",
        "9110 §15.6.3",
        REQUIRED,
        "where nothing is stored, a refused connection is an error",
        again(FAILED, REFUSE),
    ),
    case(
        "stale-error-not-kept",
        "9111 §3",
        REQUIRED,
        "an error that the cache has made itself is not kept",
        again(FAILED, RESET),
        again(ORIGIN, FRESH, status=200),
    ),
    case(
        "stale-post-not-repeated",
        "9110 §9.2.2",
        REQUIRED,
        "POST is not repeated when the connection breaks after it was sent",
        again(FAILED, RESET, method="POST", body=b"x", asked=(1, 1)),
    ),
    case(
        "stale-no-warning",
        "9111 §5.5",
        INFORMATION,
        "no Warning is added to what is shown stale",
        fill(SIE),
        Pause(STALE_IN_S),
        again(FALLBACK, ok(status=503), has={"Warning": Absent()}),
    ),
)

CASES = (*WHILE_REVALIDATE, *IF_ERROR, *UNASKED)
