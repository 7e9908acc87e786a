"""What the cache says about what it did (RFC 9211)."""

from __future__ import annotations

from tests.conformance.script import (
    FRESH,
    OPTIONAL,
    REQUIRED,
    STALE_IN_S,
    Ask,
    Came,
    Case,
    Feature,
    Kind,
    Landed,
    Matching,
    Pause,
    Status,
    Step,
    Together,
    again,
    ask,
    case,
    cc,
    fill,
    ok,
)

STORE, ORIGIN = Came.STORE, Came.ORIGIN


def _status(**parameters: object) -> dict[str, Status]:
    return {"Cache-Status": Status({name.replace("_", "-"): value for name, value in parameters.items()})}


def _case(name: str, section: str, kind: Kind, says: str, *steps: Step) -> Case:
    return case(f"visible-{name}", f"9211 {section}", kind, says, *steps, needs=Feature.CACHE_STATUS)


CASES = (
    _case(
        "hit",
        "§2.1",
        REQUIRED,
        "an answer from the store is a hit, and not forwarded",
        fill(FRESH),
        again(STORE, has=_status(hit=True, fwd=None)),
    ),
    _case(
        "hit-ttl",
        "§2.4",
        OPTIONAL,
        "a hit says how long it stays fresh",
        fill(cc("max-age=3600", ("Age", "600"))),
        again(STORE, has=_status(hit=True, ttl=range(2900, 3001))),
    ),
    _case(
        "miss",
        "§2.2",
        REQUIRED,
        "what was not there is forwarded, with the reason",
        ask(FRESH, has=_status(hit=None, fwd=("uri-miss", "miss"))),
    ),
    _case(
        "miss-status",
        "§2.3",
        OPTIONAL,
        "the origin's status is named where the viewer's may differ",
        ask(FRESH, has=_status(fwd_status=(200, None))),
    ),
    _case("stored", "§2.5", OPTIONAL, "what was stored says so", ask(FRESH, has=_status(stored=True))),
    _case(
        "not-stored",
        "§2.5",
        REQUIRED,
        "what was not stored does not say so",
        ask(cc("no-store"), has=_status(stored=(None, False))),
    ),
    _case(
        "vary-miss",
        "§2.2",
        OPTIONAL,
        "another variant's absence has its own reason",
        fill(cc("max-age=3600", ("Vary", "Thing")), fields=(("Thing", "one"),)),
        again(ORIGIN, cc("max-age=3600", ("Vary", "Thing")), fields=(("Thing", "two"),), has=_status(fwd="vary-miss")),
    ),
    _case(
        "stale",
        "§2.2",
        OPTIONAL,
        "what was stale is forwarded for that reason",
        fill(cc("max-age=60", ("Age", "100"), ("ETag", '"a"'))),
        again(ORIGIN, FRESH, has=_status(hit=None, fwd="stale")),
    ),
    _case(
        "validated",
        "§2.3",
        OPTIONAL,
        "a validation names the origin's 304",
        fill(cc("max-age=60", ("Age", "100"), ("ETag", '"a"'))),
        again(
            Came.VALIDATED,
            FRESH.or_304(("ETag", '"a"'), ("Cache-Control", "max-age=3600")),
            has=_status(fwd="stale", fwd_status=304),
        ),
    ),
    _case(
        "request",
        "§2.2",
        OPTIONAL,
        "what the request's own no-cache forwards has its own reason",
        fill(FRESH),
        again(ORIGIN, FRESH, fields=(("Cache-Control", "no-cache"),), has=_status(hit=None, fwd="request")),
    ),
    _case(
        "method",
        "§2.2",
        OPTIONAL,
        "a method that is not answered from the store has its own reason",
        ask(cc("no-store"), method="POST", body=b"x", has=_status(hit=None, fwd=("method", "bypass"))),
    ),
    _case(
        "stale-ttl",
        "§2.4",
        REQUIRED,
        "what is shown stale has a negative ttl, if any",
        fill(cc("max-age=1, stale-while-revalidate=60")),
        Pause(STALE_IN_S),
        again(Came.BEHIND, FRESH.but(delay_s=0.6), given=True),
        Landed(2),
        fill(cc("max-age=60, stale-while-revalidate=600", ("Age", "100")), target="/b"),
        again(Came.BEHIND, FRESH.but(delay_s=0.6), target="/b", has=_status(hit=True, ttl=range(-60, 0))),
    ),
    _case(
        "collapsed",
        "§2.6",
        OPTIONAL,
        "who shared another's request is told so",
        Together(
            (
                ask(FRESH.but(delay_s=0.4), came=Came.ANY, has=_status(collapsed=(None, False))),
                ask(came=Came.ANY, before_s=0.15, has=_status(collapsed=True)),
            ),
            asked=(1, 1),
        ),
    ),
    _case(
        "appended",
        "§2",
        REQUIRED,
        "what a cache nearer to the origin said stays before our own",
        fill(cc("max-age=3600", ("Cache-Status", "inner; hit; ttl=5"))),
        again(STORE, given=True),
        again(STORE, has={"Cache-Status": Matching(r"^inner; ?hit; ?ttl=5, *\S+")}),
    ),
    _case(
        "appended-miss",
        "§2",
        REQUIRED,
        "what a cache nearer to the origin said stays before our own, when it is passed on, too",
        ask(
            cc("no-store", ("Cache-Status", '"inner, one"; fwd=miss')),
            has={"Cache-Status": Matching(r'^"inner, one"; ?fwd=miss, *\S+')},
        ),
    ),
    _case(
        "no-key",
        "§2.7",
        OPTIONAL,
        "the key is not shown to everybody",
        fill(FRESH, target="?secret=1"),
        again(STORE, target="?secret=1", has=_status(hit=True, key=None)),
    ),
    _case(
        "304",
        "§2",
        REQUIRED,
        "a 304 from the store is a hit",
        fill(cc("max-age=3600", ("ETag", '"a"'))),
        again(STORE, fields=(("If-None-Match", '"a"'),), status=304, given=True),
        again(STORE, fields=(("If-None-Match", '"a"'),), status=304, has=_status(hit=True, fwd=None)),
    ),
    _case(
        "error",
        "§2",
        OPTIONAL,
        "what stands in for an error says that it was forwarded",
        fill(cc("max-age=1, stale-if-error=60")),
        Pause(STALE_IN_S),
        again(Came.FALLBACK, ok(status=503), has=_status(hit=None, fwd="stale", fwd_status=503)),
    ),
    _case(
        "only-if-cached",
        "§2",
        OPTIONAL,
        "an answer of the cache's own making says that it is no hit",
        Ask(
            (FRESH,),
            Came.ITSELF,
            fields=(("Cache-Control", "only-if-cached"),),
            status=(504,),
            has=_status(hit=None, fwd=None),
        ),
    ),
)
