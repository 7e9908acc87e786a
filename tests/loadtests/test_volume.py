"""Volume as a Run: the paced generator in its own process."""

from __future__ import annotations

import subprocess
import threading
import time

import pytest

from loadtests.people import Kind, Visit
from loadtests.plan import Arrival, Deed, Doing, Person, Plan
from loadtests.recorder.run import Phase, Status, read_run, write_run
from loadtests.volume import Figures, VolumeFailed, schedule_of, steady, volume_run
from tests.loadtests.test_paced import HIT, MISS, ask, edge

pytestmark = pytest.mark.alone

FIGURES = (
    b'nearshelf_edge_requests_total{pop="eu",status="hit"} 7\nnearshelf_policy_info{digest="ab12"} 1\n'
    b'nearshelf_build_info{version="0.1.0"} 1\n'
)


def script(number: int, head: bytes) -> bytes:
    if head.startswith(b"GET /metrics "):
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(FIGURES), FIGURES)
    return MISS if head.startswith(b"GET /0 ") else HIT


def test_a_paced_run_is_an_open_loop_with_its_figures_beside_it(tmp_path):
    with edge(script) as eu:
        asked = [ask(target=f"/{number}") for number in range(4)]
        schedule = steady({"eu": eu.url}, asked, rate_per_s=100, duration_s=1, warmup_s=0.2, seed=5)
        run = volume_run(
            schedule, scenario="volume", seed=5, connections=4, figures=Figures({"eu": [eu.url]}, None, "s3cret")
        )
    assert run.open_loop
    assert run.generator == "paced"
    assert (run.seed, run.request_digest) == (5, schedule.digest)
    assert run.check.intended == run.check.sent == run.check.done == sum(cell.requests for cell in run.counted())
    assert {cell.label.status for cell in run.counted()} == {Status.HIT, Status.MISS}
    assert run.check.cpu_share > 0
    assert run.policy_digests == {"eu": "ab12"}
    assert run.versions["eu build"] == "0.1.0"
    scraped = run.series["nearshelf_edge_requests_total{edge=eu,status=hit}"]
    assert scraped[0][0] <= 0 < scraped[-1][0]
    assert sum(second.intended for second in run.seconds) == len(schedule.due_s)
    write_run(run, tmp_path)
    assert read_run(tmp_path) == run


def test_ctrl_c_leaves_a_run_that_was_cut_short(monkeypatch):
    answered = threading.Event()

    def tells(number: int, head: bytes) -> bytes:
        answered.set()
        return HIT

    class Interrupted(subprocess.Popen):
        def communicate(self, *arguments, **more):
            if not answered.is_set():
                assert answered.wait(30)
                raise KeyboardInterrupt
            return super().communicate(*arguments, **more)

    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    with edge(tells) as eu:
        schedule = steady({"eu": eu.url}, [ask()], rate_per_s=50, duration_s=600, warmup_s=0, seed=1)
        began = time.monotonic()
        run = volume_run(schedule, scenario="volume", seed=1, connections=2)
    assert time.monotonic() - began < 300
    assert run.check.faults[0].endswith(": interrupted")
    assert run.duration_s < 300


def test_a_generator_that_fails_says_why(monkeypatch):
    schedule = steady(
        {"eu": "http://127.0.0.1:1"}, [ask(method="POST")], rate_per_s=5, duration_s=1, warmup_s=0, seed=1
    )
    with pytest.raises(VolumeFailed, match="ended without a run: ValueError: POST /p: only GET and HEAD are sent"):
        volume_run(schedule, scenario="volume", seed=1)


# --- plans ---


def arrival(at_s: float, edge: str = "eu", person: Person = Person.BROWSER, method: str = "GET", target: str = "/a"):
    return Arrival(at_s, "rest", person, 1, edge, method, Visit(Kind.PRODUCT, "eu-eur", target), (("X", "y"),))


def plan(*arrivals: Arrival, deeds: tuple[Deed, ...] = ()) -> Plan:
    return Plan("bot-crawl", 3, (Phase("rest", 0, 10),), arrivals, deeds, ())


EDGES = {"eu": "http://127.0.0.1:1", "us": "http://127.0.0.1:2"}


def test_a_plan_is_sent_at_its_moments_with_what_its_people_send():
    schedule = schedule_of(
        plan(arrival(0.5), arrival(1.0), arrival(1.5, "us"), arrival(2.0, person=Person.BOT, method="HEAD")), EDGES
    )
    assert list(schedule.due_s) == [0.5, 1.0, 1.5, 2.0]
    assert list(schedule.which) == [0, 0, 1, 2]
    assert [(asked.edge, asked.route, asked.market, asked.method) for asked in schedule.asked] == [
        ("eu", "product", "eu-eur", "GET"),
        ("us", "product", "eu-eur", "GET"),
        ("eu", "product", "eu-eur", "HEAD"),
    ]
    browser, _, bot = schedule.requests()
    assert b"\r\nUser-Agent: Mozilla" in browser
    assert b"\r\nX: y\r\n\r\n" in browser
    assert b"Mozilla" not in bot


def test_a_plan_that_does_more_than_ask_is_for_locust():
    with pytest.raises(VolumeFailed, match="bot-crawl: it changes or breaks the shop"):
        schedule_of(plan(arrival(0.5), deeds=(Deed(1.0, Doing.FLUSH),)), EDGES)
