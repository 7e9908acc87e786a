"""Purges by tag and by path, and fills that were under way (docs/freshness.md): what no RFC has, and we promise."""

from __future__ import annotations

from tests.conformance.script import (
    FRESH,
    REQUIRED,
    Answer,
    Came,
    Case,
    Feature,
    Here,
    Landed,
    Pause,
    Purge,
    Step,
    Together,
    Value,
    again,
    ask,
    case,
    cc,
    fill,
    ok,
)

ASKED, STORE, ANY = Came.ASKED, Came.STORE, Came.ANY
TAG: Value = Here(form="tag-{name}")


def _tagged(field: str = "Cache-Tag", form: str = "tag-{name}", control: str = "max-age=3600") -> Answer:
    return cc(control, (field, Here(form=form)))


def _case(name: str, says: str, *steps: Step) -> Case:
    return case(f"purge-{name}", "docs/freshness.md", REQUIRED, says, *steps, needs=Feature.PURGE)


def _in_flight(
    name: str,
    says: str,
    *answers: Answer,
    purge: Purge,
    before: tuple[Step, ...] = (),
    after: tuple[Step, ...] = (),
    since: tuple[int, ...] = (2, 3),
    **others: object,
) -> Case:
    """A fill begins, the purge is acknowledged, the fill lands: nobody is shown it afterwards, only what was asked for
    `since`."""
    together = Together((ask(*answers, came=ANY, **others),), purge_after_s=0.2, purge=purge)
    return _case(name, says, *before, together, *after, again(ANY, FRESH, of=since))


HELD = _tagged().but(delay_s=0.8)

CASES = (
    _case("tag", "what carries the tag is gone", fill(_tagged()), again(STORE), Purge(("tag",)), again(ASKED, FRESH)),
    _case("other-tag", "what carries another tag stays", fill(_tagged()), Purge(("other",)), again(STORE)),
    _case(
        "of-many",
        "one of many tags is enough",
        fill(_tagged(form="a-{name}, tag-{name},b-{name}")),
        Purge(("tag",)),
        again(ASKED, FRESH),
    ),
    _case(
        "surrogate-key",
        "tags may stand in Surrogate-Key, with blanks between them",
        fill(_tagged("Surrogate-Key", "a-{name} tag-{name}")),
        again(STORE),
        Purge(("tag",)),
        again(ASKED, FRESH),
    ),
    _case(
        "groups",
        "tags may stand in Cache-Groups",
        fill(_tagged("Cache-Groups", '"a-{name}", "tag-{name}"')),
        again(STORE),
        Purge(("tag",)),
        again(ASKED, FRESH),
    ),
    _case(
        "several-addresses",
        "every address that carries the tag is gone",
        fill(_tagged(), target="/a"),
        fill(_tagged(), target="/b"),
        fill(FRESH, target="/c"),
        Purge(("tag",)),
        again(ASKED, FRESH, target="/a"),
        again(ASKED, FRESH, target="/b"),
        again(STORE, target="/c"),
    ),
    _case(
        "variants",
        "every variant is gone",
        fill(cc("max-age=3600", ("Cache-Tag", TAG), ("Vary", "Thing")), fields=(("Thing", "1"),)),
        fill(cc("max-age=3600", ("Cache-Tag", TAG), ("Vary", "Thing")), fields=(("Thing", "2"),)),
        Purge(("tag",)),
        again(ASKED, cc("no-store"), fields=(("Thing", "1"),)),
        again(ASKED, cc("no-store"), fields=(("Thing", "2"),)),
    ),
    _case(
        "path",
        "what lies at the path is gone, whatever its query",
        fill(FRESH, target="/a?x=1"),
        fill(FRESH, target="/b"),
        Purge(target="/a"),
        again(ASKED, FRESH, target="/a?x=1"),
        again(STORE, target="/b"),
    ),
    _case(
        "soft",
        "a soft purge makes stale: within stale-while-revalidate it is shown, and refreshed",
        fill(_tagged(control="max-age=3600, stale-while-revalidate=60")),
        Purge(("tag",), soft=True),
        again(Came.BEHIND, FRESH.but(delay_s=0.6), of=1),
    ),
    _case(
        "soft-validated",
        "a soft purge of what has no stale window is validated before it is shown",
        fill(cc("max-age=3600", ("Cache-Tag", TAG), ("ETag", '"a"'))),
        Purge(("tag",), soft=True),
        again(
            Came.VALIDATED, _tagged().or_304(("ETag", '"a"'), ("Cache-Tag", TAG), ("Cache-Control", "max-age=60")), of=1
        ),
    ),
    _case(
        "soft-must-revalidate",
        "must-revalidate: a soft purge is like a hard one",
        fill(_tagged(control="max-age=3600, must-revalidate, stale-while-revalidate=60")),
        Purge(("tag",), soft=True),
        again(ASKED, FRESH),
    ),
    _case(
        "not-shown-on-error",
        "what was purged is not shown when the origin fails",
        fill(_tagged(control="max-age=3600, stale-if-error=3600")),
        Purge(("tag",)),
        again(Came.ORIGIN, cc("no-store", status=503), status=503),
    ),
    _case(
        "404",
        "an error that is stored is purged like anything else",
        fill(cc("max-age=3600", ("Cache-Tag", TAG), status=404)),
        again(STORE, status=404),
        Purge(("tag",)),
        again(ASKED, FRESH, status=200),
    ),
    _case(
        "stored-again",
        "what is fetched after the purge is stored",
        fill(_tagged()),
        Purge(("tag",)),
        again(ASKED, _tagged()),
        again(STORE, of=2),
    ),
    _in_flight("in-flight", "a fill that began before the purge is not kept", HELD, purge=Purge(("tag",))),
    _in_flight(
        "in-flight-path", "a fill that began before the purge of its path is not kept", HELD, purge=Purge(target="")
    ),
    _in_flight(
        "in-flight-range",
        "a fill for a part that began before the purge is not kept",
        _tagged().but(delay_s=0.6, body=b"0123456789"),
        purge=Purge(("tag",)),
        status=(200, 206),
        fields=(("Range", "bytes=2-5"),),
        contains=b"2345",
    ),
    _in_flight(
        "in-flight-long",
        "a long fill that began before the purge is not kept",
        _tagged().but(body=b"x" * 600_000, pause_s=0.6),
        purge=Purge(("tag",)),
    ),
    _in_flight(
        "in-flight-304",
        "a 304 to a question that was asked before the purge makes nothing fresh",
        HELD.or_304(("ETag", '"a"'), ("Cache-Control", "max-age=3600"), ("Cache-Tag", TAG)),
        _tagged(),
        purge=Purge(("tag",)),
        before=(fill(cc("max-age=60", ("Age", "60"), ("Cache-Tag", TAG), ("ETag", '"a"'))),),
    ),
    _in_flight(
        "in-flight-refresh",
        "a refresh in the background that began before the purge is not kept",
        HELD,
        purge=Purge(("tag",)),
        before=(fill(cc("max-age=60, stale-while-revalidate=600", ("Age", "70"), ("Cache-Tag", TAG))),),
        after=(Landed(2),),
        since=(3, 4),
    ),
    _case(
        "in-flight-joined",
        "who arrives after the purge does not share a fill that began before it",
        Together(
            (ask(HELD, came=ANY), ask(came=ANY, after_purge=True, of=(2, 3))),
            purge=Purge(("tag",)),
            purge_after_s=0.2,
        ),
    ),
    _case("pause", "nothing purged, nothing gone", fill(_tagged()), Pause(0.3), again(STORE), ask(ok(), target="/x")),
)
