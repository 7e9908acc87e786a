"""Many at once (RFC 9111 §4): one request to the origin for a crowd, and nothing shown to whom it is not for."""

from __future__ import annotations

from tests.conformance.script import (
    FRESH,
    INFORMATION,
    OPTIONAL,
    REQUIRED,
    RESET,
    STALE_IN_S,
    Answer,
    Ask,
    Came,
    Framing,
    Landed,
    Pause,
    Together,
    again,
    ask,
    case,
    cc,
    fill,
)

ANY, STORE = Came.ANY, Came.STORE
HELD_S = 0.6
"""How long the origin holds an answer back, so that everybody else is there by then."""
HELD = FRESH.but(delay_s=HELD_S)


def _crowd(size: int, *answers: Answer, **others) -> tuple[Ask, ...]:
    """So many who ask for the same."""
    return (ask(*answers, came=ANY, **others), *(ask(came=ANY, **others) for _ in range(size - 1)))


def _own(*answers: Answer, **others) -> tuple[Ask, ...]:
    return tuple(
        ask(*(answers if not n else ()), came=ANY, fields=(("Cookie", f"viewer={n}"),), **others) for n in range(6)
    )


CASES = (
    case(
        "crowd-cold",
        "9111 §4",
        OPTIONAL,
        "a cold crowd costs one request",
        Together(_crowd(20, HELD), asked=(1, 1), alike=True),
    ),
    case(
        "crowd-cold-at-once",
        "9111 §4",
        OPTIONAL,
        "a cold crowd waits no longer than its answer takes",
        Together(_crowd(20, HELD), asked=(1, 1), alike=True, within_s=HELD_S + 0.5),
    ),
    case(
        "crowd-stale",
        "9111 §4",
        OPTIONAL,
        "a crowd that meets something stale costs one validation",
        fill(cc("max-age=1", ("ETag", '"a"'))),
        Pause(STALE_IN_S),
        Together(_crowd(10, HELD.or_304(("ETag", '"a"'), ("Cache-Control", "max-age=3600"))), asked=(1, 1), alike=True),
    ),
    case(
        "crowd-query",
        "9111 §4",
        REQUIRED,
        "other addresses are asked for by themselves",
        Together(
            (
                ask(HELD, came=ANY, target="?a=1", of=(1, 2)),
                ask(HELD, came=ANY, target="?a=2", of=(1, 2)),
            ),
            asked=(2, 2),
            apart=True,
        ),
    ),
    case(
        "crowd-private",
        "9111 §5.2.2.7",
        REQUIRED,
        "what turns out to be private is shown to one viewer only",
        Together(_own(cc("private, max-age=3600").but(delay_s=HELD_S)), asked=(6, 6), apart=True),
    ),
    case(
        "crowd-no-store",
        "9111 §5.2.2.5",
        REQUIRED,
        "what turns out to be no-store is shown to one viewer only",
        Together(_own(cc("no-store").but(delay_s=HELD_S)), asked=(6, 6), apart=True),
    ),
    case(
        "crowd-set-cookie",
        "9111 §7.3",
        OPTIONAL,
        "an answer with Set-Cookie is shown to one viewer only",
        Together(_own(cc("max-age=3600", ("Set-Cookie", "a=1")).but(delay_s=HELD_S)), asked=(6, 6), apart=True),
    ),
    case(
        "crowd-private-parallel",
        "9111 §4",
        OPTIONAL,
        "once an answer turns out to be private, all others ask at once and not one after the other",
        Together(_own(cc("private").but(delay_s=HELD_S)), apart=True, within_s=3 * HELD_S),
    ),
    case(
        "crowd-private-remembered",
        "9111 §4",
        OPTIONAL,
        "that an answer was private is remembered: the next crowd does not wait for anybody",
        fill(cc("private")),
        Together(_own(cc("private").but(delay_s=HELD_S)), apart=True, within_s=1.75 * HELD_S),
    ),
    case(
        "crowd-private-long",
        "9111 §5.2.2.7",
        OPTIONAL,
        "that it is private is seen from its head: nobody waits for its body",
        Together(
            _own(cc("private", body=b"x" * 200_000).but(pause_s=1.0)),
            apart=True,
            within_s=1.7,
        ),
    ),
    case(
        "crowd-variants",
        "9111 §4.1",
        REQUIRED,
        "each of a crowd is shown its own variant",
        fill(cc("max-age=1", ("Vary", "Thing")), fields=(("Thing", "zero"),)),
        Pause(STALE_IN_S),
        Together(
            tuple(
                ask(
                    *([cc("max-age=3600", ("Vary", "Thing")).but(delay_s=HELD_S)] if not n else []),
                    came=ANY,
                    fields=(("Thing", f"{n}"),),
                )
                for n in range(4)
            ),
            asked=(4, 4),
            apart=True,
        ),
    ),
    case(
        "crowd-variants-cold",
        "9111 §4.1",
        REQUIRED,
        "each of a cold crowd is shown its own variant",
        Together(
            tuple(
                ask(
                    *([cc("max-age=3600", ("Vary", "Thing")).but(delay_s=HELD_S)] if not n else []),
                    came=ANY,
                    fields=(("Thing", f"{n}"),),
                )
                for n in range(4)
            ),
            asked=(4, 4),
            apart=True,
        ),
    ),
    case(
        "crowd-authorization",
        "9111 §3.5",
        REQUIRED,
        "each of a crowd with credentials is shown its own answer",
        Together(
            tuple(
                ask(
                    *([cc("max-age=3600").but(delay_s=HELD_S)] if not n else []),
                    came=ANY,
                    fields=(("Authorization", f"Basic {n}"),),
                )
                for n in range(4)
            ),
            asked=(4, 4),
            apart=True,
        ),
    ),
    case(
        "crowd-authorization-and-not",
        "9111 §3.5",
        REQUIRED,
        "who comes without credentials is not shown what somebody with them is waiting for",
        Together(
            (
                ask(cc("max-age=3600").but(delay_s=HELD_S), came=ANY, fields=(("Authorization", "Basic YTpi"),)),
                ask(came=ANY, before_s=0.15),
            ),
            asked=(2, 2),
            apart=True,
        ),
    ),
    case(
        "crowd-post",
        "9110 §9.3.3",
        REQUIRED,
        "POSTs are forwarded one by one",
        Together(_crowd(4, HELD, method="POST", body=b"x"), asked=(4, 4), apart=True),
    ),
    case(
        "crowd-post-and-get",
        "9110 §9.3.3",
        REQUIRED,
        "GET is not shown what POST is waiting for",
        Together(
            (
                ask(cc("max-age=3600").but(delay_s=HELD_S), came=ANY, method="POST", body=b"x"),
                ask(cc("max-age=3600").but(delay_s=HELD_S), came=ANY, before_s=0.1),
            ),
            asked=(2, 2),
            apart=True,
        ),
    ),
    case(
        "crowd-error",
        "9111 §4",
        OPTIONAL,
        "a crowd that meets an error is answered at once, not one after the other",
        Together(_crowd(8, cc("no-store", status=500).but(delay_s=HELD_S), status=(500, 503)), within_s=3 * HELD_S),
    ),
    case(
        "crowd-first-fails",
        "9111 §4",
        OPTIONAL,
        "a connection that breaks for the first fails at most the first",
        Together(_crowd(6, RESET.but(delay_s=0.2), FRESH.but(delay_s=0.1), status=(200,)), within_s=2.0),
    ),
    case(
        "crowd-first-leaves",
        "9111 §4",
        OPTIONAL,
        "when the first viewer leaves, the others get their answer, and it costs no second request",
        Together((ask(HELD, came=ANY, hangs_up_after_s=0.3), *_crowd(4)), asked=(1, 1), alike=True),
    ),
    case(
        "crowd-all-leave",
        "9111 §4",
        OPTIONAL,
        "what was being fetched is stored though its only viewer has left",
        Together((ask(HELD, came=ANY, hangs_up_after_s=0.3),)),
        Landed(1),
        again(STORE, of=1),
    ),
    case(
        "crowd-head-and-get",
        "9110 §9.3.2",
        REQUIRED,
        "HEAD and GET at once: each gets its own",
        Together(
            (
                ask(HELD, came=ANY, method="HEAD", status=200),
                ask(HELD, came=ANY, status=200, before_s=0.05),
            )
        ),
        again(ANY, FRESH, status=200),
    ),
    case(
        "crowd-max-age-0",
        "9111 §4",
        INFORMATION,
        "what is stale at once is shown to those who were already waiting",
        Together(_crowd(5, cc("max-age=0").but(delay_s=HELD_S)), asked=(1, 1), alike=True),
    ),
    case(
        "crowd-max-age-0-later",
        "9111 §4",
        REQUIRED,
        "what is stale at once is not shown to who comes after it",
        Together(_crowd(3, cc("max-age=0").but(delay_s=0.1))),
        again(Came.ASKED, FRESH),
    ),
    case(
        "crowd-ranges",
        "9110 §14.2",
        REQUIRED,
        "ranges of one address at once: each gets its own bytes",
        Together(
            (
                ask(
                    cc("max-age=3600", ("ETag", '"a"'), body=b"0123456789").but(delay_s=HELD_S),
                    came=ANY,
                    fields=(("Range", "bytes=0-4"),),
                    status=(200, 206),
                    contains=b"01234",
                ),
                ask(came=ANY, fields=(("Range", "bytes=5-9"),), status=(200, 206), contains=b"56789"),
                ask(came=ANY, status=200, shows=b"0123456789"),
            )
        ),
    ),
    case(
        "stream-first-bytes",
        "9112 §6",
        OPTIONAL,
        "a long answer begins before it has ended at the origin",
        again(Came.ORIGIN, cc("max-age=3600", body=b"x" * 600_000).but(pause_s=0.6), streams=True),
        again(STORE),
    ),
    case(
        "stream-chunked",
        "9112 §6",
        OPTIONAL,
        "a long answer in chunks begins before it has ended at the origin",
        again(
            Came.ORIGIN,
            cc("max-age=3600", body=b"x" * 600_000).but(pause_s=0.6, framing=Framing.CHUNKED),
            streams=True,
        ),
        again(STORE),
    ),
    case(
        "stream-unstored",
        "9112 §6",
        OPTIONAL,
        "a long answer that is not stored begins before it has ended at the origin",
        again(Came.ORIGIN, cc("no-store", body=b"x" * 600_000).but(pause_s=0.6), streams=True),
    ),
    case(
        "stream-shared",
        "9111 §4",
        OPTIONAL,
        "who comes while a long answer is under way reads along, and begins before it has ended",
        Together(
            (
                ask(cc("max-age=3600", body=b"x" * 600_000).but(pause_s=0.9), came=ANY, streams=True),
                ask(came=ANY, before_s=0.3, streams=True),
                ask(came=ANY, before_s=0.4, streams=True),
            ),
            asked=(1, 1),
            alike=True,
        ),
    ),
    case(
        "stream-cut",
        "9111 §3.3",
        REQUIRED,
        "a long answer that is cut while several read it is whole for none of them, and not kept",
        Together(
            (
                ask(cc("max-age=3600", body=b"x" * 600_000).but(pause_s=0.4, cut_after=500_000), came=Came.FAILED),
                ask(came=Came.FAILED, before_s=0.2),
            )
        ),
        again(Came.ASKED, FRESH),
    ),
)
