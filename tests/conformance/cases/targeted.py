"""Cache-Control for some caches only (RFC 9213): CDN-Cache-Control, and our own field before it."""

from __future__ import annotations

from tests.conformance.script import (
    FRESH,
    INFORMATION,
    OPTIONAL,
    REQUIRED,
    STALE_IN_S,
    Answer,
    At,
    Came,
    Case,
    Feature,
    Field,
    Kind,
    Landed,
    Pause,
    again,
    ask,
    case,
    cc,
    fill,
    ok,
)

ASKED, STORE = Came.ASKED, Came.STORE
CDN = "CDN-Cache-Control"
OWN = "Nearshelf-Cache-Control"


def _with(*fields: Field) -> Answer:
    return ok(*fields)


def _case(name: str, says: str, came: Came, answer: Answer, kind: Kind = REQUIRED, anchor: str = "9213 §2.2") -> Case:
    return case(f"targeted-{name}", anchor, kind, says, fill(answer), again(came, FRESH), needs=Feature.TARGETED)


def _both(targeted: str | tuple[str, ...], plain: str, *others: Field) -> Answer:
    lines = (targeted,) if isinstance(targeted, str) else targeted
    return _with(*((CDN, line) for line in lines), ("Cache-Control", plain), *others)


CASES = (
    _case("max-age", "max-age in it makes a response fresh", STORE, _with((CDN, "max-age=3600")), OPTIONAL),
    _case("max-age-0", "max-age=0 in it beats max-age", ASKED, _both("max-age=0", "max-age=3600")),
    _case("beats-0", "max-age in it beats max-age=0", STORE, _both("max-age=3600", "max-age=0"), OPTIONAL),
    _case("beats-no-store", "max-age in it beats no-store", STORE, _both("max-age=3600", "no-store"), OPTIONAL),
    _case("beats-private", "max-age in it beats private", STORE, _both("max-age=3600", "private"), OPTIONAL),
    _case("beats-no-cache", "max-age in it beats no-cache", STORE, _both("max-age=3600", "no-cache"), OPTIONAL),
    _case("beats-s-maxage", "max-age=0 in it beats s-maxage", ASKED, _both("max-age=0", "s-maxage=3600")),
    _case("no-store", "no-store in it beats max-age", ASKED, _both("no-store", "max-age=3600")),
    _case("private", "private in it beats max-age", ASKED, _both("private", "max-age=3600")),
    _case("no-cache", "no-cache in it beats max-age", ASKED, _both("no-cache", "max-age=3600")),
    _case("s-maxage", "s-maxage in it counts", STORE, _both("s-maxage=3600", "no-store"), INFORMATION),
    _case("s-maxage-0", "s-maxage=0 in it beats max-age", ASKED, _both("s-maxage=0", "max-age=3600")),
    _case(
        "expires",
        "max-age=0 in it beats an Expires in the future",
        ASKED,
        _with((CDN, "max-age=0"), ("Expires", At(3600))),
    ),
    _case(
        "expires-past",
        "max-age in it beats an Expires in the past",
        STORE,
        _with((CDN, "max-age=3600"), ("Expires", At(-3600))),
        OPTIONAL,
    ),
    _case(
        "hides-expires",
        "where it says nothing of freshness, Expires does not count either",
        ASKED,
        _with((CDN, "must-revalidate"), ("Expires", At(3600))),
    ),
    _case(
        "hides-max-age",
        "where it says nothing of freshness, max-age does not count",
        ASKED,
        _both("public", "max-age=3600"),
    ),
    _case("age", "Age counts against it", ASKED, _with((CDN, "max-age=3600"), ("Age", "7200"))),
    _case(
        "old-date",
        "an old Date counts against it",
        ASKED,
        _with((CDN, "max-age=1800"), ("Date", At(-3600))),
    ),
    _case("two-lines", "two lines are one dictionary", ASKED, _both(("max-age=3600", "no-store"), "max-age=3600")),
    _case(
        "last-counts",
        "of a key that is there twice the last counts",
        ASKED,
        _both("max-age=3600, max-age=0", "max-age=60"),
    ),
    _case(
        "last-counts-fresh",
        "of a key that is there twice the last counts, and it is fresh",
        STORE,
        _both("max-age=0, max-age=3600", "max-age=0"),
        OPTIONAL,
    ),
    _case("parameters", "parameters do not count", STORE, _both("max-age=3600;a=1", "no-store"), OPTIONAL),
    _case(
        "unknown",
        "what nobody knows is ignored",
        STORE,
        _both('max-age=3600, foo="no-store", bar', "no-store"),
        OPTIONAL,
    ),
    *(
        _case(
            f"malformed-{name}",
            f"{value!r} does not parse, so that Cache-Control counts: it says no-store",
            ASKED,
            _both(value, "no-store"),
            anchor="9213 §2.1",
        )
        for name, value in (
            ("comma", "max-age=3600,"),
            ("capitals", "Max-Age=3600"),
            ("blank", "max-age =3600"),
            ("semicolon", "max-age=3600;"),
            ("quote", 'max-age=3600, a="b'),
            ("number", "3600"),
            ("two-commas", "max-age=3600,,public"),
            ("no-value", "max-age="),
        )
    ),
    _case(
        "malformed-fresh",
        "what does not parse is ignored whole: Cache-Control makes the response fresh",
        STORE,
        _both("no-store,", "max-age=3600"),
        OPTIONAL,
        anchor="9213 §2.1",
    ),
    _case(
        "empty",
        "an empty field is ignored: Cache-Control says no-store",
        ASKED,
        _both("", "no-store"),
        anchor="9213 §2.2",
    ),
    _case(
        "empty-fresh",
        "an empty field is ignored: Cache-Control makes the response fresh",
        STORE,
        _both("", "max-age=3600"),
        OPTIONAL,
        anchor="9213 §2.2",
    ),
    *(
        _case(
            f"type-{name}",
            f"{value!r} has the wrong type and gives no freshness",
            ASKED,
            _both(value, "max-age=0"),
            anchor="9213 §2.1",
        )
        for name, value in (
            ("string", 'max-age="3600"'),
            ("decimal", "max-age=3600.5"),
            ("token", "max-age=abc"),
            ("boolean", "max-age"),
            ("negative", "max-age=-1"),
            ("list", "max-age=(3600)"),
        )
    ),
    case(
        "targeted-passes",
        "9213 §2.2",
        REQUIRED,
        "when its max-age has passed, the origin is asked",
        fill(_both("max-age=1", "max-age=3600")),
        Pause(STALE_IN_S),
        again(ASKED, FRESH),
        needs=Feature.TARGETED,
    ),
    case(
        "targeted-passed-on",
        "9213 §3",
        OPTIONAL,
        "CDN-Cache-Control is passed on, for the caches beyond",
        fill(_both("max-age=3600", "max-age=60"), has={CDN: "max-age=3600", "Cache-Control": "max-age=60"}),
        again(STORE, has={CDN: "max-age=3600", "Cache-Control": "max-age=60"}),
        needs=Feature.TARGETED,
    ),
    case(
        "targeted-swr",
        "5861 §3",
        OPTIONAL,
        "stale-while-revalidate in it counts",
        fill(_both("max-age=60, stale-while-revalidate=600", "no-store", ("Age", "100"))),
        again(Came.BEHIND, FRESH.but(delay_s=0.6), of=1),
        Landed(2),
        again(STORE, of=2),
        needs=Feature.TARGETED,
    ),
    case(
        "targeted-hides-swr",
        "9213 §2.2",
        REQUIRED,
        "stale-while-revalidate in Cache-Control does not count beside it",
        fill(_both("max-age=60", "max-age=60, stale-while-revalidate=600", ("Age", "100"))),
        again(ASKED, FRESH),
        needs=Feature.TARGETED,
    ),
    case(
        "targeted-sie",
        "5861 §4",
        OPTIONAL,
        "stale-if-error in it counts",
        fill(_both("max-age=60, stale-if-error=600", "max-age=60", ("Age", "100"))),
        again(Came.FALLBACK, ok(status=503), of=1),
        needs=Feature.TARGETED,
    ),
    case(
        "targeted-must-revalidate",
        "9213 §2.2",
        OPTIONAL,
        "must-revalidate in Cache-Control does not count beside it",
        fill(_both("max-age=60, stale-if-error=600", "max-age=60, must-revalidate", ("Age", "100"))),
        again(Came.FALLBACK, ok(status=503), of=1),
        needs=Feature.TARGETED,
    ),
    case(
        "targeted-authorization",
        "9111 §3.5",
        OPTIONAL,
        "public in it lets the answer to a request with Authorization be shared",
        fill(_both("public, max-age=3600", "private"), fields=(("Authorization", "Basic YTpi"),)),
        again(STORE),
        needs=Feature.TARGETED,
    ),
    case(
        "targeted-own-first",
        "9213 §2.2",
        REQUIRED,
        "the cache's own field comes before CDN-Cache-Control",
        fill(_with((OWN, "max-age=0"), (CDN, "max-age=3600"), ("Cache-Control", "max-age=3600"))),
        again(ASKED, FRESH),
        needs=Feature.TARGETED,
    ),
    case(
        "targeted-own-fresh",
        "9213 §2.2",
        OPTIONAL,
        "the cache's own field beats a CDN-Cache-Control of no-store",
        fill(_with((OWN, "max-age=3600"), (CDN, "no-store"), ("Cache-Control", "no-store"))),
        again(STORE),
        needs=Feature.TARGETED,
    ),
    case(
        "targeted-own-malformed",
        "9213 §2.2",
        REQUIRED,
        "where the cache's own field does not parse, the next one counts",
        fill(_with((OWN, "max-age=3600,"), (CDN, "no-store"), ("Cache-Control", "max-age=3600"))),
        again(ASKED, FRESH),
        needs=Feature.TARGETED,
    ),
    case(
        "targeted-own-not-passed-on",
        "9213 §3",
        OPTIONAL,
        "the cache's own field goes no further",
        ask(_with((OWN, "max-age=3600"), ("Cache-Control", "no-store")), has={OWN: None}),
        needs=Feature.TARGETED,
    ),
    case(
        "targeted-not-ours",
        "9213 §2.1",
        OPTIONAL,
        "another cache's field does not count",
        fill(_with(("Example-Cache-Control", "no-store"), ("Cache-Control", "max-age=3600"))),
        again(STORE),
    ),
    case(
        "targeted-ignored",
        "9213 §3.1",
        OPTIONAL,
        "a cache that is no CDN ignores CDN-Cache-Control: no-store",
        fill(_both("no-store", "max-age=3600")),
        again(STORE),
        needs=Feature.NO_TARGETED,
    ),
    case(
        "targeted-ignored-max-age",
        "9213 §3.1",
        REQUIRED,
        "a cache that is no CDN ignores max-age in CDN-Cache-Control",
        fill(_both("max-age=3600", "max-age=0")),
        again(ASKED, FRESH),
        needs=Feature.NO_TARGETED,
    ),
    case(
        "targeted-surrogate-control",
        "9213 §1",
        INFORMATION,
        "Surrogate-Control does not count",
        fill(cc("max-age=3600", ("Surrogate-Control", "no-store"))),
        again(STORE),
    ),
)
