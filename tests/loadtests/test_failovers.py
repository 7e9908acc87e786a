"""Taking a primary away again and again: what counts as a broken promise, and a short run against a real shop."""

from __future__ import annotations

import pytest

from loadtests.failovers.old_primary import Addresses
from loadtests.failovers.report import Report, Round, render
from loadtests.failovers.rounds import Plan, about
from loadtests.failovers.witnesses import Merchandisers, Shoppers, Write
from loadtests.http1 import Answer
from loadtests.oracle import PriceKey

KEY = PriceKey("eu-eur", "LAMP-1")


def report(*rounds: Round, **more: object) -> Report:
    found = Report(rounds=list(rounds), page_answers=10, acknowledged=5)
    for name, value in more.items():
        setattr(found, name, value)
    return found


def kill(**more: object) -> Round:
    this = Round("kill of its processes", "pg-1", "pg-2", writes_back_s=1.2)
    for name, value in more.items():
        setattr(this, name, value)
    return this


def test_a_run_in_which_everything_was_kept_passes():
    assert report(kill()).passed
    assert render(report(kill())).endswith("PASSED")


@pytest.mark.parametrize(
    ("found", "broken"),
    [
        (report(kill(writes_back_s=5.0)), "1 kills after which changes were taken again only after 5 s"),
        (report(kill(writes_back_s=None)), "1 kills after which changes were taken again only after 5 s"),
        (report(kill(), page_failures=["eu /: 503"]), "1 failed reads of cached pages"),
        (report(kill(), lost=["eu-eur LAMP-1 at 1.7: 404"]), "1 acknowledged changes lost"),
        (report(kill(ghosts=["eu: eu-eur LAMP-1 shown at 7, and is 8"])), "1 ghosts at edges 2 s after a promotion"),
        (report(kill(acknowledged_by_old=["a commit"])), "1 acknowledgements by an old primary"),
        (
            report(kill(answered_by_old=["the head"])),
            "1 answers by an old primary that was fenced by more than its commits",
        ),
        (report(kill(without_retry_after=2)), "2 503 without Retry-After"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_broken_promise_fails_the_run_and_is_named(found, broken):
    assert not found.passed
    assert found.broken == [broken]
    assert f"BROKEN: {broken}" in render(found)


@pytest.mark.parametrize("found", [report(), report(kill(), page_answers=0), report(kill(), acknowledged=0)])
def test_a_run_that_saw_nothing_proves_nothing(found):
    assert not found.passed


def test_a_run_that_ended_early_tells_what_it_saw_and_does_not_pass():
    found = report(kill(), ended_early="the shop is not whole after 120 s")
    assert not found.passed
    assert "kills of the primary           1" in render(found)
    assert "NOT ALL ROUNDS: the shop is not whole after 120 s" in render(found)


def test_times_are_told_to_a_hundredth_of_a_second():
    assert "changes taken again, s       p50 1.24  p99 1.24  max 1.24" in render(report(kill(writes_back_s=1.2351)))


def test_a_run_says_beforehand_how_long_it_takes():
    assert about(Plan(kills=1, freezes=0, tails=0)) == "14 s"
    assert float(about(Plan()).split()[0]) < 50


def test_a_freeze_may_take_longer_than_a_kill():
    assert report(Round("freeze, kept by lease", "pg-1", "pg-2", writes_back_s=6.0)).passed


def test_where_only_commits_are_fenced_an_old_primary_may_answer_and_that_is_told():
    found = report(Round("freeze, kept by sync", "pg-1", "pg-2", answered_by_old=["the head"], may_answer=True))
    assert found.passed
    told = render(found)
    assert "answered by the old one      1, of them as is expected without kill and lease 1" in told
    assert "pg-1, freeze, kept by sync: answered the head" in told


def write(amount: int, position: str | None, *, given_up: bool = False) -> Write:
    return Write(KEY, amount, f"{amount / 100:.2f}", 0.0, 1.0, position, 200 if position else 503, given_up)


def test_what_may_be_lost_is_no_lost_change_and_may_be_a_ghost():
    staff = Merchandisers(None, [KEY], {}, "seed")  # type: ignore[arg-type]  # nobody asks it for anything
    staff.writes = [write(1001, "1.7"), write(1002, None), write(1003, "1.8", given_up=True)]
    assert [each.amount for each in staff.acknowledged()] == [1001]
    assert staff.doubtful() == {(KEY, 1002), (KEY, 1003)}


def test_a_refusal_is_told_with_whether_it_said_when_to_come_again():
    readers = Shoppers({"eu": "http://127.0.0.1:1"}, ["/"], 10.0, "seed")
    readers.seen.note("eu", "/", Answer(200, {}, b"", 0.0, 1.0))
    readers.seen.note("eu", "/", Answer(503, {"retry-after": "1"}, b"", 0.0, 2.0))
    readers.seen.note("eu", "/", Answer(503, {}, b"", 0.0, 3.0))
    assert [(each.status, each.retry_after) for each in readers.seen.refused] == [(503, True), (503, False)]
    assert readers.seen.by_status == {"200": 1, "503": 2}


def test_the_servers_are_those_that_an_origin_worker_is_told_of():
    url = "postgresql+asyncpg://nearshelf@/shop?host=/run/x/pg:5432&host=/run/x/pg:5433&target_session_attrs=primary"
    found = Addresses.of({"DATABASE_URL": url})
    assert found == Addresses((("/run/x/pg", 5432), ("/run/x/pg", 5433)), "nearshelf", "shop")


def test_the_run_that_the_issue_asks_for_is_the_default():
    assert (Plan().kills, Plan().freezes, Plan().frozen_s) == (50, 20, 30.0)


@pytest.mark.database
@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_short_run_keeps_every_promise(faults, capsys):
    from loadtests.failovers.__main__ import main

    folder, ready = str(faults.state), str(faults.folder / "ready.json")
    run = ["--kills", "2", "--freezes", "4", "--tails", "1", "--frozen", "5", "--state", folder, "--ready", ready]
    status = main(run)
    assert status == 0, capsys.readouterr().out
