"""How Cache-Control is read (RFC 9111 §5.2, §1.2.2, RFC 9110 §5.6)."""

from __future__ import annotations

from tests.conformance.script import (
    FRESH,
    INFORMATION,
    OPTIONAL,
    REQUIRED,
    Answer,
    At,
    Came,
    Case,
    Framing,
    Is,
    Kind,
    again,
    case,
    cc,
    fill,
    ok,
)

ASKED, STORE = Came.ASKED, Came.STORE


def _reused(name: str, anchor: str, says: str, answer: Answer, kind: Kind = OPTIONAL) -> Case:
    return case(name, anchor, kind, says, fill(answer), again(STORE))


def _not_reused(name: str, anchor: str, says: str, answer: Answer, kind: Kind = REQUIRED) -> Case:
    return case(name, anchor, kind, says, fill(answer), again(ASKED, FRESH))


CASES = (
    _reused("cc-capitals", "9111 §5.2", "names of directives are read without regard to case", cc("MAX-AGE=3600")),
    _reused("cc-mixed-case", "9111 §5.2", "Max-Age is max-age", cc("Max-Age=3600")),
    _not_reused("cc-s-maxage-capitals", "9111 §5.2", "S-MAXAGE is s-maxage", cc("max-age=3600, S-MAXAGE=0")),
    _reused("cc-quoted", "9111 §5.2", 'max-age="3600" is a number', cc('max-age="3600"')),
    *(
        _not_reused(f"cc-{name}", "9111 §4.2.1", f"{value} is no freshness", cc(value), OPTIONAL)
        for name, value in (
            ("single-quotes", "max-age='3600'"),
            ("float", "max-age=3600.0"),
            ("word", "max-age=abc"),
            ("negative", "max-age=-3600"),
            ("plus", "max-age=+3600"),
            ("no-value", "max-age="),
            ("no-argument", "max-age"),
            ("letter-after", "max-age=3600a"),
            ("blank-before", "max-age =3600"),
            ("blank-after", "max-age= 3600"),
            ("semicolon", "max-age=3600;x"),
            ("hex", "max-age=0xe10"),
        )
    ),
    _not_reused("cc-x-max-age", "9111 §5.2", "x-max-age is not max-age", cc("x-max-age=3600"), REQUIRED),
    _not_reused("cc-max-age-x", "9111 §5.2", "max-agex is not max-age", cc("max-agex=3600"), REQUIRED),
    _reused("cc-leading-zeros", "9111 §1.2.2", "leading zeros do not count", cc("max-age=003600")),
    _not_reused(
        "cc-duplicate",
        "9111 §4.2.1",
        "of two max-age the first counts, or the response is stale",
        cc("max-age=0, max-age=3600"),
        OPTIONAL,
    ),
    case(
        "cc-duplicate-larger-first",
        "9111 §4.2.1",
        INFORMATION,
        "of two max-age the first counts, and it is the larger",
        fill(cc("max-age=3600, max-age=0")),
        again(STORE),
    ),
    _not_reused(
        "cc-duplicate-s-maxage",
        "9111 §4.2.1",
        "of two s-maxage the first counts, or the response is stale",
        cc("s-maxage=0, s-maxage=3600"),
        OPTIONAL,
    ),
    _not_reused(
        "cc-two-lines",
        "9110 §5.3",
        "the second line of Cache-Control counts like the first",
        ok(("Cache-Control", "max-age=3600"), ("Cache-Control", "no-store")),
    ),
    _reused(
        "cc-two-lines-fresh",
        "9110 §5.3",
        "max-age may stand in the second line",
        ok(("Cache-Control", "public"), ("Cache-Control", "max-age=3600")),
    ),
    _reused("cc-unknown", "9111 §5.2.3", "directives that nobody knows are ignored", cc("foo, max-age=3600, bar=1")),
    _reused(
        "cc-unknown-quoted",
        "9111 §5.2.3",
        "what stands in the quoted argument of another directive does not count",
        cc('foo="max-age=0, no-store", max-age=3600'),
    ),
    _reused(
        "cc-unknown-escaped",
        "9110 §5.6.4",
        "a backslash in a quoted argument does not end it",
        cc(r'foo="a\", no-store, b=\"", max-age=3600'),
    ),
    _not_reused(
        "cc-quoted-max-age",
        "9111 §5.2",
        "a max-age inside another's argument is no freshness",
        cc('foo="max-age=3600"'),
    ),
    _reused("cc-empty-members", "9110 §5.6.1", "empty members of the list do not count", cc(", ,max-age=3600,,")),
    _not_reused("cc-tabs", "9110 §5.6.3", "a tab is a blank", cc("max-age=3600\t,\tno-store")),
    _not_reused("cc-no-blanks", "9110 §5.6.1", "members need no blanks between them", cc("max-age=3600,no-store")),
    case(
        "pragma-response",
        "9111 §5.4",
        INFORMATION,
        "Pragma: no-cache in a response does not count beside max-age",
        fill(cc("max-age=3600", ("Pragma", "no-cache"))),
        again(STORE),
    ),
    case(
        "cc-passed-on",
        "9111 §5.2",
        REQUIRED,
        "Cache-Control is passed on, unknown directives included, whether or not the cache understands them",
        again(
            Came.ORIGIN,
            cc('max-age=3600, foo="bar, baz", x-new=1'),
            has={"Cache-Control": Is('max-age=3600, foo="bar, baz", x-new=1')},
        ),
    ),
    case(
        "expires-passed-on",
        "9111 §3.1",
        REQUIRED,
        "Expires is passed on, and stored, as it came",
        fill(ok(("Expires", At(3600)))),
        again(STORE, given=True),
        again(STORE, has={"Expires": At(3600)}),
    ),
    case(
        "fresh-chunked",
        "9112 §7.1",
        OPTIONAL,
        "an answer in chunks is stored like any other",
        fill(FRESH.but(framing=Framing.CHUNKED)),
        again(STORE),
    ),
    case(
        "fresh-two-lines-order",
        "9110 §5.3",
        REQUIRED,
        "lines of one field keep their order",
        fill(cc("max-age=3600", ("Link", "</a>; rel=a"), ("Link", "</b>; rel=b"), ("Link", "</c>; rel=c"))),
        again(STORE, given=True),
        again(STORE, has={"Link": Is("</a>; rel=a, </b>; rel=b, </c>; rel=c")}),
    ),
)
