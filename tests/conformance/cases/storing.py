"""What may be kept, and what of it (RFC 9111 §3, §5.2.2)."""

from __future__ import annotations

from tests.conformance.script import (
    FRESH,
    INFORMATION,
    OPTIONAL,
    REQUIRED,
    Absent,
    Answer,
    At,
    Came,
    Case,
    Framing,
    Here,
    Is,
    Kind,
    Without,
    again,
    ask,
    case,
    cc,
    fill,
    ok,
)

ASKED, STORE = Came.ASKED, Came.STORE


def _not_kept(name: str, anchor: str, says: str, answer: Answer, kind: Kind = REQUIRED) -> Case:
    return case(name, anchor, kind, says, fill(answer), again(ASKED, FRESH))


FORBIDDEN = (
    *(
        _not_kept(f"store-{name}", f"9111 {section}", f"what says {value!r} is not reused unasked", cc(value))
        for name, section, value in (
            ("no-store", "§5.2.2.5", "no-store"),
            ("no-store-capitals", "§5.2.2.5", "NO-STORE"),
            ("no-store-mixed", "§5.2.2.5", "No-Store, max-age=3600"),
            ("no-store-max-age", "§5.2.2.5", "no-store, max-age=3600"),
            ("max-age-no-store", "§5.2.2.5", "max-age=3600, no-store"),
            ("public-no-store", "§5.2.2.5", "public, max-age=3600, no-store"),
            ("private", "§5.2.2.7", "private"),
            ("private-capitals", "§5.2.2.7", "PRIVATE, max-age=3600"),
            ("private-max-age", "§5.2.2.7", "private, max-age=3600"),
            ("max-age-private", "§5.2.2.7", "max-age=3600, private"),
            ("private-s-maxage", "§5.2.2.7", "private, s-maxage=3600"),
            ("public-private", "§5.2.2.7", "public, private, max-age=3600"),
            ("no-cache", "§5.2.2.4", "no-cache"),
            ("no-cache-capitals", "§5.2.2.4", "NO-CACHE, max-age=3600"),
            ("no-cache-max-age", "§5.2.2.4", "no-cache, max-age=3600"),
            ("max-age-no-cache", "§5.2.2.4", "max-age=3600, no-cache"),
            ("no-cache-s-maxage", "§5.2.2.4", "no-cache, s-maxage=3600"),
            ("public-no-cache", "§5.2.2.4", "public, no-cache, max-age=3600"),
        )
    ),
    *(
        _not_kept(
            f"store-{directive}-expires",
            f"9111 {section}",
            f"{directive} counts more than an Expires in the future",
            cc(directive, ("Expires", At(3600))),
        )
        for directive, section in (("no-store", "§5.2.2.5"), ("private", "§5.2.2.7"), ("no-cache", "§5.2.2.4"))
    ),
    *(
        _not_kept(
            f"store-{directive}-second-line",
            f"9111 {section}",
            f"{directive} counts in a second line, too",
            ok(("Cache-Control", "max-age=3600"), ("Cache-Control", directive)),
        )
        for directive, section in (("private", "§5.2.2.7"), ("no-cache", "§5.2.2.4"))
    ),
    case(
        "store-no-cache-validated",
        "9111 §5.2.2.4",
        OPTIONAL,
        "what says no-cache is stored, and validated before each use",
        fill(cc("no-cache", ("ETag", '"a"'))),
        again(Came.VALIDATED, ok().or_304(("Cache-Control", "no-cache"), ("ETag", '"a"'))),
        again(Came.VALIDATED, ok().or_304(("Cache-Control", "no-cache"), ("ETag", '"a"'))),
    ),
    case(
        "store-no-cache-changed",
        "9111 §5.2.2.4",
        REQUIRED,
        "what says no-cache is shown as it is now",
        fill(cc("no-cache, max-age=3600", ("ETag", '"a"'))),
        again(Came.ORIGIN, cc("no-cache", ("ETag", '"b"')), of=2),
    ),
    *(
        case(
            f"store-{directive}-field{name}",
            f"9111 {section}",
            REQUIRED,
            f"a field that {directive} names is not shown to another viewer unasked{what}",
            fill(cc(f'{directive}="{named}", max-age=3600', ("Secret", "one"), ("Open", "1"))),
            again(Came.ANY, cc("no-store", ("Secret", "two")), has={"Secret": Without("one")}),
        )
        for directive, section in (("private", "§5.2.2.7"), ("no-cache", "§5.2.2.4"))
        for name, named, what in (
            ("", "Secret", ""),
            ("-list", "Other, Secret", ", the second of a list"),
            ("-case", "sEcReT", ", in another case"),
        )
    ),
    case(
        "store-understood",
        "9111 §5.2.2.3",
        OPTIONAL,
        "must-understand beside no-store lets a cache that knows 200 keep it",
        fill(cc("must-understand, no-store, max-age=3600")),
        again(STORE),
    ),
    _not_kept(
        "store-not-understood",
        "9111 §5.2.2.3",
        "must-understand with a status that nobody knows is not kept",
        cc("must-understand, max-age=3600", status=299),
    ),
    _not_kept(
        "store-not-understood-5xx",
        "9111 §5.2.2.3",
        "must-understand with an error that nobody knows is not kept",
        cc("must-understand, max-age=3600", status=599),
    ),
    _not_kept(
        "store-not-understood-no-store",
        "9111 §5.2.2.3",
        "must-understand beside no-store with a status that nobody knows is not kept",
        cc("no-store, must-understand, max-age=3600", status=299),
    ),
    _not_kept(
        "store-private-first-no-cache",
        "9111 §5.2.2",
        "every directive counts, not just the first",
        cc("public, must-revalidate, max-age=3600, private"),
    ),
)

COOKIES = (
    case(
        "store-set-cookie",
        "9111 §7.3",
        OPTIONAL,
        "one viewer's Set-Cookie is not shown to another",
        fill(cc("max-age=3600", ("Set-Cookie", "session=one"))),
        again(Came.ANY, cc("no-store"), has={"Set-Cookie": Without("one")}),
    ),
    case(
        "store-set-cookie-404",
        "9111 §7.3",
        OPTIONAL,
        "one viewer's Set-Cookie on a 404 is not shown to another",
        fill(cc("max-age=3600", ("Set-Cookie", "session=one"), status=404)),
        again(Came.ANY, cc("no-store"), has={"Set-Cookie": Without("one")}),
    ),
    case(
        "store-set-cookie-passed",
        "6265 §3",
        REQUIRED,
        "Set-Cookie reaches the viewer who asked, each line by itself",
        again(
            Came.ORIGIN,
            cc("no-store", ("Set-Cookie", "a=1; Expires=Wed, 09 Jun 2100 10:18:14 GMT"), ("Set-Cookie", "b=2")),
            has={"Set-Cookie": Is("a=1; Expires=Wed, 09 Jun 2100 10:18:14 GMT, b=2")},
        ),
    ),
    case(
        "store-cookie-request",
        "9111 §7.3",
        OPTIONAL,
        "a request with a cookie is answered from the store where nothing says that cookies count",
        fill(FRESH),
        again(STORE, fields=(("Cookie", "a=1"),)),
    ),
    case(
        "store-cookie-request-first",
        "9111 §7.3",
        INFORMATION,
        "what a request with a cookie brought is kept, if it says that it may be",
        fill(cc("public, max-age=3600"), fields=(("Cookie", "a=1"),)),
        again(STORE),
    ),
)

METHODS = (
    *(
        case(
            f"store-not-{method.lower()}",
            "9110 §9.2.3",
            REQUIRED,
            f"the answer to {method} is not shown to GET",
            fill(cc("max-age=3600"), method=method, body=b"x" if method in {"POST", "PUT", "PATCH"} else b""),
            again(ASKED, FRESH),
        )
        for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "M-SEARCH", "PROPFIND")
    ),
    case(
        "store-head-not-get",
        "9110 §9.3.2",
        REQUIRED,
        "the answer to HEAD is not shown to GET",
        fill(FRESH, method="HEAD"),
        again(Came.ANY, FRESH, status=200, of=(1, 2)),
    ),
    case(
        "store-post-content-location",
        "9110 §9.3.3",
        OPTIONAL,
        "the answer to POST whose Content-Location is the address may be shown to GET",
        fill(cc("max-age=3600", ("Content-Location", Here())), method="POST", body=b"x"),
        again(STORE),
    ),
    case(
        "store-post-not-from-store",
        "9110 §9.3.3",
        REQUIRED,
        "POST is not answered from what GET stored",
        fill(FRESH),
        again(Came.ORIGIN, cc("no-store"), method="POST", body=b"x", saw_method="POST", saw_body=b"x"),
    ),
    case(
        "store-options-not-from-store",
        "9110 §9.3.7",
        REQUIRED,
        "OPTIONS is not answered from what GET stored",
        fill(FRESH),
        again(Came.ORIGIN, cc("no-store"), method="OPTIONS"),
    ),
    case(
        "store-unknown-method-forwarded",
        "9111 §4",
        REQUIRED,
        "a method that the cache does not know is not answered from the store",
        fill(FRESH),
        again(Came.ORIGIN, cc("no-store"), method="M-SEARCH", saw_method="M-SEARCH"),
    ),
)

KEYS = (
    case(
        "key-query-differs",
        "9111 §4",
        REQUIRED,
        "another query is another resource",
        fill(FRESH, target="?a=1"),
        again(Came.ORIGIN, FRESH, target="?a=2"),
    ),
    case(
        "key-query-missing",
        "9111 §4",
        REQUIRED,
        "no query is another resource than some query",
        fill(FRESH, target="?a=1"),
        again(Came.ORIGIN, FRESH),
    ),
    case(
        "key-query-order",
        "9111 §4",
        REQUIRED,
        "parameters in another order are another resource: only the origin knows whether it counts",
        fill(FRESH, target="?a=1&b=2"),
        again(Came.ORIGIN, FRESH, target="?b=2&a=1"),
    ),
    case(
        "key-query-twice",
        "9111 §4",
        REQUIRED,
        "a parameter that is there twice is another resource than once",
        fill(FRESH, target="?a=1"),
        again(Came.ORIGIN, FRESH, target="?a=1&a=1"),
    ),
    case(
        "key-query-case",
        "9110 §4.2.3",
        REQUIRED,
        "the query is compared with regard to case",
        fill(FRESH, target="?a=x"),
        again(Came.ORIGIN, FRESH, target="?a=X"),
    ),
    case(
        "key-query-semicolon",
        "9111 §4",
        REQUIRED,
        "a semicolon in the query does not hide what follows it",
        fill(FRESH, target="?a=1;b=1"),
        again(Came.ORIGIN, FRESH, target="?a=1;b=2"),
    ),
    case(
        "key-query-encoded",
        "9110 §4.2.3",
        REQUIRED,
        "an encoded ampersand separates nothing",
        fill(FRESH, target="?a=1%26b=2"),
        again(Came.ORIGIN, FRESH, target="?a=1&b=2"),
    ),
    case(
        "key-query-reused",
        "9111 §4",
        OPTIONAL,
        "an address with a query is reused like any other",
        fill(FRESH, target="?a=1&b="),
        again(STORE, target="?a=1&b="),
    ),
    case(
        "key-path-case",
        "9110 §4.2.3",
        REQUIRED,
        "paths are compared with regard to case",
        fill(FRESH, target="/a"),
        again(Came.ORIGIN, FRESH, target="/A"),
    ),
    case(
        "key-slash",
        "9111 §4",
        REQUIRED,
        "a slash at the end is another resource",
        fill(FRESH, target="/a"),
        again(Came.ORIGIN, FRESH, target="/a/"),
    ),
    case(
        "key-encoded-slash",
        "9110 §4.2.3",
        REQUIRED,
        "an encoded slash is no slash: nobody is shown one for the other",
        fill(FRESH, target="/a/b"),
        again(Came.ANY, cc("no-store"), target="/a%2Fb", status=(200, 400), of=(0, 2)),
    ),
    case(
        "key-host",
        "9110 §4.2.3",
        REQUIRED,
        "the same path on another host is another resource",
        fill(FRESH),
        again(Came.ANY, FRESH, host="localhost", status=(200, 421), of=(0, 2)),
    ),
    case(
        "key-host-case",
        "9110 §4.2.3",
        OPTIONAL,
        "hosts are compared without regard to case",
        fill(FRESH, host="localhost"),
        again(STORE, host="LOCALHOST"),
    ),
)

CUTS = (
    case(
        "cut-length-not-kept",
        "9111 §3.3",
        REQUIRED,
        "an answer that was cut short is not kept as a whole one",
        ask(cc("max-age=3600", body=b"x" * 1000).but(cut_after=500), came=Came.FAILED),
        again(ASKED, FRESH),
    ),
    case(
        "cut-chunked-not-kept",
        "9111 §3.3",
        REQUIRED,
        "an answer whose last chunk never came is not kept as a whole one",
        ask(cc("max-age=3600", body=b"x" * 1000).but(cut_after=500, framing=Framing.CHUNKED), came=Came.FAILED),
        again(ASKED, FRESH),
    ),
    case(
        "cut-long-not-whole",
        "9112 §8",
        REQUIRED,
        "a long answer that was cut short is not passed on as a whole one",
        ask(cc("max-age=3600", body=b"x" * 400_000).but(cut_after=300_000), came=Came.FAILED),
        again(ASKED, FRESH),
    ),
    case(
        "cut-long-chunked-not-whole",
        "9112 §8",
        REQUIRED,
        "a long answer whose last chunk never came is not passed on as a whole one",
        ask(cc("max-age=3600", body=b"x" * 400_000).but(cut_after=300_000, framing=Framing.CHUNKED), came=Came.FAILED),
        again(ASKED, FRESH),
    ),
    case(
        "cut-unstored-not-whole",
        "9112 §8",
        REQUIRED,
        "an answer that is not to be stored and was cut short is not passed on as a whole one",
        ask(cc("no-store", body=b"x" * 1000).but(cut_after=500), came=Came.FAILED),
    ),
    case(
        "cut-by-close",
        "9111 §3.3",
        INFORMATION,
        "an answer that ends with the connection is kept",
        fill(FRESH.but(framing=Framing.CLOSE)),
        again(STORE),
    ),
)

FIELDS = (
    *(
        case(
            f"field-{name.lower()}",
            "9111 §3.1",
            REQUIRED,
            f"{name} is stored with the response",
            fill(cc("max-age=3600", (name, value))),
            again(STORE, given=True),
            again(STORE, has={name: value}),
        )
        for name, value in (
            ("Test-Field", "a thing, another; with=parameters"),
            ("X-Frame-Options", "deny"),
            ("Content-Type", "text/x-test; charset=utf-8"),
            ("Content-Language", "de, en"),
            ("Content-Location", "/somewhere"),
            ("Content-Disposition", 'attachment; filename="a b.txt"'),
            ("Strict-Transport-Security", "max-age=31536000"),
            ("Content-Security-Policy", "default-src 'none'; script-src 'self'"),
            ("Access-Control-Allow-Origin", "https://example.com"),
            ("Last-Modified", "Tue, 15 Nov 1994 12:45:26 GMT"),
            ("ETag", '"a, b"'),
            ("Clear-Site-Data", '"cache"'),
            ("Retry-After", "120"),
            ("Warning", '199 - "a warning"'),
        )
    ),
    case(
        "field-coding",
        "9111 §3.1",
        REQUIRED,
        "a coded answer is stored with its coding, byte for byte",
        fill(cc("max-age=3600", ("Content-Encoding", "x-own"), body=bytes(range(256)))),
        again(STORE, given=True),
        again(STORE, has={"Content-Encoding": "x-own"}, shows=bytes(range(256))),
    ),
    case(
        "field-empty-body",
        "9110 §8.6",
        REQUIRED,
        "an empty body is stored as one",
        fill(cc("max-age=3600", body=b"")),
        again(STORE, given=True),
        again(STORE, shows=b"", has={"Content-Length": "0"}),
    ),
    case(
        "field-latin-1",
        "9110 §5.5",
        OPTIONAL,
        "bytes above ASCII in a field are passed on as they are",
        fill(cc("max-age=3600", ("Test-Field", "caf\xe9"))),
        again(STORE, has={"Test-Field": "caf\xe9"}),
    ),
    case(
        "field-empty",
        "9110 §5.5",
        OPTIONAL,
        "a field without a value is passed on",
        fill(cc("max-age=3600", ("Test-Field", ""))),
        again(STORE, has={"Test-Field": ""}),
    ),
    case(
        "field-request-passed",
        "9110 §5.1",
        REQUIRED,
        "a request field that nobody knows is forwarded",
        again(Came.ORIGIN, FRESH, fields=(("Test-Field", "a, b"),), saw={"Test-Field": "a, b"}),
    ),
    case(
        "field-request-order",
        "9110 §5.3",
        REQUIRED,
        "lines of one request field keep their order",
        again(
            Came.ORIGIN,
            FRESH,
            fields=(("Test-Field", "a"), ("Other-Field", "x"), ("Test-Field", "b")),
            saw={"Test-Field": "a, b"},
        ),
    ),
    case(
        "field-cookie-passed",
        "6265 §5.4",
        REQUIRED,
        "a request's Cookie is forwarded",
        again(Came.ORIGIN, FRESH, fields=(("Cookie", "a=1; b=2"),), saw={"Cookie": "a=1; b=2"}),
    ),
    case(
        "field-warning-not-made",
        "9111 §5.5",
        INFORMATION,
        "no Warning is added to what is stale when it is stored",
        fill(cc("max-age=60", ("Age", "120"), ("ETag", '"a"'))),
        again(Came.ANY, FRESH.or_304(("ETag", '"a"')), has={"Warning": Absent()}),
    ),
)

CASES = (*FORBIDDEN, *COOKIES, *METHODS, *KEYS, *CUTS, *FIELDS)
