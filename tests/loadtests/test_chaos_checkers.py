"""The judges of a history, each with violations planted for it: a judge that finds nothing proves nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pytest

from loadtests.chaos.checkers import (
    AFTERMATH_S,
    CALM_WINDOW_S,
    ENOUGH_CALM,
    KEPT,
    MORE_FILES,
    MORE_MEMORY_BYTES,
    PURGE,
    RECOVERY_S,
    SOON_S,
    Verdicts,
)
from loadtests.chaos.history import (
    Began,
    Broken,
    Committed,
    Doubtful,
    Ended,
    Event,
    Felt,
    Live,
    Looked,
    Mended,
    NotBroken,
    Other,
    Price,
    Refused,
    Repaired,
    Seen,
    Session,
    Settled,
    Used,
)
from loadtests.chaos.report import rendered
from loadtests.chaos.tally import MADE_AND_NEVER_FELT, Tally
from loadtests.oracle import PriceKey

SESSION = Session(
    seed=1,
    number=0,
    started_at="2026-01-01T00:00:00+00:00",
    edges=("us", "eu"),
    prices=(Price(PriceKey("eu-eur", "SKU-1"), 1000), Price(PriceKey("us-usd", "SKU-2"), 500)),
)
LIVE: list[Event] = [Began(1.0, 1, 0, 1200), Committed(1.1, 1, "1.8"), Live(1.5, 1)]
"""1000 until 1200 becomes live at 1.5."""
BITTEN: list[Event] = [Broken(0.5, 1, "cut", "cut eu"), Felt(0.6, 1, "felt on 3 connections"), Mended(0.7, 1)]
CALM: list[Event] = [
    Seen(0.2, 0.1, edge, "/", ((0, 1000),), "hit") for edge in ("us", "eu") for _ in range(ENOUGH_CALM)
]
OVER: list[Event] = [Repaired(8.0, 0, "eu-1", 0.2, 0.3), Looked(9.0, "edges", ""), Ended(9.1)]


def seen(sent: float, amount: int, at: float | None = None, key: int = 0) -> Seen:
    return Seen(sent + 0.01 if at is None else at, sent, "eu", "/eu-eur/products/one", ((key, amount),), "hit")


def judged(events: Sequence[Event]) -> Verdicts:
    verdicts = Verdicts(SESSION)
    for event in events:
        verdicts.see(event)
    return verdicts


@pytest.mark.parametrize(
    "events",
    [
        pytest.param([*LIVE, seen(2.0, 1200)], id="the new price"),
        pytest.param([seen(0.5, 1000), *LIVE], id="the old price before"),
        pytest.param([*LIVE[:2], seen(1.4, 1000), LIVE[2]], id="the old price while the change is on its way"),
        pytest.param([*LIVE[:2], seen(1.4, 1000, at=3.0), LIVE[2]], id="asked before live, answered long after"),
        pytest.param([*LIVE, seen(2.0, 500, key=1)], id="another price"),
        pytest.param([Began(1.0, 1, 0, 1200), Doubtful(1.9, 1), seen(2.0, 1200)], id="a doubtful one that is there"),
        pytest.param([Began(1.0, 1, 0, 1200), Doubtful(1.9, 1), seen(2.0, 1000)], id="a doubtful one that is not"),
        pytest.param(
            [Began(1.0, 1, 0, 1200), Doubtful(1.9, 1), seen(2.0, 1200), Settled(2.5, 1, False), seen(2.6, 1000)],
            id="shown by a primary that was lost, and then no more",
        ),
        pytest.param(
            [Began(1.0, 1, 0, 1200), Doubtful(1.9, 1), Settled(2.5, 1, False), seen(2.4, 1200, at=2.6)],
            id="asked before it was certain that it is gone",
        ),
        pytest.param([*LIVE, Looked(9.0, "edges", "")], id="everything as before at the end"),
        pytest.param([*LIVE, Repaired(3.0, 0, "eu-1", 1.9, 1.9)], id="repaired in time"),
        pytest.param([*LIVE, Repaired(9.0, 0, "eu-1", 1.9, 7.0)], id="in time once the origin ran again"),
        pytest.param([*LIVE, Repaired(9.0, 0, "eu-1", 3.0, 7.0, True)], id="a worker that begins anew"),
        pytest.param(
            [
                Used(1.0, "eu-1", 100, 20),
                Used(2.0, "eu-1", 100 + MORE_MEMORY_BYTES, 20 + MORE_FILES),
                Used(3.0, "eu-2", 9 * MORE_MEMORY_BYTES, 9 * MORE_FILES),
            ],
            id="as much as a process may grow",
        ),
        pytest.param([*LIVE[:2], Looked(2.0, "prices of the session before", "")], id="a look at the beginning"),
        pytest.param([Began(1.0, 1, PURGE, 0), Committed(1.1, 1, "1.8"), Live(1.5, 1)], id="a purge"),
        pytest.param([Began(1.0, 1, 0, 1200), Refused(1.1, 1), seen(2.0, 1000)], id="a change that was refused"),
        pytest.param([*LIVE[:2]], id="an observer that was killed before the change was live"),
        pytest.param([*LIVE, Other(2.0, 1.9, "eu", "/eu-eur/", 200, True, "marked")], id="prices being confirmed"),
        pytest.param([*LIVE, Other(2.0, 1.9, "eu", "/api/v1/eu-eur/prices/SKU-1", 503, False, "")], id="a failure"),
    ],
)
def test_what_is_right_is_not_called_wrong(events):
    assert judged(events).wrong() == []


@pytest.mark.parametrize(
    ("events", "words"),
    [
        pytest.param([*LIVE, seen(1.6, 1000)], ["superseded", "0.100 s before", "expected 1200"], id="an old price"),
        pytest.param(
            [*LIVE, Began(2.0, 2, 0, 1300), Committed(2.1, 2, "1.9"), seen(2.2, 1200), seen(2.2, 1000)],
            ["superseded", "for 1000"],
            id="the last but one, while another is on its way",
        ),
        pytest.param([*LIVE, seen(2.0, 777)], ["alien", "for 777"], id="a price that was never set"),
        pytest.param([*LIVE, seen(0.2, 1200, at=0.9)], ["unborn"], id="before it was asked for"),
        pytest.param(
            [Began(1.0, 1, 0, 1200), Refused(1.1, 1), seen(2.0, 1200)], ["alien"], id="a price that was refused"
        ),
        pytest.param(
            [Began(1.0, 1, 0, 1200), Doubtful(1.9, 1), Settled(2.5, 1, False), seen(2.6, 1200)],
            ["ghost"],
            id="the price of a database that was lost",
        ),
        pytest.param([*LIVE, Settled(3.0, 1, False)], ["is gone from the shop"], id="a live change is gone"),
        pytest.param(
            [*LIVE[:2], Settled(3.0, 1, False)], ["1.8", "is gone from the shop"], id="a confirmed change is gone"
        ),
        pytest.param([*LIVE[:2], Ended(9.0)], ["1.8", "never became live"], id="a lost purge"),
        pytest.param(
            [Began(1.0, 1, PURGE, 0), Committed(1.1, 1, "1.8"), Ended(9.0)],
            ["never became live"],
            id="a lost purge that somebody ordered",
        ),
        pytest.param([Repaired(3.0, 4, "eu-1", 2.1, 2.1)], ["episode 4", "eu-1", "2.10 s"], id="repaired too late"),
        pytest.param([Repaired(3.0, 4, "eu-1", None, 20.0)], ["eu-1 did not"], id="never repaired"),
        pytest.param([Repaired(3.0, 4, "eu-1", None, 20.0, True)], ["eu-1 did not"], id="never up to date anew"),
        pytest.param(
            [Used(1.0, "eu-1", 100, 20), Used(2.0, "eu-1", 101 + MORE_MEMORY_BYTES, 20), Used(3.0, "eu-1", 90, 20)],
            ["eu-1 has grown", "2.000 s", "since 1 s"],
            id="memory that is not given back in time",
        ),
        pytest.param(
            [Used(1.0, "eu-1", 100, 20), Used(2.0, "eu-1", 100, 21 + MORE_FILES)],
            ["eu-1 has grown", f"{MORE_FILES + 1} open files"],
            id="files that are not closed",
        ),
        pytest.param([Looked(9.0, "edges", "eu is dead")], ["edges: eu is dead"], id="not as before"),
        pytest.param(
            [Other(2.0, 1.9, "eu", "/eu-eur/", 200, True, "unreadable: not gzip")], ["not gzip"], id="a hidden price"
        ),
    ],
)
def test_what_is_wrong_is_found(events, words):
    wrong = judged(events).wrong()
    assert len(wrong) == 1
    assert [word for word in words if word not in wrong[0]] == []


def test_many_of_a_kind_are_counted_and_few_are_told():
    found = judged([*LIVE, *(seen(2.0 + n, 1000) for n in range(KEPT + 5))])
    assert found.promise.old_prices == KEPT + 5
    assert len(found.wrong()) == KEPT + 1
    assert "5 more" in found.wrong()[-1]


def test_only_what_could_have_been_wrong_counts_as_telling():
    found = judged([seen(0.5, 1000), *LIVE, seen(2.0, 1200), seen(2.0, 500, key=1), seen(1.6 + SOON_S, 1200)])
    assert (found.promise.answers, found.promise.telling, found.promise.soon) == (4, 2, 1)


def test_an_answer_is_judged_by_what_was_live_when_it_was_asked_for():
    """Neither by what had become live when it came, nor by what was live first."""
    again = [*LIVE, Began(3.0, 2, 0, 1300), Committed(3.1, 2, "1.9"), Live(3.5, 2)]
    assert judged([*again, seen(3.49, 1200, at=5.0)]).wrong() == []
    assert "superseded" in judged([*again, seen(3.51, 1200)]).wrong()[0]


@pytest.mark.parametrize("cache", ["hit, stale (stale-if-error)", "hit, stale", "fwd=stale"])
def test_saying_that_it_is_stale_excuses_no_answer(cache):
    assert "superseded" in judged([*LIVE, seen(1.6, 1000)._replace(cache=cache)]).wrong()[0]


def test_times_to_live_with_and_without_faults_are_told_apart():
    found = judged(
        [
            *LIVE,
            Began(10.0, 2, 0, 1300),
            Broken(10.1, 1, "cut", "cut eu"),
            Live(13.0, 2),
            Mended(20.0, 1),
            Began(20.0 + AFTERMATH_S / 2, 3, 0, 1400),
            Live(22.0, 3),
            Began(30.0, 4, 0, 1500),
            Live(30.25, 4),
        ]
    )
    assert (found.latencies.calm.count, found.latencies.faulty.count) == (2, 2)
    assert found.latencies.calm.highest_us == 500_000
    assert found.latencies.faulty.highest_us == 3_000_000


def test_a_fault_that_could_not_be_made_is_none():
    found = judged(
        [Broken(1.0, 1, "cut", "cut eu"), NotBroken(1.1, 1, "cut", "no relay"), Broken(2.0, 2, "cut", "cut eu")]
    )
    assert Tally.of(found).made == {"cut": 1}


def test_a_fault_of_which_nothing_was_seen_does_not_count():
    found = Tally.of(judged([*BITTEN, Broken(2.0, 2, "cut", "cut eu"), Mended(3.0, 2)]))
    assert (found.made["cut"], found.felt["cut"], found.faults) == (2, 1, 1)


def test_failures_are_counted_by_edge():
    found = judged(
        [seen(1.0, 1000), Other(2.5, 2.4, "eu", "/eu-eur/", 502, True, ""), seen(2.6, 1000), seen(3.0, 1000)]
    )
    assert (found.availability.failed, found.availability.answered) == ({"eu": 1}, {"eu": 3})


def failures(sent: float, count: int = ENOUGH_CALM) -> list[Event]:
    return [Other(sent + 0.5, sent, "eu", "/eu-eur/", 503, True, "") for _ in range(count)]


def works(sent: float, count: int = ENOUGH_CALM, edge: str = "eu") -> list[Event]:
    return [Seen(sent + 0.01, sent, edge, "/eu-eur/products/one", ((0, 1000),), "hit") for _ in range(count)]


def test_an_edge_that_fails_throughout_is_wrong():
    (wrong,) = judged([*failures(1.0), *failures(2.0)]).wrong()
    assert wrong.startswith(f"edge eu failed {2 * ENOUGH_CALM} of {2 * ENOUGH_CALM} requests while nothing was broken")
    assert judged([*failures(1.0, 2), *works(1.0, 18)]).wrong() == []
    assert judged([*failures(1.0, 3), *works(1.0, 18)]).wrong() != []


@pytest.mark.parametrize("code", [0, 404, 429, 500, 503])
def test_whatever_is_no_page_is_a_failure(code):
    refused = [failure._replace(code=code) for failure in failures(1.0) if isinstance(failure, Other)]
    assert "edge eu failed" in judged(refused).wrong()[0]


def test_an_edge_that_fails_for_a_while_is_wrong_however_well_it_did_before():
    long = [event for second in range(100) for event in works(float(second), 50)]
    assert judged([*long, *failures(101.0), *works(102.0)]).wrong() != []
    assert judged([*long, *failures(101.0, 2), *works(102.0)]).wrong() == []


def test_calm_seconds_are_judged_together_whatever_was_broken_in_between():
    """None of these moments holds enough to be judged by itself."""

    def moment(at: float, number: int) -> list[Event]:
        return [*failures(at, 5), Broken(at + 1.0, number, "cut", "cut all"), Mended(at + 1.5, number)]

    apart_s = RECOVERY_S + 3.0
    moments = [event for number in range(5) for event in moment(1.0 + number * apart_s, number)]
    (wrong,) = judged(moments).wrong()
    assert "failed 20 of 20" in wrong


@pytest.mark.parametrize(
    ("edge", "at_eu"),
    [
        pytest.param(None, False, id="what all edges share"),
        pytest.param("eu", False, id="the edge itself"),
        pytest.param("us", True, id="another edge"),
    ],
)
def test_only_faults_of_its_own_or_of_what_all_share_excuse_an_edge(edge, at_eu):
    broken: list[Event] = [Broken(0.5, 1, "cut", "cut", edge)]
    assert bool(judged([*broken, *failures(5.0)]).wrong()) is at_eu
    repaired: list[Event] = [Mended(5.5, 1), Repaired(9.0, 0, "us-1", 1.0, 3.5), Repaired(9.0, 0, "eu-1", 1.0, 3.5)]
    assert bool(judged([*broken, *repaired, *failures(9.5)]).wrong()) is at_eu
    # An excuse is for one episode.
    later: list[Event] = [Broken(30.0, 2, "cut", "cut us", "us"), Mended(30.1, 2), Repaired(33.0, 1, "eu-1", 1.0, 2.9)]
    assert judged([*broken, *repaired, *later, *failures(33.5)]).wrong() != []


def test_an_edge_that_fails_whenever_another_is_broken_is_found_among_many_faults():
    events: list[Event] = works(1.0, 6_000)
    for number in range(10, 40):
        at = number * 20.0
        events += [Broken(at, number, "kill edge", "kill us", "us"), *failures(at + 1.0, 50), Mended(at + 2.0, number)]
        events += [Repaired(at + 2.1, number, "eu-1", 0.1, 0.2), *works(at + 15.0, 100)]
    assert any("edge eu failed" in text for text in judged(events).wrong())


def test_how_much_was_judged_is_told():
    other: list[Event] = [Broken(10.0, 1, "cut", "cut us", "us"), *works(12.0), Mended(20.0, 1)]
    events = [*works(1.0), *works(2.0, edge="us"), *other, *works(21.0, edge="us"), Ended(36.0)]
    found = Tally.of(judged(events))
    assert found.calm_answers == {"us": ENOUGH_CALM, "eu": 2 * ENOUGH_CALM}
    assert found.calm_s == {"us": 10 + 16 - RECOVERY_S, "eu": 36}
    assert f"eu {2 * ENOUGH_CALM}, us {ENOUGH_CALM}; for eu 36, us 20 s" in rendered(found)
    assert CALM_WINDOW_S > 0


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(0.65, id="while something is broken"),
        pytest.param(0.7 + RECOVERY_S / 2, id="right after it"),
        pytest.param(5.0 + RECOVERY_S / 2, id="right after the repair"),
    ],
)
def test_an_edge_may_fail_while_something_is_broken(sent):
    repaired = [Repaired(5.0, 0, "eu-1", 1.0, 4.3)] if sent > 5.0 else []
    assert judged([*BITTEN[:2], *failures(0.65), BITTEN[2], *repaired, *failures(sent)]).wrong() == []
    assert judged([*BITTEN, *repaired, *failures(5.0 + RECOVERY_S)]).wrong() != []


def test_a_run_that_could_not_have_failed_has_not_passed():
    assert not Tally.of(judged([])).passed
    whole = [*CALM, *BITTEN, *LIVE, seen(2.0, 1200), *OVER]
    assert Tally.of(judged(whole)).passed
    assert "not proved: edge us: 19 answers" in rendered(Tally.of(judged(whole[1:])))
    for missing in (BITTEN[1], LIVE[2], whole[-4], *OVER[::2]):
        assert not Tally.of(judged([event for event in whole if event is not missing])).passed


def test_a_kind_of_fault_that_never_bites_was_not_tried():
    def with_cuts(count: int, felt: int = 0) -> Tally:
        cuts: list[Event] = [Broken(3.0, 2 + number, "stall", "stall eu") for number in range(count)]
        cuts += [Felt(3.1, 2 + number, "felt on 3 connections") for number in range(felt)]
        return Tally.of(judged([*CALM, *BITTEN, *LIVE, seen(2.0, 1200), *cuts, *OVER]))

    assert with_cuts(MADE_AND_NEVER_FELT - 1).passed
    assert with_cuts(MADE_AND_NEVER_FELT, felt=1).passed
    found = with_cuts(MADE_AND_NEVER_FELT)
    assert not found.passed
    assert "not proved: stall: tried 10 times, made 10 times and never seen to bite" in rendered(found)
    # In all sessions of a run together.
    halves = with_cuts(MADE_AND_NEVER_FELT - 1)
    halves.add(with_cuts(1))
    assert not halves.passed


def test_a_kind_of_fault_that_is_refused_every_time_was_not_tried():
    refused: list[Event] = []
    for number in range(2, 2 + MADE_AND_NEVER_FELT):
        refused += [Broken(3.0, number, "stall", "stall eu"), NotBroken(3.0, number, "stall", "no relay")]
        refused += [Mended(3.1, number)]
    whole = [*CALM, *BITTEN, *LIVE, seen(2.0, 1200)]
    assert Tally.of(judged([*whole, *refused[3:], *OVER])).passed
    found = Tally.of(judged([*whole, *refused, *OVER]))
    assert not found.passed
    assert "not proved: stall: tried 10 times, made 0 times and never seen to bite" in rendered(found)
    assert "could not be made            stall 10" in rendered(found)


def test_the_last_session_has_to_end_and_how_many_did_is_told():
    def session(*events: Event) -> Tally:
        return Tally.of(judged([*CALM, *BITTEN, *LIVE, seen(2.0, 1200), *events]))

    resumed = session(OVER[0])
    resumed.add(session(*OVER))
    assert resumed.passed
    assert "2 sessions, ended: 1" in rendered(resumed)
    stopped = session(*OVER)
    stopped.add(session(OVER[0]))
    assert stopped.unproved == ["nobody looked at the end"]


def test_under_which_load_each_session_ran_is_told():
    loads = ["350 requests/s", "700 requests/s", "350 requests/s"]
    whole = Tally()
    for load in loads:
        whole.add(Tally.of(Verdicts(dataclasses.replace(SESSION, load=load))))
    assert "350 requests/s: 2 sessions" in rendered(whole)
    assert "700 requests/s: 1 session\n" in rendered(Tally.from_json(whole.to_json()))


def test_sessions_add_up():
    whole = Tally()
    used = [Used(1.0, "eu-1", 100, 20), Used(2.0, "eu-1", 105, 23)]
    whole.add(Tally.of(judged([*BITTEN, *LIVE, seen(2.0, 1200), *used])))
    whole.add(Tally.from_json(Tally.of(judged([*BITTEN, *LIVE, seen(1.6, 1000), *used[:1], *OVER])).to_json()))
    assert (whole.sessions, whole.ended, whole.faults, whole.live, whole.old_prices) == (2, 1, 2, 2, 1)
    assert (whole.most_memory_bytes, whole.most_files) == (5, 3)
    assert whole.faulty.count == 2
    assert not whole.passed
    assert "superseded" in whole.wrong[0]
