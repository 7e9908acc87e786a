"""How long a response is fresh, and how old it is (RFC 9111 §4.2, §5.1, §5.2.2, §5.3)."""

from __future__ import annotations

from tests.conformance.script import (
    ASCTIME,
    FRESH,
    INFORMATION,
    OPTIONAL,
    REQUIRED,
    RFC_850,
    STALE_IN_S,
    Answer,
    At,
    Between,
    Came,
    Case,
    Kind,
    Matching,
    Once,
    Pause,
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


def _expires(seconds: int, *others: tuple[str, str | At]) -> Answer:
    return ok(("Expires", At(seconds)), *others)


LIFETIMES = (
    _reused("fresh-max-age", "9111 §5.2.2.1", "max-age makes a response fresh", cc("max-age=3600")),
    _not_reused("fresh-max-age-0", "9111 §5.2.2.1", "max-age=0 is stale at once", cc("max-age=0")),
    case(
        "fresh-max-age-passes",
        "9111 §4.2",
        REQUIRED,
        "once max-age has passed, the response is not reused",
        fill(cc("max-age=1")),
        Pause(STALE_IN_S),
        again(ASKED, FRESH),
    ),
    case(
        "fresh-s-maxage-passes",
        "9111 §5.2.2.10",
        REQUIRED,
        "once s-maxage has passed, the response is not reused",
        fill(cc("s-maxage=1")),
        Pause(STALE_IN_S),
        again(ASKED, FRESH),
    ),
    case(
        "fresh-expires-passes",
        "9111 §5.3",
        REQUIRED,
        "once Expires has passed, the response is not reused",
        fill(_expires(1)),
        Pause(STALE_IN_S),
        again(ASKED, FRESH),
    ),
    case(
        "fresh-immutable-passes",
        "8246 §2",
        REQUIRED,
        "immutable does not make a response live longer",
        fill(cc("max-age=1, immutable")),
        Pause(STALE_IN_S),
        again(ASKED, FRESH),
    ),
    _reused("fresh-immutable", "8246 §2", "immutable beside max-age changes nothing", cc("max-age=3600, immutable")),
    _reused("fresh-s-maxage", "9111 §5.2.2.10", "s-maxage makes a response fresh", cc("s-maxage=3600")),
    _not_reused("fresh-s-maxage-0", "9111 §5.2.2.10", "s-maxage=0 beats max-age", cc("s-maxage=0, max-age=3600")),
    _not_reused(
        "fresh-s-maxage-0-after", "9111 §5.2.2.10", "s-maxage=0 beats max-age before it", cc("max-age=3600, s-maxage=0")
    ),
    _reused("fresh-s-maxage-wins", "9111 §5.2.2.10", "s-maxage beats a max-age of 0", cc("max-age=0, s-maxage=3600")),
    _not_reused(
        "fresh-s-maxage-0-expires",
        "9111 §5.2.2.10",
        "s-maxage=0 beats Expires",
        cc("s-maxage=0", ("Expires", At(3600))),
    ),
    _reused(
        "fresh-s-maxage-beats-expires",
        "9111 §5.2.2.10",
        "s-maxage beats an Expires in the past",
        cc("s-maxage=3600", ("Expires", At(-3600))),
    ),
    _not_reused(
        "fresh-max-age-0-expires", "9111 §5.3", "max-age=0 beats Expires", cc("max-age=0", ("Expires", At(3600)))
    ),
    _reused(
        "fresh-max-age-beats-expires",
        "9111 §5.3",
        "max-age beats an Expires in the past",
        cc("max-age=3600", ("Expires", At(-3600))),
    ),
    _reused(
        "fresh-max-age-beats-bad-expires",
        "9111 §5.3",
        "max-age beats an Expires that is no date",
        cc("max-age=3600", ("Expires", "0")),
    ),
    _reused("fresh-expires", "9111 §5.3", "Expires in the future makes a response fresh", _expires(3600)),
    _not_reused("fresh-expires-past", "9111 §5.3", "Expires in the past means stale", _expires(-3600)),
    _not_reused(
        "fresh-expires-is-date", "9111 §4.2.1", "Expires equal to Date means stale", _expires(0, ("Date", At(0)))
    ),
    _reused(
        "fresh-expires-fast-clock",
        "9111 §4.2.1",
        "Expires counts from Date, so an origin whose clock is an hour fast is reused",
        _expires(7200, ("Date", At(3600))),
    ),
    _not_reused(
        "fresh-expires-fast-clock-stale",
        "9111 §4.2.1",
        "Expires before Date means stale, even if it lies in our future",
        _expires(1800, ("Date", At(3600))),
    ),
    case(
        "fresh-expires-fast-clock-passes",
        "9111 §4.2.1",
        REQUIRED,
        "one second between Date and Expires is one second, however fast the origin's clock is",
        fill(_expires(3601, ("Date", At(3600)))),
        Pause(STALE_IN_S),
        again(ASKED, FRESH),
    ),
    _reused(
        "fresh-expires-old-date",
        "9111 §4.2.3",
        "an old Date is age: two hours of Expires minus one hour leave one",
        _expires(3600, ("Date", At(-3600))),
    ),
    _not_reused(
        "fresh-expires-old-date-stale",
        "9111 §4.2.3",
        "an old Date is age: one hour of Expires minus two hours is stale",
        _expires(-3600, ("Date", At(-7200))),
    ),
    _not_reused(
        "fresh-max-age-old-date",
        "9111 §4.2.3",
        "an old Date is age: max-age is used up when the response comes",
        cc("max-age=1800", ("Date", At(-3600))),
    ),
    _reused(
        "fresh-max-age-old-date-left",
        "9111 §4.2.3",
        "an old Date leaves what is left of max-age",
        cc("max-age=7200", ("Date", At(-3600))),
    ),
    _reused(
        "fresh-max-age-future-date",
        "9111 §4.2.3",
        "a Date in the future makes nobody younger than new",
        cc("max-age=3600", ("Date", At(7200))),
    ),
    case(
        "fresh-max-age-future-date-passes",
        "9111 §4.2.3",
        REQUIRED,
        "a Date in the future does not lengthen max-age",
        fill(cc("max-age=1", ("Date", At(7200)))),
        Pause(STALE_IN_S),
        again(ASKED, FRESH),
    ),
    _reused("fresh-without-date", "9110 §6.6.1", "without Date, max-age counts from arrival", FRESH.but(date=False)),
    _reused(
        "fresh-expires-without-date",
        "9111 §4.2.1",
        "without Date, Expires counts from arrival",
        ok(("Expires", At(3600))).but(date=False),
    ),
    _not_reused(
        "fresh-nothing",
        "9111 §3",
        "without freshness and validator nothing is reused",
        ok(),
        OPTIONAL,
    ),
    _reused(
        "fresh-huge", "9111 §1.2.2", "a max-age beyond every integer is very long", cc("max-age=99999999999999999999")
    ),
    _reused("fresh-2-31", "9111 §1.2.2", "a max-age of 2 to the 31st is very long", cc("max-age=2147483648")),
    _reused("fresh-2-32", "9111 §1.2.2", "a max-age of 2 to the 32nd does not wrap", cc("max-age=4294967296")),
    _not_reused(
        "fresh-2-64-s-maxage-0",
        "9111 §5.2.2.10",
        "a huge max-age does not hide s-maxage=0",
        cc("max-age=18446744073709551616, s-maxage=0"),
    ),
)

AGES = (
    _not_reused("age-counts", "9111 §4.2.3", "Age counts against max-age", cc("max-age=3600", ("Age", "7200"))),
    _not_reused(
        "age-equal", "9111 §4.2", "an Age as large as max-age means stale", cc("max-age=3600", ("Age", "3600"))
    ),
    _not_reused("age-s-maxage", "9111 §4.2.3", "Age counts against s-maxage", cc("s-maxage=3600", ("Age", "7200"))),
    _not_reused("age-expires", "9111 §4.2.3", "Age counts against Expires", _expires(3600, ("Age", "7200"))),
    _reused("age-left", "9111 §4.2.3", "Age leaves what is left of max-age", cc("max-age=7200", ("Age", "3600"))),
    case(
        "age-sent",
        "9111 §5.1",
        REQUIRED,
        "a stored response is sent with its Age, which counts the Age it came with",
        fill(cc("max-age=7200", ("Age", "3600"))),
        again(STORE, given=True),
        again(STORE, has={"Age": Between(3600, 3620)}),
    ),
    case(
        "age-sent-from-zero",
        "9111 §5.1",
        REQUIRED,
        "a stored response is sent with one Age",
        fill(FRESH),
        again(STORE, given=True),
        again(STORE, has={"Age": Between(0, 20)}),
    ),
    case(
        "age-rises",
        "9111 §4.2.3",
        REQUIRED,
        "Age rises while a response is stored",
        fill(FRESH),
        Pause(STALE_IN_S),
        again(STORE, given=True),
        again(STORE, has={"Age": Between(2, 20)}),
    ),
    case(
        "age-of-old-date",
        "9111 §4.2.3",
        REQUIRED,
        "Age counts from Date where that says more than Age",
        fill(cc("max-age=7200", ("Date", At(-3600)), ("Age", "60"))),
        again(STORE, given=True),
        again(STORE, has={"Age": Between(3600, 3620)}),
    ),
    case(
        "age-of-expires",
        "9111 §4.2.3",
        REQUIRED,
        "Age is sent where Expires made the response fresh",
        fill(_expires(7200, ("Age", "100"))),
        again(STORE, given=True),
        again(STORE, has={"Age": Between(100, 120)}),
    ),
    case(
        "age-slow-answer",
        "9111 §4.2.3",
        OPTIONAL,
        "the time that an answer was under way is part of its age",
        fill(FRESH.but(delay_s=2.05)),
        again(STORE, has={"Age": Between(2, 20)}),
    ),
    *(
        _not_reused(f"age-{name}", "9111 §5.1", says, cc("max-age=3600", *(("Age", value) for value in values)), kind)
        for name, values, kind, says in (
            ("huge", ("99999999999999999999",), REQUIRED, "an Age beyond every integer is very old"),
            ("2-31", ("2147483648",), REQUIRED, "an Age of 2 to the 31st is very old"),
            ("2-32", ("4294967296",), REQUIRED, "an Age of 2 to the 32nd does not wrap"),
            ("2-64", ("18446744073709551616",), REQUIRED, "an Age of 2 to the 64th does not wrap"),
            ("leading-zeros", ("0000007200",), REQUIRED, "an Age with leading zeros is a number"),
            ("blanks", (" \t7200 ",), REQUIRED, "blanks around an Age do not count"),
            ("list", ("7200, 0",), REQUIRED, "of an Age with several members the first counts: it is large"),
            ("two-lines", ("7200", "0"), REQUIRED, "of two lines of Age the first counts: it is large"),
        )
    ),
    *(
        _reused(f"age-{name}", "9111 §5.1", says, cc("max-age=3600", *(("Age", value) for value in values)))
        for name, values, says in (
            ("list-small", ("0, 7200",), "of an Age with several members the first counts: it is small"),
            ("two-lines-small", ("0", "7200"), "of two lines of Age the first counts: it is small"),
            ("float", ("7200.0",), "an Age with a decimal point is ignored"),
            ("negative", ("-7200",), "a negative Age is ignored"),
            ("plus", ("+7200",), "an Age with a plus is ignored"),
            ("text", ("abc",), "an Age that is a word is ignored"),
            ("quoted", ('"7200"',), "an Age in quotes is ignored"),
            ("unit", ("7200s",), "an Age with a unit is ignored"),
            ("hex", ("0x1c20",), "an Age in hexadecimal digits is ignored"),
            ("underscore", ("7_200",), "an Age with an underscore is ignored"),
            ("empty", ("",), "an empty Age is ignored"),
            ("parameter", ("7200;a=1",), "an Age with a parameter is ignored"),
            ("letter-after", ("7200a",), "an Age with a letter after it is ignored"),
        )
    ),
    case(
        "age-replaced",
        "9111 §5.1",
        REQUIRED,
        "the Age of a stored response is one line, however many it came with",
        fill(cc("max-age=7200", ("Age", "100"), ("Age", "200"))),
        again(STORE, given=True),
        again(STORE, has={"Age": Once()}),
    ),
)

_IN_TWO_DAYS = 172_800
BAD_DATES = (
    ("utc", At(_IN_TWO_DAYS, "%a, %d %b %Y %H:%M:%S UTC"), "UTC in place of GMT"),
    ("aest", At(_IN_TWO_DAYS, "%a, %d %b %Y %H:%M:%S AEST"), "another time zone"),
    ("offset", At(_IN_TWO_DAYS, "%a, %d %b %Y %H:%M:%S +0000"), "a numeric zone"),
    ("no-zone", At(_IN_TWO_DAYS, "%a, %d %b %Y %H:%M:%S"), "no zone"),
    ("lower-case", At(_IN_TWO_DAYS, "%a, %d %b %Y %H:%M:%S gmt"), "gmt in small letters"),
    ("no-comma", At(_IN_TWO_DAYS, "%a %d %b %Y %H:%M:%S GMT"), "no comma"),
    ("no-day", At(_IN_TWO_DAYS, "%d %b %Y %H:%M:%S GMT"), "no name of a day"),
    ("dashes", At(_IN_TWO_DAYS, "%a, %d-%b-%Y %H:%M:%S GMT"), "dashes in the date"),
    ("short-year", At(_IN_TWO_DAYS, "%a, %d %b %y %H:%M:%S GMT"), "a year of two digits"),
    ("short-hour", At(_IN_TWO_DAYS, "%a, %d %b %Y 1:%M:%S GMT"), "an hour of one digit"),
    ("no-seconds", At(_IN_TWO_DAYS, "%a, %d %b %Y %H:%M GMT"), "no seconds"),
    ("dots", At(_IN_TWO_DAYS, "%a, %d %b %Y %H.%M.%S GMT"), "dots in the time"),
    ("two-blanks", At(_IN_TWO_DAYS, "%a, %d  %b %Y %H:%M:%S GMT"), "two blanks"),
    ("tab", At(_IN_TWO_DAYS, "%a,\t%d %b %Y %H:%M:%S GMT"), "a tab for a blank"),
    ("after", At(_IN_TWO_DAYS, "%a, %d %b %Y %H:%M:%S GMT+1"), "something after GMT"),
    ("quoted", At(_IN_TWO_DAYS, '"%a, %d %b %Y %H:%M:%S GMT"'), "quotes around it"),
    ("month-number", At(_IN_TWO_DAYS, "%a, %d %m %Y %H:%M:%S GMT"), "the number of the month"),
    ("iso", At(_IN_TWO_DAYS, "%Y-%m-%dT%H:%M:%SZ"), "ISO 8601"),
    ("epoch", At(_IN_TWO_DAYS, "4102444800"), "seconds since the epoch"),
    ("zero", At(0, "0"), "0"),
    ("minus-one", At(0, "-1"), "-1"),
    ("word", At(0, "Thursday"), "a word"),
    ("empty", At(0, ""), "nothing at all"),
)

EXPIRES = (
    *(
        _not_reused(f"expires-{name}", "9111 §5.3", f"an Expires with {what} means stale", ok(("Expires", value)))
        if name not in {"iso", "epoch", "zero", "minus-one", "word", "empty"}
        else _not_reused(f"expires-{name}", "9111 §5.3", f"an Expires of {what} means stale", ok(("Expires", value)))
        for name, value, what in BAD_DATES
    ),
    _not_reused(
        "expires-two-lines",
        "9111 §5.3",
        "an Expires of several lines is no date, so it means stale",
        ok(("Expires", At(3600)), ("Expires", At(7200))),
        OPTIONAL,
    ),
    _not_reused(
        "expires-two-lines-past",
        "9111 §4.2.1",
        "of two Expires, one in the past, the response is not kept for long",
        ok(("Expires", At(-3600)), ("Expires", At(3600))),
        OPTIONAL,
    ),
    _reused(
        "expires-rfc850",
        "9110 §5.6.7",
        "an Expires in the format of RFC 850 is understood",
        ok(("Expires", At(3600, RFC_850))),
    ),
    _reused(
        "expires-asctime",
        "9110 §5.6.7",
        "an Expires in the format of asctime is understood",
        ok(("Expires", At(3600, ASCTIME))),
    ),
    _not_reused(
        "expires-rfc850-past",
        "9110 §5.6.7",
        "an Expires in the format of RFC 850 that has passed means stale",
        ok(("Expires", At(-3600, RFC_850))),
    ),
    _reused(
        "expires-far",
        "9111 §5.3",
        "an Expires in the year 2095 is far away",
        ok(("Expires", "Sat, 01 Jan 2095 00:00:00 GMT")),
    ),
)

DATES = (
    case(
        "date-on-hit",
        "9110 §6.6.1",
        REQUIRED,
        "a stored response keeps its Date",
        fill(cc("max-age=7200", ("Date", At(-1000)))),
        again(STORE, given=True),
        again(STORE, has={"Date": At(-1000)}),
    ),
    case(
        "date-on-miss",
        "9110 §6.6.1",
        REQUIRED,
        "the Date of the origin is passed on",
        again(Came.ORIGIN, cc("no-store", ("Date", At(-1000))), has={"Date": At(-1000)}),
    ),
    case(
        "date-in-future",
        "9110 §6.6.1",
        REQUIRED,
        "a Date in the future is passed on as it is",
        again(Came.ORIGIN, cc("no-store", ("Date", At(5000))), has={"Date": At(5000)}),
    ),
    case(
        "date-added",
        "9110 §6.6.1",
        REQUIRED,
        "a response without Date gets one when it is stored",
        fill(FRESH.but(date=False)),
        again(STORE, given=True),
        again(STORE, has={"Date": Matching("^[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9:]{8} GMT$")}),
    ),
    case(
        "date-added-on-miss",
        "9110 §6.6.1",
        REQUIRED,
        "a response without Date gets one when it is forwarded",
        again(Came.ORIGIN, cc("no-store").but(date=False), has={"Date": Matching("^[A-Z][a-z]{2}, .* GMT$")}),
    ),
    case(
        "date-once",
        "9110 §6.6.1",
        REQUIRED,
        "there is one Date, not the cache's beside the origin's",
        fill(cc("max-age=7200", ("Date", At(-1000)))),
        again(STORE, given=True),
        again(STORE, has={"Date": Once()}),
    ),
    case(
        "date-malformed",
        "9110 §6.6.1",
        INFORMATION,
        "a response whose Date is no date is reused",
        fill(cc("max-age=3600", ("Date", "yesterday"))),
        again(STORE),
    ),
)
