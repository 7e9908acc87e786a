"""What an outage did, by the generator's count and the origin's own log."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from loadtests.chaos import outage
from loadtests.chaos.outage import Found, Wanted, fetches, surge_of
from loadtests.faults import Breakage
from loadtests.people import ShopFront, ShownProduct
from loadtests.recorder.machine import this_machine
from loadtests.recorder.run import Cell, Label, Phase, Run, Status
from loadtests.target import BadTarget, Target

WANTED = Wanted(warmup_s=10.0, before_s=20.0, outage_s=30.0, after_s=40.0, rate=10.0)


def every(seconds: float, from_s: float, to_s: float) -> list[float]:
    return [from_s + number * seconds for number in range(round((to_s - from_s) / seconds))]


def found_in(times: list[float]) -> Found:
    found = Found()
    surge_of(sorted(times), WANTED, gone_at=100.0, back_at=130.0, found=found)
    return found


def test_as_much_as_before_is_no_surge():
    found = found_in(every(0.1, 60, 100) + every(0.1, 130.5, 180))
    assert found.before_per_s == 10.0
    assert found.away_s == pytest.approx(30.5)
    assert found.surge == pytest.approx({"10": 1.0, "30": 1.0})
    assert found.wrong == []


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
    found = outage.judged(run, target, WANTED, gone_at=100.0, back_at=130.0)
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


@pytest.mark.parametrize(
    ("refills", "status"), [pytest.param(0.1, 0, id="as before"), pytest.param(0.02, 1, id="a surge")]
)
def test_the_command_takes_the_origin_away_brings_it_back_and_judges(tmp_path, monkeypatch, capsys, refills, status):
    log = tmp_path / "origin.access.log"
    line = {"ms": 0.0, "edge_key": True, "host": "127.0.0.1:1", "status": 200}
    times = every(0.1, 60, 100) + every(refills, 130.5, 180)
    log.write_text("".join(json.dumps(line | {"time": time}) + "\n" for time in times))
    target = Target({"eu": "http://127.0.0.1:1"}, "http://127.0.0.1:2", tmp_path, tmp_path / "control", origin_log=log)
    front = ShopFront(("eu-eur",), ("lamps",), (ShownProduct("lamp", "SKU-1", ("lamps",)),))
    run = Run("outage", "", "1970-01-01T00:00:01+00:00", 1, "paced", True, 1.0, "", this_machine())
    told: list[str] = []

    async def found(*_: object) -> ShopFront:
        return front

    monkeypatch.setattr(outage, "load_target", lambda *_: target)
    monkeypatch.setattr(outage, "_front", found)
    monkeypatch.setattr(outage, "volume_run", lambda *_, **__: run)
    monkeypatch.setattr(Breakage, "ask", lambda _, command: told.append(command["do"]))
    monkeypatch.setattr(outage, "time", SimpleNamespace(time=iter((100.0, 130.0)).__next__))
    seconds = ["--warmup", "10", "--before", "20", "--outage", "30", "--after", "40"]
    assert outage.main([*seconds, "--rate", "10"]) == status
    assert told == ["stop", "start"]
    assert ("PASSED", "FAILED")[status] in capsys.readouterr().out


def test_a_shop_that_is_not_there_is_said(tmp_path, capsys):
    assert outage.main(["--state", str(tmp_path)]) == 2
    assert "ready.json" in capsys.readouterr().err
