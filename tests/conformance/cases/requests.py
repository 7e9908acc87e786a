"""Requests: their directives, credentials, and what becomes of them on the way (RFC 9111 §3.5, §5.2.1, RFC 9110)."""

from __future__ import annotations

from tests.conformance.script import (
    FRESH,
    INFORMATION,
    OPTIONAL,
    REQUIRED,
    At,
    Came,
    Case,
    Field,
    Kind,
    Matching,
    Without,
    again,
    case,
    cc,
    fill,
    grown_stale,
    ok,
)

ASKED, STORE, ORIGIN, ITSELF, ANY = Came.ASKED, Came.STORE, Came.ORIGIN, Came.ITSELF, Came.ANY
A: Field = ("ETag", '"a"')


def _says(value: str) -> tuple[Field, ...]:
    return (("Cache-Control", value),)


def _directive(
    name: str, section: str, says: str, stored: tuple[Field, ...], value: str, came: Came, kind: Kind = OPTIONAL
) -> Case:
    """A request with `value` meets what was stored with `stored`."""
    return case(
        f"request-{name}", f"9111 {section}", kind, says, fill(ok(*stored)), again(came, FRESH, fields=_says(value))
    )


AGED: tuple[Field, ...] = (("Cache-Control", "max-age=3600"), ("Age", "1000"))

DIRECTIVES = (
    _directive("no-cache", "§5.2.1.4", "no-cache: the origin is asked", AGED, "no-cache", ASKED),
    _directive("no-cache-capitals", "§5.2.1.4", "NO-CACHE: the origin is asked", AGED, "NO-CACHE", ASKED),
    _directive("no-cache-second", "§5.2.1.4", "no-cache counts beside others", AGED, "max-age=99999, no-cache", ASKED),
    _directive("max-age-0", "§5.2.1.1", "max-age=0: the origin is asked", AGED, "max-age=0", ASKED),
    _directive("max-age", "§5.2.1.1", "max-age: what is older is not shown", AGED, "max-age=900", ASKED),
    _directive("max-age-older", "§5.2.1.1", "max-age: what is younger is shown", AGED, "max-age=1100", STORE),
    _directive(
        "min-fresh", "§5.2.1.3", "min-fresh: what is not fresh for so long is not shown", AGED, "min-fresh=3000", ASKED
    ),
    _directive(
        "min-fresh-enough", "§5.2.1.3", "min-fresh: what is fresh for longer is shown", AGED, "min-fresh=2000", STORE
    ),
    *(
        case(
            f"request-{name}",
            "9111 §5.2.1.2",
            kind,
            says,
            *grown_stale(),
            again(came, FRESH, fields=_says(value)),
        )
        for name, value, came, kind, says in (
            ("max-stale", "max-stale", STORE, OPTIONAL, "max-stale without a number: what is stale is shown"),
            ("max-stale-enough", "max-stale=100", STORE, OPTIONAL, "max-stale: what is less stale is shown"),
            ("max-stale-exceeded", "max-stale=0", ASKED, REQUIRED, "max-stale: what is staler is not shown"),
            ("max-stale-bad", "max-stale=abc", ASKED, OPTIONAL, "a max-stale that is no number allows nothing"),
        )
    ),
    *(
        case(
            f"request-max-stale-{name}",
            f"9111 {section}",
            REQUIRED,
            f"{directive} forbids what max-stale asks for",
            *grown_stale(says=f", {directive}"),
            again(ASKED, FRESH, fields=_says("max-stale=1000")),
        )
        for name, directive, section in (
            ("must-revalidate", "must-revalidate", "§5.2.2.2"),
            ("proxy-revalidate", "proxy-revalidate", "§5.2.2.8"),
            ("s-maxage", "s-maxage=1", "§5.2.2.10"),
            ("no-cache", "no-cache", "§5.2.2.4"),
        )
    ),
    case(
        "request-max-stale-max-age",
        "9111 §5.2.1",
        INFORMATION,
        "max-age and max-stale together",
        *grown_stale(),
        again(STORE, fields=_says("max-age=1, max-stale=100")),
    ),
    _directive("unknown", "§5.2.3", "a directive that nobody knows is ignored", AGED, 'foo="no-cache", bar', STORE),
    _directive("bad-max-age", "§5.2.1.1", "a max-age that is no number", AGED, "max-age=abc", STORE, INFORMATION),
    case(
        "request-no-store",
        "9111 §5.2.1.5",
        OPTIONAL,
        "no-store: what was brought for it is not kept",
        again(ORIGIN, FRESH, fields=_says("no-store"), given=True),
        again(ASKED, FRESH),
    ),
    case(
        "request-no-store-kept",
        "9111 §5.2.1.5",
        INFORMATION,
        "no-store: what is stored is shown nevertheless",
        fill(FRESH),
        again(STORE, fields=_says("no-store")),
    ),
    case(
        "request-no-cache-validated",
        "9111 §5.2.1.4",
        OPTIONAL,
        "no-cache: what is stored is validated",
        fill(cc("max-age=3600", A)),
        again(Came.VALIDATED, FRESH.or_304(A), fields=_says("no-cache"), of=1),
    ),
    case(
        "request-no-cache-replaces",
        "9111 §5.2.1.4",
        OPTIONAL,
        "no-cache: what it brought is what the next viewer is shown",
        fill(FRESH),
        again(ORIGIN, FRESH, fields=_says("no-cache"), given=True),
        again(STORE, of=2),
    ),
    case(
        "request-no-cache-forwarded",
        "9111 §5.2",
        REQUIRED,
        "the request's Cache-Control is forwarded",
        again(ORIGIN, FRESH, fields=_says("no-cache, foo=1"), saw={"Cache-Control": Matching("foo=1")}),
    ),
    case(
        "request-only-if-cached",
        "9111 §5.2.1.7",
        OPTIONAL,
        "only-if-cached: what is stored is shown",
        fill(FRESH),
        again(STORE, fields=_says("only-if-cached"), status=200),
    ),
    case(
        "request-only-if-cached-cold",
        "9111 §5.2.1.7",
        OPTIONAL,
        "only-if-cached: 504 where nothing is stored",
        again(ITSELF, FRESH, fields=_says("only-if-cached"), status=504),
    ),
    case(
        "request-only-if-cached-stale",
        "9111 §5.2.1.7",
        OPTIONAL,
        "only-if-cached: 504 where all that is stored is stale",
        *grown_stale(),
        again(ITSELF, FRESH, fields=_says("only-if-cached"), status=504),
    ),
    case(
        "request-only-if-cached-variant",
        "9111 §5.2.1.7",
        OPTIONAL,
        "only-if-cached: 504 where another variant is stored",
        fill(cc("max-age=3600", ("Vary", "Thing")), fields=(("Thing", "one"),)),
        again(ITSELF, FRESH, fields=(*_says("only-if-cached"), ("Thing", "two")), status=504),
    ),
    case(
        "request-only-if-cached-max-stale",
        "9111 §5.2.1.7",
        OPTIONAL,
        "only-if-cached with max-stale: what is stale is shown",
        *grown_stale(),
        again(STORE, fields=_says("only-if-cached, max-stale"), status=200),
    ),
    case(
        "request-only-if-cached-504-not-kept",
        "9111 §5.2.1.7",
        REQUIRED,
        "the 504 of only-if-cached is not kept",
        again(ANY, FRESH, fields=_says("only-if-cached"), status=(200, 504)),
        again(ANY, FRESH, status=200),
    ),
    case(
        "request-pragma",
        "9111 §5.4",
        OPTIONAL,
        "Pragma: no-cache counts where there is no Cache-Control",
        fill(FRESH),
        again(ASKED, FRESH, fields=(("Pragma", "no-cache"),)),
    ),
    case(
        "request-pragma-beside",
        "9111 §5.4",
        OPTIONAL,
        "Pragma: no-cache does not count beside Cache-Control",
        fill(FRESH),
        again(STORE, fields=(("Pragma", "no-cache"), ("Cache-Control", "max-age=9999"))),
    ),
    case(
        "request-pragma-other",
        "9111 §5.4",
        OPTIONAL,
        "another Pragma does not count",
        fill(FRESH),
        again(STORE, fields=(("Pragma", "foo"),)),
    ),
    case(
        "request-no-transform",
        "9111 §5.2.2.6",
        REQUIRED,
        "what says no-transform is not compressed on the way",
        again(
            ORIGIN,
            cc("no-transform, max-age=3600", ("Content-Type", "text/html"), body=b"<p>the same again</p>" * 500),
            fields=(("Accept-Encoding", "gzip, br, zstd"),),
            has={"Content-Encoding": None},
            shows=b"<p>the same again</p>" * 500,
        ),
        again(
            ANY,
            FRESH,
            fields=(("Accept-Encoding", "gzip, br, zstd"),),
            has={"Content-Encoding": None},
        ),
    ),
)

BASIC: tuple[Field, ...] = (("Authorization", "Basic YTpi"),)
OTHER: tuple[Field, ...] = (("Authorization", "Basic Yzpk"),)

CREDENTIALS = (
    *(
        case(
            f"authorization-{name}",
            "9111 §3.5",
            REQUIRED,
            f"what was brought for a request with Authorization and says {value!r} is not shown to others",
            fill(cc(value, ("ETag", '"x"')), fields=BASIC),
            again(ORIGIN, FRESH),
        )
        for name, value in (
            ("max-age", "max-age=3600"),
            ("proxy-revalidate", "max-age=3600, proxy-revalidate"),
            ("private", "private, max-age=3600"),
        )
    ),
    case(
        "authorization-expires",
        "9111 §3.5",
        REQUIRED,
        "what was brought for a request with Authorization and has an Expires is not shown to others",
        fill(ok(("Expires", At(3600))), fields=BASIC),
        again(ORIGIN, FRESH),
    ),
    case(
        "authorization-heuristic",
        "9111 §3.5",
        REQUIRED,
        "nothing is guessed about what was brought for a request with Authorization",
        fill(ok(("Last-Modified", At(-31_536_000))), fields=BASIC),
        again(ORIGIN, FRESH),
    ),
    case(
        "authorization-other-credentials",
        "9111 §3.5",
        REQUIRED,
        "what was brought for one viewer's Authorization is not shown to another's",
        fill(cc("max-age=3600"), fields=BASIC),
        again(ORIGIN, FRESH, fields=OTHER),
    ),
    case(
        "authorization-lower-case",
        "9111 §3.5",
        REQUIRED,
        "credentials of any scheme count, written in any case",
        fill(cc("max-age=3600"), fields=(("authorization", "bearer abc"),)),
        again(ORIGIN, FRESH),
    ),
    case(
        "authorization-empty",
        "9111 §3.5",
        INFORMATION,
        "an empty Authorization counts as one",
        fill(cc("max-age=3600"), fields=(("Authorization", ""),)),
        again(ORIGIN, FRESH),
    ),
    *(
        case(
            f"authorization-{name}",
            "9111 §3.5",
            OPTIONAL,
            f"what was brought for a request with Authorization and says {value!r} is shown to others",
            fill(cc(value), fields=BASIC),
            again(STORE),
        )
        for name, value in (
            ("public", "public, max-age=3600"),
            ("must-revalidate", "must-revalidate, max-age=3600"),
            ("s-maxage", "s-maxage=3600"),
        )
    ),
    case(
        "authorization-public-stale",
        "9111 §3.5",
        REQUIRED,
        "what is public is still stale when it is",
        *grown_stale(says=", public", fields=BASIC),
        again(ASKED, FRESH),
    ),
    case(
        "authorization-forwarded",
        "9110 §11.6.2",
        REQUIRED,
        "Authorization reaches the origin",
        again(ORIGIN, cc("no-store"), fields=BASIC, saw={"Authorization": "Basic YTpi"}),
    ),
    case(
        "authorization-not-kept-for-refresh",
        "9111 §3.5",
        REQUIRED,
        "what was asked for with Authorization is not shown to the same viewer again either, unless it says so",
        fill(cc("max-age=3600"), fields=BASIC),
        again(ORIGIN, FRESH, fields=BASIC),
    ),
    case(
        "authorization-of-public",
        "9111 §3.5",
        INFORMATION,
        "a request with Authorization is answered from what anybody brought",
        fill(FRESH),
        again(STORE, fields=BASIC),
    ),
)

HOPS = (
    *(
        case(
            f"hop-request-{name.lower()}",
            "9110 §7.6.1",
            OPTIONAL,
            f"a viewer's {name} goes no further",
            again(ORIGIN, cc("no-store"), fields=((name, value), ("Connection", "close")), saw={name: Without(value)}),
        )
        for name, value in (
            ("Keep-Alive", "timeout=77"),
            ("Proxy-Connection", "keep-alive"),
            ("TE", "trailers, deflate;q=0.5"),
            ("Upgrade", "example/1"),
        )
    ),
    case(
        "hop-request-named",
        "9110 §7.6.1",
        REQUIRED,
        "what a viewer's Connection names goes no further",
        again(
            ORIGIN,
            cc("no-store"),
            fields=(("Connection", "close, Hop-Field"), ("Hop-Field", "x"), ("Other-Field", "y")),
            saw={"Hop-Field": None, "Other-Field": "y"},
        ),
    ),
    case(
        "hop-request-named-case",
        "9110 §7.6.1",
        REQUIRED,
        "what a viewer's Connection names in another case goes no further",
        again(
            ORIGIN,
            cc("no-store"),
            fields=(("Connection", "close, hOP-fIELD"), ("Hop-Field", "x")),
            saw={"Hop-Field": None},
        ),
    ),
    case(
        "hop-request-named-second-line",
        "9110 §7.6.1",
        REQUIRED,
        "what a second Connection names goes no further",
        again(
            ORIGIN,
            cc("no-store"),
            fields=(("Connection", "close"), ("Connection", "Hop-Field"), ("Hop-Field", "x")),
            saw={"Hop-Field": None},
        ),
    ),
    *(
        case(
            f"hop-response-{name.lower()}",
            "9110 §7.6.1",
            OPTIONAL,
            f"the origin's {name} is neither stored nor passed on",
            again(ORIGIN, cc("max-age=3600", (name, value)), has={name: Without(value)}),
            again(ANY, FRESH, has={name: Without(value)}),
        )
        for name, value in (("Keep-Alive", "timeout=77"), ("Proxy-Connection", "keep-alive"))
    ),
    *(
        case(
            f"hop-response-{name.lower()}",
            "9111 §3.1",
            REQUIRED,
            f"the origin's {name} is not stored",
            fill(cc("max-age=3600", (name, value))),
            again(ANY, FRESH, has={name: Without(value)}),
        )
        for name, value in (("Proxy-Authenticate", 'Basic realm="proxy"'), ("Proxy-Authentication-Info", "a=1"))
    ),
    *(
        case(
            f"hop-response-named{name}",
            "9110 §7.6.1",
            REQUIRED,
            f"what the origin's Connection names is neither stored nor passed on{what}",
            again(
                ORIGIN,
                cc("max-age=3600", *lines, ("Hop-Field", "x"), ("Other-Field", "y")),
                has={"Hop-Field": None, "Other-Field": "y", "Connection": Without("op-")},
            ),
            again(ANY, FRESH, has={"Hop-Field": None}),
        )
        for name, lines, what in (
            ("", (("Connection", "Hop-Field"),), ""),
            ("-case", (("Connection", "hop-FIELD"),), ", in another case"),
            ("-list", (("Connection", "keep-alive, x, Hop-Field"),), ", in a list"),
            ("-line", (("Connection", "keep-alive"), ("Connection", "Hop-Field")), ", in a second line"),
        )
    ),
    case(
        "hop-response-upgrade",
        "9110 §7.8",
        REQUIRED,
        "the origin's Upgrade is neither stored nor passed on",
        again(
            ORIGIN,
            cc("max-age=3600", ("Upgrade", "example/1"), ("Connection", "Upgrade")),
            has={"Upgrade": None},
        ),
        again(ANY, FRESH, has={"Upgrade": None}),
    ),
    case(
        "hop-via",
        "9110 §7.6.3",
        REQUIRED,
        "a gateway adds itself to Via",
        again(
            ORIGIN, cc("no-store"), fields=(("Via", "1.1 before"),), saw={"Via": Matching(r"^1\.1 before,.*\b1\.1 \S+")}
        ),
    ),
    case(
        "hop-via-alone",
        "9110 §7.6.3",
        REQUIRED,
        "a gateway names itself in Via",
        again(ORIGIN, cc("no-store"), saw={"Via": Matching(r"\b1\.1 \S+")}),
    ),
    case(
        "hop-max-forwards-0",
        "9110 §7.6.2",
        REQUIRED,
        "OPTIONS with Max-Forwards: 0 goes no further",
        again(
            ITSELF,
            cc("no-store"),
            method="OPTIONS",
            fields=(("Max-Forwards", "0"),),
            status=(200, 204, 400, 403, 405, 501),
        ),
    ),
    case(
        "hop-max-forwards-1",
        "9110 §7.6.2",
        REQUIRED,
        "OPTIONS with Max-Forwards: 5 goes on with 4",
        again(ORIGIN, cc("no-store"), method="OPTIONS", fields=(("Max-Forwards", "5"),), saw={"Max-Forwards": "4"}),
    ),
    case(
        "hop-host",
        "9110 §7.2",
        OPTIONAL,
        "the origin sees which host was asked for",
        again(ORIGIN, cc("no-store"), host="localhost", saw={"Host": Matching("^localhost:")}),
    ),
    case(
        "hop-body-chunked",
        "9112 §7.1",
        REQUIRED,
        "a body in chunks arrives whole",
        again(
            ORIGIN, cc("no-store"), method="POST", body=b"0123456789" * 300, chunked=True, saw_body=b"0123456789" * 300
        ),
    ),
    case(
        "hop-body-length",
        "9112 §6.2",
        REQUIRED,
        "a body with its length arrives whole",
        again(ORIGIN, cc("no-store"), method="PUT", body=bytes(range(256)) * 9, saw_body=bytes(range(256)) * 9),
    ),
    case(
        "hop-expect",
        "9110 §10.1.1",
        REQUIRED,
        "a request that expects 100 gets its answer",
        again(
            ORIGIN,
            cc("no-store"),
            method="POST",
            body=b"x" * 100,
            fields=(("Expect", "100-continue"),),
            status=200,
            saw_body=b"x" * 100,
        ),
    ),
)

CASES = (*DIRECTIVES, *CREDENTIALS, *HOPS)
