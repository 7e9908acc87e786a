"""Parts of responses (RFC 9110 §14, RFC 9111 §3.3, §3.4)."""

from __future__ import annotations

from tests.conformance.script import (
    INFORMATION,
    OPTIONAL,
    REQUIRED,
    Answer,
    At,
    Between,
    Came,
    Case,
    Field,
    Framing,
    Kind,
    Matching,
    again,
    ask,
    case,
    cc,
    fill,
    grown_stale,
)

ASKED, STORE, ORIGIN, ANY = Came.ASKED, Came.STORE, Came.ORIGIN, Came.ANY
DIGITS = b"0123456789"
A: Field = ("ETag", '"a"')
CHANGED: Field = ("Last-Modified", At(-86_400))
WHOLE = cc("max-age=3600", A, body=DIGITS)


def _part(first: int, last: int, etag: Field = A, whole: bytes = DIGITS) -> Answer:
    """A 206 of `whole`, as an origin would send it; the whole to who does not ask for a part."""
    return Answer(
        206,
        (("Cache-Control", "max-age=3600"), etag, ("Content-Range", f"bytes {first}-{last}/{len(whole)}")),
        whole[first : last + 1],
        unranged=cc("max-age=3600", etag, body=whole),
    )


def _bytes(value: str) -> tuple[Field, ...]:
    return (("Range", f"bytes={value}"),)


def _cut(name: str, value: str, says: str, shows: bytes, content_range: str, stored: Answer = WHOLE) -> Case:
    return case(
        f"range-{name}",
        "9110 §14.2",
        OPTIONAL,
        says,
        fill(stored),
        again(
            STORE,
            fields=_bytes(value),
            status=206,
            shows=shows,
            has={"Content-Range": content_range, "Content-Length": str(len(shows))},
        ),
    )


def _whole(
    name: str, kind: Kind, says: str, fields: tuple[Field, ...], anchor: str = "9110 §14.2", stored: Answer = WHOLE
) -> Case:
    """Asked for so, what is stored is sent whole."""
    return case(
        f"range-{name}",
        anchor,
        kind,
        says,
        fill(stored),
        again(STORE, given=True),
        again(STORE, fields=fields, status=200, shows=DIGITS, has={"Content-Range": None}),
    )


FROM_WHOLE = (
    _cut("first-last", "2-5", "first to last byte", b"2345", "bytes 2-5/10"),
    _cut("first-byte", "0-0", "the first byte alone", b"0", "bytes 0-0/10"),
    _cut("last-byte", "9-9", "the last byte alone", b"9", "bytes 9-9/10"),
    _cut("open", "7-", "from a byte to the end", b"789", "bytes 7-9/10"),
    _cut("open-whole", "0-", "from the first byte to the end is a 206, too", DIGITS, "bytes 0-9/10"),
    _cut("suffix", "-3", "the last three bytes", b"789", "bytes 7-9/10"),
    _cut("suffix-too-long", "-300", "more last bytes than there are is all of them", DIGITS, "bytes 0-9/10"),
    _cut("last-too-large", "8-100", "a last byte beyond the end is the end", b"89", "bytes 8-9/10"),
    _cut("huge-last", "8-99999999999999999999", "a last byte beyond every integer is the end", b"89", "bytes 8-9/10"),
    _cut(
        "of-chunked",
        "2-5",
        "what came in chunks is cut like anything else",
        b"2345",
        "bytes 2-5/10",
        WHOLE.but(framing=Framing.CHUNKED),
    ),
    case(
        "range-unit-case",
        "9110 §14.1",
        INFORMATION,
        "the unit is read without regard to case",
        fill(WHOLE),
        again(STORE, fields=(("Range", "Bytes=2-5"),), status=206, shows=b"2345"),
    ),
    *(
        case(
            f"range-unsatisfiable-{name}",
            "9110 §15.5.17",
            OPTIONAL,
            f"bytes={value} of ten bytes is a 416 that says how long it is",
            fill(WHOLE),
            again(STORE, fields=_bytes(value), status=416, has={"Content-Range": "bytes */10"}),
        )
        for name, value in (("beyond", "10-"), ("far", "100-200"), ("empty-suffix", "-0"))
    ),
    case(
        "range-416-then-whole",
        "9110 §15.5.17",
        REQUIRED,
        "after a 416 the whole is there as before",
        fill(WHOLE),
        again(ANY, WHOLE, fields=_bytes("100-"), status=(200, 416)),
        again(ANY, WHOLE, status=200, shows=DIGITS),
    ),
    case(
        "range-several",
        "9110 §14.6",
        OPTIONAL,
        "several ranges are sent in parts",
        fill(WHOLE),
        again(
            STORE,
            fields=_bytes("0-1, 4-5, -2"),
            status=206,
            has={"Content-Type": Matching("^multipart/byteranges; *boundary="), "Content-Range": None},
            parts=(("bytes 0-1/10", b"01"), ("bytes 4-5/10", b"45"), ("bytes 8-9/10", b"89")),
        ),
    ),
    case(
        "range-several-one-beyond",
        "9110 §14.2",
        OPTIONAL,
        "of several ranges those that cannot be satisfied are left out",
        fill(WHOLE),
        again(STORE, fields=_bytes("2-3, 100-"), status=206, shows=b"23", has={"Content-Range": "bytes 2-3/10"}),
    ),
    case(
        "range-several-type",
        "9110 §14.6",
        REQUIRED,
        "each part has the type of the whole",
        fill(cc("max-age=3600", A, ("Content-Type", "text/x-digits"), body=DIGITS)),
        again(STORE, fields=_bytes("0-1, 4-5"), status=206, given=True),
        again(STORE, fields=_bytes("0-1, 4-5"), status=206, contains=b"text/x-digits"),
    ),
    case(
        "range-many-overlapping",
        "9110 §14.2",
        OPTIONAL,
        "a hundred ranges that overlap do not make the answer grow",
        fill(WHOLE),
        again(
            STORE,
            fields=_bytes(", ".join(["0-"] * 100)),
            status=(200, 206, 416),
            has={"Content-Length": Between(1, 400)},
        ),
    ),
    *(
        _whole(f"ignored-{name}", kind, says, (("Range", value),))
        for name, kind, value, says in (
            ("unit", REQUIRED, "items=0-1", "ranges in another unit do not count"),
            ("backwards", OPTIONAL, "bytes=5-2", "a range whose end is before its beginning does not count"),
            ("word", OPTIONAL, "bytes=abc", "a range that is none does not count"),
            ("no-unit", OPTIONAL, "0-1", "a range without a unit does not count"),
            ("nothing", OPTIONAL, "bytes=", "no range at all does not count"),
            ("half", OPTIONAL, "bytes=-", "a range without numbers does not count"),
            ("plus", OPTIONAL, "bytes=+1-2", "a number with a sign is none"),
            ("one-bad", OPTIONAL, "bytes=0-1, x", "of several ranges, one that is none spoils all"),
        )
    ),
    _whole(
        "if-range-other",
        REQUIRED,
        "If-Range with another ETag gets the whole",
        (*_bytes("2-5"), ("If-Range", '"b"')),
        "9110 §13.1.5",
    ),
    _whole(
        "if-range-weak",
        REQUIRED,
        "If-Range with a weak ETag gets the whole",
        (*_bytes("2-5"), ("If-Range", 'W/"a"')),
        "9110 §13.1.5",
        cc("max-age=3600", ("ETag", 'W/"a"'), body=DIGITS),
    ),
    _whole(
        "if-range-word",
        REQUIRED,
        "If-Range with something else gets the whole",
        (*_bytes("2-5"), ("If-Range", "yesterday")),
        "9110 §13.1.5",
    ),
    _whole(
        "if-range-older",
        REQUIRED,
        "If-Range with an earlier moment gets the whole",
        (*_bytes("2-5"), ("If-Range", At(-90_000))),
        "9110 §13.1.5",
        cc("max-age=3600", CHANGED, body=DIGITS),
    ),
    _whole(
        "if-range-later",
        REQUIRED,
        "If-Range with a later moment gets the whole: it must be the very same",
        (*_bytes("2-5"), ("If-Range", At(-80_000))),
        "9110 §13.1.5",
        cc("max-age=3600", CHANGED, body=DIGITS),
    ),
    _whole(
        "if-range-date-etag-only",
        REQUIRED,
        "If-Range with a moment gets the whole where no moment is known",
        (*_bytes("2-5"), ("If-Range", At(-80_000))),
        "9110 §13.1.5",
    ),
    _whole("if-range-alone", REQUIRED, "If-Range without Range does not count", (("If-Range", '"a"'),), "9110 §13.1.5"),
    case(
        "range-if-range",
        "9110 §13.1.5",
        OPTIONAL,
        "If-Range with the ETag gets the part",
        fill(WHOLE),
        again(STORE, fields=(*_bytes("2-5"), ("If-Range", '"a"')), status=206, shows=b"2345"),
    ),
    case(
        "range-if-range-date",
        "9110 §13.1.5",
        OPTIONAL,
        "If-Range with the very moment gets the part, where that moment is a strong validator",
        fill(cc("max-age=3600", CHANGED, body=DIGITS)),
        again(STORE, fields=(*_bytes("2-5"), ("If-Range", At(-86_400))), status=206, shows=b"2345"),
    ),
    case(
        "range-head",
        "9110 §14.2",
        REQUIRED,
        "Range does not count for HEAD",
        fill(WHOLE),
        again(STORE, method="HEAD", given=True),
        again(STORE, method="HEAD", fields=_bytes("2-5"), status=200, has={"Content-Range": None}),
    ),
    case(
        "range-404",
        "9110 §14.2",
        REQUIRED,
        "Range does not count for a 404",
        fill(cc("max-age=3600", status=404, body=DIGITS)),
        again(STORE, given=True),
        again(STORE, fields=_bytes("2-5"), status=404, shows=DIGITS),
    ),
    case(
        "range-precondition",
        "9110 §13.2.2",
        OPTIONAL,
        "If-None-Match that matches comes before Range",
        fill(WHOLE),
        again(STORE, fields=(*_bytes("2-5"), ("If-None-Match", '"a"')), status=304),
    ),
    case(
        "range-precondition-other",
        "9110 §13.2.2",
        OPTIONAL,
        "If-None-Match that does not match lets Range through",
        fill(WHOLE),
        again(STORE, fields=(*_bytes("2-5"), ("If-None-Match", '"b"')), status=206, shows=b"2345"),
    ),
    case(
        "range-206-fields",
        "9110 §15.3.7",
        REQUIRED,
        "a 206 from the store has Date, Cache-Control, ETag, Expires, Content-Location and Vary of the 200",
        fill(
            cc(
                "max-age=3600",
                A,
                ("Expires", At(1800)),
                ("Vary", "Thing"),
                ("Content-Location", "/x"),
                ("Date", At(-5)),
                body=DIGITS,
            )
        ),
        again(STORE, fields=_bytes("2-5"), status=206, shows=b"2345", given=True),
        again(
            STORE,
            fields=_bytes("2-5"),
            status=206,
            shows=b"2345",
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
        "range-206-age",
        "9111 §5.1",
        REQUIRED,
        "a 206 from the store has its Age",
        fill(cc("max-age=3600", ("Age", "100"), body=DIGITS)),
        again(STORE, fields=_bytes("2-5"), status=206, shows=b"2345", given=True),
        again(STORE, fields=_bytes("2-5"), status=206, shows=b"2345", has={"Age": Between(100, 120)}),
    ),
    case(
        "range-stale",
        "9111 §4.2",
        REQUIRED,
        "no part is cut from what is stale",
        *grown_stale(A, body=DIGITS),
        again(
            ANY,
            cc("max-age=60", ("ETag", '"b"'), body=b"abcdefghij"),
            fields=_bytes("2-5"),
            status=(200, 206),
            has={"ETag": '"b"'},
        ),
    ),
    case(
        "range-validated",
        "9111 §4.3.4",
        OPTIONAL,
        "a part is cut from what has just been validated",
        *grown_stale(A, body=DIGITS),
        again(
            Came.VALIDATED,
            WHOLE.or_304(A, ("Cache-Control", "max-age=3600")),
            fields=_bytes("2-5"),
            status=206,
            shows=b"2345",
        ),
    ),
    case(
        "range-accepted",
        "9110 §14.3",
        INFORMATION,
        "what can be cut says so in Accept-Ranges",
        fill(WHOLE),
        again(STORE, has={"Accept-Ranges": "bytes"}),
    ),
    case(
        "range-empty",
        "9110 §14.2",
        INFORMATION,
        "an empty body has no first byte: 416",
        fill(cc("max-age=3600", A, body=b"")),
        again(STORE, fields=_bytes("0-"), status=416),
    ),
    case(
        "range-vary",
        "9111 §4.1",
        REQUIRED,
        "a part is cut from the right variant",
        fill(cc("max-age=3600", A, ("Vary", "Thing"), body=DIGITS), fields=(("Thing", "one"),)),
        again(
            ORIGIN,
            cc("max-age=3600", ("ETag", '"b"'), ("Vary", "Thing"), body=b"abcdefghij"),
            fields=(*_bytes("2-5"), ("Thing", "two")),
            status=(200, 206),
            has={"ETag": '"b"'},
        ),
    ),
)

FROM_PARTS = (
    case(
        "part-not-whole",
        "9111 §3.3",
        REQUIRED,
        "a 206 is not shown to who asked for the whole",
        ask(_part(0, 4), came=ANY, fields=_bytes("0-4"), status=(200, 206)),
        again(ANY, WHOLE, status=200, shows=DIGITS),
    ),
    case(
        "part-not-other-part",
        "9111 §3.3",
        REQUIRED,
        "a 206 is not shown to who asked for another part",
        ask(_part(0, 4), came=ANY, fields=_bytes("0-4"), status=(200, 206)),
        again(ANY, _part(5, 9), fields=_bytes("5-9"), status=(200, 206), contains=b"56789"),
    ),
    case(
        "part-cold",
        "9110 §14.2",
        OPTIONAL,
        "a part of what is not stored is sent as a part, whatever the origin was asked for",
        ask(WHOLE, came=ANY, fields=_bytes("2-5"), status=206, shows=b"2345", has={"Content-Range": "bytes 2-5/10"}),
    ),
    case(
        "part-cold-kept",
        "9111 §3.3",
        OPTIONAL,
        "where the origin sends the whole for a part, the whole is kept",
        ask(WHOLE, came=ANY, fields=_bytes("2-5"), status=(200, 206)),
        again(STORE, status=200, shows=DIGITS),
    ),
    case(
        "part-200-is-whole",
        "9110 §14.2",
        REQUIRED,
        "the first bytes of what was asked for in part are never taken for the whole",
        ask(_part(0, 4), came=ANY, fields=_bytes("0-4"), status=(200, 206)),
        again(
            ANY, WHOLE, method="HEAD", status=200, has={"Content-Length": Matching("^(10)?$"), "Content-Range": None}
        ),
    ),
    case(
        "part-unasked",
        "9110 §15.3.7",
        REQUIRED,
        "a 206 that nobody asked for is not kept as the whole",
        ask(_part(0, 4).but(unranged=None), came=ANY, status=(200, 206, 502, 503)),
        again(ANY, WHOLE, status=200, shows=DIGITS),
    ),
    case(
        "part-reused",
        "9111 §3.3",
        INFORMATION,
        "a stored part is shown to who asks for the same part",
        ask(_part(0, 4), fields=_bytes("0-4"), status=206),
        again(STORE, fields=_bytes("0-4"), status=206, shows=b"01234"),
    ),
    case(
        "part-cut-smaller",
        "9111 §3.3",
        INFORMATION,
        "a smaller part is cut from a stored part",
        ask(_part(0, 4), fields=_bytes("0-4"), status=206),
        again(STORE, fields=_bytes("1-2"), status=206, shows=b"12"),
    ),
    case(
        "part-joined",
        "9111 §3.4",
        INFORMATION,
        "two stored parts with the same ETag are joined to the whole",
        ask(_part(0, 4), came=ANY, fields=_bytes("0-4"), status=206),
        ask(_part(5, 9), came=ANY, fields=_bytes("5-9"), status=206),
        again(STORE, status=200, shows=DIGITS),
    ),
    case(
        "part-not-joined",
        "9111 §3.4",
        REQUIRED,
        "parts with different ETags are never joined",
        ask(_part(0, 4), came=ANY, fields=_bytes("0-4"), status=(200, 206)),
        ask(
            _part(5, 9, ("ETag", '"b"'), b"abcdefghij"),
            came=ANY,
            fields=_bytes("5-9"),
            status=(200, 206),
        ),
        again(ANY, cc("max-age=3600", ("ETag", '"b"'), body=b"abcdefghij"), status=200),
    ),
    case(
        "part-416-not-kept",
        "9111 §3",
        REQUIRED,
        "a 416 of the origin is not shown to who asked for the whole",
        ask(
            cc("max-age=3600", ("Content-Range", "bytes */10"), status=416).but(unranged=WHOLE),
            came=ANY,
            fields=_bytes("100-"),
            status=(200, 416),
        ),
        again(ANY, WHOLE, status=200, shows=DIGITS),
    ),
    case(
        "part-if-range-then-whole",
        "9110 §13.1.5",
        REQUIRED,
        "a part with If-Range of what is stale never mixes old and new",
        *grown_stale(A, body=DIGITS),
        ask(
            cc("max-age=60", ("ETag", '"b"'), body=b"abcdefghij"),
            came=ANY,
            fields=(*_bytes("2-5"), ("If-Range", '"a"')),
            status=200,
            shows=b"abcdefghij",
        ),
    ),
)

CASES = (*FROM_WHOLE, *FROM_PARTS)
