"""Whole runs, each in a process of its own because locust patches whatever imports it, against a scripted shop.

What a run finds out about a shop is planted in the shop; what it finds out about itself is done to it.
"""

from __future__ import annotations

import csv
import importlib.util
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from infra.load_run import run_locust
from loadtests.recorder.histogram import Histogram
from loadtests.recorder.run import Run, Status, read_run
from loadtests.target import load_target
from tests.support.fake_shop import EDGES, FakeShop

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("locust") is None, reason="locust is not installed: the group `load` of pyproject.toml"
    ),
    pytest.mark.timeout(180),
    pytest.mark.alone,
]

ROOT = Path(__file__).parents[2]
ONLY_SHOPPING = """
description: Nobody does anything to the shop.
duration: 4s
rate: 50
people: {browser: 50, searcher: 25, bot: 25}
think: {browser: 1s, searcher: 1s}
"""
PRICES_CHANGE = (
    ONLY_SHOPPING
    + """
deeds:
  - {do: prices, phase: run, per_minute: 150, prices: 4}
thresholds:
  - old_prices == 0
  - errors == 0
"""
)


def scenario(folder: Path, text: str) -> str:
    path = folder / "mine.yaml"
    path.write_text(text)
    return str(path)


def command_of(shop: FakeShop, name: str, *arguments: str) -> list[str]:
    """`nearshelf load run`, by the module: the command need not be on the path."""
    run = [sys.executable, "-m", "infra.cli", "load", "run", name, "--state", str(shop.folder)]
    return [*run, "--out", str(shop.folder / "run"), *arguments]


def load_run(shop: FakeShop, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command_of(shop, name, *arguments), capture_output=True, text=True, cwd=ROOT, check=False)


def finished(shop: FakeShop, name: str, *arguments: str, status: int) -> tuple[str, Run]:
    """What a run printed, and the run. It ends with `status`, or says that this machine is too busy to be believed;
    a broken promise is proved all the same."""
    found = load_run(shop, name, *arguments)
    assert found.returncode in {status, 3}, found.stdout + found.stderr
    run = read_run(shop.folder / "run")
    assert (found.returncode == 3) == (bool(run.check.faults) and not run.prices.promise_broken)
    return found.stdout, run


def durations(run: Run, *, corrected: bool) -> Histogram:
    return Histogram.merged(cell.corrected if corrected else cell.uncorrected for cell in run.counted())


def test_an_honest_shop_exits_0_and_leaves_all_its_files(tmp_path):
    with FakeShop(tmp_path).running() as shop:
        printed, run = finished(shop, scenario(tmp_path, PRICES_CHANGE), status=0)
    assert all(verdict.met for verdict in run.thresholds)
    assert {verdict.text for verdict in run.thresholds} == {"old_prices == 0", "errors == 0"}
    assert run.check.sent == run.check.intended == sum(cell.requests for cell in run.cells)
    assert run.locust["requests"] == run.check.sent
    assert len(run.changes) == shop.changes > 0
    for change in run.changes:
        assert change.live_ms is not None
        assert set(change.fresh_ms) == set(EDGES)
        assert 0 < change.committed_ms <= change.live_ms
    folder = tmp_path / "run"
    assert {path.name for path in folder.iterdir()} == {
        "cells.csv",
        "junit.xml",
        "locust_failures.csv",
        "locust_requests.csv",
        "prices.csv",
        "report.html",
        "run.json.gz",
        "seconds.csv",
    }
    with (folder / "prices.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["edge"] for row in rows} == set(EDGES)
    assert "probe" in {row["who"] for row in rows}
    assert f"report: {folder / 'report.html'}" in printed


def test_an_old_price_after_live_exits_1_and_is_named(tmp_path):
    with FakeShop(tmp_path, lambda edge, path: edge == "eu").running() as shop:
        printed, run = finished(shop, scenario(tmp_path, PRICES_CHANGE), status=1)
    assert "SUPERSEDED: eu GET" in printed
    assert run.prices.old_after_live > 0
    assert run.prices.staleness.count >= run.prices.old_after_live
    assert run.locust["failures"] > 0


def test_a_planted_breach_of_a_threshold_exits_1(tmp_path):
    (tmp_path / "strict.txt").write_text("errors == 0\np99{status=hit} < 0.001ms  # faster than light\n")
    with FakeShop(tmp_path).running() as shop:
        strict = ("--thresholds", str(tmp_path / "strict.txt"), "--duration", "2s")
        _, run = finished(shop, scenario(tmp_path, ONLY_SHOPPING), *strict, status=1)
    assert [verdict.met for verdict in run.thresholds] == [True, False]
    assert run.thresholds[1].where == "strict.txt:2"


def test_the_same_seed_sends_the_same_requests_and_another_seed_others(tmp_path):
    def sent(seed: int, folder: Path) -> tuple[str, Counter[tuple[str, str, str]]]:
        folder.mkdir()
        with FakeShop(folder).running() as shop:
            load_run(shop, scenario(folder, ONLY_SHOPPING), "--seed", str(seed), "--duration", "2s", "--users", "9")
            return read_run(folder / "run").request_digest, Counter(shop.asked)

    (first, asked), (again, asked_again), (other, _) = (
        sent(seed, tmp_path / name) for seed, name in ((7, "a"), (7, "b"), (8, "c"))
    )
    assert (first, asked) == (again, asked_again)
    assert other != first


def test_a_stall_of_two_seconds_is_in_the_corrected_p99_and_not_in_the_uncorrected(tmp_path):
    with FakeShop(tmp_path).running() as shop:
        # Some requests look around before the run; the stall falls into its first third.
        shop.stall = (300, 2.0)
        load_run(shop, scenario(tmp_path, ONLY_SHOPPING), "--duration", "8s", "--set", "rate=100", "--users", "6")
    run = read_run(tmp_path / "run")
    corrected, uncorrected = durations(run, corrected=True), durations(run, corrected=False)
    assert run.check.sent == run.check.intended > 600
    assert corrected.percentile_us(0.99) > 1_500_000
    assert uncorrected.percentile_us(0.99) < 500_000
    # It is there all the same: each user waited through it once.
    assert uncorrected.highest_us > 1_900_000
    assert sum(uncorrected.share_within(1_500_000) < share for share in (0.98, 1.0)) == 1


def asked_by_hand(url: str, target: str, times: int) -> list[float]:
    """Seconds that plain sockets wait for an answer."""
    parts = urlsplit(url)
    found = []
    with socket.create_connection((parts.hostname, parts.port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(times):
            begun = time.perf_counter()
            connection.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            connection.recv(65536)
            found.append(time.perf_counter() - begun)
    return found


def test_a_hit_is_reported_as_long_as_it_takes_to_a_fraction_of_a_millisecond(tmp_path):
    with FakeShop(tmp_path).running() as shop:
        url = load_target(shop.ready, tmp_path).edges["eu"]
        _, run = finished(shop, scenario(tmp_path, ONLY_SHOPPING), status=0)
        by_hand_us = statistics.median(asked_by_hand(url, "/eu-eur/", 300)) * 1e6
    hits = Histogram.merged(cell.uncorrected for cell in run.counted() if cell.label.status is Status.HIT)
    assert 50 < hits.lowest_us < 1_000
    # The fastest tenth: what else this machine does delays the others.
    assert hits.percentile_us(0.1) == pytest.approx(by_hand_us, abs=500)


def test_an_overloaded_generator_marks_its_run_invalid_and_exits_3(tmp_path):
    with FakeShop(tmp_path).running() as shop:
        found = load_run(
            shop, scenario(tmp_path, ONLY_SHOPPING), "--duration", "2s", "--set", "rate=20000", "--users", "40"
        )
    run = read_run(tmp_path / "run")
    assert found.returncode == 3, found.stdout + found.stderr
    assert not run.check.valid
    assert any("of a core" in fault or "sent before the end" in fault for fault in run.check.faults)
    assert run.check.faults[0] in found.stdout


FREEZES = (
    ONLY_SHOPPING.replace("duration: 4s", "duration: 40s")
    + """
phases:
  - {name: rest, from: 0s}
  - {name: frozen, from: 1s}
deeds:
  - {do: fault, phase: frozen, command: freeze, name: eu-1}
  - {do: fault, phase: frozen, command: cut, edge: us, channel: questions}
"""
)
MENDED = [{"do": "heal", "edge": "us", "channel": "questions"}, {"do": "thaw", "name": "eu-1"}]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_whoever_stops_a_run_leaves_the_shop_mended_and_what_was_measured(tmp_path, number):
    with FakeShop(tmp_path).running() as shop:
        name = scenario(tmp_path, FREEZES)
        process = subprocess.Popen(command_of(shop, name), cwd=ROOT)
        with shop.told_something:
            assert shop.told_something.wait_for(lambda: {"freeze", "cut"} <= {one["do"] for one in shop.told}, 60)
        process.send_signal(number)
        assert process.wait(60) == 3
    assert [command for command in shop.told if command["do"] in {"heal", "thaw"}] == MENDED
    run = read_run(tmp_path / "run")
    assert run.check.sent > 0
    assert "it was stopped" in run.check.faults[0]
    assert (tmp_path / "run" / "report.html").exists()


def children_of(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="who started whom is read from Linux's /proc")
def test_a_run_that_is_killed_leaves_the_shop_mended_by_the_command_that_started_it(tmp_path):
    with FakeShop(tmp_path).running() as shop:
        process = subprocess.Popen(
            command_of(shop, scenario(tmp_path, FREEZES)), cwd=ROOT, stderr=subprocess.PIPE, text=True
        )
        with shop.told_something:
            assert shop.told_something.wait_for(lambda: {"freeze", "cut"} <= {one["do"] for one in shop.told}, 60)
        (locust,) = children_of(process.pid)
        os.kill(locust, signal.SIGKILL)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 3
    assert "locust was ended by signal 9" in said
    assert shop.told[-1] == {"do": "heal"}
    assert shop.broken == []


def test_a_run_that_fails_itself_leaves_the_shop_mended_too(tmp_path, monkeypatch, capsys):
    failing = tmp_path / "failing.py"
    failing.write_text(
        "import socket\n"
        "with socket.socket(socket.AF_UNIX) as control:\n"
        f"    control.connect({str(tmp_path / 'control')!r})\n"
        """    control.sendall(b'{"do": "freeze", "name": "eu-1"}\\n')\n"""
        "    control.recv(1000)\n"
        "raise SystemExit(70)\n"
    )
    monkeypatch.setattr("infra.load_run.LOCUSTFILE", failing)
    with FakeShop(tmp_path).running() as shop:
        assert run_locust([], tmp_path / "control") == 3
        assert {"do": "freeze", "name": "eu-1"} in shop.told
        assert not shop.broken
    assert "ended with status 70" in capsys.readouterr().err


def test_a_shop_that_is_broken_already_is_not_broken_more(tmp_path):
    with FakeShop(tmp_path).running() as shop:
        shop.broken.append("eu-1 is frozen")
        found = load_run(shop, scenario(tmp_path, FREEZES))
    assert found.returncode == 2
    assert "broken already (eu-1 is frozen)" in found.stderr
    assert {one["do"] for one in shop.told} == {"faults"}


class WebUi:
    """Locust with its web UI, as a person starts it."""

    def __init__(self, shop: FakeShop) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "locust", "-f", "loadtests/locustfile.py", "--web-host", "127.0.0.1"]
        self.process = subprocess.Popen(
            [*command, "--web-port", str(port), "--out", str(shop.folder / "run")],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"NEARSHELF_READY": str(shop.ready), "NEARSHELF_STATE": str(shop.folder)},
        )
        assert self.process.stderr is not None
        # Said before it listens; whoever comes too early tries again.
        assert any("Starting web interface" in line for line in self.process.stderr)
        self.client = httpx.Client(base_url=self.url, transport=httpx.HTTPTransport(retries=10), timeout=30)

    def start(self, **form: str) -> dict[str, Any]:
        """What the form's button does."""
        answer = self.client.post("/swarm", data={"user_count": "12", "spawn_rate": "100", "host": "x", **form})
        return dict(answer.json())

    def figures(self) -> dict[str, Any]:
        return dict(self.client.get("/stats/requests").json())

    def until(self, state: str) -> dict[str, Any]:
        """Its figures once a run has this state."""
        give_up_at = time.monotonic() + 60
        while (found := self.figures())["state"] != state:
            assert time.monotonic() < give_up_at, found
            time.sleep(0.2)
        return found

    def close(self) -> None:
        self.client.close()
        self.process.terminate()
        self.process.communicate(timeout=30)


def test_the_web_ui_runs_a_scenario_and_has_a_tab_of_cache_figures(tmp_path):
    with FakeShop(tmp_path).running() as shop:
        web = WebUi(shop)
        try:
            refused = web.start(scenario="steady-dya")
            assert not refused["success"]
            assert "did you mean steady-day?" in refused["message"]
            page = web.client.get("/").text
            assert all(name in page for name in ('"title": "Cache"', '"steady-day"', '"seed"'))
            name = scenario(tmp_path, PRICES_CHANGE)
            assert web.start(scenario=name, seed="3", duration="3s", settings="people.bot=0", run_time="1s")["success"]
            web.until("running")
            assert "a run is under way" in web.start(scenario=name, seed="4", user_count="20")["message"]
            found = web.until("stopped")
            table = web.client.get("/cache/csv").text
        finally:
            web.close()
    (tab,) = found["extended_stats"]
    run = read_run(tmp_path / "run")
    assert (tab["key"], tab["data"][0]["requests"]) == ("cache", run.check.sent)
    assert tab["data"][0]["hit"] == run.check.sent > 0
    assert {row["edge"] for row in tab["data"]} == {"all", "eu"}  # near everybody who buys in these markets
    assert table.splitlines()[0].startswith("Edge,Route,Requests,Hit ratio")
    assert (run.seed, run.duration_s) == (3, 3.0)
    assert {cell.label.route for cell in run.cells} <= {"home", "category", "product", "price", "stock"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(["steady-dya"], "did you mean steady-day?", id="a scenario that there is not"),
        pytest.param(["steady-day", "--set", "rtae=5"], "did you mean rate?", id="a field that there is not"),
        pytest.param(["steady-day", "--set", "rate"], "--set rate: expected FIELD=VALUE", id="no value"),
        pytest.param(["steady-day", "--thresholds", "none.txt"], "none.txt:1:1", id="no file of thresholds"),
        pytest.param(["steady-day", "--users", "1"], "one of each kind is the least", id="too few users"),
    ],
)
def test_what_cannot_be_run_says_why_and_exits_2(tmp_path, arguments, said):
    with FakeShop(tmp_path).running() as shop:
        found = load_run(shop, *arguments)
    assert found.returncode == 2
    assert said in found.stderr
    assert "Traceback" not in found.stderr
    assert not (tmp_path / "run").exists()


def test_another_machine_is_refused_unless_its_name_is_on_the_list(tmp_path):
    with FakeShop(tmp_path).running() as shop:
        shop.ready.write_text('{"edges": {"us": "http://shop.example"}, "origin": "http://shop.example"}')
        found = load_run(shop, "steady-day")
    assert found.returncode == 2
    assert "load goes to this machine only" in found.stderr


def test_plain_locust_runs_a_scenario_too(tmp_path):
    with FakeShop(tmp_path).running() as shop:
        command = [sys.executable, "-m", "locust", "-f", "loadtests/locustfile.py", "--headless", "--only-summary"]
        found = subprocess.run(
            [*command, "--scenario", scenario(tmp_path, ONLY_SHOPPING), "-t", "2s", "--out", str(tmp_path / "run")],
            capture_output=True,
            text=True,
            cwd=ROOT,
            check=False,
            env=os.environ | {"NEARSHELF_READY": str(shop.ready), "NEARSHELF_STATE": str(tmp_path)},
        )
    run = read_run(tmp_path / "run")
    assert run.duration_s == pytest.approx(2.0)
    assert "latency from when a request was meant to be sent" in found.stdout
