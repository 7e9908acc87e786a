"""The invariants themselves: each is broken on purpose, and the same story without the mistake breaks none."""

from __future__ import annotations

import pytest

from cache_policies.positions import Position, PurgeKind
from tests.simulation.coverage import Coverage
from tests.simulation.promise import Asked, Invariant, Promise, Standing, Violation
from tests.simulation.waiting import Waiting

OLD, NEW, NEWER = 1, 2, 3
START = Position(1, 1)


class Told:
    """A truth with one row that was OLD at 1.1 and became NEW at 1.5."""

    def __init__(self, kind: PurgeKind = PurgeKind.HARD) -> None:
        self.violations: list[Violation] = []
        self.coverage = Coverage()
        self.promise = Promise(self.coverage, lambda: 7.0, self.violations.append)
        self.promise.begins_with("price:boot", kind, OLD, START)
        self.write(NEW, Position(1, 5))

    def write(self, number: int, position: Position, *, survives: bool = False, confirmed: bool = False) -> None:
        change = self.promise.wanted("price:boot", number, survives=survives)
        change.confirmed = confirmed
        self.promise.committed(position, [("price:boot", number)])

    def live(self, position: Position, *workers: Standing, refuses: bool = True, live: bool = True) -> None:
        self.promise.reported(position, workers, live=live, floors_of=lambda worker, at: refuses)

    def asked(self, applied: Position = START) -> Asked:
        return Asked("eu/1", "price of boot", 6.0, self.promise.reports, applied)

    def served(self, number: int, detail: str = "", asked: Asked | None = None) -> list[Invariant]:
        """Which invariants an answer breaks."""
        before = len(self.violations)
        self.promise.served(asked or self.asked(), (("price:boot", number),), lambda: detail)
        return [violation.invariant for violation in self.violations[before:]]


def test_what_was_live_when_it_was_asked_for_must_be_shown():
    told = Told()
    early = told.asked()
    told.live(Position(1, 5))
    assert told.served(OLD, asked=early) == []
    assert told.served(NEW) == []
    assert told.served(OLD) == [Invariant.PROMISE]
    assert "1.5 had been reported" in told.violations[0].text


def test_shown_promises_the_same_of_edges_and_nothing_of_a_promotion():
    told = Told()
    told.live(Position(1, 5), Standing("eu/1", True, True, Position(1, 4)), live=False)
    assert [violation.invariant for violation in told.violations] == [Invariant.EVIDENCE]
    assert told.served(OLD) == [Invariant.PROMISE]
    told.promise.promoted(2, 4)
    assert told.served(OLD) == []
    told.live(Position(1, 5), live=False)
    assert told.served(OLD) == []
    assert len(told.violations) == 2


def test_only_what_was_live_before_counts_as_checked():
    told = Told()
    told.served(NEW)
    assert (told.promise.counts.served, told.promise.counts.checked) == (1, 0)
    told.live(Position(1, 5))
    told.served(NEW)
    assert (told.promise.counts.served, told.promise.counts.checked) == (2, 1)


def test_a_page_marked_as_stale_presents_nothing_as_current_and_floors_hold_all_the_same():
    told = Told()
    told.live(Position(1, 5))
    assert told.served(OLD, "stale-marked") == []
    assert told.served(OLD, "stale-if-error") == [Invariant.PROMISE]
    assert told.served(OLD, "stale-marked", told.asked(Position(1, 5))) == [Invariant.FLOORS]


def test_a_live_report_of_a_later_change_is_about_that_one_only():
    told = Told()
    told.write(NEWER, Position(1, 6))
    told.live(Position(1, 6))
    assert told.served(NEW) == [Invariant.PROMISE]
    told.live(Position(1, 5))
    assert told.served(NEW) == [Invariant.PROMISE]
    assert told.served(NEWER) == []


def test_what_a_soft_purge_named_is_shown_as_stale_only():
    told = Told(PurgeKind.SOFT)
    told.live(Position(1, 5))
    assert told.served(OLD, "purged-soft") == []
    assert told.served(OLD, "stale-while-revalidate") == []
    assert told.served(OLD) == [Invariant.SOFT]
    assert told.served(OLD, asked=told.asked(Position(1, 5))) == [Invariant.SOFT, Invariant.SOFT]


def test_what_nobody_committed_must_not_be_shown():
    told = Told()
    told.promise.wanted("price:boot", NEWER, survives=False)
    assert told.served(NEWER) == [Invariant.PROMISE]


def test_a_ghost_may_be_shown_until_the_worker_has_applied_the_record_of_the_epoch():
    told = Told()
    told.promise.promoted(2, 4)
    assert told.served(NEW) == []
    assert told.served(NEW, asked=told.asked(Position(2, 5))) == [Invariant.GHOSTS]
    assert told.served(OLD, asked=told.asked(Position(2, 5))) == []


@pytest.mark.parametrize("promise", ["live", "safe"])
def test_what_was_live_or_to_survive_must_not_be_lost(promise):
    told = Told()
    told.write(NEWER, Position(1, 6), survives=promise == "safe", confirmed=promise == "safe")
    if promise == "live":
        told.live(Position(1, 6))
    told.promise.promoted(2, 5)
    assert [violation.invariant for violation in told.violations] == [Invariant.SURVIVES]
    assert {"live": "reported live before", "safe": "as one that survives"}[promise] in told.violations[0].text


def test_nobody_is_told_that_what_is_lost_already_is_safe():
    told = Told()
    safe, local = (told.promise.wanted("price:boot", NEWER + more, survives=not more) for more in range(2))
    told.promise.promoted(2, 5)
    for change in (safe, local):
        told.promise.committed(Position(1, 6), [("price:boot", change.number)])
    told.promise.confirmed(local)
    assert not told.violations
    told.promise.confirmed(safe)
    assert [violation.invariant for violation in told.violations] == [Invariant.SURVIVES]


@pytest.mark.parametrize("confirmed", [True, False])
def test_a_crash_takes_only_what_nobody_was_told_of(confirmed):
    told = Told()
    told.write(NEWER, Position(1, 6), confirmed=confirmed)
    told.promise.crashed_before(Position(1, 6))
    assert [violation.invariant for violation in told.violations] == [Invariant.SURVIVES] * confirmed
    assert told.served(NEWER)[0] is Invariant.PROMISE


def test_a_replaced_primary_commits_what_is_lost_already():
    told = Told()
    told.promise.promoted(2, 5)
    told.write(NEWER, Position(1, 6))
    assert told.served(NEWER) == []
    assert told.served(NEWER, asked=told.asked(Position(2, 6))) == [Invariant.GHOSTS]
    told.live(Position(1, 6))
    assert told.violations[-1].invariant is Invariant.SURVIVES


def test_a_label_says_what_the_database_had():
    told = Told()
    for number, position in ((OLD, Position(1, 4)), (NEW, Position(1, 5)), (NEW, Position(1, 9))):
        told.promise.stored("eu/1", (("price:boot", number),), position)
    assert not told.violations
    told.promise.stored("eu/1", (("price:boot", OLD),), Position(1, 5))
    told.promise.stored("eu/1", (("price:boot", NEW),), Position(1, 4))
    assert [violation.invariant for violation in told.violations] == [Invariant.LABEL, Invariant.LABEL]
    assert "labelled 1.5, where the database had price:boot=2" in told.violations[0].text


def test_labels_of_what_a_promotion_kept_are_judged_by_it():
    told = Told()
    told.promise.promoted(2, 5)
    told.promise.stored("eu/1", (("price:boot", OLD),), Position(1, 6))
    assert not told.violations
    told.promise.stored("eu/1", (("price:boot", OLD),), Position(1, 5))
    assert [violation.invariant for violation in told.violations] == [Invariant.LABEL]


def test_what_is_kept_is_kept_no_longer_than_the_origin_said():
    told = Told()
    told.promise.kept(told.asked(), "fresh", 3.02, 3)
    assert not told.violations
    told.promise.kept(told.asked(), "fresh", 3.04, 3)
    told.promise.made_up(told.asked(), "a tag that nobody has given")
    assert [violation.invariant for violation in told.violations] == [Invariant.WINDOW] * 2


@pytest.mark.parametrize(
    ("alive", "leased", "applied", "refuses", "broken"),
    [
        pytest.param(True, True, Position(1, 5), True, False, id="applied"),
        pytest.param(True, True, Position(1, 4), True, True, id="a lease, and not applied"),
        pytest.param(True, False, Position(1, 4), True, False, id="no lease"),
        pytest.param(True, True, Position(1, 5), False, True, id="applied, and its floors let it pass"),
    ],
)
def test_live_is_evidence(alive, leased, applied, refuses, broken):
    told = Told()
    told.live(Position(1, 5), Standing("eu/1", alive, leased, applied), refuses=refuses)
    assert [violation.invariant for violation in told.violations] == [Invariant.EVIDENCE] * broken


def test_the_registry_never_says_more_than_was_applied():
    told = Told()
    told.promise.acknowledged("eu/1", Position(1, 5), Position(1, 5))
    assert not told.violations
    told.promise.acknowledged("eu/1", Position(1, 6), Position(1, 5))
    assert told.violations[0].invariant is Invariant.ACKNOWLEDGED


def test_nothing_applied_is_taken_back_but_by_an_epoch():
    told = Told()
    told.promise.moved("eu/1", Position(1, 5), Position(1, 6), forked=False)
    told.promise.moved("eu/1", Position(1, 9), Position(2, 6), forked=True)
    assert not told.violations
    told.promise.moved("eu/1", Position(1, 6), Position(1, 5), forked=False)
    told.promise.floor_fell("eu/1", "*", Position(1, 6), Position(1, 5))
    assert [violation.invariant for violation in told.violations] == [Invariant.MONOTONE] * 2


def test_a_lease_counts_from_the_sending_of_a_question():
    told = Told()
    told.promise.leased("eu/1", 12.0, 10.0, 2.0)
    assert not told.violations
    told.promise.leased("eu/1", 12.1, 10.0, 2.0)
    assert told.violations[0].invariant is Invariant.LEASE


def test_who_waits_is_known_until_answered_or_dead():
    waiting = Waiting()
    first = waiting.begins("eu/1", "a page", 1.0)
    waiting.begins("eu/2", "a page", 2.0)
    waiting.begins("eu/2", "another", 9.0)
    waiting.ends(first)
    assert waiting.are_there(["eu/1", "eu/2"])
    assert not waiting.are_there(["eu/1"])
    waiting.forget("eu/2")
    assert not waiting.since


@pytest.mark.parametrize(
    ("status", "number", "detail", "broken"),
    [
        pytest.param(b"200", NEW, "", False, id="the newest"),
        pytest.param(b"404", NEW, "stale-while-revalidate", False, id="kept for longer, and the newest"),
        pytest.param(b"200", OLD, "purged-soft", True, id="old"),
        pytest.param(b"200", NEW, "stale-marked", True, id="marked"),
        pytest.param(b"503", NEW, "", True, id="an error"),
        pytest.param(b"", NEW, "", True, id="hung up"),
    ],
)
def test_when_all_is_well_everything_is_shown_as_it_is(status, number, detail, broken):
    told = Told()
    told.promise.shows_all(told.asked(), ["price:boot"], status, (("price:boot", number),), detail)
    assert [violation.invariant for violation in told.violations] == [Invariant.ANSWERED] * broken


def test_a_run_counts_only_if_everything_was_tried():
    coverage = Coverage({"cut": 3}, {"promise": 40})
    assert coverage.missing(["cut"], ["promise"], 200_000) == []
    assert coverage.missing(["cut", "frozen"], ["promise", "lease"], 200_000) == [
        "fault frozen: struck 0 times, 1 are needed",
        "invariant lease: checked 0 times, 20 are needed",
    ]
    assert len(coverage.missing(["cut"], ["promise"], 50_000_000)) == 2
