"""Variants: which stored response is for which request (RFC 9111 §4.1)."""

from __future__ import annotations

from tests.conformance.script import (
    FRESH,
    INFORMATION,
    OPTIONAL,
    REQUIRED,
    STALE_IN_S,
    Ask,
    At,
    Came,
    Case,
    Field,
    Is,
    Kind,
    Landed,
    Pause,
    again,
    case,
    cc,
    fill,
    grown_stale,
    ok,
)

ASKED, STORE, ORIGIN = Came.ASKED, Came.STORE, Came.ORIGIN

ONE: tuple[Field, ...] = (("Thing", "one"),)
TWO: tuple[Field, ...] = (("Thing", "two"),)
VARIES = cc("max-age=3600", ("Vary", "Thing"))


def _apart(name: str, says: str, vary: tuple[str, ...], first: tuple[Field, ...], second: tuple[Field, ...]) -> Case:
    answer = cc("max-age=3600", *(("Vary", line) for line in vary))
    return case(name, "9111 §4.1", REQUIRED, says, fill(answer, fields=first), again(ORIGIN, answer, fields=second))


def _shared(
    name: str,
    says: str,
    vary: tuple[str, ...],
    first: tuple[Field, ...],
    second: tuple[Field, ...],
    kind: Kind = OPTIONAL,
) -> Case:
    answer = cc("max-age=3600", *(("Vary", line) for line in vary))
    return case(name, "9111 §4.1", kind, says, fill(answer, fields=first), again(STORE, fields=second))


def _star(name: str, *lines: str) -> Case:
    says = f"Vary of {', then '.join(repr(line) for line in lines)} matches no request"
    answer = cc("max-age=3600", *(("Vary", line) for line in lines))
    return case(
        f"vary-star-{name}", "9111 §4.1", REQUIRED, says, fill(answer, fields=ONE), again(ASKED, answer, fields=ONE)
    )


def _get(answers: tuple = (VARIES,), came: Came = ORIGIN, fields: tuple[Field, ...] = (), **others) -> Ask:
    return again(came, *answers, fields=fields, **others)


CASES = (
    _apart("vary-differs", "a field that Vary names and that differs is another variant", ("Thing",), ONE, TWO),
    _apart("vary-missing-then-there", "a missing field matches no field that is there", ("Thing",), (), ONE),
    _apart("vary-there-then-missing", "a field that is there matches no missing one", ("Thing",), ONE, ()),
    _apart("vary-empty-is-not-missing", "an empty field matches no missing one", ("Thing",), (("Thing", ""),), ()),
    _apart("vary-missing-is-not-empty", "a missing field matches no empty one", ("Thing",), (), (("Thing", ""),)),
    _apart("vary-value-case", "values are compared with regard to case", ("Thing",), ONE, (("Thing", "ONE"),)),
    _apart("vary-name-case", "names in Vary are read without regard to case", ("tHiNg",), ONE, TWO),
    _apart(
        "vary-second-name",
        "the second name in Vary counts like the first",
        ("Other, Thing",),
        (("Other", "x"), *ONE),
        (("Other", "x"), *TWO),
    ),
    _apart(
        "vary-second-line",
        "the second line of Vary counts like the first",
        ("Other", "Thing"),
        (("Other", "x"), *ONE),
        (("Other", "x"), *TWO),
    ),
    _apart(
        "vary-third-name",
        "the third name in Vary counts like the first",
        ("A, B, Thing",),
        (("A", "x"), ("B", "y"), *ONE),
        (("A", "x"), ("B", "y"), *TWO),
    ),
    _apart("vary-empty-members", "empty members of Vary hide nothing", (", ,Thing,,",), ONE, TWO),
    _apart("vary-empty-line", "an empty line of Vary hides nothing", ("", "Thing"), ONE, TWO),
    _apart("vary-no-blanks", "names in Vary need no blanks between them", ("Other,Thing",), ONE, TWO),
    _apart("vary-cookie", "Cookie counts where Vary names it", ("Cookie",), (("Cookie", "a=1"),), (("Cookie", "a=2"),)),
    _apart(
        "vary-user-agent",
        "User-Agent counts where Vary names it",
        ("User-Agent",),
        (("User-Agent", "one"),),
        (("User-Agent", "two"),),
    ),
    _apart(
        "vary-accept-encoding",
        "who accepts gzip and who does not are told apart",
        ("Accept-Encoding",),
        (("Accept-Encoding", "gzip"),),
        (),
    ),
    _apart(
        "vary-accept-encoding-refused",
        "who refuses gzip and who accepts it are told apart",
        ("Accept-Encoding",),
        (("Accept-Encoding", "gzip"),),
        (("Accept-Encoding", "gzip;q=0"),),
    ),
    _apart(
        "vary-accept-language",
        "languages are told apart",
        ("Accept-Language",),
        (("Accept-Language", "en"),),
        (("Accept-Language", "de"),),
    ),
    _apart(
        "vary-host-field",
        "a field that Vary names beside Accept-Encoding counts",
        ("Accept-Encoding, Thing",),
        (("Accept-Encoding", "gzip"), *ONE),
        (("Accept-Encoding", "gzip"), *TWO),
    ),
    _apart(
        "vary-more-lines",
        "a second line of the request field makes another variant",
        ("Thing",),
        ONE,
        (*ONE, *TWO),
    ),
    _shared("vary-same", "the same value is the same variant", ("Thing",), ONE, ONE),
    _shared("vary-both-missing", "missing twice is the same variant", ("Thing",), (), ()),
    _shared("vary-another-differs", "fields that Vary does not name do not count", ("Thing",), ONE, (*ONE, ("X", "y"))),
    _shared(
        "vary-three-same",
        "three fields that are the same are the same variant",
        ("A, B", "C"),
        (("A", "1"), ("B", "2"), ("C", "3")),
        (("C", "3"), ("B", "2"), ("A", "1")),
    ),
    _shared(
        "vary-blanks",
        "blanks between the members of a list do not count",
        ("Accept-Language",),
        (("Accept-Language", "en, de"),),
        (("Accept-Language", "en,de"),),
    ),
    _shared(
        "vary-lines-joined",
        "a list in two lines is the same as in one",
        ("Accept-Language",),
        (("Accept-Language", "en, de"),),
        (("Accept-Language", "en"), ("Accept-Language", "de")),
    ),
    _shared(
        "vary-coding-case",
        "names of codings are compared without regard to case",
        ("Accept-Encoding",),
        (("Accept-Encoding", "gzip"),),
        (("Accept-Encoding", "GZIP"),),
    ),
    _shared(
        "vary-coding-order",
        "the order of codings of the same weight does not count",
        ("Accept-Encoding",),
        (("Accept-Encoding", "gzip, br"),),
        (("Accept-Encoding", "br, gzip"),),
        INFORMATION,
    ),
    _shared(
        "vary-language-case",
        "languages are compared without regard to case",
        ("Accept-Language",),
        (("Accept-Language", "en-GB"),),
        (("Accept-Language", "en-gb"),),
        INFORMATION,
    ),
    _shared(
        "vary-language-order",
        "the order of languages of different weights does not count",
        ("Accept-Language",),
        (("Accept-Language", "en;q=0.5, de"),),
        (("Accept-Language", "de, en;q=0.5"),),
        INFORMATION,
    ),
    _star("alone", "*"),
    _star("twice", "*, *"),
    _star("after-empty", ", *"),
    _star("after-name", "foo, *"),
    _star("before-name", "*, foo"),
    _star("after-empty-line", "", "*"),
    _star("second-line", "Thing", "*"),
    _star("no-blank", "Thing,*"),
    case(
        "vary-star-validated",
        "9111 §4.1",
        INFORMATION,
        "what varies on * is stored to be validated",
        fill(cc("max-age=3600", ("Vary", "*"), ("ETag", '"a"'))),
        again(Came.VALIDATED, ok().or_304(("ETag", '"a"'))),
    ),
    case(
        "vary-side-by-side",
        "9111 §4.1",
        OPTIONAL,
        "variants live side by side",
        fill(VARIES, fields=ONE),
        fill(VARIES, fields=TWO),
        again(STORE, fields=ONE, of=1),
        again(STORE, fields=TWO, of=2),
    ),
    case(
        "vary-many",
        "9111 §4.1",
        OPTIONAL,
        "eight variants live side by side",
        *(fill(VARIES, fields=(("Thing", f"{number}"),)) for number in range(8)),
        *(again(STORE, fields=(("Thing", f"{number}"),), of=number + 1) for number in range(8)),
    ),
    case(
        "vary-newest-wins",
        "9111 §4",
        REQUIRED,
        "of two that match, the newest is used",
        fill(cc("max-age=3600", ("Vary", "Thing"), ("Date", At(-600))), fields=ONE),
        fill(FRESH, fields=TWO),
        again(Came.ANY, FRESH, fields=ONE, of=(2, 3)),
    ),
    case(
        "vary-names-change",
        "9111 §4.1",
        REQUIRED,
        "each stored response is judged by its own Vary",
        fill(cc("max-age=3600", ("Vary", "Other"), ("Date", At(-600))), fields=(("Other", "x"), *ONE)),
        fill(VARIES, fields=(("Other", "y"), *TWO)),
        again(ORIGIN, VARIES, fields=(("Other", "z"), *ONE)),
    ),
    case(
        "vary-passed-on",
        "9110 §12.5.5",
        REQUIRED,
        "Vary is passed on as it came",
        fill(cc("max-age=3600", ("Vary", "Thing, Accept-Encoding")), has={"Vary": Is("Thing, Accept-Encoding")}),
        again(STORE, given=True),
        again(STORE, has={"Vary": Is("Thing, Accept-Encoding")}),
    ),
    case(
        "vary-field-reaches-origin",
        "9111 §4.1",
        REQUIRED,
        "the origin sees the field by which variants are told apart",
        again(ORIGIN, VARIES, fields=ONE, saw={"Thing": "one"}),
    ),
    case(
        "vary-stale-variant",
        "9111 §4.2",
        REQUIRED,
        "a stale variant is not reused because another one is fresh",
        fill(cc("max-age=1", ("Vary", "Thing")), fields=ONE),
        fill(VARIES, fields=TWO),
        Pause(STALE_IN_S),
        again(ASKED, VARIES, fields=ONE),
    ),
    case(
        "vary-variant-validated",
        "9111 §4.3.1",
        OPTIONAL,
        "a stale variant is validated with its own ETag",
        fill(cc("max-age=1", ("Vary", "Thing"), ("ETag", '"one"')), fields=ONE),
        *grown_stale(("Vary", "Thing"), ("ETag", '"two"'), fields=TWO),
        again(
            Came.VALIDATED,
            VARIES.or_304(("ETag", '"one"'), ("Vary", "Thing"), ("Cache-Control", "max-age=3600")),
            fields=ONE,
            of=1,
        ),
    ),
    case(
        "vary-miss-not-answered-by-304",
        "9111 §4.3.3",
        REQUIRED,
        "a viewer without preconditions is never sent the 304 that was for the cache",
        fill(cc("max-age=3600", ("Vary", "Thing"), ("ETag", '"one"')), fields=ONE),
        again(Came.ANY, VARIES.or_304(("ETag", '"one"')), fields=TWO, status=200),
    ),
    case(
        "vary-invalidated",
        "9111 §4.4",
        REQUIRED,
        "POST invalidates every variant",
        fill(VARIES, fields=ONE),
        fill(VARIES, fields=TWO),
        again(ORIGIN, cc("no-store"), method="POST", body=b"x", given=True),
        again(ASKED, VARIES, fields=ONE),
        again(ASKED, VARIES, fields=TWO),
    ),
    case(
        "vary-background",
        "5861 §3",
        OPTIONAL,
        "a refresh in the background refreshes the variant that was asked for",
        fill(cc("max-age=1, stale-while-revalidate=600", ("Vary", "Thing")), fields=ONE),
        *grown_stale(("Vary", "Thing"), says=", stale-while-revalidate=600", fields=TWO),
        again(Came.BEHIND, VARIES.but(delay_s=0.6), fields=ONE, of=1),
        Landed(3),
        again(STORE, fields=ONE, of=3),
    ),
)
