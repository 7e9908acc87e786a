"""Preconditions of viewers, and HEAD (RFC 9110 §13, RFC 9111 §4.3.2, §4.3.5)."""

from __future__ import annotations

from tests.conformance.script import (
    ASCTIME,
    FRESH,
    INFORMATION,
    OPTIONAL,
    REQUIRED,
    RFC_850,
    At,
    Between,
    Came,
    Case,
    Field,
    Kind,
    Matching,
    Present,
    again,
    case,
    cc,
    fill,
    grown_stale,
)

ASKED, STORE, ORIGIN, ANY = Came.ASKED, Came.STORE, Came.ORIGIN, Came.ANY

A: Field = ("ETag", '"a"')
B: Field = ("ETag", '"b"')
CHANGED: Field = ("Last-Modified", At(-86_400))
NEW_LIFE: Field = ("Cache-Control", "max-age=3600")


def _precondition(
    name: str,
    kind: Kind,
    says: str,
    fields: tuple[Field, ...],
    status: int,
    *stored: Field,
    anchor: str = "9110 §13.1.2",
) -> Case:
    """A viewer's precondition on a fresh stored response."""
    return case(
        f"precondition-{name}",
        anchor,
        kind,
        says,
        fill(cc("max-age=3600", *stored)),
        again(STORE, given=True),
        again(STORE, fields=fields, status=status),
    )


INM = "If-None-Match"
IMS = "If-Modified-Since"
PRECONDITIONS = (
    _precondition("etag", OPTIONAL, "If-None-Match that matches is answered with 304", ((INM, '"a"'),), 304, A),
    _precondition("etag-other", REQUIRED, "If-None-Match that does not match gets the whole", ((INM, '"b"'),), 200, A),
    _precondition("etag-weak", OPTIONAL, "a weak ETag matches a strong one", ((INM, 'W/"a"'),), 304, A),
    _precondition(
        "etag-weak-stored", OPTIONAL, "a strong ETag matches a weak one", ((INM, '"a"'),), 304, ("ETag", 'W/"a"')
    ),
    _precondition("etag-both-weak", OPTIONAL, "weak matches weak", ((INM, 'W/"a"'),), 304, ("ETag", 'W/"a"')),
    _precondition("etag-list", OPTIONAL, "one of a list matches", ((INM, '"x", W/"y", "a"'),), 304, A),
    _precondition("etag-lines", OPTIONAL, "one of several lines matches", ((INM, '"x"'), (INM, '"a"')), 304, A),
    _precondition("etag-list-other", REQUIRED, "none of a list matches", ((INM, '"x", "y"'),), 200, A),
    _precondition("star", OPTIONAL, "If-None-Match: * matches what is stored", ((INM, "*"),), 304, A),
    _precondition("star-without-etag", OPTIONAL, "If-None-Match: * matches without an ETag", ((INM, "*"),), 304),
    _precondition("etag-comma", OPTIONAL, "a comma belongs to an ETag", ((INM, '"a, b"'),), 304, ("ETag", '"a, b"')),
    _precondition(
        "etag-part", REQUIRED, "a part of an ETag does not match", ((INM, '"b"'),), 200, ("ETag", '"a, "b", c"')
    ),
    _precondition("etag-case", REQUIRED, "ETags are compared with regard to case", ((INM, '"A"'),), 200, A),
    _precondition("etag-unquoted", INFORMATION, "an ETag without quotes does not match", ((INM, "a"),), 200, A),
    _precondition("etag-missing", REQUIRED, "If-None-Match does not match without an ETag", ((INM, '"a"'),), 200),
    _precondition(
        "etag-beats-date",
        REQUIRED,
        "If-None-Match that does not match beats an If-Modified-Since that does",
        ((INM, '"b"'), (IMS, At(0))),
        200,
        A,
        CHANGED,
        anchor="9110 §13.1.3",
    ),
    _precondition(
        "etag-beats-old-date",
        OPTIONAL,
        "If-None-Match that matches beats an If-Modified-Since that does not",
        ((INM, '"a"'), (IMS, At(-172_800))),
        304,
        A,
        CHANGED,
        anchor="9110 §13.1.3",
    ),
    *(
        _precondition(f"date-{name}", kind, says, ((IMS, value),), status, CHANGED, anchor="9110 §13.1.3")
        for name, kind, value, status, says in (
            ("same", OPTIONAL, At(-86_400), 304, "If-Modified-Since of the same moment is answered with 304"),
            ("later", OPTIONAL, At(-80_000), 304, "If-Modified-Since of a later moment is answered with 304"),
            ("earlier", REQUIRED, At(-90_000), 200, "If-Modified-Since of an earlier moment gets the whole"),
            ("word", REQUIRED, "yesterday", 200, "an If-Modified-Since that is no date does not count"),
            ("iso", REQUIRED, At(-10, "%Y-%m-%dT%H:%M:%SZ"), 200, "an If-Modified-Since in ISO 8601 does not count"),
            ("rfc850", OPTIONAL, At(-80_000, RFC_850), 304, "If-Modified-Since in the format of RFC 850 counts"),
            ("asctime", OPTIONAL, At(-80_000, ASCTIME), 304, "If-Modified-Since in the format of asctime counts"),
        )
    ),
    _precondition(
        "date-of-date",
        INFORMATION,
        "without Last-Modified, If-Modified-Since is held against Date",
        ((IMS, At(100)),),
        304,
        anchor="9111 §4.3.2",
    ),
    case(
        "precondition-304-fields",
        "9110 §15.4.5",
        REQUIRED,
        "a 304 from the store has ETag, Date, Cache-Control, Expires, Vary and Content-Location of the 200",
        fill(
            cc(
                "max-age=3600",
                A,
                CHANGED,
                ("Expires", At(1800)),
                ("Vary", "Thing"),
                ("Content-Location", "/x"),
                ("Date", At(-5)),
            )
        ),
        again(STORE, fields=((INM, '"a"'),), status=304, given=True),
        again(
            STORE,
            fields=((INM, '"a"'),),
            status=304,
            has={
                "ETag": '"a"',
                "Date": At(-5),
                "Cache-Control": "max-age=3600",
                "Expires": At(1800),
                "Vary": "Thing",
                "Content-Location": "/x",
            },
        ),
    ),
    case(
        "precondition-304-age",
        "9111 §5.1",
        REQUIRED,
        "a 304 from the store has its Age",
        fill(cc("max-age=3600", A, ("Age", "100"))),
        again(STORE, fields=((INM, '"a"'),), status=304, given=True),
        again(STORE, fields=((INM, '"a"'),), status=304, has={"Age": Between(100, 120)}),
    ),
    case(
        "precondition-after-304",
        "9111 §4.3.2",
        REQUIRED,
        "a 304 from the store leaves what is stored whole",
        fill(cc("max-age=3600", A)),
        again(STORE, fields=((INM, '"a"'),), status=304, given=True),
        again(ANY, FRESH, status=200),
    ),
    case(
        "precondition-validated",
        "9111 §4.3.2",
        OPTIONAL,
        "a viewer's precondition is held against what has just been validated",
        *grown_stale(A),
        again(ANY, FRESH.or_304(A, NEW_LIFE), fields=((INM, '"a"'),), status=304),
    ),
    case(
        "precondition-replaced",
        "9111 §4.3.2",
        REQUIRED,
        "a viewer who holds what has been replaced gets the new whole",
        *grown_stale(A),
        again(ORIGIN, cc("max-age=3600", B), fields=((INM, '"a"'),), status=200, of=2),
    ),
    case(
        "precondition-404",
        "9110 §13.2.1",
        REQUIRED,
        "preconditions do not count against a stored 404",
        fill(cc("max-age=3600", A, status=404)),
        again(STORE, given=True),
        again(STORE, fields=((INM, '"a"'),), status=404),
    ),
    _precondition("match", OPTIONAL, "If-Match that matches gets the whole", (("If-Match", '"a"'),), 200, A),
    _precondition("match-star", OPTIONAL, "If-Match: * gets the whole", (("If-Match", "*"),), 200, A),
    case(
        "precondition-match-other",
        "9110 §13.1.1",
        OPTIONAL,
        "If-Match that does not match is a 412, or the origin's to judge",
        fill(cc("max-age=3600", A)),
        again(ANY, cc("no-store", status=412), fields=(("If-Match", '"b"'),), status=412),
    ),
    case(
        "precondition-match-weak",
        "9110 §13.1.1",
        OPTIONAL,
        "If-Match compares strongly: a weak ETag does not match itself",
        fill(cc("max-age=3600", ("ETag", 'W/"a"'))),
        again(ANY, cc("no-store", status=412), fields=(("If-Match", 'W/"a"'),), status=412),
    ),
    case(
        "precondition-unmodified",
        "9110 §13.1.4",
        OPTIONAL,
        "If-Unmodified-Since of a later moment gets the whole",
        fill(cc("max-age=3600", CHANGED)),
        again(STORE, fields=(("If-Unmodified-Since", At(-80_000)),), status=200),
    ),
    case(
        "precondition-unmodified-earlier",
        "9110 §13.1.4",
        OPTIONAL,
        "If-Unmodified-Since of an earlier moment is a 412, or the origin's to judge",
        fill(cc("max-age=3600", CHANGED)),
        again(ANY, cc("no-store", status=412), fields=(("If-Unmodified-Since", At(-90_000)),), status=412),
    ),
    case(
        "precondition-put-match",
        "9110 §13.1.1",
        REQUIRED,
        "If-Match of a PUT reaches the origin",
        again(
            ORIGIN,
            cc("no-store"),
            method="PUT",
            body=b"x",
            fields=(("If-Match", '"a"'), ("If-Unmodified-Since", At(-5))),
            saw={"If-Match": '"a"', "If-Unmodified-Since": At(-5)},
        ),
    ),
)

HEAD = (
    case(
        "head-from-get",
        "9111 §4.3.5",
        OPTIONAL,
        "HEAD is answered from what GET stored",
        fill(cc("max-age=3600", A)),
        again(STORE, method="HEAD", has={"ETag": '"a"'}, of=1),
    ),
    case(
        "head-length",
        "9110 §8.6",
        REQUIRED,
        "the Content-Length of HEAD is that of GET",
        fill(cc("max-age=3600", body=b"x" * 1234)),
        again(STORE, method="HEAD", given=True),
        again(STORE, method="HEAD", has={"Content-Length": Matching("^(1234)?$")}),
    ),
    case(
        "head-age",
        "9111 §5.1",
        REQUIRED,
        "HEAD from the store has its Age",
        fill(cc("max-age=3600", ("Age", "100"))),
        again(STORE, method="HEAD", given=True),
        again(STORE, method="HEAD", has={"Age": Between(100, 120)}),
    ),
    case(
        "head-stale",
        "9111 §4.2",
        REQUIRED,
        "HEAD is not answered from what is stale",
        *grown_stale(),
        again(ASKED, FRESH, method="HEAD"),
    ),
    case(
        "head-precondition",
        "9110 §13.2.1",
        OPTIONAL,
        "If-None-Match of HEAD is answered with 304",
        fill(cc("max-age=3600", A)),
        again(STORE, method="HEAD", fields=((INM, '"a"'),), status=304),
    ),
    case(
        "head-keeps-body",
        "9111 §4.3.5",
        REQUIRED,
        "HEAD never replaces a stored body",
        *grown_stale(A),
        again(ANY, cc("max-age=3600", A), method="HEAD", status=200),
        again(ANY, FRESH, status=200),
    ),
    case(
        "head-cold-then-get",
        "9111 §4.3.5",
        REQUIRED,
        "GET after HEAD gets a whole body",
        again(ORIGIN, cc("max-age=3600", A), method="HEAD"),
        again(ANY, FRESH, status=200, has={"Origin-Answer": Present()}),
    ),
    case(
        "head-changed",
        "9111 §4.3.5",
        OPTIONAL,
        "HEAD that finds another ETag makes the stored response stale",
        fill(cc("max-age=3600", A)),
        again(ORIGIN, cc("max-age=3600", B), method="HEAD", fields=(("Cache-Control", "no-cache"),)),
        again(ANY, cc("max-age=3600", B), of=(2, 3)),
    ),
    case(
        "head-404",
        "9111 §4.3.5",
        INFORMATION,
        "HEAD that finds a 404 leaves nothing stored",
        fill(cc("max-age=3600", A)),
        again(ORIGIN, cc("no-store", status=404), method="HEAD", fields=(("Cache-Control", "no-cache"),)),
        again(ASKED, FRESH),
    ),
)
