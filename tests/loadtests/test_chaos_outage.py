"""What an outage did, by the generator's count and the origin's own log."""

from __future__ import annotations

import json
import math
import os
import signal
import threading
import time
from types import SimpleNamespace

import pytest

from loadtests.chaos import outage
from loadtests.chaos.outage import Found, Moments, Wanted, fetches, staleness_of, surge_of
from loadtests.faults import Breakage
from loadtests.people import ShopFront, ShownProduct
from loadtests.recorder.machine import this_machine
from loadtests.recorder.run import Cell, Label, Phase, Run, Second, Status
from loadtests.target import BadTarget, Target

WANTED = Wanted(warmup_s=10.0, before_s=20.0, outage_s=30.0, after_s=40.0, rate=10.0)
MOMENTS = Moments(100.0, 100.4, 130.0, 130.3)


def every(seconds: float, from_s: float, to_s: float) -> list[float]:
    return [from_s + number * seconds for number in range(round((to_s - from_s) / seconds))]


def found_in(times: list[float]) -> Found:
    found = Found()
    surge_of(sorted(times), WANTED, MOMENTS, found)
    return found


def test_as_much_as_before_is_no_surge():
    found = found_in(every(0.1, 60, 100) + every(0.1, 130.5, 180))
    assert found.before_per_s == 10.0
    assert found.away_s == pytest.approx(30.5)
    assert found.asked_again_s == pytest.approx(0.2)
    assert found.surge == pytest.approx({"10": 1.0, "30": 1.0})
    assert found.wrong == []


def test_an_origin_that_nobody_asks_again_has_no_surge_and_is_none_the_better_for_it():
    found = found_in(every(0.1, 60, 100))
    assert found.wrong == ["the origin was not asked again after its return"]
    assert found.away_s == pytest.approx(70.3)
    assert "FAILED" in outage.rendered(found)


def test_an_origin_that_is_asked_again_late_is_found():
    found = found_in(every(0.1, 60, 100) + every(0.1, 141, 180))
    assert "asked again only 10.7 s after its return" in found.wrong[0]


def test_an_origin_that_is_asked_once_and_then_hardly_ever_is_found():
    found = found_in(every(0.1, 60, 100) + every(0.5, 131, 180))
    assert found.surge == pytest.approx({"10": 0.2, "30": 0.2})
    assert [text.partition(" the origin was asked ")[2][:10] for text in found.wrong] == ["0.20 times"] * 2


def test_what_reaches_the_origin_while_it_stops_is_no_silence_and_what_comes_after_it_was_not_away():
    found = found_in([*every(0.1, 60, 100), 100.1, 100.3, *every(0.1, 130.5, 180)])
    assert found.away_s == pytest.approx(30.2)
    assert found.asked_while_away == 0
    assert found.wrong == []
    found = found_in([*every(0.1, 60, 100), 110.0, 120.0, *every(0.1, 130.5, 180)])
    assert found.away_s == pytest.approx(10.5)
    assert found.asked_while_away == 2
    assert found.wrong == ["the origin was asked 2 times while it was to be away"]


def seconds_of(*shares: tuple[float, float, float]) -> list[Second]:
    """From, to, share of stale answers; of a hundred a second, at two edges."""
    found = []
    for from_s, to_s, share in shares:
        for at_s in range(round(from_s), round(to_s)):
            stale = round(50 * share)
            hits, of_store = {"eu": 50 - stale, "us": 50 - stale}, {"eu": stale, "us": stale}
            found.append(Second(at_s, requests={"hit": hits, "stale": of_store}))
    return found


def stale_in(*shares: tuple[float, float, float]) -> Found:
    """Second 0 is at 70: the origin goes away in second 30, and answers again in second 60.3."""
    found = found_in(every(0.1, 60, 100) + every(0.1, 130.5, 180))
    staleness_of(seconds_of(*shares), WANTED, MOMENTS, 70.0, found)
    return found


def test_pages_that_are_fresh_again_are_seen_to_be():
    found = stale_in((0, 30, 0.2), (30, 60, 0.9), (60, 70, 0.6), (70, 100, 0.2))
    assert found.stale_before == pytest.approx(0.2)
    assert found.stale_away == pytest.approx(0.9)
    # Half of what was added is gone at 0.55: in ten seconds of which two are as before.
    assert found.fresh_again_s == pytest.approx(11.0)
    assert found.wrong == []
    assert "half of that gone          11.0 s after it answered" in outage.rendered(found)


def test_pages_that_stay_stale_are_found():
    found = stale_in((0, 30, 0.2), (30, 100, 0.9))
    assert found.fresh_again_s is None
    (wrong,) = found.wrong
    assert "20% of the answers were stale before and 90% without the origin" in wrong
    assert wrong.endswith("half of that was gone not in all the time after its return (at most 60 s)")


def test_pages_that_are_stale_for_too_long_are_found(monkeypatch):
    monkeypatch.setattr(outage, "FRESH_S", 10.0)
    found = stale_in((0, 30, 0.2), (30, 60, 0.9), (60, 70, 0.6), (70, 100, 0.2))
    assert "gone only 11 s after its return (at most 10 s)" in found.wrong[0]
    # Where it takes longer to ask for all of them once, there is so much time.
    found.pages = 180
    assert found.wrong == []


def test_an_outage_that_made_next_to_nothing_stale_is_not_judged_by_that():
    found = stale_in((0, 30, 0.2), (30, 100, 0.22))
    assert found.wrong == []
    assert "too little to tell" in outage.rendered(found)


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (Wanted(after_s=5.0), "--after 5: too short"),
        (Wanted(after_s=math.nan), "--after and --rate: a finite number"),
        (Wanted(warmup_s=math.nan), "--warmup, .*: a finite number"),
        (Wanted(rate=math.inf), "--rate: a finite number"),
        (Wanted(before_s=0.0), "--before"),
        (Wanted(rate=-1.0), "--rate"),
    ],
)
def test_a_run_that_would_judge_nothing_is_refused(wanted, said):
    with pytest.raises(BadTarget, match=said):
        outage.checked(wanted)


def test_one_that_is_long_enough_is_not():
    assert outage.checked(Wanted(after_s=10.0)).after_s == 10.0


def test_a_surge_is_found():
    found = found_in(every(0.1, 60, 100) + every(0.02, 130, 140) + every(0.1, 140, 180))
    assert found.surge["10"] == pytest.approx(5.0)
    assert found.worst_after == pytest.approx(500, abs=1)
    assert "5.00 times" in found.wrong[0]


def test_a_surge_that_comes_later_is_found():
    """Between the ends of the windows that begin with the return, and small in the mean of the longest."""
    found = found_in(every(0.1, 60, 100) + every(0.1, 130, 158) + every(0.05, 158, 162) + every(0.1, 162, 180))
    assert max(found.surge.values()) < 1.1
    (wrong,) = found.wrong
    assert "140 times within 10 s" in wrong
    assert "100 times before" in wrong


def test_a_rate_that_was_not_steady_is_nothing_to_compare_with():
    found = found_in(every(0.05, 80, 90) + every(0.1, 90, 100) + every(0.1, 130.5, 180))
    assert found.halves == (200, 100)
    assert "200 times in the first half and 100 in the second" in found.wrong[0]


def test_without_a_rate_before_there_is_nothing_to_compare_with():
    assert "the origin was asked 2 times" in found_in([90.0, 95.0, *every(0.1, 131, 180)]).wrong[0]


def test_a_failed_page_and_a_generator_that_fell_behind_are_wrong():
    found = found_in(every(0.1, 60, 100) + every(0.1, 130.5, 180))
    found.failed, found.by_code, found.faults = 3, {"503": 2, "404": 1}, ["its loop was late"]
    assert found.wrong == [
        "the run is not valid: its loop was late",
        "3 reads of pages failed that had been asked for before: 404 1, 503 2",
    ]
    assert "FAILED" in outage.rendered(found)


def test_of_the_log_what_edges_fetched_for_viewers_counts_when_it_came(tmp_path):
    log = tmp_path / "origin.access.log"
    line = {"time": 5.0, "ms": 0.0, "edge_key": True, "host": "127.0.0.1:8082", "status": 200}
    lines = [
        line | {"time": 7.0},
        line,
        line | {"edge_key": False},
        line | {"host": "elsewhere"},
        line | {"time": 0.5},
        line | {"time": 6.0, "ms": 3_000.0},
        line | {"time": 9.0, "ms": 500.0, "status": 0},
    ]
    log.write_text("\n".join(map(json.dumps, lines)) + '\n{"time": 8.0, "edge')
    assert fetches(log, 1.0, frozenset({"127.0.0.1:8082"})) == [3.0, 5.0, 7.0, 8.5]
    with pytest.raises(BadTarget):
        fetches(tmp_path / "none", 1.0, frozenset())


def test_a_page_that_is_not_answered_with_200_has_failed(tmp_path):
    log = tmp_path / "origin.access.log"
    log.write_text("")
    target = Target({"eu": "http://127.0.0.1:1"}, "http://127.0.0.1:2", tmp_path, None, origin_log=log)
    run = Run("outage", "", "2026-01-01T00:00:00+00:00", 1, "paced", True, 1.0, "", this_machine())
    run.phases = [Phase("warm-up", 0.0, 1.0, counts=False), Phase("steady", 1.0, 2.0)]
    label = Label("steady", Status.HIT, "product", "eu", "eu-eur")
    run.cells = [
        Cell(label, requests=10, codes={"200": 9, "404": 1}),
        Cell(label._replace(status=Status.ERROR), requests=2, codes={"502": 1, "no answer": 1}),
        Cell(label._replace(phase="warm-up", status=Status.ERROR), requests=1, codes={"502": 1}),
    ]
    found = outage.judged(run, target, WANTED, MOMENTS)
    assert (found.asked, found.failed, found.by_status) == (12, 3, {"hit": 10, "error": 2})
    assert found.by_code == {"404": 1, "502": 1, "no answer": 1}


def test_every_page_is_asked_for_before_the_outage(tmp_path):
    front = ShopFront(
        ("eu-eur", "us-usd"),
        ("lamps",),
        tuple(ShownProduct(f"lamp-{n}", f"SKU-{n}", ("lamps",)) for n in range(5)),
    )
    target = Target({"eu": "http://127.0.0.1:1", "us": "http://127.0.0.1:2"}, "http://127.0.0.1:3", tmp_path, None)
    schedule = outage.schedule_of(target, front, WANTED)
    warm = {schedule.which[n] for n, due_s in enumerate(schedule.due_s) if due_s < WANTED.warmup_s}
    assert len(schedule.asked) == 2 * 2 * (1 + 1 + 5)
    assert warm == set(range(len(schedule.asked)))
    with pytest.raises(BadTarget, match="--warmup"):
        outage.schedule_of(target, front, Wanted(warmup_s=1.0, rate=10.0))


class Hours:
    """In the place of `threading.Event`: no time passes, and nobody ends the run."""

    def wait(self, seconds: float) -> bool:
        return False

    def set(self) -> None: ...


@pytest.fixture
def told(tmp_path, monkeypatch) -> list[str]:
    """What the shop is told by a command that finds one page, and no generator that would ask for it."""
    target = Target(
        {"eu": "http://127.0.0.1:1"},
        "http://127.0.0.1:2",
        tmp_path,
        tmp_path / "control",
        origin_log=tmp_path / "origin.access.log",
    )
    front = ShopFront(("eu-eur",), ("lamps",), (ShownProduct("lamp", "SKU-1", ("lamps",)),))
    told: list[str] = []

    async def found(*_: object) -> ShopFront:
        return front

    monkeypatch.setattr(outage, "load_target", lambda *_: target)
    monkeypatch.setattr(outage, "_front", found)
    monkeypatch.setattr(Breakage, "ask", lambda _, command: told.append(command["do"]))
    return told


def run_of(seconds: list[Second]) -> Run:
    run = Run("outage", "", "1970-01-01T00:01:10+00:00", 1, "paced", True, 1.0, "", this_machine())
    run.seconds = seconds
    return run


@pytest.mark.parametrize(
    ("refills", "fresh", "status"),
    [
        pytest.param(0.1, 0.0, 0, id="as before"),
        pytest.param(0.02, 0.0, 1, id="a surge"),
        pytest.param(100.0, 0.0, 1, id="hardly asked again"),
        pytest.param(0.1, 1.0, 1, id="stale for ever"),
    ],
)
def test_the_command_takes_the_origin_away_brings_it_back_and_judges(
    tmp_path, monkeypatch, capsys, told, refills, fresh, status
):
    line = {"ms": 0.0, "edge_key": True, "host": "127.0.0.1:1", "status": 200}
    times = every(0.1, 70, 100) + every(refills, 130.5, 180)
    log = "".join(json.dumps(line | {"time": time}) + "\n" for time in [*times, 130.5])
    (tmp_path / "origin.access.log").write_text(log)
    run = run_of(seconds_of((0, 30, 0.0), (30, 60, 1.0), (60, 100, fresh)))
    monkeypatch.setattr(outage, "volume_run", lambda *_, **__: run)
    monkeypatch.setattr(outage, "time", SimpleNamespace(time=iter(MOMENTS).__next__))
    monkeypatch.setattr(outage, "threading", SimpleNamespace(Event=Hours, Thread=threading.Thread))
    seconds = ["--warmup", "10", "--before", "20", "--outage", "30", "--after", "40"]
    assert outage.main([*seconds, "--rate", "10"]) == status
    assert told == ["stop", "start"]
    assert ("PASSED", "FAILED")[status] in capsys.readouterr().out


@pytest.mark.parametrize("heard", [True, False], ids=["by the generator, which ends early", "by nobody else"])
def test_whoever_ends_it_finds_the_origin_running(monkeypatch, capsys, told, heard):
    """With an hour of outage to come."""

    def unheard(*_: object) -> None:
        raise AssertionError("nobody listens for SIGTERM")

    def generates(*_: object, **__: object) -> Run:
        while told != ["stop"]:
            time.sleep(0.001)
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60.0)
        except KeyboardInterrupt:
            if not heard:
                raise
        return run_of([])

    monkeypatch.setattr(outage, "volume_run", generates)
    monkeypatch.setattr(outage, "schedule_of", lambda *_: None)
    before = signal.signal(signal.SIGTERM, unheard)
    try:
        assert outage.main(["--warmup", "0.001", "--before", "0.001", "--outage", "3600"]) == 2
    finally:
        signal.signal(signal.SIGTERM, before)
    assert told == ["stop", "start"]
    said = capsys.readouterr().err
    assert (
        said
        == f"outage: {'the run was over before the origin was back: nothing is known' if heard else 'interrupted'}\n"
    )


def test_a_shop_that_is_not_there_is_said(tmp_path, capsys):
    assert outage.main(["--state", str(tmp_path)]) == 2
    assert "ready.json" in capsys.readouterr().err
