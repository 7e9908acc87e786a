"""Taking a primary away again and again: what counts as a broken promise, and a short run against a real shop."""

from __future__ import annotations

import time

import pytest

from loadtests.failovers.old_primary import Addresses
from loadtests.failovers.report import Report, Round, render
from loadtests.failovers.rounds import Plan, about
from loadtests.failovers.witnesses import Merchandisers, Refusal, Shoppers, Write, refused_s
from loadtests.http1 import Answer
from loadtests.oracle import PriceKey

KEY = PriceKey("eu-eur", "LAMP-1")


def report(*rounds: Round, **more: object) -> Report:
    found = Report(rounds=list(rounds), page_answers=10, acknowledged=5, price_statuses={"200": 10})
    for name, value in more.items():
        setattr(found, name, value)
    return found


def kill(kind: str = "kill of its processes", **more: object) -> Round:
    this = Round(kind, "pg-1", "pg-2", writes_back_s=1.2, prices_asked=48, prices_read=48)
    for name, value in more.items():
        setattr(this, name, value)
    return this


def freeze(**more: object) -> Round:
    return kill("freeze, kept by lease", **more)


def test_a_run_in_which_everything_was_kept_passes():
    assert report(kill()).passed
    assert render(report(kill())).endswith("PASSED")


@pytest.mark.parametrize(
    ("found", "broken"),
    [
        (report(kill(writes_back_s=5.0)), "1 kills after which no change was taken again within 5 s"),
        (report(kill(writes_back_s=None)), "1 kills after which no change was taken again within 5 s"),
        (report(freeze(writes_back_s=12.0)), "1 freezes after which no change was taken again within 12 s"),
        (report(freeze(writes_back_s=None)), "1 freezes after which no change was taken again within 12 s"),
        (report(kill(), page_failures=["eu /: 503"]), "1 failed reads of cached pages"),
        (report(kill(), lost=["eu-eur LAMP-1 at 1.7: 404"]), "1 acknowledged changes lost"),
        (
            report(kill(ghosts=["eu: eu-eur LAMP-1 shown at 7, and is 8"])),
            "1 ghosts at edges 2 s after a promotion or later",
        ),
        (report(kill(old_prices=["eu: eu-eur LAMP-1 shown at 7, and is 8"])), "1 old prices at edges after live"),
        (report(kill(not_live=["2.9: still 'waiting'"])), "1 last changes not reported live within 30 s"),
        (report(kill(prices_read=46)), "2 prices that an edge did not show"),
        (report(kill(prices_asked=0, prices_read=0)), "1 rounds after which no price was looked at"),
        (report(kill(acknowledged_by_old=["a commit"])), "1 acknowledgements by an old primary"),
        (
            report(kill(answered_by_old=["the head"])),
            "1 answers by an old primary that was fenced by more than its commits",
        ),
        (report(kill(), price_failures=["eu /: 500"]), "1 reads of prices answered with neither 200 nor 503"),
        (report(kill(), without_retry_after=2), "2 503 without Retry-After"),
        (report(kill(prices_refused_s=6.1)), "1 kills after which an edge refused prices for more than 6 s"),
        (report(freeze(prices_refused_s=12.1)), "1 freezes after which an edge refused prices for more than 12 s"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_broken_promise_fails_the_run_and_is_named(found, broken):
    assert not found.passed
    assert found.broken == [broken]
    assert f"BROKEN: {broken}" in render(found)


@pytest.mark.parametrize(
    "found",
    [
        report(),
        report(kill(), page_answers=0),
        report(kill(), acknowledged=0),
        report(kill(), price_statuses={"503": 9}),
    ],
)
def test_a_run_that_saw_nothing_proves_nothing(found):
    assert not found.passed
    assert "DOES NOT COUNT: nothing was lost, read or changed" in render(found)


def test_a_run_with_fewer_lost_tails_than_were_asked_for_does_not_count():
    found = report(kill("kill with a lost tail", tail=3), kill(), tails_asked=2, tails_tried=6, tails_spared=4)
    assert not found.passed
    told = "tried 6 times, nothing killed 4, nothing lost 1"
    assert f"promotions that lost prices    1 of 2; {told}" in render(found)
    assert f"DOES NOT COUNT: 1 kills lost a tail, and 2 were to: {told}" in render(found)
    found.rounds.append(kill("kill with a lost tail", tail=1))
    assert found.passed


def test_an_old_primary_that_is_not_heard_where_nothing_fences_it_proves_nothing():
    deaf = kill("freeze, kept by sync", may_answer=True, asked_of_old=4, answered_by_old=["the head"])
    assert not report(deaf).passed
    assert "asked 4 times, and answered 1" in render(report(deaf))
    # Where something else keeps it from answering, silence is what is expected.
    assert report(freeze(asked_of_old=4)).passed


def test_a_run_that_ended_early_tells_what_it_saw_and_does_not_pass():
    found = report(kill(), ended_early="the shop is not whole after 120 s")
    assert not found.passed
    assert "kills of the primary           1" in render(found)
    assert "NOT ALL ROUNDS: the shop is not whole after 120 s" in render(found)


def test_times_are_told_to_a_hundredth_of_a_second():
    assert "changes taken again, s       p50 1.24  p99 1.24  max 1.24" in render(report(kill(writes_back_s=1.2351)))


def test_a_run_says_beforehand_how_long_it_takes():
    assert about(Plan(kills=1, freezes=0, tails=0)) == "18 s"
    assert float(about(Plan()).split()[0]) < 50


def test_a_freeze_may_take_longer_than_a_kill():
    assert report(freeze(writes_back_s=6.0, prices_refused_s=7.0)).passed


def test_where_only_commits_are_fenced_an_old_primary_may_answer_and_that_is_told():
    found = report(kill("freeze, kept by sync", answered_by_old=["the head"], asked_of_old=1, may_answer=True))
    assert found.passed
    told = render(found)
    assert "answered by the old one      1, asked 1; as is expected without kill and lease 1 of 1" in told
    assert "pg-1, freeze, kept by sync: answered the head" in told


def write(amount: int, position: str | None, *, given_up: bool = False, at: float = 0.0) -> Write:
    """Begun at `at`, and answered a second later."""
    return Write(KEY, amount, f"{amount / 100:.2f}", at, at + 1.0, position, 200 if position else 503, given_up)


def staff_with(*writes: Write) -> Merchandisers:
    staff = Merchandisers(None, [KEY], {}, "seed")  # type: ignore[arg-type]  # nobody asks it for anything
    staff.writes = list(writes)
    return staff


def test_what_may_be_lost_is_no_lost_change_and_may_be_a_ghost():
    staff = staff_with(write(1001, "1.7"), write(1002, None), write(1003, "1.8", given_up=True))
    assert [each.amount for each in staff.acknowledged()] == [1001]
    assert staff.doubtful() == {(KEY, 1002), (KEY, 1003)}


async def test_taken_again_is_a_change_that_the_new_primary_was_asked_for_after_the_loss():
    now = time.monotonic()
    before, of_the_old = write(1001, "2.8", at=now - 1.0), write(1002, "1.8", at=now + 1.0)
    refused, taken = write(1003, None, at=now + 2.0), write(1004, "2.9", at=now + 3.0)
    staff = staff_with(before, of_the_old, refused, taken)
    assert await staff.back_at(now, 1, 5.0) == now + 4.0
    assert await staff_with(before, of_the_old, refused).back_at(now, 1, 0.0) is None


def test_the_last_change_is_the_one_at_the_highest_position():
    assert staff_with(write(1, "2.9"), write(2, "2.10"), write(3, "1.700"), write(4, None)).head() == (2, 10)
    assert staff_with(write(4, None)).head() is None


def test_prices_are_refused_from_the_first_to_the_last_refusal_at_the_edge_where_that_is_longest():
    times = {"eu": (10.0, 16.5), "us": (8.0, 9.0), "ap": (20.0,)}
    assert refused_s(Refusal(at, edge, "/", 503, True) for edge in times for at in times[edge]) == 6.5
    assert refused_s([]) == 0.0


def test_a_refusal_is_told_with_whether_it_said_when_to_come_again():
    readers = Shoppers({"eu": "http://127.0.0.1:1"}, ["/"], 10.0, "seed")
    readers.seen.note("eu", "/", Answer(200, {}, b"", 0.0, 1.0))
    readers.seen.note("eu", "/", Answer(503, {"retry-after": "1"}, b"", 0.0, 2.0))
    readers.seen.note("eu", "/", Answer(503, {}, b"", 0.0, 3.0))
    readers.seen.note("eu", "/", Answer(304, {}, b"", 0.0, 4.0))
    refused = [(each.status, each.retry_after) for each in readers.seen.refused]
    assert refused == [(503, True), (503, False), (304, False)]
    assert readers.seen.by_status == {"200": 1, "503": 2, "304": 1}


def test_the_servers_are_those_that_an_origin_worker_is_told_of():
    url = "postgresql+asyncpg://nearshelf@/shop?host=/run/x/pg:5432&host=/run/x/pg:5433&target_session_attrs=primary"
    found = Addresses.of({"DATABASE_URL": url})
    assert found == Addresses((("/run/x/pg", 5432), ("/run/x/pg", 5433)), "nearshelf", "shop")


def test_the_run_that_the_issue_asks_for_is_the_default():
    assert (Plan().kills, Plan().freezes, Plan().frozen_s) == (50, 20, 30.0)


@pytest.mark.database
@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_short_run_keeps_every_promise(faults, capsys):
    from loadtests.failovers.__main__ import main

    folder, ready = str(faults.state), str(faults.folder / "ready.json")
    run = ["--kills", "2", "--freezes", "4", "--tails", "1", "--frozen", "5", "--state", folder, "--ready", ready]
    status = main(run)
    assert status == 0, capsys.readouterr().out
